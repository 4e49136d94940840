#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/process.h"

static char *const no_env[] = { NULL };

// Runs /bin/sh -c `script` with `io`, whose output becomes a pipe; what it wrote is in `output`.
static int run_shell(const char *script, struct process_io io, struct buf *output)
{
    char *const argv[] = { (char *)"sh", (char *)"-c", (char *)script, NULL };
    struct process process = PROCESS_NONE;
    struct err err;
    int fds[2], status;
    assert_int_equal(fd_pipe(fds, NULL), 0);
    io.out = fds[1];
    if (process_spawn("/bin/sh", -1, argv, no_env, &io, &process, &err) < 0)
        fail_msg("%s", err.message);
    fd_close(fds[1]);
    char *room = buf_reserve(output, 4000);
    ssize_t n = fd_read_full(fds[0], room, 4000, NULL);
    assert_true(n >= 0);
    buf_commit(output, (size_t)n);
    fd_close(fds[0]);
    assert_int_equal(process_wait(&process, &status, &err), 0);
    assert_int_equal(process.pid, 0);
    assert_int_equal(process.pidfd, -1);
    return process_exit_code(status);
}

// A descriptor from which `text` can be read.
static int filled_pipe(const char *text)
{
    int fds[2];
    assert_int_equal(fd_pipe(fds, NULL), 0);
    assert_int_equal(fd_write_full(fds[1], text, strlen(text), NULL), 0);
    fd_close(fds[1]);
    int high = fcntl(fds[0], F_DUPFD_CLOEXEC, 100); // out of the way of low numbers
    fd_close(fds[0]);
    return high;
}

static void waits_no_longer_than_asked(void **state)
{
    char *const argv[] = { (char *)"sleep", (char *)"100", NULL };
    const struct process_io io = { -1, -1, -1, NULL, 0 };
    struct process process = PROCESS_NONE;
    struct err err = { 0 };
    int status;
    assert_int_equal(process_spawn("/bin/sleep", -1, argv, no_env, &io, &process, &err), 0);
    assert_int_equal(process_wait_until(&process, clock_mono_ns() + 20 * NS_PER_MS, &status, &err), -1);
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    assert_true(process.pid > 0 && process.pidfd >= 0);
    assert_int_equal(kill(process.pid, SIGKILL), 0);
    assert_int_equal(process_wait_until(&process, clock_mono_ns() + 10 * NS_PER_S, &status, &err), 0);
    assert_int_equal(process_exit_code(status), 137);
    assert_int_equal(process.pid, 0);
}

static void exit_codes(void **state)
{
    static const struct {
        const char *script;
        int code;
    } cases[] = { { "exit 0", 0 }, { "exit 7", 7 }, { "kill -9 $$", 137 }, { "kill -TERM $$", 143 } };
    const struct process_io io = { -1, -1, -1, NULL, 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_buf_ struct buf output = BUF_INIT(4000);
        assert_int_equal(run_shell(cases[i].script, io, &output), cases[i].code);
    }
}

static void standard_descriptors(void **state)
{
    _cleanup_buf_ struct buf output = BUF_INIT(4000);
    _cleanup_close_ int input = filled_pipe("from in");
    struct process_io io = { input, -1, -1, NULL, 0 };
    assert_int_equal(run_shell("cat; echo lost >&2", io, &output), 0);
    assert_string_equal(buf_text(&output), "from in");
    buf_clear(&output);
    io.in = -1; // /dev/null
    assert_int_equal(run_shell("cat; echo end", io, &output), 0);
    assert_string_equal(buf_text(&output), "end\n");
}

static void kept_descriptors_come_in_their_order(void **state)
{
    // Sources that lie among their targets, crosswise: 4 becomes 3 and 3 becomes 4.
    _cleanup_buf_ struct buf output = BUF_INIT(4000);
    _cleanup_close_ int first = filled_pipe("first "), second = filled_pipe("second "), third = filled_pipe("third ");
    const int saved[] = { fcntl(3, F_DUPFD_CLOEXEC, 200), fcntl(4, F_DUPFD_CLOEXEC, 200) }; // put back afterwards
    assert_true(dup3(first, 4, O_CLOEXEC) == 4 && dup3(second, 3, O_CLOEXEC) == 3);
    const int keep[] = { 4, 3, third };
    const struct process_io io = { -1, -1, -1, keep, ARRAY_LEN(keep) };
    int code = run_shell("cat <&3; cat <&4; cat <&5; ls /proc/self/fd | tr '\\n' ' '", io, &output);
    for (int i = 0; i < 2; i++) {
        close(3 + i);
        if (saved[i] >= 0)
            dup3(saved[i], 3 + i, O_CLOEXEC);
        fd_close(saved[i]);
    }
    assert_int_equal(code, 0);
    // ls has 6 itself, for the folder; nothing else is there.
    assert_string_equal(buf_text(&output), "first second third 0 1 2 3 4 5 6 ");
}

