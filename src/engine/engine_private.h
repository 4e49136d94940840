// What the engine's files share: the engine, its containers, its small machinery. See engine.h for the model.
#ifndef ENGINE_ENGINE_PRIVATE_H
#define ENGINE_ENGINE_PRIVATE_H

#include <stdatomic.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mutex.h"
#include "base/num.h"
#include "base/process.h"
#include "engine/engine.h"
#include "kernel/cgroup.h"
#include "net/net.h"
#include "store/store.h"
#include "volume/volume.h"

enum lock_rank { RANK_LIST = 1, RANK_CONTAINER = 2, RANK_EXEC = 3, RANK_BUS = 4, RANK_WORKERS = 6 };

enum container_status { STATUS_CREATED, STATUS_RUNNING, STATUS_PAUSED, STATUS_EXITED, STATUS_REMOVING, STATUS_RESTARTING };

// What survives the daemon in the store's `state` column.
struct container_state {
    enum container_status status;
    int64_t pid, exit_code, started_ns, finished_ns;
    bool oom_killed;
    bool remove_volumes; // REMOVING: the anonymous volumes go too
    int64_t restart_count; // by its policy, since somebody started it
    bool stop_wanted; // somebody ended it, so "unless-stopped" leaves it alone
    char *error; // malloc'ed
};

struct container;
struct remap;
struct run_users;
struct tree_writer;

// An attach that came before the start; it travels with `create`.
struct pending_attach {
    struct pending_attach *next;
    int fd;
    bool in, out, error, framed;
    char *detach_keys; // malloc'ed
};

struct engine_waiter {
    struct engine_waiter *next;
    struct container *container; // a reference
    enum engine_condition condition;
    int event_fd; // readable once done
    bool done;
    int64_t exit_code;
};

// An event from the shim, waiting for a worker. Those of one container are handled in order, one at a time.
struct queued_event {
    struct queued_event *next;
    enum { QUEUED_EXITED, QUEUED_EXEC_EXITED, QUEUED_OOM, QUEUED_DETACHED, QUEUED_GONE, QUEUED_OTHER } kind;
    int64_t seq, time_ns, exit_code;
    bool oom;
    char exec_id[65];
    char *message; // owned; what the supervisor has to say about an end, "" when nothing
    uint64_t run; // the connection it came by; see container->run
};

struct exec {
    struct exec *next;
    char id[65];
    struct arena arena;
    struct exec_config config;
    bool unframed; // its client takes both streams as they come
    bool started, running;
    int64_t pid, exit_code;
};

struct health;

struct container {
    struct container *next; // engine list
    struct engine *engine;
    atomic_uint refs;

    // Set once, before the container is visible; lives in `arena`. But for what update.c names: that, and the body with it, is
    // written with container_begin() and the lock, and read with either.
    struct arena arena;
    char id[65];
    int64_t created_ns;
    struct container_config config; // with the image's merged in
    json_t *body;
    char *image_id, *image_name;
    struct engine_mount *mounts; // resolved: absolute sources
    size_t mount_len;
    struct kvs mount_images; // of its creation: the images that it mounts, by the client's words

    struct run_users *users; // of a start (users.h), until it is handed over; NULL: the host's. With container_begin() alone
    char *updated_cpus, *updated_mems; // malloc'ed: cpusets that an update brought

    char *name; // malloc'ed; guarded by engine->list_lock
    bool hidden; // holds its name but is still being made: nobody finds it; guarded by engine->list_lock
    bool no_image_volumes; // while it is made: as the caller's config says

