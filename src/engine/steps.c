// A build's images, a step at a time:
//
//     step_plain        the daemon writes the configuration: there is no foreign byte in it that it does not know already
//     step_place        berth-archive place --tar--> berth-commit --report--> records
//     step_container    berth-archive layer --tar--> the same
//     step_keep         the container's upper stays a folder (loose.c)
//
// Where the tar has no entry, as after most checks and clean-ups, the last two are the first.
#include "steps.h"

#include <fcntl.h>

#include "place.h"
#include "stepping.h"
#include "vm.h"

struct store *engine_store(struct engine *engine)
{
    return engine->store;
}

const char *engine_data_root(const struct engine *engine)
{
    return engine->data_root;
}

const char *engine_exec_root(const struct engine *engine)
{
    return engine->exec_root;
}

// ---- the configuration ----------------------------------------------------------------------------------------------

static void fill_platform(struct oci_image_config *config, const char *platform, struct arena *arena)
{
    struct slice rest = slice_of(str_empty(platform) ? "linux" : platform), os, architecture;
    slice_cut(&rest, '/', &os);
    config->os = arena_strndup(arena, os.data, os.size);
#if defined(__aarch64__)
    config->architecture = arena_strdup(arena, "arm64");
#else
    config->architecture = arena_strdup(arena, "amd64");
#endif
    if (slice_cut(&rest, '/', &architecture))
        config->architecture = arena_strndup(arena, architecture.data, architecture.size);
    config->rootfs.type = arena_strdup(arena, "layers");
}

int stepping_fill(struct stepping *stepping, struct err *err)
{
    const struct step *step = stepping->step;
    struct oci_image_config *config = &stepping->config;
    char created[CLOCK_TEXT_SIZE];
    if (step->parent && image_get(stepping->engine->images, step->parent, stepping->arena, &stepping->parent, err) < 0)
        return -1;
    *config = stepping->parent.config;
    if (!step->parent)
        fill_platform(config, step->platform, stepping->arena);
    clock_format(step->created_ns, created);
    config->config = *step->process;
    config->created = arena_strdup(stepping->arena, created);
    config->author = step->author ? (char *)step->author : config->author;
    config->comment = config->container = NULL;
    config->docker_version = (char *)BERTH_VERSION;
    stepping->history = (struct oci_history){ .created = config->created, .created_by = (char *)step->created_by, .author = config->author,
                                              .comment = (char *)step->comment };
    return 0;
}

struct stepping stepping_of(struct engine *engine, const struct step *step, struct arena *arena)
{
    return (struct stepping){ .layer_size = step->layer_size, .engine = engine, .worker = COMMIT_WORKER_INIT(engine), .filer = FILER_ALONE(engine), .tar_fd = -1, .arena = arena, .step = step };
}

void stepping_done(struct stepping *stepping)
{
    fd_close(stepping->tar_fd);
    worker_done(&stepping->worker);
    filer_done(&stepping->filer);
}

// ---- without a layer ------------------------------------------------------------------------------------------------

void stepping_list_layers(struct stepping *stepping, struct image_staged *staged)
{
    const struct strv *diff_ids = &stepping->config.rootfs.diff_ids;
    struct image_staged_layer *layers = arena_alloc(stepping->arena, (diff_ids->len + 1) * sizeof(*layers));
    for (size_t i = 0; i < diff_ids->len; i++)
        layers[i] = (struct image_staged_layer){ .diff_id = diff_ids->items[i], .size = i < stepping->parent.chain_ids.len ? stepping->parent.layer_sizes[i]
                                                                                                                         : stepping->layer_size };
    staged->layers = (struct json_list){ .items = layers, .len = diff_ids->len };
}

int stepping_stage_config(struct stepping *stepping, int staging_fd, char digest[OCI_DIGEST_SIZE], struct err *err)
{
    _cleanup_json_ json_t *document = json_encode(&oci_image_config_table, &stepping->config);
    if (stepping->member)
        json_object_set(document, stepping->member, stepping->value);
    _cleanup_free_ char *text = json_text(document);
    image_digest(text, strlen(text), digest);
    _cleanup_free_ char *path = mem_printf("blobs/%s", oci_digest_hex(digest));
    if (file_mkdirs(staging_fd, "blobs", 0700, err) < 0)
        return -1;
    return file_write_at(staging_fd, path, text, strlen(text), 0600, false, err);
}

