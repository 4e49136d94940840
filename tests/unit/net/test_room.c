// The room's life: what is made when, what survives a restart, what is refused, repaired, given back.
#include <pthread.h>

#include "base/clock.h"
#include "net_test.h"

static bool has_link(const char *name)
{
    return if_nametoindex(name) != 0;
}

static char first_byte(const char *path)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    OK(file_read_at(AT_FDCWD, path, &text, err));
    return buf_text(&text)[0];
}

static struct net_endpoint attach(struct net *net, const char *id)
{
    struct net_endpoint endpoint = { .netns_fd = -1 };
    OK(net_attach(net, &(struct net_wish){ .container_id = id }, &endpoint, err));
    return endpoint;
}

// The address that a container of this id gets; its namespace is dropped at once.
static const char *attach_address(struct net *net, const char *id)
{
    static char address[INET_ADDRSTRLEN];
    struct net_endpoint endpoint = attach(net, id);
    fd_close(endpoint.netns_fd);
    snprintf(address, sizeof(address), "%s", endpoint.address);
    return address;
}

static void add_route(uint32_t destination, int prefix)
{
    char *argv[] = { (char *)"ip", (char *)"route", (char *)"add", NULL, (char *)"via", (char *)OUTSIDE, NULL };
    _cleanup_buf_ struct buf output = BUF_INIT(4096);
    char address[INET_ADDRSTRLEN], text[32];
    address_text(destination, address);
    snprintf(text, sizeof(text), "%s/%d", address, prefix);
    argv[3] = text;
    OK(process_run(argv, NULL, &output, err));
}

// ---- making ---------------------------------------------------------------------------------------------------------

static void test_nothing_before_up(void **state)
{
    struct world *world = *state;
    struct net_bridge_info info;
    struct net_endpoint endpoint;
    struct err failure = { 0 };
    _cleanup_free_ char *rules = ruleset();

    net_bridge_info(world->net, &info);
    assert_string_equal(info.name, "b0bad0");
    assert_string_equal(info.subnet, "172.17.0.0/16");
    assert_string_equal(info.gateway, "172.17.0.1");
    assert_int_equal(info.prefix, 16);
    assert_false(has_link(info.name));
    assert_null(strstr(rules, "berth"));
    assert_int_equal(first_byte(IP_FORWARD), '0');
    assert_int_equal(net_attach(world->net, &(struct net_wish){ .container_id = id_of('a') }, &endpoint, &failure), -1);
    assert_int_equal(failure.class, ERR_UNAVAILABLE);
    OK(net_detach(world->net, id_of('a'), err));
}

static void test_addresses(void **state)
{
    struct world *world = *state;
    OK(net_bridge_up(world->net, err));
    OK(net_bridge_up(world->net, err));
    assert_int_equal(first_byte(IP_FORWARD), '1');
    struct net_endpoint a = attach(world->net, id_of('a'));
    assert_string_equal(a.address, "172.17.0.2");
    assert_string_equal(a.mac, "02:42:ac:11:00:02");
    assert_string_equal(a.gateway, "172.17.0.1");
    assert_int_equal(a.prefix, 16);
    assert_string_equal(attach_address(world->net, id_of('b')), "172.17.0.3");
    assert_string_equal(attach_address(world->net, id_of('c')), "172.17.0.4");
    OK(net_detach(world->net, id_of('b'), err));
    OK(net_detach(world->net, id_of('b'), err));
    assert_string_equal(attach_address(world->net, id_of('d')), "172.17.0.3");
    // Attached again without a detach in between: what a daemon does that was killed at the wrong moment.
    assert_string_equal(attach_address(world->net, id_of('a')), "172.17.0.2");
    fd_close(a.netns_fd);
}

static bool only_c(void *context, const char *container_id)
{
    ++*(int *)context;
    return container_id[0] == 'c';
}

