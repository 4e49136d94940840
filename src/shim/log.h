// The container's log. Output is cut into lines (at most 16 KiB a piece) once, here, and each goes to the sinks of the driver:
//
//     stdio --bytes--> log.c --entries--> log_json_file.c   a file, rotated; json-file, local, and the cache of the others
//                                     \-> log_remote.c      the others: a queue before a socket
//
// A full disk loses lines, never the container. A remote log that takes nothing holds the output back (mode=blocking) for at most
// LOG_STALL_NS, then its lines are dropped until it takes some again; with mode=non-blocking they are dropped at once when the
// queue is full. All is bounded and nothing waits, but for the first connect and the last lines.
#ifndef SHIM_LOG_H
#define SHIM_LOG_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/loop.h"
#include "base/slice.h"
#include "task/task.h"

enum log_stream_kind { LOG_STDOUT, LOG_STDERR, LOG_STREAM_LEN };

#define LOG_PART_MAX (16u << 10) // of a line in one entry
#define LOG_STALL_NS (10 * NS_PER_S)

struct log_entry {
    enum log_stream_kind stream;
    struct slice text; // without its newline
    bool newline; // false: more of the line follows, or it never ended
    const char *time; // RFC 3339, of the line's first part
    int64_t time_ns;
};

// ---- the whole (log.c) ----------------------------------------------------------------------------------------------

struct log;
typedef void log_room_fn(void *context);

// What the task document says, for this container. `on_room(context)` tells that log_is_full() has become false. Fails where the
// file can't be opened or the remote log not be reached.
int log_new(const struct task_log *wish, struct loop *loop, log_room_fn *on_room, void *context, struct log **out, struct err *err);
void log_free(struct log *log); // what is queued has a second to get out
void log_write(struct log *log, enum log_stream_kind stream, const void *data, size_t size, int64_t now_ns);
void log_end(struct log *log, int64_t now_ns); // writes lines that never got their newline
bool log_is_full(const struct log *log); // the output is to be held back

// ---- a file (log_json_file.c, log_rotate.c) -------------------------------------------------------------------------

// Docker's json-file, byte for byte: {"log":"...\n","stream":"stdout","attrs":{...},"time":"..."} with Go's escapes.
struct log_file;
int log_file_open(const struct task_log *wish, struct loop *loop, struct log_file **out, struct err *err);
void log_file_free(struct log_file *file);
void log_file_put(struct log_file *file, const struct log_entry *entry);
void log_file_flush(struct log_file *file);

// A JSON text's inside, with Go's escapes; what is no UTF-8 becomes U+FFFD. `to` has room for LOG_ESCAPE_MAX times the size. Returns its end.
#define LOG_ESCAPE_MAX 6
char *log_escape(char *to, struct slice from);

// Rotation: PATH becomes PATH.1, that PATH.2 and so on, with ".gz" behind it when compressed; compressing goes on in turns of the
// loop, a piece at a time.
struct log_rotation;
struct log_rotation *log_rotation_new(const char *path, int64_t max_files, bool compress, struct loop *loop);
void log_rotation_free(struct log_rotation *rotation); // finishes what it compresses
// Returns a new descriptor in place of `fd`, which it closes; `fd` itself, still the old file, where that could not be done.
int log_rotate(struct log_rotation *rotation, int fd);

// ---- a socket (log_remote.c, log_format.c, log_gelf.c) --------------------------------------------------------------

struct log_remote;
int log_remote_open(const struct task_log *wish, struct loop *loop, log_room_fn *on_room, void *context, struct log_remote **out,
                    struct err *err);
void log_remote_free(struct log_remote *remote);
void log_remote_put(struct log_remote *remote, const struct log_entry *entry);
bool log_remote_is_full(const struct log_remote *remote);

// One entry as the driver sends it, appended; nothing where the driver has no message for it. `number` tells those apart that are to be answered.
void log_format(const struct task_log *wish, const struct log_entry *entry, uint64_t number, struct buf *out);

// What Fluentd answers to the message of that number: 1 when it is that, 0 when more of it must come, -1 when it is something else.
#define LOG_ACK_MAX 32
int log_ack_fits(const uint8_t *bytes, size_t size, uint64_t number);

// GELF 1.1 (go2docs.graylog.org, "GELF via UDP"): a JSON object; on a stream a NUL ends it.
void gelf_format(const struct task_log *wish, const struct log_entry *entry, uint64_t number, struct buf *out);
// For datagrams: compressed as `wish` says into `packed`, then in pieces of what one datagram holds, each with its head before it (empty where one
// is enough). `id` tells messages apart. False: it is too long for the 128 pieces that there may be.
typedef void gelf_piece_fn(void *context, struct slice head, struct slice piece);
bool gelf_cut(const struct task_log *wish, struct slice message, uint64_t id, struct buf *packed, gelf_piece_fn *put, void *context);

#endif
