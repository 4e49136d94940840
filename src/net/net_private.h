// What the files of this room share. Addresses are numbers (uint32_t, number128) in host byte order everywhere inside, and turned into text
// or network order at the edge that needs it.
#ifndef NET_NET_PRIVATE_H
#define NET_NET_PRIVATE_H

#include <net/if.h>

#include "base/mutex.h"
#include "net/net.h"

enum { ALIAS_SIZE = 192, MAC_TEXT_SIZE = 18 };

// ---- subnets (address.c) --------------------------------------------------------------------------------------------

struct subnet {
    uint32_t gateway; // the bridge's own address; 0: no subnet chosen, or a network has none
    int prefix;
    uint32_t range_first; // where addresses are chosen from
    int range_prefix; // 0: anywhere in the subnet
    uint32_t route; // the containers' default gateway where it is not the bridge: nobody gets that address; 0: it is
};
uint32_t subnet_mask(int prefix);
bool subnet_contains(const struct subnet *subnet, uint32_t address);
bool subnets_overlap(const struct subnet *a, const struct subnet *b);
int subnet_parse(const char *text, struct subnet *out, struct err *err); // "172.17.0.1/16"
// "10.1.0.0/16": a network's own address and a prefix.
int network_parse(const char *text, uint32_t *address, int *prefix, struct err *err);
void address_text(uint32_t address, char out[INET_ADDRSTRLEN]);
void address_mac(uint32_t address, unsigned char out[6]); // 02:42 and the address: unique within the bridge
bool mac_parse(const char *text, unsigned char out[6]); // "02:42:ac:11:00:02"
void mac_text(const unsigned char mac[6], char out[MAC_TEXT_SIZE]);
// The lowest address of the range that is neither taken (sorted ascending), network, broadcast nor gateway.
int address_lowest_free(const struct subnet *subnet, const uint32_t *taken, size_t len, uint32_t *out, struct err *err);

// ---- subnets of IPv6 (address6.c) -------------------------------------------------------------------------------------

__extension__ typedef unsigned __int128 number128;
enum { SUBNET6_TEXT_SIZE = INET6_ADDRSTRLEN + 5 };

struct subnet6 {
    number128 gateway; // the bridge's own address
    int prefix; // 0: there is none
    number128 range_first; // where addresses are chosen from
    int range_prefix; // 0: anywhere in the subnet
    number128 route; // the containers' default gateway where it is not the bridge: nobody gets that address; 0: it is
};
int subnet6_read(const struct net_network *wanted, struct subnet6 *out, struct err *err); // of subnet6, ip_range6, gateway6
void subnet6_own(const char daemon_id[9], unsigned number, struct subnet6 *out); // the daemon's subnet of that number
bool subnet6_contains(const struct subnet6 *subnet, number128 address);
bool subnets6_overlap(const struct subnet6 *a, const struct subnet6 *b);
number128 subnet6_network(const struct subnet6 *subnet); // its own address
void subnet6_text(number128 address, int prefix, char out[SUBNET6_TEXT_SIZE]); // "fd00::/64"
bool cidr6_parse(const char *text, number128 *address, int *prefix);
bool address6_parse(const char *text, number128 *out);
void address6_text(number128 address, char out[INET6_ADDRSTRLEN]);
void address6_bytes(number128 address, unsigned char out[16]); // as it goes over the wire
uint32_t address6_fold(number128 address); // for a card's address where there is no other number
// The lowest one of the range that is neither in `taken` (in any order), the network's own nor the gateway.
int address6_lowest_free(const struct subnet6 *subnet, const number128 *taken, size_t len, number128 *out, struct err *err);

// ---- rtnetlink (link.c, link_address.c) -----------------------------------------------------------------------------------

// One socket into the network namespace of the thread that opened it; it stays there. libnl folds errnos into its own
// few codes, so the kernel's number is kept beside.
struct nl_sock;
struct link_socket {
    struct nl_sock *sock;
    int number; // errno of the last failed request
};
int link_open(struct link_socket *out, struct err *err); // `out` must not move while open
void link_close(struct link_socket *socket);

struct link_info {
    int index;
    bool up;
    char alias[ALIAS_SIZE];
};
int link_find(struct link_socket *socket, const char *name, struct link_info *out, struct err *err); // not_found
int link_counters(struct link_socket *socket, const char *name, struct net_counters *out, struct err *err);
int link_add_bridge(struct link_socket *socket, const char *name, const unsigned char mac[6], int mtu,
                    struct err *err); // mtu 0: the kernel's
