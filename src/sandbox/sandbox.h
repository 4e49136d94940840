// The thin wall: an OCI process behind namespaces, capabilities, cgroups and a seccomp filter. A library; the shim uses it
// now, the guest's PID 1 and berth-oci later.
//
// Plan, then execute. sandbox_plan_new() turns the documents and the host descriptors it was handed into a flat array of
// typed operations, checked whole, before anything is made. sandbox_create() clones one child into new namespaces; the
// child is a small interpreter of that array: no JSON, no allocation, no host path. It is born into its cgroup2 group and
// moves itself into those of v1 (which, done from outside, costs an RCU grace period). When all is ready the child waits;
// sandbox_start() lets it execute the process. An error names the operation and the path; those of the process itself are
// worded as runc words them, because Docker's clients derive exit codes 126 and 127 from the text:
//
//     exec: "/nosuch": stat /nosuch: no such file or directory
//     exec: "nosuch": executable file not found in $PATH
//     exec: "/etc/passwd": permission denied
//     unable to find user nobody2: no matching entries in passwd file
//
// Nothing appears in the host's mount table, and nothing outlives the child: its death frees every mount. (Not so for a config.json that asks
// for no mount namespace; config.h.)
#ifndef SANDBOX_SANDBOX_H
#define SANDBOX_SANDBOX_H

#include <stdio.h>
#include <sys/types.h>

#include "kernel/cgroup.h"
#include "kernel/users.h"
#include "spec/spec.h"

enum sandbox_rootfs_kind { SANDBOX_ROOTFS_LAYERS, SANDBOX_ROOTFS_TREE, SANDBOX_ROOTFS_MOUNT };

struct sandbox_rootfs {
    enum sandbox_rootfs_kind kind;
    const int *lower_fds; // LAYERS: folders, top first
    size_t lower_len;
    int upper_fd, work_fd; // LAYERS: -1 for a read-only stack
    int tree_fd; // TREE: one writable folder; MOUNT: a detached mount
    bool recursive; // TREE: with what is mounted in it
    bool read_only; // the root is remounted read-only after everything is in place
    bool ephemeral; // LAYERS: nothing of the upper outlives the container
};

enum sandbox_mount_kind {
    SANDBOX_MOUNT_BIND,
    SANDBOX_MOUNT_TREE, // a BIND of what sandbox_tree() gave
    SANDBOX_MOUNT_TMPFS,
};

struct sandbox_mount {
    enum sandbox_mount_kind kind;
    int source_fd; // BIND: O_PATH descriptor of a folder or file on the host; TREE: a detached mount, good for one sandbox
    const char *target; // absolute path in the container
    bool read_only, no_suid, no_dev, no_exec;
    bool recursive; // BIND: mounts below the source come along
    bool writable_below; // BIND: and keep their own attributes
    const char *propagation; // "" or NULL: rprivate; else rprivate private rshared shared rslave slave
    const char *data; // TMPFS: "size=64m,mode=1777"
    bool mapped; // BIND: its ids are those of the container's user namespace
};

// A user namespace that is there already, with what belongs to it: `netns_fd` is one of its own, upper and layers are mounts with its map.
// A process there can't set its oom_score_adj before its exec: that is the caller's to do when it is created.
struct sandbox_users {
    int fd;
    struct users_map uids, gids;
    uid_t root_uid; // the host's number of its root
    gid_t root_gid;
};

#define SANDBOX_KEEP_MAX 512

struct sandbox_config;

struct sandbox_spec {
    const struct oci_process *process;
    const struct oci_linux *linux_section;
    const char *hostname, *domainname;
    struct sandbox_rootfs rootfs;
    const struct sandbox_mount *mounts; // in this order, after proc, sys, dev
    size_t mount_len;
    bool cwd_before_mounts; // the working directory is made in the rootfs as well, where a mount may hide it (dockerd does)
    const struct sandbox_users *users; // joined, and all other namespaces are owned by it; NULL: the caller's
    int netns_fd; // join this network namespace; -1: make one when linux_section lists "network", else keep the caller's
    struct cgroup *cgroup; // the child is joined to it; may be NULL
    int init_fd; // sealed memfd of berth-init (executable by all) to run as PID 1 before the process, or -1
    // Further descriptors that the process sees as 3, 4, 5, ... in this order; everything else is closed. Not beside init_fd.
    const int *keep_fds;
    size_t keep_len; // SANDBOX_KEEP_MAX at most
    // What a config.json says of hooks, its stage and rootfs_path (a folder, where the root is seen until it is entered); of the rest nothing is
    // read. NULL: none. Borrowed as long as the plan. Not beside users.
    const struct sandbox_config *hooks;
    bool die_with_parent; // SIGKILL when the thread that called sandbox_create() ends
};

