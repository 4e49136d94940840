// The records: images, what names them, and the layers (chains) they stand on.
//
// image_chains.folder is the chain ID (hex) under which a layer's folder lies, driver the graph driver that it is of. A diff is
// the same whatever stands below it, so a second chain with the same diff ID names the folder of the first. Nothing is counted: an
// image, a chain, a folder is in use when a row names it. `hidden` is an image that was deleted while a stopped container still
// needed its layers (1), or a step of a build (2; with a loose layer 3).
#include "base/clock.h"
#include "base/num.h"
#include "image_private.h"

const char *const image_migrations[] = {
    "CREATE TABLE images(id TEXT PRIMARY KEY, created_ns INTEGER NOT NULL, tagged_ns INTEGER NOT NULL,"
    " hidden INTEGER NOT NULL);"
    "CREATE TABLE image_references(name TEXT PRIMARY KEY, familiar TEXT NOT NULL, repository TEXT NOT NULL,"
    " by_digest INTEGER NOT NULL, image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE);"
    "CREATE INDEX image_references_by_image ON image_references(image_id);"
    "CREATE TABLE image_chains(id TEXT PRIMARY KEY, diff_id TEXT NOT NULL, folder TEXT NOT NULL, size INTEGER NOT NULL);"
    "CREATE INDEX image_chains_by_diff ON image_chains(diff_id);"
    "CREATE INDEX image_chains_by_folder ON image_chains(folder);"
    "CREATE TABLE image_layers(image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE, position INTEGER NOT NULL,"
    " chain_id TEXT NOT NULL REFERENCES image_chains(id), PRIMARY KEY(image_id, position));"
    "CREATE INDEX image_layers_by_chain ON image_layers(chain_id);",
    "ALTER TABLE image_chains ADD COLUMN driver TEXT NOT NULL DEFAULT 'overlay';",
    // What registries have of an image: its manifest there, byte for byte. It names the blobs of the image's layers.
    ("CREATE TABLE image_manifests(image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE, repository TEXT NOT NULL,"
     " digest TEXT NOT NULL, media_type TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY(image_id, repository, digest));"),
    // What an image was made from, here. The other one may go: then nobody asks for it any more.
    ("CREATE TABLE image_parents(image_id TEXT PRIMARY KEY REFERENCES images(id) ON DELETE CASCADE, parent_id TEXT NOT NULL);"),
    "CREATE INDEX image_parents_by_parent ON image_parents(parent_id);",
};
const size_t image_migration_len = ARRAY_LEN(image_migrations);

// ---- queries --------------------------------------------------------------------------------------------------------

struct texts {
    struct strv *out;
    struct arena *arena;
};

static int take_text(void *context, const struct store_row *row, struct err *err)
{
    const struct texts *texts = context;
    strv_push_arena(texts->out, texts->arena, store_text(row, 0));
    return 0;
}

int image_query_texts(struct image_store *images, struct strv *out, struct arena *arena, struct err *err, const char *sql,
                      const char *parameter)
{
    struct texts texts = { out, arena };
    return store_query(images->store, err, take_text, &texts, sql, parameter ? "t" : "", parameter);
}

static int find_one(struct image_store *images, const char *sql, const char *parameter, struct arena *arena, char **out,
                    struct err *err)
{
    struct strv found = { 0 };
    if (image_query_texts(images, &found, arena, err, sql, parameter) < 0)
        return -1;
    *out = found.len ? found.items[0] : NULL;
    return 0;
}

// ---- names ----------------------------------------------------------------------------------------------------------

