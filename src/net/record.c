// What must outlive the daemon: the chosen subnet, what teardown has to put back, and who has which address and ports.
#include <arpa/inet.h>
#include <stdio.h>

#include "net_private.h"

// A link number is never given twice: the veth of a dead container lives on for some 30 ms, until the kernel has taken its
// namespace apart, and its name with it.
static const char *const migrations[] = {
    "CREATE TABLE net_setting(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE net_endpoint(link_index INTEGER PRIMARY KEY AUTOINCREMENT, container_id TEXT NOT NULL UNIQUE,"
    " address INTEGER NOT NULL UNIQUE)",
    "CREATE TABLE net_port(container_id TEXT NOT NULL, proto INTEGER NOT NULL, host_address TEXT NOT NULL,"
    " host_port INTEGER NOT NULL, target_port INTEGER NOT NULL)",
    "CREATE INDEX net_port_container ON net_port(container_id)",
    "CREATE INDEX net_port_host ON net_port(host_port)",
    "CREATE TABLE net_network(id TEXT PRIMARY KEY, link TEXT NOT NULL UNIQUE, gateway INTEGER NOT NULL, prefix INTEGER NOT NULL,"
    " range_first INTEGER NOT NULL, range_prefix INTEGER NOT NULL, flags INTEGER NOT NULL, mtu INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE net_reserved(network_id TEXT NOT NULL, address INTEGER NOT NULL, PRIMARY KEY(network_id, address)) WITHOUT ROWID;"
    "CREATE TABLE net_place(link_index INTEGER PRIMARY KEY AUTOINCREMENT, network_id TEXT NOT NULL, container_id TEXT NOT NULL,"
    " endpoint_id TEXT NOT NULL, address INTEGER NOT NULL, mac TEXT NOT NULL, interface TEXT NOT NULL,"
    " UNIQUE(network_id, container_id), UNIQUE(network_id, address));"
    "INSERT INTO net_place SELECT link_index, '', container_id, container_id, address, '', 'eth0' FROM net_endpoint;"
    "DROP TABLE net_endpoint;"
    "ALTER TABLE net_place RENAME TO net_endpoint;"
    "ALTER TABLE net_port ADD COLUMN network_id TEXT DEFAULT ''",
    "ALTER TABLE net_network ADD COLUMN subnet6 TEXT NOT NULL DEFAULT '';" // "fd00::1/64": the bridge's address
    "ALTER TABLE net_network ADD COLUMN range6 TEXT NOT NULL DEFAULT '';" // "fd00::8:0/112"
    "ALTER TABLE net_endpoint ADD COLUMN address6 TEXT NOT NULL DEFAULT '';"
    "CREATE UNIQUE INDEX net_endpoint_address6 ON net_endpoint(network_id, address6) WHERE address6 != '';"
    "CREATE TABLE net_reserved6(network_id TEXT NOT NULL, address TEXT NOT NULL, PRIMARY KEY(network_id, address)) WITHOUT ROWID",
    "ALTER TABLE net_network ADD COLUMN parent TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE net_network ADD COLUMN parent_mode TEXT NOT NULL DEFAULT ''",
    // An address of IPv4 may be 0 now: there is none. The number of the last link is kept.
    "CREATE TABLE net_place(link_index INTEGER PRIMARY KEY AUTOINCREMENT, network_id TEXT NOT NULL, container_id TEXT NOT NULL,"
    " endpoint_id TEXT NOT NULL, address INTEGER NOT NULL, mac TEXT NOT NULL, interface TEXT NOT NULL, address6 TEXT NOT NULL DEFAULT '',"
    " UNIQUE(network_id, container_id));"
    "INSERT INTO net_place SELECT link_index, network_id, container_id, endpoint_id, address, mac, interface, address6 FROM net_endpoint;"
    "DELETE FROM sqlite_sequence WHERE name = 'net_place';"
    "INSERT INTO sqlite_sequence(name, seq) SELECT 'net_place', seq FROM sqlite_sequence WHERE name = 'net_endpoint';"
    "DROP TABLE net_endpoint;"
    "ALTER TABLE net_place RENAME TO net_endpoint;"
    "CREATE UNIQUE INDEX net_endpoint_address ON net_endpoint(network_id, address) WHERE address != 0;"
    "CREATE UNIQUE INDEX net_endpoint_address6 ON net_endpoint(network_id, address6) WHERE address6 != ''",
    "ALTER TABLE net_network ADD COLUMN trusted TEXT NOT NULL DEFAULT ''",
};

