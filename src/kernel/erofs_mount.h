// Mounting an EROFS image that is a file, in the ways that kernels know. From the file itself (Linux 6.12) no device is made, and
// with direct I/O (6.15) the file's pages are not cached beside those of the mount. Else by a loop device, which the kernel takes
// down with the last mount: nothing is left even if its maker is killed halfway.
#ifndef KERNEL_EROFS_MOUNT_H
#define KERNEL_EROFS_MOUNT_H

#include "base/err.h"

enum erofs_way {
    EROFS_ANY, // the first that works
    EROFS_FILE_DIRECT,
    EROFS_FILE, // not of a file on overlayfs or tmpfs
    EROFS_LOOP, // with direct I/O where the file's file system has it
};
const char *erofs_way_text(enum erofs_way way); // for people

// A detached read-only mount of the image at `path` (absolute: the mount table shows it). *way says in which way it is wanted, and then
// in which it was done. The kernel's own reason when it refuses.
int erofs_mount(const char *path, enum erofs_way *way, struct err *err);

#endif
