// The folders of cache mounts, <data root>/build-cache/<name>, as records: what they are for and when they were used.
#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "builder_private.h"

char *mounts_path(const struct builder *builder, const char *name, struct arena *arena)
{
    return arena_printf(arena, "%s/build-cache/%s", engine_data_root(builder->engine), name);
}

static int record(struct store *store, const char *name, const char *description, int64_t uses, struct err *err)
{
    int64_t now_ns = clock_wall_ns();
    if (store_begin(store, err) < 0)
        return -1;
    if (store_exec(store, err, "INSERT INTO build_mounts(name, description, created_ns, used_ns, uses) VALUES(?, ?, ?, ?, ?)"
                   " ON CONFLICT(name) DO UPDATE SET description = excluded.description, used_ns = excluded.used_ns, uses = uses + 1",
                   "ttiii", name, description, now_ns, now_ns, uses) < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

int mount_note(struct stage *stage, const char *name, const char *target, const char *id, struct err *err)
{
    struct build *build = stage->build;
    struct builder *builder = build->builder;
    const char *description = arena_printf(build->arena, "cached mount %s with id \"%s\"", target, id);
    mutex_lock(&builder->lock);
    strv_add(&build->crew->made, arena_printf(build->arena, "sha256:%s", name)); // until the build is over
    mutex_unlock(&builder->lock);
    return record(builder->store, name, description, 1, err);
}

int mount_forget(struct builder *builder, const char *name, struct arena *arena, const char **gone, struct err *err)
{
    char random[17];
    random_hex(random, 16);
    *gone = arena_printf(arena, "%s/staging/cache-%s", engine_data_root(builder->engine), random);
    if (rename(mounts_path(builder, name, arena), *gone) < 0 && errno != ENOENT)
        return err_errno(err, errno, "cache folder");
    return cache_exec(builder->store, "DELETE FROM build_mounts WHERE name = ?", name, err);
}

static int take_name(void *context, const struct store_row *row, struct err *err)
{
    strv_add(context, store_text(row, 0));
    return 0;
}

// Folders that have no record (of a daemon that kept none) get one, records without a folder go.
int mounts_sweep(struct builder *builder, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_strv_ struct strv known = { 0 }, found = { 0 };
    const char *folder = mounts_path(builder, "", &arena);
    struct err missing = { 0 };
    if (store_query(builder->store, err, take_name, &known, "SELECT name FROM build_mounts", "") < 0)
        return -1;
    if (file_list_names(AT_FDCWD, folder, &found, &missing) < 0 && missing.number != ENOENT)
        return err_set(err, missing.class, "%s", missing.message);
    for (size_t i = 0; i < found.len; i++)
        if (!strchr(found.items[i], '.') && !strv_has(&known, found.items[i]) && record(builder->store, found.items[i], "cached mount", 0, err) < 0)
            return -1;
    for (size_t i = 0; i < known.len; i++)
        if (!strv_has(&found, known.items[i]) && cache_exec(builder->store, "DELETE FROM build_mounts WHERE name = ?", known.items[i], err) < 0)
            return -1;
    return 0;
}
