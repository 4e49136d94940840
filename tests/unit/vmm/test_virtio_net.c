// The device on a real tap in a network namespace of the test's own; the far end is a packet socket on the tap's link.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/process.h"
#include "guest.h"

#define HEADER ((uint32_t)sizeof(struct virtio_net_hdr_v1))
#define BUFFERS (GUEST_DATA + 0x10000)

static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 7 };
static bool have_namespace;

struct fixture {
    struct guest guest;
    struct ring rings[2]; // receiveq, transmitq
    struct virtio_device *device;
    struct virtio_mmio mmio;
    int wire; // packet socket, with virtio headers of 10 bytes
    unsigned index;
};

// A process can't come back from a namespace: one for all tests, the links come and go with them.
static int enter_namespace(void **state)
{
    have_namespace = unshare(CLONE_NEWNET) == 0 && access("/dev/net/tun", R_OK | W_OK) == 0;
    return 0;
}

static int open_tap(const char *name, short flags)
{
    struct ifreq request = { .ifr_flags = flags };
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
    return fd;
}

static void link_up(const char *name)
{
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = { .ifr_flags = 0 };
    _cleanup_close_ int quiet = open("/proc/sys/net/ipv6/conf/t0/disable_ipv6", O_WRONLY | O_CLOEXEC);
    (void)!write(quiet, "1", 1); // no neighbour discovery among our frames
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
}

