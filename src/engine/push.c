// Pushes, as worker/push.c hands an image over.
#include <errno.h>

#include "steps.h"
#include "worker.h"

struct push {
    struct engine *engine;
    const struct image *image;
    const char *tag;
    const char *id; // of the image, whatever its names are; NULL: by the name
    engine_progress_fn *progress;
    void *context;
    bool gone; // the client
};

static int say(void *context, json_t *object)
{
    struct push *push = context;
    push->gone = push->gone || push->progress(push->context, object) < 0;
    return push->gone ? -1 : 0;
}

// ---- what the worker says -------------------------------------------------------------------------------------------

static int take_pushed(struct worker *worker, json_t *form, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const struct push *push = worker->context;
    struct image_manifest manifest;
    if (worker_take_pushed(worker, push->image, form, &arena, &manifest, err) < 0)
        return -1;
    json_int_t size = (json_int_t)strlen(manifest.text);
    worker_tell(worker, json_pack("{s:o}", "status", json_sprintf("%s: digest: %s size: %lld", push->tag, manifest.digest, (long long)size)));
    worker_tell(worker, json_pack("{s:{}, s:{s:s, s:s, s:I}}", "progressDetail", "aux", "Tag", push->tag, "Digest", manifest.digest,
                                  "Size", size));
    return 0;
}

static int take_line(struct worker *worker, json_t *object, struct err *err)
{
    json_t *part = json_object_get(object, "pushed");
    if (part)
        return take_pushed(worker, part, err);
    if ((part = json_object_get(object, "progress")))
        worker_tell(worker, worker_progress(part));
    return ((const struct push *)worker->context)->gone ? err_set(err, ERR_CANCELLED, "the client is gone") : 0;
}

static int hand_over(struct worker *worker, struct err *err)
{
    return worker_send_image(worker, ((const struct push *)worker->context)->image, err);
}

// ---- the verb -------------------------------------------------------------------------------------------------------

static int push_tag(struct push *push, const struct image_ref *ref, const struct engine_login *login, const struct cancel *cancel,
                    struct err *err)
{
    _cleanup_(worker_done) struct worker worker = WORKER_INIT(push->engine);
    _cleanup_free_ char *name = mem_printf("%s/%s:%s", ref->domain, ref->path, ref->tag);
    char *const argv[] = { (char *)"berth-image", (char *)"send", name, NULL };
    worker.progress = say;
    worker.context = push;
    worker.line = take_line;
    worker.started = hand_over;
    push->tag = ref->tag;
    _cleanup_close_ int theirs = worker_open_talk(&worker, err);
    if (theirs < 0 || worker_write_words(&worker, login, err) < 0 || worker_run(&worker, argv, theirs, cancel, err) < 0)
        return -1;
    if (worker.image_len == 0)
        return err_set(err, ERR_INTERNAL, "the image worker pushed nothing");
    event_reference(push->engine, push->image->id, "push", ref->familiar);
    return 0;
}

static int push_name(struct push *push, const char *name, const struct engine_login *login, const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image image;
    struct image_ref ref;
    struct err missing = { 0 };
    if (image_ref_parse(name, true, &arena, &ref, err) < 0)
        return -1;
    if (image_get(push->engine->images, push->id ? push->id : name, &arena, &image, &missing) < 0)
        return missing.class != ERR_NOT_FOUND ? (*err = missing, -1)
                                              : err_set(err, ERR_NOT_FOUND, "An image does not exist locally with the tag: %s", ref.familiar_name);
    push->image = &image;
    int result = push_tag(push, &ref, login, cancel, err);
    push->image = NULL;
    return result;
}

// All tags of a repository.
static int list_tags(struct engine *engine, const struct image_ref *repository, struct arena *arena, struct strv *out, struct err *err)
{
    struct image *images;
    size_t len;
    if (image_list(engine->images, arena, &images, &len, err) < 0)
        return -1;
    for (size_t i = 0; i < len; i++)
        for (size_t tag = 0; tag < images[i].tags.len; tag++) {
            struct image_ref ref;
            if (image_ref_parse(images[i].tags.items[tag], true, arena, &ref, err) < 0)
                return -1;
            if (str_eq(ref.familiar_name, repository->familiar_name))
                strv_push_arena(out, arena, ref.familiar);
        }
    return out->len ? 0 : err_set(err, ERR_NOT_FOUND, "An image does not exist locally with the tag: %s", repository->familiar_name);
}

int image_push_as(struct engine *engine, const char *id, const char *reference, const struct engine_login *login, engine_progress_fn *progress,
                  void *context, const struct cancel *cancel, struct err *err)
{
    struct push push = { .engine = engine, .id = id, .progress = progress, .context = context };
    return push_name(&push, reference, login, cancel, err);
}

int engine_push(struct engine *engine, const char *name, const char *tag, const struct engine_login *login, engine_progress_fn *progress,
                void *context, const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct push push = { .engine = engine, .progress = progress, .context = context };
    struct image_ref ref;
    struct strv names = { 0 };
    if (image_ref_parse(name, false, &arena, &ref, err) < 0)
        return -1;
    if (ref.digest)
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot push a digest reference");
    if (!str_empty(tag) || ref.tag)
        strv_push_arena(&names, &arena, arena_printf(&arena, "%s/%s:%s", ref.domain, ref.path, str_empty(tag) ? ref.tag : tag));
    else if (list_tags(engine, &ref, &arena, &names, err) < 0)
        return -1;
    _cleanup_json_ json_t *first = json_pack("{s:o}", "status", json_sprintf("The push refers to repository [%s/%s]", ref.domain, ref.path));
    if (names.len && image_get(engine->images, names.items[0], &arena, &(struct image){ 0 }, NULL) == 0)
        say(&push, first);
    for (size_t i = 0; i < names.len; i++)
        if (push_name(&push, names.items[i], login, cancel, err) < 0)
            return -1;
    return 0;
}
