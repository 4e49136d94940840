// What the operator says: defaults for containers, set once, and settings that a reload replaces.
#include <arpa/inet.h>
#include <sys/utsname.h>

#include "engine_private.h"

static void copy_list(struct arena *arena, const struct strv *from, struct strv *to)
{
    *to = (struct strv){ 0 };
    for (size_t i = 0; i < from->len; i++)
        strv_push_arena(to, arena, from->items[i]);
}

// ---- settings -------------------------------------------------------------------------------------------------------

static void copy_settings(struct arena *arena, const struct engine_settings *from, struct engine_settings *to)
{
    *to = *from;
    copy_list(arena, &from->labels, &to->labels);
    copy_list(arena, &from->insecure_registries, &to->insecure_registries);
    copy_list(arena, &from->registry_mirrors, &to->registry_mirrors);
    to->runtime = arena_strdup(arena, from->runtime);
    to->cgroupns_mode = arena_strdup(arena, from->cgroupns_mode);
    to->ipc_mode = arena_strdup(arena, from->ipc_mode);
}

void settings_init(struct engine *engine, const struct engine_settings *settings)
{
    mutex_init(&engine->settings_lock, 0);
    mutex_lock(&engine->settings_lock);
    copy_settings(&engine->settings_arena, settings, &engine->settings);
    mutex_unlock(&engine->settings_lock);
}

void settings_done(struct engine *engine)
{
    mutex_lock(&engine->settings_lock);
    arena_done(&engine->settings_arena);
    mutex_unlock(&engine->settings_lock);
    mutex_done(&engine->settings_lock);
}

void settings_get(struct engine *engine, struct arena *arena, struct engine_settings *out)
{
    mutex_lock(&engine->settings_lock);
    copy_settings(arena, &engine->settings, out);
    mutex_unlock(&engine->settings_lock);
}

// ["a","b"]
static char *list_text(struct arena *arena, const struct strv *list)
{
    _cleanup_json_ json_t *array = json_array();
    for (size_t i = 0; i < list->len; i++)
        json_array_append_new(array, json_new_text(list->items[i]));
    _cleanup_free_ char *text = json_text(array);
    return arena_strdup(arena, text);
}

static void tell_reload(struct engine *engine, const struct engine_settings *settings)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct utsname host = { 0 };
    uname(&host);
    const char *numbers[] = { arena_printf(&arena, "%lld", (long long)settings->downloads),
                              arena_printf(&arena, "%lld", (long long)settings->uploads),
                              arena_printf(&arena, "%lld", (long long)settings->attempts) };
    event_publish(engine, "daemon", "reload", engine->id, "debug", settings->debug ? "true" : "false", "insecure-registries",
                  list_text(&arena, &settings->insecure_registries), "default-cgroupns-mode",
                  str_empty(settings->cgroupns_mode) ? "private" : settings->cgroupns_mode, "default-ipc-mode",
                  str_empty(settings->ipc_mode) ? "private" : settings->ipc_mode, "default-runtime",
                  str_empty(settings->runtime) ? "berth" : settings->runtime, "default-shm-size",
                  arena_printf(&arena, "%lld", (long long)(settings->shm_size ? settings->shm_size : 64 << 20)), "labels", list_text(&arena, &settings->labels), "live-restore", "true",
                  "max-concurrent-downloads", numbers[0], "max-concurrent-uploads", numbers[1], "max-download-attempts", numbers[2], "name",
                  host.nodename, "registry-mirrors", list_text(&arena, &settings->registry_mirrors), NULL);
}

void engine_reload(struct engine *engine, const struct engine_settings *settings)
{
    struct arena fresh = ARENA_INIT, old;
    struct engine_settings copy;
    copy_settings(&fresh, settings, &copy);
    mutex_lock(&engine->settings_lock);
    old = engine->settings_arena;
    engine->settings_arena = fresh;
    engine->settings = copy;
    mutex_unlock(&engine->settings_lock);
    arena_done(&old);
    tell_reload(engine, settings);
}

// ---- defaults -------------------------------------------------------------------------------------------------------

void defaults_copy(struct engine *engine, const struct engine_defaults *from)
{
    struct arena *arena = &engine->defaults_arena;
    struct engine_defaults *to = &engine->defaults;
    *to = *from;
    copy_list(arena, &from->dns, &to->dns);
    copy_list(arena, &from->dns_search, &to->dns_search);
    copy_list(arena, &from->dns_options, &to->dns_options);
    copy_list(arena, &from->host_gateways, &to->host_gateways);
    copy_list(arena, &from->log_opts, &to->log_opts);
    copy_list(arena, &from->cdi_folders, &to->cdi_folders);
    if (!to->cdi_folders.len) {
        strv_push_arena(&to->cdi_folders, arena, "/etc/cdi");
        strv_push_arena(&to->cdi_folders, arena, "/var/run/cdi");
    }
    to->log_driver = arena_strdup(arena, from->log_driver);
    to->cgroup_parent = arena_strdup(arena, from->cgroup_parent);
    to->seccomp = arena_strdup(arena, from->seccomp);
    to->publish_ip = arena_strdup(arena, from->publish_ip);
    to->ulimits = (struct json_list){ 0 };
    for (size_t i = 0; i < from->ulimits.len; i++) {
        const struct ulimit *ulimit = json_list_at(&from->ulimits, &ulimit_table, i);
        struct ulimit *own = json_list_add(&to->ulimits, &ulimit_table, arena);
        *own = (struct ulimit){ arena_strdup(arena, ulimit->name), ulimit->soft, ulimit->hard };
    }
}

static bool open_text(json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return !value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0);
}

