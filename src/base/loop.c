// One epoll instance; timers are timerfds in it, posted work arrives through an eventfd. A removed source stays in memory
// until the turn is over, because events already fetched may still point at it.
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/mutex.h"

struct loop_source {
    struct loop *loop;
    struct loop_source *next; // in the loop's list of living or of dead ones
    struct loop_source **at; // what points at this one, while it lives
    int fd;
    bool timer, dead;
    loop_fd_fn *fd_fn;
    loop_fn *timer_fn;
    void *context;
};

struct posted {
    struct posted *next;
    loop_fn *fn;
    void *context;
};

struct loop {
    int epoll_fd, wake_fd;
    bool turning;
    struct loop_source *living;
    struct loop_source *dead; // freed at the end of the turn
    struct mutex lock;
    bool stop GUARDED_BY(lock);
    struct posted *posted GUARDED_BY(lock), **posted_tail GUARDED_BY(lock);
};

UNCHECKED int loop_new(struct loop **out, struct err *err)
{
    struct loop *loop = mem_new(struct loop);
    mutex_init(&loop->lock, 0);
    loop->posted_tail = &loop->posted;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = { .events = EPOLLIN };
    if (loop->epoll_fd < 0 || loop->wake_fd < 0 || epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0) {
        err_errno(err, errno, "event loop");
        loop_free(loop);
        return -1;
    }
    *out = loop;
    return 0;
}

static void link_source(struct loop *loop, struct loop_source *source)
{
    source->next = loop->living;
    source->at = &loop->living;
    if (source->next)
        source->next->at = &source->next;
    loop->living = source;
}

static void unlink_source(struct loop_source *source)
{
    *source->at = source->next;
    if (source->next)
        source->next->at = source->at;
}

static void free_dead(struct loop *loop)
{
    while (loop->dead) {
        struct loop_source *source = loop->dead;
        loop->dead = source->next;
        free(source);
    }
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    while (loop->living)
        loop_remove(loop->living);
    free_dead(loop);
    mutex_lock(&loop->lock);
    while (loop->posted) {
        struct posted *one = loop->posted;
        loop->posted = one->next;
        free(one);
    }
    mutex_unlock(&loop->lock);
    fd_close(loop->epoll_fd);
    fd_close(loop->wake_fd);
    mutex_done(&loop->lock);
    free(loop);
}

// ---- turning --------------------------------------------------------------------------------------------------------

static bool take_stop(struct loop *loop)
{
    mutex_lock(&loop->lock);
    bool stop = loop->stop;
    loop->stop = false;
    mutex_unlock(&loop->lock);
    return stop;
}

static void run_posted(struct loop *loop)
{
    eventfd_t ignored;
    eventfd_read(loop->wake_fd, &ignored);
    mutex_lock(&loop->lock);
    struct posted *list = loop->posted;
    loop->posted = NULL;
    loop->posted_tail = &loop->posted;
    mutex_unlock(&loop->lock);
    while (list) {
        struct posted *one = list;
        list = one->next;
        one->fn(one->context);
        free(one);
    }
}

static void dispatch(struct loop *loop, const struct epoll_event *event)
{
    struct loop_source *source = event->data.ptr;
    uint64_t expirations;
    if (!source)
        run_posted(loop);
    else if (source->dead)
        return;
    else if (!source->timer)
        source->fd_fn(source->context, source->fd, event->events);
    else if (read(source->fd, &expirations, sizeof(expirations)) == sizeof(expirations))
        source->timer_fn(source->context);
}

int loop_run(struct loop *loop, struct err *err)
{
    struct epoll_event events[32];
    while (!take_stop(loop)) {
        int len = epoll_wait(loop->epoll_fd, events, ARRAY_LEN(events), -1);
        if (len < 0 && errno != EINTR)
            return err_errno(err, errno, "epoll_wait");
        loop->turning = true;
        for (int i = 0; i < len; i++)
            dispatch(loop, &events[i]);
        loop->turning = false;
        free_dead(loop);
    }
    return 0;
}

static void wake(struct loop *loop)
{
    eventfd_write(loop->wake_fd, 1);
}

void loop_stop(struct loop *loop)
{
    mutex_lock(&loop->lock);
    loop->stop = true;
    mutex_unlock(&loop->lock);
    wake(loop);
}

void loop_post(struct loop *loop, loop_fn *fn, void *context)
{
    struct posted *one = mem_new(struct posted);
    one->fn = fn;
    one->context = context;
    mutex_lock(&loop->lock);
    *loop->posted_tail = one;
    loop->posted_tail = &one->next;
    mutex_unlock(&loop->lock);
    wake(loop);
}

// ---- sources --------------------------------------------------------------------------------------------------------

static int add(struct loop *loop, struct loop_source *source, uint32_t events, struct loop_source **out, struct err *err)
{
    struct epoll_event event = { .events = events, .data.ptr = source };
    source->loop = loop;
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0) {
        err_errno(err, errno, "watch descriptor %d", source->fd);
        free(source);
        return -1;
    }
    link_source(loop, source);
    *out = source;
    return 0;
}

int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *context, struct loop_source **out,
                struct err *err)
{
    struct loop_source *source = mem_new(struct loop_source);
    source->fd = fd;
    source->fd_fn = fn;
    source->context = context;
    return add(loop, source, events, out, err);
}

void loop_set_events(struct loop_source *source, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.ptr = source };
    if (source->dead) // its number may be another's by now
        return;
    epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event);
}

int loop_add_timer(struct loop *loop, int64_t delay_ns, loop_fn *fn, void *context, struct loop_source **out,
                   struct err *err)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0)
        return err_errno(err, errno, "timer");
    struct loop_source *source = mem_new(struct loop_source);
    source->fd = fd;
    source->timer = true;
    source->timer_fn = fn;
    source->context = context;
    if (add(loop, source, EPOLLIN, out, err) < 0) {
        fd_close(fd);
        return -1;
    }
    loop_set_timer(*out, delay_ns);
    return 0;
}

void loop_set_timer(struct loop_source *source, int64_t delay_ns)
{
    // A zero value would disarm; "now" is one nanosecond.
    int64_t delay = delay_ns < 0 ? 0 : MAX_OF(delay_ns, INT64_C(1));
    const struct itimerspec when = { .it_value = { delay / NS_PER_S, delay % NS_PER_S } };
    if (source->dead)
        return;
    timerfd_settime(source->fd, 0, &when, NULL);
}

void loop_remove(struct loop_source *source)
{
    if (!source || source->dead)
        return;
    struct loop *loop = source->loop;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    if (source->timer)
        fd_close(source->fd);
    source->dead = true;
    unlink_source(source);
    source->next = loop->dead;
    loop->dead = source;
    if (!loop->turning)
        free_dead(loop);
}
