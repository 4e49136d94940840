// Bytes that really flow: outside, host and containers are network namespaces, joined by what the room makes.
#include "net_test.h"

static struct net_endpoint attach(struct world *world, char digit, const struct net_port *ports, size_t len)
{
    struct net_endpoint endpoint = { .netns_fd = -1 };
    OK(net_bridge_up(world->net, err));
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of(digit), .ports = ports, .port_len = len }, &endpoint, err));
    return endpoint;
}

static void close_all(int *fds, size_t len)
{
    for (size_t i = 0; i < len; i++)
        fd_close(fds[i]);
}

static void set_bridge_filter(const char *value)
{
    if (access("/proc/sys/net/bridge/bridge-nf-call-iptables", W_OK) == 0)
        OK(file_put(AT_FDCWD, "/proc/sys/net/bridge/bridge-nf-call-iptables", value, err));
}

static void test_outbound(void **state)
{
    struct world *world = *state;
    struct net_endpoint a = attach(world, 'a', NULL, 0);
    int server = serve_in(world->outside, SOCK_STREAM, 9000), host = serve_in(-1, SOCK_STREAM, 9001);

    assert_string_equal(reach(a.netns_fd, OUTSIDE, 9000, server), HOST); // masqueraded
    assert_string_equal(reach(a.netns_fd, a.gateway, 9001, host), a.address); // the host itself sees who it is
    close_all((int[]){ server, host, a.netns_fd }, 3);
}

static void test_published(void **state)
{
    struct world *world = *state;
    struct net_port port = bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 8080, 80);
    struct net_endpoint a = attach(world, 'a', &port, 1);
    int server = serve_in(a.netns_fd, SOCK_STREAM, 80);

    assert_string_equal(reach(world->outside, HOST, 8080, server), OUTSIDE); // the client's own address
    reach(-1, HOST, 8080, server);
    reach(-1, a.gateway, 8080, server);
    // Loopback stays with the listener, which the supervisor relays.
    assert_int_equal(fd_set_nonblock(port.listener_fd, true, NULL), 0);
    reach(-1, "127.0.0.1", 8080, port.listener_fd);
    close_all((int[]){ server, port.listener_fd, a.netns_fd }, 3);
}

static void test_published_udp(void **state)
{
    struct world *world = *state;
    struct net_port port = bind_port(world->net, IPPROTO_UDP, "0.0.0.0", 5353, 53);
    struct net_endpoint a = attach(world, 'a', &port, 1);
    int server = serve_in(a.netns_fd, SOCK_DGRAM, 53);

    reach_udp(world->outside, HOST, 5353, server);
    reach_udp(-1, HOST, 5353, server);
    close_all((int[]){ server, port.listener_fd, a.netns_fd }, 3);
}

static void test_host_addresses(void **state)
{
    struct world *world = *state;
    struct net_port ports[] = {
        bind_port(world->net, IPPROTO_TCP, HOST, 8080, 80),
        bind_port(world->net, IPPROTO_TCP, "127.0.0.1", 8081, 80),
    };
    struct net_endpoint a = attach(world, 'a', ports, ARRAY_LEN(ports));
    int server = serve_in(a.netns_fd, SOCK_STREAM, 80);

    reach(world->outside, HOST, 8080, server);
    assert_true(silent(-1, a.gateway, 8080, server)); // published on the other address only
    assert_true(silent(world->outside, HOST, 8081, server));
    _cleanup_free_ char *rules = ruleset();
    assert_null(strstr(rules, "8081"));
    close_all((int[]){ server, ports[0].listener_fd, ports[1].listener_fd, a.netns_fd }, 4);
}

static void test_isolation(void **state)
{
    struct world *world = *state;
    struct net_port port = bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 8080, 80);
    struct net_endpoint a = attach(world, 'a', &port, 1);
    int server = serve_in(a.netns_fd, SOCK_STREAM, 80), other = serve_in(a.netns_fd, SOCK_STREAM, 81);

    // The outside routes through the host and knows the container's address: neither published nor other ports answer there.
    assert_true(silent(world->outside, a.address, 80, server));
    assert_true(silent(world->outside, a.address, 81, other));
    reach(-1, a.address, 81, other); // the host itself may
    close_all((int[]){ server, other, port.listener_fd, a.netns_fd }, 4);
}

