// A push, in one process that has the layers' files by descriptors: layers first, then the configuration, then the manifest. The
// manifest is, byte for byte, one that a registry has already, if all its layers were found again; else Docker's schema 2.
#include <errno.h>
#include <sys/stat.h>

#include "transfer/transfer.h"
#include "crew.h"
#include "load.h"
#include "push.h"
#include "report.h"

// ---- what the daemon gives --------------------------------------------------------------------------------------------

struct request {
    struct strv diff_ids;
    json_t *recipes; // array of flags: whether a layer's two descriptors come
    struct strv originals; // digests, "" where none: whether one more comes
    struct json_list manifests; // struct image_manifest
};

static const struct json_field request_fields[] = {
    JSON_FIELD("diff_ids", JSON_TEXTS, struct request, diff_ids),
    JSON_FIELD("recipes", JSON_RAW, struct request, recipes),
    JSON_FIELD("originals", JSON_TEXTS, struct request, originals),
    JSON_FIELD("manifests", JSON_LIST, struct request, manifests, .sub = &image_manifest_table),
};
static const struct json_table request_table = JSON_TABLE(struct request, request_fields);

int push_read_file(int fd, struct buf *out, struct err *err)
{
    struct stat info;
    if (fstat(fd, &info) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return err_errno(err, errno, "request");
    char *room = buf_reserve(out, (size_t)info.st_size);
    if (!room || fd_read_full(fd, room, (size_t)info.st_size, err) != info.st_size)
        return err_set(err, ERR_INTERNAL, "request: cannot be read");
    buf_commit(out, (size_t)info.st_size);
    return 0;
}

int push_receive_fds(int sock, int *fds, size_t len, struct err *err)
{
    char byte;
    size_t got = len;
    ssize_t size = fd_recv(sock, &byte, 1, fds, &got, err);
    if (size < 0)
        return -1;
    return size == 1 && got == len ? 0 : err_set(err, ERR_CANCELLED, "the daemon is gone");
}

static int take_layers(struct push *push, const struct request *request, int sock, struct err *err)
{
    push->layer_len = request->diff_ids.len;
    push->layers = arena_alloc(&push->arena, (push->layer_len + 1) * sizeof(*push->layers));
    for (size_t i = 0; i < push->layer_len; i++)
        push->layers[i] = (struct push_layer){ .diff_id = request->diff_ids.items[i], .recipe_fd = -1, .image_fd = -1, .original_fd = -1 };
    for (size_t i = 0; i < push->layer_len; i++) {
        struct push_layer *layer = &push->layers[i];
        int fds[2];
        if (json_is_true(json_array_get(request->recipes, i))) {
            if (push_receive_fds(sock, fds, 2, err) < 0)
                return -1;
            layer->recipe_fd = fds[0];
            layer->image_fd = fds[1];
        }
        if (i < request->originals.len && !str_empty(request->originals.items[i])) {
            if (push_receive_fds(sock, &layer->original_fd, 1, err) < 0)
                return -1;
            layer->original = request->originals.items[i];
        }
    }
    return 0;
}

// Manifests that can't be read any more offer nothing.
static void read_manifests(struct push *push)
{
    push->manifests = arena_alloc(&push->arena, (push->known.len + 1) * sizeof(*push->manifests));
    for (size_t i = 0; i < push->known.len; i++) {
        const struct image_manifest *known = json_list_at(&push->known, &image_manifest_table, i);
        if (json_decode_text(&oci_manifest_table, known->text, strlen(known->text), &push->manifests[i], &push->arena, NULL, NULL) < 0)
            push->manifests[i] = (struct oci_manifest){ 0 };
    }
}

static int take_request(struct push *push, int sock, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT((size_t)256 << 20);
    json_t *document = NULL;
    struct request request;
    int fds[2];
    if (push_receive_fds(sock, fds, 2, err) < 0)
        return -1;
    _cleanup_close_ int request_fd = fds[0], config_fd = fds[1];
    if (push_read_file(request_fd, &text, err) < 0 || push_read_file(config_fd, &push->config, err) < 0 ||
        json_parse(buf_text(&text), text.size, &document, err) < 0)
        return -1;
    int result = json_decode(&request_table, document, &request, &push->arena, NULL, err);
    if (result == 0)
        result = take_layers(push, &request, sock, err);
    json_decref(document);
    if (result < 0)
        return -1;
    push->known = request.manifests;
    read_manifests(push);
    return 0;
}

// ---- the configuration ----------------------------------------------------------------------------------------------

static int push_config(struct push *push, struct err *err)
{
    char digest[OCI_DIGEST_SIZE];
    struct distribution_upload *upload = NULL;
    struct layer_digest *hash = layer_digest_new();
    layer_digest_add(hash, buf_text(&push->config), push->config.size);
    layer_digest_end(hash, digest);
    push->config_blob = (struct oci_descriptor){ .media_type = (char *)MEDIA_DOCKER_CONFIG, .digest = arena_strdup(&push->arena, digest),
                                                 .size = (int64_t)push->config.size };
    int exists = distribution_blob_exists(push->distribution, &push->config_blob, err);
    if (exists != 0)
        return exists < 0 ? -1 : 0;
    int result = distribution_upload_begin(push->distribution, &upload, err);
    if (result == 0)
        result = distribution_upload_write(upload, buf_text(&push->config), push->config.size, err);
    if (result == 0)
        result = distribution_upload_end(upload, digest, &push->config_blob.size, err);
    distribution_upload_free(upload);
    return result < 0 ? err_wrap(err, "image configuration") : 0;
}

// ---- the manifest ---------------------------------------------------------------------------------------------------

static bool manifest_fits(const struct push *push, const struct oci_manifest *manifest)
{
    if (!str_eq(manifest->config.digest, push->config_blob.digest) || manifest->layers.len != push->layer_len)
        return false;
    for (size_t i = 0; i < push->layer_len; i++) {
        const struct oci_descriptor *layer = json_list_at(&manifest->layers, &oci_descriptor_table, i);
        if (!str_eq(layer->digest, push->layers[i].blob.digest))
            return false;
    }
    return true;
}

static bool has_zstd(const struct push *push)
{
    for (size_t i = 0; i < push->layer_len; i++)
        if (push->layers[i].blob.media_type && strstr(push->layers[i].blob.media_type, "zstd"))
            return true;
    return false;
}

// Of both families the names differ, and one manifest has one family's.
static const char *layer_type(const char *said, bool oci)
{
    const char *kind = !said || strstr(said, "gzip") ? "gzip" : strstr(said, "zstd") ? "zstd" : "";
    if (oci)
        return !*kind ? MEDIA_OCI_LAYER : str_eq(kind, "gzip") ? MEDIA_OCI_LAYER "+gzip" : MEDIA_OCI_LAYER "+zstd";
    return *kind ? "application/vnd.docker.image.rootfs.diff.tar.gzip" : "application/vnd.docker.image.rootfs.diff.tar";
}

static json_t *describe(const char *media_type, const struct oci_descriptor *blob)
{
    return json_pack("{s:s, s:I, s:s}", "mediaType", media_type, "size", (json_int_t)blob->size, "digest", blob->digest);
}

// Docker's schema 2 has no name for zstd: then it is OCI's manifest.
static void make_manifest(const struct push *push, struct distribution_manifest *out)
{
    bool oci = has_zstd(push);
    json_t *layers = json_array();
    for (size_t i = 0; i < push->layer_len; i++)
        json_array_append_new(layers, describe(layer_type(push->layers[i].blob.media_type, oci), &push->layers[i].blob));
    snprintf(out->media_type, sizeof(out->media_type), "%s", oci ? MEDIA_OCI_MANIFEST : MEDIA_DOCKER_MANIFEST);
    _cleanup_json_ json_t *document = json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", out->media_type, "config",
                                                describe(oci ? MEDIA_OCI_CONFIG : MEDIA_DOCKER_CONFIG, &push->config_blob), "layers", layers);
    json_write(document, &out->text);
}

