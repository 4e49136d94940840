// The default bridge and all that comes once per daemon: its subnet, the table, forwarding, the word with other firewalls.
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "net_private.h"

#define CHOICE_WAIT_NS (2 * NS_PER_S)

// ---- the subnet -----------------------------------------------------------------------------------------------------

// Docker's default pools, in its order: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 cut into /20.
enum { POOL_16_LEN = 15, POOL_20_LEN = 16, POOL_LEN = POOL_16_LEN + POOL_20_LEN, CANDIDATES_MAX = 1024 };

static struct subnet pool_at(uint32_t i)
{
    if (i < POOL_16_LEN)
        return (struct subnet){ .gateway = (172u << 24 | (17 + i) << 16) + 1, .prefix = 16 };
    return (struct subnet){ .gateway = (192u << 24 | 168u << 16 | (i - POOL_16_LEN) << 12) + 1, .prefix = 20 };
}

// The next candidates of the configured pools, or of Docker's.
static size_t list_candidates(const struct net *net, struct subnet *out)
{
    size_t len = 0;
    for (uint32_t i = 0; net->pool_len == 0 && i < POOL_LEN; i++)
        out[len++] = pool_at(i);
    for (size_t i = 0; i < net->pool_len; i++) {
        uint32_t base;
        int prefix, size = net->pools[i].size;
        if (network_parse(net->pools[i].base, &base, &prefix, NULL) < 0)
            continue;
        for (uint64_t k = 0; k < UINT64_C(1) << (size - prefix) && len < CANDIDATES_MAX; k++)
            out[len++] = (struct subnet){ .gateway = base + (uint32_t)(k << (32 - size)) + 1, .prefix = size };
    }
    return len;
}

struct overlap {
    struct subnet candidates[CANDIDATES_MAX];
    bool taken[CANDIDATES_MAX];
    size_t len;
};

// A default route overlaps nothing, nor do the two halves that VPNs write instead of it.
static void on_route(void *context, uint32_t destination, int prefix)
{
    struct overlap *overlap = context;
    for (size_t i = 0; prefix > 1 && i < overlap->len; i++) {
        const struct subnet route = { .gateway = destination, .prefix = prefix };
        overlap->taken[i] |= subnets_overlap(&route, &overlap->candidates[i]);
    }
}

// Networks that have no bridge now, after the host started anew, have no route either.
static bool overlaps_network(const struct net *net, const struct subnet *subnet) REQUIRES(net->lock)
{
    for (size_t i = 0; i < net->networks.len; i++)
        if (net->networks.items[i].subnet.gateway && subnets_overlap(subnet, &net->networks.items[i].subnet))
            return true;
    return false;
}

int bridge_choose_subnet(struct net *net, const struct subnet *spared, struct subnet *out, struct err *err)
{
    _cleanup_free_ struct overlap *overlap = mem_new(struct overlap);
    overlap->len = list_candidates(net, overlap->candidates);
    if (link_each_route(&net->link, on_route, overlap, err) < 0)
        return -1;
    for (size_t i = 0; i < overlap->len; i++)
        if (!overlap->taken[i] && !overlaps_network(net, &overlap->candidates[i]) &&
            !(spared && spared->gateway && subnets_overlap(spared, &overlap->candidates[i]))) {
            *out = overlap->candidates[i];
            return 0;
        }
    return err_set(err, ERR_RESOURCE_EXHAUSTED, "could not find an available, non-overlapping IPv4 address pool among the "
                   "defaults to assign to the network");
}

static int overlaps_route(struct net *net, const struct subnet *subnet, struct err *err) REQUIRES(net->lock)
{
    _cleanup_free_ struct overlap *overlap = mem_new(struct overlap);
    overlap->candidates[0] = *subnet;
    overlap->len = 1;
    return link_each_route(&net->link, on_route, overlap, err) < 0 ? -1 : overlap->taken[0] || overlaps_network(net, subnet);
}

static int record_subnet(struct net *net, const struct subnet *subnet, struct err *err) REQUIRES(net->lock)
{
    char text[INET_ADDRSTRLEN + 4], address[INET_ADDRSTRLEN];
    address_text(subnet->gateway, address);
    snprintf(text, sizeof(text), "%s/%d", address, subnet->prefix);
    if (record_set(net->store, SETTING_SUBNET, text, err) < 0)
        return -1;
    net->subnet = *subnet;
    net->subnet_recorded = true;
    return 0;
}

