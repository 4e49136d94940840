// .dockerignore and --exclude: which paths of a context are left out.
//
// The file: a pattern a line, blanks around it off, '#' in the first column a comment, '!' in front takes back. Patterns are cleaned
// (a/./b, a//b, a/../b), a leading '/' says nothing. '*' and '?' stay within a path's part, '[a-z]' and '[^a]' are classes,
// '**' is any number of parts, '\' makes the next character plain. A pattern that matches a folder matches what is below it;
// **the last pattern that matches decides**.
//
// Bounds: IGNORE_PATTERNS_MAX patterns of IGNORE_PATTERN_SIZE_MAX bytes. Matching takes time in proportion to pattern times path, never more.
#ifndef BUILD_IGNORE_H
#define BUILD_IGNORE_H

#include "base/err.h"
#include "base/slice.h"
#include "base/strv.h"

#define IGNORE_PATTERNS_MAX 100000
#define IGNORE_PATTERN_SIZE_MAX 65535

struct ignore;

// Reads a .dockerignore. An empty one (out->len 0) leaves nothing out.
int ignore_parse(struct slice file, struct arena *arena, struct ignore **out, struct err *err);
// From patterns, as --exclude has them.
int ignore_new(const struct strv *patterns, struct arena *arena, struct ignore **out, struct err *err);

// Whether the slash-separated relative path is left out, by itself or with a folder above it. "." never is.
bool ignore_match(const struct ignore *ignore, const char *path);

// The same for a walk that goes down from the top, without asking again about the folders above. What a '!' says of a folder that nothing has
// left out so far is forgotten below it, as in Docker's own walk; else both agree.
//     above: ignore_len() flags as the parent's call filled them; NULL at the top
//     mine:  the same for this path, to be handed to its children
size_t ignore_len(const struct ignore *ignore);
bool ignore_match_below(const struct ignore *ignore, const char *path, const bool *above, bool *mine);
// Whether a folder that is left out must be walked all the same, because a '!' may take back something below it.
bool ignore_takes_back_below(const struct ignore *ignore, const char *folder);
bool ignore_has_exceptions(const struct ignore *ignore);
// Whether a pattern leaves out everything at the top ("*", "**", "**/*").
bool ignore_hides_root(const struct ignore *ignore);

#endif
