// A container's place in the network. The order of attach is: record (address, link number, ports), namespace with its
// veth, port forwards. Whatever a crash leaves of that hangs on the record, and goes with net_detach().
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/file.h"
#include "net_private.h"

struct attach {
    struct net *net;
    const struct net_wish *wish;
    struct bridge bridge;
    struct record_endpoint endpoint;
};

static void link_name(const struct net *net, int64_t link_index, char out[IFNAMSIZ])
{
    snprintf(out, IFNAMSIZ, "b%.4s%lld", net->id, (long long)link_index);
}

static int settle_port(struct net *net, const struct bridge *bridge, int index, struct err *err) REQUIRES(net->lock)
{
    if (bridge->flags & BRIDGE_ISOLATED && link_isolate_port(&net->link, index, err) < 0)
        return -1;
    return link_set_hairpin(&net->link, index, err);
}

// ---- making ---------------------------------------------------------------------------------------------------------

// Hairpin: with br_netfilter loaded, a container's packet to its own published port is rewritten while it is still being
// bridged, and must leave by the port it came from.
static int make_pair(const struct attach *attach, int netns_fd, struct err *err) REQUIRES(attach->net->lock)
{
    struct net *net = attach->net;
    struct link_info near;
    char name[IFNAMSIZ], alias[ALIAS_SIZE];

    if (!attach->bridge.index)
        return err_set(err, ERR_UNAVAILABLE, "network bridge %s is not up", attach->bridge.link);
    link_name(net, attach->endpoint.link_index, name);
    snprintf(alias, sizeof(alias), "berth %s %s", net->id, attach->wish->container_id);
    const struct link_pair pair = { .name = name, .far = attach->endpoint.interface, .master = attach->bridge.index,
                                    .netns_fd = netns_fd, .mtu = attach->bridge.mtu, .mac = attach->endpoint.mac };
    if (link_add_veth(&net->link, &pair, err) < 0 || link_find(&net->link, name, &near, err) < 0 ||
        link_set_alias(&net->link, near.index, alias, err) < 0)
        return -1;
    return settle_port(attach->net, &attach->bridge, near.index, err);
}

static int make_card(const struct attach *attach, int netns_fd, struct err *err) REQUIRES(attach->net->lock)
{
    const struct bridge *bridge = &attach->bridge;
    struct link_info parent;
    if (link_find(&attach->net->link, bridge->parent, &parent, err) < 0)
        return -1;
    const struct link_pair card = { .far = attach->endpoint.interface, .master = parent.index, .netns_fd = netns_fd, .mtu = bridge->mtu,
                                    .mac = attach->endpoint.mac };
    return (link_ipvlan_mode(bridge->parent_mode) ? link_add_ipvlan : link_add_macvlan)(&attach->net->link, &card, bridge->parent_mode, err);
}

static bool has_gateway(const struct bridge *bridge)
{
    return !(bridge->flags & BRIDGE_INTERNAL);
}

// Of ipvlan's l3 modes: what is not a neighbour's goes to the card, and the host routes it.
static bool is_routed_card(const struct bridge *bridge)
{
    return str_starts(bridge->parent_mode, "l3");
}

static int configure_ipv6(const struct attach *attach, struct link_socket *inside, int index, struct err *err)
{
    const struct subnet6 *subnet = &attach->bridge.subnet6;
    if (!subnet->prefix)
        return 0;
    if (link_add_address6(inside, index, attach->endpoint.address6, subnet->prefix, err) < 0)
        return -1;
    bool out = has_gateway(&attach->bridge) && !attach->wish->no_gateway6;
    if (out && is_routed_card(&attach->bridge))
        return link_add_device_route(inside, AF_INET6, index, err);
    return out ? link_add_default_route6(inside, index, subnet->route ? subnet->route : subnet->gateway, err) : 0;
}

static int configure_interface(const struct attach *attach, struct err *err)
{
    struct link_socket inside;
    const struct subnet *subnet = &attach->bridge.subnet;
    int index = (int)if_nametoindex(attach->endpoint.interface);
    if (index == 0)
        return err_errno(err, errno, "%s", attach->endpoint.interface);
    if (link_open(&inside, err) < 0)
        return -1;
    int result = subnet->gateway ? link_add_address(&inside, index, attach->endpoint.address, subnet->prefix, err) : 0;
    if (result == 0)
        result = link_set_up(&inside, index, err);
    bool out = subnet->gateway && has_gateway(&attach->bridge) && !attach->wish->no_gateway;
    if (result == 0 && out && is_routed_card(&attach->bridge))
        result = link_add_device_route(&inside, AF_INET, index, err);
    else if (result == 0 && out)
        result = link_add_default_route(&inside, index, subnet->route ? subnet->route : subnet->gateway, err);
    if (result == 0)
        result = configure_ipv6(attach, &inside, index, err);
    link_close(&inside);
    return result;
}

