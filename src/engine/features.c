// Which limits this host can hold, looked up once, and what a client is told when it asks for others. The words are
// dockerd's, because people and programs know them.
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "engine_private.h"
#include "kernel/mount.h"
#include "vm.h"

// ---- probing --------------------------------------------------------------------------------------------------------

// A file of the root group of a v1 controller.
static bool v1_has(const struct cgroup_layout *layout, const char *controller, const char *file)
{
    for (size_t i = 0; i < layout->len; i++) {
        const struct cgroup_hierarchy *tree = &layout->hierarchies[i];
        struct slice words = slice_of(tree->controllers), word;
        char path[sizeof(tree->mount_point) + 64];
        snprintf(path, sizeof(path), "%s/%s", tree->mount_point, file);
        while (!tree->v2 && slice_cut(&words, ',', &word))
            if (slice_eq(word, controller))
                return access(path, F_OK) == 0;
    }
    return false;
}

// The root of a cgroup2 tree has no limits of its own, so we look at our own group; in the root itself nothing can be
// learned, and only a kernel built without swap accounting lacks it.
static bool v2_has_swap(const struct cgroup_layout *layout)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64 << 10);
    struct slice rest, line;
    if (file_read_at(AT_FDCWD, "/proc/self/cgroup", &text, NULL) < 0)
        return true;
    for (rest = slice_of(buf_text(&text)); slice_cut(&rest, '\n', &line);) {
        if (!slice_starts(line, "0::/") || line.size == strlen("0::/"))
            continue;
        _cleanup_free_ char *own = mem_strndup(line.data + 3, line.size - 3);
        _cleanup_free_ char *memory = mem_printf("%s%s/memory.max", layout->hierarchies[0].mount_point, own);
        _cleanup_free_ char *swap = mem_printf("%s%s/memory.swap.max", layout->hierarchies[0].mount_point, own);
        return access(memory, F_OK) != 0 || access(swap, F_OK) == 0;
    }
    return true;
}

void features_probe(const struct cgroup_layout *layout, struct host_features *out)
{
    bool v2 = layout->version == CGROUP_V2;
    bool memory = cgroup_layout_has(layout, "memory"), cpu = cgroup_layout_has(layout, "cpu");
    *out = (struct host_features){
        .memory = memory,
        .swap = memory && (v2 ? v2_has_swap(layout) : v1_has(layout, "memory", "memory.memsw.limit_in_bytes")),
        .reservation = memory && (v2 || v1_has(layout, "memory", "memory.soft_limit_in_bytes")),
        .cpu_shares = cpu && (v2 || v1_has(layout, "cpu", "cpu.shares")),
        .cpu_quota = cpu && (v2 || v1_has(layout, "cpu", "cpu.cfs_quota_us")),
        .cpuset = cgroup_layout_has(layout, "cpuset"),
        .pids = cgroup_layout_has(layout, "pids"),
        .swappiness = memory && !v2 && v1_has(layout, "memory", "memory.swappiness"),
        .oom_control = memory && !v2 && v1_has(layout, "memory", "memory.oom_control"),
        .io_weight = v2 ? cgroup_layout_has(layout, "io")
                        : v1_has(layout, "blkio", "blkio.weight") || v1_has(layout, "blkio", "blkio.bfq.weight"),
    };
}

// ---- telling --------------------------------------------------------------------------------------------------------

// Root of a user namespace has the capability and may not: the kernel asks for it in the first namespace.
static bool may_raise_limits(void)
{
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = { 0 };
    return syscall(SYS_capget, &head, sets) == 0 && (sets[0].effective >> CAP_SYS_RESOURCE & 1) && !mount_in_user_namespace();
}

// A container's process starts with our own score; without the right it can only be raised from there.
static void check_oom_score(int64_t asked, struct arena *arena, struct strv *warnings)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    int64_t own;
    if (file_read_at(AT_FDCWD, "/proc/self/oom_score_adj", &text, NULL) < 0 ||
        !num_parse_i64(slice_trim(slice_of(buf_text(&text))), &own))
        return;
    if (asked < own && !may_raise_limits())
        strv_push_arena(warnings, arena,
                        arena_printf(arena, "OomScoreAdj can not be lowered so far. It is clamped to %lld.", (long long)own));
}

