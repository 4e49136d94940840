#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/file.h"
#include "kernel/abi.h"
#include "plan.h"
#include "seccomp.h"

#define NAMESPACES_MAX 16
#define SYSCTLS_MAX 256
#define HOSTNAME_MAX 64

static const struct {
    const char *type;
    uint64_t flag;
    bool can_join; // by path
} namespaces[] = {
    { "pid", CLONE_NEWPID, true },   { "network", CLONE_NEWNET, true }, { "mount", CLONE_NEWNS, false },
    { "ipc", CLONE_NEWIPC, true },   { "uts", CLONE_NEWUTS, true },     { "cgroup", CLONE_NEWCGROUP, false },
};

static const struct oci_namespace *namespace_listed(const struct oci_linux *section, const char *type)
{
    const struct oci_namespace *list = section->namespaces.items;
    for (size_t i = 0; i < section->namespaces.len; i++)
        if (str_eq(list[i].type, type))
            return &list[i];
    return NULL;
}

static int join_by_path(struct sandbox_plan *plan, const char *path, uint64_t flag, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "namespace %s", path);
    plan->owned_fds[plan->owned_len++] = fd;
    if (plan->before.needed && plan->before.join_len == PLAN_BEFORE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d namespaces to join", PLAN_BEFORE_MAX);
    if (plan->before.needed) {
        plan_join_before(plan, fd, flag);
        return 0;
    }
    if (flag == CLONE_NEWPID) {
        plan->pidns_fd = fd;
        return 0;
    }
    struct op *op = plan_add(plan, OP_JOIN_NAMESPACE);
    op->path = arena_strdup(&plan->arena, path);
    op->fd = fd;
    op->flags = flag;
    return 0;
}

static int plan_namespace(struct sandbox_plan *plan, const struct oci_namespace *ns, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(namespaces); i++) {
        if (!str_eq(namespaces[i].type, ns->type))
            continue;
        if (!str_empty(ns->path) && !namespaces[i].can_join)
            return err_set(err, ERR_NOT_IMPLEMENTED, "joining a %s namespace by path is not implemented", ns->type);
        if (!str_empty(ns->path))
            return join_by_path(plan, ns->path, namespaces[i].flag, err);
        plan->clone_flags |= namespaces[i].flag;
        return 0;
    }
    return err_set(err, ERR_NOT_IMPLEMENTED, "%s namespaces are not implemented", ns->type ? ns->type : "unnamed");
}

// First of all and in the process between, so that whatever the clone makes belongs to it.
static void join_users(struct sandbox_plan *plan, const struct sandbox_users *users)
{
    plan->before.needed = true;
    plan->root_uid = users->root_uid;
    plan->root_gid = users->root_gid;
    plan_join_before(plan, users->fd, CLONE_NEWUSER);
}

