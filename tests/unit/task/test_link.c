#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "json/json.h"
#include "task/link.h"
#include "task/link_private.h"
#include "task/task_private.h"

#define SESSION 7

// Both ends in one loop: the host and the guest of a link, and what each of them heard.
struct end {
    struct link *link;
    json_t *hello, *last_event, *last_request, *answer;
    uint64_t request_id;
    bool closed, failed;
    unsigned readies, ended;
    struct err why, error;
    bool lose_on_request;
};

struct fixture {
    struct loop *loop;
    struct end host, guest;
};

static void on_link_ready(void *context, const json_t *hello)
{
    struct end *end = context;
    end->readies++;
    end->hello = json_deep_copy(hello);
}

static void on_request(void *context, uint64_t id, json_t *payload)
{
    struct end *end = context;
    json_decref(end->last_request);
    end->last_request = json_incref(payload);
    end->request_id = id;
    if (end->lose_on_request)
        link_lose(end->link);
}

static void on_event(void *context, json_t *payload)
{
    struct end *end = context;
    json_decref(end->last_event);
    end->last_event = json_incref(payload);
}

static void on_closed(void *context, const struct err *why)
{
    struct end *end = context;
    end->closed = true;
    end->why = *why;
}

static void on_answer(void *context, json_t *result, const struct err *error)
{
    struct end *end = context;
    end->answer = json_incref(result);
    end->failed = !result;
    if (!result)
        end->error = *error;
}

static void on_ended(void *context)
{
    struct end *end = context;
    end->ended++;
}

static const struct link_handlers handlers = { on_link_ready, on_request, on_event, on_closed };

static void stop(void *context)
{
    loop_stop(context);
}

static void turn(struct fixture *fixture, int64_t ns)
{
    struct loop_source *timer;
    assert_int_equal(loop_add_timer(fixture->loop, ns, stop, fixture->loop, &timer, NULL), 0);
    assert_int_equal(loop_run(fixture->loop, NULL), 0);
    loop_remove(timer);
}

// Runs the loop until *flag or 10 s.
#define until(fixture, condition)                                                                       \
    do {                                                                                                \
        int64_t deadline = clock_mono_ns() + 10 * NS_PER_S;                                             \
        bool met;                                                                                       \
        while (!(met = (condition)) && clock_mono_ns() < deadline)                                      \
            turn((fixture), NS_PER_MS);                                                                 \
        assert_true(met);                                                                               \
    } while (0)

static void connect_ends(struct fixture *fixture)
{
    int ends[2];
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    assert_int_equal(link_connect(fixture->host.link, ends[0], NULL), 0);
    assert_int_equal(link_connect(fixture->guest.link, ends[1], NULL), 0);
}

static int setup(void **state)
{
    struct fixture *fixture = mem_new(struct fixture);
    _cleanup_json_ json_t *hello = json_pack("{s:s}", "kernel", "6.1");
    assert_int_equal(loop_new(&fixture->loop, NULL), 0);
    assert_int_equal(link_new(fixture->loop, LINK_HOST, SESSION, NULL, &handlers, &fixture->host, &fixture->host.link, NULL), 0);
    assert_int_equal(link_new(fixture->loop, LINK_GUEST, 0, hello, &handlers, &fixture->guest, &fixture->guest.link, NULL), 0);
    *state = fixture;
    return 0;
}

static void end_done(struct end *end)
{
    link_free(end->link);
    json_decref(end->hello);
    json_decref(end->last_event);
    json_decref(end->last_request);
    json_decref(end->answer);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    end_done(&fixture->host);
    end_done(&fixture->guest);
    loop_free(fixture->loop);
    free(fixture);
    return 0;
}

// ---- verbs ----------------------------------------------------------------------------------------------------------

static void hellos_are_exchanged(void **state)
{
    struct fixture *fixture = *state;
    assert_false(link_is_ready(fixture->host.link));
    connect_ends(fixture);
    until(fixture, fixture->host.readies && fixture->guest.readies);
    assert_string_equal(json_get_text(fixture->host.hello, "kernel", ""), "6.1");
    assert_int_equal(json_get_int(fixture->guest.hello, "session", 0), SESSION);
    assert_true(link_is_ready(fixture->host.link));
}

