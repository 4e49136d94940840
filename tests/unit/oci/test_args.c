#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "oci/oci_private.h"

static const struct flag flags[] = {
    { "force", "f", FLAG_BOOL, "" },
    { "bundle", "b", FLAG_TEXT, "" },
    { "env", "e", FLAG_LIST, "" },
};

static int read_words(struct args *args, struct arena *arena, bool mixed, char **argv, struct err *err)
{
    int argc = 0, at = 0;
    while (argv[argc])
        argc++;
    *args = (struct args){ .flags = flags, .flag_len = ARRAY_LEN(flags), .arena = arena };
    return args_read(args, argc, argv, &at, mixed, err);
}

#define WORDS(...) ((char *[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static void test_forms(void **state)
{
    static const struct {
        char *argv[4];
        const char *bundle;
    } cases[] = {
        { { (char *)"--bundle", (char *)"x" }, "x" }, { { (char *)"--bundle=x" }, "x" }, { { (char *)"-bundle", (char *)"x" }, "x" },
        { { (char *)"-b", (char *)"x" }, "x" },       { { (char *)"-b=x" }, "x" },       { { (char *)"--bundle", (char *)"-x" }, "-x" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = ARENA_INIT;
        struct args args;
        struct err err = { 0 };
        assert_int_equal(read_words(&args, &arena, true, (char **)cases[i].argv, &err), 0);
        assert_string_equal(args_text(&args, "bundle"), cases[i].bundle);
        arena_done(&arena);
    }
}

static void test_flags_after_words(void **state)
{
    struct arena arena = ARENA_INIT;
    struct args args;
    struct err err = { 0 };
    assert_int_equal(read_words(&args, &arena, true, WORDS((char *)"id", (char *)"--force"), &err), 0);
    assert_true(args_flag(&args, "force"));
    assert_int_equal(args.words.len, 1);
    // exec: what follows the id is the command's own.
    assert_int_equal(read_words(&args, &arena, false, WORDS((char *)"-e", (char *)"A=b", (char *)"id", (char *)"ls", (char *)"-f"), &err), 0);
    assert_false(args_given(&args, "force"));
    assert_int_equal(args.words.len, 3);
    assert_string_equal(args.words.items[2], "-f");
    arena_done(&arena);
}

static void test_lists_and_bools(void **state)
{
    struct arena arena = ARENA_INIT;
    struct args args;
    struct err err = { 0 };
    assert_int_equal(read_words(&args, &arena, true, WORDS((char *)"-e", (char *)"a", (char *)"--env=b", (char *)"--force=false"), &err), 0);
    assert_int_equal(args_list(&args, "env")->len, 2);
    assert_true(args_given(&args, "force"));
    assert_false(args_flag(&args, "force"));
    arena_done(&arena);
}

static void test_refusals(void **state)
{
    static const struct {
        char *argv[3];
        const char *words;
    } cases[] = {
        { { (char *)"--nosuch" }, "flag provided but not defined: -nosuch" },
        { { (char *)"--bundle" }, "flag needs an argument: -bundle" },
        { { (char *)"--force=maybe" }, "invalid boolean value" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = ARENA_INIT;
        struct args args;
        struct err err = { 0 };
        assert_int_equal(read_words(&args, &arena, true, (char **)cases[i].argv, &err), -1);
        assert_non_null(strstr(err.message, cases[i].words));
        arena_done(&arena);
    }
}

static void test_ids(void **state)
{
    static const char *const good[] = { "a", "A_+.-9", "..." }, *const bad[] = { "", ".", "..", "a/b", "a b", "\xc3\xa4" };
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_int_equal(container_id_check(good[i], NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(container_id_check(bad[i], NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms), cmocka_unit_test(test_flags_after_words), cmocka_unit_test(test_lists_and_bools),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
