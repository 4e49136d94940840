// One push under way. Private to the room.
#ifndef TRANSFER_PUSH_H
#define TRANSFER_PUSH_H

#include <stdatomic.h>
#include <stdio.h>

#include "distribution/distribution.h"

#define PUSH_PARALLEL 3

struct push_layer {
    const char *diff_id;
    int recipe_fd, image_fd; // -1: the tar can't be made
    int original_fd; // the blob as it once came; -1: not kept
    const char *original; // its digest
    char digest[OCI_DIGEST_SIZE]; // of one that was sent
    struct oci_descriptor blob; // what the registry has of it, once it has
};

struct push {
    struct distribution *distribution;
    struct image_ref ref;
    FILE *report;
    struct arena arena;
    struct json_list known; // struct image_manifest: what registries have
    struct oci_manifest *manifests; // the same, read
    struct push_layer *layers;
    size_t layer_len;
    struct buf config;
    struct oci_descriptor config_blob;
    unsigned parallel; // layers at a time
    atomic_bool stopped;
};

// Of what the daemon hands over: a document's text; the next message, one byte with exactly `len` descriptors.
int push_read_file(int fd, struct buf *out, struct err *err);
int push_receive_fds(int sock, int *fds, size_t len, struct err *err);

// Sees that the registry has the layer: offers what it may have, mounts, or sends. A crew's work.
int push_layer(void *push, size_t index, struct err *err);
int push_report(const struct push *push, const char *diff_id, const char *status, struct err *err);

#endif
