// Request bodies. Text is collected; a stream goes through a pipe to a handler in a thread of its own, so that the handler
// reads plainly while libmicrohttpd goes on parsing in the connection's thread.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "httpd_private.h"

int body_add_text(struct httpd_request *request, const char *data, size_t size)
{
    buf_add(&request->body, data, size);
    return request->body.overflow ? -1 : 0;
}

// ---- what is offered ------------------------------------------------------------------------------------------------

static void end_offer(struct body_offer *offer)
{
    if (offer->way == BODY_TAKEN)
        eventfd_write(offer->over_fd, 1);
    offer->way = BODY_PIPED;
    cond_wake_all(&offer->changed);
}

static void withdraw(struct httpd_request *request)
{
    mutex_lock(&request->offer.lock);
    end_offer(&request->offer);
    mutex_unlock(&request->offer.lock);
}

// How much of the piece the handler has taken. Waits until it has said what it wants.
static size_t offer_piece(struct body_offer *offer, const char *data, size_t size)
{
    size_t taken = 0;
    bool more = true;
    mutex_lock(&offer->lock);
    while (offer->way == BODY_OFFERED)
        cond_wait(&offer->changed, &offer->lock);
    if (offer->way == BODY_TAKEN) {
        offer->busy = true;
        mutex_unlock(&offer->lock);
        taken = offer->piece(offer->with, data, size, &more);
        mutex_lock(&offer->lock);
        offer->busy = false;
        cond_wake_all(&offer->changed);
        if (taken < size || !more)
            end_offer(offer);
    }
    mutex_unlock(&offer->lock);
    return taken;
}

static int wait_over(struct body_offer *offer, int over_fd, const struct cancel *cancel, struct err *err)
{
    int done = cancel_wait(cancel, over_fd, -1, err);
    mutex_lock(&offer->lock);
    offer->way = BODY_PIPED;
    while (offer->busy)
        cond_wait(&offer->changed, &offer->lock);
    mutex_unlock(&offer->lock);
    return done < 0 ? -1 : 0;
}

int httpd_body_take(struct httpd_request *request, httpd_piece_fn *piece, void *with, const struct cancel *cancel, struct err *err)
{
    struct body_offer *offer = &request->offer;
    _cleanup_close_ int over = piece ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (piece && over < 0)
        return err_errno(err, errno, "eventfd");
    mutex_lock(&offer->lock);
    bool taken = piece && offer->way == BODY_OFFERED;
    if (offer->way == BODY_OFFERED) {
        offer->way = taken ? BODY_TAKEN : BODY_PIPED;
        offer->piece = piece;
        offer->with = with;
        offer->over_fd = over;
        cond_wake_all(&offer->changed);
    }
    mutex_unlock(&offer->lock);
    return taken ? wait_over(offer, over, cancel, err) : 0;
}

// ---- a stream -------------------------------------------------------------------------------------------------------

static void *run_handler(void *context)
{
    struct httpd_request *request = context;
    request->httpd->config.handle(request->httpd->config.context, request);
    withdraw(request);
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
    size_t taken = request->handler_runs ? offer_piece(&request->offer, data, size) : 0;
    data += taken;
    size -= taken;
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
    withdraw(request);
    fd_close(take_fd(&request->body_write_fd));
    if (request->handler_runs)
        pthread_join(request->handler, NULL);
    request->handler_runs = false;
}
