#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <asm/bootparam.h>
#include <elf.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "vmm/boot.h"
#include "vmm/layout.h"

// ---- ELF: a small file as a struct, spoiled in one place each ------------------------------------------------------

struct small_elf {
    Elf64_Ehdr header;
    Elf64_Phdr load, load2, note;
    struct {
        Elf64_Nhdr head;
        char name[4];
        uint32_t entry;
    } pvh;
    char code[60]; // to the last byte
};
_Static_assert(offsetof(struct small_elf, code) + 60 == sizeof(struct small_elf), "no padding");

static struct small_elf small_elf(void)
{
    struct small_elf elf = {
        .header = {
            .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
            .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_entry = 0x100008,
            .e_phoff = offsetof(struct small_elf, load), .e_ehsize = sizeof(Elf64_Ehdr),
            .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 3,
        },
        .load = { .p_type = PT_LOAD, .p_offset = offsetof(struct small_elf, code), .p_paddr = 0x100000, .p_filesz = 60,
                  .p_memsz = 8192 },
        .load2 = { .p_type = PT_LOAD, .p_offset = offsetof(struct small_elf, code), .p_paddr = 0x103000, .p_filesz = 8,
                   .p_memsz = 8 },
        .note = { .p_type = PT_NOTE, .p_offset = offsetof(struct small_elf, pvh), .p_filesz = 20, .p_align = 4 },
        .pvh = { { 4, 4, 18 }, "Xen", 0x100010 },
        .code = "code",
    };
    return elf;
}

static void spoil_magic(struct small_elf *elf) { elf->header.e_ident[0] = 0; }
static void spoil_class(struct small_elf *elf) { elf->header.e_ident[EI_CLASS] = ELFCLASS32; }
static void spoil_machine(struct small_elf *elf) { elf->header.e_machine = EM_AARCH64; }
static void spoil_type(struct small_elf *elf) { elf->header.e_type = ET_REL; }
static void spoil_phentsize(struct small_elf *elf) { elf->header.e_phentsize = 8; }
static void spoil_phnum(struct small_elf *elf) { elf->header.e_phnum = 65535; }
static void spoil_no_headers(struct small_elf *elf) { elf->header.e_phnum = 0; }
static void spoil_phoff(struct small_elf *elf) { elf->header.e_phoff = UINT64_MAX - 8; }
static void spoil_phoff_end(struct small_elf *elf) { elf->header.e_phoff = sizeof(*elf) - 100; }
static void spoil_offset(struct small_elf *elf) { elf->load.p_offset = UINT64_MAX; }
static void spoil_file_size(struct small_elf *elf) { elf->load.p_filesz = 61; }
static void spoil_memory_size(struct small_elf *elf) { elf->load.p_memsz = 59; }
static void spoil_huge(struct small_elf *elf) { elf->load.p_memsz = UINT64_MAX; }
static void spoil_wrap(struct small_elf *elf) { elf->load.p_paddr = UINT64_MAX - 10; }
static void spoil_overlap(struct small_elf *elf) { elf->load2.p_paddr = 0x101fff; }
static void spoil_entry(struct small_elf *elf) { elf->pvh.entry = 0x200000; }
static void spoil_entry_in_bss(struct small_elf *elf) { elf->pvh.entry = 0x10003c; }
static void spoil_loads(struct small_elf *elf) { elf->load.p_type = elf->load2.p_type = PT_NULL; }

static void test_elf_hostile(void **state)
{
    static void (*const spoils[])(struct small_elf *) = {
        spoil_magic, spoil_class, spoil_machine, spoil_type, spoil_phentsize, spoil_phnum, spoil_no_headers, spoil_phoff,
        spoil_phoff_end, spoil_offset, spoil_file_size, spoil_memory_size, spoil_huge, spoil_wrap, spoil_overlap, spoil_entry,
        spoil_entry_in_bss, spoil_loads,
    };
    for (size_t i = 0; i < ARRAY_LEN(spoils); i++) {
        struct small_elf elf = small_elf();
        struct boot_elf out;
        struct err err;
        spoils[i](&elf);
        if (boot_elf_parse((struct boot_file){ (uint8_t *)&elf, sizeof(elf) }, &out, &err) == 0)
            fail_msg("spoil %zu passes", i);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    }
}

static void test_elf_cut_anywhere(void **state)
{
    struct small_elf elf = small_elf();
    for (size_t size = 0; size < sizeof(elf); size++) {
        struct boot_elf out;
        uint8_t *copy = mem_alloc(size + 1);
        memcpy(copy, &elf, size);
        assert_int_equal(boot_elf_parse((struct boot_file){ copy, size }, &out, NULL), -1);
        free(copy);
    }
}

