// Instructions that change what a container of the image will be, and nothing else of it; WORKDIR also makes its folder. The texts of the
// history are those of Docker's classic builder.
#include "builder_private.h"

// ---- words ----------------------------------------------------------------------------------------------------------

char *join_words(struct arena *arena, const struct strv *words)
{
    char *text = arena_strdup(arena, words->len ? words->items[0] : "");
    for (size_t i = 1; i < words->len; i++)
        text = arena_printf(arena, "%s %s", text, words->items[i]);
    return text;
}

static void copy_words(struct strv *into, struct arena *arena, const struct strv *from)
{
    *into = (struct strv){ 0 };
    for (size_t i = 0; i < from->len; i++)
        strv_push_arena(into, arena, from->items[i]);
}

char *shell_words(const struct stage *stage)
{
    const struct strv *shell = &stage->config.shell;
    return shell->len ? join_words(stage->build->arena, shell) : arena_strdup(stage->build->arena, "/bin/sh -c");
}

void shell_command(const struct stage *stage, const struct dockerfile_command *command, struct strv *out)
{
    struct arena *arena = stage->build->arena;
    *out = (struct strv){ 0 };
    if (!command->json) {
        copy_words(out, arena, &stage->config.shell);
        if (out->len == 0) {
            strv_push_arena(out, arena, "/bin/sh");
            strv_push_arena(out, arena, "-c");
        }
    }
    for (size_t i = 0; i < command->args.len; i++)
        strv_push_arena(out, arena, command->args.items[i]);
}

char *join_path(struct arena *arena, const char *folder, const char *path)
{
    const char *whole = *path == '/' ? path : arena_printf(arena, "%s/%s", folder ? folder : "", path);
    struct slice rest = slice_of(whole), part;
    char *out = arena_alloc(arena, strlen(whole) + 2);
    size_t used = 0;
    while (slice_cut(&rest, '/', &part)) {
        if (slice_eq(part, ".."))
            while (used > 0 && out[--used] != '/')
                ;
        else if (part.size > 0 && !slice_eq(part, ".")) {
            out[used++] = '/';
            memcpy(out + used, part.data, part.size);
            used += part.size;
        }
    }
    if (used == 0)
        out[used++] = '/';
    out[used] = '\0';
    return out;
}

// As Go prints a list of texts with %q: ["a" "b"].
static char *quoted_words(struct arena *arena, const struct strv *words)
{
    struct buf text = BUF_INIT(DOCKERFILE_SIZE_MAX * 2);
    buf_addc(&text, '[');
    for (size_t i = 0; i < words->len; i++) {
        buf_adds(&text, i ? " " : "");
        buf_add_quoted(&text, words->items[i]);
    }
    buf_addc(&text, ']');
    char *out = arena_strdup(arena, buf_text(&text));
    buf_done(&text);
    return out;
}

static int note(struct stage *stage, const char *comment, struct err *err)
{
    return commit_plain(stage, arena_printf(stage->build->arena, "%s #(nop)  %s", shell_words(stage), comment), err);
}

// ---- instructions ---------------------------------------------------------------------------------------------------

static char *pair_words(struct arena *arena, const struct dockerfile_pairs *pairs)
{
    char *text = arena_strdup(arena, "");
    for (size_t i = 0; i < pairs->len; i++)
        text = arena_printf(arena, pairs->items[i].value ? "%s %s=%s" : "%s %s", text, pairs->items[i].key, pairs->items[i].value);
    return text;
}

static int step_env(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    struct arena *arena = stage->build->arena;
    struct strv env;
    copy_words(&env, arena, &stage->config.env);
    for (size_t i = 0; i < instruction->pairs.len; i++)
        strv_env_set(&env, arena, arena_printf(arena, "%s=%s", instruction->pairs.items[i].key, instruction->pairs.items[i].value));
    stage->config.env = env;
    return note(stage, arena_printf(arena, "ENV%s", pair_words(arena, &instruction->pairs)), err);
}

static void set_label(struct kvs *labels, struct arena *arena, const char *key, const char *value)
{
    struct kvs grown = { arena_alloc(arena, (labels->len + 1) * sizeof(struct kv)), 0 };
    for (size_t i = 0; i < labels->len; i++)
        if (!str_eq(labels->items[i].key, key))
            grown.items[grown.len++] = labels->items[i];
    grown.items[grown.len++] = (struct kv){ (char *)key, (char *)value };
    *labels = grown;
}

static int step_label(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    struct arena *arena = stage->build->arena;
    for (size_t i = 0; i < instruction->pairs.len; i++)
        set_label(&stage->config.labels, arena, instruction->pairs.items[i].key, instruction->pairs.items[i].value);
    return note(stage, arena_printf(arena, "LABEL%s", pair_words(arena, &instruction->pairs)), err);
}

static int step_arg(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    return note(stage, arena_printf(stage->build->arena, "ARG%s", pair_words(stage->build->arena, &instruction->pairs)), err);
}

static int step_command(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    shell_command(stage, &instruction->command, &stage->config.cmd);
    stage->command_set = true;
    return note(stage, arena_printf(stage->build->arena, "CMD %s", quoted_words(stage->build->arena, &stage->config.cmd)), err);
}

// An inherited command belongs to the entrypoint before.
static int step_entrypoint(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    shell_command(stage, &instruction->command, &stage->config.entrypoint);
    if (!stage->command_set)
        stage->config.cmd = (struct strv){ 0 };
    return note(stage, arena_printf(stage->build->arena, "ENTRYPOINT %s", quoted_words(stage->build->arena, &stage->config.entrypoint)), err);
}

