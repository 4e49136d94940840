// RUN: a container of the engine's, which is taken up as a layer when it has ended well.
#include <errno.h>
#include <sys/socket.h>

#include "builder_private.h"

#define FRAME_HEAD 8
#define FRAME_MAX ((size_t)16 << 20)

struct running {
    struct stage *stage;
    struct strv argv;
    const char *created_by;
    json_t *body;
    struct step_mounts mounts;
    char name[40];
    char id[65];
    int stream_fd; // our end of its output
    bool made;
};

// ---- its output -----------------------------------------------------------------------------------------------------

// Without the beginning of a character whose rest comes later.
static size_t whole_size(const char *text, size_t size)
{
    size_t back = 0;
    while (back < 3 && back < size && ((unsigned char)text[size - 1 - back] & 0xc0) == 0x80)
        back++;
    if (back >= size)
        return size;
    unsigned char lead = (unsigned char)text[size - 1 - back];
    size_t wanted = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    return wanted > back + 1 ? size - 1 - back : size;
}

static void tell(struct build *build, int stream, struct buf *pending, bool end)
{
    size_t size = end ? pending->size : whole_size(buf_text(pending), pending->size);
    if (size == 0)
        return;
    if (stream == 2) {
        _cleanup_free_ char *red = mem_printf("\033[91m%.*s\033[0m", (int)size, buf_text(pending));
        say_text(build, red, strlen(red));
    } else {
        say_text(build, buf_text(pending), size);
    }
    buf_consume(pending, size);
}

// Takes whole frames off `in`.
static void take_frames(struct build *build, struct buf *in, struct buf pending[2])
{
    while (in->size >= FRAME_HEAD) {
        const unsigned char *head = (const unsigned char *)in->data;
        size_t size = (size_t)head[4] << 24 | (size_t)head[5] << 16 | (size_t)head[6] << 8 | head[7];
        int stream = head[0] == 2 ? 2 : 1;
        if (in->size < FRAME_HEAD + size)
            return;
        buf_add(&pending[stream - 1], in->data + FRAME_HEAD, size);
        tell(build, stream, &pending[stream - 1], false);
        buf_consume(in, FRAME_HEAD + size);
    }
}

