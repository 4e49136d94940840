#include <linux/virtio_mmio.h>

#include "vmm/virtio_mmio.h"

_Static_assert(VIRTIO_MMIO_NOTIFY_OFFSET == VIRTIO_MMIO_QUEUE_NOTIFY, "the register the machine watches");

#define MAGIC 0x74726976 // "virt"
#define VERSION 2
#define VENDOR 0x48545242 // "BRTH"

// ---- registers ------------------------------------------------------------------------------------------------------

static uint32_t read_device(const struct virtio_mmio *mmio, uint64_t offset)
{
    const struct virtio_device *device = mmio->device;
    uint32_t sel = mmio->queue_sel;
    const struct virtq *queue = sel < device->ops->queues_len ? &device->queues[sel] : NULL;
    switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES:
        return mmio->device_features_sel > 1 ? 0 : (uint32_t)(device->offered >> (32 * mmio->device_features_sel));
    case VIRTIO_MMIO_QUEUE_NUM_MAX:
        return queue ? queue->size_max : 0;
    case VIRTIO_MMIO_QUEUE_READY:
        return queue ? queue->ready : 0;
    case VIRTIO_MMIO_STATUS:
        return device->status;
    case VIRTIO_MMIO_CONFIG_GENERATION:
        return device->generation;
    case VIRTIO_MMIO_SHM_LEN_LOW: // no shared memory regions: all ones, whichever is selected
    case VIRTIO_MMIO_SHM_LEN_HIGH:
    case VIRTIO_MMIO_SHM_BASE_LOW:
    case VIRTIO_MMIO_SHM_BASE_HIGH:
        return UINT32_MAX;
    default:
        return 0;
    }
}

static uint32_t read_register(struct virtio_mmio *mmio, uint64_t offset)
{
    switch (offset) {
    case VIRTIO_MMIO_MAGIC_VALUE:
        return MAGIC;
    case VIRTIO_MMIO_VERSION:
        return VERSION;
    case VIRTIO_MMIO_DEVICE_ID:
        return mmio->device->ops->device_id;
    case VIRTIO_MMIO_VENDOR_ID:
        return VENDOR;
    case VIRTIO_MMIO_INTERRUPT_STATUS: // without the lock: the handler must not wait for a request
        return __atomic_load_n(&mmio->device->interrupt_status, __ATOMIC_SEQ_CST);
    }
    mutex_lock(&mmio->device->lock);
    uint32_t value = read_device(mmio, offset);
    mutex_unlock(&mmio->device->lock);
    return value;
}

static void set_low(uint64_t *address, uint32_t value)
{
    *address = (*address & ~(uint64_t)UINT32_MAX) | value;
}

static void set_high(uint64_t *address, uint32_t value)
{
    *address = (*address & UINT32_MAX) | (uint64_t)value << 32;
}

static void write_queue(struct virtq *queue, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case VIRTIO_MMIO_QUEUE_NUM:
        queue->size = value > UINT16_MAX ? 0 : (uint16_t)value; // judged when the queue starts
        return;
    case VIRTIO_MMIO_QUEUE_READY:
        queue->ready = value & 1;
        return;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
        set_low(&queue->desc_gpa, value);
        return;
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        set_high(&queue->desc_gpa, value);
        return;
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
        set_low(&queue->avail_gpa, value);
        return;
    case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
        set_high(&queue->avail_gpa, value);
        return;
    case VIRTIO_MMIO_QUEUE_USED_LOW:
        set_low(&queue->used_gpa, value);
        return;
    case VIRTIO_MMIO_QUEUE_USED_HIGH:
        set_high(&queue->used_gpa, value);
        return;
    }
}

static void write_device(struct virtio_mmio *mmio, struct virtio_device *device, uint64_t offset, uint32_t value)
    REQUIRES(&device->lock)
{
    switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        mmio->device_features_sel = value;
        return;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        mmio->driver_features_sel = value;
        return;
    case VIRTIO_MMIO_DRIVER_FEATURES:
        virtio_set_features(device, mmio->driver_features_sel, value);
        return;
    case VIRTIO_MMIO_QUEUE_SEL:
        mmio->queue_sel = value;
        return;
    case VIRTIO_MMIO_STATUS:
        virtio_set_status(device, value);
        return;
    }
    struct virtq *queue = virtio_queue_to_set(device, mmio->queue_sel);
    if (queue)
        write_queue(queue, offset, value);
}

static void write_register(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    struct virtio_device *device = mmio->device;
    switch (offset) {
    case VIRTIO_MMIO_INTERRUPT_ACK:
        __atomic_fetch_and(&device->interrupt_status, ~value, __ATOMIC_SEQ_CST);
        return;
    case VIRTIO_MMIO_QUEUE_NOTIFY:
        virtio_notify(device, value);
        return;
    }
    mutex_lock(&device->lock);
    write_device(mmio, device, offset, value);
    mutex_unlock(&device->lock);
}

// ---- the bus's side -------------------------------------------------------------------------------------------------

// Registers are 32 bits wide and read so; what else a driver tries gives zeros and changes nothing (4.2.2.2). The
// configuration may be read in any width.
static bool is_register(uint64_t offset, unsigned size)
{
    return offset < VIRTIO_MMIO_CONFIG && size == 4 && offset % 4 == 0;
}

static void mmio_read(struct bus_device *bus, uint64_t offset, void *data, unsigned size)
{
    struct virtio_mmio *mmio = (struct virtio_mmio *)bus;
    memset(data, 0, size);
    if (is_register(offset, size)) {
        uint32_t value = read_register(mmio, offset);
        memcpy(data, &value, sizeof(value));
    } else if (offset >= VIRTIO_MMIO_CONFIG) {
        mutex_lock(&mmio->device->lock);
        virtio_config_read(mmio->device, offset - VIRTIO_MMIO_CONFIG, data, size);
        mutex_unlock(&mmio->device->lock);
    }
}

// No device of ours has a configuration field that a driver may write.
static void mmio_write(struct bus_device *bus, uint64_t offset, const void *data, unsigned size)
{
    uint32_t value;
    if (!is_register(offset, size))
        return;
    memcpy(&value, data, sizeof(value));
    write_register((struct virtio_mmio *)bus, offset, value);
}

void virtio_mmio_init(struct virtio_mmio *mmio, struct virtio_device *device)
{
    static const struct bus_ops ops = { "virtio-mmio", mmio_read, mmio_write };
    *mmio = (struct virtio_mmio){ .bus.ops = &ops, .device = device };
}

// ---- state ----------------------------------------------------------------------------------------------------------

void virtio_mmio_save(struct virtio_mmio *mmio, struct state_writer *writer)
{
    state_begin(writer, "virtio-mmio", 1);
    state_put32(writer, mmio->device_features_sel);
    state_put32(writer, mmio->driver_features_sel);
    state_put32(writer, mmio->queue_sel);
    virtio_save(mmio->device, writer);
}

int virtio_mmio_load(struct virtio_mmio *mmio, struct state_reader *reader)
{
    state_enter(reader, "virtio-mmio", 1);
    mmio->device_features_sel = state_get32(reader);
    mmio->driver_features_sel = state_get32(reader);
    mmio->queue_sel = state_get32(reader);
    return virtio_load(mmio->device, reader);
}
