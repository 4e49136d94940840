// The unpacking half of a pull. What comes over the link comes from a process that speaks to strangers: every document is
// checked against the digest that the one before it named, every layer against its blob's digest and its DiffID, and nothing is
// taken twice. Each layer is unpacked by a thread of its own.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "transfer/transfer.h"
#include "link.h"
#include "load.h"
#include "platform.h"
#include "report.h"
#include "base/file.h"

struct pull;

struct pull_layer {
    struct pull *pull;
    size_t position;
    int fd; // the pipe
    bool started, joined, known;
    pthread_t thread;
    int result;
    int failed; // how many had failed before: the first is why the others were cut off
    struct err err;
};

struct pull {
    int link_fd, staging_fd;
    atomic_int failures; // of layers
    FILE *report;
    struct image_ref ref;
    const char *platform; // NULL: any
    struct arena arena;
    char top_digest[OCI_DIGEST_SIZE];
    struct oci_index *index; // NULL: the reference names a manifest
    struct oci_manifest *manifest;
    char *manifest_text, manifest_digest[OCI_DIGEST_SIZE];
    const char *manifest_type;
    struct oci_image_config *config; // NULL until all documents came
    struct buf config_text;
    struct stage stage;
    struct pull_layer *layers; // one for each of the manifest
    size_t layer_len;
    bool ended;
};

// ---- documents ------------------------------------------------------------------------------------------------------

static int read_document(int fd, struct buf *out, char digest[OCI_DIGEST_SIZE], struct err *err)
{
    struct stat info;
    if (fd < 0 || fstat(fd, &info) < 0 || !S_ISREG(info.st_mode) || info.st_size > (off_t)LOAD_DOCUMENT_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "a document is missing or larger than %zu bytes", LOAD_DOCUMENT_MAX);
    lseek(fd, 0, SEEK_SET);
    char *room = buf_reserve(out, (size_t)info.st_size);
    if (!room || fd_read_full(fd, room, (size_t)info.st_size, err) != info.st_size)
        return err_set(err, ERR_INVALID_ARGUMENT, "a document cannot be read");
    buf_commit(out, (size_t)info.st_size);
    struct layer_digest *hash = layer_digest_new();
    layer_digest_add(hash, buf_text(out), out->size);
    layer_digest_end(hash, digest);
    return 0;
}

static int read_manifest(struct pull *pull, const struct buf *text, const char *digest, struct err *err)
{
    struct oci_manifest *manifest = arena_alloc(&pull->arena, sizeof(*manifest));
    if (json_decode_text(&oci_manifest_table, buf_text(text), text->size, manifest, &pull->arena, NULL, err) < 0)
        return err_wrap(err, "manifest");
    if (manifest->layers.len > STAGE_LAYERS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "image has %zu layers, at most %d can be stacked", manifest->layers.len,
                       STAGE_LAYERS_MAX);
    for (size_t i = 0; i < manifest->layers.len; i++) {
        const struct oci_descriptor *layer = json_list_at(&manifest->layers, &oci_descriptor_table, i);
        if (!oci_layer_is_tar(layer->media_type))
            return err_set(err, ERR_INVALID_ARGUMENT, "layer %zu: unsupported media type %.128s", i,
                           layer->media_type ? layer->media_type : "");
        if (!oci_digest_valid(layer->digest) || layer->size < 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "layer %zu: unsupported digest %.128s", i, layer->digest ? layer->digest : "");
    }
    pull->manifest = manifest;
    pull->manifest_text = arena_strndup(&pull->arena, buf_text(text), text->size);
    snprintf(pull->manifest_digest, sizeof(pull->manifest_digest), "%s", digest);
    pull->manifest_type = str_eq(manifest->config.media_type, MEDIA_DOCKER_CONFIG) ? MEDIA_DOCKER_MANIFEST : MEDIA_OCI_MANIFEST;
    if (!str_empty(manifest->media_type))
        pull->manifest_type = manifest->media_type;
    return 0;
}

