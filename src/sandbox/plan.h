// The plan and the child that executes it: private to the room.
//
// A plan is a flat array of operations. Each names what it needs: a path in the container, a word, flags, a descriptor.
// The table op_kinds (ops.c) says for each kind its name and the function that the child calls.
#ifndef SANDBOX_PLAN_H
#define SANDBOX_PLAN_H

#include <sys/types.h>

#include "base/arena.h"
#include "kernel/abi.h"
#include "kernel/caps.h"
#include "kernel/filter.h"
#include "kernel/mount.h"
#include "sandbox/config.h"
#include "sandbox/sandbox.h"
#include "sandbox/user.h"

enum op_type {
    OP_JOIN_CGROUP, // by the v1 `tasks` files
    OP_JOIN_NAMESPACE, // fd, flags: CLONE_NEW*
    OP_CGROUP_NAMESPACE, // a new one; comes after the cgroup was joined, so that its root is the group
    OP_KEYRING, // a new session keyring
    OP_SLAVE, // nothing mounted here reaches the host
    OP_LOOPBACK,
    OP_HOSTNAME, // text
    OP_DOMAINNAME,
    OP_NEW_MOUNT, // a file system (text) that OP_MOUNT attaches later; slot
    OP_ROOT, // the rootfs becomes "/", the old root is gone
    OP_OPEN_ROOT, // exec: "/" as it is
    OP_USER, // names -> numbers, from this rootfs
    OP_MOUNT, // a new file system (text) on path, or the one that the slot has; slot
    OP_TMPFS, // the same on a path that a user chose; writable until all mounts are in place
    OP_TMPFS_READ_ONLY,
    OP_BIND, // index into the launch's clones
    OP_DIR, // in a file system of ours (slot)
    OP_LINK, // path -> text, in a file system of ours
    OP_NODE, // in a file system of ours, or in the rootfs (SLOT_NONE)
    OP_CGROUP, // index into the launch's clones; on a new folder of a file system of ours (slot)
    OP_SEAL, // a file system of ours (slot) and what is mounted in it: flags, clear
    OP_SYSCTL, // path below /proc/sys, text
    OP_OOM_SCORE, // text
    OP_TERMINAL, // a pty of the container's devpts; flags: OP_CONSOLE
    OP_READ_ONLY_PATH,
    OP_MASK,
    OP_PROPAGATION, // of "/": flags
    OP_ROOT_READ_ONLY,
    OP_MAKE_CWD,
    OP_CWD,
    OP_STDIO,
    OP_CLOSE, // everything but stdio, what is passed on, the parent's socket and the init
    OP_SESSION,
    OP_RLIMIT, // index
    OP_NO_NEW_PRIVS,
    OP_SECCOMP,
    OP_IDENTITY, // groups, ids, capabilities, umask
    OP_READY, // tells the parent and waits for its word
    OP_EXEC,
    // Of a config.json only.
    OP_STAGE, // how: enum sandbox_stage; the parent acts, then the child goes on
    OP_BECOME_ROOT, // of the user namespace
    OP_CLONE_ROOT, // path: the host's; for a caller without rights over the host
    OP_CLONE_BIND, // index
    OP_DETACH, // path: a mount of the host's
    OP_ATTACH_ROOT, // the rootfs is mounted, but not entered yet
    OP_PIVOT, // into what OP_ATTACH_ROOT mounted
    OP_FILESYSTEM, // a new file system on a path of the config; slot
    OP_BIND_PROPAGATION, // of a mount: flags
    OP_REMOUNT, // flags, clear; how: recursive
    OP_PATH_READ_ONLY, // a mount turns read-only now that all are in place
    OP_PRIVATE_PROC, // a procfs that is mounted nowhere
    OP_DEV_FOLDER, // the folder that stands at /dev
    OP_BIND_NODE, // index; a device of the host, where the kernel lets us make none
    OP_HOOK, // index; how: 0 createContainer, 1 startContainer
    OP_PERSONALITY,
    OP_SCHEDULER,
    OP_IO_PRIORITY,
    OP_AFFINITY,
    OP_APPARMOR,
    OP_SELINUX,
    OP_FIND_COMMAND, // before the caller is told that all is well
    OP_COUNT,
};

enum slot { SLOT_NONE, SLOT_PROC, SLOT_SYS, SLOT_DEV, SLOT_PTS, SLOT_CGROUP, SLOT_COUNT };

