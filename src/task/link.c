// Frames and the connection.
//
// What is to be sent stands in one list: [ sent, not acknowledged | next_out | to be sent ]. An acknowledgement frees from the
// front; a new connection sets next_out back to the front. HELLO and ACK are not kept: they wait in `control` and are sent
// between two frames. Nothing is written but from the loop, so no call of this room fails for the connection's sake: a broken
// one is found, and told, there.
#include "task/link.h"

#include <endian.h>
#include <errno.h>
#include <unistd.h>

#include "task/link_private.h"
#include "task/task_private.h"

#define LOSE_ROUNDS 1024 // reads of what a dead peer left
#define CONTROL_MAX (64u << 10)

static void on_ready(void *context, int fd, uint32_t events);

// ---- sending --------------------------------------------------------------------------------------------------------

struct wire_header {
    uint32_t size;
    uint16_t type, flags;
    uint64_t id;
    uint32_t session, zero;
    uint64_t sequence;
};
_Static_assert(sizeof(struct wire_header) == LINK_HEADER_SIZE, "the header has no padding");

static struct wire_header header_to_wire(const struct link_header *header)
{
    return (struct wire_header){ htole32(header->size), htole16(header->type), htole16(header->flags), htole64(header->id),
                                 htole32(header->session), 0, htole64(header->sequence) };
}

static struct link_header header_from_wire(const void *bytes)
{
    struct wire_header wire;
    memcpy(&wire, bytes, sizeof(wire));
    return (struct link_header){ le32toh(wire.size), le16toh(wire.type), le16toh(wire.flags), le64toh(wire.id),
                                 le32toh(wire.session), le64toh(wire.sequence) };
}

static bool has_output(const struct link *link)
{
    return link->control.size || (link->greeted && link->next_out);
}

static void want_events(struct link *link)
{
    uint32_t events = EPOLLIN | (has_output(link) ? EPOLLOUT : 0);
    if (!link->source || events == link->events)
        return;
    link->events = events;
    loop_set_events(link->source, events);
}

void link_send(struct link *link, uint16_t type, uint16_t flags, uint64_t id, const void *payload, size_t size)
{
    if (link->lost)
        return;
    struct link_header header = { (uint32_t)size, type, flags, id, link->session, ++link->last_sequence };
    struct wire_header wire = header_to_wire(&header);
    struct link_frame *frame = mem_alloc(sizeof(*frame) + sizeof(wire) + size);
    *frame = (struct link_frame){ .sequence = header.sequence, .size = sizeof(wire) + size };
    memcpy(frame->bytes, &wire, sizeof(wire));
    if (size)
        memcpy(frame->bytes + sizeof(wire), payload, size);
    if (link->last)
        link->last->next = frame;
    else
        link->first = frame;
    link->last = frame;
    if (!link->next_out)
        link->next_out = frame;
    link->held += frame->size;
    want_events(link);
}

static void send_control(struct link *link, uint16_t type, uint64_t sequence, const json_t *payload)
{
    _cleanup_free_ char *text = payload ? json_text((json_t *)payload) : NULL;
    struct link_header header = { text ? (uint32_t)strlen(text) : 0, type, 0, 0, link->session, sequence };
    struct wire_header wire = header_to_wire(&header);
    buf_add(&link->control, &wire, sizeof(wire));
    buf_add(&link->control, text, header.size);
    want_events(link);
}

static void send_json(struct link *link, uint16_t type, uint64_t id, const json_t *payload)
{
    _cleanup_free_ char *text = payload ? json_text((json_t *)payload) : NULL;
    link_send(link, type, 0, id, text, text ? strlen(text) : 0);
}

