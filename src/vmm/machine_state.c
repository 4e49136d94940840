// A saved machine as a file:
//
//     0                 magic, then the section "machine": processors, sizes, where memory begins
//     4096              sections in the order of save(): processors, serial port, devices, interrupt controllers, timer, clock
//     memory_offset     RAM, a hole where the guest never wrote; 2 MiB-aligned, so that it can be mapped
//
// Interrupts on their way when the machine stopped may be lost: an irqfd works by a queue in the kernel. So every device
// repeats its own at the start (serial_resume, virtio_resume), and a driver that saw it already sees a spurious one.
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "vmm/machine.h"

#define MAGIC "BERTH-VM"
#define HEADER_SIZE PAGE
#define STATE_MAX (UINT64_C(64) << 20)
#define MEMORY_ALIGN (UINT64_C(2) << 20)

// ---- the first page ------------------------------------------------------------------------------------------------

static void put_header(struct buf *out, const struct saved_header *header)
{
    struct state_writer writer = { out };
    state_put_bytes(&writer, MAGIC, strlen(MAGIC));
    state_begin(&writer, "machine", 1);
    state_put32(&writer, header->cpus);
    state_put64(&writer, header->memory_size);
    state_put64(&writer, header->state_size);
    state_put64(&writer, header->memory_offset);
}

static int check_header(const struct saved_header *header, uint64_t file_size, struct err *err)
{
    if (header->state_size == 0 || header->state_size > STATE_MAX || header->state_size > header->memory_offset ||
        header->memory_offset - header->state_size < HEADER_SIZE || header->memory_offset % MEMORY_ALIGN ||
        header->memory_size > MACHINE_MEMORY_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "saved machine: its header makes no sense");
    if (file_size < header->memory_offset || file_size - header->memory_offset < header->memory_size)
        return err_set(err, ERR_INVALID_ARGUMENT, "saved machine: the file is cut short");
    return 0;
}

static int read_saved(int fd, void *data, size_t size, uint64_t offset, struct err *err)
{
    return fd_read_at(fd, data, size, (off_t)offset, err) < 0 ? err_wrap(err, "saved machine") : 0;
}

int saved_header_read(int fd, struct saved_header *out, struct err *err)
{
    uint8_t page[HEADER_SIZE];
    char magic[sizeof(MAGIC) - 1];
    struct stat st;
    if (read_saved(fd, page, sizeof(page), 0, err) < 0)
        return -1;
    struct state_reader reader = state_open(page, sizeof(page), err);
    state_get_bytes(&reader, magic, sizeof(magic));
    if (memcmp(magic, MAGIC, sizeof(magic)) != 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "this file is no saved machine");
    state_enter(&reader, "machine", 1);
    out->cpus = state_get32(&reader);
    out->memory_size = state_get64(&reader);
    out->state_size = state_get64(&reader);
    out->memory_offset = state_get64(&reader);
    if (state_check(&reader) < 0)
        return -1;
    return fstat(fd, &st) < 0 ? err_errno(err, errno, "saved machine") : check_header(out, (uint64_t)st.st_size, err);
}

// ---- what the kernel keeps for the whole machine -------------------------------------------------------------------

static int save_kernel_side(struct machine *machine, struct state_writer *writer, struct err *err)
{
    state_begin(writer, "interrupt controllers", 1);
    for (uint32_t id = 0; id < KVM_NR_IRQCHIPS; id++) {
        struct kvm_irqchip chip = { .chip_id = id };
        if (kvm_call(machine->kvm.vm_fd, KVM_GET_IRQCHIP, &chip, "KVM_GET_IRQCHIP", err) < 0)
            return -1;
        state_put_blob(writer, &chip, sizeof(chip));
    }
    struct kvm_pit_state2 pit = { 0 };
    struct kvm_clock_data clock = { 0 };
    if (kvm_call(machine->kvm.vm_fd, KVM_GET_PIT2, &pit, "KVM_GET_PIT2", err) < 0 ||
        kvm_call(machine->kvm.vm_fd, KVM_GET_CLOCK, &clock, "KVM_GET_CLOCK", err) < 0)
        return -1;
    state_begin(writer, "timer", 1);
    state_put_blob(writer, &pit, sizeof(pit));
    state_begin(writer, "clock", 1);
    state_put64(writer, clock.clock);
    return 0;
}

static void load_blob(struct state_reader *reader, int fd, unsigned long request, void *data, uint32_t size, const char *what)
{
    if (state_get_blob(reader, data, size) != size)
        state_fail(reader, "%s has another size", what);
    if (!reader->failed && ioctl(fd, request, data) < 0)
        state_fail(reader, "%s: KVM says %s", what, strerror(errno));
}

