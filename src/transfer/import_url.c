// docker import of a URL: two processes, as for a pull. One fetches and hands over a pipe; the jailed one makes the image of it, and
// believes that it is whole when the other says so.
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "link.h"
#include "report.h"
#include "stage.h"
#include "transfer/transfer.h"

#define PIPE_SIZE (1 << 20)

// ---- the fetching half ----------------------------------------------------------------------------------------------

struct handing {
    int link_fd, write_fd;
};

static int hand_over(void *context, int64_t length, struct err *err)
{
    struct handing *handing = context;
    const struct link_message message = { .kind = LINK_LAYER, .size = length };
    int ends[2];
    if (fd_pipe(ends, err) < 0)
        return -1;
    _cleanup_close_ int read_end = ends[0];
    handing->write_fd = ends[1];
    fcntl(ends[1], F_SETPIPE_SZ, PIPE_SIZE); // smaller is slower, nothing else
    return fetch_link_send(handing->link_fd, &message, read_end, err);
}

static int pass(void *context, const void *data, size_t size, struct err *err)
{
    return fd_write_full(((struct handing *)context)->write_fd, data, size, err);
}

int transfer_fetch_url(int link_fd, const char *url, struct err *err)
{
    struct handing handing = { link_fd, -1 };
    struct link_message last = { .kind = LINK_END };
    struct fetch_watch watch = { .fds = { link_fd, -1 } };
    if (fetch_watch_start(&watch, err) < 0) {
        transfer_fetch_failed(link_fd, err);
        return -1;
    }
    int result = distribution_url(url, NULL, hand_over, pass, &handing, err);
    fetch_watch_stop(&watch);
    if (result < 0)
        last = (struct link_message){ .kind = LINK_ERROR, .err = *err };
    fetch_link_send(link_fd, &last, -1, NULL); // before the pipe's end, which the other sees first otherwise
    fd_close(handing.write_fd);
    return result;
}

// ---- the jailed half ------------------------------------------------------------------------------------------------

// What it says; the descriptor of the pipe, where there is one.
static int receive(int link_fd, struct link_message *message, int *fd, struct err *err)
{
    if (fetch_link_receive(link_fd, message, fd, err) < 0)
        return -1;
    if (message->kind != LINK_ERROR)
        return 0;
    message->err.message[sizeof(message->err.message) - 1] = '\0';
    err_set(err, message->err.class, "%s", message->err.message);
    err->number = message->err.number;
    return -1;
}

int transfer_receive_url(int link_fd, const char *url, struct transfer_url *out, FILE *report, struct err *err)
{
    struct link_message message;
    *out = (struct transfer_url){ .fd = -1, .link_fd = link_fd };
    if (receive(link_fd, &message, &out->fd, err) < 0)
        return -1;
    if (message.kind != LINK_LAYER || out->fd < 0)
        return err_set(err, ERR_INTERNAL, "the fetching process sent no pipe");
    out->length = message.size;
    return report_line(report, "from", json_string(url), err);
}

int transfer_url_whole(const struct transfer_url *url, struct err *err)
{
    struct link_message message;
    int fd;
    int result = receive(url->link_fd, &message, &fd, err);
    fd_close(fd);
    return result;
}
