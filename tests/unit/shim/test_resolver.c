// A container's name server on the loopback interface: the test is the container, the daemon that wrote the lists, and the servers.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include "shim/resolver.h"

enum { WAIT_MS = 5000, SILENCE_MS = 100, SERVERS = 3 };
#define SERVER_NS (300 * NS_PER_MS)

struct fixture {
    struct loop *loop;
    pthread_t thread;
    struct resolver *resolver;
    char copy[SHIM_COPY_SIZE], folder[32];
    int folder_fd;
    struct sockaddr_in udp, tcp; // the resolver's
    int guest; // our end of a guest's stream
    in_port_t port; // of the servers 127.0.0.1, .2 and .3
    int servers[SERVERS];
};

static int bind_at(int type, const char *address, in_port_t port, struct sockaddr_in *out)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = inet_addr(address) };
    socklen_t size = sizeof(at);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
    getsockname(fd, (struct sockaddr *)&at, &size);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 128), 0);
    *out = at;
    return fd;
}

static void *run(void *context)
{
    loop_run(((struct fixture *)context)->loop, NULL);
    return NULL;
}

static void write_file(struct fixture *fixture, const char *name, const char *text)
{
    assert_int_equal(file_write_at(fixture->folder_fd, name, text, strlen(text), 0600, false, NULL), 0);
}

#define BLUE "network n1 blue\n"
#define ALL_SERVERS "server 127.0.0.1\nhost 127.0.0.2\nserver 127.0.0.3\n"

static void nothing(int number)
{
}

static struct fixture *fixture_with(int64_t server_ns)
{
    struct fixture *fixture = mem_new(struct fixture);
    struct sockaddr_in at;
    signal(SIGPIPE, nothing);
    snprintf(fixture->folder, sizeof(fixture->folder), "/tmp/berth-names-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    fixture->folder_fd = file_open_dir(AT_FDCWD, fixture->folder, NULL);
    write_file(fixture, "n1", "aaaa 10.1.0.2 web all\nbbbb 10.1.0.3 db all\n");
    write_file(fixture, DNS_SETTINGS_NAME, BLUE ALL_SERVERS);
    for (int i = 0; i < SERVERS; i++) {
        char address[16];
        snprintf(address, sizeof(address), "127.0.0.%d", i + 1);
        fixture->servers[i] = bind_at(SOCK_DGRAM, address, fixture->port, &at);
        fixture->port = at.sin_port;
    }
    assert_int_equal(loop_new(&fixture->loop, NULL), 0);
    int ends[2];
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    fixture->guest = ends[0];
    const struct resolver_config config = { .loop = fixture->loop, .copy = fixture->copy, .state_fd = fixture->folder_fd,
                                            .netns_fd = -1, .guest_fd = ends[1], .udp_fd = bind_at(SOCK_DGRAM, "127.0.0.1", 0, &fixture->udp),
                                            .tcp_fd = bind_at(SOCK_STREAM, "127.0.0.1", 0, &fixture->tcp),
                                            .lists_fd = fd_dup(fixture->folder_fd, NULL), .server_ns = server_ns, .port = fixture->port };
    assert_int_equal(resolver_new(&config, &fixture->resolver, NULL), 0);
    pthread_create(&fixture->thread, NULL, run, fixture);
    return fixture;
}

static struct fixture *fixture_new(void)
{
    return fixture_with(SERVER_NS);
}

static void fixture_done(struct fixture *fixture)
{
    loop_stop(fixture->loop);
    pthread_join(fixture->thread, NULL);
    resolver_free(fixture->resolver);
    loop_free(fixture->loop);
    for (int i = 0; i < SERVERS; i++)
        fd_close(fixture->servers[i]);
    fd_close(fixture->guest);
    fd_close(fixture->folder_fd);
    assert_int_equal(file_remove_tree(AT_FDCWD, fixture->folder, NULL), 0);
    free(fixture);
}

// ---- questions and answers --------------------------------------------------------------------------------------------

static size_t question(uint8_t *out, const char *name, unsigned type)
{
    static uint8_t counter;
    const uint8_t head[] = { 0x42, ++counter, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 };
    struct slice rest = slice_of(name), label;
    size_t size = sizeof(head);
    memcpy(out, head, size);
    while (slice_cut(&rest, '.', &label)) {
        out[size++] = (uint8_t)label.size;
        memcpy(out + size, label.data, label.size);
        size += label.size;
    }
    memcpy(out + size, (uint8_t[]){ 0, 0, (uint8_t)type, 0, 1 }, 5);
    return size + 5;
}

static int dial(const struct sockaddr_in *to, int type)
{
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)to, sizeof(*to)), 0);
    return fd;
}

