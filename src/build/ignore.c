// Patterns are read into steps, and all ways through the steps are followed at once: a set of steps that could be next, carried over
// the path a character at a time. Most patterns are plain names, and are compared as such.
#include "build/build_private.h"
#include "build/ignore.h"

enum step_kind {
    STEP_TEXT, // this character
    STEP_ONE, // any but '/'
    STEP_CLASS, // one of [...]
    STEP_STAR, // any number of others than '/'
    STEP_ANY, // any number of any
    STEP_PARTS, // nothing, or anything that ends in '/'
};

struct step {
    enum step_kind kind;
    struct slice text; // TEXT: the character; CLASS: what is between the brackets
};

struct pattern {
    const char *text; // cleaned, without '!'
    bool exception; // it had a '!'
    enum { PATTERN_EXACT, PATTERN_PREFIX, PATTERN_SUFFIX, PATTERN_STEPS } kind;
    struct step *steps;
    size_t len;
};

struct ignore {
    struct pattern *patterns;
    size_t len;
    bool exceptions;
};

// ---- patterns ----

static int syntax_error(struct err *err)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "syntax error in pattern");
}

static size_t char_len(const char *text)
{
    return MAX_OF(slice_utf8_len(slice_of(text)), (size_t)1);
}

// One character of a class, which a '\' may stand in front of.
static const char *class_char(const char *at, struct slice *out)
{
    at += *at == '\\';
    if (!*at)
        return NULL;
    *out = (struct slice){ at, char_len(at) };
    return at + out->size;
}

// A class from behind its '[': its end behind the ']', or NULL.
static const char *class_end(const char *at)
{
    bool first = true;
    struct slice character;
    at += *at == '^';
    for (; *at != ']' || first; first = false) {
        if (!*at || *at == '-' || *at == ']' || !(at = class_char(at, &character)))
            return NULL;
        if (*at == '-' && (!(at = class_char(at + 1, &character)) || *character.data == ']'))
            return NULL;
    }
    return at + 1;
}

static void step_add(struct pattern *pattern, enum step_kind kind, const char *text, size_t size)
{
    pattern->steps[pattern->len++] = (struct step){ kind, { text, size } };
}

// "**" and what it means where it stands: at the end everything, else parts.
static const char *stars(struct pattern *pattern, const char *at)
{
    if (*at == '/')
        at++;
    bool first = !pattern->len, last = !*at;
    if (first)
        pattern->kind = PATTERN_SUFFIX;
    else if (last && pattern->kind == PATTERN_EXACT)
        pattern->kind = PATTERN_PREFIX;
    else
        pattern->kind = PATTERN_STEPS;
    step_add(pattern, last ? STEP_ANY : STEP_PARTS, at, 0);
    return at;
}

static int pattern_compile(struct pattern *pattern, struct arena *arena, struct err *err)
{
    pattern->steps = arena_alloc(arena, (strlen(pattern->text) + 1) * sizeof(*pattern->steps));
    for (const char *at = pattern->text; *at;) {
        const char *start = at;
        if (at[0] == '*' && at[1] == '*') {
            at = stars(pattern, at + 2);
            continue;
        }
        if (*at == '*' || *at == '?') {
            step_add(pattern, *at++ == '*' ? STEP_STAR : STEP_ONE, start, 1);
            pattern->kind = PATTERN_STEPS;
        } else if (*at == '[') {
            at = class_end(at + 1);
            if (!at)
                return syntax_error(err);
            step_add(pattern, STEP_CLASS, start + 1, (size_t)(at - start - 2));
            pattern->kind = PATTERN_STEPS;
        } else {
            if (*at == '\\') {
                if (!*++at)
                    return syntax_error(err);
                pattern->kind = PATTERN_STEPS;
            }
            step_add(pattern, STEP_TEXT, at, char_len(at));
            at += char_len(at);
        }
    }
    return 0;
}

