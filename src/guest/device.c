#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include "guest_private.h"

#define KERNEL_GROUP 1 // the kernel's own uevents; udev's are group 2

int device_events(struct err *err)
{
    struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = KERNEL_GROUP };
    _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(err, errno, "device events");
    return take_fd(&fd);
}

// What they say does not matter: the caller looks again. Lost ones (ENOBUFS) are as good as read.
static void drain(int events_fd)
{
    char event[8192];
    while (recv(events_fd, event, sizeof(event), 0) >= 0 || errno == ENOBUFS || errno == EINTR)
        ;
}

int device_await(int events_fd, device_fn *there, void *context, const char *what, struct err *err)
{
    int64_t deadline = clock_mono_ns() + GUEST_DEVICE_WAIT_S * NS_PER_S;
    while (!there(context)) {
        int64_t left = deadline - clock_mono_ns();
        struct pollfd wait = { events_fd, POLLIN, 0 };
        if (left <= 0)
            return err_set(err, ERR_UNAVAILABLE, "%s did not appear within %d s", what, GUEST_DEVICE_WAIT_S);
        if (poll(&wait, 1, (int)(left / NS_PER_MS) + 1) > 0)
            drain(events_fd);
    }
    return 0;
}
