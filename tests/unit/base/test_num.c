// Numbers and times.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <time.h>

#include "base/clock.h"
#include "base/num.h"

static void decimal(void **state)
{
    static const struct {
        const char *text;
        uint64_t max;
        bool ok;
        uint64_t value;
    } cases[] = {
        { "0", 10, true, 0 },
        { "007", 10, true, 7 },
        { "65535", 65535, true, 65535 },
        { "65536", 65535, false, 0 },
        { "18446744073709551615", UINT64_MAX, true, UINT64_MAX },
        { "18446744073709551616", UINT64_MAX, false, 0 },
        { "99999999999999999999999", UINT64_MAX, false, 0 },
        { "", 10, false, 0 },
        { " 1", 10, false, 0 },
        { "1 ", 10, false, 0 },
        { "+1", 10, false, 0 },
        { "-1", 10, false, 0 },
        { "1a", 100, false, 0 },
        { "0x1", 100, false, 0 },
        { "1.0", 100, false, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t value = 77;
        assert_int_equal(num_parse_u64(slice_of(cases[i].text), cases[i].max, &value), cases[i].ok);
        assert_int_equal(value, cases[i].ok ? cases[i].value : 77); // untouched by a failure
    }
    uint64_t value;
    assert_false(num_parse_u64((struct slice){ "1\0002", 3 }, 1000, &value));
    assert_false(num_parse_u64((struct slice){ NULL, 0 }, 1000, &value));
}

static void signed_decimal(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t value;
    } cases[] = {
        { "-1", true, -1 },
        { "9223372036854775807", true, INT64_MAX },
        { "9223372036854775808", false, 0 },
        { "-9223372036854775808", true, INT64_MIN },
        { "-9223372036854775809", false, 0 },
        { "-", false, 0 },
        { "--1", false, 0 },
        { "-0", true, 0 },
        { "+1", false, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t value = 0;
        assert_int_equal(num_parse_i64(slice_of(cases[i].text), &value), cases[i].ok);
        assert_true(value == cases[i].value);
    }
}

static void other_bases(void **state)
{
    uint64_t value;
    assert_true(num_parse_octal(slice_of("0755"), 07777, &value));
    assert_int_equal(value, 0755);
    assert_false(num_parse_octal(slice_of("8"), 07777, &value));
    assert_false(num_parse_octal(slice_of("10000"), 07777, &value));
    assert_true(num_parse_hex(slice_of("fFfFffffffffffff"), &value));
    assert_true(value == UINT64_MAX);
    assert_false(num_parse_hex(slice_of("10000000000000000"), &value));
    assert_false(num_parse_hex(slice_of("0x1"), &value));
    assert_false(num_parse_hex(slice_of("g"), &value));
}

static void hex_text(void **state)
{
    char text[9], random[130] = { 0 }, other[130] = { 0 };
    hex_encode("\x00\x7f\xff\xa5", 4, text);
    assert_string_equal(text, "007fffa5");
    assert_true(hex_valid(slice_of(text)));
    assert_false(hex_valid(slice_of("")));
    assert_false(hex_valid(slice_of("AB")));
    assert_false(hex_valid(slice_of("0g")));
    for (size_t digits = 0; digits < 130; digits += 43) {
        random_hex(random, digits);
        assert_int_equal(strlen(random), digits);
        assert_true(digits == 0 || hex_valid(slice_of(random)));
    }
    random_hex(random, 64);
    random_hex(other, 64);
    assert_string_not_equal(random, other);
}

static void times_as_text(void **state)
{
    static const struct {
        int64_t ns;
        const char *nano, *fixed;
    } cases[] = {
        { 0, "0001-01-01T00:00:00Z", "1970-01-01T00:00:00.000000000Z" },
        { 1, "1970-01-01T00:00:00.000000001Z", "1970-01-01T00:00:00.000000001Z" },
        { -1, "1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999999Z" },
        { NS_PER_S, "1970-01-01T00:00:01Z", "1970-01-01T00:00:01.000000000Z" },
        { 1767323045 * NS_PER_S + 123456789, "2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123456789Z" },
        { 1767323045 * NS_PER_S + 120000000, "2026-01-02T03:04:05.12Z", "2026-01-02T03:04:05.120000000Z" },
        { 1709210096 * NS_PER_S, "2024-02-29T12:34:56Z", "2024-02-29T12:34:56.000000000Z" },
        { INT64_MAX, "2262-04-11T23:47:16.854775807Z", "2262-04-11T23:47:16.854775807Z" },
        { INT64_MIN, "1677-09-21T00:12:43.145224192Z", "1677-09-21T00:12:43.145224192Z" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[CLOCK_TEXT_SIZE];
        int64_t ns = -5;
        clock_format(cases[i].ns, text);
        assert_string_equal(text, cases[i].nano);
        if (cases[i].ns != INT64_MIN) { // half a second of the first second lies outside
            assert_true(clock_parse(slice_of(text), &ns));
            assert_true(ns == cases[i].ns);
        }
        clock_format_fixed(cases[i].ns, text);
        assert_string_equal(text, cases[i].fixed);
    }
}

// Ours against the C library's calendar.
static void every_day(void **state)
{
    for (int64_t day = -106751; day < 106751; day++) {
        char text[CLOCK_TEXT_SIZE], wanted[CLOCK_TEXT_SIZE];
        int64_t ns = (day * 86400 + 86399) * NS_PER_S, back;
        time_t seconds = (time_t)(ns / NS_PER_S);
        struct tm parts;
        strftime(wanted, sizeof(wanted), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &parts));
        clock_format(ns, text);
        assert_string_equal(text, wanted);
        assert_true(clock_parse(slice_of(text), &back));
        assert_true(back == ns);
    }
}

static void times_from_text(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } cases[] = {
        { "1970-01-01T00:00:00Z", 0 },
        { "1970-01-01T01:00:00+01:00", 0 },
        { "1969-12-31T18:30:00.5-05:30", NS_PER_S / 2 },
        { "2026-01-02t03:04:05z", 1767323045 * NS_PER_S },
        { "2026-01-02 03:04:05Z", 1767323045 * NS_PER_S },
        { "2026-01-02T03:04:05.1234567891234Z", 1767323045 * NS_PER_S + 123456789 },
        { "2000-02-29T00:00:00Z", 951782400 * NS_PER_S },
    };
    static const char *const malformed[] = {
        "", "2026", "2026-01-02", "2026-01-02T03:04:05", "2026-1-02T03:04:05Z", "2026-13-02T03:04:05Z",
        "2026-00-02T03:04:05Z", "2026-01-00T03:04:05Z", "2026-02-29T03:04:05Z", "2026-02-30T00:00:00Z",
        "2026-01-02T24:04:05Z", "2026-01-02T03:60:05Z", "2026-01-02T03:04:60Z", "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05ZZ", "2026-01-02T03:04:05+0100", "2026-01-02T03:04:05+24:00", "+026-01-02T03:04:05Z",
        "2026-01-02T03:04:05Z ", "9999-01-02T03:04:05Z", "0001-01-01T00:00:01Z", "2026-01-02T03:04:-5Z",
        "2262-04-11T23:47:16.854775808Z",
    };
    int64_t ns = 0;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_true(clock_parse(slice_of(cases[i].text), &ns));
        assert_true(ns == cases[i].ns);
    }
    for (size_t i = 0; i < ARRAY_LEN(malformed); i++)
        assert_false(clock_parse(slice_of(malformed[i]), &ns));
    assert_false(clock_parse((struct slice){ "2026\00001-02T03:04:05Z", 20 }, &ns));
}

