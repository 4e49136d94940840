// The client's files, from a client that is made up: a server of FileSync on the other end of the session.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "buildkit/buildkit_private.h"

#define DIR (1u << 31)
#define LINK (1u << 27)

struct made_up {
    const char *path, *link, *content; // content NULL: `size` bytes of a pattern
    uint32_t mode;
    int64_t size;
};

enum lie { HONEST, WRONG_ID, UNASKED, TOO_SHORT, TOO_LONG, AN_ERROR, NO_FIN, NEGATIVE_SIZE, NO_PATH, HANG_UP };

static struct {
    const struct made_up *files;
    size_t len;
    enum lie lie;
    size_t asked;
    struct strv metadata;
} client;

static int send_packet(struct grpc_call *call, const struct packet_message *packet)
{
    _cleanup_buf_ struct buf bytes = BUF_INIT(1 << 20);
    proto_encode(&packet_table, packet, &bytes);
    return grpc_send(call, (struct slice){ buf_text(&bytes), bytes.size }, NULL);
}

static int64_t size_of(const struct made_up *file)
{
    return file->content ? (int64_t)strlen(file->content) : file->size;
}

static void send_list(struct grpc_call *call)
{
    for (size_t i = 0; i < client.len; i++) {
        const struct made_up *file = &client.files[i];
        struct stat_message stat = { .path = (char *)file->path, .linkname = (char *)file->link, .mode = file->mode, .size = size_of(file) };
        if (client.lie == NEGATIVE_SIZE)
            stat.size = -1;
        if (client.lie == NO_PATH)
            stat.path = NULL;
        send_packet(call, &(struct packet_message){ .type = PACKET_STAT, .stat = &stat });
    }
    if (client.lie == AN_ERROR)
        send_packet(call, &(struct packet_message){ .type = PACKET_ERR, .data = { "no such folder", 14 } });
    if (client.lie == UNASKED)
        send_packet(call, &(struct packet_message){ .type = PACKET_DATA, .id = 0, .data = { "x", 1 } });
    send_packet(call, &(struct packet_message){ .type = PACKET_STAT });
}

static void send_file(struct grpc_call *call, uint32_t id)
{
    char piece[30000];
    const struct made_up *file = &client.files[id];
    int64_t size = size_of(file) + (client.lie == TOO_SHORT ? -1 : client.lie == TOO_LONG ? 10 : 0);
    uint32_t said = client.lie == WRONG_ID ? 77 : id;
    client.asked++;
    for (int64_t at = 0; at < size;) {
        size_t part = (size_t)MIN_OF((int64_t)sizeof(piece), size - at);
        for (size_t i = 0; i < part; i++)
            piece[i] = file->content && at + (int64_t)i < size_of(file) ? file->content[at + (int64_t)i] : (char)((at + (int64_t)i) * 7);
        send_packet(call, &(struct packet_message){ .type = PACKET_DATA, .id = said, .data = { piece, part } });
        at += (int64_t)part;
    }
    send_packet(call, &(struct packet_message){ .type = PACKET_DATA, .id = said });
}

static int diff_copy(void *context, struct grpc_call *call, struct err *err)
{
    _cleanup_buf_ struct buf bytes = BUF_INIT(1 << 20);
    const struct kvs *metadata = grpc_metadata_all(call);
    for (size_t i = 0; i < metadata->len; i++)
        strv_addf(&client.metadata, "%s=%s", metadata->items[i].key, metadata->items[i].value);
    if (client.lie == HANG_UP)
        return err_set(err, ERR_NOT_FOUND, "no access allowed to dir \"context\"");
    send_list(call);
    int got;
    while ((got = grpc_recv(call, &bytes, err)) > 0) {
        struct packet_message packet;
        if (proto_decode((struct slice){ buf_text(&bytes), bytes.size }, &packet_table, grpc_arena(call), &packet, err) < 0)
            return -1;
        if (packet.type == PACKET_REQ && packet.id < client.len)
            send_file(call, packet.id);
        if (packet.type == PACKET_FIN)
            return client.lie == NO_FIN ? 0 : send_packet(call, &packet);
    }
    return got;
}

