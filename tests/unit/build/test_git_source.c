// How ADD and contexts name a git repository.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/defs.h"
#include "build/git_source.h"

static void test_repositories(void **state)
{
    static const struct {
        const char *text, *url, *ref, *subdir, *checksum;
        int keep;
        bool alone;
    } rows[] = {
        { "https://host/a.git", "https://host/a.git", "HEAD", "", NULL, -1, false },
        { "http://host:1/a.git#v1", "http://host:1/a.git", "v1", "", NULL, -1, false },
        { "https://host/a.git#:sub/dir", "https://host/a.git", "HEAD", "sub/dir", NULL, -1, false },
        { "https://host/a.git#main:sub", "https://host/a.git", "main", "sub", NULL, -1, false },
        { "https://host/a.git?branch=b&subdir=s&checksum=abc", "https://host/a.git", "refs/heads/b", "s", "abc", -1, false },
        { "https://host/a.git?tag=t&keep-git-dir=1&submodules=false", "https://host/a.git", "refs/tags/t", "", NULL, 1, true },
        { "https://host/a.git?ref=x&keep-git-dir=false", "https://host/a.git", "x", "", NULL, 0, false },
        { "https://host/a.git?ref=x#x", "https://host/a.git", "x", "", NULL, -1, false },
        { "https://host/a.git?tag=refs/tags/t&mtime=checkout", "https://host/a.git", "refs/tags/t", "", NULL, -1, false },
        { "https://host/a.git?branch=b&fetch-by-commit&commit=0123456789abcdef0123456789abcdef01234567", "https://host/a.git", "0123456789abcdef0123456789abcdef01234567", "", "0123456789abcdef0123456789abcdef01234567", -1, false },
        { "git@host:me/a", "git@host:me/a", "HEAD", "", NULL, -1, false },
        { "git@host:me/a.git#v2:d", "git@host:me/a.git", "v2", "d", NULL, -1, false },
        { "ssh://git@host/a", "ssh://git@host/a", "HEAD", "", NULL, -1, false },
        { "git://host/a#b", "git://host/a", "b", "", NULL, -1, false },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct git_source git;
        struct err err = { 0 };
        if (git_source_parse(rows[i].text, &arena, &git, &err) != 1)
            fail_msg("%s is none: %s", rows[i].text, err.message);
        assert_string_equal(git.url, rows[i].url);
        assert_string_equal(git.ref, rows[i].ref);
        assert_string_equal(git.subdir, rows[i].subdir);
        assert_string_equal(git.checksum ? git.checksum : "", rows[i].checksum ? rows[i].checksum : "");
        assert_int_equal(git.keep, rows[i].keep);
        assert_int_equal(git.submodules, !rows[i].alone);
    }
}

static void test_others(void **state)
{
    static const char *const none[] = { "a.git", "./a.git", "https://host/a.tar.gz", "https://host/.git/x", "http://host/git", "user@host", "@host:x", "a@b:/x", "" };
    static const char *const wrong[] = { "https://host/a.git#--upload-pack=x", "https://host/a.git#a..b", "https://host/a.git?what=1", "https://host/a.git?ref=a#b",
                                         "https://host/a.git?keep-git-dir=perhaps", "git@host:a b", "https://host/a.git#a\nb", "https://host/a.git?subdir=a#:b",
                                         "https://host/a.git?tag=a&branch=b", "https://host/a.git?fetch-by-commit=1", "https://host/a.git?fetch-by-commit&commit=abc",
                                         "https://host/a.git?mtime=commit", "https://host/a.git?mtime=x", "https://host/a.git?tag=a#b" };
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct git_source git;
    for (size_t i = 0; i < ARRAY_LEN(none); i++)
        if (git_source_parse(none[i], &arena, &git, NULL) != 0)
            fail_msg("\"%s\" is taken for one", none[i]);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct err err = { 0 };
        if (git_source_parse(wrong[i], &arena, &git, &err) != -1 || err.class != ERR_INVALID_ARGUMENT)
            fail_msg("\"%s\" is taken", wrong[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_repositories), cmocka_unit_test(test_others) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
