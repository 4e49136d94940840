// Loop devices: a file as a block device, which the kernel takes down with its last user (an open descriptor, a mount): nothing is left even
// if its maker is killed halfway.
#ifndef KERNEL_LOOP_H
#define KERNEL_LOOP_H

#include <stdbool.h>

#include "base/err.h"

#define LOOP_PATH_SIZE 32

// A device with the image in it, with direct I/O where the image's file system has that; its path in `device`. `name` is for who looks at
// the device. The descriptor is the caller's.
int loop_open(int image_fd, const char *name, bool read_only, char device[LOOP_PATH_SIZE], struct err *err);
// The same, but one that has the image already is taken: what is written to has one device, or its file system is two that don't know of
// each other. Of several callers for one image one at a time.
int loop_share(int image_fd, const char *name, char device[LOOP_PATH_SIZE], struct err *err);

#endif
