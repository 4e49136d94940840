// The prunes: what nobody uses goes, and the answer says what and how much.
#include "api_private.h"
#include "builder/builder.h"

struct prune {
    struct filters filters;
    int64_t until_ns; // what is younger stays; 0: nothing is too young
    int64_t reclaimed; // bytes
};

static int begin(struct call *call, const char *const *keys, struct prune *out, struct err *err)
{
    *out = (struct prune){ 0 };
    if (filters_parse(httpd_query(call->request, "filters"), keys, call->arena, &out->filters, err) < 0)
        return -1;
    const struct strv *until = filters_get(&out->filters, "until");
    return until ? until_parse(until->items[0], &out->until_ns, err) : 0;
}

static bool fits(const struct prune *prune, const struct kvs *labels, int64_t created_ns)
{
    bool spared = filters_get(&prune->filters, "label!") && filters_labels(&prune->filters, "label!", labels);
    return filters_labels(&prune->filters, "label", labels) && !spared && (!prune->until_ns || created_ns < prune->until_ns);
}

static int answer(struct call *call, const struct prune *prune, const char *noun, const char *key, json_t *take_gone)
{
    engine_pruned(call->engine, noun, prune->reclaimed);
    json_t *gone = json_array_size(take_gone) ? json_incref(take_gone) : json_null();
    json_decref(take_gone);
    return reply_json(call, 200, json_pack("{s:o, s:I}", key, gone, "SpaceReclaimed", (json_int_t)prune->reclaimed));
}

// ---- containers -----------------------------------------------------------------------------------------------------

// One that starts meanwhile is not removed: without force the engine refuses.
int handle_container_prune(struct call *call, struct err *err)
{
    static const char *const keys[] = { "until", "label", "label!", NULL };
    struct prune prune;
    struct engine_container *containers;
    size_t len;
    if (begin(call, keys, &prune, err) < 0)
        return -1;
    engine_list(call->engine, true, call->arena, &containers, &len);
    json_t *gone = json_array();
    for (size_t i = 0; i < len; i++) {
        struct err ignored = { 0 };
        int64_t size = 0, root_fs;
        bool stopped = !containers[i].running && !containers[i].paused;
        if (!stopped || !fits(&prune, &containers[i].labels, containers[i].created_ns))
            continue;
        bool measured = engine_size(call->engine, containers[i].id, &size, &root_fs, &ignored) == 0;
        if (engine_remove(call->engine, containers[i].id, false, false, &ignored) < 0)
            continue;
        json_array_append_new(gone, json_string(containers[i].id));
        prune.reclaimed += measured ? MAX_OF(size, INT64_C(0)) : 0;
    }
    return answer(call, &prune, "container", "ContainersDeleted", gone);
}

// ---- images ---------------------------------------------------------------------------------------------------------

static int64_t size_of_layers(const struct image *image, const struct strv *deleted)
{
    int64_t sum = 0;
    for (size_t i = 0; i < image->chain_ids.len; i++)
        if (strv_has(deleted, image->chain_ids.items[i]))
            sum += image->layer_sizes[i];
    return sum;
}

// By ID an image with several tags would be a conflict: by its tags then, and one without any by its ID.
static void remove_image(struct call *call, struct prune *prune, const struct image *image, json_t *gone)
{
    const struct strv by_id = { (char *[]){ image->id, NULL }, 1, 0 };
    const struct strv *names = image->tags.len ? &image->tags : &by_id;
    for (size_t i = 0; i < names->len; i++) {
        struct image_removed removed = { 0 };
        struct err ignored = { 0 }; // a container has it
        if (engine_image_remove(call->engine, names->items[i], 0, call->arena, &removed, &ignored) < 0)
            return;
        for (size_t k = 0; k < removed.untagged.len; k++)
            json_array_append_new(gone, json_pack("{s:s}", "Untagged", removed.untagged.items[k]));
        for (size_t k = 0; k < removed.deleted.len; k++)
            json_array_append_new(gone, json_pack("{s:s}", "Deleted", removed.deleted.items[k]));
        prune->reclaimed += size_of_layers(image, &removed.deleted);
    }
}

static bool is_used(const struct engine_container *containers, size_t len, const char *image_id)
{
    for (size_t i = 0; i < len; i++)
        if (str_eq(containers[i].image_id, image_id))
            return true;
    return false;
}

// Those without a tag; with dangling=false all that no container was made of.
int handle_image_prune(struct call *call, struct err *err)
{
    static const char *const keys[] = { "dangling", "until", "label", "label!", NULL };
    struct prune prune;
    struct image *images;
    struct engine_container *containers;
    size_t len, container_len;
    int dangling;
    if (begin(call, keys, &prune, err) < 0 || filters_flag(&prune.filters, "dangling", &dangling, err) < 0 ||
        image_list(engine_images(call->engine), call->arena, &images, &len, err) < 0)
        return -1;
    engine_list(call->engine, true, call->arena, &containers, &container_len);
    json_t *gone = json_array();
    for (size_t i = 0; i < len; i++)
        if ((images[i].tags.len == 0 || dangling == 0) && !is_used(containers, container_len, images[i].id) &&
            fits(&prune, &images[i].config.config.labels, images[i].created_ns))
            remove_image(call, &prune, &images[i], gone);
    return answer(call, &prune, "image", "ImagesDeleted", gone);
}

