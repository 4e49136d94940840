// What else gets to a container: ports of SCTP, links that a network trusts, packets with the operator's mark; and bridges without an address.
#include <netinet/ip.h>

#include "net_test.h"

static struct net_endpoint attach_to(struct world *world, const char *network, char digit, const struct net_port *ports, size_t len)
{
    struct net_endpoint endpoint = { .netns_fd = -1 };
    OK(net_network_up(world->net, network, err));
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of(digit), .network_id = network, .ports = ports, .port_len = len },
                  &endpoint, err));
    return endpoint;
}

static void close_all(const int *fds, size_t len)
{
    for (size_t i = 0; i < len; i++)
        fd_close(fds[i]);
}

// ---- SCTP, by hand: a kernel without its sockets forwards it all the same -------------------------------------------

enum { INIT = 1, INIT_ACK = 2, CHUNK_SIZE = 20 };

struct sctp {
    uint16_t source, destination;
    uint32_t tag, sum;
    uint8_t type, flags;
    uint16_t size;
    uint32_t initiate_tag, window;
    uint16_t out, in;
    uint32_t tsn;
} __attribute__((packed));

// CRC32c, the lowest byte first.
static uint32_t sum_of(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return ~crc;
}

static int raw_in(int netns_fd, const char *address)
{
    struct socket_request request = { AF_INET, SOCK_RAW, -1, IPPROTO_SCTP };
    struct sockaddr_in own = at(address, 0);
    OK(namespace_visit(netns_fd, make_socket, &request, err));
    assert_int_equal(bind(request.fd, (struct sockaddr *)&own, sizeof(own)), 0);
    return request.fd;
}

static void say(int raw, const char *to, uint16_t source, uint16_t destination, uint8_t type, uint32_t tag)
{
    struct sockaddr_in target = at(to, 0);
    struct sctp packet = { .source = htons(source), .destination = htons(destination), .tag = tag, .type = type, .size = htons(CHUNK_SIZE),
                           .initiate_tag = htonl(7), .window = htonl(4096), .out = htons(1), .in = htons(1), .tsn = htonl(1) };
    packet.sum = sum_of(&packet, sizeof(packet));
    assert_int_equal(sendto(raw, &packet, sizeof(packet), 0, (struct sockaddr *)&target, sizeof(target)), sizeof(packet));
}

// The next packet of that type, with a right sum; its ports and its sender.
static bool hear(int raw, uint8_t type, int timeout_ms, struct sctp *out, char from[INET_ADDRSTRLEN])
{
    char packet[256];
    while (ready(raw, POLLIN, timeout_ms)) {
        const struct iphdr *ip = (const struct iphdr *)packet;
        if (recv(raw, packet, sizeof(packet), 0) < (ssize_t)(sizeof(*ip) + sizeof(*out)))
            continue;
        memcpy(out, packet + ip->ihl * 4, sizeof(*out));
        uint32_t sum = out->sum;
        out->sum = 0;
        inet_ntop(AF_INET, &ip->saddr, from, INET_ADDRSTRLEN);
        if (out->type == type && sum_of(out, sizeof(*out)) == sum)
            return true;
    }
    return false;
}

static void test_sctp(void **state)
{
    struct world *world = *state;
    struct net_port port = bind_port(world->net, IPPROTO_SCTP, "0.0.0.0", 8080, 80);
    struct net_endpoint a = attach_to(world, "", 'a', &port, 1);
    int client = raw_in(world->outside, OUTSIDE), server = raw_in(a.netns_fd, a.address);
    struct sctp got = { 0 };
    char from[INET_ADDRSTRLEN] = "";
    bool come = false;
    for (int i = 0; i < TRIES && !come; i++) {
        say(client, HOST, 5000, 8080, INIT, 0);
        come = hear(server, INIT, TRY_MS, &got, from);
    }
    assert_true(come);
    assert_string_equal(from, OUTSIDE);
    assert_int_equal(ntohs(got.destination), 80);
    say(server, OUTSIDE, 80, 5000, INIT_ACK, htonl(7));
    assert_true(hear(client, INIT_ACK, TRIES * TRY_MS, &got, from));
    assert_string_equal(from, HOST);
    assert_int_equal(ntohs(got.source), 8080);
    say(client, a.address, 5001, 80, INIT, 0); // not at its own address
    assert_false(hear(server, INIT, SILENCE_MS, &got, from));
    close_all((int[]){ client, server, port.listener_fd, a.netns_fd }, 4);
}

static void refuse_port(struct world *world, struct net_port port, const char *says)
{
    port.listener_fd = -1;
    assert_int_equal(net_port_bind(world->net, "web", &port, &test_err), -1);
    if (!strstr(test_err.message, says))
        fail_msg("%s", test_err.message);
}

// One of 8080 keeps it, before and after its container has it; TCP's is another. Free ones are chosen.
static void test_sctp_ports_are_kept(void **state)
{
    struct world *world = *state;
    struct net_port first = bind_port(world->net, IPPROTO_SCTP, "0.0.0.0", 8080, 80);
    const struct net_port same = first;
    refuse_port(world, same, "listen sctp4 0.0.0.0:8080: bind: address already in use");
    struct net_port tcp = bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 8080, 80);
    struct net_endpoint a = attach_to(world, "", 'a', &first, 1);
    struct net_port at_one = same;
    snprintf(at_one.host_address, sizeof(at_one.host_address), HOST);
    refuse_port(world, at_one, "Bind for " HOST ":8080 failed: port is already allocated");
    struct net_port free_one = bind_port(world->net, IPPROTO_SCTP, "0.0.0.0", 0, 80), next = bind_port(world->net, IPPROTO_SCTP, "0.0.0.0", 0, 80);
    assert_true(free_one.host_port && next.host_port && free_one.host_port != next.host_port);
    close_all((int[]){ first.listener_fd, tcp.listener_fd, free_one.listener_fd, next.listener_fd, a.netns_fd }, 5);
    net_close(world->net);
    OK(net_open(world->store, &(struct net_config){ .daemon_id = DAEMON_ID, .no_rules = true }, &world->net, err));
    refuse_port(world, same, "port 80/sctp: it needs the firewall's rules");
}

