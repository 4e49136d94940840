// Links, bridges, addresses, firewall, published ports. A network is a bridge with a subnet: the daemon's default one, with the
// id "", and those that clients make, which may have a second subnet, of IPv6. And `none`.
//
// Every host-global object carries the daemon id: links `b<4 hex>...` (full name in ifalias), nftables table
// `berth_<id>`. nft -f makes the structure once (table, chains, maps, sets of bridges) and again when a network comes or goes, per
// container only map elements are added and removed, by netlink. Links and addresses by libnl-route. A container's network namespace is a descriptor
// and never a mount; it is dropped, never unlinked device by device: the kernel removes the veth pair by itself.
//
// Records (networks, addresses and ports in use) live in the store, so that a daemon that starts again gives none
// away twice. Thread-safe: any thread may call anything, none of them ever changes its own network namespace. The room
// works in the namespace of the thread that calls net_open(), and all its callers must be in that one. Calls hold no
// lock of the caller's and take only the store's (the room's own lock has rank 8).
#ifndef NET_NET_H
#define NET_NET_H

#include <net/if.h>
#include <netinet/in.h>

#include "base/strv.h"
#include "store/store.h"

struct net;

enum { NET_TRUSTED_SIZE = 256 };

// Where subnets without a wish come from: `base` cut into pieces of the prefix `size`.
struct net_pool {
    char base[INET_ADDRSTRLEN + 4]; // "10.10.0.0/16"
    int size;
};

struct net_config {
    const char *daemon_id; // 8 hex
    const char *bip; // "172.17.0.1/16", NULL: the first of Docker's pools that no route of the host overlaps
    const struct net_pool *pools; // instead of Docker's; read while opening
    size_t pool_len;
    // Of the default bridge. `bridge` NULL: one of ours; "none": there is none; else one that somebody else made, with the address that it
    // has, which is left as it is.
    const char *bridge;
    const char *fixed_cidr; // where its addresses are chosen from; NULL: the whole subnet
    const char *gateway; // the default route of its containers; NULL: the bridge
    bool ipv6; // it has IPv6 as well: the subnet of bip6 ("fd00::1/64"), else that of fixed_cidr6, else one of the daemon's own
    const char *bip6, *fixed_cidr6, *gateway6;
    int64_t mtu; // 0: the kernel's
    bool isolated, no_masquerade; // as net_network has it
    bool no_forward; // the host's forwarding is left as it is
    bool no_rules, no_rules6; // no firewall of ours, for either kind: published ports are the supervisors' relays alone
    bool no_proxy; // the kernel alone serves published ports: those of loopback addresses too, but for IPv6's
    uint32_t mark, mark_mask; // packets with this mark of the firewall may go to containers; mask 0: none
    bool direct_routing; // published ports are reached at the containers' own addresses as well, from outside
    const char *ip_forward_file; // NULL: /proc/sys/net/ipv4/ip_forward
    const char *ip6_forward_file; // NULL: /proc/sys/net/ipv6/conf/all/forwarding; touched when the first network with IPv6 comes
};

// Opens the records and makes nothing on the host yet: the bridge and the table come with the first container
// (net_bridge_up), so that a daemon without containers leaves the host alone. invalid_argument: a malformed id, bip, fixed_cidr or gateway of either kind;
// permission_denied: there is no bridge of that name.
int net_open(struct store *store, const struct net_config *config, struct net **out, struct err *err);
void net_close(struct net *net);

// Bridge, table, ip_forward (only when it is off; remembered in the store so that net_teardown puts it back).
// Idempotent and cheap when all is there; repairs what a stranger removed (link, address, table, rules; not single
// elements of a map) and puts attached containers back on a bridge that had to be made anew. The subnet is chosen here
// for good and kept over restarts; it changes only by another bip (conflict while containers are attached), or when the
// bridge is gone, no container is attached, and a route of the host overlaps it now. resource_exhausted: every pool
// overlaps.
int net_bridge_up(struct net *net, struct err *err);

// The default bridge's numbers, for inspect; before the first net_bridge_up() the ones that it would most likely choose
// (texts are empty when it could choose none).
struct net_bridge_info {
    char name[16]; // the link
    char subnet[INET_ADDRSTRLEN + 4], gateway[INET_ADDRSTRLEN]; // "172.17.0.0/16", "172.17.0.1"
    int prefix;
    char range[INET_ADDRSTRLEN + 4], route[INET_ADDRSTRLEN]; // "" where they are the whole subnet and the gateway
    char subnet6[INET6_ADDRSTRLEN + 5], gateway6[INET6_ADDRSTRLEN]; // "fd00::/64", "fd00::1"; "": it has no IPv6
    char range6[INET6_ADDRSTRLEN + 5], route6[INET6_ADDRSTRLEN];
};
void net_bridge_info(const struct net *net, struct net_bridge_info *out);

