// Restart policies. The end of a run decides, in the moment in which it becomes visible: the container is RESTARTING then, which
// clients see as running, and a job for a starter waits for the back-off (100 ms, doubled each time up to a minute, from the
// beginning again after a run of ten seconds). Who stops, kills or removes it in between has it by container_begin(), says that
// it has ended, and the job finds nothing to do.
//
// A daemon that starts decides once more about everything that does not run: what ended while nobody looked, or was lost with
// the host. As with Docker, "always" then also means what somebody had stopped.
#include <signal.h>

#include "checkpoint.h"
#include "links.h"
#include "namespaces.h"

#define BACKOFF_MIN_NS (100 * NS_PER_MS)
#define BACKOFF_MAX_NS (60 * NS_PER_S)
#define LONG_RUN_NS (10 * NS_PER_S)

enum policy { POLICY_NO, POLICY_ALWAYS, POLICY_UNLESS_STOPPED, POLICY_ON_FAILURE, POLICY_LEN };

static const char *const policy_words[POLICY_LEN] = { "no", "always", "unless-stopped", "on-failure" };

static enum policy policy_of(const char *name)
{
    for (int i = 0; i < POLICY_LEN; i++)
        if (str_eq(name, policy_words[i]))
            return (enum policy)i;
    return str_empty(name) ? POLICY_NO : POLICY_LEN;
}

const char *restart_word(const char *name)
{
    enum policy kind = policy_of(name);
    return kind == POLICY_LEN ? NULL : policy_words[kind];
}

int restart_check(const struct restart_policy *policy, struct err *err)
{
    enum policy kind = policy_of(policy->name);
    if (kind == POLICY_LEN)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "invalid restart policy: unknown policy '%.64s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
                       policy->name);
    if (str_empty(policy->name) || policy->maximum_retry_count == 0)
        return 0; // without a name any count passes, as it always did
    if (kind != POLICY_ON_FAILURE)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "invalid restart policy: maximum retry count can only be used with 'on-failure'%s",
                       policy->maximum_retry_count < 0 ? " and cannot be negative" : "");
    if (policy->maximum_retry_count < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid restart policy: maximum retry count cannot be negative");
    return 0;
}

static bool policy_asks(const struct container *container, int64_t exit_code) REQUIRES(container->lock)
{
    const struct restart_policy *policy = &container->config.host_config.restart_policy;
    const struct container_state *state = &container->state;
    switch (policy_of(policy->name)) {
    case POLICY_ALWAYS:
        return true;
    case POLICY_UNLESS_STOPPED:
        return !state->stop_wanted;
    case POLICY_ON_FAILURE:
        return exit_code != 0 && (!policy->maximum_retry_count || state->restart_count < policy->maximum_retry_count);
    default:
        return false;
    }
}

bool restart_due(struct container *container, int64_t exit_code, int64_t lived_ns)
{
    if (!container->engine->serving || container->restart_cancelled || container->restarting)
        return false;
    if (lived_ns >= LONG_RUN_NS)
        container->backoff_ns = 0;
    container->backoff_ns = container->backoff_ns ? MIN_OF(2 * container->backoff_ns, BACKOFF_MAX_NS) : BACKOFF_MIN_NS;
    return policy_asks(container, exit_code);
}

static bool is_restarting(struct container *container)
{
    mutex_lock(&container->lock);
    bool restarting = container->state.status == STATUS_RESTARTING;
    mutex_unlock(&container->lock);
    return restarting;
}

static void start_again(struct container *container)
{
    struct err err = { 0 };
    if (container_begin(container, NULL) < 0)
        return;
    if (is_restarting(container) && container_start_again(container, &err) < 0)
        log_warn("container %.12s: not restarted: %s", container->id, err.message);
    container_end(container);
}

void restart_schedule(struct container *container)
{
    mutex_lock(&container->lock);
    bool restarting = container->state.status == STATUS_RESTARTING;
    int64_t delay_ns = container->backoff_ns;
    mutex_unlock(&container->lock);
    if (restarting)
        later_queue(container, &container->engine->starters, start_again, delay_ns);
}

void restart_reset(struct container *container)
{
    container->state.restart_count = 0;
    container->state.stop_wanted = container->restart_cancelled = false;
    container->backoff_ns = 0;
}

// What Docker's daemon takes as meant to end: any signal, unless the configuration names one of its own.
static bool means_end(const struct container *container, int number)
{
    const char *own = container->config.process.stop_signal;
    int own_number = 0;
    return str_empty(own) || number == SIGKILL || (signal_parse(own, &own_number, NULL) == 0 && number == own_number);
}

