// From files to a machine that is ready to start: kernel and initramfs into RAM, tables below 1 MiB, processors.
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "vmm/acpi.h"
#include "vmm/machine.h"

// A mapping that ends with its block.
struct mapped {
    struct boot_file file;
};

static void mapped_done(struct mapped *mapped)
{
    if (mapped->file.data)
        munmap((void *)(uintptr_t)mapped->file.data, mapped->file.size);
}

static int file_size(int fd, const char *what, uint64_t *out, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "%s", what);
    if (!S_ISREG(st.st_mode) || st.st_size <= 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: an empty file, or none at all", what);
    *out = (uint64_t)st.st_size;
    return 0;
}

static int map_kernel(int fd, struct mapped *out, struct err *err)
{
    uint64_t size;
    if (file_size(fd, "kernel", &size, err) < 0)
        return -1;
    if (size > BOOT_FILE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "kernel: a file of %llu MiB", (unsigned long long)(size >> 20));
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return err_errno(err, errno, "kernel: mmap");
    out->file = (struct boot_file){ data, size };
    return 0;
}

// The vmlinux inside a bzImage; memory of its own that is given back before the guest runs.
static int unpack(struct boot_file file, struct mapped *out, struct err *err)
{
    struct boot_bzimage image;
    if (boot_bzimage_parse(file, &image, err) < 0)
        return -1;
    void *data = mmap(NULL, image.vmlinux_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED)
        return err_errno(err, errno, "bzImage: memory for its kernel");
    out->file = (struct boot_file){ data, image.vmlinux_size };
    return boot_bzimage_unpack(file, &image, data, err);
}

static int load_kernel(struct machine *machine, int fd, struct boot_elf *elf, struct err *err)
{
    _cleanup_(mapped_done) struct mapped image = { 0 };
    _cleanup_(mapped_done) struct mapped inside = { 0 };
    if (map_kernel(fd, &image, err) < 0)
        return -1;
    struct boot_file file = image.file;
    if (boot_bzimage_is(file)) {
        if (unpack(file, &inside, err) < 0)
            return -1;
        file = inside.file;
    }
    return boot_elf_parse(file, elf, err) < 0 ? -1 : boot_elf_load(file, elf, &machine->memory, err);
}

static int read_all(int fd, uint8_t *to, uint64_t size, struct err *err)
{
    for (uint64_t at = 0; at < size;) {
        ssize_t got = pread(fd, to + at, size - at, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return err_errno(err, got < 0 ? errno : EIO, "initramfs");
        at += (uint64_t)got;
    }
    return 0;
}

// At the upper end of the RAM below the hole, where no kernel grows into it.
static int load_initrd(struct machine *machine, int fd, const struct boot_elf *elf, struct boot_params_in *in, struct err *err)
{
    uint64_t size, low_end = MIN_OF(machine->ram.size, LAYOUT_HOLE_START);
    if (file_size(fd, "initramfs", &size, err) < 0)
        return -1;
    uint64_t room = elf->end < low_end ? low_end - elf->end : 0;
    if (size > room || ((low_end - size) & ~(uint64_t)(PAGE - 1)) < elf->end)
        return err_set(err, ERR_INVALID_ARGUMENT, "initramfs: %llu MiB don't fit into the guest's memory beside its kernel",
                       (unsigned long long)((size + (1u << 20) - 1) >> 20));
    in->initrd_size = size;
    in->initrd_gpa = (low_end - size) & ~(uint64_t)(PAGE - 1);
    return read_all(fd, gmem_at(&machine->memory, in->initrd_gpa, size, true), size, err);
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
    if (load_kernel(machine, kernel->kernel_fd, &elf, err) < 0)
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
