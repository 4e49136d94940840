// A guest's place in the network. The guest is played by hand: it answers ARP and looks at what comes.
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>

#include "net_test.h"

enum { GONE_MS = 60000, FRAME_MAX = 2048, HEADER = sizeof(struct virtio_net_hdr) };

struct guest {
    struct net_endpoint endpoint;
    int tap;
    unsigned char mac[6];
    struct in_addr address;
};

static struct guest plug(struct world *world, char digit, const struct net_port *ports, size_t len)
{
    struct guest guest = { .tap = -1 };
    unsigned mac[6];
    OK(net_bridge_up(world->net, err));
    OK(net_attach_tap(world->net, &(struct net_wish){ .container_id = id_of(digit), .ports = ports, .port_len = len }, &guest.endpoint, &guest.tap, err));
    assert_int_equal(sscanf(guest.endpoint.mac, "%x:%x:%x:%x:%x:%x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]), 6);
    for (size_t i = 0; i < 6; i++)
        guest.mac[i] = (unsigned char)mac[i];
    inet_pton(AF_INET, guest.endpoint.address, &guest.address);
    OK(fd_set_nonblock(guest.tap, true, err));
    return guest;
}

static bool find_link(const char *name, struct link_info *out)
{
    struct link_socket sock;
    OK(link_open(&sock, err));
    bool found = link_find(&sock, name, out, NULL) == 0;
    link_close(&sock);
    return found;
}

static bool settles_without(const char *name)
{
    struct link_info link;
    for (int i = 0; i < GONE_MS / 10 && find_link(name, &link); i++)
        usleep(10000);
    return !find_link(name, &link);
}

// ---- frames ---------------------------------------------------------------------------------------------------------

struct arp {
    struct ethhdr ether;
    struct arphdr head;
    unsigned char sender_mac[6], sender[4], target_mac[6], target[4];
} __attribute__((packed));

static void send_arp(const struct guest *guest, uint16_t operation, const unsigned char to[6], struct in_addr target)
{
    struct arp arp = { .ether.h_proto = htons(ETH_P_ARP),
                       .head = { htons(ARPHRD_ETHER), htons(ETH_P_IP), 6, 4, htons(operation) } };
    char frame[HEADER + sizeof(arp)] = { 0 };
    memcpy(arp.ether.h_dest, to, 6);
    memcpy(arp.ether.h_source, guest->mac, 6);
    memcpy(arp.sender_mac, guest->mac, 6);
    memcpy(arp.sender, &guest->address, 4);
    memcpy(arp.target, &target, 4);
    memcpy(frame + HEADER, &arp, sizeof(arp));
    assert_int_equal(write(guest->tap, frame, sizeof(frame)), sizeof(frame));
}

// The next ARP message of this operation for us.
static bool expect_arp(const struct guest *guest, uint16_t operation, int wait_ms, struct arp *out)
{
    char frame[FRAME_MAX];
    while (ready(guest->tap, POLLIN, wait_ms)) {
        ssize_t n = read(guest->tap, frame, sizeof(frame));
        if (n < (ssize_t)(HEADER + sizeof(*out)))
            continue;
        memcpy(out, frame + HEADER, sizeof(*out));
        if (out->ether.h_proto == htons(ETH_P_ARP) && out->head.ar_op == htons(operation) &&
            memcmp(out->target, &guest->address, 4) == 0)
            return true;
    }
    return false;
}

// Waits for a UDP packet to `port`; the byte it carries, or -1.
static int expect_udp(const struct guest *guest, uint16_t port, int wait_ms)
{
    unsigned char frame[FRAME_MAX];
    const unsigned char *ether = frame + HEADER, *ip = ether + ETH_HLEN, *udp = ip + 20;
    while (ready(guest->tap, POLLIN, wait_ms)) {
        ssize_t n = read(guest->tap, frame, sizeof(frame));
        struct arp arp;
        struct in_addr asker;
        if (n >= (ssize_t)(HEADER + sizeof(arp)) && ether[12] == 8 && ether[13] == 6) {
            memcpy(&arp, ether, sizeof(arp));
            memcpy(&asker, arp.sender, 4);
            if (memcmp(arp.target, &guest->address, 4) == 0)
                send_arp(guest, ARPOP_REPLY, arp.sender_mac, asker);
        } else if (n > HEADER + ETH_HLEN + 28 && ether[12] == 8 && ether[13] == 0 && ip[9] == IPPROTO_UDP &&
                   (udp[2] << 8 | udp[3]) == port && memcmp(ip + 16, &guest->address, 4) == 0) {
            return udp[8];
        }
    }
    return -1;
}

// ---- tests ----------------------------------------------------------------------------------------------------------

static void test_place(void **state)
{
    struct world *world = *state;
    struct guest guest = plug(world, 'a', NULL, 0);
    struct link_info link;
    struct ifreq request = { 0 };
    assert_string_equal(guest.endpoint.address, "172.17.0.2");
    assert_string_equal(guest.endpoint.mac, "02:42:ac:11:00:02");
    assert_string_equal(guest.endpoint.gateway, "172.17.0.1");
    assert_int_equal(guest.endpoint.netns_fd, -1);
    assert_true(find_link("b0bad1", &link));
    assert_true(link.up);
    assert_true(str_starts(link.alias, "berth " DAEMON_ID " aaaa"));
    assert_int_equal(ioctl(guest.tap, TUNGETIFF, &request), 0);
    assert_string_equal(request.ifr_name, "b0bad1");
    assert_int_equal(request.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_PERSIST), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    // A container beside it gets the next address, and it the first free one again.
    struct net_endpoint beside = { .netns_fd = -1 };
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of('b') }, &beside, err));
    assert_string_equal(beside.address, "172.17.0.3");
    fd_close(beside.netns_fd);
    fd_close(guest.tap);
    assert_true(settles_without("b0bad1"));
    OK(net_detach(world->net, id_of('a'), err));
    struct guest again = plug(world, 'c', NULL, 0);
    assert_string_equal(again.endpoint.address, "172.17.0.2");
    fd_close(again.tap);
}