static void neighbours(struct world *world, const char *bridge_filter)
{
    set_bridge_filter(bridge_filter);
    struct net_port port = bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 8080, 80);
    struct net_endpoint a = attach(world, 'a', &port, 1), b = attach(world, 'b', NULL, 0);
    int server = serve_in(a.netns_fd, SOCK_STREAM, 80);

    assert_string_equal(reach(b.netns_fd, a.address, 80, server), b.address);
    reach(b.netns_fd, HOST, 8080, server); // by the host's address and back
    reach(a.netns_fd, HOST, 8080, server); // its own published port
    reach(a.netns_fd, a.gateway, 8080, server);
    close_all((int[]){ server, port.listener_fd, a.netns_fd, b.netns_fd }, 4);
}

static void test_neighbours(void **state)
{
    neighbours(*state, "0");
}

static void test_neighbours_bridge_filter(void **state)
{
    neighbours(*state, "1");
}

static void test_detached(void **state)
{
    struct world *world = *state;
    struct net_port port = bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 8080, 80);
    struct net_endpoint a = attach(world, 'a', &port, 1);
    int server = serve_in(a.netns_fd, SOCK_STREAM, 80), outside = serve_in(world->outside, SOCK_STREAM, 9000);

    reach(world->outside, HOST, 8080, server);
    OK(net_detach(world->net, id_of('a'), err));
    assert_true(silent(world->outside, HOST, 8080, server));
    // Its namespace lives on here, but the address is the next one's: nothing of the old one gets through.
    assert_true(silent(a.netns_fd, OUTSIDE, 9000, outside));
    struct net_endpoint b = attach(world, 'b', &port, 1);
    assert_string_equal(b.address, a.address);
    int next = serve_in(b.netns_fd, SOCK_STREAM, 80);
    reach(world->outside, HOST, 8080, next);
    reach(b.netns_fd, OUTSIDE, 9000, outside);
    close_all((int[]){ server, next, outside, port.listener_fd, a.netns_fd, b.netns_fd }, 6);
}

// A stranger removes the bridge below a running container: the next net_bridge_up() heals it.
static void test_bridge_removed(void **state)
{
    struct world *world = *state;
    struct net_port port = bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 8080, 80);
    struct net_endpoint a = attach(world, 'a', &port, 1);
    int server = serve_in(a.netns_fd, SOCK_STREAM, 80);
    struct link_socket sock;
    struct link_info link;

    OK(link_open(&sock, err));
    OK(link_find(&sock, "b0bad0", &link, err));
    OK(link_delete(&sock, link.index, err));
    link_close(&sock);
    assert_true(silent(world->outside, HOST, 8080, server));
    OK(net_bridge_up(world->net, err));
    reach(world->outside, HOST, 8080, server);
    reach(a.netns_fd, HOST, 8080, server);
    close_all((int[]){ server, port.listener_fd, a.netns_fd }, 3);
}

static void test_counters(void **state)
{
    struct world *world = *state;
    struct net_endpoint a = attach(world, 'a', NULL, 0);
    int server = serve_in(world->outside, SOCK_STREAM, 9000), none;
    struct net_counters before, after;
    struct err failure = { 0 };

    OK(net_counters(a.netns_fd, "eth0", &before, err));
    reach(a.netns_fd, OUTSIDE, 9000, server);
    OK(net_counters(a.netns_fd, "eth0", &after, err));
    assert_true(after.tx_packets >= before.tx_packets + 4 && after.rx_packets >= before.rx_packets + 3);
    assert_true(after.tx_bytes > before.tx_bytes && after.rx_bytes > before.rx_bytes);
    OK(net_none(&none, err));
    assert_int_equal(net_counters(none, "eth0", &after, &failure), -1);
    assert_int_equal(failure.class, ERR_NOT_FOUND);
    close_all((int[]){ server, none, a.netns_fd }, 3);
}