// ---- networks of clients --------------------------------------------------------------------------------------------

// How containers are reached through their bridge, and go out.
enum net_gateway_mode {
    NET_GATEWAY_NAT,
    NET_GATEWAY_UNPROTECTED, // the same, and every port of theirs is reached at their own addresses
    NET_GATEWAY_ROUTED, // under their own addresses, and what is published is reached at these
    NET_GATEWAY_ISOLATED, // the bridge has no address: of internal networks
};

struct net_network {
    const char *id; // 64 hex
    const char *link; // the bridge's name; NULL or "": one of ours
    // A link of the host's that containers share, each with a card of its own on it; NULL or "": a bridge. "eth0.10" is made where it is missing
    // (VLAN 10 of eth0), as is "dm-" or "di-" with the first 12 digits of the id, which leads nowhere.
    const char *parent;
    // Of macvlan "bridge" (NULL or "" too), "private", "vepa", "passthru"; of ipvlan "l2", "l3", "l3s", "/private" or "/vepa" behind it.
    const char *parent_mode;
    bool no_ipv4; // it has no subnet of IPv4: then it has one of IPv6
    const char *subnet, *gateway, *ip_range; // "10.1.0.0/16", "10.1.0.1", "10.1.5.0/24"; NULL or "": chosen; the whole subnet
    bool ipv6; // it has a subnet of IPv6 as well: this one, or one of the daemon's own (fdXX:XXXX:XX00:n::/64)
    const char *subnet6, *gateway6, *ip_range6;
    const struct strv *reserved; // addresses of both kinds that nobody gets
    bool internal; // nothing of it goes out, nothing comes in
    bool isolated; // its containers don't reach each other
    bool no_masquerade; // its addresses are seen outside
    enum net_gateway_mode gateway_mode, gateway_mode6;
    bool bare; // the bridge gets no address of IPv4
    // "eth0:eth1": links of the host's by which published ports are reached at the containers' own addresses; NULL or "": none
    const char *trusted;
    int64_t mtu; // 0: 1500
};
// Makes the record, the bridge and its rules. permission_denied: the subnet overlaps that of another network of ours;
// conflict: the name of the link is taken; resource_exhausted: every pool overlaps. On failure nothing stays.
int net_network_create(struct net *net, const struct net_network *wanted, struct net_bridge_info *out, struct err *err);
// After its last container was detached: else conflict. Missing is fine.
int net_network_remove(struct net *net, const char *id, struct err *err);
// What net_bridge_up() is for the default one, for any ("" is that one). not_found.
int net_network_up(struct net *net, const char *id, struct err *err);
bool net_network_info(struct net *net, const char *id, struct net_bridge_info *out); // false: there is none
// At start: removes the networks that `known` does not know, with their endpoints.
int net_sweep_networks(struct net *net, bool (*known)(void *context, const char *id), void *context, struct err *err);

// ---- ports ----------------------------------------------------------------------------------------------------------

// One published port. The caller names what is wanted; host_port 0 asks for a free one from the ephemeral range.
struct net_port {
    int proto; // IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
    char host_address[INET6_ADDRSTRLEN]; // "0.0.0.0", "127.0.0.1", "::", "::1"
    uint16_t host_port, target_port;
    int listener_fd; // bound (TCP: listening) socket, -1 until net_port_bind; of SCTP it keeps the port and serves nothing
};
// Binds the socket, so that a conflict is found now and the port stays ours; fills listener_fd (the caller's from here
// on) and host_port. IPv6 sockets take IPv6 alone. A failure is internal, as dockerd answers 500, with its words:
//   "driver failed programming external connectivity on endpoint NAME: Bind for 0.0.0.0:80 failed: port is already allocated"
//   for a port of an attached container of ours, "...: listen tcp4 0.0.0.0:80: bind: address already in use" for a stranger's;
// errno is kept in the error. `endpoint_name` stands there as it is given: Docker's form is "NAME (ENDPOINT ID)".
int net_port_bind(struct net *net, const char *endpoint_name, struct net_port *port, struct err *err);
const char *net_proto_name(int proto); // "tcp", "udp", "sctp"

// ---- endpoints ------------------------------------------------------------------------------------------------------

