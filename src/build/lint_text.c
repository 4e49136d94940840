// Rules that need the text alone: letters' case, names of stages, comments, what is deprecated.
#include <strings.h>

#include "build/lint_private.h"

// ---- one instruction ----

// A comment just above a stage or an ARG describes it, and says which.
static void description(struct linting *run, const struct instruction *at, const char *const *names, size_t len)
{
    const struct strv *comments = &at->comments;
    if (!comments->len || !len)
        return;
    const char *last = comments->items[comments->len - 1];
    size_t size = strcspn(last, " ");
    for (size_t i = 0; i < len; i++)
        if (strlen(names[i]) == size && memcmp(names[i], last, size) == 0)
            return;
    lint_warn(run, LINT_INVALID_DEFINITION_DESCRIPTION, comments, at->place, "Comment for %s should follow the format: `# %s <description>`",
              instruction_kind_name(at->kind), len > 1 ? "<arg_key>" : names[0]);
}

static void arg(struct linting *run, const struct instruction *at)
{
    const char **names = arena_alloc(run->arena, (at->pairs.len + 1) * sizeof(*names));
    for (size_t i = 0; i < at->pairs.len; i++)
        names[i] = at->pairs.items[i].key;
    description(run, at, names, at->pairs.len);
}

static void instructions(struct linting *run, const struct instruction *list, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (list[i].kind == INSTRUCTION_MAINTAINER)
            lint_warn(run, LINT_MAINTAINER_DEPRECATED, &list[i].comments, list[i].place, "Maintainer instruction is deprecated in favor of using label");
        if (list[i].kind == INSTRUCTION_ARG)
            arg(run, &list[i]);
    }
}

// "AS" as it is written in FROM.
static const char *as_written(const struct linting *run, const struct dockerfile_stage *stage)
{
    size_t end = strlen(stage->from.text) - strlen(stage->name_written);
    const char *text = stage->from.text;
    while (end && strchr(" \t\v\f\r", text[end - 1]))
        end--;
    return end >= 2 ? arena_strndup(run->arena, text + end - 2, 2) : "";
}

static void stage_line(struct linting *run, const struct dockerfile_stage *stage)
{
    const struct instruction *from = &stage->from;
    if (!stage->name)
        return;
    const char *as = as_written(run, stage);
    bool lower = lint_is_lower(from->name), upper = lint_is_upper(from->name);
    if (!lint_is_lower(stage->name_written))
        lint_warn(run, LINT_STAGE_NAME_CASING, &from->comments, from->place, "Stage name '%s' should be lowercase", stage->name_written);
    if ((lower && !lint_is_lower(as)) || (upper && !lint_is_upper(as)))
        lint_warn(run, LINT_FROM_AS_CASING, &from->comments, from->place, "'%s' and '%s' keywords' casing do not match", as, from->name);
    description(run, from, &stage->name, 1);
}

// ---- the file ----

static void stage_names(struct linting *run)
{
    for (size_t i = 0; i < run->file->len; i++) {
        const struct dockerfile_stage *stage = &run->file->stages[i];
        size_t first = 0;
        if (!stage->name)
            continue;
        while (!str_eq(run->file->stages[first].name, stage->name))
            first++;
        if (str_eq(stage->name, "context") || str_eq(stage->name, "scratch"))
            lint_warn(run, LINT_RESERVED_STAGE_NAME, NULL, stage->from.place, "Stage name should not use the same name as reserved stage \"%s\"", stage->name);
        if (first < i)
            lint_warn(run, LINT_DUPLICATE_STAGE_NAME, NULL, stage->from.place, "Duplicate stage name \"%s\", stage names should be unique", stage->name);
    }
}

static void count(const char *name, size_t *lower, size_t *upper)
{
    *lower += lint_is_lower(name);
    *upper += !lint_is_lower(name) && lint_is_upper(name);
}

static void casing(struct linting *run, const struct instruction *at, bool lower)
{
    if (lower ? !lint_is_lower(at->name) : !lint_is_upper(at->name))
        lint_warn(run, LINT_CONSISTENT_INSTRUCTION_CASING, NULL, at->place, "Command '%s' should match the case of the command majority (%s)", at->name,
                  lower ? "lowercase" : "uppercase");
}

static void casings(struct linting *run)
{
    size_t lower = 0, upper = 0;
    for (size_t i = 0; i < run->file->len; i++) {
        count(run->file->stages[i].from.name, &lower, &upper);
        for (size_t j = 0; j < run->file->stages[i].len; j++)
            count(run->file->stages[i].instructions[j].name, &lower, &upper);
    }
    for (size_t i = 0; i < run->file->len; i++) {
        casing(run, &run->file->stages[i].from, lower > upper);
        for (size_t j = 0; j < run->file->stages[i].len; j++)
            casing(run, &run->file->stages[i].instructions[j], lower > upper);
    }
}

void lint_text(struct linting *run)
{
    const struct dockerfile *file = run->file;
    for (size_t i = 0; i < file->empty_continuations_len; i++)
        lint_warn(run, LINT_NO_EMPTY_CONTINUATION, NULL, file->empty_continuations[i], "Empty continuation line");
    instructions(run, file->globals, file->globals_len);
    for (size_t i = 0; i < file->len; i++) {
        stage_line(run, &file->stages[i]);
        instructions(run, file->stages[i].instructions, file->stages[i].len);
    }
    stage_names(run);
    casings(run);
}
