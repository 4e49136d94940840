#include "changes.h"
#include "base/buf.h"
#include "build/dockerfile.h"
#include "build/words.h"

#define CHANGES_MAX 1000 // instructions
#define CHANGES_TEXT_MAX ((size_t)1 << 20)

struct change {
    struct oci_image_process *config;
    struct arena *arena;
    bool has_command; // CMD stood before
};

// The environment as it is before the instruction.
static const char *lookup(void *of, const char *name)
{
    const struct change *change = of;
    return strv_env(&change->config->env, name);
}

static void add_each(struct strv *list, struct arena *arena, const struct strv *texts)
{
    for (size_t i = 0; i < texts->len; i++)
        if (!strv_has(list, texts->items[i]))
            strv_push_arena(list, arena, texts->items[i]);
}

// ---- instructions ---------------------------------------------------------------------------------------------------

static int command(struct change *change, const struct instruction *at, struct strv *out, struct err *err)
{
    *out = at->command.args;
    if (at->command.json)
        return 0;
    if (!out->len)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s requires at least one argument", instruction_kind_name(at->kind));
    *out = (struct strv){ 0 };
    strv_push_arena(out, change->arena, "/bin/sh");
    strv_push_arena(out, change->arena, "-c");
    strv_push_arena(out, change->arena, at->command.args.items[0]);
    return 0;
}

static int change_cmd(struct change *change, const struct instruction *at, struct err *err)
{
    change->has_command = true;
    return command(change, at, &change->config->cmd, err);
}

static int change_entrypoint(struct change *change, const struct instruction *at, struct err *err)
{
    if (!change->has_command) // what was the command belongs to the entrypoint before
        change->config->cmd = (struct strv){ 0 };
    return command(change, at, &change->config->entrypoint, err);
}

static int change_env(struct change *change, const struct instruction *at, struct err *err)
{
    for (size_t i = 0; i < at->pairs.len; i++)
        strv_env_set(&change->config->env, change->arena, arena_printf(change->arena, "%s=%s", at->pairs.items[i].key, at->pairs.items[i].value));
    return 0;
}

static void set_label(struct kvs *labels, struct arena *arena, const struct dockerfile_pair *label)
{
    struct kv made = { arena_strdup(arena, label->key), arena_strdup(arena, label->value) };
    for (size_t i = 0; i < labels->len; i++) {
        if (str_eq(labels->items[i].key, label->key)) {
            labels->items[i].value = made.value;
            return;
        }
    }
    struct kv *items = arena_alloc(arena, (labels->len + 1) * sizeof(*items));
    if (labels->len > 0)
        memcpy(items, labels->items, labels->len * sizeof(*items));
    items[labels->len] = made;
    labels->items = items;
    labels->len++;
}

static int change_label(struct change *change, const struct instruction *at, struct err *err)
{
    for (size_t i = 0; i < at->pairs.len; i++)
        set_label(&change->config->labels, change->arena, &at->pairs.items[i]);
    return 0;
}

static int change_list(struct change *change, const struct instruction *at, struct err *err)
{
    add_each(at->kind == INSTRUCTION_EXPOSE ? &change->config->exposed_ports : &change->config->volumes, change->arena, &at->list);
    return 0;
}

static int change_value(struct change *change, const struct instruction *at, struct err *err)
{
    char **place = at->kind == INSTRUCTION_USER ? &change->config->user : &change->config->stop_signal;
    *place = arena_strdup(change->arena, at->value);
    return 0;
}

static int change_workdir(struct change *change, const struct instruction *at, struct err *err)
{
    change->config->working_dir = arena_strdup(change->arena, dockerfile_workdir(change->config->working_dir, at->value, change->arena));
    return 0;
}

static int change_onbuild(struct change *change, const struct instruction *at, struct err *err)
{
    strv_push_arena(&change->config->on_build, change->arena, at->value);
    return 0;
}

static int change_healthcheck(struct change *change, const struct instruction *at, struct err *err)
{
    const struct healthcheck_fields *health = &at->healthcheck;
    struct oci_healthcheck *check = arena_alloc(change->arena, sizeof(*check));
    *check = (struct oci_healthcheck){ .test = health->test, .interval = health->interval_ns, .timeout = health->timeout_ns,
                                       .start_period = health->start_period_ns, .start_interval = health->start_interval_ns,
                                       .retries = health->retries };
    change->config->healthcheck = check;
    return 0;
}

// ---- the whole ------------------------------------------------------------------------------------------------------

// Those that Docker allows: everything else needs a build.
static const char *const allowed[] = { "CMD",  "ENTRYPOINT", "ENV",  "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL",
                                       "USER", "VOLUME",     "WORKDIR", NULL };

static int (*const applies[INSTRUCTION_KIND_COUNT])(struct change *change, const struct instruction *at, struct err *err) = {
    [INSTRUCTION_CMD] = change_cmd,         [INSTRUCTION_ENTRYPOINT] = change_entrypoint,   [INSTRUCTION_ENV] = change_env,
    [INSTRUCTION_EXPOSE] = change_list,     [INSTRUCTION_HEALTHCHECK] = change_healthcheck, [INSTRUCTION_LABEL] = change_label,
    [INSTRUCTION_ONBUILD] = change_onbuild, [INSTRUCTION_STOPSIGNAL] = change_value,        [INSTRUCTION_USER] = change_value,
    [INSTRUCTION_VOLUME] = change_list,     [INSTRUCTION_WORKDIR] = change_workdir,
};

static int apply(struct change *change, const struct instruction *instruction, struct err *err)
{
    struct words words = { .arena = change->arena, .escape = '\\', .lookup = lookup, .of = change };
    struct instruction expanded;
    return instruction_expand(instruction, &words, &expanded, err) < 0 ? -1 : applies[expanded.kind](change, &expanded, err);
}

int changes_apply(const struct strv *changes, struct oci_image_process *config, struct arena *arena, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(CHANGES_TEXT_MAX);
    struct change change = { .config = config, .arena = arena };
    struct instruction *list;
    size_t len;
    for (size_t i = 0; i < changes->len; i++)
        buf_addf(&text, "%s\n", changes->items[i]);
    if (buf_check(&text, "changes", err) < 0)
        return -1;
    if (!text.size)
        return 0;
    if (dockerfile_parse_changes((struct slice){ text.data, text.size }, allowed, arena, &list, &len, err) < 0)
        return -1;
    if (len > CHANGES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d changes", CHANGES_MAX);
    for (size_t i = 0; i < len; i++)
        if (apply(&change, &list[i], err) < 0)
            return -1;
    return 0;
}
