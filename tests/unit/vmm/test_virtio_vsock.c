// The device between a driver in plain memory and real unix sockets.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/virtio_vsock.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "guest.h"

#define CID 42
#define HEADER ((uint32_t)sizeof(struct virtio_vsock_hdr))
#define RX_BUFFER 4096u
#define RX_BUFFERS GUEST_DATA // 64 of them
#define TX_BUFFER (GUEST_DATA + 0x100000)
#define EVENTS (GUEST_DATA + 0x90000)
#define GRANTED (256u << 10)
#define PORT 1024 // where the host listens
#define SLOW_PORT 2000 // where it answers later
#define MINE 5000 // the guest's port

#define OP(name) VIRTIO_VSOCK_OP_##name

struct fixture {
    struct guest guest;
    struct ring rings[3];
    struct virtio_device *device;
    struct virtio_mmio mmio;
    int host[2]; // the socket pair that connect() hands out: [0] is the host's end
    int connects;
    bool refuse;
    uint32_t alloc, forwarded; // what the guest says it has room for
};

static int hand_out(void *context, uint32_t port, uint32_t guest_port)
{
    struct fixture *fixture = context;
    fixture->connects++;
    if (port == SLOW_PORT)
        return VIRTIO_VSOCK_LATER;
    if (fixture->refuse || port != PORT)
        return -1;
    fd_close(fixture->host[0]);
    assert_int_equal(fd_socketpair(SOCK_STREAM, fixture->host, NULL), 0);
    return take_fd(&fixture->host[1]);
}

static void give_rx(struct fixture *fixture, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        ring_add(&fixture->rings[0],
                 &(struct part){ RX_BUFFERS + (uint64_t)fixture->rings[0].next_desc % 64 * RX_BUFFER, RX_BUFFER, true }, 1);
    driver_kick(&fixture->mmio, 0);
}

static void start(struct fixture *fixture, unsigned rx)
{
    for (unsigned i = 0; i < 3; i++)
        ring_init(&fixture->rings[i], &fixture->guest, GUEST_BASE + 0x4000 * i, 64);
    assert_int_equal(driver_start(&fixture->mmio, FEATURES_BASE, fixture->rings, 3), STATUS_LIVE);
    give_rx(fixture, rx);
}

static void make(struct fixture *fixture, uint64_t cid)
{
    assert_int_equal(virtio_vsock_new(&fixture->guest.memory, cid, hand_out, fixture, &fixture->device, NULL), 0);
    fixture->device->irq.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    virtio_mmio_init(&fixture->mmio, fixture->device);
}

static void unmake(struct fixture *fixture)
{
    fd_close(fixture->device->irq.event_fd);
    virtio_free(fixture->device);
}

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(struct fixture);
    guest_init(&fixture->guest);
    fixture->host[0] = fixture->host[1] = -1;
    fixture->alloc = 64 << 10;
    make(fixture, CID);
    start(fixture, 60);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    unmake(fixture);
    fd_close(fixture->host[0]);
    guest_done(&fixture->guest);
    free(fixture);
    return 0;
}

// ---- the guest's packets --------------------------------------------------------------------------------------------

static struct virtio_vsock_hdr header_of(const struct fixture *fixture, unsigned op, uint32_t host_port, uint32_t size)
{
    return (struct virtio_vsock_hdr){
        .src_cid = CID, .dst_cid = 2, .src_port = MINE, .dst_port = host_port, .len = size, .type = VIRTIO_VSOCK_TYPE_STREAM,
        .op = (uint16_t)op, .buf_alloc = fixture->alloc, .fwd_cnt = fixture->forwarded,
    };
}

