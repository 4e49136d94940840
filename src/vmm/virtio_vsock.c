// virtio-vsock (virtio 1.2, 5.10): stream sockets between the guest and unix stream sockets of the host. No SEQPACKET.
//
//     txq:     guest -> device: packets of the guest's sockets; payload goes on to the connection's unix socket, what that
//              doesn't take at once into `out`
//     rxq:     device -> guest: answers, credit, and what is read from the unix sockets, straight into the guest's buffer
//     eventq:  one event, TRANSPORT_RESET, after a restore: connections don't survive it
//
// Flow control. Each side may have `buf_alloc` bytes outstanding at the other, counted from what the other said it has passed on
// (fwd_cnt, in every packet). We grant BUFFER_SIZE, which bounds `out`; a guest that sends more is cut off. Towards the guest we
// read from a unix socket only what the guest has room for, so its sender waits in its own write().
//
// Ending. Each side says with SHUTDOWN which directions it has closed. When the host's side has closed both, the connection is
// forgotten as soon as the guest was told; when the guest has closed both, its last bytes are passed on and it gets the RST that
// completes it. A packet for a connection that nobody knows is answered by RST.
//
// Unix sockets are in an epoll instance (host_fd) that any thread may change; edges are kept as flags, so that a full receive
// queue costs nothing. Everything a guest can make many of has a limit: connections, waiting answers, bytes.
#include <errno.h>
#include <linux/virtio_vsock.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/fd.h"
#include "vmm/virtio.h"

#define RXQ 0
#define TXQ 1
#define EVENTQ 2

#define HOST_CID 2
#define GUEST_CID_MIN 3
#define CONNECTIONS_MAX 256
#define BUFFER_SIZE (256u << 10) // bytes a guest may send ahead, of each connection
#define PAYLOAD_MAX (64u << 10) // of a packet
#define RESETS_MAX 128 // answers that wait for a receive buffer
#define RESETS_HIGH 64 // from here on the guest's packets wait too
#define FIRST_HOST_PORT 0x40000000u
#define HEADER_SIZE sizeof(struct virtio_vsock_hdr)
#define SHUTDOWN_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

enum connection_state {
    FREE,
    ASKED, // from the guest, the host hasn't answered; no socket yet
    DIALLED, // from the host, the guest hasn't answered
    OPEN,
};

struct connection {
    enum connection_state state;
    uint32_t guest_port, host_port;
    int fd;
    bool readable; // as far as known
    uint32_t pending; // packets to send: bits 1 << VIRTIO_VSOCK_OP_...
    uint32_t host_shutdown, guest_shutdown; // directions that are closed: VIRTIO_VSOCK_SHUTDOWN_...
    // Guest to host.
    struct buf out; // received and not yet written
    uint32_t received, forwarded; // bytes, running
    uint32_t told; // `forwarded` as the guest knows it
    // Host to guest.
    uint32_t sent; // bytes, running
    uint32_t peer_alloc, peer_forwarded; // as the guest's last packet had them
    bool credit_asked;
};

struct ports {
    uint32_t guest, host;
};

struct vsock {
    struct virtio_device device; // host_fd: the epoll instance
    struct virtio_vsock_config config;
    virtio_vsock_connect_fn *connect;
    void *context;
    struct connection connections[CONNECTIONS_MAX];
    unsigned turn; // the connection that is asked first for what it has to send
    uint32_t next_port;
    struct ports resets[RESETS_MAX]; // a ring
    unsigned resets_at, resets_len;
    bool tell_reset; // TRANSPORT_RESET is due
};

// ---- connections ----------------------------------------------------------------------------------------------------

static struct connection *find(struct vsock *vsock, uint32_t guest_port, uint32_t host_port)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &vsock->connections[i];
        if (connection->state != FREE && connection->guest_port == guest_port && connection->host_port == host_port)
            return connection;
    }
    return NULL;
}

static struct connection *find_free(struct vsock *vsock)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        if (vsock->connections[i].state == FREE)
            return &vsock->connections[i];
    return NULL;
}

