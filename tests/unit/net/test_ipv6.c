// Networks with IPv6: bytes that really flow, from outside, from the host, from containers; and what stays shut.
#include <linux/if_addr.h>

#include "net_test.h"

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

static int serve6_in(int netns_fd, int type, uint16_t port)
{
    return serve_at(netns_fd, type, "::", port);
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
    int server = serve6_in(world->outside, SOCK_STREAM, 9000), host = serve6_in(-1, SOCK_STREAM, 9001);
    assert_string_equal(a.address6, "fd00:1::2");
    assert_string_equal(a.gateway6, "fd00:1::1");
    assert_string_equal(reach(a.netns_fd, OUTSIDE6, 9000, server), HOST6); // masqueraded
    assert_string_equal(reach(a.netns_fd, a.gateway6, 9001, host), a.address6); // the host itself sees who it is
    assert_string_equal(reach(plain.netns_fd, OUTSIDE6, 9000, server), plain.address6);
    assert_string_equal(inner.gateway6, "");
    assert_true(silent(inner.netns_fd, OUTSIDE6, 9000, server));
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
    int server = serve6_in(a.netns_fd, SOCK_STREAM, 80);
    assert_string_equal(reach(world->outside, HOST6, 8080, server), OUTSIDE6); // the client's own address
    assert_string_equal(reach(world->outside, HOST6, 8081, server), OUTSIDE6);
    assert_true(silent(world->outside, HOST6, 8082, server));
    assert_true(silent(world->outside, HOST6, 8083, server));
    reach(-1, HOST6, 8080, server);
    assert_true(silent(-1, a.gateway6, 8081, server)); // published on the other address only
    reach(other.netns_fd, a.gateway6, 8080, server); // from another network by the host
    reach(b.netns_fd, HOST6, 8080, server); // from its own, and from itself
    reach(a.netns_fd, HOST6, 8080, server);
    assert_string_equal(reach(b.netns_fd, a.address6, 80, server), b.address6);
    // What is not published is not reached: not from outside, not from another network; the host itself may.
    assert_true(silent(world->outside, a.address6, 80, server));
    assert_true(silent(other.netns_fd, a.address6, 80, server));
    reach(-1, a.address6, 80, server);
    OK(net_detach(world->net, id_of('1'), err));
    _cleanup_free_ char *rules = ruleset();
    assert_null(strstr(rules, "8080"));
    close_all((int[]){ server, a.netns_fd, b.netns_fd, other.netns_fd, ports[0].listener_fd, ports[1].listener_fd, ports[2].listener_fd,
                       ports[3].listener_fd }, 8);
}

