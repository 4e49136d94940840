// tar -> one EROFS image and the recipe that gives the tar back, in one pass (theory of operation: erofs_image.h). By the rules of
// unpack.c, name for name; only what is a system call there is an object in memory or a block of the image here.
#include <errno.h>
#include <sys/sysmacros.h>

#include "erofs_image.h"
#include "recipe.h"
#include "tar.h"
#include "tree.h"

struct writer {
    struct tar tar;
    struct erofs_tree tree;
    struct erofs_image image;
    struct recipe *recipe; // NULL: none wanted
    struct strv opaque;
    size_t opaque_text;
    const char *opaque_name; // of the attribute
    int64_t size;
    uint64_t tar_size; // so far
};

// ---- attributes -----------------------------------------------------------------------------------------------------

static int entry_attributes(struct archive_entry *entry, mode_t type, struct erofs_attributes *out, struct err *err)
{
    struct tar_owner owner;
    if (tar_entry_owner(entry, &owner, err) < 0)
        return -1;
    *out = (struct erofs_attributes){
        .mode = type | (type == S_IFLNK ? 0777 : archive_entry_perm(entry) & 07777), .uid = owner.uid, .gid = owner.gid,
        .mtime = tar_entry_time(entry), .nlink = 1,
    };
    return 0;
}

static int entry_xattrs(struct arena *arena, struct archive_entry *entry, bool regular, struct erofs_xattr **list, struct err *err)
{
    struct tar_xattr xattr;
    int more = tar_xattr_first(entry, err);
    if (more < 0)
        return -1;
    while ((more = tar_xattr_next(entry, regular, &xattr, err)) > 0)
        erofs_xattr_set(arena, list, xattr.name, xattr.value, xattr.size);
    return more;
}

// ---- content --------------------------------------------------------------------------------------------------------

// `size` bytes that the tar gave last, to their place in the image: in memory still, or in the file.
static int put_content(struct writer *writer, char *memory, uint64_t at, uint64_t position, const void *data, size_t size,
                       struct err *err)
{
    if (memory)
        memcpy(memory, data, size);
    else if (erofs_image_write(&writer->image, at, data, size, err) < 0)
        return -1;
    return writer->recipe ? recipe_data(writer->recipe, position, size, at, err) : 0;
}

static int write_flat(struct writer *writer, const struct erofs_content *content, struct err *err)
{
    const void *data;
    size_t len;
    int64_t offset;
    int more;
    while ((more = tar_data(&writer->tar, &data, &len, &offset, err)) > 0) {
        char *memory = content->memory ? content->memory + offset : NULL;
        if (put_content(writer, memory, content->at + (uint64_t)offset, tar_position(&writer->tar), data, len, err) < 0)
            return -1;
    }
    return more;
}

static int write_piece(struct writer *writer, struct erofs_chunks *chunks, const char *data, size_t len, uint64_t offset, struct err *err)
{
    uint64_t position = tar_position(&writer->tar), mask = ((uint64_t)1 << chunks->bits) - 1, at;
    while (len > 0) {
        size_t part = (size_t)MIN_OF((uint64_t)len, mask + 1 - (offset & mask));
        if (erofs_chunk_place(&writer->image, chunks, (size_t)(offset >> chunks->bits), &at, err) < 0)
            return -1;
        at += offset & mask;
        if (put_content(writer, NULL, at, position, data, part, err) < 0)
            return -1;
        data += part;
        len -= part;
        offset += part;
        position += part;
    }
    return 0;
}

static int write_chunks(struct writer *writer, struct erofs_chunks *chunks, struct err *err)
{
    const void *data;
    size_t len;
    int64_t offset;
    int more;
    while ((more = tar_data(&writer->tar, &data, &len, &offset, err)) > 0)
        if (write_piece(writer, chunks, data, len, (uint64_t)offset, err) < 0)
            return -1;
    return more;
}

static int write_sparse(struct writer *writer, const struct erofs_attributes *attributes, uint64_t size, uint64_t *nid,
                        struct err *err)
{
    struct erofs_chunks chunks;
    if (erofs_chunks_init(&chunks, size, err) < 0)
        return -1;
    int done = write_chunks(writer, &chunks, err);
    if (done == 0)
        done = erofs_image_put_chunks(&writer->image, attributes, &chunks, nid, err);
    erofs_chunks_done(&chunks);
    return done;
}