static void record_settings(struct engine *engine, json_t *host)
{
    mutex_lock(&engine->settings_lock);
    const struct engine_settings *settings = &engine->settings;
    if (!str_empty(settings->runtime) && open_text(host, "Runtime") && open_text(host, "Isolation"))
        json_object_set_new(host, "Runtime", json_string(settings->runtime));
    if (!str_empty(settings->cgroupns_mode) && open_text(host, "CgroupnsMode"))
        json_object_set_new(host, "CgroupnsMode", json_string(settings->cgroupns_mode));
    if (!str_empty(settings->ipc_mode) && open_text(host, "IpcMode"))
        json_object_set_new(host, "IpcMode", json_string(settings->ipc_mode));
    if (settings->shm_size && !json_integer_value(json_object_get(host, "ShmSize")))
        json_object_set_new(host, "ShmSize", json_integer(settings->shm_size));
    mutex_unlock(&engine->settings_lock);
}

void defaults_record(struct engine *engine, json_t *body)
{
    const struct engine_defaults *defaults = &engine->defaults;
    json_t *host = json_object_get(body, "HostConfig");
    if (!json_is_object(host) && json_object_set_new(body, "HostConfig", host = json_object()) < 0)
        return; // the body is no object: decoding says so
    record_settings(engine, host);
    if (!str_empty(defaults->cgroup_parent) && open_text(host, "CgroupParent"))
        json_object_set_new(host, "CgroupParent", json_string(defaults->cgroup_parent));
    if (!str_empty(defaults->log_driver))
        log_settle(defaults, host);
}

static bool has_ulimit(const struct json_list *list, const char *name)
{
    for (size_t i = 0; i < list->len; i++)
        if (str_eq(((const struct ulimit *)json_list_at(list, &ulimit_table, i))->name, name))
            return true;
    return false;
}

static void add_ulimits(const struct engine_defaults *defaults, struct json_list *list, struct arena *arena)
{
    for (size_t i = 0; i < defaults->ulimits.len; i++) {
        const struct ulimit *ulimit = json_list_at(&defaults->ulimits, &ulimit_table, i);
        if (!has_ulimit(list, ulimit->name))
            *(struct ulimit *)json_list_add(list, &ulimit_table, arena) = *ulimit;
    }
}

static bool has_option(const struct strv *options, const char *prefix)
{
    for (size_t i = 0; i < options->len; i++)
        if (str_starts(options->items[i], prefix))
            return true;
    return false;
}

static void add_security(const struct engine_defaults *defaults, struct host_config *host, struct arena *arena)
{
    if (defaults->no_new_privileges && !has_option(&host->security_opt, "no-new-privileges"))
        strv_push_arena(&host->security_opt, arena, "no-new-privileges");
    if (defaults->seccomp && !host->privileged && !has_option(&host->security_opt, "seccomp"))
        strv_push_arena(&host->security_opt, arena, arena_printf(arena, "seccomp=%s", defaults->seccomp));
}

static void fill_addresses(const struct engine_defaults *defaults, struct host_config *host)
{
    for (size_t i = 0; !str_empty(defaults->publish_ip) && i < host->port_bindings.len; i++) {
        const struct json_list *list = (struct json_list *)host->port_bindings.items + i;
        for (size_t k = 0; k < list->len; k++) {
            struct port_binding *binding = json_list_at(list, &port_binding_table, k);
            if (str_empty(binding->host_ip))
                binding->host_ip = (char *)defaults->publish_ip;
        }
    }
}

// The defaults live as long as the engine: lists may be shared with it.
void defaults_apply(const struct engine *engine, struct host_config *host, struct arena *arena)
{
    const struct engine_defaults *defaults = &engine->defaults;
    if (host->dns.len == 0)
        host->dns = defaults->dns;
    if (host->dns_search.len == 0)
        host->dns_search = defaults->dns_search;
    if (host->dns_options.len == 0)
        host->dns_options = defaults->dns_options;
    if (defaults->init && !json_is_boolean(host->init_raw))
        host->init_raw = json_true(); // one for ever, not counted
    add_ulimits(defaults, &host->ulimits, arena);
    add_security(defaults, host, arena);
    fill_addresses(defaults, host);
}

// One of each kind, as Docker has it.
static int check_gateways(const struct strv *gateways, struct err *err)
{
    unsigned char bytes[16];
    size_t len[2] = { 0, 0 };
    for (size_t i = 0; i < gateways->len; i++) {
        bool v6 = strchr(gateways->items[i], ':');
        if (inet_pton(v6 ? AF_INET6 : AF_INET, gateways->items[i], bytes) != 1)
            return err_set(err, ERR_INVALID_ARGUMENT, "--host-gateway-ip: invalid IP address: %.100s", gateways->items[i]);
        if (++len[v6] > 1)
            return err_set(err, ERR_INVALID_ARGUMENT, "only one %s host gateway IP address can be specified", v6 ? "IPv6" : "IPv4");
    }
    return 0;
}

// As if a client had asked for all of it.
int defaults_check(struct engine *engine, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_json_ json_t *body = json_pack("{s:s}", "Image", "x");
    struct container_config config;
    unsigned char address[16];
    const char *ip = engine->defaults.publish_ip;
    defaults_record(engine, body);
    if (check_gateways(&engine->defaults.host_gateways, err) < 0)
        return -1;
    if (!str_empty(ip) && inet_pton(AF_INET, ip, address) != 1 && inet_pton(AF_INET6, ip, address) != 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid IP address: %s", ip);
    if (json_decode(&container_config_table, body, &config, &arena, NULL, err) < 0)
        return -1;
    defaults_apply(engine, &config.host_config, &arena);
    return check_config(&config, err) < 0 || security_check(&config.host_config, &arena, err) < 0 ? err_wrap(err, "defaults of containers")
                                                                                                 : 0;
}
