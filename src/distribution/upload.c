// Blobs on their way up: mounted from another repository, or sent in chunks, so that neither length nor digest must be known
// before. A chunk is one request; one that broke is sent again after the registry was asked how far it came.
#include "base/num.h"
#include "distribution_private.h"

#define CHUNK_SIZE ((size_t)8 << 20)

struct distribution_upload {
    struct distribution *distribution;
    char *location; // absolute, changes with each answer
    struct layer_digest *hash; // NULL once it was asked for
    char digest[OCI_DIGEST_SIZE];
    int64_t at; // bytes that the registry has
    char *chunk; // CHUNK_SIZE
    size_t size; // bytes waiting in it
};

// "Location" may be relative to the host.
static char *absolute(const struct endpoint *endpoint, const char *location)
{
    if (*location != '/')
        return mem_strdup(location);
    const char *host = strstr(endpoint->base, "://") + 3;
    return mem_printf("%.*s%s", (int)((size_t)(host - endpoint->base) + strcspn(host, "/")), endpoint->base, location);
}

// The upload goes on where the registry says; our login goes along only while that is the registry itself.
static int keep_location(struct distribution *distribution, const struct exchange *exchange, char **location, struct err *err)
{
    const struct endpoint *endpoint = exchange->endpoint;
    if (!exchange->location)
        return err_set(err, ERR_UNAVAILABLE, "registry %s: began an upload and did not say where", endpoint->host);
    _cleanup_free_ char *next = absolute(endpoint, exchange->location);
    const char *host = strstr(endpoint->base, "://") + 3, *there = strstr(next, "://");
    size_t host_size = strcspn(host, "/");
    if (!there || strcspn(there + 3, "/?") != host_size || strncmp(there + 3, host, host_size) != 0 ||
        (str_starts(endpoint->base, "https://") && !str_starts(next, "https://")))
        return err_set(err, ERR_NOT_IMPLEMENTED, "registry %s: wants the upload sent to another host (%.200s)", endpoint->host, next);
    free(*location);
    *location = take_ptr(&next);
    return 0;
}

// ---- mounting -------------------------------------------------------------------------------------------------------

static int post(struct distribution *distribution, const char *query, struct exchange *exchange, struct err *err)
{
    const struct endpoint *endpoint = distribution_endpoint(distribution);
    _cleanup_free_ char *url = mem_printf("%s/v2/%s/blobs/uploads/%s", endpoint->base, distribution->path, query);
    *exchange = (struct exchange){ .method = "POST", .url = url, .endpoint = endpoint, .body = "", .body_size = 0 };
    int result = exchange_call(distribution, exchange, err);
    exchange->url = NULL;
    if (result == 0 && (exchange->failure.class != ERR_NONE || exchange->status / 100 != 2))
        return exchange_fail(distribution, exchange, "begin upload", err);
    return result;
}

// A token must also be good for the repositories that are read. The next 401 gets the wider one.
static void widen_scope(struct distribution *distribution, const char *from_path)
{
    _cleanup_free_ char *scope = mem_printf("repository:%s:pull", from_path);
    mutex_lock(&distribution->lock);
    if (!strv_has(&distribution->extra_scopes, scope)) {
        strv_add(&distribution->extra_scopes, scope);
        if (distribution->authorization && str_starts(distribution->authorization, "Bearer "))
            free(take_ptr(&distribution->authorization));
    }
    mutex_unlock(&distribution->lock);
}

static void give_up(struct distribution *distribution, const char *location)
{
    struct exchange exchange = { .method = "DELETE", .url = location, .endpoint = distribution_endpoint(distribution) };
    exchange_call(distribution, &exchange, NULL);
    exchange_done(&exchange);
}

int distribution_blob_mount(struct distribution *distribution, const char *digest, const char *from_path, struct err *err)
{
    struct exchange exchange = { 0 };
    if (distribution_connect(distribution, err) < 0)
        return -1;
    widen_scope(distribution, from_path);
    char *from = curl_easy_escape(NULL, from_path, 0);
    _cleanup_free_ char *query = mem_printf("?mount=%s&from=%s", digest, from), *location = NULL;
    curl_free(from);
    int result = post(distribution, query, &exchange, err);
    if (result == 0 && exchange.status == 201)
        result = 1;
    else if (result == 0 && keep_location(distribution, &exchange, &location, NULL) == 0)
        give_up(distribution, location);
    exchange_done(&exchange);
    return result;
}

// ---- sending --------------------------------------------------------------------------------------------------------

void distribution_upload_free(struct distribution_upload *upload)
{
    if (!upload)
        return;
    if (upload->location)
        give_up(upload->distribution, upload->location);
    layer_digest_free(upload->hash);
    free(upload->location);
    free(upload->chunk);
    free(upload);
}

int distribution_upload_begin(struct distribution *distribution, struct distribution_upload **out, struct err *err)
{
    struct exchange exchange = { 0 };
    if (distribution_connect(distribution, err) < 0)
        return -1;
    struct distribution_upload *upload = mem_new(struct distribution_upload);
    upload->distribution = distribution;
    upload->hash = layer_digest_new();
    upload->chunk = mem_alloc(CHUNK_SIZE);
    int result = post(distribution, "", &exchange, err);
    if (result == 0)
        result = keep_location(distribution, &exchange, &upload->location, err);
    exchange_done(&exchange);
    if (result == 0)
        *out = upload;
    else
        distribution_upload_free(upload);
    return result;
}

