// Where layers that are EROFS images are mounted: <state>/layers/<folder>, in the host's mount table. The table itself says what is
// mounted; nothing of it is kept in memory, so a life that ended by kill -9 leaves nothing unknown to the next.
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "image_private.h"
#include "kernel/mount.h"
#include "layer/layer.h"

#ifndef EROFS_SUPER_MAGIC_V1
#define EROFS_SUPER_MAGIC_V1 0xE0F5E1E2
#endif

// The folder, as what is mounted on it if something is.
static int open_point(const struct image_store *images, const char *folder)
{
    return openat(images->mounts_fd, folder, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static bool is_mounted(int fd)
{
    struct statx point;
    struct statfs system;
    return statx(fd, "", AT_EMPTY_PATH, 0, &point) == 0 && (point.stx_attributes & STATX_ATTR_MOUNT_ROOT) &&
           fstatfs(fd, &system) == 0 && (unsigned long)system.f_type == EROFS_SUPER_MAGIC_V1;
}

// Seen by nobody, gone with its descriptor.
static int mount_detached(struct image_store *images, const char *folder, struct err *err)
{
    _cleanup_free_ char *path = mem_printf("%s/layers/%s/" LAYER_IMAGE_NAME, images->root_path, folder);
    enum erofs_way way = images->erofs_way;
    return erofs_mount(path, &way, err);
}

static int attach(struct image_store *images, const char *folder, struct err *err)
{
    _cleanup_close_ int mount = mount_detached(images, folder, err);
    if (mount < 0)
        return -1;
    if (mkdirat(images->mounts_fd, folder, 0700) < 0 && errno != EEXIST)
        return err_errno(err, errno, "mount point");
    _cleanup_close_ int point = open_point(images, folder);
    return point < 0 ? err_errno(err, errno, "mount point") : mount_attach(mount, point, err);
}

int image_mount_layer(struct image_store *images, const char *folder, struct err *err)
{
    if (images->visitor)
        return mount_detached(images, folder, err);
    image_mounts_lock(images);
    int fd = open_point(images, folder);
    if (fd < 0 || !is_mounted(fd)) {
        fd_close(fd);
        fd = attach(images, folder, err) < 0 ? -1 : open_point(images, folder);
        if (fd >= 0 && !is_mounted(fd)) {
            fd_close(take_fd(&fd));
            err_set(err, ERR_INTERNAL, "mount: it is not where it was put");
        }
    }
    image_mounts_unlock(images);
    return fd;
}

// Detached: who stacks it, or has a file of it open, goes on.
void image_unmount_layer(struct image_store *images, const char *folder)
{
    if (images->mounts_fd < 0)
        return;
    _cleanup_free_ char *path = mem_printf("%s/%s", images->mounts_path, folder);
    while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        ;
    unlinkat(images->mounts_fd, folder, AT_REMOVEDIR);
}

void image_sweep_mounts(struct image_store *images, const struct strv *keep)
{
    _cleanup_strv_ struct strv names = { 0 };
    if (images->mounts_fd < 0 || file_list_names(images->mounts_fd, ".", &names, NULL) < 0)
        return; // what can't be seen now is there at the next start
    for (size_t i = 0; i < names.len; i++)
        if (!strv_has(keep, names.items[i]))
            image_unmount_layer(images, names.items[i]);
}

void image_unmount_all(struct image_store *images)
{
    const struct strv none = { 0 };
    image_mounts_lock(images);
    image_sweep_mounts(images, &none);
    image_mounts_unlock(images);
}
