// What a device is to the machine: a range of MMIO or port addresses, an interrupt line, and a state that can be saved.
//
// The vCPU threads call read and write with the bus's range already checked: `offset` + `size` lies inside the device and `size`
// is 1, 2, 4 or 8. A device protects its own state (a lock or one owning thread).
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include "base/err.h"
#include "vmm/state.h"

struct bus_device;

struct bus_ops {
    const char *name;
    void (*read)(struct bus_device *device, uint64_t offset, void *data, unsigned size);
    void (*write)(struct bus_device *device, uint64_t offset, const void *data, unsigned size);
};

// Embedded as the first member of a device.
struct bus_device {
    const struct bus_ops *ops;
};

#define BUS_RANGE_MAX 64

struct bus {
    struct {
        uint64_t base, size;
        struct bus_device *device;
    } ranges[BUS_RANGE_MAX]; // sorted by base, never overlapping
    size_t len;
};

int bus_add(struct bus *bus, uint64_t base, uint64_t size, struct bus_device *device, struct err *err);
// False when no device claims all of [address, address + size): reads then give all ones, writes vanish.
bool bus_read(const struct bus *bus, uint64_t address, void *data, unsigned size);
bool bus_write(const struct bus *bus, uint64_t address, const void *data, unsigned size);

// An interrupt line as a device sees it. Raising writes an eventfd that KVM turns into an interrupt (irqfd); in tests somebody
// reads the eventfd. Edge semantics: one write, one interrupt.
struct irq_line {
    int event_fd; // -1: nobody listens
};
void irq_raise(const struct irq_line *line);

#endif
