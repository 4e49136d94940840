#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "vmm/machine.h"

#define CHUNK_PAGES 512

// At an address whose 2 MiB steps are the guest's too: only then do large pages of ours become large pages of the guest, and
// both first touch and walks of its page tables get cheap.
static int map_ram(struct ram *ram, int flags, int fd, uint64_t offset, struct err *err)
{
    uint8_t *room = mmap(NULL, ram->size + LARGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return err_errno(err, errno, "guest memory of %llu MiB", (unsigned long long)(ram->size >> 20));
    size_t before = -(uintptr_t)room & (LARGE_PAGE - 1);
    uint8_t *host = mmap(room + before, ram->size, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE | MAP_FIXED, fd, (off_t)offset);
    if (host == MAP_FAILED) {
        int number = errno;
        munmap(room, ram->size + LARGE_PAGE);
        return err_errno(err, number, "guest memory of %llu MiB", (unsigned long long)(ram->size >> 20));
    }
    if (before)
        munmap(room, before);
    munmap(host + ram->size, LARGE_PAGE - before);
    ram->host = host;
    madvise(host, ram->size, MADV_DONTDUMP); // a crash of ours shows nothing of the guest
    return 0;
}

int ram_new(struct ram *ram, uint64_t size, bool shared, struct err *err)
{
    *ram = (struct ram){ .kind = shared ? RAM_SHARED : RAM_PRIVATE, .size = size, .memfd = -1 };
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    if (shared) {
        flags = MAP_SHARED;
        ram->memfd = memfd_create("guest memory", MFD_CLOEXEC);
        if (ram->memfd < 0 || ftruncate(ram->memfd, (off_t)size) < 0)
            return err_errno(err, errno, "guest memory");
    }
    if (map_ram(ram, flags, ram->memfd, 0, err) < 0)
        return -1;
    madvise(ram->host, size, MADV_HUGEPAGE); // where the host leaves it to us
    return 0;
}

void ram_done(struct ram *ram)
{
    if (ram->host)
        munmap(ram->host, ram->size);
    fd_close(ram->memfd);
    *ram = (struct ram){ .memfd = -1 };
}

// 640 KiB, the tables below 1 MiB and everything up to the hole are one region: what the guest may use of it is its memory
// map's business.
int ram_add(const struct ram *ram, struct kvm *kvm, struct gmem *memory, struct err *err)
{
    uint64_t low = MIN_OF(ram->size, LAYOUT_HOLE_START), high = ram->size - low;
    if (gmem_add(memory, 0, low, ram->host, false, err) < 0 || kvm_add_memory(kvm, 0, low, ram->host, false, err) < 0)
        return -1;
    if (high == 0)
        return 0;
    if (gmem_add(memory, LAYOUT_HOLE_END, high, ram->host + low, false, err) < 0)
        return -1;
    return kvm_add_memory(kvm, LAYOUT_HOLE_END, high, ram->host + low, false, err);
}

// ---- saving: which stretches may hold something, and in them which pages do ----------------------------------------

static bool all_zero(const uint8_t *page)
{
    const uint64_t *words = (const uint64_t *)(const void *)page;
    for (size_t i = 0; i < PAGE / sizeof(*words); i++)
        if (words[i])
            return false;
    return true;
}

// Writes the pages of [start, end) that are not zero, neighbours together.
static int save_stretch(const struct ram *ram, uint64_t start, uint64_t end, int fd, uint64_t offset, struct err *err)
{
    while (start < end) {
        uint64_t stop = start;
        while (stop < end && !all_zero(ram->host + stop))
            stop += PAGE;
        if (stop > start && fd_write_at(fd, ram->host + start, stop - start, (off_t)(offset + start), err) < 0)
            return err_wrap(err, "guest memory");
        start = stop + PAGE; // the zero page that ended the run
    }
    return 0;
}

// Anonymous pages that were never touched are neither present nor swapped: reading them would only map the zero page.
static int save_private(const struct ram *ram, int fd, uint64_t offset, struct err *err)
{
    static const uint64_t used = UINT64_C(3) << 62; // present, swapped
    uint64_t entries[CHUNK_PAGES];
    _cleanup_close_ int own = ram->pagemap_fd < 0 ? open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC) : -1;
    int map = ram->pagemap_fd < 0 ? own : ram->pagemap_fd;
    for (uint64_t at = 0; at < ram->size; at += CHUNK_PAGES * PAGE) {
        uint64_t pages = MIN_OF((ram->size - at) / PAGE, (uint64_t)CHUNK_PAGES);
        uint64_t first = ((uintptr_t)ram->host + at) / PAGE;
        ssize_t want = (ssize_t)(pages * sizeof(entries[0]));
        bool known = map >= 0 && pread(map, entries, (size_t)want, (off_t)(first * sizeof(entries[0]))) == want;
        for (uint64_t i = 0; i < pages; i++)
            if ((!known || (entries[i] & used)) &&
                save_stretch(ram, at + i * PAGE, at + (i + 1) * PAGE, fd, offset, err) < 0)
                return -1;
    }
    return 0;
}

// Reading a hole of a memfd would fill it: its file knows where data is.
static int save_shared(const struct ram *ram, int fd, uint64_t offset, struct err *err)
{
    off_t data = 0;
    while ((data = lseek(ram->memfd, data, SEEK_DATA)) >= 0) {
        off_t hole = lseek(ram->memfd, data, SEEK_HOLE);
        if (hole < 0)
            return err_errno(err, errno, "guest memory");
        if (save_stretch(ram, (uint64_t)data, (uint64_t)hole, fd, offset, err) < 0)
            return -1;
        data = hole;
    }
    return errno == ENXIO ? 0 : err_errno(err, errno, "guest memory");
}

int ram_save(const struct ram *ram, int fd, uint64_t offset, struct err *err)
{
    if (ftruncate(fd, (off_t)(offset + ram->size)) < 0)
        return err_errno(err, errno, "size of the state file");
    switch (ram->kind) {
    case RAM_PRIVATE:
        return save_private(ram, fd, offset, err);
    case RAM_SHARED:
        return save_shared(ram, fd, offset, err);
    default: // pages that were not touched since are still the file's
        return save_stretch(ram, 0, ram->size, fd, offset, err);
    }
}

// ---- restoring -----------------------------------------------------------------------------------------------------

static int copy_in(const struct ram *ram, int fd, uint64_t offset, struct err *err)
{
    off_t data = (off_t)offset, end = (off_t)(offset + ram->size);
    while (data < end && (data = lseek(fd, data, SEEK_DATA)) >= 0 && data < end) {
        off_t hole = lseek(fd, data, SEEK_HOLE);
        if (hole < 0)
            return err_errno(err, errno, "read guest memory");
        hole = MIN_OF(hole, end);
        if (fd_read_at(fd, ram->host + ((uint64_t)data - offset), (size_t)(hole - data), data, err) < 0)
            return err_wrap(err, "guest memory");
        data = hole;
    }
    return data >= 0 || errno == ENXIO ? 0 : err_errno(err, errno, "read guest memory");
}

int ram_restore(struct ram *ram, uint64_t size, bool shared, int fd, uint64_t offset, struct err *err)
{
    if (shared)
        return ram_new(ram, size, true, err) < 0 ? -1 : copy_in(ram, fd, offset, err);
    *ram = (struct ram){ .kind = RAM_RESTORED, .size = size, .memfd = -1 };
    return map_ram(ram, MAP_PRIVATE, fd, offset, err);
}
