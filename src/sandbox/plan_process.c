// The process part of a plan: what docker run and docker exec have in common.
#include <linux/capability.h>
#include <sys/resource.h>

#include "plan.h"
#include "seccomp.h"

#define ARGS_MAX 65536
#define RLIMITS_MAX 32

static const struct {
    const char *name;
    int resource;
} rlimit_names[] = {
    { "RLIMIT_AS", RLIMIT_AS },           { "RLIMIT_CORE", RLIMIT_CORE },       { "RLIMIT_CPU", RLIMIT_CPU },
    { "RLIMIT_DATA", RLIMIT_DATA },       { "RLIMIT_FSIZE", RLIMIT_FSIZE },     { "RLIMIT_LOCKS", RLIMIT_LOCKS },
    { "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK }, { "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE }, { "RLIMIT_NICE", RLIMIT_NICE },
    { "RLIMIT_NOFILE", RLIMIT_NOFILE },   { "RLIMIT_NPROC", RLIMIT_NPROC },     { "RLIMIT_RSS", RLIMIT_RSS },
    { "RLIMIT_RTPRIO", RLIMIT_RTPRIO },   { "RLIMIT_RTTIME", RLIMIT_RTTIME },   { "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
    { "RLIMIT_STACK", RLIMIT_STACK },
};

struct sandbox_plan *plan_alloc(void)
{
    struct sandbox_plan *plan = mem_new(struct sandbox_plan);
    plan->pidns_fd = plan->init_pidfd = plan->init_fd = plan->start_fd = plan->report_fd = plan->devices_fd = -1;
    plan->rootfs.upper_fd = plan->rootfs.work_fd = plan->rootfs.tree_fd = -1;
    return plan;
}

struct op *plan_add(struct sandbox_plan *plan, enum op_type type)
{
    if (plan->op_len == plan->op_capacity) {
        plan->op_capacity = plan->op_capacity ? plan->op_capacity * 2 : 128; // a default container's fit
        plan->ops = mem_grow(plan->ops, plan->op_capacity * sizeof(*plan->ops));
    }
    struct op *op = &plan->ops[plan->op_len++];
    *op = (struct op){ .type = type, .fd = -1 };
    return op;
}

// A config.json may name what only a newer kernel knows; its caller has warned.
static int plan_caps_of(const struct strv *names, bool skip_unknown, uint64_t *out, struct err *err)
{
    *out = 0;
    for (size_t i = 0; i < names->len; i++) {
        int number = caps_number(names->items[i]);
        if (number < 0 && skip_unknown)
            continue;
        if (number < 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "unknown capability \"%s\"", names->items[i]);
        *out |= UINT64_C(1) << number;
    }
    return 0;
}

static int plan_caps(struct sandbox_plan *plan, const struct oci_capabilities *caps, struct err *err)
{
    if (!caps)
        return 0; // none at all
    if (plan_caps_of(&caps->bounding, plan->strict, &plan->caps.bounding, err) < 0 ||
        plan_caps_of(&caps->effective, plan->strict, &plan->caps.effective, err) < 0 ||
        plan_caps_of(&caps->permitted, plan->strict, &plan->caps.permitted, err) < 0 ||
        plan_caps_of(&caps->inheritable, plan->strict, &plan->caps.inheritable, err) < 0)
        return -1;
    return plan_caps_of(&caps->ambient, plan->strict, &plan->caps.ambient, err);
}

static int add_rlimit(struct sandbox_plan *plan, const struct oci_rlimit *limit, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(rlimit_names); i++) {
        if (!str_eq(rlimit_names[i].name, limit->type))
            continue;
        // -1 is "unlimited" in a signed document.
        uint64_t soft = limit->soft < 0 ? RLIM_INFINITY : (uint64_t)limit->soft;
        uint64_t hard = limit->hard < 0 ? RLIM_INFINITY : (uint64_t)limit->hard;
        if (soft > hard)
            return err_set(err, ERR_INVALID_ARGUMENT, "%s: soft limit above the hard one", limit->type);
        plan->rlimits[plan->rlimit_len++] = (struct plan_rlimit){ rlimit_names[i].resource, soft, hard };
        return 0;
    }
    return err_set(err, ERR_INVALID_ARGUMENT, "wrong rlimit value: %s", limit->type ? limit->type : "");
}

