// What a container's resolver goes by.
#include <arpa/inet.h>

#include "dns/dns.h"

// "10.0.0.1", "fe80::1%eth0": the zone is a link of the host's.
static bool read_server(struct slice word, struct dns_server *out)
{
    char text[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
    struct sockaddr_in *four = (struct sockaddr_in *)&out->address;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&out->address;
    if (word.size >= sizeof(text))
        return false;
    memcpy(text, word.data, word.size);
    text[word.size] = 0;
    out->address = (struct sockaddr_storage){ 0 };
    char *zone = strchr(text, '%');
    if (zone)
        *zone++ = 0;
    if (!zone && inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(DNS_PORT);
        out->size = sizeof(*four);
        return true;
    }
    if (inet_pton(AF_INET6, text, &six->sin6_addr) != 1)
        return false;
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(DNS_PORT);
    six->sin6_scope_id = zone ? if_nametoindex(zone) : 0;
    out->size = sizeof(*six);
    return true;
}

static void read_line(struct slice line, struct dns_settings *out)
{
    struct slice key, first;
    if (!dns_next_word(&line, &key))
        return;
    if (slice_eq(key, "ndots")) {
        out->ndots = true;
    } else if (slice_eq(key, "network")) {
        if (dns_next_word(&line, &first) && line.size && out->network_len < DNS_NETWORK_MAX)
            out->networks[out->network_len++] = (struct dns_network){ .id = first, .name = line };
    } else if (slice_eq(key, "server") || slice_eq(key, "host")) {
        struct dns_server server = { .host = slice_eq(key, "host") };
        if (out->server_len < DNS_SERVER_MAX && dns_next_word(&line, &first) && read_server(first, &server))
            out->servers[out->server_len++] = server;
    }
}

void dns_settings_read(struct slice text, struct dns_settings *out)
{
    struct slice rest = text, line;
    out->text = text;
    out->network_len = out->server_len = 0;
    out->ndots = false;
    while (slice_cut(&rest, '\n', &line))
        read_line(line, out);
}

void dns_settings_network(struct buf *text, const char *id, const char *name)
{
    if (dns_word_valid(id) && *name && !strchr(name, '\n'))
        buf_addf(text, "network %s %s\n", id, name);
}

void dns_settings_link(struct buf *text, const char *network_id, const char *name, const char *target)
{
    if (dns_word_valid(network_id) && dns_word_valid(name) && dns_word_valid(target))
        buf_addf(text, "link %s %s %s\n", network_id, name, target);
}

void dns_settings_server(struct buf *text, const char *address, bool host)
{
    if (dns_word_valid(address))
        buf_addf(text, "%s %s\n", host ? "host" : "server", address);
}

void dns_settings_ndots(struct buf *text)
{
    buf_adds(text, "ndots\n");
}

bool dns_settings_find_link(const struct dns_settings *settings, struct slice network_id, struct slice name, struct slice *target)
{
    struct slice rest = settings->text, line, key, id, link;
    while (slice_cut(&rest, '\n', &line)) {
        if (dns_next_word(&line, &key) && slice_eq(key, "link") && dns_next_word(&line, &id) && dns_name_eq(id, network_id) &&
            dns_next_word(&line, &link) && dns_name_eq(link, name) && dns_next_word(&line, target))
            return true;
    }
    return false;
}