static int plan_namespaces(struct sandbox_plan *plan, const struct sandbox_spec *spec, struct err *err)
{
    const struct oci_linux *section = spec->linux_section;
    const struct oci_namespace *list = section->namespaces.items;
    if (section->namespaces.len > NAMESPACES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d namespaces", NAMESPACES_MAX);
    plan->owned_fds = arena_alloc(&plan->arena, PLAN_OWNED_MAX * sizeof(int));
    if (spec->users)
        join_users(plan, spec->users);
    for (size_t i = 0; i < section->namespaces.len; i++)
        if (plan_namespace(plan, &list[i], err) < 0)
            return -1;
    if (!(plan->clone_flags & CLONE_NEWNS))
        return err_set(err, ERR_INVALID_ARGUMENT, "a container needs a mount namespace of its own");
    if (spec->netns_fd >= 0) {
        struct op *op = plan_add(plan, OP_JOIN_NAMESPACE);
        op->path = "network";
        op->fd = spec->netns_fd;
        op->flags = CLONE_NEWNET;
        plan->clone_flags &= ~(uint64_t)CLONE_NEWNET;
    }
    return 0;
}

int plan_names_of(struct sandbox_plan *plan, const char *hostname, const char *domainname, struct err *err)
{
    const char *names[] = { hostname, domainname };
    for (int i = 0; i < 2; i++) {
        if (str_empty(names[i]))
            continue;
        if (!plan->config && !(plan->clone_flags & CLONE_NEWUTS))
            return err_set(err, ERR_INVALID_ARGUMENT, "a hostname needs a uts namespace of its own");
        if (strlen(names[i]) > HOSTNAME_MAX)
            return err_set(err, ERR_INVALID_ARGUMENT, "hostname \"%.80s\" is longer than %d", names[i], HOSTNAME_MAX);
        plan_add(plan, i == 0 ? OP_HOSTNAME : OP_DOMAINNAME)->text = arena_strdup(&plan->arena, names[i]);
    }
    return 0;
}

// ---- sysctls: only what belongs to a namespace that the container has for itself ------------------------------------

static const struct {
    const char *prefix;
    uint64_t flag;
} sysctls[] = {
    { "net/", CLONE_NEWNET },
    { "kernel/msgmax", CLONE_NEWIPC },
    { "kernel/msgmnb", CLONE_NEWIPC },
    { "kernel/msgmni", CLONE_NEWIPC },
    { "kernel/sem", CLONE_NEWIPC },
    { "kernel/shmall", CLONE_NEWIPC },
    { "kernel/shmmax", CLONE_NEWIPC },
    { "kernel/shmmni", CLONE_NEWIPC },
    { "kernel/shm_rmid_forced", CLONE_NEWIPC },
    { "fs/mqueue/", CLONE_NEWIPC },
    { "kernel/domainname", CLONE_NEWUTS },
};

static bool sysctl_allowed(const char *path, uint64_t owned)
{
    for (size_t i = 0; i < ARRAY_LEN(sysctls); i++) {
        size_t size = strlen(sysctls[i].prefix);
        bool below = sysctls[i].prefix[size - 1] == '/';
        if ((owned & sysctls[i].flag) && (below ? str_starts(path, sysctls[i].prefix) : str_eq(path, sysctls[i].prefix)))
            return true;
    }
    return false;
}

static bool sysctl_key_plain(const char *key)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-";
    return key[0] && strlen(key) < 200 && key[strspn(key, allowed)] == '\0' && !strstr(key, "..") && !strstr(key, "//") &&
           key[0] != '/' && key[0] != '.';
}

static int plan_sysctl(struct sandbox_plan *plan, const struct kv *entry, uint64_t owned, struct err *err)
{
    if (!sysctl_key_plain(entry->key))
        return err_set(err, ERR_INVALID_ARGUMENT, "sysctl \"%.100s\": invalid name", entry->key);
    if (!entry->value || strchr(entry->value, '\n'))
        return err_set(err, ERR_INVALID_ARGUMENT, "sysctl \"%s\": invalid value", entry->key);
    char *path = arena_strdup(&plan->arena, entry->key);
    // "net.ipv4.ip_forward" or "net/ipv4/conf/eth0.1/forwarding": the separator that comes first is the separator.
    bool dots = path[strcspn(path, "./")] == '.';
    for (char *at = path; dots && *at; at++)
        *at = *at == '.' ? '/' : *at == '/' ? '.' : *at;
    if (!sysctl_allowed(path, owned))
        return err_set(err, ERR_INVALID_ARGUMENT, "sysctl \"%s\" is not in a separate kernel namespace", entry->key);
    struct op *op = plan_add(plan, OP_SYSCTL);
    op->path = path;
    op->text = arena_strdup(&plan->arena, entry->value);
    return 0;
}

