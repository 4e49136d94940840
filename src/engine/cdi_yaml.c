// YAML as JSON: scalars without quotes that are numbers, true, false or null become those. Anchors and tags are refused, so a text can't grow.
#include "engine/cdi_yaml.h"

#include <yaml.h>

#include "base/num.h"

#define DEPTH_MAX 16

static json_t *plain(const char *text)
{
    int64_t number;
    if (str_eq(text, "true") || str_eq(text, "false"))
        return json_boolean(str_eq(text, "true"));
    if (!*text || str_eq(text, "~") || str_eq(text, "null"))
        return json_null();
    return num_parse_i64(slice_of(text), &number) ? json_integer(number) : json_new_text(text);
}

static int next(yaml_parser_t *parser, yaml_event_t *event, struct err *err)
{
    if (yaml_parser_parse(parser, event))
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "line %zu: %s", parser->problem_mark.line + 1, parser->problem ? parser->problem : "no YAML");
}

static json_t *read_node(yaml_parser_t *parser, yaml_event_t *event, int depth, struct err *err);

static json_t *read_list(yaml_parser_t *parser, int depth, struct err *err)
{
    _cleanup_json_ json_t *list = json_array();
    yaml_event_t event;
    for (;;) {
        if (next(parser, &event, err) < 0)
            return NULL;
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            return take_ptr(&list);
        }
        json_t *item = read_node(parser, &event, depth, err);
        if (!item)
            return NULL;
        json_array_append_new(list, item);
    }
}

static json_t *read_map(yaml_parser_t *parser, int depth, struct err *err)
{
    _cleanup_json_ json_t *map = json_object();
    yaml_event_t event;
    for (;;) {
        if (next(parser, &event, err) < 0)
            return NULL;
        bool end = event.type == YAML_MAPPING_END_EVENT;
        _cleanup_free_ char *key = event.type == YAML_SCALAR_EVENT ? mem_strdup((const char *)event.data.scalar.value) : NULL;
        yaml_event_delete(&event);
        if (end)
            return take_ptr(&map);
        if (!key) {
            err_set(err, ERR_INVALID_ARGUMENT, "a key that is no text");
            return NULL;
        }
        if (next(parser, &event, err) < 0)
            return NULL;
        json_t *value = read_node(parser, &event, depth, err);
        if (!value)
            return NULL;
        if (json_object_set_new(map, key, value) < 0) {
            err_set(err, ERR_INVALID_ARGUMENT, "a key that is no UTF-8");
            return NULL;
        }
    }
}

static bool is_anchored(const yaml_event_t *event)
{
    return event->type == YAML_ALIAS_EVENT || (event->type == YAML_SCALAR_EVENT && event->data.scalar.anchor) ||
           (event->type == YAML_SEQUENCE_START_EVENT && event->data.sequence_start.anchor) ||
           (event->type == YAML_MAPPING_START_EVENT && event->data.mapping_start.anchor);
}

// Takes the event over.
static json_t *read_node(yaml_parser_t *parser, yaml_event_t *event, int depth, struct err *err)
{
    _cleanup_json_ json_t *node = NULL, *made = NULL;
    yaml_event_type_t type = event->type;
    size_t line = event->start_mark.line + 1;
    bool anchored = is_anchored(event);
    if (type == YAML_SCALAR_EVENT && !anchored) {
        const char *text = (const char *)event->data.scalar.value;
        node = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? plain(text) : json_new_text(text);
    }
    yaml_event_delete(event);
    if (anchored)
        err_set(err, ERR_INVALID_ARGUMENT, "line %zu: anchors are not supported", line);
    else if (depth == DEPTH_MAX)
        err_set(err, ERR_INVALID_ARGUMENT, "line %zu: nested too deep", line);
    else if (type == YAML_SEQUENCE_START_EVENT)
        made = read_list(parser, depth + 1, err);
    else if (type == YAML_MAPPING_START_EVENT)
        made = read_map(parser, depth + 1, err);
    else if (node)
        return take_ptr(&node);
    else
        err_set(err, ERR_INVALID_ARGUMENT, "line %zu: no value", line);
    return take_ptr(&made);
}

json_t *yaml_as_json(struct slice text, struct err *err)
{
    yaml_parser_t parser;
    yaml_event_t event;
    json_t *root = NULL;
    if (!yaml_parser_initialize(&parser)) {
        err_set(err, ERR_INTERNAL, "no memory");
        return NULL;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.data, text.size);
    while (!root && next(&parser, &event, err) == 0) {
        if (event.type != YAML_STREAM_START_EVENT && event.type != YAML_DOCUMENT_START_EVENT) {
            root = read_node(&parser, &event, 0, err);
            break;
        }
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return root;
}
