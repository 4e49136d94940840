// Everything that a group's files tell of its use, in v1's words whatever the layout, as `docker stats` and runc's
// `events --stats` show it. What a kernel does not tell is 0, empty or not present. Lists and texts live in the
// caller's arena. UINT64_MAX is "no limit" on v2; v1 says a number near INT64_MAX.
#ifndef KERNEL_CGROUP_REPORT_H
#define KERNEL_CGROUP_REPORT_H

#include "base/arena.h"
#include "kernel/cgroup.h"

struct cgroup_pressure_line {
    double avg10, avg60, avg300; // percent
    uint64_t total_us;
};

struct cgroup_pressure {
    bool present;
    struct cgroup_pressure_line some, full;
};

struct cgroup_memory_use {
    uint64_t usage, max_usage, failures, limit; // bytes but for the failures
};

struct cgroup_named_number {
    char *name;
    uint64_t value;
};

struct cgroup_named_numbers {
    struct cgroup_named_number *items;
    size_t len, capacity;
};

struct cgroup_io_entry {
    uint64_t major, minor;
    char operation[16]; // "Read", "Write", ..., "" where there is but one
    uint64_t value;
};

struct cgroup_io_entries {
    struct cgroup_io_entry *items;
    size_t len, capacity;
};

struct cgroup_huge_page_use {
    char page_size[16];
    uint64_t usage, max_usage, failures;
};

struct cgroup_rdma_use {
    char *device;
    uint32_t hca_handles, hca_objects; // UINT32_MAX: no limit
};

struct cgroup_rdma_uses {
    struct cgroup_rdma_use *items;
    size_t len, capacity;
};

#define CGROUP_HUGE_PAGE_SIZES 8

struct cgroup_report {
    struct {
        uint64_t total_ns, user_ns, system_ns, periods, throttled_periods, throttled_ns, bursts, burst_ns;
        uint64_t *total_per_cpu_ns, *user_per_cpu_ns, *system_per_cpu_ns; // v1
        size_t cpu_len;
        struct cgroup_pressure pressure;
    } cpu;
    struct { // v1
        char *cpus, *mems; // lists, see cgroup_list_parse()
        uint64_t cpu_exclusive, mem_exclusive, mem_hardwall, memory_migrate, memory_spread_page, memory_spread_slab;
        uint64_t memory_pressure, sched_load_balance;
        int64_t sched_relax_domain_level;
    } cpuset;
    struct {
        uint64_t cache;
        struct cgroup_memory_use memory, with_swap, swap_alone, kernel, kernel_tcp;
        bool hierarchical;
        struct cgroup_named_numbers raw; // memory.stat
        struct cgroup_pressure pressure;
    } memory;
    uint64_t pids_current, pids_limit; // 0: no limit
    struct {
        struct cgroup_io_entries service_bytes, serviced, queued, service_time, wait_time, merged, time, sectors;
        struct cgroup_pressure pressure;
    } io;
    struct cgroup_huge_page_use huge_pages[CGROUP_HUGE_PAGE_SIZES];
    size_t huge_page_len;
    struct cgroup_rdma_uses rdma_limits, rdma_current;
};

int cgroup_report(struct cgroup *cgroup, struct arena *arena, struct cgroup_report *out, struct err *err);

#endif
