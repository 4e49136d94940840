#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/file.h"

struct fixture {
    char path[32];
    int dir;
};

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(struct fixture);
    snprintf(fixture->path, sizeof(fixture->path), "/tmp/berth-file-XXXXXX");
    if (!mkdtemp(fixture->path))
        return -1;
    fixture->dir = file_open_dir(AT_FDCWD, fixture->path, NULL);
    *state = fixture;
    return fixture->dir < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    int result = file_remove_tree(AT_FDCWD, fixture->path, NULL);
    fd_close(fixture->dir);
    free(fixture);
    return result;
}

static bool exists(int dir, const char *path)
{
    return faccessat(dir, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static size_t count_entries(int dir, const char *path)
{
    int fd = file_open_dir(dir, path, NULL);
    _cleanup_dir_ DIR *stream = fdopendir(fd);
    size_t len = 0;
    while (readdir(stream))
        len++;
    return len - 2; // without . and ..
}

static void put_file(int dir, const char *path, const char *text)
{
    assert_int_equal(file_write_at(dir, path, text, strlen(text), 0644, false, NULL), 0);
}

static void folders(void **state)
{
    const struct fixture *fixture = *state;
    struct err err;
    static const char *const good[] = { "a", "a/b/c", "a/b/c/", "a//d", "./e/../e/f" };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(file_mkdirs(fixture->dir, good[i], 0700, &err), 0);
        assert_int_equal(file_mkdirs(fixture->dir, good[i], 0700, &err), 0);
        fd_close(file_open_dir(fixture->dir, good[i], &err));
    }
    assert_int_equal(file_mkdirs(AT_FDCWD, "/", 0700, &err), 0);
    _cleanup_free_ char *absolute = mem_printf("%s/x/y", fixture->path);
    assert_int_equal(file_mkdirs(AT_FDCWD, absolute, 0700, &err), 0);
    put_file(fixture->dir, "file", "");
    assert_int_equal(file_mkdirs(fixture->dir, "file", 0700, &err), -1); // exists, but is none
    assert_int_equal(err.number, ENOTDIR);
    assert_int_equal(file_mkdirs(fixture->dir, "file/x", 0700, &err), -1);
    assert_int_equal(err.number, ENOTDIR);
    assert_int_equal(file_mkdirs(fixture->dir, "", 0700, &err), -1);
    assert_int_equal(file_open_dir(fixture->dir, "file", &err), -1);
    assert_int_equal(file_open_dir(fixture->dir, "none", &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);
}

static void reading_stops_at_the_ceiling(void **state)
{
    const struct fixture *fixture = *state;
    struct err err;
    put_file(fixture->dir, "ten", "0123456789");
    static const struct {
        size_t ceiling;
        int result;
    } cases[] = { { 100000, 0 }, { 11, 0 }, { 10, 0 }, { 9, -1 }, { 0, -1 } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_buf_ struct buf buf = BUF_INIT(cases[i].ceiling);
        assert_int_equal(file_read_at(fixture->dir, "ten", &buf, &err), cases[i].result);
        if (cases[i].result == 0)
            assert_string_equal(buf_text(&buf), "0123456789");
        else
            assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
    }
    _cleanup_buf_ struct buf buf = BUF_INIT(15);
    put_file(fixture->dir, "empty", "");
    assert_int_equal(file_read_at(fixture->dir, "empty", &buf, &err), 0);
    assert_string_equal(buf_text(&buf), "");
    buf_adds(&buf, "head ");
    assert_int_equal(file_read_at(fixture->dir, "ten", &buf, &err), 0); // appends
    assert_string_equal(buf_text(&buf), "head 0123456789");
    assert_int_equal(file_read_at(fixture->dir, "none", &buf, &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);
    _cleanup_buf_ struct buf proc = BUF_INIT(1 << 20); // its size says 0
    assert_int_equal(file_read_at(AT_FDCWD, "/proc/self/status", &proc, &err), 0);
    assert_true(proc.size > 100);
}

struct race {
    int dir;
    atomic_bool over;
};

static void *keep_writing(void *context)
{
    struct race *race = context;
    char text[5000];
    for (int i = 0; i < 300; i++) {
        memset(text, 'a' + i % 26, sizeof(text));
        if (file_write_at(race->dir, "file", text, (size_t)(1000 + i * 10), 0600, false, NULL) < 0)
            abort();
    }
    race->over = true;
    return NULL;
}

static void readers_see_one_version_whole(void **state)
{
    const struct fixture *fixture = *state;
    struct race race = { fixture->dir, false };
    pthread_t writer;
    put_file(fixture->dir, "file", "zzz");
    assert_int_equal(pthread_create(&writer, NULL, keep_writing, &race), 0);
    while (!race.over) {
        _cleanup_buf_ struct buf buf = BUF_INIT(10000);
        assert_int_equal(file_read_at(fixture->dir, "file", &buf, NULL), 0);
        assert_true(buf.size == 3 || buf.size >= 1000);
        assert_int_equal(strspn(buf_text(&buf), (char[]){ buf.data[0], 0 }), buf.size);
    }
    pthread_join(writer, NULL);
    assert_int_equal(count_entries(fixture->dir, "."), 1); // no temporary name is left
}

static void a_failed_write_leaves_the_old_file(void **state)
{
    const struct fixture *fixture = *state;
    struct err err;
    struct stat info;
    assert_int_equal(file_mkdirs(fixture->dir, "sub/target", 0700, NULL), 0);
    put_file(fixture->dir, "sub/target/kept", "x");
    assert_int_equal(file_write_at(fixture->dir, "sub/target", "new", 3, 0600, true, &err), -1); // a folder is there
    assert_true(exists(fixture->dir, "sub/target/kept"));
    assert_int_equal(count_entries(fixture->dir, "sub"), 1);
    assert_int_equal(file_write_at(fixture->dir, "none/file", "x", 1, 0600, false, &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);

    mode_t mask = umask(077);
    assert_int_equal(file_write_at(fixture->dir, "sub/file", "x", 1, 0664, true, &err), 0);
    umask(mask);
    assert_int_equal(fstatat(fixture->dir, "sub/file", &info, 0), 0);
    assert_int_equal(info.st_mode & 07777, 0664); // as asked, whatever the umask
    // A link of that name is replaced, never followed.
    put_file(fixture->dir, "victim", "safe");
    assert_int_equal(symlinkat("victim", fixture->dir, "link"), 0);
    put_file(fixture->dir, "link", "new");
    _cleanup_buf_ struct buf buf = BUF_INIT(100);
    assert_int_equal(file_read_at(fixture->dir, "victim", &buf, NULL), 0);
    assert_string_equal(buf_text(&buf), "safe");
}

static void put_writes_into_what_is_there(void **state)
{
    const struct fixture *fixture = *state;
    struct err err;
    put_file(fixture->dir, "knob", "old text");
    assert_int_equal(file_put(fixture->dir, "knob", "new", &err), 0);
    _cleanup_buf_ struct buf buf = BUF_INIT(100);
    assert_int_equal(file_read_at(fixture->dir, "knob", &buf, NULL), 0);
    assert_string_equal(buf_text(&buf), "new text");
    assert_int_equal(file_put(fixture->dir, "none", "1", &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);
    assert_false(exists(fixture->dir, "none"));
    assert_int_equal(file_put(AT_FDCWD, "/dev/full", "1", &err), -1);
    assert_int_equal(err.number, ENOSPC);
    assert_non_null(strstr(err.message, "write \"1\" to /dev/full"));
}

// ---- removing -------------------------------------------------------------------------------------------------------

static void removes_links_not_their_targets(void **state)
{
    const struct fixture *fixture = *state;
    struct err err;
    assert_int_equal(file_mkdirs(fixture->dir, "outside/deep", 0700, NULL), 0);
    put_file(fixture->dir, "outside/deep/file", "x");
    assert_int_equal(file_mkdirs(fixture->dir, "tree/a/b", 0700, NULL), 0);
    put_file(fixture->dir, "tree/a/file", "x");
    assert_int_equal(symlinkat("../outside", fixture->dir, "tree/to-folder"), 0);
    assert_int_equal(symlinkat("../../outside/deep/file", fixture->dir, "tree/a/to-file"), 0);
    assert_int_equal(symlinkat("/nowhere", fixture->dir, "tree/a/b/dangling"), 0);
    assert_int_equal(mkfifoat(fixture->dir, "tree/a/b/fifo", 0600), 0);
    assert_int_equal(symlinkat("outside", fixture->dir, "top-link"), 0);

    assert_int_equal(file_remove_tree(fixture->dir, "tree", &err), 0);
    assert_false(exists(fixture->dir, "tree"));
    assert_int_equal(file_remove_tree(fixture->dir, "top-link", &err), 0);
    assert_false(exists(fixture->dir, "top-link"));
    assert_true(exists(fixture->dir, "outside/deep/file"));
    assert_int_equal(file_remove_tree(fixture->dir, "outside/deep/file", &err), 0); // a file alone
    assert_false(exists(fixture->dir, "outside/deep/file"));
    assert_int_equal(file_remove_tree(fixture->dir, "never/was", &err), 0);
}

// Enters each folder, as a path this long cannot be said.
static void make_chain(int dir, int depth)
{
    int at = fd_dup(dir, NULL);
    for (int i = 0; i < depth; i++) {
        assert_int_equal(mkdirat(at, "d", 0700), 0);
        if (i % 10 == 0)
            put_file(at, "file", "x");
        int next = file_open_dir(at, "d", NULL);
        assert_true(next >= 0);
        fd_close(at);
        at = next;
    }
    fd_close(at);
}

static void *remove_chain(void *context)
{
    return (void *)(intptr_t)file_remove_tree(*(int *)context, "chain", NULL);
}

static void a_deep_tree_costs_no_stack(void **state)
{
    const struct fixture *fixture = *state;
    int dir = fixture->dir;
    void *result;
    pthread_t thread;
    pthread_attr_t attributes;
    assert_int_equal(file_mkdirs(dir, "chain/side", 0700, NULL), 0);
    int chain = file_open_dir(dir, "chain", NULL);
    make_chain(chain, 3000);
    fd_close(chain);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 * 1024); // a connection's
    assert_int_equal(pthread_create(&thread, &attributes, remove_chain, &dir), 0);
    pthread_join(thread, &result);
    pthread_attr_destroy(&attributes);
    assert_int_equal((intptr_t)result, 0);
    assert_false(exists(fixture->dir, "chain"));
}

static void many_entries(void **state)
{
    const struct fixture *fixture = *state;
    assert_int_equal(file_mkdirs(fixture->dir, "many", 0700, NULL), 0);
    for (int i = 0; i < 3000; i++) {
        char name[32];
        snprintf(name, sizeof(name), "many/%d", i);
        assert_int_equal(mkdirat(fixture->dir, name, 0000), 0);
    }
    assert_int_equal(file_remove_tree(fixture->dir, "many", NULL), 0);
    assert_false(exists(fixture->dir, "many"));
}

// In a mount namespace of its own, so that nothing stays behind. Exit codes name the step.
static int remove_below_mounts(const struct fixture *fixture)
{
    struct err err;
    _cleanup_free_ char *inside = mem_printf("%s/tree/a/mounted", fixture->path);
    _cleanup_free_ char *outside = mem_printf("%s/outside", fixture->path);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return 77;
    int dir = file_open_dir(AT_FDCWD, fixture->path, &err); // the old descriptor stands in the old namespace
    // A bind mount of the same file system: the device number alone would not tell.
    if (mount(outside, inside, NULL, MS_BIND, NULL) < 0)
        return 2;
    if (file_remove_tree(dir, "tree", &err) == 0 || err.class != ERR_CONFLICT)
        return 3;
    if (!strstr(err.message, "mounted: something is mounted here") || !exists(dir, "outside/precious"))
        return 4;
    if (umount2(inside, MNT_DETACH) < 0 || mount("none", inside, "tmpfs", 0, NULL) < 0)
        return 5;
    if (file_remove_tree(dir, "tree", &err) == 0 || err.class != ERR_CONFLICT)
        return 6;
    if (umount2(inside, MNT_DETACH) < 0)
        return 7;
    return file_remove_tree(dir, "tree", &err) < 0 || exists(dir, "tree") ? 8 : 0;
}

static void never_enters_a_mount(void **state)
{
    const struct fixture *fixture = *state;
    int status;
    assert_int_equal(file_mkdirs(fixture->dir, "tree/a/mounted", 0700, NULL), 0);
    assert_int_equal(file_mkdirs(fixture->dir, "outside", 0700, NULL), 0);
    put_file(fixture->dir, "outside/precious", "x");
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(remove_below_mounts(fixture));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("no right to make a mount namespace\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void lock_dies_with_its_descriptor(void **state)
{
    const struct fixture *fixture = *state;
    struct err err;
    int first = file_lock_at(fixture->dir, "lock", &err);
    assert_true(first >= 0);
    assert_int_equal(file_lock_at(fixture->dir, "lock", &err), -1); // also within one process
    assert_int_equal(err.class, ERR_CONFLICT);
    assert_string_equal(err.message, "lock is locked by another process");
    fd_close(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
    assert_int_equal(file_lock_at(fixture->dir, "lock", &err), -1);
    fd_close(first);
    int second = file_lock_at(fixture->dir, "lock", &err);
    assert_true(second >= 0);
    fd_close(second);
    assert_int_equal(symlinkat("lock", fixture->dir, "link"), 0);
    assert_int_equal(file_lock_at(fixture->dir, "link", &err), -1);
}

// What a killed owner had forked a moment before does not hold what it owned.
static void what_a_process_owns_is_not_its_childs(void **state)
{
    const struct fixture *fixture = *state;
    struct err err;
    int ready[2], status;
    assert_int_equal(pipe(ready), 0);
    pid_t owner = fork();
    assert_true(owner >= 0);
    if (owner == 0) {
        bool owns = file_own_at(fixture->dir, "owned", &err) >= 0;
        pid_t child = fork(); // keeps the descriptor until it is killed
        while (child == 0)
            pause();
        if (!owns || write(ready[1], &child, sizeof(child)) != sizeof(child))
            _exit(1);
        for (;;)
            pause();
    }
    fd_close(ready[1]);
    pid_t child = 0;
    assert_int_equal(read(ready[0], &child, sizeof(child)), sizeof(child));
    assert_int_equal(file_own_at(fixture->dir, "owned", &err), -1);
    assert_int_equal(err.class, ERR_CONFLICT);
    assert_int_equal(kill(owner, SIGKILL), 0);
    assert_int_equal(waitpid(owner, &status, 0), owner);
    int fd = file_own_at(fixture->dir, "owned", &err);
    kill(child, SIGKILL);
    assert_true(fd >= 0);
    fd_close(fd);
    fd_close(ready[0]);
}

// ---- listing and measuring ------------------------------------------------------------------------------------------

static void names_are_listed(void **state)
{
    const struct fixture *fixture = *state;
    _cleanup_strv_ struct strv names = { 0 };
    struct err err;
    assert_int_equal(file_mkdirs(fixture->dir, "list/folder", 0700, NULL), 0);
    put_file(fixture->dir, "list/.hidden", "x");
    assert_int_equal(symlinkat("/nowhere", fixture->dir, "list/link"), 0);
    assert_int_equal(file_list_names(fixture->dir, "list", &names, NULL), 0);
    assert_int_equal(names.len, 3);
    assert_true(strv_has(&names, ".hidden") && strv_has(&names, "folder") && strv_has(&names, "link"));
    assert_int_equal(file_list_names(fixture->dir, "nowhere", &names, &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);
}

static int64_t size_of(int dir, const char *path)
{
    struct err err = { 0 };
    int64_t size = -1;
    if (file_tree_size(dir, path, &size, &err) < 0)
        fail_msg("%s", err.message);
    return size;
}

static void a_tree_is_measured(void **state)
{
    const struct fixture *fixture = *state;
    int dir = fixture->dir;
    struct err err;
    int64_t ignored;
    assert_int_equal(file_mkdirs(dir, "tree/a/b", 0700, NULL), 0);
    assert_int_equal(size_of(dir, "tree"), 0); // folders take nothing
    put_file(dir, "big", "outside the tree");
    put_file(dir, "tree/one", "12345");
    put_file(dir, "tree/a/b/two", "123");
    assert_int_equal(linkat(dir, "tree/one", dir, "tree/a/again", 0), 0);
    assert_int_equal(linkat(dir, "tree/one", dir, "tree/a/b/again", 0), 0);
    assert_int_equal(symlinkat("../big", dir, "tree/link"), 0);
    assert_int_equal(mkfifoat(dir, "tree/fifo", 0600), 0);
    assert_int_equal(size_of(dir, "tree"), 5 + 3 + 6);
    assert_int_equal(symlinkat("tree", dir, "way"), 0);
    assert_int_equal(file_tree_size(dir, "way", &ignored, &err), -1);
    assert_int_equal(file_tree_size(dir, "nowhere", &ignored, &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);
}

static void many_hard_links_count_once(void **state)
{
    const struct fixture *fixture = *state;
    assert_int_equal(mkdirat(fixture->dir, "hard", 0700), 0);
    for (int i = 0; i < 500; i++) {
        char from[32], to[32];
        snprintf(from, sizeof(from), "hard/%d", i);
        snprintf(to, sizeof(to), "hard/%d-again", i);
        put_file(fixture->dir, from, "1234");
        assert_int_equal(linkat(fixture->dir, from, fixture->dir, to, 0), 0);
    }
    assert_int_equal(size_of(fixture->dir, "hard"), 500 * 4);
}

static void *measure_chain(void *context)
{
    return (void *)(intptr_t)size_of(*(int *)context, "chain");
}

static void a_deep_tree_is_measured(void **state)
{
    const struct fixture *fixture = *state;
    int dir = fixture->dir;
    void *result;
    pthread_t thread;
    pthread_attr_t attributes;
    assert_int_equal(mkdirat(dir, "chain", 0700), 0);
    int chain = file_open_dir(dir, "chain", NULL);
    make_chain(chain, 3000);
    fd_close(chain);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    assert_int_equal(pthread_create(&thread, &attributes, measure_chain, &dir), 0);
    pthread_join(thread, &result);
    pthread_attr_destroy(&attributes);
    assert_int_equal((intptr_t)result, 300);
}

struct mover {
    int dir;
    atomic_bool stop;
};

// Carries a folder out of the tree and back again.
static void *keep_moving(void *context)
{
    struct mover *mover = context;
    while (!atomic_load(&mover->stop)) {
        renameat(mover->dir, "tree/in/deep", mover->dir, "out");
        renameat(mover->dir, "out", mover->dir, "tree/in/deep");
    }
    return NULL;
}

// Whatever the walk meets, it never counts what lies outside: the size is one of two, or an error.
static void a_folder_that_moves_leads_nowhere(void **state)
{
    const struct fixture *fixture = *state;
    struct mover mover = { .dir = fixture->dir };
    pthread_t thread;
    assert_int_equal(file_mkdirs(fixture->dir, "tree/in/deep/er", 0700, NULL), 0);
    put_file(fixture->dir, "tree/in/deep/er/file", "1234567");
    put_file(fixture->dir, "tree/file", "1");
    put_file(fixture->dir, "outside", "a thousand times larger than what is counted");
    assert_int_equal(pthread_create(&thread, NULL, keep_moving, &mover), 0);
    for (int i = 0; i < 2000; i++) {
        struct err err = { 0 };
        int64_t size = -1;
        if (file_tree_size(fixture->dir, "tree", &size, &err) < 0)
            assert_int_equal(err.class, ERR_CONFLICT);
        else if (size != 1 && size != 8)
            fail_msg("size is %lld", (long long)size);
    }
    atomic_store(&mover.stop, true);
    pthread_join(thread, NULL);
}

#define FILE_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(folders),
        FILE_TEST(reading_stops_at_the_ceiling),
        FILE_TEST(readers_see_one_version_whole),
        FILE_TEST(a_failed_write_leaves_the_old_file),
        FILE_TEST(put_writes_into_what_is_there),
        FILE_TEST(removes_links_not_their_targets),
        FILE_TEST(a_deep_tree_costs_no_stack),
        FILE_TEST(many_entries),
        FILE_TEST(never_enters_a_mount),
        FILE_TEST(lock_dies_with_its_descriptor),
        FILE_TEST(what_a_process_owns_is_not_its_childs),
        FILE_TEST(names_are_listed),
        FILE_TEST(a_tree_is_measured),
        FILE_TEST(many_hard_links_count_once),
        FILE_TEST(a_deep_tree_is_measured),
        FILE_TEST(a_folder_that_moves_leads_nowhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
