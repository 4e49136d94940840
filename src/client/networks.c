// Networks and volumes.
#include "client/rows.h"
#include "client/text.h"
#include "base/clock.h"

// ---- networks -------------------------------------------------------------------------------------------------------

static json_t *network_row(const json_t *network, bool no_trunc)
{
    json_t *row = json_object();
    char id[TEXT_SIZE];
    int64_t created = 0;
    row_put(row, "ID", text_id(json_get_text(network, "Id", ""), no_trunc, id));
    row_put(row, "Name", json_get_text(network, "Name", ""));
    row_put(row, "Driver", json_get_text(network, "Driver", ""));
    row_put(row, "Scope", json_get_text(network, "Scope", ""));
    row_put(row, "IPv4", json_get_flag(network, "EnableIPv4", false) ? "true" : "false");
    row_put(row, "IPv6", json_get_flag(network, "EnableIPv6", false) ? "true" : "false");
    row_put(row, "Internal", json_get_flag(network, "Internal", false) ? "true" : "false");
    put_labels(row, json_object_get(network, "Labels"));
    clock_parse(slice_of(json_get_text(network, "Created", "")), &created);
    put_time_text(row, "CreatedAt", created);
    return row;
}

static int by_name(const void *a, const void *b)
{
    return strverscmp(json_get_text(*(json_t *const *)a, "Name", ""), json_get_text(*(json_t *const *)b, "Name", ""));
}

// A new list of the same objects, by name.
static json_t *sorted(const json_t *list)
{
    size_t len = json_array_size(list);
    json_t **items = mem_alloc((len + 1) * sizeof(json_t *)), *out = json_array();
    for (size_t i = 0; i < len; i++)
        items[i] = json_array_get(list, i);
    qsort(items, len, sizeof(json_t *), by_name);
    for (size_t i = 0; i < len; i++)
        json_array_append(out, items[i]);
    free(items);
    return out;
}

int command_network_ls(struct call *call, struct err *err)
{
    static const struct column columns[] = { { "ID", "NETWORK ID" }, { "Name", "NAME" }, { "Driver", "DRIVER" }, { "Scope", "SCOPE" },
                                             { "IPv4", "IPV4" }, { "IPv6", "IPV6" }, { "Internal", "INTERNAL" }, { "Labels", "LABELS" },
                                             { "CreatedAt", "CREATED AT" } };
    _cleanup_json_ json_t *networks = NULL, *ordered = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT;
    const char *format = flag_text(&call->flags, "format");
    bool quiet = flag_on(&call->flags, "quiet");
    struct list list = { .format = quiet || format ? format : json_get_text(client_config(call->client), "networksFormat", NULL),
                         .table = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}", .type = "*network.networkContext", .columns = columns,
                         .raw = quiet ? "network_id: {{.ID}}" : "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
                         .columns_len = ARRAY_LEN(columns), .quiet = quiet };
    buf_adds(&path, "/networks");
    put_filters(call, &path);
    if (api_json(call->client, "GET", buf_text(&path), NULL, &networks, err) < 0 || check_list(networks, err) < 0)
        return -1;
    ordered = sorted(networks);
    return print_rows(&list, ordered, network_row, flag_on(&call->flags, "no-trunc"), err);
}

int command_network_create(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *body = json_object(), *answer = NULL;
    json_object_set_new(body, "Name", json_new_text(call->args.items[0]));
    flags_to_body(&call->flags, body);
    if (!flag_set(&call->flags, "driver") && !flag_on(&call->flags, "config-only"))
        json_object_set_new(body, "Driver", json_string("bridge"));
    if (put_ipam(call, body, err) < 0)
        return -1;
    if (flag_set(&call->flags, "config-from"))
        body_put(body, "ConfigFrom.Network", json_new_text(flag_text(&call->flags, "config-from")));
    if (api_json(call->client, "POST", "/networks/create", json_incref(body), &answer, err) < 0)
        return -1;
    const char *warning = json_get_text(answer, "Warning", "");
    if (*warning)
        fprintf(stderr, "WARNING: %s\n", warning);
    printf("%s\n", json_get_text(answer, "Id", ""));
    return 0;
}

static int connect_with(struct call *call, const char *verb, json_t *body, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    json_object_set_new(body, "Container", json_new_text(call->args.items[1]));
    path_put(&path, "/networks/", call->args.items[0], verb);
    return api_json(call->client, "POST", buf_text(&path), body, NULL, err) < 0 ? -1 : 0;
}

int command_network_connect(struct call *call, struct err *err)
{
    json_t *body = json_object();
    flags_to_body(&call->flags, body);
    return connect_with(call, "/connect", body, err);
}

