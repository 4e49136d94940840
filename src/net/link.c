// Links by libnl-route. No caches: each would dump every link of the host.
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/link/macvlan.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/rtnl.h>
#include <stdio.h>

#include "net_private.h"

enum { DUMP_TRIES = 8, MESSAGE_SIZE = 32 * 1024 };

#define _cleanup_link_ _cleanup_(link_put)

static void link_put(struct rtnl_link **link)
{
    rtnl_link_put(*link);
}

// ---- the socket -----------------------------------------------------------------------------------------------------

static int keep_number(struct sockaddr_nl *from, struct nlmsgerr *error, void *argument)
{
    ((struct link_socket *)argument)->number = -error->error;
    return -NLE_FAILURE;
}

int link_open(struct link_socket *out, struct err *err)
{
    *out = (struct link_socket){ .sock = nl_socket_alloc() };
    int result = out->sock ? nl_connect(out->sock, NETLINK_ROUTE) : -NLE_NOMEM;
    if (result < 0) {
        link_close(out);
        return err_set(err, ERR_INTERNAL, "open rtnetlink: %s", nl_geterror(result));
    }
    nl_socket_modify_err_cb(out->sock, NL_CB_CUSTOM, keep_number, out);
    // One read per message, into a buffer that no answer outgrows, instead of one to ask for its size and one to get it.
    nl_socket_set_msg_buf_size(out->sock, MESSAGE_SIZE);
    nl_socket_disable_msg_peek(out->sock);
    return 0;
}

void link_close(struct link_socket *socket)
{
    if (socket->sock)
        nl_socket_free(socket->sock);
    socket->sock = NULL;
}

int link_failed(struct link_socket *socket, int result, struct err *err, const char *what)
{
    int number = socket->number;
    socket->number = 0;
    return number ? err_errno(err, number, "%s", what) : err_set(err, ERR_INTERNAL, "%s: %s", what, nl_geterror(result));
}

// ---- reading --------------------------------------------------------------------------------------------------------

static int get(struct link_socket *socket, const char *name, struct rtnl_link **out, struct err *err)
{
    socket->number = 0;
    int result = rtnl_link_get_kernel(socket->sock, 0, name, out);
    if (result == 0)
        return 0;
    if (result == -NLE_OBJ_NOTFOUND || result == -NLE_NODEV || socket->number == ENODEV)
        return err_set(err, ERR_NOT_FOUND, "link %s: no such device", name);
    return link_failed(socket, result, err, name);
}

int link_find(struct link_socket *socket, const char *name, struct link_info *out, struct err *err)
{
    _cleanup_link_ struct rtnl_link *link = NULL;
    if (get(socket, name, &link, err) < 0)
        return -1;
    const char *alias = rtnl_link_get_ifalias(link);
    *out = (struct link_info){ .index = rtnl_link_get_ifindex(link), .up = rtnl_link_get_flags(link) & IFF_UP };
    snprintf(out->alias, sizeof(out->alias), "%s", alias ? alias : "");
    return 0;
}

int link_counters(struct link_socket *socket, const char *name, struct net_counters *out, struct err *err)
{
    _cleanup_link_ struct rtnl_link *link = NULL;
    if (get(socket, name, &link, err) < 0)
        return -1;
    *out = (struct net_counters){
        .rx_bytes = (int64_t)rtnl_link_get_stat(link, RTNL_LINK_RX_BYTES),
        .rx_packets = (int64_t)rtnl_link_get_stat(link, RTNL_LINK_RX_PACKETS),
        .rx_errors = (int64_t)rtnl_link_get_stat(link, RTNL_LINK_RX_ERRORS),
        .rx_dropped = (int64_t)rtnl_link_get_stat(link, RTNL_LINK_RX_DROPPED),
        .tx_bytes = (int64_t)rtnl_link_get_stat(link, RTNL_LINK_TX_BYTES),
        .tx_packets = (int64_t)rtnl_link_get_stat(link, RTNL_LINK_TX_PACKETS),
        .tx_errors = (int64_t)rtnl_link_get_stat(link, RTNL_LINK_TX_ERRORS),
        .tx_dropped = (int64_t)rtnl_link_get_stat(link, RTNL_LINK_TX_DROPPED),
    };
    return 0;
}

