// Regular expressions of strangers, by glibc: bounded, because its compiler recurses for each parenthesis, on a connection's small
// stack, and copies what a count repeats; a back reference makes matching exponential.
#ifndef BASE_PATTERN_H
#define BASE_PATTERN_H

#include <regex.h>

#include "base/err.h"

// An extended one, with Go's "(?i)" at its beginning and "\\d" understood. For regexec() without sub-matches; freed by regfree().
// invalid_argument.
int pattern_compile(const char *text, regex_t *out, struct err *err);
bool pattern_fits(const regex_t *pattern, const char *subject);

#endif
