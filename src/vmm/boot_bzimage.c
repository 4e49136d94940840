// A bzImage is a real-mode setup part, then a program that inflates the kernel it carries. We inflate it ourselves: the
// vmlinux inside starts by PVH, at once and at native speed. The payload's last four bytes are its inflated size.
#include <asm/bootparam.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "vmm/boot.h"

#define HEADER_OFFSET 0x1f1
#define MAGIC_HDRS 0x53726448
#define BOOT_FLAG 0xaa55
#define VERSION_PAYLOAD 0x208 // the boot protocol that tells where the payload is
#define SECTOR 512
#define LZ4_BLOCK_MAX (8u << 20) // of the legacy format, inflated
#define XZ_MEMORY_MAX (UINT64_C(256) << 20)

static int bad(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "bzImage: %s", what);
}

static bool take_header(struct boot_file file, struct setup_header *out)
{
    if (file.size < HEADER_OFFSET + sizeof(*out))
        return false;
    memcpy(out, file.data + HEADER_OFFSET, sizeof(*out));
    return out->boot_flag == BOOT_FLAG && out->header == MAGIC_HDRS;
}

bool boot_bzimage_is(struct boot_file file)
{
    struct setup_header header;
    return take_header(file, &header);
}

static int find_packing(const uint8_t *payload, enum boot_packing *out, struct err *err)
{
    static const struct {
        uint8_t magic[6];
        size_t size;
        enum boot_packing packing;
    } known[] = {
        { { 0x1f, 0x8b }, 2, BOOT_PACKED_GZIP },
        { { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6, BOOT_PACKED_XZ },
        { { 0x28, 0xb5, 0x2f, 0xfd }, 4, BOOT_PACKED_ZSTD },
        { { 0x02, 0x21, 0x4c, 0x18 }, 4, BOOT_PACKED_LZ4 },
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (memcmp(payload, known[i].magic, known[i].size) == 0) {
            *out = known[i].packing;
            return 0;
        }
    return err_set(err, ERR_NOT_IMPLEMENTED, "bzImage: its kernel is packed in an unknown way (known: gzip, xz, zstd, lz4)");
}

int boot_bzimage_parse(struct boot_file file, struct boot_bzimage *out, struct err *err)
{
    struct setup_header header;
    struct boot_bzimage image;
    uint32_t inflated;
    if (!take_header(file, &header))
        return bad(err, "no boot header");
    if (header.version < VERSION_PAYLOAD)
        return err_set(err, ERR_NOT_IMPLEMENTED, "bzImage: boot protocol %u.%02u is too old", header.version >> 8,
                       header.version & 0xff);
    // Zero stands for four sectors, from before the field was filled.
    uint64_t setup = ((header.setup_sects ? header.setup_sects : 4u) + UINT64_C(1)) * SECTOR;
    uint64_t offset = setup + header.payload_offset, size = header.payload_length;
    if (size < 16 || offset > file.size || size > file.size - offset)
        return bad(err, "its payload lies outside the file");
    memcpy(&inflated, file.data + offset + size - sizeof(inflated), sizeof(inflated));
    if (inflated == 0 || inflated > BOOT_FILE_MAX)
        return bad(err, "the size of its kernel makes no sense");
    if (find_packing(file.data + offset, &image.packing, err) < 0)
        return -1;
    // gzip ends in that size by itself, behind the others the build appends it.
    image.offset = (size_t)offset;
    image.size = (size_t)(image.packing == BOOT_PACKED_GZIP ? size : size - sizeof(inflated));
    image.vmlinux_size = inflated;
    *out = image;
    return 0;
}

// ---- unpacking: each returns whether exactly out_size bytes came out -----------------------------------------------

static bool unpack_gzip(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
    z_stream stream = {
        .next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)in_size, .next_out = out, .avail_out = (uInt)out_size,
    };
    if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK)
        return false;
    int result = inflate(&stream, Z_FINISH);
    bool whole = result == Z_STREAM_END && stream.total_out == out_size;
    inflateEnd(&stream);
    return whole;
}

static bool unpack_xz(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
    uint64_t memory_max = XZ_MEMORY_MAX;
    size_t in_at = 0, out_at = 0;
    lzma_ret result = lzma_stream_buffer_decode(&memory_max, 0, NULL, in, &in_at, in_size, out, &out_at, out_size);
    return result == LZMA_OK && out_at == out_size;
}

static bool unpack_zstd(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
    size_t result = ZSTD_decompress(out, out_size, in, in_size);
    return !ZSTD_isError(result) && result == out_size;
}

// The legacy format that the kernel's build writes: a magic word, then blocks, each after its packed size.
static bool unpack_lz4(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
    size_t in_at = 4, out_at = 0;
    while (in_size - in_at >= sizeof(uint32_t)) {
        uint32_t block;
        memcpy(&block, in + in_at, sizeof(block));
        in_at += sizeof(block);
        if (block == 0 || block > in_size - in_at || block > INT32_MAX)
            return false;
        size_t room = MIN_OF(out_size - out_at, (size_t)LZ4_BLOCK_MAX);
        int got = LZ4_decompress_safe((const char *)in + in_at, (char *)out + out_at, (int)block, (int)room);
        if (got <= 0)
            return false;
        in_at += block;
        out_at += (size_t)got;
    }
    return in_at == in_size && out_at == out_size;
}

int boot_bzimage_unpack(struct boot_file file, const struct boot_bzimage *image, uint8_t *out, struct err *err)
{
    static const struct {
        const char *name;
        bool (*unpack)(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size);
    } packings[] = {
        [BOOT_PACKED_GZIP] = { "gzip", unpack_gzip },
        [BOOT_PACKED_XZ] = { "xz", unpack_xz },
        [BOOT_PACKED_ZSTD] = { "zstd", unpack_zstd },
        [BOOT_PACKED_LZ4] = { "lz4", unpack_lz4 },
    };
    if (!packings[image->packing].unpack(file.data + image->offset, image->size, out, image->vmlinux_size))
        return err_set(err, ERR_INVALID_ARGUMENT, "bzImage: its %s payload is damaged", packings[image->packing].name);
    return 0;
}
