// What cgroup.c shares with the two implementations behind it.
#ifndef KERNEL_CGROUP_PRIVATE_H
#define KERNEL_CGROUP_PRIVATE_H

#include "base/buf.h"
#include "base/fd.h"
#include "kernel/cgroup.h"

struct cgroup {
    struct cgroup_layout layout;
    char *path; // without a leading slash
    int dirs[CGROUP_HIERARCHY_MAX]; // O_PATH, one per hierarchy of the layout
    int tasks[CGROUP_HIERARCHY_MAX]; // v1 `tasks`, opened when first asked for
};

// The root folder of a hierarchy, checked to be one; the caller's.
int cgroup_open_root(const struct cgroup_layout *layout, size_t index, struct err *err);
// The folder of a v1 controller, or -1.
int cgroup_v1_dir(const struct cgroup *cgroup, const char *controller);
// The folder in the cgroup2 tree (v2 or hybrid), or -1.
int cgroup_v2_dir(const struct cgroup *cgroup);

// One write of a formatted text into a file of the group.
int cgroup_put(int dir_fd, const char *file, struct err *err, const char *fmt, ...) _printf_(4, 5);
int cgroup_read(int dir_fd, const char *file, struct buf *out, struct err *err);
// A file of one number; "max" and what does not parse is `fallback`.
int64_t cgroup_number(int dir_fd, const char *file, int64_t fallback);
// The number behind "key " at the start of a line.
int64_t cgroup_keyed(int dir_fd, const char *file, const char *key, int64_t fallback);

// A new group below `parent_fd` was made: what its hierarchy needs before tasks can join.
int cgroup_v1_prepare(const char *controllers, int parent_fd, int dir_fd, struct err *err);
// Hands the controllers of a folder down to its children.
void cgroup_v2_delegate(int dir_fd);

int cgroup_v1_limit(struct cgroup *cgroup, const struct cgroup_limits *limits, unsigned *missing, struct err *err);
int cgroup_v2_limit(struct cgroup *cgroup, const struct cgroup_limits *limits, unsigned *missing, struct err *err);
int cgroup_v1_freeze(struct cgroup *cgroup, bool frozen, struct err *err);
int cgroup_v2_freeze(struct cgroup *cgroup, bool frozen, struct err *err);
// Asks for the death of all members; does not wait.
int cgroup_v1_kill(struct cgroup *cgroup, struct err *err);
int cgroup_v2_kill(struct cgroup *cgroup, struct err *err);
void cgroup_v1_stats(struct cgroup *cgroup, struct cgroup_stats *out);
void cgroup_v2_stats(struct cgroup *cgroup, struct cgroup_stats *out);

#endif
