// The default bridge and all that comes once per daemon: its subnet, the table, forwarding, the word with other firewalls.
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "net_private.h"

// ---- the subnet -----------------------------------------------------------------------------------------------------

// Docker's default pools, in its order: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 cut into /20.
enum { POOL_16_LEN = 15, POOL_20_LEN = 16, POOL_LEN = POOL_16_LEN + POOL_20_LEN };

static struct subnet pool_at(uint32_t i)
{
    if (i < POOL_16_LEN)
        return (struct subnet){ (172u << 24 | (17 + i) << 16) + 1, 16 };
    return (struct subnet){ (192u << 24 | 168u << 16 | (i - POOL_16_LEN) << 12) + 1, 20 };
}

struct overlap {
    struct subnet candidates[POOL_LEN];
    bool taken[POOL_LEN];
    size_t len;
};

// A default route overlaps nothing, nor do the two halves that VPNs write instead of it.
static void on_route(void *context, uint32_t destination, int prefix)
{
    struct overlap *overlap = context;
    for (size_t i = 0; prefix > 1 && i < overlap->len; i++) {
        const struct subnet wider = { destination, MIN_OF(prefix, overlap->candidates[i].prefix) };
        overlap->taken[i] |= subnet_contains(&wider, overlap->candidates[i].gateway);
    }
}

int bridge_choose_subnet(struct net *net, struct subnet *out, struct err *err)
{
    struct overlap overlap = { .len = POOL_LEN };
    for (uint32_t i = 0; i < POOL_LEN; i++)
        overlap.candidates[i] = pool_at(i);
    if (link_each_route(&net->link, on_route, &overlap, err) < 0)
        return -1;
    for (size_t i = 0; i < POOL_LEN; i++)
        if (!overlap.taken[i]) {
            *out = overlap.candidates[i];
            return 0;
        }
    return err_set(err, ERR_RESOURCE_EXHAUSTED, "could not find an available, non-overlapping IPv4 address pool among the "
                   "defaults to assign to the network");
}

static int overlaps_route(struct net *net, const struct subnet *subnet, struct err *err) REQUIRES(net->lock)
{
    struct overlap overlap = { .candidates = { *subnet }, .len = 1 };
    return link_each_route(&net->link, on_route, &overlap, err) < 0 ? -1 : overlap.taken[0];
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
    return overlaps > 0 ? bridge_choose_subnet(net, out, err) : overlaps;
}

// 1: the subnet is another one than the bridge and the table were made for.
static int settle_subnet(struct net *net, bool have_bridge, struct err *err) REQUIRES(net->lock)
{
    struct subnet wanted;
    int endpoints = record_endpoint_count(net->store, err);
    if (endpoints < 0 || wanted_subnet(net, have_bridge, endpoints, &wanted, err) < 0)
        return -1;
    bool same = wanted.gateway == net->subnet.gateway && wanted.prefix == net->subnet.prefix;
    if (same && net->subnet_recorded)
        return 0;
    if (!same && endpoints > 0)
        return err_set(err, ERR_CONFLICT, "the bridge's subnet can't change while containers are attached to it");
    return record_subnet(net, &wanted, err) < 0 ? -1 : 1;
}

// ---- the link -------------------------------------------------------------------------------------------------------

static int make_link(struct net *net, const char *alias, struct link_info *out, struct err *err) REQUIRES(net->lock)
{
    unsigned char mac[6];
    address_mac(net->subnet.gateway, mac);
    if (link_add_bridge(&net->link, net->bridge, mac, err) < 0 || link_find(&net->link, net->bridge, out, err) < 0)
        return -1;
    return link_set_alias(&net->link, out->index, alias, err);
}

// 1: it was made anew. An empty alias is ours too: made, but not yet named when somebody killed us.
static int ensure_link(struct net *net, struct err *err) REQUIRES(net->lock)
{
    struct link_info link;
    struct err missing = { 0 };
    char alias[ALIAS_SIZE];
    snprintf(alias, sizeof(alias), "berth %s bridge", net->id);
    bool have = link_find(&net->link, net->bridge, &link, &missing) == 0;
    if (!have && missing.class != ERR_NOT_FOUND) {
        if (err)
            *err = missing;
        return -1;
    }
    if (have && !str_empty(link.alias) && !str_eq(link.alias, alias))
        return err_set(err, ERR_CONFLICT, "link %s is somebody else's (%s)", net->bridge, link.alias);
    int changed = settle_subnet(net, have, err);
    if (changed < 0 || (changed && have && link_delete(&net->link, link.index, err) < 0))
        return -1;
    have = have && !changed;
    if (!have && make_link(net, alias, &link, err) < 0)
        return -1;
    if (link_add_address(&net->link, link.index, net->subnet.gateway, net->subnet.prefix, err) < 0 ||
        (!link.up && link_set_up(&net->link, link.index, err) < 0))
        return -1;
    net->bridge_index = link.index;
    return !have;
}

