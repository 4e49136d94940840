// Which graph driver new layers get, and containers their roots by. EROFS images where the kernel mounts them: they are made in the pass that reads the tar, without
// a file made for each of the layer's (a quarter to a half of the time), and guests take the same file.
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "base/num.h"
#include "image_private.h"
#include "kernel/mount.h"
#include "layer/layer.h"

enum { RECORDS_FROM = 4 }; // whose words only records have
static const struct image_driver *const drivers[] = { &image_driver_erofs, &image_driver_overlay, &image_driver_btrfs, &image_driver_vfs,
                                                    &image_driver_overlay_user, &image_driver_vfs_user, &image_driver_loose };

bool image_takes_loose(const struct image_store *images)
{
    return images->driver == &image_driver_erofs || images->driver == &image_driver_overlay;
}

const struct image_driver *image_driver_by_word(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++)
        if (str_eq(drivers[i]->word, word))
            return drivers[i];
    return NULL;
}

static const struct image_driver *by_name(const char *wanted)
{
    for (size_t i = 0; i < RECORDS_FROM; i++)
        if (str_eq(drivers[i]->word, wanted) || str_eq(drivers[i]->name, wanted))
            return drivers[i];
    return NULL;
}

// ---- the probe ------------------------------------------------------------------------------------------------------

