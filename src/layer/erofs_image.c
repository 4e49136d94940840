#include <errno.h>
#include <sys/sysmacros.h>

#include "erofs_image.h"
#include "base/fd.h"

#define HEAD_MAX ((size_t)1 << 20) // an inode, its attributes and its map of chunks
#define BLOCKS_MAX UINT32_MAX // block numbers have 32 bits, the highest means a hole
#define ROOT_OFFSET (EROFS_SUPER_OFFSET + sizeof(struct erofs_super))

void erofs_image_init(struct erofs_image *image, int fd, uint64_t size_max, bool plain)
{
    *image = (struct erofs_image){
        .fd = fd,
        .plain = plain,
        .block_max = size_max ? MIN_OF(size_max / EROFS_BLOCK, BLOCKS_MAX) : BLOCKS_MAX,
        .block_len = 1,
        .open = mem_alloc(EROFS_OPEN_BLOCKS * sizeof(struct erofs_open_block)),
        .shared = BUF_INIT(EROFS_SHARED_MAX),
        .head = BUF_INIT(HEAD_MAX),
    };
}

void erofs_image_done(struct erofs_image *image)
{
    erofs_xattrs_done(image);
    buf_done(&image->head);
    free(image->open);
}

// ---- blocks ---------------------------------------------------------------------------------------------------------

int erofs_image_full(const struct erofs_image *image, struct err *err)
{
    return err_set(err, ERR_RESOURCE_EXHAUSTED, "layer needs more than %llu MiB",
                   (unsigned long long)(image->block_max >> (20 - EROFS_BLOCK_BITS)));
}

int erofs_image_blocks(struct erofs_image *image, uint64_t len, uint32_t *out, struct err *err)
{
    if (len > image->block_max || image->block_len > image->block_max - len)
        return erofs_image_full(image, err);
    *out = (uint32_t)image->block_len;
    image->block_len += len;
    return 0;
}

int erofs_image_write(struct erofs_image *image, uint64_t at, const void *data, size_t size, struct err *err)
{
    return fd_write_at(image->fd, data, size, (off_t)at, err);
}

static int close_block(struct erofs_image *image, struct erofs_open_block *block, struct err *err)
{
    return erofs_image_write(image, (uint64_t)block->block * EROFS_BLOCK, block->data, block->used, err);
}

// The open block that `size` bytes fit into best; else a new one, for which the fullest goes.
static struct erofs_open_block *find_room(struct erofs_image *image, size_t size, struct err *err)
{
    struct erofs_open_block *best = NULL, *fullest = &image->open[0];
    for (size_t i = 0; i < image->open_len; i++) {
        struct erofs_open_block *block = &image->open[i];
        if (block->used + size <= EROFS_BLOCK && (!best || block->used > best->used))
            best = block;
        if (block->used > fullest->used)
            fullest = block;
    }
    if (best)
        return best;
    if (image->open_len < EROFS_OPEN_BLOCKS)
        fullest = &image->open[image->open_len];
    else if (close_block(image, fullest, err) < 0)
        return NULL;
    if (erofs_image_blocks(image, 1, &fullest->block, err) < 0)
        return NULL;
    image->open_len += image->open_len < EROFS_OPEN_BLOCKS;
    fullest->used = 0;
    memset(fullest->data, 0, sizeof(fullest->data));
    return fullest;
}

// ---- inodes ---------------------------------------------------------------------------------------------------------

