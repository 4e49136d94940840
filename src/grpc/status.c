// Codes and texts of statuses, as trailers carry them.
#include <errno.h>
#include <gnutls/gnutls.h>

#include "base/num.h"
#include "grpc/proto.h"
#include "grpc_private.h"

static const struct {
    enum err_class class;
    int number; // 0: any
    enum grpc_code code;
} codes[] = {
    { ERR_CANCELLED, ETIMEDOUT, GRPC_DEADLINE_EXCEEDED },
    { ERR_CANCELLED, 0, GRPC_CANCELLED },
    { ERR_INVALID_ARGUMENT, ERANGE, GRPC_OUT_OF_RANGE },
    { ERR_INVALID_ARGUMENT, 0, GRPC_INVALID_ARGUMENT },
    { ERR_UNAUTHENTICATED, 0, GRPC_UNAUTHENTICATED },
    { ERR_PERMISSION_DENIED, 0, GRPC_PERMISSION_DENIED },
    { ERR_NOT_FOUND, 0, GRPC_NOT_FOUND },
    { ERR_CONFLICT, EEXIST, GRPC_ALREADY_EXISTS },
    { ERR_CONFLICT, ECANCELED, GRPC_ABORTED },
    { ERR_CONFLICT, 0, GRPC_FAILED_PRECONDITION },
    { ERR_UNAVAILABLE, 0, GRPC_UNAVAILABLE },
    { ERR_NOT_IMPLEMENTED, 0, GRPC_UNIMPLEMENTED },
    { ERR_RESOURCE_EXHAUSTED, 0, GRPC_RESOURCE_EXHAUSTED },
    { ERR_INTERNAL, EIO, GRPC_DATA_LOSS },
    { ERR_INTERNAL, EREMOTE, GRPC_UNKNOWN }, // what a peer's plain error becomes
    { ERR_INTERNAL, 0, GRPC_INTERNAL },
};

unsigned status_code(const struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (codes[i].class == err->class && (!codes[i].number || codes[i].number == err->number))
            return codes[i].code;
    return GRPC_INTERNAL;
}

void status_error(unsigned code, const char *message, struct err *err)
{
    size_t at = ARRAY_LEN(codes) - 1;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (codes[i].code == code)
            at = i;
    err_set(err, codes[at].class, "%s", str_empty(message) ? "the peer gave no reason" : message);
    if (err)
        err->number = codes[at].number;
}

char *status_encode(const char *message, struct arena *arena)
{
    char *out = arena_alloc(arena, 3 * strlen(message) + 1), *end = out;
    for (const char *c = message; *c; c++)
        if (*c >= ' ' && *c <= '~' && *c != '%')
            *end++ = *c;
        else
            end += snprintf(end, 4, "%%%02X", (unsigned char)*c);
    return out;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// What is no encoding stays as it is, as the specification asks.
char *status_decode(const char *text, struct arena *arena)
{
    char *out = arena_alloc(arena, strlen(text) + 1), *end = out;
    for (const char *c = text; *c; c++) {
        int high = *c == '%' ? hex(c[1]) : -1, low = high >= 0 ? hex(c[2]) : -1;
        bool encoded = low >= 0 && (high || low);
        *end++ = encoded ? (char)(high << 4 | low) : *c;
        c += encoded ? 2 : 0;
    }
    return out;
}

struct status_message {
    int32_t code;
    char *message;
    struct proto_list details;
};
static const struct proto_field detail_fields[] = { PROTO_FIELD(1, PROTO_TEXT, struct status_detail, type_url), PROTO_FIELD(2, PROTO_BYTES, struct status_detail, value) };
static const struct proto_message detail_table = PROTO_MESSAGE_OF(struct status_detail, detail_fields);
static const struct proto_field message_fields[] = { PROTO_FIELD(1, PROTO_INT32, struct status_message, code), PROTO_FIELD(2, PROTO_TEXT, struct status_message, message),
                                                     PROTO_SUB(3, PROTO_MESSAGES, struct status_message, details, &detail_table) };
static const struct proto_message message_table = PROTO_MESSAGE_OF(struct status_message, message_fields);

char *status_details(unsigned code, const char *message, const struct status_detail *details, size_t len, struct arena *arena)
{
    _cleanup_buf_ struct buf bytes = BUF_INIT(GRPC_DETAILS_MAX);
    const struct status_message status = { (int32_t)code, (char *)message, { (void *)details, len } };
    gnutls_datum_t text = { 0 };
    proto_encode(&message_table, &status, &bytes);
    const gnutls_datum_t in = { (unsigned char *)bytes.data, (unsigned)bytes.size };
    bool fits = !bytes.overflow && gnutls_base64_encode2(&in, &text) == 0;
    char *out = fits ? arena_strndup(arena, (const char *)text.data, text.size) : NULL;
    gnutls_free(text.data);
    return out;
}

static const struct {
    char unit;
    int64_t ns;
} units[] = { { 'n', 1 }, { 'u', 1000 }, { 'm', NS_PER_MS }, { 'S', NS_PER_S }, { 'M', 60 * NS_PER_S }, { 'H', 3600 * NS_PER_S } };

bool timeout_parse(const char *text, int64_t *out_ns)
{
    size_t len = strlen(text);
    uint64_t value;
    if (len < 2 || len > 9 || !num_parse_u64((struct slice){ text, len - 1 }, 99999999, &value))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (units[i].unit == text[len - 1]) {
            *out_ns = (int64_t)value * units[i].ns;
            return true;
        }
    return false;
}

void timeout_format(int64_t ns, char out[24])
{
    size_t i = 0;
    while (i + 1 < ARRAY_LEN(units) && ns / units[i].ns > 99999999)
        i++;
    snprintf(out, 24, "%lld%c", (long long)MIN_OF(ns / units[i].ns, INT64_C(99999999)), units[i].unit);
}

unsigned status_of_http(int status)
{
    static const struct {
        int status;
        enum grpc_code code;
    } known[] = { { 400, GRPC_INTERNAL }, { 401, GRPC_UNAUTHENTICATED }, { 403, GRPC_PERMISSION_DENIED }, { 404, GRPC_UNIMPLEMENTED },
                  { 429, GRPC_UNAVAILABLE }, { 502, GRPC_UNAVAILABLE }, { 503, GRPC_UNAVAILABLE }, { 504, GRPC_UNAVAILABLE } };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (known[i].status == status)
            return known[i].code;
    return GRPC_UNKNOWN;
}

unsigned status_of_reset(uint32_t error_code)
{
    return error_code == NGHTTP2_CANCEL              ? GRPC_CANCELLED
           : error_code == NGHTTP2_REFUSED_STREAM    ? GRPC_UNAVAILABLE
           : error_code == NGHTTP2_ENHANCE_YOUR_CALM ? GRPC_RESOURCE_EXHAUSTED
                                                     : GRPC_INTERNAL;
}
