// virtio-rng (virtio 1.2, 5.4): one queue of device-writable buffers that are filled with random bytes from the kernel.
// Nothing to configure, nothing to save beside the queue.
#include "base/num.h"
#include "vmm/virtio.h"

#define FILL_MAX (64u << 10) // bytes for one buffer; the driver sees how many it got

static uint32_t fill(const struct virtq_chain *chain)
{
    struct iovec iov[VIRTQ_SIZE_MAX];
    uint64_t size;
    unsigned len = virtq_slice(chain, true, 0, FILL_MAX, iov, &size);
    for (unsigned i = 0; i < len; i++)
        random_bytes(iov[i].iov_base, iov[i].iov_len);
    return (uint32_t)size;
}

static bool rng_process(struct virtio_device *device, unsigned index)
{
    struct virtq *queue = &device->queues[index];
    struct virtq_chain chain;
    for (int i = 0; i < VIRTIO_BUDGET; i++) {
        if (virtq_next(queue, &chain) <= 0)
            return false;
        virtq_put(queue, chain.head, fill(&chain));
    }
    return true;
}

static void rng_free(struct virtio_device *device)
{
    free(device);
}

int virtio_rng_new(const struct gmem *memory, struct virtio_device **out, struct err *err)
{
    static const struct virtio_ops ops = {
        .name = "virtio-rng",
        .device_id = VIRTIO_ID_RNG,
        .queues_len = 1,
        .queue_size = 64,
        .process = rng_process,
        .free = rng_free,
    };
    struct virtio_device *device = mem_new(struct virtio_device);
    virtio_init(device, &ops, memory, 0, NULL, 0);
    *out = device;
    return 0;
}
