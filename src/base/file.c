#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "base/num.h"

int file_open_dir(int dirfd, const char *path, struct err *err)
{
    int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "%s", path) : fd;
}

int file_mkdirs(int dirfd, const char *path, mode_t mode, struct err *err)
{
    _cleanup_free_ char *copy = mem_strdup(path);
    for (char *slash = copy + 1; *copy && (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        if (mkdirat(dirfd, copy, mode) < 0 && errno != EEXIST)
            return err_errno(err, errno, "make folder %s", copy);
        *slash = '/';
    }
    if (mkdirat(dirfd, copy, mode) == 0)
        return 0;
    if (errno != EEXIST)
        return err_errno(err, errno, "make folder %s", copy);
    struct stat info;
    if (fstatat(dirfd, copy, &info, 0) < 0)
        return err_errno(err, errno, "make folder %s", copy);
    return S_ISDIR(info.st_mode) ? 0 : err_errno(err, ENOTDIR, "make folder %s", copy);
}

int file_read_at(int dirfd, const char *path, struct buf *out, struct err *err)
{
    _cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "%s", path) : file_read_fd(fd, path, out, err);
}

// As much room again as there is already, from one page on: most files are small, and room that is copied when it grows
// is memory touched for nothing.
static size_t read_size(const struct buf *buf)
{
    size_t wanted = MIN_OF(MAX_OF(buf->size, (size_t)4096), (size_t)65536);
    return MIN_OF(wanted, buf->ceiling - MIN_OF(buf->size, buf->ceiling));
}

int file_read_fd(int fd, const char *path, struct buf *out, struct err *err)
{
    for (;;) {
        size_t room_size = read_size(out);
        char one, *room = room_size ? buf_reserve(out, room_size) : &one;
        ssize_t n = read(fd, room, room_size ? room_size : 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, errno, "read %s", path);
        if (n == 0)
            return 0;
        if (!room_size)
            return err_set(err, ERR_RESOURCE_EXHAUSTED, "%s: larger than %zu bytes", path, out->ceiling);
        buf_commit(out, (size_t)n);
    }
}

static int sync_folder_of(int dirfd, const char *path, struct err *err)
{
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *folder = slash ? mem_strndup(path, (size_t)(slash - path) + 1) : mem_strdup(".");
    _cleanup_close_ int fd = file_open_dir(dirfd, folder, err);
    if (fd < 0)
        return -1;
    return fsync(fd) < 0 ? err_errno(err, errno, "sync %s", folder) : 0;
}

int file_write_at(int dirfd, const char *path, const void *data, size_t size, mode_t mode, bool durable, struct err *err)
{
    char suffix[9];
    random_hex(suffix, 8);
    _cleanup_free_ char *temporary = mem_printf("%s.tmp-%s", path, suffix);
    _cleanup_close_ int fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return err_errno(err, errno, "create %s", path);
    int result = fd_write_at(fd, data, size, 0, err);
    if (result == 0 && fchmod(fd, mode) < 0)
        result = err_errno(err, errno, "mode");
    if (result == 0 && durable && fsync(fd) < 0)
        result = err_errno(err, errno, "sync");
    if (result == 0 && renameat(dirfd, temporary, dirfd, path) < 0)
        result = err_errno(err, errno, "rename");
    if (result < 0) {
        unlinkat(dirfd, temporary, 0);
        return err_wrap(err, "write %s", path);
    }
    return durable ? sync_folder_of(dirfd, path, err) : 0;
}

int file_put(int dirfd, const char *path, const char *text, struct err *err)
{
    _cleanup_close_ int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
    ssize_t size = (ssize_t)strlen(text);
    if (fd < 0)
        return err_errno(err, errno, "%s", path);
    ssize_t n = write(fd, text, (size_t)size);
    if (n != size)
        return err_errno(err, n < 0 ? errno : EIO, "write \"%s\" to %s", text, path);
    return 0;
}

