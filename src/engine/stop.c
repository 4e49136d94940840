// stop, kill, pause, restart, remove, rename: the verbs on an existing container.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#include "engine_private.h"
#include "mounts.h"
#include "quota.h"
#include "tree.h"
#include "vm.h"

#define CALL_TIMEOUT_NS (30 * NS_PER_S)
#define KILL_WAIT_NS (30 * NS_PER_S)
#define STOP_DEFAULT_S 10
#define STOP_MAX_S (365 * 24 * 3600) // what is longer would leave int64_t as nanoseconds

static int not_running(const struct container *container, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "container %s is not running", container->id);
}

// A verb without a result, on a live container. Needs container_begin().
static int call_live(struct container *container, const char *verb, json_t *arguments, struct err *err)
{
    mutex_lock(&container->lock);
    struct task_client *client = container_is_live(container) ? container->client : NULL;
    mutex_unlock(&container->lock);
    return client ? task_call(client, verb, arguments, NULL, 0, CALL_TIMEOUT_NS, NULL, NULL, NULL, err)
                  : not_running(container, err);
}

// Needs container_begin().
static void set_paused(struct container *container, bool paused)
{
    mutex_lock(&container->lock);
    container->state.status = paused ? STATUS_PAUSED : STATUS_RUNNING;
    mutex_unlock(&container->lock);
    record_note_state(container);
    health_pause(container, paused);
    event_container(container, paused ? "pause" : "unpause", NULL);
}

// What is frozen takes no signal: one that is meant to end the container thaws it, as Docker does.
static void thaw_to_die(struct container *container, int number)
{
    int own = 0;
    struct err ignored = { 0 };
    mutex_lock(&container->lock);
    bool paused = container->state.status == STATUS_PAUSED;
    mutex_unlock(&container->lock);
    if (!paused || signal_parse(container_stop_signal(container), &own, &ignored) < 0 ||
        (number != SIGKILL && number != own))
        return;
    _cleanup_json_ json_t *arguments = json_object();
    if (call_live(container, "resume", arguments, &ignored) == 0)
        set_paused(container, false);
}

// Needs container_begin(). The event is out before the container is let go, so it comes before the one of the end.
static int send_signal(struct container *container, int number, struct err *err)
{
    char text[12];
    if (restart_call_off(container, number))
        return 0;
    _cleanup_json_ json_t *arguments = json_pack("{s:i, s:s}", "signal", number, "exec_id", "");
    if (call_live(container, "kill", arguments, err) < 0)
        // "process already finished": its end is known here in a moment.
        return err && err->class == ERR_CONFLICT ? not_running(container, err) : -1;
    thaw_to_die(container, number);
    snprintf(text, sizeof(text), "%d", number);
    event_container(container, "kill", "signal", text, NULL);
    return 0;
}

int container_signal(struct container *container, const char *signal, struct err *err)
{
    int number;
    if (signal_parse(signal, &number, err) < 0 || container_begin(container, err) < 0)
        return -1;
    int result = send_signal(container, number, err);
    container_end(container);
    return result;
}

// As with Docker, whoever sends a SIGKILL finds the container stopped afterwards; other signals are only sent.
static int kill_by_name(struct engine *engine, const char *ref, const char *signal, struct err *err)
{
    int number;
    if (signal_parse(signal, &number, err) < 0)
        return -1;
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container || container_signal(container, signal, err) < 0)
        return -1;
    if (number == SIGKILL && container_await_stop(container, KILL_WAIT_NS, NULL, err) < 0)
        return -1;
    return 0;
}

int engine_kill(struct engine *engine, const char *ref, const char *signal, struct err *err)
{
    return kill_by_name(engine, ref, str_empty(signal) ? "SIGKILL" : signal, err) < 0
               ? err_wrap(err, "cannot kill container: %s", ref)
               : 0;
}

