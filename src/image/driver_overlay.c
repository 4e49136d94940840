// The "overlay" driver: a layer is its unpacked folder, whiteouts and opaque folders as overlayfs knows them.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "image_private.h"
#include "kernel/path.h"

static int set_opaque(int layer_fd, const char *folder, struct err *err)
{
    _cleanup_close_ int place = path_open_plain(layer_fd, folder, err);
    if (place < 0)
        return -1;
    _cleanup_close_ int fd = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
        return err_errno(err, errno, "%s", folder);
    return 0;
}

static int complete(int folder_fd, const struct image_staged_layer *staged, struct err *err)
{
    // It is the "/" of containers, whatever the worker's umask was.
    if (fchmod(folder_fd, 0755) < 0 || fchown(folder_fd, 0, 0) < 0)
        return err_errno(err, errno, "folder");
    for (size_t i = 0; i < staged->opaque.len; i++)
        if (set_opaque(folder_fd, staged->opaque.items[i], err) < 0)
            return err_wrap(err, "make folder opaque");
    return 0;
}

static bool is_whole(int folder_fd)
{
    return true; // it was synced before it got its name
}

static int open_folder(struct image_store *images, const char *folder, struct err *err)
{
    int fd = openat(images->layers_fd, folder, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "open") : fd;
}

static char *path_of(const struct image_store *images, const char *folder, struct arena *arena)
{
    return arena_printf(arena, "%s/layers/%s", images->root_path, folder);
}

static int open_recipe(struct image_store *images, const char *folder, struct err *err)
{
    return err_set(err, ERR_NOT_IMPLEMENTED, "it was unpacked (storage driver overlay2), so its exact tar is not known;"
                   " layers loaded with --storage-driver erofs have it");
}

const struct image_driver image_driver_overlay = {
    .word = "overlay",
    .name = "overlay2",
    .complete = complete,
    .is_whole = is_whole,
    .open = open_folder,
    .path = path_of,
    .open_image = image_guest_open,
    .open_recipe = open_recipe,
};
