// Sockets of the file system for a guest's vsock: a guest that connects to port 1024 of the host reaches who listens on
// SOCKET_1024; who connects to SOCKET and says "CONNECT 1024\n" reaches port 1024 of the guest, or is closed. What goes over a
// connection passes from socket to machine: the broker has no part in it.
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/num.h"
#include "vmm/monitor.h"

#define CALLERS_MAX 16 // that have not said their port yet
#define LINE_MAX_SIZE 32

struct broker {
    struct loop *loop;
    int link_fd, listener_fd;
    const char *path;
    struct loop_source *link, *listener;
    struct caller {
        struct broker *broker;
        int fd; // -1: free
        struct loop_source *source;
    } callers[CALLERS_MAX];
};

// Never waits: a listener whose queue is full refuses.
static int connect_to(const char *path, uint32_t port)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int size = snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", path, port);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || size >= (int)sizeof(address.sun_path) || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return -1;
    return take_fd(&fd);
}

static void on_link(void *context, int fd, uint32_t events)
{
    struct broker *broker = context;
    uint32_t ports[2];
    if (recv(fd, ports, sizeof(ports), MSG_DONTWAIT) != sizeof(ports)) {
        loop_set_events(broker->link, 0); // the machine's process ends, or has
        return;
    }
    _cleanup_close_ int sock = connect_to(broker->path, ports[0]);
    fd_send(fd, ports, sizeof(ports), &sock, sock >= 0, NULL);
}

static void caller_done(struct caller *caller)
{
    loop_remove(caller->source);
    fd_close(caller->fd);
    *caller = (struct caller){ .broker = caller->broker, .fd = -1 };
}

// Exactly the line is read: what follows is the guest's.
static void on_caller(void *context, int fd, uint32_t events)
{
    struct caller *caller = context;
    char line[LINE_MAX_SIZE];
    uint64_t port;
    ssize_t got = recv(fd, line, sizeof(line), MSG_PEEK | MSG_DONTWAIT);
    const char *end = got > 0 ? memchr(line, '\n', (size_t)got) : NULL;
    if (!end && got > 0 && got < LINE_MAX_SIZE && !(events & (EPOLLHUP | EPOLLERR)))
        return;
    struct slice text = { line, end ? (size_t)(end - line) : 0 }, word;
    if (end && slice_cut(&text, ' ', &word) && slice_eq(word, "CONNECT") && num_parse_u64(text, UINT32_MAX, &port) &&
        recv(fd, line, (size_t)(end - line) + 1, 0) > 0)
        fd_send(caller->broker->link_fd, (const uint32_t[]){ 0, (uint32_t)port }, 2 * sizeof(uint32_t), &fd, 1, NULL);
    caller_done(caller);
}

static void on_listener(void *context, int fd, uint32_t events)
{
    struct broker *broker = context;
    struct caller *caller = broker->callers;
    int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    while (caller < broker->callers + CALLERS_MAX && caller->fd >= 0)
        caller++;
    if (accepted < 0)
        return;
    if (caller == broker->callers + CALLERS_MAX ||
        loop_add_fd(broker->loop, accepted, EPOLLIN, on_caller, caller, &caller->source, NULL) < 0)
        fd_close(accepted);
    else
        caller->fd = accepted;
}

int broker_new(struct loop *loop, int link_fd, int listener_fd, const char *path, struct broker **out, struct err *err)
{
    struct broker *broker = mem_new(struct broker);
    *broker = (struct broker){ .loop = loop, .link_fd = link_fd, .listener_fd = listener_fd, .path = path };
    for (size_t i = 0; i < CALLERS_MAX; i++)
        broker->callers[i] = (struct caller){ .broker = broker, .fd = -1 };
    if (fd_set_nonblock(listener_fd, true, err) < 0 ||
        loop_add_fd(loop, link_fd, EPOLLIN, on_link, broker, &broker->link, err) < 0 ||
        loop_add_fd(loop, listener_fd, EPOLLIN, on_listener, broker, &broker->listener, err) < 0) {
        broker_free(broker);
        return -1;
    }
    *out = broker;
    return 0;
}

void broker_free(struct broker *broker)
{
    if (!broker)
        return;
    for (size_t i = 0; i < CALLERS_MAX; i++)
        if (broker->callers[i].fd >= 0)
            caller_done(&broker->callers[i]);
    loop_remove(broker->link);
    loop_remove(broker->listener);
    fd_close(broker->link_fd);
    fd_close(broker->listener_fd);
    free(broker);
}