// Takes `fd` on success.
static int open_connection(struct vsock *vsock, struct connection *connection, enum connection_state state, struct ports ports,
                           int fd, struct err *err)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                 .data.u32 = (uint32_t)(connection - vsock->connections) };
    if (fd_set_nonblock(fd, true, err) < 0)
        return -1;
    if (epoll_ctl(vsock->device.host_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return err_errno(err, errno, "vsock: epoll");
    *connection = (struct connection){ .state = state, .guest_port = ports.guest, .host_port = ports.host, .fd = fd,
                                       .readable = true, .out = BUF_INIT(BUFFER_SIZE) };
    return 0;
}

static void forget(struct vsock *vsock, struct connection *connection)
{
    epoll_ctl(vsock->device.host_fd, EPOLL_CTL_DEL, connection->fd, NULL); // others may hold the socket open
    fd_close(connection->fd);
    buf_done(&connection->out);
    *connection = (struct connection){ .state = FREE, .fd = -1 };
}

// One too many is left out: the guest gets its RST with its next packet.
static void answer_reset(struct vsock *vsock, uint32_t guest_port, uint32_t host_port)
{
    if (vsock->resets_len < RESETS_MAX)
        vsock->resets[(vsock->resets_at + vsock->resets_len++) % RESETS_MAX] = (struct ports){ guest_port, host_port };
}

static void cut_off(struct vsock *vsock, struct connection *connection)
{
    answer_reset(vsock, connection->guest_port, connection->host_port);
    forget(vsock, connection);
}

static void ask(struct connection *connection, unsigned op)
{
    connection->pending |= 1u << op;
}

static void host_closed(struct connection *connection, uint32_t directions)
{
    if ((connection->host_shutdown & directions) != directions)
        ask(connection, VIRTIO_VSOCK_OP_SHUTDOWN);
    connection->host_shutdown |= directions;
}

// ---- guest to host --------------------------------------------------------------------------------------------------

static void count_forwarded(struct connection *connection, size_t size)
{
    connection->forwarded += (uint32_t)size;
    if (connection->forwarded - connection->told >= BUFFER_SIZE / 4)
        ask(connection, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
}

// What the socket took of `iov`. Once nobody reads there, everything is taken and thrown away, and the guest is told.
static size_t write_some(struct connection *connection, struct iovec *iov, unsigned len, size_t size)
{
    struct msghdr message = { .msg_iov = iov, .msg_iovlen = len };
    ssize_t n = -1;
    if (!(connection->host_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV)) {
        do
            n = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0)
            host_closed(connection, VIRTIO_VSOCK_SHUTDOWN_RCV);
    }
    size_t taken = n < 0 ? size : (size_t)n;
    count_forwarded(connection, taken);
    return taken;
}

// Passes on what waits, then what the guest's SHUTDOWN asked for.
static void flush(struct vsock *vsock, struct connection *connection)
{
    size_t done = 0, taken = 1;
    while (done < connection->out.size && taken) {
        struct iovec iov = { connection->out.data + done, connection->out.size - done };
        taken = write_some(connection, &iov, 1, iov.iov_len);
        done += taken;
    }
    buf_consume(&connection->out, done);
    if (connection->out.size)
        return;
    buf_done(&connection->out);
    if (connection->guest_shutdown == SHUTDOWN_BOTH)
        cut_off(vsock, connection); // clean: everything has arrived
    else if (connection->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND)
        shutdown(connection->fd, SHUT_WR);
}

static void on_data(struct vsock *vsock, struct connection *connection, const struct virtq_chain *chain, uint32_t size)
{
    bool allowed = connection->state == OPEN && !(connection->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND);
    if (!allowed || size > BUFFER_SIZE - (connection->received - connection->forwarded)) {
        cut_off(vsock, connection);
        return;
    }
    struct iovec iov[VIRTQ_SIZE_MAX];
    uint64_t got, taken = 0;
    unsigned len = virtq_slice(chain, false, HEADER_SIZE, size, iov, &got);
    connection->received += size;
    if (!connection->out.size && size)
        taken = write_some(connection, iov, len, size);
    char *room = taken < size ? buf_reserve(&connection->out, size - taken) : NULL;
    if (room)
        buf_commit(&connection->out, virtq_read(chain, HEADER_SIZE + taken, room, size - taken));
}

static void on_request(struct vsock *vsock, const struct virtio_vsock_hdr *header)
{
    struct connection *connection = find_free(vsock);
    int fd = connection && vsock->connect ? vsock->connect(vsock->context, header->dst_port, header->src_port) : -1;
    const struct ports ports = { header->src_port, header->dst_port };
    if (fd == VIRTIO_VSOCK_LATER) {
        *connection = (struct connection){ .state = ASKED, .guest_port = ports.guest, .host_port = ports.host, .fd = -1,
                                           .peer_alloc = header->buf_alloc, .peer_forwarded = header->fwd_cnt };
        return;
    }
    if (fd < 0 || open_connection(vsock, connection, OPEN, ports, fd, NULL) < 0) {
        fd_close(fd);
        answer_reset(vsock, header->src_port, header->dst_port);
        return;
    }
    connection->peer_alloc = header->buf_alloc;
    connection->peer_forwarded = header->fwd_cnt;
    ask(connection, VIRTIO_VSOCK_OP_RESPONSE);
}

static void on_shutdown(struct vsock *vsock, struct connection *connection, uint32_t flags)
{
    connection->guest_shutdown |= flags & SHUTDOWN_BOTH;
    if (connection->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV)
        shutdown(connection->fd, SHUT_RD); // its writer gets EPIPE
    flush(vsock, connection);
}

static void on_packet(struct vsock *vsock, struct connection *connection, const struct virtio_vsock_hdr *header,
                      const struct virtq_chain *chain)
{
    connection->peer_alloc = header->buf_alloc;
    connection->peer_forwarded = header->fwd_cnt;
    connection->credit_asked = false;
    switch (header->op) {
    case VIRTIO_VSOCK_OP_RW:
        on_data(vsock, connection, chain, header->len);
        return;
    case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
        return;
    case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        ask(connection, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
        return;
    case VIRTIO_VSOCK_OP_SHUTDOWN:
        on_shutdown(vsock, connection, header->flags);
        return;
    case VIRTIO_VSOCK_OP_RST:
        forget(vsock, connection);
        return;
    case VIRTIO_VSOCK_OP_RESPONSE:
        if (connection->state == DIALLED && !(connection->pending & 1u << VIRTIO_VSOCK_OP_REQUEST)) {
            connection->state = OPEN;
            return;
        }
        __attribute__((fallthrough));
    default: // REQUEST for what is there, answers out of order, words unknown
        cut_off(vsock, connection);
    }
}

// A packet with addresses that are not the guest's own goes nowhere.
static void take_packet(struct vsock *vsock, const struct virtq_chain *chain)
{
    struct virtio_vsock_hdr header;
    if (virtq_read(chain, 0, &header, sizeof(header)) != sizeof(header) || header.src_cid != vsock->config.guest_cid ||
        header.dst_cid != HOST_CID)
        return;
    struct connection *connection = find(vsock, header.src_port, header.dst_port);
    bool sound = header.type == VIRTIO_VSOCK_TYPE_STREAM && header.len <= PAYLOAD_MAX &&
                 header.len <= chain->out_size - HEADER_SIZE;
    if (connection && sound)
        on_packet(vsock, connection, &header, chain);
    else if (connection)
        cut_off(vsock, connection);
    else if (sound && header.op == VIRTIO_VSOCK_OP_REQUEST)
        on_request(vsock, &header);
    else if (header.op != VIRTIO_VSOCK_OP_RST)
        answer_reset(vsock, header.src_port, header.dst_port);
}

// True when the budget ended before the queue. While too many answers wait, nothing is taken: receive buffers bring it back.
static bool take_packets(struct vsock *vsock)
{
    struct virtq *queue = &vsock->device.queues[TXQ];
    struct virtq_chain chain;
    for (int i = 0; i < VIRTIO_BUDGET; i++) {
        if (vsock->resets_len >= RESETS_HIGH || virtq_next(queue, &chain) <= 0)
            return false;
        take_packet(vsock, &chain);
        virtq_put(queue, chain.head, 0);
    }
    return true;
}

// ---- host to guest --------------------------------------------------------------------------------------------------

static void put_packet(struct vsock *vsock, const struct virtq_chain *chain, struct ports ports, unsigned op,
                       struct connection *connection, uint32_t flags, uint32_t size)
{
    struct virtio_vsock_hdr header = {
        .src_cid = HOST_CID, .dst_cid = vsock->config.guest_cid, .src_port = ports.host, .dst_port = ports.guest,
        .len = size, .type = VIRTIO_VSOCK_TYPE_STREAM, .op = (uint16_t)op, .flags = flags,
    };
    if (connection) {
        header.buf_alloc = BUFFER_SIZE;
        header.fwd_cnt = connection->told = connection->forwarded;
        connection->pending &= ~(1u << VIRTIO_VSOCK_OP_CREDIT_UPDATE); // every packet says it
    }
    virtq_write(chain, 0, &header, sizeof(header));
    virtq_put(&vsock->device.queues[RXQ], chain->head, (uint32_t)HEADER_SIZE + size);
}

static uint32_t credit(const struct connection *connection)
{
    uint32_t outstanding = connection->sent - connection->peer_forwarded;
    return outstanding < connection->peer_alloc ? connection->peer_alloc - outstanding : 0;
}

static bool has_data(struct connection *connection)
{
    bool wanted = connection->state == OPEN && connection->readable &&
                  !(connection->host_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND) &&
                  !(connection->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV);
    if (wanted && credit(connection) == 0 && !connection->credit_asked) {
        connection->credit_asked = true;
        ask(connection, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
    }
    return wanted && credit(connection);
}

static struct connection *next_talker(struct vsock *vsock)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &vsock->connections[(vsock->turn + i) % CONNECTIONS_MAX];
        if (connection->state != FREE && (has_data(connection) || connection->pending)) {
            vsock->turn = (vsock->turn + i + 1) % CONNECTIONS_MAX;
            return connection;
        }
    }
    return NULL;
}

// What a connection has to say beside data, in the order it must be said.
static void send_control(struct vsock *vsock, struct connection *connection, const struct virtq_chain *chain)
{
    static const uint8_t order[] = { VIRTIO_VSOCK_OP_REQUEST, VIRTIO_VSOCK_OP_RESPONSE, VIRTIO_VSOCK_OP_CREDIT_UPDATE,
                                     VIRTIO_VSOCK_OP_CREDIT_REQUEST, VIRTIO_VSOCK_OP_SHUTDOWN };
    const struct ports ports = { connection->guest_port, connection->host_port };
    unsigned i = 0;
    while (!(connection->pending & 1u << order[i]))
        i++;
    bool ending = order[i] == VIRTIO_VSOCK_OP_SHUTDOWN;
    connection->pending &= ~(1u << order[i]);
    put_packet(vsock, chain, ports, order[i], connection, ending ? connection->host_shutdown : 0, 0);
    if (ending && connection->host_shutdown == SHUTDOWN_BOTH)
        forget(vsock, connection);
}

// Whether the far end is closed altogether, and not just for writing.
static bool hung_up(int fd)
{
    struct pollfd one = { fd, 0, 0 };
    return poll(&one, 1, 0) == 1 && (one.revents & (POLLHUP | POLLERR));
}

// Reads into the chain behind the header. Nothing there: the chain goes back.
static void send_data(struct vsock *vsock, struct connection *connection, const struct virtq_chain *chain)
{
    struct virtq *queue = &vsock->device.queues[RXQ];
    struct iovec iov[VIRTQ_SIZE_MAX];
    uint64_t size;
    unsigned len = virtq_slice(chain, true, HEADER_SIZE, MIN_OF(credit(connection), PAYLOAD_MAX), iov, &size);
    if (size == 0) {
        virtq_break(queue, "a receive buffer without room for data");
        return;
    }
    ssize_t n;
    do
        n = readv(connection->fd, iov, (int)len);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        connection->sent += (uint32_t)n;
        put_packet(vsock, chain, (struct ports){ connection->guest_port, connection->host_port }, VIRTIO_VSOCK_OP_RW, connection,
                   0, (uint32_t)n);
        return;
    }
    virtq_undo(queue, 1);
    if (n < 0 && errno == EAGAIN)
        connection->readable = false;
    else if (n < 0)
        cut_off(vsock, connection);
    else
        host_closed(connection, hung_up(connection->fd) ? SHUTDOWN_BOTH : VIRTIO_VSOCK_SHUTDOWN_SEND);
}

