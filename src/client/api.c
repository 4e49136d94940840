// Requests. The connection of the last answer is kept for the next request; the first connection asks the daemon which version of the
// API it speaks, so that paths have a version that both know.
#include <errno.h>
#include <sys/socket.h>

#include "client/client_private.h"
#include "base/num.h"

void path_put(struct buf *path, const char *prefix, const char *name, const char *rest)
{
    buf_adds(path, prefix);
    for (const char *at = name ? name : ""; *at; at++)
        if (*at == '/' || *at == ':' || *at == '@') {
            buf_addc(path, *at);
        } else {
            char one[2] = { *at, 0 };
            query_escape(path, one);
        }
    buf_adds(path, rest);
}

int api_read_all(struct http_exchange *x, struct buf *out, struct err *err)
{
    for (;;) {
        char *room = buf_reserve(out, 16384);
        if (!room)
            return err_set(err, ERR_RESOURCE_EXHAUSTED, "the daemon's answer is too long");
        ssize_t got = http_exchange_read(x, room, 16384, err);
        if (got <= 0)
            return got < 0 ? -1 : 0;
        buf_commit(out, (size_t)got);
    }
}

static enum err_class class_of(int status)
{
    for (enum err_class class = ERR_INTERNAL; class < ERR_CLASS_COUNT; class++)
        if (err_http_status(class) == status && status != 500)
            return class;
    return ERR_INTERNAL;
}

int api_check(struct http_exchange *x, struct err *err)
{
    _cleanup_buf_ struct buf body = BUF_INIT(1u << 20);
    _cleanup_json_ json_t *answer = NULL;
    if (x->status < 400)
        return 0;
    if (api_read_all(x, &body, err) < 0)
        return -1;
    struct err ignored;
    const char *message = NULL;
    if (json_parse(buf_text(&body), body.size, &answer, &ignored) == 0)
        message = json_get_text(answer, "message", NULL);
    struct slice plain = slice_trim((struct slice){ buf_text(&body), body.size });
    if (message)
        return err_set(err, class_of(x->status), "Error response from daemon: %s", message);
    return err_set(err, class_of(x->status), "Error response from daemon: %.*s", plain.size ? (int)plain.size : 15, plain.size ? plain.data : "(no message)");
}

// "1.47" in the answer to a ping; the client's own where that is lower.
static int negotiate(struct client *client, struct http_exchange *x, struct err *err)
{
    struct slice version, major;
    uint64_t minor;
    const char *wanted = getenv("DOCKER_API_VERSION");
    if (!str_empty(wanted)) {
        struct slice rest = slice_of(wanted);
        if (!slice_cut(&rest, '.', &major) || !slice_eq(major, "1") || !num_parse_u64(rest, 999, &minor))
            return err_set(err, ERR_INVALID_ARGUMENT, "DOCKER_API_VERSION is no version: %s", wanted);
        client->api = (int)minor;
        return 0;
    }
    if (http_exchange_send(x, "HEAD", "/_ping", "", (struct slice){ 0 }, err) < 0 || http_exchange_receive_bare(x, err) < 0)
        return client->tls.on ? err_wrap(err, "TLS with %s: the daemon may not accept the certificate %s", client->host, client->tls.cert) : -1;
    client->api = 24;
    if (http_exchange_header(x, "Api-Version", &version) && slice_cut(&version, '.', &major) && num_parse_u64(version, 999, &minor))
        client->api = (int)MIN_OF(minor, (uint64_t)CLIENT_API_NEWEST);
    return 0;
}

static int open_new(struct client *client, struct http_exchange *x, struct err *err)
{
    int fd = client_connect(client, err);
    if (fd < 0)
        return -1;
    http_exchange_init(x, fd);
    return 0;
}

