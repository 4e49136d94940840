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
    struct gzip *gzip = mem_new(struct gzip);
    gzip->sink = sink;
    gzip->context = context;
    gzip->level = mem_alloc(ISAL_DEF_LVL1_DEFAULT);
    gzip->out = mem_alloc(OUT_SIZE);
    isal_deflate_init(&gzip->stream);
    gzip->stream.level = 1;
    gzip->stream.level_buf = gzip->level;
    gzip->stream.level_buf_size = ISAL_DEF_LVL1_DEFAULT;
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
