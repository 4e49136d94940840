// A container without a mount namespace: what it mounts stands in the caller's, below the rootfs's path. runc leaves it there for ever; here
// it goes with the container. So the rootfs's mount is made before the child, and its number is in the state before it stands anywhere.
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "kernel/mount.h"
#include "oci/oci_private.h"

// 0: unknown.
static int64_t mount_id(int fd, const char *path, int flags)
{
    struct statx st;
    if (statx(fd, path, flags, STATX_MNT_ID, &st) < 0 || !(st.stx_mask & STATX_MNT_ID))
        return 0;
    return (int64_t)st.stx_mnt_id;
}

int host_mounts_make(struct container *container, int *rootfs_fd, struct err *err)
{
    if (config_namespace(&container->config, "mount"))
        return 0;
    _cleanup_close_ int clone = mount_clone(*rootfs_fd, true, err);
    if (clone < 0 || mount_attr(clone, 0, 0, MS_PRIVATE, true, err) < 0)
        return err_wrap(err, "rootfs");
    container->mount_id = mount_id(clone, "", AT_EMPTY_PATH);
    if (container_save(container, err) < 0)
        return -1;
    fd_close(*rootfs_fd);
    *rootfs_fd = take_fd(&clone);
    return 1;
}

// Not when somebody has mounted another on it since: that is not ours to take away.
int host_mounts_remove(const struct container *container, struct err *err)
{
    if (!container->mount_id || mount_id(AT_FDCWD, container->rootfs, AT_SYMLINK_NOFOLLOW) != container->mount_id)
        return 0;
    if (umount2(container->rootfs, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
        return err_errno(err, errno, "umount %s", container->rootfs);
    return 0;
}
