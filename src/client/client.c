// From the command line to a command: global flags, where the daemon is, the command by its words, its flags and arguments.
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "client/client.h"
#include "client/client_private.h"
#include "client/globals.h"
#include "base/file.h"

#define DEFAULT_SOCKET "/run/berth/berth.sock"
#define DOCKER_SOCKET "/var/run/docker.sock"

bool on_terminal(int fd)
{
    return isatty(fd) == 1;
}

void terminal_size(int fd, unsigned *rows, unsigned *columns)
{
    struct winsize size = { 0 };
    ioctl(fd, TIOCGWINSZ, &size);
    *rows = size.ws_row;
    *columns = size.ws_col;
}

int usage_error(const struct call *call, struct err *err, const char *fmt, ...)
{
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    return err_set(err, ERR_INVALID_ARGUMENT, "%s\n\nRun 'berth %s --help' for more information", what, call->name);
}

// A reader who left is no error to speak of: it ends us as SIGPIPE would.
int output_failed(struct err *err)
{
    return err_errno(err, errno ? errno : EIO, WRITE_FAILED);
}

int flush_output(struct err *err)
{
    errno = 0;
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : output_failed(err);
}

int each_argument(struct call *call, int (*one)(struct call *call, const char *name, struct err *err), struct err *err)
{
    int failed = 0;
    for (size_t i = 0; i < call->args.len; i++) {
        err_clear(err);
        if (one(call, call->args.items[i], err) >= 0)
            continue;
        fflush(stdout);
        fprintf(stderr, "%s\n", err->message);
        failed = 1;
    }
    return failed;
}

// ---- where the daemon is --------------------------------------------------------------------------------------------

static const char *file_of(struct client *client, const char *given, const char *folder, const char *name)
{
    return given ? given : arena_printf(&client->arena, "%s/%s", folder, name);
}

static void take_tls(struct client *client, const struct flags *globals)
{
    const char *folder = getenv("DOCKER_CERT_PATH");
    bool verify = flag_set(globals, "tlsverify") ? flag_on(globals, "tlsverify") : !str_empty(getenv("DOCKER_TLS_VERIFY"));
    if (str_empty(folder))
        folder = client->config_dir;
    client->tls.verify = verify;
    client->tls.on = verify || flag_on(globals, "tls") || !str_empty(getenv("DOCKER_TLS"));
    client->tls.ca = file_of(client, flag_text(globals, "tlscacert"), folder, "ca.pem");
    client->tls.cert = file_of(client, flag_text(globals, "tlscert"), folder, "cert.pem");
    client->tls.key = file_of(client, flag_text(globals, "tlskey"), folder, "key.pem");
}

// A context's folder is named by a digest of its name; the name stands in its meta.json.
static int take_context(struct client *client, const char *name, struct err *err)
{
    _cleanup_strv_ struct strv folders = { 0 };
    const char *base = arena_printf(&client->arena, "%s/contexts", client->config_dir);
    struct err ignored;
    file_list_names(AT_FDCWD, arena_printf(&client->arena, "%s/meta", base), &folders, &ignored);
    for (size_t i = 0; i < folders.len; i++) {
        _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
        _cleanup_json_ json_t *meta = NULL;
        const char *path = arena_printf(&client->arena, "%s/meta/%s/meta.json", base, folders.items[i]);
        if (file_read_at(AT_FDCWD, path, &text, &ignored) < 0 || json_parse(buf_text(&text), text.size, &meta, &ignored) < 0 ||
            !str_eq(json_get_text(meta, "Name", ""), name))
            continue;
        const json_t *docker = json_object_get(json_object_get(meta, "Endpoints"), "docker");
        const char *keys = arena_printf(&client->arena, "%s/tls/%s/docker", base, folders.items[i]);
        client->host = arena_strdup(&client->arena, json_get_text(docker, "Host", ""));
        client->tls.on = access(keys, R_OK) == 0;
        client->tls.verify = client->tls.on && !json_get_flag(docker, "SkipTLSVerify", false);
        client->tls.ca = file_of(client, NULL, keys, "ca.pem");
        client->tls.cert = file_of(client, NULL, keys, "cert.pem");
        client->tls.key = file_of(client, NULL, keys, "key.pem");
        return 0;
    }
    return err_set(err, ERR_NOT_FOUND, "Failed to initialize: unable to resolve docker endpoint: context \"%s\": context not found", name);
}

