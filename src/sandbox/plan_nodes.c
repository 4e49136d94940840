// In a user namespace nobody may make a device. So it is made by the caller, in a file system that nobody else sees, and bound.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "kernel/abi.h"
#include "kernel/path.h"
#include "plan.h"

// The host's number of an id in the container, or 0 where the namespace is somebody else's and its map not known here.
static unsigned outside(const struct json_list *maps, unsigned id)
{
    const struct oci_id_mapping *items = maps->items;
    for (size_t i = 0; i < maps->len; i++)
        if (id >= items[i].container_id && id - items[i].container_id < items[i].size)
            return (unsigned)(items[i].host_id + id - items[i].container_id);
    return 0;
}

static int make_devices_fs(struct sandbox_plan *plan, struct err *err)
{
    static const struct mount_option mode = { .key = "mode", .value = "755" };
    _cleanup_close_ int fd = mount_new("tmpfs", &mode, 1, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, err);
    _cleanup_close_ int clone = fd < 0 ? -1 : mount_clone(fd, false, err);
    if (clone < 0)
        return -1;
    plan->devices_fd = plan->owned_fds[plan->owned_len++] = take_fd(&fd);
    return 0;
}

static int make_host_node(struct sandbox_plan *plan, const struct oci_linux *section, const struct oci_device *device, struct err *err)
{
    struct op op = { .fd = -1 };
    char name[32];
    if (plan_device_node(device, &op, err) < 0)
        return -1;
    if (plan->devices_fd < 0 && make_devices_fs(plan, err) < 0)
        return -1;
    snprintf(name, sizeof(name), "%zu", plan->bind_len);
    if (path_make_node(plan->devices_fd, name, op.mode, op.device, outside(&section->uid_mappings, op.uid),
                       outside(&section->gid_mappings, op.gid), err) < 0)
        return -1;
    if (fchmodat(plan->devices_fd, name, op.mode & 07777, 0) < 0) // whatever the caller's umask is
        return err_errno(err, errno, "chmod");
    int fd = openat(plan->devices_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? fd : err_errno(err, errno, "device");
}

static void own_bind(struct sandbox_plan *plan, int fd, const char *path, bool in_child)
{
    if (fd >= 0)
        plan->owned_fds[plan->owned_len++] = fd;
    plan->binds[plan->bind_len++] = (struct plan_bind){ .source_fd = fd, .target = path, .source = path, .propagation = MS_PRIVATE,
                                                        .idmap_fd = -1, .in_child = in_child };
}

// EPERM: we are in a user namespace ourselves; EINVAL: before Linux 6.15 nothing is bound from what nobody sees. Then the host's own is bound.
int plan_bind_device(struct sandbox_plan *plan, const struct oci_linux *section, const struct oci_device *device, bool in_child, struct err *err)
{
    if (plan->owned_len + 2 > PLAN_OWNED_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d devices", PLAN_OWNED_MAX);
    if (in_child) {
        own_bind(plan, -1, device->path, true);
        return 0;
    }
    int fd = make_host_node(plan, section, device, err);
    if (fd < 0 && (err->number == EPERM || err->number == EINVAL)) {
        err_clear(err);
        fd = open(device->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            err_errno(err, errno, "open");
    }
    if (fd < 0)
        return err_wrap(err, "device %s", device->path ? device->path : "");
    own_bind(plan, fd, device->path, false);
    return 0;
}

void plan_bound_devices(struct sandbox_plan *plan, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        const char *path = plan->binds[i].target;
        bool in_dev = str_starts(path, "/dev/");
        struct op *op = plan_add(plan, OP_BIND_NODE);
        op->slot = in_dev ? SLOT_DEV : SLOT_NONE;
        op->path = in_dev ? path + 5 : path;
        op->index = i;
    }
}
