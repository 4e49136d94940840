// rooms: vmm base
// A conversation: a list of steps, each { u8 what, u8 argument, ... }. The guest sends packets (with few ports, so that they
// meet, or with a raw header), gives receive buffers; the host writes, reads, closes, dials, answers late.
#include <linux/virtio_vsock.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#define GUEST_SIZE UINT64_C(0x70000)
#include "../unit/vmm/guest.h"
#include "base/fd.h"

#define LATER_PORT 4 // the host answers when a step says so

#define CID 3
#define HOSTS 16
#define HEADER ((uint32_t)sizeof(struct virtio_vsock_hdr))
#define PACKET (GUEST_DATA + 0x10000)
#define EVENTS (GUEST_DATA + 0x8000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct talk {
    struct guest guest;
    struct ring rings[3];
    struct virtio_mmio mmio;
    int hosts[HOSTS]; // the host's ends, the oldest is dropped
    unsigned hosts_len;
    const uint8_t *data;
    size_t size;
};

static uint8_t take8(struct talk *talk)
{
    if (!talk->size)
        return 0;
    talk->size--;
    return *talk->data++;
}

static uint32_t take32(struct talk *talk)
{
    uint32_t value = take8(talk);
    for (int i = 1; i < 4; i++)
        value |= (uint32_t)take8(talk) << 8 * i;
    return value;
}

static int new_pair(struct talk *talk)
{
    int pair[2];
    if (fd_socketpair(SOCK_STREAM, pair, NULL) < 0 || fd_set_nonblock(pair[0], true, NULL) < 0)
        abort();
    int *place = &talk->hosts[talk->hosts_len++ % HOSTS];
    fd_close(*place);
    *place = pair[0];
    return pair[1];
}

static int hand_out(void *context, uint32_t port, uint32_t guest_port)
{
    return port == 3 ? -1 : port == LATER_PORT ? VIRTIO_VSOCK_LATER : new_pair(context);
}

static void send_packet(struct talk *talk, uint8_t argument)
{
    struct virtio_vsock_hdr header = { .src_cid = CID, .dst_cid = 2, .type = VIRTIO_VSOCK_TYPE_STREAM };
    uint32_t payload = 0;
    if (argument & 0x80) { // raw
        uint8_t *bytes = (uint8_t *)&header;
        for (size_t i = 0; i < sizeof(header); i++)
            bytes[i] = take8(talk);
    } else {
        header.op = argument & 15;
        header.src_port = argument >> 4 & 3;
        header.dst_port = take8(talk) & 0x0f;
        if (argument & 0x40)
            header.dst_port += 0x40000000; // what the host dialled from
        header.flags = take8(talk);
        header.len = header.op == VIRTIO_VSOCK_OP_RW ? take32(talk) % (80 << 10) : 0;
        header.buf_alloc = take32(talk);
        header.fwd_cnt = take32(talk);
        payload = header.len - (take8(talk) == 0xff); // sometimes less than it says
    }
    memcpy(guest_at(&talk->guest, PACKET), &header, sizeof(header));
    const struct part parts[] = { { PACKET, HEADER, false }, { PACKET + 0x100, MIN_OF(payload, 80u << 10), false } };
    ring_add(&talk->rings[1], parts, 2);
    driver_kick(&talk->mmio, 1);
}

static void host_step(struct talk *talk, uint8_t argument)
{
    static uint8_t bulk[70000];
    int host = talk->hosts[argument % HOSTS];
    switch (argument >> 4 & 3) {
    case 0:
        (void)!send(host, bulk, take8(talk) * 270, MSG_NOSIGNAL | MSG_DONTWAIT);
        break;
    case 1:
        (void)!recv(host, bulk, sizeof(bulk), MSG_DONTWAIT);
        break;
    case 2:
        shutdown(host, take8(talk) % 3);
        break;
    case 3:
        fd_close(host);
        talk->hosts[argument % HOSTS] = -1;
    }
}

static void dial(struct talk *talk, uint8_t port)
{
    int fd = new_pair(talk);
    int result = port & 0x80 ? virtio_vsock_answer(talk->mmio.device, LATER_PORT, port & 3, fd, NULL)
                             : virtio_vsock_dial(talk->mmio.device, port & 3, fd, NULL);
    if (result < 0)
        fd_close(fd);
}

static void step(struct talk *talk)
{
    uint8_t what = take8(talk), argument = take8(talk);
    switch (what % 5) {
    case 0:
        send_packet(talk, argument);
        break;
    case 1:
        ring_add(&talk->rings[0], &(struct part){ GUEST_DATA, argument * 64, true }, 1);
        driver_kick(&talk->mmio, 0);
        break;
    case 2:
        host_step(talk, argument);
        break;
    case 3:
        dial(talk, argument);
        break;
    case 4:
        ring_add(&talk->rings[2], &(struct part){ EVENTS, argument, true }, 1);
        driver_kick(&talk->mmio, 2);
    }
    virtio_host_ready(talk->mmio.device);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct talk talk = { .data = data, .size = size };
    struct virtio_device *device;
    guest_init(&talk.guest);
    for (int i = 0; i < HOSTS; i++)
        talk.hosts[i] = -1;
    if (virtio_vsock_new(&talk.guest.memory, CID, hand_out, &talk, &device, NULL) < 0)
        abort();
    virtio_mmio_init(&talk.mmio, device);
    for (unsigned i = 0; i < 3; i++)
        ring_init(&talk.rings[i], &talk.guest, GUEST_BASE + 0x4000 * i, 64);
    driver_start(&talk.mmio, driver_offered(&talk.mmio), talk.rings, 3);
    for (int i = 0; i < 500 && talk.size; i++)
        step(&talk);
    virtio_free(device);
    for (int i = 0; i < HOSTS; i++)
        fd_close(talk.hosts[i]);
    guest_done(&talk.guest);
    return 0;
}