// Dumps are read message by message, so that a host with a full routing table costs time and no memory. A dump during which
// the table changed is repeated: a callback may see an entry more than once.
static int dump(struct link_socket *socket, int type, int family, nl_recvmsg_msg_cb_t fn, void *context, struct err *err)
{
    struct nl_cb *old = nl_socket_get_cb(socket->sock);
    struct nl_cb *cb = nl_cb_clone(old);
    int result = -NLE_DUMP_INTR;
    socket->number = 0;
    nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, fn, context);
    for (int i = 0; i < DUMP_TRIES && result == -NLE_DUMP_INTR; i++) {
        result = nl_rtgen_request(socket->sock, type, family, NLM_F_DUMP);
        if (result >= 0)
            result = nl_recvmsgs(socket->sock, cb);
    }
    nl_cb_put(cb);
    nl_cb_put(old);
    return result < 0 ? link_failed(socket, result, err, "read the host's links and routes") : 0;
}

struct link_walk {
    link_each_fn *fn;
    void *context;
};

static int on_link(struct nl_msg *message, void *argument)
{
    const struct link_walk *walk = argument;
    struct nlattr *attributes[IFLA_MAX + 1];
    if (nlmsg_parse(nlmsg_hdr(message), sizeof(struct ifinfomsg), attributes, IFLA_MAX, NULL) < 0)
        return NL_SKIP;
    const struct ifinfomsg *header = nlmsg_data(nlmsg_hdr(message));
    struct link_info info = { .index = header->ifi_index, .up = header->ifi_flags & IFF_UP };
    if (attributes[IFLA_IFALIAS])
        nla_strlcpy(info.alias, attributes[IFLA_IFALIAS], sizeof(info.alias));
    walk->fn(walk->context, &info);
    return NL_OK;
}

int link_each(struct link_socket *socket, link_each_fn *fn, void *context, struct err *err)
{
    struct link_walk walk = { fn, context };
    return dump(socket, RTM_GETLINK, AF_UNSPEC, on_link, &walk, err);
}

struct address_walk {
    int index;
    const struct subnet *range;
    struct subnet found;
};

static int on_address(struct nl_msg *message, void *argument)
{
    struct address_walk *walk = argument;
    struct nlattr *attributes[IFA_MAX + 1];
    if (nlmsg_parse(nlmsg_hdr(message), sizeof(struct ifaddrmsg), attributes, IFA_MAX, NULL) < 0)
        return NL_SKIP;
    const struct ifaddrmsg *header = nlmsg_data(nlmsg_hdr(message));
    struct nlattr *local = attributes[IFA_LOCAL] ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];
    if (header->ifa_family != AF_INET || (int)header->ifa_index != walk->index || !local || nla_len(local) != sizeof(uint32_t))
        return NL_OK;
    const struct subnet address = { .gateway = ntohl(nla_get_u32(local)), .prefix = header->ifa_prefixlen };
    bool fits = walk->range->range_prefix && subnet_contains(&address, walk->range->range_first);
    bool fitted = walk->found.gateway && walk->range->range_prefix && subnet_contains(&walk->found, walk->range->range_first);
    if (!walk->found.gateway || (fits && !fitted))
        walk->found = address;
    return NL_OK;
}

struct address6_walk {
    int index;
    const struct subnet6 *range;
    struct subnet6 found;
};

static int on_address6(struct nl_msg *message, void *argument)
{
    struct address6_walk *walk = argument;
    struct nlattr *attributes[IFA_MAX + 1];
    char text[INET6_ADDRSTRLEN];
    struct subnet6 address = { 0 };
    if (nlmsg_parse(nlmsg_hdr(message), sizeof(struct ifaddrmsg), attributes, IFA_MAX, NULL) < 0)
        return NL_SKIP;
    const struct ifaddrmsg *header = nlmsg_data(nlmsg_hdr(message));
    struct nlattr *local = attributes[IFA_LOCAL] ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];
    if (header->ifa_family != AF_INET6 || (int)header->ifa_index != walk->index || !local || nla_len(local) != sizeof(struct in6_addr) ||
        header->ifa_scope == RT_SCOPE_LINK || !inet_ntop(AF_INET6, nla_data(local), text, sizeof(text)))
        return NL_OK;
    address6_parse(text, &address.gateway);
    address.prefix = header->ifa_prefixlen;
    bool fits = walk->range->range_prefix && subnet6_contains(&address, walk->range->range_first);
    bool fitted = walk->found.prefix && walk->range->range_prefix && subnet6_contains(&walk->found, walk->range->range_first);
    if (!walk->found.prefix || (fits && !fitted))
        walk->found = address;
    return NL_OK;
}

