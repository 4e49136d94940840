// What the operator says of networks: the options of the default bridge, and those that new networks of a driver begin with.
#include <errno.h>
#include <stdlib.h>

#include "networks.h"

void network_defaults_copy(struct engine *engine, const struct engine_options *options)
{
    const struct engine_bridge *bridge = &options->bridge;
    struct arena *arena = &engine->defaults_arena;
    const struct kv table[] = { { (char *)"com.docker.network.bridge.default_bridge", (char *)"true" },
                                { (char *)"com.docker.network.bridge.enable_icc", (char *)(bridge->isolated ? "false" : "true") },
                                { (char *)"com.docker.network.bridge.enable_ip_masquerade", (char *)(bridge->no_masquerade ? "false" : "true") },
                                { (char *)"com.docker.network.bridge.host_binding_ipv4",
                                  arena_strdup(arena, str_empty(options->defaults.publish_ip) ? "0.0.0.0" : options->defaults.publish_ip) },
                                { (char *)"com.docker.network.driver.mtu", arena_printf(arena, "%lld", (long long)(bridge->mtu ? bridge->mtu : 1500)) } };
    engine->no_bridge = str_eq(bridge->name, "none");
    engine->bridge_isolated = bridge->isolated;
    engine->bridge_ipv6 = bridge->ipv6;
    engine->no_proxy = options->no_proxy;
    engine->bridge_mtu = bridge->mtu;
    engine->bridge_options.items = arena_alloc(arena, sizeof(table));
    memcpy(engine->bridge_options.items, table, sizeof(table));
    engine->bridge_options.len = ARRAY_LEN(table);
    for (size_t i = 0; i < options->network_options.len; i++)
        strv_push_arena(&engine->network_options, arena, options->network_options.items[i]);
}

// As dockerd reads it: hexadecimal, octal or decimal.
static bool read_number(struct slice text, uint32_t *out)
{
    char *end;
    if (!text.size || strspn(text.data, "0123456789abcdefABCDEFxX") < text.size)
        return false;
    _cleanup_free_ char *copy = mem_strndup(text.data, text.size);
    errno = 0;
    unsigned long number = strtoul(copy, &end, 0);
    *out = (uint32_t)number;
    return !*end && !errno && number <= UINT32_MAX;
}

int network_read_mark(const char *text, struct net_config *out, struct err *err)
{
    struct slice rest = slice_of(text ? text : ""), mark;
    if (str_empty(text))
        return 0;
    slice_cut(&rest, '/', &mark);
    out->mark_mask = UINT32_MAX;
    if (read_number(mark, &out->mark) && (!rest.data || read_number(rest, &out->mark_mask)) && out->mark_mask)
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid firewall mark \"%.100s\": it is MARK or MARK/MASK, as 0x1/0x3", text);
}

// "DRIVER=KEY=VALUE" into the body of a create; what the client says stays.
static void add_option(json_t *body, const char *driver, const char *text)
{
    struct slice rest = slice_of(text), of, key;
    slice_cut(&rest, '=', &of);
    slice_cut(&rest, '=', &key);
    if (!slice_eq(of, driver) || !rest.data)
        return;
    _cleanup_free_ char *name = mem_strndup(key.data, key.size);
    if (!json_is_object(config_member(body, "Options")))
        config_put(body, "Options", json_object());
    json_t *options = config_member(body, "Options");
    if (!json_object_get(options, name))
        json_object_set_new(options, name, json_stringn(rest.data, rest.size));
}

int network_defaults_apply(struct engine *engine, json_t *body, struct arena *arena, struct network_request *request, struct err *err)
{
    const char *driver = str_empty(request->driver) || str_eq(request->driver, "default") ? "bridge" : request->driver;
    for (size_t i = 0; i < engine->network_options.len; i++)
        add_option(body, driver, engine->network_options.items[i]);
    return engine->network_options.len ? json_decode(&network_request_table, body, request, arena, NULL, err) : 0;
}
