// daemon.json: the same options, lists under their plural names. A key that is a flag too, a key that nobody knows: errors, worded
// as dockerd words them, because people search for those words.
#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "json/json.h"
#include "options_private.h"

#define FILE_MAX ((size_t)1 << 20)

static bool takes_object(const struct option_row *row)
{
    return row && (row->kind == OPTION_PAIRS || row->kind == OPTION_ULIMITS || row->kind == OPTION_OBJECTS || row->kind == OPTION_NESTED);
}

// Objects that are no option's value are groups of options: {"proxies": {"http-proxy": ...}}. A new reference.
static json_t *flatten(json_t *document)
{
    const char *key;
    json_t *value, *flat = json_object();
    json_object_foreach (document, key, value)
        if (json_is_object(value) && !takes_object(option_by_key(key)))
            json_object_update(flat, value);
        else
            json_object_set(flat, key, value);
    return flat;
}

static int find_unknown(json_t *flat, struct err *err)
{
    _cleanup_buf_ struct buf names = BUF_INIT(800);
    const char *key;
    json_t *value;
    json_object_foreach (flat, key, value)
        if (!option_by_key(key))
            buf_addf(&names, "%s%s", names.size ? ", " : "", key);
    if (names.size == 0)
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "the following directives don't match any configuration option: %s", buf_text(&names));
}

// ---- conflicts ------------------------------------------------------------------------------------------------------

// As Go prints a value: [a b], map[k:v], 5, true.
static void print_value(const json_t *value, struct buf *out)
{
    size_t index;
    const char *key;
    json_t *item;
    if (json_is_string(value)) {
        buf_adds(out, json_string_value(value));
    } else if (json_is_array(value)) {
        buf_addc(out, '[');
        json_array_foreach (value, index, item) {
            buf_adds(out, index ? " " : "");
            print_value(item, out);
        }
        buf_addc(out, ']');
    } else if (json_is_object(value)) {
        size_t at = 0;
        buf_adds(out, "map[");
        json_object_foreach ((json_t *)value, key, item) {
            buf_addf(out, "%s%s:", at++ ? " " : "", key);
            print_value(item, out);
        }
        buf_addc(out, ']');
    } else if (json_is_null(value)) {
        buf_adds(out, "<nil>");
    } else {
        json_write((json_t *)value, out);
    }
}

static void print_flag(const struct options *options, const struct option_row *row, struct buf *out)
{
    const void *place = (const char *)options + row->offset;
    if (row->answer != OPTION_HONOURED) {
        buf_adds(out, "its default"); // nothing else passes
    } else if (row->kind == OPTION_TEXT) {
        buf_adds(out, *(char *const *)place);
    } else if (row->kind == OPTION_FLAG) {
        buf_adds(out, *(const bool *)place ? "true" : "false");
    } else if (row->kind == OPTION_COUNT || row->kind == OPTION_SIZE) {
        buf_addf(out, "%lld", (long long)*(const int64_t *)place);
    } else {
        const struct strv *list = place;
        buf_addc(out, '[');
        for (size_t i = 0; i < list->len; i++)
            buf_addf(out, "%s%s", i ? " " : "", list->items[i]);
        buf_addc(out, ']');
    }
}

static int find_conflicts(const struct options *options, json_t *flat, struct err *err)
{
    _cleanup_buf_ struct buf found = BUF_INIT(800);
    for (size_t i = 0; i < option_len; i++) {
        const struct option_row *row = &option_table[i];
        json_t *value = row->key ? json_object_get(flat, row->key) : NULL;
        if (!value || options->from[i] != OPTION_FROM_FLAG)
            continue;
        buf_addf(&found, "%s%s: (from flag: ", found.size ? ", " : "", row->key);
        print_flag(options, row, &found);
        buf_adds(&found, ", from file: ");
        print_value(value, &found);
        buf_addc(&found, ')');
    }
    if (found.size == 0)
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "the following directives are specified both as a flag and in the configuration file: %s",
                   buf_text(&found));
}

// ---- values ---------------------------------------------------------------------------------------------------------

static int wrong_kind(const char *expected, struct err *err)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid JSON: expected %s", expected);
}

// A value of one word as the text that a flag would have.
static char *scalar_text(const json_t *value, struct arena *arena)
{
    if (json_is_string(value))
        return arena_strdup(arena, json_string_value(value));
    if (json_is_integer(value))
        return arena_printf(arena, "%lld", (long long)json_integer_value(value));
    return json_is_boolean(value) ? arena_strdup(arena, json_is_true(value) ? "true" : "false") : NULL;
}

static bool kind_fits(enum option_kind kind, const json_t *value)
{
    switch (kind) {
    case OPTION_TEXT:
        return json_is_string(value);
    case OPTION_FLAG:
        return json_is_boolean(value);
    case OPTION_COUNT:
        return json_is_integer(value);
    default:
        return json_is_integer(value) || json_is_string(value);
    }
}

