// Messages of a call: five bytes of head, then the message, over DATA frames that know nothing of messages.
//
// **Flow control.** The peer may send GRPC_WINDOW bytes that nobody has read. Bytes of a message that has not come to its end are given
// back to its window at once, since the reader waits for the rest; a whole message is when it is read. So a call's memory is at most one
// message and one window, and a handler that does not read holds its client back.
#include <arpa/inet.h>
#include <errno.h>
#include <sys/eventfd.h>

#include "grpc_private.h"

// ---- queues ---------------------------------------------------------------------------------------------------------

static size_t queue_size(const struct queue *queue)
{
    return queue->buf.size - queue->at;
}

static const char *queue_data(const struct queue *queue)
{
    return queue->buf.data + queue->at;
}

// What is behind moves to the front when it is the smaller part, so that each byte moves once on average.
static void queue_drop(struct queue *queue, size_t size)
{
    queue->at += size;
    if (queue->at < queue->buf.size / 2 && queue->at < queue->buf.size)
        return;
    buf_consume(&queue->buf, queue->at);
    queue->at = 0;
}

// ---- a call's life --------------------------------------------------------------------------------------------------

struct grpc_call *call_add(struct grpc *grpc)
{
    struct grpc_call *call = mem_new(struct grpc_call);
    call->grpc = grpc;
    call->cancel = (struct cancel)CANCEL_NEVER;
    call->in.buf.ceiling = 2 * (grpc->config.message_max + GRPC_WINDOW + GRPC_FRAME_HEAD);
    call->out.buf.ceiling = 2 * (grpc->config.message_max + GRPC_SEND_MAX + GRPC_FRAME_HEAD);
    cond_init(&call->changed);
    call->at = &grpc->calls;
    call->next = grpc->calls;
    if (call->next)
        call->next->at = &call->next;
    grpc->calls = call;
    grpc->call_len++;
    return call;
}

void call_drop(struct grpc_call *call)
{
    if (call->held || call->streams)
        return;
    *call->at = call->next;
    if (call->next)
        call->next->at = call->at;
    call->grpc->call_len--;
    cond_wake_all(&call->grpc->idle);
    cond_done(&call->changed);
    fd_close(call->cancel.event_fd);
    buf_done(&call->in.buf);
    buf_done(&call->out.buf);
    arena_done(&call->arena);
    arena_done(&call->header_arena);
    free(call);
}

static void tell(struct grpc_call *call)
{
    if (call->cancelled && call->cancel.event_fd >= 0)
        eventfd_write(call->cancel.event_fd, 1);
    cond_wake_all(&call->changed);
}

void call_cancel(struct grpc_call *call, uint32_t error_code)
{
    call->cancelled = true;
    if (call->streams)
        nghttp2_submit_rst_stream(call->grpc->session, NGHTTP2_FLAG_NONE, call->id, error_code);
    tell(call);
    grpc_wake(call->grpc);
}

// A server's call still gets its status, by its handler.
void call_expire(struct grpc_call *call)
{
    call->expired = true;
    if (call->grpc->config.role == GRPC_CLIENT)
        call_cancel(call, NGHTTP2_CANCEL);
    call->cancelled = true;
    tell(call);
}

void call_stream_gone(struct grpc_call *call, uint32_t error_code)
{
    call->streams = false;
    call->reset = error_code;
    call->cancelled |= !call->in_end || error_code != NGHTTP2_NO_ERROR;
    call->in_end = true;
    tell(call);
    call_drop(call);
}

static void consume(struct grpc_call *call, size_t size)
{
    if (size == 0)
        return;
    if (call->streams)
        nghttp2_session_consume(call->grpc->session, call->id, size);
    else
        nghttp2_session_consume_connection(call->grpc->session, size);
    if (nghttp2_session_want_write(call->grpc->session))
        grpc_wake(call->grpc);
}

static void set_gather(struct grpc_call *call, bool gather)
{
    call->grpc->gather_len += (unsigned)gather - (unsigned)call->gathers;
    call->gathers = gather;
}

void grpc_gather(struct grpc_call *call, bool gather)
{
    mutex_lock(&call->grpc->lock);
    set_gather(call, gather);
    mutex_unlock(&call->grpc->lock);
}

void call_release(struct grpc_call *call)
{
    set_gather(call, false);
    consume(call, call->unconsumed);
    call->unconsumed = 0;
    call->held = false;
    call_drop(call);
}

static bool wait_change(struct grpc_call *call) REQUIRES(&call->grpc->lock)
{
    if (!call->deadline_ns)
        cond_wait(&call->changed, &call->grpc->lock);
    else if (!cond_wait_until(&call->changed, &call->grpc->lock, call->deadline_ns))
        call_expire(call);
    return !call->expired;
}

