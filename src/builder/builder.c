// One build from its first byte to its last, and the builder's own life.
#include "builder_private.h"

// ---- life -----------------------------------------------------------------------------------------------------------

static int take_name(void *context, const struct store_row *row, struct err *err)
{
    strv_add(context, store_text(row, 0));
    return 0;
}

static int remove_leftovers(struct builder *builder, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    if (store_query(builder->store, err, take_name, &names, "SELECT name FROM build_containers", "") < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        struct err missing = { 0 };
        if (engine_remove(builder->engine, names.items[i], true, true, &missing) == 0 || missing.class == ERR_NOT_FOUND)
            container_forget(builder, names.items[i]);
    }
    return 0;
}

int builder_open(struct engine *engine, struct builder **out, struct err *err)
{
    struct builder *builder = mem_new(struct builder);
    builder->engine = engine;
    builder->store = engine_store(engine);
    mutex_init(&builder->lock, 0);
    if (store_migrate(builder->store, "builder", builder_migrations, builder_migration_len, err) < 0 || remove_leftovers(builder, err) < 0 || secrets_sweep(builder, err) < 0 ||
        mounts_sweep(builder, err) < 0 || kept_sweep(builder, err) < 0 || cache_sweep(builder, err) < 0) {
        builder_free(builder);
        return -1;
    }
    *out = builder;
    return 0;
}

void builder_free(struct builder *builder)
{
    if (builder)
        mutex_done(&builder->lock);
    free(builder);
}

void builder_cancel(struct builder *builder, const char *id)
{
    mutex_lock(&builder->lock);
    for (struct crew *crew = builder->crews; crew; crew = crew->next)
        if (crew->id && str_eq(crew->id, id))
            crew_stop(crew);
    mutex_unlock(&builder->lock);
}

// ---- the context ----------------------------------------------------------------------------------------------------

static const char *dockerfile_name(const struct build *build)
{
    return str_empty(build->request->dockerfile) ? "Dockerfile" : build->request->dockerfile;
}

static int read_dockerfile(struct build *build, struct buf *out, struct err *err)
{
    const char *name = dockerfile_name(build);
    if (folder_read(build->context->folder_fd, name, DOCKERFILE_SIZE_MAX, out, err) == 0)
        return out->size > 0 ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "the Dockerfile (%.300s) cannot be empty", name);
    return err->class == ERR_NOT_FOUND ? err_set(err, ERR_INVALID_ARGUMENT, "Cannot locate specified Dockerfile: %.300s", name) : -1;
}

static int take_dockerfile(struct build *build, struct buf *out, struct err *err)
{
    struct slice text = build->request->dockerfile_text;
    buf_add(out, text.data, text.size);
    if (text.size == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "the Dockerfile (%.300s) cannot be empty", build->request->dockerfile);
    return buf_check(out, "Dockerfile", err);
}

