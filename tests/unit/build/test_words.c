#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buf.h"
#include "build/words.h"

// The variables of every case; NOSUCH is not among them.
static const char *lookup(void *of, const char *name)
{
    static const char *const values[][2] = {
        { "v", "value" }, { "empty", "" }, { "path", "a/b/c.tar.gz" }, { "spaces", "ab  c" }, { "edges", "  ab c" }, { "tail", "ab c   " }, { "stars", "a*b?c" },
        { "foo", "foofoo" }, { "utf", "äöü" }, { "A1_b", "name" }, { "lines", "one\ntwo" }, { "1", "first" }, { "slash", "x/y" },
    };
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        if (str_eq(name, values[i][0]))
            return values[i][1];
    return NULL;
}

static const struct {
    const char *text, *result; // NULL: `error`
    const char *error;
} cases[] = {
    { "", "", NULL },
    { "plain", "plain", NULL },
    { "two  words ", "two  words ", NULL },
    // quotes and escapes
    { "'$v'", "$v", NULL },
    { "\"$v\"", "value", NULL },
    { "\"'$v'\"", "'value'", NULL },
    { "'a'b\"c\"", "abc", NULL },
    { "\\$v", "$v", NULL },
    { "\\\\$v", "\\value", NULL },
    { "\"\\$v\"", "$v", NULL },
    { "\"\\\"\"", "\"", NULL },
    { "\"\\x\"", "\\x", NULL },
    { "'\\\\there'", "\\\\there", NULL },
    { "a\\ b", "a b", NULL },
    { "a\\", "a", NULL },
    { "'a", NULL, "failed to process \"'a\": unexpected end of statement while looking for matching single-quote" },
    { "\"a", NULL, "failed to process \"\\\"a\": unexpected end of statement while looking for matching double-quote" },
    // names
    { "$v", "value", NULL },
    { "${v}", "value", NULL },
    { "x$v-y", "xvalue-y", NULL },
    { "$A1_b.", "name.", NULL },
    { "$NOSUCH", "", NULL },
    { "${NOSUCH}x", "x", NULL },
    { "$", "$", NULL },
    { "$ v", "$ v", NULL },
    { "$1v", "firstv", NULL },
    { "${1}", "first", NULL },
    { "$@x", "x", NULL },
    { "a$", "a$", NULL },
    { "${v", NULL, "failed to process \"${v\": syntax error: missing '}'" },
    { "${", NULL, "failed to process \"${\": syntax error: missing '}'" },
    { "${}", NULL, "failed to process \"${}\": syntax error: bad substitution" },
    { "${:}", NULL, "failed to process \"${:}\": syntax error: bad substitution" },
    { "${{v}}", NULL, "failed to process \"${{v}}\": syntax error: bad substitution" },
    { "${v^^}", NULL, "failed to process \"${v^^}\": unsupported modifier (^) in substitution" },
    { "${v:5}", NULL, "failed to process \"${v:5}\": unsupported modifier (:5) in substitution" },
    { "${v:#a}", NULL, "failed to process \"${v:#a}\": unsupported modifier (:#) in substitution" },
    // set, unset, empty
    { "${v:-w}", "value", NULL },
    { "${v-w}", "value", NULL },
    { "${empty:-w}", "w", NULL },
    { "${empty-w}", "", NULL },
    { "${NOSUCH:-w}", "w", NULL },
    { "${NOSUCH-w}", "w", NULL },
    { "${NOSUCH:-}", "", NULL },
    { "${v:+w}", "w", NULL },
    { "${v+w}", "w", NULL },
    { "${empty:+w}", "", NULL },
    { "${empty+w}", "w", NULL },
    { "${NOSUCH:+w}", "", NULL },
    { "${NOSUCH+w}", "", NULL },
    { "${v:?w}", "value", NULL },
    { "${v?w}", "value", NULL },
    { "${empty?w}", "", NULL },
    { "${empty:?}", NULL, "failed to process \"${empty:?}\": empty: is not allowed to be empty" },
    { "${empty:?no way}", NULL, "failed to process \"${empty:?no way}\": empty: no way" },
    { "${NOSUCH:?}", NULL, "failed to process \"${NOSUCH:?}\": NOSUCH: is not allowed to be unset" },
    { "${NOSUCH?is $v}", NULL, "failed to process \"${NOSUCH?is $v}\": NOSUCH: is value" },
    { "${NOSUCH:-${v}}", "value", NULL },
    { "${NOSUCH:-${alsonot:-deep}}", "deep", NULL },
    { "${NOSUCH:-a'}'b}", "a}b", NULL },
    { "${NOSUCH:-a\\}b}", "a}b", NULL },
    { "${NOSUCH:-\"$v\"}", "value", NULL },
    { "${NOSUCH:-a", NULL, "failed to process \"${NOSUCH:-a\": syntax error: missing '}'" },
    // heads and tails
    { "${path#*/}", "b/c.tar.gz", NULL },
    { "${path##*/}", "c.tar.gz", NULL },
    { "${path%.*}", "a/b/c.tar", NULL },
    { "${path%%.*}", "a/b/c", NULL },
    { "${path%/*}", "a/b", NULL },
    { "${path#x}", "a/b/c.tar.gz", NULL },
    { "${path#a}", "/b/c.tar.gz", NULL },
    { "${path##*}", "", NULL },
    { "${path#*}", "a/b/c.tar.gz", NULL },
    { "${path%%*}", "", NULL },
    { "${path%gz}", "a/b/c.tar.", NULL },
    { "${path#?}", "/b/c.tar.gz", NULL },
    { "${path%???}", "a/b/c.tar", NULL },
    { "${utf#?}", "öü", NULL },
    { "${utf%?}", "äö", NULL },
    { "${utf%ü}", "äö", NULL },
    { "${stars#a\\*}", "b?c", NULL },
    { "${stars%\\?c}", "a*b", NULL },
    { "${stars#a\\b}", NULL, "failed to process \"${stars#a\\\\b}\": invalid pattern (a\\b) in substitution: invalid escape '\\b'" },
    { "${NOSUCH#a}", "", NULL },
    { "${foo#f*o}", "ofoo", NULL },
    { "${foo##f*o}", "", NULL },
    { "${foo%f*o}", "foo", NULL },
    { "${foo%%f*o}", "", NULL },
    { "${lines#*o}", "ne\ntwo", NULL },
    { "${lines##*e}", "\ntwo", NULL },
    { "${v#${v}}", "", NULL },
    // replacement
    { "${foo/o/a}", "faofoo", NULL },
    { "${foo//o/a}", "faafaa", NULL },
    { "${foo//oo/}", "ff", NULL },
    { "${foo/f*f/x}", "xoo", NULL },
    { "${foo//f?/x}", "xoxo", NULL },
    { "${foo/nope/x}", "foofoo", NULL },
    { "${foo/*/x}", "x", NULL },
    { "${foo/o/$v}", "fvalueofoo", NULL },
    { "${path//\\//-}", "a-b-c.tar.gz", NULL },
    { "${slash/x\\/y/z}", "z", NULL },
    { "${path/./_}", "a/b/c_tar.gz", NULL },
    { "${path//./_}", "a/b/c_tar_gz", NULL },
    { "${utf//ö/o}", "äoü", NULL },
    { "${empty//a/b}", "", NULL },
    { "${foo/o}", NULL, "failed to process \"${foo/o}\": syntax error: missing '/' in ${}" },
    { "${foo/o/a", NULL, "failed to process \"${foo/o/a\": syntax error: missing '}'" },
    // not heredocs here
    { "a<b << c", "a<b << c", NULL },
};

