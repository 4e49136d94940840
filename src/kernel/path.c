// Theory of operation: every step hands the kernel a path from root_fd and the flags RESOLVE_IN_ROOT and
// RESOLVE_NO_MAGICLINKS, so links, ".." and mounts are followed by the kernel as the container would see them. Making a
// missing folder resolves the longest prefix that exists to a descriptor and creates exactly one component on it; then
// the walk starts again from the root. Whoever exchanges a folder for a link between two steps only changes which folder
// *inside* the root is used.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "kernel/path.h"
#include "base/fd.h"
#include "base/slice.h"
#include "kernel/abi.h"

#define RESOLVE_RETRIES 64 // EAGAIN: a rename raced with ".."
#define LINK_MAX_FOLLOWED 40

static int open_beneath(int root_fd, const char *path, uint64_t flags, uint64_t resolve)
{
    // openat2 counts an absolute path from root_fd too; the empty path is the root itself.
    struct open_how how = { .flags = flags | O_CLOEXEC, .resolve = resolve };
    const char *name = *path ? path : ".";
    for (int tries = 0; tries < RESOLVE_RETRIES; tries++) {
        int fd = (int)syscall(SYS_openat2, root_fd, name, &how, sizeof(how));
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            return fd;
    }
    return -1;
}

static int open_in_root(int root_fd, const char *path, uint64_t flags)
{
    return open_beneath(root_fd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int path_open(int root_fd, const char *path, bool nofollow, struct err *err)
{
    int fd = open_in_root(root_fd, path, O_PATH | (nofollow ? O_NOFOLLOW : 0));
    return fd >= 0 ? fd : err_errno(err, errno, "%s", path);
}

int path_open_plain(int root_fd, const char *path, struct err *err)
{
    int fd = open_beneath(root_fd, path, O_PATH, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS);
    return fd >= 0 ? fd : err_errno(err, errno, "%s", path);
}

int path_open_file(int root_fd, const char *path, struct err *err)
{
    _cleanup_close_ int seen = path_open(root_fd, path, false, err);
    if (seen < 0)
        return -1;
    struct stat st;
    if (fstat(seen, &st) < 0)
        return err_errno(err, errno, "stat %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: not a regular file", path);
    // O_NONBLOCK: should the name have become a fifo or a device meanwhile, the open neither waits nor acts on it.
    _cleanup_close_ int fd = open_in_root(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return err_errno(err, errno, "%s", path);
    struct stat now;
    if (fstat(fd, &now) < 0 || now.st_ino != st.st_ino || now.st_dev != st.st_dev)
        return err_set(err, ERR_CONFLICT, "%s: exchanged while it was opened", path);
    if (fcntl(fd, F_SETFL, 0) < 0)
        return err_errno(err, errno, "%s", path);
    return take_fd(&fd);
}

int path_read_file(int root_fd, const char *path, size_t max, char **out, size_t *size, struct err *err)
{
    _cleanup_close_ int fd = path_open_file(root_fd, path, err);
    if (fd < 0)
        return -1;
    size_t capacity = MIN_OF(max, (size_t)4096), used = 0;
    _cleanup_free_ char *data = mem_grow(NULL, capacity + 1);
    for (;;) {
        ssize_t got = fd_read_full(fd, data + used, capacity - used, err);
        if (got < 0)
            return err_wrap(err, "read %s", path);
        used += (size_t)got;
        if (used < capacity)
            break;
        if (capacity == max) {
            char more;
            if (fd_read_full(fd, &more, 1, err) != 0)
                return err_set(err, ERR_RESOURCE_EXHAUSTED, "%s: larger than %zu bytes", path, max);
            break;
        }
        capacity = MIN_OF(max, capacity * 2);
        data = mem_grow(data, capacity + 1);
    }
    data[used] = '\0';
    if (size)
        *size = used;
    *out = take_ptr(&data);
    return 0;
}

// Puts `target` (of the link `head/name`) in place of the link: *path becomes the path to try next.
static int splice_link(char path[PATH_MAX], size_t head_len, const char *target, const char *rest)
{
    char next[PATH_MAX];
    int written = target[0] == '/' ? snprintf(next, sizeof(next), "%s/%s", target, rest)
                                   : snprintf(next, sizeof(next), "%.*s/%s/%s", (int)head_len, path, target, rest);
    if (written < 0 || (size_t)written >= sizeof(next))
        return -1;
    memcpy(path, next, (size_t)written + 1);
    return 0;
}

struct missing {
    int parent_fd; // the folder that exists
    size_t head_len; // of the path up to it
    char name[NAME_MAX + 1]; // the first component that does not
    size_t rest; // where the path goes on behind it
};

// Finds the first component of `path` that is not there; name is empty when all of it is.
static int find_missing(int root_fd, const char *path, struct missing *out, struct err *err)
{
    _cleanup_close_ int parent = open_in_root(root_fd, "", O_PATH | O_DIRECTORY);
    if (parent < 0)
        return err_errno(err, errno, "%s", path);
    size_t head = 0, at = 0, length = strlen(path);
    char prefix[PATH_MAX];
    for (;;) {
        while (path[at] == '/')
            at++;
        size_t end = at;
        while (end < length && path[end] != '/')
            end++;
        if (end == at)
            break;
        if (end - at > NAME_MAX)
            return err_errno(err, ENAMETOOLONG, "%s", path);
        memcpy(prefix, path, end);
        prefix[end] = '\0';
        int fd = open_in_root(root_fd, prefix, O_PATH | O_DIRECTORY);
        if (fd < 0 && errno != ENOENT)
            return err_errno(err, errno, "%s", prefix);
        if (fd < 0) {
            *out = (struct missing){ .parent_fd = -1, .head_len = head, .rest = end };
            memcpy(out->name, path + at, end - at);
            out->name[end - at] = '\0';
            break;
        }
        fd_close(parent);
        parent = fd;
        head = at = end;
        out->name[0] = '\0';
    }
    out->parent_fd = take_fd(&parent);
    return 0;
}

static bool is_dots(const char *name)
{
    return str_eq(name, ".") || str_eq(name, "..");
}

// Below a folder that was just made nothing is there: the rest is made without looking from the root for each. What is not as simple as
// that is left to the next turn.
static void make_below(const struct missing *at, const char *rest, mode_t mode)
{
    char name[NAME_MAX + 1];
    struct slice left = slice_of(rest), part;
    _cleanup_close_ int fd = openat(at->parent_fd, at->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    while (fd >= 0 && slice_cut(&left, '/', &part)) {
        if (part.size == 0)
            continue;
        if (part.size > NAME_MAX)
            return;
        memcpy(name, part.data, part.size);
        name[part.size] = '\0';
        if (is_dots(name) || mkdirat(fd, name, mode) < 0)
            return;
        int next = openat(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        fd_close(fd);
        fd = next;
    }
}

// Makes the one missing folder (1), or, when a link that leads nowhere stands there, goes on where it points.
static int make_step(char path[PATH_MAX], const struct missing *at, mode_t mode, int *links, struct err *err)
{
    if (is_dots(at->name))
        return err_errno(err, ENOENT, "%s", path);
    if (mkdirat(at->parent_fd, at->name, mode) == 0)
        return 1;
    if (errno != EEXIST)
        return err_errno(err, errno, "mkdir %s", path);
    char target[PATH_MAX];
    ssize_t size = readlinkat(at->parent_fd, at->name, target, sizeof(target) - 1);
    if (size < 0)
        return errno == EINVAL || errno == ENOENT ? 0 : err_errno(err, errno, "readlink %s", path); // somebody made it
    target[size] = '\0';
    if (++*links > LINK_MAX_FOLLOWED)
        return err_errno(err, ELOOP, "%s", path);
    char rest[PATH_MAX];
    snprintf(rest, sizeof(rest), "%s", path + at->rest);
    if (splice_link(path, at->head_len, target, rest) < 0)
        return err_errno(err, ENAMETOOLONG, "%s", path);
    return 0;
}

// Splits off the last component; both outputs have room for PATH_MAX and NAME_MAX + 1 bytes.
static int split_last(const char *path, char parent[PATH_MAX], char name[NAME_MAX + 1], struct err *err)
{
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    if (end - start > NAME_MAX || start >= PATH_MAX)
        return err_errno(err, ENAMETOOLONG, "%s", path);
    memcpy(name, path + start, end - start);
    name[end - start] = '\0';
    if (!name[0] || is_dots(name))
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: has no last component", path);
    memcpy(parent, path, start);
    parent[start] = '\0';
    return 0;
}

bool path_make_last(int root_fd, const char *path, mode_t mode)
{
    char parent[PATH_MAX], name[NAME_MAX + 1];
    if (split_last(path, parent, name, NULL) < 0)
        return false;
    _cleanup_close_ int fd = open_in_root(root_fd, parent, O_PATH | O_DIRECTORY);
    return fd >= 0 && mkdirat(fd, name, mode) == 0;
}

// Not inlined: each page of its arrays would be touched by a caller that does not need them.
__attribute__((noinline)) static int make_missing(int root_fd, const char *path, mode_t mode, struct err *err)
{
    char rest[PATH_MAX];
    if (strlen(path) >= sizeof(rest))
        return err_errno(err, ENAMETOOLONG, "%s", path);
    memcpy(rest, path, strlen(path) + 1);
    int links = 0;
    // Each turn makes a component or follows a link; a stranger who removes what we make is not waited for.
    for (int turns = 0; turns < PATH_MAX; turns++) {
        struct missing at = { .parent_fd = -1 };
        if (find_missing(root_fd, rest, &at, err) < 0)
            return -1;
        if (!at.name[0])
            return at.parent_fd;
        int made = make_step(rest, &at, mode, &links, err);
        if (made > 0)
            make_below(&at, rest + at.rest, mode);
        fd_close(at.parent_fd);
        if (made < 0)
            return -1;
    }
    return err_set(err, ERR_CONFLICT, "%s: is being changed by somebody else", path);
}

int path_make_dir(int root_fd, const char *path, mode_t mode, struct err *err)
{
    int fd = open_in_root(root_fd, path, O_PATH | O_DIRECTORY);
    if (fd >= 0)
        return fd;
    if (errno != ENOENT)
        return err_errno(err, errno, "%s", path);
    if (path_make_last(root_fd, path, mode) && (fd = open_in_root(root_fd, path, O_PATH | O_DIRECTORY)) >= 0)
        return fd;
    return make_missing(root_fd, path, mode, err);
}

static int open_parent(int root_fd, const char *path, bool make, char name[NAME_MAX + 1], struct err *err)
{
    char parent[PATH_MAX];
    if (split_last(path, parent, name, err) < 0)
        return -1;
    if (make)
        return path_make_dir(root_fd, parent, 0755, err);
    int fd = open_in_root(root_fd, parent, O_PATH | O_DIRECTORY);
    return fd >= 0 ? fd : err_errno(err, errno, "%s", parent);
}

int path_open_parent(int root_fd, const char *path, bool make, char **name, struct err *err)
{
    char last[NAME_MAX + 1];
    int fd = open_parent(root_fd, path, make, last, err);
    if (fd >= 0)
        *name = mem_strdup(last);
    return fd;
}

// Creates `name` without following anything; *link gets the target when a link stands there.
static int make_file_at(int parent_fd, const char *name, mode_t mode, char link[PATH_MAX])
{
    link[0] = '\0';
    int fd = openat(parent_fd, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, mode);
    if (fd >= 0)
        close(fd);
    else if (errno != EEXIST)
        return -1;
    ssize_t size = readlinkat(parent_fd, name, link, PATH_MAX - 1);
    if (size > 0)
        link[size] = '\0';
    return size > 0 ? -1 : openat(parent_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

int path_make_file(int root_fd, const char *path, mode_t mode, struct err *err)
{
    char next[PATH_MAX], link[PATH_MAX], name[NAME_MAX + 1];
    if (strlen(path) >= sizeof(next))
        return err_errno(err, ENAMETOOLONG, "%s", path);
    memcpy(next, path, strlen(path) + 1);
    for (int links = 0; links <= LINK_MAX_FOLLOWED; links++) {
        int fd = open_in_root(root_fd, next, O_PATH);
        if (fd >= 0)
            return fd;
        if (errno != ENOENT)
            return err_errno(err, errno, "%s", path);
        _cleanup_close_ int parent = open_parent(root_fd, next, true, name, err);
        if (parent < 0)
            return -1;
        fd = make_file_at(parent, name, mode, link);
        if (fd >= 0)
            return fd;
        if (!link[0])
            return err_errno(err, errno, "create %s", path);
        size_t head_len = strlen(next);
        while (head_len > 0 && next[head_len - 1] == '/')
            head_len--;
        head_len -= strlen(name);
        if (splice_link(next, head_len, link, "") < 0)
            return err_errno(err, ENAMETOOLONG, "%s", path);
        for (size_t end = strlen(next); end > 1 && next[end - 1] == '/'; end--)
            next[end - 1] = '\0';
    }
    return err_errno(err, ELOOP, "%s", path);
}

int path_make_node(int root_fd, const char *path, mode_t mode, dev_t device, uid_t uid, gid_t gid, struct err *err)
{
    char last[NAME_MAX + 1];
    const char *name = path;
    _cleanup_close_ int opened = -1;
    if (strchr(path, '/')) {
        if ((opened = open_parent(root_fd, path, true, last, err)) < 0)
            return -1;
        name = last;
    }
    int parent = opened < 0 ? root_fd : opened;
    if (mknodat(parent, name, mode, device) < 0) {
        struct stat st;
        if (errno != EEXIST)
            return err_errno(err, errno, "mknod %s", path);
        if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (st.st_mode & S_IFMT) != (mode & S_IFMT) ||
            (!S_ISFIFO(mode) && st.st_rdev != device))
            return err_errno(err, EEXIST, "mknod %s", path);
    }
    if ((uid || gid) && fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "chown %s", path);
    return 0;
}
