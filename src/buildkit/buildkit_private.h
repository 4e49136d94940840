// What the room's files share.
//
// A solve is one build of a client's: Control.Solve makes it, the others find it by its ref. A session is a client's other connection. Both are
// in lists of the room's, counted by their users, and both are waited for: the client opens its connections in whatever order.
#ifndef BUILDKIT_BUILDKIT_PRIVATE_H
#define BUILDKIT_BUILDKIT_PRIVATE_H

#include "base/path.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "buildkit/buildkit.h"
#include "grpc/grpc.h"
#include "buildkit/messages.h"

#define SOLVES_MAX 64 // builds at a time
#define HISTORY_MAX 50 // builds that are over and may still be asked about, and as many that are pinned
#define HISTORY_SIZE_MAX ((size_t)128 << 20) // bytes of their progress
#define SESSIONS_MAX 256
#define NAME_MAX_SIZE 128 // of refs and ids of sessions
#define MESSAGE_MAX ((size_t)16 << 20)
#define EVENTS_MAX ((size_t)64 << 20) // bytes of one build's progress
#define STEP_LOG_MAX ((size_t)2 << 20) // of one step's output; what follows is cut, as BuildKit does it
#define WAIT_NS (15 * NS_PER_S) // for a connection of the client that has to come first
#define DOCKERFILE_MAX ((size_t)4 << 20)
#define IGNORE_MAX ((size_t)4 << 20)

// Bits of a Go os.FileMode, which is what a client says and reads.
#define MODE_DIR (1u << 31)
#define MODE_SYMLINK (1u << 27)
#define MODE_DEVICE (1u << 26)
#define MODE_PIPE (1u << 25)
#define MODE_SOCKET (1u << 24)
#define MODE_SETUID (1u << 23)
#define MODE_SETGID (1u << 22)
#define MODE_CHAR (1u << 21)
#define MODE_STICKY (1u << 20)

#define OUTPUTS_MAX 16
#define PLATFORMS_MAX 16
#define ANNOTATIONS_MAX 1000

// One --output; its number is its place among those that were asked for.
enum output_kind { OUTPUT_IMAGE = 1, OUTPUT_LOCAL = 2, OUTPUT_TAR = 4, OUTPUT_OCI = 8, OUTPUT_DOCKER = 16 };
enum annotation_place { ANNOTATION_MANIFEST, ANNOTATION_MANIFEST_DESCRIPTOR, ANNOTATION_INDEX, ANNOTATION_INDEX_DESCRIPTOR };
struct annotation {
    enum annotation_place place;
    const char *platform, *key, *value; // platform NULL: any
};
struct output {
    enum output_kind kind;
    struct strv names;
    bool push, unseen, times, mirror; // unseen: not in the list of images; mirror: what else is in the client's folder goes
    const char *compression; // NULL: as it is made without a word
    int level; // -1: none was asked for
    bool docker_types, oci_types; // asked for by name
    bool by_digest, folder; // folder: no tar, but a layout in the client's folder
    const char *prefix; // of the files that attest; NULL
    struct annotation *annotations;
    size_t annotation_len;
};

// What is to attest the results.
struct attest {
    bool provenance, sbom;
    bool max, old, reproducible; // old: version 0.2 of SLSA's predicate
    const char *builder_id, *generator; // NULL: none given
};

struct solve_result {
    const char *platform, *image; // "linux/amd64"; an ID
    struct buildkit_source *sources;
    size_t source_len;
    struct buildkit_statement *statements; // of a generator
    size_t statement_len;
};

// Where a cache comes from or goes to: a registry, or a folder of the client's.
struct cache_place {
    const char *name; // the reference, or the folder as the client calls it
    const char *digest; // of the manifest in the folder; NULL: a registry, or it is written
    bool folder;
    bool ignore_error; // a cache that can't be written is said, and no failure of the build
};

struct buildkit {
    struct buildkit_config config;
    struct mutex lock;
    struct cond changed; // a solve, or a session
    struct cond told; // an event of a solve's
    struct solve *solves GUARDED_BY(lock); // the newest first
    int64_t generation GUARDED_BY(lock); // counts their changes
    struct buildkit_session *sessions GUARDED_BY(lock);
    int history_fd; // -1: no folder
};

