// Connections that begin with HTTP/2. The server knows nothing of them but that they are there: they count as the others do, and end with
// the server.
#include "httpd_private.h"

struct http2 {
    struct httpd *httpd;
    struct connection *connection;
    int fd;
};

static void *serve(void *context)
{
    struct http2 *http2 = context;
    struct httpd *httpd = http2->httpd;
    const struct cancel stop = { -1, httpd->stop_fd };
    httpd->config.http2(httpd->config.context, http2->fd, &stop);
    connection_remove(httpd, http2->connection);
    free(http2);
    return NULL;
}

static int start_thread(struct http2 *http2)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, HTTPD_STACK_SIZE);
    int failed = pthread_create(&thread, &attr, serve, http2);
    pthread_attr_destroy(&attr);
    return failed ? -1 : 0;
}

void http2_start(struct httpd *httpd, int take_fd)
{
    _cleanup_close_ int fd = take_fd;
    if (httpd_crowded(httpd))
        return;
    struct http2 *http2 = mem_new(struct http2);
    *http2 = (struct http2){ httpd, connection_add(httpd, -1), fd };
    if (start_thread(http2) == 0) {
        fd = -1;
        return;
    }
    connection_remove(httpd, http2->connection);
    free(http2);
}
