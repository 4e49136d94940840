// What reaches a published port's listening socket and not the kernel's DNAT (loopback, ::1) is relayed from here.
//
// TCP: per connection two sockets and, per direction, a pipe that splice(2) moves pages through; a direction's end is
// passed on as a half-close. More is read only once the pipe is empty, so `size` alone decides what is waited for: a pipe
// can be full of few bytes. UDP: per sender one connected socket towards the target, dropped when idle.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "shim/shim_private.h"

#define SPLICE_MAX (64u << 10)
#define ROUNDS_PER_TURN 16
#define RESUME_NS (1 * NS_PER_S) // after accept failed
#define DATAGRAMS_PER_TURN 32

struct address {
    struct sockaddr_storage storage;
    socklen_t size;
};

struct relay_listener {
    struct relay_listener *next;
    struct relay_set *set;
    int fd;
    bool udp, held; // held: it keeps the port, and nobody is served
    struct loop_source *source; // NULL while held back
    struct address target;
};

struct relay_pipe { // from side i to side 1 - i
    int ends[2];
    size_t size; // bytes inside
    bool ended; // the source said end of file
    bool passed; // and the sink has been told
};

struct relay_side {
    struct tcp_relay *relay;
    int fd;
    struct loop_source *source; // NULL while nothing is expected of it
};

struct tcp_relay {
    struct tcp_relay *next;
    struct relay_set *set;
    struct relay_side sides[2]; // the client, the target
    struct relay_pipe pipes[2];
    bool connected;
};

struct udp_peer {
    struct udp_peer *next;
    struct relay_listener *listener;
    struct address from;
    int fd;
    struct loop_source *source;
    int64_t used_ns;
};

struct relay_set {
    struct loop *loop;
    char *copy;
    struct relay_listener *listeners;
    struct tcp_relay *relays;
    size_t relay_len;
    struct udp_peer *peers;
    size_t peer_len;
    struct loop_source *resume, *idle;
};

static void listener_ready(void *context, int fd, uint32_t events);

// ---- TCP ------------------------------------------------------------------------------------------------------------

static void watch_listeners(struct relay_set *set)
{
    for (struct relay_listener *listener = set->listeners; listener; listener = listener->next) {
        if (!listener->source && !listener->held)
            loop_add_fd(set->loop, listener->fd, EPOLLIN, listener_ready, listener, &listener->source, NULL);
    }
}

static void relay_close(struct tcp_relay *relay)
{
    for (size_t i = 0; i < 2; i++) {
        loop_remove(take_ptr(&relay->sides[i].source));
        fd_close(take_fd(&relay->sides[i].fd));
        fd_close(take_fd(&relay->pipes[i].ends[0]));
        fd_close(take_fd(&relay->pipes[i].ends[1]));
    }
}

static void relay_forget(struct tcp_relay *relay)
{
    struct relay_set *set = relay->set;
    relay_close(relay);
    for (struct tcp_relay **at = &set->relays; *at; at = &(*at)->next) {
        if (*at == relay) {
            *at = relay->next;
            break;
        }
    }
    free(relay);
    set->relay_len--;
    watch_listeners(set);
}