// ---- entries --------------------------------------------------------------------------------------------------------

static int add_size(struct writer *writer, int64_t size, struct err *err)
{
    if (size < 0 || __builtin_add_overflow(writer->size, size, &writer->size))
        return err_set(err, ERR_INVALID_ARGUMENT, "size is out of range");
    return 0;
}

// A place for the entry: its parent, made when missing.
static int entry_parent(struct writer *writer, const char *path, struct erofs_folder **parent, const char **name, struct err *err)
{
    return erofs_tree_parent(&writer->tree, path, true, parent, name, err);
}

static int name_inode(struct writer *writer, struct erofs_folder *parent, const char *name, mode_t mode, uint64_t nid,
                      struct erofs_inode **out, struct err *err)
{
    *out = erofs_tree_inode(&writer->tree, mode, nid);
    erofs_tree_set(&writer->tree, parent, name, *out);
    return erofs_tree_check(&writer->tree, err);
}

static int write_file(struct writer *writer, const char *path, struct archive_entry *entry, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct erofs_attributes attributes;
    struct erofs_xattr *xattrs = NULL;
    struct erofs_content content;
    struct erofs_folder *parent;
    struct erofs_inode *inode;
    const char *name;
    int64_t size = archive_entry_size(entry);
    if (add_size(writer, size, err) < 0 || entry_parent(writer, path, &parent, &name, err) < 0 ||
        entry_attributes(entry, S_IFREG, &attributes, err) < 0 || entry_xattrs(&arena, entry, true, &xattrs, err) < 0)
        return -1;
    attributes.xattrs = xattrs;
    int done;
    if (archive_entry_sparse_count(entry) > 0 && size > EROFS_BLOCK) {
        done = write_sparse(writer, &attributes, (uint64_t)size, &content.nid, err);
    } else {
        done = erofs_image_put(&writer->image, &attributes, (uint64_t)size, &content, err);
        if (done == 0)
            done = write_flat(writer, &content, err);
    }
    return done < 0 ? -1 : name_inode(writer, parent, name, attributes.mode, content.nid, &inode, err);
}

static int mark_opaque(struct writer *writer, const char *path, struct err *err)
{
    struct erofs_folder *folder;
    if (erofs_tree_folder(&writer->tree, path, true, &folder, err) < 0)
        return -1;
    writer->opaque_text += strlen(path) + 1;
    if (writer->opaque.len >= TREE_OPAQUE_MAX || writer->opaque_text > TREE_OPAQUE_TEXT_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "too many opaque folders");
    strv_add(&writer->opaque, path);
    return 0;
}

static int write_folder(struct writer *writer, const char *path, struct archive_entry *entry, struct err *err)
{
    struct erofs_attributes attributes;
    struct erofs_folder *parent;
    const char *name;
    if (entry_parent(writer, path, &parent, &name, err) < 0 || entry_attributes(entry, S_IFDIR, &attributes, err) < 0)
        return -1;
    const struct erofs_inode *before = erofs_tree_find(&writer->tree, parent, name);
    bool there = before && S_ISDIR(before->mode), hidden = before && before->whiteout;
    struct erofs_folder *folder = there ? before->folder : erofs_tree_new_folder(&writer->tree, parent, name);
    folder->inode.mode = attributes.mode;
    folder->uid = attributes.uid;
    folder->gid = attributes.gid;
    folder->mtime = attributes.mtime;
    if (entry_xattrs(&writer->tree.arena, entry, false, &folder->xattrs, err) < 0 || erofs_tree_check(&writer->tree, err) < 0)
        return -1;
    // The tar hides what lower layers have under this name and gives a folder of its own.
    return hidden ? mark_opaque(writer, path, err) : 0;
}

