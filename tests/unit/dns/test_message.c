#include "question.h"

static void a_question_is_read(void **state)
{
    struct question question;
    ask(&question, "Web.Blue", DNS_A, 0);
    assert_string_equal(question.query.name, "web.blue");
    assert_int_equal(question.query.type, DNS_A);
    assert_int_equal(question.query.class, DNS_IN);
    assert_int_equal(question.query.question_end, question.size);
    assert_int_equal(question.query.datagram_max, 512);
    ask(&question, "web", DNS_AAAA, 1400);
    assert_true(question.query.edns);
    assert_int_equal(question.query.datagram_max, 1400);
    ask(&question, "web", DNS_A, 1); // nobody takes less than the least
    assert_int_equal(question.query.datagram_max, 512);
    ask(&question, "", DNS_A, 0);
    assert_string_equal(question.query.name, "");
}

static void names_that_are_no_containers(void **state)
{
    struct question question = make_question("a_b", DNS_A, 0);
    const char odd[] = { '.', ' ', 0, '\n', (char)0x7f, (char)0xc3 };
    for (size_t i = 0; i < sizeof(odd); i++) {
        question.bytes[14] = (uint8_t)odd[i];
        assert_int_equal(dns_query_read(question.bytes, question.size, &question.query), DNS_OK);
        assert_string_equal(question.query.name, "");
    }
}

static int read_changed(size_t at, uint8_t value, size_t size)
{
    struct question question = make_question("web.blue", DNS_A, 1232);
    question.bytes[at] = value;
    return dns_query_read(question.bytes, size ? size : question.size, &question.query);
}

static void what_is_malformed(void **state)
{
    const struct question whole = make_question("web.blue", DNS_A, 1232);
    for (size_t size = 0; size < DNS_HEADER_SIZE; size++)
        assert_int_equal(read_changed(0, 0, size), size ? -1 : DNS_OK);
    for (size_t size = DNS_HEADER_SIZE; size < whole.size; size++)
        assert_int_equal(read_changed(0, 0, size), DNS_FORMERR);
    assert_int_equal(read_changed(2, 0x80, 0), -1); // an answer
    assert_int_equal(read_changed(2, 0x28, 0), DNS_NOTIMP); // an update
    assert_int_equal(read_changed(5, 0, 0), DNS_FORMERR); // no question
    assert_int_equal(read_changed(5, 2, 0), DNS_FORMERR); // two
    assert_int_equal(read_changed(7, 200, 0), DNS_FORMERR);
    assert_int_equal(read_changed(4, 0xff, 0), DNS_FORMERR);
    assert_int_equal(read_changed(12, 0xc0, 0), DNS_FORMERR); // a pointer, to itself
    assert_int_equal(read_changed(12, 64, 0), DNS_FORMERR);
    assert_int_equal(read_changed(whole.size - 1, 1, 0), DNS_FORMERR); // data behind the end
}

static void the_longest_name(void **state)
{
    char name[DNS_NAME_SIZE] = "";
    struct question question;
    for (size_t i = 0; i < 253; i++)
        name[i] = i % 64 == 63 ? '.' : 'a';
    ask(&question, name, DNS_A, 0);
    assert_string_equal(question.query.name, name);
    name[253] = 'a';
    question = make_question(name, DNS_A, 0);
    assert_int_equal(dns_query_read(question.bytes, question.size, &question.query), DNS_FORMERR);
}

static void an_answer_without_records(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(DNS_MESSAGE_MAX);
    struct question question;
    ask(&question, "web", DNS_A, 1232);
    dns_reply(question.bytes, &question.query, DNS_NXDOMAIN, &out);
    assert_int_equal(at16(&out, 0), 0x1234);
    assert_int_equal(at16(&out, 2), 0x8183); // an answer, recursion wanted and had
    assert_int_equal(at16(&out, 4), 1);
    assert_int_equal(at16(&out, 6), 0);
    assert_int_equal(at16(&out, 10), 1); // its own size
    assert_memory_equal(out.data + 12, question.bytes + 12, question.query.question_end - 12);
    struct dns_query none = { 0 };
    dns_reply(question.bytes, &none, DNS_FORMERR, &out);
    assert_int_equal(out.size, 12);
    assert_int_equal(at16(&out, 4), 0);
}

