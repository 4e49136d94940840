#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "vmm/state.h"

static void write_sample(struct buf *out)
{
    struct state_writer writer = { out };
    state_begin(&writer, "sample", 2);
    state_put8(&writer, 8);
    state_put16(&writer, 1616);
    state_put32(&writer, 323232);
    state_put64(&writer, UINT64_C(0x6464646464646464));
    state_put_bytes(&writer, "abc", 3);
    state_put_blob(&writer, "blob", 4);
}

static int read_sample(const char *data, size_t size, const char *name, uint16_t version, struct err *err)
{
    struct state_reader reader = state_open(data, size, err);
    char bytes[3], blob[16];
    if (state_enter(&reader, name, version) != 2)
        assert_true(reader.failed);
    bool right = state_get8(&reader) == 8;
    right &= state_get16(&reader) == 1616;
    right &= state_get32(&reader) == 323232;
    right &= state_get64(&reader) == UINT64_C(0x6464646464646464);
    state_get_bytes(&reader, bytes, sizeof(bytes));
    right &= memcmp(bytes, "abc", 3) == 0;
    right &= state_get_blob(&reader, blob, sizeof(blob)) == 4 && memcmp(blob, "blob", 4) == 0;
    int result = state_finish(&reader);
    assert_true(right || result < 0);
    return result;
}

static void what_was_written_is_read(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(4096);
    struct err err = { 0 };
    write_sample(&out);
    assert_int_equal(read_sample(out.data, out.size, "sample", 2, &err), 0);
    assert_int_equal(read_sample(out.data, out.size, "sample", 3, &err), 0); // an older section in a newer program
}

static void every_cut_is_refused(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(4096);
    write_sample(&out);
    for (size_t size = 0; size < out.size; size++) {
        struct err err = { 0 };
        assert_int_equal(read_sample(out.data, size, "sample", 2, &err), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        assert_non_null(strstr(err.message, "sample"));
    }
    struct err err = { 0 };
    buf_addc(&out, 0);
    assert_int_equal(read_sample(out.data, out.size, "sample", 2, &err), -1);
    assert_non_null(strstr(err.message, "follow"));
}

static void foreign_sections_are_refused(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(4096);
    struct err err = { 0 };
    write_sample(&out);
    assert_int_equal(read_sample(out.data, out.size, "other", 2, &err), -1);
    assert_string_equal(err.message, "saved state of other: section \"sample\" found instead");
    assert_int_equal(read_sample(out.data, out.size, "sample", 1, &err), -1);
    assert_string_equal(err.message, "saved state of sample: version 2, known are 1 to 1");
}

static void a_blob_is_bounded(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(4096);
    struct state_writer writer = { &out };
    state_put32(&writer, UINT32_MAX);
    state_put_bytes(&writer, "abcdefgh", 8);
    char blob[8];
    struct state_reader reader = state_open(out.data, out.size, NULL);
    assert_int_equal(state_get_blob(&reader, blob, sizeof(blob)), 0);
    assert_int_equal(state_check(&reader), -1);
    assert_int_equal(state_get8(&reader), 0); // sticky
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(foreign_sections_are_refused),
        cmocka_unit_test(a_blob_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