static void verbs_that_came_early_are_answered(void **state)
{
    struct fixture *fixture = *state;
    _cleanup_json_ json_t *arguments = json_pack("{s:i}", "signal", 9), *result = json_pack("{s:i}", "pid", 12);
    assert_int_equal(link_call(fixture->host.link, "kill", arguments, on_answer, &fixture->host, NULL), 0);
    _cleanup_json_ json_t *event = json_pack("{s:s}", "kind", "oom");
    link_event(fixture->guest.link, event);
    connect_ends(fixture);
    until(fixture, fixture->guest.last_request && fixture->host.last_event);
    assert_string_equal(json_get_text(fixture->guest.last_request, "verb", ""), "kill");
    assert_int_equal(json_get_int(fixture->guest.last_request, "signal", 0), 9);
    assert_string_equal(json_get_text(fixture->host.last_event, "kind", ""), "oom");
    assert_null(json_object_get(arguments, "verb"));
    link_answer(fixture->guest.link, fixture->guest.request_id, result);
    until(fixture, fixture->host.answer);
    assert_int_equal(json_get_int(fixture->host.answer, "pid", 0), 12);
}

static void errors_come_back_as_they_are(void **state)
{
    struct fixture *fixture = *state;
    struct err error;
    connect_ends(fixture);
    link_call(fixture->host.link, "start", NULL, on_answer, &fixture->host, NULL);
    until(fixture, fixture->guest.last_request);
    err_errno(&error, 2, "exec: \"x\"");
    link_answer_error(fixture->guest.link, fixture->guest.request_id, &error);
    until(fixture, fixture->host.failed);
    assert_int_equal(fixture->host.error.class, ERR_NOT_FOUND);
    assert_int_equal(fixture->host.error.number, 2);
    assert_string_equal(fixture->host.error.message, "exec: \"x\": no such file or directory");
}

static void a_lost_guest_fails_its_calls(void **state)
{
    struct fixture *fixture = *state;
    connect_ends(fixture);
    link_call(fixture->host.link, "start", NULL, on_answer, &fixture->host, NULL);
    until(fixture, fixture->guest.last_request);
    link_lose(fixture->host.link);
    assert_true(fixture->host.failed);
    assert_int_equal(fixture->host.error.class, ERR_UNAVAILABLE);
    assert_int_equal(link_call(fixture->host.link, "start", NULL, on_answer, &fixture->host, NULL), -1);
    until(fixture, fixture->guest.closed);
    assert_int_equal(fixture->guest.why.class, ERR_UNAVAILABLE);
}

// ---- streams --------------------------------------------------------------------------------------------------------

struct pipe_stream {
    int outer; // the test's end
    struct link_stream *stream;
};

// A stream whose `end` reads from a pipe that the test writes, or the other way round.
static struct pipe_stream open_stream(struct end *end, uint32_t number, bool reads)
{
    struct pipe_stream made;
    int ends[2];
    assert_int_equal(fd_pipe(ends, NULL), 0);
    made.outer = reads ? ends[1] : ends[0];
    assert_int_equal(link_stream_open(end->link, number, reads ? ends[0] : -1, reads ? -1 : ends[1], on_ended, end, &made.stream,
                                      NULL), 0);
    assert_int_equal(fd_set_nonblock(made.outer, true, NULL), 0);
    return made;
}

static uint8_t pattern(size_t at)
{
    return (uint8_t)(at * 31 + at / 251);
}

// As much as goes into the pipe now.
static size_t pump_in(int fd, size_t done, size_t size)
{
    uint8_t bytes[4096];
    while (done < size) {
        size_t part = MIN_OF(sizeof(bytes), size - done);
        for (size_t i = 0; i < part; i++)
            bytes[i] = pattern(done + i);
        ssize_t wrote = write(fd, bytes, part);
        if (wrote <= 0)
            break;
        done += (size_t)wrote;
    }
    return done;
}

