// Rules that need the state at an instruction: its variables, the working directory, what came before it in the stage.
#include <ctype.h>
#include <strings.h>

#include "build/lint_private.h"

// A stage as it stands after its last instruction; the next one may be built on it.
struct passage {
    struct scope scope;
    bool base_known; // the base image's environment is
    bool workdir_set;
    bool shell_set;
};

struct visit {
    struct linting *run;
    struct passage *passage;
    const struct instruction *cmd, *entrypoint, *healthcheck; // the last of each in this stage
};

// ---- variables ----

static void undefined(struct visit *visit, const struct instruction *at, const struct strv *unmatched)
{
    struct linting *run = visit->run;
    const struct scope *scope = &visit->passage->scope;
    struct strv names = { 0 };
    if (!visit->passage->base_known || !unmatched->len)
        return;
    const struct strv *lists[] = { &scope->env, &scope->set };
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->len; i++)
            strv_push_arena(&names, run->arena, arena_strndup(run->arena, lists[l]->items[i], strcspn(lists[l]->items[i], "=")));
    for (size_t i = 0; i < unmatched->len; i++)
        if (!strv_has(&scope->declared, unmatched->items[i]))
            lint_warn(run, LINT_UNDEFINED_VAR, &at->comments, at->place, "Usage of undefined variable '$%s'%s", unmatched->items[i],
                      lint_hint(run, "$", unmatched->items[i], &names));
}

// Words that name something whose value should not be kept, unless they say that it is no secret.
static bool has_word(const char *name, const char *const *words, size_t len)
{
    for (const char *part = name; part; part = strchr(part, '_')) {
        part += *part == '_';
        size_t size = strcspn(part, "_");
        for (size_t i = 0; i < len; i++)
            if (strlen(words[i]) == size && strncasecmp(part, words[i], size) == 0)
                return true;
    }
    return false;
}

static void secret_name(struct visit *visit, const struct instruction *at, const char *name)
{
    static const char *const secret[] = { "apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token" };
    static const char *const plain[] = { "public", "file", "version" };
    if (has_word(name, secret, ARRAY_LEN(secret)) && !has_word(name, plain, ARRAY_LEN(plain)))
        lint_warn(visit->run, LINT_SECRETS_USED_IN_ARG_OR_ENV, &at->comments, at->place, "Do not use ARG or ENV instructions for sensitive data (%s \"%s\")",
                  instruction_kind_name(at->kind), name);
}

static void pairs(struct visit *visit, const struct instruction *at)
{
    for (size_t i = 0; i < at->pairs.len; i++) {
        if (at->pairs.items[i].legacy)
            lint_warn(visit->run, LINT_LEGACY_KEY_VALUE_FORMAT, &at->comments, at->place, "\"%s key=value\" should be used instead of legacy \"%s key value\" format",
                      at->name, at->name);
        if (at->kind != INSTRUCTION_LABEL)
            secret_name(visit, at, at->pairs.items[i].key);
    }
}

// The defaults of an ARG, each with what stands before it; what the client gave is taken as it is.
static int arg(struct visit *visit, const struct instruction *at)
{
    struct linting *run = visit->run;
    pairs(visit, at);
    for (size_t i = 0; i < at->pairs.len; i++) {
        struct strv unmatched = { 0 };
        struct words words = { .arena = run->arena, .escape = run->file->escape, .lookup = scope_lookup, .of = &visit->passage->scope, .unmatched = &unmatched };
        struct instruction one = *at;
        const char *value = at->pairs.items[i].value, *got;
        one.pairs = (struct dockerfile_pairs){ &at->pairs.items[i], 1 };
        if (value && !kvs_get(&run->input->args->given, at->pairs.items[i].key) && words_expand(&words, value, &got, NULL) < 0)
            return -1;
        undefined(visit, at, &unmatched);
        if (scope_apply(&visit->passage->scope, &one, run->file->escape, NULL) < 0)
            return -1;
    }
    return 0;
}

// ---- instructions ----

static void once(struct visit *visit, const struct instruction *at, const struct instruction **last)
{
    if (*last)
        lint_warn(visit->run, LINT_MULTIPLE_INSTRUCTIONS_DISALLOWED, &at->comments, (*last)->place,
                  "Multiple %s instructions should not be used in the same stage because only the last one will be used", at->name);
    *last = at;
}

static void command(struct visit *visit, const struct instruction *at)
{
    once(visit, at, at->kind == INSTRUCTION_CMD ? &visit->cmd : &visit->entrypoint);
    if (!at->command.json && !visit->passage->shell_set)
        lint_warn(visit->run, LINT_JSON_ARGS_RECOMMENDED, &at->comments, at->place,
                  "JSON arguments recommended for %s to prevent unintended behavior related to OS signals", at->name);
}

static void workdir(struct visit *visit, const struct instruction *at, const char *path)
{
    if (!visit->passage->workdir_set && *path != '/')
        lint_warn(visit->run, LINT_WORKDIR_RELATIVE_PATH, &at->comments, at->place, "Relative workdir %s can have unexpected results if the base image changes",
                  quoted(path, visit->run->arena));
    visit->passage->workdir_set = true;
}

static void port(struct visit *visit, const struct instruction *at, const char *word)
{
    const char *colon = strrchr(word, ':'), *slash = strchr(colon ? colon : word, '/');
    if (slash && !lint_is_lower(slash))
        lint_warn(visit->run, LINT_EXPOSE_PROTO_CASING, &at->comments, at->place, "Defined protocol '%s' in EXPOSE instruction should be lowercase", word);
    if (colon && colon > word + strspn(word, ":"))
        lint_warn(visit->run, LINT_EXPOSE_INVALID_FORMAT, &at->comments, at->place,
                  "EXPOSE instruction should not define an IP address or host-port mapping, found '%s'", word);
}

