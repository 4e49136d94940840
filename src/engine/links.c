#include "links.h"

#include <ctype.h>
#include <fcntl.h>

#include "namespaces.h"
#include "networks.h"

enum { CHAIN_MAX = 16, HOSTS_MAX = 32 << 20, ALIAS_MAX = 255 };

bool link_split(const char *text, char id[65], const char **alias)
{
    if (strlen(text) < 66 || text[64] != ':')
        return false;
    memcpy(id, text, 64);
    id[64] = '\0';
    *alias = text + 65;
    return hex_valid(slice_of(id));
}

// A network of clients has names by DNS; there is nothing to link where the network is another's.
static bool is_for_mode(const char *mode)
{
    return str_empty(mode) || str_eq(mode, "default") || str_eq(mode, "bridge") || str_eq(mode, "none");
}

bool links_any(const struct container_config *config)
{
    return config->host_config.links.len > 0 && is_for_mode(config->host_config.network_mode);
}

// ---- create ---------------------------------------------------------------------------------------------------------

// It becomes a word of /etc/hosts and the beginning of variables' names.
static int check_alias(const char *alias, struct err *err)
{
    size_t size = strlen(alias);
    for (const char *c = alias; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == 127 || strchr("/=:#", *c))
            size = 0;
    return size > 0 && size <= ALIAS_MAX ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "bad format for links: invalid alias \"%.200s\"", alias);
}

static struct container *find_child(struct engine *engine, const char *name, struct err *err)
{
    struct err failed = { 0 };
    struct container *child = container_find(engine, name, &failed);
    const char *other = child ? namespaces_other(namespaces_network(&child->config)) : NULL;
    for (int i = 0; other && i < CHAIN_MAX; i++) { // whose network it is
        struct container *owner = container_find(engine, other, &failed);
        container_unref(child);
        child = owner;
        other = child ? namespaces_other(namespaces_network(&child->config)) : NULL;
    }
    if (!child)
        err_set(err, ERR_INVALID_ARGUMENT, "could not get container for %.200s: %s", name, failed.message);
    return child;
}

static int record_one(struct engine *engine, const char *text, json_t *out, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const char *name, *alias, *known;
    char id[65];
    size_t i;
    json_t *item;
    if (link_parse(text, &arena, &name, &alias, err) < 0 || check_alias(alias, err) < 0)
        return -1;
    _cleanup_container_ struct container *child = find_child(engine, name, err);
    if (!child)
        return -1;
    if (str_eq(namespaces_network(&child->config), "host"))
        return err_set(err, ERR_INVALID_ARGUMENT, "conflicting options: host type networking can't be used with links. This would result in "
                                                  "undefined behavior");
    json_array_foreach (out, i, item)
        if (link_split(json_string_value(item), id, &known) && str_eq(known, alias))
            return 0; // the first of that name counts
    json_array_append_new(out, json_sprintf("%s:%s", child->id, alias));
    return 0;
}

int links_record(struct engine *engine, json_t *body, struct err *err)
{
    json_t *host = config_member(body, "HostConfig"), *links = config_member(host, "Links"), *item;
    const char *mode = json_string_value(config_member(host, "NetworkMode"));
    size_t i;
    if (!json_is_array(links) || json_array_size(links) == 0 || !is_for_mode(mode))
        return 0;
    if (engine->bridge_isolated)
        return err_set(err, ERR_NOT_IMPLEMENTED, "HostConfig.Links: not supported with --icc=false: no way from one container of the default bridge to another");
    _cleanup_json_ json_t *recorded = json_array();
    json_array_foreach (links, i, item)
        if (!json_is_string(item))
            return 0; // decoding says so
        else if (record_one(engine, json_string_value(item), recorded, err) < 0)
            return -1;
    config_put(host, "Links", json_incref(recorded));
    return 0;
}

// ---- the children ---------------------------------------------------------------------------------------------------

