// Folders of the client's by the Content service, of a client that is made up, and lies.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/crypto.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "buildkit/buildkit_private.h"

#define DIGEST "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" // of "hello"

enum lie { HONEST, OTHER_DIGEST, NEGATIVE, HUGE_SIZE, SHORTER, LONGER, OUT_OF_ORDER, OTHER_BYTES, HANG_UP, EXISTS, REFUSED };

static struct {
    enum lie lie;
    char text[64 << 10]; // of the one document
    struct buf written;
    size_t writes;
    int32_t last; // action
} client;

static int info(void *context, struct grpc_call *call, struct err *err)
{
    struct content_info_request request;
    assert_string_equal(grpc_metadata(call, "buildkit-attachable-store-id"), "local:x");
    if (take_message(call, &content_info_request_table, &request, err) < 0)
        return -1;
    if (client.text[0] == '\0')
        return err_set(err, ERR_NOT_FOUND, "content %s: not found", request.digest);
    struct content_info said = { client.lie == OTHER_DIGEST ? (char *)"sha256:00" : request.digest, (int64_t)strlen(client.text) };
    said.size = client.lie == NEGATIVE ? -1 : client.lie == HUGE_SIZE ? INT64_MAX : said.size;
    return send_message(call, &content_info_response_table, &(struct content_info_response){ &said }, err);
}

static int read_content(void *context, struct grpc_call *call, struct err *err)
{
    struct content_read_request request;
    if (take_message(call, &content_read_request_table, &request, err) < 0)
        return -1;
    size_t size = strlen(client.text), half = size / 2;
    char *text = arena_strdup(grpc_arena(call), client.text);
    if (client.lie == OTHER_BYTES)
        text[0] ^= 1;
    const struct content_read_response first = { client.lie == OUT_OF_ORDER ? 1 : 0, { text, half } },
                                       second = { (int64_t)half, { text + half, size - half } }, more = { (int64_t)size, { "more", 4 } };
    if (client.lie == HANG_UP)
        return err_set(err, ERR_UNAVAILABLE, "gone");
    if (send_message(call, &content_read_response_table, &first, err) < 0)
        return -1;
    if (client.lie != SHORTER && send_message(call, &content_read_response_table, &second, err) < 0)
        return -1;
    return client.lie == LONGER ? send_message(call, &content_read_response_table, &more, err) : 0;
}

static int write_content(void *context, struct grpc_call *call, struct err *err)
{
    _cleanup_buf_ struct buf message = BUF_INIT(4 << 20);
    int got;
    while ((got = grpc_recv(call, &message, err)) > 0) {
        struct content_write_request request;
        assert_int_equal(proto_decode((struct slice){ buf_text(&message), message.size }, &content_write_request_table, grpc_arena(call), &request, err), 0);
        client.last = request.action;
        client.writes++;
        if (client.lie == EXISTS) {
            err_set(err, ERR_CONFLICT, "content %s: already exists", request.expected);
            err->number = EEXIST;
            return -1;
        }
        if (client.lie == REFUSED && request.action == CONTENT_WRITE)
            return err_set(err, ERR_RESOURCE_EXHAUSTED, "the disk is full");
        assert_int_equal(request.offset, client.written.size);
        buf_add(&client.written, request.data.data, request.data.size);
        const struct content_write_response answer = { request.action, (int64_t)client.written.size, request.total, request.expected };
        if (send_message(call, &content_write_response_table, &answer, err) < 0)
            return -1;
        if (request.action == CONTENT_COMMIT)
            return 0;
    }
    return got;
}

static const struct grpc_method methods[] = {
    { "/containerd.services.content.v1.Content/Info", info },
    { "/containerd.services.content.v1.Content/Read", read_content },
    { "/containerd.services.content.v1.Content/Write", write_content },
};

static struct {
    struct grpc *server, *ours;
    pthread_t threads[2];
    struct buildkit_session session;
    struct buildkit buildkit;
    struct solve solve;
} world;

static void *run(void *grpc)
{
    grpc_run(grpc, NULL);
    return NULL;
}

