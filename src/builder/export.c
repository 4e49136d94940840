// --cache-to: the steps of a build as one image, which any daemon can pull, and find again what stands in it.
//
// Its layers are those that the steps have made (not those of base images), one above the other as no root ever was. What they are says its
// configuration, in a member of its own: an object of steps by their keys,
//
//     "io.berth.buildcache.v1": {"sha256:...": {"created", "created_by", "diff_id"}}      diff_id: not of a step without a layer
//
// A step made of it is byte for byte the image that it was, with its time, so the next step has the same key, too.
#include "builder_private.h"

#define MEMBER "io.berth.buildcache.v1"
#define CHAIN_MAX 100000

// ---- what there is --------------------------------------------------------------------------------------------------

struct exporting {
    struct build *build;
    json_t *steps;
    struct strv diff_ids, seen; // seen: images
};

struct rows {
    struct strv keys;
    const char *parent;
    struct arena *arena;
};

static int take_row(void *context, const struct store_row *row, struct err *err)
{
    struct rows *rows = context;
    strv_push_arena(&rows->keys, rows->arena, store_text(row, 0));
    rows->parent = arena_strdup(rows->arena, store_text(row, 1));
    return 0;
}

// The layer that the image has above its parent; NULL: none.
static const char *own_layer(const struct image *image, const struct image *parent)
{
    const struct strv *diff_ids = &image->config.rootfs.diff_ids;
    return diff_ids->len > parent->config.rootfs.diff_ids.len ? diff_ids->items[diff_ids->len - 1] : NULL;
}

static void add_step(struct exporting *exporting, const struct rows *rows, const struct image *image, const struct image *parent)
{
    const struct json_list *history = &image->config.history;
    const struct oci_history *last = history->len ? json_list_at(history, &oci_history_table, history->len - 1) : NULL;
    const char *layer = own_layer(image, parent);
    if (!last || !image->config.created)
        return;
    if (layer && !strv_has(&exporting->diff_ids, layer))
        strv_push_arena(&exporting->diff_ids, exporting->build->arena, layer);
    for (size_t i = 0; i < rows->keys.len; i++) {
        json_t *step = json_object();
        json_object_set_new(step, "created", json_new_text(image->config.created));
        json_object_set_new(step, "created_by", json_new_text(last->created_by ? last->created_by : ""));
        if (layer)
            json_object_set_new(step, "diff_id", json_new_text(layer));
        json_object_set_new(exporting->steps, rows->keys.items[i], step);
    }
}

// From an image down to what no step of ours has made.
static int add_chain(struct exporting *exporting, const char *id, struct err *err)
{
    struct build *build = exporting->build;
    for (size_t i = 0; !str_empty(id) && i < CHAIN_MAX && !strv_has(&exporting->seen, id); i++) {
        struct rows rows = { .arena = build->arena };
        struct image image, parent = { 0 };
        if (store_query(build->builder->store, err, take_row, &rows, "SELECT key, parent FROM build_cache WHERE image_id = ?", "t", id) < 0)
            return -1;
        strv_push_arena(&exporting->seen, build->arena, id);
        if (rows.keys.len == 0)
            return 0;
        if (image_get(engine_images(build->engine), id, build->arena, &image, err) < 0 ||
            (!str_empty(rows.parent) && image_get(engine_images(build->engine), rows.parent, build->arena, &parent, err) < 0))
            return -1;
        add_step(exporting, &rows, &image, &parent);
        id = rows.parent;
    }
    return 0;
}

static int add_stages(struct exporting *exporting, struct err *err)
{
    struct build *build = exporting->build;
    bool all = build->request->cache_out == BUILD_CACHE_MAX;
    for (size_t i = 0; i < build->graph->len; i++)
        if (build->stages[i].image && (all || i == build->graph->target) && add_chain(exporting, build->stages[i].image, err) < 0)
            return -1;
    return 0;
}

// What an image of steps says; NULL: it is none.
static json_t *steps_of(const struct image *image, struct err *err)
{
    json_t *config = NULL;
    if (!strstr(image->config_text, MEMBER) || json_parse(image->config_text, strlen(image->config_text), &config, err) < 0)
        return NULL;
    json_t *steps = json_incref(json_object_get(config, MEMBER));
    json_decref(config);
    return steps;
}

static int add_more(struct exporting *exporting, const char *id, struct err *err)
{
    struct build *build = exporting->build;
    struct image image;
    if (!id)
        return 0;
    if (image_get(engine_images(build->engine), id, build->arena, &image, err) < 0)
        return -1;
    _cleanup_json_ json_t *steps = steps_of(&image, err);
    json_object_update_missing(exporting->steps, steps);
    for (size_t i = 0; i < image.config.rootfs.diff_ids.len; i++)
        strv_push_arena(&exporting->diff_ids, build->arena, image.config.rootfs.diff_ids.items[i]);
    return 0;
}

int cache_export(struct build *build, char **id, struct err *err)
{
    struct exporting exporting = { .build = build, .steps = json_object() };
    const struct step step = step_of(&build->stages[build->graph->target], "");
    int result = add_more(&exporting, build->request->cache_more, err) < 0 ? -1 : add_stages(&exporting, err);
    if (result == 0)
        result = image_of_layers(build->engine, &exporting.diff_ids, MEMBER, exporting.steps, step.platform, build->arena, id, err);
    json_decref(exporting.steps);
    return result;
}

// ---- what comes -----------------------------------------------------------------------------------------------------

int cache_read(struct build *build, struct err *err)
{
    const struct strv *names = &build->request->cache_from;
    build->imported = json_object();
    for (size_t i = 0; i < names->len; i++) {
        struct image image;
        struct err wrong = { 0 };
        if (image_get(engine_images(build->engine), names->items[i], build->arena, &image, NULL) < 0)
            continue;
        _cleanup_json_ json_t *steps = steps_of(&image, &wrong);
        if (wrong.class != ERR_NONE)
            return err_set(err, wrong.class, "--cache-from %s: %s", names->items[i], wrong.message);
        json_object_update_missing(build->imported, steps);
    }
    return 0;
}

int cache_import(struct stage *stage, const char *key, struct err *err)
{
    struct build *build = stage->build;
    const json_t *said = json_object_get(build->imported, key);
    const char *diff_id = json_get_text(said, "diff_id", NULL);
    struct step step = step_of(stage, arena_strdup(build->arena, json_get_text(said, "created_by", "")));
    char *id;
    if (!json_is_object(said) || !clock_parse(slice_of(json_get_text(said, "created", "")), &step.created_ns))
        return 0;
    step.layer_size = -1;
    if (diff_id && (!oci_digest_valid(diff_id) || image_layer_size(engine_images(build->engine), diff_id, &step.layer_size, err) < 0 || step.layer_size < 0))
        return 0;
    step.diff_id = diff_id;
    step.layer_size = MAX_OF(step.layer_size, (int64_t)0);
    if (step_plain(build->engine, &step, build->arena, &id, err) < 0)
        return -1;
    stage->image = id;
    return 1;
}
