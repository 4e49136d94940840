// docker network connect and disconnect: a container comes to a network, or leaves it, while it runs or not.
#include <errno.h>
#include <fcntl.h>

#include "networks.h"
#include "vm.h"

#define CALL_TIMEOUT_NS (10 * NS_PER_S)

static bool is_running(struct container *container)
{
    mutex_lock(&container->lock);
    bool live = container_is_live(container);
    mutex_unlock(&container->lock);
    return live;
}

// The supervisor hands out its descriptor of the namespace.
static int open_namespace(struct container *container, struct err *err)
{
    _cleanup_json_ json_t *arguments = json_object(), *result = NULL;
    int *fds = NULL, netns_fd = -1;
    size_t len = 0;
    mutex_lock(&container->lock);
    struct task_client *client = container->client;
    mutex_unlock(&container->lock);
    if (task_call(client, "state", arguments, NULL, 0, CALL_TIMEOUT_NS, &result, &fds, &len, err) < 0)
        return -1;
    int64_t index = json_get_int(result, "netns_fd", -1);
    for (size_t i = 0; i < len; i++)
        if ((int64_t)i == index)
            netns_fd = fds[i];
        else
            fd_close(fds[i]);
    free(fds);
    return netns_fd < 0 ? err_set(err, ERR_INTERNAL, "container %s has no network namespace", container->id) : netns_fd;
}

// ---- what goes by the gateway ---------------------------------------------------------------------------------------

// The relay of published ports stands in the supervisor.
static int retarget(struct container *container, const char *address, const char *address6, struct err *err)
{
    _cleanup_json_ json_t *arguments = json_pack("{s:s, s:s}", "address", address, "address6", address6);
    mutex_lock(&container->lock);
    struct task_client *client = container->client;
    size_t ports = container->port_len;
    mutex_unlock(&container->lock);
    return ports ? task_call(client, "retarget", arguments, NULL, 0, CALL_TIMEOUT_NS, NULL, NULL, NULL, err) : 0;
}

struct way {
    char gateway[INET6_ADDRSTRLEN], interface[IFNAMSIZ]; // as net_way has them
};

static void fill_way(const struct endpoint *leads, bool ipv6, struct way *out)
{
    *out = (struct way){ 0 };
    if (!leads)
        return;
    snprintf(out->gateway, sizeof(out->gateway), "%s", ipv6 ? leads->net.gateway6 : leads->net.gateway);
    if (leads->by_device && !leads->internal)
        snprintf(out->interface, sizeof(out->interface), "%s", leads->net.interface);
}

struct port_target {
    char address[INET6_ADDRSTRLEN], network_id[65]; // address "": nowhere
};

static void fill_target(const struct endpoint *to, bool ipv6, struct port_target *out)
{
    *out = (struct port_target){ 0 };
    if (!to)
        return;
    snprintf(out->address, sizeof(out->address), "%s", ipv6 && to->net.address6[0] ? to->net.address6 : to->net.address);
    snprintf(out->network_id, sizeof(out->network_id), "%s", to->builtin ? "" : to->network_id);
}

// The default route and the published ports follow the endpoint that leads out now.
static int follow_gateway(struct container *container, int netns_fd, struct err *err)
{
    struct net *net = container->engine->net;
    struct way way, way6;
    struct port_target four, six;
    mutex_lock(&container->lock);
    fill_way(endpoint_gateway(container), false, &way);
    fill_way(endpoint_gateway6(container), true, &way6);
    fill_target(endpoint_published(container), false, &four);
    fill_target(endpoint_published6(container), true, &six);
    mutex_unlock(&container->lock);
    if (net_set_gateway(netns_fd, &(struct net_way){ way.gateway, way.interface }, &(struct net_way){ way6.gateway, way6.interface }, err) < 0 ||
        net_move_ports(net, container->id, four.address[0] ? four.network_id : NULL, six.address[0] ? six.network_id : NULL, err) < 0)
        return -1;
    return four.address[0] || six.address[0] ? retarget(container, four.address, six.address, err) : 0;
}

// ---- /etc/hosts -----------------------------------------------------------------------------------------------------

// The lines of an address that is gone go, those of a new one come; what the container wrote stays. In place: it is mounted.
static bool begins_with(struct slice line, const char *address)
{
    size_t size = address ? strlen(address) : 0;
    return size && line.size > size && strncmp(line.data, address, size) == 0 && line.data[size] == '\t';
}

