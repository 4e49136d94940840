// What becomes of a build's result, as BuildKit's door asks the engine for it: bytes, files, a push; and images of --cache-from.
#include "api_private.h"
#include "builder/builder.h"
#include "buildkit/buildkit.h"
#include "engine/steps.h"

// ---- bytes ----------------------------------------------------------------------------------------------------------

int relay_pipe(void *context, int pipe_fd, size_t size)
{
    struct relay *relay = context;
    char data[65536];
    while (size > 0) {
        ssize_t got = fd_read_full(pipe_fd, data, MIN_OF(size, sizeof(data)), &relay->err);
        if (got <= 0 || relay->bytes(relay->of, data, (size_t)got, &relay->err) < 0)
            return -1;
        size -= (size_t)got;
    }
    return 0;
}

static int export(void *of, const struct buildkit_export *asked, buildkit_bytes_fn *bytes, void *bytes_of, const struct cancel *cancel, struct err *err)
{
    const struct api *api = of;
    struct relay relay = { .bytes = bytes, .of = bytes_of };
    int result = asked->archive ? image_archive(api->engine, asked->image, &asked->names, relay_pipe, &relay, cancel, err)
                                : image_root_tar(api->engine, asked->image, asked->same_time ? &asked->time : NULL, relay_pipe, &relay, cancel, err);
    if (result < 0 && relay.err.class != ERR_NONE)
        *err = relay.err; // the one who reads knows why
    return result;
}

static int open_tree(void *of, const char *image, struct err *err)
{
    const struct api *api = of;
    return tree_of_image(api->engine, image, err);
}

static int open_file(void *of, int tree_fd, const char *path, struct err *err)
{
    return tree_open_file(tree_fd, path, err);
}

// ---- registries -----------------------------------------------------------------------------------------------------

struct pushing {
    buildkit_progress_fn *progress;
    void *of;
    struct arena *arena;
    char *digest;
};

static int take_line(void *context, json_t *object)
{
    struct pushing *pushing = context;
    const json_t *aux = json_object_get(object, "aux");
    if (aux)
        pushing->digest = arena_strdup(pushing->arena, json_get_text(aux, "Digest", ""));
    return pushing->progress(pushing->of, object);
}

static int push(void *of, struct buildkit_session *session, const char *image, const char *name, buildkit_progress_fn *progress, void *progress_of, struct arena *arena,
                char **digest, const struct cancel *cancel, struct err *err)
{
    const struct api *api = of;
    struct image_ref ref;
    struct pushing pushing = { .progress = progress, .of = progress_of, .arena = arena };
    if (image_ref_parse(name, true, arena, &ref, err) < 0)
        return -1;
    const struct engine_login login = buildkit_login_for(session, ref.domain, arena);
    int result = image ? image_push_as(api->engine, image, ref.familiar, &login, take_line, &pushing, cancel, err)
                       : engine_push(api->engine, ref.familiar_name, ref.tag, &login, take_line, &pushing, cancel, err);
    if (result < 0)
        return -1;
    *digest = pushing.digest;
    return 0;
}

static int cache_from(void *of, struct buildkit_session *session, const char *reference, buildkit_progress_fn *progress, void *progress_of,
                      struct arena *arena, char **image_id, const struct cancel *cancel, struct err *err)
{
    const struct api *api = of;
    struct image_ref ref;
    if (image_ref_parse(reference, true, arena, &ref, err) < 0)
        return -1;
    const struct build_import import = { .reference = reference, .login = buildkit_login_for(session, ref.domain, arena) };
    return builder_import(api->builder, &import, progress, progress_of, arena, image_id, cancel, err);
}

struct folder {
    const struct buildkit_build *build;
    const char *store, *digest;
};

static int give_archive(void *of, build_take_fn *take, void *with, struct err *err)
{
    const struct folder *folder = of;
    return buildkit_archive(folder->build, folder->store, folder->digest, NULL, take, with, err);
}

static int cache_from_folder(void *of, const struct buildkit_build *build, const char *store, const char *digest, struct arena *arena, char **image_id,
                             const struct cancel *cancel, struct err *err)
{
    const struct api *api = of;
    struct folder folder = { build, store, digest };
    const struct build_import import = { .digest = digest, .archive = give_archive, .archive_of = &folder };
    return builder_import(api->builder, &import, NULL, NULL, arena, image_id, cancel, err);
}

void buildkit_results(struct buildkit_config *config)
{
    config->cache_from = cache_from;
    config->cache_from_folder = cache_from_folder;
    config->export = export;
    config->tree = open_tree;
    config->file = open_file;
    config->push = push;
}
