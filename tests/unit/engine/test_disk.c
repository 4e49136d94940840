// A guest's disk: copied sparse from one template, the jail's own, there from run to run.
#include "fixture.h"
#include "engine/vm.h"

#include <errno.h>

#include "base/process.h"

#define MIB (1 << 20)

static void setup_bench(struct bench *bench)
{
    bench_open(bench);
    mutex_init(&bench->engine.disk_lock, 0);
}

static struct container *make(struct bench *bench, const char *id, const char *name)
{
    struct container *container = bench_container(bench, id, name, "{\"HostConfig\":{\"Isolation\":\"vm\"}}");
    assert_int_equal(file_mkdirs(bench->engine.containers_fd, id, 0700, &bench->err), 0);
    return container;
}

static int open_disk(struct bench *bench, struct container *container)
{
    int fd = disk_open(container, 70000, &bench->err);
    if (fd < 0)
        fail_msg("%s", bench->err.message);
    return fd;
}

static void test_fresh(void **state)
{
    struct bench bench;
    struct stat info;
    char magic[2];
    setup_bench(&bench);
    struct container *container = make(&bench, ID_A, "a");
    assert_int_equal(disk_allocated(container), 0);
    _cleanup_close_ int fd = open_disk(&bench, container);
    assert_int_equal(fstat(fd, &info), 0);
    assert_true(info.st_size == DISK_SIZE);
    assert_true(info.st_blocks * INT64_C(512) < MIB);
    assert_int_equal(disk_allocated(container), info.st_blocks * INT64_C(512));
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_true(info.st_uid == 70000 && info.st_gid == 70000);
    assert_int_equal(pread(fd, magic, 2, 1024 + 56), 2);
    assert_memory_equal(magic, "\x53\xef", 2);
    bench_close(&bench);
}

static void test_is_a_whole_file_system(void **state)
{
    struct bench bench;
    setup_bench(&bench);
    fd_close(open_disk(&bench, make(&bench, ID_A, "a")));
    _cleanup_free_ char *path = mem_printf("%s/containers/" ID_A "/" DISK_NAME, bench.root);
    _cleanup_buf_ struct buf output = BUF_INIT(64 << 10);
    char *const argv[] = { (char *)"e2fsck", (char *)"-fn", path, NULL };
    if (process_run(argv, NULL, &output, &bench.err) < 0)
        fail_msg("%s\n%s", bench.err.message, buf_text(&output));
    bench_close(&bench);
}

static void test_stays_and_is_its_own(void **state)
{
    struct bench bench;
    char text[5] = "";
    setup_bench(&bench);
    struct container *a = make(&bench, ID_A, "a"), *b = make(&bench, ID_B, "b");
    _cleanup_close_ int first = open_disk(&bench, a);
    assert_int_equal(pwrite(first, "mine", 4, INT64_C(512) * MIB), 4);
    _cleanup_close_ int again = open_disk(&bench, a), other = open_disk(&bench, b);
    assert_int_equal(pread(again, text, 4, INT64_C(512) * MIB), 4);
    assert_string_equal(text, "mine");
    assert_int_equal(pread(other, text, 4, INT64_C(512) * MIB), 4);
    assert_int_equal(text[0], 0);
    bench_close(&bench);
}

// What a crash left half done is done again.
static void test_leftovers(void **state)
{
    struct bench bench;
    struct stat info;
    setup_bench(&bench);
    struct container *container = make(&bench, ID_A, "a");
    assert_int_equal(file_write_at(bench.engine.containers_fd, ID_A "/" DISK_NAME ".new", "half", 4, 0600, false, &bench.err), 0);
    _cleanup_close_ int fd = open_disk(&bench, container);
    assert_int_equal(fstat(fd, &info), 0);
    assert_true(info.st_size == DISK_SIZE);
    assert_int_equal(fstatat(bench.engine.containers_fd, ID_A "/" DISK_NAME ".new", &info, 0), -1);
    bench_close(&bench);
}

static void test_without_the_tool(void **state)
{
    struct bench bench;
    setup_bench(&bench);
    struct container *container = make(&bench, ID_A, "a");
    _cleanup_free_ char *path = mem_strdup(getenv("PATH"));
    setenv("PATH", "/nowhere", 1);
    int fd = disk_open(container, 70000, &bench.err);
    setenv("PATH", path, 1);
    assert_int_equal(fd, -1);
    assert_int_equal(bench.err.class, ERR_UNAVAILABLE);
    assert_non_null(strstr(bench.err.message, "mke2fs is missing"));
    fd_close(open_disk(&bench, container)); // nothing half is in the way
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fresh),     cmocka_unit_test(test_is_a_whole_file_system), cmocka_unit_test(test_stays_and_is_its_own),
        cmocka_unit_test(test_leftovers), cmocka_unit_test(test_without_the_tool),
    };
    if (geteuid() != 0) {
        puts("1..0 # SKIP gives files away: needs root");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
