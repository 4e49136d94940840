// A container as `docker inspect` and `docker ps` see it.
#include "api_private.h"

// ---- network --------------------------------------------------------------------------------------------------------

static json_t *shape_list_or_null(const struct strv *list)
{
    json_t *array = list->len ? json_array() : json_null();
    for (size_t i = 0; i < list->len; i++)
        json_array_append_new(array, shape_text(list->items[i]));
    return array;
}

// Of the addresses those that were asked for.
static json_t *shape_endpoint_ipam(const struct endpoint_ipam *ipam)
{
    json_t *object = ipam ? json_object() : json_null();
    if (ipam && !str_empty(ipam->ipv4_address))
        json_object_set_new(object, "IPv4Address", json_string(ipam->ipv4_address));
    if (ipam && !str_empty(ipam->ipv6_address))
        json_object_set_new(object, "IPv6Address", json_string(ipam->ipv6_address));
    if (ipam && ipam->link_local.len)
        json_object_set_new(object, "LinkLocalIPs", shape_texts(&ipam->link_local));
    return object;
}

static json_t *shape_endpoint(const struct engine_endpoint *endpoint)
{
    static const struct endpoint_request nothing;
    const struct endpoint_request *request = endpoint->request ? endpoint->request : &nothing;
    json_t *ipam = shape_endpoint_ipam(request->ipam);
    json_t *options = request->driver_opts.len ? shape_map(&request->driver_opts) : json_null();
    const char *mac = endpoint->up ? endpoint->mac : request->mac_address;
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:I, s:o}", "IPAMConfig", ipam, "Links",
                     shape_list_or_null(&request->links), "Aliases", shape_list_or_null(&request->aliases), "MacAddress", shape_text(mac), "DriverOpts", options, "GwPriority",
                     (json_int_t)request->gw_priority, "NetworkID", shape_text(endpoint->network_id), "EndpointID",
                     shape_text(endpoint->endpoint_id), "Gateway", shape_text(endpoint->gateway), "IPAddress",
                     shape_text(endpoint->address), "IPPrefixLen", (json_int_t)endpoint->prefix, "IPv6Gateway", shape_text(endpoint->gateway6),
                     "GlobalIPv6Address", shape_text(endpoint->address6), "GlobalIPv6PrefixLen", (json_int_t)endpoint->prefix6,
                     "DNSNames", shape_list_or_null(&endpoint->dns_names));
}

json_t *shape_networks(const struct engine_container *container)
{
    json_t *networks = json_object();
    for (size_t i = 0; i < container->endpoint_len; i++)
        json_object_set_new(networks, container->endpoints[i].network, shape_endpoint(&container->endpoints[i]));
    return networks;
}

// {"80/tcp": [{"HostIp", "HostPort"}], "81/tcp": null}; nothing while it does not run.
static json_t *shape_port_map(const struct engine_container *container)
{
    json_t *map = json_object();
    for (size_t i = 0; container->running && !container->restarting && i < container->port_len; i++) {
        const struct engine_port *port = &container->ports[i];
        char key[40], number[24];
        snprintf(key, sizeof(key), "%lld/%s", (long long)port->private_port, port->proto);
        json_t *list = json_object_get(map, key);
        if (!port->ip) {
            if (!list)
                json_object_set_new(map, key, json_null());
            continue;
        }
        if (!json_is_array(list)) {
            json_object_set_new(map, key, json_array());
            list = json_object_get(map, key);
        }
        snprintf(number, sizeof(number), "%lld", (long long)port->public_port);
        if (port->public_port == 0) // of a routed network: open at the container's own address
            number[0] = 0;
        json_array_append_new(list, json_pack("{s:s, s:s}", "HostIp", port->ip, "HostPort", number));
    }
    return map;
}

static json_t *shape_port_list(const struct engine_container *container)
{
    json_t *list = json_array();
    for (size_t i = 0; container->running && !container->restarting && i < container->port_len; i++) {
        const struct engine_port *port = &container->ports[i];
        json_t *row = json_object();
        if (port->ip)
            json_object_set_new(row, "IP", json_string(port->ip));
        json_object_set_new(row, "PrivatePort", json_integer(port->private_port));
        if (port->ip && port->public_port)
            json_object_set_new(row, "PublicPort", json_integer(port->public_port));
        json_object_set_new(row, "Type", json_string(port->proto));
        json_array_append_new(list, row);
    }
    return list;
}

