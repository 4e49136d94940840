#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"
#include "kernel/cgroup.h"

static void must(int result, struct err *err)
{
    if (result < 0)
        fail_msg("%s", err->message);
}

// ---- this machine's own hierarchies ---------------------------------------------------------------------------------

struct group {
    struct cgroup_layout layout;
    char top[32], path[48];
    struct cgroup *cgroup;
    struct err err;
};

static int group_up(void **state)
{
    struct group *group = mem_new(struct group);
    char digits[9];
    *state = group;
    cgroup_layout_probe(&group->layout);
    random_hex(digits, 8);
    snprintf(group->top, sizeof(group->top), "berth-test-%s", digits);
    snprintf(group->path, sizeof(group->path), "/%s/child", group->top);
    if (geteuid() == 0 && group->layout.version != CGROUP_NONE)
        must(cgroup_create(&group->layout, group->path, &group->cgroup, &group->err), &group->err);
    return 0;
}

static int group_down(void **state)
{
    struct group *group = *state;
    if (group->cgroup)
        must(cgroup_kill(group->cgroup, 2 * NS_PER_S, &group->err), &group->err);
    cgroup_free(group->cgroup);
    if (geteuid() == 0)
        must(cgroup_remove(&group->layout, group->top, 2 * NS_PER_S, &group->err), &group->err);
    free(group);
    return 0;
}

#define NEED_GROUP(group)                                    \
    do {                                                     \
        if (!(group)->cgroup) {                              \
            print_message("skipped: needs root and cgroups\n"); \
            skip();                                          \
        }                                                    \
    } while (0)

static pid_t sleeper(void)
{
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    return pid;
}

// "0::/berth-test-.../child" for every hierarchy.
static bool is_in(pid_t pid, const struct group *group)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
    _cleanup_buf_ struct buf text = BUF_INIT(65536);
    if (file_read_at(AT_FDCWD, path, &text, NULL) < 0)
        return false;
    struct slice rest = slice_of(buf_text(&text)), line;
    while (slice_cut(&rest, '\n', &line))
        if (line.size > 0 && (line.size < strlen(group->path) ||
                              memcmp(line.data + line.size - strlen(group->path), group->path, strlen(group->path)) != 0))
            return false;
    return true;
}

static void test_join_and_kill(void **state)
{
    struct group *group = *state;
    NEED_GROUP(group);
    assert_string_equal(cgroup_path(group->cgroup), group->path + 1);
    pid_t pid = sleeper(), *pids = NULL;
    size_t len = 0;
    must(cgroup_join(group->cgroup, pid, &group->err), &group->err);
    assert_true(is_in(pid, group));
    must(cgroup_pids(group->cgroup, &pids, &len, &group->err), &group->err);
    assert_int_equal(len, 1);
    assert_int_equal(pids[0], pid);
    free(pids);
    must(cgroup_freeze(group->cgroup, true, &group->err), &group->err);
    signal(SIGCHLD, SIG_IGN); // so that the killed one leaves by itself
    must(cgroup_kill(group->cgroup, 2 * NS_PER_S, &group->err), &group->err);
    signal(SIGCHLD, SIG_DFL);
    assert_int_equal(kill(pid, 0), -1);
    must(cgroup_freeze(group->cgroup, false, &group->err), &group->err);
}

