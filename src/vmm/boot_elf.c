#include <elf.h>

#include "vmm/boot.h"
#include "vmm/layout.h"

#define PVH_NOTE_TYPE 18 // XEN_ELFNOTE_PHYS32_ENTRY
#define PHEADERS_MAX 64

bool boot_elf_is(struct boot_file file)
{
    return file.size >= SELFMAG && memcmp(file.data, ELFMAG, SELFMAG) == 0;
}

// Fields may lie at any alignment: copied out. False past the end.
static bool take(struct boot_file file, uint64_t offset, void *out, size_t size)
{
    if (offset > file.size || size > file.size - offset)
        return false;
    memcpy(out, file.data + offset, size);
    return true;
}

static int bad(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "kernel: %s", what);
}

static int check_header(struct boot_file file, Elf64_Ehdr *header, struct err *err)
{
    if (!boot_elf_is(file) || !take(file, 0, header, sizeof(*header)))
        return bad(err, "no ELF file");
    if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB || header->e_machine != EM_X86_64)
        return bad(err, "not an x86-64 ELF file");
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
        return bad(err, "not an executable ELF file");
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum == 0 || header->e_phnum > PHEADERS_MAX)
        return bad(err, "its ELF program headers make no sense");
    return 0;
}

static int add_segment(struct boot_file file, const Elf64_Phdr *header, struct boot_elf *out, struct err *err)
{
    if (header->p_memsz == 0)
        return 0;
    if (out->len == BOOT_SEGMENTS_MAX)
        return bad(err, "too many ELF segments");
    if (header->p_filesz > header->p_memsz || header->p_offset > file.size || header->p_filesz > file.size - header->p_offset)
        return bad(err, "an ELF segment lies outside the file");
    if (header->p_memsz > BOOT_FILE_MAX || header->p_paddr + header->p_memsz < header->p_paddr)
        return bad(err, "an ELF segment is too large");
    uint64_t start = header->p_paddr, end = start + header->p_memsz;
    for (size_t i = 0; i < out->len; i++)
        if (start < out->segments[i].gpa + out->segments[i].size && out->segments[i].gpa < end)
            return bad(err, "its ELF segments overlap");
    out->segments[out->len].offset = header->p_offset;
    out->segments[out->len].file_size = header->p_filesz;
    out->segments[out->len].gpa = start;
    out->segments[out->len].size = header->p_memsz;
    out->start = out->len ? MIN_OF(out->start, start) : start;
    out->end = MAX_OF(out->end, end);
    out->len++;
    return 0;
}

static uint64_t padded(uint64_t size, uint64_t align)
{
    return (size + align - 1) & ~(align - 1);
}

// One PT_NOTE: name size, descriptor size, type, then name and descriptor, both padded. Notes that don't fit end the search:
// a kernel without the entry is started another way.
static void find_pvh(struct boot_file file, const Elf64_Phdr *header, struct boot_elf *out)
{
    uint64_t at = header->p_offset, align = header->p_align == 8 ? 8 : 4;
    if (at > file.size || header->p_filesz > file.size - at)
        return;
    uint64_t end = at + header->p_filesz;
    Elf64_Nhdr note;
    while (!out->pvh_entry && end - at >= sizeof(note) && take(file, at, &note, sizeof(note))) {
        uint64_t name = at + sizeof(note), data = name + padded(note.n_namesz, align);
        uint64_t next = data + padded(note.n_descsz, align);
        char found[4];
        if (next > end && data + note.n_descsz > end) // the last one need not be padded
            return;
        if (note.n_type == PVH_NOTE_TYPE && note.n_namesz == sizeof(found) && (note.n_descsz == 4 || note.n_descsz == 8) &&
            take(file, name, found, sizeof(found)) && memcmp(found, "Xen", sizeof(found)) == 0)
            take(file, data, &out->pvh_entry, sizeof(out->pvh_entry));
        if (next > end)
            return;
        at = next;
    }
}

static bool inside(const struct boot_elf *elf, uint64_t gpa)
{
    for (size_t i = 0; i < elf->len; i++)
        if (gpa >= elf->segments[i].gpa && gpa - elf->segments[i].gpa < elf->segments[i].file_size)
            return true;
    return false;
}

int boot_elf_parse(struct boot_file file, struct boot_elf *out, struct err *err)
{
    Elf64_Ehdr header;
    struct boot_elf elf = { 0 };
    if (check_header(file, &header, err) < 0)
        return -1;
    for (unsigned i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr segment;
        uint64_t at = header.e_phoff + (uint64_t)i * sizeof(segment);
        if (at < header.e_phoff || !take(file, at, &segment, sizeof(segment)))
            return bad(err, "its ELF program headers lie outside the file");
        if (segment.p_type == PT_LOAD && add_segment(file, &segment, &elf, err) < 0)
            return -1;
        if (segment.p_type == PT_NOTE && !elf.pvh_entry)
            find_pvh(file, &segment, &elf);
    }
    elf.entry = header.e_entry;
    if (elf.len == 0)
        return bad(err, "nothing to load in it");
    if (!inside(&elf, elf.pvh_entry ? elf.pvh_entry : elf.entry))
        return bad(err, "its entry point lies outside its segments");
    *out = elf;
    return 0;
}

uint8_t *boot_elf_room(const struct boot_elf *elf, size_t i, const struct gmem *memory, struct err *err)
{
    uint64_t gpa = elf->segments[i].gpa, size = elf->segments[i].size;
    uint8_t *to = gpa >= LAYOUT_HIGH_START ? gmem_at(memory, gpa, size, true) : NULL;
    if (!to)
        err_set(err, ERR_INVALID_ARGUMENT, "kernel: %llu bytes at 0x%llx are not in the guest's memory", (unsigned long long)size,
                (unsigned long long)gpa);
    return to;
}

static bool all_zero(const uint8_t *data, size_t size)
{
    return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}

int boot_elf_load(struct boot_file file, const struct boot_elf *elf, const struct gmem *memory, struct err *err)
{
    for (size_t i = 0; i < elf->len; i++) {
        const uint8_t *from = file.data + elf->segments[i].offset;
        uint64_t size = elf->segments[i].file_size;
        uint8_t *to = boot_elf_room(elf, i, memory, err);
        if (!to)
            return -1;
        for (uint64_t at = 0; at < size; at += PAGE) {
            size_t part = MIN_OF(size - at, (uint64_t)PAGE);
            if (!all_zero(from + at, part))
                memcpy(to + at, from + at, part);
        }
    }
    return 0;
}
