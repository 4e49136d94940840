// Blobs: their files, read with ranges; and the moment in which an upload becomes one.
#include <errno.h>
#include <fcntl.h>

#include "registry_private.h"

// ---- reading --------------------------------------------------------------------------------------------------------

// "bytes=1-5", "bytes=5-", "bytes=-5". 1: *out; 0: none that one answer can give (several ranges, other units), so the whole
// is sent; -1: nothing of the blob lies in it.
static int parse_range(const char *header, int64_t size, struct range *out)
{
    struct slice rest, first;
    int64_t start = 0, end = size - 1;
    if (!header || !str_starts(header, "bytes=") || strchr(header, ','))
        return 0;
    rest = slice_of(header + 6);
    if (!slice_cut(&rest, '-', &first) || !rest.data || (first.size == 0 && rest.size == 0))
        return 0;
    if ((first.size && (!num_parse_i64(first, &start) || start < 0)) || (rest.size && (!num_parse_i64(rest, &end) || end < 0)))
        return 0;
    if (first.size == 0) {
        if (end == 0)
            return -1;
        start = MAX_OF(size - end, 0);
        end = size - 1;
    }
    if (first.size && rest.size && end < start)
        return 0;
    if (start >= size)
        return -1;
    *out = (struct range){ start, MIN_OF(end, size - 1) };
    return 1;
}

int blob_range(struct call *call, const char *digest, int64_t size, struct range *out)
{
    *out = (struct range){ 0, size - 1 };
    int partial = parse_range(httpd_header(call->request, "Range"), size, out);
    if (partial < 0) {
        set_headerf(call, "Content-Range", "bytes */%lld", (long long)size);
        call_refuse(call, RANGE_INVALID, "the blob has %lld bytes", (long long)size);
        return -1;
    }
    if (partial)
        set_headerf(call, "Content-Range", "bytes %lld-%lld/%lld", (long long)out->start, (long long)out->end, (long long)size);
    httpd_set_header(call->request, "Accept-Ranges", "bytes");
    httpd_set_header(call->request, "Docker-Content-Digest", digest);
    set_headerf(call, "ETag", "\"%s\"", digest);
    metrics_count(call->registry, partial ? 206 : 200);
    metrics_bytes(call->registry, BYTES_OUT, call->head ? 0 : out->end - out->start + 1);
    return partial ? 206 : 200;
}

void blob_serve_file(struct call *call, const char *digest, const char *content_type, int take_file_fd, int64_t size)
{
    _cleanup_close_ int fd = take_file_fd;
    struct range range;
    int status = blob_range(call, digest, size, &range);
    if (status > 0)
        httpd_reply_file(call->request, status, content_type, take_fd(&fd), range.start, range.end - range.start + 1);
}

void blob_serve(struct call *call, const char *digest, const char *content_type)
{
    char path[BLOB_PATH_SIZE];
    struct stat status;
    struct err err = { 0 };
    digest_path(digest, path);
    _cleanup_close_ int fd = openat(call->registry->root_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0) {
        err_errno(&err, errno, "%s", path);
        call_failed(call, &err);
        return;
    }
    blob_serve_file(call, digest, content_type, take_fd(&fd), status.st_size);
}

void handle_blob_get(struct call *call)
{
    struct err err = { 0 };
    if (!digest_valid(call->reference)) {
        call_refuse(call, DIGEST_INVALID, "%s: not a digest", call->reference);
        return;
    }
    int found = record_has_blob(call, call->repository, call->reference, &err);
    if (found < 0)
        call_failed(call, &err);
    else if (!found && is_cache(call->registry))
        proxy_blob(call);
    else if (!found && !(is_shared(call->registry) && backing_serve_blob(call)))
        call_refuse(call, BLOB_UNKNOWN, "%s has no blob %s", call->repository, call->reference);
    else if (found)
        blob_serve(call, call->reference, "application/octet-stream");
}

// ---- deleting -------------------------------------------------------------------------------------------------------

static int unlink_from_repository(struct call *call, struct err *err) REQUIRES(call->registry->files)
{
    bool dropped;
    if (store_begin(call->registry->store, err) < 0)
        return -1;
    if (store_exec(call->registry->store, err, "DELETE FROM repository_blobs WHERE repository = ? AND digest = ?", "tt",
                   call->repository, call->reference) < 0 ||
        record_drop_unused(call->registry, call->reference, &dropped, err) < 0) {
        store_rollback(call->registry->store);
        return -1;
    }
    return record_commit_drop(call->registry, call->reference, dropped, err);
}

void handle_blob_delete(struct call *call)
{
    struct err err = { 0 };
    if (!digest_valid(call->reference)) {
        call_refuse(call, DIGEST_INVALID, "%s: not a digest", call->reference);
        return;
    }
    int found = record_has_blob(call, call->repository, call->reference, &err);
    if (found == 0) {
        if (!is_shared(call->registry) || !backing_refuse_delete(call))
            call_refuse(call, BLOB_UNKNOWN, "%s has no blob %s", call->repository, call->reference);
        return;
    }
    mutex_lock(&call->registry->files);
    int result = found < 0 ? -1 : unlink_from_repository(call, &err);
    mutex_unlock(&call->registry->files);
    if (result < 0)
        call_failed(call, &err);
    else
        call_reply(call, 202);
}

// ---- arriving -------------------------------------------------------------------------------------------------------

// Before it has its name: after a power cut no blob has a name without its bytes.
static int sync_file(struct registry *registry, const char *upload, struct err *err)
{
    _cleanup_close_ int fd = openat(registry->root_fd, upload, O_RDONLY | O_CLOEXEC);
    return fd < 0 || fdatasync(fd) < 0 ? err_errno(err, errno, "%s", upload) : 0;
}

// The file gets its name between its record and the commit: a crash leaves a file without a record, and never the other.
static int commit_locked(struct call *call, const char *upload, const char *digest, int64_t size, record_fn *record,
                         void *context, struct err *err) REQUIRES(call->registry->files)
{
    char path[BLOB_PATH_SIZE];
    digest_path(digest, path);
    if (store_begin(call->registry->store, err) < 0)
        return -1;
    int result = record_blob(call, digest, size, err) < 0 ? -1 : record(call, context, err);
    // Over the same bytes, if they are there.
    if (result == 0 && renameat(call->registry->root_fd, upload, call->registry->root_fd, path) < 0)
        result = err_errno(err, errno, "%s", path);
    if (result == 0)
        return store_commit(call->registry->store, err);
    store_rollback(call->registry->store);
    return -1;
}

int blob_commit(struct call *call, const char *upload, const char *digest, int64_t size, record_fn *record, void *context,
                struct err *err)
{
    int result = sync_file(call->registry, upload, err);
    if (result == 0) {
        mutex_lock(&call->registry->files);
        result = commit_locked(call, upload, digest, size, record, context, err);
        mutex_unlock(&call->registry->files);
    }
    if (result < 0)
        unlinkat(call->registry->root_fd, upload, 0);
    return result;
}
