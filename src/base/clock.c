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

// ---- the calendar: Gregorian, UTC. By hand, because the C library's reads the time zone's file first ----------------

struct date {
    int64_t year;
    int month, day; // from 1
    int hour, minute, second;
};

// From 1970 to the first of January.
static int64_t days_until(int64_t year)
{
    int64_t last = year - 1;
    return 365 * (year - 1970) + (last / 4 - last / 100 + last / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400);
}

static int month_days(int64_t year, int month)
{
    static const int8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

static int64_t seconds_of(const struct date *date)
{
    int64_t days = days_until(date->year) + date->day - 1;
    for (int month = 1; month < date->month; month++)
        days += month_days(date->year, month);
    return ((days * 24 + date->hour) * 60 + date->minute) * 60 + date->second;
}

static void date_of(int64_t seconds, struct date *out)
{
    int64_t days = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    int64_t year = 1970 + days / (days < 0 ? 365 : 366) - 1; // not later than it is
    while (days_until(year + 1) <= days)
        year++;
    *out = (struct date){ .year = year, .month = 1, .day = (int)(days - days_until(year)) + 1, .hour = (int)(rest / 3600),
                          .minute = (int)(rest / 60 % 60), .second = (int)(rest % 60) };
    for (; out->day > month_days(year, out->month); out->month++)
        out->day -= month_days(year, out->month);
}

// ---- text -----------------------------------------------------------------------------------------------------------

// Splits into whole seconds and a fraction that is never negative, also before 1970.
static int split(int64_t wall_ns, char out[CLOCK_TEXT_SIZE], int64_t *fraction)
{
    int64_t seconds = wall_ns / NS_PER_S;
    *fraction = wall_ns % NS_PER_S;
    if (*fraction < 0) {
        *fraction += NS_PER_S;
        seconds--;
    }
    struct date date;
    date_of(seconds, &date);
    return snprintf(out, CLOCK_TEXT_SIZE, "%04lld-%02d-%02dT%02d:%02d:%02d", (long long)date.year, date.month, date.day, date.hour,
                    date.minute, date.second);
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

static bool take_date_and_time(struct slice *text, struct date *out)
{
    int year;
    if (!take_number(text, 4, 9999, &year) || !take_char(text, "-") || !take_number(text, 2, 12, &out->month) || !take_char(text, "-") ||
        !take_number(text, 2, 31, &out->day) || !take_char(text, "Tt ") || !take_number(text, 2, 23, &out->hour) ||
        !take_char(text, ":") || !take_number(text, 2, 59, &out->minute) || !take_char(text, ":") ||
        !take_number(text, 2, 59, &out->second))
        return false;
    out->year = year;
    return year > 0 && out->month > 0 && out->day > 0 && out->day <= month_days(year, out->month);
}

// Digits after the point without zeros at their end.
static size_t put_fraction(char *out, size_t room, int64_t whole, int64_t rest, int64_t unit, const char *name)
{
    char digits[10] = "";
    size_t len = 0;
    for (int64_t part = unit / 10; rest && part; part /= 10) {
        digits[len++] = (char)('0' + rest / part);
        rest %= part;
    }
    digits[len] = 0;
    return (size_t)snprintf(out, room, "%lld%s%s%s", (long long)whole, len ? "." : "", digits, name);
}

void clock_duration(int64_t ns, char out[32])
{
    const int64_t minute = 60 * NS_PER_S, hour = 60 * minute;
    size_t used = 0;
    if (ns == 0 || ns >= NS_PER_S) {
        if (ns >= hour)
            used += (size_t)snprintf(out + used, 32 - used, "%lldh", (long long)(ns / hour));
        if (ns >= minute)
            used += (size_t)snprintf(out + used, 32 - used, "%lldm", (long long)(ns % hour / minute));
        put_fraction(out + used, 32 - used, ns % minute / NS_PER_S, ns % NS_PER_S, NS_PER_S, "s");
        return;
    }
    int64_t unit = ns >= NS_PER_MS ? NS_PER_MS : ns >= 1000 ? 1000 : 1;
    put_fraction(out, 32, ns / unit, ns % unit, unit, unit == NS_PER_MS ? "ms" : unit == 1000 ? "µs" : "ns");
}

bool clock_parse(struct slice text, int64_t *wall_ns)
{
    struct date date;
    int64_t fraction = 0, offset = 0, total;
    if (slice_eq(text, GO_ZERO_TIME)) {
        *wall_ns = 0;
        return true;
    }
    if (!take_date_and_time(&text, &date) || (take_char(&text, ".") && !take_fraction(&text, &fraction)) ||
        !take_offset(&text, &offset) || text.size)
        return false;
    if (__builtin_mul_overflow(seconds_of(&date) - offset, NS_PER_S, &total) || __builtin_add_overflow(total, fraction, &total))
        return false;
    *wall_ns = total;
    return true;
}
