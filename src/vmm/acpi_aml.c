#include "vmm/acpi_aml.h"

enum {
    AML_NAME = 0x08,
    AML_BYTE = 0x0a,
    AML_WORD = 0x0b,
    AML_DWORD = 0x0c,
    AML_STRING = 0x0d,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_METHOD = 0x14,
    AML_EXTENDED = 0x5b,
    AML_EXTENDED_DEVICE = 0x82,
    AML_NOTIFY = 0x86,
};

static void put(struct buf *out, uint64_t value, size_t size)
{
    buf_add(out, &value, size); // little-endian like its host
}

// Package lengths count themselves. All are written in their three-byte form, so that they can be filled in later.
static size_t length_begin(struct buf *out)
{
    size_t mark = out->size;
    put(out, 0, 3);
    return mark;
}

void aml_end(struct buf *out, size_t mark)
{
    if (out->overflow)
        return;
    uint32_t length = (uint32_t)(out->size - mark);
    out->data[mark] = (char)(0x80 | (length & 0xf));
    out->data[mark + 1] = (char)(length >> 4 & 0xff);
    out->data[mark + 2] = (char)(length >> 12 & 0xff);
}

size_t aml_scope(struct buf *out, const char *path)
{
    put(out, AML_SCOPE, 1);
    size_t mark = length_begin(out);
    buf_adds(out, path);
    return mark;
}

size_t aml_device(struct buf *out, const char *name)
{
    put(out, AML_EXTENDED, 1);
    put(out, AML_EXTENDED_DEVICE, 1);
    size_t mark = length_begin(out);
    buf_adds(out, name);
    return mark;
}

size_t aml_method(struct buf *out, const char *name, unsigned args)
{
    put(out, AML_METHOD, 1);
    size_t mark = length_begin(out);
    buf_adds(out, name);
    put(out, args, 1);
    return mark;
}

static void begin_name(struct buf *out, const char *name)
{
    put(out, AML_NAME, 1);
    buf_adds(out, name);
}

void aml_name_string(struct buf *out, const char *name, const char *text)
{
    begin_name(out, name);
    put(out, AML_STRING, 1);
    buf_add(out, text, strlen(text) + 1);
}

static void put_integer(struct buf *out, uint32_t value)
{
    put(out, AML_DWORD, 1);
    put(out, value, 4);
}

void aml_name_integer(struct buf *out, const char *name, uint32_t value)
{
    begin_name(out, name);
    put_integer(out, value);
}

// Three letters in five bits each, four hex digits, most significant byte first.
void aml_name_eisa(struct buf *out, const char *name, const char *id)
{
    uint32_t letters = (uint32_t)(id[0] - '@') << 10 | (uint32_t)(id[1] - '@') << 5 | (uint32_t)(id[2] - '@');
    uint32_t number = (uint32_t)strtoul(id + 3, NULL, 16);
    aml_name_integer(out, name, __builtin_bswap32(letters << 16 | number));
}

void aml_name_package(struct buf *out, const char *name, const uint8_t *bytes, unsigned len)
{
    begin_name(out, name);
    put(out, AML_PACKAGE, 1);
    size_t mark = length_begin(out);
    put(out, len, 1);
    for (unsigned i = 0; i < len; i++) {
        put(out, AML_BYTE, 1);
        put(out, bytes[i], 1);
    }
    aml_end(out, mark);
}

void aml_notify(struct buf *out, const char *path, uint8_t value)
{
    put(out, AML_NOTIFY, 1);
    buf_adds(out, path);
    put(out, AML_BYTE, 1);
    put(out, value, 1);
}

// ---- resource templates: a buffer with its size as a word, then descriptors ----------------------------------------

size_t aml_resources(struct buf *out)
{
    begin_name(out, "_CRS");
    put(out, AML_BUFFER, 1);
    size_t mark = length_begin(out);
    put(out, AML_WORD, 1);
    put(out, 0, 2);
    return mark;
}

void aml_resource_memory(struct buf *out, uint32_t base, uint32_t size)
{
    put(out, 0x86, 1); // 32-bit fixed memory range
    put(out, 9, 2);
    put(out, 1, 1); // read-write
    put(out, base, 4);
    put(out, size, 4);
}

void aml_resource_ports(struct buf *out, uint16_t base, uint8_t len)
{
    put(out, 0x47, 1); // I/O port
    put(out, 1, 1); // 16-bit decode
    put(out, base, 2);
    put(out, base, 2);
    put(out, 1, 1); // alignment
    put(out, len, 1);
}

void aml_resource_interrupt(struct buf *out, uint32_t gsi)
{
    put(out, 0x89, 1); // extended interrupt
    put(out, 6, 2);
    put(out, 0x03, 1); // consumer, edge, active high, exclusive
    put(out, 1, 1);
    put(out, gsi, 4);
}

void aml_resources_end(struct buf *out, size_t mark)
{
    put(out, 0x79, 1); // end tag; a checksum of zero is not checked
    put(out, 0, 1);
    if (!out->overflow) {
        uint16_t size = (uint16_t)(out->size - mark - 6);
        memcpy(out->data + mark + 4, &size, sizeof(size));
    }
    aml_end(out, mark);
}
