// restore: a container from the images of a checkpoint, in a bundle that may be another one than it came from.
//
// CRIU wants as root a mount of which it knows everything, and finds the sources of bind mounts by path. It runs in a mount
// namespace of its own, a copy of ours in which the rootfs is mounted on itself: so nothing is ever to be unmounted on the
// host, not even when all of us are killed. The restored process becomes a child of this one, as one that we had cloned.
// CRIU is in the container's cgroup while it works, so that a delete --force finds it and all that it has made.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/slice.h"
#include "kernel/mount.h"
#include "kernel/path.h"
#include "oci/oci_private.h"
#include "criu/protobuf.h"

#define JOINED_MAX 2 // namespaces that criu gets as descriptors

struct restore {
    struct call *call;
    struct container container;
    char *program;
    struct criu_folders folders;
    char *pid_file;
    bool detach;
    struct cgroup *cgroup;
    struct mount_set mounts;
    int joined[JOINED_MAX];
    size_t joined_len;
    struct criu criu;
    pid_t pid; // of the restored process, 0 before
    int master_fd;
    struct sandbox *sandbox;
};

static void restore_done(struct restore *restore)
{
    criu_done(&restore->criu);
    criu_folders_done(&restore->folders);
    mounts_done(&restore->mounts);
    cgroup_free(restore->cgroup);
    fd_close(restore->master_fd);
    for (size_t i = 0; i < restore->joined_len; i++)
        fd_close(restore->joined[i]);
    free(restore->program);
    container_done(&restore->container);
}

// ---- namespaces -----------------------------------------------------------------------------------------------------

static int put_joined(struct restore *restore, const char *path, const char *key, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "Requested namespace %s does not exist", path);
    criu_inherit(out, key, CRIU_FIRST_KEPT + (int)restore->joined_len);
    restore->joined[restore->joined_len++] = fd;
    return 0;
}

static int put_namespaces(struct restore *restore, struct buf *out, struct err *err)
{
    const struct json_list *list = &restore->container.config.linux_section->namespaces;
    const struct oci_namespace *network = config_namespace(&restore->container.config, "network");
    const struct oci_namespace *pid = config_namespace(&restore->container.config, "pid");
    if (network && !str_empty(network->path) && put_joined(restore, network->path, "extRootNetNS", out, err) < 0)
        return -1;
    if (pid && !str_empty(pid->path) && put_joined(restore, pid->path, "extRootPidNS", out, err) < 0)
        return -1;
    for (size_t i = 0; i < list->len; i++) {
        const struct oci_namespace *namespace = &((const struct oci_namespace *)list->items)[i];
        if (str_empty(namespace->path) || namespace == network || namespace == pid)
            continue;
        if (str_eq(namespace->type, "cgroup") || str_eq(namespace->type, "time"))
            return err_set(err, ERR_NOT_IMPLEMENTED, "restore into a %s namespace by path: CRIU knows no such thing", namespace->type);
        criu_pair(out, CRIU_JOIN_NS, str_eq(namespace->type, "mount") ? "mnt" : namespace->type, namespace->path);
    }
    return 0;
}

// create brings lo up, and connections over it can only be restored so.
static int bring_lo_up(const struct restore *restore, pid_t pid, struct err *err)
{
    const struct oci_namespace *network = config_namespace(&restore->container.config, "network");
    return network && str_empty(network->path) ? criu_bring_lo_up(pid, err) : 0;
}

// ---- the tree that CRIU mounts in ---------------------------------------------------------------------------------------

static bool on_tmpfs(const struct restore *restore, const char *target)
{
    for (size_t i = 0; i < restore->mounts.len; i++) {
        const struct config_mount *mount = &restore->mounts.mounts[i];
        size_t size = strlen(mount->target);
        if (mount->kind == CONFIG_MOUNT_NEW && str_eq(mount->fstype, "tmpfs") && strncmp(target, mount->target, size) == 0 &&
            target[size] == '/')
            return true;
    }
    return false;
}

