// All endpoints of the Docker Engine API in one table, and the way from a request to its handler.
#include "api_private.h"
#include "builder/builder.h"
#include "buildkit/buildkit.h"

#define SERVED(verb, path, function, ...) \
    { .method = (verb), .pattern = (path), .handler = (function), .kind = ROUTE_SERVED, ##__VA_ARGS__ }
#define LATER(verb, path, ...) { .method = (verb), .pattern = (path), .kind = ROUTE_LATER, ##__VA_ARGS__ }
#define SWARM(verb, path, ...) { .method = (verb), .pattern = (path), .kind = ROUTE_SWARM, ##__VA_ARGS__ }

#define NO_PLUGINS "plugins are not supported"
#define NO_SWARM "swarms are not supported"

// The first that matches counts: fixed paths stand before those with a name in the same place.
const struct route api_routes[] = {
    SERVED("GET", "/_ping", handle_system_ping),
    SERVED("HEAD", "/_ping", handle_system_ping),
    SERVED("GET", "/version", handle_system_version),
    SERVED("GET", "/info", handle_system_info),
    SERVED("GET", "/events", handle_system_events),
    SERVED("GET", "/system/df", handle_system_usage),
    SERVED("POST", "/auth", handle_registry_auth),

    SERVED("GET", "/containers/json", handle_container_list),
    SERVED("POST", "/containers/create", handle_container_create),
    SERVED("POST", "/containers/prune", handle_container_prune, .since = 25),
    SERVED("GET", "/containers/{id...}/json", handle_container_inspect),
    SERVED("GET", "/containers/{id}/top", handle_container_top),
    SERVED("GET", "/containers/{id}/logs", handle_container_logs),
    SERVED("GET", "/containers/{id}/changes", handle_container_changes),
    SERVED("GET", "/containers/{id}/export", handle_container_export),
    SERVED("GET", "/containers/{id}/stats", handle_container_stats),
    SERVED("POST", "/containers/{id}/resize", handle_container_resize),
    SERVED("POST", "/containers/{id}/start", handle_container_start),
    SERVED("POST", "/containers/{id}/stop", handle_container_stop),
    SERVED("POST", "/containers/{id}/restart", handle_container_restart),
    SERVED("POST", "/containers/{id}/kill", handle_container_kill),
    SERVED("POST", "/containers/{id}/update", handle_container_update, .since = 22),
    SERVED("POST", "/containers/{id}/rename", handle_container_rename),
    SERVED("POST", "/containers/{id}/pause", handle_container_pause),
    SERVED("POST", "/containers/{id}/unpause", handle_container_unpause),
    SERVED("POST", "/containers/{id}/attach", handle_container_attach),
    SERVED("GET", "/containers/{id}/attach/ws", handle_container_attach_ws),
    SERVED("POST", "/containers/{id}/wait", handle_container_wait),
    SERVED("HEAD", "/containers/{id}/archive", handle_archive_stat),
    SERVED("GET", "/containers/{id}/archive", handle_archive_get),
    SERVED("PUT", "/containers/{id}/archive", handle_archive_put, .body = HTTPD_BODY_STREAM),
    SERVED("GET", "/containers/{id}/checkpoints", handle_checkpoint_list, .since = 25),
    SERVED("POST", "/containers/{id}/checkpoints", handle_checkpoint_create, .since = 25),
    SERVED("DELETE", "/containers/{id}/checkpoints/{checkpoint}", handle_checkpoint_remove, .since = 25),
    SERVED("DELETE", "/containers/{id...}", handle_container_remove),

    SERVED("POST", "/containers/{id}/exec", handle_exec_create),
    SERVED("POST", "/exec/{id}/start", handle_exec_start),
    SERVED("POST", "/exec/{id}/resize", handle_exec_resize),
    SERVED("GET", "/exec/{id}/json", handle_exec_inspect),

    SERVED("GET", "/images/json", handle_image_list),
    SERVED("POST", "/images/create", handle_image_create, .body = HTTPD_BODY_STREAM),
    SERVED("POST", "/images/load", handle_image_load, .body = HTTPD_BODY_STREAM),
    SERVED("GET", "/images/search", handle_image_search),
    SERVED("GET", "/images/get", handle_image_save),
    SERVED("POST", "/images/prune", handle_image_prune, .since = 25),
    SERVED("GET", "/images/{name...}/json", handle_image_inspect),
    SERVED("GET", "/images/{name...}/history", handle_image_history),
    SERVED("GET", "/images/{name...}/get", handle_image_save),
    LATER("GET", "/images/{name...}/attestations"),
    SERVED("POST", "/images/{name...}/push", handle_image_push),
    SERVED("POST", "/images/{name...}/tag", handle_image_tag),
    SERVED("DELETE", "/images/{name...}", handle_image_delete),
    SERVED("POST", "/commit", handle_container_commit),

    SERVED("POST", "/build", handle_build, .body = HTTPD_BODY_OFFER),
    SERVED("POST", "/build/prune", handle_build_prune, .since = 31),
    SERVED("POST", "/build/cancel", handle_build_cancel, .since = 31),
    SERVED("POST", "/session", handle_session, .since = 31),
    SERVED("POST", "/grpc", handle_grpc),
    SERVED("GET", "/distribution/{name...}/json", handle_registry_lookup, .since = 30),

    SERVED("GET", "/networks", handle_network_list),
    SERVED("GET", "/networks/", handle_network_list),
    SERVED("POST", "/networks/create", handle_network_create),
    SERVED("POST", "/networks/prune", handle_network_prune, .since = 25),
    SERVED("GET", "/networks/{id}", handle_network_inspect),
    SERVED("DELETE", "/networks/{id}", handle_network_remove),
    SERVED("POST", "/networks/{id}/connect", handle_network_connect),
    SERVED("POST", "/networks/{id}/disconnect", handle_network_disconnect),

    SERVED("GET", "/volumes", handle_volume_list),
    SERVED("POST", "/volumes/create", handle_volume_create),
    SERVED("POST", "/volumes/prune", handle_volume_prune, .since = 25),
    SERVED("GET", "/volumes/{name}", handle_volume_inspect),
    SWARM("PUT", "/volumes/{name}", .since = 42, .says = "volume update only valid for cluster volumes, but swarm is unavailable"),
    SERVED("DELETE", "/volumes/{name}", handle_volume_remove),

    SERVED("GET", "/plugins", handle_plugin_list),
    LATER("GET", "/plugins/privileges", .says = NO_PLUGINS),
    LATER("POST", "/plugins/pull", .says = NO_PLUGINS),
    LATER("POST", "/plugins/create", .says = NO_PLUGINS),
    SERVED("GET", "/plugins/{name...}/json", handle_plugin_missing),
    SERVED("POST", "/plugins/{name...}/enable", handle_plugin_missing),
    SERVED("POST", "/plugins/{name...}/disable", handle_plugin_missing),
    SERVED("POST", "/plugins/{name...}/upgrade", handle_plugin_missing),
    SERVED("POST", "/plugins/{name...}/push", handle_plugin_missing),
    SERVED("POST", "/plugins/{name...}/set", handle_plugin_missing),
    SERVED("DELETE", "/plugins/{name...}", handle_plugin_missing),

    SWARM("GET", "/swarm"),
    SWARM("GET", "/swarm/unlockkey"),
    SWARM("POST", "/swarm/init", .refusal = ERR_NOT_IMPLEMENTED, .says = NO_SWARM),
    SWARM("POST", "/swarm/join", .refusal = ERR_NOT_IMPLEMENTED, .says = NO_SWARM),
    SWARM("POST", "/swarm/leave", .says = "This node is not part of a swarm"),
    SWARM("POST", "/swarm/update"),
    SWARM("POST", "/swarm/unlock", .refusal = ERR_CONFLICT, .says = "swarm is not locked"),
    SWARM("GET", "/nodes"),
    SWARM("GET", "/nodes/{id}"),
    SWARM("DELETE", "/nodes/{id}"),
    SWARM("POST", "/nodes/{id}/update"),
    SWARM("GET", "/services"),
    SWARM("POST", "/services/create"),
    SWARM("GET", "/services/{id}"),
    SWARM("DELETE", "/services/{id}"),
    SWARM("POST", "/services/{id}/update"),
    SWARM("GET", "/services/{id}/logs"),
    SWARM("GET", "/tasks"),
    SWARM("GET", "/tasks/{id}"),
    SWARM("GET", "/tasks/{id}/logs"),
    SWARM("GET", "/secrets"),
    SWARM("POST", "/secrets/create"),
    SWARM("GET", "/secrets/{id}"),
    SWARM("DELETE", "/secrets/{id}"),
    SWARM("POST", "/secrets/{id}/update"),
    SWARM("GET", "/configs"),
    SWARM("POST", "/configs/create"),
    SWARM("GET", "/configs/{id}"),
    SWARM("DELETE", "/configs/{id}"),
    SWARM("POST", "/configs/{id}/update"),

    SERVED("OPTIONS", "/{path...}", handle_options),
};
const size_t api_route_len = ARRAY_LEN(api_routes);

// ---- finding --------------------------------------------------------------------------------------------------------

struct version {
    bool given;
    uint64_t major, minor;
};

// "/v1.41/rest": reads the version and returns the rest; anything else is returned whole.
static const char *cut_version(const char *path, struct version *version)
{
    const char *end = path[0] == '/' && path[1] == 'v' ? strchr(path + 1, '/') : NULL;
    *version = (struct version){ false, 1, API_VERSION_MAX };
    if (!end)
        return path;
    struct slice rest = { path + 2, (size_t)(end - path - 2) }, major;
    struct version read = { true, 0, 0 };
    if (!slice_cut(&rest, '.', &major) || !num_parse_u64(major, 1000, &read.major) || !rest.data ||
        !num_parse_u64(rest, 100000, &read.minor))
        return path;
    *version = read;
    return end;
}

int path_version(const char *path)
{
    struct version version;
    cut_version(path, &version);
    return version.major == 1 && version.minor <= API_VERSION_MAX ? (int)version.minor : API_VERSION_MAX;
}

static int check_version(const struct version *version, bool *old, struct err *err)
{
    unsigned major = (unsigned)version->major, minor = (unsigned)version->minor;
    *old = major < 1 || (major == 1 && minor < API_VERSION_MIN);
    if (*old)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "client version %u.%u is too old. Minimum supported API version is %s, please upgrade your client to a "
                       "newer version", major, minor, API_VERSION_MIN_TEXT);
    if (major > 1 || minor > API_VERSION_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "client version %u.%u is too new. Maximum supported API version is %s",
                       major, minor, API_VERSION_TEXT);
    return 0;
}

