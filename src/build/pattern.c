// Patterns of ${v#p} ${v%p} ${v/p/r}: '*' any text and '?' one character (neither a line's end), '\' in front of '*', '?' and itself.
//
// All threads of a match run side by side: places[t] is where the thread that is about to read token t began, the earliest one where several
// met, because the leftmost match counts. So a match takes time in proportion to pattern times value whatever they are.
#include "build/build_private.h"

#define NOWHERE SIZE_MAX

struct token {
    enum { TOKEN_TEXT, TOKEN_ONE, TOKEN_STAR } kind;
    struct slice text; // one character
};

struct pattern {
    struct token *tokens;
    size_t len;
    size_t *places, *next; // len + 1 each
};

static size_t char_len(struct slice text)
{
    return MAX_OF(slice_utf8_len(text), (size_t)1);
}

static int pattern_parse(const char *text, struct arena *arena, struct pattern *out, struct err *err)
{
    *out = (struct pattern){ .tokens = arena_alloc(arena, (strlen(text) + 1) * sizeof(struct token)) };
    for (const char *at = text; *at;) {
        struct token *token = &out->tokens[out->len++];
        if (*at == '\\' && (at[1] == '}' || at[1] == '/')) {
            at++;
        } else if (*at == '\\') {
            at++;
            if (*at != '*' && *at != '?' && *at != '\\')
                return err_set(err, ERR_INVALID_ARGUMENT, "invalid pattern (%s) in substitution: invalid escape '\\%.*s'", text,
                               (int)slice_utf8_len(slice_of(at)), at);
        } else if (*at == '*' || *at == '?') {
            token->kind = *at++ == '*' ? TOKEN_STAR : TOKEN_ONE;
            continue;
        }
        token->text = (struct slice){ at, char_len(slice_of(at)) };
        at += token->text.size;
    }
    out->places = arena_alloc(arena, (out->len + 1) * sizeof(size_t));
    out->next = arena_alloc(arena, (out->len + 1) * sizeof(size_t));
    return 0;
}

// Lets threads in `places` pass stars that match nothing.
static void settle(const struct pattern *pattern, size_t *places)
{
    for (size_t t = 0; t < pattern->len; t++)
        if (pattern->tokens[t].kind == TOKEN_STAR && places[t] != NOWHERE && places[t] < places[t + 1])
            places[t + 1] = places[t];
}

static bool step(struct pattern *pattern, struct slice character)
{
    bool alive = false;
    for (size_t t = 0; t <= pattern->len; t++)
        pattern->next[t] = NOWHERE;
    for (size_t t = 0; t < pattern->len; t++) {
        const struct token *token = &pattern->tokens[t];
        size_t from = pattern->places[t];
        bool takes = token->kind == TOKEN_TEXT ? token->text.size == character.size && memcmp(token->text.data, character.data, character.size) == 0
                                               : character.data[0] != '\n';
        if (from == NOWHERE || !takes)
            continue;
        size_t to = token->kind == TOKEN_STAR ? t : t + 1;
        pattern->next[to] = MIN_OF(pattern->next[to], from);
        alive = true;
    }
    settle(pattern, pattern->next);
    size_t *swap = pattern->places;
    pattern->places = pattern->next;
    pattern->next = swap;
    return alive;
}

struct match {
    size_t from, to;
};

// The leftmost match at or after `start`: the longest of those, or the shortest. Anchored: only at `start`.
static bool pattern_find(struct pattern *pattern, struct slice value, size_t start, bool longest, bool anchored, struct match *out)
{
    bool found = false;
    for (size_t t = 0; t <= pattern->len; t++)
        pattern->places[t] = NOWHERE;
    for (size_t at = start;; at += char_len((struct slice){ value.data + at, value.size - at })) {
        if (!found && (at == start || !anchored) && pattern->places[0] == NOWHERE) {
            pattern->places[0] = at;
            settle(pattern, pattern->places);
        }
        size_t from = pattern->places[pattern->len];
        if (from != NOWHERE && (!found || from <= out->from)) {
            *out = (struct match){ from, at };
            found = true;
            if (!longest)
                return true;
        }
        if (at == value.size)
            return found;
        for (size_t t = 0; found && t <= pattern->len; t++) // who began later can't win any more
            if (pattern->places[t] != NOWHERE && pattern->places[t] > out->from)
                pattern->places[t] = NOWHERE;
        struct slice character = { value.data + at, char_len((struct slice){ value.data + at, value.size - at }) };
        if (!step(pattern, character) && (found || anchored))
            return found;
    }
}

// The same characters in the opposite order.
static char *reversed(struct slice text, struct arena *arena)
{
    char *out = arena_alloc(arena, text.size + 1);
    size_t end = text.size;
    for (size_t at = 0; at < text.size;) {
        size_t size = char_len((struct slice){ text.data + at, text.size - at });
        end -= size;
        memcpy(out + end, text.data + at, size);
        at += size;
    }
    return out;
}

int pattern_cut(const char *text, const char *value, enum pattern_side side, bool longest, struct arena *arena, const char **out, struct err *err)
{
    struct pattern pattern;
    struct match match;
    struct slice all = slice_of(value);
    if (pattern_parse(text, arena, &pattern, err) < 0)
        return -1;
    if (side == PATTERN_TAIL) { // the shortest tail is the shortest head of the reversed text
        for (size_t i = 0; i < pattern.len / 2; i++) {
            struct token token = pattern.tokens[i];
            pattern.tokens[i] = pattern.tokens[pattern.len - 1 - i];
            pattern.tokens[pattern.len - 1 - i] = token;
        }
        all.data = reversed(all, arena);
    }
    size_t cut = pattern_find(&pattern, all, 0, longest, true, &match) ? match.to : 0;
    *out = side == PATTERN_TAIL ? arena_strndup(arena, value, all.size - cut) : arena_strdup(arena, value + cut);
    return 0;
}

int pattern_replace(const char *text, const char *replacement, const char *value, bool every, struct arena *arena, const char **out,
                    struct err *err)
{
    _cleanup_buf_ struct buf result = BUF_INIT(WORDS_SIZE_MAX);
    struct pattern pattern;
    struct match match;
    struct slice all = slice_of(value);
    if (pattern_parse(text, arena, &pattern, err) < 0)
        return -1;
    size_t done = 0, last_end = NOWHERE;
    for (size_t start = 0; start <= all.size && pattern_find(&pattern, all, start, true, false, &match);) {
        bool empty = match.from == match.to;
        if (!(empty && match.from == last_end)) { // no empty match right behind another one
            buf_add(&result, value + done, match.from - done);
            buf_adds(&result, replacement);
            done = last_end = match.to;
            if (!every)
                break;
        }
        start = empty ? match.to + char_len((struct slice){ value + match.to, all.size - match.to }) : match.to;
    }
    buf_add(&result, value + done, all.size - done);
    if (buf_check(&result, "a variable's value", err) < 0)
        return -1;
    *out = arena_strdup(arena, buf_text(&result));
    return 0;
}
