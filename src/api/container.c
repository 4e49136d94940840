// Containers: create, list, inspect, and the verbs that answer with a status alone.
#include "api_private.h"

// ---- create ---------------------------------------------------------------------------------------------------------

// "linux/amd64": one host runs one platform. not_found, as Docker has it: the client then tries to pull the right one.
static int check_platform(const struct call *call, const char *image, struct err *err)
{
    static const char own[] = "linux/" PLATFORM_ARCHITECTURE;
    const char *asked = httpd_query(call->request, "platform");
    if (str_empty(asked) || str_eq(asked, "linux") || str_eq(asked, own))
        return 0;
    return err_set(
        err, ERR_NOT_FOUND,
        "image with reference %.200s was found but does not match the specified platform: wanted %.100s, actual: %s",
        image ? image : "", asked, own);
}

static void warn_of_unknown(const struct json_report *report, struct arena *arena, struct strv *warnings)
{
    for (size_t i = 0; i < report->unknown.len; i++)
        strv_push_arena(warnings, arena, arena_printf(arena, "unknown field %s ignored", report->unknown.items[i]));
}

static bool mounts_an_image(const struct container_config *config)
{
    const struct json_list *mounts = &config->host_config.mounts;
    for (size_t i = 0; i < mounts->len; i++)
        if (str_eq(((const struct mount_request *)json_list_at(mounts, &mount_request_table, i))->type, "image"))
            return true;
    return false;
}

static int check_endpoints(json_t *body, struct err *err)
{
    const char *network;
    json_t *endpoint;
    json_object_foreach (json_object_get(json_object_get(body, "NetworkingConfig"), "EndpointsConfig"), network, endpoint)
        if (json_is_null(endpoint))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid config for network %.200s: EndpointsConfig is nil", network);
    return 0;
}

int handle_container_create(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *body = NULL;
    struct container_config config;
    struct json_report report = { 0 };
    struct strv warnings = { 0 };
    char id[65];
    if (body_json(call, &body, err) < 0)
        return -1;
    create_body_age(call->version, body);
    if (json_decode(&container_config_table, body, &config, call->arena, &report, err) < 0 || check_endpoints(body, err) < 0 ||
        check_platform(call, config.image, err) < 0)
        return -1;
    if (call->version < 44 && config.endpoints.len > 1)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "Container cannot be created with multiple network endpoints before API version 1.44");
    if (call->version < 48 && mounts_an_image(&config))
        return err_set(err, ERR_INVALID_ARGUMENT, "Mount type \"Image\" needs API v1.48 or newer");
    if (engine_create(call->engine, httpd_query(call->request, "name"), &config, body, call->arena, id, &warnings,
                      err) < 0)
        return -1;
    warn_of_unknown(&report, call->arena, &warnings);
    return reply_json(call, 201, json_pack("{s:s, s:o}", "Id", id, "Warnings", shape_texts(&warnings)));
}

// ---- list -----------------------------------------------------------------------------------------------------------

// The creation time of the container that a before or since filter names.
static int boundary(struct call *call, const struct filters *filters, const char *key, int64_t *out_ns, struct err *err)
{
    struct engine_container container;
    const struct strv *values = filters_get(filters, key);
    if (!values)
        return 0;
    if (engine_inspect(call->engine, values->items[values->len - 1], call->arena, &container, err) < 0)
        return -1;
    *out_ns = container.created_ns;
    return 0;
}

static void find_ancestors(struct call *call, struct container_query *query)
{
    const struct strv *values = filters_get(query->filters, "ancestor");
    struct image image;
    for (size_t i = 0; values && i < values->len; i++)
        if (image_get(engine_images(call->engine), values->items[i], call->arena, &image, NULL) == 0)
            strv_push_arena(&query->ancestors, call->arena, image.id);
}

static int prepare_query(struct call *call, struct filters *filters, struct container_query *query, struct err *err)
{
    *query = (struct container_query){ .filters = filters, .arena = call->arena };
    if (filters_parse(httpd_query(call->request, "filters"), container_filter_keys, call->arena, filters, err) < 0 ||
        container_filters_check(filters, err) < 0 || boundary(call, filters, "before", &query->before_ns, err) < 0 ||
        boundary(call, filters, "since", &query->since_ns, err) < 0)
        return -1;
    find_ancestors(call, query);
    return 0;
}

// One that went meanwhile has no size, and is shown as it was.
void container_add_sizes(struct call *call, const char *id, json_t *object)
{
    int64_t rw, root_fs;
    if (engine_size(call->engine, id, &rw, &root_fs, NULL) < 0)
        return;
    json_object_set_new(object, "SizeRw", json_integer(rw));
    json_object_set_new(object, "SizeRootFs", json_integer(root_fs));
}

int handle_container_list(struct call *call, struct err *err)
{
    struct filters filters;
    struct container_query query;
    struct engine_container *containers;
    size_t len;
    int64_t limit;
    if (prepare_query(call, &filters, &query, err) < 0 || query_int(call, "limit", 0, &limit, err) < 0)
        return -1;
    // A wish for a state, or for the last few, looks at all of them.
    bool all = httpd_query_flag(call->request, "all", false) || limit > 0 || filters_get(&filters, "status");
    engine_list(call->engine, all, call->arena, &containers, &len);
    struct shown_image *seen = NULL;
    _cleanup_json_ json_t *rows = json_array();
    for (size_t i = 0; i < len && (limit <= 0 || json_array_size(rows) < (size_t)limit); i++) {
        bool fits;
        if (container_fits(&query, &containers[i], &fits, err) < 0)
            return -1;
        if (!fits)
            continue;
        json_t *row = shape_container_row(&containers[i], image_shown(call->engine, &containers[i], &seen, call->arena));
        json_array_append_new(rows, row);
        networks_age(call->version, &containers[i], json_object_get(json_object_get(row, "NetworkSettings"), "Networks"));
        if (httpd_query_flag(call->request, "size", false))
            container_add_sizes(call, containers[i].id, row);
    }
    return reply_json(call, 200, json_incref(rows));
}

