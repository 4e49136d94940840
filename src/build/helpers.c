#include <ctype.h>
#include <strings.h>

#include "build/build_private.h"

size_t blank_len(const char *text)
{
    // U+0085 U+00A0 U+1680 U+2000-200A U+2028 U+2029 U+202F U+205F U+3000
    static const char *const wide[] = { "\xc2\x85", "\xc2\xa0", "\xe1\x9a\x80", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80" };
    unsigned char first = (unsigned char)*text;
    if (first < 0x80)
        return first == ' ' || (first >= '\t' && first <= '\r') ? 1 : 0;
    if (str_starts(text, "\xe2\x80") && (unsigned char)text[2] >= 0x80 && (unsigned char)text[2] <= 0x8a)
        return 3;
    for (size_t i = 0; i < ARRAY_LEN(wide); i++)
        if (str_starts(text, wide[i]))
            return strlen(wide[i]);
    return 0;
}

struct slice blank_trim(struct slice text)
{
    while (text.size && (text.data[0] == ' ' || (text.data[0] >= '\t' && text.data[0] <= '\r'))) {
        text.data++;
        text.size--;
    }
    while (text.size && (text.data[text.size - 1] == ' ' || (text.data[text.size - 1] >= '\t' && text.data[text.size - 1] <= '\r')))
        text.size--;
    return text;
}

const char *quoted(const char *text, struct arena *arena)
{
    _cleanup_buf_ struct buf out = BUF_INIT(4096);
    size_t size = slice_utf8_head(slice_of(text), 512).size; // messages hold a thousand bytes
    _cleanup_free_ char *head = mem_strndup(text, size);
    buf_add_quoted(&out, head);
    return arena_strdup(arena, buf_text(&out));
}

static const char *cased(const char *text, int (*convert)(int), struct arena *arena)
{
    char *copy = arena_strdup(arena, text);
    for (char *c = copy; *c; c++)
        if ((unsigned char)*c < 0x80)
            *c = (char)convert((unsigned char)*c);
    return copy;
}

const char *lower_case(const char *text, struct arena *arena)
{
    return cased(text, tolower, arena);
}

const char *upper_case(const char *text, struct arena *arena)
{
    return cased(text, toupper, arena);
}

// Edits from one text to the other, as long as neither is long enough to matter.
static unsigned distance(const char *a, const char *b)
{
    unsigned row[64];
    size_t a_size = strlen(a), b_size = strlen(b);
    if (a_size >= ARRAY_LEN(row) || b_size >= ARRAY_LEN(row))
        return 99;
    for (unsigned j = 0; j <= b_size; j++)
        row[j] = j;
    for (size_t i = 0; i < a_size; i++) {
        unsigned corner = row[0]++;
        for (size_t j = 0; j < b_size; j++) {
            unsigned change = corner + (a[i] != b[j]);
            corner = row[j + 1];
            row[j + 1] = MIN_OF(change, MIN_OF(corner, row[j]) + 1);
        }
    }
    return row[b_size];
}

const char *dockerfile_suggest(const char *word, const struct strv *options, bool with_case, struct arena *arena)
{
    const char *wanted = with_case ? word : lower_case(word, arena);
    const char *best = NULL;
    unsigned least = 3;
    for (size_t i = 0; i < options->len; i++) {
        const char *option = with_case ? options->items[i] : lower_case(options->items[i], arena);
        unsigned edits = distance(wanted, option);
        if (edits == 0)
            return NULL;
        bool same_start = best && option[0] == wanted[0] && best[0] != wanted[0]; // "rnu" is more likely RUN than ENV
        if (edits < least || (edits == least && same_start)) {
            least = edits;
            best = option;
        }
    }
    if (best && !with_case && str_eq(word, upper_case(word, arena)) && !str_eq(word, wanted))
        best = upper_case(best, arena);
    return best;
}

int err_suggest(struct err *err, const char *message, const char *word, const struct strv *options, bool with_case, struct arena *arena)
{
    const char *best = dockerfile_suggest(word, options, with_case, arena);
    return best ? err_set(err, ERR_INVALID_ARGUMENT, "%s (did you mean %s?)", message, best)
                : err_set(err, ERR_INVALID_ARGUMENT, "%s", message);
}

bool parse_switch(const char *text, bool *out)
{
    static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" }, *const no[] = { "0", "f", "F", "FALSE", "false", "False" };
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        if (str_eq(text, yes[i]) || str_eq(text, no[i])) {
            *out = str_eq(text, yes[i]);
            return true;
        }
    return false;
}

bool digits_only(const char *text)
{
    return *text && !text[strspn(text, "0123456789")];
}

int memory_check(const struct arena *arena, struct err *err)
{
    if (arena->used <= BUILD_MEMORY_MAX)
        return 0;
    return err_set(err, ERR_RESOURCE_EXHAUSTED, "the Dockerfile needs more than %zu MiB of memory", BUILD_MEMORY_MAX >> 20);
}
