// Devices of the host in a container: nodes, what its group allows, and how fast it may use them (devices.c).
#ifndef ENGINE_DEVICES_H
#define ENGINE_DEVICES_H

#include "engine_private.h"

// A node that more is known of than a client can say: -1 is what the host's node has.
struct device_wish {
    struct device_mapping mapping;
    int64_t mode, uid, gid;
};

// At create: rules and permissions are well formed. invalid_argument.
int devices_check(const struct host_config *host, struct err *err);
// At start: the nodes and rules behind those that are there, then those of `more`. A path is the host's, a folder means all devices below it; what is missing is
// told in Docker's words.
int devices_fill(const struct host_config *host, const struct device_wish *more, size_t more_len, struct arena *arena, struct oci_linux *out,
                 struct err *err);
// At start: rates and weights of block devices.
int devices_limit(const struct host_config *host, struct arena *arena, struct cgroup_limits *out, struct err *err);

#endif
