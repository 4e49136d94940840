#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "kernel/mount.h"
#include "base/fd.h"
#include "kernel/abi.h"

// The kernel explains a refusal in lines "e overlay: ..." read from the configuration descriptor; the last error counts.
static int fs_error(struct err *err, int context_fd, int number, const char *what)
{
    char line[256], text[256] = "";
    ssize_t size;
    while ((size = read(context_fd, line, sizeof(line) - 1)) > 0) {
        line[size] = '\0';
        if (line[0] != 'e' && text[0])
            continue;
        char *end = strchr(line, '\n');
        if (end)
            *end = '\0';
        snprintf(text, sizeof(text), "%s", size > 2 ? line + 2 : line);
    }
    if (text[0])
        return err_errno(err, number, "mount %s: %s", what, text);
    return err_errno(err, number, "mount %s", what);
}

static int set_option(int context_fd, const struct mount_option *option)
{
    if (option->value)
        return fsconfig(context_fd, FSCONFIG_SET_STRING, option->key, option->value, 0);
    if (option->fd > 0)
        return fsconfig(context_fd, FSCONFIG_SET_FD, option->key, NULL, option->fd);
    return fsconfig(context_fd, FSCONFIG_SET_FLAG, option->key, NULL, 0);
}

int mount_new(const char *fstype, const struct mount_option *options, size_t option_len, uint64_t attrs, struct err *err)
{
    _cleanup_close_ int context = fsopen(fstype, FSOPEN_CLOEXEC);
    if (context < 0)
        return err_errno(err, errno, "mount %s", fstype);
    if (option_len == 0 || !str_eq(options[0].key, "source"))
        fsconfig(context, FSCONFIG_SET_STRING, "source", fstype, 0); // what mount tables show; a name, nothing more
    for (size_t i = 0; i < option_len; i++) {
        if (set_option(context, &options[i]) < 0) {
            int number = errno;
            fs_error(err, context, number, fstype);
            return err_wrap(err, "option %s", options[i].key);
        }
    }
    if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return fs_error(err, context, errno, fstype);
    int fd = fsmount(context, FSMOUNT_CLOEXEC, (unsigned)attrs);
    return fd >= 0 ? fd : fs_error(err, context, errno, fstype);
}

int mount_clone(int fd, bool recursive, struct err *err)
{
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
    int clone = open_tree(fd, "", flags);
    return clone >= 0 ? clone : err_errno(err, errno, "clone mount");
}

int mount_attr(int fd, uint64_t set, uint64_t clear, uint64_t propagation, bool recursive, struct err *err)
{
    struct mount_attr attr = { .attr_set = set, .attr_clr = clear, .propagation = propagation };
    if (mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof(attr)) < 0)
        return err_errno(err, errno, "change mount attributes");
    return 0;
}