static void test_no_ipv6(void **state)
{
    struct world *world = *state;
    struct guest guest = plug(world, 'a', NULL, 0);
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    if (access("/proc/sys/net/ipv6", F_OK) == 0) {
        OK(file_read_at(AT_FDCWD, "/proc/sys/net/ipv6/conf/b0bad1/disable_ipv6", &text, err));
        assert_string_equal(buf_text(&text), "1\n");
    }
    fd_close(guest.tap);
}

static void test_gateway_answers(void **state)
{
    struct world *world = *state;
    struct guest guest = plug(world, 'a', NULL, 0);
    struct in_addr gateway;
    struct arp answer;
    inet_pton(AF_INET, guest.endpoint.gateway, &gateway);
    bool answered = false; // asked again, as a guest does: the bridge takes a moment to see a new port's carrier
    for (int i = 0; i < TRIES && !answered; i++) {
        send_arp(&guest, ARPOP_REQUEST, (const unsigned char *)"\xff\xff\xff\xff\xff\xff", gateway);
        answered = expect_arp(&guest, ARPOP_REPLY, TRY_MS, &answer);
    }
    assert_true(answered);
    assert_memory_equal(answer.sender, &gateway, 4);
    fd_close(guest.tap);
}

static void poke(int netns_fd, const char *address, uint16_t port, char byte)
{
    _cleanup_close_ int client = socket_in(netns_fd, SOCK_DGRAM);
    struct sockaddr_in target = at(address, port);
    assert_int_equal(sendto(client, &byte, 1, 0, (struct sockaddr *)&target, sizeof(target)), 1);
}

// Told until it comes.
#define reaches_guest(guest, netns_fd, address, port, target_port, byte) \
    reaches_guest_at(__LINE__, guest, netns_fd, address, port, target_port, byte)
