// The two halves of the guest link: frames and the connection (link.c), streams (link_stream.c).
#ifndef TASK_LINK_PRIVATE_H
#define TASK_LINK_PRIVATE_H

#include "base/buf.h"
#include "base/fd.h"
#include "json/json.h"
#include "task/link.h"
#include "task/task.h"

#define LINK_HEADER_SIZE 32
#define LINK_HELD_HIGH (1u << 20) // with so much not acknowledged, streams are not read
#define LINK_HELD_MAX (16u << 20) // a peer that lets so much pile up is disconnected

// Beside those of task.h.
enum link_frame_type { LINK_HELLO = 16, LINK_ACK = 17, LINK_CREDIT = 18 };
enum link_flag { LINK_END = 1 << 0, LINK_STOP = 1 << 1 };

struct link_header {
    uint32_t size;
    uint16_t type, flags;
    uint64_t id;
    uint32_t session;
    uint64_t sequence;
};

// A frame that is kept until the peer has it.
struct link_frame {
    struct link_frame *next;
    uint64_t sequence;
    size_t size; // header and payload
    uint8_t bytes[];
};

struct link_call {
    struct link_call *next;
    uint64_t id;
    link_answer_fn *fn;
    void *context;
};

struct link_stream {
    struct link_stream *next;
    struct link *link;
    uint32_t number;
    // From here to the peer.
    int read_fd; // -1: ended
    struct loop_source *read_source; // while there is credit and room
    struct loop_source *retry; // a terminal nobody has open is looked at again
    uint32_t credit; // bytes the peer takes
    bool finishing; // ends when nothing is there to read
    unsigned finish_rounds;
    bool end_sent;
    // From the peer to here.
    int write_fd; // -1: ended, or nobody takes it
    struct loop_source *write_source; // while `pending` has bytes
    struct buf pending;
    uint32_t window; // bytes the peer may send
    uint32_t written; // not told the peer yet
    bool end_came;
    link_stream_fn *ended;
    void *context;
};

struct link {
    struct loop *loop;
    enum link_side side;
    json_t *hello;
    struct link_handlers handlers;
    void *context;
    uint32_t session;
    bool ready; // greeted once
    bool lost;

    int fd; // -1: no connection
    struct loop_source *source;
    uint32_t events; // what the source waits for
    bool greeted; // on this connection

    struct buf in; // read; frames before `in_at` are taken
    size_t in_at;
    uint64_t received, acknowledged; // sequence numbers: of the last frame that came, of the last that we told

    struct link_frame *first, *last; // kept, in order
    struct link_frame *next_out; // first that is not wholly sent
    size_t next_sent; // of its bytes
    struct buf control; // HELLO and ACK, sent between two frames
    size_t held; // bytes from `first` on
    uint64_t last_sequence;

    struct link_call *calls;
    uint64_t last_id;
    struct link_stream *streams;
    size_t stream_len;
    char *copy; // LINK_DATA_MAX bytes that pass through
};

// link.c. Keeps a frame and sends it when its turn comes.
void link_send(struct link *link, uint16_t type, uint16_t flags, uint64_t id, const void *payload, size_t size);

// link_stream.c
int link_stream_take_data(struct link *link, const struct link_header *header, const void *data, struct err *err);
int link_stream_take_credit(struct link *link, const struct link_header *header, const void *data, struct err *err);
void link_streams_update(struct link *link); // there is room to send, or none any more
void link_streams_lose(struct link *link);
void link_streams_free(struct link *link);

#endif
