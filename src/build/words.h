// Words of a Dockerfile: quotes, escapes and variables, as a shell has them.
//
//     $v ${v}                 the value; unset is empty
//     ${v:-w} ${v-w}          w where v is unset (with ':' also where it is empty)
//     ${v:+w} ${v+w}          w where v is set (with ':' and not empty), else nothing
//     ${v:?w} ${v?w}          an error with the text w where v is unset (with ':' or empty)
//     ${v#p} ${v##p}          without the shortest (longest) head that matches p
//     ${v%p} ${v%%p}          without the shortest (longest) tail that matches p
//     ${v/p/r} ${v//p/r}      the first (every) longest match of p replaced by r
//
// w, p and r are words themselves, nested to at most WORDS_DEPTH_MAX. In p '*' is any text, '?' one character, '\' makes
// the next one plain. Single quotes stop everything, double quotes all but '$' and the escape.
#ifndef BUILD_WORDS_H
#define BUILD_WORDS_H

#include "base/err.h"
#include "base/strv.h"

#define WORDS_DEPTH_MAX 64
#define WORDS_SIZE_MAX (4 << 20) // bytes of one result
#define WORDS_NOTES_MAX 1024 // names that are noted

enum words_flags {
    WORDS_RAW_QUOTES = 1, // quotes stay in the result
    WORDS_RAW_ESCAPES = 2, // escapes stay in the result
    WORDS_PLAIN_QUOTES = 4, // quotes have no meaning (contents of heredocs)
    WORDS_KEEP_UNSET = 8, // what names an unset variable stays as it is written
};

struct words {
    struct arena *arena; // of the results
    char escape; // '\\' or '`'
    unsigned flags;
    const char *(*lookup)(void *of, const char *name); // NULL: unset; the text must live as long as the call
    void *of;
    struct strv *matched; // NULL, or gets the names that were looked up and set (each once, in the arena)
    struct strv *unmatched; // likewise those that were not
};

// The whole text as one word. Returns 0, or -1 with *err in Docker's words ("failed to process \"${a:?b}\": a: b").
int words_expand(const struct words *words, const char *text, const char **out, struct err *err);
// The text as a list of words, split at blanks after the expansion (quoted blanks don't split).
int words_split(const struct words *words, const char *text, struct strv *out, struct err *err);

#endif
