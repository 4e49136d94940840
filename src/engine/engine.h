// The nouns and verbs of the daemon: containers, execs, images, events. No HTTP: the api room turns requests into these
// calls. Behind them stand the store (records), the task room (one shim per running container), images, networks, volumes.
//
// Threads. Every function may be called from any thread and may block. One watcher thread (a loop) owns all task sockets
// and timers; it takes no container lock and only queues work to four workers, which handle exits and removals, and to four
// starters, which start again what a restart policy says. Lock order,
// lowest rank first: engine list (1), container (2), exec table (3), event bus (4), task client (5), store's own (9). No lock
// is held while waiting for a task, a worker program or the network's firewall tool.
//
// Names. Everywhere a container is named (`ref`): full id, exact name with or without "/", unique id prefix. not_found is
// "No such container: REF", an ambiguous prefix is invalid_argument.
//
// Life. A container is created, running (or paused), waiting for its restart, exited, or going away. SIGTERM and kill -9 of the daemon leave the
// instances running; engine_open() adopts them again: it connects to their task sockets, replays what was missed, and declares
// dead (137, the reason in State.Error) those whose shim no longer answers.
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "base/cancel.h"
#include "engine/container_config.h"
#include "image/image.h"
#include "kernel/cgroup_report.h"
#include "task/task.h"
#include "volume/volume.h"

struct engine;

// What may change while the daemon runs. Copied.
struct engine_settings {
    bool debug;
    struct strv labels; // of the daemon, "key=value"
    struct strv insecure_registries, registry_mirrors; // as distribution.h has them
    const char *runtime, *cgroupns_mode, *ipc_mode; // of containers that do not say, recorded with them; NULL: the engine's own
    int64_t shm_size; // the same; 0: the engine's own
    int64_t downloads, uploads, attempts; // of layers at a time; tries until a registry answers; 0: the default
};

// What containers get that do not say. Those marked are recorded with the container when it is created, the others hold whenever
// it starts. Copied.
struct engine_defaults {
    struct strv dns, dns_search, dns_options;
    struct strv host_gateways; // what host-gateway stands for; none: the bridge's address
    struct strv cdi_folders; // where devices by CDI are described, the later wins
    struct json_list ulimits; // struct ulimit
    struct strv log_opts; // "key=value"; recorded, for containers that name no driver, or the same
    const char *log_driver, *cgroup_parent; // recorded; NULL: the engine's own
    const char *seccomp; // "unconfined" or a profile's text; NULL: the engine's own
    const char *publish_ip; // NULL: every address
    int64_t stop_timeout; // seconds; -1: the engine's own
    bool init, no_new_privileges;
};

struct engine_pool {
    char *base; // "10.10.0.0/16", cut into subnets of this prefix
    int64_t size;
};
// The default bridge.
struct engine_bridge {
    const char *name; // NULL: one of ours; "none": there is none; else one that is there
    const char *fixed_cidr, *gateway; // NULL: the whole subnet; the bridge
    const char *address6, *fixed_cidr6, *gateway6; // the same of IPv6, its own address before; NULL: chosen
    int64_t mtu; // 0: 1500
    bool isolated, no_masquerade, ipv6;
};
struct engine_options {
    const char *data_root, *exec_root; // absolute paths; made when missing
    const char *storage_driver; // of new layers: "erofs" "overlay" "overlay2" "btrfs" "vfs"; NULL: chosen
    bool keep_compressed; // layers that come compressed stay so, too
    const char *bip; // the default bridge's address, NULL: chosen
    const struct engine_pool *address_pools; // of networks that name no subnet; none: Docker's
    size_t address_pool_len;
    struct engine_bridge bridge;
    bool experimental; // there are checkpoints
    const char *accept_mark; // "0x1/0x3": packets with this mark may go to containers; NULL: none
    bool no_forward; // the host's forwarding is left as it is
    bool no_rules, no_rules6, no_proxy, direct_routing; // of the net room's configuration (net/net.h)
    struct strv network_options; // of new networks: "bridge=com.docker.network.driver.mtu=1400"
    const char *program_dir; // where berth-shim, berth-image, berth-init and berth-vmm stand
    const char *guest_dir; // the guests' kernel and initramfs; NULL: ../guest of program_dir, then <data_root>/guest
    const char *registry_certs; // NULL: /etc/docker/certs.d
    const char *inflate_ratio; // how many times of what came a transfer may inflate to, "0": no bound; NULL: the worker's own bound
    const char *userns_remap; // whose ids containers have: "default" "USER" "USER:GROUP"; NULL, "", "host": their own
    const char *accel; // what runs guests: "auto" "kvm" "tcg"; NULL is "auto"
    struct engine_settings settings;
    struct engine_defaults defaults;
};

