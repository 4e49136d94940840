// start: from a record to a running process, in named stages. Each stage that makes something on the host is undone by
// container_release() when a later one fails.
//
//     ports bound -> network -> cgroup -> shim up -> create (document and descriptors; a guest boots) -> start -> record
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "cargo.h"
#include "checkpoint.h"
#include "devices.h"
#include "links.h"
#include "mounts.h"
#include "namespaces.h"
#include "networks.h"
#include "steps.h"
#include "tree.h"
#include "users.h"
#include "vm.h"

#define CALL_TIMEOUT_NS (60 * NS_PER_S)
#define RESTORE_TIMEOUT_NS (600 * NS_PER_S) // memory is read from the disk
#define SHIM_TIMEOUT_NS (30 * NS_PER_S) // until its first process has handed over to the one that stays
#define BOOT_TIMEOUT_NS (120 * NS_PER_S) // a guest's boot under emulation, on a host that has much to do

// ---- cgroup ---------------------------------------------------------------------------------------------------------

static int setup_cgroup(struct container *container, const char *path, const struct oci_resources *resources,
                        struct arena *arena, struct err *err)
{
    _cleanup_(cgroup_freep) struct cgroup *cgroup = NULL; // a descriptor for each hierarchy: nobody needs them for long
    const struct host_config *host = &container->config.host_config;
    struct cgroup_limits limits;
    unsigned missing;
    task_limits(resources, arena, &limits);
    if (devices_limit(host, arena, &limits, err) < 0)
        return -1;
    if (json_is_integer(host->memory_swappiness_raw) && json_integer_value(host->memory_swappiness_raw) >= 0)
        limits.memory_swappiness = (struct cgroup_number){ true, json_integer_value(host->memory_swappiness_raw) };
    limits.oom_kill_disable = host->oom_kill_disable && !vm_wanted(host);
    if (cgroup_create(&container->engine->cgroups, path, &cgroup, err) < 0)
        return -1;
    if (cgroup_limit(cgroup, &limits, &missing, err) < 0)
        return -1;
    if (missing & CGROUP_NO_DEVICES)
        return err_set(err, ERR_UNAVAILABLE, "Devices cgroup isn't mounted");
    return 0;
}

// ---- the shim -------------------------------------------------------------------------------------------------------

// Spawned from the sealed memfd with its listening socket already open, so that connecting needs no waiting.
static int spawn_shim(struct container *container, struct process *process, struct err *err)
{
    struct engine *engine = container->engine;
    _cleanup_close_ int state_fd = -1, folder_fd = -1, listener = -1;
    if (mkdirat(engine->tasks_fd, container->id, 0700) < 0 && errno != EEXIST)
        return err_errno(err, errno, "task folder");
    if ((state_fd = file_open_dir(engine->tasks_fd, container->id, err)) < 0 ||
        (folder_fd = file_open_dir(engine->containers_fd, container->id, err)) < 0 ||
        (listener = fd_unix_listen_at(state_fd, TASK_SOCKET_NAME, err)) < 0)
        return -1;
    const int keep[] = { listener, state_fd, folder_fd, engine->init_memfd };
    const struct process_io io = { -1, -1, -1, keep, ARRAY_LEN(keep) };
    char *const argv[] = { (char *)"berth-shim", engine->id, container->id, NULL };
    char *const envp[] = { NULL };
    return process_spawn("berth-shim", engine->shim_memfd, argv, envp, &io, process, err);
}

static int connect_shim(struct container *container, struct task_client **out, struct err *err)
{
    struct engine *engine = container->engine;
    _cleanup_close_ int state_fd = file_open_dir(engine->tasks_fd, container->id, err);
    int sock = state_fd < 0 ? -1 : fd_unix_connect_at(state_fd, TASK_SOCKET_NAME, err);
    if (sock < 0)
        return -1;
    return task_client_new(sock, engine->loop, container_on_event, container_on_closed, container, out, err);
}

