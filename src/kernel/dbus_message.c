#include <stdio.h>

#include "kernel/dbus_message.h"

#define FIELDS_MAX 64

enum field {
    FIELD_PATH = 1,
    FIELD_INTERFACE,
    FIELD_MEMBER,
    FIELD_ERROR_NAME,
    FIELD_REPLY_SERIAL,
    FIELD_DESTINATION,
    FIELD_SENDER,
    FIELD_SIGNATURE
};

// ---- writing --------------------------------------------------------------------------------------------------------

static void align(struct buf *body, size_t alignment)
{
    while (body->size % alignment && !body->overflow)
        buf_addc(body, '\0');
}

static void store_u32(uint8_t out[4], uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(value >> 8 * i);
}

void dbus_put_u8(struct buf *body, uint8_t value)
{
    buf_add(body, &value, 1);
}

void dbus_put_u32(struct buf *body, uint32_t value)
{
    uint8_t bytes[4];
    align(body, 4);
    store_u32(bytes, value);
    buf_add(body, bytes, 4);
}

void dbus_put_u64(struct buf *body, uint64_t value)
{
    align(body, 8);
    dbus_put_u32(body, (uint32_t)value);
    dbus_put_u32(body, (uint32_t)(value >> 32));
}

void dbus_put_flag(struct buf *body, bool value)
{
    dbus_put_u32(body, value);
}

void dbus_put_text(struct buf *body, const char *text)
{
    size_t size = strlen(text);
    dbus_put_u32(body, (uint32_t)size);
    buf_add(body, text, size + 1);
}

void dbus_put_signature(struct buf *body, const char *signature)
{
    size_t size = strlen(signature);
    dbus_put_u8(body, (uint8_t)MIN_OF(size, (size_t)255));
    buf_add(body, signature, size + 1);
}

void dbus_put_struct(struct buf *body)
{
    align(body, 8);
}

size_t dbus_open_array(struct buf *body, size_t item_alignment)
{
    dbus_put_u32(body, 0);
    size_t opened = body->size;
    align(body, item_alignment); // does not count as the array's
    return opened;
}

void dbus_close_array(struct buf *body, size_t opened, size_t item_alignment)
{
    if (body->overflow)
        return;
    size_t first = (opened + item_alignment - 1) / item_alignment * item_alignment;
    store_u32((uint8_t *)body->data + opened - 4, (uint32_t)(body->size - first));
}

static void put_field(struct buf *out, enum field field, const char *signature, const char *text)
{
    if (str_empty(text))
        return;
    dbus_put_struct(out);
    dbus_put_u8(out, (uint8_t)field);
    dbus_put_signature(out, signature);
    if (str_eq(signature, "g"))
        dbus_put_signature(out, text);
    else
        dbus_put_text(out, text);
}

int dbus_write_call(const struct dbus_call *call, uint32_t serial, const struct buf *body, struct buf *out,
                    struct err *err)
{
    _cleanup_buf_ struct buf head = BUF_INIT(DBUS_MESSAGE_MAX); // offsets count from the message's first byte
    const uint8_t first[4] = { 'l', DBUS_METHOD_CALL, 0, 1 }; // little-endian, no flags, version 1
    if (body->overflow || strlen(call->signature) > 255)
        return err_set(err, ERR_INVALID_ARGUMENT, "D-Bus call %s is too large", call->member);
    buf_add(&head, first, sizeof(first));
    dbus_put_u32(&head, (uint32_t)body->size);
    dbus_put_u32(&head, serial);
    size_t fields = dbus_open_array(&head, 8);
    put_field(&head, FIELD_PATH, "o", call->path);
    put_field(&head, FIELD_INTERFACE, "s", call->interface);
    put_field(&head, FIELD_MEMBER, "s", call->member);
    put_field(&head, FIELD_DESTINATION, "s", call->destination);
    put_field(&head, FIELD_SIGNATURE, "g", call->signature);
    dbus_close_array(&head, fields, 8);
    align(&head, 8);
    buf_add(out, head.data, head.size);
    buf_add(out, body->data, body->size);
    return buf_check(out, "D-Bus call", err);
}

// ---- reading --------------------------------------------------------------------------------------------------------

static const uint8_t *take(struct dbus_reader *reader, size_t alignment, size_t size)
{
    size_t at = (reader->at + alignment - 1) / alignment * alignment;
    if (reader->failed || at > reader->size || size > reader->size - at) {
        reader->failed = true;
        return NULL;
    }
    reader->at = at + size;
    return reader->data + at;
}

static uint32_t load_u32(const uint8_t *bytes, bool big_endian)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++)
        value |= (uint32_t)bytes[i] << 8 * (big_endian ? 3 - i : i);
    return value;
}

uint8_t dbus_get_u8(struct dbus_reader *reader)
{
    const uint8_t *byte = take(reader, 1, 1);
    return byte ? *byte : 0;
}

uint32_t dbus_get_u32(struct dbus_reader *reader)
{
    const uint8_t *bytes = take(reader, 4, 4);
    return bytes ? load_u32(bytes, reader->big_endian) : 0;
}

