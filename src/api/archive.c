// A container's files: copied out and in as tar, exported, compared with its image.
#include <sys/stat.h>

#include "api_private.h"

#define PATH_STAT_HEADER "X-Docker-Container-Path-Stat"

// ---- what a path is, in Docker's header -----------------------------------------------------------------------------

// Go's os.FileMode: permissions as they are, everything else bits of its own.
static uint32_t go_mode(uint32_t mode)
{
    static const struct {
        uint32_t mask, is, bit;
    } bits[] = {
        { S_IFMT, S_IFDIR, 1u << 31 },
        { S_IFMT, S_IFLNK, 1u << 27 },
        { S_IFMT, S_IFBLK, 1u << 26 },
        { S_IFMT, S_IFCHR, 1u << 26 | 1u << 21 },
        { S_IFMT, S_IFIFO, 1u << 25 },
        { S_IFMT, S_IFSOCK, 1u << 24 },
        { S_ISUID, S_ISUID, 1u << 23 },
        { S_ISGID, S_ISGID, 1u << 22 },
        { S_ISVTX, S_ISVTX, 1u << 20 },
    };
    uint32_t out = mode & 0777;
    for (size_t i = 0; i < ARRAY_LEN(bits); i++)
        if ((mode & bits[i].mask) == bits[i].is)
            out |= bits[i].bit;
    return out;
}

static void set_path_header(struct httpd_request *request, const struct engine_path *path)
{
    _cleanup_json_ json_t *object = json_object();
    json_object_set_new(object, "name", json_new_text(path->name));
    json_object_set_new(object, "size", json_integer(path->size));
    json_object_set_new(object, "mode", json_integer(go_mode(path->mode)));
    json_object_set_new(object, "mtime", shape_time(path->mtime_ns));
    json_object_set_new(object, "linkTarget", json_new_text(path->link_target));
    _cleanup_free_ char *text = json_text(object);
    httpd_set_header(request, PATH_STAT_HEADER, base64_text(text, strlen(text), httpd_arena(request)));
}

static int asked_path(const struct call *call, const char **out, struct err *err)
{
    *out = httpd_query(call->request, "path");
    return str_empty(*out) ? err_set(err, ERR_INVALID_ARGUMENT, "bad parameter: pathcannot be empty") : 0;
}

// ---- out ------------------------------------------------------------------------------------------------------------

int handle_archive_stat(struct call *call, struct err *err)
{
    struct engine_path found;
    const char *path;
    if (asked_path(call, &path, err) < 0 ||
        engine_path_stat(call->engine, call->values[0], path, call->arena, &found, httpd_cancel(call->request), err) < 0)
        return -1;
    set_path_header(call->request, &found);
    return reply_empty(call, 200);
}

static void found_path(void *context, const struct engine_path *path)
{
    set_path_header(context, path);
}

static int end_archive(struct call *call, int result)
{
    if (result < 0)
        httpd_stream_abort(call->request); // the client sees that it is not whole
    else
        httpd_stream_end(call->request);
    return result;
}

int handle_archive_get(struct call *call, struct err *err)
{
    const char *path;
    if (asked_path(call, &path, err) < 0)
        return -1;
    return end_archive(call, engine_archive_get(call->engine, call->values[0], path, found_path, write_archive, call->request,
                                                httpd_cancel(call->request), err));
}

int handle_container_export(struct call *call, struct err *err)
{
    return end_archive(call, engine_export(call->engine, call->values[0], write_archive, call->request, httpd_cancel(call->request), err));
}

// ---- in -------------------------------------------------------------------------------------------------------------

int handle_archive_put(struct call *call, struct err *err)
{
    struct engine_archive_put put = { .keep_kind = httpd_query_flag(call->request, "noOverwriteDirNonDir", false),
                                      .copy_owner = httpd_query_flag(call->request, "copyUIDGID", false) };
    if (asked_path(call, &put.path, err) < 0 ||
        engine_archive_put(call->engine, call->values[0], &put, httpd_body_fd(call->request), httpd_cancel(call->request), err) < 0)
        return -1;
    return reply_empty(call, 200);
}

// ---- changes --------------------------------------------------------------------------------------------------------

int handle_container_changes(struct call *call, struct err *err)
{
    json_t *changes;
    if (engine_changes(call->engine, call->values[0], &changes, httpd_cancel(call->request), err) < 0)
        return -1;
    if (json_array_size(changes) > 0)
        return reply_json(call, 200, changes);
    json_decref(changes);
    return reply_json(call, 200, json_null());
}
