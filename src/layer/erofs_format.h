// EROFS on disk, as far as it is written here (Linux: Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h). Numbers are
// little-endian, and so is every machine that Berth runs on.
#ifndef LAYER_EROFS_FORMAT_H
#define LAYER_EROFS_FORMAT_H

#include "base/defs.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the structures are written as they stand in memory");

#define EROFS_MAGIC 0xe0f5e1e2u
#define EROFS_SUPER_OFFSET 1024
#define EROFS_BLOCK_BITS 12
#define EROFS_BLOCK 4096u
#define EROFS_SLOT 32u // inodes begin at multiples of it; an inode's number (nid) is its place in slots
#define EROFS_NO_BLOCK UINT32_MAX // a hole

#define EROFS_COMPAT_CHECKSUM 1u
#define EROFS_COMPAT_MTIME 2u // an inode's time is its mtime
#define EROFS_INCOMPAT_CHUNKED 4u

struct erofs_super {
    uint32_t magic, checksum, feature_compat;
    uint8_t block_bits, ext_slots;
    uint16_t root_nid;
    uint64_t inodes, build_time;
    uint32_t build_time_ns, blocks, meta_block, xattr_block;
    uint8_t uuid[16], volume_name[16];
    uint32_t feature_incompat;
    uint8_t reserved[44];
};
_Static_assert(sizeof(struct erofs_super) == 128, "size on disk");

enum erofs_layout { EROFS_FLAT_PLAIN = 0, EROFS_FLAT_INLINE = 2, EROFS_CHUNKED = 4 };
#define EROFS_EXTENDED 1u
#define EROFS_FORMAT(layout) ((uint16_t)(EROFS_EXTENDED | (unsigned)(layout) << 1))

// Always the extended form: the compact one has no time of its own on kernels before 6.14, and 16-bit owners.
struct erofs_inode_disk {
    uint16_t format, xattr_count, mode, reserved;
    uint64_t size;
    uint32_t place; // first block, device number, or the size of a chunk
    uint32_t number, uid, gid;
    uint64_t mtime;
    uint32_t mtime_ns, nlink;
    uint8_t reserved2[16];
};
_Static_assert(sizeof(struct erofs_inode_disk) == 64, "size on disk");

struct erofs_dirent {
    uint64_t nid;
    uint16_t name_at; // in the block; the first one's also tells how many entries the block has
    uint8_t type, reserved;
} __attribute__((packed));
_Static_assert(sizeof(struct erofs_dirent) == 12, "size on disk");

enum { EROFS_TYPE_FILE = 1, EROFS_TYPE_FOLDER, EROFS_TYPE_CHAR, EROFS_TYPE_BLOCK, EROFS_TYPE_FIFO, EROFS_TYPE_SOCKET, EROFS_TYPE_LINK };

#define EROFS_XATTR_COUNT_MAX UINT16_MAX
struct erofs_xattr_head { // then `shared_len` numbers of 4 bytes, then entries
    uint32_t filter;
    uint8_t shared_len, reserved[7];
};
struct erofs_xattr_entry { // then name and value; the next one begins at a multiple of 4
    uint8_t name_size, prefix;
    uint16_t value_size;
};
_Static_assert(sizeof(struct erofs_xattr_head) == 12 && sizeof(struct erofs_xattr_entry) == 4, "size on disk");

#endif
