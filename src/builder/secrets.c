// RUN --mount=type=secret: a file or a variable that the step has, and that is nowhere else. It is written into a folder below the daemon's run-time files,
// which are in memory on an ordinary host, bound into the container, and gone when the step is over; what a killed daemon left goes at the next
// start. Neither layer nor cache nor stream knows it: the step's key has its id alone.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "builder_private.h"

#define SECRET_MAX ((size_t)1 << 20)

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static const char *secrets_folder(const struct builder *builder, struct arena *arena)
{
    return arena_printf(arena, "%s/build-secrets", engine_exec_root(builder->engine));
}

int secrets_sweep(struct builder *builder, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    return file_remove_tree(AT_FDCWD, secrets_folder(builder, &arena), err);
}

static int write_secret(const struct run_mount *mount, const char *path, const struct buf *secret, struct err *err)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, errno, "secret");
    if (fchown(fd, (uid_t)MAX_OF(mount->uid, INT64_C(0)), (gid_t)MAX_OF(mount->gid, INT64_C(0))) < 0 ||
        fchmod(fd, mount->mode >= 0 ? (mode_t)(mount->mode & 07777) : 0400) < 0)
        return err_errno(err, errno, "secret");
    return fd_write_full(fd, buf_text(secret), secret->size, err);
}

int secrets_folder_make(struct stage *stage, struct step_mounts *out, struct err *err)
{
    struct build *build = stage->build;
    char random[17];
    if (out->secrets)
        return 0;
    random_hex(random, 16);
    const char *folder = arena_printf(build->arena, "%s/%s", secrets_folder(build->builder, build->arena), random);
    if (file_mkdirs(AT_FDCWD, folder, 0700, err) < 0)
        return -1;
    out->secrets = folder;
    return 0;
}

static int put_file(struct stage *stage, const struct run_mount *mount, const char *target, const struct buf *secret, struct step_mounts *out, struct err *err)
{
    if (secrets_folder_make(stage, out, err) < 0)
        return -1;
    const char *path = arena_printf(stage->build->arena, "%s/%zu", out->secrets, json_array_size(out->list));
    if (write_secret(mount, path, secret, err) < 0)
        return -1;
    json_array_append_new(out->list, json_pack("{s:s, s:s, s:o, s:b}", "Type", "bind", "Source", path, "Target", json_new_text(target), "ReadOnly", 1));
    return 0;
}

// A variable ends where its text does.
static int put_variable(const char *name, const struct buf *secret, struct step_mounts *out, struct err *err)
{
    if (memchr(buf_text(secret), 0, secret->size))
        return err_set(err, ERR_INVALID_ARGUMENT, "secret %s: a variable can't have a NUL byte", name);
    strv_addf(&out->env, "%s=%.*s", name, (int)secret->size, buf_text(secret));
    return 0;
}

// As a variable alone, unless a place is named as well.
static int put(struct stage *stage, const struct run_mount *mount, const char *id, const struct buf *secret, struct step_mounts *out, struct err *err)
{
    struct arena *arena = stage->build->arena;
    if (mount->env && put_variable(str_empty(mount->env) ? id : mount->env, secret, out, err) < 0)
        return -1;
    if (mount->env && str_empty(mount->target))
        return 0;
    const char *path = str_empty(mount->target) ? arena_printf(arena, "/run/secrets/%s", base_name(id)) : mount->target;
    return put_file(stage, mount, join_path(arena, stage->config.working_dir, path), secret, out, err);
}

int secret_add(struct stage *stage, const struct run_mount *mount, struct step_mounts *out, struct err *err)
{
    struct arena *arena = stage->build->arena;
    const char *id = !str_empty(mount->id) ? mount->id : str_empty(mount->target) ? NULL : base_name(mount->target);
    struct buf secret = BUF_INIT(SECRET_MAX);
    struct err missing = { 0 };
    if (str_empty(id))
        return err_set(err, ERR_INVALID_ARGUMENT, "a secret needs an id or a target");
    out->key = arena_printf(arena, "%s%s\n", out->key, mount->raw);
    source_note(stage->build, &(const struct build_source){ BUILD_SOURCE_SECRET, id, NULL, NULL, !mount->required });
    int result = crew_secret(stage->build, id, &secret, &missing);
    if (result == 0)
        result = put(stage, mount, id, &secret, out, err);
    else if (missing.class != ERR_NOT_FOUND)
        result = err_set(err, missing.class, "secret %s: %s", id, missing.message);
    else // a step may do without one
        result = mount->required ? err_set(err, ERR_INVALID_ARGUMENT, "secret %s: not found", id) : 0;
    if (secret.size)
        explicit_bzero(secret.data, secret.size);
    buf_done(&secret);
    return result;
}

void secrets_close(struct step_mounts *mounts)
{
    for (size_t i = 0; i < mounts->env.len; i++)
        explicit_bzero(mounts->env.items[i], strlen(mounts->env.items[i]));
    strv_done(&mounts->env);
    if (mounts->secrets)
        file_remove_tree(AT_FDCWD, mounts->secrets, NULL);
}
