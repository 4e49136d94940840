// Networks with IPv6: bytes that really flow, from outside, from the host, from containers; and what stays shut.
#include "net_test.h"

enum { WAIT_MS = 3000, SILENCE_MS = 400 };
#define HOST6 "2001:db8::1"
#define OUTSIDE6 "2001:db8::2"
#define FORWARDING "/proc/sys/net/ipv6/conf/all/forwarding"

static const char *id_of_network(char digit)
{
    return id_of((char)(digit + 'a' - '1'));
}

// ---- the world's own addresses, and sockets -------------------------------------------------------------------------

static number128 number(const char *text)
{
    number128 out = 0;
    assert_true(address6_parse(text, &out));
    return out;
}

struct place {
    const char *link, *address, *gateway;
};

// Of the calling thread's namespace; no gateway: no route.
static int give_address(void *context, int netns_fd, struct err *err)
{
    const struct place *place = context;
    struct link_socket sock;
    struct link_info link;
    if (link_open(&sock, err) < 0)
        return -1;
    int result = link_switch_ipv6(place->link, true, err) < 0 || link_find(&sock, place->link, &link, err) < 0 ||
                         link_set_up(&sock, link.index, err) < 0 ||
                         link_add_address6(&sock, link.index, number(place->address), 64, err) < 0 ||
                         (place->gateway && link_add_default_route6(&sock, link.index, number(place->gateway), err) < 0)
                     ? -1
                     : 0;
    link_close(&sock);
    return result;
}

static int ipv6_setup(void **state)
{
    world_setup(state);
    struct world *world = *state;
    struct place host = { "up0", HOST6, OUTSIDE6 }, outside = { "eth0", OUTSIDE6, HOST6 };
    OK(file_put(AT_FDCWD, FORWARDING, "0", err));
    OK(give_address(&host, -1, err));
    OK(namespace_visit(world->outside, give_address, &outside, err));
    return 0;
}

static int make_socket6(void *context, int netns_fd, struct err *err)
{
    struct socket_request *request = context;
    request->fd = socket(AF_INET6, request->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return request->fd < 0 ? err_errno(err, errno, "socket") : 0;
}

static int socket6_in(int netns_fd, int type)
{
    struct socket_request request = { type, -1 };
    if (netns_fd < 0)
        OK(make_socket6(&request, -1, err));
    else
        OK(namespace_visit(netns_fd, make_socket6, &request, err));
    return request.fd;
}

static struct sockaddr_in6 at6(const char *address, uint16_t port)
{
    struct sockaddr_in6 out = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    assert_int_equal(inet_pton(AF_INET6, address, &out.sin6_addr), 1);
    return out;
}

static int bind6_in(int netns_fd, int type, uint16_t port)
{
    int fd = socket6_in(netns_fd, type);
    struct sockaddr_in6 any = at6("::", port);
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
    return fd;
}

static int serve6_in(int netns_fd, uint16_t port)
{
    int fd = bind6_in(netns_fd, SOCK_STREAM, port);
    assert_int_equal(listen(fd, 16), 0);
    return fd;
}

// Whom the server saw; NULL: nobody came.
static const char *talk6(int netns_fd, const char *address, uint16_t port, int server, int timeout_ms)
{
    static char seen[INET6_ADDRSTRLEN];
    _cleanup_close_ int client = socket6_in(netns_fd, SOCK_STREAM), accepted = -1;
    struct sockaddr_in6 target = at6(address, port), peer = { 0 };
    socklen_t size = sizeof(peer);
    char byte = 0;
    if ((connect(client, (struct sockaddr *)&target, sizeof(target)) < 0 && errno != EINPROGRESS) || !ready(server, POLLIN, timeout_ms))
        return NULL;
    accepted = accept4(server, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (accepted < 0 || !ready(client, POLLOUT, timeout_ms) || write(client, "x", 1) != 1 || !ready(accepted, POLLIN, timeout_ms) ||
        read(accepted, &byte, 1) != 1 || byte != 'x')
        return NULL;
    return inet_ntop(AF_INET6, &peer.sin6_addr, seen, sizeof(seen));
}

static struct net_endpoint attach_to(struct world *world, const char *network, char digit, const struct net_port *ports, size_t len)
{
    struct net_endpoint endpoint = { .netns_fd = -1 };
    OK(net_network_up(world->net, network, err));
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of(digit), .network_id = network, .ports = ports, .port_len = len },
                  &endpoint, err));
    return endpoint;
}

