// Request bodies. Text is collected; a stream goes through a pipe to a handler in a thread of its own, so that the handler
// reads plainly while libmicrohttpd goes on parsing in the connection's thread.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include "httpd_private.h"

int body_add_text(struct httpd_request *request, const char *data, size_t size)
{
    buf_add(&request->body, data, size);
    return request->body.overflow ? -1 : 0;
}

static void *run_handler(void *context)
{
    struct httpd_request *request = context;
    request->httpd->config.handle(request->httpd->config.context, request);
    // The feeder, if it still writes, gets EPIPE from here on and drops the rest.
    fd_close(take_fd(&request->body_read_fd));
    return NULL;
}

int body_start_handler(struct httpd_request *request, struct err *err)
{
    int ends[2];
    pthread_attr_t attributes;
    if (fd_pipe(ends, err) < 0)
        return -1;
    fcntl(ends[1], F_SETPIPE_SZ, 1 << 20); // fewer switches between the two threads; 64 KiB where it is refused
    request->body_read_fd = ends[0];
    request->body_write_fd = ends[1];
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, HTTPD_STACK_SIZE);
    int failed = pthread_create(&request->handler, &attributes, run_handler, request);
    pthread_attr_destroy(&attributes);
    if (failed)
        return err_errno(err, failed, "start a handler's thread");
    request->handler_runs = true;
    return 0;
}

void body_feed(struct httpd_request *request, const char *data, size_t size)
{
    while (size > 0 && request->body_write_fd >= 0) {
        ssize_t n = write(request->body_write_fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            fd_close(take_fd(&request->body_write_fd));
            return;
        }
        data += n;
        size -= (size_t)n;
    }
}

void body_finish(struct httpd_request *request)
{
    fd_close(take_fd(&request->body_write_fd));
    if (request->handler_runs)
        pthread_join(request->handler, NULL);
    request->handler_runs = false;
}