// Data comes before the SHUTDOWN that ends it, because that is asked for only when the data has been read.
static void send_of(struct vsock *vsock, struct connection *connection, const struct virtq_chain *chain)
{
    if (connection->pending)
        send_control(vsock, connection, chain);
    else
        send_data(vsock, connection, chain);
}

// True when the budget ended first.
static bool send_packets(struct vsock *vsock)
{
    struct virtq *queue = &vsock->device.queues[RXQ];
    struct virtq_chain chain;
    for (int i = 0; i < VIRTIO_BUDGET; i++) {
        struct connection *connection = vsock->resets_len ? NULL : next_talker(vsock);
        if ((!connection && !vsock->resets_len) || virtq_next(queue, &chain) <= 0)
            return false;
        if (chain.in_size < HEADER_SIZE) {
            virtq_break(queue, "a receive buffer without room for its header");
            return false;
        }
        if (connection) {
            send_of(vsock, connection, &chain);
            continue;
        }
        put_packet(vsock, &chain, vsock->resets[vsock->resets_at], VIRTIO_VSOCK_OP_RST, NULL, 0, 0);
        vsock->resets_at = (vsock->resets_at + 1) % RESETS_MAX;
        vsock->resets_len--;
    }
    return true;
}

static void send_event(struct vsock *vsock)
{
    static const struct virtio_vsock_event event = { VIRTIO_VSOCK_EVENT_TRANSPORT_RESET };
    struct virtq *queue = &vsock->device.queues[EVENTQ];
    struct virtq_chain chain;
    if (!vsock->tell_reset || !queue->ready || virtq_next(queue, &chain) <= 0)
        return;
    virtq_put(queue, chain.head, (uint32_t)virtq_write(&chain, 0, &event, sizeof(event)));
    vsock->tell_reset = false;
}