int handle_container_inspect(struct call *call, struct err *err)
{
    struct engine_container container;
    if (engine_inspect(call->engine, call->values[0], call->arena, &container, err) < 0)
        return -1;
    json_t *object = shape_container(call, &container);
    if (httpd_query_flag(call->request, "size", false))
        container_add_sizes(call, container.id, object);
    return reply_json(call, 200, object);
}

// ---- verbs ----------------------------------------------------------------------------------------------------------

// Up to API 1.23 a start carried a HostConfig; whoever still sends one must not believe that it was obeyed. Some clients
// send "{}" or "null", which says nothing.
static int check_start_body(const struct call *call, struct err *err)
{
    enum { HARMLESS_MAX = 7 };
    size_t size;
    httpd_body_text(call->request, &size);
    if (size <= HARMLESS_MAX && !httpd_header(call->request, "Transfer-Encoding"))
        return 0;
    return err_set(
        err, ERR_INVALID_ARGUMENT,
        "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24");
}

int handle_container_start(struct call *call, struct err *err)
{
    if (check_start_body(call, err) < 0)
        return -1;
    const char *checkpoint = httpd_query(call->request, "checkpoint");
    if (!str_empty(checkpoint) && !engine_experimental(call->engine))
        return err_set(err, ERR_INVALID_ARGUMENT, "checkpoint is only supported in experimental mode");
    int started = str_empty(checkpoint)
                      ? engine_start(call->engine, call->values[0], err)
                      : engine_start_from(call->engine, call->values[0], checkpoint, httpd_query(call->request, "checkpoint-dir"), err);
    return started < 0 ? -1 : reply_empty(call, 204);
}

struct stop_request {
    const char *signal;
    int64_t timeout_s;
};

static int read_stop(const struct call *call, struct stop_request *out, struct err *err)
{
    const char *signal = httpd_query(call->request, "signal");
    *out = (struct stop_request){ signal && call->version >= 42 ? signal : "", -1 };
    if (str_empty(httpd_query(call->request, "t")))
        return 0;
    if (query_int(call, "t", -1, &out->timeout_s, err) < 0)
        return -1;
    out->timeout_s = stop_seconds(out->timeout_s);
    return 0;
}

int handle_container_stop(struct call *call, struct err *err)
{
    struct stop_request stop;
    if (read_stop(call, &stop, err) < 0 ||
        engine_stop(call->engine, call->values[0], stop.signal, stop.timeout_s, httpd_cancel(call->request), err) < 0)
        return -1;
    return reply_empty(call, 204);
}

int handle_container_restart(struct call *call, struct err *err)
{
    struct stop_request stop;
    if (read_stop(call, &stop, err) < 0 || engine_restart(call->engine, call->values[0], stop.signal, stop.timeout_s,
                                                          httpd_cancel(call->request), err) < 0)
        return -1;
    return reply_empty(call, 204);
}

int handle_container_kill(struct call *call, struct err *err)
{
    return engine_kill(call->engine, call->values[0], httpd_query(call->request, "signal"), err) < 0
               ? -1
               : reply_empty(call, 204);
}

int handle_container_pause(struct call *call, struct err *err)
{
    return engine_pause(call->engine, call->values[0], true, err) < 0 ? -1 : reply_empty(call, 204);
}

int handle_container_unpause(struct call *call, struct err *err)
{
    return engine_pause(call->engine, call->values[0], false, err) < 0 ? -1 : reply_empty(call, 204);
}

int handle_container_remove(struct call *call, struct err *err)
{
    if (httpd_query_flag(call->request, "link", false))
        return engine_unlink(call->engine, call->values[0], err) < 0 ? -1 : reply_empty(call, 204);
    bool force = httpd_query_flag(call->request, "force", false), volumes = httpd_query_flag(call->request, "v", false);
    return engine_remove(call->engine, call->values[0], force, volumes, err) < 0 ? -1 : reply_empty(call, 204);
}

int handle_container_rename(struct call *call, struct err *err)
{
    const char *name = httpd_query(call->request, "name");
    if (str_empty(name))
        return err_set(err, ERR_INVALID_ARGUMENT, "Neither old nor new names may be empty");
    return engine_rename(call->engine, call->values[0], name, err) < 0 ? -1 : reply_empty(call, 204);
}

int handle_container_update(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *body = NULL;
    struct update_request request;
    struct strv warnings = { 0 };
    if (body_json(call, &body, err) < 0 || json_decode(&update_request_table, body, &request, call->arena, NULL, err) < 0)
        return -1;
    if (call->version < 40)
        request.pids_limit_raw = NULL;
    if (request.pids_limit_raw && !json_is_null(request.pids_limit_raw) && !json_is_integer(request.pids_limit_raw))
        return err_set(err, ERR_INVALID_ARGUMENT, "PidsLimit: expected integer");
    if (engine_update(call->engine, call->values[0], &request, call->arena, &warnings, err) < 0)
        return -1;
    return reply_json(call, 200, json_pack("{s:o}", "Warnings", shape_texts_or_null(&warnings)));
}

int handle_container_resize(struct call *call, struct err *err)
{
    int64_t height, width;
    if (query_size(call, "h", &height, err) < 0 || query_size(call, "w", &width, err) < 0 ||
        engine_resize(call->engine, call->values[0], height, width, err) < 0)
        return -1;
    return reply_empty(call, 200);
}
