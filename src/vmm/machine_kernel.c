// The kernel's file into RAM: a vmlinux as it is, or the one inside a bzImage.
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/machine.h"

void mapped_done(struct mapped *mapped)
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

int mapped_open(int fd, const char *what, struct mapped *out, struct err *err)
{
    uint64_t size = 0;
    if (file_size(fd, what, &size, err) < 0)
        return -1;
    if (size > BOOT_FILE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: a file of %llu MiB", what, (unsigned long long)(size >> 20));
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return err_errno(err, errno, "%s: mmap", what);
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

// ---- a vmlinux: its large tables are the file's own pages, which all its guests share; the rest is copied -----------

struct vmlinux {
    int fd;
    struct boot_file file; // all of it, mapped
    struct boot_elf *elf;
};

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

// The last large page of a stretch may get but a few bytes: small pages then, clearing a large one would cost more.
static void spare_tail(uint8_t *to, size_t size)
{
    enum { FEW = 64 << 10 };
    size_t used = ((uintptr_t)to + size) % LARGE_PAGE;
    if (used > 0 && used < FEW && used < size)
        madvise(to + size - used, used, MADV_NOHUGEPAGE);
}

// Bytes [at, end) of the file to `to`, but nothing where the file has holes: memory is zero there, and a third of Debian's
// kernel is.
static void copy_in(const struct vmlinux *kernel, uint8_t *to, off_t at, off_t end)
{
    off_t start = at, stop;
    for (; next_data(kernel->fd, &at, &stop, end); at = stop) {
        spare_tail(to + (at - start), (size_t)(stop - at));
        memcpy(to + (at - start), kernel->file.data + at, (size_t)(stop - at));
    }
}

// Whole pages are mapped; what is left at both ends is copied.
static void map_in(struct ram *ram, const struct vmlinux *kernel, uint8_t *to, off_t at, off_t end)
{
    off_t first = (at + PAGE - 1) & -PAGE, last = end & -PAGE;
    bool fits = first < last && ((uintptr_t)to - (uintptr_t)at) % PAGE == 0;
    if (!fits || !ram_map_file(ram, to + (first - at), (size_t)(last - first), kernel->fd, first))
        first = last = end;
    copy_in(kernel, to, at, first);
    copy_in(kernel, to + (last - at), last, end);
}

static int load_segment(struct machine *machine, const struct vmlinux *kernel, size_t i, struct err *err)
{
    const struct boot_elf *elf = kernel->elf;
    uint8_t *to = boot_elf_room(elf, i, &machine->memory, err);
    off_t start = (off_t)elf->segments[i].offset, end = start + (off_t)elf->segments[i].file_size, at = start;
    if (!to)
        return -1;
    for (size_t k = 0; k < elf->table_len; k++) {
        off_t table = (off_t)elf->tables[k].offset, after = (off_t)elf->tables[k].end;
        if (table < at || after > end)
            continue; // another segment's
        copy_in(kernel, to + (at - start), at, table);
        map_in(&machine->ram, kernel, to + (table - start), table, after);
        at = after;
    }
    copy_in(kernel, to + (at - start), at, end);
    return 0;
}

static int load_vmlinux(struct machine *machine, const struct vmlinux *kernel, struct err *err)
{
    if (boot_elf_parse(kernel->file, kernel->elf, err) < 0)
        return -1;
    for (size_t i = 0; i < kernel->elf->len; i++)
        if (load_segment(machine, kernel, i, err) < 0)
            return -1;
    return 0;
}

int machine_load_kernel(struct machine *machine, int fd, struct boot_elf *elf, struct err *err)
{
    _cleanup_(mapped_done) struct mapped image = { 0 };
    _cleanup_(mapped_done) struct mapped inside = { 0 };
    if (mapped_open(fd, "kernel", &image, err) < 0)
        return -1;
    if (!boot_bzimage_is(image.file))
        return load_vmlinux(machine, &(struct vmlinux){ fd, image.file, elf }, err);
    if (unpack(image.file, &inside, err) < 0)
        return -1;
    return boot_elf_parse(inside.file, elf, err) < 0 ? -1 : boot_elf_load(inside.file, elf, &machine->memory, err);
}
