// Reading what a request says: body, numbers, times, detach keys.
#include <ctype.h>
#include <gnutls/gnutls.h>
#include <strings.h>

#include "api_private.h"

// ---- the body -------------------------------------------------------------------------------------------------------

int body_check_type(const char *content_type, struct err *err)
{
    struct slice rest = slice_of(content_type ? content_type : ""), type;
    slice_cut(&rest, ';', &type);
    type = slice_trim(type);
    if (type.size == strlen("application/json") && strncasecmp(type.data, "application/json", type.size) == 0)
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "unsupported Content-Type header (%.200s): must be 'application/json'",
                   content_type ? content_type : "");
}

int body_json(struct call *call, json_t **out, struct err *err)
{
    size_t size;
    const char *text = httpd_body_text(call->request, &size);
    struct err detail = { 0 };
    if (size == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid JSON: got EOF while reading request body");
    if (body_check_type(httpd_header(call->request, "Content-Type"), err) < 0)
        return -1;
    if (json_parse_unclamped(text, size, out, &detail) < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s", detail.message);
    return 0;
}

char *base64_text(const void *data, size_t size, struct arena *arena)
{
    const gnutls_datum_t in = { (unsigned char *)data, (unsigned)size };
    gnutls_datum_t out = { 0 };
    char *text = gnutls_base64_encode2(&in, &out) == 0 ? arena_strndup(arena, (const char *)out.data, out.size) : arena_strdup(arena, "");
    gnutls_free(out.data);
    return text;
}

// ---- numbers --------------------------------------------------------------------------------------------------------

int query_int(const struct call *call, const char *key, int64_t fallback, int64_t *out, struct err *err)
{
    const char *text = httpd_query(call->request, key);
    *out = fallback;
    if (!str_empty(text) && !num_parse_i64(slice_of(text), out))
        return err_set(err, ERR_INVALID_ARGUMENT, "strconv.Atoi: parsing \"%.100s\": invalid syntax", text);
    return 0;
}

int query_size(const struct call *call, const char *key, int64_t *out, struct err *err)
{
    uint64_t value;
    const char *text = httpd_query(call->request, key);
    if (!num_parse_u64(slice_of(text ? text : ""), UINT16_MAX, &value))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid resize %s \"%.100s\": must be a number from 0 to 65535",
                       str_eq(key, "h") ? "height" : "width", text ? text : "");
    *out = (int64_t)value;
    return 0;
}

// A negative time is for ever; a very long one is as good. No time is the container's own.
int64_t stop_seconds(int64_t asked)
{
    enum { TEN_YEARS_S = 315360000 };
    return asked < 0 || asked > TEN_YEARS_S ? TEN_YEARS_S : asked;
}

// ---- times ----------------------------------------------------------------------------------------------------------

int time_parse(const char *text, int64_t *out_ns)
{
    struct slice rest = slice_of(text), seconds;
    uint64_t whole, fraction = 0;
    *out_ns = 0;
    if (!slice_cut(&rest, '.', &seconds) || !num_parse_u64(seconds, INT64_MAX / NS_PER_S - 1, &whole))
        return -1;
    if (rest.data) {
        if (rest.size == 0 || rest.size > 9 || !num_parse_u64(rest, NS_PER_S, &fraction))
            return -1;
        for (size_t digits = rest.size; digits < 9; digits++)
            fraction *= 10;
    }
    *out_ns = (int64_t)whole * NS_PER_S + (int64_t)fraction;
    return 0;
}

// Go's durations: numbers with units, "1h30m" or "1.5s".
static bool parse_duration(const char *text, int64_t *out_ns)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = { { "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 }, { "m", 60e9 }, { "h", 3600e9 } };
    double sum = 0;
    const char *at = text;
    while (*at) {
        size_t digits = strspn(at, "0123456789."), letters = strspn(at + digits, "nusmh"), i = 0;
        char number[24];
        if (digits == 0 || digits >= sizeof(number) || strchr(".", at[0]))
            return false;
        memcpy(number, at, digits);
        number[digits] = 0;
        while (i < ARRAY_LEN(units) && (strlen(units[i].name) != letters || strncmp(units[i].name, at + digits, letters) != 0))
            i++;
        char *end;
        double value = strtod(number, &end);
        if (i == ARRAY_LEN(units) || *end)
            return false;
        sum += value * units[i].ns;
        at += digits + letters;
    }
    *out_ns = (int64_t)MIN_OF(sum, 9e18);
    return at != text;
}

int until_parse(const char *text, int64_t *out_ns, struct err *err)
{
    int64_t ago_ns;
    if (time_parse(text, out_ns) == 0 || clock_parse(slice_of(text), out_ns))
        return 0;
    if (!parse_duration(text, &ago_ns))
        return err_set(err, ERR_INVALID_ARGUMENT, "failed to parse value as time or duration: \"%.100s\"", text);
    *out_ns = MAX_OF(clock_wall_ns() - ago_ns, INT64_C(1));
    return 0;
}

int query_time(const struct call *call, const char *key, int64_t *out_ns, struct err *err)
{
    const char *text = httpd_query(call->request, key);
    *out_ns = 0;
    if (!str_empty(text) && time_parse(text, out_ns) < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid value for \"%s\": failed to parse value as time: %.100s",
                       key, text);
    return 0;
}

// ---- streams --------------------------------------------------------------------------------------------------------

static bool is_detach_key(struct slice key)
{
    if (key.size == 1)
        return true;
    if (key.size != 6 || !slice_starts(key, "ctrl-"))
        return false;
    char c = key.data[5];
    return (c >= 'a' && c <= 'z') || strchr("@[\\]^_", c);
}

int detach_keys_check(const char *keys, struct err *err)
{
    struct slice rest = slice_of(keys), key;
    if (str_empty(keys))
        return 0;
    while (slice_cut(&rest, ',', &key))
        if (!is_detach_key(key))
            return err_set(err, ERR_INVALID_ARGUMENT, "Invalid escape keys (%.100s) provided", keys);
    return 0;
}

// Old clients know one type only, although they get frames as well. A hijack that is no upgrade is always raw.
const char *stream_type(const struct call *call, bool terminal, bool hijack)
{
    bool multiplexed = !terminal && call->version >= 42 && (!hijack || httpd_upgrade(call->request));
    return multiplexed ? "application/vnd.docker.multiplexed-stream" : "application/vnd.docker.raw-stream";
}
