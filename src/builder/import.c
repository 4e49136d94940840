// Images that are not here, and come for a build: those of --cache-from, fetched from their registry or out of a folder of the client's, and those
// of its OCI layouts. They are kept as rows of the cache, by what they are called, so that pruning finds them.
#include "builder_private.h"

static const char *key_of(const char *text, char key[OCI_DIGEST_SIZE])
{
    image_digest(text, strlen(text), key);
    return key;
}

// ---- archives -------------------------------------------------------------------------------------------------------

struct loading {
    struct engine *engine;
    struct arena *arena;
    char *id;
    const struct cancel *cancel;
};

static int load(void *with, int tar_fd, struct err *err)
{
    struct loading *loading = with;
    return image_load_unseen(loading->engine, tar_fd, loading->arena, &loading->id, loading->cancel, err);
}

static int take_id(void *context, const struct store_row *row, struct err *err)
{
    struct loading *loading = context;
    loading->id = arena_strdup(loading->arena, store_text(row, 0));
    return 0;
}

int import_archive(struct builder *builder, const char *name, const struct import_source *source, struct arena *arena, char **id,
                   const struct cancel *cancel, struct err *err)
{
    char key[OCI_DIGEST_SIZE];
    struct loading loading = { builder->engine, arena, NULL, cancel };
    if (store_query(builder->store, err, take_id, &loading, "SELECT image_id FROM build_cache WHERE key = ?", "t", key_of(name, key)) < 0)
        return -1;
    if (!loading.id && (source->archive(source->of, load, &loading, err) < 0 || cache_note(builder, key, loading.id, name, err) < 0))
        return -1;
    *id = loading.id;
    return 0;
}

// ---- other platforms ------------------------------------------------------------------------------------------------

int import_foreign(struct build *build, const char *name, const char *platform, const char **id, struct err *err)
{
    char key[OCI_DIGEST_SIZE];
    struct image_ref ref;
    struct loading loading = { .arena = build->arena };
    if (image_ref_parse(name, true, build->arena, &ref, err) < 0)
        return -1;
    const char *text = arena_printf(build->arena, "image %s for %s", ref.familiar, platform);
    if (store_query(build->builder->store, err, take_id, &loading, "SELECT image_id FROM build_cache WHERE key = ?", "t", key_of(text, key)) < 0)
        return -1;
    if (!loading.id || build->request->pull) {
        const struct engine_login login = crew_login(build, ref.domain);
        if (image_pull_unseen(build->engine, name, platform, &login, say_progress, build, build->arena, &loading.id, build->cancel, err) < 0 ||
            cache_note(build->builder, key, loading.id, text, err) < 0)
            return -1;
    }
    source_note(build, &(const struct build_source){ BUILD_SOURCE_IMAGE, name, loading.id, platform, false });
    *id = loading.id;
    return 0;
}

// ---- --cache-from ---------------------------------------------------------------------------------------------------

static int import_registry(struct builder *builder, const struct build_import *import, engine_progress_fn *progress, void *context, struct arena *arena,
                           char **id, const struct cancel *cancel, struct err *err)
{
    char key[OCI_DIGEST_SIZE];
    const char *text = arena_printf(arena, "importing cache manifest from %s", import->reference);
    struct image image;
    struct err missing = { 0 };
    if (image_get(engine_images(builder->engine), import->reference, arena, &image, &missing) == 0) {
        *id = image.id;
        return 0;
    }
    if (missing.class != ERR_NOT_FOUND)
        return err_set(err, missing.class, "%s", missing.message);
    if (image_pull_unseen(builder->engine, import->reference, NULL, &import->login, progress, context, arena, id, cancel, err) < 0)
        return -1;
    return cache_note(builder, key_of(text, key), *id, text, err);
}

int builder_import(struct builder *builder, const struct build_import *import, engine_progress_fn *progress, void *context, struct arena *arena,
                   char **id, const struct cancel *cancel, struct err *err)
{
    const struct import_source source = { import->archive, import->archive_of };
    if (!import->archive)
        return import_registry(builder, import, progress, context, arena, id, cancel, err);
    return import_archive(builder, arena_printf(arena, "importing cache manifest from local:%s", import->digest), &source, arena, id, cancel, err);
}