// What the bridge's subnet shall be. Without a bridge, a host that meanwhile has a route into our subnet makes us choose
// anew, unless containers still have addresses in it.
static int wanted_subnet(struct net *net, bool have_bridge, int endpoints, struct subnet *out, struct err *err)
    REQUIRES(net->lock)
{
    *out = net->bip.gateway ? net->bip : net->subnet;
    if (net->bip.gateway || (have_bridge && net->subnet_recorded) || endpoints > 0)
        return 0;
    int overlaps = out->gateway ? overlaps_route(net, out, err) : 1;
    return overlaps > 0 ? bridge_choose_subnet(net, NULL, out, err) : overlaps;
}

// 1: the subnet is another one than the bridge and the table were made for.
static int settle_subnet(struct net *net, bool have_bridge, struct err *err) REQUIRES(net->lock)
{
    struct subnet wanted;
    int endpoints = record_endpoint_count(net->store, "", err);
    if (endpoints < 0 || wanted_subnet(net, have_bridge, endpoints, &wanted, err) < 0)
        return -1;
    bool same = wanted.gateway == net->subnet.gateway && wanted.prefix == net->subnet.prefix;
    if (same && net->subnet_recorded)
        return 0;
    if (net->wanted.subnet.route && !subnet_contains(&wanted, net->wanted.subnet.route))
        return err_set(err, ERR_INVALID_ARGUMENT, "the default gateway is not in the bridge's subnet");
    if (!same && endpoints > 0)
        return err_set(err, ERR_CONFLICT, "the bridge's subnet can't change while containers are attached to it");
    return record_subnet(net, &wanted, err) < 0 ? -1 : 1;
}

// ---- the link -------------------------------------------------------------------------------------------------------

static int make_link(struct net *net, const struct bridge *bridge, const char *alias, struct link_info *out, struct err *err)
    REQUIRES(net->lock)
{
    unsigned char mac[6];
    address_mac(bridge->subnet.gateway ? bridge->subnet.gateway : address6_fold(bridge->subnet6.gateway), mac);
    if (link_add_bridge(&net->link, bridge->link, mac, bridge->mtu, err) < 0 ||
        link_find(&net->link, bridge->link, out, err) < 0)
        return -1;
    return link_set_alias(&net->link, out->index, alias, err);
}

// 1: there is one, and it is ours; with alias NULL it may be anybody's.
static int look_for_link(struct net *net, const char *name, const char *alias, struct link_info *out, struct err *err)
    REQUIRES(net->lock)
{
    struct err missing = { 0 };
    if (link_find(&net->link, name, out, &missing) < 0) {
        if (missing.class != ERR_NOT_FOUND && err)
            *err = missing;
        return missing.class == ERR_NOT_FOUND ? 0 : -1;
    }
    if (alias && !str_empty(out->alias) && !str_eq(out->alias, alias))
        return err_set(err, ERR_CONFLICT, "link %s is somebody else's (%s)", name, out->alias);
    return 1;
}

static void bridge_alias(const struct net *net, const struct bridge *bridge, char out[ALIAS_SIZE])
{
    snprintf(out, ALIAS_SIZE, "berth %s %s%sbridge", net->id, bridge->id, bridge->id[0] ? " " : "");
}

// What the host forwards to a container has a sender that is no address of the bridge, so the bridge looks for the container under its
// link-local one. That which the kernel makes comes with the first container and is of no use for two seconds, and longer on a busy host:
// then the client's connection has failed. This one is there at once.
static int add_local_address(struct net *net, const struct bridge *bridge, struct err *err) REQUIRES(net->lock)
{
    struct subnet6 local = { .prefix = 64 };
    address6_parse("fe80::1", &local.gateway);
    bool has_one = (net->foreign_bridge && !bridge->id[0]) || subnet6_contains(&local, bridge->subnet6.gateway);
    return has_one ? 0 : link_add_address6(&net->link, bridge->index, local.gateway, local.prefix, err);
}

static int complete_link(struct net *net, struct bridge *bridge, const struct link_info *link, struct err *err)
    REQUIRES(net->lock)
{
    bridge->index = link->index;
    const struct subnet6 *six = &bridge->subnet6;
    bool has = bridge->subnet.gateway && !(bridge->flags & (BRIDGE_NO_ADDRESS | BRIDGE_BARE)), has6 = six->prefix && !(bridge->flags & BRIDGE_NO_ADDRESS6);
    if (has && link_add_address(&net->link, link->index, bridge->subnet.gateway, bridge->subnet.prefix, err) < 0)
        return -1;
    if (net->table.local && !net->table.none && link_route_loopback(bridge->link, err) < 0)
        return -1;
    if (bridge->flags & BRIDGE_NO_ADDRESS6 && link_switch_ipv6(bridge->link, false, err) < 0)
        return -1;
    if (has6 && (link_switch_ipv6(bridge->link, true, err) < 0 ||
                        link_add_address6(&net->link, link->index, six->gateway, six->prefix, err) < 0 ||
                        add_local_address(net, bridge, err) < 0))
        return -1;
    return link->up ? 0 : link_set_up(&net->link, link->index, err);
}

