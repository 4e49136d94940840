// Networks: list, create, inspect, remove, connect, disconnect.
#include "api_private.h"

// ---- shapes ---------------------------------------------------------------------------------------------------------

static json_t *shape_member(const struct engine_container *container, const struct engine_endpoint *endpoint)
{
    json_t *address = !str_empty(endpoint->address) ? json_sprintf("%s/%lld", endpoint->address, (long long)endpoint->prefix) : json_string("");
    json_t *address6 = str_empty(endpoint->address6) ? json_string("")
                                                     : json_sprintf("%s/%lld", endpoint->address6, (long long)endpoint->prefix6);
    return json_pack("{s:s, s:o, s:o, s:o, s:o}", "Name", container->name, "EndpointID", shape_text(endpoint->endpoint_id),
                     "MacAddress", shape_text(endpoint->mac), "IPv4Address", address, "IPv6Address", address6);
}

// Who is on it now. On `none` and `host` is every container that runs with it.
static json_t *shape_members(const struct engine_container *containers, size_t len, const struct engine_network *network)
{
    json_t *members = json_object();
    for (size_t i = 0; i < len; i++)
        for (size_t k = 0; k < containers[i].endpoint_len; k++) {
            const struct engine_endpoint *endpoint = &containers[i].endpoints[k];
            bool on = endpoint->up || str_eq(network->driver, "host") || str_eq(network->driver, "null");
            if (containers[i].running && !containers[i].restarting && on && str_eq(endpoint->network_id, network->id))
                json_object_set_new(members, containers[i].id, shape_member(&containers[i], endpoint));
        }
    return members;
}

// What dockerd answers for its default bridge; clients read the link's name and the MTU.
static json_t *shape_options(const struct engine_network *network)
{
    if (network->request)
        return shape_map(&network->request->options);
    json_t *options = network->options ? shape_map(network->options) : json_object();
    if (network->link)
        json_object_set_new(options, "com.docker.network.bridge.name", shape_text(network->link));
    return options;
}

// What a client said of the subnet of that kind; NULL: nothing.
static const struct ipam_pool *asked_pool(const struct engine_network *network, bool ipv6)
{
    const struct network_ipam *ipam = network->request ? network->request->ipam : NULL;
    for (size_t i = 0; ipam && i < ipam->config.len; i++) {
        const struct ipam_pool *pool = json_list_at(&ipam->config, &ipam_pool_table, i);
        if (!str_empty(pool->subnet) && (strchr(pool->subnet, ':') != NULL) == ipv6)
            return pool;
    }
    return NULL;
}

static void add_pool(json_t *rows, const struct engine_network *network, bool ipv6)
{
    const struct ipam_pool *pool = asked_pool(network, ipv6);
    const char *subnet = ipv6 ? network->subnet6 : network->subnet, *gateway = ipv6 ? network->gateway6 : network->gateway;
    const char *range = ipv6 ? network->range6 : network->range, *route = ipv6 ? network->route6 : network->route;
    if (str_empty(subnet))
        return;
    json_t *row = json_pack("{s:s}", "Subnet", subnet);
    if (pool && !str_empty(pool->ip_range))
        json_object_set_new(row, "IPRange", shape_text(pool->ip_range));
    else if (network->builtin && !str_empty(range))
        json_object_set_new(row, "IPRange", shape_text(range));
    if (!str_empty(gateway))
        json_object_set_new(row, "Gateway", shape_text(gateway));
    if (pool && pool->reserved.len)
        json_object_set_new(row, "AuxiliaryAddresses", shape_map(&pool->reserved));
    else if (!str_empty(route))
        json_object_set_new(row, "AuxiliaryAddresses", json_pack("{s:s}", ipv6 ? "DefaultGatewayIPv6" : "DefaultGatewayIPv4", route));
    json_array_append_new(rows, row);
}

static json_t *shape_pools(const struct engine_network *network)
{
    if (!network->link && network->builtin)
        return json_null();
    json_t *rows = json_array();
    add_pool(rows, network, false);
    add_pool(rows, network, true);
    return rows;
}

static json_t *shape_network(const struct engine_network *network, const struct engine_container *containers, size_t len)
{
    const struct network_request *request = network->request;
    json_t *ipam_options = request && request->ipam ? shape_map(&request->ipam->options) : request ? json_object() : json_null();
    json_t *ipam = json_pack("{s:s, s:o, s:o}", "Driver", "default", "Options", ipam_options, "Config", shape_pools(network));
    json_t *labels = request ? shape_map(&request->labels) : json_object();
    return json_pack("{s:s, s:s, s:o, s:s, s:s, s:b, s:b, s:o, s:b, s:b, s:b, s:{s:s}, s:b, s:o, s:o, s:o}", "Name",
                     network->name, "Id", network->id, "Created", shape_time(network->created_ns), "Scope", "local",
                     "Driver", network->driver, "EnableIPv4", network->builtin || !str_empty(network->subnet), "EnableIPv6", !str_empty(network->subnet6), "IPAM", ipam,
                     "Internal", request && request->internal, "Attachable", request && request->attachable, "Ingress", 0,
                     "ConfigFrom", "Network", "", "ConfigOnly", 0, "Containers", shape_members(containers, len, network), "Options",
                     shape_options(network), "Labels", labels);
}

// ---- list -----------------------------------------------------------------------------------------------------------

static const char *const network_filter_keys[] = { "name", "id", "driver", "type", "scope", "label", "dangling", NULL };

