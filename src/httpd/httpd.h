// The HTTP server: plain blocking handlers, one thread per connection, on libmicrohttpd; with request bodies as text or as a
// stream, chunked responses, and hijacked connections whose descriptor may be handed to another process.
//
// The accept loop is ours: a new connection waits in one epoll until its first bytes are there (10 s at most), is peeked,
// and goes to libmicrohttpd (or, where it begins with HTTP/2, to `http2`).
// A request's head may have 32 KiB, and 1 MiB where it is the first one of its connection and its first line is what is long. Beyond
// `connection_max` connections only `is_urgent` requests are answered, the others get 503. The program ignores SIGPIPE.
//
// A handler is called once per request, in the connection's own thread, with the body complete (HTTPD_BODY_TEXT) or as a
// descriptor to read from (HTTPD_BODY_STREAM; then in a thread of its own, where a reply waits for the end of the body and a
// stream's chunks go out at once; what the handler does not read is dropped). It answers exactly once: reply, stream or
// hijack. A handler that returns without answering gives 500. Stacks are 128 KiB: large buffers go on the heap.
//
// The server's own refusals (400, 413, 500, 503) are JSON: {"message": "..."}.
#ifndef HTTPD_HTTPD_H
#define HTTPD_HTTPD_H

#include "base/cancel.h"
#include "base/strv.h"

struct httpd;
struct httpd_request;

// OFFER: a STREAM of which nothing is in the pipe before the handler has called httpd_body_take().
enum httpd_body { HTTPD_BODY_TEXT, HTTPD_BODY_STREAM, HTTPD_BODY_OFFER };

struct httpd_config {
    void (*handle)(void *context, struct httpd_request *request);
    // Asked when the head is there; decides how the body is taken. May answer the request itself (then `handle` is not called).
    enum httpd_body (*body)(void *context, struct httpd_request *request);
    bool (*is_urgent)(void *context, const char *method, const char *path);
    // A connection that begins with HTTP/2's preface, of which nothing is read yet: in a thread of its own, until it returns. Takes the
    // descriptor. NULL: such a client is told by a close.
    void (*http2)(void *context, int take_fd, const struct cancel *stop);
    void *context;
    size_t body_max; // bytes of a text body; more is 413
    unsigned connection_max; // 2048
};

int httpd_new(const struct httpd_config *config, struct httpd **out, struct err *err);
int httpd_listen(struct httpd *httpd, int listen_fd, struct err *err); // takes a listening socket

// Certificates in PEM form; `client_ca` NULL: clients show none.
struct httpd_tls_files {
    const char *cert, *key, *client_ca;
};
struct httpd_tls;
// invalid_argument names the file. TLS 1.2 and 1.3.
int httpd_tls_new(const struct httpd_tls_files *files, struct httpd_tls **out, struct err *err);
void httpd_tls_free(struct httpd_tls *tls); // when no server uses it any more; NULL is fine
// As httpd_listen(), for clients that speak TLS. Nothing else is different: a hijacked descriptor carries plain bytes.
int httpd_listen_tls(struct httpd *httpd, int listen_fd, struct httpd_tls *tls, struct err *err);

// A listening socket for "127.0.0.1:5000", "[::1]:5000", or ":5000" (every address). The descriptor, or -1.
int httpd_tcp_socket(const char *address, struct err *err);

int httpd_start(struct httpd *httpd, struct err *err); // the accept loop's thread
// No new connections; those that run are hung up and waited for, at most 5 s. A handler that takes longer keeps the server
// alive: httpd_free() then leaves it to the end of the program.
void httpd_stop(struct httpd *httpd);
void httpd_free(struct httpd *httpd);

// ---- the request ----------------------------------------------------------------------------------------------------

