// The structure of our tables, written as text and loaded by `nft -f -` in one transaction, once: one for IPv4, and the same for IPv6
// as long as a network has that.
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
// Loopback addresses are left alone: a packet from there cannot leave the host; the supervisor's listener serves it.
#include <arpa/inet.h>
#include <stdio.h>

#include "base/process.h"
#include "net_private.h"

enum { SCRIPT_CEILING = 32 * 1024 * 1024, OUTPUT_CEILING = 64 * 1024 };

// In rules and types `$` stands for the family's word and `@@` for its loopback addresses.
static const struct family {
    int number;
    const char *word, *loopback, *address;
} families[] = { { AF_INET, "ip", "127.0.0.0/8", "ipv4_addr" }, { AF_INET6, "ip6", "::1", "ipv6_addr" } };

#define TO_PUBLISHED "$ daddr != @@ fib daddr type local dnat $ to "
#define PUBLISHED_AT TO_PUBLISHED "$ daddr . meta l4proto . th dport map @" NFT_MAP_AT
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
    "$ saddr . oifname @subnets ct status dnat masquerade",
};

// What the rules know of the networks. In types `$_` stands for the family's kind of address.
static const struct set {
    const char *name, *type;
} sets[] = {
    { "bridges", "type ifname;" },
    { "internal", "type ifname;" },
    { "masqueraded", "type ifname;" },
    { "same", "type ifname . ifname;" },
    { "neighbours", "type ifname . ifname;" },
    { "subnets", "type $_ . ifname; flags interval;" },
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

size_t port_has_element(const struct record_port *port, int family, unsigned char address[16])
{
    bool loopback;
    if (inet_pton(family, port->port.host_address, address) != 1 || (family == AF_INET6 ? !port->target6 : !port->target))
        return 0;
    if (family == AF_INET)
        loopback = address[0] == 127;
    else
        loopback = IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)address);
    return loopback ? 0 : family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr);
}

static void write_text(struct buf *script, const struct family *family, const char *text)
{
    const struct {
        const char *mark, *means;
    } marks[] = { { "$_", family->address }, { "@@", family->loopback }, { "$", family->word } };
    while (*text) {
        size_t i = 0;
        while (i < ARRAY_LEN(marks) && !str_starts(text, marks[i].mark))
            i++;
        if (i == ARRAY_LEN(marks)) {
            buf_addc(script, *text++);
            continue;
        }
        buf_adds(script, marks[i].means);
        text += strlen(marks[i].mark);
    }
}

static void write_chains(struct buf *script, const struct family *family)
{
    for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
        buf_addf(script, "chain %s {\n%s; policy accept;\n", chains[i].name, chains[i].hook);
        for (size_t k = 0; k < chains[i].rule_len; k++) {
            write_text(script, family, chains[i].rules[k]);
            buf_addc(script, '\n');
        }
        buf_adds(script, "}\n");
    }
}

static bool is_every(const unsigned char *address, size_t size)
{
    static const unsigned char any[16];
    return memcmp(address, any, size) == 0;
}

static void write_element(struct buf *script, const struct family *family, const char *table, const struct record_port *record)
{
    const struct net_port *port = &record->port;
    char target[INET6_ADDRSTRLEN];
    unsigned char address[16];
    size_t size = port_has_element(record, family->number, address);
    if (size == 0)
        return;
    if (family->number == AF_INET)
        address_text(record->target, target);
    else
        address6_text(record->target6, target);
    bool every = is_every(address, size);
    buf_addf(script, "add element %s %s %s { ", family->word, table, every ? NFT_MAP_ANY : NFT_MAP_AT);
    if (!every)
        buf_addf(script, "%s . ", port->host_address);
    buf_addf(script, "%d . %u : %s . %u }\n", port->proto, port->host_port, target, port->target_port);
}

