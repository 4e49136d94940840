// POST /build: the classic builder's door. What a request says is in its query, its context is the body.
#include "api_private.h"
#include "builder/builder.h"

// ---- HostConfig of the steps' containers ----------------------------------------------------------------------------

struct number {
    const char *key, *name; // of the query; of HostConfig
};

// As with Docker a number that is none is 0.
static void put_numbers(const struct call *call, json_t *host)
{
    static const struct number numbers[] = {
        { "memory", "Memory" },      { "memswap", "MemorySwap" }, { "cpushares", "CpuShares" },
        { "cpuperiod", "CpuPeriod" }, { "cpuquota", "CpuQuota" },  { "shmsize", "ShmSize" },
    };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        int64_t value;
        const char *text = httpd_query(call->request, numbers[i].key);
        if (!str_empty(text) && num_parse_i64(slice_of(text), &value) && value != 0)
            json_object_set_new(host, numbers[i].name, json_integer(value));
    }
}

static void put_texts(const struct call *call, json_t *host)
{
    static const struct number texts[] = {
        { "cpusetcpus", "CpusetCpus" },     { "cpusetmems", "CpusetMems" }, { "cgroupparent", "CgroupParent" },
        { "networkmode", "NetworkMode" }, { "isolation", "Isolation" },
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const char *text = httpd_query(call->request, texts[i].key);
        if (!str_empty(text))
            json_object_set_new(host, texts[i].name, json_new_text(text));
    }
}

static void put_list(const struct call *call, json_t *host, const char *key, const char *name)
{
    struct strv list = { 0 };
    httpd_query_all(call->request, key, &list);
    if (list.len > 0)
        json_object_set_new(host, name, shape_texts(&list));
}

static int query_json(const struct call *call, const char *key, const char *what, json_t **out, struct err *err)
{
    const char *text = httpd_query(call->request, key);
    struct err detail = { 0 };
    *out = NULL;
    if (!str_empty(text) && json_parse(text, strlen(text), out, &detail) < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "error reading %s: %s", what, detail.message);
    return 0;
}

static int make_host(const struct call *call, json_t **out, struct err *err)
{
    json_t *ulimits;
    if (query_json(call, "ulimits", "ulimit settings", &ulimits, err) < 0)
        return -1;
    *out = json_object();
    if (json_is_array(ulimits))
        json_object_set(*out, "Ulimits", ulimits);
    json_decref(ulimits);
    put_numbers(call, *out);
    put_texts(call, *out);
    put_list(call, *out, "extrahosts", "ExtraHosts");
    put_list(call, *out, "securityopt", "SecurityOpt");
    return 0;
}

// ---- the request ----------------------------------------------------------------------------------------------------

static int check_door(const struct call *call, struct err *err)
{
    const char *version = httpd_query(call->request, "version");
    if (str_eq(version ? version : "", "2"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "BuildKit's sessions are not supported yet: build with DOCKER_BUILDKIT=0");
    if (!str_empty(version) && !str_eq(version, "1"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid version: \"%.64s\"", version);
    return 0;
}

static int read_map(const struct call *call, const char *key, const char *what, struct kvs *out, struct err *err)
{
    _cleanup_json_ json_t *object = NULL;
    const char *name;
    json_t *value;
    if (query_json(call, key, what, &object, err) < 0)
        return -1;
    if (object && !json_is_object(object) && !json_is_null(object))
        return err_set(err, ERR_INVALID_ARGUMENT, "error reading %s: not an object", what);
    out->items = arena_alloc(call->arena, (json_object_size(object) + 1) * sizeof(*out->items));
    json_object_foreach(object, name, value) {
        if (!json_is_string(value) && !json_is_null(value))
            return err_set(err, ERR_INVALID_ARGUMENT, "error reading %s: %.100s is not a string", what, name);
        out->items[out->len++] = (struct kv){ arena_strdup(call->arena, name), arena_strdup(call->arena, json_string_value(value)) };
    }
    return 0;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const struct kv *)a)->key, ((const struct kv *)b)->key);
}

void build_sort_labels(struct kvs *labels)
{
    if (labels->len > 1)
        qsort(labels->items, labels->len, sizeof(*labels->items), compare_keys);
}

static int read_cache_from(const struct call *call, struct strv *out, struct err *err)
{
    _cleanup_json_ json_t *list = NULL;
    if (query_json(call, "cachefrom", "cache-from", &list, err) < 0)
        return -1;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_is_string(json_array_get(list, i)))
            strv_push_arena(out, call->arena, json_string_value(json_array_get(list, i)));
    return 0;
}

