// push: an image of the data root to the registry that its name says.
#include <sys/socket.h>

#include "imagetool_private.h"

struct push {
    const struct imagetool *tool;
    struct image image;
};

static int say_line(void *context, json_t *object)
{
    const struct push *push = context;
    return imagetool_say((void *)push->tool, object);
}

static int take_line(struct worker *worker, json_t *object, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const struct push *push = worker->context;
    struct image_manifest manifest;
    json_t *part = json_object_get(object, "progress");
    if (part)
        worker_tell(worker, worker_progress(part));
    if (!(part = json_object_get(object, "pushed")))
        return 0;
    if (worker_take_pushed(worker, &push->image, part, &arena, &manifest, err) < 0)
        return -1;
    puts(manifest.digest);
    return 0;
}

static int hand_over(struct worker *worker, struct err *err)
{
    return worker_send_image(worker, &((const struct push *)worker->context)->image, err);
}

int imagetool_push(const struct imagetool *tool, char **words, size_t len, struct err *err)
{
    static const struct cancel never = CANCEL_NEVER;
    _cleanup_visit_ struct visit visit;
    struct push push = { .tool = tool };
    struct image_ref ref;
    int ends[2];
    if (visit_begin(&visit, tool, err) < 0 || image_ref_parse(words[0], true, &visit.arena, &ref, err) < 0)
        return -1;
    if (ref.digest)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: a push is by tag, not by digest", words[0]);
    if (image_get(visit.images, ref.familiar, &visit.arena, &push.image, err) < 0 || fd_socketpair(SOCK_STREAM, ends, err) < 0)
        return -1;
    _cleanup_close_ int theirs = ends[0];
    char *name = arena_printf(&visit.arena, "%s/%s:%s", ref.domain, ref.path, ref.tag);
    char *const argv[] = { (char *)"berth-image", (char *)"send", name, NULL };
    _cleanup_(worker_done) struct worker worker = WORKER_INIT_OF(visit.images, IMAGETOOL_PROGRAM, (void *)tool);
    worker.words_fd = ends[1];
    worker.progress = say_line;
    worker.context = &push;
    worker.line = take_line;
    worker.started = hand_over;
    if (imagetool_words(tool, &ref, &visit.arena, worker.words_fd, err) < 0 || worker_run(&worker, argv, theirs, &never, err) < 0)
        return -1;
    return worker.image_len ? 0 : err_set(err, ERR_INTERNAL, "the image worker pushed nothing");
}
