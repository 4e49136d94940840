// Locks and their ranks, cancellation, log lines.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/slice.h"

// ---- locks ----------------------------------------------------------------------------------------------------------

// Takes locks of these ranks in this order, in a child, and gives back all; how the child ended.
UNCHECKED static int take_in_order(const int *ranks, size_t len)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct mutex locks[4];
        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        for (size_t i = 0; i < len; i++) {
            mutex_init(&locks[i], ranks[i]);
            mutex_lock(&locks[i]);
        }
        for (size_t i = 0; i < len; i++)
            mutex_unlock(&locks[i]); // in another order than taken
        for (size_t i = 0; i < len; i++)
            mutex_lock(&locks[i]);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void wrong_order_stops(void **state)
{
#ifdef NDEBUG
    print_message("ranks are checked in debug builds only\n");
    skip();
#endif
    static const struct {
        int ranks[3];
        bool ok;
    } cases[] = {
        { { 1, 2, 3 }, true },  { { 2, 1, 3 }, false }, { { 1, 3, 2 }, false },
        { { 1, 1, 2 }, false }, { { 5, 0, 6 }, true },  { { 5, 0, 4 }, false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int status = take_in_order(cases[i].ranks, 3);
        assert_true(cases[i].ok ? WIFEXITED(status) && WEXITSTATUS(status) == 0
                                : WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

struct shared {
    struct mutex lock;
    struct cond changed;
    int value;
};

static void *add_many(void *context)
{
    struct shared *shared = context;
    for (int i = 0; i < 20000; i++) {
        mutex_lock(&shared->lock);
        shared->value++;
        cond_wake_all(&shared->changed);
        mutex_unlock(&shared->lock);
    }
    return NULL;
}

static void waits_for_a_condition(void **state)
{
    struct shared shared = { .value = 0 };
    pthread_t threads[3];
    mutex_init(&shared.lock, 3);
    cond_init(&shared.changed);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &shared), 0);
    mutex_lock(&shared.lock);
    while (shared.value < 60000)
        cond_wait(&shared.changed, &shared.lock);
    int64_t deadline = clock_mono_ns() + 20 * NS_PER_MS;
    while (cond_wait_until(&shared.changed, &shared.lock, deadline))
        ;
    assert_true(clock_mono_ns() >= deadline);
    assert_false(cond_wait_until(&shared.changed, &shared.lock, 0));
    mutex_unlock(&shared.lock);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    cond_done(&shared.changed);
    mutex_done(&shared.lock);
}

// ---- cancellation ---------------------------------------------------------------------------------------------------

static void ready_late_or_cancelled(void **state)
{
    int pipe_fds[2], client[2];
    struct err err;
    const struct cancel never = CANCEL_NEVER;
    assert_int_equal(fd_pipe(pipe_fds, NULL), 0);
    assert_int_equal(fd_socketpair(SOCK_STREAM, client, NULL), 0);
    const struct cancel by_socket = { client[0], -1 };

    int64_t start = clock_mono_ns();
    assert_int_equal(cancel_wait(NULL, pipe_fds[0], start + 10 * NS_PER_MS, &err), 0);
    assert_true(clock_mono_ns() >= start + 10 * NS_PER_MS);
    assert_int_equal(cancel_wait(&never, pipe_fds[0], 0, &err), 0); // long ago
    assert_int_equal(write(pipe_fds[1], "x", 1), 1);
    assert_int_equal(cancel_wait(&by_socket, pipe_fds[0], -1, &err), 1);
    assert_int_equal(write(client[1], "x", 1), 1); // more of the request is no hang-up
    assert_false(cancel_now(&by_socket));
    assert_int_equal(cancel_wait(&by_socket, -1, 0, &err), 0);

    assert_int_equal(shutdown(client[1], SHUT_WR), 0);
    assert_true(cancel_now(&by_socket));
    assert_int_equal(cancel_wait(&by_socket, pipe_fds[0], -1, &err), -1); // though it is readable
    assert_int_equal(err.class, ERR_CANCELLED);
    assert_false(cancel_now(&never) || cancel_now(NULL));
    for (int i = 0; i < 2; i++) {
        fd_close(pipe_fds[i]);
        fd_close(client[i]);
    }
}

static void *cancel_soon(void *context)
{
    usleep(10000);
    eventfd_write(*(int *)context, 1);
    return NULL;
}

static void cancelled_by_another_thread(void **state)
{
    _cleanup_close_ int event_fd = eventfd(0, EFD_CLOEXEC);
    const struct cancel cancel = { -1, event_fd };
    struct err err;
    pthread_t thread;
    assert_false(cancel_now(&cancel));
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &event_fd), 0);
    assert_int_equal(cancel_wait(&cancel, -1, -1, &err), -1);
    assert_int_equal(err.class, ERR_CANCELLED);
    pthread_join(thread, NULL);
    assert_true(cancel_now(&cancel)); // and stays so
}

// ---- log lines ------------------------------------------------------------------------------------------------------

// What one call of log_line() writes to stderr.
static void catch_line(bool json, const char *message, char *out, size_t size)
{
    int fds[2];
    assert_int_equal(fd_pipe(fds, NULL), 0);
    _cleanup_close_ int saved = fd_dup(STDERR_FILENO, NULL);
    log_setup("berth-test", LOG_INFO, json);
    dup2(fds[1], STDERR_FILENO);
    log_debug("%s", "too small to be seen");
    log_warn("%s", message);
    dup2(saved, STDERR_FILENO);
    fd_close(fds[1]);
    ssize_t n = fd_read_full(fds[0], out, size - 1, NULL);
    out[MAX_OF(n, 0)] = 0;
    fd_close(fds[0]);
}

static void one_line_each(void **state)
{
    static const struct {
        bool json;
        const char *message, *end;
    } cases[] = {
        { false, "plain \"text\"", " warn berth-test: plain \"text\"\n" },
        { false, "two\nlines\x1b[0m", " warn berth-test: two lines [0m\n" },
        { true, "a \"b\" \\ c\n", "\"level\":\"warn\",\"program\":\"berth-test\",\"msg\":\"a \\\"b\\\" \\\\ c\\u000a\"}\n" },
        { true, "\xe2\x82\xac \xff", "\"msg\":\"\xe2\x82\xac ?\"}\n" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char line[4096];
        catch_line(cases[i].json, cases[i].message, line, sizeof(line));
        size_t len = strlen(line), end = strlen(cases[i].end);
        assert_true(len > end);
        assert_string_equal(line + len - end, cases[i].end);
        assert_true(strchr(line, '\n') == line + len - 1);
        int64_t when;
        const char *stamp = cases[i].json ? line + strlen("{\"time\":\"") : line;
        assert_true(clock_parse((struct slice){ stamp, 30 }, &when));
    }
    char line[20000], message[5000];
    memset(message, 1, sizeof(message) - 1); // each byte becomes six
    message[sizeof(message) - 1] = 0;
    catch_line(true, message, line, sizeof(line));
    assert_int_equal(line[strlen(line) - 2], '}');
}

static void level_words(void **state)
{
    enum log_level level;
    assert_true(log_level_parse("error", &level));
    assert_int_equal(level, LOG_ERROR);
    assert_false(log_level_parse("ERROR", &level));
    assert_false(log_level_parse("", &level));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_order_stops),
        cmocka_unit_test(waits_for_a_condition),
        cmocka_unit_test(ready_late_or_cancelled),
        cmocka_unit_test(cancelled_by_another_thread),
        cmocka_unit_test(one_line_each),
        cmocka_unit_test(level_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
