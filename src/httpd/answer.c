// Answers: kept for libmicrohttpd, streamed in chunks, raw before the body's end, or a hijack.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "httpd_private.h"

// ---- writing to the connection --------------------------------------------------------------------------------------

// The descriptor does not block; a client that does not read holds only this thread, until it hangs up or the server stops.
static int wait_writable(const struct httpd_request *request)
{
    struct pollfd fds[] = { { request->fd, POLLOUT, 0 }, { request->cancel.event_fd, POLLIN, 0 } };
    while (poll(fds, ARRAY_LEN(fds), -1) < 0)
        if (errno != EINTR)
            return -1;
    return fds[1].revents || (fds[0].revents & (POLLERR | POLLHUP)) ? -1 : 0;
}

static int write_vector(const struct httpd_request *request, struct iovec *iov, size_t len)
{
    struct msghdr message = { .msg_iov = iov, .msg_iovlen = len };
    while (message.msg_iovlen > 0) {
        ssize_t n = sendmsg(request->fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno != EAGAIN || wait_writable(request) < 0))
            return -1;
        for (size_t left = n > 0 ? (size_t)n : 0; message.msg_iovlen > 0;) {
            struct iovec *first = message.msg_iov;
            size_t taken = MIN_OF(left, first->iov_len);
            first->iov_base = (char *)first->iov_base + taken;
            first->iov_len -= taken;
            left -= taken;
            if (first->iov_len > 0)
                break;
            message.msg_iov++;
            message.msg_iovlen--;
        }
    }
    return 0;
}

static int write_all(const struct httpd_request *request, const void *data, size_t size)
{
    struct iovec iov = { (void *)data, size };
    return size ? write_vector(request, &iov, 1) : 0;
}

// ---- heads ----------------------------------------------------------------------------------------------------------

static const char *reason(int status)
{
    const char *phrase = MHD_get_reason_phrase_for((unsigned)status);
    return phrase ? phrase : "Unknown";
}

