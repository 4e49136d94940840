// What the files of this room share.
#ifndef DISTRIBUTION_DISTRIBUTION_PRIVATE_H
#define DISTRIBUTION_DISTRIBUTION_PRIVATE_H

#include <curl/curl.h>

#include "base/mutex.h"
#include "base/slice.h"
#include "distribution/distribution.h"
#include "layer/layer.h"

#define ANSWER_MAX ((size_t)1 << 20) // bytes of an answer that is no manifest and no blob

// ---- challenge.c: WWW-Authenticate ----------------------------------------------------------------------------------

struct challenge {
    enum challenge_kind { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER } kind;
    char *realm, *service, *scope, *error; // NULL where not said
};
// One header's value; of several schemes in it Bearer is preferred to Basic, others are passed over. Never fails: nonsense is NONE.
struct challenge challenge_parse(struct slice header, struct arena *arena);

// ---- certs.c --------------------------------------------------------------------------------------------------------

struct certs {
    char *authorities; // PEM of the system's and the host's own; NULL: libcurl's default
    char *certificate, *key; // PEM; NULL: none
    bool found; // the host has a folder
};
int certs_read(const char *dir, const char *host, struct certs *out, struct err *err);
void certs_done(struct certs *certs);

// ---- endpoint.c: where a repository may be found ---------------------------------------------------------------------

struct endpoint {
    char *base; // "https://host:port", no slash at the end
    char *host; // "host:port"
    bool verify, mirror;
    struct certs certs;
};
struct endpoints {
    struct endpoint *items;
    size_t len;
};
int endpoints_make(const struct image_ref *ref, enum distribution_purpose purpose, const struct distribution_options *options,
                   struct endpoints *out, struct err *err);
void endpoints_done(struct endpoints *endpoints);
bool endpoint_is_loopback(const char *host);

// ---- transport.c: one request and its answer -------------------------------------------------------------------------

struct distribution {
    char *domain, *path, *shown; // shown: the familiar name, for messages
    enum distribution_purpose purpose;
    struct distribution_login login; // malloc'ed
    struct endpoints endpoints;
    int retry_ms, attempts, patience_s;
    struct mutex lock; // rank 0; nothing is waited for inside
    struct cond changed; // an authorization was made
    size_t chosen GUARDED_BY(lock); // endpoint
    bool connected GUARDED_BY(lock), connecting GUARDED_BY(lock);
    char *authorization GUARDED_BY(lock); // "Bearer ...", "Basic ...", NULL before it was asked for
    struct strv extra_scopes GUARDED_BY(lock); // of repositories to mount from
    char *identity_token GUARDED_BY(lock); // that the registry gave
    bool wants_identity;
    CURL *idle[8] GUARDED_BY(lock);
    size_t idle_len GUARDED_BY(lock);
};

struct exchange {
    // the request
    const char *method; // "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"
    const char *url; // absolute
    const char *authorization; // NULL: none
    const char *accept, *content_type, *range, *known; // NULL: none; known: an ETag
    const void *body; // NULL: none
    size_t body_size;
    const char *form; // a form to post; NULL: none
    bool once; // what broke may have been done: the caller finds out before it tries again
    const struct endpoint *endpoint; // certificates and the host whose messages they are
    // where the content of a 2xx answer goes: the sink, else `text`
    distribution_sink_fn *sink;
    void *context;
    size_t text_max; // 0: ANSWER_MAX

    // the answer
    long status; // 0: none came
    int curl_code;
    struct buf text; // also the body of an error
    char *location, *content_type_said, *digest, *content_range, *challenge, *range_said, *link, *etag, *modified; // malloc'ed, NULL where absent
    int64_t retry_after_s, length; // -1: not said
    struct err sink_err; // class other than NONE: the sink ended it
    struct err failure; // of the transfer itself
    CURL *curl;
};
void exchange_done(struct exchange *exchange);

// One attempt; -1 when there is no whole answer (exchange->failure says why). Any status is an answer.
int exchange_run(struct distribution *distribution, struct exchange *exchange);
// With the login, and again after pauses where that may help. 0: an answer with a status below 500 and not 401, 429.
int exchange_call(struct distribution *distribution, struct exchange *exchange, struct err *err);
// Sleeps before attempt number `attempt` (1, 2, ...): what the registry asked for, else twice as long each time. -1: no more.
int exchange_pause(const struct distribution *distribution, const struct exchange *exchange, int attempt);
void distribution_idle_done(struct distribution *distribution); // closes what connections it keeps
bool exchange_is_transient(const struct exchange *exchange);
// Fills the error from an answer that is none of what was hoped for, or from a failed transfer.
int exchange_fail(const struct distribution *distribution, const struct exchange *exchange, const char *what, struct err *err);

// Chooses the endpoint, once; gives it.
int distribution_connect(struct distribution *distribution, struct err *err);
const struct endpoint *distribution_endpoint(struct distribution *distribution);
// The next endpoint after one that has not what was asked for; false: there is none.
bool distribution_next_endpoint(struct distribution *distribution);

// Who has no login, or one that is refused: Docker's clients would ask for another on seeing "unauthorized".
int distribution_deny(const struct distribution *distribution, struct err *err);

// ---- auth.c ---------------------------------------------------------------------------------------------------------

// What to send with a request, malloc'ed; NULL: nothing.
char *auth_header(struct distribution *distribution);
// After a 401: makes a new one. `rejected` is what was sent: if another thread has replaced it meanwhile, that one will do.
int auth_answer(struct distribution *distribution, const struct endpoint *endpoint, const char *challenge, const char *rejected,
                struct err *err);

#endif
