// One loop turn reads once from a connection, serves the requests that are whole, and sends. What a peer doesn't take waits in
// its buffer up to a ceiling. A connection that broke is only marked inside a call, and freed at the end of its turn.
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "http/http.h"
#include "base/clock.h"
#include "base/fd.h"

#define READ_SIZE 4096

struct http_connection {
    struct http_connection *next;
    struct http_server *server;
    int fd;
    struct loop_source *source;
    struct buf in, out;
    int fds[HTTP_FDS_MAX]; // of the request that is being read
    size_t fds_len;
    bool streaming, closing /* when all is sent */, broken;
};

struct listener {
    struct listener *next;
    struct http_server *server;
    int fd;
    struct loop_source *source;
};

struct http_server {
    struct loop *loop;
    const struct http_route *routes;
    size_t routes_len;
    void *context;
    struct http_connection *connections;
    size_t connections_len;
    struct listener *listeners;
};

// ---- sending -------------------------------------------------------------------------------------------------------

static void flush(struct http_connection *connection)
{
    struct buf *out = &connection->out;
    while (out->size && !connection->broken) {
        ssize_t sent = fd_write_some(connection->fd, out->data, out->size);
        if (sent > 0)
            buf_consume(out, (size_t)sent);
        else if (errno == EAGAIN)
            break;
        else if (errno != EINTR)
            connection->broken = true;
    }
    if (out->overflow || (!out->size && connection->closing))
        connection->broken = true;
    if (!connection->broken)
        loop_set_events(connection->source, EPOLLIN | (out->size ? EPOLLOUT : 0));
}

static const char *reason(int status)
{
    return status < 300 ? "OK" : status < 500 ? "Refused" : "Failed";
}

void http_answer(struct http_call *call, int status, const char *json)
{
    size_t size = json ? strlen(json) : 0;
    buf_addf(&call->connection->out, "HTTP/1.1 %d %s\r\n%sContent-Length: %zu\r\n\r\n", status, reason(status),
             size ? "Content-Type: application/json\r\n" : "", size);
    buf_add(&call->connection->out, json ? json : "", size);
}

static void put_error(struct http_connection *connection, const struct err *err)
{
    _cleanup_buf_ struct buf json = BUF_INIT(8 * ERR_MESSAGE_SIZE);
    struct http_call call = { .connection = connection };
    buf_adds(&json, "{\"message\":");
    http_put_text(&json, err->message);
    buf_adds(&json, "}");
    http_answer(&call, err_http_status(err->class), buf_text(&json));
}

void http_answer_err(struct http_call *call, const struct err *err)
{
    put_error(call->connection, err);
}

static void put_chunk(struct http_connection *connection, const char *json)
{
    buf_addf(&connection->out, "%zx\r\n%s\n\r\n", strlen(json) + 1, json);
}