const char *httpd_method(const struct httpd_request *request);
const char *httpd_path(const struct httpd_request *request); // percent-decoded, without the query
const char *httpd_query(const struct httpd_request *request, const char *key); // the first value, NULL when absent
void httpd_query_all(const struct httpd_request *request, const char *key, struct strv *out); // in the request's arena
// Docker's rule: false for "", 0, no, false, none (any case, trimmed); anything else true; `fallback` when absent.
bool httpd_query_flag(const struct httpd_request *request, const char *key, bool fallback);
const char *httpd_header(const struct httpd_request *request, const char *name); // NULL when absent
bool httpd_upgrade(const struct httpd_request *request); // the client asked for an upgrade to tcp
const char *httpd_body_text(const struct httpd_request *request, size_t *size); // "" when none
int httpd_body_fd(const struct httpd_request *request); // STREAM: readable; stays the request's
// OFFER: pieces of the body go to `piece`, as they lie in the server and in the connection's thread, until it says that it wants no more, or takes less
// of one than there is: what it has left comes through the pipe. Returns then, or at the body's end; `piece` NULL: at once. -1: cancelled.
typedef size_t httpd_piece_fn(void *with, const char *data, size_t size, bool *more);
int httpd_body_take(struct httpd_request *request, httpd_piece_fn *piece, void *with, const struct cancel *cancel, struct err *err);
struct arena *httpd_arena(struct httpd_request *request); // freed after the answer
const struct cancel *httpd_cancel(const struct httpd_request *request); // the client hung up

// ---- the answer -----------------------------------------------------------------------------------------------------

void httpd_set_header(struct httpd_request *request, const char *name, const char *value); // before the answer
void httpd_reply(struct httpd_request *request, int status, const char *content_type, const void *body, size_t size);
// `size` bytes of a file from `start` on, sent by the kernel. Takes the descriptor. For requests without a streamed body.
void httpd_reply_file(struct httpd_request *request, int status, const char *content_type, int take_file_fd, int64_t start,
                      int64_t size);

// Chunked; the head goes out with begin, each write is one flushed chunk. -1 when the client is gone.
int httpd_stream_begin(struct httpd_request *request, int status, const char *content_type);
// The same with its length in the head, and no chunks: exactly `size` bytes are written, or the client sees that some are missing. For a
// HEAD nothing is.
int httpd_stream_begin_sized(struct httpd_request *request, int status, const char *content_type, int64_t size);
int httpd_stream_write(struct httpd_request *request, const void *data, size_t size);
// The same of the next `size` bytes of a pipe, which has them: they go by the kernel, without a copy where it can.
int httpd_stream_splice(struct httpd_request *request, int pipe_fd, size_t size);
void httpd_stream_end(struct httpd_request *request);
// Instead of the end, which else comes by itself: no last chunk, so that the client sees that it has not all.
void httpd_stream_abort(struct httpd_request *request);
bool httpd_answered(const struct httpd_request *request); // the head went out

// Sends "101 UPGRADED" (with Upgrade/Connection: Upgrade) when the client asked for it, else a bare 200 without length, and
// returns the connection's descriptor, the caller's from now on; it may be passed to another process. Nothing that the
// server does afterwards reaches it. It does not block (O_NONBLOCK). Not for requests with a streamed body.
int httpd_hijack(struct httpd_request *request, const char *content_type, struct err *err);

// The same for a client that asked for "h2c": from now on both speak HTTP/2. invalid_argument when it did not.
int httpd_hijack_http2(struct httpd_request *request, struct err *err);

// The same for a client that asked for a websocket: "101 Switching Protocols" with `accept` as its key's answer.
int httpd_hijack_websocket(struct httpd_request *request, const char *accept, struct err *err);

// ---- routes ---------------------------------------------------------------------------------------------------------

// Matches "/containers/{id}/json" against a path. {x} is one component, {x...} one or more, greedy. Values are copied to
// `values` (arena), in pattern order; false when it does not match.
#define HTTPD_ROUTE_VALUES 4
bool httpd_route_match(const char *pattern, const char *path, struct arena *arena, char *values[HTTPD_ROUTE_VALUES]);

#endif
