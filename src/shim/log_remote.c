// A log on the other end of a socket. Messages wait in a queue, each with its size before it; the socket takes them when it can.
//
// A connection that breaks is made anew, each second, as long as there is something to send; the message under way is sent again.
// What is not taken for LOG_STALL_NS while the queue is full counts as lost: `dropping` lets lines go until there is room again.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <arpa/inet.h>

#include "base/fd.h"
#include "base/num.h"
#include "shim/log.h"

#define QUEUE_DEFAULT (1u << 20)
#define MESSAGE_MAX (1u << 20) // with the fields of the journal
#define RETRY_NS NS_PER_S // where nothing else is said
#define CONNECT_TIMEOUT_MS 5000
#define FAREWELL_NS NS_PER_S

struct address {
    int type; // SOCK_STREAM, SOCK_DGRAM
    socklen_t size;
    union {
        struct sockaddr any;
        struct sockaddr_un path;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } to;
};

struct log_remote {
    struct task_log wish; // its texts are ours, in `arena`
    struct arena arena;
    struct address address;
    struct loop *loop;
    log_room_fn *on_room;
    void *context;
    int fd; // -1: not connected
    struct loop_source *source, *retry, *stall;
    bool blocking, dropping;
    int64_t tries; // to connect since something went out
    size_t room; // bytes of the queue
    struct buf queue, message, packed;
    uint64_t number; // of the next message, from a random start
    uint64_t first; // of the first in the queue
    struct loop_source *ack_wait; // the first one is out, and its answer is to come
    struct loop_source *write_wait; // the socket has not taken all of the first one
    uint8_t ack[LOG_ACK_MAX];
    size_t ack_size;
    size_t head, sent; // where the first message begins, and how much of it is out
};

// ---- the address ----------------------------------------------------------------------------------------------------

static bool read_host(struct slice text, struct address *out)
{
    char host[64];
    uint64_t port;
    const char *colon = memrchr(text.data, ':', text.size);
    if (!colon || !num_parse_u64((struct slice){ colon + 1, (size_t)(text.data + text.size - colon - 1) }, 65535, &port))
        return false;
    struct slice name = { text.data, (size_t)(colon - text.data) };
    if (name.size > 1 && name.data[0] == '[')
        name = (struct slice){ name.data + 1, name.size - 2 };
    if (name.size >= sizeof(host))
        return false;
    memcpy(host, name.data, name.size);
    host[name.size] = 0;
    out->to.v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    out->size = sizeof(out->to.v4);
    if (inet_pton(AF_INET, host, &out->to.v4.sin_addr) == 1)
        return true;
    out->to.v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
    out->size = sizeof(out->to.v6);
    return inet_pton(AF_INET6, host, &out->to.v6.sin6_addr) == 1;
}

// "unix:///path", "unixgram:///path", "tcp://1.2.3.4:514", "udp://[::1]:514": names were looked up by the daemon.
static int read_address(const char *text, struct address *out, struct err *err)
{
    static const struct {
        const char *scheme;
        int type;
        bool path;
    } schemes[] = { { "unix://", SOCK_STREAM, true }, { "unixgram://", SOCK_DGRAM, true }, { "tcp://", SOCK_STREAM, false },
                    { "udp://", SOCK_DGRAM, false } };
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        if (!text || !str_starts(text, schemes[i].scheme))
            continue;
        const char *rest = text + strlen(schemes[i].scheme);
        *out = (struct address){ .type = schemes[i].type };
        if (!schemes[i].path && read_host(slice_of(rest), out))
            return 0;
        out->to.path = (struct sockaddr_un){ .sun_family = AF_UNIX };
        out->size = sizeof(out->to.path);
        if (schemes[i].path && strlen(rest) < sizeof(out->to.path.sun_path)) {
            memcpy(out->to.path.sun_path, rest, strlen(rest));
            return 0;
        }
    }
    return err_set(err, ERR_INVALID_ARGUMENT, "log: no address: %.200s", text ? text : "");
}

// ---- the queue ------------------------------------------------------------------------------------------------------

static size_t queued(const struct log_remote *remote)
{
    return remote->queue.size - remote->head;
}

