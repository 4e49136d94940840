// Control.Session: a client's session inside of a call, for clients that reach the daemon by gRPC alone. What its messages carry are the bytes
// of the connection that /session would have been.
#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "buildkit_private.h"

struct tunnel {
    struct buildkit *buildkit;
    struct grpc_call *call;
    char *id, *key;
    int near_fd, far_fd; // ours; the session's
};

static void *serve(void *of)
{
    const struct tunnel *tunnel = of;
    buildkit_session_serve(tunnel->buildkit, tunnel->id, tunnel->key, tunnel->far_fd, grpc_cancel(tunnel->call));
    return NULL;
}

static void *send_up(void *of)
{
    const struct tunnel *tunnel = of;
    char data[32768];
    ssize_t got;
    while ((got = read(tunnel->near_fd, data, sizeof(data))) > 0 || (got < 0 && errno == EINTR)) {
        const struct bytes_message message = { { data, (size_t)MAX_OF(got, (ssize_t)0) } };
        if (got > 0 && send_message(tunnel->call, &bytes_table, &message, NULL) < 0)
            break;
    }
    shutdown(tunnel->near_fd, SHUT_RDWR);
    return NULL;
}

// Until the client ends the call, or the session is over.
static void take_down(const struct tunnel *tunnel)
{
    _cleanup_buf_ struct buf text = BUF_INIT(MESSAGE_MAX);
    while (grpc_recv(tunnel->call, &text, NULL) > 0) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct bytes_message message;
        if (proto_decode((struct slice){ buf_text(&text), text.size }, &bytes_table, &arena, &message, NULL) < 0 ||
            fd_write_full(tunnel->near_fd, message.data.data, message.data.size, NULL) < 0)
            break;
    }
    shutdown(tunnel->near_fd, SHUT_RDWR);
}

static int run(struct tunnel *tunnel, struct err *err)
{
    pthread_t session, up;
    int failed = pthread_create(&session, NULL, serve, tunnel);
    if (failed) {
        fd_close(tunnel->far_fd);
        return err_errno(err, failed, "start a thread");
    }
    failed = pthread_create(&up, NULL, send_up, tunnel);
    if (!failed)
        take_down(tunnel);
    shutdown(tunnel->near_fd, SHUT_RDWR);
    pthread_join(session, NULL);
    if (!failed)
        pthread_join(up, NULL);
    return failed ? err_errno(err, failed, "start a thread") : 0;
}

int handle_session_call(void *context, struct grpc_call *call, struct err *err)
{
    struct tunnel tunnel = { .buildkit = context, .call = call };
    const char *id = grpc_metadata(call, "x-docker-expose-session-uuid");
    int ends[2];
    if (buildkit_session_check(context, id, err) < 0 || fd_socketpair(SOCK_STREAM, ends, err) < 0)
        return -1;
    tunnel.id = arena_strdup(grpc_arena(call), id);
    tunnel.key = arena_strdup(grpc_arena(call), grpc_metadata(call, "x-docker-expose-session-sharedkey"));
    tunnel.near_fd = ends[0];
    tunnel.far_fd = ends[1];
    int result = run(&tunnel, err);
    fd_close(tunnel.near_fd);
    return result;
}
