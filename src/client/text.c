#include <time.h>
#include <wchar.h>

#include "client/text.h"
#include "base/clock.h"

static const char *sized(double bytes, double base, const char *const *units, int precision, char out[TEXT_SIZE])
{
    size_t unit = 0;
    while (bytes >= base && unit < 7) {
        bytes /= base;
        unit++;
    }
    snprintf(out, TEXT_SIZE, "%.*g%s", precision, bytes, units[unit]);
    return out;
}

const char *text_size(double bytes, int precision, char out[TEXT_SIZE])
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB" };
    return sized(bytes, 1000, units, precision, out);
}

const char *text_size_1024(double bytes, char out[TEXT_SIZE])
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB" };
    return sized(bytes, 1024, units, 4, out);
}

const char *text_age(int64_t seconds, char out[TEXT_SIZE])
{
    int64_t minutes = seconds / 60, hours = (seconds + 1800) / 3600;
    static const struct {
        int64_t below_hours, divide;
        const char *word;
    } steps[] = { { 48, 1, "hours" }, { 24 * 14, 24, "days" }, { 24 * 60, 24 * 7, "weeks" }, { 24 * 365 * 2, 24 * 30, "months" } };
    if (seconds < 1)
        return "Less than a second";
    if (seconds == 1)
        return "1 second";
    if (minutes == 1)
        return "About a minute";
    if (hours == 1 && minutes >= 60)
        return "About an hour";
    if (minutes < 60) {
        snprintf(out, TEXT_SIZE, minutes ? "%lld minutes" : "%lld seconds", (long long)(minutes ? minutes : seconds));
        return out;
    }
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        if (hours < steps[i].below_hours) {
            snprintf(out, TEXT_SIZE, "%lld %s", (long long)(hours / steps[i].divide), steps[i].word);
            return out;
        }
    snprintf(out, TEXT_SIZE, "%lld years", (long long)(seconds / 3600 / 24 / 365));
    return out;
}

int64_t text_ns(int64_t seconds)
{
    int64_t ns;
    return __builtin_mul_overflow(seconds, NS_PER_S, &ns) ? 0 : ns;
}

void text_time(int64_t unix_ns, struct buf *out)
{
    time_t seconds = (time_t)(unix_ns / NS_PER_S);
    int64_t rest = unix_ns % NS_PER_S;
    struct tm local;
    char text[64], fraction[16] = "";
    localtime_r(&seconds, &local);
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local);
    if (rest > 0) {
        snprintf(fraction, sizeof(fraction), ".%09lld", (long long)rest);
        for (size_t end = strlen(fraction); fraction[end - 1] == '0'; end--)
            fraction[end - 1] = 0;
    }
    buf_addf(out, "%s%s", text, fraction);
    strftime(text, sizeof(text), " %z %Z", &local);
    buf_adds(out, text);
}

void text_put_char(uint32_t character, struct buf *out)
{
    static const unsigned char heads[] = { 0, 0xc0, 0xe0, 0xf0 };
    int more = character < 0x80 ? 0 : character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
    buf_addc(out, (char)(heads[more] | character >> 6 * more));
    while (more--)
        buf_addc(out, (char)(0x80 | (character >> 6 * more & 0x3f)));
}

// The East Asian blocks that are two columns wide.
static size_t columns_of(const char *at, size_t size)
{
    static const struct {
        uint32_t from, to;
    } wide[] = { { 0x1100, 0x115f }, { 0x2e80, 0x303e }, { 0x3041, 0xa4cf }, { 0xac00, 0xd7a3 }, { 0xf900, 0xfaff },
                 { 0xfe30, 0xfe6f }, { 0xff00, 0xff60 }, { 0xffe0, 0xffe6 }, { 0x1f300, 0x1f64f }, { 0x1f900, 0x1f9ff }, { 0x20000, 0x3fffd } };
    if (size < 3)
        return 1;
    uint32_t c = size == 3 ? (uint32_t)(at[0] & 0x0f) << 12 | (uint32_t)(at[1] & 0x3f) << 6 | (uint32_t)(at[2] & 0x3f)
                           : (uint32_t)(at[0] & 7) << 18 | (uint32_t)(at[1] & 0x3f) << 12 | (uint32_t)(at[2] & 0x3f) << 6 | (uint32_t)(at[3] & 0x3f);
    for (size_t i = 0; i < ARRAY_LEN(wide); i++)
        if (c >= wide[i].from && c <= wide[i].to)
            return 2;
    return 1;
}

size_t text_columns(struct slice text)
{
    size_t columns = 0;
    while (text.size) {
        size_t size = slice_utf8_len(text);
        columns += columns_of(text.data, size);
        size = MAX_OF(size, (size_t)1);
        text.data += size;
        text.size -= size;
    }
    return columns;
}

