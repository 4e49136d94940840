#include "frames.h"

#include "base/fd.h"

static size_t take_head(struct frames *frames, const char *data, size_t size)
{
    struct listing_frame head;
    size_t part = MIN_OF(size, sizeof(head) - frames->head_size);
    memcpy(frames->head + frames->head_size, data, part);
    frames->head_size += part;
    if (frames->head_size < sizeof(head))
        return part;
    memcpy(&head, frames->head, sizeof(head));
    frames->head_size = 0;
    frames->record_left = head.size;
    frames->content_left = head.content;
    frames->file = head.file;
    buf_clear(&frames->record);
    return part;
}

static size_t take_record(struct frames *frames, const char *data, size_t size)
{
    size_t part = MIN_OF(size, frames->record_left);
    buf_add(&frames->record, data, part);
    frames->record_left -= part;
    if (frames->record_left > 0)
        return part;
    frames->begin(frames->of, (struct slice){ buf_text(&frames->record), frames->record.size }, frames->file);
    if (frames->content_left == 0)
        frames->end(frames->of, frames->file);
    return part;
}

static size_t take_content(struct frames *frames, const char *data, size_t size)
{
    size_t part = (size_t)MIN_OF((uint64_t)size, frames->content_left);
    frames->content(frames->of, data, part);
    frames->content_left -= part;
    if (frames->content_left == 0)
        frames->end(frames->of, frames->file);
    return part;
}

int frames_take(void *context, int pipe_fd, size_t size)
{
    struct frames *frames = context;
    char chunk[65536];
    for (size_t left = size; left > 0;) {
        ssize_t got = fd_read_full(pipe_fd, chunk, MIN_OF(left, sizeof(chunk)), NULL);
        if (got <= 0)
            return -1;
        for (size_t at = 0; at < (size_t)got;) {
            const char *data = chunk + at;
            size_t rest = (size_t)got - at;
            at += frames->record_left ? take_record(frames, data, rest) : frames->content_left ? take_content(frames, data, rest) : take_head(frames, data, rest);
        }
        left -= (size_t)got;
    }
    return 0;
}
