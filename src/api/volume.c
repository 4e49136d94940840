// Volumes: list, create, inspect, remove, prune.
#include "api_private.h"

json_t *shape_volume(const struct volume *volume)
{
    return json_pack("{s:o, s:s, s:o, s:o, s:s, s:o, s:s}", "CreatedAt", shape_time_seconds(volume->created_ns), "Driver", "local",
                     "Labels", volume->labels.len ? shape_map(&volume->labels) : json_null(), "Mountpoint",
                     shape_text(volume->path), "Name", volume->name, "Options",
                     volume->options.len ? shape_map(&volume->options) : json_null(), "Scope", "local");
}

// ---- list -----------------------------------------------------------------------------------------------------------

static const char *const volume_filter_keys[] = { "name", "label", "driver", "dangling", NULL };

static int fits(struct call *call, const struct filters *filters, int dangling, const struct volume *volume, bool *out,
                struct err *err)
{
    *out = filters_equal(filters, "driver", "local") && filters_labels(filters, "label", &volume->labels);
    if (*out && filters_match(filters, "name", volume->name, out, err) < 0)
        return -1;
    *out = *out && (dangling < 0 || engine_volume_in_use(call->engine, volume->name) != (bool)dangling);
    return 0;
}

int handle_volume_list(struct call *call, struct err *err)
{
    struct filters filters;
    struct volume *volumes;
    size_t len;
    int dangling;
    if (filters_parse(httpd_query(call->request, "filters"), volume_filter_keys, call->arena, &filters, err) < 0 ||
        filters_flag(&filters, "dangling", &dangling, err) < 0 ||
        volume_list(engine_volumes(call->engine), call->arena, &volumes, &len, err) < 0)
        return -1;
    _cleanup_json_ json_t *rows = json_array();
    for (size_t i = 0; i < len; i++) {
        bool wanted;
        if (fits(call, &filters, dangling, &volumes[i], &wanted, err) < 0)
            return -1;
        if (wanted)
            json_array_append_new(rows, shape_volume(&volumes[i]));
    }
    return reply_json(call, 200, json_pack("{s:O, s:n}", "Volumes", rows, "Warnings"));
}

// ---- one volume -----------------------------------------------------------------------------------------------------

struct wish {
    char *name, *driver;
    struct kvs options, labels;
    json_t *cluster;
};

static const struct json_field wish_fields[] = {
    JSON_FIELD("Name", JSON_TEXT, struct wish, name),
    JSON_FIELD("Driver", JSON_TEXT, struct wish, driver),
    JSON_FIELD("DriverOpts", JSON_TEXT_MAP, struct wish, options),
    JSON_FIELD("Labels", JSON_TEXT_MAP, struct wish, labels),
    JSON_FIELD("ClusterVolumeSpec", JSON_RAW, struct wish, cluster),
};
static const struct json_table wish_table = JSON_TABLE(struct wish, wish_fields);

static int check_wish(const struct wish *wish, struct err *err)
{
    if (!str_empty(wish->driver) && !str_eq(wish->driver, "local"))
        return err_set(err, ERR_NOT_FOUND, "error looking up volume plugin %.100s: plugin \"%.100s\" not found", wish->driver,
                       wish->driver);
    if (wish->cluster && !json_is_null(wish->cluster))
        return err_set(err, ERR_UNAVAILABLE, "ClusterVolumeSpec: this node is not a swarm manager");
    return 0;
}

int handle_volume_create(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *body = NULL;
    struct wish wish;
    struct volume volume;
    const struct volume_birth birth = { &wish.labels, &wish.options };
    if (body_json(call, &body, err) < 0 || json_decode(&wish_table, body, &wish, call->arena, NULL, err) < 0 ||
        check_wish(&wish, err) < 0 ||
        engine_volume_create(call->engine, str_empty(wish.name) ? NULL : wish.name, &birth, call->arena, &volume, err) < 0)
        return -1;
    return reply_json(call, 201, shape_volume(&volume));
}

int handle_volume_inspect(struct call *call, struct err *err)
{
    struct volume volume;
    if (volume_get(engine_volumes(call->engine), call->values[0], call->arena, &volume, err) < 0)
        return -1;
    return reply_json(call, 200, shape_volume(&volume));
}

int handle_volume_remove(struct call *call, struct err *err)
{
    bool force = httpd_query_flag(call->request, "force", false);
    if (engine_volume_remove(call->engine, call->values[0], err) < 0 && !(force && err->class == ERR_NOT_FOUND))
        return -1;
    return reply_empty(call, 204);
}