static int begin(void **state)
{
    int ends[2];
    const struct grpc_config theirs = { GRPC_SERVER, methods, ARRAY_LEN(methods), NULL, 0, 0 }, ours = { .role = GRPC_CLIENT, .message_max = MESSAGE_MAX };
    memset(&client, 0, sizeof(client));
    client.written = (struct buf)BUF_INIT(16 << 20);
    memset(&world.solve, 0, sizeof(world.solve));
    mutex_init(&world.buildkit.lock, 0);
    cond_init(&world.buildkit.changed);
    world.solve.buildkit = &world.buildkit;
    world.solve.events = (struct buf)BUF_INIT(EVENTS_MAX);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
    grpc_new(&theirs, ends[0], &world.server, NULL);
    grpc_new(&ours, ends[1], &world.ours, NULL);
    world.session.grpc = world.ours;
    pthread_create(&world.threads[0], NULL, run, world.server);
    pthread_create(&world.threads[1], NULL, run, world.ours);
    return 0;
}

static int end(void **state)
{
    grpc_close(world.ours);
    pthread_join(world.threads[0], NULL);
    pthread_join(world.threads[1], NULL);
    grpc_free(world.server);
    grpc_free(world.ours);
    buf_done(&client.written);
    buf_done(&world.solve.events);
    cond_done(&world.buildkit.changed);
    mutex_done(&world.buildkit.lock);
    return 0;
}

static struct content_store store(void)
{
    static const struct cancel never = { -1, -1 };
    return (struct content_store){ &world.session, "local:x", &never };
}

// ---- reading --------------------------------------------------------------------------------------------------------

static int add(void *of, const char *data, size_t size, struct err *err)
{
    buf_add(of, data, size);
    return 0;
}

static int read_hello(enum lie lie, int64_t size, struct err *err)
{
    _cleanup_buf_ struct buf got = BUF_INIT(1 << 20);
    const struct content_store of = store();
    client.lie = lie;
    snprintf(client.text, sizeof(client.text), "hello");
    int result = content_read(&of, DIGEST, size, add, &got, err);
    if (result == 0)
        assert_string_equal(buf_text(&got), "hello");
    return result;
}

static void test_reading(void **state)
{
    struct err err = { 0 };
    assert_int_equal(read_hello(HONEST, 5, &err), 0);
    assert_int_equal(read_hello(SHORTER, 5, &err), -1);
    assert_int_equal(read_hello(LONGER, 5, &err), -1);
    assert_int_equal(read_hello(OUT_OF_ORDER, 5, &err), -1);
    assert_int_equal(read_hello(HONEST, 4, &err), -1);
    assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    assert_int_equal(read_hello(HANG_UP, 5, &err), -1);
    assert_string_equal(err.message, "gone");
}