int record_migrate(struct store *store, struct err *err)
{
    return store_migrate(store, "net", migrations, ARRAY_LEN(migrations), err);
}

// Commits what went well and takes back the rest; `result` goes through.
static int finish(struct store *store, int result, struct err *err)
{
    if (result < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err) < 0 ? -1 : result;
}

// ---- settings -------------------------------------------------------------------------------------------------------

static int on_text(void *context, const struct store_row *row, struct err *err)
{
    char **text = context;
    free(*text);
    *text = mem_strdup(store_text(row, 0));
    return 0;
}

int record_setting(struct store *store, const char *key, char **out, struct err *err)
{
    *out = NULL;
    return store_query(store, err, on_text, out, "SELECT value FROM net_setting WHERE key = ?", "t", key);
}

int record_set(struct store *store, const char *key, const char *value, struct err *err)
{
    if (store_begin(store, err) < 0)
        return -1;
    int result = store_exec(store, err, "DELETE FROM net_setting WHERE key = ?", "t", key);
    if (result >= 0 && value)
        result = store_exec(store, err, "INSERT INTO net_setting(key, value) VALUES(?, ?)", "tt", key, value);
    return finish(store, result, err);
}

// ---- endpoints ------------------------------------------------------------------------------------------------------

static int on_number(void *context, const struct store_row *row, struct err *err)
{
    *(int64_t *)context = store_int(row, 0);
    return 0;
}

int record_endpoint_count(struct store *store, const char *network_id, struct err *err)
{
    int64_t count = 0;
    if (store_query(store, err, on_number, &count, "SELECT COUNT(*) FROM net_endpoint WHERE network_id = ?", "t", network_id) < 0)
        return -1;
    return (int)count;
}

void record_endpoints_done(struct record_endpoints *endpoints)
{
    free(endpoints->items);
    *endpoints = (struct record_endpoints){ 0 };
}

// The table of an older version had no addresses of cards: those were made of the IP address.
static int on_endpoint(void *context, const struct store_row *row, struct err *err)
{
    struct record_endpoints *list = context;
    list->items = mem_grow(list->items, (list->len + 1) * sizeof(*list->items));
    struct record_endpoint *endpoint = &list->items[list->len++];
    *endpoint = (struct record_endpoint){ .link_index = store_int(row, 0), .address = (uint32_t)store_int(row, 4) };
    snprintf(endpoint->network_id, sizeof(endpoint->network_id), "%s", store_text(row, 1));
    snprintf(endpoint->container_id, sizeof(endpoint->container_id), "%s", store_text(row, 2));
    snprintf(endpoint->endpoint_id, sizeof(endpoint->endpoint_id), "%s", store_text(row, 3));
    snprintf(endpoint->interface, sizeof(endpoint->interface), "%s", store_text(row, 6));
    address6_parse(store_text(row, 7), &endpoint->address6);
    if (!mac_parse(store_text(row, 5), endpoint->mac))
        address_mac(endpoint->address, endpoint->mac);
    return 0;
}

int record_endpoints(struct store *store, const char *network_id, const char *container_id, struct record_endpoints *out,
                     struct err *err)
{
    *out = (struct record_endpoints){ 0 };
    int result = store_query(store, err, on_endpoint, out,
                             "SELECT link_index, network_id, container_id, endpoint_id, address, mac, interface, address6 FROM net_endpoint"
                             " WHERE (?1 IS NULL OR network_id = ?1) AND (?2 IS NULL OR container_id = ?2) ORDER BY link_index",
                             "tt", network_id, container_id);
    if (result < 0)
        record_endpoints_done(out);
    return result;
}

