// What a starting daemon does about the past: it connects to every shim that still runs, learns what was missed, and
// clears what no record names.
//
// After `hello` the shim sends its unacknowledged events again, so exits that happened while no daemon was there arrive as
// ordinary events, with their own times.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#include "engine_private.h"
#include "mounts.h"
#include "namespaces.h"
#include "networks.h"
#include "quota.h"
#include "vm.h"

#define CALL_TIMEOUT_NS (10 * NS_PER_S)

static int connect_task(struct container *container, struct task_client **out, struct err *err)
{
    struct engine *engine = container->engine;
    _cleanup_close_ int folder = file_open_dir(engine->tasks_fd, container->id, err);
    int sock = folder < 0 ? -1 : fd_unix_connect_at(folder, TASK_SOCKET_NAME, err);
    return sock < 0 ? -1 : task_client_new(sock, engine->loop, container_on_event, container_on_closed, container, out, err);
}

static void note_machine(struct container *container, const struct task_vm *vm) REQUIRES(container->lock)
{
    if (!vm || container->accel)
        return;
    container->accel = mem_strdup(vm->accel);
    container->kernel = mem_strdup(vm->kernel);
}

// The run's ports come back from the task document: inspect must say the same as before.
static void restore_ports(struct container *container, const struct task_document *document)
{
    mutex_lock(&container->lock);
    note_machine(container, document->vm);
    container->ports = mem_alloc((document->ports.len + 1) * sizeof(*container->ports));
    container->port_len = document->ports.len;
    for (size_t i = 0; i < document->ports.len; i++) {
        const struct task_port *from = json_list_at(&document->ports, &task_port_table, i);
        struct net_port *port = &container->ports[i];
        *port = (struct net_port){ .proto = str_eq(from->proto, "udp") ? IPPROTO_UDP : str_eq(from->proto, "sctp") ? IPPROTO_SCTP : IPPROTO_TCP,
                                   .host_port = (uint16_t)from->host_port, .target_port = (uint16_t)from->target_port,
                                   .listener_fd = -1 };
        snprintf(port->host_address, sizeof(port->host_address), "%s", from->host_address ? from->host_address : "");
    }
    mutex_unlock(&container->lock);
}

int container_document(struct container *container, struct arena *arena, struct task_document *out, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(TASK_FRAME_MAX);
    _cleanup_free_ char *path = mem_printf("%s/task.json", container->id);
    if (file_read_at(container->engine->containers_fd, path, &text, err) < 0)
        return -1;
    return json_decode_text(&task_document_table, buf_text(&text), text.size, out, arena, NULL, err);
}

// What ran a guest last, for inspect; before its first start there is no document.
static void recall_machine(struct container *container)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct task_document document;
    if (!vm_wanted(&container->config.host_config) || container_document(container, &arena, &document, NULL) < 0)
        return;
    mutex_lock(&container->lock);
    note_machine(container, document.vm);
    mutex_unlock(&container->lock);
}

// What only the document knows; a document that cannot be read costs the ports in inspect, not the container.
static void restore_run(struct container *container)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct task_document document;
    struct err err = { 0 };
    mutex_lock(&container->lock);
    bool known = container->ports != NULL, uses = container->uses_volumes;
    mutex_unlock(&container->lock);
    if (!uses && mounts_begin_use(container, &err) < 0) // the container has its own view of them anyway
        log_warn("container %.12s: %s", container->id, err.message);
    if (!known)
        endpoints_adopt(container);
    namespaces_follow(container, NULL); // for its name; the other one may have ended since
    if (!known && names_update(container, &err) < 0)
        log_warn("container %.12s: its names: %s", container->id, err.message);
    if (!known && container_document(container, &arena, &document, &err) == 0)
        restore_ports(container, &document);
    else if (!known)
        log_warn("container %.12s: its task document: %s", container->id, err.message);
}

static int ask_state(struct container *container, struct arena *arena, struct task_state *out, struct err *err)
{
    _cleanup_json_ json_t *arguments = json_object(), *result = NULL;
    int *fds = NULL;
    size_t fd_len = 0;
    mutex_lock(&container->lock);
    struct task_client *client = container->client;
    mutex_unlock(&container->lock);
    if (task_call(client, "state", arguments, NULL, 0, CALL_TIMEOUT_NS, &result, &fds, &fd_len, err) < 0)
        return -1;
    for (size_t i = 0; i < fd_len; i++)
        fd_close(fds[i]); // the namespace is the shim's to hold
    free(fds);
    return json_decode(&task_state_table, result, out, arena, NULL, err);
}

static int resume(struct container *container, struct err *err)
{
    _cleanup_json_ json_t *arguments = json_object();
    mutex_lock(&container->lock);
    struct task_client *client = container->client;
    mutex_unlock(&container->lock);
    return task_call(client, "resume", arguments, NULL, 0, CALL_TIMEOUT_NS, NULL, NULL, NULL, err);
}

