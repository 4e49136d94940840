// A container's places on networks, from what its create said to the interfaces of a run. The list changes only under
// container_begin(); `lock` is for those who look at it meanwhile.
#include <arpa/inet.h>
#include <errno.h>

#include "links.h"
#include "namespaces.h"
#include "networks.h"
#include "users.h"
#include "vm.h"

#define IFNAME_OPTION "com.docker.network.endpoint.ifname"
#define SYSCTLS_OPTION "com.docker.network.endpoint.sysctls"
#define MTU_OPTION "com.docker.network.driver.mtu"
#define BINDING_OPTION "com.docker.network.bridge.host_binding_ipv4"

// ---- the list -------------------------------------------------------------------------------------------------------

void endpoint_free(struct endpoint *endpoint)
{
    arena_done(&endpoint->arena);
    free(endpoint);
}

static void copy_list(struct arena *arena, const struct strv *from, struct strv *to)
{
    *to = (struct strv){ 0 };
    for (size_t i = 0; i < from->len; i++)
        strv_push_arena(to, arena, from->items[i]);
}

struct endpoint *endpoint_new(const char *network, const struct endpoint_request *request)
{
    static const struct endpoint_request nothing;
    struct endpoint *endpoint = mem_new(struct endpoint);
    struct arena *arena = &endpoint->arena;
    const struct endpoint_request *from = request ? request : &nothing;
    struct endpoint_request *to = &endpoint->request;
    *endpoint = (struct endpoint){ .net.netns_fd = -1 };
    endpoint->network = arena_strdup(arena, network);
    to->gw_priority = from->gw_priority;
    to->mac_address = arena_strdup(arena, from->mac_address);
    if (from->ipam && (!str_empty(from->ipam->ipv4_address) || !str_empty(from->ipam->ipv6_address) || from->ipam->link_local.len)) {
        to->ipam = arena_alloc(arena, sizeof(*to->ipam));
        *to->ipam = (struct endpoint_ipam){ .ipv4_address = arena_strdup(arena, from->ipam->ipv4_address), .ipv6_address = arena_strdup(arena, from->ipam->ipv6_address) };
        copy_list(arena, &from->ipam->link_local, &to->ipam->link_local);
    }
    copy_list(arena, &from->aliases, &to->aliases);
    copy_list(arena, &from->links, &to->links);
    to->driver_opts.items = arena_alloc(arena, (from->driver_opts.len + 1) * sizeof(*to->driver_opts.items));
    for (size_t i = 0; i < from->driver_opts.len; i++)
        to->driver_opts.items[to->driver_opts.len++] = (struct kv){ arena_strdup(arena, from->driver_opts.items[i].key),
                                                                    arena_strdup(arena, from->driver_opts.items[i].value) };
    return endpoint;
}

// The first one is that of the network mode; the others follow by their names.
static void insert(struct container *container, struct endpoint *endpoint, bool first)
{
    struct endpoint **place = &container->endpoints;
    if (!first && *place)
        for (place = &(*place)->next; *place && strcmp((*place)->network, endpoint->network) <= 0; place = &(*place)->next)
            ;
    endpoint->next = *place;
    *place = endpoint;
}

void endpoints_add(struct container *container, struct endpoint *endpoint, bool first)
{
    mutex_lock(&container->lock);
    insert(container, endpoint, first);
    mutex_unlock(&container->lock);
}

// ---- what a client may say ------------------------------------------------------------------------------------------

static bool is_user_defined(const char *network)
{
    static const char *const words[] = { "bridge", "none", "host", "default" };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (str_eq(network, words[i]))
            return false;
    return !str_starts(network, "container:");
}

static int check_link_local(const struct strv *addresses, struct err *err)
{
    for (size_t i = 0; i < addresses->len; i++) {
        struct in6_addr six;
        struct in_addr four;
        const char *text = addresses->items[i];
        bool good = inet_pton(AF_INET, text, &four) == 1 ? ntohl(four.s_addr) >> 16 == 0xa9fe : inet_pton(AF_INET6, text, &six) == 1 && IN6_IS_ADDR_LINKLOCAL(&six);
        if (!good)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid link local IP address: %.100s", text);
    }
    return 0;
}

