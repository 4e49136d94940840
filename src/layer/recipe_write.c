#include <zstd.h>

#include "base/fd.h"
#include "base/num.h"
#include "recipe.h"
#include "varint.h"

#define LEVEL 3
#define OPEN_MAX ((size_t)16 << 20) // of bytes that the parser has taken and not yet placed: one header at most
#define LITERAL_MAX ((size_t)256 << 10)
#define HELD_MAX ((size_t)64 << 10)

struct recipe {
    int fd; // borrowed
    off_t written;
    ZSTD_CStream *zstd;
    struct buf open; // the tar from `open_at` on: not known yet what it is
    size_t open_start; // bytes of `open` that are dealt with
    uint64_t open_at, size;
    struct buf literal; // of the record that is being made
    uint64_t data_size, data_at, data_end; // and its data; the end of the data before
    struct buf held; // records: what comes as a whole is compressed with tables of its size, which spares small layers half a millisecond
    struct buf packed;
};

struct recipe *recipe_new(int fd)
{
    struct recipe *recipe = mem_new(struct recipe);
    *recipe = (struct recipe){
        .fd = fd, .written = RECIPE_HEAD_SIZE, .zstd = ZSTD_createCStream(), .open = BUF_INIT(OPEN_MAX), .literal = BUF_INIT(2 * LITERAL_MAX),
        .held = BUF_INIT(HELD_MAX + 3 * LITERAL_MAX), .packed = BUF_INIT(ZSTD_CStreamOutSize()),
    };
    if (!recipe->zstd)
        abort(); // only memory can be missing
    ZSTD_CCtx_setParameter(recipe->zstd, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(recipe->zstd, ZSTD_c_checksumFlag, 1);
    return recipe;
}

void recipe_free(struct recipe *recipe)
{
    if (!recipe)
        return;
    ZSTD_freeCStream(recipe->zstd);
    buf_done(&recipe->open);
    buf_done(&recipe->literal);
    buf_done(&recipe->held);
    buf_done(&recipe->packed);
    free(recipe);
}

static int compress(struct recipe *recipe, ZSTD_EndDirective mode, struct err *err)
{
    ZSTD_inBuffer in = { buf_text(&recipe->held), recipe->held.size, 0 };
    for (;;) {
        buf_clear(&recipe->packed);
        ZSTD_outBuffer out = { buf_reserve(&recipe->packed, ZSTD_CStreamOutSize()), ZSTD_CStreamOutSize(), 0 };
        size_t left = ZSTD_compressStream2(recipe->zstd, &out, &in, mode);
        if (ZSTD_isError(left))
            return err_set(err, ERR_INTERNAL, "recipe: %s", ZSTD_getErrorName(left));
        if (fd_write_at(recipe->fd, out.dst, out.pos, recipe->written, err) < 0)
            return err_wrap(err, "recipe");
        recipe->written += (off_t)out.pos;
        if (mode == ZSTD_e_end ? left == 0 : in.pos == in.size)
            break;
    }
    buf_clear(&recipe->held);
    return 0;
}

static int write_record(struct recipe *recipe, struct err *err)
{
    unsigned char text[VARINT_MAX * 2];
    buf_add(&recipe->held, text, varint_put(text, recipe->literal.size));
    buf_add(&recipe->held, buf_text(&recipe->literal), recipe->literal.size);
    size_t size = varint_put(text, recipe->data_size);
    if (recipe->data_size > 0) {
        size += varint_put(text + size, varint_fold((int64_t)(recipe->data_at - recipe->data_end)));
        recipe->data_end = recipe->data_at + recipe->data_size;
    }
    buf_clear(&recipe->literal);
    recipe->data_size = 0;
    buf_add(&recipe->held, text, size);
    return recipe->held.size < HELD_MAX ? 0 : compress(recipe, ZSTD_e_continue, err);
}

static void drop_open(struct recipe *recipe, size_t size)
{
    recipe->open_start += size;
    recipe->open_at += size;
}

// The open bytes before `position` are literal.
static int settle(struct recipe *recipe, uint64_t position, struct err *err)
{
    while (recipe->open_at < position && recipe->open_start < recipe->open.size) {
        if ((recipe->data_size > 0 || recipe->literal.size >= LITERAL_MAX) && write_record(recipe, err) < 0)
            return -1;
        size_t size = MIN_OF(recipe->open.size - recipe->open_start, LITERAL_MAX);
        size = (size_t)MIN_OF((uint64_t)size, position - recipe->open_at);
        buf_add(&recipe->literal, recipe->open.data + recipe->open_start, size);
        drop_open(recipe, size);
    }
    return 0;
}

int recipe_add(void *context, const void *data, size_t size, uint64_t settled, struct err *err)
{
    struct recipe *recipe = context;
    if (settle(recipe, settled, err) < 0)
        return -1;
    buf_consume(&recipe->open, recipe->open_start);
    recipe->open_start = 0;
    buf_add(&recipe->open, data, size);
    recipe->size += size;
    return buf_check(&recipe->open, "tar header", err);
}

int recipe_data(struct recipe *recipe, uint64_t position, uint64_t size, uint64_t at, struct err *err)
{
    if (settle(recipe, position, err) < 0)
        return -1;
    if (recipe->open_at != position || recipe->open.size - recipe->open_start < size)
        return err_set(err, ERR_INTERNAL, "recipe: content that the tar does not have there");
    drop_open(recipe, size);
    if (recipe->data_size > 0 && recipe->data_at + recipe->data_size == at) {
        recipe->data_size += size;
        return 0;
    }
    if (recipe->data_size > 0 && write_record(recipe, err) < 0)
        return -1;
    recipe->data_at = at;
    recipe->data_size = size;
    return 0;
}

static void put_le64(unsigned char *out, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)(value >> (8 * i));
}

int recipe_end(struct recipe *recipe, const char *diff_id, struct err *err)
{
    unsigned char head[RECIPE_HEAD_SIZE] = RECIPE_MAGIC;
    if (settle(recipe, UINT64_MAX, err) < 0 || write_record(recipe, err) < 0 || compress(recipe, ZSTD_e_end, err) < 0)
        return -1;
    put_le64(head + 8, recipe->size);
    for (size_t i = 0; i < 32; i++) {
        uint64_t byte = 0;
        num_parse_hex((struct slice){ diff_id + strlen("sha256:") + 2 * i, 2 }, &byte);
        head[16 + i] = (unsigned char)byte;
    }
    return fd_write_at(recipe->fd, head, sizeof(head), 0, err) == 0 ? 0 : err_wrap(err, "recipe");
}
