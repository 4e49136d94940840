// At start, and when somebody asks for it: what a crash left behind goes. Folders, mounts and blobs that no record names are removed; an image whose files are not
// whole is forgotten, because it could neither run nor be told from a good one.
#include <fcntl.h>

#include "image_private.h"
#include "layer/layer.h"

// An unpacked layer's EROFS image, and what it keeps of its tar, stay as long as the layer: they have a folder's name in front.
static void keep_images(struct strv *keep, struct arena *arena)
{
    for (size_t i = 0, len = keep->len; i < len; i++) {
        _cleanup_free_ char *name = image_erofs_name(keep->items[i]);
        strv_push_arena(keep, arena, name);
        strv_push_arena(keep, arena, arena_printf(arena, "%s" LAYER_KEPT_SUFFIX, keep->items[i]));
    }
}

// Of staging folders those that nobody holds.
static int remove_abandoned(const struct image_store *images, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    if (file_list_names(images->staging_fd, ".", &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++)
        if (!image_is_held(images, names.items[i]))
            file_remove_tree(images->staging_fd, names.items[i], NULL);
    return 0;
}

// Removes every entry that is not in `keep`. One that can't be removed is not worth refusing to start: it is tried again at
// the next.
static int remove_others(int dirfd, const struct strv *keep, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    if (file_list_names(dirfd, ".", &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++)
        if (!strv_has(keep, names.items[i]))
            file_remove_tree(dirfd, names.items[i], NULL);
    return 0;
}

// ---- broken images --------------------------------------------------------------------------------------------------

static bool config_is_whole(const struct image_store *images, const char *id)
{
    _cleanup_buf_ struct buf text = BUF_INIT(CONFIG_SIZE_MAX);
    char digest[OCI_DIGEST_SIZE];
    if (file_read_at(images->blobs_fd, oci_digest_hex(id), &text, NULL) < 0)
        return false;
    image_digest(buf_text(&text), text.size, digest);
    return str_eq(digest, id);
}

struct wholeness {
    const struct image_store *images;
    bool whole;
};

static int check_layer(void *context, const struct store_row *row, struct err *err)
{
    struct wholeness *found = context;
    const struct image_driver *driver = image_driver_by_word(store_text(row, 1));
    _cleanup_close_ int fd = openat(found->images->layers_fd, store_text(row, 0), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    // One of a driver that we don't know is not ours to judge: it is told when it is wanted.
    if (fd < 0 || (driver && !driver->is_whole(fd)))
        found->whole = false;
    return 0;
}

static int is_whole(struct image_store *images, const char *id, bool *whole, struct err *err)
{
    struct wholeness found = { images, config_is_whole(images, id) };
    if (store_query(images->store, err, check_layer, &found,
                    "SELECT folder, driver FROM image_layers JOIN image_chains ON image_chains.id = chain_id"
                    " WHERE image_id = ?",
                    "t", id) < 0)
        return -1;
    *whole = found.whole;
    return 0;
}

static int drop_broken(struct image_store *images, struct arena *arena, struct err *err)
{
    struct strv ids = { 0 };
    if (image_query_texts(images, &ids, arena, err, "SELECT id FROM images", NULL) < 0)
        return -1;
    for (size_t i = 0; i < ids.len; i++) {
        bool whole;
        if (is_whole(images, ids.items[i], &whole, err) < 0 ||
            (!whole && store_exec(images->store, err, "DELETE FROM images WHERE id = ?", "t", ids.items[i]) < 0))
            return -1;
    }
    return store_exec(images->store, err,
                      "DELETE FROM image_chains WHERE NOT EXISTS"
                      " (SELECT 1 FROM image_layers WHERE chain_id = image_chains.id)",
                      "");
}

// ---- the whole ------------------------------------------------------------------------------------------------------

static int sweep_records(struct image_store *images, struct arena *arena, struct strv *folders, struct strv *trees, struct strv *blobs,
                         struct err *err)
{
    if (drop_broken(images, arena, err) < 0 ||
        image_query_texts(images, folders, arena, err, "SELECT DISTINCT folder FROM image_chains", NULL) < 0 ||
        image_query_texts(images, trees, arena, err, "SELECT id FROM image_chains", NULL) < 0)
        return -1;
    // Behind "sha256:".
    return image_query_texts(images, blobs, arena, err, "SELECT substr(id, 8) FROM images", NULL);
}

int image_sweep(struct image_store *images, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct strv folders = { 0 }, trees = { 0 }, blobs = { 0 };
    if (store_begin(images->store, err) < 0)
        return -1;
    if (sweep_records(images, &arena, &folders, &trees, &blobs, err) < 0) {
        store_rollback(images->store);
        return -1;
    }
    image_sweep_mounts(images, &folders);
    keep_images(&folders, &arena);
    for (size_t i = 0; i < trees.len; i++) {
        _cleanup_free_ char *name = image_tree_name(trees.items[i]);
        strv_push_arena(&folders, &arena, name);
    }
    if (store_commit(images->store, err) < 0 || remove_abandoned(images, err) < 0 ||
        remove_others(images->layers_fd, &folders, err) < 0)
        return -1;
    return remove_others(images->blobs_fd, &blobs, err);
}
