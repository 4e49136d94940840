// The mounts and devices of a config.json, in its order.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "kernel/abi.h"
#include "kernel/path.h"
#include "plan_config.h"

#define RDONLY MOUNT_ATTR_RDONLY
#define DEVICES_MAX 128

static const struct oci_device default_devices[] = {
    { .path = (char *)"/dev/null", .type = (char *)"c", .major = 1, .minor = 3 },
    { .path = (char *)"/dev/random", .type = (char *)"c", .major = 1, .minor = 8 },
    { .path = (char *)"/dev/full", .type = (char *)"c", .major = 1, .minor = 7 },
    { .path = (char *)"/dev/tty", .type = (char *)"c", .major = 5, .minor = 0 },
    { .path = (char *)"/dev/zero", .type = (char *)"c", .major = 1, .minor = 5 },
    { .path = (char *)"/dev/urandom", .type = (char *)"c", .major = 1, .minor = 9 },
};

static const struct {
    const char *name, *target;
} links[] = {
    { "ptmx", "pts/ptmx" },          { "fd", "/proc/self/fd" },       { "stdin", "/proc/self/fd/0" },
    { "stdout", "/proc/self/fd/1" }, { "stderr", "/proc/self/fd/2" }, { "core", "/proc/kcore" },
};

static const char *const proc_files[] = {
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat",     "/proc/swaps",
    "/proc/uptime",  "/proc/loadavg",   "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid",
};

// ---- binds ----------------------------------------------------------------------------------------------------------

static uint64_t inherited_propagation(const struct sandbox_config *config)
{
    const char *word = config->linux_section->rootfs_propagation;
    if (str_eq(word, "shared") || str_eq(word, "rshared"))
        return 0; // as the host has it
    return str_eq(word, "private") || str_eq(word, "rprivate") ? MS_PRIVATE : MS_SLAVE;
}

static void add_bind(struct sandbox_plan *plan, const struct sandbox_config *config, const struct config_mount *mount)
{
    plan->binds[plan->bind_len++] = (struct plan_bind){
        .source_fd = mount->source_fd, .attrs = mount->set, .clear = mount->clear, .rec_set = mount->rec_set,
        .rec_clear = mount->rec_clear, .recursive = mount->recursive, .propagation = inherited_propagation(config),
        .target = mount->target, .source = mount->source, .idmap_fd = mount->idmap_fd,
        .idmap_recursive = mount->idmap_recursive, .in_child = config->rootless };
}

static bool overridden(const struct sandbox_config *config, const char *path)
{
    const struct oci_device *devices = config->linux_section->devices.items;
    for (size_t i = 0; i < config->linux_section->devices.len; i++)
        if (str_eq(devices[i].path, path))
            return true;
    return false;
}

static bool brings_dev(const struct sandbox_config *config)
{
    for (size_t i = 0; i < config->mount_len; i++)
        if (config->mounts[i].kind == CONFIG_MOUNT_BIND && str_eq(config->mounts[i].target, "/dev"))
            return true;
    return false;
}

// Calls fn for each device that the container gets; those of the document may replace a default one.
static int each_device(struct sandbox_plan *plan, const struct sandbox_config *config,
                       int (*fn)(struct sandbox_plan *, const struct sandbox_config *, const struct oci_device *, struct err *),
                       struct err *err)
{
    const struct oci_device *devices = config->linux_section->devices.items;
    if (brings_dev(config))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(default_devices); i++)
        if (!overridden(config, default_devices[i].path) && fn(plan, config, &default_devices[i], err) < 0)
            return -1;
    for (size_t i = 0; i < config->linux_section->devices.len; i++)
        if (!str_eq(devices[i].path, "/dev/ptmx") && fn(plan, config, &devices[i], err) < 0)
            return -1;
    return 0;
}

static int bind_device(struct sandbox_plan *plan, const struct sandbox_config *config, const struct oci_device *device, struct err *err)
{
    return plan_bind_device(plan, config->linux_section, device, config->rootless, err);
}

int plan_config_binds(struct sandbox_plan *plan, const struct sandbox_config *config, bool users, struct err *err)
{
    size_t devices = config->linux_section->devices.len;
    if (devices > DEVICES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "linux.devices: more than %d", DEVICES_MAX);
    plan->binds = arena_alloc(&plan->arena, (config->mount_len + devices + ARRAY_LEN(default_devices) + CGROUP_HIERARCHY_MAX) *
                                                sizeof(*plan->binds));
    for (size_t i = 0; i < config->mount_len; i++)
        if (config->mounts[i].kind == CONFIG_MOUNT_BIND)
            add_bind(plan, config, &config->mounts[i]);
    return users ? each_device(plan, config, bind_device, err) : 0;
}

// ---- mounts ---------------------------------------------------------------------------------------------------------