int file_list_names(int dirfd, const char *path, struct strv *out, struct err *err)
{
    int fd = file_open_dir(dirfd, path, err);
    if (fd < 0)
        return -1;
    _cleanup_dir_ DIR *dir = fdopendir(fd);
    struct dirent *entry;
    if (!dir) {
        fd_close(fd);
        return err_errno(err, errno, "read folder");
    }
    while ((entry = readdir(dir)))
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, ".."))
            strv_add(out, entry->d_name);
    return 0;
}

// ---- removing a tree ------------------------------------------------------------------------------------------------
//
// Recursion goes DEPTH_MAX folders down. What is deeper is moved up into the top folder and met again in its next pass:
// a stranger's tree of a hundred thousand levels costs passes, not stack.

enum { DEPTH_MAX = 32, PASS_MAX = 10000 };

static int remove_entries(int fd, int top, int depth, struct err *err);

static int refuse_mount(int fd, const char *name, struct err *err)
{
    struct statx info;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &info) < 0)
        return err_errno(err, errno, "%s", name);
    if (info.stx_attributes & STATX_ATTR_MOUNT_ROOT)
        return err_set(err, ERR_CONFLICT, "%s: something is mounted here", name);
    return 0;
}

static int lift_folder(int dirfd, const char *name, int top, struct err *err)
{
    char unique[33];
    random_hex(unique, sizeof(unique) - 1);
    if (renameat(dirfd, name, top, unique) < 0 && errno != ENOENT)
        return err_errno(err, errno, "move %s up", name);
    return 0;
}

// `top` is -1 for the top folder itself.
static int remove_folder(int dirfd, const char *name, int top, int depth, struct err *err)
{
    _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "%s", name);
    if (refuse_mount(fd, name, err) < 0)
        return -1;
    // Folders that were lifted, and what a file system's reading skipped while entries went, take another pass.
    for (int pass = 0; pass < PASS_MAX; pass++) {
        if (remove_entries(fd, top < 0 ? fd : top, depth, err) < 0)
            return err_wrap(err, "%s", name);
        if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
            return 0;
        if (errno != ENOTEMPTY)
            return err_errno(err, errno, "remove %s", name);
    }
    return err_set(err, ERR_CONFLICT, "%s: does not get empty", name);
}

static int remove_entry(int dirfd, const char *name, int top, int depth, struct err *err)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR)
        return err_errno(err, errno, "remove %s", name);
    return depth == DEPTH_MAX ? lift_folder(dirfd, name, top, err) : remove_folder(dirfd, name, top, depth, err);
}

static int remove_entries(int fd, int top, int depth, struct err *err)
{
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); // reads from the start
    _cleanup_dir_ DIR *dir = again < 0 ? NULL : fdopendir(again);
    struct dirent *entry;
    if (!dir) {
        fd_close(again);
        return err_errno(err, errno, "read folder");
    }
    while ((entry = readdir(dir)))
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, "..") &&
            remove_entry(fd, entry->d_name, top, depth + 1, err) < 0)
            return -1;
    return 0;
}

int file_remove_tree(int dirfd, const char *path, struct err *err)
{
    if (unlinkat(dirfd, path, 0) == 0 || errno == ENOENT || errno == ENOTDIR)
        return 0;
    return errno == EISDIR ? remove_folder(dirfd, path, -1, 0, err) : err_errno(err, errno, "remove %s", path);
}

static int lock_at(int dirfd, const char *name, int command, struct err *err)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    _cleanup_close_ int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, errno, "%s", name);
    if (fcntl(fd, command, &lock) < 0)
        return errno == EAGAIN || errno == EACCES ? err_set(err, ERR_CONFLICT, "%s is locked by another process", name)
                                                  : err_errno(err, errno, "lock %s", name);
    return take_fd(&fd);
}

int file_lock_at(int dirfd, const char *name, struct err *err)
{
    return lock_at(dirfd, name, F_OFD_SETLK, err);
}

int file_own_at(int dirfd, const char *name, struct err *err)
{
    return lock_at(dirfd, name, F_SETLK, err);
}
