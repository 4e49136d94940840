#include <inttypes.h>
#include <linux/mount.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "plan.h"

static const struct {
    uint64_t flag;
    const char *word;
} attr_words[] = {
    { MOUNT_ATTR_RDONLY, "ro" },     { MOUNT_ATTR_NOSUID, "nosuid" },           { MOUNT_ATTR_NODEV, "nodev" },
    { MOUNT_ATTR_NOEXEC, "noexec" }, { MOUNT_ATTR_STRICTATIME, "strictatime" }, { MOUNT_ATTR_NOATIME, "noatime" },
    { MOUNT_ATTR_NODIRATIME, "nodiratime" },
};

static void print_attrs(uint64_t attrs, FILE *to)
{
    for (size_t i = 0; i < ARRAY_LEN(attr_words); i++)
        if (attrs & attr_words[i].flag)
            fprintf(to, " %s", attr_words[i].word);
}

static void print_mount(const struct op *op, FILE *to)
{
    print_attrs(op->flags, to);
    for (size_t i = 0; i < op->option_len; i++) {
        if (op->options[i].value)
            fprintf(to, " %s=%s", op->options[i].key, op->options[i].value);
        else
            fprintf(to, " %s", op->options[i].key);
    }
}

static const char *const slot_paths[SLOT_COUNT] = { "", "/proc/", "/sys/", "/dev/", "/dev/pts/", "/sys/fs/cgroup/" };

static void print_op(const struct sandbox_plan *plan, const struct op *op, FILE *to)
{
    bool relative = op->path && op->path[0] != '/' && op->slot != SLOT_NONE;
    fprintf(to, "%s", op_kinds[op->type].name);
    if (op->path)
        fprintf(to, " %s%s", relative ? slot_paths[op->slot] : "", op->path);
    if (op->text)
        fprintf(to, "%s %s", op->type == OP_LINK ? " ->" : op->type == OP_SYSCTL ? " =" : "", op->text);
    if (op->type == OP_MOUNT || op->type == OP_NEW_MOUNT || op->type == OP_TMPFS || op->type == OP_BIND || op->type == OP_FILESYSTEM ||
        op->type == OP_REMOUNT || op->type == OP_SEAL)
        print_mount(op, to);
    if (op->type == OP_NODE)
        fprintf(to, " %c %u:%u %04o", S_ISBLK(op->mode) ? 'b' : S_ISFIFO(op->mode) ? 'p' : 'c', major(op->device),
                minor(op->device), op->mode & 07777);
    if (op->type == OP_STAGE)
        fprintf(to, " (%s)", op->how == SANDBOX_STAGE_MAPS ? "id maps" : op->how == SANDBOX_STAGE_MOUNTED ? "hooks" : "listener");
    if (op->type == OP_HOOK)
        fprintf(to, " (%s)", op->how ? "startContainer" : "createContainer");
    if (op->type == OP_JOIN_NAMESPACE)
        fprintf(to, " %#" PRIx64, op->flags);
    if (op->type == OP_RLIMIT) {
        const struct plan_rlimit *limit = &plan->rlimits[op->index];
        fprintf(to, " %d %" PRIu64 " %" PRIu64, limit->resource, limit->soft, limit->hard);
    }
    if (op->type == OP_SECCOMP)
        fprintf(to, " (%zu instructions)", plan->filter->len);
    fputc('\n', to);
}

static void print_words(const char *title, char *const *words, FILE *to)
{
    fprintf(to, "%s", title);
    for (; words && *words; words++)
        fprintf(to, " \"%s\"", *words);
    fputc('\n', to);
}

void sandbox_plan_print(const struct sandbox_plan *plan, FILE *to)
{
    fprintf(to, "clone %#" PRIx64 "\n", plan->clone_flags);
    for (size_t i = 0; i < plan->op_len; i++)
        print_op(plan, &plan->ops[i], to);
    if (plan->user.name)
        fprintf(to, "user %s\n", plan->user.name);
    else
        fprintf(to, "user %u:%u\n", plan->user.uid, plan->user.gid);
    fprintf(to, "capabilities bounding %#" PRIx64 " effective %#" PRIx64 " ambient %#" PRIx64 "\n", plan->caps.bounding,
            plan->caps.effective, plan->caps.ambient);
    print_words("arguments", plan->argv, to);
}
