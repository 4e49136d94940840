// Reads the tar of an image's root (untar.c).
#ifndef BUILDKIT_UNTAR_H
#define BUILDKIT_UNTAR_H

#include "buildkit_private.h"

#define UNTAR_BLOCK 512

struct untar {
    struct files_sink sink;
    struct arena arena; // of the entry
    struct stat_message stat;
    struct buf records; // pax records of the next entry
    char head[UNTAR_BLOCK];
    size_t head_size;
    int64_t size; // left of the content; -1: a head comes
    size_t padding;
    bool in_records, ended;
};
void untar_init(struct untar *untar, const struct files_sink *sink); // an entry's texts are valid until its end
int untar_add(struct untar *untar, const char *data, size_t size, struct err *err);
int untar_end(const struct untar *untar, struct err *err); // internal: there is more to come
void untar_done(struct untar *untar);

#endif