// Clients put names behind a slash as they are: "/containers//web/json" is the container "/web".
static char *single_slashes(const char *path, struct arena *arena)
{
    char *clean = arena_strdup(arena, path), *to = clean;
    for (const char *from = path; *from; from++)
        if (*from != '/' || to == clean || to[-1] != '/')
            *to++ = *from;
    *to = '\0';
    return clean;
}

static const struct route *match(const char *method, const char *path, int minor, struct arena *arena,
                                 char *values[HTTPD_ROUTE_VALUES])
{
    for (size_t i = 0; i < api_route_len; i++)
        if (str_eq(api_routes[i].method, method) && api_routes[i].since <= minor &&
            httpd_route_match(api_routes[i].pattern, path, arena, values))
            return &api_routes[i];
    return NULL;
}

int route_find(const char *method, const char *path, struct arena *arena, const struct route **route, int *version,
               char *values[HTTPD_ROUTE_VALUES], bool *old, struct err *err)
{
    struct version asked;
    const char *rest = cut_version(single_slashes(path, arena), &asked);
    *old = false;
    // The route before the version, so that an unknown path is unknown in every version.
    if (!match(method, rest, API_VERSION_MAX, arena, values))
        return err_set(err, ERR_NOT_FOUND, "page not found");
    if (check_version(&asked, old, err) < 0)
        return -1;
    *version = (int)asked.minor;
    *route = match(method, rest, *version, arena, values);
    return *route ? 0 : err_set(err, ERR_NOT_FOUND, "page not found");
}