static void add_once(struct strv *into, struct arena *arena, const struct strv *from)
{
    struct strv grown;
    copy_words(&grown, arena, into);
    for (size_t i = 0; i < from->len; i++)
        if (!strv_has(&grown, from->items[i]))
            strv_push_arena(&grown, arena, from->items[i]);
    *into = grown;
}

static int step_expose(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    struct arena *arena = stage->build->arena;
    add_once(&stage->config.exposed_ports, arena, &instruction->list);
    return note(stage, arena_printf(arena, "EXPOSE %s", join_words(arena, &instruction->list)), err);
}

static int step_volume(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    struct arena *arena = stage->build->arena;
    for (size_t i = 0; i < instruction->list.len; i++)
        if (str_empty(instruction->list.items[i]))
            return err_set(err, ERR_INVALID_ARGUMENT, "VOLUME specified can not be an empty string");
    add_once(&stage->config.volumes, arena, &instruction->list);
    return note(stage, arena_printf(arena, "VOLUME [%s]", join_words(arena, &instruction->list)), err);
}

static int step_user(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    stage->config.user = (char *)instruction->value;
    return note(stage, arena_printf(stage->build->arena, "USER %s", instruction->value), err);
}

static int step_shell(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    struct arena *arena = stage->build->arena;
    copy_words(&stage->config.shell, arena, &instruction->command.args);
    return note(stage, arena_printf(arena, "SHELL [%s]", join_words(arena, &stage->config.shell)), err);
}

static int step_stopsignal(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    int number;
    if (signal_parse(instruction->value, &number, err) < 0)
        return -1;
    stage->config.stop_signal = (char *)instruction->value;
    return note(stage, arena_printf(stage->build->arena, "STOPSIGNAL %s", instruction->value), err);
}

static int step_healthcheck(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    const struct healthcheck_fields *said = &instruction->healthcheck;
    struct arena *arena = stage->build->arena;
    struct oci_healthcheck *check = arena_alloc(arena, sizeof(*check));
    *check = (struct oci_healthcheck){ .interval = said->interval_ns, .timeout = said->timeout_ns, .start_period = said->start_period_ns,
                                       .start_interval = said->start_interval_ns, .retries = said->retries };
    copy_words(&check->test, arena, &said->test);
    stage->config.healthcheck = check;
    return note(stage, instruction->text, err);
}

static int step_onbuild(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    struct strv triggers;
    copy_words(&triggers, stage->build->arena, &stage->config.on_build);
    strv_push_arena(&triggers, stage->build->arena, instruction->value);
    stage->config.on_build = triggers;
    return note(stage, arena_printf(stage->build->arena, "ONBUILD %s", instruction->value), err);
}

static int step_maintainer(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    stage->author = instruction->value;
    return note(stage, arena_printf(stage->build->arena, "MAINTAINER %s", instruction->value), err);
}

// ---- WORKDIR --------------------------------------------------------------------------------------------------------

const char *owner_words(struct arena *arena, const char *owner)
{
    if (str_empty(owner))
        return NULL;
    return owner[strspn(owner, "0123456789")] ? owner : arena_printf(arena, "%s:%s", owner, owner);
}

static int make_workdir(struct stage *stage, const char *created_by, struct err *err)
{
    struct build *build = stage->build;
    const struct step_place place = { .target = stage->config.working_dir, .folder = true, .owner = owner_words(build->arena, stage->config.user), .mode = -1,
                                      .time_max = build->time_max, .now = build->created_ns / NS_PER_S };
    const struct step step = step_of(stage, created_by);
    char *id;
    if (step_place(build->engine, &step, &place, NULL, build->arena, &id, build->cancel, err) < 0)
        return -1;
    stage->image = id;
    return 0;
}

static int step_workdir(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    struct arena *arena = stage->build->arena;
    char key[OCI_DIGEST_SIZE];
    stage->config.working_dir = join_path(arena, stage->config.working_dir, instruction->value);
    const char *created_by = arena_printf(arena, "%s #(nop) WORKDIR %s", shell_words(stage), stage->config.working_dir), *parent = stage->image;
    cache_key(stage, created_by, "", key);
    int hit = cache_find(stage, key, created_by, err);
    if (hit != 0)
        return hit < 0 ? -1 : 0;
    if (make_workdir(stage, created_by, err) < 0)
        return -1;
    cache_put(stage, key, parent, created_by);
    return 0;
}

// ---- the table ------------------------------------------------------------------------------------------------------

int step_config(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    static int (*const steps[INSTRUCTION_KIND_COUNT])(struct stage *, const struct instruction *, struct err *) = {
        [INSTRUCTION_ARG] = step_arg,
        [INSTRUCTION_CMD] = step_command,
        [INSTRUCTION_ENTRYPOINT] = step_entrypoint,
        [INSTRUCTION_ENV] = step_env,
        [INSTRUCTION_EXPOSE] = step_expose,
        [INSTRUCTION_HEALTHCHECK] = step_healthcheck,
        [INSTRUCTION_LABEL] = step_label,
        [INSTRUCTION_MAINTAINER] = step_maintainer,
        [INSTRUCTION_ONBUILD] = step_onbuild,
        [INSTRUCTION_SHELL] = step_shell,
        [INSTRUCTION_STOPSIGNAL] = step_stopsignal,
        [INSTRUCTION_USER] = step_user,
        [INSTRUCTION_VOLUME] = step_volume,
        [INSTRUCTION_WORKDIR] = step_workdir,
    };
    return steps[instruction->kind](stage, instruction, err);
}
