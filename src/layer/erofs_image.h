// The image file while it grows: blocks, inodes of everything but folders, and at the end folders and superblock. Private to the
// room.
//
//     block 0          superblock, the root's inode
//     blocks 1...      in the order things come: files of more than a block, each in a run of blocks; and shared blocks, where
//                      inodes stand, with small files' content and links' targets behind them
//     then             folders' inodes with their short lists, folders' full blocks, shared extended attributes
//
// meta_blkaddr is 0, so an inode may stand anywhere: what has come is written and forgotten, only names stay in memory. The root's
// number has 16 bits, so its place is kept in the first block.
#ifndef LAYER_EROFS_IMAGE_H
#define LAYER_EROFS_IMAGE_H

#include "base/buf.h"
#include "erofs_format.h"
#include "erofs_tree.h"

#define EROFS_OPEN_BLOCKS 64 // shared blocks that still take something: what does not fit in one may fit in the next

struct erofs_open_block {
    uint32_t block, used;
    char data[EROFS_BLOCK];
};

struct erofs_shared_xattr; // erofs_xattr.c

struct erofs_image {
    int fd; // borrowed
    bool plain; // nothing behind an inode: each page of a file stands alone in the image
    uint64_t block_max;
    uint64_t block_len;
    struct erofs_open_block *open; // EROFS_OPEN_BLOCKS
    size_t open_len;
    struct erofs_shared_xattr *seen; // EROFS_SEEN_MAX, what may come again
    size_t seen_len;
    struct buf shared; // those that came again
    struct buf head; // scratch: an inode on its way
    uint64_t inode_len;
    bool chunked; // some file has holes
};

struct erofs_attributes {
    mode_t mode; // with its type
    uid_t uid;
    gid_t gid;
    struct timespec mtime;
    uint32_t nlink;
    const struct erofs_xattr *xattrs;
};

void erofs_image_init(struct erofs_image *image, int fd, uint64_t size_max, bool plain);
void erofs_image_done(struct erofs_image *image);

// A run of blocks; resource_exhausted past the image's bound.
int erofs_image_full(const struct erofs_image *image, struct err *err); // says so
int erofs_image_blocks(struct erofs_image *image, uint64_t len, uint32_t *out, struct err *err);
int erofs_image_write(struct erofs_image *image, uint64_t at, const void *data, size_t size, struct err *err);

// Where the content of an inode goes, before it is known.
struct erofs_content {
    uint64_t nid;
    char *memory; // behind the inode, valid until the next inode is put; NULL: in blocks
    uint64_t at; // offset in the image; without a meaning for a file with holes
};
// A regular file or a symlink of `size` bytes: behind its inode, or in a run of blocks.
int erofs_image_put(struct erofs_image *image, const struct erofs_attributes *attributes, uint64_t size, struct erofs_content *out,
                    struct err *err);
// A device or fifo.
int erofs_image_put_node(struct erofs_image *image, const struct erofs_attributes *attributes, dev_t device, uint64_t *nid,
                         struct err *err);
// A file with holes, its chunks already written.
struct erofs_chunks;
int erofs_image_put_chunks(struct erofs_image *image, const struct erofs_attributes *attributes, const struct erofs_chunks *chunks,
                           uint64_t *nid, struct err *err);
// Folders, late hard links, superblock. *size: bytes of the file, full blocks.
int erofs_image_end(struct erofs_image *image, struct erofs_tree *tree, uint64_t *size, struct err *err);

// ---- erofs_chunks.c -------------------------------------------------------------------------------------------------

struct erofs_chunks {
    uint64_t size; // of the file
    unsigned bits; // of a chunk's size
    size_t len;
    uint32_t *map; // each chunk's first block, or EROFS_NO_BLOCK: a hole
};

int erofs_chunks_init(struct erofs_chunks *chunks, uint64_t size, struct err *err); // size > 0
void erofs_chunks_done(struct erofs_chunks *chunks);
// Where in the image a chunk begins, made now if it has been a hole.
int erofs_chunk_place(struct erofs_image *image, struct erofs_chunks *chunks, size_t chunk, uint64_t *at, struct err *err);

// ---- for erofs_folders.c --------------------------------------------------------------------------------------------
// Appends an inode and its attributes to image->head. `layout` and `place` as on disk.
int erofs_image_head(struct erofs_image *image, const struct erofs_attributes *attributes, enum erofs_layout layout, uint64_t size,
                     uint32_t place, struct err *err);
// Writes all folders; the root's inode goes to the slot `root_nid`, whose block is the caller's otherwise.
int erofs_folders_write(struct erofs_image *image, struct erofs_tree *tree, uint64_t root_nid, struct err *err);

// ---- erofs_xattr.c --------------------------------------------------------------------------------------------------
#define EROFS_SEEN_MAX 256
#define EROFS_SHARED_MAX ((size_t)1 << 20)
// Appends the attributes to image->head as they stand behind an inode: nothing at all, or a multiple of 4 bytes. What came before
// with the same name and value goes into the shared area.
int erofs_xattrs_add(struct erofs_image *image, const struct erofs_xattr *xattrs, struct err *err);
void erofs_xattrs_done(struct erofs_image *image);

#endif