static void test_sizes(void **state)
{
    const struct content_store of = store();
    struct err err = { 0 };
    int64_t size = 0;
    assert_int_equal(content_size(&of, DIGEST, &size, &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);
    snprintf(client.text, sizeof(client.text), "hello");
    assert_int_equal(content_size(&of, DIGEST, &size, &err), 0);
    assert_int_equal(size, 5);
    client.lie = OTHER_DIGEST;
    assert_int_equal(content_size(&of, DIGEST, &size, &err), -1);
    client.lie = NEGATIVE;
    assert_int_equal(content_size(&of, DIGEST, &size, &err), -1);
}

// ---- layouts --------------------------------------------------------------------------------------------------------

// What is said of a layout whose only document is this.
static void check_layout(const char *text, const char *digest, enum lie lie, const char *says)
{
    const struct layout_request request = { "local:x", digest, "linux/amd64" };
    struct err err = { 0 };
    struct step step;
    int ends[2];
    client.lie = lie;
    snprintf(client.text, sizeof(client.text), "%s", text);
    assert_int_equal(fd_pipe(ends, NULL), 0);
    step_start(&step, &world.solve, "load");
    assert_int_equal(layout_receive(&world.session, &request, &step, ends[1], NULL, &err), -1);
    step_end(&step, &err);
    if (!strstr(err.message, says))
        fail_msg("%s: not %s", err.message, says);
    fd_close(ends[0]);
    fd_close(ends[1]);
}

static void test_layouts_that_lie(void **state)
{
    check_layout("hello", "sha256:../../etc/passwd", HONEST, "unsupported digest");
    check_layout("hello", "md5:00", HONEST, "unsupported digest");
    check_layout("hello", DIGEST, HUGE_SIZE, "too large");
    check_layout("hello", DIGEST, OTHER_BYTES, "another digest");
    check_layout("jello", DIGEST, HONEST, "another digest");
    check_layout("hello", DIGEST, HONEST, "");
}

// Documents that are what their digest says, and ask for what can't be.
static void check_document(const char *text, const char *says)
{
    char digest[72] = "sha256:";
    unsigned char hash[32];
    gnutls_hash_fast(GNUTLS_DIG_SHA256, text, strlen(text), hash);
    for (size_t i = 0; i < sizeof(hash); i++)
        snprintf(digest + 7 + 2 * i, 3, "%02x", hash[i]);
    check_layout(text, digest, HONEST, says);
}

static void test_documents(void **state)
{
    check_document("{\"manifests\":[]}", "no match for platform");
    check_document("{\"manifests\":[{\"digest\":\"" DIGEST "\",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}}]}", "no match for platform");
    check_document("{\"manifests\":[{\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}", "unsupported digest");
    check_document("{\"config\":{\"digest\":\"" DIGEST "\",\"size\":-5}}", "can't have -5 bytes");
    check_document("{\"config\":{\"digest\":\"" DIGEST "\",\"size\":99999999}}", "can't have 99999999 bytes");
    check_document("{\"config\":{\"digest\":\"" DIGEST "\",\"size\":5,\"mediaType\":\"application/vnd.buildkit.cacheconfig.v0\"}}", "BuildKit's own form");
    check_document("{\"config\":{\"digest\":\"" DIGEST "\",\"size\":5},\"layers\":[{\"digest\":\"../x\",\"size\":1}]}", "unsupported digest");
    check_document("{\"config\":{\"digest\":\"" DIGEST "\",\"size\":5}}", "is not of 5 bytes"); // it is the document itself that comes
}

// ---- writing --------------------------------------------------------------------------------------------------------

static int write_some(enum lie lie, size_t size, struct err *err)
{
    const struct content_store of = store();
    struct content_write write;
    _cleanup_free_ char *data = mem_alloc(size);
    memset(data, 'x', size);
    client.lie = lie;
    int result = content_write_begin(&of, DIGEST, (int64_t)size, &write, err);
    for (size_t at = 0; result == 0 && at < size; at += 100000)
        result = content_write_add(&write, data + at, MIN_OF(size - at, (size_t)100000), err);
    if (result == 0)
        result = content_write_end(&write, err);
    content_write_done(&write);
    return result;
}

static void test_writing(void **state)
{
    struct err err = { 0 };
    assert_int_equal(write_some(HONEST, 2500000, &err), 0);
    assert_int_equal(client.written.size, 2500000);
    assert_int_equal(client.last, CONTENT_COMMIT);
    buf_clear(&client.written);
    assert_int_equal(write_some(EXISTS, 2500000, &err), 0);
    assert_int_equal(client.written.size, 0);
    assert_int_equal(write_some(REFUSED, 2500000, &err), -1);
    assert_string_equal(err.message, "the disk is full");
    client.writes = 0;
    snprintf(client.text, sizeof(client.text), "it is there");
    assert_int_equal(write_some(HONEST, 2500000, &err), 0);
    assert_int_equal(client.writes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reading, begin, end),          cmocka_unit_test_setup_teardown(test_sizes, begin, end),
        cmocka_unit_test_setup_teardown(test_layouts_that_lie, begin, end), cmocka_unit_test_setup_teardown(test_documents, begin, end),
        cmocka_unit_test_setup_teardown(test_writing, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
