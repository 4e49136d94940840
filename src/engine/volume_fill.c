// A fresh volume starts with what the image has at its mount point, as Docker's volumes do: files, folders, links, owners,
// modes, times, extended attributes. The image's side is read through a detached, read-only view of its layers and the one path
// resolver; everything is copied descriptor to descriptor, and a folder is never entered through a link.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "engine_private.h"
#include "kernel/mount.h"
#include "kernel/path.h"
#include "mounts.h"

enum { DEPTH_MAX = 256, ATTR_NAMES_MAX = 65536, ATTR_VALUE_MAX = 65536 };

static int copy_tree(int from, int to, unsigned depth, struct err *err);

// What is there already was made by another container that fills the same volume at the same moment.
static int not_made(const char *name, struct err *err)
{
    return errno != EEXIST ? err_errno(err, errno, "%s", name) : 0;
}

static bool xattr_wanted(const char *name)
{
    return str_starts(name, "user.") || str_eq(name, "security.capability");
}

static void copy_xattrs(int from, int to)
{
    _cleanup_free_ char *names = mem_alloc(ATTR_NAMES_MAX), *value = mem_alloc(ATTR_VALUE_MAX);
    ssize_t size = flistxattr(from, names, ATTR_NAMES_MAX);
    for (const char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
        ssize_t len = xattr_wanted(name) ? fgetxattr(from, name, value, ATTR_VALUE_MAX) : -1;
        if (len >= 0)
            fsetxattr(to, name, value, (size_t)len, 0);
    }
}

// Owner first: chown clears set-user-id bits, so the mode comes after it; times last.
static int copy_attributes(int from, int to, const struct stat *info, struct err *err)
{
    const struct timespec times[] = { info->st_atim, info->st_mtim };
    if (fchown(to, info->st_uid, info->st_gid) < 0 || fchmod(to, info->st_mode & 07777) < 0)
        return err_errno(err, errno, "attributes");
    copy_xattrs(from, to);
    return futimens(to, times) < 0 ? err_errno(err, errno, "times") : 0;
}

static int copy_bytes(int from, int to, struct err *err)
{
    for (;;) {
        ssize_t n = copy_file_range(from, NULL, to, NULL, 1 << 30, 0);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            break;
    }
    _cleanup_free_ char *chunk = mem_alloc(65536);
    ssize_t n;
    while ((n = read(from, chunk, 65536)) > 0)
        if (fd_write_full(to, chunk, (size_t)n, err) < 0)
            return -1;
    return n < 0 ? err_errno(err, errno, "read") : 0;
}

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *info, struct err *err)
{
    _cleanup_close_ int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (from < 0)
        return err_errno(err, errno, "%s", name);
    _cleanup_close_ int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return not_made(name, err);
    return copy_bytes(from, to, err) < 0 ? -1 : copy_attributes(from, to, info, err);
}

static int copy_folder(int from_dir, int to_dir, const char *name, unsigned depth, struct err *err)
{
    if (mkdirat(to_dir, name, 0700) < 0 && errno != EEXIST)
        return err_errno(err, errno, "%s", name);
    _cleanup_close_ int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_close_ int to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0 || to < 0)
        return err_errno(err, errno, "%s", name);
    return copy_tree(from, to, depth + 1, err);
}

static int copy_link(int from_dir, int to_dir, const char *name, const struct stat *info, struct err *err)
{
    char target[4096];
    ssize_t len = readlinkat(from_dir, name, target, sizeof(target) - 1);
    if (len < 0)
        return err_errno(err, errno, "%s", name);
    target[len] = 0;
    if (symlinkat(target, to_dir, name) < 0 ||
        fchownat(to_dir, name, info->st_uid, info->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return not_made(name, err);
    return 0;
}

static int copy_entry(int from_dir, int to_dir, const char *name, unsigned depth, struct err *err)
{
    struct stat info;
    if (fstatat(from_dir, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "%s", name);
    if (S_ISREG(info.st_mode))
        return copy_file(from_dir, to_dir, name, &info, err);
    if (S_ISDIR(info.st_mode))
        return copy_folder(from_dir, to_dir, name, depth, err);
    if (S_ISLNK(info.st_mode))
        return copy_link(from_dir, to_dir, name, &info, err);
    if (S_ISSOCK(info.st_mode))
        return 0;
    if (mknodat(to_dir, name, info.st_mode, info.st_rdev) < 0 ||
        fchownat(to_dir, name, info.st_uid, info.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return not_made(name, err);
    return 0;
}

static int copy_tree(int from, int to, unsigned depth, struct err *err)
{
    struct stat info;
    struct dirent *entry;
    int copy = fd_dup(from, err);
    _cleanup_dir_ DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir || fstat(from, &info) < 0) {
        if (!dir)
            fd_close(copy);
        return err_errno(err, errno, "read folder");
    }
    if (depth > DEPTH_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "folders nested deeper than %d", DEPTH_MAX);
    while ((entry = readdir(dir)))
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, "..") &&
            copy_entry(from, to, entry->d_name, depth, err) < 0)
            return -1;
    return copy_attributes(from, to, &info, err);
}

// The image's root as one read-only tree: its only layer, or a detached overlay of all.
static int open_image_root(const struct image_layers *layers, struct err *err)
{
    if (layers->len == 1)
        return fd_dup(layers->fds[0], err);
    const struct mount_overlay overlay = { .lower_fds = layers->fds, .lower_len = layers->len, .upper_fd = -1, .work_fd = -1 };
    return mount_overlay(&overlay, MOUNT_OVERLAY_ANY, err);
}

int volume_fill(struct container *container, const struct image *image, const char *destination, const char *volume_path,
                struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image_layers layers;
    struct err missing = { 0 };
    if (image->chain_ids.len == 0)
        return 0;
    if (image_layers_open(container->engine->images, image, &arena, &layers, err) < 0)
        return -1;
    _cleanup_close_ int root = open_image_root(&layers, err);
    image_layers_done(&layers);
    if (root < 0)
        return -1;
    _cleanup_close_ int place = path_open(root, destination, false, &missing);
    _cleanup_close_ int from = place < 0 ? -1 : openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from < 0)
        return 0; // the image has nothing there, or not a folder
    _cleanup_close_ int to = file_open_dir(AT_FDCWD, volume_path, err);
    return to < 0 || copy_tree(from, to, 0, err) < 0 ? err_wrap(err, "copy the image's %s into its volume", destination) : 0;
}
