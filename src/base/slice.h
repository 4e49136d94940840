// A view of bytes that somebody else owns: what parsers work on.
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include "base/defs.h"

struct slice {
    const char *data;
    size_t size;
};

static inline struct slice slice_of(const char *text)
{
    return (struct slice){ text, text ? strlen(text) : 0 };
}
bool slice_eq(struct slice slice, const char *text);
bool slice_starts(struct slice slice, const char *prefix);
// Cuts the part before the first `separator` off *rest and returns it; the whole rest when there is none.
// False once *rest is used up (data == NULL).
bool slice_cut(struct slice *rest, char separator, struct slice *part);
struct slice slice_trim(struct slice slice); // ASCII blanks at both ends
// The first `max` bytes at most, shortened further where that would end inside a UTF-8 character.
struct slice slice_utf8_head(struct slice slice, size_t max);
// Bytes of the UTF-8 character at the start: 1 to 4; 0 when there is none or it is malformed (overlong, surrogate, cut
// off).
size_t slice_utf8_len(struct slice slice);

#endif