int erofs_image_head(struct erofs_image *image, const struct erofs_attributes *attributes, enum erofs_layout layout, uint64_t size,
                     uint32_t place, struct err *err)
{
    struct erofs_inode_disk inode = {
        .format = EROFS_FORMAT(layout), .mode = (uint16_t)attributes->mode, .size = size, .place = place,
        .number = (uint32_t)++image->inode_len, .uid = attributes->uid, .gid = attributes->gid,
        .mtime = (uint64_t)attributes->mtime.tv_sec, .mtime_ns = (uint32_t)attributes->mtime.tv_nsec, .nlink = attributes->nlink,
    };
    buf_clear(&image->head);
    buf_add(&image->head, &inode, sizeof(inode));
    if (erofs_xattrs_add(image, attributes->xattrs, err) < 0)
        return -1;
    size_t xattrs = image->head.size - sizeof(inode);
    if (xattrs > 0) {
        inode.xattr_count = (uint16_t)((xattrs - sizeof(struct erofs_xattr_head)) / 4 + 1);
        memcpy(image->head.data, &inode, sizeof(inode));
    }
    return 0;
}

// Puts what is in image->head, and room for `tail` bytes behind it in the same block.
static int put_head(struct erofs_image *image, size_t tail, struct erofs_content *out, struct err *err)
{
    size_t head = image->head.size;
    if (head + tail > EROFS_BLOCK) {
        uint32_t block;
        if (erofs_image_blocks(image, (head + EROFS_BLOCK - 1) / EROFS_BLOCK, &block, err) < 0)
            return -1;
        out->nid = (uint64_t)block * EROFS_BLOCK / EROFS_SLOT;
        return erofs_image_write(image, (uint64_t)block * EROFS_BLOCK, image->head.data, head, err);
    }
    struct erofs_open_block *block = find_room(image, head + tail, err);
    if (!block)
        return -1;
    uint64_t at = (uint64_t)block->block * EROFS_BLOCK + block->used;
    out->nid = at / EROFS_SLOT;
    memcpy(block->data + block->used, image->head.data, head);
    if (tail > 0) {
        out->memory = block->data + block->used + head;
        out->at = at + head;
    }
    block->used += (uint32_t)((head + tail + EROFS_SLOT - 1) & ~(size_t)(EROFS_SLOT - 1));
    return 0;
}

int erofs_image_put(struct erofs_image *image, const struct erofs_attributes *attributes, uint64_t size, struct erofs_content *out,
                    struct err *err)
{
    struct erofs_content content = { 0 };
    uint32_t block = 0;
    if (erofs_image_head(image, attributes, EROFS_FLAT_PLAIN, size, 0, err) < 0)
        return -1;
    bool inside = size > 0 && (!image->plain || S_ISLNK(attributes->mode)) && image->head.size + size <= EROFS_BLOCK;
    if (size > 0 && !inside && erofs_image_blocks(image, (size - 1) / EROFS_BLOCK + 1, &block, err) < 0)
        return -1;
    struct erofs_inode_disk *inode = (struct erofs_inode_disk *)image->head.data;
    inode->format = EROFS_FORMAT(inside ? EROFS_FLAT_INLINE : EROFS_FLAT_PLAIN);
    inode->place = inside ? EROFS_NO_BLOCK : block;
    content.at = (uint64_t)block * EROFS_BLOCK;
    if (put_head(image, inside ? (size_t)size : 0, &content, err) < 0)
        return -1;
    *out = content;
    return 0;
}

int erofs_image_put_node(struct erofs_image *image, const struct erofs_attributes *attributes, dev_t device, uint64_t *nid,
                         struct err *err)
{
    struct erofs_content content = { 0 };
    uint32_t packed = (minor(device) & 0xff) | (major(device) & 0xfff) << 8 | (minor(device) & ~0xffu) << 12;
    if (erofs_image_head(image, attributes, EROFS_FLAT_PLAIN, 0, packed, err) < 0 || put_head(image, 0, &content, err) < 0)
        return -1;
    *nid = content.nid;
    return 0;
}

int erofs_image_put_chunks(struct erofs_image *image, const struct erofs_attributes *attributes, const struct erofs_chunks *chunks,
                           uint64_t *nid, struct err *err)
{
    struct erofs_content content = { 0 };
    if (erofs_image_head(image, attributes, EROFS_CHUNKED, chunks->size, chunks->bits - EROFS_BLOCK_BITS, err) < 0)
        return -1;
    buf_add(&image->head, chunks->map, chunks->len * sizeof(*chunks->map));
    if (buf_check(&image->head, "file with holes", err) < 0 || put_head(image, 0, &content, err) < 0)
        return -1;
    image->chunked = true;
    *nid = content.nid;
    return 0;
}

