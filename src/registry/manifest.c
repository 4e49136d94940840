// Manifests: put by tag or digest, got by either, deleted by either.
#include <errno.h>
#include <fcntl.h>

#include "registry_private.h"

// ---- reading --------------------------------------------------------------------------------------------------------

struct found {
    struct arena *arena;
    char *digest, *media_type;
};

static int take_found(void *context, const struct store_row *row, struct err *err)
{
    struct found *found = context;
    found->digest = arena_strdup(found->arena, store_text(row, 0));
    found->media_type = arena_strdup(found->arena, store_text(row, 1));
    return 0;
}

// The manifest that the call's reference names, NULL for its digest: the registry itself has none. False: answered.
static bool find_own(struct call *call, struct found *out)
{
    struct err err = { 0 };
    bool by_digest = strchr(call->reference, ':') != NULL;
    *out = (struct found){ .arena = call->arena };
    if (by_digest && !digest_valid(call->reference)) {
        call_refuse(call, DIGEST_INVALID, "%s: not a digest", call->reference);
        return false;
    }
    if (store_query(call->registry->store, &err, take_found, out,
                    by_digest ? "SELECT digest, media_type FROM manifests WHERE repository = ? AND digest = ?"
                              : "SELECT m.digest, m.media_type FROM tags t JOIN manifests m ON m.repository = t.repository"
                                " AND m.digest = t.digest WHERE t.repository = ? AND t.name = ?",
                    "tt", call->repository, call->reference) < 0) {
        call_failed(call, &err);
        return false;
    }
    return true;
}

static void refuse_unknown(struct call *call)
{
    call_refuse(call, MANIFEST_UNKNOWN, "%s has no manifest %s", call->repository, call->reference);
}

void handle_manifest_get(struct call *call)
{
    struct found found;
    if ((is_cache(call->registry) && !proxy_manifest(call)) || !find_own(call, &found))
        return;
    if (found.digest)
        blob_serve(call, found.digest, found.media_type);
    else if (!is_shared(call->registry) || !backing_serve_manifest(call))
        refuse_unknown(call);
}

// ---- putting --------------------------------------------------------------------------------------------------------

struct put {
    struct manifest manifest;
    char digest[DIGEST_SIZE];
    struct strv tags;
    bool copy; // of another registry's: what it names need not be here
};

// The digest that the bytes must have, or that they get. False: answered.
static bool check_reference(struct call *call, struct put *put, const char *text, size_t size)
{
    bool by_digest = strchr(call->reference, ':') != NULL;
    if (by_digest ? !digest_valid(call->reference) : !tag_valid(call->reference)) {
        call_refuse(call, by_digest ? DIGEST_INVALID : TAG_INVALID, "%s: not a %s", call->reference,
                    by_digest ? "digest" : "tag");
        return false;
    }
    httpd_query_all(call->request, "tag", &put->tags);
    for (size_t i = 0; i < put->tags.len; i++)
        if (!tag_valid(put->tags.items[i])) {
            call_refuse(call, TAG_INVALID, "%s: not a tag", put->tags.items[i]);
            return false;
        }
    if (!by_digest)
        strv_push_arena(&put->tags, call->arena, call->reference);
    struct digest_hash *hash = digest_hash_new(by_digest ? call->reference : "sha256");
    digest_hash_add(hash, text, size);
    digest_hash_end(hash, put->digest);
    if (!by_digest || str_eq(put->digest, call->reference))
        return true;
    call_refuse(call, DIGEST_INVALID, "what arrived is %s, not %s", put->digest, call->reference);
    return false;
}

static bool read_body(struct call *call, struct put *put, const char *text, size_t size)
{
    struct err err = { 0 };
    if (manifest_read(text, size, httpd_header(call->request, "Content-Type"), call->arena, &put->manifest, &err) == 0)
        return true;
    call_refuse(call, err.class == ERR_NOT_IMPLEMENTED ? UNSUPPORTED_MEDIA : MANIFEST_INVALID, "%s", err.message);
    return false;
}

// All that the manifest names must be in the repository. *missing: the first that is not.
static int check_parts(struct call *call, const struct manifest *manifest, const char **missing, struct err *err)
{
    *missing = NULL;
    for (size_t i = 0; i < manifest->blobs.len; i++) {
        int found = record_has_blob(call, call->repository, manifest->blobs.items[i], err);
        if (found <= 0) {
            *missing = manifest->blobs.items[i];
            return found;
        }
    }
    for (size_t i = 0; i < manifest->children.len; i++) {
        char *found = NULL;
        if (record_text(call, &found, err, "SELECT digest FROM manifests WHERE repository = ? AND digest = ?", "tt",
                        call->repository, manifest->children.items[i]) < 0)
            return -1;
        if (!found) {
            *missing = manifest->children.items[i];
            return 0;
        }
    }
    return 0;
}

static int record_tags(struct call *call, const struct put *put, struct err *err)
{
    for (size_t i = 0; i < put->tags.len; i++)
        if (store_exec(call->registry->store, err,
                       "INSERT INTO tags(repository, name, digest) VALUES(?, ?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest",
                       "ttt", call->repository, put->tags.items[i], put->digest) < 0)
            return -1;
    return 0;
}

