#include <stddef.h>

#include "kernel/layers_disk.h"

#define SECTOR 512u
#define BLOCK 4096u
#define DISK_ALIGN (UINT64_C(2) << 20)
#define TABLE_LEN 256u // entries, 128 bytes each
#define TABLE_SIZE (TABLE_LEN * (uint32_t)sizeof(struct entry))
#define TABLE_SECTORS (TABLE_SIZE / SECTOR)
#define SIZE_MAX_BYTES (UINT64_C(1) << 46) // of all files together

// UEFI 2.10, 5.3. Little-endian, as all machines here are.
struct header {
    char signature[8];
    uint32_t revision, header_size, header_crc, zero;
    uint64_t own_sector, other_sector, first_usable, last_usable;
    uint8_t disk_guid[16];
    uint64_t table_sector;
    uint32_t table_len, entry_size, table_crc;
} __attribute__((packed));

struct entry {
    uint8_t type[16], guid[16];
    uint64_t first, last; // sectors, both included
    uint64_t attributes;
    uint16_t name[36];
};
_Static_assert(sizeof(struct header) == 92 && sizeof(struct entry) == 128, "as the specification has them");

#define READ_ONLY (UINT64_C(1) << 60) // attribute of basic data partitions

static const uint8_t linux_data[16] = { 0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4 };

static uint32_t crc32_of(const void *data, size_t size)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= ((const uint8_t *)data)[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

// Ids must differ within a machine, and be the same each time: the number says it all. Zero is the disk's own.
static void put_guid(uint8_t out[16], uint16_t number)
{
    static const uint8_t berth[16] = { 'b', 'e', 'r', 't', 'h', '-', 'l', 0x40, 0x80, 'a', 'y', 'e', 'r', 's', 0, 0 };
    memcpy(out, berth, sizeof(berth));
    memcpy(out + 14, &number, sizeof(number));
}

static void fill_table(const struct layers_disk *disk, struct entry *table)
{
    for (size_t i = 0; i < disk->len; i++) {
        uint64_t start = layers_disk_offset(disk, i);
        struct entry *entry = &table[i];
        memcpy(entry->type, linux_data, sizeof(linux_data));
        put_guid(entry->guid, (uint16_t)(i + 1));
        entry->first = start / SECTOR;
        entry->last = (start + disk->sizes[i]) / SECTOR - 1;
        entry->attributes = READ_ONLY;
        for (size_t j = 0; j < 5; j++)
            entry->name[j] = (uint16_t)"layer"[j];
    }
}

static void fill_header(const struct layers_disk *disk, const struct entry *table, bool copy, struct header *out)
{
    uint64_t last = disk->size / SECTOR - 1;
    *out = (struct header){
        .revision = 0x10000,
        .header_size = sizeof(*out),
        .own_sector = copy ? last : 1,
        .other_sector = copy ? 1 : last,
        .first_usable = 2 + TABLE_SECTORS,
        .last_usable = last - 1 - TABLE_SECTORS,
        .table_sector = copy ? last - TABLE_SECTORS : 2,
        .table_len = TABLE_LEN,
        .entry_size = sizeof(*table),
        .table_crc = crc32_of(table, TABLE_SIZE),
    };
    memcpy(out->signature, "EFI PART", sizeof(out->signature));
    put_guid(out->disk_guid, 0);
    out->header_crc = crc32_of(out, sizeof(*out));
}

// The MBR that tells others to keep off: one partition over everything.
static void fill_mbr(const struct layers_disk *disk, uint8_t *sector)
{
    uint32_t first = 1, sectors = (uint32_t)MIN_OF(disk->size / SECTOR - 1, UINT32_MAX);
    const uint8_t entry[] = { 0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff };
    memcpy(sector + 446, entry, sizeof(entry));
    memcpy(sector + 454, &first, sizeof(first));
    memcpy(sector + 458, &sectors, sizeof(sectors));
    sector[510] = 0x55;
    sector[511] = 0xaa;
}

static int check_sizes(const uint64_t *sizes, size_t len, uint64_t *sum, struct err *err)
{
    if (len == 0 || len > LAYERS_DISK_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "%zu layers on one disk: it takes 1 to %d", len, LAYERS_DISK_MAX);
    for (size_t i = 0; i < len; i++) {
        if (sizes[i] == 0 || sizes[i] % BLOCK || sizes[i] > SIZE_MAX_BYTES - *sum)
            return err_set(err, ERR_INVALID_ARGUMENT, "layer %zu has %llu bytes: not blocks of 4 KiB, or too much", i,
                           (unsigned long long)sizes[i]);
        *sum += sizes[i];
    }
    return 0;
}

int layers_disk_make(const uint64_t *sizes, size_t len, struct layers_disk *out, struct err *err)
{
    uint64_t sum = 0;
    struct header header;
    if (check_sizes(sizes, len, &sum, err) < 0)
        return -1;
    *out = (struct layers_disk){ .len = len };
    memcpy(out->sizes, sizes, len * sizeof(*sizes));
    out->size = (LAYERS_DISK_HEAD + sum + LAYERS_DISK_HEAD + DISK_ALIGN - 1) & ~(DISK_ALIGN - 1);
    out->tail_size = out->size - LAYERS_DISK_HEAD - sum;
    out->head = mem_alloc(LAYERS_DISK_HEAD);
    out->tail = mem_alloc(out->tail_size);
    struct entry *table = (struct entry *)(void *)(out->head + 2 * SECTOR);
    uint8_t *end = out->tail + out->tail_size;
    fill_table(out, table);
    fill_mbr(out, out->head);
    fill_header(out, table, false, &header);
    memcpy(out->head + SECTOR, &header, sizeof(header));
    fill_header(out, table, true, &header);
    memcpy(end - SECTOR, &header, sizeof(header));
    memcpy(end - SECTOR - TABLE_SIZE, table, TABLE_SIZE);
    return 0;
}

void layers_disk_done(struct layers_disk *disk)
{
    free(disk->head);
    free(disk->tail);
    *disk = (struct layers_disk){ 0 };
}

uint64_t layers_disk_offset(const struct layers_disk *disk, size_t file)
{
    uint64_t offset = LAYERS_DISK_HEAD;
    for (size_t i = 0; i < file; i++)
        offset += disk->sizes[i];
    return offset;
}

// QEMU takes an empty line for the end of the extents.
void layers_disk_vmdk(const struct layers_disk *disk, const char *const *names, struct buf *out)
{
    buf_adds(out, "# Disk DescriptorFile\nversion=1\nCID=62657274\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n");
    for (size_t i = 0; i < disk->len + 2; i++) {
        uint64_t size = i == 0 ? LAYERS_DISK_HEAD : i == disk->len + 1 ? disk->tail_size : disk->sizes[i - 1];
        buf_addf(out, "RW %llu FLAT \"%s\" 0\n", (unsigned long long)(size / SECTOR), names[i]);
    }
}
