// The wire format of RFC 1035, as much of it as one question and its answer need, with the size of EDNS (RFC 6891).
//
// A question is never compressed: there is nothing before it that a pointer could mean. Names of other records are only passed
// over, so nothing is ever followed.
#include <arpa/inet.h>
#include <ctype.h>

#include "dns/dns.h"

enum {
    FLAG_RESPONSE = 0x8000, FLAG_CUT = 0x0200, FLAG_RECURSION_WANTED = 0x0100, FLAG_RECURSION = 0x0080, FLAG_NO_CHECK = 0x0010,
    OPCODE_MASK = 0x7800, RCODE_MASK = 0x000f,
    LABEL_MAX = 63, WIRE_NAME_MAX = 255, POINTER = 0xc0,
    RECORD_SIZE = 10, // behind the name: type, class, time to live, size
    OPT_SIZE = 11, OWN_DATAGRAM_MAX = 1232, // bytes that we say we take
    TIME_TO_LIVE = 600,
};

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

// ---- reading --------------------------------------------------------------------------------------------------------

// A label that has a dot, a blank or a control character is no part of a container's name.
static bool add_label(char *name, size_t *len, const uint8_t *label, size_t size)
{
    if (*len)
        name[(*len)++] = '.';
    for (size_t i = 0; i < size; i++) {
        if (label[i] <= ' ' || label[i] >= 0x7f || label[i] == '.')
            return false;
        name[(*len)++] = (char)tolower(label[i]);
    }
    return true;
}

// The offset behind the question's name, 0: malformed.
static size_t read_name(const uint8_t *message, size_t size, size_t at, char name[DNS_NAME_SIZE])
{
    size_t start = at, len = 0;
    bool plain = true;
    for (; at < size && at - start < WIRE_NAME_MAX; at += 1 + message[at]) {
        size_t label = message[at];
        if (label == 0) {
            name[plain ? len : 0] = 0;
            return at + 1;
        }
        if (label > LABEL_MAX || label > size - at - 1 || at + 1 + label - start >= WIRE_NAME_MAX)
            return 0;
        plain = plain && add_label(name, &len, message + at + 1, label);
    }
    return 0;
}

static size_t skip_name(const uint8_t *message, size_t size, size_t at)
{
    while (at < size && message[at] && message[at] <= LABEL_MAX)
        at += 1 + message[at];
    if (at < size && message[at] == 0)
        return at + 1;
    return at + 1 < size && (message[at] & POINTER) == POINTER ? at + 2 : 0;
}

// The offset behind a record, 0: malformed.
static size_t read_record(const uint8_t *message, size_t size, size_t at, struct dns_query *out)
{
    at = skip_name(message, size, at);
    if (at == 0 || size - at < RECORD_SIZE)
        return 0;
    if (get16(message + at) == DNS_OPT) {
        out->edns = true;
        out->datagram_max = MAX_OF((size_t)get16(message + at + 2), (size_t)DNS_DATAGRAM_MAX);
    }
    size_t data = get16(message + at + 8);
    return data <= size - at - RECORD_SIZE ? at + RECORD_SIZE + data : 0;
}

// What may stand beside a question is what a client may say with it: a signature, a size.
int dns_query_read(const uint8_t *message, size_t size, struct dns_query *out)
{
    enum { ANSWER_MAX = 1, AUTHORITY_MAX = 1, ADDITIONAL_MAX = 2 };
    *out = (struct dns_query){ .datagram_max = DNS_DATAGRAM_MAX };
    if (size < DNS_HEADER_SIZE || get16(message + 2) & FLAG_RESPONSE)
        return -1;
    if (get16(message + 2) & OPCODE_MASK)
        return DNS_NOTIMP;
    unsigned answers = get16(message + 6), authorities = get16(message + 8), additional = get16(message + 10);
    if (get16(message + 4) != 1 || answers > ANSWER_MAX || authorities > AUTHORITY_MAX || additional > ADDITIONAL_MAX)
        return DNS_FORMERR;
    size_t at = read_name(message, size, DNS_HEADER_SIZE, out->name);
    if (at == 0 || size - at < 4)
        return DNS_FORMERR;
    size_t question_end = at + 4;
    out->type = get16(message + at);
    out->class = get16(message + at + 2);
    at = question_end;
    for (unsigned i = 0; i < answers + authorities + additional; i++)
        if ((at = read_record(message, size, at, out)) == 0)
            return DNS_FORMERR;
    out->question_end = question_end;
    return DNS_OK;
}

// ---- writing --------------------------------------------------------------------------------------------------------

static void put16(struct buf *out, unsigned value)
{
    buf_add(out, (uint8_t[]){ (uint8_t)(value >> 8), (uint8_t)value }, 2);
}