static void test_self_join(void **state)
{
    struct group *group = *state;
    NEED_GROUP(group);
    int fds[CGROUP_HIERARCHY_MAX], clone_fd = cgroup_clone_fd(group->cgroup);
    size_t len = 0;
    must(cgroup_self_join_fds(group->cgroup, fds, &len, &group->err), &group->err);
    assert_int_equal(len + (clone_fd >= 0), group->layout.len);
    pid_t pid = fork();
    if (pid == 0) {
        for (size_t i = 0; i < len; i++)
            if (write(fds[i], "0", 1) != 1)
                _exit(1);
        for (;;)
            pause();
    }
    int procs = clone_fd >= 0 ? openat(clone_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC) : -1;
    if (procs >= 0)
        dprintf(procs, "%d", (int)pid);
    fd_close(procs);
    for (int i = 0; i < 200 && !is_in(pid, group); i++)
        usleep(5000);
    assert_true(is_in(pid, group));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void test_limits(void **state)
{
    struct group *group = *state;
    NEED_GROUP(group);
    unsigned missing = 0;
    struct cgroup_limits limits = { .memory_limit = 32 << 20, .memory_swap = 64 << 20, .cpu_shares = 512, .cpu_quota = 20000,
                                    .cpu_period = 100000, .pids_limit = 5, .cpuset_cpus = "0" };
    must(cgroup_limit(group->cgroup, &limits, &missing, &group->err), &group->err);
    struct cgroup_stats stats;
    must(cgroup_stats(group->cgroup, &stats, &group->err), &group->err);
    assert_int_equal(stats.memory_limit, missing & CGROUP_NO_MEMORY ? stats.memory_limit : 32 << 20);
    assert_int_equal(stats.pids_limit, missing & CGROUP_NO_PIDS ? stats.pids_limit : 5);
    // Raised beyond what memory and swap were together, and lowered again.
    limits = (struct cgroup_limits){ .memory_limit = 128 << 20, .memory_swap = 256 << 20 };
    must(cgroup_limit(group->cgroup, &limits, &missing, &group->err), &group->err);
    limits = (struct cgroup_limits){ .memory_limit = 16 << 20, .memory_swap = -1, .pids_limit = -1 };
    must(cgroup_limit(group->cgroup, &limits, &missing, &group->err), &group->err);
    limits = (struct cgroup_limits){ .cpuset_cpus = "nonsense" };
    assert_int_equal(cgroup_limit(group->cgroup, &limits, &missing, &group->err), missing & CGROUP_NO_CPUSET ? 0 : -1);
}

static void test_nested_removal(void **state)
{
    struct group *group = *state;
    NEED_GROUP(group);
    struct cgroup *inner = NULL;
    char path[64];
    snprintf(path, sizeof(path), "%s/child/deep/er", group->top);
    must(cgroup_create(&group->layout, path, &inner, &group->err), &group->err);
    cgroup_free(inner);
    must(cgroup_open(&group->layout, path, &inner, &group->err), &group->err);
    cgroup_free(inner);
    must(cgroup_remove(&group->layout, group->path, NS_PER_S, &group->err), &group->err);
    assert_int_equal(cgroup_open(&group->layout, path, &inner, &group->err), -1);
    must(cgroup_remove(&group->layout, group->path, NS_PER_S, &group->err), &group->err); // missing is success
}

static void test_bad_paths(void **state)
{
    struct cgroup_layout layout;
    struct cgroup *cgroup;
    struct err err = { 0 };
    cgroup_layout_probe(&layout);
    static const char *const paths[] = { "", "/", "..", "a/..", "../a", "a/./b", "a//b", "a/", NULL };
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        assert_int_equal(cgroup_create(&layout, paths[i], &cgroup, &err), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        assert_int_equal(cgroup_remove(&layout, paths[i], 0, &err), -1);
    }
    // A folder that is no cgroup file system.
    struct cgroup_layout fake = { .version = CGROUP_V2, .len = 1, .hierarchies = { { .mount_point = "/tmp", .v2 = true } } };
    assert_int_equal(cgroup_create(&fake, "berth-test-x", &cgroup, &err), -1);
    assert_int_equal(err.class, ERR_PERMISSION_DENIED);
}

// ---- the unified layout, on a tree of plain files -------------------------------------------------------------------

struct fake {
    char dir[64];
    int fd;
    struct cgroup_layout layout;
    struct err err;
};

static int fake_up(void **state)
{
    struct fake *fake = mem_new(struct fake);
    snprintf(fake->dir, sizeof(fake->dir), "/tmp/berth-cgroup2-XXXXXX");
    assert_non_null(mkdtemp(fake->dir));
    fake->fd = open(fake->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fake->layout = (struct cgroup_layout){ .version = CGROUP_V2, .len = 1, .trusted = true, .hierarchies = { { .v2 = true } } };
    snprintf(fake->layout.hierarchies[0].mount_point, sizeof(fake->layout.hierarchies[0].mount_point), "%s", fake->dir);
    *state = fake;
    return 0;
}

static int fake_down(void **state)
{
    struct fake *fake = *state;
    close(fake->fd);
    must(file_remove_tree(AT_FDCWD, fake->dir, &fake->err), &fake->err);
    free(fake);
    return 0;
}

static void fake_file(struct fake *fake, const char *path, const char *text)
{
    must(file_write_at(fake->fd, path, text, strlen(text), 0644, false, &fake->err), &fake->err);
}

static void expect_file(struct fake *fake, const char *path, const char *want)
{
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    must(file_read_at(fake->fd, path, &text, &fake->err), &fake->err);
    assert_string_equal(buf_text(&text), want);
}

static void test_v2_limits(void **state)
{
    struct fake *fake = *state;
    struct cgroup *cgroup = NULL;
    unsigned missing = 0;
    fake_file(fake, "cgroup.controllers", "cpuset cpu io memory pids\n");
    fake_file(fake, "cgroup.subtree_control", "");
    assert_true(cgroup_layout_has(&fake->layout, "memory"));
    assert_false(cgroup_layout_has(&fake->layout, "mem"));
    must(cgroup_create(&fake->layout, "berth/one", &cgroup, &fake->err), &fake->err);
    expect_file(fake, "cgroup.subtree_control", "+cpuset +cpu +io +memory +pids");
    assert_true(cgroup_clone_fd(cgroup) >= 0);
    struct cgroup_device_rule rule = { .allow = true, .type = 'a' };
    struct cgroup_limits limits = { .memory_limit = 1000, .memory_swap = 3000, .memory_reservation = 500, .cpu_shares = 1024,
                                    .cpu_quota = 50000, .pids_limit = 7, .cpuset_cpus = "0-1", .cpuset_mems = "0",
                                    .devices = &rule, .device_len = 1 };
    must(cgroup_limit(cgroup, &limits, &missing, &fake->err), &fake->err);
    assert_int_equal(missing, CGROUP_NO_MEMORY | CGROUP_NO_SWAP | CGROUP_NO_CPU_QUOTA | CGROUP_NO_CPU_SHARES | CGROUP_NO_PIDS |
                                  CGROUP_NO_CPUSET | CGROUP_NO_DEVICES | CGROUP_NO_RESERVATION);
    static const char *const files[] = { "memory.max", "memory.swap.max", "memory.low", "cpu.weight", "cpu.max", "pids.max",
                                         "cpuset.cpus", "cpuset.mems" };
    static const char *const want[] = { "1000", "2000", "500", "100", "50000 100000", "7", "0-1", "0" };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[64];
        snprintf(path, sizeof(path), "berth/one/%s", files[i]);
        fake_file(fake, path, "max");
    }
    must(cgroup_limit(cgroup, &limits, &missing, &fake->err), &fake->err);
    assert_int_equal(missing, CGROUP_NO_DEVICES);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[64];
        snprintf(path, sizeof(path), "berth/one/%s", files[i]);
        expect_file(fake, path, want[i]);
    }
    limits = (struct cgroup_limits){ .memory_swap = -1, .cpu_quota = -1, .cpu_period = 10000, .pids_limit = -1 };
    must(cgroup_limit(cgroup, &limits, &missing, &fake->err), &fake->err);
    expect_file(fake, "berth/one/memory.swap.max", "max");
    expect_file(fake, "berth/one/cpu.max", "max 10000");
    expect_file(fake, "berth/one/pids.max", "max");
    limits = (struct cgroup_limits){ .memory_limit = 1000, .memory_swap = 500 };
    assert_int_equal(cgroup_limit(cgroup, &limits, &missing, &fake->err), -1);
    cgroup_free(cgroup);
    must(cgroup_remove(&fake->layout, "berth/one", 0, &fake->err), &fake->err);
    assert_int_equal(faccessat(fake->fd, "berth/one", F_OK, 0), -1);
}

