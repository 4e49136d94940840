// create and run: from a bundle to a process that waits, or that runs.
//
// In this order, so that a death of ours at any point leaves a folder from which delete finds the rest: the state folder,
// state.json with the cgroup's name, the cgroup, the process, state.json with its pid. Only then the process is told that
// it may wait for start without us.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "oci/oci_private.h"

struct making {
    struct call *call;
    struct container container;
    struct mount_set mounts;
    struct cgroup *cgroup;
    int rootfs_fd, start_fd, report_fd;
    struct sandbox_config config;
    struct sandbox *sandbox;
    int master_fd;
    bool run, detach;
    char *pid_file;
};

static int open_start(struct making *making, struct err *err)
{
    int dir = making->container.dir_fd;
    making->report_fd = openat(dir, "report", O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);
    if (making->report_fd < 0)
        return err_errno(err, errno, "report");
    if (mkfifoat(dir, "start", 0600) < 0 && errno != EEXIST)
        return err_errno(err, errno, "start fifo");
    making->start_fd = openat(dir, "start", O_RDWR | O_CLOEXEC);
    return making->start_fd >= 0 ? 0 : err_errno(err, errno, "start fifo");
}

// ---- what the sandbox is told ---------------------------------------------------------------------------------------

static char *escaped(struct arena *arena, const char *text)
{
    json_t *value = json_new_text(text);
    char *quoted = json_text(value), *out = arena_strdup(arena, quoted);
    free(quoted);
    json_decref(value);
    return out;
}

static void describe_state(struct container *container, struct sandbox_config *config)
{
    struct arena *arena = &container->arena;
    json_t *annotations = json_object();
    for (size_t i = 0; i < container->config.annotations.len; i++)
        json_object_set_new(annotations, container->config.annotations.items[i].key,
                            json_new_text(container->config.annotations.items[i].value));
    _cleanup_free_ char *text = json_text(annotations);
    json_decref(annotations);
    config->state_head = arena_printf(arena, "{\"ociVersion\":%s,\"id\":\"%s\",\"status\":\"", escaped(arena, container->version),
                                      container->id);
    config->state_tail = arena_printf(arena, ",\"bundle\":%s,\"annotations\":%s}", escaped(arena, container->bundle), text);
}

static int run_stage_hooks(struct making *making, struct err *err)
{
    struct oci_hooks *hooks = making->container.config.hooks;
    if (hooks_run(&making->container, &hooks->prestart, "prestart", STATUS_CREATING, err) < 0)
        return -1;
    return hooks_run(&making->container, &hooks->create_runtime, "createRuntime", STATUS_CREATING, err);
}

static int at_stage(enum sandbox_stage stage, pid_t pid, int fd, void *context, struct err *err)
{
    struct making *making = context;
    const struct oci_linux *section = making->container.config.linux_section;
    switch (stage) {
    case SANDBOX_STAGE_MAPS:
        return idmap_write(pid, &section->uid_mappings, &section->gid_mappings, making->call->rootless, err);
    case SANDBOX_STAGE_MOUNTED:
        making->container.pid = pid;
        making->container.pid_start = process_start_time(pid);
        return container_save(&making->container, err) < 0 ? -1 : run_stage_hooks(making, err);
    case SANDBOX_STAGE_LISTENER:
        making->container.pid = pid;
        return seccomp_send_listener(&making->container, pid, fd, err);
    }
    return err_set(err, ERR_INTERNAL, "unknown stage");
}

static void fill_hooks(struct making *making, struct sandbox_config *out)
{
    struct oci_hooks *hooks = making->container.config.hooks;
    struct arena *arena = &making->container.arena;
    struct config_hook *list;
    if (!hooks)
        return;
    out->runtime_hooks = hooks->prestart.len || hooks->create_runtime.len;
    hooks_convert(&hooks->create_container, arena, &list, &out->create_container_len);
    out->create_container = list;
    hooks_convert(&hooks->start_container, arena, &list, &out->start_container_len);
    out->start_container = list;
}