int plan_sysctls_of(struct sandbox_plan *plan, const struct kvs *map, uint64_t owned, struct err *err)
{
    if (map->len > SYSCTLS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d sysctls", SYSCTLS_MAX);
    for (size_t i = 0; i < map->len; i++)
        if (plan_sysctl(plan, &map->items[i], owned, err) < 0)
            return -1;
    return 0;
}

// ---- the whole ------------------------------------------------------------------------------------------------------

static int plan_rootfs(struct sandbox_plan *plan, const struct sandbox_rootfs *rootfs, struct err *err)
{
    plan->rootfs = *rootfs;
    if (rootfs->kind == SANDBOX_ROOTFS_TREE)
        return rootfs->tree_fd >= 0 ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "rootfs without a folder");
    if (rootfs->lower_len == 0 && rootfs->upper_fd < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "rootfs without a layer");
    int *lowers = arena_alloc(&plan->arena, (rootfs->lower_len + 1) * sizeof(int));
    if (rootfs->lower_len)
        memcpy(lowers, rootfs->lower_fds, rootfs->lower_len * sizeof(int));
    plan->rootfs.lower_fds = lowers;
    return 0;
}

static int plan_filter(struct sandbox_plan *plan, const char *profile, struct err *err)
{
    if (str_empty(profile) || str_eq(profile, "unconfined"))
        return 0;
    plan->filter = arena_alloc(&plan->arena, sizeof(*plan->filter));
    if (str_eq(profile, "default"))
        return seccomp_default_profile(plan->caps.bounding, plan->filter, err);
    if (seccomp_compile_text(profile, strlen(profile), plan->caps.bounding, plan->filter, err) < 0)
        return -1;
    if (plan->filter->flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)
        return err_set(err, ERR_NOT_IMPLEMENTED, "seccomp profile: SCMP_ACT_NOTIFY: nobody would listen");
    if (plan->filter->len == 0)
        plan->filter = NULL;
    return 0;
}

static void plan_keep(struct sandbox_plan *plan, const struct sandbox_spec *spec)
{
    int *fds = arena_alloc(&plan->arena, (spec->keep_len + 1) * sizeof(int));
    if (spec->keep_len)
        memcpy(fds, spec->keep_fds, spec->keep_len * sizeof(int));
    plan->keep_fds = fds;
    plan->keep_len = spec->keep_len;
}

static void enter_late(struct sandbox_plan *plan, const struct sandbox_config *hooks)
{
    if (hooks->runtime_hooks)
        plan_add(plan, OP_STAGE)->how = SANDBOX_STAGE_MOUNTED;
    plan_hooks(plan, hooks->create_container, hooks->create_container_len, false);
    plan_add(plan, OP_PIVOT);
}

static int plan_build(struct sandbox_plan *plan, const struct sandbox_spec *spec, struct err *err)
{
    plan->init_fd = spec->init_fd;
    plan->cgroup = spec->cgroup;
    plan->die_with_parent = spec->die_with_parent;
    if ((plan->hooks = spec->hooks)) {
        plan->at_stage = spec->hooks->at_stage;
        plan->stage_context = spec->hooks->stage_context;
    }
    plan_keep(plan, spec);
    if (plan_rootfs(plan, &spec->rootfs, err) < 0 || plan_process(plan, spec->process, err) < 0 ||
        plan_filter(plan, spec->linux_section->seccomp_profile, err) < 0)
        return -1;
    if (spec->cgroup)
        plan_add(plan, OP_JOIN_CGROUP);
    if (plan_namespaces(plan, spec, err) < 0)
        return -1;
    if (spec->users)
        plan_add(plan, OP_BECOME_ROOT);
    // Not with the clone: the namespace's root is the group of whoever makes it, so the child must have joined first.
    if (namespace_listed(spec->linux_section, "cgroup")) {
        plan->clone_flags &= ~(uint64_t)CLONE_NEWCGROUP;
        plan->cgroup_namespace = true;
        plan_add(plan, OP_CGROUP_NAMESPACE);
    }
    plan_add(plan, OP_KEYRING);
    plan_add(plan, OP_SLAVE);
    if (plan->clone_flags & CLONE_NEWNET)
        plan_add(plan, OP_LOOPBACK);
    if (plan_names_of(plan, spec->hostname, spec->domainname, err) < 0)
        return -1;
    plan_early_mounts(plan, spec);
    plan_add(plan, spec->hooks ? OP_ATTACH_ROOT : OP_ROOT);
    if (spec->cwd_before_mounts)
        plan_add(plan, OP_MAKE_CWD)->path = plan->cwd;
    plan_add(plan, OP_USER);
    uint64_t owned = plan->clone_flags | (spec->netns_fd >= 0 ? CLONE_NEWNET : 0);
    if (plan_mounts(plan, spec, err) < 0)
        return -1;
    if (spec->hooks)
        enter_late(plan, spec->hooks);
    if (plan_sysctls_of(plan, &spec->linux_section->sysctl, owned, err) < 0)
        return -1;
    if (!spec->users)
        plan_add(plan, OP_OOM_SCORE)->text = arena_printf(&plan->arena, "%lld", (long long)spec->process->oom_score_adj);
    plan_add(plan, OP_MAKE_CWD)->path = plan->cwd; // the last chance: a root may turn read-only
    plan_protect(plan, spec);
    plan_process_ops(plan, spec->process);
    return 0;
}

