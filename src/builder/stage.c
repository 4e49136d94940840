// A stage: its base, the base's triggers, its instructions, one after the other.
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
    const struct build_request *request = build->request;
    struct image_ref ref;
    if (image_ref_parse(name, true, build->arena, &ref, err) < 0)
        return -1;
    const struct engine_login login = request->login(request->login_of, ref.domain);
    return engine_pull(build->engine, name, str_empty(platform) ? NULL : platform, &login, say_progress, build, build->cancel, err);
}

int find_image(struct build *build, const char *name, const char *platform, const char **id, struct err *err)
{
    struct image image;
    struct err missing = { 0 };
    bool here = !build->request->pull && image_get(engine_images(build->engine), name, build->arena, &image, &missing) == 0 &&
                fits_platform(&image, platform);
    if (missing.class != ERR_NONE && missing.class != ERR_NOT_FOUND)
        return err_set(err, missing.class, "%s", missing.message);
    if (!here && (pull(build, name, platform, err) < 0 || image_get(engine_images(build->engine), name, build->arena, &image, err) < 0))
        return -1;
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
        return find_image(build, from, NULL, id, err);
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

int stage_step(struct stage *stage, const struct instruction *written, struct err *err)
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

// A trigger may copy from a stage that nothing else needs: it is built now.
static int run_needed(struct stage *stage, const struct instruction *trigger, struct err *err)
{
    struct build *build = stage->build;
    int more = graph_add(build->graph, stage->index, trigger, 1, build->arena, err);
    for (size_t i = 0; i < stage->index && more > 0; i++) {
        if (!build->graph->nodes[i].needed || build->stages[i].finished)
            continue;
        build->steps += 1 + (unsigned)build->graph->nodes[i].stage->len;
        if (stage_run(&build->stages[i], err) < 0)
            return -1;
    }
    return more < 0 ? -1 : 0;
}

static int run_triggers(struct stage *stage, struct err *err)
{
    struct build *build = stage->build;
    struct strv triggers = stage->config.on_build;
    stage->config.on_build = (struct strv){ 0 };
    if (triggers.len == 0)
        return 0;
    say(build, "# Executing %zu build trigger%s\n", triggers.len, triggers.len > 1 ? "s" : "");
    for (size_t i = 0; i < triggers.len; i++) {
        struct instruction *trigger;
        if (dockerfile_parse_trigger(triggers.items[i], build->graph->nodes[stage->index].stage->from.place, build->arena, &trigger, err) < 0 ||
            run_needed(stage, trigger, err) < 0 || stage_step(stage, trigger, err) < 0)
            return -1;
    }
    return 0;
}

// Everything that every container gets has PATH from here on, as Docker's scratch images have none.
static int begin(struct stage *stage, struct err *err)
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
        return run_triggers(stage, err);
    }
    if (node->origin == GRAPH_STAGE) {
        const struct stage *base = &build->stages[node->base_stage];
        stage->base = stage->image = base->image;
        stage->config = base->config;
        stage->author = base->author;
        scope_copy(&base->scope, &stage->scope);
        return run_triggers(stage, err);
    }
    if (node->origin == GRAPH_IMAGE &&
        (find_image(build, node->base, platform, &id, err) < 0 || stage_adopt(stage, id, err) < 0))
        return -1;
    stage->base = stage->image;
    scope_stage(&build->global, &stage->config.env, &stage->scope);
    return run_triggers(stage, err);
}

// --label is one more step of the target.
static int add_labels(struct stage *stage, struct err *err)
{
    struct build *build = stage->build;
    const struct kvs *labels = &build->request->labels;
    if (labels->len == 0 || stage->index != build->graph->target)
        return 0;
    struct instruction step = { .kind = INSTRUCTION_LABEL, .text = "LABEL" };
    step.pairs.items = arena_alloc(build->arena, labels->len * sizeof(*step.pairs.items));
    for (size_t i = 0; i < labels->len; i++) {
        step.pairs.items[step.pairs.len++] = (struct dockerfile_pair){ .key = labels->items[i].key, .value = labels->items[i].value };
        step.text = arena_printf(build->arena, "%s %s=%s", step.text, labels->items[i].key, labels->items[i].value);
    }
    say_step(build, step.text);
    if (step_config(stage, &step, err) < 0)
        return -1;
    say_image(build, stage->image);
    return 0;
}

int stage_run(struct stage *stage, struct err *err)
{
    struct build *build = stage->build;
    const struct dockerfile_stage *written = build->graph->nodes[stage->index].stage;
    say_step(build, written->from.text);
    if (begin(stage, err) < 0)
        return -1;
    say_image(build, stage->image);
    size_t len = named_find(build, written->name) ? 0 : written->len; // a context has taken the stage's place
    for (size_t i = 0; i < len; i++) {
        say_step(build, written->instructions[i].text);
        if (stage_step(stage, &written->instructions[i], err) < 0)
            return -1;
        say_image(build, stage->image);
    }
    if (add_labels(stage, err) < 0)
        return -1;
    stage->finished = true;
    say_aux(build, stage->image);
    return 0;
}
