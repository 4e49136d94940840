// Blobs on their way down: streamed into a sink, counted, hashed if asked, and taken up by a range where a connection broke.
#include "base/num.h"
#include "distribution_private.h"

struct download {
    struct distribution *distribution;
    const struct oci_descriptor *blob;
    struct layer_digest *hash; // NULL: not asked for
    distribution_sink_fn *sink;
    void *context;
    struct exchange *exchange;
    int64_t at; // bytes that the sink has
    int64_t skip; // of the answer under way: bytes that the sink has already
    bool begun; // the first bytes of the answer under way came
};

// "bytes 100-199/200" begins where we asked it to?
static bool range_fits(const char *text, int64_t at)
{
    struct slice rest = slice_of(text), part;
    uint64_t from;
    if (!text || !slice_starts(rest, "bytes "))
        return false;
    rest = (struct slice){ text + 6, strlen(text + 6) };
    slice_cut(&rest, '-', &part);
    return num_parse_u64(part, INT64_MAX, &from) && (int64_t)from == at;
}

static int begin(struct download *download, struct err *err)
{
    struct exchange *exchange = download->exchange;
    download->begun = true;
    download->skip = download->at;
    if (exchange->status == 206 && !range_fits(exchange->content_range, download->at))
        return err_set(err, ERR_UNAVAILABLE, "registry %s: gave another range of blob %s than it was asked for",
                       exchange->endpoint->host, download->blob->digest);
    if (exchange->status == 206)
        download->skip = 0;
    return 0;
}

static int take_bytes(void *context, const void *data, size_t size, struct err *err)
{
    struct download *download = context;
    const struct oci_descriptor *blob = download->blob;
    if (!download->begun && begin(download, err) < 0)
        return -1;
    size_t known = (size_t)MIN_OF((int64_t)size, download->skip);
    download->skip -= (int64_t)known;
    data = (const char *)data + known;
    size -= known;
    if ((int64_t)size > blob->size - download->at)
        return err_set(err, ERR_INVALID_ARGUMENT, "blob %s is longer than the %lld bytes that its manifest says", blob->digest,
                       (long long)blob->size);
    if (size == 0)
        return 0;
    if (download->hash)
        layer_digest_add(download->hash, data, size);
    if (download->sink(download->context, data, size, err) < 0)
        return -1;
    download->at += (int64_t)size;
    return 0;
}

static int fail(const struct download *download, struct err *err)
{
    const struct exchange *exchange = download->exchange;
    char what[160];
    snprintf(what, sizeof(what), "blob %s", download->blob->digest);
    bool cut = exchange->failure.class == ERR_NONE && exchange->status / 100 == 2;
    if (!cut)
        return exchange->sink_err.class != ERR_NONE ? (*err = exchange->sink_err, -1)
                                                    : exchange_fail(download->distribution, exchange, what, err);
    return err_set(err, ERR_UNAVAILABLE, "%s: registry %s gave %lld of %lld bytes", what, exchange->endpoint->host,
                   (long long)download->at, (long long)download->blob->size);
}

// An answer that ends too early is a broken connection, too: chunked ones and those of HTTP/1.0 show no difference.
static bool worth_another_try(const struct exchange *exchange)
{
    return exchange_is_transient(exchange) || (exchange->curl_code == CURLE_OK && exchange->status / 100 == 2);
}

static int run(struct download *download, struct err *err)
{
    struct exchange *exchange = download->exchange;
    char range[32];
    for (int tries = 1;;) {
        int64_t before = download->at;
        snprintf(range, sizeof(range), "%lld-", (long long)download->at);
        exchange->range = download->at > 0 ? range : NULL;
        download->begun = false;
        if (exchange_call(download->distribution, exchange, err) < 0)
            return -1;
        if (exchange->sink_err.class == ERR_NONE && download->at == download->blob->size &&
            (download->begun || download->at == 0) && exchange->status / 100 == 2)
            return 0;
        tries = download->at > before ? 1 : tries + 1; // who gets on is not given up
        if (!worth_another_try(exchange) || exchange_pause(download->distribution, exchange, tries) < 0)
            return fail(download, err);
    }
}

static int check_digest(struct download *download, struct err *err)
{
    char digest[OCI_DIGEST_SIZE];
    if (!download->hash)
        return 0;
    layer_digest_end(take_ptr(&download->hash), digest);
    if (str_eq(digest, download->blob->digest))
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "content of blob %s has another digest: %s", download->blob->digest, digest);
}

int distribution_blob_get(struct distribution *distribution, const struct oci_descriptor *blob, bool check,
                          distribution_sink_fn *sink, void *context, struct err *err)
{
    struct err own;
    err = err ? err : &own;
    if (!oci_digest_valid(blob->digest) || blob->size < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "unsupported digest %.128s", blob->digest ? blob->digest : "");
    if (distribution_connect(distribution, err) < 0)
        return -1;
    const struct endpoint *endpoint = distribution_endpoint(distribution);
    _cleanup_free_ char *url = mem_printf("%s/v2/%s/blobs/%s", endpoint->base, distribution->path, blob->digest);
    struct download download = { .distribution = distribution, .blob = blob, .sink = sink, .context = context };
    struct exchange exchange = { .method = "GET", .url = url, .endpoint = endpoint, .sink = take_bytes, .context = &download };
    download.exchange = &exchange;
    if (check)
        download.hash = layer_digest_new();
    int result = run(&download, err);
    if (result == 0)
        result = check_digest(&download, err);
    layer_digest_free(download.hash);
    exchange_done(&exchange);
    return result;
}

// 1: *size, -1 where it is not said.
static int stat_blob(struct distribution *distribution, const char *digest, int64_t *size, struct err *err)
{
    if (distribution_connect(distribution, err) < 0)
        return -1;
    const struct endpoint *endpoint = distribution_endpoint(distribution);
    _cleanup_free_ char *url = mem_printf("%s/v2/%s/blobs/%s", endpoint->base, distribution->path, digest);
    struct exchange exchange = { .method = "HEAD", .url = url, .endpoint = endpoint };
    int result = exchange_call(distribution, &exchange, err);
    if (result == 0 && exchange.failure.class == ERR_NONE && exchange.status == 200)
        result = 1;
    else if (result == 0 && (exchange.failure.class != ERR_NONE || exchange.status != 404))
        result = exchange_fail(distribution, &exchange, digest, err);
    *size = exchange.length;
    exchange_done(&exchange);
    return result;
}

int distribution_blob_exists(struct distribution *distribution, const struct oci_descriptor *blob, struct err *err)
{
    int64_t size;
    return stat_blob(distribution, blob->digest, &size, err);
}

int distribution_blob_size(struct distribution *distribution, const char *digest, int64_t *size, struct err *err)
{
    int found = stat_blob(distribution, digest, size, err);
    if (found < 0)
        return distribution_deny(distribution, err);
    if (!found)
        return err_set(err, ERR_NOT_FOUND, "%s has no blob %s", distribution->shown, digest);
    return *size < 0 ? err_set(err, ERR_UNAVAILABLE, "registry %s does not say how long blob %s is", distribution_endpoint(distribution)->host, digest) : 0;
}