static void test_restart(void **state)
{
    struct world *world = *state;
    struct net_bridge_info info;
    struct net_port port = bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 8080, 80);
    struct net_endpoint a;
    struct link_info link;
    struct link_socket sock;
    int asked = 0;

    OK(net_bridge_up(world->net, err));
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of('a'), .ports = &port, .port_len = 1 }, &a, err));
    assert_string_equal(attach_address(world->net, id_of('c')), "172.17.0.3");
    net_close(world->net);
    world->net = open_net(world->store, DAEMON_ID, NULL);
    OK(net_bridge_up(world->net, err));
    net_bridge_info(world->net, &info);
    assert_string_equal(info.subnet, "172.17.0.0/16"); // its own route is no reason to move
    assert_string_equal(attach_address(world->net, id_of('d')), "172.17.0.4");
    _cleanup_free_ char *rules = ruleset();
    assert_non_null(strstr(rules, "172.17.0.2 . 80"));
    OK(link_open(&sock, err));
    OK(link_find(&sock, "b0bad1", &link, err));
    link_close(&sock);
    assert_true(str_starts(link.alias, "berth " DAEMON_ID " aaaa"));

    OK(net_sweep(world->net, only_c, &asked, err));
    assert_int_equal(asked, 3);
    _cleanup_free_ char *after = ruleset();
    assert_null(strstr(after, "172.17.0.2 . 80"));
    assert_string_equal(attach_address(world->net, id_of('e')), "172.17.0.2");
    fd_close(a.netns_fd);
    fd_close(port.listener_fd);
}

// ---- subnets --------------------------------------------------------------------------------------------------------

static void test_two_daemons(void **state)
{
    struct world *world = *state;
    struct store *store = open_store(world, "b");
    struct net *other = open_net(store, OTHER_ID, NULL); // before the first has a bridge: both guess the same
    struct net_bridge_info a, b;

    OK(net_bridge_up(world->net, err));
    OK(net_bridge_up(other, err));
    net_bridge_info(world->net, &a);
    net_bridge_info(other, &b);
    assert_string_equal(a.subnet, "172.17.0.0/16");
    assert_string_equal(b.subnet, "172.18.0.0/16");
    assert_string_equal(attach_address(other, id_of('a')), "172.18.0.2");
    assert_string_equal(attach_address(world->net, id_of('a')), "172.17.0.2");
    OK(net_teardown(world->net, err));
    assert_false(has_link(a.name));
    assert_true(has_link(b.name));
    assert_int_equal(first_byte(IP_FORWARD), '1'); // the other one needs it
    OK(net_teardown(other, err));
    net_close(other);
    store_close(store);
}

struct one_of_two {
    struct net *net;
    pthread_barrier_t *both;
    struct err err;
};

static void *bring_up(void *argument)
{
    struct one_of_two *one = argument;
    pthread_barrier_wait(one->both);
    return net_bridge_up(one->net, &one->err) < 0 ? one->err.message : NULL;
}

// What each sees of the other is its route: neither may look before the other's is there, or not yet chosen.
static void test_two_daemons_at_once(void **state)
{
    struct world *world = *state;
    for (int round = 0; round < 20; round++) {
        struct store *store = open_store(world, "b");
        struct net *other = open_net(store, OTHER_ID, NULL);
        struct net_bridge_info a, b;
        pthread_barrier_t both;
        struct one_of_two sides[] = { { .net = world->net, .both = &both }, { .net = other, .both = &both } };
        pthread_t thread;
        void *failed;
        pthread_barrier_init(&both, NULL, 2);
        assert_int_equal(pthread_create(&thread, NULL, bring_up, &sides[1]), 0);
        assert_null(bring_up(&sides[0]));
        pthread_join(thread, &failed);
        assert_null(failed);
        pthread_barrier_destroy(&both);
        net_bridge_info(world->net, &a);
        net_bridge_info(other, &b);
        assert_string_not_equal(a.subnet, b.subnet);
        OK(net_teardown(world->net, err));
        OK(net_teardown(other, err));
        net_close(other);
        store_close(store);
    }
}

static void test_pools(void **state)
{
    struct world *world = *state;
    struct net_bridge_info info;
    add_route(0xac110000, 17); // half of the first pool
    OK(net_bridge_up(world->net, err));
    net_bridge_info(world->net, &info);
    assert_string_equal(info.subnet, "172.18.0.0/16");
    OK(net_teardown(world->net, err));
    add_route(0xac100000, 12); // all of the first fifteen
    OK(net_bridge_up(world->net, err));
    net_bridge_info(world->net, &info);
    assert_string_equal(info.subnet, "192.168.0.0/20");
    OK(net_teardown(world->net, err));
    add_route(0xc0a80000, 16);
    assert_int_equal(net_bridge_up(world->net, &test_err), -1);
    assert_int_equal(test_err.class, ERR_RESOURCE_EXHAUSTED);
}

