// Graylog's form of a line: JSON, in datagrams compressed and cut.
#include <endian.h>
#include <stdio.h>
#include <zlib.h>

#include "shim/log.h"

#define PIECE_SIZE 1420 // a datagram, with its head, that no usual network cuts
#define PIECES_MAX 128
#define HEAD_SIZE 12
#define WINDOW_ZLIB 15
#define WINDOW_GZIP (15 + 16) // zlib's word for a gzip header
#define MEMORY_LEVEL 8

void gelf_format(const struct task_log *wish, const struct log_entry *entry, uint64_t number, struct buf *out)
{
    if (!entry->text.size)
        return; // Graylog takes no message without a text
    buf_adds(out, "{\"version\":\"1.1\",\"short_message\":\"");
    char *start = buf_reserve(out, entry->text.size * LOG_ESCAPE_MAX);
    if (!start)
        return;
    buf_commit(out, (size_t)(log_escape(start, entry->text) - start));
    buf_addf(out, "\",\"timestamp\":%lld.%03d,\"level\":%d", (long long)(entry->time_ns / NS_PER_S),
             (int)(entry->time_ns % NS_PER_S / NS_PER_MS), entry->stream == LOG_STDERR ? 3 : 6);
    if (!str_empty(wish->attrs) && !str_eq(wish->attrs, "{}"))
        buf_addf(out, ",%s", wish->attrs + 1); // its closing brace is ours
    else
        buf_addc(out, '}');
    if (str_starts(wish->address, "tcp://"))
        buf_addc(out, 0);
}

static bool squeeze(const struct task_log *wish, struct slice message, struct buf *out)
{
    z_stream stream = { 0 };
    int window = str_eq(wish->compression, "zlib") ? WINDOW_ZLIB : WINDOW_GZIP;
    if (deflateInit2(&stream, (int)wish->compression_level, Z_DEFLATED, window, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    uLong bound = deflateBound(&stream, message.size);
    stream.next_in = (unsigned char *)(uintptr_t)message.data;
    stream.avail_in = (uInt)message.size;
    stream.next_out = (unsigned char *)buf_reserve(out, bound);
    stream.avail_out = (uInt)bound;
    bool whole = stream.next_out && deflate(&stream, Z_FINISH) == Z_STREAM_END;
    if (whole)
        buf_commit(out, stream.total_out);
    deflateEnd(&stream);
    return whole;
}

bool gelf_cut(const struct task_log *wish, struct slice message, uint64_t id, struct buf *packed, gelf_piece_fn *put, void *context)
{
    buf_clear(packed);
    if (!str_eq(wish->compression, "none")) {
        if (!squeeze(wish, message, packed))
            return false;
        message = (struct slice){ packed->data, packed->size };
    }
    if (message.size <= PIECE_SIZE) {
        put(context, (struct slice){ "", 0 }, message);
        return true;
    }
    size_t room = PIECE_SIZE - HEAD_SIZE, count = (message.size + room - 1) / room;
    if (count > PIECES_MAX)
        return false;
    char head[HEAD_SIZE] = { 0x1e, 0x0f };
    memcpy(head + 2, &id, sizeof(id));
    head[11] = (char)count;
    for (size_t i = 0; i < count; i++) {
        size_t at = i * room;
        head[10] = (char)i;
        put(context, (struct slice){ head, HEAD_SIZE }, (struct slice){ message.data + at, MIN_OF(room, message.size - at) });
    }
    return true;
}