static int take_top(struct pull *pull, int fd, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LOAD_DOCUMENT_MAX);
    _cleanup_json_ json_t *document = NULL;
    if (read_document(fd, &text, pull->top_digest, err) < 0)
        return -1;
    if (pull->ref.digest && !str_eq(pull->ref.digest, pull->top_digest))
        return err_set(err, ERR_INVALID_ARGUMENT, "manifest %s has another digest: %s", pull->ref.digest, pull->top_digest);
    if (json_parse(buf_text(&text), text.size, &document, err) < 0)
        return err_wrap(err, "manifest");
    if (!json_object_get(document, "manifests"))
        return read_manifest(pull, &text, pull->top_digest, err);
    pull->index = arena_alloc(&pull->arena, sizeof(*pull->index));
    if (json_decode_text(&oci_index_table, buf_text(&text), text.size, pull->index, &pull->arena, NULL, err) < 0)
        return err_wrap(err, "index");
    return 0;
}

// Below a nested index the chain of digests is the fetching half's word alone; a tag is, too.
static int take_manifest(struct pull *pull, int fd, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LOAD_DOCUMENT_MAX);
    char digest[OCI_DIGEST_SIZE];
    bool named = false, nested = false;
    if (read_document(fd, &text, digest, err) < 0)
        return -1;
    for (size_t i = 0; i < pull->index->manifests.len; i++) {
        const struct oci_descriptor *entry = json_list_at(&pull->index->manifests, &oci_descriptor_table, i);
        named = named || str_eq(entry->digest, digest);
        nested = nested || distribution_is_index(entry->media_type);
    }
    if (!named && (!nested || pull->ref.digest))
        return err_set(err, ERR_INVALID_ARGUMENT, "manifest %s is not in the index", digest);
    return read_manifest(pull, &text, digest, err);
}

static int check_platform(const struct pull *pull, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct oci_platform wanted;
    const struct oci_image_config *config = pull->config;
    if (str_empty(pull->platform))
        return 0;
    if (platform_parse(pull->platform, &arena, &wanted, err) < 0)
        return -1;
    if (str_eq(wanted.architecture, config->architecture) || str_empty(config->architecture))
        return 0;
    return err_set(err, ERR_NOT_FOUND,
                   "image with reference %s was found but its platform (%.64s/%.64s) does not match the specified platform (%s/%s)",
                   pull->ref.familiar, config->os, config->architecture, wanted.os, wanted.architecture);
}

static void short_id(const struct pull *pull, size_t position, char out[13])
{
    const struct oci_descriptor *layer = json_list_at(&pull->manifest->layers, &oci_descriptor_table, position);
    snprintf(out, 13, "%.12s", oci_digest_hex(layer->digest));
}

static int announce(struct pull *pull, struct err *err)
{
    json_t *list = json_array();
    const char *name = pull->ref.digest ? pull->ref.digest : pull->ref.tag;
    _cleanup_free_ char *status = mem_printf("Pulling from %s", pull->ref.path);
    for (size_t i = 0; i < pull->layer_len; i++)
        json_array_append_new(list, json_string(pull->config->rootfs.diff_ids.items[i]));
    if (report_progress(pull->report, name, status, 0, 0, err) < 0)
        json_decref(list);
    else if (report_line(pull->report, "diff_ids", list, err) == 0)
        return 0;
    return -1;
}

static int take_config(struct pull *pull, int fd, struct err *err)
{
    char digest[OCI_DIGEST_SIZE];
    struct oci_image_config *config = arena_alloc(&pull->arena, sizeof(*config));
    if (read_document(fd, &pull->config_text, digest, err) < 0)
        return -1;
    if (!str_eq(digest, pull->manifest->config.digest))
        return err_set(err, ERR_INVALID_ARGUMENT, "content of blob %.128s has another digest: %s",
                       pull->manifest->config.digest ? pull->manifest->config.digest : "", digest);
    if (json_decode_text(&oci_image_config_table, buf_text(&pull->config_text), pull->config_text.size, config, &pull->arena, NULL,
                         err) < 0)
        return err_wrap(err, "image config");
    if (load_check_config(config, pull->manifest->layers.len, err) < 0)
        return -1;
    pull->config = config;
    pull->layer_len = config->rootfs.diff_ids.len;
    pull->layers = arena_alloc(&pull->arena, (pull->layer_len + 1) * sizeof(*pull->layers));
    for (size_t i = 0; i < pull->layer_len; i++)
        pull->layers[i] = (struct pull_layer){ .pull = pull, .position = i, .fd = -1 };
    return check_platform(pull, err) < 0 ? -1 : announce(pull, err);
}

// ---- layers ---------------------------------------------------------------------------------------------------------