#define OP_CONSOLE 1 // OP_TERMINAL: also at /dev/console
#define OP_IS_DIR 2 // OP_BIND: the source is a folder
#define OP_ON_PROC 4 // OP_BIND: the target is one of the files below /proc that may be replaced
#define OP_IF_MISSING 8 // OP_LINK, OP_NODE: what is there may stay
#define OP_RECURSIVE 16
#define OP_PLAIN_TARGET 32 // OP_FILESYSTEM: no link on the way
#define OP_NO_PIVOT 64 // OP_ROOT, OP_PIVOT: chroot, the old root stays below
#define OP_STAY 1024 // OP_ATTACH_ROOT, OP_PIVOT: the mount namespace is the caller's, whose root stays where it is
#define OP_ON_ROOT 512 // OP_BIND, OP_FILESYSTEM: the mount takes the root's place
#define OP_FILL 256 // OP_FILESYSTEM: with what the folder below has
#define OP_FINAL 128 // OP_AFFINITY: the one for the process, not for its preparation

struct op {
    enum op_type type;
    const char *path;
    const char *text;
    uint64_t flags; // MOUNT_ATTR_* of mounts, MS_* of OP_PROPAGATION
    uint64_t clear; // OP_REMOUNT
    unsigned how; // OP_* words above
    enum slot slot;
    int fd; // OP_JOIN_NAMESPACE; OP_FILESYSTEM: the user namespace of its id map, or -1
    size_t index;
    const struct mount_option *options;
    size_t option_len;
    mode_t mode;
    dev_t device;
    uid_t uid;
    gid_t gid;
};

struct plan_rlimit {
    int resource;
    uint64_t soft, hard;
};

struct plan_bind {
    int source_fd; // borrowed
    uint64_t attrs, propagation;
    bool recursive;
    bool own_attrs; // `attrs` are of the topmost mount alone
    bool detached; // source_fd is a mount already
    const char *target; // for messages
    // Of a config.json only.
    const char *source; // OP_CLONE_BIND: the host's path
    uint64_t clear, rec_set, rec_clear;
    int idmap_fd; // 0: none
    bool idmap_recursive, in_child;
};

struct plan_scheduler {
    uint32_t policy, priority;
    int32_t nice;
    uint64_t flags, runtime, deadline, period;
};

#define AFFINITY_WORDS 128 // 8,192 CPUs

struct plan_affinity {
    bool set;
    unsigned long words[AFFINITY_WORDS];
};

#define PLAN_BEFORE_MAX 8
#define PLAN_OWNED_MAX 256 // namespaces and devices that one plan holds open

// What must be done before the clone by a process of its own, because a new or joined namespace counts only for children,
// or because rights over the ones to join end with the clone.
struct plan_before {
    bool needed;
    int join_fds[PLAN_BEFORE_MAX]; // in this order; what the plan opened is among its owned_fds
    uint64_t join_flags[PLAN_BEFORE_MAX];
    size_t join_len;
    bool new_user; // unshared here instead of by the clone
    bool new_time;
    const char *time_offsets; // for /proc/self/timens_offsets
};

struct sandbox_plan {
    struct arena arena;
    struct op *ops;
    size_t op_len, op_capacity;

    // namespaces
    uint64_t clone_flags;
    int pidns_fd; // the child is born into this pid namespace; -1: ours or a new one. Owned unless exec.
    int *owned_fds; // of namespaces that were named by path
    size_t owned_len;
    uid_t root_uid; // the host's number of the root of a user namespace that is joined; 0: none is
    gid_t root_gid;
    int devices_fd; // one of them: a detached file system with the devices that the child may not make; -1: none

    struct sandbox_rootfs rootfs;
    struct plan_bind *binds;
    size_t bind_len;
    struct cgroup *cgroup;
    bool cgroup_namespace; // the child has one of its own
    int init_pidfd; // exec: whom to join
    int root_fd; // exec: borrowed; 0: none

    // process
    char **argv; // with the init's words in front where there is one
    char **envp; // the last slot before the NULL is free for HOME
    size_t env_len;
    bool needs_home;
    const char *command; // args[0], for messages and the search
    const char *cwd;
    struct user_request user;
    struct caps_sets caps;
    struct plan_rlimit *rlimits;
    size_t rlimit_len;
    mode_t umask;
    bool has_umask;
    bool terminal, die_with_parent;
    unsigned short rows, columns;
    int init_fd;
    const int *keep_fds; // borrowed descriptors, our array
    size_t keep_len;
    struct filter_program *filter; // NULL: unconfined

