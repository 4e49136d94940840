// Names inside a container: its /etc/hosts and /etc/resolv.conf, and what a client may ask of them.
//
// resolv.conf is the host's, read as dockerd reads it: what the client says takes the place of nameservers, search and
// options each as a whole. Of the host's nameservers those go that only the host can reach, and where none is left two
// public ones stand in. Behind systemd's local stub the real servers are in systemd's own file.
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>

#include "dns/dns.h"
#include "networks.h"

#define HOST_FILE "/etc/resolv.conf"
#define SYSTEMD_FILE "/run/systemd/resolve/resolv.conf"
#define SYSTEMD_STUB "127.0.0.53"

enum { FILE_MAX = 64 << 10, HOSTS_MAX = 32 << 20, ZONE_MAX = IFNAMSIZ };

// ---- addresses ------------------------------------------------------------------------------------------------------

struct address {
    bool v6, loopback;
    char text[INET6_ADDRSTRLEN + ZONE_MAX];
};

// "10.0.0.1", "2001:db8::1", "fe80::1%eth0".
static bool parse_address(struct slice text, struct address *out)
{
    struct slice rest = text, host;
    unsigned char bytes[sizeof(struct in6_addr)];
    char copy[INET6_ADDRSTRLEN];
    if (!slice_cut(&rest, '%', &host) || host.size >= sizeof(copy) ||
        (rest.data && (rest.size == 0 || rest.size >= ZONE_MAX)))
        return false;
    memcpy(copy, host.data, host.size);
    copy[host.size] = 0;
    *out = (struct address){ .v6 = memchr(copy, ':', host.size) };
    int family = out->v6 ? AF_INET6 : AF_INET;
    if ((rest.data && !out->v6) || inet_pton(family, copy, bytes) != 1 ||
        !inet_ntop(family, bytes, out->text, INET6_ADDRSTRLEN))
        return false;
    out->loopback = out->v6 ? IN6_IS_ADDR_LOOPBACK((struct in6_addr *)bytes) : bytes[0] == 127;
    if (rest.data)
        snprintf(out->text + strlen(out->text), ZONE_MAX + 1, "%%%.*s", (int)rest.size, rest.data);
    return true;
}

// ---- what a client may ask ------------------------------------------------------------------------------------------

static int check_extra_hosts(const struct strv *hosts, struct err *err)
{
    struct address ignored;
    for (size_t i = 0; i < hosts->len; i++) {
        const char *text = hosts->items[i], *colon = strchr(text, ':');
        if (!colon || colon == text || strpbrk(text, "\n\r"))
            return err_set(err, ERR_INVALID_ARGUMENT, "bad format for add-host: \"%s\"", text);
        if (!str_eq(colon + 1, "host-gateway") && !parse_address(slice_of(colon + 1), &ignored))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid IP address in add-host: \"%s\"", colon + 1);
    }
    return 0;
}

// Lines of the container's own files are made of them.
int check_names(const struct host_config *host, struct err *err)
{
    struct address ignored;
    if (check_extra_hosts(&host->extra_hosts, err) < 0)
        return -1;
    for (size_t i = 0; i < host->dns.len; i++)
        if (!parse_address(slice_of(host->dns.items[i]), &ignored))
            return err_set(err, ERR_INVALID_ARGUMENT, "bad nameserver address %s", host->dns.items[i]);
    const struct strv *lists[] = { &host->dns_search, &host->dns_options };
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->len; i++)
            if (strpbrk(lists[l]->items[i], "\n\r"))
                return err_set(err, ERR_INVALID_ARGUMENT, "a DNS option has a line break");
    return 0;
}

// ---- /etc/hosts -----------------------------------------------------------------------------------------------------

// Its own networks', or the default bridge's where they have none.
static void find_gateways(const struct container *container, struct arena *arena, struct strv *out) REQUIRES(container->lock)
{
    struct net_bridge_info bridge = { .gateway = "" };
    const struct endpoint *leads = endpoint_gateway(container), *leads6 = endpoint_gateway6(container);
    const char *gateway = leads ? leads->net.gateway : "", *gateway6 = leads6 ? leads6->net.gateway6 : "";
    if (!*gateway && !*gateway6 && container->engine->net) {
        net_bridge_info(container->engine->net, &bridge);
        gateway = bridge.gateway;
        gateway6 = bridge.gateway6;
    }
    const char *const both[] = { gateway, gateway6 };
    for (size_t i = 0; i < ARRAY_LEN(both); i++)
        if (*both[i]) // else no subnet is free, or there is none of that kind
            strv_push_arena(out, arena, both[i]);
}

