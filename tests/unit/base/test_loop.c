#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/loop.h"

struct fixture {
    struct loop *loop;
    int pipes[2][2];
    struct loop_source *sources[3];
    int calls[3];
    int64_t fired_ns[3];
};

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(struct fixture);
    *state = fixture;
    return loop_new(&fixture->loop, NULL) < 0 || fd_pipe(fixture->pipes[0], NULL) < 0 || fd_pipe(fixture->pipes[1], NULL) < 0
               ? -1
               : 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    loop_free(fixture->loop);
    for (size_t i = 0; i < 4; i++)
        fd_close(fixture->pipes[i / 2][i % 2]);
    free(fixture);
    return 0;
}

static void stop(void *context)
{
    struct fixture *fixture = context;
    loop_stop(fixture->loop);
}

static void run(struct fixture *fixture)
{
    struct err err;
    assert_int_equal(loop_run(fixture->loop, &err), 0);
}

// ---- descriptors ----------------------------------------------------------------------------------------------------

static void read_one(void *context, int fd, uint32_t events)
{
    struct fixture *fixture = context;
    char c;
    if (!(events & EPOLLIN)) { // only the hang-up is left
        fixture->calls[1]++;
        loop_stop(fixture->loop);
        return;
    }
    fixture->calls[0]++;
    if (read(fd, &c, 1) != 1)
        abort();
}

static void level_triggered_until_the_end(void **state)
{
    struct fixture *fixture = *state;
    struct err err;
    assert_int_equal(write(fixture->pipes[0][1], "abc", 3), 3);
    fd_close(take_fd(&fixture->pipes[0][1]));
    assert_int_equal(loop_add_fd(fixture->loop, fixture->pipes[0][0], EPOLLIN, read_one, fixture, &fixture->sources[0], &err), 0);
    run(fixture);
    assert_int_equal(fixture->calls[0], 3); // one byte a call, so one call a byte
    assert_int_equal(fixture->calls[1], 1);
    loop_remove(fixture->sources[0]);
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_int_equal(loop_add_fd(fixture->loop, file, EPOLLIN, read_one, fixture, &fixture->sources[0], &err), -1);
    assert_int_equal(err.class, ERR_PERMISSION_DENIED); // a plain file cannot be watched
    fd_close(file);
}

static void on_quiet(void *context, int fd, uint32_t events)
{
    struct fixture *fixture = context;
    fixture->calls[0]++;
    if (fixture->calls[0] == 1) {
        loop_set_events(fixture->sources[0], 0); // still readable, but no longer asked for
        loop_add_timer(fixture->loop, 20 * NS_PER_MS, stop, fixture, &fixture->sources[1], NULL);
    } else {
        loop_stop(fixture->loop);
    }
}

static void events_can_be_paused(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(write(fixture->pipes[0][1], "a", 1), 1);
    loop_add_fd(fixture->loop, fixture->pipes[0][0], EPOLLIN, on_quiet, fixture, &fixture->sources[0], NULL);
    run(fixture);
    assert_int_equal(fixture->calls[0], 1);
    loop_set_events(fixture->sources[0], EPOLLIN);
    run(fixture); // the loop runs again after a stop
    assert_int_equal(fixture->calls[0], 2);
}

// Whichever of the two comes first removes both: the other's event, already fetched, must not be delivered.
static void remove_both(void *context, int fd, uint32_t events)
{
    struct fixture *fixture = context;
    fixture->calls[0]++;
    loop_remove(fixture->sources[0]);
    loop_remove(fixture->sources[1]);
    loop_remove(fixture->sources[1]); // twice in one turn is fine
    loop_set_events(fixture->sources[0], EPOLLIN); // and says nothing
    loop_set_timer(fixture->sources[2], 1);
}

static void removal_inside_a_callback(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(write(fixture->pipes[i][1], "a", 1), 1);
        loop_add_fd(fixture->loop, fixture->pipes[i][0], EPOLLIN, remove_both, fixture, &fixture->sources[i], NULL);
    }
    loop_add_timer(fixture->loop, -1, stop, fixture, &fixture->sources[2], NULL);
    run(fixture);
    assert_int_equal(fixture->calls[0], 1);
    loop_remove(fixture->sources[2]);
    loop_remove(NULL);
}

// ---- timers ---------------------------------------------------------------------------------------------------------

static void note_first(void *context)
{
    struct fixture *fixture = context;
    fixture->calls[0]++;
    fixture->fired_ns[0] = clock_mono_ns();
}

