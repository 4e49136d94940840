// exec and logs.
#include <time.h>

#include "client/client_private.h"
#include "client/text.h"
#include "base/clock.h"
#include "base/num.h"

static int exec_body(struct call *call, json_t **out, struct err *err)
{
    bool detach = flag_on(&call->flags, "detach"), tty = flag_on(&call->flags, "tty");
    json_t *body = json_object(), *command = json_array(), *environment = json_array();
    const struct strv *files = flag_texts(&call->flags, "env-file"), *texts = flag_texts(&call->flags, "env");
    const char *keys = flag_text(&call->flags, "detach-keys");
    flags_to_body(&call->flags, body);
    json_object_set_new(body, "Cmd", command);
    json_object_set_new(body, "Env", environment);
    json_object_set_new(body, "AttachStdin", json_boolean(!detach && flag_on(&call->flags, "interactive")));
    json_object_set_new(body, "AttachStdout", json_boolean(!detach));
    json_object_set_new(body, "AttachStderr", json_boolean(!detach));
    json_object_set_new(body, "Tty", json_boolean(tty));
    if (!keys)
        keys = config_detach_keys(call->client);
    if (!str_empty(keys))
        json_object_set_new(body, "DetachKeys", json_new_text(keys));
    for (size_t i = 1; i < call->args.len; i++)
        json_array_append_new(command, json_new_text(call->args.items[i]));
    *out = body;
    for (size_t i = 0; i < files->len; i++)
        if (read_lines(files->items[i], true, environment, err) < 0)
            return -1;
    for (size_t i = 0; i < texts->len; i++) {
        const char *own = strchr(texts->items[i], '=') ? NULL : getenv(texts->items[i]);
        const char *text = own ? arena_printf(&call->arena, "%s=%s", texts->items[i], own) : texts->items[i];
        json_array_append_new(environment, json_new_text(text));
    }
    return 0;
}

static void put_console(const struct call *call, json_t *body)
{
    unsigned rows, columns;
    terminal_size(STDOUT_FILENO, &rows, &columns);
    if (call->client->api >= 42 && rows && columns)
        json_object_set_new(body, "ConsoleSize", json_pack("[i, i]", (int)rows, (int)columns));
}

static int exit_code(struct call *call, const char *id, struct err *err)
{
    _cleanup_json_ json_t *exec = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT;
    path_put(&path, "/exec/", id, "/json");
    if (api_json(call->client, "GET", buf_text(&path), NULL, &exec, err) < 0)
        return -1;
    return json_get_flag(exec, "Running", false) ? 0 : (int)(json_get_int(exec, "ExitCode", 0) & 255);
}

static int exec_attached(struct call *call, const char *id, const json_t *body, struct err *err)
{
    struct http_exchange stream;
    struct session session = {
        .client = call->client,
        .stream = &stream,
        .tty = json_get_flag(body, "Tty", false),
        .in = json_get_flag(body, "AttachStdin", false),
        .out = true,
        .err = true,
        .detach_keys = json_get_text(body, "DetachKeys", NULL),
        .resize_path = arena_printf(&call->arena, "/exec/%s/resize", id),
    };
    _cleanup_buf_ struct buf path = PATH_INIT;
    json_t *options = json_pack("{s:b, s:b}", "Detach", 0, "Tty", session.tty);
    bool detached;
    if (session.tty)
        put_console(call, options);
    path_put(&path, "/exec/", id, "/start");
    if (api_hijack(call->client, buf_text(&path), options, &stream, err) < 0)
        return -1;
    int result = session_run(&session, &detached, err);
    http_exchange_done(&stream);
    if (result >= 0 && detached)
        return err_set(err, ERR_CANCELLED, "read escape sequence");
    return result < 0 ? -1 : exit_code(call, id, err);
}

int command_exec(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *container = NULL, *body = NULL, *created = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT;
    bool tty = flag_on(&call->flags, "tty"), in = flag_on(&call->flags, "interactive"), detach = flag_on(&call->flags, "detach");
    if (check_detach_keys(flag_text(&call->flags, "detach-keys"), err) < 0 || api_version(call->client, err) < 0 || exec_body(call, &body, err) < 0)
        return -1;
    path_put(&path, "/containers/", call->args.items[0], "/json");
    if (api_json(call->client, "GET", buf_text(&path), NULL, &container, err) < 0)
        return -1;
    if (!detach && tty && in && !on_terminal(STDIN_FILENO))
        return err_set(err, ERR_INVALID_ARGUMENT, "the input device is not a TTY");
    if (tty)
        put_console(call, body);
    buf_clear(&path);
    path_put(&path, "/containers/", call->args.items[0], "/exec");
    if (api_json(call->client, "POST", buf_text(&path), json_incref(body), &created, err) < 0)
        return -1;
    const char *id = json_get_text(created, "Id", "");
    if (!detach)
        return exec_attached(call, id, body, err);
    buf_clear(&path);
    path_put(&path, "/exec/", id, "/start");
    return api_json(call->client, "POST", buf_text(&path), json_pack("{s:b, s:b}", "Detach", 1, "Tty", tty), NULL, err) < 0 ? -1 : 0;
}

// ---- logs -----------------------------------------------------------------------------------------------------------

// Years alone, days, minutes: what is left out is zero, and local time.
static bool parse_time(const char *text, int64_t *ns)
{
    static const char *const forms[] = { "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d" };
    if (clock_parse(slice_of(text), ns))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct tm tm = { .tm_isdst = -1 };
        const char *end = strptime(text, forms[i], &tm);
        if (end && (!*end || (*end == 'Z' && !end[1]))) {
            *ns = text_ns(*end ? timegm(&tm) : mktime(&tm));
            return true;
        }
    }
    return false;
}

int time_argument(const char *text, struct buf *out, struct err *err)
{
    int64_t ns;
    if (num_parse_duration(text, &ns) && text[strspn(text, "0123456789.-")])
        ns = clock_wall_ns() - ns;
    else if (!parse_time(text, &ns)) {
        if (text[strspn(text, "0123456789.")] || !*text)
            return err_set(err, ERR_INVALID_ARGUMENT, "failed to parse value as time or duration: %s", text);
        buf_adds(out, text);
        return 0;
    }
    buf_addf(out, "%lld.%09lld", (long long)(ns / NS_PER_S), (long long)(ns % NS_PER_S));
    return 0;
}

static int put_time(const struct call *call, const char *flag, struct buf *path, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(128);
    const char *given = flag_text(&call->flags, flag);
    if (str_empty(given))
        return 0;
    if (time_argument(given, &text, err) < 0)
        return err_wrap(err, "invalid value for \"%s\"", flag);
    query_add(path, flag, buf_text(&text));
    return 0;
}

int command_logs(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *container = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT;
    struct http_exchange x;
    path_put(&path, "/containers/", call->args.items[0], "/json");
    if (api_json(call->client, "GET", buf_text(&path), NULL, &container, err) < 0)
        return -1;
    buf_clear(&path);
    path_put(&path, "/containers/", json_get_text(container, "Id", ""), "/logs?stdout=1&stderr=1");
    flags_to_query(&call->flags, &path);
    if (!flag_set(&call->flags, "tail"))
        query_add(&path, "tail", "all");
    if (put_time(call, "since", &path, err) < 0 || put_time(call, "until", &path, err) < 0 || api_open(call->client, &x, err) < 0)
        return -1;
    int result = api_send(call->client, &x, "GET", buf_text(&path), NULL, NULL, err);
    if (result == 0)
        result = session_copy(&x, json_get_flag(json_object_get(container, "Config"), "Tty", false), err);
    api_close(call->client, &x);
    return result;
}
