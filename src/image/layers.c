// Layers' folders: which ones an image has, opened through their drivers; put in place and taken away.
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>

#include "base/num.h"
#include "image_private.h"
#include "layer/layer.h"

// ---- opening --------------------------------------------------------------------------------------------------------

static int take_place(void *context, const struct store_row *row, struct err *err)
{
    struct image_place *place = context;
    place->folder = arena_strdup(place->arena, store_text(row, 0));
    place->driver = arena_strdup(place->arena, store_text(row, 1));
    return 0;
}

int image_find_place(struct image_store *images, const struct image *image, size_t index, struct image_place *out, struct err *err)
{
    const char *chain = image->chain_ids.items[index];
    if (store_query(images->store, err, take_place, out, "SELECT folder, driver FROM image_chains WHERE id = ?", "t", chain) < 0)
        return -1;
    if (!out->folder)
        return err_set(err, ERR_NOT_FOUND, "No such image: %s", image->id);
    if (!image_driver_by_word(out->driver))
        return err_set(err, ERR_NOT_IMPLEMENTED, "layer %s is of the storage driver %s, which this version does not know", chain,
                       out->driver);
    return 0;
}

static int open_place(struct image_store *images, const struct image_place *place, bool for_guest, struct image_layers *out,
                      struct err *err)
{
    const struct image_driver *driver = image_driver_by_word(place->driver);
    char *path = for_guest ? NULL : driver->path(images, place->folder, place->arena);
    int fd = for_guest ? driver->open_image(images, place->folder, place->arena, &path, err)
                       : driver->open(images, place->folder, err);
    if (fd < 0)
        return err_wrap(err, "layer %.12s", place->folder);
    out->fds[out->len++] = fd;
    strv_push_arena(&out->paths, place->arena, path);
    return 0;
}

int image_layer_paths(struct image_store *images, const struct image *image, struct arena *arena, struct strv *out, struct err *err)
{
    for (size_t i = image->chain_ids.len; i-- > 0;) {
        struct image_place place = { .arena = arena };
        if (image_find_place(images, image, i, &place, err) < 0)
            return -1;
        const char *path = image_driver_by_word(place.driver)->path(images, place.folder, arena);
        if (!strv_has(out, path))
            strv_push_arena(out, arena, path);
    }
    return 0;
}

// Top first. An image that has the same diff twice names its folder twice, and overlayfs refuses that; the lower one can
// be left out, because whatever it does the upper one does again.
static int open_layers(struct image_store *images, const struct image *image, bool for_guest, struct arena *arena,
                       struct image_layers *out, struct err *err)
{
    struct strv seen = { 0 };
    out->fds = mem_alloc((image->chain_ids.len + 1) * sizeof(*out->fds));
    for (size_t i = image->chain_ids.len; i-- > 0;) {
        const struct strv *diff_ids = &image->config.rootfs.diff_ids;
        struct image_place place = { .arena = arena };
        if (image_find_place(images, image, i, &place, err) < 0)
            return -1;
        if (strv_has(&seen, place.folder))
            continue;
        strv_push_arena(&seen, arena, place.folder);
        if (open_place(images, &place, for_guest, out, err) < 0)
            return -1;
        strv_push_arena(&out->diff_ids, arena, i < diff_ids->len ? diff_ids->items[i] : "");
    }
    return 0;
}

static int open_or_none(struct image_store *images, const struct image *image, bool for_guest, struct arena *arena,
                        struct image_layers *out, struct err *err)
{
    struct image_layers layers = { 0 };
    if (open_layers(images, image, for_guest, arena, &layers, err) < 0) {
        image_layers_done(&layers);
        return -1;
    }
    *out = layers;
    return 0;
}

int image_layers_open(struct image_store *images, const struct image *image, struct arena *arena,
                      struct image_layers *out, struct err *err)
{
    return open_or_none(images, image, false, arena, out, err);
}

int image_erofs_open(struct image_store *images, const struct image *image, struct arena *arena, struct image_layers *out,
                     struct err *err)
{
    return open_or_none(images, image, true, arena, out, err);
}

void image_layers_done(struct image_layers *layers)
{
    for (size_t i = 0; i < layers->len; i++)
        fd_close(layers->fds[i]);
    free(layers->fds);
    *layers = (struct image_layers){ 0 };
}

int image_loose_open(struct image_store *images, const struct image *image, struct arena *arena, int *fd, struct err *err)
{
    struct image_place place = { .arena = arena };
    if (image->chain_ids.len == 0)
        return 0;
    if (image_find_place(images, image, image->chain_ids.len - 1, &place, err) < 0)
        return -1;
    if (!str_eq(place.driver, image_driver_loose.word))
        return 0;
    *fd = image_driver_loose.open(images, place.folder, err);
    return *fd < 0 ? -1 : 1;
}

// ---- publishing and taking away -------------------------------------------------------------------------------------

int image_trash_layer(struct image_store *images, const char *folder, char **trash, struct err *err)
{
    char random[17];
    random_hex(random, 16);
    _cleanup_free_ char *name = mem_printf("trash-%s", random);
    // Nobody mounts it between the two.
    image_mounts_lock(images);
    int done = renameat(images->layers_fd, folder, images->staging_fd, name);
    int number = errno;
    image_unmount_layer(images, folder);
    image_mounts_unlock(images);
    if (done < 0)
        return err_errno(err, number, "layer %s", folder);
    image_erofs_remove(images, folder);
    image_kept_remove(images, folder);
    *trash = take_ptr(&name);
    return 0;
}

void image_kept_remove(struct image_store *images, const char *folder)
{
    _cleanup_free_ char *kept = mem_printf("%s" LAYER_KEPT_SUFFIX, folder);
    file_remove_tree(images->layers_fd, kept, NULL);
}

// What a layer's folder keeps of its tar comes first: a layer that is in its place is there with all that belongs to it.
static int publish_kept(struct image_store *images, int staging_fd, const char *from, const char *folder, struct err *err)
{
    _cleanup_free_ char *kept_from = mem_printf("%s" LAYER_KEPT_SUFFIX, from), *kept = mem_printf("%s" LAYER_KEPT_SUFFIX, folder);
    image_kept_remove(images, folder);
    if (renameat2(staging_fd, kept_from, images->layers_fd, kept, RENAME_NOREPLACE) < 0 && errno != ENOENT)
        return err_errno(err, errno, "layer %s", kept);
    return 0;
}

int image_publish_layer(struct image_store *images, int staging_fd, const char *from, const char *folder, struct err *err)
{
    if (publish_kept(images, staging_fd, from, folder, err) < 0)
        return -1;
    if (renameat2(staging_fd, from, images->layers_fd, folder, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EEXIST)
        return err_errno(err, errno, "layer %s", folder);
    // No record names it: left by a crash, or by a removal that could not finish. It may be incomplete.
    _cleanup_free_ char *trash = NULL;
    if (image_trash_layer(images, folder, &trash, err) < 0)
        return -1;
    if (renameat2(staging_fd, from, images->layers_fd, folder, RENAME_NOREPLACE) < 0)
        return err_errno(err, errno, "layer %s", folder);
    file_remove_tree(images->staging_fd, trash, NULL);
    return 0;
}
