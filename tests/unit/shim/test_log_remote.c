// Logs on the other end of a socket: forms, a reader that takes nothing, one that comes back.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "shim/shim_private.h"

struct fixture {
    char folder[64], address[128];
    struct loop *loop;
    struct log *log;
    int server, client, rooms;
};

static void has_room(void *context)
{
    ((struct fixture *)context)->rooms++;
}

static void listen_on(struct fixture *fixture, int type)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    snprintf(to.sun_path, sizeof(to.sun_path), "%s/log", fixture->folder);
    unlink(to.sun_path);
    fixture->server = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fixture->server, (struct sockaddr *)&to, sizeof(to)), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fixture->server, 4), 0);
}

static void begin(struct fixture *fixture, int type, const struct task_log *settings)
{
    struct task_log wish = *settings;
    struct err err = { 0 };
    *fixture = (struct fixture){ .folder = "/tmp/berth-test-remote-XXXXXX", .client = -1 };
    assert_non_null(mkdtemp(fixture->folder));
    listen_on(fixture, type);
    snprintf(fixture->address, sizeof(fixture->address), "%s://%s/log", type == SOCK_STREAM ? "unix" : "unixgram", fixture->folder);
    wish.address = fixture->address;
    wish.tag = (char *)"tag";
    wish.hostname = (char *)"host";
    assert_int_equal(loop_new(&fixture->loop, NULL), 0);
    if (log_new(&wish, fixture->loop, has_room, fixture, &fixture->log, &err) < 0)
        fail_msg("%s", err.message);
    if (type == SOCK_STREAM)
        fixture->client = accept(fixture->server, NULL, NULL);
}

static void end(struct fixture *fixture)
{
    log_free(fixture->log);
    loop_free(fixture->loop);
    fd_close(fixture->client);
    fd_close(fixture->server);
    assert_int_equal(file_remove_tree(AT_FDCWD, fixture->folder, NULL), 0);
}

static void stop(void *context)
{
    loop_stop(context);
}

static void turn(struct fixture *fixture, int64_t ms)
{
    struct loop_source *timer;
    assert_int_equal(loop_add_timer(fixture->loop, ms * NS_PER_MS, stop, fixture->loop, &timer, NULL), 0);
    assert_int_equal(loop_run(fixture->loop, NULL), 0);
    loop_remove(timer);
}

#define WHEN (INT64_C(1767225845) * NS_PER_S + 5) // 2026-01-01T00:04:05

static void forms(void **state)
{
    static const struct {
        const char *format, *text;
    } table[] = {
        { "", "<30>Jan  1 00:04:05 tag[%d]: hello\n" },
        { "rfc3164", "<30>Jan  1 00:04:05 host tag[%d]: hello\n" },
        { "rfc5424", "<30>1 2026-01-01T00:04:05Z host tag %d tag - hello\n" },
        { "rfc5424micro", "<30>1 2026-01-01T00:04:05.000000Z host tag %d tag - hello\n" },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct fixture fixture;
        char got[256] = "", wanted[256];
        const struct task_log wish = { .driver = (char *)"syslog", .facility = 3, .format = (char *)table[i].format };
        begin(&fixture, SOCK_DGRAM, &wish);
        log_write(fixture.log, LOG_STDOUT, "hello\n", 6, WHEN);
        assert_true(recv(fixture.server, got, sizeof(got) - 1, 0) > 0);
        snprintf(wanted, sizeof(wanted), table[i].text, getpid());
        assert_string_equal(got, wanted);
        end(&fixture);
    }
}

static void the_journal(void **state)
{
    struct fixture fixture;
    char got[512] = "";
    struct kv fields[] = { { (char *)"PLAIN", (char *)"x" }, { (char *)"BROKEN", (char *)"a\nb" } };
    struct task_log wish = { .driver = (char *)"journald", .fields = { .items = fields, .len = 2 } };
    begin(&fixture, SOCK_DGRAM, &wish);
    log_write(fixture.log, LOG_STDERR, "bad", 3, WHEN);
    log_end(fixture.log, WHEN);
    static const char wanted[] = "MESSAGE=bad\nPRIORITY=3\nSYSLOG_TIMESTAMP=2026-01-01T00:04:05.000000005Z\nCONTAINER_PARTIAL_MESSAGE=true\n"
                                 "PLAIN=x\nBROKEN\n\3\0\0\0\0\0\0\0a\nb\n";
    assert_int_equal(recv(fixture.server, got, sizeof(got), 0), sizeof(wanted) - 1);
    assert_memory_equal(got, wanted, sizeof(wanted) - 1);
    end(&fixture);
}

struct pieces {
    size_t count, size;
    bool headed;
};

static void count_piece(void *context, struct slice head, struct slice piece)
{
    struct pieces *pieces = context;
    assert_true(head.size + piece.size <= 1420);
    assert_true(!head.size || (head.size == 12 && (uint8_t)head.data[10] == pieces->count));
    pieces->headed = head.size;
    pieces->count++;
    pieces->size += piece.size;
}

