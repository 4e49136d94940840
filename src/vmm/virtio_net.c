// virtio-net (virtio 1.2, 5.1) on a tap: one pair of queues, mergeable receive buffers, checksum and TCP segmentation offload
// in both directions as far as the tap can. No control queue.
//
//     transmitq:  guest memory -> tap, one writev() a packet
//     receiveq:   tap -> `packet` -> as many of the guest's buffers as it takes
//
// Both sides speak struct virtio_net_hdr_v1 (12 bytes): the tap is told its size, so the header passes through, and the kernel
// checks it. The tap is read only while the guest has buffers; then packets wait in the tap's own queue, which is bounded.
#include <errno.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "base/fd.h"
#include "vmm/virtio.h"

#define RECEIVEQ 0
#define TRANSMITQ 1
#define HEADER_SIZE sizeof(struct virtio_net_hdr_v1)
#define FRAME_MAX (65535 + 14 + 4) // a segment to be split, its Ethernet header, a VLAN tag
#define PACKET_MAX (HEADER_SIZE + FRAME_MAX)

struct net {
    struct virtio_device device; // host_fd: an epoll instance with the tap in it, so that any thread can stop listening
    struct virtio_net_config config;
    int tap_fd;
    bool listening;
    uint32_t packet_size; // of what was read and has not found buffers yet; 0: nothing
    uint8_t packet[PACKET_MAX];
};

static const struct {
    unsigned feature;
    unsigned tap; // TUN_F_...
} receive_offloads[] = {
    { VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM },
    { VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4 },
    { VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6 },
    { VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN },
};

// Removed, not just silenced: a tap whose link is gone would report that without end.
static void listen_to_tap(struct net *net, bool on)
{
    struct epoll_event event = { .events = EPOLLIN };
    if (on != net->listening && epoll_ctl(net->device.host_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, net->tap_fd, &event) == 0)
        net->listening = on;
}

// ---- transmit -------------------------------------------------------------------------------------------------------

// What can't be sent (a full queue, a link that is down, a header the kernel refuses, a frame of no size) is dropped, as a
// wire would.
static void send_packet(const struct net *net, const struct virtq_chain *chain)
{
    if (chain->out_size <= HEADER_SIZE || chain->out_size > PACKET_MAX)
        return;
    ssize_t n;
    do
        n = writev(net->tap_fd, chain->segments, (int)chain->out_len);
    while (n < 0 && errno == EINTR);
}

static bool transmit(struct net *net)
{
    struct virtq *queue = &net->device.queues[TRANSMITQ];
    struct virtq_chain chain;
    for (int i = 0; i < VIRTIO_BUDGET; i++) {
        if (virtq_next(queue, &chain) <= 0)
            return false;
        send_packet(net, &chain);
        virtq_put(queue, chain.head, 0);
    }
    return true;
}

// ---- receive --------------------------------------------------------------------------------------------------------

// A packet waits from here until deliver() is done with it. 1 when there was one, 0 when the tap is empty, -1 when its link is
// gone.
static int read_packet(struct net *net)
{
    ssize_t n;
    do
        n = read(net->tap_fd, net->packet, sizeof(net->packet));
    while (n < 0 && errno == EINTR);
    net->packet_size = n > (ssize_t)HEADER_SIZE ? (uint32_t)n : 0;
    return n > 0 ? 1 : n < 0 && errno == EAGAIN ? 0 : -1;
}

// Spreads the packet over as many chains as it needs; the driver sees them all at once or none. Without MRG_RXBUF a packet
// gets one chain, and what doesn't fit is dropped. False: too few buffers now, the packet keeps waiting.
static bool deliver(struct net *net)
{
    struct virtq *queue = &net->device.queues[RECEIVEQ];
    struct virtq_chain chains[2]; // the first one, the one at hand
    struct vring_used_elem used[VIRTQ_SIZE_MAX];
    uint16_t buffers = 0, buffers_max = virtio_has(&net->device, VIRTIO_NET_F_MRG_RXBUF) ? queue->size : 1;
    uint32_t done = 0;
    while (done < net->packet_size && buffers < buffers_max) {
        struct virtq_chain *chain = &chains[buffers > 0];
        if (virtq_next(queue, chain) <= 0) {
            virtq_undo(queue, buffers);
            return false;
        }
        if (buffers == 0 && chain->in_size < HEADER_SIZE) {
            virtq_break(queue, "a receive buffer without room for its header");
            return false;
        }
        used[buffers] = (struct vring_used_elem){ chain->head, 0 };
        used[buffers].len = (uint32_t)virtq_write(chain, 0, net->packet + done, net->packet_size - done);
        done += used[buffers++].len;
        virtq_write(&chains[0], offsetof(struct virtio_net_hdr_v1, num_buffers), &buffers, sizeof(buffers));
    }
    if (done < net->packet_size) {
        virtq_undo(queue, buffers); // it never will fit
    } else {
        for (uint16_t i = 0; i < buffers; i++)
            virtq_stage(queue, (uint16_t)used[i].id, used[i].len);
        virtq_publish(queue);
    }
    net->packet_size = 0;
    return true;
}

static bool can_receive(const struct net *net)
{
    return virtio_active(&net->device) && net->device.queues[RECEIVEQ].ready;
}

// Until the tap is empty, the guest has no buffers or the budget is used up: then the descriptor is still readable.
static void receive(struct net *net)
{
    bool room = can_receive(net);
    for (int i = 0, got = 1; i < VIRTIO_BUDGET && room && got > 0; i++) {
        if (!net->packet_size)
            got = read_packet(net);
        room = got >= 0 && (!net->packet_size || deliver(net));
    }
    listen_to_tap(net, room);
}

