// What the builder's files share.
#ifndef BUILDER_BUILDER_PRIVATE_H
#define BUILDER_BUILDER_PRIVATE_H

#include "base/clock.h"
#include "base/mutex.h"
#include "base/num.h"
#include "build/dockerfile.h"
#include "build/graph.h"
#include "build/ignore.h"
#include "build/listing.h"
#include "build/scope.h"
#include "build/step.h"
#include "build/words.h"
#include "builder/builder.h"
#include "engine/steps.h"

#if defined(__aarch64__)
#define OWN_PLATFORM "linux/arm64"
#else
#define OWN_PLATFORM "linux/amd64"
#endif

#define IGNORE_SIZE_MAX ((size_t)16 << 20) // of a .dockerignore

struct builder {
    struct engine *engine;
    struct store *store;
    struct mutex lock; // unranked, before the store's and the images'
    struct crew *crews GUARDED_BY(lock); // of the builds that run
    struct build_kept *kept GUARDED_BY(lock); // contexts that are in use (kept.c)
};

// What was not said yet, because it is not its stage's turn.
struct held {
    json_t *lines; // NULL: nothing
    size_t size;
};

// What a build's stages share while several threads make them (crew.c). Of its locks `voice` may be held when `lock` is taken.
struct crew {
    struct crew *next; // in the builder's list
    const char *id; // of the build, for who wants to cancel it; NULL: none
    struct strv found, made GUARDED_BY(builder->lock); // keys of the cache that the build stands on
    bool settled GUARDED_BY(builder->lock); // an image with loose layers got another one in its place
    struct cancel cancel; // the client's, or ours
    int stop_fd, either_fd;

    struct mutex lock;
    struct cond changed; // a stage was put down, a key is nobody's any more, or all is over
    size_t first GUARDED_BY(lock); // of the stages that are not finished
    size_t busy GUARDED_BY(lock); // stages that are in somebody's hands
    unsigned steps GUARDED_BY(lock); // "Step 1/3"
    size_t memory GUARDED_BY(lock); // bytes of the stages' arenas
    bool over GUARDED_BY(lock);
    struct stage *failed GUARDED_BY(lock);
    struct err failure GUARDED_BY(lock);

    struct build_source *sources GUARDED_BY(lock); // texts and list malloc'ed
    size_t source_len GUARDED_BY(lock);

    struct mutex voice; // the stream of the client's
    size_t speaker GUARDED_BY(voice); // the stage whose turn it is
    struct mutex asking; // the client, who is asked one thing at a time
};

// A client's folder that is kept between builds (kept.c).
struct build_kept {
    struct build_kept *next; // in the builder's list
    struct builder *builder;
    char name[2 * 32 + 1], *key, *description; // key NULL: it goes with the build
    char *mark; // of its list
    int top_fd, tree_fd; // tree_fd -1: a tar is kept
    struct listing listing;
    int64_t size; // of what is kept
    bool unknown; // what is in the tree
};

// The tar of a classic client's last build with these names. `kept` NULL: none can be kept.
struct kept_tar {
    struct build_kept *kept;
    int fd; // the tar; -1: none that is believed
    struct buf texts[2]; // of its Dockerfile and its .dockerignore
    bool found[2];
};

struct context {
    int folder_fd; // -1: nothing is unpacked yet
    const struct listing *listing; // what is in it; NULL: that is not known
    int spool_fd; // a tar that is listed, and not yet unpacked; -1
    struct listing listed; // its list
    struct kept_tar kept; // of a tar
    struct strv hidden; // what of it is none of the context's
    struct mutex lock; // unranked: held while it is unpacked
};

struct build {
    struct stage *stage; // whose view of the build it is; NULL: the whole
    struct crew *crew;
    struct builder *builder;
    struct engine *engine;
    const struct build_request *request;
    const struct cancel *cancel; // the crew's
    struct arena *arena; // the stage's, or the caller's
    struct workshop *workshop;
    struct context *context; // of all stages
    struct dockerfile *file;
    struct build_args args;
    struct scope global;
    struct graph *graph;
    struct stage *stages;
    unsigned step; // said so far
    unsigned folders; // of heredocs, counted
    int64_t created_ns, time_max; // SOURCE_DATE_EPOCH: seconds; -1
    struct named *named; // contexts by name
    size_t named_len;
    int64_t exit_code;
    struct dockerfile_place place; // where it failed; line 0: in no line
    engine_progress_fn *progress;
    void *progress_of;
    json_t *imported; // steps of --cache-from by their keys; not changed any more once they are read
    struct held held;
};

