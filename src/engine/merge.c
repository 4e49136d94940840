// The image's configuration below that of the client, by Docker's rules.
#include "engine_private.h"

static void add_missing(struct strv *into, struct arena *arena, const struct strv *from)
{
    size_t own = into->len; // an image lists nothing twice
    for (size_t i = 0; i < from->len; i++) {
        const struct strv asked = { into->items, own, 0 };
        if (!strv_has(&asked, from->items[i]))
            strv_push_arena(into, arena, from->items[i]);
    }
}

static void copy_list(struct strv *into, struct arena *arena, const struct strv *from)
{
    *into = (struct strv){ 0 };
    for (size_t i = 0; i < from->len; i++)
        strv_push_arena(into, arena, from->items[i]);
}

static bool names_key(const struct strv *env, const char *assignment)
{
    size_t key_len = strcspn(assignment, "=");
    for (size_t i = 0; i < env->len; i++)
        if (strncmp(env->items[i], assignment, key_len) == 0 && (env->items[i][key_len] == '=' || !env->items[i][key_len]))
            return true;
    return false;
}

// "KEY" without a value stays in the list: it takes the image's away here, and ours (PATH, HOSTNAME) in the document.
static void merge_env(struct oci_image_process *into, struct arena *arena, const struct strv *image_env)
{
    struct strv merged;
    copy_list(&merged, arena, &into->env);
    for (size_t i = 0; i < image_env->len; i++)
        if (!names_key(&into->env, image_env->items[i]))
            strv_push_arena(&merged, arena, image_env->items[i]);
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

// An entrypoint of its own also silences the image's command. One empty word says "none, not even the image's"; so does
// an empty list, but the image's command stays then.
static void merge_command(struct oci_image_process *into, const json_t *body, struct arena *arena,
                          const struct oci_image_process *from)
{
    if (into->entrypoint.len == 0) {
        if (into->cmd.len == 0)
            copy_list(&into->cmd, arena, &from->cmd);
        if (!json_is_array(json_object_get(body, "Entrypoint")))
            copy_list(&into->entrypoint, arena, &from->entrypoint);
    } else if (into->entrypoint.len == 1 && into->entrypoint.items[0][0] == 0) {
        into->entrypoint = (struct strv){ 0 };
    }
}

// The client's check is the image's but for what it says itself. Everything borrowed is copied.
static void merge_health(struct oci_healthcheck **into, struct arena *arena, const struct oci_healthcheck *from)
{
    if (!from)
        return;
    if (!*into) {
        *into = arena_alloc(arena, sizeof(**into));
        **into = (struct oci_healthcheck){ 0 };
    }
    struct oci_healthcheck *own = *into;
    if (own->test.len == 0)
        copy_list(&own->test, arena, &from->test);
    own->interval = own->interval ? own->interval : from->interval;
    own->timeout = own->timeout ? own->timeout : from->timeout;
    own->start_period = own->start_period ? own->start_period : from->start_period;
    own->start_interval = own->start_interval ? own->start_interval : from->start_interval;
    own->retries = own->retries ? own->retries : from->retries;
}

void merge_image_config(struct container_config *config, const json_t *body, struct arena *arena,
                        const struct oci_image_process *image)
{
    struct oci_image_process *process = &config->process;
    merge_command(process, body, arena, image);
    merge_env(process, arena, &image->env);
    merge_labels(&process->labels, arena, &image->labels);
    add_missing(&process->exposed_ports, arena, &image->exposed_ports);
    add_missing(&process->volumes, arena, &image->volumes);
    merge_text(&process->user, arena, image->user);
    merge_text(&process->working_dir, arena, image->working_dir);
    merge_text(&process->stop_signal, arena, image->stop_signal);
    merge_health(&process->healthcheck, arena, image->healthcheck);
}