static struct slice first_message(const struct log_remote *remote)
{
    uint32_t size;
    memcpy(&size, remote->queue.data + remote->head, sizeof(size));
    return (struct slice){ remote->queue.data + remote->head + sizeof(size), size };
}

static void drop_first(struct log_remote *remote)
{
    remote->head += sizeof(uint32_t) + first_message(remote).size;
    remote->sent = 0;
    remote->first++;
    if (remote->head < remote->queue.size && remote->head < remote->room / 2)
        return;
    buf_consume(&remote->queue, remote->head);
    remote->head = 0;
}

bool log_remote_is_full(const struct log_remote *remote)
{
    return remote->blocking && !remote->dropping && queued(remote) >= remote->room;
}

static void stalled(void *context)
{
    struct log_remote *remote = context;
    loop_remove(take_ptr(&remote->stall));
    remote->dropping = true;
    remote->on_room(remote->context);
}

// Half the room free again: the output goes on, and is not stopped for each line.
static void make_room(struct log_remote *remote)
{
    if (queued(remote) > remote->room / 2)
        return;
    bool held = remote->stall || remote->dropping;
    loop_remove(take_ptr(&remote->stall));
    remote->dropping = false;
    if (held)
        remote->on_room(remote->context);
}

// ---- the socket -----------------------------------------------------------------------------------------------------

static void try_again(void *context);
static void writable(void *context, int fd, uint32_t events);

static void retry(struct log_remote *remote, int64_t delay_ns)
{
    if (!remote->retry)
        loop_add_timer(remote->loop, delay_ns, try_again, remote, &remote->retry, NULL);
}

// Connected anew when there is something to send.
static void disconnect(struct log_remote *remote)
{
    loop_remove(take_ptr(&remote->source));
    fd_close(take_fd(&remote->fd));
    loop_remove(take_ptr(&remote->ack_wait));
    loop_remove(take_ptr(&remote->write_wait));
    remote->sent = 0; // it is sent again, whole
    if (queued(remote))
        retry(remote, remote->wish.retry_ns > 0 ? remote->wish.retry_ns : RETRY_NS);
}

