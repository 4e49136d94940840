// A line to an instruction with typed fields: the table of instructions, and one function for each way of writing them.
#include <strings.h>

#include "build/build_private.h"

struct parse {
    const struct line *line;
    const char *keyword; // "COPY"
    char escape;
    struct arena *arena;
    struct instruction *out;
    struct dockerfile_stage *stage; // FROM alone
    struct err *err;
};

static int fail(struct parse *parse, const char *format)
{
    return err_set(parse->err, ERR_INVALID_ARGUMENT, "%s %s", parse->keyword, format);
}

static int no_flags(struct parse *parse)
{
    return flags_read(&parse->line->flags, NULL, NULL, parse->arena, NULL, parse->err);
}

// An error about words, not about the instruction: see struct dockerfile_place.
static int syntax(struct parse *parse)
{
    parse->out->place.syntax = true;
    return -1;
}

static int json_read(struct parse *parse, const char *text, struct strv *out)
{
    int json = split_json(text, parse->arena, out, parse->err);
    return json < 0 ? syntax(parse) : json;
}

// ---- COPY and ADD ----

struct copy_flags {
    const char *from, *chown, *chmod, *checksum;
    struct strv excludes;
    enum tristate link, parents, keep_git_dir, unpack;
};

#define COPY_FLAG(flag_name, form, member) { flag_name, form, offsetof(struct copy_flags, member) }
#define COPY_FLAGS_OF_BOTH \
    COPY_FLAG("chown", FLAG_TEXT, chown), COPY_FLAG("chmod", FLAG_TEXT, chmod), COPY_FLAG("link", FLAG_SWITCH, link), \
        COPY_FLAG("exclude", FLAG_TEXTS, excludes)

static const struct flag_row copy_flags[] = { COPY_FLAGS_OF_BOTH, COPY_FLAG("from", FLAG_TEXT, from),
                                              COPY_FLAG("parents", FLAG_SWITCH, parents), { 0 } };
static const struct flag_row add_flags[] = { COPY_FLAGS_OF_BOTH, COPY_FLAG("keep-git-dir", FLAG_SWITCH, keep_git_dir),
                                             COPY_FLAG("checksum", FLAG_TEXT, checksum), COPY_FLAG("unpack", FLAG_SWITCH, unpack), { 0 } };

static const struct heredoc *heredoc_named(const struct heredocs *docs, const char *name)
{
    for (size_t i = docs->len; i-- > 0;) // of two with one name the later counts
        if (str_eq(docs->items[i].name, name))
            return &docs->items[i];
    return NULL;
}

static int copy_source(struct parse *parse, const char *word)
{
    struct copy_fields *copy = &parse->out->copy;
    struct heredoc doc;
    int is_doc = heredoc_parse(word, parse->arena, &doc, NULL);
    const struct heredoc *read = is_doc > 0 ? heredoc_named(&parse->line->heredocs, doc.name) : NULL;
    if (is_doc <= 0) {
        strv_push_arena(&copy->sources, parse->arena, word);
    } else {
        doc.content = read ? read->content : "";
        copy->files[copy->files_len++] =
            (struct inline_file){ .name = doc.name, .content = heredoc_content(&doc, parse->arena), .expand = doc.expand };
    }
    return 0;
}

static int parse_copy(struct parse *parse)
{
    bool add = parse->out->kind == INSTRUCTION_ADD;
    struct copy_fields *copy = &parse->out->copy;
    struct copy_flags flags = { 0 };
    struct strv words;
    struct heredoc doc;
    int json = json_read(parse, parse->line->rest, &words);
    if (json < 0)
        return -1;
    if (!json)
        split_blanks(parse->line->rest, parse->arena, &words);
    if (words.len < 2)
        return fail(parse, "requires at least two arguments, but only one was provided. Destination could not be determined");
    if (flags_read(&parse->line->flags, add ? add_flags : copy_flags, &flags, parse->arena, NULL, parse->err) < 0)
        return -1;
    copy->target = words.items[words.len - 1];
    if (heredoc_parse(copy->target, parse->arena, &doc, NULL) > 0)
        return fail(parse, "cannot accept a heredoc as a destination");
    copy->files = arena_alloc(parse->arena, words.len * sizeof(*copy->files));
    for (size_t i = 0; i + 1 < words.len; i++)
        if (copy_source(parse, words.items[i]) < 0)
            return -1;
    copy->from = str_empty(flags.from) ? NULL : flags.from;
    copy->chown = str_empty(flags.chown) ? NULL : flags.chown;
    copy->chmod = str_empty(flags.chmod) ? NULL : flags.chmod;
    copy->checksum = str_empty(flags.checksum) ? NULL : flags.checksum;
    copy->excludes = flags.excludes;
    copy->link = flags.link == TRISTATE_TRUE;
    copy->parents = flags.parents == TRISTATE_TRUE;
    copy->keep_git_dir = flags.keep_git_dir;
    copy->unpack = flags.unpack;
    return 0;
}