// An image of an empty folder.
static int write_probe(const struct image_store *images, const char *name, struct err *err)
{
    const struct layer_erofs_options options = { 0 };
    uint64_t size;
    _cleanup_free_ char *image = mem_printf("%s/" LAYER_IMAGE_NAME, name), *empty = mem_printf("%s/empty", name);
    if (file_mkdirs(images->staging_fd, empty, 0700, err) < 0)
        return -1;
    _cleanup_close_ int folder = file_open_dir(images->staging_fd, empty, err);
    if (folder < 0)
        return -1;
    _cleanup_close_ int fd = openat(images->staging_fd, image, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? err_errno(err, errno, "%s", image) : layer_erofs_from_folder(folder, fd, &options, &size, err);
}

// Asked of the data root itself: what the kernel mounts depends on the file system below.
static int probe(struct image_store *images, struct err *err)
{
    _cleanup_free_ char *name = NULL;
    _cleanup_close_ int staging = image_staging_new(images, &name, err);
    if (staging < 0)
        return -1;
    _cleanup_free_ char *path = mem_printf("%s/staging/%s/" LAYER_IMAGE_NAME, images->root_path, name);
    int mount = write_probe(images, name, err) < 0 ? -1 : erofs_mount(path, &images->erofs_way, err);
    fd_close(mount);
    image_staging_remove(images, name);
    return mount < 0 ? -1 : 0;
}

// Whether the data root can have the upper of an overlay: not on an overlay, not on a file system without extended attributes.
static int probe_overlay(struct image_store *images, struct err *err)
{
    static const char *const names[] = { "lower", "upper", "work" };
    int fds[ARRAY_LEN(names)] = { -1, -1, -1 }, mount = -1;
    _cleanup_free_ char *staging = NULL;
    _cleanup_close_ int folder = image_staging_new(images, &staging, err);
    if (folder < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (file_mkdirs(folder, names[i], 0700, NULL) == 0)
            fds[i] = file_open_dir(folder, names[i], NULL);
    const struct mount_overlay overlay = { .lower_fds = fds, .lower_len = 1, .upper_fd = fds[1], .work_fd = fds[2] };
    if (fds[0] >= 0 && fds[1] >= 0 && fds[2] >= 0)
        mount = mount_overlay(&overlay, MOUNT_OVERLAY_ANY, err);
    fd_close(mount);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        fd_close(fds[i]);
    image_staging_remove(images, staging);
    return mount < 0 ? -1 : 0;
}

static bool is_btrfs(const struct image_store *images)
{
    struct statfs info;
    return fstatfs(images->layers_fd, &info) == 0 && (unsigned long)info.f_type == BTRFS_SUPER_MAGIC;
}

static const struct image_driver *best(struct image_store *images, bool mounts)
{
    if (probe_overlay(images, NULL) < 0)
        return is_btrfs(images) ? &image_driver_btrfs : &image_driver_vfs;
    return mounts ? &image_driver_erofs : &image_driver_overlay;
}

static int choose(struct image_store *images, const char *wanted, bool mounts, const char *why_not, struct err *err)
{
    images->driver = wanted ? by_name(wanted) : best(images, mounts);
    if (!images->driver)
        return err_set(err, ERR_INVALID_ARGUMENT, "storage driver %s: not one of erofs, overlay (overlay2), btrfs, vfs", wanted);
    if (images->driver == &image_driver_btrfs && !is_btrfs(images))
        return err_set(err, ERR_INVALID_ARGUMENT, "storage driver btrfs: the data root is not on a btrfs file system");
    if (images->driver == &image_driver_erofs && !mounts)
        return err_set(err, ERR_NOT_IMPLEMENTED, "storage driver erofs: this kernel does not mount its layers here: %s", why_not);
    return 0;
}

// No kernel mounts a layer's file there, and a snapshot's owners and marks would be the first namespace's.
static int choose_rootless(struct image_store *images, const char *wanted, struct err *err)
{
    const struct image_driver *driver = wanted ? by_name(wanted) : probe_overlay(images, NULL) < 0 ? &image_driver_vfs : &image_driver_overlay;
    if (!driver)
        return choose(images, wanted, false, "", err);
    if (!driver->rootless)
        return err_set(err, ERR_NOT_IMPLEMENTED, "storage driver %s: not in a user namespace (overlay and vfs are)", driver->word);
    images->driver = driver->rootless;
    return 0;
}

int image_driver_choose(struct image_store *images, const char *wanted, struct err *err)
{
    struct err why = { 0 };
    if (mount_in_user_namespace())
        return choose_rootless(images, wanted, err);
    bool mounts = probe(images, &why) == 0;
    return choose(images, wanted, mounts, why.message, err);
}

// ---- what is told of it ---------------------------------------------------------------------------------------------

const char *image_driver_name(const struct image_store *images)
{
    return images->driver->name;
}

// As Docker calls them.
static const char *system_name(int fd)
{
    static const struct {
        unsigned long magic;
        const char *name;
    } names[] = {
        { EXT4_SUPER_MAGIC, "extfs" }, { 0x58465342, "xfs" },          { BTRFS_SUPER_MAGIC, "btrfs" },
        { TMPFS_MAGIC, "tmpfs" },      { 0x2fc12fc1, "zfs" },          { F2FS_SUPER_MAGIC, "f2fs" },
        { OVERLAYFS_SUPER_MAGIC, "overlayfs" },
    };
    struct statfs info;
    if (fstatfs(fd, &info) == 0)
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
            if ((unsigned long)info.f_type == names[i].magic)
                return names[i].name;
    return "<unknown>";
}

static void add_pair(struct strv *out, struct arena *arena, const char *key, const char *value)
{
    strv_push_arena(out, arena, key);
    strv_push_arena(out, arena, value);
}

void image_driver_status(const struct image_store *images, struct arena *arena, struct strv *out)
{
    add_pair(out, arena, "Backing Filesystem", system_name(images->layers_fd));
    bool rootless = images->driver == &image_driver_overlay_user;
    if (rootless || images->driver == &image_driver_overlay) {
        add_pair(out, arena, "Supports d_type", "true");
        add_pair(out, arena, "userxattr", rootless ? "true" : "false");
        return;
    }
    if (images->driver != &image_driver_erofs) {
        add_pair(out, arena, "Containers", images->driver->copies == COPIES_FILES ? "a copy of the image each" : "a snapshot of the image each");
        return;
    }
    add_pair(out, arena, "Layers", "EROFS images, stacked by overlayfs");
    add_pair(out, arena, "Mounted from", erofs_way_text(images->erofs_way));
}
