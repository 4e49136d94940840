// attach: the client's descriptor is handed to the shim for good; what comes before the start waits here.
#include <poll.h>

#include "engine_private.h"

#define CALL_TIMEOUT_NS (10 * NS_PER_S)

int engine_attach_begin(struct engine *engine, const char *ref, char id[65], bool *terminal, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    mutex_lock(&container->lock);
    bool paused = container->state.status == STATUS_PAUSED, restarting = container->state.status == STATUS_RESTARTING;
    container->attaching += !paused && !restarting;
    mutex_unlock(&container->lock);
    if (paused)
        return err_set(err, ERR_CONFLICT, "container %s is paused, unpause the container before attach", container->id);
    if (restarting)
        return container_restarting(container, err);
    memcpy(id, container->id, sizeof(container->id));
    *terminal = container->config.tty;
    return 0;
}

static void attach_done(struct container *container)
{
    mutex_lock(&container->lock);
    container->attaching -= container->attaching > 0; // a name may mean another container by now
    cond_wake_all(&container->idle);
    mutex_unlock(&container->lock);
}

void engine_attach_abandon(struct engine *engine, const char *id)
{
    _cleanup_container_ struct container *container = container_find(engine, id, NULL);
    if (container)
        attach_done(container);
}

static int sink_to_fd(void *context, const void *data, size_t size)
{
    return fd_write_full(*(int *)context, data, size, NULL);
}

static int replay(struct engine *engine, struct container *container, const struct engine_attach *attach, int fd,
                  struct err *err)
{
    const struct engine_logs logs = { .out = attach->out, .error = attach->error, .raw = attach->raw, .tail = -1 };
    return engine_logs(engine, container->id, &logs, sink_to_fd, &fd, NULL, err);
}

// Clients that left while they waited. A half-closed connection is no sign of that: who sends no input closes his side.
static void drop_departed(struct container *container) REQUIRES(container->lock)
{
    for (struct pending_attach **at = &container->pending; *at;) {
        struct pending_attach *pending = *at;
        struct pollfd poll_fd = { pending->fd, 0, 0 };
        if (poll(&poll_fd, 1, 0) <= 0) {
            at = &pending->next;
            continue;
        }
        *at = pending->next;
        fd_close(pending->fd);
        free(pending->detach_keys);
        free(pending);
    }
}

static size_t count_pending(const struct container *container) REQUIRES(container->lock)
{
    size_t len = 0;
    for (const struct pending_attach *pending = container->pending; pending; pending = pending->next)
        len++;
    return len;
}

// Takes the descriptor.
static int keep_pending(struct container *container, const struct engine_attach *attach, int fd, struct err *err)
    REQUIRES(container->lock)
{
    drop_departed(container);
    if (count_pending(container) >= PENDING_MAX) {
        fd_close(fd);
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "%d clients wait for container %s already", PENDING_MAX, container->id);
    }
    struct pending_attach *pending = mem_new(struct pending_attach);
    pending->fd = fd;
    pending->in = attach->in && container->config.open_stdin;
    pending->out = attach->out;
    pending->error = attach->error;
    pending->framed = !container->config.tty && !attach->raw;
    pending->detach_keys = mem_strdup(str_empty(attach->detach_keys) ? "ctrl-p,ctrl-q" : attach->detach_keys);
    pending->next = container->pending;
    container->pending = pending;
    return 0;
}

static int hand_over(struct container *container, struct task_client *client, const struct engine_attach *attach, int fd,
                     struct err *err)
{
    const struct task_attach one = {
        .fd = 0, .in = attach->in && container->config.open_stdin, .out = attach->out, .error = attach->error,
        .framed = !container->config.tty && !attach->raw,
        .detach_keys = (char *)(str_empty(attach->detach_keys) ? "ctrl-p,ctrl-q" : attach->detach_keys),
    };
    const struct json_list list = { .items = (void *)&one, .len = 1 };
    _cleanup_json_ json_t *arguments = json_object();
    json_object_set_new(arguments, "exec_id", json_string(""));
    json_object_set_new(arguments, "attach", json_encode_list(&task_attach_table, &list));
    return task_call(client, "attach", arguments, &fd, 1, CALL_TIMEOUT_NS, NULL, NULL, NULL, err);
}

static int attach(struct container *container, const struct engine_attach *attach, int client_fd, struct err *err)
{
    _cleanup_close_ int fd = client_fd;
    int result = 0;
    event_container(container, "attach", NULL);
    if (attach->logs && replay(container->engine, container, attach, fd, err) < 0)
        return -1;
    if (!attach->stream)
        return 0;
    if (container_begin(container, err) < 0)
        return -1;
    mutex_lock(&container->lock);
    struct task_client *client = container_is_live(container) ? container->client : NULL;
    // Created, or exited and about to be started again (docker start -a): it travels with the next create.
    if (!client)
        result = keep_pending(container, attach, take_fd(&fd), err);
    mutex_unlock(&container->lock);
    if (client)
        result = hand_over(container, client, attach, fd, err);
    container_end(container);
    return result;
}

int engine_attach(struct engine *engine, const char *id, const struct engine_attach *wanted, int client_fd,
                  struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, id, err);
    if (!container) {
        fd_close(client_fd);
        return -1;
    }
    int result = attach(container, wanted, client_fd, err);
    attach_done(container);
    return result;
}
