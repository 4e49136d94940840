// Folder -> EROFS image, for layers that were unpacked. Folders are a queue, each with its path: nothing recurses, and one
// descriptor is open however deep the tree is.
#include <errno.h>
#include <fcntl.h>
#include <sys/xattr.h>

#include "erofs_image.h"
#include "base/fd.h"
#include "base/file.h"
#include "kernel/path.h"
#include "layer/layer.h"

#define COPY_SIZE (256 * 1024)
#define XATTR_MAX 65536 // the kernel's own bounds, of names together and of a value

// A file of several names, when it is met again.
struct link {
    dev_t dev;
    ino_t ino;
    struct erofs_inode *inode; // NULL: the slot is free
};

struct copier {
    int root_fd; // borrowed
    struct erofs_image image;
    struct erofs_tree tree;
    struct strv paths; // of the tree's folders, in their order
    struct link *links; // open addressing, a power of two
    size_t link_len, link_capacity;
    char *data; // COPY_SIZE: content, or attributes names and one value
};

// ---- files of several names -----------------------------------------------------------------------------------------

static struct link *link_slot(const struct copier *copier, dev_t dev, ino_t ino)
{
    size_t at = (size_t)((ino ^ dev << 32) * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (copier->link_capacity - 1);
    while (copier->links[at].inode && (copier->links[at].ino != ino || copier->links[at].dev != dev))
        at = (at + 1) & (copier->link_capacity - 1);
    return &copier->links[at];
}

static void grow_links(struct copier *copier)
{
    struct copier larger = { .link_capacity = copier->link_capacity ? 2 * copier->link_capacity : 64 };
    larger.links = mem_alloc(larger.link_capacity * sizeof(*larger.links));
    for (size_t i = 0; i < copier->link_capacity; i++)
        if (copier->links[i].inode)
            *link_slot(&larger, copier->links[i].dev, copier->links[i].ino) = copier->links[i];
    free(copier->links);
    copier->links = larger.links;
    copier->link_capacity = larger.link_capacity;
}

static struct link *find_link(struct copier *copier, const struct stat *st)
{
    if (2 * (copier->link_len + 1) > copier->link_capacity)
        grow_links(copier);
    return link_slot(copier, st->st_dev, st->st_ino);
}

// ---- attributes -----------------------------------------------------------------------------------------------------

static bool xattr_wanted(const char *name)
{
    return str_starts(name, "user.") || str_eq(name, "security.capability") || str_eq(name, "trusted.overlay.opaque");
}

static int copy_xattrs(struct copier *copier, struct arena *arena, int fd, struct erofs_xattr **list, struct err *err)
{
    char *names = copier->data, *value = names + XATTR_MAX;
    ssize_t size = flistxattr(fd, names, XATTR_MAX);
    if (size < 0)
        return errno == EOPNOTSUPP ? 0 : err_errno(err, errno, "list attributes");
    for (const char *name = names; name < names + size; name += strlen(name) + 1) {
        if (!xattr_wanted(name))
            continue;
        ssize_t got = fgetxattr(fd, name, value, XATTR_MAX);
        if (got < 0)
            return err_errno(err, errno, "attribute %s", name);
        erofs_xattr_set(arena, list, name, value, (size_t)got);
    }
    return 0;
}

static struct erofs_attributes attributes_of(const struct stat *st, const struct erofs_xattr *xattrs)
{
    return (struct erofs_attributes){ st->st_mode, st->st_uid, st->st_gid, st->st_mtim, 1, xattrs };
}

// ---- content --------------------------------------------------------------------------------------------------------

static int read_piece(struct copier *copier, int fd, uint64_t offset, uint64_t left, size_t *size, struct err *err)
{
    ssize_t got = pread(fd, copier->data, (size_t)MIN_OF(left, (uint64_t)COPY_SIZE), (off_t)offset);
    if (got <= 0)
        return got < 0 ? err_errno(err, errno, "read") : err_set(err, ERR_CONFLICT, "became shorter");
    *size = (size_t)got;
    return 0;
}

static int copy_flat(struct copier *copier, int fd, const struct erofs_attributes *attributes, uint64_t size, uint64_t *nid,
                     struct err *err)
{
    struct erofs_content content;
    if (erofs_image_put(&copier->image, attributes, size, &content, err) < 0)
        return -1;
    *nid = content.nid;
    for (uint64_t at = 0; at < size;) {
        size_t piece;
        if (read_piece(copier, fd, at, size - at, &piece, err) < 0)
            return -1;
        if (content.memory)
            memcpy(content.memory + at, copier->data, piece);
        else if (erofs_image_write(&copier->image, content.at + at, copier->data, piece, err) < 0)
            return -1;
        at += piece;
    }
    return 0;
}

// From one hole to the next.
static int copy_data(struct copier *copier, int fd, struct erofs_chunks *chunks, uint64_t at, uint64_t end, struct err *err)
{
    uint64_t chunk_size = (uint64_t)1 << chunks->bits;
    while (at < end) {
        uint64_t inside = at & (chunk_size - 1), place;
        size_t piece;
        if (read_piece(copier, fd, at, MIN_OF(end - at, chunk_size - inside), &piece, err) < 0 ||
            erofs_chunk_place(&copier->image, chunks, (size_t)(at >> chunks->bits), &place, err) < 0 ||
            erofs_image_write(&copier->image, place + inside, copier->data, piece, err) < 0)
            return -1;
        at += piece;
    }
    return 0;
}

static int copy_chunks(struct copier *copier, int fd, struct erofs_chunks *chunks, struct err *err)
{
    for (off_t end = 0; (uint64_t)end < chunks->size;) {
        off_t start = lseek(fd, end, SEEK_DATA);
        if (start < 0 && errno == ENXIO)
            break;
        end = start < 0 ? start : lseek(fd, start, SEEK_HOLE);
        if (end < 0)
            return err_errno(err, errno, "look for holes");
        if (copy_data(copier, fd, chunks, (uint64_t)start, MIN_OF((uint64_t)end, chunks->size), err) < 0)
            return -1;
    }
    return 0;
}

static int copy_sparse(struct copier *copier, int fd, const struct erofs_attributes *attributes, uint64_t size, uint64_t *nid,
                       struct err *err)
{
    struct erofs_chunks chunks;
    if (erofs_chunks_init(&chunks, size, err) < 0)
        return -1;
    int done = copy_chunks(copier, fd, &chunks, err);
    if (done == 0)
        done = erofs_image_put_chunks(&copier->image, attributes, &chunks, nid, err);
    erofs_chunks_done(&chunks);
    return done;
}

static int copy_file(struct copier *copier, int folder_fd, const char *name, uint64_t *nid, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct erofs_xattr *xattrs = NULL;
    struct stat st;
    _cleanup_close_ int fd = openat(folder_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, errno, "open");
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_CONFLICT, "became another file");
    if (copy_xattrs(copier, &arena, fd, &xattrs, err) < 0)
        return -1;
    struct erofs_attributes attributes = attributes_of(&st, xattrs);
    uint64_t size = (uint64_t)st.st_size;
    bool sparse = size > EROFS_BLOCK && (uint64_t)st.st_blocks * 512 < size;
    return (sparse ? copy_sparse : copy_flat)(copier, fd, &attributes, size, nid, err);
}