static void set16(struct buf *out, size_t at, unsigned value)
{
    out->data[at] = (char)(value >> 8);
    out->data[at + 1] = (char)value;
}

static void begin(const uint8_t *message, const struct dns_query *query, unsigned flags, struct buf *out)
{
    unsigned asked = get16(message + 2);
    buf_clear(out);
    buf_add(out, message, 2);
    put16(out, FLAG_RESPONSE | FLAG_RECURSION | flags | (asked & (OPCODE_MASK | FLAG_RECURSION_WANTED | FLAG_NO_CHECK)));
    put16(out, query->question_end ? 1 : 0);
    buf_add(out, (uint8_t[6]){ 0 }, 6);
    if (query->question_end)
        buf_add(out, message + DNS_HEADER_SIZE, query->question_end - DNS_HEADER_SIZE);
}

static void put_record(struct buf *out, unsigned type, size_t size)
{
    put16(out, POINTER << 8 | DNS_HEADER_SIZE); // the question's name
    put16(out, type);
    put16(out, DNS_IN);
    put16(out, 0);
    put16(out, TIME_TO_LIVE);
    put16(out, (unsigned)size);
}

// Who asked with EDNS is answered with it.
static void end(const struct dns_query *query, size_t answers, struct buf *out)
{
    set16(out, 6, (unsigned)answers);
    if (!query->edns)
        return;
    set16(out, 10, 1);
    buf_addc(out, 0);
    put16(out, DNS_OPT);
    put16(out, OWN_DATAGRAM_MAX);
    buf_add(out, (uint8_t[6]){ 0 }, 6);
}

void dns_reply(const uint8_t *message, const struct dns_query *query, int rcode, struct buf *out)
{
    begin(message, query, (unsigned)rcode, out);
    end(query, 0, out);
}

void dns_reply_addresses(const uint8_t *message, const struct dns_query *query, const uint8_t *addresses, size_t size, size_t len,
                         size_t max, struct buf *out)
{
    size_t one = 2 + RECORD_SIZE + size;
    size_t head = query->question_end + (query->edns ? OPT_SIZE : 0);
    size_t room = MIN_OF(max, (size_t)DNS_MESSAGE_MAX) > head ? (MIN_OF(max, (size_t)DNS_MESSAGE_MAX) - head) / one : 0;
    size_t told = MIN_OF(len, room);
    begin(message, query, told < len ? FLAG_CUT : 0, out);
    for (size_t i = 0; i < told; i++) {
        put_record(out, query->type, size);
        buf_add(out, addresses + i * size, size);
    }
    end(query, told, out);
}

// The name's labels with their lengths; 0 where it is none.
static size_t wire_name(const char *text, uint8_t wire[WIRE_NAME_MAX])
{
    struct slice rest = slice_of(text), label;
    size_t size = 0;
    while (slice_cut(&rest, '.', &label)) {
        if (label.size == 0 || label.size > LABEL_MAX || size + 1 + label.size + 1 > WIRE_NAME_MAX)
            return 0;
        wire[size++] = (uint8_t)label.size;
        memcpy(wire + size, label.data, label.size);
        size += label.size;
    }
    wire[size++] = 0;
    return size;
}

void dns_reply_name(const uint8_t *message, const struct dns_query *query, const char *name, struct buf *out)
{
    uint8_t wire[WIRE_NAME_MAX];
    size_t size = wire_name(name, wire);
    begin(message, query, 0, out);
    if (size) {
        put_record(out, DNS_PTR, size);
        buf_add(out, wire, size);
    }
    end(query, size ? 1 : 0, out);
}

// ---- answers of others ------------------------------------------------------------------------------------------------

static bool same_question(const uint8_t *message, const struct dns_query *query, const uint8_t *reply, size_t size)
{
    if (size < query->question_end)
        return false;
    for (size_t i = DNS_HEADER_SIZE; i < query->question_end; i++)
        if (tolower(message[i]) != tolower(reply[i]))
            return false;
    return true;
}

bool dns_reply_fits(const uint8_t *message, const struct dns_query *query, const uint8_t *reply, size_t size)
{
    if (size < DNS_HEADER_SIZE || memcmp(reply, message, 2) != 0 || !(get16(reply + 2) & FLAG_RESPONSE))
        return false;
    if (get16(reply + 4) == 0)
        return dns_reply_rcode(reply) != DNS_OK;
    return get16(reply + 4) == 1 && same_question(message, query, reply, size);
}

int dns_reply_rcode(const uint8_t *reply)
{
    return get16(reply + 2) & RCODE_MASK;
}
