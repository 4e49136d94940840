// Cards on a link of the host's: macvlan, ipvlan, VLANs below them, and stand-ins. What the kernel has not is refused by its name, and that
// test is skipped; tools/v2-guest runs all of them on a kernel that has it.
#include "net_test.h"

// Makes it, or skips the test where the kernel lacks what it needs.
static void create(struct world *world, const struct net_network *wanted)
{
    struct net_bridge_info info;
    struct err err = { 0 };
    if (net_network_create(world->net, wanted, &info, &err) == 0)
        return;
    if (err.class != ERR_NOT_IMPLEMENTED)
        fail_msg("%s", err.message);
    assert_true(str_starts(err.message, "the kernel has no "));
    assert_false(net_network_info(world->net, wanted->id, &info));
    print_message("%s\n", err.message);
    skip();
}

static struct net_endpoint attach_to(struct world *world, const char *network, char digit)
{
    struct net_endpoint endpoint = { .netns_fd = -1 };
    OK(net_network_up(world->net, network, err));
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of(digit), .network_id = network }, &endpoint, err));
    return endpoint;
}

// On the wire: the neighbour beyond up0 sees the container itself, the host's own addresses are not on it.
static void on_the_wire(struct world *world, const char *mode)
{
    create(world, &(struct net_network){ .id = id_of('1'), .subnet = "198.51.100.0/24", .gateway = OUTSIDE, .ip_range = "198.51.100.64/28",
                                         .parent = "up0", .parent_mode = mode });
    struct net_endpoint a = attach_to(world, id_of('1'), 'a'), b = attach_to(world, id_of('1'), 'b');
    int server = serve_in(world->outside, SOCK_STREAM, 9000), own = serve_in(a.netns_fd, SOCK_STREAM, 80);
    assert_string_equal(a.gateway, OUTSIDE);
    assert_string_equal(reach(a.netns_fd, OUTSIDE, 9000, server), a.address);
    assert_string_equal(reach(world->outside, a.address, 80, own), OUTSIDE);
    assert_string_equal(reach(b.netns_fd, a.address, 80, own), b.address);
    assert_true(silent(-1, a.address, 80, own)); // such cards and their parent don't see each other
    OK(net_detach(world->net, id_of('b'), err));
    const int fds[] = { server, own, a.netns_fd, b.netns_fd };
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fd_close(fds[i]);
}

static void test_macvlan(void **state)
{
    on_the_wire(*state, "bridge");
}

static void test_ipvlan_l2(void **state)
{
    on_the_wire(*state, "l2");
}

// The host routes: no gateway, no neighbours. The outside's way to the container leads by the host's address.
static void routed(struct world *world, const char *mode)
{
    create(world, &(struct net_network){ .id = id_of('1'), .subnet = "10.5.0.0/24", .parent = "up0", .parent_mode = mode });
    struct net_endpoint a = attach_to(world, id_of('1'), 'a'), b = attach_to(world, id_of('1'), 'b');
    int server = serve_in(world->outside, SOCK_STREAM, 9000), own = serve_in(a.netns_fd, SOCK_STREAM, 80);
    assert_string_equal(a.gateway, "");
    assert_string_equal(a.mac, "");
    assert_string_equal(reach(a.netns_fd, OUTSIDE, 9000, server), a.address);
    assert_string_equal(reach(world->outside, a.address, 80, own), OUTSIDE);
    assert_string_equal(reach(b.netns_fd, a.address, 80, own), b.address);
    OK(net_set_gateway(a.netns_fd, &(struct net_way){ NULL, NULL }, &(struct net_way){ NULL, NULL }, err));
    assert_true(silent(a.netns_fd, OUTSIDE, 9000, server));
    OK(net_set_gateway(a.netns_fd, &(struct net_way){ NULL, a.interface }, &(struct net_way){ NULL, NULL }, err));
    reach(a.netns_fd, OUTSIDE, 9000, server);
    const int fds[] = { server, own, a.netns_fd, b.netns_fd };
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fd_close(fds[i]);
}

static void test_ipvlan_l3(void **state)
{
    routed(*state, "l3");
}

static void test_ipvlan_l3s(void **state)
{
    routed(*state, "l3s");
}

static void test_ipvlan_alone(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_of('1'), .subnet = "10.5.0.0/24", .internal = true, .parent = "up0", .parent_mode = "l2/private" });
    struct net_endpoint a = attach_to(world, id_of('1'), 'a'), b = attach_to(world, id_of('1'), 'b');
    int own = serve_in(a.netns_fd, SOCK_STREAM, 80);
    assert_string_equal(a.gateway, "");
    assert_true(silent(b.netns_fd, a.address, 80, own)); // private
    const int fds[] = { own, a.netns_fd, b.netns_fd };
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fd_close(fds[i]);
}

static void refuse(struct world *world, const struct net_network *wanted, const char *says)
{
    struct net_bridge_info info;
    assert_int_equal(net_network_create(world->net, wanted, &info, &test_err), -1);
    if (!strstr(test_err.message, says))
        fail_msg("%s", test_err.message);
    assert_false(net_network_info(world->net, wanted->id, &info));
}

// One mode for a parent.
static void test_a_parent_that_is_taken(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_of('1'), .subnet = "10.5.0.0/24", .parent = "up0", .parent_mode = "l2" });
    refuse(world, &(struct net_network){ .id = id_of('2'), .subnet = "10.6.0.0/24", .parent = "up0", .parent_mode = "l3" },
           "network di-111111111111 is already using parent interface up0");
    struct net_endpoint a;
    assert_int_equal(net_attach(world->net, &(struct net_wish){ .container_id = id_of('a'), .network_id = id_of('1'), .mac = "02:00:00:00:00:09" },
                                &a, &test_err), -1);
    assert_string_equal(test_err.message, "ipvlan interfaces do not support custom mac address assignment");
}

