// What the commands of `berth` share: the connection to the daemon, a call of a command, and the tables of commands.
#ifndef CLIENT_CLIENT_PRIVATE_H
#define CLIENT_CLIENT_PRIVATE_H

#include "base/arena.h"
#include "client/flags.h"
#include "client/template.h"
#include "http/exchange.h"
#include "json/json.h"

#define CLIENT_API_NEWEST 50 // 1.50: what this client knows
#define CLIENT_ANSWER_MAX (256u << 20)

struct client_tls {
    bool on, verify;
    const char *ca, *cert, *key;
};

struct client {
    const char *host; // unix:///run/berth/berth.sock, tcp://127.0.0.1:2376
    const char *config_dir; // ~/.docker
    struct client_tls tls;
    bool debug;
    struct http_exchange kept; // between two requests
    bool has_kept;
    int api; // 0: not negotiated yet; 50 means 1.50
    json_t *config; // config.json, once read
    struct arena arena;
};

struct command;

// One command line, parsed.
struct call {
    struct client *client;
    const struct command *command;
    const char *name; // as typed: "container ls"
    struct flags flags;
    struct strv args;
    struct arena arena;
};

// A command returns an exit code (0, a container's), or with the error, which is then printed, -1 for exit code 1 or minus another code.
enum { EXIT_TEMPLATE = 64, EXIT_ENGINE = 125, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127, EXIT_BROKEN_PIPE = 141 };

enum completes { COMPLETES_NOTHING, COMPLETES_CONTAINERS, COMPLETES_RUNNING, COMPLETES_IMAGES, COMPLETES_NETWORKS, COMPLETES_VOLUMES,
                 COMPLETES_FILES, COMPLETES_ALL };

struct command {
    const char *path; // "container ls"; the first word of `aliases` may be the short form
    const char *aliases; // further paths, comma-separated
    const char *usage; // behind the name: "[OPTIONS] CONTAINER [CONTAINER...]"
    const char *help; // one line
    int args_min, args_max; // args_max -1: any number
    struct flag_tables flags;
    bool leading; // the first argument ends the flags
    enum completes completes;
    int (*run)(struct call *call, struct err *err); // NULL: known and not built, `why` says it
    const char *why;
};

extern const struct command commands[];
extern const size_t commands_len;

// ---- the daemon (api.c, connect.c) ----------------------------------------------------------------------------------

int client_connect(struct client *client, struct err *err); // a connected socket, TLS behind it
int client_tls_relay(int fd, const struct client_tls *tls, const char *host, struct err *err); // takes fd; a socket with plain bytes

// A path as the daemon wants it: the prefix, a name with what is special escaped, the rest. `name` may be NULL.
void path_put(struct buf *path, const char *prefix, const char *name, const char *rest);
#define PATH_INIT BUF_INIT(1u << 20)

// A connection on which the next request may be sent: the kept one or a new one. The first asks for the version.
int api_open(struct client *client, struct http_exchange *x, struct err *err);
void api_close(struct client *client, struct http_exchange *x); // kept when it can take another request
// Sends and waits for the head. What the daemon refuses becomes the error, "Error response from daemon: ..." with its class.
int api_send(struct client *client, struct http_exchange *x, const char *method, const char *path, const char *headers, json_t *body,
             struct err *err);
int api_check(struct http_exchange *x, struct err *err); // the same of a head that somebody else received
int api_read_all(struct http_exchange *x, struct buf *out, struct err *err);
// All in one. The body's reference is taken, *out may be NULL.
int api_json(struct client *client, const char *method, const char *path, json_t *body, json_t **out, struct err *err);
int api_text(struct client *client, const char *method, const char *path, struct buf *out, struct err *err);
int api_raw(struct client *client, const char *method, const char *path, const char *headers, json_t *body, struct buf *out, struct err *err);
int api_version(struct client *client, struct err *err); // negotiated: 50 for 1.50
// A connection that became the process's: POST with Upgrade, body may be NULL.
int api_hijack(struct client *client, const char *path, json_t *body, struct http_exchange *x, struct err *err);
// One object of a stream of JSON after the other: 1, 0 at the end, -1.
struct api_stream {
    struct http_exchange x;
    struct buf text;
    struct sender *sender; // of an upload; upload.c
};
int api_stream_next(struct api_stream *stream, json_t **out, struct err *err);
void api_stream_done(struct client *client, struct api_stream *stream);

