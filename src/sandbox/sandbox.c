// The parent's side: what must be done in the host's mount namespace (the rootfs and the clones of what is bound, all
// detached), the clone, and the conversation with the child over a socket pair:
//
//     child -> parent   MASTER with the pty's master     when there is a terminal
//     child -> parent   READY                            everything but the exec is done
//     parent -> child   one byte                         start
//     child -> parent   ERROR, or the socket's end       the end means that the exec succeeded (or the child was killed)
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "kernel/abi.h"
#include "plan.h"

struct sandbox {
    pid_t pid;
    int pidfd;
    int sock; // -1 once started
    bool reaped;
};

// What the parent opens for one child, and closes when it has been cloned.
struct launch {
    struct child child;
    int rootfs_fd;
    int *bind_fds;
    size_t bind_len;
    int *kept, *passed;
    int socks[2];
};

static void launch_done(struct launch *launch)
{
    fd_close(launch->rootfs_fd);
    for (size_t i = 0; i < launch->bind_len; i++)
        fd_close(launch->bind_fds[i]);
    fd_close(launch->socks[0]);
    fd_close(launch->socks[1]);
    free(launch->bind_fds);
    free(launch->kept);
    free(launch->passed);
}

int sandbox_rootfs_mount(const struct sandbox_rootfs *rootfs, uid_t root_uid, gid_t root_gid, struct err *err)
{
    if (rootfs->kind == SANDBOX_ROOTFS_MOUNT)
        return fd_dup(rootfs->tree_fd, err);
    // An image without layers (only settings) is nothing but its upper folder.
    bool bare = rootfs->kind == SANDBOX_ROOTFS_LAYERS && rootfs->lower_len == 0 && rootfs->upper_fd >= 0;
    if (rootfs->kind == SANDBOX_ROOTFS_TREE || bare) {
        _cleanup_close_ int fd = mount_clone(bare ? rootfs->upper_fd : rootfs->tree_fd, rootfs->recursive, err);
        if (fd < 0 || mount_attr(fd, 0, 0, MS_PRIVATE, rootfs->recursive, err) < 0)
            return err_wrap(err, "rootfs");
        return take_fd(&fd);
    }
    struct mount_overlay overlay = { .lower_fds = rootfs->lower_fds, .lower_len = rootfs->lower_len,
                                     .upper_fd = rootfs->upper_fd, .work_fd = rootfs->work_fd,
                                     .ephemeral = rootfs->ephemeral, .root_uid = root_uid, .root_gid = root_gid };
    // Without an upper an overlay needs two lowers: one layer alone is the tree itself.
    if (rootfs->upper_fd < 0 && rootfs->lower_len == 1) {
        _cleanup_close_ int fd = mount_clone(rootfs->lower_fds[0], false, err);
        if (fd < 0 || mount_attr(fd, MOUNT_ATTR_RDONLY, 0, MS_PRIVATE, false, err) < 0)
            return err_wrap(err, "rootfs");
        return take_fd(&fd);
    }
    return mount_overlay(&overlay, MOUNT_OVERLAY_ANY, err);
}

// Clones are made here because the kernel lets only the owner of a mount namespace clone its mounts.
static int clone_binds(const struct sandbox_plan *plan, struct launch *launch, struct err *err)
{
    launch->bind_fds = mem_alloc((plan->bind_len + 1) * sizeof(int));
    for (size_t i = 0; i < plan->bind_len; i++) {
        const struct plan_bind *bind = &plan->binds[i];
        int fd = bind->in_child ? -1 : clone_bind(bind, bind->source_fd, err);
        if (fd < 0 && !bind->in_child)
            return err_wrap(err, "bind %s", bind->target);
        launch->bind_fds[launch->bind_len++] = fd;
    }
    return 0;
}

static int ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void keep(struct launch *launch, int fd)
{
    if (fd >= 3)
        launch->kept[launch->child.kept_len++] = fd;
}