static void make(struct fixture *fixture)
{
    int tap = open_tap("t0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    link_up("t0");
    fixture->index = if_nametoindex("t0");
    fixture->wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
    int on = 1;
    assert_int_equal(setsockopt(fixture->wire, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
    struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
    address.sll_ifindex = (int)fixture->index;
    assert_int_equal(bind(fixture->wire, (struct sockaddr *)&address, sizeof(address)), 0);
    struct err err = { 0 };
    if (virtio_net_new(&fixture->guest.memory, tap, mac, 1400, &fixture->device, &err) < 0)
        fail_msg("%s", err.message);
    fixture->device->irq.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    virtio_mmio_init(&fixture->mmio, fixture->device);
}

static void unmake(struct fixture *fixture)
{
    fd_close(fixture->device->irq.event_fd);
    virtio_free(fixture->device);
    fd_close(fixture->wire);
}

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(struct fixture);
    *state = fixture;
    if (!have_namespace)
        return 0;
    guest_init(&fixture->guest);
    ring_init(&fixture->rings[0], &fixture->guest, GUEST_BASE, 64);
    ring_init(&fixture->rings[1], &fixture->guest, GUEST_BASE + 0x4000, 64);
    make(fixture);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    if (have_namespace) {
        unmake(fixture);
        guest_done(&fixture->guest);
    }
    free(fixture);
    return 0;
}

#define NEEDS_NAMESPACE()                                                \
    do {                                                                 \
        if (!have_namespace) {                                           \
            print_message("needs root and /dev/net/tun: skipped\n");     \
            skip();                                                      \
        }                                                                \
    } while (0)

#define MERGED FEATURE(VIRTIO_NET_F_MRG_RXBUF)
#define LARGE (FEATURE(VIRTIO_NET_F_GUEST_CSUM) | FEATURE(VIRTIO_NET_F_GUEST_TSO4))

static void start(struct fixture *fixture, uint64_t features)
{
    assert_int_equal(driver_start(&fixture->mmio, FEATURES_BASE | features, fixture->rings, 2), STATUS_LIVE);
}

// `count` receive buffers of `size` bytes.
static void give_buffers(struct fixture *fixture, unsigned count, uint32_t size)
{
    for (unsigned i = 0; i < count; i++)
        ring_add(&fixture->rings[0],
                 &(struct part){ BUFFERS + (uint64_t)fixture->rings[0].next_desc % 64 * 4096, size, true }, 1);
    driver_kick(&fixture->mmio, 0);
}

static size_t make_frame(uint8_t *frame, size_t size, uint8_t seed)
{
    for (size_t i = 0; i < size; i++)
        frame[i] = (uint8_t)(seed + i * 3);
    struct ether_header ethernet = { .ether_type = htons(0x88b5) }; // for local experiments
    memcpy(ethernet.ether_dhost, mac, 6);
    memcpy(ethernet.ether_shost, "\2\0\0\0\0\1", 6);
    memcpy(frame, &ethernet, sizeof(ethernet));
    return size;
}

static void send_on_wire(struct fixture *fixture, const struct virtio_net_hdr *header, const uint8_t *frame, size_t size)
{
    struct iovec iov[2] = { { (void *)(uintptr_t)header, sizeof(*header) }, { (void *)(uintptr_t)frame, size } };
    assert_int_equal(writev(fixture->wire, iov, 2), (ssize_t)(sizeof(*header) + size));
}

static void send_frame(struct fixture *fixture, size_t size, uint8_t seed)
{
    uint8_t frame[2000];
    send_on_wire(fixture, &(struct virtio_net_hdr){ 0 }, frame, make_frame(frame, size, seed));
}

static bool wait_host(struct fixture *fixture, int ms)
{
    struct pollfd one = { fixture->device->host_fd, POLLIN, 0 };
    return poll(&one, 1, ms) == 1;
}

// The next frame that somebody sent from the tap's side into the host, header included.
static ssize_t from_wire(struct fixture *fixture, uint8_t *data, size_t size)
{
    for (;;) {
        struct pollfd one = { fixture->wire, POLLIN, 0 };
        if (poll(&one, 1, 500) != 1)
            return -1;
        struct sockaddr_ll from;
        socklen_t from_size = sizeof(from);
        ssize_t n = recvfrom(fixture->wire, data, size, 0, (struct sockaddr *)&from, &from_size);
        if (from.sll_pkttype != PACKET_OUTGOING)
            return n;
    }
}

// ---- good drivers ---------------------------------------------------------------------------------------------------

static void tells_what_it_is(void **state)
{
    NEEDS_NAMESPACE();
    struct fixture *fixture = *state;
    struct virtio_net_config config;
    for (unsigned i = 0; i < sizeof(config); i++)
        fixture->mmio.bus.ops->read(&fixture->mmio.bus, VIRTIO_MMIO_CONFIG + i, (uint8_t *)&config + i, 1);
    assert_memory_equal(config.mac, mac, 6);
    assert_int_equal(config.mtu, 1400);
    assert_int_equal(config.status, VIRTIO_NET_S_LINK_UP);
    assert_int_equal(reg_read(&fixture->mmio, VIRTIO_MMIO_DEVICE_ID), 1);
    uint64_t wanted = MERGED | LARGE | FEATURE(VIRTIO_NET_F_GUEST_TSO6) | FEATURE(VIRTIO_NET_F_CSUM) |
                      FEATURE(VIRTIO_NET_F_HOST_TSO4) | FEATURE(VIRTIO_NET_F_HOST_TSO6) | FEATURE(VIRTIO_NET_F_MTU);
    assert_true((driver_offered(&fixture->mmio) & wanted) == wanted);
}

static void frames_go_out(void **state)
{
    NEEDS_NAMESPACE();
    struct fixture *fixture = *state;
    uint8_t frame[1000], seen[2000];
    start(fixture, MERGED);
    make_frame(frame, sizeof(frame), 9);
    memset(guest_at(&fixture->guest, GUEST_DATA), 0, HEADER);
    memcpy(guest_at(&fixture->guest, GUEST_DATA + HEADER), frame, 300);
    memcpy(guest_at(&fixture->guest, GUEST_DATA + 0x1000), frame + 300, 700);
    const struct part parts[] = { { GUEST_DATA, HEADER + 300, false }, { GUEST_DATA + 0x1000, 700, false } };
    ring_add(&fixture->rings[1], parts, 2);
    driver_kick(&fixture->mmio, 1);
    uint32_t id, len;
    assert_true(ring_take(&fixture->rings[1], &id, &len));
    assert_int_equal(len, 0);
    assert_int_equal(from_wire(fixture, seen, sizeof(seen)), (ssize_t)(sizeof(struct virtio_net_hdr) + sizeof(frame)));
    assert_memory_equal(seen + sizeof(struct virtio_net_hdr), frame, sizeof(frame));
    assert_true(irq_count(fixture->device) > 0);
}

static void frames_come_in(void **state)
{
    NEEDS_NAMESPACE();
    struct fixture *fixture = *state;
    uint8_t frame[1000];
    for (int merged = 0; merged < 2; merged++) {
        ring_init(&fixture->rings[0], &fixture->guest, GUEST_BASE, 64);
        start(fixture, merged ? MERGED : 0);
        give_buffers(fixture, 2, 2048);
        send_frame(fixture, sizeof(frame), 50);
        assert_true(wait_host(fixture, 1000));
        virtio_host_ready(fixture->device);
        uint32_t id, len;
        assert_true(ring_take(&fixture->rings[0], &id, &len));
        assert_int_equal(len, HEADER + sizeof(frame));
        make_frame(frame, sizeof(frame), 50);
        const uint8_t *got = guest_at(&fixture->guest, BUFFERS);
        assert_memory_equal(got + HEADER, frame, sizeof(frame));
        assert_int_equal(((const struct virtio_net_hdr_v1 *)got)->num_buffers, 1);
        assert_false(ring_take(&fixture->rings[0], &id, &len));
        assert_true(irq_count(fixture->device) > 0);
        assert_false(wait_host(fixture, 0));
    }
}

// A TCP segment of 20000 bytes to be split into pieces of 1000, as the host's own stack would hand it over.
static size_t make_segment(uint8_t *frame, struct virtio_net_hdr *header)
{
    size_t size = make_frame(frame, 14 + 20 + 20 + 20000, 1);
    frame[12] = 0x08;
    frame[13] = 0x00;
    struct iphdr ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP, .tot_len = htons((uint16_t)(size - 14)),
                        .saddr = htonl(0x0a000001), .daddr = htonl(0x0a000002) };
    struct tcphdr tcp = { .source = htons(1), .dest = htons(2), .doff = 5, .ack = 1 };
    memcpy(frame + 14, &ip, sizeof(ip));
    memcpy(frame + 34, &tcp, sizeof(tcp));
    *header = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                       .hdr_len = 54, .gso_size = 1000, .csum_start = 34, .csum_offset = 16 };
    return size;
}

