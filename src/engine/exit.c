// The end of a run, however it comes: the shim's events, a lost shim, a failed start.
//
// The watcher only queues; a worker takes the events of one container in order, with the container to itself
// (container_begin), makes the new state visible, and only then acknowledges: the shim closes the attached clients on the
// acknowledgement, so whoever sees the stream end sees the exit code as well.
#include <errno.h>
#include <fcntl.h>

#include "engine_private.h"
#include "mounts.h"
#include "networks.h"
#include "users.h"

#define DELETE_TIMEOUT_NS (10 * NS_PER_S)

// ---- giving back what a run holds -----------------------------------------------------------------------------------

// After task_client_free() no callback adds to the queue, and what stands in it carries the old number.
void container_drop_client(struct container *container)
{
    mutex_lock(&container->lock);
    struct task_client *client = take_ptr(&container->client);
    mutex_unlock(&container->lock);
    task_client_free(client);
    mutex_lock(&container->lock);
    container->run++;
    mutex_unlock(&container->lock);
}

static void release_shim(struct container *container)
{
    mutex_lock(&container->lock);
    struct task_client *client = container->client;
    mutex_unlock(&container->lock);
    if (client) {
        _cleanup_json_ json_t *arguments = json_object();
        struct err ignored = { 0 };
        task_call(client, "delete", arguments, NULL, 0, DELETE_TIMEOUT_NS, NULL, NULL, NULL, &ignored);
    }
    container_drop_client(container);
}

static void release_network(struct container *container)
{
    mutex_lock(&container->lock);
    for (size_t i = 0; i < container->port_len; i++)
        fd_close(container->ports[i].listener_fd);
    free(take_ptr(&container->ports));
    container->port_len = 0;
    fd_close(take_fd(&container->netns_fd));
    fd_close(take_fd(&container->tap_fd));
    mutex_unlock(&container->lock);
    run_users_free(take_ptr(&container->users));
    endpoints_disconnected(container);
    endpoints_detach(container);
}

// A lost shim may have left processes behind. The group is found by its name: a handle held all the time would cost a
// descriptor for each hierarchy and container.
static void release_cgroup(struct container *container)
{
    char path[CONTAINER_CGROUP_SIZE];
    struct err err = { 0 };
    _cleanup_(cgroup_freep) struct cgroup *cgroup = NULL;
    container_cgroup_path(container, path);
    if (cgroup_open(&container->engine->cgroups, path, &cgroup, NULL) == 0 && cgroup_kill(cgroup, 5 * NS_PER_S, &err) < 0)
        log_warn("container %s: %s", container->id, err.message);
    if (cgroup_remove(&container->engine->cgroups, path, 2 * NS_PER_S, &err) < 0)
        log_warn("container %s: %s", container->id, err.message);
}

// The task folder goes last: as long as it stands, a daemon that starts anew clears what is left.
void container_release(struct container *container)
{
    release_shim(container);
    release_network(container);
    release_cgroup(container);
    mounts_end_use(container);
    file_remove_tree(container->engine->tasks_fd, container->id, NULL);
}

// ---- the end of the process -----------------------------------------------------------------------------------------

struct ending {
    int64_t exit_code, time_ns;
    bool oom;
    const char *error; // "" when there is nothing to say about it
};

static void make_visible(struct container *container, const struct ending *ending) REQUIRES(container->lock)
{
    struct container_state *state = &container->state;
    bool again = restart_due(container, ending->exit_code, ending->time_ns - state->started_ns);
    state->status = again ? STATUS_RESTARTING : STATUS_EXITED;
    state->restart_count += again;
    state->pid = 0;
    state->exit_code = ending->exit_code;
    state->finished_ns = ending->time_ns;
    state->oom_killed = ending->oom;
    free(state->error);
    state->error = mem_strdup(ending->error);
    for (struct exec *exec = container->execs; exec; exec = exec->next)
        if (exec->running) {
            exec->running = false;
            exec->exit_code = 137;
        }
}

static void publish_end(struct container *container, const struct ending *ending, int64_t started_ns)
{
    char code[24], seconds[24];
    int64_t duration_ns = started_ns ? MAX_OF(ending->time_ns - started_ns, INT64_C(0)) : 0;
    snprintf(code, sizeof(code), "%lld", (long long)ending->exit_code);
    snprintf(seconds, sizeof(seconds), "%lld", (long long)(duration_ns / NS_PER_S));
    endpoints_disconnected(container); // Docker's order since 23
    event_volumes(container, false);
    event_container(container, "die", "execDuration", seconds, "exitCode", code, NULL); // before the waiters: a stop's own event comes last
}

// Needs container_begin(). `seq` of the event to acknowledge, 0 for none. The waiters come after the event, so that what a
// woken verb publishes comes after it too. A daemon that dies behind the acknowledgement leaves a shim that still tells
// the end of its task, until `delete`.
static void finish_run(struct container *container, const struct ending *ending, int64_t seq)
{
    mutex_lock(&container->lock);
    bool live = container_is_live(container);
    int64_t started_ns = container->state.started_ns;
    if (live)
        make_visible(container, ending);
    bool kept = !container->config.host_config.auto_remove || container->restarting;
    struct task_client *client = container->client;
    mutex_unlock(&container->lock);
    if (!live)
        return;
    health_end(container);
    publish_end(container, ending, started_ns);
    mutex_lock(&container->lock);
    container_finish_waiters(container, false);
    mutex_unlock(&container->lock);
    if (client && seq)
        task_ack(client, seq);
    if (kept) // else the record goes in a moment
        record_note_state(container);
    container_release(container);
    restart_schedule(container);
}