static void list_kept(const struct sandbox_plan *plan, const struct sandbox_stdio *stdio, struct launch *launch)
{
    struct child *child = &launch->child;
    launch->kept = mem_alloc((plan->bind_len + child->join_len + plan->op_len + plan->keep_len + 32) * sizeof(int));
    keep(launch, launch->socks[1]);
    keep(launch, launch->rootfs_fd);
    keep(launch, plan->init_fd);
    keep(launch, plan->start_fd);
    keep(launch, plan->report_fd);
    for (size_t i = 0; i < plan->before.join_len; i++)
        keep(launch, plan->before.join_fds[i]);
    if (!stdio->terminal) {
        keep(launch, stdio->in);
        keep(launch, stdio->out);
        keep(launch, stdio->error);
    }
    for (size_t i = 0; i < plan->keep_len; i++)
        keep(launch, plan->keep_fds[i]);
    for (size_t i = 0; i < launch->bind_len; i++)
        keep(launch, launch->bind_fds[i]);
    for (size_t i = 0; i < child->join_len; i++)
        keep(launch, child->join_fds[i]);
    for (size_t i = 0; i < plan->op_len; i++)
        if (plan->ops[i].type == OP_JOIN_NAMESPACE || plan->ops[i].type == OP_FILESYSTEM)
            keep(launch, plan->ops[i].fd);
    qsort(launch->kept, child->kept_len, sizeof(int), ascending);
    child->kept_fds = launch->kept;
}

static int prepare(const struct sandbox_plan *plan, const struct sandbox_stdio *stdio, struct launch *launch,
                   struct err *err)
{
    struct child *child = &launch->child;
    launch->rootfs_fd = launch->socks[0] = launch->socks[1] = -1;
    bool by_child = plan->config && plan->config->rootless;
    if (plan->init_pidfd < 0 && !by_child && (launch->rootfs_fd = sandbox_rootfs_mount(&plan->rootfs, plan->root_uid, plan->root_gid, err)) < 0)
        return -1;
    if (plan->root_fd > 0 && (launch->rootfs_fd = fd_dup(plan->root_fd, err)) < 0)
        return -1;
    if (clone_binds(plan, launch, err) < 0 || fd_socketpair(SOCK_SEQPACKET, launch->socks, err) < 0)
        return -1;
    if (plan->cgroup && cgroup_self_join_fds(plan->cgroup, child->join_fds, &child->join_len, err) < 0)
        return -1;
    if (child->join_len + plan->join_len > ARRAY_LEN(child->join_fds))
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %zu groups to join", ARRAY_LEN(child->join_fds));
    for (size_t i = 0; i < plan->join_len; i++)
        child->join_fds[child->join_len++] = plan->join_fds[i];
    child->plan = plan;
    child->stdio = stdio;
    child->rootfs_fd = launch->rootfs_fd;
    child->bind_fds = launch->bind_fds;
    child->sock = launch->socks[1];
    child->root_fd = child->null_fd = child->mask_fd = child->slave_fd = child->init_fd = -1;
    child->start_fd = child->report_fd = child->last_mount = -1;
    for (int i = 0; i < SLOT_COUNT; i++)
        child->slots[i] = -1;
    child->passed_fds = launch->passed = mem_alloc((plan->keep_len + 1) * sizeof(int));
    for (size_t i = 0; i < plan->keep_len; i++)
        launch->passed[i] = plan->keep_fds[i];
    list_kept(plan, stdio, launch);
    return 0;
}

// ---- the clone ------------------------------------------------------------------------------------------------------

// A process in the container's pid namespace can see the child before it has dropped its rights: not dumpable, it can be
// neither traced nor read through /proc. The flag is inherited with the clone and falls with the exec.
static pid_t clone_hidden(const struct sandbox_plan *plan, struct launch *launch, int *pidfd)
{
    int clone_fd = plan->cgroup ? cgroup_clone_fd(plan->cgroup) : -1;
    struct clone_args args = { .flags = plan->clone_flags | CLONE_PIDFD | (clone_fd >= 0 ? CLONE_INTO_CGROUP : 0),
                               .pidfd = (uint64_t)(uintptr_t)pidfd,
                               .exit_signal = SIGCHLD,
                               .cgroup = clone_fd >= 0 ? (uint64_t)clone_fd : 0 };
    struct clone_args first = { .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = SIGCHLD };
    int dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    pid_t pid = (pid_t)syscall(SYS_clone3, plan->before.needed ? &first : &args, sizeof(args));
    if (pid == 0 && plan->before.needed)
        before_run(&launch->child, &args);
    if (pid == 0)
        child_run(&launch->child);
    int number = errno;
    if (dumpable == 1)
        prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    errno = number;
    return pid;
}

// Children of this thread are born into another pid namespace while setns() says so; then it is set back. So the process
// is a real child of ours, with a pidfd, and nobody stands between.
static int clone_child(const struct sandbox_plan *plan, struct launch *launch, struct sandbox *sandbox, struct err *err)
{
    _cleanup_close_ int own = -1;
    if (plan->pidns_fd >= 0) {
        own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
        if (own < 0 || setns(plan->pidns_fd, CLONE_NEWPID) < 0)
            return err_errno(err, errno, "join pid namespace");
    }
    sandbox->pid = clone_hidden(plan, launch, &sandbox->pidfd);
    int number = errno;
    if (own >= 0 && setns(own, CLONE_NEWPID) < 0)
        return err_errno(err, errno, "return to the own pid namespace");
    return sandbox->pid >= 0 ? 0 : err_errno(err, number, "clone");
}

