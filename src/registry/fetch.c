// A cache of another registry: blobs. One that is missing is fetched once, by a thread of its own, into a file below uploads/; all who
// ask for it meanwhile get the bytes as they come. When it is whole and its digest is right, it is a blob as any other. Who leaves does
// not end it.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include "base/log.h"
#include "registry_private.h"

#define FETCHES_MAX 256
#define CHUNK_SIZE (256u << 10)
#define LOOK_NS (NS_PER_S / 4) // who waits looks whether its client is still there
#define CLOSE_WAIT_NS NS_PER_S

struct fetch {
    struct fetch *next;
    struct registry *registry;
    char *repository, digest[DIGEST_SIZE], path[sizeof("uploads/fetch-") + UPLOAD_ID_LEN];
    int fd; // readable and writable
    // Of the rest: guarded by registry->fetch_lock.
    unsigned users; // the thread is one
    int64_t size; // -1: not known yet
    int64_t written;
    bool ended;
    struct err err; // of class NONE: it is a blob now
};

static void unref(struct registry *registry, struct fetch *fetch) REQUIRES(registry->fetch_lock)
{
    if (--fetch->users > 0)
        return;
    fd_close(fetch->fd);
    free(fetch->repository);
    free(fetch);
}

// ---- the thread -----------------------------------------------------------------------------------------------------

static int begin(void *context, int64_t size, struct err *err)
{
    struct fetch *fetch = context;
    mutex_lock(&fetch->registry->fetch_lock);
    fetch->size = size;
    cond_wake_all(&fetch->registry->fetch_changed);
    mutex_unlock(&fetch->registry->fetch_lock);
    return 0;
}

static int take_bytes(void *context, const void *data, size_t size, struct err *err)
{
    struct fetch *fetch = context;
    struct registry *registry = fetch->registry;
    if (fd_write_at(fetch->fd, data, size, fetch->written, err) < 0) // nobody else changes it
        return -1;
    mutex_lock(&registry->fetch_lock);
    bool closing = registry->closing;
    fetch->written += (int64_t)size;
    cond_wake_all(&registry->fetch_changed);
    mutex_unlock(&registry->fetch_lock);
    return closing ? err_set(err, ERR_CANCELLED, "the registry ends") : 0;
}

static int link_blob(struct call *call, void *context, struct err *err)
{
    return record_link(call, context, err);
}

static int run(struct fetch *fetch, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const struct registry_upstream *upstream = &fetch->registry->upstream;
    struct call call = { .registry = fetch->registry, .arena = &arena, .repository = fetch->repository };
    if (upstream->blob(upstream->context, fetch->repository, fetch->digest, begin, take_bytes, fetch, err) < 0) {
        unlinkat(fetch->registry->root_fd, fetch->path, 0);
        return -1;
    }
    return blob_commit(&call, fetch->path, fetch->digest, fetch->written, link_blob, fetch->digest, err);
}

static void *fetch_thread(void *context)
{
    struct fetch *fetch = context;
    struct registry *registry = fetch->registry;
    struct err err = { 0 };
    if (run(fetch, &err) < 0)
        log_warn("upstream: %s: %s", fetch->repository, err.message);
    mutex_lock(&registry->fetch_lock);
    fetch->err = err;
    fetch->ended = true;
    for (struct fetch **at = &registry->fetches; *at; at = &(*at)->next)
        if (*at == fetch) {
            *at = fetch->next;
            break;
        }
    registry->fetch_len--;
    unref(registry, fetch);
    cond_wake_all(&registry->fetch_changed);
    mutex_unlock(&registry->fetch_lock);
    return NULL;
}

