// --volumes-from: the mounts of another container, as it has them.
#include "mounting.h"

static int parse(const char *text, struct arena *arena, char **name, bool *read_only, struct err *err)
{
    struct mount_mode mode;
    if (str_empty(text))
        return err_set(err, ERR_INVALID_ARGUMENT, "volumes-from specification cannot be an empty string");
    const char *colon = strchr(text, ':');
    *name = colon ? arena_strndup(arena, text, (size_t)(colon - text)) : arena_strdup(arena, text);
    if (mount_mode_parse(colon ? colon + 1 : "", &mode, err) < 0)
        return -1;
    if (mode.words[MODE_PROPAGATION] || mode.words[MODE_COPY])
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid mode: %s", colon + 1);
    *read_only = str_eq(mode.words[MODE_ACCESS], "ro");
    return 0;
}

// The list of a container that everybody can find does not change any more. The volume is held before its container could let go
// of it; one that has gone meanwhile is not_found.
static int take(struct mounting *mounting, const struct engine_mount *from, bool read_only, struct err *err)
{
    struct container *container = mounting->container;
    const char *destination = from->destination;
    if (mounting_has(container, destination))
        return 0;
    if (mounting_check_destination(mounting, &destination, err) < 0 ||
        (str_eq(from->type, "volume") && volume_hold(container->engine->volumes, from->name, err) < 0))
        return -1;
    struct engine_mount *mount = mounting_add(container, destination);
    char **const texts[] = { &mount->type, &mount->name, &mount->source, &mount->driver, &mount->mode, &mount->propagation, &mount->subpath };
    char *const values[] = { from->type, from->name, from->source, from->driver, from->mode, from->propagation, from->subpath };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        *texts[i] = values[i] ? arena_strdup(&container->arena, values[i]) : NULL;
    if (!str_eq(from->type, "tmpfs")) // whose options they are
        mount->mode = (char *)"";
    mount->rw = from->rw && !read_only;
    mount->alone = from->alone;
    mount->writable_below = from->writable_below;
    mount->needs_mount = from->needs_mount;
    return 0;
}

int mounting_from_container(struct mounting *mounting, const char *text, struct err *err)
{
    char *name = NULL;
    bool read_only = false;
    if (parse(text, mounting->arena, &name, &read_only, err) < 0)
        return -1;
    _cleanup_container_ struct container *other = container_find(mounting->container->engine, name, err);
    for (size_t i = 0; other && i < other->mount_len; i++)
        if (take(mounting, &other->mounts[i], read_only, err) < 0)
            return -1;
    if (other)
        return 0;
    err->class = ERR_INVALID_ARGUMENT; // as dockerd: to a client "not found" is the image, which it would pull
    return -1;
}
