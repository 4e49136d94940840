// tar -> folder: entries of the stream (tar.h) go where their names lead (tree.h).
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "layer/layer.h"
#include "base/fd.h"
#include "keep.h"
#include "tar.h"
#include "tree.h"

// ---- attributes -----------------------------------------------------------------------------------------------------

static int set_xattrs(int fd, struct archive_entry *entry, bool regular, struct err *err)
{
    struct tar_xattr xattr;
    int more = tar_xattr_first(entry, err);
    if (more < 0)
        return -1;
    while ((more = tar_xattr_next(entry, regular, &xattr, err)) > 0)
        // Like Docker: a file system without user attributes just does not keep them; capabilities must not get lost.
        if (fsetxattr(fd, xattr.name, xattr.value, xattr.size, 0) < 0 &&
            (errno != EOPNOTSUPP || !str_starts(xattr.name, "user.")))
            return err_errno(err, errno, "set attribute %.64s", xattr.name);
    return more;
}

static int no_owner(const struct tar_owner *owner, struct err *err)
{
    if (errno == EINVAL) // of chown it says just this
        return err_set(err, ERR_INVALID_ARGUMENT, "its owner %u:%u has no id in this user namespace (see /etc/subuid and /etc/subgid)", owner->uid, owner->gid);
    return err_errno(err, errno, "set owner");
}

// The order matters: a change of owner clears set-id bits and security.capability.
static int set_attributes(int fd, struct archive_entry *entry, bool regular, struct err *err)
{
    struct tar_owner owner;
    if (tar_entry_owner(entry, &owner, err) < 0)
        return -1;
    if (fchown(fd, owner.uid, owner.gid) < 0)
        return no_owner(&owner, err);
    if (set_xattrs(fd, entry, regular, err) < 0)
        return -1;
    return fchmod(fd, archive_entry_perm(entry) & 07777) == 0 ? 0 : err_errno(err, errno, "set mode");
}

// The same for what cannot be opened: links, devices, fifos.
static int set_attributes_at(struct tree *tree, const char *path, struct archive_entry *entry, struct err *err)
{
    struct tar_owner owner;
    const char *name;
    const struct timespec times[2] = { tar_entry_time(entry), tar_entry_time(entry) };
    int parent = tree_parent(tree, path, &name, err);
    if (parent < 0 || tar_entry_owner(entry, &owner, err) < 0)
        return -1;
    if (fchownat(parent, name, owner.uid, owner.gid, AT_SYMLINK_NOFOLLOW) < 0)
        return no_owner(&owner, err);
    if (archive_entry_filetype(entry) != AE_IFLNK && fchmodat(parent, name, archive_entry_perm(entry) & 07777, 0) < 0)
        return err_errno(err, errno, "set mode");
    return utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : err_errno(err, errno, "set time");
}

// ---- entries --------------------------------------------------------------------------------------------------------

static int copy_data(struct tar *tar, struct keep *keep, int fd, int64_t size, struct err *err)
{
    const void *data;
    size_t len;
    int64_t end = 0, offset;
    int more;
    while ((more = tar_data(tar, &data, &len, &offset, err)) > 0) {
        if (fd_write_at(fd, data, len, offset, err) < 0 || keep_data(keep, tar_position(tar), (uint64_t)offset, len, err) < 0)
            return -1;
        end = MAX_OF(end, offset + (int64_t)len);
    }
    if (more < 0)
        return -1;
    if (end < size && ftruncate(fd, size) < 0)
        return err_errno(err, errno, "set size");
    return 0;
}

static int unpack_file(struct tar *tar, struct tree *tree, struct keep *keep, const char *path, struct archive_entry *entry,
                       struct layer_result *out, struct err *err)
{
    const struct timespec times[2] = { tar_entry_time(entry), tar_entry_time(entry) };
    int64_t size = archive_entry_size(entry);
    if (size < 0 || __builtin_add_overflow(out->size, size, &out->size))
        return err_set(err, ERR_INVALID_ARGUMENT, "size is out of range");
    _cleanup_close_ int fd = tree_new_file(tree, path, err);
    if (fd < 0 || keep_file(keep, path, fd, err) < 0 || copy_data(tar, keep, fd, size, err) < 0 || set_attributes(fd, entry, true, err) < 0)
        return -1;
    return futimens(fd, times) == 0 ? 0 : err_errno(err, errno, "set time");
}

