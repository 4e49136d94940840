// Guest memory: the one checked way from a guest physical address to bytes. A guest lies: every access is bounded here, and
// what was copied out is validated afterwards, never before.
//
// Regions are added before the first vCPU exists and stay for the machine's life. In tests a region is plain memory.
#ifndef VMM_MEMORY_H
#define VMM_MEMORY_H

#include "base/err.h"

#define GMEM_REGION_MAX 64

struct gmem_region {
    uint64_t gpa, size;
    uint8_t *host; // mapped for the whole size
    bool read_only; // writes by devices are refused
};

struct gmem {
    struct gmem_region regions[GMEM_REGION_MAX];
    size_t len;
};

// Overlap with a region that is there, an empty or a wrapping one: invalid_argument.
int gmem_add(struct gmem *memory, uint64_t gpa, uint64_t size, void *host, bool read_only, struct err *err);
// `size` contiguous bytes at `gpa`, all inside one region (writable for `write`); NULL otherwise. Valid while the machine lives,
// but the guest may change the bytes at any time: copy, then validate, then use.
void *gmem_at(const struct gmem *memory, uint64_t gpa, uint64_t size, bool write);
// False when any byte lies outside.
bool gmem_read(const struct gmem *memory, uint64_t gpa, void *out, size_t size);
bool gmem_write(const struct gmem *memory, uint64_t gpa, const void *data, size_t size);
// Little-endian words; the accesses to ring indices are single loads and stores, with the fences of the virtio specification
// left to the caller. An odd address is refused like one outside.
bool gmem_read16(const struct gmem *memory, uint64_t gpa, uint16_t *out);
bool gmem_write16(const struct gmem *memory, uint64_t gpa, uint16_t value);

#endif
