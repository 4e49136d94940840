// --mount type=image: the root of another image, read-only. What is mounted is made anew at each start, of the image's layers: nothing of
// it is on the disk or in the host's mount table. The record has the image's ID as the source; an image that has a container which mounts
// it is in use.
#include <errno.h>
#include <fcntl.h>

#include "engine_private.h"
#include "kernel/mount.h"
#include "kernel/path.h"
#include "mounts.h"
#include "users.h"

// ---- who is in use --------------------------------------------------------------------------------------------------

int mount_images_hold(struct container *container, struct arena *arena, struct err *err)
{
    const struct json_list *requests = &container->config.host_config.mounts;
    struct kvs *held = &container->mount_images;
    held->items = arena_alloc(&container->arena, (requests->len + 1) * sizeof(*held->items));
    for (size_t i = 0; i < requests->len; i++) {
        const struct mount_request *request = json_list_at(requests, &mount_request_table, i);
        struct image image;
        if (!str_eq(request->type, "image") || str_empty(request->source))
            continue;
        if (image_get(container->engine->images, request->source, arena, &image, err) < 0)
            return -1;
        held->items[held->len++] = (struct kv){ request->source, arena_strdup(&container->arena, image.id) };
    }
    return 0;
}

bool mount_images_have(const struct engine *engine, const struct container *container, const char *image_id)
{
    for (size_t i = 0; i < container->mount_images.len; i++)
        if (str_eq(container->mount_images.items[i].value, image_id))
            return true;
    for (size_t i = 0; !container->hidden && i < container->mount_len; i++)
        if (str_eq(container->mounts[i].type, "image") && str_eq(container->mounts[i].source, image_id))
            return true;
    return false;
}

// ---- its root -------------------------------------------------------------------------------------------------------

// Its only layer, or a detached overlay of all.
static int open_stacked(struct image_store *images, const struct image *image, const struct run_users *users, bool *detached, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_(image_layers_done) struct image_layers layers = { 0 };
    if (image_layers_open(images, image, &arena, &layers, err) < 0 || users_map_layers(users, &layers, err) < 0)
        return -1;
    *detached = users || layers.len > 1;
    if (layers.len == 1)
        return fd_dup(layers.fds[0], err);
    const struct mount_overlay overlay = { .lower_fds = layers.fds, .lower_len = layers.len, .upper_fd = -1, .work_fd = -1 };
    return mount_overlay(&overlay, MOUNT_OVERLAY_ANY, err);
}

static int open_copied(struct image_store *images, const struct image *image, const struct run_users *users, bool *detached, struct err *err)
{
    _cleanup_close_ int tree = image_tree_open(images, image, err);
    *detached = users;
    return tree < 0 || !users ? take_fd(&tree) : mount_clone_mapped(tree, users->fd, err);
}

int mount_image_root(struct image_store *images, const struct image *image, const struct run_users *users, bool *detached, struct err *err)
{
    *detached = true;
    if (image->chain_ids.len == 0)
        return mount_new("tmpfs", NULL, 0, 0, err);
    return image_store_copies(images) ? open_copied(images, image, users, detached, err) : open_stacked(images, image, users, detached, err);
}

// ---- at start -------------------------------------------------------------------------------------------------------

// A mount can be cloned out of one that is attached nowhere since Linux 6.15; the whole of it needs no clone.
int mount_image_open(const struct container *container, const struct engine_mount *mount, const struct run_users *users, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image_store *images = container->engine->images;
    struct image image;
    bool detached;
    if (image_get(images, mount->source, &arena, &image, err) < 0)
        return -1;
    _cleanup_close_ int root = mount_image_root(images, &image, users, &detached, err);
    if (root < 0)
        return err_wrap(err, "mount image %s", mount->name);
    if (str_empty(mount->subpath))
        return detached ? take_fd(&root) : mount_clone(root, false, err);
    _cleanup_close_ int below = path_open(root, mount->subpath, false, err);
    if (below < 0)
        return err_wrap(err, "cannot access path %s in image %s", mount->subpath, mount->name);
    int tree = mount_clone(below, false, err);
    return tree < 0 ? err_wrap(err, "mount %s of image %s", mount->subpath, mount->name) : tree;
}
