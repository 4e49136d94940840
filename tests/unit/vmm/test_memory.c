#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "vmm/memory.h"

static void overlap_and_wrap_are_refused(void **state)
{
    static uint8_t host[0x1000];
    static const struct {
        uint64_t gpa, size;
        int result;
    } cases[] = {
        { 0x1000, 0x1000, 0 },        { 0x2000, 0x1000, 0 },           { 0x0, 0x1000, 0 },          { 0x1fff, 1, -1 },
        { 0x0, 0x10000, -1 },         { 0x2800, 0x1000, -1 },          { 0x4000, 0, -1 },           { UINT64_MAX, 2, -1 },
        { 0x3000, UINT64_MAX, -1 },   { UINT64_MAX - 0xfff, 0x1000, 0 }, { UINT64_MAX, 1, -1 },
    };
    struct gmem memory = { .len = 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        assert_int_equal(gmem_add(&memory, cases[i].gpa, cases[i].size, host, false, &err), cases[i].result);
        assert_int_equal(err.class, cases[i].result < 0 ? ERR_INVALID_ARGUMENT : ERR_NONE);
    }
}

static void the_table_is_bounded(void **state)
{
    static uint8_t host[16];
    struct gmem memory = { .len = 0 };
    struct err err = { 0 };
    for (uint64_t i = 0; i < GMEM_REGION_MAX; i++)
        assert_int_equal(gmem_add(&memory, i * 16, 16, host, false, &err), 0);
    assert_int_equal(gmem_add(&memory, 0x10000, 16, host, false, &err), -1);
    assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
}

static void every_access_is_inside_one_region(void **state)
{
    static uint8_t low[0x1000], high[0x1000], top[0x1000];
    struct gmem memory = { .len = 0 };
    assert_int_equal(gmem_add(&memory, 0x1000, sizeof(low), low, false, NULL), 0);
    assert_int_equal(gmem_add(&memory, 0x2000, sizeof(high), high, true, NULL), 0);
    assert_int_equal(gmem_add(&memory, UINT64_MAX - 0xfff, sizeof(top), top, false, NULL), 0);
    const struct {
        uint64_t gpa, size;
        bool write;
        void *at;
    } cases[] = {
        { 0x1000, 0x1000, true, low },
        { 0x1fff, 1, true, low + 0xfff },
        { 0x1fff, 2, false, NULL }, // across two
        { 0xfff, 1, false, NULL },
        { 0x2000, 0x1000, false, high },
        { 0x2000, 1, true, NULL }, // read-only
        { 0x3000, 1, false, NULL },
        { 0x1000, UINT64_MAX, false, NULL },
        { 0x1800, UINT64_MAX - 0x17ff, false, NULL },
        { UINT64_MAX, 1, true, top + 0xfff },
        { UINT64_MAX, 2, true, NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_ptr_equal(gmem_at(&memory, cases[i].gpa, cases[i].size, cases[i].write), cases[i].at);
}

static void copies_and_words(void **state)
{
    static uint8_t host[64] __attribute__((aligned(8)));
    struct gmem memory = { .len = 0 };
    assert_int_equal(gmem_add(&memory, 0x1000, sizeof(host), host, false, NULL), 0);
    uint8_t bytes[4] = { 0 };
    uint16_t word = 0;
    assert_true(gmem_write(&memory, 0x1004, "abcd", 4));
    assert_true(gmem_read(&memory, 0x1004, bytes, 4));
    assert_memory_equal(bytes, "abcd", 4);
    assert_false(gmem_write(&memory, 0x103d, "abcd", 4));
    assert_false(gmem_read(&memory, 0x103d, bytes, 4));
    assert_true(gmem_write16(&memory, 0x1010, 0x1234));
    assert_true(gmem_read16(&memory, 0x1010, &word));
    assert_int_equal(word, 0x1234);
    assert_int_equal(host[0x10], 0x34);
    assert_false(gmem_read16(&memory, 0x1011, &word)); // odd
    assert_false(gmem_write16(&memory, 0x103f, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlap_and_wrap_are_refused),
        cmocka_unit_test(the_table_is_bounded),
        cmocka_unit_test(every_access_is_inside_one_region),
        cmocka_unit_test(copies_and_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
