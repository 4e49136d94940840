#include <zstd.h>

#include "squeeze.h"

#define OUT_SIZE ((size_t)256 << 10)
#define ZSTD_LEVEL 3

struct squeeze {
    struct squeeze_form form;
    gzip_sink_fn *sink;
    void *context;
    struct gzip *gzip; // NULL: another kind
    ZSTD_CStream *zstd;
    void *out;
};

int squeeze_parse(const char *kind, int level, struct squeeze_form *out, struct err *err)
{
    static const struct {
        const char *name;
        int kind, level_min, level_max;
    } kinds[] = { { "uncompressed", SQUEEZE_NONE, 0, 9 }, { "gzip", SQUEEZE_GZIP, 0, 9 }, { "zstd", SQUEEZE_ZSTD, 0, 22 } };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (str_eq(kinds[i].name, kind)) {
            if (level >= 0 && (level < kinds[i].level_min || level > kinds[i].level_max))
                return err_set(err, ERR_INVALID_ARGUMENT, "compression-level=%d: %s has %d to %d", level, kind, kinds[i].level_min, kinds[i].level_max);
            *out = (struct squeeze_form){ kinds[i].kind, level };
            return 0;
        }
    return err_set(err, ERR_INVALID_ARGUMENT, "compression=%.60s is not supported", kind);
}

struct squeeze *squeeze_new(const struct squeeze_form *form, gzip_sink_fn *sink, void *context)
{
    struct squeeze *squeeze = mem_new(struct squeeze);
    squeeze->form = *form;
    squeeze->sink = sink;
    squeeze->context = context;
    if (form->kind == SQUEEZE_GZIP)
        squeeze->gzip = gzip_new_level(form->level, sink, context);
    if (form->kind != SQUEEZE_ZSTD)
        return squeeze;
    squeeze->out = mem_alloc(OUT_SIZE);
    squeeze->zstd = ZSTD_createCStream();
    if (squeeze->zstd)
        ZSTD_initCStream(squeeze->zstd, form->level > 0 ? form->level : ZSTD_LEVEL);
    return squeeze;
}

static int give(struct squeeze *squeeze, const ZSTD_outBuffer *out, struct err *err)
{
    return out->pos ? squeeze->sink(squeeze->context, out->dst, out->pos, err) : 0;
}

int squeeze_write(struct squeeze *squeeze, const void *data, size_t size, struct err *err)
{
    ZSTD_inBuffer in = { data, size, 0 };
    if (squeeze->form.kind == SQUEEZE_NONE)
        return squeeze->sink(squeeze->context, data, size, err);
    if (squeeze->gzip)
        return gzip_write(squeeze->gzip, data, size, err);
    while (in.pos < in.size) {
        ZSTD_outBuffer out = { squeeze->out, OUT_SIZE, 0 };
        size_t left = squeeze->zstd ? ZSTD_compressStream(squeeze->zstd, &out, &in) : (size_t)-1;
        if (!squeeze->zstd || ZSTD_isError(left))
            return err_set(err, ERR_INTERNAL, "zstd: %s", squeeze->zstd ? ZSTD_getErrorName(left) : "no memory");
        if (give(squeeze, &out, err) < 0)
            return -1;
    }
    return 0;
}

int squeeze_end(struct squeeze *squeeze, struct err *err)
{
    if (squeeze->gzip)
        return gzip_end(squeeze->gzip, err);
    for (size_t left = squeeze->zstd ? 1 : 0; left > 0;) {
        ZSTD_outBuffer out = { squeeze->out, OUT_SIZE, 0 };
        left = ZSTD_endStream(squeeze->zstd, &out);
        if (ZSTD_isError(left))
            return err_set(err, ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(left));
        if (give(squeeze, &out, err) < 0)
            return -1;
    }
    return 0;
}

void squeeze_free(struct squeeze *squeeze)
{
    if (!squeeze)
        return;
    gzip_free(squeeze->gzip);
    ZSTD_freeCStream(squeeze->zstd);
    free(squeeze->out);
    free(squeeze);
}
