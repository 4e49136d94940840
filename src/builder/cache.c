// Steps that were done, by their keys; and the containers of steps that run.
#include "builder_private.h"

const char *const builder_migrations[] = {
    "CREATE TABLE build_cache(key TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE, parent TEXT,"
    " description TEXT NOT NULL, created_ns INTEGER NOT NULL, used_ns INTEGER NOT NULL, uses INTEGER NOT NULL);"
    "CREATE INDEX build_cache_by_image ON build_cache(image_id);"
    "CREATE TABLE build_containers(name TEXT PRIMARY KEY);",
    "CREATE TABLE build_urls(url TEXT PRIMARY KEY, etag TEXT NOT NULL, digest TEXT NOT NULL, modified INTEGER NOT NULL, used_ns INTEGER NOT NULL);",
    "CREATE TABLE build_mounts(name TEXT PRIMARY KEY, description TEXT NOT NULL, created_ns INTEGER NOT NULL, used_ns INTEGER NOT NULL, uses INTEGER NOT NULL);",
    "CREATE TABLE build_contexts(name TEXT PRIMARY KEY, key TEXT NOT NULL, description TEXT NOT NULL, size INTEGER NOT NULL, created_ns INTEGER NOT NULL,"
    " used_ns INTEGER NOT NULL, uses INTEGER NOT NULL);"
    "CREATE INDEX build_contexts_by_key ON build_contexts(key);"
    "CREATE TABLE build_looks(key TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE, digest TEXT NOT NULL);"
    "CREATE INDEX build_looks_by_image ON build_looks(image_id);",
    "CREATE TABLE build_twins(image_id TEXT PRIMARY KEY REFERENCES images(id) ON DELETE CASCADE, twin TEXT NOT NULL);",
};
const size_t builder_migration_len = ARRAY_LEN(builder_migrations);

// ---- keys -----------------------------------------------------------------------------------------------------------

// The same step on another name of the image below.
static void key_on(const char *image, const char *rest, char key[OCI_DIGEST_SIZE])
{
    _cleanup_buf_ struct buf text = BUF_INIT((size_t)64 << 20);
    buf_addf(&text, "1\n%s\n%s", image ? image : "", rest);
    image_digest(buf_text(&text), text.size, key);
}

void cache_key(struct stage *stage, const char *created_by, const char *extra, char key[OCI_DIGEST_SIZE])
{
    _cleanup_buf_ struct buf text = BUF_INIT((size_t)64 << 20);
    _cleanup_json_ json_t *config = json_encode(&oci_image_process_table, &stage->config);
    const struct build *build = stage->build;
    buf_addf(&text, "%s\n%s\n%s\n%lld\n", created_by, extra, stage->author ? stage->author : "", (long long)build->time_max);
    if (!stage->image)
        buf_addf(&text, "%s\n", build->request->platform ? build->request->platform : "");
    json_write(config, &text);
    stage->key_rest = arena_strdup(build->arena, buf_text(&text));
    key_on(stage->image, stage->key_rest, key);
}

struct found {
    char *id, *description;
    bool loose; // the image has a loose layer
    struct arena *arena;
};

static int take_found(void *context, const struct store_row *row, struct err *err)
{
    struct found *found = context;
    found->id = arena_strdup(found->arena, store_text(row, 0));
    found->description = arena_strdup(found->arena, store_text(row, 1));
    found->loose = store_int(row, 2);
    return 0;
}