static void test_v2_reading(void **state)
{
    struct fake *fake = *state;
    struct cgroup *cgroup = NULL;
    must(cgroup_create(&fake->layout, "g", &cgroup, &fake->err), &fake->err);
    fake_file(fake, "g/memory.events", "low 0\nhigh 0\noom 3\noom_kill 2\n");
    fake_file(fake, "g/memory.current", "4096\n");
    fake_file(fake, "g/memory.max", "max\n");
    fake_file(fake, "g/memory.stat", "anon 1\ninactive_file 77\n");
    fake_file(fake, "g/cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 5\nnr_throttled 4\nthrottled_usec 3\n");
    fake_file(fake, "g/pids.current", "2\n");
    fake_file(fake, "g/cgroup.procs", "12\n13\n");
    fake_file(fake, "g/cgroup.freeze", "0");
    fake_file(fake, "g/cgroup.events", "populated 1\nfrozen 1\n");
    struct cgroup_stats stats;
    must(cgroup_stats(cgroup, &stats, &fake->err), &fake->err);
    assert_int_equal(cgroup_oom_kills(cgroup), 2);
    assert_int_equal(stats.memory_usage, 4096);
    assert_int_equal(stats.memory_limit, INT64_MAX);
    assert_int_equal(stats.memory_inactive_file, 77);
    assert_int_equal(stats.cpu_total_ns, 30000);
    assert_int_equal(stats.cpu_throttled_periods, 4);
    assert_int_equal(stats.pids_current, 2);
    pid_t *pids = NULL;
    size_t len = 0;
    must(cgroup_pids(cgroup, &pids, &len, &fake->err), &fake->err);
    assert_int_equal(len, 2);
    assert_int_equal(pids[1], 13);
    free(pids);
    must(cgroup_freeze(cgroup, true, &fake->err), &fake->err);
    expect_file(fake, "g/cgroup.freeze", "1");
    must(cgroup_join(cgroup, 99, &fake->err), &fake->err);
    expect_file(fake, "g/cgroup.procs", "99");
    cgroup_free(cgroup);
}

