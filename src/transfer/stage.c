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

#define INFLATE_FLOOR ((uint64_t)4 << 30) // bytes of plain content that may come of however little

// A layer under way: until its DiffID is known its folder has a name of its own.
struct unpacked {
    char name[24];
    struct layer_result result;
};

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
    stage->keep = faccessat(stage->staging_fd, LAYER_KEEP_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    if (file_read_at(stage->staging_fd, LAYER_FORM_NAME, &text, &missing) < 0)
        return missing.class == ERR_NOT_FOUND ? 0 : err_set(err, missing.class, "%s", missing.message);
    stage->erofs = str_eq(buf_text(&text), LAYER_FORM_EROFS);
    stage->no_devices = str_eq(buf_text(&text), LAYER_FORM_NO_DEVICES);
    return stage->erofs || stage->no_devices ? 0 : err_set(err, ERR_NOT_IMPLEMENTED, "layers in the form \"%s\" are not known", buf_text(&text));
}

int stage_open(struct stage *stage, int staging_fd, uint64_t inflate_ratio, FILE *report, struct err *err)
{
    stage->bound = (struct layer_bound){ .ratio = inflate_ratio, .floor = INFLATE_FLOOR };
    mutex_init(&stage->lock, 0);
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

static void unpacked_drop(struct stage *stage, struct unpacked *unpacked)
{
    _cleanup_free_ char *kept = mem_printf("%s" LAYER_KEPT_SUFFIX, unpacked->name), *original = mem_printf("%s.original", unpacked->name);
    unlinkat(stage->layers_fd, original, 0);
    layer_result_done(&unpacked->result);
    file_remove_tree(stage->layers_fd, unpacked->name, NULL);
    file_remove_tree(stage->layers_fd, kept, NULL);
}

static struct stage_layer *grow(struct stage *stage) REQUIRES(&stage->lock)
{
    if (stage->len == stage->capacity) {
        stage->capacity = stage->capacity ? stage->capacity * 2 : 16;
        stage->layers = mem_grow(stage->layers, stage->capacity * sizeof(*stage->layers));
    }
    return &stage->layers[stage->len++];
}

static int new_layer(struct stage *stage, struct unpacked *unpacked, size_t *index, struct err *err) REQUIRES(&stage->lock)
{
    const char *diff_id = unpacked->result.diff_id;
    if (stage->len >= STAGE_LAYERS_TOTAL)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d layers", STAGE_LAYERS_TOTAL);
    _cleanup_free_ char *kept = mem_printf("%s" LAYER_KEPT_SUFFIX, unpacked->name);
    _cleanup_free_ char *kept_to = mem_printf("%s" LAYER_KEPT_SUFFIX, diff_id + strlen("sha256:"));
    if (renameat(stage->layers_fd, unpacked->name, stage->layers_fd, diff_id + strlen("sha256:")) < 0 ||
        (!stage->erofs && renameat(stage->layers_fd, kept, stage->layers_fd, kept_to) < 0))
        return err_errno(err, errno, "layer %s", diff_id);
    struct stage_layer *layer = grow(stage);
    *layer = (struct stage_layer){ .size = unpacked->result.size, .opaque = unpacked->result.opaque };
    memcpy(layer->diff_id, diff_id, sizeof(layer->diff_id));
    unpacked->result.opaque = (struct strv){ 0 };
    *index = stage->len - 1;
    return 0;
}

// Uses `unpacked` up, in any case.
static int add_layer(struct stage *stage, struct unpacked *unpacked, size_t *index, struct err *err)
{
    int done = check_utf8(&unpacked->result.opaque, err);
    mutex_lock(&stage->lock);
    const struct stage_layer *same = done == 0 ? stage_find(stage, unpacked->result.diff_id) : NULL;
    if (same)
        *index = (size_t)(same - stage->layers);
    else if (done == 0)
        done = new_layer(stage, unpacked, index, err);
    mutex_unlock(&stage->lock);
    if (same || done < 0)
        unpacked_drop(stage, unpacked);
    return done;
}

static int new_file(int folder, const char *name, struct err *err)
{
    int fd = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd >= 0 ? fd : err_errno(err, errno, "staged layer: %s", name);
}

// The layer as one EROFS image and its recipe; opaque folders are marked in it.
static int write_image(struct stage *stage, struct source *source, int folder, struct layer_result *out, struct err *err)
{
    const struct layer_erofs_options options = { .bound = &stage->bound };
    struct layer_erofs_result result;
    _cleanup_close_ int image = new_file(folder, LAYER_IMAGE_NAME, err);
    _cleanup_close_ int recipe = image < 0 ? -1 : new_file(folder, LAYER_RECIPE_NAME, err);
    if (recipe < 0 || layer_erofs_write(source_read, source, image, recipe, &options, &result, err) < 0)
        return -1;
    *out = (struct layer_result){ .size = result.size };
    memcpy(out->diff_id, result.diff_id, sizeof(out->diff_id));
    return 0;
}

static int unpack_keeping(struct stage *stage, struct source *source, int folder, int kept, struct layer_result *out, struct err *err)
{
    _cleanup_close_ int recipe = new_file(kept, LAYER_RECIPE_NAME, err);
    _cleanup_close_ int table = recipe < 0 ? -1 : new_file(kept, LAYER_TABLE_NAME, err);
    _cleanup_close_ int lost = table < 0 ? -1 : make_folder(kept, LAYER_LOST_NAME, err);
    const struct layer_keep keep = { recipe, table, lost, stage->no_devices };
    return lost < 0 ? -1 : layer_unpack(source_read, source, &stage->bound, folder, &keep, out, err);
}

// The folder, and beside it what gives the tar back.
static int unpack_folder(struct stage *stage, const char *name, struct source *source, int folder, struct layer_result *out,
                         struct err *err)
{
    _cleanup_free_ char *kept_name = mem_printf("%s" LAYER_KEPT_SUFFIX, name);
    _cleanup_close_ int kept = make_folder(stage->layers_fd, kept_name, err);
    return kept < 0 ? -1 : unpack_keeping(stage, source, folder, kept, out, err);
}

static int unpack_into(struct stage *stage, const char *name, struct source *source, struct layer_result *out, struct err *err)
{
    _cleanup_close_ int folder = make_folder(stage->layers_fd, name, err);
    if (folder < 0)
        return -1;
    return stage->erofs ? write_image(stage, source, folder, out, err) : unpack_folder(stage, name, source, folder, out, err);
}

// Only of what is known by its digest, too: without that nobody finds it again.
static int open_original(struct stage *stage, const char *name, const struct source *source, int *fd, struct err *err)
{
    _cleanup_free_ char *original = mem_printf("%s.original", name);
    if (!stage->keep || !source->digest)
        return 0;
    return (*fd = new_file(stage->layers_fd, original, err)) < 0 ? -1 : 0;
}

static int unpack(struct stage *stage, struct source *source, struct unpacked *out, struct err *err)
{
    *out = (struct unpacked){ 0 };
    mutex_lock(&stage->lock);
    snprintf(out->name, sizeof(out->name), ".unpacking-%u", stage->next++);
    mutex_unlock(&stage->lock);
    _cleanup_close_ int original = -1;
    int done = open_original(stage, out->name, source, &original, err);
    source->keep_fd = MAX_OF(original, 0);
    if (done == 0)
        done = unpack_into(stage, out->name, source, &out->result, err);
    if (done == 0)
        done = source_drain(source, err);
    source->keep_fd = 0;
    if (done < 0)
        unpacked_drop(stage, out);
    return done;
}

// A plain tar's digest is its DiffID: hashing it twice would be for nothing.
static bool needs_digest(int fd)
{
    char start[LAYER_MAGIC_SIZE];
    ssize_t got = pread(fd, start, sizeof(start), 0);
    return got > 0 && layer_is_compressed(start, (size_t)got);
}

// A plain tar can be made again: it needs no original.
static int place_original(struct stage *stage, const struct unpacked *unpacked, const char *digest, struct err *err)
{
    _cleanup_free_ char *from = mem_printf("%s.original", unpacked->name);
    _cleanup_free_ char *to = mem_printf("%s%s/" LAYER_ORIGINAL_PREFIX "%s", unpacked->name, stage->erofs ? "" : LAYER_KEPT_SUFFIX,
                                         digest + strlen("sha256:"));
    if (!stage->keep)
        return 0;
    int done = str_eq(digest, unpacked->result.diff_id) ? unlinkat(stage->layers_fd, from, 0) : renameat(stage->layers_fd, from, stage->layers_fd, to);
    return done < 0 ? err_errno(err, errno, "layer's original") : 0;
}

static int check_blob(struct source *source, const char *diff_id, const char *claimed, char found[72], struct err *err)
{
    snprintf(found, 72, "%s", diff_id);
    if (source->digest)
        layer_digest_end(take_ptr(&source->digest), found);
    if (!claimed || str_eq(found, claimed))
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "content of blob %s has another digest: %s", claimed, found);
}

