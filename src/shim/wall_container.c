// The thin wall: every process is a sandbox of its own, and a child of ours. All its verbs are answered at once.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>

#include "shim/checkpoint.h"
#include "shim/hooks.h"
#include "shim/resolver.h"
#include "shim/wall.h"

static int container_check(const struct shim *shim, const struct task_document *document, struct err *err)
{
    if (document->vm)
        return err_set(err, ERR_INVALID_ARGUMENT, "vm: the isolation is not vm");
    if (document->init && shim->init_fd < 0)
        return err_set(err, ERR_NOT_IMPLEMENTED, "init: this daemon has no berth-init");
    return 0;
}

static bool makes_pid_namespace(const struct oci_linux *section)
{
    const struct oci_namespace *namespaces = section->namespaces.items;
    for (size_t i = 0; i < section->namespaces.len; i++) {
        if (str_eq(namespaces[i].type, "pid") && str_empty(namespaces[i].path))
            return true;
    }
    return false;
}

// ---- the process ----------------------------------------------------------------------------------------------------

static void process_exited(void *context, int fd, uint32_t events)
{
    struct unit *unit = context;
    struct shim *shim = unit->shim;
    int exit_code = 255;
    loop_remove(take_ptr(&unit->exit_source));
    if (sandbox_wait(unit->sandbox, &exit_code, NULL) < 0)
        exit_code = 255;
    sandbox_free(take_ptr(&unit->sandbox));
    if (unit_is_init(unit) && !shim->own_pid_namespace && shim->cgroup)
        cgroup_kill(shim->cgroup, NS_PER_S, NULL); // nothing else ends what the first process left behind
    if (unit_is_init(unit))
        hooks_stopped(shim);
    unit_exited(unit, exit_code);
}

int wall_watch(struct unit *unit, struct err *err)
{
    return loop_add_fd(unit->shim->loop, sandbox_pidfd(unit->sandbox), EPOLLIN, process_exited, unit, &unit->exit_source, err);
}

// The sandbox's with the terminal and (on success) the clients.
int wall_adopt(struct request *request, struct unit *unit, struct sandbox *sandbox, int master_fd,
                 const struct task_stdio *wish, struct err *err)
{
    unit->sandbox = sandbox;
    unit->pid = sandbox_pid(sandbox);
    if (stdio_begin(&unit->stdio, master_fd, wish, err) < 0)
        return -1;
    unit_take_clients(unit, &request->clients);
    return 0;
}

static int adopt(struct request *request, struct unit *unit, struct sandbox *sandbox, int master_fd, const struct task_stdio *wish, struct err *err)
{
    return wall_adopt(request, unit, sandbox, master_fd, wish, err) < 0 ? -1 : wall_watch(unit, err);
}

// ---- create and start -----------------------------------------------------------------------------------------------

static int make_plan(struct request *request, const struct task_document *document, struct hooks *hooks, struct fd_list *opened,
                     struct sandbox_plan **out, struct err *err)
{
    struct shim *shim = request->shim;
    struct sandbox_spec spec;
    if (rootfs_spec(document, &request->fds, shim->container_fd, &request->arena, opened, &spec, err) < 0)
        return -1;
    shim->root_uid = spec.users ? spec.users->root_uid : 0;
    shim->root_gid = spec.users ? spec.users->root_gid : 0;
    spec.netns_fd = shim->netns_fd;
    spec.cgroup = shim->cgroup;
    spec.init_fd = document->init ? shim->init_fd : -1;
    if (document->hooks) {
        if (hooks_prepare(shim, document, &request->arena, hooks, err) < 0)
            return -1;
        shim->hooked = true;
        spec.hooks = &hooks->config;
    }
    return sandbox_plan_new(&spec, out, err);
}

static void plan_cleanup(struct sandbox_plan **plan)
{
    sandbox_plan_free(*plan);
}

// Ours is inherited, and ours is that of a process which must not be chosen. The child still waits for its start.
static void lend_oom_score(pid_t pid, int64_t score)
{
    char path[64], text[32];
    snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
    snprintf(text, sizeof(text), "%lld", (long long)score);
    file_put(AT_FDCWD, path, text, NULL);
}

static int container_create(struct request *request, const struct task_document *document, struct err *err)
{
    struct shim *shim = request->shim;
    struct unit *unit = shim->init;
    _cleanup_(fd_list_done) struct fd_list opened = { 0 };
    _cleanup_(plan_cleanup) struct sandbox_plan *plan = NULL;
    _cleanup_(stdio_ends_done) struct stdio_ends ends = STDIO_ENDS_NONE;
    struct checkpoint_wish wish;
    struct hooks hooks;
    shim->own_pid_namespace = makes_pid_namespace(&document->linux_section);
    int from_checkpoint = checkpoint_wish(request, &wish, err);
    if (from_checkpoint)
        return from_checkpoint < 0 ? -1 : restore_create(request, document, &wish, err);
    if (make_plan(request, document, &hooks, &opened, &plan, err) < 0 ||
        stdio_open(&unit->stdio, &document->stdio, false, &ends, err) < 0)
        return -1;
    struct sandbox_stdio stdio = { document->stdio.terminal, ends.in, ends.out, ends.error };
    struct sandbox *sandbox;
    int master_fd = -1;
    if (sandbox_create(plan, &stdio, &sandbox, &master_fd, err) < 0)
        return -1;
    if (shim->root_uid)
        lend_oom_score(sandbox_pid(sandbox), document->process.oom_score_adj);
    return adopt(request, unit, sandbox, master_fd, &document->stdio, err);
}

