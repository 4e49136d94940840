#include <ctype.h>
#include <strings.h>

#include "base/slice.h"
#include "httpd_private.h"

struct copying {
    struct arena *arena;
    struct kvs *out;
    size_t capacity;
};

static enum MHD_Result copy_pair(void *context, enum MHD_ValueKind kind, const char *key, size_t key_size,
                                 const char *value, size_t value_size)
{
    struct copying *copying = context;
    if (copying->out->len == copying->capacity)
        return MHD_NO;
    copying->out->items[copying->out->len++] =
        (struct kv){ arena_strndup(copying->arena, key, key_size),
                     arena_strndup(copying->arena, value ? value : "", value_size) };
    return MHD_YES;
}

static void copy_pairs(struct httpd_request *request, enum MHD_ValueKind kind, struct kvs *out)
{
    int len = MHD_get_connection_values_n(request->mhd, kind, NULL, NULL);
    if (len <= 0)
        return;
    struct copying copying = { &request->arena, out, (size_t)len };
    out->items = arena_alloc(&request->arena, (size_t)len * sizeof(*out->items));
    MHD_get_connection_values_n(request->mhd, kind, copy_pair, &copying);
}

// A body is announced by its length or by its coding.
static bool announces_body(const struct httpd_request *request)
{
    const char *length = httpd_header(request, "Content-Length");
    return httpd_header(request, "Transfer-Encoding") || (length && strspn(length, "0") != strlen(length));
}

struct httpd_request *request_new(struct httpd *httpd, struct MHD_Connection *mhd, const char *method, const char *url,
                                  const char *version)
{
    struct httpd_request *request = mem_new(struct httpd_request);
    request->httpd = httpd;
    request->mhd = mhd;
    request->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    request->cancel = (struct cancel){ request->fd, httpd->stop_fd };
    request->method = arena_strdup(&request->arena, method);
    request->path = arena_strdup(&request->arena, url ? url : "");
    request->http_10 = !version || strcasecmp(version, "HTTP/1.1") != 0;
    request->body_read_fd = request->body_write_fd = request->reply_fd = -1;
    mutex_init(&request->offer.lock, 0);
    cond_init(&request->offer.changed);
    request->body = (struct buf)BUF_INIT(httpd->config.body_max);
    copy_pairs(request, MHD_GET_ARGUMENT_KIND, &request->query);
    copy_pairs(request, MHD_HEADER_KIND, &request->headers);
    request->has_body = announces_body(request);
    return request;
}

void request_free(struct httpd_request *request)
{
    fd_close(request->body_read_fd);
    fd_close(request->body_write_fd);
    fd_close(request->reply_fd);
    cond_done(&request->offer.changed);
    mutex_done(&request->offer.lock);
    buf_done(&request->body);
    arena_done(&request->arena);
    free(request);
}

const char *httpd_method(const struct httpd_request *request)
{
    return request->method;
}

const char *httpd_path(const struct httpd_request *request)
{
    return request->path;
}

const char *httpd_query(const struct httpd_request *request, const char *key)
{
    return kvs_get(&request->query, key);
}

void httpd_query_all(const struct httpd_request *request, const char *key, struct strv *out)
{
    *out = (struct strv){ 0 };
    for (size_t i = 0; i < request->query.len; i++)
        if (str_eq(request->query.items[i].key, key))
            strv_push_arena(out, (struct arena *)&request->arena, request->query.items[i].value);
}

bool httpd_query_flag(const struct httpd_request *request, const char *key, bool fallback)
{
    static const char *const no[] = { "", "0", "no", "false", "none" };
    const char *text = httpd_query(request, key);
    if (!text)
        return fallback;
    struct slice value = slice_trim(slice_of(text));
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        if (value.size == strlen(no[i]) && strncasecmp(value.data, no[i], value.size) == 0)
            return false;
    return true;
}

const char *httpd_header(const struct httpd_request *request, const char *name)
{
    for (size_t i = 0; i < request->headers.len; i++)
        if (strcasecmp(request->headers.items[i].key, name) == 0)
            return request->headers.items[i].value;
    return NULL;
}

bool httpd_upgrade(const struct httpd_request *request)
{
    return httpd_header(request, "Upgrade") != NULL;
}

const char *httpd_body_text(const struct httpd_request *request, size_t *size)
{
    *size = request->body.size;
    return buf_text(&request->body);
}

int httpd_body_fd(const struct httpd_request *request)
{
    return request->body_read_fd;
}

struct arena *httpd_arena(struct httpd_request *request)
{
    return &request->arena;
}

const struct cancel *httpd_cancel(const struct httpd_request *request)
{
    return &request->cancel;
}
