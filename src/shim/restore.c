// A start from a checkpoint. Theory of operation:
//
// CRIU wants as root a mount of which it knows everything, and finds the sources of bind mounts by path. So the aide enters a copy of
// the host's mount namespace, covers the container's folder by a tmpfs there and attaches on it what a start has made detached:
//
//     <container>/root      the container's root, as at its first start
//     <container>/0, 1 ...  what it binds
//
// CRIU, in the container's cgroup, restores the processes as children of the aide. When they stand there and have not gone on yet, the
// aide tells it, `create` is answered, and the daemon does what comes between: the name server. `start` is the aide's sign to let CRIU
// finish. Then the aide ends, and its children are the shim's.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "criu/criu.h"
#include "criu/protobuf.h"
#include "kernel/mount.h"
#include "shim/checkpoint.h"

#define KEPT_MAX (CRIU_STDIO_LEN + 1)

struct restore {
    struct shim *shim;
    struct checkpoint_wish wish;
    const struct task_document *document;
    struct sandbox_spec spec;
    struct stdio_ends ends;
    struct arena arena;
    // In the aide alone.
    int sock;
    int root_fd, *bind_fds; // detached mounts
    char folder[PATH_MAX], images[PATH_MAX];
    int kept[KEPT_MAX];
    size_t kept_len;
    struct criu criu;
    int master_fd;
};

// ---- the tree that CRIU mounts in -----------------------------------------------------------------------------------

static int path_of(int fd, char *out, struct err *err)
{
    char link[32];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, out, PATH_MAX - 1);
    if (size < 0)
        return err_errno(err, errno, "%s", link);
    out[size] = '\0';
    return 0;
}

static bool is_bind(const struct sandbox_mount *mount)
{
    return mount->kind == SANDBOX_MOUNT_BIND || mount->kind == SANDBOX_MOUNT_TREE;
}

static int open_mounts(struct restore *restore, struct err *err)
{
    const struct sandbox_spec *spec = &restore->spec;
    restore->bind_fds = arena_alloc(&restore->arena, (spec->mount_len + 1) * sizeof(int));
    if ((restore->root_fd = sandbox_rootfs_mount(&spec->rootfs, 0, 0, err)) < 0)
        return -1;
    for (size_t i = 0; i < spec->mount_len; i++)
        if (is_bind(&spec->mounts[i]) && (restore->bind_fds[i] = sandbox_bind_mount(&spec->mounts[i], err)) < 0)
            return -1;
    return path_of(restore->shim->container_fd, restore->folder, err) < 0 ? -1 : path_of(restore->wish.images_fd, restore->images, err);
}

// A mount namespace of our own, with the images' folder as that namespace has it: CRIU mounts in it.
static int enter_namespace(struct restore *restore, struct err *err)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return err_errno(err, errno, "mount namespace for criu");
    restore->wish.images_fd = file_open_dir(AT_FDCWD, restore->images, err);
    if (restore->wish.images_fd < 0)
        return -1;
    _cleanup_close_ int below = file_open_dir(AT_FDCWD, restore->folder, err), cover = below < 0 ? -1 : mount_new("tmpfs", NULL, 0, 0, err);
    return cover < 0 || mount_attr(cover, 0, 0, MS_PRIVATE, false, err) < 0 ? -1 : mount_attach(cover, below, err);
}

static int attach(int mount_fd, const char *place, struct err *err)
{
    struct stat st;
    if (fstat(mount_fd, &st) < 0 || (S_ISDIR(st.st_mode) ? mkdir(place, 0700) : mknod(place, S_IFREG | 0600, 0)) < 0)
        return err_errno(err, errno, "%s", place);
    _cleanup_close_ int target = open(place, O_PATH | O_CLOEXEC);
    return target < 0 ? err_errno(err, errno, "%s", place) : mount_attach(mount_fd, target, err);
}

static int attach_all(struct restore *restore, const char *root, struct buf *out, struct err *err)
{
    const struct sandbox_spec *spec = &restore->spec;
    uint64_t attrs = spec->rootfs.read_only ? MOUNT_ATTR_RDONLY : 0; // its places are there since the first start
    if (mount_attr(restore->root_fd, attrs, 0, MS_PRIVATE, false, err) < 0 || attach(restore->root_fd, root, err) < 0)
        return -1;
    _cleanup_close_ int root_fd = file_open_dir(AT_FDCWD, root, err);
    for (size_t i = 0; i < spec->mount_len && root_fd >= 0; i++) {
        const struct sandbox_mount *mount = &spec->mounts[i];
        const char *source = arena_printf(&restore->arena, "%s/%zu", restore->folder, i);
        if (!is_bind(mount))
            continue;
        if (attach(restore->bind_fds[i], source, err) < 0)
            return -1;
        const char *real = criu_resolved(&restore->arena, root_fd, root, mount->target);
        criu_external_mount(out, real ? real : mount->target, source);
    }
    return root_fd < 0 ? -1 : 0;
}

static int put_mounts(struct restore *restore, struct buf *out, struct err *err)
{
    const struct oci_linux *section = &restore->document->linux_section;
    const char *root = arena_printf(&restore->arena, "%s/root", restore->folder);
    pb_text(out, CRIU_ROOT, root);
    if (attach_all(restore, root, out, err) < 0)
        return -1;
    criu_device_mounts(&section->devices, out); // with the /dev/null that masks are made of
    return checkpoint_own_cgroups(section) ? 0 : criu_cgroup_mounts(section->cgroups_path, "/sys/fs/cgroup", true, out, err);
}

// ---- CRIU -----------------------------------------------------------------------------------------------------------

// Its number in CRIU.
static int keep(struct restore *restore, int fd)
{
    if (fd < 0)
        return -1;
    restore->kept[restore->kept_len] = fd;
    return CRIU_FIRST_KEPT + (int)restore->kept_len++;
}

