#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "task/task.h"

struct pair {
    int near, far;
    struct task_reader *reader; // on the far end
};

static struct pair pair_new(void)
{
    struct pair pair;
    int ends[2];
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    pair.near = ends[0];
    pair.far = ends[1];
    assert_int_equal(task_reader_new(pair.far, &pair.reader), 0);
    return pair;
}

static void pair_done(struct pair *pair)
{
    task_reader_free(pair->reader);
    fd_close(pair->near);
    fd_close(pair->far);
}

// Feeds until a frame is there; what task_reader_next() said last.
static int read_frame(struct pair *pair, struct task_frame *out, struct err *err)
{
    for (;;) {
        int got = task_reader_next(pair->reader, out, err);
        if (got)
            return got;
        got = task_reader_feed(pair->reader, err);
        if (got <= 0)
            return got;
    }
}

static size_t count_fds(void)
{
    size_t len = 0;
    for (int fd = 0; fd < 4096; fd++)
        len += fcntl(fd, F_GETFD) >= 0;
    return len;
}

static void carries_payload_and_id(void **state)
{
    struct pair pair = pair_new();
    json_t *payload = json_pack("{s:s}", "verb", "kill");
    assert_int_equal(task_send(pair.near, TASK_REQUEST, 0x1122334455667788u, payload, NULL, 0, NULL), 0);
    assert_int_equal(task_send(pair.near, TASK_RESPONSE, 9, NULL, NULL, 0, NULL), 0);
    struct task_frame frame = { 0 };
    assert_int_equal(read_frame(&pair, &frame, NULL), 1);
    assert_int_equal(frame.type, TASK_REQUEST);
    assert_true(frame.id == 0x1122334455667788u);
    assert_string_equal(json_get_text(frame.payload, "verb", ""), "kill");
    task_frame_done(&frame);
    assert_int_equal(read_frame(&pair, &frame, NULL), 1);
    assert_int_equal(frame.id, 9);
    assert_int_equal(json_object_size(frame.payload), 0);
    task_frame_done(&frame);
    assert_int_equal(read_frame(&pair, &frame, NULL), 0);
    json_decref(payload);
    pair_done(&pair);
}

static void layout_is_little_endian(void **state)
{
    struct pair pair = pair_new();
    json_t *payload = json_pack("{s:i}", "a", 1);
    assert_int_equal(task_send(pair.near, TASK_EVENT, 0x0102030405060708u, payload, NULL, 0, NULL), 0);
    uint8_t wire[64];
    assert_int_equal(recv(pair.far, wire, sizeof(wire), 0), 16 + 7);
    static const uint8_t head[16] = { 7, 0, 0, 0, TASK_EVENT, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1 };
    assert_memory_equal(wire, head, 16);
    assert_memory_equal(wire + 16, "{\"a\":1}", 7);
    json_decref(payload);
    pair_done(&pair);
}

// Descriptors of two frames in one go stay with their frames, in order, whatever was glued together on the way.
static void descriptors_stay_with_their_frame(void **state)
{
    struct pair pair = pair_new();
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC), null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct stat zero_stat, null_stat, seen;
    fstat(zero, &zero_stat);
    fstat(null, &null_stat);
    int both[2] = { zero, null };
    assert_int_equal(task_send(pair.near, TASK_REQUEST, 1, NULL, NULL, 0, NULL), 0);
    assert_int_equal(task_send(pair.near, TASK_REQUEST, 2, NULL, both, 2, NULL), 0);
    assert_int_equal(task_send(pair.near, TASK_REQUEST, 3, NULL, &null, 1, NULL), 0);
    size_t lens[3] = { 0, 2, 1 };
    for (size_t i = 0; i < 3; i++) {
        struct task_frame frame = { 0 };
        assert_int_equal(read_frame(&pair, &frame, NULL), 1);
        assert_int_equal(frame.fd_len, lens[i]);
        if (i == 1) {
            fstat(frame.fds[0], &seen);
            assert_true(seen.st_rdev == zero_stat.st_rdev);
        }
        if (frame.fd_len) {
            fstat(frame.fds[frame.fd_len - 1], &seen);
            assert_true(seen.st_rdev == null_stat.st_rdev);
            assert_true(fcntl(frame.fds[0], F_GETFD) & FD_CLOEXEC);
        }
        task_frame_done(&frame);
    }
    fd_close(zero);
    fd_close(null);
    pair_done(&pair);
}

