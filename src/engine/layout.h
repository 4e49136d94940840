// What a build made, as the blobs of an OCI layout: images with their layers compressed as it is asked for, annotations, and what attests them, one
// index above them all where there is more than one manifest. It is made once, and then written as an archive or pushed, as often as is wanted.
//
// Layers are files in a folder below the data root's staging, made by a jailed worker, and go with layout_free(); documents are in memory.
//
// Any thread; blocking.
#ifndef ENGINE_LAYOUT_H
#define ENGINE_LAYOUT_H

#include "engine/engine.h"
#include "json/json.h"

struct layout_statement { // in-toto
    const char *predicate_type;
    json_t *predicate; // borrowed
};
struct layout_image {
    const char *id; // of an image here
    struct kvs annotations, descriptor_annotations; // of its manifest, and where the index names it
    const struct layout_statement *statements;
    size_t statement_len;
};
struct layout_form {
    const char *compression; // "uncompressed", "gzip", "zstd"
    int level; // -1: the default
    bool docker; // Docker's media types
    bool index; // even above one manifest
    struct kvs annotations; // of the index
    struct strv names; // what statements are about
    const struct layout_image *images;
    size_t len;
};

struct layout;
// invalid_argument: compression or level are none; statements or zstd with Docker's media types.
int layout_new(struct engine *engine, const struct layout_form *form, struct layout **out, const struct cancel *cancel, struct err *err);
void layout_free(struct layout *layout); // NULL is fine
const char *layout_digest(const struct layout *layout); // of the uppermost document
const char *layout_manifest_digest(const struct layout *layout, size_t image);
json_t *layout_descriptor(const struct layout *layout); // of the uppermost document; a new reference

// An image archive; `annotations` are of the uppermost document's entry in index.json. As worker_save().
int layout_archive(const struct layout *layout, const struct strv *names, const struct kvs *annotations, engine_pipe_fn *sink, void *context,
                   const struct cancel *cancel, struct err *err);
// To the registry that the reference names; `by_digest`: its tag is nobody's.
int layout_push(const struct layout *layout, const char *reference, bool by_digest, const struct engine_login *login, engine_progress_fn *progress,
                void *context, const struct cancel *cancel, struct err *err);

#endif