// A record of an earlier run may still stand there: the time of the start tells them apart.
static bool read_exit_record(struct container *container, struct task_exit_record *out)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(64 << 10);
    _cleanup_free_ char *path = mem_printf("%s/" TASK_EXIT_RECORD_NAME, container->id);
    if (file_read_at(container->engine->containers_fd, path, &text, NULL) < 0 ||
        json_decode_text(&task_exit_record_table, buf_text(&text), text.size, out, &arena, NULL, NULL) < 0)
        return false;
    out->boot_id = NULL; // it lives in the arena
    mutex_lock(&container->lock);
    bool same = out->started_ns == container->state.started_ns;
    mutex_unlock(&container->lock);
    return same;
}

void container_declare_lost(struct container *container)
{
    struct task_exit_record record;
    container_drop_client(container);
    if (read_exit_record(container, &record)) {
        container_declare_ended(container, record.exit_code, record.time_ns, record.oom);
        return;
    }
    const struct ending ending = { 137, clock_wall_ns(), false, "the container's supervisor was lost" };
    finish_run(container, &ending, 0);
}

void container_declare_ended(struct container *container, int64_t exit_code, int64_t time_ns, bool oom)
{
    const struct ending ending = { exit_code, time_ns ? time_ns : clock_wall_ns(), oom, "" };
    finish_run(container, &ending, 0);
}

// ---- execs ----------------------------------------------------------------------------------------------------------

static void finish_exec(struct container *container, const struct queued_event *event)
{
    char code[24];
    mutex_lock(&container->lock);
    for (struct exec *exec = container->execs; exec; exec = exec->next)
        if (str_eq(exec->id, event->exec_id)) {
            exec->running = false;
            exec->exit_code = event->exit_code;
        }
    struct task_client *client = container->client;
    mutex_unlock(&container->lock);
    snprintf(code, sizeof(code), "%lld", (long long)event->exit_code);
    event_container(container, "exec_die", "execID", event->exec_id, "exitCode", code, NULL);
    if (client)
        task_ack(client, event->seq);
}

// ---- events from the watcher ----------------------------------------------------------------------------------------

static void handle(struct container *container, const struct queued_event *event)
{
    const struct ending ending = { event->exit_code, event->time_ns, event->oom, event->message };
    mutex_lock(&container->lock);
    struct task_client *client = container->client;
    mutex_unlock(&container->lock);
    if (!client)
        return;
    switch (event->kind) {
    case QUEUED_EXITED:
        if (!str_empty(event->message))
            log_warn("container %s: %s", container->id, event->message);
        finish_run(container, &ending, event->seq);
        return;
    case QUEUED_EXEC_EXITED:
        finish_exec(container, event);
        return;
    case QUEUED_GONE:
        container_drop_client(container);
        container_adopt(container); // its shim may well live, and only the connection have broken
        return;
    case QUEUED_OOM:
        event_container(container, "oom", NULL);
        break;
    case QUEUED_DETACHED:
        if (event->exec_id[0])
            event_container(container, "exec_detach", "execID", event->exec_id, NULL);
        else
            event_container(container, "detach", NULL);
        break;
    default:
        break;
    }
    task_ack(client, event->seq);
}

void queued_event_free(struct queued_event *event)
{
    free(event->message);
    free(event);
}

static struct queued_event *take_event(struct container *container)
{
    mutex_lock(&container->lock);
    struct queued_event *event = container->events;
    if (event)
        container->events = event->next;
    else
        container->events_scheduled = false;
    mutex_unlock(&container->lock);
    return event;
}

static bool is_current(struct container *container, const struct queued_event *event)
{
    mutex_lock(&container->lock);
    bool current = event->run == container->run;
    mutex_unlock(&container->lock);
    return current;
}

// One job drains all events of a container, in order. Between an event and its turn another verb may have had the
// container: started it again, even, and then an old event says nothing about the new run.
static void drain_events(struct container *container)
{
    struct queued_event *event;
    while ((event = take_event(container))) {
        if (container_begin(container, NULL) == 0) {
            if (is_current(container, event)) {
                handle(container, event);
                container_auto_remove(container);
            }
            container_end(container);
        }
        queued_event_free(event);
    }
}

static void queue_event(struct container *container, struct queued_event *event)
{
    mutex_lock(&container->lock);
    event->run = container->run;
    struct queued_event **at = &container->events;
    while (*at)
        at = &(*at)->next;
    *at = event;
    bool schedule = !container->events_scheduled;
    container->events_scheduled = true;
    mutex_unlock(&container->lock);
    if (schedule)
        worker_queue(container, drain_events);
}

void container_on_event(void *context, const struct task_event *event)
{
    static const struct {
        const char *word;
        int kind;
    } kinds[] = { { "exited", QUEUED_EXITED }, { "exec_exited", QUEUED_EXEC_EXITED }, { "oom", QUEUED_OOM },
                  { "detached", QUEUED_DETACHED } };
    struct queued_event *queued = mem_new(struct queued_event);
    queued->kind = QUEUED_OTHER;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (str_eq(event->kind, kinds[i].word))
            queued->kind = kinds[i].kind;
    queued->seq = event->seq;
    queued->time_ns = event->time_ns;
    queued->exit_code = event->exit_code;
    queued->oom = event->oom;
    snprintf(queued->exec_id, sizeof(queued->exec_id), "%s", event->exec_id ? event->exec_id : "");
    queued->message = mem_strdup(event->message ? event->message : "");
    queue_event(context, queued);
}

void container_on_closed(void *context)
{
    struct queued_event *queued = mem_new(struct queued_event);
    queued->kind = QUEUED_GONE;
    queued->message = mem_strdup("");
    queue_event(context, queued);
}