// Checked again in the transaction: a collection may have come between.
static int record_put(struct call *call, void *context, struct err *err)
{
    const struct put *put = context;
    const struct manifest *manifest = &put->manifest;
    struct store *store = call->registry->store;
    const char *missing;
    if (!put->copy && check_parts(call, manifest, &missing, err) < 0)
        return -1;
    if (!put->copy && missing)
        return err_set(err, ERR_NOT_FOUND, "%s has no %s", call->repository, missing);
    if (store_exec(store, err,
                   "INSERT OR IGNORE INTO manifests(repository, digest, media_type, artifact_type, subject, annotations, pushed_ns)"
                   " VALUES(?, ?, ?, ?, ?, ?, ?)", "tttttti", call->repository, put->digest, manifest->media_type,
                   manifest->artifact_type, manifest->subject, manifest->annotations, clock_wall_ns()) < 0)
        return -1;
    for (size_t i = 0; i < manifest->blobs.len; i++)
        if (store_exec(store, err, "INSERT OR IGNORE INTO manifest_blobs(repository, manifest, digest) VALUES(?, ?, ?)", "ttt",
                       call->repository, put->digest, manifest->blobs.items[i]) < 0)
            return -1;
    return record_tags(call, put, err);
}

static int keep(struct call *call, struct put *put, const char *text, size_t size, struct err *err)
{
    char path[sizeof("uploads/manifest-") + UPLOAD_ID_LEN];
    memcpy(path, "uploads/manifest-", sizeof("uploads/manifest-"));
    random_hex(path + strlen(path), UPLOAD_ID_LEN);
    if (file_write_at(call->registry->root_fd, path, text, size, 0600, false, err) < 0)
        return -1;
    return blob_commit(call, path, put->digest, (int64_t)size, record_put, put, err);
}

int manifest_keep(struct call *call, const char *digest, const char *media_type, const char *text, size_t size, struct err *err)
{
    struct put put = { .copy = true };
    if (manifest_read(text, size, media_type, call->arena, &put.manifest, err) < 0)
        return err_wrap(err, "manifest %s", digest);
    snprintf(put.digest, sizeof(put.digest), "%s", digest);
    return keep(call, &put, text, size, err);
}

// Those that were asked for beside the path.
static void set_tags(struct call *call, const struct put *put)
{
    _cleanup_buf_ struct buf list = BUF_INIT(16 << 10);
    if (!httpd_query(call->request, "tag"))
        return;
    for (size_t i = 0; i < put->tags.len; i++)
        buf_addf(&list, "%s%s", i ? ", " : "", put->tags.items[i]);
    httpd_set_header(call->request, "OCI-Tag", buf_text(&list));
}

// ---- an image for the engine ----------------------------------------------------------------------------------------

static int open_own(void *context, const char *digest, struct err *err)
{
    struct call *call = context;
    char path[BLOB_PATH_SIZE];
    int found = digest_valid(digest) ? record_has_blob(call, call->repository, digest, err) : 0;
    if (found <= 0)
        return found < 0 ? -1 : err_set(err, ERR_NOT_FOUND, "%s has no %.80s", call->repository, digest);
    digest_path(digest, path);
    int fd = openat(call->registry->root_fd, path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "%s", path) : fd;
}

// Whether the push is done with: the engine has the image, or it was refused. What has no tag has to stay as it is, and what refers to
// another manifest is found here.
static bool give_engine(struct call *call, const struct put *put, const char *text)
{
    bool answered = false;
    const struct registry_image image = { call->repository, put->digest, text, &put->tags, open_own, call };
    if (!is_shared(call->registry) || strchr(call->reference, ':') || put->manifest.subject || put->manifest.children.len)
        return false;
    if (backing_take(call, &image, &answered) && !answered) {
        set_tags(call, put);
        set_place(call, "manifests", put->digest);
        call_reply(call, 201);
        answered = true;
    }
    return answered;
}

void handle_manifest_put(struct call *call)
{
    size_t size;
    struct err err = { 0 };
    struct put put = { 0 };
    const char *text = httpd_body_text(call->request, &size);
    if (!check_reference(call, &put, text, size) || !read_body(call, &put, text, size))
        return;
    if (give_engine(call, &put, text))
        return;
    if ((is_shared(call->registry) && backing_adopt(call, &put.manifest, &err) < 0) || keep(call, &put, text, size, &err) < 0) {
        if (err.class == ERR_NOT_FOUND)
            call_refuse(call, MANIFEST_BLOB_UNKNOWN, "%s", err.message);
        else
            call_failed(call, &err);
        return;
    }
    if (put.manifest.subject)
        httpd_set_header(call->request, "OCI-Subject", put.manifest.subject);
    set_tags(call, &put);
    set_place(call, "manifests", put.digest);
    call_reply(call, 201);
}

// ---- deleting -------------------------------------------------------------------------------------------------------

static int delete_tag(struct call *call, struct err *err)
{
    struct store *store = call->registry->store;
    if (store_begin(store, err) < 0)
        return -1;
    if (store_exec(store, err, "DELETE FROM tags WHERE repository = ? AND name = ?", "tt", call->repository, call->reference) < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

// With its tags. What it named stays until a collection finds that nothing else does.
int manifest_drop(struct registry *registry, const char *repository, const char *digest, struct err *err)
{
    bool dropped;
    if (store_begin(registry->store, err) < 0)
        return -1;
    if (store_exec(registry->store, err, "DELETE FROM manifests WHERE repository = ? AND digest = ?", "tt", repository, digest) < 0 ||
        record_drop_unused(registry, digest, &dropped, err) < 0) {
        store_rollback(registry->store);
        return -1;
    }
    return record_commit_drop(registry, digest, dropped, err);
}

void handle_manifest_delete(struct call *call)
{
    struct err err = { 0 };
    struct found found;
    if (!find_own(call, &found))
        return;
    if (!found.digest) {
        if (!is_shared(call->registry) || !backing_refuse_delete(call))
            refuse_unknown(call);
        return;
    }
    mutex_lock(&call->registry->files);
    int result = strchr(call->reference, ':') ? manifest_drop(call->registry, call->repository, found.digest, &err) : delete_tag(call, &err);
    mutex_unlock(&call->registry->files);
    if (result < 0)
        call_failed(call, &err);
    else
        call_reply(call, 202);
}
