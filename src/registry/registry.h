// An image registry: the OCI distribution specification 1.1 (and what Docker's clients add to it) over a folder.
//
//     ROOT/blobs/<algorithm>/<hex>   every blob and manifest, once, whatever the number of repositories that have it
//     ROOT/uploads/<id>              what has arrived of uploads that are under way
//     ROOT/registry.db               which repository has which blobs, manifests and tags (SQLite)
//     ROOT/lock                      held by the one process that serves the folder
//
// A blob gets its name only when it is whole and its digest is right; a push is on record, and on the disk, before it is
// answered. After a crash at any instruction each push is either there or not; a file without a record is dropped by the
// next collection. Collection runs while pushes and pulls go on.
//
// Give the three functions to an httpd_config, with the registry as its context and REGISTRY_MANIFEST_MAX as the largest
// text body. Thread-safe.
#ifndef REGISTRY_REGISTRY_H
#define REGISTRY_REGISTRY_H

#include "base/buf.h"
#include "base/strv.h"
#include "httpd/httpd.h"

#define REGISTRY_MANIFEST_MAX (4u << 20) // bytes of a manifest, as the specification advises

struct registry;

// Another registry, of which this one is a cache. Called by many threads at once; each call blocks for as long as it takes. Errors:
// not_found: it has none, or we may not see it; unavailable: it does not answer as a registry would.
#define REGISTRY_DIGEST_SIZE (sizeof("sha512:") + 128) // the longest, with its NUL
typedef int registry_size_fn(void *context, int64_t size, struct err *err);
typedef int registry_sink_fn(void *context, const void *data, size_t size, struct err *err);
struct registry_upstream {
    void *context;
    int (*digest)(void *context, const char *repository, const char *tag, char digest[REGISTRY_DIGEST_SIZE], struct err *err);
    // What is given has that digest.
    int (*manifest)(void *context, const char *repository, const char *digest, struct buf *text, char media_type[128], struct err *err);
    // Calls `begin` once with the blob's size, then `sink` for its bytes in order. 0: that was the blob, and all of it.
    int (*blob)(void *context, const char *repository, const char *digest, registry_size_fn *begin, registry_sink_fn *sink, void *sink_context,
                struct err *err);
    int (*tags)(void *context, const char *repository, struct strv *out, struct err *err);
};

// A store of images that the registry hands out and fills: the engine's. What it has is served beside what the registry keeps itself, its
// blobs in every repository; an image that is pushed by a tag goes there. A repository's name is the one that people read ("team/app",
// "debian"). Called by many threads at once.
struct registry_blob {
    int fd; // of a file that is the blob; or the store's own
    int aside_fd; // the store's own: then send() gives the bytes; -1: it is a file
    int64_t size;
};
struct registry_manifest {
    char *digest, *media_type, *text; // in the arena
};
struct registry_image { // an image that was pushed
    const char *repository, *digest, *text;
    const struct strv *tags; // one at least
    int (*open)(void *context, const char *digest, struct err *err); // a blob that the registry has: a readable file. not_found: it has none
    void *context;
};
typedef int registry_pipe_fn(void *context, int pipe_fd, size_t size); // has to take so many bytes, which are there; negative: no more
struct registry_engine {
    void *context;
    // 1, or 0: it has none. With `bytes` false only the size counts. Both descriptors are the caller's.
    int (*blob)(void *context, const char *digest, bool bytes, struct registry_blob *out, struct err *err);
    int (*send)(void *context, const struct registry_blob *blob, const char *digest, int64_t start, int64_t size, registry_pipe_fn *sink,
                void *sink_context, const struct cancel *cancel, struct err *err);
    // By tag or digest: 1, or 0. `last` (NULL: not known) is the digest that a push has given to the tag: it counts if the tag still
    // names that image.
    int (*manifest)(void *context, const char *repository, const char *reference, const char *last, struct arena *arena,
                    struct registry_manifest *out, struct err *err);
    int (*tags)(void *context, const char *repository, struct arena *arena, struct strv *out, struct err *err);
    int (*repositories)(void *context, struct arena *arena, struct strv *out, struct err *err);
    // 1: it is an image of the store now, and the registry needs its blobs no more; 0: it is none that the store can have. not_found: a blob
    // is missing; invalid_argument: it is no good image.
    int (*take)(void *context, const struct registry_image *image, struct err *err);
    int (*collect)(void *context, struct err *err); // what nothing names there
};

struct registry_options {
    const char *root; // made when it is missing
    const char *htpasswd; // file of "name:hash" lines, the hash as crypt(3) knows it (bcrypt); NULL: everybody may do all
    const char *realm; // what a client that must log in is told, NULL: "Berth registry"
    bool token; // bearer tokens, which the registry issues itself to the users of `htpasswd`, at GET /token
    bool is_tls; // how clients reach it: what the realm of its tokens begins with
    const char *token_keys; // bearer tokens of another issuer: PEM file of the keys or certificates that sign them; NULL: none
    const char *token_issuer; // the name that those must have, NULL: any
    const char *token_service; // for whom tokens must be, NULL: "berth-registry"
    const char *token_realm; // where clients get them; NULL, for its own: by the name that the client called it by
    bool read_only; // pulls alone; what would write is refused
    const struct registry_upstream *upstream; // NULL: none; else pulls alone, of what is there and of what that has
    const struct registry_engine *engine; // NULL: none
    int64_t keep_ns; // of what came from there: as long after it was last asked for; 0: for ever
};

// conflict when another process serves the folder. The options' texts are copied.
int registry_open(const struct registry_options *options, struct registry **out, struct err *err);
void registry_close(struct registry *registry); // once the server has stopped; NULL is fine

void registry_handle(void *registry, struct httpd_request *request);
enum httpd_body registry_body(void *registry, struct httpd_request *request);
bool registry_is_urgent(void *registry, const char *method, const char *path); // GET /v2/: a crowded server answers it too

struct registry_collected {
    int64_t blobs, blob_bytes; // files removed
    int64_t uploads; // abandoned ones
};

// Drops what nothing names any more: blobs that no manifest of their repository has named for `grace_ns` since they were
// pushed, files of no repository, uploads as old. *out is filled on success. A second call waits for the first.
int registry_collect(struct registry *registry, int64_t grace_ns, struct registry_collected *out, struct err *err);

#endif
