// A kernel's file into RAM: what is read, what stays untouched, and that a saved machine has all of it and no more.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmm/machine.h"

#define RAM_SIZE (UINT64_C(16) << 20)
#define CODE_AT 0x1000 // in the file
#define HOLE_AT 0x300000
#define FILE_END 0x3c0000

struct fixture {
    struct machine machine;
    uint8_t *file;
    int fd;
};

static int temporary(void)
{
    char name[] = "/tmp/berth-test-XXXXXX";
    int fd = mkostemp(name, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(name);
    return fd;
}

static void put(int fd, const void *data, size_t size, uint64_t at)
{
    assert_int_equal(pwrite(fd, data, size, (off_t)at), size);
}

// One segment of the whole file from CODE_AT on: bytes that are never zero, but for a hole from HOLE_AT to the last page.
static void write_kernel(int fd)
{
    Elf64_Ehdr header = { .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = 1, .e_entry = LAYOUT_HIGH_START, .e_phoff = 64,
                          .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 1 };
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    Elf64_Phdr segment = { .p_type = PT_LOAD, .p_offset = CODE_AT, .p_paddr = LAYOUT_HIGH_START, .p_filesz = FILE_END - CODE_AT,
                           .p_memsz = FILE_END - CODE_AT + PAGE };
    static uint8_t bytes[HOLE_AT - CODE_AT];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7 % 255 + 1);
    assert_int_equal(ftruncate(fd, FILE_END), 0);
    put(fd, &header, sizeof(header), 0);
    put(fd, &segment, sizeof(segment), 64);
    put(fd, bytes, sizeof(bytes), CODE_AT);
    put(fd, "the end", 7, FILE_END - 7);
}

static void setup(struct fixture *fixture)
{
    *fixture = (struct fixture){ .fd = temporary() };
    write_kernel(fixture->fd);
    assert_int_equal(ram_new(&fixture->machine.ram, RAM_SIZE, false, NULL), 0);
    fixture->machine.ram.pagemap_fd = -1;
    madvise(fixture->machine.ram.host, RAM_SIZE, MADV_NOHUGEPAGE); // so that single pages tell who touched them
    assert_int_equal(gmem_add(&fixture->machine.memory, 0, RAM_SIZE, fixture->machine.ram.host, false, NULL), 0);
    fixture->file = mmap(NULL, FILE_END, PROT_READ, MAP_SHARED, fixture->fd, 0);
    assert_true(fixture->file != MAP_FAILED);
}

static void teardown(struct fixture *fixture)
{
    ram_done(&fixture->machine.ram);
    munmap(fixture->file, FILE_END);
    close(fixture->fd);
}

static uint8_t *loaded(const struct fixture *fixture, uint64_t offset)
{
    return fixture->machine.ram.host + LAYOUT_HIGH_START + (offset - CODE_AT);
}

// Anonymous memory that nobody wrote has no page.
static bool is_untouched(const struct fixture *fixture, uint64_t offset)
{
    unsigned char there;
    assert_int_equal(mincore(loaded(fixture, offset), PAGE, &there), 0);
    return !(there & 1);
}

static void test_holes_are_passed_over(void **state)
{
    struct fixture fixture;
    struct boot_elf elf;
    setup(&fixture);
    assert_int_equal(machine_load_kernel(&fixture.machine, fixture.fd, &elf, NULL), 0);
    assert_true(is_untouched(&fixture, HOLE_AT + PAGE));
    assert_true(is_untouched(&fixture, FILE_END - 17 * PAGE));
    assert_memory_equal(loaded(&fixture, CODE_AT), fixture.file + CODE_AT, FILE_END - CODE_AT);
    teardown(&fixture);
}

// The guest has its own copy: what happens to the file afterwards is nothing to it.
static void test_the_file_is_not_in_use(void **state)
{
    struct fixture fixture;
    struct boot_elf elf;
    setup(&fixture);
    assert_int_equal(machine_load_kernel(&fixture.machine, fixture.fd, &elf, NULL), 0);
    uint8_t was = *loaded(&fixture, CODE_AT + 2 * PAGE);
    put(fixture.fd, "\0", 1, CODE_AT + 2 * PAGE);
    assert_int_equal(*loaded(&fixture, CODE_AT + 2 * PAGE), was);
    *loaded(&fixture, CODE_AT + 3 * PAGE) ^= 0xff;
    assert_int_not_equal(fixture.file[CODE_AT + 3 * PAGE], *loaded(&fixture, CODE_AT + 3 * PAGE));
    teardown(&fixture);
}

static void test_it_is_saved(void **state)
{
    struct fixture fixture;
    struct boot_elf elf;
    _cleanup_close_ int saved = temporary();
    uint8_t page[PAGE];
    setup(&fixture);
    assert_int_equal(machine_load_kernel(&fixture.machine, fixture.fd, &elf, NULL), 0);
    assert_int_equal(ram_save(&fixture.machine.ram, saved, 0, NULL), 0);
    for (uint64_t at = 0; at < RAM_SIZE; at += PAGE) {
        assert_int_equal(pread(saved, page, PAGE, (off_t)at), PAGE);
        assert_memory_equal(page, fixture.machine.ram.host + at, PAGE);
    }
    assert_true(lseek(saved, (off_t)(LAYOUT_HIGH_START + HOLE_AT - CODE_AT), SEEK_DATA) > (off_t)LAYOUT_HIGH_START + HOLE_AT - CODE_AT);
    teardown(&fixture);
}

// A segment that the file no longer has is one error and no signal.
static void test_a_file_that_was_cut(void **state)
{
    struct fixture fixture;
    struct boot_elf elf;
    struct err err;
    setup(&fixture);
    assert_int_equal(ftruncate(fixture.fd, FILE_END - PAGE), 0);
    assert_int_equal(machine_load_kernel(&fixture.machine, fixture.fd, &elf, &err), -1);
    assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    teardown(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holes_are_passed_over),
        cmocka_unit_test(test_the_file_is_not_in_use),
        cmocka_unit_test(test_it_is_saved),
        cmocka_unit_test(test_a_file_that_was_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
