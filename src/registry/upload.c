// Uploads: whole ones, in chunks, streamed, resumed, and blobs taken from another repository.
//
// An upload is a file under uploads/ and a record; the process that has seen it keeps the hash of what has arrived. After a
// restart the hash is made again from the file. One request at a time adds to an upload.
#include <errno.h>
#include <fcntl.h>

#include "registry_private.h"

#define CHUNK_SIZE (256u << 10)
#define UPLOAD_PATH_SIZE (sizeof("uploads/") + UPLOAD_ID_LEN)

struct upload {
    struct upload *next;
    char id[UPLOAD_ID_LEN + 1], path[UPLOAD_PATH_SIZE];
    char *repository;
    int64_t started_ns;
    bool busy; // a request has it
    // The request's that has it, else nobody's.
    struct digest_hash *hash;
    int64_t size;
};

static void upload_free(struct upload *upload)
{
    digest_hash_free(upload->hash);
    free(upload->repository);
    free(upload);
}

void uploads_free(struct registry *registry) UNCHECKED
{
    while (registry->uploads) {
        struct upload *next = registry->uploads->next;
        upload_free(registry->uploads);
        registry->uploads = next;
    }
}

// ---- sessions -------------------------------------------------------------------------------------------------------

static struct upload *session_new(const char *id, const char *repository, const char *algorithm)
{
    struct upload *upload = mem_new(struct upload);
    snprintf(upload->id, sizeof(upload->id), "%s", id);
    snprintf(upload->path, sizeof(upload->path), "uploads/%s", id);
    upload->repository = mem_strdup(repository);
    upload->started_ns = clock_wall_ns();
    upload->hash = digest_hash_new(algorithm);
    upload->busy = true;
    return upload;
}

static void session_add(struct registry *registry, struct upload *upload) EXCLUDES(registry->upload_lock)
{
    mutex_lock(&registry->upload_lock);
    upload->next = registry->uploads;
    registry->uploads = upload;
    mutex_unlock(&registry->upload_lock);
}

static void session_give_back(struct call *call, struct upload *upload)
{
    mutex_lock(&call->registry->upload_lock);
    upload->busy = false;
    mutex_unlock(&call->registry->upload_lock);
}

static void session_end(struct registry *registry, struct upload *upload)
{
    mutex_lock(&registry->upload_lock);
    for (struct upload **at = &registry->uploads; *at; at = &(*at)->next)
        if (*at == upload) {
            *at = upload->next;
            break;
        }
    mutex_unlock(&registry->upload_lock);
    upload_free(upload);
}

// The file's bytes go into the hash; their count is the upload's size.
static int hash_file(struct registry *registry, struct upload *upload, struct err *err)
{
    _cleanup_free_ char *chunk = mem_alloc(CHUNK_SIZE);
    _cleanup_close_ int fd = openat(registry->root_fd, upload->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "%s", upload->path);
    upload->size = 0;
    for (;;) {
        ssize_t n = fd_read_full(fd, chunk, CHUNK_SIZE, err);
        if (n <= 0)
            return (int)n;
        digest_hash_add(upload->hash, chunk, (size_t)n);
        upload->size += n;
    }
}

// 1: *out is the session, taken; 0: answered.
static int session_find(struct call *call, struct upload **out)
{
    struct upload *found;
    bool busy = false;
    mutex_lock(&call->registry->upload_lock);
    for (found = call->registry->uploads; found; found = found->next)
        if (str_eq(found->id, call->reference) && str_eq(found->repository, call->repository)) {
            busy = found->busy;
            found->busy = true;
            break;
        }
    mutex_unlock(&call->registry->upload_lock);
    if (busy) {
        call_refuse(call, BLOB_UPLOAD_INVALID, "another request adds to this upload");
        return 0;
    }
    *out = found;
    return found != NULL;
}