// A client that never pauses finds the container again, although its old address is another one's; and one that was sending before the
// port was there.
static void test_a_flow_follows_its_port(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_of_network('1'), .ipv6 = true, .subnet6 = "fd00:1::/64" });
    struct net_port port = bind_port(world->net, IPPROTO_UDP, "::", 5353, 53);
    int client = socket_of(world->outside, AF_INET6, SOCK_DGRAM), query = socket_of(-1, AF_INET6, SOCK_DGRAM);
    int elsewhere = serve6_in(world->outside, SOCK_DGRAM, 5353);
    flow_reaches(query, OUTSIDE6, 5353, elsewhere);
    flow_reaches(client, HOST6, 5353, port.listener_fd);
    struct net_endpoint a = attach_to(world, id_of_network('1'), '1', &port, 1);
    int server = serve6_in(a.netns_fd, SOCK_DGRAM, 53);
    flow_reaches(client, HOST6, 5353, server);
    close_all((int[]){ server, a.netns_fd }, 2);
    OK(net_detach(world->net, id_of('1'), err));

    struct net_endpoint b = attach_to(world, id_of_network('1'), '2', NULL, 0);
    assert_string_equal(b.address6, a.address6);
    int stranger = serve6_in(b.netns_fd, SOCK_DGRAM, 53);
    assert_false(one_flow(client, HOST6, 5353, stranger, SILENCE_MS));
    a = attach_to(world, id_of_network('1'), '1', &port, 1);
    server = serve6_in(a.netns_fd, SOCK_DGRAM, 53);
    flow_reaches(client, HOST6, 5353, server);
    assert_false(ready(stranger, POLLIN, 0));
    flow_reaches(query, OUTSIDE6, 5353, elsewhere); // what goes elsewhere goes on
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
    int server = serve6_in(a.netns_fd, SOCK_STREAM, 80), outside = serve6_in(world->outside, SOCK_STREAM, 9000);
    assert_null(net_foreign_drop(world->net));
    assert_string_equal(reach(world->outside, HOST6, 8080, server), OUTSIDE6);
    assert_string_equal(reach(a.netns_fd, OUTSIDE6, 9000, outside), HOST6);
    assert_true(silent(world->outside, a.address6, 80, server)); // our own drop still stands
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
    int server = serve6_in(world->outside, SOCK_STREAM, 9000), own = serve6_in(a.netns_fd, SOCK_STREAM, 80);
    struct net_bridge_info info;
    assert_string_equal(a.address6, "");
    assert_true(net_network_info(world->net, id_of_network('2'), &info));
    struct place inside = { "eth0", "fd00:9::2", "fd00:9::1" }, bridge = { info.name, "fd00:9::1", NULL };
    OK(namespace_visit(a.netns_fd, give_address, &inside, err));
    OK(give_address(&bridge, -1, err));
    assert_true(silent(a.netns_fd, OUTSIDE6, 9000, server));
    assert_true(silent(world->outside, "fd00:9::2", 80, own));
    reach(-1, "fd00:9::2", 80, own); // it is the rules that stop the others
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

// The flags of a link's address, as /proc says them; -1: it has none such.
static int address_flags(const char *link, const char *digits)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1 << 16);
    struct slice rest, line;
    OK(file_read_at(AT_FDCWD, "/proc/thread-self/net/if_inet6", &text, err));
    rest = (struct slice){ buf_text(&text), text.size };
    while (slice_cut(&rest, '\n', &line)) {
        char address[33], name[IFNAMSIZ];
        unsigned flags;
        if (sscanf(line.data, "%32s %*x %*x %*x %x %15s", address, &flags, name) == 3 && str_eq(address, digits) && str_eq(name, link))
            return (int)flags;
    }
    return -1;
}

// What is forwarded to the first container comes through at once: the bridge looks for it under an address that is of use already.
static void test_a_bridge_that_asks_at_once(void **state)
{
    struct world *world = *state;
    struct net_bridge_info info;
    OK(net_network_create(world->net, &(struct net_network){ .id = id_of_network('1'), .ipv6 = true, .subnet6 = "fd00:1::/64" }, &info, err));
    int flags = address_flags(info.name, "fe800000000000000000000000000001");
    assert_true(flags >= 0 && !(flags & IFA_F_TENTATIVE));
    OK(net_network_create(world->net, &(struct net_network){ .id = id_of_network('2'), .ipv6 = true, .subnet6 = "fe80::/64", .gateway6 = "fe80::5" },
                          &info, err));
    assert_int_equal(address_flags(info.name, "fe800000000000000000000000000001"), -1); // a container's
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
    int server = serve6_in(a.netns_fd, SOCK_STREAM, 80);
    assert_string_equal(reach(world->outside, HOST6, 8080, server), OUTSIDE6);
    nft("delete table ip6 berth_" DAEMON_ID "\n");
    OK(net_network_up(world->net, id_of_network('1'), err));
    assert_string_equal(reach(world->outside, HOST6, 8080, server), OUTSIDE6);
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
        TEST(test_a_bridge_that_asks_at_once),
        TEST(test_a_flow_follows_its_port), TEST(test_beside_docker), TEST(test_a_firewall_that_drops),
    };
    if (!world_enter())
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