// What a stage is after a step. Once it is begun it has a view of the build of its own: what is read is shared, the arena and what is counted are its.
struct stage {
    struct build *build; // NULL: not begun
    struct arena arena;
    size_t index;
    const char *image; // an ID; NULL: nothing yet (scratch)
    const char *base; // what FROM stood for; NULL: scratch
    bool keeps; // nobody asked for its image: what a RUN writes may stay a folder (engine/steps.h); else its images have no loose layer
    const char *key_rest; // of the last key: what of it is not the image below
    struct oci_image_process config; // texts in the build's arena
    struct scope scope;
    const char *author; // of MAINTAINER, or the image's
    bool command_set; // CMD stood in this stage
    const struct instruction **todo; // triggers, then what is written, then the labels of the request
    const struct instruction *labels; // the last of these; NULL: none
    size_t todo_len, trigger_len, done; // of them
    bool begun;
    size_t said; // steps of the file, FROM among them
    bool busy GUARDED_BY(crew->lock); // in somebody's hands
    bool finished GUARDED_BY(crew->lock);
    char making[OCI_DIGEST_SIZE] GUARDED_BY(crew->lock); // the key of its step; "": none
    bool silent GUARDED_BY(crew->voice); // all is said
};

// ---- say.c ----------------------------------------------------------------------------------------------------------

void say(struct build *build, const char *fmt, ...) _printf_(2, 3); // to the client's stream
void say_text(struct build *build, const char *text, size_t size); // whatever bytes
void say_step(struct build *build, const char *text); // "Step 1/3 : text"
void say_image(struct build *build, const char *id); // " ---> id"
void say_aux(struct build *build, const char *id);
int say_progress(void *build, json_t *object); // an engine_progress_fn
void say_begin(struct build *build); // before the stages run
void say_down(struct stage *stage, const char *how); // it was put down, to who listens live: "waits", "failed"
void say_end(struct stage *stage); // it has said all
void say_held(struct build *build); // now, whoever's turn it is: what the stage that failed had to say, or, where it is quiet, everybody

struct named_layout { // of the client's
    const char *store, *digest, *platform;
};

// ---- crew.c ---------------------------------------------------------------------------------------------------------

int crew_open(struct crew *crew, struct builder *builder, const char *id, const struct cancel *cancel, struct err *err);
void crew_close(struct crew *crew, struct builder *builder);
void crew_stop(struct crew *crew); // the build is cancelled. Any thread, while it is in the builder's list
// Makes the stages that the target needs. What failed first is the error; the others have been ended by then.
int crew_work(struct build *build, struct err *err);
void crew_done(struct build *build); // what the stages were made of; harmless before crew_work()
// Waits while another stage makes what the key stands for, and says that we do now, until crew_release().
void crew_claim(struct stage *stage, const char *key);
void crew_release(struct stage *stage);
// A trigger of the stage may need further stages.
int crew_need(struct stage *stage, const struct instruction *trigger, struct err *err);
// The client is asked by one thread at a time.
struct engine_login crew_login(struct build *build, const char *domain);
int crew_secret(struct build *build, const char *id, struct buf *out, struct err *err);
int crew_folder(struct build *build, const char *name, struct build_kept **out, struct err *err);
int crew_layout(struct build *build, const struct named_layout *layout, build_take_fn *take, void *with, struct err *err);

// ---- cache.c --------------------------------------------------------------------------------------------------------

