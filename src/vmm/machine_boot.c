// From files to a machine that is ready to start: kernel and initramfs into RAM, tables below 1 MiB, processors.

#include "base/fd.h"
#include "vmm/acpi.h"
#include "vmm/machine.h"

// At the upper end of the RAM below the hole, where no kernel grows into it.
static int load_initrd(struct machine *machine, int fd, const struct boot_elf *elf, struct boot_params_in *in, struct err *err)
{
    uint64_t size = 0;
    if (boot_file_size(fd, "initramfs", &size, err) < 0)
        return -1;
    uint64_t low_end = MIN_OF(machine->ram.size, LAYOUT_HOLE_START);
    uint64_t room = elf->end < low_end ? low_end - elf->end : 0;
    if (size > room || ((low_end - size) & ~(uint64_t)(PAGE - 1)) < elf->end)
        return err_set(err, ERR_INVALID_ARGUMENT, "initramfs: %llu MiB don't fit into the guest's memory beside its kernel",
                       (unsigned long long)((size + (1u << 20) - 1) >> 20));
    in->initrd_size = size;
    in->initrd_gpa = (low_end - size) & ~(uint64_t)(PAGE - 1);
    void *to = gmem_at(&machine->memory, in->initrd_gpa, size, true);
    return fd_read_at(fd, to, size, 0, err) < 0 ? err_wrap(err, "initramfs") : 0;
}

static int write_acpi(struct machine *machine, struct err *err)
{
    _cleanup_buf_ struct buf tables = BUF_INIT(LAYOUT_ACPI_SIZE);
    struct acpi_mmio mmio[MACHINE_VIRTIO_MAX];
    for (size_t i = 0; i < machine->virtio_len; i++)
        mmio[i] = (struct acpi_mmio){ LAYOUT_MMIO + i * VIRTIO_MMIO_SIZE, VIRTIO_MMIO_SIZE, machine->virtio_gsi[i] };
    acpi_build(&(struct acpi_machine){ machine->cpus, mmio, machine->virtio_len }, LAYOUT_ACPI, &tables);
    if (buf_check(&tables, "ACPI tables", err) < 0)
        return -1;
    if (!gmem_write(&machine->memory, LAYOUT_ACPI, tables.data, tables.size))
        return err_set(err, ERR_INTERNAL, "ACPI tables don't lie in guest memory");
    return 0;
}

int machine_boot(struct machine *machine, const struct machine_kernel *kernel, struct err *err)
{
    struct boot_elf elf;
    struct boot_map map;
    struct boot_entry entry;
    struct boot_params_in in = { .cmdline = kernel->cmdline ? kernel->cmdline : "", .rsdp_gpa = LAYOUT_ACPI };
    if (machine->phase != PHASE_NEW || machine->state_fd >= 0)
        return err_set(err, ERR_CONFLICT, "this machine can't boot: it was booted or is to be restored");
    if (machine_load_kernel(machine, kernel->kernel_fd, &elf, err) < 0)
        return -1;
    if (kernel->protocol == MACHINE_BOOT_PVH && !elf.pvh_entry)
        return err_set(err, ERR_INVALID_ARGUMENT, "kernel: it has no PVH entry point");
    if (kernel->initrd_fd >= 0 && load_initrd(machine, kernel->initrd_fd, &elf, &in, err) < 0)
        return -1;
    boot_map_fill(machine->ram.size, &map);
    if (write_acpi(machine, err) < 0)
        return -1;
    bool pvh = elf.pvh_entry && kernel->protocol != MACHINE_BOOT_LINUX64;
    int (*tell)(const struct gmem *, const struct boot_elf *, const struct boot_params_in *, const struct boot_map *,
                struct boot_entry *, struct err *) = pvh ? boot_pvh : boot_linux64;
    if (tell(&machine->memory, &elf, &in, &map, &entry, err) < 0 || machine_make_vcpus(machine, err) < 0 ||
        vcpu_boot(&machine->vcpus[0], &entry, err) < 0)
        return -1;
    machine->phase = PHASE_READY;
    return 0;
}
