#ifndef KERNEL_SYSTEMD_PRIVATE_H
#define KERNEL_SYSTEMD_PRIVATE_H

#include "kernel/dbus_message.h"
#include "kernel/systemd.h"

// An array a(sv) of properties that is being written into a body.
void systemd_put_text(struct buf *body, const char *name, const char *value);
void systemd_put_flag(struct buf *body, const char *name, bool value);
void systemd_put_u64(struct buf *body, const char *name, uint64_t value);
int systemd_put_limits(struct buf *body, enum cgroup_version cgroups, const struct cgroup_limits *limits, int version,
                       struct err *err);

#endif
