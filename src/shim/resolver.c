// The container's side: questions, and answers from the networks' lists.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "shim/resolver.h"
#include "shim/wall.h"

enum { QUESTIONS_PER_TURN = 32, SETTINGS_MAX = 256 << 10, LIST_MAX = 64 << 20, OUT_MAX = 256 << 10 };
enum { PREFIX = 2, TAG = TASK_NAMES_TAG_SIZE, FRAME_MAX = PREFIX + TAG + DNS_QUERY_MAX };
#define RESUME_NS (1 * NS_PER_S) // after accept failed

// ---- what the daemon has written ------------------------------------------------------------------------------------

struct view {
    struct buf text;
    struct dns_settings settings;
};

// A list is replaced as a whole, so what is mapped stays as it is.
static struct slice map_list(int lists_fd, struct slice id)
{
    struct slice none = { "", 0 };
    struct stat status;
    _cleanup_free_ char *name = mem_strndup(id.data, id.size);
    _cleanup_close_ int fd = strchr(name, '/') ? -1 : openat(lists_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size <= 0 || status.st_size > LIST_MAX)
        return none;
    void *data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    return data == MAP_FAILED ? none : (struct slice){ data, (size_t)status.st_size };
}

static void view_open(const struct resolver *resolver, struct view *view)
{
    view->text = (struct buf)BUF_INIT(SETTINGS_MAX);
    file_read_at(resolver->config.state_fd, DNS_SETTINGS_NAME, &view->text, NULL); // none: nothing is known
    dns_settings_read((struct slice){ buf_text(&view->text), view->text.size }, &view->settings);
    for (size_t i = 0; i < view->settings.network_len; i++)
        view->settings.networks[i].list = map_list(resolver->config.lists_fd, view->settings.networks[i].id);
}

static void view_close(struct view *view)
{
    for (size_t i = 0; i < view->settings.network_len; i++) {
        struct slice list = view->settings.networks[i].list;
        if (list.size)
            munmap((void *)list.data, list.size);
    }
    buf_done(&view->text);
}

// ---- one question ---------------------------------------------------------------------------------------------------

static void answer(struct resolver *resolver, const struct asker *asker, const uint8_t *message, size_t size,
                   const struct dns_query *query)
{
    _cleanup_buf_ struct buf out = BUF_INIT(DNS_MESSAGE_MAX);
    struct view view;
    view_open(resolver, &view);
    if (dns_answer(&view.settings, message, query, asker->stream ? DNS_MESSAGE_MAX - TAG : query->datagram_max, &out))
        resolver_reply(resolver, asker, out.data, out.size);
    else
        forward_question(resolver, asker, message, size, query, &view.settings);
    view_close(&view);
}

// False: it is no question, and nothing will be said.
static bool serve(struct resolver *resolver, const struct asker *asker, const uint8_t *message, size_t size)
{
    struct dns_query query;
    int rcode = dns_query_read(message, size, &query);
    if (rcode == DNS_OK) {
        answer(resolver, asker, message, size, &query);
    } else if (rcode > 0) {
        _cleanup_buf_ struct buf out = BUF_INIT(DNS_MESSAGE_MAX);
        dns_reply(message, &query, rcode, &out);
        resolver_reply(resolver, asker, out.data, out.size);
    }
    return rcode >= 0;
}

static void datagrams_ready(void *context, int fd, uint32_t events)
{
    struct resolver *resolver = context;
    uint8_t message[DNS_QUERY_MAX + 1];
    for (int i = 0; i < QUESTIONS_PER_TURN; i++) {
        struct asker asker = { .caller = NULL };
        socklen_t from_size = sizeof(asker.from);
        ssize_t got = recvfrom(fd, message, sizeof(message), MSG_DONTWAIT, (struct sockaddr *)&asker.from, &from_size);
        if (got < 0)
            return;
        if (got <= DNS_QUERY_MAX)
            serve(resolver, &asker, message, (size_t)got);
    }
}

// ---- by TCP ---------------------------------------------------------------------------------------------------------

static void caller_ready(void *context, int fd, uint32_t events);