static bool readable(int fd, int wait_ms)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    return poll(&poll_fd, 1, wait_ms) == 1;
}

// Sends a question by datagram; the socket.
static int ask(struct fixture *fixture, const char *name, unsigned type)
{
    uint8_t message[512];
    size_t size = question(message, name, type);
    int fd = dial(&fixture->udp, SOCK_DGRAM);
    assert_int_equal(send(fd, message, size, 0), size);
    return fd;
}

struct reply {
    uint8_t bytes[DNS_MESSAGE_MAX];
    size_t size;
};

static unsigned rcode_of(const struct reply *reply)
{
    return reply->bytes[3] & 15;
}

static void hear(int fd, struct reply *out)
{
    assert_true(readable(fd, WAIT_MS));
    ssize_t got = recv(fd, out->bytes, sizeof(out->bytes), 0);
    assert_true(got >= DNS_HEADER_SIZE);
    out->size = (size_t)got;
    fd_close(fd);
}

// What a server got, and from whom.
static size_t take_question(int server, uint8_t *message, size_t max, struct sockaddr_in *from)
{
    socklen_t size = sizeof(*from);
    assert_true(readable(server, WAIT_MS));
    ssize_t got = recvfrom(server, message, max, 0, (struct sockaddr *)from, &size);
    assert_true(got > DNS_HEADER_SIZE);
    return (size_t)got;
}

// A server answers with that code and three bytes that mean nothing.
static void serve(int server, unsigned rcode)
{
    uint8_t message[600];
    struct sockaddr_in from;
    size_t size = take_question(server, message, 512, &from);
    message[2] |= 0x80;
    message[3] = (uint8_t)rcode;
    memcpy(message + size, "xyz", 3);
    assert_int_equal(sendto(server, message, size + 3, 0, (struct sockaddr *)&from, sizeof(from)), size + 3);
}

static void names_of_the_lists(void **state)
{
    struct fixture *fixture = fixture_new();
    static struct reply reply;
    hear(ask(fixture, "web", DNS_A), &reply);
    assert_int_equal(rcode_of(&reply), DNS_OK);
    assert_memory_equal(reply.bytes + reply.size - 4, "\x0a\x01\0\2", 4);
    // What the daemon writes counts from the next question on.
    write_file(fixture, "n1", "aaaa 10.1.0.9 web\n");
    hear(ask(fixture, "web.blue", DNS_A), &reply);
    assert_memory_equal(reply.bytes + reply.size - 4, "\x0a\x01\0\x09", 4);
    write_file(fixture, DNS_SETTINGS_NAME, "network n2 red\nnetwork ../n1 odd\n");
    hear(ask(fixture, "web", DNS_A), &reply);
    assert_int_equal(rcode_of(&reply), DNS_SERVFAIL); // no such list, no server
    unlinkat(fixture->folder_fd, DNS_SETTINGS_NAME, 0);
    hear(ask(fixture, "web", DNS_A), &reply);
    assert_int_equal(rcode_of(&reply), DNS_SERVFAIL);
    fixture_done(fixture);
}

static void others_are_asked(void **state)
{
    struct fixture *fixture = fixture_new();
    static struct reply reply;
    int fd = ask(fixture, "example.com", DNS_A);
    serve(fixture->servers[0], DNS_NXDOMAIN);
    hear(fd, &reply);
    assert_int_equal(rcode_of(&reply), DNS_NXDOMAIN);
    assert_memory_equal(reply.bytes + reply.size - 3, "xyz", 3); // as it came
    fd = ask(fixture, "web", 255); // a type that no list answers
    serve(fixture->servers[0], DNS_OK);
    hear(fd, &reply);
    assert_int_equal(rcode_of(&reply), DNS_OK);
    assert_false(readable(fixture->servers[1], 0));
    fixture_done(fixture);
}

static void the_next_server_is_asked(void **state)
{
    struct fixture *fixture = fixture_new();
    static struct reply reply;
    int fd = ask(fixture, "example.com", DNS_A);
    serve(fixture->servers[0], DNS_SERVFAIL);
    serve(fixture->servers[1], DNS_REFUSED);
    serve(fixture->servers[2], DNS_OK);
    hear(fd, &reply);
    assert_int_equal(rcode_of(&reply), DNS_OK);
    fd_close(take_fd(&fixture->servers[0])); // nobody listens there: the next at once
    int64_t begun = clock_mono_ns();
    fd = ask(fixture, "example.com", DNS_A);
    serve(fixture->servers[1], DNS_OK);
    hear(fd, &reply);
    assert_true(clock_mono_ns() - begun < SERVER_NS);
    fd = ask(fixture, "example.com", DNS_A);
    serve(fixture->servers[2], DNS_OK); // the second is silent
    hear(fd, &reply);
    assert_int_equal(rcode_of(&reply), DNS_OK);
    assert_true(clock_mono_ns() - begun >= SERVER_NS);
    fixture_done(fixture);
}

