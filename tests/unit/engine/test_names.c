// /etc/hosts and /etc/resolv.conf of a container. What resolv.conf becomes is dockerd 28's, line by line.
#include "fixture.h"

// ---- resolv.conf ----------------------------------------------------------------------------------------------------

static struct host_config asked(struct arena *arena, const char *dns, const char *search, const char *options)
{
    struct host_config host = { 0 };
    const struct {
        const char *words;
        struct strv *list;
    } table[] = { { dns, &host.dns }, { search, &host.dns_search }, { options, &host.dns_options } };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct slice rest = slice_of(table[i].words), word;
        while (table[i].words && slice_cut(&rest, ' ', &word))
            strv_push_arena(table[i].list, arena, arena_strndup(arena, word.data, word.size));
    }
    return host;
}

#define DEFAULTS "# Used default nameservers.\n"

static void test_resolv(void **state)
{
    static const struct {
        const char *text, *dns, *search, *options, *expected, *comment, *overrides, *ndots;
        bool ipv6;
    } table[] = {
        { "nameserver 10.0.0.1\nsearch a b\n", .expected = "nameserver 10.0.0.1\nsearch a b\n" },
        { "  nameserver\t10.0.0.1  # eth0\n; x\n#nameserver 1.1.1.1\n\n", .expected = "nameserver 10.0.0.1\n" },
        { "nameserver 127.0.0.53\nnameserver 10.0.0.1\n", .expected = "nameserver 10.0.0.1\n" },
        { "nameserver 127.0.1.1\noptions edns0\n",
          .expected = "nameserver 8.8.8.8\nnameserver 8.8.4.4\noptions edns0\n", .comment = DEFAULTS },
        { "", .expected = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n", .comment = DEFAULTS },
        { "", .ipv6 = true,
          .expected = "nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\n"
                      "nameserver 2001:4860:4860::8844\n", .comment = DEFAULTS },
        { "nameserver ::1\nnameserver fd00::1\nnameserver 10.0.0.1\n", .expected = "nameserver 10.0.0.1\n" },
        { "nameserver ::1\nnameserver fd00:0::1\n", .ipv6 = true, .expected = "nameserver fd00::1\n" },
        { "nameserver fe80::1%eth0\n", .ipv6 = true, .expected = "nameserver fe80::1%eth0\n" },
        { "nameserver fd00::1\n", .expected = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n", .comment = DEFAULTS },
        { "nameserver nonsense\nnameserver 10.0.0.1.2\nnameserver 10.0.0.3\n",
          .expected = "nameserver 10.0.0.3\n",
          .comment = "# Invalid nameservers: [nonsense 10.0.0.1.2]\n" },
        { "nameserver\nsearch\noptions\nnameserver 10.0.0.1", .expected = "nameserver 10.0.0.1\n" },
        { "search a\ndomain b\noptions x y\nsearch c d\noptions z:1\nnameserver 10.0.0.1\nsortlist 10.0.0.0\n",
          .expected = "nameserver 10.0.0.1\nsearch c d\noptions x y z:1\nsortlist 10.0.0.0\n" },
        // What the client says is not looked at: a server of the container's own is fine.
        { "nameserver 10.0.0.1\nsearch a\noptions x\n", .dns = "127.0.0.1 ::1",
          .expected = "nameserver 127.0.0.1\nnameserver ::1\nsearch a\noptions x\n", .overrides = "nameservers" },
        { "nameserver 10.0.0.1\nsearch a\n", .search = "b c", .options = "ndots:2 rotate",
          .expected = "nameserver 10.0.0.1\nsearch b c\noptions ndots:2 rotate\n", .overrides = "search options",
          .ndots = "override" },
        { "nameserver 10.0.0.1\noptions ndots:5\n", .expected = "nameserver 10.0.0.1\noptions ndots:5\n", .ndots = "host" },
        { "nameserver 10.0.0.1\nsearch a\n", .search = ".", .expected = "nameserver 10.0.0.1\n", .overrides = "search" },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        _cleanup_buf_ struct buf out = BUF_INIT(65536);
        const struct host_config host = asked(&arena, table[i].dns, table[i].search, table[i].options);
        resolv_build(table[i].text, "/the/file", &host, table[i].ipv6, &out);
        char *expected = arena_printf(&arena, "%s\n# Based on host file: '/the/file' (legacy)\n%s# Overrides: [%s]\n%s",
                                      table[i].expected, table[i].comment ? table[i].comment : "",
                                      table[i].overrides ? table[i].overrides : "",
                                      table[i].ndots ? arena_printf(&arena, "# Option ndots from: %s\n", table[i].ndots) : "");
        assert_string_equal(buf_text(&out), expected);
    }
}

// With a name server of the container's own: who it asks, and its settings.
static void test_resolv_named(void **state)
{
    static const struct {
        const char *text, *dns, *options, *expected, *settings;
        bool inside;
    } table[] = {
        { "nameserver 127.0.0.53\nnameserver fd00::1\nsearch a b\n",
          .expected = "nameserver 127.0.0.11\nsearch a b\noptions ndots:0\n\n# Based on host file: '/etc/resolv.conf' (internal resolver)\n"
                      "# ExtServers: [host(127.0.0.53) host(fd00::1)]\n# Overrides: []\n# Option ndots from: internal\n",
          .settings = "host 127.0.0.53\nhost fd00::1\n" },
        { "nameserver 127.0.0.53\n", .inside = true,
          .expected = "nameserver 127.0.0.11\noptions ndots:0\n\n# Based on host file: '/etc/resolv.conf' (internal resolver)\n"
                      "# ExtServers: [host(127.0.0.53)]\n# Overrides: []\n# Option ndots from: internal\n",
          .settings = "" },
        { "nameserver 127.0.0.53\noptions ndots:5\n", .dns = "10.0.0.1 127.0.0.1", .options = "rotate ndots:2", .inside = true,
          .expected = "nameserver 127.0.0.11\noptions rotate ndots:2\n\n# Based on host file: '/etc/resolv.conf' (internal resolver)\n"
                      "# ExtServers: [10.0.0.1 127.0.0.1]\n# Overrides: [nameservers options]\n# Option ndots from: override\n",
          .settings = "ndots\nserver 10.0.0.1\nserver 127.0.0.1\n" },
        { "options ndots:-1 ndots ndots:x edns0\n",
          .expected = "nameserver 127.0.0.11\noptions edns0 ndots:0\n\n# Based on host file: '/etc/resolv.conf' (internal resolver)\n"
                      "# Overrides: []\n# Option ndots from: internal\n",
          .settings = "ndots\n" },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        _cleanup_buf_ struct buf out = BUF_INIT(65536), settings = BUF_INIT(65536);
        const struct host_config host = asked(&arena, table[i].dns, NULL, table[i].options);
        resolv_build_named(table[i].text, &host, !table[i].inside, &out, &settings);
        assert_string_equal(buf_text(&out), table[i].expected);
        assert_string_equal(buf_text(&settings), table[i].settings);
    }
}

static void test_links(void **state)
{
    static const struct {
        const char *text, *name, *alias;
    } table[] = {
        { "db:database", "db", "database" }, { "db", "db", "db" },   { "/db:/web/database", "db", "database" },
        { "/db", "db", "db" },               { "db:a:b", NULL, NULL }, { "", NULL, NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        const char *name, *alias;
        struct err err = { 0 };
        int result = link_parse(table[i].text, &arena, &name, &alias, &err);
        assert_int_equal(result, table[i].name ? 0 : -1);
        if (table[i].name) {
            assert_string_equal(name, table[i].name);
            assert_string_equal(alias, table[i].alias);
        } else {
            assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        }
    }
}

static void test_systemd_stub(void **state)
{
    assert_true(resolv_is_stub("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n"));
    assert_false(resolv_is_stub("nameserver 127.0.0.53\nnameserver 10.0.0.1\n"));
    assert_false(resolv_is_stub("nameserver 127.0.0.1\n"));
    assert_false(resolv_is_stub(""));
}

// ---- hosts ----------------------------------------------------------------------------------------------------------

static void test_own_name(void **state)
{
    static const struct {
        const char *hostname, *domainname, *line;
    } table[] = {
        { "web", "", "172.17.0.2\tweb\n" },
        { "web", "example.com", "172.17.0.2\tweb.example.com web\n" },
        { "web.example.com", "", "172.17.0.2\tweb.example.com web\n" },
        { "a.b", "c", "172.17.0.2\ta.b.c a\n" },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct bench bench;
        bench_open(&bench);
        struct container *container = bench_container(&bench, ID_A, "web", "{}");
        container->config.hostname = (char *)table[i].hostname;
        container->config.domainname = (char *)table[i].domainname;
        bench_endpoint(container);
        mutex_lock(&container->lock);
        const char *hosts = hosts_content(container, &bench.arena), *line = strstr(hosts, "172.17.0.2");
        mutex_unlock(&container->lock);
        assert_non_null(line);
        assert_string_equal(line, table[i].line);
        bench_close(&bench);
    }
}

// ---- checks ---------------------------------------------------------------------------------------------------------

static void test_checks(void **state)
{
    static const struct {
        const char *dns, *host, *error;
    } table[] = {
        { "10.0.0.1", "a:10.0.0.1", NULL },
        { "::1", "a:::1", NULL },
        { "fe80::1%eth0", "a:fe80::1%eth0", NULL },
        { NULL, "a:host-gateway", NULL },
        { "10.0.0", NULL, "bad nameserver address 10.0.0" },
        { "10.0.0.1%eth0", NULL, "bad nameserver address 10.0.0.1%eth0" },
        { "fe80::1%", NULL, "bad nameserver address fe80::1%" },
        { "10.0.0.1\n", NULL, "bad nameserver address 10.0.0.1\n" },
        { "0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0", NULL, "bad nameserver address 0:0" },
        { NULL, "a", "bad format for add-host: \"a\"" },
        { NULL, ":10.0.0.1", "bad format for add-host: \":10.0.0.1\"" },
        { NULL, "a\n:10.0.0.1", "bad format for add-host" },
        { NULL, "a:", "invalid IP address in add-host: \"\"" },
        { NULL, "a:gateway", "invalid IP address in add-host: \"gateway\"" },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct host_config host = { 0 };
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct err err = { 0 };
        if (table[i].dns)
            strv_push_arena(&host.dns, &arena, table[i].dns);
        if (table[i].host)
            strv_push_arena(&host.extra_hosts, &arena, table[i].host);
        assert_int_equal(check_names(&host, &err), table[i].error ? -1 : 0);
        if (table[i].error && !strstr(err.message, table[i].error))
            fail_msg("%s instead of %s", err.message, table[i].error);
        assert_true(!table[i].error || err.class == ERR_INVALID_ARGUMENT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resolv),
        cmocka_unit_test(test_resolv_named),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_systemd_stub),
        cmocka_unit_test(test_own_name),
        cmocka_unit_test(test_checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