// How many bytes the registry has; "0-0" is what it says of none as well as of one.
static int ask_progress(struct distribution_upload *upload, int64_t *out, struct err *err)
{
    struct distribution *distribution = upload->distribution;
    struct exchange exchange = { .method = "GET", .url = upload->location, .endpoint = distribution_endpoint(distribution) };
    struct slice rest, first;
    uint64_t last = 0;
    int result = exchange_call(distribution, &exchange, err);
    if (result == 0 && (exchange.failure.class != ERR_NONE || exchange.status / 100 != 2))
        result = exchange_fail(distribution, &exchange, "upload", err);
    if (result == 0 && exchange.location)
        result = keep_location(distribution, &exchange, &upload->location, err);
    rest = slice_of(exchange.range_said ? exchange.range_said : "0-0");
    slice_cut(&rest, '-', &first);
    *out = num_parse_u64(rest, INT64_MAX - 1, &last) && last > 0 ? (int64_t)last + 1 : 0;
    exchange_done(&exchange);
    return result;
}

// One attempt for bytes [at, at + size). 1: the registry has them; 0: perhaps, the connection broke.
static int try_chunk(struct distribution_upload *upload, int tries, struct err *err)
{
    struct distribution *distribution = upload->distribution;
    char range[64];
    snprintf(range, sizeof(range), "%lld-%lld", (long long)upload->at, (long long)upload->at + (long long)upload->size - 1);
    struct exchange exchange = { .method = "PATCH", .url = upload->location, .content_type = "application/octet-stream",
                                 .endpoint = distribution_endpoint(distribution), .body = upload->chunk, .body_size = upload->size,
                                 .range = range, .once = true };
    int result = exchange_call(distribution, &exchange, err);
    if (result == 0 && exchange.failure.class == ERR_NONE && exchange.status / 100 == 2)
        result = keep_location(distribution, &exchange, &upload->location, err) < 0 ? -1 : 1;
    else if (result == 0 && !(exchange_is_transient(&exchange) && exchange_pause(distribution, &exchange, tries) == 0))
        result = exchange_fail(distribution, &exchange, "upload", err);
    exchange_done(&exchange);
    return result;
}

static int send_chunk(struct distribution_upload *upload, struct err *err)
{
    int sent;
    for (int tries = 1; (sent = try_chunk(upload, tries, err)) == 0; tries++) {
        int64_t have;
        if (ask_progress(upload, &have, err) < 0)
            return -1;
        if (have == upload->at + (int64_t)upload->size)
            break; // only the answer was lost
        if (have != upload->at)
            return err_set(err, ERR_UNAVAILABLE, "registry %s: an upload broke off at %lld bytes, not where a chunk ends",
                           distribution_endpoint(upload->distribution)->host, (long long)have);
    }
    if (sent < 0)
        return -1;
    upload->at += (int64_t)upload->size;
    upload->size = 0;
    return 0;
}

int distribution_upload_write(struct distribution_upload *upload, const void *data, size_t size, struct err *err)
{
    layer_digest_add(upload->hash, data, size);
    while (size > 0) {
        size_t part = MIN_OF(size, CHUNK_SIZE - upload->size);
        memcpy(upload->chunk + upload->size, data, part);
        upload->size += part;
        data = (const char *)data + part;
        size -= part;
        if (upload->size == CHUNK_SIZE && send_chunk(upload, err) < 0)
            return -1;
    }
    return 0;
}

void distribution_upload_digest(struct distribution_upload *upload, char digest[OCI_DIGEST_SIZE])
{
    if (upload->hash)
        layer_digest_end(take_ptr(&upload->hash), upload->digest);
    memcpy(digest, upload->digest, OCI_DIGEST_SIZE);
}

int distribution_upload_end(struct distribution_upload *upload, char digest[OCI_DIGEST_SIZE], int64_t *size, struct err *err)
{
    struct distribution *distribution = upload->distribution;
    if (upload->size > 0 && send_chunk(upload, err) < 0)
        return -1;
    distribution_upload_digest(upload, digest);
    _cleanup_free_ char *url = mem_printf("%s%cdigest=%s", upload->location, strchr(upload->location, '?') ? '&' : '?', digest);
    struct exchange exchange = { .method = "PUT", .url = url, .endpoint = distribution_endpoint(distribution), .body = "",
                                 .body_size = 0 };
    int result = exchange_call(distribution, &exchange, err);
    if (result == 0 && (exchange.failure.class != ERR_NONE || exchange.status != 201))
        result = exchange_fail(distribution, &exchange, "end upload", err);
    exchange_done(&exchange);
    // Of a second try the registry may not know the upload any more: the first has ended it.
    const struct oci_descriptor blob = { .digest = digest, .size = upload->at };
    if (result < 0 && distribution_blob_exists(distribution, &blob, NULL) <= 0)
        return -1;
    free(take_ptr(&upload->location)); // nothing to give up
    *size = upload->at;
    return 0;
}
