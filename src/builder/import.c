// An image of --cache-from that is not here: fetched, and kept as a row of the cache, by its name, so that pruning finds it.
#include "builder_private.h"

static int note(struct builder *builder, const char *reference, const char *id, struct arena *arena, struct err *err)
{
    char key[OCI_DIGEST_SIZE];
    const char *text = arena_printf(arena, "importing cache manifest from %s", reference);
    image_digest(text, strlen(text), key);
    return cache_note(builder, key, id, text, err);
}

int builder_import(struct builder *builder, const struct build_import *import, engine_progress_fn *progress, void *context, struct arena *arena,
                   char **id, const struct cancel *cancel, struct err *err)
{
    struct image image;
    struct err missing = { 0 };
    if (image_get(engine_images(builder->engine), import->reference, arena, &image, &missing) == 0) {
        *id = image.id;
        return 0;
    }
    if (missing.class != ERR_NOT_FOUND)
        return err_set(err, missing.class, "%s", missing.message);
    if (image_pull_unseen(builder->engine, import->reference, &import->login, progress, context, arena, id, cancel, err) < 0)
        return -1;
    return note(builder, import->reference, *id, arena, err);
}