static void test_bip(void **state)
{
    struct world *world = *state;
    const struct net_config bad = { .daemon_id = DAEMON_ID, .bip = "10.9.0.0/24" };
    struct net_bridge_info info;
    struct net *none = NULL;

    OK(net_bridge_up(world->net, err));
    assert_string_equal(attach_address(world->net, id_of('a')), "172.17.0.2");
    net_close(world->net);
    world->net = open_net(world->store, DAEMON_ID, "10.9.0.3/24");
    assert_int_equal(net_bridge_up(world->net, &test_err), -1); // a container has an address of the old one
    assert_int_equal(test_err.class, ERR_CONFLICT);
    OK(net_detach(world->net, id_of('a'), err));
    OK(net_bridge_up(world->net, err));
    net_bridge_info(world->net, &info);
    assert_string_equal(info.subnet, "10.9.0.0/24");
    assert_string_equal(info.gateway, "10.9.0.3");
    assert_string_equal(attach_address(world->net, id_of('a')), "10.9.0.1");
    assert_string_equal(attach_address(world->net, id_of('b')), "10.9.0.2");
    assert_string_equal(attach_address(world->net, id_of('c')), "10.9.0.4");
    _cleanup_free_ char *rules = ruleset();
    assert_null(strstr(rules, "172.17"));
    assert_int_equal(net_open(world->store, &bad, &none, &test_err), -1);
    assert_int_equal(test_err.class, ERR_INVALID_ARGUMENT);
}

// ---- ports ----------------------------------------------------------------------------------------------------------

#define EXTERNAL "driver failed programming external connectivity on endpoint web: "

static void test_port_conflicts(void **state)
{
    struct world *world = *state;
    struct net_port ours = bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 8080, 80);
    struct net_port local = bind_port(world->net, IPPROTO_UDP, "127.0.0.1", 5353, 53);
    struct net_port ports[] = { ours, local };
    struct net_endpoint endpoint;
    int foreign = serve_in(-1, SOCK_STREAM, 9090), foreign_udp = serve_in(-1, SOCK_DGRAM, 9090);
    static const struct {
        int proto;
        const char *address;
        uint16_t port;
        const char *text;
    } cases[] = {
        { IPPROTO_TCP, "0.0.0.0", 8080, EXTERNAL "Bind for 0.0.0.0:8080 failed: port is already allocated" },
        { IPPROTO_TCP, "127.0.0.1", 8080, EXTERNAL "Bind for 127.0.0.1:8080 failed: port is already allocated" },
        { IPPROTO_UDP, "0.0.0.0", 5353, EXTERNAL "Bind for 0.0.0.0:5353 failed: port is already allocated" },
        { IPPROTO_TCP, "0.0.0.0", 9090, EXTERNAL "listen tcp4 0.0.0.0:9090: bind: address already in use" },
        { IPPROTO_UDP, HOST, 9090, EXTERNAL "listen udp4 " HOST ":9090: bind: address already in use" },
        { IPPROTO_TCP, "203.0.113.9", 80, EXTERNAL "listen tcp4 203.0.113.9:80: bind: cannot assign requested address" },
        { IPPROTO_TCP, "2001:db8::9", 80, EXTERNAL "listen tcp6 [2001:db8::9]:80: bind: cannot assign requested address" },
    };

    OK(net_bridge_up(world->net, err));
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of('a'), .ports = ports, .port_len = ARRAY_LEN(ports) }, &endpoint, err));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct net_port port = { .proto = cases[i].proto, .host_port = cases[i].port, .target_port = 80, .listener_fd = -1 };
        snprintf(port.host_address, sizeof(port.host_address), "%s", cases[i].address);
        assert_int_equal(net_port_bind(world->net, "web", &port, &test_err), -1);
        assert_string_equal(test_err.message, cases[i].text);
        assert_int_equal(test_err.class, ERR_INTERNAL);
        assert_int_equal(port.listener_fd, -1);
    }
    struct net_port twin = bind_port(world->net, IPPROTO_TCP, "::", 8080, 80); // beside IPv4, not instead of it
    struct net_port again = bind_port(world->net, IPPROTO_UDP, "0.0.0.0", 8080, 80); // another protocol
    int fds[] = { ours.listener_fd, local.listener_fd, foreign, foreign_udp, twin.listener_fd, again.listener_fd, endpoint.netns_fd };
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fd_close(fds[i]);
}

