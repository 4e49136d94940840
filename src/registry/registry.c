// Opening the folder, and the way from a request to its handler.
#include <errno.h>
#include <fcntl.h>

#include "registry_private.h"

#define DEFAULT_REALM "Berth registry"

// ---- the folder -----------------------------------------------------------------------------------------------------

static int open_folders(struct registry *registry, const char *root, struct err *err)
{
    static const char *const folders[] = { "blobs/sha256", "blobs/sha512", "uploads" };
    if (file_mkdirs(AT_FDCWD, root, 0700, err) < 0 || (registry->root_fd = file_open_dir(AT_FDCWD, root, err)) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        if (file_mkdirs(registry->root_fd, folders[i], 0700, err) < 0)
            return -1;
    registry->lock_fd = file_own_at(registry->root_fd, "lock", err);
    if (registry->lock_fd >= 0)
        return 0;
    return err->class == ERR_CONFLICT ? err_set(err, ERR_CONFLICT, "another registry serves this folder") : -1;
}

static int open_all(struct registry *registry, const struct registry_options *options, struct err *err)
{
    if (open_folders(registry, options->root, err) < 0)
        return err_wrap(err, "%s", options->root);
    _cleanup_free_ char *path = mem_printf("%s/registry.db", options->root);
    if (store_open(path, &registry->store, err) < 0)
        return -1;
    return store_migrate(registry->store, "registry", registry_migrations, registry_migration_len, err);
}

int registry_open(const struct registry_options *options, struct registry **out, struct err *err)
{
    struct registry *registry = mem_new(struct registry);
    registry->root_fd = registry->lock_fd = -1;
    registry->htpasswd = mem_strdup(options->htpasswd);
    registry->realm = mem_strdup(options->realm ? options->realm : DEFAULT_REALM);
    registry->read_only = options->read_only || options->upstream;
    registry->keep_ns = options->keep_ns;
    if (options->upstream)
        registry->upstream = *options->upstream;
    if (options->engine)
        registry->engine = *options->engine;
    mutex_init(&registry->fetch_lock, 0);
    cond_init(&registry->fetch_changed);
    mutex_init(&registry->files, 0);
    mutex_init(&registry->upload_lock, 0);
    mutex_init(&registry->auth_lock, 0);
    if (open_all(registry, options, err) < 0 || bearer_open(registry, options, err) < 0) {
        registry_close(registry);
        return -1;
    }
    *out = registry;
    return 0;
}

void registry_close(struct registry *registry)
{
    if (!registry || !fetches_end(registry))
        return; // what still runs keeps it, to the program's end
    uploads_free(registry);
    auth_free(registry);
    bearer_close(registry);
    store_close(registry->store);
    fd_close(registry->lock_fd);
    fd_close(registry->root_fd);
    mutex_done(&registry->fetch_lock);
    cond_done(&registry->fetch_changed);
    mutex_done(&registry->auth_lock);
    mutex_done(&registry->upload_lock);
    mutex_done(&registry->files);
    free(registry->htpasswd);
    free(registry->realm);
    free(registry);
}

// ---- routes ---------------------------------------------------------------------------------------------------------

struct route {
    const char *method, *pattern; // the repository's name first, then the reference
    handler_fn *handler;
    bool writes;
    enum httpd_body body;
};

static void handle_base(struct call *call)
{
    call_reply_json(call, 200, "application/json", json_object());
}

#define READS(path, function) { "GET", (path), (function), false, HTTPD_BODY_TEXT }
#define WRITES(verb, path, function) { (verb), (path), (function), true, HTTPD_BODY_TEXT }
#define UPLOADS(verb, path, function) { (verb), (path), (function), true, HTTPD_BODY_STREAM }

// HEAD is served by GET's row.
static const struct route routes[] = {
    READS("/v2/", handle_base),
    READS("/v2", handle_base),
    READS("/v2/_catalog", handle_catalog),
    READS("/v2/{name...}/tags/list", handle_tags),
    READS("/v2/{name...}/referrers/{digest}", handle_referrers),
    READS("/v2/{name...}/manifests/{reference}", handle_manifest_get),
    WRITES("PUT", "/v2/{name...}/manifests/{reference}", handle_manifest_put),
    WRITES("DELETE", "/v2/{name...}/manifests/{reference}", handle_manifest_delete),
    UPLOADS("POST", "/v2/{name...}/blobs/uploads/", handle_upload_begin),
    UPLOADS("POST", "/v2/{name...}/blobs/uploads", handle_upload_begin),
    READS("/v2/{name...}/blobs/uploads/{id}", handle_upload_status),
    UPLOADS("PATCH", "/v2/{name...}/blobs/uploads/{id}", handle_upload_add),
    UPLOADS("PUT", "/v2/{name...}/blobs/uploads/{id}", handle_upload_end),
    WRITES("DELETE", "/v2/{name...}/blobs/uploads/{id}", handle_upload_cancel),
    READS("/v2/{name...}/blobs/{digest}", handle_blob_get),
    WRITES("DELETE", "/v2/{name...}/blobs/{digest}", handle_blob_delete),
    READS("/metrics", handle_metrics),
    READS("/token", handle_token),
};

static const struct route *find_route(struct httpd_request *request, char *values[HTTPD_ROUTE_VALUES], bool *known_path)
{
    const char *method = httpd_method(request), *path = httpd_path(request);
    *known_path = false;
    if (str_eq(method, "HEAD"))
        method = "GET";
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (!httpd_route_match(routes[i].pattern, path, httpd_arena(request), values))
            continue;
        *known_path = true;
        if (str_eq(method, routes[i].method))
            return &routes[i];
    }
    return NULL;
}

