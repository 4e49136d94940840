// The one way from a path inside a rootfs (or a volume, or an archive's target) to a descriptor.
//
// Nothing else in Berth may open, create, mount on or mknod a path that an image, a container or a client chose. Every
// step resolves with openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS): links are followed as the container would see
// them and can never lead outside `root_fd`; what is created is created relative to the descriptor of its parent, never
// by a path again. Paths may be absolute or relative, both count from root_fd.
#ifndef KERNEL_PATH_H
#define KERNEL_PATH_H

#include <sys/stat.h>
#include <sys/types.h>

#include "base/err.h"

// An O_PATH descriptor of what `path` names; with `nofollow` a link at the end is returned itself.
int path_open(int root_fd, const char *path, bool nofollow, struct err *err);
// An O_PATH descriptor, refused (ELOOP) when any component is a link: for the places where a link is an attack (/proc,
// /dev, /sys of an image).
int path_open_plain(int root_fd, const char *path, struct err *err);
// The same opened for reading: regular files only (a device or fifo is refused before it is opened).
int path_open_file(int root_fd, const char *path, struct err *err);
// Reads a whole regular file of at most `max` bytes; *out is malloc'ed and NUL-terminated.
int path_read_file(int root_fd, const char *path, size_t max, char **out, size_t *size, struct err *err);
// Makes the folder and its missing parents (mode `mode`); returns its O_PATH descriptor.
int path_make_dir(int root_fd, const char *path, mode_t mode, struct err *err);
// The same where, as mostly, only the last component is missing, without a descriptor. False: it was not as simple as that.
bool path_make_last(int root_fd, const char *path, mode_t mode);
// Makes an empty regular file (and missing parents, 0755) when nothing is there; returns its O_PATH descriptor.
int path_make_file(int root_fd, const char *path, mode_t mode, struct err *err);
// Makes a device node or fifo (`mode` with its type bits); what is there already is accepted only when it is the same.
// Missing parents are made 0755.
int path_make_node(int root_fd, const char *path, mode_t mode, dev_t device, uid_t uid, gid_t gid, struct err *err);
// O_PATH descriptor of the parent folder of `path` (made when `make` is set) and, in *name (malloc'ed), the last component.
// The last component is never "." or ".." or empty.
int path_open_parent(int root_fd, const char *path, bool make, char **name, struct err *err);

#endif