struct addresses {
    uint32_t *items;
    size_t len, capacity;
};

static int on_address(void *context, const struct store_row *row, struct err *err)
{
    struct addresses *list = context;
    if (list->len == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 64;
        list->items = mem_grow(list->items, list->capacity * sizeof(*list->items));
    }
    list->items[list->len++] = (uint32_t)store_int(row, 0);
    return 0;
}

static int pick_address(struct store *store, const struct bridge *bridge, uint32_t *out, struct err *err)
{
    struct addresses taken = { 0 };
    int result = store_query(store, err, on_address, &taken,
                             "SELECT address FROM net_endpoint WHERE network_id = ?1 UNION"
                             " SELECT address FROM net_reserved WHERE network_id = ?1 ORDER BY 1", "t", bridge->id);
    if (result >= 0)
        result = address_lowest_free(&bridge->subnet, taken.items, taken.len, out, err);
    free(taken.items);
    return result;
}

// One that somebody asked for. A reserved one is had by nobody.
static int check_address(struct store *store, const struct bridge *bridge, uint32_t address, struct err *err)
{
    int64_t count = 0;
    uint32_t host = address & ~subnet_mask(bridge->subnet.prefix);
    char text[INET_ADDRSTRLEN];
    address_text(address, text);
    if (!bridge->subnet.gateway || !subnet_contains(&bridge->subnet, address) || host == 0 || host == ~subnet_mask(bridge->subnet.prefix))
        return err_set(err, ERR_INVALID_ARGUMENT, "no configured subnet or ip-range contain the IP address %s", text);
    if (store_query(store, err, on_number, &count, "SELECT (SELECT COUNT(*) FROM net_endpoint WHERE network_id = ?1 AND address = ?2) +"
                    " (SELECT COUNT(*) FROM net_reserved WHERE network_id = ?1 AND address = ?2)", "ti", bridge->id, (int64_t)address) < 0)
        return -1;
    return count > 0 || address == bridge->subnet.gateway || address == bridge->subnet.route ? err_set(err, ERR_PERMISSION_DENIED, "Address already in use") : 0;
}

struct addresses6 {
    number128 *items;
    size_t len, capacity;
};

static int on_address6(void *context, const struct store_row *row, struct err *err)
{
    struct addresses6 *list = context;
    if (list->len == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 64;
        list->items = mem_grow(list->items, list->capacity * sizeof(*list->items));
    }
    list->len += address6_parse(store_text(row, 0), &list->items[list->len]);
    return 0;
}

static int pick_address6(struct store *store, const struct bridge *bridge, number128 *out, struct err *err)
{
    struct addresses6 taken = { 0 };
    int result = store_query(store, err, on_address6, &taken,
                             "SELECT address6 FROM net_endpoint WHERE network_id = ?1 UNION ALL"
                             " SELECT address FROM net_reserved6 WHERE network_id = ?1", "t", bridge->id);
    if (result >= 0)
        result = address6_lowest_free(&bridge->subnet6, taken.items, taken.len, out, err);
    free(taken.items);
    return result;
}

static int check_address6(struct store *store, const struct bridge *bridge, number128 address, struct err *err)
{
    int64_t count = 0;
    char text[INET6_ADDRSTRLEN];
    address6_text(address, text);
    if (!bridge->subnet6.prefix || !subnet6_contains(&bridge->subnet6, address) || address == subnet6_network(&bridge->subnet6))
        return err_set(err, ERR_INVALID_ARGUMENT, "no configured subnet or ip-range contain the IP address %s", text);
    if (store_query(store, err, on_number, &count, "SELECT (SELECT COUNT(*) FROM net_endpoint WHERE network_id = ?1 AND address6 = ?2) +"
                    " (SELECT COUNT(*) FROM net_reserved6 WHERE network_id = ?1 AND address = ?2)", "tt", bridge->id, text) < 0)
        return -1;
    return count > 0 || address == bridge->subnet6.gateway || address == bridge->subnet6.route ? err_set(err, ERR_PERMISSION_DENIED, "Address already in use") : 0;
}