static void copy_links(struct container *container, struct arena *arena, struct strv *out)
{
    *out = (struct strv){ 0 };
    mutex_lock(&container->lock);
    for (size_t i = 0; links_any(&container->config) && i < container->config.host_config.links.len; i++)
        strv_push_arena(out, arena, container->config.host_config.links.items[i]);
    mutex_unlock(&container->lock);
}

void links_children(struct container *container, struct arena *arena, struct strv *ids)
{
    struct strv links;
    char id[65];
    const char *alias;
    copy_links(container, arena, &links);
    for (size_t i = 0; i < links.len; i++)
        if (link_split(links.items[i], id, &alias))
            strv_push_arena(ids, arena, id);
}

struct child {
    struct container *container; // a reference; NULL: it is gone, which is a link that can't be had
    const char *name, *alias;
    bool live, on_bridge;
    char address[INET_ADDRSTRLEN], address6[INET6_ADDRSTRLEN];
};

static const struct endpoint *on_default_bridge(const struct container *container) REQUIRES(container->lock)
{
    for (const struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next)
        if (str_eq(endpoint->network, "bridge"))
            return endpoint;
    return NULL;
}

static bool look_at(struct engine *engine, const char *link, struct arena *arena, struct child *out)
{
    char id[65];
    *out = (struct child){ 0 };
    if (!link_split(link, id, &out->alias))
        return false;
    if (!(out->container = container_find(engine, id, NULL))) {
        out->name = arena_strndup(arena, id, 12);
        return true;
    }
    out->name = container_name(out->container, arena);
    mutex_lock(&out->container->lock);
    const struct endpoint *endpoint = on_default_bridge(out->container);
    out->live = container_is_live(out->container);
    out->on_bridge = endpoint != NULL;
    if (endpoint && endpoint->up) {
        snprintf(out->address, sizeof(out->address), "%s", endpoint->net.address);
        snprintf(out->address6, sizeof(out->address6), "%s", endpoint->net.address6);
    }
    mutex_unlock(&out->container->lock);
    return true;
}

// ---- variables ------------------------------------------------------------------------------------------------------

struct port {
    uint64_t number;
    char proto[8];
};

static int compare_ports(const void *a, const void *b)
{
    const struct port *one = a, *other = b;
    bool tcp = str_eq(one->proto, "tcp"), other_tcp = str_eq(other->proto, "tcp");
    if (tcp != other_tcp)
        return tcp ? -1 : 1;
    return one->number < other->number ? -1 : one->number > other->number;
}

// "80/tcp", the lowest of TCP first.
static size_t sort_ports(const struct strv *exposed, struct arena *arena, struct port **out)
{
    size_t len = 0;
    *out = arena_alloc(arena, (exposed->len + 1) * sizeof(**out));
    for (size_t i = 0; i < exposed->len; i++) {
        struct slice proto = slice_of(exposed->items[i]), number;
        struct port *port = &(*out)[len];
        if (!slice_cut(&proto, '/', &number) || !num_parse_u64(number, 65535, &port->number) || proto.size >= sizeof(port->proto))
            continue;
        snprintf(port->proto, sizeof(port->proto), "%.*s", proto.data ? (int)proto.size : 3, proto.data ? proto.data : "tcp");
        len++;
    }
    if (len)
        qsort(*out, len, sizeof(**out), compare_ports);
    return len;
}

