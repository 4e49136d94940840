// The program as its supervisor and as somebody at a shell use it: monitor_main() in a process of its own, on the machine's
// KVM, with the test guest.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <getopt.h>

#include "machine_guest.h"
#include "http/http.h"
#include "vmm/monitor.h"

#define ARGUMENTS_MAX 24

// ---- the command line ----------------------------------------------------------------------------------------------

static const struct {
    const char *words[8];
    bool good;
} lines[] = {
    { { "--kernel", "k" }, true },
    { { "--restore", "s", "--api-sock", "a" }, true },
    { { "--probe" }, true },
    { { "--kernel", "k", "--cpus", "8", "--memory", "3G" }, true },
    { { "--kernel", "k", "--net", "t,mac=02:00:00:00:00:01,mtu=1400" }, true },
    { { "--kernel", "k", "--pmem", "a,b,fd:5", "--disk", "d,ro", "--vsock", "3,s" }, true },
    { { NULL }, false },
    { { "--kernel", "k", "--restore", "s" }, false },
    { { "--restore", "s", "--initrd", "i" }, false },
    { { "--kernel", "k", "--cpus", "9" }, false },
    { { "--kernel", "k", "--memory", "1T" }, false },
    { { "--kernel", "k", "--memory", "-1" }, false },
    { { "--kernel", "k", "--net", "t,mac=03:00:00:00:00:01" }, false },
    { { "--kernel", "k", "--net", "t,mac=02:00:00:00:00" }, false },
    { { "--kernel", "k", "--net", "t,mtu=67" }, false },
    { { "--kernel", "k", "--net", "t,x" }, false },
    { { "--kernel", "k", "--net", ",mtu=1400" }, false },
    { { "--kernel", "k", "--pmem", "a,,b" }, false },
    { { "--kernel", "k", "--vsock", "3" }, false },
    { { "--kernel", "k", "--vsock", "0,s" }, false },
    { { "--kernel", "k", "--vsock", "3," }, false },
    { { "--kernel", "k", "--api-fd", "2" }, false },
    { { "--kernel", "k", "--uid", "0" }, false },
    { { "--kernel", "k", "--nothing" }, false },
    { { "--kernel", "k", "word" }, false },
};

// Messages are for people: not here.
static void test_command_lines(void **state)
{
    int kept = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(null, STDERR_FILENO);
    size_t wrong = ARRAY_LEN(lines);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct monitor monitor;
        char *argv[ARRAY_LEN(lines[0].words) + 2] = { (char *)(uintptr_t)"berth-vmm" };
        int argc = 1;
        for (size_t j = 0; j < ARRAY_LEN(lines[0].words) && lines[i].words[j]; j++)
            argv[argc++] = (char *)(uintptr_t)lines[i].words[j];
        optind = 0;
        if (monitor_parse(argc, argv, &monitor) != lines[i].good)
            wrong = i;
        monitor_done(&monitor);
    }
    dup2(kept, STDERR_FILENO);
    fd_close(kept);
    fd_close(null);
    if (wrong < ARRAY_LEN(lines))
        fail_msg("line %zu", wrong);
}

// ---- a program that runs -------------------------------------------------------------------------------------------

struct program {
    pid_t pid;
    int serial, api, events; // our ends
    struct http_client calls, stream;
};

static void *give(char *argv[], size_t *argc, const char *option, char *value)
{
    argv[(*argc)++] = (char *)(uintptr_t)option;
    argv[(*argc)++] = value;
    return value;
}