static void one_word(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = ARENA_INIT;
        struct words words = { .arena = &arena, .escape = '\\', .lookup = lookup };
        struct err err = { 0 };
        const char *got = NULL;
        int result = words_expand(&words, cases[i].text, &got, &err);
        if (cases[i].result && result < 0)
            fail_msg("%s: %s", cases[i].text, err.message);
        if (cases[i].result)
            assert_string_equal(got, cases[i].result);
        else
            assert_string_equal(err.message, cases[i].error);
        assert_int_equal(result, cases[i].result ? 0 : -1);
        arena_done(&arena);
    }
}

static void many_words(void **state)
{
    static const struct {
        const char *text, *words; // joined by '|'
    } lists[] = {
        { "hello", "hello" },
        { "hello${NOSUCH}bye", "hellobye" },
        { "hello${spaces}bye", "helloab|cbye" },
        { "hello\"${spaces}\"bye", "helloab  cbye" },
        { "hello \"${spaces}\"bye", "hello|ab  cbye" },
        { "hello${edges}def", "hello|ab|cdef" },
        { "hello\"${edges}\" def", "hello  ab c|def" },
        { "hello${tail}", "helloab|c" },
        { "hello${tail}d", "helloab|c|d" },
        { "hello there     ", "hello|there" },
        { "hello\\ there", "hello there" },
        { "hello\" there  \"", "hello there  " },
        { "a\xc2\xa0" "b\tc\nd", "a|b|c|d" },
        { "  ", "" },
        { "a${NOSUCH:-b} c", "ab|c" },
        { "<<  EOF x", "<<  EOF|x" },
    };
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        struct arena arena = ARENA_INIT;
        struct words words = { .arena = &arena, .escape = '\\', .lookup = lookup };
        struct buf got = BUF_INIT(1000);
        struct strv list;
        assert_int_equal(words_split(&words, lists[i].text, &list, NULL), 0);
        for (size_t j = 0; j < list.len; j++)
            buf_addf(&got, "%s%s", j ? "|" : "", list.items[j]);
        assert_string_equal(buf_text(&got), lists[i].words);
        buf_done(&got);
        arena_done(&arena);
    }
}

