// The tar back out of recipe and image. A recipe is a file of our own store, but a damaged one must not take more with it than
// this call: each number is checked before it is used.
#include <errno.h>
#include <zstd.h>

#include "base/fd.h"
#include "base/num.h"
#include "recipe.h"
#include "varint.h"

struct layer_recipe {
    int recipe_fd, image_fd; // borrowed
    struct layer_recipe_info info;
    ZSTD_DStream *zstd;
    char *packed, *plain;
    ZSTD_inBuffer in; // what of `packed` is still to be used
    off_t packed_at; // where in the file the next of it is
    size_t plain_at, plain_end;
    bool zstd_ended;
    uint64_t at; // in the tar
    uint64_t literal_left, data_left, data_at;
    bool in_record; // its data's part is still to be read
};

static int damaged(struct err *err)
{
    return err_set(err, ERR_INTERNAL, "the layer's recipe is damaged");
}

int layer_recipe_open(int recipe_fd, int image_fd, struct layer_recipe **out, struct err *err)
{
    struct layer_recipe_info info;
    if (layer_recipe_read_info(recipe_fd, &info, err) < 0)
        return -1;
    struct layer_recipe *recipe = mem_new(struct layer_recipe);
    *recipe = (struct layer_recipe){ .recipe_fd = recipe_fd, .image_fd = image_fd, .info = info, .packed_at = RECIPE_HEAD_SIZE };
    recipe->zstd = ZSTD_createDStream();
    if (!recipe->zstd)
        abort(); // only memory can be missing
    recipe->packed = mem_alloc(ZSTD_DStreamInSize());
    recipe->plain = mem_alloc(ZSTD_DStreamOutSize());
    *out = recipe;
    return 0;
}

void layer_recipe_free(struct layer_recipe *recipe)
{
    if (!recipe)
        return;
    ZSTD_freeDStream(recipe->zstd);
    free(recipe->packed);
    free(recipe->plain);
    free(recipe);
}

struct layer_recipe_info layer_recipe_info(const struct layer_recipe *recipe)
{
    return recipe->info;
}

// More plain bytes of the recipe; 0 at its end.
static int refill(struct layer_recipe *recipe, struct err *err)
{
    ZSTD_outBuffer out = { recipe->plain, ZSTD_DStreamOutSize(), 0 };
    while (out.pos == 0 && !recipe->zstd_ended) {
        if (recipe->in.pos == recipe->in.size) {
            ssize_t got = pread(recipe->recipe_fd, recipe->packed, ZSTD_DStreamInSize(), recipe->packed_at);
            if (got <= 0)
                return got < 0 ? err_errno(err, errno, "read recipe") : damaged(err);
            recipe->packed_at += got;
            recipe->in = (ZSTD_inBuffer){ recipe->packed, (size_t)got, 0 };
        }
        size_t left = ZSTD_decompressStream(recipe->zstd, &out, &recipe->in);
        if (ZSTD_isError(left))
            return damaged(err);
        recipe->zstd_ended = left == 0;
    }
    recipe->plain_at = 0;
    recipe->plain_end = out.pos;
    return out.pos > 0;
}

// 0 where the recipe ends before the number's first byte.
static int get_number(struct layer_recipe *recipe, uint64_t *out, struct err *err)
{
    *out = 0;
    for (unsigned i = 0; i < VARINT_MAX; i++) {
        if (recipe->plain_at == recipe->plain_end) {
            int more = refill(recipe, err);
            if (more <= 0)
                return more < 0 || i == 0 ? more : damaged(err);
        }
        unsigned char byte = (unsigned char)recipe->plain[recipe->plain_at++];
        *out |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte <= 0x7f)
            return 1;
    }
    return damaged(err);
}

