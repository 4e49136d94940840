// The event bus: the last 256 events in a ring with serials, and an eventfd per listener. A listener reads the ring from
// its own serial on; one that falls 256 behind misses what was overwritten, as Docker's slow listeners do.
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "engine_private.h"

#define LABELS_MAX 65536

static void add_attributes(struct arena *arena, struct kvs *out, const struct kvs *labels, va_list extra)
{
    enum { EXTRA_MAX = 16 };
    out->items = arena_alloc(arena, ((labels ? labels->len : 0) + EXTRA_MAX) * sizeof(*out->items));
    for (size_t i = 0; labels && i < labels->len; i++)
        out->items[out->len++] = (struct kv){ arena_strdup(arena, labels->items[i].key),
                                              arena_strdup(arena, labels->items[i].value) };
    const char *key;
    for (size_t i = 0; i < EXTRA_MAX && (key = va_arg(extra, const char *)); i++)
        out->items[out->len++] = (struct kv){ arena_strdup(arena, key), arena_strdup(arena, va_arg(extra, const char *)) };
}

static void publish(struct engine *engine, const char *type, const char *action, const char *actor_id,
                    const struct kvs *labels, va_list extra)
{
    struct event_record record = { 0 };
    struct arena *arena = &record.arena;
    record.event.type = arena_strdup(arena, type);
    record.event.action = arena_strdup(arena, action);
    record.event.actor_id = arena_strdup(arena, actor_id);
    add_attributes(arena, &record.event.attributes, labels, extra);

    mutex_lock(&engine->bus_lock);
    record.serial = engine->next_serial++;
    record.event.time_ns = clock_wall_ns(); // here, so that the ring's order is the order of times
    struct event_record *slot = &engine->ring[record.serial % EVENT_RING];
    struct arena old = slot->arena;
    *slot = record;
    for (struct subscriber *s = engine->subscribers; s; s = s->next)
        eventfd_write(s->event_fd, 1);
    mutex_unlock(&engine->bus_lock);
    arena_done(&old);
}

void event_publish(struct engine *engine, const char *type, const char *action, const char *actor_id, ...)
{
    va_list extra;
    va_start(extra, actor_id);
    publish(engine, type, action, actor_id, NULL, extra);
    va_end(extra);
}

// The ring keeps what it is given: labels of such a size would be held 256 times over.
static bool labels_fit(const struct kvs *labels)
{
    size_t size = 0;
    for (size_t i = 0; i < labels->len && size <= LABELS_MAX; i++)
        size += strlen(labels->items[i].key) + (labels->items[i].value ? strlen(labels->items[i].value) : 0);
    return size <= LABELS_MAX;
}

static void publish_with(struct engine *engine, const char *type, const char *action, const char *actor_id,
                         const struct kvs *labels, ...)
{
    va_list extra;
    va_start(extra, labels);
    publish(engine, type, action, actor_id, labels, extra);
    va_end(extra);
}

static void tell_image(struct engine *engine, const char *image_id, const char *action, const char *actor, const char *name)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image image;
    const struct kvs none = { 0 }, *labels = &none;
    if (image_get(engine->images, image_id, &arena, &image, NULL) == 0 && labels_fit(&image.config.config.labels))
        labels = &image.config.config.labels;
    publish_with(engine, "image", action, actor, labels, "name", name, NULL);
}

void event_image(struct engine *engine, const char *image_id, const char *action, const char *name)
{
    tell_image(engine, image_id, action, image_id, name);
}

void event_reference(struct engine *engine, const char *image_id, const char *action, const char *familiar)
{
    const char *path = strrchr(familiar, '/'), *end = strchr(familiar, '@');
    end = end ? end : strchr(path ? path : familiar, ':');
    _cleanup_free_ char *name = mem_strndup(familiar, end ? (size_t)(end - familiar) : strlen(familiar));
    tell_image(engine, image_id, action, familiar, name);
}

// Docker's attributes of every container event: its labels (none when they are more than 64 KiB), image, name, then the
// extra ones.
void event_container(struct container *container, const char *action, ...)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct kvs attributes = { 0 };
    const struct kvs *labels = &container->config.process.labels;
    bool fit = labels_fit(labels);
    attributes.items = arena_alloc(&arena, (labels->len + 2) * sizeof(*attributes.items));
    for (size_t i = 0; fit && i < labels->len; i++)
        attributes.items[attributes.len++] = labels->items[i];
    attributes.items[attributes.len++] = (struct kv){ (char *)"image", container->image_name };
    attributes.items[attributes.len++] = (struct kv){ (char *)"name", container_name(container, &arena) };

    va_list extra;
    va_start(extra, action);
    publish(container->engine, "container", action, container->id, &attributes, extra);
    va_end(extra);
}