extern const char *const builder_migrations[];
extern const size_t builder_migration_len;
void cache_key(struct stage *stage, const char *created_by, const char *extra, char key[OCI_DIGEST_SIZE]);
// 1: the stage stands on what it had made then, or on the same step of an image of --cache-from; 0: nothing is there. created_by NULL: its
// text in the history does not say all of the step.
int cache_find(struct stage *stage, const char *key, const char *created_by, struct err *err);
void cache_sweep_twins(struct builder *builder) REQUIRES(&builder->lock); // what loose images have others in their place, and nothing on them; while no build runs
void cache_twin_key(const char *twin, char key[OCI_DIGEST_SIZE]); // of such an image's row
int cache_take(struct stage *stage, const char *key, struct err *err); // by the key alone, and not told
void cache_put(struct stage *stage, const char *key, const char *parent, const char *description);
// A row of the cache that no step makes.
int cache_note(struct builder *builder, const char *key, const char *image, const char *description, struct err *err);
// export.c: the build's steps as one image; those of --cache-from read; one of them taken: 1, or 0.
int cache_export(struct build *build, char **id, struct err *err);
int cache_read(struct build *build, struct err *err);
int cache_import(struct stage *stage, const char *key, struct err *err);
void cache_used(struct builder *builder, const struct strv *keys); // by a build that is over
int cache_exec(struct store *store, const char *sql, const char *text, struct err *err); // one statement with one text
int cache_sweep(struct builder *builder, struct err *err); // forgets steps that no key names, while no build runs
int container_note(struct builder *builder, const char *name, struct err *err); // one that goes when we are killed
void container_forget(struct builder *builder, const char *name);

// ---- cache_mounts.c, filter.c ---------------------------------------------------------------------------------------

char *mounts_path(const struct builder *builder, const char *name, struct arena *arena);
// A step uses the folder of that name: nobody takes it away until the build is over. Before it is made.
int mount_note(struct stage *stage, const char *name, const char *target, const char *id, struct err *err);
// *gone is where the folder stands now, out of the way of new ones, to be removed.
int mount_forget(struct builder *builder, const char *name, struct arena *arena, const char **gone, struct err *err) REQUIRES(&builder->lock);
int mounts_sweep(struct builder *builder, struct err *err); // while no build runs

// ---- spooled.c ------------------------------------------------------------------------------------------------------

void context_open(struct context *context);
void context_close(struct context *context);
// A tar, compressed or not. 1: *text has the Dockerfile, of that path in it, and .dockerignore is heeded; 0: it was unpacked, and both are to be looked for.
int context_take(struct build *build, int input_fd, const char *dockerfile, struct buf *text, struct err *err);
int context_tree(struct build *build, struct err *err); // of its folder; what is not unpacked yet, is now

// ---- look.c ---------------------------------------------------------------------------------------------------------

// What these sources, all in the tree of that image, were found to be: 1 and their digest, or 0.
int look_recall(struct builder *builder, const char *image, const struct step_place *place, char digest[OCI_DIGEST_SIZE], struct err *err);
// By a list where that says it, else by a look at the files.
int look_place(struct build *build, const struct step_place *place, struct step_sources *out, struct err *err);
void look_remember(struct builder *builder, const char *image, const struct step_place *place, const char *digest);

// ---- kept.c, kept_tar.c ---------------------------------------------------------------------------------------------

// A folder of its own for what is kept under that key, whatever is in it; it goes when it is freed as long as `unknown` is set.
int kept_open_top(struct builder *builder, const char *key, const char *description, struct build_kept **out, struct err *err);
int kept_mark(struct build_kept *kept, int fd, struct err *err); // what its list has to say: it is of that file, in this run of the kernel
int kept_read_list(struct build_kept *kept); // -1: there is none that is believed
int kept_write_list(struct build_kept *kept, const struct listing *now, struct buf *text, struct err *err);

void kept_tar_open(struct build *build, const char *dockerfile, struct kept_tar *out);
// The spool is kept from now on, with the context's list and what is wanted of it: Dockerfile and .dockerignore. False: that can't be.
bool kept_tar_put(struct build *build, const struct step_wanted wanted[2]);
void kept_tar_close(struct kept_tar *tar);

bool kept_in_use(const struct builder *builder, const char *name) REQUIRES(&builder->lock);
// *gone, malloc'ed, is where the folder stands now, to be removed. Nobody has it in use.
int kept_forget(struct builder *builder, const char *name, char **gone, struct err *err);
int kept_sweep(struct builder *builder, struct err *err); // while no build runs

