// A layer's tar on its way out: as it is, by gzip or by zstd. The same bytes for the same input and level. Private to the room.
#ifndef TRANSFER_SQUEEZE_H
#define TRANSFER_SQUEEZE_H

#include "gzip.h"

struct squeeze_form {
    enum { SQUEEZE_NONE, SQUEEZE_GZIP, SQUEEZE_ZSTD } kind;
    int level; // gzip's 0 to 9, zstd's 1 to 22; -1: a fast one
};
// "uncompressed", "gzip", "zstd". invalid_argument: another, or a level that it has not.
int squeeze_parse(const char *kind, int level, struct squeeze_form *out, struct err *err);

struct squeeze;
struct squeeze *squeeze_new(const struct squeeze_form *form, gzip_sink_fn *sink, void *context); // never NULL
int squeeze_write(struct squeeze *squeeze, const void *data, size_t size, struct err *err);
int squeeze_end(struct squeeze *squeeze, struct err *err); // the rest, into the sink
void squeeze_free(struct squeeze *squeeze);

#endif
