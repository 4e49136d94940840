// Steps that were done, by their keys; and the containers of steps that run.
#include "builder_private.h"

const char *const builder_migrations[] = {
    "CREATE TABLE build_cache(key TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE, parent TEXT,"
    " description TEXT NOT NULL, created_ns INTEGER NOT NULL, used_ns INTEGER NOT NULL, uses INTEGER NOT NULL);"
    "CREATE INDEX build_cache_by_image ON build_cache(image_id);"
    "CREATE TABLE build_containers(name TEXT PRIMARY KEY);",
    "CREATE TABLE build_urls(url TEXT PRIMARY KEY, etag TEXT NOT NULL, digest TEXT NOT NULL, modified INTEGER NOT NULL, used_ns INTEGER NOT NULL);",
};
const size_t builder_migration_len = ARRAY_LEN(builder_migrations);

// ---- keys -----------------------------------------------------------------------------------------------------------

void cache_key(const struct stage *stage, const char *created_by, const char *extra, char key[OCI_DIGEST_SIZE])
{
    _cleanup_buf_ struct buf text = BUF_INIT((size_t)64 << 20);
    _cleanup_json_ json_t *config = json_encode(&oci_image_process_table, &stage->config);
    const struct build *build = stage->build;
    buf_addf(&text, "1\n%s\n%s\n%s\n%s\n%lld\n", stage->image ? stage->image : "", created_by, extra, stage->author ? stage->author : "",
             (long long)build->time_max);
    if (!stage->image)
        buf_addf(&text, "%s\n", build->request->platform ? build->request->platform : "");
    json_write(config, &text);
    image_digest(buf_text(&text), text.size, key);
}

struct found {
    char *id;
    struct arena *arena;
};

static int take_id(void *context, const struct store_row *row, struct err *err)
{
    struct found *found = context;
    found->id = arena_strdup(found->arena, store_text(row, 0));
    return 0;
}

