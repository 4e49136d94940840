#include "view.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "kernel/abi.h"
#include "kernel/caps.h"
#include "kernel/mount.h"
#include "kernel/path.h"

#define CAP_BIT(cap) (UINT64_C(1) << (cap))

static const uint64_t reading = CAP_BIT(CAP_DAC_READ_SEARCH);
static const uint64_t writing = CAP_BIT(CAP_CHOWN) | // files belong to whom the tar says
                                CAP_BIT(CAP_DAC_OVERRIDE) | // and folders may be closed to root's plain rights
                                CAP_BIT(CAP_FOWNER) | // modes and times of files given away
                                CAP_BIT(CAP_FSETID) | // set-id bits for foreign groups
                                CAP_BIT(CAP_MKNOD) | // devices
                                CAP_BIT(CAP_SETFCAP); // file capabilities

int view_add(struct view *view, int source_fd, char *target, bool read_only, struct err *err)
{
    view->mounts = mem_grow(view->mounts, (view->mount_len + 1) * sizeof(*view->mounts));
    struct view_mount *mount = &view->mounts[view->mount_len];
    *mount = (struct view_mount){ mount_clone(source_fd, true, err), target };
    if (mount->fd < 0 && err->number == EINVAL) // a mount that is attached nowhere can't be cloned before Linux 6.15, and is ours alone
        mount->fd = fd_dup(source_fd, err);
    view->mount_len++;
    if (mount->fd < 0)
        return err_wrap(err, "%s", target);
    return read_only ? mount_attr(mount->fd, MOUNT_ATTR_RDONLY, 0, 0, true, err) : 0;
}

// The old root ends up on top of the new one, where "." then names it.
static int change_root(int tree_fd, struct err *err)
{
    struct mount_attr private = { .propagation = MS_PRIVATE };
    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
        return err_errno(err, errno, "unshare");
    if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &private, sizeof(private)) < 0)
        return err_errno(err, errno, "mount_setattr");
    if (move_mount(tree_fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_errno(err, errno, "move_mount");
    if (fchdir(tree_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return err_errno(err, errno, "pivot_root");
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root < 0 ? err_errno(err, errno, "/") : root;
}

static int attach(int root_fd, const struct view_mount *mount, struct err *err)
{
    struct stat source, target;
    _cleanup_close_ int fd = path_open(root_fd, mount->target, false, NULL);
    if (fd < 0)
        return 0;
    if (fstat(fd, &target) < 0 || fstat(mount->fd, &source) < 0)
        return err_errno(err, errno, "%s", mount->target);
    if (S_ISDIR(source.st_mode) != S_ISDIR(target.st_mode))
        return 0;
    return mount_attach(mount->fd, fd, err) < 0 ? err_wrap(err, "%s", mount->target) : 0;
}

// Ids are the container's from here on; rights are over its files alone.
static int become_root(int users_fd, struct err *err)
{
    if (users_fd < 0)
        return 0;
    if (setns(users_fd, CLONE_NEWUSER) < 0 || setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        return err_errno(err, errno, "user namespace");
    return 0;
}

static int drop_rights(bool writes, struct err *err)
{
    const struct rlimit none = { 0, 0 };
    uint64_t kept = writes ? writing : reading;
    const struct caps_sets sets = { .effective = kept, .permitted = kept };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
        return err_errno(err, errno, "jail");
    return caps_drop_bounding(kept, err) < 0 ? -1 : caps_set(&sets, err);
}

int view_enter(struct view *view, bool writes, struct err *err)
{
    _cleanup_close_ int root = change_root(view->tree_fd, err);
    if (root < 0)
        return err_wrap(err, "jail");
    for (size_t i = 0; i < view->mount_len; i++)
        if (attach(root, &view->mounts[i], err) < 0)
            return -1;
    umask(0);
    return become_root(view->users_fd, err) < 0 || drop_rights(writes, err) < 0 ? err_wrap(err, "jail") : take_fd(&root);
}

void view_done(struct view *view)
{
    for (size_t i = 0; i < view->mount_len; i++) {
        fd_close(view->mounts[i].fd);
        free(view->mounts[i].target);
    }
    free(view->mounts);
    fd_close(view->tree_fd);
    fd_close(view->users_fd);
}
