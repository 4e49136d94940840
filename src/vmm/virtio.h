// A virtio device (virtio 1.2) between its transport (virtio_mmio.h) and what it is made of on the host.
//
//     transport: registers      struct virtio_device: status, features, queues,      ops: what makes it a disk, a network card
//     (vCPU threads)       -->  interrupt status, the lock                       -->  (process, host_ready: the I/O thread)
//
// Life: virtio_<kind>_new() makes one, at rest; the machine sets `irq`, puts it behind a transport and attaches it to an I/O
// loop (without a loop everything is done in the thread that notifies: tests, and machines that want it so). virtio_free()
// ends it, after its loop has ended.
//
// Threads. `lock` covers everything but `interrupt_status`, which an interrupt handler must reach while a request is being
// worked on. ops are called with the lock held. Eventfds carry the kicks: KVM writes them (ioeventfd), the I/O loop reads.
//
// A request is never left half done between two calls: `process` takes a chain, does the work, puts it back. So a device
// that is paused has nothing in flight but what lies in the rings, and what its own save() writes down.
//
// A driver that breaks the rules breaks this device alone: it gets DEVICE_NEEDS_RESET and rests until it is reset.
#ifndef VMM_VIRTIO_H
#define VMM_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

#include "base/loop.h"
#include "base/mutex.h"
#include "vmm/bus.h"
#include "vmm/memory.h"
#include "vmm/virtio_queue.h"

#define VIRTIO_QUEUES_MAX 3
#define VIRTIO_FEATURE(bit) (UINT64_C(1) << (bit))

// Chains that one call of process() takes at most, so that a busy queue can't keep a pause, a reset or another device waiting.
#define VIRTIO_BUDGET 64

struct virtio_device;

struct virtio_ops {
    const char *name; // also the name of its section in saved state
    uint32_t device_id; // VIRTIO_ID_...
    unsigned queues_len;
    uint16_t queue_size;
    // The driver is ready: queues are started, device->features is what was negotiated. May be NULL.
    void (*activate)(struct virtio_device *device);
    // The driver kicked `queue`. True when the budget ended before the queue: called again soon.
    bool (*process)(struct virtio_device *device, unsigned queue);
    // device->host_fd is readable. True when the budget ended first: process() of queue 0 goes on soon. NULL: no host_fd.
    bool (*host_ready)(struct virtio_device *device);
    void (*reset)(struct virtio_device *device); // forget what the driver set and sent; NULL: nothing
    // The device's own fields, after those all devices have. load() comes after activate(). NULL: nothing.
    void (*save)(const struct virtio_device *device, struct state_writer *writer);
    void (*load)(struct virtio_device *device, struct state_reader *reader);
    void (*free)(struct virtio_device *device); // what init() made is gone already; frees the device itself
};

struct virtio_device {
    const struct virtio_ops *ops;
    const struct gmem *memory;
    struct irq_line irq; // set by the machine before the guest runs
    struct mutex lock;
    uint64_t offered; // device feature bits, those of the rings included
    const void *config; // device configuration, little-endian as its struct in linux/virtio_*.h; read-only to the driver
    size_t config_size;
    int host_fd; // what host_ready() waits for; -1 none

    uint64_t features; // the driver's; final with FEATURES_OK
    uint32_t status; // VIRTIO_CONFIG_S_...
    uint32_t interrupt_status; // bit 0 used buffers, bit 1 configuration; atomic
    uint32_t generation; // of the configuration
    struct virtq queues[VIRTIO_QUEUES_MAX];

    bool paused;
    bool host_waits; // host_fd was readable while paused; the loop doesn't watch it now
    struct loop *loop; // NULL: none attached
    struct virtio_kick {
        struct virtio_device *device;
        unsigned queue;
        int fd; // for KVM_IOEVENTFD; -1 without a loop
        struct loop_source *source;
    } kicks[VIRTIO_QUEUES_MAX];
    struct loop_source *host_source;
};

// ---- the devices (each file says what it does of the specification) --------------------------------------------------
// Descriptors given are the device's only on success; all must be open for the device's life.

// A disk: `fd` is a file or block device, its size rounded down to 512 bytes. `id`: at most 20 bytes, what the guest sees as
// serial number. virtio_blk.c
int virtio_blk_new(const struct gmem *memory, int fd, bool read_only, const char *id, struct virtio_device **out,
                   struct err *err);
