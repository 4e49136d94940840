// The structure of our tables, written as text and loaded by `nft -f -` in one transaction, once: one for IPv4, and the same for IPv6
// as long as a network has that.
//
//   outside --> prerouting: a published port of one of the host's own addresses --DNAT--> container
//   host    --> output:     the same for the host's own programs
//               forward:    to a container only replies, its neighbours on the same bridge, and what was DNATed, or is open under its
//                           own address (routed networks, direct routing, links that a network trusts), or has the operator's mark; nothing from or to an internal network, else nothing from one
//                           network to another
//               postrouting: containers go out under the host's address; so does a container that reaches a published port
//                           of its own network, because the answer must come back through the host to be rewritten
//
// The rules know the networks by sets, so a packet's way has the same length however many there are.
//
// Loopback addresses are left alone: a packet from there cannot leave the host; the supervisor's listener serves it. Without one (--userland-proxy=false)
// those of IPv4 are rewritten as well, and the kernel is told to route them to the bridges.
#include <arpa/inet.h>
#include <stdio.h>

#include "base/process.h"
#include "base/slice.h"
#include "net_private.h"

enum { SCRIPT_CEILING = 32 * 1024 * 1024, OUTPUT_CEILING = 64 * 1024 };

// In rules and types `$` stands for the family's word, `@@` for its loopback addresses, `&` for its ICMP.
static const struct family {
    int number;
    const char *word, *loopback, *address, *icmp;
} families[] = { { AF_INET, "ip", "127.0.0.0/8", "ipv4_addr", "icmp" }, { AF_INET6, "ip6", "::1", "ipv6_addr", "icmpv6" } };

#define NOT_LOOPBACK "$ daddr != @@ "
#define PUBLISHED_AT "fib daddr type local dnat $ to $ daddr . meta l4proto . th dport map @publish_at"
#define PUBLISHED_ANY "fib daddr type local dnat $ to meta l4proto . th dport map @publish_any"

const char *const nft_list_names[NFT_LIST_LEN] = { "publish_any", "publish_at", "open", "open_trusted" };

static const char *const dnat_rules[] = { NOT_LOOPBACK PUBLISHED_AT, NOT_LOOPBACK PUBLISHED_ANY };
static const char *const local_dnat_rules[] = { PUBLISHED_AT, PUBLISHED_ANY };
// Where the host's loopback packets come and go by the bridges, others stay out that way.
static const char *const loopback_rules[] = { "iifname @bridges $ daddr @@ drop" };
#define MARKED "oifname @bridges meta mark and %u == %u accept" // the mask and the mark, where the table has them
static const char *const forward_rules[] = {
    "iifname . oifname @neighbours accept",
    "iifname @internal drop",
    "oifname @internal drop",
    "oifname @bridges ct state established,related accept",
    "oifname @bridges ct status dnat accept",
    "oifname @routed $ daddr . meta l4proto . th dport @open accept",
    "oifname @routed meta l4proto & accept",
    "iifname != @bridges $ daddr . meta l4proto . th dport @open accept",
    "iifname != @bridges oifname @unprotected accept",
    "iifname . oifname @trusted $ daddr . meta l4proto . th dport @open_trusted accept",
    MARKED,
    "oifname @bridges drop",
};
// A packet that is bridged, and comes here because br_netfilter is loaded, has no first interface.
static const char *const postrouting_rules[] = {
    "iifname @masqueraded iifname . oifname != @same masquerade",
    "$ saddr . oifname @subnets ct status dnat masquerade",
    "$ saddr @@ oifname @bridges masquerade",
};

// What the rules know of the networks. In types `$_` stands for the family's kind of address.
static const struct set {
    const char *name, *type;
} sets[] = {
    { "bridges", "type ifname;" },
    { "internal", "type ifname;" },
    { "masqueraded", "type ifname;" },
    { "routed", "type ifname;" },
    { "unprotected", "type ifname;" },
    { "open", "type $_ . inet_proto . inet_service;" },
    { "open_trusted", "type $_ . inet_proto . inet_service;" },
    { "trusted", "type ifname . ifname;" },
    { "same", "type ifname . ifname;" },
    { "neighbours", "type ifname . ifname;" },
    { "subnets", "type $_ . ifname; flags interval;" },
};