static int begin_connect(struct log_remote *remote)
{
    int family = remote->address.to.any.sa_family;
    remote->fd = socket(family, remote->address.type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (remote->fd < 0)
        return -1;
    if (connect(remote->fd, &remote->address.to.any, remote->address.size) == 0 || errno == EINPROGRESS)
        return 0;
    int failed = errno;
    fd_close(take_fd(&remote->fd));
    errno = failed;
    return -1;
}

static bool is_udp(const struct log_remote *remote)
{
    return remote->address.type == SOCK_DGRAM && remote->address.to.any.sa_family != AF_UNIX;
}

// One message, or what the socket takes of it. 1: it is out; 0: later; -1: the connection broke.
static int send_first(struct log_remote *remote)
{
    struct slice message = first_message(remote);
    ssize_t wrote = send(remote->fd, message.data + remote->sent, message.size - remote->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (wrote < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS))
        return 0;
    if (wrote < 0) // a datagram that no kernel takes, or that nobody waits for, is lost
        return errno == EMSGSIZE || (is_udp(remote) && errno == ECONNREFUSED) ? 1 : -1;
    remote->sent += (size_t)wrote;
    return remote->address.type == SOCK_DGRAM || remote->sent == message.size;
}

static void watch(struct log_remote *remote, uint32_t events)
{
    if (remote->source)
        loop_set_events(remote->source, events);
    else if (loop_add_fd(remote->loop, remote->fd, events, writable, remote, &remote->source, NULL) < 0)
        disconnect(remote);
}

static void took_too_long(void *context)
{
    disconnect(context);
}

static void await_ack(struct log_remote *remote)
{
    remote->ack_size = 0;
    loop_add_timer(remote->loop, remote->wish.ack_ns > 0 ? remote->wish.ack_ns : LOG_STALL_NS, took_too_long, remote, &remote->ack_wait, NULL);
}

// -1: the connection is over, or what came is no answer to what was sent.
static int take_ack(struct log_remote *remote)
{
    ssize_t got = recv(remote->fd, remote->ack + remote->ack_size, sizeof(remote->ack) - remote->ack_size, MSG_DONTWAIT);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    remote->ack_size += (size_t)got;
    int fits = remote->ack_wait ? log_ack_fits(remote->ack, remote->ack_size, remote->first) : -1;
    if (fits <= 0)
        return fits;
    loop_remove(take_ptr(&remote->ack_wait));
    remote->tries = 0;
    drop_first(remote);
    return 0;
}

static void sent_one(struct log_remote *remote)
{
    loop_remove(take_ptr(&remote->write_wait));
    if (remote->wish.ack)
        await_ack(remote);
    else
        drop_first(remote);
}

static void send_on(struct log_remote *remote)
{
    int out = 1;
    size_t before = remote->sent + queued(remote);
    bool waits = queued(remote);
    while (queued(remote) && !remote->ack_wait && (out = send_first(remote)) > 0)
        sent_one(remote);
    if (remote->stall && before != remote->sent + queued(remote))
        loop_set_timer(remote->stall, LOG_STALL_NS); // slow, but not stuck
    if (waits && out > 0 && !remote->wish.ack)
        remote->tries = 0;
    if (out == 0 && remote->wish.write_ns > 0 && !remote->write_wait)
        loop_add_timer(remote->loop, remote->wish.write_ns, took_too_long, remote, &remote->write_wait, NULL);
    if (out < 0)
        disconnect(remote);
    else
        watch(remote, (queued(remote) && !remote->ack_wait ? EPOLLOUT : 0) | (remote->wish.ack ? EPOLLIN : 0) | EPOLLRDHUP);
    make_room(remote);
}

// A stream whose other end has closed says so here, also when there is nothing to send.
static void writable(void *context, int fd, uint32_t events)
{
    struct log_remote *remote = context;
    int failed;
    socklen_t size = sizeof(failed);
    if ((events & EPOLLIN) && take_ack(remote) < 0) {
        disconnect(remote);
        return;
    }
    if ((events & EPOLLERR) && is_udp(remote))
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size); // is over with it
    else if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) {
        disconnect(remote);
        return;
    }
    send_on(remote);
}

static void give_up(struct log_remote *remote)
{
    remote->tries = 0;
    remote->head = remote->sent = 0;
    remote->first = remote->number;
    buf_clear(&remote->queue);
    make_room(remote);
}

static void try_again(void *context)
{
    struct log_remote *remote = context;
    loop_remove(take_ptr(&remote->retry));
    if (remote->wish.max_tries && remote->tries++ == remote->wish.max_tries) {
        give_up(remote);
        return;
    }
    if (begin_connect(remote) < 0)
        disconnect(remote);
    else
        watch(remote, EPOLLOUT);
}

// The first connection is waited for, because a start fails without it.
static int connect_first(struct log_remote *remote, struct err *err)
{
    const char *address = remote->wish.address;
    int failed = 0;
    socklen_t size = sizeof(failed);
    if (begin_connect(remote) < 0)
        failed = errno;
    else if (remote->address.type == SOCK_STREAM) {
        struct pollfd wait = { remote->fd, POLLOUT, 0 };
        if (poll(&wait, 1, CONNECT_TIMEOUT_MS) <= 0)
            failed = ETIMEDOUT;
        else
            getsockopt(remote->fd, SOL_SOCKET, SO_ERROR, &failed, &size);
    }
    if (!failed)
        return 0;
    if (str_eq(remote->wish.driver, "journald"))
        return err_set(err, ERR_INTERNAL, "journald is not enabled on this host");
    const char *rest = strstr(address, "://");
    char reason[128];
    snprintf(reason, sizeof(reason), "%s", strerror(failed));
    reason[0] = (char)(reason[0] >= 'A' && reason[0] <= 'Z' ? reason[0] + 32 : reason[0]);
    return err_set(err, ERR_INTERNAL, "dial %.*s %s: connect: %s", (int)(rest - address), address, rest + 3, reason);
}

// ---- the sink -------------------------------------------------------------------------------------------------------

