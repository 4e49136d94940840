// Networks: the built-in ones, and those that clients make. A client's has two records of one id: what the client said, here, and the
// bridge with its addresses, in the net room. Ours is written first and goes last; one without the other is what a crash left, and
// goes at start.
#include <arpa/inet.h>

#include "networks.h"

// ---- the built-in ones ----------------------------------------------------------------------------------------------

static const struct {
    const char *name, *driver;
} builtins[] = { { "bridge", "bridge" }, { "host", "host" }, { "none", "null" } }; // the first one may be switched off

static const char *const predefined[] = { "bridge", "none", "host", "default" };

static bool is_predefined(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(predefined); i++)
        if (str_eq(name, predefined[i]))
            return true;
    return false;
}

// 64 hex digits that stay the same for a daemon: its id and the name, hashed (FNV-1a) and stretched (SplitMix64). An
// identifier, no secret.
static void builtin_id(const struct engine *engine, const char *name, char out[65])
{
    uint64_t state = UINT64_C(14695981039346656037);
    _cleanup_free_ char *text = mem_printf("%s/%s", engine->id, name);
    for (const char *c = text; *c; c++)
        state = (state ^ (unsigned char)*c) * UINT64_C(1099511628211);
    for (size_t block = 0; block < 4; block++) {
        uint64_t mixed = state += UINT64_C(0x9e3779b97f4a7c15);
        mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
        snprintf(out + block * 16, 17, "%016llx", (unsigned long long)(mixed ^ (mixed >> 31)));
    }
}

const char *network_net_id(const struct engine_network *network)
{
    return network->builtin ? "" : network->id;
}

bool network_has_addresses(const struct engine_network *network)
{
    return !str_eq(network->driver, "host") && !str_eq(network->driver, "null");
}

static void fill_bridge(const struct engine *engine, struct arena *arena, struct engine_network *network)
{
    struct net_bridge_info bridge = { .name = "" };
    if (!network_has_addresses(network) || !engine->net)
        return;
    if (network->builtin)
        net_bridge_info(engine->net, &bridge);
    else
        net_network_info(engine->net, network->id, &bridge);
    network->link = arena_strdup(arena, bridge.name);
    network->subnet = arena_strdup(arena, bridge.subnet);
    network->gateway = arena_strdup(arena, bridge.gateway);
    network->range = arena_strdup(arena, bridge.range);
    network->route = arena_strdup(arena, bridge.route);
    network->options = network->builtin ? &engine->bridge_options : NULL;
    network->subnet6 = arena_strdup(arena, bridge.subnet6);
    network->gateway6 = arena_strdup(arena, bridge.gateway6);
    network->range6 = arena_strdup(arena, bridge.range6);
    network->route6 = arena_strdup(arena, bridge.route6);
}

static void fill_builtin(const struct engine *engine, size_t index, struct arena *arena, struct engine_network *out)
{
    *out = (struct engine_network){ .name = (char *)builtins[index].name, .driver = builtins[index].driver, .builtin = true,
                                    .created_ns = engine->created_ns };
    builtin_id(engine, out->name, out->id);
    fill_bridge(engine, arena, out);
}

// ---- records --------------------------------------------------------------------------------------------------------

struct finding {
    struct arena *arena;
    struct engine_network *items;
    size_t len, capacity;
};

static struct engine_network *add(struct finding *finding)
{
    if (finding->len == finding->capacity) {
        struct engine_network *grown = arena_alloc(finding->arena, (finding->capacity = finding->capacity * 2 + 4) * sizeof(*grown));
        if (finding->len)
            memcpy(grown, finding->items, finding->len * sizeof(*grown));
        finding->items = grown;
    }
    return &finding->items[finding->len++];
}

static const char *driver_of(const struct network_request *request)
{
    return str_eq(request->driver, "macvlan") ? "macvlan" : str_eq(request->driver, "ipvlan") ? "ipvlan" : "bridge";
}

// Which kinds of addresses it has: what the body's own fields say counts before options, which may be the operator's.
static int read_kinds(json_t *body, struct network_request *request, struct err *err)
{
    bool ipv4 = true, ipv6 = request->enable_ipv6;
    if (json_is_boolean(request->enable_ipv4_raw))
        ipv4 = json_is_true(request->enable_ipv4_raw);
    else if (network_flag(&request->options, IPV4_OPTION, true, &ipv4, err) < 0)
        return -1;
    if (!json_is_boolean(config_member(body, "EnableIPv6")) && network_flag(&request->options, IPV6_OPTION, ipv6, &ipv6, err) < 0)
        return -1;
    request->no_ipv4 = !ipv4;
    request->enable_ipv6 = ipv6;
    return 0;
}

