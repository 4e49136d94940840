// Control.Solve: the call that stands for a whole build, and Control.Status, which tells what happens in it.
#include "buildkit_private.h"

#define TOGETHER_NS (20 * NS_PER_MS)
#define NO_BUILDER "this daemon does not build by BuildKit's door yet: use DOCKER_BUILDKIT=0 docker build"

// ---- what is asked for ----------------------------------------------------------------------------------------------

// None at all: the result stays in the cache.
static int take_exporters(struct solve *solve, const struct solve_request *request, struct err *err)
{
    const struct exporter_message *exporters = request->exporters.items;
    for (size_t i = 0; i < request->exporters.len; i++)
        if (output_add(solve, exporters[i].type ? exporters[i].type : "", &exporters[i].attrs, err) < 0)
            return -1;
    return request->exporters.len || str_empty(request->exporter) ? 0 : output_add(solve, request->exporter, &request->exporter_attrs, err);
}

static void add_place(struct cache_place **places, size_t *len, struct arena *arena, const struct cache_place *place)
{
    struct cache_place *grown = arena_alloc(arena, (*len + 1) * sizeof(*grown));
    if (*len)
        memcpy(grown, *places, *len * sizeof(*grown));
    grown[(*len)++] = *place;
    *places = grown;
}

static bool is_folder(const char *type)
{
    return str_eq(type, "local");
}

