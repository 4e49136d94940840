// Theory of operation: three fences, one inside the other, so that a hole in a decompressor or in the tar reader gains
// little.
// - The staging folder becomes a mount of its own (detached, nodev nosuid noexec) and the root of this process: a device
//   node that a hostile archive brings can be made there, but never opened.
// - Landlock allows nothing but that folder, no connection, no signal to others.
// - Of all capabilities only those stay that placing foreign files needs. None of them opens a door in the fences above
//   (CAP_SYS_CHROOT and CAP_DAC_READ_SEARCH would).
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "transfer/transfer.h"
#include "base/fd.h"
#include "base/num.h"
#include "kernel/caps.h"
#include "kernel/mount.h"

#define CAP_BIT(cap) (UINT64_C(1) << (cap))

static const uint64_t kept_capabilities =
    CAP_BIT(CAP_CHOWN) | // files belong to whom the archive says
    CAP_BIT(CAP_DAC_OVERRIDE) | // and folders may be closed to root's plain rights
    CAP_BIT(CAP_FOWNER) | // modes and times of files given away
    CAP_BIT(CAP_FSETID) | // set-id bits for foreign groups
    CAP_BIT(CAP_MKNOD) | // devices
    CAP_BIT(CAP_SETFCAP); // file capabilities

// ---- Landlock: constants beyond the headers we build against -------------------------------------------------------

#define FS_ABI1 ((UINT64_C(1) << 13) - 1) // EXECUTE (0) ... MAKE_SYM (12)
#define FS_REFER (UINT64_C(1) << 13) // ABI 2
#define FS_TRUNCATE (UINT64_C(1) << 14) // ABI 3
#define FS_IOCTL_DEV (UINT64_C(1) << 15) // ABI 5
#define NET_BIND (UINT64_C(1)) // ABI 4
#define NET_TCP (UINT64_C(3)) // and connect
#define SCOPED_ALL (UINT64_C(3)) // ABI 6: abstract unix sockets, signals

struct ruleset {
    uint64_t fs, net, scoped;
};

static struct ruleset handled_by(int abi)
{
    struct ruleset rules = { .fs = FS_ABI1 | FS_REFER };
    if (abi >= 3)
        rules.fs |= FS_TRUNCATE;
    if (abi >= 4)
        rules.net = NET_TCP;
    if (abi >= 5)
        rules.fs |= FS_IOCTL_DEV;
    if (abi >= 6)
        rules.scoped = SCOPED_ALL;
    return rules;
}

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_STAGING (~(uint64_t)(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_SOCK | FS_IOCTL_DEV))

// 1 when the fence stands, 0 when this kernel has none that fits. Below `folder_fd` what `allowed` says is possible, elsewhere
// nothing; `net`: of TCP what is forbidden.
static int enter_landlock(int folder_fd, uint64_t allowed, uint64_t net, struct err *err)
{
    int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    // ABI 1 forbids every hard link and rename from one folder to another, which archives need.
    if (abi < 2)
        return 0;
    // The kernel takes a longer structure than it knows as long as the rest is zero.
    struct ruleset rules = handled_by(abi);
    rules.net &= net;
    _cleanup_close_ int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
    if (fd < 0)
        return err_errno(err, errno, "landlock ruleset");
    struct landlock_path_beneath_attr staging = {
        .allowed_access = rules.fs & allowed,
        .parent_fd = folder_fd,
    };
    if (syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &staging, 0) < 0)
        return err_errno(err, errno, "landlock rule");
    return syscall(SYS_landlock_restrict_self, fd, 0) < 0 ? err_errno(err, errno, "landlock") : 1;
}

// ---- the folder -----------------------------------------------------------------------------------------------------

// Puts a mount of the same folder, without devices, set-id and programs, behind the same descriptor. Where the folder's
// mount cannot be copied (a user namespace over locked mounts) the other fences stand alone.
static int detach_staging(int staging_fd, struct err *err)
{
    struct mount_attr attributes = { .attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC };
    _cleanup_close_ int tree = (int)syscall(SYS_open_tree, staging_fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE |
                                            OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return 0;
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) < 0)
        return err_errno(err, errno, "staging folder: mount attributes");
    return dup3(tree, staging_fd, O_CLOEXEC) < 0 ? err_errno(err, errno, "staging folder") : 0;
}

static int enter_root(int staging_fd, struct err *err)
{
    if (fchdir(staging_fd) < 0)
        return err_errno(err, errno, "staging folder");
    return chroot(".") < 0 ? err_errno(err, errno, "staging folder: chroot") : 0;
}

static int drop_capabilities(struct err *err)
{
    const struct caps_sets sets = { .effective = kept_capabilities, .permitted = kept_capabilities };
    if (caps_drop_bounding(kept_capabilities, err) < 0)
        return -1;
    return caps_set(&sets, err);
}