struct sandbox_plan;
struct sandbox;
struct filter_program;

// Descriptors are borrowed until sandbox_create() has returned.
int sandbox_plan_new(const struct sandbox_spec *spec, struct sandbox_plan **out, struct err *err);
void sandbox_plan_free(struct sandbox_plan *plan);
void sandbox_plan_print(const struct sandbox_plan *plan, FILE *to); // one operation a line, for tests and people

// The process's standard streams: three descriptors of pipes or files, or a terminal (then the pty is allocated from the
// container's own devpts, bound to /dev/console, and its master is given back).
struct sandbox_stdio {
    bool terminal;
    int in, out, error; // borrowed; used when !terminal
};

// Builds everything up to the exec. On success the child waits; *master_fd (may be NULL) is the pty's master or -1.
int sandbox_create(const struct sandbox_plan *plan, const struct sandbox_stdio *stdio, struct sandbox **out,
                   int *master_fd, struct err *err);
// Lets it run; returns once the exec has succeeded, or with the exec's error (the child is then dead and reaped).
int sandbox_start(struct sandbox *sandbox, struct err *err);
// A handle for a process that another has made as a child of ours (CRIU, of a restored container), and that runs already.
int sandbox_adopt(pid_t pid, struct sandbox **out, struct err *err);
pid_t sandbox_pid(const struct sandbox *sandbox); // in the caller's pid namespace
int sandbox_pidfd(const struct sandbox *sandbox); // the sandbox's own; readable when the process has ended
// Reaps after the pidfd became readable (or blocks); 0..255, 128 + signal when killed. Call once.
int sandbox_wait(struct sandbox *sandbox, int *exit_code, struct err *err);
void sandbox_free(struct sandbox *sandbox); // kills and reaps what still runs
// The handle only: the process goes on, and its end is its next parent's affair.
void sandbox_release(struct sandbox *sandbox);
// With a start fifo: tells the child that everything about it is written down, so that it may wait without us. Frees the
// handle; on failure the child is killed.
int sandbox_leave(struct sandbox *sandbox, struct err *err);

// What it is made of, for who makes the processes in another way (CRIU): a container's root, and what it binds with attributes and
// propagation, each a detached mount. The mounts of a namespace can be cloned from inside only: before another one is entered.
int sandbox_rootfs_mount(const struct sandbox_rootfs *rootfs, uid_t root_uid, gid_t root_gid, struct err *err);
int sandbox_bind_mount(const struct sandbox_mount *mount, struct err *err); // of kind BIND or TREE

// A further process in a running sandbox (docker exec): joins the namespaces of its first process by pidfd, its cgroup,
// and applies `process` as it is (user by name in that rootfs). The process is the
// caller's child, so the caller reaps it; and the kernel lets the first process of a pid namespace end (its pidfd become
// readable) only when all others of the namespace have been reaped: wait for execs before, or beside, the first one.
struct sandbox_exec {
    const struct oci_process *process;
    const char *seccomp_profile; // in the words of oci_linux.seccomp_profile; NULL: none
    // Of a config.json only.
    const struct filter_program *filter; // instead of a profile; NULL: none
    const struct oci_personality *personality; // the container's; NULL: the caller's
    const int *keep_fds; // as in struct sandbox_config
    size_t keep_len;
    const int *join_fds; // v1 `tasks` files of further groups that the process is moved to after those of the cgroup; borrowed
    size_t join_len;
    bool join_user, join_time; // the container has such namespaces of its own
    uid_t root_uid; // join_user: the host's number of its root, who gets the streams; 0: they stay whose they are
    gid_t root_gid;
    bool rootless; // the caller may join them only from inside the user namespace
    bool inside_users; // as in struct sandbox_config
    int root_fd; // the container has no mount namespace of its own: the folder that is its "/"; 0: none
    uint64_t namespaces; // CLONE_NEW*: only these of its others are joined (a user may not join the host's own); 0: all
    bool no_new_keyring;
    // The filter notifies: called with its listener (borrowed) once it is loaded.
    int (*take_listener)(int listener_fd, pid_t pid, void *context, struct err *err);
    void *context;
    bool exact; // the process has what it says and nothing by default; a limit that can't be set is an error
};
int sandbox_exec(int init_pidfd, struct cgroup *cgroup, const struct sandbox_exec *exec,
                 const struct sandbox_stdio *stdio, struct sandbox **out, int *master_fd, struct err *err);

// A detached mount of one of the container's folders ("/", "/dev/shm"), without what is mounted on it, as the container sees it: for those
// who read and write its files beside it, or share it. `ns_fd` is its first process's pidfd or a descriptor of its mount namespace. The
// mount stays usable when the container has ended.
int sandbox_tree(int ns_fd, const char *path, int *tree_fd, struct err *err);

#endif