static int plan_rlimits(struct sandbox_plan *plan, const struct json_list *list, struct err *err)
{
    if (list->len > RLIMITS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d rlimits", RLIMITS_MAX);
    plan->rlimits = arena_alloc(&plan->arena, (list->len + 1) * sizeof(*plan->rlimits));
    const struct oci_rlimit *limits = list->items;
    for (size_t i = 0; i < list->len; i++)
        if (add_rlimit(plan, &limits[i], err) < 0)
            return -1;
    return 0;
}

static int id_of(int64_t value, const char *what, uint32_t *out, struct err *err)
{
    // (uid_t)-1 means "leave as it is" to the kernel and must never come from a document.
    if (value < 0 || value > (int64_t)UINT32_MAX - 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s %lld is out of range", what, (long long)value);
    *out = (uint32_t)value;
    return 0;
}

static int plan_user(struct sandbox_plan *plan, const struct oci_user *user, struct err *err)
{
    struct user_request *out = &plan->user;
    if (id_of(user->uid, "uid", &out->uid, err) < 0 || id_of(user->gid, "gid", &out->gid, err) < 0)
        return -1;
    out->name = str_empty(user->name) ? NULL : arena_strdup(&plan->arena, user->name);
    size_t extra_len = json_array_size(user->additional_gids_raw);
    if (extra_len + user->groups.len > USER_GROUPS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d groups", USER_GROUPS_MAX);
    gid_t *extra = arena_alloc(&plan->arena, (extra_len + 1) * sizeof(gid_t));
    for (size_t i = 0; i < extra_len; i++)
        if (id_of(json_integer_value(json_array_get(user->additional_gids_raw, i)), "gid", &extra[i], err) < 0)
            return -1;
    char **groups = arena_alloc(&plan->arena, (user->groups.len + 1) * sizeof(char *));
    for (size_t i = 0; i < user->groups.len; i++)
        groups[i] = arena_strdup(&plan->arena, user->groups.items[i]);
    out->extra = extra;
    out->extra_len = extra_len;
    out->groups = groups;
    out->group_len = user->groups.len;
    plan->has_umask = user->umask >= 0;
    plan->umask = (mode_t)(user->umask & 0777);
    return 0;
}

static int plan_args(struct sandbox_plan *plan, const struct strv *args, struct err *err)
{
    if (args->len == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "no command specified");
    if (str_empty(args->items[0]))
        return err_set(err, ERR_NOT_FOUND, "exec: \"\": executable file not found in $PATH");
    if (args->len > ARGS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d arguments", ARGS_MAX);
    size_t len = 0;
    plan->argv = arena_alloc(&plan->arena, (args->len + 3) * sizeof(char *));
    if (plan->init_fd >= 0) {
        plan->argv[len++] = arena_strdup(&plan->arena, "/sbin/docker-init");
        plan->argv[len++] = arena_strdup(&plan->arena, "--");
    }
    for (size_t i = 0; i < args->len; i++)
        plan->argv[len++] = arena_strdup(&plan->arena, args->items[i]);
    plan->command = plan->argv[len - args->len];
    return 0;
}

#define AGAIN_MAX 2048 // beyond that nobody compares all with all

static bool set_again(const struct strv *env, size_t index)
{
    size_t size = strcspn(env->items[index], "=") + 1;
    for (size_t i = index + 1; i < env->len && env->len <= AGAIN_MAX; i++)
        if (strncmp(env->items[i], env->items[index], size) == 0)
            return true;
    return false;
}

static int plan_env(struct sandbox_plan *plan, const struct strv *env, struct err *err)
{
    if (env->len > ARGS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d environment variables", ARGS_MAX);
    plan->envp = arena_alloc(&plan->arena, (env->len + 2) * sizeof(char *));
    plan->needs_home = true;
    for (size_t i = 0; i < env->len; i++) {
        if (str_eq(env->items[i], "HOME=") || (plan->strict && set_again(env, i)))
            continue; // an empty one counts as none, and the last of one name wins
        plan->envp[plan->env_len++] = arena_strdup(&plan->arena, env->items[i]);
        if (str_starts(env->items[i], "HOME="))
            plan->needs_home = false;
    }
    return 0;
}

int plan_process(struct sandbox_plan *plan, const struct oci_process *process, struct err *err)
{
    plan->cwd = arena_strdup(&plan->arena, str_empty(process->cwd) ? "/" : process->cwd);
    if (plan->cwd[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "Cwd must be an absolute path");
    plan->terminal = process->terminal;
    plan->rows = (unsigned short)process->console_size.height;
    plan->columns = (unsigned short)process->console_size.width;
    if (plan_args(plan, &process->args, err) < 0 || plan_env(plan, &process->env, err) < 0 ||
        plan_user(plan, &process->user, err) < 0 || plan_caps(plan, process->capabilities, err) < 0)
        return -1;
    return plan_rlimits(plan, &process->rlimits, err);
}

void plan_hooks(struct sandbox_plan *plan, const struct config_hook *hooks, size_t len, bool start)
{
    for (size_t i = 0; i < len; i++) {
        struct op *op = plan_add(plan, OP_HOOK);
        op->path = hooks[i].path;
        op->index = i;
        op->how = start;
    }
}

void plan_process_ops(struct sandbox_plan *plan, const struct oci_process *process)
{
    plan_add(plan, OP_CWD)->path = plan->cwd;
    plan_add(plan, OP_STDIO);
    plan_add(plan, OP_CLOSE);
    plan_add(plan, OP_SESSION);
    for (size_t i = 0; i < plan->rlimit_len; i++)
        plan_add(plan, OP_RLIMIT)->index = i;
    // A filter needs CAP_SYS_ADMIN or no_new_privs: with the latter it is loaded last of all, else before the identity.
    if (process->no_new_privileges)
        plan_add(plan, OP_NO_NEW_PRIVS);
    else if (plan->filter)
        plan_add(plan, OP_SECCOMP);
    plan_add(plan, OP_IDENTITY);
    if (plan->strict)
        plan_add(plan, OP_FIND_COMMAND);
    if (process->no_new_privileges && plan->filter)
        plan_add(plan, OP_SECCOMP);
    plan_add(plan, OP_READY);
    if (plan->hooks)
        plan_hooks(plan, plan->hooks->start_container, plan->hooks->start_container_len, true);
    plan_add(plan, OP_EXEC);
}
