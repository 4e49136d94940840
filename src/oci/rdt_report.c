// What `events` tells of a container's class of service and of the machine's means, in runc's words.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/num.h"
#include "base/slice.h"
#include "kernel/resctrl.h"
#include "oci/oci_private.h"

#define TEXT_MAX (64 << 10)

static bool read_text(int root_fd, const char *path, struct buf *text, struct slice *out)
{
    bool good = file_read_at(root_fd, path, text, NULL) == 0;
    *out = slice_trim(slice_of(buf_text(text)));
    return good;
}

// What does not count just now says so in a word, and is left out.
static void add_number(json_t *out, int root_fd, const char *folder, const char *name)
{
    char path[PATH_MAX];
    _cleanup_buf_ struct buf text = BUF_INIT(TEXT_MAX);
    struct slice word;
    uint64_t value;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (read_text(root_fd, path, &text, &word) && num_parse_u64(word, INT64_MAX, &value))
        json_object_set_new(out, name, json_integer((json_int_t)value));
}

// ---- schemata -------------------------------------------------------------------------------------------------------

static void add_schemata(json_t *out, int root_fd, const char *group, const char *key)
{
    char path[PATH_MAX];
    _cleanup_buf_ struct buf text = BUF_INIT(TEXT_MAX);
    struct slice rest, line;
    snprintf(path, sizeof(path), "%s/schemata", group);
    if (!read_text(root_fd, path, &text, &rest))
        return;
    json_t *list = json_array();
    while (slice_cut(&rest, '\n', &line)) {
        line = slice_trim(line);
        json_array_append_new(list, json_stringn(line.data, line.size));
        char name[64];
        snprintf(name, sizeof(name), "%s%s", slice_starts(line, "L3") ? "l3_cache_schema" : "mem_bw_schema", key);
        if (slice_starts(line, "L3") || slice_starts(line, "MB"))
            json_object_set_new(out, name, json_stringn(line.data, line.size));
    }
    if (!*key)
        json_object_set(out, "schemata", list);
    json_decref(list);
}

static void add_means(json_t *out, int root_fd)
{
    static const char *const cache[] = { "min_cbm_bits", "num_closids" };
    static const char *const bandwidth[] = { "bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids" };
    _cleanup_buf_ struct buf text = BUF_INIT(TEXT_MAX);
    struct slice mask;
    if (read_text(root_fd, "info/L3/cbm_mask", &text, &mask)) {
        json_t *info = json_pack("{s:o}", "cbm_mask", json_stringn(mask.data, mask.size));
        for (size_t i = 0; i < ARRAY_LEN(cache); i++)
            add_number(info, root_fd, "info/L3", cache[i]);
        json_object_set_new(out, "l3_cache_info", info);
    }
    if (faccessat(root_fd, "info/MB", F_OK, 0) == 0) {
        json_t *info = json_object();
        for (size_t i = 0; i < ARRAY_LEN(bandwidth); i++)
            add_number(info, root_fd, "info/MB", bandwidth[i]);
        json_object_set_new(out, "mem_bw_info", info);
    }
}

// ---- counters -------------------------------------------------------------------------------------------------------

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_node(const struct dirent *entry)
{
    return entry->d_type == DT_DIR && entry->d_name[0] != '.';
}

// One object for each folder of mon_data, which is a cache.
static void add_counters(json_t *out, int root_fd, const char *key, const char *group, const char *const *names, size_t len)
{
    struct dirent **nodes;
    char path[PATH_MAX];
    bool counted = false;
    for (size_t i = 0; i < len; i++)
        counted |= resctrl_counts(root_fd, names[i]);
    snprintf(path, sizeof(path), "%s/mon_data", group);
    int node_len = counted ? scandirat(root_fd, path, &nodes, is_node, by_name) : -1;
    if (node_len < 0)
        return;
    json_t *list = json_array();
    for (int i = 0; i < node_len; i++) {
        json_t *node = json_object();
        snprintf(path, sizeof(path), "%s/mon_data/%s", group, nodes[i]->d_name);
        for (size_t j = 0; j < len; j++)
            add_number(node, root_fd, path, names[j]);
        json_array_append_new(list, node);
        free(nodes[i]);
    }
    free(nodes);
    json_object_set_new(out, key, list);
}

json_t *rdt_report(int root_fd, const struct resctrl_group *group)
{
    static const char *const bandwidth[] = { "mbm_total_bytes", "mbm_local_bytes" }, *const occupancy[] = { "llc_occupancy" };
    json_t *out = json_object();
    char counted[PATH_MAX];
    bool own = !str_empty(group->monitor);
    snprintf(counted, sizeof(counted), "%s%s%s", group->name, own ? "/mon_groups/" : "", own ? group->monitor : "");
    add_means(out, root_fd);
    add_schemata(out, root_fd, ".", "_root");
    add_schemata(out, root_fd, group->name, "");
    add_counters(out, root_fd, "mbm_stats", counted, bandwidth, ARRAY_LEN(bandwidth));
    add_counters(out, root_fd, "cmt_stats", counted, occupancy, ARRAY_LEN(occupancy));
    return out;
}
