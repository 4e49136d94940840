#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "kernel/mount.h"
#include "base/fd.h"
#include "kernel/abi.h"
#include "kernel/users.h"

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

int mount_map_ids(int fd, int users_fd, bool recursive, struct err *err)
{
    struct mount_attr map = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)users_fd };
    if (mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &map, sizeof(map)) < 0)
        return err_errno(err, errno, "set id map of mount");
    return 0;
}

int mount_clone_mapped(int fd, int users_fd, struct err *err)
{
    _cleanup_close_ int clone = mount_clone(fd, false, err);
    if (clone < 0 || (users_fd >= 0 && mount_map_ids(clone, users_fd, false, err) < 0))
        return -1;
    return take_fd(&clone);
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

static int set_by_fd(int context, const char *key, int fd)
{
    return fsconfig(context, FSCONFIG_SET_FD, key, NULL, fd);
}

// 6.13: layers by descriptor. Which error says "not known": EINVAL with "Unknown parameter" or "fsconfig(...)".
static int overlay_by_fd(int context, const struct mount_overlay *overlay, size_t from)
{
    for (size_t i = from; i < overlay->lower_len; i++)
        if (set_by_fd(context, "lowerdir+", overlay->lower_fds[i]) < 0)
            return -1;
    if (overlay->upper_fd < 0)
        return 0;
    return set_by_fd(context, "upperdir", overlay->upper_fd) < 0 || set_by_fd(context, "workdir", overlay->work_fd) < 0 ? -1 : 0;
}

static int set_by_path(int context, const char *key, int fd)
{
    char path[FD_PATH_SIZE];
    fd_path(fd, path);
    return fsconfig(context, FSCONFIG_SET_STRING, key, path, 0);
}

static int set_upper_by_path(int context, const struct mount_overlay *overlay, struct err *err)
{
    if (overlay->upper_fd >= 0 && (set_by_path(context, "upperdir", overlay->upper_fd) < 0 ||
                                   set_by_path(context, "workdir", overlay->work_fd) < 0))
        return fs_error(err, context, errno, "overlay");
    return 0;
}

static int overlay_by_path(int context, const struct mount_overlay *overlay, struct err *err)
{
    for (size_t i = 0; i < overlay->lower_len; i++)
        if (set_by_path(context, "lowerdir+", overlay->lower_fds[i]) < 0)
            return fs_error(err, context, errno, "overlay");
    return set_upper_by_path(context, overlay, err);
}

// Before 6.8 all layers stand in one option, and that in one string: so by their shortest names, as seen from /proc/self/fd.
static int overlay_in_one_string(int context, const struct mount_overlay *overlay, struct err *err)
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
    return set_upper_by_path(context, overlay, err);
}

bool mount_in_user_namespace(void)
{
    const ino_t first = 0xEFFFFFFD; // PROC_USER_INIT_INO of the kernel's proc_ns.h: it is fixed
    struct stat st;
    return stat("/proc/self/ns/user", &st) == 0 && st.st_ino != first;
}

static int overlay_finish(int context, const struct mount_overlay *overlay, struct err *err)
{
    fsconfig(context, FSCONFIG_SET_STRING, "source", "overlay", 0);
    if (overlay->ephemeral && overlay->upper_fd >= 0 &&
        fsconfig(context, FSCONFIG_SET_FLAG, "volatile", NULL, 0) < 0)
        return fs_error(err, context, errno, "overlay");
    if (mount_in_user_namespace() && fsconfig(context, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0)
        return fs_error(err, context, errno, "overlay");
    if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return fs_error(err, context, errno, "overlay");
    int fd = fsmount(context, FSMOUNT_CLOEXEC, 0);
    return fd >= 0 ? fd : fs_error(err, context, errno, "overlay");
}

// Which way a kernel goes that took no layer by descriptor. Before 6.5 a context takes any option and only the mount fails.
static enum mount_overlay_way probe_overlay(const struct mount_overlay *overlay, int context)
{
    bool takes_anything = fsconfig(context, FSCONFIG_SET_FLAG, "no-such-option", NULL, 0) == 0;
    return !takes_anything && set_by_path(context, "lowerdir+", overlay->lower_fds[0]) == 0 ? MOUNT_OVERLAY_BY_PATH
                                                                                           : MOUNT_OVERLAY_ONE_STRING;
}

static int overlay_from_fds_folder(int context, const struct mount_overlay *overlay, struct err *err)
{
    _cleanup_close_ int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (unshare(CLONE_FS) < 0 || chdir("/proc/self/fd") < 0) // this thread's current folder alone
        return err_errno(err, errno, "mount overlay: /proc/self/fd");
    _cleanup_close_ int fd = overlay_in_one_string(context, overlay, err) < 0 ? -1 : overlay_finish(context, overlay, err);
    if (before < 0 || fchdir(before) < 0)
        return err_errno(err, errno, "mount overlay: back to the current folder");
    return take_fd(&fd);
}

static int overlay_as_we_are(const struct mount_overlay *overlay, enum mount_overlay_way way, struct err *err)
{
    _cleanup_close_ int context = fsopen("overlay", FSOPEN_CLOEXEC);
    if (context < 0)
        return err_errno(err, errno, "mount overlay");
    size_t given = 0;
    if (way == MOUNT_OVERLAY_ANY && set_by_fd(context, "lowerdir+", overlay->lower_fds[0]) == 0) {
        way = MOUNT_OVERLAY_BY_FD;
        given = 1;
    } else if (way == MOUNT_OVERLAY_ANY) {
        way = probe_overlay(overlay, context);
        fd_close(context); // what was refused would stand in its messages
        if ((context = fsopen("overlay", FSOPEN_CLOEXEC)) < 0)
            return err_errno(err, errno, "mount overlay");
    }
    if (way == MOUNT_OVERLAY_ONE_STRING)
        return overlay_from_fds_folder(context, overlay, err);
    if (way == MOUNT_OVERLAY_BY_FD && overlay_by_fd(context, overlay, given) < 0)
        return fs_error(err, context, errno, "overlay");
    if (way == MOUNT_OVERLAY_BY_PATH && overlay_by_path(context, overlay, err) < 0)
        return -1;
    return overlay_finish(context, overlay, err);
}

int mount_overlay(const struct mount_overlay *overlay, enum mount_overlay_way way, struct err *err)
{
    struct users_acting before;
    struct err back = { 0 };
    if (overlay->lower_len == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "mount overlay: no layer");
    if (!overlay->root_uid && !overlay->root_gid)
        return overlay_as_we_are(overlay, way, err);
    if (users_act_as(overlay->root_uid, overlay->root_gid, &before, err) < 0)
        return err_wrap(err, "mount overlay");
    int fd = overlay_as_we_are(overlay, way, err);
    if (users_act_back(&before, &back) == 0)
        return fd;
    fd_close(fd);
    return err_set(err, back.class, "mount overlay: %s", back.message);
}