static void reap(struct sandbox *sandbox)
{
    siginfo_t info;
    while (!sandbox->reaped && waitid(P_PIDFD, (id_t)sandbox->pidfd, &info, WEXITED) < 0 && errno == EINTR)
        ;
    sandbox->reaped = true;
}

static int died(struct sandbox *sandbox, struct err *err)
{
    siginfo_t info = { 0 };
    while (waitid(P_PIDFD, (id_t)sandbox->pidfd, &info, WEXITED) < 0 && errno == EINTR)
        ;
    sandbox->reaped = true;
    if (info.si_code == CLD_KILLED && info.si_status == SIGKILL)
        return err_set(err, ERR_RESOURCE_EXHAUSTED,
                       "the container's process was killed while it was being set up (memory limit too low?)");
    return err_set(err, ERR_INTERNAL, "the container's process ended while it was being set up");
}

// One message; 0 at the end of the conversation.
static int receive(struct sandbox *sandbox, struct message *message, int *fd, struct err *err)
{
    size_t fd_len = 1;
    *fd = -1;
    ssize_t size = fd_recv(sandbox->sock, message, sizeof(*message), fd, &fd_len, err);
    if (size < 0)
        return -1;
    if (fd_len == 0)
        *fd = -1;
    if (size != 0 && size != sizeof(*message))
        return err_set(err, ERR_INTERNAL, "broken message from the container's process");
    message->err.message[sizeof(message->err.message) - 1] = '\0';
    return size > 0;
}

// The process between has cloned the child, a child of ours, and is gone.
static int adopt(struct sandbox *sandbox, pid_t pid, struct err *err)
{
    reap(sandbox);
    fd_close(sandbox->pidfd);
    sandbox->pid = pid;
    sandbox->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    sandbox->reaped = sandbox->pidfd < 0;
    return sandbox->pidfd >= 0 ? 0 : err_errno(err, errno, "pidfd_open");
}

static int stage(const struct sandbox_plan *plan, struct sandbox *sandbox, enum sandbox_stage which, int fd, struct err *err)
{
    char word = 1;
    if (which == SANDBOX_STAGE_LISTENER && plan->take_listener) {
        if (plan->take_listener(fd, sandbox->pid, plan->stage_context, err) < 0)
            return -1;
        return fd_write_full(sandbox->sock, &word, 1, err);
    }
    if (!plan->at_stage)
        return err_set(err, ERR_INTERNAL, "the child stopped for nobody");
    if (plan->at_stage(which, sandbox->pid, fd, plan->stage_context, err) < 0)
        return -1;
    return fd_write_full(sandbox->sock, &word, 1, err);
}

// 1: that was the last one.
static int handle(const struct sandbox_plan *plan, struct sandbox *sandbox, const struct message *message, int *fd,
                  int *master_fd, struct err *err)
{
    switch (message->type) {
    case MESSAGE_READY:
        return 1;
    case MESSAGE_MASTER:
        if (*master_fd < 0)
            *master_fd = take_fd(fd);
        return 0;
    case MESSAGE_STAGE:
        return stage(plan, sandbox, (enum sandbox_stage)message->value, *fd, err);
    case MESSAGE_CHILD:
        return plan->before.needed ? adopt(sandbox, (pid_t)message->value, err) : 0;
    case MESSAGE_ERROR:
        reap(sandbox);
        if (err)
            *err = message->err;
        return -1;
    }
    return err_set(err, ERR_INTERNAL, "unknown message from the container's process");
}

static int wait_ready(const struct sandbox_plan *plan, struct sandbox *sandbox, int *master_fd, struct err *err)
{
    for (;;) {
        struct message message;
        int fd, got = receive(sandbox, &message, &fd, err);
        if (got <= 0)
            return got < 0 ? -1 : died(sandbox, err);
        got = handle(plan, sandbox, &message, &fd, master_fd, err);
        fd_close(fd);
        if (got != 0)
            return got < 0 ? -1 : 0;
    }
}

// The process may open them anew by /proc, and its root give them away.
static int give_streams(const struct sandbox_plan *plan, const struct sandbox_stdio *stdio, struct err *err)
{
    const int fds[] = { stdio->in, stdio->out, stdio->error };
    struct stat st;
    for (size_t i = 0; i < ARRAY_LEN(fds) && plan->root_uid && !stdio->terminal; i++)
        if (fstat(fds[i], &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) && fchown(fds[i], plan->root_uid, plan->root_gid) < 0)
            return err_errno(err, errno, "stream %zu", i);
    return 0;
}

