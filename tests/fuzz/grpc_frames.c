// rooms: grpc base | libnghttp2 gnutls threads
// Bytes from a client, behind a good preface unless the first byte is odd; or, with the second bit, from a server. A handler reads what it
// gets and answers each message.
#include <pthread.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "grpc/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int echo(void *context, struct grpc_call *call, struct err *err)
{
    _cleanup_buf_ struct buf message = BUF_INIT(4096);
    int got;
    while ((got = grpc_recv(call, &message, err)) > 0)
        if (grpc_send(call, (struct slice){ buf_text(&message), message.size }, err) < 0)
            return -1;
    return got;
}

static const struct grpc_method methods[] = { { "/a", echo } };

static void *ask(void *context)
{
    _cleanup_buf_ struct buf out = BUF_INIT(4096);
    const struct grpc_request request = { .path = "/a" };
    grpc_unary(context, &request, slice_of("x"), &out, NULL);
    return NULL;
}

static void run(enum grpc_role role, int fd)
{
    const struct grpc_config config = { .role = role, .methods = methods, .method_len = 1, .message_max = 4096, .call_max = 4 };
    struct grpc *grpc;
    pthread_t asking;
    if (grpc_new(&config, fd, &grpc, NULL) < 0)
        return;
    bool asks = role == GRPC_CLIENT && pthread_create(&asking, NULL, ask, grpc) == 0;
    grpc_run(grpc, NULL);
    if (asks)
        pthread_join(asking, NULL);
    grpc_free(grpc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", settings[] = "\0\0\0\x04\0\0\0\0\0";
    int ends[2];
    if (size < 1 || size > 100000 || fd_socketpair(SOCK_STREAM, ends, NULL) < 0)
        return 0;
    bool server = data[0] & 2;
    if (!(data[0] & 1))
        fd_write_full(ends[1], server ? settings : preface, server ? sizeof(settings) - 1 : sizeof(preface) - 1, NULL);
    fd_write_full(ends[1], data + 1, size - 1, NULL);
    shutdown(ends[1], SHUT_WR);
    run(server ? GRPC_CLIENT : GRPC_SERVER, ends[0]);
    close(ends[1]);
    return 0;
}
