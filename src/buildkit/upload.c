// moby.upload.v1.Upload/Pull: a stream of bytes, which the client calls by a URL of its own.
#include "base/fd.h"
#include "buildkit_private.h"

#define PART_MAX ((size_t)16 << 20)

static int take_part(const struct buf *message, int fd, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct bytes_message part;
    if (proto_decode((struct slice){ buf_text(message), message->size }, &bytes_table, &arena, &part, err) < 0)
        return -1;
    return fd_write_full(fd, part.data.data, part.data.size, err);
}

int upload_receive(struct buildkit_session *session, const char *url, int fd, const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf message = BUF_INIT(PART_MAX);
    const char *host = strstr(url, "://") + 3, *path = host + strcspn(host, "/");
    const struct kv metadata[] = { { arena_strdup(&arena, "urlpath"), arena_strdup(&arena, path) },
                                   { arena_strdup(&arena, "urlhost"), arena_strndup(&arena, host, (size_t)(path - host)) } };
    const struct grpc_request request = { .path = "/moby.upload.v1.Upload/Pull", .metadata = metadata, .metadata_len = ARRAY_LEN(metadata) };
    _cleanup_grpc_call_ struct grpc_call *call = NULL;
    int got = grpc_call_new(session->grpc, &request, &call, err);
    if (got < 0)
        return -1;
    grpc_send_end(call);
    while ((got = grpc_recv(call, &message, err)) > 0) {
        if (cancel_now(cancel))
            return err_set(err, ERR_CANCELLED, "the build was cancelled");
        if (take_part(&message, fd, err) < 0)
            return -1;
    }
    return got;
}
