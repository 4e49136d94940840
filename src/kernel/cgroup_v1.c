// The legacy hierarchies: one folder per controller, each with its own limits.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "cgroup_private.h"

#define FREEZE_TIMEOUT_NS (2 * NS_PER_S)

static bool has_word(const char *list, const char *word)
{
    struct slice words = slice_of(list), part;
    while (slice_cut(&words, ',', &part))
        if (slice_eq(part, word))
            return true;
    return false;
}

static int inherit(int parent_fd, int dir_fd, const char *file, bool empty, struct err *err)
{
    _cleanup_buf_ struct buf own = BUF_INIT(4096), above = BUF_INIT(4096);
    if (!empty && cgroup_read(dir_fd, file, &own, err) < 0)
        return -1;
    if (slice_trim(slice_of(buf_text(&own))).size > 0)
        return 0;
    if (cgroup_read(parent_fd, file, &above, err) < 0)
        return -1;
    return cgroup_put(dir_fd, file, err, "%s", buf_text(&above));
}

// A new cpuset is empty, also one that a caller made for us, and an empty one takes no tasks.
int cgroup_v1_prepare(const char *controllers, int parent_fd, int dir_fd, bool made, struct err *err)
{
    if (!has_word(controllers, "cpuset"))
        return 0;
    struct err missed = { 0 };
    if (inherit(parent_fd, dir_fd, "cpuset.cpus", made, &missed) == 0 &&
        inherit(parent_fd, dir_fd, "cpuset.mems", made, &missed) == 0)
        return 0;
    if (missed.number == ENOENT)
        return 0; // a made-up tree
    if (err)
        *err = missed;
    return -1;
}

#define ROW(controller, name, kind, member, bit)                            \
    {                                                                       \
        controller, name, kind, offsetof(struct cgroup_limits, member), bit \
    }

static const struct cgroup_limit_file files[] = {
    ROW("cpu", "cpu.shares", CGROUP_NUMBER, cpu_shares, CGROUP_NO_CPU_SHARES),
    ROW("cpu", "cpu.cfs_period_us", CGROUP_NUMBER, cpu_period, CGROUP_NO_CPU_QUOTA),
    ROW("cpu", "cpu.cfs_burst_us", CGROUP_SET_NUMBER, cpu_burst, CGROUP_NO_CPU_BURST),
    ROW("cpu", "cpu.cfs_quota_us", CGROUP_NUMBER, cpu_quota, CGROUP_NO_CPU_QUOTA),
    ROW("cpu", "cpu.idle", CGROUP_SET_NUMBER, cpu_idle, CGROUP_NO_CPU_IDLE),
    ROW("cpu", "cpu.rt_period_us", CGROUP_NUMBER, cpu_rt_period, CGROUP_NO_CPU_RT),
    ROW("cpu", "cpu.rt_runtime_us", CGROUP_NUMBER, cpu_rt_runtime, CGROUP_NO_CPU_RT),
    ROW("cpuset", "cpuset.cpus", CGROUP_WORD, cpuset_cpus, CGROUP_NO_CPUSET),
    ROW("cpuset", "cpuset.mems", CGROUP_WORD, cpuset_mems, CGROUP_NO_CPUSET),
    ROW("memory", "memory.limit_in_bytes", CGROUP_NUMBER, memory_limit, CGROUP_NO_MEMORY),
    ROW("memory", "memory.memsw.limit_in_bytes", CGROUP_NUMBER, memory_swap, CGROUP_NO_SWAP),
    ROW("memory", "memory.soft_limit_in_bytes", CGROUP_NUMBER, memory_reservation, CGROUP_NO_RESERVATION),
    ROW("memory", "memory.kmem.limit_in_bytes", CGROUP_NUMBER, memory_kernel, CGROUP_NO_KERNEL_MEMORY),
    ROW("memory", "memory.kmem.tcp.limit_in_bytes", CGROUP_NUMBER, memory_kernel_tcp, CGROUP_NO_KERNEL_MEMORY),
    ROW("memory", "memory.oom_control", CGROUP_FLAG, oom_kill_disable, CGROUP_NO_OOM_CONTROL),
    ROW("memory", "memory.swappiness", CGROUP_SET_NUMBER, memory_swappiness, CGROUP_NO_SWAPPINESS),
    ROW("pids", "pids.max", CGROUP_NUMBER_MAX, pids_limit, CGROUP_NO_PIDS),
    ROW("blkio", "blkio.leaf_weight", CGROUP_NUMBER, io_leaf_weight, CGROUP_NO_IO_WEIGHT),
    ROW("net_cls", "net_cls.classid", CGROUP_NUMBER, net_class, CGROUP_NO_NET),
};

