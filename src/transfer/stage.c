#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>

#include "stage.h"
#include "report.h"
#include "source.h"
#include "base/fd.h"
#include "base/file.h"

#define UNPACKING ".unpacking" // a layer's name until its DiffID is known

static int make_folder(int staging_fd, const char *name, struct err *err)
{
    if (mkdirat(staging_fd, name, 0755) < 0)
        return err_errno(err, errno, "staging folder %s", name);
    int fd = openat(staging_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? fd : err_errno(err, errno, "staging folder %s", name);
}

static int read_form(struct stage *stage, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    struct err missing = { 0 };
    if (file_read_at(stage->staging_fd, LAYER_FORM_NAME, &text, &missing) < 0)
        return missing.class == ERR_NOT_FOUND ? 0 : err_set(err, missing.class, "%s", missing.message);
    stage->erofs = str_eq(buf_text(&text), LAYER_FORM_EROFS);
    return stage->erofs ? 0 : err_set(err, ERR_NOT_IMPLEMENTED, "layers in the form \"%s\" are not known", buf_text(&text));
}

int stage_open(struct stage *stage, int staging_fd, FILE *report, struct err *err)
{
    stage->staging_fd = staging_fd;
    stage->report = report;
    stage->layers_fd = make_folder(staging_fd, "layers", err);
    stage->blobs_fd = stage->layers_fd < 0 ? -1 : make_folder(staging_fd, "blobs", err);
    return stage->blobs_fd < 0 ? -1 : read_form(stage, err);
}

void stage_done(struct stage *stage)
{
    fd_close(stage->layers_fd);
    fd_close(stage->blobs_fd);
    for (size_t i = 0; i < stage->len; i++)
        strv_done(&stage->layers[i].opaque);
    free(stage->layers);
    *stage = (struct stage)STAGE_INIT;
}

// ---- layers ---------------------------------------------------------------------------------------------------------

const struct stage_layer *stage_find(const struct stage *stage, const char *diff_id)
{
    for (size_t i = 0; i < stage->len; i++)
        if (str_eq(stage->layers[i].diff_id, diff_id))
            return &stage->layers[i];
    return NULL;
}

static int check_utf8(const struct strv *names, struct err *err)
{
    for (size_t i = 0; i < names->len; i++) {
        json_t *value = json_string(names->items[i]); // the report could not carry it
        if (!value)
            return err_set(err, ERR_INVALID_ARGUMENT, "an opaque folder's name is not UTF-8");
        json_decref(value);
    }
    return 0;
}

// Takes over what `result` owns, on success.
static int add_layer(struct stage *stage, struct layer_result *result, size_t *index, struct err *err)
{
    const struct stage_layer *same = stage_find(stage, result->diff_id);
    if (same) {
        *index = (size_t)(same - stage->layers);
        layer_result_done(result);
        return file_remove_tree(stage->layers_fd, UNPACKING, err);
    }
    if (stage->len >= STAGE_LAYERS_TOTAL)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d layers", STAGE_LAYERS_TOTAL);
    if (check_utf8(&result->opaque, err) < 0)
        return -1;
    if (renameat(stage->layers_fd, UNPACKING, stage->layers_fd, result->diff_id + strlen("sha256:")) < 0)
        return err_errno(err, errno, "layer %s", result->diff_id);
    if (stage->len == stage->capacity) {
        stage->capacity = stage->capacity ? stage->capacity * 2 : 16;
        stage->layers = mem_grow(stage->layers, stage->capacity * sizeof(*stage->layers));
    }
    struct stage_layer *layer = &stage->layers[stage->len];
    *layer = (struct stage_layer){ .size = result->size, .opaque = result->opaque };
    memcpy(layer->diff_id, result->diff_id, sizeof(layer->diff_id));
    *index = stage->len++;
    return 0;
}

static int new_file(int folder, const char *name, struct err *err)
{
    int fd = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd >= 0 ? fd : err_errno(err, errno, "staged layer: %s", name);
}

// The layer as one EROFS image and its recipe; opaque folders are marked in it.
static int write_image(struct source *source, int folder, struct layer_result *out, struct err *err)
{
    const struct layer_erofs_options options = { 0 };
    struct layer_erofs_result result;
    _cleanup_close_ int image = new_file(folder, LAYER_IMAGE_NAME, err);
    _cleanup_close_ int recipe = image < 0 ? -1 : new_file(folder, LAYER_RECIPE_NAME, err);
    if (recipe < 0 || layer_erofs_write(source_read, source, image, recipe, &options, &result, err) < 0)
        return -1;
    *out = (struct layer_result){ .size = result.size };
    memcpy(out->diff_id, result.diff_id, sizeof(out->diff_id));
    return 0;
}

static int unpack(struct stage *stage, struct source *source, struct layer_result *out, struct err *err)
{
    _cleanup_close_ int folder = make_folder(stage->layers_fd, UNPACKING, err);
    if (folder < 0 || (stage->erofs ? write_image(source, folder, out, err)
                                    : layer_unpack(source_read, source, folder, out, err)) < 0)
        return -1;
    if (source_drain(source, err) == 0)
        return 0;
    layer_result_done(out);
    return -1;
}

// A plain tar's digest is its DiffID: hashing it twice would be for nothing.
static bool needs_digest(int fd)
{
    char start[LAYER_MAGIC_SIZE];
    ssize_t got = pread(fd, start, sizeof(start), 0);
    return got > 0 && layer_is_compressed(start, (size_t)got);
}

static int check_blob(struct source *source, const struct layer_result *result, const char *claimed, struct err *err)
{
    char digest[72];
    const char *found = result->diff_id;
    if (source->digest) {
        layer_digest_end(take_ptr(&source->digest), digest);
        found = digest;
    }
    if (!claimed || str_eq(found, claimed))
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "content of blob %s has another digest: %s", claimed, found);
}

