#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/num.h"
#include "base/slice.h"
#include "kernel/abi.h"
#include "oci/oci_private.h"

// ---- the process ----------------------------------------------------------------------------------------------------

// Strictly digits: an id that reads as something else must never become another user's.
static int parse_id(const char *text, size_t size, const char *what, int64_t *out, struct err *err)
{
    uint64_t value;
    if (!num_parse_u64((struct slice){ text, size }, (uint64_t)UINT32_MAX - 1, &value))
        return err_set(err, ERR_INVALID_ARGUMENT, "parsing %.*s as int for %s failed", (int)MIN_OF(size, (size_t)60), text, what);
    *out = (int64_t)value;
    return 0;
}

static int set_user(const struct args *args, struct oci_user *user, struct err *err)
{
    const char *text = args_text(args, "user");
    if (str_empty(text))
        return 0;
    const char *colon = strchr(text, ':');
    if (colon && parse_id(colon + 1, strlen(colon + 1), "gid", &user->gid, err) < 0)
        return -1;
    return parse_id(text, colon ? (size_t)(colon - text) : strlen(text), "uid", &user->uid, err);
}

static int add_groups(struct call *call, struct oci_user *user, struct err *err)
{
    const struct strv *list = args_list(&call->args, "additional-gids");
    for (size_t i = 0; i < list->len; i++) {
        int64_t gid = 0;
        if (list->items[i][0] == '-')
            return err_set(err, ERR_INVALID_ARGUMENT, "additional-gids must be a positive number %s", list->items[i]);
        if (parse_id(list->items[i], strlen(list->items[i]), "additional-gids", &gid, err) < 0)
            return -1;
        if (!user->additional_gids_raw)
            return err_set(err, ERR_INTERNAL, "no list of groups");
        json_array_append_new(user->additional_gids_raw, json_integer(gid));
    }
    return 0;
}

static void add_caps(struct call *call, struct oci_process *process)
{
    const struct strv *list = args_list(&call->args, "cap");
    if (!list->len)
        return;
    if (!process->capabilities)
        process->capabilities = arena_alloc(&call->arena, sizeof(*process->capabilities));
    // Not the inheritable set: what is added there would outlive a change of user.
    struct oci_capabilities *caps = process->capabilities;
    struct strv *sets[] = { &caps->bounding, &caps->effective, &caps->permitted, &caps->ambient };
    for (size_t s = 0; s < ARRAY_LEN(sets); s++) {
        struct strv merged = { 0 };
        for (size_t i = 0; i < sets[s]->len; i++)
            strv_push_arena(&merged, &call->arena, sets[s]->items[i]);
        for (size_t i = 0; i < list->len; i++)
            strv_push_arena(&merged, &call->arena, list->items[i]);
        *sets[s] = merged;
    }
}

static void add_env(struct call *call, struct oci_process *process)
{
    const struct strv *list = args_list(&call->args, "env");
    struct strv merged = { 0 };
    for (size_t i = 0; i < process->env.len; i++)
        strv_push_arena(&merged, &call->arena, process->env.items[i]);
    for (size_t i = 0; i < list->len; i++)
        strv_push_arena(&merged, &call->arena, list->items[i]);
    process->env = merged;
}

// The container's own process, with what the flags say.
static int process_from_flags(struct call *call, const struct container *container, struct oci_process *out, struct err *err)
{
    const struct args *args = &call->args;
    *out = *container->config.process;
    out->args = (struct strv){ 0 };
    for (size_t i = 1; i < args->words.len; i++)
        strv_push_arena(&out->args, &call->arena, args->words.items[i]);
    if (!str_empty(args_text(args, "cwd")))
        out->cwd = (char *)args_text(args, "cwd");
    if (!str_empty(args_text(args, "apparmor")))
        out->apparmor_profile = (char *)args_text(args, "apparmor");
    if (!str_empty(args_text(args, "process-label")))
        out->selinux_label = (char *)args_text(args, "process-label");
    out->terminal = args_flag(args, "tty");
    if (args_given(args, "no-new-privs"))
        out->no_new_privileges = args_flag(args, "no-new-privs");
    add_caps(call, out);
    add_env(call, out);
    json_t *groups = json_array();
    if (out->user.additional_gids_raw)
        json_array_extend(groups, out->user.additional_gids_raw);
    out->user.additional_gids_raw = groups; // lives until the program ends
    return set_user(args, &out->user, err) < 0 ? -1 : add_groups(call, &out->user, err);
}