// The place of a mount, made as create makes it; a bind is attached, because the next place may lie in it.
static int make_place(struct restore *restore, int root_fd, const struct config_mount *mount, struct err *err)
{
    struct stat st;
    bool bind = mount->kind == CONFIG_MOUNT_BIND;
    if (mount->kind == CONFIG_MOUNT_CGROUP || mount->kind == CONFIG_MOUNT_REMOUNT || on_tmpfs(restore, mount->target))
        return 0; // comes with the images
    if (bind && fstat(mount->source_fd, &st) < 0)
        return err_errno(err, errno, "stat %s", mount->source);
    _cleanup_close_ int target = bind && !S_ISDIR(st.st_mode) ? path_make_file(root_fd, mount->target, 0755, err)
                                                              : path_make_dir(root_fd, mount->target, 0755, err);
    if (target < 0 || !bind)
        return target < 0 ? -1 : 0;
    _cleanup_close_ int clone = mount_clone(mount->source_fd, true, err);
    return clone < 0 ? -1 : mount_attach(clone, target, err);
}

// CRIU binds by a source's path and knows no id maps. In its mount namespace the state folder is covered by a tmpfs, where such
// a source has a place of its own that is mapped already.
static int cover_state(const struct restore *restore, const char *path, struct err *err)
{
    _cleanup_close_ int below = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), cover = mount_new("tmpfs", NULL, 0, 0, err);
    if (below < 0)
        return err_errno(err, errno, "%s", path);
    return cover < 0 || mount_attr(cover, 0, 0, MS_PRIVATE, false, err) < 0 ? -1 : mount_attach(cover, below, err);
}

static bool is_mapped_tmpfs(const struct config_mount *mount)
{
    return mount->kind == CONFIG_MOUNT_NEW && mount->idmap_fd >= 0;
}

static int show_mapped(const struct restore *restore, const char *folder, size_t index, struct config_mount *mount, struct err *err)
{
    struct stat st;
    bool tmpfs = is_mapped_tmpfs(mount);
    char *place = arena_printf(&restore->call->arena, "%s/%zu", folder, index);
    _cleanup_close_ int clone = tmpfs ? mount_new("tmpfs", mount->options, mount->option_len, 0, err)
                                      : mount_clone(mount->source_fd, mount->recursive, err);
    if (clone < 0 || mount_map_ids(clone, mount->idmap_fd, mount->idmap_recursive, err) < 0)
        return -1;
    if (fstat(clone, &st) < 0 || (S_ISDIR(st.st_mode) ? mkdir(place, 0700) : mknod(place, S_IFREG | 0600, 0)) < 0)
        return err_errno(err, errno, "%s", place);
    _cleanup_close_ int target = open(place, O_PATH | O_CLOEXEC);
    if (target < 0)
        return err_errno(err, errno, "%s", place);
    mount->source = place;
    if (mount_attach(clone, target, err) < 0)
        return -1;
    return tmpfs ? mapped_tmpfs_fill(restore->folders.images_fd, index, clone, err) : 0;
}

static int show_all_mapped(struct restore *restore, struct err *err)
{
    const char *folder = NULL;
    for (size_t i = 0; i < restore->mounts.len; i++) {
        struct config_mount *mount = &restore->mounts.mounts[i];
        if (mount->idmap_fd < 0)
            continue;
        if (!folder) {
            folder = arena_printf(&restore->call->arena, "%s/%s", restore->call->root, restore->container.id);
            if (cover_state(restore, folder, err) < 0)
                return -1;
        }
        if (show_mapped(restore, folder, i, mount, err) < 0)
            return err_wrap(err, "mounts[%zu]", i);
    }
    return 0;
}

// The rootfs mounted on itself: an O_PATH descriptor of it.
static int mount_root(const char *path, struct err *err)
{
    _cleanup_close_ int below = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int clone = below < 0 ? -1 : mount_clone(below, true, err);
    if (below < 0)
        return err_errno(err, errno, "invalid rootfs: %s", path);
    if (clone < 0 || mount_attr(clone, 0, 0, MS_PRIVATE, true, err) < 0 || mount_attach(clone, below, err) < 0)
        return -1;
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 ? fd : err_errno(err, errno, "%s", path);
}

static int put_mounts(struct restore *restore, int root_fd, struct buf *out, struct err *err)
{
    struct arena *arena = &restore->call->arena;
    for (size_t i = 0; i < restore->mounts.len; i++) {
        const struct config_mount *mount = &restore->mounts.mounts[i];
        const char *real = criu_resolved(arena, root_fd, restore->container.rootfs, mount->target);
        if (!real)
            real = mount->target;
        if (mount->kind == CONFIG_MOUNT_BIND || is_mapped_tmpfs(mount))
            criu_external_mount(out, real, mount->source);
        else if (mount->kind == CONFIG_MOUNT_CGROUP && oci_cgroup_mounts(&restore->container, real, true, out, err) < 0)
            return -1;
    }
    criu_device_mounts(&restore->container.config.linux_section->devices, out); // with the /dev/null that masks are made of
    return 0;
}