static int copy_symlink(struct copier *copier, int folder_fd, const char *name, const struct stat *st, uint64_t *nid, struct err *err)
{
    char target[PATH_MAX];
    struct erofs_content content;
    struct erofs_attributes attributes = attributes_of(st, NULL);
    ssize_t size = readlinkat(folder_fd, name, target, sizeof(target));
    if (size <= 0)
        return err_errno(err, size < 0 ? errno : ENOENT, "readlink");
    if (erofs_image_put(&copier->image, &attributes, (uint64_t)size, &content, err) < 0)
        return -1;
    *nid = content.nid;
    if (!content.memory)
        return erofs_image_write(&copier->image, content.at, target, (size_t)size, err);
    memcpy(content.memory, target, (size_t)size);
    return 0;
}

// ---- folders --------------------------------------------------------------------------------------------------------

static int copy_inode(struct copier *copier, int folder_fd, const char *name, const struct stat *st, uint64_t *nid, struct err *err)
{
    struct erofs_attributes attributes = attributes_of(st, NULL);
    switch (st->st_mode & S_IFMT) {
    case S_IFREG:
        return copy_file(copier, folder_fd, name, nid, err);
    case S_IFLNK:
        return copy_symlink(copier, folder_fd, name, st, nid, err);
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
        return erofs_image_put_node(&copier->image, &attributes, S_ISFIFO(st->st_mode) ? 0 : st->st_rdev, nid, err);
    default:
        return err_set(err, ERR_INVALID_ARGUMENT, "is of a kind that layers do not have");
    }
}

