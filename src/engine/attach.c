// attach: the client's descriptor is handed to the shim for good; what comes before the start waits here.
#include <errno.h>

#include "engine_private.h"

#define CALL_TIMEOUT_NS (10 * NS_PER_S)

int engine_attach_check(struct engine *engine, const char *ref, const struct engine_attach *attach, bool *terminal,
                        struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    mutex_lock(&container->lock);
    bool paused = container->state.status == STATUS_PAUSED;
    mutex_unlock(&container->lock);
    if (paused)
        return err_set(err, ERR_CONFLICT, "container %s is paused, unpause the container before attach", container->id);
    *terminal = container->config.tty;
    return 0;
}

static int sink_to_fd(void *context, const void *data, size_t size)
{
    return fd_write_full(*(int *)context, data, size, NULL);
}

static int replay(struct engine *engine, struct container *container, const struct engine_attach *attach, int fd,
                  struct err *err)
{
    const struct engine_logs logs = { .out = attach->out, .error = attach->error, .tail = -1 };
    return engine_logs(engine, container->id, &logs, sink_to_fd, &fd, NULL, err);
}

static void keep_pending(struct container *container, const struct engine_attach *attach, int fd)
    REQUIRES(container->lock)
{
    struct pending_attach *pending = mem_new(struct pending_attach);
    pending->fd = fd;
    pending->in = attach->in;
    pending->out = attach->out;
    pending->error = attach->error;
    pending->framed = !container->config.tty;
    pending->detach_keys = mem_strdup(str_empty(attach->detach_keys) ? "ctrl-p,ctrl-q" : attach->detach_keys);
    pending->next = container->pending;
    container->pending = pending;
}

static int hand_over(struct container *container, struct task_client *client, const struct engine_attach *attach, int fd,
                     struct err *err)
{
    const struct task_attach one = {
        .fd = 0, .in = attach->in && container->config.open_stdin, .out = attach->out, .error = attach->error,
        .framed = !container->config.tty,
        .detach_keys = (char *)(str_empty(attach->detach_keys) ? "ctrl-p,ctrl-q" : attach->detach_keys),
    };
    const struct json_list list = { .items = (void *)&one, .len = 1 };
    _cleanup_json_ json_t *arguments = json_object();
    json_object_set_new(arguments, "exec_id", json_string(""));
    json_object_set_new(arguments, "attach", json_encode_list(&task_attach_table, &list));
    return task_call(client, "attach", arguments, &fd, 1, CALL_TIMEOUT_NS, NULL, NULL, NULL, err);
}

int engine_attach(struct engine *engine, const char *ref, const struct engine_attach *attach, int client_fd,
                  struct err *err)
{
    _cleanup_close_ int fd = client_fd;
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    int result = 0;
    if (!container)
        return -1;
    event_container(container, "attach", NULL);
    if (attach->logs && replay(engine, container, attach, fd, err) < 0)
        return -1;
    if (!attach->stream)
        return 0;
    if (container_begin(container, err) < 0)
        return -1;
    mutex_lock(&container->lock);
    struct task_client *client = container_is_live(container) ? container->client : NULL;
    // Created, or exited and about to be started again (docker start -a): it travels with the next create.
    if (!client)
        keep_pending(container, attach, take_fd(&fd));
    mutex_unlock(&container->lock);
    if (client)
        result = hand_over(container, client, attach, fd, err);
    container_end(container);
    return result;
}