static unsigned drain(struct fixture *fixture, uint32_t *bytes, uint8_t *gso_type)
{
    unsigned packets = 0;
    uint32_t id, len;
    *bytes = 0;
    while (wait_host(fixture, packets ? 0 : 1000))
        virtio_host_ready(fixture->device);
    while (ring_take(&fixture->rings[0], &id, &len)) {
        struct virtio_net_hdr_v1 header;
        memcpy(&header, guest_at(&fixture->guest, BUFFERS + (uint64_t)id * 4096), sizeof(header));
        *gso_type = header.gso_type;
        *bytes += len;
        packets++;
        for (uint16_t i = 1; i < header.num_buffers; i++) {
            assert_true(ring_take(&fixture->rings[0], &id, &len)); // all of them at once
            *bytes += len;
        }
    }
    return packets;
}

static void large_packets_are_merged_or_split(void **state)
{
    NEEDS_NAMESPACE();
    struct fixture *fixture = *state;
    static uint8_t frame[32000];
    struct virtio_net_hdr header;
    size_t size = make_segment(frame, &header);
    uint32_t bytes;
    uint8_t gso_type = 0xff;
    start(fixture, MERGED | LARGE);
    give_buffers(fixture, 60, 1536);
    send_on_wire(fixture, &header, frame, size);
    assert_int_equal(drain(fixture, &bytes, &gso_type), 1);
    assert_int_equal(bytes, HEADER + size);
    assert_int_equal(gso_type, VIRTIO_NET_HDR_GSO_TCPV4);

    ring_init(&fixture->rings[0], &fixture->guest, GUEST_BASE, 64);
    start(fixture, MERGED); // a driver that takes no large ones gets what the kernel splits
    give_buffers(fixture, 60, 1536);
    send_on_wire(fixture, &header, frame, size);
    assert_int_equal(drain(fixture, &bytes, &gso_type), 20);
    assert_int_equal(bytes, 20 * (HEADER + 54 + 1000));
    assert_int_equal(gso_type, VIRTIO_NET_HDR_GSO_NONE);
}

