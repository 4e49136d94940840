#include <ctype.h>

#include "words.h"
#include "base/buf.h"

#define WORD_MAX ((size_t)256 << 10) // bytes
#define NESTING_MAX 16

int change_words(const char *text, struct arena *arena, struct strv *out, struct err *err)
{
    for (const char *at = text; *(at += strspn(at, " \t"));) {
        const char *start = at;
        char quote = 0;
        for (; *at && (quote || !strchr(" \t", *at)); at++) {
            if (*at == '\\' && quote != '\'' && at[1])
                at++;
            else if (quote && *at == quote)
                quote = 0;
            else if (!quote && (*at == '"' || *at == '\''))
                quote = *at;
        }
        if (quote)
            return err_set(err, ERR_INVALID_ARGUMENT, "unterminated quote: %.128s", start);
        strv_push_arena(out, arena, arena_strndup(arena, start, (size_t)(at - start)));
    }
    return 0;
}

struct expander {
    const char *at;
    const struct strv *env;
    struct arena *arena;
    struct buf out;
    int depth;
};

static int expand(struct expander *expander, char end, struct err *err);

static size_t name_size(const char *text)
{
    size_t size = 0;
    while (isalnum((unsigned char)text[size]) || text[size] == '_')
        size++;
    return size;
}

// Behind "${name": a modifier and its word, or "}".
static int expand_braced(struct expander *expander, const char *value, struct err *err)
{
    bool empty_counts = *expander->at == ':';
    if (empty_counts)
        expander->at++;
    char modifier = *expander->at;
    if (modifier == '}' && !empty_counts) {
        buf_adds(&expander->out, value ? value : "");
        expander->at++;
        return 0;
    }
    if (modifier != '-' && modifier != '+')
        return err_set(err, ERR_INVALID_ARGUMENT, "unsupported modifier in substitution: %.64s", expander->at);
    expander->at++;
    bool set = value && (*value || !empty_counts);
    if (set && modifier == '-')
        buf_adds(&expander->out, value);
    size_t before = expander->out.size;
    if (expand(expander, '}', err) < 0)
        return -1;
    if (set == (modifier == '-')) {
        expander->out.size = before; // the word was only read over
        buf_addc(&expander->out, '\0');
        expander->out.size = before;
    }
    return 0;
}

static int expand_variable(struct expander *expander, struct err *err)
{
    bool braced = *++expander->at == '{';
    expander->at += braced;
    size_t size = name_size(expander->at);
    if (size == 0 && !braced) {
        buf_addc(&expander->out, '$');
        return 0;
    }
    const char *name = arena_strndup(expander->arena, expander->at, size);
    const char *value = strv_env(expander->env, name);
    expander->at += size;
    if (!braced) {
        buf_adds(&expander->out, value ? value : "");
        return 0;
    }
    if (size == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "bad substitution");
    return expand_braced(expander, value, err);
}

// Between double quotes a backslash keeps its meaning before these only.
static bool escapes(char quote, char next)
{
    return quote == 0 || (quote == '"' && next && strchr("\"$\\", next));
}

static int expand(struct expander *expander, char end, struct err *err)
{
    char quote = 0;
    if (++expander->depth > NESTING_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "substitutions are nested too deep");
    while (*expander->at && (quote || !end || *expander->at != end)) {
        char c = *expander->at;
        if (c == '$' && quote != '\'') {
            if (expand_variable(expander, err) < 0)
                return -1;
            continue;
        }
        expander->at++;
        if (quote ? c == quote : c == '"' || c == '\'') {
            quote = quote ? 0 : c;
        } else if (c == '\\' && *expander->at && escapes(quote, *expander->at)) {
            buf_addc(&expander->out, *expander->at++);
        } else {
            buf_addc(&expander->out, c);
        }
    }
    expander->depth--;
    if (quote || (end && *expander->at != end))
        return err_set(err, ERR_INVALID_ARGUMENT, "unterminated %s", quote ? "quote" : "substitution");
    expander->at += end != 0;
    return 0;
}

int change_word_expand(const char *word, const struct strv *env, struct arena *arena, char **out, struct err *err)
{
    struct expander expander = { .at = word, .env = env, .arena = arena, .out = BUF_INIT(WORD_MAX) };
    int done = expand(&expander, 0, err);
    if (done == 0)
        done = buf_check(&expander.out, word, err);
    if (done == 0)
        *out = arena_strdup(arena, buf_text(&expander.out));
    buf_done(&expander.out);
    return done;
}
