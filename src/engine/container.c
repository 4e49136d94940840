// The list of containers, their lookup by a client's words, and exclusive use by a verb.
#include <ctype.h>
#include <malloc.h>

#include "links.h"
#include "networks.h"
#include "users.h"

#define FREED_BETWEEN 32u // containers whose memory was freed, from one look at malloc's to the next

struct container *container_new(struct engine *engine, const char *id)
{
    struct container *container = mem_new(struct container);
    container->engine = engine;
    container->refs = 1;
    container->netns_fd = -1;
    container->tap_fd = -1;
    memcpy(container->id, id, sizeof(container->id) - 1);
    mutex_init(&container->lock, RANK_CONTAINER);
    cond_init(&container->idle);
    return container;
}

struct container *container_ref(struct container *container)
{
    atomic_fetch_add(&container->refs, 1);
    return container;
}

void exec_free(struct exec *exec)
{
    arena_done(&exec->arena);
    free(exec);
}

void container_forget_execs(struct container *container)
{
    while (container->execs) {
        struct exec *exec = container->execs;
        container->execs = exec->next;
        exec_free(exec);
    }
}

void container_drop_pending(struct container *container)
{
    while (container->pending) {
        struct pending_attach *pending = container->pending;
        container->pending = pending->next;
        fd_close(pending->fd);
        free(pending->detach_keys);
        free(pending);
    }
}

static void drop_events(struct container *container) REQUIRES(container->lock)
{
    while (container->events) {
        struct queued_event *event = container->events;
        container->events = event->next;
        queued_event_free(event);
    }
}

// Many containers that come and go leave a heap full of holes, which malloc keeps; to give the pages back takes a millisecond.
static void give_back(struct engine *engine)
{
    if (atomic_fetch_add(&engine->freed, 1) % FREED_BETWEEN == FREED_BETWEEN - 1)
        malloc_trim(0);
}

UNCHECKED void container_unref(struct container *container)
{
    if (!container || atomic_fetch_sub(&container->refs, 1) > 1)
        return;
    struct engine *engine = container->engine;
    container_forget_execs(container);
    container_drop_pending(container);
    drop_events(container);
    health_free(container);
    while (container->endpoints) {
        struct endpoint *endpoint = container->endpoints;
        container->endpoints = endpoint->next;
        endpoint_free(endpoint);
    }
    json_decref(container->body);
    run_users_free(container->users);
    fd_close(container->netns_fd);
    fd_close(container->tap_fd);
    free(container->updated_cpus);
    free(container->updated_mems);
    free(container->accel);
    free(container->kernel);
    free(container->ports);
    free(container->name);
    free(container->state.error);
    arena_done(&container->arena);
    mutex_done(&container->lock);
    cond_done(&container->idle);
    free(container);
    give_back(engine);
}

bool container_name_valid(const char *name)
{
    if (!isalnum((unsigned char)name[0]) || !name[1] || strlen(name) > 255)
        return false;
    for (const char *c = name + 1; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("_.-", *c))
            return false;
    return true;
}

// "PARENT/ALIAS".
static struct container *lookup_link(struct engine *engine, const char *name) REQUIRES(engine->list_lock)
{
    const char *slash = strrchr(name, '/');
    char id[65];
    bool found = false;
    for (struct container *c = slash ? engine->containers : NULL; c && !found; c = c->next)
        if (!c->hidden && strlen(c->name) == (size_t)(slash - name) && str_starts(name, c->name)) {
            mutex_lock(&c->lock);
            found = links_find(c, slash + 1, id);
            mutex_unlock(&c->lock);
        }
    for (struct container *c = found ? engine->containers : NULL; c; c = c->next)
        if (!c->hidden && str_eq(c->id, id))
            return c;
    return NULL;
}

// Full id, then exact name, then unique prefix; a name that a link gives.
static struct container *lookup(struct engine *engine, const char *ref, bool *ambiguous) REQUIRES(engine->list_lock)
{
    const char *name = ref[0] == '/' ? ref + 1 : ref;
    struct container *prefix_match = NULL;
    size_t len = strlen(ref);

    *ambiguous = false;
    for (struct container *c = engine->containers; c; c = c->next)
        if (!c->hidden && str_eq(c->id, ref))
            return c;
    for (struct container *c = engine->containers; c; c = c->next)
        if (!c->hidden && str_eq(c->name, name))
            return c;
    for (struct container *c = engine->containers; c && len > 0; c = c->next)
        if (!c->hidden && strncmp(c->id, ref, len) == 0) {
            *ambiguous = prefix_match != NULL;
            if (*ambiguous)
                return NULL;
            prefix_match = c;
        }
    return prefix_match ? prefix_match : lookup_link(engine, name);
}

struct container *container_find(struct engine *engine, const char *ref, struct err *err)
{
    bool ambiguous = false;
    mutex_lock(&engine->list_lock);
    struct container *found = lookup(engine, ref, &ambiguous);
    if (found)
        container_ref(found);
    mutex_unlock(&engine->list_lock);
    if (ambiguous)
        err_set(err, ERR_INVALID_ARGUMENT, "Multiple IDs found with provided prefix: %s", ref);
    else if (!found)
        err_set(err, ERR_NOT_FOUND, "No such container: %s", ref);
    return found;
}

void container_list_ids(struct engine *engine, struct strv *out)
{
    mutex_lock(&engine->list_lock);
    for (struct container *c = engine->containers; c; c = c->next)
        strv_add(out, c->id);
    mutex_unlock(&engine->list_lock);
}

struct container *container_find_exec(struct engine *engine, const char *exec_id, struct err *err)
{
    struct container *found = NULL;
    mutex_lock(&engine->list_lock);
    for (struct container *c = engine->containers; c && !found; c = c->next) {
        mutex_lock(&c->lock);
        for (struct exec *exec = c->execs; exec && !found; exec = exec->next)
            if (str_eq(exec->id, exec_id))
                found = container_ref(c);
        mutex_unlock(&c->lock);
    }
    mutex_unlock(&engine->list_lock);
    if (!found)
        err_set(err, ERR_NOT_FOUND, "No such exec instance: %s", exec_id);
    return found;
}

bool container_is_live(const struct container *container)
{
    return container->state.status == STATUS_RUNNING || container->state.status == STATUS_PAUSED;
}

bool container_is_up(const struct container *container)
{
    return container_is_live(container) || container->state.status == STATUS_RESTARTING;
}

int container_restarting(const struct container *container, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "Container %s is restarting, wait until the container is running", container->id);
}

int container_begin(struct container *container, struct err *err)
{
    int result = 0;
    mutex_lock(&container->lock);
    while (container->busy && !container->removed)
        cond_wait(&container->idle, &container->lock);
    if (container->removed)
        result = err_set(err, ERR_NOT_FOUND, "No such container: %s", container->id);
    else
        container->busy = true;
    mutex_unlock(&container->lock);
    return result;
}

void container_end(struct container *container)
{
    mutex_lock(&container->lock);
    container->busy = false;
    cond_wake_all(&container->idle);
    mutex_unlock(&container->lock);
}

char *container_name(struct container *container, struct arena *arena)
{
    struct engine *engine = container->engine;
    mutex_lock(&engine->list_lock);
    char *name = arena_strdup(arena, container->name);
    mutex_unlock(&engine->list_lock);
    return name;
}

char *container_path(const struct container *container, struct arena *arena, const char *below)
{
    return arena_printf(arena, "%s/containers/%s/%s", container->engine->data_root, container->id, below);
}