// Everything by descriptor; further words as they are. A machine that is restored has no kernel.
static void start(struct program *program, const char *command, int state_fd, const char *const *more)
{
    int serial[2], api[2], events[2], kernel = command ? open_guest("basic") : -1;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    char *argv[ARGUMENTS_MAX] = { (char *)(uintptr_t)"berth-vmm" };
    size_t argc = 1;
    struct err err;
    check(fd_socketpair(SOCK_STREAM, serial, &err), &err);
    check(fd_socketpair(SOCK_STREAM, api, &err), &err);
    check(fd_socketpair(SOCK_STREAM, events, &err), &err);
    void *texts[] = {
        command ? give(argv, &argc, "--kernel", mem_printf("fd:%d", kernel)) : give(argv, &argc, "--restore", mem_printf("fd:%d", state_fd)),
        give(argv, &argc, "--serial", mem_printf("fd:%d", serial[0])), give(argv, &argc, "--kvm", mem_printf("fd:%d", kvm)),
        give(argv, &argc, "--api-fd", mem_printf("%d", api[0])), give(argv, &argc, "--api-fd", mem_printf("%d", events[0])),
    };
    if (command)
        give(argv, &argc, "--cmdline", (char *)(uintptr_t)command);
    give(argv, &argc, "--memory", (char *)(uintptr_t)"16M");
#ifdef __SANITIZE_ADDRESS__ // the sanitizer makes system calls of its own
    argv[argc++] = (char *)(uintptr_t)"--no-jail";
#endif
    while (more && *more)
        argv[argc++] = (char *)(uintptr_t)*more++;
    program->pid = fork();
    if (program->pid == 0) {
        optind = 0;
        exit(monitor_main((int)argc, argv));
    }
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        free(texts[i]);
    const int theirs[] = { serial[0], api[0], events[0], kernel, kvm };
    for (size_t i = 0; i < ARRAY_LEN(theirs); i++)
        fd_close(theirs[i]);
    program->serial = serial[1];
    program->api = api[1];
    program->events = events[1];
    http_client_init(&program->calls, api[1]);
    http_client_init(&program->stream, events[1]);
    http_client_send(&program->stream, "GET", "/events", NULL, 0, NULL); // one that can't begin may be gone already
}

static int call(struct program *program, const char *method, const char *path, int fd, struct err *err)
{
    _cleanup_buf_ struct buf body = BUF_INIT(4096);
    return http_client_call(&program->calls, method, path, &fd, fd >= 0, clock_mono_ns() + WAIT_NS, &body, err);
}

static void must(struct program *program, const char *path, int fd)
{
    struct err err;
    check(call(program, "PUT", path, fd, &err), &err);
}

static void expect_event(struct program *program, const char *words)
{
    struct http_part part;
    struct err err;
    int got;
    while ((got = http_client_next(&program->stream, &part, &err)) == 0)
        if (http_client_receive(&program->stream, &err) <= 0)
            fail_msg("no event, %s expected", words);
    assert_int_equal(got, 1);
    if (!memmem(part.body.data, part.body.size, words, strlen(words)))
        fail_msg("%.*s instead of %s", (int)part.body.size, part.body.data, words);
}

static int finish(struct program *program)
{
    int status;
    assert_int_equal(waitpid(program->pid, &status, 0), program->pid);
    http_client_done(&program->calls);
    http_client_done(&program->stream);
    fd_close(program->api);
    fd_close(program->events);
    fd_close(program->serial);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// The next whole number that the guest counts.
static long next_count(struct program *program)
{
    char text[16] = "";
    size_t size = 0;
    bool started = false;
    for (;;) {
        char byte;
        struct pollfd wait = { .fd = program->serial, .events = POLLIN };
        if (poll(&wait, 1, 20000) != 1 || read(program->serial, &byte, 1) != 1)
            fail_msg("the guest is silent");
        if (byte == '\n' && started && size)
            return strtol(text, NULL, 10);
        if (byte == '\n') {
            started = true;
            size = 0;
        } else if (size < sizeof(text) - 1) {
            text[size++] = byte;
            text[size] = '\0';
        }
    }
}

static void test_a_guest_that_ends_by_itself(void **state)
{
    if (!have_kvm())
        skip();
    static const struct {
        const char *command, *event;
        int code;
    } ends[] = { { "hello", "\"powered off\"", 0 }, { "reset", "\"reset\"", 0 }, { "crash", "\"why\":\"triple fault", 1 } };
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct program program;
        start(&program, ends[i].command, -1, NULL);
        // The guest may be quicker than the request for events: then the socket just closes.
        assert_int_equal(finish(&program), ends[i].code);
    }
}

static void test_pause_save_restore(void **state)
{
    if (!have_kvm())
        skip();
    struct program program;
    struct err err;
    char name[] = "/tmp/berth-monitor-XXXXXX";
    _cleanup_close_ int file = mkstemp(name);
    unlink(name);
    start(&program, "count", -1, NULL);
    expect_event(&program, "started");
    long before = next_count(&program);
    assert_int_equal(call(&program, "PUT", "/snapshot", file, &err), -1);
    assert_int_equal(err.class, ERR_CONFLICT);
    must(&program, "/pause", -1);
    expect_event(&program, "\"paused\"");
    must(&program, "/pause", -1); // again is fine, and no event
    must(&program, "/resume", -1);
    expect_event(&program, "resumed");
    must(&program, "/pause", -1);
    expect_event(&program, "\"paused\"");
    assert_int_equal(call(&program, "PUT", "/snapshot", -1, &err), -1);
    assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    must(&program, "/snapshot", file);
    must(&program, "/stop", -1);
    expect_event(&program, "\"ended\",\"kind\":\"stopped\"");
    assert_int_equal(finish(&program), 1);
    start(&program, NULL, file, NULL);
    expect_event(&program, "started");
    long after = next_count(&program);
    assert_true(after > before && after < before + 100000);
    assert_true(next_count(&program) > after);
    assert_int_equal(kill(program.pid, SIGINT), 0);
    expect_event(&program, "ended");
    assert_int_equal(finish(&program), 1);
}