static void create(struct world *world, const struct net_network *wanted)
{
    struct net_bridge_info info;
    OK(net_network_create(world->net, wanted, &info, err));
}

static void close_all(const int *fds, size_t len)
{
    for (size_t i = 0; i < len; i++)
        fd_close(fds[i]);
}

// ---- tests ----------------------------------------------------------------------------------------------------------

static void test_the_way_out(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_of_network('1'), .ipv6 = true, .subnet6 = "fd00:1::/64" });
    create(world, &(struct net_network){ .id = id_of_network('2'), .ipv6 = true, .subnet6 = "fd00:2::/64", .internal = true });
    create(world, &(struct net_network){ .id = id_of_network('3'), .ipv6 = true, .subnet6 = "fd00:3::/64", .no_masquerade = true });
    struct net_endpoint a = attach_to(world, id_of_network('1'), '1', NULL, 0), inner = attach_to(world, id_of_network('2'), '2', NULL, 0),
                        plain = attach_to(world, id_of_network('3'), '3', NULL, 0);
    int server = serve6_in(world->outside, 9000), host = serve6_in(-1, 9001);
    assert_string_equal(a.address6, "fd00:1::2");
    assert_string_equal(a.gateway6, "fd00:1::1");
    assert_string_equal(talk6(a.netns_fd, OUTSIDE6, 9000, server, WAIT_MS), HOST6); // masqueraded
    assert_string_equal(talk6(a.netns_fd, a.gateway6, 9001, host, WAIT_MS), a.address6); // the host itself sees who it is
    assert_string_equal(talk6(plain.netns_fd, OUTSIDE6, 9000, server, WAIT_MS), plain.address6);
    assert_string_equal(inner.gateway6, "");
    assert_null(talk6(inner.netns_fd, OUTSIDE6, 9000, server, SILENCE_MS));
    close_all((int[]){ server, host, a.netns_fd, inner.netns_fd, plain.netns_fd }, 5);
}

static void test_what_is_published(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_of_network('1'), .ipv6 = true, .subnet6 = "fd00:1::/64" });
    create(world, &(struct net_network){ .id = id_of_network('2'), .ipv6 = true });
    struct net_port ports[] = { bind_port(world->net, IPPROTO_TCP, "::", 8080, 80), bind_port(world->net, IPPROTO_TCP, HOST6, 8081, 80),
                                bind_port(world->net, IPPROTO_TCP, "::1", 8082, 80), bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 8083, 80) };
    struct net_endpoint a = attach_to(world, id_of_network('1'), '1', ports, ARRAY_LEN(ports)), b = attach_to(world, id_of_network('1'), '2', NULL, 0),
                        other = attach_to(world, id_of_network('2'), '3', NULL, 0);
    int server = serve6_in(a.netns_fd, 80);
    assert_string_equal(talk6(world->outside, HOST6, 8080, server, WAIT_MS), OUTSIDE6); // the client's own address
    assert_string_equal(talk6(world->outside, HOST6, 8081, server, WAIT_MS), OUTSIDE6);
    assert_null(talk6(world->outside, HOST6, 8082, server, SILENCE_MS));
    assert_null(talk6(world->outside, HOST6, 8083, server, SILENCE_MS));
    assert_non_null(talk6(-1, HOST6, 8080, server, WAIT_MS));
    assert_null(talk6(-1, a.gateway6, 8081, server, SILENCE_MS)); // published on the other address only
    assert_non_null(talk6(other.netns_fd, a.gateway6, 8080, server, WAIT_MS)); // from another network by the host
    assert_non_null(talk6(b.netns_fd, HOST6, 8080, server, WAIT_MS)); // from its own, and from itself
    assert_non_null(talk6(a.netns_fd, HOST6, 8080, server, WAIT_MS));
    assert_string_equal(talk6(b.netns_fd, a.address6, 80, server, WAIT_MS), b.address6);
    // What is not published is not reached: not from outside, not from another network; the host itself may.
    assert_null(talk6(world->outside, a.address6, 80, server, SILENCE_MS));
    assert_null(talk6(other.netns_fd, a.address6, 80, server, SILENCE_MS));
    assert_non_null(talk6(-1, a.address6, 80, server, WAIT_MS));
    OK(net_detach(world->net, id_of('1'), err));
    _cleanup_free_ char *rules = ruleset();
    assert_null(strstr(rules, "8080"));
    close_all((int[]){ server, a.netns_fd, b.netns_fd, other.netns_fd, ports[0].listener_fd, ports[1].listener_fd, ports[2].listener_fd,
                       ports[3].listener_fd }, 8);
}

