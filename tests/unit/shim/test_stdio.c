// The streams of a process without the process: the test holds its ends of the pipes (or of a terminal) and the clients'
// ends of their sockets, the loop runs in a thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>

#include "shim/shim_private.h"

struct fixture {
    struct loop *loop;
    pthread_t thread;
    bool runs;
    struct stdio stdio;
    struct stdio_ends ends;
    int slave; // of a terminal
    atomic_int drained, detached, gone;
};

static void on_drained(void *context)
{
    ((struct fixture *)context)->drained++;
}

static void on_detached(void *context)
{
    ((struct fixture *)context)->detached++;
}

static void on_client_gone(void *context)
{
    ((struct fixture *)context)->gone++;
}

static void nothing(int number)
{
}

static struct fixture *fixture_new(const struct task_stdio *wish)
{
    struct fixture *fixture = mem_new(struct fixture);
    signal(SIGPIPE, nothing);
    assert_int_equal(loop_new(&fixture->loop, NULL), 0);
    fixture->ends = (struct stdio_ends)STDIO_ENDS_NONE;
    fixture->slave = -1;
    struct stdio *stdio = &fixture->stdio;
    *stdio = (struct stdio){ .loop = fixture->loop, .copy = mem_alloc(SHIM_COPY_SIZE), .stall_ns = 200 * NS_PER_MS,
                             .in_fd = -1, .in_pending = BUF_INIT(SHIM_COPY_SIZE), .on_drained = on_drained,
                             .on_detached = on_detached, .on_client_gone = on_client_gone, .context = fixture };
    stdio->outlets[0] = (struct outlet){ .stdio = stdio, .stream = STDIO_OUT, .fd = -1 };
    stdio->outlets[1] = (struct outlet){ .stdio = stdio, .stream = STDIO_ERROR, .fd = -1 };
    assert_int_equal(stdio_open(stdio, wish, false, &fixture->ends, NULL), 0);
    int master = -1;
    if (wish->terminal) {
        master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        assert_int_equal(unlockpt(master), 0);
        fixture->slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        struct termios raw;
        tcgetattr(fixture->slave, &raw);
        cfmakeraw(&raw);
        tcsetattr(fixture->slave, TCSANOW, &raw);
    }
    assert_int_equal(stdio_begin(stdio, master, wish, NULL), 0);
    return fixture;
}

// Before fixture_run(). Returns the client's end.
static int add_client(struct fixture *fixture, struct task_attach attach)
{
    int ends[2];
    struct client *client;
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    assert_int_equal(client_new(&attach, ends[1], &client, NULL), 0);
    stdio_add_client(&fixture->stdio, client);
    assert_int_equal(client_watch(client, NULL), 0);
    return ends[0];
}

static void *run(void *context)
{
    loop_run(((struct fixture *)context)->loop, NULL);
    return NULL;
}

static void fixture_run(struct fixture *fixture)
{
    fixture->runs = true;
    pthread_create(&fixture->thread, NULL, run, fixture);
}

struct posted_call {
    struct fixture *fixture;
    void (*fn)(struct stdio *stdio);
    sem_t done;
};

static void run_call(void *context)
{
    struct posted_call *call = context;
    call->fn(&call->fixture->stdio);
    sem_post(&call->done);
}

static void in_loop(struct fixture *fixture, void (*fn)(struct stdio *stdio))
{
    struct posted_call call = { .fixture = fixture, .fn = fn };
    sem_init(&call.done, 0, 0);
    loop_post(fixture->loop, run_call, &call);
    sem_wait(&call.done);
    sem_destroy(&call.done);
}

static void fixture_done(struct fixture *fixture)
{
    loop_stop(fixture->loop);
    if (fixture->runs)
        pthread_join(fixture->thread, NULL);
    stdio_done(&fixture->stdio);
    stdio_ends_done(&fixture->ends);
    fd_close(fixture->slave);
    loop_free(fixture->loop);
    free(fixture->stdio.copy);
    free(fixture);
}