static void as_many_as_allowed(void **state)
{
    int keep[PROCESS_KEEP_MAX + 1];
    struct process process = PROCESS_NONE;
    char *const argv[] = { (char *)"true", NULL };
    struct err err;
    int status;
    for (size_t i = 0; i < ARRAY_LEN(keep); i++)
        keep[i] = STDERR_FILENO;
    struct process_io io = { -1, -1, STDERR_FILENO, keep, PROCESS_KEEP_MAX };
    assert_int_equal(process_spawn("/bin/true", -1, argv, no_env, &io, &process, &err), 0);
    assert_int_equal(process_wait(&process, &status, &err), 0);
    io.keep_len++;
    assert_int_equal(process_spawn("/bin/true", -1, argv, no_env, &io, &process, &err), -1);
    assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    assert_int_equal(process.pid, 0);
}

static void environment_is_what_is_given(void **state)
{
    char *const argv[] = { (char *)"env", NULL };
    char *const envp[] = { (char *)"A=1", (char *)"B=two words", NULL };
    struct process process = PROCESS_NONE;
    int fds[2], status;
    char text[200] = { 0 };
    assert_int_equal(fd_pipe(fds, NULL), 0);
    const struct process_io io = { -1, fds[1], -1, NULL, 0 };
    assert_int_equal(process_spawn("/usr/bin/env", -1, argv, envp, &io, &process, NULL), 0);
    fd_close(fds[1]);
    assert_true(fd_read_full(fds[0], text, sizeof(text) - 1, NULL) > 0);
    fd_close(fds[0]);
    process_wait(&process, &status, NULL);
    assert_string_equal(text, "A=1\nB=two words\n");
}

static void executes_a_sealed_copy(void **state)
{
    struct err err;
    struct process process = PROCESS_NONE;
    char *const argv[] = { (char *)"sh", (char *)"-c", (char *)"cat <&3; exit 5", NULL };
    _cleanup_close_ int copy = fd_sealed_copy("/bin/sh", &err);
    assert_true(copy >= 0);
    _cleanup_close_ int kept = filled_pipe("x");
    const struct process_io io = { -1, -1, -1, &kept, 1 };
    int status;
    assert_int_equal(process_spawn("copy of sh", copy, argv, no_env, &io, &process, &err), 0);
    assert_int_equal(process_wait(&process, &status, &err), 0);
    assert_int_equal(process_exit_code(status), 5);
}

static void signals_start_clean(void **state)
{
    _cleanup_buf_ struct buf output = BUF_INIT(4000);
    const struct process_io io = { -1, -1, -1, NULL, 0 };
    sigset_t block, old;
    sigfillset(&block);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &block, &old);
    int code = run_shell("grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2 | tr '\\n' ' '", io, &output);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    assert_int_equal(code, 0);
    assert_string_equal(buf_text(&output), "0000000000000000 0000000000000000 ");
}

static void failures_to_start(void **state)
{
    struct err err;
    struct process process = PROCESS_NONE;
    char *const argv[] = { (char *)"x", NULL };
    const struct process_io io = { -1, -1, -1, NULL, 0 }, bad = { 9999, -1, -1, NULL, 0 };
    assert_int_equal(process_spawn("/no/such/program", -1, argv, no_env, &io, &process, &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);
    assert_string_equal(err.message, "run /no/such/program: no such file or directory");
    assert_int_equal(process_spawn("/dev/null", -1, argv, no_env, &io, &process, &err), -1);
    assert_int_equal(err.class, ERR_PERMISSION_DENIED);
    assert_int_equal(process_spawn("/bin/true", -1, argv, no_env, &bad, &process, &err), -1);
    assert_int_equal(err.number, EBADF);
    int status;
    assert_int_equal(process_wait(&process, &status, &err), -1);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); // no child is left over
    assert_int_equal(errno, ECHILD);
}

