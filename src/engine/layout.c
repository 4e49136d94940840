// Layouts: layers first, by a worker that gets a file for each; then the documents above them.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "layout_private.h"
#include "worker.h"

#define DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"

// ---- life -----------------------------------------------------------------------------------------------------------

void layout_free(struct layout *layout)
{
    if (!layout)
        return;
    for (size_t i = 0; i < layout->layer_len; i++) {
        fd_close(layout->layers[i].fd);
        fd_close(layout->layers[i].image_fd);
        fd_close(layout->layers[i].recipe_fd);
    }
    free(layout->layers);
    free(layout->documents);
    json_decref(layout->top);
    fd_close(layout->folder_fd);
    workshop_free(layout->workshop);
    arena_done(&layout->arena);
    free(layout);
}

const char *layout_digest(const struct layout *layout)
{
    return json_get_text(layout->top, "digest", "");
}

const char *layout_manifest_digest(const struct layout *layout, size_t image)
{
    return layout->images[image].manifest;
}

json_t *layout_descriptor(const struct layout *layout)
{
    return json_deep_copy(layout->top);
}

// ---- layers ---------------------------------------------------------------------------------------------------------

static struct layout_layer *find_layer(const struct layout *layout, const char *diff_id)
{
    for (size_t i = 0; i < layout->layer_len; i++)
        if (str_eq(layout->layers[i].diff_id, diff_id))
            return &layout->layers[i];
    return NULL;
}

