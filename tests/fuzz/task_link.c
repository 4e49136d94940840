// rooms: task spec json base | jansson
// Bytes from a guest: frames of the link, behind a good hello unless the first byte is odd. Three streams are open.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "task/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void stop(void *context, const struct err *why)
{
    loop_stop(context);
}

static void answer(void *context, json_t *result, const struct err *error)
{
}

static void open_stream(struct link *link, uint32_t number, int read_end, int *keep)
{
    int ends[2];
    struct link_stream *stream;
    if (fd_pipe(ends, NULL) < 0)
        return;
    *keep = ends[1 - read_end];
    link_stream_open(link, number, read_end == 0 ? ends[0] : -1, read_end == 0 ? -1 : ends[1], NULL, NULL, &stream, NULL);
}

static void send_bytes(int fd, const uint8_t *data, size_t size)
{
    static const char hello[] = "\x37\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                "{\"proto_min\":1,\"proto_max\":1,\"session\":0,\"last_seq\":0}";
    if (size && !(data[0] & 1))
        fd_write_full(fd, hello, 32 + 0x37, NULL);
    if (size)
        fd_write_full(fd, data + 1, size - 1, NULL);
    shutdown(fd, SHUT_WR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int ends[2], keep[3] = { -1, -1, -1 };
    struct loop *loop;
    struct link *link;
    if (size > 65536 || fd_socketpair(SOCK_STREAM, ends, NULL) < 0)
        return 0;
    if (loop_new(&loop, NULL) < 0)
        return 0;
    link_new(loop, LINK_HOST, 1, NULL, &(struct link_handlers){ .closed = stop }, loop, &link, NULL);
    open_stream(link, 1, 0, &keep[0]);
    open_stream(link, 2, 1, &keep[1]);
    open_stream(link, 3, 1, &keep[2]);
    link_call(link, "start", NULL, answer, NULL, NULL);
    send_bytes(ends[1], data, size);
    if (link_connect(link, ends[0], NULL) == 0)
        loop_run(loop, NULL);
    link_lose(link);
    link_free(link);
    loop_free(loop);
    fd_close(ends[1]);
    for (size_t i = 0; i < 3; i++)
        fd_close(keep[i]);
    return 0;
}