// 1: all written, 0: the peer is slow, -1: the connection is broken.
static int write_some(int fd, const void *data, size_t size, size_t *done)
{
    while (*done < size) {
        ssize_t wrote = fd_write_some(fd, (const char *)data + *done, size - *done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return errno == EAGAIN ? 0 : -1;
        *done += (size_t)wrote;
    }
    return 1;
}

static int flush_control(struct link *link)
{
    size_t done = 0;
    int result = write_some(link->fd, link->control.data, link->control.size, &done);
    buf_consume(&link->control, done);
    return result;
}

static int flush_frame(struct link *link)
{
    struct link_frame *frame = link->next_out;
    int result = write_some(link->fd, frame->bytes, frame->size, &link->next_sent);
    if (result > 0) {
        link->next_out = frame->next;
        link->next_sent = 0;
    }
    return result;
}

static int flush(struct link *link)
{
    int result = 1;
    while (result > 0 && has_output(link))
        result = link->control.size && link->next_sent == 0 ? flush_control(link) : flush_frame(link);
    return result < 0 ? -1 : 0;
}

// ---- the connection ---------------------------------------------------------------------------------------------------

static void drop_connection(struct link *link)
{
    loop_remove(take_ptr(&link->source));
    fd_close(take_fd(&link->fd));
    link->greeted = false;
    link->next_out = link->first;
    link->next_sent = 0;
    buf_clear(&link->in);
    link->in_at = 0;
    buf_clear(&link->control);
}

static void disconnect(struct link *link, const struct err *why)
{
    drop_connection(link);
    if (link->handlers.closed)
        link->handlers.closed(link->context, why);
}

static void say_hello(struct link *link)
{
    _cleanup_json_ json_t *hello = link->hello ? json_copy(link->hello) : json_object();
    json_object_set_new(hello, "proto_min", json_integer(LINK_PROTO_MIN));
    json_object_set_new(hello, "proto_max", json_integer(LINK_PROTO_MAX));
    json_object_set_new(hello, "session", json_integer(link->session));
    json_object_set_new(hello, "last_seq", json_integer((json_int_t)link->received));
    send_control(link, LINK_HELLO, 0, hello);
    link->acknowledged = link->received;
}

int link_connect(struct link *link, int fd, struct err *err)
{
    if (fd_set_nonblock(fd, true, err) < 0)
        return -1;
    drop_connection(link);
    link->events = EPOLLIN;
    if (loop_add_fd(link->loop, fd, link->events, on_ready, link, &link->source, err) < 0)
        return -1;
    link->fd = fd;
    link->lost = false;
    if (link->side == LINK_GUEST)
        say_hello(link);
    return 0;
}

// ---- acknowledgements -------------------------------------------------------------------------------------------------

static void forget(struct link *link, uint64_t sequence)
{
    bool was_full = link->held >= LINK_HELD_HIGH;
    while (link->first && link->first->sequence <= sequence) {
        struct link_frame *frame = link->first;
        link->first = frame->next;
        if (link->next_out == frame) {
            link->next_out = frame->next;
            link->next_sent = 0;
        }
        link->held -= frame->size;
        free(frame);
    }
    if (!link->first)
        link->last = NULL;
    if (was_full && link->held < LINK_HELD_HIGH)
        link_streams_update(link);
}

// The peer can have no more than was ever sent, and no less than it has told before.
static int check_acknowledged(const struct link *link, uint64_t sequence, struct err *err)
{
    uint64_t least = link->first ? link->first->sequence - 1 : link->last_sequence;
    if (sequence > link->last_sequence || sequence < least)
        return err_set(err, ERR_INVALID_ARGUMENT, "guest link: frame %llu was acknowledged, of %llu to %llu",
                       (unsigned long long)sequence, (unsigned long long)least, (unsigned long long)link->last_sequence);
    return 0;
}

static int take_ack(struct link *link, uint64_t sequence, struct err *err)
{
    if (check_acknowledged(link, sequence, err) < 0)
        return -1;
    if (link->next_out && sequence >= link->next_out->sequence)
        return err_set(err, ERR_INVALID_ARGUMENT, "guest link: a frame was acknowledged before it was sent");
    forget(link, sequence);
    return 0;
}

static void acknowledge(struct link *link)
{
    if (!link->greeted || link->acknowledged == link->received || link->control.size > CONTROL_MAX / 2)
        return;
    link->acknowledged = link->received;
    send_control(link, LINK_ACK, link->received, NULL);
}

// ---- hello ------------------------------------------------------------------------------------------------------------

static int check_session(struct link *link, int64_t session, struct err *err)
{
    if (session < 0 || session > UINT32_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "guest link: session %lld", (long long)session);
    if (link->side == LINK_GUEST && link->session == 0)
        link->session = (uint32_t)session;
    bool fresh = link->side == LINK_HOST && session == 0 && !link->ready;
    if (!fresh && (session == 0 || (uint32_t)session != link->session))
        return err_set(err, ERR_CONFLICT, "guest link: another session: the guest began anew");
    return 0;
}

static int take_hello(struct link *link, const json_t *hello, struct err *err)
{
    int64_t min = json_get_int(hello, "proto_min", 0), max = json_get_int(hello, "proto_max", 0);
    int64_t last = json_get_int(hello, "last_seq", -1);
    if (link->greeted)
        return err_set(err, ERR_INVALID_ARGUMENT, "guest link: a second hello");
    if (min > LINK_PROTO_MAX || max < LINK_PROTO_MIN)
        return err_set(err, ERR_NOT_IMPLEMENTED, "guest link: protocol %lld to %lld is not spoken here", (long long)min,
                       (long long)max);
    if (check_session(link, json_get_int(hello, "session", -1), err) < 0 ||
        check_acknowledged(link, (uint64_t)last, err) < 0)
        return -1;
    link->greeted = true;
    if (link->side == LINK_HOST)
        say_hello(link);
    // Written before there was a session: frames that wait carry the one that is spoken now.
    for (struct link_frame *frame = link->first; frame; frame = frame->next)
        ((struct wire_header *)(void *)frame->bytes)->session = htole32(link->session);
    forget(link, (uint64_t)last);
    want_events(link);
    if (link->ready)
        return 0;
    link->ready = true;
    if (link->handlers.ready)
        link->handlers.ready(link->context, hello);
    return 0;
}

// ---- receiving --------------------------------------------------------------------------------------------------------

static struct link_call *take_call(struct link *link, uint64_t id)
{
    for (struct link_call **at = &link->calls; *at; at = &(*at)->next) {
        struct link_call *call = *at;
        if (call->id != id)
            continue;
        *at = call->next;
        return call;
    }
    return NULL;
}

static void take_answer(struct link *link, const struct link_header *header, json_t *payload)
{
    _cleanup_free_ struct link_call *call = take_call(link, header->id);
    struct err error = { 0 };
    if (!call)
        return;
    if (header->type == TASK_ERROR)
        task_payload_error(payload, &error);
    call->fn(call->context, header->type == TASK_ERROR ? NULL : payload, &error);
}

static void take_request(struct link *link, uint64_t id, json_t *payload)
{
    struct err error;
    if (link->handlers.request) {
        link->handlers.request(link->context, id, payload);
        return;
    }
    err_set(&error, ERR_NOT_IMPLEMENTED, "this side serves no verbs");
    link_answer_error(link, id, &error);
}

static int take_json(struct link *link, const struct link_header *header, const char *text, struct err *err)
{
    _cleanup_json_ json_t *payload = NULL;
    if (task_payload_parse(text, header->size, &payload, err) < 0)
        return -1;
    if (header->type == LINK_HELLO)
        return take_hello(link, payload, err);
    if (header->type == TASK_REQUEST)
        take_request(link, header->id, payload);
    else if (header->type != TASK_EVENT)
        take_answer(link, header, payload);
    else if (link->handlers.event)
        link->handlers.event(link->context, payload);
    return 0;
}

// 1: take it, 0: an older session's, or one that came before the connection broke; -1: frames are missing.
static int check_sequence(struct link *link, const struct link_header *header, struct err *err)
{
    if (!link->greeted)
        return err_set(err, ERR_INVALID_ARGUMENT, "guest link: a frame before hello");
    if (header->session != link->session)
        return 0;
    if (header->type == LINK_ACK)
        return 1;
    if (header->sequence <= link->received)
        return 0;
    if (header->sequence != link->received + 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "guest link: frame %llu after %llu", (unsigned long long)header->sequence,
                       (unsigned long long)link->received);
    link->received = header->sequence;
    return 1;
}

static int take_frame(struct link *link, const struct link_header *header, const char *payload, struct err *err)
{
    if (header->type == LINK_HELLO)
        return take_json(link, header, payload, err);
    int fresh = check_sequence(link, header, err);
    if (fresh <= 0)
        return fresh;
    switch (header->type) {
    case LINK_ACK:
        return take_ack(link, header->sequence, err);
    case TASK_DATA:
        return link_stream_take_data(link, header, payload, err);
    case LINK_CREDIT:
        return link_stream_take_credit(link, header, payload, err);
    default:
        return take_json(link, header, payload, err);
    }
}

static int check_header(const struct link_header *header, struct err *err)
{
    bool known = (header->type >= TASK_REQUEST && header->type <= TASK_EVENT) || header->type == TASK_DATA ||
                 (header->type >= LINK_HELLO && header->type <= LINK_CREDIT);
    uint32_t most = header->type == TASK_DATA ? LINK_DATA_MAX : LINK_FRAME_MAX;
    if (!known)
        return err_set(err, ERR_INVALID_ARGUMENT, "guest link: unknown frame type %u", header->type);
    if (header->size > most)
        return err_set(err, ERR_INVALID_ARGUMENT, "guest link: a frame of %u bytes, at most %u", header->size, most);
    return 0;
}

// The whole frames in the buffer. A handler may end or replace the connection, or (link_lose) take the frames behind its own
// before it returns: so each step looks at the buffer anew.
static int take_frames(struct link *link, struct err *err)
{
    while (link->in.size - link->in_at >= LINK_HEADER_SIZE) {
        const char *bytes = link->in.data + link->in_at;
        struct link_header header = header_from_wire(bytes);
        if (check_header(&header, err) < 0)
            return -1;
        if (link->in.size - link->in_at - LINK_HEADER_SIZE < header.size)
            break;
        link->in_at += LINK_HEADER_SIZE + header.size;
        if (take_frame(link, &header, bytes + LINK_HEADER_SIZE, err) < 0)
            return -1;
    }
    buf_consume(&link->in, link->in_at);
    link->in_at = 0;
    return 0;
}

// One read. 1: something came, 0: nothing now, -1: the end.
static int read_some(struct link *link, struct err *err)
{
    char *room = buf_reserve(&link->in, LINK_DATA_MAX);
    if (!room)
        return err_set(err, ERR_INVALID_ARGUMENT, "guest link: a frame that is too large");
    ssize_t got = read(link->fd, room, LINK_DATA_MAX);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got <= 0)
        return err_set(err, ERR_UNAVAILABLE, "guest link: %s", got < 0 ? strerror(errno) : "closed");
    buf_commit(&link->in, (size_t)got);
    return take_frames(link, err) < 0 ? -1 : 1;
}

