// Whole trees, for drivers whose containers have a copy of the image each instead of an overlay over its layers (vfs, btrfs).
//
// layers/<top chain>.tree is the image's root as one tree, made of its layers when it is first wanted, and there as long as its top layer.
// A container's root is a copy of it (vfs), or a snapshot (btrfs): nobody writes into the tree itself.
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "image_private.h"

#define TREE_SUFFIX ".tree"

bool image_store_copies(const struct image_store *images)
{
    return images->driver->copies != COPIES_NOTHING;
}

char *image_tree_name(const char *chain)
{
    return mem_printf("%s" TREE_SUFFIX, oci_digest_hex(chain));
}

// ---- folders that can be snapshots ----------------------------------------------------------------------------------

static int fill_args(int fd, const char *name, struct btrfs_ioctl_vol_args_v2 *args, struct err *err)
{
    *args = (struct btrfs_ioctl_vol_args_v2){ .fd = fd };
    if (strlen(name) >= sizeof(args->name))
        return err_errno(err, ENAMETOOLONG, "%s", name);
    memcpy(args->name, name, strlen(name) + 1);
    return 0;
}

static int make_folder(const struct image_store *images, int dir_fd, const char *name, struct err *err)
{
    struct btrfs_ioctl_vol_args_v2 args;
    if (images->driver->copies != COPIES_SNAPSHOT)
        return mkdirat(dir_fd, name, 0700) < 0 ? err_errno(err, errno, "%s", name) : 0;
    _cleanup_close_ int dir = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fill_args(0, name, &args, err) < 0 || ioctl(dir, BTRFS_IOC_SUBVOL_CREATE_V2, &args) < 0)
        return err_errno(err, errno, "subvolume %s", name);
    return 0;
}

// A tree that was made by another driver may be a plain folder.
static bool is_subvolume(int tree_fd)
{
    struct stat info;
    return fstat(tree_fd, &info) == 0 && info.st_ino == BTRFS_FIRST_FREE_OBJECTID;
}

static int snapshot(int tree_fd, int dir_fd, const char *name, struct err *err)
{
    struct btrfs_ioctl_vol_args_v2 args;
    _cleanup_close_ int dir = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fill_args(tree_fd, name, &args, err) < 0 || ioctl(dir, BTRFS_IOC_SNAP_CREATE_V2, &args) < 0)
        return err_errno(err, errno, "snapshot %s", name);
    return 0;
}

// ---- an image's tree ------------------------------------------------------------------------------------------------

