// Rotation of a log file, and the compressing of what was rotated: a piece at each turn of the loop, so that output is read meanwhile.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <zlib.h>

#include "base/fd.h"
#include "shim/log.h"

#define PIECE (64u << 10)
#define GZIP_WINDOW (15 + 16) // zlib's word for a gzip header
#define MEMORY_LEVEL 8

// Of one file: PATH.1 becomes PATH.1.gz.
struct squeeze {
    z_stream stream;
    int in_fd, out_fd;
    unsigned char in[PIECE], out[PIECE];
};

struct log_rotation {
    char *path;
    int64_t max_files;
    bool compress;
    struct loop *loop;
    struct squeeze *squeeze; // NULL: nothing is being compressed
    struct loop_source *turn; // the timer that goes on with it
};

static char *name_of(const struct log_rotation *rotation, int64_t number, const char *ending)
{
    return mem_printf("%s.%lld%s", rotation->path, (long long)number, ending);
}

// ---- compressing ----------------------------------------------------------------------------------------------------

// The plain file goes when the other is whole; when that fails, the plain one stays.
static void end_squeeze(struct log_rotation *rotation, bool whole)
{
    struct squeeze *squeeze = take_ptr(&rotation->squeeze);
    loop_remove(take_ptr(&rotation->turn));
    _cleanup_free_ char *plain = name_of(rotation, 1, ""), *made = name_of(rotation, 1, ".tmp"), *packed = name_of(rotation, 1, ".gz");
    deflateEnd(&squeeze->stream);
    fd_close(squeeze->in_fd);
    fd_close(squeeze->out_fd);
    free(squeeze);
    if (whole && rename(made, packed) == 0)
        unlink(plain);
    else
        unlink(made);
}

// 1: more is there, 0: done, -1: it failed.
static int squeeze_piece(struct squeeze *squeeze)
{
    ssize_t got = read(squeeze->in_fd, squeeze->in, sizeof(squeeze->in));
    if (got < 0)
        return -1;
    squeeze->stream.next_in = squeeze->in;
    squeeze->stream.avail_in = (unsigned)got;
    do {
        squeeze->stream.next_out = squeeze->out;
        squeeze->stream.avail_out = sizeof(squeeze->out);
        if (deflate(&squeeze->stream, got ? Z_NO_FLUSH : Z_FINISH) == Z_STREAM_ERROR ||
            fd_write_full(squeeze->out_fd, squeeze->out, sizeof(squeeze->out) - squeeze->stream.avail_out, NULL) < 0)
            return -1;
    } while (squeeze->stream.avail_out == 0);
    return got > 0;
}

static void squeeze_on(void *context)
{
    struct log_rotation *rotation = context;
    int more = squeeze_piece(rotation->squeeze);
    if (more > 0)
        loop_set_timer(rotation->turn, 0);
    else
        end_squeeze(rotation, more == 0);
}

static void finish_squeeze(struct log_rotation *rotation)
{
    int more = 1;
    while (rotation->squeeze && more > 0)
        more = squeeze_piece(rotation->squeeze);
    if (rotation->squeeze)
        end_squeeze(rotation, more == 0);
}

static void begin_squeeze(struct log_rotation *rotation)
{
    _cleanup_free_ char *plain = name_of(rotation, 1, ""), *made = name_of(rotation, 1, ".tmp");
    struct squeeze *squeeze = rotation->squeeze = mem_new(struct squeeze);
    squeeze->in_fd = open(plain, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    squeeze->out_fd = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (squeeze->in_fd < 0 || squeeze->out_fd < 0 ||
        deflateInit2(&squeeze->stream, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK ||
        loop_add_timer(rotation->loop, 0, squeeze_on, rotation, &rotation->turn, NULL) < 0)
        end_squeeze(rotation, false);
}

// ---- rotating -------------------------------------------------------------------------------------------------------

struct log_rotation *log_rotation_new(const char *path, int64_t max_files, bool compress, struct loop *loop)
{
    struct log_rotation *rotation = mem_new(struct log_rotation);
    *rotation = (struct log_rotation){ .path = mem_strdup(path), .max_files = MAX_OF(max_files, INT64_C(1)), .compress = compress, .loop = loop };
    return rotation;
}

void log_rotation_free(struct log_rotation *rotation)
{
    if (!rotation)
        return;
    finish_squeeze(rotation);
    free(rotation->path);
    free(rotation);
}

// A file that was to be compressed and was not keeps its plain name: both are moved on.
static void shift(const struct log_rotation *rotation)
{
    static const char *const endings[] = { "", ".gz" };
    for (size_t e = 0; e < ARRAY_LEN(endings); e++)
        for (int64_t i = rotation->max_files - 1; i > 0; i--) {
            _cleanup_free_ char *from = name_of(rotation, i, endings[e]), *to = name_of(rotation, i + 1, endings[e]);
            if (i == rotation->max_files - 1)
                unlink(from);
            else
                rename(from, to);
        }
}

int log_rotate(struct log_rotation *rotation, int fd)
{
    _cleanup_free_ char *first = name_of(rotation, 1, "");
    if (rotation->max_files == 1 && ftruncate(fd, 0) == 0)
        return fd;
    if (rotation->max_files == 1)
        return fd; // it grows on
    finish_squeeze(rotation);
    shift(rotation);
    if (rename(rotation->path, first) < 0)
        return fd;
    int fresh = open(rotation->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fresh < 0) {
        rename(first, rotation->path);
        return fd;
    }
    fd_close(fd);
    if (rotation->compress)
        begin_squeeze(rotation);
    return fresh;
}
