// Which questions the networks' lists answer, in the order that Docker's resolver asks them: the whole name on each network of the
// container, then, for each dot from the last one on, what is before it on the network whose name is behind it. A container's own
// links come before the names of the list.
#include <arpa/inet.h>
#include <sys/random.h>

#include "dns/dns.h"

struct found {
    int family; // of the addresses that are asked for
    uint8_t *addresses; // malloc'ed, `size` bytes each
    size_t size, len, capacity;
    bool known; // the name is there, whatever it has
};

static void add_address(struct found *found, const uint8_t *address, size_t size)
{
    if (found->len == DNS_ADDRESS_MAX)
        return;
    if (found->len == found->capacity) {
        found->capacity = found->capacity ? found->capacity * 2 : 16;
        found->addresses = mem_grow(found->addresses, found->capacity * size);
    }
    found->size = size;
    memcpy(found->addresses + found->len++ * size, address, size);
}

static void find_in_list(struct slice list, struct slice name, struct found *out)
{
    struct dns_entry entry;
    uint8_t address[16];
    while (dns_list_next(&list, &entry)) {
        if (!dns_entry_has(&entry, name) ||
            (!dns_entry_address(&entry, AF_INET, address) && !dns_entry_address(&entry, AF_INET6, address)))
            continue;
        size_t size = dns_entry_address(&entry, out->family, address);
        out->known = true;
        if (size)
            add_address(out, address, size);
    }
}

// On every network of the container where that one has no name.
static void find_on(const struct dns_settings *settings, struct slice name, struct slice network, bool links, struct found *out)
{
    for (size_t i = 0; i < settings->network_len && !out->known; i++) {
        const struct dns_network *at = &settings->networks[i];
        struct slice target;
        if (network.size && !dns_name_eq(at->name, network))
            continue;
        if (dns_settings_find_link(settings, at->id, name, &target) == links)
            find_in_list(at->list, links ? target : name, out);
    }
}

static void find_name(const struct dns_settings *settings, const char *name, struct found *out)
{
    size_t size = strlen(name);
    struct slice host = { name, size }, network = { name, 0 };
    while (host.size && !out->known) {
        find_on(settings, host, network, true, out);
        if (!out->known)
            find_on(settings, host, network, false, out);
        const char *dot = memrchr(name, '.', host.size);
        host.size = dot ? (size_t)(dot - name) : 0;
        network = dot ? slice_of(dot + 1) : network;
    }
}

// ---- addresses ------------------------------------------------------------------------------------------------------

// So that clients that take the first one are spread over all.
static void shuffle(uint8_t *addresses, size_t size, size_t len)
{
    uint32_t state = 0;
    uint8_t held[16];
    if (len < 2 || getrandom(&state, sizeof(state), GRND_NONBLOCK) != sizeof(state))
        return;
    for (size_t i = len - 1; i > 0; i--) {
        state = state * 1664525 + 1013904223;
        size_t other = (size_t)((uint64_t)state * (i + 1) >> 32);
        memcpy(held, addresses + i * size, size);
        memmove(addresses + i * size, addresses + other * size, size);
        memcpy(addresses + other * size, held, size);
    }
}

// What a name does not have, an MX or an address of IPv6, is answered by nothing: nobody else is asked for it.
static bool answer_name(const struct dns_settings *settings, const uint8_t *message, const struct dns_query *query, size_t max,
                        struct buf *out)
{
    struct found found = { .family = query->type == DNS_AAAA ? AF_INET6 : AF_INET };
    find_name(settings, query->name, &found);
    if (found.len && query->type != DNS_MX) {
        shuffle(found.addresses, found.size, found.len);
        dns_reply_addresses(message, query, found.addresses, found.size, found.len, max, out);
    } else if (found.known) {
        dns_reply(message, query, DNS_OK, out);
    }
    free(found.addresses);
    return found.known;
}

// ---- names of addresses ----------------------------------------------------------------------------------------------

// 32 digits, the last one first, each with a dot behind it: "2.0.(...).d.f.ip6.arpa" is fd(...)02.
static bool reversed_address6(const char *name, char out[INET6_ADDRSTRLEN])
{
    enum { DIGITS = 32 };
    static const char domain[] = "ip6.arpa", digits[] = "0123456789abcdef"; // a question's name is in lower case
    uint8_t address[16] = { 0 };
    if (strlen(name) != 2 * DIGITS + sizeof(domain) - 1 || !str_eq(name + 2 * DIGITS, domain))
        return false;
    for (size_t i = 0; i < DIGITS; i++) {
        const char *digit = strchr(digits, name[2 * i]);
        if (!digit || name[2 * i + 1] != '.')
            return false;
        address[15 - i / 2] |= (uint8_t)((digit - digits) << (i % 2 ? 4 : 0));
    }
    return inet_ntop(AF_INET6, address, out, INET6_ADDRSTRLEN);
}

// "4.3.2.1.in-addr.arpa" is 1.2.3.4.
static bool reversed_address(const char *name, char out[INET6_ADDRSTRLEN])
{
    static const char domain[] = ".in-addr.arpa";
    char text[INET_ADDRSTRLEN];
    uint32_t reversed;
    size_t size = strlen(name), host = size > sizeof(domain) - 1 ? size - (sizeof(domain) - 1) : 0;
    if (host == 0 || host >= sizeof(text) || !str_eq(name + host, domain))
        return false;
    memcpy(text, name, host);
    text[host] = 0;
    if (inet_pton(AF_INET, text, &reversed) != 1)
        return false;
    reversed = __builtin_bswap32(reversed);
    return inet_ntop(AF_INET, &reversed, out, INET_ADDRSTRLEN);
}

static bool answer_address(const struct dns_settings *settings, const uint8_t *message, const struct dns_query *query,
                           struct buf *out)
{
    char address[INET6_ADDRSTRLEN];
    if (!reversed_address(query->name, address) && !reversed_address6(query->name, address))
        return false;
    for (size_t i = 0; i < settings->network_len; i++) {
        const struct dns_network *network = &settings->networks[i];
        struct slice rest = network->list, word;
        struct dns_entry entry;
        while (dns_list_next(&rest, &entry)) {
            if ((!slice_eq(entry.address, address) && !slice_eq(entry.address6, address)) || !dns_next_word(&entry.names, &word))
                continue;
            _cleanup_free_ char *name =
                mem_printf("%.*s.%.*s", (int)word.size, word.data, (int)network->name.size, network->name.data);
            dns_reply_name(message, query, name, out);
            return true;
        }
    }
    return false;
}

bool dns_answer(const struct dns_settings *settings, const uint8_t *message, const struct dns_query *query, size_t max,
                struct buf *out)
{
    bool address = query->type == DNS_A || query->type == DNS_AAAA;
    if (query->class != DNS_IN || !query->name[0])
        return false;
    if (query->type == DNS_PTR)
        return answer_address(settings, message, query, out);
    if (!address && query->type != DNS_MX)
        return false;
    if (answer_name(settings, message, query, max, out))
        return true;
    // Its resolver tries the search list first, and comes back with a dot in the name.
    if (!address || !settings->ndots || strchr(query->name, '.'))
        return false;
    dns_reply(message, query, DNS_OK, out);
    return true;
}
