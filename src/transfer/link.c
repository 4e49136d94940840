#include "link.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/fd.h"

static void *watch_others(void *context)
{
    const struct fetch_watch *watch = context;
    struct pollfd fds[] = { { .fd = watch->fds[0], .events = 0 }, { .fd = watch->fds[1], .events = 0 } };
    while (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno == EINTR)
        ;
    _exit(1);
}

int fetch_watch_start(struct fetch_watch *watch, struct err *err)
{
    return pthread_create(&watch->thread, NULL, watch_others, watch) == 0 ? 0 : err_set(err, ERR_RESOURCE_EXHAUSTED, "thread");
}

void fetch_watch_stop(struct fetch_watch *watch)
{
    pthread_cancel(watch->thread);
    pthread_join(watch->thread, NULL);
}

int fetch_link_send(int link_fd, const struct link_message *message, int fd, struct err *err)
{
    return fd_send(link_fd, message, sizeof(*message), &fd, fd >= 0, err) < 0 ? -1 : 0;
}

int fetch_link_receive(int link_fd, struct link_message *message, int *fd, struct err *err)
{
    int fds[1] = { -1 };
    size_t fd_len = 1;
    ssize_t got = fd_recv(link_fd, message, sizeof(*message), fds, &fd_len, err);
    *fd = got > 0 && fd_len ? fds[0] : -1;
    if (got < 0)
        return -1;
    if (got == 0)
        return err_set(err, ERR_UNAVAILABLE, "the fetching process ended early");
    if (got == sizeof(*message))
        return 0;
    fd_close(take_fd(fd));
    return err_set(err, ERR_INTERNAL, "the fetching process sent half a message");
}
