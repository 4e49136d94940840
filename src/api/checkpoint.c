// Checkpoints, which Docker has in experimental mode alone.
#include "api_private.h"

struct checkpoint_request {
    char *name, *folder;
    bool exit;
};

static const struct json_field checkpoint_request_fields[] = {
    JSON_FIELD("CheckpointID", JSON_TEXT, struct checkpoint_request, name),
    JSON_FIELD("CheckpointDir", JSON_TEXT, struct checkpoint_request, folder),
    JSON_FIELD("Exit", JSON_FLAG, struct checkpoint_request, exit),
};
static const struct json_table checkpoint_request_table = JSON_TABLE(struct checkpoint_request, checkpoint_request_fields);

static int check_mode(const struct call *call, struct err *err)
{
    return engine_experimental(call->engine)
               ? 0
               : err_set(err, ERR_NOT_IMPLEMENTED, "This experimental feature is disabled by default. Start the Docker daemon in experimental mode "
                         "in order to enable it.");
}

int handle_checkpoint_list(struct call *call, struct err *err)
{
    struct strv names;
    if (check_mode(call, err) < 0 ||
        engine_checkpoint_list(call->engine, call->values[0], httpd_query(call->request, "dir"), call->arena, &names, err) < 0)
        return -1;
    json_t *list = names.len ? json_array() : json_null(); // as Docker
    for (size_t i = 0; i < names.len; i++)
        json_array_append_new(list, json_pack("{s:s}", "Name", names.items[i]));
    return reply_json(call, 200, list);
}

int handle_checkpoint_create(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *body = NULL;
    struct checkpoint_request request;
    if (check_mode(call, err) < 0 || body_json(call, &body, err) < 0 ||
        json_decode(&checkpoint_request_table, body, &request, call->arena, NULL, err) < 0)
        return -1;
    const struct engine_checkpoint wish = { .name = request.name, .folder = request.folder, .leave_running = !request.exit };
    return engine_checkpoint_create(call->engine, call->values[0], &wish, err) < 0 ? -1 : reply_empty(call, 201);
}

int handle_checkpoint_remove(struct call *call, struct err *err)
{
    if (check_mode(call, err) < 0 ||
        engine_checkpoint_remove(call->engine, call->values[0], call->values[1], httpd_query(call->request, "dir"), err) < 0)
        return -1;
    return reply_empty(call, 204);
}
