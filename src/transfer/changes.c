#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#include "changes.h"
#include "words.h"
#include "base/clock.h"
#include "base/num.h"

#define CHANGES_MAX 1000 // instructions
#define CHANGES_TEXT_MAX ((size_t)1 << 20)
#define PORT_RANGE_MAX 1000

struct change {
    struct oci_image_process *config;
    struct arena *arena;
    const char *name; // of the instruction, upper case
    bool has_command; // CMD stood before
};

// ---- forms of arguments ---------------------------------------------------------------------------------------------

// ["a", "b"]: true, and the words are there. What only looks like it is a shell command, as in a Dockerfile.
static bool parse_exec_form(const char *text, struct arena *arena, struct strv *out)
{
    _cleanup_json_ json_t *list = json_loads(text, 0, NULL);
    if (!json_is_array(list))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!json_is_string(json_array_get(list, i)))
            return false;
    for (size_t i = 0; i < json_array_size(list); i++)
        strv_push_arena(out, arena, json_string_value(json_array_get(list, i)));
    return true;
}

static void parse_command(const char *text, struct arena *arena, struct strv *out)
{
    *out = (struct strv){ 0 };
    if (parse_exec_form(text, arena, out))
        return;
    strv_push_arena(out, arena, "/bin/sh");
    strv_push_arena(out, arena, "-c");
    strv_push_arena(out, arena, text);
}

static int parse_words(const struct change *change, const char *text, struct strv *out, struct err *err)
{
    struct strv raw = { 0 };
    if (change_words(text, change->arena, &raw, err) < 0)
        return -1;
    for (size_t i = 0; i < raw.len; i++) {
        char *word;
        if (change_word_expand(raw.items[i], &change->config->env, change->arena, &word, err) < 0)
            return -1;
        strv_push_arena(out, change->arena, word);
    }
    return 0;
}

// "key=value key=value", or the old "key rest of the line". Values see the environment from before the instruction.
static int parse_pairs(const struct change *change, const char *text, struct kvs *out, struct err *err)
{
    struct strv raw = { 0 };
    if (change_words(text, change->arena, &raw, err) < 0)
        return -1;
    bool old = !strchr(raw.items[0], '=');
    if (old && raw.len < 2)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s must have two arguments", change->name);
    out->items = arena_alloc(change->arena, raw.len * sizeof(*out->items));
    if (old) {
        const char *rest = text + strlen(raw.items[0]);
        raw.items[0] = arena_printf(change->arena, "%s=%s", raw.items[0], rest + strspn(rest, " \t"));
        raw.len = 1;
    }
    for (size_t i = 0; i < raw.len; i++) {
        const char *equals = strchr(raw.items[i], '=');
        if (!equals)
            return err_set(err, ERR_INVALID_ARGUMENT, "Syntax error - can't find = in \"%.128s\". Must be of the form: "
                           "name=value", raw.items[i]);
        struct kv *pair = &out->items[out->len++];
        const char *key = arena_strndup(change->arena, raw.items[i], (size_t)(equals - raw.items[i]));
        if (change_word_expand(key, &change->config->env, change->arena, &pair->key, err) < 0 ||
            change_word_expand(equals + 1, &change->config->env, change->arena, &pair->value, err) < 0)
            return -1;
        if (!*pair->key)
            return err_set(err, ERR_INVALID_ARGUMENT, "%s names can not be blank", change->name);
    }
    return 0;
}

static void add_once(struct strv *list, struct arena *arena, const char *text)
{
    if (!strv_has(list, text))
        strv_push_arena(list, arena, text);
}

// ---- instructions ---------------------------------------------------------------------------------------------------

static int change_cmd(struct change *change, const char *text, struct err *err)
{
    parse_command(text, change->arena, &change->config->cmd);
    change->has_command = true;
    return 0;
}

static int change_entrypoint(struct change *change, const char *text, struct err *err)
{
    parse_command(text, change->arena, &change->config->entrypoint);
    if (!change->has_command) // what was the command belongs to the entrypoint before
        change->config->cmd = (struct strv){ 0 };
    return 0;
}