static void large_packets_go_out(void **state)
{
    NEEDS_NAMESPACE();
    struct fixture *fixture = *state;
    static uint8_t frame[32000], seen[64000];
    struct virtio_net_hdr header;
    size_t size = make_segment(frame, &header);
    start(fixture, MERGED | FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_HOST_TSO4));
    memset(guest_at(&fixture->guest, GUEST_DATA), 0, HEADER);
    memcpy(guest_at(&fixture->guest, GUEST_DATA), &header, sizeof(header));
    memcpy(guest_at(&fixture->guest, GUEST_DATA + HEADER), frame, size);
    ring_add(&fixture->rings[1], &(struct part){ GUEST_DATA, (uint32_t)(HEADER + size), false }, 1);
    driver_kick(&fixture->mmio, 1);
    assert_int_equal(from_wire(fixture, seen, sizeof(seen)), (ssize_t)(sizeof(header) + size));
    assert_int_equal(((struct virtio_net_hdr *)seen)->gso_size, 1000);
}

static void without_buffers_packets_wait(void **state)
{
    NEEDS_NAMESPACE();
    struct fixture *fixture = *state;
    uint32_t id, len, bytes;
    uint8_t gso_type;
    start(fixture, MERGED);
    for (int i = 0; i < 5; i++)
        send_frame(fixture, 500, (uint8_t)i);
    assert_true(wait_host(fixture, 1000));
    virtio_host_ready(fixture->device);
    assert_false(ring_take(&fixture->rings[0], &id, &len));
    assert_false(wait_host(fixture, 0)); // nobody listens, so nobody spins
    give_buffers(fixture, 1, 300); // too small for one: it keeps waiting
    assert_false(ring_take(&fixture->rings[0], &id, &len));
    give_buffers(fixture, 10, 300);
    assert_int_equal(drain(fixture, &bytes, &gso_type), 5);
    assert_int_equal(bytes, 5 * (HEADER + 500));
}

// ---- hostile drivers ------------------------------------------------------------------------------------------------

static void nonsense_is_dropped(void **state)
{
    NEEDS_NAMESPACE();
    struct fixture *fixture = *state;
    static const struct part cases[][3] = {
        { { GUEST_DATA, HEADER, false } }, // no frame
        { { GUEST_DATA, 1, false } },
        { { GUEST_DATA, 0, false } },
        { { GUEST_DATA, 1500, true } }, // nothing to read
        { { GUEST_DATA, 1 << 20, false } },
        { { GUEST_DATA, HEADER + 5, false } }, // shorter than an Ethernet header
    };
    start(fixture, MERGED);
    uint32_t id, len;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ring_add(&fixture->rings[1], cases[i], 1);
        driver_kick(&fixture->mmio, 1);
        assert_true(ring_take(&fixture->rings[1], &id, &len));
    }
    memset(guest_at(&fixture->guest, GUEST_DATA), 0xff, 4096); // a header that makes no sense
    ring_add(&fixture->rings[1], &(struct part){ GUEST_DATA, 1000, false }, 1);
    driver_kick(&fixture->mmio, 1);
    assert_true(ring_take(&fixture->rings[1], &id, &len));
    assert_int_equal(reg_read(&fixture->mmio, VIRTIO_MMIO_STATUS), STATUS_LIVE);
    uint8_t seen[2000];
    assert_int_equal(from_wire(fixture, seen, sizeof(seen)), -1);
}

