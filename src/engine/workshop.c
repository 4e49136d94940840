#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "filer.h"
#include "inflate.h"
#include "kernel/mount.h"
#include "kernel/path.h"
#include "place.h"
#include "steps.h"
#include "worker/worker.h"

struct workshop {
    struct engine *engine;
    char *name; // of its staging folder
    int fd;
};

int workshop_new(struct engine *engine, struct workshop **out, struct err *err)
{
    struct workshop *workshop = mem_new(struct workshop);
    workshop->engine = engine;
    workshop->fd = image_staging_new(engine->images, &workshop->name, err);
    if (workshop->fd < 0) {
        workshop_free(workshop);
        return -1;
    }
    *out = workshop;
    return 0;
}

void workshop_free(struct workshop *workshop)
{
    if (!workshop)
        return;
    if (workshop->name)
        image_staging_remove(workshop->engine->images, workshop->name);
    fd_close(workshop->fd);
    free(workshop->name);
    free(workshop);
}

int workshop_folder(struct workshop *workshop, const char *name, struct err *err)
{
    if (mkdirat(workshop->fd, name, 0755) < 0)
        return err_errno(err, errno, "folder %s of a build", name);
    int fd = openat(workshop->fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "folder %s of a build", name) : fd;
}

int workshop_spool(struct workshop *workshop, struct err *err)
{
    int fd = openat(workshop->fd, "spool", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? err_errno(err, errno, "a build's archive") : fd;
}

int workshop_give_spool(struct workshop *workshop, int folder_fd, const char *name, struct err *err)
{
    return renameat(workshop->fd, "spool", folder_fd, name) < 0 ? err_errno(err, errno, "a build's archive") : 0;
}

void workshop_drop_spool(struct workshop *workshop)
{
    unlinkat(workshop->fd, "spool", 0);
}

char *workshop_path(const struct workshop *workshop, const char *name)
{
    return mem_printf("%s/staging/%s/%s", workshop->engine->data_root, workshop->name, name);
}

static int check_name(const char *name, struct err *err)
{
    if (strchr(name, '/') || !*name || str_eq(name, ".") || str_eq(name, ".."))
        return err_set(err, ERR_INVALID_ARGUMENT, "not a file's name: %.200s", name);
    return 0;
}

int workshop_create(struct workshop *workshop, const char *folder, const char *name, mode_t mode, struct err *err)
{
    if (check_name(name, err) < 0)
        return -1;
    _cleanup_free_ char *path = mem_printf("%s/%s", folder, name);
    int fd = openat(workshop->fd, path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    return fd < 0 ? err_errno(err, errno, "%s", name) : fd;
}

int workshop_write(struct workshop *workshop, const char *folder, const char *name, const void *data, size_t size, mode_t mode, struct err *err)
{
    if (check_name(name, err) < 0)
        return -1;
    _cleanup_free_ char *path = mem_printf("%s/%s", folder, name);
    return file_write_at(workshop->fd, path, data, size, mode, false, err);
}

int tree_of_folder(int folder_fd, struct err *err)
{
    return mount_clone(folder_fd, false, err);
}

// ---- trees ----------------------------------------------------------------------------------------------------------

static int put_tar(struct engine *engine, int folder_fd, int tar_fd, const struct cancel *cancel, struct err *err)
{
    _cleanup_close_ int tree = tree_of_folder(folder_fd, err);
    if (tree < 0)
        return -1;
    _cleanup_(filer_done) struct filer filer = FILER_ALONE(engine);
    const struct filer_wish wish = { .verb = "put", .path = "/", .root_fd = tree, .data_fd = tar_fd };
    return filer_start(&filer, &wish, err) < 0 ? -1 : filer_end(&filer, cancel, err);
}

static int list_names(const struct strv *names, struct err *err)
{
    _cleanup_close_ int fd = memfd_create("names", MFD_CLOEXEC);
    _cleanup_buf_ struct buf text = BUF_INIT((size_t)512 << 20);
    if (fd < 0)
        return err_errno(err, errno, "memfd");
    for (size_t i = 0; i < names->len; i++)
        buf_add(&text, names->items[i], strlen(names->items[i]) + 1);
    if (buf_check(&text, "names of files", err) < 0 || fd_write_full(fd, text.data, text.size, err) < 0)
        return -1;
    lseek(fd, 0, SEEK_SET);
    return take_fd(&fd);
}

int folder_update(struct engine *engine, int folder_fd, const struct strv *removed, int tar_fd, const struct cancel *cancel, struct err *err)
{
    _cleanup_close_ int tree = tree_of_folder(folder_fd, err), names = tree < 0 ? -1 : list_names(removed, err);
    if (names < 0)
        return -1;
    _cleanup_(filer_done) struct filer filer = FILER_ALONE(engine);
    const struct filer_wish wish = { .verb = "update", .root_fd = tree, .data_fd = tar_fd, .source_fds = &names, .source_len = 1 };
    return filer_start(&filer, &wish, err) < 0 ? -1 : filer_end(&filer, cancel, err);
}

int folder_unpack(struct engine *engine, int folder_fd, int input_fd, const struct cancel *cancel, struct err *err)
{
    _cleanup_(inflate_done) struct inflate inflate = INFLATE_INIT(engine);
    if (inflate_start(&inflate, input_fd, cancel, err) < 0)
        return -1;
    return put_tar(engine, folder_fd, inflate.fd >= 0 ? inflate.fd : input_fd, cancel, err);
}

int folder_unpack_file(struct engine *engine, int folder_fd, int file_fd, const struct cancel *cancel, struct err *err)
{
    _cleanup_(inflate_done) struct inflate inflate = INFLATE_INIT(engine);
    enum file_form form = file_form_of(engine, file_fd, err);
    if (form == FILE_FORM_NONE || form == FILE_FORM_FAILED)
        return form == FILE_FORM_NONE ? 0 : -1;
    if (form == FILE_FORM_COMPRESSED && inflate_file(&inflate, file_fd, err) < 0)
        return -1;
    return put_tar(engine, folder_fd, form == FILE_FORM_COMPRESSED ? inflate.fd : file_fd, cancel, err) < 0 ? -1 : 1;
}

// Bytes of a plain file are no more dangerous from the file than from a pipe, and a worker costs more than the rest of a small build.
int folder_read(int folder_fd, const char *path, size_t max, struct buf *out, struct err *err)
{
    _cleanup_close_ int fd = path_open_file(folder_fd, path, err);
    char chunk[16384];
    ssize_t got;
    if (fd < 0)
        return -1;
    while ((got = fd_read_full(fd, chunk, sizeof(chunk), err)) > 0) {
        if ((size_t)got > max - MIN_OF(out->size, max))
            return err_set(err, ERR_INVALID_ARGUMENT, "%.200s is larger than %zu bytes", path, max);
        buf_add(out, chunk, (size_t)got);
    }
    return (int)got;
}

int folder_remove(struct engine *engine, int folder_fd, const char *path, const struct cancel *cancel, struct err *err)
{
    _cleanup_close_ int tree = tree_of_folder(folder_fd, err);
    if (tree < 0)
        return -1;
    _cleanup_(filer_done) struct filer filer = FILER_ALONE(engine);
    const struct filer_wish wish = { .verb = "remove", .path = path, .root_fd = tree, .data_fd = -1 };
    return filer_start(&filer, &wish, err) < 0 ? -1 : filer_end(&filer, cancel, err);
}

static int empty_tree(struct err *err)
{
    int fd = mount_new("tmpfs", NULL, 0, 0, err);
    return fd;
}

static int stack(const struct image_layers *layers, struct err *err)
{
    const struct mount_overlay overlay = { .lower_fds = layers->fds, .lower_len = layers->len, .upper_fd = -1, .work_fd = -1 };
    return layers->len == 1 ? mount_clone(layers->fds[0], false, err) : mount_overlay(&overlay, MOUNT_OVERLAY_ANY, err);
}

static int tree_of_layers(struct engine *engine, const struct image *image, struct arena *arena, struct err *err)
{
    struct image_layers layers = { 0 };
    if (image_layers_open(engine->images, image, arena, &layers, err) < 0)
        return -1;
    int fd = stack(&layers, err);
    image_layers_done(&layers);
    return fd;
}

int image_root_tar(struct engine *engine, const char *id, const int64_t *time, engine_pipe_fn *sink, void *context, const struct cancel *cancel,
                   struct err *err)
{
    _cleanup_close_ int tree = tree_of_image(engine, id, err);
    if (tree < 0)
        return -1;
    _cleanup_json_ json_t *times = time ? json_pack("{s:I}", "time", (json_int_t)*time) : NULL;
    _cleanup_(filer_done) struct filer filer = FILER_ALONE(engine);
    const struct filer_wish wish = { .verb = "export", .root_fd = tree, .output = true, .data_fd = -1, .spec = times };
    if (filer_start(&filer, &wish, err) < 0 || pipe_relay(filer.data_fd, sink, context, cancel, err) < 0)
        return -1;
    return filer_end(&filer, cancel, err);
}

int tree_open_file(int tree_fd, const char *path, struct err *err)
{
    return path_open_file(tree_fd, path, err);
}

int tree_of_image(struct engine *engine, const char *id, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image image;
    if (!id)
        return empty_tree(err);
    if (image_get(engine->images, id, &arena, &image, err) < 0)
        return -1;
    return image.chain_ids.len == 0 ? empty_tree(err) : tree_of_layers(engine, &image, &arena, err);
}
