// Clients' networks in the store: what their bridges are.
#include <arpa/inet.h>
#include <stdio.h>

#include "net_private.h"

static int on_bridge(void *context, const struct store_row *row, struct err *err)
{
    struct record_bridges *list = context;
    list->items = mem_grow(list->items, (list->len + 1) * sizeof(*list->items));
    struct bridge *bridge = &list->items[list->len++];
    *bridge = (struct bridge){ .subnet = { .gateway = (uint32_t)store_int(row, 2), .prefix = (int)store_int(row, 3),
                                           .range_first = (uint32_t)store_int(row, 4), .range_prefix = (int)store_int(row, 5) },
                               .flags = (unsigned)store_int(row, 6), .mtu = (int)store_int(row, 7) };
    if (cidr6_parse(store_text(row, 8), &bridge->subnet6.gateway, &bridge->subnet6.prefix))
        cidr6_parse(store_text(row, 9), &bridge->subnet6.range_first, &bridge->subnet6.range_prefix);
    snprintf(bridge->parent, sizeof(bridge->parent), "%s", store_text(row, 10));
    snprintf(bridge->parent_mode, sizeof(bridge->parent_mode), "%s", store_text(row, 11));
    snprintf(bridge->trusted, sizeof(bridge->trusted), "%s", store_text(row, 12));
    snprintf(bridge->id, sizeof(bridge->id), "%s", store_text(row, 0));
    snprintf(bridge->link, sizeof(bridge->link), "%s", store_text(row, 1));
    return 0;
}

int record_bridges(struct store *store, struct record_bridges *out, struct err *err)
{
    *out = (struct record_bridges){ 0 };
    return store_query(store, err, on_bridge, out,
                       "SELECT id, link, gateway, prefix, range_first, range_prefix, flags, mtu, subnet6, range6, parent,"
                       " parent_mode, trusted FROM net_network", "");
}

static int finish(struct store *store, int result, struct err *err)
{
    if (result < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

static int insert_reserved(struct store *store, const char *id, const struct strv *reserved, struct err *err)
{
    int result = 0;
    for (size_t i = 0; reserved && i < reserved->len && result >= 0; i++) {
        struct in_addr in;
        char plain[INET6_ADDRSTRLEN];
        number128 six;
        if (address6_parse(reserved->items[i], &six)) {
            address6_text(six, plain);
            result = store_exec(store, err, "INSERT OR IGNORE INTO net_reserved6(network_id, address) VALUES(?, ?)", "tt", id, plain);
        } else if (inet_pton(AF_INET, reserved->items[i], &in) == 1)
            result = store_exec(store, err, "INSERT OR IGNORE INTO net_reserved(network_id, address) VALUES(?, ?)", "ti", id,
                                (int64_t)ntohl(in.s_addr));
    }
    return result;
}

int record_bridge_add(struct store *store, const struct bridge *bridge, const struct strv *reserved, struct err *err)
{
    const struct subnet *subnet = &bridge->subnet;
    const struct subnet6 *six = &bridge->subnet6;
    char subnet6[SUBNET6_TEXT_SIZE] = "", range6[SUBNET6_TEXT_SIZE] = "";
    if (six->prefix)
        subnet6_text(six->gateway, six->prefix, subnet6);
    if (six->range_prefix)
        subnet6_text(six->range_first, six->range_prefix, range6);
    if (store_begin(store, err) < 0)
        return -1;
    int result = store_exec(store, err,
                            "INSERT INTO net_network(id, link, gateway, prefix, range_first, range_prefix, flags, mtu, subnet6, range6,"
                            " parent, parent_mode, trusted) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", "ttiiiiiittttt", bridge->id, bridge->link, (int64_t)subnet->gateway,
                            (int64_t)subnet->prefix, (int64_t)subnet->range_first, (int64_t)subnet->range_prefix,
                            (int64_t)bridge->flags, (int64_t)bridge->mtu, subnet6, range6, bridge->parent, bridge->parent_mode, bridge->trusted);
    if (result >= 0)
        result = insert_reserved(store, bridge->id, reserved, err);
    return finish(store, result, err);
}

int record_bridge_remove(struct store *store, const char *id, struct err *err)
{
    if (store_begin_removal(store, err) < 0)
        return -1;
    int result = store_exec(store, err, "DELETE FROM net_reserved WHERE network_id = ?", "t", id);
    if (result >= 0)
        result = store_exec(store, err, "DELETE FROM net_reserved6 WHERE network_id = ?", "t", id);
    if (result >= 0)
        result = store_exec(store, err, "DELETE FROM net_network WHERE id = ?", "t", id);
    return finish(store, result, err);
}
