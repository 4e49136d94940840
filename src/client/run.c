// create, run, start, attach: a container's life from the client's side.
#include <errno.h>
#include <fcntl.h>

#include "client/client_private.h"
#include "base/fd.h"
#include "base/file.h"

// Docker decides by the words of the error: scripts rely on these codes.
static int code_of_error(const struct err *err)
{
    static const struct {
        const char *words;
        int code;
    } table[] = {
        { "executable file not found", EXIT_NOT_FOUND },
        { "no such file or directory", EXIT_NOT_FOUND },
        { "permission denied", EXIT_NOT_EXECUTABLE },
        { "is a directory", EXIT_NOT_EXECUTABLE },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (strcasestr(err->message, table[i].words))
            return table[i].code;
    return EXIT_ENGINE;
}

static int fail_run(const struct call *call, struct err *err)
{
    int code = code_of_error(err);
    char message[ERR_MESSAGE_SIZE];
    snprintf(message, sizeof(message), "%s", err->message);
    err_set(err, err->class, "berth: %s\n\nRun 'berth %s --help' for more information", message, strrchr(call->name, ' ') ? strrchr(call->name, ' ') + 1 : call->name);
    return -code;
}

// ---- create ---------------------------------------------------------------------------------------------------------

static int post_create(struct call *call, json_t *body, json_t **answer, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    const char *name = flag_text(&call->flags, "name"), *platform = flag_text(&call->flags, "platform");
    buf_adds(&path, "/containers/create");
    if (!str_empty(name))
        query_add(&path, "name", name);
    if (str_empty(platform))
        platform = getenv("DOCKER_DEFAULT_PLATFORM");
    if (!str_empty(platform))
        query_add(&path, "platform", platform);
    return api_json(call->client, "POST", buf_text(&path), json_incref(body), answer, err);
}

static int pull(struct call *call, const char *image, struct err *err)
{
    return image_pull(call->client, image, flag_text(&call->flags, "platform"), false, flag_on(&call->flags, "quiet"), stderr, err);
}

static int check_pull(const char *when, struct err *err)
{
    if (str_empty(when) || str_eq(when, "always") || str_eq(when, "missing") || str_eq(when, "never"))
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid pull option: '%s': must be one of \"always\", \"missing\" or \"never\"", when);
}

// 404 means that the image is not there: it is pulled, once.
static int create_or_pull(struct call *call, json_t *body, json_t **answer, struct err *err)
{
    const char *when = flag_text(&call->flags, "pull"), *image = call->args.items[0];
    if (str_eq(when, "always") && pull(call, image, err) < 0)
        return -1;
    if (post_create(call, body, answer, err) >= 0)
        return 0;
    if (err->class != ERR_NOT_FOUND || !(str_empty(when) || str_eq(when, "missing")))
        return -1;
    _cleanup_buf_ struct buf name = BUF_INIT(4096), tag = BUF_INIT(512);
    image_parts(image, &name, &tag);
    if (!flag_on(&call->flags, "quiet"))
        fprintf(stderr, "Unable to find image '%s%s%s' locally\n", buf_text(&name), strchr(buf_text(&tag), ':') ? "@" : ":", buf_text(&tag));
    return pull(call, image, err) < 0 ? -1 : post_create(call, body, answer, err) < 0 ? -1 : 0;
}

// --cidfile is made before the container, so that none is without; -1 without the flag.
static int open_id_file(const char *path, int *fd, struct err *err)
{
    *fd = -1;
    if (str_empty(path))
        return 0;
    *fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (*fd >= 0)
        return 0;
    if (errno == EEXIST)
        return err_set(err, ERR_CONFLICT, "container ID file found, make sure the other container isn't running or delete %s", path);
    return err_set(err, ERR_INTERNAL, "failed to create the container ID file: open %s: %s", path,
                   errno == ENOENT ? "no such file or directory" : strerror(errno));
}

// The new container's ID in the call's arena.
static int create(struct call *call, json_t *body, const char **id, struct err *err)
{
    _cleanup_json_ json_t *answer = NULL;
    const char *file = flag_text(&call->flags, "cidfile");
    _cleanup_close_ int fd = -1;
    size_t i;
    json_t *warning;
    if (image_check(call->args.items[0], err) < 0 || open_id_file(file, &fd, err) < 0)
        return -1;
    if (create_or_pull(call, body, &answer, err) < 0) {
        if (fd >= 0)
            unlink(file);
        return -1;
    }
    json_array_foreach(json_object_get(answer, "Warnings"), i, warning)
        fprintf(stderr, "WARNING: %s\n", json_string_value(warning));
    *id = arena_strdup(&call->arena, json_get_text(answer, "Id", ""));
    return fd < 0 ? 0 : fd_write_full(fd, *id, strlen(*id), err);
}