static void test_free_port(void **state)
{
    struct world *world = *state;
    struct net_port a = bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 0, 80), b = bind_port(world->net, IPPROTO_UDP, "0.0.0.0", 0, 80);
    struct net_port sctp = { .proto = IPPROTO_SCTP, .host_port = 80, .target_port = 80 };
    assert_in_range(a.host_port, 32768, 60999);
    assert_in_range(b.host_port, 32768, 60999);
    struct net_port twin = bind_port(world->net, IPPROTO_TCP, "::", a.host_port, 80);
    assert_int_equal(net_port_bind(world->net, "web", &sctp, &test_err), -1);
    assert_int_equal(test_err.class, ERR_INVALID_ARGUMENT);
    fd_close(a.listener_fd);
    fd_close(b.listener_fd);
    fd_close(twin.listener_fd);
}

// More ports than one netlink batch holds, one of them gone before the detach.
static void test_many_ports(void **state)
{
    struct world *world = *state;
    enum { LEN = 600 };
    struct net_port *ports = mem_alloc(LEN * sizeof(*ports));
    struct net_endpoint endpoint;
    for (int i = 0; i < LEN; i++) {
        ports[i] = (struct net_port){ .proto = IPPROTO_TCP, .host_port = (uint16_t)(20000 + i), .target_port = 80, .listener_fd = -1 };
        snprintf(ports[i].host_address, sizeof(ports[i].host_address), "%s", i % 2 ? HOST : "0.0.0.0");
    }
    OK(net_bridge_up(world->net, err));
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of('a'), .ports = ports, .port_len = LEN }, &endpoint, err));
    _cleanup_free_ char *rules = ruleset();
    assert_non_null(strstr(rules, "tcp . 20000 : 172.17.0.2 . 80"));
    assert_non_null(strstr(rules, HOST " . tcp . 20599 : 172.17.0.2 . 80"));
    nft("delete element ip berth_" DAEMON_ID " publish_any { tcp . 20100 }");
    OK(net_detach(world->net, id_of('a'), err));
    _cleanup_free_ char *after = ruleset();
    assert_null(strstr(after, "172.17.0.2"));
    fd_close(endpoint.netns_fd);
    free(ports);
}

// ---- repair and teardown --------------------------------------------------------------------------------------------

static void test_repair(void **state)
{
    struct world *world = *state;
    struct net_port port = bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 8080, 80), next = port;
    struct net_endpoint a, b;
    struct link_socket sock;
    struct link_info link;

    next.host_port = 8081;
    OK(net_bridge_up(world->net, err));
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of('a'), .ports = &port, .port_len = 1 }, &a, err));
    nft("delete table ip berth_" DAEMON_ID);
    OK(net_bridge_up(world->net, err));
    _cleanup_free_ char *repaired = ruleset();
    assert_non_null(strstr(repaired, "tcp . 8080 : 172.17.0.2 . 80"));
    nft("flush table ip berth_" DAEMON_ID);
    OK(net_bridge_up(world->net, err));
    _cleanup_free_ char *filled = ruleset();
    assert_non_null(strstr(filled, "masquerade"));
    nft("flush ruleset"); // after net_bridge_up, before net_attach
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of('b'), .ports = &next, .port_len = 1 }, &b, err));
    _cleanup_free_ char *both = ruleset();
    assert_non_null(strstr(both, "tcp . 8080 : 172.17.0.2 . 80"));
    assert_non_null(strstr(both, "tcp . 8081 : 172.17.0.3 . 80"));
    // A stale element with our key and another value is replaced.
    OK(net_detach(world->net, id_of('b'), err));
    fd_close(b.netns_fd);
    nft("add element ip berth_" DAEMON_ID " publish_any { tcp . 8081 : 10.1.1.1 . 1 }");
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of('b'), .ports = &next, .port_len = 1 }, &b, err));
    _cleanup_free_ char *replaced = ruleset();
    assert_null(strstr(replaced, "10.1.1.1"));

    OK(link_open(&sock, err));
    OK(link_find(&sock, "b0bad0", &link, err));
    OK(link_delete(&sock, link.index, err));
    OK(link_delete(&sock, link.index, err));
    OK(net_bridge_up(world->net, err));
    OK(link_find(&sock, "b0bad0", &link, err));
    assert_true(link.up);
    OK(link_set_alias(&sock, link.index, "somebody's", err));
    assert_int_equal(net_bridge_up(world->net, &test_err), -1);
    assert_int_equal(test_err.class, ERR_CONFLICT);
    OK(link_set_alias(&sock, link.index, "berth " DAEMON_ID " bridge", err));
    link_close(&sock);
    fd_close(a.netns_fd);
    fd_close(b.netns_fd);
    fd_close(port.listener_fd);
}

