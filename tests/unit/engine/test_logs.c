// Reading a json-file log: which lines, in which form, and when following ends.
#include <pthread.h>
#include <sys/socket.h>

#include "fixture.h"

#define T0 "2026-01-01T00:00:00.000000000Z"
#define T1 "2026-01-01T00:00:01.000000000Z"
#define T2 "2026-01-01T00:00:02.500000000Z"
#define T0_NS INT64_C(1767225600000000000)

static const char three_lines[] = "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"" T0 "\"}\n"
                                  "{\"log\":\"two\\n\",\"stream\":\"stderr\",\"time\":\"" T1 "\"}\n"
                                  "{\"log\":\"three\\n\",\"stream\":\"stdout\",\"time\":\"" T2 "\"}\n";

static void append(struct bench *bench, const char *text, size_t size)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/containers/" ID_A "/" ID_A "-json.log", bench->root);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, size), size);
}

static struct container *with_log(struct bench *bench, const char *body, const char *text)
{
    bench_open(bench);
    struct container *container = bench_container(bench, ID_A, "web", body);
    assert_int_equal(file_mkdirs(bench->engine.containers_fd, ID_A, 0700, &bench->err), 0);
    if (text)
        append(bench, text, strlen(text));
    return container;
}

static int collect(void *context, const void *data, size_t size)
{
    buf_add(context, data, size);
    return 0;
}

static void test_windows(void **state)
{
    static const struct {
        struct engine_logs logs;
        const char *expected; // of a container with a terminal: plain
    } table[] = {
        { { .out = true, .error = true, .tail = -1 }, "one\ntwo\nthree\n" },
        { { .out = true, .tail = -1 }, "one\nthree\n" },
        { { .error = true, .tail = -1 }, "two\n" },
        { { .out = true, .error = true, .tail = 0 }, "" },
        { { .out = true, .error = true, .tail = 1 }, "three\n" },
        { { .out = true, .error = true, .tail = 2 }, "two\nthree\n" },
        { { .out = true, .error = true, .tail = 3 }, "one\ntwo\nthree\n" },
        { { .out = true, .error = true, .tail = 1000000 }, "one\ntwo\nthree\n" },
        { { .out = true, .error = true, .tail = -1, .since_ns = T0_NS + 1 }, "two\nthree\n" },
        { { .out = true, .error = true, .tail = -1, .since_ns = T0_NS + NS_PER_S }, "two\nthree\n" },
        { { .out = true, .error = true, .tail = -1, .until_ns = T0_NS + NS_PER_S }, "one\ntwo\n" },
        { { .out = true, .error = true, .tail = -1, .since_ns = T0_NS + 1, .until_ns = T0_NS + NS_PER_S }, "two\n" },
        { { .out = true, .error = true, .tail = 1, .timestamps = true }, T2 " three\n" },
    };
    struct bench bench;
    with_log(&bench, "{\"Tty\":true}", three_lines);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_buf_ struct buf got = BUF_INIT(1 << 20);
        assert_int_equal(engine_logs(&bench.engine, "web", &table[i].logs, collect, &got, NULL, &bench.err), 0);
        if (!str_eq(buf_text(&got), table[i].expected))
            fail_msg("row %zu: \"%s\"", i, buf_text(&got));
    }
    bench_close(&bench);
}

static void test_frames(void **state)
{
    static const char expected[] = "\1\0\0\0\0\0\0\4one\n\2\0\0\0\0\0\0\4two\n\1\0\0\0\0\0\0\6three\n";
    const struct engine_logs logs = { .out = true, .error = true, .tail = -1 };
    _cleanup_buf_ struct buf got = BUF_INIT(1 << 20);
    struct bench bench;
    with_log(&bench, "{}", three_lines);
    assert_int_equal(engine_logs(&bench.engine, "web", &logs, collect, &got, NULL, &bench.err), 0);
    assert_int_equal(got.size, sizeof(expected) - 1);
    assert_memory_equal(got.data, expected, got.size);
    bench_close(&bench);
}

