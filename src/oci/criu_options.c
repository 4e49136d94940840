#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>

#include "base/file.h"
#include "base/slice.h"
#include "kernel/path.h"
#include "oci/oci_private.h"
#include "oci/protobuf.h"

#define LOG_LEVEL 4
#define LOG_MAX (16 << 20) // bytes of a log that are read
#define DEFAULT_CONFIG "/etc/criu/runc.conf"
#define DEFAULT_IMAGES "checkpoint"

// ---- flags ----------------------------------------------------------------------------------------------------------

// Numbers of criu_cg_mode; no word is CRIU's own default, which is "soft".
static int cgroups_mode(const char *word)
{
    static const struct {
        const char *word;
        int number;
    } modes[] = { { "ignore", 0 }, { "soft", 3 }, { "full", 4 }, { "strict", 5 }, { "", 6 } };
    for (size_t i = 0; i < ARRAY_LEN(modes); i++)
        if (str_eq(modes[i].word, word ? word : ""))
            return modes[i].number;
    return -1;
}

int criu_check_flags(const struct call *call, struct err *err)
{
    const char *mode = args_text(&call->args, "manage-cgroups-mode");
    if (cgroups_mode(mode) < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid manage-cgroups-mode value: \"%.60s\"", mode);
    const struct strv *empty = args_list(&call->args, "empty-ns");
    for (size_t i = 0; i < empty->len; i++)
        if (!str_eq(empty->items[i], "network"))
            return err_set(err, ERR_INVALID_ARGUMENT, "namespace \"%.60s\" is not supported", empty->items[i]);
    return 0;
}