static void on_ready(void *context, int fd, uint32_t events)
{
    struct link *link = context;
    struct err err = { 0 };
    int result = 0;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        result = read_some(link, &err);
    if (link->fd != fd)
        return;
    if (result >= 0 && link->held > LINK_HELD_MAX)
        result = err_set(&err, ERR_RESOURCE_EXHAUSTED, "guest link: the other side acknowledges nothing");
    acknowledge(link);
    if (result >= 0 && (result = flush(link)) < 0)
        err_set(&err, ERR_UNAVAILABLE, "guest link: %s", strerror(errno));
    if (result < 0)
        disconnect(link, &err);
    else
        want_events(link);
}

// ---- calls and events -------------------------------------------------------------------------------------------------

int link_call(struct link *link, const char *verb, const json_t *arguments, link_answer_fn *fn, void *context, struct err *err)
{
    if (link->lost)
        return err_set(err, ERR_UNAVAILABLE, "the guest is gone");
    _cleanup_json_ json_t *payload = arguments ? json_copy((json_t *)arguments) : json_object();
    json_object_set_new(payload, "verb", json_string(verb));
    _cleanup_free_ char *text = json_text(payload);
    if (strlen(text) > LINK_FRAME_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "%s: more than %u bytes for the guest", verb, LINK_FRAME_MAX);
    struct link_call *call = mem_new(struct link_call);
    *call = (struct link_call){ link->calls, ++link->last_id, fn, context };
    link->calls = call;
    link_send(link, TASK_REQUEST, 0, call->id, text, strlen(text));
    return 0;
}

