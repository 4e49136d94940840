#include <ctype.h>
#include <errno.h>
#include <math.h>

#include "client/flags.h"
#include "base/num.h"

static const struct {
    const char *word;
    bool many;
} kinds[] = {
    [FLAG_BOOL] = { "", false },       [FLAG_TEXT] = { "string", false },       [FLAG_INT] = { "int", false },
    [FLAG_UINT] = { "uint", false },   [FLAG_LIST] = { "list", true },          [FLAG_COMMAS] = { "strings", true },
    [FLAG_MAP] = { "map", true },      [FLAG_BYTES] = { "bytes", false },       [FLAG_DURATION] = { "duration", false },
    [FLAG_CPUS] = { "decimal", false }, [FLAG_FILTER] = { "filter", true },
};

bool flag_has_value(const struct flag *flag)
{
    return flag->kind != FLAG_BOOL;
}

const char *flag_word(const struct flag *flag)
{
    return flag->word ? flag->word : kinds[flag->kind].word;
}

const struct flag *flag_find(const struct flag_tables *tables, const char *name, size_t size)
{
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < tables->len[t]; i++)
            if (strlen(tables->rows[t][i].name) == size && memcmp(tables->rows[t][i].name, name, size) == 0)
                return &tables->rows[t][i];
    return NULL;
}

const struct flag *flag_letter(const struct flag_tables *tables, char letter)
{
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < tables->len[t]; i++)
            if (tables->rows[t][i].letter == letter)
                return &tables->rows[t][i];
    return NULL;
}

// ---- values ---------------------------------------------------------------------------------------------------------

bool parse_cpus(const char *text, int64_t *nano)
{
    char *end;
    if (!isdigit((unsigned char)*text) && *text != '.')
        return false;
    double number = strtod(text, &end);
    if (*end || number >= 9e9 || strpbrk(text, "xXnN"))
        return false;
    *nano = (int64_t)(number * 1e9 + 0.5);
    return true;
}

static bool parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" };
    static const char *const no[] = { "0", "f", "F", "FALSE", "false", "False" };
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        if (str_eq(text, yes[i]) || str_eq(text, no[i])) {
            *out = str_eq(text, yes[i]);
            return true;
        }
    return false;
}

// What is wrong with a value; NULL when nothing is.
static const char *wrong(const struct flag *flag, const char *text, struct arena *arena)
{
    int64_t number;
    uint64_t natural;
    bool on;
    switch (flag->kind) {
    case FLAG_BOOL:
        return parse_bool(text, &on) ? NULL : arena_printf(arena, "strconv.ParseBool: parsing \"%s\": invalid syntax", text);
    case FLAG_INT:
        return num_parse_i64(slice_of(text), &number) ? NULL : arena_printf(arena, "strconv.ParseInt: parsing \"%s\": invalid syntax", text);
    case FLAG_UINT:
        return num_parse_u64(slice_of(text), UINT64_MAX, &natural)
                   ? NULL : arena_printf(arena, "strconv.ParseUint: parsing \"%s\": invalid syntax", text);
    case FLAG_BYTES:
        return num_parse_bytes(text, &number) || (str_eq(text, "-1") && str_eq(flag->fallback, "-1"))
                   ? NULL : arena_printf(arena, "invalid size: '%s'", text);
    case FLAG_DURATION:
        return num_parse_duration(text, &number) ? NULL : arena_printf(arena, "time: invalid duration \"%s\"", text);
    case FLAG_CPUS:
        return parse_cpus(text, &number) ? NULL : arena_printf(arena, "failed to parse %s as a rational number", text);
    case FLAG_FILTER:
        return strchr(text, '=') || !*text ? NULL : "bad format of filter (expected name=value)";
    case FLAG_TEXT:
    case FLAG_LIST:
    case FLAG_COMMAS:
    case FLAG_MAP:
        return NULL;
    }
    return NULL;
}

static struct flag_value *value_of(struct flags *flags, const struct flag *flag)
{
    for (size_t i = 0; i < flags->len; i++)
        if (flags->values[i].flag == flag)
            return &flags->values[i];
    if (flags->len == flags->capacity) {
        size_t capacity = flags->capacity ? 2 * flags->capacity : 16;
        struct flag_value *values = arena_alloc(flags->arena, capacity * sizeof(*values));
        if (flags->len)
            memcpy(values, flags->values, flags->len * sizeof(*values));
        flags->values = values;
        flags->capacity = capacity;
    }
    flags->values[flags->len] = (struct flag_value){ .flag = flag };
    return &flags->values[flags->len++];
}

static bool says_nothing(const struct flag *flag, const char *text)
{
    bool on;
    if (flag->kind == FLAG_BOOL)
        return parse_bool(text, &on) && on == str_eq(flag->fallback, "true");
    return !*text || str_eq(text, flag->fallback);
}