// Locks both roots, opens the store, draws or reads the daemon id, adopts what runs. One line of error when another daemon
// holds a root, the kernel is too old, or something is missing.
int engine_open(const struct engine_options *options, struct engine **out, struct err *err);
// Obeys restart policies from here on: what ended meanwhile is started again. Call once clients are served.
void engine_resume(struct engine *engine);
// Stops the watcher and the workers; instances go on.
void engine_close(struct engine *engine);
// Stops all instances and removes every object that carries the daemon's id from the host (berthd --stop-all): processes,
// cgroups, mounts, links, firewall, sockets. The data root stays. Call instead of serving.
int engine_stop_all(struct engine *engine, struct err *err);

const char *engine_id(const struct engine *engine); // 8 hex

// Other settings from here on; tells it by the daemon's event "reload".
void engine_reload(struct engine *engine, const struct engine_settings *settings);

struct engine_info {
    char *id, *name; // daemon id, host name
    int64_t containers, running, paused, stopped, images;
    char *driver, *data_root, *kernel_version, *operating_system, *os_version, *architecture;
    char *cgroup_driver, *cgroup_version; // "cgroupfs", "1" | "2"
    int64_t cpus, memory;
    bool memory_limit, swap_limit, cpu_quota, cpu_shares, cpuset, pids_limit, oom_kill_disable, ipv4_forwarding;
    struct strv driver_status; // pairs of key and value
    struct strv security_options, warnings; // how guests run is among both
    struct strv labels, insecure_registries, registry_mirrors;
    bool debug, experimental;
    struct strv cdi_folders;
    char *log_driver, *runtime;
    int64_t event_listeners, events; // events: told since the daemon started
    int64_t now_ns;
};
int engine_info(struct engine *engine, struct arena *arena, struct engine_info *out, struct err *err);

// The paths that a container does not see, or only reads, unless its HostConfig says otherwise; NULL-terminated.
extern const char *const engine_masked_paths[];
extern const char *const engine_readonly_paths[];

// ---- containers -----------------------------------------------------------------------------------------------------

// `config` was decoded from the client's body. `name` NULL or "" draws one. Warnings (Docker's own texts) are arena memory.
// not_found only when the image is missing (the CLI then pulls); conflict with Docker's text when the name is taken.
int engine_create(struct engine *engine, const char *name, const struct container_config *config, json_t *body,
                  struct arena *arena, char id[65], struct strv *warnings, struct err *err);
int engine_start(struct engine *engine, const char *ref, struct err *err); // not_modified when it runs

// Checkpoints of a running container's processes, by CRIU. `folder` is an absolute path that they stand in by their names; NULL and "":
// the container's own. not_implemented where there is no criu.
struct engine_checkpoint {
    const char *name, *folder;
    bool leave_running;
};
int engine_checkpoint_create(struct engine *engine, const char *ref, const struct engine_checkpoint *wish, struct err *err);
int engine_checkpoint_list(struct engine *engine, const char *ref, const char *folder, struct arena *arena, struct strv *out, struct err *err);
int engine_checkpoint_remove(struct engine *engine, const char *ref, const char *name, const char *folder, struct err *err);
int engine_start_from(struct engine *engine, const char *ref, const char *name, const char *folder, struct err *err); // a checkpoint
bool engine_experimental(const struct engine *engine); // whether clients may ask for them

// `signal` "" is the container's own; timeout_s -1 the container's own, default 10. not_modified when it is stopped.
int engine_stop(struct engine *engine, const char *ref, const char *signal, int64_t timeout_s,
                const struct cancel *cancel, struct err *err);
int engine_restart(struct engine *engine, const char *ref, const char *signal, int64_t timeout_s,
                   const struct cancel *cancel, struct err *err);
int engine_kill(struct engine *engine, const char *ref, const char *signal, struct err *err);
int engine_pause(struct engine *engine, const char *ref, bool pause, struct err *err);
int signal_parse(const char *text, int *out, struct err *err); // "SIGKILL", "kill", "9"; invalid_argument
int engine_remove(struct engine *engine, const char *ref, bool force, bool volumes, struct err *err);
// Limits and restart policy of a container, whether it runs or not; warnings are arena memory. invalid_argument, conflict and
// not_implemented (what a machine that runs can't change) leave it as it was.
int engine_update(struct engine *engine, const char *ref, const struct update_request *request, struct arena *arena,
                  struct strv *warnings, struct err *err);
