// A split virtqueue as its device sees it (virtio 1.2, 2.7): descriptor table, available ring (driver to device) and used ring
// (device to driver), all three in guest memory.
//
//     driver                                      device
//       writes descriptors, avail.ring, avail.idx
//       kick  ------------------------------------>  virtq_next: one chain, checked whole, as host addresses
//                                                    ... reads and writes its segments ...
//                                                    virtq_put: used.ring, used.idx
//       <------------------------------------ interrupt, if virtq_should_notify
//
// The driver is a stranger that can change the rings at any time. Each word is loaded once, then checked. What the
// specification forbids breaks the queue: `broken` says why, virtq_next gives nothing any more, and the transport sets
// DEVICE_NEEDS_RESET. Nothing here is fatal to the process, nothing loops or copies without a bound.
//
// A queue belongs to whoever holds its device's lock.
#ifndef VMM_VIRTIO_QUEUE_H
#define VMM_VIRTIO_QUEUE_H

#include <sys/uio.h>

#include "vmm/memory.h"
#include "vmm/state.h"

#define VIRTQ_SIZE_MAX 256 // elements of the largest queue
#define VIRTQ_CHAIN_BYTES_MAX (UINT64_C(64) << 20) // of one chain, both directions together

struct virtq {
    // Given by the device: the largest size, for QueueNumMax.
    uint16_t size_max;
    // Set by the driver through the transport, untrusted until virtq_start().
    uint16_t size;
    bool ready;
    uint64_t desc_gpa, avail_gpa, used_gpa;

    // Since virtq_start():
    const struct gmem *memory;
    const uint8_t *desc; // the ring parts in our address space
    const uint16_t *avail; // flags, idx, ring[size], used_event
    uint16_t *used; // flags, idx, {u32 id, u32 len}[size], avail_event
    bool event_idx, indirect; // VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC
    uint16_t next_avail; // the next entry to take
    uint16_t next_used; // the next entry to fill; published up to used.idx
    uint16_t signalled; // next_used at the last virtq_should_notify()
    bool published; // something was, since then
    bool signal_always; // the next answer is yes: after a start or a load nobody knows what the driver saw
    const char *broken; // why, or NULL
};

// One chain: what the driver wrote first, what the device may write after that. Segments are never empty and point into
// guest memory: copy, then validate, then use.
struct virtq_chain {
    uint16_t head;
    unsigned out_len, in_len; // segments: device-readable, device-writable
    uint64_t out_size, in_size; // bytes
    struct iovec segments[VIRTQ_SIZE_MAX]; // out_len of them, then in_len
};

void virtq_init(struct virtq *queue, uint16_t size_max);
void virtq_reset(struct virtq *queue);
// Checks what the driver set and makes the queue usable; false leaves it broken. `features` as negotiated.
bool virtq_start(struct virtq *queue, const struct gmem *memory, uint64_t features);
void virtq_break(struct virtq *queue, const char *why); // the first reason stays

// 1 with the next chain, 0 when there is none (the driver has been asked to kick), -1 when the queue is broken or not started.
int virtq_next(struct virtq *queue, struct virtq_chain *chain);
// Gives back the last `len` chains taken and not put: the next virtq_next() takes them again.
void virtq_undo(struct virtq *queue, unsigned len);
// Returns a chain with the count of bytes written to its writable part.
void virtq_put(struct virtq *queue, uint16_t head, uint32_t written);
// The same in two steps, for several chains that must appear at once.
void virtq_stage(struct virtq *queue, uint16_t head, uint32_t written);
void virtq_publish(struct virtq *queue);
// Whether the driver wants an interrupt for what was published since the last call.
bool virtq_should_notify(struct virtq *queue);

// Copies from the readable and to the writable part, from `offset` on; return the bytes copied, fewer at the end.
size_t virtq_read(const struct virtq_chain *chain, uint64_t offset, void *out, size_t size);
size_t virtq_write(const struct virtq_chain *chain, uint64_t offset, const void *data, size_t size);
// The stretch [offset, offset + size) of the readable or writable part as segments (`out`: VIRTQ_SIZE_MAX of them); returns
// their count, *got the bytes, fewer at the end.
unsigned virtq_slice(const struct virtq_chain *chain, bool writable, uint64_t offset, uint64_t size, struct iovec *out,
                     uint64_t *got);

void virtq_save(const struct virtq *queue, struct state_writer *writer);
// Into a queue fresh from virtq_init(); `started` queues are started again at their saved place.
void virtq_load(struct virtq *queue, struct state_reader *reader, const struct gmem *memory, uint64_t features, bool started);

#endif
