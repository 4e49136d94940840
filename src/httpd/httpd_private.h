// What the server's files share. One `struct connection` per client that libmicrohttpd has, one `struct httpd_request` per
// request on it.
#ifndef HTTPD_HTTPD_PRIVATE_H
#define HTTPD_HTTPD_PRIVATE_H

#include <microhttpd.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/mutex.h"
#include "httpd/httpd.h"

// Request heads up to this size. libmicrohttpd writes zeros over all of it between two requests of a connection, so it is small: what has a
// longer first line (docker save of a thousand names) goes to a second server, whose connections end with their first answer.
#define HTTPD_POOL_SIZE (32u << 10) // X-Registry-Config is long
#define HTTPD_LONG_LINE 1024
#define HTTPD_LONG_POOL_SIZE (4u << 20) // 1 MiB as with Go's servers, and what libmicrohttpd makes of it
#define HTTPD_LONG_LIMIT 16u // connections of that kind
#define HTTPD_CONNECTION_LIMIT 20000u
#define HTTPD_IDLE_S 300u // a client that sends half a head, or nothing between two requests
#define HTTPD_FIRST_BYTES_NS (10 * NS_PER_S)
#define HTTPD_STOP_NS (5 * NS_PER_S)
#define HTTPD_DROPPED_MAX ((size_t)256 << 20) // of a streamed body, behind its answer
#ifdef __SANITIZE_ADDRESS__
#define HTTPD_STACK_SIZE (1u << 20)
#else
#define HTTPD_STACK_SIZE (128u << 10)
#endif

enum { HTTPD_LISTEN_MAX = 16 };

// Accepted, without a byte from the client yet. The list is in order of acceptance, so also of deadlines.
struct waiting {
    struct waiting *next, *previous;
    int fd;
    struct httpd_tls *tls; // speaks TLS; NULL: plain
    int64_t deadline_ns;
};

struct connection {
    struct connection *next, *previous;
    int fd; // libmicrohttpd's; its number stays valid as long as the connection is in the list. -1: it speaks HTTP/2
};

struct httpd {
    struct httpd_config config;
    struct MHD_Daemon *mhd;
    struct MHD_Daemon *mhd_long; // for long first lines, NULL until there is one; the acceptor's
    int stop_fd; // eventfd: readable once the server stops; part of every request's cancel
    int epoll_fd;
    int listen_fds[HTTPD_LISTEN_MAX];
    struct httpd_tls *listen_tls[HTTPD_LISTEN_MAX]; // of the caller; NULL: plain
    size_t listen_len;
    pthread_t acceptor;
    bool accepts;
    struct waiting waiting; // head of the ring; the acceptor's alone
    size_t waiting_len;

    struct mutex lock;
    struct cond gone;
    struct connection connections GUARDED_BY(lock); // head of the ring
    size_t connection_len GUARDED_BY(lock);
    bool stopping GUARDED_BY(lock);
};

enum answer {
    ANSWER_NONE,
    ANSWER_REPLY, // kept in the request until libmicrohttpd takes it
    ANSWER_STREAM, // head written by us
    ANSWER_STREAM_ENDED,
    ANSWER_RAW, // whole reply written by us, before the body was read
    ANSWER_HIJACKED,
};

struct httpd_request {
    struct httpd *httpd;
    struct MHD_Connection *mhd;
    int fd; // the connection's
    struct arena arena;
    struct cancel cancel;
    char *method, *path;
    bool http_10, has_body;
    bool last; // of its connection
    bool sized; // a stream without chunks, whose head has its length
    struct kvs query, headers; // copied: a stream's handler reads them in its own thread while trailers may still come

    enum httpd_body body_mode;
    bool decided; // the chooser was asked
    struct buf body;
    int body_read_fd, body_write_fd; // STREAM: the pipe
    struct body_offer {
        struct mutex lock; // unranked; nothing else is taken with it
        struct cond changed;
        enum { BODY_PIPED, BODY_OFFERED, BODY_TAKEN } way;
        httpd_piece_fn *piece; // TAKEN
        void *with;
        int over_fd; // an eventfd: it is not TAKEN any more
        bool busy; // `piece` runs
    } offer;
    pthread_t handler;
    bool handler_runs;
    size_t dropped; // bytes of the body that came when its handler was done

    enum answer answer;
    struct kvs answer_headers;
    int status;
    const char *content_type;
    char *reply_data; // arena
    size_t reply_size;
    int reply_fd; // -1, or the file whose bytes are the reply
    int64_t reply_start, reply_file_size;
};

// tls.c: a client's socket becomes one with plain bytes. Takes the socket, in any case.
int tls_relay(struct httpd_tls *tls, int take_client, struct err *err);

// httpd.c
struct MHD_Daemon *httpd_long(struct httpd *httpd); // starts it; NULL: it can't be
// Counts a connection, which httpd_stop() then waits for.
struct connection *connection_add(struct httpd *httpd, int fd);
void connection_remove(struct httpd *httpd, struct connection *connection);
bool httpd_crowded(struct httpd *httpd);

// http2.c: takes the socket.
void http2_start(struct httpd *httpd, int take_fd);

// accept.c
int acceptor_start(struct httpd *httpd, struct err *err);
void acceptor_stop(struct httpd *httpd);

// request.c
struct httpd_request *request_new(struct httpd *httpd, struct MHD_Connection *mhd, const char *method, const char *url,
                                  const char *version);
void request_free(struct httpd_request *request);

// body.c
int body_add_text(struct httpd_request *request, const char *data, size_t size); // -1: more than body_max
int body_start_handler(struct httpd_request *request, struct err *err);
void body_feed(struct httpd_request *request, const char *data, size_t size);
void body_finish(struct httpd_request *request); // end of the body: waits for the handler

// answer.c
void answer_error(struct httpd_request *request, int status, const char *message); // {"message": ...}
enum MHD_Result answer_queue(struct httpd_request *request); // the kept reply goes to libmicrohttpd
// The kept reply is written now, although the client still sends: then the rest is read and dropped for a moment, because a
// close with unread bytes would be a reset that takes the answer with it.
void answer_raw(struct httpd_request *request);

#endif
