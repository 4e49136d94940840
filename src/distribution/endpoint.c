// Where a repository may be found, in the order to try.
#include <arpa/inet.h>

#include "base/num.h"
#include "distribution_private.h"

#define HUB_DOMAIN "docker.io"
#define HUB_HOST "registry-1.docker.io"
#define HUB_INDEX "index.docker.io"

void endpoints_done(struct endpoints *endpoints)
{
    for (size_t i = 0; i < endpoints->len; i++) {
        free(endpoints->items[i].base);
        free(endpoints->items[i].host);
        certs_done(&endpoints->items[i].certs);
    }
    free(endpoints->items);
    *endpoints = (struct endpoints){ 0 };
}

// ---- insecure hosts -------------------------------------------------------------------------------------------------

// "127.0.0.1:5000" -> "127.0.0.1"; "[::1]:5000" -> "::1".
static void bare_host(const char *host, char out[256])
{
    const char *start = *host == '[' ? host + 1 : host;
    snprintf(out, 256, "%.*s", (int)strcspn(start, *host == '[' ? "]" : ":"), start);
}

bool endpoint_is_loopback(const char *host)
{
    char bare[256];
    struct in_addr address;
    bare_host(host, bare);
    if (inet_pton(AF_INET, bare, &address) == 1)
        return ntohl(address.s_addr) >> 24 == 127;
    return str_eq(bare, "localhost") || str_eq(bare, "::1");
}

// "10.0.0.0/8" and an address in it.
static bool in_network(const char *network, const char *bare)
{
    struct in_addr base, address;
    uint64_t bits;
    struct slice rest = slice_of(network), part;
    char text[64];
    slice_cut(&rest, '/', &part);
    if (!rest.data || part.size >= sizeof(text) || !num_parse_u64(rest, 32, &bits))
        return false;
    snprintf(text, sizeof(text), "%.*s", (int)part.size, part.data);
    if (inet_pton(AF_INET, text, &base) != 1 || inet_pton(AF_INET, bare, &address) != 1)
        return false;
    uint32_t mask = bits ? ~UINT32_C(0) << (32 - bits) : 0;
    return ((base.s_addr ^ address.s_addr) & htonl(mask)) == 0;
}

static bool is_insecure(const char *host, const struct strv *insecure)
{
    char bare[256];
    bare_host(host, bare);
    for (size_t i = 0; i < insecure->len; i++)
        if (str_eq(insecure->items[i], host) || str_eq(insecure->items[i], bare) || in_network(insecure->items[i], bare))
            return true;
    return false;
}

// ---- the list -------------------------------------------------------------------------------------------------------

static int add(struct endpoints *list, const char *scheme, const char *host, const char *path, bool verify, bool mirror,
               const char *certs_dir, struct err *err)
{
    list->items = mem_grow(list->items, (list->len + 1) * sizeof(*list->items));
    struct endpoint *endpoint = &list->items[list->len++];
    *endpoint = (struct endpoint){ .base = mem_printf("%s://%s%s", scheme, host, path), .host = mem_strdup(host),
                                   .verify = verify, .mirror = mirror };
    return certs_read(certs_dir, host, &endpoint->certs, err);
}

// A host with certificates of its own is spoken to with them.
static bool has_certs(const char *certs_dir, const char *host)
{
    struct certs certs;
    bool found = certs_read(certs_dir, host, &certs, NULL) == 0 && certs.found;
    certs_done(&certs);
    return found;
}

static int add_host(struct endpoints *list, const char *host, const struct strv *insecure, const char *certs_dir, struct err *err)
{
    bool loopback = endpoint_is_loopback(host), named = is_insecure(host, insecure);
    if ((!loopback && !named) || has_certs(certs_dir, host))
        return add(list, "https", host, "", true, false, certs_dir, err);
    if (loopback) // who listens there is on this machine
        return add(list, "http", host, "", false, false, certs_dir, err) < 0 ? -1
                                                                              : add(list, "https", host, "", false, false, certs_dir, err);
    return add(list, "https", host, "", false, false, certs_dir, err) < 0 ? -1
                                                                           : add(list, "http", host, "", false, false, certs_dir, err);
}

// "https://mirror.example:5000/prefix/".
static int add_mirror(struct endpoints *list, const char *url, const struct strv *insecure, const char *certs_dir, struct err *err)
{
    const char *host = strstr(url, "://");
    bool secure = str_starts(url, "https://");
    if (!host || (!secure && !str_starts(url, "http://")) || !host[3] || host[3] == '/' || strpbrk(host, "?#@"))
        return err_set(err, ERR_INVALID_ARGUMENT, "registry mirror %.200s: not of the form http[s]://HOST[:PORT][/PATH]", url);
    host += 3;
    size_t host_size = strcspn(host, "/"), path_size = strlen(host + host_size);
    while (path_size && host[host_size + path_size - 1] == '/')
        path_size--;
    _cleanup_free_ char *name = mem_strndup(host, host_size), *path = mem_strndup(host + host_size, path_size);
    bool any = endpoint_is_loopback(name) || is_insecure(name, insecure);
    return add(list, secure ? "https" : "http", name, path, secure && !any, true, certs_dir, err);
}

int endpoints_make(const struct image_ref *ref, enum distribution_purpose purpose, const struct distribution_options *options,
                   struct endpoints *out, struct err *err)
{
    const char *certs_dir = options->certs_dir ? options->certs_dir : DISTRIBUTION_CERTS_DIR;
    bool hub = str_eq(ref->domain, HUB_DOMAIN);
    for (size_t i = 0; hub && purpose == DISTRIBUTION_PULL && i < options->mirrors.len; i++)
        if (add_mirror(out, options->mirrors.items[i], &options->insecure, certs_dir, err) < 0)
            return -1;
    return add_host(out, !hub ? ref->domain : purpose == DISTRIBUTION_SEARCH ? HUB_INDEX : HUB_HOST, &options->insecure, certs_dir, err);
}