int engine_unlink(struct engine *engine, const char *ref, struct err *err); // "PARENT/ALIAS", which names the child until then
int engine_rename(struct engine *engine, const char *ref, const char *name, struct err *err);
int engine_resize(struct engine *engine, const char *ref, int64_t height, int64_t width, struct err *err);

enum engine_condition { ENGINE_NOT_RUNNING, ENGINE_NEXT_EXIT, ENGINE_REMOVED };
struct engine_waiter;
// Registered at once, so that nothing that happens after this call is missed; then waited for. The code of a removed
// container is that of its last run.
int engine_wait_begin(struct engine *engine, const char *ref, enum engine_condition condition,
                      struct engine_waiter **out, struct err *err);
int engine_wait(struct engine_waiter *waiter, const struct cancel *cancel, int64_t *exit_code, struct err *err);
void engine_wait_end(struct engine *engine, struct engine_waiter *waiter);

struct engine_attach {
    bool in, out, error, stream, logs;
    bool raw; // bytes as they come, though there is no terminal
    const char *detach_keys; // "" or NULL: ctrl-p,ctrl-q
};
// Three steps, because the client may go on as soon as its connection is hijacked, and its start must not overtake it:
// begin checks that attaching is possible and holds back a start of the container until engine_attach() or
// engine_attach_abandon() follows, with the full id that begin gives (a name may move to another container in between). Tells whether
// the container has a terminal.
int engine_attach_begin(struct engine *engine, const char *ref, char id[65], bool *terminal, struct err *err);
// Takes the client's descriptor for good. On a container that does not run it waits and travels with the next start.
int engine_attach(struct engine *engine, const char *id, const struct engine_attach *attach, int client_fd, struct err *err);
void engine_attach_abandon(struct engine *engine, const char *id);

struct engine_logs {
    bool out, error, follow, timestamps, details;
    bool raw; // not framed
    int64_t since_ns, until_ns; // 0: unset
    int64_t tail; // lines, -1 all
};
// Gives each log line in Docker's wire form (framed unless the container has a terminal) to `sink`; ends at the end of the log, or
// with `follow` when the container stops, the sink fails, or cancelled. engine_logs_check() before the answer's head goes out.
typedef int engine_sink_fn(void *context, const void *data, size_t size);
int engine_logs_check(struct engine *engine, const char *ref, const struct engine_logs *logs, bool *terminal, struct err *err);
int engine_logs(struct engine *engine, const char *ref, const struct engine_logs *logs, engine_sink_fn *sink,
                void *context, const struct cancel *cancel, struct err *err);