// One socket, so that all it sends is one flow. True when `server` has it and the answer came back.
static bool one_flow6(int client, const char *address, uint16_t port, int server, int timeout_ms)
{
    struct sockaddr_in6 target = at6(address, port), peer = { 0 };
    socklen_t size = sizeof(peer);
    char byte = 0;
    assert_int_equal(sendto(client, "x", 1, 0, (struct sockaddr *)&target, sizeof(target)), 1);
    return ready(server, POLLIN, timeout_ms) && recvfrom(server, &byte, 1, 0, (struct sockaddr *)&peer, &size) == 1 &&
           sendto(server, "y", 1, 0, (struct sockaddr *)&peer, size) == 1 && ready(client, POLLIN, timeout_ms) &&
           recv(client, &byte, 1, 0) == 1 && byte == 'y';
}

// A client that never pauses finds the container again, although its old address is another one's; and one that was sending before the
// port was there.
static void test_a_flow_follows_its_port(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_of_network('1'), .ipv6 = true, .subnet6 = "fd00:1::/64" });
    struct net_port port = bind_port(world->net, IPPROTO_UDP, "::", 5353, 53);
    int client = socket6_in(world->outside, SOCK_DGRAM), elsewhere = bind6_in(world->outside, SOCK_DGRAM, 5353), query = socket6_in(-1, SOCK_DGRAM);
    assert_true(one_flow6(query, OUTSIDE6, 5353, elsewhere, WAIT_MS));
    assert_true(one_flow6(client, HOST6, 5353, port.listener_fd, WAIT_MS));
    struct net_endpoint a = attach_to(world, id_of_network('1'), '1', &port, 1);
    int server = bind6_in(a.netns_fd, SOCK_DGRAM, 53);
    assert_true(one_flow6(client, HOST6, 5353, server, WAIT_MS));
    close_all((int[]){ server, a.netns_fd }, 2);
    OK(net_detach(world->net, id_of('1'), err));

    struct net_endpoint b = attach_to(world, id_of_network('1'), '2', NULL, 0);
    assert_string_equal(b.address6, a.address6);
    int stranger = bind6_in(b.netns_fd, SOCK_DGRAM, 53);
    assert_false(one_flow6(client, HOST6, 5353, stranger, SILENCE_MS));
    a = attach_to(world, id_of_network('1'), '1', &port, 1);
    server = bind6_in(a.netns_fd, SOCK_DGRAM, 53);
    assert_true(one_flow6(client, HOST6, 5353, server, WAIT_MS));
    assert_false(ready(stranger, POLLIN, 0));
    assert_true(one_flow6(query, OUTSIDE6, 5353, elsewhere, WAIT_MS)); // what goes elsewhere goes on
    close_all((int[]){ server, stranger, client, elsewhere, query, port.listener_fd, a.netns_fd, b.netns_fd }, 8);
}