static int read_process(struct call *call, const struct container *container, json_t **document, struct oci_process *out,
                        struct err *err)
{
    const char *path = args_text(&call->args, "process");
    if (str_empty(path))
        return process_from_flags(call, container, out, err);
    _cleanup_buf_ struct buf text = BUF_INIT(DOCUMENT_MAX);
    if (document_read(path, &text, document, err) < 0)
        return -1;
    if (oci_process_decode(*document, out, &call->arena, err) < 0)
        return err_wrap(err, "%s", path);
    // What belongs to the container as a whole holds for what is added to it.
    if (out->keep_oom_score && !container->config.process->keep_oom_score) {
        out->keep_oom_score = false;
        out->oom_score_adj = container->config.process->oom_score_adj;
    }
    return 0;
}

// ---- running it -----------------------------------------------------------------------------------------------------

static bool has_own(const struct container *container, pid_t pid, const char *kind)
{
    char path[64];
    struct stat own, other;
    snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, kind);
    if (stat(path, &other) < 0)
        return false;
    snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
    return stat(path, &own) == 0 && own.st_ino != other.st_ino;
}

// A user may join a namespace only from the rights over it; those that are the host's it has already.
static uint64_t own_namespaces(const struct container *container, pid_t pid)
{
    static const struct {
        const char *kind;
        uint64_t flag;
    } kinds[] = { { "mnt", CLONE_NEWNS },   { "ipc", CLONE_NEWIPC },       { "uts", CLONE_NEWUTS },
                  { "net", CLONE_NEWNET }, { "cgroup", CLONE_NEWCGROUP }, { "time", CLONE_NEWTIME } };
    uint64_t flags = 0;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        flags |= has_own(container, pid, kinds[i].kind) ? kinds[i].flag : 0;
    return flags;
}

static int finish(struct call *call, const struct container *container, struct sandbox *sandbox, int master_fd, bool detach, struct err *err)
{
    const char *console = args_text(&call->args, "console-socket"), *pid_file = args_text(&call->args, "pid-file");
    if (!container->config.process->exec_cpu_affinity)
        process_all_cpus(sandbox_pid(sandbox));
    if (rdt_join(container, sandbox_pid(sandbox), err) < 0)
        return -1;
    if (master_fd >= 0 && !str_empty(console) && send_console(console, master_fd, err) < 0)
        return -1;
    if (!str_empty(pid_file) && write_pid_file(pid_file, sandbox_pid(sandbox), err) < 0)
        return -1;
    if (!detach)
        foreground_terminal(master_fd);
    if (sandbox_start(sandbox, err) < 0)
        return -1;
    return detach ? 0 : foreground(sandbox, master_fd, &call->exit_code, err);
}

// Of a container in the caller's mount namespace only a chroot tells where it is.
static int open_root(pid_t pid, struct err *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/root", (int)pid);
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 ? fd : err_errno(err, errno, "%s", path);
}

static int give_listener(int listener_fd, pid_t pid, void *context, struct err *err)
{
    return seccomp_send_listener(context, pid, listener_fd, err);
}

