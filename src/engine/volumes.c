// Volumes as a client manages them: what is in use is not removed.
#include <fcntl.h>

#include "base/file.h"
#include "engine_private.h"

struct volume_store *engine_volumes(struct engine *engine)
{
    return engine->volumes;
}

int engine_volume_create(struct engine *engine, const char *name, const struct volume_birth *birth, struct arena *arena,
                         struct volume *out, struct err *err)
{
    bool created;
    if (volume_create(engine->volumes, name, birth, arena, out, &created, err) < 0)
        return -1;
    if (created)
        event_publish(engine, "volume", "create", out->name, "driver", "local", NULL);
    return 0;
}

static bool has(const struct container *container, const char *name)
{
    for (size_t i = 0; !container->hidden && i < container->mount_len; i++)
        if (str_eq(container->mounts[i].type, "volume") && str_eq(container->mounts[i].name, name))
            return true;
    return false;
}

// The ids of its containers, between commas; "" when there are none. Those that are still being made hold it instead.
static char *users_of(const struct engine *engine, const char *name) REQUIRES(engine->list_lock)
{
    char *users = mem_strdup("");
    for (const struct container *c = engine->containers; c; c = c->next)
        if (has(c, name)) {
            char *more = mem_printf("%s%s%s", users, users[0] ? ", " : "", c->id);
            free(users);
            users = more;
        }
    return users;
}

bool engine_volume_in_use(struct engine *engine, const char *name)
{
    mutex_lock(&engine->list_lock);
    _cleanup_free_ char *users = users_of(engine, name);
    mutex_unlock(&engine->list_lock);
    return users[0] != 0;
}

static int detach(struct engine *engine, const char *name, char hidden[VOLUME_HIDDEN_SIZE], struct err *err)
    REQUIRES(engine->list_lock)
{
    _cleanup_free_ char *users = users_of(engine, name);
    if (users[0])
        return err_set(err, ERR_CONFLICT, "remove %s: volume is in use - [%s]", name, users);
    return volume_detach(engine->volumes, name, hidden, err);
}

int engine_volume_remove(struct engine *engine, const char *name, struct err *err)
{
    char hidden[VOLUME_HIDDEN_SIZE];
    mutex_lock(&engine->list_lock); // until it is out of the records: no container appears meanwhile that has it
    int result = detach(engine, name, hidden, err);
    mutex_unlock(&engine->list_lock);
    if (result < 0)
        return -1;
    event_publish(engine, "volume", "destroy", name, "driver", "local", NULL);
    volume_discard(engine->volumes, hidden);
    return 0;
}

int engine_volume_size(struct engine *engine, const struct volume *volume, int64_t *out, struct err *err)
{
    return file_tree_size(AT_FDCWD, volume->path, out, err);
}
