// The 64-bit Linux boot protocol (Documentation/arch/x86/boot.rst, "64-bit boot protocol"): long mode with identity pages,
// RSI holds the address of the "zero page". For kernels without the PVH note.
#include <asm/bootparam.h>

#include "vmm/boot.h"
#include "vmm/layout.h"

#define PAGE_PRESENT_WRITE UINT64_C(0x3)
#define PAGE_LARGE UINT64_C(0x80)
#define LOADER_UNDEFINED 0xff
#define TABLE_LEN 512

// One level each: PML4, PDPT, and a directory of 2 MiB pages for the first GiB, where kernel and boot data are.
static bool write_page_tables(const struct gmem *memory)
{
    static const uint64_t level = 4096;
    uint64_t pml4 = LAYOUT_PAGE_TABLES, pdpt = pml4 + level, directory = pdpt + level;
    uint64_t pages[TABLE_LEN];
    for (uint64_t i = 0; i < TABLE_LEN; i++)
        pages[i] = i << 21 | PAGE_LARGE | PAGE_PRESENT_WRITE;
    return gmem_write(memory, pml4, &(uint64_t){ pdpt | PAGE_PRESENT_WRITE }, 8) &&
           gmem_write(memory, pdpt, &(uint64_t){ directory | PAGE_PRESENT_WRITE }, 8) &&
           gmem_write(memory, directory, pages, sizeof(pages));
}

static bool write_gdt(const struct gmem *memory)
{
    // As the protocol wants them: code at 0x10, data at 0x18.
    static const uint64_t gdt[] = { 0, 0, UINT64_C(0x00af9b000000ffff), UINT64_C(0x00cf93000000ffff) };
    return gmem_write(memory, LAYOUT_GDT, gdt, sizeof(gdt));
}

static void fill_header(struct boot_params *params, const struct boot_params_in *in)
{
    params->hdr.boot_flag = 0xaa55;
    params->hdr.header = 0x53726448; // "HdrS"
    params->hdr.version = 0x20f;
    params->hdr.type_of_loader = LOADER_UNDEFINED;
    params->hdr.loadflags = LOADED_HIGH;
    params->hdr.kernel_alignment = 0x200000;
    params->hdr.cmd_line_ptr = LAYOUT_CMDLINE;
    params->hdr.cmdline_size = LAYOUT_CMDLINE_MAX - 1;
    params->hdr.ramdisk_image = (uint32_t)in->initrd_gpa;
    params->hdr.ramdisk_size = (uint32_t)in->initrd_size;
    params->ext_ramdisk_image = (uint32_t)(in->initrd_gpa >> 32);
    params->ext_ramdisk_size = (uint32_t)(in->initrd_size >> 32);
}

int boot_linux64(const struct gmem *memory, const struct boot_elf *elf, const struct boot_params_in *in,
                 const struct boot_map *map, struct boot_entry *out, struct err *err)
{
    struct boot_params params = { .acpi_rsdp_addr = in->rsdp_gpa, .e820_entries = (uint8_t)map->len };
    _Static_assert(sizeof(params) == 4096, "the zero page is a page");
    fill_header(&params, in);
    for (size_t i = 0; i < map->len; i++)
        params.e820_table[i] = (struct boot_e820_entry){ map->entries[i].gpa, map->entries[i].size, map->entries[i].type };
    if (boot_cmdline_write(memory, in->cmdline, err) < 0)
        return -1;
    if (elf->entry < elf->start || elf->entry >= elf->end)
        return err_set(err, ERR_INVALID_ARGUMENT, "kernel: its 64-bit entry point lies outside its segments");
    if (elf->end > UINT64_C(1) << 30)
        return err_set(err, ERR_NOT_IMPLEMENTED, "kernel: it lies above 1 GiB, where the first page tables don't reach");
    if (!write_page_tables(memory) || !write_gdt(memory) || !gmem_write(memory, LAYOUT_ZERO_PAGE, &params, sizeof(params)))
        return err_set(err, ERR_INVALID_ARGUMENT, "the guest has too little memory for its boot data");
    *out = (struct boot_entry){ BOOT_LINUX64, elf->entry, LAYOUT_ZERO_PAGE };
    return 0;
}