static int read_output(struct running *running, struct err *err)
{
    struct build *build = running->stage->build;
    struct buf in = BUF_INIT(FRAME_MAX), pending[2] = { BUF_INIT(FRAME_MAX), BUF_INIT(FRAME_MAX) };
    int done = 0;
    for (;;) {
        if ((done = cancel_wait(build->cancel, running->stream_fd, -1, err)) < 0)
            break;
        char *room = buf_reserve(&in, 65536);
        ssize_t got = room ? read(running->stream_fd, room, 65536) : -1;
        if (got < 0 && room && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        buf_commit(&in, (size_t)got);
        take_frames(build, &in, pending);
    }
    for (int i = 0; i < 2; i++) {
        tell(build, i + 1, &pending[i], true);
        buf_done(&pending[i]);
    }
    buf_done(&in);
    return done < 0 ? -1 : 0;
}

// ---- the container --------------------------------------------------------------------------------------------------

static json_t *texts(const struct strv *list)
{
    json_t *out = json_array();
    for (size_t i = 0; i < list->len; i++)
        json_array_append_new(out, json_new_text(list->items[i]));
    return out;
}

static json_t *host_of(const struct running *running, const struct run_fields *fields)
{
    json_t *host = json_deep_copy(running->stage->build->request->host);
    if (json_array_size(running->mounts.list) > 0)
        json_object_set(host, "Mounts", running->mounts.list);
    if (fields->network && !str_eq(fields->network, "default"))
        json_object_set_new(host, "NetworkMode", json_string(fields->network));
    return host;
}

static int make_body(struct running *running, const struct run_fields *fields, struct err *err)
{
    struct stage *stage = running->stage;
    struct strv env = { 0 };
    scope_run_env(&stage->scope, stage->build->arena, &env);
    if (running->mounts.agent_path && !strv_env(&env, "SSH_AUTH_SOCK"))
        strv_env_set(&env, stage->build->arena, arena_printf(stage->build->arena, "SSH_AUTH_SOCK=%s", running->mounts.agent_path));
    running->body = json_pack("{s:s, s:[s], s:o, s:o, s:b, s:b, s:{s:[s]}, s:o}", "Image", stage->image, "Entrypoint", "", "Cmd", texts(&running->argv),
                              "Env", texts(&env), "AttachStdout", 1, "AttachStderr", 1, "Healthcheck", "Test", "NONE", "HostConfig",
                              host_of(running, fields));
    return 0;
}

static int create(struct running *running, struct err *err)
{
    struct build *build = running->stage->build;
    struct container_config config;
    struct strv warnings = { 0 };
    char random[17];
    random_hex(random, 16);
    snprintf(running->name, sizeof(running->name), "build_%s", random);
    if (json_decode(&container_config_table, running->body, &config, build->arena, NULL, err) < 0 ||
        container_note(build->builder, running->name, err) < 0)
        return -1;
    running->made = true;
    config.no_image_volumes = true;
    return engine_create(build->engine, running->name, &config, running->body, build->arena, running->id, &warnings, err);
}

static int attach(struct running *running, struct err *err)
{
    struct engine *engine = running->stage->build->engine;
    const struct engine_attach attach = { .out = true, .error = true, .stream = true };
    int ends[2];
    bool terminal;
    char id[65];
    if (fd_socketpair(SOCK_STREAM, ends, err) < 0)
        return -1;
    running->stream_fd = ends[0];
    if (engine_attach_begin(engine, running->id, id, &terminal, err) < 0) {
        fd_close(ends[1]);
        return -1;
    }
    return engine_attach(engine, id, &attach, ends[1], err);
}

static int run_to_end(struct running *running, int64_t *code, struct err *err)
{
    struct build *build = running->stage->build;
    struct engine_waiter *waiter;
    if (attach(running, err) < 0 || engine_wait_begin(build->engine, running->id, ENGINE_NEXT_EXIT, &waiter, err) < 0)
        return -1;
    int done = step_container_start(build->engine, running->id, &running->mounts.env, err);
    if (done == 0)
        done = read_output(running, err);
    if (done == 0)
        done = engine_wait(waiter, build->cancel, code, err);
    engine_wait_end(build->engine, waiter);
    return done;
}

static void remove_container(struct running *running, bool said)
{
    struct build *build = running->stage->build;
    struct err ignored = { 0 };
    if (engine_remove(build->engine, running->id, true, true, &ignored) == 0 && said)
        say(build, " ---> Removed intermediate container %.12s\n", running->id);
}

// Whether it was well or not; a container that stays is nobody's any more.
static void end_container(struct running *running, int result)
{
    const struct build_request *request = running->stage->build->request;
    fd_close(running->stream_fd);
    json_decref(running->body);
    if (!running->made)
        return;
    bool cut_off = result < 0 && running->stage->build->exit_code == 0;
    bool goes = cut_off || (result < 0 ? request->force_remove : !request->keep);
    if (goes && running->id[0])
        remove_container(running, result == 0);
    container_forget(running->stage->build->builder, running->name);
}

static int take_up(struct running *running, struct err *err)
{
    struct build *build = running->stage->build;
    struct step step = step_of(running->stage, running->created_by);
    struct strv stubs = { 0 };
    char *id;
    for (size_t i = 0; i < json_array_size(running->mounts.list); i++)
        strv_push_arena(&stubs, build->arena, json_get_text(json_array_get(running->mounts.list, i), "Target", "/"));
    step.stubs = &stubs;
    step.time_max = build->request->times ? build->time_max : -1;
    if ((running->stage->keeps ? step_keep : step_container)(build->engine, &step, running->id, build->arena, &id, build->cancel, err) < 0)
        return -1;
    running->stage->image = id;
    return 0;
}

static int work(struct running *running, const struct run_fields *fields, struct err *err)
{
    struct build *build = running->stage->build;
    int64_t code = 0;
    if (step_mounts_fill(running->stage, &running->mounts, err) < 0 || make_body(running, fields, err) < 0 || create(running, err) < 0)
        return -1;
    say(build, " ---> Running in %.12s\n", running->id);
    if (run_to_end(running, &code, err) < 0)
        return -1;
    if (code != 0) {
        build->exit_code = code;
        return err_set(err, ERR_INTERNAL, "The command '%.800s' returned a non-zero code: %lld", join_words(build->arena, &running->argv), (long long)code);
    }
    return take_up(running, err);
}

// ---- the step -------------------------------------------------------------------------------------------------------

// "<<EOF" and nothing else.
static bool is_script(const struct dockerfile_command *command, const struct heredocs *docs)
{
    const char *text = command->args.items[0] + strspn(command->args.items[0], "0123456789");
    return docs->len == 1 && str_starts(text, "<<") && !strpbrk(text + 2, "< \t|&;>");
}

// Of one alone: it is a program, and no text for the shell.
static bool names_interpreter(const struct run_fields *fields)
{
    return !fields->command.json && fields->command.args.len == 1 && is_script(&fields->command, &fields->heredocs) &&
           str_starts(fields->heredocs.items[0].content, "#!");
}

// A heredoc alone is the script; others are part of the shell's text.
static void fill_argv(struct running *running, const struct run_fields *fields)
{
    struct arena *arena = running->stage->build->arena;
    struct dockerfile_command command = fields->command;
    const struct heredocs *docs = &fields->heredocs;
    if (docs->len > 0 && !command.json && command.args.len == 1) {
        const char *text = command.args.items[0];
        bool alone = is_script(&command, docs);
        text = names_interpreter(fields) ? arena_printf(arena, SCRIPTS "%s", docs->items[0].name) : alone ? heredoc_content(&docs->items[0], arena) : text;
        for (size_t i = 0; i < docs->len && !alone; i++)
            text = arena_printf(arena, "%s\n%s%s", text, docs->items[i].content, docs->items[i].name);
        command.args = (struct strv){ 0 };
        strv_push_arena(&command.args, arena, text);
    }
    shell_command(running->stage, &command, &running->argv);
}

// "|2 A=1 B=2 /bin/sh -c ...": the arguments that it sees are part of what it is.
static void fill_created_by(struct running *running)
{
    struct arena *arena = running->stage->build->arena;
    struct strv args = { 0 };
    scope_run_args(&running->stage->scope, arena, &args);
    const char *words = join_words(arena, &running->argv);
    running->created_by = args.len ? arena_printf(arena, "|%zu %s %s", args.len, join_words(arena, &args), words) : words;
}

static int check(const struct run_fields *fields, struct err *err)
{
    if (names_interpreter(fields) && strchr(fields->heredocs.items[0].name, '/'))
        return err_set(err, ERR_INVALID_ARGUMENT, "the name of a script can't be a path: %.100s", fields->heredocs.items[0].name);
    if (fields->devices_len > 0)
        return err_set(err, ERR_NOT_IMPLEMENTED, "RUN --device=%.100s is not supported: a build has no devices", fields->devices[0].name ? fields->devices[0].name : "");
    if (fields->security && !str_eq(fields->security, "sandbox"))
        return err_set(err, ERR_PERMISSION_DENIED, "security.%.64s is not allowed", fields->security); // BuildKit's words where nobody has granted it
    return 0;
}

static bool clamps(const struct stage *stage)
{
    return stage->build->request->times && stage->build->time_max >= 0;
}

int step_run(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    const struct run_fields *fields = &instruction->run;
    struct running running = { .stage = stage, .stream_fd = -1 };
    char key[OCI_DIGEST_SIZE];
    if (check(fields, err) < 0)
        return -1;
    if (!stage->image && commit_plain(stage, "scratch", err) < 0)
        return -1;
    fill_argv(&running, fields);
    fill_created_by(&running);
    const char *parent = stage->image;
    int done = step_mounts_open(stage, fields, &running.mounts, err);
    if (done == 0 && names_interpreter(fields))
        done = step_mounts_script(stage, &fields->heredocs.items[0], &running.mounts, err);
    if (done == 0) {
        const char *network = fields->network ? fields->network : "", *times = clamps(stage) ? "\ntimes" : "";
        cache_key(stage, running.created_by, arena_printf(stage->build->arena, "%s\n%s%s", network, running.mounts.key, times), key);
        bool plain = (!*network || str_eq(network, "default")) && fields->mounts_len == 0 && !names_interpreter(fields) && !clamps(stage); // the history says nothing of times
        done = cache_find(stage, key, plain ? running.created_by : NULL, err);
    }
    if (done == 0) {
        done = work(&running, fields, err);
        end_container(&running, done);
        if (done == 0)
            cache_put(stage, key, parent, running.created_by);
    }
    step_mounts_close(&running.mounts);
    return done < 0 ? -1 : 0;
}