static const struct grpc_method methods[] = { { "/moby.filesync.v1.FileSync/DiffCopy", diff_copy } };

struct session {
    struct buildkit *buildkit;
    struct grpc *grpc;
    int fd;
    pthread_t ours, theirs;
};

static void *run_client(void *of)
{
    grpc_run(((struct session *)of)->grpc, NULL);
    return NULL;
}

static void *run_session(void *of)
{
    struct session *session = of;
    buildkit_session_serve(session->buildkit, "s1", NULL, session->fd, NULL);
    return NULL;
}

static void open_session(struct session *session)
{
    int ends[2];
    const struct buildkit_config config = { 0 };
    const struct grpc_config server = { .role = GRPC_SERVER, .methods = methods, .method_len = 1 };
    assert_int_equal(buildkit_new(&config, &session->buildkit, NULL), 0);
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    session->fd = ends[0];
    assert_int_equal(grpc_new(&server, ends[1], &session->grpc, NULL), 0);
    pthread_create(&session->theirs, NULL, run_client, session);
    pthread_create(&session->ours, NULL, run_session, session);
}

static void close_session(struct session *session)
{
    grpc_close(session->grpc);
    pthread_join(session->theirs, NULL);
    pthread_join(session->ours, NULL);
    grpc_free(session->grpc);
    buildkit_free(session->buildkit);
    strv_done(&client.metadata);
    client.metadata = (struct strv){ 0 };
}

// Into a temporary file, as a tar.
static int receive(struct session *session, const struct strv *excludes, FILE **out, struct err *err)
{
    struct buildkit_session *found;
    struct solve solve = { .buildkit = session->buildkit, .events = BUF_INIT(EVENTS_MAX) };
    struct step step;
    struct files_sink sink;
    *out = tmpfile();
    struct tar_out tar = { .fd = fileno(*out) };
    const struct files_request request = { .folder = "context", .excludes = excludes };
    const struct cancel never = CANCEL_NEVER;
    client.asked = 0;
    assert_int_equal(session_get(session->buildkit, "s1", &never, &found, err), 0);
    tar_sink(&tar, &sink);
    step_start(&step, &solve, "load");
    int result = files_receive(found, &request, &sink, &step, &never, err);
    if (result == 0)
        tar_end(&tar, NULL);
    step_end(&step, NULL);
    session_put(found);
    buf_done(&solve.events);
    return result;
}

static char *tar_lists(FILE *tar)
{
    _cleanup_free_ char *line = mem_printf("tar -tvf /proc/%d/fd/%d --numeric-owner 2>&1", getpid(), fileno(tar));
    struct buf out = BUF_INIT(1 << 20);
    char part[4096];
    FILE *listing = popen(line, "r");
    size_t got;
    while ((got = fread(part, 1, sizeof(part), listing)) > 0)
        buf_add(&out, part, got);
    assert_int_equal(pclose(listing), 0);
    return buf_take(&out);
}

static char long_name[260];