    // Of a config.json only.
    const struct sandbox_config *config; // borrowed; NULL: Docker's
    const struct sandbox_config *hooks; // borrowed: who says what is to be run; NULL: nobody
    bool strict; // a limit that can't be set is an error
    const int *join_fds; // exec: borrowed
    size_t join_len;
    bool keep_groups; // where setgroups is denied, the groups stay: none were asked for
    bool maps_need_dumpable;
    bool join_users; // exec: the container's user namespace is not ours
    struct plan_before before;
    struct plan_scheduler scheduler;
    struct plan_affinity affinity, final_affinity;
    int start_fd, report_fd;
    sandbox_stage_fn *at_stage;
    void *stage_context;
    int (*take_listener)(int listener_fd, pid_t pid, void *context, struct err *err); // exec
};

// plan_process.c: what create and exec have in common. Fills the process part and appends the operations from OP_CWD on.
int plan_process(struct sandbox_plan *plan, const struct oci_process *process, struct err *err);
void plan_hooks(struct sandbox_plan *plan, const struct config_hook *hooks, size_t len, bool start);
void plan_process_ops(struct sandbox_plan *plan, const struct oci_process *process);
struct op *plan_add(struct sandbox_plan *plan, enum op_type type);
void plan_join_before(struct sandbox_plan *plan, int fd, uint64_t flag); // in the process between, after what was said before
struct sandbox_plan *plan_alloc(void);
// plan_mounts.c: the file systems every container gets, then the user's.
int plan_mounts(struct sandbox_plan *plan, const struct sandbox_spec *spec, struct err *err);
void plan_early_mounts(struct sandbox_plan *plan, const struct sandbox_spec *spec); // what can't be made without the host's tree in sight
// plan_nodes.c: devices of a container with a user namespace, where nobody may make one. First the clones, then the places of those
// from `first` on.
int plan_bind_device(struct sandbox_plan *plan, const struct oci_linux *section, const struct oci_device *device, bool in_child, struct err *err);
void plan_bound_devices(struct sandbox_plan *plan, size_t first, size_t end);
// plan_devices.c: every device below /dev of the machine this runs on, but for what each container gets as its own.
void plan_machine_devices(struct sandbox_plan *plan);
void plan_protect(struct sandbox_plan *plan, const struct sandbox_spec *spec);
// The words of config.json that both kinds share.
int plan_sysctls_of(struct sandbox_plan *plan, const struct kvs *map, uint64_t owned, struct err *err);
int plan_names_of(struct sandbox_plan *plan, const char *hostname, const char *domainname, struct err *err);
void plan_cgroups(struct sandbox_plan *plan, struct cgroup *cgroup, const char *path, uint64_t attrs);
// Mode, number and owner of a device as an operation has them.
int plan_device_node(const struct oci_device *device, struct op *out, struct err *err);
int plan_device(struct sandbox_plan *plan, const struct oci_device *device, struct err *err);
// plan_attributes.c: scheduler, io priority, personality, affinity, labels.
int plan_attributes(struct sandbox_plan *plan, const struct oci_process *process, struct err *err);
int plan_personality(struct sandbox_plan *plan, const struct oci_personality *personality, struct err *err);
// The user namespace that we are in has given up setgroups(), as one whose map a user wrote without help must.
bool plan_groups_locked(void);
int plan_exec(const struct sandbox_exec *exec, int init_pidfd, struct cgroup *cgroup, struct sandbox_plan **out,
              struct err *err);

// ---- the child ------------------------------------------------------------------------------------------------------

enum message_type { MESSAGE_READY = 1, MESSAGE_MASTER, MESSAGE_ERROR, MESSAGE_STAGE, MESSAGE_CHILD };
struct message {
    enum message_type type;
    int value; // STAGE: which; CHILD: the pid, as the caller sees it
    struct err err;
};

struct child {
    const struct sandbox_plan *plan;
    const struct sandbox_stdio *stdio;
    int sock;
    int rootfs_fd; // detached
    int *bind_fds; // detached, one per plan->binds
    int join_fds[2 * CGROUP_HIERARCHY_MAX];
    size_t join_len;
    int *passed_fds; // the plan's keep_fds, moved as they get their numbers
    int *kept_fds; // what must survive the first close_range, sorted
    size_t kept_len;

