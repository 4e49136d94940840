#include <sys/eventfd.h>

#include "vmm/bus.h"

int bus_add(struct bus *bus, uint64_t base, uint64_t size, struct bus_device *device, struct err *err)
{
    if (size == 0 || base + size - 1 < base)
        return err_set(err, ERR_INVALID_ARGUMENT, "bus: %s at 0x%llx: %llu bytes is no range", device->ops->name,
                       (unsigned long long)base, (unsigned long long)size);
    if (bus->len == BUS_RANGE_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "bus: more than %d ranges", BUS_RANGE_MAX);
    size_t at = 0;
    while (at < bus->len && bus->ranges[at].base < base)
        at++;
    bool runs_into_next = at < bus->len && bus->ranges[at].base - base < size;
    bool in_previous = at > 0 && base - bus->ranges[at - 1].base < bus->ranges[at - 1].size;
    if (runs_into_next || in_previous)
        return err_set(err, ERR_INVALID_ARGUMENT, "bus: %s at 0x%llx overlaps %s", device->ops->name,
                       (unsigned long long)base, bus->ranges[runs_into_next ? at : at - 1].device->ops->name);
    memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->len - at) * sizeof(bus->ranges[0]));
    bus->ranges[at].base = base;
    bus->ranges[at].size = size;
    bus->ranges[at].device = device;
    bus->len++;
    return 0;
}

// The device whose range holds all of [address, address + size).
static struct bus_device *find(const struct bus *bus, uint64_t address, unsigned size, uint64_t *offset)
{
    size_t low = 0, high = bus->len;
    while (low < high) { // the first range that begins above the address
        size_t middle = (low + high) / 2;
        if (bus->ranges[middle].base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    *offset = address - bus->ranges[low - 1].base;
    uint64_t range = bus->ranges[low - 1].size;
    return *offset < range && size <= range - *offset ? bus->ranges[low - 1].device : NULL;
}

static bool size_known(unsigned size)
{
    return size == 1 || size == 2 || size == 4 || size == 8;
}

bool bus_read(const struct bus *bus, uint64_t address, void *data, unsigned size)
{
    uint64_t offset;
    struct bus_device *device = size_known(size) ? find(bus, address, size, &offset) : NULL;
    if (!device) {
        memset(data, 0xff, size);
        return false;
    }
    device->ops->read(device, offset, data, size);
    return true;
}

bool bus_write(const struct bus *bus, uint64_t address, const void *data, unsigned size)
{
    uint64_t offset;
    struct bus_device *device = size_known(size) ? find(bus, address, size, &offset) : NULL;
    if (!device)
        return false;
    device->ops->write(device, offset, data, size);
    return true;
}

void irq_raise(const struct irq_line *line)
{
    // The counter can't run full: KVM empties it, and a reader that sleeps loses nothing by a write that fails.
    if (line->event_fd >= 0)
        (void)!write(line->event_fd, &(uint64_t){ 1 }, sizeof(uint64_t));
}