// The one of that name in the calling thread's namespace.
static int drop_interface(void *context, int netns_fd, struct err *err)
{
    struct link_socket inside;
    int index = (int)if_nametoindex(context);
    if (index == 0)
        return 0;
    if (link_open(&inside, err) < 0)
        return -1;
    int result = link_delete(&inside, index, err);
    link_close(&inside);
    return result;
}

static int fill_namespace(void *context, int netns_fd, struct err *err)
{
    const struct attach *attach = context;
    mutex_lock(&attach->net->lock);
    int result = attach->bridge.parent[0] ? make_card(attach, netns_fd, err) : make_pair(attach, netns_fd, err);
    mutex_unlock(&attach->net->lock);
    if (result < 0)
        return -1;
    if (link_switch_ipv6(attach->endpoint.interface, attach->bridge.subnet6.prefix, err) == 0 && configure_interface(attach, err) == 0)
        return 0;
    if (attach->bridge.parent[0]) // a veth goes with its near end
        drop_interface((void *)attach->endpoint.interface, netns_fd, NULL);
    return -1;
}

// A table that is gone since net_bridge_up() comes back with all forwards, these included. A client that was sending before
// the port was there is forwarded from here on.
static int forward_ports(struct net *net, const char *container_id, struct err *err) REQUIRES(net->lock)
{
    _cleanup_record_ports_ struct record_ports ports = { 0 };
    struct err failed = { 0 };
    if (record_ports(net->store, container_id, &ports, err) < 0)
        return -1;
    int result = nft_add_elements(&net->nft, &net->table, &ports, &failed);
    if (result < 0 && failed.class == ERR_NOT_FOUND)
        result = bridge_make_table(net, &failed);
    if (result < 0 && err)
        *err = failed;
    if (result == 0)
        conntrack_forget_ports(&net->nft, &ports);
    return result;
}

static void describe(const struct bridge *bridge, const struct record_endpoint *from, struct net_endpoint *out)
{
    *out = (struct net_endpoint){ .prefix = bridge->subnet.prefix, .netns_fd = -1 };
    snprintf(out->endpoint_id, sizeof(out->endpoint_id), "%s", from->endpoint_id);
    snprintf(out->interface, sizeof(out->interface), "%s", from->interface);
    if (!link_ipvlan_mode(bridge->parent_mode)) // else it is the host's card's
        mac_text(from->mac, out->mac);
    bool gateway = has_gateway(bridge) && !is_routed_card(bridge);
    if (from->address)
        address_text(from->address, out->address);
    if (from->address && gateway)
        address_text(bridge->subnet.route ? bridge->subnet.route : bridge->subnet.gateway, out->gateway);
    if (!from->address6)
        return;
    address6_text(from->address6, out->address6);
    out->prefix6 = bridge->subnet6.prefix;
    if (gateway)
        address6_text(bridge->subnet6.route ? bridge->subnet6.route : bridge->subnet6.gateway, out->gateway6);
}

// In the namespace of the calling thread, which is the room's.
static int make_tap(const struct attach *attach, int *tap_fd, struct err *err) REQUIRES(attach->net->lock)
{
    struct net *net = attach->net;
    struct link_info near;
    char name[IFNAMSIZ], alias[ALIAS_SIZE];
    if (attach->bridge.parent[0])
        return err_set(err, ERR_NOT_IMPLEMENTED, "network of the driver %s: not supported behind the VM wall yet",
                       link_ipvlan_mode(attach->bridge.parent_mode) ? "ipvlan" : "macvlan");
    if (!attach->bridge.index)
        return err_set(err, ERR_UNAVAILABLE, "network bridge %s is not up", attach->bridge.link);
    link_name(net, attach->endpoint.link_index, name);
    snprintf(alias, sizeof(alias), "berth %s %s", net->id, attach->wish->container_id);
    _cleanup_close_ int fd = tap_open(name, err);
    if (fd < 0 || link_switch_ipv6(name, false, err) < 0 || tap_join(&net->link, name, alias, attach->bridge.index, err) < 0 ||
        link_find(&net->link, name, &near, err) < 0 || settle_port(attach->net, &attach->bridge, near.index, err) < 0)
        return -1;
    *tap_fd = take_fd(&fd);
    return 0;
}

