// The subnets of network create: which of them a gateway, a range and an address belong to is settled here, with docker's words for what
// belongs to none.
#include <arpa/inet.h>

#include "client/client_private.h"
#include "base/num.h"

struct subnet {
    unsigned char bytes[16];
    size_t size; // 4 or 16; 0: no address
    uint64_t bits;
};

// "10.1.0.0/16", or an address alone, which has all bits.
static bool parse_subnet(const char *text, struct subnet *out)
{
    char address[64];
    size_t size = strcspn(text, "/");
    *out = (struct subnet){ .size = strchr(text, ':') ? 16 : 4 };
    if (size >= sizeof(address))
        return false;
    snprintf(address, sizeof(address), "%.*s", (int)size, text);
    if (inet_pton(out->size == 4 ? AF_INET : AF_INET6, address, out->bytes) != 1)
        return false;
    out->bits = 8 * out->size;
    return !text[size] || num_parse_u64(slice_of(text + size + 1), out->bits, &out->bits);
}

static bool contains(const struct subnet *subnet, const struct subnet *address)
{
    if (subnet->size != address->size)
        return false;
    for (size_t bit = 0; bit < subnet->bits; bit++)
        if ((subnet->bytes[bit / 8] ^ address->bytes[bit / 8]) & (0x80 >> bit % 8))
            return false;
    return true;
}

static int add_subnets(const struct strv *texts, json_t *list, struct err *err)
{
    struct subnet subnet, other;
    for (size_t i = 0; i < texts->len; i++) {
        bool good = strchr(texts->items[i], '/') && parse_subnet(texts->items[i], &subnet);
        if (!good && texts->len > 1) // one alone is the daemon's to refuse
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid subnet: invalid CIDR address: %s", texts->items[i]);
        for (size_t k = 0; k < i; k++)
            if (parse_subnet(texts->items[k], &other) && (contains(&subnet, &other) || contains(&other, &subnet)))
                return err_set(err, ERR_INVALID_ARGUMENT, "multiple overlapping subnet configuration is not supported");
        json_array_append_new(list, json_pack("{s:s}", "Subnet", texts->items[i]));
    }
    return 0;
}

static json_t *subnet_of(json_t *list, const char *text)
{
    struct subnet subnet, address;
    size_t i;
    json_t *one;
    if (parse_subnet(text, &address))
        json_array_foreach(list, i, one)
            if (parse_subnet(json_get_text(one, "Subnet", ""), &subnet) && contains(&subnet, &address))
                return one;
    return NULL;
}

// At most one of a kind for each subnet.
static int add_each(const struct strv *texts, const char *key, const char *word, json_t *list, struct err *err)
{
    for (size_t i = 0; i < texts->len; i++) {
        json_t *subnet = subnet_of(list, texts->items[i]);
        const char *other = json_get_text(subnet, key, "");
        if (!subnet)
            return err_set(err, ERR_INVALID_ARGUMENT, "no matching subnet for %s %s", word, texts->items[i]);
        if (*other)
            return err_set(err, ERR_INVALID_ARGUMENT, "cannot configure multiple %ss (%s, %s) %s the same subnet (%s)", word, texts->items[i], other,
                           str_eq(word, "range") ? "on" : "for", json_get_text(subnet, "Subnet", ""));
        json_object_set_new(subnet, key, json_new_text(texts->items[i]));
    }
    return 0;
}

static int add_reserved(const struct strv *texts, json_t *list, struct err *err)
{
    for (size_t i = 0; i < texts->len; i++) {
        struct slice key, rest = slice_of(texts->items[i]);
        slice_cut(&rest, '=', &key);
        const char *address = rest.data ? rest.data : "";
        _cleanup_free_ char *name = mem_strndup(key.data, key.size);
        json_t *subnet = subnet_of(list, address), *map = json_object_get(subnet, "AuxiliaryAddresses");
        if (!subnet)
            return err_set(err, ERR_INVALID_ARGUMENT, "no matching subnet for aux-address %s", address);
        if (!map)
            json_object_set_new(subnet, "AuxiliaryAddresses", map = json_object());
        json_object_set_new(map, name, json_new_text(address));
    }
    return 0;
}

int put_ipam(struct call *call, json_t *body, struct err *err)
{
    const struct strv *subnets = flag_texts(&call->flags, "subnet"), *gateways = flag_texts(&call->flags, "gateway");
    const struct strv *ranges = flag_texts(&call->flags, "ip-range");
    json_t *list = json_array();
    body_put(body, "IPAM.Config", list);
    if (subnets->len < gateways->len || subnets->len < ranges->len)
        return err_set(err, ERR_INVALID_ARGUMENT, "every ip-range or gateway must have a corresponding subnet");
    if (add_subnets(subnets, list, err) < 0 || add_each(ranges, "IPRange", "range", list, err) < 0 ||
        add_each(gateways, "Gateway", "gateway", list, err) < 0 || add_reserved(flag_texts(&call->flags, "aux-address"), list, err) < 0)
        return -1;
    if (!flag_set(&call->flags, "ipam-opt"))
        body_put(body, "IPAM.Options", json_object());
    if (!flag_set(&call->flags, "ipam-driver"))
        body_put(body, "IPAM.Driver", json_string("default"));
    return 0;
}
