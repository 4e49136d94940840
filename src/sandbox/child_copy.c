// tmpcopyup: the content of a folder into a file system that is about to hide it. Walked by descriptor, links are copied as
// links, other mounts are not entered; depth is bounded by the descriptors that a process may hold.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "plan.h"

#define DEPTH_MAX 256
#define ENTRIES_SIZE 8192

struct entry { // linux_dirent64
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
};

static int copy_folder(int from, int to, dev_t device, int depth, struct err *err);

static int copy_bytes(int from, int to, struct err *err)
{
    for (;;) {
        ssize_t moved = sendfile(to, from, NULL, 1 << 20);
        if (moved == 0)
            return 0;
        if (moved < 0 && errno != EINTR)
            return err_errno(err, errno, "copy");
    }
}

static int copy_file(int from, int to, const char *name, struct err *err)
{
    _cleanup_close_ int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    _cleanup_close_ int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (in < 0 || out < 0)
        return err_errno(err, errno, "%s", name);
    return copy_bytes(in, out, err);
}

static int copy_link(int from, int to, const char *name, struct err *err)
{
    char target[PATH_MAX];
    ssize_t size = readlinkat(from, name, target, sizeof(target) - 1);
    if (size < 0)
        return err_errno(err, errno, "%s", name);
    target[size] = '\0';
    return symlinkat(target, to, name) == 0 ? 0 : err_errno(err, errno, "%s", name);
}

static int copy_subfolder(int from, int to, const char *name, dev_t device, int depth, struct err *err)
{
    if (mkdirat(to, name, 0700) < 0)
        return err_errno(err, errno, "%s", name);
    _cleanup_close_ int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_close_ int out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (in < 0 || out < 0)
        return err_errno(err, errno, "%s", name);
    return copy_folder(in, out, device, depth + 1, err);
}

// Owner first: a change of it drops set-id bits.
static int copy_attributes(int to, const char *name, const struct stat *st, struct err *err)
{
    const struct timespec times[] = { st->st_atim, st->st_mtim };
    if (fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "chown %s", name);
    if (!S_ISLNK(st->st_mode) && fchmodat(to, name, st->st_mode & 07777, 0) < 0)
        return err_errno(err, errno, "chmod %s", name);
    utimensat(to, name, times, AT_SYMLINK_NOFOLLOW);
    return 0;
}

static int copy_entry(int from, int to, const char *name, dev_t device, int depth, struct err *err)
{
    struct stat st;
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "%s", name);
    if (st.st_dev != device)
        return 0;
    int result = S_ISREG(st.st_mode)   ? copy_file(from, to, name, err)
                 : S_ISDIR(st.st_mode) ? copy_subfolder(from, to, name, device, depth, err)
                 : S_ISLNK(st.st_mode) ? copy_link(from, to, name, err)
                 : mknodat(to, name, st.st_mode, st.st_rdev) < 0 ? err_errno(err, errno, "%s", name) : 0;
    return result < 0 ? -1 : copy_attributes(to, name, &st, err);
}

static int copy_folder(int from, int to, dev_t device, int depth, struct err *err)
{
    char entries[ENTRIES_SIZE];
    if (depth > DEPTH_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "folders nested deeper than %d", DEPTH_MAX);
    for (;;) {
        long got = syscall(SYS_getdents64, from, entries, sizeof(entries));
        if (got <= 0)
            return got == 0 ? 0 : err_errno(err, errno, "list");
        for (long at = 0; at < got;) {
            const struct entry *entry = (const struct entry *)(const void *)(entries + at);
            at += entry->size;
            if (!str_eq(entry->name, ".") && !str_eq(entry->name, "..") &&
                copy_entry(from, to, entry->name, device, depth, err) < 0)
                return -1;
        }
    }
}

int child_copy_tree(int from_fd, int to_fd, struct err *err)
{
    struct stat st;
    _cleanup_close_ int from = openat(from_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int to = openat(to_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from < 0 || to < 0 || fstat(from, &st) < 0)
        return err_errno(err, errno, "open");
    return copy_folder(from, to, st.st_dev, 0, err);
}
