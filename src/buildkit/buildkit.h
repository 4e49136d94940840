// BuildKit's door: what `docker buildx build` and Compose say to a builder, served on gRPC (grpc/grpc.h).
//
// One build is four things on two connections:
//
//     /grpc     Control.Solve      stands for the whole build, and is answered when it is over
//               Control.Status     what happens meanwhile, as a stream
//               LLBBridge.Solve    builds; Return says that the client is content
//     /session  the client's own services, which we call: its files, secrets and logins
//
// The Dockerfile is executed here, so no build graph crosses the wire: a client that sends one is refused by name. The client's
// files are never opened by the daemon: what has changed of a folder since the last build becomes a tar, for the worker that has it (sync.c).
//
// What builds is the caller's: `build` and its like below. Without them, Solve is refused with one line.
//
// Any thread. One lock, held for moments only.
#ifndef BUILDKIT_BUILDKIT_H
#define BUILDKIT_BUILDKIT_H

#include "base/cancel.h"
#include "base/slice.h"
#include "base/strv.h"
#include "json/json.h"

struct buildkit;
struct buildkit_session;
struct build_kept; // the builder's: a folder of the client's, kept between builds
struct listing; // build/listing.h

// What is asked for; texts live as long as the build.
struct buildkit_build {
    struct slice dockerfile; // its text; data NULL: it is in the context
    const char *dockerfile_name; // as the client named it
    struct strv tags; // as given: "web", "web:1"
    struct strv cache_from; // images that are here, by ID
    struct kvs args, labels;
    const char *target, *platform; // NULL: none given
    const char *remote; // a URL or a git repository, the context in the place of the client's files; NULL: those
    struct kvs contexts; // by name: "docker-image://REF", "local:NAME", "oci-layout://NAME@sha256:...", a URL, a git repository
    bool no_cache, pull;
    struct strv no_cache_stages; // of those named nothing is taken from the cache
    enum { BUILDKIT_CACHE_NONE, BUILDKIT_CACHE_MIN, BUILDKIT_CACHE_MAX } cache_out; // the steps as an image, of the target or of all stages
    const char *cache_more; // with those of that one, another platform's; NULL: none
    bool unseen; // the result goes in no list of images
    bool times; // what steps write is no later than SOURCE_DATE_EPOCH
    struct strv extra_hosts; // "name:address"
    struct strv ulimits; // "nofile=1024:2048"
    const char *network, *cgroup_parent; // NULL: none given
    int64_t shm_size; // bytes; 0: none given
    struct buildkit_session *session; // for buildkit_secret(), buildkit_login()
    struct build_kept *kept; // the context; borrowed. NULL: it is a tar, or elsewhere
};

// A line of Docker's classic stream: {"stream"}, {"status", "id", "progressDetail"}. Borrows the object.
typedef int buildkit_progress_fn(void *context, json_t *object);

struct buildkit_record { // of the cache
    char *id, *parent, *description;
    int64_t size, created_ns, used_ns, uses;
    bool shared, in_use;
    const char *type; // "regular", "exec.cachemount"
};

struct buildkit_prune {
    bool all;
    int64_t unused_before_ns, keep_size, max_size, min_free; // 0: none
    const struct strv *filters; // texts as clients send them; one that fits is enough
};

// What becomes of an image outside of the list of images, as bytes.
struct buildkit_export {
    const char *image; // an ID
    bool archive; // an image archive: OCI layout and manifest.json in one; else a tar of its root
    struct strv names; // of the image in its archive
    bool same_time; // of a root: all times are this one, in seconds
    int64_t time;
};
typedef int buildkit_bytes_fn(void *of, const char *data, size_t size, struct err *err);

// What a build has looked at beside its context: builder.h's struct build_source.
struct buildkit_source {
    enum { BUILDKIT_SOURCE_IMAGE, BUILDKIT_SOURCE_LAYOUT, BUILDKIT_SOURCE_URL, BUILDKIT_SOURCE_GIT, BUILDKIT_SOURCE_SECRET, BUILDKIT_SOURCE_AGENT } kind;
    const char *name, *digest, *platform; // the last two may be NULL
    bool optional;
};

