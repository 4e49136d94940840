// The order is forced: namespaces need capabilities, the root folder needs its namespace, the change of ids needs capabilities
// too, so these go last. What the parent's rights opened stays open.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/fd.h"
#include "kernel/abi.h"
#include "kernel/caps.h"
#include "kernel/mount.h"
#include "vmm/jail.h"

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

// Never raised: a lower hard limit stays.
static const struct {
    __rlimit_resource_t resource;
    rlim_t most;
} limits[] = {
    { RLIMIT_CORE, 0 }, // the guest's memory goes to no file
    { RLIMIT_NOFILE, 1024 }, // a guest's connections are bounded before that
    { RLIMIT_MSGQUEUE, 0 },
    { RLIMIT_MEMLOCK, 0 },
};

int jail_prepare(struct err *err)
{
    if (unshare(CLONE_NEWPID | (geteuid() ? CLONE_NEWUSER : 0)) < 0)
        return err_errno(err, errno, "jail: process namespace");
    return 0;
}

static int close_others(const struct jail *jail, struct err *err)
{
    unsigned first = 3;
    for (size_t i = 0; i <= jail->keep_len; i++) {
        unsigned next = i < jail->keep_len ? (unsigned)jail->keep[i] : UINT32_MAX;
        if (next > first && close_range(first, i < jail->keep_len ? next - 1 : next, 0) < 0)
            return err_errno(err, errno, "close descriptors");
        first = MAX_OF(first, next + 1);
    }
    return 0;
}

// An empty, read-only folder takes the root's place; the old one goes.
static int enter_empty_root(struct err *err)
{
    const struct mount_option options[] = { { .key = "size", .value = "4k" }, { .key = "mode", .value = "0555" },
                                            { .key = "nr_inodes", .value = "1" } };
    struct mount_attr private = { .propagation = MS_PRIVATE };
    _cleanup_close_ int root = mount_new("tmpfs", options, ARRAY_LEN(options),
                                         MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, err);
    if (root < 0)
        return -1;
    if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &private, sizeof(private)) < 0)
        return err_errno(err, errno, "mount_setattr");
    if (move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(root) < 0)
        return err_errno(err, errno, "root folder");
    // The old root ends up on top of the new one, where "." then names it.
    if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return err_errno(err, errno, "pivot_root");
    return 0;
}

static int set_limits(struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct rlimit limit;
        if (getrlimit(limits[i].resource, &limit) < 0)
            return err_errno(err, errno, "resource limit");
        limit.rlim_max = MIN_OF(limit.rlim_max, limits[i].most);
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(limits[i].resource, &limit) < 0)
            return err_errno(err, errno, "resource limit");
    }
    return 0;
}

static int change_ids(const struct jail *jail, struct err *err)
{
    if (setgroups(0, NULL) < 0 || setresgid(jail->gid, jail->gid, jail->gid) < 0 ||
        setresuid(jail->uid, jail->uid, jail->uid) < 0)
        return err_errno(err, errno, "user %u", jail->uid);
    return 0;
}

static int drop_rights(struct err *err)
{
    const struct caps_sets none = { 0 };
    if (caps_set(&none, err) < 0)
        return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_errno(err, errno, "no new privileges");
    return 0;
}

static int enter(const struct jail *jail, struct err *err)
{
    bool root = geteuid() == 0;
    if (close_others(jail, err) < 0)
        return -1;
    if (unshare(NAMESPACES) < 0)
        return err_errno(err, errno, "namespaces");
    if (enter_empty_root(err) < 0 || set_limits(err) < 0 || caps_drop_bounding(0, err) < 0)
        return -1;
    if (root && change_ids(jail, err) < 0)
        return -1;
    return drop_rights(err);
}

int jail_enter(const struct jail *jail, struct err *err)
{
    return enter(jail, err) < 0 ? err_wrap(err, "jail") : 0;
}

int jail_thread(void *context, enum machine_thread thread, struct err *err)
{
    struct filter_program program;
    return jail_filter(thread, &program, err) < 0 ? -1 : filter_load(&program, err);
}
