// Taking over what a worker staged. The worker is not trusted: its text is checked against the digest it claims, its folders
// are found without following a link, and what is published is what was checked (same inode).
//
// Order: everything is made complete on disk (files, modes, marks, one sync), then renamed into place, then named
// by records in one transaction. A crash before the transaction leaves folders that no record names; the next start
// removes them.
#include <errno.h>
#include <fcntl.h>

#include "base/clock.h"
#include "base/num.h"
#include "image_private.h"
#include "kernel/path.h"

#define LAYERS_MAX 500 // what one overlay can stack
#define REFERENCES_MAX 1000

struct layer {
    const struct image_staged_layer *staged;
    char chain_id[OCI_DIGEST_SIZE];
    char *folder; // where it lies, once known
    char *driver; // in which form
    int fd; // of the staged folder, -1 when there is none
    bool known; // its chain has a record
};

struct commit {
    struct image_store *images;
    struct arena *arena;
    const struct image_staged *staged;
    int staging_fd, layers_fd; // layers_fd: of the staging folder
    char *config_text;
    size_t config_size;
    struct oci_image_config config;
    struct image_ref *refs;
    struct layer *layers; // bottom first
    size_t layer_len;
    struct strv published; // folders that this commit put in place
    bool loose; // a layer is
    bool fresh; // the image has no record: its blob is of this commit
};

static const struct json_field staged_layer_fields[] = {
    JSON_FIELD("diff_id", JSON_TEXT, struct image_staged_layer, diff_id, .required = true),
    JSON_FIELD("size", JSON_INT, struct image_staged_layer, size),
    JSON_FIELD("opaque", JSON_TEXTS, struct image_staged_layer, opaque, .flags = JSON_OMIT_EMPTY),
};
static const struct json_table staged_layer_table = JSON_TABLE(struct image_staged_layer, staged_layer_fields);

static const struct json_field staged_fields[] = {
    JSON_FIELD("config_digest", JSON_TEXT, struct image_staged, config_digest, .required = true),
    JSON_FIELD("references", JSON_TEXTS, struct image_staged, references),
    JSON_FIELD("layers", JSON_LIST, struct image_staged, layers, .sub = &staged_layer_table),
    JSON_FIELD("manifest", JSON_STRUCT_PTR, struct image_staged, manifest, .sub = &image_manifest_table),
};
const struct json_table image_staged_table = JSON_TABLE(struct image_staged, staged_fields);

static void commit_done(struct commit *commit)
{
    for (size_t i = 0; i < commit->layer_len; i++)
        fd_close(commit->layers[i].fd);
    fd_close(commit->staging_fd);
    fd_close(commit->layers_fd);
}

// ---- checking -------------------------------------------------------------------------------------------------------

