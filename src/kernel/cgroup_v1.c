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

static int inherit(int parent_fd, int dir_fd, const char *file, struct err *err)
{
    _cleanup_buf_ struct buf own = BUF_INIT(4096), above = BUF_INIT(4096);
    if (cgroup_read(dir_fd, file, &own, err) < 0)
        return -1;
    if (slice_trim(slice_of(buf_text(&own))).size > 0)
        return 0;
    if (cgroup_read(parent_fd, file, &above, err) < 0)
        return -1;
    return cgroup_put(dir_fd, file, err, "%s", buf_text(&above));
}

// A new cpuset is empty, and an empty one takes no tasks.
int cgroup_v1_prepare(const char *controllers, int parent_fd, int dir_fd, struct err *err)
{
    if (!has_word(controllers, "cpuset"))
        return 0;
    struct err missed = { 0 };
    if (inherit(parent_fd, dir_fd, "cpuset.cpus", &missed) == 0 && inherit(parent_fd, dir_fd, "cpuset.mems", &missed) == 0)
        return 0;
    if (missed.number == ENOENT)
        return 0; // a made-up tree
    if (err)
        *err = missed;
    return -1;
}

// Writes a limit; a controller or file that is not there is noted in *missing.
static int set(int dir_fd, const char *file, const char *value, unsigned what, unsigned *missing, struct err *err)
{
    struct err failed = { 0 };
    if (dir_fd >= 0 && cgroup_put(dir_fd, file, &failed, "%s", value) == 0)
        return 0;
    if (dir_fd < 0 || failed.number == ENOENT || failed.number == EOPNOTSUPP) {
        *missing |= what;
        return 0;
    }
    if (err)
        *err = failed;
    return -1;
}

static int set_number(int dir_fd, const char *file, int64_t value, unsigned what, unsigned *missing, struct err *err)
{
    if (value == 0)
        return 0;
    char text[32];
    snprintf(text, sizeof(text), "%lld", (long long)value);
    return set(dir_fd, file, text, what, missing, err);
}

static int limit_memory(struct cgroup *cgroup, const struct cgroup_limits *limits, unsigned *missing, struct err *err)
{
    int dir = cgroup_v1_dir(cgroup, "memory");
    // The kernel holds memory <= memory+swap at every moment: raised, the sum goes first; lowered or new, last.
    int64_t sum_now = cgroup_number(dir, "memory.memsw.limit_in_bytes", 0);
    bool sum_first = limits->memory_limit > 0 && sum_now > 0 && limits->memory_limit > sum_now;
    if (sum_first &&
        set_number(dir, "memory.memsw.limit_in_bytes", limits->memory_swap, CGROUP_NO_SWAP, missing, err) < 0)
        return -1;
    if (set_number(dir, "memory.limit_in_bytes", limits->memory_limit, CGROUP_NO_MEMORY, missing, err) < 0)
        return -1;
    if (!sum_first &&
        set_number(dir, "memory.memsw.limit_in_bytes", limits->memory_swap, CGROUP_NO_SWAP, missing, err) < 0)
        return -1;
    return set_number(dir, "memory.soft_limit_in_bytes", limits->memory_reservation, CGROUP_NO_RESERVATION, missing, err);
}

static int limit_cpu(struct cgroup *cgroup, const struct cgroup_limits *limits, unsigned *missing, struct err *err)
{
    int cpu = cgroup_v1_dir(cgroup, "cpu"), sets = cgroup_v1_dir(cgroup, "cpuset");
    if (set_number(cpu, "cpu.shares", limits->cpu_shares, CGROUP_NO_CPU_SHARES, missing, err) < 0 ||
        set_number(cpu, "cpu.cfs_period_us", limits->cpu_period, CGROUP_NO_CPU_QUOTA, missing, err) < 0 ||
        set_number(cpu, "cpu.cfs_quota_us", limits->cpu_quota, CGROUP_NO_CPU_QUOTA, missing, err) < 0)
        return -1;
    if (!str_empty(limits->cpuset_cpus) &&
        set(sets, "cpuset.cpus", limits->cpuset_cpus, CGROUP_NO_CPUSET, missing, err) < 0)
        return -1;
    if (!str_empty(limits->cpuset_mems) &&
        set(sets, "cpuset.mems", limits->cpuset_mems, CGROUP_NO_CPUSET, missing, err) < 0)
        return -1;
    return 0;
}

static void device_number(char out[24], int64_t number)
{
    if (number < 0)
        snprintf(out, 24, "*");
    else
        snprintf(out, 24, "%lld", (long long)number);
}

static int limit_devices(struct cgroup *cgroup, const struct cgroup_limits *limits, unsigned *missing, struct err *err)
{
    int dir = cgroup_v1_dir(cgroup, "devices");
    for (size_t i = 0; i < limits->device_len; i++) {
        const struct cgroup_device_rule *rule = &limits->devices[i];
        char text[80], major[24], minor[24];
        device_number(major, rule->major);
        device_number(minor, rule->minor);
        // "a" speaks of all devices and takes no numbers.
        if (rule->type == 'a')
            snprintf(text, sizeof(text), "a");
        else
            snprintf(text, sizeof(text), "%c %s:%s %.3s", rule->type, major, minor, rule->access);
        if (set(dir, rule->allow ? "devices.allow" : "devices.deny", text, CGROUP_NO_DEVICES, missing, err) < 0)
            return -1;
    }
    return 0;
}

int cgroup_v1_limit(struct cgroup *cgroup, const struct cgroup_limits *limits, unsigned *missing, struct err *err)
{
    if (limit_memory(cgroup, limits, missing, err) < 0 || limit_cpu(cgroup, limits, missing, err) < 0)
        return -1;
    char pids[32] = "max";
    if (limits->pids_limit > 0)
        snprintf(pids, sizeof(pids), "%lld", (long long)limits->pids_limit);
    if (limits->pids_limit != 0 &&
        set(cgroup_v1_dir(cgroup, "pids"), "pids.max", pids, CGROUP_NO_PIDS, missing, err) < 0)
        return -1;
    return limit_devices(cgroup, limits, missing, err);
}

static bool state_is(int dir_fd, const char *word)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    return cgroup_read(dir_fd, "freezer.state", &text, NULL) == 0 &&
           slice_eq(slice_trim(slice_of(buf_text(&text))), word);
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