    struct mutex lock;
    struct cond idle;
    bool busy GUARDED_BY(lock); // a verb that waits for the shim owns the container; others wait on `idle`
    struct container_state state GUARDED_BY(lock);
    struct task_client *client GUARDED_BY(lock); // only while a shim lives
    int netns_fd GUARDED_BY(lock); // until the shim holds it
    int tap_fd GUARDED_BY(lock); // a guest's, until its start has handed it over
    char *accel GUARDED_BY(lock), *kernel GUARDED_BY(lock); // of a guest's last run, malloc'ed; NULL before
    bool booting GUARDED_BY(lock), boot_aborted GUARDED_BY(lock); // see vm_boot_begin()
    bool uses_volumes GUARDED_BY(lock); // see mounts_begin_use()
    struct endpoint *endpoints GUARDED_BY(lock); // its places on networks (networks.h), changed under container_begin() alone
    struct net_port *ports GUARDED_BY(lock);
    size_t port_len GUARDED_BY(lock);
    unsigned attaching GUARDED_BY(lock); // clients between hijack and hand-over; a start waits for them
    struct pending_attach *pending GUARDED_BY(lock);
    struct engine_waiter *waiters GUARDED_BY(lock);
    struct queued_event *events GUARDED_BY(lock);
    bool events_scheduled GUARDED_BY(lock);
    struct exec *execs GUARDED_BY(lock);
    struct tree_writer *writers GUARDED_BY(lock); // copies into it (tree.h)
    struct health *health GUARDED_BY(lock); // NULL before the first start with a check
    bool removed GUARDED_BY(lock);
    uint64_t run GUARDED_BY(lock); // counts connections to shims: what an earlier one left in `events` is dropped
    unsigned restarting GUARDED_BY(lock); // restarts under way: an exit does not remove the container
    int64_t backoff_ns GUARDED_BY(lock); // before the last restart by its policy; 0: there was none, or it ran for long
    bool restart_cancelled GUARDED_BY(lock); // until the next start: its policy does nothing
    int64_t resuming_until_ns GUARDED_BY(lock); // monotonic; a daemon that starts has it queued, and whoever shares its namespaces waits; 0: no
    const struct strv *once_env; // variables of the start under way, which nobody writes down; borrowed; NULL: none
};

typedef void job_fn(struct container *container);
struct job {
    struct job *next;
    job_fn *fn;
    struct pool *pool;
    struct container *container; // a reference
    int64_t due_ns; // in the list of what is due later
};

#define WORKER_COUNT 4

// Threads that work off one queue.
struct pool {
    struct mutex lock;
    struct cond wake;
    struct job *jobs GUARDED_BY(lock), **jobs_tail GUARDED_BY(lock);
    bool stopping GUARDED_BY(lock);
    bool drops; // what waits when it stops is not done any more
    pthread_t threads[WORKER_COUNT];
    unsigned thread_len;
};

// Which limits this kernel can hold, as `docker info` says it.
// A container's place on a network; of its own arena, because it may come and go while the container stays.
struct endpoint {
    struct endpoint *next;
    struct arena arena;
    char *network; // its name; until it was met first, the word of the client
    char network_id[65]; // "" until then
    struct endpoint_request request;
    bool bridge, builtin, internal, ipv4, ipv6; // of the network; bridge: it has addresses
    bool card; // its card is on a link of the host's (macvlan, ipvlan)
    bool by_device; // its default route has no gateway
    const char *driver; // static; NULL: not known yet
    bool routed, routed6; // of its gateway modes
    int64_t mtu; // of the network's links; 0: the usual one
    char *binding; // the network's own default address of published ports; NULL: none
    bool connected; // the connect event is out, and the disconnect is not
    bool up; // `net` says what it is
    struct net_endpoint net;
};

struct host_features {
    bool memory, swap, reservation, cpu_shares, cpu_quota, cpuset, pids, io_weight, swappiness, oom_control;
};

#define EVENT_RING 256

struct event_record {
    struct arena arena;
    struct engine_event event;
    uint64_t serial;
};

struct subscriber {
    struct subscriber *next;
    int event_fd;
};

struct engine {
    char id[9];
    int64_t created_ns; // when the data root's first daemon drew the id
    char *data_root, *exec_root, *program_dir;
    int root_fd, state_fd, containers_fd, tasks_fd, lists_fd; // <root>, <state>, <root>/containers, <state>/t, <state>/names
    int root_lock, state_lock;
    int shim_memfd, init_memfd;
    struct store *store;
    struct image_store *images;
    struct volume_store *volumes;
    struct net *net;
    struct cgroup_layout cgroups;
    struct host_features features;
    struct machines *machines;
    bool experimental; // set once
    bool no_bridge, bridge_isolated, bridge_ipv6; // what the operator says of the default one; set once, as the next four
    bool no_proxy; // of published ports
    int64_t bridge_mtu; // 0: the usual one
    struct kvs bridge_options;
    struct strv network_options; // of new networks
    struct mutex network_lock; // unranked: held while a network is made or removed
    struct mutex disk_lock; // unranked: held while the guests' disk template is made
    struct mutex names_lock; // unranked: held while a network's list of names is edited
    struct loop *loop;
    pthread_t watcher;
    bool watcher_runs;

    struct mutex list_lock;
    struct container *containers GUARDED_BY(list_lock); // newest first

