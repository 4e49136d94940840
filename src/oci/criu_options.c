#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>

#include "base/file.h"
#include "base/slice.h"
#include "kernel/path.h"
#include "oci/oci_private.h"
#include "criu/protobuf.h"

#define DEFAULT_IMAGES "checkpoint"

// ---- flags ----------------------------------------------------------------------------------------------------------

// No word is CRIU's own default, which is "soft".
static int cgroups_mode(const char *word)
{
    static const struct {
        const char *word;
        int number;
    } modes[] = { { "ignore", CRIU_CGROUPS_IGNORE }, { "soft", CRIU_CGROUPS_SOFT }, { "full", CRIU_CGROUPS_FULL },
                  { "strict", CRIU_CGROUPS_STRICT }, { "", CRIU_CGROUPS_DEFAULT } };
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

int criu_failed(const struct criu_folders *folders, struct err *err)
{
    char text[ERR_MESSAGE_SIZE];
    if (access(folders->log, R_OK) < 0)
        return -1;
    _cleanup_free_ char *reason = strstr(err->message, "Error (") ? NULL : criu_first_error(AT_FDCWD, folders->log);
    snprintf(text, sizeof(text), "%s", err->message);
    return err_set(err, err->class, "%.400s%s%s (log file: %.200s)", text, reason ? ": " : "", reason ? reason : "", folders->log);
}

// ---- options --------------------------------------------------------------------------------------------------------

void criu_common_options(const struct call *call, const struct container *container, const struct criu_folders *folders,
                         struct buf *out)
{
    static const struct {
        const char *flag;
        enum criu_option option;
    } flags[] = { { "shell-job", CRIU_SHELL_JOB }, { "ext-unix-sk", CRIU_EXT_UNIX_SK }, { "tcp-established", CRIU_TCP_ESTABLISHED },
                  { "file-locks", CRIU_FILE_LOCKS }, { "auto-dedup", CRIU_AUTO_DEDUP }, { "lazy-pages", CRIU_LAZY_PAGES } };
    const char *file = kvs_get(&container->config.annotations, "org.criu.config");
    criu_begin_options(folders->images_fd, strrchr(folders->log, '/') + 1, (enum criu_cgroups)cgroups_mode(args_text(&call->args, "manage-cgroups-mode")),
                       file ? file : CRIU_CONFIG, out);
    if (folders->work_fd >= 0)
        pb_number(out, CRIU_WORK_DIR_FD, folders->work_fd);
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        pb_flag(out, flags[i].option, args_flag(&call->args, flags[i].flag));
}

int oci_cgroup_mounts(const struct container *container, const char *target, bool from, struct buf *out, struct err *err)
{
    return config_namespace(&container->config, "cgroup") ? 0 : criu_cgroup_mounts(container->cgroup, target, from, out, err);
}
