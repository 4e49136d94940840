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

int record_endpoint_count(struct store *store, struct err *err)
{
    int64_t count = 0;
    if (store_query(store, err, on_number, &count, "SELECT COUNT(*) FROM net_endpoint", "") < 0)
        return -1;
    return (int)count;
}

int record_endpoint_find(struct store *store, const char *container_id, int64_t *link_index, struct err *err)
{
    int64_t found = 0;
    if (store_query(store, err, on_number, &found, "SELECT link_index FROM net_endpoint WHERE container_id = ?", "t",
                    container_id) < 0)
        return -1;
    *link_index = found;
    return found > 0;
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

static int pick_address(struct store *store, const struct subnet *subnet, uint32_t *out, struct err *err)
{
    struct addresses taken = { 0 };
    int result = store_query(store, err, on_address, &taken, "SELECT address FROM net_endpoint ORDER BY address", "");
    if (result >= 0)
        result = address_lowest_free(subnet, taken.items, taken.len, out, err);
    free(taken.items);
    return result;
}

static int insert_ports(struct store *store, const char *container_id, const struct net_port *ports, size_t len,
                        struct err *err)
{
    for (size_t i = 0; i < len; i++)
        if (store_exec(store, err,
                       "INSERT INTO net_port(container_id, proto, host_address, host_port, target_port)"
                       " VALUES(?, ?, ?, ?, ?)", "titii", container_id, (int64_t)ports[i].proto, ports[i].host_address,
                       (int64_t)ports[i].host_port, (int64_t)ports[i].target_port) < 0)
            return -1;
    return 0;
}

int record_endpoint_add(struct store *store, const struct subnet *subnet, const char *container_id,
                        const struct net_port *ports, size_t port_len, uint32_t *address, int64_t *link_index,
                        struct err *err)
{
    if (store_begin(store, err) < 0)
        return -1;
    int result = pick_address(store, subnet, address, err);
    if (result >= 0)
        result = store_exec(store, err, "INSERT INTO net_endpoint(container_id, address) VALUES(?, ?)", "ti", container_id,
                            (int64_t)*address);
    if (result >= 0)
        result = insert_ports(store, container_id, ports, port_len, err);
    if (result >= 0)
        result = record_endpoint_find(store, container_id, link_index, err);
    return finish(store, result < 0 ? -1 : 0, err);
}

int record_endpoint_remove(struct store *store, const char *container_id, struct err *err)
{
    if (store_begin(store, err) < 0)
        return -1;
    int result = store_exec(store, err, "DELETE FROM net_port WHERE container_id = ?", "t", container_id);
    if (result >= 0)
        result = store_exec(store, err, "DELETE FROM net_endpoint WHERE container_id = ?", "t", container_id);
    return finish(store, result < 0 ? -1 : 0, err);
}

static int on_id(void *context, const struct store_row *row, struct err *err)
{
    strv_add(context, store_text(row, 0));
    return 0;
}

int record_endpoint_ids(struct store *store, struct strv *out, struct err *err)
{
    return store_query(store, err, on_id, out, "SELECT container_id FROM net_endpoint", "");
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
    *port = (struct record_port){ .target = (uint32_t)store_int(row, 1),
                                  .port = { .proto = (int)store_int(row, 2), .host_port = (uint16_t)store_int(row, 4),
                                            .target_port = (uint16_t)store_int(row, 5), .listener_fd = -1 } };
    snprintf(port->container_id, sizeof(port->container_id), "%s", store_text(row, 0));
    snprintf(port->port.host_address, sizeof(port->port.host_address), "%s", store_text(row, 3));
    return 0;
}

int record_ports(struct store *store, const char *container_id, struct record_ports *out, struct err *err)
{
    *out = (struct record_ports){ 0 };
    int result = store_query(store, err, on_port, out,
                             "SELECT p.container_id, e.address, p.proto, p.host_address, p.host_port, p.target_port"
                             " FROM net_port p JOIN net_endpoint e ON e.container_id = p.container_id"
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