static void send_raw(struct fixture *fixture, const struct virtio_vsock_hdr *header, const void *data, uint32_t size)
{
    memcpy(guest_at(&fixture->guest, TX_BUFFER), header, sizeof(*header));
    if (size)
        memcpy(guest_at(&fixture->guest, TX_BUFFER + 0x100), data, size);
    const struct part parts[] = { { TX_BUFFER, sizeof(*header), false }, { TX_BUFFER + 0x100, size, false } };
    ring_add(&fixture->rings[1], parts, size ? 2 : 1);
    driver_kick(&fixture->mmio, 1);
    uint32_t id, len;
    assert_true(ring_take(&fixture->rings[1], &id, &len));
}

static void send_op(struct fixture *fixture, unsigned op, uint32_t host_port, uint32_t flags)
{
    struct virtio_vsock_hdr header = header_of(fixture, op, host_port, 0);
    header.flags = flags;
    send_raw(fixture, &header, NULL, 0);
}

static void send_data(struct fixture *fixture, const void *data, uint32_t size)
{
    const struct virtio_vsock_hdr header = header_of(fixture, OP(RW), PORT, size);
    send_raw(fixture, &header, data, size);
}

// The next packet to the guest; false when there is none.
static bool receive(struct fixture *fixture, struct virtio_vsock_hdr *header, const uint8_t **data)
{
    uint32_t id, len;
    if (!ring_take(&fixture->rings[0], &id, &len))
        return false;
    const uint8_t *at = guest_at(&fixture->guest, RX_BUFFERS + (uint64_t)id * RX_BUFFER);
    memcpy(header, at, sizeof(*header));
    *data = at + sizeof(*header);
    assert_int_equal(len, HEADER + header->len);
    assert_true(header->src_cid == 2 && header->dst_cid == CID);
    return true;
}

static struct virtio_vsock_hdr expect(struct fixture *fixture, unsigned op)
{
    struct virtio_vsock_hdr header = { .op = 0 };
    const uint8_t *data;
    if (!receive(fixture, &header, &data))
        fail_msg("no packet, op %u expected", op);
    assert_int_equal(header.op, op);
    return header;
}

static void expect_nothing(struct fixture *fixture)
{
    struct virtio_vsock_hdr header;
    const uint8_t *data;
    if (receive(fixture, &header, &data))
        fail_msg("a packet with op %u", header.op);
}

// Lets the device see what happened on its sockets.
static void turn(struct fixture *fixture)
{
    struct pollfd one = { fixture->device->host_fd, POLLIN, 0 };
    for (int i = 0; i < 10 && poll(&one, 1, 20) == 1; i++)
        virtio_host_ready(fixture->device);
}

static void connect_out(struct fixture *fixture)
{
    send_op(fixture, OP(REQUEST), PORT, 0);
    struct virtio_vsock_hdr header = expect(fixture, OP(RESPONSE));
    assert_int_equal(header.src_port, PORT);
    assert_int_equal(header.dst_port, MINE);
    assert_int_equal(header.buf_alloc, GRANTED);
    assert_int_equal(header.fwd_cnt, 0);
}

// ---- good drivers ---------------------------------------------------------------------------------------------------

static void the_guest_connects_and_both_talk(void **state)
{
    struct fixture *fixture = *state;
    struct virtio_vsock_hdr header;
    const uint8_t *data;
    char text[32] = "";
    connect_out(fixture);
    send_data(fixture, "from the guest", 14);
    assert_int_equal(read(fixture->host[0], text, sizeof(text)), 14);
    assert_string_equal(text, "from the guest");
    assert_int_equal(write(fixture->host[0], "from the host", 13), 13);
    turn(fixture);
    assert_true(receive(fixture, &header, &data));
    assert_int_equal(header.op, OP(RW));
    assert_int_equal(header.len, 13);
    assert_int_equal(header.fwd_cnt, 14);
    assert_memory_equal(data, "from the host", 13);
    assert_true(irq_count(fixture->device) > 0);
    expect_nothing(fixture);
    send_op(fixture, OP(CREDIT_REQUEST), PORT, 0);
    expect(fixture, OP(CREDIT_UPDATE));
}