// ---- pairs ----

// "# name what it is" above: what it is.
static const char *description(const struct strv *comments, const char *name)
{
    size_t size = strlen(name);
    for (size_t i = 0; i < comments->len; i++)
        if (size && strncmp(comments->items[i], name, size) == 0 && comments->items[i][size] == ' ')
            return comments->items[i] + size + 1;
    return NULL;
}

// "NAME=VALUE", or a name alone.
static int pair_read(struct parse *parse, const char *word, struct dockerfile_pair *out)
{
    const char *equals = strchr(word, '=');
    *out = (struct dockerfile_pair){ .key = equals ? arena_strndup(parse->arena, word, (size_t)(equals - word)) : word,
                                     .value = equals ? equals + 1 : NULL };
    return equals == word ? fail(parse, "names can not be blank") : 0;
}

static int parse_arg(struct parse *parse)
{
    struct dockerfile_pairs *pairs = &parse->out->pairs;
    struct strv words;
    if (no_flags(parse) < 0)
        return -1;
    split_words(parse->line->rest, parse->escape, parse->arena, &words);
    if (!words.len)
        return fail(parse, "requires at least one argument");
    pairs->items = arena_alloc(parse->arena, words.len * sizeof(*pairs->items));
    for (; pairs->len < words.len; pairs->len++) {
        struct dockerfile_pair *pair = &pairs->items[pairs->len];
        if (pair_read(parse, words.items[pairs->len], pair) < 0)
            return -1;
        pair->comment = description(&parse->line->comments, pair->key);
    }
    return 0;
}

// "NAME the rest of the line", as it was written before there was a '='.
static int legacy_pair(struct parse *parse, struct dockerfile_pairs *out)
{
    const char *rest = parse->line->rest;
    size_t size = strcspn(rest, "\t\v\f\r ");
    size_t blanks = strspn(rest + size, "\t\v\f\r ");
    if (!blanks) {
        fail(parse, "must have two arguments");
        return syntax(parse);
    }
    *out = (struct dockerfile_pairs){ .items = arena_alloc(parse->arena, sizeof(*out->items)), .len = 1 };
    out->items[0] = (struct dockerfile_pair){ .key = arena_strndup(parse->arena, rest, size), .value = rest + size + blanks, .legacy = true };
    return 0;
}

static int parse_pairs(struct parse *parse)
{
    struct dockerfile_pairs *pairs = &parse->out->pairs;
    struct strv words;
    split_words(parse->line->rest, parse->escape, parse->arena, &words);
    if (no_flags(parse) < 0)
        return -1;
    if (!words.len)
        return fail(parse, "requires at least one argument");
    if (!strchr(words.items[0], '='))
        return legacy_pair(parse, pairs);
    pairs->items = arena_alloc(parse->arena, words.len * sizeof(*pairs->items));
    for (; pairs->len < words.len; pairs->len++) {
        const char *word = words.items[pairs->len];
        if (!strchr(word, '=')) {
            err_set(parse->err, ERR_INVALID_ARGUMENT, "Syntax error - can't find = in %s. Must be of the form: name=value",
                    quoted(word, parse->arena));
            return syntax(parse);
        }
        if (pair_read(parse, word, &pairs->items[pairs->len]) < 0)
            return -1;
    }
    return 0;
}

// ---- commands ----

static int command_read(struct parse *parse, const char *text, struct dockerfile_command *out)
{
    int json = json_read(parse, text, &out->args);
    if (json < 0)
        return -1;
    out->json = json > 0;
    if (!out->json && *text)
        strv_push_arena(&out->args, parse->arena, text);
    return 0;
}

