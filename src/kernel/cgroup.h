// Control groups behind one interface, whatever the layout: v1 (a folder per hierarchy), hybrid (v1 controllers plus a
// cgroup2 tree, which gives kill and freeze), v2 (one folder). A cgroup is named by a path relative to the hierarchies'
// roots ("berth-1a2b3c4d/<id>"); all access is by descriptors opened beneath a root whose file system type was checked,
// and ".." is refused.
//
// Layouts are found once; a test hands in a made-up tree instead of /sys/fs/cgroup.
#ifndef KERNEL_CGROUP_H
#define KERNEL_CGROUP_H

#include <sys/types.h>

#include "base/err.h"
#include "base/slice.h"

enum cgroup_version { CGROUP_NONE, CGROUP_V1, CGROUP_HYBRID, CGROUP_V2 };

#define CGROUP_HIERARCHY_MAX 16

struct cgroup_hierarchy {
    char controllers[64]; // "cpu,cpuacct"; "" for a cgroup2 tree; "name=systemd" for a named one
    char mount_point[128];
    bool v2;
};

struct cgroup_layout {
    enum cgroup_version version;
    struct cgroup_hierarchy hierarchies[CGROUP_HIERARCHY_MAX];
    size_t len;
    bool trusted; // a made-up tree: file system types are not checked
};

// Reads /proc/self/mountinfo. Never fails: no cgroups is CGROUP_NONE.
void cgroup_layout_probe(struct cgroup_layout *out);
void cgroup_layout_parse(struct slice mountinfo, struct cgroup_layout *out);
bool cgroup_layout_has(const struct cgroup_layout *layout, const char *controller);

// ---- limits ---------------------------------------------------------------------------------------------------------
//
// In the words and units of v1, which Docker and the runtime-spec use; on v2 they are converted as runc converts them
// (shares to weight, memory and swap together to swap alone, block weights to io weights). 0 is "not set" everywhere,
// -1 unlimited where the kernel has such a word; where 0 means something the number says for itself whether it is
// set. Strings and lists are the caller's.

struct cgroup_number {
    bool set;
    int64_t value;
};

struct cgroup_device_rule {
    bool allow;
    char type; // 'a' 'b' 'c'
    int64_t major, minor; // -1 any
    char access[4]; // "rwm"
};

struct cgroup_device_weight {
    int64_t major, minor;
    int64_t weight, leaf_weight; // 10 to 1000
};

struct cgroup_device_rate {
    int64_t major, minor;
    uint64_t rate; // bytes or operations a second; 0 takes the limit away
};

struct cgroup_huge_pages {
    const char *page_size; // "2MB", as in the kernel's file names
    uint64_t limit; // bytes
};

struct cgroup_rdma {
    const char *device;
    struct cgroup_number hca_handles, hca_objects;
};

struct cgroup_net_priority {
    const char *interface;
    uint32_t priority;
};

struct cgroup_setting {
    const char *file, *value; // several lines are written one by one
};

struct cgroup_limits {
    int64_t memory_limit, memory_swap, memory_reservation; // bytes; swap counts memory and swap together
    int64_t memory_kernel, memory_kernel_tcp; // v1
    struct cgroup_number memory_swappiness; // v1; 0 to 100
    bool oom_kill_disable; // v1
    bool memory_check; // v2: refuse a limit that is below what is used now, which would kill
    int64_t cpu_shares, cpu_quota, cpu_period; // quota and period in microseconds
    int64_t cpu_rt_runtime, cpu_rt_period; // v1; microseconds
    struct cgroup_number cpu_burst, cpu_idle;
    const char *cpuset_cpus, *cpuset_mems;
    int64_t pids_limit;
    int64_t io_weight, io_leaf_weight; // 10 to 1000; leaf weights: v1 of kernels before 5.0
    const struct cgroup_device_weight *io_weights;
    const struct cgroup_device_rate *io_read_bps, *io_write_bps, *io_read_iops, *io_write_iops;
    size_t io_weight_len, io_read_bps_len, io_write_bps_len, io_read_iops_len, io_write_iops_len;
    const struct cgroup_huge_pages *huge_pages;
    size_t huge_page_len;
    const struct cgroup_rdma *rdma;
    size_t rdma_len;
    int64_t net_class; // v1
    const struct cgroup_net_priority *net_priorities; // v1
    size_t net_priority_len;
    const struct cgroup_device_rule *devices; // applied in order; v1 lists, v2 a BPF program
    size_t device_len;
    const struct cgroup_setting *unified; // v2, by the kernel's file names; last, so that they win
    size_t unified_len;
};

struct cgroup;

// Makes the group in every hierarchy (parents too) and returns a handle; an existing one is opened.
int cgroup_create(const struct cgroup_layout *layout, const char *path, struct cgroup **out, struct err *err);
int cgroup_open(const struct cgroup_layout *layout, const char *path, struct cgroup **out, struct err *err);
void cgroup_free(struct cgroup *cgroup); // the handle only
static inline void cgroup_freep(struct cgroup **cgroup)
{
    cgroup_free(*cgroup);
}
const char *cgroup_path(const struct cgroup *cgroup);
const struct cgroup_layout *cgroup_layout_of(const struct cgroup *cgroup);
// The group's folder (O_PATH) in hierarchy `index` of the layout; stays the cgroup's.
int cgroup_dir_fd(const struct cgroup *cgroup, size_t index);