static void addresses_that_do_not_fit(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(DNS_MESSAGE_MAX);
    uint32_t addresses[DNS_ADDRESS_MAX];
    struct question question;
    for (size_t i = 0; i < DNS_ADDRESS_MAX; i++)
        addresses[i] = htonl((uint32_t)(0x0a000000 + i));
    ask(&question, "web", DNS_A, 0);
    dns_reply_addresses(question.bytes, &question.query, (const uint8_t *)addresses, 4, 30, 512, &out);
    assert_int_equal(at16(&out, 6), 30);
    assert_int_equal(at16(&out, 2) & 0x0200, 0);
    assert_int_equal(out.size, question.query.question_end + 30 * 16);
    dns_reply_addresses(question.bytes, &question.query, (const uint8_t *)addresses, 4, 31, 512, &out);
    assert_int_equal(at16(&out, 6), 30);
    assert_int_equal(at16(&out, 2) & 0x0200, 0x0200);
    assert_true(out.size <= 512);
    ask(&question, "web", DNS_A, 4096);
    dns_reply_addresses(question.bytes, &question.query, (const uint8_t *)addresses, 4, DNS_ADDRESS_MAX, DNS_MESSAGE_MAX, &out);
    assert_int_equal(at16(&out, 6), DNS_ADDRESS_MAX);
    assert_false(out.overflow);
    dns_reply_addresses(question.bytes, &question.query, (const uint8_t *)addresses, 4, 5, 10, &out); // a limit that nobody has
    assert_int_equal(at16(&out, 6), 0);
}

static void addresses_of_ipv6(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(DNS_MESSAGE_MAX);
    uint8_t addresses[DNS_ADDRESS_MAX * 16] = { 0xfd, [31] = 7 };
    struct question question;
    ask(&question, "web", DNS_AAAA, 0);
    dns_reply_addresses(question.bytes, &question.query, addresses, 16, 2, 512, &out);
    assert_int_equal(at16(&out, 6), 2);
    assert_int_equal(out.size, question.query.question_end + 2 * 28);
    assert_int_equal(at16(&out, question.query.question_end + 2), DNS_AAAA);
    assert_int_equal(at16(&out, question.query.question_end + 10), 16);
    assert_memory_equal(out.data + question.query.question_end + 12, addresses, 16);
    assert_memory_equal(out.data + out.size - 16, addresses + 16, 16);
    dns_reply_addresses(question.bytes, &question.query, addresses, 16, DNS_ADDRESS_MAX, DNS_MESSAGE_MAX, &out);
    assert_in_range(at16(&out, 6), 2300, DNS_ADDRESS_MAX - 1); // as many as a message holds
    assert_int_equal(at16(&out, 2) & 0x0200, 0x0200);
    assert_true(out.size <= DNS_MESSAGE_MAX && !out.overflow);
}

static void the_name_of_an_address(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(DNS_MESSAGE_MAX);
    struct question question;
    ask(&question, "2.0.18.172.in-addr.arpa", DNS_PTR, 0);
    dns_reply_name(question.bytes, &question.query, "web.blue", &out);
    assert_int_equal(at16(&out, 6), 1);
    assert_memory_equal(out.data + out.size - 10, "\3web\4blue\0", 10);
    dns_reply_name(question.bytes, &question.query, "web..blue", &out); // none that could be told
    assert_int_equal(at16(&out, 6), 0);
}

static void answers_of_others(void **state)
{
    _cleanup_buf_ struct buf out = BUF_INIT(DNS_MESSAGE_MAX);
    struct question question;
    ask(&question, "web", DNS_A, 0);
    dns_reply(question.bytes, &question.query, DNS_OK, &out);
    uint8_t *reply = (uint8_t *)out.data;
    assert_true(dns_reply_fits(question.bytes, &question.query, reply, out.size));
    assert_false(dns_reply_fits(question.bytes, &question.query, reply, 11));
    assert_false(dns_reply_fits(question.bytes, &question.query, reply, out.size - 1));
    reply[13] = 'W';
    assert_true(dns_reply_fits(question.bytes, &question.query, reply, out.size));
    reply[13] = 'x';
    assert_false(dns_reply_fits(question.bytes, &question.query, reply, out.size)); // of another question
    reply[13] = 'w';
    reply[0] ^= 1;
    assert_false(dns_reply_fits(question.bytes, &question.query, reply, out.size));
    reply[0] ^= 1;
    reply[2] &= 0x7f;
    assert_false(dns_reply_fits(question.bytes, &question.query, reply, out.size));
    dns_reply(question.bytes, &(struct dns_query){ 0 }, DNS_REFUSED, &out);
    assert_true(dns_reply_fits(question.bytes, &question.query, (uint8_t *)out.data, out.size));
    assert_int_equal(dns_reply_rcode((uint8_t *)out.data), DNS_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_question_is_read),     cmocka_unit_test(names_that_are_no_containers),
        cmocka_unit_test(what_is_malformed),      cmocka_unit_test(the_longest_name),
        cmocka_unit_test(an_answer_without_records), cmocka_unit_test(addresses_that_do_not_fit),
        cmocka_unit_test(the_name_of_an_address), cmocka_unit_test(answers_of_others),
        cmocka_unit_test(addresses_of_ipv6),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