static int take_host(struct client *client, const struct flags *globals, struct err *err)
{
    const char *given = flag_text(globals, "host"), *context = flag_text(globals, "context"), *host = getenv("DOCKER_HOST");
    if (given && context)
        return err_set(err, ERR_INVALID_ARGUMENT, "conflicting options: cannot specify both --host and --context");
    if (given || (!context && !str_empty(host))) {
        client->host = given ? given : host;
        if (!strstr(client->host, "://"))
            client->host = arena_printf(&client->arena, *client->host == '/' ? "unix://%s" : "tcp://%s", client->host);
        return 0;
    }
    if (!context)
        context = getenv("DOCKER_CONTEXT");
    if (str_empty(context))
        context = json_get_text(client_config(client), "currentContext", "");
    if (!str_empty(context) && !str_eq(context, "default"))
        return take_context(client, context, err);
    bool docker = access(DEFAULT_SOCKET, F_OK) != 0 && access(DOCKER_SOCKET, F_OK) == 0;
    client->host = docker ? "unix://" DOCKER_SOCKET : "unix://" DEFAULT_SOCKET;
    return 0;
}

static int take_globals(struct client *client, const struct flags *globals, struct err *err)
{
    const char *dir = flag_text(globals, "config"), *home = getenv("HOME");
    if (!dir)
        dir = getenv("DOCKER_CONFIG");
    client->config_dir = str_empty(dir) ? arena_printf(&client->arena, "%s/.docker", home ? home : "") : dir;
    client->debug = flag_on(globals, "debug") || str_eq(flag_text(globals, "log-level"), "debug");
    take_tls(client, globals);
    return take_host(client, globals, err);
}

// ---- the command by its words ---------------------------------------------------------------------------------------

static bool path_is(const char *list, struct slice words)
{
    struct slice part, rest = slice_of(list);
    while (slice_cut(&rest, ',', &part)) {
        part = slice_trim(part);
        if (part.size && part.size == words.size && memcmp(part.data, words.data, part.size) == 0)
            return true;
    }
    return false;
}

const struct command *command_find(const char *words)
{
    for (size_t i = 0; i < commands_len; i++)
        if (str_eq(commands[i].path, words) || (commands[i].aliases && path_is(commands[i].aliases, slice_of(words))))
            return &commands[i];
    return NULL;
}

static bool is_group(const char *word)
{
    size_t size = strlen(word);
    for (size_t i = 0; i < commands_len; i++)
        if (str_starts(commands[i].path, word) && commands[i].path[size] == ' ')
            return true;
    for (size_t i = 0; i < groups_len; i++)
        if (str_eq(groups[i].name, word))
            return true;
    return false;
}

static int unknown(const char *group, const char *word)
{
    char kept[64];
    const char *near = command_suggestion(word, group, kept);
    fprintf(stderr, "berth: unknown command: berth %s%s%s\n", group, *group ? " " : "", word);
    if (near)
        fprintf(stderr, "Did you mean 'berth %s%s%s'?\n", group, *group ? " " : "", near);
    if (*group)
        fprintf(stderr, "\nUsage:  berth %s\n", group);
    fprintf(stderr, "\nRun 'berth %s%s--help' for more information\n", group, *group ? " " : "");
    return 1;
}

// ---- a call ---------------------------------------------------------------------------------------------------------

static int print_usage_error(const struct call *call, const char *message, const char *see)
{
    fprintf(stderr, "%s\n\nUsage:  berth %s%s%s\n\n%s 'berth %s --help' for more information\n", message, call->name,
            *call->command->usage ? " " : "", call->command->usage, see, call->name);
    return 0;
}

static int flags_wrong(const struct call *call, const struct err *err)
{
    char message[sizeof(err->message) + 128];
    snprintf(message, sizeof(message), "%s", err->message);
    if (err->class == ERR_NOT_IMPLEMENTED) {
        fprintf(stderr, "berth: %s\n", message);
        return EXIT_ENGINE;
    }
    const char *near = str_starts(message, "unknown flag: --") ? flag_suggestion(&call->command->flags, message + 16) : NULL;
    if (near)
        snprintf(message + strlen(message), sizeof(message) - strlen(message), "\nDid you mean --%s?", near);
    print_usage_error(call, message, "Run");
    return EXIT_ENGINE;
}