static int make_body(struct call *call, json_t **body, struct err *err)
{
    if (check_pull(flag_text(&call->flags, "pull"), err) < 0)
        return -1;
    if (api_version(call->client, err) < 0 || container_body(call, body, err) < 0)
        return -1;
    return 0;
}

// What is wrong with flags ends with 125: with the usage where a value can't be read, else as every failure of run does.
static int fail_flags(const struct call *call, struct err *err)
{
    char message[ERR_MESSAGE_SIZE];
    if (!str_starts(err->message, "invalid argument \"")) {
        int code = fail_run(call, err);
        return err->class == ERR_UNAVAILABLE || err->class == ERR_PERMISSION_DENIED ? code : -EXIT_ENGINE;
    }
    snprintf(message, sizeof(message), "%s", err->message);
    err_set(err, ERR_INVALID_ARGUMENT, "%s\n\nUsage:  berth %s %s\n\nRun 'berth %s --help' for more information", message, call->name,
            call->command->usage, call->name);
    return -EXIT_ENGINE;
}

int command_create(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *body = NULL;
    const char *id;
    if (make_body(call, &body, err) < 0)
        return fail_flags(call, err);
    if (create(call, body, &id, err) < 0)
        return -1;
    printf("%s\n", id);
    return 0;
}

// ---- run ------------------------------------------------------------------------------------------------------------

static int start(struct call *call, const char *id, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    path_put(&path, "/containers/", id, "/start");
    flags_to_query(&call->flags, &path);
    return api_json(call->client, "POST", buf_text(&path), NULL, NULL, err);
}

// What is attached, for the query of POST attach.
static char *attach_path(const struct session *session, const char *id, bool logs)
{
    struct buf path = PATH_INIT;
    path_put(&path, "/containers/", id, "/attach?stream=1");
    if (session->in)
        query_add(&path, "stdin", "1");
    if (session->out)
        query_add(&path, "stdout", "1");
    if (session->err)
        query_add(&path, "stderr", "1");
    if (logs)
        query_add(&path, "logs", "1");
    if (!str_empty(session->detach_keys))
        query_add(&path, "detachKeys", session->detach_keys);
    return buf_take(&path);
}

// Attached and waited for before it is started, so that nothing is missed.
static int start_attached(struct call *call, struct session *session, const char *id, bool removed, struct err *err)
{
    struct http_exchange stream, wait;
    bool detached;
    _cleanup_free_ char *path = attach_path(session, id, false);
    session->resize_path = arena_printf(&call->arena, "/containers/%s/resize", id);
    if (api_hijack(call->client, path, NULL, &stream, err) < 0)
        return -1;
    if (wait_begin(call->client, id, removed ? "removed" : "next-exit", &wait, err) < 0) {
        http_exchange_done(&stream);
        return -1;
    }
    session->stream = &stream;
    session->wait = &wait;
    session_block_signals(session);
    int result = start(call, id, err);
    if (result < 0) {
        struct err ignored;
        session->stream = session->wait = NULL;
        http_exchange_done(&stream);
        if (removed)
            wait_end(call->client, &wait, &ignored); // until it is gone
        else
            http_exchange_done(&wait);
        return fail_run(call, err);
    }
    result = session_run(session, &detached, err);
    if (result >= 0 && detached)
        http_exchange_done(&wait);
    http_exchange_done(&stream);
    session->stream = session->wait = NULL;
    return result;
}

static int start_detached(struct call *call, const char *id, struct err *err)
{
    printf("%s\n", id);
    fflush(stdout);
    return start(call, id, err) < 0 ? fail_run(call, err) : 0;
}

static int check_run(struct call *call, const json_t *body, bool detach, struct err *err)
{
    if (detach && flag_texts(&call->flags, "attach")->len)
        return err_set(err, ERR_INVALID_ARGUMENT, "conflicting options: cannot specify both --attach and --detach");
    if (!detach && json_get_flag(body, "AttachStdin", false) && json_get_flag(body, "Tty", false) && !on_terminal(STDIN_FILENO))
        return err_set(err, ERR_INVALID_ARGUMENT, "the input device is not a TTY");
    return check_detach_keys(flag_text(&call->flags, "detach-keys"), err);
}

static void detach_body(json_t *body)
{
    static const char *const keys[] = { "AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce" };
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        json_object_set_new(body, keys[i], json_false());
}

int command_run(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *body = NULL;
    const char *id, *keys = flag_text(&call->flags, "detach-keys");
    bool detach = flag_on(&call->flags, "detach");
    if (make_body(call, &body, err) < 0)
        return fail_flags(call, err);
    if (check_run(call, body, detach, err) < 0)
        return -1;
    if (detach)
        detach_body(body);
    if (create(call, body, &id, err) < 0)
        return fail_run(call, err);
    struct session session = {
        .client = call->client,
        .tty = json_get_flag(body, "Tty", false),
        .in = json_get_flag(body, "AttachStdin", false),
        .out = json_get_flag(body, "AttachStdout", false),
        .err = json_get_flag(body, "AttachStderr", false),
        .detach_keys = keys ? keys : config_detach_keys(call->client),
        .signal_id = flag_set(&call->flags, "sig-proxy") && !flag_on(&call->flags, "sig-proxy") ? NULL : id,
    };
    if (!session.in && !session.out && !session.err)
        return start_detached(call, id, err);
    return start_attached(call, &session, id, flag_on(&call->flags, "rm"), err);
}

