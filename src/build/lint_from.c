// Rules about FROM lines: their variables, their platforms, and whether the defaults alone name an image.
#include <ctype.h>
#include <strings.h>

#include "build/lint_private.h"

// ---- names of images ----

// "a-z0-9" with '.', '_', '__' or dashes between.
static bool component_valid(struct slice part)
{
    size_t at = 0;
    while (at < part.size) {
        size_t start = at;
        while (at < part.size && (islower((unsigned char)part.data[at]) || isdigit((unsigned char)part.data[at])))
            at++;
        if (at == start)
            return false;
        if (at == part.size)
            return true;
        size_t dashes = 0, separators = at;
        while (at < part.size && strchr("._-", part.data[at])) {
            dashes += part.data[at] == '-';
            at++;
        }
        separators = at - separators;
        bool underscores = separators == 2 && part.data[at - 1] == '_' && part.data[at - 2] == '_';
        if (!separators || (separators > 1 && dashes != separators && !underscores))
            return false;
    }
    return false;
}

static bool is_domain(struct slice part)
{
    bool dotted = false;
    for (size_t i = 0; i < part.size; i++)
        dotted |= part.data[i] == '.' || part.data[i] == ':' || isupper((unsigned char)part.data[i]);
    return dotted || slice_eq(part, "localhost");
}

static bool tag_valid(const char *tag)
{
    size_t size = strlen(tag);
    return size && size <= 128 && *tag != '.' && *tag != '-' &&
           !tag[strspn(tag, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")];
}

static bool reference_valid(const char *text, struct arena *arena)
{
    char *name = arena_strdup(arena, text);
    char *at = strchr(name, '@'), *slash = NULL;
    if (at)
        *at++ = 0;
    slash = strrchr(name, '/');
    char *tag = strrchr(slash ? slash : name, ':');
    if (tag)
        *tag++ = 0;
    if ((at && (!strchr(at, ':') || strlen(strchr(at, ':')) < 33)) || (tag && !tag_valid(tag)))
        return false;
    struct slice rest = slice_of(name), part;
    bool first = true;
    if (strlen(name) == 64 && hex_valid(rest))
        return false;
    for (; slice_cut(&rest, '/', &part); first = false)
        if (!(first && rest.data && is_domain(part)) && !component_valid(part))
            return false;
    return true;
}

static void default_arguments(struct linting *run)
{
    struct build_args args = *run->input->args;
    struct scope global;
    args.given = (struct kvs){ 0 };
    if (scope_global(run->file, &args, run->arena, &global, NULL) < 0)
        return;
    for (size_t i = 0; i < run->file->len; i++) {
        const struct dockerfile_stage *stage = &run->file->stages[i];
        struct words words = { .arena = run->arena, .escape = run->file->escape, .lookup = scope_lookup, .of = &global };
        const char *base;
        if (words_expand(&words, stage->base, &base, NULL) < 0)
            return;
        if (!reference_valid(base, run->arena))
            lint_warn(run, LINT_INVALID_DEFAULT_ARG_IN_FROM, NULL, stage->from.place, "Default value for ARG %s results in empty or invalid base image name",
                      stage->base);
    }
}

// ---- variables ----

static void undefined(struct linting *run, const struct dockerfile_stage *stage, const struct strv *unmatched, const struct scope *global)
{
    struct strv names = { 0 };
    for (size_t i = 0; i < global->declared.len; i++)
        strv_push_arena(&names, run->arena, global->declared.items[i]);
    for (size_t i = 0; i < global->set.len; i++)
        strv_push_arena(&names, run->arena, arena_strndup(run->arena, global->set.items[i], strcspn(global->set.items[i], "=")));
    for (size_t i = 0; i < unmatched->len; i++)
        if (!strv_has(&names, unmatched->items[i]))
            lint_warn(run, LINT_UNDEFINED_ARG_IN_FROM, &stage->from.comments, stage->from.place, "FROM argument '%s' is not declared%s",
                      unmatched->items[i], lint_hint(run, "", unmatched->items[i], &names));
}

// ---- platforms ----

static const char *arch_plain(const char *arch)
{
    return str_eq(arch, "x86_64") || str_eq(arch, "x86-64") ? "amd64" : str_eq(arch, "aarch64") ? "arm64" : arch;
}

// A platform that is written out, in a stage whose name says nothing of it.
static void constant_platform(struct linting *run, const struct dockerfile_stage *stage, const char *platform)
{
    const char *slash = strchr(platform, '/');
    const char *os = slash ? lower_case(arena_strndup(run->arena, platform, (size_t)(slash - platform)), run->arena) : "linux";
    const char *rest = slash ? slash + 1 : platform;
    const char *arch = arch_plain(lower_case(arena_strndup(run->arena, rest, strcspn(rest, "/")), run->arena));
    if (!*os || !*arch || (stage->name && (strstr(stage->name, os) || strstr(stage->name, arch))))
        return;
    lint_warn(run, LINT_FROM_PLATFORM_FLAG_CONST_DISALLOWED, &stage->from.comments, stage->from.place, "FROM --platform flag should not use constant value \"%s\"",
              platform);
}

static void platform(struct linting *run, const struct dockerfile_stage *stage, const struct scope *global)
{
    struct strv matched = { 0 }, unmatched = { 0 };
    struct words words = { .arena = run->arena, .escape = run->file->escape, .lookup = scope_lookup, .of = (void *)global, .matched = &matched, .unmatched = &unmatched };
    const char *result;
    if (!stage->platform || words_expand(&words, stage->platform, &result, NULL) < 0)
        return;
    undefined(run, stage, &unmatched, global);
    if (matched.len == 1 && !unmatched.len && str_eq(matched.items[0], "TARGETPLATFORM") && str_eq(result, scope_lookup((void *)global, "TARGETPLATFORM")))
        lint_warn(run, LINT_REDUNDANT_TARGET_PLATFORM, &stage->from.comments, stage->from.place,
                  "Setting platform to predefined %s in FROM is redundant as this is the default behavior", stage->platform);
    if (!matched.len && !unmatched.len)
        constant_platform(run, stage, result);
}

void lint_from(struct linting *run, const struct scope *global)
{
    default_arguments(run);
    for (size_t i = 0; i < run->file->len; i++) {
        const struct dockerfile_stage *stage = &run->file->stages[i];
        struct strv unmatched = { 0 };
        struct words words = { .arena = run->arena, .escape = run->file->escape, .lookup = scope_lookup, .of = (void *)global, .unmatched = &unmatched };
        const char *base;
        if (words_expand(&words, stage->base, &base, NULL) < 0)
            return;
        undefined(run, stage, &unmatched, global);
        platform(run, stage, global);
    }
}