static void count_ours(void *context, const struct link_info *link)
{
    *(int *)context += str_starts(link->alias, "berth ");
}

static int our_links(void)
{
    struct link_socket sock;
    int count = 0;
    OK(link_open(&sock, err));
    OK(link_each(&sock, count_ours, &count, err));
    link_close(&sock);
    return count;
}

#define DOCKER_TABLE "table ip filter {\n chain DOCKER-USER { return; }\n" \
                     " chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; }\n}"

static void test_teardown(void **state)
{
    struct world *world = *state;
    struct net_port port = bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 8080, 80);
    struct net_endpoint a;

    nft(DOCKER_TABLE);
    _cleanup_free_ char *before = ruleset();
    OK(net_bridge_up(world->net, err));
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of('a'), .ports = &port, .port_len = 1 }, &a, err));
    assert_int_equal(our_links(), 2);
    char *list[] = { (char *)"iptables-nft", (char *)"-S", (char *)"DOCKER-USER", NULL };
    _cleanup_buf_ struct buf during = BUF_INIT(65536);
    OK(process_run(list, NULL, &during, err));
    assert_non_null(strstr(buf_text(&during), "-i b0bad+ -m comment --comment \"berth " DAEMON_ID "\" -j ACCEPT"));
    assert_non_null(strstr(buf_text(&during), "-o b0bad+ -m comment --comment \"berth " DAEMON_ID "\" -j ACCEPT"));
    // Its namespace is still held, its daemon was restarted.
    net_close(world->net);
    world->net = open_net(world->store, DAEMON_ID, NULL);
    OK(net_teardown(world->net, err));
    _cleanup_free_ char *after = ruleset();
    assert_string_equal(after, before);
    assert_int_equal(our_links(), 0);
    assert_int_equal(first_byte(IP_FORWARD), '0');
    OK(net_teardown(world->net, err));
    // Up again afterwards; forwarding that was on before us stays on.
    OK(file_put(AT_FDCWD, IP_FORWARD, "1", err));
    OK(net_bridge_up(world->net, err));
    assert_string_equal(attach_address(world->net, id_of('b')), "172.17.0.2");
    OK(net_teardown(world->net, err));
    assert_int_equal(first_byte(IP_FORWARD), '1');
    fd_close(a.netns_fd);
    fd_close(port.listener_fd);
}

static void test_foreign(void **state)
{
    static const struct {
        const char *rules, *expected; // NULL: nothing to say
    } cases[] = {
        { NULL, NULL },
        { "table ip filter {\n chain FORWARD { type filter hook forward priority filter; policy drop; }\n}",
          "WARNING: chain FORWARD of nftables table ip filter drops forwarded packets: containers may not be reachable" },
        { "table inet firewalld {\n chain filter_FORWARD { type filter hook forward priority 10;\n ct state established accept\n"
          " counter reject with icmpx admin-prohibited\n }\n}",
          "WARNING: chain filter_FORWARD of nftables table inet firewalld drops forwarded packets: containers may not be reachable" },
        { "table inet x {\n chain f { type filter hook forward priority 10;\n ip saddr 10.0.0.1 drop\n }\n}", NULL },
        { "table ip6 x {\n chain f { type filter hook forward priority 10; policy drop; }\n}", NULL },
        { "table ip x {\n chain i { type filter hook input priority 10; policy drop; }\n}", NULL },
        { DOCKER_TABLE, NULL },
        { DOCKER_TABLE "\ntable inet y {\n chain f { type filter hook forward priority 10; policy drop; }\n}",
          "WARNING: chain f of nftables table inet y drops forwarded packets: containers may not be reachable" },
    };
    struct world *world = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        nft("flush ruleset");
        if (cases[i].rules)
            nft(cases[i].rules);
        OK(net_bridge_up(world->net, err));
        _cleanup_free_ char *line = net_foreign_drop(world->net);
        if (cases[i].expected)
            assert_string_equal(line ? line : "(nothing)", cases[i].expected);
        else
            assert_null(line);
        nft("flush ruleset");
        OK(net_teardown(world->net, err));
    }
}

// ---- many -----------------------------------------------------------------------------------------------------------

