#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>

#include "json/json.h"

static void rejects_what_is_no_document(void **state)
{
    static const struct {
        const char *text;
        const char *part; // of the message
    } cases[] = {
        { "", "line 1 column 0" },
        { "{", "invalid JSON" },
        { "{} x", "line 1 column 4" },
        { "{}\n{}", "line 2" },
        { "{\"a\":\n tru}", "line 2" },
        { "{'a':1}", "invalid JSON" },
        { "[1,]", "invalid JSON" },
        { "\"\xff\"", "byte 0xff" },
        { "\"\xed\xa0\x80\"", "byte 0xed" },
        { "\"\\u0000\"", "\\u0000" },
        { "[01]", "invalid JSON" },
        { "1e999", "overflow" },
        { "NaN", "invalid JSON" },
        { "\xef\xbb\xbf{}", "invalid JSON" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        json_t *value = NULL;
        assert_int_equal(json_parse(cases[i].text, strlen(cases[i].text), &value, &err), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        if (!strstr(err.message, cases[i].part))
            fail_msg("%s: %s", cases[i].text, err.message);
        assert_null(value);
    }
    json_t *value;
    assert_int_equal(json_parse("{}\0", 3, &value, NULL), -1); // a NUL is junk, too
}

// Text in, compact text out.
static void round_trips(void **state)
{
    static const struct {
        const char *text, *out;
    } cases[] = {
        { " { \"b\" : [ 1 , true , null ] , \"a\" : {} } ", "{\"b\":[1,true,null],\"a\":{}}" }, // keeps its order
        { "{\"a\":1,\"a\":2}", "{\"a\":2}" }, // the last one counts
        { "\"\\u20ac\\n\\\"\"", "\"\xe2\x82\xac\\n\\\"\"" },
        { "-9223372036854775808", "-9223372036854775808" },
        { "9223372036854775807", "9223372036854775807" },
        { "18446744073709551615", "9223372036854775807" },
        { "[-99999999999999999999999,1]", "[-9223372036854775808,1]" },
        { "{\"9999999999999999999\":\"99999999999999999999\\\"9999999999999999999\",\"n\":9223372036854775808}",
          "{\"9999999999999999999\":\"99999999999999999999\\\"9999999999999999999\",\"n\":9223372036854775807}" },
        { "[18446744073709551615.5,1e3,18446744073709551615]", "[1.8446744073709552e19,1000.0,9223372036854775807]" },
        { "null", "null" },
        { "\"text\"", "\"text\"" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        _cleanup_json_ json_t *value = NULL;
        _cleanup_buf_ struct buf out = BUF_INIT(1000);
        if (json_parse(cases[i].text, strlen(cases[i].text), &value, &err) < 0)
            fail_msg("%s: %s", cases[i].text, err.message);
        json_write(value, &out);
        assert_string_equal(buf_text(&out), cases[i].out);
        _cleanup_free_ char *text = json_text(value);
        assert_string_equal(text, cases[i].out);
    }
}

static void clamping_keeps_positions(void **state)
{
    struct err err;
    json_t *value;
    static const char text[] = "{\"n\": 99999999999999999999,\n \"m\": oops}";
    assert_int_equal(json_parse(text, strlen(text), &value, &err), -1);
    static const char after[] = "[99999999999999999999, 1e999]";
    assert_int_equal(json_parse(after, strlen(after), &value, &err), -1);
    assert_non_null(strstr(err.message, "line 1 column 28"));
}

static void unclamped_integers_are_reals(void **state)
{
    static const char text[] = "[9223372036854775808,-9223372036854775809,9223372036854775807,1]";
    _cleanup_json_ json_t *value = NULL;
    assert_int_equal(json_parse_unclamped(text, strlen(text), &value, NULL), 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(json_is_real(json_array_get(value, i)), i < 2);
}

struct deep {
    size_t depth;
    const char *open, *close;
    int result;
};

static void *parse_deep(void *context)
{
    struct deep *deep = context;
    _cleanup_buf_ struct buf text = BUF_INIT(1 << 22);
    _cleanup_json_ json_t *value = NULL;
    for (size_t i = 0; i < deep->depth; i++)
        buf_adds(&text, deep->open);
    buf_adds(&text, "\"[[{{\\\"[[\"");
    for (size_t i = 0; i < deep->depth; i++)
        buf_adds(&text, deep->close);
    deep->result = json_parse(text.data, text.size, &value, NULL);
    if (deep->result == 0)
        free(json_text(value));
    return NULL;
}

static void depth_fits_a_connections_stack(void **state)
{
    static const struct {
        size_t depth;
        int result;
    } cases[] = { { 0, 0 }, { JSON_DEPTH_MAX, 0 }, { JSON_DEPTH_MAX + 1, -1 }, { 2000, -1 }, { 400000, -1 } };
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    for (size_t i = 0; i < 2 * ARRAY_LEN(cases); i++) {
        struct deep deep = { cases[i / 2].depth, i % 2 ? "[" : "{\"a\":", i % 2 ? "]" : "}", 0 };
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, &attributes, parse_deep, &deep), 0);
        pthread_join(thread, NULL);
        assert_int_equal(deep.result, cases[i / 2].result);
    }
    pthread_attr_destroy(&attributes);
}

static void siblings_are_not_depth(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(100000);
    _cleanup_json_ json_t *value = NULL;
    buf_addc(&text, '[');
    for (int i = 0; i < 1000; i++)
        buf_adds(&text, "[],{},");
    buf_adds(&text, "0]");
    assert_int_equal(json_parse(text.data, text.size, &value, NULL), 0);
    assert_int_equal(json_array_size(value), 2001);
}

static void shorthand(void **state)
{
    static const char text[] = "{\"s\":\"x\",\"i\":5,\"t\":true,\"r\":1.5,\"n\":null}";
    _cleanup_json_ json_t *object = NULL;
    assert_int_equal(json_parse(text, strlen(text), &object, NULL), 0);
    assert_string_equal(json_get_text(object, "s", "-"), "x");
    assert_string_equal(json_get_text(object, "i", "-"), "-");
    assert_string_equal(json_get_text(object, "none", "-"), "-");
    assert_null(json_get_text(object, "n", NULL));
    assert_int_equal(json_get_int(object, "i", 7), 5);
    assert_int_equal(json_get_int(object, "r", 7), 7);
    assert_int_equal(json_get_int(object, "s", 7), 7);
    assert_true(json_get_flag(object, "t", false));
    assert_true(json_get_flag(object, "i", true));
    assert_int_equal(json_get_int(NULL, "i", 7), 7);
}

static void writing_stops_at_the_ceiling(void **state)
{
    _cleanup_json_ json_t *value = json_string("0123456789");
    _cleanup_buf_ struct buf out = BUF_INIT(8);
    json_write(value, &out);
    assert_int_equal(buf_check(&out, "answer", NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rejects_what_is_no_document),
        cmocka_unit_test(round_trips),
        cmocka_unit_test(clamping_keeps_positions),
        cmocka_unit_test(unclamped_integers_are_reals),
        cmocka_unit_test(depth_fits_a_connections_stack),
        cmocka_unit_test(siblings_are_not_depth),
        cmocka_unit_test(shorthand),
        cmocka_unit_test(writing_stops_at_the_ceiling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
