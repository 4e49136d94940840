// Waiters, exclusive use, names, stale events, attaches that wait: what the verbs stand on, without a shim.
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "fixture.h"

static bool is_told(const struct engine_waiter *waiter)
{
    struct pollfd poll_fd = { waiter->event_fd, POLLIN, 0 };
    return poll(&poll_fd, 1, 0) == 1;
}

static struct engine_waiter *begin(struct bench *bench, const char *ref, enum engine_condition condition)
{
    struct engine_waiter *waiter = NULL;
    if (engine_wait_begin(&bench->engine, ref, condition, &waiter, &bench->err) < 0)
        fail_msg("%s", bench->err.message);
    return waiter;
}

static void finish(struct container *container, int64_t code, bool removed)
{
    mutex_lock(&container->lock);
    container->state.status = STATUS_EXITED;
    container->state.exit_code = code;
    container->removed = removed;
    container_finish_waiters(container, removed);
    mutex_unlock(&container->lock);
}

static void test_conditions(void **state)
{
    struct bench bench;
    int64_t code;
    bench_open(&bench);
    struct container *container = bench_container(&bench, ID_A, "web", "{}");
    struct engine_waiter *idle = begin(&bench, "web", ENGINE_NOT_RUNNING), *early = begin(&bench, "web", ENGINE_NEXT_EXIT);
    assert_true(is_told(idle)); // it was never started
    assert_false(is_told(early));
    bench_set_status(container, STATUS_RUNNING);
    struct engine_waiter *stop = begin(&bench, ID_A, ENGINE_NOT_RUNNING), *gone = begin(&bench, "aa0", ENGINE_REMOVED);
    assert_false(is_told(stop));
    finish(container, 7, false);
    assert_true(is_told(early) && is_told(stop));
    assert_false(is_told(gone));
    assert_int_equal(engine_wait(stop, NULL, &code, &bench.err), 0);
    assert_int_equal(code, 7);
    finish(container, 7, true);
    assert_int_equal(engine_wait(gone, NULL, &code, &bench.err), 0);
    assert_int_equal(code, 7);
    struct engine_waiter *all[] = { idle, early, stop, gone };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        engine_wait_end(&bench.engine, all[i]);
    assert_null(container->waiters);
    bench_close(&bench);
}

static void test_a_waiter_that_leaves(void **state)
{
    struct bench bench;
    bench_open(&bench);
    struct container *container = bench_container(&bench, ID_A, "web", "{}");
    bench_set_status(container, STATUS_RUNNING);
    struct engine_waiter *first = begin(&bench, "web", ENGINE_NEXT_EXIT), *second = begin(&bench, "web", ENGINE_NEXT_EXIT);
    engine_wait_end(&bench.engine, first);
    finish(container, 1, false);
    assert_true(is_told(second));
    engine_wait_end(&bench.engine, second);
    assert_int_equal(container_await_stop(container, 0, NULL, &bench.err), 1);
    bench_set_status(container, STATUS_RUNNING);
    assert_int_equal(container_await_stop(container, 1000000, NULL, &bench.err), 0);
    bench_close(&bench);
}

static void test_references(void **state)
{
    static const struct {
        const char *ref, *id; // NULL: refused
        enum err_class class;
    } table[] = {
        { ID_A, ID_A, ERR_NONE }, { "web", ID_A, ERR_NONE },      { "/web", ID_A, ERR_NONE }, { "aa", ID_A, ERR_NONE },
        { "ab", ID_B, ERR_NONE }, { "a", NULL, ERR_INVALID_ARGUMENT }, { "x", NULL, ERR_NOT_FOUND }, { "", NULL, ERR_NOT_FOUND },
        { "aa00", ID_B, ERR_NONE }, // a name wins over a prefix
    };
    struct bench bench;
    bench_open(&bench);
    bench_container(&bench, ID_A, "web", "{}");
    bench_container(&bench, ID_B, "aa00", "{}");
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct err err = { 0 };
        _cleanup_container_ struct container *found = container_find(&bench.engine, table[i].ref, &err);
        if (!str_eq(found ? found->id : NULL, table[i].id) || err.class != table[i].class)
            fail_msg("\"%s\": %s", table[i].ref, err.message);
    }
    bench.engine.containers->hidden = true; // still being made
    assert_null(container_find(&bench.engine, ID_B, &bench.err));
    assert_null(container_find(&bench.engine, "ab", &bench.err));
    bench_close(&bench);
}

