// The calling side of the seam.
//
// Any thread sends its request under `send_lock`, puts itself on the list of calls and sleeps; the loop's thread reads
// the socket, hands each answer to the call with its id and each event to the owner. Callbacks run under
// `callback_lock`, so that task_client_free() can promise that none runs any more; the memory itself goes in the loop's
// thread, behind everything that was already queued there. Lock order: none of the three is taken while another is held.
#include "task/task.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/mutex.h"
#include "task/task_private.h"

#define HELLO_TIMEOUT_NS (10 * NS_PER_S)

struct call {
    struct call *next;
    uint64_t id;
    bool done;
    struct task_frame answer;
};

struct task_client {
    int sock;
    struct loop *loop;
    struct loop_source *source; // loop's thread only
    struct task_reader *reader; // loop's thread only
    task_event_fn *on_event;
    task_closed_fn *on_closed;
    void *context;

    struct mutex send_lock;
    struct mutex callback_lock;
    bool dead GUARDED_BY(callback_lock); // freed by its owner: no callback any more

    struct mutex lock;
    struct cond answered;
    struct call *calls GUARDED_BY(lock);
    uint64_t last_id GUARDED_BY(lock);
    bool closed GUARDED_BY(lock);
    bool in_callback GUARDED_BY(lock);
    pthread_t callback_thread GUARDED_BY(lock);
};

// ---- hello ----------------------------------------------------------------------------------------------------------

static int read_hello(struct task_reader *reader, int sock, struct task_frame *out, struct err *err)
{
    int64_t deadline = clock_mono_ns() + HELLO_TIMEOUT_NS;
    for (;;) {
        int got = task_reader_next(reader, out, err);
        if (got)
            return got;
        int64_t left = deadline - clock_mono_ns();
        struct pollfd poll_fd = { sock, POLLIN, 0 };
        if (left <= 0 || (poll(&poll_fd, 1, (int)(left / NS_PER_MS) + 1) < 0 && errno != EINTR))
            return err_set(err, ERR_UNAVAILABLE, "no answer to hello");
        if (task_reader_feed(reader, err) < 0)
            return -1;
    }
}

// Spoken before the loop reads: the frame reader takes no byte beyond the answer, so events that follow stay queued.
static int say_hello(struct task_reader *reader, int sock, struct err *err)
{
    _cleanup_json_ json_t *hello =
        json_pack("{s:s, s:i, s:i}", "verb", "hello", "proto_min", TASK_PROTO_MIN, "proto_max", TASK_PROTO_MAX);
    _cleanup_frame_ struct task_frame answer = { 0 };
    if (task_send(sock, TASK_REQUEST, 1, hello, NULL, 0, err) < 0 || read_hello(reader, sock, &answer, err) < 0)
        return err_wrap(err, "task hello");
    if (answer.type == TASK_ERROR)
        return task_payload_error(answer.payload, err);
    int64_t proto = json_get_int(answer.payload, "proto", 0);
    if (answer.type != TASK_RESPONSE || proto < TASK_PROTO_MIN || proto > TASK_PROTO_MAX)
        return err_set(err, ERR_UNAVAILABLE, "task hello: protocol %lld is not spoken here", (long long)proto);
    return 0;
}

// ---- the loop's side ------------------------------------------------------------------------------------------------

static void callback_begin(struct task_client *client) ACQUIRES(client->callback_lock)
{
    mutex_lock(&client->callback_lock);
    mutex_lock(&client->lock);
    client->in_callback = true;
    client->callback_thread = pthread_self();
    mutex_unlock(&client->lock);
}

static void callback_end(struct task_client *client) RELEASES(client->callback_lock)
{
    mutex_lock(&client->lock);
    client->in_callback = false;
    mutex_unlock(&client->lock);
    mutex_unlock(&client->callback_lock);
}

static void deliver_event(struct task_client *client, const struct task_frame *frame)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct task_event event;
    if (json_decode(&task_event_table, frame->payload, &event, &arena, NULL, NULL) < 0)
        return; // of a later protocol: not acknowledged, so not lost
    callback_begin(client);
    if (!client->dead)
        client->on_event(client->context, &event);
    callback_end(client);
}

// An answer whose caller gave up is dropped, and its descriptors with it.
static void deliver_answer(struct task_client *client, struct task_frame *frame)
{
    mutex_lock(&client->lock);
    for (struct call *call = client->calls; call; call = call->next) {
        if (call->id != frame->id || call->done)
            continue;
        call->answer = *frame;
        call->done = true;
        *frame = (struct task_frame){ 0 };
        cond_wake_all(&client->answered);
        break;
    }
    mutex_unlock(&client->lock);
}

static void connection_lost(struct task_client *client)
{
    loop_remove(take_ptr(&client->source));
    mutex_lock(&client->lock);
    client->closed = true;
    cond_wake_all(&client->answered);
    mutex_unlock(&client->lock);
    callback_begin(client);
    if (!client->dead)
        client->on_closed(client->context);
    callback_end(client);
}

static void client_readable(void *context, int fd, uint32_t events)
{
    struct task_client *client = context;
    struct err err;
    int got;
    while ((got = task_reader_feed(client->reader, &err)) > 0) {
        _cleanup_frame_ struct task_frame frame = { 0 };
        got = task_reader_next(client->reader, &frame, &err);
        if (got < 0)
            break;
        if (got && frame.type == TASK_EVENT)
            deliver_event(client, &frame);
        else if (got && (frame.type == TASK_RESPONSE || frame.type == TASK_ERROR))
            deliver_answer(client, &frame);
    }
    if (got < 0)
        connection_lost(client);
}

