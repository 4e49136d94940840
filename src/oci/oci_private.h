#ifndef OCI_OCI_PRIVATE_H
#define OCI_OCI_PRIVATE_H

#include <limits.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/strv.h"
#include "kernel/cgroup.h"
#include "kernel/systemd.h"
#include "criu/criu.h"
#include "oci/oci.h"
#include "sandbox/config.h"
#include "spec/spec.h"

#define SPEC_VERSION "1.2.0"
#define DOCUMENT_MAX (16 << 20) // bytes of a config.json

// ---- args.c: flags as Go's cli package reads them -------------------------------------------------------------------

enum flag_kind { FLAG_BOOL, FLAG_TEXT, FLAG_LIST, FLAG_IGNORED_TEXT };
struct flag {
    const char *name;
    const char *letter; // "" when it has none
    enum flag_kind kind;
    const char *help;
};

#define FLAGS_MAX 32
struct args {
    const struct flag *flags;
    size_t flag_len;
    struct strv values[FLAGS_MAX]; // by index of the flag; each time it was given
    struct strv words; // what is no flag
    struct arena *arena;
};

// Reads from *at on; `mixed`: flags may follow words. On return *at is the first argument that was not read.
int args_read(struct args *args, int argc, char **argv, int *at, bool mixed, struct err *err);
const char *args_text(const struct args *args, const char *name); // the last one; NULL when not given
bool args_given(const struct args *args, const char *name);
bool args_flag(const struct args *args, const char *name);
const struct strv *args_list(const struct args *args, const char *name);
void args_help(const struct flag *flags, size_t len);

// ---- log.c ----------------------------------------------------------------------------------------------------------

int log_open(const char *path, const char *format, bool debug, struct err *err);
void log_error_line(const char *message); // in the log
void log_warning_line(const char *message);
void log_debug_line(const char *message);
bool log_is_stderr(void);

// ---- the call -------------------------------------------------------------------------------------------------------

struct call {
    struct args global, args;
    struct arena arena;
    const char *root; // absolute
    bool systemd, rootless;
    bool inside_users; // in a user namespace that has not all ids
    bool lax_cgroups; // a group that may not be made is done without
    const char *program; // argv[0]
    int exit_code; // of the process, or 255 for a failed exec
};

typedef int verb_fn(struct call *call, struct err *err);
enum { WORDS_EXACT, WORDS_MIN, WORDS_MAX };

verb_fn verb_create, verb_run, verb_start, verb_exec, verb_kill, verb_delete, verb_pause, verb_resume;
verb_fn verb_state, verb_list, verb_ps, verb_events, verb_update, verb_spec, verb_features, verb_plan, verb_checkpoint,
    verb_restore;

// ---- container.c ----------------------------------------------------------------------------------------------------

enum status { STATUS_CREATING, STATUS_CREATED, STATUS_RUNNING, STATUS_PAUSED, STATUS_STOPPED };

#define STDIO_LEN 3

struct container {
    const char *id;
    int dir_fd; // the state folder
    int lock_fd; // -1 when not locked
    char *version, *bundle, *rootfs, *cgroup; // cgroup: relative path, "" when it has none
    char *clos; // what is to be removed from the resctrl file system at the end; "" for nothing
    char *unit; // of systemd, which then has made the cgroup; "" for none
    pid_t holder; // keeps the unit until the process is in it; 0 for none
    int64_t pid, pid_start; // start: in clock ticks after boot, tells a pid that came back from ours
    int64_t created_ns;
    int64_t mount_id; // of what stands on `rootfs` in the caller's mount namespace and is to go with the container; 0 for nothing
    bool rootless;
    char *stdio[STDIO_LEN]; // what the standard streams were at the start; "" for what is unknown
    struct arena arena;
    struct buf text; // config.json as it was read from the bundle, the document in it, and what that says
    json_t *document;
    struct oci_config config;
    struct cgroup_layout *layout; // by container_layout()
};

#define CONTAINER_NONE { .dir_fd = -1, .lock_fd = -1, .text = BUF_INIT(DOCUMENT_MAX) }

int container_id_check(const char *id, struct err *err);
// A new state folder, locked; conflict when there is one. `out` is CONTAINER_NONE, or what bundle_read() has read.
int container_make(struct call *call, const char *id, struct container *out, struct err *err);
int container_load(struct call *call, const char *id, struct container *out, struct err *err);
int container_load_config(struct container *container, struct err *err);
int container_lock(struct container *container, struct err *err);
int container_save(struct container *container, struct err *err);
enum status container_status(struct container *container);
const char *status_name(enum status status);
const struct cgroup_layout *container_layout(struct container *container); // of this machine; looked for once
int container_cgroup(struct container *container, struct cgroup **out, struct err *err); // NULL where it has none
bool container_alive(const struct container *container);
int container_send(const struct container *container, int sig, struct err *err);
void container_done(struct container *container);
// Everything that is left of it goes: processes, cgroup, folder; poststop hooks run.
int container_destroy(struct call *call, struct container *container, struct err *err);
// What a call that made the container, or waited for its process, does last: destroys it unless `keep`, or unless another
// verb (checkpoint, delete) has done so meanwhile and the id may be somebody else's.
void container_clear_away(struct call *call, struct container *container, bool keep);
int64_t process_start_time(pid_t pid); // -1 when there is none, or only its shell is left
// The processors of its cgroup: what the caller was bound to is not the container's.
void process_all_cpus(pid_t pid);
json_t *container_state(struct container *container, enum status status); // of the runtime-spec, for hooks

