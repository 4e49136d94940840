// --publish and --expose, and the networks a container gets.
#include "client/client_private.h"
#include "base/num.h"

static bool parse_range(struct slice text, uint64_t *from, uint64_t *to)
{
    struct slice first;
    slice_cut(&text, '-', &first);
    if (!num_parse_u64(first, 65535, from))
        return false;
    *to = *from;
    return !text.data || (num_parse_u64(text, 65535, to) && *to >= *from);
}

struct published {
    struct slice ip, host, port, protocol;
};

// [[ip:][host]:]port[/protocol]; an IPv6 address stands in brackets.
static bool cut_published(const char *text, struct published *out)
{
    struct slice rest = slice_of(text), port, last, middle;
    *out = (struct published){ .protocol = slice_of("tcp") };
    slice_cut(&rest, '/', &port);
    if (rest.data)
        out->protocol = rest;
    const char *colon = memrchr(port.data, ':', port.size);
    out->port = port;
    if (!colon)
        return true;
    last = (struct slice){ colon + 1, (size_t)(port.data + port.size - colon - 1) };
    middle = (struct slice){ port.data, (size_t)(colon - port.data) };
    out->port = last;
    const char *before = middle.size && middle.data[middle.size - 1] != ']' ? memrchr(middle.data, ':', middle.size) : NULL;
    if (middle.size && middle.data[middle.size - 1] == ']') {
        out->ip = (struct slice){ middle.data + 1, middle.size - 2 };
        return *middle.data == '[';
    }
    out->host = before ? (struct slice){ before + 1, (size_t)(middle.data + middle.size - before - 1) } : middle;
    if (before)
        out->ip = (struct slice){ middle.data, (size_t)(before - middle.data) };
    if (out->ip.size && *out->ip.data == '[' && out->ip.data[out->ip.size - 1] == ']')
        out->ip = (struct slice){ out->ip.data + 1, out->ip.size - 2 };
    return true;
}

static void add_binding(json_t *bindings, const char *key, struct slice ip, const char *host)
{
    json_t *list = json_object_get(bindings, key);
    if (!list) {
        list = json_array();
        json_object_set_new(bindings, key, list);
    }
    json_array_append_new(list, json_pack("{s:o, s:s}", "HostIp", json_stringn(ip.data ? ip.data : "", ip.size), "HostPort", host));
}

