// A client's tar that may be compressed, as plain bytes (inflate.c).
#ifndef ENGINE_INFLATE_H
#define ENGINE_INFLATE_H

#include "engine_private.h"

struct inflate {
    struct engine *engine;
    struct process process;
    char *staging;
    int fd; // plain bytes; -1: what came in is plain
};
#define INFLATE_INIT(of_engine) { .engine = (of_engine), .process = PROCESS_NONE, .fd = -1 }
// Looks at what the pipe `input_fd` begins with, waiting for it, and takes nothing out. Compressed: the image worker reads it.
int inflate_start(struct inflate *inflate, int input_fd, const struct cancel *cancel, struct err *err);
// The same as inflate_start() of a file that is known to be compressed, and from its beginning.
int inflate_file(struct inflate *inflate, int file_fd, struct err *err);
void inflate_done(struct inflate *inflate);

#endif
