// Clients' networks: what they are made of, that they stay apart, what is refused.
#include "net_test.h"

static const char *id_a(void)
{
    return "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
}

static const char *id_b(void)
{
    return "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
}

static struct net_bridge_info create(struct world *world, const struct net_network *wanted)
{
    struct net_bridge_info info = { 0 };
    OK(net_network_create(world->net, wanted, &info, err));
    return info;
}

static struct net_endpoint attach(struct world *world, const char *network, char digit, const int *netns_fd, const char *interface)
{
    struct net_endpoint endpoint = { .netns_fd = -1 };
    OK(net_network_up(world->net, network, err));
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of(digit), .network_id = network, .netns_fd = netns_fd,
                                                  .interface = interface, .no_gateway = netns_fd != NULL }, &endpoint, err));
    return endpoint;
}

static void test_what_a_network_is(void **state)
{
    struct world *world = *state;
    struct net_bridge_info info = create(world, &(struct net_network){ .id = id_a(), .subnet = "10.9.0.0/24", .mtu = 1400 });
    assert_string_equal(info.subnet, "10.9.0.0/24");
    assert_string_equal(info.gateway, "10.9.0.1");
    assert_string_equal(info.name, "b0bad-aaaaaaaaa");
    assert_int_not_equal(if_nametoindex(info.name), 0);
    struct net_endpoint a = attach(world, id_a(), '1', NULL, NULL);
    assert_string_equal(a.address, "10.9.0.2");
    assert_string_equal(a.gateway, "10.9.0.1");
    assert_int_equal(net_network_remove(world->net, id_a(), &test_err), -1);
    assert_int_equal(test_err.class, ERR_CONFLICT);
    fd_close(a.netns_fd);
    OK(net_detach(world->net, id_of('1'), err));
    OK(net_network_remove(world->net, id_a(), err));
    assert_int_equal(if_nametoindex(info.name), 0);
    OK(net_network_remove(world->net, id_a(), err));
}

// A daemon that dies between the making of a bridge and its alias.
static void test_a_bridge_without_its_alias(void **state)
{
    struct world *world = *state;
    struct net_bridge_info info = create(world, &(struct net_network){ .id = id_a() });
    char *argv[] = { (char *)"ip", (char *)"link", (char *)"set", info.name, (char *)"alias", (char *)"", NULL };
    _cleanup_buf_ struct buf output = BUF_INIT(4096);
    OK(process_run(argv, NULL, &output, err));
    OK(net_network_remove(world->net, id_a(), err));
    assert_int_equal(if_nametoindex(info.name), 0);
}

// The default bridge keeps what it would get; explicit subnets are looked at, chosen ones never overlap.
static void test_subnets(void **state)
{
    struct world *world = *state;
    struct net_bridge_info info = create(world, &(struct net_network){ .id = id_a() }), other;
    assert_string_equal(info.subnet, "172.18.0.0/16");
    assert_int_equal(net_network_create(world->net, &(struct net_network){ .id = id_b(), .subnet = "172.18.4.0/24" }, &other, &test_err), -1);
    assert_int_equal(test_err.class, ERR_PERMISSION_DENIED);
    assert_non_null(strstr(test_err.message, "Pool overlaps with other one on this address space"));
    OK(net_bridge_up(world->net, err));
    assert_int_equal(net_network_create(world->net, &(struct net_network){ .id = id_b(), .subnet = "172.0.0.0/8" }, &other, &test_err), -1);
    info = create(world, &(struct net_network){ .id = id_b() });
    assert_string_equal(info.subnet, "172.19.0.0/16");
    OK(net_network_remove(world->net, id_a(), err));
    info = create(world, &(struct net_network){ .id = id_a() });
    assert_string_equal(info.subnet, "172.18.0.0/16");
}

