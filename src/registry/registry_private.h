// What the registry's files share.
#ifndef REGISTRY_REGISTRY_PRIVATE_H
#define REGISTRY_REGISTRY_PRIVATE_H

#include <stdatomic.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mutex.h"
#include "base/num.h"
#include "json/json.h"
#include "registry/registry.h"
#include "registry/token.h"
#include "store/store.h"

#define DIGEST_SIZE REGISTRY_DIGEST_SIZE
#define BLOB_PATH_SIZE (sizeof("blobs/") + DIGEST_SIZE)
#define UPLOAD_ID_LEN 32
#define NAME_SIZE_MAX 255

enum metric_direction { BYTES_IN, BYTES_OUT };

struct metrics {
    atomic_int_fast64_t answers[6]; // by the status's first digit
    atomic_int_fast64_t bytes[2]; // of blobs, by enum metric_direction
};

struct upload;
struct fetch;

struct registry {
    int root_fd;
    int lock_fd;
    struct store *store;
    char *htpasswd, *realm;
    bool issues, is_tls; // tokens; and how clients reach us
    uint8_t token_secret[TOKEN_SECRET_SIZE];
    struct token_keys *token_keys; // of another issuer
    char *token_realm, *token_service, *token_issuer;
    bool read_only;
    struct registry_upstream upstream; // of a cache, else all NULL
    atomic_int streams; // blobs of the engine that are being given
    struct registry_engine engine; // whose store is shared, else all NULL
    int64_t keep_ns;
    atomic_int_fast64_t rests_until_ns; // it did not answer
    struct metrics metrics;

    // A blob's file and its record change together under it: taken for a rename or an unlink and one transaction.
    struct mutex files;

    struct mutex upload_lock;
    struct upload *uploads GUARDED_BY(upload_lock); // the sessions that this process has seen
    struct mutex fetch_lock; // the store's is taken inside it
    struct cond fetch_changed;
    struct fetch *fetches GUARDED_BY(fetch_lock); // blobs that are being fetched
    size_t fetch_len GUARDED_BY(fetch_lock);
    bool closing GUARDED_BY(fetch_lock);
    struct mutex auth_lock;
    char *trusted[16] GUARDED_BY(auth_lock); // digests of Authorization headers that were right
    size_t trusted_next GUARDED_BY(auth_lock);
};

// One request on its way through a handler. Everything in it lives as long as the request.
struct call {
    struct registry *registry;
    struct httpd_request *request;
    struct arena *arena;
    const char *repository; // checked
    const char *reference; // a digest, a tag or an upload's id: as the route has it, not checked
    bool head; // answer without a body
};

// ---- registry.c -----------------------------------------------------------------------------------------------------

typedef void handler_fn(struct call *call);

// ---- reply.c --------------------------------------------------------------------------------------------------------

enum code { // the specification's error codes
    BLOB_UNKNOWN,
    BLOB_UPLOAD_INVALID,
    BLOB_UPLOAD_UNKNOWN,
    DENIED,
    DIGEST_INVALID,
    MANIFEST_BLOB_UNKNOWN,
    MANIFEST_INVALID,
    MANIFEST_UNKNOWN,
    NAME_INVALID,
    NAME_UNKNOWN,
    PAGE_NUMBER_INVALID,
    RANGE_INVALID,
    SIZE_INVALID,
    TAG_INVALID,
    UNAUTHORIZED,
    UNAVAILABLE,
    UNSUPPORTED,
    UNSUPPORTED_MEDIA,
};

void call_refuse(struct call *call, enum code code, const char *fmt, ...) _printf_(3, 4);
void call_failed(struct call *call, const struct err *err); // 5xx, and a line in the log
void call_reply(struct call *call, int status); // without a body
void call_reply_json(struct call *call, int status, const char *content_type, json_t *take_value);
void set_headerf(struct call *call, const char *name, const char *fmt, ...) _printf_(3, 4);
// Location and Docker-Content-Digest of something that is there now: "/v2/NAME/KIND/DIGEST".
void set_place(struct call *call, const char *kind, const char *digest);

// ---- names.c --------------------------------------------------------------------------------------------------------

bool name_valid(const char *name);
bool tag_valid(const char *tag);

// ---- digest.c -------------------------------------------------------------------------------------------------------

bool digest_valid(const char *digest); // of an algorithm that the registry knows, in full length
void digest_path(const char *digest, char out[BLOB_PATH_SIZE]); // of a valid one, relative to the root

struct digest_hash;
struct digest_hash *digest_hash_new(const char *algorithm); // "sha256", or a digest that begins so; NULL: not known
bool digest_hash_is(const struct digest_hash *hash, const char *digest); // the same algorithm
void digest_hash_add(struct digest_hash *hash, const void *data, size_t size);
void digest_hash_end(struct digest_hash *hash, char out[DIGEST_SIZE]); // frees it
void digest_hash_free(struct digest_hash *hash);

// ---- record.c -------------------------------------------------------------------------------------------------------

extern const char *const registry_migrations[];
extern const size_t registry_migration_len;

