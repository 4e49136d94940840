#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "base/num.h"
#include "image_private.h"
#include "layer/layer.h"

#define STAGING_NAME_LEN 16

struct staging_hold {
    struct staging_hold *next;
    char name[STAGING_NAME_LEN + 1];
    int fd;
};

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

// Where the daemon mounts layers is told to visitors by a link, so that a layer that they remove is unmounted, too.
#define MOUNTS_LINK "mounts"

static int tell_mounts(const struct image_store *images, int root_fd, struct err *err)
{
    unlinkat(root_fd, MOUNTS_LINK, 0);
    return symlinkat(images->mounts_path, root_fd, MOUNTS_LINK) < 0 ? err_errno(err, errno, MOUNTS_LINK) : 0;
}

static int open_mounts(struct image_store *images, const struct image_store_config *config, struct err *err)
{
    if (images->visitor)
        images->mounts_fd = openat(config->root_fd, MOUNTS_LINK, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    else if (open_below(config->state_fd, "layers", &images->mounts_fd, err) < 0)
        return -1;
    images->mounts_path = images->mounts_fd < 0 ? mem_strdup("") : path_of(images->mounts_fd, err);
    if (!images->mounts_path)
        return -1;
    return images->visitor ? 0 : tell_mounts(images, config->root_fd, err);
}

static int open_folders(struct image_store *images, const struct image_store_config *config, struct err *err)
{
    if (open_below(config->root_fd, "layers", &images->layers_fd, err) < 0 ||
        open_below(config->root_fd, "blobs/sha256", &images->blobs_fd, err) < 0 ||
        open_below(config->root_fd, "staging", &images->staging_fd, err) < 0)
        return -1;
    images->root_path = path_of(config->root_fd, err);
    return images->root_path ? open_mounts(images, config, err) : -1;
}

int image_store_collect(struct image_store *images, struct err *err)
{
    image_lock(images);
    int result = image_sweep(images, err);
    image_unlock(images);
    return result;
}

int image_store_open(struct store *store, const struct image_store_config *config, struct image_store **out, struct err *err)
{
    struct image_store *images = mem_new(struct image_store);
    images->store = store;
    images->layers_fd = images->blobs_fd = images->staging_fd = images->mounts_fd = -1;
    images->visitor = config->state_fd < 0;
    images->keep = config->keep_compressed;
    images->lock.fd = images->mount_lock.fd = -1;
    mutex_init(&images->holds_lock, 0);
    mutex_init(&images->erofs_lock, 0);
    cond_init(&images->erofs_made);
    if (store_migrate(store, "image", image_migrations, image_migration_len, err) < 0 ||
        image_locks_open(images, config->root_fd, err) < 0 || open_folders(images, config, err) < 0 ||
        (!images->visitor && image_store_collect(images, err) < 0) ||
        image_driver_choose(images, config->driver, err) < 0) {
        image_store_close(images);
        return err_wrap(err, "image store");
    }
    *out = images;
    return 0;
}

static void close_holds(struct image_store *images) UNCHECKED
{
    for (struct staging_hold *hold = images->holds, *next; hold; hold = next) {
        next = hold->next;
        fd_close(hold->fd);
        free(hold);
    }
}

void image_store_close(struct image_store *images)
{
    if (!images)
        return;
    close_holds(images);
    fd_close(images->layers_fd);
    fd_close(images->blobs_fd);
    fd_close(images->staging_fd);
    fd_close(images->mounts_fd);
    image_locks_close(images);
    mutex_done(&images->holds_lock);
    mutex_done(&images->erofs_lock);
    cond_done(&images->erofs_made);
    free(images->root_path);
    free(images->mounts_path);
    free(images);
}

// ---- staging --------------------------------------------------------------------------------------------------------

// The worker looks there for the form in which it stages layers, and for whether originals are to stay.
static int ask_for_form(const struct image_store *images, const char *staging, struct err *err)
{
    _cleanup_free_ char *keep = mem_printf("%s/" LAYER_KEEP_NAME, staging);
    if (images->keep && file_write_at(images->staging_fd, keep, "", 0, 0644, false, err) < 0)
        return -1;
    const char *form = images->driver ? images->driver->form : NULL; // none yet: it is a probe
    if (!form)
        return 0;
    _cleanup_free_ char *path = mem_printf("%s/" LAYER_FORM_NAME, staging);
    return file_write_at(images->staging_fd, path, form, strlen(form), 0644, false, err);
}

// Made and held at once, as a sweep sees it.
static int make_staging(struct image_store *images, struct staging_hold *hold, struct err *err)
{
    int result = 0;
    image_lock(images);
    if (mkdirat(images->staging_fd, hold->name, 0700) < 0 ||
        (hold->fd = openat(images->staging_fd, hold->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
        result = err_errno(err, errno, "staging folder");
    if (result == 0)
        result = image_hold(hold->fd, err);
    image_unlock(images);
    return result;
}

static void drop_hold(struct image_store *images, const char *name)
{
    mutex_lock(&images->holds_lock);
    for (struct staging_hold **at = &images->holds; *at; at = &(*at)->next)
        if (str_eq((*at)->name, name)) {
            struct staging_hold *hold = *at;
            *at = hold->next;
            fd_close(hold->fd);
            free(hold);
            break;
        }
    mutex_unlock(&images->holds_lock);
}

static int new_staging(struct image_store *images, struct staging_hold *hold, struct err *err)
{
    if (make_staging(images, hold, err) < 0 || ask_for_form(images, hold->name, err) < 0)
        return -1;
    int fd = openat(images->staging_fd, hold->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "staging folder") : fd;
}

int image_staging_new(struct image_store *images, char **name, struct err *err)
{
    struct staging_hold *hold = mem_new(struct staging_hold);
    char random[STAGING_NAME_LEN + 1];
    random_hex(random, STAGING_NAME_LEN);
    memcpy(hold->name, random, sizeof(random));
    hold->fd = -1;
    mutex_lock(&images->holds_lock);
    hold->next = images->holds;
    images->holds = hold;
    mutex_unlock(&images->holds_lock);
    int fd = new_staging(images, hold, err);
    if (fd < 0)
        image_staging_remove(images, random);
    else
        *name = mem_strdup(random);
    return fd;
}

void image_staging_remove(struct image_store *images, const char *name)
{
    if (!name || strlen(name) != STAGING_NAME_LEN || !hex_valid(slice_of(name)))
        return;
    // What cannot be removed now goes with the next start's sweep.
    file_remove_tree(images->staging_fd, name, NULL);
    drop_hold(images, name);
}
