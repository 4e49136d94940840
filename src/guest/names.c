// The container's questions for names. It shares the machine's network, so the sockets on 127.0.0.11 are PID 1's own, at port 53: a
// server of the container's own that wants that port on every address does not get it. Messages go over one stream to the host's
// resolver and come back by their tags (task/task.h); nothing in them is read here.
//
//     datagrams   the last 256 who asked, each with its tag: a late answer to one before them finds nobody
//     callers     clients by TCP, one question at a time; who is silent makes room
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "dns/dns.h"
#include "guest_private.h"

enum {
    ASKER_MAX = 256, CALLER_MAX = 16, BACKLOG = 16, DATAGRAMS_PER_TURN = 32,
    PREFIX = 2, TAG = TASK_NAMES_TAG_SIZE, OUT_MAX = 64 << 10, IN_MAX = PREFIX + DNS_MESSAGE_MAX,
};

struct asker {
    uint32_t tag; // 0: nobody
    struct sockaddr_in from;
};

struct caller {
    struct guest_names *names;
    uint32_t tag; // of the question that waits; 0: none
    int fd; // -1: nobody
    struct loop_source *source;
    struct buf in, out;
    int64_t used_ns;
};

struct guest_names {
    struct guest *guest;
    struct link_stream *stream; // NULL: ended
    int udp_fd, tcp_fd, host_fd; // `host_fd`: our end of what the stream reads and writes
    struct loop_source *udp_source, *tcp_source, *host_source;
    uint32_t last_tag;
    struct asker askers[ASKER_MAX]; // by tag
    struct caller callers[CALLER_MAX];
    struct buf to_host, from_host;
};

// ---- the host -------------------------------------------------------------------------------------------------------

static void watch_host(struct guest_names *names)
{
    loop_set_events(names->host_source, EPOLLIN | (names->to_host.size ? EPOLLOUT : 0));
}

static void flush_host(struct guest_names *names)
{
    while (names->to_host.size) {
        ssize_t put = send(names->host_fd, names->to_host.data, names->to_host.size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0)
            break;
        buf_consume(&names->to_host, (size_t)put);
    }
    watch_host(names);
}

// False: the host takes no more, the question is lost.
static bool tell_host(struct guest_names *names, uint32_t tag, const void *message, size_t size)
{
    if (!names->host_source || size > DNS_QUERY_MAX || names->to_host.size + PREFIX + TAG + size > OUT_MAX)
        return false;
    buf_add(&names->to_host, (uint8_t[]){ (uint8_t)((size + TAG) >> 8), (uint8_t)(size + TAG) }, PREFIX);
    buf_add(&names->to_host, &tag, TAG);
    buf_add(&names->to_host, message, size);
    flush_host(names);
    return true;
}

static uint32_t draw_tag(struct guest_names *names, bool stream)
{
    names->last_tag = names->last_tag % (TASK_NAMES_STREAM - 1) + 1; // never 0
    return names->last_tag | (stream ? TASK_NAMES_STREAM : 0);
}

// ---- datagrams --------------------------------------------------------------------------------------------------------

static void datagrams_ready(void *context, int fd, uint32_t events)
{
    struct guest_names *names = context;
    uint8_t message[DNS_QUERY_MAX + 1];
    loop_set_events(names->tcp_source, EPOLLIN);
    for (int i = 0; i < DATAGRAMS_PER_TURN; i++) {
        struct sockaddr_in from;
        socklen_t from_size = sizeof(from);
        ssize_t got = recvfrom(fd, message, sizeof(message), MSG_DONTWAIT, (struct sockaddr *)&from, &from_size);
        if (got < 0)
            return;
        uint32_t tag = draw_tag(names, false);
        if (tell_host(names, tag, message, (size_t)got))
            names->askers[tag % ASKER_MAX] = (struct asker){ tag, from };
    }
}

static void answer_datagram(struct guest_names *names, uint32_t tag, const void *message, size_t size)
{
    struct asker *asker = &names->askers[tag % ASKER_MAX];
    if (asker->tag != tag)
        return;
    sendto(names->udp_fd, message, size, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&asker->from, sizeof(asker->from));
    asker->tag = 0;
}

// ---- TCP ------------------------------------------------------------------------------------------------------------

static void caller_ready(void *context, int fd, uint32_t events);

