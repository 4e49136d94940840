#include "base/slice.h"

bool slice_eq(struct slice slice, const char *text)
{
    return slice.size == strlen(text) && (slice.size == 0 || memcmp(slice.data, text, slice.size) == 0);
}

bool slice_starts(struct slice slice, const char *prefix)
{
    size_t size = strlen(prefix);
    return slice.size >= size && (size == 0 || memcmp(slice.data, prefix, size) == 0);
}

bool slice_cut(struct slice *rest, char separator, struct slice *part)
{
    if (!rest->data)
        return false;
    const char *at = rest->size ? memchr(rest->data, separator, rest->size) : NULL;
    if (!at) {
        *part = *rest;
        *rest = (struct slice){ 0 };
        return true;
    }
    size_t before = (size_t)(at - rest->data);
    *part = (struct slice){ rest->data, before };
    *rest = (struct slice){ at + 1, rest->size - before - 1 };
    return true;
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice slice_trim(struct slice slice)
{
    while (slice.size && blank(slice.data[0])) {
        slice.data++;
        slice.size--;
    }
    while (slice.size && blank(slice.data[slice.size - 1]))
        slice.size--;
    return slice;
}

struct slice slice_utf8_head(struct slice slice, size_t max)
{
    if (slice.size <= max)
        return slice;
    // A byte 10xxxxxx continues a character; the cut moves to before its first byte, three steps at most.
    for (int i = 0; i < 3 && max > 0 && ((unsigned char)slice.data[max] & 0xc0) == 0x80; i++)
        max--;
    return (struct slice){ slice.data, max };
}

size_t slice_utf8_len(struct slice slice)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    unsigned char first = slice.size ? (unsigned char)slice.data[0] : 0xff;
    size_t len = first < 0x80 ? 1 : first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3 : first >> 3 == 30 ? 4 : 0;
    if (len < 2)
        return len;
    if (len > slice.size)
        return 0;
    uint32_t code = first & (0x7fU >> len);
    for (size_t i = 1; i < len; i++) {
        unsigned char next = (unsigned char)slice.data[i];
        if (next >> 6 != 2)
            return 0;
        code = code << 6 | (next & 0x3fU);
    }
    bool surrogate = code >= 0xd800 && code <= 0xdfff;
    return code < least[len] || code > 0x10ffff || surrogate ? 0 : len;
}
