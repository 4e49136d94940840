#include "api_private.h"

int handle_exec_create(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *body = NULL;
    struct exec_config config;
    char id[65];
    if (body_json(call, &body, err) < 0 || json_decode(&exec_config_table, body, &config, call->arena, NULL, err) < 0 ||
        detach_keys_check(config.detach_keys, err) < 0)
        return -1;
    if (call->version < 42)
        config.console_size_raw = NULL;
    if (engine_exec_create(call->engine, call->values[0], &config, id, err) < 0)
        return -1;
    return reply_json(call, 201, json_pack("{s:s}", "Id", id));
}

struct exec_start {
    bool detach, tty;
    json_t *console_size_raw;
};

static const struct json_field exec_start_fields[] = {
    JSON_FIELD("Detach", JSON_FLAG, struct exec_start, detach),
    JSON_FIELD("Tty", JSON_FLAG, struct exec_start, tty), // the exec's own word counts, as it was created
    JSON_FIELD("ConsoleSize", JSON_RAW, struct exec_start, console_size_raw),
};
static const struct json_table exec_start_table = JSON_TABLE(struct exec_start, exec_start_fields);

// [height, width]; anything else is no size.
static bool read_size(const json_t *from, int64_t out[2])
{
    if (!json_is_array(from) || json_array_size(from) != 2)
        return false;
    for (size_t i = 0; i < 2; i++) {
        const json_t *side = json_array_get(from, i);
        if (!json_is_integer(side) || json_integer_value(side) < 1 || json_integer_value(side) > UINT16_MAX)
            return false;
        out[i] = json_integer_value(side);
    }
    return true;
}

int handle_exec_start(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *body = NULL;
    struct exec_start start;
    const char *id = call->values[0];
    int64_t size[2];
    bool terminal;
    if (body_json(call, &body, err) < 0 || json_decode(&exec_start_table, body, &start, call->arena, NULL, err) < 0)
        return -1;
    bool sized = call->version >= 42 && read_size(start.console_size_raw, size);
    if (engine_exec_check(call->engine, id, &terminal, err) < 0)
        return -1;
    if (start.detach)
        return engine_exec_start(call->engine, id, -1, sized ? size : NULL, err) < 0 ? -1 : reply_empty(call, 200);
    int fd = httpd_hijack(call->request, stream_type(call, terminal, true), err);
    return fd < 0 ? -1 : engine_exec_start(call->engine, id, fd, sized ? size : NULL, err);
}

int handle_exec_resize(struct call *call, struct err *err)
{
    int64_t height, width;
    if (query_size(call, "h", &height, err) < 0 || query_size(call, "w", &width, err) < 0 ||
        engine_exec_resize(call->engine, call->values[0], height, width, err) < 0)
        return -1;
    return reply_empty(call, 200);
}

int handle_exec_inspect(struct call *call, struct err *err)
{
    struct engine_exec exec;
    if (engine_exec_inspect(call->engine, call->values[0], call->arena, &exec, err) < 0)
        return -1;
    return reply_json(call, 200, shape_exec(&exec));
}
