// What the archive worker tells of files with their contents (build/listing.h's struct listing_frame), out of a pipe and piece by piece.
#ifndef ENGINE_FRAMES_H
#define ENGINE_FRAMES_H

#include "base/buf.h"
#include "base/slice.h"
#include "build/listing.h"

#define FRAMES_RECORD_MAX ((size_t)16 << 20)

struct frames {
    struct buf record; // BUF_INIT(FRAMES_RECORD_MAX); the caller's to free
    // `file`: it has a content, which may be empty.
    void (*begin)(void *of, struct slice record, bool file);
    void (*content)(void *of, const char *data, size_t size);
    void (*end)(void *of, bool file);
    void *of;
    // of the one under way
    char head[sizeof(struct listing_frame)];
    size_t head_size, record_left;
    uint64_t content_left;
    bool file;
};
int frames_take(void *frames, int pipe_fd, size_t size); // a worker_pipe_fn

#endif
