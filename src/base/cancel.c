#include <errno.h>
#include <poll.h>
#include <time.h>

#include "base/cancel.h"
#include "base/clock.h"

int cancel_wait(const struct cancel *cancel, int fd, int64_t deadline_mono_ns, struct err *err)
{
    struct pollfd fds[] = { { fd, POLLIN, 0 },
                            { cancel ? cancel->fd : -1, POLLRDHUP, 0 },
                            { cancel ? cancel->event_fd : -1, POLLIN, 0 } };
    for (;;) {
        struct timespec left, *timeout = NULL;
        if (deadline_mono_ns >= 0) {
            int64_t left_ns = MAX_OF(deadline_mono_ns - clock_mono_ns(), INT64_C(0));
            left = (struct timespec){ left_ns / NS_PER_S, left_ns % NS_PER_S };
            timeout = &left;
        }
        int ready = ppoll(fds, ARRAY_LEN(fds), timeout, NULL);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready < 0)
            return err_errno(err, errno, "poll");
        if (fds[1].revents || fds[2].revents)
            return err_set(err, ERR_CANCELLED, "cancelled");
        return fds[0].revents ? 1 : 0;
    }
}

bool cancel_now(const struct cancel *cancel)
{
    struct pollfd fds[] = { { cancel ? cancel->fd : -1, POLLRDHUP, 0 }, { cancel ? cancel->event_fd : -1, POLLIN, 0 } };
    return poll(fds, ARRAY_LEN(fds), 0) > 0;
}
