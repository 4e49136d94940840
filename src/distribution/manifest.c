// Manifests: fetched, checked by their digest, pushed; and the choice of a platform in an index.
#include "distribution_private.h"

static const char accepted[] = MEDIA_OCI_INDEX ", " MEDIA_OCI_MANIFEST ", " MEDIA_DOCKER_LIST ", " MEDIA_DOCKER_MANIFEST
                                               ", application/json;q=0.5";

void distribution_manifest_done(struct distribution_manifest *manifest)
{
    buf_done(&manifest->text);
}

bool distribution_is_index(const char *media_type)
{
    return str_eq(media_type, MEDIA_OCI_INDEX) || str_eq(media_type, MEDIA_DOCKER_LIST);
}

bool distribution_is_manifest(const char *media_type)
{
    return str_eq(media_type, MEDIA_OCI_MANIFEST) || str_eq(media_type, MEDIA_DOCKER_MANIFEST);
}

// ---- fetching -------------------------------------------------------------------------------------------------------

static void hash_text(const struct buf *text, char out[OCI_DIGEST_SIZE])
{
    struct layer_digest *hash = layer_digest_new();
    layer_digest_add(hash, buf_text(text), text->size);
    layer_digest_end(hash, out);
}

// The document's own word counts more than the header's: old registries answer with application/json or text/plain. An OCI
// document may leave it out; its members tell.
static void find_type(json_t *document, const char *said, char out[128])
{
    struct slice rest = slice_of(said ? said : ""), type;
    const char *own = json_get_text(document, "mediaType", NULL);
    slice_cut(&rest, ';', &type);
    snprintf(out, 128, "%.*s", (int)type.size, type.data ? type.data : "");
    if (own)
        snprintf(out, 128, "%s", own);
    else if (!distribution_is_index(out) && !distribution_is_manifest(out) && json_get_int(document, "schemaVersion", 0) == 2)
        snprintf(out, 128, "%s", json_object_get(document, "manifests") ? MEDIA_OCI_INDEX : MEDIA_OCI_MANIFEST);
}

// What an image of before 2016 gets from Docker, too.
static int refuse_schema_1(const struct distribution *distribution, const char *reference, struct err *err)
{
    return err_set(err, ERR_INVALID_ARGUMENT,
                   "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest the author of %s/%s%s%s to"
                   " upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. More information at"
                   " https://docs.docker.com/go/deprecated-image-specs/", distribution->domain, distribution->path,
                   oci_digest_valid(reference) ? "@" : ":", reference);
}

static int check_manifest(const struct distribution *distribution, const struct exchange *exchange, const char *reference,
                          struct distribution_manifest *out, struct err *err)
{
    _cleanup_json_ json_t *document = NULL;
    const char *host = exchange->endpoint->host;
    struct err why = { 0 };
    hash_text(&out->text, out->digest);
    if (oci_digest_valid(reference) && !str_eq(out->digest, reference))
        return err_set(err, ERR_INVALID_ARGUMENT, "registry %s: manifest %s has another digest: %s", host, reference, out->digest);
    if (json_parse(buf_text(&out->text), out->text.size, &document, &why) < 0 || !json_is_object(document))
        return err_set(err, ERR_UNAVAILABLE, "registry %s answered with %s in a manifest's place (%s)", host,
                       exchange->content_type_said ? exchange->content_type_said : "no type", document ? "no object" : why.message);
    find_type(document, exchange->content_type_said, out->media_type);
    if (json_get_int(document, "schemaVersion", 0) == 1)
        return refuse_schema_1(distribution, reference, err);
    if (!distribution_is_index(out->media_type) && !distribution_is_manifest(out->media_type))
        return err_set(err, ERR_INVALID_ARGUMENT, "registry %s: %.100s is not a manifest", host, out->media_type);
    return 0;
}

// As Docker says it: whether a repository exists is not told to strangers.
static int fail_manifest(const struct distribution *distribution, const struct exchange *exchange, const char *reference, struct err *err)
{
    _cleanup_free_ char *shown = mem_printf("%s%s%s", distribution->shown, oci_digest_valid(reference) ? "@" : ":", reference);
    exchange_fail(distribution, exchange, "error", err);
    if (!err || exchange->failure.class != ERR_NONE)
        return -1;
    const char *words = str_starts(err->message, "error: ") ? err->message + 7 : err->message;
    _cleanup_free_ char *said = mem_strdup(words);
    if (exchange->status == 404)
        return err_set(err, ERR_NOT_FOUND, "manifest for %s not found: %s", shown, said);
    if (exchange->status == 401 || exchange->status == 403)
        return err_set(err, ERR_UNAUTHENTICATED, "%s", said);
    return err_set(err, err->class, "%s: %s", shown, said);
}

static int fetch(struct distribution *distribution, const char *reference, struct distribution_manifest *out, struct err *err)
{
    const struct endpoint *endpoint = distribution_endpoint(distribution);
    _cleanup_free_ char *url = mem_printf("%s/v2/%s/manifests/%s", endpoint->base, distribution->path, reference);
    struct exchange exchange = { .method = "GET", .url = url, .accept = accepted, .endpoint = endpoint,
                                 .text_max = DISTRIBUTION_MANIFEST_MAX };
    int result = exchange_call(distribution, &exchange, err);
    if (result == 0 && (exchange.failure.class != ERR_NONE || exchange.status != 200)) {
        result = fail_manifest(distribution, &exchange, reference, err);
    } else if (result == 0) {
        buf_done(&out->text);
        out->text = exchange.text;
        exchange.text = (struct buf)BUF_INIT(ANSWER_MAX);
        result = check_manifest(distribution, &exchange, reference, out, err);
    }
    exchange_done(&exchange);
    return result;
}

