// IPv6 on the default bridge: a subnet that the operator names, or one of the daemon's own, which stays the same for good.
#include <stdio.h>

#include "net_private.h"

// ---- subnets that are free -------------------------------------------------------------------------------------------

bool bridge_overlaps6(struct net *net, const struct subnet6 *subnet)
{
    const struct subnet6 *own = &net->wanted.subnet6;
    if (own->prefix && subnets6_overlap(subnet, own))
        return true;
    for (size_t i = 0; i < net->networks.len; i++)
        if (net->networks.items[i].subnet6.prefix && subnets6_overlap(subnet, &net->networks.items[i].subnet6))
            return true;
    return false;
}

int bridge_own_subnet6(struct net *net, struct subnet6 *out, struct err *err)
{
    for (unsigned number = 0; number <= UINT16_MAX; number++) {
        subnet6_own(net->id, number, out);
        if (!bridge_overlaps6(net, out))
            return 0;
    }
    return err_set(err, ERR_RESOURCE_EXHAUSTED, "could not find an available, non-overlapping IPv6 address pool among the defaults to assign to "
                                                "the network");
}

// ---- what the operator says -----------------------------------------------------------------------------------------

static int check_subnet(const char *option, const char *text, const struct subnet6 *subnet, struct err *err)
{
    struct subnet6 local = { .prefix = 64 };
    address6_parse("fe80::", &local.gateway);
    if (subnet->gateway >> 120 == 0xff)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: multicast subnet '%s' is not allowed", option, text);
    bool same = subnet->prefix == local.prefix && subnet6_contains(&local, subnet->gateway);
    return subnets6_overlap(&local, subnet) && !same
               ? err_set(err, ERR_INVALID_ARGUMENT, "%s: '%s' clashes with the Link-Local prefix 'fe80::/64'", option, text)
               : 0;
}

static int read_cidr(const char *option, const char *text, number128 *address, int *prefix, struct err *err)
{
    enum { PREFIX_MAX = 126 };
    if (!cidr6_parse(text, address, prefix))
        return err_set(err, ERR_INVALID_ARGUMENT, "parse %s failed: invalid CIDR address: %.100s", option, text);
    if (*prefix < 1 || *prefix > PREFIX_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: the prefix must be between 1 and %d", option, PREFIX_MAX);
    const struct subnet6 subnet = { .gateway = *address, .prefix = *prefix };
    return check_subnet(option, text, &subnet, err);
}

// The bridge's address and its prefix; prefix 0: nothing says it.
static int find_address(struct net *net, const struct net_config *config, struct subnet6 *out, struct err *err) REQUIRES(net->lock)
{
    struct link_info link;
    if (!str_empty(config->bip6)) {
        if (read_cidr("--bip6", config->bip6, &out->gateway, &out->prefix, err) < 0)
            return -1;
        return out->gateway != subnet6_network(out) ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "--bip6: %s is the network's own address", config->bip6);
    }
    if (net->foreign_bridge && link_find(&net->link, net->bridge, &link, err) < 0)
        return -1;
    if (net->foreign_bridge && link_address6(&net->link, link.index, out, out, err) < 0)
        return -1;
    if (out->prefix || !out->range_prefix)
        return 0;
    out->gateway = out->range_first + 1;
    out->prefix = out->range_prefix;
    return 0;
}

static int check_inside(const char *option, const struct subnet6 *subnet, number128 address, int prefix, struct err *err)
{
    char text[SUBNET6_TEXT_SIZE];
    subnet6_text(subnet->gateway, subnet->prefix, text);
    return prefix >= subnet->prefix && subnet6_contains(subnet, address)
               ? 0
               : err_set(err, ERR_INVALID_ARGUMENT, "%s lies outside of the default bridge's subnet, %s", option, text);
}

// The one that is recorded, if it is of our own ones and nobody has taken it meanwhile.
static int choose_own(struct net *net, struct subnet6 *out, struct err *err) REQUIRES(net->lock)
{
    _cleanup_free_ char *recorded = NULL;
    struct subnet6 before = { 0 }, own;
    if (record_setting(net->store, SETTING_SUBNET6, &recorded, err) < 0)
        return -1;
    subnet6_own(net->id, 0, &own);
    const struct subnet6 all = { .gateway = own.gateway, .prefix = 48 };
    if (recorded && cidr6_parse(recorded, &before.gateway, &before.prefix) && before.prefix == own.prefix &&
        subnet6_contains(&all, before.gateway) && !bridge_overlaps6(net, &before)) {
        *out = before;
        return 0;
    }
    return bridge_own_subnet6(net, out, err);
}

int bridge_settle_ipv6(struct net *net, const struct net_config *config, struct err *err)
{
    struct subnet6 six = { 0 };
    if (net->foreign_bridge && !str_empty(config->bip6))
        return err_set(err, ERR_INVALID_ARGUMENT, "You specified -b & --bip6, mutually exclusive options. Please specify only one.");
    if (!str_empty(config->fixed_cidr6) && read_cidr("--fixed-cidr-v6", config->fixed_cidr6, &six.range_first, &six.range_prefix, err) < 0)
        return -1;
    const struct subnet6 range = { .gateway = six.range_first, .prefix = six.range_prefix };
    six.range_first = subnet6_network(&range);
    if (!str_empty(config->gateway6) && !address6_parse(config->gateway6, &six.route))
        return err_set(err, ERR_INVALID_ARGUMENT, "--default-gateway-v6: invalid IPv6 address: %.100s", config->gateway6);
    if (!config->ipv6 || net->no_bridge)
        return 0;
    if (find_address(net, config, &six, err) < 0)
        return -1;
    if (six.prefix && bridge_overlaps6(net, &six))
        return err_set(err, ERR_PERMISSION_DENIED, "invalid pool request: Pool overlaps with other one on this address space");
    if (!six.prefix && choose_own(net, &six, err) < 0)
        return -1;
    if (six.range_prefix && check_inside("--fixed-cidr-v6", &six, six.range_first, six.range_prefix, err) < 0)
        return -1;
    if (six.route && check_inside("--default-gateway-v6", &six, six.route, 128, err) < 0)
        return -1;
    net->wanted.subnet6 = six;
    return 0;
}

// ---- its record -----------------------------------------------------------------------------------------------------

static int check_attached(struct net *net, struct err *err) REQUIRES(net->lock)
{
    const struct subnet6 *six = &net->wanted.subnet6;
    _cleanup_record_endpoints_ struct record_endpoints endpoints = { 0 };
    if (record_endpoints(net->store, "", NULL, &endpoints, err) < 0)
        return -1;
    for (size_t i = 0; i < endpoints.len; i++)
        if (endpoints.items[i].address6 && (!six->prefix || !subnet6_contains(six, endpoints.items[i].address6)))
            return err_set(err, ERR_CONFLICT, "the bridge's IPv6 subnet can't change while containers are attached to it");
    return 0;
}

int bridge_record_ipv6(struct net *net, struct err *err)
{
    _cleanup_free_ char *before = NULL;
    char text[SUBNET6_TEXT_SIZE] = "";
    if (net->subnet6_recorded)
        return 0;
    if (net->wanted.subnet6.prefix)
        subnet6_text(net->wanted.subnet6.gateway, net->wanted.subnet6.prefix, text);
    if (record_setting(net->store, SETTING_SUBNET6, &before, err) < 0)
        return -1;
    bool same = str_eq(before ? before : "", text);
    if (!same && (check_attached(net, err) < 0 || record_set(net->store, SETTING_SUBNET6, text[0] ? text : NULL, err) < 0))
        return -1;
    net->subnet6_recorded = true;
    return before && !same;
}
