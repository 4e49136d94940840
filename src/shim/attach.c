// One attached client: a socket that was hijacked from an HTTP connection and handed over.
//
// Output goes straight to the socket; what it does not take is queued. A client at its budget holds the process's output
// back (stdio.c looks at client_pending()), and one that takes nothing for SHIM_READER_STALL_NS is dropped, so that
// nobody is blocked for ever. Input is read only while the process's standard input takes it.
//
// The ends of a connection mean different things. End of file is a half-closed peer: Docker's CLI half-closes at once
// when it has no input to send, and that ends nothing. Only a hang-up (EPOLLHUP) is a client that left.
#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "shim/shim_private.h"

#define FRAME_HEADER_SIZE 8
#define HEAD_LOOK_NS NS_PER_MS
#define HEAD_WAIT_NS (200 * NS_PER_MS)
// Beyond the budget: one read that was under way per outlet, and what two full pipes of a dead process may hold.
#define QUEUE_MAX (SHIM_READER_BUDGET + 2 * SHIM_COPY_SIZE + (1u << 20))

static void client_ready(void *context, int fd, uint32_t events);

int client_new(const struct task_attach *attach, int fd, struct client **out, struct err *err)
{
    int type;
    socklen_t size = sizeof(type);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM)
        return err_set(err, ERR_INVALID_ARGUMENT, "attach: not a stream socket");
    struct client *client = mem_new(struct client);
    *client = (struct client){ .fd = -1, .in = attach->in, .out = attach->out, .error = attach->error,
                               .framed = attach->framed, .head_until_ns = clock_mono_ns() + HEAD_WAIT_NS, .queue = BUF_INIT(QUEUE_MAX) };
    if (detach_keys_parse(attach->detach_keys, &client->keys, err) < 0) {
        client_discard(client);
        return -1;
    }
    client->fd = fd;
    *out = client;
    return 0;
}

void client_discard(struct client *client)
{
    loop_remove(client->source);
    loop_remove(client->stall);
    loop_remove(client->head_wait);
    fd_close(client->fd);
    buf_done(&client->queue);
    free(client);
}

void client_list_discard(struct client *list)
{
    while (list) {
        struct client *next = list->next;
        client_discard(list);
        list = next;
    }
}

size_t client_pending(const struct client *client)
{
    return client->queue.size - client->queue_head;
}

// ---- the end --------------------------------------------------------------------------------------------------------

// A unix socket that is closed over unread input resets its peer, which would then see an error instead of the end.
static void drain_input(struct client *client)
{
    char unread[4096]; // not the shared buffer: output may be on its way through it
    for (int i = 0; i < 256; i++) {
        if (recv(client->fd, unread, sizeof(unread), MSG_DONTWAIT) <= 0)
            return;
    }
}

void client_drop(struct client *client)
{
    if (client->gone)
        return;
    client->gone = true;
    loop_remove(take_ptr(&client->source));
    loop_remove(take_ptr(&client->stall));
    loop_remove(take_ptr(&client->head_wait));
    shutdown(client->fd, SHUT_RDWR);
    drain_input(client);
    fd_close(take_fd(&client->fd));
    buf_done(&client->queue);
    client->queue = (struct buf)BUF_INIT(QUEUE_MAX);
    client->queue_head = 0;
    // Whoever fed the process is gone, whichever way: it must see the end, or it waits for ever.
    if (client->in && client->stdio->stdin_once && !client->stdio->terminal)
        stdio_close_input(client->stdio);
    client->in = false;
    stdio_reader_changed(client->stdio);
    client->stdio->on_client_gone(client->stdio->context);
}

static void client_stalled(void *context)
{
    client_drop(context);
}

// A client that holds the process back has to take something now and then; one that only lags behind may sleep, and the
// last bytes of an ended process, which hold nobody back, are kept for long.
static enum client_patience patience_of(const struct client *client)
{
    if (client->finishing)
        return client_pending(client) ? PATIENCE_LONG : PATIENCE_ENDLESS;
    return client_pending(client) >= SHIM_READER_BUDGET ? PATIENCE_SHORT : PATIENCE_ENDLESS;
}