void http_answer_stream(struct http_call *call, const char *json)
{
    buf_adds(&call->connection->out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    put_chunk(call->connection, json);
    call->connection->streaming = true;
}

void http_server_tell(struct http_server *server, const char *json)
{
    for (struct http_connection *one = server->connections; one; one = one->next) {
        if (!one->streaming || one->broken)
            continue;
        put_chunk(one, json);
        flush(one);
    }
}

// ---- receiving -----------------------------------------------------------------------------------------------------

static void drop_fds(struct http_connection *connection)
{
    while (connection->fds_len)
        fd_close(connection->fds[--connection->fds_len]);
}

static const struct http_route *find_route(const struct http_server *server, const struct http_head *head, bool *path_known)
{
    *path_known = false;
    for (size_t i = 0; i < server->routes_len; i++) {
        const struct http_route *route = &server->routes[i];
        if (!slice_eq(head->path, route->path))
            continue;
        *path_known = true;
        if (slice_eq(head->method, route->method))
            return route;
    }
    return NULL;
}

static void serve(struct http_connection *connection, const struct http_head *head)
{
    bool path_known;
    const struct http_route *route = find_route(connection->server, head, &path_known);
    struct http_call call = {
        connection, head->method, head->path, head->query,
        { connection->in.data + head->size, (size_t)head->body_size }, connection->fds, connection->fds_len,
    };
    if (route)
        route->handle(connection->server->context, &call);
    else
        http_answer(&call, path_known ? 405 : 404, path_known ? "{\"message\":\"not with this method\"}"
                                                              : "{\"message\":\"nothing of this name\"}");
    drop_fds(connection);
    connection->closing |= head->close && !connection->streaming;
}

// Every whole request; behind the start of a stream nothing more is read.
static void serve_all(struct http_connection *connection)
{
    struct http_head head;
    struct err err;
    while (!connection->streaming && !connection->closing) {
        struct slice bytes = { buf_text(&connection->in), connection->in.size };
        int got = http_parse_head(HTTP_REQUEST, bytes, &head, &err);
        if (got < 0) {
            put_error(connection, &err);
            connection->closing = true;
        }
        if (got <= 0 || bytes.size - head.size < head.body_size)
            return;
        serve(connection, &head);
        buf_consume(&connection->in, head.size + (size_t)head.body_size);
    }
    buf_clear(&connection->in);
}

static void receive(struct http_connection *connection)
{
    int fds[HTTP_FDS_MAX];
    size_t fds_len = HTTP_FDS_MAX;
    struct err err = { 0 };
    char *room = buf_reserve(&connection->in, READ_SIZE);
    ssize_t got = room ? fd_recv(connection->fd, room, READ_SIZE, fds, &fds_len, &err) : 0;
    if (got <= 0) {
        connection->broken |= !(got < 0 && err.number == EAGAIN);
        return;
    }
    buf_commit(&connection->in, (size_t)got);
    for (size_t i = 0; i < fds_len; i++)
        if (connection->fds_len < HTTP_FDS_MAX && !connection->streaming)
            connection->fds[connection->fds_len++] = fds[i];
        else
            fd_close(fds[i]);
    serve_all(connection);
}

// ---- life ----------------------------------------------------------------------------------------------------------

static void connection_free(struct http_connection *connection)
{
    loop_remove(connection->source);
    drop_fds(connection);
    fd_close(connection->fd);
    buf_done(&connection->in);
    buf_done(&connection->out);
    free(connection);
}

static void sweep(struct http_server *server)
{
    for (struct http_connection **at = &server->connections; *at;) {
        struct http_connection *one = *at;
        if (!one->broken) {
            at = &one->next;
            continue;
        }
        *at = one->next;
        server->connections_len--;
        connection_free(one);
    }
}

static void on_connection(void *context, int fd, uint32_t events)
{
    struct http_connection *connection = context;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(connection);
    flush(connection);
    sweep(connection->server);
}

static int add_connection(struct http_server *server, int fd, struct err *err)
{
    if (server->connections_len == HTTP_CONNECTIONS_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d connections", HTTP_CONNECTIONS_MAX);
    if (fd_set_nonblock(fd, true, err) < 0)
        return -1;
    struct http_connection *connection = mem_new(struct http_connection);
    *connection = (struct http_connection){ .server = server, .fd = fd, .in = BUF_INIT(HTTP_HEAD_MAX + HTTP_BODY_MAX + READ_SIZE),
                                            .out = BUF_INIT(HTTP_WAITING_MAX) };
    if (loop_add_fd(server->loop, fd, EPOLLIN, on_connection, connection, &connection->source, err) < 0) {
        free(connection);
        return -1;
    }
    connection->next = server->connections;
    server->connections = connection;
    server->connections_len++;
    return 0;
}

static void on_listener(void *context, int fd, uint32_t events)
{
    struct listener *listener = context;
    int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (accepted >= 0 && add_connection(listener->server, accepted, NULL) < 0)
        fd_close(accepted);
}

static int add_listener(struct http_server *server, int fd, struct err *err)
{
    if (fd_set_nonblock(fd, true, err) < 0)
        return -1;
    struct listener *listener = mem_new(struct listener);
    *listener = (struct listener){ .server = server, .fd = fd };
    if (loop_add_fd(server->loop, fd, EPOLLIN, on_listener, listener, &listener->source, err) < 0) {
        free(listener);
        return -1;
    }
    listener->next = server->listeners;
    server->listeners = listener;
    return 0;
}

int http_server_new(struct loop *loop, const struct http_route *routes, size_t routes_len, void *context,
                    struct http_server **out, struct err *err)
{
    struct http_server *server = mem_new(struct http_server);
    *server = (struct http_server){ .loop = loop, .routes = routes, .routes_len = routes_len, .context = context };
    *out = server;
    return 0;
}

int http_server_add(struct http_server *server, int fd, struct err *err)
{
    int listens = 0;
    socklen_t size = sizeof(listens);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0)
        return err_errno(err, errno, "control socket");
    return listens ? add_listener(server, fd, err) : add_connection(server, fd, err);
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    while (server->connections) {
        struct http_connection *one = server->connections;
        server->connections = one->next;
        connection_free(one);
    }
    while (server->listeners) {
        struct listener *one = server->listeners;
        server->listeners = one->next;
        loop_remove(one->source);
        fd_close(one->fd);
        free(one);
    }
    free(server);
}

void http_server_drain(struct http_server *server, int64_t deadline_ns)
{
    for (struct http_connection *one = server->connections; one; one = one->next) {
        if (one->streaming)
            buf_adds(&one->out, "0\r\n\r\n");
        one->closing = true;
        flush(one);
        while (!one->broken && clock_mono_ns() < deadline_ns) {
            struct pollfd wait = { .fd = one->fd, .events = POLLOUT };
            poll(&wait, 1, 10);
            flush(one);
        }
    }
    sweep(server);
}
