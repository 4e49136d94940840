#include "kernel/users.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/num.h"
#include "base/slice.h"
#include "kernel/abi.h"

#define MAP_TEXT_MAX (64 << 10)

static int write_map(pid_t pid, const char *file, const struct users_map *map, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(MAP_TEXT_MAX);
    char path[64];
    for (size_t i = 0; i < map->len; i++)
        buf_addf(&text, "%u %u %u\n", map->ranges[i].inside, map->ranges[i].outside, map->ranges[i].len);
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    return file_put(AT_FDCWD, path, buf_text(&text), err) < 0 ? err_wrap(err, "user namespace") : 0;
}

static int open_namespace(pid_t pid, const char *name, struct err *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "%s", path) : fd;
}

static int fill(pid_t pid, const struct users_map *uids, const struct users_map *gids, struct err *err)
{
    if (write_map(pid, "gid_map", gids, err) < 0 || write_map(pid, "uid_map", uids, err) < 0)
        return -1;
    return open_namespace(pid, "user", err);
}

// A child that does nothing but own a namespace until we hold it: no call of it but the kernel's, for we may have threads.
static pid_t clone_holder(uint64_t flags, int *pidfd, struct err *err)
{
    struct clone_args args = { .flags = flags | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = SIGCHLD };
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    return pid < 0 ? err_errno(err, errno, "user namespace: clone") : pid;
}

static _Noreturn void hold(void)
{
    for (;;)
        syscall(SYS_pause);
}

static void end_holder(int pidfd)
{
    siginfo_t info;
    syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0 && errno == EINTR)
        ;
    fd_close(pidfd);
}

int users_make(const struct users_map *uids, const struct users_map *gids, struct err *err)
{
    int pidfd;
    pid_t pid = clone_holder(CLONE_NEWUSER, &pidfd, err);
    if (pid < 0)
        return -1;
    if (pid == 0)
        hold();
    int fd = fill(pid, uids, gids, err);
    end_holder(pidfd);
    return fd;
}

// Tells how it went by a number, and is then what its namespace is found by.
static _Noreturn void hold_network(int users_fd, int tell_fd)
{
    bool done = setns(users_fd, CLONE_NEWUSER) == 0 && unshare(CLONE_NEWNET) == 0;
    int number = done ? 0 : errno;
    if (write(tell_fd, &number, sizeof(number)) != sizeof(number))
        _exit(1);
    hold();
}

int users_network(int users_fd, struct err *err)
{
    int ends[2], pidfd, number = EIO;
    if (fd_pipe(ends, err) < 0)
        return -1;
    pid_t pid = clone_holder(0, &pidfd, err);
    if (pid == 0)
        hold_network(users_fd, ends[1]);
    fd_close(ends[1]);
    ssize_t got = pid < 0 ? -1 : read(ends[0], &number, sizeof(number));
    fd_close(ends[0]);
    if (pid < 0)
        return -1;
    int fd = got == sizeof(number) && number == 0 ? open_namespace(pid, "net", err) : err_errno(err, number, "make a network namespace");
    end_holder(pidfd);
    return fd;
}

static bool read_number(struct slice *rest, uint32_t *out)
{
    struct slice word;
    uint64_t number = 0;
    *rest = slice_trim(*rest);
    if (!slice_cut(rest, ' ', &word) || !num_parse_u64(word, UINT32_MAX, &number))
        return false;
    *out = (uint32_t)number;
    return true;
}

static int read_map(pid_t pid, const char *file, struct users_map *out, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(MAP_TEXT_MAX);
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    if (file_read_at(AT_FDCWD, path, &text, err) < 0)
        return -1;
    out->len = 0;
    struct slice rest = slice_of(buf_text(&text)), line;
    while (slice_cut(&rest, '\n', &line) && line.size) {
        struct users_range *range = &out->ranges[out->len];
        if (out->len == USERS_RANGES_MAX || !read_number(&line, &range->inside) || !read_number(&line, &range->outside) ||
            !read_number(&line, &range->len))
            return err_set(err, ERR_INTERNAL, "%s: not a map", path);
        out->len++;
    }
    return 0;
}

int users_read(pid_t pid, struct users_map *uids, struct users_map *gids, struct err *err)
{
    return read_map(pid, "uid_map", uids, err) < 0 ? -1 : read_map(pid, "gid_map", gids, err);
}

bool users_outside(const struct users_map *map, uint32_t inside, uint32_t *outside)
{
    for (size_t i = 0; i < map->len; i++) {
        const struct users_range *range = &map->ranges[i];
        if (inside < range->inside || inside - range->inside >= range->len)
            continue;
        *outside = range->outside + (inside - range->inside);
        return true;
    }
    return false;
}

// ---- acting as somebody ---------------------------------------------------------------------------------------------

static int set_fs_ids(uid_t uid, gid_t gid, int bits, struct err *err)
{
    if (prctl(PR_SET_SECUREBITS, (unsigned long)bits | SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0)
        return err_errno(err, errno, "secure bits");
    setfsgid(gid);
    setfsuid(uid);
    if ((uid_t)setfsuid((uid_t)-1) != uid || (gid_t)setfsgid((gid_t)-1) != gid)
        return err_set(err, ERR_INTERNAL, "the file system's ids can't be changed");
    return prctl(PR_SET_SECUREBITS, (unsigned long)bits, 0, 0, 0) < 0 ? err_errno(err, errno, "secure bits") : 0;
}

int users_act_as(uid_t uid, gid_t gid, struct users_acting *before, struct err *err)
{
    *before = (struct users_acting){ (uid_t)setfsuid((uid_t)-1), (gid_t)setfsgid((gid_t)-1), prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) };
    if (before->bits < 0)
        return err_errno(err, errno, "secure bits");
    if (set_fs_ids(uid, gid, before->bits, err) == 0)
        return 0;
    users_act_back(before, NULL);
    return -1;
}

int users_act_back(const struct users_acting *before, struct err *err)
{
    return set_fs_ids(before->uid, before->gid, before->bits, err);
}