static void choose_manifest(const struct push *push, struct distribution_manifest *out)
{
    for (size_t i = 0; i < push->known.len; i++) {
        const struct image_manifest *known = json_list_at(&push->known, &image_manifest_table, i);
        if (!manifest_fits(push, &push->manifests[i]))
            continue;
        snprintf(out->media_type, sizeof(out->media_type), "%s", known->media_type);
        buf_adds(&out->text, known->text);
        return;
    }
    make_manifest(push, out);
}

static int push_manifest(struct push *push, struct err *err)
{
    _cleanup_manifest_ struct distribution_manifest manifest = DISTRIBUTION_MANIFEST_INIT;
    choose_manifest(push, &manifest);
    if (buf_check(&manifest.text, "manifest", err) < 0 ||
        distribution_manifest_put(push->distribution, push->ref.tag, &manifest, err) < 0)
        return -1;
    struct layer_digest *hash = layer_digest_new();
    layer_digest_add(hash, buf_text(&manifest.text), manifest.text.size);
    layer_digest_end(hash, manifest.digest);
    return report_line(push->report, "pushed", json_pack("{s:o, s:s, s:s, s:s}", "repository", json_sprintf("%s/%s", push->ref.domain,
                       push->ref.path), "digest", manifest.digest, "media_type", manifest.media_type, "text", buf_text(&manifest.text)), err);
}

// ---- the whole ------------------------------------------------------------------------------------------------------

int transfer_push_new(const char *reference, const struct transfer_remote *remote, int daemon_fd, struct push **out, struct err *err)
{
    struct push *push = mem_new(struct push);
    push->config = (struct buf)BUF_INIT((size_t)16 << 20);
    push->parallel = remote->uploads > 0 ? (unsigned)MIN_OF(remote->uploads, (int64_t)CREW_MAX) : PUSH_PARALLEL;
    int result = image_ref_parse(reference, true, &push->arena, &push->ref, err);
    if (result == 0 && !push->ref.tag)
        result = err_set(err, ERR_INVALID_ARGUMENT, "cannot push a digest reference");
    if (result == 0)
        result = distribution_new(&push->ref, DISTRIBUTION_PUSH, &remote->login, &remote->options, &push->distribution, err);
    if (result == 0)
        result = take_request(push, daemon_fd, err);
    if (result == 0)
        *out = push;
    else
        transfer_push_free(push);
    return result;
}

int transfer_push(struct push *push, FILE *report, struct err *err)
{
    push->report = report;
    for (size_t i = 0; i < push->layer_len; i++)
        if (push_report(push, push->layers[i].diff_id, "Preparing", err) < 0)
            return -1;
    if (crew_run(push->layer_len, push->parallel, push_layer, push, &push->stopped, err) < 0 || push_config(push, err) < 0)
        return -1;
    return push_manifest(push, err);
}

void transfer_push_free(struct push *push)
{
    if (!push)
        return;
    for (size_t i = 0; i < push->layer_len; i++) {
        fd_close(push->layers[i].recipe_fd);
        fd_close(push->layers[i].image_fd);
        fd_close(push->layers[i].original_fd);
    }
    distribution_free(push->distribution);
    buf_done(&push->config);
    arena_done(&push->arena);
    free(push);
}