int cache_exec(struct store *store, const char *sql, const char *text, struct err *err)
{
    if ((str_starts(sql, "DELETE") ? store_begin_removal : store_begin)(store, err) < 0)
        return -1;
    if (store_exec(store, err, sql, "t", text) < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

// With the builder's lock, so that a prune does not take it away before the build is known to stand on it. A row's image is there: the row goes with it.
static int find_row(struct stage *stage, const char *key, struct found *found, struct err *err)
{
    struct build *build = stage->build;
    struct builder *builder = build->builder;
    mutex_lock(&builder->lock);
    int done = store_query(builder->store, err, take_found, found,
                           "SELECT image_id, description, hidden = 3 FROM build_cache JOIN images ON id = image_id WHERE key = ?", "t", key);
    if (done == 0 && found->id)
        strv_add(&build->crew->found, key);
    mutex_unlock(&builder->lock);
    return done < 0 ? -1 : found->id != NULL;
}

// ---- loose layers ---------------------------------------------------------------------------------------------------
//
// A step that was made on an image with loose layers has its key from that image's ID. When such an image is wanted, another one comes beside it, under its key; the
// first is remembered as that one's *twin*, so that what was made on the one is found on the other, too. It goes once nothing is made on it, and no build runs.

void cache_twin_key(const char *twin, char key[OCI_DIGEST_SIZE])
{
    _cleanup_free_ char *text = mem_printf("twin %s", twin);
    image_digest(text, strlen(text), key);
}

static int take_twin(void *context, const struct store_row *row, struct err *err)
{
    struct found *found = context;
    found->id = arena_strdup(found->arena, store_text(row, 0));
    return 0;
}

static int find_on_twin(struct stage *stage, struct found *found, struct err *err)
{
    struct build *build = stage->build;
    struct found twin = { .arena = build->arena };
    char key[OCI_DIGEST_SIZE];
    if (!stage->image)
        return 0;
    if (store_query(build->builder->store, err, take_twin, &twin, "SELECT twin FROM build_twins WHERE image_id = ?", "t", stage->image) < 0)
        return -1;
    if (!twin.id)
        return 0;
    key_on(twin.id, stage->key_rest, key);
    return find_row(stage, key, found, err);
}

// Its row leaves the key to the image, and stays to be seen.
static int note_twin(struct builder *builder, const char *key, const char *image, const char *twin, struct err *err)
{
    char own[OCI_DIGEST_SIZE];
    cache_twin_key(twin, own);
    if (store_begin(builder->store, err) < 0)
        return -1;
    if (store_exec(builder->store, err, "INSERT OR REPLACE INTO build_twins(image_id, twin) VALUES(?, ?)", "tt", image, twin) < 0 ||
        store_exec(builder->store, err, "UPDATE OR REPLACE build_cache SET key = ? WHERE key = ?", "tt", own, key) < 0) {
        store_rollback(builder->store);
        return -1;
    }
    return store_commit(builder->store, err);
}

static int settle(struct stage *stage, const char *key, const struct found *found, struct err *err)
{
    struct build *build = stage->build;
    const char *parent = stage->image;
    char *id;
    if (step_settle(build->engine, found->id, parent, build->arena, &id, build->cancel, err) < 0)
        return -1;
    if (note_twin(build->builder, key, id, found->id, err) < 0)
        return -1;
    stage->image = id;
    cache_put(stage, key, parent, found->description);
    mutex_lock(&build->builder->lock);
    build->crew->settled = true;
    mutex_unlock(&build->builder->lock);
    return 0;
}

static int find_key(struct stage *stage, const char *key, struct err *err)
{
    struct found found = { .arena = stage->build->arena };
    int there = find_row(stage, key, &found, err);
    if (there == 0)
        there = find_on_twin(stage, &found, err);
    if (there <= 0)
        return there;
    if (found.loose && !stage->keeps)
        return settle(stage, key, &found, err) < 0 ? -1 : 1;
    stage->image = found.id;
    return 1;
}

void cache_used(struct builder *builder, const struct strv *keys)
{
    struct err ignored = { 0 };
    int64_t now_ns = clock_wall_ns();
    if (keys->len == 0 || store_begin(builder->store, &ignored) < 0)
        return;
    for (size_t i = 0; i < keys->len; i++)
        store_exec(builder->store, &ignored, "UPDATE build_cache SET used_ns = ?, uses = uses + 1 WHERE key = ?", "it", now_ns, keys->items[i]);
    store_commit(builder->store, &ignored);
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
    crew_claim(stage, key);
    int found = find_key(stage, key, err);
    if (found == 0 && (found = cache_import(stage, key, err)) > 0)
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
    struct builder *builder = stage->build->builder;
    struct err ignored = { 0 };
    mutex_lock(&builder->lock);
    strv_add(&stage->build->crew->made, key);
    mutex_unlock(&builder->lock);
    insert(builder->store, key, stage->image, parent, description, &ignored);
}

// ---- containers of steps --------------------------------------------------------------------------------------------

int container_note(struct builder *builder, const char *name, struct err *err)
{
    return cache_exec(builder->store, "INSERT INTO build_containers(name) VALUES(?)", name, err);
}

void container_forget(struct builder *builder, const char *name)
{
    struct err ignored = { 0 };
    cache_exec(builder->store, "DELETE FROM build_containers WHERE name = ?", name, &ignored);
}

// ---- at the start ---------------------------------------------------------------------------------------------------

static int take_orphan(void *context, const struct store_row *row, struct err *err)
{
    strv_add(context, store_text(row, 0));
    return 0;
}

// How many went.
static int forget_all(struct builder *builder, const char *sql, struct err *err)
{
    _cleanup_strv_ struct strv orphans = { 0 };
    int64_t size;
    int count = 0;
    if (store_query(builder->store, err, take_orphan, &orphans, sql, "") < 0)
        return -1;
    for (size_t i = 0; i < orphans.len; i++) {
        int gone = step_forget(builder->engine, orphans.items[i], &size, err);
        if (gone < 0)
            return -1;
        count += gone == 1;
    }
    return count;
}

int cache_sweep(struct builder *builder, struct err *err)
{
    return forget_all(builder, "SELECT id FROM images WHERE hidden IN (2, 3) AND id NOT IN (SELECT image_id FROM build_cache)", err) < 0 ? -1 : 0;
}

void cache_sweep_twins(struct builder *builder)
{
    struct err ignored = { 0 };
    while (forget_all(builder, "SELECT twin FROM build_twins JOIN images ON id = twin WHERE hidden = 3 AND twin NOT IN"
                               " (SELECT parent FROM build_cache WHERE parent IS NOT NULL)", &ignored) > 0)
        ; // what they stood on has nothing on it any more
}