static void the_host_dials_and_both_talk(void **state)
{
    struct fixture *fixture = *state;
    int pair[2];
    assert_int_equal(fd_socketpair(SOCK_STREAM, pair, NULL), 0);
    assert_int_equal(write(pair[0], "early", 5), 5); // waits until the guest has answered
    assert_int_equal(virtio_vsock_dial(fixture->device, MINE, pair[1], NULL), 0);
    struct virtio_vsock_hdr header = expect(fixture, OP(REQUEST));
    assert_int_equal(header.dst_port, MINE);
    expect_nothing(fixture);
    uint32_t port = header.src_port;
    send_op(fixture, OP(RESPONSE), port, 0);
    assert_int_equal(expect(fixture, OP(RW)).len, 5);
    struct virtio_vsock_hdr data = header_of(fixture, OP(RW), port, 2);
    send_raw(fixture, &data, "ok", 2);
    char text[8] = "";
    assert_int_equal(read(pair[0], text, sizeof(text)), 2);
    fd_close(pair[0]);

    // Nobody listens in the guest: the host's end sees its end.
    assert_int_equal(fd_socketpair(SOCK_STREAM, pair, NULL), 0);
    turn(fixture);
    expect(fixture, OP(SHUTDOWN));
    assert_int_equal(virtio_vsock_dial(fixture->device, 99, pair[1], NULL), 0);
    header = expect(fixture, OP(REQUEST));
    assert_true(header.src_port != port);
    struct virtio_vsock_hdr refusal = header_of(fixture, OP(RST), header.src_port, 0);
    refusal.src_port = 99;
    send_raw(fixture, &refusal, NULL, 0);
    assert_int_equal(read(pair[0], text, sizeof(text)), 0);
    fd_close(pair[0]);
    expect_nothing(fixture);
}

static void the_host_may_answer_later(void **state)
{
    struct fixture *fixture = *state;
    int pair[2];
    char text[8] = "";
    struct err err;
    assert_int_equal(fd_socketpair(SOCK_STREAM, pair, NULL), 0);
    assert_int_equal(virtio_vsock_answer(fixture->device, SLOW_PORT, MINE, pair[0], &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);
    send_op(fixture, OP(REQUEST), SLOW_PORT, 0);
    expect_nothing(fixture);
    assert_int_equal(virtio_vsock_answer(fixture->device, SLOW_PORT, MINE + 1, pair[0], &err), -1);
    assert_int_equal(virtio_vsock_answer(fixture->device, SLOW_PORT, MINE, pair[0], &err), 0);
    assert_int_equal(virtio_vsock_answer(fixture->device, SLOW_PORT, MINE, pair[1], &err), -1); // it is open already
    assert_int_equal(expect(fixture, OP(RESPONSE)).src_port, SLOW_PORT);
    const struct virtio_vsock_hdr header = header_of(fixture, OP(RW), SLOW_PORT, 5);
    send_raw(fixture, &header, "hello", 5);
    assert_int_equal(read(pair[1], text, sizeof(text)), 5);
    assert_string_equal(text, "hello");
    fd_close(pair[1]);
}

static void an_answer_may_be_no_or_come_too_late(void **state)
{
    struct fixture *fixture = *state;
    int pair[2];
    assert_int_equal(fd_socketpair(SOCK_STREAM, pair, NULL), 0);
    send_op(fixture, OP(REQUEST), SLOW_PORT, 0);
    assert_int_equal(virtio_vsock_answer(fixture->device, SLOW_PORT, MINE, -1, NULL), 0);
    assert_int_equal(expect(fixture, OP(RST)).src_port, SLOW_PORT);
    static const struct {
        unsigned op, flags;
        bool reset;
    } ends[] = { { OP(RST), 0, false }, { OP(RW), 0, true }, { OP(SHUTDOWN), 3, true }, { OP(RESPONSE), 0, true },
                 { OP(REQUEST), 0, true } };
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        send_op(fixture, OP(REQUEST), SLOW_PORT, 0);
        send_op(fixture, ends[i].op, SLOW_PORT, ends[i].flags);
        if (ends[i].reset)
            expect(fixture, OP(RST));
        expect_nothing(fixture);
        assert_int_equal(virtio_vsock_answer(fixture->device, SLOW_PORT, MINE, pair[0], NULL), -1);
    }
    fd_close(pair[0]);
    fd_close(pair[1]);
}

