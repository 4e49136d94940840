// A container's file system for who looks at it from outside (tree.c).
#ifndef ENGINE_TREE_H
#define ENGINE_TREE_H

#include "engine_private.h"

// Who writes into a container's files from outside. The container is nobody's meanwhile; but an overlay's upper is for one mount at a time,
// so a container that does not run has one writer, whom all wait for that need its tree; a start waits too, for as long as the writer
// gets on with it, and then ends it; a removal ends it at once.
struct tree_writer {
    struct tree_writer *next;
    pid_t pid; // of the worker; 0: it is not there yet, or not any more
    int pidfd; // borrowed
    int64_t worked_ns; // processor time, when it was looked at last
    bool ended; // it was in somebody's way
};
struct container_tree {
    int root_fd; // a detached mount, without what is mounted on it
    int upper_fd, lower_fd; // asked for by `layers`: what the container wrote, -1: its root is a copy; the image as one tree, -1: it has no layer
    struct run_users *users; // the user namespace that all of it is seen in; NULL: the host's
    bool writes;
    struct tree_writer writer; // the tree must not move
};
#define TREE_INIT { .root_fd = -1, .upper_fd = -1, .lower_fd = -1 }

struct tree_wish {
    bool write, layers;
};
#define ROOT_COPY "root" // in the container's folder: its root, where that is a copy of the image and no overlay; then there is no upper
bool container_has_copy(const struct container *container);
// Of a running container its own root, which stays what it is when it ends; of another one a mount of our own. Not for a guest's. conflict:
// somebody copies into it and does not come to an end.
int container_tree_open(struct container *container, struct tree_wish wish, struct container_tree *out, struct err *err);
void container_tree_done(struct container *container, struct container_tree *tree); // after the worker's end
// The worker of a tree that writes; PROCESS_NONE before it is reaped.
void container_tree_worker(struct container *container, struct container_tree *tree, const struct process *worker);
bool container_tree_ended(struct container *container, const struct container_tree *tree); // somebody needed the container
// For a start: nobody writes afterwards. Needs container_begin().
int container_await_writers(struct container *container, bool at_once, struct err *err);

#endif