// The words as they are before they become ports.
static void expose(struct visit *visit, const struct instruction *at)
{
    struct words words = { .arena = visit->run->arena, .escape = visit->run->file->escape, .lookup = scope_lookup, .of = &visit->passage->scope };
    for (size_t i = 0; i < at->list.len; i++) {
        struct strv ports = { 0 };
        if (words_split(&words, at->list.items[i], &ports, NULL) < 0)
            return;
        for (size_t j = 0; j < ports.len; j++)
            port(visit, at, ports.items[j]);
    }
}

static bool is_remote(const char *source)
{
    return strstr(source, "://") || str_starts(source, "git@");
}

static void copy_source(struct visit *visit, const struct instruction *at, const char *source)
{
    const struct ignore *ignore = visit->run->input->ignore;
    // "/a", "./a" and "a//" are "a": cleaned as a pattern is.
    while (*source == '/' || str_starts(source, "./"))
        source += *source == '/' ? 1 : 2;
    size_t size = strlen(source);
    while (size && source[size - 1] == '/')
        size--;
    const char *path = arena_strndup(visit->run->arena, source, size);
    bool root = !*path || str_eq(path, ".");
    if (root ? ignore_hides_root(ignore) : ignore_match(ignore, path))
        lint_warn(visit->run, LINT_COPY_IGNORED_FILE, &at->comments, at->place, "Attempting to %s file \"%s\" that is excluded by .dockerignore",
                  at->kind == INSTRUCTION_ADD ? "Add" : "Copy", root ? "." : path);
}

static void copy(struct visit *visit, const struct instruction *at, const struct copy_fields *fields)
{
    const struct ignore *ignore = visit->run->input->ignore;
    if (!ignore || ignore_has_exceptions(ignore) || fields->from)
        return;
    for (size_t i = 0; i < fields->sources.len; i++)
        if (at->kind == INSTRUCTION_COPY || !is_remote(fields->sources.items[i]))
            copy_source(visit, at, fields->sources.items[i]);
}

// ---- a stage ----

static int instruction(struct visit *visit, const struct instruction *at)
{
    struct linting *run = visit->run;
    struct strv unmatched = { 0 };
    struct words words = { .arena = run->arena, .escape = run->file->escape, .lookup = scope_lookup, .of = &visit->passage->scope, .unmatched = &unmatched };
    struct instruction expanded;
    if (at->kind == INSTRUCTION_ARG)
        return arg(visit, at);
    if (at->kind == INSTRUCTION_EXPOSE) {
        expose(visit, at);
        return 0;
    }
    if (instruction_expand(at, &words, &expanded, NULL) < 0)
        return -1;
    undefined(visit, at, &unmatched);
    switch (at->kind) {
    case INSTRUCTION_ENV:
    case INSTRUCTION_LABEL: pairs(visit, &expanded); break;
    case INSTRUCTION_CMD:
    case INSTRUCTION_ENTRYPOINT: command(visit, at); break;
    case INSTRUCTION_HEALTHCHECK: once(visit, at, &visit->healthcheck); break;
    case INSTRUCTION_WORKDIR: workdir(visit, at, expanded.value); break;
    case INSTRUCTION_SHELL: visit->passage->shell_set = true; break;
    case INSTRUCTION_ADD:
    case INSTRUCTION_COPY: copy(visit, at, &expanded.copy); break;
    default: break;
    }
    return scope_apply(&visit->passage->scope, &expanded, run->file->escape, NULL);
}

// What a stage starts with: the stage below it as that ended, or its image's environment, where somebody knows it.
static void start(struct linting *run, const struct scope *global, const struct graph *graph, size_t at, struct passage *passages)
{
    const struct graph_node *node = &graph->nodes[at];
    struct passage *passage = &passages[at];
    const struct strv *env = NULL;
    if (node->origin == GRAPH_STAGE) {
        *passage = passages[node->base_stage];
        scope_inherit(&passages[node->base_stage].scope, &passage->scope);
        return;
    }
    if (node->origin == GRAPH_IMAGE && run->input->base_env)
        env = run->input->base_env(run->input->of, at, node->base);
    scope_stage(global, env, &passage->scope);
    if (!strv_env(&passage->scope.env, "PATH"))
        strv_push_arena(&passage->scope.env, run->arena, "PATH="); // there always is one
    passage->base_known = env || node->origin == GRAPH_SCRATCH;
}

void lint_stages(struct linting *run, const struct scope *global)
{
    struct graph *graph;
    struct passage *passages = arena_alloc(run->arena, run->file->len * sizeof(*passages));
    if (graph_make(run->file, global, run->input->target, run->arena, &graph, NULL, NULL) < 0)
        return;
    for (size_t i = 0; i < graph->len; i++) {
        struct visit visit = { .run = run, .passage = &passages[i] };
        const struct dockerfile_stage *stage = graph->nodes[i].stage;
        start(run, global, graph, i, passages);
        if ((run->input->needed || !str_empty(run->input->target)) && !graph->nodes[i].needed)
            continue;
        for (size_t j = 0; j < stage->len; j++)
            if (instruction(&visit, &stage->instructions[j]) < 0)
                return;
    }
}
