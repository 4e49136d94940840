// Checkpoints of containers.
#include "client/rows.h"

int command_checkpoint_create(struct call *call, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    json_t *body = json_object();
    json_object_set_new(body, "CheckpointID", json_new_text(call->args.items[1]));
    json_object_set_new(body, "Exit", json_boolean(!flag_on(&call->flags, "leave-running")));
    flags_to_body(&call->flags, body);
    path_put(&path, "/containers/", call->args.items[0], "/checkpoints");
    if (api_json(call->client, "POST", buf_text(&path), body, NULL, err) < 0)
        return -1;
    printf("%s\n", call->args.items[1]);
    return 0;
}

static json_t *checkpoint_row(const json_t *checkpoint, bool no_trunc)
{
    json_t *row = json_object();
    row_put(row, "Name", json_get_text(checkpoint, "Name", ""));
    return row;
}

int command_checkpoint_ls(struct call *call, struct err *err)
{
    static const struct column columns[] = { { "Name", "CHECKPOINT NAME" } };
    const struct list list = { .table = "table {{.Name}}", .type = "*checkpoint.checkpointContext", .columns = columns, .columns_len = ARRAY_LEN(columns) };
    _cleanup_json_ json_t *checkpoints = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT;
    path_put(&path, "/containers/", call->args.items[0], "/checkpoints");
    flags_to_query(&call->flags, &path);
    if (api_json(call->client, "GET", buf_text(&path), NULL, &checkpoints, err) < 0 || check_list(checkpoints, err) < 0)
        return -1;
    return print_rows(&list, checkpoints, checkpoint_row, true, err);
}

int command_checkpoint_rm(struct call *call, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    path_put(&path, "/containers/", call->args.items[0], "/checkpoints");
    path_put(&path, "/", call->args.items[1], "");
    flags_to_query(&call->flags, &path);
    return api_json(call->client, "DELETE", buf_text(&path), NULL, NULL, err) < 0 ? -1 : 0;
}