// ---- the end --------------------------------------------------------------------------------------------------------

static int patch_links(struct erofs_image *image, const struct erofs_tree *tree, struct err *err)
{
    for (const struct erofs_inode *inode = tree->linked; inode; inode = inode->next_linked) {
        uint64_t at = inode->nid * EROFS_SLOT + offsetof(struct erofs_inode_disk, nlink);
        if (inode->nlink != inode->nlink_written && erofs_image_write(image, at, &inode->nlink, sizeof(inode->nlink), err) < 0)
            return -1;
        if (inode->next_linked == inode)
            break;
    }
    return 0;
}

static int write_shared(struct erofs_image *image, uint32_t *block, struct err *err)
{
    *block = 0;
    if (image->shared.size == 0)
        return 0;
    if (erofs_image_blocks(image, (image->shared.size - 1) / EROFS_BLOCK + 1, block, err) < 0)
        return -1;
    return erofs_image_write(image, (uint64_t)*block * EROFS_BLOCK, image->shared.data, image->shared.size, err);
}

// CRC-32C without the final inversion, as the kernel computes it here. A bit at a time: of one block.
static uint32_t checksum(const void *data, size_t size)
{
    uint32_t crc = UINT32_MAX;
    for (const unsigned char *at = data, *end = at + size; at < end; at++) {
        crc ^= *at;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc;
}

static int write_super(struct erofs_image *image, uint32_t shared_block, char first[EROFS_BLOCK], struct err *err)
{
    struct erofs_super super = {
        .magic = EROFS_MAGIC,
        .feature_compat = EROFS_COMPAT_CHECKSUM | EROFS_COMPAT_MTIME,
        .block_bits = EROFS_BLOCK_BITS,
        .root_nid = ROOT_OFFSET / EROFS_SLOT,
        .inodes = image->inode_len,
        .blocks = (uint32_t)image->block_len,
        .xattr_block = shared_block,
        .feature_incompat = image->chunked ? EROFS_INCOMPAT_CHUNKED : 0,
    };
    memcpy(first + EROFS_SUPER_OFFSET, &super, sizeof(super));
    super.checksum = checksum(first + EROFS_SUPER_OFFSET, EROFS_BLOCK - EROFS_SUPER_OFFSET);
    memcpy(first + EROFS_SUPER_OFFSET, &super, sizeof(super));
    return erofs_image_write(image, 0, first, EROFS_BLOCK, err);
}

int erofs_image_end(struct erofs_image *image, struct erofs_tree *tree, uint64_t *size, struct err *err)
{
    char first[EROFS_BLOCK] = { 0 };
    uint32_t shared_block;
    for (size_t i = 0; i < image->open_len; i++)
        if (close_block(image, &image->open[i], err) < 0)
            return -1;
    image->open_len = 0;
    if (patch_links(image, tree, err) < 0 || erofs_folders_write(image, tree, ROOT_OFFSET / EROFS_SLOT, err) < 0 ||
        write_shared(image, &shared_block, err) < 0)
        return -1;
    if (tree->root->head_size > EROFS_BLOCK - ROOT_OFFSET)
        return err_set(err, ERR_INVALID_ARGUMENT, "extended attributes of the layer's root are too large");
    memcpy(first + ROOT_OFFSET, tree->root->head, tree->root->head_size);
    if (ftruncate(image->fd, (off_t)(image->block_len * EROFS_BLOCK)) < 0)
        return err_errno(err, errno, "set size of the layer's image");
    *size = image->block_len * EROFS_BLOCK;
    return write_super(image, shared_block, first, err);
}
