// Order of memory accesses (virtio 1.2, 2.7.13 and 2.7.14):
//   - avail.idx is loaded with acquire: the descriptors it announces were written before it.
//   - used.idx is stored with release: the driver sees a used element, and the data, before the index.
//   - Both notification questions are "store mine, full fence, load the other's": with avail_event or used.idx stored first,
//     either the driver sees it and kicks, or we see its new avail.idx.
#include <linux/virtio_ring.h>

#include "vmm/virtio_queue.h"

#define AVAIL_FLAGS 0 // in u16 words
#define AVAIL_IDX 1
#define AVAIL_RING 2
#define USED_IDX 1
#define USED_RING 2
#define USED_WORDS 4 // u16 words of an element

// Keeps the compiler from reading guest memory again after a value was copied out of it and checked.
#define COPIED() __asm__ volatile("" ::: "memory")

void virtq_init(struct virtq *queue, uint16_t size_max)
{
    *queue = (struct virtq){ .size_max = MIN_OF(size_max, VIRTQ_SIZE_MAX) };
}

void virtq_reset(struct virtq *queue)
{
    virtq_init(queue, queue->size_max);
}

void virtq_break(struct virtq *queue, const char *why)
{
    if (!queue->broken)
        queue->broken = why;
}

// ---- start ----------------------------------------------------------------------------------------------------------

static void *ring_part(struct virtq *queue, uint64_t gpa, uint64_t size, unsigned align, bool write, const char *why)
{
    void *at = gpa % align ? NULL : gmem_at(queue->memory, gpa, size, write);
    if (!at || (uintptr_t)at % align) {
        virtq_break(queue, why);
        return NULL;
    }
    return at;
}

bool virtq_start(struct virtq *queue, const struct gmem *memory, uint64_t features)
{
    queue->memory = memory;
    queue->event_idx = features & (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX);
    queue->indirect = features & (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC);
    queue->signal_always = true;
    uint64_t size = queue->size;
    if (size == 0 || size > queue->size_max || (size & (size - 1))) {
        virtq_break(queue, "the queue's size is not a power of two within QueueNumMax");
        return false;
    }
    // The words for the event indices are there in any case, as the specification's sizes count them.
    queue->desc = ring_part(queue, queue->desc_gpa, size * sizeof(struct vring_desc), VRING_DESC_ALIGN_SIZE, false,
                            "the descriptor table is misaligned or not in memory");
    queue->avail = ring_part(queue, queue->avail_gpa, 6 + 2 * size, VRING_AVAIL_ALIGN_SIZE, false,
                             "the available ring is misaligned or not in memory");
    queue->used = ring_part(queue, queue->used_gpa, 6 + 8 * size, VRING_USED_ALIGN_SIZE, true,
                            "the used ring is misaligned or not in writable memory");
    return !queue->broken;
}

// ---- taking ---------------------------------------------------------------------------------------------------------

struct walk {
    struct virtq *queue;
    struct virtq_chain *chain;
    unsigned descriptors; // seen, tables of indirect ones included
};

static int broken(struct virtq *queue, const char *why)
{
    virtq_break(queue, why);
    return -1;
}

// Copies descriptor `index` of a table that holds more than that.
static struct vring_desc load_descriptor(const uint8_t *table, unsigned index)
{
    struct vring_desc desc;
    memcpy(&desc, table + index * sizeof(desc), sizeof(desc));
    COPIED();
    return desc;
}

static int add_segment(struct walk *walk, const struct vring_desc *desc)
{
    struct virtq_chain *chain = walk->chain;
    bool writable = desc->flags & VRING_DESC_F_WRITE;
    if (!writable && chain->in_len)
        return broken(walk->queue, "a readable descriptor follows a writable one");
    if (desc->len == 0)
        return 0; // means nothing, and its address neither
    if (desc->len > VIRTQ_CHAIN_BYTES_MAX - (chain->in_size + chain->out_size))
        return broken(walk->queue, "a chain has too many bytes");
    void *at = gmem_at(walk->queue->memory, desc->addr, desc->len, writable);
    if (!at)
        return broken(walk->queue, writable ? "a descriptor points outside of writable memory"
                                            : "a descriptor points outside of memory");
    chain->segments[chain->out_len + chain->in_len] = (struct iovec){ at, desc->len };
    *(writable ? &chain->in_len : &chain->out_len) += 1;
    *(writable ? &chain->in_size : &chain->out_size) += desc->len;
    return 0;
}