int bridge_missing(const char *name, struct err *err)
{
    return err_set(err, ERR_PERMISSION_DENIED, "bridge device with non default name %s must be created manually", name);
}

int bridge_ensure_link(struct net *net, struct bridge *bridge, struct err *err)
{
    struct link_info link;
    char alias[ALIAS_SIZE];
    bridge_alias(net, bridge, alias);
    bool foreign = net->foreign_bridge && !bridge->id[0];
    int have = look_for_link(net, bridge->link, foreign ? NULL : alias, &link, err);
    if (!have && foreign)
        return bridge_missing(bridge->link, err);
    if (have < 0 || (!have && make_link(net, bridge, alias, &link, err) < 0) || complete_link(net, bridge, &link, err) < 0)
        return -1;
    return !have;
}

static void describe_default(const struct net *net, struct bridge *out) REQUIRES(net->lock)
{
    *out = net->wanted;
    out->subnet.gateway = net->subnet.gateway;
    out->subnet.prefix = net->subnet.prefix;
    out->index = net->bridge_index;
    snprintf(out->link, sizeof(out->link), "%s", net->bridge);
}

int bridge_choice_begin(void)
{
    int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    int64_t deadline = clock_mono_ns() + CHOICE_WAIT_NS;
    while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && clock_mono_ns() < deadline)
        usleep(5000);
    return fd;
}

// The default one's subnet is settled when it is about to be used: 1 when the link was made anew.
static int ensure_default(struct net *net, struct err *err) REQUIRES(net->lock)
{
    struct bridge bridge = { .id = "" };
    struct link_info link;
    char alias[ALIAS_SIZE];
    bridge_alias(net, &bridge, alias);
    int have = look_for_link(net, net->bridge, net->foreign_bridge ? NULL : alias, &link, err);
    _cleanup_close_ _unused_ int choice = have ? -1 : bridge_choice_begin();
    int changed = have < 0 ? -1 : settle_subnet(net, have, err), changed6 = changed < 0 ? -1 : bridge_record_ipv6(net, err);
    if (changed6 < 0 || ((changed || changed6) && have && !net->foreign_bridge && link_delete(&net->link, link.index, err) < 0))
        return -1;
    describe_default(net, &bridge);
    int made = bridge_ensure_link(net, &bridge, err);
    net->bridge_index = bridge.index;
    return made;
}

bool bridge_find(struct net *net, const char *id, struct bridge *out)
{
    if (str_empty(id)) {
        describe_default(net, out);
        return true;
    }
    for (size_t i = 0; i < net->networks.len; i++)
        if (str_eq(net->networks.items[i].id, id)) {
            *out = net->networks.items[i];
            return true;
        }
    return false;
}

// ---- table, forwarding, other firewalls -----------------------------------------------------------------------------

bool bridges_have_ipv6(const struct net *net)
{
    if (net->subnet.gateway && net->wanted.subnet6.prefix)
        return true;
    for (size_t i = 0; i < net->networks.len; i++)
        if (net->networks.items[i].subnet6.prefix && !net->networks.items[i].parent[0])
            return true;
    return false;
}

static bool has_table6(const struct net *net) REQUIRES(net->lock)
{
    return bridges_have_ipv6(net) && !net->table.none6;
}

int bridge_make_table(struct net *net, struct err *err)
{
    _cleanup_record_ports_ struct record_ports ports = { 0 };
    _cleanup_free_ struct bridge *bridges = mem_alloc((net->networks.len + 1) * sizeof(*bridges));
    size_t len = 0;
    if (net->subnet.gateway && !net->no_bridge)
        describe_default(net, &bridges[len++]);
    for (size_t i = 0; i < net->networks.len; i++)
        if (!net->networks.items[i].parent[0])
            bridges[len++] = net->networks.items[i];
    if (record_ports(net->store, NULL, &ports, err) < 0 || nft_make_table(&net->table, bridges, len, &ports, err) < 0)
        return -1;
    if (net->table.none)
        nft_delete_table(&net->nft, AF_INET, &net->table, NULL); // of a daemon that had other options
    if (!has_table6(net)) // the last one that had it may just be gone; a kernel without IPv6 has no such table
        nft_delete_table(&net->nft, AF_INET6, &net->table, NULL);
    net->table_made = true;
    return 0;
}

