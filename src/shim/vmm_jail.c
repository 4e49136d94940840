// A VMM behind the thin wall. What it may touch it has by descriptor; its tree has the libraries that it is linked with, and
// the few files that it insists on opening by name.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "shim/vm.h"

#define TREE_DIR "machine/root"

// ---- descriptors ----------------------------------------------------------------------------------------------------

void vmm_keep_done(struct vmm_keep *keep)
{
    for (size_t i = 0; i < keep->len; i++) {
        if (keep->owned[i])
            fd_close(keep->fds[i]);
    }
    keep->len = 0;
}

static int add(struct vmm_keep *keep, int fd, bool owned, struct err *err)
{
    if (keep->len == SANDBOX_KEEP_MAX) {
        if (owned)
            fd_close(fd);
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d descriptors for a machine", SANDBOX_KEEP_MAX);
    }
    keep->fds[keep->len] = fd;
    keep->owned[keep->len] = owned;
    return 3 + (int)keep->len++;
}

int vmm_keep(struct vmm_keep *keep, int fd, struct err *err)
{
    return add(keep, fd, false, err);
}

int vmm_keep_own(struct vmm_keep *keep, int fd, struct err *err)
{
    return add(keep, fd, true, err);
}

static int reopen(int fd, int flags, const char *what, struct err *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int own = open(path, flags | O_CLOEXEC);
    return own < 0 ? err_errno(err, errno, "%s", what) : own;
}

int vmm_keep_file(struct vmm_keep *keep, const struct vmm_start *start, int64_t index, int flags, const char *what, struct err *err)
{
    int fd = fd_list_get(start->fds, index, what, err);
    int own = fd < 0 ? -1 : reopen(fd, flags, what, err);
    return own < 0 ? -1 : vmm_keep_own(keep, own, err);
}

int vmm_keep_bytes(struct vmm_keep *keep, const char *name, const void *data, size_t size, struct err *err)
{
    _cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return err_errno(err, errno, "memfd for %s", name);
    if (fd_write_full(fd, data, size, err) < 0)
        return err_wrap(err, "%s", name);
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        return err_errno(err, errno, "seal %s", name);
    int own = reopen(fd, O_RDONLY, name, err);
    return own < 0 ? -1 : vmm_keep_own(keep, own, err);
}

// ---- the tree -------------------------------------------------------------------------------------------------------

struct tree {
    struct sandbox_mount mounts[8];
    struct fd_list opened;
    size_t len;
};

static void tree_done(struct tree *tree)
{
    fd_list_done(&tree->opened);
}

static void add_bind(struct tree *tree, int fd, const char *target)
{
    tree->mounts[tree->len++] = (struct sandbox_mount){ .kind = SANDBOX_MOUNT_BIND, .source_fd = fd, .target = target,
                                                        .read_only = true, .no_suid = true, .no_dev = true };
}

static int add_path(struct tree *tree, const char *path, bool must_be, struct err *err)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return must_be ? err_errno(err, errno, "%s", path) : 0;
    tree->opened.fds = mem_grow(tree->opened.fds, (tree->opened.len + 1) * sizeof(int));
    tree->opened.fds[tree->opened.len++] = fd;
    add_bind(tree, fd, path);
    return 0;
}

// Where /lib is a link into /usr, it is the same folder by a second name: the dynamic linker's path is fixed.
static int fill_tree(struct tree *tree, const struct vmm_command *command, struct err *err)
{
    const char *program = command->args.items[0];
    if (add_path(tree, "/usr", true, err) < 0 || add_path(tree, "/lib", false, err) < 0 ||
        add_path(tree, "/lib64", false, err) < 0)
        return -1;
    if (!str_starts(program, "/usr/") && add_path(tree, program, true, err) < 0)
        return -1;
    for (size_t i = 0; i < command->bind_len; i++)
        add_bind(tree, command->binds[i].fd, command->binds[i].target);
    return 0;
}