// ---- table, forwarding, other firewalls -----------------------------------------------------------------------------

int bridge_make_table(struct net *net, struct err *err)
{
    _cleanup_record_ports_ struct record_ports ports = { 0 };
    if (record_ports(net->store, NULL, &ports, err) < 0 ||
        nft_make_table(net->table, net->bridge, &net->subnet, &ports, err) < 0)
        return -1;
    net->table_made = true;
    return 0;
}

// Made once per run of the daemon, so that an older version's rules or another subnet's never stay; after that its rules
// are only counted.
static int ensure_table(struct net *net, bool anew, struct err *err) REQUIRES(net->lock)
{
    size_t rules = 0;
    if (net->table_made && !anew && nft_count_rules(&net->nft, net->table, &rules, err) < 0)
        return -1;
    return rules == nft_rule_count() ? 0 : bridge_make_table(net, err);
}

static int ensure_forwarding(struct net *net, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    if (file_read_at(AT_FDCWD, net->ip_forward_file, &text, err) < 0)
        return -1;
    if (buf_text(&text)[0] != '0')
        return 0;
    // Noted first: a crash in between must not leave it on for ever.
    if (record_set(net->store, SETTING_IP_FORWARD, "0", err) < 0)
        return -1;
    return file_put(AT_FDCWD, net->ip_forward_file, "1", err);
}

static int ask_others(struct net *net, struct err *err) REQUIRES(net->lock)
{
    char comment[32];
    const char *tool = NULL;
    snprintf(comment, sizeof(comment), "berth %s", net->id);
    free(take_ptr(&net->foreign_line));
    foreign_admit(net->bridge, comment, &net->foreign_line, &tool);
    net->foreign_checked = true;
    return tool ? record_set(net->store, SETTING_DOCKER_USER, tool, err) : 0;
}

static int bring_up(struct net *net, struct err *err) REQUIRES(net->lock)
{
    int made = ensure_link(net, err);
    if (made < 0 || (made && endpoint_rejoin(net, err) < 0) || ensure_table(net, made, err) < 0 ||
        ensure_forwarding(net, err) < 0)
        return -1;
    return made || !net->foreign_checked ? ask_others(net, err) : 0;
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
    struct net *locked = (struct net *)net; // the lock is the one thing that changes
    char network[INET_ADDRSTRLEN];
    mutex_lock(&locked->lock);
    const struct subnet subnet = locked->subnet;
    mutex_unlock(&locked->lock);
    *out = (struct net_bridge_info){ .prefix = subnet.prefix };
    snprintf(out->name, sizeof(out->name), "%s", net->bridge);
    if (!subnet.gateway)
        return;
    address_text(subnet.gateway, out->gateway);
    address_text(subnet.gateway & subnet_mask(subnet.prefix), network);
    snprintf(out->subnet, sizeof(out->subnet), "%s/%d", network, subnet.prefix);
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
    free(left.items);
    return result;
}

// Left on while another daemon's bridge stands: it found forwarding on and will not turn it on again.
static int restore_forwarding(struct net *net, bool other_daemon, struct err *err)
{
    _cleanup_free_ char *before = NULL;
    int result = record_setting(net->store, SETTING_IP_FORWARD, &before, err);
    if (result < 0 || !before)
        return result;
    if (!other_daemon && file_put(AT_FDCWD, net->ip_forward_file, before, err) < 0)
        return -1;
    return record_set(net->store, SETTING_IP_FORWARD, NULL, err);
}

static int withdraw(struct net *net, struct err *err)
{
    _cleanup_free_ char *tool = NULL;
    char comment[32];
    int result = record_setting(net->store, SETTING_DOCKER_USER, &tool, err);
    if (result < 0 || !tool)
        return result;
    snprintf(comment, sizeof(comment), "berth %s", net->id);
    foreign_withdraw(tool, net->bridge, comment);
    return record_set(net->store, SETTING_DOCKER_USER, NULL, err);
}

static int take_down(struct net *net, struct err *err) REQUIRES(net->lock)
{
    bool other_daemon = false;
    net->table_made = false;
    net->foreign_checked = false;
    free(take_ptr(&net->foreign_line));
    if (remove_links(net, &other_daemon, err) < 0 || nft_delete_table(&net->nft, net->table, err) < 0 ||
        withdraw(net, err) < 0 || restore_forwarding(net, other_daemon, err) < 0)
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
