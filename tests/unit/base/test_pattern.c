#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/pattern.h"

static void test_fits(void **state)
{
    static const struct {
        const char *pattern, *subject;
        bool fits;
    } table[] = {
        { "", "x", true },           { "^a$", "a", true },      { "^a$", "ab", false },    { "(?i)^a$", "A", true },
        { "^v\\d+$", "v10", true },  { "^v\\d+$", "vx", false }, { "^a\\.b$", "axb", false }, { "^(os|arch)", "archive", true },
        { "a{2,3}", "aa", true },    { "\\\\", "\\", true },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        regex_t pattern;
        struct err err = { 0 };
        assert_int_equal(pattern_compile(table[i].pattern, &pattern, &err), 0);
        assert_int_equal(pattern_fits(&pattern, table[i].subject), table[i].fits);
        regfree(&pattern);
    }
}

static void test_refuses(void **state)
{
    static const char *const table[] = { "(", "[a", "a{999}", "a{1,999}", "(a)\\1", "a{2}{2}", "((((((((((((((((()))))))))))))))))" };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        regex_t pattern;
        struct err err = { 0 };
        assert_int_equal(pattern_compile(table[i], &pattern, &err), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_fits), cmocka_unit_test(test_refuses) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