    struct mutex bus_lock;
    struct event_record ring[EVENT_RING] GUARDED_BY(bus_lock);
    uint64_t next_serial GUARDED_BY(bus_lock);
    struct subscriber *subscribers GUARDED_BY(bus_lock);

    char *registry_certs; // NULL: the usual place
    char *image_program, *commit_program; // berth-image, berth-commit
    char *inflate_ratio; // the workers' option, the last of theirs; NULL: they have their own bound
    struct arena defaults_arena; // of `defaults`; both set once
    struct engine_defaults defaults;
    struct remap *remap; // NULL: containers are in the host's user namespace; set once
    struct mutex watch_lock; // unranked: nothing is taken inside
    int watch_fd; // inotify
    struct loop_source *watch_source; // the watcher's
    struct watch *watches GUARDED_BY(watch_lock);
    struct mutex settings_lock; // unranked: nothing is taken inside
    struct arena settings_arena GUARDED_BY(settings_lock);
    struct engine_settings settings GUARDED_BY(settings_lock);
    struct mutex pull_lock; // unranked: nothing is taken inside
    struct cond pull_ended;
    struct pull *pulls GUARDED_BY(pull_lock);

    struct pool workers, starters;
    struct mutex later_lock;
    struct job *later GUARDED_BY(later_lock); // soonest first
    struct loop_source *later_timer; // the watcher's
    atomic_uint freed; // containers whose memory was freed
    atomic_bool serving; // restart policies are obeyed: not while the past is cleared, nor by --stop-all
};

// ---- containers (container.c) ---------------------------------------------------------------------------------------

#define PENDING_MAX 64 // attaches that wait for the start of one container

struct container *container_new(struct engine *engine, const char *id); // one reference, not listed
struct container *container_ref(struct container *container);
void container_unref(struct container *container);
#define _cleanup_container_ _cleanup_(container_unref_cleanup)
static inline void container_unref_cleanup(struct container **container)
{
    container_unref(*container);
}
// Resolves a client's name for it; NULL with the error filled. A reference.
#define CONTAINER_CGROUP_SIZE 512
void container_cgroup_path(const struct container *container, char out[CONTAINER_CGROUP_SIZE]); // use.c; by name, see cgroup_open()
struct container *container_find(struct engine *engine, const char *ref, struct err *err);
struct container *container_find_exec(struct engine *engine, const char *exec_id, struct err *err);
void container_list_ids(struct engine *engine, struct strv *out); // of all, newest first; appended
bool container_name_valid(const char *name);
bool container_is_live(const struct container *container) REQUIRES(container->lock); // running or paused: there is a shim
// As clients see it: live, or its policy starts it again in a moment.
bool container_is_up(const struct container *container) REQUIRES(container->lock);
int container_restarting(const struct container *container, struct err *err); // conflict, in Docker's words
// Exclusive use for a verb that waits: blocks until nobody else has it. Fails when the container is gone.
int container_begin(struct container *container, struct err *err) EXCLUDES(container->lock);
void container_end(struct container *container) EXCLUDES(container->lock);
char *container_name(struct container *container, struct arena *arena); // without "/"
void container_drop_pending(struct container *container) REQUIRES(container->lock); // their clients see the end of the stream
void exec_free(struct exec *exec);
// The steps of an exec (exec.c). Needs container_begin() for the run; `terminal` may be NULL, `client_fd` stays the caller's.
int exec_add(struct container *container, const struct exec_config *config, bool unframed, const char *id, struct err *err);
int exec_run(struct container *container, const char *exec_id, int client_fd, const int64_t size[2], bool *terminal,
             struct err *err);
void exec_forget(struct container *container, const char *id, int64_t *exit_code) REQUIRES(container->lock);
void container_forget_execs(struct container *container) REQUIRES(container->lock);
void container_settle(struct container *container); // fills in what the create body leaves open

// ---- followers (watch.c) --------------------------------------------------------------------------------------------

struct watch {
    struct watch *next;
    struct engine *engine;
    int wd;
    int event_fd; // readable when something in the folder was written, made or moved there
};
int watches_start(struct engine *engine, struct err *err); // needs the loop, before it turns
int watch_new(struct engine *engine, const char *folder, struct watch **out, struct err *err); // any thread
void watch_free(struct watch *watch); // NULL is fine
#define _cleanup_watch_ _cleanup_(watch_free_cleanup)
static inline void watch_free_cleanup(struct watch **watch)
{
    watch_free(*watch);
}

// ---- what the operator says (defaults.c) ----------------------------------------------------------------------------

