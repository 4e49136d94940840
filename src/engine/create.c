// create: the client's configuration is checked whole, merged with the image's, and becomes a record. Nothing runs yet.
#include <errno.h>
#include <fcntl.h>
#include <sys/sysinfo.h>

#include "engine_private.h"
#include "mounts.h"

// ---- checks ---------------------------------------------------------------------------------------------------------

static int not_yet(struct err *err, const char *path, const char *value)
{
    return err_set(err, ERR_NOT_IMPLEMENTED, "%s: %s is not supported yet", path, value);
}

static int check_network(const struct container_config *config, struct err *err)
{
    const char *mode = config->host_config.network_mode;
    if (!str_empty(mode) && (str_eq(mode, "host") || str_starts(mode, "container:")))
        return not_yet(err, "HostConfig.NetworkMode", mode);
    if (config->endpoints.len > 1)
        return not_yet(err, "NetworkingConfig.EndpointsConfig", "more than one network");
    for (size_t i = 0; i < config->endpoints.len; i++) {
        const struct endpoint_request *endpoint = json_map_at(&config->endpoints, &endpoint_request_table, i);
        if (!str_empty(endpoint->mac_address))
            return not_yet(err, "NetworkingConfig.EndpointsConfig.MacAddress", "a chosen address");
    }
    return 0;
}

static int check_log(const struct log_config *log, struct err *err)
{
    if (!str_empty(log->type) && !str_eq(log->type, "json-file") && !str_eq(log->type, "none"))
        return not_yet(err, "HostConfig.LogConfig.Type", log->type);
    if (log->config.len > 0)
        return not_yet(err, "HostConfig.LogConfig.Config", log->config.items[0].key);
    return 0;
}

static int check_security(const struct strv *options, struct err *err)
{
    static const char *const known[] = { "no-new-privileges",      "no-new-privileges:true", "no-new-privileges=true",
                                         "no-new-privileges:false", "no-new-privileges=false", "seccomp=unconfined",
                                         "seccomp:unconfined",     "seccomp=builtin",        "label=disable",
                                         "label:disable",          "apparmor=unconfined",    "apparmor:unconfined" };
    for (size_t i = 0; i < options->len; i++) {
        bool found = false;
        for (size_t k = 0; k < ARRAY_LEN(known) && !found; k++)
            found = str_eq(options->items[i], known[k]);
        if (!found)
            return not_yet(err, "HostConfig.SecurityOpt", options->items[i]);
    }
    return 0;
}

static int check_limits(const struct host_config *host, struct err *err)
{
    int cpus = get_nprocs();
    if (host->memory < 0 || host->memory_reservation < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.Memory: must not be negative");
    if (host->memory_swap < -1)
        return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.MemorySwap: must be -1 or more");
    if (host->memory_swap > 0 && host->memory == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "You should always set the Memory limit when using Memoryswap limit, see usage");
    if (host->memory_swap > 0 && host->memory_swap < host->memory)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "Minimum memoryswap limit should be larger than memory limit, see usage");
    if (host->memory && host->memory_reservation > host->memory)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "Minimum memory limit can not be less than memory reservation limit, see usage");
    if (host->nano_cpus && (host->cpu_quota || host->cpu_period))
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "Conflicting options: Nano CPUs and CPU %s cannot both be set",
                       host->cpu_period ? "Period" : "Quota");
    if (host->nano_cpus < 0 || host->nano_cpus > cpus * INT64_C(1000000000))
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", cpus, cpus);
    if (host->cpu_period && (host->cpu_period < 1000 || host->cpu_period > 1000000))
        return err_set(err, ERR_INVALID_ARGUMENT, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    if (host->cpu_quota > 0 && host->cpu_quota < 1000)
        return err_set(err, ERR_INVALID_ARGUMENT, "CPU cfs quota can not be less than 1ms (i.e. 1000)");
    if (host->shm_size < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "SHM size can not be less than 0");
    return 0;
}