// The whole name, and its first word where it has several.
static void add_own_name(const struct container_config *config, const char *address, struct buf *text)
{
    bool domain = !str_empty(config->domainname);
    _cleanup_free_ char *name =
        mem_printf("%s%s%s", config->hostname, domain ? "." : "", domain ? config->domainname : "");
    size_t first = strcspn(name, ".");
    buf_addf(text, "%s\t%s%s%.*s\n", address, name, name[first] ? " " : "", name[first] ? (int)first : 0, name);
}

void hosts_own_lines(const struct container *container, struct buf *out, const char *present)
{
    for (const struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next) {
        const char *addresses[] = { endpoint->net.address, endpoint->net.address6 };
        for (size_t i = 0; endpoint->up && i < ARRAY_LEN(addresses); i++) {
            _cleanup_free_ char *begin = mem_printf("\n%s\t", addresses[i]);
            if (addresses[i][0] && !strstr(present, begin))
                add_own_name(&container->config, addresses[i], out);
        }
    }
}

char *hosts_content(struct container *container, struct arena *arena)
{
    const struct container_config *config = &container->config;
    struct strv gateways = container->engine->defaults.host_gateways;
    _cleanup_buf_ struct buf text = BUF_INIT(HOSTS_MAX);
    if (gateways.len == 0)
        find_gateways(container, arena, &gateways);
    buf_adds(&text, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n"
                    "ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
    for (size_t i = 0; i < config->host_config.extra_hosts.len; i++) {
        struct slice rest = slice_of(config->host_config.extra_hosts.items[i]), name;
        slice_cut(&rest, ':', &name);
        bool stands_in = str_eq(rest.data, "host-gateway");
        for (size_t k = 0; stands_in && k < gateways.len; k++)
            buf_addf(&text, "%s\t%.*s\n", gateways.items[k], (int)name.size, name.data);
        if (!stands_in)
            buf_addf(&text, "%s\t%.*s\n", rest.data, (int)name.size, name.data);
    }
    hosts_own_lines(container, &text, "");
    return arena_strdup(arena, buf_text(&text));
}

// ---- /etc/resolv.conf -----------------------------------------------------------------------------------------------

struct resolv {
    struct arena *arena;
    struct strv servers, search, options;
    struct strv other, invalid;
    struct strv asked; // by the container's own name server, as the comment tells them
    bool defaults; // no server was left
};

static void push(struct resolv *resolv, struct strv *list, struct slice word)
{
    strv_push_arena(list, resolv->arena, arena_strndup(resolv->arena, word.data, word.size));
}

// Words are parted by blanks; false when there is none left.
static bool next_word(struct slice *rest, struct slice *word)
{
    *rest = slice_trim(*rest);
    size_t size = 0;
    while (size < rest->size && !strchr(" \t\r\v\f", rest->data[size]))
        size++;
    *word = (struct slice){ rest->data, size };
    *rest = (struct slice){ rest->data + size, rest->size - size };
    return size > 0;
}

static void read_server(struct resolv *resolv, struct slice word)
{
    struct address address;
    if (parse_address(word, &address))
        strv_push_arena(&resolv->servers, resolv->arena, address.text);
    else
        push(resolv, &resolv->invalid, word);
}

// Only the last "search" counts, "options" add up; "domain" is an old name of "search".
static void read_line(struct resolv *resolv, struct slice line)
{
    struct slice rest = line, key, word;
    if (!next_word(&rest, &key) || *key.data == '#' || *key.data == ';')
        return;
    bool search = slice_eq(key, "search") || slice_eq(key, "domain");
    if (!search && !slice_eq(key, "options") && !slice_eq(key, "nameserver")) {
        push(resolv, &resolv->other, line);
        return;
    }
    if (!next_word(&rest, &word))
        return;
    if (slice_eq(key, "nameserver")) {
        read_server(resolv, word);
        return;
    }
    if (search)
        resolv->search = (struct strv){ 0 };
    do
        push(resolv, search ? &resolv->search : &resolv->options, word);
    while (next_word(&rest, &word));
}

static void read_text(struct resolv *resolv, const char *text)
{
    struct slice rest = slice_of(text), line;
    while (slice_cut(&rest, '\n', &line))
        read_line(resolv, line);
}

// Search "." means none at all.
static void override(struct resolv *resolv, const struct host_config *host)
{
    const struct {
        const struct strv *from;
        struct strv *to;
    } table[] = { { &host->dns, &resolv->servers },
                  { &host->dns_search, &resolv->search },
                  { &host->dns_options, &resolv->options } };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].from->len == 0)
            continue;
        *table[i].to = (struct strv){ 0 };
        for (size_t k = 0; k < table[i].from->len; k++)
            if (table[i].to != &resolv->search || !str_eq(table[i].from->items[k], "."))
                strv_push_arena(table[i].to, resolv->arena, table[i].from->items[k]);
    }
}

