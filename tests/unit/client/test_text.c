#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "client/text.h"

static void sizes_and_ages(void **state)
{
    char out[TEXT_SIZE];
    assert_string_equal(text_size(0, 4, out), "0B");
    assert_string_equal(text_size(1984000, 3, out), "1.98MB");
    assert_string_equal(text_size(1500, 4, out), "1.5kB");
    assert_string_equal(text_size_1024(221184, out), "216KiB");
    static const struct {
        int64_t seconds;
        const char *age;
    } ages[] = { { 0, "Less than a second" }, { 1, "1 second" }, { 59, "59 seconds" }, { 60, "About a minute" }, { 119, "About a minute" }, { 120, "2 minutes" },
                 { 3599, "59 minutes" }, { 3600, "About an hour" }, { 5399, "About an hour" }, { 5400, "2 hours" }, { 47 * 3600, "47 hours" }, { 48 * 3600, "2 days" },
                 { 14 * 86400, "2 weeks" }, { 60 * 86400, "2 months" }, { 730 * 86400, "2 years" } };
    for (size_t i = 0; i < ARRAY_LEN(ages); i++)
        assert_string_equal(text_age(ages[i].seconds, out), ages[i].age);
}

static void check(void (*function)(const char *text, struct buf *out), const char *text, const char *wanted)
{
    struct buf out = BUF_INIT(4096);
    function(text, &out);
    assert_string_equal(buf_text(&out), wanted);
    buf_done(&out);
}

static void twenty(const char *text, struct buf *out)
{
    text_ellipsis(text, 5, out);
}

static void indented(const char *text, struct buf *out)
{
    text_indent(slice_of(text), "  ", "    ", out);
}

static void table(const char *text, struct buf *out)
{
    text_table(slice_of(text), 4, 2, out);
}

static void quoted(const char *text, struct buf *out)
{
    buf_add_quoted(out, text);
}

static void texts(void **state)
{
    check(quoted, "a\"b\\\n\x01\xff\xc3\xa9", "\"a\\\"b\\\\\\n\\x01\\xff\xc3\xa9\"");
    check(twenty, "abcde", "abcde");
    check(twenty, "abcdef", "abcd…");
    check(twenty, "日本語", "日本…");
    check(indented, "{\"a\":[1,{}],\"b\":\"{\\\",:\",\"c\":[]}", "{\n      \"a\": [\n          1,\n          {}\n      ],\n      \"b\": \"{\\\",:\",\n      \"c\": []\n  }");
    check(indented, "\"\\", "\"\\");
}

static void columns(void **state)
{
    check(table, "A\tB\tC\nlonger\tx\ty\n", "A       B   C\nlonger  x   y\n");
    check(table, "a\tb\n\nlonger\tb\n", "a   b\n\nlonger  b\n"); // an empty line ends the columns
    check(table, "日本\tx\na\tx", "日本  x\na     x");
    check(table, "", "");
    check(table, "\t\t\n", "            \n" + 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(sizes_and_ages), cmocka_unit_test(texts), cmocka_unit_test(columns) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