// ---- ops ------------------------------------------------------------------------------------------------------------

static bool work(struct vsock *vsock)
{
    const struct virtq *queues = vsock->device.queues;
    if (!virtio_active(&vsock->device) || !queues[RXQ].ready || !queues[TXQ].ready)
        return false;
    send_event(vsock);
    bool more = take_packets(vsock), full = vsock->resets_len >= RESETS_HIGH;
    more |= send_packets(vsock);
    return more || (full && vsock->resets_len < RESETS_HIGH); // answers found room: packets were left behind
}

static bool vsock_process(struct virtio_device *device, unsigned queue)
{
    return work((struct vsock *)device);
}

// An edge on a connection's socket. What an event says of one that was closed meanwhile is for nobody.
static void note(struct vsock *vsock, struct connection *connection, uint32_t events)
{
    if (connection->state == FREE)
        return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        connection->readable = true;
    if ((events & EPOLLHUP) && (connection->host_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND))
        host_closed(connection, SHUTDOWN_BOTH); // the second half, after the end of file
    if (connection->out.size)
        flush(vsock, connection);
}

static bool vsock_host_ready(struct virtio_device *device)
{
    struct vsock *vsock = (struct vsock *)device;
    struct epoll_event events[VIRTIO_BUDGET];
    int len = epoll_wait(device->host_fd, events, VIRTIO_BUDGET, 0);
    for (int i = 0; i < len; i++)
        note(vsock, &vsock->connections[events[i].data.u32], events[i].events);
    return work(vsock);
}