int distribution_deny(const struct distribution *distribution, struct err *err)
{
    if (!err || err->class != ERR_UNAUTHENTICATED)
        return -1;
    _cleanup_free_ char *said = mem_strdup(err->message);
    return err_set(err, ERR_NOT_FOUND, "pull access denied for %s, repository does not exist or may require 'docker login': %s",
                   distribution->shown, said);
}

int distribution_manifest_get(struct distribution *distribution, const char *reference, struct distribution_manifest *out,
                              struct err *err)
{
    do {
        if (distribution_connect(distribution, err) < 0)
            break;
        if (fetch(distribution, reference, out, err) == 0)
            return 0;
    } while (distribution_next_endpoint(distribution));
    return distribution_deny(distribution, err);
}

static int head(struct distribution *distribution, const char *reference, char digest[OCI_DIGEST_SIZE], struct err *err)
{
    const struct endpoint *endpoint = distribution_endpoint(distribution);
    _cleanup_free_ char *url = mem_printf("%s/v2/%s/manifests/%s", endpoint->base, distribution->path, reference);
    struct exchange exchange = { .method = "HEAD", .url = url, .accept = accepted, .endpoint = endpoint };
    int result = exchange_call(distribution, &exchange, err);
    if (result == 0 && (exchange.failure.class != ERR_NONE || exchange.status != 200))
        result = fail_manifest(distribution, &exchange, reference, err);
    else if (result == 0)
        snprintf(digest, OCI_DIGEST_SIZE, "%s", exchange.digest && oci_digest_valid(exchange.digest) ? exchange.digest : "");
    exchange_done(&exchange);
    return result;
}

int distribution_manifest_digest(struct distribution *distribution, const char *reference, char digest[OCI_DIGEST_SIZE], struct err *err)
{
    *digest = 0;
    do {
        if (distribution_connect(distribution, err) < 0)
            return distribution_deny(distribution, err);
        if (head(distribution, reference, digest, err) == 0)
            break;
    } while (distribution_next_endpoint(distribution));
    if (*digest)
        return 0;
    // One that answers no HEAD, or without a digest: what it gives is hashed. An error's body is told, too.
    _cleanup_manifest_ struct distribution_manifest manifest = DISTRIBUTION_MANIFEST_INIT;
    if (distribution_manifest_get(distribution, reference, &manifest, err) < 0)
        return -1;
    snprintf(digest, OCI_DIGEST_SIZE, "%s", manifest.digest);
    return 0;
}

int distribution_manifest_put(struct distribution *distribution, const char *reference, const struct distribution_manifest *manifest,
                              struct err *err)
{
    if (distribution_connect(distribution, err) < 0)
        return -1;
    const struct endpoint *endpoint = distribution_endpoint(distribution);
    _cleanup_free_ char *url = mem_printf("%s/v2/%s/manifests/%s", endpoint->base, distribution->path, reference);
    struct exchange exchange = { .method = "PUT", .url = url, .content_type = manifest->media_type, .endpoint = endpoint,
                                 .body = buf_text(&manifest->text), .body_size = manifest->text.size };
    int result = exchange_call(distribution, &exchange, err);
    if (result == 0 && (exchange.failure.class != ERR_NONE || exchange.status / 100 != 2))
        result = exchange_fail(distribution, &exchange, "put manifest", err);
    exchange_done(&exchange);
    return result;
}

// ---- choosing -------------------------------------------------------------------------------------------------------

// How well an entry fits: 0 not at all. Of Arm's older variants a newer processor runs all, the newest best.
static int fit(const struct oci_platform *wanted, const struct oci_platform *entry)
{
    const char *variant = entry->variant ? entry->variant : "";
    if (!str_eq(entry->os, wanted->os) || !str_eq(entry->architecture, wanted->architecture))
        return 0;
    if (str_empty(wanted->variant))
        return str_empty(variant) || str_eq(wanted->architecture, "arm64") ? 1000 : 1 + (variant[0] == 'v' ? variant[1] : 0);
    if (str_eq(variant, wanted->variant))
        return 1000;
    if (str_empty(variant) || (str_eq(wanted->architecture, "arm64") && str_eq(wanted->variant, "v8")))
        return str_empty(variant) ? 500 : 0;
    return str_eq(wanted->architecture, "arm") && strcmp(variant, wanted->variant) < 0 ? variant[1] : 0;
}

int distribution_choose(const struct oci_index *index, const struct oci_platform *platform, struct oci_descriptor *out,
                        struct err *err)
{
    const struct oci_descriptor *best = NULL;
    bool cache = false;
    int best_fit = 0;
    for (size_t i = 0; i < index->manifests.len; i++) {
        const struct oci_descriptor *entry = json_list_at(&index->manifests, &oci_descriptor_table, i);
        bool usable = entry->platform && !kvs_get(&entry->annotations, "vnd.docker.reference.type") && entry->digest &&
                      oci_digest_valid(entry->digest) &&
                      (distribution_is_manifest(entry->media_type) || distribution_is_index(entry->media_type));
        int fits = usable ? fit(platform, entry->platform) : 0;
        cache = cache || str_eq(entry->media_type ? entry->media_type : "", MEDIA_BUILDKIT_CACHE);
        if (fits > best_fit) {
            best = entry;
            best_fit = fits;
        }
    }
    if (!best && cache)
        return err_set(err, ERR_INVALID_ARGUMENT, "not an image, but a cache in BuildKit's own form, which is not supported");
    if (!best)
        return err_set(err, ERR_NOT_FOUND, "no matching manifest for %s/%s%s%s in the manifest list entries", platform->os,
                       platform->architecture, str_empty(platform->variant) ? "" : "/",
                       str_empty(platform->variant) ? "" : platform->variant);
    *out = *best;
    return 0;
}