// ---- refusing -------------------------------------------------------------------------------------------------------

static int refuse(const struct route *route, struct err *err)
{
    enum err_class class = route->kind == ROUTE_SWARM ? ERR_UNAVAILABLE : ERR_NOT_IMPLEMENTED;
    if (route->refusal != ERR_NONE)
        class = route->refusal;
    if (route->says)
        return err_set(err, class, "%s", route->says);
    if (route->kind == ROUTE_SWARM)
        return err_set(err, class, "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node "
                                   "to swarm and try again.");
    return err_set(err, class, "%s %s is not supported yet", route->method, route->pattern);
}

static void set_common_headers(const struct api *api, struct httpd_request *request)
{
    httpd_set_header(request, "Api-Version", API_VERSION_TEXT);
    httpd_set_header(request, "Docker-Experimental", engine_experimental(api->engine) ? "true" : "false");
    httpd_set_header(request, "Ostype", "linux");
    httpd_set_header(request, "Server", api->server);
}

static int find(struct httpd_request *request, struct call *call, const struct route **route)
{
    struct err err = { 0 };
    bool old;
    if (route_find(httpd_method(request), httpd_path(request), httpd_arena(request), route, &call->version, call->values,
                   &old, &err) < 0) {
        if (old)
            httpd_reply(request, 400, "text/plain; charset=utf-8", err.message, strlen(err.message));
        else
            reply_error(request, &err);
        return -1;
    }
    if ((*route)->kind == ROUTE_SERVED)
        return 0;
    refuse(*route, &err);
    reply_error(request, &err);
    return -1;
}

