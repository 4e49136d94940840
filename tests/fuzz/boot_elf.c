// rooms: vmm base | liblz4 liblzma libzstd zlib threads
// A kernel file: what is accepted lies inside the file and, loaded, inside the guest's memory.
#include <stdint.h>
#include <stdlib.h>

#include "vmm/boot.h"
#include "vmm/layout.h"

#define RAM_SIZE (2u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t ram[RAM_SIZE];
    struct gmem memory = { 0 };
    struct boot_file file = { data, size };
    struct boot_elf elf;
    struct err err;
    if (boot_elf_parse(file, &elf, &err) < 0) {
        if (err.class != ERR_INVALID_ARGUMENT)
            abort();
        return 0;
    }
    for (size_t i = 0; i < elf.len; i++)
        if (elf.segments[i].offset > size || elf.segments[i].file_size > size - elf.segments[i].offset ||
            elf.segments[i].gpa < elf.start || elf.segments[i].gpa + elf.segments[i].size > elf.end)
            abort();
    gmem_add(&memory, 0, RAM_SIZE, ram, false, &err);
    if (boot_elf_load(file, &elf, &memory, &err) == 0 && (elf.start < LAYOUT_HIGH_START || elf.end > RAM_SIZE))
        abort();
    return 0;
}