static void more_descriptors_than_a_message_holds(void **state)
{
    static const size_t lens[] = { 253, 254, 506, 507, TASK_FD_MAX };
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        struct pair pair = pair_new();
        size_t before = count_fds();
        int fds[TASK_FD_MAX];
        for (size_t j = 0; j < lens[i]; j++)
            fds[j] = 0;
        assert_int_equal(task_send(pair.near, TASK_REQUEST, 5, NULL, fds, lens[i], NULL), 0);
        struct task_frame frame = { 0 };
        assert_int_equal(read_frame(&pair, &frame, NULL), 1);
        assert_int_equal(frame.fd_len, lens[i]);
        assert_int_equal(frame.id, 5);
        task_frame_done(&frame);
        assert_int_equal(count_fds(), before);
        pair_done(&pair);
    }
}

struct bad_bytes {
    const char *what;
    const void *bytes;
    size_t size;
    enum err_class class;
};

#define HEAD(size, type, id) \
    (size) & 0xff, ((size) >> 8) & 0xff, ((size) >> 16) & 0xff, ((size) >> 24) & 0xff, type, 0, 0, 0, id, 0, 0, 0, 0, 0, 0, 0

static void refuses_what_is_no_frame(void **state)
{
    static const uint8_t huge[] = { HEAD(TASK_FRAME_MAX + 1, TASK_REQUEST, 1) };
    static const uint8_t largest[] = { HEAD(0xffffffffu, TASK_REQUEST, 1) };
    static const uint8_t type_zero[] = { HEAD(0u, 0, 1) };
    static const uint8_t type_data[] = { HEAD(0u, TASK_DATA, 1) };
    static const uint8_t fds_with_payload[] = { HEAD(1u, TASK_FDS, 1), 'x' };
    static const uint8_t fds_of_another[] = { HEAD(0u, TASK_FDS, 1), HEAD(0u, TASK_REQUEST, 2) };
    static const uint8_t no_json[] = { HEAD(3u, TASK_REQUEST, 1), 'a', 'b', 'c' };
    static const uint8_t no_object[] = { HEAD(2u, TASK_REQUEST, 1), '[', ']' };
    static const uint8_t open_end[] = { HEAD(2u, TASK_REQUEST, 1), '{', '"' };
    static const struct bad_bytes cases[] = {
        { "too large", huge, sizeof(huge), ERR_INVALID_ARGUMENT },
        { "far too large", largest, sizeof(largest), ERR_INVALID_ARGUMENT },
        { "type 0", type_zero, sizeof(type_zero), ERR_INVALID_ARGUMENT },
        { "stream data", type_data, sizeof(type_data), ERR_INVALID_ARGUMENT },
        { "descriptors with payload", fds_with_payload, sizeof(fds_with_payload), ERR_INVALID_ARGUMENT },
        { "descriptors of another", fds_of_another, sizeof(fds_of_another), ERR_INVALID_ARGUMENT },
        { "no JSON", no_json, sizeof(no_json), ERR_INVALID_ARGUMENT },
        { "no object", no_object, sizeof(no_object), ERR_INVALID_ARGUMENT },
        { "unfinished JSON", open_end, sizeof(open_end), ERR_INVALID_ARGUMENT },
        { "HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, ERR_INVALID_ARGUMENT },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pair pair = pair_new();
        struct err err = { 0 };
        struct task_frame frame = { 0 };
        assert_int_equal(send(pair.near, cases[i].bytes, cases[i].size, 0), cases[i].size);
        if (read_frame(&pair, &frame, &err) != -1 || err.class != cases[i].class)
            fail_msg("%s: %s", cases[i].what, err.message);
        pair_done(&pair);
    }
}

static void refuses_deep_nesting(void **state)
{
    static const struct { size_t depth; int outcome; } cases[] = { { 60, 1 }, { 65, -1 }, { 100000, -1 } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pair pair = pair_new();
        struct buf text = BUF_INIT(1 << 20);
        buf_adds(&text, "{\"a\\\"[\":");
        for (size_t j = 0; j < cases[i].depth; j++)
            buf_addc(&text, '[');
        for (size_t j = 0; j < cases[i].depth; j++)
            buf_addc(&text, ']');
        buf_addc(&text, '}');
        const uint8_t head[16] = { HEAD(text.size, TASK_REQUEST, 1) };
        assert_int_equal(send(pair.near, head, 16, 0), 16);
        struct task_frame frame = { 0 };
        int size = 1 << 20;
        setsockopt(pair.near, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
        assert_int_equal(send(pair.near, text.data, text.size, 0), text.size);
        assert_int_equal(read_frame(&pair, &frame, NULL), cases[i].outcome);
        task_frame_done(&frame);
        buf_done(&text);
        pair_done(&pair);
    }
}

static void descriptors_of_broken_frames_are_closed(void **state)
{
    size_t before = count_fds();
    static const uint8_t bad[] = { HEAD(TASK_FRAME_MAX + 1, TASK_REQUEST, 1) };
    static const uint8_t good[] = { HEAD(8u, TASK_REQUEST, 1), '{' };
    int fds[3] = { 0, 0, 0 };
    struct task_frame frame = { 0 };

    struct pair pair = pair_new();
    assert_int_equal(fd_send(pair.near, bad, sizeof(bad), fds, 3, NULL), 16);
    assert_int_equal(read_frame(&pair, &frame, NULL), -1);
    pair_done(&pair);
    assert_int_equal(count_fds(), before);

    pair = pair_new(); // in the middle of a payload
    assert_int_equal(fd_send(pair.near, good, sizeof(good), fds, 1, NULL), 17);
    assert_int_equal(fd_send(pair.near, "\"a\"", 3, fds, 3, NULL), 3);
    struct err err = { 0 };
    assert_int_equal(read_frame(&pair, &frame, &err), -1);
    assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    pair_done(&pair);
    assert_int_equal(count_fds(), before);
}

static void too_many_descriptors(void **state)
{
    size_t before = count_fds();
    struct pair pair = pair_new();
    static const uint8_t more[] = { HEAD(0u, TASK_FDS, 1) };
    int fds[FD_MESSAGE_MAX] = { 0 };
    struct task_frame frame = { 0 };
    struct err err = { 0 };
    int outcome = 0;
    for (int i = 0; i < 5 && outcome == 0; i++) {
        fd_send(pair.near, more, sizeof(more), fds, FD_MESSAGE_MAX, NULL);
        outcome = read_frame(&pair, &frame, &err);
    }
    assert_int_equal(outcome, -1);
    assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
    pair_done(&pair);
    assert_int_equal(count_fds(), before);
    int many[TASK_FD_MAX + 1] = { 0 };
    assert_int_equal(task_send(1, TASK_REQUEST, 1, NULL, many, TASK_FD_MAX + 1, &err), -1);
}

static void end_of_stream_is_unavailable(void **state)
{
    struct pair pair = pair_new();
    struct task_frame frame = { 0 };
    struct err err = { 0 };
    send(pair.near, "\x01", 1, 0);
    fd_close(take_fd(&pair.near));
    assert_int_equal(read_frame(&pair, &frame, &err), -1);
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    assert_string_equal(err.message, "connection closed");
    pair_done(&pair);
}

static void errors_cross_as_they_are(void **state)
{
    struct pair pair = pair_new();
    struct err error, err;
    err_errno(&error, ENOENT, "mount /data");
    assert_int_equal(task_send_error(pair.near, 4, &error, &err), 0);
    struct task_frame frame = { 0 };
    assert_int_equal(read_frame(&pair, &frame, &err), 1);
    assert_int_equal(frame.type, TASK_ERROR);
    assert_string_equal(json_get_text(frame.payload, "class", ""), "not_found");
    assert_int_equal(json_get_int(frame.payload, "errno", 0), ENOENT);
    assert_string_equal(json_get_text(frame.payload, "message", ""), error.message);
    task_frame_done(&frame);

    snprintf(error.message, sizeof(error.message), "a name with \xff in it"); // from a container's path
    assert_int_equal(task_send_error(pair.near, 4, &error, &err), 0);
    int got = read_frame(&pair, &frame, &err);
    assert_int_equal(got, 1);
    task_frame_done(&frame);
    pair_done(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(carries_payload_and_id),
        cmocka_unit_test(layout_is_little_endian),
        cmocka_unit_test(descriptors_stay_with_their_frame),
        cmocka_unit_test(more_descriptors_than_a_message_holds),
        cmocka_unit_test(refuses_what_is_no_frame),
        cmocka_unit_test(refuses_deep_nesting),
        cmocka_unit_test(descriptors_of_broken_frames_are_closed),
        cmocka_unit_test(too_many_descriptors),
        cmocka_unit_test(end_of_stream_is_unavailable),
        cmocka_unit_test(errors_cross_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
