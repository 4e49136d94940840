// A build on a terminal: a line for each step with its time, below the one that runs the last that it said. Made of the classic stream,
// whose own lines ("Step 2/5 : RUN make", " ---> Using cache") tell where a step begins and where it comes from.
//
//      => CACHED [1/3] FROM debian                                                   0.0s
//      => [2/3] RUN make                                                             4.2s
//      => [3/3] RUN make check
//      => => tests/one: ok
#include "base/slice.h"
#include "base/clock.h"
#include "client/build_context.h"
#include "client/text.h"

#define SHOWN 5 // lines below the step that runs
#define KEPT 20 // lines that are shown when it fails

struct view {
    FILE *out;
    unsigned columns;
    struct buf line; // the one that is not whole yet
    struct buf step; // "[2/5] RUN make"; empty: none runs
    struct buf end; // what is said behind the last step
    int64_t start_ns;
    bool cached;
    struct strv kept;
    unsigned drawn; // lines on the screen that are drawn again
};

static void erase(struct view *view)
{
    for (; view->drawn; view->drawn--)
        fputs("\033[1A\033[2K\r", view->out);
}

// A line of the width of the terminal at most; `time_ns` below 0: without.
static void put_line(struct view *view, const char *head, const char *text, int64_t time_ns)
{
    _cleanup_buf_ struct buf line = BUF_INIT(65536), cut = BUF_INIT(65536);
    buf_addf(&line, "%s%s", head, text);
    text_ellipsis(buf_text(&line), MAX_OF(view->columns, 40u) - 12, &cut);
    if (time_ns >= 0)
        fprintf(view->out, "%s%*s%6.1fs\n", buf_text(&cut), (int)(MAX_OF(view->columns, 40u) - 10 - text_columns((struct slice){ buf_text(&cut), cut.size })), "",
                (double)time_ns / 1e9);
    else
        fprintf(view->out, "%s\n", buf_text(&cut));
}

static void draw(struct view *view)
{
    size_t first = view->kept.len > SHOWN ? view->kept.len - SHOWN : 0;
    erase(view);
    if (!view->step.size)
        return;
    put_line(view, " => ", buf_text(&view->step), -1);
    for (size_t i = first; i < view->kept.len; i++)
        put_line(view, " => => ", view->kept.items[i], -1);
    view->drawn = (unsigned)(1 + view->kept.len - first);
    fflush(view->out);
}

static void step_end(struct view *view, bool failed)
{
    erase(view);
    if (view->step.size)
        put_line(view, failed ? " => ERROR " : view->cached ? " => CACHED " : " => ", buf_text(&view->step), clock_mono_ns() - view->start_ns);
    if (failed && view->kept.len) {
        fputs("------\n", view->out);
        for (size_t i = 0; i < view->kept.len; i++)
            fprintf(view->out, "%s\n", view->kept.items[i]);
        fputs("------\n", view->out);
    }
    buf_clear(&view->step);
    strv_done(&view->kept);
    view->cached = false;
}

// What a step says is not to move the cursor.
static void keep(struct view *view, const char *text)
{
    _cleanup_free_ char *plain = mem_strdup(text);
    char *to = plain;
    for (const char *from = plain; *from; from++) {
        if (*from == '\033' && from[1] == '[') {
            from += 2 + strspn(from + 2, "0123456789;?");
            if (!*from)
                break;
        } else if ((unsigned char)*from >= ' ' && *from != 127) {
            *to++ = *from;
        }
    }
    *to = 0;
    if (view->kept.len == KEPT) {
        free(view->kept.items[0]);
        memmove(view->kept.items, view->kept.items + 1, view->kept.len-- * sizeof(char *));
    }
    strv_add(&view->kept, plain);
}

// "Step 2/5 : RUN make" as "[2/5] RUN make".
static bool is_step(const char *line, struct buf *out)
{
    struct slice rest = slice_of(line), word, numbers, colon;
    if (!slice_cut(&rest, ' ', &word) || !slice_eq(word, "Step") || !slice_cut(&rest, ' ', &numbers) || !slice_cut(&rest, ' ', &colon) ||
        !slice_eq(colon, ":") || !rest.data)
        return false;
    for (size_t i = 0; i < numbers.size; i++)
        if (!strchr("0123456789/", numbers.data[i]))
            return false;
    buf_clear(out);
    buf_addf(out, "[%.*s] %.*s", (int)numbers.size, numbers.data, (int)rest.size, rest.data);
    return true;
}

static void line_show(struct view *view, const char *line)
{
    static const char *const ends[] = { "Successfully built", "Successfully tagged", "[Warning]" };
    _cleanup_buf_ struct buf step = BUF_INIT(65536);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        if (str_starts(line, ends[i])) {
            buf_addf(&view->end, "%s\n", line);
            return;
        }
    if (is_step(line, &step)) {
        step_end(view, false);
        buf_adds(&view->step, buf_text(&step));
        view->start_ns = clock_mono_ns();
    } else if (str_eq(line, " ---> Using cache")) {
        view->cached = true;
    } else if (*line && !str_starts(line, " ---> ") && !str_starts(line, "Removing intermediate container ")) {
        keep(view, line);
    }
}

static void stream_show(struct view *view, const char *text)
{
    for (; *text; text++) {
        if (*text != '\n' && *text != '\r') {
            buf_addc(&view->line, *text);
            continue;
        }
        line_show(view, buf_text(&view->line));
        buf_clear(&view->line);
    }
    draw(view);
}

static void message_show(struct view *view, const json_t *message)
{
    const char *id = json_get_text(message, "id", ""), *status = json_get_text(message, "status", NULL);
    const char *stream = json_get_text(message, "stream", NULL);
    if (stream)
        stream_show(view, stream);
    else if (status && json_object_size(json_object_get(message, "progressDetail")) == 0) {
        _cleanup_free_ char *line = mem_printf("%s%s%s", id, *id ? ": " : "", status);
        keep(view, line);
        draw(view);
    }
}

int build_view(struct api_stream *stream, json_t **aux, struct err *err)
{
    struct view view = { .out = stdout, .line = BUF_INIT(65536), .step = BUF_INIT(65536), .end = BUF_INIT(65536) };
    unsigned rows;
    int more;
    terminal_size(STDOUT_FILENO, &rows, &view.columns);
    do {
        json_t *message _cleanup_json_ = NULL;
        more = api_stream_next(stream, &message, err);
        int failed = more > 0 ? progress_error(message, err) : 0;
        more = failed < 0 ? failed : more;
        json_t *value = more > 0 ? json_object_get(message, "aux") : NULL;
        if (value) {
            json_decref(*aux);
            *aux = json_incref(value);
        } else if (more > 0) {
            message_show(&view, message);
        }
    } while (more > 0);
    if (view.line.size)
        line_show(&view, buf_text(&view.line));
    step_end(&view, more < 0);
    fputs(buf_text(&view.end), stdout);
    buf_done(&view.line);
    buf_done(&view.step);
    buf_done(&view.end);
    return more < 0 || flush_output(err) == 0 ? more : -1;
}
