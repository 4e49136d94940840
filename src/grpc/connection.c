// Theory of operation. grpc_run() is a loop of one thread: what nghttp2 has to say is written, then one poll() over the connection and an
// eventfd that other threads write when they have given nghttp2 something to say. Everything nghttp2 does is done with the
// connection's lock held, its callbacks too; the socket is read and written without it.
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/num.h"
#include "grpc_private.h"

#define CHUNK ((size_t)64 << 10)
#define OUT_MAX ((size_t)256 << 10) // nghttp2 is asked for more only below it
#define GATHER_MS 1

void grpc_wake(struct grpc *grpc)
{
    eventfd_write(grpc->wake_fd, 1);
}

// ---- heads of calls -------------------------------------------------------------------------------------------------

static void *handle(void *context)
{
    struct grpc_call *call = context;
    struct grpc *grpc = call->grpc;
    struct err err = { 0 };
    int result = call->method->handler(grpc->config.context, call, &err);
    mutex_lock(&grpc->lock);
    call_finish(call, result < 0 ? &err : NULL);
    call_release(call);
    grpc->handler_len--;
    cond_wake_all(&grpc->idle);
    mutex_unlock(&grpc->lock);
    return NULL;
}

static int start_handler(struct grpc_call *call, struct err *err)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, GRPC_STACK_SIZE);
    call->held = true;
    call->grpc->handler_len++;
    int failed = pthread_create(&thread, &attr, handle, call);
    pthread_attr_destroy(&attr);
    if (!failed)
        return 0;
    call->held = false;
    call->grpc->handler_len--;
    return err_set(err, ERR_RESOURCE_EXHAUSTED, "no thread for the call");
}

static int find_method(struct grpc_call *call, struct err *err)
{
    const struct grpc_config *config = &call->grpc->config;
    for (size_t i = 0; i < config->method_len; i++)
        if (str_eq(config->methods[i].path, call->path)) {
            call->method = &config->methods[i];
            return 0;
        }
    return err_set(err, ERR_NOT_IMPLEMENTED, "unknown method %s", call->path ? call->path : "");
}

static void refuse_http(struct grpc_call *call)
{
    const nghttp2_nv head[] = { { (uint8_t *)":status", (uint8_t *)"415", 7, 3, NGHTTP2_NV_FLAG_NONE } };
    call->answered = true;
    nghttp2_submit_response(call->grpc->session, call->id, head, ARRAY_LEN(head), NULL);
}

static void on_request(struct grpc_call *call)
{
    struct err err = { 0 };
    if (!call->grpc_content)
        refuse_http(call);
    else if (find_method(call, &err) < 0 || start_handler(call, &err) < 0)
        call_finish(call, &err);
}

// ---- nghttp2's callbacks --------------------------------------------------------------------------------------------

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct grpc *grpc = context;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    // Calls whose stream was reset count until their handler is back: else resets would be a way past the limit.
    if (grpc->call_len >= grpc->config.call_max || grpc->closing)
        return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM);
    struct grpc_call *call = call_add(grpc);
    call->id = frame->hd.stream_id;
    call->streams = true;
    nghttp2_session_set_stream_user_data(session, call->id, call);
    return 0;
}

static void add_header(struct grpc_call *call, const char *name, const char *value)
{
    struct kvs *headers = &call->headers;
    if (headers->len == call->header_capacity) {
        size_t capacity = MAX_OF(2 * call->header_capacity, (size_t)16);
        struct kv *items = arena_alloc(&call->header_arena, capacity * sizeof(*items));
        if (headers->len)
            memcpy(items, headers->items, headers->len * sizeof(*items));
        headers->items = items;
        call->header_capacity = capacity;
    }
    headers->items[headers->len++] = (struct kv){ (char *)name, (char *)value };
}

static void take_status(struct grpc_call *call, const char *value)
{
    uint64_t code;
    call->has_status = true;
    call->code = num_parse_u64(slice_of(value), UINT32_MAX, &code) ? (unsigned)code : GRPC_UNKNOWN;
}