static void watch_caller(struct caller *caller)
{
    uint32_t events = (caller->waits || caller->out.size ? 0 : EPOLLIN) | (caller->out.size ? EPOLLOUT : 0);
    if (!events)
        loop_remove(take_ptr(&caller->source));
    else if (caller->source)
        loop_set_events(caller->source, events);
    else
        loop_add_fd(caller->resolver->config.loop, caller->fd, events, caller_ready, caller, &caller->source, NULL);
}

static void caller_forget(struct caller *caller)
{
    struct resolver *resolver = caller->resolver;
    struct caller **at = &resolver->callers;
    while (*at != caller)
        at = &(*at)->next;
    *at = caller->next;
    resolver->caller_len--;
    forwards_forget_caller(resolver, caller);
    loop_remove(caller->source);
    fd_close(caller->fd);
    buf_done(&caller->in);
    buf_done(&caller->out);
    free(caller);
}

// 1: there was a question, and it is answered or waits.
static int serve_next(struct caller *caller)
{
    const uint8_t *data = (const uint8_t *)caller->in.data;
    const size_t head = caller->guest ? TAG : 0;
    size_t size = caller->in.size < PREFIX ? 0 : (size_t)(data[0] << 8 | data[1]);
    if (caller->in.size < PREFIX)
        return 0;
    if (size < head || size > head + DNS_QUERY_MAX)
        return -1;
    if (caller->in.size < PREFIX + size)
        return 0;
    struct asker asker = { .caller = caller, .stream = true };
    uint8_t message[DNS_QUERY_MAX];
    memcpy(&asker.tag, data + PREFIX, head);
    memcpy(message, data + PREFIX + head, size - head);
    buf_consume(&caller->in, PREFIX + size);
    if (caller->guest)
        asker.stream = asker.tag & TASK_NAMES_STREAM;
    else
        caller->waits = true; // until it is answered
    return serve(caller->resolver, &asker, message, size - head) || caller->guest ? 1 : -1;
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

// What was read is worked off, a question at a time, as long as each is answered at once and its answer is taken.
static int pump_caller(struct caller *caller)
{
    int more = 1;
    while (more > 0 && !caller->waits) {
        if (flush_caller(caller) < 0 || caller->out.overflow)
            return -1;
        more = caller->out.size ? 0 : serve_next(caller);
    }
    return more < 0 || flush_caller(caller) < 0 ? -1 : 0;
}

static void caller_ready(void *context, int fd, uint32_t events)
{
    struct caller *caller = context;
    bool ended = false;
    caller->used_ns = clock_mono_ns();
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !caller->out.size) {
        size_t wanted = FRAME_MAX - caller->in.size; // never none: a whole frame is worked off
        ssize_t got = recv(fd, buf_reserve(&caller->in, wanted), wanted, MSG_DONTWAIT);
        ended = got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
        if (got > 0)
            buf_commit(&caller->in, (size_t)got);
    }
    if (ended || pump_caller(caller) < 0)
        caller_forget(caller);
    else
        watch_caller(caller);
}

// One who does not wait for an answer; false when all do.
static bool make_room(struct resolver *resolver)
{
    struct caller *idle = NULL;
    for (struct caller *caller = resolver->callers; caller; caller = caller->next)
        if (!caller->waits && !caller->guest && (!idle || caller->used_ns < idle->used_ns))
            idle = caller;
    if (idle)
        caller_forget(idle);
    return idle;
}

static void resume(void *context)
{
    struct resolver *resolver = context;
    loop_remove(take_ptr(&resolver->later));
    loop_set_events(resolver->tcp_source, EPOLLIN);
}

static void add_caller(struct resolver *resolver, int fd, bool guest)
{
    struct caller *caller = mem_new(struct caller);
    *caller = (struct caller){ .next = resolver->callers, .resolver = resolver, .fd = fd, .guest = guest, .in = BUF_INIT(FRAME_MAX),
                               .out = BUF_INIT(OUT_MAX), .used_ns = clock_mono_ns() };
    resolver->callers = caller;
    resolver->caller_len++;
    watch_caller(caller);
}

