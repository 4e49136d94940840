// create: the client's configuration is checked whole, merged with the image's, and becomes a record. Nothing runs yet.
#include <errno.h>
#include <fcntl.h>

#include "engine_private.h"
#include "mounts.h"

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

// What the body leaves open and the record does not repeat: the same at create and when the record is read again.
void container_settle(struct container *container)
{
    struct container_config *config = &container->config;
    const char *mode = config->host_config.network_mode;
    if (str_empty(config->hostname))
        config->hostname = arena_strndup(&container->arena, container->id, 12);
    if (str_empty(mode) || str_eq(mode, "default"))
        config->host_config.network_mode = (char *)"bridge";
    config->stop_timeout =
        json_is_integer(config->stop_timeout_raw) ? json_integer_value(config->stop_timeout_raw) : -1;
}

static int parse_body(struct container *container, json_t *body, struct err *err)
{
    struct container_config *config = &container->config;
    container->body = json_incref(body);
    if (json_decode(&container_config_table, body, config, &container->arena, NULL, err) < 0)
        return -1;
    container_settle(container);
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
    if (parse_body(container, body, err) < 0 || check_config(&container->config, err) < 0 ||
        capabilities_from_config(&container->config.host_config, &container->arena, &ignored, err) < 0 ||
        fill_from_image(container, image, arena, warnings, err) < 0)
        return -1;
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
