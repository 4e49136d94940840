// Clients' networks: bridges that come and go.
//
// A network's record is the truth; its link and its elements of the table are made when it is created, and found again or made
// anew when a container needs it (after the host started anew, or a stranger took them away).
#include <arpa/inet.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/slice.h"
#include "net_private.h"

enum { PREFIX_MAX = 30, MTU_MIN = 68, MTU_MAX = 65535 };

// ---- what is wanted -------------------------------------------------------------------------------------------------

static int check_overlap(struct net *net, const struct subnet *subnet, struct err *err) REQUIRES(net->lock)
{
    bool taken = net->subnet_recorded && subnets_overlap(subnet, &net->subnet);
    for (size_t i = 0; i < net->networks.len && !taken; i++)
        taken = net->networks.items[i].subnet.gateway && subnets_overlap(subnet, &net->networks.items[i].subnet);
    return taken ? err_set(err, ERR_PERMISSION_DENIED, "invalid pool request: Pool overlaps with other one on this address space")
                 : 0;
}

static int read_gateway(const char *text, struct subnet *out, struct err *err)
{
    struct in_addr in;
    if (str_empty(text)) {
        uint32_t first = out->range_prefix ? MAX_OF(out->range_first, out->gateway) : out->gateway;
        out->gateway = first & ~subnet_mask(out->prefix) ? first : first + 1;
        return 0;
    }
    if (inet_pton(AF_INET, text, &in) != 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid gateway %s: invalid address", text);
    out->gateway = ntohl(in.s_addr);
    return 0;
}

static int read_subnet(const struct net_network *wanted, struct subnet *out, struct err *err)
{
    *out = (struct subnet){ 0 };
    if (network_parse(wanted->subnet, &out->gateway, &out->prefix, err) < 0)
        return -1;
    if (out->prefix == 0 || out->prefix > PREFIX_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid subnet %s: a bridge needs a prefix from 1 to %d", wanted->subnet,
                       PREFIX_MAX);
    if (!str_empty(wanted->ip_range) && network_parse(wanted->ip_range, &out->range_first, &out->range_prefix, err) < 0)
        return -1;
    const struct subnet subnet = *out;
    if (out->range_prefix && (out->range_prefix < out->prefix || !subnet_contains(&subnet, out->range_first)))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid ip-range %s: parent subnet %s doesn't contain ip-range", wanted->ip_range,
                       wanted->subnet);
    if (read_gateway(wanted->gateway, out, err) < 0)
        return -1;
    return subnet_contains(&subnet, out->gateway) ? 0
                                                  : err_set(err, ERR_INVALID_ARGUMENT,
                                                            "invalid gateway %s: parent subnet %s doesn't contain this address",
                                                            wanted->gateway, wanted->subnet);
}

static int settle_ipv6(struct net *net, const struct net_network *wanted, struct subnet6 *out, struct err *err) REQUIRES(net->lock)
{
    if (str_empty(wanted->subnet6))
        return bridge_own_subnet6(net, out, err);
    if (subnet6_read(wanted, out, err) < 0)
        return -1;
    return bridge_overlaps6(net, out) ? err_set(err, ERR_PERMISSION_DENIED, "invalid pool request: Pool overlaps with other one on this address space") : 0;
}

static void own_link_name(const struct net *net, const char *network_id, char out[IFNAMSIZ])
{
    snprintf(out, IFNAMSIZ, "b%.4s-%.9s", net->id, network_id);
}

static int settle_parent(const struct net_network *wanted, struct bridge *out, struct err *err)
{
    const char *mode = str_empty(wanted->parent_mode) ? "bridge" : wanted->parent_mode;
    if (str_empty(wanted->parent))
        return 0;
    if (strlen(wanted->parent) >= sizeof(out->parent))
        return err_set(err, ERR_INVALID_ARGUMENT, "parent %.64s: the host has no such link", wanted->parent);
    if (!link_ipvlan_mode(mode) && !link_macvlan_mode(mode))
        return err_set(err, ERR_INVALID_ARGUMENT, "there is no mode %.64s of a card", mode);
    snprintf(out->parent, sizeof(out->parent), "%s", wanted->parent);
    snprintf(out->parent_mode, sizeof(out->parent_mode), "%s", mode);
    if (str_starts(mode, "l3")) // nobody needs a gateway there
        out->flags |= BRIDGE_NO_ADDRESS | BRIDGE_NO_ADDRESS6;
    return 0;
}

