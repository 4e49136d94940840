// Subnets and addresses: numbers alone.
#include "net_test.h"

static void test_parse(void **state)
{
    static const struct {
        const char *text;
        int result;
        uint32_t gateway;
        int prefix;
    } cases[] = {
        { "172.17.0.1/16", 0, 0xac110001, 16 }, { "10.0.0.5/24", 0, 0x0a000005, 24 }, { "10.0.0.1/30", 0, 0x0a000001, 30 },
        { "172.17.0.0/16", -1, 0, 0 },          { "172.17.255.255/16", -1, 0, 0 },    { "10.0.0.1", -1, 0, 0 },
        { "10.0.0.1/31", -1, 0, 0 },            { "10.0.0.1/7", -1, 0, 0 },           { "10.0.0.1/", -1, 0, 0 },
        { "10.0.0.1/ 8", -1, 0, 0 },            { "10.0.0/24", -1, 0, 0 },            { "", -1, 0, 0 },
        { "fe80::1/64", -1, 0, 0 },             { "100.100.100.1000/24", -1, 0, 0 },  { "10.0.0.1/8/9", -1, 0, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct subnet subnet = { 0 };
        struct err err = { 0 };
        assert_int_equal(subnet_parse(cases[i].text, &subnet, &err), cases[i].result);
        assert_int_equal(subnet.gateway, cases[i].gateway);
        assert_int_equal(subnet.prefix, cases[i].prefix);
        if (cases[i].result < 0)
            assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    }
}

static void test_lowest_free(void **state)
{
    static const struct {
        struct subnet subnet;
        uint32_t taken[8];
        size_t len;
        uint32_t expected; // 0: none left
    } cases[] = {
        { { .gateway = 0x0a000001, .prefix = 24 }, { 0 }, 0, 0x0a000002 },
        { { .gateway = 0x0a000001, .prefix = 24 }, { 0x0a000002, 0x0a000003 }, 2, 0x0a000004 },
        { { .gateway = 0x0a000001, .prefix = 24 }, { 0x0a000002, 0x0a000004 }, 2, 0x0a000003 },
        { { .gateway = 0x0a000003, .prefix = 24 }, { 0x0a000001, 0x0a000002 }, 2, 0x0a000004 }, // the gateway stands in the way
        { { .gateway = 0x0a000001, .prefix = 24 }, { 0x09000002, 0x0b000002 }, 2, 0x0a000002 }, // of another subnet
        { { .gateway = 0x0a000001, .prefix = 30 }, { 0 }, 0, 0x0a000002 },
        { { .gateway = 0x0a000001, .prefix = 30 }, { 0x0a000002 }, 1, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint32_t found = 0;
        struct err err = { 0 };
        int result = address_lowest_free(&cases[i].subnet, cases[i].taken, cases[i].len, &found, &err);
        assert_int_equal(result, cases[i].expected ? 0 : -1);
        assert_int_equal(found, cases[i].expected);
        if (result < 0)
            assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
    }
}

static void test_mac(void **state)
{
    static const unsigned char expected[6] = { 0x02, 0x42, 172, 17, 0, 2 };
    unsigned char mac[6];
    address_mac(0xac110002, mac);
    assert_memory_equal(mac, expected, 6);
}

// The size of the host's address in the map that forwards this port; 0: in none.
static int port_has_element(const struct record_port *port, int family, unsigned char address[16])
{
    static const struct nft_table table;
    bool listed = nft_lists(&table, port, family, NFT_PUBLISH_ANY, address) || nft_lists(&table, port, family, NFT_PUBLISH_AT, address);
    return !listed ? 0 : family == AF_INET ? 4 : 16;
}

static void test_port_has_element(void **state)
{
    static const struct {
        const char *address;
        bool expected;
        unsigned char bytes[4];
    } cases[] = { { "0.0.0.0", true, { 0 } }, { "192.0.2.1", true, { 192, 0, 2, 1 } }, { "127.0.0.1", false, { 0 } },
                  { "127.1.2.3", false, { 0 } }, { "::", false, { 0 } }, { "::1", false, { 0 } }, { "", false, { 0 } } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct record_port port = { .target = 1 };
        unsigned char address[16];
        snprintf(port.port.host_address, sizeof(port.port.host_address), "%s", cases[i].address);
        assert_int_equal(port_has_element(&port, AF_INET, address), cases[i].expected ? 4 : 0);
        if (cases[i].expected)
            assert_memory_equal(address, cases[i].bytes, 4);
    }
}

static void test_port_has_element_of_ipv6(void **state)
{
    static const struct {
        const char *address;
        bool expected;
    } cases[] = { { "::", true }, { "2001:db8::1", true }, { "::1", false }, { "0.0.0.0", false }, { "", false } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct record_port port = { 0 };
        unsigned char address[16];
        snprintf(port.port.host_address, sizeof(port.port.host_address), "%s", cases[i].address);
        assert_int_equal(port_has_element(&port, AF_INET6, address), 0); // the container has no such address
        port.target6 = 1;
        assert_int_equal(port_has_element(&port, AF_INET6, address), cases[i].expected ? 16 : 0);
    }
}

static struct subnet6 read6(const char *subnet, const char *range, const char *gateway)
{
    struct subnet6 out = { 0 };
    struct err err;
    const struct net_network wanted = { .subnet6 = subnet, .ip_range6 = range, .gateway6 = gateway };
    if (subnet6_read(&wanted, &out, &err) < 0)
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    return out;
}

static void test_subnets_of_ipv6(void **state)
{
    char text[SUBNET6_TEXT_SIZE];
    struct subnet6 subnet = read6("fd00:1::/64", NULL, ""), own, other;
    subnet6_text(subnet.gateway, subnet.prefix, text);
    assert_string_equal(text, "fd00:1::1/64");
    subnet6_text(read6("fd00:1::/64", "fd00:1::8:0/112", NULL).gateway, 64, text);
    assert_string_equal(text, "fd00:1::8:0/64");
    static const char *const bad[][3] = { { "fd00:1::", NULL, NULL },          { "10.0.0.0/8", NULL, NULL },
                                          { "fd00::/0", NULL, NULL },          { "fd00::/127", NULL, NULL },
                                          { "fd00::/129", NULL, NULL },        { "fd00:1::/64", "fd00:2::/80", NULL },
                                          { "fd00:1::/64", "fd00::/32", NULL }, { "fd00:1::/64", NULL, "fd00:2::1" },
                                          { "fd00:1::/64", NULL, "10.0.0.1" } };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(read6(bad[i][0], bad[i][1], bad[i][2]).prefix, 0);
    subnet6_own(DAEMON_ID, 0, &own);
    subnet6_own(DAEMON_ID, 0x12, &other);
    subnet6_text(own.gateway, own.prefix, text);
    assert_string_equal(text, "fd0b:adc0:de00::1/64");
    subnet6_text(other.gateway, other.prefix, text);
    assert_string_equal(text, "fd0b:adc0:de00:12::1/64");
    assert_false(subnets6_overlap(&own, &other));
    assert_true(subnets6_overlap(&own, &own));
}

static void test_lowest_free_of_ipv6(void **state)
{
    const struct subnet6 subnet = read6("fd00::/64", NULL, NULL), range = read6("fd00::/64", "fd00::10/126", "fd00::1"),
                         small = read6("fd00::/126", NULL, NULL);
    number128 taken[] = { 4, 2, 3, 0x99, 2 }, out = 0;
    for (size_t i = 0; i < ARRAY_LEN(taken); i++)
        taken[i] |= subnet6_network(&subnet);
    OK(address6_lowest_free(&subnet, NULL, 0, &out, err));
    assert_true(out == subnet6_network(&subnet) + 2);
    OK(address6_lowest_free(&subnet, taken, ARRAY_LEN(taken), &out, err));
    assert_true(out == subnet6_network(&subnet) + 5);
    OK(address6_lowest_free(&range, taken, ARRAY_LEN(taken), &out, err));
    assert_true(out == subnet6_network(&subnet) + 0x10);
    assert_int_equal(address6_lowest_free(&small, taken, 3, &out, &test_err), -1); // 1 is the gateway's
    assert_int_equal(test_err.class, ERR_RESOURCE_EXHAUSTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_lowest_free),
        cmocka_unit_test(test_mac),
        cmocka_unit_test(test_port_has_element),
        cmocka_unit_test(test_port_has_element_of_ipv6),
        cmocka_unit_test(test_subnets_of_ipv6),
        cmocka_unit_test(test_lowest_free_of_ipv6),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
