// Followers of logs: one inotify instance for all of them, because a user has 128; the watcher's thread wakes those whose folder
// changed.
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

#include "engine_private.h"

#define FOLDER_EVENTS (IN_MODIFY | IN_MOVED_TO | IN_CREATE)

static void wake(struct engine *engine, const struct inotify_event *event)
{
    mutex_lock(&engine->watch_lock);
    for (const struct watch *watch = engine->watches; watch; watch = watch->next)
        if (watch->wd == event->wd || event->mask & IN_Q_OVERFLOW)
            eventfd_write(watch->event_fd, 1);
    mutex_unlock(&engine->watch_lock);
}

static void readable(void *context, int fd, uint32_t events)
{
    char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t size = read(fd, buffer, sizeof(buffer));
    for (ssize_t at = 0; at < size;) {
        const struct inotify_event *event = (const struct inotify_event *)(buffer + at);
        wake(context, event);
        at += (ssize_t)(sizeof(*event) + event->len);
    }
}

int watches_start(struct engine *engine, struct err *err)
{
    engine->watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (engine->watch_fd < 0)
        return err_errno(err, errno, "inotify");
    return loop_add_fd(engine->loop, engine->watch_fd, EPOLLIN, readable, engine, &engine->watch_source, err);
}

int watch_new(struct engine *engine, const char *folder, struct watch **out, struct err *err)
{
    struct watch *watch = mem_new(struct watch);
    int result = 0;
    watch->engine = engine;
    watch->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    mutex_lock(&engine->watch_lock);
    watch->wd = watch->event_fd < 0 ? -1 : inotify_add_watch(engine->watch_fd, folder, FOLDER_EVENTS); // the same number for the same folder
    if (watch->wd < 0) {
        result = err_errno(err, errno, "watch %s", folder);
    } else {
        watch->next = engine->watches;
        engine->watches = watch;
    }
    mutex_unlock(&engine->watch_lock);
    if (result < 0) {
        fd_close(watch->event_fd);
        free(watch);
        return -1;
    }
    *out = watch;
    return 0;
}

void watch_free(struct watch *watch)
{
    bool shared = false;
    if (!watch)
        return;
    struct engine *engine = watch->engine;
    mutex_lock(&engine->watch_lock);
    for (struct watch **at = &engine->watches; *at;)
        if (*at == watch) {
            *at = watch->next;
        } else {
            shared = shared || (*at)->wd == watch->wd;
            at = &(*at)->next;
        }
    if (!shared)
        inotify_rm_watch(engine->watch_fd, watch->wd); // EINVAL when the folder is gone
    mutex_unlock(&engine->watch_lock);
    fd_close(watch->event_fd);
    free(watch);
}