void event_volumes(struct container *container, bool mounted)
{
    for (size_t i = 0; i < container->mount_len; i++) {
        const struct engine_mount *mount = &container->mounts[i];
        if (!str_eq(mount->type, "volume"))
            continue;
        if (mounted)
            event_publish(container->engine, "volume", "mount", mount->name, "container", container->id, "destination",
                          mount->destination, "driver", "local", "propagation", mount->propagation ? mount->propagation : "",
                          "read/write", mount->rw ? "true" : "false", NULL);
        else
            event_publish(container->engine, "volume", "unmount", mount->name, "container", container->id, "driver", "local",
                          NULL);
    }
}

void engine_pruned(struct engine *engine, const char *type, int64_t reclaimed)
{
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)reclaimed);
    event_publish(engine, type, "prune", "", "reclaimed", text, NULL);
}

void events_done(struct engine *engine)
{
    mutex_lock(&engine->bus_lock);
    for (size_t i = 0; i < EVENT_RING; i++)
        arena_done(&engine->ring[i].arena);
    mutex_unlock(&engine->bus_lock);
}

static void copy_event(const struct engine_event *from, struct arena *arena, struct engine_event *to)
{
    *to = *from;
    to->type = arena_strdup(arena, from->type);
    to->action = arena_strdup(arena, from->action);
    to->actor_id = arena_strdup(arena, from->actor_id);
    to->attributes.items = arena_alloc(arena, (from->attributes.len + 1) * sizeof(*to->attributes.items));
    for (size_t i = 0; i < from->attributes.len; i++)
        to->attributes.items[i] = (struct kv){ arena_strdup(arena, from->attributes.items[i].key),
                                               arena_strdup(arena, from->attributes.items[i].value) };
}

// The next event at or after *serial; false when there is none yet.
static bool next_event(struct engine *engine, uint64_t *serial, struct arena *arena, struct engine_event *out)
{
    bool found = false;
    mutex_lock(&engine->bus_lock);
    if (engine->next_serial > EVENT_RING && *serial < engine->next_serial - EVENT_RING)
        *serial = engine->next_serial - EVENT_RING;
    if (*serial < engine->next_serial) {
        copy_event(&engine->ring[*serial % EVENT_RING].event, arena, out);
        (*serial)++;
        found = true;
    }
    mutex_unlock(&engine->bus_lock);
    return found;
}

static void subscribe(struct engine *engine, struct subscriber *subscriber, bool past, uint64_t *serial)
{
    mutex_lock(&engine->bus_lock);
    subscriber->next = engine->subscribers;
    engine->subscribers = subscriber;
    *serial = past ? 0 : engine->next_serial;
    mutex_unlock(&engine->bus_lock);
}

static void unsubscribe(struct engine *engine, struct subscriber *subscriber)
{
    mutex_lock(&engine->bus_lock);
    for (struct subscriber **at = &engine->subscribers; *at; at = &(*at)->next)
        if (*at == subscriber) {
            *at = subscriber->next;
            break;
        }
    mutex_unlock(&engine->bus_lock);
}

// Hands out what is there; 1 when the `until` was passed.
static int drain(struct engine *engine, uint64_t *serial, int64_t since_ns, int64_t until_ns, engine_event_fn *fn,
                 void *context)
{
    for (;;) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct engine_event event;
        if (!next_event(engine, serial, &arena, &event))
            return 0;
        if (event.time_ns < since_ns)
            continue;
        if (until_ns && event.time_ns > until_ns)
            return 1;
        if (fn(context, &event) < 0)
            return 1;
    }
}

int engine_events(struct engine *engine, int64_t since_ns, int64_t until_ns, engine_event_fn *fn, void *context,
                  const struct cancel *cancel, struct err *err)
{
    _cleanup_close_ int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd < 0)
        return err_errno(err, errno, "eventfd");
    struct subscriber subscriber = { .event_fd = event_fd };
    uint64_t serial;
    int result = 0;

    subscribe(engine, &subscriber, since_ns != 0, &serial);
    for (;;) {
        eventfd_t ignored;
        if (drain(engine, &serial, since_ns, until_ns, fn, context))
            break;
        int64_t left_ns = until_ns ? until_ns - clock_wall_ns() : 0;
        if (until_ns && left_ns <= 0)
            break;
        int ready = cancel_wait(cancel, event_fd, until_ns ? clock_mono_ns() + left_ns : -1, err);
        if (ready < 0) {
            result = -1;
            break;
        }
        if (ready > 0)
            eventfd_read(event_fd, &ignored);
    }
    unsubscribe(engine, &subscriber);
    return result;
}
