#include <errno.h>

#include "transfer/transfer.h"
#include "layer/layer.h"
#include "source.h"

#define CHUNK ((size_t)256 << 10)

int transfer_inflate(int input_fd, int output_fd, struct err *err)
{
    struct source source = { .fd = input_fd };
    struct layer_inflate *inflate;
    _cleanup_free_ char *chunk = mem_alloc(CHUNK);
    ssize_t got;
    if (layer_inflate_new(source_read, &source, NULL, &inflate, err) < 0)
        return -1;
    while ((got = layer_inflate_read(inflate, chunk, CHUNK, err)) > 0)
        if (fd_write_full(output_fd, chunk, (size_t)got, err) < 0) {
            got = -1;
            break;
        }
    layer_inflate_free(inflate);
    return (int)got;
}
