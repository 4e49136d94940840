// One layer of a push, from the cheapest way to the dearest: it is there; it is in another repository of that registry; its plain tar is
// there; its tar is made again, compressed, hashed and sent as it comes.
#include <sys/stat.h>
#include <unistd.h>

#include "push.h"
#include "gzip.h"
#include "report.h"
#include "layer/layer.h"

#define READ_SIZE (256 * 1024)
#define PROGRESS_STEPS 50
#define PROGRESS_MIN (512 * 1024)

int push_report(const struct push *push, const char *diff_id, const char *status, struct err *err)
{
    char id[13];
    snprintf(id, sizeof(id), "%.12s", oci_digest_hex(diff_id));
    return report_progress(push->report, id, status, 0, 0, err);
}

// ---- what registries have -------------------------------------------------------------------------------------------

// The blob that a known manifest has for the layer at a place; NULL: its image has another there.
static const struct oci_descriptor *candidate(const struct push *push, size_t manifest, size_t index)
{
    const struct image_manifest *known = json_list_at(&push->known, &image_manifest_table, manifest);
    const struct oci_manifest *read = &push->manifests[manifest];
    if ((int64_t)index >= known->shared || index >= read->layers.len)
        return NULL;
    const struct oci_descriptor *blob = json_list_at(&read->layers, &oci_descriptor_table, index);
    return oci_digest_valid(blob->digest) ? blob : NULL;
}

static bool is_repeated(const struct push *push, size_t manifest, size_t index, const char *digest)
{
    for (size_t i = 0; i < manifest; i++) {
        const struct oci_descriptor *before = candidate(push, i, index);
        if (before && str_eq(before->digest, digest))
            return true;
    }
    return false;
}

// 1: the repository has one of the blobs that the layer is known as.
static int find_there(struct push *push, size_t index, struct err *err)
{
    for (size_t i = 0; i < push->known.len; i++) {
        const struct oci_descriptor *blob = candidate(push, i, index);
        if (!blob || is_repeated(push, i, index, blob->digest))
            continue;
        int exists = distribution_blob_exists(push->distribution, blob, err);
        if (exists > 0)
            push->layers[index].blob = *blob;
        if (exists != 0)
            return exists;
    }
    return 0;
}

// The path below our registry's domain; NULL: another registry, or the repository itself.
static const char *other_path(const struct push *push, const char *repository)
{
    size_t size = strlen(push->ref.domain);
    bool same = strncmp(repository, push->ref.domain, size) == 0 && repository[size] == '/';
    return same && !str_eq(repository + size + 1, push->ref.path) ? repository + size + 1 : NULL;
}

// 1: mounted. A registry that can't or won't is sent the bytes, so that is no error.
static int mount_there(struct push *push, size_t index, struct err *err)
{
    for (size_t i = 0; i < push->known.len; i++) {
        const struct image_manifest *known = json_list_at(&push->known, &image_manifest_table, i);
        const struct oci_descriptor *blob = candidate(push, i, index);
        const char *path = blob ? other_path(push, known->repository) : NULL;
        if (!path || distribution_blob_mount(push->distribution, blob->digest, path, NULL) <= 0)
            continue;
        _cleanup_free_ char *status = mem_printf("Mounted from %s", path);
        push->layers[index].blob = *blob;
        return push_report(push, push->layers[index].diff_id, status, err) < 0 ? -1 : 1;
    }
    return 0;
}

// 1: it has the plain tar. So has one that shares our store, and no byte of the layer has to move.
static int find_plain(struct push *push, struct push_layer *layer, struct err *err)
{
    struct layer_recipe_info info;
    if (layer->recipe_fd < 0 || layer_recipe_read_info(layer->recipe_fd, &info, NULL) < 0)
        return 0;
    const struct oci_descriptor plain = { .media_type = (char *)MEDIA_OCI_LAYER, .digest = (char *)layer->diff_id, .size = (int64_t)info.tar_size };
    int exists = distribution_blob_exists(push->distribution, &plain, err);
    if (exists > 0)
        layer->blob = plain;
    return exists;
}

// ---- sending --------------------------------------------------------------------------------------------------------

struct sending {
    struct push *push;
    const struct push_layer *layer;
    struct layer_recipe *recipe;
    struct layer_digest *hash; // of the tar
    struct gzip *gzip;
    struct distribution_upload *upload;
    int64_t at, total, reported;
};

static void sending_done(struct sending *sending)
{
    layer_recipe_free(sending->recipe);
    layer_digest_free(sending->hash);
    gzip_free(sending->gzip);
    distribution_upload_free(sending->upload);
}

static int upload_bytes(void *context, const void *data, size_t size, struct err *err)
{
    return distribution_upload_write(context, data, size, err);
}

static int progress(struct sending *sending, struct err *err)
{
    char id[13];
    int64_t step = MAX_OF(sending->total / PROGRESS_STEPS, (int64_t)PROGRESS_MIN);
    if (sending->at - sending->reported < step && sending->at != sending->total)
        return 0;
    sending->reported = sending->at;
    snprintf(id, sizeof(id), "%.12s", oci_digest_hex(sending->layer->diff_id));
    return report_progress(sending->push->report, id, "Pushing", sending->at, sending->total, err);
}

