#include <ctype.h>

#include "build/build_private.h"

// A place in the text. Results are buffers; a list of words is made beside the result when it is asked for.
struct lexer {
    const struct words *words;
    const char *at;
    unsigned depth;
    struct err *err;
};

// What a level of the text becomes: one text, and (words asked for) the same divided at blanks.
struct level {
    struct buf text;
    struct buf word;
    struct strv *list; // NULL: only the text counts
    bool raw_escapes;
};

static int until(struct lexer *lexer, char stop, struct level *out);

static int fail(struct lexer *lexer, const char *message)
{
    return err_set(lexer->err, ERR_INVALID_ARGUMENT, "%s", message);
}

static void word_end(struct level *level, struct arena *arena)
{
    if (level->list && level->word.size)
        strv_push_arena(level->list, arena, buf_text(&level->word));
    buf_clear(&level->word);
}

// Text that does not divide words: quoted, escaped, or no blank.
static void put(struct level *level, const char *text, size_t size)
{
    buf_add(&level->text, text, size);
    if (level->list)
        buf_add(&level->word, text, size);
}

// Text whose blanks divide words.
static void put_loose(struct lexer *lexer, struct level *level, const char *text, size_t size)
{
    buf_add(&level->text, text, size);
    for (const char *end = text + size; level->list && text < end;) {
        size_t blank = blank_len(text);
        if (blank)
            word_end(level, lexer->words->arena);
        else
            buf_addc(&level->word, *text);
        text += blank ? blank : 1;
    }
}

static int single_quote(struct lexer *lexer, struct level *out)
{
    const char *end = strchr(lexer->at + 1, '\'');
    bool raw = lexer->words->flags & WORDS_RAW_QUOTES;
    if (!end)
        return fail(lexer, "unexpected end of statement while looking for matching single-quote");
    if (raw)
        put(out, lexer->at, (size_t)(end + 1 - lexer->at));
    else
        put(out, lexer->at + 1, (size_t)(end - lexer->at - 1));
    lexer->at = end + 1;
    return 0;
}

// ---- variables ----

static void note(struct strv *names, struct arena *arena, const char *name)
{
    if (names && names->len < WORDS_NOTES_MAX && !strv_has(names, name))
        strv_push_arena(names, arena, name);
}

static const char *lookup(struct lexer *lexer, const char *name)
{
    const struct words *words = lexer->words;
    const char *value = words->lookup ? words->lookup(words->of, name) : NULL;
    note(value ? words->matched : words->unmatched, words->arena, name);
    return value;
}

// A name, a number, or one of the shell's special parameters; "" when there is none.
static const char *name_read(struct lexer *lexer)
{
    const char *start = lexer->at;
    size_t size = 0;
    if (isdigit((unsigned char)*start))
        size = strspn(start, "0123456789");
    else if (*start && strchr("@*#?-$!", *start))
        size = 1;
    else
        while (isalnum((unsigned char)start[size]) || start[size] == '_')
            size++;
    lexer->at += size;
    return arena_strndup(lexer->words->arena, start, size);
}

// A word inside of ${}, up to `stop`, which is consumed.
static int operand(struct lexer *lexer, char stop, bool raw_escapes, const char *missing, const char **out)
{
    struct level level = { .text = BUF_INIT(WORDS_SIZE_MAX), .raw_escapes = raw_escapes };
    int result = until(lexer, stop, &level);
    if (result == 0)
        *out = arena_strdup(lexer->words->arena, buf_text(&level.text));
    else if (!*lexer->at && str_starts(lexer->err->message, "unexpected end of statement"))
        fail(lexer, missing);
    buf_done(&level.text);
    return result;
}

static int emit(struct lexer *lexer, struct buf *out, const char *value)
{
    buf_adds(out, value ? value : "");
    return buf_check(out, "a word of the Dockerfile", lexer->err);
}

static int replace(struct lexer *lexer, const char *name, struct buf *out)
{
    struct arena *arena = lexer->words->arena;
    const char *pattern = "", *replacement = "", *result = "";
    bool every = *lexer->at == '/';
    lexer->at += every;
    if (operand(lexer, '/', true, "syntax error: missing '/' in ${}", &pattern) < 0 ||
        operand(lexer, '}', true, "syntax error: missing '}'", &replacement) < 0)
        return -1;
    const char *value = lookup(lexer, name);
    if (!value && (lexer->words->flags & WORDS_KEEP_UNSET)) {
        buf_addf(out, "${%s/%s/%s}", name, pattern, replacement);
        return 0;
    }
    if (pattern_replace(pattern, replacement, value ? value : "", every, arena, &result, lexer->err) < 0)
        return -1;
    return emit(lexer, out, result);
}

