// Theory of operation. libmicrohttpd parses requests and keeps connections alive, one thread for each; it never listens.
// Our own acceptor (accept.c) hands it connections that have something to say. Its handler callback comes several times per
// request: at the head, with pieces of the body, and once at the end; on_request() below is that callback.
//
// Small answers go back through libmicrohttpd and keep the connection. Everything that streams is written by ourselves to
// the connection's descriptor, with a head of our own that says "Connection: close"; then MHD_NO makes libmicrohttpd
// close. A hijacked connection leaves the same way, after its descriptor's number was given a dummy socket.
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/num.h"
#include "httpd_private.h"

// ---- connections ----------------------------------------------------------------------------------------------------

struct connection *connection_add(struct httpd *httpd, int fd)
{
    struct connection *connection = mem_new(struct connection);
    connection->fd = fd;
    mutex_lock(&httpd->lock);
    connection->next = &httpd->connections;
    connection->previous = httpd->connections.previous;
    connection->previous->next = connection->next->previous = connection;
    httpd->connection_len++;
    if (httpd->stopping)
        shutdown(connection->fd, SHUT_RD);
    mutex_unlock(&httpd->lock);
    return connection;
}

void connection_remove(struct httpd *httpd, struct connection *connection)
{
    mutex_lock(&httpd->lock);
    connection->previous->next = connection->next;
    connection->next->previous = connection->previous;
    httpd->connection_len--;
    cond_wake_all(&httpd->gone);
    mutex_unlock(&httpd->lock);
    free(connection);
}

static void on_connection(void *context, struct MHD_Connection *mhd, void **slot, enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *slot = connection_add(context, MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
    } else if (*slot) {
        connection_remove(context, *slot);
        *slot = NULL;
    }
}

bool httpd_crowded(struct httpd *httpd)
{
    mutex_lock(&httpd->lock);
    bool crowded = httpd->connection_len > httpd->config.connection_max;
    mutex_unlock(&httpd->lock);
    return crowded;
}

// ---- one request ----------------------------------------------------------------------------------------------------

static bool declares_too_much(const struct httpd_request *request)
{
    const char *length = httpd_header(request, "Content-Length");
    uint64_t size;
    return length && !num_parse_u64(slice_of(length), request->httpd->config.body_max, &size);
}

// At the head: who is refused at once, and how the body is taken.
static enum MHD_Result on_head(struct httpd_request *request)
{
    struct httpd *httpd = request->httpd;
    const struct httpd_config *config = &httpd->config;
    if (request->path[0] != '/')
        answer_error(request, 400, "malformed request");
    else if (httpd_crowded(httpd) && !(config->is_urgent && config->is_urgent(config->context, request->method, request->path)))
        answer_error(request, 503, "too many connections");
    else if (config->body)
        request->body_mode = config->body(config->context, request);
    request->decided = true;
    if (request->body_mode == HTTPD_BODY_OFFER) {
        request->body_mode = HTTPD_BODY_STREAM;
        request->offer.way = BODY_OFFERED; // nobody else has the request yet
    }

