// What the room's files share. One lock a connection guards nghttp2's session and every call; each call has a condition of its own,
// so that bytes wake who waits for them alone.
#ifndef GRPC_GRPC_PRIVATE_H
#define GRPC_GRPC_PRIVATE_H

#include <nghttp2/nghttp2.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mutex.h"
#include "grpc/grpc.h"

#define GRPC_MESSAGE_MAX ((size_t)4 << 20)
#define GRPC_CALL_MAX 100u
#define GRPC_SEND_HEADERS_MAX ((size_t)4 << 20) // of our own calls: a long list of patterns
#define GRPC_DETAILS_MAX ((size_t)3 << 20) // bytes before they are text
#define GRPC_FRAME_HEAD 5 // compressed or not, u32 size
#ifdef __SANITIZE_ADDRESS__
#define GRPC_STACK_SIZE ((size_t)1 << 20)
#else
#define GRPC_STACK_SIZE ((size_t)256 << 10)
#endif

enum grpc_code {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};

struct grpc {
    struct grpc_config config;
    int fd;
    int wake_fd; // eventfd: something waits to be sent, or the connection shall end
    struct buf out; // written by nghttp2, not yet by us; the loop's alone

    struct mutex lock;
    struct cond idle; // a call went away
    nghttp2_session *session GUARDED_BY(lock);
    struct grpc_call *calls GUARDED_BY(lock);
    unsigned call_len GUARDED_BY(lock); // that are held or have a stream
    unsigned handler_len GUARDED_BY(lock);
    unsigned gather_len GUARDED_BY(lock); // calls that gather
    bool closing GUARDED_BY(lock);
    bool closed GUARDED_BY(lock);
};

// Bytes that go in behind and come out in front.
struct queue {
    struct buf buf;
    size_t at; // of the first byte that is still there
};

struct status_detail { // google.protobuf.Any
    char *type_url;
    struct slice value;
};

// Held by its thread (`held`) and by nghttp2's stream (`streams`); freed when neither is left.
struct grpc_call {
    struct grpc *grpc;
    struct grpc_call *next, **at;
    struct cond changed;
    int32_t id; // of the stream
    bool held, streams, gathers;
    struct arena arena;

    char *path;
    const struct grpc_method *method;
    struct arena header_arena;
    struct kvs headers; // the peer's; not its ':' ones
    size_t header_capacity, header_size;
    int http_status; // of an answer
    bool grpc_content; // content-type is application/grpc
    int64_t deadline_ns; // monotonic; 0: none
    struct cancel cancel;
    bool cancelled; // by the peer, the connection's end or the deadline
    bool expired; // by the deadline

    struct queue in; // frames as they came
    size_t unconsumed; // of them, what the peer's window still lacks
    bool in_end; // END_STREAM
    uint32_t reset; // nghttp2's error code of a stream that was reset
    struct queue out;
    bool answered; // the head is submitted (a server's)
    bool out_end, deferred;

    bool has_status; // the peer's (of a client's call), ours (of a server's)
    unsigned code;
    char *message;
    struct status_detail *details; // of a failure of ours; in `arena`, as is the list as a trailer
    size_t detail_len;
    char *details_text;
};

// status.c
unsigned status_code(const struct err *err);
void status_error(unsigned code, const char *message, struct err *err);
char *status_encode(const char *message, struct arena *arena); // for the trailer grpc-message
char *status_decode(const char *text, struct arena *arena);
// For the trailer grpc-status-details-bin: a google.rpc.Status; NULL: it is too large.
char *status_details(unsigned code, const char *message, const struct status_detail *details, size_t len, struct arena *arena);
bool timeout_parse(const char *text, int64_t *out_ns); // "10S"
void timeout_format(int64_t ns, char out[24]);
unsigned status_of_http(int status);
unsigned status_of_reset(uint32_t error_code);

// call.c: all with the connection's lock held.
struct grpc_call *call_add(struct grpc *grpc);
void call_drop(struct grpc_call *call); // frees it when nobody has it
void call_cancel(struct grpc_call *call, uint32_t error_code); // also resets its stream
void call_expire(struct grpc_call *call); // its deadline is over
void call_stream_gone(struct grpc_call *call, uint32_t error_code);
void call_release(struct grpc_call *call); // its thread is done with it
void call_finish(struct grpc_call *call, const struct err *err); // a server's answer ends; err NULL: OK
void call_take_in(struct grpc_call *call, const uint8_t *data, size_t size);
void grpc_wake(struct grpc *grpc);

#endif
