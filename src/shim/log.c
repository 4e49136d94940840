// From bytes to lines, and from lines to the sinks. A line that outgrows 16 KiB goes in parts, all with the time of the first.
#include "shim/log.h"

struct line {
    char *held; // LOG_PART_MAX bytes, made when first needed: the start of a line
    size_t held_size;
    char part_time[CLOCK_TEXT_SIZE]; // of the first part of a split line; "" when the line is not split
};

struct log {
    struct line lines[LOG_STREAM_LEN];
    struct log_file *file; // NULL: not kept
    struct log_remote *remote; // NULL: not sent
};

static bool is_remote(const struct task_log *wish)
{
    static const char *const drivers[] = { "syslog", "journald", "gelf", "fluentd" };
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++)
        if (str_eq(wish->driver, drivers[i]))
            return true;
    return false;
}

static int check(const struct task_log *wish, struct err *err)
{
    bool file = str_eq(wish->driver, "json-file") || str_eq(wish->driver, "local");
    if (!file && !is_remote(wish))
        return err_set(err, ERR_NOT_IMPLEMENTED, "log driver %.64s", wish->driver);
    if ((file || !str_empty(wish->path)) && (str_empty(wish->path) || wish->path[0] != '/'))
        return err_set(err, ERR_INVALID_ARGUMENT, "log: no absolute path");
    return 0;
}

int log_new(const struct task_log *wish, struct loop *loop, log_room_fn *on_room, void *context, struct log **out, struct err *err)
{
    if (check(wish, err) < 0)
        return -1;
    struct log *log = mem_new(struct log);
    if ((is_remote(wish) && log_remote_open(wish, loop, on_room, context, &log->remote, err) < 0) ||
        (!str_empty(wish->path) && log_file_open(wish, loop, &log->file, err) < 0)) {
        log_free(log);
        return -1;
    }
    *out = log;
    return 0;
}

void log_free(struct log *log)
{
    if (!log)
        return;
    log_file_free(log->file);
    log_remote_free(log->remote);
    for (size_t i = 0; i < ARRAY_LEN(log->lines); i++)
        free(log->lines[i].held);
    free(log);
}

bool log_is_full(const struct log *log)
{
    return log->remote && log_remote_is_full(log->remote);
}

static void put(struct log *log, const struct log_entry *entry)
{
    if (log->file)
        log_file_put(log->file, entry);
    if (log->remote)
        log_remote_put(log->remote, entry);
}

static void hold(struct line *line, struct slice text)
{
    if (!line->held)
        line->held = mem_alloc(LOG_PART_MAX);
    memcpy(line->held + line->held_size, text.data, text.size);
    line->held_size += text.size;
}

// The whole text at hand, in one piece: a character may have been cut by the reads.
static struct slice with_held(struct line *line, struct slice text)
{
    if (!line->held_size)
        return text;
    if (text.size)
        hold(line, text);
    struct slice whole = { line->held, line->held_size };
    line->held_size = 0;
    return whole;
}

struct moment {
    char text[CLOCK_TEXT_SIZE];
    int64_t ns;
};

static void end_part(struct log *log, enum log_stream_kind stream, struct slice text, bool newline, const struct moment *now)
{
    struct line *line = &log->lines[stream];
    if (!newline && !*line->part_time)
        memcpy(line->part_time, now->text, CLOCK_TEXT_SIZE);
    const struct log_entry entry = { stream, with_held(line, text), newline, *line->part_time ? line->part_time : now->text, now->ns };
    put(log, &entry);
    if (newline)
        line->part_time[0] = 0;
}

static void flush(struct log *log)
{
    if (log->file)
        log_file_flush(log->file);
}

void log_write(struct log *log, enum log_stream_kind stream, const void *data, size_t size, int64_t now_ns)
{
    struct line *line = &log->lines[stream];
    struct moment now = { .ns = now_ns };
    clock_format(now_ns, now.text);
    struct slice rest = { data, size };
    while (rest.size) {
        size_t room = LOG_PART_MAX - line->held_size, look = MIN_OF(rest.size, room);
        const char *newline = memchr(rest.data, '\n', look);
        struct slice text = { rest.data, newline ? (size_t)(newline - rest.data) : look };
        if (newline || look == room)
            end_part(log, stream, text, newline, &now);
        else
            hold(line, text);
        size_t used = text.size + (newline ? 1 : 0);
        rest = (struct slice){ rest.data + used, rest.size - used };
    }
    flush(log);
}

void log_end(struct log *log, int64_t now_ns)
{
    struct moment now = { .ns = now_ns };
    clock_format(now_ns, now.text);
    for (int i = 0; i < LOG_STREAM_LEN; i++)
        if (log->lines[i].held_size)
            end_part(log, (enum log_stream_kind)i, (struct slice){ NULL, 0 }, false, &now);
    flush(log);
}
