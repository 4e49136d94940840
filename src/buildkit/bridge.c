// LLBBridge: the client builds a Dockerfile inside its own Control.Solve.
//
// The client's folder is brought up to date before the build begins (sync.c). What it has read from its standard input comes through a pipe, which a
// second thread fills. That thread's error is the more telling one of the two, unless the build has closed the pipe because it had failed itself.
#include <errno.h>
#include <pthread.h>

#include "base/fd.h"
#include "base/num.h"
#include "buildkit_private.h"

// What a client may ask a builder for. None is listed that is not there.
static const char *const frontend_caps[] = { "solve.base", "return", "proto.refarray", "frontend.caps" };
static const char *const llb_caps[] = { "source.image",
                                        "source.image.resolvemode",
                                        "source.local",
                                        "source.local.unique",
                                        "source.local.sessionid",
                                        "source.local.includepatterns",
                                        "source.local.followpaths",
                                        "source.local.excludepatterns",
                                        "source.local.sharedkeyhint",
                                        "exec.meta.base",
                                        "exec.meta.proxyenv",
                                        "exec.meta.network",
                                        "file.base",
                                        "constraints",
                                        "platform",
                                        "meta.description",
                                        "exporter.multiple",
                                        "exporter.image.attestations",
                                        "exporter.sourcedateepoch" };

static struct proto_list caps_of(const char *const *ids, size_t len, struct arena *arena)
{
    struct cap_message *caps = arena_alloc(arena, len * sizeof(*caps));
    for (size_t i = 0; i < len; i++)
        caps[i] = (struct cap_message){ arena_strdup(arena, ids[i]), true };
    return (struct proto_list){ caps, len };
}

static int solve_of(struct buildkit *buildkit, struct grpc_call *call, struct solve **out, struct err *err)
{
    return solve_get(buildkit, grpc_metadata(call, "buildkit-controlapi-buildid"), grpc_cancel(call), out, err);
}

int handle_ping(void *context, struct grpc_call *call, struct err *err)
{
    struct empty_message request;
    struct solve *solve;
    struct arena *arena = grpc_arena(call);
    if (take_message(call, &empty_table, &request, err) < 0 || solve_of(context, call, &solve, err) < 0)
        return -1;
    solve_put(solve);
    const struct pong_message pong = { caps_of(frontend_caps, ARRAY_LEN(frontend_caps), arena), caps_of(llb_caps, ARRAY_LEN(llb_caps), arena),
                                       { worker_of(context, arena), 1 } };
    return send_message(call, &pong_table, &pong, err);
}

// What went wrong in a build is the build's, not the protocol's: BuildKit tells it without a code of its own, and clients show the text alone.
static int plain_error(struct err *err)
{
    if (err->class != ERR_CANCELLED) {
        err->class = ERR_INTERNAL;
        err->number = EREMOTE;
    }
    return -1;
}

// ---- one build ------------------------------------------------------------------------------------------------------

struct build {
    struct solve *solve;
    struct buildkit_session *session;
    const struct kvs *options;
    struct arena *arena;
    const struct cancel *cancel;
    struct buildkit_build asked;
    struct asked more;
    struct buildkit_built built[PLATFORMS_MAX];
    size_t built_len;
    const char *question; // instead of a build; NULL
    struct kvs answer;
    bool answered; // it had no image to make
    struct strv excludes;
    struct buf dockerfile, ignore;
    char definition[STEP_DIGEST_SIZE]; // the step that has loaded the Dockerfile
    struct warnings warnings;
};

static const char *option_of(const struct kvs *options, const char *name, const char *fallback)
{
    const char *value = kvs_get(options, name);
    return str_empty(value) ? fallback : value;
}

static const char *option(const struct build *build, const char *name, const char *fallback)
{
    return option_of(build->options, name, fallback);
}

// Where a Dockerfile is a link, it is another file of the same folder.
static int follow_links(struct build *build, const char *folder, struct wanted *file, struct step *step, struct err *err)
{
    enum { LINKS_MAX = 8 };
    for (int i = 0; i < LINKS_MAX && !file->found && file->link; i++) {
        const char *slash = strrchr(file->name, '/');
        const char *path = arena_printf(build->arena, "%.*s%s", slash ? (int)(slash - file->name) + 1 : 0, file->name, file->link);
        file->name = path_clean(slice_of(path), build->arena);
        free(take_ptr(&file->link));
        if (file->name[0] == '/' || str_starts(file->name, ".."))
            return 0;
        if (wanted_read(build->session, folder, file, 1, step, build->cancel, err) < 0)
            return -1;
    }
    return 0;
}

