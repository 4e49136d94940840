// gRPC over HTTP/2 on one connected descriptor, in either role: whose descriptor it is and how it came (an upgrade, a
// connection that began with HTTP/2, one end of a socket pair) is the caller's. HTTP/2 is libnghttp2's.
//
//     server   grpc_new(GRPC_SERVER) - grpc_run(): each call that comes runs its handler in a thread of its own
//     client   grpc_new(GRPC_CLIENT) - grpc_run() in one thread, grpc_call_new() and what follows it in any others
//
// grpc_run() is the connection's loop: nothing moves without it. A call is used by one thread at a time in each direction (one may
// send while another receives), by plain blocking functions.
//
// A call carries messages both ways; "unary" is the case of one each. A message is bytes (grpc/proto.h makes and reads them).
//
// **Errors and statuses.** A handler that fails tells the client its error as a status: the class gives the code, the
// message is the message. A client gets the peer's status back as an error. ERR_CANCELLED with ETIMEDOUT is
// DEADLINE_EXCEEDED, ERR_CONFLICT with EEXIST is ALREADY_EXISTS, ERR_INTERNAL with EREMOTE is UNKNOWN.
//
// **Bounds.** GRPC_HEADERS_MAX bytes of headers a call, `message_max` bytes a message, `call_max` calls at a time (of a client's, too);
// what a peer sends ahead of the reader stays below GRPC_WINDOW for a call and four times that for the connection, what waits to
// be sent below GRPC_SEND_MAX a call. Compressed messages are refused (unimplemented); no client sends them unasked.
//
// **Deadlines.** A call that has one (grpc-timeout of the client, `timeout_ns` of ours) fails when it is over, in every
// blocking function.
#ifndef GRPC_GRPC_H
#define GRPC_GRPC_H

#include "base/buf.h"
#include "base/cancel.h"
#include "base/slice.h"
#include "base/strv.h"

#define GRPC_HEADERS_MAX ((size_t)64 << 10)
#define GRPC_WINDOW (1 << 20)
#define GRPC_SEND_MAX ((size_t)256 << 10) // and one message beyond it

struct grpc;
struct grpc_call;

// Returns 0 (the status is OK), or -1 with *err. What the client still sends is dropped then. In a thread with a stack of 256 KiB.
typedef int grpc_handler(void *context, struct grpc_call *call, struct err *err);

struct grpc_method {
    const char *path; // "/grpc.health.v1.Health/Check"
    grpc_handler *handler;
};

enum grpc_role { GRPC_SERVER, GRPC_CLIENT };

struct grpc_config {
    enum grpc_role role;
    const struct grpc_method *methods; // SERVER; what none of them names is UNIMPLEMENTED
    size_t method_len;
    void *context; // of the handlers
    size_t message_max; // 4 MiB where 0
    unsigned call_max; // 100 where 0
};

// ---- the connection -------------------------------------------------------------------------------------------------

// Takes the descriptor, in any case, and makes it non-blocking. The config's table must outlive the connection.
int grpc_new(const struct grpc_config *config, int take_fd, struct grpc **out, struct err *err);
// Returns when the connection is over: the peer hung up or broke the protocol, grpc_close(), or cancelled. All calls have failed by
// then and all handlers have returned; a client's callers may still hold calls.
void grpc_run(struct grpc *grpc, const struct cancel *cancel);
void grpc_close(struct grpc *grpc); // any thread; calls that are open fail as cancelled
// After grpc_run(), when no call is held and none will be begun. NULL is fine.
void grpc_free(struct grpc *grpc);

// ---- a call, of either role -----------------------------------------------------------------------------------------

// The peer's next message into *out, which is cleared before. 1; 0 when it has sent its last (of a server: with status OK); -1: the
// server's status, a deadline, the connection's end, a message that is too large.
int grpc_recv(struct grpc_call *call, struct buf *out, struct err *err);
// Waits for room, not for the peer's reading. -1: the call is over, whatever the peer thinks of it is grpc_recv()'s.
int grpc_send(struct grpc_call *call, struct slice message, struct err *err);
// The peer's metadata: a value by its name in lower case, the first one; NULL when absent. All of them: `out` is the call's.
const char *grpc_metadata(const struct grpc_call *call, const char *name);
const struct kvs *grpc_metadata_all(const struct grpc_call *call);
// For a call that brings many small messages, one right after the other: they are read together, up to a millisecond late, for less than what a read and
// a wake-up for each cost. Not for what is large: the peer waits meanwhile once the socket is full.
void grpc_gather(struct grpc_call *call, bool gather);
struct arena *grpc_arena(struct grpc_call *call); // one thread's; lives as long as the call

// ---- of a handler ---------------------------------------------------------------------------------------------------

const char *grpc_path(const struct grpc_call *call);
// The client has cancelled, its deadline is over, or the connection is: for whatever the handler waits besides.
const struct cancel *grpc_cancel(struct grpc_call *call);
// What a failure of this handler says besides its text: a google.protobuf.Any in the trailer grpc-status-details-bin. Copied. The handler's thread.
void grpc_detail(struct grpc_call *call, const char *type_url, struct slice value);
// The one message of a unary call. invalid_argument when there is none.
int grpc_recv_one(struct grpc_call *call, struct buf *out, struct err *err);

// ---- of a client ----------------------------------------------------------------------------------------------------

struct grpc_request {
    const char *path;
    const struct kv *metadata; // names in lower case; may repeat. Values are percent-encoded by nobody
    size_t metadata_len;
    int64_t timeout_ns; // 0: none
};

// resource_exhausted beyond call_max; unavailable when the connection is over.
int grpc_call_new(struct grpc *grpc, const struct grpc_request *request, struct grpc_call **out, struct err *err);
void grpc_send_end(struct grpc_call *call); // no more messages of ours
void grpc_call_free(struct grpc_call *call); // cancels what is not over; NULL is fine
// One message there, one back. Class and message of *err are the peer's.
int grpc_unary(struct grpc *grpc, const struct grpc_request *request, struct slice message, struct buf *out, struct err *err);

#define _cleanup_grpc_call_ _cleanup_(grpc_call_cleanup)
static inline void grpc_call_cleanup(struct grpc_call **call)
{
    grpc_call_free(*call);
}

#endif