static int commit_plain(struct stepping *stepping, int staging_fd, const char *staging, struct err *err)
{
    char digest[OCI_DIGEST_SIZE];
    if (stepping_stage_config(stepping, staging_fd, digest, err) < 0)
        return -1;
    struct image_staged staged = { .config_digest = digest, .step = true, .parent = stepping->step->parent };
    stepping_list_layers(stepping, &staged);
    return image_commit_staged(stepping->engine->images, staging, &staged, stepping->arena, &stepping->id, err);
}

int stepping_plain(struct stepping *stepping, char **id, struct err *err)
{
    struct image_store *images = stepping->engine->images;
    stepping->history.empty_layer = !stepping->step->diff_id;
    if (stepping->step->diff_id)
        strv_push_arena(&stepping->config.rootfs.diff_ids, stepping->arena, stepping->step->diff_id);
    *(struct oci_history *)json_list_add(&stepping->config.history, &oci_history_table, stepping->arena) = stepping->history;
    _cleanup_free_ char *staging = NULL;
    _cleanup_close_ int staging_fd = image_staging_new(images, &staging, err);
    if (staging_fd < 0)
        return -1;
    int done = commit_plain(stepping, staging_fd, staging, err);
    image_staging_remove(images, staging);
    *id = stepping->id;
    return done;
}

int step_plain(struct engine *engine, const struct step *step, struct arena *arena, char **id, struct err *err)
{
    struct stepping stepping = stepping_of(engine, step, arena);
    return stepping_fill(&stepping, err) < 0 ? -1 : stepping_plain(&stepping, id, err);
}

static int list_known(struct stepping *stepping, struct image_staged *staged, struct err *err)
{
    const struct strv *diff_ids = &stepping->config.rootfs.diff_ids;
    struct image_staged_layer *layers = arena_alloc(stepping->arena, (diff_ids->len + 1) * sizeof(*layers));
    for (size_t i = 0; i < diff_ids->len; i++) {
        layers[i].diff_id = diff_ids->items[i];
        if (image_layer_size(stepping->engine->images, layers[i].diff_id, &layers[i].size, err) < 0)
            return -1;
    }
    staged->layers = (struct json_list){ .items = layers, .len = diff_ids->len };
    return 0;
}

static int commit_known(struct stepping *stepping, int staging_fd, const char *staging, struct err *err)
{
    char digest[OCI_DIGEST_SIZE];
    struct image_staged staged = { .config_digest = digest, .step = true };
    if (stepping_stage_config(stepping, staging_fd, digest, err) < 0 || list_known(stepping, &staged, err) < 0)
        return -1;
    return image_commit_staged(stepping->engine->images, staging, &staged, stepping->arena, &stepping->id, err);
}

int image_of_layers(struct engine *engine, const struct strv *diff_ids, const char *member, json_t *value, const char *platform, struct arena *arena,
                    char **id, struct err *err)
{
    const struct step step = { .platform = platform };
    struct stepping stepping = stepping_of(engine, &step, arena);
    fill_platform(&stepping.config, platform, arena);
    stepping.config.rootfs.diff_ids = *diff_ids;
    stepping.member = member;
    stepping.value = value;
    _cleanup_free_ char *staging = NULL;
    _cleanup_close_ int staging_fd = image_staging_new(engine->images, &staging, err);
    if (staging_fd < 0)
        return -1;
    int done = commit_known(&stepping, staging_fd, staging, err);
    image_staging_remove(engine->images, staging);
    *id = stepping.id;
    return done;
}

// ---- with one -------------------------------------------------------------------------------------------------------

