// ps: rows of containers.
#include "client/rows.h"
#include "client/text.h"
#include "base/clock.h"

// ---- ports: "0.0.0.0:80-81->80-81/tcp, 443/tcp" ---------------------------------------------------------------------

struct port {
    int64_t inside, outside;
    const char *ip, *type;
};

static int by_number(const void *a, const void *b)
{
    const struct port *x = a, *y = b;
    if (x->inside != y->inside)
        return x->inside < y->inside ? -1 : 1;
    int order = strcmp(x->ip, y->ip);
    if (order)
        return order;
    if (x->outside != y->outside)
        return x->outside < y->outside ? -1 : 1;
    return strcmp(x->type, y->type);
}

static void add_part(struct buf *out, const char *text)
{
    buf_addf(out, "%s%s", out->size ? ", " : "", text);
}

static void address(const char *ip, const char *rest, char *out, size_t size)
{
    snprintf(out, size, strchr(ip, ':') ? "[%s]:%s" : "%s:%s", ip, rest);
}

// Ports that are the same on both sides and follow each other are one part.
struct group {
    const char *ip, *type;
    int64_t first, last;
};

static void put_group(const struct group *group, struct buf *out)
{
    char range[32], whole[128], start[128];
    snprintf(range, sizeof(range), group->first == group->last ? "%lld" : "%lld-%lld", (long long)group->first, (long long)group->last);
    address(group->ip, range, start, sizeof(start));
    if (*group->ip)
        snprintf(whole, sizeof(whole), "%s->%s/%s", start, range, group->type);
    else
        snprintf(whole, sizeof(whole), "%s/%s", range, group->type);
    add_part(out, whole);
}

static struct group *group_for(struct group *groups, size_t *len, const struct port *port, bool *is_new)
{
    for (size_t i = 0; i < *len; i++)
        if (str_eq(groups[i].ip, port->ip) && str_eq(groups[i].type, port->type))
            return *is_new = false, &groups[i];
    groups[*len] = (struct group){ port->ip, port->type, port->inside, port->inside };
    return *is_new = true, &groups[(*len)++];
}

static void put_port_list(struct port *ports, size_t len, struct buf *out)
{
    struct group *groups = mem_alloc((len + 1) * sizeof(*groups));
    _cleanup_buf_ struct buf mapped = BUF_INIT(1u << 20);
    size_t groups_len = 0;
    for (size_t i = 0; i < len; i++) {
        bool is_new;
        if (*ports[i].ip && ports[i].outside != ports[i].inside) {
            char text[128], rest[64];
            snprintf(rest, sizeof(rest), "%lld->%lld/%s", (long long)ports[i].outside, (long long)ports[i].inside, ports[i].type);
            address(ports[i].ip, rest, text, sizeof(text));
            add_part(&mapped, text);
            continue;
        }
        struct group *group = group_for(groups, &groups_len, &ports[i], &is_new);
        if (is_new)
            continue;
        if (ports[i].inside == group->last + 1) {
            group->last++;
            continue;
        }
        put_group(group, out);
        group->first = group->last = ports[i].inside;
    }
    for (size_t i = 0; i < groups_len; i++)
        put_group(&groups[i], out);
    if (mapped.size)
        add_part(out, buf_text(&mapped));
    free(groups);
}

static void put_ports_text(const json_t *list, struct buf *out)
{
    size_t len = json_array_size(list);
    struct port *ports = mem_alloc((len + 1) * sizeof(*ports));
    for (size_t i = 0; i < len; i++) {
        const json_t *one = json_array_get(list, i);
        ports[i] = (struct port){ json_get_int(one, "PrivatePort", 0), json_get_int(one, "PublicPort", 0), json_get_text(one, "IP", ""),
                                  json_get_text(one, "Type", "") };
    }
    qsort(ports, len, sizeof(*ports), by_number);
    put_port_list(ports, len, out);
    free(ports);
}

// ---- the other columns ----------------------------------------------------------------------------------------------

