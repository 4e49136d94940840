// A stage: its base, the base's triggers, its instructions, one after the other. Whose turn it is among stages is crew.c's to know.
#include "builder_private.h"

// ---- images ---------------------------------------------------------------------------------------------------------

static bool fits_platform(const struct image *image, const char *platform)
{
    if (str_empty(platform))
        return true;
    struct slice rest = slice_of(platform), os, architecture;
    slice_cut(&rest, '/', &os);
    if (!slice_cut(&rest, '/', &architecture))
        return slice_eq(os, image->config.os ? image->config.os : "");
    return slice_eq(architecture, image->config.architecture ? image->config.architecture : "");
}

static int pull(struct build *build, const char *name, const char *platform, struct err *err)
{
    struct image_ref ref;
    if (image_ref_parse(name, true, build->arena, &ref, err) < 0)
        return -1;
    const struct engine_login login = crew_login(build, ref.domain);
    return engine_pull(build->engine, name, str_empty(platform) ? NULL : platform, &login, say_progress, build, build->cancel, err);
}

// By the digest that its registry has for that name.
static void note_image(struct build *build, const char *name, const char *platform, const struct image *image)
{
    struct image_ref ref, known;
    struct build_source source = { BUILD_SOURCE_IMAGE, name, image->id, str_empty(platform) ? NULL : platform, false };
    for (size_t i = 0; i < image->digests.len; i++)
        if (image_ref_parse(name, true, build->arena, &ref, NULL) == 0 && image_ref_parse(image->digests.items[i], true, build->arena, &known, NULL) == 0 &&
            str_eq(ref.familiar_name, known.familiar_name) && known.digest)
            source.digest = known.digest;
    source_note(build, &source);
}

static bool is_foreign(const char *platform)
{
    struct slice rest = slice_of(platform), own = slice_of(OWN_PLATFORM), part, architecture = { 0 }, own_architecture = { 0 };
    if (str_empty(platform))
        return false;
    slice_cut(&rest, '/', &part);
    slice_cut(&rest, '/', &architecture);
    slice_cut(&own, '/', &part);
    slice_cut(&own, '/', &own_architecture);
    return architecture.data && !(architecture.size == own_architecture.size && memcmp(architecture.data, own_architecture.data, architecture.size) == 0);
}

int find_image(struct build *build, const char *name, const char *platform, const char **id, struct err *err)
{
    struct image image;
    struct err missing = { 0 };
    bool here = !build->request->pull && image_get(engine_images(build->engine), name, build->arena, &image, &missing) == 0 &&
                fits_platform(&image, platform);
    if (missing.class != ERR_NONE && missing.class != ERR_NOT_FOUND)
        return err_set(err, missing.class, "%s", missing.message);
    if (!here && build->request->live && is_foreign(platform))
        return import_foreign(build, name, platform, id, err);
    if (!here && (pull(build, name, platform, err) < 0 || image_get(engine_images(build->engine), name, build->arena, &image, err) < 0))
        return -1;
    note_image(build, name, platform, &image);
    *id = image.id;
    return 0;
}

int find_from(struct stage *stage, const char *from, const char **id, struct err *err)
{
    struct build *build = stage->build;
    enum graph_origin origin;
    size_t index;
    if (graph_from(build->graph, stage->index, from, &origin, &index, err) < 0)
        return -1;
    if (origin == GRAPH_IMAGE)
        return find_image(build, from, build->request->live ? build->request->platform : NULL, id, err);
    *id = build->stages[index].image;
    return 0;
}

int open_from_tree(struct stage *stage, const char *from, struct err *err)
{
    struct named *named = named_find(stage->build, from);
    const char *id;
    if (named)
        return named_tree(stage->build, named, err);
    return find_from(stage, from, &id, err) < 0 ? -1 : tree_of_image(stage->build->engine, id, err);
}

int stage_adopt(struct stage *stage, const char *id, struct err *err)
{
    struct image image;
    if (image_get(engine_images(stage->build->engine), id, stage->build->arena, &image, err) < 0)
        return -1;
    stage->image = image.id;
    stage->config = image.config.config;
    stage->author = str_empty(image.config.author) ? NULL : image.config.author;
    return 0;
}

