// Log lines as logrus writes them, in its text or its JSON form: callers read the last line of the JSON log for the error.
#include <errno.h>
#include <fcntl.h>

#include "base/clock.h"
#include "json/json.h"
#include "oci/oci_private.h"

// One program, one call, one log: the only state that lives outside of struct call.
static struct {
    int fd;
    bool json, debug;
} log_state = { .fd = STDERR_FILENO };

int log_open(const char *path, const char *format, bool debug, struct err *err)
{
    log_state.debug = debug;
    if (!str_empty(format) && !str_eq(format, "text") && !str_eq(format, "json"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid log-format: %.100s", format);
    log_state.json = str_eq(format, "json");
    if (str_empty(path))
        return 0;
    int fd = open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_errno(err, errno, "open %s", path);
    log_state.fd = fd;
    return 0;
}

bool log_is_stderr(void)
{
    return log_state.fd == STDERR_FILENO;
}

static void now(char out[CLOCK_TEXT_SIZE])
{
    int64_t wall = clock_wall_ns();
    clock_format(wall - wall % NS_PER_S, out);
}

static void quote(struct buf *out, const char *text)
{
    json_t *value = json_new_text(text);
    json_write(value, out);
    json_decref(value);
}

static void put(const char *level, const char *message)
{
    struct buf line = BUF_INIT(64 << 10);
    char time_text[CLOCK_TEXT_SIZE];
    now(time_text);
    if (log_state.json) {
        buf_addf(&line, "{\"level\":\"%s\",\"msg\":", level);
        quote(&line, message);
        buf_addf(&line, ",\"time\":\"%s\"}\n", time_text);
    } else {
        buf_addf(&line, "time=\"%s\" level=%s msg=", time_text, level);
        quote(&line, message);
        buf_addc(&line, '\n');
    }
    fd_write_full(log_state.fd, line.data, line.size, NULL);
    buf_done(&line);
}

void log_error_line(const char *message)
{
    put("error", message);
}

void log_warning_line(const char *message)
{
    put("warning", message);
}

void log_debug_line(const char *message)
{
    if (log_state.debug)
        put("debug", message);
}