static int open_staging(struct commit *commit, const char *name, struct err *err)
{
    int fd = hex_valid(slice_of(name))
                 ? openat(commit->images->staging_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                 : -1;
    if (fd < 0)
        return err_set(err, ERR_NOT_FOUND, "no such staging folder");
    commit->staging_fd = fd;
    // Missing when all layers were known already, or there are none.
    commit->layers_fd = path_open_plain(fd, "layers", NULL);
    return 0;
}

static int read_config(struct commit *commit, struct err *err)
{
    const char *claimed = commit->staged->config_digest;
    char digest[OCI_DIGEST_SIZE];
    _cleanup_free_ char *text = NULL;
    if (!oci_digest_valid(claimed))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid image digest");
    _cleanup_free_ char *path = mem_printf("blobs/%s", oci_digest_hex(claimed));
    if (path_read_file(commit->staging_fd, path, CONFIG_SIZE_MAX, &text, &commit->config_size, err) < 0)
        return err_wrap(err, "image configuration");
    image_digest(text, commit->config_size, digest);
    if (!str_eq(digest, claimed))
        return err_set(err, ERR_INVALID_ARGUMENT, "image configuration: digest is %s, expected %s", digest, claimed);
    if (json_decode_text(&oci_image_config_table, text, commit->config_size, &commit->config, commit->arena, NULL, err) < 0)
        return err_wrap(err, "image configuration");
    commit->config_text = arena_strndup(commit->arena, text, commit->config_size);
    return 0;
}

static int check_references(struct commit *commit, struct err *err)
{
    const struct strv *list = &commit->staged->references;
    if (list->len > REFERENCES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "image has more than %d references", REFERENCES_MAX);
    commit->refs = arena_alloc(commit->arena, (list->len + 1) * sizeof(*commit->refs));
    for (size_t i = 0; i < list->len; i++)
        if (image_ref_parse(list->items[i], true, commit->arena, &commit->refs[i], err) < 0)
            return -1;
    return 0;
}

static int check_layers(struct commit *commit, struct err *err)
{
    const struct json_list *list = &commit->staged->layers;
    const struct strv *diff_ids = &commit->config.rootfs.diff_ids;
    if (list->len > LAYERS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "image has more than %d layers", LAYERS_MAX);
    if (list->len != diff_ids->len)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid manifest, layers length mismatch: expected %zu, got %zu",
                       diff_ids->len, list->len);
    commit->layers = arena_alloc(commit->arena, (list->len + 1) * sizeof(*commit->layers));
    for (size_t i = 0; i < list->len; i++) {
        struct layer *layer = &commit->layers[i];
        layer->staged = json_list_at(list, &staged_layer_table, i);
        if (!oci_digest_valid(layer->staged->diff_id) || layer->staged->size < 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid layer in the image");
        if (!str_eq(layer->staged->diff_id, diff_ids->items[i]))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid diffID for layer %zu: expected %.80s, got %s", i,
                           diff_ids->items[i], layer->staged->diff_id);
        image_chain_id(i ? layer[-1].chain_id : NULL, layer->staged->diff_id, layer->chain_id);
        layer->fd = -1;
        commit->layer_len++;
    }
    return 0;
}

static int check_history(const struct commit *commit, struct err *err)
{
    const struct json_list *history = &commit->config.history;
    size_t layers = 0;
    for (size_t i = 0; i < history->len; i++)
        layers += !((const struct oci_history *)json_list_at(history, &oci_history_table, i))->empty_layer;
    return layers > commit->layer_len
               ? err_set(err, ERR_INVALID_ARGUMENT, "too many non-empty layers in History section")
               : 0;
}

// A name of a repository that no reference has, or a text that is another: the worker was at fault.
static int check_manifest(const struct commit *commit, struct err *err)
{
    const struct image_manifest *manifest = commit->staged->manifest;
    struct image_ref ref;
    char digest[OCI_DIGEST_SIZE];
    if (!manifest)
        return 0;
    image_digest(manifest->text, strlen(manifest->text), digest);
    if (!str_eq(digest, manifest->digest))
        return err_set(err, ERR_INVALID_ARGUMENT, "manifest: digest is %s, expected %.80s", digest, manifest->digest);
    return image_ref_parse(manifest->repository, false, commit->arena, &ref, err);
}

// ---- making the staged folders complete -----------------------------------------------------------------------------

static const struct image_driver *driver_of(const struct commit *commit)
{
    return commit->staged->loose ? &image_driver_loose : commit->images->driver;
}

static int prepare_layer(struct commit *commit, struct layer *layer, struct err *err)
{
    const char *name = oci_digest_hex(layer->staged->diff_id);
    int fd = openat(commit->layers_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "layer %s", name);
    layer->fd = fd;
    return driver_of(commit)->complete(fd, layer->staged, err);
}

