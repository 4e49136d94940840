// Values: their forms, and where they go.
#include <fnmatch.h>

#include "options_private.h"

const struct option_row *option_by_flag(const char *flag)
{
    for (size_t i = 0; i < option_len; i++)
        if (str_eq(option_table[i].flag, flag))
            return &option_table[i];
    return NULL;
}

const struct option_row *option_by_key(const char *key)
{
    for (size_t i = 0; i < option_len; i++)
        if (str_eq(option_table[i].key, key))
            return &option_table[i];
    return NULL;
}

bool option_fits(const char *words, const char *value)
{
    struct slice rest = slice_of(words), word;
    while (slice_cut(&rest, '|', &word)) {
        _cleanup_free_ char *pattern = mem_strndup(word.data, word.size);
        if (fnmatch(pattern, value, 0) == 0)
            return true;
    }
    return false;
}

static int parse_flag(const char *text, bool *out, struct err *err)
{
    static const char *const yes[] = { "true", "1", "t", "T", "TRUE", "True" }, *const no[] = { "false", "0", "f", "F", "FALSE", "False" };
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        if (str_eq(text, yes[i]) || str_eq(text, no[i])) {
            *out = str_eq(text, yes[i]);
            return 0;
        }
    return err_set(err, ERR_INVALID_ARGUMENT, "not true or false");
}

static int parse_count(const char *text, int64_t *out, struct err *err)
{
    if (!num_parse_i64(slice_of(text), out))
        return err_set(err, ERR_INVALID_ARGUMENT, "not a whole number");
    return *out < 0 ? err_set(err, ERR_INVALID_ARGUMENT, "must not be negative") : 0;
}

// "64m", "64MB", "67108864".
static int parse_size(const char *text, int64_t *out, struct err *err)
{
    static const char units[] = "bkmgt";
    size_t digits = strspn(text, "0123456789");
    uint64_t number;
    unsigned shift = 0;
    const char *rest = text + digits, *unit = *rest ? memchr(units, *rest | 32, sizeof(units) - 1) : NULL;
    if (unit) {
        shift = (unsigned)(unit - units) * 10;
        rest += rest[1] && shift ? 1 + ((rest[1] | 32) == 'b') : 1;
    }
    if (*rest || !num_parse_u64((struct slice){ text, digits }, (uint64_t)INT64_MAX >> shift, &number))
        return err_set(err, ERR_INVALID_ARGUMENT, "not a size in bytes, as 64m");
    *out = (int64_t)(number << shift);
    return 0;
}

static bool parse_limit(struct slice text, int64_t *out)
{
    if (slice_eq(text, "unlimited")) {
        *out = -1;
        return true;
    }
    return num_parse_i64(text, out) && *out >= -1;
}

int options_parse_ulimit(const char *text, struct arena *arena, char **name, int64_t *soft, int64_t *hard, struct err *err)
{
    struct slice rest = slice_of(text), word, first;
    slice_cut(&rest, '=', &word);
    if (!rest.data || word.size == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid ulimit argument: %s", text);
    slice_cut(&rest, ':', &first);
    if (!parse_limit(first, soft) || (rest.data && !parse_limit(rest, hard)))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid ulimit value: %s", text);
    if (!rest.data)
        *hard = *soft;
    if (*hard != -1 && (*soft == -1 || *soft > *hard))
        return err_set(err, ERR_INVALID_ARGUMENT, "ulimit soft limit must be less than or equal to hard limit: %lld > %lld",
                       (long long)*soft, (long long)*hard);
    *name = arena_strndup(arena, word.data, word.size);
    return 0;
}

int options_parse_pool(const char *text, struct arena *arena, char **base, int64_t *size, struct err *err)
{
    struct slice rest = slice_of(text), part, key;
    *base = NULL;
    *size = 0;
    while (slice_cut(&rest, ',', &part)) {
        slice_cut(&part, '=', &key);
        if (slice_eq(key, "base") && part.data)
            *base = arena_strndup(arena, part.data, part.size);
        else if (!slice_eq(key, "size") || !part.data || !num_parse_i64(part, size))
            return err_set(err, ERR_INVALID_ARGUMENT, "not of the form base=ADDRESS/PREFIX,size=PREFIX");
    }
    return *base && *size ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "not of the form base=ADDRESS/PREFIX,size=PREFIX");
}

static int check_item(struct options *options, const struct option_row *row, const char *text, struct err *err)
{
    char *name;
    int64_t soft, hard;
    if (row->kind == OPTION_ULIMITS)
        return options_parse_ulimit(text, &options->arena, &name, &soft, &hard, err);
    if (row->kind == OPTION_POOLS)
        return options_parse_pool(text, &options->arena, &name, &soft, err);
    if (row->kind == OPTION_PAIRS && (!strchr(text, '=') || *text == '='))
        return err_set(err, ERR_INVALID_ARGUMENT, "not of the form KEY=VALUE");
    if (row->kind == OPTION_NESTED && (!strchr(text, '=') || !strchr(strchr(text, '=') + 1, '=') || *text == '='))
        return err_set(err, ERR_INVALID_ARGUMENT, "not of the form DRIVER=KEY=VALUE");
    if (row->words && !option_fits(row->words, text))
        return err_set(err, ERR_INVALID_ARGUMENT, "not one of %s", row->words);
    return 0;
}

static int store(struct options *options, const struct option_row *row, const char *text, struct err *err)
{
    void *place = (char *)options + row->offset;
    switch (row->kind) {
    case OPTION_FLAG:
        return parse_flag(text, place, err);
    case OPTION_COUNT:
        return parse_count(text, place, err);
    case OPTION_SIZE:
        return parse_size(text, place, err);
    default:
        break;
    }
    if (check_item(options, row, text, err) < 0)
        return -1;
    if (row->kind == OPTION_TEXT)
        *(char **)place = arena_strdup(&options->arena, text);
    else
        strv_push_arena(place, &options->arena, text);
    return 0;
}

int option_set(struct options *options, const struct option_row *row, const char *text, struct err *err)
{
    if (row->answer == OPTION_HONOURED)
        return store(options, row, text, err);
    if (row->answer == OPTION_PASSES || str_empty(text) || (row->idle && option_fits(row->idle, text)))
        return 0;
    return err_set(err, ERR_NOT_IMPLEMENTED, "is not supported: %s", row->help);
}
