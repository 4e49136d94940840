// Every limit and every number of use: on this machine's own hierarchies, whatever their layout, and on made-up trees of
// plain files of both.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"
#include "kernel/cgroup.h"
#include "kernel/cgroup_report.h"

static void must(int result, struct err *err)
{
    if (result < 0)
        fail_msg("%s", err->message);
}

// ---- conversions ----------------------------------------------------------------------------------------------------

static void test_weights(void **state)
{
    static const struct {
        uint64_t shares, weight;
    } shares[] = { { 0, 0 },       { 1, 1 },       { 2, 1 },       { 3, 2 },          { 10, 4 },         { 100, 17 },     { 512, 59 },
                   { 1000, 99 },   { 1023, 100 },  { 1024, 100 },  { 1025, 101 },     { 2048, 174 },     { 4096, 303 },
                   { 100000, 4340 }, { 262143, 10000 }, { 262144, 10000 }, { 300000, 10000 } };
    static const struct {
        uint64_t io, weight;
    } io[] = { { 0, 0 }, { 10, 1 }, { 11, 11 }, { 100, 910 }, { 500, 4950 }, { 1000, 10000 } };
    for (size_t i = 0; i < ARRAY_LEN(shares); i++)
        if (cgroup_weight_of_shares(shares[i].shares) != shares[i].weight)
            fail_msg("%llu shares: %llu", (unsigned long long)shares[i].shares,
                     (unsigned long long)cgroup_weight_of_shares(shares[i].shares));
    for (uint64_t i = 2; i < 262144; i++)
        assert_true(cgroup_weight_of_shares(i) <= cgroup_weight_of_shares(i + 1));
    for (size_t i = 0; i < ARRAY_LEN(io); i++)
        assert_int_equal(cgroup_weight_of_io(io[i].io), io[i].weight);
}

static void test_swap(void **state)
{
    static const struct {
        int64_t memory, both, alone;
        bool none, bad;
    } cases[] = {
        { 0, 0, 0, false, false },    { 0, -1, -1, false, false },  { -1, 0, -1, false, false }, { -1, -1, -1, false, false },
        { -1, 100, 100, false, false }, { 300, 0, 0, false, false }, { 300, -1, -1, false, false }, { 300, 500, 200, false, false },
        { 300, 300, 0, true, false }, { 0, 300, 0, false, true },   { -2, 300, 0, false, true },  { 300, 299, 0, false, true },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t alone = 0;
        bool none = false;
        int result = cgroup_swap_alone(cases[i].memory, cases[i].both, &alone, &none, NULL);
        if ((result < 0) != cases[i].bad || (result == 0 && (alone != cases[i].alone || none != cases[i].none)))
            fail_msg("case %zu: %lld", i, (long long)alone);
    }
}

