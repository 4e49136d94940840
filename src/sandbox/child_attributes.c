#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/personality.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "plan.h"

int op_personality(struct child *child, const struct op *op, struct err *err)
{
    return personality((unsigned long)op->flags) >= 0 ? 0 : err_errno(err, errno, "personality");
}

struct attributes { // struct sched_attr of the kernel, as of its first version
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

int op_scheduler(struct child *child, const struct op *op, struct err *err)
{
    const struct plan_scheduler *wanted = &child->plan->scheduler;
    struct attributes attributes = { .size = sizeof(attributes), .policy = wanted->policy, .flags = wanted->flags,
                                     .nice = wanted->nice, .priority = wanted->priority, .runtime = wanted->runtime,
                                     .deadline = wanted->deadline, .period = wanted->period };
    if (syscall(SYS_sched_setattr, 0, &attributes, 0) < 0)
        return err_errno(err, errno, "error setting scheduler: sched_setattr");
    return 0;
}

int op_io_priority(struct child *child, const struct op *op, struct err *err)
{
    return syscall(SYS_ioprio_set, 1, 0, op->flags) == 0 ? 0 : err_errno(err, errno, "ioprio_set");
}

int op_affinity(struct child *child, const struct op *op, struct err *err)
{
    const struct plan_affinity *cpus = op->how & OP_FINAL ? &child->plan->final_affinity : &child->plan->affinity;
    if (syscall(SYS_sched_setaffinity, 0, sizeof(cpus->words), cpus->words) < 0)
        return err_errno(err, errno, "sched_setaffinity");
    return 0;
}

static int write_attr(struct child *child, const char *file, const char *prefix, const char *text, struct err *err)
{
    char path[64], line[1024];
    snprintf(path, sizeof(path), "%d/%s", (int)getpid(), file);
    int size = snprintf(line, sizeof(line), "%s%s", prefix, text);
    if (size < 0 || (size_t)size >= sizeof(line))
        return err_set(err, ERR_INVALID_ARGUMENT, "label is too long");
    _cleanup_close_ int fd = child_open_proc(child, path, err);
    return fd < 0 ? -1 : fd_write_full(fd, line, (size_t)size, err);
}

// The module's own folder came with Linux 5.8, where several modules may be active at once.
int op_apparmor(struct child *child, const struct op *op, struct err *err)
{
    if (write_attr(child, "attr/apparmor/exec", "exec ", op->text, err) == 0)
        return 0;
    if (err->number != ENOENT)
        return -1;
    err_clear(err);
    return write_attr(child, "attr/exec", "exec ", op->text, err);
}

int op_selinux(struct child *child, const struct op *op, struct err *err)
{
    return write_attr(child, "attr/exec", "", op->text, err);
}

int op_find_command(struct child *child, const struct op *op, struct err *err)
{
    return child_find_command(child, err);
}
