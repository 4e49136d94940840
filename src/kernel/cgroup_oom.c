#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

#include "cgroup_private.h"

// v1: an eventfd is tied to memory.oom_control by a line in cgroup.event_control; the kernel keeps its own reference
// to both.
static int watch_v1(int dir_fd, struct err *err)
{
    _cleanup_close_ int control = openat(dir_fd, "memory.oom_control", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    _cleanup_close_ int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (control < 0 || event < 0)
        return err_errno(err, errno, "cgroup memory.oom_control");
    if (cgroup_put(dir_fd, "cgroup.event_control", err, "%d %d", event, control) < 0)
        return -1;
    return take_fd(&event);
}

static int watch_v2(int dir_fd, struct err *err)
{
    _cleanup_close_ int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d/memory.events", dir_fd);
    if (watch < 0 || inotify_add_watch(watch, path, IN_MODIFY | IN_DELETE_SELF) < 0)
        return err_errno(err, errno, "watch cgroup memory.events");
    return take_fd(&watch);
}

int cgroup_oom_fd(struct cgroup *cgroup, struct err *err)
{
    bool v2 = cgroup->layout.version == CGROUP_V2;
    int dir = v2 ? cgroup_v2_dir(cgroup) : cgroup_v1_dir(cgroup, "memory");
    if (dir < 0)
        return err_set(err, ERR_NOT_IMPLEMENTED, "this machine has no memory cgroup");
    return v2 ? watch_v2(dir, err) : watch_v1(dir, err);
}

void cgroup_oom_read(int fd)
{
    char events[4096]; // room for whole inotify events; an eventfd takes 8 bytes
    while (read(fd, events, sizeof(events)) > 0)
        ;
}
