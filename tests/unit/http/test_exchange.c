#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "http/exchange.h"

struct ends {
    struct http_exchange x;
    int far;
};

static void open_ends(struct ends *ends)
{
    int pair[2];
    assert_int_equal(fd_socketpair(SOCK_STREAM, pair, NULL), 0);
    http_exchange_init(&ends->x, pair[0]);
    ends->far = pair[1];
}

static void close_ends(struct ends *ends)
{
    http_exchange_done(&ends->x);
    fd_close(ends->far);
}

static void say(struct ends *ends, const char *text)
{
    assert_int_equal(fd_write_full(ends->far, text, strlen(text), NULL), 0);
}

// The whole body, read by pieces of that size; NULL after an error.
static char *body_of(struct http_exchange *x, size_t piece, struct err *err)
{
    struct buf out = BUF_INIT(1u << 20);
    char data[64];
    ssize_t got;
    while ((got = http_exchange_read(x, data, piece, err)) > 0)
        buf_add(&out, data, (size_t)got);
    if (got < 0) {
        buf_done(&out);
        return NULL;
    }
    return buf_take(&out);
}

static const struct {
    const char *said, *body; // NULL: an error
    int status;
    bool keep;
} answers[] = {
    { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", 200, true },
    { "HTTP/1.1 200 OK\r\ncontent-length:5\r\nConnection: Close\r\n\r\nhello", "hello", 200, false },
    { "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", 200, false },
    { "HTTP/1.1 204 No Content\r\n\r\n", "", 204, true },
    { "HTTP/1.1 304 Not Modified\r\n\r\n", "", 304, true },
    { "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\nx", "x", 404, true },
    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", "abc0123456789", 200, true },
    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: x\r\n\r\n", "a", 200, true },
    { "HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end", 200, false },
    { "HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nraw \r\n bytes", "raw \r\n bytes", 101, false },
    { "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", NULL, 200, false },
    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", NULL, 200, false },
    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n", NULL, 200, false },
    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n", NULL, 200, false },
    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n", NULL, 200, false },
    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", NULL, -1, false },
    { "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", NULL, -1, false },
    { "HTTP/1.1 20x OK\r\n\r\n", NULL, -1, false },
    { "SSH-2.0-OpenSSH\r\n\r\n", NULL, -1, false },
    { "HTTP/1.1 200 OK\r\nnever", NULL, -1, false },
    { "", NULL, -1, false },
};

static void what_answers_say(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(answers); i++)
        for (size_t piece = 1; piece <= 64; piece *= 8) {
            struct ends ends;
            struct err err;
            err_clear(&err);
            open_ends(&ends);
            say(&ends, answers[i].said);
            shutdown(ends.far, SHUT_WR);
            int result = http_exchange_receive(&ends.x, &err);
            if (answers[i].status < 0) {
                assert_int_equal(result, -1);
            } else {
                _cleanup_free_ char *body = body_of(&ends.x, piece, &err);
                assert_int_equal(result, 0);
                assert_int_equal(ends.x.status, answers[i].status);
                if (!str_eq(body, answers[i].body))
                    fail_msg("%s gave %s", answers[i].said, body);
                assert_int_equal(http_exchange_reusable(&ends.x), answers[i].keep);
            }
            close_ends(&ends);
        }
}

static void two_on_one_connection(void **state)
{
    struct ends ends;
    struct slice value;
    open_ends(&ends);
    say(&ends, "HTTP/1.1 200 OK\r\nX-One: first\r\nContent-Length: 1\r\n\r\na");
    assert_int_equal(http_exchange_send(&ends.x, "GET", "/one", "X: y\r\n", (struct slice){ 0 }, NULL), 0);
    assert_int_equal(http_exchange_receive(&ends.x, NULL), 0);
    assert_true(http_exchange_header(&ends.x, "x-one", &value) && slice_eq(value, "first"));
    _cleanup_free_ char *first = body_of(&ends.x, 64, NULL);
    assert_string_equal(first, "a");
    assert_int_equal(http_exchange_send(&ends.x, "POST", "/two", "", slice_of("{}"), NULL), 0);
    say(&ends, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb");
    assert_int_equal(http_exchange_receive(&ends.x, NULL), 0);
    assert_false(http_exchange_header(&ends.x, "X-One", &value));
    _cleanup_free_ char *second = body_of(&ends.x, 64, NULL);
    assert_string_equal(second, "b");
    char asked[1024] = "";
    ssize_t size = recv(ends.far, asked, sizeof(asked) - 1, 0);
    assert_true(size > 0 && strstr(asked, "GET /one HTTP/1.1\r\n") == asked && strstr(asked, "\r\nX: y\r\n"));
    assert_non_null(strstr(asked, "POST /two HTTP/1.1\r\n"));
    assert_non_null(strstr(asked, "Content-Length: 2\r\n\r\n{}"));
    close_ends(&ends);
}

static void a_body_in_chunks(void **state)
{
    struct ends ends;
    char got[1024] = "";
    open_ends(&ends);
    assert_int_equal(http_exchange_open(&ends.x, "PUT", "/x", "", NULL), 0);
    assert_int_equal(http_exchange_put(&ends.x, "0123456789abcdef", 16, NULL), 0);
    assert_int_equal(http_exchange_put(&ends.x, "", 0, NULL), 0);
    assert_true(recv(ends.far, got, sizeof(got) - 1, 0) > 0);
    assert_non_null(strstr(got, "Transfer-Encoding: chunked\r\n\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"));
    close_ends(&ends);
}

static void targets_that_are_none(void **state)
{
    static const char *const targets[] = { "", "x", "/a b", "/a\r\nX: y", "/\x7f" };
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        struct ends ends;
        struct err err;
        open_ends(&ends);
        assert_int_equal(http_exchange_send(&ends.x, "GET", targets[i], "", (struct slice){ 0 }, &err), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        close_ends(&ends);
    }
}

static void a_head_without_end(void **state)
{
    struct ends ends;
    struct err err;
    _cleanup_free_ char *line = mem_alloc(100000);
    open_ends(&ends);
    memset(line, 'x', 100000);
    memcpy(line, "HTTP/1.1 200 OK\r\nX: ", 20);
    assert_int_equal(fd_write_full(ends.far, line, 100000, NULL), 0);
    assert_int_equal(http_exchange_receive(&ends.x, &err), -1);
    assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
    close_ends(&ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_answers_say),      cmocka_unit_test(two_on_one_connection), cmocka_unit_test(a_body_in_chunks),
        cmocka_unit_test(targets_that_are_none), cmocka_unit_test(a_head_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