static int check_kept(const struct sandbox_spec *spec, struct err *err)
{
    if (spec->keep_len > SANDBOX_KEEP_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d descriptors for the process", SANDBOX_KEEP_MAX);
    if (spec->keep_len && spec->init_fd >= 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "the init passes no descriptors on");
    for (size_t i = 0; i < spec->keep_len; i++) {
        if (spec->keep_fds[i] < 3)
            return err_set(err, ERR_INVALID_ARGUMENT, "descriptor %d is the process's own", spec->keep_fds[i]);
        if (fcntl(spec->keep_fds[i], F_GETFD) < 0)
            return err_errno(err, errno, "descriptor %zu for the process", i + 3);
    }
    return 0;
}

static int check_spec(const struct sandbox_spec *spec, struct err *err)
{
    if (!spec->process || !spec->linux_section)
        return err_set(err, ERR_INVALID_ARGUMENT, "a sandbox needs a process and a linux section");
    if (spec->process->oom_score_adj < -1000 || spec->process->oom_score_adj > 1000)
        return err_set(err, ERR_INVALID_ARGUMENT, "oom_score_adj is out of range -1000-1000");
    if (spec->hooks && spec->users)
        return err_set(err, ERR_NOT_IMPLEMENTED, "hooks in a user namespace are not supported yet: run the container with --userns host");
    return check_kept(spec, err);
}

int sandbox_plan_new(const struct sandbox_spec *spec, struct sandbox_plan **out, struct err *err)
{
    if (check_spec(spec, err) < 0)
        return -1;
    struct sandbox_plan *plan = plan_alloc();
    if (plan_build(plan, spec, err) < 0) {
        sandbox_plan_free(plan);
        return -1;
    }
    *out = plan;
    return 0;
}

void plan_join_before(struct sandbox_plan *plan, int fd, uint64_t flag)
{
    struct plan_before *before = &plan->before;
    before->join_fds[before->join_len] = fd;
    before->join_flags[before->join_len++] = flag;
}

// All at once: the kernel checks them together. The pid namespace came with the birth, or comes in the process between:
// where only the user namespace gives the right to join it, and where the caller, root of a user namespace alone, has no
// right to come back to its own.
static void exec_namespaces(struct sandbox_plan *plan, const struct sandbox_exec *exec, int init_pidfd)
{
    uint64_t flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP |
                     (exec->join_time ? CLONE_NEWTIME : 0);
    if (exec->namespaces)
        flags &= exec->namespaces;
    if (exec->rootless || exec->inside_users) {
        plan->pidns_fd = -1;
        plan->before.needed = true;
        if (exec->join_user)
            plan_join_before(plan, init_pidfd, CLONE_NEWUSER);
        plan_join_before(plan, init_pidfd, CLONE_NEWPID);
    } else if (exec->join_user) {
        flags |= CLONE_NEWUSER;
    }
    struct op *op = plan_add(plan, OP_JOIN_NAMESPACE);
    op->fd = init_pidfd;
    op->flags = flags;
    if (exec->join_user)
        plan_add(plan, OP_BECOME_ROOT);
}

static int exec_filter(struct sandbox_plan *plan, const struct sandbox_exec *exec, struct err *err)
{
    if (!exec->filter)
        return plan_filter(plan, exec->seccomp_profile, err);
    plan->filter = arena_alloc(&plan->arena, sizeof(*plan->filter));
    *plan->filter = *exec->filter;
    return 0;
}

bool plan_groups_locked(void)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    return file_read_at(AT_FDCWD, "/proc/self/setgroups", &text, NULL) == 0 && str_starts(buf_text(&text), "deny");
}