static int put_descriptors(struct restore *restore, struct buf *out, struct err *err)
{
    int network = keep(restore, restore->shim->netns_fd);
    const int stdio[CRIU_STDIO_LEN] = { keep(restore, restore->ends.in), keep(restore, restore->ends.out), keep(restore, restore->ends.error) };
    if (network >= 0)
        criu_inherit(out, CHECKPOINT_NETWORK_KEY, network);
    return criu_inherit_stdio(restore->wish.images_fd, stdio, out, err);
}

static int on_notice(const char *script, pid_t pid, int fd, void *context, struct err *err)
{
    struct restore *restore = context;
    if (str_eq(script, "setup-namespaces") && restore->shim->netns_fd < 0 && checkpoint_own_network(&restore->document->linux_section))
        return criu_bring_lo_up(pid, err);
    if (str_eq(script, "orphan-pts-master") && fd >= 0)
        return (restore->master_fd = fd_dup(fd, err)) < 0 ? -1 : 0;
    if (!str_eq(script, "post-restore"))
        return 0;
    // Here the processes are whole, and stand still until CRIU has our answer.
    return aide_say(restore->sock, pid, restore->master_fd, err) < 0 ? -1 : aide_await(restore->sock, err);
}

static int ask(struct restore *restore, struct err *err)
{
    _cleanup_buf_ struct buf options = BUF_INIT(CRIU_OPTIONS_MAX);
    criu_begin_options(restore->wish.images_fd, CHECKPOINT_RESTORE_LOG, CRIU_CGROUPS_DEFAULT, CRIU_CONFIG, &options);
    pb_flag(&options, CRIU_EVASIVE_DEVICES, true);
    pb_flag(&options, CRIU_RST_SIBLING, true);
    if (put_mounts(restore, &options, err) < 0 || put_descriptors(restore, &options, err) < 0 ||
        criu_start(restore->wish.program, false, restore->kept, restore->kept_len, &restore->criu, err) < 0)
        return -1;
    if (restore->shim->cgroup && cgroup_join(restore->shim->cgroup, restore->criu.process.pid, err) < 0)
        return err_wrap(err, "criu into the cgroup");
    if (criu_cgroup_roots(restore->criu.process.pid, &options, err) < 0)
        return -1;
    if (criu_ask(&restore->criu, CRIU_RESTORE, &options, on_notice, restore, NULL, err) < 0)
        return checkpoint_failed(restore->wish.images_fd, CHECKPOINT_RESTORE_LOG, err);
    return 0;
}

static int restore_job(void *context, int sock, struct err *err)
{
    struct restore *restore = context;
    restore->sock = sock;
    restore->master_fd = -1;
    restore->criu = (struct criu)CRIU_NONE;
    if (open_mounts(restore, err) < 0 || enter_namespace(restore, err) < 0)
        return -1;
    int result = ask(restore, err);
    criu_done(&restore->criu);
    return result;
}

// ---- the shim's side ------------------------------------------------------------------------------------------------

// The processes stand there: from here on they are ours.
static int take_over(struct shim *shim, struct request *request, const struct aide_word *word, int *master_fd, struct err *err)
{
    struct unit *unit = shim->init;
    struct sandbox *sandbox = NULL;
    struct task_stdio wish = { .terminal = unit->stdio.terminal };
    json_t *stdio = json_object_get(json_object_get(request->payload, "document"), "stdio");
    wish.open_stdin = json_get_flag(stdio, "open_stdin", false);
    wish.height = json_get_int(stdio, "height", 0);
    wish.width = json_get_int(stdio, "width", 0);
    if (unit->stdio.terminal && *master_fd < 0)
        return err_set(err, ERR_INTERNAL, "criu restored no terminal");
    return sandbox_adopt(word->pid, &sandbox, err) < 0 ? -1 : wall_adopt(request, unit, sandbox, take_fd(master_fd), &wish, err);
}

static void word_came(struct aide *aide, struct aide_word *word, int fd)
{
    struct shim *shim = aide->shim;
    struct request *request = take_ptr(&aide->request);
    int result = word->result;
    if (!request) { // it gave up between create and start, which finds it ended
        fd_close(fd);
        return;
    }
    if (word->last)
        aide_free(take_ptr(&shim->aide));
    if (result == 0 && !word->last)
        result = take_over(shim, request, word, &fd, &word->err);
    else if (result == 0)
        result = wall_watch(shim->init, &word->err);
    fd_close(fd);
    request_finish(request, result, &word->err);
}

int restore_create(struct request *request, const struct task_document *document, const struct checkpoint_wish *wish, struct err *err)
{
    struct shim *shim = request->shim;
    struct unit *unit = shim->init;
    _cleanup_(fd_list_done) struct fd_list opened = { 0 };
    struct restore restore = { .shim = shim, .wish = *wish, .document = document, .ends = STDIO_ENDS_NONE, .root_fd = -1 };
    int result = rootfs_spec(document, &request->fds, shim->container_fd, &request->arena, &opened, &restore.spec, err);
    if (result == 0)
        result = stdio_open(&unit->stdio, &document->stdio, false, &restore.ends, err);
    if (result == 0)
        result = aide_start(shim, restore_job, &restore, word_came, &shim->aide, err);
    stdio_ends_done(&restore.ends);
    if (result == 0 && (result = request_defer(request, err)) >= 0)
        shim->aide->request = request;
    return result;
}

int restore_start(struct request *request, struct err *err)
{
    struct shim *shim = request->shim;
    if (aide_go_on(shim->aide, err) < 0)
        return err_wrap(err, "the restore has ended");
    int later = request_defer(request, err);
    if (later >= 0)
        shim->aide->request = request;
    return later;
}
