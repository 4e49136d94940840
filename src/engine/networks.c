// The built-in networks: what they are, and who comes and goes.
#include "engine_private.h"

static const char *const names[] = { "bridge", "none" };

static const char *driver_of(const char *name)
{
    return str_eq(name, "none") ? "null" : "bridge";
}

// 64 hex digits that stay the same for a daemon: its id and the name, hashed (FNV-1a) and stretched (SplitMix64). An
// identifier, no secret.
void engine_network_id(const struct engine *engine, const char *name, char out[65])
{
    uint64_t state = UINT64_C(14695981039346656037);
    _cleanup_free_ char *text = mem_printf("%s/%s", engine->id, name ? name : "");
    for (const char *c = text; *c; c++)
        state = (state ^ (unsigned char)*c) * UINT64_C(1099511628211);
    for (size_t block = 0; block < 4; block++) {
        uint64_t mixed = state += UINT64_C(0x9e3779b97f4a7c15);
        mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
        snprintf(out + block * 16, 17, "%016llx", (unsigned long long)(mixed ^ (mixed >> 31)));
    }
}

void engine_networks(const struct engine *engine, struct arena *arena, struct engine_network **out, size_t *len)
{
    struct net_bridge_info bridge;
    *out = arena_alloc(arena, ARRAY_LEN(names) * sizeof(**out));
    *len = ARRAY_LEN(names);
    net_bridge_info(engine->net, &bridge);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct engine_network *network = &(*out)[i];
        *network = (struct engine_network){ .name = names[i],
                                            .driver = driver_of(names[i]),
                                            .created_ns = engine->created_ns };
        engine_network_id(engine, names[i], network->id);
        if (str_eq(network->driver, "null"))
            continue;
        network->link = arena_strdup(arena, bridge.name);
        network->subnet = arena_strdup(arena, bridge.subnet);
        network->gateway = arena_strdup(arena, bridge.gateway);
    }
}

static void publish(struct container *container, const char *action)
{
    const char *name = container->config.host_config.network_mode;
    char id[65];
    engine_network_id(container->engine, name, id);
    event_publish(container->engine, "network", action, id, "container", container->id, "name", name, "type",
                  driver_of(name), NULL);
}

void network_connected(struct container *container)
{
    mutex_lock(&container->lock);
    container->connected = true;
    mutex_unlock(&container->lock);
    publish(container, "connect");
}

void network_disconnected(struct container *container)
{
    mutex_lock(&container->lock);
    bool was = container->connected;
    container->connected = false;
    mutex_unlock(&container->lock);
    if (was)
        publish(container, "disconnect");
}