// Names that need not be there yet.
static int settle_trusted(const char *trusted, struct bridge *out, struct err *err)
{
    struct slice rest = slice_of(trusted ? trusted : ""), name;
    if (rest.size >= sizeof(out->trusted))
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %zu bytes of trusted host interfaces", sizeof(out->trusted) - 1);
    if (rest.size && rest.data[rest.size - 1] == ':')
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid trusted host interface name: \"\"");
    while (rest.size && slice_cut(&rest, ':', &name)) {
        _cleanup_free_ char *text = mem_strndup(name.data, name.size);
        if (!name.size || name.size >= IFNAMSIZ || strpbrk(text, "/ \t\n\"*") || text[0] == '.')
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid trusted host interface name: \"%.100s\"", text);
    }
    snprintf(out->trusted, sizeof(out->trusted), "%s", trusted ? trusted : "");
    return 0;
}

static unsigned mode_flags(const struct net_network *wanted)
{
    static const unsigned four[] = { [NET_GATEWAY_UNPROTECTED] = BRIDGE_UNPROTECTED, [NET_GATEWAY_ROUTED] = BRIDGE_ROUTED,
                                     [NET_GATEWAY_ISOLATED] = BRIDGE_NO_ADDRESS };
    static const unsigned six[] = { [NET_GATEWAY_UNPROTECTED] = BRIDGE_UNPROTECTED6, [NET_GATEWAY_ROUTED] = BRIDGE_ROUTED6,
                                    [NET_GATEWAY_ISOLATED] = BRIDGE_NO_ADDRESS6 };
    return four[wanted->gateway_mode] | six[wanted->gateway_mode6];
}

// A bridge without an address takes none of the subnet's, unless the client names a gateway.
static void drop_address(const struct net_network *wanted, struct bridge *bridge)
{
    if (bridge->flags & BRIDGE_NO_ADDRESS && str_empty(wanted->gateway))
        bridge->subnet.gateway &= subnet_mask(bridge->subnet.prefix);
    if (bridge->flags & BRIDGE_NO_ADDRESS6 && str_empty(wanted->gateway6))
        bridge->subnet6.gateway = subnet6_network(&bridge->subnet6);
}

static int settle(struct net *net, const struct net_network *wanted, struct bridge *out, struct err *err) REQUIRES(net->lock)
{
    *out = (struct bridge){ .mtu = (int)wanted->mtu,
                            .flags = (wanted->internal ? BRIDGE_INTERNAL : 0) | (wanted->isolated ? BRIDGE_ISOLATED : 0) |
                                     (wanted->no_masquerade ? BRIDGE_NO_MASQUERADE : 0) | (wanted->bare ? BRIDGE_BARE : 0) | mode_flags(wanted) };
    snprintf(out->id, sizeof(out->id), "%s", wanted->id);
    if (wanted->mtu && (wanted->mtu < MTU_MIN || wanted->mtu > MTU_MAX))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid MTU number: %lld", (long long)wanted->mtu);
    if (wanted->no_ipv4 && !wanted->ipv6)
        return err_set(err, ERR_INVALID_ARGUMENT, "IPv4 or IPv6 must be enabled");
    if (settle_parent(wanted, out, err) < 0 || settle_trusted(wanted->trusted, out, err) < 0)
        return -1;
    if (str_empty(wanted->link))
        own_link_name(net, wanted->id, out->link);
    else if (strlen(wanted->link) >= IFNAMSIZ || strpbrk(wanted->link, "/ \t\n\"") || wanted->link[0] == '.')
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid bridge name: %s", wanted->link);
    else
        snprintf(out->link, sizeof(out->link), "%s", wanted->link);
    if (wanted->ipv6 && settle_ipv6(net, wanted, &out->subnet6, err) < 0)
        return -1;
    if (wanted->no_ipv4)
        return 0;
    // The default bridge keeps the one that it would most likely get.
    if (str_empty(wanted->subnet))
        return bridge_choose_subnet(net, &net->subnet, &out->subnet, err);
    return read_subnet(wanted, &out->subnet, err) < 0 ? -1 : check_overlap(net, &out->subnet, err);
}

