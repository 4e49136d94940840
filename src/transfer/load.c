#include <stdio.h>

#include "transfer/transfer.h"
#include "load.h"
#include "base/file.h"
#include "spec/spec.h"

int load_check_text(const struct buf *text, const char *digest, struct err *err)
{
    char found[72];
    struct layer_digest *hash = layer_digest_new();
    layer_digest_add(hash, buf_text(text), text->size);
    layer_digest_end(hash, found);
    if (str_eq(found, digest))
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "content of blob %s has another digest: %s", digest, found);
}

// ---- one image ------------------------------------------------------------------------------------------------------

int load_check_config(const struct oci_image_config *config, size_t layer_len, struct err *err)
{
    const struct strv *diff_ids = &config->rootfs.diff_ids;
    if (!str_empty(config->os) && !str_eq(config->os, "linux"))
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot load %.64s image on linux", config->os);
    if (!config->rootfs.type)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid image JSON, no RootFS key");
    if (!str_eq(config->rootfs.type, "layers"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid image JSON, unknown rootfs type %.64s", config->rootfs.type);
    if (diff_ids->len != layer_len)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid manifest, layers length mismatch: expected %zu, got %zu",
                       layer_len, diff_ids->len);
    if (layer_len > STAGE_LAYERS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "image has %zu layers, at most %d can be stacked", layer_len,
                       STAGE_LAYERS_MAX);
    for (size_t i = 0; i < diff_ids->len; i++)
        if (!diff_ids->items[i] || !oci_digest_valid(diff_ids->items[i]))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid diffID for layer %zu", i);
    return 0;
}

static struct stage_claim claim_of(const struct load_image *image, const char *diff_id, size_t place)
{
    const char *blob = image->blobs.items[place];
    return (struct stage_claim){ .diff_id = diff_id, .blob = *blob ? blob : NULL };
}

// Those that there is still something to do for; each once.
static void stage_ahead(struct load *load, const struct load_image *image, const struct strv *diff_ids)
{
    struct stage_job jobs[STAGE_LAYERS_MAX];
    size_t len = 0;
    for (size_t place = 0; place < diff_ids->len; place++) {
        const char *diff_id = diff_ids->items[place];
        struct spool_member *member = spool_find(load->spool, image->layers.items[place]);
        bool seen = !member || member->layer || member->failure || stage_find(load->stage, diff_id);
        for (size_t i = 0; i < len && !seen; i++)
            seen = jobs[i].member == member || str_eq(jobs[i].claim.diff_id, diff_id);
        if (!seen)
            jobs[len++] = (struct stage_job){ member, claim_of(image, diff_id, place) };
    }
    if (len > 1)
        stage_members(load->stage, load->spool, jobs, len);
}

static int load_layer(struct load *load, const struct load_image *image, const char *diff_id, size_t place,
                      size_t *index, struct err *err)
{
    const struct stage_claim claim = claim_of(image, diff_id, place);
    struct spool_member *member = spool_find(load->spool, image->layers.items[place]);
    if (!member)
        return err_set(err, ERR_INVALID_ARGUMENT, "layer %zu: archive has no member %.256s", place,
                       image->layers.items[place]);
    if (stage_member(load->stage, load->spool, member, &claim, index, err) < 0)
        return err_wrap(err, "layer %zu", place);
    const char *found = load->stage->layers[*index].diff_id;
    if (!str_eq(found, diff_id))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid diffID for layer %zu: expected \"%s\", got \"%s\"", place,
                       diff_id, found);
    return 0;
}

int load_image(struct load *load, const struct load_image *image, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct oci_image_config config;
    if (json_decode_text(&oci_image_config_table, buf_text(&image->config), image->config.size, &config, &arena, NULL,
                         err) < 0)
        return err_wrap(err, "image config");
    if (load_check_config(&config, image->layers.len, err) < 0)
        return -1;
    size_t indexes[STAGE_LAYERS_MAX];
    stage_ahead(load, image, &config.rootfs.diff_ids);
    for (size_t i = 0; i < image->layers.len; i++)
        if (load_layer(load, image, config.rootfs.diff_ids.items[i], i, &indexes[i], err) < 0)
            return -1;
    char digest[72];
    if (stage_config(load->stage, buf_text(&image->config), image->config.size, digest, err) < 0)
        return -1;
    return stage_image(load->stage, digest, &image->references, indexes, image->layers.len, NULL, err);
}

