// What becomes of a build's result, output by output (output.c has what was asked for), and of its cache.
#include "base/fd.h"
#include "buildkit_private.h"

#define ARCHIVES (OUTPUT_OCI | OUTPUT_DOCKER)

struct running {
    struct solve *solve;
    struct buildkit_session *session;
    const struct output *output;
    const struct buildkit_config *config;
    struct buildkit_export export;
    struct arena *arena;
    const struct cancel *cancel;
    struct buildkit_layout *layout; // NULL: it is an image as the store has it
    struct merge *merge; // of files that are not one image's alone; NULL
    int tree_fd;
    struct outputs_said *said;
};

// ---- to the client --------------------------------------------------------------------------------------------------

static int make(void *of, buildkit_bytes_fn *bytes, void *bytes_of, struct err *err)
{
    const struct running *running = of;
    const struct buildkit_config *config = running->config;
    if (running->merge)
        return merge_make(running->merge, bytes, bytes_of, err);
    if (!running->layout)
        return config->export(config->of, &running->export, bytes, bytes_of, running->cancel, err);
    const struct kvs annotations = output_entry_annotations(running->output, running->arena);
    return config->layout_archive(config->of, running->layout, &running->output->names, &annotations, bytes, bytes_of, running->cancel, err);
}

static int open_file(void *of, const char *path, struct err *err)
{
    const struct running *running = of;
    return running->merge ? merge_file(running->merge, path, err) : running->config->file(running->config->of, running->tree_fd, path, err);
}

static int give_folder(struct running *running, const struct send_target *target, struct err *err)
{
    const struct send_tree tree = { make, open_file, running };
    if (!running->merge && (running->tree_fd = running->config->tree(running->config->of, running->export.image, err)) < 0)
        return -1;
    return send_folder(target, &tree, err);
}

// An archive's blobs into a folder; the client writes the index.
static int give_layout(struct running *running, struct step *step, struct err *err)
{
    const struct content_store store = { running->session, "export", running->cancel };
    char *entry;
    if (layout_send(&store, step, make, running, running->arena, &entry, err) < 0)
        return -1;
    if (!running->said->descriptor)
        running->said->descriptor = entry;
    return 0;
}

static int give_any(struct running *running, const struct send_target *target, struct err *err)
{
    if (running->output->kind == OUTPUT_LOCAL)
        return give_folder(running, target, err);
    return running->output->folder ? give_layout(running, target->step, err) : send_bytes(target, make, running, err);
}

static int give(struct running *running, size_t number, struct err *err)
{
    static const struct {
        enum output_kind kind;
        const char *name;
    } rows[] = { { OUTPUT_LOCAL, "exporting to client directory" }, { OUTPUT_TAR, "exporting to client tarball" },
                 { OUTPUT_OCI, "exporting to oci image format" }, { OUTPUT_DOCKER, "exporting to docker image format" } };
    struct step step = { 0 };
    struct kv said = { (char *)"containerimage.config.digest", (char *)running->export.image };
    const struct kvs named = { &said, 1 };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].kind == running->output->kind)
            step_start(&step, running->solve, rows[i].name);
    const struct send_target target = { .session = running->session, .number = number, .cancel = running->cancel, .step = &step,
                                        .said = running->export.archive ? &named : NULL, .mirror = running->output->mirror };
    int result = give_any(running, &target, err);
    step_end(&step, result < 0 ? err : NULL);
    return result;
}

static int give_files(struct running *running, size_t number, struct err *err)
{
    const struct solve *solve = running->solve;
    struct merge merge = { .solve = solve, .output = running->output, .arena = running->arena, .cancel = running->cancel };
    if (solve->result_len < 2 && !solve->attest.provenance && !solve->attest.sbom)
        return give(running, number, err);
    running->merge = &merge;
    int result = merge_open(&merge, err) < 0 ? -1 : give(running, number, err);
    merge_done(&merge);
    running->merge = NULL;
    return result;
}

// ---- to registries --------------------------------------------------------------------------------------------------

static int push_name(const struct running *running, const char *name, struct stream *stream, struct err *err)
{
    const struct buildkit_config *config = running->config;
    const struct output *output = running->output;
    const char *image = output->unseen ? running->export.image : NULL;
    if (running->layout)
        return config->layout_push(config->of, running->session, running->layout, name, output->by_digest, stream_take, stream, running->cancel, err);
    return config->push(config->of, running->session, image, name, stream_take, stream, running->arena, &running->said->digest, running->cancel, err);
}

static int push_names(const struct running *running, struct err *err)
{
    const struct strv *names = &running->output->names;
    int result = 0;
    for (size_t i = 0; i < names->len && result == 0; i++) {
        struct stream stream = { .solve = running->solve };
        step_start(&stream.step, running->solve, arena_printf(running->arena, "pushing %s with docker", names->items[i]));
        result = push_name(running, names->items[i], &stream, err);
        stream_end(&stream, result < 0 ? err : NULL);
    }
    return result;
}

// ---- one output -----------------------------------------------------------------------------------------------------