static int parse_command(struct parse *parse)
{
    return no_flags(parse) < 0 ? -1 : command_read(parse, parse->line->rest, &parse->out->command);
}

static int parse_shell(struct parse *parse)
{
    struct dockerfile_command *shell = &parse->out->command;
    if (parse_command(parse) < 0)
        return -1;
    if (!shell->args.len)
        return fail(parse, "requires at least one argument");
    return shell->json ? 0 : fail(parse, "requires the arguments to be in JSON form");
}

struct run_flags {
    struct strv mounts, devices;
    const char *network, *security;
};

#define RUN_FLAG(flag_name, form, member) { flag_name, form, offsetof(struct run_flags, member) }
static const struct flag_row run_flags[] = { RUN_FLAG("mount", FLAG_TEXTS, mounts), RUN_FLAG("device", FLAG_TEXTS, devices),
                                             RUN_FLAG("network", FLAG_TEXT, network), RUN_FLAG("security", FLAG_TEXT, security), { 0 } };

static int run_lists(struct parse *parse, const struct run_flags *flags)
{
    struct run_fields *run = &parse->out->run;
    run->mounts = arena_alloc(parse->arena, (flags->mounts.len + 1) * sizeof(*run->mounts));
    for (; run->mounts_len < flags->mounts.len; run->mounts_len++) {
        run->mounts[run->mounts_len].raw = flags->mounts.items[run->mounts_len];
        if (run_mount_check(&run->mounts[run->mounts_len], parse->arena, parse->err) < 0)
            return -1;
    }
    run->devices = arena_alloc(parse->arena, (flags->devices.len + 1) * sizeof(*run->devices));
    for (; run->devices_len < flags->devices.len; run->devices_len++)
        if (run_device_parse(flags->devices.items[run->devices_len], parse->arena, &run->devices[run->devices_len], parse->err) < 0)
            return -1;
    return 0;
}

static int parse_run(struct parse *parse)
{
    static const char *const networks[] = { "default", "none", "host" };
    struct run_fields *run = &parse->out->run;
    struct run_flags flags = { .network = "default", .security = "sandbox" };
    bool network_known = false;
    if (flags_read(&parse->line->flags, run_flags, &flags, parse->arena, &run->flags_used, parse->err) < 0 ||
        command_read(parse, parse->line->rest, &run->command) < 0 || run_lists(parse, &flags) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(networks); i++)
        network_known |= str_eq(flags.network, networks[i]);
    if (!network_known)
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "invalid network mode %s", quoted(flags.network, parse->arena));
    if (!str_eq(flags.security, "sandbox") && !str_eq(flags.security, "insecure"))
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "security %s is not valid", quoted(flags.security, parse->arena));
    run->network = flags.network;
    run->security = flags.security;
    run->heredocs = parse->line->heredocs;
    return 0;
}

// ---- HEALTHCHECK ----

struct health_flags {
    const char *interval, *timeout, *start_period, *start_interval, *retries;
};

#define HEALTH_FLAG(flag_name, member) { flag_name, FLAG_TEXT, offsetof(struct health_flags, member) }
static const struct flag_row health_flags[] = { HEALTH_FLAG("interval", interval), HEALTH_FLAG("timeout", timeout),
                                                HEALTH_FLAG("start-period", start_period), HEALTH_FLAG("start-interval", start_interval),
                                                HEALTH_FLAG("retries", retries), { 0 } };

static int interval_read(struct parse *parse, const char *name, const char *text, int64_t *out)
{
    if (str_empty(text))
        return 0;
    if (!num_parse_duration(text, out))
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "time: invalid duration %s", quoted(text, parse->arena));
    if (*out && *out < 1000000)
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "Interval \"%s\" cannot be less than 1ms", name);
    return 0;
}

