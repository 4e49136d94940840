#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include "base/fd.h"
#include "kernel/abi.h"
#include "kernel/path.h"
#include "plan.h"

// The container's devpts: our own mount, or (exec) what stands at /dev/pts, checked to be one.
static int open_devpts(struct child *child, struct err *err)
{
    struct statfs fs;
    if (child->slots[SLOT_PTS] >= 0)
        return fd_dup(child->slots[SLOT_PTS], err);
    _cleanup_close_ int fd = path_open_plain(child->root_fd, "/dev/pts", err);
    if (fd < 0)
        return -1;
    if (fstatfs(fd, &fs) < 0 || fs.f_type != DEVPTS_SUPER_MAGIC)
        return err_set(err, ERR_PERMISSION_DENIED, "/dev/pts is not devpts");
    return take_fd(&fd);
}

static int open_pty(struct child *child, int *slave, struct err *err)
{
    _cleanup_close_ int pts = open_devpts(child, err);
    if (pts < 0)
        return -1;
    struct open_how how = { .flags = O_RDWR | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS };
    _cleanup_close_ int master = (int)syscall(SYS_openat2, pts, "ptmx", &how, sizeof(how));
    struct stat st;
    if (master < 0 || fstat(master, &st) < 0)
        return err_errno(err, errno, "ptmx");
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2))
        return err_set(err, ERR_PERMISSION_DENIED, "ptmx is not a terminal multiplexer");
    int locked = 0;
    if (ioctl(master, TIOCSPTLCK, &locked) < 0)
        return err_errno(err, errno, "unlock pty");
    // The slave by descriptor, not by a path that could name something else.
    *slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return *slave >= 0 ? take_fd(&master) : err_errno(err, errno, "open pty slave");
}

static int bind_console(struct child *child, struct err *err)
{
    _cleanup_close_ int made =
        openat(child->slots[SLOT_DEV], "console", O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR | O_CLOEXEC, 0620);
    if (made < 0 && errno != EEXIST) // a rootfs that brings its own /dev may have one
        return err_errno(err, errno, "create console");
    _cleanup_close_ int target = openat(child->slots[SLOT_DEV], "console", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (target < 0 || fstat(target, &st) < 0)
        return err_errno(err, errno, "open console");
    if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
        return err_set(err, ERR_PERMISSION_DENIED, "console is neither file nor device");
    _cleanup_close_ int clone = mount_clone(child->slave_fd, false, err);
    return clone < 0 ? -1 : mount_attach(clone, target, err);
}

int op_terminal(struct child *child, const struct op *op, struct err *err)
{
    const struct sandbox_plan *plan = child->plan;
    _cleanup_close_ int master = open_pty(child, &child->slave_fd, err);
    if (master < 0)
        return -1;
    struct winsize size = { .ws_row = plan->rows, .ws_col = plan->columns };
    if ((size.ws_row || size.ws_col) && ioctl(master, TIOCSWINSZ, &size) < 0)
        return err_errno(err, errno, "set size");
    if ((op->how & OP_CONSOLE) && bind_console(child, err) < 0)
        return -1;
    return child_send(child, MESSAGE_MASTER, NULL, master) == 0 ? 0 : err_set(err, ERR_INTERNAL, "hand over the master");
}

// So that a user other than root can open /dev/stdout (a pipe, a terminal) anew. /dev/null stays root's.
static void own_stdio(const struct child *child)
{
    for (int fd = 0; fd <= 2; fd++) {
        struct stat st;
        bool ours = fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || (S_ISCHR(st.st_mode) && isatty(fd)));
        if (ours && st.st_uid != child->user.uid && fchown(fd, child->user.uid, (gid_t)-1) < 0)
            continue; // a pipe of another user namespace or a read-only one: it works as it is
    }
}

static bool is_null(int dir, const char *path, int flags)
{
    struct stat st;
    return fstatat(dir, path, &st, flags) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

// A stream that is the host's /dev/null becomes the container's: what has a file open on a mount that its namespace lacks can't
// be checkpointed, and the host's node is none of its business.
static void own_null(const struct child *child)
{
    int dev = child->slots[SLOT_DEV];
    if (dev < 0 || !is_null(dev, "null", AT_SYMLINK_NOFOLLOW))
        return;
    _cleanup_close_ int null = openat(dev, "null", O_RDWR | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
    for (int fd = 0; fd <= 2 && null >= 0; fd++)
        if (is_null(fd, "", AT_EMPTY_PATH) && dup2(null, fd) < 0)
            return;
}

int op_stdio(struct child *child, const struct op *op, struct err *err)
{
    const struct sandbox_stdio *stdio = child->stdio;
    int source[3] = { stdio->in, stdio->out, stdio->error };
    for (int i = 0; i < 3; i++) {
        // First all away from 0..2, so that none is overwritten before it was placed.
        source[i] = fcntl(child->slave_fd >= 0 ? child->slave_fd : source[i], F_DUPFD_CLOEXEC, 3);
        if (source[i] < 0)
            return err_errno(err, errno, "stream %d", i);
    }
    for (int i = 0; i < 3; i++)
        if (dup2(source[i], i) < 0)
            return err_errno(err, errno, "stream %d", i);
    own_null(child);
    own_stdio(child);
    return 0;
}

int op_session(struct child *child, const struct op *op, struct err *err)
{
    if (setsid() < 0 && errno != EPERM)
        return err_errno(err, errno, "setsid");
    if (child->slave_fd >= 0 && ioctl(0, TIOCSCTTY, 0) < 0)
        return err_errno(err, errno, "controlling terminal");
    return 0;
}
