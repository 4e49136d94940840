// The index of what a client may say of networks: honoured, harmless, or refused by name. Names are Docker's.
#include "engine/network_request.h"

#define ROW(field_name, field_kind, type, member, ...) JSON_FIELD(field_name, field_kind, struct type, member, ##__VA_ARGS__)

static const struct json_field ipam_pool_fields[] = {
    ROW("Subnet", JSON_TEXT, ipam_pool, subnet),
    ROW("IPRange", JSON_TEXT, ipam_pool, ip_range),
    ROW("Gateway", JSON_TEXT, ipam_pool, gateway),
    ROW("AuxiliaryAddresses", JSON_TEXT_MAP, ipam_pool, reserved),
};
const struct json_table ipam_pool_table = JSON_TABLE(struct ipam_pool, ipam_pool_fields);

static const struct json_field network_ipam_fields[] = {
    ROW("Driver", JSON_TEXT, network_ipam, driver),
    ROW("Options", JSON_TEXT_MAP, network_ipam, options),
    ROW("Config", JSON_LIST, network_ipam, config, .sub = &ipam_pool_table),
};
static const struct json_table network_ipam_table = JSON_TABLE(struct network_ipam, network_ipam_fields);

static const struct json_field network_request_fields[] = {
    ROW("Name", JSON_TEXT, network_request, name),
    JSON_KNOWN("CheckDuplicate"), // no name is ever given twice
    ROW("Driver", JSON_TEXT, network_request, driver),
    ROW("Scope", JSON_TEXT, network_request, scope),
    ROW("EnableIPv4", JSON_RAW, network_request, enable_ipv4_raw),
    ROW("EnableIPv6", JSON_FLAG, network_request, enable_ipv6),
    ROW("IPAM", JSON_STRUCT_PTR, network_request, ipam, .sub = &network_ipam_table),
    ROW("Internal", JSON_FLAG, network_request, internal),
    ROW("Attachable", JSON_FLAG, network_request, attachable),
    JSON_REFUSED("Ingress", .why = "of swarms"),
    JSON_REFUSED("ConfigOnly"),
    JSON_REFUSED("ConfigFrom"),
    ROW("Options", JSON_TEXT_MAP, network_request, options),
    ROW("Labels", JSON_TEXT_MAP, network_request, labels),
};
const struct json_table network_request_table = JSON_TABLE(struct network_request, network_request_fields);

static const struct json_field endpoint_ipam_fields[] = {
    ROW("IPv4Address", JSON_TEXT, endpoint_ipam, ipv4_address),
    ROW("IPv6Address", JSON_TEXT, endpoint_ipam, ipv6_address, .flags = JSON_OMIT_EMPTY),
    ROW("LinkLocalIPs", JSON_TEXTS, endpoint_ipam, link_local, .flags = JSON_OMIT_EMPTY),
};
static const struct json_table endpoint_ipam_table = JSON_TABLE(struct endpoint_ipam, endpoint_ipam_fields);

static const struct json_field endpoint_request_fields[] = {
    ROW("IPAMConfig", JSON_STRUCT_PTR, endpoint_request, ipam, .sub = &endpoint_ipam_table, .flags = JSON_OMIT_EMPTY),
    ROW("Links", JSON_TEXTS, endpoint_request, links),
    ROW("Aliases", JSON_TEXTS, endpoint_request, aliases),
    ROW("MacAddress", JSON_TEXT, endpoint_request, mac_address),
    ROW("DriverOpts", JSON_TEXT_MAP, endpoint_request, driver_opts),
    ROW("GwPriority", JSON_INT, endpoint_request, gw_priority),
    JSON_KNOWN("NetworkID"), // what an inspect answered; clients send it back
    JSON_KNOWN("EndpointID"),
    JSON_KNOWN("Gateway"),
    JSON_KNOWN("IPAddress"),
    JSON_KNOWN("IPPrefixLen"),
    JSON_KNOWN("IPv6Gateway"),
    JSON_KNOWN("GlobalIPv6Address"),
    JSON_KNOWN("GlobalIPv6PrefixLen"),
    JSON_KNOWN("DNSNames"),
};
const struct json_table endpoint_request_table = JSON_TABLE(struct endpoint_request, endpoint_request_fields);
