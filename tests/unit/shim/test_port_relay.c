// Published ports on the loopback interface: the test is the client and the container's server.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "shim/shim_private.h"

struct fixture {
    struct loop *loop;
    pthread_t thread;
    struct relay_set *set;
    char copy[SHIM_COPY_SIZE];
    int target; // the server's socket
    struct sockaddr_in published;
};

static void nothing(int number)
{
}

static int bind_loopback(int type, struct sockaddr_in *out)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t size = sizeof(address);
    struct timeval patience = { .tv_sec = 5 };
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    getsockname(fd, (struct sockaddr *)&address, &size);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 128), 0);
    *out = address;
    return fd;
}

static void *run(void *context)
{
    loop_run(((struct fixture *)context)->loop, NULL);
    return NULL;
}

static struct fixture *fixture_new(int type, bool server_listens)
{
    struct fixture *fixture = mem_new(struct fixture);
    struct sockaddr_in target;
    signal(SIGPIPE, nothing);
    assert_int_equal(loop_new(&fixture->loop, NULL), 0);
    fixture->set = relay_set_new(fixture->loop, fixture->copy);
    fixture->target = bind_loopback(type, &target);
    if (!server_listens)
        fd_close(take_fd(&fixture->target));
    struct task_port port = { .proto = (char *)(type == SOCK_STREAM ? "tcp" : "udp"), .target_address = (char *)"127.0.0.1",
                              .target_port = ntohs(target.sin_port) };
    assert_int_equal(relay_set_add(fixture->set, &port, bind_loopback(type, &fixture->published), NULL), 0);
    pthread_create(&fixture->thread, NULL, run, fixture);
    return fixture;
}

static void fixture_done(struct fixture *fixture)
{
    loop_stop(fixture->loop);
    pthread_join(fixture->thread, NULL);
    relay_set_free(fixture->set);
    fd_close(fixture->target);
    loop_free(fixture->loop);
    free(fixture);
}

static int connect_to(struct fixture *fixture, int type)
{
    struct timeval patience = { .tv_sec = 5 };
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(fd, (struct sockaddr *)&fixture->published, sizeof(fixture->published)), 0);
    return fd;
}

static int accept_one(struct fixture *fixture)
{
    struct timeval patience = { .tv_sec = 5 };
    int fd = accept(fixture->target, NULL, NULL);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return fd;
}

static void expect(int fd, const char *text)
{
    char got[64];
    assert_int_equal(fd_read_full(fd, got, strlen(text), NULL), strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

static void both_ways_with_half_close(void **state)
{
    struct fixture *fixture = fixture_new(SOCK_STREAM, true);
    int client = connect_to(fixture, SOCK_STREAM), server = accept_one(fixture);
    char byte;
    assert_int_equal(write(client, "question", 8), 8);
    expect(server, "question");
    shutdown(client, SHUT_WR);
    assert_int_equal(read(server, &byte, 1), 0);
    assert_int_equal(write(server, "answer", 6), 6); // after the client's half is over
    expect(client, "answer");
    fd_close(server);
    assert_int_equal(read(client, &byte, 1), 0);
    fd_close(client);
    fixture_done(fixture);
}

struct transfer {
    int fd;
    size_t size;
};

static void *send_much(void *context)
{
    struct transfer *transfer = context;
    static const char block[65536];
    for (size_t done = 0; done < transfer->size; done += sizeof(block))
        fd_write_full(transfer->fd, block, sizeof(block), NULL);
    shutdown(transfer->fd, SHUT_WR);
    return NULL;
}

static size_t count_to_end(int fd)
{
    char block[65536];
    size_t total = 0;
    ssize_t got;
    while ((got = read(fd, block, sizeof(block))) > 0)
        total += (size_t)got;
    if (got < 0)
        perror("relay read");
    return total;
}

static void much_in_both_directions_at_once(void **state)
{
    struct fixture *fixture = fixture_new(SOCK_STREAM, true);
    int client = connect_to(fixture, SOCK_STREAM), server = accept_one(fixture);
    struct transfer there = { client, 32 << 20 }, back = { server, 16 << 20 };
    pthread_t threads[3];
    pthread_create(&threads[0], NULL, send_much, &there);
    pthread_create(&threads[1], NULL, send_much, &back);
    pthread_create(&threads[2], NULL, (void *(*)(void *))(void (*)(void))count_to_end, (void *)(intptr_t)client);
    assert_int_equal(count_to_end(server), there.size);
    void *counted;
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], i == 2 ? &counted : NULL);
    assert_int_equal((size_t)(uintptr_t)counted, back.size);
    fd_close(client);
    fd_close(server);
    fixture_done(fixture);
}

