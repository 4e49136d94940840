#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "base/num.h"
#include "image_private.h"
#include "layer/layer.h"

#define STAGING_NAME_LEN 16

// ---- opening --------------------------------------------------------------------------------------------------------

static int open_below(int root_fd, const char *path, int *out, struct err *err)
{
    if (file_mkdirs(root_fd, path, 0700, err) < 0 || (*out = file_open_dir(root_fd, path, err)) < 0)
        return -1;
    return fchmod(*out, 0700) < 0 ? err_errno(err, errno, "%s", path) : 0;
}

static char *path_of(int fd, struct err *err)
{
    char link[32], path[PATH_MAX];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof(path) - 1);
    if (size >= 0)
        return mem_strndup(path, (size_t)size);
    err_errno(err, errno, "path of a folder");
    return NULL;
}

static int open_folders(struct image_store *images, const struct image_store_config *config, struct err *err)
{
    if (open_below(config->root_fd, "layers", &images->layers_fd, err) < 0 ||
        open_below(config->root_fd, "blobs/sha256", &images->blobs_fd, err) < 0 ||
        open_below(config->root_fd, "staging", &images->staging_fd, err) < 0 ||
        open_below(config->state_fd, "layers", &images->mounts_fd, err) < 0)
        return -1;
    images->root_path = path_of(config->root_fd, err);
    images->mounts_path = path_of(images->mounts_fd, err);
    return images->root_path && images->mounts_path ? 0 : -1;
}

int image_store_open(struct store *store, const struct image_store_config *config, struct image_store **out, struct err *err)
{
    struct image_store *images = mem_new(struct image_store);
    images->store = store;
    images->layers_fd = images->blobs_fd = images->staging_fd = images->mounts_fd = -1;
    mutex_init(&images->lock, 0);
    mutex_init(&images->erofs_lock, 0);
    mutex_init(&images->mount_lock, 0);
    cond_init(&images->erofs_made);
    if (store_migrate(store, "image", image_migrations, image_migration_len, err) < 0 ||
        open_folders(images, config, err) < 0 || image_sweep(images, err) < 0 ||
        image_driver_choose(images, config->driver, err) < 0) {
        image_store_close(images);
        return err_wrap(err, "image store");
    }
    *out = images;
    return 0;
}

void image_store_close(struct image_store *images)
{
    if (!images)
        return;
    fd_close(images->layers_fd);
    fd_close(images->blobs_fd);
    fd_close(images->staging_fd);
    fd_close(images->mounts_fd);
    mutex_done(&images->lock);
    mutex_done(&images->erofs_lock);
    mutex_done(&images->mount_lock);
    cond_done(&images->erofs_made);
    free(images->root_path);
    free(images->mounts_path);
    free(images);
}

// ---- staging --------------------------------------------------------------------------------------------------------

// The worker looks there for the form in which it stages layers.
static int ask_for_form(const struct image_store *images, const char *staging, struct err *err)
{
    if (images->driver != &image_driver_erofs)
        return 0;
    _cleanup_free_ char *path = mem_printf("%s/" LAYER_FORM_NAME, staging);
    return file_write_at(images->staging_fd, path, LAYER_FORM_EROFS, strlen(LAYER_FORM_EROFS), 0644, false, err);
}

int image_staging_new(struct image_store *images, char **name, struct err *err)
{
    char random[STAGING_NAME_LEN + 1];
    random_hex(random, STAGING_NAME_LEN);
    if (mkdirat(images->staging_fd, random, 0700) < 0)
        return err_errno(err, errno, "staging folder");
    int fd = openat(images->staging_fd, random, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "staging folder");
    if (ask_for_form(images, random, err) < 0) {
        fd_close(fd);
        return -1;
    }
    *name = mem_strdup(random);
    return fd;
}

void image_staging_remove(struct image_store *images, const char *name)
{
    // What cannot be removed now goes with the next start's sweep.
    if (name && strlen(name) == STAGING_NAME_LEN && hex_valid(slice_of(name)))
        file_remove_tree(images->staging_fd, name, NULL);
}