static void reaches_guest_at(int line, const struct guest *guest, int netns_fd, const char *address, uint16_t port, uint16_t target_port, char byte)
{
    for (int i = 0; i < TRIES; i++) {
        poke(netns_fd, address, port, byte);
        for (int got = 0; got >= 0;)
            if ((got = expect_udp(guest, target_port, TRY_MS)) == byte)
                return;
    }
    fail_msg("line %d: %s port %u does not reach the guest", line, address, port);
}

static void test_published(void **state)
{
    struct world *world = *state;
    struct net_port port = bind_port(world->net, IPPROTO_UDP, "0.0.0.0", 5353, 53);
    struct guest guest = plug(world, 'a', &port, 1);
    reaches_guest(&guest, world->outside, HOST, 5353, 53, 'o');
    reaches_guest(&guest, -1, HOST, 5353, 53, 'h');
    OK(net_detach(world->net, id_of('a'), err)); // the tap still stands, and nothing comes any more
    poke(world->outside, guest.endpoint.address, 53, 'x');
    assert_int_equal(expect_udp(&guest, 53, SILENCE_MS), -1);
    _cleanup_free_ char *rules = ruleset();
    assert_null(strstr(rules, "172.17.0.2"));
    fd_close(guest.tap);
    fd_close(port.listener_fd);
}

static void test_rejoins(void **state)
{
    struct world *world = *state;
    struct guest guest = plug(world, 'a', NULL, 0);
    struct link_info bridge;
    struct link_socket sock;
    assert_true(find_link("b0bad0", &bridge));
    OK(link_open(&sock, err));
    OK(link_delete(&sock, bridge.index, err));
    link_close(&sock);
    OK(net_bridge_up(world->net, err));
    reaches_guest(&guest, -1, guest.endpoint.address, 7, 7, 'r');
    fd_close(guest.tap);
}

static bool nobody(void *context, const char *container_id)
{
    return false;
}

static void test_sweep_and_teardown(void **state)
{
    struct world *world = *state;
    struct guest guest = plug(world, 'a', NULL, 0);
    struct link_info link;
    OK(net_sweep(world->net, nobody, NULL, err));
    assert_true(find_link("b0bad1", &link)); // somebody holds it
    OK(net_teardown(world->net, err));
    assert_false(find_link("b0bad1", &link));
    assert_false(find_link("b0bad0", &link));
    fd_close(guest.tap);
}

static void test_failures_leave_nothing(void **state)
{
    struct world *world = *state;
    struct net_endpoint endpoint;
    struct link_info link;
    int tap = -1;
    struct err failure = { 0 };
    assert_int_equal(net_attach_tap(world->net, &(struct net_wish){ .container_id = id_of('a') }, &endpoint, &tap, &failure), -1);
    assert_int_equal(failure.class, ERR_UNAVAILABLE);
    OK(net_bridge_up(world->net, err));
    _cleanup_close_ int stranger = tap_open("b0bad2", &failure); // the second endpoint's name
    assert_true(stranger >= 0);
    assert_int_equal(net_attach_tap(world->net, &(struct net_wish){ .container_id = id_of('a') }, &endpoint, &tap, &failure), -1);
    assert_int_equal(failure.number, EBUSY);
    assert_int_equal(tap, -1);
    assert_true(find_link("b0bad2", &link) && str_empty(link.alias));
    struct guest guest = plug(world, 'a', NULL, 0);
    assert_string_equal(guest.endpoint.address, "172.17.0.2");
    fd_close(guest.tap);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_place),   TEST(test_no_ipv6),            TEST(test_gateway_answers),        TEST(test_published),
        TEST(test_rejoins), TEST(test_sweep_and_teardown), TEST(test_failures_leave_nothing),
    };
    if (!world_enter())
        return 0;
    if (access("/dev/net/tun", R_OK | W_OK) < 0) {
        puts("1..0 # SKIP no /dev/net/tun");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