static int build_exec(struct sandbox_plan *plan, const struct sandbox_exec *exec, int init_pidfd, struct err *err)
{
    const struct oci_process *process = exec->process;
    if (plan_process(plan, process, err) < 0 || exec_filter(plan, exec, err) < 0)
        return -1;
    plan->keep_groups = (exec->rootless || (exec->inside_users && plan_groups_locked())) && plan->user.extra_len == 0;
    if (plan->cgroup)
        plan_add(plan, OP_JOIN_CGROUP);
    exec_namespaces(plan, exec, init_pidfd);
    if (!exec->no_new_keyring)
        plan_add(plan, OP_KEYRING);
    if (exec->root_fd > 0)
        plan_add(plan, OP_PIVOT)->how = OP_NO_PIVOT | OP_STAY;
    else
        plan_add(plan, OP_OPEN_ROOT);
    plan_add(plan, OP_USER);
    if (plan->terminal)
        plan_add(plan, OP_TERMINAL);
    if (exec->exact) {
        bool labels = !str_empty(process->apparmor_profile) || !str_empty(process->selinux_label);
        if (labels || !process->keep_oom_score)
            plan_add(plan, OP_PRIVATE_PROC);
        if (!process->keep_oom_score)
            plan_add(plan, OP_OOM_SCORE)->text = arena_printf(&plan->arena, "%lld", (long long)process->oom_score_adj);
        if (plan_personality(plan, exec->personality, err) < 0 || plan_attributes(plan, process, err) < 0)
            return -1;
    }
    plan_process_ops(plan, process);
    return 0;
}

int plan_exec(const struct sandbox_exec *exec, int init_pidfd, struct cgroup *cgroup, struct sandbox_plan **out,
              struct err *err)
{
    struct sandbox_plan *plan = plan_alloc();
    plan->cgroup = cgroup;
    plan->init_pidfd = plan->pidns_fd = init_pidfd;
    plan->strict = exec->exact;
    plan->root_uid = exec->root_uid;
    plan->root_gid = exec->root_gid;
    plan->root_fd = exec->root_fd;
    plan->join_fds = exec->join_fds;
    plan->join_len = exec->join_len;
    plan->take_listener = exec->take_listener;
    plan->stage_context = exec->context;
    plan->keep_fds = exec->keep_fds;
    plan->keep_len = exec->keep_len;
    if (build_exec(plan, exec, init_pidfd, err) < 0) {
        sandbox_plan_free(plan);
        return -1;
    }
    *out = plan;
    return 0;
}

void sandbox_plan_free(struct sandbox_plan *plan)
{
    if (!plan)
        return;
    for (size_t i = 0; i < plan->owned_len; i++)
        fd_close(plan->owned_fds[i]);
    free(plan->ops);
    arena_done(&plan->arena);
    free(plan);
}