static int unpack_member(struct stage *stage, const struct spool *spool, const struct spool_member *member,
                         const struct stage_claim *claim, struct layer_result *out, struct err *err)
{
    char id[13] = "";
    if (claim->progress_id || claim->diff_id)
        snprintf(id, sizeof(id), "%.12s", claim->progress_id ? claim->progress_id : claim->diff_id + strlen("sha256:"));
    _cleanup_close_ int fd = spool_open(spool, member, err);
    if (fd < 0)
        return -1;
    struct source source = { .fd = fd, .report = stage->report, .id = id, .status = "Loading layer",
                             .total = member->size };
    if (claim->blob && needs_digest(fd))
        source.digest = layer_digest_new();
    int done = unpack(stage, &source, out, err);
    if (done == 0 && check_blob(&source, out, claim->blob, err) < 0) {
        layer_result_done(out);
        done = -1;
    }
    layer_digest_free(source.digest);
    return done;
}

int stage_member(struct stage *stage, const struct spool *spool, struct spool_member *member,
                 const struct stage_claim *claim, size_t *index, struct err *err)
{
    const struct stage_layer *same = claim->diff_id ? stage_find(stage, claim->diff_id) : NULL;
    if (same || member->layer) {
        *index = same ? (size_t)(same - stage->layers) : member->layer - 1;
        return 0;
    }
    struct layer_result result;
    if (unpack_member(stage, spool, member, claim, &result, err) < 0)
        return -1;
    if (add_layer(stage, &result, index, err) < 0) {
        layer_result_done(&result);
        return -1;
    }
    member->layer = *index + 1;
    spool_drop(spool, member);
    return 0;
}

int stage_stream(struct stage *stage, int fd, size_t *index, struct err *err)
{
    struct source source = { .fd = fd };
    struct layer_result result;
    if (unpack(stage, &source, &result, err) < 0)
        return -1;
    if (add_layer(stage, &result, index, err) == 0)
        return 0;
    layer_result_done(&result);
    return -1;
}

// ---- images ---------------------------------------------------------------------------------------------------------

int stage_config(struct stage *stage, const char *text, size_t size, char digest[72], struct err *err)
{
    struct layer_digest *hash = layer_digest_new();
    layer_digest_add(hash, text, size);
    layer_digest_end(hash, digest);
    return file_write_at(stage->blobs_fd, digest + strlen("sha256:"), text, size, 0644, false, err);
}

static json_t *texts(const struct strv *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->len; i++)
        json_array_append_new(array, json_string(list->items[i]));
    return array;
}

int stage_image(struct stage *stage, const char *config_digest, const struct strv *references, const size_t *layers,
                size_t layer_len, struct err *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < layer_len; i++) {
        const struct stage_layer *layer = &stage->layers[layers[i]];
        json_array_append_new(list, json_pack("{s:s, s:I, s:o}", "diff_id", layer->diff_id, "size",
                                              (json_int_t)layer->size, "opaque", texts(&layer->opaque)));
    }
    return report_line(stage->report, "image", json_pack("{s:s, s:o, s:o}", "config_digest", config_digest,
                                                         "references", texts(references), "layers", list), err);
}
