#include <errno.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "vmm/virtio.h"

#define INTERRUPT_USED 1u
#define INTERRUPT_CONFIG 2u

UNCHECKED void virtio_init(struct virtio_device *device, const struct virtio_ops *ops, const struct gmem *memory,
                           uint64_t features, const void *config, size_t config_size)
{
    *device = (struct virtio_device){ .ops = ops, .memory = memory, .irq.event_fd = -1, .host_fd = -1, .config = config,
                                      .config_size = config_size };
    device->offered = features | VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
                      VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC);
    mutex_init(&device->lock, 0);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        virtq_init(&device->queues[i], i < ops->queues_len ? ops->queue_size : 0);
        device->kicks[i] = (struct virtio_kick){ .device = device, .queue = i, .fd = -1 };
    }
}

UNCHECKED void virtio_free(struct virtio_device *device)
{
    if (!device)
        return;
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        fd_close(device->kicks[i].fd);
    mutex_done(&device->lock);
    device->ops->free(device);
}

// ---- interrupts -----------------------------------------------------------------------------------------------------

static void interrupt(struct virtio_device *device, uint32_t bit)
{
    __atomic_fetch_or(&device->interrupt_status, bit, __ATOMIC_SEQ_CST);
    irq_raise(&device->irq);
}

bool virtio_active(const struct virtio_device *device)
{
    return (device->status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) == VIRTIO_CONFIG_S_DRIVER_OK;
}

// A driver that hasn't said DRIVER_OK gets no interrupt, only the bit.
static void needs_reset(struct virtio_device *device) REQUIRES(&device->lock)
{
    if (device->status & VIRTIO_CONFIG_S_NEEDS_RESET)
        return;
    device->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    if (device->status & VIRTIO_CONFIG_S_DRIVER_OK)
        interrupt(device, INTERRUPT_CONFIG);
}

void virtio_finish(struct virtio_device *device)
{
    bool used = false;
    for (unsigned i = 0; i < device->ops->queues_len; i++) {
        if (device->queues[i].broken)
            needs_reset(device);
        used |= virtq_should_notify(&device->queues[i]);
    }
    if (used)
        interrupt(device, INTERRUPT_USED);
}

// ---- work -----------------------------------------------------------------------------------------------------------

static void kick_again(struct virtio_device *device, unsigned queue)
{
    (void)!write(device->kicks[queue].fd, &(uint64_t){ 1 }, sizeof(uint64_t));
}

void virtio_process(struct virtio_device *device, unsigned queue)
{
    bool more;
    do {
        mutex_lock(&device->lock);
        more = virtio_active(device) && !device->paused && device->queues[queue].ready && device->ops->process(device, queue);
        virtio_finish(device);
        mutex_unlock(&device->lock);
    } while (more && device->kicks[queue].fd < 0);
    if (more)
        kick_again(device, queue); // behind what else waits in the loop
}

void virtio_host_ready(struct virtio_device *device)
{
    bool more = false;
    mutex_lock(&device->lock);
    if (!device->paused && device->ops->host_ready) {
        more = device->ops->host_ready(device);
        virtio_finish(device);
    }
    mutex_unlock(&device->lock);
    if (more)
        virtio_notify(device, 0);
}

void virtio_notify(struct virtio_device *device, uint32_t queue)
{
    if (queue >= device->ops->queues_len)
        return;
    if (device->kicks[queue].fd >= 0)
        kick_again(device, queue);
    else
        virtio_process(device, queue);
}

static void on_kick(void *context, int fd, uint32_t events)
{
    struct virtio_kick *kick = context;
    eventfd_t ignored;
    eventfd_read(fd, &ignored);
    virtio_process(kick->device, kick->queue);
}