static int send_tar(struct sending *sending, struct err *err)
{
    _cleanup_free_ char *data = mem_alloc(READ_SIZE);
    for (;;) {
        ssize_t got = layer_recipe_read(sending->recipe, data, READ_SIZE, err);
        if (got < 0)
            return -1;
        if (got == 0)
            return gzip_end(sending->gzip, err);
        if (atomic_load(&sending->push->stopped))
            return err_set(err, ERR_CANCELLED, "another layer failed");
        layer_digest_add(sending->hash, data, (size_t)got);
        sending->at += got;
        if (gzip_write(sending->gzip, data, (size_t)got, err) < 0 || progress(sending, err) < 0)
            return -1;
    }
}

// What is about to get a name is what the image says that it is.
static int check_tar(struct sending *sending, struct err *err)
{
    char digest[OCI_DIGEST_SIZE];
    layer_digest_end(take_ptr(&sending->hash), digest);
    return str_eq(digest, sending->layer->diff_id)
               ? 0
               : err_set(err, ERR_INTERNAL, "layer %s is damaged: its tar has digest %s", sending->layer->diff_id, digest);
}

static int send_layer(struct push *push, struct push_layer *layer, struct err *err)
{
    _cleanup_(sending_done) struct sending sending = { .push = push, .layer = layer };
    if (layer_recipe_open(layer->recipe_fd, layer->image_fd, &sending.recipe, err) < 0 ||
        distribution_upload_begin(push->distribution, &sending.upload, err) < 0)
        return -1;
    sending.total = (int64_t)layer_recipe_info(sending.recipe).tar_size;
    sending.hash = layer_digest_new();
    sending.gzip = gzip_new(upload_bytes, sending.upload);
    if (send_tar(&sending, err) < 0 || check_tar(&sending, err) < 0 ||
        distribution_upload_end(sending.upload, layer->digest, &layer->blob.size, err) < 0)
        return -1;
    layer->blob.media_type = (char *)MEDIA_OCI_LAYER "+gzip";
    layer->blob.digest = layer->digest;
    return push_report(push, layer->diff_id, "Pushed", err);
}

// ---- what was kept as it came ---------------------------------------------------------------------------------------

// As a registry has described it, else by its first bytes.
static void describe_original(const struct push *push, size_t index, struct push_layer *layer)
{
    char start[4] = "";
    for (size_t i = 0; i < push->known.len; i++) {
        const struct oci_descriptor *blob = candidate(push, i, index);
        if (blob && str_eq(blob->digest, layer->original)) {
            layer->blob = *blob;
            return;
        }
    }
    bool zstd = pread(layer->original_fd, start, sizeof(start), 0) == sizeof(start) && memcmp(start, "\x28\xb5\x2f\xfd", sizeof(start)) == 0;
    layer->blob = (struct oci_descriptor){ .media_type = (char *)(zstd ? MEDIA_OCI_LAYER "+zstd" : MEDIA_OCI_LAYER "+gzip"),
                                           .digest = (char *)layer->original };
}

static int send_file(struct sending *sending, struct err *err)
{
    _cleanup_free_ char *data = mem_alloc(READ_SIZE);
    while (sending->at < sending->total) {
        ssize_t got = pread(sending->layer->original_fd, data, READ_SIZE, sending->at);
        if (got <= 0)
            return err_set(err, ERR_INTERNAL, "the layer's original can't be read");
        if (atomic_load(&sending->push->stopped))
            return err_set(err, ERR_CANCELLED, "another layer failed");
        sending->at += got;
        if (distribution_upload_write(sending->upload, data, (size_t)got, err) < 0 || progress(sending, err) < 0)
            return -1;
    }
    return 0;
}

static int send_original(struct push *push, size_t index, struct err *err)
{
    struct push_layer *layer = &push->layers[index];
    _cleanup_(sending_done) struct sending sending = { .push = push, .layer = layer };
    struct stat info;
    if (fstat(layer->original_fd, &info) < 0 || distribution_upload_begin(push->distribution, &sending.upload, err) < 0)
        return -1;
    sending.total = info.st_size;
    if (send_file(&sending, err) < 0)
        return -1;
    distribution_upload_digest(sending.upload, layer->digest);
    if (!str_eq(layer->digest, layer->original))
        return err_set(err, ERR_INTERNAL, "its original is damaged: %s has digest %s", layer->original, layer->digest);
    describe_original(push, index, layer);
    if (distribution_upload_end(sending.upload, layer->digest, &layer->blob.size, err) < 0)
        return -1;
    return push_report(push, layer->diff_id, "Pushed", err);
}

int push_layer(void *context, size_t index, struct err *err)
{
    struct push *push = context;
    struct push_layer *layer = &push->layers[index];
    int there = find_there(push, index, err), mounted = there ? 0 : mount_there(push, index, err);
    if (mounted != 0)
        return mounted < 0 ? -1 : 0;
    if (there == 0)
        there = find_plain(push, layer, err);
    if (there != 0)
        return there < 0 ? -1 : push_report(push, layer->diff_id, "Layer already exists", err);
    if (layer->original_fd >= 0)
        return send_original(push, index, err) < 0 ? err_wrap(err, "layer %.19s", layer->diff_id) : 0;
    if (layer->recipe_fd < 0)
        return err_set(err, ERR_NOT_IMPLEMENTED,
                       "layer %.19s: the registry lacks it, and an older version has unpacked it without what gives its tar back", layer->diff_id);
    return send_layer(push, layer, err) < 0 ? err_wrap(err, "layer %.19s", layer->diff_id) : 0;
}