static void test_lists(void **state)
{
    uint16_t numbers[8];
    size_t len;
    assert_true(cgroup_list_parse("0-2,5\n", numbers, 8, &len) && len == 4 && numbers[2] == 2 && numbers[3] == 5);
    assert_true(cgroup_list_parse("", numbers, 8, &len) && len == 0);
    assert_true(cgroup_list_parse("7", numbers, 8, &len) && len == 1 && numbers[0] == 7);
    static const char *const bad[] = { "x", "1-", "-1", "2-1", "1,1", "3,2", "0-8", "1,,2", "1-2-3", "70000" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (cgroup_list_parse(bad[i], numbers, 8, &len))
            fail_msg("accepted: %s", bad[i]);
}

// ---- made-up trees --------------------------------------------------------------------------------------------------

struct fake {
    char dir[64];
    int fd;
    struct cgroup_layout layout;
    struct cgroup *cgroup;
    struct err err;
};

// Where a controller's group is below the tree.
static void path_of(const struct fake *fake, const char *file, char out[160])
{
    char controller[32];
    snprintf(controller, sizeof(controller), "%.*s", (int)strcspn(file, "."), file);
    if (str_eq(controller, "cgroup"))
        snprintf(controller, sizeof(controller), "memory");
    if (fake->layout.version == CGROUP_V2)
        snprintf(out, 160, "g/%s", file);
    else
        snprintf(out, 160, "%s/g/%s", controller, file);
}

static void fake_file(struct fake *fake, const char *file, const char *text)
{
    char path[160];
    path_of(fake, file, path);
    must(file_write_at(fake->fd, path, text, strlen(text), 0644, false, &fake->err), &fake->err);
}

static void expect_file(struct fake *fake, const char *file, const char *want)
{
    char path[160];
    path_of(fake, file, path);
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    must(file_read_at(fake->fd, path, &text, &fake->err), &fake->err);
    if (!str_eq(buf_text(&text), want))
        fail_msg("%s: \"%s\", not \"%s\"", path, buf_text(&text), want);
}

static struct fake *fake_new(void)
{
    struct fake *fake = mem_new(struct fake);
    snprintf(fake->dir, sizeof(fake->dir), "/tmp/berth-cgroup-XXXXXX");
    assert_non_null(mkdtemp(fake->dir));
    fake->fd = open(fake->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fake->layout.trusted = true;
    return fake;
}

static int fake_v2_up(void **state)
{
    struct fake *fake = fake_new();
    fake->layout.version = CGROUP_V2;
    fake->layout.len = 1;
    fake->layout.hierarchies[0].v2 = true;
    memcpy(fake->layout.hierarchies[0].mount_point, fake->dir, sizeof(fake->dir));
    must(cgroup_create(&fake->layout, "g", &fake->cgroup, &fake->err), &fake->err);
    *state = fake;
    return 0;
}

static int fake_v1_up(void **state)
{
    static const char *const controllers[] = { "cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "devices", "freezer",
                                               "hugetlb", "rdma", "net_cls", "net_prio" };
    struct fake *fake = fake_new();
    fake->layout.version = CGROUP_V1;
    for (size_t i = 0; i < ARRAY_LEN(controllers); i++) {
        struct cgroup_hierarchy *hierarchy = &fake->layout.hierarchies[fake->layout.len++];
        snprintf(hierarchy->controllers, sizeof(hierarchy->controllers), "%s", controllers[i]);
        char point[128];
        snprintf(point, sizeof(point), "%s/%s", fake->dir, controllers[i]);
        memcpy(hierarchy->mount_point, point, sizeof(point));
        assert_int_equal(mkdirat(fake->fd, controllers[i], 0755), 0);
    }
    must(cgroup_create(&fake->layout, "g", &fake->cgroup, &fake->err), &fake->err);
    *state = fake;
    return 0;
}

static int fake_down(void **state)
{
    struct fake *fake = *state;
    cgroup_free(fake->cgroup);
    close(fake->fd);
    must(file_remove_tree(AT_FDCWD, fake->dir, &fake->err), &fake->err);
    free(fake);
    return 0;
}

static const struct cgroup_device_weight weights[] = { { 8, 0, 200, 300 }, { 8, 16, 400, 500 } };
static const struct cgroup_device_rate rates[] = { { 8, 0, 1048576 } };
static const struct cgroup_device_rate none[] = { { 8, 16, 0 } };
static const struct cgroup_huge_pages pages[] = { { "2MB", 4194304 } };
static const struct cgroup_rdma rdma[] = { { "mlx5_1", { true, 3 }, { false, 0 } } };
static const struct cgroup_net_priority priorities[] = { { "lo", 7 } };
static const struct cgroup_device_rule rules[] = { { .type = 'a' }, { .allow = true, .type = 'c', .major = 1, .minor = -1, .access = "rwm" } };

static const struct cgroup_limits everything = {
    .memory_limit = 1000, .memory_swap = 3000, .memory_reservation = 500, .memory_kernel = 700, .memory_kernel_tcp = 800,
    .memory_swappiness = { true, 0 }, .oom_kill_disable = true, .cpu_shares = 512, .cpu_quota = 50000, .cpu_period = 200000,
    .cpu_rt_runtime = 9000, .cpu_rt_period = 10000, .cpu_burst = { true, 0 }, .cpu_idle = { true, 1 }, .cpuset_cpus = "0-1",
    .cpuset_mems = "0", .pids_limit = 7, .io_weight = 100, .io_leaf_weight = 20, .io_weights = weights, .io_weight_len = 2,
    .io_read_bps = rates, .io_read_bps_len = 1, .io_write_bps = rates, .io_write_bps_len = 1, .io_read_iops = rates,
    .io_read_iops_len = 1, .io_write_iops = none, .io_write_iops_len = 1, .huge_pages = pages, .huge_page_len = 1, .rdma = rdma,
    .rdma_len = 1, .net_class = 1048577, .net_priorities = priorities, .net_priority_len = 1,
};

// A plain file keeps the last line that was written to it.
struct expectation {
    const char *file, *v1;
};

static void check_files(struct fake *fake, const struct expectation *files, size_t len, const struct cgroup_limits *limits,
                        unsigned want)
{
    unsigned missing = 0;
    for (size_t i = 0; i < len; i++)
        fake_file(fake, files[i].file, "none");
    must(cgroup_limit(fake->cgroup, limits, &missing, &fake->err), &fake->err);
    assert_int_equal(missing, want);
    for (size_t i = 0; i < len; i++)
        expect_file(fake, files[i].file, files[i].v1);
}

static void test_v1_files(void **state)
{
    static const struct expectation files[] = {
        { "cpu.shares", "512" }, { "cpu.cfs_period_us", "200000" }, { "cpu.cfs_quota_us", "50000" }, { "cpu.cfs_burst_us", "0" },
        { "cpu.idle", "1" }, { "cpu.rt_period_us", "10000" }, { "cpu.rt_runtime_us", "9000" }, { "cpuset.cpus", "0-1" },
        { "cpuset.mems", "0" }, { "memory.limit_in_bytes", "1000" }, { "memory.memsw.limit_in_bytes", "3000" },
        { "memory.soft_limit_in_bytes", "500" }, { "memory.kmem.limit_in_bytes", "700" }, { "memory.kmem.tcp.limit_in_bytes", "800" },
        { "memory.oom_control", "1" }, { "memory.swappiness", "0" }, { "pids.max", "7" }, { "blkio.weight", "100" },
        { "blkio.leaf_weight", "20" }, { "blkio.weight_device", "8:16 400" }, { "blkio.leaf_weight_device", "8:16 500" },
        { "blkio.throttle.read_bps_device", "8:0 1048576" }, { "blkio.throttle.write_bps_device", "8:0 1048576" },
        { "blkio.throttle.read_iops_device", "8:0 1048576" }, { "blkio.throttle.write_iops_device", "8:16 0" },
        { "hugetlb.2MB.limit_in_bytes", "4194304" }, { "hugetlb.2MB.rsvd.limit_in_bytes", "4194304" },
        { "rdma.max", "mlx5_1 hca_handle=3" }, { "net_cls.classid", "1048577" }, { "net_prio.ifpriomap", "lo 7" },
        { "devices.deny", "a" }, { "devices.allow", "c 1:* rwm" },
    };
    struct cgroup_limits limits = everything;
    limits.devices = rules;
    limits.device_len = ARRAY_LEN(rules);
    check_files(*state, files, ARRAY_LEN(files), &limits, 0);
}

// The names where BFQ is the scheduler.
static void test_v1_bfq(void **state)
{
    static const struct expectation files[] = { { "blkio.bfq.weight", "100" }, { "blkio.bfq.weight_device", "8:16 400" } };
    const struct cgroup_limits limits = { .io_weight = 100, .io_weights = weights, .io_weight_len = 2 };
    check_files(*state, files, ARRAY_LEN(files), &limits, CGROUP_NO_IO_WEIGHT); // leaf weights are gone
}

static void test_v1_missing(void **state)
{
    struct fake *fake = *state;
    struct cgroup_limits limits = everything;
    unsigned missing = 0;
    limits.devices = rules;
    limits.device_len = ARRAY_LEN(rules);
    must(cgroup_limit(fake->cgroup, &limits, &missing, &fake->err), &fake->err);
    assert_int_equal(missing, (1U << 19) - 1);
    for (unsigned bit = 0; bit < 19; bit++)
        assert_string_not_equal(cgroup_missing_name(1U << bit), "unknown");
    limits = (struct cgroup_limits){ .memory_swappiness = { true, 101 } };
    assert_int_equal(cgroup_limit(fake->cgroup, &limits, &missing, &fake->err), -1);
    const struct cgroup_setting setting = { "memory.high", "1" };
    limits = (struct cgroup_limits){ .unified = &setting, .unified_len = 1 };
    assert_int_equal(cgroup_limit(fake->cgroup, &limits, &missing, &fake->err), -1);
    assert_string_equal(fake->err.message, "invalid configuration: cannot use unified on cgroup v1");
    fake_file(fake, "memory.limit_in_bytes", "5");
    fake_file(fake, "memory.memsw.limit_in_bytes", "5");
    limits = (struct cgroup_limits){ .memory_limit = -1 };
    must(cgroup_limit(fake->cgroup, &limits, &missing, &fake->err), &fake->err);
    expect_file(fake, "memory.limit_in_bytes", "-1");
    expect_file(fake, "memory.memsw.limit_in_bytes", "-1");
}

#define V1_ONLY                                                                                                         \
    (CGROUP_NO_KERNEL_MEMORY | CGROUP_NO_SWAPPINESS | CGROUP_NO_OOM_CONTROL | CGROUP_NO_CPU_RT | CGROUP_NO_IO_WEIGHT |  \
     CGROUP_NO_NET)

static void test_v2_files(void **state)
{
    static const struct expectation files[] = {
        { "cpu.weight", "59" }, { "cpu.max", "50000 200000" }, { "cpu.max.burst", "0" }, { "cpu.idle", "1" }, { "cpuset.cpus", "0-1" },
        { "cpuset.mems", "0" }, { "memory.max", "1000" }, { "memory.swap.max", "2000" }, { "memory.low", "500" }, { "pids.max", "7" },
        { "io.weight", "910" }, { "io.max", "8:16 wiops=max" }, { "hugetlb.2MB.max", "4194304" }, { "hugetlb.2MB.rsvd.max", "4194304" },
        { "rdma.max", "mlx5_1 hca_handle=3" },
    };
    check_files(*state, files, ARRAY_LEN(files), &everything, V1_ONLY);
}

static void test_v2_unlimited(void **state)
{
    static const struct expectation files[] = {
        { "memory.max", "max" }, { "memory.swap.max", "max" }, { "memory.low", "max" }, { "cpu.max", "max 100000" }, { "pids.max", "max" },
    };
    const struct cgroup_limits limits = { .memory_limit = -1, .memory_reservation = -1, .cpu_quota = -1, .pids_limit = -1 };
    check_files(*state, files, ARRAY_LEN(files), &limits, 0);
}

static void test_v2_bfq(void **state)
{
    struct fake *fake = *state;
    const struct cgroup_limits limits = { .io_weight = 100, .io_weights = weights, .io_weight_len = 1 };
    unsigned missing = 0;
    fake_file(fake, "io.bfq.weight", "default 100\n");
    must(cgroup_limit(fake->cgroup, &limits, &missing, &fake->err), &fake->err);
    expect_file(fake, "io.bfq.weight", "8:0 200");
    assert_int_equal(missing, 0);
    fake_file(fake, "io.bfq.weight", "100\n"); // a kernel without weights for devices
    must(cgroup_limit(fake->cgroup, &limits, &missing, &fake->err), &fake->err);
    expect_file(fake, "io.bfq.weight", "100");
    assert_int_equal(missing, CGROUP_NO_IO_WEIGHT);
}

static void test_v2_memory_rules(void **state)
{
    struct fake *fake = *state;
    unsigned missing = 0;
    fake_file(fake, "memory.max", "max");
    struct cgroup_limits limits = { .memory_limit = 1000, .memory_swap = 1000 }; // no swap: fine where there is none anyway
    must(cgroup_limit(fake->cgroup, &limits, &missing, &fake->err), &fake->err);
    assert_int_equal(missing, 0);
    fake_file(fake, "memory.swap.max", "max");
    must(cgroup_limit(fake->cgroup, &limits, &missing, &fake->err), &fake->err);
    expect_file(fake, "memory.swap.max", "0");
    limits = (struct cgroup_limits){ .memory_swap = 1000 };
    assert_int_equal(cgroup_limit(fake->cgroup, &limits, &missing, &fake->err), -1);
    assert_string_equal(fake->err.message, "unable to set swap limit without memory limit");
    fake_file(fake, "memory.current", "5000\n");
    limits = (struct cgroup_limits){ .memory_limit = 5000, .memory_check = true };
    assert_int_equal(cgroup_limit(fake->cgroup, &limits, &missing, &fake->err), -1);
    assert_string_equal(fake->err.message, "rejecting memory limit 5000 <= usage 5000");
    limits = (struct cgroup_limits){ .memory_limit = 6000, .memory_swap = 4000, .memory_check = true };
    assert_int_equal(cgroup_limit(fake->cgroup, &limits, &missing, &fake->err), -1);
    assert_string_equal(fake->err.message, "rejecting memory+swap limit 4000 <= usage 5000");
    expect_file(fake, "memory.max", "1000");
}

static void test_v2_unified(void **state)
{
    struct fake *fake = *state;
    unsigned missing = 0;
    static const struct cgroup_setting settings[] = { { "memory.high", "4096" }, { "memory.max", "99" }, { "io.max", "8:0 rbps=1\n8:16 rbps=2\n" } };
    struct cgroup_limits limits = { .memory_limit = 1000, .unified = settings, .unified_len = ARRAY_LEN(settings) };
    fake_file(fake, "cgroup.controllers", "memory");
    fake_file(fake, "memory.max", "max");
    fake_file(fake, "memory.high", "max");
    fake_file(fake, "io.max", "");
    must(cgroup_limit(fake->cgroup, &limits, &missing, &fake->err), &fake->err);
    expect_file(fake, "memory.high", "4096");
    expect_file(fake, "memory.max", "99"); // what is said here wins
    expect_file(fake, "io.max", "8:16 rbps=2");
    static const struct {
        const char *file, *says;
    } bad[] = {
        { "../memory.max", "must be a file name (no slashes)" }, { "..", "must be a file name" }, { "", "must be a file name" },
        { "a/b.c", "no slashes" }, { "memory", "must be in the form CONTROLLER.PARAMETER" }, { ".max", "CONTROLLER.PARAMETER" },
        { "misc.max", "can't be set: controller \"misc\" not available" }, { "memory.nosuch", "memory.nosuch" },
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const struct cgroup_setting setting = { bad[i].file, "1" };
        limits = (struct cgroup_limits){ .unified = &setting, .unified_len = 1 };
        assert_int_equal(cgroup_limit(fake->cgroup, &limits, &missing, &fake->err), -1);
        if (!strstr(fake->err.message, bad[i].says))
            fail_msg("%s: \"%s\"", bad[i].file, fake->err.message);
    }
}

// ---- what is used ---------------------------------------------------------------------------------------------------

static uint64_t raw(const struct cgroup_report *report, const char *name)
{
    for (size_t i = 0; i < report->memory.raw.len; i++)
        if (str_eq(report->memory.raw.items[i].name, name))
            return report->memory.raw.items[i].value;
    return 0;
}

static void test_v2_report(void **state)
{
    struct fake *fake = *state;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct cgroup_report report;
    fake_file(fake, "cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 5\nnr_throttled 4\nthrottled_usec 3\nnr_bursts 2\nburst_usec 1\n");
    fake_file(fake, "cpu.pressure", "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n");
    fake_file(fake, "memory.stat", "anon 1\nfile 88\ninactive_file 77\nbad\n\nworse x\n");
    fake_file(fake, "memory.current", "4096\n");
    fake_file(fake, "memory.max", "8192\n");
    fake_file(fake, "memory.peak", "5000\n");
    fake_file(fake, "memory.swap.current", "10\n");
    fake_file(fake, "memory.swap.max", "max\n");
    fake_file(fake, "memory.events", "max 6\noom 1\n");
    fake_file(fake, "pids.current", "2\n");
    fake_file(fake, "pids.max", "max\n");
    fake_file(fake, "io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\nx rbytes=9\n8:16 rbytes=x wbytes=7\n");
    fake_file(fake, "rdma.max", "mlx4_0 hca_handle=2 hca_object=max\n");
    fake_file(fake, "rdma.current", "mlx4_0 hca_handle=1 hca_object=5\n");
    must(cgroup_report(fake->cgroup, &arena, &report, &fake->err), &fake->err);
    assert_int_equal(report.cpu.total_ns, 30000);
    assert_int_equal(report.cpu.throttled_ns, 3000);
    assert_int_equal(report.cpu.burst_ns, 1000);
    assert_true(report.cpu.pressure.present && !report.memory.pressure.present);
    assert_int_equal((int)(report.cpu.pressure.some.avg10 * 100), 150);
    assert_int_equal(report.cpu.pressure.full.total_us, 9);
    assert_int_equal(report.memory.cache, 88);
    assert_int_equal(report.memory.raw.len, 3);
    assert_int_equal(raw(&report, "inactive_file"), 77);
    assert_int_equal(report.memory.memory.limit, 8192);
    assert_int_equal(report.memory.memory.max_usage, 5000);
    assert_int_equal(report.memory.memory.failures, 6);
    assert_int_equal(report.memory.with_swap.usage, 4106);
    assert_true(report.memory.with_swap.limit == UINT64_MAX);
    assert_int_equal(report.pids_current, 2);
    assert_int_equal(report.pids_limit, 0);
    assert_int_equal(report.io.service_bytes.len, 3);
    assert_int_equal(report.io.service_bytes.items[2].minor, 16);
    assert_string_equal(report.io.service_bytes.items[1].operation, "Write");
    assert_int_equal(report.io.serviced.items[1].value, 4);
    assert_int_equal(report.rdma_limits.items[0].hca_objects, UINT32_MAX);
    assert_int_equal(report.rdma_current.items[0].hca_objects, 5);
}

static void test_v1_report(void **state)
{
    struct fake *fake = *state;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct cgroup_report report;
    fake_file(fake, "cpuacct.usage", "60\n");
    fake_file(fake, "cpuacct.usage_percpu", "10 20 30 \n");
    fake_file(fake, "cpuacct.usage_all", "cpu user system\n0 4 6\n1 8 12\n2 10 20\n9 1 1\n");
    fake_file(fake, "cpu.stat", "nr_periods 5\nnr_throttled 4\nthrottled_time 3\nnr_bursts 2\nburst_time 1\n");
    fake_file(fake, "cpuset.cpus", "0-2\n");
    fake_file(fake, "cpuset.sched_relax_domain_level", "-1\n");
    fake_file(fake, "memory.stat", "cache 11\nrss 22\n");
    fake_file(fake, "memory.usage_in_bytes", "100\n");
    fake_file(fake, "memory.limit_in_bytes", "9223372036854771712\n");
    fake_file(fake, "memory.memsw.usage_in_bytes", "130\n");
    fake_file(fake, "memory.failcnt", "3\n");
    fake_file(fake, "memory.use_hierarchy", "1\n");
    fake_file(fake, "pids.max", "12\n");
    fake_file(fake, "blkio.bfq.io_serviced_recursive", "Total 0\n");
    fake_file(fake, "blkio.throttle.io_serviced", "8:0 Read 3\n8:0 Write 4\n8:0 Total 7\nTotal 7\n");
    fake_file(fake, "blkio.throttle.io_service_bytes", "8:0 Read 4096\nTotal 4096\n");
    must(cgroup_report(fake->cgroup, &arena, &report, &fake->err), &fake->err);
    assert_int_equal(report.cpu.total_ns, 60);
    assert_int_equal(report.cpu.cpu_len, 3);
    assert_int_equal(report.cpu.total_per_cpu_ns[2], 30);
    assert_int_equal(report.cpu.user_per_cpu_ns[1], 8);
    assert_int_equal(report.cpu.system_per_cpu_ns[2], 20);
    assert_int_equal(report.cpu.burst_ns, 1);
    assert_string_equal(report.cpuset.cpus, "0-2");
    assert_int_equal(report.cpuset.sched_relax_domain_level, -1);
    assert_int_equal(report.memory.cache, 11);
    assert_int_equal(report.memory.swap_alone.usage, 30);
    assert_int_equal(report.memory.memory.failures, 3);
    assert_true(report.memory.hierarchical);
    assert_int_equal(report.pids_limit, 12);
    assert_int_equal(report.io.serviced.len, 3);
    assert_string_equal(report.io.serviced.items[0].operation, "Read");
    assert_int_equal(report.io.service_bytes.items[0].value, 4096);
}

// ---- this machine ---------------------------------------------------------------------------------------------------

struct group {
    struct cgroup_layout layout;
    char path[48];
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
    snprintf(group->path, sizeof(group->path), "berth-test-%s", digits);
    if (geteuid() == 0 && group->layout.version != CGROUP_NONE)
        must(cgroup_create(&group->layout, group->path, &group->cgroup, &group->err), &group->err);
    return 0;
}

static int group_down(void **state)
{
    struct group *group = *state;
    if (group->cgroup)
        must(cgroup_kill(group->cgroup, 5 * NS_PER_S, &group->err), &group->err);
    cgroup_free(group->cgroup);
    if (geteuid() == 0)
        must(cgroup_remove(&group->layout, group->path, 5 * NS_PER_S, &group->err), &group->err);
    free(group);
    return 0;
}

#define NEED_GROUP(group)                                       \
    do {                                                        \
        if (!(group)->cgroup) {                                 \
            print_message("skipped: needs root and cgroups\n"); \
            return;                                             \
        }                                                       \
    } while (0)

static unsigned limit(struct group *group, const struct cgroup_limits *limits)
{
    unsigned missing = 0;
    must(cgroup_limit(group->cgroup, limits, &missing, &group->err), &group->err);
    return missing;
}

// Up beyond the old sum, down below it, to none and back: whichever of the two must move first.
static void test_memory_steps(void **state)
{
    struct group *group = *state;
    NEED_GROUP(group);
    static const struct {
        int64_t memory, both;
    } steps[] = { { 64, 128 }, { 256, 512 }, { 32, 48 }, { 512, 512 }, { -1, -1 }, { 64, -1 }, { 128, 160 }, { -1, 0 }, { 16, 16 } };
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        int64_t memory = steps[i].memory > 0 ? steps[i].memory << 20 : steps[i].memory;
        const struct cgroup_limits limits = { .memory_limit = memory, .memory_swap = steps[i].both > 0 ? steps[i].both << 20 : steps[i].both };
        unsigned missing = limit(group, &limits);
        struct cgroup_stats stats;
        must(cgroup_stats(group->cgroup, &stats, &group->err), &group->err);
        if (missing & CGROUP_NO_MEMORY)
            continue;
        if (memory > 0)
            assert_int_equal(stats.memory_limit, memory);
        else
            assert_true(stats.memory_limit > INT64_C(1) << 60);
    }
}

static void test_cpu_steps(void **state)
{
    struct group *group = *state;
    NEED_GROUP(group);
    static const struct cgroup_limits steps[] = {
        { .cpu_shares = 2, .cpu_quota = 10000, .cpu_period = 50000 },
        { .cpu_quota = 200000, .cpu_period = 1000000, .cpu_burst = { true, 100000 } },
        { .cpu_quota = 5000, .cpu_period = 20000, .cpu_burst = { true, 0 } },
        { .cpu_quota = 40000, .cpu_period = 20000, .cpu_burst = { true, 20000 } },
        { .cpu_quota = -1, .cpu_burst = { true, 0 } },
        { .cpu_shares = 262144, .cpuset_cpus = "0" },
        { .cpu_idle = { true, 1 } },
        { .cpu_idle = { true, 0 } },
    };
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        limit(group, &steps[i]);
    if (group->layout.version == CGROUP_V2)
        return;
    unsigned missing;
    const struct cgroup_limits one = { .cpu_shares = 1 };
    if (cgroup_layout_has(&group->layout, "cpu")) {
        assert_int_equal(cgroup_limit(group->cgroup, &one, &missing, &group->err), -1);
        assert_string_equal(group->err.message, "the minimum allowed cpu-shares is 2");
    }
}

// A throttle for the first disk there is.
static void test_io(void **state)
{
    struct group *group = *state;
    NEED_GROUP(group);
    _cleanup_dir_ DIR *dir = opendir("/sys/block");
    struct dirent *entry;
    unsigned major = 0, minor = 0;
    while (dir && (entry = readdir(dir)) && major == 0) {
        char path[300];
        snprintf(path, sizeof(path), "/sys/block/%s/dev", entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
        if (file && fscanf(file, "%u:%u", &major, &minor) != 2)
            major = 0;
        if (file)
            fclose(file);
    }
    if (major == 0) {
        print_message("skipped: no block device\n");
        return;
    }
    const struct cgroup_device_rate rate = { major, minor, 1 << 20 }, off = { major, minor, 0 };
    const struct cgroup_limits set = { .io_read_bps = &rate, .io_read_bps_len = 1, .io_write_bps = &rate, .io_write_bps_len = 1,
                                       .io_read_iops = &rate, .io_read_iops_len = 1, .io_write_iops = &rate, .io_write_iops_len = 1 };
    const struct cgroup_limits clear = { .io_read_bps = &off, .io_read_bps_len = 1 };
    unsigned missing = limit(group, &set);
    print_message("%s\n", missing & CGROUP_NO_IO_LIMIT ? "no io controller" : "throttled");
    limit(group, &clear);
    const struct cgroup_device_rate nowhere = { 4000, 1, 5 };
    const struct cgroup_limits bad = { .io_read_bps = &nowhere, .io_read_bps_len = 1 };
    assert_int_equal(cgroup_limit(group->cgroup, &bad, &missing, &group->err), missing & CGROUP_NO_IO_LIMIT ? 0 : -1);
}

static void test_others(void **state)
{
    struct group *group = *state;
    NEED_GROUP(group);
    const struct cgroup_limits limits = { .memory_swappiness = { true, 10 }, .memory_reservation = 32 << 20, .pids_limit = 9,
                                          .huge_pages = pages, .huge_page_len = 1, .net_class = 1048577, .net_priorities = priorities,
                                          .net_priority_len = 1, .cpuset_mems = "0" };
    unsigned missing = limit(group, &limits);
    struct cgroup_stats stats;
    must(cgroup_stats(group->cgroup, &stats, &group->err), &group->err);
    if (!(missing & CGROUP_NO_PIDS))
        assert_int_equal(stats.pids_limit, 9);
    assert_int_equal(missing & CGROUP_NO_MEMORY, 0);
    assert_false(cgroup_is_frozen(group->cgroup));
}

// A child that joins and then wants more than it may have; with `oom_score_adj` at its highest, so that it is the one.
static pid_t glutton(struct group *group)
{
    int gate[2];
    struct err err = { 0 };
    assert_int_equal(fd_pipe(gate, &err), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        if (read(gate[0], &byte, 1) != 1)
            _exit(1);
        for (int i = 0; i < 256; i++) {
            char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
            if (memory != MAP_FAILED)
                memset(memory, i + 1, 1 << 20);
        }
        _exit(0);
    }
    must(cgroup_join(group->cgroup, pid, &group->err), &group->err);
    assert_int_equal(write(gate[1], "x", 1), 1);
    close(gate[0]);
    close(gate[1]);
    return pid;
}

static void test_oom(void **state)
{
    struct group *group = *state;
    NEED_GROUP(group);
    const struct cgroup_limits limits = { .memory_limit = 16 << 20, .memory_swap = 16 << 20 };
    if (limit(group, &limits) & CGROUP_NO_MEMORY) {
        print_message("skipped: no memory controller\n");
        return;
    }
    int64_t before = cgroup_oom_kills(group->cgroup);
    _cleanup_close_ int fd = cgroup_oom_fd(group->cgroup, &group->err);
    if (fd < 0)
        fail_msg("%s", group->err.message);
    struct pollfd wait = { .fd = fd, .events = POLLIN };
    assert_int_equal(poll(&wait, 1, 0), 0);
    pid_t pid = glutton(group);
    assert_int_equal(poll(&wait, 1, 20000), 1);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    for (int i = 0; i < 200 && cgroup_oom_kills(group->cgroup) == before; i++)
        usleep(10000);
    assert_int_equal(cgroup_oom_kills(group->cgroup), before + 1);
    cgroup_oom_read(fd);
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct cgroup_report report;
    must(cgroup_report(group->cgroup, &arena, &report, &group->err), &group->err);
    assert_true(report.memory.memory.max_usage > 8 << 20 || group->layout.version == CGROUP_V2); // v2's peak: from 5.19 on
    assert_true(report.memory.raw.len > 10);
}

static void test_running(void **state)
{
    struct group *group = *state;
    NEED_GROUP(group);
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct cgroup_report report;
    pid_t pid = fork();
    if (pid == 0)
        for (volatile uint64_t i = 0;; i++)
            ;
    must(cgroup_join(group->cgroup, pid, &group->err), &group->err);
    const struct cgroup_limits limits = { .cpu_quota = 5000, .cpu_period = 50000, .pids_limit = 3, .memory_limit = 64 << 20 };
    unsigned missing = limit(group, &limits);
    usleep(400000);
    must(cgroup_report(group->cgroup, &arena, &report, &group->err), &group->err);
    assert_true(report.cpu.total_ns > 0);
    if (!(missing & CGROUP_NO_CPU_QUOTA))
        assert_true(report.cpu.throttled_periods > 0 && report.cpu.total_ns < 300 * NS_PER_MS);
    if (!(missing & CGROUP_NO_PIDS))
        assert_true(report.pids_current == 1 && report.pids_limit == 3);
    must(cgroup_freeze(group->cgroup, true, &group->err), &group->err);
    assert_true(cgroup_is_frozen(group->cgroup));
    must(cgroup_freeze(group->cgroup, false, &group->err), &group->err);
    assert_false(cgroup_is_frozen(group->cgroup));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void test_real_unified(void **state)
{
    struct group *group = *state;
    NEED_GROUP(group);
    if (group->layout.version != CGROUP_V2) {
        print_message("skipped: not a cgroup v2 machine\n");
        return;
    }
    static const struct cgroup_setting settings[] = { { "memory.high", "33554432" }, { "cpu.max", "20000 100000" }, { "cgroup.max.depth", "3" } };
    const struct cgroup_limits limits = { .memory_limit = 64 << 20, .unified = settings, .unified_len = ARRAY_LEN(settings) };
    assert_int_equal(limit(group, &limits), 0);
    _cleanup_buf_ struct buf text = BUF_INIT(100);
    must(file_read_at(cgroup_clone_fd(group->cgroup), "memory.high", &text, &group->err), &group->err);
    assert_string_equal(buf_text(&text), "33554432\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_swap),
        cmocka_unit_test(test_lists),
        cmocka_unit_test_setup_teardown(test_v1_files, fake_v1_up, fake_down),
        cmocka_unit_test_setup_teardown(test_v1_bfq, fake_v1_up, fake_down),
        cmocka_unit_test_setup_teardown(test_v1_missing, fake_v1_up, fake_down),
        cmocka_unit_test_setup_teardown(test_v2_files, fake_v2_up, fake_down),
        cmocka_unit_test_setup_teardown(test_v2_unlimited, fake_v2_up, fake_down),
        cmocka_unit_test_setup_teardown(test_v2_bfq, fake_v2_up, fake_down),
        cmocka_unit_test_setup_teardown(test_v2_memory_rules, fake_v2_up, fake_down),
        cmocka_unit_test_setup_teardown(test_v2_unified, fake_v2_up, fake_down),
        cmocka_unit_test_setup_teardown(test_v2_report, fake_v2_up, fake_down),
        cmocka_unit_test_setup_teardown(test_v1_report, fake_v1_up, fake_down),
        cmocka_unit_test_setup_teardown(test_memory_steps, group_up, group_down),
        cmocka_unit_test_setup_teardown(test_cpu_steps, group_up, group_down),
        cmocka_unit_test_setup_teardown(test_io, group_up, group_down),
        cmocka_unit_test_setup_teardown(test_others, group_up, group_down),
        cmocka_unit_test_setup_teardown(test_oom, group_up, group_down),
        cmocka_unit_test_setup_teardown(test_running, group_up, group_down),
        cmocka_unit_test_setup_teardown(test_real_unified, group_up, group_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