// ---- steps ----------------------------------------------------------------------------------------------------------

struct step step_of(const struct stage *stage, const char *created_by)
{
    const struct build *build = stage->build;
    const char *platform = build->graph->nodes[stage->index].platform;
    return (struct step){ .parent = stage->image, .process = &stage->config, .created_by = created_by, .author = stage->author,
                          .platform = platform ? platform : build->request->platform,
                          .created_ns = build->time_max >= 0 ? build->time_max * NS_PER_S : clock_wall_ns(), .time_max = -1 };
}

int commit_plain(struct stage *stage, const char *created_by, struct err *err)
{
    struct build *build = stage->build;
    char key[OCI_DIGEST_SIZE], *id;
    const char *parent = stage->image;
    cache_key(stage, created_by, "", key);
    int hit = cache_find(stage, key, created_by, err);
    if (hit != 0)
        return hit < 0 ? -1 : 0;
    const struct step step = step_of(stage, created_by);
    if (step_plain(build->engine, &step, build->arena, &id, err) < 0)
        return -1;
    stage->image = id;
    cache_put(stage, key, parent, created_by);
    return 0;
}

static int run_step(struct stage *stage, const struct instruction *written, struct err *err)
{
    struct build *build = stage->build;
    const struct words words = { .arena = build->arena, .escape = build->file->escape, .lookup = scope_lookup, .of = &stage->scope };
    struct instruction instruction;
    int done;
    if (cancel_now(build->cancel))
        return err_set(err, ERR_CANCELLED, "the build was cancelled");
    if (instruction_expand(written, &words, &instruction, err) < 0)
        return -1;
    switch (instruction.kind) {
    case INSTRUCTION_COPY:
    case INSTRUCTION_ADD:
        done = step_copy(stage, &instruction, err);
        break;
    case INSTRUCTION_RUN:
        done = step_run(stage, &instruction, err);
        break;
    default:
        done = step_config(stage, &instruction, err);
    }
    return done < 0 ? -1 : scope_apply(&stage->scope, &instruction, build->file->escape, err);
}

// ---- its beginning --------------------------------------------------------------------------------------------------

// The base image's triggers are the first steps.
static int list_triggers(struct stage *stage, struct err *err)
{
    struct build *build = stage->build;
    const struct strv triggers = stage->config.on_build;
    const struct dockerfile_place place = build->graph->nodes[stage->index].stage->from.place;
    stage->config.on_build = (struct strv){ 0 };
    if (triggers.len > 0)
        say(build, "# Executing %zu build trigger%s\n", triggers.len, triggers.len > 1 ? "s" : "");
    for (size_t i = 0; i < triggers.len; i++) {
        struct instruction *trigger;
        if (dockerfile_parse_trigger(triggers.items[i], place, build->arena, &trigger, err) < 0 || crew_need(stage, trigger, err) < 0)
            return -1;
        stage->todo[stage->todo_len++] = trigger;
    }
    stage->trigger_len = triggers.len;
    return 0;
}

// --label is one more step of the target.
static void list_labels(struct stage *stage)
{
    struct build *build = stage->build;
    const struct kvs *labels = &build->request->labels;
    if (labels->len == 0 || stage->index != build->graph->target)
        return;
    struct instruction *step = arena_alloc(build->arena, sizeof(*step));
    *step = (struct instruction){ .kind = INSTRUCTION_LABEL, .text = "LABEL" };
    step->pairs.items = arena_alloc(build->arena, labels->len * sizeof(*step->pairs.items));
    for (size_t i = 0; i < labels->len; i++) {
        step->pairs.items[step->pairs.len++] = (struct dockerfile_pair){ .key = labels->items[i].key, .value = labels->items[i].value };
        step->text = arena_printf(build->arena, "%s %s=%s", step->text, labels->items[i].key, labels->items[i].value);
    }
    stage->todo[stage->todo_len++] = stage->labels = step;
}