// What is wrong with a request whatever its handler; true when it was answered.
static bool refused(struct call *call, const struct route *route, bool known_path)
{
    if (!route)
        call_refuse(call, known_path ? UNSUPPORTED : NAME_UNKNOWN, "%s %s: %s", httpd_method(call->request),
               httpd_path(call->request), known_path ? "not done here" : "no such path");
    else if (route->writes && is_cache(call->registry))
        call_refuse(call, UNSUPPORTED, "this registry is a cache of another: push there");
    else if (route->writes && call->registry->read_only)
        call_refuse(call, UNSUPPORTED, "this registry is read-only");
    else if (call->repository && !name_valid(call->repository))
        call_refuse(call, NAME_INVALID, "%s: not a repository's name", call->repository);
    else
        return false;
    return true;
}

// Whoever asks for a token shows who he is there.
static struct auth_wish wish_of(const struct call *call, const struct route *route)
{
    if (route && route->handler == handle_catalog)
        return (struct auth_wish){ "registry", "catalog", "*" };
    if (!route || !call->repository || !name_valid(call->repository))
        return (struct auth_wish){ "", "", "" };
    return (struct auth_wish){ "repository", call->repository, !route->writes ? "pull" : str_eq(route->method, "DELETE") ? "delete" : "push" };
}

static const struct route *begin(struct registry *registry, struct httpd_request *request, struct call *call)
{
    char *values[HTTPD_ROUTE_VALUES] = { NULL };
    bool known_path;
    *call = (struct call){ .registry = registry, .request = request, .arena = httpd_arena(request),
                           .head = str_eq(httpd_method(request), "HEAD") };
    httpd_set_header(request, "Docker-Distribution-Api-Version", "registry/2.0");
    const struct route *route = find_route(request, values, &known_path);
    call->repository = values[0];
    call->reference = values[1];
    const struct auth_wish wish = wish_of(call, route);
    if (!(route && route->handler == handle_token) && !auth_allows(call, &wish))
        return NULL;
    return refused(call, route, known_path) ? NULL : route;
}

// Asked at the head: who is refused is told so before the body is sent.
enum httpd_body registry_body(void *context, struct httpd_request *request)
{
    struct call call;
    const struct route *route = begin(context, request, &call);
    return route ? route->body : HTTPD_BODY_TEXT;
}

void registry_handle(void *context, struct httpd_request *request)
{
    struct call call;
    const struct route *route = begin(context, request, &call);
    if (route)
        route->handler(&call);
}

bool registry_is_urgent(void *context, const char *method, const char *path)
{
    return str_eq(method, "GET") && str_eq(path, "/v2/");
}
