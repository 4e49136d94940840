// What moves images and trees: pull, push, load, import, save, export, commit.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "client/client_private.h"
#include "base/fd.h"
#include "base/file.h"

#define PIECE 65536

// ---- pull, push -----------------------------------------------------------------------------------------------------

static int stream_open(struct client *client, struct api_stream *stream, const char *path, const char *headers, struct err *err)
{
    *stream = (struct api_stream){ .text = BUF_INIT(4u << 20) };
    if (api_open(client, &stream->x, err) < 0)
        return -1;
    int result = api_send(client, &stream->x, "POST", path, headers, NULL, err);
    if (result < 0)
        api_stream_done(client, stream);
    return result;
}

// "docker.io/library/debian" as the registry's own name has it.
static char *full_name(const char *name)
{
    if (image_host(name))
        return mem_strdup(name);
    return mem_printf(strchr(name, '/') ? "docker.io/%s" : "docker.io/library/%s", name);
}

int image_pull(struct client *client, const char *image, const char *platform, bool all_tags, bool quiet, FILE *out, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT, name = BUF_INIT(4096), tag = BUF_INIT(512);
    _cleanup_free_ char *auth = image_auth_header(client, image);
    struct api_stream stream;
    if (image_check(image, err) < 0)
        return -1;
    image_parts(image, &name, &tag);
    _cleanup_free_ char *full = full_name(buf_text(&name));
    buf_adds(&path, "/images/create");
    query_add(&path, "fromImage", full);
    if (!all_tags)
        query_add(&path, "tag", buf_text(&tag));
    if (!str_empty(platform))
        query_add(&path, "platform", platform);
    if (stream_open(client, &stream, buf_text(&path), auth, err) < 0)
        return -1;
    int result = progress_show(&stream, out, quiet, NULL, err);
    api_stream_done(client, &stream);
    return result;
}

int command_pull(struct call *call, struct err *err)
{
    const char *image = call->args.items[0], *platform = flag_text(&call->flags, "platform");
    bool all = flag_on(&call->flags, "all-tags"), quiet = flag_on(&call->flags, "quiet");
    _cleanup_buf_ struct buf name = BUF_INIT(4096), tag = BUF_INIT(512);
    image_parts(image, &name, &tag);
    bool tagged = !str_eq(buf_text(&name), image);
    if (image_check(image, err) < 0)
        return -1;
    if (all && tagged)
        return err_set(err, ERR_INVALID_ARGUMENT, "tag can't be used with --all-tags/-a");
    if (!all && !tagged && !quiet)
        printf("Using default tag: %s\n", buf_text(&tag));
    fflush(stdout);
    if (image_pull(call->client, image, str_empty(platform) ? getenv("DOCKER_DEFAULT_PLATFORM") : platform, all, quiet, stdout, err) < 0)
        return -1;
    _cleanup_free_ char *full = full_name(buf_text(&name));
    printf(all ? "%s\n" : strchr(buf_text(&tag), ':') ? "%s@%s\n" : "%s:%s\n", full, buf_text(&tag));
    return 0;
}

int command_push(struct call *call, struct err *err)
{
    const char *image = call->args.items[0];
    _cleanup_buf_ struct buf path = PATH_INIT, name = BUF_INIT(4096), tag = BUF_INIT(512);
    _cleanup_free_ char *auth = image_auth_header(call->client, image);
    _cleanup_json_ json_t *aux = NULL;
    bool all = flag_on(&call->flags, "all-tags"), quiet = flag_on(&call->flags, "quiet");
    struct api_stream stream;
    if (image_check(image, err) < 0)
        return -1;
    image_parts(image, &name, &tag);
    bool tagged = !str_eq(buf_text(&name), image);
    if (all && tagged)
        return err_set(err, ERR_INVALID_ARGUMENT, "tag can't be used with --all-tags/-a");
    if (!all && !tagged && !quiet)
        printf("Using default tag: %s\n", buf_text(&tag));
    fflush(stdout);
    path_put(&path, "/images/", buf_text(&name), "/push");
    if (!all)
        query_add(&path, "tag", buf_text(&tag));
    if (put_platforms(call, "platform", 46, &path, err) < 0 || stream_open(call->client, &stream, buf_text(&path), auth, err) < 0)
        return -1;
    int result = progress_show(&stream, stdout, quiet, &aux, err);
    api_stream_done(call->client, &stream);
    if (result == 0 && quiet) {
        _cleanup_free_ char *full = full_name(buf_text(&name));
        printf(all ? "%s\n" : "%s:%s\n", full, buf_text(&tag));
    }
    return result;
}

// ---- load, import ---------------------------------------------------------------------------------------------------

static int open_input(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_set(err, ERR_NOT_FOUND, "open %s: %s", path, errno == ENOENT ? "no such file or directory" : strerror(errno)) : fd;
}