// What says how a cache is to look: what it looks like here, or an option that can't be had.
static int check_form(const char *type, const struct kvs *attrs, struct err *err)
{
    static const char *const known[] = { "ref", "dest", "mode", "tag", "reset", "compression", "force-compression", "image-manifest", "oci-mediatypes", "ignore-error" };
    const char *mode = kvs_get(attrs, "mode"), *compression = kvs_get(attrs, "compression");
    for (size_t i = 0; i < attrs->len; i++) {
        const char *key = attrs->items[i].key;
        size_t row = 0;
        while (row < ARRAY_LEN(known) && !str_eq(known[row], key))
            row++;
        if (row == ARRAY_LEN(known))
            return err_set(err, ERR_NOT_IMPLEMENTED, "--cache-to type=%.60s: %.60s=%.100s is not supported", type, key, attrs->items[i].value);
    }
    if (!str_empty(compression) && !str_eq(compression, is_folder(type) ? "uncompressed" : "gzip"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "--cache-to type=%.60s: compression=%.60s is not supported", type, compression);
    if (!str_empty(mode) && !str_eq(mode, "min") && !str_eq(mode, "max"))
        return err_set(err, ERR_INVALID_ARGUMENT, "--cache-to type=%.60s: mode=%.60s is neither min nor max", type, mode);
    return 0;
}

// Inline: an image is its own cache here.
static int take_cache_to(struct solve *solve, const char *type, const struct kvs *attrs, struct err *err)
{
    const char *name = kvs_get(attrs, is_folder(type) ? "dest" : "ref"), *mode = kvs_get(attrs, "mode");
    if (str_eq(type, "inline"))
        return 0;
    if ((!is_folder(type) && !str_eq(type, "registry")) || str_empty(name))
        return err_set(err, ERR_NOT_IMPLEMENTED, "--cache-to type=%.60s is not supported", type);
    if (check_form(type, attrs, err) < 0)
        return -1;
    solve->cache_max |= str_eq(mode ? mode : "", "max");
    const char *ignore = kvs_get(attrs, "ignore-error");
    const struct cache_place place = { .name = name, .folder = is_folder(type), .ignore_error = ignore && (str_eq(ignore, "true") || str_eq(ignore, "1")) };
    add_place(&solve->cache_to, &solve->cache_to_len, &solve->arena, &place);
    return 0;
}

static int take_cache_from(struct solve *solve, const char *type, const struct kvs *attrs, struct err *err)
{
    const struct cache_place place = { .name = kvs_get(attrs, is_folder(type) ? "src" : "ref"), .digest = is_folder(type) ? kvs_get(attrs, "digest") : NULL,
                                       .folder = is_folder(type) };
    if ((!is_folder(type) && !str_eq(type, "registry")) || str_empty(place.name))
        return err_set(err, ERR_NOT_IMPLEMENTED, "--cache-from type=%.60s is not supported", type);
    if (place.folder && str_empty(place.digest))
        return err_set(err, ERR_INVALID_ARGUMENT, "local cache importer requires explicit digest");
    add_place(&solve->cache_from, &solve->cache_from_len, &solve->arena, &place);
    return 0;
}

// The client's texts live as long as its call; a solve may stay longer.
static void keep_texts(struct cache_place *places, size_t len, struct arena *arena)
{
    for (size_t i = 0; i < len; i++) {
        places[i].name = arena_strdup(arena, places[i].name);
        places[i].digest = arena_strdup(arena, places[i].digest);
    }
}

static int take_cache(struct solve *solve, const struct cache_options *cache, struct err *err)
{
    const struct exporter_message *imports = cache ? cache->imports.items : NULL, *exports = cache ? cache->exports.items : NULL;
    for (size_t i = 0; cache && i < cache->exports.len; i++)
        if (take_cache_to(solve, exports[i].type ? exports[i].type : "", &exports[i].attrs, err) < 0)
            return -1;
    for (size_t i = 0; cache && i < cache->imports.len; i++)
        if (take_cache_from(solve, imports[i].type ? imports[i].type : "", &imports[i].attrs, err) < 0)
            return -1;
    keep_texts(solve->cache_to, solve->cache_to_len, &solve->arena);
    keep_texts(solve->cache_from, solve->cache_from_len, &solve->arena);
    return 0;
}

static int check_request(const struct solve_request *request, struct err *err)
{
    if (request->definition.size)
        return err_set(err, ERR_NOT_IMPLEMENTED, "build graphs (LLB) are not supported: Dockerfiles are");
    if (!str_empty(request->frontend))
        return err_set(err, ERR_NOT_IMPLEMENTED, "frontend \"%.60s\" is served by LLBBridge.Solve alone", request->frontend);
    if (request->policy.size)
        return err_set(err, ERR_NOT_IMPLEMENTED, "source policies are not supported");
    for (size_t i = 0; i < request->entitlements.len; i++)
        if (!str_eq(request->entitlements.items[i], "network.host"))
            return err_set(err, ERR_PERMISSION_DENIED, "granting entitlement %.60s is not allowed by build daemon configuration",
                           request->entitlements.items[i]);
    return 0;
}

// ---- the build's end ------------------------------------------------------------------------------------------------

static int wait_end(struct solve *solve, const struct cancel *cancel, struct err *err) REQUIRES(&solve->buildkit->lock)
{
    while (!solve->returned) {
        if (cancel_now(cancel))
            return err_set(err, ERR_CANCELLED, "the client has cancelled the build");
        cond_wait_until(&solve->buildkit->changed, &solve->buildkit->lock, clock_mono_ns() + NS_PER_S);
    }
    if (solve->failure.class != ERR_NONE) {
        if (err)
            *err = solve->failure;
        return -1;
    }
    return 0;
}

static void answer_of(const struct solve *solve, const struct outputs_said *said, struct arena *arena, struct solve_response *out)
{
    struct buf text = BUF_INIT(1 << 20);
    struct kv *items = arena_alloc(arena, 5 * sizeof(*items));
    struct strv names = { 0 };
    size_t len = 0;
    outputs_all_names(solve, arena, &names);
    for (size_t i = 0; i < names.len; i++)
        buf_addf(&text, i ? ",%s" : "%s", names.items[i]);
    if (solve->image) {
        items[len++] = (struct kv){ arena_strdup(arena, "containerimage.config.digest"), arena_strdup(arena, solve->image) };
        items[len++] = (struct kv){ arena_strdup(arena, "containerimage.digest"), arena_strdup(arena, said->digest ? said->digest : solve->image) };
    }
    if (text.size)
        items[len++] = (struct kv){ arena_strdup(arena, "image.name"), arena_strdup(arena, text.data) };
    if (said->descriptor) {
        _cleanup_json_ json_t *encoded = encoded_text(slice_of(said->descriptor));
        items[len++] = (struct kv){ arena_strdup(arena, "containerimage.descriptor"), arena_strdup(arena, json_string_value(encoded)) };
    }
    if (said->cache)
        items[len++] = (struct kv){ arena_strdup(arena, "cache.manifest"), said->cache };
    out->exporter_response = (struct kvs){ items, len };
    buf_done(&text);
}

static int await_client(struct solve *solve, const struct cancel *cancel, struct err *err)
{
    mutex_lock(&solve->buildkit->lock);
    int result = wait_end(solve, cancel, err);
    mutex_unlock(&solve->buildkit->lock);
    return result;
}

static int end_solve(struct solve *solve, struct grpc_call *call, struct err *err)
{
    struct solve_response response = { 0 };
    const struct cancel *cancel = grpc_cancel(call);
    struct outputs_said said = { 0 };
    int result = await_client(solve, cancel, err);
    if (result == 0)
        result = outputs_run(solve, grpc_arena(call), &said, cancel, err);
    mutex_lock(&solve->buildkit->lock);
    if (result == 0)
        answer_of(solve, &said, grpc_arena(call), &response);
    if (result < 0 && solve->failed_at && solve->failure.class != ERR_NONE)
        grpc_detail(call, FAILURE_SOURCE, slice_of(solve->failed_at));
    history_end(solve, result == 0 ? &response.exporter_response : NULL, result < 0 ? err : NULL);
    cond_wake_all(&solve->buildkit->changed);
    cond_wake_all(&solve->buildkit->told);
    mutex_unlock(&solve->buildkit->lock);
    history_keep(solve);
    return result < 0 ? -1 : send_message(call, &solve_response_table, &response, err);
}

// Before anybody can find the build.
static int settle(struct solve *solve, const struct solve_request *request, struct err *err)
{
    return take_exporters(solve, request, err) < 0 ? -1 : take_cache(solve, request->cache, err);
}

int handle_solve(void *context, struct grpc_call *call, struct err *err)
{
    struct buildkit *buildkit = context;
    struct solve_request request;
    struct solve draft = { 0 }, *solve;
    if (take_message(call, &solve_request_table, &request, err) < 0)
        return -1;
    if (!buildkit->config.build)
        return err_set(err, ERR_NOT_IMPLEMENTED, NO_BUILDER);
    if (check_request(&request, err) < 0 || settle(&draft, &request, err) < 0 || solve_begin(buildkit, &request, &draft, &solve, err) < 0) {
        arena_done(&draft.arena);
        return -1;
    }
    int result = end_solve(solve, call, err);
    solve_put(solve);
    return result;
}

// ---- Status ---------------------------------------------------------------------------------------------------------

// How many bytes of whole events stand at the start: each is a field of its own.
static size_t whole_events(const char *data, size_t size, size_t max)
{
    size_t at = 0;
    while (at < size) {
        size_t length = 0, i = at + 1;
        for (unsigned shift = 0; i < size; shift += 7) {
            uint8_t byte = (uint8_t)data[i++];
            length |= (size_t)(byte & 0x7f) << shift;
            if (!(byte & 0x80))
                break;
        }
        if (i + length > max && at > 0)
            break;
        at = i + length;
    }
    return at;
}

// The next events as one message, copied; 0: the build is over and all is said. What comes shortly after the first of them goes with it.
static size_t next_events(struct solve *solve, size_t at, const struct cancel *cancel, struct buf *out)
{
    enum { PART = 1 << 20 };
    struct buildkit *buildkit = solve->buildkit;
    buf_clear(out);
    mutex_lock(&buildkit->lock);
    history_load_events(solve);
    while (solve->events.size == at && !solve->over && !cancel_now(cancel))
        cond_wait_until(&buildkit->told, &buildkit->lock, clock_mono_ns() + NS_PER_S);
    int64_t deadline_ns = clock_mono_ns() + TOGETHER_NS;
    while (!solve->over && clock_mono_ns() < deadline_ns && !cancel_now(cancel))
        cond_wait_until(&buildkit->changed, &buildkit->lock, deadline_ns);
    size_t size = solve->events.size > at ? whole_events(solve->events.data + at, solve->events.size - at, PART) : 0;
    buf_add(out, size ? solve->events.data + at : NULL, size);
    mutex_unlock(&buildkit->lock);
    return size;
}

int handle_status(void *context, struct grpc_call *call, struct err *err)
{
    struct status_request request;
    struct solve *solve;
    if (take_message(call, &status_request_table, &request, err) < 0 || solve_get(context, request.ref, grpc_cancel(call), &solve, err) < 0)
        return -1;
    _cleanup_buf_ struct buf part = BUF_INIT(MESSAGE_MAX);
    int result = 0;
    size_t at = 0, size;
    while (result == 0 && (size = next_events(solve, at, grpc_cancel(call), &part)) > 0) {
        result = grpc_send(call, (struct slice){ part.data, part.size }, err);
        at += size;
    }
    solve_put(solve);
    return result;
}