bool restart_call_off(struct container *container, int number)
{
    if (!container->engine->serving) // --stop-all: nobody wanted this one to stop
        return false;
    mutex_lock(&container->lock);
    bool has_policy = policy_of(container->config.host_config.restart_policy.name) != POLICY_NO;
    bool told = has_policy && container_is_up(container) && !container->state.stop_wanted;
    bool ended = container->state.status == STATUS_RESTARTING;
    container->state.stop_wanted = container->state.stop_wanted || container_is_up(container);
    container->restart_cancelled = container->restart_cancelled || means_end(container, number);
    if (ended) {
        container->restart_cancelled = true;
        container->state.status = STATUS_EXITED;
        container_finish_waiters(container, false);
    }
    mutex_unlock(&container->lock);
    if (told || ended) // before the signal: a daemon that dies now leaves one that knows
        record_note_state(container);
    if (ended)
        later_cancel(container, start_again);
    return ended;
}

void restart_hold(struct container *container, bool hold)
{
    mutex_lock(&container->lock);
    container->restart_cancelled = container->state.stop_wanted = hold;
    mutex_unlock(&container->lock);
    if (hold) // before the end: a daemon that dies now leaves one that knows
        record_note_state(container);
}

// That it was wanted is noted by the signal which follows, or here for a boot, which gets none.
void restart_forbid(struct container *container)
{
    mutex_lock(&container->lock);
    container->restart_cancelled = true;
    container->state.stop_wanted = container->state.stop_wanted || container->booting;
    mutex_unlock(&container->lock);
}

// ---- a daemon that starts -------------------------------------------------------------------------------------------

#define RESUME_MAX_NS (120 * NS_PER_S) // somebody waits for another one that is still to be started
#define RESUME_STEP_NS (100 * NS_PER_MS)

static bool is_due(const struct container *container) REQUIRES(container->lock)
{
    return container->state.status == STATUS_EXITED && container->state.started_ns && !container->restart_cancelled &&
           policy_asks(container, container->state.exit_code);
}

static bool is_resuming(struct engine *engine, const char *id)
{
    _cleanup_container_ struct container *other = id ? container_find(engine, id, NULL) : NULL;
    if (!other)
        return false;
    mutex_lock(&other->lock);
    bool resuming = other->resuming_until_ns > clock_mono_ns();
    mutex_unlock(&other->lock);
    return resuming;
}

// Whose namespaces a container shares, and whom it is linked to, starts before it.
static bool waits_for_another(struct container *container)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const struct host_config *host = &container->config.host_config;
    const char *const others[] = { namespaces_other(host->ipc_mode), namespaces_other(host->pid_mode),
                                   namespaces_other(namespaces_network(&container->config)) };
    struct strv children = { 0 };
    bool waits = false;
    links_children(container, &arena, &children);
    for (size_t i = 0; i < ARRAY_LEN(others) && !waits; i++)
        waits = is_resuming(container->engine, others[i]);
    for (size_t i = 0; i < children.len && !waits; i++)
        waits = is_resuming(container->engine, children.items[i]);
    return waits;
}

// Decided again when its turn comes: somebody may have stopped, started or removed it while it was queued.
static void start_anew(struct container *container)
{
    struct err err = { 0 };
    if (waits_for_another(container)) {
        later_queue(container, &container->engine->starters, start_anew, RESUME_STEP_NS);
        return;
    }
    if (container_begin(container, NULL) < 0)
        return;
    mutex_lock(&container->lock);
    bool due = is_due(container);
    if (due)
        restart_reset(container);
    mutex_unlock(&container->lock);
    if (due && container_start_again(container, &err) < 0)
        log_warn("container %.12s: not started: %s", container->id, err.message);
    mutex_lock(&container->lock);
    container->resuming_until_ns = 0;
    mutex_unlock(&container->lock);
    container_end(container);
}

void engine_resume(struct engine *engine)
{
    _cleanup_strv_ struct strv ids = { 0 };
    engine->serving = true;
    container_list_ids(engine, &ids);
    for (size_t i = ids.len; i-- > 0;) { // oldest first: a container is younger than those it shares with
        _cleanup_container_ struct container *container = container_find(engine, ids.items[i], NULL);
        if (!container)
            continue;
        mutex_lock(&container->lock);
        bool due = is_due(container);
        if (due)
            container->resuming_until_ns = clock_mono_ns() + RESUME_MAX_NS;
        mutex_unlock(&container->lock);
        if (due)
            pool_queue(container, &engine->starters, start_anew);
    }
}