static int by_prefix(struct image_store *images, const char *name, struct arena *arena, char **id, bool *ambiguous,
                     struct err *err)
{
    const char *hex = str_starts(name, "sha256:") ? name + 7 : name;
    struct strv found = { 0 };
    if (strlen(hex) > 64 || !hex_valid(slice_of(hex)))
        return 0;
    // "g" is the letter after the last hex digit.
    struct texts texts = { &found, arena };
    const char *from = arena_printf(arena, "sha256:%s", hex), *to = arena_printf(arena, "sha256:%sg", hex);
    if (store_query(images->store, err, take_text, &texts,
                    "SELECT id FROM images WHERE id >= ? AND id < ? AND hidden NOT IN (1, 3) LIMIT 2", "tt", from, to) < 0)
        return -1;
    if (found.len == 1)
        *id = found.items[0];
    *ambiguous = found.len > 1;
    return 0;
}

static int by_full_id(struct image_store *images, const char *digest, struct arena *arena, char **id, struct err *err)
{
    if (find_one(images, "SELECT id FROM images WHERE id = ?", digest, arena, id, err) < 0)
        return -1;
    return *id ? 0 : err_set(err, ERR_NOT_FOUND, "No such image: %s", digest);
}

int image_resolve(struct image_store *images, const char *name, struct arena *arena, char **id, char **reference,
                  struct err *err)
{
    struct image_ref ref;
    bool ambiguous = false;
    *id = *reference = NULL;
    if (oci_digest_valid(name))
        return by_full_id(images, name, arena, id, err);
    if (strlen(name) == 64 && hex_valid(slice_of(name)))
        return by_full_id(images, arena_printf(arena, "sha256:%s", name), arena, id, err);
    if (image_ref_parse(name, true, arena, &ref, err) < 0)
        return -1;
    char *key = image_ref_key(&ref, arena);
    if (find_one(images, "SELECT image_id FROM image_references WHERE name = ?", key, arena, id, err) < 0)
        return -1;
    if (*id) {
        *reference = key;
        return 0;
    }
    if (by_prefix(images, name, arena, id, &ambiguous, err) < 0)
        return -1;
    return *id ? 0
               : err_set(err, ERR_NOT_FOUND, "No such image: %s%s", ref.familiar,
                         ambiguous ? " (several image IDs begin so)" : "");
}

int image_children(struct image_store *images, const char *id, struct arena *arena, struct strv *out, struct err *err)
{
    return image_query_texts(images, out, arena, err, "SELECT image_id FROM image_parents JOIN images ON images.id = image_id"
                                                      " WHERE parent_id = ?1 AND image_id != ?1 AND hidden = 0 LIMIT 2", id);
}

struct reference_rows {
    struct image_references *out;
    struct arena *arena;
};

static int take_reference(void *context, const struct store_row *row, struct err *err)
{
    const struct reference_rows *rows = context;
    struct image_references *out = rows->out;
    if ((out->len & (out->len - 1)) == 0) { // an image may have thousands
        struct image_reference *grown = arena_alloc(rows->arena, MAX_OF(2 * out->len, (size_t)1) * sizeof(*grown));
        if (out->len)
            memcpy(grown, out->items, out->len * sizeof(*grown));
        out->items = grown;
    }
    out->items[out->len++] = (struct image_reference){
        .name = arena_strdup(rows->arena, store_text(row, 0)),
        .familiar = arena_strdup(rows->arena, store_text(row, 1)),
        .repository = arena_strdup(rows->arena, store_text(row, 2)),
        .by_digest = store_int(row, 3),
    };
    return 0;
}

int image_find(struct image_store *images, const char *name, char id[OCI_DIGEST_SIZE], struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    char *found, *reference;
    if (image_resolve(images, name, &arena, &found, &reference, err) < 0)
        return -1;
    snprintf(id, OCI_DIGEST_SIZE, "%s", found);
    return 0;
}

int image_references_of(struct image_store *images, const char *id, struct arena *arena, struct image_references *out,
                        struct err *err)
{
    struct reference_rows rows = { out, arena };
    *out = (struct image_references){ 0 };
    return store_query(images->store, err, take_reference, &rows,
                       "SELECT name, familiar, repository, by_digest FROM image_references WHERE image_id = ?"
                       " ORDER BY familiar",
                       "t", id);
}

