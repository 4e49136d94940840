// The layout byte by byte where others rely on it. That Linux and QEMU read the same is for tools/check-kvm and the
// end-to-end tests to see.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kernel/layers_disk.h"

#define MIB (UINT64_C(1) << 20)

static uint64_t word(const uint8_t *at, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, at, size);
    return value;
}

static uint32_t slow_crc(const uint8_t *data, size_t size)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size * 8; i++) {
        uint32_t bit = (data[i / 8] >> (i % 8) ^ crc) & 1;
        crc = bit ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return ~crc;
}

static void check_header(const uint8_t *header, uint64_t own, uint64_t other, const uint8_t *table, uint64_t table_sector)
{
    uint8_t copy[92];
    assert_memory_equal(header, "EFI PART", 8);
    memcpy(copy, header, sizeof(copy));
    memset(copy + 16, 0, 4);
    assert_int_equal(slow_crc(copy, sizeof(copy)), word(header + 16, 4));
    assert_int_equal(word(header + 24, 8), own);
    assert_int_equal(word(header + 32, 8), other);
    assert_int_equal(word(header + 72, 8), table_sector);
    assert_int_equal(word(header + 80, 4), 256);
    assert_int_equal(word(header + 84, 4), 128);
    assert_int_equal(slow_crc(table, 256 * 128), word(header + 88, 4));
}

static void test_table(void **state)
{
    const uint64_t sizes[] = { 4096, 3 * MIB, 8192 };
    _cleanup_layers_disk_ struct layers_disk disk = { 0 };
    struct err err;
    assert_int_equal(layers_disk_make(sizes, 3, &disk, &err), 0);
    assert_int_equal(disk.size, 4 * MIB);
    assert_int_equal(disk.size, LAYERS_DISK_HEAD + 4096 + 3 * MIB + 8192 + disk.tail_size);
    assert_int_equal(word(disk.head + 510, 2), 0xaa55);
    uint64_t last = disk.size / 512 - 1;
    const uint8_t *end = disk.tail + disk.tail_size, *table = disk.head + 1024;
    check_header(disk.head + 512, 1, last, table, 2);
    check_header(end - 512, last, 1, end - 512 - 32768, last - 64);
    assert_memory_equal(table, end - 512 - 32768, 32768);
    uint64_t at = LAYERS_DISK_HEAD;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(layers_disk_offset(&disk, i), at);
        assert_int_equal(word(table + i * 128 + 32, 8), at / 512);
        at += sizes[i];
        assert_int_equal(word(table + i * 128 + 40, 8), at / 512 - 1);
        assert_memory_not_equal(table + i * 128 + 16, table + (i + 1) * 128 + 16, 16);
    }
    assert_int_equal(layers_disk_offset(&disk, 3), disk.size - disk.tail_size);
    assert_int_equal(word(table + 3 * 128, 8), 0);
}

static void test_sizes(void **state)
{
    uint64_t sizes[LAYERS_DISK_MAX + 1];
    struct layers_disk disk;
    struct err err;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        sizes[i] = 4096;
    for (size_t len = 1; len <= LAYERS_DISK_MAX; len++) {
        assert_int_equal(layers_disk_make(sizes, len, &disk, &err), 0);
        assert_int_equal(disk.size % (2 * MIB), 0);
        assert_true(disk.tail_size >= LAYERS_DISK_HEAD && disk.tail_size <= 2 * MIB + LAYERS_DISK_HEAD);
        layers_disk_done(&disk);
    }
    static const uint64_t wrong[] = { 0, 1, 512, 4097, UINT64_C(1) << 47, UINT64_MAX, UINT64_MAX - 4095 };
    assert_int_equal(layers_disk_make(sizes, 0, &disk, &err), -1);
    assert_int_equal(layers_disk_make(sizes, LAYERS_DISK_MAX + 1, &disk, &err), -1);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        sizes[1] = wrong[i];
        assert_int_equal(layers_disk_make(sizes, 2, &disk, &err), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    }
}

static void test_vmdk(void **state)
{
    const uint64_t size = 8192;
    const char *const names[] = { "head", "/a b/one", "tail" };
    _cleanup_layers_disk_ struct layers_disk disk = { 0 };
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    assert_int_equal(layers_disk_make(&size, 1, &disk, NULL), 0);
    layers_disk_vmdk(&disk, names, &text);
    assert_string_equal(buf_text(&text), "# Disk DescriptorFile\nversion=1\nCID=62657274\nparentCID=ffffffff\n"
                                         "createType=\"twoGbMaxExtentFlat\"\nRW 128 FLAT \"head\" 0\n"
                                         "RW 16 FLAT \"/a b/one\" 0\nRW 3952 FLAT \"tail\" 0\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_vmdk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
