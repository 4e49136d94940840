// Reading the json-file log that the shim writes: the last lines, a time window, and following it, over rotations, until the container
// stops. One JSON object a line; each becomes one chunk in Docker's wire form.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include "engine_private.h"
#include "log_files.h"

#define LINE_MAX_BYTES (1u << 20)

struct log_reader {
    const struct engine_logs *wanted;
    bool framed;
    engine_sink_fn *sink;
    void *context;
    int fd;
    struct buf pending; // bytes read that are not yet a whole line
    bool past_until;
};

int engine_logs_check(struct engine *engine, const char *ref, const struct engine_logs *logs, bool *terminal,
                      struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    if (!logs->out && !logs->error)
        return err_set(err, ERR_INVALID_ARGUMENT, "Bad parameters: you must choose at least one stream");
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    if (!log_path(container, &arena))
        return err_set(err, ERR_NOT_IMPLEMENTED, "configured logging driver does not support reading");
    *terminal = container->config.tty;
    return 0;
}

// ---- one line -------------------------------------------------------------------------------------------------------

static void add_frame_head(struct buf *out, bool error, size_t size)
{
    const unsigned char head[8] = { error ? 2 : 1, 0, 0, 0, (unsigned char)(size >> 24), (unsigned char)(size >> 16),
                                    (unsigned char)(size >> 8), (unsigned char)size };
    buf_add(out, head, sizeof(head));
}

// As Go's url.QueryEscape.
static void add_escaped(struct buf *out, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-_.~", c))
            buf_addc(out, (char)c);
        else if (c == ' ')
            buf_addc(out, '+');
        else
            buf_addf(out, "%%%02X", c);
    }
}