static void nobody_answers(void **state)
{
    struct fixture *fixture = fixture_new();
    static struct reply reply;
    int64_t begun = clock_mono_ns();
    hear(ask(fixture, "example.com", DNS_A), &reply);
    assert_int_equal(rcode_of(&reply), DNS_SERVFAIL);
    assert_true(clock_mono_ns() - begun >= SERVERS * SERVER_NS);
    for (int i = 0; i < SERVERS; i++)
        fd_close(take_fd(&fixture->servers[i]));
    begun = clock_mono_ns();
    hear(ask(fixture, "example.com", DNS_A), &reply);
    assert_int_equal(rcode_of(&reply), DNS_SERVFAIL);
    assert_true(clock_mono_ns() - begun < SERVER_NS); // known at once
    write_file(fixture, DNS_SETTINGS_NAME, BLUE "server 127.0.0.11\n"); // itself
    hear(ask(fixture, "example.com", DNS_A), &reply);
    assert_int_equal(rcode_of(&reply), DNS_SERVFAIL);
    fixture_done(fixture);
}

static void answers_to_another_question(void **state)
{
    struct fixture *fixture = fixture_new();
    static struct reply reply;
    uint8_t message[512], other[512];
    struct sockaddr_in from;
    int fd = ask(fixture, "example.com", DNS_A);
    size_t size = take_question(fixture->servers[0], message, sizeof(message), &from);
    message[2] |= 0x80;
    memcpy(other, message, size);
    other[0] ^= 1; // another number
    sendto(fixture->servers[0], other, size, 0, (struct sockaddr *)&from, sizeof(from));
    memcpy(other, message, size);
    other[13] ^= 1; // another name
    sendto(fixture->servers[0], other, size, 0, (struct sockaddr *)&from, sizeof(from));
    sendto(fixture->servers[0], message, 5, 0, (struct sockaddr *)&from, sizeof(from));
    sendto(fixture->servers[1], message, size, 0, (struct sockaddr *)&from, sizeof(from)); // another server
    assert_false(readable(fd, SILENCE_MS / 2));
    sendto(fixture->servers[0], message, size, 0, (struct sockaddr *)&from, sizeof(from));
    hear(fd, &reply);
    assert_memory_equal(reply.bytes, message, size);
    fixture_done(fixture);
}

static void what_is_no_question(void **state)
{
    struct fixture *fixture = fixture_new();
    static struct reply reply;
    uint8_t message[DNS_QUERY_MAX + 100] = { 0 };
    int fd = dial(&fixture->udp, SOCK_DGRAM);
    send(fd, message, 11, 0);
    send(fd, message, sizeof(message), 0);
    message[2] = 0x80;
    send(fd, message, 100, 0);
    assert_false(readable(fd, SILENCE_MS));
    message[2] = 0x28; // an update
    send(fd, message, 100, 0);
    hear(fd, &reply);
    assert_int_equal(rcode_of(&reply), DNS_NOTIMP);
    hear(ask(fixture, "web", DNS_A), &reply);
    assert_int_equal(rcode_of(&reply), DNS_OK);
    fixture_done(fixture);
}

static void too_many_at_one_time(void **state)
{
    struct fixture *fixture = fixture_with(60 * NS_PER_S);
    static struct reply reply;
    uint8_t message[512];
    int fd = dial(&fixture->udp, SOCK_DGRAM);
    write_file(fixture, DNS_SETTINGS_NAME, BLUE "server 127.0.0.1\n"); // silent
    for (int i = 0; i <= RESOLVER_FORWARD_MAX; i++) {
        size_t size = question(message, "example.com", DNS_A);
        assert_int_equal(send(fd, message, size, 0), size);
        if (i < RESOLVER_FORWARD_MAX)
            take_question(fixture->servers[0], message, sizeof(message), &(struct sockaddr_in){ 0 });
    }
    hear(fd, &reply);
    assert_int_equal(rcode_of(&reply), DNS_REFUSED);
    hear(ask(fixture, "web", DNS_A), &reply);
    assert_int_equal(rcode_of(&reply), DNS_OK);
    fixture_done(fixture); // while all the others wait
}

