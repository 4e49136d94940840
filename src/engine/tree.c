// Theory of operation: an overlay's upper belongs to one mount at a time. So a running container's files are reached through its own
// root, a clone of which the shim hands out. A container that does not run is mounted anew: to be read, with its upper as the topmost of
// read-only layers, so that it may be started meanwhile; to be written, as a start does, while it is held.
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>

#include "kernel/mount.h"
#include "kernel/path.h"
#include "vm.h"

#define CALL_TIMEOUT_NS (60 * NS_PER_S)

struct stack {
    int upper_fd, work_fd;
    bool copy; // the upper has all that the image has, and stands alone
    struct image_layers layers;
};

static void stack_done(struct stack *stack)
{
    fd_close(stack->upper_fd);
    fd_close(stack->work_fd);
    image_layers_done(&stack->layers);
}

static int open_folder(struct container *container, const char *below, struct err *err)
{
    _cleanup_free_ char *path = mem_printf("%s/%s", container->id, below);
    int fd = openat(container->engine->containers_fd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "container %s: %s", container->id, below) : fd;
}

bool container_has_copy(const struct container *container)
{
    _cleanup_free_ char *path = mem_printf("%s/" ROOT_COPY, container->id);
    return faccessat(container->engine->containers_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int open_stack(struct container *container, struct arena *arena, struct stack *out, struct err *err)
{
    struct image image;
    if ((out->copy = container_has_copy(container))) {
        out->upper_fd = open_folder(container, ROOT_COPY, err);
        return out->upper_fd < 0 ? -1 : 0;
    }
    if (image_get(container->engine->images, container->image_id, arena, &image, err) < 0 ||
        image_layers_open(container->engine->images, &image, arena, &out->layers, err) < 0)
        return -1;
    out->upper_fd = open_folder(container, "diff", err);
    out->work_fd = out->upper_fd < 0 ? -1 : open_folder(container, "work", err);
    return out->work_fd < 0 ? -1 : 0;
}

static int mount_writable(const struct stack *stack, struct err *err)
{
    const struct mount_overlay overlay = { .lower_fds = stack->layers.fds, .lower_len = stack->layers.len, .upper_fd = stack->upper_fd,
                                           .work_fd = stack->work_fd };
    return stack->layers.len ? mount_overlay(&overlay, MOUNT_OVERLAY_ANY, err) : mount_clone(stack->upper_fd, false, err);
}

static int mount_readable(const struct stack *stack, struct arena *arena, struct err *err)
{
    int *fds = arena_alloc(arena, (stack->layers.len + 1) * sizeof(*fds));
    const struct mount_overlay overlay = { .lower_fds = fds, .lower_len = stack->layers.len + 1, .upper_fd = -1, .work_fd = -1 };
    fds[0] = stack->upper_fd;
    for (size_t i = 0; i < stack->layers.len; i++)
        fds[i + 1] = stack->layers.fds[i];
    return stack->layers.len ? mount_overlay(&overlay, MOUNT_OVERLAY_ANY, err) : mount_clone(stack->upper_fd, false, err);
}

// The image alone, as one tree; -1 without an error when it has no layer.
static int open_lower(const struct stack *stack, struct err *err)
{
    const struct mount_overlay overlay = { .lower_fds = stack->layers.fds, .lower_len = stack->layers.len, .upper_fd = -1, .work_fd = -1 };
    if (stack->layers.len == 0)
        return -1;
    return stack->layers.len == 1 ? fd_dup(stack->layers.fds[0], err) : mount_overlay(&overlay, MOUNT_OVERLAY_ANY, err);
}

// ---- mount points ---------------------------------------------------------------------------------------------------

static bool is_missing(int root_fd, const struct engine_mount *mount)
{
    _cleanup_close_ int fd = str_eq(mount->type, "tmpfs") ? -1 : path_open(root_fd, mount->destination, false, NULL);
    return fd < 0 && !str_eq(mount->type, "tmpfs");
}

static int make_point(int root_fd, const struct engine_mount *mount, struct err *err)
{
    struct stat info;
    bool folder = stat(mount->source, &info) < 0 || S_ISDIR(info.st_mode);
    _cleanup_close_ int fd = folder ? path_make_dir(root_fd, mount->destination, 0755, err) : path_make_file(root_fd, mount->destination, 0755, err);
    return fd < 0 ? -1 : 0;
}

// Where something is to be seen that was never mounted yet: the places are made as a start would.
static int make_points(struct container *container, const struct stack *stack, int root_fd, struct err *err)
{
    bool missing = false;
    for (size_t i = 0; i < container->mount_len; i++)
        missing = missing || is_missing(root_fd, &container->mounts[i]);
    if (!missing)
        return 0;
    _cleanup_close_ int root = mount_writable(stack, err);
    if (root < 0)
        return -1;
    for (size_t i = 0; i < container->mount_len; i++)
        if (is_missing(root, &container->mounts[i]) && make_point(root, &container->mounts[i], err) < 0)
            return -1;
    return 0;
}

// ---- the face -------------------------------------------------------------------------------------------------------

static int open_live(struct container *container, struct container_tree *out, struct err *err)
{
    int *fds = NULL;
    size_t len = 0;
    _cleanup_json_ json_t *arguments = json_object();
    if (task_call(container->client, "root", arguments, NULL, 0, CALL_TIMEOUT_NS, NULL, &fds, &len, err) < 0)
        return -1;
    out->root_fd = len > 0 ? fds[0] : -1;
    for (size_t i = 1; i < len; i++)
        fd_close(fds[i]);
    free(fds);
    return out->root_fd < 0 ? err_set(err, ERR_INTERNAL, "the shim gave no root") : 0;
}

static int open_stopped(struct container *container, const struct stack *stack, struct tree_wish wish, struct arena *arena, struct container_tree *out,
                        struct err *err)
{
    _cleanup_close_ int seen = mount_readable(stack, arena, err);
    if (seen < 0 || make_points(container, stack, seen, err) < 0)
        return -1;
    if (!wish.write)
        out->root_fd = take_fd(&seen);
    else if ((out->root_fd = mount_writable(stack, err)) < 0 ||
             (container->config.host_config.read_only_rootfs && mount_attr(out->root_fd, MOUNT_ATTR_RDONLY, 0, 0, false, err) < 0))
        return -1;
    return 0;
}

static int open_image_tree(const struct container *container, struct arena *arena, struct err *err)
{
    struct image image;
    if (image_get(container->engine->images, container->image_id, arena, &image, err) < 0)
        return -1;
    return image_tree_open(container->engine->images, &image, err);
}

static int open_layers(const struct container *container, const struct stack *stack, struct arena *arena, struct container_tree *out,
                       struct err *err)
{
    struct err failed = { 0 };
    if (stack->copy) {
        out->lower_fd = open_image_tree(container, arena, err);
        return out->lower_fd < 0 ? -1 : 0;
    }
    out->lower_fd = open_lower(stack, &failed);
    if (failed.class != ERR_NONE)
        return err_set(err, failed.class, "%s", failed.message);
    out->upper_fd = fd_dup(stack->upper_fd, err);
    return out->upper_fd < 0 ? -1 : 0;
}

// Needs container_begin().
static int open_held(struct container *container, struct tree_wish wish, bool *live, struct container_tree *out, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_(stack_done) struct stack stack = { .upper_fd = -1, .work_fd = -1 };
    mutex_lock(&container->lock);
    *live = container_is_live(container) && container->client;
    bool removing = container->state.status == STATUS_REMOVING;
    mutex_unlock(&container->lock);
    if (removing)
        return err_set(err, ERR_CONFLICT, "container %s is being removed", container->id);
    if ((!*live || wish.layers) && open_stack(container, &arena, &stack, err) < 0)
        return -1;
    if (wish.layers && open_layers(container, &stack, &arena, out, err) < 0)
        return -1;
    return *live ? open_live(container, out, err) : open_stopped(container, &stack, wish, &arena, out, err);
}

int container_tree_open(struct container *container, struct tree_wish wish, struct container_tree *out, struct err *err)
{
    bool live = false;
    if (vm_wanted(&container->config.host_config))
        return err_set(err, ERR_NOT_IMPLEMENTED, "a microVM's files are its guest's alone");
    if (container_begin(container, err) < 0)
        return -1;
    int done = open_held(container, wish, &live, out, err);
    out->held = done == 0 && wish.write && !live;
    if (!out->held)
        container_end(container);
    return done;
}

void container_tree_done(struct container *container, struct container_tree *tree)
{
    fd_close(tree->root_fd);
    fd_close(tree->upper_fd);
    fd_close(tree->lower_fd);
    if (tree->held)
        container_end(container);
    *tree = (struct container_tree)TREE_INIT;
}
