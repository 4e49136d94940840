// The engine's store behind the registry (registry.h: struct registry_engine). What the registry has itself comes first: that is what no image
// of the engine can be, uploads that wait for their manifest, and copies of what something else of it names.
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "registry_private.h"

enum { STREAMS_MAX = 64 };

static void blob_close(struct registry_blob *blob)
{
    fd_close(take_fd(&blob->fd));
    fd_close(take_fd(&blob->aside_fd));
}

static int open_blob(struct call *call, const char *digest, bool bytes, struct registry_blob *out, struct err *err)
{
    const struct registry_engine *engine = &call->registry->engine;
    *out = (struct registry_blob){ -1, -1, 0 };
    return engine->blob(engine->context, digest, bytes, out, err);
}

int backing_has_blob(struct call *call, const char *digest, struct err *err)
{
    struct registry_blob blob;
    int found = open_blob(call, digest, false, &blob, err);
    blob_close(&blob);
    return found;
}

// ---- handing out ----------------------------------------------------------------------------------------------------

static int send_pipe(void *context, int pipe_fd, size_t size)
{
    return httpd_stream_splice(context, pipe_fd, size);
}

// Each is a process, and a file of the layer's size where layers are folders. True: answered.
static bool refuse_more(struct call *call)
{
    if (atomic_fetch_add(&call->registry->streams, 1) < STREAMS_MAX)
        return false;
    atomic_fetch_sub(&call->registry->streams, 1);
    call_refuse(call, UNAVAILABLE, "%d layers are being made again for other clients", STREAMS_MAX);
    return true;
}

// Made as it goes out: what fails on the way shows as missing bytes.
static void stream_blob(struct call *call, const struct registry_blob *blob)
{
    const struct registry_engine *engine = &call->registry->engine;
    struct range range;
    struct err err = { 0 };
    int status = blob_range(call, call->reference, blob->size, &range);
    if (status < 0)
        return;
    int64_t size = range.end - range.start + 1;
    if (httpd_stream_begin_sized(call->request, status, "application/octet-stream", size) < 0 || call->head || size == 0)
        return;
    if (engine->send(engine->context, blob, call->reference, range.start, size, send_pipe, call->request, httpd_cancel(call->request), &err) < 0)
        httpd_stream_abort(call->request);
}

static bool serve_blob(struct call *call)
{
    struct registry_blob blob;
    struct err err = { 0 };
    int found = open_blob(call, call->reference, !call->head, &blob, &err);
    if (found < 0)
        call_failed(call, &err);
    else if (found && blob.aside_fd < 0)
        blob_serve_file(call, call->reference, "application/octet-stream", take_fd(&blob.fd), blob.size);
    else if (found)
        stream_blob(call, &blob);
    blob_close(&blob);
    return found != 0;
}

bool backing_serve_blob(struct call *call)
{
    if (call->head)
        return serve_blob(call);
    if (refuse_more(call))
        return true;
    bool served = serve_blob(call);
    atomic_fetch_sub(&call->registry->streams, 1);
    return served;
}

static int find_manifest(struct call *call, const char *reference, struct registry_manifest *out, struct err *err)
{
    const struct registry_engine *engine = &call->registry->engine;
    char *last = NULL;
    if (!strchr(reference, ':') &&
        record_text(call, &last, err, "SELECT digest FROM engine_tags WHERE repository = ? AND name = ?", "tt", call->repository, reference) < 0)
        return -1;
    return engine->manifest(engine->context, call->repository, reference, last, call->arena, out, err);
}

bool backing_serve_manifest(struct call *call)
{
    struct registry_manifest manifest;
    struct err err = { 0 };
    int found = find_manifest(call, call->reference, &manifest, &err);
    if (found < 0) {
        call_failed(call, &err);
    } else if (found) {
        httpd_set_header(call->request, "Docker-Content-Digest", manifest.digest);
        set_headerf(call, "ETag", "\"%s\"", manifest.digest);
        metrics_count(call->registry, 200);
        httpd_reply(call->request, 200, manifest.media_type, manifest.text, strlen(manifest.text));
    }
    return found != 0;
}