static void test_full_bridge(void **state)
{
    struct world *world = *state;
    enum { PAIRS = 511 };
    char *argv[] = { (char *)"ip", (char *)"-batch", (char *)"-", NULL };
    _cleanup_buf_ struct buf script = BUF_INIT(1 << 20), output = BUF_INIT(1 << 16);
    struct net_endpoint a, b;
    for (int i = 0; i < PAIRS; i++)
        buf_addf(&script, "link add p%d master b0bad0 type veth peer name q%d\nlink set q%d master b0bad0\n", i, i, i);
    OK(net_bridge_up(world->net, err));
    OK(process_run(argv, buf_text(&script), &output, err));
    OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of('a') }, &a, err)); // the 1,023rd
    assert_int_equal(net_attach(world->net, &(struct net_wish){ .container_id = id_of('b') }, &b, &test_err), -1);
    assert_int_equal(test_err.class, ERR_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(test_err.message, "a Linux bridge takes 1,023 ports"));
    assert_int_equal(record_endpoint_count(world->store, "", NULL), 1);
    fd_close(a.netns_fd);
}

static size_t open_descriptors(void)
{
    _cleanup_dir_ DIR *dir = opendir("/proc/self/fd");
    size_t count = 0;
    while (readdir(dir))
        count++;
    return count;
}

static void test_cycles(void **state)
{
    struct world *world = *state;
    enum { CYCLES = 200 };
    struct net_port port = bind_port(world->net, IPPROTO_TCP, "0.0.0.0", 8080, 80);
    OK(net_bridge_up(world->net, err));
    _cleanup_free_ char *before = ruleset();
    size_t descriptors = open_descriptors();
    for (int i = 0; i < CYCLES; i++) {
        struct net_endpoint endpoint;
        OK(net_attach(world->net, &(struct net_wish){ .container_id = id_of('a'), .ports = &port, .port_len = 1 }, &endpoint, err));
        assert_string_equal(endpoint.address, "172.17.0.2");
        fd_close(endpoint.netns_fd);
        OK(net_detach(world->net, id_of('a'), err));
    }
    _cleanup_free_ char *after = ruleset();
    assert_string_equal(after, before);
    assert_int_equal(open_descriptors(), descriptors);
    // The kernel takes the namespaces apart in its own time, and the links with them.
    int64_t deadline = clock_mono_ns() + 60 * NS_PER_S;
    while (our_links() > 1 && clock_mono_ns() < deadline)
        usleep(20000);
    assert_int_equal(our_links(), 1);
    fd_close(port.listener_fd);
}

enum { THREADS = 4, PER_THREAD = 20 };

struct worker {
    struct net *net;
    int number;
    bool failed;
    char addresses[PER_THREAD][INET_ADDRSTRLEN];
    struct err err;
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    for (int i = 0; i < PER_THREAD && !worker->failed; i++) {
        struct net_endpoint endpoint;
        char id[65];
        snprintf(id, sizeof(id), "%032d%032d", worker->number, i);
        worker->failed = net_bridge_up(worker->net, &worker->err) < 0 ||
                         net_attach(worker->net, &(struct net_wish){ .container_id = id }, &endpoint, &worker->err) < 0;
        if (worker->failed)
            break;
        snprintf(worker->addresses[i], INET_ADDRSTRLEN, "%s", endpoint.address);
        fd_close(endpoint.netns_fd);
        if (i % 2)
            worker->failed = net_detach(worker->net, id, &worker->err) < 0;
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct world *world = *state;
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){ .net = world->net, .number = i };
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++)
        if (workers[i].failed)
            fail_msg("%s", workers[i].err.message);
    // Those that were kept (the even ones) are all different.
    for (int i = 0; i < THREADS * PER_THREAD / 2; i++)
        for (int k = 0; k < i; k++)
            assert_string_not_equal(workers[i % THREADS].addresses[i / THREADS * 2], workers[k % THREADS].addresses[k / THREADS * 2]);
}

#define WORLD_TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(test_nothing_before_up),
        WORLD_TEST(test_addresses),
        WORLD_TEST(test_restart),
        WORLD_TEST(test_two_daemons),
        WORLD_TEST(test_two_daemons_at_once),
        WORLD_TEST(test_pools),
        WORLD_TEST(test_bip),
        WORLD_TEST(test_port_conflicts),
        WORLD_TEST(test_free_port),
        WORLD_TEST(test_many_ports),
        WORLD_TEST(test_repair),
        WORLD_TEST(test_teardown),
        WORLD_TEST(test_foreign),
        WORLD_TEST(test_full_bridge),
        WORLD_TEST(test_cycles),
        WORLD_TEST(test_threads),
    };
    return world_enter() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
