// A client and a server of the room on the two ends of a socket pair.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "grpc/grpc.h"

#define MESSAGE_MAX ((size_t)3 << 20)

struct pair {
    struct grpc *server, *client;
    pthread_t server_thread, client_thread;
};

static int echo(void *context, struct grpc_call *call, struct err *err)
{
    _cleanup_buf_ struct buf message = BUF_INIT(MESSAGE_MAX);
    int got;
    while ((got = grpc_recv(call, &message, err)) > 0)
        if (grpc_send(call, (struct slice){ message.data, message.size }, err) < 0)
            return -1;
    return got;
}

static int unary(void *context, struct grpc_call *call, struct err *err)
{
    _cleanup_buf_ struct buf message = BUF_INIT(MESSAGE_MAX);
    if (grpc_recv_one(call, &message, err) < 0)
        return -1;
    const char *answer = arena_printf(grpc_arena(call), "%s, %s", buf_text(&message), grpc_metadata(call, "x-name"));
    return grpc_send(call, slice_of(answer), err);
}

// The message is the class.
static int refuse(void *context, struct grpc_call *call, struct err *err)
{
    _cleanup_buf_ struct buf message = BUF_INIT(64);
    if (grpc_recv_one(call, &message, err) < 0)
        return -1;
    err_set(err, err_class_parse(buf_text(&message)), "no %s: 100%% \xc3\xa4\nline", buf_text(&message));
    return -1;
}

static int refuse_at_once(void *context, struct grpc_call *call, struct err *err)
{
    grpc_detail(call, "t/One", slice_of("1"));
    grpc_detail(call, "t/Two", (struct slice){ "\0\xff", 2 });
    return err_set(err, ERR_PERMISSION_DENIED, "never");
}

// Returns once the client is gone, or its deadline over.
static int wait_cancel(void *context, struct grpc_call *call, struct err *err)
{
    const struct cancel *cancel = grpc_cancel(call);
    if (cancel_wait(cancel, -1, clock_mono_ns() + 20 * NS_PER_S, err) == 0)
        abort();
    *(_Atomic int *)context += 1;
    _cleanup_buf_ struct buf message = BUF_INIT(64);
    return grpc_recv(call, &message, err);
}

static int send_much(void *context, struct grpc_call *call, struct err *err)
{
    _cleanup_free_ char *data = mem_alloc(100000);
    for (int i = 0; i < 200; i++)
        if (grpc_send(call, (struct slice){ data, 100000 }, err) < 0)
            return -1;
    return 0;
}

static const struct grpc_method methods[] = {
    { "/t.T/Echo", echo },           { "/t.T/Unary", unary }, { "/t.T/Refuse", refuse }, { "/t.T/RefuseAtOnce", refuse_at_once },
    { "/t.T/Wait", wait_cancel },    { "/t.T/Much", send_much },
};

static _Atomic int cancelled;

static void *run(void *grpc)
{
    grpc_run(grpc, NULL);
    return NULL;
}

static void open_pair(struct pair *pair)
{
    int ends[2];
    const struct grpc_config server = { GRPC_SERVER, methods, ARRAY_LEN(methods), &cancelled, MESSAGE_MAX, 8 };
    const struct grpc_config client = { .role = GRPC_CLIENT, .message_max = MESSAGE_MAX, .call_max = 16 };
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    assert_int_equal(grpc_new(&server, ends[0], &pair->server, NULL), 0);
    assert_int_equal(grpc_new(&client, ends[1], &pair->client, NULL), 0);
    pthread_create(&pair->server_thread, NULL, run, pair->server);
    pthread_create(&pair->client_thread, NULL, run, pair->client);
}

static void close_pair(struct pair *pair)
{
    grpc_close(pair->client);
    pthread_join(pair->client_thread, NULL);
    pthread_join(pair->server_thread, NULL);
    grpc_free(pair->client);
    grpc_free(pair->server);
}

