#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>

#include "tar_maker.h"

static const struct {
    const char *name;
    int filter;
} formats[] = {
    { "plain", ARCHIVE_FILTER_NONE }, { "gzip", ARCHIVE_FILTER_GZIP }, { "zstd", ARCHIVE_FILTER_ZSTD },
    { "bzip2", ARCHIVE_FILTER_BZIP2 }, { "xz", ARCHIVE_FILTER_XZ },
};

static void compress_to(struct buf *out, int filter, const char *data, size_t size)
{
    struct archive *archive = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    size_t used = 0, room = size + size / 2 + 4096;
    archive_write_add_filter(archive, filter);
    archive_write_set_format_raw(archive);
    archive_write_set_bytes_in_last_block(archive, 1);
    archive_write_open_memory(archive, buf_reserve(out, room), room, &used);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_write_header(archive, entry);
    archive_write_data(archive, data, size);
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    archive_entry_free(entry);
    archive_write_free(archive);
    buf_commit(out, used);
}

// All plain bytes, or -1.
static int inflate_bound(const char *data, size_t size, size_t step, struct layer_bound *bound, struct buf *out, struct err *err)
{
    struct memory memory = { .data = data, .size = size, .step = step };
    struct layer_inflate *inflate;
    if (layer_inflate_new(memory_read, &memory, bound, &inflate, err) < 0)
        return -1;
    ssize_t got;
    char piece[5000];
    while ((got = layer_inflate_read(inflate, piece, sizeof(piece), err)) > 0)
        buf_add(out, piece, (size_t)got);
    layer_inflate_free(inflate);
    return (int)got;
}

static int inflate_all(const char *data, size_t size, size_t step, struct buf *out, struct err *err)
{
    return inflate_bound(data, size, step, NULL, out, err);
}

static char *sample(size_t size)
{
    char *data = mem_alloc(size);
    unsigned seed = 1;
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1103515245 + 12345;
        data[i] = (char)(i % 7 < 4 ? 'a' + i % 13 : seed >> 24);
    }
    return data;
}

static void test_all_formats(void **state)
{
    static const size_t sizes[] = { 1, 100, 300000 }, steps[] = { 0, 7, 4096 };
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        for (size_t i = 0; i < ARRAY_LEN(sizes) * ARRAY_LEN(steps); i++) {
            size_t size = sizes[i % ARRAY_LEN(sizes)], step = steps[i / ARRAY_LEN(sizes)];
            _cleanup_buf_ struct buf packed = BUF_INIT(TAR_MAX), plain = BUF_INIT(TAR_MAX);
            _cleanup_free_ char *data = sample(size);
            struct err err;
            compress_to(&packed, formats[f].filter, data, size);
            assert_int_equal(layer_is_compressed(packed.data, packed.size), formats[f].filter != ARCHIVE_FILTER_NONE);
            if (inflate_all(packed.data, packed.size, step, &plain, &err) < 0)
                fail_msg("%s, %zu bytes by %zu: %s", formats[f].name, size, step, err.message);
            assert_int_equal(plain.size, size);
            assert_memory_equal(plain.data, data, size);
        }
    }
}

static void test_several_members(void **state)
{
    _cleanup_free_ char *data = sample(200000);
    for (size_t f = 1; f < ARRAY_LEN(formats); f++) {
        _cleanup_buf_ struct buf packed = BUF_INIT(TAR_MAX), plain = BUF_INIT(TAR_MAX);
        struct err err;
        compress_to(&packed, formats[f].filter, data, 50000);
        compress_to(&packed, formats[f].filter, data + 50000, 150000);
        if (inflate_all(packed.data, packed.size, 1000, &plain, &err) < 0)
            fail_msg("%s: %s", formats[f].name, err.message);
        assert_int_equal(plain.size, 200000);
        assert_memory_equal(plain.data, data, 200000);
    }
}

