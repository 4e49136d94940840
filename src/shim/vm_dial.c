#include <errno.h>
#include <sys/socket.h>

#include "shim/vm.h"

// The peer runs a guest: it may ask for what it likes, and as often; each question costs it more than us.
static void answer(struct vm_dial *dial)
{
    uint32_t ports[2];
    int ends[2] = { -1, -1 };
    memcpy(ports, dial->question, sizeof(ports));
    bool wanted = ports[0] == LINK_VSOCK_PORT && fd_socketpair(SOCK_STREAM, ends, NULL) == 0;
    _cleanup_close_ int near = ends[0], far = ends[1];
    if (fd_send(dial->fd, ports, sizeof(ports), &far, wanted, NULL) == sizeof(ports) && wanted &&
        link_connect(dial->link, near, NULL) == 0)
        take_fd(&near);
}

static void dial_readable(void *context, int fd, uint32_t events)
{
    struct vm_dial *dial = context;
    ssize_t got = recv(fd, dial->question + dial->size, sizeof(dial->question) - dial->size, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) { // its end is told by its pidfd
        loop_remove(take_ptr(&dial->source));
        return;
    }
    dial->size += (size_t)got;
    if (dial->size < sizeof(dial->question))
        return;
    dial->size = 0;
    answer(dial);
}

int vm_dial_open(struct vm_dial *dial, struct loop *loop, struct link *link, int fd, struct err *err)
{
    if (fd_set_nonblock(fd, true, err) < 0 || loop_add_fd(loop, fd, EPOLLIN, dial_readable, dial, &dial->source, err) < 0)
        return -1;
    dial->fd = fd;
    dial->link = link;
    return 0;
}

void vm_dial_done(struct vm_dial *dial)
{
    loop_remove(take_ptr(&dial->source));
    fd_close(take_fd(&dial->fd));
}
