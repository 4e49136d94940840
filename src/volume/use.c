// Who uses a volume that has something mounted: the first mounts it, the last takes it off. Mounting may take long (a server that does
// not answer), so the lock is let go meanwhile, and whoever comes then waits for this volume alone.
#include "base/log.h"
#include "volume_private.h"

static struct use **place_of(struct volume_store *volumes, const char *name) REQUIRES(volumes->lock)
{
    struct use **place = &volumes->uses;
    while (*place && !str_eq((*place)->name, name))
        place = &(*place)->next;
    return place;
}

static struct use *get(struct volume_store *volumes, const char *name) REQUIRES(volumes->lock)
{
    struct use **place = place_of(volumes, name);
    if (!*place) {
        size_t size = strlen(name) + 1;
        *place = mem_alloc(sizeof(**place) + size);
        **place = (struct use){ .state = USE_ABSENT };
        memcpy((*place)->name, name, size);
    }
    return *place;
}

static void leave(struct volume_store *volumes, struct use *use) REQUIRES(volumes->lock)
{
    struct use **place = place_of(volumes, use->name);
    if (--use->users > 0)
        return;
    *place = use->next;
    free(use);
}

static void settle(struct volume_store *volumes, struct use *use, enum use_state state) REQUIRES(volumes->lock)
{
    use->state = state;
    cond_wake_all(&volumes->changed);
}

int volume_use(struct volume_store *volumes, const char *name, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct volume volume;
    int result = 0;
    if (volume_get(volumes, name, &arena, &volume, err) < 0)
        return -1;
    mutex_lock(&volumes->lock);
    struct use *use = get(volumes, name);
    use->users++;
    while (use->state == USE_CHANGING)
        cond_wait(&volumes->changed, &volumes->lock);
    if (use->state == USE_ABSENT) {
        use->state = USE_CHANGING;
        mutex_unlock(&volumes->lock);
        result = volume_mounted_put(&volume, err);
        mutex_lock(&volumes->lock);
        settle(volumes, use, result < 0 ? USE_ABSENT : USE_MOUNTED);
    }
    if (result < 0)
        leave(volumes, use);
    mutex_unlock(&volumes->lock);
    return result < 0 ? err_wrap(err, "error while mounting volume '%s'", volume.path) : 0;
}

void volume_unuse(struct volume_store *volumes, const char *name)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct volume volume;
    bool known = volume_get(volumes, name, &arena, &volume, NULL) == 0;
    mutex_lock(&volumes->lock);
    struct use *use = *place_of(volumes, name);
    if (use && use->users == 1 && known) { // stays in the table until it is off, so that nobody mounts it meanwhile
        use->state = USE_CHANGING;
        mutex_unlock(&volumes->lock);
        if (!volume_mounted_remove(&volume))
            log_warn("volume %s: still mounted, something on the host uses it", name);
        mutex_lock(&volumes->lock);
        settle(volumes, use, USE_ABSENT);
    }
    if (use)
        leave(volumes, use);
    mutex_unlock(&volumes->lock);
}

void volume_sweep(struct volume_store *volumes)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct volume *all;
    size_t len;
    if (volume_list(volumes, &arena, &all, &len, NULL) < 0)
        return;
    mutex_lock(&volumes->lock);
    for (size_t i = 0; i < len; i++)
        if (volume_needs_mount(&all[i]) && !*place_of(volumes, all[i].name))
            volume_mounted_remove(&all[i]);
    mutex_unlock(&volumes->lock);
}

void volume_uses_free(struct volume_store *volumes)
{
    for (struct use *use = volumes->uses, *next; use; use = next) {
        next = use->next;
        free(use);
    }
}
