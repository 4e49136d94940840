#include <stdarg.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/slice.h"

enum { LINE_MAX_SIZE = 16384 }; // a message where every byte is escaped fits

static const char *const level_names[] = { "debug", "info", "warn", "error", "fatal" };

// Set once in main before any thread, the level also later; the only state of this file.
static struct {
    const char *program;
    _Atomic(enum log_level) level;
    bool json;
} setup = { "berth", LOG_INFO, false };

void log_setup(const char *program, enum log_level level, bool json)
{
    setup.program = program;
    setup.level = level;
    setup.json = json;
}

void log_set_level(enum log_level level)
{
    atomic_store(&setup.level, level);
}

bool log_level_parse(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++)
        if (str_eq(name, level_names[i])) {
            *out = (enum log_level)i;
            return true;
        }
    return false;
}

// Appends one line's worth of `text`: control characters become blanks, so that a line stays a line.
static void add_plain(struct buf *out, const char *text)
{
    for (; *text; text++)
        buf_addc(out, (unsigned char)*text < ' ' || *text == 127 ? ' ' : *text);
}

// The same inside a JSON string. Bytes above 127 that are not UTF-8 become '?'.
static void add_json(struct buf *out, const char *text)
{
    for (size_t len; *text; text += len) {
        len = slice_utf8_len(slice_of(text));
        if (len == 0) {
            buf_addc(out, '?');
            len = 1;
        } else if (*text == '"' || *text == '\\') {
            buf_addf(out, "\\%c", *text);
        } else if ((unsigned char)*text < ' ') {
            buf_addf(out, "\\u%04x", (unsigned)*text);
        } else {
            buf_add(out, text, len);
        }
    }
}

void log_line(enum log_level level, const char *fmt, ...)
{
    char message[2048], stamp[CLOCK_TEXT_SIZE];
    va_list args;
    if (level < setup.level)
        return;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    clock_format_fixed(clock_wall_ns(), stamp);
    _cleanup_buf_ struct buf line = BUF_INIT(LINE_MAX_SIZE);
    if (setup.json) {
        buf_addf(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"program\":\"%s\",\"msg\":\"", stamp, level_names[level],
                 setup.program);
        add_json(&line, message);
        buf_adds(&line, "\"}\n");
    } else {
        buf_addf(&line, "%s %s %s: ", stamp, level_names[level], setup.program);
        add_plain(&line, message);
        buf_addc(&line, '\n');
    }
    // One write, so that lines of several threads and processes do not mix.
    fd_write_full(STDERR_FILENO, line.data, line.size, NULL);
}