static int fill_config(struct making *making, struct err *err)
{
    struct call *call = making->call;
    struct container *container = &making->container;
    struct oci_config *in = &container->config;
    struct sandbox_config *out = &making->config;
    if (mounts_read(in, container->bundle, call->rootless, &container->arena, &making->mounts, err) < 0)
        return -1;
    making->rootfs_fd = open(container->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (making->rootfs_fd < 0)
        return err_errno(err, errno, "invalid rootfs: %s", container->rootfs);
    *out = (struct sandbox_config){ .process = in->process, .linux_section = in->linux_section, .hostname = in->hostname,
                                    .domainname = in->domainname, .rootfs_fd = making->rootfs_fd,
                                    .rootfs_path = container->rootfs, .rootfs_read_only = in->root->read_only,
                                    .mounts = making->mounts.mounts, .mount_len = making->mounts.len, .cgroup = making->cgroup,
                                    .no_pivot = args_flag(&call->args, "no-pivot"),
                                    .no_new_keyring = args_flag(&call->args, "no-new-keyring"), .rootless = call->rootless,
                                    .inside_users = call->inside_users,
                                    .at_stage = at_stage, .stage_context = making, .start_fd = making->start_fd,
                                    .report_fd = making->report_fd };
    if (seccomp_of(in, in->process, &container->arena, &out->filter, err) < 0)
        return -1;
    fill_hooks(making, out);
    describe_state(container, out);
    return read_preserved(&call->args, &container->arena, in->process, &out->keep_fds, &out->keep_len, err);
}

// ---- making it ------------------------------------------------------------------------------------------------------

static int prepare(struct making *making, const char *bundle, struct err *err)
{
    if (bundle_keep(making->call, &making->container, bundle, err) < 0 || (!making->run && open_start(making, err) < 0))
        return -1;
    return cgroups_make(making->call, &making->container, &making->cgroup, err) < 0 ? -1 : rdt_make(&making->container, err);
}

static int launch(struct making *making, struct err *err)
{
    struct container *container = &making->container;
    struct sandbox_plan *plan = NULL;
    const struct sandbox_stdio stdio = { .terminal = container->config.process->terminal, .in = 0, .out = 1, .error = 2 };
    if (fill_config(making, err) < 0)
        return -1;
    int mounted = host_mounts_make(container, &making->rootfs_fd, err);
    if (mounted < 0)
        return -1;
    making->config.rootfs_mounted = mounted > 0;
    making->config.rootfs_fd = making->rootfs_fd;
    if (sandbox_plan_config(&making->config, &plan, err) < 0)
        return -1;
    log_debug_line("nsexec container setup");
    int result = sandbox_create(plan, &stdio, &making->sandbox, &making->master_fd, err);
    sandbox_plan_free(plan);
    scope_end_holder(container);
    log_debug_line("child process in init()");
    if (result < 0)
        return err_wrap(err, "unable to start container process");
    container->pid = sandbox_pid(making->sandbox);
    container->pid_start = process_start_time((pid_t)container->pid);
    process_all_cpus((pid_t)container->pid);
    log_debug_line("init: closing the pipe to signal completion");
    return rdt_join(container, (pid_t)container->pid, err) < 0 ? -1 : container_save(container, err);
}

static int poststart(struct making *making, struct err *err)
{
    struct oci_hooks *hooks = making->container.config.hooks;
    return hooks ? hooks_run(&making->container, &hooks->poststart, "poststart", STATUS_RUNNING, err) : 0;
}

static int finish_run(struct making *making, struct err *err)
{
    if (!making->detach)
        foreground_terminal(making->master_fd);
    if (sandbox_start(making->sandbox, err) < 0)
        return err_wrap(err, "unable to start container process");
    if (poststart(making, err) < 0)
        return -1;
    if (making->detach) {
        sandbox_release(take_ptr(&making->sandbox));
        return 0;
    }
    fd_close(take_fd(&making->container.lock_fd)); // exec, kill and the like come while it runs
    return foreground(making->sandbox, making->master_fd, &making->call->exit_code, err);
}

static int build(struct making *making, const char *id, struct err *err)
{
    char bundle[PATH_MAX];
    struct call *call = making->call;
    making->pid_file = bundle_absolute(call, args_text(&call->args, "pid-file"));
    if (bundle_enter(call, bundle, err) < 0 || bundle_read(call, &making->container, err) < 0 ||
        check_terminal(making->container.config.process, making->detach, args_text(&call->args, "console-socket"), err) < 0 ||
        container_make(call, id, &making->container, err) < 0)
        return -1;
    warn_unknown_caps(making->container.config.process);
    if (prepare(making, bundle, err) < 0 || launch(making, err) < 0 ||
        hand_over(call, making->master_fd, making->pid_file, (pid_t)making->container.pid, err) < 0)
        return -1;
    if (making->run)
        return finish_run(making, err);
    int result = sandbox_leave(making->sandbox, err);
    making->sandbox = NULL;
    return result;
}

static int make(struct call *call, bool run, struct err *err)
{
    struct making making = { .call = call, .container = CONTAINER_NONE, .rootfs_fd = -1, .start_fd = -1, .report_fd = -1,
                             .master_fd = -1, .run = run, .detach = !run || args_flag(&call->args, "detach") };
    const char *id = call->args.words.items[0];
    int result = build(&making, id, err);
    bool over = result < 0 || (run && !making.detach && !args_flag(&call->args, "keep"));
    sandbox_free(making.sandbox);
    container_clear_away(call, &making.container, !over);
    // Memory and descriptors go with the process, which ends here: to give them back one by one costs 1 % of a run.
    return result < 0 ? err_wrap(err, "runc %s failed", run ? "run" : "create") : 0;
}

int verb_create(struct call *call, struct err *err)
{
    return make(call, false, err);
}

int verb_run(struct call *call, struct err *err)
{
    return make(call, true, err);
}

// ---- plan: what would be done ---------------------------------------------------------------------------------------

int verb_plan(struct call *call, struct err *err)
{
    struct making making = { .call = call, .container = CONTAINER_NONE, .rootfs_fd = -1, .start_fd = -1, .report_fd = -1, .master_fd = -1 };
    struct container *container = &making.container;
    struct sandbox_plan *plan = NULL;
    char bundle[PATH_MAX];
    container->id = "plan";
    container->version = (char *)SPEC_VERSION;
    int result = bundle_enter(call, bundle, err);
    if (result == 0 && (result = bundle_read(call, container, err)) == 0) {
        container->bundle = bundle;
        container->rootfs = config_rootfs(&container->config, bundle, &container->arena, err);
        result = container->rootfs ? fill_config(&making, err) : -1;
    }
    if (result == 0 && (result = sandbox_plan_config(&making.config, &plan, err)) == 0)
        sandbox_plan_print(plan, stdout);
    sandbox_plan_free(plan);
    return result;
}
