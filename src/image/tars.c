// Layers as the tars that they were, for whoever gives images away.
#include <errno.h>
#include <fcntl.h>

#include "image_private.h"
#include "layer/layer.h"

int image_place_tar(struct image_store *images, const struct image_place *place, bool with_content, struct image_tar *out, struct err *err)
{
    const struct image_driver *driver = image_driver_by_word(place->driver);
    struct layer_recipe_info info;
    out->recipe_fd = driver->open_recipe(images, place->folder, err);
    if (out->recipe_fd < 0 || layer_recipe_read_info(out->recipe_fd, &info, err) < 0)
        return -1;
    out->size = info.tar_size;
    return with_content && (out->image_fd = driver->open_content(images, place->folder, info.tar_size, err)) < 0 ? -1 : 0;
}

static int open_tar(struct image_store *images, const struct image *image, size_t index, bool with_content, struct arena *arena,
                    struct image_tar *out, struct err *err)
{
    struct image_place place = { .arena = arena };
    if (image_find_place(images, image, index, &place, err) < 0)
        return -1;
    out->diff_id = index < image->config.rootfs.diff_ids.len ? image->config.rootfs.diff_ids.items[index] : "";
    return image_place_tar(images, &place, with_content, out, err) < 0 ? err_wrap(err, "layer %.19s", out->diff_id) : 0;
}

int image_layer_recipe(struct image_store *images, const struct image *image, size_t index, int *recipe_fd, int *image_fd, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image_tar tar = { .image_fd = -1, .recipe_fd = -1 };
    struct err why = { 0 };
    if (open_tar(images, image, index, true, &arena, &tar, &why) == 0) {
        *recipe_fd = tar.recipe_fd;
        *image_fd = tar.image_fd;
        return 1;
    }
    fd_close(tar.recipe_fd);
    fd_close(tar.image_fd);
    if (why.class == ERR_NOT_IMPLEMENTED)
        return 0;
    *err = why;
    return -1;
}

// "original-<hex>" in a folder, as a digest; false: none.
static bool find_original(const struct image_store *images, const char *folder, char digest[OCI_DIGEST_SIZE])
{
    _cleanup_strv_ struct strv names = { 0 };
    if (file_list_names(images->layers_fd, folder, &names, NULL) < 0)
        return false;
    for (size_t i = 0; i < names.len; i++) {
        snprintf(digest, OCI_DIGEST_SIZE, "sha256:%s", names.items[i] + (str_starts(names.items[i], LAYER_ORIGINAL_PREFIX) ? strlen(LAYER_ORIGINAL_PREFIX) : 0));
        if (str_starts(names.items[i], LAYER_ORIGINAL_PREFIX) && oci_digest_valid(digest))
            return true;
    }
    return false;
}

int image_layer_original(struct image_store *images, const struct image *image, size_t index, char digest[OCI_DIGEST_SIZE], int *fd, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image_place place = { .arena = &arena };
    struct stat info;
    if (image_find_place(images, image, index, &place, err) < 0)
        return -1;
    // An unpacked layer's own folder is the image's: anything may be called so there.
    bool inside = image_driver_by_word(place.driver) == &image_driver_erofs;
    char *folder = arena_printf(&arena, "%s%s", place.folder, inside ? "" : LAYER_KEPT_SUFFIX);
    if (!find_original(images, folder, digest))
        return 0;
    char *path = arena_printf(&arena, "%s/" LAYER_ORIGINAL_PREFIX "%s", folder, oci_digest_hex(digest));
    _cleanup_close_ int found = openat(images->layers_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (found < 0 || fstat(found, &info) < 0 || !S_ISREG(info.st_mode))
        return 0;
    *fd = take_fd(&found);
    return 1;
}

char *image_tars_manifest(const struct image *image, const struct image_tars *tars, struct arena *arena, char digest[OCI_DIGEST_SIZE])
{
    json_t *layers = json_array();
    for (size_t i = 0; i < tars->len; i++)
        json_array_append_new(layers, json_pack("{s:s, s:s, s:I}", "mediaType", MEDIA_OCI_LAYER, "digest", tars->items[i].diff_id, "size",
                                                (json_int_t)tars->items[i].size));
    json_t *config = json_pack("{s:s, s:s, s:I}", "mediaType", MEDIA_OCI_CONFIG, "digest", image->id, "size",
                               (json_int_t)strlen(image->config_text));
    json_t *manifest = json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", MEDIA_OCI_MANIFEST, "config", config, "layers",
                                 layers);
    _cleanup_free_ char *text = json_text(manifest);
    json_decref(manifest);
    image_digest(text, strlen(text), digest);
    return arena_strdup(arena, text);
}

static int open_all(struct image_store *images, const struct image *image, bool with_content, struct arena *arena, struct image_tars *out,
                    struct err *err)
{
    struct image_tars tars = { .items = mem_alloc((image->chain_ids.len + 1) * sizeof(*tars.items)) };
    for (size_t i = 0; i < image->chain_ids.len; i++) {
        struct image_tar *tar = &tars.items[tars.len++];
        *tar = (struct image_tar){ .image_fd = -1, .recipe_fd = -1 };
        if (open_tar(images, image, i, with_content, arena, tar, err) < 0) {
            image_tars_done(&tars);
            return -1;
        }
    }
    *out = tars;
    return 0;
}

int image_tars_open(struct image_store *images, const struct image *image, struct arena *arena, struct image_tars *out,
                    struct err *err)
{
    return open_all(images, image, true, arena, out, err);
}

char *image_plain_manifest(struct image_store *images, const struct image *image, struct arena *arena, char digest[OCI_DIGEST_SIZE],
                           struct err *err)
{
    struct image_tars tars;
    if (open_all(images, image, false, arena, &tars, err) < 0)
        return NULL;
    char *text = image_tars_manifest(image, &tars, arena, digest);
    image_tars_done(&tars);
    return text;
}

void image_tars_done(struct image_tars *tars)
{
    for (size_t i = 0; i < tars->len; i++) {
        fd_close(tars->items[i].image_fd);
        fd_close(tars->items[i].recipe_fd);
    }
    free(tars->items);
    *tars = (struct image_tars){ 0 };
}

int image_config_open(struct image_store *images, const struct image *image, struct err *err)
{
    int fd = openat(images->blobs_fd, oci_digest_hex(image->id), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "configuration of %.19s", image->id) : fd;
}
