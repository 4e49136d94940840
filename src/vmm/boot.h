// From a kernel file to a processor's first instruction.
//
//     file ── bzImage? ── payload inflated ── ELF ──┬── has the PVH note ── start info,  32-bit entry (preferred)
//          └─ ELF ──────────────────────────────────┘── has none ────────── zero page,  64-bit entry
//
// Kernel files may come from images, so parsers believe nothing: every offset and size is checked against the file, every
// address against guest memory. Pure functions of their arguments; any thread.
#ifndef VMM_BOOT_H
#define VMM_BOOT_H

#include "base/err.h"
#include "vmm/memory.h"

#define BOOT_FILE_MAX (UINT64_C(1) << 30) // bytes of a kernel file, and of what is inside one

struct boot_file { // bytes of a kernel; the owner says how they end
    const uint8_t *data;
    size_t size;
};

// ---- ELF (boot_elf.c) ----------------------------------------------------------------------------------------------

#define BOOT_SEGMENTS_MAX 16

struct boot_elf {
    struct {
        uint64_t offset, file_size; // inside the file
        uint64_t gpa, size; // size >= file_size; the rest is zeros
    } segments[BOOT_SEGMENTS_MAX];
    size_t len;
    uint64_t entry; // physical, as Linux has it
    uint32_t pvh_entry; // of the note "Xen" type 18; 0: none
    uint64_t start, end; // of all segments in guest memory
};

bool boot_elf_is(struct boot_file file);
// A static x86-64 ELF with 1 to BOOT_SEGMENTS_MAX loadable segments that don't overlap; else invalid_argument.
int boot_elf_parse(struct boot_file file, struct boot_elf *out, struct err *err);
// Where segment `i` goes in guest memory. NULL, invalid_argument, when it doesn't fit there or lies below 1 MiB, where boot data is.
uint8_t *boot_elf_room(const struct boot_elf *elf, size_t i, const struct gmem *memory, struct err *err);
// Copies the segments into fresh guest memory, which is zero: pages of zeros, and what a segment has beyond the file, are not
// touched and cost nothing.
int boot_elf_load(struct boot_file file, const struct boot_elf *elf, const struct gmem *memory, struct err *err);

// ---- bzImage (boot_bzimage.c) --------------------------------------------------------------------------------------

enum boot_packing { BOOT_PACKED_GZIP, BOOT_PACKED_XZ, BOOT_PACKED_ZSTD, BOOT_PACKED_LZ4 };

struct boot_bzimage {
    size_t offset, size; // the compressed payload inside the file
    enum boot_packing packing;
    size_t vmlinux_size; // what it says it inflates to, at most BOOT_FILE_MAX
};

bool boot_bzimage_is(struct boot_file file);
int boot_bzimage_parse(struct boot_file file, struct boot_bzimage *out, struct err *err); // invalid_argument, not_implemented
// Inflates the payload into `out`, which has room for vmlinux_size bytes; fewer or more is invalid_argument.
int boot_bzimage_unpack(struct boot_file file, const struct boot_bzimage *image, uint8_t *out, struct err *err);

// ---- what the kernel is told ---------------------------------------------------------------------------------------

enum boot_protocol { BOOT_PVH, BOOT_LINUX64 };

// How vCPU 0 starts.
struct boot_entry {
    enum boot_protocol protocol;
    uint64_t rip;
    uint64_t info_gpa; // in RBX (PVH) or RSI (64-bit)
};

struct boot_params_in {
    const char *cmdline; // shorter than LAYOUT_CMDLINE_MAX
    uint64_t initrd_gpa, initrd_size; // 0, 0: none
    uint64_t rsdp_gpa;
};

#define BOOT_MAP_MAX 8
struct boot_map { // the guest's memory map, sorted; types as in E820
    struct {
        uint64_t gpa, size;
        uint32_t type;
    } entries[BOOT_MAP_MAX];
    size_t len;
};
#define BOOT_MAP_RAM 1
#define BOOT_MAP_RESERVED 2

void boot_map_fill(uint64_t memory_size, struct boot_map *out);
int boot_cmdline_write(const struct gmem *memory, const char *cmdline, struct err *err);
// Each writes its structures below 640 KiB and says how the vCPU starts. boot_pvh.c, boot_linux64.c
int boot_pvh(const struct gmem *memory, const struct boot_elf *elf, const struct boot_params_in *in,
             const struct boot_map *map, struct boot_entry *out, struct err *err);
int boot_linux64(const struct gmem *memory, const struct boot_elf *elf, const struct boot_params_in *in,
                 const struct boot_map *map, struct boot_entry *out, struct err *err);

#endif
