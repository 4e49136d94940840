// The builder: a Dockerfile and its context become an image, step by step, independent stages side by side. The language is the room build's; containers, trees
// and images are the engine's (engine/steps.h). What a step makes is kept under a key, and found again by every later build.
//
// **Key.** The digest of: the image below, the step as it is said, the configuration after it, and what it reads: contents, modes, names of
// files, never their times.
//
// **What is where.** A build has a folder of its own (its context, heredocs), and a container for each RUN. Both go with it: after an
// error, when the client leaves, and at the next start when the daemon was killed. Only what `--rm=false` asks for, and the container of a RUN
// that failed, stay, as with Docker.
//
// Threads: any. A build's stages run in its caller's thread and in some of its own, no more than there are processors; a single stage in the caller's alone.
// The caller's functions are called by one thread at a time, but `agent`. Several builds at one time do not know of each other.
#ifndef BUILDER_BUILDER_H
#define BUILDER_BUILDER_H

#include "engine/engine.h"

struct builder;
struct build_kept;
struct listing;
// Opens the cache, and removes containers of builds that were cut off. `engine` is borrowed.
int builder_open(struct engine *engine, struct builder **out, struct err *err);
void builder_free(struct builder *builder); // once no build runs

enum build_cache { BUILD_CACHE_NONE, BUILD_CACHE_MIN, BUILD_CACHE_MAX }; // of the target; of all stages

// How much of the piece it has taken; !*more: it wants no further one.
typedef size_t build_piece_fn(void *with, const char *data, size_t size, bool *more);

typedef int build_take_fn(void *with, int tar_fd, struct err *err);

struct build_request {
    const char *dockerfile; // path in the context; NULL or "": "Dockerfile"
    const char *remote; // a URL or a git repository that is the context in the tar's place; NULL: none
    // What the descriptor `input_fd` brings can be had before it goes into that pipe: the pieces go to `piece`, in another thread, until it has enough or
    // all have come. Called once before anything is read from the pipe (`piece` NULL: all goes there). NULL: there is a pipe alone.
    int (*pieces)(void *of, build_piece_fn *piece, void *with, const struct cancel *cancel, struct err *err);
    void *pieces_of;
    struct slice dockerfile_text; // instead, where data is not NULL; then the context is as it is: no .dockerignore is looked for in it
    struct strv tags; // normal references
    struct strv cache_from; // images whose steps count as done
    enum build_cache cache_out; // the steps as an image
    const char *cache_more; // with those of that one, another build's; NULL: none
    struct kvs args; // a value of NULL: none
    struct kvs labels;
    const char *target, *platform; // NULL or ""
    const char *id; // to cancel it by; NULL or ""
    // Stages run at the same time. Without `live` they speak one after the other, in the file's order; with it at once, and each object has a number
    // "stage", that of a step also "label": where in its stage it is, "2/4" or "name 2/4"; {"end": "waits"} and the like say that a stage was put down. Also BuildKit's where the two builders differ: a pattern of COPY that fits nothing is none.
    bool live;
    bool quiet, no_cache, pull, keep, force_remove; // keep: containers of steps stay
    struct strv no_cache_stages; // nothing of these stages is taken from the cache
    bool squash; // one layer above the base
    bool unseen; // the result goes in no list of images
    bool times; // with SOURCE_DATE_EPOCH also what a RUN writes is no later
    json_t *host; // HostConfig of the steps' containers, as a client of the API would say it; borrowed
    // Who we are to a registry; borrowed texts.
    struct engine_login (*login)(void *of, const char *domain);
    void *login_of;
    // A secret of the client's, appended; not_found when it has none of that id. NULL: the client can't be asked.
    int (*secret)(void *of, const char *id, struct buf *out, struct err *err);
    void *secret_of;
    // Answers who connects to the listening socket as the client's ssh agent of that id, until stop_fd can be read. `listen_fd` -1: only whether
    // there is one; not_found. NULL: the client can't be asked.
    int (*agent)(void *of, const char *id, int listen_fd, int stop_fd, struct err *err);
    void *agent_of;
    struct kvs contexts; // by name: "docker-image://REF", "local:NAME", "oci-layout://NAME@sha256:...", a URL or a git repository
    // Told the Dockerfile of a context that is elsewhere, before anything is built. -1 ends the build. NULL: nobody asks.
    int (*dockerfile_found)(void *of, struct slice text, struct err *err);
    void *dockerfile_of;
    struct build_kept *kept; // the context, in the tar's place; borrowed. NULL: it is a tar
    // A folder of the client's, brought up to date; the caller's to free. NULL: the client can't be asked.
    int (*folder)(void *of, const char *name, struct build_kept **out, struct err *err);
    void *folder_of;
    // Calls `take` with an image archive out of an OCI layout that the client calls `store`. NULL: the client can't be asked.
    int (*layout)(void *of, const char *store, const char *digest, const char *platform, build_take_fn *take, void *with, struct err *err);
    void *layout_of;
};