// The members beside Networks say the same of the default bridge: what clients read before there were several networks.
static json_t *shape_network_settings(const struct call *call, const struct engine_container *container)
{
    static const struct engine_endpoint none;
    const struct engine_endpoint *bridge = &none;
    for (size_t i = 0; i < container->endpoint_len; i++)
        if (str_eq(container->endpoints[i].network, "bridge"))
            bridge = &container->endpoints[i];
    json_t *settings =
        json_pack("{s:s, s:o, s:o, s:o, s:b, s:s, s:i, s:n, s:n, s:o, s:o, s:o, s:I, s:o, s:I, s:o, s:o}", "Bridge", "",
                  "SandboxID", shape_text(container->sandbox_id), "SandboxKey", shape_text(container->sandbox_key), "Ports", shape_port_map(container),
                  "HairpinMode", 0, "LinkLocalIPv6Address", "", "LinkLocalIPv6PrefixLen", 0, "SecondaryIPAddresses",
                  "SecondaryIPv6Addresses", "EndpointID", shape_text(bridge->endpoint_id), "Gateway",
                  shape_text(bridge->gateway), "GlobalIPv6Address", shape_text(bridge->address6), "GlobalIPv6PrefixLen", (json_int_t)bridge->prefix6,
                  "IPAddress", shape_text(bridge->address), "IPPrefixLen", (json_int_t)bridge->prefix, "IPv6Gateway", shape_text(bridge->gateway6),
                  "MacAddress", shape_text(bridge->mac));
    json_t *networks = shape_networks(container);
    networks_age(call->version, container, networks);
    json_object_set_new(settings, "Networks", networks);
    return settings;
}

// ---- inspect --------------------------------------------------------------------------------------------------------

static json_t *shape_health(const struct engine_health *health)
{
    json_t *log = json_array();
    for (size_t i = 0; i < health->log_len; i++)
        json_array_append_new(log, json_pack("{s:o, s:o, s:I, s:o}", "Start", shape_time(health->log[i].start_ns), "End",
                                             shape_time(health->log[i].end_ns), "ExitCode", (json_int_t)health->log[i].exit_code,
                                             "Output", shape_text(health->log[i].output)));
    return json_pack("{s:s, s:I, s:o}", "Status", health->status, "FailingStreak", (json_int_t)health->failing_streak, "Log", log);
}

static json_t *shape_state(const struct engine_container *container)
{
    json_t *object = json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:I, s:I, s:o, s:o, s:o}", "Status", container->status, "Running",
                     container->running, "Paused", container->paused, "Restarting", container->restarting, "OOMKilled",
                     container->oom_killed, "Dead", str_eq(container->status, "dead"), "Pid",
                     (json_int_t)container->pid, "ExitCode", (json_int_t)container->exit_code, "Error",
                     shape_text(container->error), "StartedAt", shape_time(container->started_ns), "FinishedAt",
                     shape_time(container->finished_ns));
    if (container->health)
        json_object_set_new(object, "Health", shape_health(container->health));
    return object;
}

static json_t *shape_mounts(const struct engine_container *container)
{
    json_t *list = json_array();
    for (size_t i = 0; i < container->mount_len; i++) {
        const struct engine_mount *mount = &container->mounts[i];
        json_t *row = json_pack("{s:o}", "Type", shape_text(mount->type));
        if (!str_empty(mount->name))
            json_object_set_new(row, "Name", shape_text(mount->name));
        json_object_set_new(row, "Source", shape_text(mount->source));
        json_object_set_new(row, "Destination", shape_text(mount->destination));
        if (!str_empty(mount->driver))
            json_object_set_new(row, "Driver", shape_text(mount->driver));
        json_object_set_new(row, "Mode", shape_text(mount->mode));
        json_object_set_new(row, "RW", json_boolean(mount->rw));
        json_object_set_new(row, "Propagation", shape_text(mount->propagation));
        json_array_append_new(list, row);
    }
    return list;
}

// Of the network of its mode, as older clients knew it.
static const char *asked_mac(const struct engine_container *container)
{
    const char *mode = str_empty(container->network) || str_eq(container->network, "default") ? "bridge" : container->network;
    for (size_t i = 0; i < container->endpoint_len; i++)
        if (str_eq(container->endpoints[i].network, mode) && container->endpoints[i].request)
            return container->endpoints[i].request->mac_address;
    return NULL;
}

