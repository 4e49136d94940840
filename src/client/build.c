// build: the context goes to the daemon, its stream comes back. --check stays here: the language is known without a daemon.
#include <fcntl.h>

#include "build/dockerfile.h"
#include "build/lint.h"
#include "client/build_context.h"
#include "client/build_output.h"
#include "base/file.h"
#include "base/num.h"

// ---- --check --------------------------------------------------------------------------------------------------------

struct checking {
    struct call *call;
    struct strv env; // of the image that was asked for last
};

// What the daemon knows of an image's environment; NULL when it has none of that name, or can't be asked.
static const struct strv *image_env(void *of, size_t stage, const char *image)
{
    struct checking *checking = of;
    struct arena *arena = &checking->call->arena;
    _cleanup_json_ json_t *answer = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT;
    struct err ignored;
    size_t i;
    json_t *item;
    path_put(&path, "/images/", image, "/json");
    if (api_json(checking->call->client, "GET", buf_text(&path), NULL, &answer, &ignored) < 0)
        return NULL;
    checking->env = (struct strv){ .items = arena_alloc(arena, sizeof(char *)) };
    json_array_foreach(json_object_get(json_object_get(answer, "Config"), "Env"), i, item)
        strv_push_arena(&checking->env, arena, json_string_value(item) ? json_string_value(item) : "");
    return &checking->env;
}

static void show_warning(const struct lint_warning *warning, struct slice source, const char *name)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    buf_addf(&text, "\nWARNING: %s", warning->rule->name);
    if (warning->rule->url)
        buf_addf(&text, " - %s", warning->rule->url);
    buf_addf(&text, "\n%s\n", warning->detail);
    struct dockerfile_place place = warning->place;
    place.column = 0; // a warning is about the whole line
    dockerfile_excerpt(source, name, place, &text);
    fputs(buf_text(&text), stdout);
}

// An error of the file as buildx shows it: the place below the message.
static int show_error(struct slice source, const char *name, struct dockerfile_place place, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    dockerfile_excerpt(source, name, place, &text);
    fputs(buf_text(&text), stdout);
    fflush(stdout);
    return -1;
}

static int check(struct call *call, const struct build_context *context, const struct build_args *args, struct err *err)
{
    struct checking checking = { .call = call };
    struct lint_input input = { .args = args, .target = args->target_stage, .ignore = context->ignore, .base_env = image_env, .of = &checking };
    struct slice source = { buf_text(&context->dockerfile_text), context->dockerfile_text.size };
    struct dockerfile *file;
    struct dockerfile_place place;
    struct lint_report report;
    if (!context->folder)
        return err_set(err, ERR_INVALID_ARGUMENT, "--check needs a folder as context");
    if (dockerfile_parse(source, &call->arena, &file, &place, err) < 0)
        return show_error(source, context->dockerfile, place, err);
    if (lint_run(file, &input, &call->arena, &report, err) < 0)
        return -1;
    if (report.len)
        printf("Check complete, %zu warning%s been found!\n", report.len, report.len == 1 ? " has" : "s have");
    else
        printf("Check complete, no warnings found.\n");
    for (size_t i = 0; i < report.len; i++)
        show_warning(&report.items[i], source, context->dockerfile);
    return report.len ? 1 : 0;
}

// ---- the request ----------------------------------------------------------------------------------------------------

// The JSON in a parameter; takes the reference.
static void query_json(struct buf *path, const char *key, json_t *value)
{
    _cleanup_free_ char *text = json_text(value);
    if (json_is_array(value) ? json_array_size(value) : json_object_size(value))
        query_add(path, key, text);
    json_decref(value);
}

static json_t *list_of(const struct strv *texts)
{
    json_t *list = json_array();
    for (size_t i = 0; i < texts->len; i++)
        json_array_append_new(list, json_new_text(texts->items[i]));
    return list;
}