// ---- start, attach --------------------------------------------------------------------------------------------------

static int inspect(struct call *call, const char *name, json_t **out, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    path_put(&path, "/containers/", name, "/json");
    return api_json(call->client, "GET", buf_text(&path), NULL, out, err);
}

static void take_config(struct call *call, struct session *session, const json_t *config)
{
    const char *keys = flag_text(&call->flags, "detach-keys");
    session->client = call->client;
    session->tty = json_get_flag(config, "Tty", false);
    session->in = json_get_flag(config, "OpenStdin", false);
    session->out = session->err = true;
    session->detach_keys = keys ? keys : config_detach_keys(call->client);
}

static int start_one(struct call *call, const char *name, struct err *err)
{
    if (start(call, name, err) < 0)
        return -1;
    printf("%s\n", name);
    return 0;
}

int command_start(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *container = NULL;
    bool attach = flag_on(&call->flags, "attach"), interactive = flag_on(&call->flags, "interactive");
    if (!attach && !interactive) {
        int failed = each_argument(call, start_one, err);
        if (!failed)
            return 0;
        fputs("Error: failed to start containers:", stderr);
        for (size_t i = 0; i < call->args.len; i++)
            fprintf(stderr, "%s%s", i ? ", " : " ", call->args.items[i]);
        return fputc('\n', stderr), failed;
    }
    if (call->args.len > 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "you cannot start and attach multiple containers at once");
    if (inspect(call, call->args.items[0], &container, err) < 0)
        return -1;
    struct session session;
    memset(&session, 0, sizeof(session));
    take_config(call, &session, json_object_get(container, "Config"));
    session.in = session.in && interactive;
    if (session.in && session.tty && !on_terminal(STDIN_FILENO))
        return err_set(err, ERR_INVALID_ARGUMENT, "the input device is not a TTY");
    const char *id = arena_strdup(&call->arena, json_get_text(container, "Id", ""));
    session.signal_id = session.tty || (flag_set(&call->flags, "sig-proxy") && !flag_on(&call->flags, "sig-proxy")) ? NULL : id;
    bool removed = json_get_flag(json_object_get(container, "HostConfig"), "AutoRemove", false);
    int result = start_attached(call, &session, id, removed, err);
    return result < -1 ? -1 : result;
}

static int check_attachable(const json_t *state, struct err *err)
{
    if (!json_get_flag(state, "Running", false))
        return err_set(err, ERR_CONFLICT, "You cannot attach to a stopped container, start it first");
    if (json_get_flag(state, "Paused", false))
        return err_set(err, ERR_CONFLICT, "You cannot attach to a paused container, unpause it first");
    if (json_get_flag(state, "Restarting", false))
        return err_set(err, ERR_CONFLICT, "You cannot attach to a restarting container, wait until it is running");
    return 0;
}

int command_attach(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *container = NULL;
    struct http_exchange stream, wait;
    struct session session;
    bool detached;
    if (check_detach_keys(flag_text(&call->flags, "detach-keys"), err) < 0 || inspect(call, call->args.items[0], &container, err) < 0 ||
        check_attachable(json_object_get(container, "State"), err) < 0)
        return -1;
    memset(&session, 0, sizeof(session));
    take_config(call, &session, json_object_get(container, "Config"));
    session.in = session.in && !flag_on(&call->flags, "no-stdin");
    if (session.in && session.tty && !on_terminal(STDIN_FILENO))
        return err_set(err, ERR_INVALID_ARGUMENT, "the input device is not a TTY");
    const char *id = json_get_text(container, "Id", "");
    bool proxy = !session.tty && !(flag_set(&call->flags, "sig-proxy") && !flag_on(&call->flags, "sig-proxy"));
    session.signal_id = proxy ? id : NULL;
    session.resize_path = arena_printf(&call->arena, "/containers/%s/resize", id);
    _cleanup_free_ char *path = attach_path(&session, id, false);
    if (wait_begin(call->client, id, NULL, &wait, err) < 0)
        return -1;
    if (api_hijack(call->client, path, NULL, &stream, err) < 0) {
        http_exchange_done(&wait);
        return -1;
    }
    session.stream = &stream;
    session.wait = &wait;
    int code = session_run(&session, &detached, err);
    if (code >= 0 && detached)
        http_exchange_done(&wait);
    http_exchange_done(&stream);
    return code >= 0 && detached ? err_set(err, ERR_CANCELLED, "read escape sequence") : code;
}