static int open_tree_dir(int container_fd, struct err *err)
{
    if (file_mkdirs(container_fd, TREE_DIR, 0755, err) < 0)
        return -1;
    return file_open_dir(container_fd, TREE_DIR, err);
}

// ---- the process ----------------------------------------------------------------------------------------------------

static const char *const namespace_types[] = { "pid", "network", "mount", "ipc", "uts", "cgroup" };

// What a VMM that jails its own child needs for that: namespaces and a root folder of its own, another user, no rights left.
static const char *const jailer_caps[] = { "CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP" };

// No core: it would hold the guest's memory.
static const struct oci_rlimit no_core = { (char *)"RLIMIT_CORE", 0, 0 };

static void fill_section(const struct vmm_command *command, struct oci_namespace *namespaces, struct oci_linux *section)
{
    for (size_t i = 0; i < ARRAY_LEN(namespace_types); i++)
        namespaces[i] = (struct oci_namespace){ .type = (char *)namespace_types[i] };
    *section = (struct oci_linux){ .namespaces = { .items = namespaces, .len = ARRAY_LEN(namespace_types) },
                                   .seccomp_profile = (char *)(command->jails_itself ? "unconfined" : "default") };
}

static void fill_process(const struct vmm_start *start, const struct vmm_command *command, struct oci_capabilities *caps,
                         struct oci_process *process)
{
    *process = (struct oci_process){ .user.umask = -1, .args = command->args, .cwd = (char *)"/", .no_new_privileges = true,
                                     .rlimits = { .items = (void *)&no_core, .len = 1 } };
    if (!command->jails_itself) {
        process->user.uid = process->user.gid = start->document->vm->uid;
        return;
    }
    struct strv names = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(jailer_caps); i++)
        strv_push_arena(&names, start->arena, jailer_caps[i]);
    *caps = (struct oci_capabilities){ .bounding = names, .effective = names, .permitted = names };
    process->capabilities = caps;
}

static int launch(const struct sandbox_spec *spec, int console_fd, struct sandbox **out, struct err *err)
{
    struct sandbox_plan *plan;
    struct sandbox *sandbox;
    if (sandbox_plan_new(spec, &plan, err) < 0)
        return -1;
    _cleanup_close_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct sandbox_stdio stdio = { false, null, console_fd, console_fd };
    int made = sandbox_create(plan, &stdio, &sandbox, NULL, err);
    sandbox_plan_free(plan);
    if (made < 0)
        return -1;
    if (sandbox_start(sandbox, err) < 0) {
        sandbox_free(sandbox);
        return -1;
    }
    *out = sandbox;
    return 0;
}

int vmm_jail(const struct vmm_start *start, const struct vmm_command *command, struct sandbox **out, struct err *err)
{
    _cleanup_(tree_done) struct tree tree = { .len = 0 };
    _cleanup_close_ int tree_fd = open_tree_dir(start->container_fd, err);
    if (tree_fd < 0 || fill_tree(&tree, command, err) < 0)
        return -1;
    struct oci_namespace namespaces[ARRAY_LEN(namespace_types)];
    struct oci_linux section;
    struct oci_capabilities caps;
    struct oci_process process;
    fill_section(command, namespaces, &section);
    fill_process(start, command, &caps, &process);
    struct sandbox_spec spec = { .process = &process, .linux_section = &section, .mounts = tree.mounts, .mount_len = tree.len,
                                 .rootfs = { .kind = SANDBOX_ROOTFS_TREE, .upper_fd = -1, .work_fd = -1, .tree_fd = tree_fd,
                                             .read_only = true },
                                 .netns_fd = -1, .cgroup = start->cgroup, .init_fd = -1, .keep_fds = command->keep.fds,
                                 .keep_len = command->keep.len, .die_with_parent = true };
    return launch(&spec, start->console_fd, out, err) < 0 ? err_wrap(err, "start %s", command->args.items[0]) : 0;
}