static void test_compressed_inside_compressed_stays(void **state)
{
    _cleanup_buf_ struct buf inner = BUF_INIT(TAR_MAX), outer = BUF_INIT(TAR_MAX), plain = BUF_INIT(TAR_MAX);
    _cleanup_free_ char *data = sample(1000);
    struct err err;
    compress_to(&inner, ARCHIVE_FILTER_ZSTD, data, 1000);
    compress_to(&outer, ARCHIVE_FILTER_ZSTD, inner.data, inner.size);
    assert_int_equal(inflate_all(outer.data, outer.size, 0, &plain, &err), 0);
    assert_int_equal(plain.size, inner.size);
    assert_memory_equal(plain.data, inner.data, inner.size);
}

static void test_cut_and_damaged(void **state)
{
    _cleanup_free_ char *data = sample(100000);
    for (size_t f = 1; f < ARRAY_LEN(formats); f++) {
        _cleanup_buf_ struct buf packed = BUF_INIT(TAR_MAX), plain = BUF_INIT(TAR_MAX);
        struct err err;
        compress_to(&packed, formats[f].filter, data, 100000);
        size_t cuts[] = { 12, packed.size / 2, packed.size - 5 };
        for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
            buf_clear(&plain);
            if (inflate_all(packed.data, cuts[i], 0, &plain, &err) == 0)
                fail_msg("%s cut at %zu of %zu was taken", formats[f].name, cuts[i], packed.size);
            assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        }
        if (formats[f].filter == ARCHIVE_FILTER_ZSTD)
            continue; // written without a checksum: only digests tell
        memset(packed.data + packed.size / 2, 0x55, 40);
        assert_int_equal(inflate_all(packed.data, packed.size, 0, &plain, &err), -1);
    }
}

static void test_gzip_tail(void **state)
{
    _cleanup_buf_ struct buf packed = BUF_INIT(TAR_MAX), plain = BUF_INIT(TAR_MAX);
    struct err err;
    compress_to(&packed, ARCHIVE_FILTER_GZIP, "x", 1);
    buf_add(&packed, "\0\0\0\0\0\0\0\0", 8);
    assert_int_equal(inflate_all(packed.data, packed.size, 0, &plain, &err), 0);
    buf_adds(&packed, "garbage behind the end, long enough for a header");
    assert_int_equal(inflate_all(packed.data, packed.size, 0, &plain, &err), -1);
}

static void test_plain_that_looks_like_bzip2(void **state)
{
    _cleanup_buf_ struct buf plain = BUF_INIT(TAR_MAX);
    struct err err;
    assert_int_equal(inflate_all("BZh-file.txt", 12, 1, &plain, &err), 0);
    assert_string_equal(buf_text(&plain), "BZh-file.txt");
    buf_clear(&plain);
    assert_int_equal(inflate_all("", 0, 1, &plain, &err), 0);
    assert_int_equal(plain.size, 0);
}

// Beyond the floor a stream may be so many times of what came and no more; several streams share one bound.
static void test_bound(void **state)
{
    enum { SIZE = 1 << 20 };
    _cleanup_free_ char *zeros = mem_alloc(SIZE);
    for (size_t i = 1; i < ARRAY_LEN(formats); i++) {
        _cleanup_buf_ struct buf packed = BUF_INIT(TAR_MAX), plain = BUF_INIT(TAR_MAX);
        compress_to(&packed, formats[i].filter, zeros, SIZE);
        struct layer_bound bound = { .ratio = 10, .floor = SIZE + SIZE / 2, .came = packed.size };
        struct err err = { 0 };
        assert_int_equal(inflate_bound(packed.data, packed.size, 0, &bound, &plain, &err), 0);
        assert_int_equal(plain.size, SIZE);
        buf_clear(&plain);
        assert_int_equal(inflate_bound(packed.data, packed.size, 0, &bound, &plain, &err), -1);
        assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
        assert_non_null(strstr(err.message, "over 10 times"));
        bound.came = SIZE;
        assert_int_equal(inflate_bound(packed.data, packed.size, 0, &bound, &plain, &err), 0);
        bound = (struct layer_bound){ .floor = 1, .came = 1 };
        assert_int_equal(inflate_bound(packed.data, packed.size, 0, &bound, &plain, &err), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_formats),
        cmocka_unit_test(test_several_members),
        cmocka_unit_test(test_compressed_inside_compressed_stays),
        cmocka_unit_test(test_cut_and_damaged),
        cmocka_unit_test(test_gzip_tail),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_plain_that_looks_like_bzip2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