// Checks what comes out; -1 at its end.
static ssize_t pump_out(int fd, size_t done)
{
    uint8_t bytes[4096];
    ssize_t got, all = 0;
    while ((got = read(fd, bytes, sizeof(bytes))) > 0) {
        for (ssize_t i = 0; i < got; i++)
            assert_int_equal(bytes[i], pattern(done + (size_t)all + (size_t)i));
        all += got;
    }
    return got == 0 && all == 0 ? -1 : all;
}

static void bytes_arrive_in_order_to_their_end(void **state)
{
    struct fixture *fixture = *state;
    const size_t size = 3u << 20;
    connect_ends(fixture);
    struct pipe_stream from = open_stream(&fixture->guest, 2, true), to = open_stream(&fixture->host, 2, false);
    size_t in = 0, out = 0;
    ssize_t got = 0;
    while (in < size || out < size) {
        in = pump_in(from.outer, in, size);
        turn(fixture, NS_PER_MS / 4);
        got = pump_out(to.outer, out);
        out += got > 0 ? (size_t)got : 0;
    }
    close(from.outer);
    until(fixture, fixture->host.ended && fixture->guest.ended);
    assert_int_equal(pump_out(to.outer, out), -1);
    close(to.outer);
}

static void who_reads_nothing_blocks_its_own_stream_alone(void **state)
{
    struct fixture *fixture = *state;
    connect_ends(fixture);
    struct pipe_stream from = open_stream(&fixture->guest, 2, true), to = open_stream(&fixture->host, 2, false);
    struct pipe_stream other = open_stream(&fixture->guest, 3, true), reader = open_stream(&fixture->host, 3, false);
    size_t in = 0, before = 1;
    while (in != before) {
        before = in;
        in = pump_in(from.outer, in, 64u << 20);
        turn(fixture, 5 * NS_PER_MS);
    }
    assert_true(in >= LINK_WINDOW && in <= LINK_WINDOW + (256u << 10)); // a window and two pipes
    assert_int_equal(pump_in(other.outer, 0, 1000), 1000);
    size_t out = 0;
    ssize_t got = 0;
    until(fixture, ((got = pump_out(reader.outer, out)) < 0 ? out : (out += (size_t)got)) == 1000);
    link_stream_drop(from.stream);
    link_stream_drop(to.stream);
    close(from.outer);
    close(to.outer);
    close(other.outer);
    until(fixture, fixture->host.ended == 1 && fixture->guest.ended == 1);
    close(reader.outer);
}

static void a_reader_that_leaves_ends_the_writer(void **state)
{
    struct fixture *fixture = *state;
    connect_ends(fixture);
    struct pipe_stream from = open_stream(&fixture->guest, 2, true), to = open_stream(&fixture->host, 2, false);
    close(to.outer);
    assert_int_equal(pump_in(from.outer, 0, 100), 100);
    until(fixture, fixture->host.ended && fixture->guest.ended);
    assert_int_equal(fd_write_some(from.outer, "x", 1), -1);
    close(from.outer);
}

static void a_finished_stream_sends_what_is_there(void **state)
{
    struct fixture *fixture = *state;
    connect_ends(fixture);
    struct pipe_stream from = open_stream(&fixture->guest, 2, true), to = open_stream(&fixture->host, 2, false);
    size_t in = pump_in(from.outer, 0, 1u << 20); // as much as a pipe holds; its writer stays
    link_stream_finish(from.stream);
    size_t out = 0;
    ssize_t got = 0;
    until(fixture, (got = pump_out(to.outer, out)) == -1 || (out += (size_t)got, false));
    assert_int_equal(out, in);
    assert_int_equal(fixture->guest.ended, 1);
    close(from.outer);
    close(to.outer);
}

static void a_finish_without_credit_waits_for_it(void **state)
{
    struct fixture *fixture = *state;
    connect_ends(fixture);
    struct pipe_stream from = open_stream(&fixture->guest, 2, true), to = open_stream(&fixture->host, 2, false);
    size_t in = 0, before = 1, out = 0;
    ssize_t got = 0;
    while (in != before) {
        before = in;
        in = pump_in(from.outer, in, 64u << 20);
        turn(fixture, 5 * NS_PER_MS);
    }
    link_stream_finish(from.stream);
    assert_int_equal(fixture->guest.ended, 0);
    until(fixture, (got = pump_out(to.outer, out)) == -1 || (out += (size_t)got, false));
    assert_int_equal(out, in);
    close(from.outer);
    close(to.outer);
}

