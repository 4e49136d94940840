// What no network has is asked of the settings' servers: the question as it came, by datagram or TCP as it came, each from a socket
// and so from a port of its own. A server that is silent, that can't be reached or that fails has the next one asked; an answer
// goes back as it is, also one that is cut (its asker comes again, by TCP). Nobody left: SERVFAIL, as Docker's resolver says it.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>

#include "shim/resolver.h"

enum { PREFIX = 2, READ_SIZE = 4096 };

struct forward {
    struct forward *next;
    struct resolver *resolver;
    struct asker asker;
    bool tcp;
    struct dns_query query;
    struct dns_server servers[DNS_SERVER_MAX];
    size_t server_len, server; // `server`: the next one to ask
    int fd; // -1: between two
    struct loop_source *source;
    int64_t deadline_ns;
    size_t sent; // by TCP
    struct buf in; // by TCP
    size_t size;
    uint8_t message[]; // with TCP's prefix before it
};

static const uint8_t *question_of(const struct forward *forward)
{
    return forward->message + PREFIX;
}

// ---- the end of one -------------------------------------------------------------------------------------------------

static void hang_up(struct forward *forward)
{
    loop_remove(take_ptr(&forward->source));
    fd_close(take_fd(&forward->fd));
    buf_clear(&forward->in);
    forward->sent = 0;
}

static void unlist(struct forward *forward)
{
    struct resolver *resolver = forward->resolver;
    struct forward **at = &resolver->forwards;
    while (*at != forward)
        at = &(*at)->next;
    *at = forward->next;
    if (!*at)
        resolver->forwards_tail = at;
    forward->next = NULL;
}

static void forward_free(struct forward *forward)
{
    unlist(forward);
    hang_up(forward);
    forward->resolver->forward_len--;
    buf_done(&forward->in);
    free(forward);
}

static void finish(struct forward *forward, const void *reply, size_t size)
{
    resolver_reply(forward->resolver, &forward->asker, reply, size);
    forward_free(forward);
}

static void refuse(struct resolver *resolver, const struct asker *asker, const uint8_t *message, const struct dns_query *query, int rcode)
{
    _cleanup_buf_ struct buf out = BUF_INIT(DNS_MESSAGE_MAX);
    dns_reply(message, query, rcode, &out);
    resolver_reply(resolver, asker, out.data, out.size);
}

// ---- deadlines: all have the same time, so the list is in their order -------------------------------------------------

static void ask_next(struct forward *forward);

static void time_is_up(void *context);

static void set_timer(struct resolver *resolver)
{
    int64_t delay = resolver->forwards ? MAX_OF(resolver->forwards->deadline_ns - clock_mono_ns(), INT64_C(0)) : -1;
    if (resolver->timer)
        loop_set_timer(resolver->timer, delay);
    else if (delay >= 0)
        loop_add_timer(resolver->config.loop, delay, time_is_up, resolver, &resolver->timer, NULL);
}

static void time_is_up(void *context)
{
    struct resolver *resolver = context;
    int64_t now = clock_mono_ns();
    while (resolver->forwards && resolver->forwards->deadline_ns <= now)
        ask_next(resolver->forwards); // moves it to the end, or ends it
    set_timer(resolver);
}

static void enlist(struct forward *forward)
{
    struct resolver *resolver = forward->resolver;
    forward->deadline_ns = clock_mono_ns() + resolver->config.server_ns;
    *resolver->forwards_tail = forward;
    resolver->forwards_tail = &forward->next;
}

// ---- answers --------------------------------------------------------------------------------------------------------

static bool server_failed(const uint8_t *reply)
{
    int rcode = dns_reply_rcode(reply);
    return rcode == DNS_SERVFAIL || rcode == DNS_REFUSED;
}

static void read_datagram(struct forward *forward)
{
    uint8_t *copy = (uint8_t *)forward->resolver->config.copy;
    ssize_t got = recv(forward->fd, copy, SHIM_COPY_SIZE, MSG_DONTWAIT);
    if (got < 0) {
        if (errno != EAGAIN && errno != EINTR)
            ask_next(forward); // nobody listens there
        return;
    }
    if (!dns_reply_fits(question_of(forward), &forward->query, copy, (size_t)got))
        return; // the right one may still come
    if (server_failed(copy))
        ask_next(forward);
    else
        finish(forward, copy, (size_t)got);
}

static void write_question(struct forward *forward)
{
    ssize_t put = send(forward->fd, forward->message + forward->sent, PREFIX + forward->size - forward->sent,
                       MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && errno != EAGAIN && errno != EINTR) {
        ask_next(forward);
        return;
    }
    forward->sent += put > 0 ? (size_t)put : 0;
    if (forward->sent == PREFIX + forward->size)
        loop_set_events(forward->source, EPOLLIN);
}

