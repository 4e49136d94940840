// What is asked about the builder itself.
#include "base/num.h"
#include "buildkit_private.h"

static struct version_message *version_of(const struct buildkit *buildkit, struct arena *arena)
{
    struct version_message *version = arena_alloc(arena, sizeof(*version));
    *version = (struct version_message){ arena_strdup(arena, "berth"), arena_strdup(arena, buildkit->config.version) };
    return version;
}

int handle_info(void *context, struct grpc_call *call, struct err *err)
{
    struct empty_message request;
    if (take_message(call, &empty_table, &request, err) < 0)
        return -1;
    const struct info_response response = { version_of(context, grpc_arena(call)) };
    return send_message(call, &info_response_table, &response, err);
}

// Labels that clients read. By that of a snapshotter they know that archives, folders and pushes can be had of this daemon.
struct worker_record *worker_of(const struct buildkit *buildkit, struct arena *arena)
{
    struct worker_record *worker = arena_alloc(arena, sizeof(*worker));
    struct platform_message *platform = arena_alloc(arena, sizeof(*platform));
    struct kv *labels = arena_alloc(arena, 3 * sizeof(*labels));
    size_t len = 0;
    labels[len++] = (struct kv){ arena_strdup(arena, "org.mobyproject.buildkit.worker.hostname"), arena_strdup(arena, buildkit->config.hostname) };
    labels[len++] = (struct kv){ arena_strdup(arena, "org.mobyproject.buildkit.worker.snapshotter"), arena_strdup(arena, "overlayfs") };
    if (buildkit->config.host_gateway)
        labels[len++] = (struct kv){ arena_strdup(arena, "org.mobyproject.buildkit.worker.moby.host-gateway-ip"),
                                     arena_strdup(arena, buildkit->config.host_gateway) };
    *platform = (struct platform_message){ arena_strdup(arena, buildkit->config.architecture), arena_strdup(arena, "linux"), NULL };
    *worker = (struct worker_record){ .id = arena_strdup(arena, buildkit->config.worker_id), .labels = { labels, len },
                                      .platforms = { platform, 1 }, .version = version_of(buildkit, arena) };
    return worker;
}

int handle_workers(void *context, struct grpc_call *call, struct err *err)
{
    struct usage_request request;
    if (take_message(call, &usage_request_table, &request, err) < 0)
        return -1;
    const struct workers_response response = { { worker_of(context, grpc_arena(call)), 1 } };
    return send_message(call, &workers_response_table, &response, err);
}

static struct usage_record *records_of(const struct buildkit_record *records, size_t len, struct arena *arena)
{
    struct usage_record *out = arena_alloc(arena, (len + 1) * sizeof(*out));
    for (size_t i = 0; i < len; i++) {
        out[i] = (struct usage_record){ .id = records[i].id, .parent = records[i].parent, .description = records[i].description,
                                        .type = arena_strdup(arena, records[i].type), .shared = records[i].shared,
                                        .in_use = records[i].in_use, .size = records[i].size,
                                        .created_ns = records[i].created_ns, .used_ns = records[i].used_ns, .uses = records[i].uses };
        if (!str_empty(records[i].parent))
            strv_push_arena(&out[i].parents, arena, records[i].parent);
    }
    return out;
}

int handle_usage(void *context, struct grpc_call *call, struct err *err)
{
    const struct buildkit_config *config = &((struct buildkit *)context)->config;
    struct usage_request request;
    struct buildkit_record *records = NULL;
    size_t len = 0;
    if (take_message(call, &usage_request_table, &request, err) < 0 ||
        (config->cache && config->cache(config->of, &request.filters, grpc_arena(call), &records, &len, err) < 0))
        return -1;
    const struct usage_response response = { { records_of(records, len, grpc_arena(call)), len } };
    return send_message(call, &usage_response_table, &response, err);
}

int handle_prune(void *context, struct grpc_call *call, struct err *err)
{
    const struct buildkit_config *config = &((struct buildkit *)context)->config;
    struct prune_request request;
    struct buildkit_record *records = NULL;
    size_t len = 0;
    if (take_message(call, &prune_request_table, &request, err) < 0)
        return -1;
    const struct buildkit_prune prune = { .all = request.all, .keep_size = request.reserved, .max_size = request.max_used, .min_free = request.min_free,
                                          .filters = &request.filters,
                                          .unused_before_ns = request.keep_ns > 0 ? clock_wall_ns() - request.keep_ns : 0 };
    if (config->prune && config->prune(config->of, &prune, grpc_arena(call), &records, &len, err) < 0)
        return -1;
    struct usage_record *out = records_of(records, len, grpc_arena(call));
    for (size_t i = 0; i < len; i++)
        if (send_message(call, &usage_record_table, &out[i], err) < 0)
            return -1;
    return 0;
}

int handle_health(void *context, struct grpc_call *call, struct err *err)
{
    enum { SERVING = 1 };
    struct empty_message request;
    const struct health_response response = { SERVING };
    if (take_message(call, &empty_table, &request, err) < 0)
        return -1;
    return send_message(call, &health_response_table, &response, err);
}
