// The whole file: lines become instructions, instructions gather below their FROM.
#include "build/build_private.h"

// Instructions and stages as they come; the file gets them at the end, when both arrays have stopped moving.
struct build_up {
    struct line_reader reader;
    struct instruction *instructions;
    size_t len, capacity;
    struct stage_start {
        struct dockerfile_stage stage;
        size_t first; // its first instruction
    } *stages;
    size_t stages_len, stages_capacity;
};

static void *grown(struct arena *arena, void *items, size_t len, size_t *capacity, size_t size)
{
    if (len < *capacity)
        return items;
    *capacity = MAX_OF((size_t)16, 2 * *capacity);
    void *more = arena_alloc(arena, *capacity * size);
    if (len)
        memcpy(more, items, len * size);
    return more;
}

static int placed(struct build_up *up, struct dockerfile_place place)
{
    if (up->reader.place)
        *up->reader.place = place;
    return -1;
}

static int from(struct build_up *up, struct instruction *instruction, struct dockerfile_stage *stage, struct err *err)
{
    if (up->stages_len == DOCKERFILE_STAGES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "the Dockerfile has more than %d stages", DOCKERFILE_STAGES_MAX);
    up->stages = grown(up->reader.arena, up->stages, up->stages_len, &up->stages_capacity, sizeof(*up->stages));
    stage->from = *instruction;
    up->stages[up->stages_len++] = (struct stage_start){ *stage, up->len };
    return 0;
}

// What one line is; also the check that something may stand where it stands.
static int line_is(void *of, struct line *line, struct err *err)
{
    struct build_up *up = of;
    struct arena *arena = up->reader.arena;
    struct dockerfile_stage stage = { 0 };
    up->instructions = grown(arena, up->instructions, up->len, &up->capacity, sizeof(*up->instructions));
    struct instruction *instruction = &up->instructions[up->len];
    *instruction = (struct instruction){ 0 };
    if (instruction_parse(line, up->reader.file->escape, arena, instruction, &stage, err) < 0) {
        line->place.syntax = instruction->place.syntax;
        if (!line->place.syntax)
            err_wrap(err, "dockerfile parse error on line %u", line->place.line);
        return placed(up, line->place);
    }
    if (memory_check(arena, err) < 0)
        return placed(up, line->place);
    if (instruction->kind == INSTRUCTION_FROM)
        return from(up, instruction, &stage, err) < 0 ? placed(up, line->place) : 0;
    if (!up->stages_len && instruction->kind != INSTRUCTION_ARG) {
        err_set(err, ERR_INVALID_ARGUMENT, "no build stage in current context");
        return placed(up, line->place);
    }
    up->len++;
    return 0;
}

static void gather(struct build_up *up, struct dockerfile *file)
{
    file->globals = up->instructions;
    file->globals_len = up->stages[0].first;
    file->len = up->stages_len;
    file->stages = arena_alloc(up->reader.arena, up->stages_len * sizeof(*file->stages));
    for (size_t i = 0; i < up->stages_len; i++) {
        size_t end = i + 1 < up->stages_len ? up->stages[i + 1].first : up->len;
        file->stages[i] = up->stages[i].stage;
        file->stages[i].instructions = up->instructions + up->stages[i].first;
        file->stages[i].len = end - up->stages[i].first;
    }
}

// What no line can be read of.
static int check_bytes(struct slice source, struct dockerfile_place *place, struct err *err)
{
    if (!source.size)
        return err_set(err, ERR_INVALID_ARGUMENT, "the Dockerfile cannot be empty");
    if (source.size > DOCKERFILE_SIZE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "the Dockerfile is larger than %d MiB", DOCKERFILE_SIZE_MAX >> 20);
    const char *nul = memchr(source.data, 0, source.size);
    if (!nul)
        return 0;
    const char *start = source.data;
    struct dockerfile_place at = { 1, 1, 0, true };
    for (const char *end; (end = memchr(start, '\n', (size_t)(nul - start))); start = end + 1)
        at.line++;
    at.last_line = at.line;
    at.column = (unsigned)(nul - start) + 1;
    if (place)
        *place = at;
    return err_set(err, ERR_INVALID_ARGUMENT, "the Dockerfile has a NUL byte on line %u", at.line);
}

int dockerfile_parse(struct slice source, struct arena *arena, struct dockerfile **out, struct dockerfile_place *place, struct err *err)
{
    if (place)
        *place = (struct dockerfile_place){ 0 };
    if (check_bytes(source, place, err) < 0)
        return -1;
    struct dockerfile *file = arena_alloc(arena, sizeof(*file));
    file->escape = '\\';
    file->source = (struct slice){ arena_strndup(arena, source.data, source.size), source.size };
    struct build_up up = { .reader = { arena, file, place, line_is, &up } };
    if (lines_read(&up.reader, err) < 0)
        return -1;
    if (!up.stages_len)
        return err_set(err, ERR_INVALID_ARGUMENT, "dockerfile contains no stages to build");
    gather(&up, file);
    *out = file;
    return 0;
}

