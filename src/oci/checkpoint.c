// checkpoint: CRIU writes a container's processes into a folder, and ends them unless they are to go on.
//
// What comes from outside a container is named to CRIU, which then leaves it to restore: bind mounts, folders of cgroups,
// device nodes, namespaces joined by path. The names are those of runc, so that either's images are the other's.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/num.h"
#include "base/slice.h"
#include "oci/oci_private.h"
#include "criu/protobuf.h"

struct checkpoint {
    struct call *call;
    struct container container;
    char *program;
    struct criu_folders folders;
    const char *parent; // of an earlier pre-dump, relative to the images
    bool pre_dump, leave_running, lazy;
    int status_fd; // the caller's, or -1
    bool was_paused;
};

// ---- what is asked for ----------------------------------------------------------------------------------------------

static int check_status(struct container *container, struct err *err)
{
    enum status status = container_status(container);
    if (status == STATUS_RUNNING || status == STATUS_PAUSED)
        return 0;
    return err_set(err, ERR_CONFLICT, "Container cannot be checkpointed in %s state", status_name(status));
}

static int read_status_fd(struct checkpoint *checkpoint, struct err *err)
{
    const char *given = args_text(&checkpoint->call->args, "status-fd");
    uint64_t number;
    if (str_empty(given) || str_eq(given, "-1"))
        return 0;
    if (!checkpoint->lazy)
        return err_set(err, ERR_INVALID_ARGUMENT, "--status-fd is of use only with --lazy-pages");
    if (!num_parse_u64(slice_of(given), INT32_MAX, &number))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid --status-fd argument %.40s", given);
    int flags = fcntl((int)number, F_GETFL);
    if (flags < 0)
        return err_errno(err, errno, "invalid --status-fd argument %.40s", given);
    if ((flags & O_ACCMODE) == O_RDONLY)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid --status-fd argument %.40s: not writable", given);
    checkpoint->status_fd = (int)number;
    return 0;
}

static int check_parent(struct checkpoint *checkpoint, struct err *err)
{
    struct stat st;
    if (!checkpoint->parent)
        return 0;
    if (fstatat(checkpoint->folders.images_fd, checkpoint->parent, &st, 0) < 0)
        return err_errno(err, errno, "invalid --parent-path: stat %s/%s", checkpoint->folders.images, checkpoint->parent);
    return S_ISDIR(st.st_mode) ? 0 : err_errno(err, ENOTDIR, "invalid --parent-path: stat %s/%s", checkpoint->folders.images, checkpoint->parent);
}

static int put_page_server(const struct checkpoint *checkpoint, struct buf *out, struct err *err)
{
    const char *given = args_text(&checkpoint->call->args, "page-server"), *colon = given ? strrchr(given, ':') : NULL;
    _cleanup_buf_ struct buf server = BUF_INIT(1024);
    uint64_t port;
    if (str_empty(given))
        return 0;
    if (!colon || colon == given || !colon[1])
        return err_set(err, ERR_INVALID_ARGUMENT, "Use --page-server ADDRESS:PORT to specify page server");
    if (!num_parse_u64(slice_of(colon + 1), UINT16_MAX, &port) || port == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "Invalid port number");
    bool brackets = given[0] == '[' && colon[-1] == ']';
    _cleanup_free_ char *address = mem_strndup(given + brackets, (size_t)(colon - given) - 2 * brackets);
    pb_text(&server, 1, address);
    pb_number(&server, 2, (int64_t)port);
    pb_message(out, CRIU_PAGE_SERVER, &server);
    return 0;
}

// What the kernel can't do is said before anything is written.
static int check_features(const struct checkpoint *checkpoint, struct err *err)
{
    struct criu criu = CRIU_NONE;
    struct criu_answer answer = { 0 };
    bool track = checkpoint->pre_dump || checkpoint->parent;
    if (!track && !checkpoint->lazy)
        return 0;
    int result = criu_start(checkpoint->program, false, NULL, 0, &criu, err);
    if (result == 0)
        result = criu_ask(&criu, CRIU_FEATURE_CHECK, NULL, NULL, NULL, &answer, err);
    criu_done(&criu);
    if (result < 0)
        return err_wrap(err, "CRIU feature check failed");
    if (track && !answer.mem_track)
        return err_set(err, ERR_NOT_IMPLEMENTED, "%s: criu is missing features: [MemTrack] (this kernel doesn't track dirty pages)",
                       checkpoint->pre_dump ? "--pre-dump" : "--parent-path");
    if (checkpoint->lazy && !answer.lazy_pages)
        return err_set(err, ERR_NOT_IMPLEMENTED, "--lazy-pages: criu is missing features: [LazyPages] (this kernel's userfaultfd)");
    return 0;
}

