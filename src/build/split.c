// Lines into words: the ways in which the instructions divide what stands behind their names.
#include <ctype.h>

#include "build/build_private.h"
#include "json/json.h"

// The blanks that divide words in a Dockerfile, where no quotes count.
static bool divides(char c)
{
    return c == '\t' || c == '\v' || c == '\f' || c == '\r' || c == ' ';
}

// One flag, unquoted, off *at. False (and *at where it was) when the next word is none.
static bool flag_take(const char **at, char escape, struct arena *arena, const char **out)
{
    const char *text = *at;
    char quote = 0;
    while (isspace((unsigned char)*text))
        text++;
    if (text[0] != '-' || text[1] != '-')
        return false;
    char *word = arena_alloc(arena, strlen(text) + 1);
    size_t size = 0;
    for (; *text && (quote || !isspace((unsigned char)*text)); text++) {
        if (*text == quote) {
            quote = 0;
        } else if (!quote && (*text == '\'' || *text == '"')) {
            quote = *text;
        } else if (*text == escape) {
            if (!*++text)
                break;
            word[size++] = *text;
        } else {
            word[size++] = *text;
        }
    }
    *at = text;
    *out = word;
    return true;
}

void line_split(struct line *line, char escape, struct arena *arena)
{
    const char *at = line->text.data, *flag;
    while (*at && !divides(*at))
        at++;
    line->name = arena_strndup(arena, line->text.data, (size_t)(at - line->text.data));
    while (flag_take(&at, escape, arena, &flag) && !str_eq(flag, "--"))
        strv_push_arena(&line->flags, arena, flag);
    struct slice rest = blank_trim(slice_of(at));
    line->rest = arena_strndup(arena, rest.data, rest.size);
}

bool line_takes_heredocs(const struct line *line, char escape, struct arena *arena)
{
    static const char *const names[] = { "ADD", "COPY", "RUN" };
    struct strv words = { 0 };
    if (strcasecmp(line->name, "ONBUILD") == 0) {
        struct line inner = { .text = slice_of(line->rest) };
        line_split(&inner, escape, arena);
        return strcasecmp(inner.name, "ONBUILD") != 0 && line_takes_heredocs(&inner, escape, arena);
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcasecmp(line->name, names[i]) == 0)
            return split_json(line->rest, arena, &words, NULL) == 0;
    return false;
}

// ---- words ----

void split_blanks(const char *text, struct arena *arena, struct strv *out)
{
    *out = (struct strv){ 0 };
    while (*text) {
        const char *start = text;
        while (*text && !divides(*text))
            text++;
        strv_push_arena(out, arena, arena_strndup(arena, start, (size_t)(text - start)));
        while (divides(*text))
            text++;
    }
}

// The end of the word at `text`: at a blank that neither quotes nor an escape protect.
static const char *word_end(const char *text, char escape, char *dropped)
{
    char quote = 0;
    *dropped = 0;
    while (*text && (quote || !blank_len(text))) {
        if (*text == quote)
            quote = 0;
        else if (!quote && (*text == '\'' || *text == '"'))
            quote = *text;
        else if (*text == escape && text[1])
            text++;
        else if (*text == escape)
            *dropped = escape; // an escape at the very end is nothing
        text++;
    }
    return text;
}

void split_words(const char *text, char escape, struct arena *arena, struct strv *out)
{
    *out = (struct strv){ 0 };
    for (;;) {
        char dropped;
        while (blank_len(text))
            text += blank_len(text);
        if (!*text)
            return;
        const char *end = word_end(text, escape, &dropped);
        size_t size = (size_t)(end - text) - (dropped != 0);
        if (size)
            strv_push_arena(out, arena, arena_strndup(arena, text, size));
        text = end;
    }
}

int split_json(const char *text, struct arena *arena, struct strv *out, struct err *err)
{
    _cleanup_json_ json_t *list = NULL;
    size_t i;
    json_t *item;
    while (isspace((unsigned char)*text))
        text++;
    if (*text != '[' || json_parse(text, strlen(text), &list, NULL) < 0)
        return 0;
    *out = (struct strv){ 0 };
    json_array_foreach(list, i, item) {
        if (!json_is_string(item))
            return err_set(err, ERR_INVALID_ARGUMENT, "when using JSON array syntax, arrays must be comprised of strings only");
        strv_push_arena(out, arena, json_string_value(item));
    }
    return 1;
}