int publish_option(const char *text, json_t *exposed, json_t *bindings, struct err *err)
{
    struct published p;
    uint64_t from, to, host_from = 0, host_to = 0;
    if (!cut_published(text, &p) || !p.port.size)
        return err_set(err, ERR_INVALID_ARGUMENT, "no port specified: %s<empty>", text);
    if (!parse_range(p.port, &from, &to) || !from)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid containerPort: %.*s", (int)p.port.size, p.port.data);
    if (p.host.size && !parse_range(p.host, &host_from, &host_to))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid hostPort: %.*s", (int)p.host.size, p.host.data);
    if (!slice_eq(p.protocol, "tcp") && !slice_eq(p.protocol, "udp") && !slice_eq(p.protocol, "sctp"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid proto: %.*s", (int)p.protocol.size, p.protocol.data);
    bool one_of_many = from == to && host_from != host_to;
    if (p.host.size && host_to - host_from != to - from && !one_of_many)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid ranges specified for container and host Ports: %.*s and %.*s", (int)p.port.size,
                       p.port.data, (int)p.host.size, p.host.data);
    for (uint64_t port = from; port <= to; port++) {
        char key[32], host[32] = "";
        snprintf(key, sizeof(key), "%llu/%.*s", (unsigned long long)port, (int)p.protocol.size, p.protocol.data);
        if (one_of_many)
            snprintf(host, sizeof(host), "%llu-%llu", (unsigned long long)host_from, (unsigned long long)host_to);
        else if (p.host.size)
            snprintf(host, sizeof(host), "%llu", (unsigned long long)(host_from + port - from));
        json_object_set_new(exposed, key, json_object());
        add_binding(bindings, key, p.ip, host);
    }
    return 0;
}

// "published=80,target=8080,protocol=udp" is the long form.
static char *plain_form(const char *text)
{
    struct slice part, key, rest = slice_of(text), target = { 0 }, published = { 0 }, protocol = slice_of("tcp");
    if (!strchr(text, '='))
        return mem_strdup(text);
    while (slice_cut(&rest, ',', &part)) {
        slice_cut(&part, '=', &key);
        if (slice_eq(key, "target"))
            target = part;
        else if (slice_eq(key, "published"))
            published = part;
        else if (slice_eq(key, "protocol"))
            protocol = part;
    }
    return mem_printf("%.*s:%.*s/%.*s", (int)published.size, published.data ? published.data : "", (int)target.size,
                      target.data ? target.data : "", (int)protocol.size, protocol.data);
}

static int expose(const char *text, json_t *exposed, struct err *err)
{
    struct slice port, rest = slice_of(text);
    uint64_t from, to;
    if (strchr(text, ':'))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid port format for --expose: %s", text);
    slice_cut(&rest, '/', &port);
    if (!parse_range(port, &from, &to))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid range format for --expose: %s, error: invalid port", text);
    for (uint64_t at = from; at <= to; at++) {
        char key[32];
        snprintf(key, sizeof(key), "%llu/%s", (unsigned long long)at, rest.data ? rest.data : "tcp");
        json_object_set_new(exposed, key, json_object());
    }
    return 0;
}

int put_ports(struct call *call, json_t *body, struct err *err)
{
    const struct strv *published = flag_texts(&call->flags, "publish"), *exposed = flag_texts(&call->flags, "expose");
    json_t *ports = json_object(), *bindings = json_object();
    body_put(body, "ExposedPorts", ports);
    body_put(body, "HostConfig.PortBindings", bindings);
    for (size_t i = 0; i < published->len; i++) {
        _cleanup_free_ char *text = plain_form(published->items[i]);
        if (publish_option(text, ports, bindings, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < exposed->len; i++)
        if (expose(exposed->items[i], ports, err) < 0)
            return -1;
    return 0;
}

// ---- networks -------------------------------------------------------------------------------------------------------

static const struct {
    const char *key, *path;
    bool list;
} endpoint_keys[] = {
    { "alias", "Aliases", true },
    { "ip", "IPAMConfig.IPv4Address", false },
    { "ip6", "IPAMConfig.IPv6Address", false },
    { "link-local-ip", "IPAMConfig.LinkLocalIPs", true },
    { "mac-address", "MacAddress", false },
    { "gw-priority", "GwPriority", false },
};

static json_t *at_path(json_t *object, const char *path)
{
    const char *dot = strchr(path, '.');
    if (!dot)
        return json_object_get(object, path);
    char key[32];
    snprintf(key, sizeof(key), "%.*s", (int)(dot - path), path);
    return at_path(json_object_get(object, key), dot + 1);
}

static void put_endpoint(json_t *endpoint, const char *path, bool list, struct slice value)
{
    json_t *text = json_stringn(value.data, value.size), *old = at_path(endpoint, path);
    int64_t number;
    if (list && old)
        json_array_append_new(old, text);
    else if (str_eq(path, "GwPriority") && num_parse_i64(value, &number)) {
        json_decref(text);
        body_put(endpoint, path, json_integer(number));
    } else {
        body_put(endpoint, path, list ? json_pack("[o]", text) : text);
    }
}

static int endpoint_word(json_t *endpoint, struct slice part, const char **name, char *kept, size_t kept_size, struct err *err)
{
    struct slice key, value = part;
    slice_cut(&value, '=', &key);
    if (!value.data)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid field %.*s", (int)part.size, part.data);
    if (slice_eq(key, "name")) {
        snprintf(kept, kept_size, "%.*s", (int)value.size, value.data);
        *name = kept;
        return 0;
    }
    if (slice_eq(key, "driver-opt")) {
        struct slice option;
        slice_cut(&value, '=', &option);
        char path[160];
        snprintf(path, sizeof(path), "%.*s", (int)MIN_OF(option.size, (size_t)100), option.data);
        json_t *map = json_object_get(endpoint, "DriverOpts");
        if (!map)
            json_object_set_new(endpoint, "DriverOpts", map = json_object());
        json_object_set_new(map, path, json_new_text(value.data ? value.data : ""));
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(endpoint_keys); i++)
        if (slice_eq(key, endpoint_keys[i].key)) {
            put_endpoint(endpoint, endpoint_keys[i].path, endpoint_keys[i].list, value);
            return 0;
        }
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid field key %.*s", (int)key.size, key.data);
}

// A word alone is the name; else name=...,alias=...,ip=...
static int add_network(const char *text, json_t *endpoints, char *name, size_t name_size, struct err *err)
{
    _cleanup_json_ json_t *endpoint = json_object();
    struct slice part, rest = slice_of(text);
    const char *given = NULL;
    if (!strchr(text, '=')) {
        snprintf(name, name_size, "%s", text);
        given = name;
    } else {
        while (slice_cut(&rest, ',', &part))
            if (endpoint_word(endpoint, part, &given, name, name_size, err) < 0)
                return -1;
    }
    if (!given)
        return err_set(err, ERR_INVALID_ARGUMENT, "network name is required");
    if (json_object_get(endpoints, name))
        return err_set(err, ERR_INVALID_ARGUMENT, "network \"%s\" is specified multiple times", name);
    json_object_set(endpoints, name, endpoint);
    return 0;
}

static bool is_user_defined(const char *network)
{
    static const char *const own[] = { "default", "bridge", "host", "none" };
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        if (str_eq(network, own[i]))
            return false;
    return !str_starts(network, "container:");
}

// The flags that stand for the first network alone.
static int put_first(struct call *call, const char *network, json_t *endpoint, struct err *err)
{
    static const struct {
        const char *flag, *path, *word;
        bool list;
    } flags[] = { { "network-alias", "Aliases", "alias", true },
                  { "net-alias", "Aliases", "alias", true },
                  { "ip", "IPAMConfig.IPv4Address", "IPv4 address", false },
                  { "ip6", "IPAMConfig.IPv6Address", "IPv6 address", false },
                  { "link-local-ip", "IPAMConfig.LinkLocalIPs", "link-local IP addresses", true },
                  { "mac-address", "MacAddress", "MAC address", false },
                  { "link", "Links", "links", true } };
    for (size_t f = 0; f < ARRAY_LEN(flags); f++) {
        const struct strv *texts = flag_texts(&call->flags, flags[f].flag);
        bool link = str_eq(flags[f].flag, "link");
        if (!texts->len || (link && !is_user_defined(network))) // the default bridge has links of another kind
            continue;
        if (at_path(endpoint, flags[f].path))
            return err_set(err, ERR_INVALID_ARGUMENT, "conflicting options: cannot specify both --%s and per-network %s", flags[f].flag, flags[f].word);
        for (size_t i = 0; i < texts->len; i++)
            put_endpoint(endpoint, flags[f].path, flags[f].list, slice_of(texts->items[i]));
    }
    if (json_object_get(endpoint, "Aliases") && !is_user_defined(network))
        return err_set(err, ERR_INVALID_ARGUMENT, "network-scoped aliases are only supported for user-defined networks");
    return 0;
}

static int add_networks(const struct strv *texts, json_t *endpoints, char *first, size_t first_size, struct err *err)
{
    bool own = false, others = false;
    char name[256];
    for (size_t i = 0; i < texts->len; i++) {
        char *kept = i ? name : first;
        if (add_network(texts->items[i], endpoints, kept, i ? sizeof(name) : first_size, err) < 0)
            return -1;
        own |= is_user_defined(kept);
        others |= !is_user_defined(kept);
    }
    if (own && others)
        return err_set(err, ERR_INVALID_ARGUMENT, "conflicting options: cannot attach both user-defined and non-user-defined network-modes");
    if (!texts->len)
        json_object_set_new(endpoints, first, json_object());
    return 0;
}

int put_networks(struct call *call, json_t *body, struct err *err)
{
    const struct strv *texts = flag_texts(&call->flags, "network"), *links = flag_texts(&call->flags, "link");
    char first[256] = "default";
    json_t *endpoints = json_object(), *endpoint;
    if (!texts->len)
        texts = flag_texts(&call->flags, "net");
    body_put(body, "NetworkingConfig.EndpointsConfig", endpoints);
    if (add_networks(texts, endpoints, first, sizeof(first), err) < 0)
        return -1;
    endpoint = json_object_get(endpoints, first);
    if (put_first(call, first, endpoint, err) < 0)
        return -1;
    body_put(body, "HostConfig.NetworkMode", json_new_text(first));
    const char *mac = json_get_text(endpoint, "MacAddress", NULL);
    if (mac && call->client->api < 44)
        json_object_set_new(body, "MacAddress", json_new_text(mac));
    if (texts->len == 1 && !json_object_size(endpoint)) // nothing is said of it: the daemon makes its own
        json_object_del(endpoints, first);
    for (size_t i = 0; i < links->len; i++) {
        if (!i)
            body_put(body, "HostConfig.Links", json_array());
        json_array_append_new(json_object_get(json_object_get(body, "HostConfig"), "Links"), json_new_text(links->items[i]));
    }
    return 0;
}