static int take_row(void *context, const struct store_row *row, struct err *err)
{
    struct finding *finding = context;
    struct engine_network *network = add(finding);
    struct network_request *request = arena_alloc(finding->arena, sizeof(*request));
    const char *body = store_text(row, 3);
    *network = (struct engine_network){ .name = arena_strdup(finding->arena, store_text(row, 1)), .driver = "bridge",
                                        .created_ns = store_int(row, 2), .request = request };
    snprintf(network->id, sizeof(network->id), "%s", store_text(row, 0));
    _cleanup_json_ json_t *document = NULL;
    if (json_parse(body, strlen(body), &document, err) < 0 ||
        json_decode(&network_request_table, document, request, finding->arena, NULL, err) < 0)
        return err_wrap(err, "network %s", network->name);
    int result = read_kinds(document, request, err);
    request->enable_ipv4_raw = NULL; // would borrow from the document
    network->driver = driver_of(request);
    return result;
}

#define SELECT "SELECT id, name, created_ns, body FROM networks "

int engine_networks(struct engine *engine, struct arena *arena, struct engine_network **out, size_t *len, struct err *err)
{
    struct finding finding = { .arena = arena };
    for (size_t i = engine->no_bridge; i < ARRAY_LEN(builtins); i++)
        fill_builtin(engine, i, arena, add(&finding));
    if (store_query(engine->store, err, take_row, &finding, SELECT "ORDER BY created_ns", "") < 0)
        return -1;
    for (size_t i = ARRAY_LEN(builtins) - engine->no_bridge; i < finding.len; i++)
        fill_bridge(engine, arena, &finding.items[i]);
    *out = finding.items;
    *len = finding.len;
    return 0;
}

// By the whole id, then by the name, without a look at all the others: each start of a container asks. 1 when found.
static int find_exactly(struct engine *engine, const char *ref, struct arena *arena, struct engine_network *out, struct err *err)
{
    struct finding finding = { .arena = arena };
    for (size_t i = engine->no_bridge; i < ARRAY_LEN(builtins); i++) {
        char id[65];
        builtin_id(engine, builtins[i].name, id);
        if (!str_eq(ref, builtins[i].name) && !str_eq(ref, id))
            continue;
        fill_builtin(engine, i, arena, out);
        return 1;
    }
    if (store_query(engine->store, err, take_row, &finding, SELECT "WHERE id = ? OR name = ? ORDER BY id = ? DESC", "ttt", ref, ref, ref) < 0)
        return -1;
    if (finding.len == 0)
        return 0;
    *out = finding.items[0];
    fill_bridge(engine, arena, out);
    return 1;
}

int engine_network_find(struct engine *engine, const char *ref, struct arena *arena, struct engine_network *out, struct err *err)
{
    struct engine_network *all;
    size_t len, matches = 0;
    int exactly = find_exactly(engine, ref, arena, out, err);
    if (exactly != 0)
        return exactly < 0 ? -1 : 0;
    if (engine_networks(engine, arena, &all, &len, err) < 0)
        return -1;
    for (size_t i = 0; i < len && !str_empty(ref); i++)
        if (str_starts(all[i].id, ref) && ++matches == 1)
            *out = all[i];
    if (matches > 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "network %.200s is ambiguous (%zu matches found based on ID prefix)", ref, matches);
    return matches ? 0 : err_set(err, ERR_NOT_FOUND, "network %.200s not found", ref);
}

static int insert(struct engine *engine, const struct engine_network *network, json_t *body, struct err *err)
{
    _cleanup_free_ char *text = json_text(body);
    if (store_begin(engine->store, err) < 0)
        return -1;
    if (store_exec(engine->store, err, "INSERT INTO networks(id, name, created_ns, body) VALUES(?, ?, ?, ?)", "ttit", network->id,
                   network->name, network->created_ns, text) < 0) {
        store_rollback(engine->store);
        return -1;
    }
    return store_commit(engine->store, err);
}

static int delete(struct engine *engine, const char *id, struct err *err)
{
    if (store_begin_removal(engine->store, err) < 0)
        return -1;
    if (store_exec(engine->store, err, "DELETE FROM networks WHERE id = ?", "t", id) < 0) {
        store_rollback(engine->store);
        return -1;
    }
    return store_commit(engine->store, err);
}

// ---- what is asked for ----------------------------------------------------------------------------------------------

static int check_driver(const char *driver, struct err *err)
{
    if (str_empty(driver) || str_eq(driver, "bridge") || str_eq(driver, "default"))
        return 0;
    if (str_eq(driver, "host") || str_eq(driver, "null"))
        return err_set(err, ERR_PERMISSION_DENIED, "only one instance of \"%s\" network is allowed", driver);
    if (str_eq(driver, "overlay"))
        return err_set(err, ERR_PERMISSION_DENIED, "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to "
                                                   "connect this node to swarm and try again.");
    if (str_eq(driver, "macvlan") || str_eq(driver, "ipvlan"))
        return 0;
    return err_set(err, ERR_NOT_FOUND, "plugin \"%.100s\" not found", driver);
}