// "10.1.0.0/16", "fd00::/64"; false: the bridge has none of that kind.
static bool subnet_of(const struct bridge *bridge, const struct family *family, char out[SUBNET6_TEXT_SIZE])
{
    char network[INET_ADDRSTRLEN];
    if (family->number == AF_INET6) {
        subnet6_text(subnet6_network(&bridge->subnet6), bridge->subnet6.prefix, out);
        return bridge->subnet6.prefix;
    }
    address_text(bridge->subnet.gateway & subnet_mask(bridge->subnet.prefix), network);
    snprintf(out, SUBNET6_TEXT_SIZE, "%s/%d", network, bridge->subnet.prefix);
    return bridge->subnet.gateway;
}

// A bridge that has none of a kind stands in the sets of that family too, so that nothing is forwarded to or from it.
static void write_bridge(struct buf *script, const struct family *family, const char *table, const struct bridge *bridge)
{
    const char *link = bridge->link, *word = family->word;
    char subnet[SUBNET6_TEXT_SIZE];
    bool has = subnet_of(bridge, family, subnet);
    buf_addf(script, "add element %s %s bridges { \"%s\" }\n", word, table, link);
    buf_addf(script, "add element %s %s same { \"%s\" . \"%s\" }\n", word, table, link, link);
    if (has)
        buf_addf(script, "add element %s %s subnets { %s . \"%s\" }\n", word, table, subnet, link);
    if (!(bridge->flags & BRIDGE_ISOLATED))
        buf_addf(script, "add element %s %s neighbours { \"%s\" . \"%s\" }\n", word, table, link, link);
    if (bridge->flags & BRIDGE_INTERNAL || !has)
        buf_addf(script, "add element %s %s internal { \"%s\" }\n", word, table, link);
    else if (!(bridge->flags & BRIDGE_NO_MASQUERADE))
        buf_addf(script, "add element %s %s masqueraded { \"%s\" }\n", word, table, link);
}

static void write_table(struct buf *script, const struct family *family, const char *table, const struct bridge *bridges,
                        size_t bridge_len, const struct record_ports *ports)
{
    const char *word = family->word, *address = family->address;
    // The first line makes sure that there is a table to delete.
    buf_addf(script, "table %s %s\ndelete table %s %s\ntable %s %s {\n", word, table, word, table, word, table);
    buf_addf(script, "map " NFT_MAP_ANY " { type inet_proto . inet_service : %s . inet_service; }\n", address);
    buf_addf(script, "map " NFT_MAP_AT " { type %s . inet_proto . inet_service : %s . inet_service; }\n", address, address);
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        buf_addf(script, "set %s { ", sets[i].name);
        write_text(script, family, sets[i].type);
        buf_adds(script, " }\n");
    }
    write_chains(script, family);
    buf_adds(script, "}\n");
    for (size_t i = 0; i < bridge_len; i++)
        write_bridge(script, family, table, &bridges[i]);
    for (size_t i = 0; i < ports->len; i++)
        write_element(script, family, table, &ports->items[i]);
}

int nft_make_table(const char *table, const struct bridge *bridges, size_t bridge_len, const struct record_ports *ports,
                   struct err *err)
{
    _cleanup_buf_ struct buf script = BUF_INIT(SCRIPT_CEILING), output = BUF_INIT(OUTPUT_CEILING);
    char *argv[] = { (char *)"nft", (char *)"-f", (char *)"-", NULL };
    bool ipv6 = false;
    for (size_t i = 0; i < bridge_len; i++)
        ipv6 = ipv6 || bridges[i].subnet6.prefix;
    for (size_t i = 0; i < (ipv6 ? ARRAY_LEN(families) : 1); i++)
        write_table(&script, &families[i], table, bridges, bridge_len, ports);
    if (buf_check(&script, "firewall rules", err) < 0)
        return -1;
    return process_run(argv, buf_text(&script), &output, err) < 0 ? err_wrap(err, "make table %s", table) : 0;
}
