// The operations that only a config.json asks for. What is said in child_mount.c about paths holds here as well, also while
// the old root is still there: every path counts from the rootfs's descriptor.
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "kernel/abi.h"
#include "kernel/path.h"
#include "plan.h"

#define OPTIONS_MAX 32

int child_stage(struct child *child, enum sandbox_stage stage, int fd, struct err *err)
{
    struct message message = { .type = MESSAGE_STAGE, .value = (int)stage };
    char word = 0;
    if (fd_send(child->sock, &message, sizeof(message), &fd, fd >= 0 ? 1 : 0, err) < 0)
        return -1;
    if (fd_read_full(child->sock, &word, 1, NULL) != 1)
        _exit(127); // the parent is gone
    // 1: go on. Anything else: the parent has failed and says so itself.
    if (word != 1)
        _exit(127);
    return 0;
}

// A process that is not dumpable belongs to root in /proc, and then its maps are not its user's to write.
int op_stage(struct child *child, const struct op *op, struct err *err)
{
    bool open_up = op->how == SANDBOX_STAGE_MAPS && child->plan->maps_need_dumpable;
    if (open_up)
        prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    int result = child_stage(child, (enum sandbox_stage)op->how, -1, err);
    if (open_up)
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    return result;
}

int op_become_root(struct child *child, const struct op *op, struct err *err)
{
    // Denied where an unprivileged user made the maps; then the groups stay.
    if (syscall(SYS_setgroups, 0, NULL) < 0 && errno != EPERM)
        return err_errno(err, errno, "setgroups");
    if (syscall(SYS_setresgid, 0, 0, 0) < 0)
        return err_errno(err, errno, "setresgid");
    if (syscall(SYS_setresuid, 0, 0, 0) < 0)
        return err_errno(err, errno, "setresuid");
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); // a change of ids may have set it
    return 0;
}

// ---- the root -------------------------------------------------------------------------------------------------------