static int check_request(const struct network_request *request, struct err *err)
{
    enum { NAME_MAX_LEN = 255 };
    const char *name = request->name ? request->name : "";
    if (is_predefined(name))
        return err_set(err, ERR_PERMISSION_DENIED, "operation is not permitted on predefined %s network", name);
    if (name[strspn(name, " \t\n")] == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid name: name is empty");
    if (strlen(name) > NAME_MAX_LEN || strpbrk(name, "\n\r/"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid name: \"%.300s\"", name);
    if (!str_empty(request->scope) && !str_eq(request->scope, "local"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "Scope: %.100s: networks are of this host", request->scope);
    return check_driver(request->driver, err);
}

// ---- the verbs ------------------------------------------------------------------------------------------------------

static void publish(struct engine *engine, const char *action, const struct engine_network *network)
{
    event_publish(engine, "network", action, network->id, "name", network->name, "type", network->driver, NULL);
}

static int make(struct engine *engine, const struct network_request *request, json_t *body, struct arena *arena,
                struct engine_network *out, struct err *err)
{
    struct engine_network same;
    struct net_bridge_info bridge;
    struct net_network wanted = { .id = out->id, .internal = request->internal, .no_ipv4 = request->no_ipv4, .ipv6 = request->enable_ipv6 };
    if (network_read_options(out, &request->options, arena, &wanted, err) < 0 || network_read_ipam(request, arena, &wanted, err) < 0)
        return -1;
    if (engine_network_find(engine, out->name, arena, &same, NULL) == 0 && str_eq(same.name, out->name))
        return err_set(err, ERR_CONFLICT, "network with name %s already exists", out->name);
    if (insert(engine, out, body, err) < 0)
        return -1;
    if (net_network_create(engine->net, &wanted, &bridge, err) == 0)
        return 0;
    delete(engine, out->id, NULL);
    return -1;
}

int engine_network_create(struct engine *engine, const struct network_request *request, json_t *body, char id[65], struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct network_request wanted = *request;
    if (network_defaults_apply(engine, body, &arena, &wanted, err) < 0 || check_request(&wanted, err) < 0 || read_kinds(body, &wanted, err) < 0)
        return -1;
    struct engine_network network = { .name = wanted.name, .driver = driver_of(&wanted), .created_ns = clock_wall_ns() };
    random_hex(network.id, 64);
    mutex_lock(&engine->network_lock);
    int result = make(engine, &wanted, body, &arena, &network, err);
    mutex_unlock(&engine->network_lock);
    if (result < 0)
        return -1;
    publish(engine, "create", &network);
    memcpy(id, network.id, sizeof(network.id));
    return 0;
}

// The containers that are on it, as the refusal of a removal names them; "" when there are none.
static char *active_endpoints(struct engine *engine, const char *id)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64 << 10);
    mutex_lock(&engine->list_lock);
    for (struct container *c = engine->containers; c; c = c->next) {
        mutex_lock(&c->lock);
        for (const struct endpoint *endpoint = c->endpoints; endpoint; endpoint = endpoint->next)
            if (endpoint->up && str_eq(endpoint->network_id, id))
                buf_addf(&text, "%sname:\"%s\" id:\"%.12s\"", text.size ? ", " : "", c->name, endpoint->net.endpoint_id);
        mutex_unlock(&c->lock);
    }
    mutex_unlock(&engine->list_lock);
    return mem_strdup(buf_text(&text));
}

static int unmake(struct engine *engine, const struct engine_network *network, struct err *err)
{
    struct err failed = { 0 };
    if (net_network_remove(engine->net, network->id, &failed) == 0)
        return delete(engine, network->id, err);
    if (failed.class != ERR_CONFLICT)
        return err_set(err, failed.class, "error while removing network: %s", failed.message);
    _cleanup_free_ char *endpoints = active_endpoints(engine, network->id);
    return err_set(err, ERR_PERMISSION_DENIED, "error while removing network: network %s has active endpoints (%s)", network->name,
                   endpoints);
}

int engine_network_remove(struct engine *engine, const char *ref, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct engine_network network;
    mutex_lock(&engine->network_lock);
    int result = engine_network_find(engine, ref, &arena, &network, err);
    if (result == 0 && network.builtin)
        result = err_set(err, ERR_PERMISSION_DENIED, "%s is a pre-defined network and cannot be removed", network.name);
    if (result == 0)
        result = unmake(engine, &network, err);
    mutex_unlock(&engine->network_lock);
    if (result == 0)
        publish(engine, "destroy", &network);
    return result;
}

bool engine_network_in_use(struct engine *engine, const struct engine_network *network)
{
    _cleanup_free_ char *endpoints = active_endpoints(engine, network->id);
    return endpoints[0] != 0;
}

struct names_of_networks {
    const struct engine_network *items;
    size_t len;
};

static bool is_recorded(void *context, const char *id)
{
    const struct names_of_networks *all = context;
    for (size_t i = 0; i < all->len; i++)
        if (str_eq(all->items[i].id, id))
            return true;
    return false;
}

void networks_settle(struct engine *engine)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct engine_network *all;
    size_t len;
    if (engine_networks(engine, &arena, &all, &len, NULL) < 0)
        return;
    for (size_t i = 0; i < len; i++)
        if (!all[i].builtin && str_empty(all[i].subnet) && str_empty(all[i].subnet6)) // its making was cut off
            delete(engine, all[i].id, NULL);
    struct names_of_networks recorded = { all, len };
    struct err err = { 0 };
    if (net_sweep_networks(engine->net, is_recorded, &recorded, &err) < 0)
        log_warn("networks without a name: %s", err.message);
}
