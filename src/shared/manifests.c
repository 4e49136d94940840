// Which manifest an image has here: one that it came with, as long as all that it names can be given; else the one with plain tars.
#include <string.h>

#include "base/fd.h"
#include "shared_private.h"

static int has_blob(struct shared *shared, const char *digest, struct err *err)
{
    struct image_blob blob = { -1, -1, 0 };
    int found = digest ? image_blob_open(shared->images, digest, false, &blob, err) : 0;
    image_blob_done(&blob);
    return found;
}

// 1: all of its blobs are there.
static int is_whole(struct shared *shared, const struct image_manifest *manifest, struct arena *arena, struct err *err)
{
    struct oci_manifest read;
    if (json_decode_text(&oci_manifest_table, manifest->text, strlen(manifest->text), &read, arena, NULL, NULL) < 0)
        return 0;
    int found = has_blob(shared, read.config.digest, err);
    for (size_t i = 0; i < read.layers.len && found > 0; i++)
        found = has_blob(shared, ((const struct oci_descriptor *)json_list_at(&read.layers, &oci_descriptor_table, i))->digest, err);
    return found;
}

// One that the image came with under this name: that of the digest, if it is among them, else (not `exactly`) another. 1, or 0.
static int find_kept(struct shared *shared, const struct image *image, const struct image_ref *ref, const char *digest, bool exactly,
                     struct arena *arena, struct registry_manifest *out, struct err *err)
{
    struct json_list known;
    const char *repository = arena_printf(arena, "%s/%s", ref->domain, ref->path);
    int result = 0;
    if (image_manifests(shared->images, image->id, arena, &known, err) < 0)
        return -1;
    for (size_t i = 0; i < known.len; i++) {
        const struct image_manifest *manifest = json_list_at(&known, &image_manifest_table, i);
        bool wanted = digest && str_eq(manifest->digest, digest);
        if (!str_eq(manifest->image_id, image->id) || !str_eq(manifest->repository, repository) || (!wanted && (exactly || result > 0)))
            continue;
        int whole = is_whole(shared, manifest, arena, err);
        if (whole < 0)
            return -1;
        if (whole)
            *out = (struct registry_manifest){ manifest->digest, manifest->media_type, manifest->text };
        if (whole && wanted)
            return 1;
        result = result || whole;
    }
    return result;
}

static int make_plain(struct shared *shared, const struct image *image, struct arena *arena, struct registry_manifest *out, struct err *err)
{
    char digest[OCI_DIGEST_SIZE];
    char *text = image_plain_manifest(shared->images, image, arena, digest, err);
    if (!text)
        return -1;
    *out = (struct registry_manifest){ arena_strdup(arena, digest), (char *)MEDIA_OCI_MANIFEST, text };
    return 1;
}

static int by_tag(struct shared *shared, const struct image_ref *ref, const char *tag, const char *last, struct arena *arena,
                  struct registry_manifest *out, struct err *err)
{
    struct image image;
    struct err missing = { 0 };
    if (!image_tag_valid(tag))
        return 0;
    if (image_get(shared->images, arena_printf(arena, "%s:%s", ref->familiar_name, tag), arena, &image, &missing) < 0)
        return missing.class == ERR_NOT_FOUND ? 0 : (*err = missing, -1);
    int found = find_kept(shared, &image, ref, last, false, arena, out, err);
    return found ? found : make_plain(shared, &image, arena, out, err);
}

// Of the images that have the repository's name.
static int by_digest(struct shared *shared, const struct image_ref *ref, const char *digest, struct arena *arena, struct registry_manifest *out,
                     struct err *err)
{
    struct strv ids = { 0 };
    if (image_repository_images(shared->images, ref->familiar_name, arena, &ids, err) < 0)
        return -1;
    for (size_t i = 0; i < ids.len; i++) {
        struct image image;
        // It may go while we look.
        if (image_get(shared->images, ids.items[i], arena, &image, NULL) < 0)
            continue;
        int found = find_kept(shared, &image, ref, digest, true, arena, out, err);
        if (found != 0)
            return found;
        if (make_plain(shared, &image, arena, out, NULL) > 0 && str_eq(out->digest, digest))
            return 1;
    }
    return 0;
}

int shared_manifest(void *context, const char *repository, const char *reference, const char *last, struct arena *arena,
                    struct registry_manifest *out, struct err *err)
{
    struct shared *shared = context;
    struct image_ref ref;
    if (!shared_ref(repository, arena, &ref))
        return 0;
    return strchr(reference, ':') ? by_digest(shared, &ref, reference, arena, out, err) : by_tag(shared, &ref, reference, last, arena, out, err);
}