// One direction as far as it goes. 1: moved something, 0: waits, -1: broken.
static int pump_direction(struct tcp_relay *relay, size_t from)
{
    struct relay_pipe *pipe = &relay->pipes[from];
    int moved = 0;
    if (!pipe->ended && pipe->size == 0) {
        ssize_t got = splice(relay->sides[from].fd, NULL, pipe->ends[1], NULL, SPLICE_MAX,
                             SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
        if (got < 0 && errno != EAGAIN && errno != EINTR)
            return -1;
        pipe->ended = got == 0;
        pipe->size += got > 0 ? (size_t)got : 0;
        moved = got >= 0;
    }
    if (pipe->size) {
        ssize_t put = splice(pipe->ends[0], NULL, relay->sides[1 - from].fd, NULL, pipe->size,
                             SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
        if (put < 0 && errno != EAGAIN && errno != EINTR)
            return -1;
        pipe->size -= put > 0 ? (size_t)put : 0;
        moved |= put > 0;
    }
    if (pipe->ended && !pipe->size && !pipe->passed) {
        shutdown(relay->sides[1 - from].fd, SHUT_WR);
        pipe->passed = true;
    }
    return moved;
}

static int pump(struct tcp_relay *relay)
{
    for (int round = 0; round < ROUNDS_PER_TURN; round++) {
        int there = pump_direction(relay, 0), back = pump_direction(relay, 1);
        if (there < 0 || back < 0 || (relay->pipes[0].passed && relay->pipes[1].passed))
            return -1;
        if (!there && !back)
            break;
    }
    return 0;
}

static uint32_t side_events(const struct tcp_relay *relay, size_t side)
{
    if (!relay->connected)
        return side == 1 ? EPOLLOUT : 0;
    const struct relay_pipe *out = &relay->pipes[side], *in = &relay->pipes[1 - side];
    return (!out->ended && !out->size ? EPOLLIN : 0) | (in->size ? EPOLLOUT : 0);
}

static bool finish_connect(struct tcp_relay *relay)
{
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(relay->sides[1].fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error)
        return false;
    return relay->connected = true;
}

static void side_ready(void *context, int fd, uint32_t events);

// A side that is waited for in no way leaves the loop: epoll would report its hang-up for ever.
static int watch_sides(struct tcp_relay *relay, struct err *err)
{
    for (size_t i = 0; i < 2; i++) {
        struct relay_side *side = &relay->sides[i];
        uint32_t events = side_events(relay, i);
        if (!events)
            loop_remove(take_ptr(&side->source));
        else if (side->source)
            loop_set_events(side->source, events);
        else if (loop_add_fd(relay->set->loop, side->fd, events, side_ready, side, &side->source, err) < 0)
            return -1;
    }
    return 0;
}

static void side_ready(void *context, int fd, uint32_t events)
{
    struct relay_side *side = context;
    struct tcp_relay *relay = side->relay;
    bool alive = relay->connected || finish_connect(relay);
    if (!alive || pump(relay) < 0 || watch_sides(relay, NULL) < 0)
        relay_forget(relay);
}

static int start_connect(struct tcp_relay *relay, const struct address *target, struct err *err)
{
    int fd = socket(target->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    relay->sides[1].fd = fd;
    if (fd < 0 || (connect(fd, (const struct sockaddr *)&target->storage, target->size) < 0 && errno != EINPROGRESS))
        return err_errno(err, errno, "connect");
    if (fd_pipe(relay->pipes[0].ends, err) < 0 || fd_pipe(relay->pipes[1].ends, err) < 0)
        return -1;
    return watch_sides(relay, err);
}

static void relay_begin(struct relay_listener *listener, int client)
{
    struct relay_set *set = listener->set;
    struct tcp_relay *relay = mem_new(struct tcp_relay);
    relay->set = set;
    relay->sides[0] = (struct relay_side){ .relay = relay, .fd = client };
    relay->sides[1] = (struct relay_side){ .relay = relay, .fd = -1 };
    relay->pipes[0] = relay->pipes[1] = (struct relay_pipe){ .ends = { -1, -1 } };
    relay->next = set->relays;
    set->relays = relay;
    set->relay_len++;
    if (start_connect(relay, &listener->target, NULL) < 0)
        relay_forget(relay);
}

// ---- UDP ------------------------------------------------------------------------------------------------------------

static void peer_forget(struct udp_peer *peer)
{
    struct relay_set *set = peer->listener->set;
    for (struct udp_peer **at = &set->peers; *at; at = &(*at)->next) {
        if (*at == peer) {
            *at = peer->next;
            break;
        }
    }
    loop_remove(peer->source);
    fd_close(peer->fd);
    free(peer);
    set->peer_len--;
}

static void peers_idle(void *context)
{
    struct relay_set *set = context;
    loop_remove(take_ptr(&set->idle));
    int64_t limit = clock_mono_ns() - RELAY_UDP_IDLE_NS;
    for (struct udp_peer *peer = set->peers, *next; peer; peer = next) {
        next = peer->next;
        if (peer->used_ns < limit)
            peer_forget(peer);
    }
    if (set->peers)
        loop_add_timer(set->loop, RELAY_UDP_IDLE_NS / 3, peers_idle, set, &set->idle, NULL);
}

static void peer_ready(void *context, int fd, uint32_t events)
{
    struct udp_peer *peer = context;
    char *copy = peer->listener->set->copy;
    for (int i = 0; i < DATAGRAMS_PER_TURN; i++) {
        ssize_t got = recv(fd, copy, SHIM_COPY_SIZE, MSG_DONTWAIT); // ECONNREFUSED is read off here too
        if (got < 0)
            break;
        sendto(peer->listener->fd, copy, (size_t)got, MSG_DONTWAIT | MSG_NOSIGNAL,
               (struct sockaddr *)&peer->from.storage, peer->from.size);
        peer->used_ns = clock_mono_ns();
    }
}

static void forget_longest_idle(struct relay_set *set)
{
    struct udp_peer *oldest = set->peers;
    for (struct udp_peer *peer = set->peers; peer; peer = peer->next) {
        if (peer->used_ns < oldest->used_ns)
            oldest = peer;
    }
    if (oldest)
        peer_forget(oldest);
}

static struct udp_peer *peer_new(struct relay_listener *listener, const struct address *from)
{
    struct relay_set *set = listener->set;
    const struct address *target = &listener->target;
    if (set->peer_len >= RELAY_UDP_MAX)
        forget_longest_idle(set);
    int fd = socket(target->storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&target->storage, target->size) < 0) {
        fd_close(fd);
        return NULL;
    }
    struct udp_peer *peer = mem_new(struct udp_peer);
    *peer = (struct udp_peer){ .next = set->peers, .listener = listener, .from = *from, .fd = fd };
    set->peers = peer;
    set->peer_len++;
    if (loop_add_fd(set->loop, fd, EPOLLIN, peer_ready, peer, &peer->source, NULL) < 0) {
        peer_forget(peer);
        return NULL;
    }
    if (!set->idle)
        loop_add_timer(set->loop, RELAY_UDP_IDLE_NS / 3, peers_idle, set, &set->idle, NULL);
    return peer;
}

static struct udp_peer *peer_for(struct relay_listener *listener, const struct address *from)
{
    for (struct udp_peer *peer = listener->set->peers; peer; peer = peer->next) {
        if (peer->listener == listener && peer->from.size == from->size &&
            memcmp(&peer->from.storage, &from->storage, from->size) == 0)
            return peer;
    }
    return peer_new(listener, from);
}

static void relay_datagrams(struct relay_listener *listener)
{
    char *copy = listener->set->copy;
    for (int i = 0; i < DATAGRAMS_PER_TURN; i++) {
        struct address from = { .size = sizeof(from.storage) };
        ssize_t got = recvfrom(listener->fd, copy, SHIM_COPY_SIZE, MSG_DONTWAIT, (struct sockaddr *)&from.storage,
                               &from.size);
        if (got < 0)
            return;
        struct udp_peer *peer = peer_for(listener, &from);
        if (!peer)
            continue;
        peer->used_ns = clock_mono_ns();
        send(peer->fd, copy, (size_t)got, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

// ---- listeners ------------------------------------------------------------------------------------------------------

static void resume(void *context)
{
    struct relay_set *set = context;
    loop_remove(take_ptr(&set->resume));
    watch_listeners(set);
}

static void accept_relay(struct relay_listener *listener)
{
    struct relay_set *set = listener->set;
    if (set->relay_len >= RELAY_TCP_MAX) {
        loop_remove(take_ptr(&listener->source)); // the next end of a relay resumes
        return;
    }
    int client = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client >= 0) {
        relay_begin(listener, client);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        loop_remove(take_ptr(&listener->source));
        if (!set->resume)
            loop_add_timer(set->loop, RESUME_NS, resume, set, &set->resume, NULL);
    }
}

static void listener_ready(void *context, int fd, uint32_t events)
{
    struct relay_listener *listener = context;
    if (listener->udp)
        relay_datagrams(listener);
    else
        accept_relay(listener);
}

static int parse_address(const char *text, int64_t port, struct address *out, struct err *err)
{
    struct sockaddr_in *four = (struct sockaddr_in *)&out->storage;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&out->storage;
    *out = (struct address){ 0 };
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons((uint16_t)port);
        out->size = sizeof(*four);
    } else if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)port);
        out->size = sizeof(*six);
    } else {
        return err_set(err, ERR_INVALID_ARGUMENT, "port target %.64s: not an address", text);
    }
    return 0;
}

