// IPv6 subnets and addresses as numbers of 128 bits: no kernel, no store. The same as address.c, for addresses that are never used up.
#include <arpa/inet.h>
#include <stdio.h>

#include "base/num.h"
#include "net_private.h"

enum { PREFIX_MAX = 126 };

static number128 mask(int prefix)
{
    return prefix == 0 ? 0 : ~(number128)0 << (128 - prefix);
}

static number128 read_bytes(const unsigned char bytes[16])
{
    number128 value = 0;
    for (size_t i = 0; i < 16; i++)
        value = value << 8 | bytes[i];
    return value;
}

void address6_bytes(number128 address, unsigned char out[16])
{
    for (size_t i = 16; i-- > 0; address >>= 8)
        out[i] = (unsigned char)address;
}

void address6_text(number128 address, char out[INET6_ADDRSTRLEN])
{
    unsigned char bytes[16];
    address6_bytes(address, bytes);
    inet_ntop(AF_INET6, bytes, out, INET6_ADDRSTRLEN);
}

uint32_t address6_fold(number128 address)
{
    return (uint32_t)(address ^ address >> 32 ^ address >> 64 ^ address >> 96);
}

bool address6_parse(const char *text, number128 *out)
{
    unsigned char bytes[16];
    if (inet_pton(AF_INET6, text, bytes) != 1)
        return false;
    *out = read_bytes(bytes);
    return true;
}

void subnet6_text(number128 address, int prefix, char out[SUBNET6_TEXT_SIZE])
{
    char text[INET6_ADDRSTRLEN];
    address6_text(address, text);
    snprintf(out, SUBNET6_TEXT_SIZE, "%s/%d", text, prefix);
}

number128 subnet6_network(const struct subnet6 *subnet)
{
    return subnet->gateway & mask(subnet->prefix);
}

bool cidr6_parse(const char *text, number128 *address, int *prefix)
{
    struct slice rest = slice_of(text), host;
    char copy[INET6_ADDRSTRLEN];
    uint64_t number;
    slice_cut(&rest, '/', &host);
    if (host.size >= sizeof(copy))
        return false;
    memcpy(copy, host.data, host.size);
    copy[host.size] = 0;
    if (!rest.data || !address6_parse(copy, address) || !num_parse_u64(rest, 128, &number))
        return false;
    *prefix = (int)number;
    return true;
}

bool subnet6_contains(const struct subnet6 *subnet, number128 address)
{
    return ((subnet->gateway ^ address) & mask(subnet->prefix)) == 0;
}

bool subnets6_overlap(const struct subnet6 *a, const struct subnet6 *b)
{
    const struct subnet6 wider = { .gateway = a->gateway, .prefix = MIN_OF(a->prefix, b->prefix) };
    return subnet6_contains(&wider, b->gateway);
}

// The first address of the range, or of the subnet behind the network's own.
static number128 first_of(const struct subnet6 *subnet)
{
    return MAX_OF(subnet6_network(subnet) + 1, subnet->range_prefix ? subnet->range_first : 0);
}

static int read_range(const struct net_network *wanted, struct subnet6 *out, struct err *err)
{
    if (str_empty(wanted->ip_range6))
        return 0;
    if (!cidr6_parse(wanted->ip_range6, &out->range_first, &out->range_prefix))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid ip-range %s: invalid CIDR block notation", wanted->ip_range6);
    out->range_first &= mask(out->range_prefix);
    return out->range_prefix >= out->prefix && subnet6_contains(out, out->range_first)
               ? 0
               : err_set(err, ERR_INVALID_ARGUMENT, "invalid ip-range %s: parent subnet %s doesn't contain ip-range", wanted->ip_range6,
                         wanted->subnet6);
}

static int read_gateway(const struct net_network *wanted, struct subnet6 *subnet, struct err *err)
{
    number128 gateway;
    if (str_empty(wanted->gateway6))
        gateway = first_of(subnet);
    else if (!address6_parse(wanted->gateway6, &gateway))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid gateway %s: invalid address", wanted->gateway6);
    if (!subnet6_contains(subnet, gateway))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid gateway %s: parent subnet %s doesn't contain this address", wanted->gateway6,
                       wanted->subnet6);
    subnet->gateway = gateway;
    return 0;
}

int subnet6_read(const struct net_network *wanted, struct subnet6 *out, struct err *err)
{
    struct subnet6 subnet = { 0 };
    if (!cidr6_parse(wanted->subnet6, &subnet.gateway, &subnet.prefix))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid subnet %s: invalid CIDR block notation", wanted->subnet6);
    if (subnet.prefix == 0 || subnet.prefix > PREFIX_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid subnet %s: a bridge needs a prefix from 1 to %d", wanted->subnet6, PREFIX_MAX);
    subnet.gateway &= mask(subnet.prefix);
    if (read_range(wanted, &subnet, err) < 0 || read_gateway(wanted, &subnet, err) < 0)
        return -1;
    *out = subnet;
    return 0;
}

void subnet6_own(const char daemon_id[9], unsigned number, struct subnet6 *out)
{
    uint64_t id = strtoull(daemon_id, NULL, 16);
    *out = (struct subnet6){ .gateway = ((number128)0xfd << 120 | (number128)id << 88 | (number128)(number & 0xffff) << 64) + 1, .prefix = 64 };
}

// Of n addresses that are taken, one of the first n + 3 is free: the gateway and the route are two more.
int address6_lowest_free(const struct subnet6 *subnet, const number128 *taken, size_t len, number128 *out, struct err *err)
{
    number128 first = first_of(subnet);
    int prefix = subnet->range_prefix ? subnet->range_prefix : subnet->prefix;
    number128 last = (subnet->range_prefix ? subnet->range_first : first) | ~mask(prefix);
    _cleanup_free_ bool *held = mem_alloc(len + 3);
    memset(held, 0, len + 3);
    for (size_t i = 0; i < len + 2; i++) {
        number128 address = i < len ? taken[i] : i == len ? subnet->gateway : subnet->route;
        if (address >= first && address - first < len + 3)
            held[address - first] = true;
    }
    for (size_t i = 0; i < len + 3 && first + i <= last; i++)
        if (!held[i]) {
            *out = first + i;
            return 0;
        }
    char text[SUBNET6_TEXT_SIZE];
    subnet6_text(subnet6_network(subnet), subnet->prefix, text);
    return err_set(err, ERR_RESOURCE_EXHAUSTED, "no free address left in %s", text);
}
