#include "fetch.h"
#include "crew.h"
#include "load.h"
#include "platform.h"

int fetch_open(struct fetch *fetch, const char *reference, const char *platform, const struct transfer_remote *remote,
               struct err *err)
{
    *fetch = (struct fetch){ .top = DISTRIBUTION_MANIFEST_INIT, .manifest = DISTRIBUTION_MANIFEST_INIT,
                             .config = BUF_INIT(LOAD_DOCUMENT_MAX),
                             .parallel = remote->downloads > 0 ? (unsigned)MIN_OF(remote->downloads, (int64_t)CREW_MAX) : FETCH_PARALLEL };
    if (image_ref_parse(reference, true, &fetch->arena, &fetch->ref, err) < 0 ||
        platform_parse(platform, &fetch->arena, &fetch->platform, err) < 0)
        return -1;
    return distribution_new(&fetch->ref, DISTRIBUTION_PULL, &remote->login, &remote->options, &fetch->distribution, err);
}

void fetch_done(struct fetch *fetch)
{
    distribution_free(fetch->distribution);
    distribution_manifest_done(&fetch->top);
    distribution_manifest_done(&fetch->manifest);
    buf_done(&fetch->config);
    arena_done(&fetch->arena);
}

// ---- documents ------------------------------------------------------------------------------------------------------

// From an index down to the manifest for the platform.
static int choose_manifest(struct fetch *fetch, struct err *err)
{
    const struct distribution_manifest *at = &fetch->top;
    for (int depth = 0; distribution_is_index(at->media_type); depth++) {
        struct oci_index index;
        struct oci_descriptor entry;
        if (depth > LOAD_INDEX_DEPTH_MAX)
            return err_set(err, ERR_INVALID_ARGUMENT, "indexes are nested more than %d deep", LOAD_INDEX_DEPTH_MAX);
        if (json_decode_text(&oci_index_table, buf_text(&at->text), at->text.size, &index, &fetch->arena, NULL, err) < 0)
            return err_wrap(err, "index %s", at->digest);
        if (distribution_choose(&index, &fetch->platform, &entry, err) < 0 ||
            distribution_manifest_get(fetch->distribution, entry.digest, &fetch->manifest, err) < 0)
            return -1;
        at = &fetch->manifest;
    }
    if (json_decode_text(&oci_manifest_table, buf_text(&at->text), at->text.size, &fetch->image, &fetch->arena, NULL, err) < 0)
        return err_wrap(err, "manifest %s", at->digest);
    return 0;
}

static int keep_config(void *context, const void *data, size_t size, struct err *err)
{
    struct buf *config = context;
    buf_add(config, data, size);
    return buf_check(config, "image configuration", err);
}

int fetch_documents(struct fetch *fetch, struct err *err)
{
    const char *name = fetch->ref.digest ? fetch->ref.digest : fetch->ref.tag;
    const struct oci_descriptor *config = &fetch->image.config;
    if (distribution_manifest_get(fetch->distribution, name, &fetch->top, err) < 0 || choose_manifest(fetch, err) < 0)
        return -1;
    if (!str_eq(config->media_type, MEDIA_OCI_CONFIG) && !str_eq(config->media_type, MEDIA_DOCKER_CONFIG))
        return err_set(err, ERR_INVALID_ARGUMENT, "%s is not an image: its config has media type %.128s", fetch->ref.familiar,
                       config->media_type ? config->media_type : "");
    if (fetch->image.layers.len > STAGE_LAYERS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "image has %zu layers, at most %d can be stacked", fetch->image.layers.len,
                       STAGE_LAYERS_MAX);
    return distribution_blob_get(fetch->distribution, config, true, keep_config, &fetch->config, err);
}

// ---- layers ---------------------------------------------------------------------------------------------------------

struct sink {
    struct fetch *fetch;
    distribution_sink_fn *sink;
    void *context;
};

static int take_bytes(void *context, const void *data, size_t size, struct err *err)
{
    struct sink *sink = context;
    if (atomic_load(&sink->fetch->stopped))
        return err_set(err, ERR_CANCELLED, "another layer failed");
    return sink->sink(sink->context, data, size, err);
}

int fetch_blob(struct fetch *fetch, size_t position, bool check, distribution_sink_fn *sink, void *context, struct err *err)
{
    struct sink own = { fetch, sink, context };
    return distribution_blob_get(fetch->distribution, fetch_layer(fetch, position), check, take_bytes, &own, err);
}

struct layers {
    struct fetch *fetch;
    const bool *wanted;
    fetch_layer_fn *layer;
    void *context;
};

static int work(void *context, size_t position, struct err *err)
{
    const struct layers *layers = context;
    return layers->wanted[position] ? layers->layer(layers->fetch, layers->context, position, err) : 0;
}

int fetch_layers(struct fetch *fetch, const bool *wanted, fetch_layer_fn *layer, void *context, struct err *err)
{
    struct layers layers = { fetch, wanted, layer, context };
    return crew_run(fetch->image.layers.len, fetch->parallel, work, &layers, &fetch->stopped, err);
}