// ---- create and start over the seam ---------------------------------------------------------------------------------

// The next daemon learns the run's ports and addresses from it.
static int keep_document(struct container *container, const struct task_document *document, struct err *err)
{
    _cleanup_json_ json_t *form = json_encode(&task_document_table, document);
    _cleanup_free_ char *text = json_text(form);
    _cleanup_close_ int folder = file_open_dir(container->engine->containers_fd, container->id, err);
    return folder < 0 ? -1 : file_write_at(folder, "task.json", text, strlen(text), 0600, false, err);
}

static int call_create(struct container *container, struct task_client *client, const struct image *image, const struct checkpoint *checkpoint,
                       struct task_document *document, struct arena *arena, struct err *err)
{
    _cleanup_(cargo_done) struct cargo cargo = { .len = 0 };
    _cleanup_(image_layers_done) struct image_layers layers = { 0 };
    struct json_list attaches = { 0 };
    int64_t timeout_ns = checkpoint ? RESTORE_TIMEOUT_NS : document->vm ? BOOT_TIMEOUT_NS : CALL_TIMEOUT_NS;
    if (cargo_layers(container, image, arena, document, &layers, err) < 0 || keep_document(container, document, err) < 0 ||
        cargo_load(container, &layers, arena, document, &attaches, &cargo, err) < 0 || vm_boot_check(container, err) < 0)
        return -1;
    for (size_t i = 0; container->once_env && i < container->once_env->len; i++)
        strv_env_set(&document->process.env, arena, container->once_env->items[i]);
    _cleanup_json_ json_t *arguments = json_object();
    json_object_set_new(arguments, "document", json_encode(&task_document_table, document));
    json_object_set_new(arguments, "attach", json_encode_list(&task_attach_table, &attaches));
    if (checkpoint && checkpoint_load(checkpoint, &cargo, arguments, err) < 0)
        return -1;
    return task_call(client, "create", arguments, cargo.fds, cargo.len, timeout_ns, NULL, NULL, NULL, err);
}

static int call_start(struct container *container, struct task_client *client, struct err *err)
{
    _cleanup_json_ json_t *arguments = json_object(), *result = NULL;
    if (task_call(client, "start", arguments, NULL, 0, CALL_TIMEOUT_NS, &result, NULL, NULL, err) < 0)
        return -1;
    mutex_lock(&container->lock);
    free(container->state.error);
    container->state = (struct container_state){ .status = STATUS_RUNNING, .restart_count = container->state.restart_count,
                                                 .stop_wanted = container->state.stop_wanted,
                                                 .pid = json_get_int(result, "pid", 0),
                                                 .started_ns = json_get_int(result, "started_ns", clock_wall_ns()),
                                                 .finished_ns = container->state.finished_ns };
    // The listening sockets, the namespace or the tap live in the shim from here on.
    fd_close(take_fd(&container->tap_fd));
    for (size_t i = 0; i < container->port_len; i++)
        fd_close(take_fd(&container->ports[i].listener_fd));
    fd_close(take_fd(&container->netns_fd));
    mutex_unlock(&container->lock);
    run_users_free(take_ptr(&container->users));
    return 0;
}

// A client that attached before it asked for the start has its answer already, but its descriptor may still be on the way.
static void await_attaches(struct container *container)
{
    int64_t deadline = clock_mono_ns() + 5 * NS_PER_S;
    mutex_lock(&container->lock);
    while (container->attaching && cond_wait_until(&container->idle, &container->lock, deadline))
        ;
    mutex_unlock(&container->lock);
}

// ---- the verb -------------------------------------------------------------------------------------------------------

// A volatile upper that was once mounted refuses a second mount while this marker stands.
static void clear_volatile_marker(struct container *container)
{
    _cleanup_free_ char *path = mem_printf("%s/work/work/incompat", container->id);
    file_remove_tree(container->engine->containers_fd, path, NULL);
}

