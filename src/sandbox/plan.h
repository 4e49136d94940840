// The plan and the child that executes it: private to the room.
//
// A plan is a flat array of operations. Each names what it needs: a path in the container, a word, flags, a descriptor.
// The table op_kinds (ops.c) says for each kind its name and the function that the child calls.
#ifndef SANDBOX_PLAN_H
#define SANDBOX_PLAN_H

#include <sys/types.h>

#include "base/arena.h"
#include "kernel/caps.h"
#include "kernel/filter.h"
#include "kernel/mount.h"
#include "sandbox/sandbox.h"

enum op_type {
    OP_JOIN_CGROUP, // by the v1 `tasks` files
    OP_JOIN_NAMESPACE, // fd, flags: CLONE_NEW*
    OP_CGROUP_NAMESPACE, // a new one; comes after the cgroup was joined, so that its root is the group
    OP_KEYRING, // a new session keyring
    OP_SLAVE, // nothing mounted here reaches the host
    OP_LOOPBACK,
    OP_HOSTNAME, // text
    OP_DOMAINNAME,
    OP_ROOT, // the rootfs becomes "/", the old root is gone
    OP_OPEN_ROOT, // exec: "/" as it is
    OP_USER, // names -> numbers, from this rootfs
    OP_MOUNT, // a new file system (text) on path; slot
    OP_TMPFS, // the same on a path that a user chose; writable until all mounts are in place
    OP_TMPFS_READ_ONLY,
    OP_BIND, // index into the launch's clones
    OP_DIR, // in a file system of ours (slot)
    OP_LINK, // path -> text, in a file system of ours
    OP_NODE, // in a file system of ours, or in the rootfs (SLOT_NONE)
    OP_SEAL, // a file system of ours (slot) becomes read-only
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
    OP_COUNT,
};

enum slot { SLOT_NONE, SLOT_PROC, SLOT_DEV, SLOT_PTS, SLOT_CGROUP, SLOT_COUNT };

#define OP_CONSOLE 1 // OP_TERMINAL: also at /dev/console
#define OP_IS_DIR 2 // OP_BIND: the source is a folder
#define OP_ON_PROC 4 // OP_BIND: the target is one of the files below /proc that may be replaced

struct op {
    enum op_type type;
    const char *path;
    const char *text;
    uint64_t flags; // MOUNT_ATTR_* of mounts, MS_* of OP_PROPAGATION
    unsigned how; // OP_* words above
    enum slot slot;
    int fd;
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
    const char *target; // for messages
};

struct user_request {
    const char *name; // "user[:group]", NULL: the numbers
    uid_t uid;
    gid_t gid;
    const gid_t *extra;
    size_t extra_len;
    char *const *groups; // --group-add
    size_t group_len;
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

    struct sandbox_rootfs rootfs;
    struct plan_bind *binds;
    size_t bind_len;
    struct cgroup *cgroup;
    bool cgroup_namespace; // the child has one of its own
    int init_pidfd; // exec: whom to join

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
};

// plan_process.c: what create and exec have in common. Fills the process part and appends the operations from OP_CWD on.
int plan_process(struct sandbox_plan *plan, const struct oci_process *process, struct err *err);
void plan_process_ops(struct sandbox_plan *plan, const struct oci_process *process);
struct op *plan_add(struct sandbox_plan *plan, enum op_type type);
struct sandbox_plan *plan_alloc(void);
// plan_mounts.c: the file systems every container gets, then the user's.
int plan_mounts(struct sandbox_plan *plan, const struct sandbox_spec *spec, struct err *err);
// plan_devices.c: every device below /dev of the machine this runs on, but for what each container gets as its own.
void plan_machine_devices(struct sandbox_plan *plan);
void plan_protect(struct sandbox_plan *plan, const struct sandbox_spec *spec);
int plan_exec(const struct sandbox_exec *exec, int init_pidfd, struct cgroup *cgroup, struct sandbox_plan **out,
              struct err *err);

// ---- the child ------------------------------------------------------------------------------------------------------

#define USER_GROUPS_MAX 256

struct user_found {
    uid_t uid;
    gid_t gid;
    gid_t groups[USER_GROUPS_MAX];
    size_t group_len;
    char home[256];
};

// Looks names up in etc/passwd and etc/group below root_fd. Without memory of its own: it runs in the child.
int user_find(int root_fd, const struct user_request *request, struct user_found *out, struct err *err);

enum message_type { MESSAGE_READY = 1, MESSAGE_MASTER, MESSAGE_ERROR };
struct message {
    enum message_type type;
    struct err err;
};

struct child {
    const struct sandbox_plan *plan;
    const struct sandbox_stdio *stdio;
    int sock;
    int rootfs_fd; // detached
    const int *bind_fds; // detached, one per plan->binds
    int join_fds[CGROUP_HIERARCHY_MAX];
    size_t join_len;
    int *passed_fds; // the plan's keep_fds, moved as they get their numbers
    int *kept_fds; // what must survive the first close_range, sorted
    size_t kept_len;

    int root_fd; // "/" of the container once it is there
    int slots[SLOT_COUNT]; // mounts of our own
    int null_fd, mask_fd, slave_fd, init_fd;
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
OP_FN(op_root);
OP_FN(op_open_root);
OP_FN(op_mount);
OP_FN(op_tmpfs);
OP_FN(op_tmpfs_read_only);
OP_FN(op_bind);
OP_FN(op_dir);
OP_FN(op_link);
OP_FN(op_node);
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

#endif