static void *take_and_note(void *context)
{
    struct container *container = context;
    struct err err = { 0 };
    return (void *)(intptr_t)(container_begin(container, &err) == 0 ? 1 : (int)err.class + 100);
}

static void test_exclusive_use(void **state)
{
    struct bench bench;
    pthread_t other;
    void *result;
    bench_open(&bench);
    struct container *container = bench_container(&bench, ID_A, "web", "{}");
    assert_int_equal(container_begin(container, &bench.err), 0);
    assert_int_equal(pthread_create(&other, NULL, take_and_note, container), 0);
    usleep(20000);
    container_end(container);
    pthread_join(other, &result);
    assert_int_equal((intptr_t)result, 1);
    // Who waits for a container that goes is told so.
    assert_int_equal(pthread_create(&other, NULL, take_and_note, container), 0);
    usleep(20000);
    mutex_lock(&container->lock);
    container->removed = true;
    mutex_unlock(&container->lock);
    container_end(container);
    pthread_join(other, &result);
    assert_int_equal((intptr_t)result, ERR_NOT_FOUND + 100);
    bench_close(&bench);
}

// An event of a connection that is over must not end the run that came after it.
static void test_stale_events(void **state)
{
    struct bench bench;
    bench_open(&bench);
    struct container *container = bench_container(&bench, ID_A, "web", "{}");
    const struct task_event exited = { .seq = 1, .kind = (char *)"exited", .exit_code = 9 };
    container_on_event(container, &exited);
    container_on_closed(container);
    container_drop_client(container);
    bench_set_status(container, STATUS_RUNNING); // started again before a worker came
    assert_int_equal(workers_start(&bench.engine, &bench.err), 0);
    workers_stop(&bench.engine);
    mutex_lock(&container->lock);
    assert_int_equal(container->state.status, STATUS_RUNNING);
    assert_null(container->events);
    assert_false(container->events_scheduled);
    mutex_unlock(&container->lock);
    bench_close(&bench);
}

static void test_jobs_after_the_stop(void **state)
{
    struct bench bench;
    bench_open(&bench);
    struct container *container = bench_container(&bench, ID_A, "web", "{}");
    assert_int_equal(workers_start(&bench.engine, &bench.err), 0);
    workers_stop(&bench.engine);
    container_on_closed(container);
    workers_drop(&bench.engine);
    assert_int_equal(atomic_load(&container->refs), 1);
    bench_close(&bench);
}

static void test_waiting_attaches(void **state)
{
    struct bench bench;
    const struct engine_attach attach = { .out = true, .stream = true };
    int ends[PENDING_MAX + 1][2];
    char id[65];
    bool terminal;
    bench_open(&bench);
    struct container *container = bench_container(&bench, ID_A, "web", "{}");
    for (size_t i = 0; i <= PENDING_MAX; i++) {
        assert_int_equal(fd_socketpair(SOCK_STREAM, ends[i], &bench.err), 0);
        assert_int_equal(engine_attach_begin(&bench.engine, "web", id, &terminal, &bench.err), 0);
        int result = engine_attach(&bench.engine, id, &attach, ends[i][0], &bench.err);
        assert_int_equal(result, i < PENDING_MAX ? 0 : -1);
    }
    assert_int_equal(bench.err.class, ERR_RESOURCE_EXHAUSTED);
    // One leaves, one closes only his side for writing: one place is free again.
    fd_close(ends[0][1]);
    shutdown(ends[1][1], SHUT_WR);
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends[0], &bench.err), 0);
    assert_int_equal(engine_attach(&bench.engine, id, &attach, ends[0][0], &bench.err), 0);
    mutex_lock(&container->lock);
    size_t len = 0;
    for (struct pending_attach *pending = container->pending; pending; pending = pending->next)
        len++;
    assert_int_equal(len, PENDING_MAX);
    assert_int_equal(container->attaching, 0);
    container_drop_pending(container);
    mutex_unlock(&container->lock);
    char byte;
    assert_int_equal(read(ends[1][1], &byte, 1), 0); // the end of the stream
    for (size_t i = 0; i <= PENDING_MAX; i++)
        fd_close(ends[i][1]);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conditions),    cmocka_unit_test(test_a_waiter_that_leaves),
        cmocka_unit_test(test_references),    cmocka_unit_test(test_exclusive_use),
        cmocka_unit_test(test_stale_events),  cmocka_unit_test(test_jobs_after_the_stop),
        cmocka_unit_test(test_waiting_attaches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