static json_t *shape_config(const struct engine_container *container)
{
    const struct container_config *config = container->config;
    json_t *object =
        json_pack("{s:o, s:o, s:b, s:b, s:b, s:b, s:b, s:b, s:o}", "Hostname", shape_text(config->hostname),
                  "Domainname", shape_text(config->domainname), "AttachStdin", config->attach_stdin, "AttachStdout",
                  config->attach_stdout, "AttachStderr", config->attach_stderr, "Tty", config->tty, "OpenStdin",
                  config->open_stdin, "StdinOnce", config->stdin_once, "Image", shape_text(container->image_name));
    shape_process(object, &config->process);
    json_object_set_new(object, "Labels", shape_map(&config->process.labels));
    if (!str_empty(asked_mac(container)))
        json_object_set_new(object, "MacAddress", shape_text(asked_mac(container)));
    if (config->stop_timeout >= 0)
        json_object_set_new(object, "StopTimeout", json_integer(config->stop_timeout));
    return object;
}

static json_t *shape_graph_driver(const struct engine_container *container)
{
    const struct kv folders[] = { { (char *)"LowerDir", container->lower_dirs },
                                  { (char *)"UpperDir", container->upper_dir },
                                  { (char *)"WorkDir", container->work_dir },
                                  { (char *)"dir", container->root_dir } };
    json_t *data = json_object();
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        if (folders[i].value)
            json_object_set_new(data, folders[i].key, shape_text(folders[i].value));
    return json_pack("{s:o, s:o}", "Data", data, "Name", shape_text(container->driver));
}

// Berth's own member, of guests alone.
static json_t *shape_machine(const struct engine_machine *machine)
{
    return json_pack("{s:o, s:o, s:I, s:I, s:I}", "Accel", shape_text(machine->accel), "Kernel", shape_text(machine->kernel),
                     "VCPUs", (json_int_t)machine->vcpus, "Memory", (json_int_t)machine->memory_size, "DiskAllocated",
                     (json_int_t)machine->disk_allocated);
}

json_t *shape_container(const struct call *call, const struct engine_container *container)
{
    json_t *object = json_pack("{s:s, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o}", "Id", container->id, "Created",
                               shape_time(container->created_ns), "Path", shape_text(container->path), "Args",
                               shape_texts(&container->args), "State", shape_state(container), "Image",
                               container->image_id, "ResolvConfPath", shape_text(container->resolv_conf_path),
                               "HostnamePath", shape_text(container->hostname_path), "HostsPath",
                               shape_text(container->hosts_path), "LogPath", shape_text(container->log_path));
    json_t *rest =
        json_pack("{s:o, s:I, s:o, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "Name",
                  json_sprintf("/%s", container->name), "RestartCount", (json_int_t)container->restart_count, "Driver",
                  shape_text(container->driver), "Platform", "linux", "MountLabel", "", "ProcessLabel", "",
                  "AppArmorProfile", "", "ExecIDs", shape_texts_or_null(&container->exec_ids), "HostConfig",
                  shape_host_config(container->body_text, &container->config->host_config), "GraphDriver",
                  shape_graph_driver(container), "Mounts", shape_mounts(container), "Config", shape_config(container),
                  "NetworkSettings", shape_network_settings(call, container));
    json_object_update(object, rest);
    json_decref(rest);
    if (container->machine) {
        json_object_set_new(object, "Machine", shape_machine(container->machine));
        shape_wall(json_object_get(object, "HostConfig"));
    }
    return object;
}

// ---- ps -------------------------------------------------------------------------------------------------------------

static json_t *shape_command(const struct engine_container *container)
{
    _cleanup_buf_ struct buf line = BUF_INIT(1 << 20);
    buf_adds(&line, container->path ? container->path : "");
    for (size_t i = 0; i < container->args.len; i++) {
        const char *quote = strchr(container->args.items[i], ' ') ? "'" : "";
        buf_addf(&line, " %s%s%s", quote, container->args.items[i], quote);
    }
    return shape_text(buf_text(&line));
}

json_t *shape_container_row(const struct engine_container *container, const char *image)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    json_t *row =
        json_pack("{s:s, s:[o], s:o, s:s, s:o, s:I, s:o, s:o, s:s, s:s}", "Id", container->id, "Names",
                  json_sprintf("/%s", container->name), "Image", shape_text(image), "ImageID", container->image_id,
                  "Command", shape_command(container), "Created", (json_int_t)(container->created_ns / NS_PER_S),
                  "Ports", shape_port_list(container), "Labels", shape_map(&container->labels), "State",
                  container->status, "Status", status_words(container, clock_wall_ns(), &arena));
    for (size_t i = 0; i < container->link_names.len; i++)
        json_array_append_new(json_object_get(row, "Names"), shape_text(container->link_names.items[i]));
    json_object_set_new(row, "HostConfig", json_pack("{s:o}", "NetworkMode", shape_text(container->network)));
    json_object_set_new(row, "NetworkSettings", json_pack("{s:o}", "Networks", shape_networks(container)));
    json_object_set_new(row, "Mounts", shape_mounts(container));
    return row;
}