// One that an earlier process began.
static int session_restore(struct call *call, struct upload **out, struct err *err)
{
    char *id = NULL;
    if (record_text(call, &id, err, "SELECT id FROM uploads WHERE id = ? AND repository = ?", "tt", call->reference,
                    call->repository) < 0)
        return -1;
    if (!id)
        return 0;
    struct upload *upload = session_new(id, call->repository, "sha256");
    if (hash_file(call->registry, upload, err) < 0) {
        upload_free(upload);
        return -1;
    }
    session_add(call->registry, upload);
    *out = upload;
    return 1;
}

// NULL: answered.
static struct upload *session_take(struct call *call)
{
    struct upload *upload = NULL;
    struct err err = { 0 };
    if (session_find(call, &upload) || httpd_answered(call->request))
        return upload;
    int found = session_restore(call, &upload, &err);
    if (found < 0)
        call_failed(call, &err);
    else if (!found)
        call_refuse(call, BLOB_UPLOAD_UNKNOWN, "%s has no upload %s", call->repository, call->reference);
    return found > 0 ? upload : NULL;
}

static int forget(struct call *call, const char *id, struct err *err)
{
    return store_exec(call->registry->store, err, "DELETE FROM uploads WHERE id = ?", "t", id);
}

// The upload's file, record and session go.
static int session_drop(struct call *call, struct upload *upload, struct err *err)
{
    struct registry *registry = call->registry;
    unlinkat(registry->root_fd, upload->path, 0);
    int result = store_begin(registry->store, err);
    if (result == 0 && (result = forget(call, upload->id, err)) < 0)
        store_rollback(registry->store);
    else if (result == 0)
        result = store_commit(registry->store, err);
    session_end(registry, upload);
    return result;
}

// ---- bytes ----------------------------------------------------------------------------------------------------------

static void set_progress(struct call *call, const struct upload *upload)
{
    set_headerf(call, "Location", "/v2/%s/blobs/uploads/%s", call->repository, upload->id);
    set_headerf(call, "Range", "0-%lld", (long long)(upload->size ? upload->size - 1 : 0));
    httpd_set_header(call->request, "Docker-Upload-UUID", upload->id);
}

// "5-9": what is sent begins where the upload ends. False: answered.
static bool chunk_fits(struct call *call, const struct upload *upload)
{
    const char *header = httpd_header(call->request, "Content-Range"), *length = httpd_header(call->request, "Content-Length");
    struct slice rest = slice_of(header), first;
    uint64_t start, end, size;
    if (!header)
        return true;
    if (!slice_cut(&rest, '-', &first) || !rest.data || !num_parse_u64(first, INT64_MAX, &start) ||
        !num_parse_u64(rest, INT64_MAX - 1, &end) || end < start ||
        (length && (!num_parse_u64(slice_of(length), INT64_MAX, &size) || size != end - start + 1))) {
        call_refuse(call, BLOB_UPLOAD_INVALID, "Content-Range: %s: not the range of this body", header);
        return false;
    }
    if (start == (uint64_t)upload->size)
        return true;
    set_progress(call, upload);
    call_refuse(call, RANGE_INVALID, "Content-Range: %s: the next byte is %lld", header, (long long)upload->size);
    return false;
}

static int receive(struct call *call, struct upload *upload, struct err *err)
{
    _cleanup_free_ char *chunk = mem_alloc(CHUNK_SIZE);
    _cleanup_close_ int fd = openat(call->registry->root_fd, upload->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, errno, "%s", upload->path);
    for (;;) {
        ssize_t n = fd_read_full(httpd_body_fd(call->request), chunk, CHUNK_SIZE, err);
        if (n <= 0)
            return (int)n;
        if (fd_write_full(fd, chunk, (size_t)n, err) < 0) {
            // What the hash has not seen must not stay in the file.
            if (ftruncate(fd, upload->size) < 0)
                return err_wrap(err, "%s can't be cut back", upload->path);
            return err_wrap(err, "%s", upload->path);
        }
        digest_hash_add(upload->hash, chunk, (size_t)n);
        upload->size += n;
        metrics_bytes(call->registry, BYTES_IN, n);
    }
}

// ---- the end --------------------------------------------------------------------------------------------------------

struct finished {
    const char *digest, *id;
};