static bool count_fits(const struct call *call)
{
    const struct command *command = call->command;
    int len = (int)call->args.len, min = command->args_min, max = command->args_max;
    char message[256];
    if (len >= min && (max < 0 || len <= max))
        return true;
    if (max == 0)
        snprintf(message, sizeof(message), "berth: 'berth %s' accepts no arguments", call->name);
    else if (min > 0 && max > min)
        snprintf(message, sizeof(message), "berth: 'berth %s' requires at least %d and at most %d arguments", call->name, min, max);
    else
        snprintf(message, sizeof(message), "berth: 'berth %s' requires %s%d argument%s", call->name,
                 max < 0 ? "at least " : min == max ? "" : "at most ", max < 0 ? min : max, (max < 0 ? min : max) == 1 ? "" : "s");
    print_usage_error(call, message, max < 0 ? "See" : "Run");
    return false;
}

static int report(int result, const struct err *err)
{
    fflush(stdout);
    if (err->number == EPIPE && str_starts(err->message, WRITE_FAILED))
        return EXIT_BROKEN_PIPE;
    fprintf(stderr, "%s\n", err->message);
    return -result;
}

static int run_command(struct client *client, const struct command *command, const char *name, char **argv, int argc)
{
    struct call call = { .client = client, .command = command, .name = name };
    struct err err;
    bool help = false;
    int code;
    call.flags.arena = &call.arena;
    err_clear(&err);
    if (flags_parse(&call.flags, &command->flags, argv, argc, command->leading, &call.args, &help, &err) < 0) {
        code = flags_wrong(&call, &err);
    } else if (help) {
        help_command(&call, stdout);
        code = 0;
    } else if (!command->run) {
        fprintf(stderr, "berth: '%s' is not supported: %s\n", name, command->why);
        code = 1;
    } else if (!count_fits(&call)) {
        code = 1;
    } else {
        int result = command->run(&call, &err);
        if (result == 0)
            result = flush_output(&err);
        code = result < 0 ? report(result, &err) : result;
    }
    arena_done(&call.arena);
    return code;
}

// "help ps" is "ps --help".
static void turn_help(struct client *client, struct strv *words)
{
    if (words->len < 2 || !str_eq(words->items[0], "help"))
        return;
    for (size_t i = 1; i < words->len; i++)
        words->items[i - 1] = words->items[i];
    words->items[words->len - 1] = arena_strdup(&client->arena, "--help");
}

static int run_words(struct client *client, struct strv *words)
{
    turn_help(client, words);
    if (!words->len) {
        help_root(stdout);
        return 0;
    }
    const char *first = words->items[0];
    const struct command *command = command_find(first);
    if (command)
        return run_command(client, command, first, words->items + 1, (int)words->len - 1);
    if (str_eq(first, "help") || !is_group(first)) {
        if (!str_eq(first, "help"))
            return unknown("", first);
        help_root(stdout);
        return 0;
    }
    if (words->len == 1 || str_eq(words->items[1], "--help") || str_eq(words->items[1], "-h")) {
        help_group(first, stdout);
        return 0;
    }
    const char *name = arena_printf(&client->arena, "%s %s", first, words->items[1]);
    command = command_find(name);
    if (!command && !group_why(first))
        return unknown(first, words->items[1]);
    if (!command) {
        fprintf(stderr, "berth: '%s' is not supported: %s\n", first, group_why(first));
        return 1;
    }
    return run_command(client, command, name, words->items + 2, (int)words->len - 2);
}

int client_main(int argc, char **argv)
{
    struct client client = { 0 };
    struct flags globals = { .arena = &client.arena };
    struct strv words = { 0 };
    struct err err;
    bool help = false;
    int code = 1;
    setlocale(LC_TIME, "");
    signal(SIGPIPE, SIG_IGN);
    err_clear(&err);
    if (flags_parse(&globals, &global_flags, argv + 1, argc - 1, true, &words, &help, &err) < 0) {
        fprintf(stderr, "%s\n\nUsage:  berth [OPTIONS] COMMAND [ARG...]\n\nRun 'berth --help' for more information\n", err.message);
        code = EXIT_ENGINE;
    } else if (help) {
        help_root(stdout);
        code = 0;
    } else if (flag_on(&globals, "version")) {
        printf("Berth version %s\n", BERTH_VERSION);
        code = 0;
    } else if (take_globals(&client, &globals, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
    } else {
        code = run_words(&client, &words);
    }
    if (client.has_kept)
        http_exchange_done(&client.kept);
    json_decref(client.config);
    arena_done(&client.arena);
    if (fflush(stdout) != 0 && code == 0)
        code = 1;
    return code;
}
