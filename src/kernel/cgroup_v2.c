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

static const char *const wanted_controllers[] = { "cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma" };

static bool is_wanted(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(wanted_controllers); i++)
        if (slice_eq(name, wanted_controllers[i]))
            return true;
    return false;
}

// What is there, in one write; if the kernel refuses that, one by one: a controller must not cost the others. What
// could not be handed down shows itself later as a missing file, and is reported there.
void cgroup_v2_delegate(int dir_fd)
{
    _cleanup_buf_ struct buf there = BUF_INIT(4096), text = BUF_INIT(4096);
    if (cgroup_read(dir_fd, "cgroup.controllers", &there, NULL) < 0)
        return;
    struct slice rest = slice_trim(slice_of(buf_text(&there))), word;
    while (slice_cut(&rest, ' ', &word))
        if (is_wanted(word))
            buf_addf(&text, "%s+%.*s", text.size ? " " : "", (int)word.size, word.data);
    if (text.size == 0 || cgroup_put(dir_fd, "cgroup.subtree_control", NULL, "%s", buf_text(&text)) == 0)
        return;
    rest = slice_of(buf_text(&text));
    while (slice_cut(&rest, ' ', &word))
        cgroup_put(dir_fd, "cgroup.subtree_control", NULL, "%.*s", (int)word.size, word.data);
}

// ---- limits ---------------------------------------------------------------------------------------------------------

#define ROW(name, kind, member, bit)                                  \
    {                                                                 \
        NULL, name, kind, offsetof(struct cgroup_limits, member), bit \
    }

static const struct cgroup_limit_file files[] = {
    ROW("pids.max", CGROUP_NUMBER_MAX, pids_limit, CGROUP_NO_PIDS),
    ROW("memory.max", CGROUP_NUMBER_MAX, memory_limit, CGROUP_NO_MEMORY),
    ROW("memory.low", CGROUP_NUMBER_MAX, memory_reservation, CGROUP_NO_RESERVATION),
    ROW("cpu.idle", CGROUP_SET_NUMBER, cpu_idle, CGROUP_NO_CPU_IDLE),
    ROW("cpu.max.burst", CGROUP_SET_NUMBER, cpu_burst, CGROUP_NO_CPU_BURST),
    ROW("cpuset.cpus", CGROUP_WORD, cpuset_cpus, CGROUP_NO_CPUSET),
    ROW("cpuset.mems", CGROUP_WORD, cpuset_mems, CGROUP_NO_CPUSET),
    ROW("memory.kmem", CGROUP_UNSUPPORTED, memory_kernel, CGROUP_NO_KERNEL_MEMORY),
    ROW("memory.kmem.tcp", CGROUP_UNSUPPORTED, memory_kernel_tcp, CGROUP_NO_KERNEL_MEMORY),
    ROW("memory.swappiness", CGROUP_SET_UNSUPPORTED, memory_swappiness, CGROUP_NO_SWAPPINESS),
    ROW("cpu.rt_runtime", CGROUP_UNSUPPORTED, cpu_rt_runtime, CGROUP_NO_CPU_RT),
    ROW("cpu.rt_period", CGROUP_UNSUPPORTED, cpu_rt_period, CGROUP_NO_CPU_RT),
    ROW("io.leaf_weight", CGROUP_UNSUPPORTED, io_leaf_weight, CGROUP_NO_IO_WEIGHT),
    ROW("net_cls", CGROUP_UNSUPPORTED, net_class, CGROUP_NO_NET),
    ROW("net_prio", CGROUP_UNSUPPORTED, net_priority_len, CGROUP_NO_NET),
};

