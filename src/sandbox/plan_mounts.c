// What a container sees in its file system: the mounts and nodes that every container gets, then the user's in their
// order, then what is masked and protected.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/slice.h"
#include "kernel/abi.h"
#include "plan.h"

#define NOSUID MOUNT_ATTR_NOSUID
#define NODEV MOUNT_ATTR_NODEV
#define NOEXEC MOUNT_ATTR_NOEXEC
#define RDONLY MOUNT_ATTR_RDONLY

static const struct mount_option dev_options[] = { { .key = "mode", .value = "755" }, { .key = "size", .value = "65536k" } };
static const struct mount_option pts_options[] = { { .key = "newinstance" },
                                                   { .key = "ptmxmode", .value = "0666" },
                                                   { .key = "mode", .value = "0620" },
                                                   { .key = "gid", .value = "5" } }; // the last: see add_pts()
#define PTS_GID 5
static const struct mount_option cgroup_options[] = { { .key = "mode", .value = "755" } };

struct system_mount {
    const char *path, *fstype;
    uint64_t attrs;
    const struct mount_option *options;
    size_t option_len;
    enum slot slot;
};

static const struct system_mount proc_mount = { "/proc", "proc", NOSUID | NOEXEC | NODEV, NULL, 0, SLOT_PROC };
static const struct system_mount dev_mount = { "/dev", "tmpfs", NOSUID | MOUNT_ATTR_STRICTATIME, dev_options,
                                               ARRAY_LEN(dev_options), SLOT_DEV };
static const struct system_mount pts_mount = { "/dev/pts", "devpts", NOSUID | NOEXEC, pts_options,
                                               ARRAY_LEN(pts_options), SLOT_PTS };
static const struct system_mount mqueue_mount = { "/dev/mqueue", "mqueue", NOSUID | NOEXEC | NODEV, NULL, 0, SLOT_NONE };
static const struct system_mount sys_mount = { "/sys", "sysfs", NOSUID | NOEXEC | NODEV, NULL, 0, SLOT_SYS };
// Sealed read-only when the hierarchies stand in it.
static const struct system_mount cgroup_mount = { "/sys/fs/cgroup", "tmpfs", NOSUID | NOEXEC | NODEV, cgroup_options,
                                                  ARRAY_LEN(cgroup_options), SLOT_CGROUP };

static const struct {
    const char *name;
    unsigned major, minor;
} nodes[] = {
    { "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 }, { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 },
};

static const struct {
    const char *name, *target;
} links[] = {
    { "ptmx", "pts/ptmx" },           { "fd", "/proc/self/fd" },        { "stdin", "/proc/self/fd/0" },
    { "stdout", "/proc/self/fd/1" }, { "stderr", "/proc/self/fd/2" },
};

// The files below /proc that a mount may replace: what lxcfs offers.
static const char *const proc_files[] = {
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat",    "/proc/swaps",
    "/proc/uptime",  "/proc/loadavg",   "/proc/slabinfo", "/proc/net/dev",
};

static struct op *add_new(struct sandbox_plan *plan, enum op_type type, const struct system_mount *mount)
{
    struct op *op = plan_add(plan, type);
    op->path = mount->path;
    op->text = mount->fstype;
    op->flags = mount->attrs;
    op->options = mount->options;
    op->option_len = mount->option_len;
    op->slot = mount->slot;
    return op;
}

static struct op *add_mount(struct sandbox_plan *plan, const struct system_mount *mount)
{
    return add_new(plan, OP_MOUNT, mount);
}

// A user's mount on exactly this place takes it over.
static bool replaced(const struct sandbox_spec *spec, const char *path)
{
    for (size_t i = 0; i < spec->mount_len; i++)
        if (str_eq(spec->mounts[i].target, path))
            return true;
    return false;
}

// What shows the kernel's own settings can be written by root of a whole machine only.
static uint64_t settings_attrs(const struct sandbox_spec *spec)
{
    bool writable = spec->linux_section && spec->linux_section->whole_machine;
    return (writable ? 0 : RDONLY) | NOSUID | NOEXEC | NODEV;
}

// In a user namespace the kernel makes these only where others of their kind are in sight.
void plan_early_mounts(struct sandbox_plan *plan, const struct sandbox_spec *spec)
{
    if (!spec->users)
        return;
    add_new(plan, OP_NEW_MOUNT, &proc_mount);
    if (!replaced(spec, "/sys"))
        add_new(plan, OP_NEW_MOUNT, &sys_mount)->flags = settings_attrs(spec);
}

static void add_shm(struct sandbox_plan *plan, int64_t size)
{
    struct mount_option *options = arena_alloc(&plan->arena, 3 * sizeof(*options));
    options[0] = (struct mount_option){ .key = "source", .value = "shm" }; // the name that tables of mounts show
    options[1] = (struct mount_option){ .key = "mode", .value = "1777" };
    options[2] = (struct mount_option){ .key = "size",
                                        .value = arena_printf(&plan->arena, "%lld", (long long)(size > 0 ? size : 64 << 20)) };
    add_mount(plan, &(struct system_mount){ "/dev/shm", "tmpfs", NOSUID | NOEXEC | NODEV, options, 3, SLOT_NONE });
}

static void add_nodes(struct sandbox_plan *plan)
{
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
        struct op *op = plan_add(plan, OP_NODE);
        op->slot = SLOT_DEV;
        op->path = nodes[i].name;
        op->mode = S_IFCHR | 0666;
        op->device = makedev(nodes[i].major, nodes[i].minor);
    }
}