// 0 also when there is nobody to take the signal: the end is under way, seen by the supervisor, by its loss, or by --rm.
static int signal_or_gone(struct container *container, const char *signal, struct err *err)
{
    struct err failed = { 0 };
    if (container_signal(container, signal, &failed) == 0 || failed.class == ERR_CONFLICT ||
        failed.class == ERR_UNAVAILABLE || failed.class == ERR_NOT_FOUND)
        return 0;
    return err_set(err, failed.class, "%s", failed.message);
}

// Asks, waits, insists. A client that leaves does not save the container, as with Docker; it only ends a wait without end.
static int stop(struct container *container, const char *signal, int64_t timeout_s, const struct cancel *cancel,
                struct err *err)
{
    if (signal_or_gone(container, signal, err) < 0)
        return -1;
    int stopped = timeout_s < 0 ? container_await_stop(container, -1, cancel, err)
                                : container_await_stop(container, timeout_s * NS_PER_S, NULL, err);
    if (stopped < 0)
        return -1;
    if (stopped == 0) {
        if (signal_or_gone(container, "SIGKILL", err) < 0)
            return -1;
        if (container_await_stop(container, KILL_WAIT_NS, NULL, err) <= 0)
            return err_set(err, ERR_INTERNAL, "container %s did not stop after SIGKILL", container->id);
    }
    event_container(container, "stop", NULL);
    return 0;
}

static int64_t stop_timeout(const struct container *container, int64_t asked_s)
{
    if (asked_s != -1)
        return asked_s < 0 ? -1 : MIN_OF(asked_s, (int64_t)STOP_MAX_S);
    return container->config.stop_timeout >= 0 ? MIN_OF(container->config.stop_timeout, (int64_t)STOP_MAX_S)
           : container->engine->defaults.stop_timeout >= 0 ? MIN_OF(container->engine->defaults.stop_timeout, (int64_t)STOP_MAX_S)
                                                           : STOP_DEFAULT_S;
}

static bool is_up(struct container *container)
{
    mutex_lock(&container->lock);
    bool up = container_is_up(container);
    mutex_unlock(&container->lock);
    return up;
}

int engine_stop(struct engine *engine, const char *ref, const char *signal, int64_t timeout_s,
                const struct cancel *cancel, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    restart_forbid(container);
    if (vm_boot_abort(container))
        return 0;
    if (!is_up(container))
        return err_set(err, ERR_NOT_MODIFIED, "container is already stopped");
    return stop(container, str_empty(signal) ? container_stop_signal(container) : signal,
                stop_timeout(container, timeout_s), cancel, err);
}

static int restart(struct container *container, const char *signal, int64_t timeout_s, const struct cancel *cancel,
                   struct err *err)
{
    if (is_up(container) && stop(container, str_empty(signal) ? container_stop_signal(container) : signal,
                                   stop_timeout(container, timeout_s), cancel, err) < 0)
        return -1;
    if (container_start(container, err) < 0)
        return -1;
    event_container(container, "restart", NULL);
    return 0;
}

static void note_restarting(struct container *container, int change)
{
    mutex_lock(&container->lock);
    container->restarting += (unsigned)change;
    mutex_unlock(&container->lock);
}

int engine_restart(struct engine *engine, const char *ref, const char *signal, int64_t timeout_s,
                   const struct cancel *cancel, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    note_restarting(container, 1);
    int result = restart(container, signal, timeout_s, cancel, err);
    note_restarting(container, -1);
    return result < 0 ? err_wrap(err, "Cannot restart container %s", ref) : result;
}

