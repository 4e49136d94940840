// What the options of a network say, driver by driver.
#include <arpa/inet.h>

#include "networks.h"

#define MODE_OPTION BRIDGE_OPTION "gateway_mode_ipv4"
#define MODE6_OPTION BRIDGE_OPTION "gateway_mode_ipv6"

int network_flag(const struct kvs *options, const char *key, bool fallback, bool *out, struct err *err)
{
    static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True" }, *const no[] = { "0", "f", "F", "false", "FALSE", "False" };
    const char *text = kvs_get(options, key);
    *out = fallback;
    for (size_t i = 0; text && i < ARRAY_LEN(yes); i++)
        if (str_eq(text, yes[i]) || str_eq(text, no[i])) {
            *out = str_eq(text, yes[i]);
            return 0;
        }
    return text ? err_set(err, ERR_INVALID_ARGUMENT, "failed to parse %s value: \"%.100s\"", key, text) : 0;
}

static int parse_mtu(const struct kvs *options, struct net_network *out, struct err *err)
{
    const char *mtu = kvs_get(options, MTU_OPTION);
    if (mtu && !num_parse_i64(slice_of(mtu), &out->mtu))
        return err_set(err, ERR_INVALID_ARGUMENT, "failed to parse %s value: \"%.100s\"", MTU_OPTION, mtu);
    return 0;
}

static bool is_one_of(const char *key, const char *const *known, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (str_eq(key, known[i]))
            return true;
    return false;
}

static int check_known(const struct kvs *options, const char *const *known, size_t len, struct err *err)
{
    for (size_t i = 0; i < options->len; i++)
        if (!is_one_of(options->items[i].key, known, len))
            return err_set(err, ERR_NOT_IMPLEMENTED, "Options.%.200s: not supported yet", options->items[i].key);
    return 0;
}

// ---- cards on a link of the host's ----------------------------------------------------------------------------------

// Without a parent a dummy link takes its place, and then nothing leads out.
static int parse_parent(const struct engine_network *network, const struct kvs *options, struct arena *arena, struct net_network *out, struct err *err)
{
    out->parent = kvs_get(options, "parent");
    if (str_eq(out->parent, "lo"))
        return err_set(err, ERR_INTERNAL, "loopback interface is not a valid %s parent link", network->driver);
    if (!str_empty(out->parent))
        return 0;
    out->parent = arena_printf(arena, "%s%.12s", str_eq(network->driver, "ipvlan") ? "di-" : "dm-", network->id);
    out->internal = true;
    return 0;
}

static int parse_macvlan(const struct engine_network *network, const struct kvs *options, struct arena *arena, struct net_network *out, struct err *err)
{
    static const char *const known[] = { "parent", "macvlan_mode", MTU_OPTION, IPV4_OPTION, IPV6_OPTION };
    static const char *const modes[] = { "bridge", "private", "vepa", "passthru" };
    const char *mode = kvs_get(options, "macvlan_mode");
    if (check_known(options, known, ARRAY_LEN(known), err) < 0)
        return -1;
    if (!str_empty(mode) && !is_one_of(mode, modes, ARRAY_LEN(modes)))
        return err_set(err, ERR_INTERNAL, "requested macvlan mode '%.64s' is not valid, 'bridge' mode is the macvlan driver default", mode);
    out->parent_mode = mode;
    return parse_parent(network, options, arena, out, err) < 0 ? -1 : parse_mtu(options, out, err);
}

static int parse_ipvlan(const struct engine_network *network, const struct kvs *options, struct arena *arena, struct net_network *out, struct err *err)
{
    static const char *const known[] = { "parent", "ipvlan_mode", "ipvlan_flag", MTU_OPTION, IPV4_OPTION, IPV6_OPTION };
    static const char *const modes[] = { "l2", "l3", "l3s" }, *const flags[] = { "bridge", "private", "vepa" };
    const char *mode = kvs_get(options, "ipvlan_mode"), *flag = kvs_get(options, "ipvlan_flag");
    if (check_known(options, known, ARRAY_LEN(known), err) < 0)
        return -1;
    if (!str_empty(mode) && !is_one_of(mode, modes, ARRAY_LEN(modes)))
        return err_set(err, ERR_INTERNAL, "requested ipvlan mode '%.64s' is not valid, 'l2' mode is the ipvlan driver default", mode);
    if (!str_empty(flag) && !is_one_of(flag, flags, ARRAY_LEN(flags)))
        return err_set(err, ERR_INTERNAL, "requested ipvlan flag '%.64s' is not valid, 'bridge' is the ipvlan driver default", flag);
    bool plain = str_empty(flag) || str_eq(flag, "bridge");
    out->parent_mode = arena_printf(arena, "%s%s%s", str_empty(mode) ? "l2" : mode, plain ? "" : "/", plain ? "" : flag);
    return parse_parent(network, options, arena, out, err) < 0 ? -1 : parse_mtu(options, out, err);
}

