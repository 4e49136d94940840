// A container's place in the network. The order of attach is: record (address, link number, ports), namespace with its
// veth, port forwards. Whatever a crash leaves of that hangs on the record, and goes with net_detach().
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/file.h"
#include "net_private.h"

struct attach {
    struct net *net;
    const char *container_id;
    struct subnet subnet;
    uint32_t address;
    int64_t link_index;
};

static void link_name(const struct net *net, int64_t link_index, char out[IFNAMSIZ])
{
    snprintf(out, IFNAMSIZ, "b%.4s%lld", net->id, (long long)link_index);
}

// ---- making ---------------------------------------------------------------------------------------------------------

// Hairpin: with br_netfilter loaded, a container's packet to its own published port is rewritten while it is still being
// bridged, and must leave by the port it came from.
static int make_pair(const struct attach *attach, int netns_fd, struct err *err) REQUIRES(attach->net->lock)
{
    struct net *net = attach->net;
    struct link_info near;
    unsigned char mac[6];
    char name[IFNAMSIZ], alias[ALIAS_SIZE];

    if (!net->bridge_index)
        return err_set(err, ERR_UNAVAILABLE, "network bridge %s is not up", net->bridge);
    address_mac(attach->address, mac);
    link_name(net, attach->link_index, name);
    snprintf(alias, sizeof(alias), "berth %s %s", net->id, attach->container_id);
    if (link_add_veth(&net->link, name, net->bridge_index, netns_fd, mac, err) < 0 ||
        link_find(&net->link, name, &near, err) < 0 || link_set_alias(&net->link, near.index, alias, err) < 0)
        return -1;
    return link_set_hairpin(&net->link, near.index, err);
}

// The bridge has no IPv6: without this eth0 would draw a link-local address and spend its first seconds announcing it.
static int quiet_ipv6(struct err *err)
{
    struct err failed = { 0 };
    if (file_put(AT_FDCWD, "/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1", &failed) == 0 || failed.number == ENOENT)
        return 0;
    if (err)
        *err = failed;
    return -1;
}

static int configure_eth0(const struct attach *attach, struct err *err)
{
    struct link_socket inside;
    int index = (int)if_nametoindex("eth0");
    if (index == 0)
        return err_errno(err, errno, "eth0");
    if (link_open(&inside, err) < 0)
        return -1;
    int result = link_add_address(&inside, index, attach->address, attach->subnet.prefix, err);
    if (result == 0)
        result = link_set_up(&inside, index, err);
    if (result == 0)
        result = link_add_default_route(&inside, index, attach->subnet.gateway, err);
    link_close(&inside);
    return result;
}

static int fill_namespace(void *context, int netns_fd, struct err *err)
{
    const struct attach *attach = context;
    mutex_lock(&attach->net->lock);
    int result = make_pair(attach, netns_fd, err);
    mutex_unlock(&attach->net->lock);
    return result < 0 || quiet_ipv6(err) < 0 ? -1 : configure_eth0(attach, err);
}

// A table that is gone since net_bridge_up() comes back with all forwards, these included. A client that was sending before
// the port was there is forwarded from here on.
static int forward_ports(struct net *net, const char *container_id, struct err *err) REQUIRES(net->lock)
{
    _cleanup_record_ports_ struct record_ports ports = { 0 };
    struct err failed = { 0 };
    if (record_ports(net->store, container_id, &ports, err) < 0)
        return -1;
    int result = nft_add_elements(&net->nft, net->table, &ports, &failed);
    if (result < 0 && failed.class == ERR_NOT_FOUND)
        result = bridge_make_table(net, &failed);
    if (result < 0 && err)
        *err = failed;
    if (result == 0)
        conntrack_forget_ports(&net->nft, &ports);
    return result;
}

