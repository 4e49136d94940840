// A container's tree as the root of this process, and nothing else: the worker's jail. Private to the room.
#ifndef ARCHIVE_VIEW_H
#define ARCHIVE_VIEW_H

#include "base/err.h"

struct view_mount {
    int fd; // detached
    char *target; // malloc'ed
};

struct view {
    int tree_fd; // detached
    int users_fd; // a user namespace whose root we are from view_enter() on; -1: the caller's
    struct view_mount *mounts;
    size_t mount_len;
};
#define VIEW_INIT { .tree_fd = -1, .users_fd = -1 }

// Takes `target` and the descriptor of what is to be seen there, and clones its mount: before view_enter(), and parents first.
int view_add(struct view *view, int source_fd, char *target, bool read_only, struct err *err);
// Once. The root's descriptor. A target that is not there, or is of another kind, is left out: the daemon makes those that must be.
int view_enter(struct view *view, bool writes, struct err *err);
void view_done(struct view *view);

#endif