// "net.ipv4.conf.IFNAME.log_martians=1,...", into *out where that is asked for.
static int read_settings(const char *text, struct arena *arena, struct kvs *out, struct err *err)
{
    static const char word_letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
    struct slice rest = slice_of(text), one;
    out->items = arena_alloc(arena, (strlen(text) / 2 + 1) * sizeof(*out->items));
    out->len = 0;
    while (slice_cut(&rest, ',', &one)) {
        char *key = arena_strndup(arena, one.data, one.size), *equals = strchr(key, '=');
        struct slice words = { key, equals ? (size_t)(equals - key) : 0 }, word[5] = { 0 };
        size_t len = 0;
        while (len < ARRAY_LEN(word) && slice_cut(&words, '.', &word[len]))
            len++;
        bool good = equals && len == ARRAY_LEN(word) && words.size == 0 && slice_eq(word[0], "net") &&
                    (slice_eq(word[1], "ipv4") || slice_eq(word[1], "ipv6") || slice_eq(word[1], "mpls")) && (slice_eq(word[3], "IFNAME") || slice_eq(word[3], "ifname"));
        for (size_t i = 2; i < ARRAY_LEN(word) && good; i += 2)
            good = word[i].size > 0 && strspn(word[i].data, word_letters) >= word[i].size;
        if (!good)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid endpoint settings:\nunrecognised network interface sysctl '%.200s'; represent 'net.X.Y.ethN.Z=V' as "
                           "'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'", key);
        *equals = 0;
        out->items[out->len++] = (struct kv){ key, equals + 1 };
    }
    return 0;
}

static int check_option(const struct kv *option, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct kvs settings;
    if (str_eq(option->key, SYSCTLS_OPTION))
        return read_settings(option->value, &arena, &settings, err);
    if (!str_eq(option->key, IFNAME_OPTION))
        return err_set(err, ERR_NOT_IMPLEMENTED, "DriverOpts.%.200s: not supported yet", option->key);
    if (str_empty(option->value) || strlen(option->value) >= IFNAMSIZ || strpbrk(option->value, "/ \t\n:%") || option->value[0] == '.')
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid interface name: \"%.100s\"", option->value);
    return 0;
}