static int settle_address(struct store *store, const struct bridge *bridge, uint32_t *address, struct err *err)
{
    if (*address)
        return check_address(store, bridge, *address, err);
    return bridge->subnet.gateway ? pick_address(store, bridge, address, err) : 0;
}

static int settle_address6(struct store *store, const struct bridge *bridge, number128 *address, struct err *err)
{
    if (*address)
        return check_address6(store, bridge, *address, err);
    return bridge->subnet6.prefix ? pick_address6(store, bridge, address, err) : 0;
}

static int insert_ports(struct store *store, const struct record_endpoint *endpoint, const struct net_wish *wish, struct err *err)
{
    const struct net_port *ports = wish->ports;
    for (size_t i = 0; i < wish->port_len; i++)
        if ((strchr(ports[i].host_address, ':') ? !wish->no_ports6 : !wish->no_ports) &&
            store_exec(store, err,
                       "INSERT INTO net_port(container_id, proto, host_address, host_port, target_port, network_id)"
                       " VALUES(?, ?, ?, ?, ?, ?)", "titiit", endpoint->container_id, (int64_t)ports[i].proto,
                       ports[i].host_address, (int64_t)ports[i].host_port, (int64_t)ports[i].target_port,
                       endpoint->network_id) < 0)
            return -1;
    return 0;
}

static int insert_endpoint(struct store *store, struct record_endpoint *endpoint, struct err *err)
{
    char mac[MAC_TEXT_SIZE], address6[INET6_ADDRSTRLEN] = "";
    mac_text(endpoint->mac, mac);
    if (endpoint->address6)
        address6_text(endpoint->address6, address6);
    if (store_exec(store, err,
                   "INSERT INTO net_endpoint(network_id, container_id, endpoint_id, address, mac, interface, address6)"
                   " VALUES(?, ?, ?, ?, ?, ?, ?)", "tttittt", endpoint->network_id, endpoint->container_id, endpoint->endpoint_id,
                   (int64_t)endpoint->address, mac, endpoint->interface, address6) < 0)
        return -1;
    return store_query(store, err, on_number, &endpoint->link_index,
                       "SELECT link_index FROM net_endpoint WHERE network_id = ? AND container_id = ?", "tt", endpoint->network_id,
                       endpoint->container_id);
}

int record_endpoint_add(struct store *store, const struct bridge *bridge, struct record_endpoint *endpoint, const struct net_wish *wish,
                        struct err *err)
{
    if (store_begin(store, err) < 0)
        return -1;
    int result = settle_address(store, bridge, &endpoint->address, err);
    if (result >= 0)
        result = settle_address6(store, bridge, &endpoint->address6, err);
    if (result >= 0 && str_empty(wish->mac))
        address_mac(endpoint->address ? endpoint->address : address6_fold(endpoint->address6), endpoint->mac);
    if (result >= 0)
        result = insert_endpoint(store, endpoint, err);
    if (result >= 0)
        result = insert_ports(store, endpoint, wish, err);
    return finish(store, result < 0 ? -1 : 0, err);
}

int record_endpoint_remove(struct store *store, const struct record_endpoint *endpoint, struct err *err)
{
    if (store_begin(store, err) < 0)
        return -1;
    int result = store_exec(store, err, "DELETE FROM net_endpoint WHERE link_index = ?", "i", endpoint->link_index);
    return finish(store, result < 0 ? -1 : 0, err);
}

int record_ports_remove(struct store *store, const char *container_id, struct err *err)
{
    if (store_begin(store, err) < 0)
        return -1;
    int result = store_exec(store, err, "DELETE FROM net_port WHERE container_id = ?", "t", container_id);
    return finish(store, result < 0 ? -1 : 0, err);
}

