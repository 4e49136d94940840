// Decoding walks the document, not the table: each member is looked up in the table, exactly first and then without
// regard to case, as Go's decoder does. Where we stand is kept as a chain on the stack and becomes text only in an error.
#include <strings.h>

#include "base/slice.h"
#include "json/json.h"

enum { KEY_SHOWN = 200, PATH_SIZE = 4096, UNKNOWN_MAX = 100 };

// One step of the path to the current value; the chain is read from its end.
struct place {
    const struct place *up;
    const char *key; // NULL: an array index
    size_t index;
};

struct decoder {
    struct arena *arena;
    struct json_report *report;
    struct err *err;
};

static void write_place(const struct place *place, struct buf *out)
{
    if (!place)
        return;
    write_place(place->up, out);
    if (!place->key) {
        buf_addf(out, "[%zu]", place->index);
        return;
    }
    struct slice shown = slice_utf8_head(slice_of(place->key), KEY_SHOWN);
    buf_addf(out, "%s%.*s", out->size ? "." : "", (int)shown.size, shown.data);
}

static const char *kind_name(const json_t *value)
{
    static const char *const names[] = { "object", "array", "string", "integer", "number", "boolean", "boolean", "null" };
    return names[json_typeof(value)];
}

static int wrong_kind(const struct decoder *decoder, const struct place *place, const char *expected, const json_t *value)
{
    _cleanup_buf_ struct buf path = BUF_INIT(PATH_SIZE);
    write_place(place, &path);
    return err_set(decoder->err, ERR_INVALID_ARGUMENT, "%s%sexpected %s, got %s", buf_text(&path), path.size ? ": " : "",
                   expected, kind_name(value));
}

// ---- what says nothing ----------------------------------------------------------------------------------------------

static bool is_noop_word(const char *text, unsigned flags)
{
    return !*text || ((flags & JSON_NOOP_DEFAULT_WORD) && str_eq(text, "default")) ||
           ((flags & JSON_NOOP_NO_WORD) && str_eq(text, "no")) ||
           ((flags & JSON_NOOP_PRIVATE_WORD) && str_eq(text, "private")) ||
           ((flags & JSON_NOOP_LOCAL_WORD) && str_eq(text, "local"));
}

static bool is_noop(const json_t *value, unsigned flags)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
    case JSON_FALSE:
        return true;
    case JSON_TRUE:
        return flags & JSON_NOOP_TRUE;
    case JSON_INTEGER:
        return json_integer_value(value) == 0 || ((flags & JSON_NOOP_MINUS_ONE) && json_integer_value(value) == -1);
    case JSON_REAL:
        return json_real_value(value) == 0;
    case JSON_STRING:
        return is_noop_word(json_string_value(value), flags);
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    default:
        break;
    }
    // An object says nothing when none of its members does.
    const char *key;
    json_t *item;
    json_object_foreach ((json_t *)value, key, item)
        if (!is_noop(item, flags))
            return false;
    return true;
}

static int refuse(const struct decoder *decoder, const struct json_field *field, const struct place *place)
{
    _cleanup_buf_ struct buf path = BUF_INIT(PATH_SIZE);
    write_place(place, &path);
    return err_set(decoder->err, ERR_NOT_IMPLEMENTED, "%s: not supported yet%s%s", buf_text(&path), field->why ? ": " : "",
                   field->why ? field->why : "");
}

static void note_unknown(const struct decoder *decoder, const json_t *value, const struct place *place)
{
    _cleanup_buf_ struct buf path = BUF_INIT(PATH_SIZE);
    if (!decoder->report || is_noop(value, 0) || decoder->report->unknown.len >= UNKNOWN_MAX)
        return;
    write_place(place, &path);
    strv_push_arena(&decoder->report->unknown, decoder->arena, buf_text(&path));
}

// The members of a value of which nothing is read.
static void note_members(const struct decoder *decoder, json_t *object, const struct place *place)
{
    const char *key;
    json_t *item;
    json_object_foreach (object, key, item) {
        const struct place here = { place, key, 0 };
        note_unknown(decoder, item, &here);
    }
}

// ---- scalars --------------------------------------------------------------------------------------------------------

static int decode_text(struct decoder *decoder, json_t *value, char **out, const struct place *place)
{
    if (!json_is_string(value))
        return wrong_kind(decoder, place, "string", value);
    *out = arena_strndup(decoder->arena, json_string_value(value), json_string_length(value));
    return 0;
}

static int decode_int(struct decoder *decoder, const json_t *value, int64_t *out, const struct place *place)
{
    if (!json_is_integer(value))
        return wrong_kind(decoder, place, "integer", value);
    *out = json_integer_value(value);
    return 0;
}

// ---- lists and maps -------------------------------------------------------------------------------------------------

static int decode_struct(struct decoder *decoder, const struct json_table *table, json_t *value, void *out,
                         const struct place *place);

