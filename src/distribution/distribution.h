// The client of image registries: the distribution specification 1.1 (and Docker's registry v2, of which it was made) by
// libcurl. Fetches and pushes bytes; what they mean is the caller's. Knows no store and no daemon.
//
// One `struct distribution` is one repository, spoken to with one login. It may be used by several threads at once: each call
// has a connection of its own, and connections are kept for the next call. Calls block; they give up by themselves.
//
// What never happens: credentials never follow a redirect to another host, a redirect never leads from https to http, a secure
// registry is never spoken to without its certificate having been checked, and nothing of a registry's answer is held in
// memory beyond a bound.
//
// Errors: not_found (no such manifest or blob), unauthenticated, permission_denied, unavailable (the registry can't be
// reached, answers 5xx, 429, or not as a registry would: after retries), invalid_argument (content that is not what its digest
// or size says), and whatever a sink gave. One line each, with the registry's own message in it.
#ifndef DISTRIBUTION_DISTRIBUTION_H
#define DISTRIBUTION_DISTRIBUTION_H

#include "image/image.h"

struct distribution;

// Who we are; NULL or "" members are unset. An identity token is exchanged for access tokens; a registry token is one already.
struct distribution_login {
    char *username, *password, *identity_token, *registry_token;
};

// How registries are reached. Loopback addresses are spoken to by plain http first, then by https with any certificate; those
// named in `insecure` ("host", "host:port", or a network "10.0.0.0/8") by https with any certificate, then http; all others by https.
struct distribution_options {
    struct strv insecure;
    struct strv mirrors; // URLs, tried before docker.io itself for pulls of its images
    const char *certs_dir; // <dir>/<host[:port]>/{*.crt,*.cert,*.key}; NULL: DISTRIBUTION_CERTS_DIR
    int64_t attempts; // until a registry answers; 0: 5
    int patience_s; // for a connection, and without a byte of an answer; 0: 30, and 60 (600 while something is sent)
    int retry_ms; // pause before the first retry, doubled each time; 0: 500
};
#define DISTRIBUTION_CERTS_DIR "/etc/docker/certs.d"

// Once in a program, before its first thread.
int distribution_setup(struct err *err);

enum distribution_purpose { DISTRIBUTION_PULL, DISTRIBUTION_PUSH, DISTRIBUTION_SEARCH };

// Reads the certificates of all hosts that may be asked; no network yet. Everything is copied.
int distribution_new(const struct image_ref *ref, enum distribution_purpose purpose, const struct distribution_login *login,
                     const struct distribution_options *options, struct distribution **out, struct err *err);
void distribution_free(struct distribution *distribution); // NULL is fine

// Finds out how the registry is spoken to, and that it takes the login; the other calls do so by themselves. *token (malloc'ed,
// NULL where there is none) is the identity token that the registry gave, if it was asked for one.
int distribution_login(struct distribution *distribution, char **token, struct err *err);

// Asks the index of Docker's first registry API ("<host>/v1/search?<query>"; of docker.io that is index.docker.io), which the old ones and
// Docker Hub have. `query` is encoded; the answer, a JSON document, is added to `out`.
#define DISTRIBUTION_SEARCH_MAX ((size_t)8 << 20)
int distribution_search(struct distribution *distribution, const char *query, struct buf *out, struct err *err);

// ---- manifests ------------------------------------------------------------------------------------------------------

#define DISTRIBUTION_MANIFEST_MAX ((size_t)4 << 20) // bytes

struct distribution_manifest {
    struct buf text; // its exact bytes
    char media_type[128]; // as the registry says it, or the document itself
    char digest[OCI_DIGEST_SIZE];
};
#define DISTRIBUTION_MANIFEST_INIT { .text = BUF_INIT(DISTRIBUTION_MANIFEST_MAX) }
#define _cleanup_manifest_ _cleanup_(distribution_manifest_done)
void distribution_manifest_done(struct distribution_manifest *manifest);

// `reference` is a tag or a digest; of a digest the content is checked. `out` is initialised.
int distribution_manifest_get(struct distribution *distribution, const char *reference, struct distribution_manifest *out,
                              struct err *err);