static int load_dockerfile(struct build *build, struct err *err)
{
    const char *name = option(build, "filename", "Dockerfile"), *folder = option(build, "dockerfilekey", "dockerfile");
    struct step step;
    struct wanted files[] = { { name, BUF_INIT(DOCKERFILE_MAX), false, NULL },
                              { arena_printf(build->arena, "%s.dockerignore", name), BUF_INIT(IGNORE_MAX), false, NULL } };
    step_start(&step, build->solve, arena_printf(build->arena, "[internal] load build definition from %s", name));
    memcpy(build->definition, step.digest, sizeof(build->definition));
    int result = wanted_read(build->session, folder, files, ARRAY_LEN(files), &step, build->cancel, err);
    if (result == 0)
        result = follow_links(build, folder, &files[0], &step, err);
    if (result == 0 && !files[0].found)
        result = err_set(err, ERR_NOT_FOUND, "failed to read dockerfile: open %s: no such file or directory", name);
    step_end(&step, result < 0 ? err : NULL);
    free(files[0].link);
    free(files[1].link);
    build->dockerfile = files[0].text;
    build->ignore = files[1].text;
    build->asked.dockerfile = (struct slice){ buf_text(&build->dockerfile), build->dockerfile.size };
    build->asked.dockerfile_name = name;
    return result < 0 ? -1 : files[1].found;
}

// An ignore file of the Dockerfile's own goes before the context's.
static int load_ignore(struct build *build, bool own, struct err *err)
{
    struct step step;
    struct wanted file = { ".dockerignore", BUF_INIT(IGNORE_MAX), false, NULL };
    int result = 0;
    if (!own) {
        step_start(&step, build->solve, "[internal] load .dockerignore");
        result = wanted_read(build->session, option(build, "contextkey", "context"), &file, 1, &step, build->cancel, err);
        step_end(&step, result < 0 ? err : NULL);
        free(file.link);
        build->ignore = file.text;
    }
    ignore_patterns((struct slice){ buf_text(&build->ignore), build->ignore.size }, build->arena, &build->excludes);
    return result;
}

// ---- bytes of the client's ------------------------------------------------------------------------------------------

// What a thread writes into a pipe.
struct upload {
    struct build *build;
    const char *step; // its name; NULL: it is told by another
    const char *url; // what the client calls what it has read
    const struct layout_request *layout; // instead: an image
    int fd;
    struct err err;
    bool failed, unread; // unread: the build closed its end
};

static void *upload_run(void *of)
{
    struct upload *upload = of;
    const struct build *build = upload->build;
    struct step step = { 0 };
    if (upload->step)
        step_start(&step, build->solve, upload->step);
    upload->failed = (upload->layout ? layout_receive(build->session, upload->layout, &step, upload->fd, build->cancel, &upload->err)
                                     : upload_receive(build->session, upload->url, upload->fd, build->cancel, &upload->err)) < 0;
    upload->unread = upload->failed && upload->err.number == EPIPE;
    step_end(&step, upload->failed && !upload->unread ? &upload->err : NULL);
    fd_close(upload->fd);
    return NULL;
}

static int with_upload(struct upload *upload, buildkit_take_fn *take, void *with, struct err *err)
{
    int ends[2];
    pthread_t thread;
    if (fd_pipe(ends, err) < 0)
        return -1;
    upload->fd = ends[1];
    int failed = pthread_create(&thread, NULL, upload_run, upload);
    if (failed) {
        fd_close(ends[0]);
        fd_close(ends[1]);
        return err_errno(err, failed, "start a thread");
    }
    int result = take(with, ends[0], err);
    fd_close(ends[0]);
    pthread_join(thread, NULL);
    if (upload->failed && !upload->unread) {
        *err = upload->err;
        return -1;
    }
    return result;
}

