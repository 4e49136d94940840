// JSON <-> C structs by field tables. One table per struct is the index of what a document may say: each row names the
// field, its kind, its place in the struct, and what happens when it is missing or not honoured. The generated tests,
// the API's refusals and the writers all read the same rows.
//
//     struct port { char *proto; int64_t number; };
//     static const struct json_field port_fields[] = {
//         JSON_FIELD("Proto", JSON_TEXT, struct port, proto),
//         JSON_FIELD("Number", JSON_INT, struct port, number, .required = true),
//         JSON_REFUSED("Fancy"),
//     };
//     const struct json_table port_table = JSON_TABLE(struct port, port_fields);
//
// Decoding allocates from the caller's arena; the struct lives as long as the arena. Strings that are absent or null
// stay NULL, lists and maps are empty, numbers 0. Encoding writes fields in table order.
//
// jansson (json_t) stays visible for documents whose shape is open; its names are not wrapped.
#ifndef JSON_JSON_H
#define JSON_JSON_H

#include <jansson.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/strv.h"

enum json_kind {
    JSON_TEXT, // char *
    JSON_INT, // int64_t; as in Go, neither 1e9 nor 1.0 is one
    JSON_FLAG, // bool
    JSON_NUMBER, // double
    JSON_TEXTS, // struct strv; a null among the items is "". A single string is accepted where `flags` has JSON_ONE_IS_LIST
    JSON_TEXT_MAP, // struct kvs (object of strings)
    JSON_KEY_SET, // struct strv (object of empty objects: {"80/tcp": {}})
    JSON_STRUCT, // nested struct in place; with a table for the outer struct, its members may stand anywhere in that
    JSON_STRUCT_PTR, // struct X *, NULL when absent or null
    JSON_LIST, // struct json_list of structs
    JSON_MAP, // struct json_map: object of structs
    JSON_LIST_MAP, // struct json_map whose values are struct json_list (PortBindings)
    JSON_RAW, // json_t *, borrowed from the decoded value; kept as it is; NULL when absent (null is a json null)
    JSON_IGNORED, // known, read by nobody, always harmless
    JSON_UNHONOURED, // known but not honoured: its no-op values pass, anything else is not_implemented
};

// Which values of an unhonoured field say nothing: null, "", [], {}, 0 and false always do, and an object whose members
// all do; these words add to them.
enum json_noop {
    JSON_NOOP_PLAIN = 0,
    JSON_NOOP_MINUS_ONE = 1 << 0,
    JSON_NOOP_DEFAULT_WORD = 1 << 1, // "default"
    JSON_NOOP_NO_WORD = 1 << 2, // "no"
    JSON_NOOP_TRUE = 1 << 3,
    JSON_NOOP_PRIVATE_WORD = 1 << 4, // "private"
    JSON_NOOP_LOCAL_WORD = 1 << 5, // "local"
    JSON_ONE_IS_LIST = 1 << 8,
    JSON_OMIT_EMPTY = 1 << 9, // the encoder leaves the field out when it is empty, zero or false; a pointer: when NULL
    JSON_NULL_EMPTY = 1 << 10, // the encoder writes null for an empty list or map
    JSON_NULL_ITEMS = 1 << 11, // LIST_MAP: the encoder writes null for an empty list in it
};

struct json_table;

struct json_field {
    const char *name;
    enum json_kind kind;
    size_t offset;
    const struct json_table *sub; // STRUCT, STRUCT_PTR, LIST, MAP, LIST_MAP
    unsigned flags; // enum json_noop
    bool required;
    const char *why; // UNHONOURED: what the refusal adds, may be NULL
};

struct json_table {
    const char *name; // of the struct, for messages
    size_t size;
    const struct json_field *fields;
    size_t field_len;
};

