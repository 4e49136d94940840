// Constants newer than the headers we build against (linux-libc-dev 6.1), in one place.
#ifndef KERNEL_ABI_H
#define KERNEL_ABI_H

#include <linux/openat2.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#ifndef MOVE_MOUNT_BENEATH
#define MOVE_MOUNT_BENEATH 0x00000200
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

#endif
