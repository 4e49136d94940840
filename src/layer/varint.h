// Numbers of variable size, as recipes have them.
#ifndef LAYER_VARINT_H
#define LAYER_VARINT_H

#include "base/defs.h"

#define VARINT_MAX 10 // bytes of the longest

static inline size_t varint_put(unsigned char *out, uint64_t value)
{
    size_t size = 0;
    for (; value > 0x7f; value >>= 7)
        out[size++] = (unsigned char)(value | 0x80);
    out[size++] = (unsigned char)value;
    return size;
}

// A signed number with its sign in the lowest bit: small ones of both signs stay short.
static inline uint64_t varint_fold(int64_t value)
{
    return ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0);
}

static inline int64_t varint_unfold(uint64_t value)
{
    return (int64_t)((value >> 1) ^ (value & 1 ? UINT64_MAX : 0));
}

#endif
