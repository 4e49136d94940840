#include <math.h>

#include "base/slice.h"
#include "json/json.h"

// ---- text that may not be UTF-8 -------------------------------------------------------------------------------------

static char *replace_bad_bytes(const char *text)
{
    struct slice left = slice_of(text);
    _cleanup_buf_ struct buf good = BUF_INIT(3 * left.size);
    while (left.size) {
        size_t len = slice_utf8_len(left);
        buf_add(&good, len ? left.data : "\xef\xbf\xbd", len ? len : 3);
        left = (struct slice){ left.data + MAX_OF(len, (size_t)1), left.size - MAX_OF(len, (size_t)1) };
    }
    return buf_take(&good);
}

json_t *json_new_text(const char *text)
{
    json_t *value = json_string(text ? text : "");
    if (value)
        return value;
    _cleanup_free_ char *good = replace_bad_bytes(text);
    return json_string(good);
}

// Takes `value`.
static void set_member(json_t *object, const char *key, json_t *value)
{
    json_incref(value);
    if (json_object_set_new(object, key, value) < 0) {
        _cleanup_free_ char *good = replace_bad_bytes(key);
        json_object_set(object, good, value);
    }
    json_decref(value);
}

// ---- values ---------------------------------------------------------------------------------------------------------

static json_t *encode_texts(const struct strv *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->len; i++)
        json_array_append_new(array, json_new_text(list->items[i]));
    return array;
}

static json_t *encode_text_map(const struct kvs *map)
{
    json_t *object = json_object();
    for (size_t i = 0; i < map->len; i++)
        set_member(object, map->items[i].key, json_new_text(map->items[i].value));
    return object;
}

static json_t *encode_key_set(const struct strv *list)
{
    json_t *object = json_object();
    for (size_t i = 0; i < list->len; i++)
        set_member(object, list->items[i], json_object());
    return object;
}

json_t *json_encode_list(const struct json_table *table, const struct json_list *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->len; i++)
        json_array_append_new(array, json_encode(table, json_list_at(list, table, i)));
    return array;
}

static json_t *encode_map(const struct json_table *sub, const struct json_map *map)
{
    json_t *object = json_object();
    for (size_t i = 0; i < map->len; i++)
        set_member(object, map->keys[i], json_encode(sub, json_map_at(map, sub, i)));
    return object;
}

static json_t *encode_list_map(const struct json_field *field, const struct json_map *map)
{
    const struct json_list *lists = map->items;
    json_t *object = json_object();
    for (size_t i = 0; i < map->len; i++) {
        bool null = (field->flags & JSON_NULL_ITEMS) && lists[i].len == 0;
        set_member(object, map->keys[i], null ? json_null() : json_encode_list(field->sub, &lists[i]));
    }
    return object;
}

static json_t *encode_value(const struct json_field *field, const void *at)
{
    double number;
    switch (field->kind) {
    case JSON_TEXT:
        return json_new_text(*(char *const *)at);
    case JSON_INT:
        return json_integer(*(const int64_t *)at);
    case JSON_FLAG:
        return json_boolean(*(const bool *)at);
    case JSON_NUMBER:
        number = *(const double *)at;
        return json_real(isfinite(number) ? number : 0); // JSON has no word for the others
    case JSON_TEXTS:
        return encode_texts(at);
    case JSON_TEXT_MAP:
        return encode_text_map(at);
    case JSON_KEY_SET:
        return encode_key_set(at);
    case JSON_STRUCT:
        return json_encode(field->sub, at);
    case JSON_STRUCT_PTR:
        return *(void *const *)at ? json_encode(field->sub, *(void *const *)at) : json_null();
    case JSON_LIST:
        return json_encode_list(field->sub, at);
    case JSON_MAP:
        return encode_map(field->sub, at);
    case JSON_LIST_MAP:
        return encode_list_map(field, at);
    case JSON_RAW:
        return *(json_t *const *)at ? json_incref(*(json_t *const *)at) : json_null();
    default:
        return NULL;
    }
}

static bool is_empty(const json_t *value, enum json_kind kind)
{
    if (kind == JSON_STRUCT_PTR || kind == JSON_RAW)
        return json_is_null(value);
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    case JSON_STRING:
        return json_string_length(value) == 0;
    case JSON_INTEGER:
        return json_integer_value(value) == 0;
    case JSON_REAL:
        return json_real_value(value) == 0;
    default:
        return !json_is_true(value);
    }
}

static bool is_container(enum json_kind kind)
{
    return kind == JSON_TEXTS || kind == JSON_TEXT_MAP || kind == JSON_KEY_SET || kind == JSON_LIST || kind == JSON_MAP ||
           kind == JSON_LIST_MAP;
}

json_t *json_encode(const struct json_table *table, const void *in)
{
    json_t *object = json_object();
    for (size_t i = 0; i < table->field_len; i++) {
        const struct json_field *field = &table->fields[i];
        _cleanup_json_ json_t *value = encode_value(field, (const char *)in + field->offset);
        if (!value) // known or refused on the way in, held by no member
            continue;
        bool empty = is_empty(value, field->kind);
        if (empty && (field->flags & JSON_OMIT_EMPTY))
            continue;
        bool null = empty && (field->flags & JSON_NULL_EMPTY) && is_container(field->kind);
        json_object_set(object, field->name, null ? json_null() : value);
    }
    return object;
}

void *json_list_add(struct json_list *list, const struct json_table *sub, struct arena *arena)
{
    if (list->len >= list->capacity) {
        size_t capacity = MAX_OF((size_t)4, 2 * list->len);
        void *grown = arena_alloc(arena, capacity * sub->size);
        if (list->len)
            memcpy(grown, list->items, list->len * sub->size);
        list->items = grown;
        list->capacity = capacity;
    }
    return memset((char *)list->items + list->len++ * sub->size, 0, sub->size);
}
