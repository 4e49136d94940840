// Bytes on the socket that no client of the protocol would send. Each time the connection ends or the call fails, and no handler is left.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "grpc/grpc.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\x04\0\0\0\0\0"
// :method POST, :scheme http, :path /a, :authority x, content-type application/grpc; HPACK without its table
#define HEADERS "\x83\x86\x04\x02/a\x01\x01" "x\x0f\x10\x10" "application/grpc"
#define HEADERS_SIZE 28

static _Atomic int handlers, messages;

static int count(void *context, struct grpc_call *call, struct err *err)
{
    _cleanup_buf_ struct buf message = BUF_INIT(1000);
    int got;
    handlers++;
    while ((got = grpc_recv(call, &message, err)) > 0)
        messages++;
    return got;
}

static const struct grpc_method methods[] = { { "/a", count } };

static void *run(void *grpc)
{
    grpc_run(grpc, NULL);
    return NULL;
}

// Says the bytes, then hangs up; returns when the server is done.
static void say(const void *bytes, size_t size)
{
    int ends[2];
    struct grpc *grpc;
    pthread_t thread;
    const struct grpc_config config = { .role = GRPC_SERVER, .methods = methods, .method_len = 1, .message_max = 1000, .call_max = 10 };
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    assert_int_equal(grpc_new(&config, ends[0], &grpc, NULL), 0);
    handlers = messages = 0;
    pthread_create(&thread, NULL, run, grpc);
    fd_write_full(ends[1], bytes, size, NULL);
    shutdown(ends[1], SHUT_WR);
    pthread_join(thread, NULL);
    close(ends[1]);
    grpc_free(grpc);
}

static void add_frame(struct buf *out, uint8_t type, uint8_t flags, uint32_t id, const void *data, size_t size)
{
    const uint8_t head[] = { (uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size, type, flags,
                             (uint8_t)(id >> 24),   (uint8_t)(id >> 16),  (uint8_t)(id >> 8), (uint8_t)id };
    buf_add(out, head, sizeof(head));
    buf_add(out, data, size);
}

static void begin(struct buf *out)
{
    *out = (struct buf)BUF_INIT(16 << 20);
    buf_add(out, PREFACE SETTINGS, sizeof(PREFACE SETTINGS) - 1);
}

enum { DATA = 0, HEAD = 1, RESET = 3, SETTING = 4, PING = 6, CONTINUATION = 9, END_STREAM = 1, END_HEADERS = 4 };

static void test_good_one(void **state)
{
    struct buf out;
    begin(&out);
    add_frame(&out, HEAD, END_HEADERS, 1, HEADERS, HEADERS_SIZE);
    add_frame(&out, DATA, END_STREAM, 1, "\0\0\0\0\x02hi\0\0\0\0\0", 12);
    say(out.data, out.size);
    assert_int_equal(handlers, 1);
    assert_int_equal(messages, 2);
    buf_done(&out);
}

static const struct {
    const char *name, *data;
    size_t size;
    int messages;
} bodies[] = {
    { "half a head", "\0\0\0", 3, 0 },
    { "a message that is cut off", "\0\0\0\0\x05hi", 7, 0 },
    { "one and a half", "\0\0\0\0\x01h\0\0", 8, 1 },
    { "compressed", "\x01\0\0\0\x01h", 6, 0 },
    { "four gigabytes", "\0\xff\xff\xff\xff", 5, 0 },
    { "a byte too much", "\0\0\0\x03\xe9", 5, 0 },
};

static void test_bodies(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct buf out;
        begin(&out);
        add_frame(&out, HEAD, END_HEADERS, 1, HEADERS, HEADERS_SIZE);
        add_frame(&out, DATA, END_STREAM, 1, bodies[i].data, bodies[i].size);
        say(out.data, out.size);
        assert_int_equal(handlers, 1);
        assert_int_equal(messages, bodies[i].messages);
        buf_done(&out);
    }
}

static void test_other_protocols(void **state)
{
    static const char *const texts[] = { "", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01", PREFACE "GET / HTTP/1.1" };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        say(texts[i], strlen(texts[i]));
        assert_int_equal(handlers, 0);
    }
}

// Opened and reset, ten thousand times: never more than call_max handlers at a time.
static void test_rapid_reset(void **state)
{
    struct buf out;
    begin(&out);
    for (uint32_t id = 1; id < 20000; id += 2) {
        add_frame(&out, HEAD, END_HEADERS, id, HEADERS, HEADERS_SIZE);
        add_frame(&out, RESET, 0, id, "\0\0\0\x08", 4);
    }
    say(out.data, out.size);
    assert_true(handlers < 10000);
    buf_done(&out);
}

