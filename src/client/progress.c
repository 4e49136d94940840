// The daemon's stream of progress. On a terminal every layer has a line of its own that is drawn again in place; elsewhere each message is
// a line, and what only moves a bar is left out.
#include <time.h>

#include "client/client_private.h"
#include "client/text.h"
#include "base/clock.h"

#define LINES_MAX 512

struct screen {
    FILE *out;
    bool terminal;
    unsigned columns;
    struct strv ids;
};

static void put_bar(const json_t *detail, unsigned columns, int64_t current, int64_t total, struct buf *out)
{
    char now[TEXT_SIZE], all[TEXT_SIZE];
    text_size((double)current, 4, now);
    if (total <= 0) {
        buf_addf(out, "%8s", now);
        return;
    }
    int percent = (int)(50.0 * (double)MAX_OF(MIN_OF(current, total), INT64_C(0)) / (double)total);
    if (columns > 110) {
        buf_addc(out, '[');
        for (int i = 0; i < percent; i++)
            buf_addc(out, '=');
        buf_addf(out, ">%*s] ", 50 - percent, "");
    }
    const char *units = json_get_text(detail, "units", "");
    if (*units)
        buf_addf(out, "%lld/%lld %s", (long long)current, (long long)total, units);
    else
        buf_addf(out, "%8s/%s", now, text_size((double)total, 4, all));
}

static void put_progress(const struct screen *screen, const json_t *message, struct buf *out)
{
    const json_t *detail = json_object_get(message, "progressDetail");
    int64_t current = json_get_int(detail, "current", 0), total = json_get_int(detail, "total", 0);
    if (current <= 0 && total <= 0)
        return;
    buf_addc(out, ' ');
    put_bar(detail, screen->columns, current, total, out);
}

// The line of an id: how far above the cursor it stands; 0 for a new one.
static size_t lines_up(struct screen *screen, const char *id)
{
    for (size_t i = 0; i < screen->ids.len; i++)
        if (str_eq(screen->ids.items[i], id))
            return screen->ids.len - i;
    if (screen->ids.len < LINES_MAX) {
        strv_add(&screen->ids, id);
        fputc('\n', screen->out);
        return 1;
    }
    return 0;
}

static void show(struct screen *screen, const json_t *message)
{
    const char *id = json_get_text(message, "id", ""), *status = json_get_text(message, "status", ""), *plain = json_get_text(message, "stream", NULL);
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 16);
    const json_t *detail = json_object_get(message, "progressDetail");
    bool moving = json_object_size(detail) > 0;
    if (plain) {
        fputs(plain, screen->out);
        return;
    }
    if (!screen->terminal && moving)
        return;
    buf_addf(&text, "%s%s%s", id, *id ? ": " : "", status);
    if (!screen->terminal || !*id || !detail) {
        if (screen->terminal && *id && !detail)
            screen->ids.len ? strv_done(&screen->ids) : (void)0;
        fprintf(screen->out, "%s\n", buf_text(&text));
        return;
    }
    put_progress(screen, message, &text);
    size_t up = lines_up(screen, id);
    if (up)
        fprintf(screen->out, "\033[%zuA\033[2K\r%s\r\033[%zuB", up, buf_text(&text), up);
    fflush(screen->out);
}

// A command that failed in a build tells its exit code, which becomes ours.
int progress_error(const json_t *message, struct err *err)
{
    const json_t *detail = json_object_get(message, "errorDetail");
    const char *text = json_get_text(detail, "message", json_get_text(message, "error", NULL));
    int64_t code = json_get_int(detail, "code", 1);
    if (!text)
        return 0;
    err_set(err, ERR_INTERNAL, "%s", text);
    return code > 0 && code < 256 ? (int)-code : -1;
}

int progress_show(struct api_stream *stream, FILE *out, bool quiet, json_t **aux, struct err *err)
{
    unsigned rows;
    struct screen screen = { .out = out, .terminal = on_terminal(fileno(out)) };
    int more;
    terminal_size(fileno(out), &rows, &screen.columns);
    for (;;) {
        json_t *message _cleanup_json_ = NULL;
        more = api_stream_next(stream, &message, err);
        if (more > 0) {
            int failed = progress_error(message, err);
            more = failed < 0 ? failed : more;
        }
        if (more <= 0)
            break;
        json_t *value = json_object_get(message, "aux");
        if (value && aux) {
            json_decref(*aux);
            *aux = json_incref(value);
        }
        if (!quiet && !value)
            show(&screen, message);
        if (out == stdout && flush_output(err) < 0) {
            more = -1;
            break;
        }
    }
    strv_done(&screen.ids);
    fflush(out);
    return more;
}