static int copy_entry(struct copier *copier, int folder_fd, struct erofs_folder *folder, const char *path, const char *name,
                      struct err *err)
{
    struct stat st;
    uint64_t nid;
    if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "stat");
    if (S_ISDIR(st.st_mode)) {
        erofs_tree_new_folder(&copier->tree, folder, name);
        strv_addf(&copier->paths, "%s/%s", path, name);
        return 0;
    }
    struct link *link = st.st_nlink > 1 ? find_link(copier, &st) : NULL;
    struct erofs_inode *inode = link ? link->inode : NULL;
    if (!inode) {
        if (copy_inode(copier, folder_fd, name, &st, &nid, err) < 0)
            return -1;
        inode = erofs_tree_inode(&copier->tree, st.st_mode, nid);
    }
    if (link && !link->inode) {
        *link = (struct link){ st.st_dev, st.st_ino, inode };
        copier->link_len++;
    }
    erofs_tree_set(&copier->tree, folder, name, inode);
    return erofs_tree_check(&copier->tree, err);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int copy_entries(struct copier *copier, int fd, struct erofs_folder *folder, const char *path, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    if (file_list_names(fd, ".", &names, err) < 0)
        return -1;
    if (names.len > 1)
        qsort(names.items, names.len, sizeof(*names.items), compare_names); // the image depends on the layer alone
    for (size_t i = 0; i < names.len; i++)
        if (copy_entry(copier, fd, folder, path, names.items[i], err) < 0)
            return err_wrap(err, "%s", names.items[i]);
    return 0;
}

static int copy_folder(struct copier *copier, struct erofs_folder *folder, const char *path, struct err *err)
{
    struct stat st;
    _cleanup_close_ int place = *path ? path_open_plain(copier->root_fd, path + 1, err) : fd_dup(copier->root_fd, err);
    if (place < 0)
        return -1;
    _cleanup_close_ int fd = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, errno, "open");
    folder->inode.mode = st.st_mode;
    folder->uid = st.st_uid;
    folder->gid = st.st_gid;
    folder->mtime = st.st_mtim;
    if (copy_xattrs(copier, &copier->tree.arena, fd, &folder->xattrs, err) < 0)
        return -1;
    return copy_entries(copier, fd, folder, path, err);
}

static int copy_all(struct copier *copier, struct err *err)
{
    size_t i = 0;
    strv_add(&copier->paths, "");
    for (struct erofs_folder *folder = copier->tree.root; folder; folder = folder->next, i++)
        if (copy_folder(copier, folder, copier->paths.items[i], err) < 0)
            return err_wrap(err, "/%s", copier->paths.items[i] + (copier->paths.items[i][0] == '/'));
    return 0;
}

int layer_erofs_from_folder(int folder_fd, int image_fd, const struct layer_erofs_options *options, uint64_t *image_size, struct err *err)
{
    struct copier copier = { .root_fd = folder_fd, .data = mem_alloc(COPY_SIZE) };
    erofs_tree_init(&copier.tree);
    erofs_image_init(&copier.image, image_fd, options->size_max, options->plain);
    int done = copy_all(&copier, err);
    if (done == 0)
        done = erofs_image_end(&copier.image, &copier.tree, image_size, err);
    erofs_image_done(&copier.image);
    erofs_tree_done(&copier.tree);
    strv_done(&copier.paths);
    free(copier.links);
    free(copier.data);
    return done;
}
