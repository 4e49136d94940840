// rooms: dns base
// A question of a container's against lists and settings of whatever bytes; what comes out must be an answer to it, and no larger
// than asked for. Input: a byte for the sizes, then the question, then, behind a zero byte pair "\xff\xff", the files.
#include <stdlib.h>

#include "dns/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const uint8_t *message, const struct dns_query *query, const struct buf *out, size_t max)
{
    const uint8_t *reply = (const uint8_t *)out->data;
    if (out->overflow || out->size < DNS_HEADER_SIZE || out->size > MAX_OF(max, query->question_end + 300))
        abort();
    if (query->question_end && !dns_reply_fits(message, query, reply, out->size))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_buf_ struct buf out = BUF_INIT(DNS_MESSAGE_MAX), edited = BUF_INIT(1 << 20);
    struct dns_query query;
    struct dns_settings settings;
    if (size < 1)
        return 0;
    const size_t max = DNS_DATAGRAM_MAX + data[0] * 16u;
    const uint8_t *message = data + 1, *mark = memmem(message, size - 1, "\xff\xff", 2);
    size_t message_size = mark ? (size_t)(mark - message) : size - 1;
    struct slice files = { mark ? (const char *)mark + 2 : "", mark ? size - 1 - message_size - 2 : 0 };

    int rcode = dns_query_read(message, message_size, &query);
    if (rcode > 0 && message_size >= DNS_HEADER_SIZE) {
        dns_reply(message, &query, rcode, &out);
        check(message, &query, &out, max);
    }
    dns_settings_read(files, &settings);
    for (size_t i = 0; i < settings.network_len; i++)
        settings.networks[i].list = files;
    if (rcode == DNS_OK && dns_answer(&settings, message, &query, max, &out))
        check(message, &query, &out, max);
    dns_list_edit(files, "aaaa", "aaaa 10.0.0.1 web\n", &edited);
    if (mark && rcode == DNS_OK)
        dns_reply_fits(message, &query, (const uint8_t *)files.data, files.size);
    return 0;
}
