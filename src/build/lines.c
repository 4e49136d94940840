// From bytes to logical lines.
//
// A physical line is taken off the file at a time. At the start of an instruction blanks are trimmed, comments are gathered (the next
// instruction's description) and the first lines may be directives; within a continuation comments and empty lines vanish. When a
// line is whole, the heredocs that it announces are read as they stand.
#include <ctype.h>

#include "build/build_private.h"

enum directive { DIRECTIVE_SYNTAX, DIRECTIVE_ESCAPE, DIRECTIVE_CHECK, DIRECTIVE_COUNT };
static const char *const directive_names[] = { "syntax", "escape", "check" };

struct source {
    struct line_reader *reader;
    struct slice rest;
    unsigned line; // number of the physical line that was taken last
    bool directives_done;
    bool seen[DIRECTIVE_COUNT];
    struct strv comments;
    struct buf text; // the logical line so far
    size_t empties_capacity;
    size_t instructions;
    struct err *err;
};

static int fail_at(struct source *source, unsigned first, unsigned column, const char *message)
{
    if (source->reader->place)
        *source->reader->place = (struct dockerfile_place){ first, MAX_OF(source->line, first), column, true };
    return err_set(source->err, ERR_INVALID_ARGUMENT, "%s", message);
}

// The next physical line with its end. 1, 0 at the end of the file, -1.
static int take(struct source *source, bool bounded, struct slice *out)
{
    if (!source->rest.size)
        return 0;
    const char *end = memchr(source->rest.data, '\n', source->rest.size);
    size_t size = end ? (size_t)(end + 1 - source->rest.data) : source->rest.size;
    source->line++;
    if (bounded && size > DOCKERFILE_LINE_MAX)
        return fail_at(source, source->line, 0, "dockerfile line greater than max allowed size of 65535");
    *out = (struct slice){ source->rest.data, size };
    source->rest = (struct slice){ source->rest.data + size, source->rest.size - size };
    return 1;
}

static struct slice without_end(struct slice line)
{
    while (line.size && (line.data[line.size - 1] == '\n' || line.data[line.size - 1] == '\r'))
        line.size--;
    return line;
}

static struct slice without_head(struct slice line)
{
    while (line.size && isspace((unsigned char)line.data[0])) {
        line.data++;
        line.size--;
    }
    return line;
}

// ---- directives ----

// "# name = value": the name and the value of it, for names that are directives.
static bool directive_split(struct slice line, enum directive *which, struct slice *value)
{
    struct slice rest = without_head((struct slice){ line.data + 1, line.size - 1 });
    size_t size = 0;
    while (size < rest.size && isalnum((unsigned char)rest.data[size]))
        size++;
    struct slice name = { rest.data, size };
    rest = without_head((struct slice){ rest.data + size, rest.size - size });
    if (!rest.size || rest.data[0] != '=')
        return false;
    *value = blank_trim((struct slice){ rest.data + 1, rest.size - 1 });
    for (*which = 0; *which < DIRECTIVE_COUNT && value->size; (*which)++)
        if (strlen(directive_names[*which]) == name.size && strncasecmp(directive_names[*which], name.data, name.size) == 0)
            return true;
    return false;
}

static int directive_apply(struct source *source, enum directive which, struct slice value)
{
    struct dockerfile *file = source->reader->file;
    struct arena *arena = source->reader->arena;
    const char *text = arena_strndup(arena, value.data, value.size);
    if (source->seen[which])
        return fail_at(source, source->line, 1, arena_printf(arena, "only one %s parser directive can be used", directive_names[which]));
    source->seen[which] = true;
    switch (which) {
    case DIRECTIVE_SYNTAX: file->syntax = text; break;
    case DIRECTIVE_CHECK:
        file->check = text;
        file->check_place = (struct dockerfile_place){ source->line, source->line, 1, false };
        break;
    default:
        if (!str_eq(text, "\\") && !str_eq(text, "`"))
            return fail_at(source, source->line, 1, arena_printf(arena, "invalid escape token '%s' does not match ` or \\", text));
        file->escape = *text;
    }
    return 0;
}

// A line whose first character is '#'.
static int comment(struct source *source, struct slice line)
{
    struct slice text = blank_trim((struct slice){ line.data + 1, line.size - 1 });
    enum directive which;
    struct slice value;
    if (!source->directives_done && directive_split(line, &which, &value))
        return directive_apply(source, which, value);
    source->directives_done = true;
    if (text.size)
        strv_push_arena(&source->comments, source->reader->arena, arena_strndup(source->reader->arena, text.data, text.size));
    else
        source->comments = (struct strv){ 0 };
    return 0;
}

// ---- continuation ----

// Appends the line to the logical one, without the escape at its end. True where it goes on in the next line: an escape that no other
// escape stands in front of.
static bool append(struct source *source, struct slice line)
{
    char escape = source->reader->file->escape;
    size_t size = line.size;
    while (size && (line.data[size - 1] == ' ' || line.data[size - 1] == '\t'))
        size--;
    bool goes_on = size && line.data[size - 1] == escape && (size == 1 || line.data[size - 2] != escape);
    buf_add(&source->text, line.data, goes_on ? size - 1 : line.size);
    return goes_on;
}

