// --storage-opt size=N: a bound on what a container writes. Theory of operation: quotas of subtrees (projects) are there on few kernels and
// file systems; a file system of its own is everywhere. So the container's upper is a disk like a guest's (disk.c): a sparse ext4 image of
// that size in its folder, mounted by a loop device at <root>/containers/<id>/disk, with diff/ and work/ in it. As with layers, nobody
// counts the mount's users: it comes at the first need, the mount table says whether it is there, and it goes with the container or with
// --stop-all. Behind the VM wall it is the size of the guest's disk.
#ifndef ENGINE_QUOTA_H
#define ENGINE_QUOTA_H

#include "engine_private.h"

#define QUOTA_DISK "disk" // in the container's folder: where it is mounted
#define QUOTA_SIZE_MIN (INT64_C(16) << 20)
#define QUOTA_SIZE_MAX (INT64_C(8) << 40)

// HostConfig.StorageOpt: options that there are not, sizes that none has (invalid_argument); a driver without overlays (not_implemented).
int quota_check(const struct engine *engine, const struct host_config *host, struct err *err);
int64_t quota_size(const struct host_config *host); // bytes; 0: none
bool quota_has_disk(const struct container *container); // its upper is on a disk of its own; not a guest's
const char *quota_below(const struct container *container); // what stands before diff and work in its folder: "" or "disk/"
// What is mounted there, mounted if it is not. O_PATH, the caller's. Needs container_begin().
int quota_open(struct container *container, struct err *err);
void quota_unmount(struct engine *engine, const char *id); // of a container, if anything is

#endif
