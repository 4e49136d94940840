// A struct with a member of every kind, and its table.
#ifndef TEST_JSON_EVERYTHING_H
#define TEST_JSON_EVERYTHING_H

#include "json/json.h"

struct port {
    char *host;
    int64_t number;
};

struct everything {
    char *text;
    int64_t integer;
    bool flag;
    double number;
    struct strv texts;
    struct strv one;
    struct kvs labels;
    struct strv exposed;
    struct port in_place;
    struct port *pointer;
    struct json_list list;
    struct json_map map;
    struct json_map bindings;
    json_t *raw;
};

static const struct json_field port_fields[] = {
    JSON_FIELD("HostIp", JSON_TEXT, struct port, host),
    JSON_FIELD("Number", JSON_INT, struct port, number, .required = true),
};
static const struct json_table port_table = JSON_TABLE(struct port, port_fields);

static const struct json_field everything_fields[] = {
    JSON_FIELD("Text", JSON_TEXT, struct everything, text),
    JSON_FIELD("Integer", JSON_INT, struct everything, integer),
    JSON_FIELD("Flag", JSON_FLAG, struct everything, flag),
    JSON_FIELD("Number", JSON_NUMBER, struct everything, number),
    JSON_FIELD("Texts", JSON_TEXTS, struct everything, texts),
    JSON_FIELD("One", JSON_TEXTS, struct everything, one, .flags = JSON_ONE_IS_LIST),
    JSON_FIELD("Labels", JSON_TEXT_MAP, struct everything, labels),
    JSON_FIELD("Exposed", JSON_KEY_SET, struct everything, exposed),
    JSON_FIELD("InPlace", JSON_STRUCT, struct everything, in_place, .sub = &port_table),
    JSON_FIELD("Pointer", JSON_STRUCT_PTR, struct everything, pointer, .sub = &port_table),
    JSON_FIELD("List", JSON_LIST, struct everything, list, .sub = &port_table),
    JSON_FIELD("Map", JSON_MAP, struct everything, map, .sub = &port_table),
    JSON_FIELD("Bindings", JSON_LIST_MAP, struct everything, bindings, .sub = &port_table),
    JSON_FIELD("Raw", JSON_RAW, struct everything, raw),
    JSON_KNOWN("Harmless"),
    JSON_REFUSED("Refused", .why = "no such thing here"),
    JSON_REFUSED("RefusedMinus", .flags = JSON_NOOP_MINUS_ONE),
    JSON_REFUSED("RefusedWords", .flags = JSON_NOOP_DEFAULT_WORD | JSON_NOOP_NO_WORD),
    JSON_REFUSED("RefusedPrivate", .flags = JSON_NOOP_PRIVATE_WORD),
    JSON_REFUSED("RefusedTrue", .flags = JSON_NOOP_TRUE),
};
static const struct json_table everything_table = JSON_TABLE(struct everything, everything_fields);

#endif