int link_address6(struct link_socket *socket, int index, const struct subnet6 *range, struct subnet6 *out, struct err *err)
{
    struct address6_walk walk = { .index = index, .range = range };
    if (dump(socket, RTM_GETADDR, AF_INET6, on_address6, &walk, err) < 0)
        return -1;
    out->gateway = walk.found.gateway;
    out->prefix = walk.found.prefix;
    return walk.found.prefix != 0;
}

int link_address(struct link_socket *socket, int index, const struct subnet *range, struct subnet *out, struct err *err)
{
    struct address_walk walk = { .index = index, .range = range };
    if (dump(socket, RTM_GETADDR, AF_INET, on_address, &walk, err) < 0)
        return -1;
    *out = walk.found;
    return walk.found.gateway != 0;
}

struct route_walk {
    link_route_fn *fn;
    void *context;
};

static int on_route(struct nl_msg *message, void *argument)
{
    const struct route_walk *walk = argument;
    struct nlattr *attributes[RTA_MAX + 1];
    if (nlmsg_parse(nlmsg_hdr(message), sizeof(struct rtmsg), attributes, RTA_MAX, NULL) < 0)
        return NL_SKIP;
    const struct rtmsg *header = nlmsg_data(nlmsg_hdr(message));
    uint32_t destination = 0;
    if (attributes[RTA_DST] && nla_len(attributes[RTA_DST]) == sizeof(uint32_t))
        destination = ntohl(nla_get_u32(attributes[RTA_DST]));
    if (header->rtm_family == AF_INET)
        walk->fn(walk->context, destination, header->rtm_dst_len);
    return NL_OK;
}

int link_each_route(struct link_socket *socket, link_route_fn *fn, void *context, struct err *err)
{
    struct route_walk walk = { fn, context };
    return dump(socket, RTM_GETROUTE, AF_INET, on_route, &walk, err);
}

// ---- making ---------------------------------------------------------------------------------------------------------

static void set_mac(struct rtnl_link *link, const unsigned char mac[6])
{
    struct nl_addr *address = nl_addr_build(AF_LLC, mac, 6);
    rtnl_link_set_addr(link, address);
    nl_addr_put(address);
}

int link_add_bridge(struct link_socket *socket, const char *name, const unsigned char mac[6], int mtu, struct err *err)
{
    _cleanup_link_ struct rtnl_link *link = rtnl_link_alloc();
    rtnl_link_set_type(link, "bridge");
    rtnl_link_set_name(link, name);
    if (mtu)
        rtnl_link_set_mtu(link, (unsigned)mtu);
    set_mac(link, mac); // an address of its own: one borrowed from a port would change with the ports
    int result = rtnl_link_add(socket->sock, link, NLM_F_CREATE | NLM_F_EXCL);
    return result < 0 ? link_failed(socket, result, err, "make the bridge") : 0;
}

int link_add_veth(struct link_socket *socket, const struct link_pair *pair, struct err *err)
{
    struct rtnl_link *link = rtnl_link_veth_alloc();
    struct rtnl_link *peer = rtnl_link_veth_get_peer(link);
    rtnl_link_set_name(link, pair->name);
    rtnl_link_set_master(link, pair->master);
    rtnl_link_set_flags(link, IFF_UP);
    rtnl_link_set_name(peer, pair->far);
    rtnl_link_set_ns_fd(peer, pair->netns_fd);
    if (pair->mtu) {
        rtnl_link_set_mtu(link, (unsigned)pair->mtu);
        rtnl_link_set_mtu(peer, (unsigned)pair->mtu);
    }
    set_mac(peer, pair->mac);
    rtnl_link_put(peer); // the reference that get_peer took
    int result = rtnl_link_add(socket->sock, link, NLM_F_CREATE | NLM_F_EXCL);
    rtnl_link_veth_release(link);
    if (result < 0 && socket->number == EXFULL) {
        socket->number = 0;
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "the bridge is full: a Linux bridge takes 1,023 ports");
    }
    return result < 0 ? link_failed(socket, result, err, "make a veth pair") : 0;
}

