#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "http/http.h"

static const struct {
    enum http_kind kind;
    const char *bytes;
    int result;
    const char *first, *path, *query; // first: the method; NULL for responses
    int status;
    uint64_t body_size;
    bool chunked, close;
} heads[] = {
    { HTTP_REQUEST, "GET / HTTP/1.1\r\n\r\n", 1, "GET", "/", "", 0, 0, false, false },
    { HTTP_REQUEST, "PUT /pause?a=b HTTP/1.1\r\nHost: x\r\ncontent-length: 17\r\n\r\nrest", 1, "PUT", "/pause", "a=b", 0, 17, false, false },
    { HTTP_REQUEST, "GET / HTTP/1.0\r\n\r\n", 1, "GET", "/", "", 0, 0, false, true },
    { HTTP_REQUEST, "GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", 1, "GET", "/", "", 0, 0, false, true },
    { HTTP_RESPONSE, "HTTP/1.1 200 OK\r\n\r\n", 1, NULL, NULL, NULL, 200, 0, false, false },
    { HTTP_RESPONSE, "HTTP/1.1 404 \r\nContent-Length: 3\r\n\r\n", 1, NULL, NULL, NULL, 404, 3, false, false },
    { HTTP_RESPONSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 1, NULL, NULL, NULL, 200, 0, true, false },
    { HTTP_REQUEST, "", 0, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "GET / HTTP/1.1\r\n", 0, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "GET / HTTP/1.1\n\n", 0, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "GET /\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "GET  / HTTP/1.1\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "GET x HTTP/1.1\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "GET / HTTP/2.0\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "G\tT / HTTP/1.1\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "GET / HTTP/1.1\r\nno colon\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "GET / HTTP/1.1\r\nA : b\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "GET / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_REQUEST, "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_RESPONSE, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_RESPONSE, "HTTP/1.1 100 Continue\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
    { HTTP_RESPONSE, "HTTP/1.1 20 OK\r\n\r\n", -1, NULL, NULL, NULL, 0, 0, false, false },
};

static void test_heads(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        struct http_head head;
        struct err err;
        int result = http_parse_head(heads[i].kind, slice_of(heads[i].bytes), &head, &err);
        if (result != heads[i].result)
            fail_msg("%s: %d", heads[i].bytes, result);
        if (result < 1)
            continue;
        if (heads[i].first) {
            assert_true(slice_eq(head.method, heads[i].first) && slice_eq(head.path, heads[i].path));
            assert_true(slice_eq(head.query, heads[i].query));
        }
        assert_int_equal(head.status, heads[i].status);
        assert_int_equal(head.body_size, heads[i].body_size);
        assert_int_equal(head.chunked, heads[i].chunked);
        assert_int_equal(head.close, heads[i].close);
        assert_int_equal(head.size, (size_t)(strstr(heads[i].bytes, "\r\n\r\n") + 4 - heads[i].bytes));
    }
}

static void test_ceilings(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64 << 10);
    struct http_head head;
    struct err err;
    buf_adds(&text, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < HTTP_HEADERS_MAX; i++)
        buf_adds(&text, "A: b\r\n");
    size_t size = text.size;
    buf_adds(&text, "\r\n");
    assert_int_equal(http_parse_head(HTTP_REQUEST, (struct slice){ text.data, text.size }, &head, &err), 1);
    text.size = size;
    buf_adds(&text, "A: b\r\n\r\n");
    assert_int_equal(http_parse_head(HTTP_REQUEST, (struct slice){ text.data, text.size }, &head, &err), -1);
    buf_clear(&text);
    while (text.size < HTTP_HEAD_MAX - 1)
        buf_addc(&text, 'x');
    assert_int_equal(http_parse_head(HTTP_REQUEST, (struct slice){ text.data, text.size }, &head, &err), 0);
    buf_addc(&text, 'x');
    assert_int_equal(http_parse_head(HTTP_REQUEST, (struct slice){ text.data, text.size }, &head, &err), -1);
}

static const struct {
    const char *bytes;
    int result;
    const char *data;
    size_t size;
} chunks[] = {
    { "3\r\nabc\r\nmore", 1, "abc", 8 }, { "0\r\n\r\n", 1, "", 5 },          { "a\r\n0123456789\r\n", 1, "0123456789", 15 },
    { "", 0, NULL, 0 },                  { "3\r\nab", 0, NULL, 0 },          { "3\r\nabc\r", 0, NULL, 0 },
    { "3", 0, NULL, 0 },                 { "3\r\nabcd\r\n", -1, NULL, 0 },   { "\r\nabc\r\n", -1, NULL, 0 },
    { "-1\r\n", -1, NULL, 0 },           { "10001\r\n", -1, NULL, 0 },       { "fffffffff\r\n", -1, NULL, 0 },
    { "3;a=b\r\nabc\r\n", -1, NULL, 0 }, { "0000000000000000", -1, NULL, 0 },
};

static void test_chunks(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        struct slice data;
        size_t size;
        struct err err;
        int result = http_parse_chunk(slice_of(chunks[i].bytes), &data, &size, &err);
        if (result != chunks[i].result)
            fail_msg("%s: %d", chunks[i].bytes, result);
        if (result == 1)
            assert_true(slice_eq(data, chunks[i].data) && size == chunks[i].size);
    }
}

static void test_text(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(100);
    http_put_text(&out, "a\"b\\c\nd\x01");
    assert_string_equal(buf_text(&out), "\"a\\\"b\\\\c\\u000ad\\u0001\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_ceilings),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