static int cache_from_registry(struct build *build, const char *name, char **id, struct err *err)
{
    const struct buildkit_config *config = &build->solve->buildkit->config;
    struct stream stream = { .solve = build->solve };
    step_start(&stream.step, build->solve, arena_printf(build->arena, "importing cache manifest from %s", name));
    int found = config->cache_from(config->of, build->session, name, stream_take, &stream, build->arena, id, build->cancel, err);
    stream_end(&stream, found < 0 ? err : NULL);
    return found;
}

static int cache_from_folder(struct build *build, const struct cache_place *place, char **id, struct err *err)
{
    const struct buildkit_config *config = &build->solve->buildkit->config;
    const char *store = arena_printf(build->arena, "local:%s", place->name);
    struct step step;
    step_start(&step, build->solve, arena_printf(build->arena, "importing cache manifest from local:%s", place->digest));
    int found = config->cache_from_folder(config->of, &build->asked, store, place->digest, build->arena, id, build->cancel, err);
    step_end(&step, found < 0 ? err : NULL);
    return found;
}

// An image of --cache-from that can't be had is said, and the build goes on without it, as BuildKit has it.
static int find_caches(struct build *build, struct err *err)
{
    for (size_t i = 0; i < build->solve->cache_from_len; i++) {
        const struct cache_place *place = &build->solve->cache_from[i];
        struct err missing = { 0 };
        char *id = NULL;
        int found = place->folder ? cache_from_folder(build, place, &id, &missing) : cache_from_registry(build, place->name, &id, &missing);
        if (found < 0 && cancel_now(build->cancel))
            return err_set(err, ERR_CANCELLED, "the build was cancelled");
        if (found == 0)
            strv_push_arena(&build->asked.cache_from, build->arena, id);
    }
    return 0;
}

static struct call_input call_of(const struct build *build, struct slice dockerfile)
{
    const struct buildkit_config *config = &build->solve->buildkit->config;
    return (struct call_input){ .source = dockerfile, .ignore = { buf_text(&build->ignore), build->ignore.size },
                                .name = build->asked.dockerfile_name, .target = build->asked.target, .args = &build->asked.args,
                                .platform = arena_printf(build->arena, "linux/%s", config->architecture) };
}

static int warn(struct build *build, bool last, struct err *err)
{
    const struct call_input input = call_of(build, build->asked.dockerfile);
    build->warnings = (struct warnings){ .solve = build->solve, .vertex = build->definition, .contexts = &build->asked.contexts };
    return build->asked.dockerfile.data ? warnings_tell(&build->warnings, &input, last, build->arena, err) : 0;
}

static int answer_question(struct build *build, struct err *err)
{
    const struct call_input input = call_of(build, build->asked.dockerfile);
    return call_answer(&input, build->question, build->arena, &build->answer, err);
}

static int bring(struct build *build, const char *folder, const char *step, const char *hint, const struct strv *excludes, const struct strv *follow,
                 struct build_kept **out, struct err *err)
{
    const struct sync_request request = { .session = build->session, .solve = build->solve, .files = { folder, excludes, follow }, .step = step, .hint = hint,
                                          .cancel = build->cancel };
    return sync_folder(&request, out, err);
}

int buildkit_folder(const struct buildkit_build *asked, const char *name, struct build_kept **out, struct err *err)
{
    struct build *build = (struct build *)((char *)asked - offsetof(struct build, asked));
    struct wanted ignore = { ".dockerignore", BUF_INIT(IGNORE_MAX), false, NULL };
    struct strv excludes = { 0 };
    struct step step;
    step_start(&step, build->solve, arena_printf(build->arena, "[context %s] load .dockerignore", name));
    int result = wanted_read(build->session, name, &ignore, 1, &step, build->cancel, err);
    step_end(&step, result < 0 ? err : NULL);
    free(ignore.link);
    ignore_patterns((struct slice){ buf_text(&ignore.text), ignore.text.size }, build->arena, &excludes);
    buf_done(&ignore.text);
    const char *said = kvs_get(build->options, arena_printf(build->arena, "sharedkey:localdir:%s", name));
    const char *hint = arena_printf(build->arena, "context:%s-%s", name, said ? said : "");
    return result < 0 ? -1 : bring(build, name, arena_printf(build->arena, "[context %s] load from client", name), hint, &excludes, NULL, out, err);
}

