// HTTP/1.1 for control sockets: a bounded parser, a server that is one thread's event loop, and a client. Unix stream sockets
// only, so that descriptors can travel: those of a request come with its first byte, and who sends some waits for the answer
// before the next request. No TLS, no trailers, no request body in chunks; heads, bodies, connections and what waits to be sent
// have ceilings.
//
// A *stream* is one long response in chunks, each chunk one line of JSON: events.
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include "base/buf.h"
#include "base/loop.h"
#include "base/slice.h"

#define HTTP_HEAD_MAX 8192 // bytes, the empty line included
#define HTTP_BODY_MAX 65536 // also of one chunk
#define HTTP_HEADERS_MAX 64
#define HTTP_FDS_MAX 4 // with one request; more are closed
#define HTTP_CONNECTIONS_MAX 16 // of one server; more are closed at once
#define HTTP_WAITING_MAX (256u << 10) // bytes that a peer has not taken; then it is cut off

// ---- parsing: pure, on whatever bytes are there --------------------------------------------------------------------

enum http_kind { HTTP_REQUEST, HTTP_RESPONSE };

struct http_head {
    size_t size; // bytes up to the body
    struct slice method, path, query; // of a request; they point into the bytes
    int status; // of a response
    uint64_t body_size; // Content-Length, 0 without
    bool chunked; // of a response: body_size means nothing
    bool close; // this is the connection's last
};

// 1: *out is filled; 0: more bytes are needed; -1: this is no HTTP that we speak (invalid_argument).
int http_parse_head(enum http_kind kind, struct slice bytes, struct http_head *out, struct err *err);
// The first chunk: 1 with its data and *size, the bytes it takes with its frame (no data: the last one); 0: more bytes are
// needed; -1.
int http_parse_chunk(struct slice bytes, struct slice *data, size_t *size, struct err *err);

void http_put_text(struct buf *out, const char *text); // as a JSON string, with its quotes

// ---- server --------------------------------------------------------------------------------------------------------

struct http_server;
struct http_connection;

// A request, as long as its handler runs; it answers before it returns.
struct http_call {
    struct http_connection *connection;
    struct slice method, path, query, body;
    int *fds; // take one by take_fd(); the others are closed
    size_t fds_len;
};

// Paths are compared whole.
struct http_route {
    const char *method, *path;
    void (*handle)(void *context, struct http_call *call);
};

// All calls belong to the loop's thread. The routes are the caller's and outlive the server.
int http_server_new(struct loop *loop, const struct http_route *routes, size_t routes_len, void *context,
                    struct http_server **out, struct err *err);
void http_server_free(struct http_server *server); // NULL is fine
// A socket that listens, or one that is connected already: the server finds out. Taken on success.
int http_server_add(struct http_server *server, int fd, struct err *err);

void http_answer(struct http_call *call, int status, const char *json); // NULL: no body
void http_answer_err(struct http_call *call, const struct err *err); // {"message": ...} with the status of its class
void http_answer_stream(struct http_call *call, const char *json); // becomes a stream that begins with this line
void http_server_tell(struct http_server *server, const char *json); // one more line for every stream
// Ends the streams, and waits until everything is taken, at most until `deadline_ns` (clock_mono_ns).
void http_server_drain(struct http_server *server, int64_t deadline_ns);

// ---- client --------------------------------------------------------------------------------------------------------

struct http_client {
    int fd; // the caller's
    struct buf in;
    size_t used; // bytes of `in` that the last part took
    bool in_stream;
    int status;
};

struct http_part {
    int status;
    struct slice body; // valid until the next call
    bool last; // of this response; only a stream has several
};

void http_client_init(struct http_client *client, int fd);
void http_client_done(struct http_client *client);
// The whole request, without a body, in one message.
int http_client_send(struct http_client *client, const char *method, const char *path, const int *fds, size_t fds_len,
                     struct err *err);
// Reads once what is there: 1, 0 at the end of the stream, -1. Waits when nothing is there and the socket is a blocking one.
int http_client_receive(struct http_client *client, struct err *err);
// The next part of what was read: 1; 0: receive more; -1.
int http_client_next(struct http_client *client, struct http_part *out, struct err *err);
// The three together, for who may wait: 0 with the response's whole body appended to *body, or -1 when there was none, it came
// after `deadline_ns`, or it is an error (which becomes *err).
int http_client_call(struct http_client *client, const char *method, const char *path, const int *fds, size_t fds_len,
                     int64_t deadline_ns, struct buf *body, struct err *err);

#endif