// Made once per run of the daemon, so that an older version's rules or another subnet's never stay; after that its rules
// are only counted.
static int ensure_table(struct net *net, bool anew, struct err *err) REQUIRES(net->lock)
{
    const size_t all = nft_rule_count(&net->table);
    size_t rules = net->table.none ? all : 0, rules6 = has_table6(net) ? 0 : all;
    if (!net->table_made || anew)
        return bridge_make_table(net, err);
    if ((rules == 0 && nft_count_rules(&net->nft, AF_INET, &net->table, &rules, err) < 0) ||
        (rules6 == 0 && nft_count_rules(&net->nft, AF_INET6, &net->table, &rules6, err) < 0))
        return -1;
    return rules == all && rules6 == all ? 0 : bridge_make_table(net, err);
}

static int switch_forwarding(struct net *net, const char *file, const char *setting, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    if (net->no_forward)
        return 0;
    if (file_read_at(AT_FDCWD, file, &text, err) < 0)
        return -1;
    if (buf_text(&text)[0] != '0')
        return 0;
    // Noted first: a crash in between must not leave it on for ever.
    if (record_set(net->store, setting, "0", err) < 0)
        return -1;
    return file_put(AT_FDCWD, file, "1", err);
}

static int ensure_forwarding(struct net *net, struct err *err) REQUIRES(net->lock)
{
    if (switch_forwarding(net, net->ip_forward_file, SETTING_IP_FORWARD, err) < 0)
        return -1;
    return bridges_have_ipv6(net) ? switch_forwarding(net, net->ip6_forward_file, SETTING_IP6_FORWARD, err) : 0;
}

// What iptables knows our links by: all begin alike, but the bridges that a client has named.
static void link_pattern(const struct net *net, char out[IFNAMSIZ])
{
    snprintf(out, IFNAMSIZ, "b%.4s+", net->id);
}

// *line is the last answer's (malloc'ed, or NULL).
static int ask_of_kind(struct net *net, int family, char **line, struct err *err) REQUIRES(net->lock)
{
    char comment[32], pattern[IFNAMSIZ];
    const char *tool = NULL;
    snprintf(comment, sizeof(comment), "berth %s", net->id);
    link_pattern(net, pattern);
    foreign_admit(family, pattern, comment, line, &tool);
    if (net->foreign_bridge && tool) {
        free(take_ptr(line));
        foreign_admit(family, net->bridge, comment, line, &tool);
    }
    for (size_t i = 0; i < net->networks.len && tool; i++)
        if (strncmp(net->networks.items[i].link, pattern, 5) != 0) {
            free(take_ptr(line));
            foreign_admit(family, net->networks.items[i].link, comment, line, &tool);
        }
    return tool ? record_set(net->store, family == AF_INET6 ? SETTING_DOCKER_USER6 : SETTING_DOCKER_USER, tool, err) : 0;
}

static int ask_others(struct net *net, struct err *err) REQUIRES(net->lock)
{
    _cleanup_free_ char *line = NULL, *line6 = NULL;
    if ((!net->table.none && ask_of_kind(net, AF_INET, &line, err) < 0) || (has_table6(net) && ask_of_kind(net, AF_INET6, &line6, err) < 0))
        return -1;
    free(take_ptr(&net->foreign_line));
    net->foreign_line = line ? take_ptr(&line) : take_ptr(&line6);
    net->foreign_checked = true;
    return 0;
}

int bridge_ensure_rules(struct net *net, bool anew, struct err *err)
{
    if (ensure_table(net, anew, err) < 0 || ensure_forwarding(net, err) < 0)
        return -1;
    return anew || !net->foreign_checked ? ask_others(net, err) : 0;
}

static int bring_up(struct net *net, struct err *err) REQUIRES(net->lock)
{
    struct bridge bridge;
    int made = ensure_default(net, err);
    describe_default(net, &bridge);
    if (made < 0 || (made && endpoint_rejoin(net, &bridge, err) < 0))
        return -1;
    return bridge_ensure_rules(net, made, err);
}