// What was unpacked is what was claimed; else it is dropped.
static int accept_blob(struct stage *stage, struct source *source, struct unpacked *unpacked, const char *claimed, struct err *err)
{
    char found[72];
    bool hashed = source->digest != NULL;
    if (check_blob(source, unpacked->result.diff_id, claimed, found, err) == 0 &&
        (!hashed || place_original(stage, unpacked, found, err) == 0))
        return 0;
    unpacked_drop(stage, unpacked);
    return -1;
}

static int unpack_member(struct stage *stage, const struct spool *spool, const struct spool_member *member,
                         const struct stage_claim *claim, struct unpacked *out, struct err *err)
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
    if (done == 0)
        done = accept_blob(stage, &source, out, claim->blob, err);
    layer_digest_free(source.digest);
    return done;
}

// What a member is was seen when it was staged, whatever is claimed of it now.
static bool find_member(struct stage *stage, const struct spool_member *member, const struct stage_claim *claim, size_t *index)
{
    mutex_lock(&stage->lock);
    const struct stage_layer *same = claim->diff_id ? stage_find(stage, claim->diff_id) : NULL;
    if (member->layer)
        *index = member->layer - 1;
    else if (same)
        *index = (size_t)(same - stage->layers);
    mutex_unlock(&stage->lock);
    return same || member->layer;
}