// ---- docker-archive: manifest.json ----------------------------------------------------------------------------------

// Since 25, docker save keeps members under the names of their digests: then the name is a promise.
static const char *promised_digest(const char *name, struct arena *arena)
{
    const char *folder = "blobs/sha256/";
    if (!str_starts(name, folder))
        return NULL;
    char *digest = arena_printf(arena, "sha256:%.128s", name + strlen(folder));
    return oci_digest_valid(digest) ? digest : NULL;
}

static int describe_docker_image(struct load *load, const struct docker_archive_image *described, struct arena *arena,
                                 struct load_image *image, struct err *err)
{
    const char *name = described->config ? described->config : "";
    const struct spool_member *config = spool_find(load->spool, name);
    if (!config)
        return err_set(err, ERR_INVALID_ARGUMENT, "archive has no image config %.256s", name);
    if (spool_text(load->spool, config, &image->config, err) < 0)
        return -1;
    const char *digest = promised_digest(name, arena);
    if (digest && load_check_text(&image->config, digest, err) < 0)
        return -1;
    for (size_t i = 0; i < described->layers.len; i++) {
        digest = promised_digest(described->layers.items[i], arena);
        strv_push_arena(&image->blobs, arena, digest ? digest : "");
    }
    return 0;
}

static int load_docker_image(struct load *load, const struct docker_archive_image *described, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct load_image image = { .config = BUF_INIT(LOAD_DOCUMENT_MAX), .layers = described->layers,
                                .references = described->repo_tags };
    int done = describe_docker_image(load, described, &arena, &image, err);
    if (done == 0)
        done = load_image(load, &image, err);
    buf_done(&image.config);
    return done;
}

int load_docker(struct load *load, const struct spool_member *manifest, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(LOAD_DOCUMENT_MAX);
    _cleanup_json_ json_t *list = NULL;
    if (spool_text(load->spool, manifest, &text, err) < 0)
        return -1;
    if (json_parse(buf_text(&text), text.size, &list, err) < 0)
        return err_wrap(err, "manifest.json");
    if (!json_is_array(list) || json_array_size(list) > LOAD_IMAGES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "manifest.json: not a list of at most %d images", LOAD_IMAGES_MAX);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct docker_archive_image described;
        if (json_decode(&docker_archive_image_table, json_array_get(list, i), &described, &arena, NULL, err) < 0)
            return err_wrap(err, "manifest.json: image %zu", i);
        if (load_docker_image(load, &described, err) < 0)
            return -1;
    }
    return 0;
}

// ---- the load -------------------------------------------------------------------------------------------------------

// The first that an archive has is taken: docker save has written all three into one archive since 25.
static const struct {
    const char *member;
    int (*load)(struct load *load, const struct spool_member *member, struct err *err);
} forms[] = {
    { "manifest.json", load_docker },
    { "index.json", load_oci },
    { "repositories", load_legacy },
};

static int load_forms(struct load *load, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        const struct spool_member *member = spool_find(load->spool, forms[i].member);
        if (member)
            return forms[i].load(load, member, err);
    }
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid archive: does not contain a manifest.json");
}

int transfer_load(int input_fd, int staging_fd, uint64_t inflate_ratio, FILE *report, struct err *err)
{
    _cleanup_spool_ struct spool spool = SPOOL_INIT;
    _cleanup_stage_ struct stage stage = STAGE_INIT;
    spool.bound = &stage.bound;
    if (stage_open(&stage, staging_fd, inflate_ratio, report, err) < 0 || spool_read(&spool, input_fd, staging_fd, stage_passing, &stage, err) < 0)
        return -1;
    struct load load = { &spool, &stage };
    if (load_forms(&load, err) < 0)
        return -1;
    return file_remove_tree(staging_fd, "spool", err);
}