static void test_the_power_button_needs_a_guest_that_listens(void **state)
{
    if (!have_kvm())
        skip();
    struct program program;
    start(&program, "count", -1, NULL);
    expect_event(&program, "started");
    must(&program, "/power-button", -1);
    next_count(&program);
    // The second one means it; two that come close together are one.
    struct pollfd wait = { .fd = program.events, .events = POLLIN };
    for (int i = 0; i < 100 && poll(&wait, 1, i ? 100 : 0) == 0; i++) {
        assert_int_equal(kill(program.pid, SIGTERM), 0);
        next_count(&program);
    }
    expect_event(&program, "stopped");
    assert_int_equal(finish(&program), 1);
}

static void test_the_machine_dies_with_its_watcher(void **state)
{
    if (!have_kvm())
        skip();
    struct program program;
    char byte[4096];
    start(&program, "count", -1, NULL);
    expect_event(&program, "started");
    next_count(&program);
    assert_int_equal(kill(program.pid, SIGKILL), 0);
    // Its end of the port closes with it.
    struct pollfd wait = { .fd = program.serial, .events = POLLIN };
    ssize_t got = 1;
    while (got > 0 && poll(&wait, 1, 20000) == 1)
        got = read(program.serial, byte, sizeof(byte));
    assert_true(got <= 0);
    assert_int_equal(finish(&program), 128 + SIGKILL);
}

// Disk, layers and vsock of memory files: the machine is made and its guest, who has no driver for them, runs.
static void test_devices_by_descriptor(void **state)
{
    if (!have_kvm())
        skip();
    struct program program;
    struct err err;
    int pair[2], layer = memfd_create("layer", MFD_CLOEXEC), disk = memfd_create("disk", MFD_CLOEXEC);
    assert_int_equal(ftruncate(layer, 8192) | ftruncate(disk, 1 << 20), 0);
    check(fd_socketpair(SOCK_STREAM, pair, &err), &err);
    _cleanup_free_ char *pmem = mem_printf("fd:%d,fd:%d", layer, layer), *block = mem_printf("fd:%d", disk),
                        *vsock = mem_printf("3,fd:%d", pair[0]);
    const char *const more[] = { "--pmem", pmem, "--disk", block, "--vsock", vsock, NULL };
    start(&program, "count", -1, more);
    expect_event(&program, "started");
    next_count(&program);
    // Nobody in the guest: the descriptor comes back closed, whatever the message.
    int mine[2];
    check(fd_socketpair(SOCK_STREAM, mine, &err), &err);
    assert_int_equal(fd_send(pair[1], (const uint32_t[]){ 0, 77 }, 8, &mine[0], 1, &err), 8);
    fd_close(mine[0]);
    char byte;
    assert_int_equal(read(mine[1], &byte, 1), 0);
    fd_close(mine[1]);
    must(&program, "/stop", -1);
    assert_int_equal(finish(&program), 1);
    const int all[] = { layer, disk, pair[0], pair[1] };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        fd_close(all[i]);
}

// ---- the broker ----------------------------------------------------------------------------------------------------

static void *turn(void *loop)
{
    loop_run(loop, NULL);
    return NULL;
}

struct brokered {
    struct loop *loop;
    struct broker *broker;
    pthread_t thread;
    int link; // the machine's end
    char folder[32], path[64];
};

static void broker_start(struct brokered *it)
{
    struct err err;
    int pair[2];
    snprintf(it->folder, sizeof(it->folder), "/tmp/berth-broker-XXXXXX");
    assert_non_null(mkdtemp(it->folder));
    snprintf(it->path, sizeof(it->path), "%s/v", it->folder);
    check(fd_socketpair(SOCK_STREAM, pair, &err), &err);
    int listener = fd_unix_listen_at(AT_FDCWD, it->path, &err);
    check(listener, &err);
    check(loop_new(&it->loop, &err), &err);
    check(broker_new(it->loop, pair[1], listener, it->path, &it->broker, &err), &err);
    it->link = pair[0];
    assert_int_equal(pthread_create(&it->thread, NULL, turn, it->loop), 0);
}