int command_load(struct call *call, struct err *err)
{
    const char *input = flag_text(&call->flags, "input");
    _cleanup_buf_ struct buf path = PATH_INIT;
    struct api_stream stream;
    if (!input && on_terminal(STDIN_FILENO))
        return err_set(err, ERR_INVALID_ARGUMENT, "requested load from stdin, but stdin is empty");
    _cleanup_close_ int fd = input ? open_input(input, err) : fd_dup(STDIN_FILENO, err);
    if (fd < 0)
        return -1;
    buf_adds(&path, "/images/load");
    query_add(&path, "quiet", flag_on(&call->flags, "quiet") || !on_terminal(STDOUT_FILENO) ? "1" : "0");
    if (put_platforms(call, "platform", 48, &path, err) < 0 || api_upload(call->client, "POST", buf_text(&path), "Content-Type: application/x-tar\r\n", fd, &stream, err) < 0)
        return -1;
    int result = progress_show(&stream, stdout, false, NULL, err);
    api_stream_done(call->client, &stream);
    return result;
}

int command_import(struct call *call, struct err *err)
{
    const char *source = call->args.items[0];
    bool url = str_starts(source, "http://") || str_starts(source, "https://");
    _cleanup_buf_ struct buf path = PATH_INIT, name = BUF_INIT(4096), tag = BUF_INIT(512);
    _cleanup_close_ int fd = -1;
    struct api_stream stream;
    buf_adds(&path, "/images/create");
    query_add(&path, "fromSrc", url ? source : "-");
    if (call->args.len > 1) {
        image_parts(call->args.items[1], &name, &tag);
        query_add(&path, "repo", buf_text(&name));
        if (!str_eq(buf_text(&name), call->args.items[1]))
            query_add(&path, "tag", buf_text(&tag));
    }
    flags_to_query(&call->flags, &path);
    if (!url && (fd = str_eq(source, "-") ? fd_dup(STDIN_FILENO, err) : open_input(source, err)) < 0)
        return -1;
    int result = url ? stream_open(call->client, &stream, buf_text(&path), NULL, err)
                     : api_upload(call->client, "POST", buf_text(&path), "Content-Type: text/plain\r\n", fd, &stream, err);
    if (result < 0)
        return -1;
    result = progress_show(&stream, stdout, false, NULL, err);
    api_stream_done(call->client, &stream);
    return result;
}

// ---- an answer as a file --------------------------------------------------------------------------------------------

int copy_body(struct http_exchange *x, int fd, struct err *err)
{
    _cleanup_free_ char *data = mem_alloc(PIECE);
    ssize_t got;
    while ((got = http_exchange_read(x, data, PIECE, err)) > 0)
        if (fd_write_full(fd, data, (size_t)got, err) < 0)
            return -1;
    return got < 0 ? -1 : 0;
}

// Into a new file beside the target, which appears whole or not.
static int save_file(struct http_exchange *x, const char *path, struct err *err)
{
    struct stat there;
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode)) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
        return fd < 0 ? err_errno(err, errno, "open %s", path) : copy_body(x, fd, err);
    }
    _cleanup_free_ char *temporary = mem_printf("%s.%d.part", path, (int)getpid());
    _cleanup_close_ int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, errno, "create %s", path);
    if (copy_body(x, fd, err) == 0 && rename(temporary, path) == 0)
        return 0;
    unlink(temporary);
    return err->class ? -1 : err_errno(err, errno, "rename to %s", path);
}

int download_to(struct client *client, const char *path, const char *output, struct err *err)
{
    struct http_exchange x;
    if (str_empty(output) && on_terminal(STDOUT_FILENO))
        return err_set(err, ERR_INVALID_ARGUMENT, "cowardly refusing to save to a terminal. Use the -o flag or redirect");
    if (api_open(client, &x, err) < 0)
        return -1;
    fflush(stdout);
    int result = api_send(client, &x, "GET", path, NULL, NULL, err);
    if (result == 0)
        result = str_empty(output) ? copy_body(&x, STDOUT_FILENO, err) : save_file(&x, output, err);
    api_close(client, &x);
    return result;
}

static int download(struct call *call, const char *path, const char *what, struct err *err)
{
    int result = download_to(call->client, path, flag_text(&call->flags, "output"), err);
    return result < 0 && !str_starts(err->message, "Error response") ? err_wrap(err, "failed to %s", what) : result;
}

int command_save(struct call *call, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    buf_adds(&path, "/images/get");
    for (size_t i = 0; i < call->args.len; i++)
        query_add(&path, "names", call->args.items[i]);
    if (put_platforms(call, "platform", 48, &path, err) < 0)
        return -1;
    return download(call, buf_text(&path), "save image", err);
}

int command_export(struct call *call, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    path_put(&path, "/containers/", call->args.items[0], "/export");
    return download(call, buf_text(&path), "export container", err);
}

// ---- commit ---------------------------------------------------------------------------------------------------------

int command_commit(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *answer = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT, name = BUF_INIT(4096), tag = BUF_INIT(512);
    buf_adds(&path, "/commit");
    query_add(&path, "container", call->args.items[0]);
    if (call->args.len > 1) {
        image_parts(call->args.items[1], &name, &tag);
        query_add(&path, "repo", buf_text(&name));
        query_add(&path, "tag", buf_text(&tag));
    }
    flags_to_query(&call->flags, &path);
    if (api_json(call->client, "POST", buf_text(&path), NULL, &answer, err) < 0)
        return -1;
    printf("%s\n", json_get_text(answer, "Id", ""));
    return 0;
}