static int walk_table(struct walk *walk, const uint8_t *table, unsigned len, unsigned index, bool inner);

static int walk_indirect(struct walk *walk, const struct vring_desc *desc, bool inner)
{
    struct virtq *queue = walk->queue;
    if (!queue->indirect || inner)
        return broken(queue, inner ? "an indirect descriptor inside an indirect table" : "INDIRECT was not negotiated");
    if (desc->flags & VRING_DESC_F_NEXT)
        return broken(queue, "a descriptor is both INDIRECT and NEXT");
    unsigned len = desc->len / sizeof(struct vring_desc);
    if (len == 0 || desc->len % sizeof(struct vring_desc) || len > queue->size)
        return broken(queue, "an indirect table of a wrong size");
    const uint8_t *table = gmem_at(queue->memory, desc->addr, desc->len, false);
    if (!table)
        return broken(queue, "an indirect table outside of memory");
    return walk_table(walk, table, len, 0, true);
}

// A loop ends at the count: a chain has at most as many descriptors as the queue, those of an indirect table included.
static int walk_table(struct walk *walk, const uint8_t *table, unsigned len, unsigned index, bool inner)
{
    for (;;) {
        if (index >= len)
            return broken(walk->queue, "a descriptor index outside of its table");
        struct vring_desc desc = load_descriptor(table, index);
        if (desc.flags & VRING_DESC_F_INDIRECT)
            return walk_indirect(walk, &desc, inner);
        if (walk->descriptors++ >= walk->queue->size)
            return broken(walk->queue, "a chain is longer than the queue");
        if (add_segment(walk, &desc) < 0)
            return -1;
        if (!(desc.flags & VRING_DESC_F_NEXT))
            return 0;
        index = desc.next;
    }
}

static uint16_t avail_len(const struct virtq *queue)
{
    return (uint16_t)(__atomic_load_n(&queue->avail[AVAIL_IDX], __ATOMIC_ACQUIRE) - queue->next_avail);
}