static int health_times(struct parse *parse)
{
    struct healthcheck_fields *health = &parse->out->healthcheck;
    struct health_flags flags = { 0 };
    int64_t retries = 0;
    if (flags_read(&parse->line->flags, health_flags, &flags, parse->arena, NULL, parse->err) < 0 ||
        interval_read(parse, "interval", flags.interval, &health->interval_ns) < 0 ||
        interval_read(parse, "timeout", flags.timeout, &health->timeout_ns) < 0 ||
        interval_read(parse, "start-period", flags.start_period, &health->start_period_ns) < 0 ||
        interval_read(parse, "start-interval", flags.start_interval, &health->start_interval_ns) < 0)
        return -1;
    if (!str_empty(flags.retries) && (!num_parse_i64(slice_of(flags.retries), &retries) || retries > INT32_MAX))
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "strconv.ParseInt: parsing %s: invalid syntax", quoted(flags.retries, parse->arena));
    if (retries < 0)
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "--retries cannot be negative (%lld)", (long long)retries);
    health->retries = (int)retries;
    return 0;
}

static int parse_healthcheck(struct parse *parse)
{
    struct strv *test = &parse->out->healthcheck.test;
    struct dockerfile_command command = { 0 };
    const char *rest = parse->line->rest;
    size_t size = strcspn(rest, "\t\v\f\r ");
    const char *type = upper_case(arena_strndup(parse->arena, rest, size), parse->arena);
    rest += size + strspn(rest + size, "\t\v\f\r ");
    if (!*type)
        return fail(parse, "requires at least one argument");
    if (command_read(parse, rest, &command) < 0 || health_times(parse) < 0)
        return -1;
    if (str_eq(type, "NONE")) {
        strv_push_arena(test, parse->arena, "NONE");
        return command.args.len ? fail(parse, "NONE takes no arguments") : 0;
    }
    if (!str_eq(type, "CMD"))
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "Unknown type %s in HEALTHCHECK (try CMD)", quoted(type, parse->arena));
    if (!command.args.len)
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "Missing command after HEALTHCHECK CMD");
    strv_push_arena(test, parse->arena, command.json ? "CMD" : "CMD-SHELL");
    for (size_t i = 0; i < command.args.len; i++)
        strv_push_arena(test, parse->arena, command.args.items[i]);
    return 0;
}

// ---- lists and single values ----

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int parse_expose(struct parse *parse)
{
    struct strv *ports = &parse->out->list;
    split_blanks(parse->line->rest, parse->arena, ports);
    if (!ports->len)
        return fail(parse, "requires at least one argument");
    qsort(ports->items, ports->len, sizeof(*ports->items), by_text);
    return no_flags(parse);
}

static int parse_volume(struct parse *parse)
{
    struct strv words, *out = &parse->out->list;
    int json = json_read(parse, parse->line->rest, &words);
    if (json < 0 || no_flags(parse) < 0)
        return -1;
    if (!json)
        split_blanks(parse->line->rest, parse->arena, &words);
    if (!words.len)
        return fail(parse, "requires at least one argument");
    for (size_t i = 0; i < words.len; i++) {
        struct slice path = blank_trim(slice_of(words.items[i]));
        if (!path.size)
            return fail(parse, "specified can not be an empty string");
        strv_push_arena(out, parse->arena, arena_strndup(parse->arena, path.data, path.size));
    }
    return 0;
}

static int parse_value(struct parse *parse)
{
    parse->out->value = parse->line->rest;
    return *parse->line->rest ? no_flags(parse) : fail(parse, "requires exactly one argument");
}

// The trigger's text as it will be read again, with its heredocs behind it.
static const char *trigger_text(struct parse *parse)
{
    _cleanup_buf_ struct buf out = BUF_INIT(DOCKERFILE_SIZE_MAX * 2);
    const char *text = parse->line->text.data + strlen(parse->line->name);
    buf_adds(&out, text + strspn(text, "\t\v\f\r "));
    for (size_t i = 0; i < parse->line->heredocs.len; i++)
        buf_addf(&out, "\n%s%s", parse->line->heredocs.items[i].content, parse->line->heredocs.items[i].name);
    return arena_strdup(parse->arena, buf_text(&out));
}

static int parse_onbuild(struct parse *parse)
{
    struct line trigger = { .text = slice_of(parse->line->rest) };
    if (!*parse->line->rest)
        return fail(parse, "requires at least one argument");
    if (no_flags(parse) < 0)
        return -1;
    line_split(&trigger, parse->escape, parse->arena);
    const char *name = upper_case(trigger.name, parse->arena);
    if (str_eq(name, "ONBUILD"))
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
    if (str_eq(name, "MAINTAINER") || str_eq(name, "FROM"))
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "%s isn't allowed as an ONBUILD trigger", name);
    parse->out->value = trigger_text(parse);
    return 0;
}

