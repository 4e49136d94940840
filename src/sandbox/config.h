// A sandbox as a config.json of the runtime-spec describes it: what the document lists and nothing more, where sandbox.h
// adds what every Docker container has. For berth-oci.
//
// The order of the plan depends on what is asked for. Without a user namespace and without hooks that must see the host,
// the rootfs becomes "/" first and every path after that is one of the container ("early"). With them the mounts are made
// while the host's tree is still there, below the rootfs's descriptor ("late"): procfs can be mounted in a user namespace
// only where one is in sight, createRuntime and createContainer hooks expect the mounts and the old root, paths in the options
// of a file system (an overlay's layers) are the host's, and a mount on "/" is what the child has to move into.
//
// Without a mount namespace in the document all that is mounted stands in the caller's, below the rootfs's path, until the caller takes
// it away, and the rootfs becomes "/" by chroot.
//
// With a start fifo the child outlives its parent: it waits for a byte there, whoever writes it (`berth-oci start`), and
// leaves an error that comes after that in the report file, as the bytes of struct err.
#ifndef SANDBOX_CONFIG_H
#define SANDBOX_CONFIG_H

#include "kernel/filter.h"
#include "kernel/mount.h"
#include "sandbox/sandbox.h"

enum config_mount_kind {
    CONFIG_MOUNT_BIND,
    CONFIG_MOUNT_NEW, // a new file system
    CONFIG_MOUNT_CGROUP, // what the container may see of the cgroup hierarchies
    CONFIG_MOUNT_REMOUNT, // attributes of what is mounted there already
};

struct config_mount {
    enum config_mount_kind kind;
    const char *target; // absolute path in the container
    const char *fstype; // NEW
    const char *source; // BIND: the host's path, for messages and for a child that clones itself
    int source_fd; // BIND: O_PATH descriptor of it
    bool recursive; // BIND
    uint64_t set, clear, rec_set, rec_clear; // MOUNT_ATTR_*; the latter two reach all mounts below
    const struct mount_option *options; // NEW
    size_t option_len;
    const uint64_t *propagation; // MS_*, with MS_REC where all mounts below are meant; applied in order
    size_t propagation_len;
    int idmap_fd; // a user namespace whose maps the mount gets, or -1
    bool idmap_recursive;
    bool copy_up; // NEW, tmpfs: filled with what the folder below had
};

struct config_hook {
    const char *path;
    char *const *argv, *const *envp; // exactly these, nothing inherited
    int64_t timeout_s; // 0: none
};
// Runs one hook with `state` on its standard input and waits. An error has its exit code and what it wrote. No memory is
// allocated: the child runs hooks, too.
int config_hook_run(const struct config_hook *hook, const char *state, size_t size, struct err *err);

struct config_id_map {
    uint32_t inside, outside, len;
};

// Moments at which the child stops until the parent has done something.
enum sandbox_stage {
    SANDBOX_STAGE_MAPS, // the child is in its new user namespace: its id maps are to be written
    SANDBOX_STAGE_MOUNTED, // everything is mounted, the old root still there: prestart and createRuntime hooks
    SANDBOX_STAGE_LISTENER, // a seccomp listener is handed over
};
// `fd` is the listener's (borrowed), else -1. While the parent sits in the last stage the child is already under its
// filter.
typedef int sandbox_stage_fn(enum sandbox_stage stage, pid_t pid, int fd, void *context, struct err *err);

struct sandbox_config {
    const struct oci_process *process;
    const struct oci_linux *linux_section;
    const char *hostname, *domainname;
    int rootfs_fd; // O_PATH
    bool rootfs_mounted; // rootfs_fd is a detached mount: the one that is attached
    const char *rootfs_path;
    bool rootfs_read_only;
    const struct config_mount *mounts; // in this order
    size_t mount_len;
    struct cgroup *cgroup; // may be NULL
    const struct filter_program *filter; // NULL: unconfined; copied. One that notifies has SANDBOX_STAGE_LISTENER after it
    const int *keep_fds; // as in struct sandbox_spec; -1 is a hole
    size_t keep_len;
    bool no_pivot, no_new_keyring;
    bool rootless; // the caller has no rights over the host: clones and maps as an unprivileged user may make them
    bool inside_users; // the caller is root of a user namespace: what it can not do for a new one, it can not do at all
    bool runtime_hooks; // SANDBOX_STAGE_MOUNTED is wanted
    const struct config_hook *create_container, *start_container;
    size_t create_container_len, start_container_len;
    const char *state_head, *state_tail; // the hooks' state: head, status, `","pid":`, number, tail
    sandbox_stage_fn *at_stage;
    void *stage_context;
    int start_fd; // a fifo, opened for reading and writing, or -1: sandbox_start() is the word
    int report_fd; // with start_fd
};

int sandbox_plan_config(const struct sandbox_config *config, struct sandbox_plan **out, struct err *err);

#endif
