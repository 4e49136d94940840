// A client that is made up: a server of FileSync on the other end of a session. What it says is in `client`.
#ifndef TEST_MADE_UP_CLIENT_H
#define TEST_MADE_UP_CLIENT_H

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
    int64_t mtime_ns;
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
        struct stat_message stat = { .path = (char *)file->path, .linkname = (char *)file->link, .mode = file->mode, .size = size_of(file), .mtime_ns = file->mtime_ns };
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
    const char *key;
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
    buildkit_session_serve(session->buildkit, "s1", session->key, session->fd, NULL);
    return NULL;
}

static inline void open_session_of(struct session *session, const struct buildkit_config *config, const char *key)
{
    int ends[2];
    const struct grpc_config server = { .role = GRPC_SERVER, .methods = methods, .method_len = 1 };
    assert_int_equal(buildkit_new(config, &session->buildkit, NULL), 0);
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    session->fd = ends[0];
    session->key = key;
    assert_int_equal(grpc_new(&server, ends[1], &session->grpc, NULL), 0);
    pthread_create(&session->theirs, NULL, run_client, session);
    pthread_create(&session->ours, NULL, run_session, session);
}

static inline void open_session(struct session *session)
{
    const struct buildkit_config config = { 0 };
    open_session_of(session, &config, NULL);
}

static inline void close_session(struct session *session)
{
    grpc_close(session->grpc);
    pthread_join(session->theirs, NULL);
    pthread_join(session->ours, NULL);
    grpc_free(session->grpc);
    buildkit_free(session->buildkit);
    strv_done(&client.metadata);
    client.metadata = (struct strv){ 0 };
}

#endif
