// The builder as BuildKit's door sees it: what a client asked for there becomes the request that POST /build makes.
#include "api_private.h"
#include "builder/builder.h"
#include "buildkit/buildkit.h"

// ---- HostConfig of the steps' containers ----------------------------------------------------------------------------

// "nofile=1024:2048", "nofile=1024".
static int put_ulimit(json_t *list, const char *text, struct err *err)
{
    struct slice rest = slice_of(text), name, soft;
    int64_t low, high;
    if (slice_cut(&rest, '=', &name) && slice_cut(&rest, ':', &soft) && name.size && num_parse_i64(soft, &low) &&
        num_parse_i64(rest.data ? rest : soft, &high)) {
        json_array_append_new(list, json_pack("{s:s%, s:I, s:I}", "Name", name.data, name.size, "Soft", (json_int_t)low, "Hard", (json_int_t)high));
        return 0;
    }
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid ulimit: %.100s", text);
}

static int put_ulimits(json_t *host, const struct strv *ulimits, struct err *err)
{
    _cleanup_json_ json_t *list = json_array();
    for (size_t i = 0; i < ulimits->len; i++)
        if (put_ulimit(list, ulimits->items[i], err) < 0)
            return -1;
    if (ulimits->len)
        json_object_set(host, "Ulimits", list);
    return 0;
}

static int make_host(const struct buildkit_build *build, json_t **out, struct err *err)
{
    json_t *host = *out = json_object();
    if (build->extra_hosts.len)
        json_object_set_new(host, "ExtraHosts", shape_texts(&build->extra_hosts));
    if (build->network)
        json_object_set_new(host, "NetworkMode", json_new_text(build->network));
    if (build->cgroup_parent)
        json_object_set_new(host, "CgroupParent", json_new_text(build->cgroup_parent));
    if (build->shm_size)
        json_object_set_new(host, "ShmSize", json_integer(build->shm_size));
    return put_ulimits(host, &build->ulimits, err);
}

// ---- one build ------------------------------------------------------------------------------------------------------

struct asking {
    const struct buildkit_build *build;
    struct buildkit_session *session;
    struct arena *arena;
};

// The client knows Docker Hub by its host. A client that can't be asked has no login.
struct engine_login buildkit_login_for(struct buildkit_session *session, const char *domain, struct arena *arena)
{
    char *username = NULL, *secret = NULL;
    const char *host = str_eq(domain, "docker.io") ? "registry-1.docker.io" : domain;
    if (buildkit_login(session, host, arena, &username, &secret, NULL) < 0 || str_empty(secret))
        return (struct engine_login){ 0 };
    return str_empty(username) ? (struct engine_login){ .identity_token = secret } : (struct engine_login){ .username = username, .password = secret };
}

static struct engine_login login_for(void *of, const char *domain)
{
    const struct asking *asking = of;
    return buildkit_login_for(asking->session, domain, asking->arena);
}

static int secret_for(void *of, const char *id, struct buf *out, struct err *err)
{
    const struct asking *asking = of;
    return buildkit_secret(asking->session, id, out, err);
}

static int agent_for(void *of, const char *id, int listen_fd, int stop_fd, struct err *err)
{
    const struct asking *asking = of;
    return buildkit_agent(asking->session, id, listen_fd, stop_fd, err);
}

static int folder_for(void *of, const char *name, struct build_kept **out, struct err *err)
{
    const struct asking *asking = of;
    return buildkit_folder(asking->build, name, out, err);
}

static int layout_for(void *of, const char *store, const char *digest, const char *platform, build_take_fn *take, void *with, struct err *err)
{
    const struct asking *asking = of;
    return buildkit_archive(asking->build, store, digest, platform, take, with, err);
}

static int dockerfile_for(void *of, struct slice text, struct err *err)
{
    const struct asking *asking = of;
    return buildkit_dockerfile(asking->build, text, err);
}

static void give_sources(const struct build_result *built, struct arena *arena, struct buildkit_built *out)
{
    *out = (struct buildkit_built){ .image = built->id, .cache = built->cache_id, .sources = arena_alloc(arena, (built->source_len + 1) * sizeof(*out->sources)),
                                    .source_len = built->source_len };
    for (size_t i = 0; i < built->source_len; i++) {
        const struct build_source *source = &built->sources[i];
        out->sources[i] = (struct buildkit_source){ (int)source->kind, source->name, source->digest, source->platform, source->optional };
    }
}