static void a_reset_reaches_the_other_side(void **state)
{
    struct fixture *fixture = fixture_new(SOCK_STREAM, true);
    int client = connect_to(fixture, SOCK_STREAM), server = accept_one(fixture);
    struct linger at_once = { 1, 0 };
    setsockopt(server, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    fd_close(server);
    char byte;
    assert_true(read(client, &byte, 1) <= 0);
    fd_close(client);
    client = connect_to(fixture, SOCK_STREAM); // and the next one is served
    server = accept_one(fixture);
    assert_int_equal(write(server, "x", 1), 1);
    expect(client, "x");
    fd_close(client);
    fd_close(server);
    fixture_done(fixture);
}

static void nobody_listens_behind(void **state)
{
    struct fixture *fixture = fixture_new(SOCK_STREAM, false);
    char byte;
    for (int i = 0; i < 3; i++) {
        int client = connect_to(fixture, SOCK_STREAM);
        assert_true(read(client, &byte, 1) <= 0);
        fd_close(client);
    }
    fixture_done(fixture);
}

static void many_connections_one_after_another(void **state)
{
    struct fixture *fixture = fixture_new(SOCK_STREAM, true);
    for (int i = 0; i < 600; i++) { // more than may be open at once
        int client = connect_to(fixture, SOCK_STREAM), server = accept_one(fixture);
        fd_close(client);
        fd_close(server);
    }
    fixture_done(fixture);
}

static void datagrams_find_their_sender(void **state)
{
    struct fixture *fixture = fixture_new(SOCK_DGRAM, true);
    for (int round = 0; round < 2; round++) {
        int clients[2] = { connect_to(fixture, SOCK_DGRAM), connect_to(fixture, SOCK_DGRAM) };
        for (size_t i = 0; i < 2; i++) {
            char out = (char)('a' + i), in = 0;
            struct sockaddr_in from;
            socklen_t size = sizeof(from);
            assert_int_equal(send(clients[i], &out, 1, 0), 1);
            assert_int_equal(recvfrom(fixture->target, &in, 1, 0, (struct sockaddr *)&from, &size), 1);
            assert_int_equal(in, out);
            out = (char)('A' + i);
            assert_int_equal(sendto(fixture->target, &out, 1, 0, (struct sockaddr *)&from, size), 1);
            assert_int_equal(recv(clients[i], &in, 1, 0), 1);
            assert_int_equal(in, out);
        }
        fd_close(clients[0]);
        fd_close(clients[1]);
    }
    fixture_done(fixture);
}

static void more_senders_than_places(void **state)
{
    struct fixture *fixture = fixture_new(SOCK_DGRAM, true);
    for (int i = 0; i < RELAY_UDP_MAX + 50; i++) {
        int client = connect_to(fixture, SOCK_DGRAM);
        char byte = 'x';
        assert_int_equal(send(client, &byte, 1, 0), 1);
        assert_int_equal(recv(fixture->target, &byte, 1, 0), 1);
        fd_close(client);
    }
    fixture_done(fixture);
}

static void refuses_what_is_no_target(void **state)
{
    static const struct task_port cases[] = {
        { .proto = (char *)"sctp", .target_address = (char *)"127.0.0.1", .target_port = 1 },
        { .proto = (char *)"tcp", .target_address = (char *)"localhost", .target_port = 1 },
        { .proto = (char *)"tcp", .target_address = (char *)"127.0.0.1", .target_port = 0 },
        { .proto = (char *)"tcp", .target_address = (char *)"::1", .target_port = 65536 },
    };
    struct loop *loop;
    assert_int_equal(loop_new(&loop, NULL), 0);
    struct relay_set *set = relay_set_new(loop, NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(relay_set_add(set, &cases[i], 0, NULL), -1);
    relay_set_free(set);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_with_half_close),
        cmocka_unit_test(much_in_both_directions_at_once),
        cmocka_unit_test(a_reset_reaches_the_other_side),
        cmocka_unit_test(nobody_listens_behind),
        cmocka_unit_test(many_connections_one_after_another),
        cmocka_unit_test(datagrams_find_their_sender),
        cmocka_unit_test(more_senders_than_places),
        cmocka_unit_test(refuses_what_is_no_target),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
