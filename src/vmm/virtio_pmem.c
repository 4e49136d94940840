// virtio-pmem (virtio 1.2, 5.19): tells the guest where its persistent memory lies; the memory itself is a slot of the machine.
// One queue; FLUSH makes what the guest wrote there durable. A read-only range (image layers) has nothing to flush.
#include <linux/virtio_pmem.h>

#include "base/fd.h"
#include "vmm/virtio.h"

#define ALIGNMENT (UINT64_C(2) << 20) // else Linux finds it misaligned and makes no /dev/pmem

struct pmem {
    struct virtio_device device;
    struct virtio_pmem_config config;
    int fd; // -1: read-only
};

static uint32_t do_request(const struct pmem *pmem, const struct virtq_chain *chain)
{
    struct virtio_pmem_req request;
    if (virtq_read(chain, 0, &request, sizeof(request)) != sizeof(request) || request.type != VIRTIO_PMEM_REQ_TYPE_FLUSH)
        return UINT32_MAX;
    return pmem->fd < 0 || fdatasync(pmem->fd) == 0 ? 0 : UINT32_MAX;
}

static bool pmem_process(struct virtio_device *device, unsigned index)
{
    struct pmem *pmem = (struct pmem *)device;
    struct virtq *queue = &device->queues[index];
    struct virtq_chain chain;
    for (int i = 0; i < VIRTIO_BUDGET; i++) {
        if (virtq_next(queue, &chain) <= 0)
            return false;
        const struct virtio_pmem_resp response = { do_request(pmem, &chain) };
        virtq_put(queue, chain.head, (uint32_t)virtq_write(&chain, 0, &response, sizeof(response)));
    }
    return true;
}

// The guest has the range in its memory map: it can't be elsewhere after a restore.
static void pmem_save(const struct virtio_device *device, struct state_writer *writer)
{
    const struct pmem *pmem = (const struct pmem *)device;
    state_put64(writer, pmem->config.start);
    state_put64(writer, pmem->config.size);
}

static void pmem_load(struct virtio_device *device, struct state_reader *reader)
{
    const struct pmem *pmem = (const struct pmem *)device;
    uint64_t start = state_get64(reader), size = state_get64(reader);
    if (!reader->failed && (start != pmem->config.start || size != pmem->config.size))
        state_fail(reader, "the range was 0x%llx bytes at 0x%llx, here it is 0x%llx at 0x%llx", (unsigned long long)size,
                   (unsigned long long)start, (unsigned long long)pmem->config.size, (unsigned long long)pmem->config.start);
}

static void pmem_free(struct virtio_device *device)
{
    struct pmem *pmem = (struct pmem *)device;
    fd_close(pmem->fd);
    free(pmem);
}

int virtio_pmem_new(const struct gmem *memory, uint64_t gpa, uint64_t size, int fd, struct virtio_device **out, struct err *err)
{
    static const struct virtio_ops ops = {
        .name = "virtio-pmem",
        .device_id = VIRTIO_ID_PMEM,
        .queues_len = 1,
        .queue_size = 64,
        .process = pmem_process,
        .save = pmem_save,
        .load = pmem_load,
        .free = pmem_free,
    };
    if (size == 0 || gpa % ALIGNMENT || size % ALIGNMENT || gpa + size - 1 < gpa)
        return err_set(err, ERR_INVALID_ARGUMENT, "persistent memory of 0x%llx bytes at 0x%llx: not in steps of 2 MiB",
                       (unsigned long long)size, (unsigned long long)gpa);
    struct pmem *pmem = mem_new(struct pmem);
    pmem->fd = fd;
    pmem->config = (struct virtio_pmem_config){ gpa, size };
    virtio_init(&pmem->device, &ops, memory, 0, &pmem->config, sizeof(pmem->config));
    *out = &pmem->device;
    return 0;
}
