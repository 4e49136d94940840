// EXPOSE: "[ip:][host:]first[-last][/protocol]". Addresses and host ports are taken and say nothing, as with Docker.
#include <arpa/inet.h>

#include "build/build_private.h"

struct range {
    unsigned first, last;
};

static bool range_read(const char *text, struct range *out)
{
    uint64_t first, last;
    const char *dash = strchr(text, '-');
    struct slice head = { text, dash ? (size_t)(dash - text) : strlen(text) };
    if (!num_parse_u64(head, 65535, &first))
        return false;
    last = first;
    if (dash && (!num_parse_u64(slice_of(dash + 1), 65535, &last) || last < first))
        return false;
    *out = (struct range){ (unsigned)first, (unsigned)last };
    return true;
}

static bool is_address(const char *text, struct arena *arena)
{
    unsigned char bytes[16];
    size_t size = strlen(text);
    if (*text == '[' && size > 1 && text[size - 1] == ']')
        text = arena_strndup(arena, text + 1, size - 2);
    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

// Cuts what is behind the last ':' off.
static char *last_part(char *text)
{
    char *colon = strrchr(text, ':');
    if (!colon)
        return NULL;
    *colon = 0;
    return colon + 1;
}

static int host_check(const char *word, char *before, const struct range *ports, struct arena *arena, struct err *err)
{
    struct range host;
    char *port = last_part(before);
    const char *ip = port ? before : "";
    port = port ? port : before;
    if (*ip && !is_address(ip, arena))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid IP address: %s", ip);
    if (*port && !range_read(port, &host))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid hostPort: %s", port);
    if (*port && ports->first != ports->last && host.last - host.first != ports->last - ports->first)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid ranges specified for container and host Ports: %s", word);
    return 0;
}

static int port_read(const char *word, struct arena *arena, struct strv *out, struct err *err)
{
    char *before = arena_strdup(arena, word);
    char *port = last_part(before);
    struct range range;
    if (!port) {
        port = before;
        before = NULL;
    }
    char *slash = strchr(port, '/');
    if (slash)
        *slash++ = 0;
    const char *protocol = str_empty(slash) ? "tcp" : lower_case(slash, arena);
    if (!*port)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid port: %s: no port specified", quoted(word, arena));
    if (!str_eq(protocol, "tcp") && !str_eq(protocol, "udp") && !str_eq(protocol, "sctp"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid port: %s: invalid proto: %s", quoted(word, arena), slash);
    if (!range_read(port, &range))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid containerPort: %s", port);
    if (before && host_check(word, before, &range, arena, err) < 0)
        return -1;
    for (unsigned i = range.first; i <= range.last; i++)
        strv_push_arena(out, arena, arena_printf(arena, "%u/%s", i, protocol));
    return memory_check(arena, err);
}

int expose_ports(const struct strv *words, struct arena *arena, struct strv *out, struct err *err)
{
    *out = (struct strv){ 0 };
    for (size_t i = 0; i < words->len; i++)
        if (port_read(words->items[i], arena, out, err) < 0)
            return -1;
    return 0;
}