static void caller_done(struct caller *caller)
{
    loop_remove(take_ptr(&caller->source));
    fd_close(take_fd(&caller->fd));
    buf_done(&caller->in);
    buf_done(&caller->out);
    caller->tag = 0;
}

static void watch_caller(struct caller *caller)
{
    uint32_t events = caller->out.size ? EPOLLOUT : caller->tag ? 0 : EPOLLIN;
    if (!events)
        loop_remove(take_ptr(&caller->source));
    else if (caller->source)
        loop_set_events(caller->source, events);
    else if (loop_add_fd(caller->names->guest->loop, caller->fd, events, caller_ready, caller, &caller->source, NULL) < 0)
        caller_done(caller);
}

static int flush_caller(struct caller *caller)
{
    while (caller->out.size) {
        ssize_t put = send(caller->fd, caller->out.data, caller->out.size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        buf_consume(&caller->out, (size_t)put);
    }
    return 0;
}

// The next question, once the one before is answered and its answer is taken.
static int ask_host(struct caller *caller)
{
    const uint8_t *data = (const uint8_t *)caller->in.data;
    size_t size = caller->in.size < PREFIX ? 0 : (size_t)(data[0] << 8 | data[1]);
    if (size > DNS_QUERY_MAX)
        return -1;
    if (caller->tag || caller->out.size || caller->in.size < PREFIX || caller->in.size < PREFIX + size)
        return 0;
    caller->tag = draw_tag(caller->names, true);
    if (!tell_host(caller->names, caller->tag, data + PREFIX, size))
        return -1;
    buf_consume(&caller->in, PREFIX + size);
    return 0;
}

static int read_caller(struct caller *caller)
{
    size_t wanted = PREFIX + DNS_QUERY_MAX - caller->in.size;
    ssize_t got = recv(caller->fd, buf_reserve(&caller->in, wanted), wanted, MSG_DONTWAIT);
    if (got > 0)
        buf_commit(&caller->in, (size_t)got);
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)) ? 0 : -1;
}

static void caller_ready(void *context, int fd, uint32_t events)
{
    struct caller *caller = context;
    caller->used_ns = clock_mono_ns();
    bool reads = !caller->out.size && !caller->tag;
    if (flush_caller(caller) < 0 || (reads && read_caller(caller) < 0) || ask_host(caller) < 0)
        caller_done(caller);
    else
        watch_caller(caller);
}

static void answer_caller(struct guest_names *names, uint32_t tag, const void *message, size_t size)
{
    for (size_t i = 0; i < CALLER_MAX; i++) {
        struct caller *caller = &names->callers[i];
        if (caller->fd < 0 || caller->tag != tag)
            continue;
        caller->tag = 0;
        buf_add(&caller->out, (uint8_t[]){ (uint8_t)(size >> 8), (uint8_t)size }, PREFIX);
        buf_add(&caller->out, message, size);
        watch_caller(caller);
        return;
    }
}

// A free place, or that of the one who has said nothing for longest.
static struct caller *find_place(struct guest_names *names)
{
    struct caller *silent = &names->callers[0];
    for (size_t i = 0; i < CALLER_MAX; i++) {
        struct caller *caller = &names->callers[i];
        if (caller->fd < 0)
            return caller;
        if (caller->used_ns < silent->used_ns)
            silent = caller;
    }
    return silent;
}

static void caller_comes(void *context, int fd, uint32_t events)
{
    struct guest_names *names = context;
    struct caller *caller = find_place(names);
    caller_done(caller); // also for its descriptor
    int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (accepted < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) // no descriptors: the next datagram looks again
            loop_set_events(names->tcp_source, 0);
        return;
    }
    *caller = (struct caller){ .names = names, .fd = accepted, .in = BUF_INIT(PREFIX + DNS_QUERY_MAX),
                               .out = BUF_INIT(PREFIX + DNS_MESSAGE_MAX), .used_ns = clock_mono_ns() };
    watch_caller(caller);
}

// ---- answers --------------------------------------------------------------------------------------------------------

static void work_off(struct guest_names *names)
{
    for (;;) {
        const uint8_t *data = (const uint8_t *)names->from_host.data;
        size_t size = names->from_host.size < PREFIX ? 0 : (size_t)(data[0] << 8 | data[1]);
        uint32_t tag;
        if (names->from_host.size < PREFIX || names->from_host.size < PREFIX + size)
            return;
        if (size >= TAG) {
            memcpy(&tag, data + PREFIX, TAG);
            if (tag & TASK_NAMES_STREAM)
                answer_caller(names, tag, data + PREFIX + TAG, size - TAG);
            else
                answer_datagram(names, tag, data + PREFIX + TAG, size - TAG);
        }
        buf_consume(&names->from_host, PREFIX + size);
    }
}