static json_t *describe(const struct stepping *stepping)
{
    json_t *sizes = json_array(), *words = json_object();
    for (size_t i = 0; i < stepping->parent.chain_ids.len; i++)
        json_array_append_new(sizes, json_integer(stepping->parent.layer_sizes[i]));
    json_object_set_new(words, "config", json_encode(&oci_image_config_table, &stepping->config));
    json_object_set_new(words, "step", json_encode(&oci_history_table, &stepping->history));
    json_object_set_new(words, "sizes", sizes);
    return words;
}

static int start_tar(struct stepping *stepping, const struct filer_wish *asked, struct err *err)
{
    struct filer_wish wish = *asked;
    int ends[2];
    if (fd_pipe(ends, err) < 0)
        return -1;
    fcntl(ends[1], F_SETPIPE_SZ, 1 << 20); // fewer switches between the two; 64 KiB where it is refused
    stepping->tar_fd = ends[0];
    wish.data_fd = ends[1];
    int started = filer_start(&stepping->filer, &wish, err);
    fd_close(ends[1]);
    return started;
}

// 1: it has an entry; 0: none, and the archive worker is done.
static int has_content(struct stepping *stepping, struct err *err)
{
    json_t *line = NULL;
    int more = filer_next(&stepping->filer, stepping->cancel, &line, err);
    if (more < 0)
        return -1;
    const json_t *content = more ? json_object_get(line, "content") : NULL;
    int result = json_is_boolean(content) ? json_is_true(content) : err_set(err, ERR_INTERNAL, "the archive worker said nothing of its tar");
    json_decref(line);
    return result == 0 ? filer_end(&stepping->filer, stepping->cancel, err) : result;
}

static int end_tar(struct worker *worker, struct image_staged *staged, struct err *err)
{
    struct stepping *stepping = worker->context;
    staged->parent = stepping->step->parent;
    staged->step = true;
    return filer_end(&stepping->filer, stepping->cancel, err);
}

static int take_image(struct worker *worker, const struct image_staged *staged, const char *id, struct arena *arena, struct err *err)
{
    struct stepping *stepping = worker->context;
    stepping->id = arena_strdup(stepping->arena, id);
    return 0;
}

// Where the image worker could not go on, because it got no whole tar, the one who failed to make it knows why.
static int explain(struct stepping *stepping, struct err *err)
{
    struct err why = { 0 };
    if (stepping->filer.report_fd >= 0 && err->class != ERR_CANCELLED && filer_end(&stepping->filer, stepping->cancel, &why) < 0 &&
        why.class != ERR_INTERNAL)
        *err = why;
    return -1;
}

static int commit_tar(struct stepping *stepping, char **id, struct err *err)
{
    char *const argv[] = { (char *)"berth-commit", NULL };
    _cleanup_json_ json_t *order = describe(stepping);
    _cleanup_free_ char *text = json_text(order);
    stepping->worker.order = text;
    stepping->worker.context = stepping;
    stepping->worker.ready = end_tar;
    stepping->worker.told = take_image;
    int done = worker_run(&stepping->worker, argv, stepping->tar_fd, stepping->cancel, err);
    stepping->worker.order = NULL;
    if (done < 0)
        return explain(stepping, err);
    *id = stepping->id;
    return *id ? 0 : err_set(err, ERR_INTERNAL, "the image worker made no image");
}

static int run_filled(struct stepping *stepping, const struct filer_wish *wish, char **id, struct err *err)
{
    int content = start_tar(stepping, wish, err) < 0 ? -1 : has_content(stepping, err);
    return content < 0 ? -1 : content ? commit_tar(stepping, id, err) : stepping_plain(stepping, id, err);
}

int stepping_run(struct stepping *stepping, const struct filer_wish *wish, char **id, struct err *err)
{
    return stepping_fill(stepping, err) < 0 ? -1 : run_filled(stepping, wish, id, err);
}

int step_place(struct engine *engine, const struct step *step, const struct step_place *place, const struct step_sources *sources,
               struct arena *arena, char **id, const struct cancel *cancel, struct err *err)
{
    _cleanup_(stepping_done) struct stepping stepping = stepping_of(engine, step, arena);
    stepping.cancel = cancel;
    _cleanup_close_ int root = tree_of_image(engine, step->parent, err);
    if (root < 0)
        return -1;
    _cleanup_(place_order_done) struct place_order order;
    place_order_init(&order, engine, place, false);
    if (place_order_add(&order, place, sources, err) < 0)
        return -1;
    const struct filer_wish wish = { .verb = "place", .root_fd = root, .source_fds = order.fds, .source_len = order.len, .spec = order.spec };
    return stepping_run(&stepping, &wish, id, err);
}