static void take_header(struct grpc_call *call, bool first, const char *name, const char *value)
{
    bool client = call->grpc->config.role == GRPC_CLIENT;
    uint64_t status;
    int64_t timeout_ns;
    if (client && str_eq(name, "grpc-status"))
        take_status(call, value);
    else if (client && str_eq(name, "grpc-message"))
        call->message = status_decode(value, &call->header_arena);
    else if (!first)
        return; // trailers beside these: the call's thread may be reading the headers
    else if (str_eq(name, ":path"))
        call->path = (char *)value;
    else if (str_eq(name, ":status"))
        call->http_status = num_parse_u64(slice_of(value), 999, &status) ? (int)status : 0;
    else if (str_eq(name, "content-type"))
        call->grpc_content = str_starts(value, "application/grpc");
    else if (!client && str_eq(name, "grpc-timeout"))
        call->deadline_ns = timeout_parse(value, &timeout_ns) ? clock_mono_ns() + timeout_ns : 0;
    else if (name[0] != ':')
        add_header(call, name, value);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size, const uint8_t *value,
                     size_t value_size, uint8_t flags, void *context)
{
    enum { OVERHEAD = 32 }; // what HTTP/2 counts for each
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!call)
        return 0;
    call->header_size += name_size + value_size + OVERHEAD;
    if (call->header_size > GRPC_HEADERS_MAX)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; // resets the stream
    if (memchr(name, 0, name_size) || memchr(value, 0, value_size))
        return 0;
    take_header(call, frame->headers.cat == NGHTTP2_HCAT_REQUEST || frame->headers.cat == NGHTTP2_HCAT_RESPONSE,
                arena_strndup(&call->header_arena, (const char *)name, name_size),
                arena_strndup(&call->header_arena, (const char *)value, value_size));
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!call || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        call->in_end = true;
        cond_wake_all(&call->changed);
    }
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        on_request(call);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t size, void *context)
{
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, id);
    if (call)
        call_take_in(call, data, size);
    else
        nghttp2_session_consume(session, id, size);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error_code, void *context)
{
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, id);
    if (call)
        call_stream_gone(call, error_code);
    return 0;
}

// The answer is whole, and the client still sends: it may stop.
static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct grpc *grpc = context;
    if (grpc->config.role == GRPC_CLIENT || frame->hd.type != NGHTTP2_HEADERS || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (call && !call->in_end)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

// A call of ours that never became a stream. nghttp2 may close it a second time: then it is nobody's.
static int on_frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error, void *context)
{
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!call)
        return 0;
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, NULL);
    call_stream_gone(call, NGHTTP2_REFUSED_STREAM);
    return 0;
}

// ---- the session ----------------------------------------------------------------------------------------------------

static void set_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_sent);
}

static int make_session(struct grpc *grpc)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int result = -1;
    if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0) {
        set_callbacks(callbacks);
        nghttp2_option_set_no_auto_window_update(option, 1);
        nghttp2_option_set_no_closed_streams(option, 1);
        nghttp2_option_set_max_send_header_block_length(option, GRPC_SEND_HEADERS_MAX);
        result = grpc->config.role == GRPC_SERVER ? nghttp2_session_server_new2(&grpc->session, callbacks, grpc, option)
                                                  : nghttp2_session_client_new2(&grpc->session, callbacks, grpc, option);
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return result;
}

static int submit_settings(struct grpc *grpc)
{
    const nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, GRPC_WINDOW },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, GRPC_HEADERS_MAX },
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, grpc->config.role == GRPC_SERVER ? grpc->config.call_max : 0 },
        { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 }, // a client's alone
    };
    size_t len = ARRAY_LEN(settings) - (grpc->config.role == GRPC_SERVER);
    if (nghttp2_submit_settings(grpc->session, NGHTTP2_FLAG_NONE, settings, len) != 0)
        return -1;
    return nghttp2_session_set_local_window_size(grpc->session, NGHTTP2_FLAG_NONE, 0, 4 * GRPC_WINDOW);
}

int grpc_new(const struct grpc_config *config, int take_fd, struct grpc **out, struct err *err)
{
    struct grpc *grpc = mem_new(struct grpc);
    grpc->config = *config;
    grpc->config.message_max = config->message_max ? config->message_max : GRPC_MESSAGE_MAX;
    grpc->config.call_max = config->call_max ? config->call_max : GRPC_CALL_MAX;
    grpc->fd = take_fd;
    grpc->out = (struct buf)BUF_INIT(2 * OUT_MAX);
    mutex_init(&grpc->lock, 0);
    cond_init(&grpc->idle);
    grpc->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (grpc->wake_fd < 0) {
        err_errno(err, errno, "eventfd");
    } else if (fd_set_nonblock(grpc->fd, true, err) == 0) {
        if (make_session(grpc) == 0 && submit_settings(grpc) == 0) {
            *out = grpc;
            return 0;
        }
        err_set(err, ERR_INTERNAL, "HTTP/2 could not be set up");
    }
    grpc_free(grpc);
    return -1;
}

void grpc_free(struct grpc *grpc)
{
    if (!grpc)
        return;
    nghttp2_session_del(grpc->session);
    cond_done(&grpc->idle);
    mutex_done(&grpc->lock);
    buf_done(&grpc->out);
    fd_close(grpc->wake_fd);
    fd_close(grpc->fd);
    free(grpc);
}

void grpc_close(struct grpc *grpc)
{
    mutex_lock(&grpc->lock);
    grpc->closing = true;
    grpc_wake(grpc);
    mutex_unlock(&grpc->lock);
}

// ---- the loop -------------------------------------------------------------------------------------------------------

static int fill_out(struct grpc *grpc)
{
    while (grpc->out.size < OUT_MAX) {
        const uint8_t *data;
        ssize_t size = nghttp2_session_mem_send(grpc->session, &data);
        if (size <= 0)
            return (int)size;
        buf_add(&grpc->out, data, (size_t)size);
    }
    return 0;
}

