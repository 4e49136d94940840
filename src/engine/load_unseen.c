// A load for a build: the image of an archive that becomes one of its steps, in no list and without a name.
#include "steps.h"
#include "worker.h"

struct loading {
    struct arena *arena;
    char *id;
};

static int take_image(struct worker *worker, const struct image_staged *staged, const char *id, struct arena *arena, struct err *err)
{
    struct loading *loading = worker->context;
    loading->id = arena_strdup(loading->arena, id);
    return 0;
}

static int make_step(struct worker *worker, struct image_staged *staged, struct err *err)
{
    staged->step = true;
    staged->references = (struct strv){ 0 };
    return 0;
}

static int pass_line(struct worker *worker, json_t *object, struct err *err)
{
    return 0;
}

int image_load_unseen(struct engine *engine, int input_fd, struct arena *arena, char **id, const struct cancel *cancel, struct err *err)
{
    _cleanup_(worker_done) struct worker worker = WORKER_INIT(engine);
    struct loading loading = { .arena = arena };
    char *const argv[] = { (char *)"berth-image", (char *)"load", engine->inflate_ratio, NULL };
    worker.context = &loading;
    worker.line = pass_line;
    worker.ready = make_step;
    worker.told = take_image;
    if (worker_run(&worker, argv, input_fd, cancel, err) < 0)
        return -1;
    *id = loading.id;
    return *id ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "the archive has no image");
}