static void dialling_needs_a_driver(void **state)
{
    struct fixture *fixture = *state;
    struct err err = { 0 };
    int pair[2];
    assert_int_equal(fd_socketpair(SOCK_STREAM, pair, NULL), 0);
    reg_write(&fixture->mmio, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(virtio_vsock_dial(fixture->device, 1, pair[1], &err), -1);
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    fd_close(pair[0]);
    fd_close(pair[1]);
}

static void refused_connections_are_reset(void **state)
{
    struct fixture *fixture = *state;
    send_op(fixture, OP(REQUEST), PORT + 1, 0);
    assert_int_equal(expect(fixture, OP(RST)).src_port, PORT + 1);
    fixture->refuse = true;
    send_op(fixture, OP(REQUEST), PORT, 0);
    expect(fixture, OP(RST));
    assert_int_equal(fixture->connects, 2);
}

static void the_host_waits_for_credit(void **state)
{
    struct fixture *fixture = *state;
    struct virtio_vsock_hdr header;
    const uint8_t *data;
    static uint8_t bulk[30000], got[30000];
    for (size_t i = 0; i < sizeof(bulk); i++)
        bulk[i] = (uint8_t)(i * 7 / 3);
    fixture->alloc = 10000;
    connect_out(fixture);
    assert_int_equal(write(fixture->host[0], bulk, sizeof(bulk)), sizeof(bulk));
    turn(fixture);
    size_t size = 0;
    for (int round = 0; round < 3; round++) {
        unsigned asked = 0;
        while (receive(fixture, &header, &data)) {
            asked += header.op == OP(CREDIT_REQUEST);
            memcpy(got + size, data, header.len);
            size += header.len;
            assert_true(size <= sizeof(got));
        }
        assert_int_equal(size, 10000 * (round + 1));
        assert_int_equal(asked, round == 2 ? asked : 1);
        fixture->forwarded = (uint32_t)size;
        send_op(fixture, OP(CREDIT_UPDATE), PORT, 0);
    }
    assert_memory_equal(got, bulk, sizeof(bulk));
}

static void the_guest_gets_credit_back(void **state)
{
    struct fixture *fixture = *state;
    static uint8_t bulk[32 << 10], sink[1 << 20];
    struct virtio_vsock_hdr header;
    const uint8_t *data;
    connect_out(fixture);
    int small = 4096;
    setsockopt(fixture->host[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    uint32_t sent = 0, known = 0, drained = 0;
    for (int i = 0; i < 200; i++) {
        while (receive(fixture, &header, &data)) {
            known = header.fwd_cnt;
            give_rx(fixture, 1);
        }
        if (sent - known + sizeof(bulk) <= GRANTED) {
            memset(bulk, (int)(sent / sizeof(bulk)), sizeof(bulk));
            send_data(fixture, bulk, sizeof(bulk));
            sent += sizeof(bulk);
        } else {
            ssize_t n = recv(fixture->host[0], sink, sizeof(sink), MSG_DONTWAIT);
            for (ssize_t j = 0; j < n; j++)
                assert_int_equal(sink[j], (uint8_t)((drained + (uint32_t)j) / sizeof(bulk)));
            drained += n > 0 ? (uint32_t)n : 0;
            turn(fixture);
        }
    }
    assert_true(sent > 4 * GRANTED && drained > 3 * GRANTED);
}

static void the_guest_ends_it(void **state)
{
    struct fixture *fixture = *state;
    char text[8];
    connect_out(fixture);
    send_data(fixture, "bye", 3);
    send_op(fixture, OP(SHUTDOWN), PORT, VIRTIO_VSOCK_SHUTDOWN_SEND); // half: the host may still answer
    assert_int_equal(read(fixture->host[0], text, sizeof(text)), 3);
    assert_int_equal(read(fixture->host[0], text, sizeof(text)), 0);
    assert_int_equal(write(fixture->host[0], "ok", 2), 2);
    turn(fixture);
    expect(fixture, OP(RW));
    send_op(fixture, OP(SHUTDOWN), PORT, VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND);
    expect(fixture, OP(RST));
    assert_int_equal(send(fixture->host[0], "x", 1, MSG_NOSIGNAL), -1);
    send_op(fixture, OP(RST), PORT, 0); // a reset is never answered
    expect_nothing(fixture);
}

static void the_host_ends_it(void **state)
{
    struct fixture *fixture = *state;
    connect_out(fixture);
    assert_int_equal(write(fixture->host[0], "last", 4), 4);
    assert_int_equal(shutdown(fixture->host[0], SHUT_WR), 0);
    turn(fixture);
    expect(fixture, OP(RW));
    assert_int_equal(expect(fixture, OP(SHUTDOWN)).flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
    send_data(fixture, "more", 4); // still open that way
    char text[8];
    assert_int_equal(read(fixture->host[0], text, sizeof(text)), 4);
    fd_close(take_fd(&fixture->host[0]));
    turn(fixture);
    assert_int_equal(expect(fixture, OP(SHUTDOWN)).flags, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
    send_data(fixture, "late", 4);
    expect(fixture, OP(RST));
    connect_out(fixture); // and the port is free again
    assert_int_equal(write(fixture->host[0], "last", 4), 4);
    fd_close(take_fd(&fixture->host[0])); // at once: the data still arrives
    turn(fixture);
    expect(fixture, OP(RW));
    assert_int_equal(expect(fixture, OP(SHUTDOWN)).flags, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
    expect_nothing(fixture);
}

static void without_buffers_everything_waits(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 0);
    send_op(fixture, OP(REQUEST), PORT, 0);
    assert_int_equal(write(fixture->host[0], "data", 4), 4);
    turn(fixture);
    struct pollfd one = { fixture->device->host_fd, POLLIN, 0 };
    assert_int_equal(poll(&one, 1, 0), 0); // no spinning
    expect_nothing(fixture);
    give_rx(fixture, 4);
    expect(fixture, OP(RESPONSE));
    assert_int_equal(expect(fixture, OP(RW)).len, 4);
}

// ---- hostile drivers ------------------------------------------------------------------------------------------------

static void packets_that_make_no_sense(void **state)
{
    struct fixture *fixture = *state;
    const struct virtio_vsock_hdr good = header_of(fixture, OP(RW), PORT, 4);
    enum { SILENCE, RESET } answer = SILENCE;
    for (int i = 0; i < 11; i++) {
        struct virtio_vsock_hdr header = good;
        bool open = i >= 4; // the connection is there
        answer = RESET;
        if (open)
            connect_out(fixture);
        switch (i) {
        case 0: header.src_cid = 7; answer = SILENCE; break;
        case 1: header.dst_cid = 3; answer = SILENCE; break;
        case 2: header.type = 2; header.op = OP(REQUEST); break;
        case 3: header.op = OP(REQUEST); header.len = 5; break; // more than the chain has
        case 4: header.len = 5; break;
        case 5: header.len = UINT32_MAX; break;
        case 6: header.type = 9; break;
        case 7: header.op = OP(REQUEST); break;
        case 8: header.op = OP(RESPONSE); break;
        case 9: header.op = 999; break;
        case 10: header.op = OP(INVALID); break;
        }
        send_raw(fixture, &header, "data", 4);
        if (answer == RESET)
            expect(fixture, OP(RST));
        expect_nothing(fixture);
        if (open) {
            char c;
            assert_int_equal(read(fixture->host[0], &c, 1), 0);
        }
        give_rx(fixture, (answer == RESET) + open);
    }
    const struct part stub = { TX_BUFFER, HEADER - 1, false };
    ring_add(&fixture->rings[1], &stub, 1);
    driver_kick(&fixture->mmio, 1);
    expect_nothing(fixture);
    assert_int_equal(reg_read(&fixture->mmio, VIRTIO_MMIO_STATUS), STATUS_LIVE);
}

static void more_than_its_credit_is_cut_off(void **state)
{
    struct fixture *fixture = *state;
    static uint8_t bulk[64 << 10];
    connect_out(fixture);
    struct virtio_vsock_hdr header;
    const uint8_t *data;
    bool reset = false;
    for (int i = 0; i < 20 && !reset; i++) { // nobody reads: the socket's buffer, then ours
        send_data(fixture, bulk, sizeof(bulk));
        while (receive(fixture, &header, &data))
            reset |= header.op == OP(RST);
    }
    assert_true(reset);
}

static void data_after_shutdown_is_cut_off(void **state)
{
    struct fixture *fixture = *state;
    connect_out(fixture);
    send_op(fixture, OP(SHUTDOWN), PORT, VIRTIO_VSOCK_SHUTDOWN_SEND);
    send_data(fixture, "x", 1);
    expect(fixture, OP(RST));
}

static void connections_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    struct virtio_vsock_hdr header = header_of(fixture, OP(REQUEST), PORT, 0);
    unsigned accepted = 0, refused = 0;
    int ends[300];
    for (uint32_t i = 0; i < 300; i++) {
        header.src_port = i;
        fixture->host[0] = -1;
        send_raw(fixture, &header, NULL, 0);
        ends[i] = take_fd(&fixture->host[0]);
        struct virtio_vsock_hdr answer;
        const uint8_t *data;
        while (receive(fixture, &answer, &data)) {
            accepted += answer.op == OP(RESPONSE);
            refused += answer.op == OP(RST);
        }
        give_rx(fixture, 1);
    }
    assert_int_equal(accepted, 256);
    assert_int_equal(refused, 44);
    assert_int_equal(fixture->connects, 256);
    reg_write(&fixture->mmio, VIRTIO_MMIO_STATUS, 0); // closes them all
    for (uint32_t i = 0; i < 256; i++) {
        char c;
        assert_int_equal(read(ends[i], &c, 1), 0);
        fd_close(ends[i]);
    }
}

static void unanswered_resets_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 0);
    const struct virtio_vsock_hdr header = header_of(fixture, OP(RW), 77, 0);
    memcpy(guest_at(&fixture->guest, TX_BUFFER), &header, sizeof(header));
    uint32_t id, len, taken = 0, resets = 0;
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 60; j++)
            ring_add(&fixture->rings[1], &(struct part){ TX_BUFFER, HEADER, false }, 1);
        driver_kick(&fixture->mmio, 1);
        while (ring_take(&fixture->rings[1], &id, &len))
            taken++;
        if (i == 1)
            break; // the ring is full of what the device doesn't take any more
    }
    assert_int_equal(taken, 64);
    struct virtio_vsock_hdr answer;
    const uint8_t *data;
    for (int i = 0; i < 10; i++) {
        give_rx(fixture, 30);
        while (receive(fixture, &answer, &data))
            resets += answer.op == OP(RST);
        while (ring_take(&fixture->rings[1], &id, &len))
            taken++;
    }
    assert_int_equal(taken, 120);
    assert_int_equal(resets, 120);
}