static int parse_target(const struct task_port *port, struct address *out, struct err *err)
{
    if (port->target_port < 1 || port->target_port > 65535)
        return err_set(err, ERR_INVALID_ARGUMENT, "port %lld", (long long)port->target_port);
    return parse_address(port->target_address, port->target_port, out, err);
}

struct relay_set *relay_set_new(struct loop *loop, char *copy)
{
    struct relay_set *set = mem_new(struct relay_set);
    set->loop = loop;
    set->copy = copy;
    return set;
}

int relay_set_add(struct relay_set *set, const struct task_port *port, int fd, struct err *err)
{
    struct address target;
    bool udp = str_eq(port->proto, "udp");
    if (!udp && !port->held && !str_eq(port->proto, "tcp"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "port protocol %s", port->proto);
    if (parse_target(port, &target, err) < 0 || fd_set_nonblock(fd, true, err) < 0)
        return -1;
    struct relay_listener *listener = mem_new(struct relay_listener);
    *listener = (struct relay_listener){ .set = set, .fd = fd, .udp = udp, .held = port->held, .target = target };
    if (!listener->held && loop_add_fd(set->loop, fd, EPOLLIN, listener_ready, listener, &listener->source, err) < 0) {
        free(listener);
        return -1;
    }
    struct relay_listener **tail = &set->listeners;
    while (*tail)
        tail = &(*tail)->next;
    *tail = listener;
    return 0;
}

static bool is_ipv6(const struct relay_listener *listener)
{
    struct sockaddr_storage at = { 0 };
    socklen_t size = sizeof(at);
    return getsockname(listener->fd, (struct sockaddr *)&at, &size) == 0 && at.ss_family == AF_INET6;
}

// Both families have the port at the same place.
int relay_set_retarget(struct relay_set *set, const char *address, const char *address6, struct err *err)
{
    struct address four, six;
    if (parse_address(address[0] ? address : address6, 0, &four, err) < 0 || parse_address(address6[0] ? address6 : address, 0, &six, err) < 0)
        return -1;
    while (set->peers) // their sockets are connected to where the target was
        peer_forget(set->peers);
    for (struct relay_listener *listener = set->listeners; listener; listener = listener->next) {
        in_port_t port = ((struct sockaddr_in *)&listener->target.storage)->sin_port;
        listener->target = is_ipv6(listener) ? six : four;
        ((struct sockaddr_in *)&listener->target.storage)->sin_port = port;
    }
    return 0;
}

size_t relay_set_listeners(const struct relay_set *set, int *fds, size_t max)
{
    size_t len = 0;
    for (const struct relay_listener *listener = set->listeners; listener && len < max; listener = listener->next)
        fds[len++] = listener->fd;
    return len;
}

void relay_set_stop(struct relay_set *set)
{
    loop_remove(take_ptr(&set->resume));
    loop_remove(take_ptr(&set->idle));
    while (set->peers)
        peer_forget(set->peers);
    while (set->listeners) {
        struct relay_listener *listener = set->listeners;
        set->listeners = listener->next;
        loop_remove(listener->source);
        fd_close(listener->fd);
        free(listener);
    }
}

void relay_set_free(struct relay_set *set)
{
    if (!set)
        return;
    relay_set_stop(set);
    while (set->relays) {
        struct tcp_relay *relay = set->relays;
        set->relays = relay->next;
        relay_close(relay);
        free(relay);
    }
    free(set);
}