static int launch_plan(const struct sandbox_plan *plan, const struct sandbox_stdio *stdio, struct sandbox **out,
                       int *master_fd, struct err *err)
{
    if (plan->terminal != stdio->terminal)
        return err_set(err, ERR_INVALID_ARGUMENT, "the process and its streams disagree about a terminal");
    struct launch launch = { .rootfs_fd = -1 };
    struct sandbox *sandbox = mem_new(struct sandbox);
    int master = -1;
    sandbox->pidfd = sandbox->sock = -1;
    int result = give_streams(plan, stdio, err) < 0 ? -1 : prepare(plan, stdio, &launch, err);
    if (result == 0)
        result = clone_child(plan, &launch, sandbox, err);
    if (result == 0)
        sandbox->sock = take_fd(&launch.socks[0]);
    launch_done(&launch);
    if (result == 0)
        result = wait_ready(plan, sandbox, &master, err);
    if (result < 0) {
        fd_close(master);
        sandbox_free(sandbox);
        return -1;
    }
    if (master_fd)
        *master_fd = master;
    else
        fd_close(master);
    *out = sandbox;
    return 0;
}

int sandbox_create(const struct sandbox_plan *plan, const struct sandbox_stdio *stdio, struct sandbox **out,
                   int *master_fd, struct err *err)
{
    return launch_plan(plan, stdio, out, master_fd, err);
}

int sandbox_start(struct sandbox *sandbox, struct err *err)
{
    char word = 1;
    struct message message;
    if (sandbox->sock < 0)
        return err_set(err, ERR_CONFLICT, "already started");
    if (fd_write_full(sandbox->sock, &word, 1, err) < 0)
        return err_wrap(err, "start");
    int fd, got = receive(sandbox, &message, &fd, err);
    fd_close(fd);
    fd_close(take_fd(&sandbox->sock));
    if (got <= 0)
        return got;
    reap(sandbox);
    if (err)
        *err = message.err;
    return -1;
}

int sandbox_adopt(pid_t pid, struct sandbox **out, struct err *err)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return err_errno(err, errno, "pidfd_open");
    *out = mem_new(struct sandbox);
    **out = (struct sandbox){ .pid = pid, .pidfd = pidfd, .sock = -1 };
    return 0;
}

pid_t sandbox_pid(const struct sandbox *sandbox)
{
    return sandbox->pid;
}

int sandbox_pidfd(const struct sandbox *sandbox)
{
    return sandbox->pidfd;
}

int sandbox_wait(struct sandbox *sandbox, int *exit_code, struct err *err)
{
    siginfo_t info = { 0 };
    if (sandbox->reaped)
        return err_set(err, ERR_CONFLICT, "already waited for");
    while (waitid(P_PIDFD, (id_t)sandbox->pidfd, &info, WEXITED) < 0)
        if (errno != EINTR)
            return err_errno(err, errno, "wait");
    sandbox->reaped = true;
    *exit_code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
    return 0;
}

void sandbox_free(struct sandbox *sandbox)
{
    if (!sandbox)
        return;
    if (sandbox->pidfd >= 0 && !sandbox->reaped) {
        syscall(SYS_pidfd_send_signal, sandbox->pidfd, SIGKILL, NULL, 0);
        reap(sandbox);
    }
    fd_close(sandbox->pidfd);
    fd_close(sandbox->sock);
    free(sandbox);
}

void sandbox_release(struct sandbox *sandbox)
{
    if (!sandbox)
        return;
    fd_close(sandbox->pidfd);
    fd_close(sandbox->sock);
    free(sandbox);
}

int sandbox_leave(struct sandbox *sandbox, struct err *err)
{
    char word = 1;
    if (fd_write_full(sandbox->sock, &word, 1, err) < 0) {
        sandbox_free(sandbox);
        return -1;
    }
    sandbox_release(sandbox);
    return 0;
}

int sandbox_exec(int init_pidfd, struct cgroup *cgroup, const struct sandbox_exec *exec,
                 const struct sandbox_stdio *stdio, struct sandbox **out, int *master_fd, struct err *err)
{
    struct sandbox_plan *plan = NULL;
    if (plan_exec(exec, init_pidfd, cgroup, &plan, err) < 0)
        return -1;
    int result = launch_plan(plan, stdio, out, master_fd, err);
    sandbox_plan_free(plan);
    return result;
}