// A veth pair, made in one request: `name` here, a port of bridge `master`, up; `far` with `mac` in `netns_fd`, down.
struct link_pair {
    const char *name, *far;
    int master, netns_fd, mtu;
    const unsigned char *mac;
};
int link_add_veth(struct link_socket *socket, const struct link_pair *pair, struct err *err);
// A card on the link `master`, made in `netns_fd`; `name` is not used.
int link_add_macvlan(struct link_socket *socket, const struct link_pair *card, const char *mode, struct err *err);
bool link_macvlan_mode(const char *mode); // there is such a one
// The same of ipvlan (link_card.c): its address is its master's, `mac` is not used. not_implemented: the kernel has no such links.
int link_add_ipvlan(struct link_socket *socket, const struct link_pair *card, const char *mode, struct err *err);
bool link_ipvlan_mode(const char *mode);
int link_add_vlan(struct link_socket *socket, const char *name, int master, uint16_t vlan, struct err *err);
int link_add_dummy(struct link_socket *socket, const char *name, struct err *err);
int link_set_alias(struct link_socket *socket, int index, const char *alias, struct err *err);
int link_set_master(struct link_socket *socket, int index, int master, struct err *err);
int link_set_up(struct link_socket *socket, int index, struct err *err);
int link_add_address(struct link_socket *socket, int index, uint32_t address, int prefix, struct err *err); // again is fine
int link_add_default_route(struct link_socket *socket, int index, uint32_t gateway, struct err *err);
int link_add_device_route(struct link_socket *socket, int family, int index, struct err *err); // a default route that has no gateway
// At once of use: nobody is asked whether it is somebody's (addresses are the daemon's to give).
int link_add_address6(struct link_socket *socket, int index, number128 address, int prefix, struct err *err); // again is fine
int link_add_default_route6(struct link_socket *socket, int index, number128 gateway, struct err *err);
// Takes away the default routes that there are; of AF_INET6 those of the main table.
int link_clear_default_route(struct link_socket *socket, int family, struct err *err);
// IPv6 on this interface of the calling thread's namespace; switched off, it draws no link-local address and announces nothing.
int link_switch_ipv6(const char *interface, bool on, struct err *err);
// Packets for 127.0.0.0/8 may come or go by that link.
int link_route_loopback(const char *interface, struct err *err);
int link_failed(struct link_socket *socket, int result, struct err *err, const char *what); // libnl's result as our error; -1
int link_set_hairpin(struct link_socket *socket, int index, struct err *err);
int link_isolate_port(struct link_socket *socket, int index, struct err *err); // no way to other isolated ports
int link_block_port(struct link_socket *socket, int index, struct err *err);
int link_delete(struct link_socket *socket, int index, struct err *err); // missing is fine
// An IPv4 address of that link, one in the range before others (prefix 0: any). 1 when it has one.
int link_address(struct link_socket *socket, int index, const struct subnet *range, struct subnet *out, struct err *err);
// The same of IPv6, where link-local addresses don't count; into gateway and prefix, 0 when it has none.
int link_address6(struct link_socket *socket, int index, const struct subnet6 *range, struct subnet6 *out, struct err *err);

// Dumps; the callbacks must not use the socket.
typedef void link_each_fn(void *context, const struct link_info *link);
int link_each(struct link_socket *socket, link_each_fn *fn, void *context, struct err *err);
typedef void link_route_fn(void *context, uint32_t destination, int prefix);
int link_each_route(struct link_socket *socket, link_route_fn *fn, void *context, struct err *err); // IPv4, all tables

// ---- namespaces (namespace.c) ---------------------------------------------------------------------------------------

// Work inside another network namespace is done by a short-lived thread of its own, so that no thread of the program ever
// changes its namespace. `fn` runs there with the namespace's descriptor.
typedef int namespace_fn(void *context, int netns_fd, struct err *err);
int namespace_make(namespace_fn *fn, void *context, int *netns_fd, struct err *err); // lo is up when fn runs
int namespace_visit(int netns_fd, namespace_fn *fn, void *context, struct err *err);

// ---- taps (tap.c) ---------------------------------------------------------------------------------------------------

