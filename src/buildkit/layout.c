// One image out of an OCI layout of the client's, as an image archive: the documents are looked at here, since they say which blobs to ask for; the
// blobs pass through, and whoever takes the archive up (a jailed worker) checks them against their digests.
#include <gnutls/gnutls.h>
#include <gnutls/crypto.h>

#include "untar.h"
#include "spec/spec.h"

#define DOCUMENT_MAX ((size_t)4 << 20)
#define LAYERS_MAX 512
#define NESTED_MAX 3 // indexes

struct receiving {
    struct content_store store;
    const struct layout_request *request;
    struct arena arena;
    struct tar_out tar;
    struct files_sink sink;
    struct step *step;
    struct strv seen; // digests
    int64_t received;
};

// ---- documents ------------------------------------------------------------------------------------------------------

static int add_text(void *of, const char *data, size_t size, struct err *err)
{
    buf_add(of, data, size);
    return buf_check(of, "a document of the client's", err);
}

static bool has_digest(const struct buf *text, const char *digest)
{
    unsigned char hash[32];
    char hex[2 * sizeof(hash) + 1];
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, buf_text(text), text->size, hash) < 0)
        return false;
    for (size_t i = 0; i < sizeof(hash); i++)
        snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    return str_eq(hex, oci_digest_hex(digest));
}

static int read_document(struct receiving *receiving, const char *digest, struct buf *out, struct err *err)
{
    int64_t size;
    if (!digest || !oci_digest_valid(digest))
        return err_set(err, ERR_INVALID_ARGUMENT, "unsupported digest %.128s", digest ? digest : "");
    if (content_size(&receiving->store, digest, &size, err) < 0)
        return -1;
    if (size > (int64_t)DOCUMENT_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s is too large for a manifest: %lld bytes", digest, (long long)size);
    if (content_read(&receiving->store, digest, size, add_text, out, err) < 0)
        return -1;
    return has_digest(out, digest) ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "the client's blob %s has another digest", digest);
}

static bool is_wanted(const struct oci_descriptor *entry, const char *platform)
{
    struct slice rest = slice_of(platform), os, architecture;
    if (!entry->platform)
        return !kvs_get(&entry->annotations, "vnd.docker.reference.type");
    return slice_cut(&rest, '/', &os) && slice_cut(&rest, '/', &architecture) && slice_eq(os, entry->platform->os ? entry->platform->os : "") &&
           slice_eq(architecture, entry->platform->architecture ? entry->platform->architecture : "") &&
           (!rest.data || str_empty(entry->platform->variant) || slice_eq(rest, entry->platform->variant));
}

static int refuse_cache(const char *digest, struct err *err)
{
    return err_set(err, ERR_NOT_IMPLEMENTED, "%s is a cache in BuildKit's own form, which is not supported", digest);
}

// The manifest that an index has for the platform; *digest is it then.
static int choose(struct receiving *receiving, const struct buf *text, const char **digest, struct err *err)
{
    struct oci_index index;
    if (json_decode_text(&oci_index_table, buf_text(text), text->size, &index, &receiving->arena, NULL, err) < 0)
        return -1;
    for (size_t i = 0; i < index.manifests.len; i++) {
        const struct oci_descriptor *entry = json_list_at(&index.manifests, &oci_descriptor_table, i);
        if (entry->media_type && str_eq(entry->media_type, MEDIA_BUILDKIT_CACHE))
            return refuse_cache(*digest, err);
    }
    for (size_t i = 0; i < index.manifests.len; i++) {
        const struct oci_descriptor *entry = json_list_at(&index.manifests, &oci_descriptor_table, i);
        if (is_wanted(entry, receiving->request->platform)) {
            *digest = entry->digest;
            return 0;
        }
    }
    return err_set(err, ERR_NOT_FOUND, "no match for platform in manifest %s: not found", *digest);
}

static int find_manifest(struct receiving *receiving, const char **digest, struct buf *text, struct oci_manifest *out, struct err *err)
{
    *digest = receiving->request->digest;
    for (int depth = 0; depth < NESTED_MAX; depth++) {
        json_t *document = NULL;
        buf_clear(text);
        if (read_document(receiving, *digest, text, err) < 0 || json_parse(buf_text(text), text->size, &document, err) < 0)
            return -1;
        bool index = json_is_array(json_object_get(document, "manifests"));
        json_decref(document);
        if (!index)
            return json_decode_text(&oci_manifest_table, buf_text(text), text->size, out, &receiving->arena, NULL, err);
        if (choose(receiving, text, digest, err) < 0)
            return -1;
    }
    return err_set(err, ERR_INVALID_ARGUMENT, "indexes are nested more than %d deep", NESTED_MAX);
}