#define JSON_FIELD(field_name, field_kind, type, member, ...) \
    { .name = (field_name), .kind = (field_kind), .offset = offsetof(type, member), ##__VA_ARGS__ }
#define JSON_REFUSED(field_name, ...) { .name = (field_name), .kind = JSON_UNHONOURED, ##__VA_ARGS__ }
#define JSON_KNOWN(field_name) { .name = (field_name), .kind = JSON_IGNORED }
#define JSON_TABLE(type, field_array) { #type, sizeof(type), (field_array), ARRAY_LEN(field_array) }

struct json_list {
    void *items; // array of the sub table's struct
    size_t len;
    size_t capacity; // slots that json_list_add() may use; 0 when somebody else sized the array
};

struct json_map {
    char **keys;
    void *items; // array of the sub table's struct (MAP) or of struct json_list (LIST_MAP)
    size_t len;
};

// What a decoder noticed: unknown fields with a value, as JSON paths, the first hundred. The caller makes warnings of them.
struct json_report {
    struct strv unknown; // in the arena
};

// Arrays and objects inside each other at most; jansson works by recursion and must fit a connection's stack.
#define JSON_DEPTH_MAX 64

// Text -> jansson. Trailing junk and bad UTF-8 are invalid_argument with line and column, so is depth beyond
// JSON_DEPTH_MAX; of duplicate keys the last one counts, as in Go; integers beyond int64_t clamp (OCI documents have unsigned ones). The
// caller owns the reference.
int json_parse(const char *text, size_t size, json_t **out, struct err *err);
// The same, but integers beyond int64_t become reals, which no JSON_INT takes: for who must hear that a number is too large.
int json_parse_unclamped(const char *text, size_t size, json_t **out, struct err *err);

#define _cleanup_json_ _cleanup_(json_cleanup)
static inline void json_cleanup(json_t **value)
{
    json_decref(*value);
}

// Fills *out (zeroed first) from `value`. Field names match exactly, then case-insensitively as Go's decoder does.
// Errors carry the JSON path ("HostConfig.Memory: expected integer, got string"): wrong kinds and missing required
// fields are invalid_argument, unhonoured fields with a value not_implemented. `report` may be NULL: then unknown
// fields are ignored. A member whose value is null counts as absent; of two spellings of one name the later counts, but a
// struct in place is merged, as in Go.
// JSON_RAW members borrow from `value`: keep it alive as long as the struct. After a failure *out must not be read.
int json_decode(const struct json_table *table, json_t *value, void *out, struct arena *arena,
                struct json_report *report, struct err *err);
// json_parse and json_decode in one. The parsed document is gone afterwards: only for tables without JSON_RAW.
int json_decode_text(const struct json_table *table, const char *text, size_t size, void *out, struct arena *arena,
                     struct json_report *report, struct err *err);

// A new jansson object; never NULL for a valid table. Text that is not UTF-8 (names of files, what a container said) keeps
// its good characters and has U+FFFD for each other byte, as Go writes it.
json_t *json_encode(const struct json_table *table, const void *in);
json_t *json_encode_list(const struct json_table *table, const struct json_list *list);

// A json string of `text` by the same rule; NULL is "".
json_t *json_new_text(const char *text);

// Adds a zeroed item to a list (memory from the arena; earlier item pointers become stale) and returns it. Of two copies
// of one list only one may grow.
void *json_list_add(struct json_list *list, const struct json_table *sub, struct arena *arena);
static inline void *json_list_at(const struct json_list *list, const struct json_table *sub, size_t index)
{
    return (char *)list->items + index * sub->size;
}
static inline void *json_map_at(const struct json_map *map, const struct json_table *sub, size_t index)
{
    return (char *)map->items + index * sub->size;
}

// Compact text of any jansson value, appended; never a trailing newline.
void json_write(json_t *value, struct buf *out);
char *json_text(json_t *value); // malloc'ed

// Shorthand for open documents: the member's value or the fallback when it is absent or of another kind.
const char *json_get_text(const json_t *object, const char *key, const char *fallback);
int64_t json_get_int(const json_t *object, const char *key, int64_t fallback);
bool json_get_flag(const json_t *object, const char *key, bool fallback);

#endif
