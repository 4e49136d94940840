// The acceptor: one thread, one epoll over the listening sockets and every connection that has not said anything yet. A
// silent client so costs a descriptor and a few bytes, never a thread.
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "httpd_private.h"

static void forget(struct httpd *httpd, struct waiting *one)
{
    one->previous->next = one->next;
    one->next->previous = one->previous;
    httpd->waiting_len--;
    free(one);
}

static void drop(struct httpd *httpd, struct waiting *one)
{
    close(one->fd);
    forget(httpd, one);
}

static void drop_oldest(struct httpd *httpd)
{
    struct waiting *oldest = httpd->waiting.next;
    httpd->waiting.next = oldest->next;
    oldest->next->previous = &httpd->waiting;
    httpd->waiting_len--;
    close(oldest->fd);
    free(oldest);
}

// HTTP/2 begins with "PRI * HTTP/2.0".
static bool is_http2(const char *peeked, ssize_t size)
{
    return size >= 4 && strncmp(peeked, "PRI ", 4) == 0;
}

// A first line that does not end is a long one: clients send a short head with one write. Which server a connection gets is settled by its
// first request.
static bool is_long(const char *peeked, ssize_t size)
{
    return size == HTTPD_LONG_LINE && !memchr(peeked, '\n', (size_t)size);
}

static void hand_over(struct httpd *httpd, int fd, bool long_head)
{
    struct MHD_Daemon *mhd = long_head ? httpd_long(httpd) : httpd->mhd;
    if (!mhd) {
        close(fd);
        return;
    }

    // libmicrohttpd treats TCP and other sockets differently, by the family of the address it is given.
    struct sockaddr_storage address = { .ss_family = AF_UNIX };
    socklen_t size = sizeof(address);
    if (getpeername(fd, (struct sockaddr *)&address, &size) < 0 || address.ss_family == AF_UNIX) {
        address.ss_family = AF_UNIX;
        size = sizeof(struct sockaddr_un);
    }
    MHD_add_connection(mhd, fd, (struct sockaddr *)&address, size); // closes the socket when it fails
}

static void add_waiting(struct httpd *httpd, int fd, struct httpd_tls *tls);

// The client waits once more, inside: for its first bytes behind the handshake.
static void start_tls(struct httpd *httpd, struct httpd_tls *tls, int fd)
{
    struct err err = { 0 };
    int inner = tls_relay(tls, fd, &err);
    if (inner >= 0)
        add_waiting(httpd, inner, NULL);
}

static void on_first_bytes(struct httpd *httpd, struct waiting *one)
{
    char peeked[HTTPD_LONG_LINE];
    ssize_t size = recv(one->fd, peeked, sizeof(peeked), MSG_PEEK | MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    bool http2 = is_http2(peeked, size);
    if (size <= 0 || (http2 && !httpd->config.http2)) {
        drop(httpd, one);
        return;
    }
    int fd = one->fd;
    struct httpd_tls *tls = one->tls;
    epoll_ctl(httpd->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    forget(httpd, one);
    if (tls)
        start_tls(httpd, tls, fd);
    else if (http2)
        http2_start(httpd, fd);
    else
        hand_over(httpd, fd, is_long(peeked, size));
}

static void add_waiting(struct httpd *httpd, int fd, struct httpd_tls *tls)
{
    struct waiting *one = mem_new(struct waiting);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = one };
    *one = (struct waiting){ &httpd->waiting, httpd->waiting.previous, fd, tls,
                             clock_mono_ns() + HTTPD_FIRST_BYTES_NS };
    one->previous->next = one->next->previous = one;
    httpd->waiting_len++;
    if (epoll_ctl(httpd->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        drop(httpd, one);
}

static void accept_all(struct httpd *httpd, int listen_fd, struct httpd_tls *tls)
{
    for (;;) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            add_waiting(httpd, fd, tls);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        // Out of descriptors: the oldest silent client gives its own; without one, a moment's rest instead of a busy loop.
        if (errno != EAGAIN && httpd->waiting_len > 0)
            drop_oldest(httpd);
        else if (errno != EAGAIN)
            poll(NULL, 0, 20);
        return;
    }
}

static int drop_late(struct httpd *httpd)
{
    int64_t now_ns = clock_mono_ns();
    while (httpd->waiting_len > 0 && httpd->waiting.next->deadline_ns <= now_ns)
        drop_oldest(httpd);
    return httpd->waiting_len > 0 ? (int)((httpd->waiting.next->deadline_ns - now_ns) / NS_PER_MS) + 1 : -1;
}

// Data pointers: NULL is the stop event, &listen_fds[i] a listening socket, anything else a waiting client.
static void *run(void *context)
{
    struct httpd *httpd = context;
    struct epoll_event events[64];
    for (;;) {
        int timeout_ms = drop_late(httpd);
        // Listening sockets after all others: accept_all() may drop a waiting client that stands further down in the batch.
        int len = epoll_wait(httpd->epoll_fd, events, ARRAY_LEN(events), timeout_ms);
        bool listening[HTTPD_LISTEN_MAX] = { false };
        for (int i = 0; i < len; i++) {
            int *listen_fd = events[i].data.ptr;
            if (!listen_fd)
                return NULL;
            if (listen_fd >= httpd->listen_fds && listen_fd < httpd->listen_fds + HTTPD_LISTEN_MAX)
                listening[listen_fd - httpd->listen_fds] = true;
            else
                on_first_bytes(httpd, events[i].data.ptr);
        }
        for (size_t i = 0; i < httpd->listen_len; i++)
            if (listening[i])
                accept_all(httpd, httpd->listen_fds[i], httpd->listen_tls[i]);
    }
}

int acceptor_start(struct httpd *httpd, struct err *err)
{
    struct epoll_event event = { .events = EPOLLIN };
    httpd->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (httpd->epoll_fd < 0 || epoll_ctl(httpd->epoll_fd, EPOLL_CTL_ADD, httpd->stop_fd, &event) < 0)
        return err_errno(err, errno, "epoll");
    for (size_t i = 0; i < httpd->listen_len; i++) {
        event.data.ptr = &httpd->listen_fds[i];
        if (epoll_ctl(httpd->epoll_fd, EPOLL_CTL_ADD, httpd->listen_fds[i], &event) < 0)
            return err_errno(err, errno, "listening socket");
    }
    int failed = pthread_create(&httpd->acceptor, NULL, run, httpd);
    if (failed)
        return err_errno(err, failed, "start the accept thread");
    httpd->accepts = true;
    return 0;
}

void acceptor_stop(struct httpd *httpd)
{
    if (httpd->accepts)
        pthread_join(httpd->acceptor, NULL);
    httpd->accepts = false;
    while (httpd->waiting_len > 0)
        drop_oldest(httpd);
    for (size_t i = 0; i < httpd->listen_len; i++)
        fd_close(httpd->listen_fds[i]);
    httpd->listen_len = 0;
}
