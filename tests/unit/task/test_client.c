// The calling side against a made-up shim in a thread: what a real one would not do on request.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "task/task.h"

struct fixture {
    struct loop *loop;
    pthread_t loop_thread, shim_thread;
    int near, far;
    atomic_int events, closed, last_seq;
    struct task_client *client;
    bool free_in_callback;
    atomic_int returned; // the call that brought the event
};

static void on_event(void *context, const struct task_event *event)
{
    struct fixture *fixture = context;
    fixture->last_seq = (int)event->seq;
    fixture->events++;
    if (!fixture->free_in_callback)
        return;
    while (!fixture->returned) // its answer came before the event
        usleep(100);
    task_client_free(fixture->client);
}

static void on_closed(void *context)
{
    struct fixture *fixture = context;
    fixture->closed++;
}

static void *run_loop(void *context)
{
    struct fixture *fixture = context;
    loop_run(fixture->loop, NULL);
    return NULL;
}

static bool next_request(int sock, struct task_reader *reader, struct task_frame *out)
{
    for (;;) {
        int got = task_reader_next(reader, out, NULL);
        if (got)
            return got > 0;
        struct pollfd wait = { sock, POLLIN, 0 };
        poll(&wait, 1, -1);
        if (task_reader_feed(reader, NULL) < 0)
            return false;
    }
}

// Verbs of the made-up shim: echo, silence, fail, fds, event, strange, hang_up.
static void *run_shim(void *context)
{
    struct fixture *fixture = context;
    struct task_reader *reader;
    task_reader_new(fixture->far, &reader);
    struct task_frame frame;
    bool on = true;
    while (on && next_request(fixture->far, reader, &frame)) {
        const char *verb = json_get_text(frame.payload, "verb", "");
        json_t *answer = json_pack("{s:i, s:I}", "proto", 1, "echo", (json_int_t)json_get_int(frame.payload, "number", 0));
        json_t *event = json_pack("{s:i, s:s}", "seq", 41, "kind", "oom");
        int zeros[2] = { 0, 0 };
        struct err error;
        err_set(&error, ERR_CONFLICT, "no");
        if (str_eq(verb, "fail"))
            task_send_error(fixture->far, frame.id, &error, NULL);
        else if (str_eq(verb, "fds"))
            task_send(fixture->far, TASK_RESPONSE, frame.id, answer, zeros, 2, NULL);
        else if (str_eq(verb, "strange"))
            task_send(fixture->far, TASK_RESPONSE, frame.id + 1000, answer, zeros, 2, NULL);
        else if (str_eq(verb, "event_ack"))
            fixture->last_seq = -(int)json_get_int(frame.payload, "seq", 0);
        else if (str_eq(verb, "hang_up"))
            on = false;
        else if (!str_eq(verb, "silence"))
            task_send(fixture->far, TASK_RESPONSE, frame.id, answer, NULL, 0, NULL);
        if (str_eq(verb, "strange") || str_eq(verb, "event"))
            task_send(fixture->far, TASK_EVENT, 0, event, NULL, 0, NULL);
        if (str_eq(verb, "strange"))
            task_send(fixture->far, TASK_RESPONSE, frame.id, answer, NULL, 0, NULL);
        json_decref(answer);
        json_decref(event);
        task_frame_done(&frame);
    }
    task_reader_free(reader);
    shutdown(fixture->far, SHUT_RDWR);
    return NULL;
}

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(struct fixture);
    int ends[2];
    assert_int_equal(loop_new(&fixture->loop, NULL), 0);
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    fixture->near = ends[0];
    fixture->far = ends[1];
    pthread_create(&fixture->loop_thread, NULL, run_loop, fixture);
    pthread_create(&fixture->shim_thread, NULL, run_shim, fixture);
    struct err err;
    if (task_client_new(fixture->near, fixture->loop, on_event, on_closed, fixture, &fixture->client, &err) < 0)
        fail_msg("%s", err.message);
    *state = fixture;
    return 0;
}

static void stop(void *context)
{
    loop_stop(context);
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    if (!fixture->free_in_callback)
        task_client_free(fixture->client);
    loop_post(fixture->loop, stop, fixture->loop); // behind the client's own end
    pthread_join(fixture->loop_thread, NULL);
    shutdown(fixture->far, SHUT_RDWR);
    pthread_join(fixture->shim_thread, NULL);
    fd_close(fixture->far);
    loop_free(fixture->loop);
    free(fixture);
    return 0;
}

static int call(struct fixture *fixture, const char *verb, int64_t timeout_ns, struct err *err)
{
    return task_call(fixture->client, verb, NULL, NULL, 0, timeout_ns, NULL, NULL, NULL, err);
}

static bool eventually(atomic_int *value, int wanted)
{
    for (int i = 0; i < 500 && *value != wanted; i++)
        usleep(10000);
    return *value == wanted;
}

