#include <sys/random.h>

#include "base/num.h"

static bool parse(struct slice text, unsigned base, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    if (text.size == 0)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 99;
        if (digit >= base || __builtin_mul_overflow(value, (uint64_t)base, &value) ||
            __builtin_add_overflow(value, (uint64_t)digit, &value) || value > max)
            return false;
    }
    *out = value;
    return true;
}

bool num_parse_u64(struct slice text, uint64_t max, uint64_t *out)
{
    return parse(text, 10, max, out);
}

bool num_parse_octal(struct slice text, uint64_t max, uint64_t *out)
{
    return parse(text, 8, max, out);
}

bool num_parse_hex(struct slice text, uint64_t *out)
{
    return parse(text, 16, UINT64_MAX, out);
}

bool num_parse_i64(struct slice text, int64_t *out)
{
    bool negative = text.size > 0 && text.data[0] == '-';
    uint64_t magnitude;
    if (negative)
        text = (struct slice){ text.data + 1, text.size - 1 };
    if (!parse(text, 10, negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX, &magnitude))
        return false;
    *out = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

void hex_encode(const void *data, size_t size, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * size] = 0;
}

bool hex_valid(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (!((text.data[i] >= '0' && text.data[i] <= '9') || (text.data[i] >= 'a' && text.data[i] <= 'f')))
            return false;
    return text.size > 0;
}

void random_bytes(void *data, size_t size)
{
    for (size_t got = 0; got < size;) {
        ssize_t n = getrandom((char *)data + got, size - got, 0);
        if (n > 0)
            got += (size_t)n;
    }
}

void random_hex(char *out, size_t digits)
{
    unsigned char bytes[64];
    char text[2 * sizeof(bytes) + 1];
    for (size_t done = 0; done < digits;) {
        size_t part = MIN_OF(digits - done, 2 * sizeof(bytes));
        random_bytes(bytes, sizeof(bytes));
        hex_encode(bytes, sizeof(bytes), text);
        memcpy(out + done, text, part);
        done += part;
    }
    out[digits] = 0;
}