static int open_file(struct fetch *fetch, struct err *err)
{
    memcpy(fetch->path, "uploads/fetch-", sizeof("uploads/fetch-"));
    random_hex(fetch->path + strlen(fetch->path), UPLOAD_ID_LEN);
    fetch->fd = openat(fetch->registry->root_fd, fetch->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fetch->fd < 0 ? err_errno(err, errno, "%s", fetch->path) : 0;
}

static struct fetch *start(struct registry *registry, const struct call *call, struct err *err) REQUIRES(registry->fetch_lock)
{
    pthread_t thread;
    if (registry->closing || registry->fetch_len == FETCHES_MAX) {
        err_set(err, ERR_UNAVAILABLE, "%d blobs are being fetched already", FETCHES_MAX);
        return NULL;
    }
    struct fetch *fetch = mem_new(struct fetch);
    *fetch = (struct fetch){ .registry = registry, .repository = mem_strdup(call->repository), .fd = -1, .users = 1, .size = -1 };
    snprintf(fetch->digest, sizeof(fetch->digest), "%s", call->reference);
    int failed = open_file(fetch, err) < 0 ? -1 : pthread_create(&thread, NULL, fetch_thread, fetch);
    if (failed) {
        if (failed > 0) {
            err_errno(err, failed, "thread");
            unlinkat(registry->root_fd, fetch->path, 0);
        }
        unref(registry, fetch);
        return NULL;
    }
    pthread_detach(thread);
    fetch->next = registry->fetches;
    registry->fetches = fetch;
    registry->fetch_len++;
    return fetch;
}

// ---- those who wait -------------------------------------------------------------------------------------------------

// NULL: it is there by now, or an error.
static struct fetch *join(struct call *call, int *there, struct err *err)
{
    struct registry *registry = call->registry;
    struct fetch *fetch;
    *there = 0;
    mutex_lock(&registry->fetch_lock);
    for (fetch = registry->fetches; fetch; fetch = fetch->next)
        if (str_eq(fetch->digest, call->reference) && str_eq(fetch->repository, call->repository))
            break;
    if (!fetch && (*there = record_has_blob(call, call->repository, call->reference, err)) == 0)
        fetch = start(registry, call, err);
    if (fetch)
        fetch->users++;
    mutex_unlock(&registry->fetch_lock);
    return fetch;
}

static void leave(struct fetch *fetch)
{
    struct registry *registry = fetch->registry;
    mutex_lock(&registry->fetch_lock);
    unref(registry, fetch);
    mutex_unlock(&registry->fetch_lock);
}

// Until there is more than `at`, or it has ended; `at` -1: until it has ended. cancelled: nobody waits any more.
static void await(struct call *call, struct fetch *fetch, int64_t at, int64_t *written, bool *ended, struct err *err)
{
    struct registry *registry = fetch->registry;
    bool left = false;
    mutex_lock(&registry->fetch_lock);
    while (!left && !fetch->ended && (at < 0 || fetch->written <= at))
        left = !cond_wait_until(&registry->fetch_changed, &registry->fetch_lock, clock_mono_ns() + LOOK_NS) &&
               cancel_now(httpd_cancel(call->request));
    *written = fetch->written;
    *ended = fetch->ended;
    *err = fetch->err;
    mutex_unlock(&registry->fetch_lock);
    if (left)
        err_set(err, ERR_CANCELLED, "the client is gone");
}

static int send_part(struct call *call, const struct fetch *fetch, char *chunk, int64_t *at, int64_t end)
{
    while (*at < end) {
        ssize_t n = pread(fetch->fd, chunk, (size_t)MIN_OF(end - *at, (int64_t)CHUNK_SIZE), *at);
        if (n <= 0 || httpd_stream_write(call->request, chunk, (size_t)n) < 0)
            return -1;
        *at += n;
    }
    return 0;
}

// As it comes. The last bytes are kept back until the digest is known to be right: without them nobody takes it for whole.
static void stream(struct call *call, struct fetch *fetch)
{
    _cleanup_free_ char *chunk = mem_alloc(CHUNK_SIZE);
    struct err err = { 0 };
    int64_t at = 0, written = 0;
    bool ended = false;
    httpd_set_header(call->request, "Docker-Content-Digest", fetch->digest);
    metrics_count(call->registry, 200);
    if (httpd_stream_begin(call->request, 200, "application/octet-stream") < 0)
        return;
    while (!ended) {
        await(call, fetch, at + 1, &written, &ended, &err);
        int64_t end = ended ? written : MAX_OF(written - 1, INT64_C(0));
        if (err.class != ERR_NONE || send_part(call, fetch, chunk, &at, end) < 0) {
            httpd_stream_abort(call->request);
            break;
        }
    }
    metrics_bytes(call->registry, BYTES_OUT, at);
}

static void serve(struct call *call, struct fetch *fetch)
{
    struct err err = { 0 };
    int64_t written;
    bool ended, whole = call->head || httpd_header(call->request, "Range");
    await(call, fetch, whole ? -1 : 0, &written, &ended, &err);
    if (err.class == ERR_NOT_FOUND)
        call_refuse(call, BLOB_UNKNOWN, "%s", err.message);
    else if (err.class != ERR_NONE)
        proxy_refuse(call, &err);
    else if (ended)
        blob_serve(call, fetch->digest, "application/octet-stream");
    else
        stream(call, fetch);
}

// Another repository has the file, and a manifest of this one names it.
static int link_known(struct call *call, struct err *err)
{
    struct registry *registry = call->registry;
    char *found = NULL;
    mutex_lock(&registry->files);
    int result = record_text(call, &found, err, "SELECT b.digest FROM blobs b JOIN manifest_blobs m ON m.digest = b.digest"
                                                " WHERE m.repository = ? AND m.digest = ? LIMIT 1", "tt", call->repository, call->reference);
    if (result == 0 && found && (result = store_begin(registry->store, err)) == 0) {
        if ((result = record_link(call, call->reference, err)) < 0)
            store_rollback(registry->store);
        else
            result = store_commit(registry->store, err);
    }
    mutex_unlock(&registry->files);
    return result < 0 ? -1 : found != NULL;
}

void proxy_blob(struct call *call)
{
    struct err err = { 0 };
    int known = link_known(call, &err);
    struct fetch *fetch = known ? NULL : join(call, &known, &err);
    if (known > 0)
        blob_serve(call, call->reference, "application/octet-stream");
    else if (!fetch && err.class == ERR_UNAVAILABLE)
        proxy_refuse(call, &err);
    else if (!fetch)
        call_failed(call, &err);
    else
        serve(call, fetch);
    if (fetch)
        leave(fetch);
}

bool fetches_end(struct registry *registry)
{
    int64_t deadline = clock_mono_ns() + CLOSE_WAIT_NS;
    mutex_lock(&registry->fetch_lock);
    registry->closing = true;
    while (registry->fetches && cond_wait_until(&registry->fetch_changed, &registry->fetch_lock, deadline))
        ;
    bool done = !registry->fetches;
    mutex_unlock(&registry->fetch_lock);
    return done;
}
