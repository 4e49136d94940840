// The store's content by digest, for a registry that hands it out. Nothing is recorded for it: a configuration's digest is its image's ID, a
// tar's is its layer's diff ID, and where an original is kept, a manifest that came with it names it.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "image_private.h"
#include "layer/layer.h"

// ---- places of layers -----------------------------------------------------------------------------------------------

struct places {
    struct image_place *items;
    size_t len;
    struct arena *arena;
};

enum { PLACES_MAX = 1024 }; // layers of one diff, or of the images that one blob may be of

static int take_place(void *context, const struct store_row *row, struct err *err)
{
    struct places *places = context;
    if (places->len < PLACES_MAX && image_driver_by_word(store_text(row, 1)))
        places->items[places->len++] = (struct image_place){ arena_strdup(places->arena, store_text(row, 0)),
                                                             arena_strdup(places->arena, store_text(row, 1)), places->arena };
    return 0;
}

static int find_places(struct image_store *images, const char *sql, const char *digest, struct arena *arena, struct places *out, struct err *err)
{
    *out = (struct places){ arena_alloc(arena, PLACES_MAX * sizeof(*out->items)), 0, arena };
    return store_query(images->store, err, take_place, out, sql, "t", digest);
}

static int places_of_diff(struct image_store *images, const char *diff_id, struct arena *arena, struct places *out, struct err *err)
{
    return find_places(images, "SELECT DISTINCT folder, driver FROM image_chains WHERE diff_id = ?", diff_id, arena, out, err);
}

// An unpacked layer's own folder is the image's: what is kept of it stands beside.
static char *original_name(const struct image_place *place, const char *digest)
{
    bool inside = image_driver_by_word(place->driver) == &image_driver_erofs;
    return arena_printf(place->arena, "%s%s/" LAYER_ORIGINAL_PREFIX "%s", place->folder, inside ? "" : LAYER_KEPT_SUFFIX, oci_digest_hex(digest));
}

// ---- opening --------------------------------------------------------------------------------------------------------

// A file of ours that is all of the blob: 1, or 0 when there is none.
static int open_file(int dirfd, const char *name, struct image_blob *out, struct err *err)
{
    struct stat info;
    _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ELOOP ? 0 : err_errno(err, errno, "%s", name);
    if (fstat(fd, &info) < 0)
        return err_errno(err, errno, "%s", name);
    if (!S_ISREG(info.st_mode))
        return 0;
    *out = (struct image_blob){ take_fd(&fd), -1, info.st_size };
    return 1;
}

static int open_config(struct image_store *images, const char *digest, struct arena *arena, struct image_blob *out, struct err *err)
{
    struct strv found = { 0 };
    if (image_query_texts(images, &found, arena, err, "SELECT id FROM images WHERE id = ? AND hidden = 0", digest) < 0)
        return -1;
    return found.len ? open_file(images->blobs_fd, oci_digest_hex(digest), out, err) : 0;
}

static int open_tar(struct image_store *images, const char *digest, bool bytes, struct arena *arena, struct image_blob *out, struct err *err)
{
    struct places places;
    struct image_tar tar = { .image_fd = -1, .recipe_fd = -1 };
    struct err why = { 0 };
    if (places_of_diff(images, digest, arena, &places, err) < 0)
        return -1;
    for (size_t i = 0; i < places.len; i++) {
        if (image_place_tar(images, &places.items[i], bytes, &tar, &why) == 0) {
            *out = (struct image_blob){ tar.image_fd, tar.recipe_fd, (int64_t)tar.size };
            return 1;
        }
        fd_close(take_fd(&tar.image_fd));
        fd_close(take_fd(&tar.recipe_fd));
        // Its tar is not known; or the layer went this moment.
        if (why.class != ERR_NOT_IMPLEMENTED && why.class != ERR_NOT_FOUND)
            return *err = why, -1;
    }
    return 0;
}

// A manifest that names the blob says which image's layers it may lie with.
static int open_original(struct image_store *images, const char *digest, struct arena *arena, struct image_blob *out, struct err *err)
{
    struct places places;
    if (find_places(images, "SELECT DISTINCT folder, driver FROM image_chains JOIN image_layers ON chain_id = id WHERE image_id IN"
                            " (SELECT image_id FROM image_manifests WHERE instr(text, ?) > 0)", digest, arena, &places, err) < 0)
        return -1;
    int found = 0;
    for (size_t i = 0; i < places.len && found == 0; i++)
        found = open_file(images->layers_fd, original_name(&places.items[i], digest), out, err);
    return found;
}

int image_blob_open(struct image_store *images, const char *digest, bool bytes, struct image_blob *out, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    if (!oci_digest_valid(digest))
        return 0;
    int found = open_config(images, digest, &arena, out, err);
    if (found == 0)
        found = open_tar(images, digest, bytes, &arena, out, err);
    return found ? found : open_original(images, digest, &arena, out, err);
}

void image_blob_done(struct image_blob *blob)
{
    fd_close(take_fd(&blob->fd));
    fd_close(take_fd(&blob->recipe_fd));
}

// ---- originals ------------------------------------------------------------------------------------------------------

int image_layer_has(struct image_store *images, const char *diff_id, const char *digest, int64_t *size, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image_blob blob = { -1, -1, 0 };
    struct places places;
    if (image_layer_size(images, diff_id, size, err) < 0)
        return -1;
    if (*size < 0 || str_eq(diff_id, digest))
        return *size >= 0;
    if (places_of_diff(images, diff_id, &arena, &places, err) < 0)
        return -1;
    int found = 0;
    for (size_t i = 0; i < places.len && found == 0; i++)
        found = open_file(images->layers_fd, original_name(&places.items[i], digest), &blob, err);
    image_blob_done(&blob);
    return found;
}

// Under the lock no layer goes between its place and the link.
static int keep_locked(struct image_store *images, const char *diff_id, const char *digest, int fd, struct arena *arena, struct err *err)
{
    char from[32];
    struct places places;
    if (places_of_diff(images, diff_id, arena, &places, err) < 0)
        return -1;
    snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
    for (size_t i = 0; i < places.len; i++) {
        const char *name = original_name(&places.items[i], digest);
        if (linkat(AT_FDCWD, from, images->layers_fd, name, AT_SYMLINK_FOLLOW) < 0 && errno != EEXIST && errno != ENOENT)
            return err_errno(err, errno, "%s", name);
    }
    return 0;
}

int image_layer_keep(struct image_store *images, const char *diff_id, const char *digest, int fd, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    image_lock(images);
    int result = keep_locked(images, diff_id, digest, fd, &arena, err);
    image_unlock(images);
    return result;
}

// ---- repositories ---------------------------------------------------------------------------------------------------

int image_repositories(struct image_store *images, struct arena *arena, struct strv *out, struct err *err)
{
    return image_query_texts(images, out, arena, err, "SELECT DISTINCT repository FROM image_references WHERE by_digest = 0 ORDER BY repository", NULL);
}

int image_repository_tags(struct image_store *images, const char *repository, struct arena *arena, struct strv *out, struct err *err)
{
    return image_query_texts(images, out, arena, err, "SELECT substr(familiar, length(repository) + 2) FROM image_references"
                                                      " WHERE repository = ? AND by_digest = 0 ORDER BY 1", repository);
}

int image_repository_images(struct image_store *images, const char *repository, struct arena *arena, struct strv *out, struct err *err)
{
    return image_query_texts(images, out, arena, err, "SELECT DISTINCT image_id FROM image_references WHERE repository = ? ORDER BY 1", repository);
}
