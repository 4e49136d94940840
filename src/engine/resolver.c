// Names of containers by DNS, the daemon's part: a list for each network of clients and the settings of each container, which the
// supervisors read (dns/dns.h). A name server is a supervisor's own: it goes on when the daemon is gone.
#include <errno.h>
#include <fcntl.h>

#include "dns/dns.h"
#include "networks.h"
#include "vm.h"

enum { LIST_MAX = 64 << 20, LINE_MAX = 1 << 20, SETTINGS_MAX = 256 << 10 };
#define CALL_TIMEOUT_NS (10 * NS_PER_S)

// ---- lists ----------------------------------------------------------------------------------------------------------

static int write_list(struct engine *engine, const char *network_id, const struct buf *list, struct err *err)
{
    if (list->size == 0)
        return unlinkat(engine->lists_fd, network_id, 0) == 0 || errno == ENOENT ? 0 : err_errno(err, errno, "names of a network");
    return file_write_at(engine->lists_fd, network_id, list->data, list->size, 0600, false, err);
}

// The text is edited as it is: a thousand containers on a network are some 100 kB, copied in less time than one looks at the clock.
static int edit_list(struct engine *engine, const char *network_id, const char *container_id, const char *line, struct err *err)
{
    _cleanup_buf_ struct buf old = BUF_INIT(LIST_MAX), list = BUF_INIT(LIST_MAX);
    mutex_lock(&engine->names_lock);
    file_read_at(engine->lists_fd, network_id, &old, NULL); // none yet: empty
    int result = 0;
    if (dns_list_edit((struct slice){ buf_text(&old), old.size }, container_id, line, &list))
        result = buf_check(&list, "names of a network", err) < 0 ? -1 : write_list(engine, network_id, &list, err);
    mutex_unlock(&engine->names_lock);
    return result;
}

// ---- one container --------------------------------------------------------------------------------------------------

static bool is_named(const struct endpoint *endpoint)
{
    return endpoint->up && endpoint->bridge && !endpoint->builtin;
}

bool names_wanted(const struct container *container)
{
    for (const struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next)
        if (is_named(endpoint))
            return true;
    return false;
}

bool names_outside(const struct container *container)
{
    for (const struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next)
        if (endpoint->up && endpoint->net.gateway[0])
            return true;
    return false;
}

static char *settings_path(const struct container *container, struct arena *arena)
{
    return arena_printf(arena, "%s/" DNS_SETTINGS_NAME, container->id);
}

static bool names_served(const struct container *container)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    return faccessat(container->engine->tasks_fd, settings_path(container, &arena), F_OK, 0) == 0;
}

static void add_links(const struct endpoint *endpoint, struct arena *arena, struct buf *settings)
{
    const char *name, *alias;
    for (size_t i = 0; i < endpoint->request.links.len; i++)
        if (link_parse(endpoint->request.links.items[i], arena, &name, &alias, NULL) == 0)
            dns_settings_link(settings, endpoint->network_id, alias, name);
}

static int write_settings(struct container *container, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf settings = BUF_INIT(SETTINGS_MAX);
    mutex_lock(&container->lock);
    for (const struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next)
        if (is_named(endpoint)) {
            dns_settings_network(&settings, endpoint->network_id, endpoint->network);
            add_links(endpoint, &arena, &settings);
        }
    bool outside = names_outside(container);
    mutex_unlock(&container->lock);
    resolv_content_named(&container->config.host_config, outside, &arena, &settings);
    return buf_check(&settings, "settings of a name server", err) < 0
               ? -1
               : file_write_at(container->engine->tasks_fd, settings_path(container, &arena), buf_text(&settings), settings.size, 0600,
                               false, err);
}

static int join(struct container *container, const struct endpoint *endpoint, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf line = BUF_INIT(LINE_MAX);
    struct strv names = { 0 };
    endpoint_names(container, container_name(container, &arena), endpoint, &arena, &names);
    dns_list_line(container->id, endpoint->net.address, endpoint->net.address6, (const char *const *)names.items, names.len, &line);
    return buf_check(&line, "names of a container", err) < 0
               ? -1
               : edit_list(container->engine, endpoint->network_id, container->id, buf_text(&line), err);
}

int names_update(struct container *container, struct err *err)
{
    bool any = false;
    for (const struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next) {
        if (!is_named(endpoint))
            continue;
        any = true;
        if (join(container, endpoint, err) < 0)
            return -1;
    }
    return any || names_served(container) ? write_settings(container, err) : 0;
}

void names_leave(struct container *container, const struct endpoint *endpoint)
{
    struct err err = { 0 };
    if (is_named(endpoint) && edit_list(container->engine, endpoint->network_id, container->id, NULL, &err) < 0)
        log_warn("container %.12s: its names: %s", container->id, err.message);
}

void names_withdraw(struct container *container)
{
    for (const struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next)
        names_leave(container, endpoint);
}

