// Intel RDT, and what other makers have like it, through the kernel's resctrl file system: a group is a class of service, with a
// part of the caches and of the memory's bandwidth for the processes in it. See the kernel's x86/resctrl documentation.
//
// All functions take the root of the file system; any folder that looks like it will do.
#ifndef KERNEL_RESCTRL_H
#define KERNEL_RESCTRL_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

struct resctrl_group {
    const char *name; // one that resctrl_name_check() takes
    const char *l3, *bandwidth; // schemata: "L3:0=7f0;1=1f", "MB:0=20;1=70"; "" or NULL: none
    // The group is somebody else's as well: without schemata it must be there, and where it is there it must already have
    // those that are asked for. Never removed.
    bool shared;
    const char *monitor; // a monitoring group in it; "" or NULL: none
};

// The mounted file system; not_implemented where there is none. The descriptor is the caller's.
int resctrl_open(struct err *err);
// invalid_argument for what is no name of a folder, or is one that the file system has itself.
int resctrl_name_check(const char *name, struct err *err);
// Makes what is not there and writes the schemata. What the kernel does not take is told in its own words
// (info/last_cmd_status). A group that was made is removed again after a failure.
int resctrl_make(int root_fd, const struct resctrl_group *group, struct err *err);
int resctrl_join(int root_fd, const struct resctrl_group *group, pid_t pid, struct err *err);
// Whether the machine counts this: "llc_occupancy", "mbm_total_bytes", "mbm_local_bytes".
bool resctrl_counts(int root_fd, const char *event);
// A group, or "group/mon_groups/name"; its processes fall back into the one above. Missing is success.
int resctrl_remove(int root_fd, const char *path, struct err *err);

#endif
