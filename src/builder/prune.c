// What is kept between builds, for people: the steps, the folders of cache mounts and those of clients; and what of it goes.
#include <fcntl.h>
#include <sys/statvfs.h>

#include "base/file.h"
#include "builder_private.h"

// ---- the list -------------------------------------------------------------------------------------------------------

#define CONTEXT_TYPE "source.local"

struct entries {
    struct build_entry *items;
    size_t len, capacity;
    struct arena *arena;
};

static struct build_entry *add(struct entries *entries)
{
    struct arena *arena = entries->arena;
    if (entries->len == entries->capacity) {
        entries->capacity = entries->capacity ? 2 * entries->capacity : 64;
        struct build_entry *grown = arena_alloc(arena, entries->capacity * sizeof(*grown));
        if (entries->len)
            memcpy(grown, entries->items, entries->len * sizeof(*grown));
        entries->items = grown;
    }
    return &entries->items[entries->len++];
}

static int take_entry(void *context, const struct store_row *row, struct err *err)
{
    struct arena *arena = ((struct entries *)context)->arena;
    *add(context) = (struct build_entry){
        .id = arena_strdup(arena, store_text(row, 0)), .image_id = arena_strdup(arena, store_text(row, 1)), .parent = arena_strdup(arena, store_text(row, 2)),
        .description = arena_strdup(arena, store_text(row, 3)), .created_ns = store_int(row, 4), .used_ns = store_int(row, 5), .uses = store_int(row, 6),
        .size = store_int(row, 7), .shared = store_int(row, 8) > 0, .type = "regular",
    };
    return 0;
}

static int take_mount(void *context, const struct store_row *row, struct err *err)
{
    struct arena *arena = ((struct entries *)context)->arena;
    *add(context) = (struct build_entry){ .id = arena_printf(arena, "sha256:%s", store_text(row, 0)), .description = arena_strdup(arena, store_text(row, 1)),
                                          .created_ns = store_int(row, 2), .used_ns = store_int(row, 3), .uses = store_int(row, 4),
                                          .type = "exec.cachemount" };
    return 0;
}

// The topmost layer is the step's, where its parent has fewer; it is shared where an image in the list has it.
static int list_steps(struct builder *builder, struct entries *entries, struct err *err)
{
    static const char sql[] =
        "SELECT c.key, c.image_id, p.key, c.description, c.created_ns, c.used_ns, c.uses,"
        " COALESCE((SELECT SUM(k.size) FROM image_layers l JOIN image_chains k ON k.id = l.chain_id WHERE l.image_id = c.image_id"
        "  AND l.chain_id NOT IN (SELECT b.chain_id FROM image_layers b WHERE b.image_id = c.parent)), 0),"
        " (SELECT COUNT(*) FROM image_layers l JOIN image_layers o ON o.chain_id = l.chain_id JOIN images i ON i.id = o.image_id"
        "  WHERE l.image_id = c.image_id AND i.hidden = 0 AND l.position = (SELECT MAX(position) FROM image_layers t WHERE t.image_id = c.image_id))"
        " FROM build_cache c LEFT JOIN build_cache p ON p.image_id = c.parent GROUP BY c.key ORDER BY c.used_ns DESC, c.created_ns DESC, c.rowid DESC";
    return store_query(builder->store, err, take_entry, entries, sql, "");
}

static int list_mounts(struct builder *builder, struct entries *entries, struct err *err)
{
    size_t first = entries->len;
    if (store_query(builder->store, err, take_mount, entries, "SELECT name, description, created_ns, used_ns, uses FROM build_mounts", "") < 0)
        return -1;
    for (size_t i = first; i < entries->len; i++) {
        const char *path = mounts_path(builder, entries->items[i].id + strlen("sha256:"), entries->arena);
        file_tree_size(AT_FDCWD, path, &entries->items[i].size, NULL); // one that is written to has the size that was seen
    }
    return 0;
}

static int take_context(void *context, const struct store_row *row, struct err *err)
{
    struct arena *arena = ((struct entries *)context)->arena;
    *add(context) = (struct build_entry){ .id = arena_printf(arena, "sha256:%s", store_text(row, 0)), .description = arena_strdup(arena, store_text(row, 1)),
                                          .created_ns = store_int(row, 2), .used_ns = store_int(row, 3), .uses = store_int(row, 4), .size = store_int(row, 5),
                                          .type = CONTEXT_TYPE };
    return 0;
}

static int list_contexts(struct builder *builder, struct entries *entries, struct err *err)
{
    return store_query(builder->store, err, take_context, entries, "SELECT name, description, created_ns, used_ns, uses, size FROM build_contexts", "");
}

static int by_use(const void *left, const void *right)
{
    const struct build_entry *a = left, *b = right;
    return a->used_ns != b->used_ns ? (a->used_ns < b->used_ns ? 1 : -1) : (a->created_ns < b->created_ns) - (a->created_ns > b->created_ns);
}

static bool is_in_use(const struct builder *builder, const struct build_entry *entry) REQUIRES(&builder->lock)
{
    char twin[OCI_DIGEST_SIZE] = "";
    if (builder->crews && entry->image_id)
        cache_twin_key(entry->image_id, twin);
    if (str_eq(entry->id, twin)) // a build may have found it by the key that it had before
        return true;
    for (const struct crew *crew = builder->crews; crew; crew = crew->next)
        if (strv_has(&crew->found, entry->id) || strv_has(&crew->made, entry->id))
            return true;
    return str_eq(entry->type, CONTEXT_TYPE) && kept_in_use(builder, entry->id + strlen("sha256:"));
}

