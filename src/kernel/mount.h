// The new mount API (fsopen, fsmount, open_tree, mount_setattr, move_mount), wrapped once. A mount is a descriptor until
// it is attached to the descriptor of its target: no path is looked up twice. Linux 5.14 is the floor; no mount(2).
#ifndef KERNEL_MOUNT_H
#define KERNEL_MOUNT_H

#include "base/err.h"
#include "base/slice.h"

struct mount_option {
    const char *key;
    const char *value; // NULL: a flag
    int fd; // used instead of `value` when `value` is NULL and fd > 0
};

// A detached mount of a new file system; `attrs` are MOUNT_ATTR_*. A block device is named by the first option, "source"; without
// one the type's name stands there. The kernel's own message (fsconfig log) is in the error.
int mount_new(const char *fstype, const struct mount_option *options, size_t option_len, uint64_t attrs, struct err *err);
// A detached clone of the tree at `fd` (an O_PATH descriptor of a folder or file).
int mount_clone(int fd, bool recursive, struct err *err);
// Attribute change on a detached or attached mount; `recursive` reaches all mounts below. `propagation` is 0 or MS_PRIVATE, MS_SLAVE, MS_SHARED ...
int mount_attr(int fd, uint64_t set, uint64_t clear, uint64_t propagation, bool recursive, struct err *err);
// Ids of a detached mount that nobody has seen yet are those of the user namespace `users_fd`; `recursive` reaches all mounts below.
int mount_map_ids(int fd, int users_fd, bool recursive, struct err *err);
// Both: a clone of the mount at `fd`, without what is mounted below, whose ids are those of that namespace; `users_fd` -1: as they are.
int mount_clone_mapped(int fd, int users_fd, struct err *err);
// "ro", "nosuid", "noatime", ...: the words for MOUNT_ATTR_*, each as what it sets and clears; false for another word. `clear` may
// have bits that are no single attribute (the field of times). By index: all there are, then NULL.
bool mount_attr_word(struct slice word, uint64_t *set, uint64_t *clear);
const char *mount_attr_word_at(size_t index);
// Puts a detached mount on the target descriptor.
int mount_attach(int mount_fd, int target_fd, struct err *err);

// "/" is not the root of this process's mount namespace. Then pivot_root gives a child no root of its own: whoever enters its
// namespace later stands in what lies below.
bool mount_is_chrooted(void);

struct mount_overlay {
    const int *lower_fds; // top first
    size_t lower_len; // at least 1
    int upper_fd, work_fd; // both -1: read-only
    bool ephemeral; // "volatile": the upper is thrown away, so nothing is synced
    // Layers and upper are mounts with an id map: the root's ids in it. An overlay writes as who has mounted it, and turns read-only
    // where that one has no id in its upper. 0: they have none.
    uid_t root_uid;
    gid_t root_gid;
};
// How layers get into an overlay; which one, depends on the kernel. ANY finds out, the others are for tests.
enum mount_overlay_way {
    MOUNT_OVERLAY_ANY,
    MOUNT_OVERLAY_BY_FD, // 6.13
    MOUNT_OVERLAY_BY_PATH, // 6.8: one option each
    MOUNT_OVERLAY_ONE_STRING, // before: 256 bytes for all, some 60 to 80 layers; more are resource_exhausted
};
// Whether this process is in another user namespace than the machine's first. There no mark of overlayfs can be read or set as
// trusted.overlay.*, only as user.overlay.*. Without /proc: false.
bool mount_in_user_namespace(void);
// A detached overlay, seen by nobody until attached; made in a user namespace its marks are user.overlay.* ("userxattr"). The one-string
// way looks from /proc/self/fd for a moment: the calling thread then has a current folder of its own (unshare(CLONE_FS)).
int mount_overlay(const struct mount_overlay *overlay, enum mount_overlay_way way, struct err *err);

#endif
