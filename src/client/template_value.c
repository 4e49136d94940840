// How Go prints what JSON holds, and what it takes for true.

#include "client/template_private.h"

bool value_true(struct value value)
{
    if (!value.json)
        return false;
    switch (json_typeof(value.json)) {
    case JSON_STRING:
        return json_string_length(value.json) > 0;
    case JSON_INTEGER:
        return json_integer_value(value.json) != 0;
    case JSON_REAL:
        return json_real_value(value.json) != 0.0;
    case JSON_ARRAY:
        return json_array_size(value.json) > 0;
    case JSON_OBJECT:
        return json_object_size(value.json) > 0 || !nature_is_map(value.nature);
    case JSON_TRUE:
        return true;
    case JSON_FALSE:
    case JSON_NULL:
        break;
    }
    return false;
}

struct value value_item(struct value map, const char *key)
{
    static const enum nature of_values[] = {
        [NATURE_MAP] = NATURE_TEXT, [NATURE_MAP_OF_LISTS] = NATURE_LIST, [NATURE_MAP_OF_POINTERS] = NATURE_POINTER,
    };
    json_t *json = json_object_get(map.json, key);
    bool known = map.nature < ARRAY_LEN(of_values);
    return (struct value){ json, (json && !json_is_null(json)) || !known ? NATURE_UNKNOWN : of_values[map.nature] };
}

static void print_nothing(enum nature nature, struct buf *out)
{
    static const char *const words[] = {
        [NATURE_UNKNOWN] = "<nil>", [NATURE_TEXT] = "", [NATURE_NUMBER] = "0", [NATURE_FLAG] = "false", [NATURE_LIST] = "[]",
        [NATURE_POINTER] = "<nil>", [NATURE_MAP] = "map[]", [NATURE_MAP_OF_LISTS] = "map[]", [NATURE_MAP_OF_POINTERS] = "map[]",
        [NATURE_MAP_OF_ANY] = "map[]",
    };
    buf_adds(out, words[nature]);
}

// The shortest digits that give the same number; exponents as Go's %v: below -4 and from 21 on.
static void print_real(double value, struct buf *out)
{
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*e", digits - 1, value);
        if (strtod(text, NULL) == value)
            break;
    }
    const char *e = strchr(text, 'e');
    long exponent = e ? strtol(e + 1, NULL, 10) : 0;
    if (!e || exponent < -4 || exponent >= 21) {
        buf_adds(out, text);
        return;
    }
    long digits = (long)strcspn(text, "e") - (*text == '-') - (strchr(text, '.') != NULL);
    buf_addf(out, "%.*f", (int)MAX_OF(digits - 1 - exponent, 0L), value);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// A map by its keys' order, a struct by its fields'.
static void print_object(struct value value, struct buf *out)
{
    bool map = nature_is_map(value.nature);
    size_t len = json_object_size(value.json), i = 0;
    const char **keys = mem_alloc((len + 1) * sizeof(*keys)), *key;
    json_t *item;
    json_object_foreach(value.json, key, item)
        keys[i++] = key;
    if (map)
        qsort(keys, len, sizeof(*keys), by_name);
    buf_adds(out, map ? "map[" : "{");
    for (i = 0; i < len; i++) {
        buf_adds(out, i ? " " : "");
        if (map)
            buf_addf(out, "%s:", keys[i]);
        enum nature nature = map ? NATURE_UNKNOWN : nature_of(keys[i]);
        item = json_object_get(value.json, keys[i]);
        if (json_is_null(item) && nature == NATURE_UNKNOWN && !map)
            nature = NATURE_LIST;
        value_print((struct value){ item, nature }, out);
    }
    buf_adds(out, map ? "]" : "}");
    free(keys);
}

void value_print(struct value value, struct buf *out)
{
    if (!value.json || json_is_null(value.json)) {
        print_nothing(value.nature, out);
        return;
    }
    switch (json_typeof(value.json)) {
    case JSON_STRING:
        buf_add(out, json_string_value(value.json), json_string_length(value.json));
        break;
    case JSON_INTEGER:
        buf_addf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value.json));
        break;
    case JSON_REAL:
        print_real(json_real_value(value.json), out);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        buf_adds(out, json_is_true(value.json) ? "true" : "false");
        break;
    case JSON_ARRAY:
        buf_addc(out, '[');
        for (size_t i = 0; i < json_array_size(value.json); i++) {
            buf_adds(out, i ? " " : "");
            value_print((struct value){ .json = json_array_get(value.json, i) }, out);
        }
        buf_addc(out, ']');
        break;
    case JSON_OBJECT:
        print_object(value, out);
        break;
    case JSON_NULL:
        break;
    }
}
