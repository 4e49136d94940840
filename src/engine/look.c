// The digest of what a COPY reads: that of its entries' records and, behind each, the digest of its content. Either the archive worker looks at the files
// (frames of build/listing.h through a pipe), or they are known from a list, and nobody does.
#include <gnutls/crypto.h>

#include "build/listing.h"
#include "frames.h"
#include "place.h"
#include "worker/worker.h"

struct hashing {
    gnutls_hash_hd_t all, content;
};

// SHA-256 is part of every build of the library: only memory can be missing.
static gnutls_hash_hd_t new_hash(void)
{
    gnutls_hash_hd_t hash;
    if (gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) < 0)
        abort();
    return hash;
}

static void end_all(struct hashing *hashing, char digest[OCI_DIGEST_SIZE])
{
    unsigned char raw[LISTING_DIGEST_SIZE];
    gnutls_hash_deinit(hashing->all, raw);
    memcpy(digest, "sha256:", 7);
    hex_encode(raw, sizeof(raw), digest + 7);
}

// ---- of a list ------------------------------------------------------------------------------------------------------

static void hash_entry(void *of, const struct buf *record, const unsigned char *digest)
{
    const struct hashing *hashing = of;
    gnutls_hash(hashing->all, record->data, record->size);
    if (digest)
        gnutls_hash(hashing->all, digest, LISTING_DIGEST_SIZE);
}

static bool is_listed(const struct step_place *place)
{
    for (size_t i = 0; i < place->source_len; i++)
        if (!place->sources[i].listing || place->sources[i].listing != place->sources[0].listing || place->sources[i].include || place->sources[i].required)
            return false;
    return place->source_len > 0 && !(place->excludes && place->excludes->len);
}

bool place_listed(const struct step_place *place, struct arena *arena, struct step_sources *out)
{
    struct hashing hashing = { .all = new_hash() };
    const char **paths = arena_alloc(arena, (place->source_len + 1) * sizeof(*paths));
    for (size_t i = 0; i < place->source_len; i++)
        paths[i] = place->sources[i].path;
    const struct listing_wish wish = { paths, place->source_len, place->roots };
    *out = (struct step_sources){ .listed = is_listed(place) && listing_sources(place->sources[0].listing, &wish, hash_entry, &hashing) };
    end_all(&hashing, out->digest);
    return out->listed;
}

// ---- of files -------------------------------------------------------------------------------------------------------

static void begin_entry(void *of, struct slice record, bool file)
{
    const struct hashing *hashing = of;
    gnutls_hash(hashing->all, record.data, record.size);
}

static void add_content(void *of, const char *data, size_t size)
{
    const struct hashing *hashing = of;
    gnutls_hash(hashing->content, data, size);
}

static void end_entry(void *of, bool file)
{
    unsigned char raw[LISTING_DIGEST_SIZE];
    const struct hashing *hashing = of;
    if (!file)
        return;
    gnutls_hash_output(hashing->content, raw);
    gnutls_hash(hashing->all, raw, sizeof(raw));
}

static int take_found(struct filer *filer, struct arena *arena, struct step_sources *out, const struct cancel *cancel, struct err *err)
{
    size_t capacity = 0;
    json_t *line;
    int more;
    while ((more = filer_next(filer, cancel, &line, err)) > 0) {
        const json_t *found = json_object_get(line, "found");
        if (out->len == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            struct step_found *grown = arena_alloc(arena, capacity * sizeof(*grown));
            if (out->len)
                memcpy(grown, out->found, out->len * sizeof(*grown));
            out->found = grown;
        }
        if (found)
            out->found[out->len++] = (struct step_found){ (size_t)json_get_int(found, "source", 0),
                                                          arena_strdup(arena, json_get_text(found, "path", "")), json_get_flag(found, "packed", false) };
        json_decref(line);
    }
    return more;
}

static int hash_sources(struct filer *filer, struct arena *arena, struct step_sources *out, const struct cancel *cancel, struct err *err)
{
    struct hashing hashing = { .all = new_hash(), .content = new_hash() };
    struct frames frames = { .record = BUF_INIT(FRAMES_RECORD_MAX), .begin = begin_entry, .content = add_content, .end = end_entry, .of = &hashing };
    int done = pipe_relay(filer->data_fd, frames_take, &frames, cancel, err);
    buf_done(&frames.record);
    end_all(&hashing, out->digest);
    gnutls_hash_deinit(hashing.content, NULL);
    return done < 0 ? -1 : take_found(filer, arena, out, cancel, err);
}

int place_look(struct engine *engine, const struct step_place *place, struct arena *arena, struct step_sources *out, const struct cancel *cancel,
               struct err *err)
{
    bool tell = false;
    for (size_t i = 0; i < place->source_len; i++)
        tell = tell || place->sources[i].unpack;
    *out = (struct step_sources){ 0 };
    _cleanup_(place_order_done) struct place_order order;
    place_order_init(&order, engine, place, tell);
    _cleanup_close_ int root = tree_of_image(engine, NULL, err);
    if (root < 0 || place_order_add(&order, place, NULL, err) < 0)
        return -1;
    _cleanup_(filer_done) struct filer filer = FILER_ALONE(engine);
    const struct filer_wish wish = { .verb = "sources", .root_fd = root, .source_fds = order.fds, .source_len = order.len, .spec = order.spec,
                                     .output = true, .data_fd = -1 };
    return filer_start(&filer, &wish, err) < 0 ? -1 : hash_sources(&filer, arena, out, cancel, err);
}

