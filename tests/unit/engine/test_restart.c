// Restart policies: who is started again, how long it waits, and the queue of what is due later.
#include <signal.h>

#include "fixture.h"

static struct container *with_policy(struct bench *bench, const char *policy, int64_t max)
{
    char body[128];
    snprintf(body, sizeof(body), "{\"HostConfig\":{\"RestartPolicy\":{\"Name\":\"%s\",\"MaximumRetryCount\":%lld}}}", policy, (long long)max);
    struct container *container = bench_container(bench, ID_A, "web", body);
    bench->engine.serving = true;
    bench_set_status(container, STATUS_RUNNING);
    return container;
}

static bool due(struct container *container, int64_t code, int64_t lived_ns)
{
    mutex_lock(&container->lock);
    bool result = restart_due(container, code, lived_ns);
    mutex_unlock(&container->lock);
    return result;
}

static void test_policies(void **state)
{
    static const struct {
        const char *policy;
        int64_t max, code, count;
        bool stop_wanted, again;
    } table[] = {
        { "", 0, 1, 0, false, false },
        { "no", 0, 1, 0, false, false },
        { "always", 0, 0, 900, false, true },
        { "always", 0, 0, 0, true, true },
        { "unless-stopped", 0, 0, 0, false, true },
        { "unless-stopped", 0, 0, 0, true, false },
        { "on-failure", 0, 0, 0, false, false },
        { "on-failure", 0, 1, 5000, true, true },
        { "on-failure", 3, 1, 2, false, true },
        { "on-failure", 3, 1, 3, false, false },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct bench bench;
        bench_open(&bench);
        struct container *container = with_policy(&bench, table[i].policy, table[i].max);
        container->state.restart_count = table[i].count;
        container->state.stop_wanted = table[i].stop_wanted;
        assert_int_equal(due(container, table[i].code, 0), table[i].again);
        container->restart_cancelled = true;
        assert_false(due(container, table[i].code, 0));
        container->restart_cancelled = false;
        bench.engine.serving = false;
        assert_false(due(container, table[i].code, 0));
        bench_close(&bench);
    }
}

static void test_the_wait(void **state)
{
    static const int64_t ms[] = { 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000 };
    struct bench bench;
    bench_open(&bench);
    struct container *container = with_policy(&bench, "always", 0);
    for (size_t i = 0; i < ARRAY_LEN(ms); i++) {
        assert_true(due(container, 0, 9 * NS_PER_S));
        assert_int_equal(container->backoff_ns, ms[i] * NS_PER_MS);
    }
    assert_true(due(container, 0, 10 * NS_PER_S));
    assert_int_equal(container->backoff_ns, 100 * NS_PER_MS);
    bench_close(&bench);
}

static void test_signals(void **state)
{
    struct bench bench;
    bench_open(&bench);
    struct container *container = with_policy(&bench, "always", 0);
    container->config.process.stop_signal = (char *)"SIGTERM";
    container->state.stop_wanted = true; // no record to write
    assert_false(restart_call_off(container, SIGUSR1));
    assert_false(container->restart_cancelled);
    assert_false(restart_call_off(container, SIGTERM));
    assert_true(container->restart_cancelled);
    container->restart_cancelled = false;
    assert_false(restart_call_off(container, SIGKILL));
    assert_true(container->restart_cancelled);
    container->restart_cancelled = false;
    container->config.process.stop_signal = NULL;
    assert_false(restart_call_off(container, SIGUSR1));
    assert_true(container->restart_cancelled);
    bench_close(&bench);
}

static struct loop *stop_after_last;
static size_t order_len;
static char order[8][65];

static void note(struct container *container)
{
    memcpy(order[order_len++], container->id, 65);
    if (order_len == 2)
        loop_stop(stop_after_last);
}

static void never(struct container *container)
{
    fail_msg("it was cancelled");
}