int op_clone_root(struct child *child, const struct op *op, struct err *err)
{
    int fd = open_tree(AT_FDCWD, op->path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (fd < 0)
        return err_errno(err, errno, "open_tree");
    child->rootfs_fd = fd;
    return mount_attr(fd, 0, 0, MS_PRIVATE, true, err);
}

int op_clone_bind(struct child *child, const struct op *op, struct err *err)
{
    _cleanup_close_ int source = open(op->path, O_PATH | O_CLOEXEC);
    if (source < 0)
        return err_errno(err, errno, "open");
    child->bind_fds[op->index] = clone_bind(&child->plan->binds[op->index], source, err);
    return child->bind_fds[op->index] < 0 ? -1 : 0;
}

// On top of the folder itself, so that hooks find the mounts where the state says that the rootfs is. In the caller's mount namespace what
// is mounted in it is nobody else's, even if others are to hear of mounts beside it.
int op_attach_root(struct child *child, const struct op *op, struct err *err)
{
    const char *path = child->plan->hooks->rootfs_path;
    if (move_mount(child->rootfs_fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_errno(err, errno, "move_mount %s", path);
    if (op->how & OP_STAY && mount_attr(child->rootfs_fd, 0, 0, MS_PRIVATE, true, err) < 0)
        return -1;
    child->root_fd = fcntl(child->rootfs_fd, F_DUPFD_CLOEXEC, 3);
    return child->root_fd >= 0 ? 0 : err_errno(err, errno, "dup");
}

int op_pivot(struct child *child, const struct op *op, struct err *err)
{
    if (fchdir(child->root_fd >= 0 ? child->root_fd : child->rootfs_fd) < 0)
        return err_errno(err, errno, "fchdir");
    if ((op->how & (OP_NO_PIVOT | OP_STAY)) == OP_NO_PIVOT && move_mount(child->root_fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_errno(err, errno, "move root");
    fd_close(child->root_fd);
    return child_enter_root(child, op, err);
}

// Where the old root stays below the new one, its whole procfs and sysfs would allow a process of the container's mounts of
// them without our masks.
int op_detach(struct child *child, const struct op *op, struct err *err)
{
    if (umount2(op->path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || errno == ENOENT) // gone with what it lay in
        return 0;
    if (errno != EINVAL && errno != EPERM)
        return err_errno(err, errno, "umount");
    _cleanup_close_ int target = open(op->path, O_PATH | O_DIRECTORY | O_CLOEXEC), cover = mount_new("tmpfs", NULL, 0, 0, err); // locked
    if (target < 0)
        return err_errno(err, errno, "open");
    return cover < 0 ? -1 : mount_attach(cover, target, err);
}

// ---- file systems ---------------------------------------------------------------------------------------------------

static int filesystem_target(struct child *child, const struct op *op, bool *existed, struct err *err)
{
    *existed = true;
    if (op->how & OP_PLAIN_TARGET)
        return child_system_target(child, op->path, err);
    int fd = path_open(child->root_fd, op->path, false, err);
    if (fd >= 0 || err->number != ENOENT)
        return fd;
    err_clear(err);
    *existed = false;
    return path_make_last(child->root_fd, op->path, 0755) ? path_open(child->root_fd, op->path, false, err)
                                                          : path_make_dir(child->root_fd, op->path, 0755, err);
}

// A tmpfs has the mode of the folder that it hides, unless the options say another.
static int new_filesystem(const struct op *op, int target, bool existed, struct err *err)
{
    struct mount_option options[OPTIONS_MAX + 1];
    char mode[16];
    struct stat st;
    size_t len = 0;
    if (op->option_len > OPTIONS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d options", OPTIONS_MAX);
    for (size_t i = 0; i < op->option_len; i++)
        options[len++] = op->options[i];
    if (str_eq(op->text, "tmpfs") && existed && fstat(target, &st) == 0) {
        bool given = false;
        for (size_t i = 0; i < len; i++)
            given |= str_eq(options[i].key, "mode");
        snprintf(mode, sizeof(mode), "%o", st.st_mode & 07777);
        if (!given)
            options[len++] = (struct mount_option){ .key = "mode", .value = mode };
    }
    return mount_new(op->text, options, len, op->flags, err);
}

int op_filesystem(struct child *child, const struct op *op, struct err *err)
{
    bool existed;
    _cleanup_close_ int target = filesystem_target(child, op, &existed, err);
    if (target < 0 || (!(op->how & OP_PLAIN_TARGET) && child_check_target(child, op, target, err) < 0))
        return -1;
    _cleanup_close_ int mount = new_filesystem(op, target, existed, err);
    if (mount < 0)
        return -1;
    if ((op->how & OP_FILL) && child_copy_tree(target, mount, err) < 0)
        return err_wrap(err, "tmpcopyup");
    if (op->fd > 0 && mount_map_ids(mount, op->fd, false, err) < 0)
        return -1;
    if (mount_attach(mount, target, err) < 0 || child_replace_root(child, op, mount, err) < 0)
        return -1;
    child->last_mount = take_fd(&mount); // closed with everything else before the exec
    if (op->slot != SLOT_NONE)
        child->slots[op->slot] = child->last_mount;
    return 0;
}

int op_bind_propagation(struct child *child, const struct op *op, struct err *err)
{
    return mount_attr(child->last_mount, 0, 0, op->flags, op->how & OP_RECURSIVE, err);
}

int op_remount(struct child *child, const struct op *op, struct err *err)
{
    _cleanup_close_ int target = path_open(child->root_fd, op->path, false, err);
    return target < 0 ? -1 : mount_attr(target, op->flags, op->clear, 0, op->how & OP_RECURSIVE, err);
}

int op_path_read_only(struct child *child, const struct op *op, struct err *err)
{
    _cleanup_close_ int target = path_open(child->root_fd, op->path, false, err);
    return target < 0 ? -1 : mount_attr(target, MOUNT_ATTR_RDONLY, 0, 0, false, err);
}

int op_private_proc(struct child *child, const struct op *op, struct err *err)
{
    child->slots[SLOT_PROC] = mount_new("proc", NULL, 0, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err);
    return child->slots[SLOT_PROC] < 0 ? -1 : 0;
}

// ---- devices --------------------------------------------------------------------------------------------------------

int op_dev_folder(struct child *child, const struct op *op, struct err *err)
{
    _cleanup_close_ int path = child_system_target(child, op->path, err);
    if (path < 0)
        return -1;
    child->slots[SLOT_DEV] = take_fd(&path);
    return 0;
}

int op_bind_node(struct child *child, const struct op *op, struct err *err)
{
    int folder = child_slot_fd(child, op);
    struct stat st;
    _cleanup_close_ int target = path_make_file(folder, op->path, 0644, err);
    if (target < 0 || fstat(target, &st) < 0)
        return -1;
    if (S_ISDIR(st.st_mode))
        return err_errno(err, EISDIR, "device");
    return mount_attach(child->bind_fds[op->index], target, err);
}

// ---- hooks ----------------------------------------------------------------------------------------------------------

#define STATE_MAX 65536

int op_hook(struct child *child, const struct op *op, struct err *err)
{
    const struct sandbox_config *config = child->plan->hooks;
    const struct config_hook *hook = op->how ? &config->start_container[op->index] : &config->create_container[op->index];
    char state[STATE_MAX];
    int size = snprintf(state, sizeof(state), "%s%s\",\"pid\":%d%s", config->state_head, op->how ? "created" : "creating",
                        (int)getpid(), config->state_tail);
    if (size < 0 || (size_t)size >= sizeof(state))
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "the state for hooks is larger than %d bytes", STATE_MAX);
    if (!op->how && fchdir(child->root_fd) < 0) // where runc has them
        return err_errno(err, errno, "fchdir");
    if (config_hook_run(hook, state, (size_t)size, err) < 0)
        return err_wrap(err, "error running %s hook #%zu", op->how ? "startContainer" : "createContainer", op->index);
    return 0;
}