static void test_asked_for(void **state)
{
    struct world *world = *state;
    const struct strv reserved = { (char *[]){ (char *)"10.9.0.66", NULL }, 1, 0 };
    create(world, &(struct net_network){ .id = id_a(), .subnet = "10.9.0.0/24", .gateway = "10.9.0.254", .ip_range = "10.9.0.64/28",
                                         .reserved = &reserved });
    struct net_endpoint a, b, c;
    const struct net_wish wish = { .container_id = id_of('1'), .network_id = id_a(), .address = "10.9.0.7", .mac = "02:00:00:00:00:09" };
    OK(net_network_up(world->net, id_a(), err));
    OK(net_attach(world->net, &wish, &a, err));
    assert_string_equal(a.address, "10.9.0.7");
    assert_string_equal(a.mac, "02:00:00:00:00:09");
    assert_string_equal(a.gateway, "10.9.0.254");
    struct net_wish again = wish;
    again.container_id = id_of('2');
    assert_int_equal(net_attach(world->net, &again, &b, &test_err), -1);
    assert_string_equal(test_err.message, "Address already in use");
    again.address = "10.8.0.7";
    assert_int_equal(net_attach(world->net, &again, &b, &test_err), -1);
    assert_int_equal(test_err.class, ERR_INVALID_ARGUMENT);
    b = attach(world, id_a(), '3', NULL, NULL);
    c = attach(world, id_a(), '4', NULL, NULL);
    assert_string_equal(b.address, "10.9.0.64");
    assert_string_equal(c.address, "10.9.0.65");
    fd_close(c.netns_fd);
    c = attach(world, id_a(), '5', NULL, NULL);
    assert_string_equal(c.address, "10.9.0.67"); // 66 is reserved
    fd_close(a.netns_fd);
    fd_close(b.netns_fd);
    fd_close(c.netns_fd);
}

static void test_apart(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_a() });
    create(world, &(struct net_network){ .id = id_b() });
    struct net_endpoint a = attach(world, id_a(), '1', NULL, NULL), a2 = attach(world, id_a(), '2', NULL, NULL);
    struct net_endpoint b = attach(world, id_b(), '3', NULL, NULL), d = attach(world, "", '4', NULL, NULL);
    int server = serve_in(b.netns_fd, SOCK_STREAM, 80), near = serve_in(a2.netns_fd, SOCK_STREAM, 80);
    int outside = serve_in(world->outside, SOCK_STREAM, 80);
    reach(a.netns_fd, a2.address, 80, near);
    assert_string_equal(reach(a.netns_fd, OUTSIDE, 80, outside), HOST);
    assert_true(silent(a.netns_fd, b.address, 80, server));
    assert_true(silent(d.netns_fd, b.address, 80, server));
    // On both networks: each by its own way.
    attach(world, id_b(), '1', &a.netns_fd, "eth1");
    reach(a.netns_fd, b.address, 80, server);
    OK(net_disconnect(world->net, id_b(), id_of('1'), err));
    assert_true(silent(a.netns_fd, b.address, 80, server));
    const int fds[] = { server, near, outside, a.netns_fd, a2.netns_fd, b.netns_fd, d.netns_fd };
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fd_close(fds[i]);
}

static void test_internal(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_a(), .internal = true });
    create(world, &(struct net_network){ .id = id_b() });
    struct net_endpoint a = attach(world, id_a(), '1', NULL, NULL), b = attach(world, id_a(), '2', NULL, NULL);
    struct net_endpoint c = attach(world, id_b(), '3', NULL, NULL);
    int near = serve_in(b.netns_fd, SOCK_STREAM, 80), outside = serve_in(world->outside, SOCK_STREAM, 80);
    assert_string_equal(a.gateway, "");
    reach(a.netns_fd, b.address, 80, near);
    assert_true(silent(a.netns_fd, OUTSIDE, 80, outside));
    OK(net_set_gateway(a.netns_fd, &(struct net_way){ "172.18.0.1", NULL }, &(struct net_way){ NULL, NULL }, err)); // even with a route of its own
    assert_true(silent(a.netns_fd, OUTSIDE, 80, outside));
    assert_true(silent(c.netns_fd, b.address, 80, near));
    assert_true(silent(world->outside, b.address, 80, near));
    const int fds[] = { near, outside, a.netns_fd, b.netns_fd, c.netns_fd };
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fd_close(fds[i]);
}

static void test_isolated(void **state)
{
    struct world *world = *state;
    create(world, &(struct net_network){ .id = id_a(), .isolated = true });
    struct net_endpoint a = attach(world, id_a(), '1', NULL, NULL), b = attach(world, id_a(), '2', NULL, NULL);
    int near = serve_in(b.netns_fd, SOCK_STREAM, 80), outside = serve_in(world->outside, SOCK_STREAM, 80);
    assert_true(silent(a.netns_fd, b.address, 80, near));
    reach(a.netns_fd, OUTSIDE, 80, outside);
    reach(-1, b.address, 80, near);
    const int fds[] = { near, outside, a.netns_fd, b.netns_fd };
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fd_close(fds[i]);
}

