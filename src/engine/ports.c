// Published ports: what a client may ask for, and the sockets of a run. A socket is bound before anything else is made, so
// that a port which is taken fails the start at once.
#include <arpa/inet.h>
#include <errno.h>

#include "engine_private.h"

// "80/tcp", "80".
static int parse_exposed(const char *text, int *proto, uint16_t *port, struct err *err)
{
    struct slice rest = slice_of(text), number;
    uint64_t value;
    slice_cut(&rest, '/', &number);
    if (!num_parse_u64(number, 65535, &value) || value == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid port specification: \"%.*s\"", (int)number.size, number.data);
    *port = (uint16_t)value;
    if (!rest.data || slice_eq(rest, "tcp"))
        *proto = IPPROTO_TCP;
    else if (slice_eq(rest, "udp"))
        *proto = IPPROTO_UDP;
    else if (slice_eq(rest, "sctp"))
        *proto = IPPROTO_SCTP;
    else
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid proto: %s", rest.data);
    return 0;
}

struct range {
    uint16_t first, last;
};

// "8080", "8080-8090", or empty: any free one (0).
static int parse_range(const char *text, struct range *out, struct err *err)
{
    struct slice rest = slice_of(text ? text : ""), first;
    uint64_t from = 0, to;
    slice_cut(&rest, '-', &first);
    if (first.size > 0 && !num_parse_u64(first, 65535, &from))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid port specification: \"%s\"", text);
    to = from;
    if (rest.data && (!num_parse_u64(rest, 65535, &to) || from == 0 || to < from))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid port specification: \"%s\"", text);
    *out = (struct range){ (uint16_t)from, (uint16_t)to };
    return 0;
}