static int bind_nodes(struct sandbox_plan *plan, const struct sandbox_spec *spec, struct err *err)
{
    const struct oci_linux *section = spec->linux_section;
    const struct oci_device *devices = section->devices.items;
    size_t first = plan->bind_len;
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
        const struct oci_device device = { .path = arena_printf(&plan->arena, "/dev/%s", nodes[i].name), .type = (char *)"c",
                                           .major = nodes[i].major, .minor = nodes[i].minor };
        if (plan_bind_device(plan, section, &device, false, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < section->devices.len; i++)
        if (plan_bind_device(plan, section, &devices[i], false, err) < 0)
            return -1;
    plan_bound_devices(plan, first, plan->bind_len);
    return 0;
}

// The group of terminals may have no number in a namespace with few.
static void add_pts(struct sandbox_plan *plan, const struct sandbox_spec *spec)
{
    uint32_t gid;
    struct op *op = add_mount(plan, &pts_mount);
    if (spec->users && !users_outside(&spec->users->gids, PTS_GID, &gid))
        op->option_len--;
}

static int add_dev(struct sandbox_plan *plan, const struct sandbox_spec *spec, struct err *err)
{
    add_mount(plan, &dev_mount);
    if (spec->linux_section && spec->linux_section->whole_machine)
        plan_machine_devices(plan);
    if (!spec->users)
        add_nodes(plan);
    else if (bind_nodes(plan, spec, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(links); i++) {
        struct op *op = plan_add(plan, OP_LINK);
        op->slot = SLOT_DEV;
        op->path = links[i].name;
        op->text = links[i].target;
    }
    add_pts(plan, spec);
    if (!replaced(spec, "/dev/shm") && !(spec->linux_section && spec->linux_section->no_shm))
        add_shm(plan, spec->linux_section ? spec->linux_section->shm_size : 0);
    if (!replaced(spec, "/dev/mqueue"))
        add_mount(plan, &mqueue_mount);
    return 0;
}

// The options that choose a v1 hierarchy: "cpu,cpuacct" are two flags, "name=systemd" is a key with a value.
static void hierarchy_options(struct sandbox_plan *plan, const char *controllers, struct op *op)
{
    struct slice rest = slice_of(controllers), word;
    struct mount_option *options = arena_alloc(&plan->arena, 16 * sizeof(*options));
    size_t len = 0;
    while (len < 16 && slice_cut(&rest, ',', &word)) {
        struct slice value = word, key;
        slice_cut(&value, '=', &key);
        if (slice_eq(key, "name") && value.data)
            options[len++] = (struct mount_option){ .key = "name", .value = arena_strndup(&plan->arena, value.data, value.size) };
        else
            options[len++] = (struct mount_option){ .key = arena_strndup(&plan->arena, word.data, word.size) };
    }
    op->options = options;
    op->option_len = len;
}

static void add_cgroup_link(struct sandbox_plan *plan, struct slice controller, const char *target)
{
    if (slice_eq(controller, target))
        return;
    struct op *op = plan_add(plan, OP_LINK);
    op->slot = SLOT_CGROUP;
    op->path = arena_strndup(&plan->arena, controller.data, controller.size);
    op->text = target;
}

// As a mount out of the container's cgroup namespace, for callers whose clones of the host's mounts have locks.
static void mount_hierarchy(struct sandbox_plan *plan, const struct cgroup_hierarchy *hierarchy, const char *point, const char *name,
                            uint64_t attrs)
{
    struct op *dir = plan_add(plan, OP_DIR);
    dir->slot = SLOT_CGROUP;
    dir->path = name;
    dir->mode = 0755;
    struct op *op = plan_add(plan, OP_MOUNT);
    op->path = arena_printf(&plan->arena, "%s/%s", point, name);
    op->text = hierarchy->v2 ? "cgroup2" : "cgroup";
    op->flags = attrs;
    if (!hierarchy->v2)
        hierarchy_options(plan, hierarchy->controllers, op);
}

// A clone of the container's own group: in a cgroup namespace of its own the same as a mount there, for half of the price;
// without one the container would see the host's groups.
static void clone_group(struct sandbox_plan *plan, int dir_fd, const char *name)
{
    struct op *op = plan_add(plan, OP_CGROUP);
    op->slot = SLOT_CGROUP;
    op->path = name;
    op->index = plan->bind_len;
    plan->binds[plan->bind_len++] = (struct plan_bind){ .source_fd = dir_fd, .target = name };
}

static void add_hierarchy(struct sandbox_plan *plan, struct cgroup *cgroup, const char *point, size_t index, uint64_t attrs)
{
    const struct cgroup_hierarchy *hierarchy = &cgroup_layout_of(cgroup)->hierarchies[index];
    const char *slash = strrchr(hierarchy->mount_point, '/');
    const char *name = arena_strdup(&plan->arena, slash ? slash + 1 : hierarchy->mount_point);
    if (plan->cgroup_namespace && plan->config && (plan->config->rootless || plan->config->inside_users))
        mount_hierarchy(plan, hierarchy, point, name, attrs);
    else
        clone_group(plan, cgroup_dir_fd(cgroup, index), name);
    struct slice rest = slice_of(hierarchy->controllers), word;
    while (strchr(hierarchy->controllers, ',') && slice_cut(&rest, ',', &word))
        add_cgroup_link(plan, word, name);
}

// Who has no cgroup namespace of its own has no right to a mount either: a clone of the group, by the caller.
static void bind_group(struct sandbox_plan *plan, struct cgroup *cgroup, const char *path, uint64_t attrs)
{
    struct op *op = plan_add(plan, OP_BIND);
    op->path = path;
    op->how = OP_IS_DIR;
    op->index = plan->bind_len;
    plan->binds[plan->bind_len++] = (struct plan_bind){ .source_fd = cgroup_dir_fd(cgroup, 0), .target = path, .attrs = attrs };
}

// Read-only, and rooted in the container's own group: release_agent and foreign groups are out of reach. Only the unified
// tree is shown whole to a container in the host's cgroup namespace, as Docker does.
void plan_cgroups(struct sandbox_plan *plan, struct cgroup *cgroup, const char *path, uint64_t attrs)
{
    const struct cgroup_layout *layout = cgroup ? cgroup_layout_of(cgroup) : NULL;
    if (!layout || layout->trusted || layout->version == CGROUP_NONE)
        return;
    if (layout->version == CGROUP_V2 && plan->root_uid && !plan->cgroup_namespace) {
        bind_group(plan, cgroup, path, attrs);
        return;
    }
    if (layout->version == CGROUP_V2) {
        add_mount(plan, &(struct system_mount){ path, "cgroup2", attrs, NULL, 0, SLOT_NONE });
        return;
    }
    add_mount(plan, &cgroup_mount)->path = path;
    for (size_t i = 0; i < layout->len; i++)
        add_hierarchy(plan, cgroup, path, i, attrs);
    struct op *seal = plan_add(plan, OP_SEAL);
    seal->slot = SLOT_CGROUP;
    seal->path = path;
    seal->flags = attrs;
    seal->clear = (RDONLY & ~attrs) | (attrs & MOUNT_ATTR__ATIME ? MOUNT_ATTR__ATIME : 0);
}

int plan_device_node(const struct oci_device *device, struct op *out, struct err *err)
{
    mode_t type = str_eq(device->type, "c") || str_eq(device->type, "u") ? S_IFCHR
                  : str_eq(device->type, "b")                             ? S_IFBLK
                  : str_eq(device->type, "p")                             ? S_IFIFO
                                                                          : 0;
    if (!type || !device->path || device->path[0] != '/' || device->major < 0 || device->minor < 0 || device->uid < 0 ||
        device->uid >= UINT32_MAX || device->gid < 0 || device->gid >= UINT32_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "device %s: bad type, path or number", device->path ? device->path : "");
    out->mode = type | (mode_t)(device->file_mode ? device->file_mode & 07777 : 0666);
    out->device = makedev((unsigned)device->major, (unsigned)device->minor);
    out->uid = (uid_t)device->uid;
    out->gid = (gid_t)device->gid;
    return 0;
}

int plan_device(struct sandbox_plan *plan, const struct oci_device *device, struct err *err)
{
    struct op node = { .type = OP_NODE, .fd = -1 };
    if (plan_device_node(device, &node, err) < 0)
        return -1;
    bool in_dev = str_starts(device->path, "/dev/");
    node.slot = in_dev ? SLOT_DEV : SLOT_NONE;
    node.path = arena_strdup(&plan->arena, in_dev ? device->path + 5 : device->path);
    *plan_add(plan, OP_NODE) = node;
    return 0;
}

// ---- what users mount -----------------------------------------------------------------------------------------------

static const struct {
    const char *word;
    uint64_t flags;
} propagations[] = {
    { "", MS_PRIVATE | MS_REC },         { "rprivate", MS_PRIVATE | MS_REC }, { "private", MS_PRIVATE },
    { "rshared", MS_SHARED | MS_REC },   { "shared", MS_SHARED },             { "rslave", MS_SLAVE | MS_REC },
    { "slave", MS_SLAVE },
};

static int propagation_of(const char *word, uint64_t *out, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(propagations); i++) {
        if (str_eq(propagations[i].word, word ? word : "")) {
            *out = propagations[i].flags;
            return 0;
        }
    }
    return err_set(err, ERR_INVALID_ARGUMENT, "unknown propagation \"%s\"", word);
}

static uint64_t attrs_of(const struct sandbox_mount *mount)
{
    return (mount->read_only ? RDONLY : 0) | (mount->no_suid ? NOSUID : 0) | (mount->no_dev ? NODEV : 0) |
           (mount->no_exec ? NOEXEC : 0);
}

static bool below_proc(const char *path)
{
    return str_starts(path, "/proc") && (path[5] == '\0' || path[5] == '/');
}

static int check_mount(const struct sandbox_mount *mount, unsigned *how, struct err *err)
{
    if (str_empty(mount->target) || mount->target[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "mount target \"%s\" is not absolute", mount->target ? mount->target : "");
    if (mount->target[strspn(mount->target, "/.")] == '\0')
        return err_set(err, ERR_INVALID_ARGUMENT, "mount target \"%s\" is the root", mount->target);
    if (!below_proc(mount->target))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(proc_files); i++) {
        if (mount->kind == SANDBOX_MOUNT_BIND && str_eq(mount->target, proc_files[i])) {
            *how |= OP_ON_PROC;
            return 0;
        }
    }
    return err_set(err, ERR_PERMISSION_DENIED, "\"%s\" cannot be mounted because it is inside /proc", mount->target);
}

static int bind_of(const struct sandbox_mount *mount, struct plan_bind *out, struct err *err)
{
    *out = (struct plan_bind){ .source_fd = mount->source_fd, .attrs = attrs_of(mount), .recursive = mount->recursive,
                               .own_attrs = mount->writable_below, .detached = mount->kind == SANDBOX_MOUNT_TREE, .idmap_fd = -1 };
    if (propagation_of(mount->propagation, &out->propagation, err) < 0)
        return -1;
    // The clone is of one mount unless recursive, so that its own "r" adds nothing.
    out->propagation &= ~(uint64_t)MS_REC;
    return 0;
}

static int add_bind(struct sandbox_plan *plan, const struct sandbox_mount *mount, const struct sandbox_users *users, unsigned how, struct err *err)
{
    struct stat st;
    if (mount->source_fd < 0 || fstat(mount->source_fd, &st) < 0)
        return err_errno(err, mount->source_fd < 0 ? EBADF : errno, "source of %s", mount->target);
    struct plan_bind *bind = &plan->binds[plan->bind_len];
    if (bind_of(mount, bind, err) < 0)
        return -1;
    bind->idmap_fd = mount->mapped && users ? users->fd : -1;
    bind->idmap_recursive = mount->recursive;
    struct op *op = plan_add(plan, OP_BIND);
    op->path = bind->target = arena_strdup(&plan->arena, mount->target);
    op->flags = bind->attrs;
    op->how = how | (S_ISDIR(st.st_mode) ? OP_IS_DIR : 0);
    op->index = plan->bind_len++;
    return 0;
}

int sandbox_bind_mount(const struct sandbox_mount *mount, struct err *err)
{
    struct plan_bind bind;
    if (bind_of(mount, &bind, err) < 0)
        return -1;
    int fd = clone_bind(&bind, mount->source_fd, err);
    return fd < 0 ? err_wrap(err, "bind %s", mount->target) : fd;
}

static const char *const tmpfs_keys[] = { "size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "huge", "mpol" };
#define TMPFS_OPTIONS_MAX 12

// Also words that say nothing to a tmpfs.
static bool tmpfs_word(struct slice word, uint64_t *attrs)
{
    uint64_t set = *attrs, clear = 0;
    if (!mount_attr_word(word, &set, &clear))
        return slice_eq(word, "defaults") || slice_eq(word, "sync") || slice_eq(word, "async");
    *attrs = (*attrs & ~clear) | set;
    return true;
}

static bool tmpfs_key(struct slice key)
{
    for (size_t i = 0; i < ARRAY_LEN(tmpfs_keys); i++)
        if (slice_eq(key, tmpfs_keys[i]))
            return true;
    return false;
}

static int tmpfs_data(struct sandbox_plan *plan, const char *data, struct op *op, struct err *err)
{
    struct mount_option *options = arena_alloc(&plan->arena, TMPFS_OPTIONS_MAX * sizeof(*options));
    struct slice rest = slice_of(data), word;
    op->options = options;
    while (!str_empty(data) && slice_cut(&rest, ',', &word)) {
        struct slice value = word, key;
        if (word.size == 0 || tmpfs_word(word, &op->flags))
            continue;
        slice_cut(&value, '=', &key);
        if (!value.data || !tmpfs_key(key) || op->option_len == TMPFS_OPTIONS_MAX)
            return err_set(err, ERR_INVALID_ARGUMENT, "tmpfs %s: invalid option \"%.*s\"", op->path,
                           (int)MIN_OF(word.size, (size_t)100), word.data);
        options[op->option_len++] = (struct mount_option){ .key = arena_strndup(&plan->arena, key.data, key.size),
                                                          .value = arena_strndup(&plan->arena, value.data, value.size) };
    }
    return 0;
}

static int add_user_mounts(struct sandbox_plan *plan, const struct sandbox_spec *spec, struct err *err)
{
    for (size_t i = 0; i < spec->mount_len; i++) {
        const struct sandbox_mount *mount = &spec->mounts[i];
        unsigned how = 0;
        if (check_mount(mount, &how, err) < 0)
            return -1;
        if (mount->kind != SANDBOX_MOUNT_TMPFS) {
            if (add_bind(plan, mount, spec->users, how, err) < 0)
                return -1;
            continue;
        }
        struct op *op = plan_add(plan, OP_TMPFS);
        op->path = arena_strdup(&plan->arena, mount->target);
        op->flags = attrs_of(mount);
        if (tmpfs_data(plan, mount->data, op, err) < 0)
            return -1;
    }
    return 0;
}

int plan_mounts(struct sandbox_plan *plan, const struct sandbox_spec *spec, struct err *err)
{
    const struct oci_linux *section = spec->linux_section;
    size_t devices = spec->users ? ARRAY_LEN(nodes) + section->devices.len : 0;
    plan->binds = arena_alloc(&plan->arena, (spec->mount_len + devices + CGROUP_HIERARCHY_MAX) * sizeof(*plan->binds));
    add_mount(plan, &proc_mount);
    if (add_dev(plan, spec, err) < 0)
        return -1;
    if (!replaced(spec, "/sys"))
        add_mount(plan, &sys_mount)->flags = settings_attrs(spec);
    if (!replaced(spec, "/sys") && !replaced(spec, "/sys/fs/cgroup"))
        plan_cgroups(plan, spec->cgroup, "/sys/fs/cgroup", settings_attrs(spec) & ~(section && section->writable_cgroups ? RDONLY : 0));
    const struct oci_device *own = section && !spec->users ? section->devices.items : NULL;
    for (size_t i = 0; own && i < section->devices.len; i++)
        if (plan_device(plan, &own[i], err) < 0)
            return -1;
    if (plan->terminal) {
        struct op *op = plan_add(plan, OP_TERMINAL);
        op->how = OP_CONSOLE;
        op->path = "/dev/console";
    }
    return add_user_mounts(plan, spec, err);
}

// 0: private, as every root is before.
static uint64_t root_propagation(const char *word)
{
    uint64_t flags = 0;
    if (str_eq(word, "unbindable") || str_eq(word, "runbindable"))
        return MS_UNBINDABLE | (word[0] == 'r' ? MS_REC : 0);
    if (str_empty(word) || propagation_of(word, &flags, NULL) < 0 || (flags & MS_PRIVATE))
        return 0;
    return flags;
}

void plan_protect(struct sandbox_plan *plan, const struct sandbox_spec *spec)
{
    const struct oci_linux *section = spec->linux_section;
    for (size_t i = 0; section && i < section->readonly_paths.len; i++)
        plan_add(plan, OP_READ_ONLY_PATH)->path = arena_strdup(&plan->arena, section->readonly_paths.items[i]);
    for (size_t i = 0; section && i < section->masked_paths.len; i++)
        plan_add(plan, OP_MASK)->path = arena_strdup(&plan->arena, section->masked_paths.items[i]);
    for (size_t i = 0, len = plan->op_len; i < len; i++) {
        const char *path = plan->ops[i].path;
        if (plan->ops[i].type == OP_TMPFS && (plan->ops[i].flags & RDONLY))
            plan_add(plan, OP_TMPFS_READ_ONLY)->path = path;
    }
    uint64_t flags = section ? root_propagation(section->rootfs_propagation) : 0;
    if (flags) {
        struct op *op = plan_add(plan, OP_PROPAGATION);
        op->path = "/";
        op->flags = flags & ~(uint64_t)MS_REC;
        op->how = (flags & MS_REC) != 0;
    }
    if (spec->rootfs.read_only)
        plan_add(plan, OP_ROOT_READ_ONLY);
}
