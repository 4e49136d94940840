// Unpacked layers as EROFS images, for walls that hand a layer over as a disk. Made when a guest first needs it, because most
// images never see one.
//
// No file's content beside its inode: each page of each file stands alone in the image, so a guest can map it from persistent
// memory (DAX) without a copy of its own. The bytes depend on the layer alone: no UUID and no time of the making.
#include <errno.h>
#include <fcntl.h>

#include "base/num.h"
#include "image_private.h"
#include "layer/layer.h"

char *image_erofs_name(const char *folder)
{
    return mem_printf("%s.erofs", folder);
}

void image_erofs_remove(struct image_store *images, const char *folder)
{
    _cleanup_free_ char *name = image_erofs_name(folder);
    unlinkat(images->layers_fd, name, 0);
}

// ---- one at a time for a layer --------------------------------------------------------------------------------------

static bool is_making(const struct image_store *images, const char *folder)
{
    for (const struct erofs_making *one = images->making; one; one = one->next)
        if (str_eq(one->folder, folder))
            return true;
    return false;
}

void image_making_begin(struct image_store *images, struct erofs_making *mine)
{
    mutex_lock(&images->erofs_lock);
    while (is_making(images, mine->folder))
        cond_wait(&images->erofs_made, &images->erofs_lock);
    mine->next = images->making;
    images->making = mine;
    mutex_unlock(&images->erofs_lock);
}

void image_making_end(struct image_store *images, const struct erofs_making *mine)
{
    mutex_lock(&images->erofs_lock);
    struct erofs_making **at = &images->making;
    while (*at != mine)
        at = &(*at)->next;
    *at = mine->next;
    cond_wake_all(&images->erofs_made);
    mutex_unlock(&images->erofs_lock);
}

// ---- making ---------------------------------------------------------------------------------------------------------

static int write_image(const struct image_store *images, const char *folder, int fd, struct err *err)
{
    const struct layer_erofs_options options = { .plain = true };
    uint64_t size;
    _cleanup_close_ int source = openat(images->layers_fd, folder, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (source < 0)
        return err_errno(err, errno, "open");
    return layer_erofs_from_folder(source, fd, &options, &size, err);
}

static int open_held(struct image_store *images, const char *name, struct err *err)
{
    image_lock(images);
    _cleanup_close_ int fd = openat(images->staging_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int held = fd < 0 ? err_errno(err, errno, "%s", name) : image_hold(fd, err);
    image_unlock(images);
    return held < 0 ? -1 : take_fd(&fd);
}

// In the staging folder, which a start empties, and synced before it gets its name: a crash, also of the power, leaves no half
// image among the layers.
static int make(struct image_store *images, const char *folder, const char *name, struct err *err)
{
    char random[17];
    random_hex(random, 16);
    _cleanup_free_ char *made = mem_printf("erofs-%s", random);
    _cleanup_close_ int fd = open_held(images, made, err);
    int done = fd < 0 ? -1 : write_image(images, folder, fd, err);
    if (done == 0 && (fsync(fd) < 0 || renameat(images->staging_fd, made, images->layers_fd, name) < 0))
        done = err_errno(err, errno, "%s", name);
    if (done < 0)
        unlinkat(images->staging_fd, made, 0);
    return done;
}

static int open_image(const struct image_store *images, const char *name)
{
    return openat(images->layers_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}

static int open_or_make(struct image_store *images, const char *folder, struct err *err)
{
    _cleanup_free_ char *name = image_erofs_name(folder);
    struct erofs_making mine = { .folder = folder };
    int result = 0;
    int fd = open_image(images, name);
    if (fd < 0 && errno == ENOENT) {
        image_making_begin(images, &mine);
        fd = open_image(images, name); // another may have made it meanwhile
        if (fd < 0 && errno == ENOENT && (result = make(images, folder, name, err)) == 0)
            fd = open_image(images, name);
        image_making_end(images, &mine);
    }
    if (result < 0)
        return err_wrap(err, "layer %.12s as an EROFS image", folder);
    return fd < 0 ? err_errno(err, errno, "open layer %s", name) : fd;
}

int image_guest_open(struct image_store *images, const char *folder, struct arena *arena, char **path, struct err *err)
{
    *path = arena_printf(arena, "%s/layers/%s.erofs", images->root_path, folder);
    return open_or_make(images, folder, err);
}