// A container of a daemon beside Docker: FORWARD drops by policy, DOCKER-USER lets ours through.
static void test_beside_docker(void **state)
{
    struct world *world = *state;
    nft("table ip filter {\n chain DOCKER-USER { return; }\n"
        " chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; }\n}");
    struct net_port port = bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 8080, 80);
    struct net_endpoint a = attach(world, 'a', &port, 1);
    int server = serve_in(a.netns_fd, SOCK_STREAM, 80), outside = serve_in(world->outside, SOCK_STREAM, 9000);

    assert_null(net_foreign_drop(world->net));
    reach(world->outside, HOST, 8080, server);
    reach(a.netns_fd, OUTSIDE, 9000, outside);
    assert_true(silent(world->outside, a.address, 80, server)); // our own drop still stands
    close_all((int[]){ server, outside, port.listener_fd, a.netns_fd }, 4);
}

// A client that never pauses finds the container again, although its old address is another one's.
static void test_a_flow_follows_its_port(void **state)
{
    struct world *world = *state;
    struct net_port port = bind_port(world->net, IPPROTO_UDP, "0.0.0.0", 5353, 53);
    struct net_endpoint a = attach(world, 'a', &port, 1);
    int server = serve_in(a.netns_fd, SOCK_DGRAM, 53), client = socket_in(world->outside, SOCK_DGRAM);
    int local = socket_in(-1, SOCK_DGRAM);
    flow_reaches(client, HOST, 5353, server);
    flow_reaches(local, HOST, 5353, server);
    close_all((int[]){ server, a.netns_fd }, 2);
    OK(net_detach(world->net, id_of('a'), err));

    struct net_endpoint b = attach(world, 'b', NULL, 0);
    assert_string_equal(b.address, a.address);
    int stranger = serve_in(b.netns_fd, SOCK_DGRAM, 53);
    assert_false(one_flow(client, HOST, 5353, stranger, SILENCE_MS));
    a = attach(world, 'a', &port, 1);
    assert_string_not_equal(b.address, a.address);
    server = serve_in(a.netns_fd, SOCK_DGRAM, 53);
    flow_reaches(client, HOST, 5353, server);
    flow_reaches(local, HOST, 5353, server);
    assert_false(ready(stranger, POLLIN, 0));
    close_all((int[]){ server, stranger, client, local, port.listener_fd, a.netns_fd, b.netns_fd }, 7);
}

static void test_a_client_that_was_there_first(void **state)
{
    struct world *world = *state;
    int client = socket_in(world->outside, SOCK_DGRAM), elsewhere = serve_in(world->outside, SOCK_DGRAM, 5353);
    int query = socket_in(-1, SOCK_DGRAM);
    struct net_endpoint b = attach(world, 'b', NULL, 0); // the table watches from here on
    struct net_port port = bind_port(world->net, IPPROTO_UDP, "0.0.0.0", 5353, 53);
    flow_reaches(query, OUTSIDE, 5353, elsewhere);
    flow_reaches(client, HOST, 5353, port.listener_fd);
    struct net_endpoint a = attach(world, 'a', &port, 1);
    int server = serve_in(a.netns_fd, SOCK_DGRAM, 53);
    flow_reaches(client, HOST, 5353, server);
    flow_reaches(query, OUTSIDE, 5353, elsewhere); // what goes elsewhere goes on
    close_all((int[]){ server, client, query, elsewhere, port.listener_fd, a.netns_fd, b.netns_fd }, 7);
}

#define WORLD_TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(test_outbound),
        WORLD_TEST(test_published),
        WORLD_TEST(test_published_udp),
        WORLD_TEST(test_a_flow_follows_its_port),
        WORLD_TEST(test_a_client_that_was_there_first),
        WORLD_TEST(test_host_addresses),
        WORLD_TEST(test_isolation),
        WORLD_TEST(test_neighbours),
        WORLD_TEST(test_neighbours_bridge_filter),
        WORLD_TEST(test_detached),
        WORLD_TEST(test_bridge_removed),
        WORLD_TEST(test_counters),
        WORLD_TEST(test_beside_docker),
    };
    return world_enter() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
