// One probe of a health check: an exec whose output comes back to the daemon instead of to a client.
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>

#include "health.h"

// ---- its end, in the watcher's thread -------------------------------------------------------------------------------

static void finish(struct probe *probe)
{
    struct container *container = take_ptr(&probe->container);
    loop_remove(take_ptr(&probe->source));
    fd_close(take_fd(&probe->fd));
    mutex_lock(&container->lock);
    probe->end_ns = clock_wall_ns();
    probe->ended = true; // from here on it is the collector's
    mutex_unlock(&container->lock);
    worker_queue(container, health_collect);
    container_unref(container);
}

static void keep(struct probe *probe, const char *data, size_t size)
{
    size_t room = sizeof(probe->output) - probe->size, taken = MIN_OF(size, room);
    memcpy(probe->output + probe->size, data, taken);
    probe->size += taken;
    probe->truncated = probe->truncated || taken < size;
}

static void readable(void *context, int fd, uint32_t events)
{
    struct probe *probe = context;
    char data[16384];
    ssize_t got = read(fd, data, sizeof(data));
    if (got > 0)
        keep(probe, data, (size_t)got);
    else if (got == 0 || (errno != EAGAIN && errno != EINTR))
        finish(probe);
}

static void watch(void *context)
{
    struct probe *probe = context;
    if (loop_add_fd(probe->container->engine->loop, probe->fd, EPOLLIN, readable, probe, &probe->source, NULL) < 0)
        finish(probe);
}

// ---- its begin ------------------------------------------------------------------------------------------------------

void probe_free(struct probe *probe)
{
    if (!probe)
        return;
    fd_close(probe->fd);
    container_unref(probe->container);
    free(probe);
}

static struct probe *probe_new(struct container *container, int fd)
{
    struct probe *probe = mem_new(struct probe);
    *probe = (struct probe){ .container = container_ref(container), .fd = fd, .start_ns = clock_wall_ns() };
    mutex_lock(&container->lock);
    container->health->probe = probe;
    mutex_unlock(&container->lock);
    return probe;
}

static void forget(struct container *container, struct probe *probe, const char *exec_id)
{
    mutex_lock(&container->lock);
    container->health->probe = NULL;
    exec_forget(container, exec_id, NULL);
    mutex_unlock(&container->lock);
    probe_free(probe);
}

int probe_start(struct container *container, const struct exec_config *config, struct err *err)
{
    int ends[2];
    char id[65];
    mutex_lock(&container->lock);
    memcpy(id, container->health->exec_id, sizeof(id));
    mutex_unlock(&container->lock);
    if (fd_socketpair(SOCK_STREAM, ends, err) < 0)
        return -1;
    _cleanup_close_ int theirs = ends[1];
    if (exec_add(container, config, true, id, err) < 0) {
        fd_close(ends[0]);
        return -1;
    }
    struct probe *probe = probe_new(container, ends[0]);
    if (fd_set_nonblock(ends[0], true, err) < 0 || exec_run(container, id, theirs, NULL, NULL, err) < 0) {
        forget(container, probe, id);
        return -1;
    }
    loop_post(container->engine->loop, watch, probe);
    return 0;
}

void probe_kill(struct container *container)
{
    mutex_lock(&container->lock);
    struct task_client *client = container->client;
    _cleanup_json_ json_t *arguments = json_pack("{s:i, s:s}", "signal", SIGKILL, "exec_id", container->health->exec_id);
    mutex_unlock(&container->lock);
    struct err ignored = { 0 };
    if (client)
        task_call(client, "kill", arguments, NULL, 0, 10 * NS_PER_S, NULL, NULL, NULL, &ignored);
}