static int container_start(struct request *request, struct err *err)
{
    struct shim *shim = request->shim;
    if (shim->aide)
        return restore_start(request, err);
    if (sandbox_start(shim->init->sandbox, err) < 0)
        return -1;
    hooks_started(shim);
    return 0;
}

// ---- exec -----------------------------------------------------------------------------------------------------------

static int container_exec(struct request *request, const struct task_exec *exec, struct err *err)
{
    struct shim *shim = request->shim;
    struct unit *unit = request->unit;
    _cleanup_(stdio_ends_done) struct stdio_ends ends = STDIO_ENDS_NONE;
    if (stdio_open(&unit->stdio, &exec->stdio, !request->clients, &ends, err) < 0)
        return -1;
    struct sandbox_exec wish = { .process = &exec->process, .seccomp_profile = task_exec_seccomp(exec),
                                 .join_user = shim->root_uid != 0, .root_uid = shim->root_uid, .root_gid = shim->root_gid };
    struct sandbox_stdio stdio = { exec->stdio.terminal, ends.in, ends.out, ends.error };
    struct sandbox *sandbox;
    int master_fd = -1;
    if (sandbox_exec(sandbox_pidfd(shim->init->sandbox), shim->cgroup, &wish, &stdio, &sandbox, &master_fd, err) < 0)
        return -1;
    lend_oom_score(sandbox_pid(sandbox), exec->process.oom_score_adj);
    // Started before the clients are touched: a failure must leave their connections whole.
    if (sandbox_start(sandbox, err) < 0) {
        sandbox_free(sandbox);
        fd_close(master_fd);
        return -1;
    }
    unit->state = UNIT_RUNNING;
    unit->started_ns = clock_wall_ns();
    return adopt(request, unit, sandbox, master_fd, &exec->stdio, err);
}

// ---- the living -----------------------------------------------------------------------------------------------------

static int container_signal(struct request *request, struct unit *unit, int number, struct err *err)
{
    if (!unit->sandbox)
        return err_set(err, ERR_CONFLICT, "the process is not there yet");
    if (syscall(SYS_pidfd_send_signal, sandbox_pidfd(unit->sandbox), number, NULL, 0) == 0)
        return 0;
    if (errno == ESRCH)
        return err_set(err, ERR_CONFLICT, "process already finished");
    return err_errno(err, errno, "signal %d", number);
}

static int container_signal_all(struct request *request, int number, struct err *err)
{
    struct shim *shim = request->shim;
    if (!shim->cgroup)
        return container_signal(request, shim->init, number, err);
    return cgroup_signal_all(shim->cgroup, number, err);
}

static int container_resize(struct request *request, struct unit *unit, int64_t height, int64_t width, struct err *err)
{
    return stdio_resize(&unit->stdio, height, width, err);
}

static int container_root(struct request *request, struct err *err)
{
    int tree_fd;
    if (sandbox_tree(sandbox_pidfd(request->shim->init->sandbox), "/", &tree_fd, err) < 0)
        return -1;
    fd_list_add(&request->fds, tree_fd);
    request->reply_fds[request->reply_fd_len++] = tree_fd;
    return 0;
}

static int container_files(struct request *request, struct err *err)
{
    return err_set(err, ERR_NOT_IMPLEMENTED, "a container's files are reached by its root");
}

static int container_resolver(struct request *request, struct err *err)
{
    const struct arguments *arguments = &request->arguments;
    struct resolver_config config = { .netns_fd = request->shim->netns_fd, .guest_fd = -1,
                                      .udp_fd = fd_list_get(&request->fds, arguments->udp_fd, "udp_fd", err),
                                      .tcp_fd = fd_list_get(&request->fds, arguments->tcp_fd, "tcp_fd", err) };
    if (config.udp_fd < 0 || config.tcp_fd < 0 || resolver_install(request, &config, err) < 0)
        return -1;
    request->fds.fds[arguments->udp_fd] = request->fds.fds[arguments->tcp_fd] = -1;
    return 0;
}

// With each unit goes its process.
static void container_end(struct shim *shim)
{
    aide_free(take_ptr(&shim->aide));
}

const struct wall_ops wall_container = {
    .isolation = "container",
    .check = container_check,
    .create = container_create,
    .start = container_start,
    .exec = container_exec,
    .signal = container_signal,
    .signal_all = container_signal_all,
    .resize = container_resize,
    .root = container_root,
    .files = container_files,
    .resolver = container_resolver,
    .checkpoint = checkpoint_create,
    .end = container_end,
    .forget = container_end,
};
