// Images as verbs: the worker reads the foreign bytes, the daemon takes over what it staged in one transaction.
#include <errno.h>
#include <poll.h>
#include <signal.h>

#include "worker.h"

#define REPORT_LINE_MAX (8u << 20)

struct image_store *engine_images(struct engine *engine)
{
    return engine->images;
}

// ---- the worker -----------------------------------------------------------------------------------------------------

void worker_done(struct worker *worker)
{
    process_done(&worker->process);
    fd_close(worker->report_fd);
    fd_close(worker->words_fd);
    if (worker->staging)
        image_staging_remove(worker->engine->images, worker->staging);
    free(worker->staging);
}

// Registries may be behind a proxy, which the daemon was told of as everybody is.
static void worker_environment(struct strv *out)
{
    static const char *const passed[] = { "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy" };
    strv_add(out, "LC_ALL=C.UTF-8");
    for (size_t i = 0; i < ARRAY_LEN(passed); i++)
        if (getenv(passed[i]))
            strv_addf(out, "%s=%s", passed[i], getenv(passed[i]));
}

static int spawn_worker(struct worker *worker, char *const argv[], int input_fd, struct err *err)
{
    int pipe_fds[2];
    _cleanup_close_ int staging = image_staging_new(worker->engine->images, &worker->staging, err);
    if (staging < 0 || fd_pipe(pipe_fds, err) < 0)
        return -1;
    _cleanup_close_ int write_end = pipe_fds[1];
    worker->report_fd = pipe_fds[0];
    const struct process_io io = { input_fd, write_end, STDERR_FILENO, &staging, 1 };
    _cleanup_strv_ struct strv environment = { 0 };
    worker_environment(&environment);
    _cleanup_free_ char *path = mem_printf("%s/berth-image", worker->engine->program_dir);
    return process_spawn(path, -1, argv, environment.items, &io, &worker->process, err);
}

void worker_tell(const struct worker *worker, json_t *object)
{
    worker->progress(worker->context, object);
    json_decref(object);
}

static int tell_imported(struct worker *worker, const struct image_staged *staged, const char *id, struct arena *arena,
                         struct err *err)
{
    struct image_ref ref;
    for (size_t i = 0; i < staged->references.len; i++) {
        if (image_ref_parse(staged->references.items[i], true, arena, &ref, err) < 0)
            return -1;
        event_image(worker->engine, id, "tag", ref.familiar);
    }
    event_image(worker->engine, id, "import", id);
    worker_tell(worker, json_pack("{s:s}", "status", id));
    return 0;
}

static int tell_loaded(struct worker *worker, const struct image_staged *staged, const char *id, struct arena *arena,
                       struct err *err)
{
    struct image_ref ref;
    event_image(worker->engine, id, "load", id);
    for (size_t i = 0; i < staged->references.len; i++) {
        if (image_ref_parse(staged->references.items[i], true, arena, &ref, err) < 0)
            return -1;
        worker_tell(worker, json_pack("{s:o}", "stream", json_sprintf("Loaded image: %s\n", ref.familiar)));
    }
    if (staged->references.len == 0)
        worker_tell(worker, json_pack("{s:o}", "stream", json_sprintf("Loaded image ID: %s\n", id)));
    return 0;
}

static int take_image(struct worker *worker, json_t *form, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image_staged staged;
    char *id;
    if (json_decode(&image_staged_table, form, &staged, &arena, NULL, err) < 0 || (worker->ready && worker->ready(worker, &staged, err) < 0) ||
        image_commit_staged(worker->engine->images, worker->staging, &staged, &arena, &id, err) < 0)
        return -1;
    worker->image_len++;
    return worker->told(worker, &staged, id, &arena, err);
}

static int handle_line(struct worker *worker, const char *line, size_t size, struct err *err)
{
    _cleanup_json_ json_t *object = NULL;
    json_t *part;
    if (json_parse(line, size, &object, err) < 0)
        return err_wrap(err, "the image worker's report");
    if ((part = json_object_get(object, "error")))
        return err_set(err, err_class_parse(json_get_text(part, "class", "internal")), "%s",
                       json_get_text(part, "message", "the image worker failed"));
    if ((part = json_object_get(object, "image")))
        return take_image(worker, part, err);
    return worker->line ? worker->line(worker, object, err) : 0;
}

static int read_report(struct worker *worker, const struct cancel *cancel, struct err *err)
{
    _cleanup_buf_ struct buf pending = BUF_INIT(REPORT_LINE_MAX);
    for (;;) {
        if (cancel_wait(cancel, worker->report_fd, -1, err) < 0)
            return -1;
        char *room = buf_reserve(&pending, 65536);
        if (!room)
            return err_set(err, ERR_INTERNAL, "the image worker's report has a line above %u bytes", REPORT_LINE_MAX);
        ssize_t n = read(worker->report_fd, room, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? err_errno(err, errno, "read the image worker's report") : 0;
        buf_commit(&pending, (size_t)n);
        char *newline;
        while ((newline = memchr(pending.data, '\n', pending.size))) {
            size_t size = (size_t)(newline - pending.data);
            if (handle_line(worker, pending.data, size, err) < 0)
                return -1;
            buf_consume(&pending, size + 1);
        }
    }
}

int worker_run(struct worker *worker, char *const argv[], int input_fd, const struct cancel *cancel, struct err *err)
{
    int status;
    if (spawn_worker(worker, argv, input_fd, err) < 0 || (worker->started && worker->started(worker, err) < 0) || read_report(worker, cancel, err) < 0 ||
        process_wait(&worker->process, &status, err) < 0)
        return -1;
    if (process_exit_code(status) != 0)
        return err_set(err, ERR_INTERNAL, "the image worker ended with exit code %d", process_exit_code(status));
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

int engine_import(struct engine *engine, int input_fd, const char *reference, const char *message,
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
    if (!str_empty(reference) && image_ref_parse(reference, true, &arena, &ref, err) < 0)
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
    return worker_run(&worker, argv.items, input_fd, cancel, err);
}

static bool image_in_use(void *context, const char *image_id, char by[13], bool *running)
{
    struct engine *engine = context;
    bool found = false;
    mutex_lock(&engine->list_lock);
    for (struct container *c = engine->containers; c; c = c->next) {
        if (!str_eq(c->image_id, image_id))
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

int engine_image_remove(struct engine *engine, const char *name, bool force, struct arena *arena,
                        struct image_removed *out, struct err *err)
{
    struct image image;
    if (image_get(engine->images, name, arena, &image, err) < 0 ||
        image_remove(engine->images, name, force, image_in_use, engine, arena, out, err) < 0)
        return -1;
    for (size_t i = 0; i < out->untagged.len; i++)
        event_image(engine, image.id, "untag", image.id);
    if (out->deleted.len > 0)
        event_image(engine, image.id, "delete", image.id);
    return 0;
}

int engine_image_tag(struct engine *engine, const char *name, const char *reference, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image image;
    struct image_ref ref;
    if (image_get(engine->images, name, &arena, &image, err) < 0 ||
        image_tag(engine->images, name, reference, err) < 0 || image_ref_parse(reference, true, &arena, &ref, err) < 0)
        return -1;
    event_image(engine, image.id, "tag", ref.familiar);
    return 0;
}