static int record_finished(struct call *call, void *context, struct err *err)
{
    const struct finished *finished = context;
    return record_link(call, finished->digest, err) < 0 ? -1 : forget(call, finished->id, err);
}

// The upload's session is over, whatever happens.
static void finish(struct call *call, struct upload *upload, const char *digest)
{
    struct err err = { 0 };
    char real[DIGEST_SIZE];
    struct registry *registry = call->registry;
    if (!digest_hash_is(upload->hash, digest)) {
        digest_hash_free(upload->hash);
        upload->hash = digest_hash_new(digest);
        if (hash_file(registry, upload, &err) < 0) {
            session_give_back(call, upload);
            call_failed(call, &err);
            return;
        }
    }
    digest_hash_end(take_ptr(&upload->hash), real);
    if (!str_eq(real, digest)) {
        session_drop(call, upload, &err);
        call_refuse(call, DIGEST_INVALID, "what arrived is %s, not %s", real, digest);
        return;
    }
    struct finished finished = { digest, upload->id };
    int result = blob_commit(call, upload->path, digest, upload->size, record_finished, &finished, &err);
    session_end(registry, upload);
    if (result < 0) {
        call_failed(call, &err);
        return;
    }
    set_place(call, "blobs", digest);
    call_reply(call, 201);
}

// ---- the handlers ---------------------------------------------------------------------------------------------------

// 1: the blob is in this repository now; 0: the other has none, or the request names none. Where tokens say who may see what, knowing a
// digest is not enough: it takes a repository from which the caller may pull.
static int mount(struct call *call, const char *digest, const char *from, struct err *err)
{
    struct registry *registry = call->registry;
    char *found = NULL;
    const struct auth_wish wish = { "repository", from ? from : "", "pull" };
    if (!digest || !digest_valid(digest) || !auth_may(call, &wish))
        return 0;
    mutex_lock(&registry->files);
    int result = record_text(call, &found, err, from ? "SELECT digest FROM repository_blobs WHERE digest = ? AND repository = ?"
                                                     : "SELECT digest FROM repository_blobs WHERE digest = ? LIMIT 1",
                             from ? "tt" : "t", digest, from);
    if (result == 0 && found && (result = store_begin(registry->store, err)) == 0) {
        if ((result = record_link(call, digest, err)) < 0)
            store_rollback(registry->store);
        else
            result = store_commit(registry->store, err);
    }
    mutex_unlock(&registry->files);
    if (result == 0 && !found && is_shared(registry))
        return backing_has_blob(call, digest, err);
    return result < 0 ? -1 : found != NULL;
}

