// rooms: build json base | jansson
// A Dockerfile from anywhere: what parses is expanded, scoped, made a graph of and linted; an error has a place within the file.
#include <stdint.h>
#include <stdlib.h>

#include "build/graph.h"
#include "build/lint.h"
#include "build/step.h"
#include "build/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void through_stage(const struct dockerfile *file, size_t at, const struct scope *global, struct arena *arena)
{
    const struct dockerfile_stage *stage = &file->stages[at];
    struct scope scope;
    struct strv env = { 0 }, run_env;
    scope_stage(global, &env, &scope);
    for (size_t i = 0; i < stage->len; i++) {
        struct words words = { .arena = arena, .escape = file->escape, .lookup = scope_lookup, .of = &scope };
        struct buf text = BUF_INIT(16 << 20);
        struct instruction expanded, *trigger;
        struct err err;
        if (instruction_expand(&stage->instructions[i], &words, &expanded, &err) < 0 || scope_apply(&scope, &expanded, file->escape, &err) < 0)
            break;
        step_text(&expanded, &text);
        if (!text.size)
            abort();
        if (expanded.kind == INSTRUCTION_ONBUILD)
            dockerfile_parse_trigger(expanded.value, expanded.place, arena, &trigger, &err);
        buf_done(&text);
    }
    scope_run_env(&scope, arena, &run_env);
}

static void excerpt(struct slice source, struct dockerfile_place place)
{
    struct buf out = BUF_INIT(1 << 20);
    unsigned lines = 1;
    for (size_t i = 0; i < source.size; i++)
        lines += source.data[i] == '\n';
    if (place.line > lines || place.last_line > lines)
        abort();
    dockerfile_excerpt(source, "Dockerfile", place, &out);
    buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct kv given[] = { { (char *)"a", (char *)"value" }, { (char *)"HTTP_PROXY", (char *)"p" } };
    static const struct build_args args = { .given = { given, ARRAY_LEN(given) }, .build_platform = "linux/amd64", .target_platform = "linux/amd64" };
    struct slice source = { (const char *)data, size };
    struct arena arena = ARENA_INIT;
    struct dockerfile *file;
    struct dockerfile_place place;
    struct graph *graph;
    struct scope global;
    struct lint_report report;
    struct lint_input lint = { .args = &args };
    struct err err;
    if (dockerfile_parse(source, &arena, &file, &place, &err) < 0) {
        excerpt(source, place);
    } else if (scope_global(file, &args, &arena, &global, &err) == 0) {
        lint_run(file, &lint, &arena, &report, &err);
        for (size_t i = 0; i < file->len && i < 8; i++)
            through_stage(file, i, &global, &arena);
        if (graph_make(file, &global, NULL, &arena, &graph, &place, &err) < 0)
            excerpt(source, place);
        else if (!graph->nodes[graph->target].needed)
            abort();
    }
    arena_done(&arena);
    return 0;
}
