// A container's file system for who looks at it from outside (tree.c).
#ifndef ENGINE_TREE_H
#define ENGINE_TREE_H

#include "engine_private.h"

struct container_tree {
    int root_fd; // a detached mount, without what is mounted on it
    int upper_fd, lower_fd; // asked for by `layers`: what the container wrote, -1: its root is a copy; the image as one tree, -1: it has no layer
    bool held; // a container that does not run, to be written: nobody starts or removes it before container_tree_done()
};
#define TREE_INIT { .root_fd = -1, .upper_fd = -1, .lower_fd = -1 }

struct tree_wish {
    bool write, layers;
};
#define ROOT_COPY "root" // in the container's folder: its root, where that is a copy of the image and no overlay; then there is no upper
bool container_has_copy(const struct container *container);
// Of a running container its own root, which stays what it is when it ends; of another one a mount of our own. Not for a guest's.
int container_tree_open(struct container *container, struct tree_wish wish, struct container_tree *out, struct err *err);
void container_tree_done(struct container *container, struct container_tree *tree);

#endif
