// What a worker that pushes is given: the image's documents and its layers' files by descriptors, and what registries are known to have.
#include <errno.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "json/json.h"
#include "worker/worker.h"

static int text_fd(const char *text, struct err *err)
{
    _cleanup_close_ int fd = memfd_create("request", MFD_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "request");
    return fd_write_full(fd, text, strlen(text), err) < 0 ? -1 : take_fd(&fd);
}

struct layer_files {
    int fds[2]; // recipe, image
    bool there;
    int original; // 0: not kept
    char digest[OCI_DIGEST_SIZE]; // its
};

static void close_files(struct layer_files *files, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (files[i].there) {
            fd_close(files[i].fds[0]);
            fd_close(files[i].fds[1]);
        }
        if (files[i].original)
            fd_close(files[i].original);
    }
}

static int open_files(struct image_store *images, const struct image *image, struct layer_files *files, struct err *err)
{
    for (size_t i = 0; i < image->chain_ids.len; i++) {
        int there = image_layer_recipe(images, image, i, &files[i].fds[0], &files[i].fds[1], err);
        if (there < 0)
            return -1;
        files[i].there = there > 0;
        if (image_layer_original(images, image, i, files[i].digest, &files[i].original, err) < 0)
            return -1;
    }
    return 0;
}

static char *request_text(struct image_store *images, const struct image *image, const struct layer_files *files, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct json_list known;
    const struct strv *diff_ids = &image->config.rootfs.diff_ids;
    if (image_manifests(images, image->id, &arena, &known, err) < 0)
        return NULL;
    _cleanup_json_ json_t *request = json_pack("{s:[], s:[], s:[], s:o}", "diff_ids", "recipes", "originals", "manifests",
                                               json_encode_list(&image_manifest_table, &known));
    for (size_t i = 0; i < diff_ids->len; i++) {
        json_array_append_new(json_object_get(request, "diff_ids"), json_string(diff_ids->items[i]));
        json_array_append_new(json_object_get(request, "recipes"), json_boolean(files[i].there));
        json_array_append_new(json_object_get(request, "originals"), json_string(files[i].original ? files[i].digest : ""));
    }
    return json_text(request);
}

// Everything waits in the socket until the worker reads it; many layers need a reader, and so this comes after its start.
static int send_files(const struct worker *worker, const struct image *image, const struct layer_files *files, struct err *err)
{
    _cleanup_free_ char *request = request_text(worker->images, image, files, err);
    _cleanup_close_ int request_fd = request ? text_fd(request, err) : -1;
    _cleanup_close_ int config_fd = request_fd < 0 ? -1 : text_fd(image->config_text, err);
    const int documents[] = { request_fd, config_fd };
    if (config_fd < 0 || fd_send(worker->words_fd, "d", 1, documents, 2, err) < 0)
        return -1;
    for (size_t i = 0; i < image->chain_ids.len; i++)
        if ((files[i].there && fd_send(worker->words_fd, "l", 1, files[i].fds, 2, err) < 0) ||
            (files[i].original && fd_send(worker->words_fd, "o", 1, &files[i].original, 1, err) < 0))
            return -1;
    return 0;
}

int worker_send_image(struct worker *worker, const struct image *image, struct err *err)
{
    size_t len = image->chain_ids.len;
    struct layer_files *files = mem_alloc((len + 1) * sizeof(*files));
    memset(files, 0, (len + 1) * sizeof(*files));
    int result = open_files(worker->images, image, files, err);
    if (result == 0)
        result = send_files(worker, image, files, err);
    close_files(files, len);
    free(files);
    return result;
}

int worker_take_pushed(struct worker *worker, const struct image *image, json_t *form, struct arena *arena, struct image_manifest *out,
                       struct err *err)
{
    if (json_decode(&image_manifest_table, form, out, arena, NULL, err) < 0)
        return -1;
    out->image_id = image->id;
    if (!oci_digest_valid(out->digest))
        return err_set(err, ERR_INTERNAL, "the image worker gave a bad digest");
    if (image_record_push(worker->images, out, err) < 0)
        return -1;
    worker->image_len++;
    return 0;
}
