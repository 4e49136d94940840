// Opening and closing the room.
#include <arpa/inet.h>
#include <stdio.h>

#include "base/num.h"
#include "net_private.h"

enum { LOCK_RANK = 8 }; // just below the store's
enum { POOL_SIZE_MIN = 8, POOL_SIZE_MAX = 30 };

static void name_objects(struct net *net, const char *daemon_id)
{
    snprintf(net->id, sizeof(net->id), "%s", daemon_id);
    snprintf(net->bridge, sizeof(net->bridge), "b%.4s0", daemon_id);
    snprintf(net->table.name, sizeof(net->table.name), "berth_%s", daemon_id);
}

// What stands in the file and on the command line of the default bridge, but for what its subnet has to say to it.
static int take_bridge(struct net *net, const struct net_config *config, struct err *err)
{
    enum { MTU_MIN = 68, MTU_MAX = 65535 };
    struct bridge *wanted = &net->wanted;
    struct in_addr in = { 0 };
    *wanted = (struct bridge){ .mtu = (int)config->mtu,
                               .flags = (config->isolated ? BRIDGE_ISOLATED : 0) | (config->no_masquerade ? BRIDGE_NO_MASQUERADE : 0) };
    net->no_bridge = config->bridge && str_eq(config->bridge, "none");
    net->foreign_bridge = config->bridge && *config->bridge && !net->no_bridge;
    net->no_forward = config->no_forward;
    net->table.none = config->no_rules;
    net->table.none6 = config->no_rules6;
    net->table.local = config->no_proxy;
    net->table.direct = config->direct_routing;
    net->table.mark = config->mark;
    net->table.mark_mask = config->mark_mask;
    if (net->foreign_bridge && config->bip)
        return err_set(err, ERR_INVALID_ARGUMENT, "You specified -b & --bip, mutually exclusive options. Please specify only one.");
    if (net->foreign_bridge && strlen(config->bridge) >= IFNAMSIZ)
        return err_set(err, ERR_INVALID_ARGUMENT, "--bridge: %.100s is no name of a link", config->bridge);
    if (net->foreign_bridge)
        snprintf(net->bridge, sizeof(net->bridge), "%s", config->bridge);
    if (config->mtu && (config->mtu < MTU_MIN || config->mtu > MTU_MAX))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid MTU number: %lld", (long long)config->mtu);
    if (!str_empty(config->fixed_cidr) && network_parse(config->fixed_cidr, &wanted->subnet.range_first, &wanted->subnet.range_prefix, err) < 0)
        return err_wrap(err, "parse --fixed-cidr failed");
    if (!str_empty(config->gateway) && inet_pton(AF_INET, config->gateway, &in) != 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "--default-gateway: invalid IPv4 address: %.100s", config->gateway);
    wanted->subnet.route = str_empty(config->gateway) ? 0 : ntohl(in.s_addr);
    return 0;
}

// Somebody else's bridge: its address says the subnet. It has to be there.
static int look_at_bridge(struct net *net, struct err *err) REQUIRES(net->lock)
{
    struct link_info link;
    struct err failed = { 0 };
    if (!net->foreign_bridge)
        return 0;
    if (link_find(&net->link, net->bridge, &link, &failed) < 0)
        return failed.class == ERR_NOT_FOUND ? bridge_missing(net->bridge, err) : err_set(err, failed.class, "%s", failed.message);
    return link_address(&net->link, link.index, &net->wanted.subnet, &net->bip, err) < 0 ? -1 : 0;
}

// A range that lies in no subnet that is known becomes the subnet.
static int settle_range(struct net *net, struct err *err) REQUIRES(net->lock)
{
    const struct subnet *range = &net->wanted.subnet, *known = net->bip.gateway ? &net->bip : &net->subnet;
    char text[INET_ADDRSTRLEN];
    bool inside = known->gateway && range->range_prefix >= known->prefix && subnet_contains(known, range->range_first);
    if (range->range_prefix && !inside && net->bip.gateway) {
        address_text(net->bip.gateway, text);
        return err_set(err, ERR_INVALID_ARGUMENT, "--fixed-cidr lies outside of the default bridge's subnet, %s/%d", text, net->bip.prefix);
    }
    if (range->range_prefix && !inside)
        net->bip = (struct subnet){ .gateway = range->range_first + 1, .prefix = range->range_prefix };
    if (net->bip.gateway && (net->bip.prefix < POOL_SIZE_MIN || net->bip.prefix > POOL_SIZE_MAX))
        return err_set(err, ERR_INVALID_ARGUMENT, "--fixed-cidr: the prefix must be between %d and %d", POOL_SIZE_MIN, POOL_SIZE_MAX);
    if (range->route && net->bip.gateway && !subnet_contains(&net->bip, range->route)) {
        address_text(net->bip.gateway, text);
        return err_set(err, ERR_INVALID_ARGUMENT, "--default-gateway lies outside of the default bridge's subnet, %s/%d", text, net->bip.prefix);
    }
    return 0;
}

