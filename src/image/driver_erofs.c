// The "erofs" driver: a layer is one EROFS image, and the recipe that gives its exact tar back (layer/layer.h). Containers have it
// mounted, guests as a disk: the same file.
//
// The image is what the worker wrote, and the kernel reads it: the worker is not trusted, so this rests on EROFS, whose
// uncompressed form is made for images of strangers, and on the fences around the worker (transfer/jail.c).
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "image_private.h"
#include "layer/layer.h"

#define IMAGE_BLOCK 4096

static int complete_file(int folder_fd, const char *name, int64_t block, struct err *err)
{
    struct stat info;
    _cleanup_close_ int fd = openat(folder_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) < 0)
        return err_errno(err, errno, "%s", name);
    if (!S_ISREG(info.st_mode) || info.st_nlink != 1 || info.st_size == 0 || info.st_size % block != 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: not what was to be staged", name);
    if (fchown(fd, 0, 0) < 0 || fchmod(fd, 0600) < 0)
        return err_errno(err, errno, "%s", name);
    return 0;
}

static int complete(int folder_fd, const struct image_staged_layer *staged, struct err *err)
{
    if (fchown(folder_fd, 0, 0) < 0 || fchmod(folder_fd, 0700) < 0)
        return err_errno(err, errno, "folder");
    if (complete_file(folder_fd, LAYER_IMAGE_NAME, IMAGE_BLOCK, err) < 0 || complete_file(folder_fd, LAYER_RECIPE_NAME, 1, err) < 0)
        return -1;
    return 0;
}

static bool is_whole(int folder_fd)
{
    struct stat image, recipe;
    return fstatat(folder_fd, LAYER_IMAGE_NAME, &image, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(image.st_mode) &&
           fstatat(folder_fd, LAYER_RECIPE_NAME, &recipe, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(recipe.st_mode);
}

static char *path_of(const struct image_store *images, const char *folder, struct arena *arena)
{
    return arena_printf(arena, "%s/%s", images->mounts_path, folder);
}

static int open_file(const struct image_store *images, const char *name, struct err *err)
{
    int fd = openat(images->layers_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "%s", name) : fd;
}

static int open_image(struct image_store *images, const char *folder, struct arena *arena, char **path, struct err *err)
{
    _cleanup_free_ char *name = mem_printf("%s/" LAYER_IMAGE_NAME, folder);
    *path = arena_printf(arena, "%s/layers/%s", images->root_path, name);
    return open_file(images, name, err);
}

static int open_recipe(struct image_store *images, const char *folder, struct err *err)
{
    _cleanup_free_ char *name = mem_printf("%s/" LAYER_RECIPE_NAME, folder);
    return open_file(images, name, err);
}

static int open_content(struct image_store *images, const char *folder, uint64_t tar_size, struct err *err)
{
    _cleanup_free_ char *name = mem_printf("%s/" LAYER_IMAGE_NAME, folder);
    return open_file(images, name, err);
}

const struct image_driver image_driver_erofs = {
    .word = "erofs",
    .name = "erofs",
    .form = LAYER_FORM_EROFS,
    .complete = complete,
    .is_whole = is_whole,
    .open = image_mount_layer,
    .path = path_of,
    .open_image = open_image,
    .open_recipe = open_recipe,
    .open_content = open_content,
};