static int next_number(struct layer_recipe *recipe, struct err *err)
{
    uint64_t *number = recipe->in_record ? &recipe->data_left : &recipe->literal_left, distance;
    int more = get_number(recipe, number, err);
    if (more < 0)
        return -1;
    if (more == 0)
        return recipe->in_record || recipe->at != recipe->info.tar_size ? damaged(err) : 0;
    if (*number > recipe->info.tar_size - recipe->at)
        return damaged(err);
    if (recipe->in_record && *number > 0) {
        more = get_number(recipe, &distance, err);
        if (more <= 0)
            return more < 0 ? -1 : damaged(err);
        recipe->data_at += (uint64_t)varint_unfold(distance);
    }
    recipe->in_record = !recipe->in_record;
    return 1;
}

// Goes on to where literal_left or data_left is more than 0; 0 at the end of the tar.
static int next_part(struct layer_recipe *recipe, struct err *err)
{
    while (recipe->literal_left == 0 && recipe->data_left == 0) {
        int more = next_number(recipe, err);
        if (more <= 0)
            return more;
    }
    return 1;
}

// Up to `size` bytes of the part that is on; `data` NULL: they are skipped.
static ssize_t take_part(struct layer_recipe *recipe, void *data, uint64_t size, struct err *err)
{
    if (recipe->literal_left > 0) {
        int more = recipe->plain_at == recipe->plain_end ? refill(recipe, err) : 1;
        if (more <= 0)
            return more < 0 ? -1 : damaged(err);
        size = MIN_OF(MIN_OF(size, recipe->literal_left), recipe->plain_end - recipe->plain_at);
        if (data)
            memcpy(data, recipe->plain + recipe->plain_at, size);
        recipe->plain_at += size;
        recipe->literal_left -= size;
    } else {
        size = MIN_OF(size, recipe->data_left);
        ssize_t got = data ? pread(recipe->image_fd, data, size, (off_t)recipe->data_at) : (ssize_t)size;
        if (got <= 0)
            return got < 0 ? err_errno(err, errno, "read layer image") : damaged(err);
        size = (uint64_t)got;
        recipe->data_at += size;
        recipe->data_left -= size;
    }
    recipe->at += size;
    return (ssize_t)size;
}

ssize_t layer_recipe_read(void *context, void *data, size_t size, struct err *err)
{
    struct layer_recipe *recipe = context;
    size_t done = 0;
    while (done < size) {
        int more = next_part(recipe, err);
        if (more <= 0)
            return more < 0 ? -1 : (ssize_t)done;
        ssize_t got = take_part(recipe, (char *)data + done, size - done, err);
        if (got < 0)
            return -1;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static int next_literal(struct layer_recipe *recipe, uint64_t size_max, struct layer_piece *out, struct err *err)
{
    int more = recipe->plain_at == recipe->plain_end ? refill(recipe, err) : 1;
    if (more <= 0)
        return more < 0 ? -1 : damaged(err);
    out->data = recipe->plain + recipe->plain_at;
    out->size = MIN_OF(MIN_OF(size_max, recipe->literal_left), recipe->plain_end - recipe->plain_at);
    recipe->plain_at += out->size;
    recipe->literal_left -= out->size;
    return 0;
}

int layer_recipe_next(struct layer_recipe *recipe, uint64_t size_max, struct layer_piece *out, struct err *err)
{
    int more = next_part(recipe, err);
    if (more <= 0)
        return more;
    if (recipe->literal_left > 0) {
        if (next_literal(recipe, size_max, out, err) < 0)
            return -1;
    } else {
        *out = (struct layer_piece){ .image_at = recipe->data_at, .size = MIN_OF(size_max, recipe->data_left) };
        recipe->data_at += out->size;
        recipe->data_left -= out->size;
    }
    recipe->at += out->size;
    return 1;
}

int layer_recipe_skip(struct layer_recipe *recipe, uint64_t size, struct err *err)
{
    while (size > 0) {
        int more = next_part(recipe, err);
        if (more <= 0)
            return more < 0 ? -1 : err_set(err, ERR_INVALID_ARGUMENT, "the layer ends before that");
        ssize_t got = take_part(recipe, NULL, MIN_OF(size, (uint64_t)SSIZE_MAX), err);
        if (got < 0)
            return -1;
        size -= (uint64_t)got;
    }
    return 0;
}