// Also a task that has ended while nobody looked, with its end already acknowledged: then no event comes any more.
static int learn_state(struct container *container, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct task_state state;
    if (ask_state(container, &arena, &state, err) < 0)
        return -1;
    if (str_eq(state.status, "created"))
        return err_set(err, ERR_UNAVAILABLE, "its task was never started");
    restore_run(container);
    if (str_eq(state.status, "exited")) {
        container_declare_ended(container, state.exit_code, state.exited_ns, state.oom);
        return 0;
    }
    bool paused = str_eq(state.status, "paused");
    if (commit_was_cut_off(container) && paused)
        paused = resume(container, err) < 0;
    mutex_lock(&container->lock);
    container->state.pid = state.pid;
    container->state.status = paused ? STATUS_PAUSED : STATUS_RUNNING;
    mutex_unlock(&container->lock);
    health_adopt(container, &state.execs);
    return 0;
}

void container_adopt(struct container *container)
{
    struct task_client *client = NULL;
    struct err err = { 0 };
    if (connect_task(container, &client, &err) == 0) {
        mutex_lock(&container->lock);
        container->client = client;
        mutex_unlock(&container->lock);
        if (learn_state(container, &err) == 0)
            return;
    }
    log_warn("container %.12s: its supervisor does not answer: %s", container->id, err.message);
    container_declare_lost(container);
}

// A task folder without a live record: a start or a removal that was cut off. Its shim, if it still answers, ends with
// `delete`, which kills what it holds; the cgroup goes with everything in it.
static void clear_orphan(struct engine *engine, const char *id)
{
    struct container *ghost = container_new(engine, id);
    _cleanup_container_ struct container *record = container_find(engine, id, NULL);
    if (record) // borrowed: where its group is
        ghost->config.host_config.cgroup_parent = record->config.host_config.cgroup_parent;
    struct task_client *client = NULL;
    struct err ignored = { 0 };
    mutex_lock(&ghost->lock);
    ghost->removed = true; // what its shim still has to tell concerns nobody
    mutex_unlock(&ghost->lock);
    if (connect_task(ghost, &client, &ignored) == 0) {
        mutex_lock(&ghost->lock);
        ghost->client = client;
        mutex_unlock(&ghost->lock);
    }
    log_info("task %.12s: cleared, no running container has it", id);
    container_release(ghost);
    net_detach(engine->net, id, &ignored);
    container_unref(ghost);
}

static bool is_live(struct engine *engine, const char *id)
{
    bool live = false;
    struct container *container = container_find(engine, id, NULL);
    if (container) {
        mutex_lock(&container->lock);
        live = container_is_live(container);
        mutex_unlock(&container->lock);
    }
    container_unref(container);
    return live;
}

static bool endpoint_alive(void *context, const char *id)
{
    return is_live(context, id);
}

static bool is_container_id(const char *name)
{
    return strlen(name) == 64 && hex_valid(slice_of(name));
}

static void clear_orphans(struct engine *engine)
{
    _cleanup_strv_ struct strv tasks = { 0 }, folders = { 0 };
    if (file_list_names(engine->tasks_fd, ".", &tasks, NULL) == 0)
        for (size_t i = 0; i < tasks.len; i++)
            if (is_container_id(tasks.items[i]) && !is_live(engine, tasks.items[i]))
                clear_orphan(engine, tasks.items[i]);
    if (file_list_names(engine->containers_fd, ".", &folders, NULL) == 0)
        for (size_t i = 0; i < folders.len; i++) {
            if (!is_container_id(folders.items[i]))
                continue;
            struct container *known = container_find(engine, folders.items[i], NULL);
            if (!known) {
                quota_unmount(engine, folders.items[i]);
                file_remove_tree(engine->containers_fd, folders.items[i], NULL);
            }
            container_unref(known);
        }
}

static void take_over(struct container *container)
{
    if (container_begin(container, NULL) < 0)
        return;
    container_adopt(container);
    container_end(container);
    if (is_live(container->engine, container->id))
        log_info("container %.12s: adopted", container->id);
}

// A removal that was cut off, and --rm of what ended meanwhile.
static void finish_removal(struct container *container)
{
    struct err err = { 0 };
    if (container_begin(container, NULL) < 0)
        return;
    mutex_lock(&container->lock);
    bool going = container->state.status == STATUS_REMOVING, volumes = container->state.remove_volumes;
    mutex_unlock(&container->lock);
    if (going && container_remove_held(container, volumes, &err) < 0)
        log_warn("container %.12s: %s", container->id, err.message);
    if (!going)
        container_auto_remove(container);
    container_end(container);
}

int engine_adopt(struct engine *engine, struct err *err)
{
    if (record_load_all(engine, err) < 0)
        return -1;
    _cleanup_strv_ struct strv ids = { 0 };
    networks_settle(engine);
    container_list_ids(engine, &ids);
    for (size_t i = 0; i < ids.len; i++) {
        _cleanup_container_ struct container *container = container_find(engine, ids.items[i], NULL);
        if (container && is_live(engine, ids.items[i]))
            take_over(container);
        else if (container)
            recall_machine(container);
    }
    // Orphans before removals: a start that was cut off has a shim that only its socket in the task folder leads to.
    clear_orphans(engine);
    for (size_t i = 0; i < ids.len; i++) {
        _cleanup_container_ struct container *container = container_find(engine, ids.items[i], NULL);
        if (container)
            finish_removal(container);
    }
    images_collect(engine);
    volume_sweep(engine->volumes);
    return net_sweep(engine->net, endpoint_alive, engine, err);
}
