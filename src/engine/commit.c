// docker commit: what a container wrote becomes a layer, on the image that it was made of.
//
//     berth-archive layer --tar--> berth-commit --report--> berthd: records
//
// The archive worker's tar must have come to its end before the image is believed.
#include "filer.h"
#include "vm.h"
#include "worker.h"

struct committing {
    struct worker worker;
    struct filer filer;
    struct container *container;
    const struct engine_commit *wish;
    const struct image *image;
    const struct cancel *cancel;
    int input_fd; // where the tar goes
    struct arena *arena;
    struct oci_image_process process;
    const char *reference; // familiar; "" when none
    char *id; // of the new image
};

// ---- the configuration ----------------------------------------------------------------------------------------------

// What the client says comes first, then the container's.
static int fill_process(struct committing *committing, struct err *err)
{
    const struct engine_commit *wish = committing->wish;
    struct container_config config = { 0 };
    if (json_is_object(wish->body) && json_decode(&container_config_table, wish->body, &config, committing->arena, NULL, err) < 0)
        return -1;
    merge_image_config(&config, wish->body, committing->arena, &committing->container->config.process);
    committing->process = config.process;
    return 0;
}

static char *words_of(const struct strv *words, struct arena *arena)
{
    char *text = arena_strdup(arena, words->len ? words->items[0] : "");
    for (size_t i = 1; i < words->len; i++)
        text = arena_printf(arena, "%s %s", text, words->items[i]);
    return text;
}

static json_t *describe(const struct committing *committing)
{
    const struct engine_commit *wish = committing->wish;
    const struct image *image = committing->image;
    struct oci_image_config config = image->config;
    char created[CLOCK_TEXT_SIZE];
    clock_format(clock_wall_ns(), created);
    config.config = committing->process;
    config.created = created;
    config.author = (char *)wish->author;
    config.comment = (char *)wish->comment;
    config.container = committing->container->id;
    config.docker_version = (char *)BERTH_VERSION;
    const struct oci_history step = { .created = created, .author = config.author, .comment = config.comment,
                                      .created_by = words_of(&committing->container->config.process.cmd, committing->arena) };
    json_t *sizes = json_array();
    for (size_t i = 0; i < image->chain_ids.len; i++)
        json_array_append_new(sizes, json_integer(image->layer_sizes[i]));
    json_t *words = json_object();
    json_object_set_new(words, "config", json_encode(&oci_image_config_table, &config));
    json_object_set_new(words, "step", json_encode(&oci_history_table, &step));
    json_object_set_new(words, "sizes", sizes);
    return words;
}

// ---- the two workers ------------------------------------------------------------------------------------------------

static int start_layer(struct worker *worker, struct err *err)
{
    struct committing *committing = worker->context;
    const struct filer_wish wish = { .verb = "layer", .tree = { .layers = true }, .freeze = committing->wish->pause,
                                     .data_fd = committing->input_fd };
    int started = filer_start(&committing->filer, &wish, err);
    fd_close(take_fd(&committing->input_fd));
    return started;
}

static int end_layer(struct worker *worker, struct image_staged *staged, struct err *err)
{
    struct committing *committing = worker->context;
    staged->parent = committing->image->id;
    return filer_end(&committing->filer, committing->cancel, err);
}

static int take_image(struct worker *worker, const struct image_staged *staged, const char *id, struct arena *arena, struct err *err)
{
    struct committing *committing = worker->context;
    committing->id = arena_strdup(committing->arena, id);
    return 0;
}

