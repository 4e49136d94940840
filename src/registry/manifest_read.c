// What a manifest says, as far as the registry must know: the four kinds that clients of today push.
#include "registry_private.h"

enum kind { IMAGE, INDEX };

struct media_row {
    const char *name;
    enum kind kind;
};

static const struct media_row media_types[] = {
    { "application/vnd.oci.image.manifest.v1+json", IMAGE },
    { "application/vnd.oci.image.index.v1+json", INDEX },
    { "application/vnd.docker.distribution.manifest.v2+json", IMAGE },
    { "application/vnd.docker.distribution.manifest.list.v2+json", INDEX },
};

static const struct media_row *find_media(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(media_types); i++)
        if (slice_eq(name, media_types[i].name))
            return &media_types[i];
    return NULL;
}

// "application/x; charset=utf-8" without its parameters; the document's own word where the header has none.
static int find_kind(const char *content_type, json_t *document, const struct media_row **out, struct err *err)
{
    struct slice rest = slice_of(content_type), type = { 0 };
    const char *said = json_get_text(document, "mediaType", NULL);
    slice_cut(&rest, ';', &type);
    type = slice_trim(type);
    if (type.size == 0)
        type = slice_of(said);
    if (!(*out = find_media(type)))
        return err_set(err, ERR_NOT_IMPLEMENTED, "media type \"%.*s\": not a manifest of an image or an index of them",
                       (int)type.size, type.size ? type.data : "");
    if (said && !slice_eq(type, said))
        return err_set(err, ERR_INVALID_ARGUMENT, "mediaType is %s, Content-Type %.*s", said, (int)type.size, type.data);
    return 0;
}

// Layers that nobody may hand out: their bytes need not be here.
static bool is_foreign(json_t *descriptor)
{
    const char *type = json_get_text(descriptor, "mediaType", "");
    return strstr(type, ".nondistributable.") || strstr(type, ".foreign.");
}

static int take_digest(json_t *descriptor, const char *where, const char **out, struct err *err)
{
    *out = json_get_text(descriptor, "digest", NULL);
    if (!*out || !digest_valid(*out))
        return err_set(err, ERR_INVALID_ARGUMENT, "%s.digest: %s", where, *out ? "not a digest" : "is missing");
    return 0;
}

static int add_digest(struct strv *list, struct arena *arena, json_t *descriptor, const char *where, struct err *err)
{
    const char *digest;
    if (take_digest(descriptor, where, &digest, err) < 0)
        return -1;
    if (!strv_has(list, digest))
        strv_push_arena(list, arena, digest);
    return 0;
}

static int add_all(json_t *document, const char *key, struct strv *list, struct arena *arena, struct err *err)
{
    enum { ITEMS_MAX = 10000 };
    json_t *items = json_object_get(document, key), *item;
    size_t i;
    if (!json_is_array(items) || json_array_size(items) > ITEMS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: not a list of at most %d descriptors", key, ITEMS_MAX);
    json_array_foreach(items, i, item) {
        char where[64];
        snprintf(where, sizeof(where), "%s[%zu]", key, i);
        if (!is_foreign(item) && add_digest(list, arena, item, where, err) < 0)
            return -1;
    }
    return 0;
}

static int read_image(json_t *document, struct arena *arena, struct manifest *out, struct err *err)
{
    json_t *config = json_object_get(document, "config");
    if (!json_is_object(config))
        return err_set(err, ERR_INVALID_ARGUMENT, "config: is missing");
    if (!out->artifact_type)
        out->artifact_type = arena_strdup(arena, json_get_text(config, "mediaType", NULL));
    if (add_digest(&out->blobs, arena, config, "config", err) < 0)
        return -1;
    return add_all(document, "layers", &out->blobs, arena, err);
}

static int read_rest(json_t *document, struct arena *arena, struct manifest *out, struct err *err)
{
    const char *subject = NULL;
    json_t *named = json_object_get(document, "subject"), *annotations = json_object_get(document, "annotations");
    if (json_get_int(document, "schemaVersion", 0) != 2)
        return err_set(err, ERR_INVALID_ARGUMENT, "schemaVersion: not 2");
    if (json_is_object(named) && take_digest(named, "subject", &subject, err) < 0)
        return -1;
    out->subject = arena_strdup(arena, subject);
    out->artifact_type = arena_strdup(arena, json_get_text(document, "artifactType", NULL));
    if (str_empty(out->artifact_type))
        out->artifact_type = NULL;
    if (json_is_object(annotations)) {
        _cleanup_free_ char *text = json_text(annotations);
        out->annotations = arena_strdup(arena, text);
    }
    return 0;
}

int manifest_read(const char *text, size_t size, const char *content_type, struct arena *arena, struct manifest *out,
                  struct err *err)
{
    _cleanup_json_ json_t *document = NULL;
    const struct media_row *media;
    *out = (struct manifest){ 0 };
    if (json_parse(text, size, &document, err) < 0)
        return -1;
    if (!json_is_object(document))
        return err_set(err, ERR_INVALID_ARGUMENT, "not a JSON object");
    if (find_kind(content_type, document, &media, err) < 0 || read_rest(document, arena, out, err) < 0)
        return -1;
    out->media_type = media->name;
    return media->kind == IMAGE ? read_image(document, arena, out, err)
                                : add_all(document, "manifests", &out->children, arena, err);
}