static int read_flags(struct checkpoint *checkpoint, struct err *err)
{
    struct call *call = checkpoint->call;
    const char *parent = args_text(&call->args, "parent-path");
    checkpoint->pre_dump = args_flag(&call->args, "pre-dump");
    checkpoint->leave_running = args_flag(&call->args, "leave-running");
    checkpoint->lazy = args_flag(&call->args, "lazy-pages");
    checkpoint->parent = str_empty(parent) ? NULL : parent;
    if (checkpoint->parent && parent[0] == '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "--parent-path must be relative");
    return criu_check_flags(call, err) < 0 ? -1 : read_status_fd(checkpoint, err);
}

static int prepare(struct checkpoint *checkpoint, struct err *err)
{
    struct call *call = checkpoint->call;
    if (read_flags(checkpoint, err) < 0 || !(checkpoint->program = criu_find(args_text(&call->global, "criu"), err)) ||
        check_features(checkpoint, err) < 0)
        return -1;
    // The root of a user namespace reads the images with the rights of a stranger.
    mode_t mode = config_namespace(&checkpoint->container.config, "user") ? 0755 : 0700;
    return criu_folders_open(call, mode, "dump.log", &checkpoint->folders, err) < 0 ? -1 : check_parent(checkpoint, err);
}

// ---- what comes from outside ----------------------------------------------------------------------------------------

static int put_namespace(const struct checkpoint *checkpoint, const char *type, const char *word, const char *key, struct buf *out,
                         struct err *err)
{
    const struct oci_namespace *namespace = config_namespace(&checkpoint->container.config, type);
    struct stat st;
    char text[64];
    if (!namespace || str_empty(namespace->path))
        return 0;
    if (stat(namespace->path, &st) < 0)
        return err_errno(err, errno, "stat %s", namespace->path);
    snprintf(text, sizeof(text), "%s[%ju]:%s", word, (uintmax_t)st.st_ino, key);
    pb_text(out, CRIU_EXTERNAL, text);
    return 0;
}

static int put_mounts(const struct checkpoint *checkpoint, struct buf *out, struct err *err)
{
    const struct container *container = &checkpoint->container;
    struct arena *arena = &checkpoint->call->arena;
    const struct oci_mount *mounts = container->config.mounts.items;
    char root[64];
    snprintf(root, sizeof(root), "/proc/%d/root", (int)container->pid);
    _cleanup_close_ int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0)
        return err_errno(err, errno, "%s", root);
    for (size_t i = 0; i < container->config.mounts.len; i++) {
        const char *target = mount_clean_target(arena, mounts[i].destination), *real = criu_resolved(arena, root_fd, "/", target);
        if (mount_is_bind(&mounts[i]) || mapped_tmpfs(&mounts[i]))
            criu_external_mount(out, real ? real : target, real ? real : target);
        else if (str_eq(mounts[i].type, "cgroup") && oci_cgroup_mounts(container, real ? real : target, false, out, err) < 0)
            return -1;
    }
    criu_masked_files(&container->config.linux_section->masked_paths, root_fd, arena, out);
    criu_device_mounts(&container->config.linux_section->devices, out);
    return 0;
}

static int hierarchy_of(const struct cgroup_layout *layout, bool v2)
{
    for (size_t i = 0; i < layout->len; i++)
        if (v2 ? layout->hierarchies[i].v2 : str_eq(layout->hierarchies[i].controllers, "freezer"))
            return (int)i;
    return -1;
}

// ---- the dump -------------------------------------------------------------------------------------------------------

static int put_options(const struct checkpoint *checkpoint, struct buf *out, struct err *err)
{
    const struct container *container = &checkpoint->container;
    const struct args *args = &checkpoint->call->args;
    criu_common_options(checkpoint->call, container, &checkpoint->folders, out);
    pb_text(out, CRIU_ROOT, container->rootfs);
    pb_number(out, CRIU_PID, container->pid);
    pb_flag(out, CRIU_LEAVE_RUNNING, checkpoint->leave_running);
    pb_flag(out, CRIU_LINK_REMAP, args_flag(args, "link-remap"));
    pb_flag(out, CRIU_TCP_SKIP_IN_FLIGHT, args_flag(args, "tcp-skip-in-flight"));
    pb_text(out, CRIU_PARENT_IMG, checkpoint->parent);
    pb_flag(out, CRIU_TRACK_MEM, checkpoint->parent || checkpoint->pre_dump);
    criu_lock_network(out);
    criu_freezer(container->cgroup, out); // all processes are stopped at once
    if (put_page_server(checkpoint, out, err) < 0 || put_namespace(checkpoint, "network", "net", "extRootNetNS", out, err) < 0 ||
        put_namespace(checkpoint, "pid", "pid", "extRootPidNS", out, err) < 0)
        return -1;
    return checkpoint->pre_dump ? 0 : put_mounts(checkpoint, out, err);
}