static int run_workers(struct committing *committing, struct err *err)
{
    struct arena *arena = committing->arena;
    struct strv argv = { 0 };
    int ends[2];
    strv_push_arena(&argv, arena, "berth-commit");
    if (!str_empty(committing->reference)) {
        strv_push_arena(&argv, arena, "--reference");
        strv_push_arena(&argv, arena, committing->reference);
    }
    for (size_t i = 0; i < committing->wish->changes.len; i++) {
        strv_push_arena(&argv, arena, "--change");
        strv_push_arena(&argv, arena, committing->wish->changes.items[i]);
    }
    if (fd_pipe(ends, err) < 0)
        return -1;
    _cleanup_close_ int read_end = ends[0];
    _cleanup_json_ json_t *order = describe(committing);
    _cleanup_free_ char *text = json_text(order);
    committing->worker.order = text;
    committing->input_fd = ends[1];
    int done = worker_run(&committing->worker, argv.items, read_end, committing->cancel, err);
    committing->worker.order = NULL;
    if (done < 0)
        return -1;
    return committing->id ? 0 : err_set(err, ERR_INTERNAL, "the image worker made no image");
}

static void committing_done(struct committing *committing)
{
    fd_close(committing->input_fd);
    worker_done(&committing->worker);
    filer_done(&committing->filer);
}

// ---- the verb -------------------------------------------------------------------------------------------------------

static int check_reference(struct committing *committing, struct err *err)
{
    struct image_ref ref;
    committing->reference = "";
    if (str_empty(committing->wish->reference))
        return 0;
    if (image_ref_parse_new(committing->wish->reference, committing->arena, &ref, err) < 0)
        return -1;
    if (ref.digest)
        return err_set(err, ERR_INVALID_ARGUMENT, "refusing to create a tag with a digest reference");
    committing->reference = ref.familiar;
    return 0;
}

static void tell(const struct committing *committing)
{
    struct engine *engine = committing->container->engine;
    event_image(engine, committing->id, "create", committing->id);
    if (!str_empty(committing->reference))
        event_image(engine, committing->id, "tag", committing->reference);
    event_container(committing->container, "commit", "comment", committing->wish->comment, "imageID", committing->id, "imageRef",
                    committing->reference, NULL);
}

static int commit(struct container *container, const struct engine_commit *wish, const struct cancel *cancel, struct arena *arena, char **id,
                  struct err *err)
{
    struct engine *engine = container->engine;
    struct image image;
    _cleanup_(committing_done) struct committing committing = { .worker = COMMIT_WORKER_INIT(engine), .filer = FILER_INIT(container),
                                                                .container = container, .wish = wish, .image = &image, .cancel = cancel,
                                                                .input_fd = -1, .arena = arena };
    committing.worker.context = &committing;
    committing.worker.started = start_layer;
    committing.worker.ready = end_layer;
    committing.worker.told = take_image;
    if (image_get(engine->images, container->image_id, arena, &image, err) < 0 || fill_process(&committing, err) < 0 ||
        check_reference(&committing, err) < 0 || run_workers(&committing, err) < 0)
        return -1;
    tell(&committing);
    *id = committing.id;
    return 0;
}

// A daemon that dies while it holds a container for a commit leaves this mark beside the task's socket; the next one lets the container
// go on. The mark is there before it is held, and goes after it goes on.
#define MARK_NAME "held"

static bool mark_held(struct container *container, bool held)
{
    _cleanup_free_ char *path = mem_printf("%s/" MARK_NAME, container->id);
    return held ? file_write_at(container->engine->tasks_fd, path, "", 0, 0600, false, NULL) == 0
                : unlinkat(container->engine->tasks_fd, path, 0) == 0;
}

bool commit_was_cut_off(struct container *container)
{
    return mark_held(container, false);
}

static bool hold(struct container *container)
{
    if (!mark_held(container, true))
        return false;
    if (engine_pause(container->engine, container->id, true, NULL) == 0)
        return true;
    mark_held(container, false);
    return false;
}

static void let_go(struct container *container)
{
    engine_pause(container->engine, container->id, false, NULL);
    mark_held(container, false);
}

int engine_commit(struct engine *engine, const char *ref, const struct engine_commit *wish, struct arena *arena, char **id,
                  const struct cancel *cancel, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    // One that does not run, or is paused already, stays as it is. A frozen machine could not be asked: its guest holds its processes.
    bool guest = vm_wanted(&container->config.host_config);
    bool held = wish->pause && !guest && hold(container);
    int result = commit(container, wish, cancel, arena, id, err);
    if (held)
        let_go(container);
    return result;
}
