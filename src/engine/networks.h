// Networks and a container's places on them, inside the engine.
#ifndef ENGINE_NETWORKS_H
#define ENGINE_NETWORKS_H

#include "engine_private.h"

// ---- networks.c -----------------------------------------------------------------------------------------------------

const char *network_net_id(const struct engine_network *network); // what the net room calls it
bool network_has_addresses(const struct engine_network *network);
// network_options.c: what a network's options say. Those of a record were looked at.
#define BRIDGE_OPTION "com.docker.network.bridge."
#define MTU_OPTION "com.docker.network.driver.mtu"
#define IPV4_OPTION "com.docker.network.enable_ipv4"
#define IPV6_OPTION "com.docker.network.enable_ipv6"
int network_flag(const struct kvs *options, const char *key, bool fallback, bool *out, struct err *err);
int network_gateway_mode(const struct kvs *options, bool ipv6, enum net_gateway_mode *out, struct err *err); // of either kind
bool network_is_routed_card(const struct kvs *options); // of ipvlan: containers' default route has no gateway
// Those of a new network's driver into `out`, whose texts they stay, or are the arena's; one that nobody knows is not_implemented.
int network_read_options(const struct engine_network *network, const struct kvs *options, struct arena *arena, struct net_network *out,
                         struct err *err);
// network_defaults.c
int network_read_mark(const char *text, struct net_config *out, struct err *err); // "0x1/0x3", "1"; NULL or "": none
void network_defaults_copy(struct engine *engine, const struct engine_options *options);
// What new networks of that driver begin with goes into the create's body, and the request is read from it again.
int network_defaults_apply(struct engine *engine, json_t *body, struct arena *arena, struct network_request *request, struct err *err);
void networks_settle(struct engine *engine); // at start, before containers are adopted

// What the request says of addresses, into subnet*, ip_range*, gateway*, reserved; `out->ipv6` says whether there may be two subnets
// (network_ipam.c).
int network_read_ipam(const struct network_request *request, struct arena *arena, struct net_network *out, struct err *err);

// ---- endpoints.c: a container's places on networks -------------------------------------------------------------------

// The list as the create body says it, of a container that nobody else sees yet. invalid_argument in Docker's words.
int endpoints_from_config(struct container *container, struct err *err);
// As the record keeps it.
json_t *endpoints_encode(const struct container *container) REQUIRES(container->lock);
int endpoints_decode(struct container *container, const char *text, struct err *err); // nobody else sees it yet
void endpoint_free(struct endpoint *endpoint);
struct endpoint *endpoint_new(const char *network, const struct endpoint_request *request); // NULL: nothing special
void endpoints_add(struct container *container, struct endpoint *endpoint, bool first) EXCLUDES(container->lock);
int endpoint_check(const char *network, const struct endpoint_request *request, struct err *err);
void endpoint_settle(struct container *container, struct endpoint *endpoint, const struct engine_network *network) EXCLUDES(container->lock);
// The names that others on the network know it by, the container's own first. On networks of clients alone.
void endpoint_names(const struct container *container, const char *name, const struct endpoint *endpoint, struct arena *arena,
                    struct strv *out);

// The one that the default route and published ports go by; NULL when there is none, or none with IPv4.
struct endpoint *endpoint_gateway(const struct container *container) REQUIRES(container->lock);
struct endpoint *endpoint_gateway6(const struct container *container) REQUIRES(container->lock); // the same for IPv6
// Where published ports lead, by the kind of the host's address; NULL: nowhere. Those of IPv6 lead to an address of IPv4 where there is no
// other.
struct endpoint *endpoint_published(const struct container *container) REQUIRES(container->lock);
struct endpoint *endpoint_published6(const struct container *container) REQUIRES(container->lock);
bool endpoints_on_bridge(const struct container *container) REQUIRES(container->lock); // any is up

// At start: attaches all of them and makes the namespace, or the tap of a guest; the listening sockets of published ports are bound
// first. Needs container_begin(). What a failure leaves is container_release()'s to take off.
int endpoints_attach(struct container *container, struct err *err);
// One of them: of a run that begins, or of one that goes on.
struct attach_how {
    const char *endpoint_id;
    bool gateway, gateway6; // it gets the default route of either kind
    bool ports, ports6; // and published ones, by the kind of the host's address
    const struct port_plan *plan; // NULL: none
    int *netns_fd; // -1: a new namespace, which is the caller's afterwards
    int *tap_fd; // NULL: a container
};
int endpoint_attach(struct container *container, struct endpoint *endpoint, const struct attach_how *how, struct err *err);
void endpoint_publish(struct container *container, const struct endpoint *endpoint, const char *action); // an event
// At the end of a run. The events come first, by endpoints_disconnected().
void endpoints_detach(struct container *container);
void endpoints_connected(struct container *container) EXCLUDES(container->lock);
void endpoints_disconnected(struct container *container) EXCLUDES(container->lock);
// Of a run that an earlier daemon began.
void endpoints_adopt(struct container *container);

#endif
