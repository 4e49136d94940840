// The event bus: the ring, its windows of time, listeners that wait.
#include <pthread.h>

#include "fixture.h"

struct seen {
    struct buf text; // actions, blanks between
    size_t len, stop_after; // 0: never
    int64_t last_ns;
};

static int see(void *context, const struct engine_event *event)
{
    struct seen *seen = context;
    buf_addf(&seen->text, seen->len ? " %s" : "%s", event->action);
    seen->len++;
    assert_true(event->time_ns >= seen->last_ns);
    seen->last_ns = event->time_ns;
    return seen->stop_after && seen->len == seen->stop_after ? -1 : 0;
}

static void listen_past(struct bench *bench, int64_t since_ns, struct seen *seen)
{
    *seen = (struct seen){ .text = BUF_INIT(1 << 20) };
    assert_int_equal(engine_events(&bench->engine, since_ns, clock_wall_ns(), see, seen, NULL, &bench->err), 0);
}

static void test_past(void **state)
{
    struct bench bench;
    struct seen seen;
    bench_open(&bench);
    event_publish(&bench.engine, "image", "load", ID_A, "name", "a", NULL);
    usleep(2000);
    int64_t between_ns = clock_wall_ns();
    event_publish(&bench.engine, "image", "tag", ID_A, "name", "b", NULL);
    listen_past(&bench, 1, &seen);
    assert_string_equal(buf_text(&seen.text), "load tag");
    buf_done(&seen.text);
    listen_past(&bench, between_ns, &seen);
    assert_string_equal(buf_text(&seen.text), "tag");
    buf_done(&seen.text);
    listen_past(&bench, 0, &seen); // no wish for the past
    assert_int_equal(seen.len, 0);
    buf_done(&seen.text);
    bench_close(&bench);
}

static void test_until(void **state)
{
    struct bench bench;
    struct seen seen = { .text = BUF_INIT(1 << 20) };
    bench_open(&bench);
    event_publish(&bench.engine, "image", "load", ID_A, NULL);
    int64_t between_ns = clock_wall_ns();
    usleep(2000);
    event_publish(&bench.engine, "image", "tag", ID_A, NULL);
    assert_int_equal(engine_events(&bench.engine, 1, between_ns, see, &seen, NULL, &bench.err), 0);
    assert_string_equal(buf_text(&seen.text), "load");
    buf_done(&seen.text);
    bench_close(&bench);
}

static void test_overflow(void **state)
{
    struct bench bench;
    struct seen seen;
    bench_open(&bench);
    for (int i = 0; i < 300; i++) {
        char action[16];
        snprintf(action, sizeof(action), "n%d", i);
        event_publish(&bench.engine, "image", action, ID_A, NULL);
    }
    listen_past(&bench, 1, &seen);
    assert_int_equal(seen.len, EVENT_RING);
    assert_true(str_starts(buf_text(&seen.text), "n44 n45 "));
    buf_done(&seen.text);
    bench_close(&bench);
}

static void *publish_some(void *context)
{
    struct bench *bench = context;
    usleep(30000);
    event_publish(&bench->engine, "image", "a", ID_A, NULL);
    usleep(30000);
    event_publish(&bench->engine, "image", "b", ID_A, NULL);
    return NULL;
}

static void test_live(void **state)
{
    struct bench bench;
    struct seen seen = { .text = BUF_INIT(1 << 20), .stop_after = 2 };
    pthread_t publisher;
    bench_open(&bench);
    event_publish(&bench.engine, "image", "before", ID_A, NULL);
    assert_int_equal(pthread_create(&publisher, NULL, publish_some, &bench), 0);
    assert_int_equal(engine_events(&bench.engine, 0, 0, see, &seen, NULL, &bench.err), 0);
    pthread_join(publisher, NULL);
    assert_string_equal(buf_text(&seen.text), "a b");
    assert_null(bench.engine.subscribers);
    buf_done(&seen.text);
    bench_close(&bench);
}

static int keep_attributes(void *context, const struct engine_event *event)
{
    struct buf *text = context;
    for (size_t i = 0; i < event->attributes.len; i++)
        buf_addf(text, "%s=%.20s;", event->attributes.items[i].key, event->attributes.items[i].value);
    return 0;
}

static void test_attributes(void **state)
{
    struct bench bench;
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    bench_open(&bench);
    struct container *container = bench_container(&bench, ID_A, "web", "{\"Labels\":{\"l\":\"v\"}}");
    event_container(container, "die", "exitCode", "3", NULL);
    assert_int_equal(engine_events(&bench.engine, 1, clock_wall_ns(), keep_attributes, &text, NULL, &bench.err), 0);
    assert_string_equal(buf_text(&text), "l=v;image=busybox;name=web;exitCode=3;");
    bench_close(&bench);
}

// 256 events with labels of megabytes would be all of a small machine.
static void test_huge_labels(void **state)
{
    struct bench bench;
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    _cleanup_free_ char *huge = mem_alloc(70001);
    bench_open(&bench);
    memset(huge, 'x', 70000);
    struct container *container = bench_container(&bench, ID_A, "web", "{\"Labels\":{\"l\":\"v\"}}");
    container->config.process.labels.items[0].value = arena_strdup(&container->arena, huge);
    event_container(container, "die", NULL);
    assert_int_equal(engine_events(&bench.engine, 1, clock_wall_ns(), keep_attributes, &text, NULL, &bench.err), 0);
    assert_string_equal(buf_text(&text), "image=busybox;name=web;");
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_past), cmocka_unit_test(test_until),      cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_live), cmocka_unit_test(test_attributes), cmocka_unit_test(test_huge_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