struct buildkit_built {
    char *image, *cache; // IDs, "sha256:..."; cache NULL: not asked for
    struct buildkit_source *sources;
    size_t source_len;
    // Of a build that failed: where in the Dockerfile, lines counted from 1; 0: in none.
    unsigned line, last_line;
    struct slice dockerfile;
};

// What keeps clients' folders: builder/builder.h's build_kept_*().
struct buildkit_keeping {
    int (*open)(void *of, const char *key, const char *description, struct build_kept **out, struct err *err);
    const struct listing *(*listing)(const struct build_kept *kept);
    int (*change)(struct build_kept *kept, const struct strv *removed, int tar_fd, const struct cancel *cancel, struct err *err);
    int (*settle)(struct build_kept *kept, const struct listing *now, struct err *err);
    void (*free)(struct build_kept *kept);
};
// A result as the blobs of an OCI layout: engine/layout.h's form.
struct buildkit_statement {
    const char *type; // of the predicate
    json_t *predicate;
    const char *name; // of its file, where the result is files
};
struct buildkit_form_image {
    const char *id;
    struct kvs annotations, descriptor_annotations;
    const struct buildkit_statement *statements;
    size_t statement_len;
};
struct buildkit_form {
    const char *compression; // "uncompressed", "gzip", "zstd"
    int level; // -1: the default
    bool docker, index; // Docker's media types; an index even above one image
    struct kvs annotations; // the index's
    struct strv names;
    const struct buildkit_form_image *images;
    size_t len;
};
struct buildkit_layout; // whatever the caller makes of it

struct buildkit_config {
    const char *worker_id, *version, *hostname;
    const char *architecture; // "amd64"
    const char *history; // a folder for the builds that were, made where it is missing; NULL: they are known as long as we are
    const char *host_gateway; // what --add-host host-gateway stands for; NULL: not known
    void *of; // of the functions
    // `context_fd`: what the client has read from its standard input, borrowed; -1: see `kept`, without which the context is empty. Texts of *out are in the arena. NULL: nothing builds here.
    int (*build)(void *of, const struct buildkit_build *build, int context_fd, buildkit_progress_fn *progress, void *progress_of,
                 struct arena *arena, struct buildkit_built *out, const struct cancel *cancel, struct err *err);
    struct buildkit_keeping keeping; // there where `build` is
    // What follows is there where `build` is. An image of --cache-from, here or of a registry; *image_id in the arena.
    int (*cache_from)(void *of, struct buildkit_session *session, const char *reference, buildkit_progress_fn *progress, void *progress_of,
                      struct arena *arena, char **image_id, const struct cancel *cancel, struct err *err);
    // The same of a folder of the client's: buildkit_archive() gives it.
    int (*cache_from_folder)(void *of, const struct buildkit_build *build, const char *store, const char *digest, struct arena *arena, char **image_id,
                             const struct cancel *cancel, struct err *err);
    int (*export)(void *of, const struct buildkit_export *export, buildkit_bytes_fn *bytes, void *bytes_of, const struct cancel *cancel, struct err *err);
    // The same root as a tree, and a regular file in it; descriptors.
    int (*tree)(void *of, const char *image, struct err *err);
    int (*file)(void *of, int tree_fd, const char *path, struct err *err);
    // To the registry that `name` says; `image` NULL: the one of that name. *digest (arena) is the manifest's.
    int (*push)(void *of, struct buildkit_session *session, const char *image, const char *name, buildkit_progress_fn *progress, void *progress_of, struct arena *arena,
                char **digest, const struct cancel *cancel, struct err *err);
    int (*layout)(void *of, const struct buildkit_form *form, struct buildkit_layout **out, const struct cancel *cancel, struct err *err);
    void (*layout_free)(struct buildkit_layout *layout); // NULL is fine
    json_t *(*layout_descriptor)(const struct buildkit_layout *layout); // of the uppermost document; a new reference
    int (*layout_archive)(void *of, const struct buildkit_layout *layout, const struct strv *names, const struct kvs *annotations, buildkit_bytes_fn *bytes,
                          void *bytes_of, const struct cancel *cancel, struct err *err);
    int (*layout_push)(void *of, struct buildkit_session *session, const struct buildkit_layout *layout, const char *name, bool by_digest,
                       buildkit_progress_fn *progress, void *progress_of, const struct cancel *cancel, struct err *err);
    // Runs a generator's image over another: *out (arena) is an image of what it wrote.
    int (*scan)(void *of, struct buildkit_session *session, const char *generator, const char *image, buildkit_progress_fn *progress, void *progress_of,
                struct arena *arena, char **out, const struct cancel *cancel, struct err *err);
    char *(*full_name)(const char *name, struct arena *arena); // of an image: "docker.io/library/x:latest"; as it is where it is none
    // Whether an image is here, and has no triggers, which could need files of the client's. NULL: that is not known.
    bool (*plain_image)(void *of, const char *name);
    // The environment of an image that is here (arena memory); NULL: it is not. NULL: that is not known.
    const struct strv *(*image_env)(void *of, const char *name, struct arena *arena);
    // NULL: there is no cache.
    int (*cache)(void *of, const struct strv *filters, struct arena *arena, struct buildkit_record **out, size_t *len, struct err *err);
    int (*prune)(void *of, const struct buildkit_prune *prune, struct arena *arena, struct buildkit_record **out, size_t *len, struct err *err);
};

