// Waiting for the end of a container. A waiter is registered before anything can be missed, and told exactly once.
#include <errno.h>
#include <sys/eventfd.h>

#include "engine_private.h"

static void tell(struct engine_waiter *waiter, int64_t exit_code)
{
    waiter->exit_code = exit_code;
    waiter->done = true;
    eventfd_write(waiter->event_fd, 1);
}

int waiter_new(struct container *container, enum engine_condition condition, struct engine_waiter **out, struct err *err)
{
    struct engine_waiter *waiter = mem_new(struct engine_waiter);
    waiter->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (waiter->event_fd < 0) {
        err_errno(err, errno, "eventfd");
        free(waiter);
        return -1;
    }
    waiter->container = container_ref(container);
    waiter->condition = condition;
    mutex_lock(&container->lock);
    if (container->removed || (condition == ENGINE_NOT_RUNNING && !container_is_up(container))) {
        tell(waiter, container->state.exit_code);
    } else {
        waiter->next = container->waiters;
        container->waiters = waiter;
    }
    mutex_unlock(&container->lock);
    *out = waiter;
    return 0;
}

int engine_wait_begin(struct engine *engine, const char *ref, enum engine_condition condition,
                      struct engine_waiter **out, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    return container ? waiter_new(container, condition, out, err) : -1;
}

// After an exit, or (`removed`) a removal, which ends every wait.
void container_finish_waiters(struct container *container, bool removed)
{
    struct engine_waiter **at = &container->waiters;
    while (*at) {
        struct engine_waiter *waiter = *at;
        if (!removed && waiter->condition == ENGINE_REMOVED) {
            at = &waiter->next;
            continue;
        }
        *at = waiter->next;
        tell(waiter, container->state.exit_code);
    }
}

int engine_wait(struct engine_waiter *waiter, const struct cancel *cancel, int64_t *exit_code, struct err *err)
{
    if (cancel_wait(cancel, waiter->event_fd, -1, err) < 0)
        return -1;
    mutex_lock(&waiter->container->lock);
    *exit_code = waiter->exit_code;
    mutex_unlock(&waiter->container->lock);
    return 0;
}

void engine_wait_end(struct engine *engine, struct engine_waiter *waiter)
{
    if (!waiter)
        return;
    struct container *container = waiter->container;
    mutex_lock(&container->lock);
    for (struct engine_waiter **at = &container->waiters; *at; at = &(*at)->next)
        if (*at == waiter) {
            *at = waiter->next;
            break;
        }
    mutex_unlock(&container->lock);
    close(waiter->event_fd);
    free(waiter);
    container_unref(container);
}

int container_await_stop(struct container *container, int64_t timeout_ns, const struct cancel *cancel, struct err *err)
{
    struct engine_waiter *waiter = NULL;
    if (waiter_new(container, ENGINE_NOT_RUNNING, &waiter, err) < 0)
        return -1;
    int ready = cancel_wait(cancel, waiter->event_fd, timeout_ns < 0 ? -1 : clock_mono_ns() + timeout_ns, err);
    engine_wait_end(container->engine, waiter);
    return ready;
}