// A file as the body, in chunks, and the answer, whose stream is open and may begin before all is sent: fd is read until
// api_stream_done(). -1 with nothing open. The stream may not move meanwhile.
int api_upload(struct client *client, const char *method, const char *path, const char *headers, int fd, struct api_stream *stream,
               struct err *err);
int copy_body(struct http_exchange *x, int fd, struct err *err);

// ---- credentials (config.c) -----------------------------------------------------------------------------------------

json_t *client_config(struct client *client); // config.json, {} without one; borrowed
const char *config_detach_keys(struct client *client);
char *config_headers(struct client *client); // lines for every request, malloc'ed
void config_proxies(struct client *client, json_t *environment);
// "X-Registry-Auth: ...\r\n" for an image's registry, malloc'ed.
char *image_auth_header(struct client *client, const char *image);
char *registry_config_header(struct client *client); // "X-Registry-Config: ...\r\n", malloc'ed
char *base64_text(const void *data, size_t size, bool url); // malloc'ed
bool base64_decode(struct slice text, struct buf *out);

// ---- lists (list.c) -------------------------------------------------------------------------------------------------

struct column {
    const char *name, *head;
};

// How rows are printed: what --format and -q say, and the table a command has without them.
struct list {
    const char *format, *table; // --format; "table {{.ID}}\t..."
    const char *raw; // for --format raw; NULL
    const char *type; // Go's name of a row, for errors
    const struct column *columns;
    size_t columns_len;
    bool quiet;
};

struct row {
    json_t *fields;
    json_t *labels; // may be NULL
};

// Prints the rows; the references stay the caller's.
int list_print(const struct list *list, const struct row *rows, size_t len, struct err *err);
int list_template(const struct list *list, struct template **out, struct err *err);
// --format of commands that print one object: "json", a template. -EXIT_TEMPLATE for one that can't be parsed.
int format_object(const char *name, const char *format, json_t *object, const char *type, struct err *err);

const char *item_text(const json_t *list, size_t i); // "" for what is no text
void row_put(json_t *row, const char *key, const char *value);
void row_putf(json_t *row, const char *key, const char *fmt, ...) _printf_(3, 4);

// ---- others ---------------------------------------------------------------------------------------------------------

int usage_error(const struct call *call, struct err *err, const char *fmt, ...) _printf_(3, 4);
bool confirm(const struct call *call, const char *warning); // asks on the terminal unless --force
char *ask_line(const char *prompt); // malloc'ed, "" at the end
char *ask_hidden(const char *prompt); // the same of what is not shown
// Runs `one` for each argument; failures are printed, the others go on: 1 when any failed.
int each_argument(struct call *call, int (*one)(struct call *call, const char *name, struct err *err), struct err *err);
int print_each(struct call *call, const char *prefix, const char *rest, const char *method, struct err *err);

// What is printed goes out now, also into a pipe. -1 when nobody takes it any more: who prints without end stops then.
int flush_output(struct err *err);
int output_failed(struct err *err); // of write(2)
#define WRITE_FAILED "write to standard output"

bool on_terminal(int fd);
void terminal_size(int fd, unsigned *rows, unsigned *columns);
int time_argument(const char *text, struct buf *out, struct err *err); // 10m, RFC 3339, unix time: "seconds.nanos"

