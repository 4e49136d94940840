// A guest's questions: both ends of a link in one loop, in a thread; the test is the container's client and the host's resolver.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "dns/dns.h"
#include "guest/guest_private.h"

enum { WAIT_MS = 60000, SILENCE_MS = 100, HEAD = 2 + TASK_NAMES_TAG_SIZE };

struct fixture {
    struct loop *loop;
    struct link *host_link;
    struct link_stream *host_stream;
    struct guest guest;
    pthread_t thread;
    bool ready;
    int host; // the resolver's end
};

static bool alone; // in a network namespace of our own

static void enter_network(void)
{
    struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    if (unshare(CLONE_NEWNET) < 0)
        return;
    _cleanup_close_ int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    alone = ioctl(sock, SIOCSIFFLAGS, &request) == 0;
}

static void on_ready(void *context, const json_t *hello)
{
    struct fixture *fixture = context;
    if (fixture->ready)
        loop_stop(fixture->loop);
    fixture->ready = true;
}

static void on_closed(void *context, const struct err *why)
{
}

static void stream_ended(void *context)
{
}

static void *run(void *context)
{
    loop_run(((struct fixture *)context)->loop, NULL);
    return NULL;
}

static int set_up(void **state)
{
    static const struct link_handlers handlers = { .ready = on_ready, .closed = on_closed };
    struct fixture *fixture = mem_new(struct fixture);
    int wire[2], ends[2];
    *state = fixture;
    assert_int_equal(loop_new(&fixture->loop, NULL), 0);
    fixture->guest.loop = fixture->loop;
    assert_int_equal(link_new(fixture->loop, LINK_HOST, 7, NULL, &handlers, fixture, &fixture->host_link, NULL), 0);
    assert_int_equal(link_new(fixture->loop, LINK_GUEST, 0, NULL, &handlers, fixture, &fixture->guest.link, NULL), 0);
    assert_int_equal(fd_socketpair(SOCK_STREAM, wire, NULL) | fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    assert_int_equal(link_connect(fixture->host_link, wire[0], NULL) | link_connect(fixture->guest.link, wire[1], NULL), 0);
    loop_run(fixture->loop, NULL);
    assert_int_equal(link_stream_open(fixture->host_link, 5, ends[0], fd_dup(ends[0], NULL), stream_ended, fixture,
                                      &fixture->host_stream, NULL), 0);
    fixture->host = ends[1];
    struct err err = { 0 };
    if (alone && guest_names_start(&fixture->guest, 5, &err) < 0)
        fail_msg("%s", err.message);
    pthread_create(&fixture->thread, NULL, run, fixture);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    loop_stop(fixture->loop);
    pthread_join(fixture->thread, NULL);
    guest_names_free(fixture->guest.names);
    link_free(fixture->guest.link);
    link_free(fixture->host_link);
    loop_free(fixture->loop);
    fd_close(fixture->host);
    free(fixture);
    return 0;
}

#define NEED_NETWORK \
    if (!alone)      \
        skip()

static bool readable(int fd, int wait_ms)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    return poll(&poll_fd, 1, wait_ms) == 1;
}

static int dial(int type)
{
    const struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(DNS_RESOLVER_ADDRESS), .sin_port = htons(53) };
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

// What came to the host: its tag; the message is the text.
static uint32_t hear(struct fixture *fixture, char text[64])
{
    uint8_t head[HEAD];
    uint32_t tag;
    assert_true(readable(fixture->host, WAIT_MS));
    assert_int_equal(fd_read_full(fixture->host, head, HEAD, NULL), HEAD);
    size_t size = (size_t)(head[0] << 8 | head[1]) - TASK_NAMES_TAG_SIZE;
    assert_true(size < 64);
    assert_int_equal(fd_read_full(fixture->host, text, size, NULL), size);
    text[size] = 0;
    memcpy(&tag, head + 2, sizeof(tag));
    return tag;
}

static void tell(struct fixture *fixture, uint32_t tag, const void *data, size_t size)
{
    uint8_t head[HEAD] = { (uint8_t)((size + TASK_NAMES_TAG_SIZE) >> 8), (uint8_t)(size + TASK_NAMES_TAG_SIZE) };
    memcpy(head + 2, &tag, sizeof(tag));
    assert_int_equal(fd_write_full(fixture->host, head, HEAD, NULL), 0);
    assert_int_equal(fd_write_full(fixture->host, data, size, NULL), 0);
}