// Sets what is set, on a new group or a running one: what the kernel refuses beside an old value is written again
// once the other new values are there (memory and its swap, quota and period). A limit whose controller or file this
// kernel lacks is skipped and named in `missing` (may be NULL; bitmask of enum cgroup_missing), so that the caller
// can warn or refuse. Fails at the first value that the kernel does not take, naming file and value; what was written
// before stays.
enum cgroup_missing {
    CGROUP_NO_MEMORY = 1 << 0, CGROUP_NO_SWAP = 1 << 1, CGROUP_NO_CPU_QUOTA = 1 << 2,
    CGROUP_NO_CPU_SHARES = 1 << 3, CGROUP_NO_PIDS = 1 << 4, CGROUP_NO_CPUSET = 1 << 5,
    CGROUP_NO_DEVICES = 1 << 6, CGROUP_NO_RESERVATION = 1 << 7, CGROUP_NO_KERNEL_MEMORY = 1 << 8,
    CGROUP_NO_SWAPPINESS = 1 << 9, CGROUP_NO_OOM_CONTROL = 1 << 10, CGROUP_NO_CPU_RT = 1 << 11,
    CGROUP_NO_CPU_BURST = 1 << 12, CGROUP_NO_CPU_IDLE = 1 << 13, CGROUP_NO_IO_WEIGHT = 1 << 14,
    CGROUP_NO_IO_LIMIT = 1 << 15, CGROUP_NO_HUGE_PAGES = 1 << 16, CGROUP_NO_RDMA = 1 << 17,
    CGROUP_NO_NET = 1 << 18,
};
int cgroup_limit(struct cgroup *cgroup, const struct cgroup_limits *limits, unsigned *missing, struct err *err);
// The word for one bit ("memory", "swap", ...), for messages.
const char *cgroup_missing_name(unsigned bit);
// v1's numbers in v2's: shares 2..262144 to a weight 1..10000 (1024 is 100); block weight 10..1000 to 1..10000. 0
// stays 0.
uint64_t cgroup_weight_of_shares(uint64_t shares);
uint64_t cgroup_weight_of_io(uint64_t weight);
// Memory and swap together to swap alone: 0 not set, -1 unlimited; *none is set where there may be no swap at all.
int cgroup_swap_alone(int64_t memory, int64_t memory_swap, int64_t *out, bool *none, struct err *err);

// Moves a process in. v1 joins are done back to back: the first pays one RCU grace period (8 ms), the others nothing.
int cgroup_join(struct cgroup *cgroup, pid_t pid, struct err *err);
// Descriptor for CLONE_INTO_CGROUP (the cgroup2 folder), or -1 where there is none; stays the cgroup's. A process
// cloned into it still needs cgroup_join() for v1 hierarchies.
int cgroup_clone_fd(const struct cgroup *cgroup);

// The quick way in, for a single-threaded child that joins itself before anything else: descriptors of v1 `tasks`
// files. A thread that writes "0" there moves itself without the RCU grace period that moving a process costs (0.1 ms
// instead of 8). They stay the cgroup's; with none (v2) *len is 0. What cgroup_clone_fd() does not reach, these do.
int cgroup_self_join_fds(struct cgroup *cgroup, int fds[CGROUP_HIERARCHY_MAX], size_t *len, struct err *err);

// Kills every process in the group and waits until it is empty (cgroup.kill, or freeze, signal, thaw), at most
// `timeout_ns`.
int cgroup_kill(struct cgroup *cgroup, int64_t timeout_ns, struct err *err);
int cgroup_signal_all(struct cgroup *cgroup, int sig, struct err *err);
int cgroup_freeze(struct cgroup *cgroup, bool frozen, struct err *err);
bool cgroup_is_frozen(struct cgroup *cgroup);
// All pids, malloc'ed, at most 65,536.
int cgroup_pids(struct cgroup *cgroup, pid_t **out, size_t *len, struct err *err);
// Number of OOM kills so far; 0 when unknown.
int64_t cgroup_oom_kills(struct cgroup *cgroup);
// A descriptor of the caller's that becomes readable when the group runs out of memory (v1: an eventfd; v2: an
// inotify on memory.events, which also tells other changes of that file) or is removed. cgroup_oom_read() empties it;
// what happened is the difference in cgroup_oom_kills().
int cgroup_oom_fd(struct cgroup *cgroup, struct err *err);
void cgroup_oom_read(int fd);

// ---- what it uses ---------------------------------------------------------------------------------------------------

// The few numbers that are asked for every second.
struct cgroup_stats {
    int64_t memory_usage, memory_limit, memory_max_usage, memory_inactive_file; // bytes
    int64_t cpu_total_ns, cpu_user_ns, cpu_system_ns, cpu_periods, cpu_throttled_periods, cpu_throttled_ns;
    int64_t pids_current, pids_limit;
};
int cgroup_stats(struct cgroup *cgroup, struct cgroup_stats *out, struct err *err);

// All of them: kernel/cgroup_report.h.

// "0-2,5" as numbers in ascending order, at most `max`; false when it is malformed or has more. "" is none.
bool cgroup_list_parse(const char *text, uint16_t *out, size_t max, size_t *len);

// Removes the empty group everywhere, retrying while the kernel still says busy, at most `timeout_ns`. Groups below it
// (a container with its own) go too. Missing is success.
int cgroup_remove(const struct cgroup_layout *layout, const char *path, int64_t timeout_ns, struct err *err);

#endif