static int prepare_layers(struct commit *commit, struct err *err)
{
    bool any = false;
    for (size_t i = 0; i < commit->layer_len && commit->layers_fd >= 0; i++) {
        if (prepare_layer(commit, &commit->layers[i], err) < 0)
            return err_wrap(err, "layer %s", commit->layers[i].staged->diff_id);
        any = any || commit->layers[i].fd >= 0;
    }
    // Everything a record will name is on disk first; one sync for all of it is cheaper than one for each file.
    if (any && syncfs(commit->images->layers_fd) < 0)
        return err_errno(err, errno, "sync layers");
    return 0;
}

// ---- putting in place, with the lock --------------------------------------------------------------------------------

static int first_text(struct commit *commit, const char *sql, const char *parameter, char **out, struct err *err)
{
    struct strv found = { 0 };
    if (image_query_texts(commit->images, &found, commit->arena, err, sql, parameter) < 0)
        return -1;
    *out = found.len ? found.items[0] : NULL;
    return 0;
}

// Where the layer's files are already: by its chain, by another chain with the same diff, or lower in this same image.
static int find_folder(struct commit *commit, struct layer *layer, struct err *err)
{
    if (first_text(commit, "SELECT folder FROM image_chains WHERE id = ?", layer->chain_id, &layer->folder, err) < 0)
        return -1;
    layer->known = layer->folder != NULL;
    if (!layer->known && first_text(commit, "SELECT folder FROM image_chains WHERE diff_id = ? LIMIT 1",
                                    layer->staged->diff_id, &layer->folder, err) < 0)
        return -1;
    if (layer->folder)
        return first_text(commit, "SELECT driver FROM image_chains WHERE folder = ? LIMIT 1", layer->folder, &layer->driver, err);
    for (struct layer *below = commit->layers; below < layer && !layer->folder; below++)
        if (str_eq(below->staged->diff_id, layer->staged->diff_id)) {
            layer->folder = below->folder;
            layer->driver = below->driver;
        }
    return 0;
}

