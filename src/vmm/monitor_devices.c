#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "vmm/monitor.h"

#define MAP_ALIGN (UINT64_C(2) << 20) // large pages where a layer's data allows them

// The machine's on success, else it ends here.
static int add(struct machine *machine, struct virtio_device *device, struct err *err)
{
    if (machine_add_virtio(machine, device, err) == 0)
        return 0;
    virtio_free(device);
    return -1;
}

// ---- layers --------------------------------------------------------------------------------------------------------

// Address space for the whole disk; what no file covers is zeros.
static uint8_t *reserve(uint64_t size, struct err *err)
{
    void *found = mmap(NULL, size + MAP_ALIGN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) {
        err_errno(err, errno, "layers: %llu MiB of addresses", (unsigned long long)(size >> 20));
        return NULL;
    }
    return (uint8_t *)(((uintptr_t)found + MAP_ALIGN - 1) & ~(uintptr_t)(MAP_ALIGN - 1));
}

// The files are read where they lie; head and tail are the disk's own.
static int arrange(const struct monitor *monitor, const struct layers_disk *disk, uint8_t *at, struct err *err)
{
    memcpy(at, disk->head, LAYERS_DISK_HEAD);
    memcpy(at + disk->size - disk->tail_size + disk->tail_size - LAYERS_DISK_HEAD,
           disk->tail + disk->tail_size - LAYERS_DISK_HEAD, LAYERS_DISK_HEAD);
    for (size_t i = 0; i < disk->len; i++)
        if (mmap(at + layers_disk_offset(disk, i), disk->sizes[i], PROT_READ, MAP_SHARED | MAP_FIXED, monitor->layer_fds[i],
                 0) == MAP_FAILED)
            return err_errno(err, errno, "layer %s", monitor->layers[i]);
    return 0;
}

static int add_layers(const struct monitor *monitor, struct machine *machine, struct err *err)
{
    _cleanup_layers_disk_ struct layers_disk disk = { 0 };
    _cleanup_free_ uint64_t *sizes = mem_alloc(monitor->layers_len * sizeof(*sizes));
    struct virtio_device *device;
    struct stat st;
    for (size_t i = 0; i < monitor->layers_len; i++) {
        if (fstat(monitor->layer_fds[i], &st) < 0)
            return err_errno(err, errno, "layer %s", monitor->layers[i]);
        sizes[i] = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    }
    if (layers_disk_make(sizes, monitor->layers_len, &disk, err) < 0)
        return -1;
    uint8_t *at = reserve(disk.size, err);
    if (!at || arrange(monitor, &disk, at, err) < 0)
        return -1;
    uint64_t gpa = machine_map_next(machine);
    if (machine_map(machine, gpa, disk.size, at, true, err) < 0 ||
        virtio_pmem_new(machine_memory(machine), gpa, disk.size, -1, &device, err) < 0)
        return -1;
    return add(machine, device, err);
}

// ---- the others ----------------------------------------------------------------------------------------------------

static int add_disk(const struct monitor_disk *disk, struct machine *machine, struct err *err)
{
    struct virtio_device *device;
    _cleanup_close_ int fd = fd_dup(disk->fd, err);
    if (fd < 0 || virtio_blk_new(machine_memory(machine), fd, disk->read_only, "", &device, err) < 0)
        return -1;
    take_fd(&fd);
    return add(machine, device, err);
}

static int add_net(const struct monitor_net *net, struct machine *machine, struct err *err)
{
    struct virtio_device *device;
    _cleanup_close_ int fd = fd_dup(net->fd, err);
    if (fd < 0 || virtio_net_new(machine_memory(machine), fd, net->mac, net->mtu, &device, err) < 0)
        return -1;
    take_fd(&fd);
    return add(machine, device, err);
}

// In the I/O thread: the question goes out, or the guest is refused when the host doesn't keep up.
static int ask_host(void *context, uint32_t host_port, uint32_t guest_port)
{
    const struct monitor *monitor = context;
    const uint32_t ports[] = { host_port, guest_port };
    ssize_t sent = send(monitor->vsock_fd, ports, sizeof(ports), MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent == sizeof(ports) ? VIRTIO_VSOCK_LATER : -1;
}

static int add_vsock(const struct monitor *monitor, struct machine *machine, struct virtio_device **out, struct err *err)
{
    struct virtio_device *device;
    if (virtio_vsock_new(machine_memory(machine), monitor->guest_cid, ask_host, (void *)(uintptr_t)monitor, &device, err) < 0)
        return -1;
    *out = device;
    return add(machine, device, err);
}

int monitor_add_devices(const struct monitor *monitor, struct machine *machine, struct virtio_device **vsock, struct err *err)
{
    struct virtio_device *device;
    *vsock = NULL;
    if (monitor->layers_len && add_layers(monitor, machine, err) < 0)
        return -1;
    for (size_t i = 0; i < monitor->disks_len; i++)
        if (add_disk(&monitor->disks[i], machine, err) < 0)
            return -1;
    for (size_t i = 0; i < monitor->nets_len; i++)
        if (add_net(&monitor->nets[i], machine, err) < 0)
            return -1;
    if (monitor->guest_cid && add_vsock(monitor, machine, vsock, err) < 0)
        return -1;
    if (virtio_rng_new(machine_memory(machine), &device, err) < 0)
        return -1;
    return add(machine, device, err);
}