static void small_receive_buffers_break_the_device(void **state)
{
    struct fixture *fixture = *state;
    for (uint32_t size = HEADER - 1; size <= HEADER; size++) {
        start(fixture, 0);
        send_op(fixture, OP(REQUEST), PORT, 0);
        assert_int_equal(write(fixture->host[0], "data", 4), 4);
        for (int i = 0; i < 3; i++)
            ring_add(&fixture->rings[0], &(struct part){ RX_BUFFERS, size, true }, 1);
        driver_kick(&fixture->mmio, 0);
        assert_int_equal(reg_read(&fixture->mmio, VIRTIO_MMIO_STATUS), STATUS_LIVE | VIRTIO_CONFIG_S_NEEDS_RESET);
    }
}

static void wild_credit_is_only_the_guests_own_loss(void **state)
{
    struct fixture *fixture = *state;
    struct virtio_vsock_hdr header;
    const uint8_t *data;
    connect_out(fixture);
    static uint8_t bulk[20000];
    fixture->alloc = UINT32_MAX;
    fixture->forwarded = 0x80000000;
    send_op(fixture, OP(CREDIT_UPDATE), PORT, 0);
    assert_int_equal(write(fixture->host[0], bulk, sizeof(bulk)), sizeof(bulk));
    turn(fixture);
    while (receive(fixture, &header, &data))
        assert_true(header.len <= RX_BUFFER);
    fixture->alloc = 0;
    send_op(fixture, OP(CREDIT_UPDATE), PORT, 0);
    assert_int_equal(write(fixture->host[0], bulk, 100), 100);
    turn(fixture);
    while (receive(fixture, &header, &data))
        assert_int_not_equal(header.op, OP(RW));
}