// ---- TCP --------------------------------------------------------------------------------------------------------------

static size_t framed(uint8_t *out, const char *name, unsigned type)
{
    size_t size = question(out + 2, name, type);
    out[0] = (uint8_t)(size >> 8);
    out[1] = (uint8_t)size;
    return size + 2;
}

static void hear_framed(int fd, struct reply *out)
{
    uint8_t prefix[2];
    assert_true(readable(fd, WAIT_MS));
    assert_int_equal(fd_read_full(fd, prefix, 2, NULL), 2);
    out->size = (size_t)(prefix[0] << 8 | prefix[1]);
    assert_int_equal(fd_read_full(fd, out->bytes, out->size, NULL), out->size);
}

static void questions_by_tcp(void **state)
{
    struct fixture *fixture = fixture_new();
    static struct reply reply;
    uint8_t message[1024];
    int fd = dial(&fixture->tcp, SOCK_STREAM);
    size_t first = framed(message, "web", DNS_A), both = first + framed(message + first, "db.blue", DNS_A);
    for (size_t i = 0; i < first - 1; i++) // in pieces
        assert_int_equal(send(fd, message + i, 1, 0), 1);
    assert_false(readable(fd, SILENCE_MS));
    assert_int_equal(send(fd, message + first - 1, both - first + 1, 0), both - first + 1); // and two at once
    hear_framed(fd, &reply);
    assert_memory_equal(reply.bytes + reply.size - 4, "\x0a\x01\0\2", 4);
    hear_framed(fd, &reply);
    assert_memory_equal(reply.bytes + reply.size - 4, "\x0a\x01\0\3", 4);
    shutdown(fd, SHUT_WR);
    assert_true(readable(fd, WAIT_MS));
    assert_int_equal(read(fd, message, 1), 0);
    fd_close(fd);
    fixture_done(fixture);
}

static void servers_are_asked_by_tcp_too(void **state)
{
    struct fixture *fixture = fixture_new();
    static struct reply reply;
    static uint8_t message[DNS_MESSAGE_MAX + 2];
    struct sockaddr_in at;
    int listener = bind_at(SOCK_STREAM, "127.0.0.2", fixture->port, &at), fd = dial(&fixture->tcp, SOCK_STREAM);
    size_t first = framed(message, "example.com", DNS_A), size = first + framed(message + first, "web", DNS_A);
    assert_int_equal(send(fd, message, size, 0), size); // the second waits for the first
    shutdown(fd, SHUT_WR);
    assert_true(readable(listener, WAIT_MS)); // the first server takes no TCP
    int server = accept(listener, NULL, NULL);
    size = (size_t)fd_read_full(server, message, first, NULL);
    assert_int_equal(size, first);
    message[0] = message[1] = 0xff; // as large as can be
    message[4] |= 0x80;
    assert_int_equal(fd_write_full(server, message, 1000, NULL), 0);
    assert_false(readable(fd, SILENCE_MS));
    assert_int_equal(fd_write_full(server, message + 1000, sizeof(message) - 1000, NULL), 0);
    hear_framed(fd, &reply);
    assert_int_equal(reply.size, DNS_MESSAGE_MAX);
    hear_framed(fd, &reply);
    assert_memory_equal(reply.bytes + reply.size - 4, "\x0a\x01\0\2", 4);
    fd_close(server);
    fd_close(fd);
    fd_close(listener);
    fixture_done(fixture);
}

static void callers_that_are_of_no_use(void **state)
{
    struct fixture *fixture = fixture_new();
    static struct reply reply;
    uint8_t message[512];
    int fd = dial(&fixture->tcp, SOCK_STREAM), idle[RESOLVER_CALLER_MAX];
    assert_int_equal(send(fd, "\xff\xff", 2, 0), 2); // a question as long as that
    assert_true(readable(fd, WAIT_MS));
    assert_int_equal(read(fd, message, 1), 0);
    fd_close(fd);
    fd = dial(&fixture->tcp, SOCK_STREAM);
    size_t size = framed(message, "web", DNS_A);
    message[4] |= 0x80; // an answer
    send(fd, message, size, 0);
    assert_true(readable(fd, WAIT_MS));
    assert_int_equal(read(fd, message, 1), 0);
    fd_close(fd);
    for (int i = 0; i < RESOLVER_CALLER_MAX; i++)
        idle[i] = dial(&fixture->tcp, SOCK_STREAM);
    for (int i = 0; i < 3; i++) { // idle ones make room
        fd = dial(&fixture->tcp, SOCK_STREAM);
        size = framed(message, "web", DNS_A);
        assert_int_equal(send(fd, message, size, 0), size);
        hear_framed(fd, &reply);
        fd_close(fd);
    }
    // Who goes while a server is asked for them is forgotten.
    fd = dial(&fixture->tcp, SOCK_STREAM);
    size = framed(message, "example.com", DNS_A);
    assert_int_equal(send(fd, message, size, 0), size);
    fd_close(fd);
    for (int i = 0; i < RESOLVER_CALLER_MAX; i++)
        fd_close(idle[i]);
    hear(ask(fixture, "web", DNS_A), &reply);
    fixture_done(fixture); // while that question still waits
}

