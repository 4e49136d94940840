// stop, kill, pause, restart, remove, rename: the verbs on an existing container.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#include "engine_private.h"
#include "mounts.h"

#define CALL_TIMEOUT_NS (30 * NS_PER_S)
#define STOP_DEFAULT_S 10

// A verb without a result, on a live container; the caller words the refusal.
static int call_live(struct container *container, const char *verb, json_t *arguments, struct err *err)
{
    if (container_begin(container, err) < 0)
        return -1;
    mutex_lock(&container->lock);
    struct task_client *client = container_is_live(container) ? container->client : NULL;
    mutex_unlock(&container->lock);
    int result = client ? task_call(client, verb, arguments, NULL, 0, CALL_TIMEOUT_NS, NULL, NULL, NULL, err)
                        : err_set(err, ERR_CONFLICT, "container %s is not running", container->id);
    container_end(container);
    return result;
}

int container_signal(struct container *container, const char *signal, struct err *err)
{
    char text[12];
    int number;
    if (signal_parse(signal, &number, err) < 0)
        return -1;
    _cleanup_json_ json_t *arguments = json_pack("{s:i, s:s}", "signal", number, "exec_id", "");
    if (call_live(container, "kill", arguments, err) < 0)
        return -1;
    snprintf(text, sizeof(text), "%d", number);
    event_container(container, "kill", "signal", text, NULL);
    return 0;
}

int engine_kill(struct engine *engine, const char *ref, const char *signal, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    if (container_signal(container, str_empty(signal) ? "SIGKILL" : signal, err) < 0)
        return err && err->class == ERR_CONFLICT ? err_wrap(err, "cannot kill container: %s", ref) : -1;
    return 0;
}

// Asks, waits, insists. A container that ended in between is a success.
static int stop(struct container *container, const char *signal, int64_t timeout_s, const struct cancel *cancel,
                struct err *err)
{
    int64_t timeout_ns = timeout_s < 0 ? -1 : timeout_s * NS_PER_S;
    if (container_signal(container, signal, err) < 0)
        return err && err->class == ERR_CONFLICT ? 0 : -1;
    int stopped = container_await_stop(container, timeout_ns, cancel, err);
    if (stopped < 0)
        return -1;
    if (stopped == 0) {
        struct err late = { 0 };
        if (container_signal(container, "SIGKILL", &late) < 0 && late.class != ERR_CONFLICT)
            return err_set(err, late.class, "%s", late.message);
        if (container_await_stop(container, 30 * NS_PER_S, cancel, err) <= 0)
            return err_set(err, ERR_INTERNAL, "container %s did not stop after SIGKILL", container->id);
    }
    event_container(container, "stop", NULL);
    return 0;
}

static int64_t stop_timeout(const struct container *container, int64_t asked_s)
{
    if (asked_s != -1)
        return asked_s < 0 ? -1 : asked_s;
    return container->config.stop_timeout >= 0 ? container->config.stop_timeout : STOP_DEFAULT_S;
}

int engine_stop(struct engine *engine, const char *ref, const char *signal, int64_t timeout_s,
                const struct cancel *cancel, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    mutex_lock(&container->lock);
    bool live = container_is_live(container);
    mutex_unlock(&container->lock);
    if (!live)
        return err_set(err, ERR_NOT_MODIFIED, "container is already stopped");
    return stop(container, str_empty(signal) ? container_stop_signal(container) : signal,
                stop_timeout(container, timeout_s), cancel, err);
}

int engine_restart(struct engine *engine, const char *ref, const char *signal, int64_t timeout_s,
                   const struct cancel *cancel, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    mutex_lock(&container->lock);
    bool live = container_is_live(container);
    mutex_unlock(&container->lock);
    if (live && stop(container, str_empty(signal) ? container_stop_signal(container) : signal,
                     stop_timeout(container, timeout_s), cancel, err) < 0)
        return -1;
    if (container_start(container, err) < 0)
        return -1;
    event_container(container, "restart", NULL);
    return 0;
}

int engine_pause(struct engine *engine, const char *ref, bool pause, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    mutex_lock(&container->lock);
    enum container_status status = container->state.status;
    mutex_unlock(&container->lock);
    if (pause && status == STATUS_PAUSED)
        return err_set(err, ERR_CONFLICT, "container %s is already paused", container->id);
    if (!pause && status != STATUS_PAUSED)
        return err_set(err, ERR_CONFLICT, "container %s is not paused", container->id);
    _cleanup_json_ json_t *arguments = json_object();
    if (call_live(container, pause ? "pause" : "resume", arguments, err) < 0)
        return -1;
    mutex_lock(&container->lock);
    if (container_is_live(container))
        container->state.status = pause ? STATUS_PAUSED : STATUS_RUNNING;
    mutex_unlock(&container->lock);
    record_save_state(container, NULL);
    event_container(container, pause ? "pause" : "unpause", NULL);
    return 0;
}