// NAME=VALUE as an object; a name alone is null, or with `environment` our own variable where there is one.
static json_t *map_of(const struct strv *texts, bool environment)
{
    json_t *map = json_object();
    for (size_t i = 0; i < texts->len; i++) {
        const char *equals = strchr(texts->items[i], '=');
        _cleanup_free_ char *name = mem_strndup(texts->items[i], equals ? (size_t)(equals - texts->items[i]) : strlen(texts->items[i]));
        const char *value = equals ? equals + 1 : environment ? getenv(name) : "";
        json_object_set_new(map, name, value ? json_new_text(value) : json_null());
    }
    return map;
}

static json_t *build_arguments(struct call *call)
{
    _cleanup_json_ json_t *proxies = json_array();
    json_t *map = map_of(flag_texts(&call->flags, "build-arg"), true), *item;
    size_t i;
    config_proxies(call->client, proxies);
    json_array_foreach(proxies, i, item) {
        const char *text = json_string_value(item), *equals = strchr(text, '=');
        _cleanup_free_ char *name = mem_strndup(text, (size_t)(equals - text));
        if (!json_object_get(map, name))
            json_object_set_new(map, name, json_new_text(equals + 1));
    }
    return map;
}

static int put_sizes(struct call *call, struct buf *path, struct err *err)
{
    static const char *const rows[][2] = { { "memory", "memory" }, { "memory-swap", "memswap" }, { "shm-size", "shmsize" } };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *text = flag_text(&call->flags, rows[i][0]);
        int64_t size = -1;
        char number[24];
        if (!text || (!num_parse_bytes(text, &size) && !str_eq(text, "-1")))
            continue;
        snprintf(number, sizeof(number), "%lld", (long long)size);
        query_add(path, rows[i][1], number);
    }
    return 0;
}

static int put_tags(struct call *call, struct buf *path, struct err *err)
{
    const struct strv *tags = flag_texts(&call->flags, "tag");
    for (size_t i = 0; i < tags->len; i++) {
        if (image_check(tags->items[i], err) < 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid argument \"%s\" for \"-t, --tag\" flag: invalid reference format", tags->items[i]);
        query_add(path, "t", tags->items[i]);
    }
    return 0;
}

static int put_query(struct call *call, const struct build_context *context, const struct build_output *output, struct buf *path, struct err *err)
{
    static const char *const rows[][2] = { { "quiet", "q" }, { "no-cache", "nocache" }, { "pull", "pull" }, { "force-rm", "forcerm" }, { "squash", "squash" } };
    json_t *ulimits = json_array();
    buf_adds(path, "/build");
    query_add(path, "version", "1");
    if (put_ulimits(call, ulimits, err) < 0 || put_tags(call, path, err) < 0 || put_sizes(call, path, err) < 0) {
        json_decref(ulimits);
        return -1;
    }
    query_json(path, "ulimits", ulimits);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (flag_on(&call->flags, rows[i][0]))
            query_add(path, rows[i][1], "1");
    if (flag_set(&call->flags, "rm") && !flag_on(&call->flags, "rm"))
        query_add(path, "rm", "0");
    if (context->dockerfile)
        query_add(path, "dockerfile", context->dockerfile);
    if (context->remote)
        query_add(path, "remote", context->remote);
    flags_to_query(&call->flags, path);
    query_json(path, "buildargs", build_arguments(call));
    query_json(path, "labels", map_of(flag_texts(&call->flags, "label"), false));
    if (build_output_unseen(call, output))
        query_json(path, "outputs", json_pack("[{s:s}]", "Type", "cacheonly"));
    query_json(path, "cachefrom", list_of(flag_texts(&call->flags, "cache-from")));
    return buf_check(path, "the request", err);
}

static int write_id(struct call *call, const char *id, struct err *err)
{
    const char *path = flag_text(&call->flags, "iidfile");
    if (str_empty(path))
        return 0;
    if (!*id)
        return err_set(err, ERR_INTERNAL, "server did not provide an image ID. Cannot write %s", path);
    return file_write_at(AT_FDCWD, path, id, strlen(id), 0644, false, err);
}

