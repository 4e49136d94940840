// What the api's files share: a call, the route table, and the small tools of a handler.
//
// A handler returns 0 after it answered, or -1 with the error filled: then the router answers with the class's status and
// {"message": ...}, or, where the head is out already, the handler has said it in its own stream.
#ifndef API_API_PRIVATE_H
#define API_API_PRIVATE_H

#include "api/api.h"
#include "base/clock.h"
#include "base/num.h"
#include "base/slice.h"

#define API_VERSION_MAX 51 // 1.51
#define API_VERSION_MIN 21
#define API_VERSION_TEXT "1.51"
#define API_VERSION_MIN_TEXT "1.21"

struct buildkit;

struct api {
    struct engine *engine;
    struct builder *builder;
    struct buildkit *buildkit;
    struct arena arena; // of what it was made with
    char server[64]; // "Docker/0.1.0 (linux)": clients read the operating system out of it
};

struct call {
    struct engine *engine;
    struct builder *builder;
    struct buildkit *buildkit;
    struct httpd_request *request;
    struct arena *arena; // the request's
    int version; // minor: 51 for v1.51
    char *values[HTTPD_ROUTE_VALUES]; // of the pattern's variables
};

typedef int api_handler(struct call *call, struct err *err);

enum route_kind {
    ROUTE_SERVED,
    ROUTE_LATER, // 501
    ROUTE_SWARM, // 503, 501 or 409, as `says`
};

struct route {
    const char *method, *pattern;
    api_handler *handler; // SERVED
    enum route_kind kind;
    int since; // first minor version that has it; 0: all
    enum err_class refusal; // LATER, SWARM: with `says`; ERR_NONE: the kind's own
    const char *says; // the message; NULL: the kind's own
    enum httpd_body body;
};

extern const struct route api_routes[];
extern const size_t api_route_len;

// Finds the route of a path that may begin with a version. 0, or -1: not_found "page not found", or invalid_argument when the
// version is out of range. `old` tells that it is below the lowest: then the error is plain text, as such clients expect.
int route_find(const char *method, const char *path, struct arena *arena, const struct route **route, int *version,
               char *values[HTTPD_ROUTE_VALUES], bool *old, struct err *err);

// The minor version that a path begins with; the highest where it begins with none.
int path_version(const char *path);

// ---- versions (versions.c) ------------------------------------------------------------------------------------------
//
// Handlers make the newest version's document; what older ones had besides, or did not have yet, is a table.

enum document { DOCUMENT_INFO, DOCUMENT_IMAGE, DOCUMENT_IMAGE_ROW };
void document_age(enum document document, int version, json_t *object);
// The same for a create body: what clients of that version can't mean is taken out.
void networks_age(int version, const struct engine_container *container, json_t *networks);
void create_body_age(int version, json_t *body);

// ---- answers (reply.c) ----------------------------------------------------------------------------------------------

int reply_json(struct call *call, int status, json_t *value); // takes the value; a newline follows it. 0
int reply_empty(struct call *call, int status); // 0
void reply_error(struct httpd_request *request, const struct err *err);

// Progress objects as a chunked stream, each followed by CRLF. The head goes out with the first object, so that an error
// before it still has a status; after it the error is the last object.
struct progress {
    struct call *call;
};
int progress_write(void *progress, json_t *object); // an engine_progress_fn; borrows the object
int progress_end(struct progress *progress, int result, struct err *err); // what the handler returns

// ---- requests (params.c) --------------------------------------------------------------------------------------------

