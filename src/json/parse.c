// Text to jansson and back. Before jansson sees a text its depth is bounded here, and integers that int64_t cannot hold,
// which jansson refuses, replaced.
#include "base/num.h"
#include "base/slice.h"
#include "json/json.h"

// The end of the string that starts at text[at]; `size` when it does not end.
static size_t skip_string(const char *text, size_t size, size_t at)
{
    for (at++; at < size && text[at] != '"'; at++)
        if (text[at] == '\\')
            at++;
    return MIN_OF(at + 1, size);
}

static bool too_deep(const char *text, size_t size)
{
    size_t depth = 0;
    for (size_t at = 0; at < size;) {
        if (text[at] == '"') {
            at = skip_string(text, size, at);
            continue;
        }
        if ((text[at] == '[' || text[at] == '{') && ++depth > JSON_DEPTH_MAX)
            return true;
        if ((text[at] == ']' || text[at] == '}') && depth > 0)
            depth--;
        at++;
    }
    return false;
}

static bool in_number(char c)
{
    return (c >= '0' && c <= '9') || (c && strchr("+-.eE", c));
}

// What stands for integers beyond int64_t, at most 19 digits long.
struct beyond {
    const char *above, *below;
};
static const struct beyond nearest = { "9223372036854775807", "-9223372036854775808" }, as_real = { "1e19", "-1e19" };

// A copy in which integers beyond int64_t are something else. Those have 19 digits or more, so that fits into their place, and blanks
// after it keep line and column of everything else.
static char *replace_integers(const char *text, size_t size, const struct beyond *beyond)
{
    char *copy = mem_alloc(size + 1);
    memcpy(copy, text, size);
    for (size_t at = 0, end; at < size; at = end) {
        end = at + 1;
        if (text[at] == '"')
            end = skip_string(text, size, at);
        if (text[at] != '-' && (text[at] < '0' || text[at] > '9'))
            continue;
        while (end < size && in_number(text[end]))
            end++;
        struct slice digits = { text + at + (text[at] == '-'), end - at - (text[at] == '-') };
        int64_t fits;
        bool integer = digits.size >= 19 && digits.data[0] != '0';
        for (size_t i = 0; i < digits.size; i++)
            integer = integer && digits.data[i] >= '0' && digits.data[i] <= '9';
        if (!integer || num_parse_i64((struct slice){ text + at, end - at }, &fits))
            continue;
        const char *word = text[at] == '-' ? beyond->below : beyond->above;
        memset(copy + at, ' ', end - at);
        memcpy(copy + at, word, strlen(word));
    }
    return copy;
}

static int parse(const char *text, size_t size, const struct beyond *beyond, json_t **out, struct err *err)
{
    json_error_t error;
    if (too_deep(text, size))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid JSON: nested deeper than %d", JSON_DEPTH_MAX);
    json_t *value = json_loadb(text, size, JSON_DECODE_ANY, &error);
    if (!value && json_error_code(&error) == json_error_numeric_overflow) {
        _cleanup_free_ char *copy = replace_integers(text, size, beyond);
        value = json_loadb(copy, size, JSON_DECODE_ANY, &error);
    }
    if (!value)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid JSON: line %d column %d: %s", error.line, error.column,
                       error.text);
    *out = value;
    return 0;
}

int json_parse(const char *text, size_t size, json_t **out, struct err *err)
{
    return parse(text, size, &nearest, out, err);
}

int json_parse_unclamped(const char *text, size_t size, json_t **out, struct err *err)
{
    return parse(text, size, &as_real, out, err);
}

static int add_chunk(const char *data, size_t size, void *context)
{
    buf_add(context, data, size);
    return 0;
}

void json_write(json_t *value, struct buf *out)
{
    json_dump_callback(value, add_chunk, out, JSON_COMPACT | JSON_ENCODE_ANY);
}

char *json_text(json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    return text ? text : mem_strdup("null");
}

const char *json_get_text(const json_t *object, const char *key, const char *fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_string(value) ? json_string_value(value) : fallback;
}

int64_t json_get_int(const json_t *object, const char *key, int64_t fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : fallback;
}

bool json_get_flag(const json_t *object, const char *key, bool fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : fallback;
}