static const struct chain {
    const char *name, *hook;
    const char *const *rules;
    size_t rule_len;
    enum { ALWAYS, UNLESS_LOCAL, IF_LOCAL } when; // by the table's `local`
} chains[] = {
    { "prerouting", "type nat hook prerouting priority dstnat", dnat_rules, ARRAY_LEN(dnat_rules), ALWAYS },
    { "output", "type nat hook output priority -100", dnat_rules, ARRAY_LEN(dnat_rules), UNLESS_LOCAL },
    { "output", "type nat hook output priority -100", local_dnat_rules, ARRAY_LEN(local_dnat_rules), IF_LOCAL },
    { "loopback", "type filter hook prerouting priority raw", loopback_rules, ARRAY_LEN(loopback_rules), IF_LOCAL },
    { "forward", "type filter hook forward priority filter", forward_rules, ARRAY_LEN(forward_rules), ALWAYS },
    { "postrouting", "type nat hook postrouting priority srcnat", postrouting_rules, ARRAY_LEN(postrouting_rules), ALWAYS },
};

static bool has_chain(const struct nft_table *table, const struct chain *chain)
{
    return chain->when == ALWAYS || (chain->when == IF_LOCAL) == table->local;
}

size_t nft_rule_count(const struct nft_table *table)
{
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_LEN(chains); i++)
        count += has_chain(table, &chains[i]) ? chains[i].rule_len : 0;
    return table->mark_mask ? count : count - 1;
}

bool nft_has(const struct nft_table *table, int family)
{
    return family == AF_INET6 ? !table->none6 : !table->none;
}

static bool is_every(const unsigned char *address, size_t size)
{
    static const unsigned char any[16];
    return memcmp(address, any, size) == 0;
}

bool nft_lists(const struct nft_table *table, const struct record_port *port, int family, enum nft_list list, unsigned char host[16])
{
    bool six = family == AF_INET6, routed = port->flags & (six ? BRIDGE_ROUTED6 : BRIDGE_ROUTED);
    if (inet_pton(family, port->port.host_address, host) != 1 || (six ? !port->target6 : !port->target))
        return false;
    if (list == NFT_OPEN)
        return routed || table->direct;
    if (list == NFT_OPEN_TRUSTED)
        return port->trusts;
    if (routed || (six ? IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)host) : host[0] == 127 && !table->local))
        return false;
    return is_every(host, six ? sizeof(struct in6_addr) : sizeof(struct in_addr)) == (list == NFT_PUBLISH_ANY);
}

static void write_text(struct buf *script, const struct family *family, const char *text)
{
    const struct {
        const char *mark, *means;
    } marks[] = { { "$_", family->address }, { "@@", family->loopback }, { "$", family->word }, { "&", family->icmp } };
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

static void write_rule(struct buf *script, const struct family *family, const struct nft_table *table, const char *rule)
{
    if (!str_eq(rule, MARKED))
        write_text(script, family, rule);
    else if (table->mark_mask)
        buf_addf(script, MARKED, table->mark_mask, table->mark & table->mark_mask);
    buf_addc(script, '\n');
}

static void write_chains(struct buf *script, const struct family *family, const struct nft_table *table)
{
    for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
        if (!has_chain(table, &chains[i]))
            continue;
        buf_addf(script, "chain %s {\n%s; policy accept;\n", chains[i].name, chains[i].hook);
        for (size_t k = 0; k < chains[i].rule_len; k++)
            write_rule(script, family, table, chains[i].rules[k]);
        buf_adds(script, "}\n");
    }
}