    if (request->answer == ANSWER_NONE && request->has_body && request->body_mode == HTTPD_BODY_TEXT &&
        declares_too_much(request))
        answer_error(request, 413, "request body too large");
    // An upload may pause for as long as it likes.
    if (request->body_mode == HTTPD_BODY_STREAM)
        MHD_set_connection_option(request->mhd, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
    if (request->answer == ANSWER_NONE || !request->has_body)
        return MHD_YES; // a bodyless request is answered at its end: libmicrohttpd keeps the connection only then
    answer_raw(request);
    return MHD_NO;
}

// Nobody reads any more. Most clients look at the answer when they have sent all; one that never ends is sent away.
static enum MHD_Result on_dropped(struct httpd_request *request, size_t size)
{
    request->dropped += size;
    if (request->dropped <= HTTPD_DROPPED_MAX)
        return MHD_YES;
    body_finish(request);
    if (request->answer == ANSWER_STREAM)
        httpd_stream_end(request);
    if (request->answer == ANSWER_REPLY)
        answer_raw(request);
    return MHD_NO;
}

static enum MHD_Result on_piece(struct httpd_request *request, const char *data, size_t size)
{
    struct err err = { 0 };
    if (request->body_mode == HTTPD_BODY_TEXT) {
        if (body_add_text(request, data, size) == 0)
            return MHD_YES;
        answer_error(request, 413, "request body too large");
        answer_raw(request);
        return MHD_NO;
    }
    // Not earlier: an "Expect: 100-continue" has been answered by now, so the handler's own output cannot meet it.
    if (!request->handler_runs && request->answer == ANSWER_NONE && body_start_handler(request, &err) < 0)
        answer_error(request, 500, err.message);
    body_feed(request, data, size);
    return request->body_write_fd < 0 ? on_dropped(request, size) : MHD_YES;
}

static void run_handler(struct httpd_request *request)
{
    struct err err = { 0 };
    if (request->body_mode == HTTPD_BODY_STREAM) {
        if (!request->handler_runs && body_start_handler(request, &err) < 0)
            answer_error(request, 500, err.message);
        body_finish(request);
    } else {
        request->httpd->config.handle(request->httpd->config.context, request);
    }
    if (request->answer == ANSWER_NONE)
        answer_error(request, 500, "the request was not answered");
}

// libmicrohttpd counts a handler's own time as idleness and would drop the answer of a slow one. It starts to count
// afresh when the limit goes from none to some.
static void restart_idle_clock(struct MHD_Connection *mhd)
{
    MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
    MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT, HTTPD_IDLE_S);
}

static enum MHD_Result on_end(struct httpd_request *request)
{
    if (request->handler_runs || request->answer == ANSWER_NONE)
        run_handler(request);
    if (request->answer == ANSWER_STREAM)
        httpd_stream_end(request);
    restart_idle_clock(request->mhd);
    return request->answer == ANSWER_REPLY ? answer_queue(request) : MHD_NO;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **slot)
{
    struct httpd_request *request = *slot;
    if (!request) {
        *slot = request = request_new(context, mhd, method, url, version);
        return on_head(request);
    }
    if (*size == 0)
        return on_end(request);
    size_t piece = *size;
    *size = 0;
    return on_piece(request, data, piece);
}

static enum MHD_Result on_long_request(void *context, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
                                       const char *data, size_t *size, void **slot)
{
    bool fresh = !*slot;
    enum MHD_Result result = on_request(context, mhd, url, method, version, data, size, slot);
    if (fresh)
        ((struct httpd_request *)*slot)->last = true;
    return result;
}

static void on_completed(void *context, struct MHD_Connection *mhd, void **slot, enum MHD_RequestTerminationCode code)
{
    struct httpd_request *request = *slot;
    if (!request)
        return;
    // The client left in the middle of its upload: the handler learns it as a hang-up before it sees the end of the body.
    if (request->handler_runs) {
        shutdown(request->fd, SHUT_RDWR);
        body_finish(request);
    }
    request_free(request);
    *slot = NULL;
}

static void drop_log(void *context, const char *fmt, va_list args)
{
    // libmicrohttpd calls each MHD_NO an internal error, and every broken client something: nobody needs these lines.
}

// ---- the server -----------------------------------------------------------------------------------------------------

int httpd_new(const struct httpd_config *config, struct httpd **out, struct err *err)
{
    struct httpd *httpd = mem_new(struct httpd);
    httpd->config = *config;
    httpd->epoll_fd = -1;
    httpd->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    httpd->waiting.next = httpd->waiting.previous = &httpd->waiting;
    httpd->connections.next = httpd->connections.previous = &httpd->connections;
    mutex_init(&httpd->lock, 0);
    cond_init(&httpd->gone);
    if (httpd->stop_fd < 0) {
        err_errno(err, errno, "eventfd");
        httpd_free(httpd);
        return -1;
    }
    *out = httpd;
    return 0;
}