// Open files alone have a ceiling that nobody may pass.
static uint64_t file_ceiling(void)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    uint64_t value;
    if (file_read_at(AT_FDCWD, "/proc/sys/fs/nr_open", &text, NULL) < 0 ||
        !num_parse_u64(slice_trim(slice_of(buf_text(&text))), UINT64_MAX, &value))
        return UINT64_MAX;
    return value;
}

// How far a hard limit can go, and what one beyond it becomes. PID 1 of a guest may raise all but open files.
static uint64_t ulimit_ceiling(int resource, bool guest, uint64_t *clamped)
{
    struct rlimit own;
    *clamped = VM_FILES_MAX;
    if (guest)
        return resource == RLIMIT_NOFILE ? VM_FILES_MAX : UINT64_MAX;
    if (getrlimit((__rlimit_resource_t)resource, &own) < 0)
        return UINT64_MAX;
    *clamped = own.rlim_max;
    uint64_t ceiling = !may_raise_limits() ? own.rlim_max : resource == RLIMIT_NOFILE ? file_ceiling() : UINT64_MAX;
    return MAX_OF(ceiling, (uint64_t)own.rlim_max);
}

// What the kernel refuses becomes our own limit; a container starts with less rather than not at all.
static void check_ulimits(const struct json_list *ulimits, bool guest, struct arena *arena, struct strv *warnings)
{
    for (size_t i = 0; i < ulimits->len; i++) {
        const struct ulimit *ulimit = json_list_at(ulimits, &ulimit_table, i);
        uint64_t hard = ulimit->hard < 0 ? UINT64_MAX : (uint64_t)ulimit->hard, clamped;
        int resource = ulimit_resource(ulimit->name);
        if (resource >= 0 && hard > ulimit_ceiling(resource, guest, &clamped))
            strv_push_arena(warnings, arena,
                            arena_printf(arena, "Ulimit %s can not be raised so far. It is clamped to %llu.", ulimit->name,
                                         (unsigned long long)clamped));
    }
}

int features_check(const struct host_features *features, const struct host_config *host, struct arena *arena,
                   struct strv *warnings, struct err *err)
{
    bool guest = vm_wanted(host); // its own kernel keeps these limits
    const struct {
        bool asked, held;
        const char *text;
    } table[] = {
        { host->memory > 0, guest || features->memory,
          "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded." },
        { host->memory > 0 && host->memory_swap != -1 && features->memory, guest || features->swap,
          "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap." },
        { host->memory_reservation > 0, guest || features->reservation,
          "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded." },
        { json_is_integer(host->memory_swappiness_raw) && json_integer_value(host->memory_swappiness_raw) != -1, features->swappiness,
          "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded." },
        { host->oom_kill_disable, !guest && features->oom_control,
          "Your kernel does not support OomKillDisable. OomKillDisable discarded." },
        { host->oom_kill_disable && host->memory <= 0, guest || !features->oom_control,
          "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources." },
        { host->pids_limit > 0, guest || features->pids,
          "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded." },
        { host->cpu_shares > 0, features->cpu_shares,
          "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded." },
        { host->cpu_period > 0 || host->cpu_quota > 0, features->cpu_quota,
          "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded." },
        { !str_empty(host->cpuset_cpus) || !str_empty(host->cpuset_mems), features->cpuset,
          "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded." },
        { host->blkio_weight > 0, features->io_weight,
          "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded." },
        { host->port_bindings.len > 0, !str_eq(host->network_mode, "host"), "Published ports are discarded when using host network mode" },
    };
    if (host->nano_cpus > 0 && !features->cpu_quota)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted");
    bool no_weight = host->blkio_weight < 0 || host->blkio_weight > UINT16_MAX; // of Docker's type
    if (no_weight || (host->blkio_weight > 0 && features->io_weight && (host->blkio_weight < 10 || host->blkio_weight > 1000)))
        return err_set(err, ERR_INVALID_ARGUMENT, "Range of blkio weight is from 10 to 1000");
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].asked && !table[i].held)
            strv_push_arena(warnings, arena, table[i].text);
    check_ulimits(&host->ulimits, guest, arena, warnings);
    if (!guest)
        check_oom_score(host->oom_score_adj, arena, warnings);
    return 0;
}
