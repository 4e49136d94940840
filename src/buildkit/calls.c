// What a client may ask of a Dockerfile without building it: `--check` (frontend.lint), `--call outline` and `--call targets`. Answers are
// JSON in BuildKit's form, which the client prints itself.

#include "build/graph.h"
#include "build/lint.h"
#include "build/words.h"
#include "buildkit_private.h"

struct asking {
    const struct call_input *input;
    struct arena *arena;
    struct build_args args;
    struct dockerfile *file;
    json_t *out;
};

// ---- parts ----------------------------------------------------------------------------------------------------------

static json_t *range_of(struct dockerfile_place place)
{
    unsigned last = MAX_OF(place.last_line, place.line);
    return json_pack("{s:{s:i, s:i}, s:{s:i, s:i}}", "start", "line", (int)place.line, "character", 0, "end", "line", (int)last, "character", 0);
}

static json_t *location_of(struct dockerfile_place place)
{
    return json_pack("{s:[o]}", "ranges", range_of(place));
}

static void put_text(json_t *object, const char *key, const char *value)
{
    if (!str_empty(value))
        json_object_set_new(object, key, json_new_text(value));
}

static json_t *source_text(const struct asking *asking)
{
    return encoded_text(asking->input->source);
}

// ---- targets --------------------------------------------------------------------------------------------------------

static int list_targets(struct asking *asking, struct err *err)
{
    json_t *targets = json_array();
    for (size_t i = 0; i < asking->file->len; i++) {
        const struct dockerfile_stage *stage = &asking->file->stages[i];
        json_t *row = json_object();
        put_text(row, "name", stage->name);
        if (i + 1 == asking->file->len)
            json_object_set_new(row, "default", json_true());
        put_text(row, "description", stage->comment);
        put_text(row, "base", stage->base);
        put_text(row, "platform", stage->platform);
        json_object_set_new(row, "location", location_of(stage->from.place));
        json_array_append_new(targets, row);
    }
    asking->out = json_pack("{s:o, s:[o]}", "targets", targets, "sources", source_text(asking));
    return 0;
}

// ---- outline --------------------------------------------------------------------------------------------------------

struct outline {
    const struct asking *asking;
    json_t *args, *secrets, *ssh, *caches;
};

static bool is_listed(const json_t *list, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (str_eq(json_get_text(json_array_get(list, i), "name", ""), name))
            return true;
    return false;
}

static void add_args(struct outline *outline, const struct instruction *instruction)
{
    for (size_t i = 0; i < instruction->pairs.len; i++) {
        const struct dockerfile_pair *pair = &instruction->pairs.items[i];
        const char *given = kvs_get(&outline->asking->args.given, pair->key);
        if (is_listed(outline->args, pair->key))
            continue;
        json_t *row = json_object();
        put_text(row, "name", pair->key);
        put_text(row, "description", pair->comment);
        put_text(row, "value", given ? given : pair->value);
        json_object_set_new(row, "location", location_of(instruction->place));
        json_array_append_new(outline->args, row);
    }
}

static void add_mount(struct outline *outline, const struct run_mount *mount, struct dockerfile_place place)
{
    bool secret = mount->type == RUN_MOUNT_SECRET;
    json_t *list = secret ? outline->secrets : outline->ssh;
    const char *id = mount->id, *slash = mount->target ? strrchr(mount->target, '/') : NULL;
    if (!secret && mount->type != RUN_MOUNT_SSH)
        return;
    if (str_empty(id))
        id = !secret ? "default" : slash ? slash + 1 : mount->target;
    if (is_listed(list, id))
        return;
    json_t *row = json_object();
    put_text(row, "name", id);
    if (mount->required)
        json_object_set_new(row, "required", json_true());
    json_object_set_new(row, "location", location_of(place));
    json_array_append_new(list, row);
}

static int add_instruction(struct outline *outline, const struct instruction *written, struct scope *scope, struct err *err)
{
    const struct asking *asking = outline->asking;
    const struct words words = { .arena = asking->arena, .escape = asking->file->escape, .lookup = scope_lookup, .of = scope };
    struct instruction instruction;
    if (written->kind == INSTRUCTION_ARG)
        add_args(outline, written);
    if (instruction_expand(written, &words, &instruction, err) < 0)
        return -1;
    for (size_t i = 0; instruction.kind == INSTRUCTION_RUN && i < instruction.run.mounts_len; i++)
        add_mount(outline, &instruction.run.mounts[i], written->place);
    return scope_apply(scope, &instruction, asking->file->escape, err);
}

static int add_stages(struct outline *outline, const struct graph *graph, const struct scope *global, struct err *err)
{
    const struct strv none = { 0 };
    for (size_t i = 0; i < graph->len; i++) {
        const struct dockerfile_stage *stage = graph->nodes[i].stage;
        struct scope scope;
        scope_stage(global, &none, &scope);
        for (size_t k = 0; graph->nodes[i].needed && k < stage->len; k++)
            if (add_instruction(outline, &stage->instructions[k], &scope, err) < 0)
                return -1;
    }
    return 0;
}

static void put_list(json_t *object, const char *key, json_t *take)
{
    if (json_array_size(take) > 0)
        json_object_set(object, key, take);
    json_decref(take);
}

