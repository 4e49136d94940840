// Addresses and default routes by libnl-route, of both kinds.
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>

#include "base/file.h"
#include "net_private.h"

#define _cleanup_nl_addr_ _cleanup_(nl_addr_cleanup)

static void nl_addr_cleanup(struct nl_addr **address)
{
    nl_addr_put(*address);
}

// Four bytes or sixteen, with the prefix.
static struct nl_addr *build(int family, const void *bytes, int prefix)
{
    struct nl_addr *address = nl_addr_build(family, (void *)bytes, family == AF_INET ? 4 : 16);
    nl_addr_set_prefixlen(address, prefix);
    return address;
}

static int add_record(struct link_socket *socket, struct rtnl_addr *record, struct err *err)
{
    socket->number = 0;
    int result = rtnl_addr_add(socket->sock, record, NLM_F_EXCL);
    rtnl_addr_put(record);
    if (result < 0 && socket->number == EEXIST)
        return 0;
    return result < 0 ? link_failed(socket, result, err, "add an address") : 0;
}

int link_add_address(struct link_socket *socket, int index, uint32_t address, int prefix, struct err *err)
{
    uint32_t in = htonl(address), all = htonl(address | ~subnet_mask(prefix));
    _cleanup_nl_addr_ struct nl_addr *local = build(AF_INET, &in, prefix);
    _cleanup_nl_addr_ struct nl_addr *broadcast = build(AF_INET, &all, 32);
    struct rtnl_addr *record = rtnl_addr_alloc();
    rtnl_addr_set_ifindex(record, index);
    rtnl_addr_set_local(record, local);
    rtnl_addr_set_broadcast(record, broadcast);
    return add_record(socket, record, err);
}

int link_add_address6(struct link_socket *socket, int index, number128 address, int prefix, struct err *err)
{
    unsigned char bytes[16];
    address6_bytes(address, bytes);
    _cleanup_nl_addr_ struct nl_addr *local = build(AF_INET6, bytes, prefix);
    struct rtnl_addr *record = rtnl_addr_alloc();
    rtnl_addr_set_ifindex(record, index);
    rtnl_addr_set_local(record, local);
    rtnl_addr_set_flags(record, IFA_F_NODAD);
    return add_record(socket, record, err);
}

static int add_default_route(struct link_socket *socket, int family, int index, const void *gateway, struct err *err)
{
    static const unsigned char any[16];
    _cleanup_nl_addr_ struct nl_addr *via = build(family, gateway ? gateway : any, family == AF_INET ? 32 : 128);
    _cleanup_nl_addr_ struct nl_addr *destination = build(family, any, 0);
    struct rtnl_nexthop *hop = rtnl_route_nh_alloc();
    struct rtnl_route *route = rtnl_route_alloc();
    rtnl_route_nh_set_ifindex(hop, index);
    if (gateway)
        rtnl_route_nh_set_gateway(hop, via);
    rtnl_route_set_family(route, (uint8_t)family);
    rtnl_route_set_dst(route, destination);
    if (!gateway && family == AF_INET)
        rtnl_route_set_scope(route, RT_SCOPE_LINK);
    rtnl_route_add_nexthop(route, hop); // owned by the route from here on
    int result = rtnl_route_add(socket->sock, route, NLM_F_EXCL);
    rtnl_route_put(route);
    return result < 0 ? link_failed(socket, result, err, "add the default route") : 0;
}

int link_add_default_route(struct link_socket *socket, int index, uint32_t gateway, struct err *err)
{
    uint32_t in = htonl(gateway);
    return add_default_route(socket, AF_INET, index, &in, err);
}

int link_add_device_route(struct link_socket *socket, int family, int index, struct err *err)
{
    return add_default_route(socket, family, index, NULL, err);
}

int link_add_default_route6(struct link_socket *socket, int index, number128 gateway, struct err *err)
{
    unsigned char bytes[16];
    address6_bytes(gateway, bytes);
    return add_default_route(socket, AF_INET6, index, bytes, err);
}

static struct rtnl_route *any_default_route(int family)
{
    static const unsigned char any[16];
    _cleanup_nl_addr_ struct nl_addr *destination = build(family, any, 0);
    struct rtnl_route *route = rtnl_route_alloc();
    rtnl_route_set_family(route, (uint8_t)family);
    rtnl_route_set_scope(route, RT_SCOPE_NOWHERE);
    rtnl_route_set_dst(route, destination);
    return route;
}

// One at a time, by what identifies it to the kernel: it takes the first that fits.
int link_clear_default_route(struct link_socket *socket, int family, struct err *err)
{
    enum { ROUTES_MAX = 64 };
    for (int i = 0; i < ROUTES_MAX; i++) {
        struct rtnl_route *route = any_default_route(family);
        socket->number = 0;
        int result = rtnl_route_delete(socket->sock, route, 0);
        rtnl_route_put(route);
        if (result < 0)
            return socket->number == ESRCH || result == -NLE_OBJ_NOTFOUND ? 0
                                                                          : link_failed(socket, result, err, "remove the default route");
    }
    return 0;
}

int link_route_loopback(const char *interface, struct err *err)
{
    _cleanup_free_ char *path = mem_printf("/proc/sys/net/ipv4/conf/%s/route_localnet", interface);
    return file_put(AT_FDCWD, path, "1", err);
}

// A kernel without IPv6 has no such file, and no such addresses.
int link_switch_ipv6(const char *interface, bool on, struct err *err)
{
    struct err failed = { 0 };
    _cleanup_free_ char *path = mem_printf("/proc/sys/net/ipv6/conf/%s/disable_ipv6", interface);
    if (file_put(AT_FDCWD, path, on ? "0" : "1", &failed) == 0 || (failed.number == ENOENT && !on))
        return 0;
    if (err)
        *err = failed;
    return -1;
}
