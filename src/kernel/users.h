// User namespaces that somebody holds by descriptor, and what is owned by ids in them.
#ifndef KERNEL_USERS_H
#define KERNEL_USERS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

// A range of ids: `inside` and the following ones of the namespace are `outside` and the following ones of the caller's.
struct users_range {
    uint32_t inside, outside, len;
};

#define USERS_RANGES_MAX 340 // that the kernel takes

// One map, as /proc/PID/uid_map has it and takes it.
struct users_map {
    struct users_range ranges[USERS_RANGES_MAX];
    size_t len;
};

// A new namespace with these maps, and a new network namespace that belongs to one (its lo is down). They live as long as somebody has a
// descriptor. From any thread; the caller needs the right to write any map.
int users_make(const struct users_map *uids, const struct users_map *gids, struct err *err);
int users_network(int users_fd, struct err *err);
// The maps of the namespace that a process is in, as the caller sees it.
int users_read(pid_t pid, struct users_map *uids, struct users_map *gids, struct err *err);
// What this thread makes from here on belongs to these ids; it keeps its rights all the same. Until users_act_back(), once for each success.
struct users_acting {
    uid_t uid;
    gid_t gid;
    int bits;
};
int users_act_as(uid_t uid, gid_t gid, struct users_acting *before, struct err *err);
int users_act_back(const struct users_acting *before, struct err *err);

// The caller's number of an id in the namespace; false: it has none.
bool users_outside(const struct users_map *map, uint32_t inside, uint32_t *outside);

#endif
