// The client's side of HTTP/1.1 over one connected stream socket, for bodies of any size: one request, one response, again. Where
// http.h's client is for control sockets with small answers, this one streams both ways and hands the socket over when the
// other side switches protocols (101), as Docker's attach does.
//
//     http_exchange_send(x, "POST", "/containers/create?name=web", "", body)     whole, with Content-Length
//     http_exchange_open(x, "PUT", ...); http_exchange_put(x, ...); http_exchange_put(x, "", 0)      in chunks
//     http_exchange_receive(x)     waits for the head: x->status
//     http_exchange_read(x, ...)   the body, 0 at its end; after 101, or without a length, until the connection ends
//
// Blocking, one thread. All results are 0 or more, or -1 with the error: unavailable when the other side has gone.
#ifndef HTTP_EXCHANGE_H
#define HTTP_EXCHANGE_H

#include "base/buf.h"
#include "base/slice.h"

struct http_exchange {
    int fd; // owned from http_exchange_init() to http_exchange_done()
    struct buf in; // what was read ahead: the head, then bytes of the body
    struct buf head; // the last response's head, for http_exchange_header()
    int status;
    enum { HTTP_NO_BODY, HTTP_SIZED, HTTP_CHUNKED, HTTP_UNTIL_END } framing;
    uint64_t left; // bytes of the body, or of the chunk, that are still to come
    bool last_chunk; // seen
    bool keep; // another request may follow on this connection
};

void http_exchange_init(struct http_exchange *x, int fd); // takes the descriptor
void http_exchange_done(struct http_exchange *x);

// `headers`: further lines, each with its CR LF. A target with a blank or a control character is invalid_argument.
int http_exchange_send(struct http_exchange *x, const char *method, const char *target, const char *headers, struct slice body,
                       struct err *err);
int http_exchange_open(struct http_exchange *x, const char *method, const char *target, const char *headers, struct err *err);
int http_exchange_put(struct http_exchange *x, const void *data, size_t size, struct err *err); // nothing: the end

int http_exchange_receive(struct http_exchange *x, struct err *err);
int http_exchange_receive_bare(struct http_exchange *x, struct err *err); // of a HEAD request: no body, whatever its length
bool http_exchange_header(const struct http_exchange *x, const char *name, struct slice *out);
ssize_t http_exchange_read(struct http_exchange *x, void *data, size_t size, struct err *err);
// Bytes that were read already and that poll() therefore doesn't tell of.
bool http_exchange_pending(const struct http_exchange *x);
// The body was read to its end, and the connection takes the next request.
bool http_exchange_reusable(const struct http_exchange *x);

#endif
