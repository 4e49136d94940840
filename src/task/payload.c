// JSON payloads of frames.
#include "task/task_private.h"

#define DEPTH_MAX 64 // task documents nest to about 8

// jansson parses by recursion, up to 2,048 levels; the watcher and the shim grant far less.
static bool depth_fits(const char *text, size_t size)
{
    size_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '{' || c == '[') && ++depth > DEPTH_MAX)
            return false;
        else if (!quoted && (c == '}' || c == ']') && depth)
            depth--;
    }
    return true;
}

int task_payload_parse(const char *text, size_t size, json_t **out, struct err *err)
{
    if (!size) {
        *out = json_object();
        return 0;
    }
    if (!depth_fits(text, size))
        return err_set(err, ERR_INVALID_ARGUMENT, "task frame: nested deeper than %d", DEPTH_MAX);
    _cleanup_json_ json_t *parsed = NULL;
    if (json_parse(text, size, &parsed, err) < 0)
        return err_wrap(err, "task frame");
    if (!json_is_object(parsed))
        return err_set(err, ERR_INVALID_ARGUMENT, "task frame: not an object");
    *out = take_ptr(&parsed);
    return 0;
}

// A message may quote a path of a container, which is bytes, not text.
static json_t *printable(const char *message)
{
    json_t *text = json_string(message);
    if (text)
        return text;
    _cleanup_free_ char *copy = mem_strdup(message);
    for (char *at = copy; *at; at++) {
        if ((unsigned char)*at >= 0x80)
            *at = '?';
    }
    return json_string(copy);
}

json_t *task_error_payload(const struct err *error)
{
    return json_pack("{s:s, s:i, s:o}", "class", err_class_name(error->class), "errno", error->number, "message",
                     printable(error->message));
}

int task_payload_error(const json_t *payload, struct err *err)
{
    err_set(err, err_class_parse(json_get_text(payload, "class", "internal")), "%s",
            json_get_text(payload, "message", "error without a message"));
    if (err)
        err->number = (int)json_get_int(payload, "errno", 0);
    return -1;
}
