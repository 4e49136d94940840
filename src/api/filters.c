// The `filters` parameter: parsing, and the ways a value may fit.
#include <fnmatch.h>
#include <regex.h>

#include "api_private.h"

static bool is_allowed(const char *const *allowed, const char *key)
{
    for (; *allowed; allowed++)
        if (str_eq(*allowed, key))
            return true;
    return false;
}

static int read_values(json_t *from, struct arena *arena, struct filter *out, struct err *err)
{
    size_t i;
    const char *value;
    json_t *item;
    if (json_is_object(from)) {
        json_object_foreach(from, value, item) strv_push_arena(&out->values, arena, value);
        return 0;
    }
    if (!json_is_array(from))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid filter: '%.100s' is neither a list nor an object", out->key);
    json_array_foreach(from, i, item)
    {
        if (!json_is_string(item))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid filter: a value of '%.100s' is no string", out->key);
        strv_push_arena(&out->values, arena, json_string_value(item));
    }
    return 0;
}

int filters_parse(const char *text, const char *const *allowed, struct arena *arena, struct filters *out,
                  struct err *err)
{
    _cleanup_json_ json_t *document = NULL;
    const char *key;
    json_t *values;
    *out = (struct filters){ 0 };
    if (str_empty(text))
        return 0;
    if (json_parse(text, strlen(text), &document, err) < 0)
        return err_wrap(err, "invalid filter");
    if (!json_is_object(document))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid filter: not an object");
    out->items = arena_alloc(arena, (json_object_size(document) + 1) * sizeof(*out->items));
    json_object_foreach(document, key, values)
    {
        struct filter *filter = &out->items[out->len++];
        if (!is_allowed(allowed, key))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid filter '%.100s'", key);
        filter->key = arena_strdup(arena, key);
        if (read_values(values, arena, filter, err) < 0)
            return -1;
    }
    return 0;
}

const struct strv *filters_get(const struct filters *filters, const char *key)
{
    for (size_t i = 0; i < filters->len; i++)
        if (str_eq(filters->items[i].key, key) && filters->items[i].values.len > 0)
            return &filters->items[i].values;
    return NULL;
}

bool filters_equal(const struct filters *filters, const char *key, const char *subject)
{
    const struct strv *values = filters_get(filters, key);
    return !values || (subject && strv_has(values, subject));
}

bool filters_labels(const struct filters *filters, const char *key, const struct kvs *labels)
{
    const struct strv *values = filters_get(filters, key);
    for (size_t i = 0; values && i < values->len; i++) {
        const char *equals = strchr(values->items[i], '=');
        _cleanup_free_ char *name =
            mem_strndup(values->items[i], equals ? (size_t)(equals - values->items[i]) : SIZE_MAX / 2);
        const char *found = kvs_get(labels, name);
        if (!found || (equals && !str_eq(found, equals + 1)))
            return false;
    }
    return true;
}

// Nested repetitions make glibc's compiler use memory without a bound: one counted repetition is allowed, and no long pattern.
static int compile(const char *pattern, regex_t *out, struct err *err)
{
    enum { PATTERN_MAX = 512 };
    const char *brace = strchr(pattern, '{');
    if (strlen(pattern) > PATTERN_MAX || (brace && strchr(brace + 1, '{')))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid filter: pattern too complex: %.100s", pattern);
    if (regcomp(out, pattern, REG_EXTENDED | REG_NOSUB) != 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid filter: bad pattern: %.100s", pattern);
    return 0;
}

int filters_match(const struct filters *filters, const char *key, const char *subject, bool *fits, struct err *err)
{
    const struct strv *values = filters_get(filters, key);
    *fits = !values;
    for (size_t i = 0; values && i < values->len && !*fits; i++) {
        regex_t regex;
        if (str_eq(values->items[i], subject)) {
            *fits = true;
            break;
        }
        if (compile(values->items[i], &regex, err) < 0)
            return -1;
        *fits = regexec(&regex, subject, 0, NULL, 0) == 0;
        regfree(&regex);
    }
    return 0;
}

bool glob_match(const char *pattern, const char *text)
{
    return fnmatch(pattern, text, FNM_PATHNAME) == 0;
}