static int launch(struct call *call, struct container *container, struct oci_process *process, struct err *err)
{
    bool detach = args_flag(&call->args, "detach");
    struct cgroup *cgroup = NULL;
    struct sandbox *sandbox = NULL;
    struct subgroups subgroups = { .len = 0 };
    _cleanup_close_ int master_fd = -1;
    pid_t pid = (pid_t)container->pid;
    _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0 || !container_alive(container))
        return err_set(err, ERR_CONFLICT, "cannot exec in a stopped container");
    struct sandbox_exec exec = { .process = process, .exact = true, .join_user = has_own(container, pid, "user"),
                                 .join_time = has_own(container, pid, "time"), .rootless = call->rootless, .inside_users = call->inside_users,
                                 .namespaces = call->rootless || call->inside_users ? own_namespaces(container, pid) : 0,
                                 .take_listener = give_listener, .context = container };
    const struct sandbox_stdio stdio = { .terminal = process->terminal, .in = 0, .out = 1, .error = 2 };
    _cleanup_close_ int root_fd = config_namespace(&container->config, "mount") ? -1 : open_root(pid, err);
    if (root_fd < 0 && err->class)
        return -1;
    exec.root_fd = root_fd < 0 ? 0 : root_fd;
    exec.personality = container->config.linux_section->personality;
    if (seccomp_of(&container->config, process, &call->arena, &exec.filter, err) < 0 ||
        read_preserved(&call->args, &call->arena, process, &exec.keep_fds, &exec.keep_len, err) < 0 ||
        container_cgroup(container, &cgroup, err) < 0)
        return -1;
    const struct strv *wanted = args_list(&call->args, "cgroup");
    if (subgroups_enter(&cgroup, wanted, pid, err) < 0 || (wanted->len && (!cgroup || subgroups_read(cgroup, wanted, &subgroups, err) < 0))) {
        subgroups_done(&subgroups);
        cgroup_free(cgroup);
        return err->class ? -1 : err_set(err, ERR_NOT_IMPLEMENTED, "the container has no cgroup");
    }
    exec.join_fds = subgroups.fds;
    exec.join_len = subgroups.len;
    log_debug_line("nsexec container setup");
    log_debug_line("child process in init()");
    int result = sandbox_exec(pidfd, cgroup, &exec, &stdio, &sandbox, &master_fd, err);
    cgroup_free(cgroup);
    subgroups_done(&subgroups);
    if (result < 0)
        err_wrap(err, "unable to start container process");
    else
        log_debug_line("setns_init: about to exec");
    if (result == 0)
        result = finish(call, container, sandbox, master_fd, detach, err);
    if (result == 0 && detach)
        sandbox_release(sandbox);
    else
        sandbox_free(sandbox);
    return result;
}

static int check_status(struct call *call, struct container *container, struct err *err)
{
    enum status status = container_status(container);
    if (status == STATUS_STOPPED || status == STATUS_CREATING)
        return err_set(err, ERR_CONFLICT, "cannot exec in a stopped container");
    if (status == STATUS_PAUSED && !args_flag(&call->args, "ignore-paused"))
        return err_set(err, ERR_CONFLICT, "cannot exec in a paused container (use --ignore-paused to override)");
    if (str_empty(args_text(&call->args, "process")) && call->args.words.len == 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "process args cannot be empty");
    return 0;
}

int verb_exec(struct call *call, struct err *err)
{
    struct container container = CONTAINER_NONE;
    struct oci_process process;
    json_t *document = NULL;
    call->exit_code = 255; // of every failure of ours
    int result = container_load(call, call->args.words.items[0], &container, err);
    if (result == 0 && (result = check_status(call, &container, err)) == 0)
        result = container_load_config(&container, err);
    if (result == 0 && (result = read_process(call, &container, &document, &process, err)) == 0)
        result = process_check(&process, err);
    if (result == 0 && (result = check_terminal(&process, args_flag(&call->args, "detach"), args_text(&call->args, "console-socket"), err)) == 0) {
        call->exit_code = 0;
        warn_unknown_caps(&process);
        if ((result = launch(call, &container, &process, err)) < 0)
            call->exit_code = 255;
    }
    json_decref(document);
    container_done(&container);
    return result < 0 ? err_wrap(err, "exec failed") : 0;
}