// What a build has looked at that is not its context: for whoever says what an image was made of.
struct build_source {
    enum { BUILD_SOURCE_IMAGE, BUILD_SOURCE_LAYOUT, BUILD_SOURCE_URL, BUILD_SOURCE_GIT, BUILD_SOURCE_SECRET, BUILD_SOURCE_AGENT } kind;
    const char *name; // a reference, a URL, an id
    const char *digest; // "sha256:..." of a manifest (of an image without one: its ID) or a file, a commit; NULL
    const char *platform; // of an image; NULL: this machine's
    bool optional; // of a secret
};

struct build_result {
    char *id; // of the image; arena memory
    struct build_source *sources; // each once; arena memory
    size_t source_len;
    char *cache_id; // of the steps as an image, if asked for; it goes when the daemon starts next
    int64_t exit_code; // of a RUN that failed, else 0
    // Where in the Dockerfile it failed, lines counted from 1; 0: in none. Arena memory.
    unsigned line, last_line;
    struct slice dockerfile;
};
// `input_fd`: the context, a tar that may be compressed; -1: there is none, or `kept`. What Docker's classic builder says goes to `progress`. invalid_argument, and Docker's
// words, for a Dockerfile that is none.
int builder_build(struct builder *builder, const struct build_request *request, int input_fd, engine_progress_fn *progress, void *context,
                  struct arena *arena, struct build_result *out, const struct cancel *cancel, struct err *err);
// Ends those of that id, as if their clients had left; it may have none.
void builder_cancel(struct builder *builder, const char *id);

// The image that --cache-from names: one of ours, else out of its registry, unseen; from then on it is part of the cache. *id is arena memory.
struct build_import {
    const char *reference;
    struct engine_login login;
    // Instead of both: an archive of the client's, and what it is known by.
    const char *digest;
    int (*archive)(void *of, build_take_fn *take, void *with, struct err *err);
    void *archive_of;
};
int builder_import(struct builder *builder, const struct build_import *import, engine_progress_fn *progress, void *context, struct arena *arena,
                   char **id, const struct cancel *cancel, struct err *err);

// ---- clients' folders that are kept between builds ------------------------------------------------------------------

// The folder that was kept under that key, or a new one; nobody else's until it is freed. `key` NULL: it goes when it is freed.
int build_kept_open(struct builder *builder, const char *key, const char *description, struct build_kept **out, struct err *err);
const struct listing *build_kept_listing(const struct build_kept *kept); // what is in it: build/listing.h
int build_kept_tree(const struct build_kept *kept, struct err *err); // its folder, a descriptor of the caller's
// A worker removes these paths and unpacks a plain tar. Until build_kept_settle() has the list of all that is there then, the folder is nobody's
// belief: if it is freed, or the daemon is killed, it goes.
int build_kept_change(struct build_kept *kept, const struct strv *removed, int tar_fd, const struct cancel *cancel, struct err *err);
int build_kept_settle(struct build_kept *kept, const struct listing *now, struct err *err);
void build_kept_free(struct build_kept *kept); // NULL is fine

// ---- the cache ------------------------------------------------------------------------------------------------------

struct build_entry {
    char *id, *image_id, *parent; // id: the key; image_id NULL: a folder
    char *description; // the step
    const char *type; // "regular", "exec.cachemount", "source.local"
    int64_t size, created_ns, used_ns, uses;
    bool shared; // an image that is in the list of images, or below one
    bool in_use; // a build that runs stands on it
};
// Those that fit, the latest used first. `filters`: see filter.c; NULL: all. invalid_argument.
int builder_cache(struct builder *builder, const struct strv *filters, struct arena *arena, struct build_entry **out, size_t *len, struct err *err);

struct build_prune {
    bool all; // also what images in the list were made of
    int64_t unused_before_ns; // 0: whenever it was used
    int64_t keep_size; // bytes that may stay, the latest used; 0: none
    int64_t max_size, min_free; // at most so many may stay; so many are to be free on the disk; 0: no matter
    const struct strv *filters; // as above
};
// Deleted keys are in the arena. What a container or a running build stands on stays.
int builder_prune(struct builder *builder, const struct build_prune *prune, struct arena *arena, struct strv *deleted, int64_t *reclaimed,
                  struct err *err);

#endif