// Persistent memory: the guest maps [gpa, gpa + size), which the machine backs with files. Both are multiples of 2 MiB. `fd`:
// the file a flush syncs, -1 when the range is read-only. virtio_pmem.c
int virtio_pmem_new(const struct gmem *memory, uint64_t gpa, uint64_t size, int fd, struct virtio_device **out, struct err *err);
// A network card on a tap (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR; made non-blocking). `mtu` 0: not told. virtio_net.c
int virtio_net_new(const struct gmem *memory, int tap_fd, const uint8_t mac[6], uint16_t mtu, struct virtio_device **out,
                   struct err *err);
// Random numbers. virtio_rng.c
int virtio_rng_new(const struct gmem *memory, struct virtio_device **out, struct err *err);

// Sockets between host (context id 2) and guest (`guest_cid`, 3 or above). virtio_vsock.c
// Called when the guest connects to `host_port`: a connected unix stream socket, from then on the device's; negative refuses;
// VIRTIO_VSOCK_LATER: virtio_vsock_answer() will follow. Runs in the I/O thread with the device locked: it must not wait. No
// function refuses all.
#define VIRTIO_VSOCK_LATER INT32_MAX
typedef int virtio_vsock_connect_fn(void *context, uint32_t host_port, uint32_t guest_port);
int virtio_vsock_new(const struct gmem *memory, uint64_t guest_cid, virtio_vsock_connect_fn *connect, void *context,
                     struct virtio_device **out, struct err *err);
// Joins `fd`, a unix stream socket whose other end is somebody on the host, with a listener in the guest. Any thread. Taken
// on success; a guest that refuses closes it. unavailable: no driver yet; resource_exhausted: too many connections.
int virtio_vsock_dial(struct virtio_device *device, uint32_t port, int fd, struct err *err);
// `fd` for a connection that waits for it, or -1: refused. Any thread. Taken on success; not_found: the guest has given up.
int virtio_vsock_answer(struct virtio_device *device, uint32_t host_port, uint32_t guest_port, int fd, struct err *err);

void virtio_free(struct virtio_device *device); // NULL is fine

// ---- for the machine --------------------------------------------------------------------------------------------------

// From here on the kicks and the host's side are worked on in the loop's thread. Before the loop runs; nothing is left in the
// loop after a failure.
int virtio_attach(struct virtio_device *device, struct loop *loop, struct err *err);
// After virtio_pause() returned, the device touches neither guest memory nor its files; kicks and packets wait. Any thread.
void virtio_pause(struct virtio_device *device);
// Looks at every queue, since kicks came while it was paused or before it was saved, and repeats an interrupt that the driver
// hasn't acknowledged. Any thread.
void virtio_resume(struct virtio_device *device);
// While paused. Loading needs a fresh device of the same kind, also paused; after a failure it is only good for virtio_free().
void virtio_save(struct virtio_device *device, struct state_writer *writer);
int virtio_load(struct virtio_device *device, struct state_reader *reader);

// ---- for transports ---------------------------------------------------------------------------------------------------

void virtio_set_features(struct virtio_device *device, unsigned word, uint32_t bits) REQUIRES(&device->lock);
void virtio_set_status(struct virtio_device *device, uint32_t status) REQUIRES(&device->lock);
// The queue that the driver may set up now; NULL when there is none of that number or it is too early or too late.
struct virtq *virtio_queue_to_set(struct virtio_device *device, uint32_t queue) REQUIRES(&device->lock);
void virtio_config_read(const struct virtio_device *device, uint64_t offset, void *data, unsigned size) REQUIRES(&device->lock);
// QueueNotify: through the kick's eventfd, without a loop in this thread.
void virtio_notify(struct virtio_device *device, uint32_t queue) EXCLUDES(&device->lock);
// What the eventfds lead to.
void virtio_process(struct virtio_device *device, unsigned queue) EXCLUDES(&device->lock);
void virtio_host_ready(struct virtio_device *device) EXCLUDES(&device->lock);

// ---- for devices ------------------------------------------------------------------------------------------------------

// `features` beside those that every device has. The config's bytes are the device's.
void virtio_init(struct virtio_device *device, const struct virtio_ops *ops, const struct gmem *memory, uint64_t features,
                 const void *config, size_t config_size);
static inline bool virtio_has(const struct virtio_device *device, unsigned bit)
{
    return device->features & VIRTIO_FEATURE(bit);
}
bool virtio_active(const struct virtio_device *device); // DRIVER_OK, and nothing is broken; the lock is held
// Publishes interrupts for what lies in used rings, or DEVICE_NEEDS_RESET for a queue that broke. After ops calls it is done
// by itself.
void virtio_finish(struct virtio_device *device) REQUIRES(&device->lock);

#endif