static int set_list(struct options *options, const struct option_row *row, const json_t *list, struct err *err)
{
    size_t index;
    json_t *item;
    if (!json_is_array(list))
        return wrong_kind("a list", err);
    json_array_foreach (list, index, item) {
        const char *text = json_is_string(item) ? json_string_value(item) : "an object";
        if (!json_is_string(item) && row->kind == OPTION_LIST)
            return wrong_kind("a list of strings", err);
        if (row->kind == OPTION_POOLS)
            text = arena_printf(&options->arena, "base=%s,size=%lld", json_get_text(item, "base", ""), (long long)json_get_int(item, "size", 0));
        if (option_set(options, row, text, err) < 0)
            return -1;
    }
    return 0;
}

// {"bridge": {"com.docker.network.driver.mtu": "1400"}}
static int set_nested(struct options *options, const struct option_row *row, json_t *map, struct err *err)
{
    const char *group, *key;
    json_t *inner, *value;
    if (!json_is_object(map))
        return wrong_kind("an object", err);
    json_object_foreach (map, group, inner)
        json_object_foreach (inner, key, value) {
            const char *text = json_is_string(value) ? arena_printf(&options->arena, "%s=%s=%s", group, key, json_string_value(value)) : NULL;
            if (!text)
                return wrong_kind("an object of objects of strings", err);
            if (option_set(options, row, text, err) < 0)
                return -1;
        }
    return 0;
}

static int set_map(struct options *options, const struct option_row *row, json_t *map, struct err *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(map))
        return wrong_kind("an object", err);
    json_object_foreach (map, key, value) {
        char *text = scalar_text(value, &options->arena);
        if (row->kind == OPTION_ULIMITS && json_is_object(value))
            text = arena_printf(&options->arena, "%s=%lld:%lld", json_get_text(value, "Name", key), (long long)json_get_int(value, "Soft", 0),
                                (long long)json_get_int(value, "Hard", 0));
        else if (row->kind == OPTION_PAIRS && text)
            text = arena_printf(&options->arena, "%s=%s", key, text);
        else if (row->answer == OPTION_REFUSED)
            text = arena_strdup(&options->arena, key);
        if (!text)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid JSON: %s has a value of the wrong kind", key);
        if (option_set(options, row, text, err) < 0)
            return -1;
    }
    return 0;
}

static int set_value(struct options *options, const struct option_row *row, json_t *value, struct err *err)
{
    if (json_is_null(value))
        return 0;
    if (row->kind == OPTION_LIST || row->kind == OPTION_POOLS || (row->kind == OPTION_OBJECTS && json_is_array(value)))
        return set_list(options, row, value, err);
    if (row->kind == OPTION_NESTED)
        return set_nested(options, row, value, err);
    if (takes_object(row))
        return set_map(options, row, value, err);
    if (!kind_fits(row->kind, value))
        return wrong_kind(row->kind == OPTION_TEXT ? "a string" : row->kind == OPTION_FLAG ? "true or false" : "a whole number", err);
    return option_set(options, row, scalar_text(value, &options->arena), err);
}

static int set_all(struct options *options, json_t *flat, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach (flat, key, value) {
        const struct option_row *row = option_by_key(key);
        if (set_value(options, row, value, err) < 0)
            return err_wrap(err, "%s", key);
        options->from[row - option_table] = OPTION_FROM_FILE;
    }
    return 0;
}

static int read_text(struct options *options, const char *text, size_t size, struct err *err)
{
    static const char mark[] = "\xef\xbb\xbf"; // what some editors write before UTF-8
    _cleanup_json_ json_t *document = NULL, *flat = NULL;
    if (size >= 3 && memcmp(text, mark, 3) == 0) {
        text += 3;
        size -= 3;
    }
    if (slice_trim((struct slice){ text, size }).size == 0)
        return 0;
    if (json_parse(text, size, &document, err) < 0)
        return err_wrap(err, "invalid JSON");
    if (!json_is_object(document))
        return wrong_kind("an object", err);
    flat = flatten(document);
    if (find_unknown(flat, err) < 0 || find_conflicts(options, flat, err) < 0)
        return -1;
    return set_all(options, flat, err);
}

int options_read_file(struct options *options, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
    struct err failure = { 0 };
    int result = file_read_at(AT_FDCWD, options->config_file, &text, &failure);
    if (result < 0 && failure.number == ENOENT && !options_given(options, "config-file"))
        return 0;
    if (result == 0)
        result = read_text(options, buf_text(&text), text.size, &failure);
    if (result == 0)
        return 0;
    if (err)
        *err = failure;
    return err_wrap(err, "unable to configure the daemon with file %s", options->config_file);
}
