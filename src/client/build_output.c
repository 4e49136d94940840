// build --output. The classic API gives a result no way but the list of images, so what is wanted beside it is fetched afterwards: the files by a
// container that is made of the image and never started, an archive as `save` does it.
#include "client/build_output.h"


#include <errno.h>
#include <sys/stat.h>

static const char *const types[] = { [BUILD_OUTPUT_IMAGE] = "image", [BUILD_OUTPUT_LOCAL] = "local", [BUILD_OUTPUT_TAR] = "tar",
                                     [BUILD_OUTPUT_OCI] = "oci",     [BUILD_OUTPUT_DOCKER] = "docker", [BUILD_OUTPUT_CACHE] = "cacheonly" };

// ---- what is asked for ----------------------------------------------------------------------------------------------

static int take_type(struct build_output *out, const char *name, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (str_eq(types[i], name)) {
            out->kind = (enum build_output_kind)i;
            return 0;
        }
    return err_set(err, ERR_INVALID_ARGUMENT, "--output type=%s is not known", name);
}

static int take_field(struct call *call, struct build_output *out, const char *field, struct err *err)
{
    const char *equals = strchr(field, '=');
    const char *key = arena_strndup(&call->arena, field, strcspn(field, "="));
    if (!equals)
        return err_set(err, ERR_INVALID_ARGUMENT, "--output: invalid value %s", field);
    if (str_eq(key, "type"))
        return take_type(out, equals + 1, err);
    if (str_eq(key, "dest")) {
        out->dest = arena_strdup(&call->arena, equals + 1);
        return 0;
    }
    return err_set(err, ERR_NOT_IMPLEMENTED, "--output: %s is not supported here: docker buildx has it", key);
}

static int check(const struct build_output *out, struct err *err)
{
    bool to_file = out->kind == BUILD_OUTPUT_TAR || out->kind == BUILD_OUTPUT_OCI || out->kind == BUILD_OUTPUT_DOCKER;
    if (out->kind == BUILD_OUTPUT_LOCAL && str_empty(out->dest))
        return err_set(err, ERR_INVALID_ARGUMENT, "--output: dest is required for local");
    if (out->dest && !to_file && out->kind != BUILD_OUTPUT_LOCAL)
        return err_set(err, ERR_INVALID_ARGUMENT, "--output: dest is for local, tar, oci and docker");
    return 0;
}

// "DIR" and "-" stand for a folder and for a tar on standard output.
int build_output_parse(struct call *call, struct build_output *out, struct err *err)
{
    const char *said = flag_text(&call->flags, "output");
    *out = (struct build_output){ .kind = BUILD_OUTPUT_IMAGE };
    if (!said)
        return 0;
    if (!strchr(said, '=')) {
        *out = str_eq(said, "-") ? (struct build_output){ BUILD_OUTPUT_TAR, NULL } : (struct build_output){ BUILD_OUTPUT_LOCAL, said };
        return 0;
    }
    char *rest = arena_strdup(&call->arena, said), *field;
    while ((field = next_field(&rest)))
        if (take_field(call, out, field, err) < 0)
            return -1;
    if (out->dest && str_eq(out->dest, "-"))
        out->dest = NULL;
    return check(out, err);
}

bool build_output_unseen(const struct call *call, const struct build_output *out)
{
    bool archive = out->kind == BUILD_OUTPUT_OCI || out->kind == BUILD_OUTPUT_DOCKER;
    return out->kind != BUILD_OUTPUT_IMAGE && !(archive && flag_texts(&call->flags, "tag")->len > 0);
}

// ---- fetching it ----------------------------------------------------------------------------------------------------

static int to_folder(struct call *call, const char *path, const char *folder, struct err *err)
{
    char *const argv[] = { (char *)"tar", (char *)"-x", (char *)"-p", (char *)"--no-same-owner", (char *)"-f", (char *)"-", (char *)"-C", (char *)folder, NULL };
    struct http_exchange x;
    if (mkdir(folder, 0755) < 0 && errno != EEXIST)
        return err_errno(err, errno, "%s", folder);
    if (api_open(call->client, &x, err) < 0)
        return -1;
    int result = api_send(call->client, &x, "GET", path, NULL, NULL, err);
    if (result == 0)
        result = body_to_tar(&x, argv, STDERR_FILENO, err);
    api_close(call->client, &x);
    return result;
}

static int fetch_files(struct call *call, const struct build_output *out, const char *id, struct err *err)
{
    _cleanup_json_ json_t *answer = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT, gone = PATH_INIT;
    struct err ignored = { 0 };
    if (api_json(call->client, "POST", "/containers/create", json_pack("{s:s, s:[s]}", "Image", id, "Cmd", "/"), &answer, err) < 0)
        return -1;
    const char *container = json_get_text(answer, "Id", "");
    path_put(&path, "/containers/", container, "/export");
    path_put(&gone, "/containers/", container, "?v=1");
    int result = out->kind == BUILD_OUTPUT_LOCAL ? to_folder(call, buf_text(&path), out->dest, err)
                                                 : download_to(call->client, buf_text(&path), out->dest, err);
    api_json(call->client, "DELETE", buf_text(&gone), NULL, NULL, &ignored);
    return result;
}

static int fetch_archive(struct call *call, const struct build_output *out, const char *id, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    const struct strv *tags = flag_texts(&call->flags, "tag");
    buf_adds(&path, "/images/get");
    for (size_t i = 0; i < tags->len; i++)
        query_add(&path, "names", tags->items[i]);
    if (tags->len == 0)
        query_add(&path, "names", id);
    return download_to(call->client, buf_text(&path), out->dest, err);
}

int build_output_fetch(struct call *call, const struct build_output *out, const char *id, struct err *err)
{
    if (out->kind == BUILD_OUTPUT_IMAGE || out->kind == BUILD_OUTPUT_CACHE)
        return 0;
    if (!*id)
        return err_set(err, ERR_INTERNAL, "the server did not say which image it has made");
    bool files = out->kind == BUILD_OUTPUT_LOCAL || out->kind == BUILD_OUTPUT_TAR;
    return files ? fetch_files(call, out, id, err) : fetch_archive(call, out, id, err);
}