// ---- making and removing --------------------------------------------------------------------------------------------

static struct bridge *listed(struct net *net, const char *id) REQUIRES(net->lock)
{
    for (size_t i = 0; i < net->networks.len; i++)
        if (str_eq(net->networks.items[i].id, id))
            return &net->networks.items[i];
    return NULL;
}

static void enlist(struct net *net, const struct bridge *bridge) REQUIRES(net->lock)
{
    struct record_bridges *list = &net->networks;
    list->items = mem_grow(list->items, (list->len + 1) * sizeof(*list->items));
    list->items[list->len++] = *bridge;
}

static void delist(struct net *net, const char *id) REQUIRES(net->lock)
{
    struct bridge *found = listed(net, id);
    if (found)
        *found = net->networks.items[--net->networks.len];
}

// One without an alias is ours by its name alone: its making was cut off between the two. A client's name proves nothing.
static bool is_own_link(const struct net *net, const struct bridge *bridge, const struct link_info *link)
{
    char alias[ALIAS_SIZE], name[IFNAMSIZ];
    snprintf(alias, sizeof(alias), "berth %s %s bridge", net->id, bridge->id);
    own_link_name(net, bridge->id, name);
    return str_eq(link->alias, alias) || (!link->alias[0] && str_eq(bridge->link, name));
}

static int remove_network(struct net *net, const char *id, struct err *err) REQUIRES(net->lock)
{
    struct bridge bridge;
    struct link_info link;
    if (!bridge_find(net, id, &bridge))
        return 0;
    int endpoints = record_endpoint_count(net->store, id, err);
    if (endpoints != 0)
        return endpoints < 0 ? -1 : err_set(err, ERR_CONFLICT, "containers are attached to it");
    if (link_find(&net->link, bridge.link, &link, NULL) == 0 && is_own_link(net, &bridge, &link) &&
        link_delete(&net->link, link.index, err) < 0)
        return -1;
    if (bridge.parent[0] && parent_remove(net, &bridge, err) < 0)
        return -1;
    delist(net, id);
    if (record_bridge_remove(net->store, id, err) < 0)
        return -1;
    return net->table_made ? bridge_make_table(net, err) : 0;
}

// A stranger's link of that name stays untouched, and is found before anything is recorded.
static int create_network(struct net *net, const struct net_network *wanted, struct err *err) REQUIRES(net->lock)
{
    struct bridge bridge;
    struct link_info link;
    _cleanup_close_ _unused_ int choice = bridge_choice_begin();
    if (settle(net, wanted, &bridge, err) < 0)
        return -1;
    drop_address(wanted, &bridge);
    if (link_find(&net->link, bridge.link, &link, NULL) == 0)
        return err_set(err, ERR_CONFLICT, "there is a link %s already", bridge.link);
    if (record_bridge_add(net->store, &bridge, wanted->reserved, err) < 0)
        return -1;
    enlist(net, &bridge);
    bool card = bridge.parent[0];
    if (card ? parent_make(net, &bridge, err) < 0
             : bridge_ensure_link(net, listed(net, wanted->id), err) < 0 || bridge_ensure_rules(net, true, err) < 0) {
        remove_network(net, wanted->id, NULL);
        return -1;
    }
    return 0;
}

int net_network_create(struct net *net, const struct net_network *wanted, struct net_bridge_info *out, struct err *err)
{
    mutex_lock(&net->lock);
    int result = create_network(net, wanted, err);
    mutex_unlock(&net->lock);
    if (result == 0)
        net_network_info(net, wanted->id, out);
    return result;
}