// Ports go where the container's way out goes.
static void test_moved_ports(void **state)
{
    struct world *world = *state;
    struct net_port port = bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 8080, 80);
    create(world, &(struct net_network){ .id = id_a() });
    create(world, &(struct net_network){ .id = id_b() });
    struct net_endpoint a;
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of('1'), .network_id = id_a(), .ports = &port, .port_len = 1 }, &a, err));
    int server = serve_in(a.netns_fd, SOCK_STREAM, 80);
    struct net_endpoint b = attach(world, id_b(), '1', &a.netns_fd, "eth1");
    reach(world->outside, HOST, 8080, server);
    OK(net_move_ports(world->net, id_of('1'), id_b(), id_b(), err));
    OK(net_set_gateway(a.netns_fd, &(struct net_way){ b.gateway, NULL }, &(struct net_way){ NULL, NULL }, err));
    reach(world->outside, HOST, 8080, server);
    OK(net_disconnect(world->net, id_a(), id_of('1'), err));
    reach(world->outside, HOST, 8080, server);
    OK(net_disconnect(world->net, id_b(), id_of('1'), err));
    assert_true(silent(world->outside, HOST, 8080, server));
    assert_true(record_port_taken(world->store, IPPROTO_TCP, "0.0.0.0", 8080));
    OK(net_detach(world->net, id_of('1'), err));
    assert_false(record_port_taken(world->store, IPPROTO_TCP, "0.0.0.0", 8080));
    fd_close(server);
    fd_close(port.listener_fd);
    fd_close(a.netns_fd);
}

struct kept {
    int count;
    char network[65];
    struct net_endpoint endpoint;
};

static void keep(void *context, const char *network_id, const struct net_endpoint *endpoint)
{
    struct kept *kept = context;
    kept->count++;
    snprintf(kept->network, sizeof(kept->network), "%s", network_id);
    kept->endpoint = *endpoint;
}

static void test_the_next_daemon(void **state)
{
    struct world *world = *state;
    struct kept kept = { 0 };
    struct net_bridge_info before = create(world, &(struct net_network){ .id = id_a() }), after;
    struct net_endpoint a = attach(world, id_a(), '1', NULL, NULL);
    net_close(world->net);
    world->net = open_net(world->store, DAEMON_ID, NULL);
    OK(net_endpoints(world->net, id_of('1'), keep, &kept, err));
    assert_int_equal(kept.count, 1);
    assert_string_equal(kept.network, id_a());
    assert_string_equal(kept.endpoint.address, a.address);
    assert_string_equal(kept.endpoint.mac, a.mac);
    assert_true(net_network_info(world->net, id_a(), &after));
    assert_string_equal(after.subnet, before.subnet);
    // A stranger takes the bridge away: it heals with the next need.
    char *argv[] = { (char *)"ip", (char *)"link", (char *)"del", before.name, NULL };
    _cleanup_buf_ struct buf output = BUF_INIT(4096);
    OK(process_run(argv, NULL, &output, err));
    struct net_endpoint b = attach(world, id_a(), '2', NULL, NULL);
    int server = serve_in(a.netns_fd, SOCK_STREAM, 80);
    reach(b.netns_fd, a.address, 80, server);
    fd_close(server);
    fd_close(a.netns_fd);
    fd_close(b.netns_fd);
    OK(net_teardown(world->net, err));
    assert_int_equal(if_nametoindex(before.name), 0);
    assert_true(net_network_info(world->net, id_a(), &after));
}

static void test_refused(void **state)
{
    struct world *world = *state;
    struct net_bridge_info info;
    const struct net_network bad[] = {
        { .id = id_a(), .subnet = "10.1.0.0" },          { .id = id_a(), .subnet = "10.1.0.0/31" },
        { .id = id_a(), .link = "a/b" },                 { .id = id_a(), .link = "longer-than-a-name" },
        { .id = id_a(), .link = "up0" },                 { .id = id_a(), .mtu = 10 },
        { .id = id_a(), .subnet = "10.1.0.0/16", .gateway = "x" },
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(net_network_create(world->net, &bad[i], &info, &test_err), -1);
        assert_false(net_network_info(world->net, id_a(), &info));
    }
    _cleanup_free_ char *rules = ruleset();
    assert_null(strstr(rules, "berth"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_a_network_is, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_a_bridge_without_its_alias, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_subnets, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_asked_for, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_apart, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_internal, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_isolated, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_moved_ports, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_the_next_daemon, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_refused, world_setup, world_teardown),
    };
    if (!world_enter())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
