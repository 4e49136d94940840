// The built-in networks. Others come with the networks issue.
#include "api_private.h"

static const char *const builtin_names[] = { "bridge", "none" };

// 64 hex digits that stay the same for a daemon: its id and the name, hashed (FNV-1a) and stretched (SplitMix64). An
// identifier, no secret.
void builtin_network_id(const char *daemon_id, const char *name, char out[65])
{
    uint64_t state = UINT64_C(14695981039346656037);
    _cleanup_free_ char *text = mem_printf("%s/%s", daemon_id, name ? name : "");
    for (const char *c = text; *c; c++)
        state = (state ^ (unsigned char)*c) * UINT64_C(1099511628211);
    for (size_t block = 0; block < 4; block++) {
        uint64_t mixed = state += UINT64_C(0x9e3779b97f4a7c15);
        mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
        snprintf(out + block * 16, 17, "%016llx", (unsigned long long)(mixed ^ (mixed >> 31)));
    }
}

static bool is_on(const struct engine_container *container, const char *name)
{
    return container->running && str_eq(str_empty(container->network) ? "bridge" : container->network, name);
}

static json_t *shape_members(const struct engine_container *containers, size_t len, const char *name)
{
    json_t *members = json_object();
    for (size_t i = 0; i < len; i++) {
        const struct engine_container *container = &containers[i];
        if (!is_on(container, name))
            continue;
        json_t *address = container->address ? json_sprintf("%s/%lld", container->address, (long long)container->prefix)
                                             : json_string("");
        json_object_set_new(members, container->id,
                            json_pack("{s:s, s:o, s:o, s:o, s:s}", "Name", container->name, "EndpointID",
                                      shape_text(container->endpoint_id), "MacAddress", shape_text(container->mac),
                                      "IPv4Address", address, "IPv6Address", ""));
    }
    return members;
}

static json_t *shape_network(struct call *call, const char *name, const struct engine_container *containers, size_t len)
{
    char id[65];
    builtin_network_id(engine_id(call->engine), name, id);
    return json_pack("{s:s, s:s, s:o, s:s, s:s, s:b, s:{s:s, s:n, s:[]}, s:b, s:b, s:b, s:{s:s}, s:b, s:o, s:{}, s:{}}",
                     "Name", name, "Id", id, "Created", shape_time(0), "Scope", "local", "Driver",
                     str_eq(name, "bridge") ? "bridge" : "null", "EnableIPv6", 0, "IPAM", "Driver", "default",
                     "Options", "Config", "Internal", 0, "Attachable", 0, "Ingress", 0, "ConfigFrom", "Network", "",
                     "ConfigOnly", 0, "Containers", shape_members(containers, len, name), "Options", "Labels");
}

static const char *const network_filter_keys[] = { "name", "id", "driver", "type", "scope", "label", "dangling", NULL };

static int fits(const struct call *call, const struct filters *filters, const char *name, bool *out, struct err *err)
{
    char id[65];
    const char *driver = str_eq(name, "bridge") ? "bridge" : "null";
    builtin_network_id(engine_id(call->engine), name, id);
    if (filters_match(filters, "name", name, out, err) < 0 || (*out && filters_match(filters, "id", id, out, err) < 0))
        return -1;
    const struct strv *dangling = filters_get(filters, "dangling");
    *out = *out && filters_equal(filters, "driver", driver) && filters_equal(filters, "type", "builtin") &&
           filters_equal(filters, "scope", "local") && !filters_get(filters, "label") &&
           !(dangling && (strv_has(dangling, "true") || strv_has(dangling, "1"))); // the built-in ones never dangle
    return 0;
}

int handle_network_list(struct call *call, struct err *err)
{
    struct filters filters;
    if (filters_parse(httpd_query(call->request, "filters"), network_filter_keys, call->arena, &filters, err) < 0)
        return -1;
    _cleanup_json_ json_t *rows = json_array();
    for (size_t i = 0; i < ARRAY_LEN(builtin_names); i++) {
        bool wanted;
        if (fits(call, &filters, builtin_names[i], &wanted, err) < 0)
            return -1;
        if (wanted)
            json_array_append_new(rows, shape_network(call, builtin_names[i], NULL, 0));
    }
    return reply_json(call, 200, json_incref(rows));
}

// By name, id, or a prefix of the id.
int handle_network_inspect(struct call *call, struct err *err)
{
    const char *ref = call->values[0];
    struct engine_container *containers;
    size_t len;
    for (size_t i = 0; i < ARRAY_LEN(builtin_names); i++) {
        char id[65];
        builtin_network_id(engine_id(call->engine), builtin_names[i], id);
        if (!str_eq(ref, builtin_names[i]) && !str_starts(id, ref))
            continue;
        if (engine_list(call->engine, false, call->arena, &containers, &len, err) < 0)
            return -1;
        return reply_json(call, 200, shape_network(call, builtin_names[i], containers, len));
    }
    return err_set(err, ERR_NOT_FOUND, "network %.200s not found", ref);
}