static void done_ends_what_runs(void **state)
{
    struct process process = PROCESS_NONE;
    char *const argv[] = { (char *)"sleep", (char *)"1000", NULL };
    const struct process_io io = { -1, -1, -1, NULL, 0 };
    assert_int_equal(process_spawn("/bin/sleep", -1, argv, no_env, &io, &process, NULL), 0);
    struct pollfd one = { process.pidfd, POLLIN, 0 };
    assert_int_equal(poll(&one, 1, 0), 0);
    assert_true(fcntl(process.pidfd, F_GETFD) & FD_CLOEXEC);
    process_done(&process);
    assert_int_equal(process.pid, 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    process_done(&process);
}

// ---- running a tool -------------------------------------------------------------------------------------------------

static int run_tool(const char *script, const char *input, struct buf *output, struct err *err)
{
    char *const argv[] = { (char *)"sh", (char *)"-c", (char *)script, NULL };
    return process_run(argv, input, output, err);
}

static void tools_output_and_failure(void **state)
{
    static const struct {
        const char *script, *input, *output, *error;
    } cases[] = {
        { "echo out; echo error >&2", NULL, "out\nerror\n", NULL },
        { "cat", "some input", "some input", NULL },
        { "cat", "", "", NULL },
        { "exit 3", NULL, "", "sh: exit code 3" },
        { "echo; echo '  first line '; echo second; exit 1", NULL, NULL, "sh: exit code 1: first line" },
        { "echo why >&2; kill -9 $$", NULL, NULL, "sh: exit code 137: why" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_buf_ struct buf output = BUF_INIT(4000);
        struct err err = { 0 };
        assert_int_equal(run_tool(cases[i].script, cases[i].input, &output, &err), cases[i].error ? -1 : 0);
        if (cases[i].output)
            assert_string_equal(buf_text(&output), cases[i].output);
        assert_string_equal(err.message, cases[i].error ? cases[i].error : "");
    }
}

static void tool_is_not_there(void **state)
{
    _cleanup_buf_ struct buf output = BUF_INIT(4000);
    struct err err;
    char *const missing[] = { (char *)"no-such-tool-at-all", NULL }, *const path[] = { (char *)"/no/such", NULL };
    assert_int_equal(process_run(missing, NULL, &output, &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);
    assert_string_equal(err.message, "no-such-tool-at-all: not found in PATH");
    assert_int_equal(process_run(path, NULL, &output, &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);
}

static void large_both_ways(void **state)
{
    enum { SIZE = 500000 };
    _cleanup_buf_ struct buf output = BUF_INIT(SIZE);
    _cleanup_free_ char *input = mem_alloc(SIZE + 1);
    memset(input, 'x', SIZE);
    assert_int_equal(run_tool("cat", input, &output, NULL), 0);
    assert_int_equal(output.size, SIZE);
    assert_string_equal(buf_text(&output), input);
    // A tool that reads nothing of it: no signal, no hanging, its own word counts.
    buf_clear(&output);
    assert_int_equal(run_tool("exec <&-; echo done", input, &output, NULL), 0);
    assert_string_equal(buf_text(&output), "done\n");
}

static void output_has_a_ceiling(void **state)
{
    _cleanup_buf_ struct buf output = BUF_INIT(20);
    struct err err;
    assert_int_equal(run_tool("echo first; seq 100000", NULL, &output, &err), -1);
    assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
    buf_clear(&output);
    assert_int_equal(run_tool("echo first; seq 100000; exit 2", NULL, &output, &err), -1);
    assert_string_equal(err.message, "sh: exit code 2: first");
    assert_int_equal(run_tool("seq 100000", NULL, NULL, &err), 0); // nobody wants it
    assert_int_equal(run_tool("echo why; exit 1", NULL, NULL, &err), -1);
    assert_string_equal(err.message, "sh: exit code 1: why");
    buf_clear(&output);
    buf_adds(&output, "before ");
    assert_int_equal(run_tool("echo after; exit 1", NULL, &output, &err), -1);
    assert_string_equal(err.message, "sh: exit code 1: after");
    assert_string_equal(buf_text(&output), "before after\n");
}

static void leaves_no_descriptor(void **state)
{
    char *const missing[] = { (char *)"/no/such", NULL };
    _cleanup_buf_ struct buf output = BUF_INIT(100);
    int before = fd_dup(2, NULL);
    fd_close(before);
    assert_int_equal(run_tool("exit 1", "input", &output, NULL), -1);
    assert_int_equal(run_tool("exit 0", "input", &output, NULL), 0);
    assert_int_equal(process_run(missing, NULL, &output, NULL), -1);
    int after = fd_dup(2, NULL);
    assert_int_equal(after, before);
    fd_close(after);
}

int main(void)
{
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC); // whatever the test's own parent left open
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_codes),
        cmocka_unit_test(waits_no_longer_than_asked),
        cmocka_unit_test(standard_descriptors),
        cmocka_unit_test(kept_descriptors_come_in_their_order),
        cmocka_unit_test(as_many_as_allowed),
        cmocka_unit_test(environment_is_what_is_given),
        cmocka_unit_test(executes_a_sealed_copy),
        cmocka_unit_test(signals_start_clean),
        cmocka_unit_test(failures_to_start),
        cmocka_unit_test(done_ends_what_runs),
        cmocka_unit_test(tools_output_and_failure),
        cmocka_unit_test(tool_is_not_there),
        cmocka_unit_test(large_both_ways),
        cmocka_unit_test(output_has_a_ceiling),
        cmocka_unit_test(leaves_no_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
