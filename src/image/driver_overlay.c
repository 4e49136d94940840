// The "overlay" driver: a layer is its unpacked folder, whiteouts and opaque folders as overlayfs knows them. Those of "vfs" and "btrfs" are
// the same; what differs is how a container gets its root (whole.c).
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "image_private.h"
#include "kernel/mount.h"
#include "kernel/path.h"
#include "layer/layer.h"

const char *image_opaque_name(void)
{
    return mount_in_user_namespace() ? "user.overlay.opaque" : "trusted.overlay.opaque";
}

static int set_opaque(int layer_fd, const char *folder, struct err *err)
{
    _cleanup_close_ int place = path_open_plain(layer_fd, folder, err);
    if (place < 0)
        return -1;
    _cleanup_close_ int fd = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsetxattr(fd, image_opaque_name(), "y", 1, 0) < 0)
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

// With the other side's marks unread, what lower layers have would shine through, and owners would be nobody's.
static int open_layer(struct image_store *images, const char *folder, struct err *err)
{
    if (mount_in_user_namespace())
        return err_set(err, ERR_NOT_IMPLEMENTED, "it was unpacked outside of this user namespace, and can't be used in it: a data root of its own is needed");
    return open_folder(images, folder, err);
}

static int open_rootless(struct image_store *images, const char *folder, struct err *err)
{
    if (!mount_in_user_namespace())
        return err_set(err, ERR_NOT_IMPLEMENTED, "it was unpacked in a user namespace, and can't be used outside of it: remove the image and load it again");
    return open_folder(images, folder, err);
}

static int open_no_image(struct image_store *images, const char *folder, struct arena *arena, char **path, struct err *err)
{
    return err_set(err, ERR_NOT_IMPLEMENTED, "it was unpacked in a user namespace, and has no devices for a guest: remove the image and load it again");
}

static char *path_of(const struct image_store *images, const char *folder, struct arena *arena)
{
    return arena_printf(arena, "%s/layers/%s", images->root_path, folder);
}

static int open_kept(const struct image_store *images, const char *folder, struct err *err)
{
    _cleanup_free_ char *kept = mem_printf("%s" LAYER_KEPT_SUFFIX, folder);
    int fd = openat(images->layers_fd, kept, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, ERR_NOT_IMPLEMENTED, "it was unpacked by an older version, so its exact tar is not known");
    return fd < 0 ? err_errno(err, errno, "%s", kept) : fd;
}

static int open_recipe(struct image_store *images, const char *folder, struct err *err)
{
    _cleanup_close_ int kept = open_kept(images, folder, err);
    if (kept < 0)
        return -1;
    int fd = openat(kept, LAYER_RECIPE_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, LAYER_RECIPE_NAME) : fd;
}

// One file without a name, gone with its last descriptor: whoever reads the recipe is jailed and can open no file of the layer.
static int open_content(struct image_store *images, const char *folder, uint64_t tar_size, struct err *err)
{
    _cleanup_close_ int kept = open_kept(images, folder, err);
    _cleanup_close_ int tree = kept < 0 ? -1 : open_folder(images, folder, err);
    if (tree < 0)
        return -1;
    _cleanup_close_ int content = openat(images->staging_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (content < 0)
        return err_errno(err, errno, "content");
    return layer_content(tree, kept, tar_size, content, err) < 0 ? -1 : take_fd(&content);
}

static int open_no_recipe(struct image_store *images, const char *folder, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "it is a step of a build that no image was made of: it has no tar");
}

static int open_no_content(struct image_store *images, const char *folder, uint64_t tar_size, struct err *err)
{
    return open_no_recipe(images, folder, err);
}

#define UNPACKED(the_word, the_name, what) \
    .word = (the_word), .name = (the_name), .copies = (what), .complete = complete, .is_whole = is_whole, .path = path_of, \
    .open_recipe = open_recipe, .open_content = open_content
#define BY_ROOT .open = open_layer, .open_image = image_guest_open
#define ROOTLESS .form = LAYER_FORM_NO_DEVICES, .open = open_rootless, .open_image = open_no_image

const struct image_driver image_driver_overlay_user = { UNPACKED("overlay-user", "overlay2", COPIES_NOTHING), ROOTLESS };
const struct image_driver image_driver_vfs_user = { UNPACKED("vfs-user", "vfs", COPIES_FILES), ROOTLESS };
const struct image_driver image_driver_overlay = { UNPACKED("overlay", "overlay2", COPIES_NOTHING), BY_ROOT, .rootless = &image_driver_overlay_user };
const struct image_driver image_driver_vfs = { UNPACKED("vfs", "vfs", COPIES_FILES), BY_ROOT, .rootless = &image_driver_vfs_user };
const struct image_driver image_driver_loose = { .word = "loose", .name = "overlay2", .complete = complete, .is_whole = is_whole, .path = path_of,
                                                 .open_recipe = open_no_recipe, .open_content = open_no_content, BY_ROOT };
const struct image_driver image_driver_btrfs = { UNPACKED("btrfs", "btrfs", COPIES_SNAPSHOT), BY_ROOT };