static void what_arrived_is_written_after_the_guest_is_lost(void **state)
{
    struct fixture *fixture = *state;
    const size_t size = 200u << 10; // more than a pipe holds
    connect_ends(fixture);
    struct pipe_stream from = open_stream(&fixture->guest, 2, true), to = open_stream(&fixture->host, 2, false);
    size_t in = 0, out = 0;
    while (in < size) {
        in = pump_in(from.outer, in, size);
        turn(fixture, NS_PER_MS);
    }
    turn(fixture, 20 * NS_PER_MS);
    link_free(take_ptr(&fixture->guest.link));
    link_lose(fixture->host.link);
    ssize_t got = 0;
    until(fixture, (got = pump_out(to.outer, out)) == -1 || (out += (size_t)got, false));
    assert_int_equal(out, size);
    assert_int_equal(fixture->host.ended, 1);
    close(from.outer);
    close(to.outer);
}

static void two_descriptors_carry_both_ways(void **state)
{
    struct fixture *fixture = *state;
    int near[2], far[2];
    struct link_stream *stream;
    connect_ends(fixture);
    assert_int_equal(fd_socketpair(SOCK_STREAM, near, NULL), 0);
    assert_int_equal(fd_socketpair(SOCK_STREAM, far, NULL), 0);
    assert_int_equal(link_stream_open(fixture->host.link, 9, fd_dup(near[0], NULL), near[0], on_ended, &fixture->host, &stream,
                                      NULL), 0);
    assert_int_equal(link_stream_open(fixture->guest.link, 9, fd_dup(far[0], NULL), far[0], on_ended, &fixture->guest, &stream,
                                      NULL), 0);
    assert_int_equal(write(near[1], "to", 2), 2);
    assert_int_equal(write(far[1], "fro", 3), 3);
    char there[8] = { 0 }, back[8] = { 0 };
    until(fixture, recv(far[1], there, sizeof(there), MSG_DONTWAIT) > 0);
    until(fixture, recv(near[1], back, sizeof(back), MSG_DONTWAIT) > 0);
    assert_string_equal(there, "to");
    assert_string_equal(back, "fro");
    close(near[1]);
    close(far[1]);
    until(fixture, fixture->host.ended && fixture->guest.ended);
}

// ---- gaps -----------------------------------------------------------------------------------------------------------

// Bytes go through the test's hands, which let the connection break in the middle of whatever is under way.
struct relay {
    int a, b; // the middle's ends
};

static void connect_through(struct fixture *fixture, struct relay *relay)
{
    int one[2], two[2];
    assert_int_equal(fd_socketpair(SOCK_STREAM, one, NULL), 0);
    assert_int_equal(fd_socketpair(SOCK_STREAM, two, NULL), 0);
    assert_int_equal(link_connect(fixture->host.link, one[0], NULL), 0);
    assert_int_equal(link_connect(fixture->guest.link, two[0], NULL), 0);
    *relay = (struct relay){ one[1], two[1] };
}

static void pass(int from, int to, size_t most)
{
    char bytes[3001]; // frames are cut anywhere
    ssize_t got = recv(from, bytes, MIN_OF(sizeof(bytes), most), MSG_DONTWAIT);
    if (got > 0)
        assert_int_equal(fd_write_full(to, bytes, (size_t)got, NULL), 0);
}

static void relay_for(struct fixture *fixture, struct relay *relay, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        turn(fixture, NS_PER_MS / 10);
        pass(relay->a, relay->b, 3001);
        pass(relay->b, relay->a, 3001);
    }
}

