// The structure of our one table, written as text and loaded by `nft -f -` in one transaction, once.
//
//   outside --> prerouting: a published port of one of the host's own addresses --DNAT--> container
//   host    --> output:     the same for the host's own programs
//               forward:    to a container only replies, its neighbours on the same bridge, and what was DNATed; nothing from or to
//                           an internal network, nothing from one network to another
//               postrouting: containers go out under the host's address; so does a container that reaches a published port
//                           of its own network, because the answer must come back through the host to be rewritten
//
// The rules know the networks by sets, so a packet's way has the same length however many there are.
//
// 127.0.0.0/8 is left alone: a packet from there cannot leave the host; the supervisor's listener serves it.
#include <arpa/inet.h>
#include <stdio.h>

#include "base/process.h"
#include "net_private.h"

enum { SCRIPT_CEILING = 32 * 1024 * 1024, OUTPUT_CEILING = 64 * 1024 };

#define TO_PUBLISHED "ip daddr != 127.0.0.0/8 fib daddr type local dnat ip to "
#define PUBLISHED_AT TO_PUBLISHED "ip daddr . meta l4proto . th dport map @" NFT_MAP_AT
#define PUBLISHED_ANY TO_PUBLISHED "meta l4proto . th dport map @" NFT_MAP_ANY

static const char *const dnat_rules[] = { PUBLISHED_AT, PUBLISHED_ANY };
static const char *const forward_rules[] = {
    "iifname . oifname @neighbours accept",
    "iifname @internal drop",
    "oifname @internal drop",
    "oifname @bridges ct state established,related accept",
    "oifname @bridges ct status dnat accept",
    "oifname @bridges drop",
};
// A packet that is bridged, and comes here because br_netfilter is loaded, has no first interface.
static const char *const postrouting_rules[] = {
    "iifname @masqueraded iifname . oifname != @same masquerade",
    "ip saddr . oifname @subnets ct status dnat masquerade",
};

// What the rules know of the networks.
static const struct set {
    const char *name, *type;
} sets[] = {
    { "bridges", "type ifname;" },
    { "internal", "type ifname;" },
    { "masqueraded", "type ifname;" },
    { "same", "type ifname . ifname;" },
    { "neighbours", "type ifname . ifname;" },
    { "subnets", "type ipv4_addr . ifname; flags interval;" },
};

static const struct chain {
    const char *name, *hook;
    const char *const *rules;
    size_t rule_len;
} chains[] = {
    { "prerouting", "type nat hook prerouting priority dstnat", dnat_rules, ARRAY_LEN(dnat_rules) },
    { "output", "type nat hook output priority -100", dnat_rules, ARRAY_LEN(dnat_rules) },
    { "forward", "type filter hook forward priority filter", forward_rules, ARRAY_LEN(forward_rules) },
    { "postrouting", "type nat hook postrouting priority srcnat", postrouting_rules, ARRAY_LEN(postrouting_rules) },
};

size_t nft_rule_count(void)
{
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_LEN(chains); i++)
        count += chains[i].rule_len;
    return count;
}

bool port_has_element(const struct net_port *port, uint32_t *address)
{
    struct in_addr in;
    if (inet_pton(AF_INET, port->host_address, &in) != 1)
        return false;
    *address = ntohl(in.s_addr);
    return *address >> 24 != 127;
}

static void write_chains(struct buf *script)
{
    for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
        buf_addf(script, "chain %s {\n%s; policy accept;\n", chains[i].name, chains[i].hook);
        for (size_t k = 0; k < chains[i].rule_len; k++)
            buf_addf(script, "%s\n", chains[i].rules[k]);
        buf_adds(script, "}\n");
    }
}

static void write_element(struct buf *script, const char *table, const struct record_port *record)
{
    const struct net_port *port = &record->port;
    char target[INET_ADDRSTRLEN];
    uint32_t address;
    if (!port_has_element(port, &address))
        return;
    address_text(record->target, target);
    buf_addf(script, "add element ip %s %s { ", table, address ? NFT_MAP_AT : NFT_MAP_ANY);
    if (address)
        buf_addf(script, "%s . ", port->host_address);
    buf_addf(script, "%d . %u : %s . %u }\n", port->proto, port->host_port, target, port->target_port);
}

static void write_bridge(struct buf *script, const char *table, const struct bridge *bridge)
{
    const char *link = bridge->link;
    char network[INET_ADDRSTRLEN];
    address_text(bridge->subnet.gateway & subnet_mask(bridge->subnet.prefix), network);
    buf_addf(script, "add element ip %s bridges { \"%s\" }\n", table, link);
    buf_addf(script, "add element ip %s same { \"%s\" . \"%s\" }\n", table, link, link);
    buf_addf(script, "add element ip %s subnets { %s/%d . \"%s\" }\n", table, network, bridge->subnet.prefix, link);
    if (!(bridge->flags & BRIDGE_ISOLATED))
        buf_addf(script, "add element ip %s neighbours { \"%s\" . \"%s\" }\n", table, link, link);
    if (bridge->flags & BRIDGE_INTERNAL)
        buf_addf(script, "add element ip %s internal { \"%s\" }\n", table, link);
    else if (!(bridge->flags & BRIDGE_NO_MASQUERADE))
        buf_addf(script, "add element ip %s masqueraded { \"%s\" }\n", table, link);
}

int nft_make_table(const char *table, const struct bridge *bridges, size_t bridge_len, const struct record_ports *ports,
                   struct err *err)
{
    _cleanup_buf_ struct buf script = BUF_INIT(SCRIPT_CEILING), output = BUF_INIT(OUTPUT_CEILING);
    char *argv[] = { (char *)"nft", (char *)"-f", (char *)"-", NULL };

    // The first line makes sure that there is a table to delete.
    buf_addf(&script, "table ip %s\ndelete table ip %s\ntable ip %s {\n", table, table, table);
    buf_adds(&script, "map " NFT_MAP_ANY " { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
                      "map " NFT_MAP_AT " { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }\n");
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        buf_addf(&script, "set %s { %s }\n", sets[i].name, sets[i].type);
    write_chains(&script);
    buf_adds(&script, "}\n");
    for (size_t i = 0; i < bridge_len; i++)
        write_bridge(&script, table, &bridges[i]);
    for (size_t i = 0; i < ports->len; i++)
        write_element(&script, table, &ports->items[i]);
    if (buf_check(&script, "firewall rules", err) < 0)
        return -1;
    return process_run(argv, buf_text(&script), &output, err) < 0 ? err_wrap(err, "make table %s", table) : 0;
}
