// A descriptor, or another reader, as a layer_read_fn, hashed and counted on its way. Private to the room.
#ifndef TRANSFER_SOURCE_H
#define TRANSFER_SOURCE_H

#include <stdio.h>

#include "layer/layer.h"

#define SOURCE_BUFFER_SIZE (256 * 1024)

struct source {
    int fd;
    layer_read_fn *below; // read instead of `fd`, if set
    void *below_context;
    struct layer_digest *digest; // NULL: not asked for; the owner frees
    int keep_fd; // gets all that is read; 0: nothing does
    struct layer_bound *bound; // counts what comes; NULL: it came from inside
    // Progress lines while it is read: NULL report means none.
    FILE *report;
    const char *id, *status;
    int64_t at, total, reported;
};

ssize_t source_read(void *source, void *data, size_t size, struct err *err);
// Reads what an inflater has left at the end, so that the digest covers all of it.
int source_drain(struct source *source, struct err *err);

#endif
