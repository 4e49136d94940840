// Docker's json-file log. Entries are gathered and written together; a file that has reached its size is rotated before the next
// entry, as Docker does it.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "shim/log.h"

#define FLUSH_AT (256u << 10)
#define LINE_EXTRA 128 // what surrounds the text, and then some
#define ATTRS_MAX (1u << 20)

struct log_file {
    int fd;
    bool torn; // the last write stopped inside a line
    int64_t size, max_size; // of the file as far as it is written; 0: no bound
    struct log_rotation *rotation; // NULL: it only grows
    char *attrs; // a JSON object, or ""
    struct buf out;
};

int log_file_open(const struct task_log *wish, struct loop *loop, struct log_file **out, struct err *err)
{
    struct stat st;
    const char *attrs = wish->attrs ? wish->attrs : "";
    if (strlen(attrs) > ATTRS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "log: more than 1 MiB of attributes");
    int fd = open(wish->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return err_errno(err, errno, "open log %s", wish->path);
    struct log_file *file = mem_new(struct log_file);
    *file = (struct log_file){ .fd = fd, .size = fstat(fd, &st) < 0 ? 0 : st.st_size, .max_size = wish->max_size, .attrs = mem_strdup(attrs),
                               .out = BUF_INIT(FLUSH_AT + 2 * (LOG_PART_MAX * LOG_ESCAPE_MAX + LINE_EXTRA + ATTRS_MAX)) };
    if (wish->max_size > 0)
        file->rotation = log_rotation_new(wish->path, wish->max_files, wish->compress, loop);
    *out = file;
    return 0;
}

void log_file_free(struct log_file *file)
{
    if (!file)
        return;
    log_file_flush(file);
    log_rotation_free(file->rotation);
    fd_close(file->fd);
    free(file->attrs);
    buf_done(&file->out);
    free(file);
}

// A full disk loses lines, never the container: as Docker does.
void log_file_flush(struct log_file *file)
{
    size_t done = 0;
    if (file->torn && write(file->fd, "\n", 1) == 1)
        file->torn = false;
    while (done < file->out.size && !file->torn) {
        ssize_t wrote = write(file->fd, file->out.data + done, file->out.size - done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            file->torn = done && file->out.data[done - 1] != '\n';
            break;
        }
        done += (size_t)wrote;
    }
    file->size += (int64_t)done;
    buf_clear(&file->out);
}

static void rotate_when_due(struct log_file *file)
{
    if (!file->rotation || file->size + (int64_t)file->out.size < file->max_size)
        return;
    log_file_flush(file);
    int fd = log_rotate(file->rotation, file->fd);
    if (fd != file->fd)
        file->torn = false;
    file->fd = fd;
    file->size = 0; // also where it could not be done: the next try comes with as much again
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

char *log_escape(char *to, struct slice from)
{
    const uint8_t *text = (const uint8_t *)from.data;
    size_t size = from.size, i = 0;
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

static char *put_slice(char *to, const char *text, size_t size)
{
    memcpy(to, text, size);
    return to + size;
}

void log_file_put(struct log_file *file, const struct log_entry *entry)
{
    size_t attrs_size = strlen(file->attrs);
    rotate_when_due(file);
    char *start = buf_reserve(&file->out, entry->text.size * LOG_ESCAPE_MAX + attrs_size + LINE_EXTRA);
    if (!start)
        return; // cannot be: it is flushed at FLUSH_AT
    char *to = put_text(start, "{\"log\":\"");
    to = log_escape(to, entry->text);
    to = put_text(to, entry->newline ? "\\n\",\"stream\":\"" : "\",\"stream\":\"");
    to = put_text(to, entry->stream == LOG_STDERR ? "stderr" : "stdout");
    if (attrs_size) {
        to = put_text(to, "\",\"attrs\":");
        to = put_slice(to, file->attrs, attrs_size);
        to = put_text(to, ",\"time\":\"");
    } else {
        to = put_text(to, "\",\"time\":\"");
    }
    to = put_text(to, entry->time);
    to = put_text(to, "\"}\n");
    buf_commit(&file->out, (size_t)(to - start));
    if (file->out.size >= FLUSH_AT)
        log_file_flush(file);
}