static int change_env(struct change *change, const char *text, struct err *err)
{
    struct kvs pairs = { 0 };
    if (parse_pairs(change, text, &pairs, err) < 0)
        return -1;
    for (size_t i = 0; i < pairs.len; i++)
        strv_env_set(&change->config->env, change->arena,
                     arena_printf(change->arena, "%s=%s", pairs.items[i].key, pairs.items[i].value));
    return 0;
}

static void set_label(struct kvs *labels, struct arena *arena, const struct kv *label)
{
    for (size_t i = 0; i < labels->len; i++) {
        if (str_eq(labels->items[i].key, label->key)) {
            labels->items[i].value = label->value;
            return;
        }
    }
    struct kv *items = arena_alloc(arena, (labels->len + 1) * sizeof(*items));
    if (labels->len > 0)
        memcpy(items, labels->items, labels->len * sizeof(*items));
    items[labels->len] = *label;
    labels->items = items;
    labels->len++;
}

static int change_label(struct change *change, const char *text, struct err *err)
{
    struct kvs pairs = { 0 };
    if (parse_pairs(change, text, &pairs, err) < 0)
        return -1;
    for (size_t i = 0; i < pairs.len; i++)
        set_label(&change->config->labels, change->arena, &pairs.items[i]);
    return 0;
}