int net_network_remove(struct net *net, const char *id, struct err *err)
{
    mutex_lock(&net->lock);
    int result = remove_network(net, id, err);
    mutex_unlock(&net->lock);
    return result;
}

static void list_ids(struct net *net, struct strv *out)
{
    mutex_lock(&net->lock);
    for (size_t i = 0; i < net->networks.len; i++)
        strv_add(out, net->networks.items[i].id);
    mutex_unlock(&net->lock);
}

// Nobody has a name for it, so nobody could take a container off it.
static int detach_all(struct net *net, const char *id, struct err *err)
{
    _cleanup_record_endpoints_ struct record_endpoints endpoints = { 0 };
    int result = record_endpoints(net->store, id, NULL, &endpoints, err);
    for (size_t i = 0; i < endpoints.len && result >= 0; i++)
        result = net_disconnect(net, id, endpoints.items[i].container_id, err);
    return result < 0 ? -1 : 0;
}

int net_sweep_networks(struct net *net, bool (*known)(void *context, const char *id), void *context, struct err *err)
{
    _cleanup_strv_ struct strv ids = { 0 };
    int result = 0;
    list_ids(net, &ids);
    for (size_t i = 0; i < ids.len && result == 0; i++)
        if (!known(context, ids.items[i]))
            result = detach_all(net, ids.items[i], err) < 0 ? -1 : net_network_remove(net, ids.items[i], err);
    return result;
}

static int bring_up(struct net *net, const char *id, struct err *err) REQUIRES(net->lock)
{
    struct bridge *bridge = listed(net, id);
    if (!bridge)
        return err_set(err, ERR_NOT_FOUND, "network %s not found", id);
    if (bridge->parent[0])
        return parent_up(net, bridge, err);
    int made = bridge_ensure_link(net, bridge, err);
    if (made < 0 || (made && endpoint_rejoin(net, bridge, err) < 0))
        return -1;
    return bridge_ensure_rules(net, made, err);
}

int net_network_up(struct net *net, const char *id, struct err *err)
{
    if (str_empty(id))
        return net_bridge_up(net, err);
    mutex_lock(&net->lock);
    int result = bring_up(net, id, err);
    mutex_unlock(&net->lock);
    return result;
}

bool net_network_info(struct net *net, const char *id, struct net_bridge_info *out)
{
    struct bridge bridge;
    char network[INET_ADDRSTRLEN];
    mutex_lock(&net->lock);
    bool found = bridge_find(net, id, &bridge);
    mutex_unlock(&net->lock);
    if (!found)
        return false;
    *out = (struct net_bridge_info){ .prefix = bridge.subnet.prefix };
    snprintf(out->name, sizeof(out->name), "%s", bridge.link);
    if (bridge.subnet6.prefix) {
        if (bridge.subnet6.gateway != subnet6_network(&bridge.subnet6))
            address6_text(bridge.subnet6.gateway, out->gateway6);
        subnet6_text(subnet6_network(&bridge.subnet6), bridge.subnet6.prefix, out->subnet6);
        if (bridge.subnet6.route)
            address6_text(bridge.subnet6.route, out->route6);
        if (bridge.subnet6.range_prefix)
            subnet6_text(bridge.subnet6.range_first, bridge.subnet6.range_prefix, out->range6);
    }
    if (!bridge.subnet.gateway)
        return true;
    const uint32_t base = bridge.subnet.gateway & subnet_mask(bridge.subnet.prefix);
    if (bridge.subnet.gateway != base)
        address_text(bridge.subnet.gateway, out->gateway);
    address_text(base, network);
    snprintf(out->subnet, sizeof(out->subnet), "%s/%d", network, bridge.subnet.prefix);
    if (bridge.subnet.route)
        address_text(bridge.subnet.route, out->route);
    if (bridge.subnet.range_prefix) {
        address_text(bridge.subnet.range_first, network);
        snprintf(out->range, sizeof(out->range), "%s/%d", network, bridge.subnet.range_prefix);
    }
    return true;
}