static void host_ready(void *context, int fd, uint32_t events)
{
    struct guest_names *names = context;
    if (events & EPOLLOUT)
        flush_host(names);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    size_t wanted = IN_MAX - names->from_host.size; // never none: a whole message is worked off
    ssize_t got = recv(fd, buf_reserve(&names->from_host, wanted), wanted, MSG_DONTWAIT);
    if (got > 0) {
        buf_commit(&names->from_host, (size_t)got);
        work_off(names);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        loop_remove(take_ptr(&names->host_source)); // the host has ended it: nobody is answered any more
        loop_remove(take_ptr(&names->udp_source));
        loop_remove(take_ptr(&names->tcp_source));
    }
}

// ---- beginning and end ------------------------------------------------------------------------------------------------

static int bind_socket(int type, int *out, struct err *err)
{
    const struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(DNS_RESOLVER_ADDRESS), .sin_port = htons(DNS_PORT) };
    _cleanup_close_ int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ type == SOCK_STREAM }, sizeof(int)) < 0 ||
        bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 || (type == SOCK_STREAM && listen(fd, BACKLOG) < 0))
        return err_errno(err, errno, "listen on 127.0.0.11");
    *out = take_fd(&fd);
    return 0;
}

static void stream_ended(void *context)
{
    struct guest_names *names = context;
    names->stream = NULL;
}

static int open_stream(struct guest_names *names, int64_t number, struct err *err)
{
    int ends[2];
    if (fd_socketpair(SOCK_STREAM, ends, err) < 0)
        return -1;
    names->host_fd = ends[0];
    _cleanup_close_ int read_fd = ends[1], write_fd = fd_dup(ends[1], err);
    if (write_fd < 0 || fd_set_nonblock(names->host_fd, true, err) < 0 ||
        link_stream_open(names->guest->link, (uint32_t)number, read_fd, write_fd, stream_ended, names, &names->stream, err) < 0)
        return -1;
    take_fd(&read_fd);
    take_fd(&write_fd);
    return 0;
}

static int watch(struct guest_names *names, struct err *err)
{
    struct loop *loop = names->guest->loop;
    if (loop_add_fd(loop, names->udp_fd, EPOLLIN, datagrams_ready, names, &names->udp_source, err) < 0 ||
        loop_add_fd(loop, names->tcp_fd, EPOLLIN, caller_comes, names, &names->tcp_source, err) < 0)
        return -1;
    return loop_add_fd(loop, names->host_fd, EPOLLIN, host_ready, names, &names->host_source, err);
}

int guest_names_start(struct guest *guest, int64_t number, struct err *err)
{
    guest_names_free(take_ptr(&guest->names));
    struct guest_names *names = guest->names = mem_new(struct guest_names);
    names->guest = guest;
    names->udp_fd = names->tcp_fd = names->host_fd = -1;
    names->to_host = (struct buf)BUF_INIT(OUT_MAX);
    names->from_host = (struct buf)BUF_INIT(IN_MAX);
    for (size_t i = 0; i < CALLER_MAX; i++)
        names->callers[i].fd = -1;
    if (bind_socket(SOCK_DGRAM, &names->udp_fd, err) == 0 && bind_socket(SOCK_STREAM, &names->tcp_fd, err) == 0 &&
        open_stream(names, number, err) == 0 && watch(names, err) == 0)
        return 0;
    guest_names_free(take_ptr(&guest->names));
    return -1;
}

void guest_names_free(struct guest_names *names)
{
    if (!names)
        return;
    if (names->stream)
        link_stream_drop(names->stream);
    for (size_t i = 0; i < CALLER_MAX; i++)
        caller_done(&names->callers[i]);
    loop_remove(names->udp_source);
    loop_remove(names->tcp_source);
    loop_remove(names->host_source);
    fd_close(names->udp_fd);
    fd_close(names->tcp_fd);
    fd_close(names->host_fd);
    buf_done(&names->to_host);
    buf_done(&names->from_host);
    free(names);
}
