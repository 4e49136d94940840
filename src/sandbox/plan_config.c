// The plan of a config.json: namespaces and the order of things. config.h says why there are two orders.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>

#include "base/file.h"
#include "kernel/abi.h"
#include "kernel/mountinfo.h"
#include "plan.h"
#include "plan_config.h"

static const struct {
    const char *type;
    uint64_t flag;
} types[] = {
    { "user", CLONE_NEWUSER }, { "pid", CLONE_NEWPID }, { "network", CLONE_NEWNET }, { "mount", CLONE_NEWNS },
    { "ipc", CLONE_NEWIPC },   { "uts", CLONE_NEWUTS }, { "cgroup", CLONE_NEWCGROUP }, { "time", CLONE_NEWTIME },
};

// ---- namespaces -----------------------------------------------------------------------------------------------------

struct wanted {
    uint64_t fresh, joined;
    const char *paths[ARRAY_LEN(types)];
};

static int want(struct wanted *wanted, const struct oci_namespace *ns, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (!str_eq(types[i].type, ns->type))
            continue;
        if ((wanted->fresh | wanted->joined) & types[i].flag)
            return err_set(err, ERR_INVALID_ARGUMENT, "malformed spec file: duplicated ns \"%s\"", ns->type);
        wanted->paths[i] = str_empty(ns->path) ? NULL : ns->path;
        *(wanted->paths[i] ? &wanted->joined : &wanted->fresh) |= types[i].flag;
        return 0;
    }
    return err_set(err, ERR_INVALID_ARGUMENT, "namespace \"%.60s\" does not exist", ns->type ? ns->type : "");
}

static int open_namespace(struct sandbox_plan *plan, const char *path, const char *type, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "namespace %s %s", type, path);
    plan->owned_fds[plan->owned_len++] = fd;
    return fd;
}

// The table's order puts the user namespace first: joining it gives the rights over the others.
static int join_all(struct sandbox_plan *plan, const struct wanted *wanted, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (!wanted->paths[i])
            continue;
        int fd = open_namespace(plan, wanted->paths[i], types[i].type, err);
        if (fd < 0)
            return -1;
        if (plan->before.needed) {
            plan_join_before(plan, fd, types[i].flag);
        } else if (types[i].flag == CLONE_NEWPID) {
            plan->pidns_fd = fd;
        } else {
            struct op *op = plan_add(plan, OP_JOIN_NAMESPACE);
            op->path = arena_strdup(&plan->arena, wanted->paths[i]);
            op->fd = fd;
            op->flags = types[i].flag;
        }
    }
    return 0;
}

static int time_offsets(struct sandbox_plan *plan, const struct json_map *map, struct err *err)
{
    char *text = arena_strdup(&plan->arena, "");
    for (size_t i = 0; i < map->len; i++) {
        const struct oci_time_offset *offset = json_map_at(map, &oci_time_offset_table, i);
        if (!str_eq(map->keys[i], "monotonic") && !str_eq(map->keys[i], "boottime"))
            return err_set(err, ERR_INVALID_ARGUMENT, "linux.timeOffsets: unknown clock \"%.40s\"", map->keys[i]);
        if (offset->nanosecs < 0 || offset->nanosecs > 999999999)
            return err_set(err, ERR_INVALID_ARGUMENT, "linux.timeOffsets.%s.nanosecs is out of range", map->keys[i]);
        text = arena_printf(&plan->arena, "%s%s %lld %lld\n", text, map->keys[i], (long long)offset->secs,
                            (long long)offset->nanosecs);
    }
    plan->before.time_offsets = text;
    return 0;
}

