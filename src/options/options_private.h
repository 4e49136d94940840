// What the options' files share: setting one value.
#ifndef OPTIONS_OPTIONS_PRIVATE_H
#define OPTIONS_OPTIONS_PRIVATE_H

#include "base/num.h"
#include "base/slice.h"
#include "options/options.h"

// One value of a row, from either side; lists grow by it. The error names no flag or key: the caller does.
int option_set(struct options *options, const struct option_row *row, const char *text, struct err *err);
// Any of the words of a list with '|' between them fits: as a pattern, or exactly.
bool option_fits(const char *words, const char *value);
const struct option_row *option_by_flag(const char *flag);
const struct option_row *option_by_key(const char *key);

#endif
