// The oldest form: `repositories` names the top layer of each image, <id>/json has its description and its parent's id,
// <id>/layer.tar its content. There is no image config: one is made from the top layer's description as Docker does it,
// with the history of the chain and the DiffIDs that came out of unpacking.
#include <stdio.h>

#include "load.h"
#include "base/num.h"

#define V1_ID_SIZE 64

struct chain {
    json_t *descriptions[STAGE_LAYERS_MAX]; // of the layers, top first; references
    const char *ids[STAGE_LAYERS_MAX]; // in the descriptions' children; the first in `repositories`
    size_t len;
};

static void chain_done(struct chain *chain)
{
    for (size_t i = 0; i < chain->len; i++)
        json_decref(chain->descriptions[i]);
}

static int read_description(struct load *load, const char *id, json_t **out, struct err *err)
{
    char name[V1_ID_SIZE + 8];
    if (strlen(id) != V1_ID_SIZE || !hex_valid(slice_of(id)))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid layer id %.80s", id);
    snprintf(name, sizeof(name), "%s/json", id);
    const struct spool_member *member = spool_find(load->spool, name);
    _cleanup_buf_ struct buf text = BUF_INIT(LOAD_DOCUMENT_MAX);
    _cleanup_json_ json_t *description = NULL;
    if (!member)
        return err_set(err, ERR_INVALID_ARGUMENT, "archive has no member %s", name);
    if (spool_text(load->spool, member, &text, err) < 0 ||
        json_parse(buf_text(&text), text.size, &description, err) < 0)
        return err_wrap(err, "%s", name);
    if (!json_is_object(description))
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: not an object", name);
    *out = take_ptr(&description);
    return 0;
}

static int read_chain(struct load *load, const char *top, struct chain *chain, struct err *err)
{
    for (const char *id = top; !str_empty(id);) {
        if (chain->len >= STAGE_LAYERS_MAX)
            return err_set(err, ERR_INVALID_ARGUMENT, "image has more than %d layers", STAGE_LAYERS_MAX);
        json_t *description = NULL;
        if (read_description(load, id, &description, err) < 0)
            return -1;
        chain->descriptions[chain->len] = description;
        chain->ids[chain->len++] = id;
        id = json_get_text(description, "parent", NULL);
    }
    return 0;
}

// ---- the config -----------------------------------------------------------------------------------------------------

static void copy_text(json_t *to, const char *key, const json_t *from, const char *from_key)
{
    const char *text = json_get_text(from, from_key, NULL);
    if (!str_empty(text))
        json_object_set_new(to, key, json_string(text));
}

static json_t *history_entry(const json_t *description)
{
    json_t *entry = json_object();
    copy_text(entry, "created", description, "created");
    copy_text(entry, "author", description, "author");
    copy_text(entry, "comment", description, "comment");
    const json_t *cmd = json_object_get(json_object_get(description, "container_config"), "Cmd");
    struct buf created_by = BUF_INIT(LOAD_DOCUMENT_MAX);
    for (size_t i = 0; i < json_array_size(cmd); i++) {
        const char *word = json_string_value(json_array_get(cmd, i));
        buf_addf(&created_by, "%s%s", i > 0 ? " " : "", word ? word : "");
    }
    if (created_by.size > 0)
        json_object_set_new(entry, "created_by", json_string(buf_text(&created_by)));
    buf_done(&created_by);
    return entry;
}

static json_t *make_config(struct load *load, const struct chain *chain, const size_t *layers)
{
    static const char *const only_v1[] = { "id", "parent", "Size", "parent_id", "layer_id", "throwaway" };
    json_t *config = json_copy(chain->descriptions[0]);
    json_t *history = json_array(), *diff_ids = json_array();
    for (size_t i = 0; i < chain->len; i++) {
        json_array_append_new(history, history_entry(chain->descriptions[chain->len - 1 - i]));
        json_array_append_new(diff_ids, json_string(load->stage->layers[layers[i]].diff_id));
    }
    for (size_t i = 0; i < ARRAY_LEN(only_v1); i++)
        json_object_del(config, only_v1[i]);
    json_object_set_new(config, "history", history);
    json_object_set_new(config, "rootfs", json_pack("{s:s, s:o}", "type", "layers", "diff_ids", diff_ids));
    return config;
}

// ---- images ---------------------------------------------------------------------------------------------------------

static int unpack_chain(struct load *load, const struct chain *chain, size_t *layers, struct err *err)
{
    for (size_t i = 0; i < chain->len; i++) {
        const char *id = chain->ids[chain->len - 1 - i];
        char name[V1_ID_SIZE + 16];
        snprintf(name, sizeof(name), "%s/layer.tar", id);
        struct spool_member *member = spool_find(load->spool, name);
        const struct stage_claim claim = { .progress_id = id };
        if (!member)
            return err_set(err, ERR_INVALID_ARGUMENT, "archive has no member %s", name);
        if (stage_member(load->stage, load->spool, member, &claim, &layers[i], err) < 0)
            return err_wrap(err, "layer %.12s", id);
    }
    return 0;
}

static int load_chain(struct load *load, const struct chain *chain, const struct strv *references, struct err *err)
{
    size_t layers[STAGE_LAYERS_MAX];
    if (unpack_chain(load, chain, layers, err) < 0)
        return -1;
    _cleanup_json_ json_t *config = make_config(load, chain, layers);
    _cleanup_free_ char *text = json_dumps(config, JSON_COMPACT | JSON_SORT_KEYS);
    char digest[72];
    if (!text)
        return err_set(err, ERR_INTERNAL, "image config cannot be written");
    if (stage_config(load->stage, text, strlen(text), digest, err) < 0)
        return -1;
    return stage_image(load->stage, digest, references, layers, chain->len, NULL, err);
}

static int load_tag(struct load *load, const char *repository, const char *tag, const char *id, struct err *err)
{
    struct chain chain = { .len = 0 };
    struct strv references = { 0 };
    strv_addf(&references, "%s:%s", repository, tag);
    int done = str_empty(id) ? err_set(err, ERR_INVALID_ARGUMENT, "no layer id") : read_chain(load, id, &chain, err);
    if (done == 0)
        done = load_chain(load, &chain, &references, err);
    chain_done(&chain);
    strv_done(&references);
    return done == 0 ? 0 : err_wrap(err, "%.128s:%.128s", repository, tag);
}

int load_legacy(struct load *load, const struct spool_member *member, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(LOAD_DOCUMENT_MAX);
    _cleanup_json_ json_t *repositories = NULL;
    if (spool_text(load->spool, member, &text, err) < 0)
        return -1;
    if (json_parse(buf_text(&text), text.size, &repositories, err) < 0)
        return err_wrap(err, "repositories");
    const char *repository, *tag;
    json_t *tags, *id;
    size_t count = 0;
    json_object_foreach(repositories, repository, tags) {
        json_object_foreach(tags, tag, id) {
            if (++count > LOAD_IMAGES_MAX)
                return err_set(err, ERR_INVALID_ARGUMENT, "more than %d images", LOAD_IMAGES_MAX);
            if (load_tag(load, repository, tag, json_string_value(id), err) < 0)
                return -1;
        }
    }
    return count > 0 ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "repositories: names no image");
}