// What the host gives to the container, while the shim comes up beside it.
static int prepare_host(struct container *container, bool network, struct arena *arena, struct task_document *document, struct err *err)
{
    if (users_begin(container, err) < 0 || (network && namespaces_follow(container, err) < 0))
        return -1;
    if (network && endpoints_attach(container, err) < 0)
        return err_wrap(err, "failed to set up container networking");
    if ((network && names_update(container, err) < 0) || mounts_begin_use(container, err) < 0 || document_build(container, arena, document, err) < 0)
        return -1;
    struct oci_resources resources = document->linux_section.resources;
    if (document->vm)
        vm_host_limits(&container->config.host_config, document->vm, &resources);
    return setup_cgroup(container, document->linux_section.cgroups_path, &resources, arena, err);
}

// For inspect.
static void note_machine(struct container *container, const struct task_vm *vm)
{
    mutex_lock(&container->lock);
    free(container->accel);
    free(container->kernel);
    container->accel = mem_strdup(vm->accel);
    container->kernel = mem_strdup(vm->kernel);
    mutex_unlock(&container->lock);
}

static int reach_shim(struct container *container, struct process *shim, struct err *err)
{
    struct task_client *client = NULL;
    int status;
    if (process_wait_until(shim, clock_mono_ns() + SHIM_TIMEOUT_NS, &status, err) < 0)
        return err_wrap(err, "berth-shim");
    if (process_exit_code(status) != 0)
        return err_set(err, ERR_INTERNAL, "berth-shim did not start: exit code %d", process_exit_code(status));
    if (connect_shim(container, &client, err) < 0)
        return -1;
    mutex_lock(&container->lock);
    container->client = client;
    container_forget_execs(container); // of the run before
    mutex_unlock(&container->lock);
    return 0;
}

// Up to the exec: a guest is booted then.
static int create(struct container *container, const struct checkpoint *checkpoint, bool network, struct process *shim, struct arena *arena, struct err *err)
{
    struct image image;
    struct task_document document;
    struct err unreachable = { 0 };
    if (image_get_layers(container->engine->images, container->image_id, arena, &image, err) < 0 ||
        spawn_shim(container, shim, err) < 0)
        return -1;
    int prepared = prepare_host(container, network, arena, &document, err);
    // Also after a failure: only who is connected can tell the shim to end.
    int reached = reach_shim(container, shim, &unreachable);
    if (prepared < 0)
        return -1;
    if (reached < 0)
        return err_set(err, unreachable.class, "%s", unreachable.message);
    if (document.vm)
        note_machine(container, document.vm);
    clear_volatile_marker(container);
    if (call_create(container, container->client, &image, checkpoint, &document, arena, err) < 0)
        return -1;
    return document.vm ? vm_limit_processors(container, err) : 0;
}

static int launch(struct container *container, const struct checkpoint *checkpoint, struct process *shim, struct arena *arena, struct err *err)
{
    if (container_await_writers(container, false, err) < 0)
        return -1;
    vm_boot_begin(container, vm_wanted(&container->config.host_config));
    int created = create(container, checkpoint, true, shim, arena, err);
    if (vm_boot_end(container, err) < 0 || created < 0 || names_serve(container, container->netns_fd, err) < 0)
        return -1;
    return call_start(container, container->client, err);
}

// A client that waits for the container's start must not travel with this machine.
static int check_nobody_waits(struct container *container, struct err *err)
{
    mutex_lock(&container->lock);
    bool waits = container->pending || container->attaching;
    mutex_unlock(&container->lock);
    return waits ? err_set(err, ERR_CONFLICT, "container %s is being started", container->id) : 0;
}