static int check_memory(int dir, const struct cgroup_limits *limits, struct err *err)
{
    int64_t usage = limits->memory_check ? cgroup_number(dir, "memory.current", -1) : -1;
    if (usage < 0)
        return 0;
    if (limits->memory_swap > 0 && limits->memory_swap <= usage)
        return err_set(err, ERR_INVALID_ARGUMENT, "rejecting memory+swap limit %lld <= usage %lld",
                       (long long)limits->memory_swap, (long long)usage);
    if (limits->memory_limit > 0 && limits->memory_limit <= usage)
        return err_set(err, ERR_INVALID_ARGUMENT, "rejecting memory limit %lld <= usage %lld",
                       (long long)limits->memory_limit, (long long)usage);
    return 0;
}

// No swap and unlimited swap are what a kernel without swap accounting has anyway: nothing is missing then.
static int add_swap(struct cgroup_changes *changes, int dir, const struct cgroup_limits *limits, struct err *err)
{
    int64_t swap;
    bool none;
    if (cgroup_swap_alone(limits->memory_limit, limits->memory_swap, &swap, &none, err) < 0)
        return -1;
    if (none)
        cgroup_change_add(changes, dir, "memory.swap.max", 0, "0");
    else if (swap < 0)
        cgroup_change_add(changes, dir, "memory.swap.max", 0, "max");
    else if (swap > 0)
        cgroup_change_add(changes, dir, "memory.swap.max", CGROUP_NO_SWAP, "%lld", (long long)swap);
    return 0;
}

static void add_cpu(struct cgroup_changes *changes, int dir, const struct cgroup_limits *limits)
{
    uint64_t weight = limits->cpu_shares > 0 ? cgroup_weight_of_shares((uint64_t)limits->cpu_shares) : 0;
    long long period = limits->cpu_period > 0 ? (long long)limits->cpu_period : 100000; // the kernel's own default
    if (weight)
        cgroup_change_add(changes, dir, "cpu.weight", CGROUP_NO_CPU_SHARES, "%llu", (unsigned long long)weight);
    if (limits->cpu_quota > 0)
        cgroup_change_add(changes, dir, "cpu.max", CGROUP_NO_CPU_QUOTA, "%lld %lld", (long long)limits->cpu_quota,
                          period);
    else if (limits->cpu_quota || limits->cpu_period)
        cgroup_change_add(changes, dir, "cpu.max", CGROUP_NO_CPU_QUOTA, "max %lld", period);
}

// BFQ has weights for devices (from Linux 5.4; an older one reads as a bare number); without it there is one for all.
static bool bfq_has_devices(int dir)
{
    return cgroup_has_file(dir, "io.bfq.weight") && cgroup_number(dir, "io.bfq.weight", -1) < 0;
}

static void add_weights(struct cgroup_changes *changes, int dir, const struct cgroup_limits *limits, unsigned *missing)
{
    bool bfq = cgroup_has_file(dir, "io.bfq.weight");
    uint64_t weight = limits->io_weight > 0 ? (uint64_t)limits->io_weight : 0;
    if (weight)
        cgroup_change_add(changes, dir, bfq ? "io.bfq.weight" : "io.weight", CGROUP_NO_IO_WEIGHT, "%llu",
                          (unsigned long long)(bfq ? weight : cgroup_weight_of_io(weight)));
    bool each = limits->io_weight_len && bfq_has_devices(dir);
    if (limits->io_weight_len && !each)
        *missing |= CGROUP_NO_IO_WEIGHT;
    for (size_t i = 0; each && i < limits->io_weight_len; i++)
        cgroup_change_add(changes, dir, "io.bfq.weight", CGROUP_NO_IO_WEIGHT, "%lld:%lld %lld",
                          (long long)limits->io_weights[i].major, (long long)limits->io_weights[i].minor,
                          (long long)limits->io_weights[i].weight);
}

static void add_rates(struct cgroup_changes *changes, int dir, const char *word, const struct cgroup_device_rate *rates,
                      size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char rate[24] = "max";
        if (rates[i].rate)
            snprintf(rate, sizeof(rate), "%llu", (unsigned long long)rates[i].rate);
        cgroup_change_add(changes, dir, "io.max", CGROUP_NO_IO_LIMIT, "%lld:%lld %s=%s", (long long)rates[i].major,
                          (long long)rates[i].minor, word, rate);
    }
}

