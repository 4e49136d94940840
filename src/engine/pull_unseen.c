// A pull for a build: what comes is one of its steps, in no list and without a name.
#include "steps.h"
#include "worker.h"

struct unseen {
    engine_progress_fn *progress;
    void *context;
    struct arena *arena;
    char *id;
};

static int say(void *context, json_t *object)
{
    const struct unseen *unseen = context;
    return unseen->progress(unseen->context, object);
}

static int make_step(struct worker *worker, struct image_staged *staged, struct err *err)
{
    staged->step = true;
    staged->references = (struct strv){ 0 };
    return 0;
}

static int take_image(struct worker *worker, const struct image_staged *staged, const char *id, struct arena *arena, struct err *err)
{
    struct unseen *unseen = worker->context;
    unseen->id = arena_strdup(unseen->arena, id);
    return 0;
}

static int run(struct engine *engine, struct unseen *unseen, const char *name, const char *platform, const struct engine_login *login, const struct cancel *cancel,
               struct err *err)
{
    _cleanup_(worker_done) struct worker worker = WORKER_INIT(engine);
    char *const argv[] = { (char *)"berth-image", (char *)"fetch", (char *)name, engine->inflate_ratio, (char *)(platform ? "--platform" : NULL), (char *)platform, NULL };
    worker.progress = say;
    worker.context = unseen;
    worker.line = pull_line;
    worker.ready = make_step;
    worker.told = take_image;
    _cleanup_close_ int read_end = worker_open_words(&worker, err);
    return read_end < 0 || worker_write_words(&worker, login, err) < 0 ? -1 : worker_run(&worker, argv, read_end, cancel, err);
}

int image_pull_unseen(struct engine *engine, const char *reference, const char *platform, const struct engine_login *login, engine_progress_fn *progress, void *context,
                      struct arena *arena, char **id, const struct cancel *cancel, struct err *err)
{
    struct unseen unseen = { .progress = progress, .context = context, .arena = arena };
    struct image_ref ref;
    if (image_ref_parse(reference, true, arena, &ref, err) < 0)
        return -1;
    const char *name = arena_printf(arena, "%s/%s%s%s", ref.domain, ref.path, ref.digest ? "@" : ":", ref.digest ? ref.digest : ref.tag);
    if (run(engine, &unseen, name, platform, login, cancel, err) < 0)
        return -1;
    *id = unseen.id;
    return *id ? 0 : err_set(err, ERR_INTERNAL, "the image worker gave no image");
}
