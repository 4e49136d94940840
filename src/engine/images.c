// Images as verbs: the worker reads the foreign bytes, the daemon takes over what it staged in one transaction.
#include "mounts.h"
#include "remote.h"
#include "steps.h"
#include "worker.h"

struct image_store *engine_images(struct engine *engine)
{
    return engine->images;
}

// ---- what is told of them -------------------------------------------------------------------------------------------

static int tell_imported(struct worker *worker, const struct image_staged *staged, const char *id, struct arena *arena,
                         struct err *err)
{
    struct image_ref ref;
    for (size_t i = 0; i < staged->references.len; i++) {
        if (image_ref_parse(staged->references.items[i], true, arena, &ref, err) < 0)
            return -1;
        event_image(worker->owner, id, "tag", ref.familiar);
    }
    event_image(worker->owner, id, "import", id);
    worker_tell(worker, json_pack("{s:s}", "status", id));
    return 0;
}

static int tell_loaded(struct worker *worker, const struct image_staged *staged, const char *id, struct arena *arena,
                       struct err *err)
{
    struct image_ref ref;
    event_image(worker->owner, id, "load", id);
    for (size_t i = 0; i < staged->references.len; i++) {
        if (image_ref_parse(staged->references.items[i], true, arena, &ref, err) < 0)
            return -1;
        worker_tell(worker, json_pack("{s:o}", "stream", json_sprintf("Loaded image: %s\n", ref.familiar)));
    }
    if (staged->references.len == 0)
        worker_tell(worker, json_pack("{s:o}", "stream", json_sprintf("Loaded image ID: %s\n", id)));
    return 0;
}

// ---- the verbs ------------------------------------------------------------------------------------------------------

int engine_load(struct engine *engine, int input_fd, bool quiet, engine_progress_fn *progress, void *context,
                const struct cancel *cancel, struct err *err)
{
    _cleanup_(worker_done) struct worker worker = WORKER_INIT(engine);
    worker.progress = progress;
    worker.context = context;
    worker.told = tell_loaded;
    char *const argv[] = { (char *)"berth-image", (char *)"load", engine->inflate_ratio, NULL };
    if (worker_run(&worker, argv, input_fd, cancel, err) < 0)
        return -1;
    if (worker.image_len == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid archive: it holds no image");
    return 0;
}

// Whence, and how far it is.
static int pass_on(struct worker *worker, json_t *object, struct err *err)
{
    const char *from = json_get_text(object, "from", NULL);
    const json_t *part = json_object_get(object, "progress");
    if (from)
        worker_tell(worker, json_pack("{s:o}", "status", json_sprintf("Downloading from %s", from)));
    else if (part)
        worker_tell(worker, worker_progress(part));
    return 0;
}

int remote_check(const char *url, struct err *err)
{
    size_t scheme = strcspn(url, ":");
    for (const char *c = url; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == 127)
            return err_set(err, ERR_INVALID_ARGUMENT, "parse the URL: net/url: invalid control character in URL");
    if (str_starts(url, "http://") || str_starts(url, "https://"))
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "Get \"%.500s\": unsupported protocol scheme \"%.*s\"", url, (int)MIN_OF(scheme, (size_t)100), url);
}

