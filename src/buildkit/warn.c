// The lint's warnings in an ordinary build, as BuildKit has them: in the progress, at the step that has loaded the Dockerfile. The client prints them at
// the end, with `docker --debug` whole.
#include "build/lint.h"
#include "buildkit_private.h"

struct looking {
    const struct warnings *warnings;
    struct arena *arena;
    bool unknown;
};

static const struct strv *env_of(void *of, size_t stage, const char *image)
{
    struct looking *looking = of;
    const struct buildkit_config *config = &looking->warnings->solve->buildkit->config;
    const struct kvs *contexts = looking->warnings->contexts;
    const struct strv *env = config->image_env && !kvs_get(contexts, image) ? config->image_env(config->of, image, looking->arena) : NULL;
    looking->unknown |= !env;
    return env;
}

static void tell(const struct warnings *warnings, const struct call_input *input, const struct lint_warning *found, struct arena *arena)
{
    enum { LEVEL = 1 }; // BuildKit's, of all of them
    struct position_message start = { (int32_t)found->place.line, 0 }, end = { (int32_t)MAX_OF(found->place.last_line, found->place.line), 0 };
    struct range_message range = { &start, &end };
    struct source_message source = { (char *)input->name, input->source, (char *)"Dockerfile" };
    struct vertex_warning warning = { .vertex = (char *)warnings->vertex, .level = LEVEL, .url = (char *)found->rule->url, .info = &source, .ranges = { &range, 1 } };
    warning.summary = found->place.line ? arena_printf(arena, "%s: %s (line %u)", found->rule->name, found->detail, found->place.line) :
                                          arena_printf(arena, "%s: %s", found->rule->name, found->detail);
    strv_push_arena(&warning.detail, arena, found->rule->description);
    const struct status_response event = { .warnings = { &warning, 1 } };
    progress_tell(warnings->solve, &event);
}

// What can't be read is the build's to say: nothing is found then.
static int look(struct looking *looking, const struct call_input *input, struct lint_report *out, struct err *err)
{
    struct arena *arena = looking->arena;
    struct dockerfile *file;
    struct ignore *ignore;
    struct err unread = { 0 };
    const struct build_args args = { .given = *input->args, .build_platform = input->platform, .target_platform = input->platform,
                                     .target_stage = str_empty(input->target) ? NULL : input->target };
    struct lint_input asked = { .args = &args, .target = args.target_stage, .needed = true, .check = kvs_get(input->args, "BUILDKIT_DOCKERFILE_CHECK"),
                                .base_env = env_of, .of = looking };
    *out = (struct lint_report){ 0 };
    if (ignore_parse(input->ignore, arena, &ignore, &unread) < 0 || dockerfile_parse(input->source, arena, &file, NULL, &unread) < 0)
        return 0;
    asked.ignore = ignore;
    return lint_run(file, &asked, arena, out, err);
}

int warnings_tell(struct warnings *warnings, const struct call_input *input, bool last, struct arena *arena, struct err *err)
{
    struct looking looking = { .warnings = warnings, .arena = arena };
    struct lint_report report;
    if (look(&looking, input, &report, err) < 0)
        return -1;
    warnings->waits = looking.unknown && !last && !report.error;
    for (size_t i = 0; i < report.len && !warnings->waits; i++)
        tell(warnings, input, &report.items[i], arena);
    if (report.error)
        lint_violation(&report, err);
    return report.error ? -1 : 0;
}