// ---- who else is let through ----------------------------------------------------------------------------------------

static void create(struct world *world, const struct net_network *wanted)
{
    struct net_bridge_info info;
    OK(net_network_create(world->net, wanted, &info, err));
}

// By up0, what is published, of that network alone; also after a daemon has started again.
static void test_links_that_are_trusted(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_of('1'), .subnet = "10.5.0.0/24", .trusted = "nosuch0:up0" });
    create(world, &(struct net_network){ .id = id_of('2'), .subnet = "10.6.0.0/24", .trusted = "nosuch0" });
    struct net_port ports[] = { bind_port(world->net, IPPROTO_TCP, "127.0.0.1", 8080, 80), bind_port(world->net, IPPROTO_TCP, "127.0.0.1", 8081, 80) };
    struct net_endpoint a = attach_to(world, id_of('1'), 'a', &ports[0], 1), b = attach_to(world, id_of('2'), 'b', &ports[1], 1);
    int server = serve_in(a.netns_fd, SOCK_STREAM, 80), other = serve_in(a.netns_fd, SOCK_STREAM, 81), stranger = serve_in(b.netns_fd, SOCK_STREAM, 80);
    assert_string_equal(reach(world->outside, a.address, 80, server), OUTSIDE);
    assert_true(silent(world->outside, a.address, 81, other));
    assert_true(silent(world->outside, b.address, 80, stranger));
    assert_true(silent(b.netns_fd, a.address, 80, server));
    net_close(world->net);
    world->net = open_net(world->store, DAEMON_ID, NULL);
    OK(net_network_up(world->net, id_of('1'), err));
    reach(world->outside, a.address, 80, server);
    OK(net_detach(world->net, id_of('a'), err));
    _cleanup_free_ char *rules = ruleset();
    assert_null(strstr(rules, "10.5.0.2"));
    close_all((int[]){ server, other, stranger, ports[0].listener_fd, ports[1].listener_fd, a.netns_fd, b.netns_fd }, 7);
}

static void test_names_that_are_none(void **state)
{
    struct world *world = *state;
    struct net_bridge_info info;
    static const char *const names[] = { "a/b", "a:", ":a", "longer-than-a-name", "a b", "a\"b", "*" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_int_equal(net_network_create(world->net, &(struct net_network){ .id = id_of('1'), .trusted = names[i] }, &info, &test_err), -1);
        assert_non_null(strstr(test_err.message, "invalid trusted host interface name"));
    }
}

static void test_the_operators_mark(void **state)
{
    struct world *world = *state;
    net_close(world->net);
    OK(net_open(world->store, &(struct net_config){ .daemon_id = DAEMON_ID, .mark = 0xf1, .mark_mask = 0x3 }, &world->net, err));
    create(world, &(struct net_network){ .id = id_of('1'), .subnet = "10.5.0.0/24" });
    create(world, &(struct net_network){ .id = id_of('2'), .subnet = "10.6.0.0/24", .internal = true });
    struct net_endpoint a = attach_to(world, id_of('1'), 'a', NULL, 0), b = attach_to(world, id_of('2'), 'b', NULL, 0);
    int server = serve_in(a.netns_fd, SOCK_STREAM, 80), inner = serve_in(b.netns_fd, SOCK_STREAM, 80);
    assert_true(silent(world->outside, a.address, 80, server));
    nft("table ip own {\n chain in { type filter hook prerouting priority -200; ip saddr " OUTSIDE " meta mark set 0x5; }\n}");
    assert_string_equal(reach(world->outside, a.address, 80, server), OUTSIDE); // 0x5 & 0x3 is 0xf1 & 0x3
    assert_true(silent(world->outside, b.address, 80, inner));
    nft("flush chain ip own in\nadd rule ip own in ip saddr " OUTSIDE " meta mark set 0x2\n");
    assert_true(silent(world->outside, a.address, 80, server));
    close_all((int[]){ server, inner, a.netns_fd, b.netns_fd }, 4);
}

// The gateway is somebody else's.
static void test_a_bare_bridge(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_of('1'), .subnet = "10.5.0.0/24", .bare = true });
    struct net_endpoint a = attach_to(world, id_of('1'), 'a', NULL, 0), b = attach_to(world, id_of('1'), 'b', NULL, 0);
    struct net_bridge_info info;
    struct link_socket sock;
    struct link_info link;
    struct subnet any = { 0 }, found = { 0 };
    assert_true(net_network_info(world->net, id_of('1'), &info));
    assert_string_equal(info.gateway, "10.5.0.1");
    assert_string_equal(a.gateway, "10.5.0.1");
    assert_string_equal(a.address, "10.5.0.2");
    OK(link_open(&sock, err));
    OK(link_find(&sock, info.name, &link, err));
    assert_int_equal(link_address(&sock, link.index, &any, &found, &test_err), 0);
    link_close(&sock);
    int server = serve_in(a.netns_fd, SOCK_STREAM, 80);
    reach(b.netns_fd, a.address, 80, server);
    close_all((int[]){ server, a.netns_fd, b.netns_fd }, 3);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_sctp),                TEST(test_sctp_ports_are_kept), TEST(test_links_that_are_trusted),
        TEST(test_names_that_are_none), TEST(test_the_operators_mark),  TEST(test_a_bare_bridge),
    };
    return world_enter() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