static void test_floods(void **state)
{
    struct buf out;
    begin(&out);
    for (int i = 0; i < 100000; i++)
        add_frame(&out, PING, 0, 0, "12345678", 8);
    say(out.data, out.size);
    buf_clear(&out);
    buf_done(&out);
    begin(&out);
    for (int i = 0; i < 100000; i++)
        add_frame(&out, SETTING, 0, 0, "", 0);
    say(out.data, out.size);
    buf_done(&out);
    // A head that never ends.
    begin(&out);
    add_frame(&out, HEAD, 0, 1, HEADERS, HEADERS_SIZE);
    for (int i = 0; i < 100000; i++)
        add_frame(&out, CONTINUATION, 0, 1, "\x00\x01x\x01y", 5);
    say(out.data, out.size);
    assert_int_equal(handlers, 0);
    buf_done(&out);
}

static void test_long_headers(void **state)
{
    struct buf out, head = BUF_INIT(1 << 20);
    begin(&out);
    buf_add(&head, HEADERS, HEADERS_SIZE);
    for (int i = 0; i < 600; i++) { // 127 bytes of a value each
        buf_add(&head, "\x00\x01x\x7e", 4);
        for (int j = 0; j < 126; j++)
            buf_addc(&head, 'v');
    }
    for (size_t at = 0; at < head.size; at += 16000)
        add_frame(&out, at ? CONTINUATION : HEAD, at + 16000 >= head.size ? END_HEADERS : 0, 1, head.data + at,
                  MIN_OF(head.size - at, (size_t)16000));
    say(out.data, out.size);
    assert_int_equal(handlers, 0);
    buf_done(&out);
    buf_done(&head);
}

// More than the window allows, before anybody reads.
static void test_beyond_the_window(void **state)
{
    struct buf out;
    _cleanup_free_ char *data = mem_alloc(16384);
    begin(&out);
    add_frame(&out, HEAD, END_HEADERS, 1, HEADERS, HEADERS_SIZE);
    add_frame(&out, DATA, 0, 1, "\0\0\x10\0\0", 5);
    for (int i = 0; i < 400; i++)
        add_frame(&out, DATA, 0, 1, data, 16384);
    say(out.data, out.size);
    assert_int_equal(messages, 0);
    buf_done(&out);
}

// A client of ours, whose server lies.
static const struct {
    const char *name, *bytes;
    size_t size;
} lies[] = {
    { "nothing", "", 0 },
    { "HTTP/1", "HTTP/1.1 400 Bad Request\r\n\r\n", 28 },
    { "a status of the moon", SETTINGS "\0\0\x11\x01\x05\0\0\0\x01\x88\x00\x0bgrpc-status\x02" "99", 9 + 9 + 16 },
    { "no status", SETTINGS "\0\0\x01\x01\x05\0\0\0\x01\x88", 9 + 9 + 1 },
    { "an answer to nobody", SETTINGS "\0\0\x01\x01\x05\0\0\0\x09\x88", 9 + 9 + 1 },
    { "a push", SETTINGS "\0\0\x05\x05\x04\0\0\0\x01\0\0\0\x02\x82", 9 + 9 + 5 },
    { "a reset", SETTINGS "\0\0\x04\x03\0\0\0\0\x01\0\0\0\x02", 9 + 9 + 4 },
    { "go away", SETTINGS "\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0", 9 + 9 + 8 },
};

static void test_lying_servers(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        int ends[2];
        struct grpc *grpc;
        pthread_t thread;
        char byte;
        struct err err = { 0 };
        const struct grpc_config config = { .role = GRPC_CLIENT };
        const struct grpc_request request = { .path = "/a", .timeout_ns = 10 * NS_PER_S };
        _cleanup_buf_ struct buf out = BUF_INIT(1000);
        assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
        assert_int_equal(grpc_new(&config, ends[0], &grpc, NULL), 0);
        struct grpc_call *call;
        assert_int_equal(grpc_call_new(grpc, &request, &call, &err), 0);
        pthread_create(&thread, NULL, run, grpc);
        assert_int_equal(fd_read_full(ends[1], &byte, 1, NULL), 1); // it has begun to speak
        fd_write_full(ends[1], lies[i].bytes, lies[i].size, NULL);
        shutdown(ends[1], SHUT_WR);
        if (grpc_recv(call, &out, &err) >= 0)
            fail_msg("%s was believed", lies[i].name);
        grpc_call_free(call);
        pthread_join(thread, NULL);
        grpc_free(grpc);
        close(ends[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_one),      cmocka_unit_test(test_bodies),       cmocka_unit_test(test_other_protocols),
        cmocka_unit_test(test_rapid_reset),   cmocka_unit_test(test_floods),       cmocka_unit_test(test_long_headers),
        cmocka_unit_test(test_beyond_the_window), cmocka_unit_test(test_lying_servers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