bool backing_refuse_delete(struct call *call)
{
    struct registry_manifest manifest;
    struct err err = { 0 };
    int found = find_manifest(call, call->reference, &manifest, &err);
    if (found == 0)
        found = backing_has_blob(call, call->reference, &err);
    if (found < 0)
        call_failed(call, &err);
    else if (found)
        call_refuse(call, UNSUPPORTED, "%s: of an image of the engine, which removes it (docker rmi)", call->reference);
    return found != 0;
}

// ---- filling --------------------------------------------------------------------------------------------------------

// The tags are the engine's from now on; what of the registry's own had such a name is found by its digest.
static int hand_tags_over(struct call *call, const struct registry_image *image, struct err *err)
{
    struct store *store = call->registry->store;
    if (store_begin(store, err) < 0)
        return -1;
    for (size_t i = 0; i < image->tags->len; i++)
        if (store_exec(store, err, "DELETE FROM tags WHERE repository = ? AND name = ?", "tt", call->repository, image->tags->items[i]) < 0 ||
            store_exec(store, err, "INSERT INTO engine_tags(repository, name, digest) VALUES(?, ?, ?)"
                                   " ON CONFLICT DO UPDATE SET digest = excluded.digest", "ttt", call->repository, image->tags->items[i],
                       image->digest) < 0) {
            store_rollback(store);
            return -1;
        }
    return store_commit(store, err);
}

bool backing_take(struct call *call, const struct registry_image *image, bool *answered)
{
    const struct registry_engine *engine = &call->registry->engine;
    struct err err = { 0 };
    int taken = engine->take(engine->context, image, &err);
    if (taken > 0 && hand_tags_over(call, image, &err) < 0)
        taken = -1;
    *answered = taken < 0;
    if (taken >= 0)
        return taken > 0;
    if (err.class == ERR_NOT_FOUND)
        call_refuse(call, MANIFEST_BLOB_UNKNOWN, "%s", err.message);
    else if (err.class == ERR_INVALID_ARGUMENT)
        call_refuse(call, MANIFEST_INVALID, "%s", err.message);
    else if (err.class == ERR_RESOURCE_EXHAUSTED) // what inflates without end, above all
        call_refuse(call, SIZE_INVALID, "%s", err.message);
    else
        call_failed(call, &err);
    return true;
}

// ---- copies ---------------------------------------------------------------------------------------------------------

static int link_blob(struct call *call, void *context, struct err *err)
{
    return record_link(call, context, err);
}

