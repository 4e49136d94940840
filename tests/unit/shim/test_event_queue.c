#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "shim/shim_private.h"

static void numbers_keeps_and_forgets(void **state)
{
    struct event_queue queue = { 0 };
    char id[] = "abc";
    for (int64_t i = 1; i <= 5; i++) {
        const struct task_event *event =
            event_queue_add(&queue, &(struct task_event){ .kind = (char *)"exec_exited", .exec_id = id, .exit_code = i });
        assert_int_equal(event->seq, i);
        assert_true(event->time_ns > 0);
    }
    id[0] = 'x';
    assert_string_equal(queue.first->event.exec_id, "abc");
    assert_true(event_queue_ack(&queue, 3)); // in the middle
    assert_false(event_queue_ack(&queue, 3));
    assert_true(event_queue_ack(&queue, 5)); // the last
    assert_true(event_queue_ack(&queue, 1)); // the first
    assert_false(event_queue_ack(&queue, 77));
    assert_int_equal(queue.len, 2);
    assert_int_equal(event_queue_add(&queue, &(struct task_event){ .kind = (char *)"oom", .time_ns = 9 })->seq, 6);
    static const int64_t left[] = { 2, 4, 6 };
    size_t i = 0;
    for (const struct event *event = queue.first; event; event = event->next)
        assert_int_equal(event->event.seq, left[i++]);
    assert_int_equal(i, 3);
    assert_int_equal(queue.last->event.time_ns, 9);
    event_queue_done(&queue);
    assert_null(queue.first);
    assert_null(queue.last);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(numbers_keeps_and_forgets) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
