#include "vmm/boot.h"
#include "vmm/layout.h"

static void map_add(struct boot_map *map, uint64_t start, uint64_t end, uint32_t type)
{
    if (end <= start)
        return;
    map->entries[map->len].gpa = start;
    map->entries[map->len].size = end - start;
    map->entries[map->len].type = type;
    map->len++;
}

void boot_map_fill(uint64_t memory_size, struct boot_map *out)
{
    *out = (struct boot_map){ 0 };
    uint64_t low_end = MIN_OF(memory_size, LAYOUT_HOLE_START);
    map_add(out, 0, LAYOUT_LOW_END, BOOT_MAP_RAM);
    map_add(out, LAYOUT_LOW_END, 0xa0000, BOOT_MAP_RESERVED);
    map_add(out, LAYOUT_ACPI, LAYOUT_ACPI + LAYOUT_ACPI_SIZE, BOOT_MAP_RESERVED);
    map_add(out, LAYOUT_HIGH_START, low_end, BOOT_MAP_RAM);
    map_add(out, LAYOUT_HOLE_END, LAYOUT_HOLE_END + (memory_size - low_end), BOOT_MAP_RAM);
}

int boot_cmdline_write(const struct gmem *memory, const char *cmdline, struct err *err)
{
    size_t size = strlen(cmdline) + 1;
    if (size > LAYOUT_CMDLINE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "the kernel's command line has %zu bytes, at most %d are read", size - 1,
                       LAYOUT_CMDLINE_MAX - 1);
    if (!gmem_write(memory, LAYOUT_CMDLINE, cmdline, size))
        return err_set(err, ERR_INVALID_ARGUMENT, "the guest has too little memory for its command line");
    return 0;
}