int log_remote_open(const struct task_log *wish, struct loop *loop, log_room_fn *on_room, void *context, struct log_remote **out,
                    struct err *err)
{
    struct log_remote *remote = mem_new(struct log_remote);
    size_t room = wish->buffer_size > 0 ? (size_t)wish->buffer_size : QUEUE_DEFAULT;
    *remote = (struct log_remote){ .loop = loop, .on_room = on_room, .context = context, .fd = -1, .blocking = !wish->non_blocking,
                                   .room = room, .message = BUF_INIT(MESSAGE_MAX), .packed = BUF_INIT(MESSAGE_MAX) };
    // log_remote_put() looks at what is queued; before it stands what drop_first() has left.
    remote->queue = (struct buf)BUF_INIT(3 * room + 2 * MESSAGE_MAX);
    _cleanup_json_ json_t *copy = json_encode(&task_log_table, wish);
    if (json_decode(&task_log_table, copy, &remote->wish, &remote->arena, NULL, err) < 0 ||
        read_address(remote->wish.address, &remote->address, err) < 0 || (!wish->late && connect_first(remote, err) < 0)) {
        log_remote_free(remote);
        return -1;
    }
    if (remote->fd >= 0)
        watch(remote, EPOLLRDHUP);
    // Pieces of two containers' messages meet at one server; without randomness the clock tells them apart.
    if (getrandom(&remote->number, sizeof(remote->number), GRND_NONBLOCK) != sizeof(remote->number))
        remote->number = (uint64_t)clock_mono_ns();
    remote->first = remote->number;
    *out = remote;
    return 0;
}

static void enqueue(void *context, struct slice head, struct slice text)
{
    struct log_remote *remote = context;
    uint32_t size = (uint32_t)(head.size + text.size);
    buf_add(&remote->queue, &size, sizeof(size));
    buf_add(&remote->queue, head.data, head.size);
    buf_add(&remote->queue, text.data, text.size);
}

void log_remote_put(struct log_remote *remote, const struct log_entry *entry)
{
    // Blocking: what a read brought goes in even beyond the room, the next read waits.
    size_t limit = remote->blocking && !remote->dropping ? 2 * remote->room : remote->room;
    struct buf *message = &remote->message;
    buf_clear(message);
    log_format(&remote->wish, entry, remote->number, message);
    if (!message->size || message->overflow || queued(remote) + message->size > limit)
        return; // lost, or nothing to say
    bool idle = !queued(remote);
    struct slice text = { message->data, message->size };
    if (str_eq(remote->wish.driver, "gelf") && is_udp(remote))
        gelf_cut(&remote->wish, text, remote->number++, &remote->packed, enqueue, remote);
    else
        enqueue(remote, (struct slice){ "", 0 }, text);
    remote->number += remote->wish.ack;
    if (idle && remote->fd >= 0)
        send_on(remote);
    else if (remote->fd < 0)
        retry(remote, 0);
    if (log_remote_is_full(remote) && !remote->stall)
        loop_add_timer(remote->loop, LOG_STALL_NS, stalled, remote, &remote->stall, NULL);
}

// The last lines are worth a moment.
static void farewell(struct log_remote *remote)
{
    int64_t deadline_ns = clock_mono_ns() + FAREWELL_NS;
    while (remote->fd >= 0 && queued(remote) && clock_mono_ns() < deadline_ns) {
        struct pollfd wait = { remote->fd, POLLOUT, 0 };
        int out = send_first(remote);
        if (out < 0)
            return;
        if (out > 0)
            drop_first(remote);
        else if (poll(&wait, 1, (int)((deadline_ns - clock_mono_ns()) / NS_PER_MS)) <= 0)
            return;
    }
}

void log_remote_free(struct log_remote *remote)
{
    if (!remote)
        return;
    farewell(remote);
    loop_remove(remote->source);
    loop_remove(remote->retry);
    loop_remove(remote->stall);
    loop_remove(remote->ack_wait);
    loop_remove(remote->write_wait);
    fd_close(remote->fd);
    buf_done(&remote->queue);
    buf_done(&remote->message);
    buf_done(&remote->packed);
    arena_done(&remote->arena);
    free(remote);
}