static void broker_stop(struct brokered *it)
{
    loop_stop(it->loop);
    pthread_join(it->thread, NULL);
    broker_free(it->broker);
    loop_free(it->loop);
    fd_close(it->link);
    unlink(it->path);
    rmdir(it->folder);
}

static const struct {
    const char *line;
    bool good;
} callers[] = {
    { "CONNECT 77\nhello", true }, { "CONNECT 4294967295\n", true }, { "CONNECT 4294967296\n", false }, { "CONNECT\n", false },
    { "connect 77\n", false },     { "CONNECT  7\n", false },        { "\n", false }, { "CONNECT 0000000000000000000000000000077", false },
};

// What follows the line is the guest's: nothing of it is lost.
static void test_broker_hands_callers_on(void **state)
{
    struct brokered it;
    struct err err;
    broker_start(&it);
    for (size_t i = 0; i < ARRAY_LEN(callers); i++) {
        _cleanup_close_ int caller = fd_unix_connect_at(AT_FDCWD, it.path, &err);
        uint32_t ports[2];
        char text[8] = "";
        int sock = -1;
        size_t len = 1;
        check(caller, &err);
        check(fd_write_full(caller, callers[i].line, strlen(callers[i].line), &err), &err);
        if (!callers[i].good) {
            ssize_t got = read(caller, text, sizeof(text));
            assert_true(got == 0 || (got < 0 && errno == ECONNRESET));
            continue;
        }
        assert_int_equal(fd_recv(it.link, ports, sizeof(ports), &sock, &len, &err), sizeof(ports));
        assert_true(ports[0] == 0 && len == 1 && ports[1] == (i ? UINT32_MAX : 77));
        if (i == 0) {
            assert_int_equal(read(sock, text, 5), 5);
            assert_string_equal(text, "hello");
        }
        fd_close(sock);
    }
    broker_stop(&it);
}

static void test_broker_finds_listeners(void **state)
{
    struct brokered it;
    struct err err;
    char path[80];
    broker_start(&it);
    snprintf(path, sizeof(path), "%s_1024", it.path);
    _cleanup_close_ int listener = fd_unix_listen_at(AT_FDCWD, path, &err);
    for (uint32_t port = 1024; port < 1026; port++) {
        const uint32_t asked[] = { port, 5000 };
        uint32_t answer[2];
        int sock = -1;
        size_t len = 1;
        assert_int_equal(write(it.link, asked, sizeof(asked)), sizeof(asked));
        assert_int_equal(fd_recv(it.link, answer, sizeof(answer), &sock, &len, &err), sizeof(answer));
        assert_memory_equal(answer, asked, sizeof(asked));
        assert_int_equal(len, port == 1024); // nobody is at the other one
        if (len)
            fd_close(sock);
    }
    unlink(path);
    broker_stop(&it);
}

static void test_what_can_not_be_had(void **state)
{
    if (!have_kvm())
        skip();
    static const char *const nothing[][3] = {
        { "--disk", "/nonexistent", NULL }, { "--pmem", "/dev/null", NULL },    { "--disk", "fd:999", NULL },
        { "--disk", "fd:1", NULL },         { "--net", "fd:0x3", NULL },        { "--vsock", "2,/tmp/berth-no-such", NULL },
        { "--api-fd", "998", NULL },        { "--net", "a-name-too-long-1", NULL },
    };
    int kept = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    for (size_t i = 0; i < ARRAY_LEN(nothing); i++) {
        struct program program;
        dup2(null, STDERR_FILENO);
        start(&program, "count", -1, nothing[i]);
        int code = finish(&program);
        dup2(kept, STDERR_FILENO);
        if (code != 1)
            fail_msg("%s %s: %d", nothing[i][0], nothing[i][1], code);
    }
    fd_close(kept);
    fd_close(null);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command_lines),
        cmocka_unit_test(test_a_guest_that_ends_by_itself),
        cmocka_unit_test(test_pause_save_restore),
        cmocka_unit_test(test_the_power_button_needs_a_guest_that_listens),
        cmocka_unit_test(test_the_machine_dies_with_its_watcher),
        cmocka_unit_test(test_devices_by_descriptor),
        cmocka_unit_test(test_broker_hands_callers_on),
        cmocka_unit_test(test_broker_finds_listeners),
        cmocka_unit_test(test_what_can_not_be_had),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