static void add_date(struct buf *head)
{
    static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    buf_addf(head, "Date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
             tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

// `last` are the lines that differ between the kinds of answers.
static int write_head(struct httpd_request *request, const char *status_line, const char *content_type,
                      const char *last)
{
    _cleanup_buf_ struct buf head = BUF_INIT(64 << 10);
    buf_addf(&head, "HTTP/1.1 %s\r\n", status_line);
    if (content_type)
        buf_addf(&head, "Content-Type: %s\r\n", content_type);
    for (size_t i = 0; i < request->answer_headers.len; i++)
        buf_addf(&head, "%s: %s\r\n", request->answer_headers.items[i].key, request->answer_headers.items[i].value);
    add_date(&head);
    buf_addf(&head, "%s\r\n", last);
    return head.overflow ? -1 : write_all(request, head.data, head.size);
}

void httpd_set_header(struct httpd_request *request, const char *name, const char *value)
{
    enum { HEADER_MAX = 32 };
    struct kvs *headers = &request->answer_headers;
    if (!headers->items)
        headers->items = arena_alloc(&request->arena, HEADER_MAX * sizeof(*headers->items));
    // A line break would begin a header, or an answer, of the client's own choice.
    if (headers->len == HEADER_MAX || strpbrk(name, "\r\n:") || strpbrk(value, "\r\n"))
        return;
    for (size_t i = 0; i < headers->len; i++)
        if (str_eq(headers->items[i].key, name)) {
            headers->items[i].value = arena_strdup(&request->arena, value);
            return;
        }
    headers->items[headers->len++] =
        (struct kv){ arena_strdup(&request->arena, name), arena_strdup(&request->arena, value) };
}

// ---- replies --------------------------------------------------------------------------------------------------------

void httpd_reply(struct httpd_request *request, int status, const char *content_type, const void *body, size_t size)
{
    if (request->answer != ANSWER_NONE)
        return;
    request->answer = ANSWER_REPLY;
    request->status = status;
    request->content_type = arena_strdup(&request->arena, content_type);
    request->reply_data = arena_alloc(&request->arena, size + 1);
    request->reply_size = size;
    if (size)
        memcpy(request->reply_data, body, size);
}

void httpd_reply_file(struct httpd_request *request, int status, const char *content_type, int take_file_fd, int64_t start,
                      int64_t size)
{
    _cleanup_close_ int fd = take_file_fd;
    if (request->answer != ANSWER_NONE)
        return;
    httpd_reply(request, status, content_type, NULL, 0);
    request->reply_fd = take_fd(&fd);
    request->reply_start = start;
    request->reply_file_size = size;
}

void answer_error(struct httpd_request *request, int status, const char *message)
{
    _cleanup_buf_ struct buf text = BUF_INIT(2 * ERR_MESSAGE_SIZE + 64);
    buf_adds(&text, "{\"message\":\"");
    for (const char *c = message; *c; c++)
        if (*c == '"' || *c == '\\')
            buf_addf(&text, "\\%c", *c);
        else
            buf_addc(&text, (unsigned char)*c < ' ' ? ' ' : *c);
    buf_adds(&text, "\"}\n");
    httpd_reply(request, status, "application/json", buf_text(&text), text.size);
}

// libmicrohttpd closes the descriptor once the answer is sent.
static struct MHD_Response *make_response(struct httpd_request *request)
{
    if (request->reply_fd < 0)
        return MHD_create_response_from_buffer(request->reply_size, request->reply_data, MHD_RESPMEM_MUST_COPY);
    struct MHD_Response *response = MHD_create_response_from_fd_at_offset64((uint64_t)request->reply_file_size,
                                                                            request->reply_fd, (uint64_t)request->reply_start);
    if (response)
        request->reply_fd = -1;
    return response;
}

enum MHD_Result answer_queue(struct httpd_request *request)
{
    struct MHD_Response *response = make_response(request);
    if (!response)
        return MHD_NO;
    if (request->content_type)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, request->content_type);
    for (size_t i = 0; i < request->answer_headers.len; i++)
        MHD_add_response_header(response, request->answer_headers.items[i].key, request->answer_headers.items[i].value);
    if (request->last)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    enum MHD_Result queued = MHD_queue_response(request->mhd, (unsigned)request->status, response);
    MHD_destroy_response(response);
    return queued;
}

static void drain(const struct httpd_request *request)
{
    enum { DRAIN_MS = 2000, DRAIN_BYTES = 64 << 20 };
    _cleanup_free_ char *dropped = mem_alloc(64 << 10);
    int64_t end_ns = clock_mono_ns() + DRAIN_MS * NS_PER_MS;
    for (size_t total = 0; total < DRAIN_BYTES;) {
        struct pollfd fds[] = { { request->fd, POLLIN, 0 }, { request->cancel.event_fd, POLLIN, 0 } };
        int64_t left_ms = (end_ns - clock_mono_ns()) / NS_PER_MS;
        if (left_ms <= 0 || poll(fds, ARRAY_LEN(fds), (int)left_ms) <= 0 || fds[1].revents)
            return;
        ssize_t n = recv(request->fd, dropped, 64 << 10, MSG_DONTWAIT);
        if (n <= 0)
            return;
        total += (size_t)n;
    }
}

void answer_raw(struct httpd_request *request)
{
    char status[128], last[96];
    snprintf(status, sizeof(status), "%d %s", request->status, reason(request->status));
    snprintf(last, sizeof(last), "Content-Length: %zu\r\nConnection: close\r\n", request->reply_size);
    request->answer = ANSWER_RAW;
    if (write_head(request, status, request->content_type, last) < 0 ||
        (!str_eq(request->method, "HEAD") && write_all(request, request->reply_data, request->reply_size) < 0))
        return;
    shutdown(request->fd, SHUT_WR);
    drain(request);
}

// ---- streams --------------------------------------------------------------------------------------------------------

static bool is_chunked(const struct httpd_request *request)
{
    return !request->http_10 && !request->sized;
}

static int begin_stream(struct httpd_request *request, int status, const char *content_type, const char *last)
{
    char line[128];
    if (request->answer != ANSWER_NONE)
        return -1;
    request->answer = ANSWER_STREAM;
    snprintf(line, sizeof(line), "%d %s", status, reason(status));
    return write_head(request, line, content_type, last);
}

int httpd_stream_begin(struct httpd_request *request, int status, const char *content_type)
{
    return begin_stream(request, status, content_type, request->http_10 ? "Connection: close\r\n"
                                                                        : "Connection: close\r\nTransfer-Encoding: chunked\r\n");
}

int httpd_stream_begin_sized(struct httpd_request *request, int status, const char *content_type, int64_t size)
{
    char last[96];
    snprintf(last, sizeof(last), "Connection: close\r\nContent-Length: %lld\r\n", (long long)size);
    request->sized = true;
    return begin_stream(request, status, content_type, last);
}

#define CHUNK_HEAD_SIZE 24

// What goes before `size` bytes and behind them: nothing where there are no chunks. Their size.
static size_t chunk_ends(const struct httpd_request *request, size_t size, char head[CHUNK_HEAD_SIZE], size_t *tail_size)
{
    *tail_size = is_chunked(request) ? 2 : 0;
    return !is_chunked(request) ? 0 : (size_t)snprintf(head, CHUNK_HEAD_SIZE, "%zx\r\n", size);
}

int httpd_stream_write(struct httpd_request *request, const void *data, size_t size)
{
    char head[CHUNK_HEAD_SIZE];
    size_t tail_size;
    if (request->answer != ANSWER_STREAM)
        return -1;
    if (size == 0)
        return 0; // an empty chunk would end the stream
    size_t head_size = chunk_ends(request, size, head, &tail_size);
    struct iovec iov[] = { { head, head_size }, { (void *)data, size }, { (char *)"\r\n", tail_size } };
    return write_vector(request, iov, ARRAY_LEN(iov));
}

static int splice_all(const struct httpd_request *request, int pipe_fd, size_t size)
{
    while (size > 0) {
        ssize_t n = splice(pipe_fd, NULL, request->fd, NULL, size, SPLICE_F_MORE | SPLICE_F_NONBLOCK);
        if (n == 0 || (n < 0 && errno != EINTR && (errno != EAGAIN || wait_writable(request) < 0)))
            return -1;
        size -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int httpd_stream_splice(struct httpd_request *request, int pipe_fd, size_t size)
{
    char head[CHUNK_HEAD_SIZE];
    size_t tail_size;
    if (request->answer != ANSWER_STREAM)
        return -1;
    if (size == 0)
        return 0;
    size_t head_size = chunk_ends(request, size, head, &tail_size);
    if (write_all(request, head, head_size) < 0 || splice_all(request, pipe_fd, size) < 0)
        return -1;
    return write_all(request, "\r\n", tail_size);
}

void httpd_stream_end(struct httpd_request *request)
{
    if (request->answer != ANSWER_STREAM)
        return;
    request->answer = ANSWER_STREAM_ENDED;
    if (is_chunked(request))
        write_all(request, "0\r\n\r\n", 5);
}

void httpd_stream_abort(struct httpd_request *request)
{
    if (request->answer == ANSWER_STREAM)
        request->answer = ANSWER_STREAM_ENDED;
}

bool httpd_answered(const struct httpd_request *request)
{
    return request->answer != ANSWER_NONE;
}

// ---- hijack ---------------------------------------------------------------------------------------------------------

// Puts a socket that is connected to nobody under libmicrohttpd's number, so that its shutdown() and close() end that one
// and not the client's connection: shutdown() acts on the socket itself, whichever copy of the descriptor it is called on.
static int leave_dummy(int fd, struct err *err)
{
    int pair[2];
    if (fd_socketpair(SOCK_STREAM, pair, err) < 0)
        return -1;
    int placed = dup3(pair[0], fd, O_CLOEXEC);
    int failed = errno;
    close(pair[0]);
    close(pair[1]);
    return placed < 0 ? err_errno(err, failed, "replace a descriptor") : 0;
}

static int hijack(struct httpd_request *request, const char *status, const char *content_type, const char *headers, struct err *err)
{
    if (request->answer != ANSWER_NONE || request->body_mode == HTTPD_BODY_STREAM)
        return err_set(err, ERR_INTERNAL, "this request cannot be hijacked");
    _cleanup_close_ int fd = fd_dup(request->fd, err);
    if (fd < 0)
        return -1;
    request->answer = ANSWER_HIJACKED;
    if (write_head(request, status, content_type, headers) < 0)
        return err_set(err, ERR_CANCELLED, "the client hung up");
    if (leave_dummy(request->fd, err) < 0)
        return -1;
    return take_fd(&fd);
}

int httpd_hijack(struct httpd_request *request, const char *content_type, struct err *err)
{
    return httpd_upgrade(request) ? hijack(request, "101 UPGRADED", content_type, "Connection: Upgrade\r\nUpgrade: tcp\r\n", err)
                                  : hijack(request, "200 OK", content_type, "", err);
}

int httpd_hijack_http2(struct httpd_request *request, struct err *err)
{
    const char *asked = httpd_header(request, "Upgrade");
    if (!asked || strcasecmp(asked, "h2c") != 0)
        return err_set(err, ERR_INVALID_ARGUMENT, asked ? "protocol %s not supported" : "no upgrade proto in request", asked);
    return hijack(request, "101 Switching Protocols", NULL, "Connection: Upgrade\r\nUpgrade: h2c\r\n", err);
}

int httpd_hijack_websocket(struct httpd_request *request, const char *accept, struct err *err)
{
    _cleanup_free_ char *headers = mem_printf("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n", accept);
    return hijack(request, "101 Switching Protocols", NULL, headers, err);
}