static void *many_calls(void *context)
{
    struct fixture *fixture = context;
    intptr_t wrong = 0;
    for (int64_t i = 1; i <= 200; i++) {
        json_t *arguments = json_pack("{s:I}", "number", (json_int_t)i), *result = NULL;
        wrong += task_call(fixture->client, "echo", arguments, NULL, 0, 10 * NS_PER_S, &result, NULL, NULL, NULL) < 0 ||
                 json_get_int(result, "echo", 0) != i;
        json_decref(result);
        json_decref(arguments);
    }
    return (void *)wrong;
}

static void threads_get_their_own_answers(void **state)
{
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_create(&threads[i], NULL, many_calls, *state);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

static void the_shims_error_comes_back(void **state)
{
    struct err err = { 0 };
    assert_int_equal(call(*state, "fail", NS_PER_S, &err), -1);
    assert_int_equal(err.class, ERR_CONFLICT);
    assert_string_equal(err.message, "no");
}

static void silence_ends_with_the_timeout(void **state)
{
    struct err err = { 0 };
    int64_t begin = clock_mono_ns();
    assert_int_equal(call(*state, "silence", 100 * NS_PER_MS, &err), -1);
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    assert_true(clock_mono_ns() - begin >= 100 * NS_PER_MS);
    assert_int_equal(call(*state, "echo", NS_PER_S, &err), 0);
}

static void descriptors_come_back(void **state)
{
    struct fixture *fixture = *state;
    int *fds;
    size_t len;
    assert_int_equal(task_call(fixture->client, "fds", NULL, NULL, 0, NS_PER_S, NULL, &fds, &len, NULL), 0);
    assert_int_equal(len, 2);
    assert_true(fcntl(fds[0], F_GETFD) >= 0 && fcntl(fds[1], F_GETFD) >= 0);
    fd_close(fds[0]);
    fd_close(fds[1]);
    free(fds);
}

static void unknown_answers_are_dropped(void **state)
{
    struct fixture *fixture = *state;
    struct err err = { 0 };
    assert_int_equal(call(fixture, "strange", NS_PER_S, &err), 0);
    assert_true(eventually(&fixture->events, 1));
    assert_int_equal(fixture->last_seq, 41);
}

static void acknowledgements_arrive(void **state)
{
    struct fixture *fixture = *state;
    task_ack(fixture->client, 17);
    assert_true(eventually(&fixture->last_seq, -17));
}

static void a_lost_shim_wakes_callers_and_tells_once(void **state)
{
    struct fixture *fixture = *state;
    struct err err = { 0 };
    int64_t begin = clock_mono_ns();
    assert_int_equal(call(fixture, "hang_up", 20 * NS_PER_S, &err), -1);
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    assert_true(clock_mono_ns() - begin < 10 * NS_PER_S);
    assert_true(eventually(&fixture->closed, 1));
    assert_int_equal(call(fixture, "echo", NS_PER_S, &err), -1);
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    usleep(20000);
    assert_int_equal(fixture->closed, 1);
}

static void may_be_freed_in_its_callback(void **state)
{
    struct fixture *fixture = *state;
    fixture->free_in_callback = true;
    assert_int_equal(call(fixture, "event", 20 * NS_PER_S, NULL), 0);
    fixture->returned = 1;
    assert_true(eventually(&fixture->events, 1));
    usleep(20000);
    assert_int_equal(fixture->closed, 0);
}

static void *refuse_hello(void *context)
{
    int sock = *(int *)context;
    struct task_reader *reader;
    struct task_frame frame;
    struct err error;
    task_reader_new(sock, &reader);
    if (next_request(sock, reader, &frame)) {
        err_set(&error, ERR_NOT_IMPLEMENTED, "protocol 7 to 9 is spoken here");
        task_send_error(sock, frame.id, &error, NULL);
        task_frame_done(&frame);
    }
    task_reader_free(reader);
    return NULL;
}

static void a_refused_hello_is_an_error(void **state)
{
    int ends[2];
    struct loop *loop;
    pthread_t thread;
    struct task_client *client = NULL;
    struct err err = { 0 };
    assert_int_equal(loop_new(&loop, NULL), 0);
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    pthread_create(&thread, NULL, refuse_hello, &ends[1]);
    assert_int_equal(task_client_new(ends[0], loop, on_event, on_closed, NULL, &client, &err), -1);
    assert_int_equal(err.class, ERR_NOT_IMPLEMENTED);
    pthread_join(thread, NULL);
    fd_close(ends[1]);
    loop_free(loop);
}

#define CLIENT_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLIENT_TEST(threads_get_their_own_answers),
        CLIENT_TEST(the_shims_error_comes_back),
        CLIENT_TEST(silence_ends_with_the_timeout),
        CLIENT_TEST(descriptors_come_back),
        CLIENT_TEST(unknown_answers_are_dropped),
        CLIENT_TEST(acknowledgements_arrive),
        CLIENT_TEST(a_lost_shim_wakes_callers_and_tells_once),
        CLIENT_TEST(may_be_freed_in_its_callback),
        cmocka_unit_test(a_refused_hello_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
