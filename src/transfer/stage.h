// What a load leaves for the daemon: layers by DiffID, unpacked or as EROFS images, configs by digest, and one report line per image.
// Private to the room.
#ifndef TRANSFER_STAGE_H
#define TRANSFER_STAGE_H

#include <jansson.h>
#include <stdio.h>

#include "spool.h"
#include "base/mutex.h"
#include "base/strv.h"
#include "layer/layer.h"

#define STAGE_LAYERS_MAX 500 // of one image: overlayfs stacks no more
#define STAGE_LAYERS_TOTAL 16384

struct stage_layer {
    char diff_id[72];
    int64_t size;
    struct strv opaque;
};

// Layers may be staged by several threads at once; the rest is for one.
struct stage {
    struct mutex lock; // unranked
    int staging_fd; // borrowed
    int layers_fd, blobs_fd;
    bool erofs; // layers become images, as the staging folder says
    bool no_devices; // unpacked layers have none, as it says
    bool keep; // compressed layers stay beside them as they came, as it says too
    struct layer_bound bound; // of all that this transfer inflates
    FILE *report;
    struct stage_layer *layers GUARDED_BY(lock);
    size_t len, capacity;
    unsigned next; // to tell apart what is under way
};

#define STAGE_INIT { .lock = { .pthread = PTHREAD_MUTEX_INITIALIZER }, .layers_fd = -1, .blobs_fd = -1 }
#define _cleanup_stage_ _cleanup_(stage_done)

int stage_open(struct stage *stage, int staging_fd, uint64_t inflate_ratio, FILE *report, struct err *err);
void stage_done(struct stage *stage);

// What the archive claims about a layer; NULL members claim nothing.
struct stage_claim {
    const char *diff_id; // by the config
    const char *blob; // by a manifest: digest of the member as it is, perhaps compressed
    const char *progress_id; // for progress lines, NULL: from diff_id
};

// Unpacks an archive's member and uses its file up; a layer that is already there is not unpacked again. Returns its
// index in `layers`. The DiffID is not compared with the claim: the caller knows the layer's place and says so.
int stage_member(struct stage *stage, const struct spool *spool, struct spool_member *member,
                 const struct stage_claim *claim, size_t *index, struct err *err);
// The same of many, by several threads where there are cores for them. No member and no DiffID is in it twice. What is wrong with one
// is in its `failure`, for stage_member() to give.
struct stage_job {
    struct spool_member *member;
    struct stage_claim claim;
};
void stage_members(struct stage *stage, const struct spool *spool, const struct stage_job *jobs, size_t len);
// A layer that passes (spool.h); a spool_take_fn.
int stage_passing(void *stage, struct spool_member *member, layer_read_fn *read, void *reader, struct err *err);
// The same from a stream to its end, for import.
// `status` NULL: no progress is told; total -1 or 0: not known.
int stage_stream(struct stage *stage, int fd, const char *status, int64_t total, size_t *index, struct err *err);
// The same for a blob of `size` bytes that comes through a pipe; several threads may do so at once: its digest is checked, progress says "Downloading".
int stage_blob(struct stage *stage, int fd, int64_t size, const struct stage_claim *claim, size_t *index, struct err *err);
void stage_diff_id(struct stage *stage, size_t index, char out[72]); // of a layer, while others may come
// A layer that the daemon has already: nothing is staged.
void stage_known(struct stage *stage, const char *diff_id, int64_t size);
// The layer with this DiffID, NULL when none is there.
const struct stage_layer *stage_find(const struct stage *stage, const char *diff_id);

// Keeps the config's bytes; its digest is the image's ID.
int stage_config(struct stage *stage, const char *text, size_t size, char digest[72], struct err *err);
// The line about a finished image; `layers` are indexes, bottom first. `manifest` is what a registry has of it, NULL when it comes
// from none; taken.
int stage_image(struct stage *stage, const char *config_digest, const struct strv *references, const size_t *layers,
                size_t layer_len, json_t *manifest, struct err *err);

#endif
