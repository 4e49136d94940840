// Devices by the names of the Container Device Interface (cncf-tags/container-device-interface, SPEC.md 0.8): "vendor.com/class=name" stands
// for what a file of the host's administrator says: variables, device nodes, mounts, groups and hooks (shim/hooks.h).
//
//     /etc/cdi, /var/run/cdi        *.json, *.yaml; the later folder wins where both know a device
//     DeviceRequests driver "cdi"   names that a container wants; looked up at each start
//
// Resctrl and network devices of such a file are not honoured: a device that has them is refused.
#ifndef ENGINE_CDI_H
#define ENGINE_CDI_H

#include "engine/devices.h"

#define CDI_DEVICES_MAX 256
#define CDI_NODES_MAX 1024 // of one container
#define CDI_HOOKS_MAX 64

// What all devices of one container come to; in the arena.
struct cdi_edits {
    struct strv env; // KEY=VALUE
    struct device_wish *nodes; // CDI_NODES_MAX at most
    size_t node_len;
    struct json_list mounts; // struct task_mount, by source
    struct strv groups; // numbers
    struct oci_hooks hooks;
    size_t hook_len; // of all of them
};

// At create: names that are none (invalid_argument), drivers that there are not (not_implemented, in Docker's words).
int cdi_check(const struct json_list *requests, struct err *err);
// At start. Docker's "unresolvable CDI devices" where no file knows a name; a file that can't be read is an error only for devices that no other has.
int cdi_collect(const struct json_list *requests, const struct strv *folders, struct arena *arena, struct cdi_edits *out, struct err *err);

#endif