static int unpack_folder(struct tree *tree, const char *path, struct archive_entry *entry, struct err *err)
{
    _cleanup_close_ int fd = tree_open_folder(tree, path, err);
    if (fd < 0 || set_attributes(fd, entry, false, err) < 0)
        return -1;
    return tree_folder_time(tree, path, tar_entry_time(entry), err);
}

static int unpack_symlink(struct tree *tree, const char *path, struct archive_entry *entry, struct layer_result *out,
                          struct err *err)
{
    const char *target = archive_entry_symlink(entry);
    if (str_empty(target))
        return err_set(err, ERR_INVALID_ARGUMENT, "symlink without a target");
    if (__builtin_add_overflow(out->size, (int64_t)strlen(target), &out->size))
        return err_set(err, ERR_INVALID_ARGUMENT, "size is out of range");
    return tree_symlink(tree, path, target, err) < 0 ? -1 : set_attributes_at(tree, path, entry, err);
}

static int unpack_node(struct tree *tree, const char *path, struct archive_entry *entry, struct err *err)
{
    mode_t type = archive_entry_filetype(entry);
    dev_t device = type == AE_IFIFO ? 0 : makedev(archive_entry_rdevmajor(entry), archive_entry_rdevminor(entry));
    if (tree->no_devices && device != 0)
        return 0; // as podman without root does
    return tree_node(tree, path, type | 0600, device, err) < 0 ? -1 : set_attributes_at(tree, path, entry, err);
}

static int unpack_entry(struct tar *tar, struct tree *tree, struct keep *keep, const char *raw, struct archive_entry *entry,
                        struct layer_result *out, struct err *err)
{
    char path[PATH_MAX];
    if (layer_clean_name(raw, path, err) < 0)
        return -1;
    if (!*path)
        return 0; // the root's own entry
    enum tar_whiteout whiteout;
    if (tar_whiteout(path, &whiteout, err) < 0)
        return -1;
    if (whiteout != TAR_ORDINARY)
        return whiteout == TAR_HIDES ? tree_whiteout(tree, path, err) : whiteout == TAR_OPAQUE ? tree_opaque(tree, path, err) : 0;
    if (archive_entry_hardlink(entry))
        return tree_hardlink(tree, path, archive_entry_hardlink(entry), err);
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
        return unpack_file(tar, tree, keep, path, entry, out, err);
    case AE_IFDIR:
        return unpack_folder(tree, path, entry, err);
    case AE_IFLNK:
        return unpack_symlink(tree, path, entry, out, err);
    case AE_IFCHR:
    case AE_IFBLK:
    case AE_IFIFO:
        return unpack_node(tree, path, entry, err);
    default:
        return err_set(err, ERR_INVALID_ARGUMENT, "is of a kind that layers do not have");
    }
}

static int unpack_entries(struct tar *tar, struct tree *tree, struct keep *keep, struct layer_result *out, struct err *err)
{
    struct archive_entry *entry;
    const char *name;
    int more;
    while ((more = tar_next(tar, &entry, &name, err)) > 0)
        if (unpack_entry(tar, tree, keep, name, entry, out, err) < 0)
            return tar->failed ? -1 : err_wrap(err, "layer entry %.256s", name);
    return more;
}

int layer_unpack(layer_read_fn *read, void *context, struct layer_bound *bound, int target_fd, const struct layer_keep *where,
                 struct layer_result *out, struct err *err)
{
    struct tar tar;
    struct tree tree;
    struct keep keep;
    struct layer_result result = { 0 };
    tree_init(&tree, target_fd);
    keep_init(&keep, where, target_fd);
    tree.lost_fd = where ? where->lost_fd : -1;
    tree.no_devices = where && where->no_devices;
    int done = tar_open(&tar, read, context, bound, where ? recipe_add : NULL, keep.recipe, err);
    if (done == 0)
        done = unpack_entries(&tar, &tree, &keep, &result, err);
    if (done == 0)
        done = tar_drain(&tar, result.diff_id, err);
    if (done == 0)
        done = tree_finish(&tree, &result.opaque, err);
    if (done == 0)
        done = keep_end(&keep, result.diff_id, tree.lost_len > 0, err);
    if (done == 0)
        *out = result;
    else
        layer_result_done(&result);
    keep_done(&keep);
    tree_done(&tree);
    tar_done(&tar);
    return done;
}

void layer_result_done(struct layer_result *result)
{
    strv_done(&result->opaque);
}
