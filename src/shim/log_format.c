// One line of output as syslog's formats, journald's protocol and Fluentd's have it; GELF is in log_gelf.c.
#include <endian.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "shim/log.h"

enum { SEVERITY_ERROR = 3, SEVERITY_INFO = 6 };

static int severity(const struct log_entry *entry)
{
    return entry->stream == LOG_STDERR ? SEVERITY_ERROR : SEVERITY_INFO;
}

// ---- syslog ---------------------------------------------------------------------------------------------------------

static void add_time(struct buf *out, const char *format, const struct log_entry *entry)
{
    char text[64];
    time_t seconds = (time_t)(entry->time_ns / NS_PER_S);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    strftime(text, sizeof(text), format, &parts);
    buf_adds(out, text);
}

// `format` "" is the C library's own, without a host's name; "rfc3164" has it.
static void add_old_head(const struct task_log *wish, const struct log_entry *entry, struct buf *out)
{
    buf_addf(out, "<%d>", (int)wish->facility * 8 + severity(entry));
    add_time(out, "%b %e %H:%M:%S", entry);
    if (!str_empty(wish->format))
        buf_addf(out, " %s", wish->hostname);
    buf_addf(out, " %s[%d]: ", wish->tag, getpid());
}

static void add_new_head(const struct task_log *wish, const struct log_entry *entry, struct buf *out)
{
    buf_addf(out, "<%d>1 ", (int)wish->facility * 8 + severity(entry));
    add_time(out, "%Y-%m-%dT%H:%M:%S", entry);
    if (str_eq(wish->format, "rfc5424micro"))
        buf_addf(out, ".%06d", (int)(entry->time_ns % NS_PER_S / 1000));
    buf_addf(out, "Z %s %s %d %s - ", wish->hostname, wish->tag, getpid(), wish->tag);
}

static void format_syslog(const struct task_log *wish, const struct log_entry *entry, uint64_t number, struct buf *out)
{
    if (str_empty(wish->format) || str_eq(wish->format, "rfc3164"))
        add_old_head(wish, entry, out);
    else
        add_new_head(wish, entry, out);
    buf_add(out, entry->text.data, entry->text.size);
    buf_addc(out, '\n'); // ends a message on a stream, and does no harm in a datagram
}

// ---- journald -------------------------------------------------------------------------------------------------------

// A value with a line break in it has its size in front: 64 bits, little-endian.
static void add_field(struct buf *out, const char *key, struct slice value)
{
    buf_adds(out, key);
    if (value.size && memchr(value.data, '\n', value.size)) {
        uint64_t size = htole64(value.size);
        buf_addc(out, '\n');
        buf_add(out, &size, sizeof(size));
    } else {
        buf_addc(out, '=');
    }
    buf_add(out, value.data, value.size);
    buf_addc(out, '\n');
}

static void format_journal(const struct task_log *wish, const struct log_entry *entry, uint64_t number, struct buf *out)
{
    add_field(out, "MESSAGE", entry->text);
    add_field(out, "PRIORITY", slice_of(entry->stream == LOG_STDERR ? "3" : "6"));
    add_field(out, "SYSLOG_TIMESTAMP", slice_of(entry->time));
    if (!entry->newline)
        add_field(out, "CONTAINER_PARTIAL_MESSAGE", slice_of("true"));
    for (size_t i = 0; i < wish->fields.len; i++)
        add_field(out, wish->fields.items[i].key, slice_of(wish->fields.items[i].value));
}

// ---- fluentd --------------------------------------------------------------------------------------------------------
//
// A message of its forward protocol: [tag, time, record] in MessagePack, of which four types are enough.

static void add_number(struct buf *out, uint8_t type, uint32_t value)
{
    const uint8_t bytes[] = { type, (uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value };
    buf_add(out, bytes, sizeof(bytes));
}

static void add_str(struct buf *out, struct slice text)
{
    add_number(out, 0xdb, (uint32_t)text.size); // str 32
    buf_add(out, text.data, text.size);
}

static void add_pair(struct buf *out, const char *key, struct slice value)
{
    add_str(out, slice_of(key));
    add_str(out, value);
}

// Whole seconds, or "EventTime", an extension with nanoseconds.
static void add_moment(const struct task_log *wish, const struct log_entry *entry, struct buf *out)
{
    static const uint8_t event_time[] = { 0xd7, 0x00 }; // fixext 8, type 0
    uint32_t seconds = (uint32_t)(entry->time_ns / NS_PER_S), parts[] = { htobe32(seconds), htobe32((uint32_t)(entry->time_ns % NS_PER_S)) };
    if (!wish->precise_time) {
        add_number(out, 0xce, seconds); // uint 32
        return;
    }
    buf_add(out, event_time, sizeof(event_time));
    buf_add(out, parts, sizeof(parts));
}

#define CHUNK_SIZE 16 // of what names a message, in digits that are base64's, too

int log_ack_fits(const uint8_t *bytes, size_t size, uint64_t number)
{
    // A map of one: "ack" and the name, whose size has either of two forms.
    char heads[2][8] = { "\x81\xa3" "ack\xb0", "\x81\xa3" "ack\xd9\x10" }, whole[LOG_ACK_MAX];
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        size_t wanted = (size_t)snprintf(whole, sizeof(whole), "%s%016llx", heads[i], (unsigned long long)number);
        if (memcmp(bytes, whole, MIN_OF(size, wanted)) == 0)
            return size >= wanted;
    }
    return -1;
}

static void add_chunk(uint64_t number, struct buf *out)
{
    char name[CHUNK_SIZE + 1];
    snprintf(name, sizeof(name), "%016llx", (unsigned long long)number);
    buf_addc(out, (char)0x81); // a map of one
    add_pair(out, "chunk", slice_of(name));
}

static void format_fluentd(const struct task_log *wish, const struct log_entry *entry, uint64_t number, struct buf *out)
{
    buf_addc(out, (char)(wish->ack ? 0x94 : 0x93)); // an array of four, or three
    add_str(out, slice_of(wish->tag));
    add_moment(wish, entry, out);
    add_number(out, 0xdf, (uint32_t)wish->fields.len + (entry->newline ? 2 : 3)); // map 32
    for (size_t i = 0; i < wish->fields.len; i++)
        add_pair(out, wish->fields.items[i].key, slice_of(wish->fields.items[i].value));
    add_pair(out, "source", slice_of(entry->stream == LOG_STDERR ? "stderr" : "stdout"));
    add_pair(out, "log", entry->text);
    if (!entry->newline)
        add_pair(out, "partial_message", slice_of("true"));
    if (wish->ack)
        add_chunk(number, out);
}

void log_format(const struct task_log *wish, const struct log_entry *entry, uint64_t number, struct buf *out)
{
    static const struct {
        const char *driver;
        void (*format)(const struct task_log *wish, const struct log_entry *entry, uint64_t number, struct buf *out);
    } formats[] = { { "syslog", format_syslog }, { "journald", format_journal }, { "gelf", gelf_format }, { "fluentd", format_fluentd } };
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (str_eq(wish->driver, formats[i].driver))
            formats[i].format(wish, entry, number, out);
}
