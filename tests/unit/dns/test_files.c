#include "question.h"

static void a_list_is_edited(void **state)
{
    _cleanup_buf_ struct buf line = BUF_INIT(4096), first = BUF_INIT(4096), second = BUF_INIT(4096);
    const char *const names[] = { "web", "Web", "www", "two words", "", "line\nbreak", "0123456789ab", "web" };
    dns_list_line("aa", "10.0.0.2", "", names, ARRAY_LEN(names), &line);
    assert_string_equal(buf_text(&line), "aa 10.0.0.2 web www 0123456789ab\n");
    assert_true(dns_list_edit(slice_of(""), "aa", buf_text(&line), &first));
    assert_true(dns_list_edit(slice_of(buf_text(&first)), "a", "a 10.0.0.3 db\n", &second)); // another id, not a part of one
    assert_string_equal(buf_text(&second), "aa 10.0.0.2 web www 0123456789ab\na 10.0.0.3 db\n");
    assert_false(dns_list_edit(slice_of(buf_text(&second)), "aa", buf_text(&line), &first)); // as it is
    assert_true(dns_list_edit(slice_of(buf_text(&second)), "aa", "aa 10.0.0.2 api\n", &first)); // a new name
    assert_string_equal(buf_text(&first), "a 10.0.0.3 db\naa 10.0.0.2 api\n");
    assert_true(dns_list_edit(slice_of(buf_text(&first)), "a", NULL, &second));
    assert_string_equal(buf_text(&second), "aa 10.0.0.2 api\n");
    assert_false(dns_list_edit(slice_of(buf_text(&second)), "a", NULL, &first)); // it is not there
}

static void lines_that_are_none(void **state)
{
    struct slice rest = slice_of("\n \na\na b\naa 10.0.0 web\naa 10.0.0.256 web\naa 10.0.0.2\nbb 10.0.0.3 db\nlast");
    struct dns_entry entry;
    uint8_t address[16];
    for (int i = 0; i < 3; i++) { // "b" and what looks like an address is none
        assert_true(dns_list_next(&rest, &entry));
        assert_int_equal(dns_entry_address(&entry, AF_INET, address), 0);
    }
    assert_true(dns_list_next(&rest, &entry));
    assert_true(slice_eq(entry.container_id, "aa"));
    assert_false(dns_entry_has(&entry, slice_of("web")));
    assert_true(dns_list_next(&rest, &entry));
    assert_int_equal(dns_entry_address(&entry, AF_INET, address), 4);
    assert_memory_equal(address, ((uint8_t[]){ 10, 0, 0, 3 }), 4);
    assert_int_equal(dns_entry_address(&entry, AF_INET6, address), 0);
    assert_true(dns_entry_has(&entry, slice_of("DB")));
    assert_false(dns_entry_has(&entry, slice_of("d")));
    assert_false(dns_list_next(&rest, &entry));
}

static void settings_are_read(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    struct dns_settings settings;
    struct slice target;
    dns_settings_network(&text, "n1", "blue");
    dns_settings_network(&text, "n2", "two words");
    dns_settings_network(&text, "n2", "two\nlines"); // no name of a network
    dns_settings_network(&text, "n2", "");
    dns_settings_network(&text, "n3", "red");
    dns_settings_link(&text, "n1", "database", "db");
    dns_settings_server(&text, "10.0.0.1", false);
    dns_settings_server(&text, "not an address", false);
    dns_settings_server(&text, "127.0.0.53", true);
    dns_settings_server(&text, "fe80::1%lo", true);
    dns_settings_server(&text, "10.0.0.4", false); // one too many
    dns_settings_ndots(&text);
    dns_settings_read(slice_of(buf_text(&text)), &settings);
    assert_int_equal(settings.network_len, 3);
    assert_true(slice_eq(settings.networks[1].name, "two words"));
    assert_true(slice_eq(settings.networks[2].id, "n3"));
    assert_true(slice_eq(settings.networks[2].name, "red"));
    assert_int_equal(settings.server_len, 3);
    assert_false(settings.servers[0].host);
    assert_true(settings.servers[1].host);
    assert_int_equal(((struct sockaddr_in *)&settings.servers[1].address)->sin_port, htons(53));
    assert_int_equal(((struct sockaddr_in6 *)&settings.servers[2].address)->sin6_scope_id, 1);
    assert_true(settings.ndots);
    assert_true(dns_settings_find_link(&settings, slice_of("n1"), slice_of("DataBase"), &target));
    assert_true(slice_eq(target, "db"));
    assert_false(dns_settings_find_link(&settings, slice_of("n3"), slice_of("database"), &target));
    dns_settings_read(slice_of("network\nnetwork a\nserver\nhost 1.2.3\nlink\nlink a b\nnothing\n \n"), &settings);
    assert_int_equal(settings.network_len + settings.server_len, 0);
    assert_false(dns_settings_find_link(&settings, slice_of("a"), slice_of("b"), &target));
}

static void no_more_networks_than_there_is_room(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1 << 20);
    struct dns_settings settings;
    for (int i = 0; i < DNS_NETWORK_MAX + 10; i++)
        buf_addf(&text, "network n%d m%d\n", i, i);
    dns_settings_read(slice_of(buf_text(&text)), &settings);
    assert_int_equal(settings.network_len, DNS_NETWORK_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_is_edited),
        cmocka_unit_test(lines_that_are_none),
        cmocka_unit_test(settings_are_read),
        cmocka_unit_test(no_more_networks_than_there_is_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
