#include <errno.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "vmm/machine.h"

#define RANK_MACHINE 0
#define REGION_ALIGN (UINT64_C(1) << 30)

// ---- life ----------------------------------------------------------------------------------------------------------

static int check_config(unsigned cpus, uint64_t memory_size, struct err *err)
{
    if (cpus < 1 || cpus > MACHINE_CPUS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "%u processors: a machine has 1 to %d", cpus, MACHINE_CPUS_MAX);
    if (memory_size < MACHINE_MEMORY_MIN || memory_size > MACHINE_MEMORY_MAX || memory_size % (2u << 20))
        return err_set(err, ERR_INVALID_ARGUMENT, "%llu bytes of memory: a machine has 4 MiB to 1 TiB, a multiple of 2 MiB",
                       (unsigned long long)memory_size);
    return 0;
}

static int get_ram(struct machine *machine, const struct machine_config *config, struct err *err)
{
    struct saved_header saved = { .cpus = config->cpus, .memory_size = config->memory_size };
    if (config->state_fd >= 0 && saved_header_read(config->state_fd, &saved, err) < 0)
        return -1;
    if (check_config(saved.cpus, saved.memory_size, err) < 0)
        return -1;
    machine->cpus = saved.cpus;
    uint64_t high = saved.memory_size - MIN_OF(saved.memory_size, LAYOUT_HOLE_START);
    machine->map_next = (LAYOUT_HOLE_END + high + REGION_ALIGN - 1) & ~(REGION_ALIGN - 1);
    if (config->state_fd < 0)
        return ram_new(&machine->ram, saved.memory_size, config->shared_memory, err);
    return ram_restore(&machine->ram, saved.memory_size, config->shared_memory, config->state_fd, saved.memory_offset, err);
}

static int make_ram(struct machine *machine, const struct machine_config *config, struct err *err)
{
    if (get_ram(machine, config, err) < 0)
        return -1;
    machine->ram.pagemap_fd = config->pagemap_fd;
    return 0;
}

static int make_platform(struct machine *machine, struct err *err)
{
    platform_init(&machine->platform, machine_ask, machine);
    if (kvm_irq_line(&machine->kvm, LAYOUT_GSI_BUTTON, &machine->button, err) < 0)
        return -1;
    machine->lines[LAYOUT_GSI_BUTTON] = machine->button.event_fd;
    if (bus_add(&machine->ports, LAYOUT_PORT_KEYBOARD, 1, &machine->platform.keyboard, err) < 0)
        return -1;
    return bus_add(&machine->ports, LAYOUT_PORT_SLEEP, 2, &machine->platform.sleep, err);
}

static int build(struct machine *machine, const struct machine_config *config, struct err *err)
{
    if (vcpu_signal_setup(err) < 0 || make_ram(machine, config, err) < 0)
        return -1;
    machine->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (machine->end_fd < 0)
        return err_errno(err, errno, "eventfd");
    int kvm_fd = config->kvm_fd < 0 ? -1 : fd_dup(config->kvm_fd, err);
    if (config->kvm_fd >= 0 && kvm_fd < 0)
        return -1;
    if (kvm_open(&machine->kvm, kvm_fd, err) < 0) {
        fd_close(kvm_fd);
        return -1;
    }
    if (kvm_create(&machine->kvm, err) < 0 || ram_add(&machine->ram, &machine->kvm, &machine->memory, err) < 0 ||
        loop_new(&machine->loop, err) < 0)
        return -1;
    return machine_serial_init(machine, config, err) < 0 ? -1 : make_platform(machine, err);
}

int machine_new(const struct machine_config *config, struct machine **out, struct err *err)
{
    struct machine *machine = mem_new(struct machine);
    machine->kvm = (struct kvm)KVM_NONE;
    machine->ram.memfd = machine->serial_in_fd = machine->serial_out_fd = machine->end_fd = -1;
    machine->state_fd = config->state_fd;
    machine->thread_begins = config->thread_begins;
    machine->context = config->context;
    machine->next_line = LAYOUT_GSI_DEVICES;
    machine->want = WANT_PAUSE;
    for (size_t i = 0; i < LAYOUT_GSI_LEN; i++)
        machine->lines[i] = -1;
    mutex_init(&machine->lock, RANK_MACHINE);
    cond_init(&machine->changed);
    if (build(machine, config, err) < 0) {
        machine_free(machine);
        return -1;
    }
    *out = machine;
    return 0;
}