// ---- the face -------------------------------------------------------------------------------------------------------

int api_new(struct engine *engine, struct api **out, struct err *err)
{
    struct api *api = mem_new(struct api);
    api->engine = engine;
    if (builder_open(engine, &api->builder, err) < 0) {
        free(api);
        return -1;
    }
    snprintf(api->server, sizeof(api->server), "Docker/%s (linux)", BERTH_VERSION);
    if (buildkit_door(api, err) < 0) {
        api_free(api);
        return -1;
    }
    *out = api;
    return 0;
}

void api_free(struct api *api)
{
    if (!api)
        return;
    buildkit_free(api->buildkit);
    arena_done(&api->arena);
    builder_free(api->builder);
    free(api);
}

enum httpd_body api_body(void *context, struct httpd_request *request)
{
    struct call call = { 0 };
    const struct route *route;
    set_common_headers(context, request);
    return find(request, &call, &route) < 0 ? HTTPD_BODY_TEXT : route->body;
}

void api_handle(void *context, struct httpd_request *request)
{
    struct api *api = context;
    struct call call = { .engine = api->engine, .builder = api->builder, .buildkit = api->buildkit, .request = request, .arena = httpd_arena(request) };
    const struct route *route;
    struct err err = { 0 };
    set_common_headers(api, request);
    if (find(request, &call, &route) == 0 && route->handler(&call, &err) < 0 && !httpd_answered(request))
        reply_error(request, &err);
}

bool api_is_urgent(void *context, const char *method, const char *path)
{
    api_handler *const urgent[] = { handle_system_ping, handle_container_stop, handle_container_kill };
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    char *values[HTTPD_ROUTE_VALUES];
    const struct route *route;
    int version;
    bool old;
    if (route_find(method, path, &arena, &route, &version, values, &old, NULL) < 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(urgent); i++)
        if (route->handler == urgent[i])
            return true;
    return false;
}
