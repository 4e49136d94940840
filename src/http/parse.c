// Lines end in CR LF; a bare LF is no line end, and no byte below a blank may stand in a head (RFC 9112, 2.2 and 11.2): what two
// parsers could read differently is refused.
#include "http/http_private.h"
#include "base/num.h"

static int malformed(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "HTTP: %s", what);
}

// Bytes of the head with its empty line, 0 when that hasn't come.
static size_t head_size(struct slice bytes)
{
    const char *end = bytes.size ? memmem(bytes.data, MIN_OF(bytes.size, (size_t)HTTP_HEAD_MAX), "\r\n\r\n", 4) : NULL;
    return end ? (size_t)(end - bytes.data) + 4 : 0;
}

bool http_cut_line(struct slice *rest, struct slice *line)
{
    const char *end = rest->size ? memmem(rest->data, rest->size, "\r\n", 2) : NULL;
    if (!end)
        return false;
    *line = (struct slice){ rest->data, (size_t)(end - rest->data) };
    rest->size -= line->size + 2;
    rest->data = end + 2;
    return true;
}

static bool printable(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.data[i] < ' ' && text.data[i] != '\t')
            return false;
    return true;
}

bool http_same_word(struct slice a, const char *b)
{
    return a.size == strlen(b) && strncasecmp(a.data, b, a.size) == 0;
}

static bool is_token(struct slice word)
{
    for (size_t i = 0; i < word.size; i++) {
        char c = word.data[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!letter && !(c && strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return word.size > 0;
}

static int parse_request_line(struct slice line, struct http_head *out, struct err *err)
{
    struct slice target = { 0 };
    if (!slice_cut(&line, ' ', &out->method) || !is_token(out->method) || !slice_cut(&line, ' ', &target) ||
        !slice_starts(target, "/"))
        return malformed(err, "the request line is none");
    if (!slice_eq(line, "HTTP/1.1") && !slice_eq(line, "HTTP/1.0"))
        return malformed(err, "version 1.1 is spoken here");
    out->close = slice_eq(line, "HTTP/1.0");
    out->query = target;
    slice_cut(&out->query, '?', &out->path);
    if (!out->query.data)
        out->query = (struct slice){ "", 0 };
    return 0;
}

static int parse_status_line(struct slice line, struct http_head *out, struct err *err)
{
    struct slice version, status;
    uint64_t number;
    if (!slice_cut(&line, ' ', &version) || !slice_eq(version, "HTTP/1.1") || !slice_cut(&line, ' ', &status) ||
        status.size != 3 || !num_parse_u64(status, 599, &number) || number < 200)
        return malformed(err, "the status line is none");
    out->status = (int)number;
    return 0;
}

struct seen {
    bool size, coding;
};

static int parse_header(enum http_kind kind, struct slice line, struct seen *seen, struct http_head *out, struct err *err)
{
    struct slice name, value = line;
    if (!slice_cut(&value, ':', &name) || !value.data || !is_token(name))
        return malformed(err, "a header is none");
    value = slice_trim(value);
    if (http_same_word(name, "Content-Length")) {
        if (seen->size || !num_parse_u64(value, HTTP_BODY_MAX, &out->body_size))
            return malformed(err, "Content-Length is wrong, double, or more than is taken");
        seen->size = true;
    } else if (http_same_word(name, "Transfer-Encoding")) {
        if (seen->coding || kind == HTTP_REQUEST || !http_same_word(value, "chunked"))
            return malformed(err, "this Transfer-Encoding is not spoken here");
        seen->coding = out->chunked = true;
    } else if (http_same_word(name, "Connection") && http_same_word(value, "close")) {
        out->close = true;
    }
    return 0;
}

static int parse_headers(enum http_kind kind, struct slice rest, struct http_head *out, struct err *err)
{
    struct seen seen = { false, false };
    struct slice line;
    for (int i = 0; http_cut_line(&rest, &line) && line.size; i++)
        if (i == HTTP_HEADERS_MAX)
            return malformed(err, "too many headers");
        else if (!printable(line))
            return malformed(err, "a header with control characters");
        else if (parse_header(kind, line, &seen, out, err) < 0)
            return -1;
    return seen.size && seen.coding ? malformed(err, "two ways to tell the body's size") : 0;
}

int http_parse_head(enum http_kind kind, struct slice bytes, struct http_head *out, struct err *err)
{
    struct slice line, rest = { bytes.data, head_size(bytes) };
    *out = (struct http_head){ .size = rest.size };
    if (!rest.size)
        return bytes.size < HTTP_HEAD_MAX ? 0 : malformed(err, "the head is too long");
    if (!http_cut_line(&rest, &line) || !printable(line))
        return malformed(err, "the first line is none");
    if ((kind == HTTP_REQUEST ? parse_request_line : parse_status_line)(line, out, err) < 0)
        return -1;
    return parse_headers(kind, rest, out, err) < 0 ? -1 : 1;
}

int http_parse_chunk(struct slice bytes, struct slice *data, size_t *size, struct err *err)
{
    struct slice line, rest = bytes;
    uint64_t length;
    if (!http_cut_line(&rest, &line))
        return bytes.size < 16 ? 0 : malformed(err, "a chunk without its size");
    if (line.size > 8 || !num_parse_hex(line, &length) || length > HTTP_BODY_MAX)
        return malformed(err, "the size of a chunk is none, or too much");
    if (rest.size < length + 2)
        return 0;
    if (memcmp(rest.data + length, "\r\n", 2) != 0)
        return malformed(err, "a chunk that doesn't end");
    *data = (struct slice){ rest.data, (size_t)length };
    *size = (size_t)(rest.data - bytes.data) + (size_t)length + 2;
    return 1;
}

void http_put_text(struct buf *out, const char *text)
{
    buf_addc(out, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buf_addf(out, "\\%c", *text);
        else if ((unsigned char)*text < ' ')
            buf_addf(out, "\\u%04x", (unsigned)*text);
        else
            buf_addc(out, *text);
    }
    buf_addc(out, '"');
}
