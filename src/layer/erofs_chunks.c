// Files with holes: a map from pieces of the file to runs of blocks.
#include "erofs_image.h"

#define CHUNKS_MAX 65536 // of one file: a larger one has larger chunks
#define FILE_SIZE_MAX ((uint64_t)UINT32_MAX * EROFS_BLOCK) // 16 TiB, as ext4

int erofs_chunks_init(struct erofs_chunks *chunks, uint64_t size, struct err *err)
{
    unsigned bits = EROFS_BLOCK_BITS;
    *chunks = (struct erofs_chunks){ 0 };
    if (size == 0 || size > FILE_SIZE_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "file of %llu bytes is too large", (unsigned long long)size);
    while (((size - 1) >> bits) + 1 > CHUNKS_MAX)
        bits++;
    size_t len = (size_t)((size - 1) >> bits) + 1;
    *chunks = (struct erofs_chunks){ size, bits, len, mem_alloc(len * sizeof(uint32_t)) };
    memset(chunks->map, 0xff, len * sizeof(uint32_t));
    return 0;
}

void erofs_chunks_done(struct erofs_chunks *chunks)
{
    free(chunks->map);
}

int erofs_chunk_place(struct erofs_image *image, struct erofs_chunks *chunks, size_t chunk, uint64_t *at, struct err *err)
{
    uint64_t left = chunks->size - ((uint64_t)chunk << chunks->bits), size = MIN_OF(left, (uint64_t)1 << chunks->bits);
    if (chunks->map[chunk] == EROFS_NO_BLOCK &&
        erofs_image_blocks(image, (size + EROFS_BLOCK - 1) / EROFS_BLOCK, &chunks->map[chunk], err) < 0)
        return -1;
    *at = (uint64_t)chunks->map[chunk] * EROFS_BLOCK;
    return 0;
}