static void watch_stall(struct client *client, bool progressed)
{
    enum client_patience patience = patience_of(client);
    if (patience == client->patience && !progressed)
        return;
    client->patience = patience;
    int64_t stall_ns = client->stdio->stall_ns;
    int64_t delay_ns = patience == PATIENCE_SHORT ? stall_ns : patience == PATIENCE_LONG ? 10 * stall_ns : -1;
    if (client->stall)
        loop_set_timer(client->stall, delay_ns);
    else if (delay_ns >= 0)
        loop_add_timer(client->stdio->loop, delay_ns, client_stalled, client, &client->stall, NULL);
}

// ---- events ---------------------------------------------------------------------------------------------------------

static bool wants_input(const struct client *client)
{
    return client->in && stdio_input_ready(client->stdio);
}

// A source that is left with no interest still reports a hang-up for ever; one that was seen must go.
static void update_events(struct client *client)
{
    if (client->gone)
        return;
    bool sends = client_pending(client) && !client->head_wait;
    uint32_t events = (wants_input(client) ? EPOLLIN : 0) | (sends ? EPOLLOUT : 0);
    if (client->hung_up) {
        loop_remove(take_ptr(&client->source));
    } else if (client->source) {
        loop_set_events(client->source, events);
    }
}

int client_watch(struct client *client, struct err *err)
{
    uint32_t events = wants_input(client) ? EPOLLIN : 0;
    return loop_add_fd(client->stdio->loop, client->fd, events, client_ready, client, &client->source, err);
}

// ---- output ---------------------------------------------------------------------------------------------------------

static void look_at_head(void *context);

// Some clients read the answer's head through a buffer and then from the socket itself (python3-docker): what has come behind the head by
// then is lost to them. So the first byte waits until the head was taken, as far as the kernel can tell (of a unix socket), or for a moment.
static bool head_taken(struct client *client)
{
    int unread = 0;
    if (client->head_until_ns == 0)
        return true;
    if (ioctl(client->fd, SIOCOUTQ, &unread) < 0 || unread == 0 || clock_mono_ns() >= client->head_until_ns)
        client->head_until_ns = 0;
    else if (!client->head_wait &&
             loop_add_timer(client->stdio->loop, HEAD_LOOK_NS, look_at_head, client, &client->head_wait, NULL) < 0)
        client->head_until_ns = 0;
    return client->head_until_ns == 0;
}

static void send_queue(struct client *client)
{
    bool progressed = false;
    while (client_pending(client) && head_taken(client)) {
        ssize_t sent = send(client->fd, client->queue.data + client->queue_head, client_pending(client),
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno != EAGAIN) {
            client_drop(client);
            return;
        }
        if (sent < 0)
            break;
        client->queue_head += (size_t)sent;
        progressed = true;
    }
    if (client->queue_head > client->queue.size / 2) {
        buf_consume(&client->queue, client->queue_head);
        client->queue_head = 0;
    }
    watch_stall(client, progressed);
    if (client->finishing && !client_pending(client))
        client_drop(client);
    else if (progressed)
        stdio_reader_changed(client->stdio);
}

static void look_at_head(void *context)
{
    struct client *client = context;
    loop_remove(take_ptr(&client->head_wait));
    send_queue(client);
    update_events(client);
}