// "a=b,c=d ", in the order of the names; a blank alone where there are none.
static void add_details(struct buf *out, const json_t *attrs)
{
    _cleanup_json_ json_t *sorted = NULL;
    const char *key;
    json_t *value;
    size_t len = 0;
    _cleanup_free_ char *text = attrs ? json_dumps(attrs, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    sorted = text ? json_loads(text, 0, NULL) : NULL; // a fresh object keeps the order of its text
    json_object_foreach (sorted, key, value) {
        buf_adds(out, len++ ? "," : "");
        add_escaped(out, key);
        buf_addc(out, '=');
        add_escaped(out, json_is_string(value) ? json_string_value(value) : "");
    }
    buf_addc(out, ' ');
}

static int give_line(struct log_reader *reader, const char *text, struct slice log, const json_t *attrs, bool error)
{
    _cleanup_buf_ struct buf details = BUF_INIT(LINE_MAX_BYTES * 3);
    char stamp[CLOCK_TEXT_SIZE];
    int64_t time_ns = 0;
    _cleanup_buf_ struct buf out = BUF_INIT(4 * LINE_MAX_BYTES + 256);
    bool stamped = reader->wanted->timestamps && clock_parse(slice_of(text), &time_ns);
    if (stamped)
        clock_format_fixed(time_ns, stamp);
    if (reader->wanted->details)
        add_details(&details, attrs);
    size_t size = details.size + log.size + (stamped ? strlen(stamp) + 1 : 0);
    if (reader->framed)
        add_frame_head(&out, error, size);
    if (stamped)
        buf_addf(&out, "%s ", stamp);
    buf_add(&out, details.data, details.size);
    buf_add(&out, log.data, log.size);
    return reader->sink(reader->context, out.data, out.size);
}

static bool in_window(struct log_reader *reader, const char *time_text)
{
    int64_t time_ns;
    if (!reader->wanted->since_ns && !reader->wanted->until_ns)
        return true;
    if (!time_text || !clock_parse(slice_of(time_text), &time_ns))
        return true;
    reader->past_until = reader->wanted->until_ns && time_ns > reader->wanted->until_ns;
    return time_ns >= reader->wanted->since_ns && !reader->past_until;
}

// A line that is not JSON (a torn write after a crash of the machine) is passed over. Programs print NUL bytes as well, and
// these are no errors here.
static int handle_line(struct log_reader *reader, const char *line, size_t size)
{
    _cleanup_json_ json_t *entry = json_loadb(line, size, JSON_ALLOW_NUL, NULL);
    const json_t *text = json_object_get(entry, "log");
    const char *time_text = json_get_text(entry, "time", "");
    const struct slice log = { json_string_value(text), json_string_length(text) };
    bool error = str_eq(json_get_text(entry, "stream", "stdout"), "stderr");
    if (!log.data || !(error ? reader->wanted->error : reader->wanted->out) || !in_window(reader, time_text))
        return 0;
    return give_line(reader, time_text, log, json_object_get(entry, "attrs"), error);
}

// Reads what has been written since the last call. -1 when the sink failed.
static int read_new(struct log_reader *reader)
{
    for (;;) {
        char *room = buf_reserve(&reader->pending, 65536);
        ssize_t n = room ? read(reader->fd, room, 65536) : 0;
        if (n <= 0)
            return 0;
        buf_commit(&reader->pending, (size_t)n);
        char *start = reader->pending.data, *end = start + reader->pending.size, *newline;
        while ((newline = memchr(start, '\n', (size_t)(end - start)))) {
            if (handle_line(reader, start, (size_t)(newline - start)) < 0)
                return -1;
            start = newline + 1;
        }
        buf_consume(&reader->pending, (size_t)(start - reader->pending.data));
        if (reader->pending.size > LINE_MAX_BYTES)
            buf_clear(&reader->pending);
    }
}

// ---- where to begin -------------------------------------------------------------------------------------------------

// Lines in the file, `tail` at most, counted from its end, backwards in blocks; the file then stands at the first of them.
static int64_t seek_tail(int fd, int64_t tail)
{
    enum { BLOCK = 32768 };
    off_t end = lseek(fd, 0, SEEK_END), at = end, first = 0;
    int64_t lines = end > 0; // the last one's newline is no beginning
    _cleanup_free_ char *block = mem_alloc(BLOCK);
    while (at > 0 && !first) {
        size_t size = (size_t)MIN_OF(at, (off_t)BLOCK);
        at -= (off_t)size;
        if (pread(fd, block, size, at) != (ssize_t)size)
            break;
        for (size_t i = size; i-- > 0 && !first;) {
            if (block[i] != '\n' || at + (off_t)i == end - 1)
                continue;
            if (lines == tail)
                first = at + (off_t)i + 1;
            else
                lines++;
        }
    }
    lseek(fd, tail ? first : end, SEEK_SET);
    return tail ? lines : 0;
}

// The oldest part to read, at the right place; those before it stand at their beginning.
static int find_begin(struct log_files *files, const char *path, int64_t tail, size_t *out, struct err *err)
{
    for (size_t i = 0; i < files->len; i++) {
        int fd = log_files_plain(files, i, path, err);
        if (fd < 0)
            return -1;
        *out = i;
        if (tail < 0)
            continue;
        int64_t found = seek_tail(fd, tail);
        if (found >= tail)
            return 0;
        tail -= found;
    }
    return 0;
}

// ---- following ------------------------------------------------------------------------------------------------------

// What is new, in this file and in those that were begun after it. One that is smaller than what was read of it was emptied.
static int read_on(struct log_reader *reader, const char *path)
{
    int next;
    struct stat st;
    if (fstat(reader->fd, &st) == 0 && st.st_size < lseek(reader->fd, 0, SEEK_CUR))
        lseek(reader->fd, 0, SEEK_SET);
    for (;;) {
        if (read_new(reader) < 0)
            return -1;
        if ((next = log_files_next(path, reader->fd)) < 0)
            return 0;
        // The writer has left this one: what it wrote last is there now.
        if (read_new(reader) < 0) {
            fd_close(next);
            return -1;
        }
        buf_clear(&reader->pending);
        fd_close(reader->fd);
        reader->fd = next;
    }
}

// Until the container has stopped and the rest was read, the sink failed, or the client left.
static int follow(struct log_reader *reader, struct container *container, const char *path, const struct cancel *cancel,
                  struct err *err)
{
    _cleanup_watch_ struct watch *watch = NULL;
    _cleanup_free_ char *folder = mem_strndup(path, (size_t)(strrchr(path, '/') - path));
    struct engine_waiter *waiter = NULL;
    int result = 0;
    if (watch_new(container->engine, folder, &watch, err) < 0 || waiter_new(container, ENGINE_NOT_RUNNING, &waiter, err) < 0)
        return -1;
    for (;;) {
        struct pollfd fds[] = { { watch->event_fd, POLLIN, 0 },
                                { waiter->event_fd, POLLIN, 0 },
                                { cancel ? cancel->fd : -1, POLLRDHUP, 0 },
                                { cancel ? cancel->event_fd : -1, POLLIN, 0 } };
        eventfd_t ignored;
        int timeout_ms = -1;
        if (reader->wanted->until_ns)
            timeout_ms = (int)MAX_OF(INT64_C(0), MIN_OF((reader->wanted->until_ns - clock_wall_ns()) / NS_PER_MS, INT64_C(3600000)));
        if (read_on(reader, path) < 0 || reader->past_until)
            break;
        int ready = poll(fds, ARRAY_LEN(fds), timeout_ms);
        if (ready == 0 && reader->wanted->until_ns && clock_wall_ns() >= reader->wanted->until_ns)
            break;
        if (fds[2].revents || fds[3].revents) {
            result = err_set(err, ERR_CANCELLED, "the client left");
            break;
        }
        if (fds[0].revents)
            eventfd_read(watch->event_fd, &ignored);
        if (fds[1].revents) {
            read_on(reader, path);
            break;
        }
    }
    engine_wait_end(container->engine, waiter);
    return result;
}

// Oldest first; the newest is left to follow.
static int read_parts(struct log_reader *reader, struct log_files *files, size_t first, struct err *err)
{
    for (size_t i = first + 1; i-- > 0;) {
        reader->fd = files->items[i].fd;
        buf_clear(&reader->pending);
        if (read_new(reader) < 0)
            return err_set(err, ERR_CANCELLED, "the client left");
    }
    return 0;
}

static int read_log(struct log_reader *reader, const char *path, bool *any, struct err *err)
{
    struct log_files files;
    size_t first = 0;
    if (log_files_open(path, &files, err) < 0)
        return -1;
    *any = files.len > 0;
    int result = !*any ? 0 : find_begin(&files, path, reader->wanted->tail, &first, err);
    if (*any && result == 0)
        result = read_parts(reader, &files, first, err);
    if (*any)
        files.items[0].fd = -1; // the reader's from here on
    log_files_done(&files);
    return result;
}

int engine_logs(struct engine *engine, const char *ref, const struct engine_logs *logs, engine_sink_fn *sink,
                void *context, const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    const char *path = log_path(container, &arena);
    mutex_lock(&container->lock);
    bool live = container_is_live(container), any = false; // between two runs there is nothing to follow
    mutex_unlock(&container->lock);
    struct log_reader reader = { .wanted = logs, .framed = !container->config.tty && !logs->raw, .sink = sink, .context = context,
                                 .fd = -1, .pending = BUF_INIT(2 * LINE_MAX_BYTES) };
    // A container that never ran has no log yet, and as it does not run there is nothing to follow.
    int result = path ? read_log(&reader, path, &any, err) : 0;
    if (result == 0 && any && logs->follow && live)
        result = follow(&reader, container, path, cancel, err);
    buf_done(&reader.pending);
    fd_close(reader.fd);
    return result;
}