int buildkit_new(const struct buildkit_config *config, struct buildkit **out, struct err *err);
void buildkit_free(struct buildkit *buildkit); // when nothing is served any more

// A connection that speaks HTTP/2, until its end. Takes the descriptor.
void buildkit_serve(struct buildkit *buildkit, int take_fd, const struct cancel *stop);

// A client's session: `id` is how a build names it. invalid_argument for an id that is none or in use; to be asked before the
// connection is taken over.
int buildkit_session_check(struct buildkit *buildkit, const char *id, struct err *err);
// `key`: what the client's folders are known by; NULL or "": they are not kept. Takes the descriptor.
void buildkit_session_serve(struct buildkit *buildkit, const char *id, const char *key, int take_fd, const struct cancel *stop);

// ---- what a build may ask its client for ----------------------------------------------------------------------------

// not_found when the client has no such secret.
int buildkit_secret(struct buildkit_session *session, const char *id, struct buf *out, struct err *err);
// Who the client is to a registry; both "" when it has no login. In the arena.
int buildkit_login(struct buildkit_session *session, const char *host, struct arena *arena, char **username, char **secret, struct err *err);
// Answers who connects to the listening socket (not blocking) as the client's ssh agent of that id, until stop_fd can be read. listen_fd -1: only
// whether there is one.
int buildkit_agent(struct buildkit_session *session, const char *id, int listen_fd, int stop_fd, struct err *err);
// The Dockerfile of a context that is elsewhere, before anything is built; -1: the build is over, for there is nothing else to say, or it is an error.
int buildkit_dockerfile(const struct buildkit_build *build, struct slice text, struct err *err);
// A folder of the client's, without what its .dockerignore leaves out, brought up to date. The caller's to free.
int buildkit_folder(const struct buildkit_build *build, const char *name, struct build_kept **out, struct err *err);
// Calls `take` with an image archive: what has that digest in an OCI layout of the client's, which it calls `store`. Of an index the image for `platform`
// (NULL: this machine's).
typedef int buildkit_take_fn(void *with, int tar_fd, struct err *err);
int buildkit_archive(const struct buildkit_build *build, const char *store, const char *digest, const char *platform, buildkit_take_fn *take, void *with,
                     struct err *err);

#endif