static int unpack_layer(struct pull_layer *layer, struct err *err)
{
    struct pull *pull = layer->pull;
    const struct oci_descriptor *blob = json_list_at(&pull->manifest->layers, &oci_descriptor_table, layer->position);
    const char *diff_id = pull->config->rootfs.diff_ids.items[layer->position];
    char id[13], found[OCI_DIGEST_SIZE];
    size_t index;
    short_id(pull, layer->position, id);
    const struct stage_claim claim = { .diff_id = diff_id, .blob = blob->digest, .progress_id = id };
    if (stage_blob(&pull->stage, layer->fd, blob->size, &claim, &index, err) < 0)
        return -1;
    stage_diff_id(&pull->stage, index, found);
    if (!str_eq(found, diff_id))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid diffID: expected \"%s\", got \"%s\"", diff_id, found);
    if (report_progress(pull->report, id, "Verifying Checksum", 0, 0, err) < 0 ||
        report_progress(pull->report, id, "Download complete", 0, 0, err) < 0 ||
        report_progress(pull->report, id, "Extracting", blob->size, blob->size, err) < 0)
        return -1;
    return report_progress(pull->report, id, "Pull complete", 0, 0, err);
}

static void *unpack_thread(void *context)
{
    struct pull_layer *layer = context;
    layer->result = unpack_layer(layer, &layer->err);
    if (layer->result < 0) {
        layer->failed = atomic_fetch_add(&layer->pull->failures, 1);
        err_wrap(&layer->err, "layer %zu", layer->position);
    }
    fd_close(take_fd(&layer->fd)); // tells the fetching half, when this was too early
    return NULL;
}

static int find_layer(struct pull *pull, const struct link_message *message, struct pull_layer **out, struct err *err)
{
    if (!pull->config || message->position >= pull->layer_len)
        return err_set(err, ERR_INTERNAL, "the fetching process sent a layer that the image has not");
    *out = &pull->layers[message->position];
    if ((*out)->started || (*out)->known)
        return err_set(err, ERR_INTERNAL, "the fetching process sent a layer twice");
    return 0;
}

static int take_known(struct pull *pull, const struct link_message *message, struct err *err)
{
    struct pull_layer *layer;
    char id[13];
    if (find_layer(pull, message, &layer, err) < 0)
        return -1;
    layer->known = true;
    short_id(pull, layer->position, id);
    stage_known(&pull->stage, pull->config->rootfs.diff_ids.items[layer->position], message->size);
    return report_progress(pull->report, id, "Already exists", 0, 0, err);
}

static int take_layer(struct pull *pull, const struct link_message *message, int *fd, struct err *err)
{
    struct pull_layer *layer;
    char id[13];
    if (find_layer(pull, message, &layer, err) < 0)
        return -1;
    if (*fd < 0)
        return err_set(err, ERR_INTERNAL, "the fetching process sent a layer without a pipe");
    short_id(pull, layer->position, id);
    if (report_progress(pull->report, id, "Pulling fs layer", 0, 0, err) < 0)
        return -1;
    layer->fd = take_fd(fd);
    int failed = pthread_create(&layer->thread, NULL, unpack_thread, layer);
    if (failed)
        return err_errno(err, failed, "thread");
    layer->started = true;
    return 0;
}

// ---- messages -------------------------------------------------------------------------------------------------------

static int take_message(struct pull *pull, const struct link_message *message, int *fd, struct err *err)
{
    bool index_alone = pull->index && !pull->manifest;
    switch (message->kind) {
    case LINK_TOP:
        return *pull->top_digest ? err_set(err, ERR_INTERNAL, "a second manifest") : take_top(pull, *fd, err);
    case LINK_MANIFEST:
        return index_alone ? take_manifest(pull, *fd, err) : err_set(err, ERR_INTERNAL, "a manifest out of order");
    case LINK_CONFIG:
        return pull->manifest && !pull->config ? take_config(pull, *fd, err) : err_set(err, ERR_INTERNAL, "a config out of order");
    case LINK_KNOWN:
        return take_known(pull, message, err);
    case LINK_LAYER:
        return take_layer(pull, message, fd, err);
    case LINK_ERROR:
        *err = message->err;
        err->message[sizeof(err->message) - 1] = 0;
        if (err->class <= ERR_NONE || err->class >= ERR_CLASS_COUNT)
            err->class = ERR_INTERNAL;
        return -1;
    case LINK_END:
        pull->ended = true;
        return pull->config ? 0 : err_set(err, ERR_INTERNAL, "the fetching process sent no image");
    }
    return err_set(err, ERR_INTERNAL, "the fetching process sent a message of an unknown kind");
}

