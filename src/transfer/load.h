// One load under way, and the three forms an archive may have. Private to the room.
#ifndef TRANSFER_LOAD_H
#define TRANSFER_LOAD_H

#include "spool.h"
#include "stage.h"
#include "json/json.h"

#define LOAD_DOCUMENT_MAX SPOOL_DOCUMENT_MAX // manifest, index, config: bytes
#define LOAD_IMAGES_MAX 1000
#define LOAD_INDEX_DEPTH_MAX 4

struct load {
    struct spool *spool;
    struct stage *stage;
};

int load_docker(struct load *load, const struct spool_member *manifest, struct err *err); // manifest.json
int load_oci(struct load *load, const struct spool_member *index, struct err *err); // index.json
int load_legacy(struct load *load, const struct spool_member *repositories, struct err *err); // repositories

// One image whose config and layers the first two forms name.
struct load_image {
    struct buf config; // its bytes
    struct strv layers; // members' names, bottom first
    struct strv blobs; // one per layer: the member's digest, "" where the form does not tell it
    struct strv references;
};
// Compares a document with the digest under which it is known.
int load_check_text(const struct buf *text, const char *digest, struct err *err);
// What of a config must be right before a layer is looked at.
struct oci_image_config;
int load_check_config(const struct oci_image_config *config, size_t layer_len, struct err *err);
int load_image(struct load *load, const struct load_image *image, struct err *err);

#endif
