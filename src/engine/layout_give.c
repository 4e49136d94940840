// What becomes of a layout: an archive, or a push.
#include <errno.h>
#include <sys/mman.h>

#include "layout_private.h"
#include "worker.h"

// ---- an archive -----------------------------------------------------------------------------------------------------

struct archive {
    const struct layout *layout;
    struct arena arena;
    struct worker_file *files;
    size_t len;
    struct strv seen;
};

static void add_file(struct archive *archive, const char *name, int fd, const char *text)
{
    if (strv_has(&archive->seen, name))
        return;
    strv_push_arena(&archive->seen, &archive->arena, name);
    archive->files[archive->len++] = (struct worker_file){ arena_strdup(&archive->arena, name), fd, text };
}

static char *blob_name(struct archive *archive, const char *digest)
{
    return arena_printf(&archive->arena, "blobs/sha256/%s", oci_digest_hex(digest));
}

static char *keep_json(struct archive *archive, json_t *take_value)
{
    _cleanup_free_ char *text = json_text(take_value);
    json_decref(take_value);
    return arena_strdup(&archive->arena, text);
}

static void put_annotation(json_t *entry, const char *name, const char *value)
{
    json_t *annotations = json_object_get(entry, "annotations");
    if (!annotations) {
        annotations = json_object();
        json_object_set_new(entry, "annotations", annotations);
    }
    json_object_set_new(annotations, name, json_new_text(value));
}

static char *index_text(struct archive *archive, const struct strv *names, const struct kvs *annotations)
{
    json_t *entries = json_array();
    for (size_t i = 0; i < MAX_OF(names->len, (size_t)1); i++) {
        struct image_ref ref;
        json_t *entry = layout_descriptor(archive->layout);
        for (size_t a = 0; annotations && a < annotations->len; a++)
            put_annotation(entry, annotations->items[a].key, annotations->items[a].value);
        if (names->len && image_ref_parse(names->items[i], true, &archive->arena, &ref, NULL) == 0) {
            put_annotation(entry, "io.containerd.image.name", arena_printf(&archive->arena, "%s/%s:%s", ref.domain, ref.path, ref.tag));
            put_annotation(entry, "org.opencontainers.image.ref.name", ref.tag);
        }
        json_array_append_new(entries, entry);
    }
    return keep_json(archive, json_pack("{s:i, s:s, s:o}", "schemaVersion", 2, "mediaType", MEDIA_OCI_INDEX, "manifests", entries));
}

// For those who read docker's older form: one image.
static char *manifest_text(struct archive *archive, const struct strv *names)
{
    const struct layout *layout = archive->layout;
    json_t *layers = json_array(), *tags = names->len ? json_array() : json_null();
    for (size_t i = 0; i < layout->images[0].diff_ids.len; i++)
        for (size_t at = 0; at < layout->layer_len; at++)
            if (str_eq(layout->layers[at].diff_id, layout->images[0].diff_ids.items[i]))
                json_array_append_new(layers, json_new_text(blob_name(archive, layout->layers[at].digest)));
    for (size_t i = 0; i < names->len; i++) {
        struct image_ref ref;
        if (image_ref_parse(names->items[i], true, &archive->arena, &ref, NULL) == 0)
            json_array_append_new(tags, json_new_text(ref.familiar));
    }
    return keep_json(archive, json_pack("[{s:s, s:o, s:o}]", "Config", blob_name(archive, layout->images[0].id), "RepoTags", tags, "Layers", layers));
}

int layout_archive(const struct layout *layout, const struct strv *names, const struct kvs *annotations, engine_pipe_fn *sink, void *context,
                   const struct cancel *cancel, struct err *err)
{
    struct archive archive = { .layout = layout };
    archive.files = arena_alloc(&archive.arena, (layout->layer_len + layout->document_len + 5) * sizeof(*archive.files));
    add_file(&archive, "blobs/", -1, NULL);
    add_file(&archive, "blobs/sha256/", -1, NULL);
    for (size_t i = 0; i < layout->layer_len; i++)
        add_file(&archive, blob_name(&archive, layout->layers[i].digest), layout->layers[i].fd, NULL);
    for (size_t i = 0; i < layout->document_len; i++)
        add_file(&archive, blob_name(&archive, layout->documents[i].digest), -1, layout->documents[i].text);
    add_file(&archive, "index.json", -1, index_text(&archive, names, annotations));
    if (layout->len == 1)
        add_file(&archive, "manifest.json", -1, manifest_text(&archive, names));
    add_file(&archive, "oci-layout", -1, "{\"imageLayoutVersion\":\"1.0.0\"}");
    int result = worker_save_files(layout->engine->images, layout->engine->image_program, archive.files, archive.len, sink, context, cancel, err);
    arena_done(&archive.arena);
    return result;
}

