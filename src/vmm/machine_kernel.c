// The kernel's file into RAM: a vmlinux as it is, or the one inside a bzImage.
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmm/machine.h"

int boot_file_size(int fd, const char *what, uint64_t *out, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "%s", what);
    if (!S_ISREG(st.st_mode) || st.st_size <= 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: an empty file, or none at all", what);
    if ((uint64_t)st.st_size > BOOT_FILE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: a file of %llu MiB", what, (unsigned long long)st.st_size >> 20);
    *out = (uint64_t)st.st_size;
    return 0;
}

// A file that is mapped as long as it is looked at.
struct mapped {
    struct boot_file file;
};

static void mapped_done(struct mapped *mapped)
{
    if (mapped->file.data)
        munmap((void *)(uintptr_t)mapped->file.data, mapped->file.size);
}

static int mapped_open(int fd, struct mapped *out, struct err *err)
{
    uint64_t size = 0;
    if (boot_file_size(fd, "kernel", &size, err) < 0)
        return -1;
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

// ---- a vmlinux -----------------------------------------------------------------------------------------------------

// The next stretch of data at or after *at, before `end`. A file system that knows no holes has one stretch.
static bool next_data(int fd, off_t *at, off_t *stop, off_t end)
{
    off_t data = *at < end ? lseek(fd, *at, SEEK_DATA) : end;
    if (data >= end || (data < 0 && errno == ENXIO))
        return false;
    if (data >= 0)
        *at = data;
    off_t hole = data < 0 ? end : lseek(fd, *at, SEEK_HOLE);
    *stop = hole < 0 ? end : MIN_OF(hole, end);
    return true;
}

// Nothing is read where the file has holes: memory is zero there, and a third of Debian's kernel is. The rest is read into large
// pages. Mapping the file instead makes the start cheaper and the guest slower, which then takes a fault for each page of it.
static int load_segment(int fd, const struct boot_elf *elf, size_t i, const struct gmem *memory, struct err *err)
{
    uint8_t *to = boot_elf_room(elf, i, memory, err);
    off_t start = (off_t)elf->segments[i].offset, end = start + (off_t)elf->segments[i].file_size, stop;
    if (!to)
        return -1;
    for (off_t at = start; next_data(fd, &at, &stop, end); at = stop)
        if (fd_read_at(fd, to + (at - start), (size_t)(stop - at), at, err) < 0)
            return err_wrap(err, "kernel");
    return 0;
}

static int load_vmlinux(struct machine *machine, int fd, struct boot_file file, struct boot_elf *elf, struct err *err)
{
    if (boot_elf_parse(file, elf, err) < 0)
        return -1;
    for (size_t i = 0; i < elf->len; i++)
        if (load_segment(fd, elf, i, &machine->memory, err) < 0)
            return -1;
    return 0;
}

int machine_load_kernel(struct machine *machine, int fd, struct boot_elf *elf, struct err *err)
{
    _cleanup_(mapped_done) struct mapped image = { 0 };
    _cleanup_(mapped_done) struct mapped inside = { 0 };
    if (mapped_open(fd, &image, err) < 0)
        return -1;
    if (!boot_bzimage_is(image.file))
        return load_vmlinux(machine, fd, image.file, elf, err);
    if (unpack(image.file, &inside, err) < 0)
        return -1;
    return boot_elf_parse(inside.file, elf, err) < 0 ? -1 : boot_elf_load(inside.file, elf, &machine->memory, err);
}
