// virtio-blk (virtio 1.2, 5.2) over a raw file or block device: one queue; IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES.
//
//     request: device-readable  { u32 type, u32 reserved, u64 sector }, data of OUT, or ranges of DISCARD and WRITE_ZEROES
//              device-writable  data of IN and GET_ID, then one byte of status
//
// Data goes between the file and guest memory without a copy of ours. Requests are done one after another, each finished
// before the next is taken. A driver that doesn't negotiate VIRTIO_BLK_F_FLUSH gets a write-through disk (5.2.6.2).
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/virtio_blk.h>

#include "base/fd.h"
#include "vmm/virtio.h"

#define SECTOR UINT64_C(512)
#define SIZE_MAX_BYTES (256u << 10) // of a data segment: seg_max of them stay below VIRTQ_CHAIN_BYTES_MAX
#define DISCARD_SECTORS_MAX (1u << 22) // 2 GiB a range: a hole costs the same whatever its size
#define ZEROES_SECTORS_MAX (1u << 15) // 16 MiB a range: where the file system can't do it they are written
#define RANGES_MAX 16

struct blk {
    struct virtio_device device;
    struct virtio_blk_config config;
    int fd;
    bool read_only;
    char id[VIRTIO_BLK_ID_BYTES];
    uint64_t size; // bytes
};

static bool in_disk(const struct blk *blk, uint64_t sector, uint64_t size)
{
    return sector <= blk->size / SECTOR && size <= blk->size - sector * SECTOR;
}

static uint8_t status_of(bool done)
{
    return done ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
}

// Without FLUSH the driver relies on what is written being safe.
static bool settle(const struct blk *blk)
{
    return virtio_has(&blk->device, VIRTIO_BLK_F_FLUSH) || fdatasync(blk->fd) == 0;
}

// ---- requests -------------------------------------------------------------------------------------------------------

// `size` bytes between the file at `sector` and the chain's part from `offset` on.
static bool transfer(const struct blk *blk, const struct virtq_chain *chain, bool into_guest, uint64_t offset, uint64_t size,
                     uint64_t sector)
{
    uint64_t done = 0;
    while (done < size) {
        struct iovec iov[VIRTQ_SIZE_MAX];
        uint64_t got;
        unsigned len = virtq_slice(chain, into_guest, offset + done, size - done, iov, &got);
        off_t at = (off_t)(sector * SECTOR + done);
        ssize_t n = into_guest ? preadv(blk->fd, iov, (int)len, at) : pwritev(blk->fd, iov, (int)len, at);
        if (n > 0)
            done += (uint64_t)n;
        else if (n == 0 || errno != EINTR)
            return false; // the file became shorter, or it failed
    }
    return true;
}

static uint8_t read_sectors(struct blk *blk, const struct virtq_chain *chain, uint64_t sector, uint32_t *written)
{
    uint64_t size = chain->in_size - 1;
    if (size % SECTOR || !in_disk(blk, sector, size) || !transfer(blk, chain, true, 0, size, sector))
        return VIRTIO_BLK_S_IOERR;
    *written = (uint32_t)size;
    return VIRTIO_BLK_S_OK;
}

static uint8_t write_sectors(struct blk *blk, const struct virtq_chain *chain, uint64_t sector)
{
    uint64_t size = chain->out_size - sizeof(struct virtio_blk_outhdr);
    if (blk->read_only || size % SECTOR || !in_disk(blk, sector, size))
        return VIRTIO_BLK_S_IOERR;
    return status_of(transfer(blk, chain, false, sizeof(struct virtio_blk_outhdr), size, sector) && settle(blk));
}

static uint8_t get_id(const struct blk *blk, const struct virtq_chain *chain, uint32_t *written)
{
    size_t size = MIN_OF(chain->in_size - 1, sizeof(blk->id));
    *written = (uint32_t)virtq_write(chain, 0, blk->id, size);
    return VIRTIO_BLK_S_OK;
}

