#include "question.h"

static const char blue[] = "aaaa 10.1.0.2 web www aaaa\nbbbb 10.1.0.3 db www bbbb dotted.name\ncccc 10.1.0.4 cache red\n";
static const char red[] = "dddd 10.2.0.2 web dddd\nbbbb 10.2.0.3 db bbbb\n";

static void settle(struct dns_settings *settings, const char *text)
{
    dns_settings_read(slice_of(text), settings);
    for (size_t i = 0; i < settings->network_len; i++)
        settings->networks[i].list = slice_of(slice_eq(settings->networks[i].name, "blue") ? blue : red);
}

#define BOTH "network n1 blue\nnetwork n2 red\n"

// The addresses of an answer, in their order: "10.1.0.2 10.1.0.3"; "-": somebody else is asked; "": there are none.
static const char *answer(const char *settings_text, const char *name, unsigned type)
{
    static char text[256];
    _cleanup_buf_ struct buf out = BUF_INIT(DNS_MESSAGE_MAX);
    struct dns_settings settings;
    struct question question;
    settle(&settings, settings_text);
    ask(&question, name, type, 0);
    if (!dns_answer(&settings, question.bytes, &question.query, 512, &out))
        return "-";
    assert_int_equal(at16(&out, 2), 0x8180);
    text[0] = 0;
    for (size_t i = 0; i < at16(&out, 6); i++) {
        const uint8_t *at = (uint8_t *)out.data + question.query.question_end + i * 16 + 12;
        size_t len = strlen(text);
        snprintf(text + len, sizeof(text) - len, "%s%u.%u.%u.%u", len ? " " : "", at[0], at[1], at[2], at[3]);
    }
    return text;
}

static void names_on_the_networks_of_a_container(void **state)
{
    assert_string_equal(answer("network n1 blue\n", "WEB", DNS_A), "10.1.0.2");
    assert_string_equal(answer("network n2 red\n", "web", DNS_A), "10.2.0.2");
    assert_string_equal(answer(BOTH, "web", DNS_A), "10.1.0.2"); // the first network that has it
    assert_string_equal(answer("network n2 red\nnetwork n1 blue\n", "web", DNS_A), "10.2.0.2");
    assert_string_equal(answer(BOTH, "cache", DNS_A), "10.1.0.4");
    assert_string_equal(answer("network n2 red\n", "cache", DNS_A), "-");
    assert_string_equal(answer("", "web", DNS_A), "-");
    assert_string_equal(answer(BOTH, "we", DNS_A), "-");
    assert_string_equal(answer(BOTH, "10.1.0.2", DNS_A), "-");
}

static void a_name_with_its_network(void **state)
{
    assert_string_equal(answer(BOTH, "web.red", DNS_A), "10.2.0.2");
    assert_string_equal(answer(BOTH, "web.Blue", DNS_A), "10.1.0.2");
    assert_string_equal(answer(BOTH, "web.green", DNS_A), "-");
    assert_string_equal(answer(BOTH, "web.red.example.com", DNS_A), "-");
    assert_string_equal(answer(BOTH, "dotted.name", DNS_A), "10.1.0.3");
    assert_string_equal(answer(BOTH, "dotted.name.blue", DNS_A), "10.1.0.3");
    assert_string_equal(answer("network n1 a.blue.b\n", "web.a.blue.b", DNS_A), "10.2.0.2");
}

static void other_types(void **state)
{
    assert_string_equal(answer(BOTH, "web", DNS_AAAA), ""); // not asked for elsewhere
    assert_string_equal(answer(BOTH, "web", DNS_MX), "");
    assert_string_equal(answer(BOTH, "web", 16), "-");
    assert_string_equal(answer(BOTH, "web", 255), "-");
    assert_string_equal(answer(BOTH, "nobody", DNS_AAAA), "-");
    assert_string_equal(answer(BOTH, "nobody", DNS_MX), "-");
}

static void names_without_a_dot(void **state)
{
    assert_string_equal(answer(BOTH "ndots\n", "nobody", DNS_A), "");
    assert_string_equal(answer(BOTH "ndots\n", "nobody", DNS_MX), "-");
    assert_string_equal(answer(BOTH "ndots\n", "nobody.example", DNS_A), "-");
    assert_string_equal(answer(BOTH "ndots\n", "web", DNS_A), "10.1.0.2");
}

static void links_are_of_one_container(void **state)
{
    const char *linked = BOTH "link n1 database db\nlink n1 web cache\nlink n2 gone nobody\n";
    assert_string_equal(answer(linked, "database", DNS_A), "10.1.0.3");
    assert_string_equal(answer(BOTH, "database", DNS_A), "-");
    assert_string_equal(answer(linked, "database.blue", DNS_A), "10.1.0.3");
    assert_string_equal(answer(linked, "database.red", DNS_A), "-");
    assert_string_equal(answer(linked, "web", DNS_A), "10.1.0.4"); // before a container of that name
    assert_string_equal(answer(linked, "gone", DNS_A), "-");
}