static int read_wish(const struct net_wish *wish, struct record_endpoint *out, struct err *err)
{
    struct in_addr in = { 0 };
    *out = (struct record_endpoint){ 0 };
    if (!str_empty(wish->address) && inet_pton(AF_INET, wish->address, &in) != 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid IPv4 address: %s", wish->address);
    out->address = str_empty(wish->address) ? 0 : ntohl(in.s_addr);
    if (!str_empty(wish->address6) && !address6_parse(wish->address6, &out->address6))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid IPv6 address: %s", wish->address6);
    if (!str_empty(wish->mac) && !mac_parse(wish->mac, out->mac))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid MAC address: %s", wish->mac);
    snprintf(out->network_id, sizeof(out->network_id), "%s", wish->network_id ? wish->network_id : "");
    snprintf(out->container_id, sizeof(out->container_id), "%s", wish->container_id);
    snprintf(out->endpoint_id, sizeof(out->endpoint_id), "%s",
             str_empty(wish->endpoint_id) ? wish->container_id : wish->endpoint_id);
    snprintf(out->interface, sizeof(out->interface), "%s", str_empty(wish->interface) ? "eth0" : wish->interface);
    return 0;
}

// The subnet can't change from here on: there is an endpoint in it.
static int make_record(struct attach *attach, struct err *err)
{
    struct net *net = attach->net;
    const struct net_wish *wish = attach->wish;
    if (read_wish(wish, &attach->endpoint, err) < 0)
        return -1;
    int result = 0;
    mutex_lock(&net->lock);
    if (!bridge_find(net, wish->network_id, &attach->bridge))
        result = err_set(err, ERR_NOT_FOUND, "network %s not found", wish->network_id);
    else if (link_ipvlan_mode(attach->bridge.parent_mode) && !str_empty(wish->mac))
        result = err_set(err, ERR_INTERNAL, "ipvlan interfaces do not support custom mac address assignment");
    else
        result = record_endpoint_add(net->store, &attach->bridge, &attach->endpoint, wish, err);
    mutex_unlock(&net->lock);
    return result;
}

static int connect_container(struct attach *attach, int *netns_fd, struct err *err)
{
    const struct net_wish *wish = attach->wish;
    _cleanup_close_ int fd = -1;
    int result = wish->netns_fd ? namespace_visit(*wish->netns_fd, fill_namespace, attach, err)
                                : namespace_make(fill_namespace, attach, &fd, err);
    if (result < 0)
        return -1;
    mutex_lock(&attach->net->lock);
    if (wish->port_len)
        result = forward_ports(attach->net, wish->container_id, err);
    mutex_unlock(&attach->net->lock);
    if (result == 0)
        *netns_fd = take_fd(&fd);
    return result;
}

static int connect_guest(struct attach *attach, int *tap_fd, struct err *err)
{
    _cleanup_close_ int fd = -1;
    mutex_lock(&attach->net->lock);
    int result = make_tap(attach, &fd, err);
    if (result == 0 && attach->wish->port_len)
        result = forward_ports(attach->net, attach->wish->container_id, err);
    mutex_unlock(&attach->net->lock);
    if (result == 0)
        *tap_fd = take_fd(&fd);
    return result;
}

// A record of a run that was cut off goes first.
static int attach_to(struct net *net, const struct net_wish *wish, struct net_endpoint *out, int *tap_fd, struct err *err)
{
    struct attach attach = { .net = net, .wish = wish };
    int netns_fd = -1;
    if (net_disconnect(net, wish->network_id, wish->container_id, err) < 0 || make_record(&attach, err) < 0)
        return -1;
    int result = tap_fd ? connect_guest(&attach, tap_fd, err) : connect_container(&attach, &netns_fd, err);
    if (result < 0) {
        net_disconnect(net, wish->network_id, wish->container_id, NULL);
        return -1;
    }
    describe(&attach.bridge, &attach.endpoint, out);
    out->netns_fd = netns_fd;
    return 0;
}

int net_attach(struct net *net, const struct net_wish *wish, struct net_endpoint *out, struct err *err)
{
    return attach_to(net, wish, out, NULL, err);
}

int net_attach_tap(struct net *net, const struct net_wish *wish, struct net_endpoint *out, int *tap_fd, struct err *err)
{
    return attach_to(net, wish, out, tap_fd, err);
}

int net_none(int *netns_fd, struct err *err)
{
    return namespace_make(NULL, NULL, netns_fd, err);
}

static int rejoin(struct net *net, const struct bridge *bridge, const struct record_endpoint *endpoint, struct err *err)
    REQUIRES(net->lock)
{
    struct link_info near;
    char name[IFNAMSIZ];
    link_name(net, endpoint->link_index, name);
    if (link_find(&net->link, name, &near, NULL) < 0)
        return 0; // its container is gone and its record goes with the next sweep
    if (link_set_master(&net->link, near.index, bridge->index, err) < 0)
        return -1;
    return settle_port(net, bridge, near.index, err);
}

int endpoint_rejoin(struct net *net, const struct bridge *bridge, struct err *err)
{
    _cleanup_record_endpoints_ struct record_endpoints endpoints = { 0 };
    int result = record_endpoints(net->store, bridge->id, NULL, &endpoints, err);
    for (size_t i = 0; i < endpoints.len && result >= 0; i++)
        result = rejoin(net, bridge, &endpoints.items[i], err);
    return result < 0 ? -1 : 0;
}

// ---- what a running container's endpoints are, and change to ---------------------------------------------------------

int net_endpoints(struct net *net, const char *container_id, net_endpoint_fn *fn, void *context, struct err *err)
{
    _cleanup_record_endpoints_ struct record_endpoints endpoints = { 0 };
    if (record_endpoints(net->store, NULL, container_id, &endpoints, err) < 0)
        return -1;
    for (size_t i = 0; i < endpoints.len; i++) {
        struct bridge bridge;
        struct net_endpoint endpoint;
        mutex_lock(&net->lock);
        bool found = bridge_find(net, endpoints.items[i].network_id, &bridge);
        mutex_unlock(&net->lock);
        if (!found)
            continue;
        describe(&bridge, &endpoints.items[i], &endpoint);
        fn(context, endpoints.items[i].network_id, &endpoint);
    }
    return 0;
}

static bool same_target(const struct record_port *a, const struct record_port *b)
{
    return a->target == b->target && a->target6 == b->target6;
}

static int take_elements(struct net *net, const char *container_id, struct err *err) REQUIRES(net->lock)
{
    _cleanup_record_ports_ struct record_ports ports = { 0 };
    if (record_ports(net->store, container_id, &ports, err) < 0 ||
        nft_remove_elements(&net->nft, &net->table, &ports, err) < 0)
        return -1;
    for (size_t i = 0; i < ports.len; i++)
        if (i == 0 || !same_target(&ports.items[i], &ports.items[i - 1]))
            conntrack_forget_target(&net->nft, ports.items[i].target, ports.items[i].target6);
    return 0;
}

static int move_ports(struct net *net, const char *container_id, const char *network_id, const char *network_id6, struct err *err)
    REQUIRES(net->lock)
{
    if (take_elements(net, container_id, err) < 0 || record_move_ports(net->store, container_id, network_id, network_id6, err) < 0)
        return -1;
    return forward_ports(net, container_id, err);
}

int net_move_ports(struct net *net, const char *container_id, const char *network_id, const char *network_id6, struct err *err)
{
    mutex_lock(&net->lock);
    int result = move_ports(net, container_id, network_id, network_id6, err);
    mutex_unlock(&net->lock);
    return result;
}

struct gateways {
    const struct net_way *four, *six;
};

static int add_way(struct link_socket *inside, int family, const struct net_way *way, struct err *err)
{
    struct in_addr in;
    number128 six;
    if (!str_empty(way->gateway) && family == AF_INET && inet_pton(AF_INET, way->gateway, &in) == 1)
        return link_add_default_route(inside, 0, ntohl(in.s_addr), err);
    if (!str_empty(way->gateway) && family == AF_INET6 && address6_parse(way->gateway, &six))
        return link_add_default_route6(inside, 0, six, err);
    return str_empty(way->interface) ? 0 : link_add_device_route(inside, family, (int)if_nametoindex(way->interface), err);
}

static int change_gateway(void *context, int netns_fd, struct err *err)
{
    const struct gateways *gateways = context;
    struct link_socket inside;
    if (link_open(&inside, err) < 0)
        return -1;
    int result = link_clear_default_route(&inside, AF_INET, err);
    if (result == 0)
        result = add_way(&inside, AF_INET, gateways->four, err);
    if (result == 0)
        result = link_clear_default_route(&inside, AF_INET6, err);
    if (result == 0)
        result = add_way(&inside, AF_INET6, gateways->six, err);
    link_close(&inside);
    return result;
}

int net_set_gateway(int netns_fd, const struct net_way *four, const struct net_way *six, struct err *err)
{
    return namespace_visit(netns_fd, change_gateway, &(struct gateways){ four, six }, err);
}

// ---- ending ---------------------------------------------------------------------------------------------------------

// The namespace may live on for a moment, or longer when somebody still holds it, and its address goes to the next
// container: so the near end is shut off now. Removing it would wait for the kernel (8 ms and more).
static void silence(struct net *net, int64_t link_index) REQUIRES(net->lock)
{
    struct link_info near;
    char name[IFNAMSIZ];
    link_name(net, link_index, name);
    if (link_find(&net->link, name, &near, NULL) == 0)
        link_block_port(&net->link, near.index, NULL); // fails only when the link just went
}

static int detach(struct net *net, const char *container_id, struct err *err) REQUIRES(net->lock)
{
    _cleanup_record_endpoints_ struct record_endpoints endpoints = { 0 };
    if (record_endpoints(net->store, NULL, container_id, &endpoints, err) < 0)
        return -1;
    if (endpoints.len == 0)
        return record_ports_remove(net->store, container_id, err);
    if (take_elements(net, container_id, err) < 0)
        return -1;
    for (size_t i = 0; i < endpoints.len; i++) {
        silence(net, endpoints.items[i].link_index);
        if (record_endpoint_remove(net->store, &endpoints.items[i], err) < 0)
            return -1;
    }
    return record_ports_remove(net->store, container_id, err);
}

int net_detach(struct net *net, const char *container_id, struct err *err)
{
    mutex_lock(&net->lock);
    int result = detach(net, container_id, err);
    mutex_unlock(&net->lock);
    return result < 0 ? err_wrap(err, "detach from the network") : 0;
}

static bool forwards_to(struct net *net, const struct record_endpoint *endpoint) REQUIRES(net->lock)
{
    _cleanup_record_ports_ struct record_ports ports = { 0 };
    record_ports(net->store, endpoint->container_id, &ports, NULL);
    for (size_t i = 0; i < ports.len; i++)
        if (ports.items[i].target == endpoint->address && ports.items[i].target6 == endpoint->address6)
            return true;
    return false;
}

static int disconnect(struct net *net, const char *network_id, const char *container_id, struct err *err) REQUIRES(net->lock)
{
    _cleanup_record_endpoints_ struct record_endpoints endpoints = { 0 };
    struct link_info near;
    char name[IFNAMSIZ], alias[ALIAS_SIZE];
    if (record_endpoints(net->store, network_id ? network_id : "", container_id, &endpoints, err) < 0)
        return -1;
    if (endpoints.len == 0)
        return 0;
    const struct record_endpoint *endpoint = &endpoints.items[0];
    if (forwards_to(net, endpoint) && move_ports(net, container_id, NULL, NULL, err) < 0)
        return -1;
    link_name(net, endpoint->link_index, name);
    snprintf(alias, sizeof(alias), "berth %s %s", net->id, container_id);
    // A stranger's link of that name stays untouched.
    if (link_find(&net->link, name, &near, NULL) == 0 && str_eq(near.alias, alias) &&
        link_delete(&net->link, near.index, err) < 0)
        return -1;
    return record_endpoint_remove(net->store, endpoint, err);
}

int net_disconnect(struct net *net, const char *network_id, const char *container_id, struct err *err)
{
    mutex_lock(&net->lock);
    int result = disconnect(net, network_id, container_id, err);
    mutex_unlock(&net->lock);
    return result;
}

int net_drop_interface(int netns_fd, const char *interface, struct err *err)
{
    return namespace_visit(netns_fd, drop_interface, (void *)interface, err);
}

int net_sweep(struct net *net, bool (*alive)(void *context, const char *container_id), void *context, struct err *err)
{
    _cleanup_strv_ struct strv ids = { 0 };
    int result = record_container_ids(net->store, &ids, err);
    for (size_t i = 0; i < ids.len && result >= 0; i++)
        if (!alive(context, ids.items[i]))
            result = net_detach(net, ids.items[i], err);
    return result < 0 ? -1 : 0;
}

// ---- counters -------------------------------------------------------------------------------------------------------

struct counting {
    const char *interface;
    struct net_counters *out;
};

static int read_counters(void *context, int netns_fd, struct err *err)
{
    const struct counting *counting = context;
    struct link_socket inside;
    if (link_open(&inside, err) < 0)
        return -1;
    int result = link_counters(&inside, counting->interface, counting->out, err);
    link_close(&inside);
    return result;
}

int net_counters(int netns_fd, const char *interface, struct net_counters *out, struct err *err)
{
    return namespace_visit(netns_fd, read_counters, &(struct counting){ interface, out }, err);
}
