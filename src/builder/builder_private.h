// What the builder's files share.
#ifndef BUILDER_BUILDER_PRIVATE_H
#define BUILDER_BUILDER_PRIVATE_H

#include "base/clock.h"
#include "base/mutex.h"
#include "base/num.h"
#include "build/dockerfile.h"
#include "build/graph.h"
#include "build/ignore.h"
#include "build/scope.h"
#include "build/step.h"
#include "build/words.h"
#include "builder/builder.h"
#include "engine/steps.h"

struct builder {
    struct engine *engine;
    struct store *store;
    struct mutex lock; // unranked: nothing is taken inside
    unsigned running GUARDED_BY(lock); // builds
    int64_t since_ns GUARDED_BY(lock); // when the first of them began, or one before it
};

// What a stage is after a step.
struct stage {
    struct build *build;
    size_t index;
    const char *image; // an ID; NULL: nothing yet (scratch)
    const char *base; // what FROM stood for; NULL: scratch
    struct oci_image_process config; // texts in the build's arena
    struct scope scope;
    const char *author; // of MAINTAINER, or the image's
    bool command_set; // CMD stood in this stage
    bool finished;
};

struct build {
    struct builder *builder;
    struct engine *engine;
    const struct build_request *request;
    const struct cancel *cancel;
    struct arena *arena;
    struct workshop *workshop;
    int context_fd; // the context's folder
    struct dockerfile *file;
    struct build_args args;
    struct scope global;
    struct graph *graph;
    struct stage *stages;
    unsigned step, steps; // said so far; in all
    unsigned folders; // of heredocs, counted
    int64_t created_ns, time_max; // SOURCE_DATE_EPOCH: seconds; -1
    struct strv kept; // containers that stay until the end
    int64_t exit_code;
    engine_progress_fn *progress;
    void *progress_of;
    json_t *imported; // steps of --cache-from by their keys; not changed any more once they are read
    struct buf unsaid; // quiet: what is told only with an error
};

// ---- say.c ----------------------------------------------------------------------------------------------------------

void say(struct build *build, const char *fmt, ...) _printf_(2, 3); // to the client's stream
void say_text(struct build *build, const char *text, size_t size); // whatever bytes
void say_step(struct build *build, const char *text); // "Step 1/3 : text"
void say_image(struct build *build, const char *id); // " ---> id"
void say_aux(struct build *build, const char *id);
int say_progress(void *build, json_t *object); // an engine_progress_fn
void say_unsaid(struct build *build);

// ---- cache.c --------------------------------------------------------------------------------------------------------

extern const char *const builder_migrations[];
extern const size_t builder_migration_len;
void cache_key(const struct stage *stage, const char *created_by, const char *extra, char key[OCI_DIGEST_SIZE]);
// 1: the stage stands on what it had made then, or on the same step of an image of --cache-from; 0: nothing is there. created_by NULL: its
// text in the history does not say all of the step.
int cache_find(struct stage *stage, const char *key, const char *created_by, struct err *err);
void cache_put(struct stage *stage, const char *key, const char *parent, const char *description);
// A row of the cache that no step makes.
int cache_note(struct builder *builder, const char *key, const char *image, const char *description, struct err *err);
// export.c: the build's steps as one image; those of --cache-from read; one of them taken: 1, or 0.
int cache_export(struct build *build, char **id, struct err *err);
int cache_read(struct build *build, struct err *err);
int cache_take(struct stage *stage, const char *key, struct err *err);
int cache_sweep(struct builder *builder, struct err *err); // forgets steps that no key names, while no build runs
int container_note(struct builder *builder, const char *name, struct err *err); // one that goes when we are killed
void container_forget(struct builder *builder, const char *name);

// ---- stage.c --------------------------------------------------------------------------------------------------------

int stage_run(struct stage *stage, struct err *err);
int stage_step(struct stage *stage, const struct instruction *instruction, struct err *err); // one that is not FROM
int stage_adopt(struct stage *stage, const char *id, struct err *err); // image and configuration
// The image of that name, pulled where it must be. *id in the arena.
int find_image(struct build *build, const char *name, const char *platform, const char **id, struct err *err);
// What --from names, as an ID; NULL: an empty stage. `from` NULL is not asked.
int find_from(struct stage *stage, const char *from, const char **id, struct err *err);
struct step step_of(const struct stage *stage, const char *created_by);
// A step without a layer: from the cache, or made.
int commit_plain(struct stage *stage, const char *created_by, struct err *err);

// ---- config.c -------------------------------------------------------------------------------------------------------

// The instructions that change the configuration alone, and WORKDIR.
int step_config(struct stage *stage, const struct instruction *instruction, struct err *err);
char *shell_words(const struct stage *stage); // "/bin/sh -c", as history has it
void shell_command(const struct stage *stage, const struct dockerfile_command *command, struct strv *out);
char *join_words(struct arena *arena, const struct strv *words);
char *join_path(struct arena *arena, const char *folder, const char *path); // absolute; ".." never leaves the root

// ---- copy.c, mounts.c, secrets.c, run.c --------------------------------------------------------------------------------------------------

int step_copy(struct stage *stage, const struct instruction *instruction, struct err *err);
// A RUN's mounts as HostConfig.Mounts has them. To be closed in any case.
struct step_mounts {
    json_t *list;
    const char *key; // what of them is part of the step's key
    int *locks; // of caches
    size_t lock_len;
    struct step_copy *copies; // parts of the context, of stages and images that are copied, once the step is known to run
    size_t copy_len;
    const char *secrets; // their folder; NULL: there are none
};
int step_mounts_fill(struct stage *stage, struct step_mounts *mounts, struct err *err); // makes the copies
int secrets_sweep(struct builder *builder, struct err *err); // secrets.c: what a killed daemon left
int secret_add(struct stage *stage, const struct run_mount *mount, struct step_mounts *out, struct err *err);
void secrets_close(struct step_mounts *mounts);
int step_mounts_open(struct stage *stage, const struct run_fields *fields, struct step_mounts *out, struct err *err);
void step_mounts_close(struct step_mounts *mounts);
int step_run(struct stage *stage, const struct instruction *instruction, struct err *err);

#endif
