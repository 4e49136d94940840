#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/num.h"

#define GO_ZERO_TIME "0001-01-01T00:00:00Z"

static int64_t read_clock(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t clock_wall_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

int64_t clock_mono_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

// Splits into whole seconds and a fraction that is never negative, also before 1970.
static int split(int64_t wall_ns, char out[CLOCK_TEXT_SIZE], int64_t *fraction)
{
    int64_t seconds = wall_ns / NS_PER_S;
    *fraction = wall_ns % NS_PER_S;
    if (*fraction < 0) {
        *fraction += NS_PER_S;
        seconds--;
    }
    time_t when = (time_t)seconds;
    struct tm parts;
    gmtime_r(&when, &parts);
    return (int)strftime(out, CLOCK_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &parts);
}

void clock_format_fixed(int64_t wall_ns, char out[CLOCK_TEXT_SIZE])
{
    int64_t fraction;
    int len = split(wall_ns, out, &fraction);
    snprintf(out + len, (size_t)(CLOCK_TEXT_SIZE - len), ".%09lldZ", (long long)fraction);
}

void clock_format(int64_t wall_ns, char out[CLOCK_TEXT_SIZE])
{
    int64_t fraction;
    if (wall_ns == 0) {
        snprintf(out, CLOCK_TEXT_SIZE, GO_ZERO_TIME);
        return;
    }
    int len = split(wall_ns, out, &fraction);
    if (fraction) {
        len += snprintf(out + len, (size_t)(CLOCK_TEXT_SIZE - len), ".%09lld", (long long)fraction);
        while (out[len - 1] == '0')
            len--;
    }
    snprintf(out + len, (size_t)(CLOCK_TEXT_SIZE - len), "Z");
}

// ---- parsing --------------------------------------------------------------------------------------------------------

static bool take_number(struct slice *text, size_t digits, int max, int *out)
{
    uint64_t value;
    if (text->size < digits || !num_parse_u64((struct slice){ text->data, digits }, (uint64_t)max, &value))
        return false;
    *text = (struct slice){ text->data + digits, text->size - digits };
    *out = (int)value;
    return true;
}

static bool take_char(struct slice *text, const char *any_of)
{
    if (!text->size || !text->data[0] || !strchr(any_of, text->data[0]))
        return false;
    *text = (struct slice){ text->data + 1, text->size - 1 };
    return true;
}

static bool take_fraction(struct slice *text, int64_t *ns)
{
    int64_t unit = NS_PER_S;
    size_t digits = 0;
    for (; text->size && text->data[0] >= '0' && text->data[0] <= '9'; digits++) {
        unit /= 10;
        *ns += (text->data[0] - '0') * unit;
        *text = (struct slice){ text->data + 1, text->size - 1 };
    }
    return digits > 0;
}

static bool take_offset(struct slice *text, int64_t *seconds)
{
    int hours, minutes;
    if (take_char(text, "Zz"))
        return true;
    bool west = text->size && text->data[0] == '-';
    if (!take_char(text, "+-") || !take_number(text, 2, 23, &hours) || !take_char(text, ":") ||
        !take_number(text, 2, 59, &minutes))
        return false;
    *seconds = (hours * 60 + minutes) * 60 * (west ? -1 : 1);
    return true;
}

static bool take_date_and_time(struct slice *text, struct tm *out)
{
    struct tm parts = { 0 };
    if (!take_number(text, 4, 9999, &parts.tm_year) || !take_char(text, "-") ||
        !take_number(text, 2, 12, &parts.tm_mon) || !take_char(text, "-") || !take_number(text, 2, 31, &parts.tm_mday) ||
        !take_char(text, "Tt ") || !take_number(text, 2, 23, &parts.tm_hour) || !take_char(text, ":") ||
        !take_number(text, 2, 59, &parts.tm_min) || !take_char(text, ":") || !take_number(text, 2, 59, &parts.tm_sec))
        return false;
    if (parts.tm_mon == 0 || parts.tm_mday == 0)
        return false;
    parts.tm_year -= 1900;
    parts.tm_mon -= 1;
    *out = parts;
    return true;
}

bool clock_parse(struct slice text, int64_t *wall_ns)
{
    struct tm parts;
    int64_t fraction = 0, offset = 0, total;
    if (slice_eq(text, GO_ZERO_TIME)) {
        *wall_ns = 0;
        return true;
    }
    if (!take_date_and_time(&text, &parts) || (take_char(&text, ".") && !take_fraction(&text, &fraction)) ||
        !take_offset(&text, &offset) || text.size)
        return false;
    int day = parts.tm_mday;
    int64_t seconds = timegm(&parts);
    if (parts.tm_mday != day) // it made 3 March of 31 February
        return false;
    if (__builtin_mul_overflow(seconds - offset, NS_PER_S, &total) || __builtin_add_overflow(total, fraction, &total))
        return false;
    *wall_ns = total;
    return true;
}