static void flags(void **state)
{
    static const struct {
        const char *text;
        char escape;
        unsigned flags;
        const char *result;
    } rows[] = {
        { "`$v \\$v", '`', 0, "$v \\value" },
        { "\"a `\" b\"", '`', 0, "a \" b" },
        { "'a' \"$v\"", '\\', WORDS_RAW_QUOTES, "'a' \"value\"" },
        { "a\\ b", '\\', WORDS_RAW_ESCAPES, "a\\ b" },
        { "it's \"$v\" \\$v", '\\', WORDS_PLAIN_QUOTES, "it's \"value\" $v" },
        { "$NOSUCH ${NOSUCH} ${NOSUCH:-x} ${NOSUCH%%y} ${NOSUCH/a/b} $v", '\\', WORDS_KEEP_UNSET,
          "$NOSUCH ${NOSUCH} ${NOSUCH:-x} ${NOSUCH%%y} ${NOSUCH/a/b} value" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena arena = ARENA_INIT;
        struct words words = { .arena = &arena, .escape = rows[i].escape, .flags = rows[i].flags, .lookup = lookup };
        const char *got;
        assert_int_equal(words_expand(&words, rows[i].text, &got, NULL), 0);
        assert_string_equal(got, rows[i].result);
        arena_done(&arena);
    }
}

static void notes(void **state)
{
    struct arena arena = ARENA_INIT;
    struct strv matched = { 0 }, unmatched = { 0 };
    struct words words = { .arena = &arena, .escape = '\\', .lookup = lookup, .matched = &matched, .unmatched = &unmatched };
    const char *got;
    assert_int_equal(words_expand(&words, "$v $x ${v} ${y:-$foo} '$z'", &got, NULL), 0);
    assert_int_equal(matched.len, 2);
    assert_int_equal(unmatched.len, 2);
    assert_true(strv_has(&matched, "v") && strv_has(&matched, "foo") && strv_has(&unmatched, "x") && strv_has(&unmatched, "y"));
    arena_done(&arena);
}

// What is made to be slow or deep ends soon, with a result or a message.
static void hostile(void **state)
{
    struct arena arena = ARENA_INIT;
    struct words words = { .arena = &arena, .escape = '\\', .lookup = lookup };
    struct err err;
    const char *got;
    char *deep = mem_alloc(40001), *pattern = mem_alloc(60003);
    for (size_t i = 0; i < 40000; i += 4)
        memcpy(deep + i, "${a-", 4);
    assert_int_equal(words_expand(&words, deep, &got, &err), -1);
    assert_non_null(strstr(err.message, "nested deeper than 64"));
    memset(pattern, '*', 60000);
    memcpy(pattern, "${path//", 8);
    memcpy(pattern + 60000, "/}", 3);
    assert_int_equal(words_expand(&words, pattern, &got, &err), 0);
    assert_string_equal(got, "");
    for (size_t i = 8; i < 59000; i += 2)
        memcpy(pattern + i, "*x", 2);
    assert_int_equal(words_expand(&words, pattern, &got, &err), 0);
    free(deep);
    free(pattern);
    arena_done(&arena);
}

static const char *large(void *of, const char *name)
{
    return of;
}

// Many starts and no end: each would be tried to the end of the value by a matcher that goes back.
static void no_going_back(void **state)
{
    struct arena arena = ARENA_INIT;
    char *value = mem_alloc(200001);
    struct words words = { .arena = &arena, .escape = '\\', .lookup = large, .of = value };
    const char *got;
    memset(value, 'a', 200000);
    assert_int_equal(words_expand(&words, "${v//a*a*a*b/x}", &got, NULL), 0);
    assert_int_equal(strlen(got), 200000);
    assert_int_equal(words_expand(&words, "${v%%b*b}${v##*a*b}", &got, NULL), 0);
    assert_int_equal(strlen(got), 400000);
    struct err err;
    char *text = mem_alloc(101);
    for (size_t i = 0; i < 100; i += 2)
        memcpy(text + i, "$v", 2);
    assert_int_equal(words_expand(&words, text, &got, &err), -1); // 10 MB
    free(text);
    free(value);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(one_word), cmocka_unit_test(many_words), cmocka_unit_test(flags),
                                        cmocka_unit_test(notes),    cmocka_unit_test(hostile),    cmocka_unit_test(no_going_back) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
