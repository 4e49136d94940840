// Collection, while pushes and pulls go on. A blob that has been pushed waits for its manifest as long as the grace time
// says; a file is read to its end by whoever has it open.
#include <errno.h>
#include <fcntl.h>

#include "registry_private.h"

struct pairs {
    struct arena *arena;
    struct strv *repositories, *digests;
};

static int take_pair(void *context, const struct store_row *row, struct err *err)
{
    const struct pairs *pairs = context;
    strv_push_arena(pairs->repositories, pairs->arena, store_text(row, 0));
    strv_push_arena(pairs->digests, pairs->arena, store_text(row, 1));
    return 0;
}

static const char unnamed[] =
    "SELECT repository, digest FROM repository_blobs r WHERE pushed_ns < ?1 AND NOT EXISTS"
    " (SELECT 1 FROM manifest_blobs m WHERE m.repository = r.repository AND m.digest = r.digest)";

static void count(struct registry *registry, const char *path, struct registry_collected *out)
{
    struct stat status;
    if (fstatat(registry->root_fd, path, &status, AT_SYMLINK_NOFOLLOW) == 0)
        out->blob_bytes += status.st_size;
    out->blobs++;
}

// One blob of one repository: asked again under the lock, since it may have been named meanwhile.
static int unlink_one(struct registry *registry, const char *repository, const char *digest, int64_t before_ns,
                      struct registry_collected *out, struct err *err) REQUIRES(registry->files)
{
    bool dropped;
    char path[BLOB_PATH_SIZE];
    digest_path(digest, path);
    if (store_begin(registry->store, err) < 0)
        return -1;
    if (store_exec(registry->store, err,
                   "DELETE FROM repository_blobs WHERE repository = ?2 AND digest = ?3 AND pushed_ns < ?1 AND NOT EXISTS"
                   " (SELECT 1 FROM manifest_blobs m WHERE m.repository = ?2 AND m.digest = ?3)", "itt", before_ns, repository,
                   digest) < 0 ||
        record_drop_unused(registry, digest, &dropped, err) < 0) {
        store_rollback(registry->store);
        return -1;
    }
    if (dropped)
        count(registry, path, out);
    return record_commit_drop(registry, digest, dropped, err);
}

static int collect_unnamed(struct registry *registry, int64_t before_ns, struct registry_collected *out, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct strv repositories = { 0 }, digests = { 0 };
    struct pairs pairs = { &arena, &repositories, &digests };
    if (store_query(registry->store, err, take_pair, &pairs, unnamed, "i", before_ns) < 0)
        return -1;
    for (size_t i = 0; i < digests.len; i++) {
        mutex_lock(&registry->files);
        int result = unlink_one(registry, repositories.items[i], digests.items[i], before_ns, out, err);
        mutex_unlock(&registry->files);
        if (result < 0)
            return -1;
    }
    return 0;
}

// ---- files without a record -----------------------------------------------------------------------------------------

static int take_flag(void *context, const struct store_row *row, struct err *err)
{
    *(bool *)context = true;
    return 0;
}

// Under the lock no file is between its name and its record.
static int unlink_if_unknown(struct registry *registry, const char *digest, struct registry_collected *out, struct err *err)
    REQUIRES(registry->files)
{
    bool known = false;
    char path[BLOB_PATH_SIZE];
    if (!digest_valid(digest))
        return 0; // not ours
    digest_path(digest, path);
    if (store_query(registry->store, err, take_flag, &known, "SELECT 1 FROM blobs WHERE digest = ?", "t", digest) < 0)
        return -1;
    if (known)
        return 0;
    count(registry, path, out);
    return unlinkat(registry->root_fd, path, 0) < 0 && errno != ENOENT ? err_errno(err, errno, "%s", path) : 0;
}

static int collect_files(struct registry *registry, const char *algorithm, struct registry_collected *out, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    _cleanup_free_ char *folder = mem_printf("blobs/%s", algorithm);
    if (file_list_names(registry->root_fd, folder, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        _cleanup_free_ char *digest = mem_printf("%s:%s", algorithm, names.items[i]);
        mutex_lock(&registry->files);
        int result = unlink_if_unknown(registry, digest, out, err);
        mutex_unlock(&registry->files);
        if (result < 0)
            return -1;
    }
    return 0;
}

int registry_collect(struct registry *registry, int64_t grace_ns, struct registry_collected *out, struct err *err)
{
    struct registry_collected collected = { 0 };
    int64_t before_ns = clock_wall_ns() - grace_ns;
    if (is_cache(registry) && registry->keep_ns && proxy_forget(registry, clock_wall_ns() - registry->keep_ns, err) < 0)
        return err_wrap(err, "collect");
    if (collect_unnamed(registry, before_ns, &collected, err) < 0 || collect_files(registry, "sha256", &collected, err) < 0 ||
        collect_files(registry, "sha512", &collected, err) < 0 ||
        uploads_collect(registry, before_ns, &collected.uploads, err) < 0)
        return err_wrap(err, "collect");
    if (is_shared(registry) && registry->engine.collect(registry->engine.context, err) < 0)
        return err_wrap(err, "collect");
    *out = collected;
    return 0;
}
