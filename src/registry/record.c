// The records. A repository is there while something is recorded under its name. A blob's file is in use while a
// repository has the blob or a manifest with that digest.
#include <errno.h>

#include "registry_private.h"

const char *const registry_migrations[] = {
    "CREATE TABLE blobs(digest TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE repository_blobs(repository TEXT NOT NULL, digest TEXT NOT NULL REFERENCES blobs(digest),"
    " pushed_ns INTEGER NOT NULL, PRIMARY KEY(repository, digest)) WITHOUT ROWID;"
    "CREATE INDEX repository_blobs_by_digest ON repository_blobs(digest);"
    "CREATE TABLE manifests(repository TEXT NOT NULL, digest TEXT NOT NULL REFERENCES blobs(digest),"
    " media_type TEXT NOT NULL, artifact_type TEXT, subject TEXT, annotations TEXT, pushed_ns INTEGER NOT NULL,"
    " PRIMARY KEY(repository, digest)) WITHOUT ROWID;"
    "CREATE INDEX manifests_by_digest ON manifests(digest);"
    "CREATE INDEX manifests_by_subject ON manifests(repository, subject);"
    "CREATE TABLE manifest_blobs(repository TEXT NOT NULL, manifest TEXT NOT NULL, digest TEXT NOT NULL,"
    " PRIMARY KEY(repository, manifest, digest),"
    " FOREIGN KEY(repository, manifest) REFERENCES manifests(repository, digest) ON DELETE CASCADE) WITHOUT ROWID;"
    "CREATE INDEX manifest_blobs_by_digest ON manifest_blobs(repository, digest);"
    "CREATE TABLE tags(repository TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY(repository, name),"
    " FOREIGN KEY(repository, digest) REFERENCES manifests(repository, digest) ON DELETE CASCADE) WITHOUT ROWID;"
    "CREATE INDEX tags_by_digest ON tags(repository, digest);"
    "CREATE TABLE uploads(id TEXT PRIMARY KEY, repository TEXT NOT NULL, started_ns INTEGER NOT NULL) WITHOUT ROWID;",
    // Of tags that are the engine's: the manifest that they were pushed with, of several that the image may have.
    ("CREATE TABLE engine_tags(repository TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY(repository, name)) WITHOUT ROWID;"),
};
const size_t registry_migration_len = ARRAY_LEN(registry_migrations);

// ---- questions ------------------------------------------------------------------------------------------------------

struct one_text {
    struct arena *arena;
    char *text;
};

static int take_text(void *context, const struct store_row *row, struct err *err)
{
    struct one_text *one = context;
    one->text = arena_strdup(one->arena, store_text(row, 0));
    return 0;
}

// Up to three texts: what the registry asks by.
int record_text(struct call *call, char **out, struct err *err, const char *sql, const char *types, ...)
{
    struct one_text one = { call->arena, NULL };
    const char *values[3] = { NULL };
    va_list args;
    va_start(args, types);
    for (size_t i = 0; types[i] && i < ARRAY_LEN(values); i++)
        values[i] = va_arg(args, const char *);
    va_end(args);
    if (store_query(call->registry->store, err, take_text, &one, sql, types, values[0], values[1], values[2]) < 0)
        return -1;
    *out = one.text;
    return 0;
}

int record_has_blob(struct call *call, const char *repository, const char *digest, struct err *err)
{
    char *found = NULL;
    if (record_text(call, &found, err, "SELECT digest FROM repository_blobs WHERE repository = ? AND digest = ?", "tt",
                    repository, digest) < 0)
        return -1;
    return found != NULL;
}

int record_has_repository(struct call *call, struct err *err)
{
    char *found = NULL;
    if (record_text(call, &found, err,
                    "SELECT repository FROM repository_blobs WHERE repository = ?1 UNION ALL"
                    " SELECT repository FROM manifests WHERE repository = ?1 LIMIT 1", "t", call->repository) < 0)
        return -1;
    return found != NULL;
}

// ---- changes --------------------------------------------------------------------------------------------------------

int record_blob(struct call *call, const char *digest, int64_t size, struct err *err)
{
    return store_exec(call->registry->store, err, "INSERT OR IGNORE INTO blobs(digest, size) VALUES(?, ?)", "ti", digest, size);
}

int record_link(struct call *call, const char *digest, struct err *err)
{
    return store_exec(call->registry->store, err,
                      "INSERT INTO repository_blobs(repository, digest, pushed_ns) VALUES(?, ?, ?)"
                      " ON CONFLICT DO UPDATE SET pushed_ns = excluded.pushed_ns", "tti", call->repository, digest,
                      clock_wall_ns());
}

static int take_flag(void *context, const struct store_row *row, struct err *err)
{
    *(bool *)context = true;
    return 0;
}

int record_drop_unused(struct registry *registry, const char *digest, bool *dropped, struct err *err)
{
    bool used = false;
    *dropped = false;
    if (store_query(registry->store, err, take_flag, &used,
                    "SELECT 1 FROM repository_blobs WHERE digest = ?1 UNION ALL SELECT 1 FROM manifests WHERE digest = ?1 LIMIT 1",
                    "t", digest) < 0)
        return -1;
    if (used)
        return 0;
    *dropped = true;
    return store_exec(registry->store, err, "DELETE FROM blobs WHERE digest = ?", "t", digest);
}

int record_commit_drop(struct registry *registry, const char *digest, bool dropped, struct err *err)
{
    char path[BLOB_PATH_SIZE];
    if (store_commit(registry->store, err) < 0)
        return -1;
    digest_path(digest, path);
    if (dropped && unlinkat(registry->root_fd, path, 0) < 0 && errno != ENOENT)
        return err_errno(err, errno, "%s", path);
    return 0;
}
