#include "vmm/memory.h"

// Keeps the compiler from reading guest memory again after a value was copied out of it and checked.
#define COPIED() __asm__ volatile("" ::: "memory")

int gmem_add(struct gmem *memory, uint64_t gpa, uint64_t size, void *host, bool read_only, struct err *err)
{
    if (!host || size == 0 || gpa + size - 1 < gpa || size > SIZE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "guest memory at 0x%llx: %llu bytes is no region", (unsigned long long)gpa,
                       (unsigned long long)size);
    for (size_t i = 0; i < memory->len; i++) {
        const struct gmem_region *other = &memory->regions[i];
        if (gpa <= other->gpa + (other->size - 1) && other->gpa <= gpa + (size - 1))
            return err_set(err, ERR_INVALID_ARGUMENT, "guest memory at 0x%llx overlaps the region at 0x%llx",
                           (unsigned long long)gpa, (unsigned long long)other->gpa);
    }
    if (memory->len == GMEM_REGION_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "guest memory: more than %d regions", GMEM_REGION_MAX);
    memory->regions[memory->len++] = (struct gmem_region){ gpa, size, host, read_only };
    return 0;
}

void *gmem_at(const struct gmem *memory, uint64_t gpa, uint64_t size, bool write)
{
    for (size_t i = 0; i < memory->len; i++) {
        const struct gmem_region *region = &memory->regions[i];
        if (gpa < region->gpa || gpa - region->gpa >= region->size)
            continue;
        uint64_t offset = gpa - region->gpa;
        bool fits = size <= region->size - offset && !(write && region->read_only);
        return fits ? region->host + offset : NULL;
    }
    return NULL;
}

bool gmem_read(const struct gmem *memory, uint64_t gpa, void *out, size_t size)
{
    const void *from = gmem_at(memory, gpa, size, false);
    if (!from)
        return false;
    memcpy(out, from, size);
    COPIED();
    return true;
}

bool gmem_write(const struct gmem *memory, uint64_t gpa, const void *data, size_t size)
{
    void *to = gmem_at(memory, gpa, size, true);
    if (!to)
        return false;
    memcpy(to, data, size);
    return true;
}

bool gmem_read16(const struct gmem *memory, uint64_t gpa, uint16_t *out)
{
    const uint16_t *from = gmem_at(memory, gpa, sizeof(*from), false);
    if (!from || (uintptr_t)from % sizeof(*from))
        return false;
    *out = __atomic_load_n(from, __ATOMIC_RELAXED);
    return true;
}

bool gmem_write16(const struct gmem *memory, uint64_t gpa, uint16_t value)
{
    uint16_t *to = gmem_at(memory, gpa, sizeof(*to), true);
    if (!to || (uintptr_t)to % sizeof(*to))
        return false;
    __atomic_store_n(to, value, __ATOMIC_RELAXED);
    return true;
}