static void note_second(void *context)
{
    struct fixture *fixture = context;
    fixture->calls[1]++;
    fixture->fired_ns[1] = clock_mono_ns();
    if (fixture->calls[1] == 1) { // armed again, it fires again
        loop_set_timer(fixture->sources[1], 0);
    } else {
        loop_remove(fixture->sources[1]);
        loop_stop(fixture->loop);
    }
}

static void never(void *context)
{
    abort();
}

static void timers_fire_once_and_in_order(void **state)
{
    struct fixture *fixture = *state;
    struct err err;
    int64_t start = clock_mono_ns();
    assert_int_equal(loop_add_timer(fixture->loop, 30 * NS_PER_MS, note_second, fixture, &fixture->sources[1], &err), 0);
    assert_int_equal(loop_add_timer(fixture->loop, 10 * NS_PER_MS, note_first, fixture, &fixture->sources[0], &err), 0);
    assert_int_equal(loop_add_timer(fixture->loop, 5 * NS_PER_MS, never, NULL, &fixture->sources[2], &err), 0);
    loop_set_timer(fixture->sources[2], -1);
    run(fixture);
    assert_int_equal(fixture->calls[0], 1);
    assert_int_equal(fixture->calls[1], 2);
    assert_true(fixture->fired_ns[0] - start >= 10 * NS_PER_MS);
    assert_true(fixture->fired_ns[1] - start >= 30 * NS_PER_MS);
    loop_remove(fixture->sources[0]);
    loop_remove(fixture->sources[2]);
}

// Two timers are due in one turn; the first to run takes the other away.
static void disarm_other(void *context)
{
    struct fixture *fixture = context;
    fixture->calls[0]++;
    for (int i = 0; i < 2; i++)
        loop_set_timer(fixture->sources[i], -1);
    loop_stop(fixture->loop);
}

static void disarmed_in_the_turn_it_is_due(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < 2; i++)
        loop_add_timer(fixture->loop, 0, disarm_other, fixture, &fixture->sources[i], NULL);
    usleep(1000);
    run(fixture);
    assert_int_equal(fixture->calls[0], 1);
}

// ---- other threads --------------------------------------------------------------------------------------------------

enum { THREADS = 4, POSTS = 1000 };

static void count(void *context)
{
    struct fixture *fixture = context;
    if (++fixture->calls[0] == THREADS * POSTS)
        loop_stop(fixture->loop);
}

static void *post_many(void *context)
{
    struct fixture *fixture = context;
    for (int i = 0; i < POSTS; i++)
        loop_post(fixture->loop, count, fixture);
    return NULL;
}

static void posts_from_threads(void **state)
{
    struct fixture *fixture = *state;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, fixture), 0);
    run(fixture);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(fixture->calls[0], THREADS * POSTS);
}

static void post_third(void *context)
{
    struct fixture *fixture = context;
    assert_int_equal(fixture->calls[0]++, 2);
    loop_stop(fixture->loop);
}

static void post_in_order(void *context)
{
    struct fixture *fixture = context;
    if (fixture->calls[0]++ == 0)
        loop_post(fixture->loop, post_third, fixture); // behind what is posted already
}

static void posts_keep_their_order(void **state)
{
    struct fixture *fixture = *state;
    loop_post(fixture->loop, post_in_order, fixture);
    loop_post(fixture->loop, post_in_order, fixture);
    run(fixture);
    assert_int_equal(fixture->calls[0], 3);
}

static void stop_ahead_of_run(void **state)
{
    struct fixture *fixture = *state;
    loop_post(fixture->loop, never, NULL); // dropped by loop_free()
    loop_stop(fixture->loop);
    run(fixture);
}

static void free_takes_what_is_left(void **state)
{
    struct fixture *fixture = *state;
    loop_add_timer(fixture->loop, NS_PER_S, never, NULL, &fixture->sources[0], NULL);
    loop_add_fd(fixture->loop, fixture->pipes[0][0], EPOLLIN, read_one, fixture, &fixture->sources[1], NULL);
    loop_free(NULL);
}

#define LOOP_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(level_triggered_until_the_end),
        LOOP_TEST(events_can_be_paused),
        LOOP_TEST(removal_inside_a_callback),
        LOOP_TEST(timers_fire_once_and_in_order),
        LOOP_TEST(disarmed_in_the_turn_it_is_due),
        LOOP_TEST(posts_from_threads),
        LOOP_TEST(posts_keep_their_order),
        LOOP_TEST(stop_ahead_of_run),
        LOOP_TEST(free_takes_what_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