static void vsock_reset(struct virtio_device *device)
{
    struct vsock *vsock = (struct vsock *)device;
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        if (vsock->connections[i].state != FREE)
            forget(vsock, &vsock->connections[i]);
    vsock->resets_at = vsock->resets_len = 0;
    vsock->tell_reset = false;
}

// Connections are the host's and stay behind. The guest's number is this machine's, not the saved one's: TRANSPORT_RESET makes
// the driver read it again.
static void vsock_save(const struct virtio_device *device, struct state_writer *writer)
{
    state_put32(writer, ((const struct vsock *)device)->next_port);
}

static void vsock_load(struct virtio_device *device, struct state_reader *reader)
{
    struct vsock *vsock = (struct vsock *)device;
    vsock->next_port = state_get32(reader);
    vsock->tell_reset = true;
}

static void vsock_free(struct virtio_device *device)
{
    vsock_reset(device);
    fd_close(device->host_fd);
    free(device);
}

static const struct virtio_ops vsock_ops = {
    .name = "virtio-vsock",
    .device_id = VIRTIO_ID_VSOCK,
    .queues_len = 3,
    .queue_size = 128,
    .process = vsock_process,
    .host_ready = vsock_host_ready,
    .reset = vsock_reset,
    .save = vsock_save,
    .load = vsock_load,
    .free = vsock_free,
};