static int fits(struct call *call, const struct filters *filters, int dangling, const struct engine_network *network, bool *out,
                struct err *err)
{
    static const struct kvs none;
    if (filters_match(filters, "name", network->name, out, err) < 0 ||
        (*out && filters_match(filters, "id", network->id, out, err) < 0))
        return -1;
    *out = *out && filters_equal(filters, "driver", network->driver) &&
           filters_equal(filters, "type", network->builtin ? "builtin" : "custom") && filters_equal(filters, "scope", "local") &&
           filters_labels(filters, "label", network->request ? &network->request->labels : &none);
    if (*out && dangling >= 0) // the built-in ones never dangle
        *out = (!network->builtin && !engine_network_in_use(call->engine, network)) == (bool)dangling;
    return 0;
}

static int check_types(const struct filters *filters, struct err *err)
{
    const struct strv *types = filters_get(filters, "type");
    for (size_t i = 0; types && i < types->len; i++)
        if (!str_eq(types->items[i], "builtin") && !str_eq(types->items[i], "custom"))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid filter: 'type'='%.100s'", types->items[i]);
    return 0;
}

int handle_network_list(struct call *call, struct err *err)
{
    struct filters filters;
    struct engine_network *networks;
    size_t len;
    int dangling;
    if (filters_parse(httpd_query(call->request, "filters"), network_filter_keys, call->arena, &filters, err) < 0 ||
        check_types(&filters, err) < 0 || filters_flag(&filters, "dangling", &dangling, err) < 0 ||
        engine_networks(call->engine, call->arena, &networks, &len, err) < 0)
        return -1;
    _cleanup_json_ json_t *rows = json_array();
    for (size_t i = 0; i < len; i++) {
        bool wanted;
        if (fits(call, &filters, dangling, &networks[i], &wanted, err) < 0)
            return -1;
        if (wanted)
            json_array_append_new(rows, shape_network(&networks[i], NULL, 0));
    }
    return reply_json(call, 200, json_incref(rows));
}

// ---- one network ----------------------------------------------------------------------------------------------------

// No network is one of a swarm; what only a swarm would tell more about is checked all the same.
static int check_inspect(struct call *call, struct err *err)
{
    static const char *const go_flags[] = { "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False" };
    const char *scope = httpd_query(call->request, "scope"), *verbose = httpd_query(call->request, "verbose");
    bool known = str_empty(verbose);
    for (size_t i = 0; i < ARRAY_LEN(go_flags) && !known; i++)
        known = str_eq(go_flags[i], verbose);
    if (!known)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid value for verbose: %.100s: strconv.ParseBool: parsing \"%.100s\": invalid syntax", verbose, verbose);
    return str_empty(scope) || str_eq(scope, "local") ? 0 : err_set(err, ERR_NOT_FOUND, "network %s not found", call->values[0]);
}

int handle_network_inspect(struct call *call, struct err *err)
{
    struct engine_network network;
    struct engine_container *containers;
    size_t len;
    if (check_inspect(call, err) < 0 || engine_network_find(call->engine, call->values[0], call->arena, &network, err) < 0)
        return -1;
    engine_list(call->engine, false, call->arena, &containers, &len);
    return reply_json(call, 200, shape_network(&network, containers, len));
}

int handle_network_create(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *body = NULL;
    struct network_request request;
    char id[65];
    if (body_json(call, &body, err) < 0)
        return -1;
    if (call->version < 48)
        json_object_del(body, "EnableIPv4");
    if (json_decode(&network_request_table, body, &request, call->arena, NULL, err) < 0 ||
        engine_network_create(call->engine, &request, body, id, err) < 0)
        return -1;
    return reply_json(call, 201, json_pack("{s:s, s:s}", "Id", id, "Warning", ""));
}

int handle_network_remove(struct call *call, struct err *err)
{
    return engine_network_remove(call->engine, call->values[0], err) < 0 ? -1 : reply_empty(call, 204);
}

// ---- its containers -------------------------------------------------------------------------------------------------

struct membership {
    char *container;
    struct endpoint_request *endpoint;
    bool force;
};

static const struct json_field membership_fields[] = {
    JSON_FIELD("Container", JSON_TEXT, struct membership, container),
    JSON_FIELD("EndpointConfig", JSON_STRUCT_PTR, struct membership, endpoint, .sub = &endpoint_request_table),
    JSON_FIELD("Force", JSON_FLAG, struct membership, force),
};
static const struct json_table membership_table = JSON_TABLE(struct membership, membership_fields);

static int read_membership(struct call *call, struct membership *out, struct err *err)
{
    _cleanup_json_ json_t *body = NULL;
    if (body_json(call, &body, err) < 0 || json_decode(&membership_table, body, out, call->arena, NULL, err) < 0)
        return -1;
    if (str_empty(out->container))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid container name or ID: value is empty");
    return 0;
}

int handle_network_connect(struct call *call, struct err *err)
{
    struct membership membership;
    if (read_membership(call, &membership, err) < 0 ||
        engine_network_connect(call->engine, call->values[0], membership.container, membership.endpoint, err) < 0)
        return -1;
    return reply_empty(call, 200);
}

// There is nothing that force would have to break: a place on a network has its container.
int handle_network_disconnect(struct call *call, struct err *err)
{
    struct membership membership;
    if (read_membership(call, &membership, err) < 0 ||
        engine_network_disconnect(call->engine, call->values[0], membership.container, err) < 0)
        return -1;
    return reply_empty(call, 200);
}
