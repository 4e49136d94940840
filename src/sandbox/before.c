// Theory of operation: some namespaces can't be had by flags of the clone. A time namespace counts only for children of
// whoever unshares it, and its offsets must be written while it is empty; a user namespace that is joined must be joined
// before the others are made, or they would belong to ours; and who is about to enter a new user namespace must join
// others while it still has rights over them. So a process between does that and clones the child as its own sibling
// (CLONE_PARENT): the caller is its parent all the same. It tells the child's pid, and is gone; only then the child goes on,
// or its own words could come before that.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "kernel/abi.h"
#include "plan.h"

static int new_user(struct child *child, struct err *err)
{
    const struct op stage = { .how = SANDBOX_STAGE_MAPS };
    if (unshare(CLONE_NEWUSER) < 0)
        return err_errno(err, errno, "unshare user namespace");
    if (op_stage(child, &stage, err) < 0)
        return -1;
    return op_become_root(child, &stage, err);
}

static int new_time(const struct plan_before *before, struct err *err)
{
    if (unshare(CLONE_NEWTIME) < 0)
        return err_errno(err, errno, "unshare time namespace");
    if (str_empty(before->time_offsets))
        return 0;
    _cleanup_close_ int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, before->time_offsets, strlen(before->time_offsets)) < 0)
        return err_errno(err, errno, "write time offsets");
    return 0;
}

static int enter(struct child *child, struct err *err)
{
    const struct plan_before *before = &child->plan->before;
    for (size_t i = 0; i < before->join_len; i++)
        if (setns(before->join_fds[i], (int)before->join_flags[i]) < 0)
            return err_errno(err, errno, "join namespace %#llx", (unsigned long long)before->join_flags[i]);
    if (before->new_user && new_user(child, err) < 0)
        return -1;
    return before->new_time ? new_time(before, err) : 0;
}

// Of the process between, which holds the other end.
static void wait_for_end(const int gate[2])
{
    char none;
    close(gate[1]);
    while (read(gate[0], &none, 1) < 0 && errno == EINTR)
        ;
    close(gate[0]);
}

_Noreturn void before_run(struct child *child, struct clone_args *args)
{
    struct err err = { 0 };
    struct message message = { .type = MESSAGE_CHILD };
    args->flags = (args->flags & ~(uint64_t)CLONE_PIDFD) | CLONE_PARENT;
    args->exit_signal = 0;
    args->pidfd = 0;
    if (enter(child, &err) < 0) {
        child_send(child, MESSAGE_ERROR, &err, -1);
        _exit(127);
    }
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); // joining a user namespace has changed our ids' meaning
    int gate[2];
    pid_t pid = pipe2(gate, O_CLOEXEC) < 0 ? -1 : (pid_t)syscall(SYS_clone3, args, sizeof(*args));
    if (pid == 0) {
        wait_for_end(gate);
        child_run(child);
    }
    message.value = (int)pid;
    if (pid < 0) {
        message.type = MESSAGE_ERROR;
        err_errno(&message.err, errno, "clone");
    }
    _exit(fd_send(child->sock, &message, sizeof(message), NULL, 0, NULL) < 0 ? 127 : 0);
}