// ---- receiving ------------------------------------------------------------------------------------------------------

void call_take_in(struct grpc_call *call, const uint8_t *data, size_t size)
{
    if (!call->held) {
        consume(call, size);
        return;
    }
    buf_add(&call->in.buf, data, size);
    call->unconsumed += size;
    if (call->in.buf.overflow)
        call_cancel(call, NGHTTP2_FLOW_CONTROL_ERROR);
    cond_wake_all(&call->changed);
}

// Whole messages that nobody has read stay on the peer's account.
static void give_back(struct grpc_call *call, size_t kept)
{
    if (call->unconsumed > kept) {
        consume(call, call->unconsumed - kept);
        call->unconsumed = kept;
    }
}

// 1: taken; 0: not whole yet.
static int take_message(struct grpc_call *call, struct buf *out, struct err *err)
{
    size_t held = queue_size(&call->in), max = MIN_OF(call->grpc->config.message_max, out->ceiling);
    uint32_t size = 0;
    if (held >= GRPC_FRAME_HEAD) {
        memcpy(&size, queue_data(&call->in) + 1, sizeof(size));
        size = ntohl(size);
        if (queue_data(&call->in)[0])
            return err_set(err, ERR_NOT_IMPLEMENTED, "compressed messages are not supported");
        if (size > max)
            return err_set(err, ERR_RESOURCE_EXHAUSTED, "a message of %u bytes, more than %zu", size, max);
    }
    if (held < GRPC_FRAME_HEAD + (size_t)size || held < GRPC_FRAME_HEAD) {
        give_back(call, 0);
        return 0;
    }
    buf_add(out, queue_data(&call->in) + GRPC_FRAME_HEAD, size);
    queue_drop(&call->in, GRPC_FRAME_HEAD + size);
    give_back(call, queue_size(&call->in));
    return 1;
}

static int not_ok(const struct grpc_call *call, struct err *err)
{
    if (call->has_status)
        status_error(call->code, call->message, err);
    else if (call->reset)
        status_error(status_of_reset(call->reset), "the call was reset by the peer", err);
    else if (call->http_status && call->http_status != 200)
        status_error(status_of_http(call->http_status), "the peer does not speak gRPC there", err);
    else
        err_set(err, ERR_INTERNAL, "the call ended without a status");
    return -1;
}

// What the end of the peer's messages means.
static int at_end(const struct grpc_call *call, struct err *err)
{
    bool client = call->grpc->config.role == GRPC_CLIENT, ok = call->has_status && call->code == GRPC_OK;
    if (client && call->has_status && !ok)
        return not_ok(call, err);
    if (call->expired) {
        err_set(err, ERR_CANCELLED, "the deadline is over");
        if (err)
            err->number = ETIMEDOUT;
        return -1;
    }
    if (call->grpc->closed && !ok)
        return err_set(err, client ? ERR_UNAVAILABLE : ERR_CANCELLED, "the connection has ended");
    if (client && !ok)
        return not_ok(call, err);
    if (!client && call->cancelled)
        return err_set(err, ERR_CANCELLED, "the client has cancelled the call");
    return queue_size(&call->in) ? err_set(err, ERR_INVALID_ARGUMENT, "the last message is cut off") : 0;
}

static int receive(struct grpc_call *call, struct buf *out, struct err *err) REQUIRES(&call->grpc->lock)
{
    for (;;) {
        int taken = take_message(call, out, err);
        if (taken < 0)
            call_cancel(call, NGHTTP2_CANCEL);
        if (taken != 0)
            return taken;
        if (call->in_end || call->cancelled || !wait_change(call))
            return at_end(call, err);
    }
}

int grpc_recv(struct grpc_call *call, struct buf *out, struct err *err)
{
    buf_clear(out);
    mutex_lock(&call->grpc->lock);
    int result = receive(call, out, err);
    mutex_unlock(&call->grpc->lock);
    return result;
}

int grpc_recv_one(struct grpc_call *call, struct buf *out, struct err *err)
{
    int got = grpc_recv(call, out, err);
    return got == 0 ? err_set(err, ERR_INVALID_ARGUMENT, "the call has no message") : got;
}

// ---- sending --------------------------------------------------------------------------------------------------------

#define NV(header, text) { (uint8_t *)(header), (uint8_t *)(text), strlen(header), strlen(text), NGHTTP2_NV_FLAG_NONE }

#define DETAILS "grpc-status-details-bin"

// The status, its message, its details: each only with those before it.
static size_t status_fields(const struct grpc_call *call)
{
    return !call->message ? 1 : !call->details_text ? 2 : 3;
}