int engine_resize(struct engine *engine, const char *ref, int64_t height, int64_t width, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    char h[24], w[24];
    _cleanup_json_ json_t *arguments =
        json_pack("{s:s, s:I, s:I}", "exec_id", "", "height", (json_int_t)height, "width", (json_int_t)width);
    if (call_live(container, "resize", arguments, err) < 0)
        return -1;
    snprintf(h, sizeof(h), "%lld", (long long)height);
    snprintf(w, sizeof(w), "%lld", (long long)width);
    event_container(container, "resize", "height", h, "width", w, NULL);
    return 0;
}

// ---- remove ---------------------------------------------------------------------------------------------------------

// Needs container_begin(); afterwards the container is gone for everybody.
static int remove_held(struct container *container, bool volumes, struct err *err)
{
    if (record_delete(container, err) < 0)
        return -1;
    container_release(container); // after a failed or lost run something may still stand
    if (volumes)
        mounts_remove_anonymous(container);
    if (file_remove_tree(container->engine->containers_fd, container->id, err) < 0)
        log_warn("container %s: %s", container->id, err->message);
    event_container(container, "destroy", NULL);
    container_delist(container);
    mutex_lock(&container->lock);
    container->removed = true;
    container->busy = false;
    for (struct pending_attach *pending = container->pending; pending; pending = pending->next)
        fd_close(take_fd(&pending->fd));
    container_finish_waiters(container, true);
    cond_wake_all(&container->idle);
    mutex_unlock(&container->lock);
    images_collect(container->engine);
    return 0;
}

static int kill_for_removal(struct container *container, struct err *err)
{
    struct err ignored = { 0 };
    if (container_signal(container, "SIGKILL", &ignored) < 0 && ignored.class != ERR_CONFLICT)
        return err_set(err, ignored.class, "%s", ignored.message);
    int stopped = container_await_stop(container, 30 * NS_PER_S, NULL, err);
    return stopped > 0 ? 0 : err_set(err, ERR_INTERNAL, "could not kill container %s: it did not stop", container->id);
}

int container_remove(struct container *container, bool force, bool volumes, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const char *name = container_name(container, &arena);
    mutex_lock(&container->lock);
    bool live = container_is_live(container);
    bool paused = container->state.status == STATUS_PAUSED;
    mutex_unlock(&container->lock);
    if (live && !force)
        return err_set(err, ERR_CONFLICT,
                       "cannot remove container \"/%s\": container is %s: %s before removing or force remove", name,
                       paused ? "paused" : "running", paused ? "unpause and then stop the container" : "stop the container");
    if (live && kill_for_removal(container, err) < 0)
        return -1;
    if (container_begin(container, err) < 0)
        return container->config.host_config.auto_remove && live ? 0 : -1;
    if (remove_held(container, volumes, err) < 0) {
        container_end(container);
        return -1;
    }
    return 0;
}

int engine_remove(struct engine *engine, const char *ref, bool force, bool volumes, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    return container ? container_remove(container, force, volumes, err) : -1;
}

// ---- rename ---------------------------------------------------------------------------------------------------------

int engine_rename(struct engine *engine, const char *ref, const char *name, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    _cleanup_free_ char *old = NULL;
    if (!container)
        return -1;
    if (name && name[0] == '/')
        name++;
    if (str_empty(name) || !container_name_valid(name))
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name ? name : "");
    mutex_lock(&engine->list_lock);
    int result = 0;
    for (struct container *c = engine->containers; c && result == 0; c = c->next)
        if (str_eq(c->name, name))
            result = c == container ? err_set(err, ERR_INVALID_ARGUMENT, "Renaming a container with the same name as its current name")
                                    : err_set(err, ERR_CONFLICT,
                                              "Conflict. The container name \"/%s\" is already in use by container \"%s\". You "
                                              "have to remove (or rename) that container to be able to reuse that name.",
                                              name, c->id);
    if (result == 0) {
        old = container->name;
        container->name = mem_strdup(name);
    }
    mutex_unlock(&engine->list_lock);
    if (result < 0)
        return -1;
    if (record_rename(container, name, err) < 0) {
        mutex_lock(&engine->list_lock);
        free(container->name);
        container->name = take_ptr(&old);
        mutex_unlock(&engine->list_lock);
        return -1;
    }
    event_container(container, "rename", "oldName", old, NULL);
    return 0;
}
