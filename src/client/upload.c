// A file as a request's body. A thread sends it, while the answer is read here: a daemon that tells its progress may take no more of
// the body until somebody reads that.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "client/client_private.h"
#include "base/fd.h"

#define PIECE 65536

struct sender {
    pthread_t thread;
    struct http_exchange *x; // of which the thread uses the descriptor alone
    int from;
    int error; // an errno of reading; valid once joined
};

// False at the end, or when the daemon takes no more: it has answered, and the answer says why.
static bool send_piece(struct sender *sender, char data[PIECE])
{
    struct pollfd fds[2] = { { .fd = sender->from, .events = POLLIN }, { .fd = sender->x->fd } };
    struct err ignored;
    if (poll(fds, 2, -1) < 0)
        return errno == EINTR;
    if (fds[1].revents)
        return false;
    ssize_t got = read(sender->from, data, PIECE);
    if (got < 0 && errno == EINTR)
        return true;
    if (got < 0) { // a body without its end: nobody shall wait for more of it
        sender->error = errno;
        shutdown(sender->x->fd, SHUT_RDWR);
        return false;
    }
    return http_exchange_put(sender->x, data, (size_t)got, &ignored) == 0 && got > 0;
}

static void *send_file(void *context)
{
    _cleanup_free_ char *data = mem_alloc(PIECE);
    while (send_piece(context, data))
        ;
    return NULL;
}

// The thread's end; an error of reading is why the answer is none.
static int sender_stop(struct api_stream *stream, int result, struct err *err)
{
    struct sender *sender = stream->sender;
    if (!sender)
        return result;
    shutdown(stream->x.fd, SHUT_RDWR);
    pthread_join(sender->thread, NULL);
    stream->sender = NULL;
    stream->x.keep = false;
    if (sender->error)
        result = err_errno(err, sender->error, "read what is to be sent");
    free(sender);
    return result;
}

static int sender_start(struct api_stream *stream, int fd, struct err *err)
{
    struct sender *sender = mem_new(struct sender);
    sender->x = &stream->x;
    sender->from = fd;
    int number = pthread_create(&sender->thread, NULL, send_file, sender);
    if (number) {
        free(sender);
        return err_errno(err, number, "a thread for the upload");
    }
    stream->sender = sender;
    return 0;
}

int api_upload(struct client *client, const char *method, const char *path, const char *headers, int fd, struct api_stream *stream,
               struct err *err)
{
    *stream = (struct api_stream){ .text = BUF_INIT(4u << 20) };
    if (api_open(client, &stream->x, err) < 0)
        return -1;
    _cleanup_free_ char *target = mem_printf("/v1.%d%s", client->api, path);
    int result = http_exchange_open(&stream->x, method, target, headers, err);
    if (result == 0)
        result = sender_start(stream, fd, err);
    if (result == 0)
        result = http_exchange_receive(&stream->x, err);
    if (result == 0)
        result = api_check(&stream->x, err);
    if (result < 0) {
        sender_stop(stream, result, err);
        api_stream_done(client, stream);
    }
    return result;
}

void api_stream_done(struct client *client, struct api_stream *stream)
{
    struct err ignored;
    sender_stop(stream, 0, &ignored);
    buf_done(&stream->text);
    api_close(client, &stream->x);
}
