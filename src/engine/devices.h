// Devices of the host in a container: nodes, what its group allows, and how fast it may use them (devices.c).
#ifndef ENGINE_DEVICES_H
#define ENGINE_DEVICES_H

#include "engine_private.h"

// At create: rules and permissions are well formed. invalid_argument.
int devices_check(const struct host_config *host, struct err *err);
// At start: the nodes and rules behind those that are there. A path is the host's, a folder means all devices below it; what is missing is
// told in Docker's words.
int devices_fill(const struct host_config *host, struct arena *arena, struct oci_linux *out, struct err *err);
// At start: rates and weights of block devices.
int devices_limit(const struct host_config *host, struct arena *arena, struct cgroup_limits *out, struct err *err);

#endif
