#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "shim/shim_private.h"

static void parses_docker_words(void **state)
{
    static const struct { const char *text; const char *bytes; size_t len; } cases[] = {
        { "ctrl-p,ctrl-q", "\x10\x11", 2 }, { "a", "a", 1 }, { "ctrl-x,a", "\x18" "a", 2 }, { "DEL", "\x7f", 1 },
        { "ctrl-@", "\0", 1 }, { "ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", "\x1b\x1c\x1d\x1e\x1f", 5 }, { "", "", 0 },
        { NULL, "", 0 }, { "ctrl-a,ctrl-z", "\x01\x1a", 2 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct detach_keys keys;
        assert_int_equal(detach_keys_parse(cases[i].text, &keys, NULL), 0);
        assert_int_equal(keys.len, cases[i].len);
        assert_memory_equal(keys.keys, cases[i].bytes, cases[i].len);
    }
}

static void refuses_other_words(void **state)
{
    static const char *const cases[] = { "ctrl-", "ctrl-P", "ctrl-pp", "ab", "ctrl-p,", ",", "ctrl-1", "del",
                                         "a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a" };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct detach_keys keys;
        struct err err;
        assert_int_equal(detach_keys_parse(cases[i], &keys, &err), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    }
}

// Each input both whole and byte by byte: what is passed on and whether it detaches must not depend on the reads.
static void filters(void **state)
{
    static const struct { const char *keys, *in, *out; bool detached; } cases[] = {
        { "ctrl-p,ctrl-q", "hello", "hello", false },
        { "ctrl-p,ctrl-q", "a\x10\x11", "a", true },
        { "ctrl-p,ctrl-q", "\x10" "b", "\x10" "b", false },
        { "ctrl-p,ctrl-q", "\x10\x10\x11" "rest", "\x10", true },
        { "ctrl-p,ctrl-q", "\x10", "", false }, // held back
        { "ctrl-p,ctrl-q", "\x11\x10\x10\x10" "x", "\x11\x10\x10\x10" "x", false },
        { "a,a,b", "aaab", "a", true },
        { "a,b,a,c", "ababac", "ab", true },
        { "a,b,a,c", "abab", "ab", false },
        { "x", "abx", "ab", true },
        { "", "\x10\x11", "\x10\x11", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t step = 1; step <= 16; step += 15) {
            struct detach_keys keys;
            uint8_t out[128];
            size_t total = 0, size = strlen(cases[i].in);
            bool detached = false;
            detach_keys_parse(cases[i].keys, &keys, NULL);
            for (size_t at = 0; at < size && !detached; at += step) {
                size_t got;
                detached = detach_keys_filter(&keys, (const uint8_t *)cases[i].in + at, MIN_OF(step, size - at), out + total, &got);
                total += got;
            }
            assert_int_equal(detached, cases[i].detached);
            assert_int_equal(total, strlen(cases[i].out));
            assert_memory_equal(out, cases[i].out, total);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_docker_words),
        cmocka_unit_test(refuses_other_words),
        cmocka_unit_test(filters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