static int keep(struct flags *flags, const struct flag *flag, const char *text, struct err *err)
{
    const char *why = wrong(flag, text, flags->arena);
    char letter[8] = "";
    if (flag->letter)
        snprintf(letter, sizeof(letter), "-%c, ", flag->letter);
    if (why)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid argument \"%s\" for \"%s--%s\" flag: %s", text, letter, flag->name, why);
    if (flag->refused && !says_nothing(flag, text))
        return err_set(err, ERR_NOT_IMPLEMENTED, "--%s: %s", flag->name, flag->refused);
    struct flag_value *value = value_of(flags, flag);
    struct slice part, rest = slice_of(text);
    if (flag->kind != FLAG_COMMAS)
        strv_push_arena(&value->texts, flags->arena, text);
    else
        while (slice_cut(&rest, ',', &part))
            strv_push_arena(&value->texts, flags->arena, arena_strndup(flags->arena, part.data, part.size));
    return 0;
}

// ---- the parser -----------------------------------------------------------------------------------------------------

struct walk {
    struct flags *flags;
    const struct flag_tables *tables;
    char **argv;
    int argc, at;
    bool *help;
};

static int parse_long(struct walk *walk, const char *text, struct err *err)
{
    const char *equals = strchrnul(text, '=');
    const struct flag *flag = flag_find(walk->tables, text, (size_t)(equals - text));
    if (!flag) {
        if (str_eq(text, "help")) {
            *walk->help = true;
            return 0;
        }
        return err_set(err, ERR_INVALID_ARGUMENT, "unknown flag: --%.*s", (int)(equals - text), text);
    }
    if (*equals)
        return keep(walk->flags, flag, equals + 1, err);
    if (!flag_has_value(flag))
        return keep(walk->flags, flag, "true", err);
    if (walk->at >= walk->argc)
        return err_set(err, ERR_INVALID_ARGUMENT, "flag needs an argument: --%s", flag->name);
    return keep(walk->flags, flag, walk->argv[walk->at++], err);
}

static int parse_letters(struct walk *walk, const char *all, struct err *err)
{
    for (const char *text = all; *text; text++) {
        const struct flag *flag = flag_letter(walk->tables, *text);
        if (!flag) {
            if (*text == 'h' && !flag_find(walk->tables, "help", 4)) {
                *walk->help = true;
                return 0;
            }
            return err_set(err, ERR_INVALID_ARGUMENT, "unknown shorthand flag: '%.*s' in -%s",
                           (int)MAX_OF(slice_utf8_len(slice_of(text)), (size_t)1), text, text);
        }
        if (text[1] == '=' && text[2])
            return keep(walk->flags, flag, text + 2, err);
        if (!flag_has_value(flag)) {
            if (keep(walk->flags, flag, "true", err) < 0)
                return -1;
            continue;
        }
        if (text[1])
            return keep(walk->flags, flag, text + 1, err);
        if (walk->at >= walk->argc)
            return err_set(err, ERR_INVALID_ARGUMENT, "flag needs an argument: '%c' in -%s", *text, text);
        return keep(walk->flags, flag, walk->argv[walk->at++], err);
    }
    return 0;
}

int flags_parse(struct flags *flags, const struct flag_tables *tables, char **argv, int argc, bool leading, struct strv *args,
                bool *help, struct err *err)
{
    struct walk walk = { flags, tables, argv, argc, 0, help };
    bool over = false;
    while (walk.at < argc && !*help) {
        const char *text = argv[walk.at++];
        if (over || text[0] != '-' || !text[1]) {
            strv_push_arena(args, flags->arena, text);
            over = over || leading;
        } else if (str_eq(text, "--")) {
            over = true;
        } else if (text[1] == '-') {
            if (text[2] == '-' || text[2] == '=')
                return err_set(err, ERR_INVALID_ARGUMENT, "bad flag syntax: %s", text);
            if (parse_long(&walk, text + 2, err) < 0)
                return -1;
        } else if (parse_letters(&walk, text + 1, err) < 0) {
            return -1;
        }
    }
    return 0;
}

// ---- asking ---------------------------------------------------------------------------------------------------------

static const struct flag_value *given(const struct flags *flags, const char *name)
{
    for (size_t i = 0; i < flags->len; i++)
        if (str_eq(flags->values[i].flag->name, name))
            return &flags->values[i];
    return NULL;
}

static const char *last(const struct flag_value *value)
{
    return value->texts.len ? value->texts.items[value->texts.len - 1] : "";
}

bool flag_set(const struct flags *flags, const char *name)
{
    return given(flags, name) != NULL;
}

static bool is_on(const struct flag_value *value)
{
    bool on = false;
    parse_bool(last(value), &on);
    return on;
}

bool flag_on(const struct flags *flags, const char *name)
{
    const struct flag_value *value = given(flags, name);
    return value && is_on(value);
}