// A group with one of the kernel's own threads is never frozen.
static void test_v2_freeze_puts_out_kernel_threads(void **state)
{
    enum { KTHREADD = 2 };
    struct fake *fake = *state;
    struct cgroup *cgroup = NULL;
    char name[16] = "";
    _cleanup_close_ int comm = open("/proc/2/comm", O_RDONLY | O_CLOEXEC);
    if (comm < 0 || read(comm, name, sizeof(name) - 1) < 0 || !str_eq(name, "kthreadd\n")) {
        print_message("no kernel threads are seen in a process namespace\n");
        skip();
    }
    must(cgroup_create(&fake->layout, "g", &cgroup, &fake->err), &fake->err);
    char members[64];
    snprintf(members, sizeof(members), "%d\n%d\n", (int)getpid(), KTHREADD);
    fake_file(fake, "cgroup.procs", "");
    fake_file(fake, "g/cgroup.procs", members);
    fake_file(fake, "g/cgroup.freeze", "0");
    fake_file(fake, "g/cgroup.events", "populated 1\nfrozen 1\n");
    must(cgroup_freeze(cgroup, true, &fake->err), &fake->err);
    expect_file(fake, "cgroup.procs", "2");
    cgroup_free(cgroup);
}

static void test_v2_half_frozen_is_thawed(void **state)
{
    struct fake *fake = *state;
    struct cgroup *cgroup = NULL;
    must(cgroup_create(&fake->layout, "g", &cgroup, &fake->err), &fake->err);
    fake_file(fake, "g/cgroup.procs", "");
    fake_file(fake, "g/cgroup.freeze", "0");
    fake_file(fake, "g/cgroup.events", "populated 1\nfrozen 0\n");
    assert_int_equal(cgroup_freeze(cgroup, true, &fake->err), -1);
    assert_non_null(strstr(fake->err.message, "does not freeze"));
    expect_file(fake, "g/cgroup.freeze", "0");
    cgroup_free(cgroup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_join_and_kill, group_up, group_down),
        cmocka_unit_test_setup_teardown(test_self_join, group_up, group_down),
        cmocka_unit_test_setup_teardown(test_limits, group_up, group_down),
        cmocka_unit_test_setup_teardown(test_nested_removal, group_up, group_down),
        cmocka_unit_test(test_bad_paths),
        cmocka_unit_test_setup_teardown(test_v2_limits, fake_up, fake_down),
        cmocka_unit_test_setup_teardown(test_v2_reading, fake_up, fake_down),
        cmocka_unit_test_setup_teardown(test_v2_freeze_puts_out_kernel_threads, fake_up, fake_down),
        cmocka_unit_test_setup_teardown(test_v2_half_frozen_is_thawed, fake_up, fake_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