static int on_notice(const char *script, pid_t pid, int fd, void *context, struct err *err)
{
    struct checkpoint *checkpoint = context;
    log_debug_line(script);
    if (str_eq(script, "status-ready") && checkpoint->status_fd >= 0) {
        int result = fd_write_full(checkpoint->status_fd, "", 1, err);
        fd_close(take_fd(&checkpoint->status_fd));
        return result < 0 ? err_wrap(err, "--status-fd") : 0;
    }
    return str_eq(script, "post-dump") ? mapped_tmpfs_dump(&checkpoint->container, checkpoint->folders.images_fd, err) : 0;
}

// A paused container is frozen by cgroup2 where v1's freezer is what CRIU uses: it would wait for processes that can't move.
// So v1 takes over before the dump, and cgroup2 after it.
static int move_freeze(struct checkpoint *checkpoint, bool to_v1, struct err *err)
{
    struct cgroup *cgroup = NULL;
    if (!checkpoint->was_paused)
        return 0;
    if (container_cgroup(&checkpoint->container, &cgroup, err) < 0)
        return -1;
    const struct cgroup_layout *layout = cgroup_layout_of(cgroup);
    int v1 = hierarchy_of(layout, false), v2 = hierarchy_of(layout, true), result = 0;
    if (v1 >= 0 && v2 >= 0 && to_v1) {
        if ((result = file_put(cgroup_dir_fd(cgroup, (size_t)v1), "freezer.state", "FROZEN", err)) == 0)
            result = file_put(cgroup_dir_fd(cgroup, (size_t)v2), "cgroup.freeze", "0", err);
    } else if (v1 >= 0 && v2 >= 0) {
        if ((result = cgroup_freeze(cgroup, true, err)) == 0)
            result = file_put(cgroup_dir_fd(cgroup, (size_t)v1), "freezer.state", "THAWED", err);
    }
    cgroup_free(cgroup);
    return result;
}

static int dump(struct checkpoint *checkpoint, struct err *err)
{
    _cleanup_buf_ struct buf options = BUF_INIT(CRIU_OPTIONS_MAX);
    struct criu criu = CRIU_NONE;
    if (put_options(checkpoint, &options, err) < 0 || (!checkpoint->pre_dump && criu_keep_stdio(checkpoint->folders.images_fd, (const char *const *)checkpoint->container.stdio, err) < 0))
        return -1;
    int result = move_freeze(checkpoint, true, err);
    if (result == 0)
        result = criu_start(checkpoint->program, false, NULL, 0, &criu, err);
    if (result == 0)
        result = criu_ask(&criu, checkpoint->pre_dump ? CRIU_SINGLE_PRE_DUMP : CRIU_DUMP, &options, on_notice, checkpoint, NULL, err);
    criu_done(&criu);
    if (result < 0)
        criu_failed(&checkpoint->folders, err);
    struct err missed = { 0 };
    if (container_alive(&checkpoint->container) && move_freeze(checkpoint, false, &missed) < 0)
        log_warning_line(missed.message);
    return result;
}

static int run(struct checkpoint *checkpoint, struct err *err)
{
    struct container *container = &checkpoint->container;
    if (container_lock(container, err) < 0 || check_status(container, err) < 0 || container_load_config(container, err) < 0)
        return -1;
    checkpoint->was_paused = container_status(container) == STATUS_PAUSED;
    if (criu_check_config(&container->config, err) < 0 || prepare(checkpoint, err) < 0 || dump(checkpoint, err) < 0)
        return -1;
    if (checkpoint->leave_running || checkpoint->pre_dump)
        return 0;
    return container_destroy(checkpoint->call, container, err);
}

int verb_checkpoint(struct call *call, struct err *err)
{
    struct checkpoint checkpoint = { .call = call, .container = CONTAINER_NONE, .folders = CRIU_FOLDERS_NONE, .status_fd = -1 };
    if (call->rootless)
        log_warning_line("runc checkpoint is untested with rootless containers");
    int result = container_load(call, call->args.words.items[0], &checkpoint.container, err);
    if (result == 0)
        result = run(&checkpoint, err);
    criu_folders_done(&checkpoint.folders);
    free(checkpoint.program);
    container_done(&checkpoint.container);
    return result;
}