static int pause_held(struct container *container, bool pause, struct err *err)
{
    mutex_lock(&container->lock);
    enum container_status status = container->state.status;
    mutex_unlock(&container->lock);
    if (status == STATUS_RESTARTING)
        return container_restarting(container, err);
    if (pause && status == STATUS_PAUSED)
        return err_set(err, ERR_CONFLICT, "Container %s is already paused", container->id);
    if (!pause && status != STATUS_PAUSED)
        return err_set(err, ERR_CONFLICT, "Container %s is not paused", container->id);
    _cleanup_json_ json_t *arguments = json_object();
    if (call_live(container, pause ? "pause" : "resume", arguments, err) < 0)
        return -1;
    set_paused(container, pause);
    return 0;
}

int engine_pause(struct engine *engine, const char *ref, bool pause, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container || container_begin(container, err) < 0)
        return -1;
    int result = pause_held(container, pause, err);
    container_end(container);
    return result;
}

int engine_resize(struct engine *engine, const char *ref, int64_t height, int64_t width, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container || container_begin(container, err) < 0)
        return -1;
    char h[24], w[24];
    _cleanup_json_ json_t *arguments =
        json_pack("{s:s, s:I, s:I}", "exec_id", "", "height", (json_int_t)height, "width", (json_int_t)width);
    int result = call_live(container, "resize", arguments, err);
    container_end(container);
    if (result < 0)
        return -1;
    snprintf(h, sizeof(h), "%lld", (long long)height);
    snprintf(w, sizeof(w), "%lld", (long long)width);
    event_container(container, "resize", "height", h, "width", w, NULL);
    return 0;
}

// ---- remove ---------------------------------------------------------------------------------------------------------

static bool has_anonymous_volume(const struct container *container)
{
    for (size_t i = 0; i < container->mount_len; i++)
        if (str_eq(container->mounts[i].type, "volume"))
            return true;
    return false;
}

// Anonymous volumes are known by the record alone, so it says first what is going to happen; all else that a cut-off
// removal leaves is found without it.
static int announce_removal(struct container *container, bool volumes, struct err *err)
{
    if (!volumes || !has_anonymous_volume(container))
        return 0;
    mutex_lock(&container->lock);
    enum container_status before = container->state.status;
    container->state.status = STATUS_REMOVING;
    container->state.remove_volumes = true;
    mutex_unlock(&container->lock);
    if (record_save_state(container, err) == 0)
        return 0;
    mutex_lock(&container->lock);
    container->state.status = before;
    container->state.remove_volumes = false;
    mutex_unlock(&container->lock);
    return -1;
}

static int forget(struct container *container, bool volumes, struct err *err)
{
    if (container_await_writers(container, true, err) < 0 || announce_removal(container, volumes, err) < 0)
        return -1;
    container_release(container); // after a failed or lost run something may still stand
    if (volumes)
        mounts_remove_anonymous(container);
    return record_delete(container, err);
}

int container_remove_held(struct container *container, bool volumes, struct err *err)
{
    struct err failed = { 0 };
    int result = forget(container, volumes, err);
    if (result < 0 && err && err->class == ERR_RESOURCE_EXHAUSTED && store_make_room(container->engine->store))
        result = forget(container, volumes, err);
    if (result < 0)
        return -1;
    container_delist(container); // before its files go: nobody reads half of them
    quota_unmount(container->engine, container->id);
    if (file_remove_tree(container->engine->containers_fd, container->id, &failed) < 0)
        log_warn("container %s: %s", container->id, failed.message);
    event_container(container, "destroy", NULL);
    mutex_lock(&container->lock);
    container->removed = true;
    container_drop_pending(container);
    container_finish_waiters(container, true);
    mutex_unlock(&container->lock);
    images_collect(container->engine);
    return 0;
}

void container_auto_remove(struct container *container)
{
    struct err err = { 0 };
    mutex_lock(&container->lock);
    bool due = container->config.host_config.auto_remove && !container->restarting && !container->removed &&
               !container_is_up(container);
    mutex_unlock(&container->lock);
    if (due && container_remove_held(container, true, &err) < 0)
        log_warn("container %s: %s", container->id, err.message);
}