int record_move_ports(struct store *store, const char *container_id, const char *network_id, const char *network_id6, struct err *err)
{
    if (store_begin(store, err) < 0)
        return -1;
    int result = store_exec(store, err, "UPDATE net_port SET network_id = CASE WHEN instr(host_address, ':') THEN ? ELSE ? END WHERE container_id = ?",
                            "ttt", network_id6, network_id, container_id);
    return finish(store, result < 0 ? -1 : 0, err);
}

static int on_id(void *context, const struct store_row *row, struct err *err)
{
    strv_add(context, store_text(row, 0));
    return 0;
}

int record_container_ids(struct store *store, struct strv *out, struct err *err)
{
    return store_query(store, err, on_id, out,
                       "SELECT container_id FROM net_endpoint UNION SELECT container_id FROM net_port", "");
}

int record_clear(struct store *store, struct err *err)
{
    if (store_begin(store, err) < 0)
        return -1;
    int result = store_exec(store, err, "DELETE FROM net_port", "");
    if (result >= 0)
        result = store_exec(store, err, "DELETE FROM net_endpoint", "");
    return finish(store, result < 0 ? -1 : 0, err);
}

// ---- ports ----------------------------------------------------------------------------------------------------------

void record_ports_done(struct record_ports *ports)
{
    free(ports->items);
    *ports = (struct record_ports){ 0 };
}

static int on_port(void *context, const struct store_row *row, struct err *err)
{
    struct record_ports *list = context;
    if ((list->len & (list->len - 1)) == 0)
        list->items = mem_grow(list->items, MAX_OF(2 * list->len, (size_t)1) * sizeof(*list->items));
    struct record_port *port = &list->items[list->len++];
    *port = (struct record_port){ .target = (uint32_t)store_int(row, 1), .flags = (unsigned)store_int(row, 7), .trusts = store_int(row, 8),
                                  .port = { .proto = (int)store_int(row, 2), .host_port = (uint16_t)store_int(row, 4),
                                            .target_port = (uint16_t)store_int(row, 5), .listener_fd = -1 } };
    address6_parse(store_text(row, 6), &port->target6);
    snprintf(port->container_id, sizeof(port->container_id), "%s", store_text(row, 0));
    snprintf(port->port.host_address, sizeof(port->port.host_address), "%s", store_text(row, 3));
    return 0;
}

int record_ports(struct store *store, const char *container_id, struct record_ports *out, struct err *err)
{
    *out = (struct record_ports){ 0 };
    int result = store_query(store, err, on_port, out,
                             "SELECT p.container_id, e.address, p.proto, p.host_address, p.host_port, p.target_port, e.address6,"
                             " COALESCE(n.flags, 0), COALESCE(n.trusted, '') != '' FROM net_port p"
                             " JOIN net_endpoint e ON e.container_id = p.container_id AND e.network_id = p.network_id"
                             " LEFT JOIN net_network n ON n.id = p.network_id"
                             " WHERE ?1 IS NULL OR p.container_id = ?1", "t", container_id);
    if (result < 0)
        record_ports_done(out);
    return result;
}

struct holder {
    const char *host_address;
    bool taken;
};

static bool is_any(const char *address)
{
    return str_eq(address, "0.0.0.0") || str_eq(address, "::");
}

static int on_holder(void *context, const struct store_row *row, struct err *err)
{
    struct holder *holder = context;
    const char *held = store_text(row, 0);
    bool same_family = !strchr(held, ':') == !strchr(holder->host_address, ':');
    holder->taken |= same_family && (is_any(held) || is_any(holder->host_address) || str_eq(held, holder->host_address));
    return 0;
}

bool record_port_taken(struct store *store, int proto, const char *host_address, uint16_t host_port)
{
    struct holder holder = { .host_address = host_address };
    store_query(store, NULL, on_holder, &holder, "SELECT host_address FROM net_port WHERE host_port = ? AND proto = ?", "ii",
                (int64_t)host_port, (int64_t)proto);
    return holder.taken;
}