static void nothing_is_lost_or_doubled_over_a_gap(void **state)
{
    struct fixture *fixture = *state;
    const size_t size = 3u << 20;
    struct relay relay;
    connect_through(fixture, &relay);
    struct pipe_stream from = open_stream(&fixture->guest, 2, true), to = open_stream(&fixture->host, 2, false);
    size_t in = 0, out = 0;
    unsigned gaps = 0;
    for (unsigned round = 0; out < size; round++) {
        in = pump_in(from.outer, in, size);
        relay_for(fixture, &relay, 20 + (int)(round % 7));
        ssize_t got = pump_out(to.outer, out);
        out += got > 0 ? (size_t)got : 0;
        if (round % 5 == 4) {
            close(relay.a);
            close(relay.b);
            connect_through(fixture, &relay);
            gaps++;
        }
        assert_true(round < 2000);
    }
    assert_true(gaps > 3);
    assert_int_equal(fixture->host.readies, 1);
    assert_int_equal(fixture->guest.readies, 1);
    close(relay.a);
    close(relay.b);
    close(from.outer);
    close(to.outer);
}

static void a_guest_that_begins_anew_is_another(void **state)
{
    struct fixture *fixture = *state;
    connect_ends(fixture);
    until(fixture, fixture->host.readies && fixture->guest.readies);
    link_free(fixture->guest.link);
    assert_int_equal(link_new(fixture->loop, LINK_GUEST, 0, NULL, &handlers, &fixture->guest, &fixture->guest.link, NULL), 0);
    fixture->host.closed = false;
    connect_ends(fixture);
    until(fixture, fixture->host.closed);
    assert_int_equal(fixture->host.why.class, ERR_CONFLICT);
}

// ---- a peer that breaks the rules -----------------------------------------------------------------------------------

struct raw_frame {
    uint16_t type, flags;
    uint64_t id;
    uint32_t session;
    uint64_t sequence;
    const char *text; // NULL: `size` zeros
    uint32_t size;
};

// The frame's bytes; at most 64 KiB of a payload that is only claimed.
static void add_raw(struct buf *out, const struct raw_frame *frame)
{
    struct {
        uint32_t size;
        uint16_t type, flags;
        uint64_t id;
        uint32_t session, zero;
        uint64_t sequence;
    } header = { frame->text ? (uint32_t)strlen(frame->text) : frame->size, frame->type, frame->flags, frame->id, frame->session, 0,
                 frame->sequence };
    uint32_t there = frame->text ? header.size : MIN_OF(frame->size, 1u << 16);
    char *payload = mem_alloc((size_t)there + 1);
    if (frame->text)
        memcpy(payload, frame->text, there);
    buf_add(out, &header, sizeof(header));
    buf_add(out, payload, there);
    free(payload);
}

static void send_raw(int fd, const struct raw_frame *frame)
{
    _cleanup_buf_ struct buf bytes = BUF_INIT(1u << 20);
    add_raw(&bytes, frame);
    assert_int_equal(fd_write_full(fd, bytes.data, bytes.size, NULL), 0);
}

#define GOOD_HELLO { LINK_HELLO, 0, 0, 0, 0, "{\"proto_min\":1,\"proto_max\":1,\"session\":0,\"last_seq\":0}", 0 }

