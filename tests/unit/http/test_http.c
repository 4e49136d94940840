// Server and client over socket pairs; the server's loop runs in a thread of its own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "http/http.h"

#define WAIT_NS (clock_mono_ns() + 10 * NS_PER_S)

struct world {
    struct loop *loop;
    struct http_server *server;
    pthread_t thread;
    int far; // the client's end of the first pair
    const char *tell; // for tell_all()
};

static void on_hello(void *context, struct http_call *call)
{
    http_answer(call, 200, "{\"hello\":1}");
}

static void on_echo(void *context, struct http_call *call)
{
    _cleanup_free_ char *body = mem_strndup(call->body.data, call->body.size);
    http_answer(call, 200, body);
}

// Writes into the descriptor that came.
static void on_fd(void *context, struct http_call *call)
{
    struct err err;
    if (call->fds_len != 1) {
        err_set(&err, ERR_CONFLICT, "a \"descriptor\" is missing: %zu", call->fds_len);
        http_answer_err(call, &err);
        return;
    }
    _cleanup_close_ int fd = take_fd(&call->fds[0]);
    (void)!write(fd, "here", 4);
    http_answer(call, 204, NULL);
}

static void on_events(void *context, struct http_call *call)
{
    http_answer_stream(call, "{\"n\":0}");
}

static const struct http_route routes[] = {
    { "GET", "/", on_hello }, { "PUT", "/echo", on_echo }, { "PUT", "/fd", on_fd }, { "GET", "/events", on_events },
};

static void *turn(void *context)
{
    struct world *world = context;
    struct err err;
    assert_int_equal(loop_run(world->loop, &err), 0);
    return NULL;
}

static int setup(void **state)
{
    struct world *world = mem_new(struct world);
    int pair[2];
    struct err err;
    *state = world;
    assert_int_equal(loop_new(&world->loop, &err), 0);
    assert_int_equal(http_server_new(world->loop, routes, ARRAY_LEN(routes), world, &world->server, &err), 0);
    assert_int_equal(fd_socketpair(SOCK_STREAM, pair, &err), 0);
    assert_int_equal(http_server_add(world->server, pair[0], &err), 0);
    world->far = pair[1];
    assert_int_equal(pthread_create(&world->thread, NULL, turn, world), 0);
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    loop_stop(world->loop);
    pthread_join(world->thread, NULL);
    http_server_free(world->server);
    loop_free(world->loop);
    fd_close(world->far);
    free(world);
    return 0;
}

static void test_calls(void **state)
{
    struct world *world = *state;
    struct http_client client;
    struct err err;
    http_client_init(&client, world->far);
    for (int i = 0; i < 3; i++) {
        _cleanup_buf_ struct buf body = BUF_INIT(100);
        assert_int_equal(http_client_call(&client, "GET", "/", NULL, 0, WAIT_NS, &body, &err), 0);
        assert_string_equal(buf_text(&body), "{\"hello\":1}");
        assert_int_equal(http_client_call(&client, "GET", "/none", NULL, 0, WAIT_NS, &body, &err), -1);
        assert_int_equal(err.class, ERR_NOT_FOUND);
        assert_int_equal(http_client_call(&client, "POST", "/", NULL, 0, WAIT_NS, &body, &err), -1);
        assert_string_equal(err.message, "not with this method");
    }
    http_client_done(&client);
}

static void test_descriptors(void **state)
{
    struct world *world = *state;
    struct http_client client;
    _cleanup_buf_ struct buf body = BUF_INIT(100);
    struct err err;
    int pipe[2];
    char text[8] = "";
    http_client_init(&client, world->far);
    assert_int_equal(fd_pipe(pipe, &err), 0);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(http_client_call(&client, "PUT", "/fd", &pipe[1], 1, WAIT_NS, &body, &err), 0);
        assert_int_equal(read(pipe[0], text, 4), 4);
        assert_string_equal(text, "here");
        // The answer to what another request brought must not be left for this one.
        int two[2] = { pipe[1], pipe[1] };
        assert_int_equal(http_client_call(&client, "GET", "/", two, 2, WAIT_NS, &body, &err), 0);
        assert_int_equal(http_client_call(&client, "PUT", "/fd", NULL, 0, WAIT_NS, &body, &err), -1);
        assert_int_equal(err.class, ERR_CONFLICT);
        buf_clear(&body);
    }
    http_client_done(&client);
    fd_close(pipe[0]);
    fd_close(pipe[1]);
}

static void tell_all(void *context)
{
    struct world *world = context;
    http_server_tell(world->server, world->tell);
}

static int next_part(struct http_client *client, struct http_part *part)
{
    int got;
    struct err err;
    while ((got = http_client_next(client, part, &err)) == 0)
        assert_int_equal(http_client_receive(client, &err), 1);
    return got;
}