static void add_weights(struct cgroup_changes *changes, int dir, const struct cgroup_limits *limits)
{
    // BFQ's own names where the scheduler that had the plain ones is gone (Linux 5.0).
    bool plain = cgroup_has_file(dir, "blkio.weight");
    if (limits->io_weight)
        cgroup_change_add(changes, dir, plain ? "blkio.weight" : "blkio.bfq.weight", CGROUP_NO_IO_WEIGHT, "%lld",
                          (long long)limits->io_weight);
    for (size_t i = 0; i < limits->io_weight_len; i++) {
        const struct cgroup_device_weight *item = &limits->io_weights[i];
        if (item->weight)
            cgroup_change_add(changes, dir, plain ? "blkio.weight_device" : "blkio.bfq.weight_device",
                              CGROUP_NO_IO_WEIGHT, "%lld:%lld %lld", (long long)item->major, (long long)item->minor,
                              (long long)item->weight);
        if (item->leaf_weight)
            cgroup_change_add(changes, dir, "blkio.leaf_weight_device", CGROUP_NO_IO_WEIGHT, "%lld:%lld %lld",
                              (long long)item->major, (long long)item->minor, (long long)item->leaf_weight);
    }
}

static void add_rates(struct cgroup_changes *changes, int dir, const char *file, const struct cgroup_device_rate *rates,
                      size_t len)
{
    for (size_t i = 0; i < len; i++)
        cgroup_change_add(changes, dir, file, CGROUP_NO_IO_LIMIT, "%lld:%lld %llu", (long long)rates[i].major,
                          (long long)rates[i].minor, (unsigned long long)rates[i].rate);
}

static void add_io(struct cgroup_changes *changes, int dir, const struct cgroup_limits *limits)
{
    add_weights(changes, dir, limits);
    add_rates(changes, dir, "blkio.throttle.read_bps_device", limits->io_read_bps, limits->io_read_bps_len);
    add_rates(changes, dir, "blkio.throttle.write_bps_device", limits->io_write_bps, limits->io_write_bps_len);
    add_rates(changes, dir, "blkio.throttle.read_iops_device", limits->io_read_iops, limits->io_read_iops_len);
    add_rates(changes, dir, "blkio.throttle.write_iops_device", limits->io_write_iops, limits->io_write_iops_len);
}

static void device_number(char out[24], int64_t number)
{
    if (number < 0)
        snprintf(out, 24, "*");
    else
        snprintf(out, 24, "%lld", (long long)number);
}

static void add_devices(struct cgroup_changes *changes, int dir, const struct cgroup_limits *limits)
{
    for (size_t i = 0; i < limits->device_len; i++) {
        const struct cgroup_device_rule *rule = &limits->devices[i];
        const char *file = rule->allow ? "devices.allow" : "devices.deny";
        char major[24], minor[24];
        device_number(major, rule->major);
        device_number(minor, rule->minor);
        // "a" speaks of all devices and takes no numbers.
        if (rule->type == 'a')
            cgroup_change_add(changes, dir, file, CGROUP_NO_DEVICES, "a");
        else
            cgroup_change_add(changes, dir, file, CGROUP_NO_DEVICES, "%c %s:%s %.3s", rule->type, major, minor,
                              rule->access);
    }
}

static void add_others(struct cgroup *cgroup, struct cgroup_changes *changes, const struct cgroup_limits *limits)
{
    int huge = cgroup_v1_dir(cgroup, "hugetlb"), rdma = cgroup_v1_dir(cgroup, "rdma"), tree = cgroup_v2_dir(cgroup);
    // Controllers that no v1 hierarchy has are in a hybrid host's cgroup2 tree.
    if ((huge < 0 && limits->huge_page_len) || (rdma < 0 && limits->rdma_len))
        cgroup_hand_down(cgroup);
    cgroup_change_add_huge_pages(changes, huge >= 0 ? huge : tree, huge >= 0 ? "limit_in_bytes" : "max", limits);
    cgroup_change_add_rdma(changes, rdma >= 0 ? rdma : tree, limits);
    for (size_t i = 0; i < limits->net_priority_len; i++)
        cgroup_change_add(changes, cgroup_v1_dir(cgroup, "net_prio"), "net_prio.ifpriomap", CGROUP_NO_NET, "%s %u",
                          limits->net_priorities[i].interface, limits->net_priorities[i].priority);
}