static char *upper(const char *text, struct arena *arena)
{
    char *copy = arena_strdup(arena, text);
    for (char *c = copy; *c; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    return copy;
}

struct variables {
    const char *name; // "DB"
    const char *address;
    struct arena *arena;
    struct strv *out;
};

static void add_port(const struct variables *to, const struct port *port)
{
    const char *prefix = arena_printf(to->arena, "%s_PORT_%llu_%s", to->name, (unsigned long long)port->number, upper(port->proto, to->arena));
    strv_push_arena(to->out, to->arena, arena_printf(to->arena, "%s=%s://%s:%llu", prefix, port->proto, to->address, (unsigned long long)port->number));
    strv_push_arena(to->out, to->arena, arena_printf(to->arena, "%s_ADDR=%s", prefix, to->address));
    strv_push_arena(to->out, to->arena, arena_printf(to->arena, "%s_PORT=%llu", prefix, (unsigned long long)port->number));
    strv_push_arena(to->out, to->arena, arena_printf(to->arena, "%s_PROTO=%s", prefix, port->proto));
}

// Of ports that follow each other, by the first one's name.
static void add_range(const struct variables *to, const struct port *first, const struct port *last)
{
    const char *prefix = arena_printf(to->arena, "%s_PORT_%llu_%s", to->name, (unsigned long long)first->number, upper(first->proto, to->arena));
    const struct { const char *word; const struct port *port; } ends[] = { { "START", first }, { "END", last } };
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        const struct port *port = ends[i].port;
        strv_push_arena(to->out, to->arena, arena_printf(to->arena, "%s_%s=%s://%s:%llu", prefix, ends[i].word, port->proto, to->address, (unsigned long long)port->number));
        strv_push_arena(to->out, to->arena, arena_printf(to->arena, "%s_PORT_%s=%llu", prefix, ends[i].word, (unsigned long long)port->number));
    }
}

static void add_ports(const struct variables *to, const struct strv *exposed)
{
    struct port *ports;
    size_t len = sort_ports(exposed, to->arena, &ports), first = 0;
    if (len)
        strv_push_arena(to->out, to->arena, arena_printf(to->arena, "%s_PORT=%s://%s:%llu", to->name, ports[0].proto, to->address, (unsigned long long)ports[0].number));
    for (size_t i = 0; i < len; i++) {
        bool follows = i + 1 < len && ports[i + 1].number == ports[i].number + 1 && str_eq(ports[i + 1].proto, ports[i].proto);
        add_port(to, &ports[i]);
        if (!follows && first < i)
            add_range(to, &ports[first], &ports[i]);
        first = follows ? first : i + 1;
    }
}

// Docker leaves out two that every image has.
static void add_variables(const struct child *child, const char *parent, struct arena *arena, struct strv *env)
{
    const struct oci_image_process *process = &child->container->config.process;
    const struct variables to = { upper(child->alias, arena), child->address, arena, env };
    add_ports(&to, &process->exposed_ports);
    strv_push_arena(env, arena, arena_printf(arena, "%s_NAME=/%s/%s", to.name, parent, child->alias));
    for (size_t i = 0; i < process->env.len; i++) {
        const char *entry = process->env.items[i];
        if (strchr(entry, '=') && !str_starts(entry, "HOME=") && !str_starts(entry, "PATH="))
            strv_push_arena(env, arena, arena_printf(arena, "%s_ENV_%s", to.name, entry));
    }
}

// ---- a start, an exec -----------------------------------------------------------------------------------------------

static bool is_on_bridge(struct container *container)
{
    mutex_lock(&container->lock);
    bool on = on_default_bridge(container) != NULL;
    mutex_unlock(&container->lock);
    return on;
}

static int check_child(const struct child *child, const char *parent, struct err *err)
{
    if (!child->live)
        return err_set(err, ERR_INTERNAL, "Cannot link to a non running container: /%s AS /%s/%s", child->name, parent, child->alias);
    return child->on_bridge ? 0 : err_set(err, ERR_INTERNAL, "Cannot link to /%s, as it does not belong to the default network", child->name);
}

// The alias first, by which the lines are found again.
static void add_lines(const struct child *child, struct buf *out)
{
    bool named = str_eq(child->alias, child->name);
    const char *addresses[] = { child->address, child->address6 };
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++)
        if (addresses[i][0])
            buf_addf(out, "%s\t%s %s%s%s\n", addresses[i], child->alias, child->container->config.hostname, named ? "" : " ", named ? "" : child->name);
}

