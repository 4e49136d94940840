#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "build/ignore.h"

static struct ignore *of_text(const char *text, struct arena *arena)
{
    struct ignore *ignore;
    struct err err;
    if (ignore_parse(slice_of(text), arena, &ignore, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    return ignore;
}

// The same by going down from the top, as a walk does.
static bool by_steps(const struct ignore *ignore, const char *path)
{
    bool flags[2][64], matched = false;
    const bool *above = NULL;
    int turn = 0;
    assert_true(ignore_len(ignore) <= 64);
    for (const char *end = path; *end; turn ^= 1) {
        const char *slash = strchr(*end == '/' ? end + 1 : end, '/');
        end = slash ? slash : path + strlen(path);
        char *part = mem_strndup(path, (size_t)(end - path));
        matched = ignore_match_below(ignore, part, above, flags[turn]);
        above = flags[turn];
        free(part);
    }
    return matched;
}

static void one_pattern(void **state)
{
    static const struct {
        const char *pattern, *path;
        bool match;
    } rows[] = {
        { "**", "file", true }, { "**", "dir/file", true }, { "**/", "file", true }, { "**/**", "dir/file", true }, { "dir/**", "dir/file", true },
        { "dir/**", "dir/dir2/file", true }, { "dir/**", "dirx", false }, { "**/dir", "dir", true }, { "**/dir", "a/b/dir", true }, { "**/dir", "a/dirx", false },
        { "**/dir2/*", "dir/dir2/file", true }, { "**/dir2/*", "dir/dir2/dir2/file", true }, { "**/dir2/**", "dir/dir2/x/file", true }, { "**/dir2/**", "dir2", false },
        { "**file", "file", true }, { "**file", "dir/file", true }, { "**file", "myfile", true }, { "**file", "filex", false }, { "**/file", "dir/dir/file", true },
        { "**/file*", "dir/file.txt", true }, { "**/file*txt", "dir/dir/filetxt", true }, { "**/file*.txt", "dir/dir/file.txt", true },
        { "**/**/*.txt", "dir/dir/file.txt", true }, { "**/**/*.txt2", "dir/dir/file.txt", false }, { "**/*.txt", "file.txt", true }, { "**/*", "dir/file", true },
        { "a**/*.txt", "a/file.txt", true }, { "a**/*.txt", "a/dir/file.txt", true }, { "a/*.txt", "a/dir/file.txt", false }, { "a/*.txt**", "a/file.txt", true },
        { "a[b-d]e", "ae", false }, { "a[b-d]e", "ace", true }, { "a[b-d]e", "aae", false }, { "a[^b-d]e", "aze", true }, { "a[^b-d]e", "ace", false },
        { "[ä-ü]x", "öx", true }, { "[\\]x]", "]", true }, { "[\\-x]", "-", true }, { ".*", ".foo", true }, { ".*", "foo", false },
        { "abc.def", "abcdef", false }, { "abc.def", "abc.def", true }, { "abc.def", "abcZdef", false }, { "abc?def", "abcZdef", true }, { "abc?def", "abcdef", false },
        { "abc?def", "abc/def", false }, { "a?c", "aäc", true }, { "a\\\\", "a\\", true }, { "\\*", "*", true }, { "\\*", "x", false }, { "a\\*b", "a*b", true },
        { "**/foo/bar", "foo/bar", true }, { "**/foo/bar", "dir/foo/bar", true }, { "**/foo/bar", "dir/dir2/foo/bar", true }, { "abc/**", "abc", false },
        { "abc/**", "abc/def", true }, { "abc/**", "abc/def/ghi", true }, { "**/.foo", ".foo", true }, { "**/.foo", "bar.foo", false },
        { "a(b)c/def", "a(b)c/def", true }, { "a(b)c/def", "a(b)c/xyz", false }, { "a.|)$(}+{bc", "a.|)$(}+{bc", true },
        { "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", true }, { "dist/*.whl", "dist/proxy.py-2.4.whl", true },
        // what is above
        { "dir", "dir/file", true }, { "dir/", "dir/a/b", true }, { "d*", "dir/a/b", true }, { "dir/*", "dir/a/b", true }, { "*/b", "a/b/c/d", true }, { "b", "a/b", false },
        // cleaned
        { "/dir", "dir", true }, { "./dir", "dir", true }, { "a//b", "a/b", true }, { "a/../b", "b", true }, { "a/./b/", "a/b", true }, { "../a", "a", false }, { "/../a", "a", true },
        { "  dir  ", "dir", true }, { "dir\r", "dir", true }, { "#dir", "#dir", false }, { " #dir", "#dir", true }, { "*", ".", false }, { "a^b*", "a^bc", true },
        { "**/x[^a]y", "q/xay", false }, { "**/x[^a]y", "q/xby", true }, { "*a*b*c*", "xxaxxbxxcxx", true }, { "*a*b*c*", "xxaxxcxxbxx", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena arena = ARENA_INIT;
        struct ignore *ignore = of_text(rows[i].pattern, &arena);
        if (ignore_match(ignore, rows[i].path) != rows[i].match || (!str_eq(rows[i].path, ".") && by_steps(ignore, rows[i].path) != rows[i].match))
            fail_msg("%s and %s: not %d", rows[i].pattern, rows[i].path, rows[i].match);
        arena_done(&arena);
    }
}

static void the_last_one_decides(void **state)
{
    static const struct {
        const char *file, *path;
        bool match;
    } rows[] = {
        { "*\n!keep", "keep", false }, { "*\n!keep", "other", true }, { "!keep\n*", "keep", true }, { "*\n!keep", "keep/below", false },
        { "docs\n!docs/README.md", "docs/README.md", false }, { "docs\n!docs/README.md", "docs/x", true }, { "*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true },
        { "*.md\n!README*.md\nREADME-secret.md", "README-1.md", false }, { "a\n!a/b\na/b/c", "a/b/c", true }, { "a\n!a/b\na/b/c", "a/b/d", false },
        { "**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", true }, { "**\n!dir\n!dir/file", "dir/file", false }, { "! keep \n*\n! keep ", "keep", false },
        { "!a\na", "a", true }, { "a/*\n!a/b/c", "a/b/c", false }, { "a/*\n!a/b/c", "a/b", true }, { "\xef\xbb\xbf" "a", "a", true }, { "", "a", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena arena = ARENA_INIT;
        struct ignore *ignore = of_text(rows[i].file, &arena);
        if (ignore_match(ignore, rows[i].path) != rows[i].match || by_steps(ignore, rows[i].path) != rows[i].match)
            fail_msg("%s and %s: not %d", rows[i].file, rows[i].path, rows[i].match);
        arena_done(&arena);
    }
}

static void folders_that_hide_something(void **state)
{
    static const struct {
        const char *file, *folder;
        bool walk;
    } rows[] = {
        { "*\n!a/b/keep", "a", true }, { "*\n!a/b/keep", "a/b", true }, { "*\n!a/b/keep", "a/b/keep", false }, { "*\n!a/b/keep", "b", false },
        { "*\n!ab/keep", "a", false }, { "*\n!**/keep", "x/y", true }, { "*\n!a*/keep", "abc", true }, { "*\n!a*/keep", "b", false }, { "*", "a", false }, { "*\n!a/*", "a", true },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena arena = ARENA_INIT;
        if (ignore_takes_back_below(of_text(rows[i].file, &arena), rows[i].folder) != rows[i].walk)
            fail_msg("%s and %s: not %d", rows[i].file, rows[i].folder, rows[i].walk);
        arena_done(&arena);
    }
}

static void wrong(void **state)
{
    static const char *const files[] = { "[", "a[", "[]", "[]a]", "[-]", "[a-]", "[a", "[^]", "[a-b-c]", "a\\", "!", "!  ", "[-x]", "[x-]" };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct arena arena = ARENA_INIT;
        struct ignore *ignore;
        struct err err = { 0 };
        if (ignore_parse(slice_of(files[i]), &arena, &ignore, &err) == 0)
            fail_msg("%s passed", files[i]);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        assert_non_null(strstr(err.message, strchr(files[i], '!') ? "illegal exclusion pattern: \"!\"" : "syntax error in pattern"));
        arena_done(&arena);
    }
    struct arena arena = ARENA_INIT;
    struct ignore *ignore;
    assert_int_equal(ignore_parse((struct slice){ "a\0b", 3 }, &arena, &ignore, NULL), -1);
    arena_done(&arena);
}

// Many stars against a long path: pattern times path, not more.
static void slow(void **state)
{
    struct arena arena = ARENA_INIT;
    char *pattern = mem_alloc(2001), *path = mem_alloc(4001);
    for (size_t i = 0; i < 2000; i += 4)
        memcpy(pattern + i, "*a**", 4);
    memset(path, 'a', 4000);
    path[3999] = 'b';
    pattern[1999] = 'c';
    assert_false(ignore_match(of_text(pattern, &arena), path));
    assert_true(ignore_hides_root(of_text("x\n**/*", &arena)) && !ignore_hides_root(of_text("x\n!**", &arena)));
    assert_true(ignore_has_exceptions(of_text("x\n!y", &arena)) && !ignore_has_exceptions(of_text("x", &arena)));
    free(pattern);
    free(path);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(one_pattern), cmocka_unit_test(the_last_one_decides), cmocka_unit_test(folders_that_hide_something),
                                        cmocka_unit_test(wrong), cmocka_unit_test(slow) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