static bool below(const char *path, const char *folder)
{
    size_t size = strlen(folder);
    return strncmp(path, folder, size) == 0 && (path[size] == '\0' || path[size] == '/');
}

static bool is_proc_file(const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(proc_files); i++)
        if (str_eq(path, proc_files[i]))
            return true;
    return false;
}

static bool is_root(const char *path)
{
    return str_eq(path, "/");
}

static int check_target(const struct config_mount *mount, struct err *err)
{
    if (is_root(mount->target) && (mount->kind == CONFIG_MOUNT_BIND || mount->kind == CONFIG_MOUNT_NEW))
        return 0;
    if (str_empty(mount->target) || mount->target[0] != '/' || mount->target[strspn(mount->target, "/.")] == '\0')
        return err_set(err, ERR_INVALID_ARGUMENT, "mount destination \"%s\" is the root", mount->target ? mount->target : "");
    if (!below(mount->target, "/proc") || (mount->kind == CONFIG_MOUNT_BIND && is_proc_file(mount->target)) ||
        mount->kind == CONFIG_MOUNT_REMOUNT)
        return 0;
    // On /proc itself only another procfs; what the source of a bind is, the child sees when it gets there.
    if (str_eq(mount->target, "/proc") && (mount->kind == CONFIG_MOUNT_BIND || str_eq(mount->fstype, "proc")))
        return 0;
    return err_set(err, ERR_PERMISSION_DENIED, "\"%s\" cannot be mounted because it is inside /proc", mount->target);
}

static enum slot slot_of(const struct config_mount *mount)
{
    if (str_eq(mount->target, "/dev"))
        return SLOT_DEV;
    if (str_eq(mount->fstype, "proc") && str_eq(mount->target, "/proc"))
        return SLOT_PROC;
    return str_eq(mount->fstype, "devpts") && str_eq(mount->target, "/dev/pts") ? SLOT_PTS : SLOT_NONE;
}

// These become read-only when all is in place: mount points and devices are still to be made in them.
static bool turns_read_only(const struct config_mount *mount)
{
    return mount->kind == CONFIG_MOUNT_NEW && (mount->set & RDONLY) &&
           (str_eq(mount->fstype, "tmpfs") || str_eq(mount->target, "/dev"));
}

static void add_filesystem(struct sandbox_plan *plan, const struct config_mount *mount)
{
    struct op *op = plan_add(plan, OP_FILESYSTEM);
    bool plain = str_eq(mount->fstype, "proc") || str_eq(mount->fstype, "sysfs");
    op->path = mount->target;
    op->text = mount->fstype;
    op->flags = (mount->set | mount->rec_set) & ~(turns_read_only(mount) ? (uint64_t)RDONLY : 0);
    op->options = mount->options;
    op->option_len = mount->option_len;
    op->slot = slot_of(mount);
    op->how = (plain ? OP_PLAIN_TARGET : 0) | (mount->copy_up ? OP_FILL : 0) | (is_root(mount->target) ? OP_ON_ROOT : 0);
    op->fd = mount->idmap_fd;
}

static int add_bind_op(struct sandbox_plan *plan, const struct sandbox_config *config, const struct config_mount *mount,
                       size_t index, struct err *err)
{
    struct stat st;
    if ((mount->source_fd < 0 ? stat(mount->source, &st) : fstat(mount->source_fd, &st)) < 0)
        return err_errno(err, errno, "%s", mount->source);
    struct op *op = plan_add(plan, OP_BIND);
    op->path = mount->target;
    op->flags = mount->set;
    op->index = index;
    op->how = (S_ISDIR(st.st_mode) ? OP_IS_DIR : 0) | (is_proc_file(mount->target) ? OP_ON_PROC : 0) |
              (is_root(mount->target) ? OP_ON_ROOT : 0);
    return 0;
}

static void add_remount(struct sandbox_plan *plan, const struct config_mount *mount)
{
    struct op *op = plan_add(plan, OP_REMOUNT);
    op->path = mount->target;
    op->flags = mount->set | mount->rec_set;
    op->clear = mount->clear | mount->rec_clear;
    op->how = mount->rec_set || mount->rec_clear ? OP_RECURSIVE : 0;
}

static void hide(struct sandbox_plan *plan, const char *path)
{
    struct op *op = plan_add(plan, OP_FILESYSTEM);
    op->path = path;
    op->text = "tmpfs";
    op->flags = RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
}