struct entry_filter {
    const char *field, *word;
    char operator; // '=', '!', '~'; 0: the field alone
    bool ends; // the last of those that must hold together
};
struct entry_filters {
    struct entry_filter *items;
    size_t len;
};
int entry_filters_parse(const struct strv *texts, struct arena *arena, struct entry_filters *out, struct err *err); // NULL: none
bool entry_filters_fit(const struct entry_filters *filters, const struct build_entry *entry);

// ---- stage.c --------------------------------------------------------------------------------------------------------

// One step further, the first is FROM; 1: it was the last.
int stage_advance(struct stage *stage, struct err *err);
int stage_adopt(struct stage *stage, const char *id, struct err *err); // image and configuration
// The image of that name, pulled where it must be. *id in the arena.
int find_image(struct build *build, const char *name, const char *platform, const char **id, struct err *err);
// What --from names, as a tree of the caller's.
int open_from_tree(struct stage *stage, const char *from, struct err *err);
// What --from names, as an ID; NULL: an empty stage. `from` NULL is not asked.
int find_from(struct stage *stage, const char *from, const char **id, struct err *err);
struct step step_of(const struct stage *stage, const char *created_by);
// A step without a layer: from the cache, or made.
int commit_plain(struct stage *stage, const char *created_by, struct err *err);

// ---- config.c -------------------------------------------------------------------------------------------------------

// The instructions that change the configuration alone, and WORKDIR.
int step_config(struct stage *stage, const struct instruction *instruction, struct err *err);
char *shell_words(const struct stage *stage); // "/bin/sh -c", as history has it
void shell_command(const struct stage *stage, const struct dockerfile_command *command, struct strv *out);
const char *owner_words(struct arena *arena, const char *owner); // of a file: a number alone is the group's, too. NULL or "": NULL
char *join_words(struct arena *arena, const struct strv *words);
char *join_path(struct arena *arena, const char *folder, const char *path); // absolute; ".." never leaves the root

// ---- sources.c: what the build has looked at ------------------------------------------------------------------------

void source_note(struct build *build, const struct build_source *source);
void sources_take(struct crew *crew, struct arena *arena, struct build_result *out);
void sources_done(struct crew *crew);

// ---- import.c: archives of the client's -----------------------------------------------------------------------------

struct import_source {
    int (*archive)(void *of, build_take_fn *take, void *with, struct err *err);
    void *of;
};
// Its image, loaded once as long as the cache has it: `name` says what it is. *id is arena memory.
int import_archive(struct builder *builder, const char *name, const struct import_source *source, struct arena *arena, char **id,
                   const struct cancel *cancel, struct err *err);
// An image of another platform than ours, out of its registry: in no list, so that the name stays the one's that has it here. Fetched once as long as
// the cache has it, or anew with --pull.
int import_foreign(struct build *build, const char *name, const char *platform, const char **id, struct err *err);

// ---- remote.c, urls.c: sources that are elsewhere ------------------------------------------------------------------

struct remote {
    const char *source; // as written
    const char *checksum; // that it must have; NULL: any
    const char *name; // of a file
    const char *path; // in the tree, as a pattern
    const char *identity; // what a key has of it: its content, not its place
    char digest[OCI_DIGEST_SIZE]; // of a file
    struct git_source *git; // NULL: a file of a URL's
    int tree_fd; // -1: it was not fetched yet
};
bool remote_is(const char *source);
bool remote_is_git(const char *source);
// What it is; fetched where that can't be known otherwise.
int remote_look(struct stage *stage, const char *source, const struct copy_fields *fields, struct remote *out, struct err *err);
int remote_fetch(struct stage *stage, struct remote *remote, struct err *err);
// A build's context that is elsewhere, as a folder (O_PATH). `text` gets the Dockerfile where that is all there is. `prefix`: of the folders of
// the workshop that it takes.
int remote_context(struct build *build, const char *prefix, const char *source, struct buf *text, struct err *err);

// ---- login.c: who we are where sources are elsewhere ----------------------------------------------------------------