// "80", "80/tcp", "8000-8010/udp".
static int expose_port(struct change *change, const char *word, struct err *err)
{
    struct slice rest = slice_of(word), ports, low_text, proto = slice_of("tcp");
    uint64_t low, high;
    slice_cut(&rest, '/', &ports);
    if (rest.data)
        proto = rest;
    slice_cut(&ports, '-', &low_text);
    bool valid = num_parse_u64(low_text, 65535, &low);
    high = valid ? low : 0;
    if (ports.data)
        valid = valid && num_parse_u64(ports, 65535, &high);
    if (!valid || low > high || low == 0 || high - low >= PORT_RANGE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid containerPort: %.64s", word);
    char name[8];
    snprintf(name, sizeof(name), "%.*s", (int)proto.size, proto.data);
    for (char *at = name; *at; at++)
        *at = (char)tolower((unsigned char)*at);
    if (!str_eq(name, "tcp") && !str_eq(name, "udp") && !str_eq(name, "sctp"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid proto: %.64s", word);
    for (uint64_t port = low; port <= high; port++)
        add_once(&change->config->exposed_ports, change->arena,
                 arena_printf(change->arena, "%u/%s", (unsigned)port, name));
    return 0;
}

static int change_expose(struct change *change, const char *text, struct err *err)
{
    struct strv words = { 0 };
    if (parse_words(change, text, &words, err) < 0)
        return -1;
    for (size_t i = 0; i < words.len; i++)
        if (expose_port(change, words.items[i], err) < 0)
            return -1;
    return 0;
}

static int change_user(struct change *change, const char *text, struct err *err)
{
    struct strv words = { 0 };
    if (parse_words(change, text, &words, err) < 0)
        return -1;
    if (words.len != 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "USER requires exactly one argument");
    change->config->user = words.items[0];
    return 0;
}

static int change_volume(struct change *change, const char *text, struct err *err)
{
    struct strv paths = { 0 };
    if (!parse_exec_form(text, change->arena, &paths) && parse_words(change, text, &paths, err) < 0)
        return -1;
    for (size_t i = 0; i < paths.len; i++) {
        if (!*paths.items[i])
            return err_set(err, ERR_INVALID_ARGUMENT, "VOLUME specified can not be an empty string");
        add_once(&change->config->volumes, change->arena, paths.items[i]);
    }
    return 0;
}

// Absolute, or below the one before; ".." never leaves the root.
static char *join_folder(struct arena *arena, const char *before, const char *path)
{
    const char *whole = *path == '/' ? path : arena_printf(arena, "%s/%s", str_empty(before) ? "" : before, path);
    char *out = arena_alloc(arena, strlen(whole) + 2);
    size_t used = 0;
    for (const char *at = whole; *at;) {
        size_t size = strcspn(at, "/");
        if (size == 2 && at[0] == '.' && at[1] == '.') {
            while (used > 0 && out[--used] != '/') {
            }
        } else if (size > 0 && !(size == 1 && *at == '.')) {
            out[used++] = '/';
            memcpy(out + used, at, size);
            used += size;
        }
        at += size;
        at += strspn(at, "/");
    }
    if (used == 0)
        out[used++] = '/';
    out[used] = '\0';
    return out;
}

static int change_workdir(struct change *change, const char *text, struct err *err)
{
    char *path;
    if (change_word_expand(text, &change->config->env, change->arena, &path, err) < 0)
        return -1;
    change->config->working_dir = join_folder(change->arena, change->config->working_dir, path);
    return 0;
}

static int change_onbuild(struct change *change, const char *text, struct err *err)
{
    static const char *const refused[] = { "ONBUILD", "FROM", "MAINTAINER" };
    size_t size = strcspn(text, " \t");
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (strlen(refused[i]) == size && strncasecmp(refused[i], text, size) == 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "%s isn't allowed as an ONBUILD trigger", refused[i]);
    strv_push_arena(&change->config->on_build, change->arena, text);
    return 0;
}

// ---- HEALTHCHECK ----------------------------------------------------------------------------------------------------

// Go's way: "1m30s", "1.5s", "500ms"; no sign.
static bool parse_duration(const char *text, int64_t *ns)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = { { "ns", 1 }, { "us", 1000 }, { "ms", NS_PER_MS }, { "s", NS_PER_S }, { "m", 60 * NS_PER_S },
                  { "h", 3600 * NS_PER_S } };
    double sum = 0;
    const char *at = text;
    while (*at) {
        size_t digits = strspn(at, "0123456789."), letters = strspn(at + digits, "hmsnu"), unit = 0;
        char number[24], *end;
        if (digits == 0 || digits >= sizeof(number))
            return false;
        snprintf(number, sizeof(number), "%.*s", (int)digits, at);
        double value = strtod(number, &end);
        while (unit < ARRAY_LEN(units) &&
               (strlen(units[unit].name) != letters || strncmp(units[unit].name, at + digits, letters) != 0))
            unit++;
        if (*end || unit == ARRAY_LEN(units))
            return false;
        sum += value * (double)units[unit].ns;
        at += digits + letters;
    }
    *ns = (int64_t)sum;
    return at > text && sum < 9e18;
}

static int health_flag(struct oci_healthcheck *check, const char *flag, struct err *err)
{
    const struct {
        const char *name;
        int64_t *where;
        bool is_count;
    } flags[] = { { "--interval=", &check->interval, false }, { "--timeout=", &check->timeout, false },
                  { "--start-period=", &check->start_period, false },
                  { "--start-interval=", &check->start_interval, false }, { "--retries=", &check->retries, true } };
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        if (!str_starts(flag, flags[i].name))
            continue;
        const char *value = flag + strlen(flags[i].name);
        uint64_t count = 0;
        bool valid = flags[i].is_count ? num_parse_u64(slice_of(value), INT32_MAX, &count)
                                       : parse_duration(value, flags[i].where);
        if (flags[i].is_count)
            *flags[i].where = (int64_t)count;
        else if (valid && *flags[i].where > 0 && *flags[i].where < NS_PER_MS)
            return err_set(err, ERR_INVALID_ARGUMENT, "Interval \"%.32s\" cannot be less than 1ms", flag);
        return valid ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "invalid value in %.64s", flag);
    }
    return err_set(err, ERR_INVALID_ARGUMENT, "unknown flag: %.64s", flag);
}