static const json_t *find_member(const json_t *object, const char *name)
{
    const char *key;
    json_t *item;
    json_object_foreach ((json_t *)object, key, item)
        if (strcasecmp(key, name) == 0 && !json_is_null(item))
            return item;
    return NULL;
}

static int check_required(const struct decoder *decoder, const struct json_table *table, const json_t *value,
                          const struct place *place)
{
    for (size_t i = 0; i < table->field_len; i++) {
        const struct json_field *field = &table->fields[i];
        if (!field->required || find_member(value, field->name))
            continue;
        const struct place here = { place, field->name, 0 };
        _cleanup_buf_ struct buf path = BUF_INIT(PATH_SIZE);
        write_place(&here, &path);
        return err_set(decoder->err, ERR_INVALID_ARGUMENT, "%s: missing", buf_text(&path));
    }
    return 0;
}

static int decode_texts(struct decoder *decoder, const struct json_field *field, json_t *value, struct strv *out,
                        const struct place *place)
{
    size_t i;
    json_t *item;
    if (json_is_string(value) && (field->flags & JSON_ONE_IS_LIST)) {
        strv_push_arena(out, decoder->arena, json_string_value(value));
        return 0;
    }
    if (!json_is_array(value))
        return wrong_kind(decoder, place, "list of strings", value);
    json_array_foreach (value, i, item) {
        const struct place here = { place, NULL, i };
        if (!json_is_string(item) && !json_is_null(item))
            return wrong_kind(decoder, &here, "string", item);
        strv_push_arena(out, decoder->arena, json_is_null(item) ? "" : json_string_value(item));
    }
    return 0;
}

static int decode_text_map(struct decoder *decoder, json_t *value, struct kvs *out, const struct place *place)
{
    const char *key;
    json_t *item;
    if (!json_is_object(value))
        return wrong_kind(decoder, place, "object of strings", value);
    out->items = arena_alloc(decoder->arena, (json_object_size(value) + 1) * sizeof(*out->items));
    json_object_foreach (value, key, item) {
        const struct place here = { place, key, 0 };
        struct kv *entry = &out->items[out->len++];
        entry->key = arena_strdup(decoder->arena, key);
        entry->value = (char *)"";
        if (!json_is_null(item) && decode_text(decoder, item, &entry->value, &here) < 0)
            return -1;
    }
    return 0;
}

static int decode_key_set(struct decoder *decoder, json_t *value, struct strv *out, const struct place *place)
{
    const char *key;
    json_t *item;
    if (!json_is_object(value))
        return wrong_kind(decoder, place, "object", value);
    json_object_foreach (value, key, item) {
        const struct place here = { place, key, 0 };
        if (!json_is_object(item) && !json_is_null(item))
            return wrong_kind(decoder, &here, "object", item);
        note_members(decoder, item, &here);
        strv_push_arena(out, decoder->arena, key);
    }
    return 0;
}

// An item of a list or map, where null is an object without members.
static int decode_item(struct decoder *decoder, const struct json_table *sub, json_t *item, void *out,
                       const struct place *place)
{
    return json_is_null(item) ? check_required(decoder, sub, item, place) : decode_struct(decoder, sub, item, out, place);
}

static int decode_list(struct decoder *decoder, const struct json_table *sub, json_t *value, struct json_list *out,
                       const struct place *place)
{
    size_t i;
    json_t *item;
    if (json_is_null(value))
        return 0;
    if (!json_is_array(value))
        return wrong_kind(decoder, place, "list", value);
    out->capacity = json_array_size(value) + 1;
    out->items = arena_alloc(decoder->arena, out->capacity * sub->size);
    json_array_foreach (value, i, item) {
        const struct place here = { place, NULL, i };
        if (decode_item(decoder, sub, item, json_list_at(out, sub, i), &here) < 0)
            return -1;
        out->len++;
    }
    return 0;
}

static int decode_map(struct decoder *decoder, const struct json_field *field, json_t *value, struct json_map *out,
                      const struct place *place)
{
    const char *key;
    json_t *item;
    bool of_lists = field->kind == JSON_LIST_MAP;
    size_t item_size = of_lists ? sizeof(struct json_list) : field->sub->size;
    if (!json_is_object(value))
        return wrong_kind(decoder, place, "object", value);
    out->keys = arena_alloc(decoder->arena, (json_object_size(value) + 1) * sizeof(*out->keys));
    out->items = arena_alloc(decoder->arena, (json_object_size(value) + 1) * item_size);
    json_object_foreach (value, key, item) {
        const struct place here = { place, key, 0 };
        void *slot = (char *)out->items + out->len * item_size;
        out->keys[out->len] = arena_strdup(decoder->arena, key);
        if (of_lists ? decode_list(decoder, field->sub, item, slot, &here) < 0
                     : decode_item(decoder, field->sub, item, slot, &here) < 0)
            return -1;
        out->len++;
    }
    return 0;
}

