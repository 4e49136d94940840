#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>

#include "base/err.h"
#include "base/slice.h"

static void wraps_from_the_inside_out(void **state)
{
    struct err err = { 0 };
    assert_int_equal(err_errno(&err, ENOENT, "mount %s", "/data"), -1);
    assert_int_equal(err_wrap(&err, "create container %s", "web"), -1);
    assert_string_equal(err.message, "create container web: mount /data: no such file or directory");
    assert_int_equal(err.class, ERR_NOT_FOUND);
    assert_int_equal(err.number, ENOENT);
    err_set(&err, ERR_CONFLICT, "name %d taken", 7);
    assert_string_equal(err.message, "name 7 taken");
    assert_int_equal(err.number, 0);
    err_clear(&err);
    assert_int_equal(err.class, ERR_NONE);
    assert_string_equal(err.message, "");
}

static void takes_no_error(void **state)
{
    assert_int_equal(err_set(NULL, ERR_INTERNAL, "x"), -1);
    assert_int_equal(err_errno(NULL, EIO, "x"), -1);
    assert_int_equal(err_wrap(NULL, "x"), -1);
}

static void its_own_message_may_be_an_argument(void **state)
{
    struct err err = { 0 };
    err_set(&err, ERR_INTERNAL, "inner");
    err_set(&err, ERR_INTERNAL, "<%s>", err.message);
    assert_string_equal(err.message, "<inner>");
    err_wrap(&err, "again %s", err.message);
    assert_string_equal(err.message, "again <inner>: <inner>");
    err_errno(&err, EBUSY, "%s", err.message);
    assert_string_equal(err.message, "again <inner>: <inner>: device or resource busy");
}

static bool is_utf8(const char *text)
{
    struct slice left = slice_of(text);
    while (left.size) {
        size_t len = slice_utf8_len(left);
        if (!len)
            return false;
        left = (struct slice){ left.data + len, left.size - len };
    }
    return true;
}

static void is_cut_off_between_characters(void **state)
{
    // Whatever the alignment, the cut must not leave half a character: the message travels as JSON.
    for (size_t shift = 0; shift < 5; shift++) {
        struct err err = { 0 };
        char text[3000];
        memset(text, 'x', shift);
        for (size_t i = shift; i + 4 < sizeof(text); i += 4)
            memcpy(text + i, "\xf0\x9f\x90\xb3\0", 5);
        err_set(&err, ERR_INTERNAL, "%s", text);
        assert_true(strlen(err.message) < ERR_MESSAGE_SIZE && strlen(err.message) >= ERR_MESSAGE_SIZE - 4);
        assert_true(is_utf8(err.message));
        err_wrap(&err, "outside");
        assert_true(str_starts(err.message, "outside: "));
        assert_true(strlen(err.message) < ERR_MESSAGE_SIZE && is_utf8(err.message));
        err_errno(&err, EIO, "%s", text);
        assert_true(strlen(err.message) < ERR_MESSAGE_SIZE && is_utf8(err.message));
    }
}

static void exactly_full_is_not_cut(void **state)
{
    struct err err = { 0 };
    char text[ERR_MESSAGE_SIZE];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    err_set(&err, ERR_INTERNAL, "%s", text);
    assert_string_equal(err.message, text);
}

static void class_follows_errno(void **state)
{
    static const struct {
        int number;
        enum err_class class;
    } cases[] = {
        { ENOENT, ERR_NOT_FOUND },           { EEXIST, ERR_CONFLICT },           { EPERM, ERR_PERMISSION_DENIED },
        { EACCES, ERR_PERMISSION_DENIED },   { EINVAL, ERR_INVALID_ARGUMENT },   { ENOSYS, ERR_NOT_IMPLEMENTED },
        { EOPNOTSUPP, ERR_NOT_IMPLEMENTED }, { ENOSPC, ERR_RESOURCE_EXHAUSTED }, { EMFILE, ERR_RESOURCE_EXHAUSTED },
        { ENOMEM, ERR_RESOURCE_EXHAUSTED },  { EDQUOT, ERR_RESOURCE_EXHAUSTED }, { EIO, ERR_INTERNAL },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        err_errno(&err, cases[i].number, "x");
        assert_int_equal(err.class, cases[i].class);
    }
}

static void every_class_has_its_words(void **state)
{
    for (enum err_class class = ERR_NONE; class < ERR_CLASS_COUNT; class++) {
        assert_int_equal(err_class_parse(err_class_name(class)), class);
        assert_in_range(err_http_status(class), 200, 599);
        assert_in_range(err_exit_code(class), 0, 125);
    }
    assert_int_equal(err_class_parse("weather"), ERR_INTERNAL);
    assert_int_equal(err_class_parse(NULL), ERR_INTERNAL);
    assert_string_equal(err_class_name((enum err_class)99), "internal");
    assert_int_equal(err_http_status((enum err_class)99), 500);
    assert_int_equal(err_http_status(ERR_NOT_FOUND), 404);
    assert_int_equal(err_http_status(ERR_CONFLICT), 409);
    assert_int_equal(err_http_status(ERR_NOT_IMPLEMENTED), 501);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wraps_from_the_inside_out),
        cmocka_unit_test(takes_no_error),
        cmocka_unit_test(its_own_message_may_be_an_argument),
        cmocka_unit_test(is_cut_off_between_characters),
        cmocka_unit_test(exactly_full_is_not_cut),
        cmocka_unit_test(class_follows_errno),
        cmocka_unit_test(every_class_has_its_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