bool link_macvlan_mode(const char *mode)
{
    static const char *const modes[] = { "bridge", "private", "vepa", "passthru" };
    for (size_t i = 0; i < ARRAY_LEN(modes); i++)
        if (str_eq(mode, modes[i]))
            return true;
    return false;
}

int link_add_macvlan(struct link_socket *socket, const struct link_pair *card, const char *mode, struct err *err)
{
    _cleanup_link_ struct rtnl_link *link = rtnl_link_macvlan_alloc();
    rtnl_link_set_name(link, card->far);
    rtnl_link_set_link(link, card->master);
    rtnl_link_set_ns_fd(link, card->netns_fd);
    if (card->mtu)
        rtnl_link_set_mtu(link, (unsigned)card->mtu);
    set_mac(link, card->mac);
    rtnl_link_macvlan_set_mode(link, (uint32_t)rtnl_link_macvlan_str2mode(mode));
    socket->number = 0;
    int result = rtnl_link_add(socket->sock, link, NLM_F_CREATE | NLM_F_EXCL);
    return result < 0 ? link_failed(socket, result, err, "make a macvlan card") : 0;
}

static int change(struct link_socket *socket, int index, struct rtnl_link *changes, const char *what, struct err *err)
{
    _cleanup_link_ struct rtnl_link *original = rtnl_link_alloc();
    rtnl_link_set_ifindex(original, index);
    int result = rtnl_link_change(socket->sock, original, changes, 0);
    return result < 0 ? link_failed(socket, result, err, what) : 0;
}

int link_set_alias(struct link_socket *socket, int index, const char *alias, struct err *err)
{
    _cleanup_link_ struct rtnl_link *changes = rtnl_link_alloc();
    rtnl_link_set_ifalias(changes, alias);
    return change(socket, index, changes, "name a link", err);
}

int link_set_master(struct link_socket *socket, int index, int master, struct err *err)
{
    _cleanup_link_ struct rtnl_link *changes = rtnl_link_alloc();
    rtnl_link_set_master(changes, master);
    return change(socket, index, changes, "make a link a bridge port", err);
}

int link_set_up(struct link_socket *socket, int index, struct err *err)
{
    _cleanup_link_ struct rtnl_link *changes = rtnl_link_alloc();
    rtnl_link_set_flags(changes, IFF_UP);
    return change(socket, index, changes, "bring a link up", err);
}

// What belongs to a bridge's port is set by AF_BRIDGE requests. libnl's own functions send some of them as RTM_NEWLINK,
// which the kernel takes without an error and without an effect.
static int set_port(struct link_socket *socket, int index, int attribute, uint8_t value, const char *what, struct err *err)
{
    const struct ifinfomsg header = { .ifi_family = AF_BRIDGE, .ifi_index = index };
    struct nl_msg *message = nlmsg_alloc_simple(RTM_SETLINK, 0);
    nlmsg_append(message, (void *)&header, sizeof(header), NLMSG_ALIGNTO);
    struct nlattr *nest = nla_nest_start(message, IFLA_PROTINFO | NLA_F_NESTED);
    nla_put_u8(message, attribute, value);
    nla_nest_end(message, nest);
    socket->number = 0;
    int result = nl_send_sync(socket->sock, message); // frees the message
    return result < 0 ? link_failed(socket, result, err, what) : 0;
}

int link_set_hairpin(struct link_socket *socket, int index, struct err *err)
{
    return set_port(socket, index, IFLA_BRPORT_MODE, 1, "set hairpin mode", err);
}

int link_isolate_port(struct link_socket *socket, int index, struct err *err)
{
    return set_port(socket, index, IFLA_BRPORT_ISOLATED, 1, "isolate a bridge port", err);
}

int link_block_port(struct link_socket *socket, int index, struct err *err)
{
    return set_port(socket, index, IFLA_BRPORT_STATE, BR_STATE_DISABLED, "block a bridge port", err);
}

int link_delete(struct link_socket *socket, int index, struct err *err)
{
    _cleanup_link_ struct rtnl_link *link = rtnl_link_alloc();
    rtnl_link_set_ifindex(link, index);
    socket->number = 0;
    int result = rtnl_link_delete(socket->sock, link);
    if (result < 0 && (socket->number == ENODEV || result == -NLE_NODEV))
        return 0;
    return result < 0 ? link_failed(socket, result, err, "remove a link") : 0;
}