// By this door the result has no way to a client but the list of images: files and archives go by BuildKit's sessions.
static int read_outputs(const struct call *call, struct build_request *out, struct err *err)
{
    _cleanup_json_ json_t *list = NULL;
    if (query_json(call, "outputs", "outputs", &list, err) < 0)
        return -1;
    if (json_array_size(list) > 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "multiple outputs not supported");
    const char *type = json_get_text(json_array_get(list, 0), "Type", "");
    out->unseen = str_eq(type, "cacheonly");
    if (!out->unseen && *type && !str_eq(type, "image") && !str_eq(type, "moby"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "outputs: type=%.60s goes by BuildKit's door alone: docker buildx build --output", type);
    if (json_object_size(json_object_get(json_array_get(list, 0), "Attrs")) > 0)
        return err_set(err, ERR_NOT_IMPLEMENTED, "outputs: attributes of type=%.60s are not supported", type);
    return 0;
}

// In the form people read, each once.
int build_tags(const struct strv *said, struct arena *arena, struct strv *out, struct err *err)
{
    for (size_t i = 0; i < said->len; i++) {
        struct image_ref ref;
        if (str_empty(said->items[i]))
            continue;
        if (image_ref_parse(said->items[i], true, arena, &ref, err) < 0)
            return -1;
        if (ref.digest)
            return err_set(err, ERR_INVALID_ARGUMENT, "build tag cannot contain a digest");
        if (!strv_has(out, ref.familiar))
            strv_push_arena(out, arena, ref.familiar);
    }
    return 0;
}

static int read_tags(const struct call *call, struct strv *out, struct err *err)
{
    struct strv said = { 0 };
    httpd_query_all(call->request, "t", &said);
    return build_tags(&said, call->arena, out, err);
}

static struct engine_login login_for(void *of, const char *domain)
{
    const json_t *all = of;
    const json_t *one = json_object_get(all, domain);
    if (!one && str_eq(domain, "docker.io"))
        one = json_object_get(all, "https://index.docker.io/v1/");
    return registry_login(one);
}

static int read_request(struct call *call, struct build_request *out, struct err *err)
{
    struct httpd_request *request = call->request;
    *out = (struct build_request){ .id = httpd_query(request, "buildid"), .dockerfile = httpd_query(request, "dockerfile"), .target = httpd_query(request, "target"),
                                   .platform = httpd_query(request, "platform"), .quiet = httpd_query_flag(request, "q", false),
                                   .no_cache = httpd_query_flag(request, "nocache", false), .pull = httpd_query_flag(request, "pull", false),
                                   .squash = httpd_query_flag(request, "squash", false), .keep = !httpd_query_flag(request, "rm", true),
                                   .force_remove = httpd_query_flag(request, "forcerm", false),
                                   .login = login_for };
    const char *remote = httpd_query(request, "remote");
    out->remote = str_empty(remote) ? NULL : remote;
    if (check_door(call, err) < 0 || read_tags(call, &out->tags, err) < 0 || read_map(call, "buildargs", "build args", &out->args, err) < 0 ||
        read_map(call, "labels", "labels", &out->labels, err) < 0 || read_cache_from(call, &out->cache_from, err) < 0 ||
        read_outputs(call, out, err) < 0)
        return -1;
    build_sort_labels(&out->labels);
    return 0;
}

// ---- the answer -----------------------------------------------------------------------------------------------------

// A command that failed has its exit code beside the message.
static int end(struct progress *progress, int result, const struct build_result *built, struct err *err)
{
    if (result < 0 && built->exit_code != 0) {
        _cleanup_json_ json_t *last = json_pack("{s:{s:I, s:o}, s:o}", "errorDetail", "code", (json_int_t)built->exit_code, "message",
                                                json_new_text(err->message), "error", json_new_text(err->message));
        progress_write(progress, last);
        result = 0;
    }
    return progress_end(progress, result, err);
}

static int take_pieces(void *of, build_piece_fn *piece, void *with, const struct cancel *cancel, struct err *err)
{
    return httpd_body_take(of, piece, with, cancel, err);
}

int handle_build(struct call *call, struct err *err)
{
    struct build_request request;
    struct build_result built = { 0 };
    struct progress progress = { call };
    _cleanup_json_ json_t *host = NULL, *auth = registry_auth(call, httpd_header(call->request, "X-Registry-Config"));
    if (read_request(call, &request, err) < 0 || make_host(call, &host, err) < 0)
        return -1;
    request.host = host;
    request.pieces = take_pieces;
    request.pieces_of = call->request;
    request.login_of = auth;
    int result = builder_build(call->builder, &request, httpd_body_fd(call->request), progress_write, &progress, call->arena, &built,
                               httpd_cancel(call->request), err);
    if (result == 0 && request.quiet) {
        _cleanup_json_ json_t *line = json_pack("{s:o}", "stream", json_sprintf("%s\n", built.id));
        progress_write(&progress, line);
    }
    return end(&progress, result, &built, err);
}

int handle_build_cancel(struct call *call, struct err *err)
{
    const char *id = httpd_query(call->request, "id");
    if (str_empty(id))
        return err_set(err, ERR_INVALID_ARGUMENT, "build ID not provided");
    builder_cancel(call->builder, id);
    return reply_empty(call, 200);
}