int httpd_listen(struct httpd *httpd, int listen_fd, struct err *err)
{
    return httpd_listen_tls(httpd, listen_fd, NULL, err);
}

int httpd_listen_tls(struct httpd *httpd, int listen_fd, struct httpd_tls *tls, struct err *err)
{
    _cleanup_close_ int fd = listen_fd;
    if (httpd->listen_len == HTTPD_LISTEN_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d listening sockets", HTTPD_LISTEN_MAX);
    if (fd_set_nonblock(fd, true, err) < 0)
        return -1;
    httpd->listen_tls[httpd->listen_len] = tls;
    httpd->listen_fds[httpd->listen_len++] = take_fd(&fd);
    return 0;
}

static struct MHD_Daemon *start_mhd(struct httpd *httpd, MHD_AccessHandlerCallback function, size_t pool_size, unsigned connection_max)
{
    const unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL | MHD_USE_ITC |
                           MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
    return MHD_start_daemon(flags, 0, NULL, NULL, function, httpd,
                            MHD_OPTION_EXTERNAL_LOGGER, drop_log, NULL,
                            MHD_OPTION_NOTIFY_CONNECTION, on_connection, httpd,
                            MHD_OPTION_NOTIFY_COMPLETED, on_completed, httpd,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, pool_size,
                            MHD_OPTION_CONNECTION_LIMIT, connection_max,
                            MHD_OPTION_CONNECTION_TIMEOUT, HTTPD_IDLE_S,
                            MHD_OPTION_THREAD_STACK_SIZE, (size_t)HTTPD_STACK_SIZE,
                            MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
                            MHD_OPTION_END);
}

struct MHD_Daemon *httpd_long(struct httpd *httpd)
{
    if (!httpd->mhd_long)
        httpd->mhd_long = start_mhd(httpd, on_long_request, HTTPD_LONG_POOL_SIZE, HTTPD_LONG_LIMIT);
    return httpd->mhd_long;
}

int httpd_start(struct httpd *httpd, struct err *err)
{
    httpd->mhd = start_mhd(httpd, on_request, HTTPD_POOL_SIZE, HTTPD_CONNECTION_LIMIT);
    if (!httpd->mhd)
        return err_set(err, ERR_INTERNAL, "the HTTP server did not start");
    return acceptor_start(httpd, err);
}

// libmicrohttpd waits for its threads without a limit: so everybody is hung up first, and only an empty server is ended.
void httpd_stop(struct httpd *httpd)
{
    int64_t deadline_ns = clock_mono_ns() + HTTPD_STOP_NS;
    eventfd_write(httpd->stop_fd, 1);
    acceptor_stop(httpd);
    mutex_lock(&httpd->lock);
    httpd->stopping = true;
    for (struct connection *c = httpd->connections.next; c != &httpd->connections; c = c->next)
        shutdown(c->fd, SHUT_RD);
    while (httpd->connection_len > 0 && cond_wait_until(&httpd->gone, &httpd->lock, deadline_ns))
        ;
    bool empty = httpd->connection_len == 0;
    mutex_unlock(&httpd->lock);
    if (httpd->mhd && empty) {
        MHD_stop_daemon(httpd->mhd);
        if (httpd->mhd_long)
            MHD_stop_daemon(httpd->mhd_long);
        httpd->mhd = httpd->mhd_long = NULL;
    }
}

void httpd_free(struct httpd *httpd)
{
    if (!httpd || httpd->mhd)
        return; // a handler that did not end in time still uses it: it is left to the end of the program
    for (size_t i = 0; i < httpd->listen_len; i++)
        fd_close(httpd->listen_fds[i]);
    fd_close(httpd->epoll_fd);
    fd_close(httpd->stop_fd);
    cond_done(&httpd->gone);
    mutex_done(&httpd->lock);
    free(httpd);
}