void link_answer(struct link *link, uint64_t id, const json_t *result)
{
    send_json(link, TASK_RESPONSE, id, result);
}

void link_answer_error(struct link *link, uint64_t id, const struct err *error)
{
    _cleanup_json_ json_t *payload = task_error_payload(error);
    send_json(link, TASK_ERROR, id, payload);
}

void link_event(struct link *link, const json_t *payload)
{
    send_json(link, TASK_EVENT, 0, payload);
}

// ---- life -------------------------------------------------------------------------------------------------------------

int link_new(struct loop *loop, enum link_side side, uint32_t session, const json_t *hello, const struct link_handlers *handlers,
             void *context, struct link **out, struct err *err)
{
    if ((side == LINK_HOST) != (session != 0))
        return err_set(err, ERR_INVALID_ARGUMENT, "guest link: the host draws the session");
    struct link *link = mem_new(struct link);
    *link = (struct link){ .loop = loop, .side = side, .session = session, .handlers = *handlers, .context = context, .fd = -1,
                           .in = BUF_INIT(LINK_FRAME_MAX + LINK_HEADER_SIZE + 2 * LINK_DATA_MAX),
                           .control = BUF_INIT(CONTROL_MAX), .hello = hello ? json_deep_copy(hello) : NULL,
                           .copy = mem_alloc(LINK_DATA_MAX) };
    *out = link;
    return 0;
}