static int open_readable(int dir_fd, const char *name)
{
    return openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

// Bottom first, each over what is there.
static int apply_layers(struct image_store *images, const struct image *image, int to_fd, struct err *err)
{
    for (size_t i = 0; i < image->chain_ids.len; i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct image_place place = { .arena = &arena };
        if (image_find_place(images, image, i, &place, err) < 0)
            return -1;
        _cleanup_close_ int found = image_driver_by_word(place.driver)->open(images, place.folder, err);
        _cleanup_close_ int layer = found < 0 ? -1 : open_readable(found, ".");
        if (layer < 0)
            return found < 0 ? -1 : err_errno(err, errno, "layer %.12s", place.folder);
        if (image_apply_layer(layer, to_fd, err) < 0)
            return err_wrap(err, "layer %.12s", place.folder);
    }
    return 0;
}

static int fill_tree(struct image_store *images, const struct image *image, int staging_fd, struct err *err)
{
    if (make_folder(images, staging_fd, "tree", err) < 0)
        return -1;
    _cleanup_close_ int tree = open_readable(staging_fd, "tree");
    if (tree < 0)
        return err_errno(err, errno, "tree");
    if (apply_layers(images, image, tree, err) < 0)
        return -1;
    return syncfs(tree) < 0 ? err_errno(err, errno, "sync") : 0;
}

// It gets its name only when the image is still there: who removes an image takes its tree away with the same lock.
static int publish_tree(struct image_store *images, const char *chain, const char *name, int staging_fd, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct strv found = { 0 };
    image_lock(images);
    int result = image_query_texts(images, &found, &arena, err, "SELECT id FROM image_chains WHERE id = ?", chain);
    if (result == 0 && !found.len)
        result = err_set(err, ERR_NOT_FOUND, "No such image: its layers went meanwhile");
    if (result == 0 && renameat(staging_fd, "tree", images->layers_fd, name) < 0)
        result = err_errno(err, errno, "%s", name);
    image_unlock(images);
    return result;
}

static int make_tree(struct image_store *images, const struct image *image, const char *chain, const char *name, struct err *err)
{
    char *staging = NULL;
    _cleanup_close_ int fd = image_staging_new(images, &staging, err);
    int result = fd < 0 ? -1 : fill_tree(images, image, fd, err);
    if (result == 0)
        result = publish_tree(images, chain, name, fd, err);
    if (staging)
        image_staging_remove(images, staging);
    free(staging);
    return result < 0 ? err_wrap(err, "image as one tree") : 0;
}

// A tree is of no more use on the other side of a user namespace than the layers that it was made from.
static int check_usable(struct image_store *images, const struct image *image, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image_place place = { .arena = &arena };
    if (image_find_place(images, image, image->chain_ids.len - 1, &place, err) < 0)
        return -1;
    const struct image_driver *driver = image_driver_by_word(place.driver);
    if (driver == &image_driver_erofs)
        return 0; // opening it would mount it
    _cleanup_close_ int layer = driver->open(images, place.folder, err);
    return layer < 0 ? err_wrap(err, "layer %.12s", place.folder) : 0;
}

int image_tree_open(struct image_store *images, const struct image *image, struct err *err)
{
    if (check_usable(images, image, err) < 0)
        return -1;
    const char *chain = image->chain_ids.items[image->chain_ids.len - 1];
    _cleanup_free_ char *name = image_tree_name(chain);
    int fd = open_readable(images->layers_fd, name);
    if (fd >= 0 || errno != ENOENT)
        return fd < 0 ? err_errno(err, errno, "%s", name) : fd;
    // Of this process's threads one makes it; of two processes the second finds the name taken, and takes that one.
    struct erofs_making mine = { .folder = name };
    struct err failed = { 0 };
    image_making_begin(images, &mine);
    fd = open_readable(images->layers_fd, name);
    int result = fd < 0 ? make_tree(images, image, chain, name, &failed) : 0;
    if (fd < 0)
        fd = open_readable(images->layers_fd, name);
    image_making_end(images, &mine);
    if (fd < 0 && result < 0 && err)
        *err = failed;
    return fd < 0 && result == 0 ? err_errno(err, errno, "%s", name) : fd;
}

int image_root_copy(struct image_store *images, const struct image *image, int dir_fd, const char *name, struct err *err)
{
    _cleanup_close_ int tree = image_tree_open(images, image, err);
    if (tree < 0)
        return -1;
    if (images->driver->copies == COPIES_SNAPSHOT && is_subvolume(tree))
        return snapshot(tree, dir_fd, name, err);
    if (make_folder(images, dir_fd, name, err) < 0)
        return -1;
    _cleanup_close_ int to = open_readable(dir_fd, name);
    return to < 0 ? err_errno(err, errno, "%s", name) : image_copy_tree(tree, to, err);
}

// ---- what a container changed ---------------------------------------------------------------------------------------

static int64_t changed_size(int root, int tree, unsigned depth)
{
    _cleanup_strv_ struct strv names = { 0 };
    struct stat own, first;
    int64_t size = 0;
    enum { DEPTH_MAX = 1000 };
    if (depth > DEPTH_MAX || file_list_names(root, ".", &names, NULL) < 0)
        return 0;
    for (size_t i = 0; i < names.len; i++) {
        if (fstatat(root, names.items[i], &own, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        bool both = tree >= 0 && fstatat(tree, names.items[i], &first, AT_SYMLINK_NOFOLLOW) == 0;
        if (S_ISDIR(own.st_mode)) {
            _cleanup_close_ int below = open_readable(root, names.items[i]), tree_below = both ? open_readable(tree, names.items[i]) : -1;
            size += below < 0 ? 0 : changed_size(below, tree_below, depth + 1);
        } else if (!both || own.st_mode != first.st_mode || own.st_size != first.st_size || own.st_mtim.tv_sec != first.st_mtim.tv_sec ||
                   own.st_mtim.tv_nsec != first.st_mtim.tv_nsec) {
            size += own.st_size;
        }
    }
    return size;
}

struct measuring {
    int root, tree;
    int64_t size;
};

static void *measure(void *context)
{
    struct measuring *measuring = context;
    measuring->size = changed_size(measuring->root, measuring->tree, 0);
    return NULL;
}

int image_root_changed(struct image_store *images, const struct image *image, int dir_fd, const char *name, int64_t *size, struct err *err)
{
    _cleanup_close_ int tree = image_tree_open(images, image, err);
    _cleanup_close_ int root = tree < 0 ? -1 : open_readable(dir_fd, name);
    if (root < 0)
        return tree < 0 ? -1 : err_errno(err, errno, "%s", name);
    struct measuring measuring = { root, tree, 0 };
    int result = image_run_deep(measure, &measuring, err);
    *size = measuring.size;
    return result;
}
