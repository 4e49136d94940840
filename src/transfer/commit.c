#include <stdio.h>

#include "transfer/transfer.h"
#include "changes.h"
#include "stage.h"
#include "base/file.h"
#include "image/image.h"
#include "json/json.h"

#define ORDER_MAX ((size_t)16 << 20)
// Of a tar without entries, as every tool writes it.
#define EMPTY_DIFF_ID "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

struct commit {
    struct arena *arena;
    struct stage stage;
    struct oci_image_config config;
    struct oci_history step;
    size_t layers[STAGE_LAYERS_MAX];
    size_t layer_len;
};

static size_t index_of(const struct stage *stage, const char *diff_id)
{
    return (size_t)(stage_find(stage, diff_id) - stage->layers);
}

// The layers below, which nobody stages.
static int take_known(struct commit *commit, const json_t *sizes, struct err *err)
{
    const struct strv *diff_ids = &commit->config.rootfs.diff_ids;
    if (json_array_size(sizes) != diff_ids->len || diff_ids->len >= STAGE_LAYERS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "max depth exceeded: an image has at most %d layers", STAGE_LAYERS_MAX - 1);
    for (size_t i = 0; i < diff_ids->len; i++) {
        stage_known(&commit->stage, diff_ids->items[i], json_integer_value(json_array_get(sizes, i)));
        commit->layers[commit->layer_len++] = index_of(&commit->stage, diff_ids->items[i]);
    }
    return 0;
}

static int read_order(struct commit *commit, int staging_fd, const struct strv *changes, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(ORDER_MAX);
    _cleanup_json_ json_t *order = NULL;
    if (file_read_at(staging_fd, IMAGE_STAGING_ORDER, &text, err) < 0 || json_parse(buf_text(&text), text.size, &order, err) < 0 ||
        json_decode(&oci_image_config_table, json_object_get(order, "config"), &commit->config, commit->arena, NULL, err) < 0 ||
        json_decode(&oci_history_table, json_object_get(order, "step"), &commit->step, commit->arena, NULL, err) < 0)
        return -1;
    return changes_apply(changes, &commit->config.config, commit->arena, err) < 0 ? -1 : take_known(commit, json_object_get(order, "sizes"), err);
}

static int add_layer(struct commit *commit, int input_fd, struct err *err)
{
    size_t index;
    char diff_id[72];
    if (stage_stream(&commit->stage, input_fd, NULL, 0, &index, err) < 0)
        return -1;
    stage_diff_id(&commit->stage, index, diff_id);
    commit->step.empty_layer = str_eq(diff_id, EMPTY_DIFF_ID);
    if (!commit->step.empty_layer) {
        strv_push_arena(&commit->config.rootfs.diff_ids, commit->arena, diff_id);
        commit->layers[commit->layer_len++] = index;
    }
    *(struct oci_history *)json_list_add(&commit->config.history, &oci_history_table, commit->arena) = commit->step;
    return 0;
}

static int tell(struct commit *commit, const char *reference, struct err *err)
{
    struct strv references = { 0 };
    char digest[72];
    _cleanup_json_ json_t *document = json_encode(&oci_image_config_table, &commit->config);
    _cleanup_free_ char *text = json_text(document);
    if (!str_empty(reference))
        strv_push_arena(&references, commit->arena, reference);
    return stage_config(&commit->stage, text, strlen(text), digest, err) < 0
               ? -1
               : stage_image(&commit->stage, digest, &references, commit->layers, commit->layer_len, NULL, err);
}

int transfer_commit(int input_fd, int staging_fd, const struct transfer_commit *options, FILE *report, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct commit *commit = arena_alloc(&arena, sizeof(*commit));
    *commit = (struct commit){ .arena = &arena, .stage = STAGE_INIT };
    int done = stage_open(&commit->stage, staging_fd, 0, report, err);
    if (done == 0)
        done = read_order(commit, staging_fd, &options->changes, err);
    if (done == 0)
        done = add_layer(commit, input_fd, err);
    if (done == 0)
        done = tell(commit, options->reference, err);
    stage_done(&commit->stage);
    return done;
}