// What one datagram holds, what needs several, and what is too long for 128.
static void pieces_of_gelf(void **state)
{
    static const struct {
        size_t size, count;
    } table[] = { { 1, 1 }, { 1420, 1 }, { 1421, 2 }, { 2 * 1408, 2 }, { 2 * 1408 + 1, 3 }, { 128 * 1408, 128 }, { 128 * 1408 + 1, 0 } };
    const struct task_log wish = { .driver = (char *)"gelf", .compression = (char *)"none" };
    _cleanup_free_ char *text = mem_alloc(129 * 1408);
    _cleanup_buf_ struct buf packed = BUF_INIT(1 << 20);
    memset(text, 'x', 129 * 1408);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct pieces pieces = { 0 };
        assert_int_equal(gelf_cut(&wish, (struct slice){ text, table[i].size }, 7, &packed, count_piece, &pieces), table[i].count > 0);
        assert_int_equal(pieces.count, table[i].count);
        assert_int_equal(pieces.size, table[i].count ? table[i].size : 0);
        assert_int_equal(pieces.headed, table[i].count > 1);
    }
}

static void the_form_of_gelf(void **state)
{
    const struct task_log wish = { .driver = (char *)"gelf", .address = (char *)"tcp://127.0.0.1:1", .attrs = (char *)"{\"host\":\"h\"}" };
    const struct log_entry entry = { LOG_STDERR, slice_of("a\"\xff"), true, "", WHEN }, empty = { LOG_STDOUT, slice_of(""), true, "", WHEN };
    _cleanup_buf_ struct buf out = BUF_INIT(1 << 20);
    static const char wanted[] = "{\"version\":\"1.1\",\"short_message\":\"a\\\"\\ufffd\",\"timestamp\":1767225845.000,\"level\":3,\"host\":\"h\"}";
    gelf_format(&wish, &entry, 0, &out);
    assert_int_equal(out.size, sizeof(wanted)); // with its NUL
    assert_string_equal(out.data, wanted);
    buf_clear(&out);
    gelf_format(&wish, &empty, 0, &out);
    assert_int_equal(out.size, 0);
}

static void fill(struct fixture *fixture, size_t size)
{
    char line[1000];
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\n';
    for (size_t done = 0; done < size; done += sizeof(line))
        log_write(fixture->log, LOG_STDOUT, line, sizeof(line), WHEN);
}

static void take(struct fixture *fixture, size_t rounds)
{
    char buffer[65536];
    for (size_t i = 0; i < rounds; i++) {
        while (recv(fixture->client, buffer, sizeof(buffer), MSG_DONTWAIT) > 0)
            ;
        turn(fixture, 5);
    }
}

// It holds back when its queue is full, and goes on when half of it is gone.
static void holding_back(void **state)
{
    struct fixture fixture;
    const struct task_log wish = { .driver = (char *)"syslog", .buffer_size = 64 << 10 };
    begin(&fixture, SOCK_STREAM, &wish);
    assert_false(log_is_full(fixture.log));
    fill(&fixture, 1 << 20);
    assert_true(log_is_full(fixture.log));
    assert_int_equal(fixture.rooms, 0);
    take(&fixture, 50);
    assert_false(log_is_full(fixture.log));
    assert_true(fixture.rooms > 0);
    end(&fixture);
}

static void not_holding_back(void **state)
{
    struct fixture fixture;
    const struct task_log wish = { .driver = (char *)"syslog", .buffer_size = 64 << 10, .non_blocking = true };
    begin(&fixture, SOCK_STREAM, &wish);
    fill(&fixture, 4 << 20);
    assert_false(log_is_full(fixture.log));
    take(&fixture, 50);
    fill(&fixture, 1000); // what was lost is lost, the next is sent
    char got[2000] = "";
    assert_true(recv(fixture.client, got, sizeof(got), 0) > 1000);
    end(&fixture);
}

// Sent on to the one that listens there next.
static void one_that_comes_back(void **state)
{
    struct fixture fixture;
    char got[2000] = "";
    const struct task_log wish = { .driver = (char *)"syslog" };
    begin(&fixture, SOCK_STREAM, &wish);
    fd_close(take_fd(&fixture.client));
    fd_close(take_fd(&fixture.server));
    turn(&fixture, 20); // its end is seen
    fill(&fixture, 1000);
    turn(&fixture, 20);
    listen_on(&fixture, SOCK_STREAM);
    turn(&fixture, 1500);
    fixture.client = accept(fixture.server, NULL, NULL);
    assert_true(recv(fixture.client, got, sizeof(got), 0) > 1000);
    end(&fixture);
}

static void nobody_there(void **state)
{
    struct loop *loop;
    struct log *log;
    static const char *const addresses[] = { "unix:///nosuch/socket", "tcp://127.0.0.1:1", "tcp://[::1]:1", "tcp://nosuch:514", "tcp://1.2.3.4", "gopher://x", "" };
    assert_int_equal(loop_new(&loop, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        struct err err = { 0 };
        const struct task_log wish = { .driver = (char *)"syslog", .address = (char *)addresses[i], .tag = (char *)"t" };
        assert_int_equal(log_new(&wish, loop, NULL, NULL, &log, &err), -1);
        assert_true(strlen(err.message) > 0);
    }
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),
        cmocka_unit_test(the_journal),
        cmocka_unit_test(pieces_of_gelf),
        cmocka_unit_test(the_form_of_gelf),
        cmocka_unit_test(holding_back),
        cmocka_unit_test(not_holding_back),
        cmocka_unit_test(one_that_comes_back),
        cmocka_unit_test(nobody_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