static int submit_trailer(struct grpc_call *call)
{
    char code[12];
    snprintf(code, sizeof(code), "%u", call->code);
    const nghttp2_nv trailer[] = { NV("grpc-status", code), NV("grpc-message", call->message ? call->message : ""), NV(DETAILS, call->details_text ? call->details_text : "") };
    return nghttp2_submit_trailer(call->grpc->session, call->id, trailer, status_fields(call));
}

// nghttp2 asks for the next bytes of a DATA frame.
static ssize_t read_out(nghttp2_session *session, int32_t id, uint8_t *data, size_t size, uint32_t *flags, nghttp2_data_source *source,
                        void *context)
{
    struct grpc_call *call = source->ptr;
    size_t taken = MIN_OF(size, queue_size(&call->out));
    if (taken) {
        memcpy(data, queue_data(&call->out), taken);
        queue_drop(&call->out, taken);
        cond_wake_all(&call->changed);
    }
    if (queue_size(&call->out) == 0 && call->out_end) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (call->grpc->config.role == GRPC_SERVER) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            submit_trailer(call);
        }
        return (ssize_t)taken;
    }
    call->deferred = taken == 0;
    return taken ? (ssize_t)taken : NGHTTP2_ERR_DEFERRED;
}

static void resume(struct grpc_call *call)
{
    if (call->deferred)
        nghttp2_session_resume_data(call->grpc->session, call->id);
    call->deferred = false;
    grpc_wake(call->grpc);
}

static int answer(struct grpc_call *call)
{
    const nghttp2_nv head[] = { NV(":status", "200"), NV("content-type", "application/grpc") };
    const nghttp2_data_provider provider = { .source.ptr = call, .read_callback = read_out };
    call->answered = true;
    return nghttp2_submit_response(call->grpc->session, call->id, head, ARRAY_LEN(head), &provider);
}

static void answer_status_alone(struct grpc_call *call)
{
    char code[12];
    snprintf(code, sizeof(code), "%u", call->code);
    const nghttp2_nv head[] = { NV(":status", "200"), NV("content-type", "application/grpc"), NV("grpc-status", code),
                                NV("grpc-message", call->message ? call->message : ""), NV(DETAILS, call->details_text ? call->details_text : "") };
    call->answered = true;
    nghttp2_submit_response(call->grpc->session, call->id, head, 2 + status_fields(call), NULL);
}

void call_finish(struct grpc_call *call, const struct err *err)
{
    call->code = err ? status_code(err) : GRPC_OK;
    call->message = err ? status_encode(err->message, &call->header_arena) : NULL;
    if (err && call->detail_len)
        call->details_text = status_details(call->code, err->message, call->details, call->detail_len, &call->header_arena);
    call->has_status = call->out_end = true;
    if (!call->streams)
        return;
    if (!call->answered)
        answer_status_alone(call);
    resume(call);
}

void grpc_detail(struct grpc_call *call, const char *type_url, struct slice value)
{
    struct status_detail *grown = arena_alloc(&call->arena, (call->detail_len + 1) * sizeof(*grown));
    if (call->detail_len)
        memcpy(grown, call->details, call->detail_len * sizeof(*grown));
    grown[call->detail_len++] = (struct status_detail){ arena_strdup(&call->arena, type_url), { arena_strndup(&call->arena, value.data, value.size), value.size } };
    call->details = grown;
}

// What may be wrong with a call that wants to send.
static int check_sendable(const struct grpc_call *call, struct err *err)
{
    if (call->expired)
        return at_end(call, err);
    if (call->cancelled || !call->streams || call->out_end || call->grpc->closed)
        return err_set(err, ERR_CANCELLED, "the call is over");
    return 0;
}

static int send_message(struct grpc_call *call, struct slice message, struct err *err) REQUIRES(&call->grpc->lock)
{
    uint32_t size = htonl((uint32_t)message.size);
    for (;;) {
        if (check_sendable(call, err) < 0)
            return -1;
        if (queue_size(&call->out) < GRPC_SEND_MAX)
            break;
        wait_change(call);
    }
    buf_addc(&call->out.buf, 0);
    buf_add(&call->out.buf, &size, sizeof(size));
    buf_add(&call->out.buf, message.data, message.size);
    if (call->grpc->config.role == GRPC_SERVER && !call->answered && answer(call) < 0)
        return err_set(err, ERR_INTERNAL, "the answer could not be begun");
    resume(call);
    return 0;
}

int grpc_send(struct grpc_call *call, struct slice message, struct err *err)
{
    if (message.size > call->grpc->config.message_max)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "a message of %zu bytes, more than %zu", message.size, call->grpc->config.message_max);
    mutex_lock(&call->grpc->lock);
    int result = send_message(call, message, err);
    mutex_unlock(&call->grpc->lock);
    return result;
}