static void edit_hosts(struct container *container, const char *gone, const char *gone6)
{
    _cleanup_free_ char *path = mem_printf("%s/files/hosts", container->id);
    _cleanup_buf_ struct buf text = BUF_INIT(32 << 20), out = BUF_INIT(33 << 20);
    if (file_read_at(container->engine->containers_fd, path, &text, NULL) < 0)
        return;
    struct slice rest = slice_of(buf_text(&text)), line;
    while (slice_cut(&rest, '\n', &line))
        if ((rest.data || line.size) && !begins_with(line, gone) && !begins_with(line, gone6))
            buf_addf(&out, "%.*s\n", (int)line.size, line.data);
    if (!gone) {
        mutex_lock(&container->lock);
        hosts_own_lines(container, &out, buf_text(&text));
        mutex_unlock(&container->lock);
    }
    _cleanup_close_ int fd = openat(container->engine->containers_fd, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || pwrite(fd, out.data, out.size, 0) != (ssize_t)out.size || ftruncate(fd, (off_t)out.size) < 0)
        log_warn("container %.12s: its /etc/hosts was not changed", container->id);
}

// ---- connect --------------------------------------------------------------------------------------------------------

static struct endpoint *find_endpoint(struct container *container, const struct engine_network *network)
{
    for (struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next)
        if (str_eq(endpoint->network_id, network->id) || str_eq(endpoint->network, network->name) || str_eq(endpoint->network, network->id))
            return endpoint;
    return NULL;
}

static void take_off(struct container *container, struct endpoint *endpoint)
{
    mutex_lock(&container->lock);
    struct endpoint **place = &container->endpoints;
    while (*place != endpoint)
        place = &(*place)->next;
    *place = endpoint->next;
    mutex_unlock(&container->lock);
    endpoint_free(endpoint);
}

static int check_connect(struct container *container, const struct engine_network *network, bool running, struct err *err)
{
    const char *mode = container->config.host_config.network_mode;
    struct endpoint *same = find_endpoint(container, network);
    if (str_eq(network->name, "host"))
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "cannot connect container to host network - container must be created in host network mode");
    if (str_eq(mode, "host") || str_starts(mode, "container:"))
        return err_set(err, ERR_INVALID_ARGUMENT, "container sharing network namespace with another container or host cannot be connected to any "
                                                  "other network");
    if (same && running) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        return err_set(err, ERR_PERMISSION_DENIED, "endpoint with name %s already exists in network %s", container_name(container, &arena),
                       network->name);
    }
    for (const struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next)
        if (endpoint != same && (str_eq(endpoint->network, "none") || str_eq(network->name, "none")))
            return err_set(err, ERR_INVALID_ARGUMENT, "container cannot be connected to multiple networks with one of the networks in private "
                                                      "(none) mode");
    if (vm_wanted(&container->config.host_config) && (running || (container->endpoints && !same)))
        return err_set(err, ERR_NOT_IMPLEMENTED, "network connect: not supported behind the VM wall yet: a machine has one network card");
    return 0;
}

static int attach_running(struct container *container, struct endpoint *endpoint, struct err *err)
{
    char id[65];
    _cleanup_close_ int netns_fd = open_namespace(container, err);
    random_hex(id, 64);
    const struct attach_how how = { .endpoint_id = id, .netns_fd = &netns_fd };
    if (netns_fd < 0 || (endpoint->bridge && endpoint_attach(container, endpoint, &how, err) < 0))
        return -1;
    return follow_gateway(container, netns_fd, err) < 0 ? -1 : names_connect(container, netns_fd, err);
}

// What a connect that failed has made goes again, and the route and the ports are as before.
static void take_back(struct container *container, struct endpoint *endpoint)
{
    bool up = endpoint->up, card = endpoint->card;
    char interface[IFNAMSIZ];
    snprintf(interface, sizeof(interface), "%s", endpoint->net.interface);
    names_leave(container, endpoint);
    if (up)
        net_disconnect(container->engine->net, endpoint->builtin ? "" : endpoint->network_id, container->id, NULL);
    take_off(container, endpoint);
    _cleanup_close_ int netns_fd = up ? open_namespace(container, NULL) : -1;
    if (netns_fd >= 0 && card)
        net_drop_interface(netns_fd, interface, NULL);
    if (netns_fd >= 0)
        follow_gateway(container, netns_fd, NULL);
    if (up)
        names_update(container, NULL);
}

