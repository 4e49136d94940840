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

static void test_port_has_element(void **state)
{
    static const struct {
        const char *address;
        bool expected;
        uint32_t number;
    } cases[] = { { "0.0.0.0", true, 0 }, { "192.0.2.1", true, 0xc0000201 }, { "127.0.0.1", false, 0 },
                  { "127.1.2.3", false, 0 }, { "::", false, 0 }, { "::1", false, 0 }, { "", false, 0 } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct net_port port = { 0 };
        uint32_t number = 0;
        snprintf(port.host_address, sizeof(port.host_address), "%s", cases[i].address);
        assert_int_equal(port_has_element(&port, &number), cases[i].expected);
        if (cases[i].expected)
            assert_int_equal(number, cases[i].number);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_lowest_free),
        cmocka_unit_test(test_mac),
        cmocka_unit_test(test_port_has_element),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