static void clocks_run(void **state)
{
    int64_t before = clock_mono_ns();
    usleep(2000);
    assert_in_range(clock_mono_ns() - before, 2 * NS_PER_MS, 60 * NS_PER_S);
    assert_true(clock_wall_ns() > 1700000000 * NS_PER_S);
}

static void test_durations(void **state)
{
    static const struct {
        int64_t ns;
        const char *text;
    } table[] = { { 0, "0s" }, { 1, "1ns" }, { 1500, "1.5\u00b5s" }, { 500 * NS_PER_MS, "500ms" }, { 1001001, "1.001001ms" }, { NS_PER_S, "1s" },
                  { 1500 * NS_PER_MS, "1.5s" }, { 90 * NS_PER_S, "1m30s" }, { 3600 * NS_PER_S, "1h0m0s" }, { INT64_MAX, "2562047h47m16.854775807s" } };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char text[32];
        clock_duration(table[i].ns, text);
        assert_string_equal(text, table[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations),
        cmocka_unit_test(decimal),       cmocka_unit_test(signed_decimal),  cmocka_unit_test(other_bases),
        cmocka_unit_test(hex_text),      cmocka_unit_test(times_as_text),   cmocka_unit_test(every_day), cmocka_unit_test(times_from_text),
        cmocka_unit_test(clocks_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
