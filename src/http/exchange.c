// The head is searched in what was read so far; what was read beyond it stays in `in` and is the body's beginning. A body that
// is read with `in` empty goes from the socket into the caller's buffer at once.
#include <errno.h>
#include <limits.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/num.h"
#include "http/exchange.h"
#include "http/http_private.h"

#define READ_AHEAD 16384
#define RESPONSE_HEAD_MAX 65536
#define CHUNK_LINE_MAX 4096 // extensions and trailers are read over

void http_exchange_init(struct http_exchange *x, int fd)
{
    *x = (struct http_exchange){ .fd = fd, .in = BUF_INIT(RESPONSE_HEAD_MAX + READ_AHEAD), .head = BUF_INIT(RESPONSE_HEAD_MAX) };
}

void http_exchange_done(struct http_exchange *x)
{
    fd_close(x->fd);
    x->fd = -1;
    buf_done(&x->in);
    buf_done(&x->head);
}

static bool target_is_clean(const char *target)
{
    for (const char *at = target; *at; at++)
        if ((unsigned char)*at <= ' ' || *at == 127)
            return false;
    return *target == '/';
}

static int send_head(struct http_exchange *x, const char *method, const char *target, const char *headers, const char *framing,
                     struct slice body, struct err *err)
{
    _cleanup_buf_ struct buf out = BUF_INIT(64u << 20);
    if (!target_is_clean(target))
        return err_set(err, ERR_INVALID_ARGUMENT, "no path for a request: %s", target);
    buf_addf(&out, "%s %s HTTP/1.1\r\nHost: berth\r\nUser-Agent: berth/" BERTH_VERSION "\r\n%s%s\r\n", method, target, headers, framing);
    buf_add(&out, body.data, body.size);
    if (buf_check(&out, "the request", err) < 0)
        return -1;
    x->keep = false;
    return fd_write_full(x->fd, out.data, out.size, err);
}

int http_exchange_send(struct http_exchange *x, const char *method, const char *target, const char *headers, struct slice body,
                       struct err *err)
{
    char size[64];
    snprintf(size, sizeof(size), "Content-Length: %zu\r\n", body.size);
    return send_head(x, method, target, headers, body.size || !str_eq(method, "GET") ? size : "", body, err);
}

int http_exchange_open(struct http_exchange *x, const char *method, const char *target, const char *headers, struct err *err)
{
    return send_head(x, method, target, headers, "Transfer-Encoding: chunked\r\n", (struct slice){ 0 }, err);
}

int http_exchange_put(struct http_exchange *x, const void *data, size_t size, struct err *err)
{
    char line[32];
    if (!size)
        return fd_write_full(x->fd, "0\r\n\r\n", 5, err);
    int len = snprintf(line, sizeof(line), "%zx\r\n", size);
    if (fd_write_full(x->fd, line, (size_t)len, err) < 0 || fd_write_full(x->fd, data, size, err) < 0)
        return -1;
    return fd_write_full(x->fd, "\r\n", 2, err);
}

static ssize_t receive(struct http_exchange *x, void *data, size_t size, struct err *err)
{
    ssize_t got;
    do
        got = recv(x->fd, data, size, 0);
    while (got < 0 && errno == EINTR);
    return got < 0 ? err_errno(err, errno, "read from the daemon") : got;
}

// Reads what is there into `in`: -1 also at the end.
static int read_more(struct http_exchange *x, struct err *err)
{
    char *room = buf_reserve(&x->in, READ_AHEAD);
    if (!room)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "the head of the daemon's answer is too long");
    ssize_t got = receive(x, room, READ_AHEAD, err);
    if (got == 0)
        return err_set(err, ERR_UNAVAILABLE, "the daemon has closed the connection");
    if (got < 0)
        return -1;
    buf_commit(&x->in, (size_t)got);
    return 0;
}

static int malformed(struct err *err, const char *what)
{
    return err_set(err, ERR_INTERNAL, "the daemon's answer is no HTTP: %s", what);
}

static int parse_status(struct http_exchange *x, struct err *err)
{
    struct slice line, version, number, rest = { x->head.data, x->head.size };
    uint64_t status;
    if (!http_cut_line(&rest, &line) || !slice_cut(&line, ' ', &version) || !slice_starts(version, "HTTP/1.") ||
        !slice_cut(&line, ' ', &number) || number.size != 3 || !num_parse_u64(number, 599, &status) || status < 100)
        return malformed(err, "the status line is none");
    x->status = (int)status;
    x->keep = slice_eq(version, "HTTP/1.1");
    return 0;
}

bool http_exchange_header(const struct http_exchange *x, const char *name, struct slice *out)
{
    struct slice line, word, rest = { x->head.data, x->head.size };
    for (bool first = true; http_cut_line(&rest, &line) && line.size; first = false)
        if (!first && slice_cut(&line, ':', &word) && http_same_word(word, name)) {
            *out = slice_trim(line.data ? line : (struct slice){ "", 0 });
            return true;
        }
    return false;
}