// Beside Docker: FORWARD drops by policy, DOCKER-USER lets ours through, and what we wrote there goes with us.
static void test_beside_docker(void **state)
{
    struct world *world = *state;
    nft("table ip6 filter {\n chain DOCKER-USER { return; }\n"
        " chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; }\n}");
    create(world, &(struct net_network){ .id = id_of_network('1'), .ipv6 = true, .subnet6 = "fd00:1::/64" });
    struct net_port port = bind_port(world->net, IPPROTO_TCP, "::", 8080, 80);
    struct net_endpoint a = attach_to(world, id_of_network('1'), '1', &port, 1);
    int server = serve6_in(a.netns_fd, 80), outside = serve6_in(world->outside, 9000);
    assert_null(net_foreign_drop(world->net));
    assert_string_equal(talk6(world->outside, HOST6, 8080, server, WAIT_MS), OUTSIDE6);
    assert_string_equal(talk6(a.netns_fd, OUTSIDE6, 9000, outside, WAIT_MS), HOST6);
    assert_null(talk6(world->outside, a.address6, 80, server, SILENCE_MS)); // our own drop still stands
    OK(net_teardown(world->net, err));
    _cleanup_free_ char *rules = ruleset();
    assert_null(strstr(rules, "berth"));
    close_all((int[]){ server, outside, port.listener_fd, a.netns_fd }, 4);
}

// A firewall that can't be overruled is told of.
static void test_a_firewall_that_drops(void **state)
{
    struct world *world = *state;
    nft("table ip6 wall {\n chain way { type filter hook forward priority filter; policy drop; }\n}");
    create(world, &(struct net_network){ .id = id_of_network('1') });
    assert_null(net_foreign_drop(world->net)); // no network has IPv6
    create(world, &(struct net_network){ .id = id_of_network('2'), .ipv6 = true });
    _cleanup_free_ char *line = net_foreign_drop(world->net);
    assert_non_null(strstr(line, "chain way of nftables table ip6 wall"));
}

// A network without IPv6 beside one that has it: what its containers give themselves leads nowhere.
static void test_one_without_it(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_of_network('1'), .ipv6 = true, .subnet6 = "fd00:1::/64" });
    create(world, &(struct net_network){ .id = id_of_network('2') });
    struct net_endpoint a = attach_to(world, id_of_network('2'), '1', NULL, 0);
    int server = serve6_in(world->outside, 9000), own = serve6_in(a.netns_fd, 80);
    struct net_bridge_info info;
    assert_string_equal(a.address6, "");
    assert_true(net_network_info(world->net, id_of_network('2'), &info));
    struct place inside = { "eth0", "fd00:9::2", "fd00:9::1" }, bridge = { info.name, "fd00:9::1", NULL };
    OK(namespace_visit(a.netns_fd, give_address, &inside, err));
    OK(give_address(&bridge, -1, err));
    assert_null(talk6(a.netns_fd, OUTSIDE6, 9000, server, SILENCE_MS));
    assert_null(talk6(world->outside, "fd00:9::2", 80, own, SILENCE_MS));
    assert_non_null(talk6(-1, "fd00:9::2", 80, own, WAIT_MS)); // it is the rules that stop the others
    close_all((int[]){ server, own, a.netns_fd }, 3);
}

static void assert_forwarding(const char *expected)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    OK(file_read_at(AT_FDCWD, FORWARDING, &text, err));
    assert_int_equal(buf_text(&text)[0], expected[0]);
}

// Nothing of IPv6 is touched before the first network that has it comes; the end puts it back.
static void test_beginning_and_end(void **state)
{
    struct world *world = *state;
    OK(net_bridge_up(world->net, err));
    _cleanup_free_ char *before = ruleset();
    assert_null(strstr(before, "table ip6"));
    assert_forwarding("0");
    create(world, &(struct net_network){ .id = id_of_network('1'), .ipv6 = true });
    _cleanup_free_ char *during = ruleset();
    assert_non_null(strstr(during, "table ip6 berth_" DAEMON_ID));
    assert_forwarding("1");
    OK(net_network_remove(world->net, id_of_network('1'), err));
    _cleanup_free_ char *after = ruleset();
    assert_null(strstr(after, "table ip6"));
    create(world, &(struct net_network){ .id = id_of_network('2'), .ipv6 = true });
    OK(net_teardown(world->net, err));
    _cleanup_free_ char *end = ruleset();
    assert_null(strstr(end, "berth_"));
    assert_forwarding("0");
}