static void test_events(void **state)
{
    struct world *world = *state;
    struct http_client client;
    struct http_part part;
    struct err err;
    http_client_init(&client, world->far);
    assert_int_equal(http_client_send(&client, "GET", "/events", NULL, 0, &err), 0);
    assert_int_equal(next_part(&client, &part), 1);
    assert_true(slice_eq(part.body, "{\"n\":0}\n") && !part.last && part.status == 200);
    world->tell = "{\"n\":1}";
    for (int i = 0; i < 20; i++)
        loop_post(world->loop, tell_all, world);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(next_part(&client, &part), 1);
        assert_true(slice_eq(part.body, "{\"n\":1}\n") && !part.last);
    }
    loop_stop(world->loop);
    pthread_join(world->thread, NULL);
    http_server_drain(world->server, WAIT_NS);
    assert_int_equal(next_part(&client, &part), 1);
    assert_true(part.last && part.body.size == 0);
    assert_int_equal(pthread_create(&world->thread, NULL, turn, world), 0);
    http_client_done(&client);
}

// A stream that nobody reads is cut off at its ceiling; the server goes on.
static void test_reader_that_sleeps(void **state)
{
    struct world *world = *state;
    _cleanup_free_ char *text = mem_alloc(60001);
    char rest[4096];
    struct err err;
    struct http_client client;
    memset(text, 'x', 60000);
    http_client_init(&client, world->far);
    assert_int_equal(http_client_send(&client, "GET", "/events", NULL, 0, &err), 0);
    struct http_part part;
    assert_int_equal(next_part(&client, &part), 1);
    world->tell = text;
    for (int i = 0; i < 50; i++)
        loop_post(world->loop, tell_all, world);
    size_t size = 0;
    ssize_t got;
    usleep(100000);
    while ((got = read(world->far, rest, sizeof(rest))) > 0)
        size += (size_t)got;
    assert_true(got == 0 && size < 50u * 60000);
    http_client_done(&client);
}

static size_t read_until_closed(int fd, char *out, size_t size)
{
    size_t got = 0;
    for (ssize_t n = 1; n > 0 && got < size; got += n > 0 ? (size_t)n : 0)
        n = read(fd, out + got, size - 1 - got);
    out[got] = '\0';
    return got;
}

static void test_bytes_in_pieces_and_several_at_once(void **state)
{
    struct world *world = *state;
    static const char twice[] = "PUT /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPUT /echo HTTP/1.1\r\nConnection: close\r\n"
                                "Content-Length: 2\r\n\r\nde";
    char answer[1024];
    for (size_t i = 0; i < sizeof(twice) - 1; i++)
        assert_int_equal(write(world->far, twice + i, 1), 1);
    read_until_closed(world->far, answer, sizeof(answer));
    assert_non_null(strstr(answer, "\r\n\r\nabcHTTP/1.1 200 OK"));
    assert_true(str_eq(strstr(answer, "de"), "de"));
}

static void test_nonsense_is_answered_and_cut_off(void **state)
{
    struct world *world = *state;
    char answer[1024];
    assert_int_equal(write(world->far, "nonsense\r\n\r\n", 12), 12);
    read_until_closed(world->far, answer, sizeof(answer));
    assert_true(str_starts(answer, "HTTP/1.1 400 "));
}

static void test_listener_and_too_many(void **state)
{
    struct world *world = *state;
    char folder[] = "/tmp/berth-http-XXXXXX", path[64];
    int fds[HTTP_CONNECTIONS_MAX];
    struct err err;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/s", folder);
    int listener = fd_unix_listen_at(-100, path, &err);
    loop_stop(world->loop);
    pthread_join(world->thread, NULL);
    assert_int_equal(http_server_add(world->server, listener, &err), 0);
    assert_int_equal(pthread_create(&world->thread, NULL, turn, world), 0);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        struct http_client client;
        _cleanup_buf_ struct buf body = BUF_INIT(100);
        fds[i] = fd_unix_connect_at(-100, path, &err);
        assert_true(fds[i] >= 0);
        http_client_init(&client, fds[i]);
        // The pair of setup() is one of them.
        bool room = i + 1 < ARRAY_LEN(fds);
        assert_int_equal(http_client_call(&client, "GET", "/", NULL, 0, WAIT_NS, &body, &err), room ? 0 : -1);
        http_client_done(&client);
    }
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fd_close(fds[i]);
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_events, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reader_that_sleeps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bytes_in_pieces_and_several_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nonsense_is_answered_and_cut_off, setup, teardown),
        cmocka_unit_test_setup_teardown(test_listener_and_too_many, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