// A torn line, an empty one, one that is no object, a NUL byte of the program, and an end without a line break.
static void test_strange_lines(void **state)
{
    static const char strange[] = "{\"log\":\"torn\n\n[1]\n{\"stream\":\"stdout\"}\n{\"log\":\"a\\u0000b\\n\",\"stream\":\"stdout\"}\n"
                                  "{\"log\":\"late\\n\",\"stream\":\"stdout\",\"ti";
    const struct engine_logs logs = { .out = true, .error = true, .tail = -1 };
    _cleanup_buf_ struct buf got = BUF_INIT(1 << 20);
    struct bench bench;
    with_log(&bench, "{\"Tty\":true}", strange);
    assert_int_equal(engine_logs(&bench.engine, "web", &logs, collect, &got, NULL, &bench.err), 0);
    assert_int_equal(got.size, 4);
    assert_memory_equal(got.data, "a\0b\n", 4);
    bench_close(&bench);
}

static void test_a_line_without_end(void **state)
{
    const struct engine_logs logs = { .out = true, .error = true, .tail = -1 };
    _cleanup_buf_ struct buf got = BUF_INIT(1 << 20);
    _cleanup_free_ char *endless = mem_alloc(3 << 20);
    struct bench bench;
    with_log(&bench, "{\"Tty\":true}", NULL);
    memset(endless, 'x', 3 << 20);
    append(&bench, endless, 3 << 20);
    append(&bench, "\n", 1);
    append(&bench, three_lines, strlen(three_lines));
    assert_int_equal(engine_logs(&bench.engine, "web", &logs, collect, &got, NULL, &bench.err), 0);
    assert_string_equal(buf_text(&got), "one\ntwo\nthree\n");
    bench_close(&bench);
}

static void test_no_log_yet(void **state)
{
    const struct engine_logs logs = { .out = true, .tail = -1, .follow = true };
    _cleanup_buf_ struct buf got = BUF_INIT(1 << 20);
    struct bench bench;
    bool terminal;
    with_log(&bench, "{}", NULL);
    assert_int_equal(engine_logs(&bench.engine, "web", &logs, collect, &got, NULL, &bench.err), 0);
    assert_int_equal(got.size, 0);
    const struct engine_logs no_stream = { .tail = -1 };
    assert_int_equal(engine_logs_check(&bench.engine, "web", &no_stream, &terminal, &bench.err), -1);
    assert_int_equal(bench.err.class, ERR_INVALID_ARGUMENT);
    bench_close(&bench);
}

static void *write_and_end(void *context)
{
    struct bench *bench = context;
    struct container *container = bench->engine.containers;
    static const char more[] = "{\"log\":\"four\\n\",\"stream\":\"stdout\",\"time\":\"" T2 "\"}\n";
    usleep(50000);
    append(bench, more, 20);
    usleep(20000);
    append(bench, more + 20, strlen(more) - 20);
    bench_set_status(container, STATUS_EXITED);
    mutex_lock(&container->lock);
    container_finish_waiters(container, false);
    mutex_unlock(&container->lock);
    return NULL;
}

static void test_follow_until_the_end(void **state)
{
    const struct engine_logs logs = { .out = true, .error = true, .tail = 1, .follow = true };
    _cleanup_buf_ struct buf got = BUF_INIT(1 << 20);
    struct bench bench;
    pthread_t writer;
    bench_set_status(with_log(&bench, "{\"Tty\":true}", three_lines), STATUS_RUNNING);
    assert_int_equal(pthread_create(&writer, NULL, write_and_end, &bench), 0);
    assert_int_equal(engine_logs(&bench.engine, "web", &logs, collect, &got, NULL, &bench.err), 0);
    pthread_join(writer, NULL);
    assert_string_equal(buf_text(&got), "three\nfour\n");
    bench_close(&bench);
}

static void test_follow_cancelled(void **state)
{
    const struct engine_logs logs = { .out = true, .error = true, .tail = -1, .follow = true };
    _cleanup_buf_ struct buf got = BUF_INIT(1 << 20);
    struct bench bench;
    int ends[2];
    bench_set_status(with_log(&bench, "{\"Tty\":true}", three_lines), STATUS_RUNNING);
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, &bench.err), 0);
    fd_close(ends[1]);
    const struct cancel gone = { ends[0], -1 };
    assert_int_equal(engine_logs(&bench.engine, "web", &logs, collect, &got, &gone, &bench.err), -1);
    assert_int_equal(bench.err.class, ERR_CANCELLED);
    fd_close(ends[0]);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),          cmocka_unit_test(test_frames),
        cmocka_unit_test(test_strange_lines),    cmocka_unit_test(test_a_line_without_end),
        cmocka_unit_test(test_no_log_yet),       cmocka_unit_test(test_follow_until_the_end),
        cmocka_unit_test(test_follow_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