// The JSON body: invalid_argument for another type, none at all, or junk.
// platform.c: the client's "platform" or "platforms", as JSON. not_found when the image is of another one; not_implemented when it is not
// this machine's.
#if defined(__aarch64__)
#define PLATFORM_ARCHITECTURE "arm64"
#else
#define PLATFORM_ARCHITECTURE "amd64"
#endif
int platform_check(struct call *call, const char *key, const char *name, const struct image *image, struct err *err);
int platform_check_own(struct call *call, const char *key, struct err *err);
int body_json(struct call *call, json_t **out, struct err *err);
int body_check_type(const char *content_type, struct err *err); // "application/json", parameters allowed
char *base64_text(const void *data, size_t size, struct arena *arena); // with padding
int query_int(const struct call *call, const char *key, int64_t fallback, int64_t *out, struct err *err);
int query_size(const struct call *call, const char *key, int64_t *out, struct err *err); // a terminal's h and w
// "seconds[.fraction]" since 1970; absent and 0 give 0.
int query_time(const struct call *call, const char *key, int64_t *out_ns, struct err *err);
int time_parse(const char *text, int64_t *out_ns);
// What `until` says: the same, or a time of RFC 3339, or how long ago ("24h", "1h30m", "1.5s"). invalid_argument.
int until_parse(const char *text, int64_t *out_ns, struct err *err);
// "ctrl-p,ctrl-q", "a,ctrl-@", "" for the default.
int detach_keys_check(const char *keys, struct err *err);
const char *stream_type(const struct call *call, bool terminal, bool hijack); // Content-Type of attach, exec and logs
int64_t stop_seconds(int64_t asked); // what the client's t says to the engine

// ---- filters (filters.c) --------------------------------------------------------------------------------------------

struct filter {
    char *key;
    struct strv values;
};
struct filters {
    struct filter *items;
    size_t len;
};

// Both forms: {"key":{"value":true}} and {"key":["value"]}. NULL and "" are none. A key that is not in `allowed` (ends with
// NULL) is invalid_argument.
int filters_parse(const char *text, const char *const *allowed, struct arena *arena, struct filters *out,
                  struct err *err);
const struct strv *filters_get(const struct filters *filters, const char *key); // NULL when absent
int filters_flag(const struct filters *filters, const char *key, int *out, struct err *err); // 1 yes, 0 no, -1 not asked
// No filter of that key, or one value says yes.
bool filters_equal(const struct filters *filters, const char *key, const char *subject);
bool filters_labels(const struct filters *filters, const char *key,
                    const struct kvs *labels); // all must fit: "key" or "key=value"
// Extended regular expressions, bounded.
int filters_match(const struct filters *filters, const char *key, const char *subject, bool *fits, struct err *err);
bool glob_valid(const char *pattern); // false: a class without an end, or a backslash that ends it
bool glob_match(const char *pattern, const char *text); // path.Match of Go: * and ? stop at a slash
int container_filters_check(const struct filters *filters, struct err *err); // values of closed sets
extern const char *const container_filter_keys[];

struct container_query {
    const struct filters *filters;
    struct arena *arena;
    struct strv ancestors; // image ids that the ancestor filter names
    int64_t before_ns, since_ns; // created before, after; 0: any
};
int container_fits(const struct container_query *query, const struct engine_container *container, bool *fits,
                   struct err *err);
extern const char *const event_filter_keys[];
bool event_fits(const struct filters *filters, const struct engine_event *event);

// ---- shapes (shape_*.c) ---------------------------------------------------------------------------------------------

json_t *shape_texts(const struct strv *list); // [] when empty
json_t *shape_texts_or_null(const struct strv *list);
json_t *shape_map(const struct kvs *map);
json_t *shape_keys(const struct strv *list); // {"80/tcp": {}}
json_t *shape_time(int64_t ns);
int write_archive(void *request, int pipe_fd, size_t size); // image.c: an engine_pipe_fn that streams a tar
json_t *shape_time_seconds(int64_t ns); // without a fraction
json_t *shape_text(const char *text); // "" for NULL
// The members of Docker's Config that come from an image's config, into `object`.
void shape_process(json_t *object, const struct oci_image_process *process);