static struct upload *begin(struct call *call, struct err *err)
{
    struct registry *registry = call->registry;
    const char *algorithm = httpd_query(call->request, "digest-algorithm");
    char id[UPLOAD_ID_LEN + 1];
    random_hex(id, UPLOAD_ID_LEN);
    struct upload *upload = session_new(id, call->repository, algorithm ? algorithm : "sha256");
    if (!upload->hash) {
        upload_free(upload);
        err_set(err, ERR_INVALID_ARGUMENT, "digest-algorithm: %s: not known here", algorithm);
        return NULL;
    }
    _cleanup_close_ int fd = openat(registry->root_fd, upload->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int result = fd < 0 ? err_errno(err, errno, "%s", upload->path) : store_begin(registry->store, err);
    if (result == 0) {
        result = store_exec(registry->store, err, "INSERT INTO uploads(id, repository, started_ns) VALUES(?, ?, ?)", "tti", id,
                            call->repository, upload->started_ns);
        if (result < 0)
            store_rollback(registry->store);
        else
            result = store_commit(registry->store, err);
    }
    if (result < 0) {
        unlinkat(registry->root_fd, upload->path, 0);
        upload_free(upload);
        return NULL;
    }
    session_add(registry, upload);
    return upload;
}

static void add_and_finish(struct call *call, struct upload *upload, const char *digest)
{
    struct err err = { 0 };
    if (!chunk_fits(call, upload)) {
        session_give_back(call, upload);
    } else if (receive(call, upload, &err) < 0) {
        session_give_back(call, upload);
        call_failed(call, &err);
    } else {
        finish(call, upload, digest);
    }
}

// Whether the request's digest is one; answered when not.
static bool digest_given(struct call *call, const char *digest)
{
    if (digest && digest_valid(digest))
        return true;
    call_refuse(call, DIGEST_INVALID, digest ? "%s: not a digest" : "%sdigest is missing", digest ? digest : "");
    return false;
}

void handle_upload_begin(struct call *call)
{
    struct err err = { 0 };
    const char *mounted = httpd_query(call->request, "mount"), *digest = httpd_query(call->request, "digest");
    int found = mount(call, mounted, httpd_query(call->request, "from"), &err);
    if (found < 0) {
        call_failed(call, &err);
        return;
    }
    if (found) {
        set_place(call, "blobs", mounted);
        call_reply(call, 201);
        return;
    }
    if (digest && !digest_given(call, digest))
        return;
    struct upload *upload = begin(call, &err);
    if (!upload && err.class == ERR_INVALID_ARGUMENT) {
        call_refuse(call, DIGEST_INVALID, "%s", err.message);
    } else if (!upload) {
        call_failed(call, &err);
    } else if (digest) {
        add_and_finish(call, upload, digest);
    } else {
        set_progress(call, upload);
        session_give_back(call, upload);
        call_reply(call, 202);
    }
}

void handle_upload_status(struct call *call)
{
    struct upload *upload = session_take(call);
    if (!upload)
        return;
    set_progress(call, upload);
    session_give_back(call, upload);
    call_reply(call, 204);
}

void handle_upload_add(struct call *call)
{
    struct err err = { 0 };
    struct upload *upload = session_take(call);
    if (!upload)
        return;
    bool fits = chunk_fits(call, upload);
    int result = fits ? receive(call, upload, &err) : 0;
    if (fits && result == 0)
        set_progress(call, upload);
    session_give_back(call, upload);
    if (result < 0)
        call_failed(call, &err);
    else if (fits)
        call_reply(call, 202);
}

void handle_upload_end(struct call *call)
{
    const char *digest = httpd_query(call->request, "digest");
    if (!digest_given(call, digest))
        return;
    struct upload *upload = session_take(call);
    if (upload)
        add_and_finish(call, upload, digest);
}

void handle_upload_cancel(struct call *call)
{
    struct err err = { 0 };
    struct upload *upload = session_take(call);
    if (!upload)
        return;
    if (session_drop(call, upload, &err) < 0)
        call_failed(call, &err);
    else
        call_reply(call, 204);
}

// ---- collection -----------------------------------------------------------------------------------------------------

static struct upload *take_old(struct registry *registry, int64_t before_ns)
{
    struct upload **at, *found;
    mutex_lock(&registry->upload_lock);
    for (at = &registry->uploads; *at && ((*at)->busy || (*at)->started_ns >= before_ns); at = &(*at)->next)
        ;
    if ((found = *at))
        *at = found->next;
    mutex_unlock(&registry->upload_lock);
    return found;
}

// What no session has is judged by its record, or, without one, by the file's time.
int uploads_collect(struct registry *registry, int64_t before_ns, int64_t *count, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    for (struct upload *old; (old = take_old(registry, before_ns));)
        upload_free(old);
    if (file_list_names(registry->root_fd, "uploads", &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        struct stat status;
        _cleanup_free_ char *path = mem_printf("uploads/%s", names.items[i]);
        if (fstatat(registry->root_fd, path, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            status.st_mtim.tv_sec * NS_PER_S < before_ns && unlinkat(registry->root_fd, path, 0) == 0)
            ++*count;
    }
    if (store_begin(registry->store, err) < 0)
        return -1;
    if (store_exec(registry->store, err, "DELETE FROM uploads WHERE started_ns < ?", "i", before_ns) < 0) {
        store_rollback(registry->store);
        return -1;
    }
    return store_commit(registry->store, err);
}
