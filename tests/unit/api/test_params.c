#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "api/api_private.h"

static void test_content_types(void **state)
{
    static const struct {
        const char *type;
        bool good;
    } cases[] = {
        { "application/json", true }, { "application/json;charset=utf-8", true }, { "Application/JSON ; x=y", true },
        { "text/plain", false },      { "", false },                              { NULL, false },
        { "application/jsonx", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        if ((body_check_type(cases[i].type, &err) == 0) != cases[i].good)
            fail_msg("%s", cases[i].type);
        if (!cases[i].good)
            assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    }
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        int64_t ns; // -1: malformed
    } cases[] = {
        { "0", 0 }, { "1", NS_PER_S }, { "1136073600.000000001", 1136073600 * NS_PER_S + 1 },
        { "2.5", 2 * NS_PER_S + 500 * NS_PER_MS }, { "", -1 }, { "x", -1 }, { "1.", -1 }, { "-1", -1 },
        { "1.1234567890", -1 }, { "99999999999999999999", -1 }, { "1.5x", -1 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t ns;
        int result = time_parse(cases[i].text, &ns);
        if ((result < 0) != (cases[i].ns < 0) || (result == 0 && ns != cases[i].ns))
            fail_msg("\"%s\": %d %lld", cases[i].text, result, (long long)ns);
    }
}

static void test_until(void **state)
{
    static const struct {
        const char *text;
        int64_t ago_ns; // -1: malformed
    } cases[] = {
        { "24h", 86400 * NS_PER_S }, { "1h30m", 5400 * NS_PER_S }, { "1.5s", 1500 * NS_PER_MS }, { "10ms", 10 * NS_PER_MS },
        { "", -1 }, { "h", -1 }, { "5x", -1 }, { "1.2.3s", -1 }, { "-5m", -1 }, { "5 m", -1 }, { "9999999999999999999999999h", -1 },
        { "soon", -1 }, { "2026-13-01T00:00:00Z", -1 },
    };
    int64_t until_ns;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        int result = until_parse(cases[i].text, &until_ns, &err);
        int64_t ago_ns = clock_wall_ns() - until_ns;
        if (cases[i].ago_ns < 0 ? result == 0 : result < 0 || ago_ns < cases[i].ago_ns || ago_ns > cases[i].ago_ns + 60 * NS_PER_S)
            fail_msg("%s: %d, %lld ns ago", cases[i].text, result, (long long)ago_ns);
    }
    assert_int_equal(until_parse("1577836800", &until_ns, NULL), 0);
    assert_true(until_ns == 1577836800 * NS_PER_S);
    assert_int_equal(until_parse("2020-01-01T01:00:00+01:00", &until_ns, NULL), 0);
    assert_true(until_ns == 1577836800 * NS_PER_S);
}

static void test_detach_keys(void **state)
{
    static const struct {
        const char *keys;
        bool good;
    } cases[] = {
        { NULL, true },        { "", true },           { "ctrl-p,ctrl-q", true }, { "a", true },        { "ctrl-x,a", true },
        { "ctrl-@", true },    { "ctrl-[", true },     { "ctrl-_", true },        { "ctrl-nosuch", false },
        { "ctrl-", false },    { "ctrl-A", false },    { "a,,b", false },         { "abc", false },     { "ctrl-1", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        if ((detach_keys_check(cases[i].keys, &err) == 0) != cases[i].good)
            fail_msg("%s", cases[i].keys);
    }
}

static void test_stop_times(void **state)
{
    assert_int_equal(stop_seconds(0), 0);
    assert_int_equal(stop_seconds(5), 5);
    assert_true(stop_seconds(-1) > 86400 * 365);
    assert_true(stop_seconds(INT64_MAX) <= INT64_MAX / NS_PER_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content_types),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_until),
        cmocka_unit_test(test_detach_keys),
        cmocka_unit_test(test_stop_times),
    };
    return cmocka_run_group_tests_name("api_params", tests, NULL, NULL);
}
