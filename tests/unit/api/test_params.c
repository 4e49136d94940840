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
        cmocka_unit_test(test_detach_keys),
        cmocka_unit_test(test_stop_times),
    };
    return cmocka_run_group_tests_name("api_params", tests, NULL, NULL);
}
