// A part of a layer's tar, for a registry that hands it out: made again by the recipe, as for a save. What is before it is passed over
// without being read.
#include "transfer/transfer.h"
#include "base/fd.h"
#include "base/num.h"
#include "layer/layer.h"

#define CHUNK ((size_t)256 << 10)
#define ORDER_MAX 256

struct range {
    uint64_t start, size;
    char digest[72];
    int output_fd, image_fd, recipe_fd;
};

static int parse(struct range *range, struct slice rest, struct err *err)
{
    struct slice words[3] = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        slice_cut(&rest, ' ', &words[i]);
    if (!num_parse_u64(words[0], INT64_MAX, &range->start) || !num_parse_u64(words[1], INT64_MAX, &range->size) ||
        words[2].size >= sizeof(range->digest))
        return err_set(err, ERR_INTERNAL, "range: not an order");
    memcpy(range->digest, words[2].data, words[2].size);
    range->digest[words[2].size] = 0;
    return 0;
}

static int take_order(struct range *range, int order_fd, struct err *err)
{
    char order[ORDER_MAX];
    int fds[3];
    size_t len = ARRAY_LEN(fds);
    ssize_t got = fd_recv(order_fd, order, sizeof(order), fds, &len, err);
    if (got < 0)
        return -1;
    if (len != ARRAY_LEN(fds))
        return err_set(err, ERR_INTERNAL, "range: not an order");
    range->output_fd = fds[0];
    range->image_fd = fds[1];
    range->recipe_fd = fds[2];
    return parse(range, (struct slice){ order, (size_t)got }, err);
}

// Of a whole tar the last byte waits until the digest is known to be right: without it nobody takes the tar for one.
static int give(const struct range *range, struct layer_recipe *recipe, char *chunk, struct err *err)
{
    bool whole = range->start == 0 && range->size == layer_recipe_info(recipe).tar_size;
    struct layer_digest *digest = layer_digest_new();
    char found[72], last = 0;
    uint64_t left = range->size;
    int result = 0;
    while (left > 0 && result == 0) {
        ssize_t got = layer_recipe_read(recipe, chunk, (size_t)MIN_OF(left, (uint64_t)CHUNK), err);
        if (got <= 0) {
            result = got < 0 ? -1 : err_set(err, ERR_INTERNAL, "it is damaged: it ends too early");
            break;
        }
        left -= (uint64_t)got;
        if (whole)
            layer_digest_add(digest, chunk, (size_t)got);
        last = chunk[got - 1];
        result = fd_write_full(range->output_fd, chunk, (size_t)got - (left == 0), err);
    }
    layer_digest_end(digest, found);
    if (result == 0 && whole && !str_eq(found, range->digest))
        return err_set(err, ERR_INTERNAL, "it is damaged: its digest is %s", found);
    return result < 0 || range->size == 0 ? result : fd_write_full(range->output_fd, &last, 1, err);
}

int transfer_range(int order_fd, struct err *err)
{
    struct range range = { .output_fd = -1, .image_fd = -1, .recipe_fd = -1 };
    struct layer_recipe *recipe = NULL;
    _cleanup_free_ char *chunk = mem_alloc(CHUNK);
    int result = take_order(&range, order_fd, err);
    if (result == 0)
        result = layer_recipe_open(range.recipe_fd, range.image_fd, &recipe, err);
    if (result == 0)
        result = layer_recipe_skip(recipe, range.start, err);
    if (result == 0)
        result = give(&range, recipe, chunk, err);
    layer_recipe_free(recipe);
    fd_close(range.output_fd);
    fd_close(range.image_fd);
    fd_close(range.recipe_fd);
    return result;
}
