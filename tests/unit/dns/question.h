// Questions and answers as bytes, for the tests of this room.
#ifndef TESTS_DNS_QUESTION_H
#define TESTS_DNS_QUESTION_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "dns/dns.h"

struct question {
    uint8_t bytes[600];
    size_t size;
    struct dns_query query;
};

static inline void put(struct question *to, const void *data, size_t size)
{
    memcpy(to->bytes + to->size, data, size);
    to->size += size;
}

static inline void put_name(struct question *to, const char *name)
{
    struct slice rest = slice_of(name), label;
    while (*name && slice_cut(&rest, '.', &label)) {
        put(to, &(uint8_t){ (uint8_t)label.size }, 1);
        put(to, label.data, label.size);
    }
    put(to, "", 1);
}

// `datagram` bytes by EDNS; 0: without.
static inline struct question make_question(const char *name, unsigned type, unsigned datagram)
{
    struct question to = { 0 };
    const uint8_t head[12] = { 0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, datagram ? 1 : 0 };
    put(&to, head, sizeof(head));
    put_name(&to, name);
    put(&to, (uint8_t[]){ (uint8_t)(type >> 8), (uint8_t)type, 0, 1 }, 4);
    if (datagram)
        put(&to, (uint8_t[]){ 0, 0, DNS_OPT, (uint8_t)(datagram >> 8), (uint8_t)datagram, 0, 0, 0, 0, 0, 0 }, 11);
    return to;
}

static inline void ask(struct question *question, const char *name, unsigned type, unsigned datagram)
{
    *question = make_question(name, type, datagram);
    assert_int_equal(dns_query_read(question->bytes, question->size, &question->query), DNS_OK);
}

static inline unsigned at16(const struct buf *message, size_t at)
{
    assert_true(at + 2 <= message->size);
    return (unsigned)((uint8_t)message->data[at] << 8 | (uint8_t)message->data[at + 1]);
}

#endif
