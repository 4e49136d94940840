// An image of a container.
#include "api_private.h"

// "name" or "name:tag"; NULL when the image gets no name.
static int asked_reference(const struct call *call, const char **out, struct err *err)
{
    const char *name = httpd_query(call->request, "repo"), *tag = httpd_query(call->request, "tag");
    struct image_ref ref;
    *out = NULL;
    if (str_empty(name))
        return 0;
    if (image_ref_parse(name, false, call->arena, &ref, err) < 0)
        return -1;
    if (!str_empty(tag) && (ref.tag || strspn(tag, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != strlen(tag)))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid tag format");
    *out = str_empty(tag) ? name : arena_printf(call->arena, "%s:%s", name, tag);
    return 0;
}

int handle_container_commit(struct call *call, struct err *err)
{
    const char *container = httpd_query(call->request, "container"), *author = httpd_query(call->request, "author"),
               *comment = httpd_query(call->request, "comment");
    struct engine_commit wish = { .author = author ? author : "", .comment = comment ? comment : "",
                                  .pause = httpd_query_flag(call->request, "pause", true) };
    _cleanup_json_ json_t *body = NULL;
    size_t size;
    char *id;
    httpd_body_text(call->request, &size);
    httpd_query_all(call->request, "changes", &wish.changes);
    if (asked_reference(call, &wish.reference, err) < 0 || (size > 0 && body_json(call, &body, err) < 0))
        return -1;
    if (str_empty(container))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid name or ID supplied: \"\"");
    wish.body = body;
    if (engine_commit(call->engine, container, &wish, call->arena, &id, httpd_cancel(call->request), err) < 0)
        return -1;
    return reply_json(call, 201, json_pack("{s:s}", "Id", id));
}