// A client sends both files though its .dockerignore leaves them out: they are of the build, not of the context.
static int hide_files(struct build *build, struct err *err)
{
    const char *const files[] = { dockerfile_name(build), ".dockerignore" };
    _cleanup_buf_ struct buf text = BUF_INIT(IGNORE_SIZE_MAX);
    struct ignore *ignore;
    struct err missing = { 0 };
    if (folder_read(build->context->folder_fd, ".dockerignore", IGNORE_SIZE_MAX, &text, &missing) < 0)
        return missing.class == ERR_NOT_FOUND ? 0 : err_set(err, missing.class, "%s", missing.message);
    if (ignore_parse((struct slice){ buf_text(&text), text.size }, build->arena, &ignore, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (ignore_match(ignore, files[i]) && folder_remove(build->engine, build->context->folder_fd, files[i], build->cancel, &missing) < 0 &&
            missing.class != ERR_NOT_FOUND)
            return err_set(err, missing.class, "%s", missing.message);
    return 0;
}

static int open_remote(struct build *build, struct buf *dockerfile, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(DOCKERFILE_SIZE_MAX);
    build->context->folder_fd = remote_context(build, "", build->request->remote, &text, err);
    if (build->context->folder_fd < 0)
        return -1;
    if (build->request->dockerfile_text.data)
        return take_dockerfile(build, dockerfile, err);
    buf_add(dockerfile, buf_text(&text), text.size);
    if (text.size > 0)
        return 0;
    return read_dockerfile(build, dockerfile, err) < 0 ? -1 : hide_files(build, err);
}

static int open_kept(struct build *build, struct buf *dockerfile, struct err *err)
{
    build->context->listing = build_kept_listing(build->request->kept);
    build->context->folder_fd = build_kept_tree(build->request->kept, err);
    return build->context->folder_fd < 0 ? -1 : take_dockerfile(build, dockerfile, err);
}

static int open_tar(struct build *build, int input_fd, struct buf *dockerfile, struct err *err)
{
    int known = context_take(build, input_fd, dockerfile_name(build), dockerfile, err);
    if (known < 0)
        return -1;
    if (!known)
        return read_dockerfile(build, dockerfile, err) < 0 ? -1 : hide_files(build, err);
    return dockerfile->size > 0 ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "the Dockerfile (%.300s) cannot be empty", dockerfile_name(build));
}

static int open_context(struct build *build, int input_fd, struct buf *dockerfile, struct err *err)
{
    const struct build_request *request = build->request;
    if (workshop_new(build->engine, &build->workshop, err) < 0)
        return -1;
    if (!request->kept && !request->remote && input_fd >= 0 && !request->dockerfile_text.data)
        return open_tar(build, input_fd, dockerfile, err);
    if (request->pieces && request->pieces(request->pieces_of, NULL, NULL, build->cancel, err) < 0)
        return -1;
    if (request->kept)
        return open_kept(build, dockerfile, err);
    if (request->remote)
        return open_remote(build, dockerfile, err);
    build->context->folder_fd = workshop_folder(build->workshop, "context", err);
    if (build->context->folder_fd < 0 || (input_fd >= 0 && folder_unpack(build->engine, build->context->folder_fd, input_fd, build->cancel, err) < 0))
        return -1;
    return take_dockerfile(build, dockerfile, err);
}

// ---- the plan -------------------------------------------------------------------------------------------------------

static int take_epoch(struct build *build, struct err *err)
{
    const char *text = kvs_get(&build->args.given, "SOURCE_DATE_EPOCH");
    build->time_max = -1;
    if (!str_empty(text) && (!num_parse_i64(slice_of(text), &build->time_max) || build->time_max < 0))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid SOURCE_DATE_EPOCH: %.64s", text);
    build->created_ns = build->time_max >= 0 ? build->time_max * NS_PER_S : clock_wall_ns();
    return 0;
}

static void count_steps(struct build *build)
{
    unsigned *steps = &build->crew->steps;
    *steps = (unsigned)build->file->globals_len + (build->request->labels.len > 0);
    for (size_t i = 0; i < build->graph->len; i++)
        if (build->graph->nodes[i].needed)
            *steps += 1 + (unsigned)build->graph->nodes[i].stage->len;
}

static int make_plan(struct build *build, const struct buf *text, struct err *err)
{
    const struct build_request *request = build->request;
    struct slice source = { buf_text(text), text->size };
    build->args = (struct build_args){ .given = request->args, .build_platform = OWN_PLATFORM,
                                       .target_platform = str_empty(request->platform) ? OWN_PLATFORM : request->platform,
                                       .target_stage = str_empty(request->target) ? NULL : request->target };
    if (dockerfile_parse(source, build->arena, &build->file, &build->place, err) < 0 || take_epoch(build, err) < 0 ||
        scope_global(build->file, &build->args, build->arena, &build->global, err) < 0 ||
        graph_make(build->file, &build->global, request->target, build->arena, &build->graph, &build->place, err) < 0)
        return -1;
    build->stages = arena_alloc(build->arena, build->graph->len * sizeof(*build->stages));
    for (size_t i = 0; i < build->graph->len; i++)
        build->stages[i].index = i;
    count_steps(build);
    return 0;
}

// ---- the whole ------------------------------------------------------------------------------------------------------

static void warn_of_unused(struct build *build)
{
    struct strv unused = { 0 };
    scope_unused(build->file, &build->args, build->arena, &unused);
    if (unused.len == 0)
        return;
    struct buf text = BUF_INIT(DOCKERFILE_SIZE_MAX);
    for (size_t i = 0; i < unused.len; i++)
        buf_addf(&text, i ? " %s" : "%s", unused.items[i]);
    say(build, "[Warning] One or more build-args [%s] were not consumed\n", buf_text(&text));
    buf_done(&text);
}

// Docker's classic builder passes over them without a word to the client.
static void warn_of_caches(struct build *build)
{
    const struct strv *names = &build->request->cache_from;
    char id[OCI_DIGEST_SIZE];
    struct err missing = { 0 };
    for (size_t i = 0; i < names->len; i++)
        if (image_find(engine_images(build->engine), names->items[i], id, &missing) < 0)
            say(build, "[Warning] --cache-from %s is passed over: %s\n", names->items[i], missing.message);
}

static int run_stages(struct build *build, struct err *err)
{
    for (size_t i = 0; i < build->file->globals_len; i++)
        say_step(build, build->file->globals[i].text);
    return crew_work(build, err);
}

static int squash(struct stage *target, struct err *err)
{
    struct build *build = target->build;
    struct step step = step_of(target, "");
    char *id;
    step.created_by = NULL;
    if (step_squash(build->engine, target->image, target->base, &step, build->arena, &id, build->cancel, err) < 0)
        return -1;
    target->image = id;
    return 0;
}

static int finish(struct build *build, struct build_result *out, struct err *err)
{
    struct stage *target = &build->stages[build->graph->target];
    if (!target->image)
        return err_set(err, ERR_INVALID_ARGUMENT, "No image was generated. Is your Dockerfile empty?");
    warn_of_unused(build);
    if (build->request->cache_out && cache_export(build, &out->cache_id, err) < 0)
        return -1;
    if (build->request->squash && squash(target, err) < 0)
        return -1;
    if (!build->request->unseen && step_publish(build->engine, target->image, &build->request->tags, err) < 0)
        return -1;
    out->id = arena_strdup(build->arena, target->image);
    say(build, "Successfully built %.12s\n", target->image + strlen("sha256:"));
    for (size_t i = 0; i < build->request->tags.len; i++)
        say(build, "Successfully tagged %s\n", build->request->tags.items[i]);
    return 0;
}

static int tell_dockerfile(const struct build *build, const struct buf *text, struct err *err)
{
    const struct build_request *request = build->request;
    if (!request->dockerfile_found || request->dockerfile_text.data)
        return 0;
    return request->dockerfile_found(request->dockerfile_of, (struct slice){ buf_text(text), text->size }, err);
}

static int tell_place(const struct build *build, const struct buf *text, struct build_result *out)
{
    if (build->place.line) {
        out->line = build->place.line;
        out->last_line = build->place.last_line;
        out->dockerfile = (struct slice){ arena_strndup(build->arena, buf_text(text), text->size), text->size };
    }
    return -1;
}

static int run(struct build *build, int input_fd, struct build_result *out, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(DOCKERFILE_SIZE_MAX + 1);
    named_open(build);
    if (open_context(build, input_fd, &text, err) < 0 || tell_dockerfile(build, &text, err) < 0)
        return -1;
    if (make_plan(build, &text, err) < 0)
        return tell_place(build, &text, out);
    warn_of_caches(build);
    if (cache_read(build, err) < 0)
        return -1;
    return run_stages(build, err) < 0 ? tell_place(build, &text, out) : finish(build, out, err);
}

int builder_build(struct builder *builder, const struct build_request *request, int input_fd, engine_progress_fn *progress, void *context,
                  struct arena *arena, struct build_result *out, const struct cancel *cancel, struct err *err)
{
    struct crew crew;
    struct context files;
    struct build build = { .crew = &crew, .context = &files, .builder = builder, .engine = builder->engine, .request = request, .cancel = &crew.cancel, .arena = arena,
                           .progress = progress, .progress_of = context };
    *out = (struct build_result){ 0 };
    context_open(&files);
    int result = crew_open(&crew, builder, request->id, cancel, err) < 0 ? -1 : run(&build, input_fd, out, err);
    out->exit_code = build.exit_code;
    if (result < 0)
        say_held(&build);
    json_decref(build.held.lines);
    sources_take(&crew, arena, out);
    crew_done(&build);
    named_close(&build);
    crew_close(&crew, builder);
    context_close(&files);
    workshop_free(build.workshop);
    json_decref(build.imported);
    return result;
}