static void test_a_macvlan_that_is_passed_through(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_of('1'), .subnet = "10.5.0.0/24", .parent = "up0", .parent_mode = "passthru" });
    refuse(world, &(struct net_network){ .id = id_of('2'), .subnet = "10.6.0.0/24", .parent = "up0" }, "in mode passthru");
    OK(net_network_remove(world->net, id_of('1'), err));
    create(world, &(struct net_network){ .id = id_of('2'), .subnet = "10.6.0.0/24", .parent = "up0" });
    create(world, &(struct net_network){ .id = id_of('3'), .subnet = "10.7.0.0/24", .parent = "up0", .parent_mode = "vepa" });
    refuse(world, &(struct net_network){ .id = id_of('1'), .subnet = "10.5.0.0/24", .parent = "up0", .parent_mode = "passthru" },
           "cannot use mode passthru");
}

static void test_what_is_no_parent(void **state)
{
    struct world *world = *state;
    static const struct {
        const char *parent, *says;
    } cases[] = { { "nosuchlink", "parent nosuchlink: the host has no such link" }, { "nosuch.5", "interface was not found on the host: nosuch" },
                  { "up0.0", "vlan id must be between 1-4094, received: 0" },       { "up0.4095", "received: 4095" },
                  { "up0.x", "parent up0.x: the host has no such link" },           { "longer-than-a-name", "no such link" } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        refuse(world, &(struct net_network){ .id = id_of('1'), .parent = cases[i].parent }, cases[i].says);
}

// Made where it is missing, also after the host started anew; two networks share it, and it goes with the last.
static void test_a_vlan(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_of('1'), .subnet = "10.5.0.0/24", .parent = "up0.10" });
    create(world, &(struct net_network){ .id = id_of('2'), .subnet = "10.6.0.0/24", .parent = "up0.10" });
    assert_int_not_equal(if_nametoindex("up0.10"), 0);
    struct net_endpoint a = attach_to(world, id_of('1'), 'a'), b = attach_to(world, id_of('1'), 'b');
    int own = serve_in(a.netns_fd, SOCK_STREAM, 80);
    assert_string_equal(reach(b.netns_fd, a.address, 80, own), b.address);
    OK(net_detach(world->net, id_of('a'), err));
    OK(net_detach(world->net, id_of('b'), err));
    OK(net_network_remove(world->net, id_of('1'), err));
    assert_int_not_equal(if_nametoindex("up0.10"), 0);
    OK(net_teardown(world->net, err));
    assert_int_equal(if_nametoindex("up0.10"), 0);
    struct net_endpoint c = attach_to(world, id_of('2'), 'c');
    assert_int_not_equal(if_nametoindex("up0.10"), 0);
    OK(net_detach(world->net, id_of('c'), err));
    OK(net_network_remove(world->net, id_of('2'), err));
    assert_int_equal(if_nametoindex("up0.10"), 0);
    const int fds[] = { own, a.netns_fd, b.netns_fd, c.netns_fd };
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fd_close(fds[i]);
}

// A VLAN that was there is the operator's.
static void test_a_vlan_of_the_operators(void **state)
{
    struct world *world = *state;
    char *argv[] = { (char *)"ip", (char *)"link", (char *)"add", (char *)"link", (char *)"up0", (char *)"name", (char *)"up0.10", (char *)"type",
                     (char *)"vlan", (char *)"id", (char *)"10", NULL };
    _cleanup_buf_ struct buf output = BUF_INIT(4096);
    if (process_run(argv, NULL, &output, &test_err) < 0) {
        buf_done(&output); // skip() jumps over the cleanup
        print_message("the kernel has no VLANs (8021q)\n");
        skip();
    }
    create(world, &(struct net_network){ .id = id_of('1'), .subnet = "10.5.0.0/24", .parent = "up0.10" });
    OK(net_network_remove(world->net, id_of('1'), err));
    assert_int_not_equal(if_nametoindex("up0.10"), 0);
}

static void test_a_stand_in(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_of('1'), .subnet = "10.5.0.0/24", .internal = true, .parent = "dm-111111111111" });
    assert_int_not_equal(if_nametoindex("dm-111111111111"), 0);
    struct net_endpoint a = attach_to(world, id_of('1'), 'a'), b = attach_to(world, id_of('1'), 'b');
    int own = serve_in(a.netns_fd, SOCK_STREAM, 80);
    assert_string_equal(a.gateway, "");
    assert_string_equal(reach(b.netns_fd, a.address, 80, own), b.address);
    OK(net_detach(world->net, id_of('a'), err));
    OK(net_detach(world->net, id_of('b'), err));
    OK(net_network_remove(world->net, id_of('1'), err));
    assert_int_equal(if_nametoindex("dm-111111111111"), 0);
    const int fds[] = { own, a.netns_fd, b.netns_fd };
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fd_close(fds[i]);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_macvlan),      TEST(test_ipvlan_l2),
        TEST(test_ipvlan_l3),    TEST(test_ipvlan_l3s),
        TEST(test_ipvlan_alone), TEST(test_a_parent_that_is_taken),
        TEST(test_a_macvlan_that_is_passed_through), TEST(test_what_is_no_parent),
        TEST(test_a_vlan),       TEST(test_a_vlan_of_the_operators),
        TEST(test_a_stand_in),
    };
    return world_enter() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