// ---- FROM ----

static bool stage_name_valid(const char *name)
{
    return *name >= 'a' && *name <= 'z' && !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.")];
}

static int parse_from(struct parse *parse)
{
    static const struct flag_row rows[] = { { "platform", FLAG_TEXT, offsetof(struct dockerfile_stage, platform) }, { 0 } };
    struct dockerfile_stage *stage = parse->stage;
    struct strv words;
    if (!stage)
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "FROM isn't allowed as an ONBUILD trigger");
    split_blanks(parse->line->rest, parse->arena, &words);
    bool named = words.len == 3 && strcasecmp(words.items[1], "as") == 0;
    if (!named && words.len != 1)
        return fail(parse, "requires either one or three arguments");
    if (named) {
        stage->name_written = words.items[2];
        stage->name = lower_case(words.items[2], parse->arena);
        if (!stage_name_valid(stage->name))
            return err_set(parse->err, ERR_INVALID_ARGUMENT,
                           "invalid name for build stage: %s, name can't start with a number or contain symbols", quoted(words.items[2], parse->arena));
        stage->comment = description(&parse->line->comments, stage->name);
    }
    stage->base = words.items[0];
    if (flags_read(&parse->line->flags, rows, stage, parse->arena, NULL, parse->err) < 0)
        return -1;
    if (str_empty(stage->platform))
        stage->platform = NULL;
    return 0;
}

// ---- all of them ----

static const struct {
    const char *name;
    int (*parse)(struct parse *parse);
} instructions[INSTRUCTION_KIND_COUNT] = {
    [INSTRUCTION_ADD] = { "ADD", parse_copy },
    [INSTRUCTION_ARG] = { "ARG", parse_arg },
    [INSTRUCTION_CMD] = { "CMD", parse_command },
    [INSTRUCTION_COPY] = { "COPY", parse_copy },
    [INSTRUCTION_ENTRYPOINT] = { "ENTRYPOINT", parse_command },
    [INSTRUCTION_ENV] = { "ENV", parse_pairs },
    [INSTRUCTION_EXPOSE] = { "EXPOSE", parse_expose },
    [INSTRUCTION_FROM] = { "FROM", parse_from },
    [INSTRUCTION_HEALTHCHECK] = { "HEALTHCHECK", parse_healthcheck },
    [INSTRUCTION_LABEL] = { "LABEL", parse_pairs },
    [INSTRUCTION_MAINTAINER] = { "MAINTAINER", parse_value },
    [INSTRUCTION_ONBUILD] = { "ONBUILD", parse_onbuild },
    [INSTRUCTION_RUN] = { "RUN", parse_run },
    [INSTRUCTION_SHELL] = { "SHELL", parse_shell },
    [INSTRUCTION_STOPSIGNAL] = { "STOPSIGNAL", parse_value },
    [INSTRUCTION_USER] = { "USER", parse_value },
    [INSTRUCTION_VOLUME] = { "VOLUME", parse_volume },
    [INSTRUCTION_WORKDIR] = { "WORKDIR", parse_value },
};

const char *instruction_kind_name(enum instruction_kind kind)
{
    return instructions[kind].name;
}

static int unknown(const char *name, struct arena *arena, struct err *err)
{
    struct strv names = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(instructions); i++)
        strv_push_arena(&names, arena, instructions[i].name);
    const char *shown = arena_strndup(arena, name, slice_utf8_head(slice_of(name), 512).size);
    return err_suggest(err, arena_printf(arena, "unknown instruction: %s", shown), name, &names, false, arena);
}

int instruction_parse(const struct line *line, char escape, struct arena *arena, struct instruction *out, struct dockerfile_stage *stage,
                      struct err *err)
{
    enum instruction_kind kind = 0;
    while (kind < INSTRUCTION_KIND_COUNT && strcasecmp(instructions[kind].name, line->name) != 0)
        kind++;
    if (kind == INSTRUCTION_KIND_COUNT)
        return unknown(line->name, arena, err);
    *out = (struct instruction){ .kind = kind, .name = line->name, .text = line->text.data, .place = line->place, .comments = line->comments };
    struct parse parse = { line, instructions[kind].name, escape, arena, out, stage, err };
    return instructions[kind].parse(&parse);
}
