// The guest's side for tests: plain memory, rings built in it as a driver would, and a driver that speaks to the registers.
// Nothing is checked here on purpose, so that a hostile driver is written as easily as a good one.
#ifndef TESTS_VMM_GUEST_H
#define TESTS_VMM_GUEST_H

#include <linux/virtio_mmio.h>
#include <sys/eventfd.h>

#include "vmm/virtio_mmio.h"

#define GUEST_BASE UINT64_C(0x100000)
#ifndef GUEST_SIZE
#define GUEST_SIZE UINT64_C(0x200000)
#endif
#define GUEST_DATA (GUEST_BASE + 0x40000) // rings lie below

struct guest {
    struct gmem memory;
    uint8_t *ram;
};

static inline void guest_init(struct guest *guest)
{
    *guest = (struct guest){ .ram = aligned_alloc(4096, GUEST_SIZE) };
    memset(guest->ram, 0, GUEST_SIZE);
    gmem_add(&guest->memory, GUEST_BASE, GUEST_SIZE, guest->ram, false, NULL);
}

static inline void guest_done(struct guest *guest)
{
    free(guest->ram);
}

static inline void *guest_at(struct guest *guest, uint64_t gpa)
{
    return guest->ram + (gpa - GUEST_BASE);
}

// ---- a ring -----------------------------------------------------------------------------------------------------------

struct ring {
    struct guest *guest;
    uint16_t size;
    uint64_t desc_gpa, avail_gpa, used_gpa;
    uint16_t avail_idx, used_seen, next_desc;
};

// Takes 16 KiB from `gpa` on.
static inline void ring_init(struct ring *ring, struct guest *guest, uint64_t gpa, uint16_t size)
{
    *ring = (struct ring){ guest, size, gpa, gpa + 0x2000, gpa + 0x3000, 0, 0, 0 };
    memset(guest_at(guest, gpa), 0, 0x4000);
}

static inline void ring_desc(struct ring *ring, uint16_t index, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
    struct vring_desc *table = guest_at(ring->guest, ring->desc_gpa);
    table[index] = (struct vring_desc){ addr, len, flags, next };
}

static inline uint16_t *ring_avail(struct ring *ring)
{
    return guest_at(ring->guest, ring->avail_gpa);
}

static inline uint16_t *ring_used(struct ring *ring)
{
    return guest_at(ring->guest, ring->used_gpa);
}

static inline void ring_offer(struct ring *ring, uint16_t head)
{
    ring_avail(ring)[2 + ring->avail_idx % ring->size] = head;
    __atomic_store_n(&ring_avail(ring)[1], ++ring->avail_idx, __ATOMIC_RELEASE);
}

struct part {
    uint64_t gpa;
    uint32_t len;
    bool write;
};

// One chain of `len` descriptors, the next ones of the table; returns its head.
static inline uint16_t ring_add(struct ring *ring, const struct part *parts, unsigned len)
{
    uint16_t head = ring->next_desc % ring->size;
    for (unsigned i = 0; i < len; i++) {
        uint16_t at = ring->next_desc++ % ring->size;
        uint16_t flags = (parts[i].write ? VRING_DESC_F_WRITE : 0) | (i + 1 < len ? VRING_DESC_F_NEXT : 0);
        ring_desc(ring, at, parts[i].gpa, parts[i].len, flags, ring->next_desc % ring->size);
    }
    ring_offer(ring, head);
    return head;
}

// The next element of the used ring; false when there is none yet.
static inline bool ring_take(struct ring *ring, uint32_t *id, uint32_t *len)
{
    *id = *len = 0;
    if (__atomic_load_n(&ring_used(ring)[1], __ATOMIC_ACQUIRE) == ring->used_seen)
        return false;
    struct vring_used_elem element;
    memcpy(&element, &ring_used(ring)[2 + 4 * (ring->used_seen++ % ring->size)], sizeof(element));
    *id = element.id;
    *len = element.len;
    return true;
}

// ---- a driver ---------------------------------------------------------------------------------------------------------

static inline uint32_t reg_read(struct virtio_mmio *mmio, uint64_t offset)
{
    uint32_t value;
    mmio->bus.ops->read(&mmio->bus, offset, &value, sizeof(value));
    return value;
}

static inline void reg_write(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    mmio->bus.ops->write(&mmio->bus, offset, &value, sizeof(value));
}

static inline uint64_t driver_offered(struct virtio_mmio *mmio)
{
    reg_write(mmio, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    uint64_t features = reg_read(mmio, VIRTIO_MMIO_DEVICE_FEATURES);
    reg_write(mmio, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    return features | (uint64_t)reg_read(mmio, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
}

static inline void driver_features(struct virtio_mmio *mmio, uint64_t features)
{
    reg_write(mmio, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    reg_write(mmio, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
    reg_write(mmio, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    reg_write(mmio, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
}

static inline void driver_queue(struct virtio_mmio *mmio, uint32_t index, const struct ring *ring)
{
    reg_write(mmio, VIRTIO_MMIO_QUEUE_SEL, index);
    reg_write(mmio, VIRTIO_MMIO_QUEUE_NUM, ring->size);
    reg_write(mmio, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)ring->desc_gpa);
    reg_write(mmio, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(ring->desc_gpa >> 32));
    reg_write(mmio, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)ring->avail_gpa);
    reg_write(mmio, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, (uint32_t)(ring->avail_gpa >> 32));
    reg_write(mmio, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)ring->used_gpa);
    reg_write(mmio, VIRTIO_MMIO_QUEUE_USED_HIGH, (uint32_t)(ring->used_gpa >> 32));
    reg_write(mmio, VIRTIO_MMIO_QUEUE_READY, 1);
}

#define STATUS_DRIVER (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)
#define STATUS_FEATURES (STATUS_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)
#define STATUS_LIVE (STATUS_FEATURES | VIRTIO_CONFIG_S_DRIVER_OK)

// From reset to DRIVER_OK as 3.1.1 has it; returns the status read at the end.
static inline uint32_t driver_start(struct virtio_mmio *mmio, uint64_t features, const struct ring *rings, unsigned len)
{
    reg_write(mmio, VIRTIO_MMIO_STATUS, 0);
    reg_write(mmio, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    reg_write(mmio, VIRTIO_MMIO_STATUS, STATUS_DRIVER);
    driver_features(mmio, features);
    reg_write(mmio, VIRTIO_MMIO_STATUS, STATUS_FEATURES);
    for (unsigned i = 0; i < len; i++)
        driver_queue(mmio, i, &rings[i]);
    reg_write(mmio, VIRTIO_MMIO_STATUS, STATUS_LIVE);
    return reg_read(mmio, VIRTIO_MMIO_STATUS);
}

static inline void driver_kick(struct virtio_mmio *mmio, uint32_t queue)
{
    reg_write(mmio, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
}

// Interrupts since the last call.
static inline uint64_t irq_count(struct virtio_device *device)
{
    eventfd_t count = 0;
    return eventfd_read(device->irq.event_fd, &count) < 0 ? 0 : count;
}

#define FEATURE(bit) (UINT64_C(1) << (bit))
#define FEATURES_BASE FEATURE(VIRTIO_F_VERSION_1)

#endif