bool network_is_routed_card(const struct kvs *options)
{
    const char *mode = kvs_get(options, "ipvlan_mode");
    return mode && str_starts(mode, "l3") && !str_empty(kvs_get(options, "parent"));
}

// ---- bridges --------------------------------------------------------------------------------------------------------

int network_gateway_mode(const struct kvs *options, bool ipv6, enum net_gateway_mode *out, struct err *err)
{
    static const char *const words[] = { [NET_GATEWAY_NAT] = "nat", [NET_GATEWAY_UNPROTECTED] = "nat-unprotected",
                                         [NET_GATEWAY_ROUTED] = "routed", [NET_GATEWAY_ISOLATED] = "isolated" };
    const char *key = ipv6 ? MODE6_OPTION : MODE_OPTION, *text = kvs_get(options, key);
    *out = NET_GATEWAY_NAT;
    for (size_t i = 0; text && i < ARRAY_LEN(words); i++)
        if (str_eq(text, words[i])) {
            *out = (enum net_gateway_mode)i;
            return 0;
        }
    return text ? err_set(err, ERR_INVALID_ARGUMENT, "failed to parse %s value: %.100s (unknown gateway mode %.100s)", key, text, text) : 0;
}

static int parse_bridge(const struct kvs *options, struct net_network *out, struct err *err)
{
    static const char *const known[] = { BRIDGE_OPTION "name", BRIDGE_OPTION "enable_icc", BRIDGE_OPTION "enable_ip_masquerade",
                                         BRIDGE_OPTION "host_binding_ipv4", MTU_OPTION, IPV4_OPTION, IPV6_OPTION, MODE_OPTION, MODE6_OPTION,
                                         BRIDGE_OPTION "inhibit_ipv4", BRIDGE_OPTION "trusted_host_interfaces" };
    const char *binding = kvs_get(options, BRIDGE_OPTION "host_binding_ipv4");
    struct in_addr in;
    bool icc, masquerade;
    if (check_known(options, known, ARRAY_LEN(known), err) < 0)
        return -1;
    if (network_flag(options, BRIDGE_OPTION "enable_icc", true, &icc, err) < 0 ||
        network_flag(options, BRIDGE_OPTION "enable_ip_masquerade", true, &masquerade, err) < 0 ||
        network_flag(options, BRIDGE_OPTION "inhibit_ipv4", false, &out->bare, err) < 0)
        return -1;
    if (binding && inet_pton(AF_INET, binding, &in) != 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "failed to parse %s value: \"%.100s\"", BRIDGE_OPTION "host_binding_ipv4", binding);
    if (parse_mtu(options, out, err) < 0 || network_gateway_mode(options, false, &out->gateway_mode, err) < 0 ||
        network_gateway_mode(options, true, &out->gateway_mode6, err) < 0)
        return -1;
    if (!out->internal && (out->gateway_mode == NET_GATEWAY_ISOLATED || out->gateway_mode6 == NET_GATEWAY_ISOLATED))
        return err_set(err, ERR_INTERNAL, "gateway mode 'isolated' can only be used for an internal network");
    out->link = kvs_get(options, BRIDGE_OPTION "name");
    out->trusted = kvs_get(options, BRIDGE_OPTION "trusted_host_interfaces");
    out->isolated = !icc;
    out->no_masquerade = !masquerade;
    return 0;
}

int network_read_options(const struct engine_network *network, const struct kvs *options, struct arena *arena, struct net_network *out,
                         struct err *err)
{
    if (str_eq(network->driver, "ipvlan"))
        return parse_ipvlan(network, options, arena, out, err);
    return str_eq(network->driver, "macvlan") ? parse_macvlan(network, options, arena, out, err) : parse_bridge(options, out, err);
}