static void rules_that_are_broken_end_the_connection(void **state)
{
    static const struct {
        struct raw_frame frames[3];
        enum err_class class;
    } table[] = {
        { { { TASK_EVENT, 0, 0, SESSION, 1, "{}", 0 } }, ERR_INVALID_ARGUMENT }, // before hello
        { { { LINK_HELLO, 0, 0, 0, 0, "{\"proto_min\":5,\"proto_max\":6,\"session\":0,\"last_seq\":0}", 0 } }, ERR_NOT_IMPLEMENTED },
        { { { LINK_HELLO, 0, 0, 0, 0, "{\"proto_min\":1,\"proto_max\":1,\"session\":3,\"last_seq\":0}", 0 } }, ERR_CONFLICT },
        { { { LINK_HELLO, 0, 0, 0, 0, "{\"proto_min\":1,\"proto_max\":1,\"session\":0,\"last_seq\":99}", 0 } }, ERR_INVALID_ARGUMENT },
        { { { LINK_HELLO, 0, 0, 0, 0, "{\"proto_min\":1,\"proto_max\":1,\"session\":0}", 0 } }, ERR_INVALID_ARGUMENT },
        { { { LINK_HELLO, 0, 0, 0, 0, "[]", 0 } }, ERR_INVALID_ARGUMENT },
        { { GOOD_HELLO, GOOD_HELLO }, ERR_INVALID_ARGUMENT },
        { { GOOD_HELLO, { TASK_EVENT, 0, 0, SESSION, 2, "{}", 0 } }, ERR_INVALID_ARGUMENT }, // frame 1 is missing
        { { GOOD_HELLO, { TASK_EVENT, 0, 0, SESSION, 1, "{", 0 } }, ERR_INVALID_ARGUMENT },
        { { GOOD_HELLO, { 99, 0, 0, SESSION, 1, "", 0 } }, ERR_INVALID_ARGUMENT },
        { { GOOD_HELLO, { TASK_DATA, 0, 2, SESSION, 1, NULL, LINK_DATA_MAX + 1 } }, ERR_INVALID_ARGUMENT },
        { { GOOD_HELLO, { TASK_EVENT, 0, 0, SESSION, 1, NULL, LINK_FRAME_MAX + 1 } }, ERR_INVALID_ARGUMENT },
        { { GOOD_HELLO, { LINK_ACK, 0, 0, SESSION, 5, "", 0 } }, ERR_INVALID_ARGUMENT }, // never sent
        { { GOOD_HELLO, { LINK_CREDIT, 0, 1, SESSION, 1, "abc", 0 } }, ERR_INVALID_ARGUMENT },
        { { GOOD_HELLO, { LINK_CREDIT, 0, 1, SESSION, 1, "\xff\xff\xff\x7f", 0 } }, ERR_INVALID_ARGUMENT }, // beyond a window
        { { GOOD_HELLO, { TASK_DATA, LINK_END, 2, SESSION, 1, "x", 0 }, { TASK_DATA, 0, 1, SESSION, 2, "x", 0 } },
          ERR_INVALID_ARGUMENT }, // stream 1 goes the other way
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        assert_int_equal(setup(state), 0);
        struct fixture *fixture = *state;
        int ends[2];
        assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
        struct pipe_stream in = open_stream(&fixture->host, 1, true), out = open_stream(&fixture->host, 2, false);
        assert_int_equal(link_connect(fixture->host.link, ends[0], NULL), 0);
        for (size_t j = 0; j < 3 && table[i].frames[j].type; j++)
            send_raw(ends[1], &table[i].frames[j]);
        until(fixture, fixture->host.closed);
        if (fixture->host.why.class != table[i].class)
            fail_msg("row %zu: %s", i, fixture->host.why.message);
        close(ends[1]);
        close(in.outer);
        close(out.outer);
        teardown(state);
    }
}

static void bytes_beyond_the_window_are_a_violation(void **state)
{
    struct fixture *fixture = *state;
    int ends[2];
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    struct pipe_stream out = open_stream(&fixture->host, 2, false);
    assert_int_equal(link_connect(fixture->host.link, ends[0], NULL), 0);
    send_raw(ends[1], &(struct raw_frame)GOOD_HELLO);
    // What the pipe takes is credited at once: a window and a pipe at most.
    for (uint64_t sequence = 1; sequence < 20 && !fixture->host.closed; sequence++) {
        send_raw(ends[1], &(struct raw_frame){ TASK_DATA, 0, 2, SESSION, sequence, NULL, 60000 });
        turn(fixture, NS_PER_MS);
    }
    assert_true(fixture->host.closed);
    assert_int_equal(fixture->host.why.class, ERR_INVALID_ARGUMENT);
    close(ends[1]);
    close(out.outer);
}

static void frames_of_an_older_session_are_dropped(void **state)
{
    struct fixture *fixture = *state;
    int ends[2];
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    assert_int_equal(link_connect(fixture->host.link, ends[0], NULL), 0);
    send_raw(ends[1], &(struct raw_frame)GOOD_HELLO);
    send_raw(ends[1], &(struct raw_frame){ TASK_EVENT, 0, 0, SESSION + 1, 1, "{\"kind\":\"old\"}", 0 });
    send_raw(ends[1], &(struct raw_frame){ TASK_EVENT, 0, 0, SESSION, 1, "{\"kind\":\"new\"}", 0 });
    until(fixture, fixture->host.last_event);
    assert_string_equal(json_get_text(fixture->host.last_event, "kind", ""), "new");
    assert_false(fixture->host.closed);
    close(ends[1]);
}

