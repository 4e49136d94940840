// Links, bridges, addresses, firewall, published ports. First floor: one default bridge per daemon, with NAT and
// published TCP and UDP ports, and `none`.
//
// Every host-global object carries the daemon id: links `b<4 hex>...` (full name in ifalias), nftables table
// `berth_<id>`. nft -f makes the structure once (table, chains, maps, masquerade), per container only map elements are
// added and removed, by netlink. Links and addresses by libnl-route. A container's network namespace is a descriptor
// and never a mount; it is dropped, never unlinked device by device: the kernel removes the veth pair by itself.
//
// Records (the subnet, addresses and ports in use) live in the store, so that a daemon that starts again gives none
// away twice. Thread-safe: any thread may call anything, none of them ever changes its own network namespace. The room
// works in the namespace of the thread that calls net_open(), and all its callers must be in that one. Calls hold no
// lock of the caller's and take only the store's (the room's own lock has rank 8).
#ifndef NET_NET_H
#define NET_NET_H

#include <netinet/in.h>

#include "base/strv.h"
#include "store/store.h"

struct net;

struct net_config {
    const char *daemon_id; // 8 hex
    const char *bip; // "172.17.0.1/16", NULL: the first of Docker's pools that no route of the host overlaps
    const char *ip_forward_file; // NULL: /proc/sys/net/ipv4/ip_forward
};

// Opens the records and makes nothing on the host yet: the bridge and the table come with the first container
// (net_bridge_up), so that a daemon without containers leaves the host alone. invalid_argument: a malformed id or bip.
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
};
void net_bridge_info(const struct net *net, struct net_bridge_info *out);

// One published port. The caller names what is wanted; host_port 0 asks for a free one from the ephemeral range.
struct net_port {
    int proto; // IPPROTO_TCP or IPPROTO_UDP
    char host_address[INET6_ADDRSTRLEN]; // "0.0.0.0", "127.0.0.1", "::", "::1"
    uint16_t host_port, target_port;
    int listener_fd; // bound (TCP: listening) socket, -1 until net_port_bind
};
// Binds the socket, so that a conflict is found now and the port stays ours; fills listener_fd (the caller's from here
// on) and host_port. IPv6 sockets take IPv6 alone. A failure is internal, as dockerd answers 500, with its words:
//   "driver failed programming external connectivity on endpoint NAME: Bind for 0.0.0.0:80 failed: port is already allocated"
//   for a port of an attached container of ours, "...: listen tcp4 0.0.0.0:80: bind: address already in use" for a stranger's;
// errno is kept in the error. `endpoint_name` stands there as it is given: Docker's form is "NAME (ENDPOINT ID)".
int net_port_bind(struct net *net, const char *endpoint_name, struct net_port *port, struct err *err);

struct net_endpoint {
    char endpoint_id[65]; // 64 hex; the container's own id, so that it is the same after a restart of the daemon
    char mac[18]; // "02:42:ac:11:00:02"
    char address[INET_ADDRSTRLEN];
    char gateway[INET_ADDRSTRLEN];
    int prefix;
    int netns_fd; // owned by the caller from here on
};
// After net_bridge_up(). Makes a namespace for `container_id`, with lo up, a veth pair whose far end is eth0 there
// (address, default route), the near end on the bridge, and the DNAT elements for `ports` (those on loopback addresses
// and IPv6 are the shim's relay alone). The address is the lowest free one. A container that is attached already is
// detached first. resource_exhausted: no address left, or the bridge is full (1,023 ports). On failure nothing stays.
int net_attach(struct net *net, const char *container_id, const struct net_port *ports, size_t port_len,
               struct net_endpoint *out, struct err *err);
// The same for a guest: a tap (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) on the bridge instead of the veth pair and the namespace, and
// the address is for the guest to take. The tap goes with the last descriptor of it; netns_fd is -1.
int net_attach_tap(struct net *net, const char *container_id, const struct net_port *ports, size_t port_len,
                   struct net_endpoint *out, int *tap_fd, struct err *err);
// A namespace with only lo, for --network none.
int net_none(int *netns_fd, struct err *err);
// Removes the DNAT elements, shuts the bridge port and frees the address. The veth itself goes with the last reference
// to the namespace, a tap with its last descriptor, and nothing waits for that; whoever still holds one has no network from
// here on. Missing is fine.
int net_detach(struct net *net, const char *container_id, struct err *err);
// At start: forgets endpoints whose container `alive` does not know.
int net_sweep(struct net *net, bool (*alive)(void *context, const char *container_id), void *context, struct err *err);

// Counters of a container's eth0, read inside its namespace (by a thread of its own). not_found without an eth0.
struct net_counters {
    int64_t rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped;
};
int net_counters(int netns_fd, struct net_counters *out, struct err *err);

// A line for `docker info` when a foreign firewall drops forwarded packets and cannot be overruled; NULL when fine
// (malloc'ed).
char *net_foreign_drop(struct net *net);

// --stop-all: table, bridge, what is left of veths, our DOCKER-USER rules, ip_forward back (unless another daemon's
// bridge still needs it), all endpoint records. The chosen subnet stays recorded.
int net_teardown(struct net *net, struct err *err);

#endif