static void describe(const struct attach *attach, struct net_endpoint *out)
{
    unsigned char mac[6];
    *out = (struct net_endpoint){ .prefix = attach->subnet.prefix, .netns_fd = -1 };
    address_mac(attach->address, mac);
    snprintf(out->endpoint_id, sizeof(out->endpoint_id), "%s", attach->container_id);
    snprintf(out->mac, sizeof(out->mac), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    address_text(attach->address, out->address);
    address_text(attach->subnet.gateway, out->gateway);
}

// In the namespace of the calling thread, which is the room's.
static int make_tap(const struct attach *attach, int *tap_fd, struct err *err) REQUIRES(attach->net->lock)
{
    struct net *net = attach->net;
    char name[IFNAMSIZ], alias[ALIAS_SIZE];
    if (!net->bridge_index)
        return err_set(err, ERR_UNAVAILABLE, "network bridge %s is not up", net->bridge);
    link_name(net, attach->link_index, name);
    snprintf(alias, sizeof(alias), "berth %s %s", net->id, attach->container_id);
    _cleanup_close_ int fd = tap_open(name, err);
    if (fd < 0 || tap_quiet_ipv6(name, err) < 0 || tap_join(&net->link, name, alias, net->bridge_index, err) < 0)
        return -1;
    *tap_fd = take_fd(&fd);
    return 0;
}

static int make_record(struct attach *attach, const struct net_port *ports, size_t port_len, struct err *err)
{
    struct net *net = attach->net;
    mutex_lock(&net->lock); // the subnet can't change from here on: there is an endpoint in it
    attach->subnet = net->subnet;
    int result = record_endpoint_add(net->store, &attach->subnet, attach->container_id, ports, port_len, &attach->address,
                                     &attach->link_index, err);
    mutex_unlock(&net->lock);
    return result;
}

static int connect_container(struct attach *attach, size_t port_len, int *netns_fd, struct err *err)
{
    _cleanup_close_ int fd = -1;
    int result = 0;
    if (namespace_make(fill_namespace, attach, &fd, err) < 0)
        return -1;
    mutex_lock(&attach->net->lock);
    if (port_len)
        result = forward_ports(attach->net, attach->container_id, err);
    mutex_unlock(&attach->net->lock);
    if (result == 0)
        *netns_fd = take_fd(&fd);
    return result;
}

int net_attach(struct net *net, const char *container_id, const struct net_port *ports, size_t port_len,
               struct net_endpoint *out, struct err *err)
{
    struct attach attach = { .net = net, .container_id = container_id };
    int netns_fd = -1;
    // A record of a run that was cut off goes first.
    if (net_detach(net, container_id, err) < 0 || make_record(&attach, ports, port_len, err) < 0)
        return err_wrap(err, "attach to %s", net->bridge);
    if (connect_container(&attach, port_len, &netns_fd, err) < 0) {
        net_detach(net, container_id, NULL);
        return err_wrap(err, "attach to %s", net->bridge);
    }
    describe(&attach, out);
    out->netns_fd = netns_fd;
    return 0;
}

static int connect_guest(struct attach *attach, size_t port_len, int *tap_fd, struct err *err)
{
    _cleanup_close_ int fd = -1;
    mutex_lock(&attach->net->lock);
    int result = make_tap(attach, &fd, err);
    if (result == 0 && port_len)
        result = forward_ports(attach->net, attach->container_id, err);
    mutex_unlock(&attach->net->lock);
    if (result == 0)
        *tap_fd = take_fd(&fd);
    return result;
}

int net_attach_tap(struct net *net, const char *container_id, const struct net_port *ports, size_t port_len,
                   struct net_endpoint *out, int *tap_fd, struct err *err)
{
    struct attach attach = { .net = net, .container_id = container_id };
    if (net_detach(net, container_id, err) < 0 || make_record(&attach, ports, port_len, err) < 0)
        return err_wrap(err, "attach to %s", net->bridge);
    if (connect_guest(&attach, port_len, tap_fd, err) < 0) {
        net_detach(net, container_id, NULL);
        return err_wrap(err, "attach to %s", net->bridge);
    }
    describe(&attach, out);
    return 0;
}

int net_none(int *netns_fd, struct err *err)
{
    return namespace_make(NULL, NULL, netns_fd, err);
}

static int rejoin(struct net *net, const char *container_id, struct err *err) REQUIRES(net->lock)
{
    struct link_info near;
    char name[IFNAMSIZ];
    int64_t link_index;
    if (record_endpoint_find(net->store, container_id, &link_index, err) < 0)
        return -1;
    link_name(net, link_index, name);
    if (link_find(&net->link, name, &near, NULL) < 0)
        return 0; // its container is gone and its record goes with the next sweep
    if (link_set_master(&net->link, near.index, net->bridge_index, err) < 0)
        return -1;
    return link_set_hairpin(&net->link, near.index, err);
}

int endpoint_rejoin(struct net *net, struct err *err)
{
    _cleanup_strv_ struct strv ids = { 0 };
    int result = record_endpoint_ids(net->store, &ids, err);
    for (size_t i = 0; i < ids.len && result >= 0; i++)
        result = rejoin(net, ids.items[i], err);
    return result < 0 ? -1 : 0;
}

// ---- ending ---------------------------------------------------------------------------------------------------------

// The namespace may live on for a moment, or longer when somebody still holds it, and its address goes to the next
// container: so the near end is shut off now. Removing it would wait for the kernel (8 ms and more).
static void silence(struct net *net, int64_t link_index) REQUIRES(net->lock)
{
    struct link_info near;
    char name[IFNAMSIZ];
    link_name(net, link_index, name);
    if (link_find(&net->link, name, &near, NULL) == 0)
        link_block_port(&net->link, near.index, NULL); // fails only when the link just went
}

static int detach(struct net *net, const char *container_id, struct err *err) REQUIRES(net->lock)
{
    _cleanup_record_ports_ struct record_ports ports = { 0 };
    int64_t link_index;
    int found = record_endpoint_find(net->store, container_id, &link_index, err);
    if (found <= 0)
        return found;
    if (record_ports(net->store, container_id, &ports, err) < 0 ||
        nft_remove_elements(&net->nft, net->table, &ports, err) < 0)
        return -1;
    silence(net, link_index);
    if (ports.len)
        conntrack_forget_target(&net->nft, ports.items[0].target);
    return record_endpoint_remove(net->store, container_id, err);
}

int net_detach(struct net *net, const char *container_id, struct err *err)
{
    mutex_lock(&net->lock);
    int result = detach(net, container_id, err);
    mutex_unlock(&net->lock);
    return result < 0 ? err_wrap(err, "detach from %s", net->bridge) : 0;
}

int net_sweep(struct net *net, bool (*alive)(void *context, const char *container_id), void *context, struct err *err)
{
    _cleanup_strv_ struct strv ids = { 0 };
    int result = record_endpoint_ids(net->store, &ids, err);
    for (size_t i = 0; i < ids.len && result >= 0; i++)
        if (!alive(context, ids.items[i]))
            result = net_detach(net, ids.items[i], err);
    return result < 0 ? -1 : 0;
}

// ---- counters -------------------------------------------------------------------------------------------------------

static int read_counters(void *context, int netns_fd, struct err *err)
{
    struct link_socket inside;
    if (link_open(&inside, err) < 0)
        return -1;
    int result = link_counters(&inside, "eth0", context, err);
    link_close(&inside);
    return result;
}

int net_counters(int netns_fd, struct net_counters *out, struct err *err)
{
    return namespace_visit(netns_fd, read_counters, out, err);
}