// One pattern of a list. A blank one is none.
static int pattern_add(struct ignore *ignore, const char *text, struct arena *arena, struct err *err)
{
    struct slice trimmed = blank_trim(slice_of(text));
    if (!trimmed.size)
        return 0;
    if (trimmed.size > IGNORE_PATTERN_SIZE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "a pattern is longer than %d bytes", IGNORE_PATTERN_SIZE_MAX);
    struct pattern *pattern = &ignore->patterns[ignore->len];
    pattern->text = path_clean(trimmed, arena);
    pattern->exception = *pattern->text == '!';
    pattern->text += pattern->exception;
    if (!*pattern->text)
        return err_set(err, ERR_INVALID_ARGUMENT, "illegal exclusion pattern: \"!\"");
    ignore->exceptions |= pattern->exception;
    ignore->len++;
    return pattern_compile(pattern, arena, err) < 0 ? err_wrap(err, "%s", quoted(text, arena)) : memory_check(arena, err);
}

int ignore_new(const struct strv *patterns, struct arena *arena, struct ignore **out, struct err *err)
{
    struct ignore *ignore = arena_alloc(arena, sizeof(*ignore));
    if (patterns->len > IGNORE_PATTERNS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d patterns", IGNORE_PATTERNS_MAX);
    ignore->patterns = arena_alloc(arena, (patterns->len + 1) * sizeof(*ignore->patterns));
    for (size_t i = 0; i < patterns->len; i++)
        if (pattern_add(ignore, patterns->items[i], arena, err) < 0)
            return -1;
    *out = ignore;
    return 0;
}

// A line of the file as a pattern: blanks off, cleaned, relative.
static void line_add(struct slice line, struct arena *arena, struct strv *out)
{
    line = blank_trim(line);
    bool exception = line.size && line.data[0] == '!';
    if (!line.size)
        return;
    if (exception)
        line = blank_trim((struct slice){ line.data + 1, line.size - 1 });
    const char *text = line.size ? path_clean(line, arena) : "";
    text += text[0] == '/' && text[1];
    strv_push_arena(out, arena, exception ? arena_printf(arena, "!%s", text) : text);
}

int ignore_parse(struct slice file, struct arena *arena, struct ignore **out, struct err *err)
{
    struct strv patterns = { 0 };
    struct slice line;
    if (slice_starts(file, "\xef\xbb\xbf"))
        file = (struct slice){ file.data + 3, file.size - 3 };
    if (file.size > DOCKERFILE_SIZE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "the .dockerignore file is larger than %d MiB", DOCKERFILE_SIZE_MAX >> 20);
    if (file.size && memchr(file.data, 0, file.size))
        return err_set(err, ERR_INVALID_ARGUMENT, "the .dockerignore file has a NUL byte");
    while (slice_cut(&file, '\n', &line))
        if (line.size > IGNORE_PATTERN_SIZE_MAX)
            return err_set(err, ERR_INVALID_ARGUMENT, "a pattern is longer than %d bytes", IGNORE_PATTERN_SIZE_MAX);
        else if (!slice_starts(line, "#") && patterns.len <= IGNORE_PATTERNS_MAX)
            line_add(line, arena, &patterns);
    return ignore_new(&patterns, arena, out, err);
}

// ---- matching ----

static int compare(struct slice a, struct slice b)
{
    int order = memcmp(a.data, b.data, MIN_OF(a.size, b.size)); // UTF-8 sorts as its characters do
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static bool class_has(struct slice class, struct slice character)
{
    const char *at = class.data, *end = class.data + class.size;
    bool negated = *at == '^', found = false;
    struct slice first, last;
    at += negated;
    while (at < end) {
        at = class_char(at, &first);
        last = first;
        if (at < end && *at == '-')
            at = class_char(at + 1, &last);
        found |= compare(first, character) <= 0 && compare(character, last) <= 0;
    }
    return found != negated;
}

static bool step_takes(const struct step *step, struct slice character)
{
    switch (step->kind) {
    case STEP_TEXT: return compare(step->text, character) == 0;
    case STEP_CLASS: return class_has(step->text, character);
    case STEP_ONE:
    case STEP_STAR: return character.data[0] != '/';
    default: return true;
    }
}

// Steps that match nothing are passed: PARTS only from in front of it, for once it has begun it ends with a '/'.
static void settle(const struct pattern *pattern, bool *set)
{
    for (size_t i = 0; i < pattern->len; i++)
        if (set[2 * i] && (pattern->steps[i].kind == STEP_STAR || pattern->steps[i].kind == STEP_ANY || pattern->steps[i].kind == STEP_PARTS))
            set[2 * (i + 1)] = true;
}

// set[2 * i]: step i is next; set[2 * i + 1]: in the middle of PARTS.
static bool steps_match(const struct pattern *pattern, const char *path)
{
    bool small[2][128], *set = small[0], *next = small[1], *heap = NULL;
    size_t size = 2 * (pattern->len + 1);
    if (size > ARRAY_LEN(small[0])) {
        heap = mem_alloc(2 * size);
        set = heap;
        next = heap + size;
    }
    memset(set, 0, size);
    set[0] = true;
    settle(pattern, set);
    bool alive = true;
    while (*path && alive) {
        struct slice character = { path, char_len(path) };
        alive = false;
        memset(next, 0, size);
        for (size_t i = 0; i < pattern->len; i++) {
            const struct step *step = &pattern->steps[i];
            bool begun = set[2 * i + 1];
            if ((!set[2 * i] && !begun) || !step_takes(step, character))
                continue;
            alive = true;
            if (step->kind == STEP_PARTS) {
                next[2 * i + 1] = true;
                next[2 * (i + 1)] |= *path == '/';
            } else {
                next[2 * (step->kind == STEP_STAR || step->kind == STEP_ANY ? i : i + 1)] = true;
            }
        }
        settle(pattern, next);
        bool *swap = set;
        set = next;
        next = swap;
        path += character.size;
    }
    bool match = alive && set[2 * pattern->len];
    free(heap);
    return match;
}

static bool pattern_match(const struct pattern *pattern, const char *path)
{
    size_t size = strlen(path);
    const char *suffix = pattern->text + 2;
    switch (pattern->kind) {
    case PATTERN_EXACT: return str_eq(path, pattern->text);
    case PATTERN_PREFIX: return strncmp(path, pattern->text, strlen(pattern->text) - 2) == 0;
    case PATTERN_SUFFIX:
        if (size >= strlen(suffix) && str_eq(path + size - strlen(suffix), suffix))
            return true;
        return *suffix == '/' && str_eq(path, suffix + 1);
    default: return steps_match(pattern, path);
    }
}

static bool above_matches(const struct pattern *pattern, const char *path)
{
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        _cleanup_free_ char *folder = mem_strndup(path, (size_t)(slash - path));
        if (*folder && pattern_match(pattern, folder))
            return true;
    }
    return false;
}

bool ignore_match(const struct ignore *ignore, const char *path)
{
    bool matched = false;
    if (str_eq(path, "."))
        return false;
    for (size_t i = 0; i < ignore->len; i++) {
        const struct pattern *pattern = &ignore->patterns[i];
        if (pattern->exception == matched && (pattern_match(pattern, path) || above_matches(pattern, path)))
            matched = !pattern->exception;
    }
    return matched;
}

size_t ignore_len(const struct ignore *ignore)
{
    return ignore->len;
}

bool ignore_match_below(const struct ignore *ignore, const char *path, const bool *above, bool *mine)
{
    bool matched = false;
    for (size_t i = 0; i < ignore->len; i++) {
        const struct pattern *pattern = &ignore->patterns[i];
        mine[i] = above && above[i];
        if (!mine[i] && pattern->exception == matched)
            mine[i] = pattern_match(pattern, path);
        if (mine[i])
            matched = !pattern->exception;
    }
    return matched;
}

bool ignore_has_exceptions(const struct ignore *ignore)
{
    return ignore->exceptions;
}

bool ignore_hides_root(const struct ignore *ignore)
{
    for (size_t i = 0; i < ignore->len; i++) {
        const char *text = ignore->patterns[i].text;
        if (!ignore->patterns[i].exception && (str_eq(text, "*") || str_eq(text, "**") || str_eq(text, "**/*")))
            return true;
    }
    return false;
}

bool ignore_takes_back_below(const struct ignore *ignore, const char *folder)
{
    size_t size = strlen(folder);
    for (size_t i = 0; i < ignore->len; i++) {
        const struct pattern *pattern = &ignore->patterns[i];
        size_t plain = strcspn(pattern->text, "*?[\\");
        if (!pattern->exception)
            continue;
        // What stands before the first wildcard must be able to lie below the folder, or the folder below it.
        size_t same = MIN_OF(plain, size + 1);
        bool below = strncmp(pattern->text, folder, MIN_OF(same, size)) == 0 && (plain <= size || pattern->text[size] == '/');
        if (below && (plain > size || pattern->text[plain]))
            return true;
    }
    return false;
}