// What a container wants on a network.
struct net_wish {
    const char *container_id;
    const char *network_id; // NULL or "": the default bridge
    const char *endpoint_id; // NULL or "": the container's id
    const char *address, *address6, *mac; // NULL or "": chosen, where the network has that kind
    const char *interface; // NULL or "": "eth0"
    bool no_gateway, no_gateway6; // no default route this way, of either kind
    const int *netns_fd; // where to: a namespace that is there already, borrowed; NULL: a new one with lo up
    const struct net_port *ports; // forwarded to this endpoint
    size_t port_len;
    bool no_ports, no_ports6; // but not those whose host address is of that kind
};
struct net_endpoint {
    char endpoint_id[65]; // 64 hex
    char interface[IFNAMSIZ];
    char mac[18]; // "02:42:ac:11:00:02"
    char address[INET_ADDRSTRLEN]; // "": no IPv4
    char gateway[INET_ADDRSTRLEN]; // "" where the network has none (internal)
    int prefix;
    char address6[INET6_ADDRSTRLEN], gateway6[INET6_ADDRSTRLEN]; // "": no IPv6
    int prefix6;
    int netns_fd; // of the new namespace, owned by the caller from here on; -1
};
// After net_network_up(). Makes a veth pair whose far end is the interface in the container's namespace (address, default route),
// the near end on the bridge, and the DNAT elements for `ports` (those on loopback addresses, and on IPv6 where the network has none, are
// the shim's relay alone). The address is the lowest free one, or the one that is asked for: permission_denied "Address already in use",
// invalid_argument outside of the subnet. A container that is attached there already is
// detached first. resource_exhausted: no address left, or the bridge is full (1,023 ports). On failure nothing stays.
int net_attach(struct net *net, const struct net_wish *wish, struct net_endpoint *out, struct err *err);
// The same for a guest: a tap (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) on the bridge instead of the veth pair and the namespace, and
// the address is for the guest to take. The tap goes with the last descriptor of it; netns_fd is -1.
int net_attach_tap(struct net *net, const struct net_wish *wish, struct net_endpoint *out, int *tap_fd, struct err *err);
// Takes a container off one network while it goes on: the interface in its namespace is gone afterwards. Missing is fine.
int net_disconnect(struct net *net, const char *network_id, const char *container_id, struct err *err);
// The interface goes from that namespace: of a network without a bridge, where there is nothing on the host's side. Missing is fine.
int net_drop_interface(int netns_fd, const char *interface, struct err *err);
// Forwards the container's ports to its endpoints on these networks from now on, by the kind of the host's address; NULL: to none.
int net_move_ports(struct net *net, const char *container_id, const char *network_id, const char *network_id6, struct err *err);
// More of an interface in that namespace. Addresses are IPv4's (/16) or IPv6's (/64); a setting's key is "net.ipv6.conf.IFNAME.accept_ra", with
// that word where the interface's name belongs, of words without "/". A setting that the kernel does not have is not_found.
struct net_interface {
    const char *name;
    const struct strv *addresses;
    const struct kvs *settings;
};
int net_set_interface(int netns_fd, const struct net_interface *interface, struct err *err);
// The namespace's one default route of each kind goes by this gateway, or by this interface alone; both NULL or "": there is none.
struct net_way {
    const char *gateway, *interface;
};
int net_set_gateway(int netns_fd, const struct net_way *four, const struct net_way *six, struct err *err);
// A container's endpoints as they were recorded, for a daemon that starts again: `fn` gets each.
typedef void net_endpoint_fn(void *context, const char *network_id, const struct net_endpoint *endpoint);
int net_endpoints(struct net *net, const char *container_id, net_endpoint_fn *fn, void *context, struct err *err);
// The sockets of a name server in that namespace, bound to 127.0.0.11 at ports of their own; rules there make them port 53, which stays
// free for the container's own server. Again in the same namespace: the new ones take the old ones' place. `lo` must be up.
#define NET_RESOLVER_ADDRESS "127.0.0.11"
struct net_resolver {
    int udp_fd, tcp_fd; // not blocking; the caller's
};
int net_resolver_open(int netns_fd, struct net_resolver *out, struct err *err);
bool net_mac_valid(const char *text, unsigned char out[6]); // "02:42:ac:11:00:02"
// A namespace with only lo, for --network none.
int net_none(int *netns_fd, struct err *err);
int net_loopback_up(int netns_fd, struct err *err); // of a namespace that somebody else has made
// Off all networks: removes the DNAT elements, shuts the bridge ports and frees the addresses. The veth itself goes with the last reference
// to the namespace, a tap with its last descriptor, and nothing waits for that; whoever still holds one has no network from
// here on. Missing is fine.
int net_detach(struct net *net, const char *container_id, struct err *err);
// At start: forgets endpoints whose container `alive` does not know.
int net_sweep(struct net *net, bool (*alive)(void *context, const char *container_id), void *context, struct err *err);

// Counters of a container's interface, read inside its namespace (by a thread of its own). not_found without such an interface.
struct net_counters {
    int64_t rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped;
};
int net_counters(int netns_fd, const char *interface, struct net_counters *out, struct err *err);

// A line for `docker info` when a foreign firewall drops forwarded packets and cannot be overruled; NULL when fine
// (malloc'ed).
char *net_foreign_drop(struct net *net);

// --stop-all: table, bridges, what is left of veths, our DOCKER-USER rules, ip_forward back (unless another daemon's
// bridge still needs it), all endpoint records. Networks and their subnets stay recorded.
int net_teardown(struct net *net, struct err *err);

#endif