// "db:database", "db", and as an inspect answers it "/db:/web/database".
int link_parse(const char *text, struct arena *arena, const char **name, const char **alias, struct err *err)
{
    struct slice rest = slice_of(text), first, second;
    if (str_empty(text))
        return err_set(err, ERR_INVALID_ARGUMENT, "empty string specified for links");
    slice_cut(&rest, ':', &first);
    if (!rest.data)
        second = first;
    else if (!slice_cut(&rest, ':', &second) || rest.data)
        return err_set(err, ERR_INVALID_ARGUMENT, "bad format for links: %.200s", text);
    *name = arena_strndup(arena, first.data, first.size);
    *alias = arena_strndup(arena, second.data, second.size);
    if (**name == '/') {
        const char *last = strrchr(*alias, '/');
        *alias = last ? last + 1 : *alias;
        ++*name;
    }
    return 0;
}

// ---- its name server ------------------------------------------------------------------------------------------------

int names_serve(struct container *container, int netns_fd, struct err *err)
{
    struct net_resolver sockets = { -1, -1 };
    bool guest = vm_wanted(&container->config.host_config);
    mutex_lock(&container->lock);
    struct task_client *client = container->client;
    bool wanted = names_wanted(container);
    mutex_unlock(&container->lock);
    if (!wanted)
        return 0;
    if (!guest && net_resolver_open(netns_fd, &sockets, err) < 0)
        return -1;
    const int fds[] = { container->engine->lists_fd, sockets.udp_fd, sockets.tcp_fd };
    _cleanup_json_ json_t *arguments = json_pack("{s:i, s:i, s:i}", "lists_fd", 0, "udp_fd", guest ? -1 : 1, "tcp_fd", guest ? -1 : 2);
    int result = task_call(client, "resolver", arguments, fds, guest ? 1 : ARRAY_LEN(fds), CALL_TIMEOUT_NS, NULL, NULL, NULL, err);
    fd_close(sockets.udp_fd);
    fd_close(sockets.tcp_fd);
    return result;
}

// In place: it is mounted. What somebody changed meanwhile stays.
static void rewrite_resolv(struct container *container)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(SETTINGS_MAX), settings = BUF_INIT(SETTINGS_MAX);
    struct task_document document;
    const char *path = arena_printf(&arena, "%s/files/resolv.conf", container->id), *before = NULL;
    if (container_document(container, &arena, &document, NULL) < 0 || file_read_at(container->engine->containers_fd, path, &text, NULL) < 0)
        return;
    for (size_t i = 0; i < document.files.len; i++) {
        const struct task_file *file = json_list_at(&document.files, &task_file_table, i);
        before = str_eq(file->path, "/etc/resolv.conf") ? file->content : before;
    }
    if (!str_eq(before, buf_text(&text)))
        return;
    const char *content = resolv_content_named(&container->config.host_config, false, &arena, &settings);
    _cleanup_close_ int fd = openat(container->engine->containers_fd, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fd_write_at(fd, content, strlen(content), 0, NULL) < 0 || ftruncate(fd, (off_t)strlen(content)) < 0)
        log_warn("container %.12s: its /etc/resolv.conf was not changed", container->id);
}

int names_connect(struct container *container, int netns_fd, struct err *err)
{
    if (!names_served(container)) {
        if (names_serve(container, netns_fd, err) < 0)
            return -1;
        rewrite_resolv(container);
    }
    return names_update(container, err);
}

// ---- after a daemon that was killed -----------------------------------------------------------------------------------

static bool is_on(struct engine *engine, const char *network_id, const char *container_id)
{
    bool on = false;
    _cleanup_container_ struct container *container = container_find(engine, container_id, NULL);
    if (!container)
        return false;
    mutex_lock(&container->lock);
    for (const struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next)
        on = on || (is_named(endpoint) && str_eq(endpoint->network_id, network_id));
    on = on && container_is_live(container);
    mutex_unlock(&container->lock);
    return on;
}

// Lines of containers that are not on the network any more: they ended, or left it, while no daemon was there or as it was killed.
void names_sweep(struct engine *engine)
{
    _cleanup_strv_ struct strv networks = { 0 };
    file_list_names(engine->lists_fd, ".", &networks, NULL);
    for (size_t i = 0; i < networks.len; i++) {
        _cleanup_buf_ struct buf list = BUF_INIT(LIST_MAX);
        struct dns_entry entry;
        file_read_at(engine->lists_fd, networks.items[i], &list, NULL);
        struct slice rest = { buf_text(&list), list.size };
        while (dns_list_next(&rest, &entry)) {
            _cleanup_free_ char *id = mem_strndup(entry.container_id.data, entry.container_id.size);
            if (!is_on(engine, networks.items[i], id))
                edit_list(engine, networks.items[i], id, NULL, NULL);
        }
    }
}