static int publish_layer(struct commit *commit, struct layer *layer, struct err *err)
{
    struct stat checked, placed;
    const char *diff = oci_digest_hex(layer->staged->diff_id);
    if (layer->fd < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "layer %s is missing", layer->staged->diff_id);
    layer->folder = arena_strdup(commit->arena, oci_digest_hex(layer->chain_id));
    layer->driver = (char *)driver_of(commit)->word;
    if (image_publish_layer(commit->images, commit->layers_fd, diff, layer->folder, err) < 0)
        return -1;
    strv_push_arena(&commit->published, commit->arena, layer->folder);
    if (fstat(layer->fd, &checked) < 0 ||
        fstatat(commit->images->layers_fd, layer->folder, &placed, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "layer %s", layer->folder);
    if (checked.st_ino != placed.st_ino || checked.st_dev != placed.st_dev)
        return err_set(err, ERR_CONFLICT, "layer %s: exchanged while it was taken over", layer->staged->diff_id);
    return 0;
}

static int write_blob(struct commit *commit, struct err *err)
{
    char *id;
    if (first_text(commit, "SELECT id FROM images WHERE id = ?", commit->staged->config_digest, &id, err) < 0)
        return -1;
    if (id)
        return 0;
    commit->fresh = true;
    return file_write_at(commit->images->blobs_fd, oci_digest_hex(commit->staged->config_digest), commit->config_text,
                         commit->config_size, 0600, true, err);
}

static int place_files(struct commit *commit, struct err *err)
{
    for (size_t i = 0; i < commit->layer_len; i++) {
        struct layer *layer = &commit->layers[i];
        if (find_folder(commit, layer, err) < 0 || (!layer->folder && publish_layer(commit, layer, err) < 0))
            return -1;
        commit->loose = commit->loose || str_eq(layer->driver, image_driver_loose.word);
    }
    if (commit->loose && !commit->staged->step)
        return err_set(err, ERR_CONFLICT, "it stands on a step of a build that no image was made of");
    if (write_blob(commit, err) < 0)
        return -1;
    // The renames themselves.
    if ((commit->published.len && fsync(commit->images->layers_fd) < 0) ||
        (commit->fresh && fsync(commit->images->blobs_fd) < 0))
        return err_errno(err, errno, "sync image");
    return 0;
}

static void undo_files(struct commit *commit)
{
    struct image_leftovers left = { .folders = commit->published };
    if (commit->fresh)
        strv_push_arena(&left.blobs, commit->arena, oci_digest_hex(commit->staged->config_digest));
    image_leftovers_unlink(commit->images, &left);
    image_leftovers_remove(commit->images, &left);
    image_leftovers_done(&left);
}

// ---- records --------------------------------------------------------------------------------------------------------

static int insert_layers(struct commit *commit, struct err *err)
{
    struct store *store = commit->images->store;
    for (size_t i = 0; i < commit->layer_len; i++) {
        const struct layer *layer = &commit->layers[i];
        if (!layer->known && store_exec(store, err, "INSERT INTO image_chains(id, diff_id, folder, driver, size) VALUES(?, ?, ?, ?, ?)",
                                        "tttti", layer->chain_id, layer->staged->diff_id, layer->folder, layer->driver,
                                        layer->staged->size) < 0)
            return -1;
        if (store_exec(store, err, "INSERT INTO image_layers(image_id, position, chain_id) VALUES(?, ?, ?)", "tit",
                       commit->staged->config_digest, (int64_t)i, layer->chain_id) < 0)
            return -1;
    }
    return 0;
}

static int insert_records(struct commit *commit, struct err *err)
{
    struct store *store = commit->images->store;
    const char *id = commit->staged->config_digest;
    int64_t created_ns = 0;
    clock_parse(slice_of(commit->config.created), &created_ns);
    if (commit->fresh) {
        if (store_exec(store, err, "INSERT INTO images(id, created_ns, tagged_ns, hidden) VALUES(?, ?, 0, ?)", "tii", id,
                       created_ns, (int64_t)(commit->loose ? IMAGE_LOOSE : commit->staged->step ? IMAGE_STEP : IMAGE_SHOWN)) < 0 ||
            insert_layers(commit, err) < 0)
            return -1;
    } else if (!commit->staged->step && store_exec(store, err, "UPDATE images SET hidden = 0 WHERE id = ?", "t", id) < 0) {
        return -1;
    }
    if (commit->staged->parent && store_exec(store, err, "INSERT INTO image_parents(image_id, parent_id) VALUES(?, ?) ON CONFLICT DO NOTHING", "tt",
                                             id, commit->staged->parent) < 0)
        return -1;
    for (size_t i = 0; i < commit->staged->references.len; i++)
        if (image_put_reference(commit->images, &commit->refs[i], id, err) < 0)
            return -1;
    return commit->staged->manifest ? image_put_manifest(commit->images, id, commit->staged->manifest, err) : 0;
}

static int take_over(struct commit *commit, struct err *err)
{
    struct store *store = commit->images->store;
    if (place_files(commit, err) < 0 || store_begin(store, err) < 0)
        return -1;
    if (insert_records(commit, err) < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

int image_commit_staged(struct image_store *images, const char *staging, const struct image_staged *staged,
                        struct arena *arena, char **id, struct err *err)
{
    _cleanup_(commit_done) struct commit commit = { .images = images, .arena = arena, .staged = staged, .staging_fd = -1,
                                                    .layers_fd = -1 };
    if (open_staging(&commit, staging, err) < 0 || read_config(&commit, err) < 0 || check_references(&commit, err) < 0 ||
        check_manifest(&commit, err) < 0 || check_layers(&commit, err) < 0 || check_history(&commit, err) < 0 || prepare_layers(&commit, err) < 0)
        return -1;
    image_lock(images);
    int result = take_over(&commit, err);
    if (result < 0)
        undo_files(&commit);
    image_unlock(images);
    if (result == 0)
        *id = arena_strdup(arena, staged->config_digest);
    return result;
}