static int namespaces(struct sandbox_plan *plan, const struct sandbox_config *config, struct err *err)
{
    struct wanted wanted = { 0 };
    const struct json_list *list = &config->linux_section->namespaces;
    const struct oci_namespace *items = list->items;
    for (size_t i = 0; i < list->len; i++)
        if (want(&wanted, &items[i], err) < 0)
            return -1;
    if (!((wanted.fresh | wanted.joined) & CLONE_NEWNS) && ((wanted.fresh | wanted.joined) & CLONE_NEWUSER))
        return err_set(err, ERR_INVALID_ARGUMENT, "a user namespace without a mount namespace: in the caller's nothing can be mounted from it");
    struct plan_before *before = &plan->before;
    before->new_time = wanted.fresh & CLONE_NEWTIME;
    before->needed = before->new_time || (wanted.joined & CLONE_NEWUSER) || ((wanted.fresh & CLONE_NEWUSER) && wanted.joined) ||
                     (config->inside_users && (wanted.joined & CLONE_NEWPID)); // from which the caller could not come back
    before->new_user = before->needed && config->rootless && (wanted.fresh & CLONE_NEWUSER);
    if (config->linux_section->time_offsets.len && !before->new_time)
        return err_set(err, ERR_INVALID_ARGUMENT, "linux.timeOffsets: there is no new time namespace");
    if (time_offsets(plan, &config->linux_section->time_offsets, err) < 0 || join_all(plan, &wanted, err) < 0)
        return -1;
    plan->clone_flags = wanted.fresh & ~(uint64_t)(CLONE_NEWCGROUP | CLONE_NEWTIME);
    if (before->new_user)
        plan->clone_flags &= ~(uint64_t)CLONE_NEWUSER;
    plan->cgroup_namespace = wanted.fresh & CLONE_NEWCGROUP;
    return 0;
}

static bool has(const struct sandbox_config *config, const char *type)
{
    const struct oci_namespace *items = config->linux_section->namespaces.items;
    for (size_t i = 0; i < config->linux_section->namespaces.len; i++)
        if (str_eq(items[i].type, type))
            return true;
    return false;
}

static bool has_new(const struct sandbox_config *config, const char *type)
{
    const struct oci_namespace *items = config->linux_section->namespaces.items;
    for (size_t i = 0; i < config->linux_section->namespaces.len; i++)
        if (str_eq(items[i].type, type))
            return str_empty(items[i].path);
    return false;
}

// ---- the order ------------------------------------------------------------------------------------------------------

static void add_detaches(struct sandbox_plan *plan)
{
    _cleanup_buf_ struct buf text = BUF_INIT(MOUNTINFO_MAX);
    struct mount_info info;
    if (file_read_at(AT_FDCWD, "/proc/self/mountinfo", &text, NULL) < 0)
        return;
    for (struct slice rest = slice_of(buf_text(&text)); mount_info_next(&rest, &info);) {
        if (!slice_eq(info.fstype, "proc") && !slice_eq(info.fstype, "sysfs"))
            continue;
        char *path = arena_alloc(&plan->arena, info.point.size + 1);
        mount_info_unescape(info.point, path);
        plan_add(plan, OP_DETACH)->path = path;
    }
}

static void add_root(struct sandbox_plan *plan, const struct sandbox_config *config, enum op_type type)
{
    if (config->no_pivot && has_new(config, "mount"))
        add_detaches(plan);
    plan_add(plan, type)->how = !has(config, "mount") ? OP_NO_PIVOT | OP_STAY : config->no_pivot ? OP_NO_PIVOT : 0;
}

static void before_mounts(struct sandbox_plan *plan, const struct sandbox_config *config, bool late)
{
    if (plan->clone_flags & CLONE_NEWUSER)
        plan_add(plan, OP_STAGE)->how = SANDBOX_STAGE_MAPS;
    if (has(config, "user"))
        plan_add(plan, OP_BECOME_ROOT);
    if (plan->cgroup_namespace)
        plan_add(plan, OP_CGROUP_NAMESPACE);
    if (!config->no_new_keyring)
        plan_add(plan, OP_KEYRING);
    if (config->rootless)
        plan_add(plan, OP_CLONE_ROOT)->path = config->rootfs_path;
    for (size_t i = 0; i < plan->bind_len; i++) {
        if (!plan->binds[i].in_child)
            continue;
        struct op *op = plan_add(plan, OP_CLONE_BIND);
        op->path = plan->binds[i].source;
        op->index = i;
    }
    if (has(config, "mount"))
        plan_add(plan, OP_SLAVE);
    if (has_new(config, "network"))
        plan_add(plan, OP_LOOPBACK);
    if (late)
        plan_add(plan, OP_ATTACH_ROOT)->how = has(config, "mount") ? 0 : OP_STAY;
    else
        add_root(plan, config, OP_ROOT);
}

