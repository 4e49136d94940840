#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "criu/protobuf.h"

// What protoc --encode gives for the same message.
static void test_writes_the_wire_format(void **state)
{
    static const unsigned char expected[] = {
        0x08, 0x00, // 1: 0
        0x10, 0xac, 0x02, // 2: 300
        0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, // 3: -1
        0x20, 0x01, // 4: true
        0x82, 0x04, 0x02, 'h', 'i', // 64: "hi"
        0x32, 0x00, // 6: ""
        0x3a, 0x02, 0x08, 0x07, // 7: { 1: 7 }
    };
    struct buf out = BUF_INIT(256), inner = BUF_INIT(16);
    pb_number(&out, 1, 0);
    pb_number(&out, 2, 300);
    pb_number(&out, 3, -1);
    pb_flag(&out, 4, true);
    pb_flag(&out, 5, false);
    pb_text(&out, 64, "hi");
    pb_text(&out, 5, NULL);
    pb_text(&out, 6, "");
    pb_number(&inner, 1, 7);
    pb_message(&out, 7, &inner);
    assert_int_equal(out.size, sizeof(expected));
    assert_memory_equal(out.data, expected, sizeof(expected));
    buf_done(&out);
    buf_done(&inner);
}

static void test_reads_what_it_wrote(void **state)
{
    struct buf out = BUF_INIT(256);
    struct pb_field field;
    pb_number(&out, 1, 6);
    pb_text(&out, 9, "no such file");
    pb_number(&out, 7, -2);
    struct slice rest = { out.data, out.size };
    assert_int_equal(pb_next(&rest, &field), 1);
    assert_int_equal(field.number, 1);
    assert_int_equal(field.value, 6);
    assert_int_equal(pb_next(&rest, &field), 1);
    assert_int_equal(field.number, 9);
    assert_true(slice_eq(field.bytes, "no such file"));
    assert_int_equal(pb_next(&rest, &field), 1);
    assert_int_equal((int)field.value, -2);
    assert_int_equal(pb_next(&rest, &field), 0);
    buf_done(&out);
}

static void test_passes_over_fixed_numbers(void **state)
{
    static const char bytes[] = "\x0d\x01\x02\x03\x04\x11\x01\x02\x03\x04\x05\x06\x07\x08\x18\x05";
    struct slice rest = { bytes, sizeof(bytes) - 1 };
    struct pb_field field;
    assert_int_equal(pb_next(&rest, &field), 1);
    assert_int_equal(pb_next(&rest, &field), 1);
    assert_int_equal(field.number, 2);
    assert_int_equal(pb_next(&rest, &field), 1);
    assert_int_equal(field.value, 5);
}

static void test_refuses_what_is_no_message(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } rows[] = {
        { "\x08", 1 }, // a number that is not there
        { "\x08\x80", 2 }, // or only begun
        { "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12 }, // or longer than any
        { "\x0a\x05hi", 4 }, // a text that is cut off
        { "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11 }, // as long as can be said
        { "\x0d\x01\x02", 3 }, { "\x09\x01", 2 }, // fixed numbers, cut off
        { "\x0b", 1 }, { "\x0c", 1 }, { "\x0f", 1 }, // groups, and no wire type
        { "\x00\x00", 2 }, // field 0
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice rest = { rows[i].bytes, rows[i].size };
        struct pb_field field;
        assert_int_equal(pb_next(&rest, &field), -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writes_the_wire_format),
        cmocka_unit_test(test_reads_what_it_wrote),
        cmocka_unit_test(test_passes_over_fixed_numbers),
        cmocka_unit_test(test_refuses_what_is_no_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