// A daemon's stream of progress: bars on a terminal, plain lines elsewhere.
int progress_error(const json_t *message, struct err *err); // a message that is an error: minus its exit code; else 0
int progress_show(struct api_stream *stream, FILE *out, bool quiet, json_t **aux, struct err *err);
int download_to(struct client *client, const char *path, const char *output, struct err *err); // GET into a file; NULL: standard output
int body_to_tar(struct http_exchange *x, char *const argv[], int out, struct err *err); // the body is tar(1)'s standard input
int image_pull(struct client *client, const char *image, const char *platform, bool all_tags, bool quiet, FILE *out, struct err *err);
// "debian" is "debian:latest"; the parts of a reference. `tag` is a digest's text when there is one.
void image_parts(const char *image, struct buf *name, struct buf *tag);
size_t image_host(const char *image); // bytes of the registry's name in front; 0: Docker Hub
int image_check(const char *image, struct err *err);
// --platform as JSON in the parameter `key`; refused where the daemon's API is older than 1.`since`, which would pass over it.
int put_platforms(struct call *call, const char *key, int since, struct buf *path, struct err *err);

// The body of POST /containers/create out of the flags; run_options.c.
int container_body(struct call *call, json_t **out, struct err *err);
int put_ports(struct call *call, json_t *body, struct err *err);
int put_mounts(struct call *call, json_t *body, struct err *err);
int put_networks(struct call *call, json_t *body, struct err *err);
int put_ipam(struct call *call, json_t *body, struct err *err); // of network create
int put_ulimits(struct call *call, json_t *list, struct err *err); // --ulimit
int put_restart(struct call *call, json_t *body, struct err *err);
int mount_option(const char *text, json_t *mounts, struct err *err);
int publish_option(const char *text, json_t *exposed, json_t *bindings, struct err *err);
char *next_field(char **rest); // of a line of CSV, cut off in place; NULL at the end
int gpus_option(const char *text, json_t *requests, struct err *err);
int read_lines(const char *path, bool environment, json_t *out, struct err *err); // --env-file, --label-file

// A session with a process: session.c.
struct session {
    struct client *client;
    struct http_exchange *stream; // hijacked
    struct http_exchange *wait; // POST wait whose head has come; NULL without
    bool tty, in, out, err;
    const char *detach_keys;
    const char *resize_path; // "/containers/ID/resize"
    const char *signal_id; // whose process gets our signals; NULL: none
};
// Until the stream ends: the exit code that `wait` told (0 without), or -1. *detached when the keys were pressed.
int session_run(struct session *session, bool *detached, struct err *err);
void session_block_signals(const struct session *session); // before what the session is about is started
int session_copy(struct http_exchange *x, bool tty, struct err *err); // a stream to stdout and stderr to its end (logs)
int check_detach_keys(const char *keys, struct err *err);
int wait_begin(struct client *client, const char *id, const char *condition, struct http_exchange *x, struct err *err);
int wait_end(struct client *client, struct http_exchange *x, struct err *err);

// help.c, completion.c, manual.c
void help_root(FILE *out);
void help_group(const char *group, FILE *out);
void help_command(const struct call *call, FILE *out);
const char *command_suggestion(const char *word, const char *group, char kept[64]);

// Every command.
#define COMMAND_LIST(X)                                                                                                            \
    X(attach) X(build) X(commit) X(completion) X(complete) X(cp) X(create) X(diff) X(events) X(exec) X(export) X(history) X(images) X(import)   \
    X(info) X(inspect) X(container_inspect) X(image_inspect) X(kill) X(load) X(login) X(logout) X(logs) X(manual)                       \
    X(network_connect) X(network_create) X(network_disconnect) X(network_inspect) X(network_ls) X(network_prune) X(network_rm)           \
    X(pause) X(port) X(ps) X(pull) X(push) X(rename) X(restart) X(rm) X(rmi) X(run) X(save) X(search) X(start) X(stats) X(stop)        \
    X(df) X(system_prune) X(container_prune) X(image_prune) X(builder_prune) X(tag) X(top) X(unpause) X(update) X(version)             \
    X(checkpoint_create) X(checkpoint_ls) X(checkpoint_rm) X(volume_create) X(volume_inspect) X(volume_ls) X(volume_prune) X(volume_rm) X(wait)
#define COMMAND_DECLARE(name) int command_##name(struct call *call, struct err *err);
COMMAND_LIST(COMMAND_DECLARE)

#endif