int image_put_reference(struct image_store *images, const struct image_ref *ref, const char *id, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    if (store_exec(images->store, err,
                   "INSERT INTO image_references(name, familiar, repository, by_digest, image_id) VALUES(?, ?, ?, ?, ?)"
                   " ON CONFLICT(name) DO UPDATE SET image_id = excluded.image_id",
                   "tttit", image_ref_key(ref, &arena), ref->familiar, ref->familiar_name, (int64_t)(ref->digest != NULL),
                   id) < 0)
        return -1;
    return store_exec(images->store, err, "UPDATE images SET tagged_ns = ?, hidden = 0 WHERE id = ?", "it", clock_wall_ns(), id);
}

static int refuse_loose(struct image_store *images, const char *id, struct arena *arena, struct err *err)
{
    char *loose;
    if (find_one(images, "SELECT image_id FROM image_layers JOIN image_chains ON image_chains.id = chain_id WHERE image_id = ? AND driver = 'loose' LIMIT 1", id, arena, &loose, err) < 0)
        return -1;
    return loose ? err_set(err, ERR_CONFLICT, "image %s is a step of a build that no image was made of: it can't be named", id) : 0;
}

static int put_tag(struct image_store *images, const struct image_ref *ref, const char *id, struct err *err)
{
    if (store_begin(images->store, err) < 0)
        return -1;
    if (image_put_reference(images, ref, id, err) < 0) {
        store_rollback(images->store);
        return -1;
    }
    return store_commit(images->store, err);
}

int image_tag(struct image_store *images, const char *name, const char *reference, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image_ref ref;
    char *id, *from;
    if (image_ref_parse(reference, true, &arena, &ref, err) < 0)
        return err_wrap(err, "%s", "Error parsing reference");
    if (ref.digest)
        return err_set(err, ERR_INVALID_ARGUMENT, "refusing to create a tag with a digest reference");
    if (str_eq(ref.familiar_name, "sha256"))
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "refusing to create an ambiguous tag using digest algorithm as name");
    image_lock(images);
    int result = image_resolve(images, name, &arena, &id, &from, err);
    if (result == 0)
        result = refuse_loose(images, id, &arena, err);
    if (result == 0)
        result = put_tag(images, &ref, id, err);
    image_unlock(images);
    return result;
}

int image_show(struct image_store *images, const char *id, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    if (refuse_loose(images, id, &arena, err) < 0 || store_begin(images->store, err) < 0)
        return -1;
    if (store_exec(images->store, err, "UPDATE images SET hidden = 0 WHERE id = ? AND hidden = 2", "t", id) < 0) {
        store_rollback(images->store);
        return -1;
    }
    return store_commit(images->store, err);
}

static int take_size(void *context, const struct store_row *row, struct err *err)
{
    *(int64_t *)context = store_int(row, 0);
    return 0;
}

int image_layer_size(struct image_store *images, const char *diff_id, int64_t *size, struct err *err)
{
    *size = -1;
    return store_query(images->store, err, take_size, size, "SELECT size FROM image_chains WHERE diff_id = ? LIMIT 1", "t", diff_id);
}

// ---- manifests ------------------------------------------------------------------------------------------------------

int image_put_manifest(struct image_store *images, const char *id, const struct image_manifest *manifest, struct err *err)
{
    return store_exec(images->store, err,
                      "INSERT INTO image_manifests(image_id, repository, digest, media_type, text) VALUES(?, ?, ?, ?, ?)"
                      " ON CONFLICT DO NOTHING",
                      "ttttt", id, manifest->repository, manifest->digest, manifest->media_type, manifest->text);
}

struct manifest_rows {
    struct json_list *out;
    struct arena *arena;
};