static int check_sysctls(const struct kvs *sysctls, struct err *err)
{
    static const char *const prefixes[] = { "net.", "fs.mqueue.", "kernel.shm", "kernel.msg", "kernel.sem" };
    for (size_t i = 0; i < sysctls->len; i++) {
        const char *key = sysctls->items[i].key;
        bool namespaced = !strstr(key, "..") && !strchr(key, '/');
        bool known = false;
        for (size_t k = 0; k < ARRAY_LEN(prefixes); k++)
            known = known || str_starts(key, prefixes[k]);
        if (!namespaced || !known)
            return err_set(err, ERR_INVALID_ARGUMENT, "sysctl '%s' is not allowed", key);
        if (strchr(sysctls->items[i].value, '\n'))
            return err_set(err, ERR_INVALID_ARGUMENT, "sysctl '%s': the value has a line break", key);
    }
    return 0;
}

static int check_host_config(const struct host_config *host, struct err *err)
{
    if (!str_empty(host->runtime) && !str_eq(host->runtime, "berth") && !str_eq(host->runtime, "runc"))
        return err_set(err, ERR_INVALID_ARGUMENT, "unknown or invalid runtime name: %s", host->runtime);
    if (!str_empty(host->isolation) && !str_eq(host->isolation, "default") && !str_eq(host->isolation, "container"))
        return not_yet(err, "HostConfig.Isolation", host->isolation);
    if (!str_empty(host->restart_policy.name) && !str_eq(host->restart_policy.name, "no")) {
        if (host->auto_remove)
            return err_set(err, ERR_INVALID_ARGUMENT, "can't create 'AutoRemove' container with restart policy");
        return not_yet(err, "HostConfig.RestartPolicy.Name", host->restart_policy.name);
    }
    if (check_log(&host->log_config, err) < 0 || check_security(&host->security_opt, err) < 0 ||
        check_limits(host, err) < 0 || check_sysctls(&host->sysctls, err) < 0)
        return -1;
    return 0;
}