// ---- life -----------------------------------------------------------------------------------------------------------

int virtio_vsock_new(const struct gmem *memory, uint64_t guest_cid, virtio_vsock_connect_fn *connect, void *context,
                     struct virtio_device **out, struct err *err)
{
    if (guest_cid < GUEST_CID_MIN || guest_cid >= UINT32_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "vsock: %llu is no guest's context id", (unsigned long long)guest_cid);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        return err_errno(err, errno, "vsock: epoll");
    struct vsock *vsock = mem_new(struct vsock);
    vsock->config.guest_cid = guest_cid;
    vsock->connect = connect;
    vsock->context = context;
    vsock->next_port = FIRST_HOST_PORT;
    virtio_init(&vsock->device, &vsock_ops, memory, 0, &vsock->config, sizeof(vsock->config));
    vsock->device.host_fd = epoll_fd;
    *out = &vsock->device;
    return 0;
}

static int dial(struct vsock *vsock, uint32_t port, int fd, struct err *err)
{
    if (!virtio_active(&vsock->device))
        return err_set(err, ERR_UNAVAILABLE, "vsock: the guest has no driver for it yet");
    struct connection *connection = find_free(vsock);
    if (!connection)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "vsock: more than %d connections", CONNECTIONS_MAX);
    do
        vsock->next_port = MAX_OF(vsock->next_port + 1, FIRST_HOST_PORT);
    while (find(vsock, port, vsock->next_port));
    if (open_connection(vsock, connection, DIALLED, (struct ports){ port, vsock->next_port }, fd, err) < 0)
        return -1;
    ask(connection, VIRTIO_VSOCK_OP_REQUEST);
    return 0;
}

int virtio_vsock_dial(struct virtio_device *device, uint32_t port, int fd, struct err *err)
{
    mutex_lock(&device->lock);
    int result = dial((struct vsock *)device, port, fd, err);
    mutex_unlock(&device->lock);
    if (result == 0)
        virtio_notify(device, RXQ);
    return result;
}

static int answer(struct vsock *vsock, struct ports ports, int fd, struct err *err)
{
    struct connection *connection = find(vsock, ports.guest, ports.host);
    if (!connection || connection->state != ASKED)
        return err_set(err, ERR_NOT_FOUND, "vsock: nobody waits for port %u", ports.host);
    struct connection asked = *connection;
    if (fd >= 0 && open_connection(vsock, connection, OPEN, ports, fd, err) < 0)
        return -1;
    if (fd < 0) {
        cut_off(vsock, connection);
        return 0;
    }
    connection->peer_alloc = asked.peer_alloc;
    connection->peer_forwarded = asked.peer_forwarded;
    ask(connection, VIRTIO_VSOCK_OP_RESPONSE);
    return 0;
}

int virtio_vsock_answer(struct virtio_device *device, uint32_t host_port, uint32_t guest_port, int fd, struct err *err)
{
    mutex_lock(&device->lock);
    int result = answer((struct vsock *)device, (struct ports){ guest_port, host_port }, fd, err);
    mutex_unlock(&device->lock);
    if (result == 0)
        virtio_notify(device, RXQ);
    return result;
}