// ---- ops ------------------------------------------------------------------------------------------------------------

static bool net_process(struct virtio_device *device, unsigned queue)
{
    struct net *net = (struct net *)device;
    if (queue == TRANSMITQ)
        return transmit(net);
    receive(net); // buffers have come
    return false;
}

static bool net_host_ready(struct virtio_device *device)
{
    receive((struct net *)device);
    return false; // what is left keeps the tap readable
}

// From now on the tap may hand over what the driver said it can take.
static void net_activate(struct virtio_device *device)
{
    struct net *net = (struct net *)device;
    unsigned long offloads = 0;
    for (size_t i = 0; i < ARRAY_LEN(receive_offloads); i++)
        if (virtio_has(device, receive_offloads[i].feature) && virtio_has(device, VIRTIO_NET_F_GUEST_CSUM))
            offloads |= receive_offloads[i].tap;
    ioctl(net->tap_fd, TUNSETOFFLOAD, offloads); // these were accepted when the device was made
    listen_to_tap(net, true);
}

static void net_reset(struct virtio_device *device)
{
    struct net *net = (struct net *)device;
    net->packet_size = 0;
    ioctl(net->tap_fd, TUNSETOFFLOAD, 0ul);
    listen_to_tap(net, false);
}

static void net_save(const struct virtio_device *device, struct state_writer *writer)
{
    const struct net *net = (const struct net *)device;
    state_put_bytes(writer, net->config.mac, sizeof(net->config.mac));
    state_put16(writer, net->config.mtu);
    state_put_blob(writer, net->packet, net->packet_size);
}

// The guest keeps the address it knows, whatever the new machine was given.
static void net_load(struct virtio_device *device, struct state_reader *reader)
{
    struct net *net = (struct net *)device;
    state_get_bytes(reader, net->config.mac, sizeof(net->config.mac));
    net->config.mtu = state_get16(reader);
    net->packet_size = state_get_blob(reader, net->packet, sizeof(net->packet));
    if (net->packet_size && net->packet_size <= HEADER_SIZE)
        state_fail(reader, "a packet of %u bytes", net->packet_size);
}

static void net_free(struct virtio_device *device)
{
    struct net *net = (struct net *)device;
    fd_close(device->host_fd);
    fd_close(net->tap_fd);
    free(net);
}

static const struct virtio_ops net_ops = {
    .name = "virtio-net",
    .device_id = VIRTIO_ID_NET,
    .queues_len = 2,
    .queue_size = VIRTQ_SIZE_MAX,
    .activate = net_activate,
    .process = net_process,
    .host_ready = net_host_ready,
    .reset = net_reset,
    .save = net_save,
    .load = net_load,
    .free = net_free,
};

// ---- life -----------------------------------------------------------------------------------------------------------

static int prepare_tap(int fd, struct err *err)
{
    struct ifreq request = { .ifr_flags = 0 };
    int header_size = HEADER_SIZE;
    if (ioctl(fd, TUNGETIFF, &request) < 0)
        return err_errno(err, errno, "network card: descriptor %d is no tap", fd);
    if ((request.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)) != (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        return err_set(err, ERR_INVALID_ARGUMENT, "network card: tap %.*s lacks IFF_NO_PI or IFF_VNET_HDR", IFNAMSIZ,
                       request.ifr_name);
    if (ioctl(fd, TUNSETVNETHDRSZ, &header_size) < 0)
        return err_errno(err, errno, "network card: header size of tap %.*s", IFNAMSIZ, request.ifr_name);
    return fd_set_nonblock(fd, true, err);
}

// The tap takes checksums and segmentation from us in any case; what it hands over is asked for one by one.
static uint64_t tap_features(int fd)
{
    uint64_t features = VIRTIO_FEATURE(VIRTIO_NET_F_CSUM) | VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO4) |
                        VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO6) | VIRTIO_FEATURE(VIRTIO_NET_F_HOST_ECN);
    unsigned long accepted = 0;
    for (size_t i = 0; i < ARRAY_LEN(receive_offloads); i++) {
        if (ioctl(fd, TUNSETOFFLOAD, accepted | receive_offloads[i].tap) < 0)
            continue;
        accepted |= receive_offloads[i].tap;
        features |= VIRTIO_FEATURE(receive_offloads[i].feature);
    }
    ioctl(fd, TUNSETOFFLOAD, 0ul); // until a driver has said what it can take
    return features;
}

int virtio_net_new(const struct gmem *memory, int tap_fd, const uint8_t mac[6], uint16_t mtu, struct virtio_device **out,
                   struct err *err)
{
    _cleanup_close_ int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        return err_errno(err, errno, "network card: epoll");
    if (prepare_tap(tap_fd, err) < 0)
        return -1;
    struct net *net = mem_new(struct net);
    uint64_t features = tap_features(tap_fd) | VIRTIO_FEATURE(VIRTIO_NET_F_MAC) | VIRTIO_FEATURE(VIRTIO_NET_F_STATUS) |
                        VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF) | (mtu ? VIRTIO_FEATURE(VIRTIO_NET_F_MTU) : 0);
    net->tap_fd = tap_fd;
    net->config = (struct virtio_net_config){ .status = VIRTIO_NET_S_LINK_UP, .max_virtqueue_pairs = 1, .mtu = mtu };
    memcpy(net->config.mac, mac, sizeof(net->config.mac));
    virtio_init(&net->device, &net_ops, memory, features, &net->config, sizeof(net->config));
    net->device.host_fd = take_fd(&epoll_fd);
    *out = &net->device;
    return 0;
}
