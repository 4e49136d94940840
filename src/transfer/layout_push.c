// An image out of a folder with an OCI layout, by hand: manifests, and the blobs that they name, as they are.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "transfer/transfer.h"
#include "crew.h"
#include "load.h"
#include "base/file.h"

#define READ_SIZE (1 << 20)
#define PARALLEL 3
#define REF_NAME "org.opencontainers.image.ref.name"

struct layout_push {
    struct distribution *distribution;
    int blobs_fd;
    FILE *progress;
    struct arena arena;
    struct oci_manifest manifest; // the one whose blobs are sent
    atomic_bool stopped;
};

static int read_text(const struct layout_push *push, const char *digest, struct buf *out, struct err *err)
{
    if (!digest || !oci_digest_valid(digest))
        return err_set(err, ERR_INVALID_ARGUMENT, "unsupported digest %.128s", digest ? digest : "");
    if (file_read_at(push->blobs_fd, oci_digest_hex(digest), out, err) < 0)
        return err_wrap(err, "blob %s", digest);
    return load_check_text(out, digest, err);
}

// ---- blobs ----------------------------------------------------------------------------------------------------------

static int send_file(struct layout_push *push, int fd, const struct oci_descriptor *blob, struct distribution_upload *upload, struct err *err)
{
    _cleanup_free_ char *data = mem_alloc(READ_SIZE);
    char digest[OCI_DIGEST_SIZE];
    int64_t size;
    for (;;) {
        ssize_t got = fd_read_full(fd, data, READ_SIZE, err);
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        if (atomic_load(&push->stopped))
            return err_set(err, ERR_CANCELLED, "another blob failed");
        if (distribution_upload_write(upload, data, (size_t)got, err) < 0)
            return -1;
    }
    distribution_upload_digest(upload, digest);
    if (!str_eq(digest, blob->digest)) // before the registry keeps it
        return err_set(err, ERR_INVALID_ARGUMENT, "content of blob %s has another digest: %s", blob->digest, digest);
    return distribution_upload_end(upload, digest, &size, err);
}

