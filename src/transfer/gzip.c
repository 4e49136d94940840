#include <isa-l/igzip_lib.h>

#include "gzip.h"

#define OUT_SIZE (256 * 1024)

struct gzip {
    struct isal_zstream stream;
    gzip_sink_fn *sink;
    void *context;
    unsigned char *level, *out;
};

struct gzip *gzip_new(gzip_sink_fn *sink, void *context)
{
    return gzip_new_level(-1, sink, context);
}

struct gzip *gzip_new_level(int asked, gzip_sink_fn *sink, void *context)
{
    static const struct {
        int below;
        uint32_t level, size;
    } levels[] = { { 4, 1, ISAL_DEF_LVL1_DEFAULT }, { 7, 2, ISAL_DEF_LVL2_DEFAULT }, { INT32_MAX, 3, ISAL_DEF_LVL3_DEFAULT } };
    struct gzip *gzip = mem_new(struct gzip);
    size_t row = 0;
    while (asked >= levels[row].below)
        row++;
    gzip->sink = sink;
    gzip->context = context;
    gzip->level = mem_alloc(levels[row].size);
    gzip->out = mem_alloc(OUT_SIZE);
    isal_deflate_init(&gzip->stream);
    gzip->stream.level = levels[row].level;
    gzip->stream.level_buf = gzip->level;
    gzip->stream.level_buf_size = levels[row].size;
    gzip->stream.gzip_flag = IGZIP_GZIP;
    return gzip;
}

static int deflate(struct gzip *gzip, struct err *err)
{
    do {
        gzip->stream.next_out = gzip->out;
        gzip->stream.avail_out = OUT_SIZE;
        int result = isal_deflate(&gzip->stream);
        if (result != COMP_OK)
            return err_set(err, ERR_INTERNAL, "gzip: error %d", result);
        size_t made = OUT_SIZE - gzip->stream.avail_out;
        if (made && gzip->sink(gzip->context, gzip->out, made, err) < 0)
            return -1;
    } while (gzip->stream.avail_out == 0);
    return 0;
}

int gzip_write(struct gzip *gzip, const void *data, size_t size, struct err *err)
{
    gzip->stream.next_in = (unsigned char *)data;
    gzip->stream.avail_in = (uint32_t)size;
    return deflate(gzip, err);
}

int gzip_end(struct gzip *gzip, struct err *err)
{
    gzip->stream.end_of_stream = 1;
    gzip->stream.next_in = NULL;
    gzip->stream.avail_in = 0;
    return deflate(gzip, err);
}

void gzip_free(struct gzip *gzip)
{
    if (!gzip)
        return;
    free(gzip->level);
    free(gzip->out);
    free(gzip);
}