// ---- a push ---------------------------------------------------------------------------------------------------------

struct pushing {
    const struct layout *layout;
    const char *name; // of the uppermost manifest
    engine_progress_fn *progress;
    void *context;
};

static int say(void *context, json_t *object)
{
    const struct pushing *pushing = context;
    return pushing->progress(pushing->context, object);
}

static int take_line(struct worker *worker, json_t *object, struct err *err)
{
    const json_t *part = json_object_get(object, "progress");
    if (part)
        worker_tell(worker, worker_progress(part));
    return 0;
}

static int text_fd(const char *text, struct err *err)
{
    _cleanup_close_ int fd = memfd_create("layout", MFD_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "memfd_create");
    return fd_write_full(fd, text, strlen(text), err) < 0 ? -1 : take_fd(&fd);
}

static int send_text(const struct worker *worker, const char *text, struct err *err)
{
    _cleanup_close_ int fd = text_fd(text, err);
    return fd < 0 || fd_send(worker->words_fd, "d", 1, &fd, 1, err) < 0 ? -1 : 0;
}

// Blobs before manifests, as the worker wants them; what has a media type is one of the latter.
static char *order_text(const struct pushing *pushing)
{
    const struct layout *layout = pushing->layout;
    json_t *items = json_array();
    for (size_t i = 0; i < layout->layer_len; i++)
        json_array_append_new(items, json_pack("{s:s}", "digest", layout->layers[i].digest));
    for (int manifests = 0; manifests < 2; manifests++)
        for (size_t i = 0; i < layout->document_len; i++) {
            const struct layout_document *document = &layout->documents[i];
            if (document->manifest != (manifests == 1))
                continue;
            json_t *item = json_pack("{s:s}", "digest", document->digest);
            if (manifests)
                json_object_set_new(item, "media_type", json_new_text(document->media_type));
            if (manifests && str_eq(document->digest, layout_digest(layout)))
                json_object_set_new(item, "name", json_new_text(pushing->name));
            json_array_append_new(items, item);
        }
    _cleanup_json_ json_t *order = json_pack("{s:o}", "items", items);
    return json_text(order);
}

static int hand_over(struct worker *worker, struct err *err)
{
    const struct pushing *pushing = worker->context;
    const struct layout *layout = pushing->layout;
    _cleanup_free_ char *text = order_text(pushing);
    if (send_text(worker, text, err) < 0)
        return -1;
    for (size_t i = 0; i < layout->layer_len; i++)
        if (fd_send(worker->words_fd, "b", 1, &layout->layers[i].fd, 1, err) < 0)
            return -1;
    for (int manifests = 0; manifests < 2; manifests++)
        for (size_t i = 0; i < layout->document_len; i++)
            if (layout->documents[i].manifest == (manifests == 1) && send_text(worker, layout->documents[i].text, err) < 0)
                return -1;
    return 0;
}

int layout_push(const struct layout *layout, const char *reference, bool by_digest, const struct engine_login *login, engine_progress_fn *progress,
                void *context, const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_(worker_done) struct worker worker = WORKER_INIT(layout->engine);
    struct image_ref ref;
    if (image_ref_parse(reference, true, &arena, &ref, err) < 0)
        return -1;
    if (!ref.tag)
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot push a digest reference");
    char *const argv[] = { (char *)"berth-image", (char *)"send-blobs", arena_printf(&arena, "%s/%s:%s", ref.domain, ref.path, ref.tag), NULL };
    struct pushing pushing = { layout, by_digest ? "" : ref.tag, progress, context };
    worker.progress = say;
    worker.context = &pushing;
    worker.line = take_line;
    worker.started = hand_over;
    _cleanup_close_ int theirs = worker_open_talk(&worker, err);
    return theirs < 0 || worker_write_words(&worker, login, err) < 0 ? -1 : worker_run(&worker, argv, theirs, cancel, err);
}
