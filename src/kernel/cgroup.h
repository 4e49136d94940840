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
bool cgroup_layout_has(const struct cgroup_layout *layout, const char *controller);

// 0 is "not set" everywhere; -1 is unlimited where the kernel has such a word.
struct cgroup_device_rule {
    bool allow;
    char type; // 'a' 'b' 'c'
    int64_t major, minor; // -1 any
    char access[4]; // "rwm"
};

struct cgroup_limits {
    int64_t memory_limit, memory_swap, memory_reservation; // bytes; swap counts memory and swap together
    int64_t cpu_shares, cpu_quota, cpu_period; // quota and period in microseconds
    const char *cpuset_cpus, *cpuset_mems;
    int64_t pids_limit;
    const struct cgroup_device_rule *devices; // applied in order: v1's list, or a BPF program on the cgroup2 group
    size_t device_len;
};

struct cgroup;

// Makes the group in every hierarchy (parents too) and returns a handle; an existing one is opened.
int cgroup_create(const struct cgroup_layout *layout, const char *path, struct cgroup **out, struct err *err);
int cgroup_open(const struct cgroup_layout *layout, const char *path, struct cgroup **out, struct err *err);
void cgroup_free(struct cgroup *cgroup); // the handle only
const char *cgroup_path(const struct cgroup *cgroup);
const struct cgroup_layout *cgroup_layout_of(const struct cgroup *cgroup);

// Sets what is set. A limit whose controller or file this kernel lacks is skipped and named in `missing` (may be NULL;
// bitmask of enum cgroup_missing), so that the engine can add dockerd's warnings.
enum cgroup_missing { CGROUP_NO_MEMORY = 1, CGROUP_NO_SWAP = 2, CGROUP_NO_CPU_QUOTA = 4, CGROUP_NO_CPU_SHARES = 8, CGROUP_NO_PIDS = 16, CGROUP_NO_CPUSET = 32, CGROUP_NO_DEVICES = 64, CGROUP_NO_RESERVATION = 128 };
int cgroup_limit(struct cgroup *cgroup, const struct cgroup_limits *limits, unsigned *missing, struct err *err);

// Moves a process in. v1 joins are done back to back: the first pays one RCU grace period (8 ms), the others nothing.
int cgroup_join(struct cgroup *cgroup, pid_t pid, struct err *err);
// Descriptor for CLONE_INTO_CGROUP (the cgroup2 folder), or -1 where there is none; stays the cgroup's. A process cloned
// into it still needs cgroup_join() for v1 hierarchies.
int cgroup_clone_fd(const struct cgroup *cgroup);

// The quick way in, for a single-threaded child that joins itself before anything else: descriptors of v1 `tasks` files.
// A thread that writes "0" there moves itself without the RCU grace period that moving a process costs (0.1 ms instead
// of 8). They stay the cgroup's; with none (v2) *len is 0. What cgroup_clone_fd() does not reach, these do.
int cgroup_self_join_fds(struct cgroup *cgroup, int fds[CGROUP_HIERARCHY_MAX], size_t *len, struct err *err);

// Kills every process in the group and waits until it is empty (cgroup.kill, or freeze, signal, thaw), at most `timeout_ns`.
int cgroup_kill(struct cgroup *cgroup, int64_t timeout_ns, struct err *err);
int cgroup_signal_all(struct cgroup *cgroup, int sig, struct err *err);
int cgroup_freeze(struct cgroup *cgroup, bool frozen, struct err *err);
// All pids, malloc'ed, at most 65,536.
int cgroup_pids(struct cgroup *cgroup, pid_t **out, size_t *len, struct err *err);
// Number of OOM kills so far; 0 when unknown.
int64_t cgroup_oom_kills(struct cgroup *cgroup);

struct cgroup_stats {
    int64_t memory_usage, memory_limit, memory_max_usage, memory_inactive_file; // bytes
    int64_t cpu_total_ns, cpu_user_ns, cpu_system_ns, cpu_periods, cpu_throttled_periods, cpu_throttled_ns;
    int64_t pids_current, pids_limit;
};
int cgroup_stats(struct cgroup *cgroup, struct cgroup_stats *out, struct err *err);

// Removes the empty group everywhere, retrying while the kernel still says busy, at most `timeout_ns`. Groups below it
// (a container with its own) go too. Missing is success.
int cgroup_remove(const struct cgroup_layout *layout, const char *path, int64_t timeout_ns, struct err *err);

#endif