// By the client's secrets HTTP_AUTH_HEADER_host and HTTP_AUTH_TOKEN_host: the value of Authorization, arena memory; NULL: nobody.
int login_of_url(struct build *build, const char *url, const char **out, struct err *err);
// By GIT_AUTH_HEADER.host, GIT_AUTH_TOKEN.host and both without a host; by ssh with the client's agent "default". `folder`: as remote_git() has it.
struct git_login {
    const char *authorization;
    struct agent *agent; // NULL: none
};
int git_login_begin(struct build *build, const char *url, int folder_fd, struct git_login *out, struct err *err);
void git_login_end(struct git_login *login);
struct remote_git;
int git_fetch(struct build *build, struct remote_git *wish, int folder_fd, const char **commit, struct err *err); // remote.c: remote_git() with a login

// ---- named.c: contexts by name --------------------------------------------------------------------------------------

struct named;
void named_open(struct build *build);
void named_close(struct build *build);
struct named *named_find(struct build *build, const char *name); // NULL: none has that name
int named_bring(struct build *build, struct named *named, struct err *err); // what follows is known from then on
const struct listing *named_listing(const struct named *named); // of a folder of the client's; else NULL
const char *named_id(const struct named *named); // of an image; else NULL
int named_tree(struct build *build, struct named *named, struct err *err); // a descriptor of the caller's; brings it
int named_image(struct stage *stage, struct named *named, const char *platform, const char **id, struct err *err);
void remote_done(struct remote *remote);

// What was found at a URL the last time.
struct known_url {
    char *etag; // NULL: the URL is not known
    char digest[OCI_DIGEST_SIZE];
    int64_t modified;
};
int url_known(struct builder *builder, const char *url, struct arena *arena, struct known_url *out, struct err *err);
void url_note(struct builder *builder, const char *url, const struct known_url *known);

// ---- copy.c, mounts.c, secrets.c, run.c --------------------------------------------------------------------------------------------------

int step_copy(struct stage *stage, const struct instruction *instruction, struct err *err);
// A RUN's mounts as HostConfig.Mounts has them. To be closed in any case.
struct step_mounts {
    json_t *list;
    const char *key; // what of them is part of the step's key
    int *locks; // of caches
    size_t lock_len;
    struct step_copy *copies; // parts of the context, of stages and images that are copied, once the step is known to run
    size_t copy_len;
    struct step_copy **bases; // of the caches among the mounts, by their number; NULL: it begins with nothing
    const char *secrets; // their folder, and that of agents' sockets; NULL: there are none
    struct strv env; // variables that are secrets
    struct agent *agents;
    size_t agent_len;
    const char *agent_path; // of the first one, in the container
};
int step_mounts_fill(struct stage *stage, struct step_mounts *mounts, struct err *err); // makes the copies
int secrets_sweep(struct builder *builder, struct err *err); // secrets.c: what a killed daemon left
int secret_add(struct stage *stage, const struct run_mount *mount, struct step_mounts *out, struct err *err);
int secrets_folder_make(struct stage *stage, struct step_mounts *out, struct err *err);
void secrets_close(struct step_mounts *mounts);
int agent_add(struct stage *stage, const struct run_mount *mount, struct step_mounts *out, struct err *err); // agents.c
void agents_close(struct step_mounts *mounts);
// A socket of that name in the folder, behind which the client's agent of that id answers until agent_stop() (NULL is fine). In the arena.
struct agent *agent_start(const struct build_request *request, const char *id, int folder_fd, const char *name, struct arena *arena, struct err *err);
void agent_stop(struct agent *agent);
int step_mounts_open(struct stage *stage, const struct run_fields *fields, struct step_mounts *out, struct err *err);
// A heredoc that says its interpreter, as a program of the step. Once the mounts are open.
#define SCRIPTS "/dev/pipes/" // where BuildKit has them
int step_mounts_script(struct stage *stage, const struct heredoc *script, struct step_mounts *out, struct err *err);
void step_mounts_close(struct step_mounts *mounts);
int step_run(struct stage *stage, const struct instruction *instruction, struct err *err);

#endif
