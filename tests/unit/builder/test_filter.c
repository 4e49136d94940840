// Filters of the build cache: what fits, and what is no filter.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "builder/builder_private.h"

static const struct build_entry step = { .id = (char[]){ "sha256:abc0" }, .image_id = (char[]){ "sha256:1" }, .parent = (char[]){ "sha256:fff0" }, .description = (char[]){ "/bin/sh -c make, then \"test\"" }, .type = "regular", .shared = true },
                                mount = { .id = (char[]){ "sha256:def0" }, .description = (char[]){ "cached mount /root/.npm with id \"npm\"" }, .type = "exec.cachemount", .in_use = true };

static int fits(const char *first, const char *second, const struct build_entry *entry, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct strv texts = { 0 };
    struct entry_filters filters;
    strv_push_arena(&texts, &arena, first);
    if (second)
        strv_push_arena(&texts, &arena, second);
    return entry_filters_parse(&texts, &arena, &filters, err) < 0 ? -1 : entry_filters_fit(&filters, entry);
}

static void test_what_fits(void **state)
{
    static const struct {
        const char *first, *second;
        int step, mount;
    } cases[] = {
        { "", NULL, 1, 1 },
        { "type==regular", NULL, 1, 0 },
        { "type==exec.cachemount", NULL, 0, 1 },
        { "type!=regular", NULL, 0, 1 },
        { "id~=^sha256:abc", NULL, 1, 0 },
        { "id==def0", NULL, 0, 1 },
        { "id==sha256:def0", NULL, 0, 1 },
        { "id!=def0", NULL, 1, 0 },
        { "parent", NULL, 1, 0 },
        { "parent==fff0", NULL, 1, 0 },
        { "parent==", NULL, 0, 1 },
        { "inuse", NULL, 0, 1 },
        { "inuse==true", NULL, 0, 1 },
        { "inuse==false", NULL, 1, 0 },
        { "inuse!=true", NULL, 1, 0 },
        { "shared", NULL, 1, 0 },
        { "private", NULL, 0, 1 },
        { "mutable", NULL, 0, 1 },
        { "immutable", NULL, 1, 0 },
        { "type==regular,inuse", NULL, 0, 0 },
        { "type==exec.cachemount,inuse", NULL, 0, 1 },
        { "type==regular,inuse", "inuse", 0, 1 },
        { "inuse", "shared", 1, 1 },
        { "description~=\"make, then\"", NULL, 1, 0 },
        { "description~=npm", NULL, 0, 1 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        assert_int_equal(fits(cases[i].first, cases[i].second, &step, &err), cases[i].step);
        assert_int_equal(fits(cases[i].first, cases[i].second, &mount, &err), cases[i].mount);
    }
}

static void test_what_is_none(void **state)
{
    static const char *const texts[] = { "color==red", "type=regular", "type", "=", ",", "type==x,", "id~=(", "id~", "ID==x", "type==a,,type==b" };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct err err = { 0 };
        int fit = fits(texts[i], NULL, &step, &err);
        if (strcmp(texts[i], "type") == 0)
            assert_int_equal(fit, 1);
        else
            assert_true(fit == -1 && err.class == ERR_INVALID_ARGUMENT && strncmp(err.message, "invalid filter: ", 16) == 0);
    }
    _cleanup_buf_ struct buf many = BUF_INIT(1000);
    for (int i = 0; i < 40; i++)
        buf_adds(&many, i ? ",inuse" : "inuse");
    struct err err = { 0 };
    assert_int_equal(fits(buf_text(&many), NULL, &step, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_fits),
        cmocka_unit_test(test_what_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