static int receive(struct pull *pull, struct err *err)
{
    struct link_message message;
    _cleanup_close_ int fd = -1;
    if (fetch_link_receive(pull->link_fd, &message, &fd, err) < 0)
        return -1;
    return take_message(pull, &message, &fd, err);
}

// ---- the whole ------------------------------------------------------------------------------------------------------

// Waits for all threads. The reason that counts is that of the layer which failed first: the others' pipes were cut off then; where the fetching half gave one that is none of a
// layer's doing, that one.
static int join_layers(struct pull *pull, struct err *err)
{
    bool failed = false;
    for (size_t i = 0; i < pull->layer_len; i++) {
        struct pull_layer *layer = &pull->layers[i];
        if (!layer->started)
            continue;
        if (!layer->joined)
            pthread_join(layer->thread, NULL);
        layer->joined = true;
        if (layer->result < 0 && layer->failed == 0 && err)
            *err = layer->err;
        failed = failed || layer->result < 0;
    }
    return failed ? -1 : 0;
}

static int gather(struct pull *pull, struct err *err)
{
    size_t indexes[STAGE_LAYERS_MAX];
    struct strv references = { 0 };
    char digest[OCI_DIGEST_SIZE];
    for (size_t i = 0; i < pull->layer_len; i++) {
        const char *diff_id = pull->config->rootfs.diff_ids.items[i];
        const struct stage_layer *layer = stage_find(&pull->stage, diff_id);
        if (!layer)
            return err_set(err, ERR_INVALID_ARGUMENT, "layer %zu: %s did not come", i, diff_id);
        indexes[i] = (size_t)(layer - pull->stage.layers);
    }
    if (!pull->ref.digest)
        strv_push_arena(&references, &pull->arena, arena_printf(&pull->arena, "%s/%s:%s", pull->ref.domain, pull->ref.path, pull->ref.tag));
    strv_push_arena(&references, &pull->arena,
                    arena_printf(&pull->arena, "%s/%s@%s", pull->ref.domain, pull->ref.path, pull->top_digest));
    if (stage_config(&pull->stage, buf_text(&pull->config_text), pull->config_text.size, digest, err) < 0)
        return -1;
    json_t *manifest = json_pack("{s:o, s:s, s:s, s:s}", "repository", json_sprintf("%s/%s", pull->ref.domain, pull->ref.path),
                                 "digest", pull->manifest_digest, "media_type", pull->manifest_type, "text", pull->manifest_text);
    return stage_image(&pull->stage, digest, &references, indexes, pull->layer_len, manifest, err);
}

static void pull_done(struct pull *pull)
{
    for (size_t i = 0; i < pull->layer_len; i++)
        fd_close(pull->layers[i].fd);
    stage_done(&pull->stage);
    buf_done(&pull->config_text);
    arena_done(&pull->arena);
}

static int receive_all(struct pull *pull, struct err *err)
{
    struct err layer_err = { 0 };
    int result = 0;
    while (!pull->ended && result == 0)
        result = receive(pull, err);
    if (result < 0 && err->class != ERR_CANCELLED)
        return -1; // the threads end with the process, or with their pipes
    int joined = join_layers(pull, &layer_err);
    if (joined < 0)
        *err = layer_err;
    return joined < 0 ? -1 : result;
}

int transfer_pull(int link_fd, int staging_fd, const char *reference, const char *platform, uint64_t inflate_ratio, FILE *report,
                  struct err *err)
{
    struct pull pull = { .link_fd = link_fd, .staging_fd = staging_fd, .report = report, .platform = platform,
                         .config_text = BUF_INIT(LOAD_DOCUMENT_MAX), .stage = STAGE_INIT };
    int result = image_ref_parse(reference, true, &pull.arena, &pull.ref, err);
    if (result == 0)
        result = stage_open(&pull.stage, staging_fd, inflate_ratio, report, err);
    if (result == 0)
        result = receive_all(&pull, err);
    if (result == 0)
        result = gather(&pull, err);
    if (result < 0) {
        shutdown(link_fd, SHUT_RDWR); // ends the fetching half, and so the pipes
        join_layers(&pull, NULL);
    }
    pull_done(&pull);
    return result;
}