    int root_fd; // "/" of the container once it is there
    int slots[SLOT_COUNT]; // mounts of our own
    int null_fd, mask_fd, slave_fd, init_fd;
    int last_mount; // what OP_BIND_PROPAGATION is about; borrowed
    int start_fd, report_fd;
    bool started; // nobody listens at the socket any more
    bool found; // `command` is filled
    char command[4096];
    struct user_found user;
    char home_env[sizeof("HOME=") + 256];
};

struct op_kind {
    const char *name;
    int (*run)(struct child *child, const struct op *op, struct err *err);
    bool own_words; // its errors are read by clients as they are
};
extern const struct op_kind op_kinds[OP_COUNT];

_Noreturn void child_run(struct child *child);
int child_send(struct child *child, enum message_type type, const struct err *err, int fd);
// Opens a file for writing in our own procfs, whatever may have been mounted over it.
int child_open_proc(struct child *child, const char *path, struct err *err);
int child_check_target(struct child *child, const struct op *op, int target, struct err *err);
int child_find_command(struct child *child, struct err *err);
int child_stage(struct child *child, enum sandbox_stage stage, int fd, struct err *err);
// ".", a mount on "/" (OP_NO_PIVOT) or anywhere, becomes the root and child->root_fd.
int child_enter_root(struct child *child, const struct op *op, struct err *err);
int child_system_target(struct child *child, const char *path, struct err *err);
int child_replace_root(struct child *child, const struct op *op, int mount, struct err *err);
int child_slot_fd(const struct child *child, const struct op *op);
// child_copy.c: folders, files, links and nodes with owner, mode and times; other file systems are left out.
int child_copy_tree(int from_fd, int to_fd, struct err *err);
// clone.c: the detached clone of one bind, with its attributes.
int clone_bind(const struct plan_bind *bind, int source_fd, struct err *err);
// before.c: in the process between; does not come back.
_Noreturn void before_run(struct child *child, struct clone_args *args);

#define OP_FN(name) int name(struct child *child, const struct op *op, struct err *err)
// child_namespace.c
OP_FN(op_join_cgroup);
OP_FN(op_join_namespace);
OP_FN(op_cgroup_namespace);
OP_FN(op_keyring);
OP_FN(op_loopback);
OP_FN(op_hostname);
OP_FN(op_domainname);
// child_mount.c
OP_FN(op_slave);
OP_FN(op_new_mount);
OP_FN(op_root);
OP_FN(op_open_root);
OP_FN(op_mount);
OP_FN(op_tmpfs);
OP_FN(op_tmpfs_read_only);
OP_FN(op_bind);
OP_FN(op_dir);
OP_FN(op_link);
OP_FN(op_node);
OP_FN(op_cgroup);
OP_FN(op_seal);
OP_FN(op_sysctl);
OP_FN(op_oom_score);
OP_FN(op_read_only_path);
OP_FN(op_mask);
OP_FN(op_propagation);
OP_FN(op_root_read_only);
// child_terminal.c
OP_FN(op_terminal);
OP_FN(op_stdio);
OP_FN(op_session);
// child_process.c
OP_FN(op_user);
OP_FN(op_make_cwd);
OP_FN(op_cwd);
OP_FN(op_close);
OP_FN(op_rlimit);
OP_FN(op_no_new_privs);
OP_FN(op_seccomp);
OP_FN(op_identity);
OP_FN(op_ready);
OP_FN(op_exec);
// child_config.c
OP_FN(op_stage);
OP_FN(op_become_root);
OP_FN(op_clone_root);
OP_FN(op_clone_bind);
OP_FN(op_detach);
OP_FN(op_attach_root);
OP_FN(op_pivot);
OP_FN(op_filesystem);
OP_FN(op_bind_propagation);
OP_FN(op_remount);
OP_FN(op_path_read_only);
OP_FN(op_private_proc);
OP_FN(op_dev_folder);
OP_FN(op_bind_node);
OP_FN(op_hook);
// child_attributes.c
OP_FN(op_personality);
OP_FN(op_scheduler);
OP_FN(op_io_priority);
OP_FN(op_affinity);
OP_FN(op_apparmor);
OP_FN(op_selinux);
OP_FN(op_find_command);

#endif