struct solve {
    struct solve *next;
    struct buildkit *buildkit;
    char *ref, *session;
    struct arena arena;
    struct output outputs[OUTPUTS_MAX];
    size_t output_len; // 0: the result stays in the cache alone
    struct cache_place *cache_from, *cache_to;
    size_t cache_from_len, cache_to_len;
    bool cache_max; // of all stages
    unsigned users GUARDED_BY(lock);
    bool over GUARDED_BY(lock); // Control.Solve has been answered
    bool returned GUARDED_BY(lock);
    bool internal; // not to be listed
    bool deleted GUARDED_BY(lock), pinned GUARDED_BY(lock); // by the client
    int64_t generation GUARDED_BY(lock); // of its last change
    int64_t began_ns, ended_ns GUARDED_BY(lock);
    int32_t cached GUARDED_BY(lock), total GUARDED_BY(lock), completed GUARDED_BY(lock); // steps
    struct kvs attributes GUARDED_BY(lock), response GUARDED_BY(lock); // of the frontend; what the client was answered
    struct err failure GUARDED_BY(lock); // of the build, or what the client said with Return
    char *failed_at GUARDED_BY(lock); // failure_source()'s, in the arena; NULL: no build of it has failed in a line
    char *image GUARDED_BY(lock), *cache GUARDED_BY(lock); // in the arena; NULL: not built. The image is the first result's, or this machine's
    struct solve_result results[PLATFORMS_MAX]; // one a platform. Like what follows: written before the client is content, and read after
    size_t result_len;
    struct attest attest;
    const char *dockerfile; // its text; NULL: it was in the context
    bool same_time GUARDED_BY(lock); // SOURCE_DATE_EPOCH was given
    int64_t time GUARDED_BY(lock); // seconds
    char file[33] GUARDED_BY(lock); // in the history's folder; "": none
    int64_t kept_at; // of one that an earlier daemon has kept: where its progress begins in the file, and its size
    size_t kept_size;
    struct buf events GUARDED_BY(lock); // encoded StatusResponses, one behind the other: their concatenation is one, too
};

struct buildkit_session {
    struct buildkit_session *next;
    struct buildkit *buildkit;
    char *id;
    char *key; // which client and folder it is for; "": it does not say
    struct grpc *grpc;
    unsigned users GUARDED_BY(lock);
    bool ended GUARDED_BY(lock);
};

// ---- registry.c: finding solves and sessions ------------------------------------------------------------------------

// `settings`: arena, outputs and cache_from are moved out of it, on success.
int solve_begin(struct buildkit *buildkit, const struct solve_request *request, struct solve *settings, struct solve **out, struct err *err);
// The solve of that ref, which is waited for. not_found.
int solve_get(struct buildkit *buildkit, const char *ref, const struct cancel *cancel, struct solve **out, struct err *err);
void solve_put(struct solve *solve); // NULL is fine
void solve_free(struct solve *solve); // that is in no list
// With the lock held: without waiting, NULL; and what is too much or deleted goes.
struct solve *solve_find(struct buildkit *buildkit, const char *ref);
void solves_forget(struct buildkit *buildkit);
int session_get(struct buildkit *buildkit, const char *id, const struct cancel *cancel, struct buildkit_session **out, struct err *err);
void session_put(struct buildkit_session *session);

// ---- messages in and out --------------------------------------------------------------------------------------------

// The call's one message, decoded into its arena.
int take_message(struct grpc_call *call, const struct proto_message *table, void *out, struct err *err);
int send_message(struct grpc_call *call, const struct proto_message *table, const void *in, struct err *err);

// ---- handlers (control.c, solve.c, bridge.c) ------------------------------------------------------------------------

grpc_handler handle_info, handle_workers, handle_usage, handle_prune, handle_history, handle_history_update, handle_health, handle_session_call;
grpc_handler handle_solve, handle_status;
grpc_handler handle_ping, handle_bridge_solve, handle_return;
struct worker_record *worker_of(const struct buildkit *buildkit, struct arena *arena);

