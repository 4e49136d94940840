// Opening and closing the room.
#include <stdio.h>

#include "base/num.h"
#include "net_private.h"

enum { LOCK_RANK = 8 }; // just below the store's
enum { POOL_SIZE_MIN = 8, POOL_SIZE_MAX = 30 };

static void name_objects(struct net *net, const char *daemon_id)
{
    snprintf(net->id, sizeof(net->id), "%s", daemon_id);
    snprintf(net->bridge, sizeof(net->bridge), "b%.4s0", daemon_id);
    snprintf(net->table, sizeof(net->table), "berth_%s", daemon_id);
}

// The recorded subnet, else the configured one, else a first guess that net_bridge_up() checks again: two daemons that
// start together would guess the same.
static int load_subnet(struct net *net, struct err *err) REQUIRES(net->lock)
{
    _cleanup_free_ char *recorded = NULL;
    if (record_setting(net->store, SETTING_SUBNET, &recorded, err) < 0)
        return -1;
    net->subnet_recorded = recorded;
    if (recorded)
        return subnet_parse(recorded, &net->subnet, err);
    net->subnet = net->bip;
    if (!net->bip.gateway)
        bridge_choose_subnet(net, NULL, &net->subnet, NULL);
    return 0;
}

static int take_pools(struct net *net, const struct net_config *config, struct err *err)
{
    net->pools = mem_alloc((config->pool_len + 1) * sizeof(*net->pools));
    net->pool_len = config->pool_len;
    for (size_t i = 0; i < config->pool_len; i++) {
        uint32_t base;
        int prefix;
        net->pools[i] = config->pools[i];
        if (network_parse(config->pools[i].base, &base, &prefix, NULL) < 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid base pool \"%s\"", config->pools[i].base);
        if (config->pools[i].size < prefix || config->pools[i].size > POOL_SIZE_MAX || config->pools[i].size < POOL_SIZE_MIN)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid pool size %d for the base %s", config->pools[i].size,
                           config->pools[i].base);
    }
    return 0;
}

static int prepare(struct net *net, const struct net_config *config, struct err *err)
{
    if (strlen(config->daemon_id) != 8 || !hex_valid(slice_of(config->daemon_id)))
        return err_set(err, ERR_INVALID_ARGUMENT, "daemon id \"%s\": 8 hex digits expected", config->daemon_id);
    name_objects(net, config->daemon_id);
    if (take_pools(net, config, err) < 0 || (config->bip && subnet_parse(config->bip, &net->bip, err) < 0) ||
        record_migrate(net->store, err) < 0)
        return -1;
    mutex_lock(&net->lock);
    int result = link_open(&net->link, err) < 0 || nft_open(&net->nft, err) < 0 ||
                         record_bridges(net->store, &net->networks, err) < 0
                     ? -1
                     : load_subnet(net, err);
    mutex_unlock(&net->lock);
    return result;
}

int net_open(struct store *store, const struct net_config *config, struct net **out, struct err *err)
{
    struct net *net = mem_new(struct net);
    mutex_init(&net->lock, LOCK_RANK);
    net->store = store;
    net->ip_forward_file = mem_strdup(config->ip_forward_file ? config->ip_forward_file : "/proc/sys/net/ipv4/ip_forward");
    if (prepare(net, config, err) < 0) {
        net_close(net);
        return err_wrap(err, "open the network");
    }
    *out = net;
    return 0;
}

void net_close(struct net *net)
{
    if (!net)
        return;
    mutex_lock(&net->lock);
    link_close(&net->link);
    nft_close(&net->nft);
    free(net->foreign_line);
    free(net->networks.items);
    mutex_unlock(&net->lock);
    mutex_done(&net->lock);
    free(net->ip_forward_file);
    free(net->pools);
    free(net);
}