static int add_layer(struct layout *layout, struct image_tar *tar, struct err *err)
{
    if (find_layer(layout, tar->diff_id))
        return 0;
    layout->layers = mem_grow(layout->layers, (layout->layer_len + 1) * sizeof(*layout->layers));
    struct layout_layer *layer = &layout->layers[layout->layer_len];
    *layer = (struct layout_layer){ .diff_id = arena_strdup(&layout->arena, tar->diff_id), .fd = -1, .image_fd = take_fd(&tar->image_fd),
                                    .recipe_fd = take_fd(&tar->recipe_fd) };
    const char *name = arena_printf(&layout->arena, "%zu", layout->layer_len++);
    layer->fd = openat(layout->folder_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return layer->fd < 0 ? err_errno(err, errno, "layer of a result") : 0;
}

static int open_layers(struct layout *layout, const struct image *image, struct err *err)
{
    struct image_tars tars = { 0 };
    int result = image_tars_open(layout->engine->images, image, &layout->arena, &tars, err);
    for (size_t i = 0; i < tars.len && result == 0; i++)
        result = add_layer(layout, &tars.items[i], err);
    image_tars_done(&tars);
    return result;
}

static int hand_over(struct worker *worker, struct err *err)
{
    struct layout *layout = worker->context;
    for (size_t i = 0; i < layout->layer_len; i++) {
        struct layout_layer *layer = &layout->layers[i];
        const int fds[] = { layer->fd, layer->image_fd, layer->recipe_fd };
        if (fd_send(worker->words_fd, "l", 1, fds, ARRAY_LEN(fds), err) < 0)
            return -1;
        fd_close(take_fd(&layer->image_fd));
        fd_close(take_fd(&layer->recipe_fd));
    }
    return 0;
}

static int take_blob(struct worker *worker, json_t *object, struct err *err)
{
    struct layout *layout = worker->context;
    const json_t *blob = json_object_get(object, "blob");
    int64_t index = json_get_int(blob, "index", -1);
    const char *digest = json_get_text(blob, "digest", "");
    if (!blob)
        return 0;
    if (index < 0 || (size_t)index >= layout->layer_len || !oci_digest_valid(digest))
        return err_set(err, ERR_INTERNAL, "the image worker gave no blob");
    layout->layers[index].digest = arena_strdup(&layout->arena, digest);
    layout->layers[index].size = json_get_int(blob, "size", 0);
    return 0;
}

static int make_layers(struct layout *layout, const struct layout_form *form, const struct cancel *cancel, struct err *err)
{
    _cleanup_(worker_done) struct worker worker = WORKER_INIT(layout->engine);
    char *level = form->level < 0 ? (char *)"default" : arena_printf(&layout->arena, "%d", form->level);
    char *const argv[] = { (char *)"berth-image", (char *)"blobs", (char *)form->compression, level,
                           arena_printf(&layout->arena, "%zu", layout->layer_len), NULL };
    worker.context = layout;
    worker.line = take_blob;
    worker.started = hand_over;
    _cleanup_close_ int theirs = worker_open_talk(&worker, err);
    if (theirs < 0 || worker_run(&worker, argv, theirs, cancel, err) < 0)
        return -1;
    for (size_t i = 0; i < layout->layer_len; i++)
        if (!layout->layers[i].digest)
            return err_set(err, ERR_INTERNAL, "the image worker left out a layer");
    return 0;
}

// ---- documents ------------------------------------------------------------------------------------------------------

// Its descriptor.
static json_t *add_text(struct layout *layout, const char *media_type, const char *text, bool manifest)
{
    char digest[OCI_DIGEST_SIZE];
    image_digest(text, strlen(text), digest);
    layout->documents = mem_grow(layout->documents, (layout->document_len + 1) * sizeof(*layout->documents));
    struct layout_document *document = &layout->documents[layout->document_len++];
    *document = (struct layout_document){ arena_strdup(&layout->arena, digest), arena_strdup(&layout->arena, media_type),
                                          arena_strdup(&layout->arena, text), manifest };
    return json_pack("{s:s, s:s, s:I}", "mediaType", media_type, "digest", digest, "size", (json_int_t)strlen(text));
}

static json_t *add_document(struct layout *layout, const char *media_type, json_t *take_value, bool manifest)
{
    _cleanup_free_ char *text = json_dumps(take_value, JSON_INDENT(2));
    json_decref(take_value);
    return add_text(layout, media_type, text ? text : "{}", manifest);
}

static void put_pairs(json_t *object, const char *name, const struct kvs *pairs)
{
    json_t *map = json_object();
    for (size_t i = 0; i < pairs->len; i++)
        json_object_set_new(map, pairs->items[i].key, json_new_text(pairs->items[i].value));
    if (json_object_size(map))
        json_object_set(object, name, map);
    json_decref(map);
}

static json_t *describe_layer(const struct layout_form *form, const struct layout_layer *layer)
{
    static const struct {
        const char *compression, *oci, *docker;
    } types[] = { { "uncompressed", MEDIA_OCI_LAYER, DOCKER_LAYER },
                  { "gzip", MEDIA_OCI_LAYER "+gzip", DOCKER_LAYER ".gzip" },
                  { "zstd", MEDIA_OCI_LAYER "+zstd", NULL } };
    size_t row = 0;
    while (row + 1 < ARRAY_LEN(types) && !str_eq(types[row].compression, form->compression))
        row++;
    return json_pack("{s:s, s:s, s:I}", "mediaType", form->docker ? types[row].docker : types[row].oci, "digest", layer->digest, "size",
                     (json_int_t)layer->size);
}

static json_t *platform_of(const struct image *image)
{
    json_t *platform = json_pack("{s:s, s:s}", "architecture", image->config.architecture ? image->config.architecture : "unknown", "os",
                                 image->config.os ? image->config.os : "unknown");
    if (!str_empty(image->config.variant))
        json_object_set_new(platform, "variant", json_new_text(image->config.variant));
    return platform;
}

static json_t *add_manifest(struct layout *layout, const struct layout_form *form, const struct layout_image *asked, const struct image *image)
{
    json_t *layers = json_array();
    const struct strv *diff_ids = &image->config.rootfs.diff_ids;
    for (size_t i = 0; i < diff_ids->len; i++)
        json_array_append_new(layers, describe_layer(form, find_layer(layout, diff_ids->items[i])));
    const char *type = form->docker ? MEDIA_DOCKER_MANIFEST : MEDIA_OCI_MANIFEST;
    json_t *config = add_text(layout, form->docker ? MEDIA_DOCKER_CONFIG : MEDIA_OCI_CONFIG, image->config_text, false);
    json_t *manifest = json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", type, "config", config, "layers", layers);
    put_pairs(manifest, "annotations", &asked->annotations);
    json_t *descriptor = add_document(layout, type, manifest, true);
    put_pairs(descriptor, "annotations", &asked->descriptor_annotations);
    json_object_set_new(descriptor, "platform", platform_of(image));
    return descriptor;
}

// ---- what attests an image ------------------------------------------------------------------------------------------

// "pkg:docker/team/app@1?platform=linux%2Famd64"; the same name is a subject once.
static char *package_url(struct layout *layout, const char *name, const struct image *image)
{
    struct image_ref ref;
    if (image_ref_parse(name, true, &layout->arena, &ref, NULL) < 0)
        return NULL;
    return arena_printf(&layout->arena, "pkg:docker/%s@%s?platform=%s%%2F%s%s%s", ref.familiar_name, ref.digest ? ref.digest : ref.tag,
                        image->config.os, image->config.architecture, str_empty(image->config.variant) ? "" : "%2F",
                        image->config.variant ? image->config.variant : "");
}

static json_t *subjects(struct layout *layout, const struct layout_form *form, const struct image *image, const char *digest)
{
    json_t *list = json_array();
    for (size_t i = 0; i < form->names.len; i++) {
        const char *url = package_url(layout, form->names.items[i], image);
        if (url)
            json_array_append_new(list, json_pack("{s:s, s:{s:s}}", "name", url, "digest", "sha256", oci_digest_hex(digest)));
    }
    return list;
}

static json_t *statement_layer(struct layout *layout, const struct layout_statement *statement, json_t *take_subjects)
{
    _cleanup_json_ json_t *document = json_pack("{s:s, s:s, s:o, s:O}", "_type", "https://in-toto.io/Statement/v1", "predicateType",
                                                statement->predicate_type, "subject", take_subjects, "predicate", statement->predicate);
    _cleanup_free_ char *text = json_dumps(document, JSON_COMPACT);
    json_t *descriptor = add_text(layout, "application/vnd.in-toto+json", text ? text : "{}", false);
    json_object_set_new(descriptor, "annotations", json_pack("{s:s}", "in-toto.io/predicate-type", statement->predicate_type));
    return descriptor;
}

static json_t *add_attestation(struct layout *layout, const struct layout_form *form, const struct layout_image *asked, const struct image *image,
                               const char *digest)
{
    json_t *layers = json_array(), *diff_ids = json_array();
    for (size_t i = 0; i < asked->statement_len; i++) {
        json_t *layer = statement_layer(layout, &asked->statements[i], subjects(layout, form, image, digest));
        json_array_append(diff_ids, json_object_get(layer, "digest"));
        json_array_append_new(layers, layer);
    }
    json_t *config = json_pack("{s:s, s:s, s:{}, s:{s:s, s:o}}", "architecture", "unknown", "os", "unknown", "config", "rootfs", "type", "layers",
                               "diff_ids", diff_ids);
    json_t *manifest = json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", MEDIA_OCI_MANIFEST, "config",
                                 add_document(layout, MEDIA_OCI_CONFIG, config, false), "layers", layers);
    json_t *descriptor = add_document(layout, MEDIA_OCI_MANIFEST, manifest, true);
    json_object_set_new(descriptor, "annotations", json_pack("{s:s, s:s}", "vnd.docker.reference.digest", digest, "vnd.docker.reference.type",
                                                             "attestation-manifest"));
    json_object_set_new(descriptor, "platform", json_pack("{s:s, s:s}", "architecture", "unknown", "os", "unknown"));
    return descriptor;
}

