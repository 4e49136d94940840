#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "httpd/httpd.h"

static const struct {
    const char *pattern, *path;
    const char *values[2]; // {NULL}: no variable; {"!"}: no match
} cases[] = {
    { "/_ping", "/_ping", { NULL } },
    { "/_ping", "/_ping/", { "!" } },
    { "/_ping", "/_pin", { "!" } },
    { "/containers/{id}/json", "/containers/web/json", { "web" } },
    { "/containers/{id}/json", "/containers//json", { "!" } },
    { "/containers/{id}/json", "/containers/a/b/json", { "!" } },
    { "/containers/{id}", "/containers/web", { "web" } },
    { "/images/{name...}/json", "/images/bb/json", { "bb" } },
    { "/images/{name...}/json", "/images/127.0.0.1:5000/lib/bb/json", { "127.0.0.1:5000/lib/bb" } },
    { "/images/{name...}/json", "/images/json/json", { "json" } },
    { "/images/{name...}/json", "/images/json", { "!" } },
    { "/images/{name...}/json", "/images/a/json/json", { "a/json" } },
    { "/images/{name...}", "/images/a/b", { "a/b" } },
    { "/a/{x...}/b/{y}", "/a/1/b/2/b/3", { "1/b/2", "3" } },
    { "/a/{x}/{y...}", "/a/1/2/3", { "1", "2/3" } },
    { "/", "/", { NULL } },
    { "/a", "a", { "!" } },
    { "/a", "", { "!" } },
};

static void test_patterns(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        char *values[HTTPD_ROUTE_VALUES] = { NULL };
        bool wanted = !str_eq(cases[i].values[0], "!");
        bool matched = httpd_route_match(cases[i].pattern, cases[i].path, &arena, values);
        if (matched != wanted)
            fail_msg("%s against %s: %d", cases[i].path, cases[i].pattern, matched);
        for (size_t k = 0; wanted && k < 2; k++)
            if (!str_eq(values[k], cases[i].values[k]))
                fail_msg("%s against %s: value %zu is %s", cases[i].path, cases[i].pattern, k, values[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_patterns) };
    return cmocka_run_group_tests_name("httpd_route", tests, NULL, NULL);
}