// ---- state ----------------------------------------------------------------------------------------------------------

static void a_restore_resets_the_transport(void **state)
{
    struct fixture *fixture = *state;
    struct err err = { 0 };
    connect_out(fixture);
    for (int i = 0; i < 4; i++)
        ring_add(&fixture->rings[2], &(struct part){ EVENTS + (uint64_t)i * 16, 4, true }, 1);
    virtio_pause(fixture->device);
    const struct virtio_vsock_hdr header = header_of(fixture, OP(RW), PORT, 0);
    memcpy(guest_at(&fixture->guest, TX_BUFFER), &header, sizeof(header));
    ring_add(&fixture->rings[1], &(struct part){ TX_BUFFER, HEADER, false }, 1); // in flight
    _cleanup_buf_ struct buf saved = BUF_INIT(64 << 10);
    virtio_mmio_save(&fixture->mmio, &(struct state_writer){ &saved });
    unmake(fixture);
    make(fixture, CID);
    virtio_pause(fixture->device);
    struct state_reader reader = state_open(saved.data, saved.size, &err);
    assert_int_equal(virtio_mmio_load(&fixture->mmio, &reader), 0);
    assert_int_equal(state_finish(&reader), 0);
    virtio_resume(fixture->device);
    uint32_t id, len;
    assert_true(ring_take(&fixture->rings[2], &id, &len));
    assert_int_equal(len, 4);
    assert_int_equal(*(uint32_t *)guest_at(&fixture->guest, EVENTS), VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
    assert_false(ring_take(&fixture->rings[2], &id, &len)); // once
    assert_true(ring_take(&fixture->rings[1], &id, &len));
    expect(fixture, OP(RST)); // nobody knows that connection any more
    connect_out(fixture);
    char c;
    send_data(fixture, "!", 1);
    assert_int_equal(read(fixture->host[0], &c, 1), 1);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH(the_guest_connects_and_both_talk),
        WITH(the_host_dials_and_both_talk),
        WITH(the_host_may_answer_later),
        WITH(an_answer_may_be_no_or_come_too_late),
        WITH(dialling_needs_a_driver),
        WITH(refused_connections_are_reset),
        WITH(the_host_waits_for_credit),
        WITH(the_guest_gets_credit_back),
        WITH(the_guest_ends_it),
        WITH(the_host_ends_it),
        WITH(without_buffers_everything_waits),
        WITH(packets_that_make_no_sense),
        WITH(more_than_its_credit_is_cut_off),
        WITH(data_after_shutdown_is_cut_off),
        WITH(connections_are_bounded),
        WITH(unanswered_resets_are_bounded),
        WITH(small_receive_buffers_break_the_device),
        WITH(wild_credit_is_only_the_guests_own_loss),
        WITH(a_restore_resets_the_transport),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
