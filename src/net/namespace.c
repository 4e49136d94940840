// Network namespaces are entered by threads that live for one visit: unshare(CLONE_NEWNET) and setns() change the calling
// thread alone, and a thread that failed to come back would do its next work in somebody else's network.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "net_private.h"

enum { STACK_SIZE = 256 * 1024 };

struct visit {
    int netns_fd; // -1: make one
    namespace_fn *fn;
    void *context;
    struct err *err;
    int result;
};

static int loopback_up(struct err *err)
{
    struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    _cleanup_close_ int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &request) < 0)
        return err_errno(err, errno, "bring lo up");
    return 0;
}

static int make(struct visit *visit)
{
    if (unshare(CLONE_NEWNET) < 0)
        return err_errno(visit->err, errno, "make a network namespace");
    _cleanup_close_ int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(visit->err, errno, "/proc/thread-self/ns/net");
    if (loopback_up(visit->err) < 0 || (visit->fn && visit->fn(visit->context, fd, visit->err) < 0))
        return -1;
    visit->netns_fd = take_fd(&fd);
    return 0;
}

static void *make_thread(void *argument)
{
    struct visit *visit = argument;
    visit->result = make(visit);
    return NULL;
}

static void *visit_thread(void *argument)
{
    struct visit *visit = argument;
    if (setns(visit->netns_fd, CLONE_NEWNET) < 0)
        visit->result = err_errno(visit->err, errno, "enter a network namespace");
    else
        visit->result = visit->fn(visit->context, visit->netns_fd, visit->err);
    return NULL;
}

static int run(void *(*thread_fn)(void *), struct visit *visit)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    int failed = pthread_create(&thread, &attributes, thread_fn, visit);
    pthread_attr_destroy(&attributes);
    if (failed)
        return err_errno(visit->err, failed, "start a thread");
    pthread_join(thread, NULL);
    return visit->result;
}

int namespace_make(namespace_fn *fn, void *context, int *netns_fd, struct err *err)
{
    struct visit visit = { .netns_fd = -1, .fn = fn, .context = context, .err = err };
    if (run(make_thread, &visit) < 0)
        return -1;
    *netns_fd = visit.netns_fd;
    return 0;
}

static int visit_loopback(void *context, int netns_fd, struct err *err)
{
    return loopback_up(err);
}

int net_loopback_up(int netns_fd, struct err *err)
{
    return namespace_visit(netns_fd, visit_loopback, NULL, err);
}

int namespace_visit(int netns_fd, namespace_fn *fn, void *context, struct err *err)
{
    struct visit visit = { .netns_fd = netns_fd, .fn = fn, .context = context, .err = err };
    return run(visit_thread, &visit);
}
