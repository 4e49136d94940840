// Links of the host's that containers have cards on (macvlan, ipvlan). One that is there is used and left as it is; "eth0.10" is made as VLAN
// 10 of eth0 where it is missing, and the stand-in of a network without a parent as a dummy. What we made has the network's id in its alias
// and goes with it.
#include <stdio.h>

#include "base/fd.h"
#include "base/num.h"
#include "base/slice.h"
#include "net_private.h"

enum { VLAN_MAX = 4094 };

static void parent_alias(const struct net *net, const char *network_id, char out[ALIAS_SIZE])
{
    snprintf(out, ALIAS_SIZE, "berth %s %s parent", net->id, network_id);
}

static bool is_stand_in(const struct bridge *bridge)
{
    char macvlan[IFNAMSIZ], ipvlan[IFNAMSIZ];
    snprintf(macvlan, sizeof(macvlan), "dm-%.12s", bridge->id);
    snprintf(ipvlan, sizeof(ipvlan), "di-%.12s", bridge->id);
    return str_eq(bridge->parent, macvlan) || str_eq(bridge->parent, ipvlan);
}

static int make_vlan(struct net *net, const char *name, struct err *err) REQUIRES(net->lock)
{
    struct slice rest = slice_of(name), base;
    struct link_info link;
    char text[IFNAMSIZ];
    int64_t vlan;
    slice_cut(&rest, '.', &base);
    if (!rest.data || !num_parse_i64(rest, &vlan))
        return err_set(err, ERR_INVALID_ARGUMENT, "parent %s: the host has no such link, and it is no VLAN's name, as eth0.10", name);
    if (vlan < 1 || vlan > VLAN_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "vlan id must be between 1-%d, received: %lld", VLAN_MAX, (long long)vlan);
    snprintf(text, sizeof(text), "%.*s", (int)base.size, base.data);
    if (link_find(&net->link, text, &link, NULL) < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "-o parent interface was not found on the host: %s", text);
    return link_add_vlan(&net->link, name, link.index, (uint16_t)vlan, err);
}

static int make_parent(struct net *net, const struct bridge *bridge, struct link_info *out, struct err *err) REQUIRES(net->lock)
{
    char alias[ALIAS_SIZE];
    parent_alias(net, bridge->id, alias);
    int made = is_stand_in(bridge) ? link_add_dummy(&net->link, bridge->parent, err) : make_vlan(net, bridge->parent, err);
    if (made < 0 || link_find(&net->link, bridge->parent, out, err) < 0 || link_set_alias(&net->link, out->index, alias, err) < 0)
        return -1;
    return link_set_up(&net->link, out->index, err);
}

int parent_up(struct net *net, const struct bridge *bridge, struct err *err)
{
    struct link_info link;
    struct err missing = { 0 };
    if (link_find(&net->link, bridge->parent, &link, &missing) == 0 || missing.class != ERR_NOT_FOUND)
        return missing.class == ERR_NONE ? 0 : err_set(err, missing.class, "%s", missing.message);
    return make_parent(net, bridge, &link, err);
}

// Of a kernel without the driver, or of a link that is no parent for it, its network's maker hears, and not the first container.
static int try_card(struct net *net, const struct bridge *bridge, struct err *err) REQUIRES(net->lock)
{
    _cleanup_close_ int netns_fd = -1;
    struct link_info parent;
    if (link_find(&net->link, bridge->parent, &parent, err) < 0 || namespace_make(NULL, NULL, &netns_fd, err) < 0)
        return -1;
    const struct link_pair card = { .far = "trial", .master = parent.index, .netns_fd = netns_fd };
    return link_add_ipvlan(&net->link, &card, bridge->parent_mode, err);
}

// ipvlan's mode is the parent's: another network there would change it. A passthru card has its parent for itself.
static int check_others(struct net *net, const struct bridge *bridge, struct err *err) REQUIRES(net->lock)
{
    for (size_t i = 0; i < net->networks.len; i++) {
        const struct bridge *other = &net->networks.items[i];
        bool ipvlan = link_ipvlan_mode(bridge->parent_mode) || link_ipvlan_mode(other->parent_mode);
        if (str_eq(other->id, bridge->id) || !str_eq(other->parent, bridge->parent))
            continue;
        if (ipvlan)
            return err_set(err, ERR_INTERNAL, "network di-%.12s is already using parent interface %s", other->id, bridge->parent);
        if (str_eq(bridge->parent_mode, "passthru"))
            return err_set(err, ERR_INTERNAL, "cannot use mode passthru, macvlan network %s is already using parent interface %s", other->id, bridge->parent);
        if (str_eq(other->parent_mode, "passthru"))
            return err_set(err, ERR_INTERNAL, "macvlan network %s is already using parent interface %s in mode passthru", other->id, bridge->parent);
    }
    return 0;
}

int parent_make(struct net *net, const struct bridge *bridge, struct err *err)
{
    if (check_others(net, bridge, err) < 0 || parent_up(net, bridge, err) < 0)
        return -1;
    return link_ipvlan_mode(bridge->parent_mode) ? try_card(net, bridge, err) : 0;
}

static const struct bridge *heir_of(struct net *net, const struct bridge *bridge) REQUIRES(net->lock)
{
    for (size_t i = 0; i < net->networks.len; i++)
        if (str_eq(net->networks.items[i].parent, bridge->parent) && !str_eq(net->networks.items[i].id, bridge->id))
            return &net->networks.items[i];
    return NULL;
}

int parent_remove(struct net *net, const struct bridge *bridge, struct err *err)
{
    struct link_info link;
    char alias[ALIAS_SIZE];
    parent_alias(net, bridge->id, alias);
    bool found = link_find(&net->link, bridge->parent, &link, NULL) == 0;
    if (!found || !(str_eq(link.alias, alias) || (is_stand_in(bridge) && !link.alias[0])))
        return 0;
    const struct bridge *heir = heir_of(net, bridge);
    if (!heir)
        return link_delete(&net->link, link.index, err);
    parent_alias(net, heir->id, alias);
    return link_set_alias(&net->link, link.index, alias, err);
}
