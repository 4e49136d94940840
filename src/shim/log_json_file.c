// Docker's json-file log, byte for byte: {"log":"...\n","stream":"stdout","time":"..."} with Go's escapes. A line that
// outgrows 16 KiB is written in parts; only the last part's text ends with a newline, and all carry the time of the first.
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "shim/shim_private.h"

#define PART_MAX (16u << 10)
#define FLUSH_AT (256u << 10)
#define LINE_EXTRA 128 // what surrounds the text, and then some
#define ESCAPE_MAX 6 // bytes that one input byte may become

struct log_stream {
    const char *name;
    char *held; // PART_MAX bytes, made when first needed: the start of a line
    size_t held_size;
    char part_time[CLOCK_TEXT_SIZE]; // of the first part of a split line; "" when the line is not split
};

struct log_file {
    int fd;
    bool torn; // the last write stopped inside a line
    struct log_stream streams[2];
    struct buf out;
};

int log_file_open(const char *path, struct log_file **out, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return err_errno(err, errno, "open log %s", path);
    struct log_file *log = mem_new(struct log_file);
    *log = (struct log_file){ .fd = fd, .streams = { { .name = "stdout" }, { .name = "stderr" } },
                              .out = BUF_INIT(FLUSH_AT + 2 * (PART_MAX * ESCAPE_MAX + LINE_EXTRA)) };
    *out = log;
    return 0;
}

void log_file_free(struct log_file *log)
{
    if (!log)
        return;
    fd_close(log->fd);
    free(log->streams[0].held);
    free(log->streams[1].held);
    buf_done(&log->out);
    free(log);
}

// A full disk loses lines, never the container: as Docker does.
static void flush(struct log_file *log)
{
    size_t done = 0;
    if (log->torn && write(log->fd, "\n", 1) == 1)
        log->torn = false;
    while (done < log->out.size && !log->torn) {
        ssize_t wrote = write(log->fd, log->out.data + done, log->out.size - done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            log->torn = done && log->out.data[done - 1] != '\n';
            break;
        }
        done += (size_t)wrote;
    }
    buf_clear(&log->out);
}

// The length of the UTF-8 sequence at the start of `text`, 0 when it is none.
static size_t utf8_length(const uint8_t *text, size_t size)
{
    uint8_t c = text[0];
    size_t len = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    if (!len || len > size)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    }
    bool overlong = (c == 0xe0 && text[1] < 0xa0) || (c == 0xf0 && text[1] < 0x90);
    bool surrogate = c == 0xed && text[1] >= 0xa0;
    bool beyond = c == 0xf4 && text[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : len;
}

static bool is_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&';
}

static char *put_text(char *to, const char *text)
{
    size_t size = strlen(text);
    memcpy(to, text, size);
    return to + size;
}

static char *put_ascii(char *to, uint8_t c)
{
    static const char digits[] = "0123456789abcdef";
    if (c == '"' || c == '\\') {
        *to++ = '\\';
        *to++ = (char)c;
    } else if (c == '\n' || c == '\r') {
        *to++ = '\\';
        *to++ = c == '\n' ? 'n' : 'r';
    } else {
        to = put_text(to, "\\u00");
        *to++ = digits[c >> 4];
        *to++ = digits[c & 15];
    }
    return to;
}

// Appends the escaped text; the caller has checked the room (ESCAPE_MAX times the size).
static char *put_escaped(char *to, const uint8_t *text, size_t size)
{
    size_t i = 0;
    while (i < size) {
        size_t run = i;
        while (run < size && is_plain(text[run]))
            run++;
        memcpy(to, text + i, run - i);
        to += run - i;
        i = run;
        if (i == size)
            break;
        size_t len = utf8_length(text + i, size - i);
        bool separator = len == 3 && text[i] == 0xe2 && text[i + 1] == 0x80 && (text[i + 2] & 0xfe) == 0xa8;
        if (len == 1) {
            to = put_ascii(to, text[i]);
        } else if (separator) {
            to = put_text(to, text[i + 2] == 0xa8 ? "\\u2028" : "\\u2029");
        } else if (len) {
            memcpy(to, text + i, len);
            to += len;
        } else {
            to = put_text(to, "\\ufffd");
        }
        i += len ? len : 1;
    }
    return to;
}

static void put_entry(struct log_file *log, const struct log_stream *stream, struct slice text, bool newline,
                      const char *time)
{
    char *start = buf_reserve(&log->out, text.size * ESCAPE_MAX + LINE_EXTRA);
    if (!start)
        return; // cannot be: it is flushed at FLUSH_AT
    char *to = put_text(start, "{\"log\":\"");
    to = put_escaped(to, (const uint8_t *)text.data, text.size);
    to = put_text(to, newline ? "\\n\",\"stream\":\"" : "\",\"stream\":\"");
    to = put_text(to, stream->name);
    to = put_text(to, "\",\"time\":\"");
    to = put_text(to, time);
    to = put_text(to, "\"}\n");
    buf_commit(&log->out, (size_t)(to - start));
    if (log->out.size >= FLUSH_AT)
        flush(log);
}

static void hold(struct log_stream *stream, struct slice text)
{
    if (!stream->held)
        stream->held = mem_alloc(PART_MAX);
    memcpy(stream->held + stream->held_size, text.data, text.size);
    stream->held_size += text.size;
}

// The whole text at hand, in one piece: a character may have been cut by the reads.
static struct slice with_held(struct log_stream *stream, struct slice text)
{
    if (!stream->held_size)
        return text;
    if (text.size)
        hold(stream, text);
    struct slice whole = { stream->held, stream->held_size };
    stream->held_size = 0;
    return whole;
}

static void end_line(struct log_file *log, struct log_stream *stream, struct slice text, const char *now)
{
    const char *time = *stream->part_time ? stream->part_time : now;
    put_entry(log, stream, with_held(stream, text), true, time);
    stream->part_time[0] = '\0';
}

static void end_part(struct log_file *log, struct log_stream *stream, struct slice text, const char *now)
{
    if (!*stream->part_time)
        memcpy(stream->part_time, now, CLOCK_TEXT_SIZE);
    put_entry(log, stream, with_held(stream, text), false, stream->part_time);
}

void log_file_write(struct log_file *log, enum stdio_stream which, const void *data, size_t size, int64_t now_ns)
{
    struct log_stream *stream = &log->streams[which == STDIO_ERROR];
    char now[CLOCK_TEXT_SIZE];
    clock_format(now_ns, now);
    struct slice rest = { data, size };
    while (rest.size) {
        size_t room = PART_MAX - stream->held_size;
        size_t look = MIN_OF(rest.size, room);
        const char *newline = memchr(rest.data, '\n', look);
        struct slice text = { rest.data, newline ? (size_t)(newline - rest.data) : look };
        if (newline)
            end_line(log, stream, text, now);
        else if (look == room)
            end_part(log, stream, text, now);
        else
            hold(stream, text);
        size_t used = text.size + (newline ? 1 : 0);
        rest = (struct slice){ rest.data + used, rest.size - used };
    }
    flush(log);
}

void log_file_end(struct log_file *log, int64_t now_ns)
{
    char now[CLOCK_TEXT_SIZE];
    clock_format(now_ns, now);
    for (size_t i = 0; i < ARRAY_LEN(log->streams); i++) {
        if (log->streams[i].held_size)
            end_part(log, &log->streams[i], (struct slice){ NULL, 0 }, now);
    }
    flush(log);
}
