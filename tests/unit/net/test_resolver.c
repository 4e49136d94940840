// A name server's sockets: questions and answers go through the rules of the container's namespace.
#include "net_test.h"

static int start_container(struct world *world, struct net_resolver *out)
{
    struct net_endpoint endpoint = { .netns_fd = -1 };
    OK(net_bridge_up(world->net, err));
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of('a') }, &endpoint, err));
    OK(net_resolver_open(endpoint.netns_fd, out, err));
    return endpoint.netns_fd;
}

static void close_sockets(struct net_resolver *resolver)
{
    fd_close(resolver->udp_fd);
    fd_close(resolver->tcp_fd);
}

static void questions_come_and_answers_go_back(void **state)
{
    struct net_resolver resolver;
    _cleanup_close_ int netns = start_container(*state, &resolver);
    reach_udp(netns, NET_RESOLVER_ADDRESS, 53, resolver.udp_fd);
    assert_string_equal(reach(netns, NET_RESOLVER_ADDRESS, 53, resolver.tcp_fd), "127.0.0.1");
    close_sockets(&resolver);
}

static void port_53_stays_the_containers(void **state)
{
    struct net_resolver resolver;
    _cleanup_close_ int netns = start_container(*state, &resolver);
    _cleanup_close_ int udp = serve_in(netns, SOCK_DGRAM, 53), tcp = serve_in(netns, SOCK_STREAM, 53);
    reach_udp(netns, "127.0.0.1", 53, udp);
    reach(netns, "127.0.0.1", 53, tcp);
    reach_udp(netns, NET_RESOLVER_ADDRESS, 53, resolver.udp_fd);
    assert_false(talk_udp(netns, NET_RESOLVER_ADDRESS, 54, resolver.udp_fd, SILENCE_MS));
    close_sockets(&resolver);
}

static void long_messages_have_right_sums(void **state)
{
    struct net_resolver resolver;
    char data[8192], got[sizeof(data)];
    _cleanup_close_ int netns = start_container(*state, &resolver), client = socket_in(netns, SOCK_DGRAM);
    struct sockaddr_in target = at(NET_RESOLVER_ADDRESS, 53), peer = { 0 };
    socklen_t size = sizeof(peer);
    memset(data, 'x', sizeof(data));
    assert_int_equal(connect(client, (struct sockaddr *)&target, sizeof(target)), 0);
    assert_int_equal(write(client, data, sizeof(data)), sizeof(data));
    assert_true(ready(resolver.udp_fd, POLLIN, TRIES * TRY_MS));
    assert_int_equal(recvfrom(resolver.udp_fd, got, sizeof(got), 0, (struct sockaddr *)&peer, &size), sizeof(data));
    assert_int_equal(sendto(resolver.udp_fd, got, sizeof(got), 0, (struct sockaddr *)&peer, size), sizeof(data));
    assert_true(ready(client, POLLIN, TRIES * TRY_MS));
    assert_int_equal(read(client, got, sizeof(got)), sizeof(data));
    assert_memory_equal(got, data, sizeof(data));
    close_sockets(&resolver);
}

static int track(void *context, int netns_fd, struct err *err)
{
    static const char *const rules = "table ip own {\nchain in { type filter hook input priority 0; ct state new,established accept; drop; }\n"
                                     "chain out { type nat hook output priority -100; ip daddr 192.0.2.1 dnat to 127.0.0.1; }\n}\n";
    char *argv[] = { (char *)"nft", (char *)"-f", (char *)"-", NULL };
    return process_run(argv, rules, NULL, err);
}

static void beside_connection_tracking(void **state)
{
    struct net_resolver resolver;
    _cleanup_close_ int netns = start_container(*state, &resolver);
    OK(namespace_visit(netns, track, NULL, err));
    for (int i = 0; i < 3; i++) {
        reach_udp(netns, NET_RESOLVER_ADDRESS, 53, resolver.udp_fd);
        reach(netns, NET_RESOLVER_ADDRESS, 53, resolver.tcp_fd);
    }
    close_sockets(&resolver);
}

static void again_in_the_same_namespace(void **state)
{
    struct net_resolver first, second;
    _cleanup_close_ int netns = start_container(*state, &first);
    OK(net_resolver_open(netns, &second, err));
    reach_udp(netns, NET_RESOLVER_ADDRESS, 53, second.udp_fd);
    assert_false(talk_udp(netns, NET_RESOLVER_ADDRESS, 53, first.udp_fd, SILENCE_MS));
    close_sockets(&first);
    close_sockets(&second);
}

static void what_is_no_namespace(void **state)
{
    struct net_resolver resolver = { -1, -1 };
    struct err err = { 0 };
    _cleanup_close_ int no_namespace = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(net_resolver_open(no_namespace, &resolver, &err), -1);
    assert_non_null(strstr(err.message, "name server of a container: enter a network namespace"));
    assert_int_equal(resolver.udp_fd, -1);
}

int main(void)
{
    if (!world_enter())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(questions_come_and_answers_go_back, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(port_53_stays_the_containers, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(long_messages_have_right_sums, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(beside_connection_tracking, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(again_in_the_same_namespace, world_setup, world_teardown),
        cmocka_unit_test(what_is_no_namespace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