static int prepare_tree(struct restore *restore, struct buf *out, struct err *err)
{
    struct container *container = &restore->container;
    const char *rootfs = container->rootfs;
    // Sources are opened here, because mounts of another namespace can't be cloned.
    if (mounts_read(&container->config, container->bundle, container->rootless, &container->arena, &restore->mounts, err) < 0)
        return -1;
    _cleanup_close_ int root_fd = mount_root(rootfs, err);
    if (root_fd < 0)
        return -1;
    for (size_t i = 0; i < restore->mounts.len; i++)
        if (make_place(restore, root_fd, &restore->mounts.mounts[i], err) < 0)
            return err_wrap(err, "place of the mount on %s", restore->mounts.mounts[i].target);
    if (show_all_mapped(restore, err) < 0 || put_mounts(restore, root_fd, out, err) < 0)
        return -1;
    if (umount2(rootfs, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) // CRIU wants the places without what is on them
        return err_errno(err, errno, "%s", rootfs);
    _cleanup_close_ int again = mount_root(rootfs, err);
    return again < 0 ? -1 : 0;
}

// ---- CRIU ---------------------------------------------------------------------------------------------------------------

// Pipes of the images go on as what stands at their number now.
static int put_stdio(const struct restore *restore, struct buf *out, struct err *err)
{
    static const int own[CRIU_STDIO_LEN] = { 0, 1, 2 };
    return criu_inherit_stdio(restore->folders.images_fd, own, out, err) < 0 ? err_wrap(err, "%s", restore->folders.images) : 0;
}

static int put_options(struct restore *restore, struct buf *out, struct err *err)
{
    const struct args *args = &restore->call->args;
    criu_common_options(restore->call, &restore->container, &restore->folders, out);
    pb_text(out, CRIU_ROOT, restore->container.rootfs);
    pb_flag(out, CRIU_EVASIVE_DEVICES, true);
    pb_flag(out, CRIU_RST_SIBLING, true);
    const char *profile = args_text(args, "lsm-profile"), *context = args_text(args, "lsm-mount-context");
    pb_text(out, CRIU_LSM_PROFILE, str_empty(profile) ? NULL : profile);
    pb_text(out, CRIU_LSM_MOUNT_CONTEXT, str_empty(context) ? NULL : context);
    return put_namespaces(restore, out, err) < 0 ? -1 : put_stdio(restore, out, err);
}

// CRIU always pivots. With --no-pivot our root is a ramdisk, out of which that does not go; but out of a mount of it, it does.
static int enter_own_root(struct err *err)
{
    _cleanup_close_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int clone = root < 0 ? -1 : mount_clone(root, true, err);
    if (root < 0)
        return err_errno(err, errno, "/");
    if (clone < 0 || mount_attach(clone, root, err) < 0)
        return -1;
    return fchdir(clone) == 0 && chroot(".") == 0 ? 0 : err_errno(err, errno, "a root for criu");
}

// In the copy of the mount namespace, which only CRIU stays in.
static int start_criu(struct restore *restore, struct buf *out, struct err *err)
{
    _cleanup_close_ int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (own < 0 || here < 0 || unshare(CLONE_NEWNS) < 0)
        return err_errno(err, errno, "mount namespace for criu");
    int result = 0;
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        result = err_errno(err, errno, "mount namespace for criu");
    if (result == 0 && args_flag(&restore->call->args, "no-pivot"))
        result = enter_own_root(err);
    if (result == 0)
        result = criu_folders_reopen(&restore->folders, err);
    if (result == 0)
        result = prepare_tree(restore, out, err);
    if (result == 0)
        result = criu_start(restore->program, true, restore->joined, restore->joined_len, &restore->criu, err);
    if (setns(own, CLONE_NEWNS) < 0 || fchdir(here) < 0)
        return err_errno(err, errno, "leave the mount namespace of criu");
    return result;
}

static int before_network(struct restore *restore, pid_t pid, struct err *err)
{
    const struct oci_hooks *hooks = restore->container.config.hooks;
    restore->container.pid = pid;
    if (bring_lo_up(restore, pid, err) < 0)
        return -1;
    if (hooks && hooks_run(&restore->container, &hooks->prestart, "prestart", STATUS_CREATING, err) < 0)
        return -1;
    return hooks ? hooks_run(&restore->container, &hooks->create_runtime, "createRuntime", STATUS_CREATING, err) : 0;
}

// From here on the container is running to everybody, and what signals come are its own: foreground() finds them waiting.
static void block_signals(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
}

static int on_notice(const char *script, pid_t pid, int fd, void *context, struct err *err)
{
    struct restore *restore = context;
    struct container *container = &restore->container;
    log_debug_line(script);
    if (str_eq(script, "setup-namespaces"))
        return before_network(restore, pid, err);
    if (str_eq(script, "orphan-pts-master") && fd >= 0)
        return (restore->master_fd = fd_dup(fd, err)) < 0 ? -1 : 0;
    if (!str_eq(script, "post-restore"))
        return 0;
    if (!restore->detach)
        block_signals();
    restore->pid = pid;
    if (rdt_join(container, pid, err) < 0)
        return -1;
    container->pid = pid;
    container->pid_start = process_start_time(pid);
    return container_save(container, err);
}

static int ask(struct restore *restore, struct err *err)
{
    _cleanup_buf_ struct buf options = BUF_INIT(CRIU_OPTIONS_MAX);
    if (put_options(restore, &options, err) < 0 || start_criu(restore, &options, err) < 0)
        return -1;
    if (restore->cgroup && cgroup_join(restore->cgroup, restore->criu.process.pid, err) < 0)
        return err_wrap(err, "criu into the cgroup");
    scope_end_holder(&restore->container); // a scope lasts as long as somebody is in it: now CRIU is
    if (criu_cgroup_roots(restore->criu.process.pid, &options, err) < 0) // what was the container's is now that
        return -1;
    if (criu_ask(&restore->criu, CRIU_RESTORE, &options, on_notice, restore, NULL, err) < 0)
        return criu_failed(&restore->folders, err);
    if (restore->pid == 0)
        return err_set(err, ERR_INTERNAL, "criu restored nothing");
    return sandbox_adopt(restore->pid, &restore->sandbox, err);
}

// ---- the verb -------------------------------------------------------------------------------------------------------

static int read_flags(struct restore *restore, struct err *err)
{
    struct call *call = restore->call;
    restore->detach = args_flag(&call->args, "detach");
    restore->pid_file = bundle_absolute(call, args_text(&call->args, "pid-file"));
    if (criu_check_flags(call, err) < 0 || !(restore->program = criu_find(args_text(&call->global, "criu"), err)))
        return -1;
    return criu_folders_open(call, 0, "restore.log", &restore->folders, err);
}

static int build(struct restore *restore, const char *id, struct err *err)
{
    char bundle[PATH_MAX];
    struct call *call = restore->call;
    struct container *container = &restore->container;
    int result = container_id_check(id, err);
    if (result == 0 && (result = read_flags(restore, err)) == 0 && (result = bundle_enter(call, bundle, err)) == 0 &&
        (result = bundle_read(call, container, err)) == 0)
        result = criu_check_config(&container->config, err);
    if (result == 0)
        result = check_terminal(container->config.process, restore->detach, args_text(&call->args, "console-socket"), err);
    if (result < 0 || container_make(call, id, container, err) < 0 ||
        bundle_keep(call, container, bundle, err) < 0 || cgroups_make(call, container, &restore->cgroup, err) < 0 ||
        rdt_make(container, err) < 0)
        return -1;
    return ask(restore, err);
}

static int finish(struct restore *restore, struct err *err)
{
    struct call *call = restore->call;
    if (hand_over(call, restore->master_fd, restore->pid_file, restore->pid, err) < 0)
        return -1;
    if (restore->detach) {
        sandbox_release(take_ptr(&restore->sandbox));
        return 0;
    }
    fd_close(take_fd(&restore->container.lock_fd));
    foreground_terminal(restore->master_fd);
    return foreground(restore->sandbox, restore->master_fd, &call->exit_code, err);
}

int verb_restore(struct call *call, struct err *err)
{
    struct restore restore = { .call = call, .container = CONTAINER_NONE, .folders = CRIU_FOLDERS_NONE, .criu = CRIU_NONE,
                               .master_fd = -1 };
    if (call->rootless)
        log_warning_line("runc restore is untested with rootless containers");
    int result = build(&restore, call->args.words.items[0], err);
    if (result == 0)
        result = finish(&restore, err);
    criu_done(&restore.criu);
    sandbox_free(restore.sandbox);
    container_clear_away(call, &restore.container, result == 0 && restore.detach);
    restore_done(&restore);
    return result;
}
