#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "http/http.h"
#include "base/clock.h"
#include "base/fd.h"

#define READ_SIZE 4096

void http_client_init(struct http_client *client, int fd)
{
    *client = (struct http_client){ .fd = fd, .in = BUF_INIT(HTTP_HEAD_MAX + 2 * HTTP_BODY_MAX) };
}

void http_client_done(struct http_client *client)
{
    buf_done(&client->in);
}

int http_client_send(struct http_client *client, const char *method, const char *path, const int *fds, size_t fds_len,
                     struct err *err)
{
    char text[1024];
    int size = snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: berth\r\nContent-Length: 0\r\n\r\n", method, path);
    if (size >= (int)sizeof(text))
        return err_set(err, ERR_INVALID_ARGUMENT, "the path is too long: %s", path);
    ssize_t sent = fd_send(client->fd, text, (size_t)size, fds, fds_len, err);
    if (sent < 0)
        return -1;
    return fd_write_full(client->fd, text + sent, (size_t)(size - sent), err);
}

int http_client_receive(struct http_client *client, struct err *err)
{
    char *room = buf_reserve(&client->in, READ_SIZE);
    if (!room)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "the response is too long");
    ssize_t got;
    do
        got = recv(client->fd, room, READ_SIZE, 0);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN ? 1 : err_errno(err, errno, "read the response");
    buf_commit(&client->in, (size_t)got);
    return got > 0;
}

static int next_chunk(struct http_client *client, struct slice bytes, struct http_part *out, struct err *err)
{
    size_t size = 0;
    int got = http_parse_chunk(bytes, &out->body, &size, err);
    if (got <= 0)
        return got;
    client->used = size;
    client->in_stream = out->body.size > 0;
    out->status = client->status;
    out->last = !client->in_stream;
    return 1;
}

int http_client_next(struct http_client *client, struct http_part *out, struct err *err)
{
    struct http_head head;
    buf_consume(&client->in, client->used);
    client->used = 0;
    struct slice bytes = { buf_text(&client->in), client->in.size };
    if (client->in_stream)
        return next_chunk(client, bytes, out, err);
    int got = http_parse_head(HTTP_RESPONSE, bytes, &head, err);
    if (got <= 0)
        return got;
    client->status = head.status;
    if (head.chunked) {
        client->in_stream = true;
        client->used = head.size;
        return http_client_next(client, out, err);
    }
    if (bytes.size - head.size < head.body_size)
        return 0;
    client->used = head.size + (size_t)head.body_size;
    *out = (struct http_part){ head.status, { bytes.data + head.size, (size_t)head.body_size }, true };
    return 1;
}

static int wait_readable(int fd, int64_t deadline_ns, struct err *err)
{
    struct pollfd one = { .fd = fd, .events = POLLIN };
    int64_t left = deadline_ns - clock_mono_ns();
    int ready = poll(&one, 1, left <= 0 ? 0 : (int)MIN_OF(left / NS_PER_MS + 1, INT64_C(1) << 30));
    if (ready < 0 && errno != EINTR)
        return err_errno(err, errno, "poll");
    return ready > 0 || left > 0 ? 0 : err_set(err, ERR_UNAVAILABLE, "no answer in time");
}

static enum err_class class_of(int status)
{
    for (enum err_class class = ERR_INTERNAL; class < ERR_CLASS_COUNT; class++)
        if (err_http_status(class) == status && status != 500)
            return class;
    return ERR_INTERNAL;
}

// The message in {"message": "..."}; without one the status has to do.
static int answered_error(int status, struct slice body, struct err *err)
{
    static const char before[] = "{\"message\":\"";
    size_t size = sizeof(before) - 1;
    if (!slice_starts(body, before) || body.size < size + 2)
        return err_set(err, class_of(status), "HTTP status %d", status);
    return err_set(err, class_of(status), "%.*s", (int)(body.size - size - 2), body.data + size);
}

int http_client_call(struct http_client *client, const char *method, const char *path, const int *fds, size_t fds_len,
                     int64_t deadline_ns, struct buf *body, struct err *err)
{
    struct http_part part;
    int got;
    if (http_client_send(client, method, path, fds, fds_len, err) < 0)
        return -1;
    for (bool last = false; !last;) {
        while ((got = http_client_next(client, &part, err)) == 0) {
            if (wait_readable(client->fd, deadline_ns, err) < 0)
                return -1;
            int more = http_client_receive(client, err);
            if (more <= 0)
                return more < 0 ? -1 : err_set(err, ERR_UNAVAILABLE, "the other side has closed the connection");
        }
        if (got < 0)
            return -1;
        if (part.status >= 400)
            return answered_error(part.status, part.body, err);
        buf_add(body, part.body.data, part.body.size);
        last = part.last;
    }
    return buf_check(body, "the response", err);
}