json_t *shape_container(const struct call *call, const struct engine_container *container); // GET /containers/{id}/json
json_t *shape_container_row(const struct engine_container *container, const char *image); // of GET /containers/json
json_t *shape_host_config(const char *body_text, const struct host_config *effective);
void shape_wall(json_t *host_config); // of a guest
json_t *shape_networks(const struct engine_container *container); // by their names
json_t *shape_event(const struct engine_event *event);
json_t *shape_exec(const struct engine_exec *exec);
json_t *shape_image(const struct image *image, const char *driver, int version);
json_t *shape_volume(const struct volume *volume);
void container_add_sizes(struct call *call, const char *id, json_t *object); // SizeRw, SizeRootFs; none when it is gone
// Says of each row how much of it other images have too; `images` are all there are.
void image_rows_share(struct call *call, struct image *images, size_t len, json_t *rows);
json_t *shape_image_row(const struct image *image, int version);
void duration_words(int64_t ns, char *out, size_t size); // "About a minute"
char *status_words(const struct engine_container *container, int64_t now_ns, struct arena *arena); // "Up 2 seconds"

// What a list has found out about its containers' images, in the arena: a thousand containers have a few images, and the store is asked
// once for each. Starts as NULL.
struct shown_image;
// The name a container's image is shown by: as typed, or its id once that name means another image.
char *image_shown(struct engine *engine, const struct engine_container *container, struct shown_image **seen, struct arena *arena);

// ---- registries (registry.c) ----------------------------------------------------------------------------------------

json_t *registry_auth(struct call *call, const char *header); // NULL: says nothing. A reference
struct engine_login registry_login(const json_t *auth); // its texts are the object's

int build_tags(const struct strv *said, struct arena *arena, struct strv *out, struct err *err); // build.c: "web" as "web:latest", each once
void build_sort_labels(struct kvs *labels);
struct buildkit_config;
struct buildkit_session;
struct engine_login buildkit_login_for(struct buildkit_session *session, const char *domain, struct arena *arena);
void buildkit_results(struct buildkit_config *config); // buildkit_result.c: what becomes of it
void buildkit_layouts(struct buildkit_config *config);
void buildkit_scans(struct buildkit_config *config);
int buildkit_words(int64_t exit_code, struct err *err); // a build's error as BuildKit says it; -1. The code is a RUN's, else 0
struct relay { // bytes of a pipe to who asked for them
    int (*bytes)(void *of, const char *data, size_t size, struct err *err);
    void *of;
    struct err err; // why they went no further
};
int relay_pipe(void *relay, int pipe_fd, size_t size); // an engine_pipe_fn
void buildkit_functions(struct api *api, struct buildkit_config *config); // buildkit_build.c: what builds
int buildkit_door(struct api *api, struct err *err); // buildkit.c: api->buildkit

// ---- handlers -------------------------------------------------------------------------------------------------------

api_handler handle_system_ping, handle_system_version, handle_system_info, handle_system_events;
api_handler handle_container_list, handle_container_create, handle_container_inspect, handle_container_start,
    handle_container_stop, handle_container_restart, handle_container_kill, handle_container_pause,
    handle_container_unpause, handle_container_remove, handle_container_rename, handle_container_resize, handle_container_update,
    handle_container_wait, handle_container_attach, handle_container_logs;
api_handler handle_exec_create, handle_exec_start, handle_exec_resize, handle_exec_inspect;
api_handler handle_image_list, handle_image_inspect, handle_image_history, handle_image_create, handle_image_load, handle_image_save,
    handle_image_delete, handle_image_tag, handle_image_pull;
api_handler handle_image_search, handle_image_push, handle_registry_auth, handle_registry_lookup;
api_handler handle_volume_list, handle_volume_create, handle_volume_inspect, handle_volume_remove;
api_handler handle_container_prune, handle_image_prune, handle_network_prune, handle_volume_prune, handle_build_prune,
    handle_system_usage, handle_container_stats, handle_container_top;
api_handler handle_archive_stat, handle_archive_get, handle_archive_put, handle_container_changes, handle_container_export,
    handle_container_commit, handle_container_attach_ws;
api_handler handle_checkpoint_list, handle_checkpoint_create, handle_checkpoint_remove;
api_handler handle_build, handle_build_cancel;
api_handler handle_network_list, handle_network_inspect, handle_network_create, handle_network_remove;
api_handler handle_network_connect, handle_network_disconnect;
api_handler handle_grpc, handle_session;
api_handler handle_plugin_list, handle_plugin_missing, handle_options;

#endif
