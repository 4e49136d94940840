// The half of a pull that speaks to the registry: documents first, then layers, several at once. Private to the room.
#ifndef TRANSFER_FETCH_H
#define TRANSFER_FETCH_H

#include <stdatomic.h>

#include "distribution/distribution.h"
#include "transfer/transfer.h"

#define FETCH_PARALLEL 3

struct fetch {
    struct distribution *distribution;
    struct image_ref ref;
    struct oci_platform platform;
    struct arena arena;
    struct distribution_manifest top, manifest; // what the reference names, and the image's own; the same where that is no index
    struct oci_manifest image; // the second, read
    struct buf config; // its exact bytes
    unsigned parallel; // layers at a time
    atomic_bool stopped; // a layer failed: the others end
};

// Reads the certificates of the hosts that it may ask: before rights are given up. Everything is copied.
int fetch_open(struct fetch *fetch, const char *reference, const char *platform, const struct transfer_remote *remote,
               struct err *err);
void fetch_done(struct fetch *fetch);
#define _cleanup_fetch_ _cleanup_(fetch_done)

// top, manifest, image and config. All digests checked.
int fetch_documents(struct fetch *fetch, struct err *err);
// Calls `layer` for each position of `wanted` (one flag for each layer), from several threads; the first error ends it.
typedef int fetch_layer_fn(struct fetch *fetch, void *context, size_t position, struct err *err);
int fetch_layers(struct fetch *fetch, const bool *wanted, fetch_layer_fn *layer, void *context, struct err *err);
// What `layer` calls: the blob's bytes into the sink, ended early when another layer failed.
int fetch_blob(struct fetch *fetch, size_t position, bool check, distribution_sink_fn *sink, void *context, struct err *err);
static inline const struct oci_descriptor *fetch_layer(const struct fetch *fetch, size_t position)
{
    return json_list_at(&fetch->image.layers, &oci_descriptor_table, position);
}

#endif