json_t *stepping_layer_spec(const struct step *step, bool guest)
{
    bool stubs = step->stubs && step->stubs->len && !guest;
    json_t *spec = step->time_max >= 0 || stubs ? json_object() : NULL, *list = stubs ? json_array() : NULL;
    if (step->time_max >= 0)
        json_object_set_new(spec, "time_max", json_integer(step->time_max));
    for (size_t i = 0; stubs && i < step->stubs->len; i++)
        json_array_append_new(list, json_new_text(step->stubs->items[i]));
    if (stubs)
        json_object_set_new(spec, "stubs", list);
    return spec;
}

int step_container(struct engine *engine, const struct step *step, const char *ref, struct arena *arena, char **id, const struct cancel *cancel,
                   struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    _cleanup_(stepping_done) struct stepping stepping = stepping_of(engine, step, arena);
    stepping.filer = (struct filer)FILER_INIT(container);
    stepping.cancel = cancel;
    _cleanup_json_ json_t *spec = stepping_layer_spec(step, vm_wanted(&container->config.host_config));
    const struct filer_wish wish = { .verb = "layer", .tree = { .layers = true }, .spec = spec };
    return stepping_run(&stepping, &wish, id, err);
}

// The base's record, with the image's configuration and history.
static int fill_squashed(struct stepping *stepping, const char *id, struct err *err)
{
    struct image whole;
    if (image_get(stepping->engine->images, id, stepping->arena, &whole, err) < 0 || stepping_fill(stepping, err) < 0)
        return -1;
    for (size_t i = stepping->config.history.len; i < whole.config.history.len; i++) {
        struct oci_history *added = json_list_add(&stepping->config.history, &oci_history_table, stepping->arena);
        *added = *(const struct oci_history *)json_list_at(&whole.config.history, &oci_history_table, i);
        added->empty_layer = true;
    }
    stepping->config.config = whole.config.config;
    stepping->config.author = whole.config.author;
    stepping->config.os = whole.config.os;
    stepping->config.architecture = whole.config.architecture;
    return 0;
}

int step_squash(struct engine *engine, const char *id, const char *base, const struct step *asked, struct arena *arena, char **out,
                const struct cancel *cancel, struct err *err)
{
    struct step step = *asked;
    step.parent = base;
    step.comment = base ? arena_printf(arena, "merge %s to %s", id, base) : arena_printf(arena, "create new from %s", id);
    _cleanup_(stepping_done) struct stepping stepping = stepping_of(engine, &step, arena);
    _cleanup_close_ int whole = tree_of_image(engine, id, err), below = tree_of_image(engine, base, err);
    _cleanup_json_ json_t *exact = json_pack("{s:b}", "exact", 1);
    if (whole < 0 || below < 0 || fill_squashed(&stepping, id, err) < 0)
        return -1;
    stepping.cancel = cancel;
    stepping.filer.tree.lower_fd = below;
    const struct filer_wish wish = { .verb = "layer", .root_fd = whole, .spec = exact };
    return run_filled(&stepping, &wish, out, err);
}

int image_archive(struct engine *engine, const char *id, const struct strv *names, engine_pipe_fn *sink, void *context, const struct cancel *cancel,
                  struct err *err)
{
    return worker_save_image(engine->images, engine->image_program, id, names, sink, context, cancel, err);
}

// ---- afterwards -----------------------------------------------------------------------------------------------------

int step_publish(struct engine *engine, const char *id, const struct strv *tags, struct err *err)
{
    if (image_show(engine->images, id, err) < 0)
        return -1;
    event_image(engine, id, "create", id);
    for (size_t i = 0; i < tags->len; i++)
        if (engine_image_tag(engine, id, tags->items[i], err) < 0)
            return -1;
    return 0;
}
