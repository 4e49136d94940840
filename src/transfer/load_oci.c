// An OCI layout in a tar: index.json names manifests or further indexes, all content lies below blobs/ by digest and is
// checked against it before it is used.
#include <stdio.h>

#include "load.h"
#include "platform.h"
#include "spec/spec.h"

static bool is_index(const struct oci_descriptor *descriptor)
{
    return str_eq(descriptor->media_type, MEDIA_OCI_INDEX) || str_eq(descriptor->media_type, MEDIA_DOCKER_LIST);
}

static bool is_manifest(const struct oci_descriptor *descriptor)
{
    return str_eq(descriptor->media_type, MEDIA_OCI_MANIFEST) || str_eq(descriptor->media_type, MEDIA_DOCKER_MANIFEST);
}

// ---- blobs ----------------------------------------------------------------------------------------------------------

static int blob_name(const struct oci_descriptor *blob, char out[96], struct err *err)
{
    if (!blob->digest || !oci_digest_valid(blob->digest))
        return err_set(err, ERR_INVALID_ARGUMENT, "unsupported digest %.128s", blob->digest ? blob->digest : "");
    snprintf(out, 96, "blobs/sha256/%s", oci_digest_hex(blob->digest));
    return 0;
}

static struct spool_member *find_blob(const struct load *load, const struct oci_descriptor *blob)
{
    char name[96];
    return blob_name(blob, name, NULL) < 0 ? NULL : spool_find(load->spool, name);
}

static int blob_text(const struct load *load, const struct oci_descriptor *blob, struct buf *out, struct err *err)
{
    char name[96];
    if (blob_name(blob, name, err) < 0)
        return -1;
    const struct spool_member *member = spool_find(load->spool, name);
    if (!member)
        return err_set(err, ERR_INVALID_ARGUMENT, "archive has no blob %s", blob->digest);
    return spool_text(load->spool, member, out, err) < 0 ? -1 : load_check_text(out, blob->digest, err);
}

// ---- platforms ------------------------------------------------------------------------------------------------------

// Signatures, provenance and the like stand beside the images.
static bool is_attestation(const struct oci_descriptor *descriptor)
{
    return kvs_get(&descriptor->annotations, "vnd.docker.reference.type") ||
           (descriptor->platform && str_eq(descriptor->platform->os, "unknown"));
}

static bool is_foreign(const struct oci_descriptor *descriptor)
{
    const struct oci_platform *platform = descriptor->platform;
    return platform && !str_empty(platform->os) &&
           (!str_eq(platform->os, "linux") || !str_eq(platform->architecture, platform_host_architecture()));
}

// Which entries are loaded: all that the host can run; when there is just one image, that one wherever it runs.
static bool is_chosen(const struct json_list *entries, size_t at)
{
    size_t images = 0;
    for (size_t i = 0; i < entries->len; i++)
        images += !is_attestation(json_list_at(entries, &oci_descriptor_table, i));
    const struct oci_descriptor *entry = json_list_at(entries, &oci_descriptor_table, at);
    return !is_attestation(entry) && (images == 1 || !is_foreign(entry));
}

// ---- manifests ------------------------------------------------------------------------------------------------------

static int describe_layers(const struct oci_manifest *manifest, struct arena *arena, struct load_image *image,
                           struct err *err)
{
    for (size_t i = 0; i < manifest->layers.len; i++) {
        const struct oci_descriptor *layer = json_list_at(&manifest->layers, &oci_descriptor_table, i);
        if (!oci_layer_is_tar(layer->media_type))
            return err_set(err, ERR_INVALID_ARGUMENT, "layer %zu: unsupported media type %.128s", i,
                           layer->media_type ? layer->media_type : "");
        char name[96];
        if (blob_name(layer, name, err) < 0)
            return err_wrap(err, "layer %zu", i);
        strv_push_arena(&image->layers, arena, name);
        strv_push_arena(&image->blobs, arena, layer->digest);
    }
    return 0;
}

static int read_manifest(struct load *load, const struct oci_descriptor *descriptor, struct arena *arena,
                         struct load_image *image, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LOAD_DOCUMENT_MAX);
    struct oci_manifest manifest;
    if (blob_text(load, descriptor, &text, err) < 0)
        return -1;
    if (json_decode_text(&oci_manifest_table, buf_text(&text), text.size, &manifest, arena, NULL, err) < 0)
        return err_wrap(err, "manifest %s", descriptor->digest);
    const char *type = manifest.config.media_type;
    if (!str_eq(type, MEDIA_OCI_CONFIG) && !str_eq(type, MEDIA_DOCKER_CONFIG))
        return err_set(err, ERR_INVALID_ARGUMENT, "manifest %s: not an image: config has media type %.128s",
                       descriptor->digest, type ? type : "");
    if (blob_text(load, &manifest.config, &image->config, err) < 0)
        return -1;
    return describe_layers(&manifest, arena, image, err);
}

