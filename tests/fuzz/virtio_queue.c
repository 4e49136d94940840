// rooms: vmm base
// Guest memory as a hostile driver left it: { u8 log2 of the queue's size, u8 features, u16 avail, u16 used } and then the
// memory itself, descriptor table first. Whatever it holds, chains stay within memory and within their bounds, and a run ends.
#include <stdint.h>
#include <stdlib.h>

#include "../unit/vmm/guest.h"

#define MEMORY 0x2000
#define CHAINS 600

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct guest *guest, const struct virtq *queue, const struct virtq_chain *chain)
{
    uint64_t bytes = 0;
    if (chain->out_len + chain->in_len > queue->size)
        abort();
    for (unsigned i = 0; i < chain->out_len + chain->in_len; i++) {
        const uint8_t *at = chain->segments[i].iov_base;
        size_t len = chain->segments[i].iov_len;
        if (len == 0 || at < guest->ram || at + len > guest->ram + MEMORY)
            abort();
        bytes += len;
    }
    if (bytes != chain->in_size + chain->out_size || bytes > VIRTQ_CHAIN_BYTES_MAX)
        abort();
}

// Reads all of it and writes some: where the buffers lie over the rings, the rings change under our hands.
static uint32_t use(const struct virtq_chain *chain)
{
    uint8_t byte = 0;
    for (uint64_t at = 0; at < chain->out_size; at += 97)
        virtq_read(chain, at, &byte, 1);
    return (uint32_t)virtq_write(chain, chain->in_size / 2, "fuzz", 4) + byte;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 6)
        return 0;
    static struct virtq_chain chain;
    struct virtq queue;
    struct guest guest = { .ram = aligned_alloc(4096, MEMORY) };
    memset(guest.ram, 0, MEMORY);
    memcpy(guest.ram, data + 6, MIN_OF(size - 6, (size_t)MEMORY));
    gmem_add(&guest.memory, GUEST_BASE, MEMORY, guest.ram, false, NULL);
    virtq_init(&queue, 256);
    queue.size = (uint16_t)(1u << data[0] % 10);
    queue.desc_gpa = GUEST_BASE;
    queue.avail_gpa = GUEST_BASE + (data[2] | data[3] << 8);
    queue.used_gpa = GUEST_BASE + (data[4] | data[5] << 8);
    virtq_start(&queue, &guest.memory, (uint64_t)data[1] << 28);
    for (int i = 0; i < CHAINS && virtq_next(&queue, &chain) > 0; i++) {
        check(&guest, &queue, &chain);
        virtq_put(&queue, chain.head, use(&chain));
        if (i % 3 == 0)
            virtq_should_notify(&queue);
    }
    guest_done(&guest);
    return 0;
}