// Never behind the end of the file: the range was checked.
static bool write_zeroes(const struct blk *blk, uint64_t at, uint64_t size)
{
    static const uint8_t zeroes[64 << 10];
    while (size) {
        ssize_t n = pwrite(blk->fd, zeroes, MIN_OF(size, sizeof(zeroes)), (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return true;
}

static uint8_t do_range(const struct blk *blk, bool discard, const struct virtio_blk_discard_write_zeroes *range)
{
    uint64_t at = range->sector * SECTOR, size = range->num_sectors * SECTOR;
    bool unmap = range->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
    if ((range->flags & ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) || (discard && unmap))
        return VIRTIO_BLK_S_UNSUPP;
    if (range->num_sectors > (discard ? DISCARD_SECTORS_MAX : ZEROES_SECTORS_MAX) || !in_disk(blk, range->sector, size))
        return VIRTIO_BLK_S_IOERR;
    if (size == 0)
        return VIRTIO_BLK_S_OK;
    int mode = FALLOC_FL_KEEP_SIZE | (discard || unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
    int failed;
    do
        failed = fallocate(blk->fd, mode, (off_t)at, (off_t)size);
    while (failed && errno == EINTR);
    if (!failed)
        return VIRTIO_BLK_S_OK;
    // What was to be discarded may stay; what was to be zero must be.
    return status_of(errno == EOPNOTSUPP && (discard || write_zeroes(blk, at, size)));
}

static uint8_t do_ranges(const struct blk *blk, const struct virtq_chain *chain, bool discard)
{
    struct virtio_blk_discard_write_zeroes range;
    uint64_t size = chain->out_size - sizeof(struct virtio_blk_outhdr);
    if (!virtio_has(&blk->device, discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES))
        return VIRTIO_BLK_S_UNSUPP;
    if (size == 0 || size % sizeof(range) || size / sizeof(range) > RANGES_MAX)
        return VIRTIO_BLK_S_IOERR;
    for (uint64_t at = 0; at < size; at += sizeof(range)) {
        virtq_read(chain, sizeof(struct virtio_blk_outhdr) + at, &range, sizeof(range));
        uint8_t status = do_range(blk, discard, &range);
        if (status != VIRTIO_BLK_S_OK)
            return status;
    }
    return status_of(settle(blk));
}

static uint8_t do_request(struct blk *blk, const struct virtq_chain *chain, uint32_t *written)
{
    struct virtio_blk_outhdr header;
    if (virtq_read(chain, 0, &header, sizeof(header)) != sizeof(header))
        return VIRTIO_BLK_S_IOERR;
    switch (header.type) {
    case VIRTIO_BLK_T_IN:
        return read_sectors(blk, chain, header.sector, written);
    case VIRTIO_BLK_T_OUT:
        return write_sectors(blk, chain, header.sector);
    case VIRTIO_BLK_T_FLUSH:
        return status_of(blk->read_only || fdatasync(blk->fd) == 0);
    case VIRTIO_BLK_T_GET_ID:
        return get_id(blk, chain, written);
    case VIRTIO_BLK_T_DISCARD:
        return do_ranges(blk, chain, true);
    case VIRTIO_BLK_T_WRITE_ZEROES:
        return do_ranges(blk, chain, false);
    default:
        return VIRTIO_BLK_S_UNSUPP;
    }
}

static bool blk_process(struct virtio_device *device, unsigned index)
{
    struct blk *blk = (struct blk *)device;
    struct virtq *queue = &device->queues[index];
    struct virtq_chain chain;
    uint64_t bytes = 0; // large requests use the budget up faster
    for (int i = 0; i < VIRTIO_BUDGET && bytes < VIRTQ_CHAIN_BYTES_MAX; i++) {
        if (virtq_next(queue, &chain) <= 0)
            return false;
        bytes += chain.in_size + chain.out_size;
        if (chain.in_size == 0) {
            virtq_break(queue, "a disk request without room for its status");
            return false;
        }
        uint32_t written = 0;
        uint8_t status = do_request(blk, &chain, &written);
        virtq_write(&chain, chain.in_size - 1, &status, 1);
        virtq_put(queue, chain.head, written + 1);
    }
    return true;
}

// ---- life -----------------------------------------------------------------------------------------------------------

// The disk itself is not part of the state; that it is the same one the guest knows is checked as far as it can be seen.
static void blk_save(const struct virtio_device *device, struct state_writer *writer)
{
    const struct blk *blk = (const struct blk *)device;
    state_put64(writer, blk->config.capacity);
    state_put_bytes(writer, blk->id, sizeof(blk->id));
}

static void blk_load(struct virtio_device *device, struct state_reader *reader)
{
    struct blk *blk = (struct blk *)device;
    uint64_t capacity = state_get64(reader);
    state_get_bytes(reader, blk->id, sizeof(blk->id));
    if (!reader->failed && capacity != blk->config.capacity)
        state_fail(reader, "the disk had %llu sectors, this one has %llu", (unsigned long long)capacity,
                   (unsigned long long)blk->config.capacity);
}

static void blk_free(struct virtio_device *device)
{
    struct blk *blk = (struct blk *)device;
    fd_close(blk->fd);
    free(blk);
}

static const struct virtio_ops blk_ops = {
    .name = "virtio-blk",
    .device_id = VIRTIO_ID_BLOCK,
    .queues_len = 1,
    .queue_size = VIRTQ_SIZE_MAX,
    .process = blk_process,
    .save = blk_save,
    .load = blk_load,
    .free = blk_free,
};

int virtio_blk_new(const struct gmem *memory, int fd, bool read_only, const char *id, struct virtio_device **out,
                   struct err *err)
{
    off_t size = lseek(fd, 0, SEEK_END);
    if (size < 0)
        return err_errno(err, errno, "disk %s: size", id);
    int mode = fcntl(fd, F_GETFL);
    if (mode < 0 || (!read_only && (mode & O_ACCMODE) != O_RDWR))
        return err_set(err, ERR_INVALID_ARGUMENT, "disk %s: not open for reading and writing", id);
    struct blk *blk = mem_new(struct blk);
    blk->fd = fd;
    blk->read_only = read_only;
    blk->size = (uint64_t)size / SECTOR * SECTOR;
    memcpy(blk->id, id, strnlen(id, sizeof(blk->id)));
    blk->config = (struct virtio_blk_config){
        .capacity = blk->size / SECTOR,
        .size_max = SIZE_MAX_BYTES,
        .seg_max = VIRTQ_SIZE_MAX - 2,
        .blk_size = SECTOR,
        .max_discard_sectors = DISCARD_SECTORS_MAX,
        .max_discard_seg = RANGES_MAX,
        .discard_sector_alignment = 1,
        .max_write_zeroes_sectors = ZEROES_SECTORS_MAX,
        .max_write_zeroes_seg = RANGES_MAX,
        .write_zeroes_may_unmap = 1,
    };
    uint64_t features = VIRTIO_FEATURE(VIRTIO_BLK_F_SIZE_MAX) | VIRTIO_FEATURE(VIRTIO_BLK_F_SEG_MAX) |
                        VIRTIO_FEATURE(VIRTIO_BLK_F_BLK_SIZE) | VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH);
    features |= read_only ? VIRTIO_FEATURE(VIRTIO_BLK_F_RO)
                          : VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD) | VIRTIO_FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
    virtio_init(&blk->device, &blk_ops, memory, features, &blk->config, sizeof(blk->config));
    *out = &blk->device;
    return 0;
}