int container_boot_aside(struct container *container, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct process shim = PROCESS_NONE;
    if (check_nobody_waits(container, err) < 0)
        return -1;
    vm_boot_begin(container, true);
    int created = create(container, NULL, false, &shim, &arena, err);
    if (vm_boot_end(container, err) < 0)
        created = -1;
    process_done(&shim);
    return created;
}

// Docker's clients tell 126 and 127 by the text; the record and /wait say the same.
static int64_t code_of_failure(struct err *err)
{
    static const struct {
        const char *text;
        int64_t code;
    } table[] = {
        { "executable file not found", 127 },
        { "no such file or directory", 127 },
        { "permission denied", 126 },
        { "is a directory", 126 },
    };
    if (err->number == ECANCELED)
        return 137; // a boot that was called off
    if (!strstr(err->message, "exec: "))
        return 128;
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (strstr(err->message, table[i].text)) {
            err->class = ERR_INVALID_ARGUMENT;
            return table[i].code;
        }
    return 128;
}

// Attached clients see the end of their stream, whether they travelled already or not.
static void record_failure(struct container *container, struct err *err)
{
    int64_t code = code_of_failure(err);
    if (code != 128)
        err_wrap(err, "failed to create task for container: unable to start container process");
    container_release(container);
    mutex_lock(&container->lock);
    free(container->state.error);
    container->state.error = mem_strdup(err->message);
    container->state.exit_code = code;
    if (container->state.status == STATUS_RESTARTING) { // what can't be started is not tried again
        container->state.status = STATUS_EXITED;
        container_finish_waiters(container, false);
    }
    container_drop_pending(container);
    mutex_unlock(&container->lock);
    record_note_state(container);
}

int container_check_startable(struct container *container, struct err *err)
{
    mutex_lock(&container->lock);
    enum container_status status = container->state.status;
    mutex_unlock(&container->lock);
    switch (status) {
    case STATUS_RUNNING:
    case STATUS_RESTARTING:
        return err_set(err, ERR_NOT_MODIFIED, "container is already running");
    case STATUS_PAUSED:
        return err_set(err, ERR_CONFLICT, "cannot start a paused container, try unpause instead");
    case STATUS_REMOVING:
        return err_set(err, ERR_CONFLICT, "container is marked for removal and cannot be started");
    default:
        return 0;
    }
}

// Needs container_begin(). A container with --rm does not outlive a failed start; the client waits for its removal.
static int start_run(struct container *container, const struct checkpoint *checkpoint, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct process shim = PROCESS_NONE;
    int result = launch(container, checkpoint, &shim, &arena, err);
    process_done(&shim);
    if (result < 0) {
        record_failure(container, err);
        container_auto_remove(container);
        return -1;
    }
    record_note_state(container);
    event_volumes(container, true);
    event_container(container, "start", NULL);
    links_tell_parents(container);
    health_begin(container);
    return 0;
}

int container_start_again(struct container *container, struct err *err)
{
    return start_run(container, NULL, err);
}

static int start_held(struct container *container, const struct checkpoint *checkpoint, struct err *err)
{
    if (container_check_startable(container, err) < 0)
        return -1;
    mutex_lock(&container->lock);
    restart_reset(container);
    mutex_unlock(&container->lock);
    return start_run(container, checkpoint, err);
}

int container_start_from(struct container *container, const struct checkpoint *checkpoint, struct err *err)
{
    struct err local = { 0 };
    await_attaches(container);
    if (container_begin(container, err) < 0)
        return -1;
    int result = start_held(container, checkpoint, &local);
    container_end(container);
    if (result < 0 && err)
        *err = local;
    return result;
}

int container_start(struct container *container, struct err *err)
{
    return container_start_from(container, NULL, err);
}

int engine_start(struct engine *engine, const char *ref, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    return container ? container_start(container, err) : -1;
}

int step_container_start(struct engine *engine, const char *ref, const struct strv *env, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    container->once_env = env; // a build's container: nobody else starts it
    int started = container_start(container, err);
    container->once_env = NULL;
    return started;
}