int engine_import(struct engine *engine, int input_fd, const char *url, const char *reference, const char *message,
                  const struct strv *changes, const char *platform, engine_progress_fn *progress, void *context,
                  const struct cancel *cancel, struct err *err)
{
    _cleanup_(worker_done) struct worker worker = WORKER_INIT(engine);
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct strv argv = { 0 };
    struct image_ref ref;
    worker.progress = progress;
    worker.context = context;
    worker.told = tell_imported;
    worker.line = pass_on;
    if (url && remote_check(url, err) < 0)
        return -1;
    if (!str_empty(reference) && image_ref_parse_new(reference, &arena, &ref, err) < 0)
        return -1;
    strv_push_arena(&argv, &arena, "berth-image");
    strv_push_arena(&argv, &arena, "import");
    if (engine->inflate_ratio)
        strv_push_arena(&argv, &arena, engine->inflate_ratio);
    const struct {
        const char *flag, *value;
    } options[] = { { "--reference", reference }, { "--message", message }, { "--platform", platform } };
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        if (!str_empty(options[i].value)) {
            strv_push_arena(&argv, &arena, options[i].flag);
            strv_push_arena(&argv, &arena, options[i].value);
        }
    for (size_t i = 0; changes && i < changes->len; i++) {
        strv_push_arena(&argv, &arena, "--change");
        strv_push_arena(&argv, &arena, changes->items[i]);
    }
    if (url) {
        strv_push_arena(&argv, &arena, "--");
        strv_push_arena(&argv, &arena, url);
    }
    return worker_run(&worker, argv.items, url ? -1 : input_fd, cancel, err);
}

// Each image once, whatever the number of its names.
static void tell_saved(struct engine *engine, const struct strv *names)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct strv told = { 0 };
    char id[OCI_DIGEST_SIZE];
    for (size_t i = 0; i < names->len; i++) {
        if (image_find(engine->images, names->items[i], id, NULL) < 0 || strv_has(&told, id))
            continue;
        strv_push_arena(&told, &arena, id);
        event_image(engine, id, "save", id);
    }
}

int engine_save(struct engine *engine, const struct strv *names, engine_pipe_fn *sink, void *context, const struct cancel *cancel,
                struct err *err)
{
    int result = worker_save(engine->images, engine->image_program, names, sink, context, cancel, err);
    if (result == 0)
        tell_saved(engine, names);
    else if (err->class == ERR_INTERNAL)
        log_warn("%s", err->message); // the client may only see that the end is missing
    return result;
}

static bool image_in_use(void *context, const char *image_id, char by[13], bool *running)
{
    struct engine *engine = context;
    bool found = false;
    mutex_lock(&engine->list_lock);
    for (struct container *c = engine->containers; c; c = c->next) {
        if (!str_eq(c->image_id, image_id) && !mount_images_have(engine, c, image_id))
            continue;
        mutex_lock(&c->lock);
        bool live = container_is_up(c);
        mutex_unlock(&c->lock);
        if (!found || live) {
            snprintf(by, 13, "%s", c->id);
            *running = live;
        }
        found = true;
    }
    mutex_unlock(&engine->list_lock);
    return found;
}

// Images that a forced removal hid while a stopped container still needed their layers.
void images_collect(struct engine *engine)
{
    struct err err = { 0 };
    if (image_collect(engine->images, image_in_use, engine, &err) < 0)
        log_warn("images: %s", err.message);
}

int engine_image_remove(struct engine *engine, const char *name, unsigned flags, struct arena *arena,
                        struct image_removed *out, struct err *err)
{
    struct image image;
    if (image_get(engine->images, name, arena, &image, err) < 0 ||
        image_remove(engine->images, name, flags, image_in_use, engine, arena, out, err) < 0)
        return -1;
    for (size_t i = 0; i < out->untagged.len; i++)
        event_image(engine, image.id, "untag", image.id);
    for (size_t i = 0; i < out->images.len; i++)
        event_image(engine, out->images.items[i], "delete", out->images.items[i]);
    return 0;
}

int step_forget(struct engine *engine, const char *id, int64_t *size, struct err *err)
{
    return image_forget(engine->images, id, image_in_use, engine, size, err);
}

int engine_image_tag(struct engine *engine, const char *name, const char *reference, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image image;
    struct image_ref ref;
    if (image_get(engine->images, name, &arena, &image, err) < 0 || image_ref_parse_new(reference, &arena, &ref, err) < 0 ||
        image_tag(engine->images, name, reference, err) < 0)
        return -1;
    event_image(engine, image.id, "tag", ref.familiar);
    return 0;
}