// The digest of what a tag names, by HEAD where the registry tells it so: that is no pull.
int distribution_manifest_digest(struct distribution *distribution, const char *reference, char digest[OCI_DIGEST_SIZE], struct err *err);
int distribution_manifest_put(struct distribution *distribution, const char *reference, const struct distribution_manifest *manifest,
                              struct err *err);
// All tags of the repository, in the registry's order, added to `out` (its own strings). resource_exhausted: there are more.
#define DISTRIBUTION_TAGS_MAX 20000
int distribution_tags(struct distribution *distribution, struct strv *out, struct err *err);
bool distribution_is_index(const char *media_type);
bool distribution_is_manifest(const char *media_type);

// The entry of an index for a platform; a missing variant fits any. not_found: "no matching manifest for linux/arm64 ...".
int distribution_choose(const struct oci_index *index, const struct oci_platform *platform, struct oci_descriptor *out,
                        struct err *err);

// ---- blobs ----------------------------------------------------------------------------------------------------------

// Takes the next bytes of a blob, in order and none twice. -1 ends the call with the error.
typedef int distribution_sink_fn(void *context, const void *data, size_t size, struct err *err);
// Streams a blob of exactly blob->size bytes. A connection that breaks is taken up where it was. `check`: hashes it, too; else the
// sink's owner does.
int distribution_blob_get(struct distribution *distribution, const struct oci_descriptor *blob, bool check,
                          distribution_sink_fn *sink, void *context, struct err *err);
// 1: the repository has it, 0: it has not.
int distribution_blob_exists(struct distribution *distribution, const struct oci_descriptor *blob, struct err *err);
int distribution_blob_size(struct distribution *distribution, const char *digest, int64_t *size, struct err *err); // not_found: it has none
// Asks for a blob of another repository of the same registry. 1: mounted, 0: the registry would rather have the bytes.
int distribution_blob_mount(struct distribution *distribution, const char *digest, const char *from_path, struct err *err);

// Sends a blob of unknown length: begin, any number of writes, then end, which gives the digest of all that was written, and the
// size. The digest may be asked for before, once, after the last write: who finds it wrong gives the upload up. One upload belongs to one thread.
struct distribution_upload;
int distribution_upload_begin(struct distribution *distribution, struct distribution_upload **out, struct err *err);
int distribution_upload_write(struct distribution_upload *upload, const void *data, size_t size, struct err *err);
void distribution_upload_digest(struct distribution_upload *upload, char digest[OCI_DIGEST_SIZE]);
int distribution_upload_end(struct distribution_upload *upload, char digest[OCI_DIGEST_SIZE], int64_t *size, struct err *err);
void distribution_upload_free(struct distribution_upload *upload); // NULL is fine; one that was not ended is given up

// ---- any URL --------------------------------------------------------------------------------------------------------

// The content of an http:// or https:// URL, by way of at most ten redirects. `begun` is told once there is any: its length, -1 where that is
// not said. Errors in the words of Go's client, as Docker has them; not_found, where there is no such host or file.
typedef int distribution_begun_fn(void *context, int64_t length, struct err *err);
// What the server says of it besides. `document` may be NULL.
struct distribution_document {
    const char *known; // the ETag of what the caller has; NULL or "": nothing
    const char *authorization; // who the caller is, as the header says it, to this server alone; NULL or "": nobody
    bool unchanged; // it is still that, and has not come
    char *etag, *type; // malloc'ed; NULL where not said
    int64_t modified; // seconds; -1: not said
};
void distribution_document_done(struct distribution_document *document);
int distribution_url(const char *url, struct distribution_document *document, distribution_begun_fn *begun, distribution_sink_fn *sink, void *context,
                     struct err *err);

// ---- logins of people who call by hand ------------------------------------------------------------------------------

// What ~/.docker/config.json (or $DOCKER_CONFIG/config.json) says about a registry ("docker.io" by Docker's old name for it): an
// entry of `auths`, or what a credential helper (credHelpers, credsStore) answers. Nothing there is no error: *out is empty.
int distribution_login_find(const char *domain, struct arena *arena, struct distribution_login *out, struct err *err);

#endif
