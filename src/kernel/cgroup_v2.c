// The unified hierarchy: one folder with every controller's files, handed down by cgroup.subtree_control.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"
#include "cgroup_private.h"
#include "kernel/device_program.h"

#define FREEZE_TIMEOUT_NS (2 * NS_PER_S)

static const char *const wanted_controllers[] = { "cpuset", "cpu", "io", "memory", "hugetlb", "pids" };

// One by one: a controller that is not there must not cost the others. What could not be handed down shows itself
// later as a missing file, and is reported there.
void cgroup_v2_delegate(int dir_fd)
{
    for (size_t i = 0; i < ARRAY_LEN(wanted_controllers); i++)
        cgroup_put(dir_fd, "cgroup.subtree_control", NULL, "+%s", wanted_controllers[i]);
}

static int set(int dir_fd, const char *file, const char *value, unsigned what, unsigned *missing, struct err *err)
{
    struct err failed = { 0 };
    if (cgroup_put(dir_fd, file, &failed, "%s", value) == 0)
        return 0;
    if (failed.number == ENOENT || failed.number == EOPNOTSUPP) {
        *missing |= what;
        return 0;
    }
    if (err)
        *err = failed;
    return -1;
}

// 0 is not set, negative is "max".
static int set_number(int dir_fd, const char *file, int64_t value, unsigned what, unsigned *missing, struct err *err)
{
    char text[32] = "max";
    if (value == 0)
        return 0;
    if (value > 0)
        snprintf(text, sizeof(text), "%lld", (long long)value);
    return set(dir_fd, file, text, what, missing, err);
}

static int limit_memory(int dir, const struct cgroup_limits *limits, unsigned *missing, struct err *err)
{
    // Docker counts memory and swap together, the kernel counts swap alone.
    if (limits->memory_swap > 0 && limits->memory_limit > 0) {
        char swap[32];
        if (limits->memory_swap < limits->memory_limit)
            return err_set(err, ERR_INVALID_ARGUMENT, "memory and swap together are less than memory alone");
        snprintf(swap, sizeof(swap), "%lld", (long long)(limits->memory_swap - limits->memory_limit));
        if (set(dir, "memory.swap.max", swap, CGROUP_NO_SWAP, missing, err) < 0)
            return -1;
    } else if (limits->memory_swap < 0 && set(dir, "memory.swap.max", "max", CGROUP_NO_SWAP, missing, err) < 0) {
        return -1;
    }
    if (set_number(dir, "memory.max", limits->memory_limit, CGROUP_NO_MEMORY, missing, err) < 0)
        return -1;
    return set_number(dir, "memory.low", limits->memory_reservation, CGROUP_NO_RESERVATION, missing, err);
}

// 2..262144 shares onto weights 1..10000.
static int64_t weight_of(int64_t shares)
{
    int64_t bounded = MAX_OF(INT64_C(2), MIN_OF(shares, INT64_C(262144)));
    return 1 + (bounded - 2) * 9999 / 262142;
}

static int limit_cpu(int dir, const struct cgroup_limits *limits, unsigned *missing, struct err *err)
{
    if (limits->cpu_shares > 0 &&
        set_number(dir, "cpu.weight", weight_of(limits->cpu_shares), CGROUP_NO_CPU_SHARES, missing, err) < 0)
        return -1;
    if (limits->cpu_quota || limits->cpu_period) {
        char text[64], quota[24] = "max";
        if (limits->cpu_quota > 0)
            snprintf(quota, sizeof(quota), "%lld", (long long)limits->cpu_quota);
        snprintf(text, sizeof(text), "%s %lld", quota, limits->cpu_period > 0 ? (long long)limits->cpu_period : 100000LL);
        if (set(dir, "cpu.max", text, CGROUP_NO_CPU_QUOTA, missing, err) < 0)
            return -1;
    }
    if (!str_empty(limits->cpuset_cpus) &&
        set(dir, "cpuset.cpus", limits->cpuset_cpus, CGROUP_NO_CPUSET, missing, err) < 0)
        return -1;
    if (!str_empty(limits->cpuset_mems) &&
        set(dir, "cpuset.mems", limits->cpuset_mems, CGROUP_NO_CPUSET, missing, err) < 0)
        return -1;
    return 0;
}

// Unlike other limits these fail when the kernel can't: nobody may run without them who was to have them.
static int limit_devices(struct cgroup *cgroup, int dir, const struct cgroup_limits *limits, unsigned *missing,
                         struct err *err)
{
    struct device_program program;
    if (limits->device_len == 0)
        return 0;
    if (cgroup->layout.trusted) { // plain folders carry no programs
        *missing |= CGROUP_NO_DEVICES;
        return 0;
    }
    if (device_program_compile(limits->devices, limits->device_len, &program, err) < 0)
        return -1;
    return device_program_attach(&program, dir, err);
}

