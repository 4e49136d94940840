// The filters of `docker ps` and `docker events`.
#include "api_private.h"

const char *const container_filter_keys[] = { "id",     "name",    "label",     "status",  "exited",  "ancestor",
                                              "before", "since",   "volume",    "network", "publish", "expose",
                                              "health", "is-task", "isolation", NULL };

// `noun` is what dockerd calls a value of that filter.
static int unknown_word(const char *key, const char *noun, const char *value, const char *const *words, struct err *err)
{
    _cleanup_buf_ struct buf all = BUF_INIT(1024);
    for (const char *const *word = words; *word; word++)
        buf_addf(&all, "%s%s", word == words ? "" : ", ", *word);
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid filter '%s=%.100s': invalid value for %s (%.100s): must be one of %s", key, value, noun, value,
                   buf_text(&all));
}

static int check_words(const struct filters *filters, const char *key, const char *noun, const char *const *words, struct err *err)
{
    const struct strv *values = filters_get(filters, key);
    for (size_t i = 0; values && i < values->len; i++) {
        bool known = false;
        for (const char *const *word = words; *word; word++)
            known = known || str_eq(*word, values->items[i]);
        if (!known && !noun)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid filter '%s=[%.100s]'", key, values->items[i]);
        if (!known)
            return unknown_word(key, noun, values->items[i], words, err);
    }
    return 0;
}

// "80", "80/tcp", "80-90/tcp".
static bool read_ports(const char *text, uint64_t *first, uint64_t *last, struct slice *proto)
{
    struct slice rest = slice_of(text), range, low;
    slice_cut(&rest, '/', &range);
    *proto = rest.data ? rest : slice_of("tcp");
    if (!slice_cut(&range, '-', &low) || !num_parse_u64(low, 65535, first))
        return false;
    *last = *first;
    return (!range.data || num_parse_u64(range, 65535, last)) && *first <= *last &&
           (slice_eq(*proto, "tcp") || slice_eq(*proto, "udp") || slice_eq(*proto, "sctp"));
}

static int check_ports(const struct filters *filters, const char *key, struct err *err)
{
    const struct strv *values = filters_get(filters, key);
    uint64_t first, last;
    struct slice proto;
    for (size_t i = 0; values && i < values->len; i++)
        if (!read_ports(values->items[i], &first, &last, &proto))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid filter '%s=%.100s'", key, values->items[i]);
    return 0;
}

int container_filters_check(const struct filters *filters, struct err *err)
{
    static const char *const statuses[] = { "created", "running", "paused", "restarting", "removing", "exited", "dead", NULL };
    static const char *const healths[] = { "none", "starting", "healthy", "unhealthy", NULL };
    static const char *const flags[] = { "true", "false", "1", "0", "True", "False", "t", "f", NULL };
    const struct strv *codes = filters_get(filters, "exited");
    int64_t code;
    for (size_t i = 0; codes && i < codes->len; i++)
        if (!num_parse_i64(slice_of(codes->items[i]), &code))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid filter 'exited=%.100s': strconv.Atoi: parsing \"%.100s\": invalid syntax", codes->items[i],
                           codes->items[i]);
    if (check_words(filters, "status", "state", statuses, err) < 0 || check_words(filters, "health", "health", healths, err) < 0 ||
        check_words(filters, "is-task", NULL, flags, err) < 0 || check_ports(filters, "publish", err) < 0)
        return -1;
    return check_ports(filters, "expose", err);
}

// ---- one container --------------------------------------------------------------------------------------------------

static int fits_name(const struct filters *filters, const struct engine_container *container, struct arena *arena,
                     bool *fits, struct err *err)
{
    if (filters_match(filters, "name", container->name, fits, err) < 0)
        return -1;
    return *fits ? 0 : filters_match(filters, "name", arena_printf(arena, "/%s", container->name), fits, err);
}

static bool fits_ports(const struct filters *filters, const char *key, const struct engine_container *container,
                       bool published)
{
    const struct strv *values = filters_get(filters, key);
    uint64_t first, last;
    struct slice proto;
    for (size_t v = 0; values && v < values->len; v++) {
        if (!read_ports(values->items[v], &first, &last, &proto))
            continue;
        for (size_t i = 0; i < container->port_len; i++) {
            const struct engine_port *port = &container->ports[i];
            int64_t number = published ? port->public_port : port->private_port;
            if ((!published || port->ip) && slice_eq(proto, port->proto) && number >= (int64_t)first &&
                number <= (int64_t)last)
                return true;
        }
    }
    return !values;
}

