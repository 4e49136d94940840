// --chmod's symbolic form, by chmod(1)'s own answers.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/defs.h"
#include "build/chmod.h"

static void test_changes(void **state)
{
    static const struct {
        const char *text;
        bool folder;
        uint32_t before, after;
    } rows[] = {
        { "u=rwx,go=rx", false, 0600, 0755 },
        { "a+x", false, 0644, 0755 },
        { "a-w", false, 0666, 0444 },
        { "go=", false, 0777, 0700 },
        { "go=u-w", false, 0750, 0755 },
        { "u=rwX,go=rX", false, 0666, 0644 },
        { "u=rwX,go=rX", false, 0700, 0755 },
        { "u=rwX,go=rX", true, 0700, 0755 },
        { "a+X", false, 0644, 0644 },
        { "a+X", true, 0644, 0755 },
        { "+w", false, 0444, 0644 }, // a umask of 022
        { "+x", false, 0644, 0755 },
        { "=r", false, 0777, 0444 },
        { "g=u", false, 0700, 0770 },
        { "o+u", false, 0704, 0707 },
        { "u+s", false, 0755, 04755 },
        { "g+s", true, 0755, 02755 },
        { "u-s", false, 04755, 0755 },
        { "+t", true, 0777, 01777 },
        { "o+s", false, 0755, 0755 },
        { "u=rw+x", false, 0000, 0700 },
        { "ug=rw,o=", false, 0777, 0660 },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint32_t mode = rows[i].before;
        if (!chmod_apply(rows[i].text, rows[i].folder, &mode) || mode != rows[i].after)
            fail_msg("%s of %04o is %04o", rows[i].text, rows[i].before, mode);
    }
}

static void test_what_is_none(void **state)
{
    static const char *const texts[] = { "", "u", "u=rwx,", ",u=r", "z+x", "u=q", "u=rwx;", "rwx", "u~x", "a+x,,o-r", "u+x=" " " };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        uint32_t mode = 0640;
        if (chmod_apply(texts[i], false, &mode) || mode != 0640)
            fail_msg("\"%s\" was taken", texts[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_changes), cmocka_unit_test(test_what_is_none) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