// The daemon may have closed it, or be another one by now; what it says unasked is no answer either.
static bool still_open(const struct http_exchange *x)
{
    char byte;
    return recv(x->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

int api_open(struct client *client, struct http_exchange *x, struct err *err)
{
    if (client->has_kept) {
        *x = client->kept;
        client->has_kept = false;
        if (still_open(x))
            return 0;
        http_exchange_done(x);
    }
    if (open_new(client, x, err) < 0)
        return -1;
    if (client->api)
        return 0;
    if (negotiate(client, x, err) < 0) {
        http_exchange_done(x);
        return -1;
    }
    if (!http_exchange_reusable(x) && x->status) {
        http_exchange_done(x);
        return open_new(client, x, err);
    }
    return 0;
}

void api_close(struct client *client, struct http_exchange *x)
{
    if (!client->has_kept && http_exchange_reusable(x)) {
        client->kept = *x;
        client->has_kept = true;
    } else {
        http_exchange_done(x);
    }
    x->fd = -1;
}

static char *versioned(const struct client *client, const char *path)
{
    return mem_printf("/v1.%d%s", client->api, path);
}

int api_send(struct client *client, struct http_exchange *x, const char *method, const char *path, const char *headers, json_t *body,
             struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(CLIENT_ANSWER_MAX);
    _cleanup_free_ char *target = versioned(client, path);
    _cleanup_free_ char *own = config_headers(client);
    _cleanup_free_ char *all = mem_printf("%s%s%s", headers ? headers : "", own, body ? "Content-Type: application/json\r\n" : "");
    if (body)
        json_write(body, &text);
    if (client->debug)
        fprintf(stderr, "%s %s %s\n", method, target, buf_text(&text));
    if (http_exchange_send(x, method, target, all, (struct slice){ buf_text(&text), text.size }, err) < 0 ||
        (str_eq(method, "HEAD") ? http_exchange_receive_bare : http_exchange_receive)(x, err) < 0)
        return -1;
    return api_check(x, err);
}

int api_raw(struct client *client, const char *method, const char *path, const char *headers, json_t *body, struct buf *out, struct err *err)
{
    struct http_exchange x;
    json_t *taken _cleanup_json_ = body;
    if (api_open(client, &x, err) < 0)
        return -1;
    int result = api_send(client, &x, method, path, headers, taken, err);
    if (result == 0)
        result = api_read_all(&x, out, err);
    int status = x.status;
    api_close(client, &x);
    return result < 0 ? -1 : status;
}

int api_text(struct client *client, const char *method, const char *path, struct buf *out, struct err *err)
{
    return api_raw(client, method, path, NULL, NULL, out, err);
}

int api_json(struct client *client, const char *method, const char *path, json_t *body, json_t **out, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(CLIENT_ANSWER_MAX);
    int status = api_raw(client, method, path, NULL, body, &text, err);
    if (status < 0)
        return -1;
    return out && json_parse(buf_text(&text), text.size, out, err) < 0 ? err_wrap(err, "the daemon's answer") : status;
}

int api_version(struct client *client, struct err *err)
{
    struct http_exchange x;
    if (!client->api) {
        if (api_open(client, &x, err) < 0)
            return -1;
        client->kept = x;
        client->has_kept = true;
    }
    return client->api;
}

int api_hijack(struct client *client, const char *path, json_t *body, struct http_exchange *x, struct err *err)
{
    if (api_open(client, x, err) < 0) {
        json_decref(body);
        return -1;
    }
    int result = api_send(client, x, "POST", path, "Connection: Upgrade\r\nUpgrade: tcp\r\n", body, err);
    json_decref(body);
    if (result == 0 && x->status != 101)
        result = err_set(err, ERR_INTERNAL, "unable to upgrade to tcp, received %d", x->status);
    if (result < 0)
        api_close(client, x);
    return result;
}

// The line in front, taken off `text` when it is parsed: 1 with an object, 0 without a whole line (at the `end` the rest is one), -1.
static int take_line(struct buf *text, bool end, json_t **out, struct err *err)
{
    while (text->size) {
        const char *start = buf_text(text), *stop = memchr(start, '\n', text->size);
        if (!stop && !end)
            return 0;
        size_t size = stop ? (size_t)(stop - start) : text->size;
        struct slice line = slice_trim((struct slice){ start, size });
        int result = line.size ? json_parse(line.data, line.size, out, err) : 0;
        bool any = line.size > 0;
        buf_consume(text, size + (stop != NULL));
        if (any)
            return result < 0 ? -1 : 1;
    }
    return 0;
}

int api_stream_next(struct api_stream *stream, json_t **out, struct err *err)
{
    for (bool end = false;;) {
        int taken = take_line(&stream->text, end, out, err);
        if (taken || end)
            return taken;
        char *room = buf_reserve(&stream->text, 16384);
        ssize_t got = room ? http_exchange_read(&stream->x, room, 16384, err) : err_set(err, ERR_RESOURCE_EXHAUSTED, "a line of the daemon's is too long");
        if (got < 0)
            return -1;
        end = got == 0;
        if (got)
            buf_commit(&stream->text, (size_t)got);
    }
}