static void read_stream(struct forward *forward)
{
    size_t wanted = MIN_OF(forward->in.ceiling - forward->in.size, (size_t)READ_SIZE);
    ssize_t got = recv(forward->fd, buf_reserve(&forward->in, wanted), wanted, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        ask_next(forward);
        return;
    }
    buf_commit(&forward->in, (size_t)got);
    const uint8_t *data = (const uint8_t *)forward->in.data;
    size_t size = forward->in.size < PREFIX ? 0 : (size_t)(data[0] << 8 | data[1]);
    if (forward->in.size < PREFIX || forward->in.size < PREFIX + size)
        return;
    if (!dns_reply_fits(question_of(forward), &forward->query, data + PREFIX, size) || server_failed(data + PREFIX))
        ask_next(forward);
    else
        finish(forward, data + PREFIX, size);
}

static void server_ready(void *context, int fd, uint32_t events)
{
    struct forward *forward = context;
    if (!forward->tcp)
        read_datagram(forward);
    else if (forward->sent < PREFIX + forward->size)
        write_question(forward);
    else
        read_stream(forward);
}

// ---- asking ---------------------------------------------------------------------------------------------------------

// A socket belongs to the network namespace in which it is made. We are one thread; who can't come back at once, for want of
// kernel memory, must not go on elsewhere.
static int socket_inside(const struct resolver *resolver, int family, int type)
{
    if (setns(resolver->config.netns_fd, CLONE_NEWNET) < 0)
        return -1;
    int fd = socket(family, type, 0);
    while (setns(resolver->own_netns_fd, CLONE_NEWNET) < 0)
        usleep(1000);
    return fd;
}

static int open_socket(const struct resolver *resolver, const struct dns_server *server, bool tcp)
{
    int family = server->address.ss_family, type = (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
    return server->host || resolver->config.netns_fd < 0 ? socket(family, type, 0) : socket_inside(resolver, family, type);
}

static bool dial(struct forward *forward, const struct dns_server *server)
{
    struct dns_server to = *server;
    if (forward->resolver->config.port)
        ((struct sockaddr_in *)&to.address)->sin_port = forward->resolver->config.port; // at the same place in both families
    forward->fd = open_socket(forward->resolver, &to, forward->tcp);
    if (forward->fd < 0)
        return false;
    bool begun = connect(forward->fd, (struct sockaddr *)&to.address, to.size) == 0 || (forward->tcp && errno == EINPROGRESS);
    if (!begun || (!forward->tcp && send(forward->fd, question_of(forward), forward->size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0))
        return false;
    return loop_add_fd(forward->resolver->config.loop, forward->fd, forward->tcp ? EPOLLOUT : EPOLLIN, server_ready, forward,
                       &forward->source, NULL) == 0;
}

// The first that can be asked; none left: the asker is told, and the forward is freed.
static void ask_next(struct forward *forward)
{
    struct resolver *resolver = forward->resolver;
    unlist(forward);
    enlist(forward);
    hang_up(forward);
    while (forward->server < forward->server_len) {
        if (dial(forward, &forward->servers[forward->server++]))
            return;
        hang_up(forward);
    }
    refuse(resolver, &forward->asker, question_of(forward), &forward->query, DNS_SERVFAIL);
    forward_free(forward);
}

// Its own address is no server for the container's resolver.
static bool is_ourselves(const struct dns_server *server)
{
    const struct sockaddr_in *four = (const struct sockaddr_in *)&server->address;
    return !server->host && four->sin_family == AF_INET && four->sin_addr.s_addr == htonl(DNS_RESOLVER_ADDRESS);
}

void forward_question(struct resolver *resolver, const struct asker *asker, const uint8_t *message, size_t size,
                      const struct dns_query *query, const struct dns_settings *settings)
{
    if (resolver->forward_len >= RESOLVER_FORWARD_MAX) {
        refuse(resolver, asker, message, query, DNS_REFUSED);
        return;
    }
    struct forward *forward = mem_alloc(sizeof(*forward) + PREFIX + size);
    *forward = (struct forward){ .resolver = resolver, .asker = *asker, .tcp = asker->stream, .query = *query, .fd = -1,
                                 .in = BUF_INIT(PREFIX + DNS_MESSAGE_MAX), .size = size };
    forward->message[0] = (uint8_t)(size >> 8);
    forward->message[1] = (uint8_t)size;
    memcpy(forward->message + PREFIX, message, size);
    for (size_t i = 0; i < settings->server_len; i++)
        if (!is_ourselves(&settings->servers[i]))
            forward->servers[forward->server_len++] = settings->servers[i];
    resolver->forward_len++;
    enlist(forward);
    ask_next(forward);
    set_timer(resolver);
}

void forwards_forget_caller(struct resolver *resolver, const struct caller *caller)
{
    struct forward *next;
    for (struct forward *forward = resolver->forwards; forward; forward = next) {
        next = forward->next;
        if (forward->asker.caller == caller)
            forward_free(forward);
    }
}

void forwards_free(struct resolver *resolver)
{
    while (resolver->forwards)
        forward_free(resolver->forwards);
}