int buildkit_archive(const struct buildkit_build *asked, const char *store, const char *digest, const char *platform, buildkit_take_fn *take, void *with,
                     struct err *err)
{
    struct build *build = (struct build *)((char *)asked - offsetof(struct build, asked));
    const char *host = arena_printf(build->arena, "linux/%s", build->solve->buildkit->config.architecture);
    const struct layout_request request = { store, digest, str_empty(platform) ? host : platform };
    struct upload upload = { .build = build, .layout = &request }; // a cache is told by another
    if (!str_starts(store, "local:"))
        upload.step = arena_printf(build->arena, "[internal] load image %s of an OCI layout", digest);
    return with_upload(&upload, take, with, err);
}

// ---- the build ------------------------------------------------------------------------------------------------------

static int build_from(void *of, int read_fd, struct err *err)
{
    struct build *build = of;
    const struct buildkit_config *config = &build->solve->buildkit->config;
    struct stream stream = { .solve = build->solve, .platform = build->more.platforms.len > 1 ? build->asked.platform : NULL };
    struct err ignored = { 0 };
    int result = config->build(config->of, &build->asked, read_fd, stream_take, &stream, build->arena, &build->built[build->built_len], build->cancel, err);
    stream_end(&stream, result < 0 ? err : NULL);
    if (build->warnings.waits) // until the images were pulled
        warn(build, true, &ignored);
    return result;
}

static bool is_own(const struct build *build, const char *platform)
{
    return str_empty(platform) || str_eq(platform, arena_printf(build->arena, "linux/%s", build->solve->buildkit->config.architecture));
}

// One platform after the other. `upload`: a context that comes anew for each; NULL: it is kept, or the builder fetches it. Names of this daemon's are
// those of an image that runs here.
static int build_each(struct build *build, const struct upload *upload, struct err *err)
{
    const struct strv *platforms = &build->more.platforms, tags = build->asked.tags;
    const bool unseen = build->asked.unseen, several = platforms->len > 1;
    int result = 0;
    for (size_t i = 0; i < MAX_OF(platforms->len, (size_t)1) && result == 0; i++) {
        build->asked.platform = platforms->len ? platforms->items[i] : NULL;
        bool hidden = several && !is_own(build, build->asked.platform);
        build->asked.tags = hidden ? (struct strv){ 0 } : tags;
        build->asked.unseen = unseen || hidden;
        struct upload copy = upload ? *upload : (struct upload){ 0 };
        result = upload ? with_upload(&copy, build_from, build, err) : build_from(build, -1, err);
        build->built_len += result == 0;
        build->asked.cache_more = result == 0 ? build->built[i].cache : NULL;
    }
    return result;
}

#define UPLOAD "http://buildkit-session/" // what a client has read from its standard input

// The Dockerfile comes from the client, or is in the context.
static int build_remote(struct build *build, struct err *err)
{
    const char *remote = build->asked.remote;
    if (kvs_get(build->options, "dockerfilekey") && load_dockerfile(build, err) < 0)
        return -1;
    build->asked.dockerfile_name = option(build, "filename", "Dockerfile");
    if (build->question && build->asked.dockerfile.data)
        return answer_question(build, err);
    if (!build->question && (warn(build, false, err) < 0 || find_caches(build, err) < 0))
        return -1;
    const struct upload upload = { .build = build, .step = "[internal] load remote build context", .url = remote };
    bool uploads = str_starts(remote, UPLOAD);
    if (uploads)
        build->asked.remote = NULL;
    int result = build_each(build, uploads ? &upload : NULL, err);
    return build->answered ? 0 : result;
}

// Said once, of several platforms with the first. It stands at a step, as all that is said does.
int buildkit_dockerfile(const struct buildkit_build *asked, struct slice text, struct err *err)
{
    struct build *build = (struct build *)((char *)asked - offsetof(struct build, asked));
    struct step step;
    if (build->asked.dockerfile.data || build->definition[0])
        return 0;
    build->dockerfile = (struct buf){ .ceiling = DOCKERFILE_MAX };
    buf_add(&build->dockerfile, text.data, text.size);
    const struct slice kept = { buf_text(&build->dockerfile), build->dockerfile.size };
    const struct call_input input = call_of(build, kept);
    if (build->question) {
        build->answered = call_answer(&input, build->question, build->arena, &build->answer, err) == 0;
        return build->answered ? err_set(err, ERR_CANCELLED, "it was a question") : -1;
    }
    step_start(&step, build->solve, arena_printf(build->arena, "[internal] load build definition from %s", build->asked.dockerfile_name));
    memcpy(build->definition, step.digest, sizeof(build->definition));
    step_end(&step, NULL);
    build->warnings = (struct warnings){ .solve = build->solve, .vertex = build->definition, .contexts = &build->asked.contexts };
    return warnings_tell(&build->warnings, &input, true, build->arena, err);
}