// ---- config.c, mounts.c, idmap.c, cgroups.c, hooks.c ----------------------------------------------------------------

int document_read(const char *path, struct buf *text, json_t **out, struct err *err); // text: of DOCUMENT_MAX, the caller's
int config_check(const struct oci_config *config, struct err *err);
int config_check_spec(const json_t *document, const struct oci_config *config, struct err *err); // config_spec.c; after the other
// Where a new user namespace has no maps: all ids as they are, or a user as root of it.
void config_default_maps(struct oci_config *config, struct arena *arena);
void warn_unknown_caps(const struct oci_process *process);
int process_check(const struct oci_process *process, struct err *err);
char *config_rootfs(const struct oci_config *config, const char *bundle, struct arena *arena, struct err *err);

struct mount_set {
    struct config_mount *mounts;
    size_t len;
    int *owned_fds;
    size_t owned_len;
};
int mounts_read(const struct oci_config *config, const char *bundle, bool rootless, struct arena *arena, struct mount_set *out,
                struct err *err);
void mounts_done(struct mount_set *set);
bool mount_word(const char *word, struct config_mount *mount, uint64_t *propagation, bool *remount, bool *bind, const char **option);
bool mount_is_bind(const struct oci_mount *mount);
// "//proc/./sys" as the plan compares it: "/proc/sys". What ".." means only the container knows, so it stays.
const char *mount_clean_target(struct arena *arena, const char *path);
void mount_words_list(json_t *out); // all that are known

int idmap_write(pid_t pid, const struct json_list *uids, const struct json_list *gids, bool rootless, struct err *err);
// A user namespace with these maps, for an idmapped mount.
int idmap_namespace(const struct json_list *uids, const struct json_list *gids, struct err *err);

// What the group or systemd's unit will be called.
int cgroups_name(struct call *call, struct container *container, struct err *err);
int cgroups_path(const char *wanted, const char *id, struct arena *arena, const char **out, struct err *err);
// `list` and what every container may use besides.
int cgroups_devices(const struct json_list *list, struct arena *arena, struct cgroup_limits *out, struct err *err);
// resources.c: `document` is the resources object that `in` was read from (NULL: only `in` counts) and must outlive *out.
int resources_limits(json_t *document, const struct oci_resources *in, struct arena *arena, struct cgroup_limits *out, struct err *err);
int resources_apply(struct cgroup *cgroup, const struct cgroup_limits *limits, struct err *err);
int cgroups_limits(struct container *container, struct arena *arena, struct cgroup_limits *out, struct err *err);
bool cgroups_frozen(const struct cgroup *cgroup);
int cgroups_make(struct call *call, struct container *container, struct cgroup **out, struct err *err);

// ---- host_mounts.c: without a mount namespace; nothing where the document has one --------------------------------------

// Replaces *rootfs_fd by a detached mount of it and writes its number down; 1 when it did.
int host_mounts_make(struct container *container, int *rootfs_fd, struct err *err);
int host_mounts_remove(const struct container *container, struct err *err);

// ---- scope.c: --systemd-cgroup --------------------------------------------------------------------------------------

// "slice:prefix:name" as the names of slice (NULL: the default) and unit ("prefix-name.scope", or a name that ends in
// ".slice").
int scope_name(const char *wanted, const char *id, struct arena *arena, const char **slice, const char **unit, struct err *err);
// Annotations org.systemd.property.*.
int scope_properties(const struct kvs *annotations, struct arena *arena, struct systemd_property **out, size_t *len, struct err *err);
// Makes container->unit and fills in and saves its cgroup. A holder is in it until scope_end_holder().
int scope_make(struct container *container, const char *slice, enum cgroup_version version, const struct cgroup_limits *limits,
               struct err *err);
void scope_end_holder(struct container *container);
// Tells systemd, if the cgroup is its; what is to be written into the group's files is then in *limits.
int scope_update(const struct container *container, enum cgroup_version version, struct cgroup_limits *limits, struct err *err);
void scope_round(struct cgroup_limits *limits); // as systemd rounds
int scope_stop(const struct container *container, struct err *err); // fine when there is none

// ---- rdt.c: linux.intelRdt; nothing where the document has none -----------------------------------------------------

int rdt_make(struct container *container, struct err *err);
int rdt_join(const struct container *container, pid_t pid, struct err *err);
int rdt_remove(const struct container *container, struct err *err);
json_t *rdt_stats(const struct container *container); // its configuration is loaded; an empty object where there is nothing
struct resctrl_group;
json_t *rdt_report(int root_fd, const struct resctrl_group *group); // rdt_report.c
int rdt_update(const struct container *container, const char *l3, const char *bandwidth, struct err *err); // "": as it is

