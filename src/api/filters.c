// The `filters` parameter: parsing, and the ways a value may fit.

#include "api_private.h"
#include "base/pattern.h"

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

int filters_flag(const struct filters *filters, const char *key, int *out, struct err *err)
{
    const struct strv *values = filters_get(filters, key);
    const char *word = values ? values->items[0] : NULL;
    bool yes = word && (str_eq(word, "true") || str_eq(word, "1"));
    *out = word ? yes : -1;
    if (word && !yes && !str_eq(word, "false") && !str_eq(word, "0"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid filter '%s=[%.100s]'", key, word);
    return 0;
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
        size_t name_size = strcspn(values->items[i], "=");
        const char *equals = values->items[i][name_size] ? values->items[i] + name_size : NULL;
        _cleanup_free_ char *name = mem_strndup(values->items[i], name_size);
        const char *found = kvs_get(labels, name);
        if (!found || (equals && !str_eq(found, equals + 1)))
            return false;
    }
    return true;
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
        if (pattern_compile(values->items[i], &regex, err) < 0)
            return err_wrap(err, "invalid filter");
        *fits = pattern_fits(&regex, subject);
        regfree(&regex);
    }
    return 0;
}

// ---- globs ----------------------------------------------------------------------------------------------------------

// One "[a-z]" or "[^a-z]" at *pattern against a character; moves *pattern behind it. False as well when it has no end.
static bool match_class(const char **pattern, char c)
{
    const char *at = *pattern + 1;
    bool negated = *at == '^' || *at == '!', found = false;
    at += negated;
    for (bool first = true; *at && (*at != ']' || first); first = false) {
        char low = *at++, high = low;
        if (*at == '-' && at[1] && at[1] != ']') {
            high = at[1];
            at += 2;
        }
        found = found || (c >= low && c <= high);
    }
    if (!*at)
        return false;
    *pattern = at + 1;
    return c != '/' && found != negated;
}

// One element of the pattern that is no star.
static bool match_one(const char **pattern, char c)
{
    if (**pattern == '[')
        return match_class(pattern, c);
    if (**pattern == '?')
        return (*pattern)++, c != '/';
    if (**pattern == '\\' && (*pattern)[1])
        (*pattern)++;
    return *(*pattern)++ == c;
}

bool glob_valid(const char *pattern)
{
    for (; *pattern; pattern++) {
        if (*pattern == '[')
            pattern = strchr(pattern + 1, ']');
        else if (*pattern == '\\' && !*++pattern)
            return false;
        if (!pattern)
            return false;
    }
    return true;
}

// Only the last star is ever tried again, a character further each time: what an earlier one matched can't matter any more. So
// the time is bounded by the product of the lengths, which fnmatch() does not promise.
bool glob_match(const char *pattern, const char *text)
{
    const char *after_star = NULL, *star_text = NULL;
    while (*text || *pattern) {
        const char *next = pattern;
        if (*pattern == '*') {
            after_star = ++pattern;
            star_text = text;
        } else if (*pattern && *text && match_one(&next, *text)) {
            pattern = next;
            text++;
        } else if (after_star && *star_text && *star_text != '/') {
            pattern = after_star;
            text = ++star_text;
        } else {
            return false;
        }
    }
    return true;
}
