// The PVH boot protocol (xen/include/public/arch-x86/hvm/start_info.h): flat 32-bit protected mode, RBX holds the address of
// the start info. No relocation by the kernel itself, no legacy probing of memory.
#include "vmm/boot.h"
#include "vmm/layout.h"

#define START_INFO_MAGIC 0x336ec578

struct start_info { // version 1
    uint32_t magic, version, flags, modules_len;
    uint64_t modules_gpa, cmdline_gpa, rsdp_gpa, map_gpa;
    uint32_t map_len, reserved;
};

struct module {
    uint64_t gpa, size, cmdline_gpa, reserved;
};

struct map_entry {
    uint64_t gpa, size;
    uint32_t type, reserved;
};

struct info_page {
    struct start_info start;
    struct module module;
    struct map_entry map[BOOT_MAP_MAX];
};
_Static_assert(sizeof(struct start_info) == 56 && sizeof(struct info_page) <= 4096, "layout of the start info");

int boot_pvh(const struct gmem *memory, const struct boot_elf *elf, const struct boot_params_in *in,
             const struct boot_map *map, struct boot_entry *out, struct err *err)
{
    struct info_page page = {
        .start = {
            .magic = START_INFO_MAGIC,
            .version = 1,
            .cmdline_gpa = LAYOUT_CMDLINE,
            .rsdp_gpa = in->rsdp_gpa,
            .map_gpa = LAYOUT_PVH_INFO + offsetof(struct info_page, map),
            .map_len = (uint32_t)map->len,
        },
    };
    if (in->initrd_size) {
        page.start.modules_len = 1;
        page.start.modules_gpa = LAYOUT_PVH_INFO + offsetof(struct info_page, module);
        page.module = (struct module){ .gpa = in->initrd_gpa, .size = in->initrd_size };
    }
    for (size_t i = 0; i < map->len; i++)
        page.map[i] = (struct map_entry){ map->entries[i].gpa, map->entries[i].size, map->entries[i].type, 0 };
    if (boot_cmdline_write(memory, in->cmdline, err) < 0)
        return -1;
    if (!gmem_write(memory, LAYOUT_PVH_INFO, &page, sizeof(page)))
        return err_set(err, ERR_INVALID_ARGUMENT, "the guest has too little memory for the PVH start info");
    *out = (struct boot_entry){ BOOT_PVH, elf->pvh_entry, LAYOUT_PVH_INFO };
    return 0;
}