// ---- subgroup.c -----------------------------------------------------------------------------------------------------

struct subgroups {
    int fds[CGROUP_HIERARCHY_MAX];
    size_t len;
};
// On failure *out holds what was opened so far.
int subgroups_read(struct cgroup *cgroup, const struct strv *list, struct subgroups *out, struct err *err);
// On cgroup v2 replaces the container's group by that which a further process belongs into: the one that is asked for, or
// where the first process is when the group itself takes none.
int subgroups_enter(struct cgroup **cgroup, const struct strv *list, pid_t init, struct err *err);
void subgroups_done(struct subgroups *subgroups);

// For the container's child to run: one without an environment of its own has none there, where programs may be the image's.
void hooks_convert(const struct json_list *list, struct arena *arena, struct config_hook **out, size_t *len);
// Runs them now, on the runtime's side: one without an environment of its own has the caller's, as with runc.
int hooks_run(struct container *container, const struct json_list *list, const char *kind, enum status status, struct err *err);

// ---- bundle.c -------------------------------------------------------------------------------------------------------

int bundle_enter(struct call *call, char bundle[PATH_MAX], struct err *err); // the process's folder is the bundle then
char *bundle_absolute(struct call *call, const char *path); // a flag's, as seen from where we are; NULL stays NULL
int bundle_read(struct call *call, struct container *container, struct err *err); // config.json, checked
// config.json and state.json in the state folder, with the names of what will be made.
int bundle_keep(struct call *call, struct container *container, const char *bundle, struct err *err);

// ---- seccomp.c ------------------------------------------------------------------------------------------------------

// NULL when the document asks for none. Lives in the arena.
int seccomp_of(const struct oci_config *config, const struct oci_process *process, struct arena *arena,
               const struct filter_program **out, struct err *err);
// Hands a listener to the socket that linux.seccomp names, with the container's state.
int seccomp_send_listener(struct container *container, pid_t pid, int listener_fd, struct err *err);

// ---- criu_options.c: what checkpoint and restore say to CRIU both ---------------------------------------------------

struct criu_folders {
    const char *images, *work, *log; // absolute; the log is a file
    int images_fd, work_fd; // work_fd: -1 for the images' own
};
#define CRIU_FOLDERS_NONE { .images_fd = -1, .work_fd = -1 }

// By --image-path and --work-path; `make`: the images' folder is made with this mode when it is missing, else (0) it must
// hold a checkpoint.
int criu_folders_open(struct call *call, mode_t make, const char *log_name, struct criu_folders *out, struct err *err);
// The same folders as the mount namespace that we are in now has them, under the same numbers: CRIU mounts in them.
int criu_folders_reopen(struct criu_folders *folders, struct err *err);
void criu_folders_done(struct criu_folders *folders);
int criu_check_flags(const struct call *call, struct err *err); // the values that flags may have
int criu_check_config(const struct oci_config *config, struct err *err); // what CRIU can't bring back is refused
void criu_common_options(const struct call *call, const struct container *container, const struct criu_folders *folders,
                         struct buf *out);
// As the plan makes them: where the container has a cgroup namespace, or there is only cgroup2, they are mounts of its own.
int oci_cgroup_mounts(const struct container *container, const char *target, bool from, struct buf *out, struct err *err);
const struct oci_namespace *config_namespace(const struct oci_config *config, const char *type);
int criu_failed(const struct criu_folders *folders, struct err *err); // adds where the log is

// ---- mapped_tmpfs.c: a tmpfs with an id map, of which CRIU keeps only half -------------------------------------------

bool mapped_tmpfs(const struct oci_mount *mount);
int mapped_tmpfs_check(const struct oci_config *config, struct err *err); // no other file system of a container's own has a map
int mapped_tmpfs_dump(const struct container *container, int images_fd, struct err *err); // while its processes stand still
// `index` is the mount's in config.json, `folder_fd` the new tmpfs with its map, at a place where tar can reach it.
int mapped_tmpfs_fill(int images_fd, size_t index, int folder_fd, struct err *err);

// ---- create.c, foreground.c -----------------------------------------------------------------------------------------

int send_console(const char *socket_path, int master_fd, struct err *err);
int write_pid_file(const char *path, pid_t pid, struct err *err);
// The numbers from 3 on that the process is to have too: the caller's LISTEN_FDS, then those of --preserve-fds; -1 is a hole.
// Adds LISTEN_FDS and LISTEN_PID to the process's environment where there are such.
int read_preserved(const struct args *args, struct arena *arena, struct oci_process *process, const int **out, size_t *len,
                   struct err *err);
int check_terminal(const struct oci_process *process, bool detach, const char *console_socket, struct err *err);
// Gives away what the caller of create, run or restore asked for: the terminal's master, the file with the pid.
int hand_over(struct call *call, int master_fd, const char *pid_file, pid_t pid, struct err *err);
// Gives a container's terminal the size of ours, and line ends as they are, before the process looks at it.
void foreground_terminal(int master_fd);
// Until the process ends: signals are passed on, a terminal is relayed, orphans are reaped.
int foreground(struct sandbox *sandbox, int master_fd, int *exit_code, struct err *err);

#endif