static void drop_unreachable(struct resolv *resolv, bool ipv6)
{
    static const char *const defaults[] = { "8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844" };
    struct strv kept = { 0 };
    struct address address;
    for (size_t i = 0; i < resolv->servers.len; i++)
        if (parse_address(slice_of(resolv->servers.items[i]), &address) && !address.loopback && (ipv6 || !address.v6))
            strv_push_arena(&kept, resolv->arena, resolv->servers.items[i]);
    resolv->defaults = kept.len == 0;
    for (size_t i = 0; resolv->defaults && i < (ipv6 ? ARRAY_LEN(defaults) : 2); i++)
        strv_push_arena(&kept, resolv->arena, defaults[i]);
    resolv->servers = kept;
}

static void write_list(const char *before, const struct strv *list, const char *after, struct buf *out)
{
    buf_adds(out, before);
    for (size_t i = 0; i < list->len; i++)
        buf_addf(out, i ? " %s" : "%s", list->items[i]);
    buf_adds(out, after);
}

// Where the option comes from that says how many dots make a name whole; NULL: there is none.
static const char *ndots_from(const struct resolv *resolv, const struct host_config *host)
{
    for (size_t i = 0; i < resolv->options.len; i++)
        if (str_starts(resolv->options.items[i], "ndots:") || str_eq(resolv->options.items[i], "ndots"))
            return host->dns_options.len ? "override" : "host";
    return NULL;
}

static void write_body(const struct resolv *resolv, struct buf *out)
{
    for (size_t i = 0; i < resolv->servers.len; i++)
        buf_addf(out, "nameserver %s\n", resolv->servers.items[i]);
    if (resolv->search.len)
        write_list("search ", &resolv->search, "\n", out);
    if (resolv->options.len)
        write_list("options ", &resolv->options, "\n", out);
    for (size_t i = 0; i < resolv->other.len; i++)
        buf_addf(out, "%s\n", resolv->other.items[i]);
}

static void write_comments(const struct resolv *resolv, const struct host_config *host, const char *ndots, struct buf *out)
{
    struct strv overrides = { 0 };
    const struct {
        const struct strv *list;
        const char *word;
    } table[] = { { &host->dns, "nameservers" }, { &host->dns_search, "search" }, { &host->dns_options, "options" } };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].list->len)
            strv_push_arena(&overrides, resolv->arena, table[i].word);
    buf_adds(out, resolv->defaults ? "# Used default nameservers.\n" : "");
    if (resolv->asked.len)
        write_list("# ExtServers: [", &resolv->asked, "]\n", out);
    if (resolv->invalid.len)
        write_list("# Invalid nameservers: [", &resolv->invalid, "]\n", out);
    write_list("# Overrides: [", &overrides, "]\n", out);
    if (ndots)
        buf_addf(out, "# Option ndots from: %s\n", ndots);
}

void resolv_build(const char *text, const char *source, const struct host_config *host, bool ipv6, struct buf *out)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct resolv resolv = { .arena = &arena };
    read_text(&resolv, text);
    override(&resolv, host);
    if (host->dns.len == 0)
        drop_unreachable(&resolv, ipv6);
    write_body(&resolv, out);
    buf_addf(out, "\n# Based on host file: '%s' (legacy)\n", source);
    write_comments(&resolv, host, ndots_from(&resolv, host), out);
}