static int build_local(struct build *build, struct err *err)
{
    int own = load_dockerfile(build, err);
    if (own < 0 || load_ignore(build, own > 0, err) < 0)
        return -1;
    if (build->question)
        return answer_question(build, err);
    if (warn(build, false, err) < 0 || find_caches(build, err) < 0)
        return -1;
    struct strv follow = { 0 };
    const char *folder = option(build, "contextkey", "context");
    bool some = !build->asked.pull && follow_paths(build->solve->buildkit, build->asked.dockerfile, build->arena, &follow);
    if (some && follow.len == 0) // it needs nothing
        return build_each(build, NULL, err);
    if (bring(build, folder, "[internal] load build context", folder, &build->excludes, some ? &follow : NULL, &build->asked.kept, err) < 0)
        return -1;
    int result = build_each(build, NULL, err);
    build->solve->buildkit->config.keeping.free(build->asked.kept);
    return result;
}

static int run_build(struct build *build, struct err *err)
{
    if (attributes_read(build->options, build->arena, &build->asked, &build->more, err) < 0 ||
        session_get(build->solve->buildkit, build->solve->session, build->cancel, &build->session, err) < 0)
        return -1;
    build->asked.unseen = !outputs_names(build->solve, build->arena, &build->asked.tags);
    build->asked.times = outputs_times(build->solve);
    if (build->solve->cache_to_len)
        build->asked.cache_out = build->solve->cache_max ? BUILDKIT_CACHE_MAX : BUILDKIT_CACHE_MIN;
    build->asked.session = build->session;
    return build->asked.remote ? build_remote(build, err) : build_local(build, err);
}

static int check_frontend(const struct bridge_solve_request *request, struct err *err)
{
    const char *source = kvs_get(&request->options, "source"), *frontend = request->frontend ? request->frontend : "";
    bool builtin = str_eq(frontend, "gateway.v0") && source &&
                   (str_starts(source, "docker/dockerfile") || str_starts(source, "docker.io/docker/dockerfile"));
    if (request->definition.size || request->inputs.size)
        return err_set(err, ERR_NOT_IMPLEMENTED, "build graphs (LLB) are not supported: Dockerfiles are");
    if (!str_eq(frontend, "dockerfile.v0") && !builtin)
        return err_set(err, ERR_NOT_IMPLEMENTED, "frontend \"%.200s\" is not supported: Dockerfiles are", source ? source : frontend);
    return 0;
}

// What of SOURCE_DATE_EPOCH is no number, the builder has refused.
static bool read_epoch(const struct kvs *options, int64_t *out)
{
    const char *text = kvs_get(options, "build-arg:SOURCE_DATE_EPOCH");
    return !str_empty(text) && num_parse_i64(slice_of(text), out);
}

static struct solve_result keep_result(struct solve *solve, const struct buildkit_built *built, const char *platform)
{
    struct arena *arena = &solve->arena;
    struct solve_result out = { .platform = arena_strdup(arena, platform), .image = arena_strdup(arena, built->image),
                                .sources = arena_alloc(arena, (built->source_len + 1) * sizeof(*out.sources)) };
    for (size_t i = 0; i < built->source_len; i++) {
        const struct buildkit_source *source = &built->sources[i];
        out.sources[out.source_len++] = (struct buildkit_source){ source->kind, arena_strdup(arena, source->name), arena_strdup(arena, source->digest),
                                                                  arena_strdup(arena, source->platform), source->optional };
    }
    return out;
}

static void keep_attest(struct solve *solve, const struct attest *attest)
{
    solve->attest = *attest;
    solve->attest.builder_id = arena_strdup(&solve->arena, attest->builder_id);
    solve->attest.generator = arena_strdup(&solve->arena, attest->generator);
}

