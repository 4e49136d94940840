// rooms: vmm base
// A disk behind its registers, driven by { u8 len, len times { u16 offset, u32 value } } written to the registers once the
// device is live, then guest memory: descriptor table of 16, available ring at 0x100, buffers behind it. Then it is saved,
// loaded into another device, and goes on.
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define GUEST_SIZE UINT64_C(0x20000)
#include "../unit/vmm/guest.h"

#define SIZE 16
#define DISK (64 << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct virtio_device *new_disk(const struct gmem *memory)
{
    struct virtio_device *device;
    int fd = memfd_create("disk", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, DISK) < 0 || virtio_blk_new(memory, fd, false, "fuzz", &device, NULL) < 0)
        abort();
    return device;
}

static size_t run_script(struct virtio_mmio *mmio, const uint8_t *data, size_t size)
{
    size_t at = 1;
    for (unsigned i = 0; i < data[0] && size - at >= 6; i++, at += 6) {
        uint64_t value = data[at + 2] | data[at + 3] << 8 | data[at + 4] << 16 | (uint32_t)data[at + 5] << 24;
        unsigned width = data[at + 1] & 0x80 ? 1u << (data[at + 1] >> 4 & 3) : 4;
        uint64_t offset = (data[at] | (data[at + 1] & 0x0f) << 8) % (VIRTIO_MMIO_SIZE - 8);
        mmio->bus.ops->write(&mmio->bus, offset, &value, width);
        mmio->bus.ops->read(&mmio->bus, offset, &value, width);
    }
    return at;
}

static void move(struct virtio_mmio *from, struct virtio_mmio *to)
{
    _cleanup_buf_ struct buf saved = BUF_INIT(64 << 10);
    virtio_pause(from->device);
    virtio_pause(to->device);
    virtio_mmio_save(from, &(struct state_writer){ &saved });
    struct state_reader reader = state_open(saved.data, saved.size, NULL);
    if (virtio_mmio_load(to, &reader) == 0 && state_finish(&reader) < 0)
        abort();
    virtio_resume(to->device);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct guest guest;
    guest_init(&guest);
    struct virtio_mmio mmio, other;
    virtio_mmio_init(&mmio, new_disk(&guest.memory));
    virtio_mmio_init(&other, new_disk(&guest.memory));
    const struct ring ring = { .size = SIZE, .desc_gpa = GUEST_BASE, .avail_gpa = GUEST_BASE + 0x100,
                               .used_gpa = GUEST_BASE + 0x10000 };
    driver_start(&mmio, driver_offered(&mmio), &ring, 1);
    size_t at = run_script(&mmio, data, size);
    memcpy(guest.ram, data + at, MIN_OF(size - at, (size_t)0x8000));
    driver_kick(&mmio, 0);
    uint16_t *avail = (uint16_t *)(guest.ram + 0x100);
    avail[1]++; // one more, whatever lies there
    move(&mmio, &other);
    driver_kick(&other, 0);
    virtio_free(mmio.device);
    virtio_free(other.device);
    guest_done(&guest);
    return 0;
}
