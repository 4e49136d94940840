// A push of blobs and manifests that stand in files already: what a build made that is more than an image of the store (an index, attestations,
// another compression).
#include <sys/stat.h>
#include <unistd.h>

#include "transfer/transfer.h"
#include "crew.h"
#include "push.h"
#include "report.h"

#define READ_SIZE ((size_t)256 << 10)

struct item {
    char *digest, *media_type, *name; // media_type NULL: a blob; name: what a manifest is put under
    int fd;
};

static const struct json_field item_fields[] = {
    JSON_FIELD("digest", JSON_TEXT, struct item, digest),
    JSON_FIELD("media_type", JSON_TEXT, struct item, media_type),
    JSON_FIELD("name", JSON_TEXT, struct item, name),
};
static const struct json_table item_table = JSON_TABLE(struct item, item_fields);

struct request {
    struct json_list items; // struct item: blobs, then manifests in their order
};
static const struct json_field request_fields[] = { JSON_FIELD("items", JSON_LIST, struct request, items, .sub = &item_table) };
static const struct json_table request_table = JSON_TABLE(struct request, request_fields);

struct push_blobs {
    struct distribution *distribution;
    struct arena arena;
    struct item *items;
    size_t len, blob_len;
    FILE *report;
    atomic_bool stopped;
};

// ---- what the daemon gives ------------------------------------------------------------------------------------------

static int take_request(struct push_blobs *push, int sock, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT((size_t)16 << 20);
    struct request request;
    int fd = -1;
    if (push_receive_fds(sock, &fd, 1, err) < 0)
        return -1;
    int result = push_read_file(fd, &text, err);
    fd_close(fd);
    if (result < 0 || json_decode_text(&request_table, buf_text(&text), text.size, &request, &push->arena, NULL, err) < 0)
        return -1;
    push->items = arena_alloc(&push->arena, (request.items.len + 1) * sizeof(*push->items));
    for (size_t i = 0; i < request.items.len; i++) {
        struct item *item = &push->items[i];
        *item = *(const struct item *)json_list_at(&request.items, &item_table, i);
        if (push_receive_fds(sock, &item->fd, 1, err) < 0)
            return -1;
        push->len++;
        push->blob_len += str_empty(item->media_type);
    }
    return 0;
}

// ---- sending --------------------------------------------------------------------------------------------------------

static int send_file(struct push_blobs *push, const struct item *item, struct distribution_upload *upload, struct err *err)
{
    _cleanup_free_ char *data = mem_alloc(READ_SIZE);
    char digest[OCI_DIGEST_SIZE];
    int64_t size;
    ssize_t got;
    for (off_t at = 0; (got = pread(item->fd, data, READ_SIZE, at)) > 0; at += got) {
        if (atomic_load(&push->stopped))
            return err_set(err, ERR_CANCELLED, "another blob failed");
        if (distribution_upload_write(upload, data, (size_t)got, err) < 0)
            return -1;
    }
    distribution_upload_digest(upload, digest);
    if (got < 0 || !str_eq(digest, item->digest))
        return err_set(err, ERR_INTERNAL, "blob %s can't be read", item->digest);
    return distribution_upload_end(upload, digest, &size, err);
}

static int push_blob(void *context, size_t index, struct err *err)
{
    struct push_blobs *push = context;
    const struct item *item = &push->items[index];
    struct stat info;
    struct distribution_upload *upload = NULL;
    char id[13];
    if (!oci_digest_valid(item->digest) || fstat(item->fd, &info) < 0)
        return err_set(err, ERR_INTERNAL, "not a blob");
    const struct oci_descriptor blob = { .digest = item->digest, .size = info.st_size };
    int exists = distribution_blob_exists(push->distribution, &blob, err);
    int result = exists < 0 ? -1 : exists ? 0 : distribution_upload_begin(push->distribution, &upload, err);
    if (result == 0 && !exists)
        result = send_file(push, item, upload, err);
    distribution_upload_free(upload);
    if (result < 0)
        return err_wrap(err, "blob %.19s", item->digest);
    snprintf(id, sizeof(id), "%.12s", oci_digest_hex(item->digest));
    return report_progress(push->report, id, exists ? "Layer already exists" : "Pushed", 0, 0, err);
}

static int put_manifest(struct push_blobs *push, const struct item *item, struct err *err)
{
    _cleanup_manifest_ struct distribution_manifest manifest = DISTRIBUTION_MANIFEST_INIT;
    snprintf(manifest.media_type, sizeof(manifest.media_type), "%s", item->media_type);
    snprintf(manifest.digest, sizeof(manifest.digest), "%s", item->digest);
    if (push_read_file(item->fd, &manifest.text, err) < 0)
        return -1;
    return distribution_manifest_put(push->distribution, str_empty(item->name) ? item->digest : item->name, &manifest, err);
}

// ---- the whole ------------------------------------------------------------------------------------------------------

int transfer_push_blobs_new(const char *repository, const struct transfer_remote *remote, int daemon_fd, struct push_blobs **out, struct err *err)
{
    struct push_blobs *push = mem_new(struct push_blobs);
    struct image_ref ref;
    int result = image_ref_parse(repository, true, &push->arena, &ref, err);
    if (result == 0)
        result = distribution_new(&ref, DISTRIBUTION_PUSH, &remote->login, &remote->options, &push->distribution, err);
    if (result == 0)
        result = take_request(push, daemon_fd, err);
    if (result == 0)
        *out = push;
    else
        transfer_push_blobs_free(push);
    return result;
}

int transfer_push_blobs(struct push_blobs *push, FILE *report, struct err *err)
{
    push->report = report;
    if (crew_run(push->blob_len, PUSH_PARALLEL, push_blob, push, &push->stopped, err) < 0)
        return -1;
    for (size_t i = push->blob_len; i < push->len; i++)
        if (put_manifest(push, &push->items[i], err) < 0)
            return -1;
    return 0;
}

void transfer_push_blobs_free(struct push_blobs *push)
{
    if (!push)
        return;
    for (size_t i = 0; i < push->len; i++)
        fd_close(push->items[i].fd);
    distribution_free(push->distribution);
    arena_done(&push->arena);
    free(push);
}