int cgroup_v2_limit(struct cgroup *cgroup, const struct cgroup_limits *limits, unsigned *missing, struct err *err)
{
    int dir = cgroup_v2_dir(cgroup);
    if (limit_memory(dir, limits, missing, err) < 0 || limit_cpu(dir, limits, missing, err) < 0 ||
        set_number(dir, "pids.max", limits->pids_limit, CGROUP_NO_PIDS, missing, err) < 0)
        return -1;
    return limit_devices(cgroup, dir, limits, missing, err);
}

// ---- freezing -------------------------------------------------------------------------------------------------------

#define STAT_FLAGS_WORD 7 // /proc/PID/stat, counted from the state, which follows the name in brackets
#define FLAG_KERNEL_THREAD 0x200000u // PF_KTHREAD

static bool is_kernel_thread(pid_t pid)
{
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    char path[32];
    uint64_t flags = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (file_read_at(AT_FDCWD, path, &text, NULL) < 0)
        return false;
    const char *name_end = strrchr(buf_text(&text), ')');
    struct slice rest = slice_of(name_end ? name_end + 1 : ""), word;
    for (int i = 0; i < STAT_FLAGS_WORD; i++) // the first is what stands before the state: nothing
        slice_cut(&rest, ' ', &word);
    return slice_cut(&rest, ' ', &word) && num_parse_u64(word, UINT32_MAX, &flags) && (flags & FLAG_KERNEL_THREAD);
}

// Until Linux 6.13 KVM makes a kernel thread for each machine, in the group of who makes the machine. It never freezes, and
// so the group would never be frozen. In the root group it keeps nobody awake; it ends with its machine.
static void put_out_kernel_threads(struct cgroup *cgroup)
{
    _cleanup_free_ pid_t *pids = NULL;
    _cleanup_close_ int root = -1;
    size_t len = 0, index = 0;
    while (!cgroup->layout.hierarchies[index].v2)
        index++;
    if (cgroup_pids(cgroup, &pids, &len, NULL) < 0)
        return;
    for (size_t i = 0; i < len; i++) {
        if (!is_kernel_thread(pids[i]))
            continue;
        if (root < 0)
            root = cgroup_open_root(&cgroup->layout, index, NULL);
        cgroup_put(root, "cgroup.procs", NULL, "%d", (int)pids[i]); // what stays is told by the freezing, which fails
    }
}

static bool wait_frozen(int dir, bool frozen)
{
    int64_t deadline = clock_mono_ns() + FREEZE_TIMEOUT_NS;
    while (cgroup_keyed(dir, "cgroup.events", "frozen", frozen) != frozen) {
        if (clock_mono_ns() > deadline)
            return false;
        nanosleep(&(struct timespec){ .tv_nsec = NS_PER_MS }, NULL);
    }
    return true;
}

int cgroup_v2_freeze(struct cgroup *cgroup, bool frozen, struct err *err)
{
    int dir = cgroup_v2_dir(cgroup);
    if (frozen)
        put_out_kernel_threads(cgroup);
    if (cgroup_put(dir, "cgroup.freeze", err, "%d", frozen ? 1 : 0) < 0)
        return -1;
    if (wait_frozen(dir, frozen))
        return 0;
    if (frozen) // half frozen would be neither
        cgroup_put(dir, "cgroup.freeze", NULL, "0");
    return err_set(err, ERR_UNAVAILABLE, "%s does not %s", cgroup->path, frozen ? "freeze" : "thaw");
}

int cgroup_v2_kill(struct cgroup *cgroup, struct err *err)
{
    return cgroup_put(cgroup_v2_dir(cgroup), "cgroup.kill", err, "1");
}

void cgroup_v2_stats(struct cgroup *cgroup, struct cgroup_stats *out)
{
    int dir = cgroup_v2_dir(cgroup);
    out->memory_usage = cgroup_number(dir, "memory.current", 0);
    out->memory_limit = cgroup_number(dir, "memory.max", INT64_MAX);
    out->memory_max_usage = cgroup_number(dir, "memory.peak", 0);
    out->memory_inactive_file = cgroup_keyed(dir, "memory.stat", "inactive_file", 0);
    out->cpu_total_ns = cgroup_keyed(dir, "cpu.stat", "usage_usec", 0) * 1000;
    out->cpu_user_ns = cgroup_keyed(dir, "cpu.stat", "user_usec", 0) * 1000;
    out->cpu_system_ns = cgroup_keyed(dir, "cpu.stat", "system_usec", 0) * 1000;
    out->cpu_periods = cgroup_keyed(dir, "cpu.stat", "nr_periods", 0);
    out->cpu_throttled_periods = cgroup_keyed(dir, "cpu.stat", "nr_throttled", 0);
    out->cpu_throttled_ns = cgroup_keyed(dir, "cpu.stat", "throttled_usec", 0) * 1000;
    out->pids_current = cgroup_number(dir, "pids.current", 0);
    out->pids_limit = cgroup_number(dir, "pids.max", 0);
}
