// The guest link: the seam's frames over one byte stream between a supervisor on the host and PID 1 of a guest, over a vsock
// connection or a virtio-serial port. No descriptors travel here: what a process reads and writes goes as numbered streams.
// Both ends are this code.
//
//     u32 size | u16 type | u16 flags | u64 id | u32 session | u32 zero | u64 sequence | payload        (little-endian)
//
//     HELLO     {"proto_min","proto_max","session","last_seq", ...}   the guest first, once connected; the host answers with its own
//     ACK       nothing; sequence is the last one that arrived        lets the other side forget what it kept
//     REQUEST   {"verb": ...}   RESPONSE {...}   ERROR {"class","errno","message"}   EVENT {"kind": ...}
//     DATA      bytes of stream `id`; flag LINK_END: no more come from this side
//     CREDIT    u32: the receiver of stream `id` takes so many bytes more; flag LINK_STOP: it takes none any more
//
// Streams. Each side opens its end of a number with descriptors of its own: what can be read from `read_fd` goes to the peer,
// what the peer sends goes to `write_fd`. A stream holds at most LINK_WINDOW bytes that its reader has not taken, so whoever
// stops reading blocks that stream alone. Numbers are drawn by the host, each once, and travel in the verbs; who is told one opens it
// before its request handler returns, because bytes may stand in the next frame.
//
// Gaps. A serial port loses bytes in flight without an error, a snapshot cuts a connection. So every frame but HELLO and ACK has
// a sequence number, and its sender keeps it until it is acknowledged. After a new link_connect() both sides say in HELLO what
// they had, and the rest is sent again. The host draws the session; a guest that comes with another one is another guest.
//
// One thread, one loop; no call waits. Callbacks may call anything here but link_free(). The peer is hostile: sizes, windows,
// numbers and nesting are checked, and a peer that breaks a rule is disconnected (`closed` with invalid_argument).
#ifndef TASK_LINK_H
#define TASK_LINK_H

#include <jansson.h>

#include "base/loop.h"

#define LINK_PROTO_MIN 1
#define LINK_PROTO_MAX 1
#define LINK_FRAME_MAX (4u << 20)
#define LINK_DATA_MAX (64u << 10) // payload of one DATA frame
#define LINK_WINDOW (256u << 10)
#define LINK_STREAM_MAX 4096 // open at one time
#define LINK_VSOCK_PORT 1024 // on the host's context id
#define LINK_SERIAL_NAME "berth.link" // of the virtio-serial port

struct link;
struct link_stream;

enum link_side { LINK_HOST, LINK_GUEST };

struct link_handlers {
    // The first hellos are exchanged: calls and events go out from now on. `hello` is the peer's, borrowed.
    void (*ready)(void *context, const json_t *hello);
    // To be answered with link_answer() or link_answer_error(), now or later. `payload` is borrowed. NULL: answers not_implemented.
    void (*request)(void *context, uint64_t id, json_t *payload);
    void (*event)(void *context, json_t *payload); // borrowed; NULL: ignored
    // The stream ended or the peer broke the rules. What was not acknowledged is kept for the next link_connect(); whoever
    // expects none calls link_lose().
    void (*closed)(void *context, const struct err *why);
};

// `session`: the host's, not 0; the guest gives 0 and learns it. `hello`: members added to our HELLO, may be NULL, borrowed.
int link_new(struct loop *loop, enum link_side side, uint32_t session, const json_t *hello, const struct link_handlers *handlers,
             void *context, struct link **out, struct err *err);
void link_free(struct link *link); // descriptors are closed, nothing is called back; NULL is fine
// Takes `fd`, a non-blocking or blocking byte stream that epoll can watch, on success. The one before is closed.
int link_connect(struct link *link, int fd, struct err *err);
bool link_is_ready(const struct link *link);
// Nothing will come any more: calls end with unavailable, every stream as if the peer had ended it, after what has already
// arrived is written. What is left in the descriptor is read first.
void link_lose(struct link *link);

// ---- calls and events ---------------------------------------------------------------------------------------------

// `result` is borrowed; NULL with `error` filled when the peer refused or is lost (unavailable).
typedef void link_answer_fn(void *context, json_t *result, const struct err *error);
// `arguments` is borrowed (NULL: none), the verb is added to a copy. Kept and sent once ready. fn is called exactly once after
// success, but not by link_free().
int link_call(struct link *link, const char *verb, const json_t *arguments, link_answer_fn *fn, void *context, struct err *err);
void link_answer(struct link *link, uint64_t id, const json_t *result); // borrowed; NULL is {}
void link_answer_error(struct link *link, uint64_t id, const struct err *error);
void link_event(struct link *link, const json_t *payload); // borrowed

// ---- streams ------------------------------------------------------------------------------------------------------

// The stream has ended in both directions and its descriptors are closed; it is gone after this call.
typedef void link_stream_fn(void *context);
// Descriptors are taken on success and made non-blocking: -1 for a direction that does not exist (it counts as ended); two
// numbers, not one, for a descriptor that does both. conflict: the number is open; resource_exhausted: too many are.
int link_stream_open(struct link *link, uint32_t number, int read_fd, int write_fd, link_stream_fn *ended, void *context,
                     struct link_stream **out, struct err *err);
// Ends our direction: what can be read without waiting goes (a few windows at most), as soon as the peer takes it, then LINK_END.
// For a reader whose writers should be gone, and for a terminal, which has no end of its own. May call `ended` before it returns.
void link_stream_finish(struct link_stream *stream);
// Closes and forgets it without a callback; the peer's bytes for it are thrown away.
void link_stream_drop(struct link_stream *stream);

#endif