static int open_stream(struct call *call, const struct build_context *context, const char *path, struct api_stream *stream, struct err *err)
{
    _cleanup_free_ char *auth = registry_config_header(call->client);
    _cleanup_free_ char *headers = mem_printf("Content-Type: application/x-tar\r\n%s", auth);
    if (context->fd >= 0)
        return api_upload(call->client, "POST", path, headers, context->fd, stream, err);
    *stream = (struct api_stream){ .text = BUF_INIT(4u << 20) };
    if (api_open(call->client, &stream->x, err) < 0)
        return -1;
    int result = api_send(call->client, &stream->x, "POST", path, headers, NULL, err);
    if (result < 0)
        api_stream_done(call->client, stream);
    return result;
}

// --progress: lines that are drawn again, where they can be.
static bool live(struct call *call)
{
    const char *how = flag_text(&call->flags, "progress");
    return str_eq(how, "tty") || (!str_eq(how, "plain") && on_terminal(STDOUT_FILENO));
}

// What comes back; with --quiet that is the id alone, and all that was said where it fails. `to_stdout`: the result goes there.
static int show(struct call *call, struct api_stream *stream, bool to_stdout, const char **id, struct err *err)
{
    _cleanup_json_ json_t *aux = NULL;
    _cleanup_free_ char *held = NULL;
    size_t size;
    bool quiet = flag_on(&call->flags, "quiet");
    FILE *out = quiet ? open_memstream(&held, &size) : to_stdout ? stderr : stdout;
    if (!out)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "no memory for the stream");
    int result = !quiet && !to_stdout && live(call) ? build_view(stream, &aux, err) : progress_show(stream, out, false, &aux, err);
    *id = arena_strdup(&call->arena, json_get_text(aux, "ID", ""));
    if (quiet) {
        fclose(out);
        fputs(held, result < 0 || to_stdout ? stderr : stdout);
        *id = arena_strndup(&call->arena, held, strcspn(held, "\n"));
    }
    return result;
}

static int build(struct call *call, struct build_context *context, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    const char *id = "";
    struct api_stream stream;
    struct build_output output;
    if (build_output_parse(call, &output, err) < 0 || build_context_pack(call, context, flag_on(&call->flags, "compress"), err) < 0 ||
        put_query(call, context, &output, &path, err) < 0 ||
        open_stream(call, context, buf_text(&path), &stream, err) < 0)
        return -1;
    bool to_stdout = output.kind != BUILD_OUTPUT_IMAGE && !output.dest;
    int result = show(call, &stream, to_stdout, &id, err);
    api_stream_done(call->client, &stream);
    if (result == 0)
        result = build_context_packed(context, err);
    if (result == 0)
        result = build_output_fetch(call, &output, id, err);
    return result < 0 ? result : write_id(call, id, err);
}

int command_build(struct call *call, struct err *err)
{
    struct build_context context = BUILD_CONTEXT_INIT;
    const struct strv *given = flag_texts(&call->flags, "build-arg");
    struct build_args args = { .target_stage = flag_text(&call->flags, "target"), .build_platform = "linux/amd64" };
    args.target_platform = flag_text(&call->flags, "platform") ? flag_text(&call->flags, "platform") : args.build_platform;
    args.given.items = arena_alloc(&call->arena, (given->len + 1) * sizeof(*args.given.items));
    for (size_t i = 0; i < given->len; i++) {
        const char *equals = strchr(given->items[i], '=');
        char *name = arena_strndup(&call->arena, given->items[i], strcspn(given->items[i], "="));
        args.given.items[args.given.len++] = (struct kv){ name, equals ? (char *)equals + 1 : getenv(name) };
    }
    const char *how = flag_text(&call->flags, "progress");
    if (how && !str_eq(how, "auto") && !str_eq(how, "plain") && !str_eq(how, "tty"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid progress type \"%s\": auto, plain and tty are known", how);
    int result = build_context_find(call, call->args.items[0], flag_text(&call->flags, "file"), &context, err);
    if (result == 0)
        result = flag_on(&call->flags, "check") ? check(call, &context, &args, err) : build(call, &context, err);
    build_context_done(&context);
    return result;
}
