#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/file.h"
#include "kernel/path.h"

struct tree {
    char dir[64];
    int base, root; // root/ is what paths count from; base/outside must stay untouched
};

static int tree_up(void **state)
{
    struct tree *tree = mem_new(struct tree);
    snprintf(tree->dir, sizeof(tree->dir), "/tmp/berth-path-XXXXXX");
    assert_non_null(mkdtemp(tree->dir));
    tree->base = open(tree->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    static const char *const dirs[] = { "outside", "root", "root/a", "root/a/b" };
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        assert_int_equal(mkdirat(tree->base, dirs[i], 0755), 0);
    tree->root = openat(tree->base, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct err err = { 0 };
    assert_int_equal(file_write_at(tree->base, "root/a/file", "text", 4, 0644, false, &err), 0);
    assert_int_equal(file_write_at(tree->base, "secret", "no", 2, 0644, false, &err), 0);
    static const char *const links[][2] = {
        { "root/absolute", "/a/b" },  { "root/up", "../../outside" },    { "root/host", "/etc" },
        { "root/dangling", "made/x" }, { "root/a/dangling", "../late/y" }, { "root/loop", "loop" },
        { "root/secret", "../secret" }, { "root/dead", "/new/place" },    { "root/magic", "/proc/self/root" },
    };
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        assert_int_equal(symlinkat(links[i][1], tree->base, links[i][0]), 0);
    *state = tree;
    return 0;
}

static int tree_down(void **state)
{
    struct tree *tree = *state;
    struct err err = { 0 };
    DIR *outside = fdopendir(openat(tree->base, "outside", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int entries = 0;
    while (readdir(outside))
        entries++;
    closedir(outside);
    assert_int_equal(entries, 2); // "." and ".."
    close(tree->root);
    close(tree->base);
    assert_int_equal(file_remove_tree(AT_FDCWD, tree->dir, &err), 0);
    free(tree);
    return 0;
}

static bool same(struct tree *tree, int fd, const char *path)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && fstatat(tree->base, path, &b, 0) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static void test_open(void **state)
{
    static const struct {
        const char *path, *is; // NULL: refused
    } cases[] = {
        { "/", "root" },      { "", "root" },     { "a/b", "root/a/b" },  { "/a/../a/b", "root/a/b" }, { "absolute", "root/a/b" },
        { "..", "root" },     { "/../..", "root" }, { "a/../../a", "root/a" }, { "up", NULL },        { "host", NULL },
        { "secret", NULL },   { "loop", NULL },   { "nosuch", NULL },      { "a/file/x", NULL },
    };
    struct tree *tree = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        _cleanup_close_ int fd = path_open(tree->root, cases[i].path, false, &err);
        if (!cases[i].is != (fd < 0) || (fd >= 0 && !same(tree, fd, cases[i].is)))
            fail_msg("%s: %s", cases[i].path, fd < 0 ? err.message : "opened something else");
    }
    struct stat st;
    _cleanup_close_ int link = path_open(tree->root, "host", true, NULL);
    assert_true(fstat(link, &st) == 0 && S_ISLNK(st.st_mode));
    struct err err = { 0 };
    assert_int_equal(path_open_plain(tree->root, "absolute", &err), -1);
    assert_int_equal(err.number, ELOOP);
    _cleanup_close_ int plain = path_open_plain(tree->root, "/a/b", &err);
    assert_true(plain >= 0);
}

static void test_make_dir(void **state)
{
    static const struct {
        const char *path, *is;
    } cases[] = {
        { "/a/b", "root/a/b" },
        { "a/c/d/e", "root/a/c/d/e" },
        { "up/x/y", "root/outside/x/y" }, // the link leads to /outside of the root, which is made
        { "dangling/z", "root/made/x/z" },
        { "a/dangling", "root/late/y" },
        { "dead", "root/new/place" },
        { "/a/../n/./m", "root/n/m" },
        { "loop/x", NULL },
        { "a/file/x", NULL },
        { "nosuch/../x", "root/x" },
    };
    struct tree *tree = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        _cleanup_close_ int fd = path_make_dir(tree->root, cases[i].path, 0755, &err);
        if (!cases[i].is != (fd < 0) || (fd >= 0 && !same(tree, fd, cases[i].is)))
            fail_msg("%s: %s", cases[i].path, fd < 0 ? err.message : "made something else");
    }
}

// The longest path that there can be costs a moment, not minutes.
static void test_make_deep(void **state)
{
    struct tree *tree = *state;
    struct err err = { 0 };
    char path[PATH_MAX] = "a/new/../n";
    size_t used = strlen(path);
    while (used < sizeof(path) / 2)
        used += (size_t)snprintf(path + used, 3, "/d");
    int64_t before = clock();
    _cleanup_close_ int fd = path_make_dir(tree->root, path, 0755, &err);
    if (fd < 0)
        fail_msg("%s", err.message);
    assert_true(same(tree, fd, "root/a/n") == false);
    assert_true((clock() - before) / CLOCKS_PER_SEC < 3);
}

static void test_make_file(void **state)
{
    static const struct {
        const char *path, *is;
    } cases[] = {
        { "a/file", "root/a/file" }, { "new1/file", "root/new1/file" }, { "dangling", "root/made/x" }, { "loop", NULL },
        { "up/f", "root/outside/f" }, { "a/", "root/a" },              { "/..", "root" },
    };
    struct tree *tree = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        _cleanup_close_ int fd = path_make_file(tree->root, cases[i].path, 0644, &err);
        if (!cases[i].is != (fd < 0) || (fd >= 0 && !same(tree, fd, cases[i].is)))
            fail_msg("%s: %s", cases[i].path, fd < 0 ? err.message : "made something else");
    }
}

static void test_read_file(void **state)
{
    struct tree *tree = *state;
    struct err err = { 0 };
    char *text = NULL;
    size_t size = 0;
    assert_int_equal(path_read_file(tree->root, "/a/file", 4, &text, &size, &err), 0);
    assert_int_equal(size, 4);
    assert_string_equal(text, "text");
    free(text);
    assert_int_equal(path_read_file(tree->root, "/a/file", 3, &text, &size, &err), -1);
    assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
    assert_int_equal(path_read_file(tree->root, "a", 100, &text, &size, &err), -1);
    assert_int_equal(mkfifoat(tree->base, "root/fifo", 0644), 0);
    assert_int_equal(path_open_file(tree->root, "fifo", &err), -1); // and does not wait
    assert_int_equal(path_open_file(tree->root, "secret", &err), -1);
    char *large = mem_alloc(100000);
    assert_int_equal(file_write_at(tree->base, "root/large", large, 100000, 0644, false, &err), 0);
    free(large);
    assert_int_equal(path_read_file(tree->root, "large", 1 << 20, &text, &size, &err), 0);
    assert_int_equal(size, 100000);
    free(text);
}

static void test_parent_and_node(void **state)
{
    struct tree *tree = *state;
    struct err err = { 0 };
    char *name = NULL;
    _cleanup_close_ int parent = path_open_parent(tree->root, "/absolute/last/", false, &name, &err);
    assert_true(same(tree, parent, "root/a/b"));
    assert_string_equal(name, "last");
    free(name);
    static const char *const bad[] = { "", "/", "a/..", "a/.", ".." };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(path_open_parent(tree->root, bad[i], true, &name, &err), -1);
    assert_int_equal(path_make_node(tree->root, "/dev/x/fifo", S_IFIFO | 0600, 0, 0, 0, &err), 0);
    assert_int_equal(path_make_node(tree->root, "/dev/x/fifo", S_IFIFO | 0600, 0, 0, 0, &err), 0); // the same: fine
    assert_int_equal(path_make_node(tree->root, "/a/file", S_IFIFO | 0600, 0, 0, 0, &err), -1);
    assert_int_equal(path_make_node(tree->root, "/host", S_IFIFO | 0600, 0, 0, 0, &err), -1); // a link is not followed
}

// A folder and a link to the outside change places all the time.
static void test_race(void **state)
{
    struct tree *tree = *state;
    assert_int_equal(symlinkat("../../outside", tree->base, "root/a/link"), 0);
    pid_t racer = fork();
    if (racer == 0)
        for (;;)
            renameat2(tree->base, "root/a/b", tree->base, "root/a/link", 2 /* RENAME_EXCHANGE */);
    for (int i = 0; i < 3000; i++) {
        char path[64];
        snprintf(path, sizeof(path), "a/b/%d/c", i);
        fd_close(path_make_dir(tree->root, path, 0755, NULL));
        snprintf(path, sizeof(path), "a/b/f%d", i);
        fd_close(path_make_file(tree->root, path, 0644, NULL));
    }
    kill(racer, SIGKILL);
    waitpid(racer, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_open, tree_up, tree_down),
        cmocka_unit_test_setup_teardown(test_make_dir, tree_up, tree_down),
        cmocka_unit_test_setup_teardown(test_make_deep, tree_up, tree_down),
        cmocka_unit_test_setup_teardown(test_make_file, tree_up, tree_down),
        cmocka_unit_test_setup_teardown(test_read_file, tree_up, tree_down),
        cmocka_unit_test_setup_teardown(test_parent_and_node, tree_up, tree_down),
        cmocka_unit_test_setup_teardown(test_race, tree_up, tree_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
