// Buffers, arenas, slices, lists of strings.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/strv.h"

// ---- buf ------------------------------------------------------------------------------------------------------------

static void ceiling_holds(void **state)
{
    _cleanup_buf_ struct buf buf = BUF_INIT(8);
    struct err err = { 0 };
    assert_string_equal(buf_text(&buf), "");
    buf_adds(&buf, "12345");
    buf_adds(&buf, "6789"); // nine: nothing of it is written
    assert_string_equal(buf_text(&buf), "12345");
    assert_true(buf.overflow);
    assert_int_equal(buf_check(&buf, "answer", &err), -1);
    assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
    assert_string_equal(err.message, "answer: larger than 8 bytes");
    buf_addf(&buf, "%s", "678"); // eight fits exactly
    assert_string_equal(buf_text(&buf), "12345678");
    assert_null(buf_reserve(&buf, 1));
    assert_null(buf_reserve(&buf, SIZE_MAX));
    buf_clear(&buf);
    assert_int_equal(buf_check(&buf, "answer", &err), 0);
    assert_string_equal(buf_text(&buf), "");
}

static void grows_and_keeps(void **state)
{
    _cleanup_buf_ struct buf buf = BUF_INIT(100000);
    for (int i = 0; i < 10000; i++)
        buf_addf(&buf, "%04d,", i);
    assert_int_equal(buf.size, 50000);
    assert_memory_equal(buf.data + 5 * 9999, "9999,", 6); // and the NUL
    buf_consume(&buf, 5 * 9998);
    assert_string_equal(buf_text(&buf), "9998,9999,");
    buf_consume(&buf, 10);
    assert_string_equal(buf_text(&buf), "");
    buf_addc(&buf, 'x');
    _cleanup_free_ char *text = buf_take(&buf);
    assert_string_equal(text, "x");
    assert_int_equal(buf.size, 0);
    _cleanup_free_ char *empty = buf_take(&buf);
    assert_string_equal(empty, "");
}

static void room_without_commit_is_empty_text(void **state)
{
    _cleanup_buf_ struct buf buf = BUF_INIT(1000);
    char *room = buf_reserve(&buf, 100);
    assert_non_null(room);
    assert_string_equal(buf_text(&buf), "");
    memcpy(room, "abc", 3);
    buf_commit(&buf, 3);
    assert_string_equal(buf_text(&buf), "abc");
    buf_add(&buf, NULL, 0);
    assert_int_equal(buf.size, 3);
}

// ---- arena ----------------------------------------------------------------------------------------------------------

static void arena_is_zeroed_and_aligned(void **state)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    for (size_t size = 0; size < 3000; size += 7) {
        char *memory = arena_alloc(&arena, size);
        assert_int_equal((uintptr_t)memory % 16, 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(memory[i], 0);
        if (size)
            memset(memory, 0xff, size);
    }
    char *large = arena_alloc(&arena, 1 << 20);
    memset(large, 0xff, 1 << 20);
    assert_true(arena.used > (1 << 20));
    assert_null(arena_strdup(&arena, NULL));
    assert_string_equal(arena_strndup(&arena, "abcdef", 3), "abc");
    assert_string_equal(arena_strndup(&arena, NULL, 0), "");
    assert_string_equal(arena_printf(&arena, "%s-%d", "a", 5), "a-5");
    arena_done(&arena);
    assert_int_equal(arena.used, 0);
    assert_string_equal(arena_strdup(&arena, "usable again"), "usable again");
}

static void mem_words(void **state)
{
    assert_null(mem_strdup(NULL));
    _cleanup_free_ char *head = mem_strndup("abc", 2), *none = mem_strndup(NULL, 0), *text = mem_printf("%d%s", 1, "x");
    assert_string_equal(head, "ab");
    assert_string_equal(none, "");
    assert_string_equal(text, "1x");
    char *taken = take_ptr(&text);
    assert_null(text);
    free(taken);
}

// ---- slice ----------------------------------------------------------------------------------------------------------

static void cuts_at_separators(void **state)
{
    static const struct {
        const char *text;
        const char *parts[5];
    } cases[] = { { "a:b:c", { "a", "b", "c" } }, { "a", { "a" } },       { "", { "" } },
                  { ":", { "", "" } },            { "a::", { "a", "", "" } } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice rest = slice_of(cases[i].text), part;
        for (const char *const *wanted = cases[i].parts; *wanted; wanted++) {
            assert_true(slice_cut(&rest, ':', &part));
            assert_true(slice_eq(part, *wanted));
        }
        assert_false(slice_cut(&rest, ':', &part));
    }
    struct slice rest = slice_of(NULL), part;
    assert_false(slice_cut(&rest, ':', &part));
}