static int take_manifest(void *context, const struct store_row *row, struct err *err)
{
    const struct manifest_rows *rows = context;
    struct image_manifest *manifest = json_list_add(rows->out, &image_manifest_table, rows->arena);
    *manifest = (struct image_manifest){ arena_strdup(rows->arena, store_text(row, 0)), arena_strdup(rows->arena, store_text(row, 1)),
                                         arena_strdup(rows->arena, store_text(row, 2)), arena_strdup(rows->arena, store_text(row, 3)),
                                         arena_strdup(rows->arena, store_text(row, 4)), store_int(row, 5) };
    return 0;
}

int image_manifests(struct image_store *images, const char *id, struct arena *arena, struct json_list *out, struct err *err)
{
    struct manifest_rows rows = { out, arena };
    *out = (struct json_list){ 0 };
    return store_query(images->store, err, take_manifest, &rows,
                       // Equal chains stand at equal positions, and below them all are equal.
                       "SELECT m.image_id, m.repository, m.digest, m.media_type, m.text, COUNT(*) FROM image_manifests m"
                       " JOIN image_layers theirs ON theirs.image_id = m.image_id"
                       " JOIN image_layers ours ON ours.chain_id = theirs.chain_id AND ours.image_id = ?"
                       " GROUP BY m.image_id, m.repository, m.digest ORDER BY m.image_id != ?, COUNT(*) DESC LIMIT 32",
                       "tt", id, id);
}

static int put_push(struct image_store *images, const struct image_ref *ref, const struct image_manifest *manifest, struct err *err)
{
    if (store_begin(images->store, err) < 0)
        return -1;
    if (image_put_manifest(images, manifest->image_id, manifest, err) < 0 ||
        image_put_reference(images, ref, manifest->image_id, err) < 0) {
        store_rollback(images->store);
        return -1;
    }
    return store_commit(images->store, err);
}

int image_record_push(struct image_store *images, const struct image_manifest *manifest, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image_ref ref;
    char *name = arena_printf(&arena, "%s@%s", manifest->repository, manifest->digest), *id;
    if (image_ref_parse(name, false, &arena, &ref, err) < 0)
        return -1;
    image_lock(images);
    // It may have gone meanwhile: then there is nothing to record.
    int result = find_one(images, "SELECT id FROM images WHERE id = ?", manifest->image_id, &arena, &id, err);
    if (result == 0 && id)
        result = put_push(images, &ref, manifest, err);
    image_unlock(images);
    return result;
}

// ---- whole images ---------------------------------------------------------------------------------------------------

static int take_image(void *context, const struct store_row *row, struct err *err)
{
    struct image *image = context;
    image->created_ns = store_int(row, 0);
    image->tagged_ns = store_int(row, 1);
    return 0;
}

struct layer_rows {
    struct image *image;
    struct arena *arena;
};

static int take_layer(void *context, const struct store_row *row, struct err *err)
{
    const struct layer_rows *rows = context;
    struct image *image = rows->image;
    size_t len = image->chain_ids.len;
    if ((len & (len - 1)) == 0) {
        int64_t *grown = arena_alloc(rows->arena, MAX_OF(2 * len, (size_t)1) * sizeof(*grown));
        if (len)
            memcpy(grown, image->layer_sizes, len * sizeof(*grown));
        image->layer_sizes = grown;
    }
    image->layer_sizes[len] = store_int(row, 1);
    image->size += store_int(row, 1);
    strv_push_arena(&image->chain_ids, rows->arena, store_text(row, 0));
    return 0;
}

static int load_layers(struct image_store *images, struct arena *arena, struct image *out, struct err *err)
{
    struct layer_rows layers = { out, arena };
    return store_query(images->store, err, take_layer, &layers,
                       "SELECT chain_id, size FROM image_layers JOIN image_chains ON image_chains.id = chain_id"
                       " WHERE image_id = ? ORDER BY position",
                       "t", out->id);
}