// A snapshot of one container, in the caller's arena.
struct engine_mount {
    char *type, *name, *source, *destination, *driver, *mode, *propagation;
    char *subpath; // of a volume or an image; NULL: all of it
    bool rw;
    bool alone; // without what is mounted below the source
    bool writable_below; // read-only is the mount itself, not what is mounted below it
    bool needs_mount; // a volume that has something mounted while it is used
};
struct engine_port {
    char *ip, *proto; // host side; ip NULL: exposed only
    int64_t public_port, private_port;
};
struct engine_health_result {
    int64_t start_ns, end_ns, exit_code;
    char *output;
};
struct engine_health {
    const char *status; // "starting" "healthy" "unhealthy"
    int64_t failing_streak;
    struct engine_health_result *log; // the last five, oldest first
    size_t log_len;
};
struct engine_endpoint {
    char *network, *network_id; // the id is "" until the first start
    const struct endpoint_request *request;
    bool up; // the rest is true while it is
    char *endpoint_id, *gateway, *address, *mac;
    char *gateway6, *address6; // "": its network has no IPv6
    int64_t prefix, prefix6;
    struct strv dns_names; // on networks of clients
};
struct engine_container {
    char *id, *name; // without "/"
    struct strv link_names; // of a list: "/PARENT/ALIAS", what links of others call it
    int64_t created_ns;
    char *path; // executable
    struct strv args;
    char *status; // "created" "running" "paused" "restarting" "exited" "removing" "dead"
    bool running, paused, restarting, oom_killed; // running also when restarting, as Docker has it
    int64_t pid, exit_code, started_ns, finished_ns, restart_count;
    char *error;
    struct engine_health *health; // NULL: no check, or never started
    char *image_id, *image_name; // image_name as typed
    struct kvs labels;
    // From here to lower_dirs: of one that is inspected, not of a list.
    const struct container_config *config; // effective: image's config merged in; JSON_RAW members are NULL
    char *body_text; // the create body as it came: HostConfig is echoed from it with defaults filled in
    char *hostname_path, *hosts_path, *resolv_conf_path, *log_path, *driver;
    char *upper_dir, *work_dir, *lower_dirs, *root_dir; // GraphDriver.Data; root_dir alone: a copy of the image
    struct engine_mount *mounts;
    size_t mount_len;
    struct strv exec_ids;
    char *network; // of the mode: "bridge" "none", or a name
    char *sandbox_id;
    char *sandbox_key; // the path of its network namespace while it runs; "": it has none on this host, or another container's
    struct engine_endpoint *endpoints; // the first is the mode's
    size_t endpoint_len;
    struct engine_port *ports;
    size_t port_len;
    struct engine_machine *machine; // of one that is inspected; NULL: a container
};
// The machine around a guest: of this run, or of the last one; before the first one accel and kernel are "".
struct engine_machine {
    char *accel, *kernel; // "kvm" "tcg"; the kernel's release
    int64_t vcpus, memory_size, disk_allocated; // bytes of guest RAM; bytes that its disk takes on the host
};
int engine_inspect(struct engine *engine, const char *ref, struct arena *arena, struct engine_container *out, struct err *err);
// Bytes of the container's own layer (a guest: what its disk takes on the host), measured now, and together with its image's. As Docker has it, what can't be measured
// is -1, and the image alone counts. not_found when the container is gone.
int engine_size(struct engine *engine, const char *ref, int64_t *rw, int64_t *root_fs, struct err *err);
// Newest first. `all` false: running ones. The api applies the filters.
void engine_list(struct engine *engine, bool all, struct arena *arena, struct engine_container **out, size_t *len);

// What a container uses now. Text and lists in the arena. A guest's are its machine's, as the host sees it.
struct engine_interface {
    char *name; // "eth0", as inside
    uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped;
};
struct engine_use {
    char *id, *name; // name without "/"
    bool running; // false: nothing below is known
    int64_t read_ns, system_cpu_ns; // when; time that the host's processors spent altogether
    int64_t memory_host; // bytes the host has
    struct cgroup_report report;
    struct engine_interface *interfaces; // but lo
    size_t interface_len;
};
int engine_use(struct engine *engine, const char *ref, struct arena *arena, struct engine_use *out, struct err *err);
// The host's ps with these arguments (words; "-ef" when none), of the container's processes alone: titles, and for each process
// as many columns. conflict when it does not run, not_implemented for a guest, invalid_argument when ps shows no PID.
struct engine_processes {
    struct strv titles;
    struct strv *rows;
    size_t len;
};
int engine_top(struct engine *engine, const char *ref, const char *ps_args, struct arena *arena, struct engine_processes *out,
               struct err *err);

// ---- files of a container -------------------------------------------------------------------------------------------
//
// Running or not: the tree as the container sees it, with volumes and binds, without /proc, /sys and what else is memory. Paths are the
// client's and are resolved inside that tree, by a jailed worker. not_found is "Could not find the file PATH in container REF". What is
// not_implemented of a guest's files is said so.

// Takes the next `size` bytes out of a pipe; -1: nobody reads any more.
typedef int engine_pipe_fn(void *context, int pipe_fd, size_t size);

struct engine_path {
    char *name, *link_target; // last component; where a link leads, else ""
    int64_t size, mtime_ns;
    uint32_t mode; // as stat(2) has it
};
int engine_path_stat(struct engine *engine, const char *ref, const char *path, struct arena *arena, struct engine_path *out,
                     const struct cancel *cancel, struct err *err);
// A tar of it to `sink`, after `found` was told what it is. A failure after that leaves the tar without its end.
typedef void engine_path_fn(void *context, const struct engine_path *path);
int engine_archive_get(struct engine *engine, const char *ref, const char *path, engine_path_fn *found, engine_pipe_fn *sink, void *context,
                       const struct cancel *cancel, struct err *err);
struct engine_archive_put {
    const char *path; // a folder
    bool keep_kind; // a folder is not replaced by what is none, nor the other way
    bool copy_owner; // all belongs to the container's user
};
int engine_archive_put(struct engine *engine, const char *ref, const struct engine_archive_put *put, int input_fd, const struct cancel *cancel,
                       struct err *err);