char *hosts_content_host(struct container *container, struct arena *arena)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
    if (container->config.host_config.extra_hosts.len)
        return hosts_content(container, arena);
    file_read_at(AT_FDCWD, "/etc/hosts", &text, NULL);
    return arena_strdup(arena, buf_text(&text));
}

char *resolv_content_host(const struct host_config *host, struct arena *arena)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX), out = BUF_INIT(HOSTS_MAX);
    struct resolv resolv = { .arena = arena };
    file_read_at(AT_FDCWD, HOST_FILE, &text, NULL);
    if (host->dns.len + host->dns_search.len + host->dns_options.len == 0)
        return arena_strdup(arena, buf_text(&text));
    read_text(&resolv, buf_text(&text));
    override(&resolv, host);
    write_body(&resolv, &out);
    return arena_strdup(arena, buf_text(&out));
}

// ---- the same for a container with a name server of its own ---------------------------------------------------------

static void drop_invalid_ndots(struct resolv *resolv)
{
    struct strv kept = { 0 };
    uint64_t dots;
    for (size_t i = 0; i < resolv->options.len; i++) {
        struct slice value = slice_of(resolv->options.items[i]), key;
        slice_cut(&value, ':', &key);
        if (!slice_eq(key, "ndots") || (value.data && num_parse_u64(value, INT32_MAX, &dots)))
            strv_push_arena(&kept, resolv->arena, resolv->options.items[i]);
    }
    resolv->options = kept;
}

// The host's servers are asked from the host's network, which a container without a way out must not reach; the client's from the
// container's.
static void take_servers(struct resolv *resolv, const struct host_config *host, bool outside, struct buf *settings)
{
    bool host_side = host->dns.len == 0;
    for (size_t i = 0; i < resolv->servers.len; i++) {
        const char *server = resolv->servers.items[i];
        strv_push_arena(&resolv->asked, resolv->arena, host_side ? arena_printf(resolv->arena, "host(%s)", server) : server);
        if (!host_side || outside)
            dns_settings_server(settings, server, host_side);
    }
    resolv->servers = (struct strv){ 0 };
    strv_push_arena(&resolv->servers, resolv->arena, NET_RESOLVER_ADDRESS);
}

void resolv_build_named(const char *text, const struct host_config *host, bool outside, struct buf *out, struct buf *settings)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct resolv resolv = { .arena = &arena };
    read_text(&resolv, text);
    override(&resolv, host);
    if (ndots_from(&resolv, host))
        dns_settings_ndots(settings);
    drop_invalid_ndots(&resolv);
    const char *ndots = ndots_from(&resolv, host);
    if (!ndots) // names of containers have no dot
        strv_push_arena(&resolv.options, &arena, "ndots:0");
    take_servers(&resolv, host, outside, settings);
    write_body(&resolv, out);
    buf_addf(out, "\n# Based on host file: '%s' (internal resolver)\n", HOST_FILE);
    write_comments(&resolv, host, ndots ? ndots : "internal", out);
}

char *resolv_content_named(const struct host_config *host, bool outside, struct arena *arena, struct buf *settings)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX), out = BUF_INIT(HOSTS_MAX);
    file_read_at(AT_FDCWD, HOST_FILE, &text, NULL); // without one there is nothing to read
    resolv_build_named(buf_text(&text), host, outside, &out, settings);
    return arena_strdup(arena, buf_text(&out));
}

// ---- what the host's file says ----------------------------------------------------------------------------------------

bool resolv_is_stub(const char *text)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct resolv resolv = { .arena = &arena };
    read_text(&resolv, text);
    return resolv.servers.len == 1 && str_eq(resolv.servers.items[0], SYSTEMD_STUB);
}

char *resolv_content(const struct host_config *host, bool ipv6, struct arena *arena)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX), out = BUF_INIT(HOSTS_MAX);
    const char *source = HOST_FILE;
    file_read_at(AT_FDCWD, source, &text, NULL); // without one there is nothing to read
    if (resolv_is_stub(buf_text(&text))) {
        source = SYSTEMD_FILE;
        buf_clear(&text);
        file_read_at(AT_FDCWD, source, &text, NULL);
    }
    resolv_build(buf_text(&text), source, host, ipv6, &out);
    return arena_strdup(arena, buf_text(&out));
}