void put_age(json_t *row, const char *key, int64_t unix_time)
{
    char age[TEXT_SIZE];
    int64_t seconds;
    if (__builtin_sub_overflow(clock_wall_ns() / NS_PER_S, unix_time, &seconds))
        seconds = 0;
    row_putf(row, key, "%s ago", text_age(seconds, age));
}

void put_time_text(json_t *row, const char *key, int64_t unix_ns)
{
    _cleanup_buf_ struct buf text = BUF_INIT(128);
    text_time(unix_ns, &text);
    row_put(row, key, buf_text(&text));
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void put_labels(json_t *row, const json_t *labels)
{
    _cleanup_strv_ struct strv sorted = { 0 };
    _cleanup_buf_ struct buf text = BUF_INIT(4u << 20);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)labels, key, value)
        strv_addf(&sorted, "%s=%s", key, json_string_value(value));
    if (sorted.len)
        qsort(sorted.items, sorted.len, sizeof(*sorted.items), by_text);
    for (size_t i = 0; i < sorted.len; i++)
        buf_addf(&text, "%s%s", i ? "," : "", sorted.items[i]);
    row_put(row, "Labels", buf_text(&text));
}

static void put_names(json_t *row, const json_t *names, bool no_trunc)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = item_text(names, i);
        name += *name == '/';
        if (!no_trunc && strchr(name, '/'))
            continue;
        buf_addf(&text, "%s%s", text.size ? "," : "", name);
        if (!no_trunc)
            break;
    }
    row_put(row, "Names", buf_text(&text));
}

static void put_image(json_t *row, const json_t *container, bool no_trunc)
{
    const char *image = json_get_text(container, "Image", ""), *id = json_get_text(container, "ImageID", "");
    char short_id[TEXT_SIZE], short_image[TEXT_SIZE];
    if (!*image)
        image = "<no image>";
    else if (!no_trunc && str_eq(text_id(id, false, short_id), text_id(image, false, short_image)))
        image = short_id;
    const char *digest = no_trunc ? NULL : strchr(image, '@');
    row_putf(row, "Image", "%.*s", digest ? (int)(digest - image) : (int)strlen(image), image);
}

static void put_mounts_text(json_t *row, const json_t *mounts, bool no_trunc)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    int local = 0;
    for (size_t i = 0; i < json_array_size(mounts); i++) {
        const json_t *mount = json_array_get(mounts, i);
        const char *name = json_get_text(mount, "Name", "");
        if (!*name)
            name = json_get_text(mount, "Source", "");
        local += str_eq(json_get_text(mount, "Driver", ""), "local");
        buf_adds(&text, text.size ? "," : "");
        if (no_trunc)
            buf_adds(&text, name);
        else
            text_ellipsis(name, 15, &text);
    }
    row_put(row, "Mounts", buf_text(&text));
    row_putf(row, "LocalVolumes", "%d", local);
}

static void put_networks_text(json_t *row, const json_t *networks)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)networks, key, value)
        buf_addf(&text, "%s%s", text.size ? "," : "", key);
    row_put(row, "Networks", buf_text(&text));
}

static void put_size(json_t *row, const json_t *container)
{
    char used[TEXT_SIZE], all[TEXT_SIZE];
    int64_t root = json_get_int(container, "SizeRootFs", 0);
    text_size((double)json_get_int(container, "SizeRw", 0), 3, used);
    if (root > 0)
        row_putf(row, "Size", "%s (virtual %s)", used, text_size((double)root, 3, all));
    else
        row_put(row, "Size", used);
}

static void put_command(json_t *row, const char *command, bool no_trunc)
{
    _cleanup_buf_ struct buf cut = BUF_INIT(1u << 20), quoted = BUF_INIT(1u << 20);
    if (no_trunc)
        buf_adds(&cut, command);
    else
        text_ellipsis(command, 20, &cut);
    buf_add_quoted(&quoted, buf_text(&cut));
    row_put(row, "Command", buf_text(&quoted));
}