static void test_later(void **state)
{
    struct bench bench;
    bench_open(&bench);
    struct container *a = bench_container(&bench, ID_A, "a", "{}"), *b = bench_container(&bench, ID_B, "b", "{}");
    struct pool *pool = &bench.engine.workers;
    stop_after_last = bench.engine.loop;
    assert_int_equal(workers_start(&bench.engine, &bench.err), 0);
    later_queue(a, pool, note, NS_PER_S * 3600); // replaced
    later_queue(b, pool, note, 20 * NS_PER_MS);
    later_queue(a, pool, note, 500 * NS_PER_MS);
    later_queue(a, pool, never, 40 * NS_PER_MS);
    later_cancel(a, never);
    assert_int_equal(atomic_load(&a->refs), 2);
    assert_int_equal(loop_run(bench.engine.loop, &bench.err), 0);
    workers_stop(&bench.engine);
    assert_string_equal(order[0], ID_B);
    assert_string_equal(order[1], ID_A);
    later_queue(a, pool, never, NS_PER_S * 3600); // left for workers_drop()
    bench_close(&bench);
}

// What waits for a starter when a daemon begins, taken off by hand.
static struct job *queued(struct bench *bench)
{
    struct pool *pool = &bench->engine.starters;
    mutex_lock(&pool->lock);
    struct job *job = pool->jobs;
    mutex_unlock(&pool->lock);
    return job;
}

static struct container *ended(struct bench *bench, const char *id, const char *name, const char *body)
{
    struct container *container = bench_container(bench, id, name, body);
    bench_set_status(container, STATUS_EXITED);
    container->state.started_ns = 1;
    return container;
}

static void test_a_stop_while_a_start_is_queued(void **state)
{
    struct bench bench;
    bench_open(&bench);
    struct container *container = ended(&bench, ID_A, "web", "{\"HostConfig\":{\"RestartPolicy\":{\"Name\":\"always\"}}}");
    engine_resume(&bench.engine);
    struct job *job = queued(&bench);
    assert_non_null(job);
    assert_int_equal(engine_stop(&bench.engine, "web", "", -1, NULL, &bench.err), -1);
    assert_int_equal(bench.err.class, ERR_NOT_MODIFIED);
    job->fn(container);
    assert_true(container->restart_cancelled);
    assert_null(container->state.error); // there was no try
    bench_close(&bench);
}

static void test_who_shares_waits(void **state)
{
    struct bench bench;
    bench_open(&bench);
    ended(&bench, ID_A, "pod", "{\"HostConfig\":{\"RestartPolicy\":{\"Name\":\"always\"}}}");
    struct container *second = ended(&bench, ID_B, "beside",
                                     "{\"HostConfig\":{\"NetworkMode\":\"container:" ID_A "\",\"RestartPolicy\":{\"Name\":\"always\"}}}");
    assert_int_equal(workers_start(&bench.engine, &bench.err), 0);
    workers_stop(&bench.engine); // nobody takes off what is queued
    engine_resume(&bench.engine);
    struct job *first = queued(&bench);
    assert_string_equal(first->container->id, ID_A);
    assert_string_equal(first->next->container->id, ID_B);
    first->next->fn(second);
    assert_null(second->state.error);
    assert_ptr_equal(bench.engine.later->container, second);
    bench_close(&bench);
}

static void test_starts_that_wait_are_dropped(void **state)
{
    struct bench bench;
    bench_open(&bench);
    struct container *container = bench_container(&bench, ID_A, "a", "{}");
    bench.engine.starters.stopping = true;
    pool_queue(container, &bench.engine.starters, never);
    assert_int_equal(workers_start(&bench.engine, &bench.err), 0);
    workers_stop(&bench.engine);
    assert_non_null(queued(&bench)); // workers_drop()'s
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policies),
        cmocka_unit_test(test_the_wait),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_later),
        cmocka_unit_test(test_a_stop_while_a_start_is_queued),
        cmocka_unit_test(test_who_shares_waits),
        cmocka_unit_test(test_starts_that_wait_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