int mount_attach(int mount_fd, int target_fd, struct err *err)
{
    if (move_mount(mount_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return err_errno(err, errno, "attach mount");
    return 0;
}

static bool root_differs(void)
{
    struct statx before, after;
    _cleanup_close_ int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (own < 0 || statx(AT_FDCWD, "/", 0, STATX_INO | STATX_MNT_ID, &before) < 0 || setns(own, CLONE_NEWNS) < 0 ||
        statx(AT_FDCWD, "/", 0, STATX_INO | STATX_MNT_ID, &after) < 0)
        return false;
    return before.stx_mnt_id != after.stx_mnt_id || before.stx_ino != after.stx_ino;
}

// Who enters its own namespace anew gets the namespace's root: a child does.
bool mount_is_chrooted(void)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(root_differs());
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

// ---- overlay --------------------------------------------------------------------------------------------------------

#define LOWERDIR_MAX 256 // bytes that one fsconfig string holds, with its NUL

#define FD_PATH_SIZE 32

static void fd_path(int fd, char out[FD_PATH_SIZE])
{
    snprintf(out, FD_PATH_SIZE, "/proc/self/fd/%d", fd);
}

static int set_by_fd(int context, const char *key, int fd, struct err *err)
{
    return fsconfig(context, FSCONFIG_SET_FD, key, NULL, fd) < 0 ? fs_error(err, context, errno, "overlay") : 0;
}

static int set_by_path(int context, const char *key, int fd, struct err *err)
{
    char path[FD_PATH_SIZE];
    fd_path(fd, path);
    return fsconfig(context, FSCONFIG_SET_STRING, key, path, 0) < 0 ? fs_error(err, context, errno, "overlay") : 0;
}

// Numbers, relative to /proc/self/fd: some 60 layers fit, with whole paths it would be 14.
static int lowers_in_one_string(int context, const struct mount_overlay *overlay, struct err *err)
{
    char all[LOWERDIR_MAX];
    size_t used = 0;
    for (size_t i = 0; i < overlay->lower_len; i++) {
        int wrote = snprintf(all + used, sizeof(all) - used, "%s%d", i ? ":" : "", overlay->lower_fds[i]);
        if (wrote < 0 || (size_t)wrote >= sizeof(all) - used)
            return err_set(err, ERR_RESOURCE_EXHAUSTED,
                           "mount overlay: %zu layers do not fit into %d bytes of options (Linux 6.8 has no such limit)",
                           overlay->lower_len, LOWERDIR_MAX);
        used += (size_t)wrote;
    }
    if (fsconfig(context, FSCONFIG_SET_STRING, "lowerdir", all, 0) < 0)
        return fs_error(err, context, errno, "overlay");
    return 0;
}

static int set_lowers(int context, const struct mount_overlay *overlay, enum overlay_way way, struct err *err)
{
    if (way == OVERLAY_IN_ONE_STRING)
        return lowers_in_one_string(context, overlay, err);
    for (size_t i = 0; i < overlay->lower_len; i++)
        if ((way == OVERLAY_BY_FD ? set_by_fd : set_by_path)(context, "lowerdir+", overlay->lower_fds[i], err) < 0)
            return -1;
    return 0;
}

static int set_upper(int context, const struct mount_overlay *overlay, enum overlay_way way, struct err *err)
{
    int (*set)(int, const char *, int, struct err *) = way == OVERLAY_BY_FD ? set_by_fd : set_by_path;
    if (overlay->upper_fd < 0)
        return 0;
    if (set(context, "upperdir", overlay->upper_fd, err) < 0 || set(context, "workdir", overlay->work_fd, err) < 0)
        return -1;
    if (overlay->ephemeral && fsconfig(context, FSCONFIG_SET_FLAG, "volatile", NULL, 0) < 0)
        return fs_error(err, context, errno, "overlay");
    return 0;
}

static int overlay_finish(int context, struct err *err)
{
    fsconfig(context, FSCONFIG_SET_STRING, "source", "overlay", 0);
    if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return fs_error(err, context, errno, "overlay");
    int fd = fsmount(context, FSMOUNT_CLOEXEC, 0);
    return fd >= 0 ? fd : fs_error(err, context, errno, "overlay");
}

// Until 6.5 overlay takes every word that is a string and looks at none before the mount is made, when it is too late to
// try another way.
static bool takes_any_word(void)
{
    _cleanup_close_ int context = fsopen("overlay", FSOPEN_CLOEXEC);
    return context >= 0 && fsconfig(context, FSCONFIG_SET_STRING, "is_no_option", "x", 0) == 0;
}

// `unknown`: this kernel has no such way; nothing was mounted, and what was set stays in the context, which goes.
static int overlay_by(enum overlay_way way, const struct mount_overlay *overlay, bool *unknown, struct err *err)
{
    *unknown = way == OVERLAY_BY_PATH && takes_any_word();
    if (*unknown)
        return -1;
    _cleanup_close_ int context = fsopen("overlay", FSOPEN_CLOEXEC);
    if (context < 0)
        return err_errno(err, errno, "mount overlay");
    *unknown = set_lowers(context, overlay, way, err) < 0;
    if (*unknown)
        return -1;
    return set_upper(context, overlay, way, err) < 0 ? -1 : overlay_finish(context, err);
}

// The working directory is this thread's own meanwhile: others open files as before.
static int overlay_by_numbers(const struct mount_overlay *overlay, struct err *err)
{
    _cleanup_close_ int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int numbers = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool unknown;
    if (before < 0 || numbers < 0 || unshare(CLONE_FS) < 0 || fchdir(numbers) < 0)
        return err_errno(err, errno, "mount overlay: /proc/self/fd");
    _cleanup_close_ int fd = overlay_by(OVERLAY_IN_ONE_STRING, overlay, &unknown, err);
    if (fchdir(before) < 0)
        return err_errno(err, errno, "mount overlay: working directory");
    return fd < 0 ? -1 : take_fd(&fd);
}

int mount_overlay(const struct mount_overlay *overlay, enum overlay_way first, struct err *err)
{
    if (overlay->lower_len == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "mount overlay: no layer");
    for (enum overlay_way way = first; way < OVERLAY_IN_ONE_STRING; way++) {
        bool unknown;
        int fd = overlay_by(way, overlay, &unknown, err);
        if (fd >= 0 || !unknown)
            return fd;
    }
    return overlay_by_numbers(overlay, err);
}
