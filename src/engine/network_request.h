// The body of a network's create, which its record keeps as it came; and what a container wants of a network.
#ifndef ENGINE_NETWORK_REQUEST_H
#define ENGINE_NETWORK_REQUEST_H

#include "json/json.h"

struct ipam_pool {
    char *subnet, *ip_range, *gateway; // "10.1.0.0/16", "10.1.5.0/24", "10.1.0.1"; "" or NULL: chosen; or of IPv6
    struct kvs reserved; // AuxiliaryAddresses: name -> address
};

struct network_request {
    char *name, *driver, *scope;
    bool internal, attachable, enable_ipv6;
    json_t *enable_ipv4_raw;
    bool no_ipv4; // what that, or an option of a driver's, says
    struct network_ipam {
        char *driver;
        struct kvs options;
        struct json_list config; // struct ipam_pool
    } *ipam;
    struct kvs options, labels;
};
extern const struct json_table network_request_table, ipam_pool_table;

struct endpoint_request {
    struct endpoint_ipam {
        char *ipv4_address, *ipv6_address;
        struct strv link_local; // further addresses of the interface
    } *ipam;
    struct strv aliases; // names of the container on this network
    struct strv links; // "name:alias": names that it alone has for others there
    char *mac_address;
    struct kvs driver_opts;
    int64_t gw_priority; // of several networks the one with the highest has the default route
};
extern const struct json_table endpoint_request_table;

#endif