// While paused the descriptor stays readable: not watched until virtio_resume(), or the loop would spin.
static void on_host(void *context, int fd, uint32_t events)
{
    struct virtio_device *device = context;
    mutex_lock(&device->lock);
    bool wait = device->host_waits = device->paused;
    mutex_unlock(&device->lock);
    if (wait)
        loop_set_events(device->host_source, 0);
    else
        virtio_host_ready(device);
}

static void watch_host(void *context)
{
    struct virtio_device *device = context;
    loop_set_events(device->host_source, EPOLLIN);
}

static int attach_kick(struct virtio_kick *kick, struct loop *loop, struct err *err)
{
    kick->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (kick->fd < 0)
        return err_errno(err, errno, "eventfd");
    return loop_add_fd(loop, kick->fd, EPOLLIN, on_kick, kick, &kick->source, err);
}

static void detach(struct virtio_device *device)
{
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        loop_remove(device->kicks[i].source);
        device->kicks[i].source = NULL;
        fd_close(take_fd(&device->kicks[i].fd));
    }
}

int virtio_attach(struct virtio_device *device, struct loop *loop, struct err *err)
{
    int result = 0;
    for (unsigned i = 0; i < device->ops->queues_len && result == 0; i++)
        result = attach_kick(&device->kicks[i], loop, err);
    if (result == 0 && device->host_fd >= 0)
        result = loop_add_fd(loop, device->host_fd, EPOLLIN, on_host, device, &device->host_source, err);
    if (result < 0) {
        detach(device);
        return err_wrap(err, "%s", device->ops->name);
    }
    device->loop = loop;
    return 0;
}

void virtio_pause(struct virtio_device *device)
{
    mutex_lock(&device->lock);
    device->paused = true;
    mutex_unlock(&device->lock);
}

void virtio_resume(struct virtio_device *device)
{
    mutex_lock(&device->lock);
    device->paused = false;
    if (device->host_waits)
        loop_post(device->loop, watch_host, device);
    device->host_waits = false;
    bool active = virtio_active(device);
    mutex_unlock(&device->lock);
    if (__atomic_load_n(&device->interrupt_status, __ATOMIC_SEQ_CST))
        irq_raise(&device->irq);
    for (unsigned i = 0; active && i < device->ops->queues_len; i++)
        virtio_notify(device, i);
}

// ---- the driver's side: features, status, configuration -----------------------------------------------------------------

void virtio_set_features(struct virtio_device *device, unsigned word, uint32_t bits)
{
    uint32_t status = device->status & (VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
    if (word > 1 || status != VIRTIO_CONFIG_S_DRIVER)
        return; // outside of the time the specification gives for it (3.1.1)
    device->features &= ~((uint64_t)UINT32_MAX << (32 * word));
    device->features |= (uint64_t)bits << (32 * word);
}

static bool features_acceptable(const struct virtio_device *device)
{
    return !(device->features & ~device->offered) && virtio_has(device, VIRTIO_F_VERSION_1);
}

static void reset(struct virtio_device *device) REQUIRES(&device->lock)
{
    device->status = 0;
    device->features = 0;
    __atomic_store_n(&device->interrupt_status, 0, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < device->ops->queues_len; i++)
        virtq_reset(&device->queues[i]);
    if (device->ops->reset)
        device->ops->reset(device);
}

// With the queues as the driver left them; the ones it kicked too early are looked at now.
static void activate(struct virtio_device *device) REQUIRES(&device->lock)
{
    for (unsigned i = 0; i < device->ops->queues_len; i++)
        if (device->queues[i].ready)
            virtq_start(&device->queues[i], device->memory, device->features);
    virtio_finish(device);
    if (!virtio_active(device))
        return;
    if (device->ops->activate)
        device->ops->activate(device);
    for (unsigned i = 0; i < device->ops->queues_len; i++)
        if (device->kicks[i].fd >= 0)
            kick_again(device, i);
}

// Steps that come in a wrong order, and bits taken back, are not taken: the driver reads the status again and sees it (3.1.1).
void virtio_set_status(struct virtio_device *device, uint32_t status)
{
    if (status == 0) {
        reset(device);
        return;
    }
    uint32_t known = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |
                     VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED;
    uint32_t added = status & known & ~device->status;
    device->status |= added & (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_FAILED);
    if ((added & VIRTIO_CONFIG_S_DRIVER) && (device->status & VIRTIO_CONFIG_S_ACKNOWLEDGE))
        device->status |= VIRTIO_CONFIG_S_DRIVER;
    if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && (device->status & VIRTIO_CONFIG_S_DRIVER) && features_acceptable(device))
        device->status |= VIRTIO_CONFIG_S_FEATURES_OK;
    if ((added & VIRTIO_CONFIG_S_DRIVER_OK) && (device->status & VIRTIO_CONFIG_S_FEATURES_OK)) {
        device->status |= VIRTIO_CONFIG_S_DRIVER_OK;
        activate(device);
    }
}