static void client_watch(void *context)
{
    struct task_client *client = context;
    if (loop_add_fd(client->loop, client->sock, EPOLLIN, client_readable, client, &client->source, NULL) < 0)
        connection_lost(client);
}

static void client_retire(void *context)
{
    struct task_client *client = context;
    loop_remove(client->source);
    task_reader_free(client->reader);
    fd_close(client->sock);
    cond_done(&client->answered);
    mutex_done(&client->lock);
    mutex_done(&client->callback_lock);
    mutex_done(&client->send_lock);
    free(client);
}

// ---- the owner's side -----------------------------------------------------------------------------------------------

int task_client_new(int sock, struct loop *loop, task_event_fn *on_event, task_closed_fn *on_closed, void *context,
                    struct task_client **out, struct err *err)
{
    struct task_reader *reader;
    if (task_reader_new(sock, &reader) < 0)
        return err_set(err, ERR_INTERNAL, "task reader");
    if (say_hello(reader, sock, err) < 0) {
        task_reader_free(reader);
        fd_close(sock);
        return -1;
    }
    struct task_client *client = mem_new(struct task_client);
    *client = (struct task_client){ .sock = sock, .loop = loop, .reader = reader, .on_event = on_event,
                                    .on_closed = on_closed, .context = context, .last_id = 1 };
    mutex_init(&client->send_lock, 0);
    mutex_init(&client->callback_lock, 0);
    mutex_init(&client->lock, 0);
    cond_init(&client->answered);
    loop_post(loop, client_watch, client);
    *out = client;
    return 0;
}

static bool inside_own_callback(struct task_client *client)
{
    mutex_lock(&client->lock);
    bool inside = client->in_callback && pthread_equal(client->callback_thread, pthread_self());
    mutex_unlock(&client->lock);
    return inside;
}

// From inside a callback the lock is already this thread's.
static void mark_dead_inside(struct task_client *client) REQUIRES(client->callback_lock)
{
    client->dead = true;
}

static void mark_dead(struct task_client *client)
{
    mutex_lock(&client->callback_lock);
    mark_dead_inside(client);
    mutex_unlock(&client->callback_lock);
}

#if defined(__clang__)
__attribute__((no_thread_safety_analysis)) // holds the lock on one of the two ways only
#endif
void task_client_free(struct task_client *client)
{
    if (!client)
        return;
    if (inside_own_callback(client))
        mark_dead_inside(client);
    else
        mark_dead(client);
    shutdown(client->sock, SHUT_RDWR);
    loop_post(client->loop, client_retire, client);
}

static int send_request(struct task_client *client, const char *verb, json_t *arguments, uint64_t id, const int *fds,
                        size_t fd_len, struct err *err)
{
    _cleanup_json_ json_t *request = arguments ? json_copy(arguments) : json_object();
    json_object_set_new(request, "verb", json_string(verb));
    mutex_lock(&client->send_lock);
    int sent = task_send(client->sock, TASK_REQUEST, id, request, fds, fd_len, err);
    mutex_unlock(&client->send_lock);
    return sent;
}

static void call_begin(struct task_client *client, struct call *call)
{
    mutex_lock(&client->lock);
    call->id = ++client->last_id;
    call->next = client->calls;
    client->calls = call;
    mutex_unlock(&client->lock);
}

// Waits for the answer and takes the call off the list; false when none came.
static bool call_wait(struct task_client *client, struct call *call, int64_t timeout_ns)
{
    int64_t deadline = clock_mono_ns() + timeout_ns;
    mutex_lock(&client->lock);
    while (!call->done && !client->closed && cond_wait_until(&client->answered, &client->lock, deadline))
        ;
    for (struct call **at = &client->calls; *at; at = &(*at)->next) {
        if (*at == call) {
            *at = call->next;
            break;
        }
    }
    mutex_unlock(&client->lock);
    return call->done;
}

int task_call(struct task_client *client, const char *verb, json_t *arguments, const int *send_fds, size_t send_len,
              int64_t timeout_ns, json_t **result, int **fds, size_t *fd_len, struct err *err)
{
    struct call call = { 0 };
    call_begin(client, &call);
    int sent = send_request(client, verb, arguments, call.id, send_fds, send_len, err);
    bool answered = call_wait(client, &call, sent < 0 ? 0 : timeout_ns);
    _cleanup_frame_ struct task_frame answer = call.answer;
    if (sent < 0)
        return err_wrap(err, "%s", verb);
    if (!answered)
        return err_set(err, ERR_UNAVAILABLE, "%s: no answer from the supervisor of the task", verb);
    if (answer.type == TASK_ERROR)
        return task_payload_error(answer.payload, err);
    if (result)
        *result = take_ptr(&answer.payload);
    if (fds && fd_len) {
        *fds = take_ptr(&answer.fds);
        *fd_len = answer.fd_len;
        answer.fd_len = 0;
    }
    return 0;
}

void task_ack(struct task_client *client, int64_t seq)
{
    _cleanup_json_ json_t *arguments = json_pack("{s:I}", "seq", (json_int_t)seq);
    mutex_lock(&client->lock);
    uint64_t id = ++client->last_id;
    mutex_unlock(&client->lock);
    send_request(client, "event_ack", arguments, id, NULL, 0, NULL); // lost with the connection, then sent again
}
