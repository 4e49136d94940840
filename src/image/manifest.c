// Manifests as records; beside no query, because the worker reads them too and has no store.
#include "image/image.h"

static const struct json_field manifest_fields[] = {
    JSON_FIELD("image_id", JSON_TEXT, struct image_manifest, image_id),
    JSON_FIELD("repository", JSON_TEXT, struct image_manifest, repository, .required = true),
    JSON_FIELD("digest", JSON_TEXT, struct image_manifest, digest, .required = true),
    JSON_FIELD("media_type", JSON_TEXT, struct image_manifest, media_type, .required = true),
    JSON_FIELD("text", JSON_TEXT, struct image_manifest, text, .required = true),
    JSON_FIELD("shared", JSON_INT, struct image_manifest, shared),
};
const struct json_table image_manifest_table = JSON_TABLE(struct image_manifest, manifest_fields);