static int add_mount(struct sandbox_plan *plan, const struct sandbox_config *config, const struct config_mount *mount,
                     size_t *bind, struct err *err)
{
    if (check_target(mount, err) < 0)
        return -1;
    switch (mount->kind) {
    case CONFIG_MOUNT_BIND:
        if (add_bind_op(plan, config, mount, (*bind)++, err) < 0)
            return -1;
        break;
    case CONFIG_MOUNT_NEW:
        add_filesystem(plan, mount);
        break;
    case CONFIG_MOUNT_REMOUNT:
        add_remount(plan, mount);
        break;
    case CONFIG_MOUNT_CGROUP:
        // Without a group of its own a container is shown none: what a bind of /sys brought along is hidden.
        if (config->cgroup)
            plan_cgroups(plan, config->cgroup, mount->target, mount->set);
        else
            hide(plan, mount->target);
        return 0;
    }
    for (size_t i = 0; i < mount->propagation_len; i++) {
        struct op *op = plan_add(plan, OP_BIND_PROPAGATION);
        op->path = mount->target;
        op->flags = mount->propagation[i] & ~(uint64_t)MS_REC;
        op->how = mount->propagation[i] & MS_REC ? OP_RECURSIVE : 0;
    }
    return 0;
}

static int make_device(struct sandbox_plan *plan, const struct sandbox_config *config, const struct oci_device *device,
                       struct err *err)
{
    size_t before = plan->op_len;
    if (plan_device(plan, device, err) < 0)
        return -1;
    plan->ops[before].how |= OP_IF_MISSING;
    return 0;
}

static void add_links(struct sandbox_plan *plan)
{
    for (size_t i = 0; i < ARRAY_LEN(links); i++) {
        if (str_eq(links[i].name, "core") && access("/proc/kcore", F_OK) < 0)
            continue;
        struct op *op = plan_add(plan, OP_LINK);
        op->slot = SLOT_DEV;
        op->path = links[i].name;
        op->text = links[i].target;
        op->how = OP_IF_MISSING;
    }
}

static bool mounts_on(const struct sandbox_plan *plan, enum slot slot)
{
    for (size_t i = 0; i < plan->op_len; i++)
        if (plan->ops[i].type == OP_FILESYSTEM && plan->ops[i].slot == slot)
            return true;
    return false;
}

static size_t bind_mounts(const struct sandbox_config *config)
{
    size_t len = 0;
    for (size_t i = 0; i < config->mount_len; i++)
        len += config->mounts[i].kind == CONFIG_MOUNT_BIND;
    return len;
}

static bool needs_proc(const struct sandbox_config *config)
{
    const struct oci_process *process = config->process;
    return config->linux_section->sysctl.len || !process->keep_oom_score || !str_empty(process->apparmor_profile) ||
           !str_empty(process->selinux_label);
}

int plan_config_mounts(struct sandbox_plan *plan, const struct sandbox_config *config, bool users, struct err *err)
{
    // Binds stand in this order: those of the mounts, those of devices, those of cgroups (added as we go).
    size_t bind = 0, first_device = bind_mounts(config), device_end = plan->bind_len;
    for (size_t i = 0; i < config->mount_len; i++) {
        const struct config_mount *mount = &config->mounts[i];
        if (add_mount(plan, config, mount, &bind, err) < 0)
            return err_wrap(err, "error mounting \"%s\" to rootfs at \"%s\"", mount->source ? mount->source : "", mount->target);
    }
    if (!mounts_on(plan, SLOT_PROC) && needs_proc(config))
        plan_add(plan, OP_PRIVATE_PROC);
    if (brings_dev(config))
        return 0;
    if (!mounts_on(plan, SLOT_DEV))
        plan_add(plan, OP_DEV_FOLDER)->path = "/dev";
    if (users)
        plan_bound_devices(plan, first_device, device_end);
    else if (each_device(plan, config, make_device, err) < 0)
        return -1;
    add_links(plan);
    return 0;
}

// File systems whose options name no path.
static const char *const self_contained[] = { "proc", "sysfs", "tmpfs", "devpts", "mqueue", "ramfs", "binfmt_misc", "bpf", "debugfs",
                                              "tracefs", "securityfs", "efivarfs", "configfs", "hugetlbfs", "cgroup", "cgroup2" };

static bool names_paths(const struct config_mount *mount)
{
    for (size_t i = 0; i < ARRAY_LEN(self_contained); i++)
        if (str_eq(mount->fstype, self_contained[i]))
            return false;
    return mount->kind == CONFIG_MOUNT_NEW;
}

bool plan_config_needs_host(const struct sandbox_config *config)
{
    for (size_t i = 0; i < config->mount_len; i++)
        if (is_root(config->mounts[i].target) || names_paths(&config->mounts[i]))
            return true;
    return false;
}

void plan_config_finish(struct sandbox_plan *plan, const struct sandbox_config *config)
{
    for (size_t i = 0; i < config->mount_len; i++)
        if (turns_read_only(&config->mounts[i]))
            plan_add(plan, OP_PATH_READ_ONLY)->path = config->mounts[i].target;
}