int tap_open(const char *name, struct err *err); // a new one in the caller's namespace, not persistent; its descriptor
int tap_join(struct link_socket *socket, const char *name, const char *alias, int bridge, struct err *err); // and up

// ---- bridges (network.c) --------------------------------------------------------------------------------------------

enum bridge_flag {
    BRIDGE_INTERNAL = 1,
    BRIDGE_ISOLATED = 2,
    BRIDGE_NO_MASQUERADE = 4,
    BRIDGE_ROUTED = 8, // this and what follows of IPv4, and of IPv6
    BRIDGE_ROUTED6 = 16,
    BRIDGE_UNPROTECTED = 32,
    BRIDGE_UNPROTECTED6 = 64,
    BRIDGE_NO_ADDRESS = 128, // its gateway's number is only the network's own
    BRIDGE_NO_ADDRESS6 = 256,
    BRIDGE_BARE = 512, // the link gets no address of IPv4, although the network has a gateway: somebody else has it
};

// What a network is on the host.
struct bridge {
    char id[65]; // "": the default one
    char link[IFNAMSIZ];
    struct subnet subnet;
    struct subnet6 subnet6;
    char trusted[NET_TRUSTED_SIZE]; // "eth0:eth1": links of the host's by which its published ports are reached at the containers' own addresses
    char parent[IFNAMSIZ], parent_mode[12]; // macvlan, ipvlan: there is no bridge, `link` is only the record's own name; "": a bridge
    unsigned flags;
    int mtu; // 0: the kernel's
    int index; // of the link; 0: not seen yet
};

// ---- records (record.c, record_network.c) ---------------------------------------------------------------------------

struct record_port {
    char container_id[65];
    uint32_t target; // the container's address
    number128 target6; // either is 0 where it has none of that kind
    unsigned flags; // of its network
    bool trusts; // its network has links that it trusts
    struct net_port port; // listener_fd is -1
};
struct record_ports {
    struct record_port *items;
    size_t len;
};
void record_ports_done(struct record_ports *ports);
#define _cleanup_record_ports_ _cleanup_(record_ports_done)

int record_migrate(struct store *store, struct err *err);
int record_setting(struct store *store, const char *key, char **out, struct err *err); // malloc'ed, NULL when unset
int record_set(struct store *store, const char *key, const char *value, struct err *err); // NULL removes
int record_endpoint_count(struct store *store, const char *network_id, struct err *err);

struct record_endpoint {
    char network_id[65], container_id[65], endpoint_id[65], interface[IFNAMSIZ];
    uint32_t address;
    number128 address6; // either is 0: to be chosen, where the network has that kind
    int64_t link_index;
    unsigned char mac[6];
};
struct record_endpoints {
    struct record_endpoint *items;
    size_t len;
};
void record_endpoints_done(struct record_endpoints *endpoints);
#define _cleanup_record_endpoints_ _cleanup_(record_endpoints_done)
// Gives `endpoint` its address and link number (never given twice) in one transaction, with its ports; conflict when the
// container has one on that network already, permission_denied when the address is somebody's.
int record_endpoint_add(struct store *store, const struct bridge *bridge, struct record_endpoint *endpoint, const struct net_wish *wish,
                        struct err *err);
// Those of one container (NULL: all) on one network (NULL: all).
int record_endpoints(struct store *store, const char *network_id, const char *container_id, struct record_endpoints *out,
                     struct err *err);
int record_endpoint_remove(struct store *store, const struct record_endpoint *endpoint, struct err *err); // its ports stay
int record_ports_remove(struct store *store, const char *container_id, struct err *err);
int record_move_ports(struct store *store, const char *container_id, const char *network_id, const char *network_id6,
                      struct err *err); // by the kind of the host's address; NULL: to none
int record_container_ids(struct store *store, struct strv *out, struct err *err); // each once
int record_clear(struct store *store, struct err *err); // all endpoints

struct record_bridges {
    struct bridge *items; // malloc'ed
    size_t len;
};
int record_bridges(struct store *store, struct record_bridges *out, struct err *err); // of clients' networks
int record_bridge_add(struct store *store, const struct bridge *bridge, const struct strv *reserved, struct err *err);
int record_bridge_remove(struct store *store, const char *id, struct err *err);
// Ports of one container, or of all (NULL).
int record_ports(struct store *store, const char *container_id, struct record_ports *out, struct err *err);
// Does a container of ours hold this port on an address that collides with `host_address`?
bool record_port_taken(struct store *store, int proto, const char *host_address, uint16_t host_port);

