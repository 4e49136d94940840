// The addresses that a client asks for on a network of its own: one subnet of each kind.
#include <arpa/inet.h>

#include "networks.h"

struct family {
    int number, bits;
    size_t size; // bytes of an address
};
static const struct family four = { AF_INET, 32, 4 }, six = { AF_INET6, 128, 16 };

static const struct family *family_of(const char *text)
{
    return strchr(text, ':') ? &six : &four;
}

static void clear_host_bits(unsigned char *address, size_t size, uint64_t prefix)
{
    for (size_t bit = prefix; bit < size * 8; bit++)
        address[bit / 8] &= (unsigned char)~(0x80u >> bit % 8);
}

// "10.1.0.0/16" with nothing behind the prefix, as dockerd wants it since 26.
static int check_prefix(const char *what, const char *text, struct err *err)
{
    const struct family *family = family_of(text);
    struct slice rest = slice_of(text), host;
    unsigned char in[16], base[16];
    char plain[INET6_ADDRSTRLEN];
    uint64_t prefix;
    slice_cut(&rest, '/', &host);
    _cleanup_free_ char *address = mem_strndup(host.data, host.size);
    if (!rest.data || inet_pton(family->number, address, in) != 1 || !num_parse_u64(rest, (uint64_t)family->bits, &prefix))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid CIDR address: %.100s", text);
    memcpy(base, in, family->size);
    clear_host_bits(base, family->size, prefix);
    if (memcmp(base, in, family->size) == 0)
        return 0;
    inet_ntop(family->number, base, plain, sizeof(plain));
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid network config: invalid %s %s: it should be %s/%llu", what, text, plain,
                   (unsigned long long)prefix);
}

static int read_pool(const struct ipam_pool *pool, struct arena *arena, struct net_network *out, struct strv *reserved, struct err *err)
{
    if (str_empty(pool->subnet))
        return str_empty(pool->ip_range) && str_empty(pool->gateway)
                   ? 0
                   : err_set(err, ERR_INVALID_ARGUMENT, "invalid network config: invalid subnet: it must be specified");
    if (check_prefix("subnet", pool->subnet, err) < 0 || (!str_empty(pool->ip_range) && check_prefix("ip-range", pool->ip_range, err) < 0))
        return -1;
    bool ipv6 = family_of(pool->subnet) == &six;
    if (ipv6 && !out->ipv6)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid network config: invalid subnet %s: the network has no IPv6 (EnableIPv6)", pool->subnet);
    if (!ipv6 && out->no_ipv4)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid network config: invalid subnet %s: the network has no IPv4 (EnableIPv4)", pool->subnet);
    if (!str_empty(ipv6 ? out->subnet6 : out->subnet))
        return err_set(err, ERR_PERMISSION_DENIED, "bridge driver doesn't support multiple subnets");
    *(ipv6 ? &out->subnet6 : &out->subnet) = pool->subnet;
    *(ipv6 ? &out->ip_range6 : &out->ip_range) = pool->ip_range;
    *(ipv6 ? &out->gateway6 : &out->gateway) = pool->gateway;
    for (size_t i = 0; i < pool->reserved.len; i++)
        strv_push_arena(reserved, arena, pool->reserved.items[i].value);
    return 0;
}

int network_read_ipam(const struct network_request *request, struct arena *arena, struct net_network *out, struct err *err)
{
    const struct network_ipam *ipam = request->ipam;
    struct strv *reserved = arena_alloc(arena, sizeof(*reserved));
    *reserved = (struct strv){ 0 };
    out->reserved = reserved;
    if (!ipam)
        return 0;
    if (!str_empty(ipam->driver) && !str_eq(ipam->driver, "default"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "IPAM.Driver: %.100s is not supported", ipam->driver);
    if (ipam->options.len)
        return err_set(err, ERR_NOT_IMPLEMENTED, "IPAM.Options.%.100s: not supported", ipam->options.items[0].key);
    for (size_t i = 0; i < ipam->config.len; i++)
        if (read_pool(json_list_at(&ipam->config, &ipam_pool_table, i), arena, out, reserved, err) < 0)
            return -1;
    return 0;
}