// "keep-storage" was "reserved-space" from 1.48 on.
static int read_sizes(const struct call *call, struct build_prune *out, struct err *err)
{
    const char *key = str_empty(httpd_query(call->request, "reserved-space")) ? "keep-storage" : "reserved-space";
    if (query_int(call, key, 0, &out->keep_size, err) < 0 || query_int(call, "max-used-space", 0, &out->max_size, err) < 0)
        return -1;
    return query_int(call, "min-free-space", 0, &out->min_free, err);
}

// {"id": {"ab": true}, "inuse": {}} as the text that BuildKit's clients send.
static int cache_filters(const struct prune *prune, struct arena *arena, struct strv *out, struct err *err)
{
    static const char *const plain[] = { "id", "parent", "type", "description", "inuse", "shared", "private" };
    const char *text = "";
    for (size_t i = 0; i < prune->filters.len; i++) {
        const struct filter *filter = &prune->filters.items[i];
        bool wanted = false;
        for (size_t k = 0; k < ARRAY_LEN(plain); k++)
            wanted = wanted || str_eq(plain[k], filter->key);
        if (wanted && filter->values.len > 1)
            return err_set(err, ERR_INVALID_ARGUMENT, "filters expect only one value");
        if (wanted)
            text = arena_printf(arena, "%s%s%s%s%s", text, *text ? "," : "", filter->key, filter->values.len == 0 ? "" : str_eq(filter->key, "id") ? "~=" : "==",
                                filter->values.len ? filter->values.items[0] : "");
    }
    strv_push_arena(out, arena, text);
    return 0;
}

// What a builder keeps: all but what images in the list were made of, or with all=1 that too.
int handle_build_prune(struct call *call, struct err *err)
{
    static const char *const keys[] = { "until", "unused-for", "id",     "parent", "type", "description", "inuse",
                                        "shared", "private",   "label", "label!", NULL };
    struct prune prune;
    struct strv deleted = { 0 }, filters = { 0 };
    struct build_prune wish = { .all = httpd_query_flag(call->request, "all", false), .filters = &filters };
    if (begin(call, keys, &prune, err) < 0 || read_sizes(call, &wish, err) < 0 || cache_filters(&prune, call->arena, &filters, err) < 0)
        return -1;
    const struct strv *unused = filters_get(&prune.filters, "unused-for");
    if (unused && until_parse(unused->items[0], &prune.until_ns, err) < 0)
        return -1;
    if (filters_get(&prune.filters, "label")) // `docker system prune` sends it to all; a cache has none
        return answer(call, &prune, "builder", "CachesDeleted", json_array());
    wish.unused_before_ns = prune.until_ns;
    if (builder_prune(call->builder, &wish, call->arena, &deleted, &prune.reclaimed, err) < 0)
        return -1;
    return answer(call, &prune, "builder", "CachesDeleted", shape_texts(&deleted));
}

// ---- networks and volumes -------------------------------------------------------------------------------------------

// One that a container comes to meanwhile stays.
int handle_network_prune(struct call *call, struct err *err)
{
    static const char *const keys[] = { "until", "label", "label!", NULL };
    struct prune prune;
    struct engine_network *networks;
    size_t len;
    if (begin(call, keys, &prune, err) < 0 || engine_networks(call->engine, call->arena, &networks, &len, err) < 0)
        return -1;
    json_t *gone = json_array();
    for (size_t i = 0; i < len; i++)
        if (!networks[i].builtin && fits(&prune, &networks[i].request->labels, networks[i].created_ns) &&
            engine_network_remove(call->engine, networks[i].id, NULL) == 0)
            json_array_append_new(gone, json_string(networks[i].name));
    engine_pruned(call->engine, "network", 0);
    if (json_array_size(gone) == 0) {
        json_decref(gone);
        gone = json_null();
    }
    return reply_json(call, 200, json_pack("{s:o}", "NetworksDeleted", gone));
}

// Before 1.42 named volumes went too; since then only with all=true. One with options of its driver stands for something elsewhere, and stays.
int handle_volume_prune(struct call *call, struct err *err)
{
    static const char *const keys[] = { "label", "label!", "all", NULL };
    struct prune prune;
    struct volume *volumes;
    size_t len;
    int all;
    if (begin(call, keys, &prune, err) < 0 || filters_flag(&prune.filters, "all", &all, err) < 0 ||
        volume_list(engine_volumes(call->engine), call->arena, &volumes, &len, err) < 0)
        return -1;
    bool named_too = call->version < 42 || all == 1;
    json_t *gone = json_array();
    for (size_t i = 0; i < len; i++) {
        struct err ignored = { 0 }; // one that is in use, or that somebody removed meanwhile
        int64_t size = 0;
        if ((!volumes[i].anonymous && !named_too) || volumes[i].options.len || !fits(&prune, &volumes[i].labels, 0) ||
            engine_volume_in_use(call->engine, volumes[i].name))
            continue;
        bool measured = engine_volume_size(call->engine, &volumes[i], &size, &ignored) == 0;
        if (engine_volume_remove(call->engine, volumes[i].name, &ignored) < 0)
            continue;
        json_array_append_new(gone, json_string(volumes[i].name));
        prune.reclaimed += measured ? size : 0;
    }
    return answer(call, &prune, "volume", "VolumesDeleted", gone);
}