static int demand(struct lexer *lexer, const char *name, const char *value, bool empty_too, const char *word, struct buf *out)
{
    if (value && !(empty_too && !*value))
        return emit(lexer, out, value);
    const char *message = *word ? word : value ? "is not allowed to be empty" : "is not allowed to be unset";
    return err_set(lexer->err, ERR_INVALID_ARGUMENT, "%s: %s", name, message);
}

static int cut(struct lexer *lexer, const char *value, char operator, const char *pattern, struct buf *out)
{
    const char *result = "";
    bool longest = *pattern == operator;
    if (pattern_cut(pattern + longest, value ? value : "", operator == '#' ? PATTERN_HEAD : PATTERN_TAIL, longest, lexer->words->arena,
                    &result, lexer->err) < 0)
        return -1;
    return emit(lexer, out, result);
}

static int unsupported(struct lexer *lexer, bool colon, const char *operator)
{
    char text[8];
    snprintf(text, sizeof(text), "%s%.*s", colon ? ":" : "", (int)MAX_OF(slice_utf8_len(slice_of(operator)), *operator ? (size_t)1 : (size_t)0), operator);
    return err_set(lexer->err, ERR_INVALID_ARGUMENT, "unsupported modifier (%s) in substitution", text);
}

// Behind "${name", at the operator.
static int substitute(struct lexer *lexer, const char *name, struct buf *out)
{
    bool colon = *lexer->at == ':';
    lexer->at += colon;
    char operator = *lexer->at;
    const char *word = "";
    if (!operator && !colon)
        return fail(lexer, "syntax error: missing '}'");
    if (!operator || !strchr(colon ? "+-?" : "+-?#%/", operator))
        return unsupported(lexer, colon, lexer->at);
    lexer->at++;
    if (operator == '/')
        return replace(lexer, name, out);
    if (operand(lexer, '}', operator == '#' || operator == '%', "syntax error: missing '}'", &word) < 0)
        return -1;
    const char *value = lookup(lexer, name);
    if (!value && (lexer->words->flags & WORDS_KEEP_UNSET)) {
        buf_addf(out, "${%s%s%c%s}", name, colon ? ":" : "", operator, word);
        return 0;
    }
    bool set = value && !(colon && !*value);
    switch (operator) {
    case '-': return emit(lexer, out, set ? value : word);
    case '+': return emit(lexer, out, set ? word : "");
    case '?': return demand(lexer, name, value, colon, word, out);
    default: return cut(lexer, value, operator, word, out);
    }
}

static int dollar(struct lexer *lexer, struct buf *out)
{
    lexer->at++;
    bool braces = *lexer->at == '{';
    lexer->at += braces;
    if (braces && !*lexer->at)
        return fail(lexer, "syntax error: missing '}'");
    if (braces && strchr("{}:", *lexer->at))
        return fail(lexer, "syntax error: bad substitution");
    const char *name = name_read(lexer);
    if (braces && *lexer->at != '}')
        return substitute(lexer, name, out);
    lexer->at += braces;
    if (!braces && !*name)
        return emit(lexer, out, "$");
    const char *value = lookup(lexer, name);
    if (!value && (lexer->words->flags & WORDS_KEEP_UNSET))
        buf_addf(out, braces ? "${%s}" : "$%s", name);
    return emit(lexer, out, value);
}

// ---- the text ----

static int double_quote(struct lexer *lexer, struct level *out)
{
    const struct words *words = lexer->words;
    struct buf text = BUF_INIT(WORDS_SIZE_MAX);
    int result = 0;
    if (words->flags & WORDS_RAW_QUOTES)
        buf_addc(&text, '"');
    lexer->at++;
    while (result == 0 && *lexer->at != '"') {
        if (!*lexer->at) {
            result = fail(lexer, "unexpected end of statement while looking for matching double-quote");
        } else if (*lexer->at == '$') {
            result = dollar(lexer, &text);
        } else if (*lexer->at == words->escape) {
            if (out->raw_escapes)
                buf_addc(&text, words->escape);
            lexer->at++;
            bool takes = *lexer->at == '"' || *lexer->at == '$' || *lexer->at == words->escape;
            if (*lexer->at)
                buf_addc(&text, takes ? *lexer->at : words->escape);
            lexer->at += takes;
        } else {
            buf_addc(&text, *lexer->at++);
        }
    }
    if (result == 0) {
        lexer->at++;
        if (words->flags & WORDS_RAW_QUOTES)
            buf_addc(&text, '"');
        put(out, buf_text(&text), text.size);
    }
    out->text.overflow |= text.overflow;
    buf_done(&text);
    return result;
}

