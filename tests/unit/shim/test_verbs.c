// The bounds of a shim, by its counters: nobody starts a thousand processes for it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <sys/socket.h>

#include "shim/shim_private.h"

struct fixture {
    struct shim shim;
    struct unit init;
    struct connection connection;
    struct task_reader *reader;
    int far;
};

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(struct fixture);
    int ends[2];
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    fixture->far = ends[1];
    task_reader_new(fixture->far, &fixture->reader);
    fixture->init = (struct unit){ .shim = &fixture->shim, .exec_id = (char *)"", .state = UNIT_RUNNING };
    fixture->connection = (struct connection){ .shim = &fixture->shim, .fd = ends[0] };
    fixture->shim = (struct shim){ .daemon = &fixture->connection, .init = &fixture->init, .netns_fd = -1 };
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    task_reader_free(fixture->reader);
    fd_close(fixture->connection.fd);
    fd_close(fixture->far);
    free(fixture);
    return 0;
}

static void expect_refusal(struct fixture *fixture, const char *request, const char *class)
{
    struct task_frame frame = { .type = TASK_REQUEST, .id = 3, .payload = json_loads(request, 0, NULL) };
    assert_non_null(frame.payload);
    assert_true(verbs_serve(&fixture->connection, &frame));
    task_frame_done(&frame);
    int got;
    while ((got = task_reader_next(fixture->reader, &frame, NULL)) == 0)
        assert_int_equal(task_reader_feed(fixture->reader, NULL), 1);
    assert_int_equal(got, 1);
    assert_int_equal(frame.type, TASK_ERROR);
    assert_int_equal(frame.id, 3);
    assert_string_equal(json_get_text(frame.payload, "class", ""), class);
    task_frame_done(&frame);
}

#define EXEC "{\"verb\":\"exec\",\"exec_id\":\"e\",\"process\":{\"args\":[\"true\"]}}"

static void running_execs(void **state)
{
    struct fixture *fixture = *state;
    fixture->shim.exec_len = SHIM_EXEC_MAX;
    expect_refusal(fixture, EXEC, "resource_exhausted");
}

static void events_that_nobody_acknowledges(void **state)
{
    struct fixture *fixture = *state;
    fixture->shim.events.len = SHIM_EVENT_MAX;
    expect_refusal(fixture, EXEC, "resource_exhausted");
    expect_refusal(fixture, "{\"verb\":\"pause\"}", "resource_exhausted");
    expect_refusal(fixture, "{\"verb\":\"attach\"}", "resource_exhausted");
}

static void attached_clients(void **state)
{
    struct fixture *fixture = *state;
    struct client *clients = mem_alloc(SHIM_ATTACH_MAX * sizeof(*clients));
    for (size_t i = 1; i < SHIM_ATTACH_MAX; i++)
        clients[i - 1].next = &clients[i];
    fixture->init.stdio.clients = clients;
    expect_refusal(fixture, "{\"verb\":\"attach\",\"attach\":[{\"fd\":0,\"out\":true}]}", "resource_exhausted");
    clients[0].gone = true; // one left: then only the descriptor is missing
    expect_refusal(fixture, "{\"verb\":\"attach\",\"attach\":[{\"fd\":0,\"out\":true}]}", "invalid_argument");
    free(clients);
}

static void arguments_of_a_wrong_kind(void **state)
{
    static const char *const requests[] = {
        "{\"verb\":\"kill\",\"signal\":\"KILL\"}", "{\"verb\":\"kill\",\"signal\":0}", "{\"verb\":\"kill\",\"signal\":65}",
        "{\"verb\":\"resize\",\"height\":[]}", "{\"verb\":\"attach\",\"attach\":7}", "{\"verb\":\"exec\",\"process\":{}}",
        "{\"verb\":\"exec\",\"exec_id\":\"\",\"process\":{}}", "{\"verb\":\"exec\",\"exec_id\":\"e\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(requests); i++)
        expect_refusal(*state, requests[i], "invalid_argument");
}

static void only_the_daemon_commands(void **state)
{
    struct fixture *fixture = *state;
    struct task_frame frame = { .type = TASK_REQUEST, .payload = json_pack("{s:s}", "verb", "state") };
    fixture->shim.daemon = NULL;
    assert_false(verbs_serve(&fixture->connection, &frame));
    frame.type = TASK_EVENT; // and events do not come this way
    fixture->shim.daemon = &fixture->connection;
    assert_false(verbs_serve(&fixture->connection, &frame));
    task_frame_done(&frame);
}

#define VERBS_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VERBS_TEST(running_execs),
        VERBS_TEST(events_that_nobody_acknowledges),
        VERBS_TEST(attached_clients),
        VERBS_TEST(arguments_of_a_wrong_kind),
        VERBS_TEST(only_the_daemon_commands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