// The whole tree without volumes.
int engine_export(struct engine *engine, const char *ref, engine_pipe_fn *sink, void *context, const struct cancel *cancel, struct err *err);
// [{"Path", "Kind"}] as Docker has it: 0 changed, 1 added, 2 deleted. A reference.
int engine_changes(struct engine *engine, const char *ref, json_t **out, const struct cancel *cancel, struct err *err);

// A new image of what the container wrote, on the image that it was made of; it is paused meanwhile when asked for. *id is arena memory.
struct engine_commit {
    const char *reference, *author, *comment; // reference may be NULL, the others ""
    struct strv changes; // Dockerfile instructions
    json_t *body; // a client's configuration, which comes before the container's; NULL
    bool pause;
};
int engine_commit(struct engine *engine, const char *ref, const struct engine_commit *wish, struct arena *arena, char **id,
                  const struct cancel *cancel, struct err *err);

// ---- networks -------------------------------------------------------------------------------------------------------

struct engine_network {
    char id[65];
    char *name;
    const char *driver; // "bridge" "macvlan" "ipvlan" "host" "null", static
    int64_t created_ns;
    bool builtin; // it was never made and can't be removed
    const struct network_request *request; // NULL: built-in
    char *link, *subnet, *gateway; // of a bridge, "" when no subnet is free; else NULL
    const struct kvs *options; // of the default bridge; else NULL
    char *range, *route; // of the default bridge, what the operator says; "": the whole subnet, the bridge itself
    char *subnet6, *gateway6; // of a bridge, "" when it has no IPv6; else NULL
    char *range6, *route6; // as range and route
};
// Built-in ones first, then the oldest.
int engine_networks(struct engine *engine, struct arena *arena, struct engine_network **out, size_t *len, struct err *err);
// By id, name, or the beginning of one id. not_found "network X not found"; invalid_argument when several begin so.
int engine_network_find(struct engine *engine, const char *ref, struct arena *arena, struct engine_network *out, struct err *err);
// `body` is what the request was read from: the record keeps it. Errors have Docker's classes and words.
int engine_network_create(struct engine *engine, const struct network_request *request, json_t *body, char id[65], struct err *err);
int engine_network_remove(struct engine *engine, const char *ref, struct err *err); // permission_denied while a container is on it
bool engine_network_in_use(struct engine *engine, const struct engine_network *network); // by a container that runs
// `request` NULL: nothing special. Of a running container at once, else from its next start on.
int engine_network_connect(struct engine *engine, const char *ref, const char *container, const struct endpoint_request *request,
                           struct err *err);
int engine_network_disconnect(struct engine *engine, const char *ref, const char *container, struct err *err);

// ---- volumes --------------------------------------------------------------------------------------------------------

struct volume_store *engine_volumes(struct engine *engine); // to look at; what changes them goes by the engine
// `name` NULL: an anonymous one. Gets the one that is there; labels are a new one's (volume/volume.h).
int engine_volume_create(struct engine *engine, const char *name, const struct volume_birth *birth, struct arena *arena,
                         struct volume *out, struct err *err);
// conflict, with the containers' ids, when it is in use, whether they run or not.
int engine_volume_remove(struct engine *engine, const char *name, struct err *err);
bool engine_volume_in_use(struct engine *engine, const char *name); // by a container that runs or not
// Bytes that its files take on the disk, measured now.
int engine_volume_size(struct engine *engine, const struct volume *volume, int64_t *out, struct err *err);

// ---- exec -----------------------------------------------------------------------------------------------------------

struct exec_config {
    bool attach_stdin, attach_stdout, attach_stderr, tty;
    bool privileged; // behind the VM wall: root of the guest
    char *detach_keys, *user, *working_dir;
    struct strv env, cmd;
    json_t *console_size_raw;
};
extern const struct json_table exec_config_table;
int engine_exec_create(struct engine *engine, const char *ref, const struct exec_config *config, char id[65], struct err *err);
// `client_fd` -1: detached. Otherwise taken for good; a failure after the hand-over is written to it as Docker does.
int engine_exec_check(struct engine *engine, const char *exec_id, bool *terminal, struct err *err); // exists, not started, container runs
int engine_exec_start(struct engine *engine, const char *exec_id, int client_fd, const int64_t size[2], struct err *err);
int engine_exec_resize(struct engine *engine, const char *exec_id, int64_t height, int64_t width, struct err *err);
struct engine_exec {
    char *id, *container_id;
    const struct exec_config *config;
    bool running, started;
    int64_t pid, exit_code; // exit_code is meaningful when started && !running
};
int engine_exec_inspect(struct engine *engine, const char *exec_id, struct arena *arena, struct engine_exec *out, struct err *err);