static void caller_comes(void *context, int fd, uint32_t events)
{
    struct resolver *resolver = context;
    _cleanup_close_ int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (accepted < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        loop_set_events(resolver->tcp_source, 0);
        if (!resolver->later)
            loop_add_timer(resolver->config.loop, RESUME_NS, resume, resolver, &resolver->later, NULL);
    }
    if (accepted < 0 || (resolver->caller_len >= RESOLVER_CALLER_MAX && !make_room(resolver)))
        return;
    add_caller(resolver, take_fd(&accepted), false);
}

// ---- answers --------------------------------------------------------------------------------------------------------

// This may come from below pump_caller(), which goes on; an answer that comes later begins it again. What a guest does not take is lost
// to it, as datagrams are.
void resolver_reply(struct resolver *resolver, const struct asker *asker, const void *message, size_t size)
{
    struct caller *caller = asker->caller;
    if (!caller) {
        sendto(resolver->config.udp_fd, message, size, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&asker->from,
               sizeof(asker->from));
        return;
    }
    const size_t head = caller->guest ? TAG : 0;
    if (caller->guest && (size + TAG > DNS_MESSAGE_MAX || caller->out.size + PREFIX + TAG + size > OUT_MAX))
        return;
    buf_add(&caller->out, (uint8_t[]){ (uint8_t)((size + head) >> 8), (uint8_t)(size + head) }, PREFIX);
    buf_add(&caller->out, &asker->tag, head);
    buf_add(&caller->out, message, size);
    caller->waits = false;
    watch_caller(caller);
}

// ---- beginning and end ----------------------------------------------------------------------------------------------

static int watch_sockets(struct resolver *resolver, const struct resolver_config *config, struct err *err)
{
    if (config->udp_fd >= 0 && (fd_set_nonblock(config->udp_fd, true, err) < 0 ||
                                loop_add_fd(config->loop, config->udp_fd, EPOLLIN, datagrams_ready, resolver, &resolver->udp_source, err) < 0))
        return -1;
    if (config->tcp_fd >= 0 && (fd_set_nonblock(config->tcp_fd, true, err) < 0 ||
                                loop_add_fd(config->loop, config->tcp_fd, EPOLLIN, caller_comes, resolver, &resolver->tcp_source, err) < 0))
        return -1;
    return config->guest_fd < 0 ? 0 : fd_set_nonblock(config->guest_fd, true, err);
}

int resolver_new(const struct resolver_config *config, struct resolver **out, struct err *err)
{
    struct resolver *resolver = mem_new(struct resolver);
    resolver->config = *config;
    resolver->config.udp_fd = resolver->config.tcp_fd = resolver->config.lists_fd = -1; // until they are taken
    resolver->forwards_tail = &resolver->forwards;
    resolver->own_netns_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (resolver->own_netns_fd < 0)
        err_errno(err, errno, "/proc/self/ns/net");
    if (resolver->own_netns_fd < 0 || watch_sockets(resolver, config, err) < 0) {
        resolver_free(resolver);
        return -1;
    }
    resolver->config = *config;
    if (config->guest_fd >= 0)
        add_caller(resolver, config->guest_fd, true);
    *out = resolver;
    return 0;
}

int resolver_install(struct request *request, struct resolver_config *config, struct err *err)
{
    struct shim *shim = request->shim;
    struct resolver *resolver;
    config->loop = shim->loop;
    config->copy = shim->copy;
    config->state_fd = shim->state_fd;
    config->server_ns = RESOLVER_SERVER_NS;
    config->lists_fd = fd_list_take(&request->fds, request->arguments.lists_fd, "lists_fd", err);
    if (config->lists_fd < 0)
        return -1;
    if (resolver_new(config, &resolver, err) < 0) {
        fd_close(config->lists_fd);
        return -1;
    }
    resolver_free(shim->resolver);
    shim->resolver = resolver;
    return 0;
}

void resolver_free(struct resolver *resolver)
{
    if (!resolver)
        return;
    while (resolver->callers)
        caller_forget(resolver->callers);
    forwards_free(resolver);
    loop_remove(resolver->udp_source);
    loop_remove(resolver->tcp_source);
    loop_remove(resolver->timer);
    loop_remove(resolver->later);
    fd_close(resolver->config.udp_fd);
    fd_close(resolver->config.tcp_fd);
    fd_close(resolver->config.lists_fd);
    fd_close(resolver->own_netns_fd);
    free(resolver);
}