static void after_mounts(struct sandbox_plan *plan, const struct sandbox_config *config, bool late)
{
    if (config->runtime_hooks)
        plan_add(plan, OP_STAGE)->how = SANDBOX_STAGE_MOUNTED;
    plan_hooks(plan, config->create_container, config->create_container_len, false);
    if (late)
        add_root(plan, config, OP_PIVOT);
    plan_add(plan, OP_USER);
    plan_add(plan, OP_MAKE_CWD)->path = plan->cwd;
    if (plan->terminal) {
        struct op *op = plan_add(plan, OP_TERMINAL);
        op->how = OP_CONSOLE;
        op->path = "/dev/console";
    }
}

static int settings(struct sandbox_plan *plan, const struct sandbox_config *config, struct err *err)
{
    // Which of them belong to a namespace of the container's own, the caller has judged; the kernel says no to the rest.
    if (plan_sysctls_of(plan, &config->linux_section->sysctl, CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, err) < 0)
        return -1;
    if (!config->process->keep_oom_score)
        plan_add(plan, OP_OOM_SCORE)->text = arena_printf(&plan->arena, "%lld", (long long)config->process->oom_score_adj);
    plan_config_finish(plan, config);
    const struct sandbox_spec protect = { .linux_section = config->linux_section,
                                          .rootfs = { .read_only = config->rootfs_read_only } };
    plan_protect(plan, &protect);
    if (plan_personality(plan, config->linux_section->personality, err) < 0)
        return -1;
    return plan_attributes(plan, config->process, err);
}

static int build(struct sandbox_plan *plan, const struct sandbox_config *config, struct err *err)
{
    bool users = has(config, "user") || config->inside_users;
    bool late = users || !has(config, "mount") || config->runtime_hooks || config->create_container_len > 0 || plan_config_needs_host(config);
    plan->owned_fds = arena_alloc(&plan->arena, PLAN_OWNED_MAX * sizeof(int));
    if (plan_process(plan, config->process, err) < 0 || plan_config_binds(plan, config, users, err) < 0)
        return -1;
    if (config->cgroup)
        plan_add(plan, OP_JOIN_CGROUP);
    if (namespaces(plan, config, err) < 0)
        return -1;
    plan->maps_need_dumpable = config->rootless;
    plan->keep_groups = (config->rootless || (config->inside_users && plan_groups_locked())) && plan->user.extra_len == 0;
    before_mounts(plan, config, late);
    if (plan_names_of(plan, config->hostname, config->domainname, err) < 0 ||
        plan_config_mounts(plan, config, users, err) < 0)
        return -1;
    after_mounts(plan, config, late);
    if (settings(plan, config, err) < 0)
        return -1;
    plan_process_ops(plan, config->process);
    return 0;
}

static void copy_filter(struct sandbox_plan *plan, const struct filter_program *filter)
{
    if (!filter)
        return;
    plan->filter = arena_alloc(&plan->arena, sizeof(*filter));
    plan->filter->len = filter->len;
    plan->filter->flags = filter->flags;
    memcpy(plan->filter->code, filter->code, filter->len * sizeof(filter->code[0])); // the rest stays untouched pages
}

int sandbox_plan_config(const struct sandbox_config *config, struct sandbox_plan **out, struct err *err)
{
    if (!config->process || !config->linux_section)
        return err_set(err, ERR_INVALID_ARGUMENT, "a container needs a process and a linux section");
    if (config->process->oom_score_adj < -1000 || config->process->oom_score_adj > 1000)
        return err_set(err, ERR_INVALID_ARGUMENT, "process.oomScoreAdj is out of range -1000-1000");
    struct sandbox_plan *plan = plan_alloc();
    plan->config = plan->hooks = config;
    plan->strict = true;
    plan->cgroup = config->cgroup;
    plan->rootfs = (struct sandbox_rootfs){ .kind = config->rootfs_mounted ? SANDBOX_ROOTFS_MOUNT : SANDBOX_ROOTFS_TREE,
                                            .tree_fd = config->rootfs_fd, .recursive = true, .upper_fd = -1, .work_fd = -1 };
    plan->keep_fds = config->keep_fds;
    plan->keep_len = config->keep_len;
    plan->start_fd = config->start_fd;
    plan->report_fd = config->report_fd;
    plan->at_stage = config->at_stage;
    plan->stage_context = config->stage_context;
    copy_filter(plan, config->filter);
    if (build(plan, config, err) < 0) {
        sandbox_plan_free(plan);
        return -1;
    }
    *out = plan;
    return 0;
}