// ---- images ---------------------------------------------------------------------------------------------------------

// docker save: an archive of the named images to `sink`; layers with the DiffIDs that they came with. What is not there is told before the first bytes; a failure after it leaves the archive without its end. not_implemented: a layer of a
// driver that does not keep its exact tar.
int engine_save(struct engine *engine, const struct strv *names, engine_pipe_fn *sink, void *context, const struct cancel *cancel,
                struct err *err);
struct image_store *engine_images(struct engine *engine); // for image_get and image_list
// Runs the worker with `input_fd` as its standard input; each line for the client goes to `progress` as a JSON object in Docker's form.
typedef int engine_progress_fn(void *context, json_t *object);
int engine_load(struct engine *engine, int input_fd, bool quiet, engine_progress_fn *progress, void *context,
                const struct cancel *cancel, struct err *err);
// Of `input_fd`, or of an http:// or https:// URL (NULL: none).
int engine_import(struct engine *engine, int input_fd, const char *url, const char *reference, const char *message, const struct strv *changes,
                  const char *platform, engine_progress_fn *progress, void *context, const struct cancel *cancel, struct err *err);

// Who a client is to a registry; members may be NULL.
struct engine_login {
    const char *username, *password, *identity_token, *registry_token;
};
// Fetches an image by tag or digest for a platform (NULL: this machine's). Of several calls for the same at the same time one
// fetches and all hear of it; it goes on as long as one of them is there. Each line is Docker's: {"status","progressDetail","id"}.
int engine_pull(struct engine *engine, const char *reference, const char *platform, const struct engine_login *login,
                engine_progress_fn *progress, void *context, const struct cancel *cancel, struct err *err);
// All tags of a repository, one after the other, until one fails.
int engine_pull_all(struct engine *engine, const char *repository, const char *platform, const struct engine_login *login,
                    engine_progress_fn *progress, void *context, const struct cancel *cancel, struct err *err);
// Sends an image to the registry that its name says; tag NULL or "": all tags of that name. Sends only what the registry lacks.
// not_implemented: that is a layer whose tar the store can't give.
int engine_push(struct engine *engine, const char *name, const char *tag, const struct engine_login *login, engine_progress_fn *progress,
                void *context, const struct cancel *cancel, struct err *err);
// Whether a registry ("host", "host:port", or Docker's "https://index.docker.io/v1/") takes a login; *token (arena) is the identity
// token that it gave, "" when none. unauthenticated: it does not.
int engine_registry_login(struct engine *engine, const char *server, const struct engine_login *login, struct arena *arena,
                          char **token, const struct cancel *cancel, struct err *err);
// What a reference names there, in the form of Docker's /distribution; a reference.
int engine_registry_lookup(struct engine *engine, const char *reference, const struct engine_login *login, json_t **out,
                           const struct cancel *cancel, struct err *err);
// The tags of a repository, an array; a reference.
int engine_registry_tags(struct engine *engine, const char *repository, const struct engine_login *login, json_t **out,
                         const struct cancel *cancel, struct err *err);
// [{"star_count","is_official","name","is_automated","description"}] of Docker Hub's index, or of the host that the term begins with.
int engine_registry_search(struct engine *engine, const char *term, int64_t limit, const struct engine_login *login, json_t **out,
                           const struct cancel *cancel, struct err *err);
int engine_image_remove(struct engine *engine, const char *name, unsigned flags, struct arena *arena, struct image_removed *out, struct err *err);
int engine_image_tag(struct engine *engine, const char *name, const char *reference, struct err *err);

// ---- events ---------------------------------------------------------------------------------------------------------

void engine_pruned(struct engine *engine, const char *type, int64_t reclaimed); // tells those who watch: "container" "image" ...

struct engine_event {
    const char *type, *action, *actor_id; // "container", "start", id
    struct kvs attributes;
    int64_t time_ns;
};
// Past events since `since_ns` (0: none; the last 256 are kept), then live ones until `until_ns` (0: never) or cancelled.
typedef int engine_event_fn(void *context, const struct engine_event *event); // NULL event: nothing for a while, may be ignored
int engine_events(struct engine *engine, int64_t since_ns, int64_t until_ns, engine_event_fn *fn, void *context,
                  const struct cancel *cancel, struct err *err);

#endif