// ---- nftables (nft.c: structure, nft_element.c: elements) -------------------------------------------------------------

enum { NFT_NAME_SIZE = 16 };
// Two tables of one name: that of IPv4, and that of IPv6 as long as a network has it.
struct nft_table {
    char name[NFT_NAME_SIZE];
    bool none, none6; // there is no such table
    bool local; // published ports of IPv4's loopback addresses are forwarded as well
    bool direct; // and are open at the containers' own addresses
    uint32_t mark, mark_mask; // packets with this mark may go to containers; mask 0: none
};
bool nft_has(const struct nft_table *table, int family); // AF_INET, AF_INET6
// Where a published port may stand in a table. The maps lead from the host's address and port to the container's, the sets have the latter.
enum nft_list { NFT_PUBLISH_ANY, NFT_PUBLISH_AT, NFT_OPEN, NFT_OPEN_TRUSTED, NFT_LIST_LEN };
extern const char *const nft_list_names[NFT_LIST_LEN];
// Whether it does in that one; not on a loopback address, unless the table says so, and only where the container has an address of that kind.
// `host` gets the host's address in network order.
bool nft_lists(const struct nft_table *table, const struct record_port *port, int family, enum nft_list list, unsigned char host[16]);

struct mnl_socket;
struct nft_socket {
    struct mnl_socket *sock;
    uint32_t seq;
};
int nft_open(struct nft_socket *out, struct err *err);
void nft_close(struct nft_socket *nft);
int nft_count_rules(struct nft_socket *nft, int family, const struct nft_table *table, size_t *out, struct err *err); // 0: no table
int nft_delete_table(struct nft_socket *nft, int family, const struct nft_table *table, struct err *err); // missing is fine
// Adds or removes the elements of these ports. Adding replaces
// a stale element of the same key; not_found when table or map are gone. Removing what is missing is fine.
int nft_add_elements(struct nft_socket *nft, const struct nft_table *table, const struct record_ports *ports, struct err *err);
int nft_remove_elements(struct nft_socket *nft, const struct nft_table *table, const struct record_ports *ports, struct err *err);

// The pieces of a request, also for conntrack.c: a header with nfnetlink's own behind it; and the answers to the messages
// from `first` on, up to the ACK or the end of the dump, each given to `fn` (MNL_CB_*). 0 or the negative errno.
struct nlmsghdr;
typedef int nft_answer_fn(const struct nlmsghdr *header, void *context);
struct nlmsghdr *nft_put_header(char *where, uint16_t type, uint16_t flags, uint32_t seq, uint8_t family, uint16_t id);
int nft_read_answers(struct nft_socket *nft, uint32_t first, nft_answer_fn *fn, void *context);

size_t nft_rule_count(const struct nft_table *table); // of a whole one, the same for both kinds
// The whole table in one transaction, old one replaced, elements of `ports` included; that of IPv6 as well where a bridge has it.
int nft_make_table(const struct nft_table *table, const struct bridge *bridges, size_t bridge_len, const struct record_ports *ports,
                   struct err *err);

// ---- connection tracking (conntrack.c) --------------------------------------------------------------------------------

// What the kernel remembers of flows outlives the forward that they came by, for as long as packets come. Both forget on a
// best effort: where there is no tracking there is nothing to forget.
void conntrack_forget_target(struct nft_socket *nft, uint32_t target, number128 target6); // flows that were sent to this container
// Datagram flows to the host's own addresses at these ports: the first packet came when nothing forwarded it.
void conntrack_forget_ports(struct nft_socket *nft, const struct record_ports *ports);

// ---- foreign firewalls (foreign.c) ------------------------------------------------------------------------------------

// Looks for a foreign forward chain that drops, and overrules it in DOCKER-USER where that chain exists. *line is a sentence
// for the user when something still drops (malloc'ed) or NULL; *tool names the iptables whose DOCKER-USER has our two
// rules now, or NULL.
// `bridge` as iptables takes it: a name, or its beginning and a plus sign.
void foreign_admit(int family, const char *bridge, const char *comment, char **line, const char **tool);
void foreign_withdraw(const char *tool, const char *bridge, const char *comment);