// ---- a guest ----------------------------------------------------------------------------------------------------------

static size_t tagged(uint8_t *out, uint32_t tag, const char *name, unsigned type)
{
    size_t size = question(out + 6, name, type) + 4;
    out[0] = (uint8_t)(size >> 8);
    out[1] = (uint8_t)size;
    memcpy(out + 2, &tag, 4);
    return size + 2;
}

static uint32_t hear_tagged(int fd, struct reply *out)
{
    uint32_t tag;
    hear_framed(fd, out);
    assert_true(out->size >= 4 + DNS_HEADER_SIZE);
    memcpy(&tag, out->bytes, 4);
    out->size -= 4;
    memmove(out->bytes, out->bytes + 4, out->size);
    return tag;
}

static void questions_of_a_guest(void **state)
{
    struct fixture *fixture = fixture_new();
    static struct reply reply;
    uint8_t message[1024];
    size_t size = tagged(message, 5, "example.com", DNS_A);
    size += tagged(message + size, 6, "example.org", DNS_A);
    size += tagged(message + size, 7, "web", DNS_A);
    assert_int_equal(fd_write_full(fixture->guest, message, size, NULL), 0);
    assert_int_equal(hear_tagged(fixture->guest, &reply), 7); // it waits for nobody
    assert_memory_equal(reply.bytes + reply.size - 4, "\x0a\x01\0\2", 4);
    serve(fixture->servers[0], DNS_OK);
    assert_int_equal(hear_tagged(fixture->guest, &reply), 5);
    serve(fixture->servers[0], DNS_NXDOMAIN);
    assert_int_equal(hear_tagged(fixture->guest, &reply), 6);
    assert_int_equal(rcode_of(&reply), DNS_NXDOMAIN);
    // By TCP an answer may be long.
    _cleanup_buf_ struct buf list = BUF_INIT(1 << 20);
    for (int i = 0; i < 100; i++)
        buf_addf(&list, "%d 10.1.1.%d all\n", i, i);
    write_file(fixture, "n1", buf_text(&list));
    size = tagged(message, 8, "all", DNS_A);
    size += tagged(message + size, 9 | TASK_NAMES_STREAM, "all", DNS_A);
    assert_int_equal(fd_write_full(fixture->guest, message, size, NULL), 0);
    assert_int_equal(hear_tagged(fixture->guest, &reply), 8);
    assert_true(reply.size <= 512);
    assert_int_equal(hear_tagged(fixture->guest, &reply), 9 | TASK_NAMES_STREAM);
    assert_int_equal(reply.size, 12 + 9 + 100 * 16);
    fixture_done(fixture);
}

static void a_guest_that_lies(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } rows[] = { { "\0\3abc", 5 }, { "\xff\xff", 2 } };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fixture *fixture = fixture_new();
        char byte;
        assert_int_equal(fd_write_full(fixture->guest, "\0\5aaaa!", 7, NULL), 0); // no question: no answer
        assert_int_equal(fd_write_full(fixture->guest, rows[i].bytes, rows[i].size, NULL), 0);
        assert_true(readable(fixture->guest, WAIT_MS));
        assert_true(recv(fixture->guest, &byte, 1, 0) <= 0);
        fixture_done(fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_the_lists),
        cmocka_unit_test(others_are_asked),
        cmocka_unit_test(the_next_server_is_asked),
        cmocka_unit_test(nobody_answers),
        cmocka_unit_test(answers_to_another_question),
        cmocka_unit_test(what_is_no_question),
        cmocka_unit_test(too_many_at_one_time),
        cmocka_unit_test(questions_by_tcp),
        cmocka_unit_test(servers_are_asked_by_tcp_too),
        cmocka_unit_test(callers_that_are_of_no_use),
        cmocka_unit_test(questions_of_a_guest),
        cmocka_unit_test(a_guest_that_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
