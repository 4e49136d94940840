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
    struct named *named; // contexts by name
    size_t named_len;
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
int cache_take(struct stage *stage, const char *key, struct err *err); // by the key alone, and not told
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
// What --from names, as a tree of the caller's.
int open_from_tree(struct stage *stage, const char *from, struct err *err);
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

// ---- remote.c, urls.c: sources that are elsewhere ------------------------------------------------------------------

struct remote {
    const char *source; // as written
    const char *checksum; // that it must have; NULL: any
    const char *name; // of a file
    const char *path; // in the tree, as a pattern
    const char *identity; // what a key has of it: its content, not its place
    char digest[OCI_DIGEST_SIZE]; // of a file
    struct git_source *git; // NULL: a file of a URL's
    int tree_fd; // -1: it was not fetched yet
};
bool remote_is(const char *source);
bool remote_is_git(const char *source);
// What it is; fetched where that can't be known otherwise.
int remote_look(struct stage *stage, const char *source, const struct copy_fields *fields, struct remote *out, struct err *err);
int remote_fetch(struct stage *stage, struct remote *remote, struct err *err);
// A build's context that is elsewhere, as a folder (O_PATH). `text` gets the Dockerfile where that is all there is. `prefix`: of the folders of
// the workshop that it takes.
int remote_context(struct build *build, const char *prefix, const char *source, struct buf *text, struct err *err);

// ---- named.c: contexts by name --------------------------------------------------------------------------------------

struct named;
void named_open(struct build *build);
void named_close(struct build *build);
struct named *named_find(struct build *build, const char *name); // NULL: none has that name
int named_tree(struct build *build, struct named *named, struct err *err); // a descriptor of the caller's
int named_image(struct stage *stage, struct named *named, const char *platform, const char **id, struct err *err);
void remote_done(struct remote *remote);

// What was found at a URL the last time.
struct known_url {
    char *etag; // NULL: the URL is not known
    char digest[OCI_DIGEST_SIZE];
    int64_t modified;
};
int url_known(struct builder *builder, const char *url, struct arena *arena, struct known_url *out, struct err *err);
void url_note(struct builder *builder, const char *url, const struct known_url *known);

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
    const char *secrets; // their folder, and that of agents' sockets; NULL: there are none
    struct strv env; // variables that are secrets
    struct agent *agents;
    size_t agent_len;
    const char *agent_path; // of the first one, in the container
};
int step_mounts_fill(struct stage *stage, struct step_mounts *mounts, struct err *err); // makes the copies
int secrets_sweep(struct builder *builder, struct err *err); // secrets.c: what a killed daemon left
int secret_add(struct stage *stage, const struct run_mount *mount, struct step_mounts *out, struct err *err);
int secrets_folder_make(struct stage *stage, struct step_mounts *out, struct err *err);
void secrets_close(struct step_mounts *mounts);
int agent_add(struct stage *stage, const struct run_mount *mount, struct step_mounts *out, struct err *err); // agents.c
void agents_close(struct step_mounts *mounts);
int step_mounts_open(struct stage *stage, const struct run_fields *fields, struct step_mounts *out, struct err *err);
void step_mounts_close(struct step_mounts *mounts);
int step_run(struct stage *stage, const struct instruction *instruction, struct err *err);

#endif