static int list_steps(struct stage *stage, struct err *err)
{
    const struct dockerfile_stage *written = stage->build->graph->nodes[stage->index].stage;
    stage->todo = arena_alloc(stage->build->arena, (stage->config.on_build.len + written->len + 2) * sizeof(*stage->todo));
    if (list_triggers(stage, err) < 0)
        return -1;
    size_t len = named_find(stage->build, written->name) ? 0 : written->len; // a context has taken the stage's place
    for (size_t i = 0; i < len; i++)
        stage->todo[stage->todo_len++] = &written->instructions[i];
    list_labels(stage);
    return 0;
}

// What begins with nothing has a PATH and a working directory all the same, as with BuildKit.
static int adopt_base(struct stage *stage, struct err *err)
{
    struct build *build = stage->build;
    const struct graph_node *node = &build->graph->nodes[stage->index];
    const char *id, *platform = node->platform ? node->platform : build->request->platform;
    struct named *named = named_find(build, node->stage->name);
    if (!named)
        named = named_find(build, node->base);
    if (named) {
        if (named_image(stage, named, platform, &id, err) < 0 || stage_adopt(stage, id, err) < 0)
            return -1;
        scope_stage(&build->global, &stage->config.env, &stage->scope);
        return 0;
    }
    if (node->origin == GRAPH_STAGE) {
        const struct stage *base = &build->stages[node->base_stage];
        struct scope scope = base->scope;
        scope.arena = build->arena;
        stage->image = base->image;
        stage->config = base->config;
        stage->author = base->author;
        scope_inherit(&scope, &stage->scope);
        return 0;
    }
    if (node->origin == GRAPH_IMAGE &&
        (find_image(build, node->base, platform, &id, err) < 0 || stage_adopt(stage, id, err) < 0))
        return -1;
    if (node->origin == GRAPH_SCRATCH) {
        strv_push_arena(&stage->config.env, build->arena, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        stage->config.working_dir = arena_strdup(build->arena, "/");
    }
    scope_stage(&build->global, &stage->config.env, &stage->scope);
    return 0;
}

// Of the target, and of what it is made from, whole images are wanted. A client of the classic door is told the ID of each step, and may use it; steps that come
// from elsewhere or go there are known by what is in them.
static bool is_wanted(const struct stage *stage)
{
    const struct build *build = stage->build;
    const struct build_request *request = build->request;
    if (!request->live || request->squash || request->cache_out || request->cache_from.len > 0)
        return true;
    for (size_t at = build->graph->target;; at = build->graph->nodes[at].base_stage)
        if (at == stage->index || build->graph->nodes[at].origin != GRAPH_STAGE)
            return at == stage->index;
}

static int begin(struct stage *stage, struct err *err)
{
    stage->keeps = !is_wanted(stage);
    say_step(stage->build, stage->build->graph->nodes[stage->index].stage->from.text);
    if (adopt_base(stage, err) < 0)
        return -1;
    stage->base = stage->image;
    if (list_steps(stage, err) < 0)
        return -1;
    stage->begun = true;
    return 0;
}

// ---- one after the other --------------------------------------------------------------------------------------------

// The words of the request's labels are as they are.
static int run_next(struct stage *stage, struct err *err)
{
    const struct instruction *next = stage->todo[stage->done];
    bool is_trigger = stage->done < stage->trigger_len;
    if (!is_trigger)
        say_step(stage->build, next->text);
    if ((next == stage->labels ? step_config(stage, next, err) : run_step(stage, next, err)) < 0)
        return -1;
    stage->done++;
    return is_trigger && stage->done < stage->trigger_len;
}

int stage_advance(struct stage *stage, struct err *err)
{
    struct build *build = stage->build;
    build->place = stage->begun ? stage->todo[stage->done]->place : build->graph->nodes[stage->index].stage->from.place;
    int more = stage->begun ? run_next(stage, err) : begin(stage, err) < 0 ? -1 : stage->trigger_len > 0;
    if (more < 0)
        return -1;
    if (more == 0) // a base's triggers belong to its FROM
        say_image(build, stage->image);
    if (stage->done < stage->todo_len)
        return 0;
    say_aux(build, stage->image);
    return 1;
}