int defaults_check(struct engine *engine, struct err *err); // once, when the engine opens
void defaults_copy(struct engine *engine, const struct engine_defaults *from);
void defaults_record(struct engine *engine, json_t *body); // into a create body
void defaults_apply(const struct engine *engine, struct host_config *host, struct arena *arena); // to what a body leaves open
void settings_init(struct engine *engine, const struct engine_settings *settings);
void settings_done(struct engine *engine);
void settings_get(struct engine *engine, struct arena *arena, struct engine_settings *out); // a copy
bool commit_was_cut_off(struct container *container); // commit.c: true once, when a paused container is to go on
void container_delist(struct container *container); // out of the engine's list; its name is free again

// ---- names by DNS (resolver.c) ----------------------------------------------------------------------------------------

// Its networks of clients know its names, and its settings are written anew: after it came to one, after a rename, as a daemon begins.
// All of these need container_begin().
int names_update(struct container *container, struct err *err);
void names_leave(struct container *container, const struct endpoint *endpoint); // one network, while the endpoint is up
void names_withdraw(struct container *container); // all
void names_sweep(struct engine *engine); // of what is not there any more
bool names_wanted(const struct container *container); // it is on a network with names
bool names_outside(const struct container *container); // it has a way out of the host
// Its name server, where it is on such a network: once there is a supervisor, before the process starts; and for one that runs and
// comes to its first network with names.
int names_serve(struct container *container, int netns_fd, struct err *err);
int names_connect(struct container *container, int netns_fd, struct err *err);
int link_parse(const char *text, struct arena *arena, const char **name, const char **alias, struct err *err);

// ---- records (record.c) ---------------------------------------------------------------------------------------------

extern const char *const engine_migrations[];
extern const size_t engine_migration_len;
int record_insert(struct container *container, const char *name, struct err *err);
int record_save_state(struct container *container, struct err *err); // needs container_begin(): nobody else writes it
int record_save_body(struct container *container, struct err *err); // after an update
int record_save_networks(struct container *container, struct err *err); // after a connect or disconnect
void record_note_state(struct container *container); // the same where only the log can be told of a failure
void record_note_health(struct container *container);
int record_rename(struct container *container, const char *name, struct err *err);
int record_delete(struct container *container, struct err *err);
// Fills the engine's list from the store. Containers whose record cannot be read are an error that names them.
int record_load_all(struct engine *engine, struct err *err);
// The daemon's id and when it was drawn; drawn here at the first start.
int record_daemon_id(struct store *store, char id[9], int64_t *created_ns, struct err *err);

// ---- what a client may say (checks.c) -------------------------------------------------------------------------------

int check_config(const struct container_config *config, struct err *err);
int check_limits(const struct host_config *host, bool update, struct err *err); // an update may name a swap alone
int check_process(const struct oci_image_process *process, struct err *err); // after the image's was merged in
int check_ports(const struct host_config *host, struct err *err); // ports.c
int check_names(const struct host_config *host, struct err *err); // names.c
void features_probe(const struct cgroup_layout *layout, struct host_features *out); // features.c
// A limit that this kernel lacks is left out with a warning in dockerd's words, or (--cpus) refused; so is told what a
// ulimit is clamped to.
int features_check(const struct host_features *features, const struct host_config *host, struct arena *arena,
                   struct strv *warnings, struct err *err);
// merge.c: the image's settings below those of the client, by Docker's rules. `body` tells [] from null.
void merge_image_config(struct container_config *config, const json_t *body, struct arena *arena,
                        const struct oci_image_process *image);

// ---- what a container may do (security.c) ---------------------------------------------------------------------------

// Capabilities and HostConfig.SecurityOpt; a profile of seccomp's is compiled, for nothing but its errors.
void security_note_labels(struct container *container); // in its body, too: it is shown
int security_check(const struct host_config *host, struct arena *arena, struct err *err);
int capabilities_from_config(const struct host_config *host, struct arena *arena, struct oci_capabilities **out,
                             struct err *err);
bool security_no_new_privileges(const struct host_config *host);
bool security_writable_cgroups(const struct host_config *host);
// In the words of oci_linux.seccomp_profile. Borrowed from the configuration.
const char *security_seccomp(const struct host_config *host);

// ---- the document (document.c, defaults.c) --------------------------------------------------------------------------

// Everything that the wall needs, by value, but the layers and the descriptors, which start.c adds. In `arena`.
int document_build(struct container *container, struct arena *arena, struct task_document *out, struct err *err);
// The process of an exec in this container.
int document_exec(struct container *container, const struct exec *exec, struct arena *arena, struct task_exec *out,
                  struct err *err);