int links_resolve(struct container *container, struct arena *arena, struct strv *env, char **hosts, struct err *err)
{
    _cleanup_buf_ struct buf lines = BUF_INIT(HOSTS_MAX);
    struct strv links;
    copy_links(container, arena, &links);
    *hosts = (char *)"";
    if (links.len == 0 || !is_on_bridge(container))
        return 0;
    const char *parent = container_name(container, arena);
    for (size_t i = 0; i < links.len; i++) {
        struct child child;
        if (!look_at(container->engine, links.items[i], arena, &child))
            continue;
        int fits = check_child(&child, parent, err);
        if (fits == 0) {
            add_variables(&child, parent, arena, env);
            add_lines(&child, &lines);
        }
        container_unref(child.container);
        if (fits < 0)
            return -1;
    }
    *hosts = arena_strdup(arena, buf_text(&lines));
    return 0;
}

void links_environment(struct container *container, struct arena *arena, struct strv *env)
{
    struct strv links;
    copy_links(container, arena, &links);
    if (links.len == 0 || !is_on_bridge(container))
        return;
    const char *parent = container_name(container, arena);
    for (size_t i = 0; i < links.len; i++) {
        struct child child;
        if (!look_at(container->engine, links.items[i], arena, &child))
            continue;
        if (child.container && child.live && child.address[0])
            add_variables(&child, parent, arena, env);
        container_unref(child.container);
    }
}

// ---- a child has another address ------------------------------------------------------------------------------------

// In place: it is mounted. What else stands in the file stays.
static void readdress(struct container *parent, const char *alias, const char *address, const char *address6)
{
    _cleanup_free_ char *path = mem_printf("%s/files/hosts", parent->id);
    _cleanup_buf_ struct buf text = BUF_INIT(HOSTS_MAX), out = BUF_INIT(HOSTS_MAX);
    mutex_lock(&parent->engine->names_lock);
    bool read = file_read_at(parent->engine->containers_fd, path, &text, NULL) == 0;
    struct slice rest = slice_of(buf_text(&text)), line;
    while (read && slice_cut(&rest, '\n', &line)) {
        struct slice names = line, old, first;
        slice_cut(&names, '\t', &old);
        struct slice words = names;
        bool same = names.data && slice_cut(&words, ' ', &first) && slice_eq(first, alias);
        const char *now = same && memchr(old.data, ':', old.size) ? address6 : address;
        if (same && *now)
            buf_addf(&out, "%s\t%.*s\n", now, (int)names.size, names.data);
        else if (rest.data || line.size)
            buf_addf(&out, "%.*s\n", (int)line.size, line.data);
    }
    _cleanup_close_ int fd = read ? openat(parent->engine->containers_fd, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (fd >= 0 && (pwrite(fd, out.data, out.size, 0) != (ssize_t)out.size || ftruncate(fd, (off_t)out.size) < 0))
        log_warn("container %.12s: its /etc/hosts was not changed", parent->id);
    mutex_unlock(&parent->engine->names_lock);
}

static void tell_one(struct container *parent, const char *child_id, const char *address, const char *address6)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct strv links;
    char id[65];
    const char *alias;
    copy_links(parent, &arena, &links);
    for (size_t i = 0; i < links.len; i++)
        if (link_split(links.items[i], id, &alias) && str_eq(id, child_id))
            readdress(parent, alias, address, address6);
}

// Those that have any link at all, which are few.
static size_t take_parents(struct engine *engine, struct arena *arena, struct container ***out)
{
    size_t len = 0, all = 0;
    mutex_lock(&engine->list_lock);
    for (struct container *c = engine->containers; c; c = c->next)
        all += links_any(&c->config);
    *out = arena_alloc(arena, (all + 1) * sizeof(**out));
    for (struct container *c = engine->containers; c && len < all; c = c->next)
        if (!c->hidden && links_any(&c->config))
            (*out)[len++] = container_ref(c);
    mutex_unlock(&engine->list_lock);
    return len;
}