static void add_io(struct cgroup_changes *changes, int dir, const struct cgroup_limits *limits, unsigned *missing)
{
    add_weights(changes, dir, limits, missing);
    add_rates(changes, dir, "rbps", limits->io_read_bps, limits->io_read_bps_len);
    add_rates(changes, dir, "wbps", limits->io_write_bps, limits->io_write_bps_len);
    add_rates(changes, dir, "riops", limits->io_read_iops, limits->io_read_iops_len);
    add_rates(changes, dir, "wiops", limits->io_write_iops, limits->io_write_iops_len);
}

// A file's name, of a controller, in this folder and no other.
static int check_setting(int dir, const char *file, struct err *err)
{
    if (str_empty(file) || strchr(file, '/') || str_eq(file, ".") || str_eq(file, ".."))
        return err_set(err, ERR_INVALID_ARGUMENT, "unified resource \"%.100s\" must be a file name (no slashes)",
                       file ? file : "");
    const char *dot = strchr(file, '.');
    if (!dot || dot == file)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "unified resource \"%.100s\" must be in the form CONTROLLER.PARAMETER", file);
    _cleanup_buf_ struct buf there = BUF_INIT(4096);
    struct slice rest, word, controller = { file, (size_t)(dot - file) };
    if (slice_eq(controller, "cgroup") || cgroup_has_file(dir, file))
        return 0;
    if (cgroup_read(dir, "cgroup.controllers", &there, NULL) == 0)
        for (rest = slice_trim(slice_of(buf_text(&there))); slice_cut(&rest, ' ', &word);)
            if (word.size == controller.size && memcmp(word.data, controller.data, word.size) == 0)
                return 0; // the kernel will say what is wrong with the rest
    return err_set(err, ERR_NOT_FOUND, "unified resource \"%.100s\" can't be set: controller \"%.*s\" not available",
                   file, (int)controller.size, controller.data);
}

static int add_unified(struct cgroup_changes *changes, int dir, const struct cgroup_limits *limits, struct err *err)
{
    for (size_t i = 0; i < limits->unified_len; i++) {
        const struct cgroup_setting *setting = &limits->unified[i];
        if (check_setting(dir, setting->file, err) < 0)
            return -1;
        struct slice rest = slice_of(setting->value ? setting->value : ""), line;
        bool empty = rest.size == 0;
        while (slice_cut(&rest, '\n', &line))
            if (line.size > 0 || empty)
                cgroup_change_add(changes, dir, setting->file, CGROUP_MUST, "%.*s", (int)line.size, line.data);
    }
    return 0;
}

int cgroup_v2_changes(struct cgroup *cgroup, const struct cgroup_limits *limits, struct cgroup_changes *changes,
                      unsigned *missing, struct err *err)
{
    int dir = cgroup_v2_dir(cgroup);
    if (check_memory(dir, limits, err) < 0 || add_swap(changes, dir, limits, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        cgroup_change_add_row(changes, dir, &files[i], limits, missing);
    *missing |= limits->oom_kill_disable ? CGROUP_NO_OOM_CONTROL : 0;
    add_cpu(changes, dir, limits);
    add_io(changes, dir, limits, missing);
    cgroup_change_add_huge_pages(changes, dir, "max", limits);
    cgroup_change_add_rdma(changes, dir, limits);
    return add_unified(changes, dir, limits, err);
}

// Unlike other limits these fail when the kernel can't: nobody may run without them who was to have them.
int cgroup_v2_after(struct cgroup *cgroup, const struct cgroup_limits *limits, unsigned *missing, struct err *err)
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
    return device_program_attach(&program, cgroup_v2_dir(cgroup), err);
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
