// GET /system/df: what images, containers and volumes take on the disk.
#include "api_private.h"
#include "builder/builder.h"

struct layer_use {
    const char *chain_id;
    int64_t size;
    size_t images; // that have it
};

struct usage {
    struct image *images;
    size_t image_len;
    struct layer_use *layers; // by chain ID
    size_t layer_len;
    struct engine_container *containers;
    size_t container_len;
    struct volume *volumes;
    size_t volume_len;
};

static int by_chain(const void *left, const void *right)
{
    const struct layer_use *a = left, *b = right;
    return strcmp(a->chain_id, b->chain_id);
}

// All images' layers, sorted, those of several images once.
static void count_layers(struct usage *usage, struct arena *arena)
{
    size_t len = 0, kept = 0;
    for (size_t i = 0; i < usage->image_len; i++)
        len += usage->images[i].chain_ids.len;
    struct layer_use *layers = arena_alloc(arena, (len + 1) * sizeof(*layers));
    len = 0;
    for (size_t i = 0; i < usage->image_len; i++)
        for (size_t k = 0; k < usage->images[i].chain_ids.len; k++)
            layers[len++] = (struct layer_use){ usage->images[i].chain_ids.items[k], usage->images[i].layer_sizes[k], 1 };
    qsort(layers, len, sizeof(*layers), by_chain);
    for (size_t i = 0; i < len; i++) {
        if (kept > 0 && by_chain(&layers[kept - 1], &layers[i]) == 0)
            layers[kept - 1].images++;
        else
            layers[kept++] = layers[i];
    }
    usage->layers = layers;
    usage->layer_len = kept;
}

static int look(struct call *call, struct usage *out, struct err *err)
{
    if (image_list(engine_images(call->engine), call->arena, &out->images, &out->image_len, err) < 0)
        return -1;
    engine_list(call->engine, true, call->arena, &out->containers, &out->container_len);
    count_layers(out, call->arena);
    return volume_list(engine_volumes(call->engine), call->arena, &out->volumes, &out->volume_len, err);
}

// ---- images ---------------------------------------------------------------------------------------------------------

static int64_t size_of_layers(const struct usage *usage)
{
    int64_t sum = 0;
    for (size_t i = 0; i < usage->layer_len; i++)
        sum += usage->layers[i].size;
    return sum;
}

// Of the layers that other images have too.
static int64_t shared_size(const struct usage *usage, const struct image *image)
{
    int64_t sum = 0;
    for (size_t k = 0; k < image->chain_ids.len; k++) {
        const struct layer_use wanted = { .chain_id = image->chain_ids.items[k] };
        const struct layer_use *found = bsearch(&wanted, usage->layers, usage->layer_len, sizeof(wanted), by_chain);
        sum += found && found->images > 1 ? found->size : 0;
    }
    return sum;
}

void image_rows_share(struct call *call, struct image *images, size_t len, json_t *rows)
{
    struct usage usage = { .images = images, .image_len = len };
    size_t index;
    json_t *row;
    count_layers(&usage, call->arena);
    json_array_foreach (rows, index, row)
        for (size_t i = 0; i < len; i++)
            if (str_eq(images[i].id, json_string_value(json_object_get(row, "Id"))))
                json_object_set_new(row, "SharedSize", json_integer(shared_size(&usage, &images[i])));
}

static json_t *shape_images(const struct call *call, const struct usage *usage)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < usage->image_len; i++) {
        json_t *row = shape_image_row(&usage->images[i], call->version);
        int64_t users = 0;
        for (size_t k = 0; k < usage->container_len; k++)
            users += str_eq(usage->containers[k].image_id, usage->images[i].id);
        json_object_set_new(row, "Containers", json_integer(users));
        json_object_set_new(row, "SharedSize", json_integer(shared_size(usage, &usage->images[i])));
        json_array_append_new(rows, row);
    }
    return rows;
}

// ---- containers and volumes -----------------------------------------------------------------------------------------