static int make_layout(struct running *running, struct err *err)
{
    const struct output *output = running->output;
    struct step step;
    bool wanted = output->kind == OUTPUT_IMAGE ? output->push : output->kind & ARCHIVES;
    if (!wanted || !output_needs_form(running->solve, output))
        return 0;
    step_start(&step, running->solve, "exporting layers");
    int result = output_layout(running->solve, output, running->arena, &running->layout, running->cancel, err);
    step_end(&step, result < 0 ? err : NULL);
    if (result < 0)
        return -1;
    _cleanup_json_ json_t *descriptor = running->config->layout_descriptor(running->layout);
    _cleanup_free_ char *text = json_dumps(descriptor, JSON_COMPACT);
    running->said->descriptor = arena_strdup(running->arena, text);
    running->said->digest = arena_strdup(running->arena, json_get_text(descriptor, "digest", ""));
    return 0;
}

// What docker's older form has no place for.
static int check_output(const struct solve *solve, const struct output *output, struct err *err)
{
    bool list = solve->result_len > 1 || solve->attest.provenance || solve->attest.sbom;
    if (output->kind == OUTPUT_DOCKER && list)
        return err_set(err, ERR_NOT_IMPLEMENTED, "docker exporter does not currently support exporting manifest lists");
    if (output->kind == OUTPUT_IMAGE && !output->push && solve->result_len > 1)
        return err_set(err, ERR_NOT_IMPLEMENTED, "exporting multiple references to image store is currently unsupported");
    return 0;
}

static int run(struct running *running, struct err *err)
{
    const struct output *output = running->output;
    if (check_output(running->solve, output, err) < 0 || make_layout(running, err) < 0)
        return -1;
    if (output->kind == OUTPUT_IMAGE)
        return output->push ? push_names(running, err) : 0;
    size_t number = (size_t)(output - running->solve->outputs);
    return output->kind & ARCHIVES ? give(running, number, err) : give_files(running, number, err);
}

static int run_output(struct solve *solve, const struct output *output, struct buildkit_session *session, struct arena *arena, struct outputs_said *said,
                      const struct cancel *cancel, struct err *err)
{
    mutex_lock(&solve->buildkit->lock);
    struct running running = { .solve = solve, .session = session, .output = output, .config = &solve->buildkit->config, .arena = arena,
                               .cancel = cancel, .tree_fd = -1, .said = said,
                               .export = { .image = solve->image, .archive = output->kind & ARCHIVES, .names = output->names,
                                           .same_time = solve->same_time, .time = solve->time } };
    mutex_unlock(&solve->buildkit->lock);
    if (!running.export.image)
        return err_set(err, ERR_INVALID_ARGUMENT, "there is no result to export");
    int result = run(&running, err);
    if (running.layout)
        running.config->layout_free(running.layout);
    fd_close(running.tree_fd);
    return result;
}

// ---- the cache ------------------------------------------------------------------------------------------------------

static int push_cache(struct running *running, const char *name, struct err *err)
{
    const struct buildkit_config *config = running->config;
    struct stream stream = { .solve = running->solve };
    char *digest;
    step_start(&stream.step, running->solve, arena_printf(running->arena, "exporting cache to registry %s", name));
    int result = config->push(config->of, running->session, running->export.image, name, stream_take, &stream, running->arena, &digest, running->cancel, err);
    stream_end(&stream, result < 0 ? err : NULL);
    return result;
}

// *descriptor is what the client enters into the folder's index.
static int give_cache(struct running *running, const char *folder, char **descriptor, struct err *err)
{
    const struct content_store store = { running->session, arena_printf(running->arena, "local:%s", folder), running->cancel };
    struct step step;
    step_start(&step, running->solve, "exporting cache to client directory");
    int result = layout_send(&store, &step, make, running, running->arena, descriptor, err);
    step_end(&step, result < 0 ? err : NULL);
    return result;
}

// Once for all that are named: it is the same image.
static int give_caches(struct solve *solve, struct buildkit_session *session, struct arena *arena, struct outputs_said *said, const struct cancel *cancel,
                       struct err *err)
{
    struct running running = { .solve = solve, .session = session, .config = &solve->buildkit->config, .arena = arena, .cancel = cancel, .tree_fd = -1, .said = said,
                               .export = { .image = solve->cache, .archive = true } };
    int result = 0;
    for (size_t i = 0; i < solve->cache_to_len && solve->cache && result == 0; i++) {
        const struct cache_place *place = &solve->cache_to[i];
        result = place->folder ? give_cache(&running, place->name, &said->cache, err) : push_cache(&running, place->name, err);
        if (place->ignore_error && !cancel_now(cancel))
            result = 0;
    }
    return result;
}

// ---- all of them ----------------------------------------------------------------------------------------------------

int outputs_run(struct solve *solve, struct arena *arena, struct outputs_said *said, const struct cancel *cancel, struct err *err)
{
    struct buildkit_session *session = NULL;
    *said = (struct outputs_said){ 0 };
    if (solve->output_len + solve->cache_to_len > 0 && session_get(solve->buildkit, solve->session, cancel, &session, err) < 0)
        return -1;
    int result = 0;
    for (size_t i = 0; i < solve->output_len && result == 0; i++)
        result = run_output(solve, &solve->outputs[i], session, arena, said, cancel, err);
    if (result == 0)
        result = give_caches(solve, session, arena, said, cancel, err);
    session_put(session);
    return result;
}