static int load_manifest(struct load *load, const struct oci_descriptor *descriptor, const struct strv *references,
                         struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct load_image image = { .config = BUF_INIT(LOAD_DOCUMENT_MAX), .references = *references };
    int done = read_manifest(load, descriptor, &arena, &image, err);
    if (done == 0)
        done = load_image(load, &image, err);
    buf_done(&image.config);
    return done;
}

// ---- indexes --------------------------------------------------------------------------------------------------------

// Written by containerd and docker: the whole name. The spec's own annotation is a whole name (podman, skopeo) or a tag
// only, which names nothing.
static void add_reference(const struct oci_descriptor *descriptor, struct arena *arena, struct strv *out)
{
    const char *name = kvs_get(&descriptor->annotations, "io.containerd.image.name");
    const char *ref = kvs_get(&descriptor->annotations, "org.opencontainers.image.ref.name");
    if (str_empty(name) && ref && strpbrk(ref, ":/@"))
        name = ref;
    if (!str_empty(name))
        strv_push_arena(out, arena, name);
}

static int load_entries(struct load *load, const struct oci_index *index, const struct strv *references, int depth,
                        size_t *loaded, struct err *err);

static int load_index(struct load *load, const struct oci_descriptor *descriptor, const struct strv *references,
                      int depth, size_t *loaded, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(LOAD_DOCUMENT_MAX);
    struct oci_index index;
    if (depth > LOAD_INDEX_DEPTH_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "indexes are nested more than %d deep", LOAD_INDEX_DEPTH_MAX);
    if (blob_text(load, descriptor, &text, err) < 0)
        return -1;
    if (json_decode_text(&oci_index_table, buf_text(&text), text.size, &index, &arena, NULL, err) < 0)
        return err_wrap(err, "index %s", descriptor->digest);
    return load_entries(load, &index, references, depth, loaded, err);
}

static int load_entry(struct load *load, const struct oci_descriptor *entry, const struct strv *references, int depth,
                      size_t *loaded, struct err *err)
{
    if (is_index(entry))
        return load_index(load, entry, references, depth + 1, loaded, err);
    if (!is_manifest(entry))
        return err_set(err, ERR_INVALID_ARGUMENT, "unsupported media type %.128s in an index",
                       entry->media_type ? entry->media_type : "");
    if (++*loaded > LOAD_IMAGES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d images", LOAD_IMAGES_MAX);
    return load_manifest(load, entry, references, err);
}

// Below a nested index all entries are one image for several platforms: its name is theirs, and one of them is taken.
static int load_entries(struct load *load, const struct oci_index *index, const struct strv *references, int depth,
                        size_t *loaded, struct err *err)
{
    const struct json_list *entries = &index->manifests;
    if (entries->len > LOAD_IMAGES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "index has more than %d entries", LOAD_IMAGES_MAX);
    size_t before = *loaded;
    for (size_t i = 0; i < entries->len; i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        const struct oci_descriptor *entry = json_list_at(entries, &oci_descriptor_table, i);
        struct strv own = { 0 };
        // An archive may leave out the platforms that its maker did not have.
        if (!is_chosen(entries, i) || (depth > 0 && !find_blob(load, entry)))
            continue;
        if (depth == 0)
            add_reference(entry, &arena, &own);
        if (load_entry(load, entry, depth == 0 ? &own : references, depth, loaded, err) < 0)
            return -1;
        if (depth > 0)
            break;
    }
    if (*loaded == before && entries->len > 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "archive has no image for linux/%s", platform_host_architecture());
    return 0;
}

int load_oci(struct load *load, const struct spool_member *member, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(LOAD_DOCUMENT_MAX);
    const struct strv none = { 0 };
    struct oci_index index;
    size_t loaded = 0;
    if (spool_text(load->spool, member, &text, err) < 0)
        return -1;
    if (json_decode_text(&oci_index_table, buf_text(&text), text.size, &index, &arena, NULL, err) < 0)
        return err_wrap(err, "index.json");
    return load_entries(load, &index, &none, 0, &loaded, err);
}