static int build_image(void *of, const struct buildkit_build *asked, int context_fd, buildkit_progress_fn *progress, void *progress_of,
                       struct arena *arena, struct buildkit_built *out, const struct cancel *cancel, struct err *err)
{
    const struct api *api = of;
    struct asking asking = { asked, asked->session, arena };
    struct build_result built;
    _cleanup_json_ json_t *host = NULL;
    struct build_request request = { .dockerfile = asked->dockerfile_name, .dockerfile_text = asked->dockerfile, .cache_from = asked->cache_from,
                                     .args = asked->args, .labels = asked->labels, .target = asked->target, .platform = asked->platform,
                                     .no_cache = asked->no_cache, .pull = asked->pull, .force_remove = true, .live = true,
                                     .no_cache_stages = asked->no_cache_stages, .unseen = asked->unseen, .times = asked->times,
                                     .login = login_for, .login_of = &asking, .secret = secret_for, .secret_of = &asking,
                                     .remote = asked->remote, .kept = asked->kept, .contexts = asked->contexts, .folder = folder_for, .folder_of = &asking,
                                     .layout = layout_for, .layout_of = &asking, .agent = agent_for, .agent_of = &asking,
                                     .dockerfile_found = dockerfile_for, .dockerfile_of = &asking };
    if (build_tags(&asked->tags, arena, &request.tags, err) < 0 || make_host(asked, &host, err) < 0)
        return -1;
    if (asked->cache_out)
        request.cache_out = asked->cache_out == BUILDKIT_CACHE_MAX ? BUILD_CACHE_MAX : BUILD_CACHE_MIN;
    request.cache_more = asked->cache_more;
    build_sort_labels(&request.labels);
    request.host = host;
    if (builder_build(api->builder, &request, context_fd, progress, progress_of, arena, &built, cancel, err) < 0) {
        *out = (struct buildkit_built){ .line = built.line, .last_line = built.last_line, .dockerfile = built.dockerfile };
        return buildkit_words(built.exit_code, err);
    }
    give_sources(&built, arena, out);
    return 0;
}

// ---- the cache ------------------------------------------------------------------------------------------------------

static int list_cache(void *of, const struct strv *filters, struct arena *arena, struct buildkit_record **out, size_t *len, struct err *err)
{
    const struct api *api = of;
    struct build_entry *entries;
    if (builder_cache(api->builder, filters, arena, &entries, len, err) < 0)
        return -1;
    *out = arena_alloc(arena, (*len + 1) * sizeof(**out));
    for (size_t i = 0; i < *len; i++)
        (*out)[i] = (struct buildkit_record){ entries[i].id, entries[i].parent, entries[i].description, entries[i].size,
                                              entries[i].created_ns, entries[i].used_ns, entries[i].uses, entries[i].shared, entries[i].in_use, entries[i].type };
    return 0;
}

// What was deleted is told without the digest's algorithm.
static bool is_among(const struct strv *deleted, const char *id)
{
    const char *colon = strchr(id, ':');
    return strv_has(deleted, colon ? colon + 1 : id);
}

static int prune_cache(void *of, const struct buildkit_prune *asked, struct arena *arena, struct buildkit_record **out, size_t *len,
                       struct err *err)
{
    const struct api *api = of;
    const struct build_prune prune = { asked->all, asked->unused_before_ns, asked->keep_size, asked->max_size, asked->min_free, asked->filters };
    struct buildkit_record *before;
    struct strv deleted = { 0 };
    int64_t reclaimed = 0;
    size_t before_len, gone = 0;
    if (list_cache(of, NULL, arena, &before, &before_len, err) < 0 || builder_prune(api->builder, &prune, arena, &deleted, &reclaimed, err) < 0)
        return -1;
    for (size_t i = 0; i < before_len; i++)
        if (is_among(&deleted, before[i].id))
            before[gone++] = before[i];
    engine_pruned(api->engine, "builder", reclaimed);
    *out = before;
    *len = gone;
    return 0;
}

static int open_kept(void *of, const char *key, const char *description, struct build_kept **out, struct err *err)
{
    const struct api *api = of;
    return build_kept_open(api->builder, key, description, out, err);
}

static bool plain_image(void *of, const char *name)
{
    const struct api *api = of;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image image;
    struct err missing = { 0 };
    return image_get(engine_images(api->engine), name, &arena, &image, &missing) == 0 && image.config.config.on_build.len == 0;
}

static const struct strv *image_env(void *of, const char *name, struct arena *arena)
{
    const struct api *api = of;
    struct image *image = arena_alloc(arena, sizeof(*image));
    struct err missing = { 0 };
    return image_get(engine_images(api->engine), name, arena, image, &missing) == 0 ? &image->config.config.env : NULL;
}

void buildkit_functions(struct api *api, struct buildkit_config *config)
{
    config->of = api;
    config->build = build_image;
    config->keeping = (struct buildkit_keeping){ open_kept, build_kept_listing, build_kept_change, build_kept_settle, build_kept_free };
    buildkit_results(config);
    buildkit_layouts(config);
    buildkit_scans(config);
    config->plain_image = plain_image;
    config->image_env = image_env;
    config->cache = list_cache;
    config->prune = prune_cache;
}
