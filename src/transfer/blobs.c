// Layers as blobs: their tars made again by their recipes, compressed as it is asked for, each into a file of its own. What an image is sent or
// written as that is not as the store has it.
#include <unistd.h>

#include "transfer/transfer.h"
#include "crew.h"
#include "layer/layer.h"
#include "report.h"
#include "squeeze.h"

#define READ_SIZE ((size_t)256 << 10)

struct blob {
    int fds[3]; // where it goes, the layer's image, its recipe
    struct layer_digest *hash; // of the blob
    int64_t size;
};

struct blobs {
    struct squeeze_form form;
    struct blob *items;
    size_t len;
    FILE *report;
    atomic_bool stopped;
};

static int put(void *context, const void *data, size_t size, struct err *err)
{
    struct blob *blob = context;
    layer_digest_add(blob->hash, data, size);
    blob->size += (int64_t)size;
    return fd_write_full(blob->fds[0], data, size, err);
}

static int copy_tar(struct blobs *blobs, struct layer_recipe *recipe, struct squeeze *squeeze, char diff_id[72], struct err *err)
{
    _cleanup_free_ char *data = mem_alloc(READ_SIZE);
    struct layer_digest *hash = layer_digest_new();
    ssize_t got;
    while ((got = layer_recipe_read(recipe, data, READ_SIZE, err)) > 0) {
        layer_digest_add(hash, data, (size_t)got);
        if (atomic_load(&blobs->stopped))
            got = err_set(err, ERR_CANCELLED, "another layer failed");
        if (got < 0 || squeeze_write(squeeze, data, (size_t)got, err) < 0)
            break;
    }
    layer_digest_end(hash, diff_id);
    return got == 0 ? squeeze_end(squeeze, err) : -1;
}

static int make_blob(struct blobs *blobs, struct blob *blob, char digest[72], struct err *err)
{
    struct layer_recipe *recipe;
    char diff_id[72];
    if (layer_recipe_open(blob->fds[2], blob->fds[1], &recipe, err) < 0)
        return -1;
    struct squeeze *squeeze = squeeze_new(&blobs->form, put, blob);
    blob->hash = layer_digest_new();
    int result = copy_tar(blobs, recipe, squeeze, diff_id, err);
    if (result == 0 && !str_eq(diff_id, layer_recipe_info(recipe).diff_id))
        result = err_set(err, ERR_INTERNAL, "layer %s is damaged: its tar has digest %s", layer_recipe_info(recipe).diff_id, diff_id);
    layer_digest_end(blob->hash, digest);
    squeeze_free(squeeze);
    layer_recipe_free(recipe);
    return result;
}

static int work(void *context, size_t index, struct err *err)
{
    struct blobs *blobs = context;
    char digest[72];
    if (make_blob(blobs, &blobs->items[index], digest, err) < 0)
        return err_wrap(err, "layer %zu", index);
    return report_line(blobs->report, "blob", json_pack("{s:I, s:s, s:I}", "index", (json_int_t)index, "digest", digest, "size",
                                                        (json_int_t)blobs->items[index].size), err);
}

static int take_fds(struct blobs *blobs, int order_fd, struct err *err)
{
    for (size_t i = 0; i < blobs->len; i++) {
        char byte;
        size_t len = ARRAY_LEN(blobs->items[i].fds);
        ssize_t got = fd_recv(order_fd, &byte, 1, blobs->items[i].fds, &len, err);
        if (got < 0)
            return -1;
        if (got != 1 || len != ARRAY_LEN(blobs->items[i].fds))
            return err_set(err, ERR_CANCELLED, "the daemon is gone");
    }
    return 0;
}

int transfer_blobs(int order_fd, const struct transfer_blobs *order, FILE *report, struct err *err)
{
    struct blobs blobs = { .len = order->len, .report = report };
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (squeeze_parse(order->compression, order->level, &blobs.form, err) < 0)
        return -1;
    if (order->len > TRANSFER_BLOBS_MAX)
        return err_set(err, ERR_INTERNAL, "blobs: not an order");
    blobs.items = mem_alloc((order->len + 1) * sizeof(*blobs.items));
    for (size_t i = 0; i < order->len; i++)
        blobs.items[i] = (struct blob){ .fds = { -1, -1, -1 } };
    int result = take_fds(&blobs, order_fd, err);
    if (result == 0)
        result = crew_run(blobs.len, (unsigned)MAX_OF(cores, 1L), work, &blobs, &blobs.stopped, err);
    for (size_t i = 0; i < order->len; i++)
        for (size_t fd = 0; fd < ARRAY_LEN(blobs.items[i].fds); fd++)
            fd_close(blobs.items[i].fds[fd]);
    free(blobs.items);
    return result;
}
