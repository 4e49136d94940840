// The child: an interpreter of the plan. It allocates nothing and knows no path of the host; what it needs from there it
// has as descriptors. An error goes to the parent as the error object itself, then the child is gone.
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "plan.h"

const struct op_kind op_kinds[OP_COUNT] = {
    [OP_JOIN_CGROUP] = { "join cgroup", op_join_cgroup, false },
    [OP_JOIN_NAMESPACE] = { "join namespace", op_join_namespace, false },
    [OP_CGROUP_NAMESPACE] = { "new cgroup namespace", op_cgroup_namespace, false },
    [OP_KEYRING] = { "new session keyring", op_keyring, false },
    [OP_SLAVE] = { "detach from the host's mounts", op_slave, false },
    [OP_LOOPBACK] = { "bring up loopback", op_loopback, false },
    [OP_HOSTNAME] = { "set hostname", op_hostname, false },
    [OP_DOMAINNAME] = { "set domainname", op_domainname, false },
    [OP_NEW_MOUNT] = { "make file system of", op_new_mount, false },
    [OP_ROOT] = { "enter rootfs", op_root, false },
    [OP_OPEN_ROOT] = { "open root", op_open_root, false },
    [OP_USER] = { "find user", op_user, true },
    [OP_MOUNT] = { "mount", op_mount, false },
    [OP_TMPFS] = { "mount tmpfs", op_tmpfs, false },
    [OP_TMPFS_READ_ONLY] = { "make tmpfs read-only", op_tmpfs_read_only, false },
    [OP_BIND] = { "bind", op_bind, false },
    [OP_DIR] = { "make folder", op_dir, false },
    [OP_LINK] = { "make link", op_link, false },
    [OP_NODE] = { "make device", op_node, false },
    [OP_CGROUP] = { "mount cgroup", op_cgroup, false },
    [OP_SEAL] = { "set attributes of", op_seal, false },
    [OP_SYSCTL] = { "write sysctl", op_sysctl, false },
    [OP_OOM_SCORE] = { "set oom_score_adj", op_oom_score, false },
    [OP_TERMINAL] = { "allocate terminal", op_terminal, false },
    [OP_READ_ONLY_PATH] = { "protect path", op_read_only_path, false },
    [OP_MASK] = { "mask path", op_mask, false },
    [OP_PROPAGATION] = { "set propagation of", op_propagation, false },
    [OP_ROOT_READ_ONLY] = { "make root read-only", op_root_read_only, false },
    [OP_MAKE_CWD] = { "make working directory", op_make_cwd, true },
    [OP_CWD] = { "change to working directory", op_cwd, true },
    [OP_STDIO] = { "place stdio", op_stdio, false },
    [OP_CLOSE] = { "close descriptors", op_close, false },
    [OP_SESSION] = { "new session", op_session, false },
    [OP_RLIMIT] = { "set rlimit", op_rlimit, false },
    [OP_NO_NEW_PRIVS] = { "no new privileges", op_no_new_privs, false },
    [OP_SECCOMP] = { "load seccomp filter", op_seccomp, false },
    [OP_IDENTITY] = { "take identity", op_identity, false },
    [OP_READY] = { "wait for start", op_ready, false },
    [OP_EXEC] = { "execute", op_exec, true },
    [OP_STAGE] = { "wait for the caller", op_stage, true },
    [OP_BECOME_ROOT] = { "become root of the user namespace", op_become_root, false },
    [OP_CLONE_ROOT] = { "clone rootfs", op_clone_root, false },
    [OP_CLONE_BIND] = { "clone", op_clone_bind, false },
    [OP_DETACH] = { "take away the host's", op_detach, false },
    [OP_ATTACH_ROOT] = { "mount rootfs", op_attach_root, false },
    [OP_PIVOT] = { "enter rootfs", op_pivot, false },
    [OP_FILESYSTEM] = { "mount", op_filesystem, false },
    [OP_BIND_PROPAGATION] = { "set propagation of", op_bind_propagation, false },
    [OP_REMOUNT] = { "remount", op_remount, false },
    [OP_PATH_READ_ONLY] = { "make read-only", op_path_read_only, false },
    [OP_PRIVATE_PROC] = { "mount private proc", op_private_proc, false },
    [OP_DEV_FOLDER] = { "open", op_dev_folder, false },
    [OP_BIND_NODE] = { "bind device", op_bind_node, false },
    [OP_HOOK] = { "run hook", op_hook, true },
    [OP_PERSONALITY] = { "set personality", op_personality, false },
    [OP_SCHEDULER] = { "set scheduler", op_scheduler, false },
    [OP_IO_PRIORITY] = { "set io priority", op_io_priority, false },
    [OP_AFFINITY] = { "set cpu affinity", op_affinity, false },
    [OP_APPARMOR] = { "set apparmor profile", op_apparmor, false },
    [OP_SELINUX] = { "set selinux label", op_selinux, false },
    [OP_FIND_COMMAND] = { "find command", op_find_command, true },
};

int child_send(struct child *child, enum message_type type, const struct err *err, int fd)
{
    struct message message = { .type = type };
    if (err)
        message.err = *err;
    return fd_send(child->sock, &message, sizeof(message), &fd, fd >= 0 ? 1 : 0, NULL) < 0 ? -1 : 0;
}

// Everything the parent has open and this child does not need is closed before it does anything at all.
static void close_strangers(const struct child *child)
{
    unsigned next = 3;
    for (size_t i = 0; i < child->kept_len; i++) {
        unsigned kept = (unsigned)child->kept_fds[i];
        if (kept > next)
            close_range(next, kept - 1, 0);
        if (kept >= next)
            next = kept + 1;
    }
    close_range(next, ~0U, 0);
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
}

static void reset_signals(void)
{
    struct sigaction plain = { .sa_handler = SIG_DFL };
    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &plain, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn void child_run(struct child *child)
{
    struct err err = { 0 };
    reset_signals();
    close_strangers(child);
    umask(0);
    for (size_t i = 0; i < child->plan->op_len; i++) {
        const struct op *op = &child->plan->ops[i];
        const struct op_kind *kind = &op_kinds[op->type];
        if (kind->run(child, op, &err) == 0)
            continue;
        if (!kind->own_words)
            err_wrap(&err, op->path ? "%s %s" : "%s", kind->name, op->path);
        if (!child->started)
            child_send(child, MESSAGE_ERROR, &err, -1);
        else if (child->report_fd >= 0 && write(child->report_fd, &err, sizeof(err)) < 0)
            _exit(126);
        _exit(127);
    }
    _exit(127); // OP_EXEC does not come back
}