json_t *container_row(const json_t *container, bool no_trunc)
{
    json_t *row = json_object();
    _cleanup_buf_ struct buf ports = BUF_INIT(1u << 20);
    char id[TEXT_SIZE];
    int64_t created = json_get_int(container, "Created", 0);
    row_put(row, "ID", text_id(json_get_text(container, "Id", ""), no_trunc, id));
    put_names(row, json_object_get(container, "Names"), no_trunc);
    put_image(row, container, no_trunc);
    put_command(row, json_get_text(container, "Command", ""), no_trunc);
    put_time_text(row, "CreatedAt", text_ns(created));
    put_age(row, "RunningFor", created);
    put_ports_text(json_object_get(container, "Ports"), &ports);
    row_put(row, "Ports", buf_text(&ports));
    row_put(row, "State", json_get_text(container, "State", ""));
    row_put(row, "Status", json_get_text(container, "Status", ""));
    put_size(row, container);
    put_labels(row, json_object_get(container, "Labels"));
    put_mounts_text(row, json_object_get(container, "Mounts"), no_trunc);
    json_object_set_new(row, "Platform", json_null());
    put_networks_text(row, json_object_get(json_object_get(container, "NetworkSettings"), "Networks"));
    return row;
}

const struct column container_columns[] = {
    { "ID", "CONTAINER ID" }, { "Names", "NAMES" }, { "Image", "IMAGE" }, { "Command", "COMMAND" }, { "CreatedAt", "CREATED AT" },
    { "RunningFor", "CREATED" }, { "Ports", "PORTS" }, { "State", "STATE" }, { "Status", "STATUS" }, { "Size", "SIZE" },
    { "Labels", "LABELS" }, { "Mounts", "MOUNTS" }, { "LocalVolumes", "LOCAL VOLUMES" }, { "Networks", "NETWORKS" }, { "Platform", "PLATFORM" },
};
const size_t container_columns_len = ARRAY_LEN(container_columns);

#define PS_TABLE "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"

static const char *ps_format(struct call *call)
{
    const char *format = flag_text(&call->flags, "format");
    return format ? format : json_get_text(client_config(call->client), "psFormat", NULL);
}

// A field that there is not is an error also where no container is.
static int check_fields(const struct template *template, const struct list *list, struct err *err)
{
    _cleanup_json_ json_t *nothing = json_object(), *row = container_row(nothing, false);
    _cleanup_buf_ struct buf out = BUF_INIT(1u << 20);
    struct template_data data = { .root = row, .type = list->type };
    if (template_run(template, &data, &out, err) == 0 || !strstr(err->message, "can't evaluate field"))
        return 0;
    return err_wrap(err, "failed to execute template");
}

int command_ps(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *containers = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT;
    _cleanup_template_ struct template *template = NULL;
    bool no_trunc = flag_on(&call->flags, "no-trunc"), quiet = flag_on(&call->flags, "quiet"), size = flag_on(&call->flags, "size");
    int64_t last = flag_on(&call->flags, "latest") ? 1 : flag_int(&call->flags, "last", -1);
    struct list list = {
        .format = quiet && !flag_set(&call->flags, "format") ? NULL : ps_format(call),
        .table = size ? PS_TABLE "\t{{.Size}}" : PS_TABLE,
        .raw = quiet ? "container_id: {{.ID}}"
                     : "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\n"
                       "status: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n",
        .type = "*formatter.ContainerContext",
        .columns = container_columns,
        .columns_len = container_columns_len,
        .quiet = quiet,
    };
    if (list_template(&list, &template, err) < 0 || check_fields(template, &list, err) < 0)
        return -1;
    size = size || (!quiet && (template_uses(template, "Size") || (template_uses(template, ".") && !str_eq(list.format, "json"))));
    buf_adds(&path, "/containers/json");
    if (flag_on(&call->flags, "all"))
        query_add(&path, "all", "1");
    if (last > 0) {
        char text[24];
        snprintf(text, sizeof(text), "%lld", (long long)last);
        query_add(&path, "limit", text);
    }
    if (size)
        query_add(&path, "size", "1");
    put_filters(call, &path);
    if (api_json(call->client, "GET", buf_text(&path), NULL, &containers, err) < 0)
        return -1;
    return print_rows(&list, containers, container_row, no_trunc, err);
}