// A quoted field from behind its first quote; NULL when it does not end.
static const char *csv_quoted(const char *text, struct buf *field)
{
    for (;; text++) {
        if (!*text)
            return NULL;
        if (*text == '"' && text[1] != '"')
            return text + 1;
        text += *text == '"';
        buf_addc(field, *text);
    }
}

int split_csv(const char *text, struct arena *arena, struct strv *out, struct err *err)
{
    const char *at = text;
    _cleanup_buf_ struct buf field = BUF_INIT(DOCKERFILE_SIZE_MAX);
    *out = (struct strv){ 0 };
    for (;; at++) {
        buf_clear(&field);
        if (*at == '"') {
            const char *end = csv_quoted(at + 1, &field);
            if (!end || (*end && *end != ','))
                return err_set(err, ERR_INVALID_ARGUMENT, "parse error on line 1, column %zu: extraneous or missing \" in quoted-field", strlen(text));
            at = end;
        } else {
            size_t size = strcspn(at, ",\"");
            if (at[size] == '"')
                return err_set(err, ERR_INVALID_ARGUMENT, "parse error on line 1, column %zu: bare \" in non-quoted-field", (size_t)(at - text) + size + 1);
            buf_add(&field, at, size);
            at += size;
        }
        strv_push_arena(out, arena, buf_text(&field));
        if (!*at)
            return 0;
    }
}

// ---- heredocs ----

static size_t quotes_in(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += *text == '\'' || *text == '"';
    return count;
}

int heredoc_parse(const char *word, struct arena *arena, struct heredoc *out, struct err *err)
{
    struct words plain = { .arena = arena, .escape = '\\', .flags = WORDS_KEEP_UNSET }, raw = plain;
    struct strv names, raw_names;
    uint64_t fd = 0;
    size_t digits = strspn(word, "0123456789");
    raw.flags |= WORDS_RAW_QUOTES;
    if (!str_starts(word + digits, "<<"))
        return 0;
    const char *name = word + digits + 2;
    bool chomp = *name == '-';
    name += chomp;
    while (isspace((unsigned char)*name))
        name++;
    if (!*name || strchr(name, '<'))
        return 0;
    if (digits && !num_parse_u64((struct slice){ word, digits }, 0xffff, &fd))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid descriptor of a heredoc: %.*s", (int)MIN_OF(digits, (size_t)64), word);
    if (words_split(&plain, name, &names, err) < 0 || words_split(&raw, name, &raw_names, err) < 0)
        return -1;
    if (names.len != 1 || raw_names.len != 1)
        return 0;
    // Quotes that are gone without raw_quotes were quotes.
    *out = (struct heredoc){ .name = names.items[0], .fd = (unsigned)fd, .chomp = chomp, .content = "",
                             .expand = quotes_in(names.items[0]) == quotes_in(raw_names.items[0]) };
    return 1;
}

int line_heredocs(const char *text, struct arena *arena, struct heredocs *out, struct err *err)
{
    struct words words = { .arena = arena, .escape = '\\', .flags = WORDS_RAW_QUOTES | WORDS_RAW_ESCAPES | WORDS_KEEP_UNSET };
    struct strv list;
    *out = (struct heredocs){ 0 };
    if (words_split(&words, text, &list, NULL) < 0)
        return 0; // a shell's own business
    struct heredoc docs[DOCKERFILE_HEREDOCS_MAX];
    for (size_t i = 0; i < list.len; i++) {
        struct heredoc doc;
        int found = heredoc_parse(list.items[i], arena, &doc, err);
        if (found < 0)
            return -1;
        if (found && out->len == ARRAY_LEN(docs))
            return err_set(err, ERR_INVALID_ARGUMENT, "more than %d heredocs in one line", DOCKERFILE_HEREDOCS_MAX);
        if (found)
            docs[out->len++] = doc;
    }
    out->items = arena_alloc(arena, (out->len + 1) * sizeof(*docs));
    memcpy(out->items, docs, out->len * sizeof(*docs));
    return 0;
}

const char *heredoc_content(const struct heredoc *doc, struct arena *arena)
{
    if (!doc->chomp)
        return doc->content;
    char *out = arena_alloc(arena, strlen(doc->content) + 1);
    size_t size = 0;
    for (const char *at = doc->content; *at;) {
        at += strspn(at, "\t");
        size_t line = strcspn(at, "\n");
        line += at[line] == '\n';
        memcpy(out + size, at, line);
        size += line;
        at += line;
    }
    return out;
}
