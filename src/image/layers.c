// The "overlay" driver: one unpacked folder per layer, stacked by overlayfs. It publishes, opens and takes away folders;
// which ones, the records say.
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/xattr.h>

#include "base/num.h"
#include "image_private.h"
#include "kernel/path.h"

const char *image_driver_name(const struct image_store *images)
{
    return "overlay2";
}

// ---- opening --------------------------------------------------------------------------------------------------------

// Top first. An image that has the same diff twice names its folder twice, and overlayfs refuses that; the lower one can
// be left out, because whatever it does the upper one does again.
int image_layer_folders(struct image_store *images, const struct image *image, struct arena *arena, struct strv *out,
                        struct strv *diff_ids, struct err *err)
{
    for (size_t i = image->chain_ids.len; i-- > 0;) {
        struct strv folder = { 0 };
        if (image_query_texts(images, &folder, arena, err, "SELECT folder FROM image_chains WHERE id = ?",
                              image->chain_ids.items[i]) < 0)
            return -1;
        if (folder.len == 0)
            return err_set(err, ERR_NOT_FOUND, "No such image: %s", image->id);
        if (strv_has(out, folder.items[0]))
            continue;
        strv_push_arena(out, arena, folder.items[0]);
        strv_push_arena(diff_ids, arena,
                        i < image->config.rootfs.diff_ids.len ? image->config.rootfs.diff_ids.items[i] : "");
    }
    return 0;
}

int image_layers_open(struct image_store *images, const struct image *image, struct arena *arena,
                      struct image_layers *out, struct err *err)
{
    struct strv folders = { 0 };
    struct image_layers layers = { 0 };
    if (image_layer_folders(images, image, arena, &folders, &layers.diff_ids, err) < 0)
        return -1;
    layers.fds = mem_alloc((folders.len + 1) * sizeof(*layers.fds));
    for (size_t i = 0; i < folders.len; i++) {
        int fd = openat(images->layers_fd, folders.items[i], O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
            err_errno(err, errno, "open layer %s", folders.items[i]);
            image_layers_done(&layers);
            return -1;
        }
        layers.fds[layers.len++] = fd;
        strv_push_arena(&layers.paths, arena, arena_printf(arena, "%s/layers/%s", images->root_path, folders.items[i]));
    }
    *out = layers;
    return 0;
}

void image_layers_done(struct image_layers *layers)
{
    for (size_t i = 0; i < layers->len; i++)
        fd_close(layers->fds[i]);
    free(layers->fds);
    *layers = (struct image_layers){ 0 };
}

// ---- publishing and taking away -------------------------------------------------------------------------------------

static int set_opaque(int layer_fd, const char *folder, struct err *err)
{
    _cleanup_close_ int place = path_open_plain(layer_fd, folder, err);
    if (place < 0)
        return -1;
    _cleanup_close_ int fd = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
        return err_errno(err, errno, "%s", folder);
    return 0;
}

int image_set_opaque(int layer_fd, const struct strv *folders, struct err *err)
{
    for (size_t i = 0; i < folders->len; i++)
        if (set_opaque(layer_fd, folders->items[i], err) < 0)
            return err_wrap(err, "make folder opaque");
    return 0;
}

int image_trash_layer(struct image_store *images, const char *folder, char **trash, struct err *err)
{
    char random[17];
    random_hex(random, 16);
    _cleanup_free_ char *name = mem_printf("trash-%s", random);
    if (renameat(images->layers_fd, folder, images->staging_fd, name) < 0)
        return err_errno(err, errno, "layer %s", folder);
    image_erofs_remove(images, folder);
    *trash = take_ptr(&name);
    return 0;
}

int image_publish_layer(struct image_store *images, int staging_fd, const char *from, const char *folder, struct err *err)
{
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