bool link_is_ready(const struct link *link)
{
    return link->ready && !link->lost;
}

static void forget_frames(struct link *link)
{
    while (link->first) {
        struct link_frame *frame = link->first;
        link->first = frame->next;
        free(frame);
    }
    link->last = link->next_out = NULL;
    link->held = link->next_sent = 0;
}

void link_lose(struct link *link)
{
    struct err err = { 0 };
    int more = link->fd < 0 || take_frames(link, &err) < 0 ? -1 : 1; // inside a handler: those behind its own
    for (int round = 0; more > 0 && link->fd >= 0 && round < LOSE_ROUNDS; round++)
        more = read_some(link, &err);
    drop_connection(link);
    link->lost = true;
    forget_frames(link);
    err_set(&err, ERR_UNAVAILABLE, "the guest is gone");
    while (link->calls) {
        _cleanup_free_ struct link_call *call = link->calls;
        link->calls = call->next;
        call->fn(call->context, NULL, &err);
    }
    link_streams_lose(link);
}

void link_free(struct link *link)
{
    if (!link)
        return;
    drop_connection(link);
    forget_frames(link);
    while (link->calls) {
        struct link_call *call = link->calls;
        link->calls = call->next;
        free(call);
    }
    link_streams_free(link);
    buf_done(&link->in);
    buf_done(&link->control);
    json_decref(link->hello);
    free(link->copy);
    free(link);
}