static void a_flood_that_acknowledges_nothing_ends(void **state)
{
    struct fixture *fixture = *state;
    int ends[2];
    char bytes[65536];
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    link_free(fixture->host.link); // one that serves no verbs: each is refused, and each refusal is kept
    static const struct link_handlers quiet = { .closed = on_closed };
    assert_int_equal(link_new(fixture->loop, LINK_HOST, SESSION, NULL, &quiet, &fixture->host, &fixture->host.link, NULL), 0);
    assert_int_equal(link_connect(fixture->host.link, ends[0], NULL), 0);
    send_raw(ends[1], &(struct raw_frame)GOOD_HELLO);
    for (uint64_t sequence = 1; sequence < 400000 && !fixture->host.closed;) {
        _cleanup_buf_ struct buf batch = BUF_INIT(1u << 20);
        for (int i = 0; i < 1000; i++)
            add_raw(&batch, &(struct raw_frame){ TASK_REQUEST, 0, 1, SESSION, sequence++, "{}", 0 });
        fd_write_full(ends[1], batch.data, batch.size, NULL);
        while (recv(ends[1], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
            ;
        turn(fixture, NS_PER_MS);
    }
    assert_true(fixture->host.closed);
    assert_int_equal(fixture->host.why.class, ERR_RESOURCE_EXHAUSTED);
    close(ends[1]);
}

static void losing_inside_a_handler_takes_each_frame_once(void **state)
{
    struct fixture *fixture = *state;
    connect_ends(fixture);
    until(fixture, fixture->host.readies && fixture->guest.readies);
    fixture->host.lose_on_request = true;
    _cleanup_json_ json_t *event = json_pack("{s:s}", "kind", "last");
    link_call(fixture->guest.link, "one", NULL, on_answer, &fixture->guest, NULL);
    link_event(fixture->guest.link, event);
    until(fixture, fixture->host.last_event);
    assert_string_equal(json_get_text(fixture->host.last_event, "kind", ""), "last");
    assert_string_equal(json_get_text(fixture->host.last_request, "verb", ""), "one");
    assert_false(fixture->host.closed);
}

static void what_cannot_be_opened_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct link_stream *stream;
    struct link *link;
    struct err err;
    struct pipe_stream made = open_stream(&fixture->host, 1, true);
    assert_int_equal(link_stream_open(fixture->host.link, 1, -1, -1, NULL, NULL, &stream, &err), -1);
    assert_int_equal(err.class, ERR_CONFLICT);
    assert_int_equal(link_new(fixture->loop, LINK_HOST, 0, NULL, &handlers, NULL, &link, &err), -1);
    assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    close(made.outer);
}

#define with_fixture(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_fixture(hellos_are_exchanged),
        with_fixture(verbs_that_came_early_are_answered),
        with_fixture(errors_come_back_as_they_are),
        with_fixture(a_lost_guest_fails_its_calls),
        with_fixture(bytes_arrive_in_order_to_their_end),
        with_fixture(who_reads_nothing_blocks_its_own_stream_alone),
        with_fixture(a_reader_that_leaves_ends_the_writer),
        with_fixture(a_finished_stream_sends_what_is_there),
        with_fixture(a_finish_without_credit_waits_for_it),
        with_fixture(what_arrived_is_written_after_the_guest_is_lost),
        with_fixture(two_descriptors_carry_both_ways),
        with_fixture(nothing_is_lost_or_doubled_over_a_gap),
        with_fixture(a_guest_that_begins_anew_is_another),
        cmocka_unit_test(rules_that_are_broken_end_the_connection),
        with_fixture(bytes_beyond_the_window_are_a_violation),
        with_fixture(frames_of_an_older_session_are_dropped),
        with_fixture(a_flood_that_acknowledges_nothing_ends),
        with_fixture(losing_inside_a_handler_takes_each_frame_once),
        with_fixture(what_cannot_be_opened_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