// Entries that wait; when there are none, the driver is asked to kick, and whether it came in between is looked at once more.
// While entries wait avail_event stays behind, so that a busy driver doesn't kick.
static int wait_len(struct virtq *queue)
{
    uint16_t len = avail_len(queue);
    if (len == 0 && queue->event_idx) {
        __atomic_store_n(&queue->used[USED_RING + USED_WORDS * queue->size], queue->next_avail, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        len = avail_len(queue);
    }
    return len > queue->size ? broken(queue, "the available index jumped") : len;
}

int virtq_next(struct virtq *queue, struct virtq_chain *chain)
{
    if (queue->broken || !queue->used)
        return -1;
    int len = wait_len(queue);
    if (len <= 0)
        return len;
    chain->head = __atomic_load_n(&queue->avail[AVAIL_RING + queue->next_avail % queue->size], __ATOMIC_RELAXED);
    chain->out_len = chain->in_len = 0;
    chain->out_size = chain->in_size = 0;
    struct walk walk = { queue, chain, 0 };
    if (walk_table(&walk, queue->desc, queue->size, chain->head, false) < 0)
        return -1;
    queue->next_avail++;
    return 1;
}

void virtq_undo(struct virtq *queue, unsigned len)
{
    queue->next_avail = (uint16_t)(queue->next_avail - len);
}

// ---- giving back ----------------------------------------------------------------------------------------------------

void virtq_stage(struct virtq *queue, uint16_t head, uint32_t written)
{
    if (queue->broken || !queue->used)
        return;
    const struct vring_used_elem element = { head, written };
    memcpy(&queue->used[USED_RING + USED_WORDS * (queue->next_used % queue->size)], &element, sizeof(element));
    queue->next_used++;
}

void virtq_publish(struct virtq *queue)
{
    if (queue->broken || !queue->used)
        return;
    __atomic_store_n(&queue->used[USED_IDX], queue->next_used, __ATOMIC_RELEASE);
    queue->published = true;
}

void virtq_put(struct virtq *queue, uint16_t head, uint32_t written)
{
    virtq_stage(queue, head, written);
    virtq_publish(queue);
}

bool virtq_should_notify(struct virtq *queue)
{
    if (queue->broken || !queue->used || !queue->published)
        return false;
    uint16_t old = queue->signalled;
    bool always = queue->signal_always;
    queue->signalled = queue->next_used;
    queue->published = queue->signal_always = false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!queue->event_idx)
        return !(__atomic_load_n(&queue->avail[AVAIL_FLAGS], __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
    uint16_t used_event = __atomic_load_n(&queue->avail[AVAIL_RING + queue->size], __ATOMIC_RELAXED);
    return always || vring_need_event(used_event, queue->next_used, old);
}

// ---- segments -------------------------------------------------------------------------------------------------------

unsigned virtq_slice(const struct virtq_chain *chain, bool writable, uint64_t offset, uint64_t size, struct iovec *out,
                     uint64_t *got)
{
    const struct iovec *from = chain->segments + (writable ? chain->out_len : 0);
    unsigned from_len = writable ? chain->in_len : chain->out_len, len = 0;
    *got = 0;
    for (unsigned i = 0; i < from_len && size; i++) {
        if (offset >= from[i].iov_len) {
            offset -= from[i].iov_len;
            continue;
        }
        size_t part = MIN_OF(from[i].iov_len - offset, size);
        out[len++] = (struct iovec){ (uint8_t *)from[i].iov_base + offset, part };
        *got += part;
        size -= part;
        offset = 0;
    }
    return len;
}

// Copies between `data` and a part of the chain, without a list of segments between them.
static size_t copy(const struct virtq_chain *chain, bool writable, uint64_t offset, void *data, size_t size)
{
    const struct iovec *from = chain->segments + (writable ? chain->out_len : 0);
    unsigned from_len = writable ? chain->in_len : chain->out_len;
    size_t done = 0;
    for (unsigned i = 0; i < from_len && done < size; i++) {
        if (offset >= from[i].iov_len) {
            offset -= from[i].iov_len;
            continue;
        }
        size_t part = MIN_OF(from[i].iov_len - offset, size - done);
        uint8_t *guest = (uint8_t *)from[i].iov_base + offset, *ours = (uint8_t *)data + done;
        memcpy(writable ? guest : ours, writable ? ours : guest, part);
        done += part;
        offset = 0;
    }
    COPIED();
    return done;
}

size_t virtq_read(const struct virtq_chain *chain, uint64_t offset, void *out, size_t size)
{
    return copy(chain, false, offset, out, size);
}

size_t virtq_write(const struct virtq_chain *chain, uint64_t offset, const void *data, size_t size)
{
    return copy(chain, true, offset, (void *)(uintptr_t)data, size);
}

// ---- state ----------------------------------------------------------------------------------------------------------

void virtq_save(const struct virtq *queue, struct state_writer *writer)
{
    state_put16(writer, queue->size);
    state_put8(writer, queue->ready);
    state_put64(writer, queue->desc_gpa);
    state_put64(writer, queue->avail_gpa);
    state_put64(writer, queue->used_gpa);
    state_put16(writer, queue->next_avail);
    state_put16(writer, queue->next_used);
    state_put8(writer, queue->broken != NULL);
}

void virtq_load(struct virtq *queue, struct state_reader *reader, const struct gmem *memory, uint64_t features, bool started)
{
    queue->size = state_get16(reader);
    queue->ready = state_get8(reader) == 1;
    queue->desc_gpa = state_get64(reader);
    queue->avail_gpa = state_get64(reader);
    queue->used_gpa = state_get64(reader);
    uint16_t next_avail = state_get16(reader), next_used = state_get16(reader);
    bool was_broken = state_get8(reader);
    if (reader->failed)
        return;
    if (was_broken)
        virtq_break(queue, "the queue was broken when it was saved");
    else if (started && queue->ready && !virtq_start(queue, memory, features))
        state_fail(reader, "%s", queue->broken);
    queue->next_avail = next_avail;
    queue->next_used = queue->signalled = next_used;
}