static json_t *shape_containers(struct call *call, const struct usage *usage)
{
    struct shown_image *seen = NULL;
    json_t *rows = json_array();
    for (size_t i = 0; i < usage->container_len; i++) {
        json_t *row = shape_container_row(&usage->containers[i], image_shown(call->engine, &usage->containers[i], &seen, call->arena));
        container_add_sizes(call, usage->containers[i].id, row);
        json_array_append_new(rows, row);
    }
    return rows;
}

static int64_t users_of(const struct usage *usage, const char *volume)
{
    int64_t users = 0;
    for (size_t i = 0; i < usage->container_len; i++) {
        const struct engine_container *container = &usage->containers[i];
        for (size_t k = 0; k < container->mount_len; k++)
            users += str_eq(container->mounts[k].type, "volume") && str_eq(container->mounts[k].name, volume);
    }
    return users;
}

static json_t *shape_volumes(struct call *call, const struct usage *usage)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < usage->volume_len; i++) {
        json_t *row = shape_volume(&usage->volumes[i]);
        int64_t size = -1; // one that went meanwhile
        engine_volume_size(call->engine, &usage->volumes[i], &size, NULL);
        json_object_set_new(row, "UsageData", json_pack("{s:I, s:I}", "RefCount", (json_int_t)users_of(usage, usage->volumes[i].name),
                                                        "Size", (json_int_t)size));
        json_array_append_new(rows, row);
    }
    return rows;
}

// ---- the build cache ------------------------------------------------------------------------------------------------

static int shape_cache(struct call *call, bool wanted, json_t **out, struct err *err)
{
    struct build_entry *entries = NULL;
    size_t len = 0;
    *out = json_null();
    if (!wanted)
        return 0;
    if (builder_cache(call->builder, NULL, call->arena, &entries, &len, err) < 0)
        return -1;
    *out = json_array();
    for (size_t i = 0; i < len; i++) {
        const struct build_entry *entry = &entries[i];
        json_t *row = json_pack("{s:s, s:s, s:o, s:b, s:b, s:I, s:o, s:o, s:I}", "ID", entry->id + strlen("sha256:"), "Type", entry->type, "Description",
                                json_new_text(entry->description), "InUse", entry->in_use, "Shared", entry->shared, "Size", (json_int_t)entry->size, "CreatedAt",
                                shape_time(entry->created_ns), "LastUsedAt", entry->uses ? shape_time(entry->used_ns) : json_null(), "UsageCount",
                                (json_int_t)entry->uses);
        if (entry->parent)
            json_object_set_new(row, "Parents", json_pack("[s]", entry->parent + strlen("sha256:")));
        json_array_append_new(*out, row);
    }
    return 0;
}

// Clients may ask for some kinds only; all are the answer when they name none.
static bool is_wanted(const struct strv *types, const char *type)
{
    return types->len == 0 || strv_has(types, type);
}

int handle_system_usage(struct call *call, struct err *err)
{
    struct usage usage;
    struct strv types = { 0 };
    httpd_query_all(call->request, "type", &types);
    for (size_t i = 0; i < types.len; i++)
        if (!str_eq(types.items[i], "container") && !str_eq(types.items[i], "image") && !str_eq(types.items[i], "volume") &&
            !str_eq(types.items[i], "build-cache"))
            return err_set(err, ERR_INVALID_ARGUMENT, "unknown object type: %.100s", types.items[i]);
    json_t *cache;
    if (look(call, &usage, err) < 0 || shape_cache(call, is_wanted(&types, "build-cache"), &cache, err) < 0)
        return -1;
    bool images = is_wanted(&types, "image");
    return reply_json(call, 200, json_pack("{s:I, s:o, s:o, s:o, s:o}", "LayersSize", (json_int_t)(images ? size_of_layers(&usage) : 0),
                                           "Images", images ? shape_images(call, &usage) : json_null(), "Containers",
                                           is_wanted(&types, "container") ? shape_containers(call, &usage) : json_null(), "Volumes",
                                           is_wanted(&types, "volume") ? shape_volumes(call, &usage) : json_null(), "BuildCache",
                                           cache));
}
