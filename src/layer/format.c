// Without the libraries that inflate, so that the daemon may look too.
#include <archive.h>

#include "format.h"

static const struct format formats[] = {
    { "gzip", 3, { 0x1f, 0x8b, 8 }, { 0xff, 0xff, 0xff }, 0 },
    { "zstd", 4, { 0x28, 0xb5, 0x2f, 0xfd }, { 0xff, 0xff, 0xff, 0xff }, ARCHIVE_FILTER_ZSTD },
    { "zstd", 4, { 0x50, 0x2a, 0x4d, 0x18 }, { 0xf0, 0xff, 0xff, 0xff }, ARCHIVE_FILTER_ZSTD }, // a skippable frame first
    { "xz", 6, { 0xfd, '7', 'z', 'X', 'Z', 0 }, { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, ARCHIVE_FILTER_XZ },
    // "BZh", the level, then the first bytes of a block or of the end of an empty stream: a tar may start with a file
    // "BZh".
    { "bzip2", 6, { 'B', 'Z', 'h', 0x30, 0x31, 0x41 }, { 0xff, 0xff, 0xff, 0xf0, 0xff, 0xff }, ARCHIVE_FILTER_BZIP2 },
    { "bzip2", 6, { 'B', 'Z', 'h', 0x30, 0x17, 0x72 }, { 0xff, 0xff, 0xff, 0xf0, 0xff, 0xff }, ARCHIVE_FILTER_BZIP2 },
};

const struct format *format_find(const unsigned char *start, size_t size)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        const struct format *format = &formats[i];
        size_t same = 0;
        while (same < format->magic_size && same < size && (start[same] & format->mask[same]) == format->magic[same])
            same++;
        if (same == format->magic_size)
            return format;
    }
    return NULL;
}

bool layer_is_compressed(const void *start, size_t size)
{
    return format_find(start, size) != NULL;
}
