// What a compressed stream begins with. Private to the room.
#ifndef LAYER_FORMAT_H
#define LAYER_FORMAT_H

#include "layer/layer.h"

struct format {
    const char *name;
    size_t magic_size;
    unsigned char magic[LAYER_MAGIC_SIZE], mask[LAYER_MAGIC_SIZE];
    int filter; // of libarchive, 0: ours
};

const struct format *format_find(const unsigned char *start, size_t size); // NULL: plain

#endif