static bool eventually(atomic_int *value, int wanted)
{
    for (int i = 0; i < 300 && *value != wanted; i++)
        usleep(10000);
    return *value == wanted;
}

static void expect_bytes(int fd, const void *wanted, size_t size)
{
    char got[4096];
    size_t have = 0;
    while (have < size) {
        struct pollfd wait = { fd, POLLIN, 0 };
        if (poll(&wait, 1, 3000) <= 0)
            fail_msg("only %zu of %zu bytes came", have, size);
        ssize_t n = read(fd, got + have, MIN_OF(sizeof(got), size) - have);
        if (n <= 0)
            fail_msg("the stream ended after %zu of %zu bytes", have, size);
        have += (size_t)n;
    }
    assert_memory_equal(got, wanted, size);
}

static void expect_end(int fd)
{
    char byte;
    struct pollfd wait = { fd, POLLIN, 0 };
    assert_int_equal(poll(&wait, 1, 3000), 1);
    assert_int_equal(read(fd, &byte, 1), 0);
}

static void expect_silence(int fd)
{
    struct pollfd wait = { fd, POLLIN, 0 };
    assert_int_equal(poll(&wait, 1, 50), 0);
}

static void put(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

// ---- output ---------------------------------------------------------------------------------------------------------

static void frames_and_raw_side_by_side(void **state)
{
    struct fixture *fixture = fixture_new(&(struct task_stdio){ 0 });
    int framed = add_client(fixture, (struct task_attach){ .out = true, .error = true, .framed = true });
    int raw = add_client(fixture, (struct task_attach){ .out = true, .error = true });
    int only_error = add_client(fixture, (struct task_attach){ .error = true, .framed = true });
    fixture_run(fixture);
    put(fixture->ends.out, "hello\n");
    expect_bytes(framed, "\1\0\0\0\0\0\0\6hello\n", 14);
    expect_bytes(raw, "hello\n", 6);
    put(fixture->ends.error, "oops\n");
    expect_bytes(framed, "\2\0\0\0\0\0\0\5oops\n", 13);
    expect_bytes(raw, "oops\n", 5);
    expect_bytes(only_error, "\2\0\0\0\0\0\0\5oops\n", 13);
    stdio_ends_done(&fixture->ends);
    assert_true(eventually(&fixture->drained, 1));
    expect_silence(framed); // the stream ends only when the end was acknowledged
    in_loop(fixture, stdio_finish_clients);
    expect_end(framed);
    expect_end(raw);
    expect_end(only_error);
    fd_close(framed);
    fd_close(raw);
    fd_close(only_error);
    fixture_done(fixture);
}

static void a_half_closed_client_still_gets_output(void **state)
{
    struct fixture *fixture = fixture_new(&(struct task_stdio){ 0 });
    int client = add_client(fixture, (struct task_attach){ .out = true });
    fixture_run(fixture);
    shutdown(client, SHUT_WR);
    usleep(50000);
    put(fixture->ends.out, "still");
    expect_bytes(client, "still", 5);
    fd_close(client);
    assert_true(eventually(&fixture->gone, 1)); // a full hang-up is seen without any output
    fixture_done(fixture);
}

struct writer {
    int fd;
    size_t size;
    atomic_int done;
};

static void *write_much(void *context)
{
    struct writer *writer = context;
    char block[4096] = { 0 };
    for (size_t done = 0; done < writer->size; done += sizeof(block))
        fd_write_full(writer->fd, block, sizeof(block), NULL);
    writer->done = 1;
    return NULL;
}

static size_t read_all(int fd, size_t size)
{
    char block[65536];
    size_t have = 0;
    while (have < size) {
        struct pollfd wait = { fd, POLLIN, 0 };
        if (poll(&wait, 1, 3000) <= 0)
            break;
        ssize_t n = read(fd, block, sizeof(block));
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    return have;
}

// Held back while it reads slowly, but whole at the end.
static void a_slow_reader_loses_nothing(void **state)
{
    struct fixture *fixture = fixture_new(&(struct task_stdio){ 0 });
    int client = add_client(fixture, (struct task_attach){ .out = true });
    fixture_run(fixture);
    struct writer writer = { .fd = fixture->ends.out, .size = 8 << 20 };
    pthread_t thread;
    pthread_create(&thread, NULL, write_much, &writer);
    usleep(100000);
    assert_false(writer.done);
    for (size_t have = 0; have < writer.size; usleep(20000))
        have += read_all(client, MIN_OF(writer.size - have, (size_t)1 << 20));
    pthread_join(thread, NULL);
    assert_int_equal(fixture->gone, 0);
    fd_close(client);
    fixture_done(fixture);
}

static void a_dead_reader_is_dropped_and_blocks_nobody(void **state)
{
    struct fixture *fixture = fixture_new(&(struct task_stdio){ 0 });
    int dead = add_client(fixture, (struct task_attach){ .out = true });
    int alive = add_client(fixture, (struct task_attach){ .out = true });
    fixture_run(fixture);
    struct writer writer = { .fd = fixture->ends.out, .size = 8 << 20 };
    pthread_t thread;
    pthread_create(&thread, NULL, write_much, &writer);
    assert_int_equal(read_all(alive, writer.size), writer.size);
    pthread_join(thread, NULL);
    assert_int_equal(fixture->gone, 1);
    fd_close(dead);
    fd_close(alive);
    fixture_done(fixture);
}

// A reader that lags behind without filling its budget holds nobody back and may sleep.
static void a_sleeping_reader_within_its_budget_stays(void **state)
{
    struct fixture *fixture = fixture_new(&(struct task_stdio){ 0 });
    int client = add_client(fixture, (struct task_attach){ .out = true });
    fixture_run(fixture);
    struct writer writer = { .fd = fixture->ends.out, .size = 900 << 10 };
    write_much(&writer);
    usleep(600000);
    assert_int_equal(fixture->gone, 0);
    assert_int_equal(read_all(client, writer.size), writer.size);
    fd_close(client);
    fixture_done(fixture);
}

static void what_is_queued_is_sent_before_the_end(void **state)
{
    struct fixture *fixture = fixture_new(&(struct task_stdio){ 0 });
    int client = add_client(fixture, (struct task_attach){ .out = true });
    fixture_run(fixture);
    struct writer writer = { .fd = fixture->ends.out, .size = 900 << 10 };
    write_much(&writer);
    stdio_ends_done(&fixture->ends);
    assert_true(eventually(&fixture->drained, 1));
    in_loop(fixture, stdio_finish_clients);
    assert_int_equal(read_all(client, writer.size), writer.size);
    expect_end(client);
    fd_close(client);
    fixture_done(fixture);
}

// Input that nobody read must not turn the end of the stream into "connection reset".
static void unread_input_does_not_break_the_end(void **state)
{
    struct fixture *fixture = fixture_new(&(struct task_stdio){ 0 });
    int client = add_client(fixture, (struct task_attach){ .in = true, .out = true });
    fixture_run(fixture);
    put(client, "nobody reads this");
    put(fixture->ends.out, "x");
    expect_bytes(client, "x", 1);
    in_loop(fixture, stdio_finish_clients);
    expect_end(client);
    fd_close(client);
    fixture_done(fixture);
}

// ---- input ----------------------------------------------------------------------------------------------------------

static const struct task_stdio once = { .open_stdin = true, .stdin_once = true };

static void input_and_its_end_reach_the_process(void **state)
{
    struct fixture *fixture = fixture_new(&once);
    int client = add_client(fixture, (struct task_attach){ .in = true, .out = true });
    fixture_run(fixture);
    put(client, "line\n");
    expect_bytes(fixture->ends.in, "line\n", 5);
    shutdown(client, SHUT_WR);
    expect_end(fixture->ends.in);
    put(fixture->ends.out, "answer");
    expect_bytes(client, "answer", 6);
    assert_int_equal(fixture->gone, 0);
    fd_close(client);
    fixture_done(fixture);
}

static void without_stdin_once_the_end_is_only_the_clients(void **state)
{
    struct fixture *fixture = fixture_new(&(struct task_stdio){ .open_stdin = true });
    int first = add_client(fixture, (struct task_attach){ .in = true, .out = true });
    int second = add_client(fixture, (struct task_attach){ .in = true, .out = true });
    fixture_run(fixture);
    shutdown(first, SHUT_WR);
    expect_end(first);
    put(second, "more");
    expect_bytes(fixture->ends.in, "more", 4);
    in_loop(fixture, stdio_close_input);
    expect_end(fixture->ends.in);
    fd_close(first);
    fd_close(second);
    fixture_done(fixture);
}

// Far more than a pipe holds, from a client that has already left, into a process that starts to read late.
static void input_is_held_back_not_lost(void **state)
{
    struct fixture *fixture = fixture_new(&once);
    int client = add_client(fixture, (struct task_attach){ .in = true, .out = true });
    int size = 4 << 20;
    setsockopt(client, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
    static char block[1 << 20];
    assert_int_equal(write(client, block, sizeof(block)), sizeof(block));
    fixture_run(fixture);
    usleep(100000);
    fd_close(client);
    usleep(100000);
    assert_int_equal(read_all(fixture->ends.in, sizeof(block)), sizeof(block));
    expect_end(fixture->ends.in);
    assert_true(eventually(&fixture->gone, 1));
    fixture_done(fixture);
}

static void a_process_that_closed_its_input_does_not_matter(void **state)
{
    struct fixture *fixture = fixture_new(&once);
    int client = add_client(fixture, (struct task_attach){ .in = true, .out = true });
    fd_close(take_fd(&fixture->ends.in));
    fixture_run(fixture);
    for (int i = 0; i < 5; i++) {
        put(client, "more");
        usleep(10000);
    }
    put(fixture->ends.out, "alive");
    expect_bytes(client, "alive", 5);
    fd_close(client);
    fixture_done(fixture);
}

// ---- terminal -------------------------------------------------------------------------------------------------------

static const struct task_stdio terminal = { .terminal = true, .open_stdin = true, .height = 30, .width = 100 };

static void a_terminal_goes_both_ways(void **state)
{
    struct fixture *fixture = fixture_new(&terminal);
    int client = add_client(fixture, (struct task_attach){ .in = true, .out = true });
    fixture_run(fixture);
    struct winsize size;
    assert_int_equal(ioctl(fixture->slave, TIOCGWINSZ, &size), 0);
    assert_int_equal(size.ws_row, 30);
    assert_int_equal(size.ws_col, 100);
    put(client, "in");
    expect_bytes(fixture->slave, "in", 2);
    put(fixture->slave, "out");
    expect_bytes(client, "out", 3);
    shutdown(client, SHUT_WR); // ends this attach
    expect_end(client);
    fd_close(client);
    fixture_done(fixture);
}

static void detach_keys_leave(void **state)
{
    struct fixture *fixture = fixture_new(&terminal);
    int client = add_client(fixture, (struct task_attach){ .in = true, .out = true, .detach_keys = (char *)"ctrl-p,ctrl-q" });
    fixture_run(fixture);
    put(client, "a\x10");
    expect_bytes(fixture->slave, "a", 1);
    expect_silence(fixture->slave);
    put(client, "b");
    expect_bytes(fixture->slave, "\x10" "b", 2);
    put(client, "c\x10");
    put(client, "\x11" "d");
    expect_bytes(fixture->slave, "c", 1);
    expect_end(client);
    expect_silence(fixture->slave);
    assert_int_equal(fixture->detached, 1);
    fd_close(client);
    fixture_done(fixture);
}

// Pipes carry bytes, not keys.
static void detach_keys_are_bytes_without_a_terminal(void **state)
{
    struct fixture *fixture = fixture_new(&once);
    int client = add_client(fixture, (struct task_attach){ .in = true, .detach_keys = (char *)"ctrl-p,ctrl-q" });
    fixture_run(fixture);
    put(client, "\x10\x11");
    expect_bytes(fixture->ends.in, "\x10\x11", 2);
    fd_close(client);
    fixture_done(fixture);
}

static int reopen_slave(struct fixture *fixture)
{
    return ioctl(fixture->stdio.outlets[0].fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

static void a_terminal_may_be_closed_and_opened_again(void **state)
{
    struct fixture *fixture = fixture_new(&terminal);
    int client = add_client(fixture, (struct task_attach){ .out = true });
    fixture_run(fixture);
    fd_close(take_fd(&fixture->slave));
    usleep(50000);
    fixture->slave = reopen_slave(fixture);
    assert_true(fixture->slave >= 0);
    put(fixture->slave, "again");
    expect_bytes(client, "again", 5);
    fd_close(take_fd(&fixture->slave));
    usleep(20000);
    in_loop(fixture, stdio_process_died);
    assert_true(fixture->stdio.outlets[0].fd < 0);
    fd_close(client);
    fixture_done(fixture);
}

// ---- the end --------------------------------------------------------------------------------------------------------

static void a_dead_process_is_not_held_back(void **state)
{
    struct fixture *fixture = fixture_new(&(struct task_stdio){ 0 });
    fixture->stdio.stall_ns = 60 * NS_PER_S;
    int client = add_client(fixture, (struct task_attach){ .out = true });
    fixture_run(fixture);
    int flags = fcntl(fixture->ends.out, F_GETFL);
    fcntl(fixture->ends.out, F_SETFL, flags | O_NONBLOCK);
    static char block[4096];
    size_t wrote = 0;
    for (int idle = 0; idle < 20;) { // until the client's budget and the pipe are full
        ssize_t n = write(fixture->ends.out, block, sizeof(block));
        wrote += n > 0 ? (size_t)n : 0;
        idle = n > 0 ? 0 : idle + 1;
        if (n <= 0)
            usleep(5000);
    }
    assert_true(wrote > SHIM_READER_BUDGET);
    stdio_ends_done(&fixture->ends);
    in_loop(fixture, stdio_process_died);
    assert_true(stdio_drained(&fixture->stdio));
    in_loop(fixture, stdio_finish_clients);
    assert_int_equal(read_all(client, wrote), wrote);
    expect_end(client);
    fd_close(client);
    fixture_done(fixture);
}

static void a_pipe_that_others_hold_is_abandoned(void **state)
{
    struct fixture *fixture = fixture_new(&(struct task_stdio){ 0 });
    int client = add_client(fixture, (struct task_attach){ .out = true });
    fixture_run(fixture);
    in_loop(fixture, stdio_process_died);
    assert_false(stdio_drained(&fixture->stdio));
    put(fixture->ends.out, "last");
    in_loop(fixture, stdio_abandon_output);
    assert_true(stdio_drained(&fixture->stdio));
    expect_bytes(client, "last", 4);
    fd_close(client);
    fixture_done(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_and_raw_side_by_side),
        cmocka_unit_test(a_half_closed_client_still_gets_output),
        cmocka_unit_test(a_slow_reader_loses_nothing),
        cmocka_unit_test(a_dead_reader_is_dropped_and_blocks_nobody),
        cmocka_unit_test(a_sleeping_reader_within_its_budget_stays),
        cmocka_unit_test(what_is_queued_is_sent_before_the_end),
        cmocka_unit_test(unread_input_does_not_break_the_end),
        cmocka_unit_test(input_and_its_end_reach_the_process),
        cmocka_unit_test(without_stdin_once_the_end_is_only_the_clients),
        cmocka_unit_test(input_is_held_back_not_lost),
        cmocka_unit_test(a_process_that_closed_its_input_does_not_matter),
        cmocka_unit_test(a_terminal_goes_both_ways),
        cmocka_unit_test(detach_keys_leave),
        cmocka_unit_test(detach_keys_are_bytes_without_a_terminal),
        cmocka_unit_test(a_terminal_may_be_closed_and_opened_again),
        cmocka_unit_test(a_dead_process_is_not_held_back),
        cmocka_unit_test(a_pipe_that_others_hold_is_abandoned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