static int push_blob(struct layout_push *push, const struct oci_descriptor *blob, struct err *err)
{
    struct distribution_upload *upload = NULL;
    if (!oci_digest_valid(blob->digest))
        return err_set(err, ERR_INVALID_ARGUMENT, "unsupported digest %.128s", blob->digest ? blob->digest : "");
    int exists = distribution_blob_exists(push->distribution, blob, err);
    if (exists < 0)
        return -1;
    if (!exists) {
        _cleanup_close_ int fd = openat(push->blobs_fd, oci_digest_hex(blob->digest), O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return err_errno(err, errno, "blob %s", blob->digest);
        int result = distribution_upload_begin(push->distribution, &upload, err);
        if (result == 0)
            result = send_file(push, fd, blob, upload, err);
        distribution_upload_free(upload);
        if (result < 0)
            return err_wrap(err, "blob %.19s", blob->digest);
    }
    fprintf(push->progress, "%.12s: %s\n", oci_digest_hex(blob->digest), exists ? "Layer already exists" : "Pushed");
    return 0;
}

static int push_one(void *context, size_t index, struct err *err)
{
    struct layout_push *push = context;
    if (index == push->manifest.layers.len)
        return push_blob(push, &push->manifest.config, err);
    return push_blob(push, json_list_at(&push->manifest.layers, &oci_descriptor_table, index), err);
}

// ---- manifests ------------------------------------------------------------------------------------------------------

static int push_manifest(struct layout_push *push, const struct oci_descriptor *entry, const char *reference, int depth, struct err *err);

static int push_children(struct layout_push *push, const struct buf *text, int depth, struct err *err)
{
    struct oci_index index;
    if (depth > LOAD_INDEX_DEPTH_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "indexes are nested more than %d deep", LOAD_INDEX_DEPTH_MAX);
    if (json_decode_text(&oci_index_table, buf_text(text), text->size, &index, &push->arena, NULL, err) < 0)
        return err_wrap(err, "index");
    for (size_t i = 0; i < index.manifests.len; i++) {
        const struct oci_descriptor *entry = json_list_at(&index.manifests, &oci_descriptor_table, i);
        if (push_manifest(push, entry, entry->digest, depth + 1, err) < 0)
            return -1;
    }
    return 0;
}

static int push_image(struct layout_push *push, const struct buf *text, struct err *err)
{
    if (json_decode_text(&oci_manifest_table, buf_text(text), text->size, &push->manifest, &push->arena, NULL, err) < 0)
        return err_wrap(err, "manifest");
    return crew_run(push->manifest.layers.len + 1, PARALLEL, push_one, push, &push->stopped, err);
}

static int push_manifest(struct layout_push *push, const struct oci_descriptor *entry, const char *reference, int depth, struct err *err)
{
    _cleanup_manifest_ struct distribution_manifest manifest = DISTRIBUTION_MANIFEST_INIT;
    if (read_text(push, entry->digest, &manifest.text, err) < 0)
        return -1;
    snprintf(manifest.media_type, sizeof(manifest.media_type), "%s", entry->media_type ? entry->media_type : "");
    bool index = distribution_is_index(manifest.media_type);
    if (!index && !distribution_is_manifest(manifest.media_type))
        return err_set(err, ERR_INVALID_ARGUMENT, "%.100s is not a manifest", manifest.media_type);
    if ((index ? push_children(push, &manifest.text, depth, err) : push_image(push, &manifest.text, err)) < 0)
        return -1;
    return distribution_manifest_put(push->distribution, reference, &manifest, err);
}

// The entry of that name, or the only one; NULL: none.
static const struct oci_descriptor *find_entry(const struct oci_index *index, const struct image_ref *ref)
{
    for (size_t i = 0; i < index->manifests.len; i++) {
        const struct oci_descriptor *entry = json_list_at(&index->manifests, &oci_descriptor_table, i);
        const char *name = kvs_get(&entry->annotations, REF_NAME);
        if (str_eq(name, ref->familiar) || str_eq(name, ref->tag) || index->manifests.len == 1)
            return entry;
    }
    return NULL;
}

static int push_named(struct layout_push *push, int folder, const struct image_ref *ref, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LOAD_DOCUMENT_MAX);
    struct oci_index index;
    if (file_read_at(folder, "index.json", &text, err) < 0)
        return -1;
    if (json_decode_text(&oci_index_table, buf_text(&text), text.size, &index, &push->arena, NULL, err) < 0)
        return err_wrap(err, "index.json");
    const struct oci_descriptor *entry = find_entry(&index, ref);
    if (!entry)
        return err_set(err, ERR_NOT_FOUND, "the folder has no image of the name %s", ref->familiar);
    if (push_manifest(push, entry, ref->tag, 0, err) < 0)
        return -1;
    fprintf(push->progress, "%s: digest: %s size: %lld\n", ref->tag, entry->digest, (long long)entry->size);
    return 0;
}

int transfer_push_layout(const char *folder, const char *reference, const struct transfer_remote *remote, FILE *progress, struct err *err)
{
    struct layout_push push = { .blobs_fd = -1, .progress = progress };
    struct image_ref ref;
    _cleanup_close_ int fd = file_open_dir(AT_FDCWD, folder, err);
    int result = fd < 0 ? -1 : image_ref_parse(reference, true, &push.arena, &ref, err);
    if (result == 0 && !ref.tag)
        result = err_set(err, ERR_INVALID_ARGUMENT, "cannot push a digest reference");
    if (result == 0)
        result = push.blobs_fd = file_open_dir(fd, "blobs/sha256", err);
    if (result >= 0)
        result = distribution_new(&ref, DISTRIBUTION_PUSH, &remote->login, &remote->options, &push.distribution, err);
    if (result == 0)
        result = push_named(&push, fd, &ref, err);
    distribution_free(push.distribution);
    fd_close(push.blobs_fd);
    arena_done(&push.arena);
    return result;
}