static int write_pipe(void *context, int pipe_fd, size_t size)
{
    while (size > 0) {
        ssize_t n = splice(pipe_fd, NULL, *(const int *)context, NULL, size, 0);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            return -1;
        size -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

// A file gets a second name, so that it is there once; a tar is written.
static int copy_to(struct call *call, struct registry_blob *blob, const char *digest, const char *path, struct err *err)
{
    static const struct cancel never = CANCEL_NEVER;
    const struct registry_engine *engine = &call->registry->engine;
    char from[32];
    snprintf(from, sizeof(from), "/proc/self/fd/%d", blob->fd);
    if (blob->aside_fd < 0)
        return linkat(AT_FDCWD, from, call->registry->root_fd, path, AT_SYMLINK_FOLLOW) < 0 ? err_errno(err, errno, "%s", path) : 0;
    _cleanup_close_ int fd = openat(call->registry->root_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, errno, "%s", path);
    return blob->size == 0 ? 0 : engine->send(engine->context, blob, digest, 0, blob->size, write_pipe, &fd, &never, err);
}

static int adopt_blob(struct call *call, const char *digest, struct err *err)
{
    char path[sizeof("uploads/adopt-") + UPLOAD_ID_LEN] = "uploads/adopt-";
    struct registry_blob blob;
    int there = record_has_blob(call, call->repository, digest, err);
    if (there != 0)
        return there < 0 ? -1 : 0;
    int found = open_blob(call, digest, true, &blob, err);
    random_hex(path + strlen(path), UPLOAD_ID_LEN);
    int result = found > 0 ? copy_to(call, &blob, digest, path, err) : found;
    if (result == 0 && found > 0)
        result = blob_commit(call, path, digest, blob.size, link_blob, (void *)digest, err);
    // Renaming one name of a file over another of it leaves both.
    if (found > 0)
        unlinkat(call->registry->root_fd, path, 0);
    blob_close(&blob);
    return result;
}

static int adopt_blobs(struct call *call, const struct manifest *manifest, struct err *err)
{
    for (size_t i = 0; i < manifest->blobs.len; i++)
        if (adopt_blob(call, manifest->blobs.items[i], err) < 0)
            return -1;
    return 0;
}

// An image's manifest: it has no children.
static int adopt_child(struct call *call, const char *digest, struct err *err)
{
    struct registry_manifest child;
    struct manifest read;
    char *own = NULL;
    if (record_text(call, &own, err, "SELECT digest FROM manifests WHERE repository = ? AND digest = ?", "tt", call->repository, digest) < 0)
        return -1;
    int found = own ? 0 : find_manifest(call, digest, &child, err);
    if (found <= 0)
        return found;
    size_t size = strlen(child.text);
    if (manifest_read(child.text, size, child.media_type, call->arena, &read, err) < 0 || adopt_blobs(call, &read, err) < 0)
        return -1;
    return manifest_keep(call, digest, child.media_type, child.text, size, err);
}

int backing_adopt(struct call *call, const struct manifest *manifest, struct err *err)
{
    if (adopt_blobs(call, manifest, err) < 0)
        return -1;
    for (size_t i = 0; i < manifest->children.len; i++)
        if (adopt_child(call, manifest->children.items[i], err) < 0)
            return -1;
    return 0;
}

// ---- lists ----------------------------------------------------------------------------------------------------------

struct names {
    struct arena *arena;
    struct strv *out;
};

static int take_name(void *context, const struct store_row *row, struct err *err)
{
    const struct names *names = context;
    strv_push_arena(names->out, names->arena, store_text(row, 0));
    return 0;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_names(struct strv *names)
{
    size_t len = 0;
    if (names->len)
        qsort(names->items, names->len, sizeof(*names->items), compare);
    for (size_t i = 0; i < names->len; i++)
        if (len == 0 || !str_eq(names->items[len - 1], names->items[i]))
            names->items[len++] = names->items[i];
    names->len = len;
}

int backing_tags(struct call *call, struct strv *out, struct err *err)
{
    const struct registry_engine *engine = &call->registry->engine;
    struct names names = { call->arena, out };
    if (store_query(call->registry->store, err, take_name, &names, "SELECT name FROM tags WHERE repository = ?", "t", call->repository) < 0 ||
        engine->tags(engine->context, call->repository, call->arena, out, err) < 0)
        return -1;
    sort_names(out);
    return 0;
}

// The engine has names that are none here: those with a registry's port.
int backing_repositories(struct call *call, struct strv *out, struct err *err)
{
    const struct registry_engine *engine = &call->registry->engine;
    struct names names = { call->arena, out };
    struct strv theirs = { 0 };
    if (store_query(call->registry->store, err, take_name, &names, "SELECT DISTINCT repository FROM manifests", "") < 0 ||
        engine->repositories(engine->context, call->arena, &theirs, err) < 0)
        return -1;
    for (size_t i = 0; i < theirs.len; i++)
        if (name_valid(theirs.items[i]))
            strv_push_arena(out, call->arena, theirs.items[i]);
    sort_names(out);
    return 0;
}