static int ask(struct pair *pair, const char *path, const char *message, struct buf *out, struct err *err)
{
    const struct kv metadata[] = { { (char *)"x-name", (char *)"you" } };
    const struct grpc_request request = { path, metadata, 1, 10 * NS_PER_S };
    return grpc_unary(pair->client, &request, slice_of(message), out, err);
}

static void test_unary(void **state)
{
    struct pair pair;
    struct err err = { 0 };
    _cleanup_buf_ struct buf out = BUF_INIT(1000);
    open_pair(&pair);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(ask(&pair, "/t.T/Unary", "hello", &out, &err), 0);
        assert_string_equal(out.data, "hello, you");
    }
    close_pair(&pair);
}

static const struct {
    const char *sent;
    enum err_class got;
} classes[] = {
    { "internal", ERR_INTERNAL },
    { "invalid_argument", ERR_INVALID_ARGUMENT },
    { "unauthenticated", ERR_UNAUTHENTICATED },
    { "permission_denied", ERR_PERMISSION_DENIED },
    { "not_found", ERR_NOT_FOUND },
    { "conflict", ERR_CONFLICT },
    { "unavailable", ERR_UNAVAILABLE },
    { "not_implemented", ERR_NOT_IMPLEMENTED },
    { "resource_exhausted", ERR_RESOURCE_EXHAUSTED },
    { "cancelled", ERR_CANCELLED },
    { "not_modified", ERR_INTERNAL }, // has no code
};

static void test_statuses(void **state)
{
    struct pair pair;
    _cleanup_buf_ struct buf out = BUF_INIT(1000);
    open_pair(&pair);
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        struct err err = { 0 };
        _cleanup_free_ char *message = mem_printf("/t.T/Refuse: no %s: 100%% \xc3\xa4\nline", classes[i].sent);
        assert_int_equal(ask(&pair, "/t.T/Refuse", classes[i].sent, &out, &err), -1);
        assert_int_equal(err.class, classes[i].got);
        assert_string_equal(err.message, message);
    }
    struct err err = { 0 };
    assert_int_equal(ask(&pair, "/t.T/None", "", &out, &err), -1);
    assert_int_equal(err.class, ERR_NOT_IMPLEMENTED);
    assert_int_equal(ask(&pair, "/t.T/RefuseAtOnce", "", &out, &err), -1);
    assert_string_equal(err.message, "/t.T/RefuseAtOnce: never");
    close_pair(&pair);
}

// {code 7, "never", details {"t/One", "1"}, {"t/Two", "\0\xff"}} as a google.rpc.Status.
static void test_details(void **state)
{
    struct pair pair;
    struct grpc_call *call;
    struct err err = { 0 };
    _cleanup_buf_ struct buf out = BUF_INIT(1000);
    open_pair(&pair);
    const struct grpc_request request = { .path = "/t.T/RefuseAtOnce" };
    assert_int_equal(grpc_call_new(pair.client, &request, &call, &err), 0);
    assert_int_equal(grpc_recv(call, &out, &err), -1);
    assert_string_equal(grpc_metadata(call, "grpc-status-details-bin"), "CAcSBW5ldmVyGgoKBXQvT25lEgExGgsKBXQvVHdvEgIA/w==");
    grpc_call_free(call);
    close_pair(&pair);
}