static void note_empty(struct source *source)
{
    struct dockerfile *file = source->reader->file;
    if (file->empty_continuations_len == source->empties_capacity) {
        size_t capacity = MAX_OF((size_t)8, 2 * source->empties_capacity);
        struct dockerfile_place *places = arena_alloc(source->reader->arena, capacity * sizeof(*places));
        if (file->empty_continuations_len)
            memcpy(places, file->empty_continuations, file->empty_continuations_len * sizeof(*places));
        file->empty_continuations = places;
        source->empties_capacity = capacity;
    }
    file->empty_continuations[file->empty_continuations_len++] = (struct dockerfile_place){ source->line, source->line, 0, false };
}

// The lines behind one that ends in an escape.
static int continuation(struct source *source)
{
    struct slice line = { 0 };
    bool empties = false;
    for (int more = 1; more;) {
        int got = take(source, true, &line);
        if (got < 0)
            return -1;
        if (!got)
            break;
        line = without_end(line);
        struct slice text = without_head(line);
        if (text.size && text.data[0] == '#')
            continue;
        if (!text.size)
            empties = true;
        else
            more = append(source, line);
    }
    if (empties)
        note_empty(source);
    return 0;
}

// ---- heredocs ----

static bool ends(struct slice line, const struct heredoc *doc)
{
    line = without_end(line);
    while (doc->chomp && line.size && line.data[0] == '\t') {
        line.data++;
        line.size--;
    }
    return slice_eq(line, doc->name);
}

static int heredoc_read(struct source *source, struct heredoc *doc, const struct line *line)
{
    struct slice text = { 0 };
    const char *start = source->rest.data;
    while (take(source, false, &text) > 0)
        if (ends(text, doc)) {
            doc->content = arena_strndup(source->reader->arena, start, (size_t)(text.data - start));
            return 0;
        }
    return fail_at(source, line->place.line, 0, "unterminated heredoc");
}

static int heredocs_read(struct source *source, struct line *line)
{
    struct arena *arena = source->reader->arena;
    if (!strstr(line->text.data, "<<") || !line_takes_heredocs(line, source->reader->file->escape, arena))
        return 0;
    if (line_heredocs(line->text.data, arena, &line->heredocs, source->err) < 0)
        return fail_at(source, line->place.line, line->place.column, arena_strdup(arena, source->err->message));
    for (size_t i = 0; i < line->heredocs.len; i++)
        if (heredoc_read(source, &line->heredocs.items[i], line) < 0)
            return -1;
    return 0;
}

// ---- the file ----

static int logical_line(struct source *source, struct slice first, unsigned column)
{
    struct line_reader *reader = source->reader;
    unsigned start = source->line;
    buf_clear(&source->text);
    if (append(source, first) && continuation(source) < 0)
        return -1;
    struct slice text = blank_trim((struct slice){ buf_text(&source->text), source->text.size });
    if (!text.size)
        return 0; // nothing but escapes
    if (++source->instructions > DOCKERFILE_INSTRUCTIONS_MAX)
        return fail_at(source, start, 0, "the Dockerfile has more than 65536 instructions");
    struct line line = { .place = { start, source->line, column, false }, .comments = source->comments };
    line.text = (struct slice){ arena_strndup(reader->arena, text.data, text.size), text.size };
    source->comments = (struct strv){ 0 };
    line_split(&line, reader->file->escape, reader->arena);
    if (heredocs_read(source, &line) < 0)
        return -1;
    line.place.last_line = source->line;
    return reader->each(reader->of, &line, source->err);
}

static int lines(struct source *source)
{
    struct slice line = { 0 };
    int got;
    while ((got = take(source, true, &line)) > 0) {
        struct slice text = without_head(without_end(line));
        unsigned column = (unsigned)(text.data - line.data) + 1;
        if (text.size && text.data[0] == '#') {
            if (comment(source, text) < 0)
                return -1;
            continue;
        }
        source->directives_done = true;
        if (text.size && logical_line(source, text, column) < 0)
            return -1;
    }
    return got;
}

int lines_read(struct line_reader *reader, struct err *err)
{
    struct source source = { .reader = reader, .rest = reader->file->source, .text = BUF_INIT(DOCKERFILE_SIZE_MAX), .err = err };
    if (slice_starts(source.rest, "\xef\xbb\xbf"))
        source.rest = (struct slice){ source.rest.data + 3, source.rest.size - 3 };
    if (slice_starts(source.rest, "#!")) { // a Dockerfile may be a script
        struct slice line;
        take(&source, false, &line);
    }
    int result = lines(&source);
    if (result == 0 && source.instructions == 0)
        result = fail_at(&source, source.line, 0, "file with no instructions");
    buf_done(&source.text);
    return result;
}