// Bytes that end in a NUL, which is not counted, and have no other.
static const char *get_chars(struct dbus_reader *reader, size_t size)
{
    const uint8_t *text = reader->failed || size >= DBUS_MESSAGE_MAX ? NULL : take(reader, 1, size + 1);
    if (!text || text[size] != '\0' || memchr(text, '\0', size)) {
        reader->failed = true;
        return "";
    }
    return (const char *)text;
}

const char *dbus_get_text(struct dbus_reader *reader)
{
    return get_chars(reader, dbus_get_u32(reader));
}

const char *dbus_get_signature(struct dbus_reader *reader)
{
    return get_chars(reader, dbus_get_u8(reader));
}

// Passes over one value of a type that is a single letter; what holds others ends the reading.
static void skip(struct dbus_reader *reader, const char *signature)
{
    static const struct {
        char letter;
        uint8_t size;
    } plain[] = { { 'y', 1 }, { 'b', 4 }, { 'n', 2 }, { 'q', 2 }, { 'i', 4 },
                  { 'u', 4 }, { 'h', 4 }, { 'x', 8 }, { 't', 8 }, { 'd', 8 } };
    for (size_t i = 0; signature[0] && !signature[1] && i < ARRAY_LEN(plain); i++) {
        if (signature[0] == plain[i].letter) {
            take(reader, plain[i].size, plain[i].size);
            return;
        }
    }
    if (str_eq(signature, "s") || str_eq(signature, "o"))
        dbus_get_text(reader);
    else if (str_eq(signature, "g"))
        dbus_get_signature(reader);
    else
        reader->failed = true;
}

static void read_field(struct dbus_reader *reader, struct dbus_message *out)
{
    static const struct {
        enum field field;
        const char *signature;
        size_t offset;
    } texts[] = {
        { FIELD_PATH, "o", offsetof(struct dbus_message, path) },
        { FIELD_INTERFACE, "s", offsetof(struct dbus_message, interface) },
        { FIELD_MEMBER, "s", offsetof(struct dbus_message, member) },
        { FIELD_ERROR_NAME, "s", offsetof(struct dbus_message, error_name) },
        { FIELD_SENDER, "s", offsetof(struct dbus_message, sender) },
        { FIELD_SIGNATURE, "g", offsetof(struct dbus_message, signature) },
    };
    take(reader, 8, 0);
    uint8_t field = dbus_get_u8(reader);
    const char *signature = dbus_get_signature(reader);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (field != texts[i].field || !str_eq(signature, texts[i].signature))
            continue;
        const char *text = *signature == 'g' ? dbus_get_signature(reader) : dbus_get_text(reader);
        *(const char **)((char *)out + texts[i].offset) = text;
        return;
    }
    if (field == FIELD_REPLY_SERIAL && str_eq(signature, "u"))
        out->reply_serial = dbus_get_u32(reader);
    else
        skip(reader, signature);
}

static size_t body_offset(uint32_t field_size)
{
    return (DBUS_HEAD_SIZE + (size_t)field_size + 7) / 8 * 8;
}

size_t dbus_message_size(const uint8_t *head)
{
    bool big_endian = head[0] == 'B';
    uint32_t body = load_u32(head + 4, big_endian), fields = load_u32(head + 12, big_endian);
    if ((head[0] != 'l' && head[0] != 'B') || head[3] != 1 || body > DBUS_MESSAGE_MAX || fields > DBUS_MESSAGE_MAX)
        return 0;
    size_t size = body_offset(fields) + body;
    return size > DBUS_MESSAGE_MAX ? 0 : size;
}

int dbus_message_parse(const uint8_t *data, size_t size, struct dbus_message *out, struct err *err)
{
    if (size < DBUS_HEAD_SIZE || dbus_message_size(data) != size)
        return err_set(err, ERR_INVALID_ARGUMENT, "not a D-Bus message");
    struct dbus_reader reader = { .data = data, .size = size, .at = 8, .big_endian = data[0] == 'B' };
    *out = (struct dbus_message){
        .type = data[1], .path = "", .interface = "", .member = "", .error_name = "", .sender = "", .signature = ""
    };
    out->serial = dbus_get_u32(&reader);
    uint32_t field_size = dbus_get_u32(&reader);
    size_t body = body_offset(field_size);
    reader.size = DBUS_HEAD_SIZE + field_size; // fields end where the head says
    for (int i = 0; reader.at < reader.size && !reader.failed; i++) {
        if (i == FIELDS_MAX)
            return err_set(err, ERR_INVALID_ARGUMENT, "a D-Bus message has more than %d header fields", FIELDS_MAX);
        read_field(&reader, out);
    }
    if (reader.failed)
        return err_set(err, ERR_INVALID_ARGUMENT, "a D-Bus message's header is malformed");
    out->body = (struct dbus_reader){ .data = data + body, .size = size - body, .big_endian = reader.big_endian };
    return 0;
}