void limits_from_config(const struct host_config *host, struct oci_resources *out);
int ulimit_resource(const char *name); // "nofile": RLIMIT_NOFILE; -1 for an unknown one
const char *container_stop_signal(const struct container *container);

// ---- names (names.c) ------------------------------------------------------------------------------------------------

int container_document(struct container *container, struct arena *arena, struct task_document *out, struct err *err); // adopt.c: of the last run
char *hosts_content(struct container *container, struct arena *arena) REQUIRES(container->lock);
// The lines of its own addresses, but those that `present` has already.
void hosts_own_lines(const struct container *container, struct buf *out, const char *present) REQUIRES(container->lock);
char *resolv_content(const struct host_config *host, bool ipv6, struct arena *arena); // ipv6: a server there can be reached
// Where the network is the host's: the host's own files, unless the client has names or servers of its own.
char *hosts_content_host(struct container *container, struct arena *arena) REQUIRES(container->lock);
char *resolv_content_host(const struct host_config *host, struct arena *arena);
// The container's file made of the host's `text`, which came from `source`. `ipv6`: a server there can be reached.
void resolv_build(const char *text, const char *source, const struct host_config *host, bool ipv6, struct buf *out);
// For a container with a name server of its own: that one alone stands there. `settings` gets whom it asks, the host's servers only where
// the container has a way `outside`.
char *resolv_content_named(const struct host_config *host, bool outside, struct arena *arena, struct buf *settings);
void resolv_build_named(const char *text, const struct host_config *host, bool outside, struct buf *out, struct buf *settings);
bool resolv_is_stub(const char *text); // its only server is systemd's local one

// ---- life (start.c, stop.c, exit.c, adopt.c) ------------------------------------------------------------------------

int container_start(struct container *container, struct err *err);
// A guest's machine with its root made and no process, no network, no port and no client: for its files. Needs container_begin();
// container_release() ends it, also after a failure.
int container_boot_aside(struct container *container, struct err *err);
int container_start_again(struct container *container, struct err *err); // by its policy; needs container_begin()
// The listening sockets of a run (ports.c). What is bound stays in the plan, also after a failure.
struct port_plan {
    struct net_port *ports; // malloc'ed
    size_t len;
    const char *endpoint; // "NAME (ENDPOINT ID)", for messages
    const char *address; // of ports that name none; NULL: every one
    bool routed, routed6; // nothing of the host's is bound: they are open at the container's own address
    bool relayed6; // those of the host's IPv6 lead to an address of IPv4
    bool ipv4, ipv6; // of the host's addresses those of that kind lead to the container; a port of the other is passed over, as with Docker
};
int ports_bind(struct container *container, struct port_plan *plan, struct err *err);
// What a run holds on the host (network, cgroup, task folder, shim connection) is given back. Needs container_begin().
void container_release(struct container *container) EXCLUDES(container->lock);
// After an exit, or a removal, which ends every wait.
void container_finish_waiters(struct container *container, bool removed) REQUIRES(container->lock);
int container_remove(struct container *container, bool force, bool volumes, struct err *err);
// The removal itself. Needs container_begin(), and container_end() afterwards; then the container is gone for everybody.
int container_remove_held(struct container *container, bool volumes, struct err *err);
void container_auto_remove(struct container *container); // when --rm says so. Needs container_begin()
int container_signal(struct container *container, const char *signal, struct err *err);
// Waits until it does not run; 1 stopped, 0 timeout.
int container_await_stop(struct container *container, int64_t timeout_ns, const struct cancel *cancel, struct err *err);
void container_on_event(void *context, const struct task_event *event); // task client callbacks, watcher thread
void container_on_closed(void *context);
void queued_event_free(struct queued_event *event);
int engine_adopt(struct engine *engine, struct err *err);
// All need container_begin().
// Ends the connection to the shim; what it has queued is of no interest any more.
void container_drop_client(struct container *container) EXCLUDES(container->lock);
// Connects to the shim of a live container; when it does not answer, it and its run are declared lost.
void container_adopt(struct container *container);
void container_declare_lost(struct container *container);
void container_declare_ended(struct container *container, int64_t exit_code, int64_t time_ns, bool oom);

// ---- restart policies (restart.c) -----------------------------------------------------------------------------------