int transfer_jail(int staging_fd, struct err *err)
{
    const struct rlimit none = { 0, 0 };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
        setrlimit(RLIMIT_CORE, &none) < 0)
        return err_errno(err, errno, "jail");
    // Standard streams and the staging folder stay; what a careless parent left open goes.
    if ((staging_fd > 3 && close_range(3, (unsigned int)staging_fd - 1, 0) < 0) ||
        close_range((unsigned int)staging_fd + 1, ~0U, 0) < 0)
        return err_errno(err, errno, "jail: close_range");
    umask(022); // parents that an archive does not name are 0755
    if (unshare(CLONE_NEWNET) < 0)
        return err_errno(err, errno, "jail: network namespace");
    if (detach_staging(staging_fd, err) < 0 || enter_root(staging_fd, err) < 0 || enter_landlock(staging_fd, FS_STAGING, NET_TCP, err) < 0 ||
        drop_capabilities(err) < 0)
        return err_wrap(err, "jail");
    return 0;
}

// ---- the half that speaks to registries -----------------------------------------------------------------------------

#define UID_BASE 0x43000000u // no user of this machine, nor of its containers
#define UID_MASK 0x00ffffffu

// In a user namespace no such id is mapped: it stays that namespace's root without any of its rights, now or by exec.
static int leave_rights(struct err *err)
{
    const struct caps_sets none = { 0 };
    return caps_drop_bounding(0, err) < 0 ? -1 : caps_set(&none, err);
}

// A user id that no other process has keeps others from looking into this one, and it has no file.
static uid_t own_uid(void)
{
    uint32_t draw;
    random_bytes(&draw, sizeof(draw));
    return UID_BASE + (draw & UID_MASK);
}

static int leave_root(uid_t own, struct err *err)
{
    if (geteuid() != 0)
        return 0;
    if (mount_in_user_namespace())
        return leave_rights(err);
    if (setgroups(0, NULL) < 0 || setresgid(own, own, own) < 0 || setresuid(own, own, own) < 0)
        return err_errno(err, errno, "jail: user id");
    return 0;
}

// Names are resolved, so /etc and the name services' libraries are read: all that everybody may read stays readable.
int transfer_jail_network(struct err *err)
{
    const struct rlimit none = { 0, 0 };
    _cleanup_close_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
        return err_errno(err, errno, "jail");
    if (leave_root(own_uid(), err) < 0 || enter_landlock(root, FS_READ, NET_BIND, err) < 0)
        return err_wrap(err, "jail");
    // After the change of user, which clears the one and would clear the other.
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return err_errno(err, errno, "jail");
    return 0;
}

// ---- programs that fetch ----------------------------------------------------------------------------------------------

// The whole file system as it is, but read-only, with the folder at /tmp.
static int enter_read_only(int folder_fd, struct err *err)
{
    const struct mount_attr folder = { .attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID }, all = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID };
    struct mount_attr private = { .propagation = MS_PRIVATE };
    _cleanup_close_ int tree = mount_clone(folder_fd, false, err), target = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (tree < 0)
        return -1;
    if (target < 0 || syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &folder, sizeof(folder)) < 0 || unshare(CLONE_NEWNS | CLONE_NEWPID) < 0 ||
        syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &private, sizeof(private)) < 0 ||
        syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &all, sizeof(all)) < 0 ||
        syscall(SYS_move_mount, tree, "", AT_FDCWD, "/tmp", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_errno(err, errno, "jail: mounts");
    return chdir("/tmp") < 0 ? err_errno(err, errno, "jail: /tmp") : 0;
}

// ssh runs for no user whom nobody knows.
static int add_user(uid_t own, struct err *err)
{
    char line[64];
    int size = snprintf(line, sizeof(line), "berth:x:%u:%u::/tmp:/bin/sh\n", own, own);
    _cleanup_close_ int target = open("/etc/passwd", O_PATH | O_CLOEXEC), fd = open("passwd", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (target < 0 || fd < 0)
        return err_errno(err, errno, "jail: user");
    if (fd_write_full(fd, line, (size_t)size, err) < 0)
        return -1;
    _cleanup_close_ int mounted = mount_clone(fd, false, err);
    if (mounted < 0 || mount_attach(mounted, target, err) < 0)
        return -1;
    return unlink("passwd") < 0 ? err_errno(err, errno, "jail: user") : 0;
}

int transfer_jail_programs(int folder_fd, struct err *err)
{
    const struct rlimit none = { 0, 0 };
    uid_t own = own_uid();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
        return err_errno(err, errno, "jail");
    struct stat info;
    if (fstat(folder_fd, &info) < 0 || !S_ISDIR(info.st_mode))
        return err_set(err, ERR_INTERNAL, "jail: no folder to work in");
    bool gives = geteuid() == 0 && !mount_in_user_namespace();
    if (gives && fchownat(folder_fd, "", own, own, AT_EMPTY_PATH) < 0)
        return err_errno(err, errno, "jail: folder");
    umask(022);
    if (enter_read_only(folder_fd, err) < 0 || (gives && add_user(own, err) < 0) || leave_root(own, err) < 0)
        return err_wrap(err, "jail");
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ? err_errno(err, errno, "jail") : 0;
}
