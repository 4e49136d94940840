// The user namespace of a run, where the daemon has --userns-remap (remap.h); see users.c. Not behind the VM wall: root of a guest is nobody
// on the host.
#ifndef ENGINE_USERS_H
#define ENGINE_USERS_H

#include "engine_private.h"
#include "kernel/users.h"

struct run_users {
    int fd;
    struct users_map uids, gids;
    uid_t root_uid; // the host's number of its root
    gid_t root_gid;
};
struct run_users *run_users_new(void);
void run_users_free(struct run_users *users); // NULL is fine
#define _cleanup_run_users_ _cleanup_(run_users_freep)
static inline void run_users_freep(struct run_users **users)
{
    run_users_free(*users);
}

// It has one of its own, or another container's whose namespaces it shares; else it is in the host's.
bool users_wanted(const struct container *container);
void users_root(const struct container *container, uid_t *uid, gid_t *gid); // the host's numbers of its root; 0
// What can't be had in one, in dockerd's words.
int users_check(const struct container *container, struct err *err);
// At a start, before its network: container->users, unless it is in the host's. What it joins must run. Needs container_begin().
int users_begin(struct container *container, struct err *err);
// A new network namespace of its, with lo up; -1 without an error where it needs none.
int users_own_network(const struct container *container, int *netns_fd, struct err *err);
void users_fill(const struct container *container, struct arena *arena, struct task_document *out);

// For its files: the namespace it runs in, or (not `live`) would run in; *out is NULL where that is the host's. Needs container_begin().
int users_of(struct container *container, bool live, struct run_users **out, struct err *err);
// What is on disk, seen with the ids of such a namespace; `users` NULL: as it is.
int users_map_layers(const struct run_users *users, struct image_layers *layers, struct err *err);
// Where its diff and work are: the container's folder, or its disk. Needs container_begin().
int users_open_folder(struct container *container, const struct run_users *users, struct err *err);

#endif
