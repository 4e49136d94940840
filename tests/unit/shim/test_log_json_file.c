#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>

#include "shim/shim_private.h"

#define NOW INT64_C(1767225845500000000) // 2026-01-01T00:04:05.5Z
#define TAIL ",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:04:05.5Z\"}\n"

struct fixture {
    char path[64];
    struct loop *loop;
    struct log *log;
};

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(struct fixture);
    snprintf(fixture->path, sizeof(fixture->path), "/tmp/berth-test-log-%d", (int)getpid());
    unlink(fixture->path);
    const struct task_log wish = { .driver = (char *)"json-file", .path = fixture->path };
    assert_int_equal(loop_new(&fixture->loop, NULL), 0);
    assert_int_equal(log_new(&wish, fixture->loop, NULL, NULL, &fixture->log, NULL), 0);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    log_free(fixture->log);
    loop_free(fixture->loop);
    unlink(fixture->path);
    free(fixture);
    return 0;
}

static void put(struct fixture *fixture, const char *text, size_t size)
{
    log_write(fixture->log, LOG_STDOUT, text, size, NOW);
}

static void expect(struct fixture *fixture, const char *text)
{
    _cleanup_buf_ struct buf got = BUF_INIT(8 << 20);
    assert_int_equal(file_read_at(AT_FDCWD, fixture->path, &got, NULL), 0);
    assert_int_equal(got.size, strlen(text));
    assert_memory_equal(got.data ? got.data : "", text, got.size);
}

static void lines_as_docker_writes_them(void **state)
{
    put(*state, "hello\nworld\n", 12);
    log_write(((struct fixture *)*state)->log, LOG_STDERR, "oops\n", 5, NOW);
    expect(*state, "{\"log\":\"hello\\n\"" TAIL "{\"log\":\"world\\n\"" TAIL
                   "{\"log\":\"oops\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-01T00:04:05.5Z\"}\n");
}

static void escapes_as_go_does(void **state)
{
    static const char text[] = "\"\\<>&\t\r\x01\x7f caf\xc3\xa9 \xe2\x80\xa8\xe2\x80\xa9 \xff\xc3( \xed\xa0\x80\n";
    put(*state, text, sizeof(text) - 1);
    expect(*state, "{\"log\":\"\\\"\\\\\\u003c\\u003e\\u0026\\u0009\\r\\u0001\x7f caf\xc3\xa9 \\u2028\\u2029 \\ufffd\\ufffd( "
                   "\\ufffd\\ufffd\\ufffd\\n\"" TAIL);
}

static void a_character_cut_by_the_reads_is_whole(void **state)
{
    put(*state, "caf\xc3", 4);
    put(*state, "\xa9", 1);
    put(*state, "\n", 1);
    expect(*state, "{\"log\":\"caf\xc3\xa9\\n\"" TAIL);
}

static void an_unfinished_line_waits_for_the_end(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, "no newline", 10);
    expect(fixture, "");
    log_end(fixture->log, NOW);
    expect(fixture, "{\"log\":\"no newline\"" TAIL);
    log_end(fixture->log, NOW);
    expect(fixture, "{\"log\":\"no newline\"" TAIL);
}

static void add_letters(struct buf *text, char letter, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_addc(text, letter);
}

// 16 KiB a part, whatever the reads were; only the last part ends the line; all carry the first part's time.
static void long_lines_are_split(void **state)
{
    struct fixture *fixture = *state;
    static const size_t steps[] = { 40000, 1000, 16384, 16385 };
    _cleanup_buf_ struct buf line = BUF_INIT(1 << 20), wanted = BUF_INIT(8 << 20);
    add_letters(&line, 'x', 16384 * 2 + 100);
    buf_addc(&line, '\n');
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        for (size_t at = 0; at < line.size; at += steps[i])
            log_write(fixture->log, LOG_STDOUT, line.data + at, MIN_OF(steps[i], line.size - at), NOW);
        for (size_t part = 0; part < 3; part++) {
            buf_adds(&wanted, "{\"log\":\"");
            add_letters(&wanted, 'x', part < 2 ? 16384 : 100);
            buf_adds(&wanted, part < 2 ? "\"" TAIL : "\\n\"" TAIL);
        }
    }
    expect(fixture, buf_text(&wanted));
}

static void parts_share_a_time(void **state)
{
    struct fixture *fixture = *state;
    _cleanup_buf_ struct buf half = BUF_INIT(1 << 20), wanted = BUF_INIT(1 << 20);
    add_letters(&half, 'y', 16384);
    log_write(fixture->log, LOG_STDOUT, half.data, half.size, NOW);
    log_write(fixture->log, LOG_STDOUT, "\nz\n", 3, NOW + NS_PER_S); // exactly full, then only the newline
    buf_addf(&wanted, "{\"log\":\"%s\"" TAIL "{\"log\":\"\\n\"" TAIL, half.data);
    buf_adds(&wanted, "{\"log\":\"z\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:04:06.5Z\"}\n");
    expect(fixture, buf_text(&wanted));
}

// The worst case for the room: 64 KiB of newlines, 64 KiB of what grows sixfold.
static void much_in_one_read(void **state)
{
    struct fixture *fixture = *state;
    _cleanup_buf_ struct buf text = BUF_INIT(1 << 20), got = BUF_INIT(64 << 20);
    add_letters(&text, '\n', 65536);
    put(fixture, text.data, text.size);
    buf_clear(&text);
    add_letters(&text, '\x01', 65535);
    buf_addc(&text, '\n');
    put(fixture, text.data, text.size);
    assert_int_equal(file_read_at(AT_FDCWD, fixture->path, &got, NULL), 0);
    size_t lines = 0, escapes = 0;
    for (size_t i = 0; i < got.size; i++) {
        lines += got.data[i] == '\n';
        escapes += i + 6 <= got.size && memcmp(got.data + i, "\\u0001", 6) == 0;
    }
    assert_int_equal(lines, 65536 + 4);
    assert_int_equal(escapes, 65535);
}

#define LOG_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(lines_as_docker_writes_them),
        LOG_TEST(escapes_as_go_does),
        LOG_TEST(a_character_cut_by_the_reads_is_whole),
        LOG_TEST(an_unfinished_line_waits_for_the_end),
        LOG_TEST(long_lines_are_split),
        LOG_TEST(parts_share_a_time),
        LOG_TEST(much_in_one_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
