// gzip by ISA-L, unless asked for at its fastest level: a push waits for the network, not for the last few percent. The same bytes for the same input.
// Private to the room.
#ifndef TRANSFER_GZIP_H
#define TRANSFER_GZIP_H

#include "base/err.h"

typedef int gzip_sink_fn(void *context, const void *data, size_t size, struct err *err);

struct gzip;
struct gzip *gzip_new(gzip_sink_fn *sink, void *context); // never NULL
struct gzip *gzip_new_level(int level, gzip_sink_fn *sink, void *context); // of gzip's 0 to 9; ISA-L has three of them. -1: as above
int gzip_write(struct gzip *gzip, const void *data, size_t size, struct err *err);
int gzip_end(struct gzip *gzip, struct err *err); // the rest, into the sink
void gzip_free(struct gzip *gzip);

#endif
