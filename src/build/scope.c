#include <strings.h>

#include "build/build_private.h"
#include "build/scope.h"

bool scope_is_proxy(const char *name)
{
    static const char *const names[] = { "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

// What a client may give without any ARG: it is for the builder, or is there in every FROM line.
static bool is_builtin(const char *name)
{
    static const char *const rest[] = { "OS", "OSVERSION", "ARCH", "VARIANT", "PLATFORM", "STAGE" };
    if (str_starts(name, "BUILDKIT_") || str_eq(name, "SOURCE_DATE_EPOCH"))
        return true;
    const char *tail = str_starts(name, "TARGET") ? name + 6 : str_starts(name, "BUILD") ? name + 5 : "";
    for (size_t i = 0; i < ARRAY_LEN(rest); i++)
        if (str_eq(tail, rest[i]))
            return true;
    return false;
}

static const char *given(const struct build_args *args, const char *name)
{
    for (size_t i = 0; i < args->given.len; i++)
        if (str_eq(args->given.items[i].key, name) && args->given.items[i].value)
            return args->given.items[i].value;
    return NULL;
}

static int put(struct scope *scope, struct strv *list, const char *name, const char *value, struct err *err)
{
    if (strlen(name) + 1 + strlen(value) > SCOPE_VALUE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "the value of %.64s is longer than %d bytes", name, SCOPE_VALUE_MAX);
    strv_env_set(list, scope->arena, arena_printf(scope->arena, "%s=%s", name, value));
    if (scope->env.len + scope->set.len > SCOPE_VARIABLES_MAX || scope->declared.len > SCOPE_VARIABLES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "the Dockerfile has more than %d variables", SCOPE_VARIABLES_MAX);
    return memory_check(scope->arena, err);
}

const char *scope_lookup(void *of, const char *name)
{
    const struct scope *scope = of;
    const char *first = strv_env(scope->env_wins ? &scope->env : &scope->set, name);
    return first ? first : strv_env(scope->env_wins ? &scope->set : &scope->env, name);
}

static int arg_apply(struct scope *scope, const struct dockerfile_pair *pair, char escape, struct err *err)
{
    struct words words = { .arena = scope->arena, .escape = escape, .lookup = scope_lookup, .of = scope };
    const char *value = given(scope->args, pair->key);
    if (!value && pair->value) {
        if (words_expand(&words, pair->value, &value, err) < 0)
            return -1;
    } else if (!value && scope->global) {
        value = scope_lookup((void *)scope->global, pair->key);
    }
    if (!strv_has(&scope->declared, pair->key))
        strv_push_arena(&scope->declared, scope->arena, pair->key);
    if (scope->declared.len > SCOPE_VARIABLES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "the Dockerfile has more than %d variables", SCOPE_VARIABLES_MAX);
    return value ? put(scope, &scope->set, pair->key, value, err) : 0;
}

// An ENV beats the ARG of its name from here on.
static int env_apply(struct scope *scope, const struct dockerfile_pair *pair, struct err *err)
{
    if (strv_env(&scope->set, pair->key))
        strv_env_set(&scope->set, scope->arena, pair->key);
    return put(scope, &scope->env, pair->key, pair->value, err);
}

int scope_apply(struct scope *scope, const struct instruction *instruction, char escape, struct err *err)
{
    const struct dockerfile_pairs *pairs = &instruction->pairs;
    if (instruction->kind != INSTRUCTION_ARG && instruction->kind != INSTRUCTION_ENV)
        return 0;
    for (size_t i = 0; i < pairs->len; i++)
        if ((instruction->kind == INSTRUCTION_ARG ? arg_apply(scope, &pairs->items[i], escape, err) : env_apply(scope, &pairs->items[i], err)) < 0)
            return -1;
    return 0;
}

// ---- the scope of FROM ----

struct platform {
    const char *os, *arch, *variant;
};

static struct platform platform_split(const char *text, struct arena *arena)
{
    struct platform out = { "", "", "" };
    const char **const parts[] = { &out.os, &out.arch, &out.variant };
    struct slice rest = slice_of(text ? text : ""), part;
    for (size_t i = 0; i < ARRAY_LEN(parts) && slice_cut(&rest, '/', &part); i++)
        *parts[i] = arena_strndup(arena, part.data, part.size);
    return out;
}

static int automatic(struct scope *scope, const char *name, const char *value, struct err *err)
{
    const char *instead = given(scope->args, name);
    return put(scope, &scope->set, name, instead ? instead : value, err);
}

static int platform_args(struct scope *scope, const char *prefix, const char *platform, struct err *err)
{
    struct platform parts = platform_split(platform, scope->arena);
    const struct {
        const char *name, *value;
    } rows[] = { { "PLATFORM", platform ? platform : "" }, { "OS", parts.os }, { "OSVERSION", "" }, { "ARCH", parts.arch }, { "VARIANT", parts.variant } };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (automatic(scope, arena_printf(scope->arena, "%s%s", prefix, rows[i].name), rows[i].value, err) < 0)
            return -1;
    return 0;
}

int scope_global(const struct dockerfile *file, const struct build_args *args, struct arena *arena, struct scope *out, struct err *err)
{
    const char *last = file->stages[file->len - 1].name;
    const char *target = str_empty(args->target_stage) ? last : args->target_stage;
    *out = (struct scope){ .arena = arena, .args = args };
    if (platform_args(out, "BUILD", args->build_platform, err) < 0 || platform_args(out, "TARGET", args->target_platform, err) < 0 ||
        automatic(out, "TARGETSTAGE", target ? target : "default", err) < 0)
        return -1;
    for (size_t i = 0; i < file->globals_len; i++)
        if (scope_apply(out, &file->globals[i], file->escape, err) < 0)
            return -1;
    return 0;
}

// ---- stages ----

static struct strv list_copy(const struct strv *in, struct arena *arena)
{
    struct strv out = { .items = arena_alloc(arena, (in->len + 1) * sizeof(char *)), .len = in->len };
    if (in->len)
        memcpy(out.items, in->items, in->len * sizeof(char *));
    return out;
}

void scope_stage(const struct scope *global, const struct strv *env, struct scope *out)
{
    *out = (struct scope){ .arena = global->arena, .args = global->args, .global = global, .env_wins = global->env_wins };
    if (env)
        out->env = list_copy(env, global->arena);
}

void scope_copy(const struct scope *in, struct scope *out)
{
    struct scope copy = *in;
    copy.env = list_copy(&in->env, in->arena);
    copy.set = list_copy(&in->set, in->arena);
    copy.declared = list_copy(&in->declared, in->arena);
    *out = copy;
}

void scope_inherit(const struct scope *in, struct scope *out)
{
    scope_copy(in, out);
    for (size_t i = 0; i < out->env.len; i++) {
        const char *name = arena_strndup(out->arena, out->env.items[i], strcspn(out->env.items[i], "="));
        if (strv_env(&out->set, name))
            strv_env_set(&out->set, out->arena, name);
    }
}

// ---- what a RUN gets ----

void scope_run_env(const struct scope *scope, struct arena *arena, struct strv *out)
{
    const struct kvs *args = &scope->args->given;
    *out = (struct strv){ 0 };
    for (size_t i = 0; i < scope->env.len; i++)
        strv_push_arena(out, arena, scope->env.items[i]);
    for (size_t i = 0; i < scope->set.len; i++) {
        const char *entry = scope->set.items[i];
        const char *name = arena_strndup(arena, entry, strcspn(entry, "="));
        bool sbom = str_eq(name, "BUILDKIT_SBOM_SCAN_CONTEXT") || str_eq(name, "BUILDKIT_SBOM_SCAN_STAGE"); // for the builder alone
        if (!sbom && !(scope->env_wins && strv_env(&scope->env, name)))
            strv_env_set(out, arena, entry);
    }
    for (size_t i = 0; i < args->len; i++)
        if (args->items[i].value && scope_is_proxy(args->items[i].key) && !strv_env(out, args->items[i].key))
            strv_push_arena(out, arena, arena_printf(arena, "%s=%s", args->items[i].key, args->items[i].value));
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort(struct strv *list)
{
    if (list->len)
        qsort(list->items, list->len, sizeof(*list->items), by_text);
}

void scope_run_args(const struct scope *scope, struct arena *arena, struct strv *out)
{
    *out = (struct strv){ 0 };
    for (size_t i = 0; i < scope->set.len; i++) {
        const char *entry = scope->set.items[i];
        const char *name = arena_strndup(arena, entry, strcspn(entry, "="));
        if (!(scope->env_wins && strv_env(&scope->env, name)))
            strv_push_arena(out, arena, entry);
    }
    sort(out);
}

// ---- what nobody asked for ----

static bool declares(const struct instruction *instructions, size_t len, const char *name)
{
    for (size_t i = 0; i < len; i++)
        for (size_t j = 0; instructions[i].kind == INSTRUCTION_ARG && j < instructions[i].pairs.len; j++)
            if (str_eq(instructions[i].pairs.items[j].key, name))
                return true;
    return false;
}

void scope_unused(const struct dockerfile *file, const struct build_args *args, struct arena *arena, struct strv *out)
{
    *out = (struct strv){ 0 };
    for (size_t i = 0; i < args->given.len; i++) {
        const char *name = args->given.items[i].key;
        bool declared = scope_is_proxy(name) || is_builtin(name) || declares(file->globals, file->globals_len, name);
        for (size_t j = 0; j < file->len && !declared; j++)
            declared = declares(file->stages[j].instructions, file->stages[j].len, name);
        if (!declared)
            strv_push_arena(out, arena, name);
    }
    sort(out);
}
