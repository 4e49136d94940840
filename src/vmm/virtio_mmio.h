// virtio over memory-mapped registers (virtio 1.2, 4.2; register layout version 2, no legacy interface): one page of
// addresses, one interrupt line. The machine announces it to the guest as an LNRO0005 device.
#ifndef VMM_VIRTIO_MMIO_H
#define VMM_VIRTIO_MMIO_H

#include "vmm/bus.h"
#include "vmm/virtio.h"

#define VIRTIO_MMIO_SIZE 0x1000 // bytes of address space
// A 32-bit write of queue i's number here kicks queue i: with KVM_IOEVENTFD (length 4, datamatch i, fd device->kicks[i].fd)
// it never leaves the kernel.
#define VIRTIO_MMIO_NOTIFY_OFFSET 0x050

// Transport state of one device; `bus` is what the machine adds to its MMIO bus. Any thread may read and write.
struct virtio_mmio {
    struct bus_device bus;
    struct virtio_device *device; // the caller's, longer-lived
    // What the registers select, under the device's lock.
    uint32_t device_features_sel, driver_features_sel, queue_sel;
};

void virtio_mmio_init(struct virtio_mmio *mmio, struct virtio_device *device);
// Transport and device in one section each; see virtio_save() and virtio_load().
void virtio_mmio_save(struct virtio_mmio *mmio, struct state_writer *writer);
int virtio_mmio_load(struct virtio_mmio *mmio, struct state_reader *reader);

#endif
