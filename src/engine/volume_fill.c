// A fresh volume starts with what the image has at its mount point, as Docker's volumes do: files, folders, links, owners,
// modes, times, extended attributes. The image's side is read through a detached, read-only view of its layers and the one path
// resolver; everything is copied descriptor to descriptor, and a folder is never entered through a link.
#include <errno.h>
#include <fcntl.h>

#include "engine_private.h"
#include "kernel/path.h"
#include "mounts.h"
#include "users.h"

int volume_fill(struct container *container, const struct image *image, const char *destination, const char *volume_path,
                struct err *err)
{
    struct image_store *images = container->engine->images;
    struct err missing = { 0 };
    if (image->chain_ids.len == 0)
        return 0;
    _cleanup_run_users_ struct run_users *users = NULL; // whoever copies from a tree with its ids writes them as the host's
    if (users_of(container, false, &users, err) < 0)
        return -1;
    bool detached;
    _cleanup_close_ int root = mount_image_root(images, image, users, &detached, err);
    if (root < 0)
        return -1;
    _cleanup_close_ int place = path_open(root, destination, false, &missing);
    _cleanup_close_ int from = place < 0 ? -1 : openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from < 0)
        return 0; // the image has nothing there, or not a folder
    _cleanup_close_ int to = file_open_dir(AT_FDCWD, volume_path, err);
    return to < 0 || image_copy_tree(from, to, err) < 0 ? err_wrap(err, "copy the image's %s into its volume", destination) : 0;
}