static int parse_framing(struct http_exchange *x, bool to_head, struct err *err)
{
    struct slice value;
    if (http_exchange_header(x, "Connection", &value) && http_same_word(value, "close"))
        x->keep = false;
    x->left = 0;
    x->last_chunk = false;
    x->framing = HTTP_NO_BODY;
    if (to_head || x->status == 204 || x->status == 304)
        return 0;
    if (x->status == 101) {
        x->framing = HTTP_UNTIL_END;
    } else if (http_exchange_header(x, "Transfer-Encoding", &value)) {
        if (!http_same_word(value, "chunked"))
            return malformed(err, "a Transfer-Encoding that is not spoken here");
        x->framing = HTTP_CHUNKED;
    } else if (http_exchange_header(x, "Content-Length", &value)) {
        if (!num_parse_u64(value, INT64_MAX, &x->left))
            return malformed(err, "Content-Length is no number");
        x->framing = HTTP_SIZED;
    } else {
        x->framing = HTTP_UNTIL_END;
    }
    return 0;
}

static int receive_head(struct http_exchange *x, struct err *err)
{
    const char *end;
    while (!(end = x->in.size ? memmem(x->in.data, x->in.size, "\r\n\r\n", 4) : NULL))
        if (read_more(x, err) < 0)
            return -1;
    size_t size = (size_t)(end - x->in.data) + 4;
    buf_clear(&x->head);
    buf_add(&x->head, x->in.data, size);
    buf_consume(&x->in, size);
    return buf_check(&x->head, "the head of the daemon's answer", err) < 0 ? -1 : parse_status(x, err);
}

int http_exchange_receive(struct http_exchange *x, struct err *err)
{
    do // an interim answer (100) has no body
        if (receive_head(x, err) < 0)
            return -1;
    while (x->status >= 100 && x->status < 200 && x->status != 101);
    return parse_framing(x, false, err);
}

int http_exchange_receive_bare(struct http_exchange *x, struct err *err)
{
    return receive_head(x, err) < 0 ? -1 : parse_framing(x, true, err);
}

// A line of the chunks' framing, without its end.
static int chunk_line(struct http_exchange *x, struct slice *line, struct err *err)
{
    for (;;) {
        struct slice rest = { buf_text(&x->in), x->in.size };
        if (http_cut_line(&rest, line))
            return 0;
        if (x->in.size > CHUNK_LINE_MAX)
            return malformed(err, "a chunk without its size");
        if (read_more(x, err) < 0)
            return -1;
    }
}

// Up to the next chunk's data, or over the trailers behind the last.
static int next_chunk(struct http_exchange *x, struct err *err)
{
    struct slice line, number;
    if (chunk_line(x, &line, err) < 0)
        return -1;
    size_t taken = line.size + 2;
    slice_cut(&line, ';', &number);
    number = slice_trim(number);
    if (number.size > 15 || !num_parse_hex(number, &x->left))
        return malformed(err, "a chunk without its size");
    buf_consume(&x->in, taken);
    if (x->left)
        return 0;
    do {
        if (chunk_line(x, &line, err) < 0)
            return -1;
        taken = line.size;
        buf_consume(&x->in, taken + 2);
    } while (taken);
    x->last_chunk = true;
    return 0;
}

// The CR LF behind a chunk's data.
static int end_of_chunk(struct http_exchange *x, struct err *err)
{
    struct slice line;
    if (chunk_line(x, &line, err) < 0)
        return -1;
    if (line.size)
        return malformed(err, "a chunk that doesn't end");
    buf_consume(&x->in, 2);
    return 0;
}

static ssize_t take(struct http_exchange *x, void *data, size_t size, struct err *err)
{
    if (!x->in.size)
        return receive(x, data, size, err);
    size = MIN_OF(size, x->in.size);
    memcpy(data, x->in.data, size);
    buf_consume(&x->in, size);
    return (ssize_t)size;
}

ssize_t http_exchange_read(struct http_exchange *x, void *data, size_t size, struct err *err)
{
    if (x->framing == HTTP_NO_BODY || !size || x->last_chunk)
        return 0;
    if (x->framing == HTTP_UNTIL_END)
        return take(x, data, size, err);
    if (x->framing == HTTP_CHUNKED && !x->left && next_chunk(x, err) < 0)
        return -1;
    if (!x->left)
        return 0;
    ssize_t got = take(x, data, MIN_OF(size, (size_t)MIN_OF(x->left, (uint64_t)SSIZE_MAX)), err);
    if (got == 0)
        return err_set(err, ERR_UNAVAILABLE, "the daemon's answer ends too early");
    if (got < 0)
        return -1;
    x->left -= (uint64_t)got;
    if (x->framing == HTTP_CHUNKED && !x->left && end_of_chunk(x, err) < 0)
        return -1;
    return got;
}

bool http_exchange_pending(const struct http_exchange *x)
{
    return x->in.size > 0;
}

bool http_exchange_reusable(const struct http_exchange *x)
{
    bool read = x->framing == HTTP_NO_BODY || (x->framing == HTTP_SIZED && !x->left) || (x->framing == HTTP_CHUNKED && x->last_chunk);
    return x->fd >= 0 && x->keep && read && !x->in.size;
}