static int write_symlink(struct writer *writer, const char *path, struct archive_entry *entry, struct err *err)
{
    struct erofs_attributes attributes;
    struct erofs_content content;
    struct erofs_folder *parent;
    struct erofs_inode *inode;
    const char *name, *target = archive_entry_symlink(entry);
    if (str_empty(target))
        return err_set(err, ERR_INVALID_ARGUMENT, "symlink without a target");
    size_t size = strlen(target);
    if (size >= PATH_MAX)
        return err_errno(err, ENAMETOOLONG, "symlink");
    if (add_size(writer, (int64_t)size, err) < 0 || entry_parent(writer, path, &parent, &name, err) < 0 ||
        entry_attributes(entry, S_IFLNK, &attributes, err) < 0 ||
        erofs_image_put(&writer->image, &attributes, size, &content, err) < 0)
        return -1;
    if (content.memory)
        memcpy(content.memory, target, size);
    else if (erofs_image_write(&writer->image, content.at, target, size, err) < 0)
        return -1;
    if (name_inode(writer, parent, name, attributes.mode, content.nid, &inode, err) < 0)
        return -1;
    inode->target = arena_strdup(&writer->tree.arena, target);
    return 0;
}

static int put_node(struct writer *writer, struct erofs_folder *parent, const char *name, const struct erofs_attributes *attributes,
                    dev_t device, struct err *err)
{
    struct erofs_inode *inode;
    uint64_t nid;
    if (erofs_image_put_node(&writer->image, attributes, device, &nid, err) < 0 ||
        name_inode(writer, parent, name, attributes->mode, nid, &inode, err) < 0)
        return -1;
    inode->whiteout = S_ISCHR(attributes->mode) && device == 0;
    return 0;
}

static int write_node(struct writer *writer, const char *path, struct archive_entry *entry, struct err *err)
{
    struct erofs_attributes attributes;
    struct erofs_folder *parent;
    const char *name;
    mode_t type = archive_entry_filetype(entry);
    dev_t major = archive_entry_rdevmajor(entry), minor = archive_entry_rdevminor(entry);
    if (type != AE_IFIFO && (major > 0xfff || minor > 0xfffff))
        return err_set(err, ERR_INVALID_ARGUMENT, "device number is out of range");
    if (entry_parent(writer, path, &parent, &name, err) < 0 || entry_attributes(entry, type, &attributes, err) < 0)
        return -1;
    return put_node(writer, parent, name, &attributes, type == AE_IFIFO ? 0 : makedev(major, minor), err);
}

static int write_whiteout(struct writer *writer, const char *path, struct err *err)
{
    const struct erofs_attributes attributes = { .mode = S_IFCHR, .nlink = 1 };
    struct erofs_folder *parent;
    const char *name;
    if (entry_parent(writer, path, &parent, &name, err) < 0)
        return -1;
    const struct erofs_inode *there = erofs_tree_find(&writer->tree, parent, name);
    if (!there)
        return put_node(writer, parent, name, &attributes, 0, err);
    // What this tar itself brings stays; only a folder would let lower content shine through.
    return S_ISDIR(there->mode) ? mark_opaque(writer, path, err) : 0;
}

static int write_hardlink(struct writer *writer, const char *path, const char *target, struct err *err)
{
    char from[PATH_MAX];
    struct erofs_folder *from_parent, *parent;
    const char *from_name, *name;
    if (layer_clean_name(target, from, err) < 0)
        return err_wrap(err, "hard link to %s", target);
    if (!*from)
        return err_set(err, ERR_INVALID_ARGUMENT, "hard link to a folder");
    if (erofs_tree_parent(&writer->tree, from, false, &from_parent, &from_name, err) < 0)
        return err_wrap(err, "hard link to %s", target);
    if (entry_parent(writer, path, &parent, &name, err) < 0)
        return -1;
    struct erofs_inode *inode = erofs_tree_find(&writer->tree, from_parent, from_name);
    if (!inode || S_ISDIR(inode->mode))
        return err_errno(err, inode ? EPERM : ENOENT, "hard link to %s", target);
    if (erofs_tree_find(&writer->tree, parent, name) == inode)
        return 0;
    erofs_tree_remove(&writer->tree, parent, name);
    // What was removed may have been a folder with the target in it.
    if (from_parent->gone || erofs_tree_find(&writer->tree, from_parent, from_name) != inode)
        return err_errno(err, ENOENT, "hard link to %s", target);
    erofs_tree_set(&writer->tree, parent, name, inode);
    return erofs_tree_check(&writer->tree, err);
}

