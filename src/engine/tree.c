// Theory of operation: an overlay's upper belongs to one mount at a time. So a running container's files are reached through its own
// root, a clone of which the shim hands out. A container that does not run is mounted anew: to be read, with its upper as the topmost of
// read-only layers, so that it may be started meanwhile; to be written, as a start does, and then a start waits for the end of that.
// Also a copy into a container that ran is waited for: its mount is that of the run before.
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <signal.h>
#include <sys/syscall.h>

#include "kernel/mount.h"
#include "kernel/path.h"
#include "mounts.h"
#include "users.h"
#include "vm.h"

#define CALL_TIMEOUT_NS (60 * NS_PER_S)
#define COPY_WAIT_NS (60 * NS_PER_S) // of a copy, for the one before
#define IDLE_NS (3 * NS_PER_S) // a writer that works less than WORK_MIN_NS in that time waits for its client
#define WORK_MIN_NS NS_PER_MS
#define END_NS (10 * NS_PER_S) // from a SIGKILL to the end

struct stack {
    int folder_fd, upper_fd, work_fd; // the folder may be a detached mount, which lasts as long as its descriptor
    bool copy; // the upper has all that the image has, and stands alone
    struct run_users *users; // all of it is seen with its ids; NULL: the host's
    struct image_layers layers;
};

static void stack_done(struct stack *stack)
{
    fd_close(stack->folder_fd);
    fd_close(stack->upper_fd);
    fd_close(stack->work_fd);
    image_layers_done(&stack->layers);
    run_users_free(stack->users);
}