static int make_outline(struct asking *asking, struct err *err)
{
    struct outline outline = { asking, json_array(), json_array(), json_array(), NULL };
    struct scope global;
    struct graph *graph = NULL;
    for (size_t i = 0; i < asking->file->globals_len; i++)
        add_args(&outline, &asking->file->globals[i]);
    int result = scope_global(asking->file, &asking->args, asking->arena, &global, err);
    if (result == 0)
        result = graph_make(asking->file, &global, asking->input->target, asking->arena, &graph, NULL, err);
    if (result == 0)
        result = add_stages(&outline, graph, &global, err);
    asking->out = json_object();
    if (result == 0) {
        put_text(asking->out, "name", graph->nodes[graph->target].stage->name);
        put_text(asking->out, "description", graph->nodes[graph->target].stage->comment);
    }
    put_list(asking->out, "args", outline.args);
    put_list(asking->out, "secrets", outline.secrets);
    put_list(asking->out, "ssh", outline.ssh);
    json_object_set_new(asking->out, "sources", json_pack("[o]", source_text(asking)));
    return result;
}

// ---- lint -----------------------------------------------------------------------------------------------------------

static void add_warnings(json_t *list, const struct lint_report *report)
{
    for (size_t i = 0; i < report->len; i++) {
        const struct lint_warning *warning = &report->items[i];
        json_t *row = json_object(), *location = location_of(warning->place);
        put_text(row, "ruleName", warning->rule->name);
        put_text(row, "description", warning->rule->description);
        put_text(row, "url", warning->rule->url);
        put_text(row, "detail", warning->detail);
        json_object_set_new(row, "location", location);
        json_array_append_new(list, row);
    }
}

// A file that can't be parsed has its error in the result, which is no failure of the question.
static int lint(struct asking *asking, struct err *err)
{
    const struct call_input *input = asking->input;
    struct ignore *ignore = NULL;
    struct dockerfile_place place = { 0 };
    struct lint_report report = { 0 };
    json_t *source = json_object();
    asking->out = json_pack("{s:[], s:[o]}", "warnings", "sources", source);
    put_text(source, "filename", input->name);
    json_object_set_new(source, "language", json_string("Dockerfile"));
    json_object_set_new(source, "data", source_text(asking));
    if (ignore_parse(input->ignore, asking->arena, &ignore, err) < 0)
        return -1;
    if (dockerfile_parse(input->source, asking->arena, &asking->file, &place, err) < 0) {
        json_object_set_new(asking->out, "buildError", json_pack("{s:o, s:o}", "message", json_new_text(err->message), "location", location_of(place)));
        err_clear(err);
        return 1;
    }
    const struct lint_input asked = { .args = &asking->args, .target = asking->args.target_stage, .ignore = ignore,
                                      .check = kvs_get(&asking->args.given, "BUILDKIT_DOCKERFILE_CHECK") };
    if (lint_run(asking->file, &asked, asking->arena, &report, err) < 0)
        return -1;
    add_warnings(json_object_get(asking->out, "warnings"), &report);
    return report.len > 0;
}

// ---- the answer -----------------------------------------------------------------------------------------------------

static int list_calls(struct asking *asking, struct err *err)
{
    static const char *const names[][2] = { { "frontend.outline", "List all parameters current build target supports" },
                                            { "frontend.targets", "List all targets current build supports" },
                                            { "frontend.lint", "Lint a Dockerfile" },
                                            { "frontend.subrequests.describe", "List available subrequest types" } };
    asking->out = json_array();
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        json_array_append_new(asking->out, json_pack("{s:s, s:s, s:s, s:s}", "name", names[i][0], "version", "1.0.0", "type", "rpc", "description", names[i][1]));
    return 0;
}

static const struct {
    const char *name;
    int (*run)(struct asking *asking, struct err *err); // 1: well, and yet not all is good
    bool parsed; // of a file that can be read
} calls[] = {
    { "frontend.lint", lint, false },
    { "frontend.outline", make_outline, true },
    { "frontend.targets", list_targets, true },
    { "frontend.subrequests.describe", list_calls, false },
};

static void add_answer(struct kvs *out, struct arena *arena, const char *key, const char *value)
{
    out->items[out->len++] = (struct kv){ arena_strdup(arena, key), arena_strdup(arena, value) };
}

int call_answer(const struct call_input *input, const char *name, struct arena *arena, struct kvs *out, struct err *err)
{
    struct asking asking = { .input = input, .arena = arena };
    size_t row = 0;
    asking.args = (struct build_args){ .given = *input->args, .build_platform = input->platform, .target_platform = input->platform,
                                       .target_stage = str_empty(input->target) ? NULL : input->target };
    while (row < ARRAY_LEN(calls) && !str_eq(calls[row].name, name))
        row++;
    if (row == ARRAY_LEN(calls))
        return err_set(err, ERR_NOT_IMPLEMENTED, "unsupported request %.100s", name);
    if (calls[row].parsed && dockerfile_parse(input->source, arena, &asking.file, NULL, err) < 0)
        return -1;
    int result = calls[row].run(&asking, err);
    if (result >= 0) {
        _cleanup_free_ char *text = json_dumps(asking.out, JSON_INDENT(2));
        *out = (struct kvs){ .items = arena_alloc(arena, 4 * sizeof(*out->items)) };
        add_answer(out, arena, "result.json", text);
        add_answer(out, arena, "result.txt", text);
        add_answer(out, arena, "result.statuscode", result > 0 ? "1" : "0");
        add_answer(out, arena, "version", "1.0.0");
    }
    json_decref(asking.out);
    return result < 0 ? -1 : 0;
}