int endpoint_check(const char *network, const struct endpoint_request *request, struct err *err)
{
    unsigned char bytes[16], mac[6];
    const char *address = request->ipam ? request->ipam->ipv4_address : NULL, *address6 = request->ipam ? request->ipam->ipv6_address : NULL;
    if ((!str_empty(address) || !str_empty(address6)) && !is_user_defined(network))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid endpoint settings: user-specified IP address is supported on user-defined networks only");
    if (request->aliases.len && !is_user_defined(network))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid endpoint settings: network-scoped aliases are only supported for user-defined networks");
    if (!str_empty(address) && (inet_pton(AF_INET, address, bytes) != 1 || str_eq(address, "0.0.0.0")))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid endpoint settings: invalid IPv4 address: %.100s", address);
    if (!str_empty(address6) && (inet_pton(AF_INET6, address6, bytes) != 1 || IN6_IS_ADDR_UNSPECIFIED((struct in6_addr *)bytes)))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid endpoint settings: invalid IPv6 address: %.100s", address6);
    if (!str_empty(request->mac_address) && !net_mac_valid(request->mac_address, mac))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid MAC address: %.100s", request->mac_address);
    for (size_t i = 0; i < request->aliases.len; i++)
        if (str_empty(request->aliases.items[i]) || strpbrk(request->aliases.items[i], " \t\n\r"))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid endpoint settings: invalid alias: \"%.100s\"", request->aliases.items[i]);
    if (request->links.len && !is_user_defined(network))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid endpoint settings: links are only supported for user-defined networks");
    for (size_t i = 0; i < request->links.len; i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        const char *name, *alias;
        if (link_parse(request->links.items[i], &arena, &name, &alias, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < request->driver_opts.len; i++)
        if (check_option(&request->driver_opts.items[i], err) < 0)
            return -1;
    return request->ipam ? check_link_local(&request->ipam->link_local, err) : 0;
}

int endpoints_from_config(struct container *container, struct err *err)
{
    const struct container_config *config = &container->config;
    const char *mode = config->host_config.network_mode;
    static const struct strv none = { 0 };
    const struct strv *links = links_any(config) ? &none : &config->host_config.links; // those of the default bridge are links.c's
    if (config->network_disabled || namespaces_other(namespaces_network(config)))
        return 0;
    for (size_t i = 0; i < config->endpoints.len; i++) {
        const char *network = config->endpoints.keys[i];
        struct endpoint_request request = *(const struct endpoint_request *)json_map_at(&config->endpoints, &endpoint_request_table, i);
        if (str_eq(network, "default"))
            network = "bridge";
        if (str_empty(request.mac_address) && str_eq(network, mode))
            request.mac_address = config->mac_address; // of clients older than several addresses
        if (request.links.len == 0 && str_eq(network, mode))
            request.links = *links;
        if (endpoint_check(network, &request, err) < 0)
            return err_wrap(err, "invalid config for network %.200s", network);
        insert(container, endpoint_new(network, &request), str_eq(network, mode));
    }
    if (config->endpoints.len > 0)
        return 0;
    const struct endpoint_request plain = { .mac_address = config->mac_address, .links = *links };
    if (endpoint_check(mode, &plain, err) < 0)
        return -1;
    insert(container, endpoint_new(mode, &plain), true);
    return 0;
}

// ---- records --------------------------------------------------------------------------------------------------------

struct form {
    char *network, *network_id;
    struct endpoint_request request;
};

static const struct json_field form_fields[] = {
    JSON_FIELD("network", JSON_TEXT, struct form, network, .required = true),
    JSON_FIELD("network_id", JSON_TEXT, struct form, network_id),
    JSON_FIELD("request", JSON_STRUCT, struct form, request, .sub = &endpoint_request_table),
};
static const struct json_table form_table = JSON_TABLE(struct form, form_fields);

json_t *endpoints_encode(const struct container *container)
{
    json_t *list = json_array();
    for (const struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next) {
        const struct form form = { endpoint->network, (char *)endpoint->network_id, endpoint->request };
        json_array_append_new(list, json_encode(&form_table, &form));
    }
    return list;
}

int endpoints_decode(struct container *container, const char *text, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_json_ json_t *list = NULL;
    json_t *item;
    size_t i;
    if (!text) // of a version with one network
        return endpoints_from_config(container, err);
    if (json_parse(text, strlen(text), &list, err) < 0)
        return -1;
    json_array_foreach (list, i, item) {
        struct form form;
        if (json_decode(&form_table, item, &form, &arena, NULL, err) < 0)
            return -1;
        struct endpoint *endpoint = endpoint_new(form.network, &form.request);
        snprintf(endpoint->network_id, sizeof(endpoint->network_id), "%s", form.network_id ? form.network_id : "");
        insert(container, endpoint, i == 0);
    }
    return 0;
}

// ---- which one leads out --------------------------------------------------------------------------------------------

// Docker's order: the client's wish, then a network that leads anywhere, then the name.
static bool leads_before(const struct endpoint *one, const struct endpoint *other)
{
    if (one->request.gw_priority != other->request.gw_priority)
        return one->request.gw_priority > other->request.gw_priority;
    if (one->internal != other->internal)
        return other->internal;
    return strcmp(one->network, other->network) < 0;
}

// The kinds of addresses that it has to have.
enum { IPV4 = 1, IPV6 = 2 };

static int kinds_of(const struct endpoint *endpoint, bool up)
{
    bool ipv4 = up ? endpoint->net.address[0] : endpoint->ipv4, ipv6 = up ? endpoint->net.address6[0] : endpoint->ipv6;
    return endpoint->bridge && (!up || endpoint->up) ? (ipv4 ? IPV4 : 0) | (ipv6 ? IPV6 : 0) : 0;
}

static struct endpoint *first_of(const struct container *container, bool up, int kinds)
{
    struct endpoint *best = NULL;
    for (struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next)
        if ((kinds_of(endpoint, up) & kinds) == kinds && (!best || leads_before(endpoint, best)))
            best = endpoint;
    return best;
}

// A network of both kinds that leads out has both routes, as with Docker; else each kind has its own.
static struct endpoint *leading(const struct container *container, bool up, int kind)
{
    struct endpoint *both = first_of(container, up, IPV4 | IPV6);
    return both && !both->internal ? both : first_of(container, up, kind);
}

// A network that leads nowhere publishes nothing, nor does one whose containers are the host's own neighbours.
static struct endpoint *publishing(const struct container *container, bool up, int kind)
{
    struct endpoint *endpoint = leading(container, up, kind);
    return endpoint && !endpoint->internal && !endpoint->card ? endpoint : NULL;
}

// To an address of the other kind by a relay alone.
static struct endpoint *publishing6(const struct container *container, bool up)
{
    struct endpoint *own = publishing(container, up, IPV6);
    return own || container->engine->no_proxy ? own : publishing(container, up, IPV4);
}

struct endpoint *endpoint_gateway(const struct container *container)
{
    return leading(container, true, IPV4);
}

struct endpoint *endpoint_gateway6(const struct container *container)
{
    return leading(container, true, IPV6);
}

struct endpoint *endpoint_published(const struct container *container)
{
    return publishing(container, true, IPV4);
}

struct endpoint *endpoint_published6(const struct container *container)
{
    return publishing6(container, true);
}

// As Docker's, without doubles; the first one is that of the address.
void endpoint_names(const struct container *container, const char *name, const struct endpoint *endpoint, struct arena *arena,
                    struct strv *out)
{
    const char *short_id = arena_strndup(arena, container->id, 12);
    struct strv all = { 0 };
    strv_push_arena(&all, arena, name);
    for (size_t i = 0; i < endpoint->request.aliases.len; i++)
        strv_push_arena(&all, arena, endpoint->request.aliases.items[i]);
    strv_push_arena(&all, arena, short_id);
    strv_push_arena(&all, arena, container->config.hostname);
    for (size_t i = 0; i < all.len; i++)
        if (!str_empty(all.items[i]) && !strv_has(out, all.items[i]))
            strv_push_arena(out, arena, arena_strdup(arena, all.items[i]));
}

// ---- resolving ------------------------------------------------------------------------------------------------------

// By the id that it had, unless that network is gone: one of the same name may have taken its place.
static int find_network(struct engine *engine, const struct endpoint *endpoint, struct arena *arena, struct engine_network *out,
                        struct err *err)
{
    if (endpoint->network_id[0] && engine_network_find(engine, endpoint->network_id, arena, out, NULL) == 0)
        return 0;
    return engine_network_find(engine, endpoint->network, arena, out, err);
}

void endpoint_settle(struct container *container, struct endpoint *endpoint, const struct engine_network *network)
{
    const struct kvs *options = network->request ? &network->request->options : NULL;
    mutex_lock(&container->lock);
    if (!str_eq(endpoint->network, network->name))
        endpoint->network = arena_strdup(&endpoint->arena, network->name);
    memcpy(endpoint->network_id, network->id, sizeof(endpoint->network_id));
    endpoint->bridge = network_has_addresses(network);
    endpoint->builtin = network->builtin;
    endpoint->internal = network->request && network->request->internal;
    endpoint->ipv4 = !network->request || !network->request->no_ipv4;
    endpoint->ipv6 = network->request ? network->request->enable_ipv6 : container->engine->bridge_ipv6;
    endpoint->driver = network->driver;
    endpoint->card = endpoint->bridge && !str_eq(network->driver, "bridge");
    endpoint->by_device = str_eq(network->driver, "ipvlan") && options && network_is_routed_card(options);
    enum net_gateway_mode modes[2] = { NET_GATEWAY_NAT, NET_GATEWAY_NAT };
    for (size_t i = 0; options && i < ARRAY_LEN(modes); i++)
        network_gateway_mode(options, i, &modes[i], NULL); // a record's were looked at, as the MTU
    endpoint->routed = modes[0] == NET_GATEWAY_ROUTED;
    endpoint->routed6 = modes[1] == NET_GATEWAY_ROUTED;
    endpoint->mtu = network->builtin ? container->engine->bridge_mtu : 0;
    if (options && kvs_get(options, MTU_OPTION))
        num_parse_i64(slice_of(kvs_get(options, MTU_OPTION)), &endpoint->mtu);
    endpoint->binding = arena_strdup(&endpoint->arena, options ? kvs_get(options, BINDING_OPTION) : NULL);
    mutex_unlock(&container->lock);
}

static int resolve_all(struct container *container, struct err *err)
{
    for (struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct engine_network network;
        if (container->engine->no_bridge && str_eq(endpoint->network, "bridge")) { // as with none
            endpoint->bridge = false;
            continue;
        }
        if (find_network(container->engine, endpoint, &arena, &network, err) < 0)
            return -1;
        endpoint_settle(container, endpoint, &network);
    }
    return 0;
}

// ---- attaching ------------------------------------------------------------------------------------------------------

static bool name_is_free(const struct container *container, const char *name)
{
    for (const struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next)
        if (endpoint->up && str_eq(endpoint->net.interface, name))
            return false;
    return true;
}

static void choose_interface(const struct container *container, const struct endpoint *endpoint, char out[IFNAMSIZ])
{
    const char *asked = kvs_get(&endpoint->request.driver_opts, IFNAME_OPTION);
    snprintf(out, IFNAMSIZ, "%s", asked ? asked : "eth0");
    for (unsigned i = 1; !asked && !name_is_free(container, out); i++)
        snprintf(out, IFNAMSIZ, "eth%u", i);
}

// Of a guest's interface the guest's kernel has the say.
static int set_interface(const struct endpoint_request *request, const char *name, int netns_fd, bool guest, struct err *err)
{
    static const struct strv none = { 0 };
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct kvs settings = { 0 };
    const char *asked = kvs_get(&request->driver_opts, SYSCTLS_OPTION);
    const struct strv *addresses = request->ipam ? &request->ipam->link_local : &none;
    if (guest && (asked || addresses->len))
        return err_set(err, ERR_NOT_IMPLEMENTED, "%s is not supported with isolation vm", asked ? "DriverOpts." SYSCTLS_OPTION : "IPAMConfig.LinkLocalIPs");
    if (asked && read_settings(asked, &arena, &settings, err) < 0)
        return -1;
    return guest ? 0 : net_set_interface(netns_fd, &(struct net_interface){ name, addresses, &settings }, err);
}

int endpoint_attach(struct container *container, struct endpoint *endpoint, const struct attach_how *how, struct err *err)
{
    struct net *net = container->engine->net;
    const struct endpoint_request *request = &endpoint->request;
    struct net_endpoint made = { .netns_fd = -1 };
    const char *net_id = endpoint->builtin ? "" : endpoint->network_id;
    char interface[IFNAMSIZ];
    choose_interface(container, endpoint, interface);
    const struct net_wish wish = { .container_id = container->id, .network_id = net_id, .endpoint_id = how->endpoint_id,
                                   .address = request->ipam ? request->ipam->ipv4_address : NULL,
                                   .address6 = request->ipam ? request->ipam->ipv6_address : NULL, .mac = request->mac_address,
                                   .interface = interface, .no_gateway = !how->gateway, .no_gateway6 = !how->gateway6,
                                   .netns_fd = *how->netns_fd >= 0 ? how->netns_fd : NULL,
                                   .ports = how->plan ? how->plan->ports : NULL, .port_len = how->plan && (how->ports || how->ports6) ? how->plan->len : 0,
                                   .no_ports = !how->ports, .no_ports6 = !how->ports6 };
    if (net_network_up(net, net_id, err) < 0 ||
        (how->tap_fd ? net_attach_tap(net, &wish, &made, how->tap_fd, err) : net_attach(net, &wish, &made, err)) < 0)
        return -1;
    if (*how->netns_fd < 0)
        *how->netns_fd = made.netns_fd;
    made.netns_fd = -1;
    if (set_interface(request, interface, *how->netns_fd, how->tap_fd, err) < 0) {
        net_disconnect(net, net_id, container->id, NULL);
        return -1;
    }
    snprintf(made.interface, sizeof(made.interface), "%s", interface);
    mutex_lock(&container->lock);
    endpoint->net = made;
    endpoint->up = true;
    mutex_unlock(&container->lock);
    return 0;
}

// Ports are bound first: a port that is taken fails the start before anything is made.
static int bind_ports(struct container *container, const struct endpoint *published, const struct endpoint *published6, const char *endpoint_id,
                      struct port_plan *plan, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    if (!published && !published6)
        return 0;
    plan->endpoint = arena_printf(&arena, "%s (%s)", container_name(container, &arena), endpoint_id);
    plan->address = (published ? published : published6)->binding;
    plan->ipv4 = published;
    plan->ipv6 = published6;
    plan->relayed6 = published6 && !published6->ipv6;
    plan->routed = published && published->routed;
    plan->routed6 = published6 && published6->ipv6 && published6->routed6;
    int result = ports_bind(container, plan, err);
    plan->endpoint = plan->address = NULL;
    return result;
}

static int attach_all(struct container *container, struct port_plan *plan, int *netns_fd, int *tap_fd, struct err *err)
{
    const struct endpoint *gateway = leading(container, false, IPV4), *gateway6 = leading(container, false, IPV6);
    const struct endpoint *published = publishing(container, false, IPV4), *published6 = publishing6(container, false);
    const struct endpoint *named = published ? published : published6;
    char named_id[65];
    random_hex(named_id, 64);
    if (bind_ports(container, published, published6, named_id, plan, err) < 0)
        return -1;
    for (struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next) {
        char id[65];
        random_hex(id, 64);
        const struct attach_how how = { .endpoint_id = endpoint == named ? named_id : id, .gateway = endpoint == gateway,
                                        .gateway6 = endpoint == gateway6, .ports = endpoint == published,
                                        .ports6 = endpoint == published6, .plan = plan, .netns_fd = netns_fd, .tap_fd = tap_fd };
        if (endpoint->bridge && endpoint_attach(container, endpoint, &how, err) < 0)
            return -1;
    }
    return gateway || gateway6 || tap_fd || *netns_fd >= 0 || namespaces_network(&container->config) ? 0 : net_none(netns_fd, err);
}

int endpoints_attach(struct container *container, struct err *err)
{
    bool guest = vm_wanted(&container->config.host_config);
    struct port_plan plan = { 0 };
    int netns_fd = -1, tap_fd = -1;
    int result = resolve_all(container, err);
    if (result == 0)
        result = users_own_network(container, &netns_fd, err);
    if (result == 0)
        result = attach_all(container, &plan, &netns_fd, guest ? &tap_fd : NULL, err);
    mutex_lock(&container->lock);
    container->netns_fd = netns_fd;
    container->tap_fd = tap_fd;
    container->ports = plan.ports;
    container->port_len = plan.len;
    mutex_unlock(&container->lock);
    if (result == 0)
        endpoints_connected(container);
    return result;
}

void endpoints_detach(struct container *container)
{
    struct err err = { 0 };
    bool any = false;
    names_withdraw(container);
    mutex_lock(&container->lock);
    for (struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next) {
        any = any || endpoint->up;
        endpoint->up = false;
    }
    mutex_unlock(&container->lock);
    if (any && net_detach(container->engine->net, container->id, &err) < 0)
        log_warn("container %s: %s", container->id, err.message);
}

// ---- events ---------------------------------------------------------------------------------------------------------

void endpoint_publish(struct container *container, const struct endpoint *endpoint, const char *action)
{
    event_publish(container->engine, "network", action, endpoint->network_id, "container", container->id, "name", endpoint->network,
                  "type", endpoint->driver ? endpoint->driver : "null", NULL);
}

static void note_connected(struct container *container, bool connected)
{
    for (struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next) {
        mutex_lock(&container->lock);
        bool was = endpoint->connected;
        endpoint->connected = connected;
        mutex_unlock(&container->lock);
        if (was != connected)
            endpoint_publish(container, endpoint, connected ? "connect" : "disconnect");
    }
}

void endpoints_connected(struct container *container)
{
    note_connected(container, true);
}

void endpoints_disconnected(struct container *container)
{
    note_connected(container, false);
}

// ---- a run that an earlier daemon began -----------------------------------------------------------------------------

static void take_endpoint(void *context, const char *network_id, const struct net_endpoint *from)
{
    struct container *container = context;
    mutex_lock(&container->lock);
    for (struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next)
        if (endpoint->bridge && (endpoint->builtin ? str_empty(network_id) : str_eq(endpoint->network_id, network_id))) {
            endpoint->net = *from;
            endpoint->up = true;
        }
    mutex_unlock(&container->lock);
}

void endpoints_adopt(struct container *container)
{
    struct err err = { 0 };
    if (resolve_all(container, &err) < 0 || net_endpoints(container->engine->net, container->id, take_endpoint, container, &err) < 0)
        log_warn("container %.12s: its networks: %s", container->id, err.message);
    mutex_lock(&container->lock);
    for (struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next)
        endpoint->connected = true;
    mutex_unlock(&container->lock);
}
