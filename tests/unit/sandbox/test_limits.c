#include "fixture.h"

static bool has_v1(struct box *box)
{
    return box->layout.version == CGROUP_V1 || box->layout.version == CGROUP_HYBRID;
}

static void test_limits_are_seen(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct cgroup_limits limits = { .memory_limit = 64 << 20, .pids_limit = 20, .cpu_quota = 50000, .cpu_period = 100000 };
    box_use_cgroup(box, &limits);
    if (!has_v1(box)) {
        box_free(box);
        skip();
    }
    EXPECT(box, 0, SH(box, "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us; "
                           "cat memory/tasks | head -1; ls -d unified systemd"));
    EXPECT_HAS(box, "67108864\n20\n50000\n1\n");
    box_free(box);
}

static void test_pids_limit(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct cgroup_limits limits = { .pids_limit = 3 };
    box_use_cgroup(box, &limits);
    EXPECT(box, 2, SH(box, "sleep 9 & sleep 9 & sleep 9 & sleep 9 & echo never"));
    box_free(box);
}

static void test_out_of_memory(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct cgroup_limits limits = { .memory_limit = 8 << 20 };
    box_use_cgroup(box, &limits);
    assert_int_equal(cgroup_oom_kills(box->spec.cgroup), 0);
    EXPECT(box, 137, RUN(box, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"));
    assert_int_equal(cgroup_oom_kills(box->spec.cgroup), 1);
    box_free(box);
}

static void test_small_memory_limit(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct cgroup_limits limits = { .memory_limit = 1 << 20 };
    box_use_cgroup(box, &limits);
    EXPECT(box, 0, RUN(box, "true"));
    box_free(box);
}

static void test_stats_and_kill(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct box_run run;
    struct cgroup_limits limits = { .memory_limit = 64 << 20, .pids_limit = 20 };
    box_use_cgroup(box, &limits);
    box->process.args = WORDS(box, "sh", "-c", "sleep 1000 & sleep 1000 & wait");
    assert_int_equal(box_create(box, &run), 0);
    assert_int_equal(sandbox_start(run.sandbox, &box->err), 0);
    struct cgroup_stats stats = { 0 };
    for (int i = 0; i < 100 && stats.pids_current < 3; i++) {
        assert_int_equal(cgroup_stats(box->spec.cgroup, &stats, &box->err), 0);
        usleep(10000);
    }
    assert_int_equal(stats.pids_current, 3);
    assert_int_equal(stats.pids_limit, 20);
    assert_int_equal(stats.memory_limit, 64 << 20);
    assert_true(stats.memory_usage > 0 && stats.cpu_total_ns > 0);
    pid_t *pids = NULL;
    size_t len = 0;
    assert_int_equal(cgroup_pids(box->spec.cgroup, &pids, &len, &box->err), 0);
    assert_int_equal(len, 3);
    free(pids);
    assert_int_equal(cgroup_freeze(box->spec.cgroup, true, &box->err), 0);
    assert_int_equal(cgroup_freeze(box->spec.cgroup, false, &box->err), 0);
    assert_int_equal(cgroup_freeze(box->spec.cgroup, true, &box->err), 0);
    int64_t started = clock_mono_ns();
    // cgroup_kill() waits until nobody is left, and the dead first process is left until it is reaped.
    int status = cgroup_signal_all(box->spec.cgroup, SIGKILL, &box->err);
    assert_int_equal(status, 0);
    assert_int_equal(cgroup_kill(box->spec.cgroup, 2 * NS_PER_S, &box->err), 0);
    assert_true(clock_mono_ns() - started < NS_PER_S);
    int code = 0;
    assert_int_equal(sandbox_wait(run.sandbox, &code, &box->err), 0);
    assert_int_equal(code, 137);
    box_run_done(&run);
    box_free(box);
}

static void test_devices(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct cgroup_device_rule rules[] = {
        { .allow = false, .type = 'a', .major = -1, .minor = -1, .access = "rwm" },
        { .allow = true, .type = 'c', .major = -1, .minor = -1, .access = { 'm' } },
        { .allow = true, .type = 'c', .major = 1, .minor = 3, .access = { 'r', 'w', 'm' } },
    };
    struct cgroup_limits limits = { .devices = rules, .device_len = ARRAY_LEN(rules) };
    box_use_cgroup(box, &limits);
    if (!has_v1(box)) {
        box_free(box);
        skip();
    }
    EXPECT(box, 0, SH(box, "echo x > /dev/null && ! cat /dev/zero 2>/dev/null | head -c 1 | grep -q ."));
    box_free(box);
}

// A cgroup2 tree alone, as on a host without v1: the group's program answers for the devices that the plan makes, too.
static void test_devices_of_cgroup2(void **state)
{
    NEED_BOX();
    static const struct cgroup_device_rule rules[] = { { .allow = false, .type = 'a' },
                                                       { true, 'c', -1, -1, "m" },
                                                       { true, 'c', 1, 3, "rwm" } };
    struct box *box = box_new();
    struct cgroup_layout all;
    cgroup_layout_probe(&all);
    box->layout.version = CGROUP_V2;
    for (size_t i = 0; i < all.len && !box->layout.len; i++)
        if (all.hierarchies[i].v2)
            box->layout.hierarchies[box->layout.len++] = all.hierarchies[i];
    if (!box->layout.len) {
        box_free(box);
        print_message("skipped: no cgroup2 tree\n");
        skip();
    }
    box_use_cgroup_in(box, &(struct cgroup_limits){ .devices = rules, .device_len = ARRAY_LEN(rules) });
    EXPECT(box, 0, SH(box, "cat /dev/null && echo x >/dev/null && mknod /tmp/full c 1 7; cat /dev/zero; cat /tmp/full;"
                           "mknod /tmp/loop b 7 0; cat /proc/self/cgroup; ls /sys/fs/cgroup/cgroup.procs"));
    EXPECT_HAS(box, "can't open '/dev/zero': Operation not permitted");
    EXPECT_HAS(box, "can't open '/tmp/full': Operation not permitted");
    EXPECT_HAS(box, "mknod: /tmp/loop: Operation not permitted");
    EXPECT_HAS(box, "/sys/fs/cgroup/cgroup.procs");
    box_free(box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits_are_seen), cmocka_unit_test(test_pids_limit),     cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_small_memory_limit), cmocka_unit_test(test_stats_and_kill), cmocka_unit_test(test_devices),
        cmocka_unit_test(test_devices_of_cgroup2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
