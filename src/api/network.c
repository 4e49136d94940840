// The built-in networks. Others come with the networks issue.
#include "api_private.h"

static bool is_on(const struct engine_container *container, const char *name)
{
    return container->running && !container->restarting && str_eq(str_empty(container->network) ? "bridge" : container->network, name);
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

// What dockerd answers for its default bridge; clients read the link's name and the MTU.
static json_t *shape_bridge_options(const struct engine_network *network)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "com.docker.network.bridge.default_bridge", "true",
                     "com.docker.network.bridge.enable_icc", "true", "com.docker.network.bridge.enable_ip_masquerade",
                     "true", "com.docker.network.bridge.host_binding_ipv4", "0.0.0.0", "com.docker.network.bridge.name",
                     network->link, "com.docker.network.driver.mtu", "1500");
}

static json_t *shape_pools(const struct engine_network *network)
{
    if (str_empty(network->subnet))
        return json_array();
    return json_pack("[{s:s, s:s}]", "Subnet", network->subnet, "Gateway", network->gateway);
}

static json_t *shape_network(const struct engine_network *network, const struct engine_container *containers,
                             size_t len)
{
    json_t *ipam = json_pack("{s:s, s:n, s:o}", "Driver", "default", "Options", "Config", shape_pools(network));
    json_t *options = network->link ? shape_bridge_options(network) : json_object();
    return json_pack("{s:s, s:s, s:o, s:s, s:s, s:b, s:b, s:o, s:b, s:b, s:b, s:{s:s}, s:b, s:o, s:o, s:{}}", "Name",
                     network->name, "Id", network->id, "Created", shape_time(network->created_ns), "Scope", "local",
                     "Driver", network->driver, "EnableIPv4", network->link != NULL, "EnableIPv6", 0, "IPAM", ipam,
                     "Internal", 0, "Attachable", 0, "Ingress", 0, "ConfigFrom", "Network", "", "ConfigOnly", 0,
                     "Containers", shape_members(containers, len, network->name), "Options", options, "Labels");
}

static const char *const network_filter_keys[] = { "name", "id", "driver", "type", "scope", "label", "dangling", NULL };

static int fits(const struct filters *filters, const struct engine_network *network, bool *out, struct err *err)
{
    if (filters_match(filters, "name", network->name, out, err) < 0 ||
        (*out && filters_match(filters, "id", network->id, out, err) < 0))
        return -1;
    const struct strv *dangling = filters_get(filters, "dangling");
    *out = *out && filters_equal(filters, "driver", network->driver) && filters_equal(filters, "type", "builtin") &&
           filters_equal(filters, "scope", "local") && !filters_get(filters, "label") &&
           !(dangling && (strv_has(dangling, "true") || strv_has(dangling, "1"))); // the built-in ones never dangle
    return 0;
}

int handle_network_list(struct call *call, struct err *err)
{
    struct filters filters;
    struct engine_network *networks;
    size_t len;
    if (filters_parse(httpd_query(call->request, "filters"), network_filter_keys, call->arena, &filters, err) < 0)
        return -1;
    engine_networks(call->engine, call->arena, &networks, &len);
    _cleanup_json_ json_t *rows = json_array();
    for (size_t i = 0; i < len; i++) {
        bool wanted;
        if (fits(&filters, &networks[i], &wanted, err) < 0)
            return -1;
        if (wanted)
            json_array_append_new(rows, shape_network(&networks[i], NULL, 0));
    }
    return reply_json(call, 200, json_incref(rows));
}

// By name, id, or a prefix of the id.
int handle_network_inspect(struct call *call, struct err *err)
{
    const char *ref = call->values[0];
    struct engine_network *networks;
    struct engine_container *containers;
    size_t network_len, len;
    engine_networks(call->engine, call->arena, &networks, &network_len);
    for (size_t i = 0; i < network_len; i++) {
        if (!str_eq(ref, networks[i].name) && !str_starts(networks[i].id, ref))
            continue;
        if (engine_list(call->engine, false, call->arena, &containers, &len, err) < 0)
            return -1;
        return reply_json(call, 200, shape_network(&networks[i], containers, len));
    }
    return err_set(err, ERR_NOT_FOUND, "network %.200s not found", ref);
}