static void small_receive_buffers(void **state)
{
    NEEDS_NAMESPACE();
    struct fixture *fixture = *state;
    uint32_t id, len;
    start(fixture, 0); // one buffer a packet
    give_buffers(fixture, 2, 300);
    send_frame(fixture, 500, 1); // never fits: dropped
    send_frame(fixture, 200, 2);
    assert_true(wait_host(fixture, 1000));
    virtio_host_ready(fixture->device);
    assert_true(ring_take(&fixture->rings[0], &id, &len));
    assert_int_equal(len, HEADER + 200);
    assert_int_equal(id, 0);
    start(fixture, MERGED);
    ring_init(&fixture->rings[0], &fixture->guest, GUEST_BASE, 64);
    give_buffers(fixture, 2, 5); // no room for the header
    send_frame(fixture, 500, 1);
    assert_true(wait_host(fixture, 1000));
    virtio_host_ready(fixture->device);
    assert_int_equal(reg_read(&fixture->mmio, VIRTIO_MMIO_STATUS), STATUS_LIVE | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_false(wait_host(fixture, 0));
}

static void a_link_that_goes_away_is_no_storm(void **state)
{
    NEEDS_NAMESPACE();
    struct fixture *fixture = *state;
    start(fixture, MERGED);
    give_buffers(fixture, 2, 2000);
    char *const command[] = { (char[]){ "ip" }, (char[]){ "link" }, (char[]){ "delete" }, (char[]){ "t0" }, NULL };
    if (process_run(command, NULL, NULL, NULL) < 0) {
        print_message("no ip(8): skipped\n");
        skip();
    }
    for (int i = 0; i < 3 && wait_host(fixture, 0); i++)
        virtio_host_ready(fixture->device);
    assert_false(wait_host(fixture, 0));
    ring_add(&fixture->rings[1], &(struct part){ GUEST_DATA, 100, false }, 1);
    driver_kick(&fixture->mmio, 1);
    driver_kick(&fixture->mmio, 0);
    assert_int_equal(reg_read(&fixture->mmio, VIRTIO_MMIO_STATUS), STATUS_LIVE);
}

static void only_such_taps(void **state)
{
    NEEDS_NAMESPACE();
    struct fixture *fixture = *state;
    struct virtio_device *device;
    struct err err = { 0 };
    _cleanup_close_ int plain = open_tap("t1", IFF_TAP | IFF_NO_PI);
    assert_int_equal(virtio_net_new(&fixture->guest.memory, plain, mac, 0, &device, &err), -1);
    assert_string_equal(err.message, "network card: tap t1 lacks IFF_NO_PI or IFF_VNET_HDR");
    _cleanup_close_ int no_tap = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(virtio_net_new(&fixture->guest.memory, no_tap, mac, 0, &device, &err), -1);
}

// ---- state ----------------------------------------------------------------------------------------------------------

static void a_waiting_packet_survives_a_restore(void **state)
{
    NEEDS_NAMESPACE();
    struct fixture *fixture = *state;
    struct err err = { 0 };
    uint32_t id, len;
    start(fixture, MERGED | LARGE);
    send_frame(fixture, 777, 3);
    assert_true(wait_host(fixture, 1000));
    virtio_host_ready(fixture->device); // read, and no buffer for it
    virtio_pause(fixture->device);
    _cleanup_buf_ struct buf saved = BUF_INIT(256 << 10);
    virtio_mmio_save(&fixture->mmio, &(struct state_writer){ &saved });
    unmake(fixture);
    make(fixture);
    virtio_pause(fixture->device);
    struct state_reader reader = state_open(saved.data, saved.size, &err);
    if (virtio_mmio_load(&fixture->mmio, &reader) < 0 || state_finish(&reader) < 0)
        fail_msg("%s", err.message);
    give_buffers(fixture, 4, 1536);
    assert_false(ring_take(&fixture->rings[0], &id, &len));
    virtio_resume(fixture->device);
    assert_true(ring_take(&fixture->rings[0], &id, &len));
    assert_int_equal(len, HEADER + 777);
    send_frame(fixture, 100, 4); // and the new tap is listened to
    assert_true(wait_host(fixture, 1000));
    virtio_host_ready(fixture->device);
    assert_true(ring_take(&fixture->rings[0], &id, &len));
    for (size_t size = 0; size < saved.size; size += size < 200 ? 1 : 97) {
        struct state_reader cut = state_open(saved.data, size, &err);
        assert_int_equal(virtio_mmio_load(&fixture->mmio, &cut), -1);
    }
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH(tells_what_it_is),
        WITH(frames_go_out),
        WITH(frames_come_in),
        WITH(large_packets_are_merged_or_split),
        WITH(large_packets_go_out),
        WITH(without_buffers_packets_wait),
        WITH(nonsense_is_dropped),
        WITH(small_receive_buffers),
        WITH(a_link_that_goes_away_is_no_storm),
        WITH(only_such_taps),
        WITH(a_waiting_packet_survives_a_restore),
    };
    return cmocka_run_group_tests(tests, enter_namespace, NULL);
}