int criu_check_config(const struct oci_config *config, struct err *err)
{
    if (!config_namespace(config, "mount"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "a container without a mount namespace: CRIU can't tell its mounts from the host's");
    return mapped_tmpfs_check(config, err);
}

// ---- folders --------------------------------------------------------------------------------------------------------

static int open_work(struct call *call, struct criu_folders *out, struct err *err)
{
    const char *given = args_text(&call->args, "work-path");
    out->work = str_empty(given) ? out->images : bundle_absolute(call, given);
    if (str_empty(given))
        return 0;
    if (file_mkdirs(AT_FDCWD, out->work, 0700, err) < 0 || (out->work_fd = file_open_dir(AT_FDCWD, out->work, err)) < 0)
        return err_wrap(err, "--work-path");
    return 0;
}

static int open_images(struct criu_folders *out, mode_t make, struct err *err)
{
    if (make && file_mkdirs(AT_FDCWD, out->images, make, err) < 0)
        return -1;
    out->images_fd = file_open_dir(AT_FDCWD, out->images, err);
    if (out->images_fd >= 0 && !make && faccessat(out->images_fd, "inventory.img", R_OK, 0) < 0)
        return err_errno(err, errno, "%s holds no checkpoint: inventory.img", out->images);
    return out->images_fd < 0 ? -1 : 0;
}

int criu_folders_open(struct call *call, mode_t make, const char *log_name, struct criu_folders *out, struct err *err)
{
    const char *images = args_text(&call->args, "image-path");
    *out = (struct criu_folders)CRIU_FOLDERS_NONE;
    out->images = bundle_absolute(call, str_empty(images) ? DEFAULT_IMAGES : images);
    if (open_images(out, make, err) < 0)
        return err_wrap(err, "--image-path");
    if (open_work(call, out, err) < 0)
        return -1;
    out->log = arena_printf(&call->arena, "%s/%s", out->work, log_name);
    return 0;
}

static int reopen(int fd, const char *path, struct err *err)
{
    _cleanup_close_ int again = fd < 0 ? -1 : file_open_dir(AT_FDCWD, path, err);
    if (fd >= 0 && again < 0)
        return -1;
    return fd < 0 || dup3(again, fd, O_CLOEXEC) >= 0 ? 0 : err_errno(err, errno, "%s", path);
}

int criu_folders_reopen(struct criu_folders *folders, struct err *err)
{
    return reopen(folders->images_fd, folders->images, err) < 0 ? -1 : reopen(folders->work_fd, folders->work, err);
}

void criu_folders_done(struct criu_folders *folders)
{
    fd_close(folders->images_fd);
    fd_close(folders->work_fd);
    *folders = (struct criu_folders)CRIU_FOLDERS_NONE;
}

// The first error in the log, which is the reason of those after it. NULL when there is none.
static char *first_error(const char *log)
{
    struct buf text = BUF_INIT(LOG_MAX);
    struct slice rest, line;
    char *found = NULL;
    file_read_at(AT_FDCWD, log, &text, NULL);
    rest = slice_of(buf_text(&text));
    while (!found && slice_cut(&rest, '\n', &line)) {
        const char *word = memmem(line.data, line.size, "Error (", 7);
        if (word && !memmem(line.data, line.size, CRIU_NOISE, strlen(CRIU_NOISE)))
            found = mem_strndup(word, MIN_OF(line.size - (size_t)(word - line.data), (size_t)400));
    }
    buf_done(&text);
    return found;
}

int criu_failed(const struct criu_folders *folders, struct err *err)
{
    char text[ERR_MESSAGE_SIZE];
    if (access(folders->log, R_OK) < 0)
        return -1;
    _cleanup_free_ char *reason = strstr(err->message, "Error (") ? NULL : first_error(folders->log);
    snprintf(text, sizeof(text), "%s", err->message);
    return err_set(err, err->class, "%.400s%s%s (log file: %.200s)", text, reason ? ": " : "", reason ? reason : "", folders->log);
}

// ---- options --------------------------------------------------------------------------------------------------------

void criu_pair(struct buf *out, unsigned field, const char *first, const char *second)
{
    _cleanup_buf_ struct buf pair = BUF_INIT(16 << 10);
    pb_text(&pair, 1, first);
    pb_text(&pair, 2, second);
    pb_message(out, field, &pair);
}

void criu_common_options(const struct call *call, const struct container *container, const struct criu_folders *folders,
                         struct buf *out)
{
    static const struct {
        const char *flag;
        enum criu_option option;
    } flags[] = { { "shell-job", CRIU_SHELL_JOB }, { "ext-unix-sk", CRIU_EXT_UNIX_SK }, { "tcp-established", CRIU_TCP_ESTABLISHED },
                  { "file-locks", CRIU_FILE_LOCKS }, { "auto-dedup", CRIU_AUTO_DEDUP }, { "lazy-pages", CRIU_LAZY_PAGES } };
    pb_number(out, CRIU_IMAGES_DIR_FD, folders->images_fd);
    if (folders->work_fd >= 0)
        pb_number(out, CRIU_WORK_DIR_FD, folders->work_fd);
    pb_number(out, CRIU_LOG_LEVEL, LOG_LEVEL);
    pb_text(out, CRIU_LOG_FILE, strrchr(folders->log, '/') + 1);
    pb_flag(out, CRIU_NOTIFY_SCRIPTS, true);
    pb_flag(out, CRIU_ORPHAN_PTS_MASTER, true);
    pb_flag(out, CRIU_MANAGE_CGROUPS, true);
    pb_number(out, CRIU_MANAGE_CGROUPS_MODE, cgroups_mode(args_text(&call->args, "manage-cgroups-mode")));
    pb_number(out, CRIU_EMPTY_NS, CLONE_NEWNET); // links and addresses are whoever's who made them
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        pb_flag(out, flags[i].option, args_flag(&call->args, flags[i].flag));
    const char *file = kvs_get(&container->config.annotations, "org.criu.config");
    file = file ? file : DEFAULT_CONFIG;
    pb_text(out, CRIU_CONFIG_FILE, *file ? file : NULL); // what stands there wins; a missing file is none
}

// ---- mounts ---------------------------------------------------------------------------------------------------------

char *criu_resolved(struct arena *arena, int root_fd, const char *root, const char *path)
{
    char link[32], real[PATH_MAX];
    _cleanup_close_ int fd = path_open(root_fd, path, false, NULL);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = fd < 0 ? -1 : readlink(link, real, sizeof(real) - 1);
    if (size < 0)
        return NULL;
    real[size] = '\0';
    size_t skip = str_eq(root, "/") ? 0 : strlen(root);
    return str_starts(real, root) && real[skip] == '/' ? arena_strdup(arena, real + skip) : NULL;
}

// As the plan makes them: where the container has a cgroup namespace, or there is only cgroup2, they are mounts of its own.
int criu_cgroup_mounts(const struct container *container, const char *target, bool from, struct buf *out, struct err *err)
{
    struct cgroup_layout layout;
    char inside[PATH_MAX], outside[PATH_MAX];
    cgroup_layout_probe(&layout);
    if (layout.version == CGROUP_V2 || str_empty(container->cgroup) || config_namespace(&container->config, "cgroup"))
        return 0;
    for (size_t i = 0; i < layout.len; i++) {
        const char *point = layout.hierarchies[i].mount_point, *slash = strrchr(point, '/');
        if (snprintf(inside, sizeof(inside), "%s/%s", target, slash ? slash + 1 : point) >= (int)sizeof(inside) ||
            snprintf(outside, sizeof(outside), "%s/%s", point, container->cgroup) >= (int)sizeof(outside))
            return err_set(err, ERR_INVALID_ARGUMENT, "path of the cgroup is too long");
        criu_pair(out, CRIU_EXT_MNT, inside, from ? outside : inside);
    }
    return 0;
}

// Where nodes can't be made (a user namespace) they are binds of the host's. A name that is no mount hurts nobody.
void criu_device_mounts(const struct container *container, struct buf *out)
{
    static const char *const always[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty" };
    const struct oci_device *devices = container->config.linux_section->devices.items;
    for (size_t i = 0; i < ARRAY_LEN(always); i++)
        criu_pair(out, CRIU_EXT_MNT, always[i], always[i]);
    for (size_t i = 0; i < container->config.linux_section->devices.len; i++)
        if (!str_empty(devices[i].path))
            criu_pair(out, CRIU_EXT_MNT, devices[i].path, devices[i].path);
}