int cgroup_v1_changes(struct cgroup *cgroup, const struct cgroup_limits *limits, struct cgroup_changes *changes,
                      unsigned *missing, struct err *err)
{
    struct cgroup_limits whole = *limits;
    if (limits->unified_len)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid configuration: cannot use unified on cgroup v1");
    if (limits->memory_swappiness.set && (limits->memory_swappiness.value < 0 || limits->memory_swappiness.value > 100))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid memory swappiness value: %lld (valid range is 0-100)",
                       (long long)limits->memory_swappiness.value);
    // Unlimited memory under an old limit of both would stay limited.
    if (limits->memory_limit < 0 && limits->memory_swap == 0 &&
        cgroup_has_file(cgroup_v1_dir(cgroup, "memory"), "memory.memsw.limit_in_bytes"))
        whole.memory_swap = -1;
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        cgroup_change_add_row(changes, cgroup_v1_dir(cgroup, files[i].controller), &files[i], &whole, missing);
    add_io(changes, cgroup_v1_dir(cgroup, "blkio"), limits);
    add_others(cgroup, changes, limits);
    add_devices(changes, cgroup_v1_dir(cgroup, "devices"), limits);
    return 0;
}

// The kernel bounds shares silently.
int cgroup_v1_after(struct cgroup *cgroup, const struct cgroup_limits *limits, struct err *err)
{
    int64_t got =
        limits->cpu_shares ? cgroup_number(cgroup_v1_dir(cgroup, "cpu"), "cpu.shares", limits->cpu_shares) : 0;
    if (limits->cpu_shares && got != limits->cpu_shares)
        return err_set(err, ERR_INVALID_ARGUMENT, "the %s allowed cpu-shares is %lld",
                       limits->cpu_shares > got ? "maximum" : "minimum", (long long)got);
    return 0;
}

static bool state_is(int dir_fd, const char *word)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    return cgroup_read(dir_fd, "freezer.state", &text, NULL) == 0 &&
           slice_eq(slice_trim(slice_of(buf_text(&text))), word);
}

bool cgroup_v1_is_frozen(struct cgroup *cgroup)
{
    int dir = cgroup_v1_dir(cgroup, "freezer");
    return dir >= 0 && state_is(dir, "FROZEN");
}

int cgroup_v1_freeze(struct cgroup *cgroup, bool frozen, struct err *err)
{
    int dir = cgroup_v1_dir(cgroup, "freezer");
    if (dir < 0)
        return err_set(err, ERR_NOT_IMPLEMENTED, "this machine has no freezer cgroup");
    const char *word = frozen ? "FROZEN" : "THAWED";
    int64_t deadline = clock_mono_ns() + FREEZE_TIMEOUT_NS;
    for (;;) {
        // Written again each turn: a group that forks while it freezes stays FREEZING until asked anew.
        if (cgroup_put(dir, "freezer.state", err, "%s", word) < 0)
            return -1;
        if (state_is(dir, word))
            return 0;
        if (clock_mono_ns() > deadline)
            return err_set(err, ERR_UNAVAILABLE, "%s does not %s", cgroup->path, frozen ? "freeze" : "thaw");
        nanosleep(&(struct timespec){ .tv_nsec = NS_PER_MS }, NULL);
    }
}

int cgroup_v1_kill(struct cgroup *cgroup, struct err *err)
{
    // Frozen, nobody forks while the list is read; the signals act at the thaw.
    bool can_freeze = cgroup_v1_dir(cgroup, "freezer") >= 0 && !cgroup->layout.trusted;
    if (can_freeze)
        cgroup_v1_freeze(cgroup, true, NULL);
    int result = cgroup_signal_all(cgroup, SIGKILL, err);
    if (can_freeze)
        cgroup_v1_freeze(cgroup, false, NULL);
    return result;
}

void cgroup_v1_stats(struct cgroup *cgroup, struct cgroup_stats *out)
{
    int memory = cgroup_v1_dir(cgroup, "memory"), cpu = cgroup_v1_dir(cgroup, "cpu");
    int account = cgroup_v1_dir(cgroup, "cpuacct"), pids = cgroup_v1_dir(cgroup, "pids");
    out->memory_usage = cgroup_number(memory, "memory.usage_in_bytes", 0);
    out->memory_limit = cgroup_number(memory, "memory.limit_in_bytes", 0);
    out->memory_max_usage = cgroup_number(memory, "memory.max_usage_in_bytes", 0);
    out->memory_inactive_file = cgroup_keyed(memory, "memory.stat", "total_inactive_file", 0);
    out->cpu_total_ns = cgroup_number(account, "cpuacct.usage", 0);
    out->cpu_user_ns = cgroup_number(account, "cpuacct.usage_user", 0);
    out->cpu_system_ns = cgroup_number(account, "cpuacct.usage_sys", 0);
    out->cpu_periods = cgroup_keyed(cpu, "cpu.stat", "nr_periods", 0);
    out->cpu_throttled_periods = cgroup_keyed(cpu, "cpu.stat", "nr_throttled", 0);
    out->cpu_throttled_ns = cgroup_keyed(cpu, "cpu.stat", "throttled_time", 0);
    out->pids_current = cgroup_number(pids, "pids.current", 0);
    out->pids_limit = cgroup_number(pids, "pids.max", 0);
}