static int check_process(const struct oci_image_process *process, struct err *err)
{
    int ignored;
    if (!str_empty(process->working_dir) && process->working_dir[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "the working directory '%s' is invalid, it needs to be an absolute path",
                       process->working_dir);
    if (!str_empty(process->stop_signal) && signal_parse(process->stop_signal, &ignored, err) < 0)
        return -1;
    for (size_t i = 0; i < process->env.len; i++)
        if (process->env.items[i][0] == '=' || process->env.items[i][0] == 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid environment variable: %s", process->env.items[i]);
    return 0;
}

// ---- merging the image's configuration in ---------------------------------------------------------------------------

static void merge_list(struct strv *into, struct arena *arena, const struct strv *from)
{
    for (size_t i = 0; i < from->len; i++)
        if (!strv_has(into, from->items[i]))
            strv_push_arena(into, arena, from->items[i]);
}

static void merge_env(struct oci_image_process *into, struct arena *arena, const struct strv *image_env)
{
    struct strv merged = { 0 };
    for (size_t i = 0; i < image_env->len; i++)
        strv_push_arena(&merged, arena, image_env->items[i]);
    for (size_t i = 0; i < into->env.len; i++)
        strv_env_set(&merged, arena, into->env.items[i]);
    into->env = merged;
}

static void merge_labels(struct kvs *into, struct arena *arena, const struct kvs *from)
{
    struct kvs merged = { arena_alloc(arena, (into->len + from->len + 1) * sizeof(struct kv)), 0 };
    for (size_t i = 0; i < from->len; i++)
        if (!kvs_get(into, from->items[i].key))
            merged.items[merged.len++] = (struct kv){ arena_strdup(arena, from->items[i].key),
                                                      arena_strdup(arena, from->items[i].value) };
    for (size_t i = 0; i < into->len; i++)
        merged.items[merged.len++] = into->items[i];
    *into = merged;
}

static void merge_text(char **into, struct arena *arena, const char *from)
{
    if (str_empty(*into))
        *into = arena_strdup(arena, from);
}

// An entrypoint of one empty word is the client's way to say "none, not even the image's".
static void merge_command(struct oci_image_process *into, struct arena *arena, const struct oci_image_process *from)
{
    bool reset = into->entrypoint.len == 1 && into->entrypoint.items[0][0] == 0;
    if (into->entrypoint.len == 0) {
        if (into->cmd.len == 0)
            merge_list(&into->cmd, arena, &from->cmd);
        for (size_t i = 0; i < from->entrypoint.len; i++)
            strv_push_arena(&into->entrypoint, arena, from->entrypoint.items[i]);
    }
    if (reset)
        into->entrypoint = (struct strv){ 0 };
}

static void merge_image(struct container *container, const struct oci_image_process *image)
{
    struct oci_image_process *process = &container->config.process;
    struct arena *arena = &container->arena;
    merge_command(process, arena, image);
    merge_env(process, arena, &image->env);
    merge_labels(&process->labels, arena, &image->labels);
    merge_list(&process->exposed_ports, arena, &image->exposed_ports);
    merge_list(&process->volumes, arena, &image->volumes);
    merge_text(&process->user, arena, image->user);
    merge_text(&process->working_dir, arena, image->working_dir);
    merge_text(&process->stop_signal, arena, image->stop_signal);
}

// ---- names ----------------------------------------------------------------------------------------------------------

static const char *const first_words[] = { "brave", "calm", "clear", "deep", "eager", "fair", "gentle", "keen",
                                           "lively", "merry", "mild", "noble", "proud", "quiet", "rapid", "steady",
                                           "swift", "tidal", "trim", "windy" };
static const char *const second_words[] = { "anchor", "beacon", "bollard", "buoy", "capstan", "compass", "cutter", "ferry",
                                            "gull", "harbor", "jetty", "keel", "ketch", "lagoon", "mast", "mooring",
                                            "pier", "quay", "rudder", "schooner", "sextant", "sloop", "tern", "tide" };

static bool name_taken(struct engine *engine, const char *name, char id[65]) REQUIRES(engine->list_lock)
{
    for (struct container *c = engine->containers; c; c = c->next)
        if (str_eq(c->name, name)) {
            memcpy(id, c->id, 65);
            return true;
        }
    return false;
}

static char *draw_name(struct engine *engine) REQUIRES(engine->list_lock)
{
    for (unsigned attempt = 0;; attempt++) {
        uint32_t draw[3];
        char taken_by[65];
        random_bytes(draw, sizeof(draw));
        char *name = mem_printf("%s_%s", first_words[draw[0] % ARRAY_LEN(first_words)],
                                second_words[draw[1] % ARRAY_LEN(second_words)]);
        if (attempt > 2) {
            char *longer = mem_printf("%s%u", name, draw[2] % 10000);
            free(name);
            name = longer;
        }
        if (!name_taken(engine, name, taken_by))
            return name;
        free(name);
    }
}

// Puts the container into the list under its name, so that nobody else gets the name from here on.
static int enlist(struct container *container, const char *name, struct err *err)
{
    struct engine *engine = container->engine;
    char taken_by[65];
    int result = 0;
    mutex_lock(&engine->list_lock);
    if (name && name_taken(engine, name, taken_by)) {
        result = err_set(err, ERR_CONFLICT,
                         "Conflict. The container name \"/%s\" is already in use by container \"%s\". You have to remove "
                         "(or rename) that container to be able to reuse that name.",
                         name, taken_by);
    } else {
        container->name = name ? mem_strdup(name) : draw_name(engine);
        container->next = engine->containers;
        engine->containers = container_ref(container);
    }
    mutex_unlock(&engine->list_lock);
    return result;
}

void container_delist(struct container *container)
{
    struct engine *engine = container->engine;
    struct container *listed = NULL;
    mutex_lock(&engine->list_lock);
    for (struct container **at = &engine->containers; *at; at = &(*at)->next)
        if (*at == container) {
            listed = container;
            *at = container->next;
            break;
        }
    mutex_unlock(&engine->list_lock);
    container_unref(listed);
}

// ---- the verb -------------------------------------------------------------------------------------------------------

static int parse_body(struct container *container, json_t *body, struct err *err)
{
    struct container_config *config = &container->config;
    container->body = json_incref(body);
    if (json_decode(&container_config_table, body, config, &container->arena, NULL, err) < 0)
        return -1;
    config->stop_timeout = -1;
    if (json_is_integer(config->stop_timeout_raw))
        config->stop_timeout = json_integer_value(config->stop_timeout_raw);
    return 0;
}

static int fill_from_image(struct container *container, struct image *image, struct arena *arena, struct strv *warnings,
                           struct err *err)
{
    struct container_config *config = &container->config;
    if (str_empty(config->image))
        return err_set(err, ERR_INVALID_ARGUMENT, "config.Image must be specified");
    if (image_get(container->engine->images, config->image, arena, image, err) < 0)
        return -1;
    container->image_id = arena_strdup(&container->arena, image->id);
    container->image_name = arena_strdup(&container->arena, config->image);
    merge_image(container, &image->config.config);
    if (config->process.entrypoint.len + config->process.cmd.len == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "no command specified");
    if (image->config.config.healthcheck)
        strv_push_arena(warnings, arena, "The image's HEALTHCHECK is not run yet");
    return check_process(&config->process, err);
}

static int make_folder(struct container *container, struct err *err)
{
    char path[80];
    snprintf(path, sizeof(path), "%s/diff", container->id);
    if (file_mkdirs(container->engine->containers_fd, path, 0755, err) < 0)
        return -1;
    snprintf(path, sizeof(path), "%s/work", container->id);
    if (file_mkdirs(container->engine->containers_fd, path, 0700, err) < 0)
        return -1;
    return fchmodat(container->engine->containers_fd, container->id, 0710, 0) < 0
               ? err_errno(err, errno, "container folder %s", container->id)
               : 0;
}

static int build(struct container *container, json_t *body, struct image *image, struct arena *arena,
                 struct strv *warnings, struct err *err)
{
    struct oci_capabilities *ignored;
    if (parse_body(container, body, err) < 0 || check_network(&container->config, err) < 0 ||
        check_host_config(&container->config.host_config, err) < 0 ||
        capabilities_from_config(&container->config.host_config, &container->arena, &ignored, err) < 0 ||
        fill_from_image(container, image, arena, warnings, err) < 0)
        return -1;
    if (str_empty(container->config.hostname))
        container->config.hostname = arena_strndup(&container->arena, container->id, 12);
    container->config.host_config.network_mode =
        str_empty(container->config.host_config.network_mode) || str_eq(container->config.host_config.network_mode, "default")
            ? (char *)"bridge"
            : container->config.host_config.network_mode;
    return 0;
}

int engine_create(struct engine *engine, const char *name, const struct container_config *config, json_t *body,
                  struct arena *arena, char id[65], struct strv *warnings, struct err *err)
{
    char fresh_id[65];
    if (!str_empty(name) && name[0] == '/')
        name++;
    if (!str_empty(name) && !container_name_valid(name))
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name);
    random_hex(fresh_id, 64);
    _cleanup_container_ struct container *container = container_new(engine, fresh_id);
    container->created_ns = clock_wall_ns();
    struct image image;
    if (build(container, body, &image, arena, warnings, err) < 0 || enlist(container, str_empty(name) ? NULL : name, err) < 0)
        return -1;

    if (mounts_from_config(container, &image, err) < 0 || make_folder(container, err) < 0 ||
        record_insert(container, container->name, err) < 0) {
        mounts_remove_anonymous(container);
        container_delist(container);
        file_remove_tree(engine->containers_fd, fresh_id, NULL);
        return -1;
    }
    event_container(container, "create", NULL);
    memcpy(id, fresh_id, sizeof(fresh_id));
    return 0;
}
