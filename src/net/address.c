// Subnets and addresses as numbers: no kernel, no store.
#include <arpa/inet.h>
#include <stdio.h>

#include "base/num.h"
#include "net_private.h"

enum { PREFIX_MIN = 8, PREFIX_MAX = 30 };

uint32_t subnet_mask(int prefix)
{
    return prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
}

bool subnet_contains(const struct subnet *subnet, uint32_t address)
{
    return ((subnet->gateway ^ address) & subnet_mask(subnet->prefix)) == 0;
}

bool subnets_overlap(const struct subnet *a, const struct subnet *b)
{
    const struct subnet wider = { .gateway = a->gateway, .prefix = MIN_OF(a->prefix, b->prefix) };
    return subnet_contains(&wider, b->gateway);
}

static bool parse_cidr(const char *text, uint32_t *address, int *prefix)
{
    struct slice rest = slice_of(text), host;
    struct in_addr in;
    char copy[INET_ADDRSTRLEN];
    uint64_t number;
    slice_cut(&rest, '/', &host);
    snprintf(copy, sizeof(copy), "%.*s", (int)MIN_OF(host.size, sizeof(copy)), host.data);
    if (host.size >= sizeof(copy) || inet_pton(AF_INET, copy, &in) != 1 || !rest.data || !num_parse_u64(rest, 32, &number))
        return false;
    *address = ntohl(in.s_addr);
    *prefix = (int)number;
    return true;
}

int network_parse(const char *text, uint32_t *address, int *prefix, struct err *err)
{
    if (!parse_cidr(text, address, prefix))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid subnet %s: invalid CIDR block notation", text);
    *address &= subnet_mask(*prefix);
    return 0;
}

int subnet_parse(const char *text, struct subnet *out, struct err *err)
{
    struct subnet found = { 0 };
    if (!parse_cidr(text, &found.gateway, &found.prefix))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid CIDR address: %s", text);
    if (found.prefix < PREFIX_MIN || found.prefix > PREFIX_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "bridge address %s: the prefix must be between %d and %d", text,
                       PREFIX_MIN, PREFIX_MAX);
    uint32_t host_part = found.gateway & ~subnet_mask(found.prefix);
    if (host_part == 0 || host_part == ~subnet_mask(found.prefix))
        return err_set(err, ERR_INVALID_ARGUMENT, "bridge address %s is the network's own or its broadcast address", text);
    *out = found;
    return 0;
}

void address_text(uint32_t address, char out[INET_ADDRSTRLEN])
{
    const struct in_addr in = { htonl(address) };
    inet_ntop(AF_INET, &in, out, INET_ADDRSTRLEN);
}

bool mac_parse(const char *text, unsigned char out[6])
{
    unsigned char mac[6];
    int end = 0;
    if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5], &end) != 6 ||
        end != MAC_TEXT_SIZE - 1 || text[end])
        return false;
    memcpy(out, mac, sizeof(mac));
    return true;
}

void mac_text(const unsigned char mac[6], char out[MAC_TEXT_SIZE])
{
    snprintf(out, MAC_TEXT_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

void address_mac(uint32_t address, unsigned char out[6])
{
    const unsigned char mac[6] = { 0x02, 0x42, (unsigned char)(address >> 24), (unsigned char)(address >> 16),
                                   (unsigned char)(address >> 8), (unsigned char)address };
    memcpy(out, mac, sizeof(mac));
}

int address_lowest_free(const struct subnet *subnet, const uint32_t *taken, size_t len, uint32_t *out, struct err *err)
{
    uint32_t first = subnet->gateway & subnet_mask(subnet->prefix);
    uint32_t last = first | ~subnet_mask(subnet->prefix);
    uint64_t from = (uint64_t)first + 1, to = last;
    size_t next = 0;
    if (subnet->range_prefix) {
        from = MAX_OF(from, (uint64_t)subnet->range_first);
        to = MIN_OF(to, ((uint64_t)subnet->range_first | ~subnet_mask(subnet->range_prefix)) + 1);
    }
    for (uint64_t at = from; at < to; at++) {
        uint32_t candidate = (uint32_t)at;
        while (next < len && taken[next] < candidate)
            next++;
        if (candidate == subnet->gateway || candidate == subnet->route || (next < len && taken[next] == candidate))
            continue;
        *out = candidate;
        return 0;
    }
    char text[INET_ADDRSTRLEN];
    address_text(first, text);
    return err_set(err, ERR_RESOURCE_EXHAUSTED, "no free address left in %s/%d", text, subnet->prefix);
}

bool net_mac_valid(const char *text, unsigned char out[6])
{
    return mac_parse(text, out);
}