static int change_healthcheck(struct change *change, const char *text, struct err *err)
{
    struct oci_healthcheck *check = arena_alloc(change->arena, sizeof(*check));
    while (str_starts(text, "--")) {
        size_t size = strcspn(text, " \t");
        if (health_flag(check, arena_strndup(change->arena, text, size), err) < 0)
            return -1;
        text += size;
        text += strspn(text, " \t");
    }
    size_t size = strcspn(text, " \t");
    const char *rest = text + size + strspn(text + size, " \t");
    struct strv words = { 0 };
    if (size == 4 && strncasecmp(text, "NONE", size) == 0 && !*rest) {
        strv_push_arena(&check->test, change->arena, "NONE");
    } else if (size == 3 && strncasecmp(text, "CMD", size) == 0 && *rest) {
        bool exec = parse_exec_form(rest, change->arena, &words);
        strv_push_arena(&check->test, change->arena, exec ? "CMD" : "CMD-SHELL");
        for (size_t i = 0; i < words.len; i++)
            strv_push_arena(&check->test, change->arena, words.items[i]);
        if (!exec)
            strv_push_arena(&check->test, change->arena, rest);
    } else {
        return err_set(err, ERR_INVALID_ARGUMENT, "HEALTHCHECK needs NONE or CMD with a command");
    }
    change->config->healthcheck = check;
    return 0;
}

// ---- the whole ------------------------------------------------------------------------------------------------------

// Those that Docker allows: everything else needs a build.
static const struct {
    const char *name;
    int (*apply)(struct change *change, const char *text, struct err *err);
} instructions[] = {
    { "CMD", change_cmd },         { "ENTRYPOINT", change_entrypoint },   { "ENV", change_env },
    { "EXPOSE", change_expose },   { "HEALTHCHECK", change_healthcheck }, { "LABEL", change_label },
    { "ONBUILD", change_onbuild }, { "USER", change_user },               { "VOLUME", change_volume },
    { "WORKDIR", change_workdir },
};

static int apply_line(struct change *change, const char *line, struct err *err)
{
    size_t size = strcspn(line, " \t");
    const char *text = line + size + strspn(line + size, " \t");
    for (size_t i = 0; i < ARRAY_LEN(instructions); i++) {
        change->name = instructions[i].name;
        if (strlen(change->name) != size || strncasecmp(change->name, line, size) != 0)
            continue;
        if (!*text)
            return err_set(err, ERR_INVALID_ARGUMENT, "%s requires at least one argument", change->name);
        return instructions[i].apply(change, text, err);
    }
    return err_set(err, ERR_INVALID_ARGUMENT, "%.*s is not a valid change command", (int)MIN_OF(size, (size_t)64), line);
}

// Takes the next instruction off *rest: continued lines joined, comments and empty lines left out; NULL at the end.
static char *next_instruction(struct slice *rest, struct arena *arena)
{
    struct buf joined = BUF_INIT(CHANGES_TEXT_MAX);
    struct slice line;
    while (slice_cut(rest, '\n', &line)) {
        struct slice text = slice_trim(line);
        if (text.size == 0 || text.data[0] == '#')
            continue;
        bool goes_on = text.data[text.size - 1] == '\\';
        buf_add(&joined, text.data, text.size - goes_on);
        if (!goes_on)
            break;
    }
    char *instruction = joined.size > 0 ? arena_strdup(arena, buf_text(&joined)) : NULL;
    buf_done(&joined);
    return instruction;
}

int changes_apply(const struct strv *changes, struct oci_image_process *config, struct arena *arena, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(CHANGES_TEXT_MAX);
    for (size_t i = 0; i < changes->len; i++)
        buf_addf(&text, "%s\n", changes->items[i]);
    if (buf_check(&text, "changes", err) < 0)
        return -1;
    struct change change = { .config = config, .arena = arena };
    struct slice rest = { buf_text(&text), text.size };
    size_t count = 0;
    for (char *line; (line = next_instruction(&rest, arena));) {
        if (++count > CHANGES_MAX)
            return err_set(err, ERR_INVALID_ARGUMENT, "more than %d changes", CHANGES_MAX);
        if (apply_line(&change, line, err) < 0)
            return -1;
    }
    return 0;
}