#define SETTING_SUBNET "subnet" // "172.17.0.1/16": the bridge's address
#define SETTING_SUBNET6 "subnet6" // "fd00::1/64": its address of IPv6, where it has one
#define SETTING_IP_FORWARD "ip_forward" // what it was before us
#define SETTING_IP6_FORWARD "ip6_forward"
#define SETTING_DOCKER_USER "docker_user" // the iptables that has our rules
#define SETTING_DOCKER_USER6 "docker_user6" // the same for IPv6

// ---- the room -------------------------------------------------------------------------------------------------------

struct net {
    struct store *store;
    char id[9];
    char bridge[IFNAMSIZ];
    struct nft_table table; // but its name, as the configuration has it
    char *ip_forward_file, *ip6_forward_file;
    struct subnet bip; // what the configuration asks for; gateway 0: nothing
    struct bridge wanted; // of the default bridge: flags, MTU, and of its subnet the range and the route
    bool no_bridge, foreign_bridge; // there is no default bridge; it is somebody else's
    bool no_forward;
    struct net_pool *pools; // where subnets come from
    size_t pool_len;
    // Guards what follows, and with the sockets every request on the host's side. Inside it only the store's lock is taken.
    struct mutex lock;
    struct subnet subnet GUARDED_BY(lock); // gateway 0: none could be chosen
    bool subnet_recorded GUARDED_BY(lock);
    bool subnet6_recorded GUARDED_BY(lock); // the default bridge's, by this process
    struct link_socket link GUARDED_BY(lock);
    struct nft_socket nft GUARDED_BY(lock);
    int bridge_index GUARDED_BY(lock); // 0: not seen yet
    struct record_bridges networks GUARDED_BY(lock); // of clients
    bool table_made GUARDED_BY(lock); // by this process
    bool foreign_checked GUARDED_BY(lock);
    char *foreign_line GUARDED_BY(lock);
};

// A subnet of the pools that no route of the host and no network of ours overlaps, nor `spared` (NULL: none).
int bridge_choose_subnet(struct net *net, const struct subnet *spared, struct subnet *out, struct err *err) REQUIRES(net->lock);
// From choosing a subnet until its route is there: a daemon beside us that chose meanwhile would choose the same. The lock is on the network
// namespace itself; whoever else holds it (anybody in the namespace can) is waited for two seconds at most. Ends with the descriptor.
int bridge_choice_begin(void);
// IPv6 of the default bridge (bridge6.c): what the configuration says, into net->wanted, when the room is opened; and its record when the bridge
// comes up, 1: what it had before is not what it has now.
int bridge_settle_ipv6(struct net *net, const struct net_config *config, struct err *err) REQUIRES(net->lock);
int bridge_record_ipv6(struct net *net, struct err *err) REQUIRES(net->lock);
bool bridge_overlaps6(struct net *net, const struct subnet6 *subnet) REQUIRES(net->lock); // any network's
int bridge_own_subnet6(struct net *net, struct subnet6 *out, struct err *err) REQUIRES(net->lock); // a free one of the daemon's
int bridge_make_table(struct net *net, struct err *err) REQUIRES(net->lock);
bool bridges_have_ipv6(const struct net *net) REQUIRES(net->lock); // any of them
// Table, forwarding, and the word with other firewalls; `anew`: a bridge was just made.
int bridge_ensure_rules(struct net *net, bool anew, struct err *err) REQUIRES(net->lock);
// The default one or a client's, as it is now; false: there is none.
bool bridge_find(struct net *net, const char *id, struct bridge *out) REQUIRES(net->lock);
// Link, address, up. 1: it was made anew. An empty alias is ours too: made, but not yet named when somebody killed us.
int bridge_missing(const char *name, struct err *err);
int bridge_ensure_link(struct net *net, struct bridge *bridge, struct err *err) REQUIRES(net->lock);
// What cards are on (parent.c): of a new network, of one whose link may be gone, of one that goes.
int parent_make(struct net *net, const struct bridge *bridge, struct err *err) REQUIRES(net->lock);
int parent_up(struct net *net, const struct bridge *bridge, struct err *err) REQUIRES(net->lock);
int parent_remove(struct net *net, const struct bridge *bridge, struct err *err) REQUIRES(net->lock);
// Puts the near ends of all attached containers on the bridge (endpoint.c).
int endpoint_rejoin(struct net *net, const struct bridge *bridge, struct err *err) REQUIRES(net->lock);

#endif