static bool fits_volume(const struct filters *filters, const struct engine_container *container)
{
    if (!filters_get(filters, "volume"))
        return true;
    for (size_t i = 0; i < container->mount_len; i++)
        if ((container->mounts[i].name && filters_equal(filters, "volume", container->mounts[i].name)) ||
            filters_equal(filters, "volume", container->mounts[i].source) ||
            filters_equal(filters, "volume", container->mounts[i].destination))
            return true;
    return false;
}

static bool fits_task(const struct filters *filters)
{
    const struct strv *values = filters_get(filters, "is-task");
    return !values || strv_has(values, "false") || strv_has(values, "0") || strv_has(values, "False") ||
           strv_has(values, "f");
}

static bool fits_ancestor(const struct container_query *query, const struct engine_container *container)
{
    return !filters_get(query->filters, "ancestor") ||
           filters_equal(query->filters, "ancestor", container->image_name) ||
           strv_has(&query->ancestors, container->image_id);
}

static bool fits_network(const struct filters *filters, const struct engine_container *container)
{
    for (size_t i = 0; i < container->endpoint_len; i++)
        if (filters_equal(filters, "network", container->endpoints[i].network) ||
            filters_equal(filters, "network", container->endpoints[i].network_id))
            return true;
    return !filters_get(filters, "network");
}

int container_fits(const struct container_query *query, const struct engine_container *container, bool *fits,
                   struct err *err)
{
    const struct filters *filters = query->filters;
    char code[24];
    snprintf(code, sizeof(code), "%lld", (long long)container->exit_code);
    *fits = filters_equal(filters, "status", container->status) &&
            filters_labels(filters, "label", &container->labels) &&
            (!filters_get(filters, "exited") ||
             (!container->running && container->started_ns && filters_equal(filters, "exited", code))) &&
            (!query->before_ns || container->created_ns < query->before_ns) &&
            (!query->since_ns || container->created_ns > query->since_ns) && fits_ancestor(query, container) &&
            fits_volume(filters, container) && fits_network(filters, container) &&
            fits_ports(filters, "publish", container, true) && fits_ports(filters, "expose", container, false) &&
            filters_equal(filters, "health", container->health ? container->health->status : "none") && filters_equal(filters, "isolation", "default") &&
            fits_task(filters);
    if (*fits && filters_match(filters, "id", container->id, fits, err) < 0)
        return -1;
    return *fits ? fits_name(filters, container, query->arena, fits, err) : 0;
}

// ---- events ---------------------------------------------------------------------------------------------------------

const char *const event_filter_keys[] = { "container", "daemon", "event",  "image",  "label",   "network",
                                          "plugin",    "scope",  "type",   "volume", "builder", "node",
                                          "service",   "secret", "config", NULL };

// "exec_create: sh -c x" is meant by "exec_create".
static bool fits_action(const struct filters *filters, const char *action)
{
    _cleanup_free_ char *head = mem_strndup(action, strcspn(action, ":"));
    return filters_equal(filters, "event", action) || filters_equal(filters, "event", head);
}

// By a prefix of its id or of its name; an event of another type does not fit.
static bool fits_object(const struct filters *filters, const char *type, const struct engine_event *event)
{
    const struct strv *values = filters_get(filters, type);
    const char *name = kvs_get(&event->attributes, "name");
    for (size_t i = 0; values && str_eq(event->type, type) && i < values->len; i++)
        if (str_starts(event->actor_id, values->items[i]) || (name && str_starts(name, values->items[i])))
            return true;
    return !values;
}

static bool names_image(const struct strv *values, const char *image)
{
    if (!image)
        return false;
    const char *colon = strrchr(image, ':');
    bool tagged = colon && !strchr(colon, '/');
    _cleanup_free_ char *untagged = mem_strndup(image, tagged ? (size_t)(colon - image) : strlen(image));
    return strv_has(values, image) || strv_has(values, untagged);
}

static bool fits_image(const struct filters *filters, const struct engine_event *event)
{
    const struct strv *values = filters_get(filters, "image");
    if (!values)
        return true;
    return names_image(values, event->actor_id) || names_image(values, kvs_get(&event->attributes, "image")) ||
           (str_eq(event->type, "image") && names_image(values, kvs_get(&event->attributes, "name")));
}

bool event_fits(const struct filters *filters, const struct engine_event *event)
{
    static const char *const objects[] = { "container", "network", "volume", "plugin", "daemon",
                                           "node",      "service", "secret", "config" };
    for (size_t i = 0; i < ARRAY_LEN(objects); i++)
        if (!fits_object(filters, objects[i], event))
            return false;
    return fits_action(filters, event->action) && fits_image(filters, event) &&
           filters_equal(filters, "type", event->type) && filters_equal(filters, "scope", "local") &&
           filters_labels(filters, "label", &event->attributes);
}