static int connect_held(struct container *container, const struct engine_network *network, const struct endpoint_request *request,
                        struct err *err)
{
    bool running = is_running(container);
    if (check_connect(container, network, running, err) < 0 || endpoint_check(network->name, request, err) < 0)
        return -1;
    struct endpoint *before = find_endpoint(container, network), *endpoint = endpoint_new(network->name, request);
    if (before)
        take_off(container, before);
    endpoint_settle(container, endpoint, network);
    endpoints_add(container, endpoint, false);
    if ((running && attach_running(container, endpoint, err) < 0) || record_save_networks(container, err) < 0) {
        take_back(container, endpoint);
        return -1;
    }
    if (running) {
        endpoints_connected(container);
        edit_hosts(container, NULL, NULL);
    } else
        endpoint_publish(container, endpoint, "connect");
    return 0;
}

int engine_network_connect(struct engine *engine, const char *ref, const char *container_ref, const struct endpoint_request *request,
                           struct err *err)
{
    static const struct endpoint_request nothing;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct engine_network network;
    _cleanup_container_ struct container *container = container_find(engine, container_ref, err);
    if (!container || engine_network_find(engine, ref, &arena, &network, err) < 0 || container_begin(container, err) < 0)
        return -1;
    int result = connect_held(container, &network, request ? request : &nothing, err);
    container_end(container);
    return result;
}

// ---- disconnect -----------------------------------------------------------------------------------------------------

static int detach_running(struct container *container, struct endpoint *endpoint, struct err *err)
{
    _cleanup_close_ int netns_fd = open_namespace(container, err);
    names_leave(container, endpoint);
    if (netns_fd < 0 || net_disconnect(container->engine->net, endpoint->builtin ? "" : endpoint->network_id, container->id, err) < 0)
        return -1;
    if (endpoint->card && net_drop_interface(netns_fd, endpoint->net.interface, err) < 0)
        return -1;
    mutex_lock(&container->lock);
    endpoint->up = false;
    mutex_unlock(&container->lock);
    return follow_gateway(container, netns_fd, err) < 0 ? -1 : names_update(container, err);
}

static int disconnect_held(struct container *container, const struct engine_network *network, struct err *err)
{
    struct endpoint *endpoint = find_endpoint(container, network);
    const char *mode = container->config.host_config.network_mode;
    if (str_eq(mode, "host") && str_eq(network->name, "host"))
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot disconnect container from host network - container was created in host network mode");
    if (!endpoint)
        return err_set(err, ERR_INTERNAL, "container %s is not connected to network %s", container->id, network->name);
    bool running = is_running(container), attached = running && endpoint->up;
    if (running && vm_wanted(&container->config.host_config))
        return err_set(err, ERR_NOT_IMPLEMENTED, "network disconnect: not supported behind the VM wall yet while the machine runs");
    char address[INET_ADDRSTRLEN], address6[INET6_ADDRSTRLEN];
    snprintf(address, sizeof(address), "%s", attached ? endpoint->net.address : "");
    snprintf(address6, sizeof(address6), "%s", attached ? endpoint->net.address6 : "");
    int result = attached ? detach_running(container, endpoint, err) : 0;
    if (result < 0 && endpoint->up)
        return -1;
    endpoint_settle(container, endpoint, network);
    if (attached)
        endpoint_publish(container, endpoint, "disconnect");
    take_off(container, endpoint);
    if (attached)
        edit_hosts(container, address, address6);
    int saved = record_save_networks(container, result < 0 ? NULL : err);
    return result < 0 ? -1 : saved; // it is off, also where the way out could not follow
}

int engine_network_disconnect(struct engine *engine, const char *ref, const char *container_ref, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct engine_network network;
    _cleanup_container_ struct container *container = container_find(engine, container_ref, err);
    if (!container || engine_network_find(engine, ref, &arena, &network, err) < 0 || container_begin(container, err) < 0)
        return -1;
    int result = disconnect_held(container, &network, err);
    container_end(container);
    return result;
}