// ---- ONBUILD ----

struct trigger {
    struct line_reader reader;
    struct dockerfile_place at;
    struct instruction *instruction;
};

static int trigger_line(void *of, struct line *line, struct err *err)
{
    struct trigger *trigger = of;
    const char *name = upper_case(line->name, trigger->reader.arena);
    if (trigger->instruction)
        return err_set(err, ERR_INVALID_ARGUMENT, "onbuild trigger should be a single expression");
    if (str_eq(name, "ONBUILD"))
        return err_set(err, ERR_INVALID_ARGUMENT, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
    if (str_eq(name, "MAINTAINER") || str_eq(name, "FROM"))
        return err_set(err, ERR_INVALID_ARGUMENT, "%s isn't allowed as an ONBUILD trigger", name);
    trigger->instruction = arena_alloc(trigger->reader.arena, sizeof(*trigger->instruction));
    line->place = trigger->at;
    return instruction_parse(line, trigger->reader.file->escape, trigger->reader.arena, trigger->instruction, NULL, err);
}

int dockerfile_parse_trigger(const char *text, struct dockerfile_place at, struct arena *arena, struct instruction **out, struct err *err)
{
    struct dockerfile file = { .escape = '\\', .source = slice_of(text) };
    struct trigger trigger = { .reader = { arena, &file, NULL, trigger_line, &trigger }, .at = at };
    if (file.source.size > DOCKERFILE_SIZE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "an ONBUILD trigger is larger than %d MiB", DOCKERFILE_SIZE_MAX >> 20);
    if (lines_read(&trigger.reader, err) < 0)
        return -1;
    *out = trigger.instruction;
    return 0;
}

// ---- changes ----

struct changes {
    struct line_reader reader;
    const char *const *allowed;
    struct instruction *instructions;
    size_t len, capacity;
};

static int change_line(void *of, struct line *line, struct err *err)
{
    struct changes *changes = of;
    struct arena *arena = changes->reader.arena;
    const char *name = upper_case(line->name, arena);
    size_t i = 0;
    while (changes->allowed[i] && !str_eq(changes->allowed[i], name))
        i++;
    if (!changes->allowed[i])
        return err_set(err, ERR_INVALID_ARGUMENT, "%.64s is not a valid change command", line->name);
    changes->instructions = grown(arena, changes->instructions, changes->len, &changes->capacity, sizeof(*changes->instructions));
    if (instruction_parse(line, changes->reader.file->escape, arena, &changes->instructions[changes->len], NULL, err) < 0)
        return -1;
    changes->len++;
    return memory_check(arena, err);
}

int dockerfile_parse_changes(struct slice source, const char *const *allowed, struct arena *arena, struct instruction **out, size_t *len,
                             struct err *err)
{
    struct dockerfile file = { .escape = '\\', .source = source };
    struct changes changes = { .reader = { arena, &file, NULL, change_line, &changes }, .allowed = allowed };
    if (check_bytes(source, NULL, err) < 0 || lines_read(&changes.reader, err) < 0)
        return -1;
    *out = changes.instructions;
    *len = changes.len;
    return 0;
}

const char *dockerfile_workdir(const char *before, const char *path, struct arena *arena)
{
    return path_clean(slice_of(*path == '/' ? path : arena_printf(arena, "/%s/%s", before ? before : "", path)), arena);
}

// ---- where something is ----

#define EXCERPT_AROUND 3 // lines before and after
#define EXCERPT_LINE_MAX 400 // bytes that are shown of one

static void excerpt_line(struct slice line, unsigned number, bool marked, unsigned column, struct buf *out)
{
    while (line.size && (line.data[line.size - 1] == '\r'))
        line.size--;
    struct slice shown = slice_utf8_head(line, EXCERPT_LINE_MAX);
    buf_addf(out, "%4u | %s%.*s%s\n", number, marked ? ">>> " : "    ", (int)shown.size, shown.data, shown.size < line.size ? "..." : "");
    if (marked && column && column <= shown.size + 1)
        buf_addf(out, "     |     %*s^\n", (int)column - 1, "");
}

void dockerfile_excerpt(struct slice source, const char *name, struct dockerfile_place place, struct buf *out)
{
    struct slice line;
    unsigned number = 0;
    unsigned last = MIN_OF(MAX_OF(place.last_line, place.line), place.line + 20); // a long instruction's head is enough
    if (!place.line)
        return;
    buf_addf(out, "%s:%u", name, place.line);
    if (place.column)
        buf_addf(out, ":%u", place.column);
    buf_adds(out, "\n--------------------\n");
    while (slice_cut(&source, '\n', &line)) {
        number++;
        if (number > last + EXCERPT_AROUND || (!source.data && !line.size))
            break;
        if (number + EXCERPT_AROUND >= place.line)
            excerpt_line(line, number, number >= place.line && number <= last, number == place.line ? place.column : 0, out);
    }
    buf_adds(out, "--------------------\n");
}
