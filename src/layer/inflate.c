// Decompression of a stream: gzip by ISA-L (more than twice zlib's speed), the rest by libarchive's filters, of which
// exactly the one that the first bytes name is put on: a compressed file inside a compressed stream stays compressed.
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <isa-l/igzip_lib.h>

#include "layer/layer.h"
#include "format.h"

#define INPUT_SIZE (128 * 1024)
#define BZIP2_SIZE_MIN 14 // of an empty stream

struct layer_inflate {
    layer_read_fn *read;
    void *context;
    struct layer_bound *bound; // NULL: none
    const struct format *format; // NULL: plain
    unsigned char *input; // INPUT_SIZE
    size_t at, end; // what of it is still to be used
    size_t seen; // bytes that the reader gave
    bool ended; // it has no more
    struct inflate_state *gzip;
    struct archive *filter;
    struct err *err; // of the call that is under way: filled by the reader below libarchive
    bool read_failed;
};

// Adds what one read gives to an empty or partly filled input buffer.
static int fill(struct layer_inflate *inflate, struct err *err)
{
    if (inflate->at == inflate->end)
        inflate->at = inflate->end = 0;
    ssize_t got = inflate->read(inflate->context, inflate->input + inflate->end, INPUT_SIZE - inflate->end, err);
    if (got < 0) {
        inflate->read_failed = true;
        return -1;
    }
    inflate->end += (size_t)got;
    inflate->seen += (size_t)got;
    inflate->ended = got == 0;
    return 0;
}

// ---- gzip -----------------------------------------------------------------------------------------------------------

static void gzip_begin_member(struct inflate_state *gzip)
{
    isal_inflate_reset(gzip);
    gzip->crc_flag = ISAL_GZIP; // header, checksum and length are read and checked by ISA-L
}

// At the end of a member: 1 when another one follows, 0 at the end. Zeros after the last member are padding.
static int gzip_next_member(struct layer_inflate *inflate, struct err *err)
{
    for (;;) {
        while (inflate->at < inflate->end && inflate->input[inflate->at] == 0)
            inflate->at++;
        if (inflate->at < inflate->end)
            break;
        if (inflate->ended)
            return 0;
        if (fill(inflate, err) < 0)
            return -1;
    }
    gzip_begin_member(inflate->gzip);
    return 1;
}

static ssize_t gzip_read(struct layer_inflate *inflate, void *data, size_t size, struct err *err)
{
    struct inflate_state *gzip = inflate->gzip;
    gzip->next_out = data;
    gzip->avail_out = (uint32_t)MIN_OF(size, (size_t)1 << 30);
    uint32_t room = gzip->avail_out;
    while (gzip->avail_out == room) {
        if (gzip->block_state == ISAL_BLOCK_FINISH) {
            int more = gzip_next_member(inflate, err);
            if (more <= 0)
                return more;
        }
        if (inflate->at == inflate->end && !inflate->ended && fill(inflate, err) < 0)
            return -1;
        gzip->next_in = inflate->input + inflate->at;
        gzip->avail_in = (uint32_t)(inflate->end - inflate->at);
        int result = isal_inflate(gzip);
        inflate->at = inflate->end - gzip->avail_in;
        if (result != ISAL_DECOMP_OK && result != ISAL_END_INPUT)
            return err_set(err, ERR_INVALID_ARGUMENT, "damaged gzip data");
        bool stuck = gzip->avail_out == room && gzip->block_state != ISAL_BLOCK_FINISH && inflate->at == inflate->end;
        if (stuck && inflate->ended)
            return err_set(err, ERR_INVALID_ARGUMENT, "gzip data ends early");
    }
    return (ssize_t)(room - gzip->avail_out);
}

// ---- the others -----------------------------------------------------------------------------------------------------

static la_ssize_t filter_input(struct archive *archive, void *context, const void **data)
{
    struct layer_inflate *inflate = context;
    if (inflate->at == inflate->end && !inflate->ended && fill(inflate, inflate->err) < 0) {
        archive_set_error(archive, EIO, "read failed");
        return -1;
    }
    *data = inflate->input + inflate->at;
    la_ssize_t size = (la_ssize_t)(inflate->end - inflate->at);
    inflate->at = inflate->end; // libarchive is done with it before it asks again
    return size;
}

static int filter_error(struct layer_inflate *inflate, struct err *err)
{
    if (inflate->read_failed)
        return -1; // *err has it
    const char *why = archive_error_string(inflate->filter);
    return err_set(err, ERR_INVALID_ARGUMENT, "damaged %s data: %s", inflate->format->name, why ? why : "unknown error");
}