static void test_elf_note(void **state)
{
    static const struct {
        Elf64_Nhdr head;
        char name[4];
        uint32_t entry;
    } notes[] = {
        { { 4, 4, 18 }, "Xen", 0x100010 },  { { 4, 4, 17 }, "Xen", 0 },        { { 4, 4, 18 }, "GNU", 0 },
        { { 4, 5, 18 }, "Xen", 0 },         { { UINT32_MAX, 4, 18 }, "Xen", 0 }, { { 4, UINT32_MAX, 18 }, "Xen", 0 },
        { { 5, 4, 18 }, "Xen", 0 },         { { 0, 0, 0 }, "", 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(notes); i++) {
        struct small_elf elf = small_elf();
        struct boot_elf out;
        elf.pvh.head = notes[i].head;
        memcpy(elf.pvh.name, notes[i].name, 4);
        assert_int_equal(boot_elf_parse((struct boot_file){ (uint8_t *)&elf, sizeof(elf) }, &out, NULL), 0);
        assert_int_equal(out.pvh_entry, notes[i].entry);
        assert_int_equal(out.entry, 0x100008);
        assert_int_equal(out.len, 2);
        assert_int_equal(out.start, 0x100000);
        assert_int_equal(out.end, 0x103008);
    }
}

static void test_elf_load(void **state)
{
    struct small_elf elf = small_elf();
    struct boot_file file = { (uint8_t *)&elf, sizeof(elf) };
    struct boot_elf out;
    struct gmem memory = { 0 };
    struct err err;
    uint8_t *ram = mem_alloc(0x104000);
    assert_int_equal(boot_elf_parse(file, &out, &err), 0);
    assert_int_equal(gmem_add(&memory, 0, 0x103007, ram, false, &err), 0); // a byte short
    assert_int_equal(boot_elf_load(file, &out, &memory, &err), -1);
    assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    memory = (struct gmem){ 0 };
    assert_int_equal(gmem_add(&memory, 0, 0x104000, ram, false, &err), 0);
    assert_int_equal(boot_elf_load(file, &out, &memory, &err), 0);
    assert_memory_equal(ram + 0x100000, elf.code, 60);
    assert_memory_equal(ram + 0x103000, elf.code, 8);
    out.segments[0].gpa = 0x7000; // over the boot data
    assert_int_equal(boot_elf_load(file, &out, &memory, &err), -1);
    free(ram);
}

// ---- bzImage -------------------------------------------------------------------------------------------------------

#define INSIDE_SIZE (9u << 20) // more than an lz4 block
#define IMAGE_MAX (2 * INSIDE_SIZE)
#define PAYLOAD_OFFSET 0x2cc

static uint8_t *inside;

static int make_inside(void **state)
{
    unsigned seed = 1;
    inside = mem_alloc(INSIDE_SIZE);
    for (size_t i = 0; i < INSIDE_SIZE; i++) {
        seed = seed * 1103515245 + 12345;
        inside[i] = i % 16 < 13 ? (uint8_t)(i >> 8) : (uint8_t)(seed >> 16);
    }
    return 0;
}

static int free_inside(void **state)
{
    free(inside);
    return 0;
}

static size_t pack_gzip(uint8_t *out, size_t room)
{
    z_stream stream = { .next_in = inside, .avail_in = INSIDE_SIZE, .next_out = out, .avail_out = (uInt)room };
    assert_int_equal(deflateInit2(&stream, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    return stream.total_out;
}

static size_t pack_xz(uint8_t *out, size_t room)
{
    lzma_options_lzma options;
    size_t at = 0;
    lzma_lzma_preset(&options, 0);
    lzma_filter filters[] = { { LZMA_FILTER_X86, NULL }, { LZMA_FILTER_LZMA2, &options }, { LZMA_VLI_UNKNOWN, NULL } };
    assert_int_equal(lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, NULL, inside, INSIDE_SIZE, out, &at, room), LZMA_OK);
    return at;
}

static size_t pack_zstd(uint8_t *out, size_t room)
{
    size_t size = ZSTD_compress(out, room, inside, INSIDE_SIZE, 1);
    assert_false(ZSTD_isError(size));
    return size;
}

static size_t pack_lz4(uint8_t *out, size_t room)
{
    static const size_t block = 8u << 20;
    size_t at = 4;
    memcpy(out, "\x02\x21\x4c\x18", 4);
    for (size_t from = 0; from < INSIDE_SIZE; from += block) {
        int part = (int)MIN_OF(block, INSIDE_SIZE - from);
        int size = LZ4_compress_default((const char *)inside + from, (char *)out + at + 4, part, (int)(room - at - 4));
        assert_true(size > 0);
        memcpy(out + at, &size, 4);
        at += 4 + (size_t)size;
    }
    return at;
}

static const struct packing {
    enum boot_packing packing;
    size_t (*pack)(uint8_t *out, size_t room);
} packings[] = {
    { BOOT_PACKED_GZIP, pack_gzip },
    { BOOT_PACKED_XZ, pack_xz },
    { BOOT_PACKED_ZSTD, pack_zstd },
    { BOOT_PACKED_LZ4, pack_lz4 },
};

static struct setup_header *header_of(uint8_t *image)
{
    return (struct setup_header *)(image + 0x1f1);
}

// A bzImage with one setup sector; returns its size.
static size_t make_image(const struct packing *packing, uint8_t *image)
{
    struct setup_header *header = header_of(image);
    size_t at = 2 * 512 + PAYLOAD_OFFSET;
    memset(image, 0, at);
    size_t size = packing->pack(image + at, IMAGE_MAX - at - 4);
    if (packing->packing != BOOT_PACKED_GZIP) {
        memcpy(image + at + size, &(uint32_t){ INSIDE_SIZE }, 4);
        size += 4;
    }
    header->setup_sects = 1;
    header->boot_flag = 0xaa55;
    header->header = 0x53726448;
    header->version = 0x20f;
    header->payload_offset = PAYLOAD_OFFSET;
    header->payload_length = (uint32_t)size;
    return at + size;
}

static void test_bzimage_packings(void **state)
{
    _cleanup_free_ uint8_t *image = mem_alloc(IMAGE_MAX), *out = mem_alloc(INSIDE_SIZE);
    for (size_t i = 0; i < ARRAY_LEN(packings); i++) {
        struct boot_bzimage parsed;
        struct err err;
        struct boot_file file = { image, make_image(&packings[i], image) };
        assert_true(boot_bzimage_is(file));
        assert_int_equal(boot_bzimage_parse(file, &parsed, &err), 0);
        assert_int_equal(parsed.packing, packings[i].packing);
        assert_int_equal(parsed.vmlinux_size, INSIDE_SIZE);
        assert_int_equal(boot_bzimage_unpack(file, &parsed, out, &err), 0);
        assert_memory_equal(out, inside, INSIDE_SIZE);

        parsed.vmlinux_size = INSIDE_SIZE - 1; // it says less than it has, then more
        assert_int_equal(boot_bzimage_unpack(file, &parsed, out, &err), -1);
        uint8_t *larger = mem_alloc(INSIDE_SIZE + 1);
        parsed.vmlinux_size = INSIDE_SIZE + 1;
        assert_int_equal(boot_bzimage_unpack(file, &parsed, larger, &err), -1);
        free(larger);
        parsed.vmlinux_size = INSIDE_SIZE;
        parsed.size /= 2; // cut
        assert_int_equal(boot_bzimage_unpack(file, &parsed, out, &err), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    }
}

static void test_bzimage_headers(void **state)
{
    _cleanup_free_ uint8_t *image = mem_alloc(IMAGE_MAX);
    size_t size = make_image(&packings[3], image);
    const struct setup_header good = *header_of(image);
    static const struct {
        uint32_t offset, length;
        uint16_t version;
        enum err_class class;
    } headers[] = {
        { PAYLOAD_OFFSET, 15, 0x20f, ERR_INVALID_ARGUMENT },         { UINT32_MAX, 1000, 0x20f, ERR_INVALID_ARGUMENT },
        { PAYLOAD_OFFSET, UINT32_MAX, 0x20f, ERR_INVALID_ARGUMENT }, { PAYLOAD_OFFSET, 0, 0x207, ERR_NOT_IMPLEMENTED },
        { PAYLOAD_OFFSET + 1, 0, 0x20f, ERR_INVALID_ARGUMENT },
    };
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        struct boot_bzimage parsed;
        struct err err;
        *header_of(image) = good;
        header_of(image)->payload_offset = headers[i].offset;
        header_of(image)->version = headers[i].version;
        if (headers[i].length)
            header_of(image)->payload_length = headers[i].length;
        assert_int_equal(boot_bzimage_parse((struct boot_file){ image, size }, &parsed, &err), -1);
        assert_int_equal(err.class, headers[i].class);
    }
    struct boot_bzimage parsed;
    struct err err;
    *header_of(image) = good;
    image[2 * 512 + PAYLOAD_OFFSET] = 'B'; // a packing that isn't known
    assert_int_equal(boot_bzimage_parse((struct boot_file){ image, size }, &parsed, &err), -1);
    assert_int_equal(err.class, ERR_NOT_IMPLEMENTED);
    for (size_t cut = 0; cut < 0x300; cut++) {
        assert_int_equal(boot_bzimage_parse((struct boot_file){ image, cut }, &parsed, NULL), -1);
        assert_false(boot_bzimage_is((struct boot_file){ image, MIN_OF(cut, (size_t)0x1f1) }));
    }
}

// ---- what the kernel is told ---------------------------------------------------------------------------------------

static void test_memory_map(void **state)
{
    static const struct {
        uint64_t size;
        size_t len;
        uint64_t ram;
    } maps[] = {
        { UINT64_C(16) << 20, 4, (UINT64_C(16) << 20) },
        { UINT64_C(3) << 30, 4, (UINT64_C(3) << 30) },
        { (UINT64_C(3) << 30) + 4096, 5, (UINT64_C(3) << 30) + 4096 },
        { UINT64_C(64) << 30, 5, UINT64_C(64) << 30 },
    };
    for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
        struct boot_map map;
        uint64_t ram = 0, last = 0;
        boot_map_fill(maps[i].size, &map);
        assert_int_equal(map.len, maps[i].len);
        for (size_t j = 0; j < map.len; j++) {
            assert_true(map.entries[j].gpa >= last);
            last = map.entries[j].gpa + map.entries[j].size;
            assert_true(last <= LAYOUT_HOLE_START || map.entries[j].gpa >= LAYOUT_HOLE_END);
            if (map.entries[j].type == BOOT_MAP_RAM)
                ram += map.entries[j].size;
        }
        assert_int_equal(ram, maps[i].ram - (LAYOUT_HIGH_START - LAYOUT_LOW_END)); // the hole below 1 MiB
    }
}

static void test_command_line(void **state)
{
    struct gmem memory = { 0 };
    struct err err;
    char text[LAYOUT_CMDLINE_MAX + 1];
    _cleanup_free_ uint8_t *ram = mem_alloc(LAYOUT_CMDLINE + LAYOUT_CMDLINE_MAX);
    assert_int_equal(gmem_add(&memory, 0, LAYOUT_CMDLINE + LAYOUT_CMDLINE_MAX, ram, false, &err), 0);
    memset(text, 'x', sizeof(text));
    text[LAYOUT_CMDLINE_MAX] = '\0';
    assert_int_equal(boot_cmdline_write(&memory, text, &err), -1);
    assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    text[LAYOUT_CMDLINE_MAX - 1] = '\0';
    assert_int_equal(boot_cmdline_write(&memory, text, &err), 0);
    assert_string_equal((char *)ram + LAYOUT_CMDLINE, text);
}

static void test_protocols(void **state)
{
    struct gmem memory = { 0 };
    struct err err;
    struct boot_map map;
    struct boot_entry entry;
    struct boot_elf elf = { .entry = 0x1000000, .pvh_entry = 0x1000850, .start = 0x1000000, .end = 0x2000000 };
    struct boot_params_in in = { "quiet", 0x3000000, 0x12345, 0xe0000 };
    _cleanup_free_ uint8_t *ram = mem_alloc(1 << 20);
    assert_int_equal(gmem_add(&memory, 0, 1 << 20, ram, false, &err), 0);
    boot_map_fill(UINT64_C(4) << 30, &map);

    assert_int_equal(boot_pvh(&memory, &elf, &in, &map, &entry, &err), 0);
    assert_int_equal(entry.rip, 0x1000850);
    const uint32_t *info = (const uint32_t *)(const void *)(ram + entry.info_gpa);
    const uint64_t *module = (const uint64_t *)(const void *)(ram + info[4]);
    assert_int_equal(info[0], 0x336ec578);
    assert_int_equal(info[3], 1);
    assert_int_equal(module[0], 0x3000000);
    assert_int_equal(module[1], 0x12345);
    assert_int_equal(info[12], map.len);
    assert_string_equal((char *)ram + info[6], "quiet");

    assert_int_equal(boot_linux64(&memory, &elf, &in, &map, &entry, &err), 0);
    const struct boot_params *params = (const struct boot_params *)(const void *)(ram + entry.info_gpa);
    assert_int_equal(entry.rip, 0x1000000);
    assert_int_equal(params->e820_entries, map.len);
    assert_int_equal(params->hdr.ramdisk_size, 0x12345);
    assert_int_equal(params->acpi_rsdp_addr, 0xe0000);
    elf.entry = 0xffffffff81000000;
    assert_int_equal(boot_linux64(&memory, &elf, &in, &map, &entry, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elf_hostile),
        cmocka_unit_test(test_elf_cut_anywhere),
        cmocka_unit_test(test_elf_note),
        cmocka_unit_test(test_elf_load),
        cmocka_unit_test(test_bzimage_packings),
        cmocka_unit_test(test_bzimage_headers),
        cmocka_unit_test(test_memory_map),
        cmocka_unit_test(test_command_line),
        cmocka_unit_test(test_protocols),
    };
    return cmocka_run_group_tests(tests, make_inside, free_inside);
}
