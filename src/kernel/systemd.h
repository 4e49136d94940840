// systemd as the owner of cgroups: a container's group is a transient scope that the system manager, or a user's own
// for one without rights, makes by a D-Bus call. The scope is delegated: below it, and in its files that systemd has
// no property for, the caller writes itself (kernel/cgroup.h), after the scope has its limits as properties, or a
// daemon-reload would put the old ones back. The properties are those that runc sets.
#ifndef KERNEL_SYSTEMD_H
#define KERNEL_SYSTEMD_H

#include <sys/types.h>

#include "kernel/cgroup.h"

struct systemd;

// systemd is PID 1 of this machine.
bool systemd_is_running(void);
// Connects to the system bus, or, for `user`, to the bus of the calling user's session ($DBUS_SESSION_BUS_ADDRESS,
// else $XDG_RUNTIME_DIR/bus). Root falls back to systemd's private socket when there is no system bus. Each call on
// the handle fails with unavailable after `timeout_ns`.
int systemd_open(bool user, int64_t timeout_ns, struct systemd **out, struct err *err);
// The same at a given address; `bus`: see dbus_open().
int systemd_open_at(const char *address, bool bus, int64_t timeout_ns, struct systemd **out, struct err *err);
void systemd_close(struct systemd *systemd);
static inline void systemd_closep(struct systemd **systemd)
{
    systemd_close(*systemd);
}
int systemd_version(struct systemd *systemd); // 252; 0 when it does not tell

// A property that the caller adds (annotations org.systemd.property.*, checked by the caller against what it lets
// through).
struct systemd_property {
    const char *name;
    enum { SYSTEMD_TEXT, SYSTEMD_FLAG, SYSTEMD_U64 } kind;
    const char *text;
    uint64_t number;
};

struct systemd_scope {
    const char *unit; // "runc-ID.scope"; one that ends in ".slice" becomes a slice
    const char *slice; // "system.slice"; NULL: system.slice, or user.slice in the user's manager
    const char *description;
    pid_t pid; // moved in; 0: none (a slice)
    enum cgroup_version version; // whose words the limits become
    const struct cgroup_limits *limits; // may be NULL
    const struct systemd_property *more;
    size_t more_len;
};

// Makes the unit and waits until it is there. A failed unit of that name is cleared away first; a living one is
// conflict.
int systemd_start(struct systemd *systemd, const struct systemd_scope *scope, struct err *err);
// Limits of a living unit, until the next boot.
int systemd_update(struct systemd *systemd, const char *unit, enum cgroup_version version,
                   const struct cgroup_limits *limits, struct err *err);
// Ends the unit, its processes too, and waits for that. One that is not there is fine.
int systemd_stop(struct systemd *systemd, const char *unit, struct err *err);
// Where the unit's group is, relative to the hierarchies' roots ("system.slice/runc-x.scope"): for cgroup_open().
// malloc'ed.
int systemd_cgroup_path(struct systemd *systemd, const char *unit, char **out, struct err *err);

// "a-b.slice" -> "a.slice/a-b.slice", "-.slice" -> "". invalid_argument for what is no slice's name. malloc'ed.
int systemd_slice_path(const char *slice, char **out, struct err *err);
// systemd takes processor time in whole percents and rounds up; the group's own file must not say less than the scope.
int64_t systemd_cpu_quota(int64_t quota, int64_t period);

#endif
