#include "build/lint_private.h"

// ---- options ----

static void names_of(struct slice text, struct arena *arena, struct strv *names, bool *all)
{
    struct slice name;
    if (slice_eq(text, "all")) {
        *all = true;
        return;
    }
    while (slice_cut(&text, ',', &name)) {
        name = blank_trim(name);
        strv_push_arena(names, arena, arena_strndup(arena, name.data, name.size));
    }
}

static int option_parse(struct slice part, struct arena *arena, struct lint_config *config, struct err *err)
{
    const char *whole = arena_strndup(arena, part.data, part.size);
    struct slice rest = part, key;
    if (!memchr(part.data, '=', part.size) || !slice_cut(&rest, '=', &key))
        return err_set(err, ERR_INVALID_ARGUMENT, "failed to parse check options: invalid check option %s", quoted(whole, arena));
    key = blank_trim(key);
    rest = blank_trim(rest);
    if (slice_eq(key, "skip"))
        names_of(rest, arena, &config->skip, &config->skip_all);
    else if (slice_eq(key, "experimental"))
        names_of(rest, arena, &config->experimental, &config->experimental_all);
    else if (!slice_eq(key, "error"))
        return err_set(err, ERR_INVALID_ARGUMENT, "failed to parse check options: invalid check option %s", quoted(arena_strndup(arena, key.data, key.size), arena));
    else if (!parse_switch(arena_strndup(arena, rest.data, rest.size), &config->error))
        return err_set(err, ERR_INVALID_ARGUMENT, "failed to parse check options: failed to parse check option %s: not a boolean", quoted(whole, arena));
    return 0;
}

int lint_config_parse(const char *text, struct arena *arena, struct lint_config *config, struct err *err)
{
    struct slice rest = blank_trim(slice_of(text)), part;
    rest.size = rest.size ? strcspn(arena_strndup(arena, rest.data, rest.size), " ") : 0; // what is behind a blank is a remark
    while (rest.size && slice_cut(&rest, ';', &part))
        if (option_parse(part, arena, config, err) < 0)
            return -1;
    return 0;
}

// "check=skip=A" among the comments above an instruction.
static struct lint_config config_here(const struct linting *run, const struct strv *comments)
{
    struct lint_config here = run->config;
    for (size_t i = 0; comments && i < comments->len; i++) {
        const char *text = comments->items[i];
        if (strncasecmp(text, "check", 5) != 0)
            continue;
        text += 5 + strspn(text + 5, " \t");
        struct lint_config merged = here;
        if (*text == '=' && lint_config_parse(text + 1, run->arena, &merged, NULL) == 0)
            return merged;
    }
    return here;
}

static bool is_hushed(const struct lint_config *config, const struct lint_rule *rule)
{
    if (rule->experimental)
        return !config->experimental_all && !strv_has(&config->experimental, rule->name);
    return config->skip_all || strv_has(&config->skip, rule->name);
}

void lint_warn(struct linting *run, enum lint_rule_index rule, const struct strv *comments, struct dockerfile_place place, const char *fmt, ...)
{
    struct lint_config config = config_here(run, comments);
    struct buf detail = BUF_INIT(8192);
    va_list args;
    if (run->len == LINT_WARNINGS_MAX || is_hushed(&config, &lint_rules[rule]))
        return;
    va_start(args, fmt);
    buf_vaddf(&detail, fmt, args);
    va_end(args);
    run->items[run->len++] = (struct lint_warning){ &lint_rules[rule], arena_strdup(run->arena, buf_text(&detail)), place };
    buf_done(&detail);
}

// ---- small questions ----

bool lint_is_lower(const char *text)
{
    return !text[strcspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")];
}

bool lint_is_upper(const char *text)
{
    return !text[strcspn(text, "abcdefghijklmnopqrstuvwxyz")];
}

const char *lint_hint(struct linting *run, const char *prefix, const char *word, const struct strv *options)
{
    const char *best = dockerfile_suggest(word, options, true, run->arena);
    return best ? arena_printf(run->arena, " (did you mean %s%s?)", prefix, best) : "";
}

// ---- all of it ----

// Where several stand on one line, as they were found.
static void sort(struct linting *run)
{
    for (size_t i = 1; i < run->len; i++) {
        struct lint_warning item = run->items[i];
        size_t j = i;
        for (; j && run->items[j - 1].place.line > item.place.line; j--)
            run->items[j] = run->items[j - 1];
        run->items[j] = item;
    }
}

int lint_run(const struct dockerfile *file, const struct lint_input *input, struct arena *arena, struct lint_report *out, struct err *err)
{
    struct linting run = { .file = file, .input = input, .arena = arena };
    const char *options = input->check ? input->check : file->check;
    struct scope global;
    if (options && lint_config_parse(options, arena, &run.config, err) < 0)
        return -1;
    run.items = arena_alloc(arena, LINT_WARNINGS_MAX * sizeof(*run.items));
    lint_text(&run);
    if (scope_global(file, input->args, arena, &global, NULL) == 0) {
        lint_from(&run, &global);
        lint_stages(&run, &global);
    }
    sort(&run);
    *out = (struct lint_report){ run.items, run.len, run.config.error && run.len };
    return 0;
}

void lint_violation(const struct lint_report *report, struct err *err)
{
    struct buf names = BUF_INIT(4096);
    for (size_t i = 0; i < report->len; i++) {
        size_t first = 0;
        while (report->items[first].rule != report->items[i].rule)
            first++;
        if (first == i)
            buf_addf(&names, "%s%s", names.size ? ", " : "", report->items[i].rule->name);
    }
    err_set(err, ERR_INVALID_ARGUMENT, "lint violation found for rules: %s", buf_text(&names));
    buf_done(&names);
}