// ---- attributes.c: what a frontend is told, as a build --------------------------------------------------------------

// not_implemented for what would be silently left out, by name.
struct asked {
    struct strv platforms; // none: this machine's
    struct attest attest;
};
int attributes_read(const struct kvs *attributes, struct arena *arena, struct buildkit_build *out, struct asked *asked, struct err *err);

// ---- calls.c: questions about a Dockerfile --------------------------------------------------------------------------

struct call_input {
    struct slice source, ignore; // the Dockerfile, and its .dockerignore
    const char *name, *target; // target NULL: the last stage
    const char *platform; // "linux/amd64"
    const struct kvs *args;
};
// `name`: "frontend.lint". The answer as a result's metadata. not_implemented: nobody knows that question.
int call_answer(const struct call_input *input, const char *name, struct arena *arena, struct kvs *out, struct err *err);

// ---- warn.c: what the lint says in an ordinary build ----------------------------------------------------------------

struct warnings {
    struct solve *solve;
    const char *vertex; // of the step that has loaded the Dockerfile
    const struct kvs *contexts; // by name: what they stand for is no image of that name
    bool waits; // said by warnings_tell(): an image is not here yet, whose variables a rule asks for
};
// Tells them, unless they have to wait; `last`: they don't. An error where the file asks for one (error=true).
int warnings_tell(struct warnings *warnings, const struct call_input *input, bool last, struct arena *arena, struct err *err);

// ---- wanted.c: small files of the client's, in memory ---------------------------------------------------------------

struct step;
struct wanted {
    const char *name;
    struct buf text;
    bool found;
    char *link; // it is a link, to this; malloc'ed
};
// Out of a folder that the client calls so. Those that are not there are not `found`.
int wanted_read(struct buildkit_session *session, const char *folder, struct wanted *files, size_t len, struct step *step, const struct cancel *cancel,
                struct err *err);

// ---- failure.c: where in the Dockerfile a build failed, as clients show it ------------------------------------------

// A detail of a call's failure (FAILURE_SOURCE), malloc'ed; NULL where there is no line to show.
#define FAILURE_SOURCE "github.com/moby/buildkit/errdefs.Source+json"
char *failure_source(const struct buildkit_built *built, const char *filename);

// ---- progress.c -----------------------------------------------------------------------------------------------------

#define STEP_DIGEST_SIZE (7 + 64 + 1)
// One step that is under way; the events of others may come between.
struct step {
    struct solve *solve;
    char digest[STEP_DIGEST_SIZE];
    char *name;
    int64_t started_ns;
    size_t log_size;
    bool running, cached;
};
void step_start(struct step *step, struct solve *solve, const char *name);
void step_log(struct step *step, struct slice text);
void step_status(struct step *step, const char *id, int64_t current, int64_t total, bool completed);
void step_end(struct step *step, const struct err *failure); // NULL: well. Of a step that does not run: nothing
void progress_tell(struct solve *solve, const struct status_response *event);

// The classic stream of a build as steps. A piece with a number "stage" is that stage's, which runs beside others; "end" is how it was put down:
// "waits", "finished", "failed", "cancelled".
struct stream {
    struct solve *solve;
    struct step step; // of what has no stage
    struct step *stages;
    size_t len;
    size_t failed; // number of the stage that did, and one; 0: none
    const char *platform; // stands before each step's name; NULL: there is one alone
};
buildkit_progress_fn stream_take; // of a struct stream
void stream_end(struct stream *stream, const struct err *failure); // NULL: well

// ---- files.c: the client's files ------------------------------------------------------------------------------------

struct files_request {
    const char *folder; // "context", "dockerfile"
    const struct strv *excludes; // NULL: none
    const struct strv *follow; // NULL: all; else these files alone
};
// Where files go, in the client's order, folders first. `content` comes as often as there are bytes.
struct files_sink {
    int (*entry)(void *of, const struct stat_message *stat, struct err *err);
    int (*content)(void *of, const char *data, size_t size, struct err *err);
    int (*entry_end)(void *of, const struct stat_message *stat, struct err *err);
    void *of;
};
// The list alone; then, of those that are not to be skipped, all in its order. Texts live until files_close(). fetch: once.
struct files;
int files_list(struct buildkit_session *session, const struct files_request *request, struct step *step, const struct cancel *cancel, struct files **out,
               struct err *err);