static void all_who_share_a_name(void **state)
{
    unsigned first = 0;
    for (int i = 0; i < 200; i++) {
        const char *text = answer("network n1 blue\n", "www", DNS_A);
        first += str_eq(text, "10.1.0.2 10.1.0.3");
        assert_true(str_eq(text, "10.1.0.2 10.1.0.3") || str_eq(text, "10.1.0.3 10.1.0.2"));
    }
    assert_in_range(first, 50, 150);
}

static void addresses_of_ipv6(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(DNS_MESSAGE_MAX);
    struct dns_settings settings;
    struct question question;
    dns_settings_read(slice_of("network n1 blue\n"), &settings);
    settings.networks[0].list = slice_of("aa 10.0.0.2,fd00::2 web all\nbb 10.0.0.3 db all\ncc 10.0.0.4,junk odd\n");
    static const struct {
        const char *name;
        int type, answers;
    } cases[] = { { "web", DNS_AAAA, 1 }, { "web", DNS_A, 1 }, { "db", DNS_AAAA, 0 }, { "all", DNS_AAAA, 1 }, { "all", DNS_A, 2 },
                  { "odd", DNS_AAAA, 0 }, { "odd", DNS_A, 1 } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ask(&question, cases[i].name, (uint16_t)cases[i].type, 0);
        assert_true(dns_answer(&settings, question.bytes, &question.query, 512, &out));
        assert_int_equal(at16(&out, 6), cases[i].answers);
    }
    ask(&question, "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.f.ip6.arpa", DNS_PTR, 0);
    assert_true(dns_answer(&settings, question.bytes, &question.query, 512, &out));
    assert_memory_equal(out.data + out.size - 10, "\3web\4blue\0", 10);
    static const char *const others[] = { "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
                                          "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.x.ip6.arpa",
                                          "22.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", "0.d.f.ip6.arpa" };
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        ask(&question, others[i], DNS_PTR, 0);
        assert_false(dns_answer(&settings, question.bytes, &question.query, 512, &out));
    }
}

static void names_of_addresses(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(DNS_MESSAGE_MAX);
    struct dns_settings settings;
    struct question question;
    settle(&settings, BOTH);
    ask(&question, "3.0.2.10.In-Addr.arpa", DNS_PTR, 0);
    assert_true(dns_answer(&settings, question.bytes, &question.query, 512, &out));
    assert_memory_equal(out.data + out.size - 8, "\2db\3red\0", 8);
    static const char *const others[] = { "9.0.2.10.in-addr.arpa", "3.0.2.10", "0.2.10.in-addr.arpa", "in-addr.arpa",
                                          "x.0.2.10.in-addr.arpa", "3.0.2.10.5.in-addr.arpa", "1.0.ip6.arpa" };
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        ask(&question, others[i], DNS_PTR, 0);
        assert_false(dns_answer(&settings, question.bytes, &question.query, 512, &out));
    }
}

static void a_thousand_containers(void **state)
{
    _cleanup_buf_ struct buf list = BUF_INIT(1 << 20), out = BUF_INIT(DNS_MESSAGE_MAX);
    struct dns_settings settings;
    struct question question;
    for (int i = 0; i < 1000; i++)
        buf_addf(&list, "%064d 10.1.%d.%d c%d all\n", i, i / 250, i % 250 + 2, i);
    dns_settings_read(slice_of("network n1 blue\n"), &settings);
    settings.networks[0].list = slice_of(buf_text(&list));
    ask(&question, "all", DNS_A, 0);
    assert_true(dns_answer(&settings, question.bytes, &question.query, 512, &out));
    assert_int_equal(at16(&out, 2), 0x8380); // more than a datagram holds
    assert_true(dns_answer(&settings, question.bytes, &question.query, DNS_MESSAGE_MAX, &out));
    assert_int_equal(at16(&out, 6), 1000);
    ask(&question, "c999", DNS_A, 0);
    assert_true(dns_answer(&settings, question.bytes, &question.query, 512, &out));
    assert_int_equal(at16(&out, 6), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_on_the_networks_of_a_container), cmocka_unit_test(a_name_with_its_network),
        cmocka_unit_test(other_types),                          cmocka_unit_test(names_without_a_dot),
        cmocka_unit_test(links_are_of_one_container),           cmocka_unit_test(all_who_share_a_name),
        cmocka_unit_test(names_of_addresses),                   cmocka_unit_test(a_thousand_containers),
        cmocka_unit_test(addresses_of_ipv6),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
