// A step under way: what steps.c and loose.c share.
#ifndef ENGINE_STEPPING_H
#define ENGINE_STEPPING_H

#include "filer.h"
#include "steps.h"
#include "worker.h"

struct stepping {
    struct engine *engine;
    struct worker worker;
    struct filer filer;
    const struct cancel *cancel;
    int tar_fd; // what the archive worker writes
    struct arena *arena;
    const struct step *step;
    struct image parent; // without one: empty
    struct oci_image_config config;
    struct oci_history history;
    int64_t layer_size; // of a layer that nobody staged
    char *id;
    const char *member; // one more of the configuration's
    json_t *value;
};

struct stepping stepping_of(struct engine *engine, const struct step *step, struct arena *arena);
void stepping_done(struct stepping *stepping);
int stepping_fill(struct stepping *stepping, struct err *err); // configuration and history, from the parent's record
// A document for the staging folder; its digest.
int stepping_stage_config(struct stepping *stepping, int staging_fd, char digest[OCI_DIGEST_SIZE], struct err *err);
void stepping_list_layers(struct stepping *stepping, struct image_staged *staged); // of the configuration
int stepping_plain(struct stepping *stepping, char **id, struct err *err); // the image, without a layer of its own
int stepping_run(struct stepping *stepping, const struct filer_wish *wish, char **id, struct err *err); // with what the archive worker writes
// NULL: files' own times, and all that was written.
json_t *stepping_layer_spec(const struct step *step, bool guest);

#endif