static int load_kernel_side(struct machine *machine, struct state_reader *reader)
{
    struct kvm_irqchip chip;
    struct kvm_pit_state2 pit;
    state_enter(reader, "interrupt controllers", 1);
    for (uint32_t id = 0; id < KVM_NR_IRQCHIPS; id++)
        load_blob(reader, machine->kvm.vm_fd, KVM_SET_IRQCHIP, &chip, sizeof(chip), "an interrupt controller");
    state_enter(reader, "timer", 1);
    load_blob(reader, machine->kvm.vm_fd, KVM_SET_PIT2, &pit, sizeof(pit), "the timer");
    state_enter(reader, "clock", 1);
    // No flags: the clock goes on where it was. A jump ahead by the time in between hangs guests.
    struct kvm_clock_data clock = { .clock = state_get64(reader) };
    if (!reader->failed && ioctl(machine->kvm.vm_fd, KVM_SET_CLOCK, &clock) < 0)
        state_fail(reader, "KVM says %s", strerror(errno));
    return state_check(reader);
}

// ---- saving and restoring ------------------------------------------------------------------------------------------

static int save(struct machine *machine, struct state_writer *writer, struct err *err)
{
    for (unsigned i = 0; i < machine->cpus; i++)
        if (vcpu_save(&machine->vcpus[i], writer, err) < 0)
            return -1;
    serial_save(&machine->serial, writer);
    for (size_t i = 0; i < machine->virtio_len; i++)
        virtio_mmio_save(&machine->virtio[i], writer);
    return save_kernel_side(machine, writer, err);
}

int machine_save(struct machine *machine, int fd, struct err *err)
{
    _cleanup_buf_ struct buf state = BUF_INIT(STATE_MAX);
    _cleanup_buf_ struct buf page = BUF_INIT(HEADER_SIZE);
    struct state_writer writer = { &state };
    struct stat st;
    if (machine->phase != PHASE_PAUSED)
        return err_set(err, ERR_CONFLICT, "the machine is not paused");
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "state file");
    if (!S_ISREG(st.st_mode) || st.st_size != 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "state file: not an empty regular file");
    if (save(machine, &writer, err) < 0 || buf_check(&state, "state of the machine", err) < 0)
        return -1;
    struct saved_header header = { machine->cpus, machine->ram.size, state.size, 0 };
    header.memory_offset = (HEADER_SIZE + state.size + MEMORY_ALIGN - 1) & ~(MEMORY_ALIGN - 1);
    put_header(&page, &header);
    // The header last: a file that was cut off while it was written is no saved machine.
    if (ram_save(&machine->ram, fd, header.memory_offset, err) < 0 ||
        fd_write_at(fd, state.data, state.size, HEADER_SIZE, err) < 0 || fd_write_at(fd, page.data, page.size, 0, err) < 0)
        return err_wrap(err, "state file");
    return 0;
}

static int load(struct machine *machine, struct state_reader *reader)
{
    for (unsigned i = 0; i < machine->cpus; i++)
        if (vcpu_load(&machine->vcpus[i], reader) < 0)
            return -1;
    if (serial_load(&machine->serial, reader) < 0)
        return -1;
    for (size_t i = 0; i < machine->virtio_len; i++) {
        virtio_pause(machine->virtio[i].device);
        if (virtio_mmio_load(&machine->virtio[i], reader) < 0)
            return -1;
    }
    return load_kernel_side(machine, reader) < 0 ? -1 : state_finish(reader);
}

int machine_restore(struct machine *machine, struct err *err)
{
    struct saved_header header;
    if (machine->phase != PHASE_NEW || machine->state_fd < 0)
        return err_set(err, ERR_CONFLICT, "this machine can't be restored: it has no state file, or was restored");
    if (saved_header_read(machine->state_fd, &header, err) < 0)
        return -1;
    if (header.cpus != machine->cpus || header.memory_size != machine->ram.size)
        return err_set(err, ERR_INVALID_ARGUMENT, "saved machine: the file has changed");
    _cleanup_free_ void *data = mem_alloc(header.state_size);
    if (read_saved(machine->state_fd, data, header.state_size, HEADER_SIZE, err) < 0 ||
        machine_make_vcpus(machine, err) < 0)
        return -1;
    struct state_reader reader = state_open(data, header.state_size, err);
    if (load(machine, &reader) < 0)
        return -1;
    machine->phase = PHASE_READY;
    return 0;
}
