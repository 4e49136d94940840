#include <ctype.h>
#include <math.h>
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

bool num_parse_bytes(const char *text, int64_t *out)
{
    static const char units[] = "bkmgtp";
    char *end;
    if (!isdigit((unsigned char)*text))
        return false;
    double number = strtod(text, &end);
    if (!isdigit((unsigned char)end[-1]) || memchr(text, 'x', (size_t)(end - text)) || memchr(text, 'X', (size_t)(end - text)))
        return false;
    if (*end == ' ')
        end++;
    int power = 0;
    if (*end) {
        const char *unit = strchr(units, tolower((unsigned char)*end));
        if (!unit)
            return false;
        power = (int)(unit - units);
        end++;
        if (power && tolower((unsigned char)*end) == 'i')
            end++;
        if (power && tolower((unsigned char)*end) == 'b')
            end++;
    }
    number = ldexp(number, 10 * power);
    if (*end || number >= 9.2e18)
        return false;
    *out = (int64_t)number;
    return true;
}

bool num_parse_duration(const char *text, int64_t *ns)
{
    static const struct {
        const char *word;
        double ns;
    } units[] = { { "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 }, { "m", 60e9 }, { "h", 3600e9 } };
    bool minus = *text == '-';
    double total = 0;
    text += *text == '-' || *text == '+';
    if (str_eq(text, "0")) {
        *ns = 0;
        return true;
    }
    if (!*text)
        return false;
    while (*text) {
        char *end;
        if (!isdigit((unsigned char)*text) && *text != '.')
            return false;
        double number = strtod(text, &end);
        size_t size = strspn(end, "nuµmsh"), i = 0;
        while (i < ARRAY_LEN(units) && (strlen(units[i].word) != size || memcmp(units[i].word, end, size) != 0))
            i++;
        if (i == ARRAY_LEN(units))
            return false;
        total += number * units[i].ns;
        text = end + size;
    }
    if (total >= 9.2e18)
        return false;
    *ns = (int64_t)(minus ? -total : total);
    return true;
}