static int write_entry(struct writer *writer, const char *raw, struct archive_entry *entry, struct err *err)
{
    char path[PATH_MAX];
    enum tar_whiteout whiteout;
    if (layer_clean_name(raw, path, err) < 0)
        return -1;
    if (!*path)
        return 0; // the root's own entry
    writer->tree.now = tar_entry_time(entry);
    if (tar_whiteout(path, &whiteout, err) < 0)
        return -1;
    if (whiteout != TAR_ORDINARY)
        return whiteout == TAR_HIDES    ? write_whiteout(writer, path, err)
               : whiteout == TAR_OPAQUE ? mark_opaque(writer, path, err)
                                        : 0;
    if (archive_entry_hardlink(entry))
        return write_hardlink(writer, path, archive_entry_hardlink(entry), err);
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
        return write_file(writer, path, entry, err);
    case AE_IFDIR:
        return write_folder(writer, path, entry, err);
    case AE_IFLNK:
        return write_symlink(writer, path, entry, err);
    case AE_IFCHR:
    case AE_IFBLK:
    case AE_IFIFO:
        return write_node(writer, path, entry, err);
    default:
        return err_set(err, ERR_INVALID_ARGUMENT, "is of a kind that layers do not have");
    }
}

static int write_entries(struct writer *writer, struct err *err)
{
    struct archive_entry *entry;
    const char *name;
    int more;
    while ((more = tar_next(&writer->tar, &entry, &name, err)) > 0)
        if (write_entry(writer, name, entry, err) < 0)
            return writer->tar.failed ? -1 : err_wrap(err, "layer entry %.256s", name);
    return more;
}

// ---- the whole ------------------------------------------------------------------------------------------------------

// What was marked may be no folder any more.
static void settle_opaque(struct writer *writer)
{
    for (size_t i = 0; i < writer->opaque.len; i++) {
        const char *path = writer->opaque.items[i], *name;
        struct erofs_folder *folder = writer->tree.root;
        if (*path) {
            if (erofs_tree_parent(&writer->tree, path, false, &folder, &name, NULL) < 0)
                continue;
            const struct erofs_inode *inode = erofs_tree_find(&writer->tree, folder, name);
            if (!inode || !S_ISDIR(inode->mode))
                continue;
            folder = inode->folder;
        }
        erofs_xattr_set(&writer->tree.arena, &folder->xattrs, writer->opaque_name, "y", 1);
    }
}

static int watch_tar(void *context, const void *data, size_t size, uint64_t settled, struct err *err)
{
    struct writer *writer = context;
    writer->tar_size += size;
    if (writer->tar_size > writer->image.block_max * EROFS_BLOCK)
        return erofs_image_full(&writer->image, err);
    return writer->recipe ? recipe_add(writer->recipe, data, size, settled, err) : 0;
}

static int write_all(struct writer *writer, layer_read_fn *read, void *context, struct layer_bound *bound, struct layer_erofs_result *out,
                     struct err *err)
{
    if (tar_open(&writer->tar, read, context, bound, watch_tar, writer, err) < 0 || write_entries(writer, err) < 0 ||
        tar_drain(&writer->tar, out->diff_id, err) < 0)
        return -1;
    settle_opaque(writer);
    if (erofs_image_end(&writer->image, &writer->tree, &out->image_size, err) < 0)
        return -1;
    out->size = writer->size;
    return writer->recipe ? recipe_end(writer->recipe, out->diff_id, err) : 0;
}

int layer_erofs_write(layer_read_fn *read, void *context, int image_fd, int recipe_fd, const struct layer_erofs_options *options,
                      struct layer_erofs_result *out, struct err *err)
{
    struct writer writer = {
        .opaque_name = options->user_xattrs ? "user.overlay.opaque" : "trusted.overlay.opaque",
        .recipe = recipe_fd >= 0 ? recipe_new(recipe_fd) : NULL,
    };
    struct layer_erofs_result result = { 0 };
    erofs_tree_init(&writer.tree);
    erofs_image_init(&writer.image, image_fd, options->size_max, options->plain);
    int done = write_all(&writer, read, context, options->bound, &result, err);
    if (done == 0)
        *out = result;
    tar_done(&writer.tar);
    erofs_image_done(&writer.image);
    erofs_tree_done(&writer.tree);
    recipe_free(writer.recipe);
    strv_done(&writer.opaque);
    return done;
}