// Messages of every size around frames and windows, all in flight, both ways.
static void test_streams(void **state)
{
    static const size_t sizes[] = { 0, 1, 16383, 16384, 16385, 65535, 65536, 262144, 1 << 20, (1 << 20) + 1, MESSAGE_MAX };
    struct pair pair;
    struct grpc_call *call;
    struct err err = { 0 };
    _cleanup_free_ char *data = mem_alloc(MESSAGE_MAX);
    _cleanup_buf_ struct buf out = BUF_INIT(MESSAGE_MAX);
    open_pair(&pair);
    for (size_t i = 0; i < MESSAGE_MAX; i++)
        data[i] = (char)(i * 7 + i / 251);
    const struct grpc_request request = { .path = "/t.T/Echo" };
    assert_int_equal(grpc_call_new(pair.client, &request, &call, &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        assert_int_equal(grpc_send(call, (struct slice){ data, sizes[i] }, &err), 0);
        assert_int_equal(grpc_recv(call, &out, &err), 1);
        assert_int_equal(out.size, sizes[i]);
        assert_memory_equal(buf_text(&out), data, sizes[i]);
    }
    for (int i = 0; i < 1000; i++)
        assert_int_equal(grpc_send(call, (struct slice){ data, 100 }, &err), 0);
    grpc_send_end(call);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(grpc_recv(call, &out, &err), 1);
    assert_int_equal(grpc_recv(call, &out, &err), 0);
    assert_int_equal(grpc_recv(call, &out, &err), 0);
    grpc_call_free(call);
    close_pair(&pair);
}

static void *ask_often(void *of)
{
    _cleanup_buf_ struct buf out = BUF_INIT(1000);
    for (int i = 0; i < 20; i++)
        if (ask(of, "/t.T/Unary", "hello", &out, NULL) < 0)
            abort();
    return NULL;
}

// What is read together is the same as what is not, other calls go on, and a call that is dropped gathers no more.
static void test_gather(void **state)
{
    struct pair pair;
    struct grpc_call *call;
    struct err err = { 0 };
    pthread_t other;
    _cleanup_buf_ struct buf out = BUF_INIT(MESSAGE_MAX);
    open_pair(&pair);
    const struct grpc_request request = { .path = "/t.T/Echo" };
    for (int round = 0; round < 2; round++) {
        assert_int_equal(grpc_call_new(pair.client, &request, &call, &err), 0);
        grpc_gather(call, true);
        pthread_create(&other, NULL, ask_often, &pair);
        for (int i = 0; i < 1000; i++)
            assert_int_equal(grpc_send(call, (struct slice){ (const char *)&i, sizeof(i) }, &err), 0);
        for (int i = 0; i < 1000; i++) {
            assert_int_equal(grpc_recv(call, &out, &err), 1);
            assert_memory_equal(buf_text(&out), &i, sizeof(i));
        }
        pthread_join(other, NULL);
        if (round == 0)
            grpc_gather(call, false);
        grpc_call_free(call);
    }
    assert_int_equal(ask(&pair, "/t.T/Unary", "hello", &out, &err), 0);
    close_pair(&pair);
}

static void test_too_large(void **state)
{
    struct pair pair;
    struct grpc_call *call;
    struct err err = { 0 };
    _cleanup_free_ char *data = mem_alloc(MESSAGE_MAX + 1);
    _cleanup_buf_ struct buf small = BUF_INIT(50000);
    open_pair(&pair);
    const struct grpc_request request = { .path = "/t.T/Much" };
    assert_int_equal(grpc_call_new(pair.client, &request, &call, &err), 0);
    assert_int_equal(grpc_send(call, (struct slice){ data, MESSAGE_MAX + 1 }, &err), -1);
    assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
    assert_int_equal(grpc_recv(call, &small, &err), -1); // a reader that takes 50,000 bytes at most
    assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
    grpc_call_free(call);
    close_pair(&pair);
}

// Who does not read holds the sender back, and nobody else.
static void test_slow_reader(void **state)
{
    struct pair pair;
    struct grpc_call *slow;
    struct err err = { 0 };
    _cleanup_buf_ struct buf out = BUF_INIT(MESSAGE_MAX);
    open_pair(&pair);
    const struct grpc_request request = { .path = "/t.T/Much" };
    assert_int_equal(grpc_call_new(pair.client, &request, &slow, &err), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(ask(&pair, "/t.T/Unary", "hello", &out, &err), 0);
    for (int i = 0; i < 200; i++)
        assert_int_equal(grpc_recv(slow, &out, &err), 1);
    assert_int_equal(grpc_recv(slow, &out, &err), 0);
    grpc_call_free(slow);
    close_pair(&pair);
}

static void test_deadline(void **state)
{
    struct pair pair;
    struct grpc_call *call;
    struct err err = { 0 };
    _cleanup_buf_ struct buf out = BUF_INIT(1000);
    open_pair(&pair);
    cancelled = 0;
    const struct grpc_request request = { .path = "/t.T/Wait", .timeout_ns = 50 * NS_PER_MS };
    int64_t begin_ns = clock_mono_ns();
    assert_int_equal(grpc_call_new(pair.client, &request, &call, &err), 0);
    assert_int_equal(grpc_recv(call, &out, &err), -1);
    assert_int_equal(err.class, ERR_CANCELLED);
    assert_int_equal(err.number, ETIMEDOUT);
    assert_true(clock_mono_ns() - begin_ns >= 50 * NS_PER_MS);
    grpc_call_free(call);
    close_pair(&pair); // the handler has come back
    assert_int_equal(cancelled, 1);
}

static void test_cancel(void **state)
{
    struct pair pair;
    struct grpc_call *calls[4];
    struct err err = { 0 };
    open_pair(&pair);
    cancelled = 0;
    const struct grpc_request request = { .path = "/t.T/Wait" };
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        assert_int_equal(grpc_call_new(pair.client, &request, &calls[i], &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        grpc_call_free(calls[i]);
    _cleanup_buf_ struct buf out = BUF_INIT(1000);
    assert_int_equal(ask(&pair, "/t.T/Unary", "hello", &out, &err), 0);
    close_pair(&pair);
    assert_true(cancelled <= 4); // a call that was cancelled before it was sent has no handler
}

// The server is closed under a call that waits.
static void test_connection_ends(void **state)
{
    struct pair pair;
    struct grpc_call *call;
    struct err err = { 0 };
    _cleanup_buf_ struct buf out = BUF_INIT(1000);
    open_pair(&pair);
    const struct grpc_request request = { .path = "/t.T/Wait" };
    assert_int_equal(grpc_call_new(pair.client, &request, &call, &err), 0);
    assert_int_equal(ask(&pair, "/t.T/Unary", "hello", &out, &err), 0);
    grpc_close(pair.server);
    assert_int_equal(grpc_recv(call, &out, &err), -1);
    pthread_join(pair.server_thread, NULL);
    pthread_join(pair.client_thread, NULL);
    assert_int_equal(grpc_send(call, slice_of("x"), &err), -1);
    grpc_call_free(call);
    assert_int_equal(grpc_call_new(pair.client, &request, &call, &err), -1);
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    grpc_free(pair.client);
    grpc_free(pair.server);
}

// The client asks for 16 at once, the server has 8: the others are refused, or wait for their turn.
static void test_call_limit(void **state)
{
    struct pair pair;
    struct grpc_call *calls[16], *more;
    struct err err = { 0 };
    _cleanup_buf_ struct buf out = BUF_INIT(1000);
    open_pair(&pair);
    const struct grpc_request request = { .path = "/t.T/Echo" };
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        assert_int_equal(grpc_call_new(pair.client, &request, &calls[i], &err), 0);
    assert_int_equal(grpc_call_new(pair.client, &request, &more, &err), -1);
    assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        int sent = grpc_send(calls[i], slice_of("x"), NULL);
        grpc_send_end(calls[i]);
        if (sent == 0 && grpc_recv(calls[i], &out, &err) < 0)
            assert_int_equal(err.class, ERR_UNAVAILABLE);
        grpc_call_free(calls[i]);
    }
    assert_int_equal(ask(&pair, "/t.T/Unary", "hello", &out, &err), 0);
    close_pair(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),    cmocka_unit_test(test_statuses), cmocka_unit_test(test_details), cmocka_unit_test(test_streams),
        cmocka_unit_test(test_gather), cmocka_unit_test(test_too_large), cmocka_unit_test(test_slow_reader), cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_cancel),   cmocka_unit_test(test_connection_ends), cmocka_unit_test(test_call_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