int command_network_disconnect(struct call *call, struct err *err)
{
    return connect_with(call, "/disconnect", json_pack("{s:b}", "Force", flag_on(&call->flags, "force")), err);
}

static int remove_one(struct call *call, const char *prefix, const char *name, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    path_put(&path, prefix, name, "");
    flags_to_query(&call->flags, &path);
    if (api_json(call->client, "DELETE", buf_text(&path), NULL, NULL, err) < 0) {
        if (!flag_on(&call->flags, "force") || err->class != ERR_NOT_FOUND)
            return -1;
        return 0;
    }
    printf("%s\n", name);
    return 0;
}

static int remove_network(struct call *call, const char *name, struct err *err)
{
    return remove_one(call, "/networks/", name, err);
}

int command_network_rm(struct call *call, struct err *err)
{
    return each_argument(call, remove_network, err);
}

// ---- volumes --------------------------------------------------------------------------------------------------------

json_t *volume_row(const json_t *volume, bool no_trunc)
{
    json_t *row = json_object();
    const json_t *usage = json_object_get(volume, "UsageData");
    char size[TEXT_SIZE];
    row_put(row, "Name", json_get_text(volume, "Name", ""));
    row_put(row, "Driver", json_get_text(volume, "Driver", ""));
    row_put(row, "Scope", json_get_text(volume, "Scope", ""));
    row_put(row, "Mountpoint", json_get_text(volume, "Mountpoint", ""));
    put_labels(row, json_object_get(volume, "Labels"));
    row_put(row, "Links", "N/A");
    row_put(row, "Size", "N/A");
    if (json_is_object(usage)) {
        row_putf(row, "Links", "%lld", (long long)json_get_int(usage, "RefCount", 0));
        row_put(row, "Size", text_size((double)json_get_int(usage, "Size", 0), 4, size));
    }
    row_put(row, "Group", "N/A");
    row_put(row, "Availability", "N/A");
    row_put(row, "Status", "N/A");
    return row;
}

const struct column volume_columns[] = { { "Name", "VOLUME NAME" }, { "Driver", "DRIVER" }, { "Scope", "SCOPE" }, { "Mountpoint", "MOUNTPOINT" },
                                         { "Labels", "LABELS" }, { "Links", "LINKS" }, { "Size", "SIZE" }, { "Group", "GROUP" },
                                         { "Availability", "AVAILABILITY" }, { "Status", "STATUS" } };
const size_t volume_columns_len = ARRAY_LEN(volume_columns);

int command_volume_ls(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *answer = NULL, *ordered = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT;
    size_t i;
    json_t *warning;
    const char *format = flag_text(&call->flags, "format");
    bool quiet = flag_on(&call->flags, "quiet");
    struct list list = { .format = quiet && !format ? "{{.Name}}" : format ? format : json_get_text(client_config(call->client), "volumesFormat", NULL),
                         .table = "table {{.Driver}}\t{{.Name}}", .raw = quiet ? "name: {{.Name}}" : "name: {{.Name}}\ndriver: {{.Driver}}\n",
                         .type = "*formatter.volumeContext", .columns = volume_columns, .columns_len = volume_columns_len };
    buf_adds(&path, "/volumes");
    put_filters(call, &path);
    if (api_json(call->client, "GET", buf_text(&path), NULL, &answer, err) < 0)
        return -1;
    json_array_foreach(json_object_get(answer, "Warnings"), i, warning)
        fprintf(stderr, "%s\n", json_string_value(warning));
    ordered = sorted(json_object_get(answer, "Volumes"));
    return print_rows(&list, ordered, volume_row, false, err);
}

int command_volume_create(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *body = json_object(), *answer = NULL;
    const char *named = flag_text(&call->flags, "name"), *name = call->args.len ? call->args.items[0] : named;
    if (named && call->args.len && !str_eq(named, name))
        return err_set(err, ERR_INVALID_ARGUMENT, "conflicting options: cannot specify a volume-name through both --name and as a positional arg");
    flags_to_body(&call->flags, body);
    json_object_set_new(body, "Name", json_new_text(name));
    if (!flag_set(&call->flags, "driver"))
        json_object_set_new(body, "Driver", json_string("local"));
    if (api_json(call->client, "POST", "/volumes/create", json_incref(body), &answer, err) < 0)
        return -1;
    printf("%s\n", json_get_text(answer, "Name", ""));
    return 0;
}

static int remove_volume(struct call *call, const char *name, struct err *err)
{
    return remove_one(call, "/volumes/", name, err);
}

int command_volume_rm(struct call *call, struct err *err)
{
    return each_argument(call, remove_volume, err);
}
