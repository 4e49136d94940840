// Theory of operation: the child is alone in a copy of the host's mount namespace. It puts the detached rootfs on top of
// "/", makes it the root with pivot_root and drops the old one, and only then turns to paths: from there on every
// path is one of the container, and a resolver that erred could still reach nothing else. Targets are descriptors
// (kernel/path.h) that a detached mount is attached to.
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "kernel/abi.h"
#include "kernel/path.h"
#include "plan.h"

#define OPTIONS_MAX 16

int op_slave(struct child *child, const struct op *op, struct err *err)
{
    // "/" as a path: AT_FDCWD may be anywhere below a mount that would then be the only one changed.
    struct mount_attr attr = { .propagation = MS_SLAVE };
    if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &attr, sizeof(attr)) < 0)
        return err_errno(err, errno, "mount_setattr");
    return 0;
}

int op_root(struct child *child, const struct op *op, struct err *err)
{
    if (move_mount(child->rootfs_fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_errno(err, errno, "move_mount");
    return fchdir(child->rootfs_fd) < 0 ? err_errno(err, errno, "fchdir") : child_enter_root(child, op, err);
}

int child_enter_root(struct child *child, const struct op *op, struct err *err)
{
    if (op->how & OP_NO_PIVOT) {
        if (chroot(".") < 0)
            return err_errno(err, errno, "chroot");
    } else if (syscall(SYS_pivot_root, ".", ".") < 0) {
        return err_errno(err, errno, "pivot_root");
    } else if (umount2(".", MNT_DETACH) < 0) { // the old root is on top of the new one now, where "." names it
        return err_errno(err, errno, "umount old root");
    }
    return chdir("/") < 0 ? err_errno(err, errno, "chdir") : op_open_root(child, op, err);
}

int op_open_root(struct child *child, const struct op *op, struct err *err)
{
    child->root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return child->root_fd >= 0 ? 0 : err_errno(err, errno, "/");
}

// The target of a file system that every container gets: a real folder, no link on the way.
int child_system_target(struct child *child, const char *path, struct err *err)
{
    int fd = path_open_plain(child->root_fd, path, err);
    if (fd < 0 && err->number == ELOOP)
        return err_set(err, ERR_PERMISSION_DENIED, "must be mounted on ordinary directory, not on a link");
    if (fd >= 0 || err->number != ENOENT)
        return fd;
    err_clear(err);
    if (path_make_last(child->root_fd, path, 0755))
        return path_open_plain(child->root_fd, path, err);
    _cleanup_close_ int made = path_make_dir(child->root_fd, path, 0755, err);
    return made < 0 ? -1 : path_open_plain(child->root_fd, path, err);
}

int op_new_mount(struct child *child, const struct op *op, struct err *err)
{
    child->slots[op->slot] = mount_new(op->text, op->options, op->option_len, op->flags, err);
    return child->slots[op->slot] < 0 ? -1 : 0;
}

int op_mount(struct child *child, const struct op *op, struct err *err)
{
    _cleanup_close_ int target = child_system_target(child, op->path, err);
    if (target < 0)
        return -1;
    if (op->slot != SLOT_NONE && child->slots[op->slot] >= 0)
        return mount_attach(child->slots[op->slot], target, err);
    _cleanup_close_ int mount = mount_new(op->text, op->options, op->option_len, op->flags, err);
    if (mount < 0 || mount_attach(mount, target, err) < 0)
        return -1;
    if (op->slot != SLOT_NONE)
        child->slots[op->slot] = take_fd(&mount);
    return 0;
}

// A target that a user chose: neither the root nor anything of procfs, wherever links may have led.
int child_check_target(struct child *child, const struct op *op, int target, struct err *err)
{
    struct statfs fs;
    struct stat st, root;
    if (fstatfs(target, &fs) < 0 || fstat(target, &st) < 0 || fstat(child->root_fd, &root) < 0)
        return err_errno(err, errno, "stat");
    if (st.st_dev == root.st_dev && st.st_ino == root.st_ino && !(op->how & OP_ON_ROOT))
        return err_set(err, ERR_INVALID_ARGUMENT, "is the root");
    if (fs.f_type == PROC_SUPER_MAGIC && !(op->how & OP_ON_PROC))
        return err_set(err, ERR_PERMISSION_DENIED, "cannot be mounted because it is inside /proc");
    return 0;
}

// As runc: a folder that was there hands its mode (not its owner, not its files) to the root of the tmpfs; where none was,
// the kernel's own default stands, 1777.
int op_tmpfs(struct child *child, const struct op *op, struct err *err)
{
    struct mount_option options[OPTIONS_MAX];
    size_t len = 0;
    char mode[16];
    struct stat st;
    _cleanup_close_ int target = path_open(child->root_fd, op->path, false, err);
    if (target >= 0 && fstat(target, &st) == 0) {
        snprintf(mode, sizeof(mode), "%o", st.st_mode & 07777);
        options[len++] = (struct mount_option){ .key = "mode", .value = mode };
    } else if (err->number == ENOENT) {
        err_clear(err);
        target = path_make_dir(child->root_fd, op->path, 0755, err);
    }
    if (target < 0 || child_check_target(child, op, target, err) < 0)
        return -1;
    for (size_t i = 0; i < op->option_len; i++) // later ones win
        options[len++] = op->options[i];
    _cleanup_close_ int mount = mount_new("tmpfs", options, len, op->flags & ~(uint64_t)MOUNT_ATTR_RDONLY, err);
    return mount < 0 ? -1 : mount_attach(mount, target, err);
}

int op_tmpfs_read_only(struct child *child, const struct op *op, struct err *err)
{
    _cleanup_close_ int root = path_open(child->root_fd, op->path, false, err);
    return root < 0 ? -1 : mount_attr(root, MOUNT_ATTR_RDONLY, 0, 0, false, err);
}

static int bind_target(struct child *child, const struct op *op, struct err *err)
{
    if (op->how & OP_ON_PROC)
        return path_open_plain(child->root_fd, op->path, err);
    return op->how & OP_IS_DIR ? path_make_dir(child->root_fd, op->path, 0755, err)
                               : path_make_file(child->root_fd, op->path, 0755, err);
}

// From now on "/" is what was mounted there: paths are looked up in it and it is what the child moves into.
int child_replace_root(struct child *child, const struct op *op, int mount, struct err *err)
{
    if (!(op->how & OP_ON_ROOT))
        return 0;
    fd_close(child->root_fd);
    child->root_fd = fcntl(mount, F_DUPFD_CLOEXEC, 3);
    return child->root_fd >= 0 ? 0 : err_errno(err, errno, "dup");
}

int op_bind(struct child *child, const struct op *op, struct err *err)
{
    _cleanup_close_ int target = bind_target(child, op, err);
    if (target < 0 || child_check_target(child, op, target, err) < 0)
        return -1;
    struct stat st;
    if (fstat(target, &st) == 0 && S_ISDIR(st.st_mode) != !!(op->how & OP_IS_DIR))
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "not a directory: are you trying to mount a directory onto a file (or vice-versa)? Check if the "
                       "specified host path exists and is the expected type");
    child->last_mount = child->bind_fds[op->index];
    if (mount_attach(child->last_mount, target, err) < 0)
        return -1;
    return child_replace_root(child, op, child->last_mount, err);
}

int child_slot_fd(const struct child *child, const struct op *op)
{
    return op->slot == SLOT_NONE ? child->root_fd : child->slots[op->slot];
}

int op_dir(struct child *child, const struct op *op, struct err *err)
{
    return mkdirat(child_slot_fd(child, op), op->path, op->mode) == 0 ? 0 : err_errno(err, errno, "mkdir");
}

int op_link(struct child *child, const struct op *op, struct err *err)
{
    if (symlinkat(op->text, child_slot_fd(child, op), op->path) == 0 || (errno == EEXIST && (op->how & OP_IF_MISSING)))
        return 0;
    return err_errno(err, errno, "symlink");
}

// /dev/null of our own making is what masks are made of: kept by descriptor, so that nobody can put another in its place.
static int keep_null(struct child *child, const struct op *op, struct err *err)
{
    struct stat st;
    child->null_fd = openat(child->slots[SLOT_DEV], "null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (child->null_fd < 0 || fstat(child->null_fd, &st) < 0)
        return err_errno(err, errno, "null");
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
        return err_set(err, ERR_INTERNAL, "null is not the device it should be");
    return 0;
}

int op_node(struct child *child, const struct op *op, struct err *err)
{
    if (path_make_node(child_slot_fd(child, op), op->path, op->mode, op->device, op->uid, op->gid, err) < 0)
        return -1;
    return op->slot == SLOT_DEV && str_eq(op->path, "null") ? keep_null(child, op, err) : 0;
}

// The name in our own file system is not followed should somebody in a joined mount namespace have put a link there.
int op_cgroup(struct child *child, const struct op *op, struct err *err)
{
    int folder = child->slots[op->slot];
    if (mkdirat(folder, op->path, 0755) < 0)
        return err_errno(err, errno, "mkdir");
    if (move_mount(child->bind_fds[op->index], "", folder, op->path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_errno(err, errno, "move_mount");
    return 0;
}

int op_seal(struct child *child, const struct op *op, struct err *err)
{
    return mount_attr(child->slots[op->slot], op->flags, op->clear, MS_PRIVATE, true, err);
}

// No link, no other mount.
int child_open_proc(struct child *child, const char *path, struct err *err)
{
    struct open_how how = { .flags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS };
    _cleanup_close_ int fd = (int)syscall(SYS_openat2, child->slots[SLOT_PROC], path, &how, sizeof(how));
    struct statfs fs;
    if (fd < 0)
        return err_errno(err, errno, "open");
    if (fstatfs(fd, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
        return err_set(err, ERR_PERMISSION_DENIED, "is not procfs");
    return take_fd(&fd);
}

int op_sysctl(struct child *child, const struct op *op, struct err *err)
{
    char path[256];
    snprintf(path, sizeof(path), "sys/%s", op->path);
    _cleanup_close_ int fd = child_open_proc(child, path, err);
    return fd < 0 ? -1 : fd_write_full(fd, op->text, strlen(op->text), err);
}

int op_oom_score(struct child *child, const struct op *op, struct err *err)
{
    char path[64];
    snprintf(path, sizeof(path), "%d/oom_score_adj", (int)getpid());
    _cleanup_close_ int fd = child_open_proc(child, path, err);
    if (fd < 0)
        return -1;
    // Lowering it takes CAP_SYS_RESOURCE: without that right the container runs with what it has.
    if (write(fd, op->text, strlen(op->text)) < 0 && errno != EACCES)
        return err_errno(err, errno, "write");
    return 0;
}

int op_read_only_path(struct child *child, const struct op *op, struct err *err)
{
    _cleanup_close_ int target = path_open(child->root_fd, op->path, false, err);
    if (target < 0)
        return err->number == ENOENT || err->number == ENOTDIR ? (err_clear(err), 0) : -1;
    _cleanup_close_ int clone = mount_clone(target, true, err);
    if (clone < 0 || mount_attr(clone, MOUNT_ATTR_RDONLY, 0, 0, true, err) < 0)
        return -1;
    return mount_attach(clone, target, err);
}

// One empty read-only tmpfs serves all masked folders: its first attachment is what the others are cloned from.
static int mask_dir(struct child *child, int target, struct err *err)
{
    if (child->mask_fd >= 0) {
        _cleanup_close_ int clone = mount_clone(child->mask_fd, false, err);
        return clone < 0 ? -1 : mount_attach(clone, target, err);
    }
    static const struct mount_option options[] = { { .key = "mode", .value = "755" }, { .key = "nr_inodes", .value = "1" } };
    child->mask_fd = mount_new("tmpfs", options, ARRAY_LEN(options),
                               MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err);
    return child->mask_fd < 0 ? -1 : mount_attach(child->mask_fd, target, err);
}

// A container that brought its own /dev: whatever stands there must be the device, or nothing is masked with it.
static int find_null(struct child *child, struct err *err)
{
    struct stat st;
    child->null_fd = path_open(child->root_fd, "/dev/null", true, err);
    if (child->null_fd < 0 || fstat(child->null_fd, &st) < 0)
        return -1;
    return S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3) ? 0 : err_set(err, ERR_PERMISSION_DENIED, "/dev/null is another file");
}

int op_mask(struct child *child, const struct op *op, struct err *err)
{
    _cleanup_close_ int target = path_open(child->root_fd, op->path, false, err);
    if (target < 0)
        return err->number == ENOENT || err->number == ENOTDIR ? (err_clear(err), 0) : -1;
    struct stat st;
    if (fstat(target, &st) < 0)
        return err_errno(err, errno, "stat");
    if (S_ISDIR(st.st_mode))
        return mask_dir(child, target, err);
    if (child->null_fd < 0 && find_null(child, err) < 0)
        return -1;
    _cleanup_close_ int clone = mount_clone(child->null_fd, false, err);
    return clone < 0 ? -1 : mount_attach(clone, target, err);
}

int op_propagation(struct child *child, const struct op *op, struct err *err)
{
    return mount_attr(child->root_fd, 0, 0, op->flags, op->how != 0, err);
}

int op_root_read_only(struct child *child, const struct op *op, struct err *err)
{
    return mount_attr(child->root_fd, MOUNT_ATTR_RDONLY, 0, 0, false, err);
}