// ---- the whole ------------------------------------------------------------------------------------------------------

// One manifest without anything beside it stands alone.
static void add_top(struct layout *layout, const struct layout_form *form, json_t *manifests, json_t *attestations)
{
    if (json_array_size(manifests) == 1 && json_array_size(attestations) == 0 && !form->index) {
        layout->top = json_deep_copy(json_array_get(manifests, 0));
        return;
    }
    const char *type = form->docker ? MEDIA_DOCKER_LIST : MEDIA_OCI_INDEX;
    json_array_extend(manifests, attestations);
    json_t *index = json_pack("{s:i, s:s, s:O}", "schemaVersion", 2, "mediaType", type, "manifests", manifests);
    put_pairs(index, "annotations", &form->annotations);
    layout->top = add_document(layout, type, index, true);
}

static int fill(struct layout *layout, const struct layout_form *form, const struct image *images, struct err *err)
{
    _cleanup_json_ json_t *manifests = json_array(), *attestations = json_array();
    for (size_t i = 0; i < form->len; i++) {
        json_t *manifest = add_manifest(layout, form, &form->images[i], &images[i]);
        const char *digest = layout->images[i].manifest = arena_strdup(&layout->arena, json_get_text(manifest, "digest", ""));
        layout->images[i].id = images[i].id;
        layout->images[i].diff_ids = images[i].config.rootfs.diff_ids;
        json_array_append_new(manifests, manifest);
        if (form->images[i].statement_len)
            json_array_append_new(attestations, add_attestation(layout, form, &form->images[i], &images[i], digest));
    }
    add_top(layout, form, manifests, attestations);
    return layout->top ? 0 : err_set(err, ERR_INTERNAL, "the result has no manifest");
}

static int make(struct layout *layout, const struct layout_form *form, const struct cancel *cancel, struct err *err)
{
    struct image *images = arena_alloc(&layout->arena, (form->len + 1) * sizeof(*images));
    layout->images = arena_alloc(&layout->arena, (form->len + 1) * sizeof(*layout->images));
    layout->len = form->len;
    if (workshop_new(layout->engine, &layout->workshop, err) < 0 || (layout->folder_fd = workshop_folder(layout->workshop, "layers", err)) < 0)
        return -1;
    for (size_t i = 0; i < form->len; i++)
        if (image_get(layout->engine->images, form->images[i].id, &layout->arena, &images[i], err) < 0 || open_layers(layout, &images[i], err) < 0)
            return -1;
    return make_layers(layout, form, cancel, err) < 0 ? -1 : fill(layout, form, images, err);
}

static int check(const struct layout_form *form, struct err *err)
{
    size_t statements = 0;
    for (size_t i = 0; i < form->len; i++)
        statements += form->images[i].statement_len;
    if (form->docker && statements)
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot export attestations with \"oci-mediatypes=false\"");
    if (form->docker && str_eq(form->compression, "zstd"))
        return err_set(err, ERR_INVALID_ARGUMENT, "exporter option \"compression=zstd\" conflicts with \"oci-mediatypes=false\"");
    return 0;
}

int layout_new(struct engine *engine, const struct layout_form *form, struct layout **out, const struct cancel *cancel, struct err *err)
{
    if (check(form, err) < 0)
        return -1;
    struct layout *layout = mem_new(struct layout);
    layout->engine = engine;
    layout->folder_fd = -1;
    if (make(layout, form, cancel, err) < 0) {
        layout_free(layout);
        return -1;
    }
    *out = layout;
    return 0;
}