// What passed is a plain tar: its digest is its DiffID.
static int check_passed(const struct stage *stage, const struct spool_member *member, const char *claimed, struct err *err)
{
    if (!member->passed || !member->layer || !claimed)
        return 0;
    const char *found = stage->layers[member->layer - 1].diff_id;
    return str_eq(found, claimed) ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "content of blob %s has another digest: %s", claimed, found);
}

int stage_member(struct stage *stage, const struct spool *spool, struct spool_member *member,
                 const struct stage_claim *claim, size_t *index, struct err *err)
{
    struct unpacked unpacked;
    if (check_passed(stage, member, claim->blob, err) < 0)
        return -1;
    if (find_member(stage, member, claim, index))
        return 0;
    if (member->failure)
        return err_set(err, member->failure->class, "%s", member->failure->message);
    if (unpack_member(stage, spool, member, claim, &unpacked, err) < 0 || add_layer(stage, &unpacked, index, err) < 0)
        return -1;
    member->layer = *index + 1;
    spool_drop(spool, member);
    return 0;
}

static int stage_source(struct stage *stage, struct source *source, size_t *index, struct err *err)
{
    struct unpacked unpacked;
    return unpack(stage, source, &unpacked, err) < 0 ? -1 : add_layer(stage, &unpacked, index, err);
}

int stage_stream(struct stage *stage, int fd, const char *status, int64_t total, size_t *index, struct err *err)
{
    struct source source = { .fd = fd, .bound = &stage->bound, .report = status ? stage->report : NULL, .id = "", .status = status, .total = MAX_OF(total, INT64_C(0)) };
    return stage_source(stage, &source, index, err);
}

int stage_blob(struct stage *stage, int fd, int64_t size, const struct stage_claim *claim, size_t *index, struct err *err)
{
    struct source source = { .fd = fd, .report = stage->report, .id = claim->progress_id, .status = "Downloading", .total = size,
                             .digest = layer_digest_new(), .bound = &stage->bound };
    struct unpacked unpacked;
    int done = unpack(stage, &source, &unpacked, err);
    // What can't be unpacked is first of all not what was asked for, where that is so.
    if (done < 0 && err->class == ERR_INVALID_ARGUMENT && source_drain(&source, NULL) == 0)
        check_blob(&source, "", claim->blob, (char[72]){ 0 }, err);
    if (done == 0)
        done = accept_blob(stage, &source, &unpacked, claim->blob, err);
    layer_digest_free(source.digest);
    return done < 0 ? -1 : add_layer(stage, &unpacked, index, err);
}

void stage_diff_id(struct stage *stage, size_t index, char out[72])
{
    mutex_lock(&stage->lock);
    memcpy(out, stage->layers[index].diff_id, 72);
    mutex_unlock(&stage->lock);
}

void stage_known(struct stage *stage, const char *diff_id, int64_t size)
{
    mutex_lock(&stage->lock);
    if (!stage_find(stage, diff_id)) {
        struct stage_layer *layer = grow(stage);
        *layer = (struct stage_layer){ .size = size };
        snprintf(layer->diff_id, sizeof(layer->diff_id), "%s", diff_id);
    }
    mutex_unlock(&stage->lock);
}

// The name's part that people know a layer by: a blob's digest, or the folder's of a "layer.tar".
static void short_name(const char *name, char id[13])
{
    const char *last = name, *before = name; // the last two parts
    for (const char *at = name; *at; at++)
        if (*at == '/') {
            before = last;
            last = at + 1;
        }
    name = str_eq(last, "layer.tar") ? before : last;
    snprintf(id, 13, "%.*s", (int)strcspn(name, "/"), name);
}

int stage_passing(void *context, struct spool_member *member, layer_read_fn *read, void *reader, struct err *err)
{
    struct stage *stage = context;
    char id[13];
    size_t index = 0;
    short_name(member->name, id);
    struct source source = { .fd = -1, .below = read, .below_context = reader, .report = stage->report, .id = id,
                             .status = "Loading layer", .total = member->size };
    if (stage_source(stage, &source, &index, err) < 0)
        return -1;
    member->layer = index + 1;
    return 0;
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
                size_t layer_len, json_t *manifest, struct err *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < layer_len; i++) {
        const struct stage_layer *layer = &stage->layers[layers[i]];
        json_array_append_new(list, json_pack("{s:s, s:I, s:o}", "diff_id", layer->diff_id, "size",
                                              (json_int_t)layer->size, "opaque", texts(&layer->opaque)));
    }
    return report_line(stage->report, "image", json_pack("{s:s, s:o, s:o, s:o*}", "config_digest", config_digest, "references",
                                                         texts(references), "layers", list, "manifest", manifest), err);
}