// ---- fields ---------------------------------------------------------------------------------------------------------

static int decode_value(struct decoder *decoder, const struct json_field *field, json_t *value, void *at,
                        const struct place *place)
{
    switch (field->kind) {
    case JSON_TEXT:
        return decode_text(decoder, value, at, place);
    case JSON_INT:
        return decode_int(decoder, value, at, place);
    case JSON_FLAG:
        if (!json_is_boolean(value))
            return wrong_kind(decoder, place, "boolean", value);
        *(bool *)at = json_is_true(value);
        return 0;
    case JSON_NUMBER:
        if (!json_is_number(value))
            return wrong_kind(decoder, place, "number", value);
        *(double *)at = json_number_value(value);
        return 0;
    case JSON_TEXTS:
        return decode_texts(decoder, field, value, at, place);
    case JSON_TEXT_MAP:
        return decode_text_map(decoder, value, at, place);
    case JSON_KEY_SET:
        return decode_key_set(decoder, value, at, place);
    case JSON_STRUCT:
        return decode_struct(decoder, field->sub, value, at, place);
    case JSON_STRUCT_PTR:
        *(void **)at = arena_alloc(decoder->arena, field->sub->size);
        return decode_struct(decoder, field->sub, value, *(void **)at, place);
    case JSON_LIST:
        return decode_list(decoder, field->sub, value, at, place);
    case JSON_MAP:
    case JSON_LIST_MAP:
        return decode_map(decoder, field, value, at, place);
    default:
        return 0;
    }
}

static size_t member_size(const struct json_field *field)
{
    static const size_t sizes[] = {
        [JSON_TEXT] = sizeof(char *),         [JSON_INT] = sizeof(int64_t),         [JSON_FLAG] = sizeof(bool),
        [JSON_NUMBER] = sizeof(double),       [JSON_TEXTS] = sizeof(struct strv),   [JSON_TEXT_MAP] = sizeof(struct kvs),
        [JSON_KEY_SET] = sizeof(struct strv), [JSON_STRUCT_PTR] = sizeof(void *),   [JSON_LIST] = sizeof(struct json_list),
        [JSON_MAP] = sizeof(struct json_map), [JSON_LIST_MAP] = sizeof(struct json_map), [JSON_RAW] = sizeof(json_t *),
    };
    return sizes[field->kind];
}

static int decode_field(struct decoder *decoder, const struct json_field *field, json_t *value, void *out,
                        const struct place *place)
{
    void *at = (char *)out + field->offset;
    if (field->kind == JSON_IGNORED)
        return 0;
    if (field->kind == JSON_UNHONOURED)
        return is_noop(value, field->flags) ? 0 : refuse(decoder, field, place);
    // An earlier spelling of the same name may have left something here. A nested struct is merged, as in Go; and its
    // table may describe members of the struct around it (offset 0).
    if (field->kind != JSON_STRUCT)
        memset(at, 0, member_size(field));
    if (field->kind == JSON_RAW)
        *(json_t **)at = value;
    else if (!json_is_null(value))
        return decode_value(decoder, field, value, at, place);
    return 0;
}

static const struct json_field *find_field(const struct json_table *table, const char *name)
{
    for (size_t i = 0; i < table->field_len; i++)
        if (strcmp(table->fields[i].name, name) == 0)
            return &table->fields[i];
    for (size_t i = 0; i < table->field_len; i++)
        if (strcasecmp(table->fields[i].name, name) == 0)
            return &table->fields[i];
    return NULL;
}

static int decode_struct(struct decoder *decoder, const struct json_table *table, json_t *value, void *out,
                         const struct place *place)
{
    const char *key;
    json_t *item;
    if (!json_is_object(value))
        return wrong_kind(decoder, place, "object", value);
    json_object_foreach (value, key, item) {
        const struct place here = { place, key, 0 };
        const struct json_field *field = find_field(table, key);
        if (!field)
            note_unknown(decoder, item, &here);
        else if (decode_field(decoder, field, item, out, &here) < 0)
            return -1;
    }
    return check_required(decoder, table, value, place);
}

int json_decode(const struct json_table *table, json_t *value, void *out, struct arena *arena,
                struct json_report *report, struct err *err)
{
    struct decoder decoder = { arena, report, err };
    memset(out, 0, table->size);
    return decode_struct(&decoder, table, value, out, NULL);
}

int json_decode_text(const struct json_table *table, const char *text, size_t size, void *out, struct arena *arena,
                     struct json_report *report, struct err *err)
{
    _cleanup_json_ json_t *value = NULL;
    if (json_parse(text, size, &value, err) < 0)
        return -1;
    return json_decode(table, value, out, arena, report, err);
}