static void test_files(void **state)
{
    memset(long_name, 'n', 250);
    const struct made_up files[] = {
        { "Dockerfile", NULL, "FROM scratch\n", 0644, 0 },
        { "big", NULL, NULL, 0600, 5 << 20 },
        { "dir", NULL, "", DIR | 0755, 0 },
        { "dir/empty", NULL, "", 0644, 0 },
        { "dir/hard", "Dockerfile", "FROM scratch\n", 0644, 0 },
        { "dir/link", "../big", "", LINK | 0777, 0 },
        { "dir/setuid", NULL, "x", 1u << 23 | 0755, 0 },
        { long_name, NULL, "long", 0644, 0 },
    };
    struct session session;
    struct err err = { 0 };
    FILE *tar;
    open_session(&session);
    client.files = files;
    client.len = ARRAY_LEN(files);
    client.lie = HONEST;
    assert_int_equal(receive(&session, NULL, &tar, &err), 0);
    _cleanup_free_ char *listing = tar_lists(tar);
    assert_int_equal(client.asked, 4); // not: the folder, the empty file, both links
    assert_non_null(strstr(listing, "-rw------- 0/0         5242880 1970-01-01 00:00 big\n"));
    assert_non_null(strstr(listing, "dir/hard link to Dockerfile\n"));
    assert_non_null(strstr(listing, "dir/link -> ../big\n"));
    assert_non_null(strstr(listing, "-rwsr-xr-x"));
    assert_non_null(strstr(listing, long_name));
    fclose(tar);
    close_session(&session);
}

// Small ones by the thousand: asked for ahead.
static void test_many(void **state)
{
    enum { MANY = 3000 };
    struct made_up *files = mem_alloc(MANY * sizeof(*files));
    struct session session;
    struct err err = { 0 };
    FILE *tar;
    for (size_t i = 0; i < MANY; i++)
        files[i] = (struct made_up){ mem_printf("f%04zu", i), NULL, NULL, 0644, (int64_t)(i * 37 % 9000) };
    open_session(&session);
    client.files = files;
    client.len = MANY;
    client.lie = HONEST;
    assert_int_equal(receive(&session, NULL, &tar, &err), 0);
    _cleanup_free_ char *listing = tar_lists(tar);
    assert_non_null(strstr(listing, "f2999"));
    fclose(tar);
    close_session(&session);
    for (size_t i = 0; i < MANY; i++)
        free((char *)files[i].path);
    free(files);
}

static void test_patterns(void **state)
{
    char *patterns[] = { (char *)"*.o", (char *)"!a b", NULL }, *strange[] = { (char *)"\xc3\xa4 b", NULL };
    const struct strv plain = { patterns, 2, 0 }, encoded = { strange, 1, 0 };
    struct session session;
    struct err err = { 0 };
    FILE *tar;
    open_session(&session);
    client.len = 0;
    client.lie = HONEST;
    assert_int_equal(receive(&session, &plain, &tar, &err), 0);
    fclose(tar);
    assert_true(strv_has(&client.metadata, "dir-name=context"));
    assert_true(strv_has(&client.metadata, "exclude-patterns=*.o") && strv_has(&client.metadata, "exclude-patterns=!a b"));
    assert_int_equal(receive(&session, &encoded, &tar, &err), 0);
    fclose(tar);
    assert_true(strv_has(&client.metadata, "exclude-patterns=%C3%A4%20b") && strv_has(&client.metadata, "exclude-patterns-encoded=1"));
    close_session(&session);
}

static const struct {
    enum lie lie;
    const char *says; // NULL: it is taken
} lies[] = {
    { WRONG_ID, "not asked for" }, { UNASKED, "not asked for" },   { TOO_SHORT, "shorter" },           { TOO_LONG, NULL },
    { AN_ERROR, "no such folder" }, { NO_FIN, "ended" },           { NEGATIVE_SIZE, "malformed" },     { NO_PATH, "malformed" },
    { HANG_UP, "no access allowed" },
};

static void test_lies(void **state)
{
    const struct made_up files[] = { { "a", NULL, "hello", 0644, 0 }, { "b", NULL, "world", 0644, 0 } };
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        struct session session;
        struct err err = { 0 };
        FILE *tar;
        open_session(&session);
        client.files = files;
        client.len = ARRAY_LEN(files);
        client.lie = lies[i].lie;
        assert_int_equal(receive(&session, NULL, &tar, &err), lies[i].says ? -1 : 0);
        if (lies[i].says && !strstr(err.message, lies[i].says))
            fail_msg("%s", err.message);
        fclose(tar);
        close_session(&session);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