static int list_all(struct builder *builder, struct entries *entries, struct err *err)
{
    if (list_steps(builder, entries, err) < 0 || list_mounts(builder, entries, err) < 0 || list_contexts(builder, entries, err) < 0)
        return -1;
    mutex_lock(&builder->lock);
    for (size_t i = 0; i < entries->len; i++)
        entries->items[i].in_use = is_in_use(builder, &entries->items[i]);
    mutex_unlock(&builder->lock);
    if (entries->len > 1)
        qsort(entries->items, entries->len, sizeof(*entries->items), by_use);
    return 0;
}

int builder_cache(struct builder *builder, const struct strv *filters, struct arena *arena, struct build_entry **out, size_t *len, struct err *err)
{
    struct entries entries = { .arena = arena };
    struct entry_filters parsed;
    if (entry_filters_parse(filters, arena, &parsed, err) < 0 || list_all(builder, &entries, err) < 0)
        return -1;
    *out = entries.items;
    *len = 0;
    for (size_t i = 0; i < entries.len; i++)
        if (entry_filters_fit(&parsed, &entries.items[i]))
            entries.items[(*len)++] = entries.items[i];
    return 0;
}

// ---- what goes ------------------------------------------------------------------------------------------------------

// 1: it went.
static int forget_step(struct builder *builder, const struct build_entry *entry, int64_t *size, struct err *err)
{
    int gone = step_forget(builder->engine, entry->image_id, size, err);
    if (gone < 0 || gone == 2)
        return gone < 0 ? -1 : 0;
    return cache_exec(builder->store, "DELETE FROM build_cache WHERE key = ?", entry->id, err) < 0 ? -1 : 1;
}

// 1: the folder stands out of the way, to be removed.
static int forget_folder(struct builder *builder, const struct build_entry *entry, struct arena *arena, const char **gone, struct err *err) REQUIRES(&builder->lock)
{
    const char *name = entry->id + strlen("sha256:");
    if (!str_eq(entry->type, CONTEXT_TYPE))
        return mount_forget(builder, name, arena, gone, err) < 0 ? -1 : 1;
    _cleanup_free_ char *path = NULL;
    int forgotten = kept_forget(builder, name, &path, err);
    *gone = arena_strdup(arena, path);
    return forgotten < 0 ? -1 : 1;
}

// What a build that runs stands on stays.
static int forget(struct builder *builder, const struct build_entry *entry, struct arena *arena, int64_t *size, struct err *err)
{
    const char *gone = NULL;
    int result = 0;
    mutex_lock(&builder->lock);
    if (!is_in_use(builder, entry))
        result = entry->image_id ? forget_step(builder, entry, size, err) : forget_folder(builder, entry, arena, &gone, err);
    mutex_unlock(&builder->lock);
    if (!gone)
        return result;
    *size = entry->size;
    return result < 0 || file_remove_tree(AT_FDCWD, gone, err) < 0 ? -1 : 1;
}

// How many bytes may stay, as BuildKit reckons: at most max_size, less where the disk wants more room, but never less than keep_size. -1: as many as there are.
static int64_t room_for(const struct builder *builder, const struct build_prune *prune, int64_t total)
{
    struct statvfs disk;
    int64_t room = prune->max_size;
    if (prune->min_free > 0 && statvfs(engine_data_root(builder->engine), &disk) == 0) {
        int64_t excess = prune->min_free - (int64_t)disk.f_bavail * (int64_t)disk.f_frsize;
        if (excess > 0)
            room = room ? MIN_OF(room, total - excess) : total - excess;
        else if (!room && !prune->keep_size)
            return -1;
    }
    return MAX_OF(MAX_OF(room, prune->keep_size), INT64_C(0));
}

// Newest use first, so what may stay is counted before what goes.
int builder_prune(struct builder *builder, const struct build_prune *prune, struct arena *arena, struct strv *deleted, int64_t *reclaimed,
                  struct err *err)
{
    struct entries entries = { .arena = arena };
    struct entry_filters filters;
    int64_t kept = 0, total = 0;
    *reclaimed = 0;
    if (entry_filters_parse(prune->filters, arena, &filters, err) < 0 || list_all(builder, &entries, err) < 0)
        return -1;
    for (size_t i = 0; i < entries.len; i++)
        total += entries.items[i].size;
    int64_t room = room_for(builder, prune, total);
    for (size_t i = 0; i < entries.len; i++) {
        const struct build_entry *entry = &entries.items[i];
        int64_t size = 0;
        bool young = prune->unused_before_ns && entry->used_ns >= prune->unused_before_ns;
        bool small = room < 0 || kept + entry->size <= room;
        if (young || (small && room != 0) || (entry->shared && !prune->all) || !entry_filters_fit(&filters, entry)) {
            kept += entry->size;
            continue;
        }
        int gone = forget(builder, entry, arena, &size, err);
        if (gone < 0)
            return -1;
        if (gone > 0)
            strv_push_arena(deleted, arena, entry->id + strlen("sha256:"));
        *reclaimed += size;
    }
    return 0;
}
