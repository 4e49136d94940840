// Words of a Dockerfile instruction: blanks, quotes, backslashes, variables. Private to the room.
#ifndef TRANSFER_WORDS_H
#define TRANSFER_WORDS_H

#include "base/err.h"
#include "base/strv.h"

// Splits at blanks outside of quotes; quotes and backslashes stay in the words.
int change_words(const char *text, struct arena *arena, struct strv *out, struct err *err);
// Takes quotes and backslashes away and puts in $name, ${name}, ${name:-word}, ${name-word}, ${name:+word} and
// ${name+word} from `env` (an unknown name is empty), except between single quotes.
int change_word_expand(const char *word, const struct strv *env, struct arena *arena, char **out, struct err *err);

#endif