void machine_free(struct machine *machine)
{
    if (!machine)
        return;
    machine_threads_done(machine);
    loop_free(machine->loop); // sources first: devices close what they watch
    for (size_t i = 0; i < machine->virtio_len; i++)
        virtio_free(machine->virtio[i].device);
    for (size_t i = 0; i < VCPU_MAX; i++)
        vcpu_done(&machine->vcpus[i]);
    kvm_close(&machine->kvm);
    for (size_t i = 0; i < LAYOUT_GSI_LEN; i++)
        fd_close(machine->lines[i]);
    if (machine->serial.bus.ops)
        serial_done(&machine->serial);
    fd_close(machine->serial_out_fd);
    fd_close(machine->end_fd);
    ram_done(&machine->ram);
    cond_done(&machine->changed);
    mutex_done(&machine->lock);
    free(machine);
}

unsigned machine_cpus(const struct machine *machine)
{
    return machine->cpus;
}

int machine_make_vcpus(struct machine *machine, struct err *err)
{
    for (unsigned i = 0; i < machine->cpus; i++)
        if (vcpu_init(&machine->vcpus[i], &machine->kvm, i, machine->cpus, err) < 0)
            return -1;
    return 0;
}

// ---- devices -------------------------------------------------------------------------------------------------------

const struct gmem *machine_memory(const struct machine *machine)
{
    return &machine->memory;
}

struct loop *machine_loop(struct machine *machine)
{
    return machine->loop;
}

static int must_be_new(const struct machine *machine, struct err *err)
{
    if (machine->phase == PHASE_NEW)
        return 0;
    return err_set(err, ERR_CONFLICT, "the machine has its processors: devices come before");
}

uint64_t machine_map_next(const struct machine *machine)
{
    return machine->map_next;
}

int machine_map(struct machine *machine, uint64_t gpa, uint64_t size, void *host, bool read_only, struct err *err)
{
    if (must_be_new(machine, err) < 0)
        return -1;
    if (gpa < LAYOUT_HOLE_END || (gpa | size | (uintptr_t)host) % PAGE)
        return err_set(err, ERR_INVALID_ARGUMENT, "%llu bytes at 0x%llx: only whole pages above 4 GiB are mapped into a guest",
                       (unsigned long long)size, (unsigned long long)gpa);
    if (gmem_add(&machine->memory, gpa, size, host, read_only, err) < 0 ||
        kvm_add_memory(&machine->kvm, gpa, size, host, read_only, err) < 0)
        return -1;
    machine->map_next = MAX_OF(machine->map_next, (gpa + size + REGION_ALIGN - 1) & ~(REGION_ALIGN - 1));
    return 0;
}

int machine_add_line(struct machine *machine, struct irq_line *out, unsigned *gsi, struct err *err)
{
    if (must_be_new(machine, err) < 0)
        return -1;
    if (machine->next_line == LAYOUT_GSI_LEN)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "the machine has no interrupt line left");
    if (kvm_irq_line(&machine->kvm, machine->next_line, out, err) < 0)
        return -1;
    machine->lines[machine->next_line] = out->event_fd;
    *gsi = machine->next_line++;
    return 0;
}

int machine_add_ports(struct machine *machine, uint16_t base, uint16_t len, struct bus_device *device, struct err *err)
{
    return must_be_new(machine, err) < 0 ? -1 : bus_add(&machine->ports, base, len, device, err);
}

int machine_add_mmio(struct machine *machine, uint64_t base, uint64_t size, struct bus_device *device, struct err *err)
{
    return must_be_new(machine, err) < 0 ? -1 : bus_add(&machine->mmio, base, size, device, err);
}

int machine_add_kick(struct machine *machine, bool port, uint64_t address, unsigned size, uint64_t value, int event_fd,
                     struct err *err)
{
    return must_be_new(machine, err) < 0 ? -1 : kvm_ioeventfd(&machine->kvm, port, address, size, value, event_fd, err);
}

int machine_add_virtio(struct machine *machine, struct virtio_device *device, struct err *err)
{
    unsigned gsi;
    if (machine->virtio_len == MACHINE_VIRTIO_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "a machine has at most %d virtio devices", MACHINE_VIRTIO_MAX);
    struct virtio_mmio *mmio = &machine->virtio[machine->virtio_len];
    uint64_t base = LAYOUT_MMIO + machine->virtio_len * VIRTIO_MMIO_SIZE;
    if (machine_add_line(machine, &device->irq, &gsi, err) < 0 || virtio_attach(device, machine->loop, err) < 0)
        return -1;
    virtio_mmio_init(mmio, device);
    for (unsigned i = 0; i < device->ops->queues_len; i++)
        if (kvm_ioeventfd(&machine->kvm, false, base + VIRTIO_MMIO_NOTIFY_OFFSET, 4, i, device->kicks[i].fd, err) < 0)
            return -1;
    if (bus_add(&machine->mmio, base, VIRTIO_MMIO_SIZE, &mmio->bus, err) < 0)
        return -1;
    machine->virtio_gsi[machine->virtio_len++] = gsi;
    return 0;
}