// The image is this machine's where there is one.
static void keep_results(const struct build *build)
{
    struct solve *solve = build->solve;
    const char *own = arena_printf(build->arena, "linux/%s", solve->buildkit->config.architecture);
    mutex_lock(&solve->buildkit->lock);
    scan_done(solve);
    solve->result_len = 0;
    for (size_t i = 0; i < build->built_len; i++) {
        const char *platform = build->more.platforms.len ? build->more.platforms.items[i] : own;
        struct solve_result *result = &solve->results[solve->result_len++];
        *result = keep_result(solve, &build->built[i], platform);
        if (i == 0 || is_own(build, platform))
            solve->image = (char *)result->image;
    }
    keep_attest(solve, &build->more.attest);
    if (build->more.attest.max && build->asked.dockerfile.data)
        solve->dockerfile = arena_strndup(&solve->arena, build->asked.dockerfile.data, build->asked.dockerfile.size);
    solve->cache = arena_strdup(&solve->arena, build->built[build->built_len - 1].cache); // it has the others' steps
    solve->same_time = read_epoch(build->options, &solve->time);
    mutex_unlock(&solve->buildkit->lock);
}

// The client says a failure again, as its build's: that has then the same place.
static void tell_place(struct build *build, struct grpc_call *call)
{
    struct solve *solve = build->solve;
    const struct buildkit_built none = { 0 }, *failed = build->built_len < ARRAY_LEN(build->built) ? &build->built[build->built_len] : &none;
    _cleanup_free_ char *source = failure_source(failed, option(build, "filename", "Dockerfile"));
    mutex_lock(&solve->buildkit->lock);
    solve->failed_at = source ? arena_strdup(&solve->arena, source) : NULL;
    mutex_unlock(&solve->buildkit->lock);
    if (source)
        grpc_detail(call, FAILURE_SOURCE, slice_of(source));
}

static int build_for(struct solve *solve, const struct bridge_solve_request *request, struct grpc_call *call, struct kvs *answer, struct err *err)
{
    struct build *build = arena_alloc(grpc_arena(call), sizeof(*build));
    *build = (struct build){ .solve = solve, .options = &request->options, .arena = grpc_arena(call), .cancel = grpc_cancel(call),
                             .question = option_of(&request->options, "requestid", NULL) };
    int result = run_build(build, err);
    if (result == 0 && !build->question)
        keep_results(build);
    if (result < 0)
        tell_place(build, call);
    for (size_t i = 0; i < solve->result_len && build->more.attest.sbom && result == 0; i++)
        result = scan_result(solve, build->session, &solve->results[i], build->cancel, err);
    session_put(build->session);
    buf_done(&build->dockerfile);
    buf_done(&build->ignore);
    *answer = build->answer;
    return result;
}

int handle_bridge_solve(void *context, struct grpc_call *call, struct err *err)
{
    struct bridge_solve_request request;
    struct solve *solve;
    if (take_message(call, &bridge_solve_request_table, &request, err) < 0 || check_frontend(&request, err) < 0 ||
        solve_of(context, call, &solve, err) < 0)
        return -1;
    struct result_message of = { 0 };
    history_describe(solve, &request.options);
    int result = build_for(solve, &request, call, &of.metadata, err);
    struct ref_message ref = { result == 0 ? arena_strdup(grpc_arena(call), solve->image) : NULL };
    of.ref = ref.id ? &ref : NULL;
    solve_put(solve);
    const struct bridge_solve_response response = { .result = &of };
    return result < 0 ? plain_error(err) : send_message(call, &bridge_solve_response_table, &response, err);
}

int handle_return(void *context, struct grpc_call *call, struct err *err)
{
    const struct empty_message response = { 0 };
    struct return_request request;
    struct solve *solve;
    if (take_message(call, &return_request_table, &request, err) < 0 || solve_of(context, call, &solve, err) < 0)
        return -1;
    mutex_lock(&solve->buildkit->lock);
    if (request.error && !solve->returned) {
        err_set(&solve->failure, ERR_INTERNAL, "%s", request.error->message ? request.error->message : "the client gave up");
        plain_error(&solve->failure);
    }
    solve->returned = true;
    cond_wake_all(&solve->buildkit->changed);
    mutex_unlock(&solve->buildkit->lock);
    solve_put(solve);
    return send_message(call, &empty_table, &response, err);
}