static void expect(int fd, const char *text)
{
    char got[64] = "";
    assert_true(readable(fd, WAIT_MS));
    assert_int_equal(recv(fd, got, sizeof(got) - 1, 0), strlen(text));
    assert_string_equal(got, text);
}

static void datagrams_find_their_askers(void **state)
{
    NEED_NETWORK;
    struct fixture *fixture = *state;
    char text[64];
    int first = dial(SOCK_DGRAM), second = dial(SOCK_DGRAM);
    send(first, "one", 3, 0);
    uint32_t one = hear(fixture, text);
    assert_string_equal(text, "one");
    assert_false(one & TASK_NAMES_STREAM);
    send(second, "two", 3, 0);
    uint32_t two = hear(fixture, text);
    tell(fixture, two, "TWO", 3);
    expect(second, "TWO");
    tell(fixture, one, "ONE", 3);
    expect(first, "ONE");
    tell(fixture, one, "again", 5); // answered already
    tell(fixture, 0, "nobody", 6);
    tell(fixture, 77, "nobody", 6);
    assert_false(readable(first, SILENCE_MS));
    fd_close(first);
    fd_close(second);
}

static void a_client_by_tcp(void **state)
{
    NEED_NETWORK;
    struct fixture *fixture = *state;
    static char large[60000], got[sizeof(large)];
    char text[64];
    uint8_t prefix[2];
    int fd = dial(SOCK_STREAM);
    assert_int_equal(send(fd, "\0\3one\0\3t", 8, 0), 8);
    uint32_t tag = hear(fixture, text);
    assert_string_equal(text, "one");
    assert_true(tag & TASK_NAMES_STREAM);
    assert_int_equal(send(fd, "wo", 2, 0), 2);
    assert_false(readable(fixture->host, SILENCE_MS)); // one at a time
    memset(large, 'x', sizeof(large));
    tell(fixture, tag, large, sizeof(large));
    assert_true(readable(fd, WAIT_MS));
    assert_int_equal(fd_read_full(fd, prefix, 2, NULL), 2);
    assert_int_equal(prefix[0] << 8 | prefix[1], sizeof(large));
    assert_int_equal(fd_read_full(fd, got, sizeof(got), NULL), sizeof(got));
    assert_memory_equal(got, large, sizeof(large));
    tag = hear(fixture, text);
    assert_string_equal(text, "two");
    fd_close(fd);
    tell(fixture, tag, "late", 4); // its asker is gone
    fd = dial(SOCK_DGRAM);
    send(fd, "alive", 5, 0);
    hear(fixture, text);
    assert_string_equal(text, "alive");
    fd_close(fd);
}

static void what_is_too_much(void **state)
{
    NEED_NETWORK;
    struct fixture *fixture = *state;
    char text[64], large[DNS_QUERY_MAX + 1] = { 0 };
    int fd = dial(SOCK_DGRAM), callers[20];
    send(fd, large, sizeof(large), 0); // no question is so long
    assert_false(readable(fixture->host, SILENCE_MS));
    for (int i = 0; i < 20; i++)
        callers[i] = dial(SOCK_STREAM);
    send(callers[19], "\0\3one", 5, 0); // those who are silent made room
    hear(fixture, text);
    assert_string_equal(text, "one");
    assert_true(readable(callers[0], WAIT_MS));
    assert_int_equal(recv(callers[0], text, 1, 0), 0);
    send(callers[18], "\xff\xff", 2, 0);
    assert_true(readable(callers[18], WAIT_MS));
    assert_int_equal(recv(callers[18], text, 1, 0), 0);
    for (int i = 0; i < 20; i++)
        fd_close(callers[i]);
    fd_close(fd);
}

static void a_host_that_ends_it(void **state)
{
    NEED_NETWORK;
    struct fixture *fixture = *state;
    int fd = dial(SOCK_DGRAM), caller = dial(SOCK_STREAM);
    fd_close(take_fd(&fixture->host));
    usleep(SILENCE_MS * 1000);
    send(fd, "one", 3, 0);
    send(caller, "\0\3one", 5, 0);
    assert_false(readable(fd, SILENCE_MS)); // and PID 1 lives
    fd_close(fd);
    fd_close(caller);
}

int main(void)
{
    enter_network();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(datagrams_find_their_askers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_client_by_tcp, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_too_much, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_host_that_ends_it, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