static int check_binding(const struct port_binding *binding, struct err *err)
{
    struct range ignored;
    unsigned char address[16];
    if (parse_range(binding->host_port, &ignored, err) < 0)
        return -1;
    if (!str_empty(binding->host_ip) && inet_pton(AF_INET, binding->host_ip, address) != 1 &&
        inet_pton(AF_INET6, binding->host_ip, address) != 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid IP address: %s", binding->host_ip);
    return 0;
}

int check_ports(const struct host_config *host, struct err *err)
{
    int proto;
    uint16_t target;
    for (size_t i = 0; i < host->port_bindings.len; i++) {
        const struct json_list *list = (struct json_list *)host->port_bindings.items + i;
        if (parse_exposed(host->port_bindings.keys[i], &proto, &target, err) < 0)
            return -1;
        for (size_t k = 0; k < list->len; k++)
            if (check_binding(json_list_at(list, &port_binding_table, k), err) < 0)
                return -1;
    }
    return 0;
}

// ---- binding --------------------------------------------------------------------------------------------------------

static int bind_one(struct engine *engine, struct port_plan *plan, int proto, uint16_t target, const char *address,
                    uint16_t host_port, struct err *err)
{
    if (plan->len == TASK_FD_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d published ports", TASK_FD_MAX);
    plan->ports = mem_grow(plan->ports, (plan->len + 1) * sizeof(*plan->ports));
    struct net_port *port = &plan->ports[plan->len];
    *port = (struct net_port){ .proto = proto, .host_port = host_port, .target_port = target, .listener_fd = -1 };
    snprintf(port->host_address, sizeof(port->host_address), "%s", address);
    if (net_port_bind(engine->net, plan->endpoint, port, err) < 0)
        return -1;
    plan->len++;
    return 0;
}

// One that is open at the container's own address: what the client says of the host's counts for nothing, as with Docker.
static int open_one(struct port_plan *plan, int proto, uint16_t target, bool ipv6, struct err *err)
{
    if (plan->len == TASK_FD_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d published ports", TASK_FD_MAX);
    plan->ports = mem_grow(plan->ports, (plan->len + 1) * sizeof(*plan->ports));
    plan->ports[plan->len] = (struct net_port){ .proto = proto, .target_port = target, .listener_fd = -1 };
    snprintf(plan->ports[plan->len++].host_address, INET6_ADDRSTRLEN, "%s", ipv6 ? "::" : "0.0.0.0");
    return 0;
}

static bool host_has_ipv6(void)
{
    return access("/proc/net/if_inet6", F_OK) == 0;
}

// An empty host address means every address that leads to the container: one socket for IPv4 and, where the host has it, one for IPv6.
// Both or none.
static int bind_number(struct engine *engine, struct port_plan *plan, int proto, uint16_t target, const char *address,
                       uint16_t host_port, struct err *err)
{
    const char *const any[] = { "0.0.0.0", "::" }, *const *addresses = str_empty(address) ? any : &address;
    size_t before = plan->len, len = str_empty(address) ? (host_has_ipv6() ? 2 : 1) : 1;
    int result = 0;
    for (size_t i = 0; i < len && result == 0; i++) {
        bool six = strchr(addresses[i], ':');
        uint16_t same = plan->len > before ? plan->ports[before].host_port : 0;
        if (!(six ? plan->ipv6 : plan->ipv4) || (six && plan->relayed6 && proto == IPPROTO_SCTP)) // nobody relays SCTP
            continue;
        result = (six ? plan->routed6 : plan->routed) ? open_one(plan, proto, target, six, err)
                                                      : bind_one(engine, plan, proto, target, addresses[i], same ? same : host_port, err);
    }
    if (result == 0)
        return 0;
    while (plan->len > before)
        fd_close(plan->ports[--plan->len].listener_fd);
    return -1;
}

// The first free one of a range; an error other than "in use" would be that of all of them.
static int bind_range(struct engine *engine, struct port_plan *plan, int proto, uint16_t target,
                      const struct port_binding *binding, struct err *err)
{
    struct err failed = { 0 };
    struct range range;
    const char *address = str_empty(binding->host_ip) && plan->address ? plan->address : binding->host_ip;
    if (parse_range(binding->host_port, &range, err) < 0)
        return -1;
    for (uint32_t number = range.first; number <= range.last; number++) {
        failed = (struct err){ 0 };
        if (bind_number(engine, plan, proto, target, address, (uint16_t)number, &failed) == 0)
            return 0;
        if (failed.number != EADDRINUSE)
            break;
    }
    if (failed.number == EADDRINUSE && range.last > range.first)
        return err_set(err, ERR_INTERNAL,
                       "driver failed programming external connectivity on endpoint %s: all ports are allocated", plan->endpoint);
    if (err)
        *err = failed;
    return -1;
}

static int bind_list(struct container *container, struct port_plan *plan, const char *exposed, const struct json_list *list,
                     struct err *err)
{
    static const struct port_binding any = { 0 };
    struct engine *engine = container->engine;
    int proto;
    uint16_t target;
    if (parse_exposed(exposed, &proto, &target, err) < 0)
        return -1;
    if (!list || list->len == 0)
        return bind_range(engine, plan, proto, target, &any, err);
    for (size_t i = 0; i < list->len; i++)
        if (bind_range(engine, plan, proto, target, json_list_at(list, &port_binding_table, i), err) < 0)
            return -1;
    return 0;
}

static bool is_bound(const struct host_config *host, const char *exposed)
{
    for (size_t i = 0; i < host->port_bindings.len; i++)
        if (str_eq(host->port_bindings.keys[i], exposed))
            return true;
    return false;
}

// -P publishes what is exposed and not published already by -p.
int ports_bind(struct container *container, struct port_plan *plan, struct err *err)
{
    const struct host_config *host = &container->config.host_config;
    const struct strv *exposed = &container->config.process.exposed_ports;
    for (size_t i = 0; i < host->port_bindings.len; i++)
        if (bind_list(container, plan, host->port_bindings.keys[i], (struct json_list *)host->port_bindings.items + i, err) < 0)
            return -1;
    for (size_t i = 0; host->publish_all_ports && i < exposed->len; i++)
        if (!is_bound(host, exposed->items[i]) && bind_list(container, plan, exposed->items[i], NULL, err) < 0)
            return -1;
    return 0;
}