// Runs a query of one text, or none: *out stays NULL then.
int record_text(struct call *call, char **out, struct err *err, const char *sql, const char *types, ...);
int record_has_blob(struct call *call, const char *repository, const char *digest, struct err *err); // 1 yes, 0 no
int record_has_repository(struct call *call, struct err *err); // 1 yes, 0 no
// In a transaction: a blob's file is there, and the call's repository has it.
int record_blob(struct call *call, const char *digest, int64_t size, struct err *err);
int record_link(struct call *call, const char *digest, struct err *err);
// A blob that nothing names any more: first, in a transaction, its record goes; then the transaction is committed, and the
// file goes. A crash between the two leaves a file without a record, for the next collection.
int record_drop_unused(struct registry *registry, const char *digest, bool *dropped, struct err *err) REQUIRES(registry->files);
int record_commit_drop(struct registry *registry, const char *digest, bool dropped, struct err *err) REQUIRES(registry->files);

// ---- the handlers ---------------------------------------------------------------------------------------------------

void handle_blob_get(struct call *call);
void handle_blob_delete(struct call *call);
void handle_upload_begin(struct call *call);
void handle_upload_status(struct call *call);
void handle_upload_add(struct call *call);
void handle_upload_end(struct call *call);
void handle_upload_cancel(struct call *call);
void handle_manifest_get(struct call *call);
void handle_manifest_put(struct call *call);
void handle_manifest_delete(struct call *call);
void handle_tags(struct call *call);
void handle_referrers(struct call *call);
void handle_catalog(struct call *call);
void handle_metrics(struct call *call);

// blob.c: a new blob's or manifest's bytes, in a file under uploads/, get their name and their record; the file is gone
// afterwards, in either case. `record` adds to the same transaction, NULL: nothing.
typedef int record_fn(struct call *call, void *context, struct err *err);
int blob_commit(struct call *call, const char *upload, const char *digest, int64_t size, record_fn *record, void *context,
                struct err *err);
void blob_serve(struct call *call, const char *digest, const char *content_type); // its file, with ranges
void blob_serve_file(struct call *call, const char *digest, const char *content_type, int take_file_fd, int64_t size);
// What of a blob the request is for, with the headers that say so. 206, 200, or -1: answered.
struct range {
    int64_t start, end; // the last byte's place, as HTTP counts
};
int blob_range(struct call *call, const char *digest, int64_t size, struct range *out);

// manifest.c
// One that another registry has: what it names need not be here. invalid_argument: it is none.
int manifest_keep(struct call *call, const char *digest, const char *media_type, const char *text, size_t size, struct err *err);
int manifest_drop(struct registry *registry, const char *repository, const char *digest, struct err *err) REQUIRES(registry->files);

// proxy.c, fetch.c: a cache
static inline bool is_cache(const struct registry *registry)
{
    return registry->upstream.digest != NULL;
}
bool proxy_manifest(struct call *call); // brings what the reference names; false: answered
bool proxy_tags(struct call *call, struct strv *out); // all that there are; false: what is on record will have to do
int proxy_forget(struct registry *registry, int64_t before_ns, struct err *err); // manifests that nobody has asked for since
void proxy_refuse(struct call *call, const struct err *err);
void proxy_blob(struct call *call); // one that the repository has not: fetches it and answers
bool fetches_end(struct registry *registry); // false: some still run

struct manifest;

// backing.c: the engine's store, where it is shared. Each false: it has none, and nothing is answered.
static inline bool is_shared(const struct registry *registry)
{
    return registry->engine.blob != NULL;
}
int backing_has_blob(struct call *call, const char *digest, struct err *err); // 1 yes, 0 no
bool backing_serve_blob(struct call *call);
bool backing_serve_manifest(struct call *call);
bool backing_refuse_delete(struct call *call); // of what is the engine's
bool backing_take(struct call *call, const struct registry_image *image, bool *answered); // an image that was pushed
int backing_adopt(struct call *call, const struct manifest *manifest, struct err *err); // what it names there is the repository's, too
int backing_tags(struct call *call, struct strv *out, struct err *err); // of both, sorted; arena
int backing_repositories(struct call *call, struct strv *out, struct err *err);

// upload.c
void uploads_free(struct registry *registry);
int uploads_collect(struct registry *registry, int64_t before_ns, int64_t *count, struct err *err);

// manifest_read.c: what a manifest says, as far as a registry must know.
struct manifest {
    const char *media_type;
    const char *artifact_type; // NULL: none
    const char *subject; // digest, NULL: none
    char *annotations; // JSON text, NULL: none
    struct strv blobs, children; // digests that must be there, and manifests that must be
};
// Everything in the arena. invalid_argument with what is wrong; not_implemented: a media type that is not kept.
int manifest_read(const char *text, size_t size, const char *content_type, struct arena *arena, struct manifest *out,
                  struct err *err);

// What a request wants to do, in the words of a token's scope: "pull" of the "repository" "a/b". An action "" is what everybody may who
// is let in at all.
struct auth_wish {
    const char *type, *name, *action;
};

// auth.c
bool auth_allows(struct call *call, const struct auth_wish *wish); // whether the caller may go on; answered when not
bool auth_may(struct call *call, const struct auth_wish *wish); // the same of one who was let in, without an answer
bool auth_basic(struct call *call, char **user); // by the htpasswd file; answered when not
void auth_free(struct registry *registry);

// bearer.c: the same by tokens
int bearer_open(struct registry *registry, const struct registry_options *options, struct err *err);
void bearer_close(struct registry *registry);
bool bearer_allows(struct call *call, const struct auth_wish *wish);
bool bearer_may(struct call *call, const struct auth_wish *wish);
void handle_token(struct call *call);

// metrics.c
void metrics_count(struct registry *registry, int status);
void metrics_bytes(struct registry *registry, enum metric_direction direction, int64_t bytes);

#endif
