#include <stdarg.h>

#include "vmm/state.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "state and rings are written as they lie in memory");

// ---- writing --------------------------------------------------------------------------------------------------------

void state_put_bytes(struct state_writer *writer, const void *data, size_t size)
{
    buf_add(writer->out, data, size);
}

void state_put8(struct state_writer *writer, uint8_t value)
{
    state_put_bytes(writer, &value, sizeof(value));
}

void state_put16(struct state_writer *writer, uint16_t value)
{
    state_put_bytes(writer, &value, sizeof(value));
}

void state_put32(struct state_writer *writer, uint32_t value)
{
    state_put_bytes(writer, &value, sizeof(value));
}

void state_put64(struct state_writer *writer, uint64_t value)
{
    state_put_bytes(writer, &value, sizeof(value));
}

void state_put_blob(struct state_writer *writer, const void *data, uint32_t size)
{
    state_put32(writer, size);
    state_put_bytes(writer, data, size);
}

void state_begin(struct state_writer *writer, const char *name, uint16_t version)
{
    size_t size = strnlen(name, STATE_NAME_MAX);
    state_put8(writer, (uint8_t)size);
    state_put_bytes(writer, name, size);
    state_put16(writer, version);
}

// ---- reading --------------------------------------------------------------------------------------------------------

struct state_reader state_open(const void *data, size_t size, struct err *err)
{
    return (struct state_reader){ .data = data, .size = size, .section = "saved state", .err = err };
}

void state_fail(struct state_reader *reader, const char *fmt, ...)
{
    if (reader->failed)
        return;
    reader->failed = true;
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    err_set(reader->err, ERR_INVALID_ARGUMENT, "saved state of %s: %s", reader->section, text);
}

void state_get_bytes(struct state_reader *reader, void *out, size_t size)
{
    if (!reader->failed && size > reader->size - reader->at)
        state_fail(reader, "%zu bytes expected, %zu left", size, reader->size - reader->at);
    if (reader->failed) {
        memset(out, 0, size);
        return;
    }
    if (size)
        memcpy(out, reader->data + reader->at, size);
    reader->at += size;
}

uint8_t state_get8(struct state_reader *reader)
{
    uint8_t value;
    state_get_bytes(reader, &value, sizeof(value));
    return value;
}

uint16_t state_get16(struct state_reader *reader)
{
    uint16_t value;
    state_get_bytes(reader, &value, sizeof(value));
    return value;
}

uint32_t state_get32(struct state_reader *reader)
{
    uint32_t value;
    state_get_bytes(reader, &value, sizeof(value));
    return value;
}

uint64_t state_get64(struct state_reader *reader)
{
    uint64_t value;
    state_get_bytes(reader, &value, sizeof(value));
    return value;
}

uint32_t state_get_blob(struct state_reader *reader, void *out, uint32_t size_max)
{
    uint32_t size = state_get32(reader);
    if (size > size_max) {
        state_fail(reader, "%u bytes where at most %u belong", size, size_max);
        return 0;
    }
    state_get_bytes(reader, out, size);
    return reader->failed ? 0 : size;
}

uint16_t state_enter(struct state_reader *reader, const char *name, uint16_t version_max)
{
    reader->section = name;
    char found[STATE_NAME_MAX + 1] = "";
    uint8_t size = state_get8(reader);
    if (size > STATE_NAME_MAX)
        state_fail(reader, "no section begins here");
    else
        state_get_bytes(reader, found, size);
    if (!reader->failed && !str_eq(found, name)) {
        for (char *c = found; *c; c++)
            *c = *c >= ' ' && *c <= '~' ? *c : '?';
        state_fail(reader, "section \"%s\" found instead", found);
    }
    uint16_t version = state_get16(reader);
    if (!reader->failed && (version == 0 || version > version_max))
        state_fail(reader, "version %u, known are 1 to %u", version, version_max);
    return reader->failed ? 0 : version;
}

int state_check(const struct state_reader *reader)
{
    return reader->failed ? -1 : 0;
}

int state_finish(struct state_reader *reader)
{
    if (!reader->failed && reader->at != reader->size)
        state_fail(reader, "%zu bytes follow the last section", reader->size - reader->at);
    return state_check(reader);
}