static int exec_one(struct store *store, const char *sql, const char *types, const char *first, int64_t number, struct err *err)
{
    if (store_begin(store, err) < 0)
        return -1;
    int done = str_eq(types, "t") ? store_exec(store, err, sql, "t", first) : store_exec(store, err, sql, "it", number, first);
    if (done < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

static int find_key(struct stage *stage, const char *key, struct err *err)
{
    struct build *build = stage->build;
    struct store *store = build->builder->store;
    struct found found = { .arena = build->arena };
    struct image image;
    struct err gone = { 0 };
    if (store_query(store, err, take_id, &found, "SELECT image_id FROM build_cache WHERE key = ?", "t", key) < 0)
        return -1;
    if (!found.id || image_get(engine_images(build->engine), found.id, build->arena, &image, &gone) < 0)
        return 0;
    exec_one(store, "UPDATE build_cache SET used_ns = ?, uses = uses + 1 WHERE key = ?", "it", key, clock_wall_ns(), &gone);
    stage->image = image.id;
    return 1;
}

// ---- images of --cache-from -----------------------------------------------------------------------------------------

static const struct oci_history *step_at(const struct image *image, size_t index)
{
    return json_list_at(&image->config.history, &oci_history_table, index);
}

// What the image has above `below`, as its history says it, is the step: its layer (or "" for none), else NULL.
static const char *same_step(const struct image *image, const struct image *below, const char *created_by, int64_t *size)
{
    const struct strv *own = &below->config.rootfs.diff_ids, *theirs = &image->config.rootfs.diff_ids;
    size_t steps = below->config.history.len;
    if (image->config.history.len <= steps || theirs->len < own->len)
        return NULL;
    for (size_t i = 0; i < steps; i++)
        if (!str_eq(step_at(image, i)->created_by, step_at(below, i)->created_by) || step_at(image, i)->empty_layer != step_at(below, i)->empty_layer)
            return NULL;
    for (size_t i = 0; i < own->len; i++)
        if (!str_eq(theirs->items[i], own->items[i]))
            return NULL;
    const struct oci_history *step = step_at(image, steps);
    if (!str_eq(step->created_by, created_by) || (!step->empty_layer && theirs->len == own->len))
        return NULL;
    *size = step->empty_layer ? 0 : image->layer_sizes[own->len];
    return step->empty_layer ? "" : theirs->items[own->len];
}

// The configuration is ours, the layer and its time are theirs.
static int take_step(struct stage *stage, const struct image *image, const struct image *below, const char *created_by, const char *diff_id, int64_t size,
                     struct err *err)
{
    struct step step = step_of(stage, created_by);
    char *id;
    step.diff_id = str_empty(diff_id) ? NULL : diff_id;
    step.layer_size = size;
    const char *created = step_at(image, below->config.history.len)->created;
    clock_parse(slice_of(created ? created : ""), &step.created_ns);
    if (step_plain(stage->build->engine, &step, stage->build->arena, &id, err) < 0)
        return -1;
    stage->image = id;
    return 1;
}

static int find_step(struct stage *stage, const char *created_by, struct err *err)
{
    struct build *build = stage->build;
    struct image below = { 0 }, image;
    const struct strv *names = &build->request->cache_from;
    struct err missing = { 0 };
    if (names->len == 0 || !created_by || (stage->image && image_get(engine_images(build->engine), stage->image, build->arena, &below, err) < 0))
        return 0;
    for (size_t i = 0; i < names->len; i++) {
        int64_t size;
        if (image_get(engine_images(build->engine), names->items[i], build->arena, &image, &missing) < 0)
            continue;
        const char *diff_id = same_step(&image, &below, created_by, &size);
        if (diff_id)
            return take_step(stage, &image, &below, created_by, diff_id, size, err);
    }
    return 0;
}

// --no-cache-filter names it.
static bool is_uncached(const struct stage *stage)
{
    const struct strv *names = &stage->build->request->no_cache_stages;
    const char *label = stage->build->graph->nodes[stage->index].label;
    for (size_t i = 0; i < names->len; i++)
        if (strcasecmp(names->items[i], label) == 0)
            return true;
    return false;
}

int cache_take(struct stage *stage, const char *key, struct err *err)
{
    return stage->build->request->no_cache || is_uncached(stage) ? 0 : find_key(stage, key, err);
}

int cache_find(struct stage *stage, const char *key, const char *created_by, struct err *err)
{
    const char *parent = stage->image;
    if (stage->build->request->no_cache || is_uncached(stage))
        return 0;
    int found = find_key(stage, key, err);
    if (found == 0 && (found = cache_take(stage, key, err)) > 0)
        cache_put(stage, key, parent, created_by ? created_by : "");
    if (found == 0 && (found = find_step(stage, created_by, err)) > 0)
        cache_put(stage, key, parent, created_by);
    if (found > 0)
        say(stage->build, " ---> Using cache\n");
    return found;
}

static int insert(struct store *store, const char *key, const char *image, const char *parent, const char *description, struct err *err)
{
    if (store_begin(store, err) < 0)
        return -1;
    if (store_exec(store, err, "INSERT INTO build_cache(key, image_id, parent, description, created_ns, used_ns, uses) VALUES(?, ?, ?, ?, ?, ?, 0)"
                   " ON CONFLICT(key) DO UPDATE SET image_id = excluded.image_id, created_ns = excluded.created_ns, used_ns = excluded.used_ns",
                   "ttttii", key, image, parent, description, clock_wall_ns(), clock_wall_ns()) < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

int cache_note(struct builder *builder, const char *key, const char *image, const char *description, struct err *err)
{
    return insert(builder->store, key, image, "", description, err);
}

// A step that can't be noted is done all the same. What had the key before goes when the daemon starts next: another build may stand on it.
void cache_put(struct stage *stage, const char *key, const char *parent, const char *description)
{
    struct err ignored = { 0 };
    insert(stage->build->builder->store, key, stage->image, parent, description, &ignored);
}

// ---- containers of steps --------------------------------------------------------------------------------------------

int container_note(struct builder *builder, const char *name, struct err *err)
{
    return exec_one(builder->store, "INSERT INTO build_containers(name) VALUES(?)", "t", name, 0, err);
}

void container_forget(struct builder *builder, const char *name)
{
    struct err ignored = { 0 };
    exec_one(builder->store, "DELETE FROM build_containers WHERE name = ?", "t", name, 0, &ignored);
}

// ---- for people -----------------------------------------------------------------------------------------------------

struct entries {
    struct build_entry *items;
    size_t len, capacity;
    struct arena *arena;
};

static int take_entry(void *context, const struct store_row *row, struct err *err)
{
    struct entries *entries = context;
    struct arena *arena = entries->arena;
    if (entries->len == entries->capacity) {
        entries->capacity = entries->capacity ? 2 * entries->capacity : 64;
        struct build_entry *grown = arena_alloc(arena, entries->capacity * sizeof(*grown));
        if (entries->len)
            memcpy(grown, entries->items, entries->len * sizeof(*grown));
        entries->items = grown;
    }
    entries->items[entries->len++] = (struct build_entry){
        .id = arena_strdup(arena, store_text(row, 0)), .image_id = arena_strdup(arena, store_text(row, 1)), .parent = arena_strdup(arena, store_text(row, 2)),
        .description = arena_strdup(arena, store_text(row, 3)), .created_ns = store_int(row, 4), .used_ns = store_int(row, 5), .uses = store_int(row, 6),
        .size = store_int(row, 7), .shared = store_int(row, 8) > 0,
    };
    return 0;
}

// The topmost layer is the step's, where its parent has fewer; it is shared where an image in the list has it.
int builder_cache(struct builder *builder, struct arena *arena, struct build_entry **out, size_t *len, struct err *err)
{
    struct entries entries = { .arena = arena };
    static const char sql[] =
        "SELECT c.key, c.image_id, p.key, c.description, c.created_ns, c.used_ns, c.uses,"
        " COALESCE((SELECT SUM(k.size) FROM image_layers l JOIN image_chains k ON k.id = l.chain_id WHERE l.image_id = c.image_id"
        "  AND l.chain_id NOT IN (SELECT b.chain_id FROM image_layers b WHERE b.image_id = c.parent)), 0),"
        " (SELECT COUNT(*) FROM image_layers l JOIN image_layers o ON o.chain_id = l.chain_id JOIN images i ON i.id = o.image_id"
        "  WHERE l.image_id = c.image_id AND i.hidden = 0 AND l.position = (SELECT MAX(position) FROM image_layers t WHERE t.image_id = c.image_id))"
        " FROM build_cache c LEFT JOIN build_cache p ON p.image_id = c.parent GROUP BY c.key ORDER BY c.used_ns DESC, c.created_ns DESC, c.rowid DESC";
    if (store_query(builder->store, err, take_entry, &entries, sql, "") < 0)
        return -1;
    *out = entries.items;
    *len = entries.len;
    return 0;
}

// 1: it went.
static int forget_entry(struct builder *builder, const struct build_entry *entry, int64_t *size, struct err *err)
{
    int gone = step_forget(builder->engine, entry->image_id, size, err);
    if (gone < 0 || gone == 2)
        return gone < 0 ? -1 : 0;
    return exec_one(builder->store, "DELETE FROM build_cache WHERE key = ?", "t", entry->id, 0, err) < 0 ? -1 : 1;
}

static int take_orphan(void *context, const struct store_row *row, struct err *err)
{
    strv_add(context, store_text(row, 0));
    return 0;
}

int cache_sweep(struct builder *builder, struct err *err)
{
    _cleanup_strv_ struct strv orphans = { 0 };
    int64_t size;
    if (store_query(builder->store, err, take_orphan, &orphans, "SELECT id FROM images WHERE hidden = 2 AND id NOT IN (SELECT image_id FROM build_cache)", "") < 0)
        return -1;
    for (size_t i = 0; i < orphans.len; i++)
        if (step_forget(builder->engine, orphans.items[i], &size, err) < 0)
            return -1;
    return 0;
}

// What a build that runs stands on is used later than that.
static int64_t busy_since(struct builder *builder)
{
    mutex_lock(&builder->lock);
    int64_t since_ns = builder->running ? builder->since_ns : INT64_MAX;
    mutex_unlock(&builder->lock);
    return since_ns;
}

// Newest use first, so what may stay is counted before what goes.
int builder_prune(struct builder *builder, const struct build_prune *prune, struct arena *arena, struct strv *deleted, int64_t *reclaimed,
                  struct err *err)
{
    struct build_entry *entries;
    size_t len;
    int64_t kept = 0, busy_ns = busy_since(builder);
    *reclaimed = 0;
    if (builder_cache(builder, arena, &entries, &len, err) < 0)
        return -1;
    for (size_t i = 0; i < len; i++) {
        int64_t size = 0;
        bool young = entries[i].used_ns >= busy_ns || (prune->unused_before_ns && entries[i].used_ns >= prune->unused_before_ns);
        bool small = prune->keep_size && kept + entries[i].size <= prune->keep_size;
        if (young || small || (entries[i].shared && !prune->all)) {
            kept += entries[i].size;
            continue;
        }
        int gone = forget_entry(builder, &entries[i], &size, err);
        if (gone < 0)
            return -1;
        if (gone > 0)
            strv_push_arena(deleted, arena, entries[i].id + strlen("sha256:"));
        *reclaimed += size;
    }
    return 0;
}