int net_bridge_up(struct net *net, struct err *err)
{
    mutex_lock(&net->lock);
    int result = bring_up(net, err);
    mutex_unlock(&net->lock);
    return result < 0 ? err_wrap(err, "network bridge %s", net->bridge) : 0;
}

void net_bridge_info(const struct net *net, struct net_bridge_info *out)
{
    net_network_info((struct net *)net, "", out); // the lock is the one thing that changes
}

char *net_foreign_drop(struct net *net)
{
    mutex_lock(&net->lock);
    char *line = mem_strdup(net->foreign_line);
    mutex_unlock(&net->lock);
    return line;
}

// ---- the end --------------------------------------------------------------------------------------------------------

struct leftovers {
    char prefix[24]; // "berth <id> "
    int *items;
    size_t len, capacity;
    bool other_daemon;
};

static void on_link(void *context, const struct link_info *link)
{
    struct leftovers *left = context;
    size_t size = strlen(link->alias);
    if (!str_starts(link->alias, left->prefix)) {
        left->other_daemon |= str_starts(link->alias, "berth ") && size > 7 && str_eq(link->alias + size - 7, " bridge");
        return;
    }
    if (left->len == left->capacity) {
        left->capacity = left->capacity ? 2 * left->capacity : 16;
        left->items = mem_grow(left->items, left->capacity * sizeof(*left->items));
    }
    left->items[left->len++] = link->index;
}

static int remove_links(struct net *net, bool *other_daemon, struct err *err) REQUIRES(net->lock)
{
    struct leftovers left = { 0 };
    snprintf(left.prefix, sizeof(left.prefix), "berth %s ", net->id);
    int result = link_each(&net->link, on_link, &left, err);
    for (size_t i = 0; i < left.len && result == 0; i++)
        result = link_delete(&net->link, left.items[i], err);
    *other_daemon = left.other_daemon;
    net->bridge_index = 0;
    for (size_t i = 0; i < net->networks.len; i++)
        net->networks.items[i].index = 0;
    free(left.items);
    return result;
}

// Left on while another daemon's bridge stands: it found forwarding on and will not turn it on again.
static int restore_forwarding(struct net *net, const char *file, const char *setting, bool other_daemon, struct err *err)
{
    _cleanup_free_ char *before = NULL;
    int result = record_setting(net->store, setting, &before, err);
    if (result < 0 || !before)
        return result;
    if (!other_daemon && file_put(AT_FDCWD, file, before, err) < 0)
        return -1;
    return record_set(net->store, setting, NULL, err);
}

static int withdraw(struct net *net, const char *setting, struct err *err) REQUIRES(net->lock)
{
    _cleanup_free_ char *tool = NULL;
    char comment[32], pattern[IFNAMSIZ];
    int result = record_setting(net->store, setting, &tool, err);
    if (result < 0 || !tool)
        return result;
    snprintf(comment, sizeof(comment), "berth %s", net->id);
    link_pattern(net, pattern);
    foreign_withdraw(tool, pattern, comment);
    foreign_withdraw(tool, net->bridge, comment); // of an older version
    for (size_t i = 0; i < net->networks.len; i++)
        if (strncmp(net->networks.items[i].link, pattern, 5) != 0)
            foreign_withdraw(tool, net->networks.items[i].link, comment);
    return record_set(net->store, setting, NULL, err);
}

static int take_down(struct net *net, struct err *err) REQUIRES(net->lock)
{
    bool other_daemon = false;
    net->table_made = false;
    net->foreign_checked = false;
    free(take_ptr(&net->foreign_line));
    bool six = nft_delete_table(&net->nft, AF_INET6, &net->table, err) == 0 || !bridges_have_ipv6(net); // a kernel without IPv6 has none
    if (remove_links(net, &other_daemon, err) < 0 || nft_delete_table(&net->nft, AF_INET, &net->table, err) < 0 || !six ||
        withdraw(net, SETTING_DOCKER_USER, err) < 0 || withdraw(net, SETTING_DOCKER_USER6, err) < 0 ||
        restore_forwarding(net, net->ip_forward_file, SETTING_IP_FORWARD, other_daemon, err) < 0 ||
        restore_forwarding(net, net->ip6_forward_file, SETTING_IP6_FORWARD, other_daemon, err) < 0)
        return -1;
    return record_clear(net->store, err);
}

int net_teardown(struct net *net, struct err *err)
{
    mutex_lock(&net->lock);
    int result = take_down(net, err);
    mutex_unlock(&net->lock);
    return result < 0 ? err_wrap(err, "remove the network") : 0;
}