static void write_element(struct buf *script, const struct family *family, const struct nft_table *table, const struct record_port *record,
                          enum nft_list list)
{
    const struct net_port *port = &record->port;
    char target[INET6_ADDRSTRLEN];
    unsigned char host[16];
    if (!nft_lists(table, record, family->number, list, host))
        return;
    if (family->number == AF_INET)
        address_text(record->target, target);
    else
        address6_text(record->target6, target);
    buf_addf(script, "add element %s %s %s { ", family->word, table->name, nft_list_names[list]);
    if (list == NFT_OPEN || list == NFT_OPEN_TRUSTED) {
        buf_addf(script, "%s . %d . %u }\n", target, port->proto, port->target_port);
        return;
    }
    if (list == NFT_PUBLISH_AT)
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
    bool six = family->number == AF_INET6, routed = bridge->flags & (six ? BRIDGE_ROUTED6 : BRIDGE_ROUTED);
    const char *set = NULL;
    if (bridge->flags & BRIDGE_INTERNAL || !has)
        set = "internal";
    else if (routed)
        set = "routed";
    else if (!(bridge->flags & BRIDGE_NO_MASQUERADE))
        set = "masqueraded";
    if (set)
        buf_addf(script, "add element %s %s %s { \"%s\" }\n", word, table, set, link);
    if (has && bridge->flags & (six ? BRIDGE_UNPROTECTED6 : BRIDGE_UNPROTECTED))
        buf_addf(script, "add element %s %s unprotected { \"%s\" }\n", word, table, link);
}

static void write_trusted(struct buf *script, const struct family *family, const char *table, const struct bridge *bridge)
{
    struct slice rest = slice_of(bridge->trusted), name;
    while (rest.size && slice_cut(&rest, ':', &name))
        buf_addf(script, "add element %s %s trusted { \"%.*s\" . \"%s\" }\n", family->word, table, (int)name.size, name.data, bridge->link);
}

static void write_table(struct buf *script, const struct family *family, const struct nft_table *named, const struct bridge *bridges,
                        size_t bridge_len, const struct record_ports *ports)
{
    const char *word = family->word, *address = family->address, *table = named->name;
    // The first line makes sure that there is a table to delete.
    buf_addf(script, "table %s %s\ndelete table %s %s\ntable %s %s {\n", word, table, word, table, word, table);
    buf_addf(script, "map publish_any { type inet_proto . inet_service : %s . inet_service; }\n", address);
    buf_addf(script, "map publish_at { type %s . inet_proto . inet_service : %s . inet_service; }\n", address, address);
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        buf_addf(script, "set %s { ", sets[i].name);
        write_text(script, family, sets[i].type);
        buf_adds(script, " }\n");
    }
    write_chains(script, family, named);
    buf_adds(script, "}\n");
    for (size_t i = 0; i < bridge_len; i++) {
        write_bridge(script, family, table, &bridges[i]);
        write_trusted(script, family, table, &bridges[i]);
    }
    for (size_t i = 0; i < ports->len * NFT_LIST_LEN; i++)
        write_element(script, family, named, &ports->items[i / NFT_LIST_LEN], (enum nft_list)(i % NFT_LIST_LEN));
}

int nft_make_table(const struct nft_table *table, const struct bridge *bridges, size_t bridge_len, const struct record_ports *ports,
                   struct err *err)
{
    _cleanup_buf_ struct buf script = BUF_INIT(SCRIPT_CEILING), output = BUF_INIT(OUTPUT_CEILING);
    char *argv[] = { (char *)"nft", (char *)"-f", (char *)"-", NULL };
    bool ipv6 = false;
    for (size_t i = 0; i < bridge_len; i++)
        ipv6 = ipv6 || bridges[i].subnet6.prefix;
    for (size_t i = 0; i < (ipv6 ? ARRAY_LEN(families) : 1); i++)
        if (nft_has(table, families[i].number))
            write_table(&script, &families[i], table, bridges, bridge_len, ports);
    if (script.size == 0)
        return 0;
    if (buf_check(&script, "firewall rules", err) < 0)
        return -1;
    return process_run(argv, buf_text(&script), &output, err) < 0 ? err_wrap(err, "make table %s", table->name) : 0;
}