void text_ellipsis(const char *text, size_t width, struct buf *out)
{
    size_t columns = 0, end = 0, size;
    if (text_columns(slice_of(text)) <= width) {
        buf_adds(out, text);
        return;
    }
    for (const char *at = text; *at; at += size) {
        size = MAX_OF(slice_utf8_len(slice_of(at)), (size_t)1);
        columns += columns_of(at, size);
        if (columns > width - 1)
            break;
        end = (size_t)(at - text) + size;
    }
    buf_add(out, text, end);
    buf_adds(out, "…");
}

const char *text_id(const char *id, bool no_trunc, char out[TEXT_SIZE])
{
    if (no_trunc)
        return id;
    const char *colon = strchr(id, ':');
    snprintf(out, TEXT_SIZE, "%.12s", colon ? colon + 1 : id);
    return out;
}

// ---- JSON -----------------------------------------------------------------------------------------------------------

void text_put_row(json_t *row, struct buf *out)
{
    char *text = json_dumps(row, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    for (const char *c = text ? text : ""; *c; c++)
        if (*c == '<' || *c == '>' || *c == '&')
            buf_addf(out, "\\u%04x", (unsigned)*c);
        else
            buf_addc(out, *c);
    free(text);
}

static void new_line(const char *prefix, const char *step, size_t depth, struct buf *out)
{
    buf_addf(out, "\n%s", prefix);
    for (size_t i = 0; i < depth; i++)
        buf_adds(out, step);
}

// Copies a string with its quotes; the bytes it takes.
static size_t copy_string(struct slice from, struct buf *out)
{
    size_t end = 1;
    while (end < from.size && from.data[end] != '"')
        end += from.data[end] == '\\' ? 2 : 1;
    end = MIN_OF(end + 1, from.size);
    buf_add(out, from.data, end);
    return end;
}

void text_indent(struct slice json, const char *prefix, const char *step, struct buf *out)
{
    size_t depth = 0;
    for (size_t i = 0; i < json.size; i++) {
        char c = json.data[i];
        if (c == '"') {
            i += copy_string((struct slice){ json.data + i, json.size - i }, out) - 1;
        } else if (c == '{' || c == '[') {
            size_t next = i + 1;
            while (next < json.size && strchr(" \t\r\n", json.data[next]))
                next++;
            buf_addc(out, c);
            if (next < json.size && (json.data[next] == '}' || json.data[next] == ']')) {
                buf_addc(out, json.data[next]);
                i = next;
            } else {
                new_line(prefix, step, ++depth, out);
            }
        } else if (c == '}' || c == ']') {
            new_line(prefix, step, depth ? --depth : 0, out);
            buf_addc(out, c);
        } else if (c == ',') {
            buf_addc(out, c);
            new_line(prefix, step, depth, out);
        } else if (c == ':') {
            buf_adds(out, ": ");
        } else if (!strchr(" \t\r\n", c)) {
            buf_addc(out, c);
        }
    }
}

// ---- tables ---------------------------------------------------------------------------------------------------------

struct cell {
    struct slice text;
    size_t columns, width;
};

struct line {
    struct cell *cells; // the last one is behind the last tab
    size_t len;
};

static void cut_cells(struct slice text, struct line *line)
{
    struct slice part;
    size_t len = 1;
    for (size_t i = 0; i < text.size; i++)
        len += text.data[i] == '\t';
    line->cells = mem_alloc(len * sizeof(*line->cells));
    if (!text.data)
        text = (struct slice){ "", 0 };
    while (slice_cut(&text, '\t', &part))
        line->cells[line->len++] = (struct cell){ part, text_columns(part), 0 };
}

// Cells of one column stand in lines one below the other; where a line lacks the column, it ends.
static void widen(struct line *lines, size_t len, size_t min, size_t gap)
{
    for (size_t column = 0, any = 1; any; column++) {
        any = 0;
        for (size_t i = 0; i < len; i++) {
            size_t end = i, width = 0;
            for (; end < len && lines[end].len > column + 1; end++)
                width = MAX_OF(width, lines[end].cells[column].columns);
            for (size_t j = i; j < end; j++)
                lines[j].cells[column].width = MAX_OF(width + gap, min);
            any |= end > i;
            i = MAX_OF(end, i + 1) - 1;
        }
    }
}

void text_table(struct slice text, size_t min, size_t gap, struct buf *out)
{
    size_t len = 0, capacity = 1;
    struct slice part;
    for (size_t i = 0; i < text.size; i++)
        capacity += text.data[i] == '\n';
    struct line *lines = mem_alloc(capacity * sizeof(*lines));
    bool ends = text.size && text.data[text.size - 1] == '\n';
    if (ends)
        text.size--;
    while (slice_cut(&text, '\n', &part))
        cut_cells(part, &lines[len++]);
    widen(lines, len, min, gap);
    for (size_t i = 0; i < len; i++) {
        for (size_t j = 0; j < lines[i].len; j++) {
            const struct cell *cell = &lines[i].cells[j];
            buf_add(out, cell->text.data, cell->text.size);
            if (j + 1 < lines[i].len)
                buf_addf(out, "%*s", (int)(cell->width - cell->columns), "");
        }
        buf_adds(out, i + 1 < len || ends ? "\n" : "");
        free(lines[i].cells);
    }
    free(lines);
}