static int variable(struct lexer *lexer, struct level *out)
{
    struct buf value = BUF_INIT(WORDS_SIZE_MAX);
    int result = dollar(lexer, &value);
    if (result == 0)
        put_loose(lexer, out, buf_text(&value), value.size);
    buf_done(&value);
    return result;
}

// "<<" keeps the blanks behind it, so that "<< EOF" is one word.
static int less_than(struct lexer *lexer, struct level *out)
{
    size_t size = 1;
    if (lexer->at[1] == '<')
        size = 2 + strspn(lexer->at + 2, "\t\r ");
    put(out, lexer->at, size);
    lexer->at += size;
    return 0;
}

static void escaped(struct lexer *lexer, struct level *out)
{
    if (out->raw_escapes)
        put(out, lexer->at, 1);
    lexer->at++;
    size_t size = *lexer->at ? MAX_OF(slice_utf8_len(slice_of(lexer->at)), (size_t)1) : 0;
    put(out, lexer->at, size);
    lexer->at += size;
}

static int one(struct lexer *lexer, struct level *out)
{
    bool quotes = !(lexer->words->flags & WORDS_PLAIN_QUOTES);
    switch (*lexer->at) {
    case '$': return variable(lexer, out);
    case '<': return less_than(lexer, out);
    case '\'':
        if (quotes)
            return single_quote(lexer, out);
        break;
    case '"':
        if (quotes)
            return double_quote(lexer, out);
        break;
    }
    if (*lexer->at == lexer->words->escape) {
        escaped(lexer, out);
    } else {
        size_t size = MAX_OF(blank_len(lexer->at), (size_t)1);
        put_loose(lexer, out, lexer->at, size);
        lexer->at += size;
    }
    return 0;
}

// The text up to `stop` (consumed), or to the end where it is 0.
static int until(struct lexer *lexer, char stop, struct level *out)
{
    if (++lexer->depth > WORDS_DEPTH_MAX)
        return err_set(lexer->err, ERR_INVALID_ARGUMENT, "substitutions are nested deeper than %d", WORDS_DEPTH_MAX);
    while (*lexer->at && (!stop || *lexer->at != stop))
        if (one(lexer, out) < 0)
            return -1;
    if (buf_check(&out->text, "a word of the Dockerfile", lexer->err) < 0 || memory_check(lexer->words->arena, lexer->err) < 0)
        return -1;
    if (stop && !*lexer->at)
        return err_set(lexer->err, ERR_INVALID_ARGUMENT, "unexpected end of statement while looking for matching %c", stop);
    lexer->at += stop != 0;
    lexer->depth--;
    return 0;
}

static int process(const struct words *words, const char *text, struct level *level, struct err *err)
{
    struct lexer lexer = { .words = words, .at = text, .err = err };
    level->raw_escapes = words->flags & WORDS_RAW_ESCAPES;
    if (until(&lexer, 0, level) < 0)
        return err_wrap(err, "failed to process %s", quoted(text, words->arena));
    word_end(level, words->arena);
    return 0;
}

int words_expand(const struct words *words, const char *text, const char **out, struct err *err)
{
    struct level level = { .text = BUF_INIT(WORDS_SIZE_MAX) };
    struct err local;
    int result = process(words, text, &level, err ? err : &local);
    if (result == 0)
        *out = arena_strdup(words->arena, buf_text(&level.text));
    buf_done(&level.text);
    return result;
}

int words_split(const struct words *words, const char *text, struct strv *out, struct err *err)
{
    struct level level = { .text = BUF_INIT(WORDS_SIZE_MAX), .word = BUF_INIT(WORDS_SIZE_MAX), .list = out };
    struct err local;
    *out = (struct strv){ 0 };
    int result = process(words, text, &level, err ? err : &local);
    buf_done(&level.text);
    buf_done(&level.word);
    return result;
}
