// What an operator may say of the registry whose cache ours is. No network.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>


#include "base/file.h"
#include "upstream/upstream.h"

#include <cmocka.h>

static bool good(const char *url, const char *credentials)
{
    const struct upstream_options options = { .url = url, .credentials = credentials };
    struct upstream *upstream = NULL;
    struct err err = { 0 };
    int result = upstream_new(&options, &upstream, &err);
    assert_int_equal(result == 0, upstream != NULL);
    assert_int_equal(result < 0, err.class != ERR_NONE);
    upstream_free(upstream);
    return result == 0;
}

static void test_urls(void **state)
{
    static const char *const right[] = { "https://registry-1.docker.io", "http://127.0.0.1:5000", "https://r.example:5000/", "http://[::1]:5000",
                                         "http://localhost:1//" };
    static const char *const wrong[] = { "", "http://", "https://", "ftp://r.example", "r.example:5000", "http://r.example/prefix", "http://a b",
                                         "https://user:word@r.example", "http://UPPER_case", "https://r.example?x", "http:/r.example" };
    for (size_t i = 0; i < ARRAY_LEN(right); i++)
        if (!good(right[i], NULL))
            fail_msg("%s", right[i]);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        if (good(wrong[i], NULL))
            fail_msg("%s", wrong[i]);
}

static void test_credentials(void **state)
{
    static const struct {
        const char *text;
        bool right;
    } rows[] = { { "anna:se:cret\n", true }, { "anna:x", true }, { "anna\n", false }, { ":x\n", false }, { "a:b\nc:d\n", false }, { "", false } };
    char path[] = "/tmp/upstream-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, rows[i].text, strlen(rows[i].text), 0), (int)strlen(rows[i].text));
        if (good("https://r.example", path) != rows[i].right)
            fail_msg("%s", rows[i].text);
    }
    close(fd);
    unlink(path);
    assert_false(good("https://r.example", path));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_urls), cmocka_unit_test(test_credentials) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