// What the store knows of it; inside a transaction, so that the parts belong together.
static int load_rows(struct image_store *images, char *id, struct arena *arena, struct image *out, struct err *err)
{
    struct image_references references;
    struct strv children = { 0 };
    *out = (struct image){ .id = id };
    if (store_query(images->store, err, take_image, out,
                    "SELECT created_ns, tagged_ns FROM images WHERE id = ?", "t", id) < 0 ||
        load_layers(images, arena, out, err) < 0 ||
        find_one(images, "SELECT parent_id FROM image_parents JOIN images ON images.id = parent_id WHERE image_id = ? AND hidden = 0", id, arena,
                 &out->parent, err) < 0 ||
        image_children(images, id, arena, &children, err) < 0 || image_references_of(images, id, arena, &references, err) < 0)
        return -1;
    out->has_children = children.len > 0;
    for (size_t i = 0; i < references.len; i++)
        strv_push_arena(references.items[i].by_digest ? &out->digests : &out->tags, arena, references.items[i].familiar);
    return 0;
}

static int load_config(struct image_store *images, struct arena *arena, struct image *image, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(CONFIG_SIZE_MAX);
    if (file_read_at(images->blobs_fd, oci_digest_hex(image->id), &text, err) < 0)
        return err->class == ERR_NOT_FOUND ? err_set(err, ERR_NOT_FOUND, "No such image: %s", image->id) : -1;
    image->config_text = arena_strndup(arena, buf_text(&text), text.size);
    if (json_decode_text(&oci_image_config_table, image->config_text, text.size, &image->config, arena, NULL, err) < 0)
        return err_wrap(err, "the configuration of image %s", image->id);
    return 0;
}

int image_get(struct image_store *images, const char *name, struct arena *arena, struct image *out, struct err *err)
{
    char *id, *reference;
    struct err own;
    err = err ? err : &own;
    if (store_begin(images->store, err) < 0)
        return -1;
    int result = image_resolve(images, name, arena, &id, &reference, err);
    if (result == 0)
        result = load_rows(images, id, arena, out, err);
    store_rollback(images->store);
    return result < 0 ? -1 : load_config(images, arena, out, err);
}

// An image's layers never change, so what is there after they were read was there before.
int image_get_layers(struct image_store *images, const char *id, struct arena *arena, struct image *out, struct err *err)
{
    char *found;
    *out = (struct image){ .id = arena_strdup(arena, id) };
    if (load_layers(images, arena, out, err) < 0 || find_one(images, "SELECT id FROM images WHERE id = ?", id, arena, &found, err) < 0)
        return -1;
    return found ? 0 : err_set(err, ERR_NOT_FOUND, "No such image: %s", id);
}

static int load_all_rows(struct image_store *images, struct arena *arena, struct image **out, size_t *len,
                         struct err *err)
{
    struct strv ids = { 0 };
    if (image_query_texts(images, &ids, arena, err, "SELECT id FROM images WHERE hidden = 0 ORDER BY created_ns DESC, id",
                          NULL) < 0)
        return -1;
    *out = arena_alloc(arena, (ids.len + 1) * sizeof(**out));
    for (*len = 0; *len < ids.len; (*len)++)
        if (load_rows(images, ids.items[*len], arena, &(*out)[*len], err) < 0)
            return -1;
    return 0;
}

int image_list(struct image_store *images, struct arena *arena, struct image **out, size_t *len, struct err *err)
{
    struct image *all;
    size_t count = 0, kept = 0;
    struct err own;
    err = err ? err : &own;
    if (store_begin(images->store, err) < 0)
        return -1;
    int result = load_all_rows(images, arena, &all, &count, err);
    store_rollback(images->store);
    if (result < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (load_config(images, arena, &all[i], err) == 0)
            all[kept++] = all[i];
        else if (err->class != ERR_NOT_FOUND) // else: removed since
            return -1;
    }
    err_clear(err);
    *out = all;
    *len = kept;
    return 0;
}