// The recorded subnet, else the configured one, else a first guess that net_bridge_up() checks again: two daemons that
// start together would guess the same.
static int load_subnet(struct net *net, struct err *err) REQUIRES(net->lock)
{
    _cleanup_free_ char *recorded = NULL;
    if (record_setting(net->store, SETTING_SUBNET, &recorded, err) < 0)
        return -1;
    net->subnet_recorded = recorded;
    if (recorded && subnet_parse(recorded, &net->subnet, err) < 0)
        return -1;
    if (settle_range(net, err) < 0)
        return -1;
    if (recorded)
        return 0;
    net->subnet = net->bip;
    if (!net->bip.gateway)
        bridge_choose_subnet(net, NULL, &net->subnet, NULL);
    return 0;
}

static int take_pools(struct net *net, const struct net_config *config, struct err *err)
{
    net->pools = mem_alloc((config->pool_len + 1) * sizeof(*net->pools));
    net->pool_len = config->pool_len;
    for (size_t i = 0; i < config->pool_len; i++) {
        uint32_t base;
        int prefix;
        net->pools[i] = config->pools[i];
        if (network_parse(config->pools[i].base, &base, &prefix, NULL) < 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid base pool \"%s\"", config->pools[i].base);
        if (config->pools[i].size < prefix || config->pools[i].size > POOL_SIZE_MAX || config->pools[i].size < POOL_SIZE_MIN)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid pool size %d for the base %s", config->pools[i].size,
                           config->pools[i].base);
    }
    return 0;
}

static int prepare(struct net *net, const struct net_config *config, struct err *err)
{
    if (strlen(config->daemon_id) != 8 || !hex_valid(slice_of(config->daemon_id)))
        return err_set(err, ERR_INVALID_ARGUMENT, "daemon id \"%s\": 8 hex digits expected", config->daemon_id);
    name_objects(net, config->daemon_id);
    if (take_pools(net, config, err) < 0 || take_bridge(net, config, err) < 0 || (config->bip && subnet_parse(config->bip, &net->bip, err) < 0) ||
        record_migrate(net->store, err) < 0)
        return -1;
    mutex_lock(&net->lock);
    int result = link_open(&net->link, err) < 0 || nft_open(&net->nft, err) < 0 ||
                         record_bridges(net->store, &net->networks, err) < 0 || look_at_bridge(net, err) < 0 ||
                         bridge_settle_ipv6(net, config, err) < 0
                     ? -1
                     : load_subnet(net, err);
    mutex_unlock(&net->lock);
    return result;
}

int net_open(struct store *store, const struct net_config *config, struct net **out, struct err *err)
{
    struct net *net = mem_new(struct net);
    mutex_init(&net->lock, LOCK_RANK);
    net->store = store;
    net->ip_forward_file = mem_strdup(config->ip_forward_file ? config->ip_forward_file : "/proc/sys/net/ipv4/ip_forward");
    net->ip6_forward_file = mem_strdup(config->ip6_forward_file ? config->ip6_forward_file : "/proc/sys/net/ipv6/conf/all/forwarding");
    if (prepare(net, config, err) < 0) {
        net_close(net);
        return err_wrap(err, "open the network");
    }
    *out = net;
    return 0;
}

void net_close(struct net *net)
{
    if (!net)
        return;
    mutex_lock(&net->lock);
    link_close(&net->link);
    nft_close(&net->nft);
    free(net->foreign_line);
    free(net->networks.items);
    mutex_unlock(&net->lock);
    mutex_done(&net->lock);
    free(net->ip_forward_file);
    free(net->ip6_forward_file);
    free(net->pools);
    free(net);
}
