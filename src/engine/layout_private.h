// A layout under way, for layout.c and layout_give.c.
#ifndef ENGINE_LAYOUT_PRIVATE_H
#define ENGINE_LAYOUT_PRIVATE_H

#include "engine_private.h"
#include "layout.h"
#include "steps.h"

struct layout_layer {
    const char *diff_id, *digest; // digest: of the blob, once it is made
    int64_t size;
    int fd; // the blob
    int image_fd, recipe_fd; // until the worker has them
};
struct layout_document {
    const char *digest, *media_type, *text;
    bool manifest;
};

struct layout {
    struct engine *engine;
    struct arena arena;
    struct workshop *workshop;
    int folder_fd;
    struct layout_layer *layers; // each once
    size_t layer_len;
    struct layout_document *documents; // what a document names stands before it
    size_t document_len;
    struct {
        const char *id, *manifest;
        struct strv diff_ids;
    } *images;
    size_t len;
    json_t *top; // the descriptor of the uppermost
};

#endif