static void compares_and_trims(void **state)
{
    assert_true(slice_eq(slice_trim(slice_of(" \t\r\n x y \n")), "x y"));
    assert_true(slice_eq(slice_trim(slice_of(" \n")), ""));
    assert_true(slice_eq((struct slice){ NULL, 0 }, ""));
    assert_false(slice_eq(slice_of("ab"), "a"));
    assert_true(slice_starts(slice_of("sha256:x"), "sha256:"));
    assert_false(slice_starts(slice_of("sha"), "sha256:"));
}

static void knows_utf8(void **state)
{
    static const struct {
        const char *text;
        size_t len;
    } cases[] = {
        { "a", 1 },          { "\xc3\xa4", 2 },     { "\xe2\x82\xac", 3 }, { "\xf0\x9f\x90\xb3", 4 },
        { "", 0 },           { "\x80", 0 },         { "\xc3", 0 },         { "\xc3x", 0 },
        { "\xc0\x80", 0 },   { "\xe0\x80\x80", 0 }, { "\xed\xa0\x80", 0 }, { "\xf4\x90\x80\x80", 0 },
        { "\xf8\x88", 0 },   { "\xff", 0 },         { "\xed\x9f\xbf", 3 }, { "\xf4\x8f\xbf\xbf", 4 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(slice_utf8_len(slice_of(cases[i].text)), cases[i].len);
    const char *text = "a\xe2\x82\xac"; // four bytes
    static const size_t heads[] = { 0, 1, 1, 1, 4, 4 };
    for (size_t max = 0; max < ARRAY_LEN(heads); max++)
        assert_int_equal(slice_utf8_head(slice_of(text), max).size, heads[max]);
}

// ---- strv -----------------------------------------------------------------------------------------------------------

static void owned_list(void **state)
{
    _cleanup_strv_ struct strv list = { 0 };
    assert_false(strv_has(&list, "a"));
    for (int i = 0; i < 100; i++)
        strv_addf(&list, "item %d", i);
    strv_add(&list, "last");
    assert_int_equal(list.len, 101);
    assert_null(list.items[101]);
    assert_true(strv_has(&list, "item 99") && strv_has(&list, "last"));
    assert_false(strv_has(&list, "item"));
    assert_int_equal(list.capacity, 0);
}

static void list_in_an_arena(void **state)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    char *foreign[] = { (char *)"A=1", NULL };
    struct strv list = { foreign, 1, 0 };
    for (int i = 0; i < 1000; i++)
        strv_push_arena(&list, &arena, arena_printf(&arena, "K%d=%d", i, i));
    assert_int_equal(list.len, 1001);
    assert_null(list.items[1001]);
    assert_string_equal(list.items[0], "A=1");
    assert_string_equal(strv_env(&list, "K999"), "999");
    assert_null(foreign[1]);
    assert_true(arena.used < 200000); // growing doubles: no square of the length
}

static void environment_rules(void **state)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct strv list = { 0 };
    static const struct {
        const char *set, *key, *value;
        size_t len;
    } steps[] = {
        { "PATH=/bin", "PATH", "/bin", 1 },  { "HOME=", "HOME", "", 2 },       { "PATH=/usr/bin", "PATH", "/usr/bin", 2 },
        { "X=a=b", "X", "a=b", 3 },          { "PA=short", "PATH", "/usr/bin", 4 }, { "PATH", "PATH", NULL, 3 },
        { "NONE", "NONE", NULL, 3 },         { "PA", "PA", NULL, 2 },          { "HOME", "HOME", NULL, 1 },
        { "X", "X", NULL, 0 },
    };
    assert_null(strv_env(&list, "PATH"));
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        strv_env_set(&list, &arena, steps[i].set);
        assert_int_equal(list.len, steps[i].len);
        assert_null(list.items[list.len]);
        const char *value = strv_env(&list, steps[i].key);
        if (steps[i].value)
            assert_string_equal(value, steps[i].value);
        else
            assert_null(value);
    }
}

static void map_lookup(void **state)
{
    struct kv items[] = { { (char *)"a", (char *)"1" }, { (char *)"b", (char *)"" } };
    const struct kvs map = { items, 2 };
    assert_string_equal(kvs_get(&map, "a"), "1");
    assert_string_equal(kvs_get(&map, "b"), "");
    assert_null(kvs_get(&map, "c"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ceiling_holds),
        cmocka_unit_test(grows_and_keeps),
        cmocka_unit_test(room_without_commit_is_empty_text),
        cmocka_unit_test(arena_is_zeroed_and_aligned),
        cmocka_unit_test(mem_words),
        cmocka_unit_test(cuts_at_separators),
        cmocka_unit_test(compares_and_trims),
        cmocka_unit_test(knows_utf8),
        cmocka_unit_test(owned_list),
        cmocka_unit_test(list_in_an_arena),
        cmocka_unit_test(environment_rules),
        cmocka_unit_test(map_lookup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