void links_tell_parents(struct container *container)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct container **parents;
    char address[INET_ADDRSTRLEN] = "", address6[INET6_ADDRSTRLEN] = "";
    mutex_lock(&container->lock);
    const struct endpoint *endpoint = on_default_bridge(container);
    if (endpoint && endpoint->up) {
        snprintf(address, sizeof(address), "%s", endpoint->net.address);
        snprintf(address6, sizeof(address6), "%s", endpoint->net.address6);
    }
    mutex_unlock(&container->lock);
    size_t len = address[0] ? take_parents(container->engine, &arena, &parents) : 0;
    for (size_t i = 0; i < len; i++) {
        mutex_lock(&parents[i]->lock);
        bool live = container_is_live(parents[i]);
        mutex_unlock(&parents[i]->lock);
        if (live)
            tell_one(parents[i], container->id, address, address6);
        container_unref(parents[i]);
    }
}

// ---- what is shown --------------------------------------------------------------------------------------------------

json_t *links_show(struct container *container)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct strv links;
    copy_links(container, &arena, &links);
    json_t *shown = links.len ? json_array() : NULL;
    const char *parent = links.len ? container_name(container, &arena) : NULL;
    for (size_t i = 0; i < links.len; i++) {
        struct child child;
        if (!look_at(container->engine, links.items[i], &arena, &child))
            continue;
        json_array_append_new(shown, json_sprintf("/%s:/%s/%s", child.name, parent, child.alias));
        container_unref(child.container);
    }
    return shown;
}

void engine_link_names(struct engine *engine, struct arena *arena, struct engine_container *containers, size_t len)
{
    struct container **parents;
    size_t parent_len = take_parents(engine, arena, &parents);
    for (size_t i = 0; i < parent_len; i++) {
        struct strv links;
        char id[65];
        const char *alias;
        copy_links(parents[i], arena, &links);
        const char *name = container_name(parents[i], arena);
        for (size_t l = 0; l < links.len; l++)
            for (size_t c = 0; link_split(links.items[l], id, &alias) && c < len; c++)
                if (str_eq(containers[c].id, id))
                    strv_push_arena(&containers[c].link_names, arena, arena_printf(arena, "/%s/%s", name, alias));
        container_unref(parents[i]);
    }
}

bool links_find(const struct container *parent, const char *alias, char id[65])
{
    const char *known;
    for (size_t i = 0; links_any(&parent->config) && i < parent->config.host_config.links.len; i++)
        if (link_split(parent->config.host_config.links.items[i], id, &known) && str_eq(known, alias))
            return true;
    return false;
}

// ---- rm --link ------------------------------------------------------------------------------------------------------

// Needs container_begin().
static bool drop_link(struct container *parent, const char *alias) REQUIRES(parent->lock)
{
    struct strv *links = &parent->config.host_config.links;
    json_t *recorded = config_member(config_member(parent->body, "HostConfig"), "Links");
    char id[65];
    const char *known;
    for (size_t i = 0; i < links->len; i++)
        if (link_split(links->items[i], id, &known) && str_eq(known, alias)) {
            memmove(&links->items[i], &links->items[i + 1], (links->len - i - 1) * sizeof(*links->items));
            links->len--;
            json_array_remove(recorded, i);
            return true;
        }
    return false;
}

// The one that a name without a parent names can't be without it.
static int refuse_own_name(struct engine *engine, const char *ref, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    return container ? err_set(err, ERR_INTERNAL, "Conflict, cannot remove the default link name of the container") : -1;
}

int engine_unlink(struct engine *engine, const char *ref, struct err *err)
{
    const char *path = ref + (ref[0] == '/'), *slash = strrchr(path, '/');
    if (!slash)
        return refuse_own_name(engine, ref, err);
    _cleanup_free_ char *name = mem_strndup(path, (size_t)(slash - path));
    _cleanup_container_ struct container *parent = container_find(engine, name, err);
    if (!parent || container_begin(parent, err) < 0)
        return -1;
    mutex_lock(&parent->lock);
    bool dropped = drop_link(parent, slash + 1);
    mutex_unlock(&parent->lock);
    int result = dropped ? record_save_body(parent, err) : err_set(err, ERR_NOT_FOUND, "No such container: %.200s", ref);
    container_end(parent);
    return result;
}