static int filter_open(struct layer_inflate *inflate, struct err *err)
{
    inflate->filter = archive_read_new();
    inflate->err = err;
    struct archive_entry *entry;
    archive_read_support_format_raw(inflate->filter);
    archive_read_support_format_empty(inflate->filter); // what is compressed may be nothing
    if (archive_read_append_filter(inflate->filter, inflate->format->filter) != ARCHIVE_OK ||
        archive_read_open(inflate->filter, inflate, NULL, filter_input, NULL) != ARCHIVE_OK)
        return filter_error(inflate, err);
    // The empty format also takes a stream whose first bytes could not be had: only the error tells.
    if (archive_errno(inflate->filter) != 0 || inflate->read_failed)
        return filter_error(inflate, err);
    int result = archive_read_next_header(inflate->filter, &entry);
    if (result == ARCHIVE_EOF) {
        // libarchive takes a bzip2 stream that is cut in its first bytes for an empty one.
        if (inflate->seen < BZIP2_SIZE_MIN && inflate->format->filter == ARCHIVE_FILTER_BZIP2)
            return err_set(err, ERR_INVALID_ARGUMENT, "bzip2 data ends early");
        archive_read_free(inflate->filter);
        inflate->filter = NULL;
        return 0;
    }
    return result == ARCHIVE_OK ? 0 : filter_error(inflate, err);
}

static ssize_t filter_read(struct layer_inflate *inflate, void *data, size_t size, struct err *err)
{
    if (!inflate->filter)
        return 0;
    inflate->err = err;
    la_ssize_t got = archive_read_data(inflate->filter, data, size);
    return got >= 0 ? (ssize_t)got : filter_error(inflate, err);
}

static int check_bound(struct layer_bound *bound, size_t more, struct err *err)
{
    if (!bound || bound->ratio == 0)
        return 0;
    uint64_t inflated = atomic_fetch_add(&bound->inflated, more) + more, came = atomic_load(&bound->came);
    if (inflated <= bound->floor || inflated / bound->ratio <= came)
        return 0;
    return err_set(err, ERR_RESOURCE_EXHAUSTED, "%llu bytes came and inflate to more than %llu, over %llu times of it: refused"
                   " (--max-inflate-ratio allows more)", (unsigned long long)came, (unsigned long long)bound->floor,
                   (unsigned long long)bound->ratio);
}

// ---- the face -------------------------------------------------------------------------------------------------------

int layer_inflate_new(layer_read_fn *read, void *context, struct layer_bound *bound, struct layer_inflate **out, struct err *err)
{
    struct layer_inflate *inflate = mem_new(struct layer_inflate);
    inflate->read = read;
    inflate->context = context;
    inflate->bound = bound;
    inflate->input = mem_alloc(INPUT_SIZE);
    int result = 0;
    while (result == 0 && !inflate->ended && inflate->end < LAYER_MAGIC_SIZE)
        result = fill(inflate, err);
    if (result == 0)
        inflate->format = format_find(inflate->input, inflate->end);
    if (inflate->format && inflate->format->filter) {
        result = filter_open(inflate, err);
    } else if (inflate->format) {
        inflate->gzip = mem_new(struct inflate_state);
        isal_inflate_init(inflate->gzip);
        gzip_begin_member(inflate->gzip);
    }
    if (result < 0)
        layer_inflate_free(inflate);
    else
        *out = inflate;
    return result;
}

static ssize_t plain_read(struct layer_inflate *inflate, void *data, size_t size, struct err *err)
{
    size_t held = MIN_OF(size, inflate->end - inflate->at);
    if (held == 0)
        return inflate->ended ? 0 : inflate->read(inflate->context, data, size, err);
    memcpy(data, inflate->input + inflate->at, held);
    inflate->at += held;
    return (ssize_t)held;
}

ssize_t layer_inflate_read(void *context, void *data, size_t size, struct err *err)
{
    struct layer_inflate *inflate = context;
    if (!inflate->format)
        return plain_read(inflate, data, size, err);
    ssize_t got = inflate->format->filter ? filter_read(inflate, data, size, err) : gzip_read(inflate, data, size, err);
    return got > 0 && check_bound(inflate->bound, (size_t)got, err) < 0 ? -1 : got;
}

void layer_inflate_free(struct layer_inflate *inflate)
{
    if (!inflate)
        return;
    if (inflate->filter)
        archive_read_free(inflate->filter);
    free(inflate->gzip);
    free(inflate->input);
    free(inflate);
}