// 0: all is written; 1: the peer has to read first; -1: it is gone.
static int write_out(struct grpc *grpc)
{
    for (;;) {
        mutex_lock(&grpc->lock);
        int filled = fill_out(grpc);
        mutex_unlock(&grpc->lock);
        if (filled < 0)
            return -1;
        if (grpc->out.size == 0)
            return 0;
        ssize_t sent = send(grpc->fd, grpc->out.data, grpc->out.size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return errno == EAGAIN ? 1 : -1;
        buf_consume(&grpc->out, sent > 0 ? (size_t)sent : 0);
    }
}

// False: the connection is over.
static bool read_in(struct grpc *grpc, uint8_t *chunk)
{
    ssize_t got = recv(grpc->fd, chunk, CHUNK, 0);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0)
        return false;
    mutex_lock(&grpc->lock);
    ssize_t taken = nghttp2_session_mem_recv(grpc->session, chunk, (size_t)got);
    mutex_unlock(&grpc->lock);
    return taken >= 0;
}

// Deadlines of handlers that wait for something else than their call; the others see to it themselves. Milliseconds until the next.
static int expire(struct grpc *grpc)
{
    int64_t now_ns = clock_mono_ns(), next_ns = INT64_MAX;
    mutex_lock(&grpc->lock);
    for (struct grpc_call *call = grpc->calls; call; call = call->next) {
        if (!call->deadline_ns || call->expired || call->cancel.event_fd < 0)
            continue;
        if (call->deadline_ns <= now_ns)
            call_expire(call);
        else
            next_ns = MIN_OF(next_ns, call->deadline_ns);
    }
    mutex_unlock(&grpc->lock);
    return next_ns == INT64_MAX ? -1 : (int)MIN_OF((next_ns - now_ns) / NS_PER_MS + 1, INT64_C(1000000));
}

static bool wants_more(struct grpc *grpc)
{
    mutex_lock(&grpc->lock);
    bool more = !grpc->closing && (nghttp2_session_want_read(grpc->session) || nghttp2_session_want_write(grpc->session));
    mutex_unlock(&grpc->lock);
    return more;
}

static bool gathers(struct grpc *grpc)
{
    mutex_lock(&grpc->lock);
    bool gather = grpc->gather_len > 0;
    mutex_unlock(&grpc->lock);
    return gather;
}

// Whoever gathers sleeps a while in which the socket wakes nobody.
static int wait_for(struct grpc *grpc, struct pollfd *fds, size_t len)
{
    if (gathers(grpc) && fds[0].events == POLLIN) {
        int woken = poll(fds + 1, len - 1, GATHER_MS);
        if (woken != 0)
            return woken;
    }
    return poll(fds, len, expire(grpc));
}

static bool turn(struct grpc *grpc, const struct cancel *cancel, uint8_t *chunk)
{
    int written = write_out(grpc);
    if (written < 0 || (written == 0 && !wants_more(grpc)) || (cancel && cancel_now(cancel)))
        return false;
    struct pollfd fds[] = {
        { grpc->fd, (short)(written ? POLLIN | POLLOUT : POLLIN), 0 },
        { grpc->wake_fd, POLLIN, 0 },
        { cancel ? cancel->event_fd : -1, POLLIN, 0 },
        { cancel ? cancel->fd : -1, POLLRDHUP, 0 },
    };
    eventfd_t woken;
    if (wait_for(grpc, fds, ARRAY_LEN(fds)) < 0 && errno != EINTR)
        return false;
    if (fds[1].revents)
        eventfd_read(grpc->wake_fd, &woken);
    return !(fds[0].revents & ~POLLOUT) || read_in(grpc, chunk);
}

// The peer is told why, if it listens; then every call fails and its handler comes back.
static void end(struct grpc *grpc)
{
    mutex_lock(&grpc->lock);
    nghttp2_session_terminate_session(grpc->session, NGHTTP2_NO_ERROR);
    mutex_unlock(&grpc->lock);
    write_out(grpc);
    shutdown(grpc->fd, SHUT_RDWR);
    mutex_lock(&grpc->lock);
    grpc->closing = grpc->closed = true;
    for (struct grpc_call *call = grpc->calls, *next; call; call = next) {
        next = call->next;
        if (call->streams) {
            nghttp2_session_set_stream_user_data(grpc->session, call->id, NULL);
            call->in_end = false;
            call_stream_gone(call, NGHTTP2_CANCEL);
        }
    }
    while (grpc->handler_len > 0)
        cond_wait(&grpc->idle, &grpc->lock);
    mutex_unlock(&grpc->lock);
}

void grpc_run(struct grpc *grpc, const struct cancel *cancel)
{
    _cleanup_free_ uint8_t *chunk = mem_alloc(CHUNK);
    while (turn(grpc, cancel, chunk))
        ;
    end(grpc);
}