const char *flag_text(const struct flags *flags, const char *name)
{
    const struct flag_value *value = given(flags, name);
    return value ? last(value) : NULL;
}

const struct strv *flag_texts(const struct flags *flags, const char *name)
{
    static const struct strv none;
    const struct flag_value *value = given(flags, name);
    return value ? &value->texts : &none;
}

int64_t flag_int(const struct flags *flags, const char *name, int64_t otherwise)
{
    const char *text = flag_text(flags, name);
    int64_t number = otherwise;
    if (text)
        num_parse_i64(slice_of(text), &number);
    return number;
}

// ---- into requests --------------------------------------------------------------------------------------------------

void body_put(json_t *body, const char *path, json_t *value)
{
    const char *dot = strchr(path, '.');
    if (!dot) {
        json_object_set_new(body, path, value);
        return;
    }
    char key[64];
    snprintf(key, sizeof(key), "%.*s", (int)(dot - path), path);
    json_t *inner = json_object_get(body, key);
    if (!json_is_object(inner)) {
        inner = json_object();
        json_object_set_new(body, key, inner);
    }
    body_put(inner, dot + 1, value);
}

static json_t *list_of(const struct strv *texts)
{
    json_t *list = json_array();
    for (size_t i = 0; i < texts->len; i++)
        json_array_append_new(list, json_new_text(texts->items[i]));
    return list;
}

static json_t *map_of(const struct strv *texts)
{
    json_t *map = json_object();
    for (size_t i = 0; i < texts->len; i++) {
        const char *equals = strchrnul(texts->items[i], '=');
        char *key = mem_strndup(texts->items[i], (size_t)(equals - texts->items[i]));
        json_object_set_new(map, key, json_new_text(*equals ? equals + 1 : ""));
        free(key);
    }
    return map;
}

static json_t *json_of(const struct flag_value *value)
{
    const char *text = last(value);
    int64_t number = -1;
    switch (value->flag->kind) {
    case FLAG_BOOL:
        return json_boolean(is_on(value));
    case FLAG_INT:
    case FLAG_UINT:
        num_parse_i64(slice_of(text), &number);
        return json_integer(number);
    case FLAG_BYTES:
        num_parse_bytes(text, &number);
        return json_integer(number);
    case FLAG_DURATION:
        num_parse_duration(text, &number);
        return json_integer(number);
    case FLAG_CPUS:
        parse_cpus(text, &number);
        return json_integer(number);
    case FLAG_LIST:
    case FLAG_COMMAS:
        return list_of(&value->texts);
    case FLAG_MAP:
        return map_of(&value->texts);
    case FLAG_TEXT:
    case FLAG_FILTER:
        break;
    }
    return json_new_text(text);
}

void flags_to_body(const struct flags *flags, json_t *body)
{
    for (size_t i = 0; i < flags->len; i++) {
        const char *to = flags->values[i].flag->to;
        if (to && *to != '?')
            body_put(body, to, json_of(&flags->values[i]));
    }
}

void flags_to_query(const struct flags *flags, struct buf *query)
{
    for (size_t i = 0; i < flags->len; i++) {
        const struct flag_value *value = &flags->values[i];
        const char *to = value->flag->to;
        if (!to || *to != '?')
            continue;
        if (value->flag->kind == FLAG_BOOL)
            query_add(query, to + 1, is_on(value) ? "1" : "0");
        else if (!kinds[value->flag->kind].many)
            query_add(query, to + 1, last(value));
        else
            for (size_t j = 0; j < value->texts.len; j++)
                query_add(query, to + 1, value->texts.items[j]);
    }
}

void query_escape(struct buf *out, const char *text)
{
    for (; *text; text++)
        if (isalnum((unsigned char)*text) || strchr("-_.~", *text))
            buf_addc(out, *text);
        else
            buf_addf(out, "%%%02X", (unsigned char)*text);
}

void query_add(struct buf *query, const char *key, const char *value)
{
    buf_addc(query, query->size && strchr(buf_text(query), '?') ? '&' : '?');
    buf_addf(query, "%s=", key);
    query_escape(query, value);
}

json_t *flags_filters(const struct flags *flags, const char *name)
{
    const struct strv *texts = flag_texts(flags, name);
    json_t *filters = json_object();
    for (size_t i = 0; i < texts->len; i++) {
        const char *equals = strchr(texts->items[i], '=');
        if (!equals)
            continue;
        struct slice key = slice_trim((struct slice){ texts->items[i], (size_t)(equals - texts->items[i]) });
        struct slice value = slice_trim(slice_of(equals + 1));
        _cleanup_free_ char *name_text = mem_strndup(key.data, key.size), *value_text = mem_strndup(value.data, value.size);
        for (char *c = name_text; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        json_t *values = json_object_get(filters, name_text);
        if (!values) {
            values = json_object();
            json_object_set_new(filters, name_text, values);
        }
        json_object_set_new(values, value_text, json_true());
    }
    return filters;
}
