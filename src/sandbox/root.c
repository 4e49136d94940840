// Theory of operation: a mount can be cloned only from inside its mount namespace. So a child enters that of the container, clones what
// is at the path there and hands the descriptor back. Nobody inside can see it: it stays out of their pid namespace; and nothing is
// opened but that path, where a link is followed by nobody.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "kernel/mount.h"
#include "sandbox/sandbox.h"

static int clone_path(int ns_fd, const char *path, struct err *err)
{
    if (setns(ns_fd, CLONE_NEWNS) < 0)
        return err_errno(err, errno, "join the mount namespace");
    int folder = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return folder < 0 ? err_errno(err, errno, "%s", path) : mount_clone(folder, false, err);
}

static _Noreturn void run_child(int ns_fd, const char *path, int sock)
{
    struct err err = { 0 };
    int tree = clone_path(ns_fd, path, &err);
    _exit(fd_send(sock, &err, sizeof(err), &tree, tree >= 0, NULL) < 0);
}

int sandbox_tree(int ns_fd, const char *path, int *tree_fd, struct err *err)
{
    struct err answer = { 0 };
    int ends[2], fd = -1;
    size_t fd_len = 1;
    if (fd_socketpair(SOCK_SEQPACKET, ends, err) < 0)
        return -1;
    pid_t child = fork();
    if (child == 0)
        run_child(ns_fd, path, ends[1]);
    int failed = errno;
    fd_close(ends[1]);
    ssize_t got = child < 0 ? -1 : fd_recv(ends[0], &answer, sizeof(answer), &fd, &fd_len, NULL);
    fd_close(ends[0]);
    if (child < 0)
        return err_errno(err, failed, "fork");
    waitpid(child, NULL, 0);
    if (got != sizeof(answer))
        return err_set(err, ERR_UNAVAILABLE, "the container's %s can't be reached", path);
    if (fd_len == 0)
        return err_set(err, answer.class, "%s", answer.message);
    *tree_fd = fd;
    return 0;
}