int restart_check(const struct restart_policy *policy, struct err *err);
const char *restart_word(const char *name); // the same word for ever; NULL for one that is none
// At the end of a run: whether it is to be started again, and then the time until that.
bool restart_due(struct container *container, int64_t exit_code, int64_t lived_ns) REQUIRES(container->lock);
void restart_schedule(struct container *container) EXCLUDES(container->lock);
// Somebody starts it: counters begin anew.
void restart_reset(struct container *container) REQUIRES(container->lock);
// A signal that is meant to end it, or any where the configuration names no stop signal: the policy does nothing any more. One
// that waited for its restart has ended then (true). Needs container_begin().
bool restart_call_off(struct container *container, int number) EXCLUDES(container->lock);
void restart_forbid(struct container *container) EXCLUDES(container->lock); // a stop, whatever its signal

// ---- logs (log_options.c, log_sockets.c) ----------------------------------------------------------------------------

int log_check(const struct log_config *log, struct err *err); // a driver and its options
const char *log_driver_of(const struct container *container);
// The file that docker logs reads; NULL where the driver has none.
char *log_path(const struct container *container, struct arena *arena);
int log_fill(struct container *container, struct arena *arena, struct task_log *out, struct err *err);
void log_settle(const struct engine_defaults *defaults, json_t *host); // the daemon's driver and options, where HostConfig names none

// ---- the create body (config_member.c)-----------------------------------------------------------------------------------

json_t *config_member(json_t *object, const char *name); // borrowed; NULL is fine
void config_put(json_t *object, const char *name, json_t *value); // takes the value; in place of every spelling

// ---- health checks (health.c) ---------------------------------------------------------------------------------------

bool health_is_off(const struct oci_healthcheck *health); // "NONE"
int health_check_config(const struct oci_healthcheck *health, struct err *err);
// All of these need container_begin(), but for what needs the lock. A run that begins, ends, is paused or goes on, is adopted with
// the execs that run in it.
void health_begin(struct container *container) EXCLUDES(container->lock);
void health_end(struct container *container) EXCLUDES(container->lock);
void health_pause(struct container *container, bool paused) EXCLUDES(container->lock);
void health_adopt(struct container *container, const struct strv *execs) EXCLUDES(container->lock);
void health_collect(struct container *container); // a job: the output of a probe has ended
char *health_text(const struct container *container) REQUIRES(container->lock); // for the record, malloc'ed; NULL: none
void health_parse(struct container *container, const char *text); // of one that nobody else sees yet
struct engine_health *health_copy(const struct container *container, struct arena *arena) REQUIRES(container->lock);
void health_abandon(struct container *container); // a probe under way, when no watcher turns any more
void health_free(struct container *container);

// ---- networks.c -----------------------------------------------------------------------------------------------------


// ---- machinery ------------------------------------------------------------------------------------------------------

void workers_init(struct engine *engine);
int workers_start(struct engine *engine, struct err *err); // needs the loop
void workers_stop(struct engine *engine); // what is queued is still done
void workers_drop(struct engine *engine); // what came after the stop
void workers_done(struct engine *engine);
// The job has a reference.
void pool_queue(struct container *container, struct pool *pool, job_fn *fn);
void worker_queue(struct container *container, job_fn *fn);
// The same after a while. One for each container and function: a later call takes the place of the one that still waits.
void later_queue(struct container *container, struct pool *pool, job_fn *fn, int64_t delay_ns);
void later_cancel(struct container *container, job_fn *fn);

// Publishes a container event; `extra` are further attributes, alternating key and value, NULL-terminated.
void event_container(struct container *container, const char *action, ...) __attribute__((sentinel));
void event_publish(struct engine *engine, const char *type, const char *action, const char *actor_id, ...) __attribute__((sentinel));
// An image event: the image's labels, and a name. Of one that is gone there are no labels.
void event_image(struct engine *engine, const char *image_id, const char *action, const char *name);
// What came from a registry or went there is told by its reference, "lib/x:1", not by its id.
void event_reference(struct engine *engine, const char *image_id, const char *action, const char *familiar);
void event_volumes(struct container *container, bool mounted); // of each volume of a run that begins or ended
void events_done(struct engine *engine);

int waiter_new(struct container *container, enum engine_condition condition, struct engine_waiter **out, struct err *err);

void pulls_end(struct engine *engine); // pull.c: ends all and waits
void images_collect(struct engine *engine); // images.c: after containers went

char *container_path(const struct container *container, struct arena *arena, const char *below); // "<root>/containers/<id>/below"

#endif