// What the socket takes at once; the count, or -1 when the peer is gone.
static ssize_t send_now(struct client *client, const struct iovec *parts, size_t len)
{
    struct msghdr message = { .msg_iov = (struct iovec *)parts, .msg_iovlen = len };
    ssize_t sent;
    if (!head_taken(client))
        return 0;
    do
        sent = sendmsg(client->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 && errno == EAGAIN ? 0 : sent;
}

static void queue_rest(struct client *client, const struct iovec *parts, size_t len, size_t sent)
{
    for (size_t i = 0; i < len; i++) {
        size_t skip = MIN_OF(sent, parts[i].iov_len);
        sent -= skip;
        if (parts[i].iov_len > skip)
            buf_add(&client->queue, (const char *)parts[i].iov_base + skip, parts[i].iov_len - skip);
    }
}

void client_write(struct client *client, enum stdio_stream stream, const void *data, size_t size)
{
    bool wanted = stream == STDIO_ERROR ? client->error : client->out;
    if (client->gone || client->finishing || !wanted)
        return;
    uint8_t header[FRAME_HEADER_SIZE] = { (uint8_t)stream, 0, 0, 0, (uint8_t)(size >> 24), (uint8_t)(size >> 16),
                                          (uint8_t)(size >> 8), (uint8_t)size };
    struct iovec parts[2] = { { header, client->framed ? sizeof(header) : 0 }, { (void *)data, size } };
    ssize_t sent = client_pending(client) ? 0 : send_now(client, parts, 2);
    if (sent >= 0)
        queue_rest(client, parts, 2, (size_t)sent);
    if (sent < 0 || client->queue.overflow) {
        client_drop(client);
        return;
    }
    watch_stall(client, sent > 0);
    update_events(client);
}

void client_finish(struct client *client)
{
    if (client->gone)
        return;
    client->finishing = true;
    client->in = false;
    if (!client_pending(client) || client->hung_up)
        client_drop(client);
    else {
        watch_stall(client, false);
        update_events(client);
    }
}

// ---- input ----------------------------------------------------------------------------------------------------------

// Docker's rule: the end of the input is the process's when stdin was opened for one client, else it ends this attach.
static void input_ended(struct client *client)
{
    struct stdio *stdio = client->stdio;
    client->in = false;
    if (client->hung_up || !stdio->stdin_once || stdio->terminal) {
        if (stdio->stdin_once && !stdio->terminal)
            stdio_close_input(stdio);
        client_finish(client);
        return;
    }
    stdio_close_input(stdio);
    update_events(client);
}

static void pass_input(struct client *client, size_t size)
{
    struct stdio *stdio = client->stdio;
    if (!stdio->terminal || !client->keys.len) {
        stdio_input(stdio, stdio->copy, size);
        return;
    }
    uint8_t passed[4096 + DETACH_KEYS_MAX];
    size_t passed_size;
    bool detached = detach_keys_filter(&client->keys, (uint8_t *)stdio->copy, size, passed, &passed_size);
    stdio_input(stdio, passed, passed_size);
    if (detached) {
        stdio->on_detached(stdio->context);
        client_drop(client);
    }
}

// One read, as much as the process's input surely buffers. 1: go on, 0: nothing there, or the input has ended.
static int read_input(struct client *client)
{
    struct stdio *stdio = client->stdio;
    size_t room = stdio->terminal ? 4096 : SHIM_COPY_SIZE / 2;
    ssize_t got = recv(client->fd, stdio->copy, room, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got < 0) {
        client->hung_up = true;
        input_ended(client);
        return 0;
    }
    if (got == 0) {
        input_ended(client);
        return 0;
    }
    pass_input(client, (size_t)got);
    return !client->gone;
}

void client_read_on(struct client *client)
{
    if (client->gone)
        return;
    // A peer that left wakes nobody any more: its last words are read as fast as the process takes them.
    while (client->hung_up && wants_input(client) && read_input(client) > 0)
        ;
    update_events(client);
}

static void client_ready(void *context, int fd, uint32_t events)
{
    struct client *client = context;
    if (events & EPOLLOUT)
        send_queue(client);
    if (!client->gone && (events & EPOLLIN) && wants_input(client))
        read_input(client);
    if (client->gone)
        return;
    if (events & (EPOLLHUP | EPOLLERR)) {
        client->hung_up = true;
        if (!client->in || !stdio_input_open(client->stdio)) {
            client_drop(client);
            return;
        }
        client_read_on(client);
    }
    update_events(client);
}