struct virtq *virtio_queue_to_set(struct virtio_device *device, uint32_t queue)
{
    uint32_t status = device->status & (VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
    return queue < device->ops->queues_len && status == VIRTIO_CONFIG_S_FEATURES_OK ? &device->queues[queue] : NULL;
}

void virtio_config_read(const struct virtio_device *device, uint64_t offset, void *data, unsigned size)
{
    memset(data, 0, size);
    if (offset < device->config_size)
        memcpy(data, (const uint8_t *)device->config + offset, MIN_OF(size, device->config_size - offset));
}

// ---- state ----------------------------------------------------------------------------------------------------------

#define STATE_VERSION 1

void virtio_save(struct virtio_device *device, struct state_writer *writer)
{
    mutex_lock(&device->lock);
    state_begin(writer, device->ops->name, STATE_VERSION);
    state_put32(writer, device->status);
    state_put64(writer, device->features);
    state_put32(writer, __atomic_load_n(&device->interrupt_status, __ATOMIC_SEQ_CST));
    state_put32(writer, device->generation);
    for (unsigned i = 0; i < device->ops->queues_len; i++)
        virtq_save(&device->queues[i], writer);
    if (device->ops->save)
        device->ops->save(device, writer);
    mutex_unlock(&device->lock);
}

// A feature that was negotiated and that this host can't give would be missed by the guest at its next packet: refused.
static void load_common(struct virtio_device *device, struct state_reader *reader) REQUIRES(&device->lock)
{
    device->status = state_get32(reader);
    device->features = state_get64(reader);
    __atomic_store_n(&device->interrupt_status, state_get32(reader) & (INTERRUPT_USED | INTERRUPT_CONFIG), __ATOMIC_SEQ_CST);
    device->generation = state_get32(reader);
    if (device->status > UINT8_MAX)
        state_fail(reader, "status 0x%x", device->status);
    if ((device->status & VIRTIO_CONFIG_S_FEATURES_OK) && !features_acceptable(device))
        state_fail(reader, "the guest uses features 0x%llx, of which 0x%llx are missing here",
                   (unsigned long long)device->features, (unsigned long long)(device->features & ~device->offered));
    if ((device->status & VIRTIO_CONFIG_S_DRIVER_OK) && !(device->status & VIRTIO_CONFIG_S_FEATURES_OK))
        state_fail(reader, "status 0x%x", device->status);
    for (unsigned i = 0; i < device->ops->queues_len; i++)
        virtq_load(&device->queues[i], reader, device->memory, device->features, virtio_active(device));
}

int virtio_load(struct virtio_device *device, struct state_reader *reader)
{
    mutex_lock(&device->lock);
    state_enter(reader, device->ops->name, STATE_VERSION);
    load_common(device, reader);
    if (!reader->failed && virtio_active(device) && device->ops->activate)
        device->ops->activate(device);
    if (device->ops->load)
        device->ops->load(device, reader);
    if (reader->failed)
        reset(device);
    mutex_unlock(&device->lock);
    return state_check(reader);
}