static int check_manifest(const struct oci_manifest *manifest, const char *digest, struct err *err)
{
    if (str_eq(manifest->config.media_type, MEDIA_BUILDKIT_CACHE))
        return refuse_cache(digest, err);
    if (manifest->layers.len > LAYERS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s has more than %d layers", digest, LAYERS_MAX);
    for (size_t i = 0; i <= manifest->layers.len; i++) {
        const struct oci_descriptor *blob = i ? json_list_at(&manifest->layers, &oci_descriptor_table, i - 1) : &manifest->config;
        if (!blob->digest || !oci_digest_valid(blob->digest))
            return err_set(err, ERR_INVALID_ARGUMENT, "%s: unsupported digest %.128s", digest, blob->digest ? blob->digest : "");
        if (blob->size < 0 || (i == 0 && blob->size > (int64_t)DOCUMENT_MAX))
            return err_set(err, ERR_INVALID_ARGUMENT, "%s: %s can't have %lld bytes", digest, blob->digest, (long long)blob->size);
    }
    return 0;
}

// ---- the archive ----------------------------------------------------------------------------------------------------

static int put_file(struct receiving *receiving, const char *name, const char *data, size_t size, struct err *err)
{
    const struct stat_message stat = { .path = (char *)name, .mode = 0644, .size = (int64_t)size };
    const struct files_sink *sink = &receiving->sink;
    return sink->entry(sink->of, &stat, err) < 0 || sink->content(sink->of, data, size, err) < 0 ? -1 : sink->entry_end(sink->of, &stat, err);
}

static char *blob_path(struct receiving *receiving, const char *digest)
{
    return arena_printf(&receiving->arena, "blobs/sha256/%s", oci_digest_hex(digest));
}

static int put_part(void *of, const char *data, size_t size, struct err *err)
{
    struct receiving *receiving = of;
    receiving->received += (int64_t)size;
    step_status(receiving->step, "receiving blobs", receiving->received, 0, false);
    return receiving->sink.content(receiving->sink.of, data, size, err);
}

static int put_blob(struct receiving *receiving, const struct oci_descriptor *blob, struct err *err)
{
    const struct files_sink *sink = &receiving->sink;
    const struct stat_message stat = { .path = blob_path(receiving, blob->digest), .mode = 0644, .size = blob->size };
    if (strv_has(&receiving->seen, blob->digest))
        return 0;
    strv_push_arena(&receiving->seen, &receiving->arena, blob->digest);
    if (sink->entry(sink->of, &stat, err) < 0 || content_read(&receiving->store, blob->digest, blob->size, put_part, receiving, err) < 0)
        return -1;
    return sink->entry_end(sink->of, &stat, err);
}

static int put_index(struct receiving *receiving, const char *digest, const struct buf *manifest, const char *media_type, struct err *err)
{
    static const char version[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
    _cleanup_json_ json_t *index = json_pack("{s:i, s:[{s:s, s:s, s:I}]}", "schemaVersion", 2, "manifests", "mediaType",
                                             str_empty(media_type) ? MEDIA_OCI_MANIFEST : media_type, "digest", digest, "size",
                                             (json_int_t)manifest->size);
    _cleanup_free_ char *text = index ? json_dumps(index, JSON_COMPACT) : NULL;
    if (!text)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: its media type is no text", digest);
    return put_file(receiving, "index.json", text, strlen(text), err) < 0 ? -1 : put_file(receiving, "oci-layout", version, strlen(version), err);
}

static int receive(struct receiving *receiving, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(DOCUMENT_MAX);
    struct oci_manifest manifest;
    const char *digest;
    if (find_manifest(receiving, &digest, &text, &manifest, err) < 0 || check_manifest(&manifest, digest, err) < 0 ||
        put_file(receiving, blob_path(receiving, digest), buf_text(&text), text.size, err) < 0 || put_blob(receiving, &manifest.config, err) < 0)
        return -1;
    for (size_t i = 0; i < manifest.layers.len; i++)
        if (put_blob(receiving, json_list_at(&manifest.layers, &oci_descriptor_table, i), err) < 0)
            return -1;
    if (put_index(receiving, digest, &text, manifest.media_type, err) < 0 || tar_end(&receiving->tar, err) < 0)
        return -1;
    step_status(receiving->step, "receiving blobs", receiving->received, receiving->received, true);
    return 0;
}

int layout_receive(struct buildkit_session *session, const struct layout_request *request, struct step *step, int fd, const struct cancel *cancel,
                   struct err *err)
{
    struct receiving receiving = { .store = { session, request->store, cancel }, .request = request, .tar = { .fd = fd }, .step = step };
    tar_sink(&receiving.tar, &receiving.sink);
    int result = receive(&receiving, err);
    if (result < 0)
        tar_break(&receiving.tar);
    arena_done(&receiving.arena);
    return result;
}

// ---- the other way --------------------------------------------------------------------------------------------------

// The blobs of an archive that comes, each to the client; of the rest the index alone is looked at.
struct giving {
    struct content_store store;
    struct untar untar;
    struct content_write write;
    struct step *step;
    bool blob;
    struct buf index;
    bool is_index;
    int64_t sent;
};

static int give_entry(void *of, const struct stat_message *stat, struct err *err)
{
    static const char folder[] = "blobs/sha256/";
    struct giving *giving = of;
    char digest[7 + 64 + 1];
    bool plain = !(stat->mode & MODE_DIR);
    giving->blob = plain && str_starts(stat->path, folder) && strlen(stat->path + strlen(folder)) == 64;
    giving->is_index = plain && str_eq(stat->path, "index.json");
    if (cancel_now(giving->store.cancel))
        return err_set(err, ERR_CANCELLED, "the build was cancelled");
    if (!giving->blob)
        return 0;
    snprintf(digest, sizeof(digest), "sha256:%s", stat->path + strlen(folder));
    return content_write_begin(&giving->store, digest, stat->size, &giving->write, err);
}

static int give_content(void *of, const char *data, size_t size, struct err *err)
{
    struct giving *giving = of;
    if (giving->is_index)
        return add_text(&giving->index, data, size, err);
    giving->sent += giving->blob ? (int64_t)size : 0;
    return giving->blob ? content_write_add(&giving->write, data, size, err) : 0;
}

static int give_end(void *of, const struct stat_message *stat, struct err *err)
{
    struct giving *giving = of;
    int result = giving->blob ? content_write_end(&giving->write, err) : 0;
    if (giving->blob)
        step_status(giving->step, "writing blobs", giving->sent, 0, false);
    content_write_done(&giving->write);
    return result;
}

static int take_bytes(void *of, const char *data, size_t size, struct err *err)
{
    struct giving *giving = of;
    return untar_add(&giving->untar, data, size, err);
}

// What the index has first, without what only names it.
static char *first_entry(const struct buf *index, struct arena *arena)
{
    _cleanup_json_ json_t *document = NULL;
    if (json_parse(buf_text(index), index->size, &document, NULL) < 0)
        return NULL;
    json_t *entry = json_array_get(json_object_get(document, "manifests"), 0);
    _cleanup_free_ char *text = entry ? json_dumps(entry, JSON_COMPACT) : NULL;
    return arena_strdup(arena, text);
}

int layout_send(const struct content_store *store, struct step *step, send_make_fn *make, void *of, struct arena *arena, char **descriptor,
                struct err *err)
{
    struct giving giving = { .store = *store, .step = step, .index = BUF_INIT(DOCUMENT_MAX) };
    const struct files_sink sink = { give_entry, give_content, give_end, &giving };
    untar_init(&giving.untar, &sink);
    int result = make(of, take_bytes, &giving, err) < 0 || untar_end(&giving.untar, err) < 0 ? -1 : 0;
    *descriptor = result == 0 ? first_entry(&giving.index, arena) : NULL;
    if (result == 0 && !*descriptor)
        result = err_set(err, ERR_INTERNAL, "the archive has no index");
    if (result == 0)
        step_status(step, "writing blobs", giving.sent, giving.sent, true);
    content_write_done(&giving.write);
    untar_done(&giving.untar);
    buf_done(&giving.index);
    return result;
}