// ---- of a handler ---------------------------------------------------------------------------------------------------

const char *grpc_path(const struct grpc_call *call)
{
    return call->path;
}

const char *grpc_metadata(const struct grpc_call *call, const char *name)
{
    return kvs_get(&call->headers, name);
}

const struct kvs *grpc_metadata_all(const struct grpc_call *call)
{
    return &call->headers;
}

struct arena *grpc_arena(struct grpc_call *call)
{
    return &call->arena;
}

const struct cancel *grpc_cancel(struct grpc_call *call)
{
    mutex_lock(&call->grpc->lock);
    if (call->cancel.event_fd < 0) {
        call->cancel.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        tell(call);
        grpc_wake(call->grpc); // the loop looks at its deadline from now on
    }
    mutex_unlock(&call->grpc->lock);
    return &call->cancel;
}

// ---- of a client ----------------------------------------------------------------------------------------------------

static int submit_request(struct grpc_call *call, const struct grpc_request *request, struct err *err)
{
    enum { OWN = 7 };
    char timeout[24];
    nghttp2_nv *head = arena_alloc(&call->arena, (OWN + request->metadata_len) * sizeof(*head));
    const nghttp2_nv own[OWN] = { NV(":method", "POST"),  NV(":scheme", "http"), NV(":path", request->path),
                                  NV(":authority", "localhost"), NV("te", "trailers"), NV("content-type", "application/grpc") };
    const nghttp2_data_provider provider = { .source.ptr = call, .read_callback = read_out };
    size_t len = OWN - 1;
    memcpy(head, own, len * sizeof(*head));
    if (request->timeout_ns > 0) {
        timeout_format(request->timeout_ns, timeout);
        head[len++] = (nghttp2_nv)NV("grpc-timeout", timeout);
        call->deadline_ns = clock_mono_ns() + request->timeout_ns;
    }
    for (size_t i = 0; i < request->metadata_len; i++)
        head[len++] = (nghttp2_nv)NV(request->metadata[i].key, request->metadata[i].value);
    call->id = nghttp2_submit_request(call->grpc->session, NULL, head, len, &provider, call);
    if (call->id < 0)
        return err_set(err, ERR_UNAVAILABLE, "%s: %s", request->path, nghttp2_strerror(call->id));
    call->streams = true;
    grpc_wake(call->grpc);
    return 0;
}

static int begin(struct grpc *grpc, const struct grpc_request *request, struct grpc_call **out, struct err *err)
{
    if (grpc->closing || grpc->closed)
        return err_set(err, ERR_UNAVAILABLE, "%s: the connection has ended", request->path);
    if (grpc->call_len >= grpc->config.call_max)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "%s: %u calls at a time", request->path, grpc->config.call_max);
    struct grpc_call *call = call_add(grpc);
    call->held = true;
    if (submit_request(call, request, err) < 0) {
        call_release(call);
        return -1;
    }
    *out = call;
    return 0;
}

int grpc_call_new(struct grpc *grpc, const struct grpc_request *request, struct grpc_call **out, struct err *err)
{
    mutex_lock(&grpc->lock);
    int result = begin(grpc, request, out, err);
    mutex_unlock(&grpc->lock);
    return result;
}

void grpc_send_end(struct grpc_call *call)
{
    mutex_lock(&call->grpc->lock);
    call->out_end = true;
    if (call->streams)
        resume(call);
    mutex_unlock(&call->grpc->lock);
}

void grpc_call_free(struct grpc_call *call)
{
    if (!call)
        return;
    struct grpc *grpc = call->grpc;
    mutex_lock(&grpc->lock);
    if (call->streams && !call->cancelled && !(call->in_end && call->out_end))
        call_cancel(call, NGHTTP2_CANCEL);
    call_release(call);
    mutex_unlock(&grpc->lock);
}

int grpc_unary(struct grpc *grpc, const struct grpc_request *request, struct slice message, struct buf *out, struct err *err)
{
    _cleanup_grpc_call_ struct grpc_call *call = NULL;
    _cleanup_buf_ struct buf rest = BUF_INIT(1);
    if (grpc_call_new(grpc, request, &call, err) < 0)
        return -1;
    // A peer that refuses at once has ended the call already: its reason is what grpc_recv() tells.
    if (grpc_send(call, message, NULL) == 0)
        grpc_send_end(call);
    int got = grpc_recv(call, out, err);
    if (got == 0)
        return err_set(err, ERR_INTERNAL, "%s: the answer has no message", request->path);
    if (got > 0 && grpc_recv(call, &rest, err) == 0)
        return 0;
    return err_wrap(err, "%s", request->path);
}
