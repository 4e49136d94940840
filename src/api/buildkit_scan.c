// A generator of bills of materials over an image, by BuildKit's protocol for them: it finds the root to look at where BUILDKIT_SCAN_SOURCE says, and
// writes to BUILDKIT_SCAN_DESTINATION. It is a build of ours like any other: so it has the walls, the limits and the cache of one.
#include "api_private.h"
#include "builder/builder.h"
#include "buildkit/buildkit.h"

#define SOURCE "/run/src/core/sbom"
#define DESTINATION "/run/out/"
#define EMPTY_TAR 1024

struct scan {
    const struct api *api;
    struct buildkit_session *session;
    struct arena *arena;
    buildkit_progress_fn *progress;
    void *progress_of;
    const struct cancel *cancel;
};

static struct engine_login login_for(void *of, const char *domain)
{
    const struct scan *scan = of;
    return buildkit_login_for(scan->session, domain, scan->arena);
}

// Of a Dockerfile without a context; *image in the arena.
static int build_text(struct scan *scan, const char *text, const struct kvs *contexts, char **image, struct err *err)
{
    struct build_result built = { 0 };
    _cleanup_json_ json_t *host = json_object();
    const struct build_request request = { .dockerfile = "Dockerfile", .dockerfile_text = slice_of(text), .force_remove = true, .live = true, .unseen = true,
                                           .login = login_for, .login_of = scan, .contexts = *contexts, .host = host };
    static const char empty[EMPTY_TAR]; // what a pipe holds
    int ends[2];
    if (fd_pipe(ends, err) < 0)
        return -1;
    _cleanup_close_ int nothing = ends[0];
    int written = fd_write_full(ends[1], empty, sizeof(empty), err);
    fd_close(ends[1]);
    if (written < 0 || builder_build(scan->api->builder, &request, nothing, scan->progress, scan->progress_of, scan->arena, &built, scan->cancel, err) < 0)
        return buildkit_words(built.exit_code, err);
    *image = built.id;
    return 0;
}

// As the generator's image says that it is run.
static int command_of(struct scan *scan, const char *generator, const char *id, const char **command, const char **folder, struct err *err)
{
    struct image image;
    if (image_get(engine_images(scan->api->engine), id, scan->arena, &image, err) < 0)
        return -1;
    _cleanup_json_ json_t *words = json_array();
    const struct strv *parts[] = { &image.config.config.entrypoint, &image.config.config.cmd };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        for (size_t at = 0; at < parts[i]->len; at++)
            json_array_append_new(words, json_new_text(parts[i]->items[at]));
    if (json_array_size(words) == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "scanner %.200s does not have cmd", generator);
    _cleanup_free_ char *text = json_text(words);
    *command = arena_strdup(scan->arena, text);
    *folder = str_empty(image.config.config.working_dir) ? "/" : image.config.config.working_dir;
    return strpbrk(*folder, "\"\n\\") ? err_set(err, ERR_INVALID_ARGUMENT, "scanner %.200s has an odd working directory", generator) : 0;
}

static int scan_image(void *of, struct buildkit_session *session, const char *generator, const char *image, buildkit_progress_fn *progress, void *progress_of,
                      struct arena *arena, char **out, const struct cancel *cancel, struct err *err)
{
    struct scan scan = { of, session, arena, progress, progress_of, cancel };
    struct image_ref ref;
    char *id = NULL;
    const char *command = "", *folder = "/";
    if (image_ref_parse(generator, true, arena, &ref, err) < 0 ||
        build_text(&scan, arena_printf(arena, "FROM %s\n", ref.familiar), &(const struct kvs){ 0 }, &id, err) < 0 ||
        command_of(&scan, generator, id, &command, &folder, err) < 0)
        return -1;
    struct kv named[] = { { arena_strdup(arena, "berth-scan-generator"), arena_printf(arena, "docker-image://%s", id) },
                          { arena_strdup(arena, "berth-scan-target"), arena_printf(arena, "docker-image://%s", image) } };
    const char *text = arena_printf(arena,
                                    "FROM berth-scan-generator AS generator\n"
                                    "ENV BUILDKIT_SCAN_DESTINATION=" DESTINATION " BUILDKIT_SCAN_SOURCE=" SOURCE "\n"
                                    "WORKDIR " DESTINATION "\n"
                                    "WORKDIR \"%s\"\n"
                                    "RUN --mount=type=bind,from=berth-scan-target,target=" SOURCE " --mount=type=tmpfs,target=/tmp %s\n"
                                    "FROM scratch\n"
                                    "COPY --from=generator " DESTINATION " /\n",
                                    folder, command);
    return build_text(&scan, text, &(const struct kvs){ named, ARRAY_LEN(named) }, out, err);
}

void buildkit_scans(struct buildkit_config *config)
{
    config->scan = scan_image;
}