size_t files_len(const struct files *files);
const struct stat_message *files_stat(const struct files *files, size_t index);
void files_skip(struct files *files, size_t index);
int files_fetch(struct files *files, const struct files_sink *sink, struct err *err);
void files_close(struct files *files); // NULL is fine
int files_receive(struct buildkit_session *session, const struct files_request *request, const struct files_sink *sink, struct step *step,
                  const struct cancel *cancel, struct err *err);

// ---- sync.c: a folder of the client's, brought up to date ------------------------------------------------------------

struct sync_request {
    struct buildkit_session *session;
    struct solve *solve; // whose progress has the step
    struct files_request files;
    const char *step; // its name
    const char *hint; // beside the folder's name and the session's own word: which folder it is
    const struct cancel *cancel;
};
// Opens what was kept of it and asks for what has changed. The caller's to free.
int sync_folder(const struct sync_request *request, struct build_kept **out, struct err *err);

// ---- history.c ------------------------------------------------------------------------------------------------------

void history_describe(struct solve *solve, const struct kvs *attributes); // the first ones count
// With the lock held. `response` and `failure` may be NULL.
void history_end(struct solve *solve, const struct kvs *response, const struct err *failure);
void history_encode(const struct solve *solve, struct buf *out); // its record, with the lock held
void history_restore(struct solve *solve, const struct history_record *record); // of one that is in no list yet

// ---- history_disk.c: what outlives the daemon -----------------------------------------------------------------------

int history_open(struct buildkit *buildkit, const char *folder, struct err *err); // folder NULL: there is none
void history_keep(struct solve *solve); // once it is over
// With the lock held.
void history_pin(struct solve *solve, bool pinned);
void history_unlink(const struct solve *solve);
void history_load_events(struct solve *solve);

// ---- output.c: what becomes of the result ---------------------------------------------------------------------------

// not_implemented, by name, for what is not there.
int output_add(struct solve *solve, const char *type, const struct kvs *attributes, struct err *err);
// The names of all that are images of this daemon, each once; false: there is none.
bool outputs_names(const struct solve *solve, struct arena *arena, struct strv *out);
void outputs_all_names(const struct solve *solve, struct arena *arena, struct strv *out); // archives', too, as a folder's index has them
bool outputs_times(const struct solve *solve);

// ---- form.c, provenance.c: results that are more than an image ------------------------------------------------------

json_t *encoded_text(struct slice text);
void csv_fields(struct arena *arena, const char *text, struct strv *out); // a line of CSV
int attest_take(struct attest *attest, const char *type, const char *value, struct arena *arena, struct err *err);
int annotation_take(struct output *output, struct arena *arena, const char *name, const char *value, struct err *err);
bool output_needs_form(const struct solve *solve, const struct output *output);
int output_layout(struct solve *solve, const struct output *output, struct arena *arena, struct buildkit_layout **out, const struct cancel *cancel,
                  struct err *err);
struct kvs output_entry_annotations(const struct output *output, struct arena *arena);
// scan.c: a bill of materials of each result, if it was asked for.
int scan_result(struct solve *solve, struct buildkit_session *session, struct solve_result *result, const struct cancel *cancel, struct err *err);
void scan_done(struct solve *solve);
json_t *provenance_make(const struct solve *solve, const struct solve_result *result, struct arena *arena, const char **type);

// ---- send.c: files and bytes to the client --------------------------------------------------------------------------

struct send_target {
    struct buildkit_session *session;
    size_t number; // of the output
    const struct cancel *cancel;
    struct step *step;
    const struct kvs *said; // what the client names its file by; NULL
    bool mirror;
};
// A stream of bytes; whatever `make` gives its sink. And a folder's files.
typedef int send_make_fn(void *of, buildkit_bytes_fn *bytes, void *bytes_of, struct err *err);
int send_bytes(const struct send_target *target, send_make_fn *make, void *of, struct err *err);
struct send_tree {
    send_make_fn *make; // the folder's tar
    int (*open)(void *of, const char *path, struct err *err); // a regular file of it
    void *of;
};
int send_folder(const struct send_target *target, const struct send_tree *tree, struct err *err);