// A daemon that starts again knows all of it; a table that a stranger took away comes back.
static void test_it_is_remembered(void **state)
{
    struct world *world = *state;
    const struct strv reserved = { .items = (char *[]){ (char *)"fd00:1::2", (char *)"FD00:1::0:3" }, .len = 2 };
    create(world, &(struct net_network){ .id = id_of_network('1'), .ipv6 = true, .subnet6 = "fd00:1::/64", .gateway6 = "fd00:1::99", .reserved = &reserved });
    struct net_port port = bind_port(world->net, IPPROTO_TCP, "::", 8080, 80);
    struct net_endpoint a = attach_to(world, id_of_network('1'), '1', &port, 1);
    struct net_bridge_info info;
    assert_string_equal(a.address6, "fd00:1::1"); // reserved ones are given to nobody who does not ask
    net_close(world->net);
    world->net = open_net(world->store, DAEMON_ID, NULL);
    assert_true(net_network_info(world->net, id_of_network('1'), &info));
    assert_string_equal(info.subnet6, "fd00:1::/64");
    assert_string_equal(info.gateway6, "fd00:1::99");
    nft("delete table ip6 berth_" DAEMON_ID "\n");
    struct net_endpoint b = attach_to(world, id_of_network('1'), '2', NULL, 0);
    assert_string_equal(b.address6, "fd00:1::4");
    int server = serve6_in(a.netns_fd, 80);
    assert_string_equal(talk6(world->outside, HOST6, 8080, server, WAIT_MS), OUTSIDE6);
    nft("delete table ip6 berth_" DAEMON_ID "\n");
    OK(net_network_up(world->net, id_of_network('1'), err));
    assert_string_equal(talk6(world->outside, HOST6, 8080, server, WAIT_MS), OUTSIDE6);
    close_all((int[]){ server, port.listener_fd, a.netns_fd, b.netns_fd }, 4);
}

static void test_addresses_that_are_asked_for(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_of_network('1'), .ipv6 = true, .subnet6 = "fd00:1::/64" });
    create(world, &(struct net_network){ .id = id_of_network('2') });
    struct net_endpoint a = { .netns_fd = -1 }, none;
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of('1'), .network_id = id_of_network('1'), .address6 = "fd00:1::77" }, &a, err));
    assert_string_equal(a.address6, "fd00:1::77");
    static const struct {
        char network;
        const char *address;
        enum err_class class;
    } cases[] = { { '1', "fd00:1::77", ERR_PERMISSION_DENIED }, { '1', "fd00:1::1", ERR_PERMISSION_DENIED }, { '1', "fd00:1::", ERR_INVALID_ARGUMENT },
                  { '1', "fd00:2::1", ERR_INVALID_ARGUMENT },   { '1', "junk", ERR_INVALID_ARGUMENT },      { '2', "fd00:1::5", ERR_INVALID_ARGUMENT } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct net_wish wish = { .container_id = id_of('2'), .network_id = id_of_network(cases[i].network), .address6 = cases[i].address };
        assert_int_equal(net_attach(world->net, &wish, &none, &test_err), -1);
        assert_int_equal(test_err.class, cases[i].class);
    }
    fd_close(a.netns_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, ipv6_setup, world_teardown)
        TEST(test_the_way_out),       TEST(test_what_is_published), TEST(test_one_without_it),
        TEST(test_beginning_and_end), TEST(test_it_is_remembered),  TEST(test_addresses_that_are_asked_for),
        TEST(test_a_flow_follows_its_port), TEST(test_beside_docker), TEST(test_a_firewall_that_drops),
    };
    if (!world_enter())
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