static int refuse_live(struct container *container, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const char *name = container_name(container, &arena);
    mutex_lock(&container->lock);
    enum container_status status = container->state.status;
    mutex_unlock(&container->lock);
    if (status == STATUS_PAUSED)
        return err_set(err, ERR_CONFLICT,
                       "cannot remove container \"%s\": container is paused and must be unpaused first", name);
    return err_set(err, ERR_CONFLICT,
                   "cannot remove container \"%s\": container is %s: stop the container before removing or force remove",
                   name, status == STATUS_RESTARTING ? "restarting" : "running");
}

static int kill_for_removal(struct container *container, struct err *err)
{
    if (signal_or_gone(container, "SIGKILL", err) < 0)
        return -1;
    int stopped = container_await_stop(container, KILL_WAIT_NS, NULL, err);
    return stopped > 0 ? 0 : err_set(err, ERR_INTERNAL, "could not kill container %s: it did not stop", container->id);
}

// Looks again once it has the container to itself: somebody may have started it in between.
int container_remove(struct container *container, bool force, bool volumes, struct err *err)
{
    for (;;) {
        bool aborted = force && vm_boot_abort(container), killed = aborted || (force && is_up(container));
        if (killed && !aborted && kill_for_removal(container, err) < 0)
            return -1;
        if (container_begin(container, err) < 0)
            return container->config.host_config.auto_remove && killed ? 0 : -1; // --rm was quicker
        bool live = is_up(container);
        int result = !live ? container_remove_held(container, volumes, err) : force ? 0 : refuse_live(container, err);
        container_end(container);
        if (!live || !force)
            return result;
    }
}

int engine_remove(struct engine *engine, const char *ref, bool force, bool volumes, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    return container ? container_remove(container, force, volumes, err) : -1;
}

// ---- rename ---------------------------------------------------------------------------------------------------------

static int take_name(struct container *container, const char *name, char **old, struct err *err)
{
    struct engine *engine = container->engine;
    int result = 0;
    mutex_lock(&engine->list_lock);
    for (struct container *c = engine->containers; c && result == 0; c = c->next)
        if (str_eq(c->name, name))
            result = c == container ? err_set(err, ERR_INVALID_ARGUMENT, "Renaming a container with the same name as its current name")
                                    : err_set(err, ERR_CONFLICT,
                                              "Error when allocating new name: Conflict. The container name \"/%s\" is already "
                                              "in use by container \"%s\". You have to remove (or rename) that container to be able "
                                              "to reuse that name.",
                                              name, c->id);
    if (result == 0) {
        *old = container->name;
        container->name = mem_strdup(name);
    }
    mutex_unlock(&engine->list_lock);
    return result;
}

static void give_name_back(struct container *container, char **old)
{
    struct engine *engine = container->engine;
    mutex_lock(&engine->list_lock);
    free(container->name);
    container->name = take_ptr(old);
    mutex_unlock(&engine->list_lock);
}

// Needs container_begin().
static int rename_held(struct container *container, const char *name, struct err *err)
{
    _cleanup_free_ char *old = NULL;
    struct err ignored = { 0 };
    if (take_name(container, name, &old, err) < 0)
        return -1;
    if (record_rename(container, name, err) < 0) {
        give_name_back(container, &old);
        return -1;
    }
    _cleanup_free_ char *shown = mem_printf("/%s", old);
    event_container(container, "rename", "oldName", shown, NULL);
    if (names_update(container, &ignored) < 0)
        log_warn("container %.12s: its names: %s", container->id, ignored.message);
    return 0;
}

int engine_rename(struct engine *engine, const char *ref, const char *name, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    if (name && name[0] == '/')
        name++;
    if (str_empty(name) || !container_name_valid(name))
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "Error when allocating new name: Invalid container name (/%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
                       name ? name : "");
    if (container_begin(container, err) < 0)
        return -1;
    int result = rename_held(container, name, err);
    container_end(container);
    return result;
}