static int open_folder(struct container *container, int folder_fd, const char *below, struct err *err)
{
    int fd = openat(folder_fd, below, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
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
    if ((out->folder_fd = users_open_folder(container, out->users, err)) < 0)
        return -1;
    if ((out->copy = container_has_copy(container))) {
        out->upper_fd = open_folder(container, out->folder_fd, ROOT_COPY, err);
        return out->upper_fd < 0 ? -1 : 0;
    }
    if (image_get_layers(container->engine->images, container->image_id, arena, &image, err) < 0 ||
        image_layers_open(container->engine->images, &image, arena, &out->layers, err) < 0 || users_map_layers(out->users, &out->layers, err) < 0)
        return -1;
    out->upper_fd = open_folder(container, out->folder_fd, "diff", err);
    out->work_fd = out->upper_fd < 0 ? -1 : open_folder(container, out->folder_fd, "work", err);
    return out->work_fd < 0 ? -1 : 0;
}

static int mount_writable(const struct stack *stack, struct err *err)
{
    const struct mount_overlay overlay = { .lower_fds = stack->layers.fds, .lower_len = stack->layers.len, .upper_fd = stack->upper_fd,
                                           .work_fd = stack->work_fd, .root_uid = stack->users ? stack->users->root_uid : 0,
                                           .root_gid = stack->users ? stack->users->root_gid : 0 };
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

static int make_point(const struct container *container, const struct run_users *users, int root_fd, const struct engine_mount *mount, struct err *err)
{
    struct stat info;
    _cleanup_close_ int source = mounts_open(container, mount, users, NULL);
    bool folder = source < 0 || fstat(source, &info) < 0 || S_ISDIR(info.st_mode);
    _cleanup_close_ int fd = folder ? path_make_dir(root_fd, mount->destination, 0755, err) : path_make_file(root_fd, mount->destination, 0755, err);
    return fd < 0 ? -1 : 0;
}

// Where something is to be seen that was never mounted yet: the places are made as a start would. 1: some were missing.
static int make_points(struct container *container, const struct stack *stack, int root_fd, struct err *err)
{
    struct users_acting before;
    bool missing = false;
    for (size_t i = 0; i < container->mount_len; i++)
        missing = missing || is_missing(root_fd, &container->mounts[i]);
    if (!missing)
        return 0;
    _cleanup_close_ int root = mount_writable(stack, err);
    if (root < 0 || (stack->users && users_act_as(stack->users->root_uid, stack->users->root_gid, &before, err) < 0))
        return -1;
    int done = 0;
    for (size_t i = 0; i < container->mount_len && done == 0; i++)
        if (is_missing(root, &container->mounts[i]))
            done = make_point(container, stack->users, root, &container->mounts[i], err);
    return (stack->users && users_act_back(&before, done < 0 ? NULL : err) < 0) || done < 0 ? -1 : 1;
}

// ---- opening --------------------------------------------------------------------------------------------------------

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
    int made = seen < 0 ? -1 : make_points(container, stack, seen, err);
    if (made > 0) { // what an overlay did not find once it does not look for again
        fd_close(seen);
        seen = mount_readable(stack, arena, err);
    }
    if (made < 0 || seen < 0)
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
    if (image_get_layers(container->engine->images, container->image_id, arena, &image, err) < 0)
        return -1;
    return image_tree_open(container->engine->images, &image, err);
}

static int open_layers(const struct container *container, const struct stack *stack, struct arena *arena, struct container_tree *out,
                       struct err *err)
{
    struct err failed = { 0 };
    if (stack->copy) {
        _cleanup_close_ int tree = open_image_tree(container, arena, err);
        out->lower_fd = tree < 0 || !stack->users ? take_fd(&tree) : mount_clone_mapped(tree, stack->users->fd, err);
        return out->lower_fd < 0 ? -1 : 0;
    }
    out->lower_fd = open_lower(stack, &failed);
    if (failed.class != ERR_NONE)
        return err_set(err, failed.class, "%s", failed.message);
    out->upper_fd = stack->users ? mount_clone(stack->upper_fd, false, err) : fd_dup(stack->upper_fd, err);
    return out->upper_fd < 0 ? -1 : 0;
}

// ---- who writes -----------------------------------------------------------------------------------------------------

// Of a process that is gone: 0.
static int64_t time_worked(pid_t pid)
{
    _cleanup_buf_ struct buf text = BUF_INIT(256);
    char path[48];
    struct slice rest, word;
    int64_t worked = 0;
    snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
    if (pid <= 0 || file_read_at(AT_FDCWD, path, &text, NULL) < 0)
        return 0;
    rest = slice_of(buf_text(&text));
    return slice_cut(&rest, ' ', &word) && num_parse_i64(word, &worked) ? worked : 0;
}

static void end_writer(struct tree_writer *writer)
{
    writer->ended = true;
    if (writer->pid)
        syscall(SYS_pidfd_send_signal, writer->pidfd, SIGKILL, NULL, 0);
}

// Those that did not work since the last look, or all.
static void end_writers(struct container *container, bool all) REQUIRES(container->lock)
{
    for (struct tree_writer *writer = container->writers; writer; writer = writer->next) {
        int64_t worked = time_worked(writer->pid);
        if (all || worked - writer->worked_ns < WORK_MIN_NS)
            end_writer(writer);
        writer->worked_ns = worked;
    }
}

static bool all_ended(const struct container *container) REQUIRES(container->lock)
{
    for (const struct tree_writer *writer = container->writers; writer; writer = writer->next)
        if (!writer->ended)
            return false;
    return true;
}

// False: some are still there at that time.
static bool wait_for_writers(struct container *container, int64_t deadline_ns) REQUIRES(container->lock)
{
    while (container->writers && cond_wait_until(&container->idle, &container->lock, deadline_ns))
        ;
    return !container->writers;
}

int container_await_writers(struct container *container, bool at_once, struct err *err)
{
    mutex_lock(&container->lock);
    for (struct tree_writer *writer = container->writers; writer; writer = writer->next)
        writer->worked_ns = time_worked(writer->pid);
    if (at_once)
        end_writers(container, true);
    while (container->writers && !all_ended(container))
        if (!wait_for_writers(container, clock_mono_ns() + IDLE_NS))
            end_writers(container, false);
    bool gone = wait_for_writers(container, clock_mono_ns() + END_NS);
    mutex_unlock(&container->lock);
    return gone ? 0 : err_set(err, ERR_CONFLICT, "files are being copied into container %s", container->id);
}

// As container_begin(), but not while somebody writes to a container that does not run.
static int begin_alone(struct container *container, struct err *err)
{
    int64_t deadline = clock_mono_ns() + COPY_WAIT_NS;
    for (;;) {
        if (container_begin(container, err) < 0)
            return -1;
        mutex_lock(&container->lock);
        bool alone = container_is_live(container) || !container->writers;
        mutex_unlock(&container->lock);
        if (alone)
            return 0;
        container_end(container);
        mutex_lock(&container->lock);
        bool gone = wait_for_writers(container, deadline);
        mutex_unlock(&container->lock);
        if (!gone)
            return err_set(err, ERR_CONFLICT, "files are being copied into container %s", container->id);
    }
}

static void enlist(struct container *container, struct container_tree *tree)
{
    tree->writes = true;
    tree->writer = (struct tree_writer){ .pidfd = -1 };
    mutex_lock(&container->lock);
    tree->writer.next = container->writers;
    container->writers = &tree->writer;
    mutex_unlock(&container->lock);
}

static void delist(struct container *container, struct container_tree *tree)
{
    mutex_lock(&container->lock);
    struct tree_writer **place = &container->writers;
    while (*place != &tree->writer)
        place = &(*place)->next;
    *place = tree->writer.next;
    cond_wake_all(&container->idle);
    mutex_unlock(&container->lock);
}

void container_tree_worker(struct container *container, struct container_tree *tree, const struct process *worker)
{
    if (!tree->writes)
        return;
    mutex_lock(&container->lock);
    tree->writer.pid = worker->pid;
    tree->writer.pidfd = worker->pidfd;
    if (tree->writer.ended && worker->pid)
        end_writer(&tree->writer);
    mutex_unlock(&container->lock);
}

bool container_tree_ended(struct container *container, const struct container_tree *tree)
{
    mutex_lock(&container->lock);
    bool ended = tree->writes && tree->writer.ended;
    mutex_unlock(&container->lock);
    return ended;
}

// ---- the face -------------------------------------------------------------------------------------------------------

// Needs container_begin().
static int open_held(struct container *container, struct tree_wish wish, bool *live, struct container_tree *out, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_(stack_done) struct stack stack = { .folder_fd = -1, .upper_fd = -1, .work_fd = -1 };
    mutex_lock(&container->lock);
    *live = container_is_live(container) && container->client;
    bool removing = container->state.status == STATUS_REMOVING;
    mutex_unlock(&container->lock);
    if (removing)
        return err_set(err, ERR_CONFLICT, "container %s is being removed", container->id);
    if (users_of(container, *live, &stack.users, err) < 0)
        return -1;
    if ((!*live || wish.layers) && open_stack(container, &arena, &stack, err) < 0)
        return -1;
    if (wish.layers && open_layers(container, &stack, &arena, out, err) < 0)
        return -1;
    if ((*live ? open_live(container, out, err) : open_stopped(container, &stack, wish, &arena, out, err)) < 0)
        return -1;
    out->users = take_ptr(&stack.users);
    return 0;
}

int container_tree_open(struct container *container, struct tree_wish wish, struct container_tree *out, struct err *err)
{
    bool live = false;
    if (vm_wanted(&container->config.host_config))
        return err_set(err, ERR_NOT_IMPLEMENTED, "a microVM's files are its guest's alone");
    if (begin_alone(container, err) < 0)
        return -1;
    int done = open_held(container, wish, &live, out, err);
    if (done == 0 && wish.write)
        enlist(container, out);
    container_end(container);
    return done;
}

void container_tree_done(struct container *container, struct container_tree *tree)
{
    fd_close(tree->root_fd);
    fd_close(tree->upper_fd);
    fd_close(tree->lower_fd);
    run_users_free(tree->users);
    if (tree->writes)
        delist(container, tree);
    *tree = (struct container_tree)TREE_INIT;
}