// ---- follow.c -------------------------------------------------------------------------------------------------------

// The paths in the context that a Dockerfile names; false: it may need any.
bool follow_paths(const struct buildkit *buildkit, struct slice text, struct arena *arena, struct strv *out);

// ---- upload.c: what a client has read from its standard input -------------------------------------------------------

// `url`: as the client calls it, "http://buildkit-session/...". Into the descriptor.
int upload_receive(struct buildkit_session *session, const char *url, int fd, const struct cancel *cancel, struct err *err);

// ---- content.c, layout.c: folders of the client's with an OCI layout ------------------------------------------------

struct content_store {
    struct buildkit_session *session;
    const char *id; // what the client calls it: "local:DIR", "oci:NAME", "export"
    const struct cancel *cancel;
};
int content_size(const struct content_store *store, const char *digest, int64_t *size, struct err *err); // not_found
// Exactly so many bytes; their digest is the taker's to check.
int content_read(const struct content_store *store, const char *digest, int64_t size, buildkit_bytes_fn *bytes, void *bytes_of, struct err *err);
// A blob to the client; what it has is not sent again. To be done with in any case.
struct content_write {
    struct grpc_call *call;
    char *digest; // malloc'ed
    int64_t size, at;
    bool there;
    struct buf part, answer;
};
int content_write_begin(const struct content_store *store, const char *digest, int64_t size, struct content_write *out, struct err *err);
int content_write_add(struct content_write *write, const char *data, size_t size, struct err *err);
int content_write_end(struct content_write *write, struct err *err);
void content_write_done(struct content_write *write);

// The image of a manifest, or of an index's for that platform, as an image archive into the descriptor.
struct layout_request {
    const char *store, *digest, *platform; // "linux/amd64"
};
int layout_receive(struct buildkit_session *session, const struct layout_request *request, struct step *step, int fd, const struct cancel *cancel,
                   struct err *err);
// An image archive into a folder of the client's. *descriptor (arena) is the index's first entry, as JSON.
int layout_send(const struct content_store *store, struct step *step, send_make_fn *make, void *of, struct arena *arena, char **descriptor,
                struct err *err);

// ---- ignore.c -------------------------------------------------------------------------------------------------------

// The patterns of a .dockerignore, as the client's side wants them.
void ignore_patterns(struct slice text, struct arena *arena, struct strv *out);

// ---- merge.c: trees of several platforms, and files beside what an image has, as one tar ----------------------------

struct merge {
    const struct solve *solve;
    const struct output *output;
    struct arena *arena;
    const struct cancel *cancel;
    struct merge_part *parts; // one a result
    size_t len;
};
// Opens the images' trees. To be done with in any case.
int merge_open(struct merge *merge, struct err *err);
void merge_done(struct merge *merge);
send_make_fn merge_make; // of a struct merge
int merge_file(void *merge, const char *path, struct err *err); // a regular file of it: a descriptor

// ---- results.c: what becomes of the result --------------------------------------------------------------------------

struct outputs_said { // arena memory; NULL: nothing
    char *digest; // of what was pushed
    char *descriptor; // of a layout, as JSON
    char *cache; // the descriptor of a cache in a folder of the client's
};
// Once the image is made and the client is content.
int outputs_run(struct solve *solve, struct arena *arena, struct outputs_said *said, const struct cancel *cancel, struct err *err);

// ---- tar.c ----------------------------------------------------------------------------------------------------------

struct tar_out {
    int fd;
    buildkit_bytes_fn *bytes; // instead of the descriptor; NULL
    void *bytes_of;
    int64_t left; // of the entry's content
    size_t padding;
    size_t held_size;
    char held[64 << 10]; // not written yet
};
void tar_sink(struct tar_out *tar, struct files_sink *out);
int tar_end(struct tar_out *tar, struct err *err);
void tar_break(struct tar_out *tar); // so that nobody takes what was written for all

#endif
