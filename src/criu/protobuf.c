#include "criu/protobuf.h"

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static void put_varint(struct buf *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        buf_addc(out, (char)(value | 0x80));
    buf_addc(out, (char)value);
}

static void put_key(struct buf *out, unsigned field, enum wire wire)
{
    put_varint(out, (uint64_t)field << 3 | wire);
}

void pb_number(struct buf *out, unsigned field, int64_t value)
{
    put_key(out, field, WIRE_VARINT);
    put_varint(out, (uint64_t)value);
}

void pb_flag(struct buf *out, unsigned field, bool value)
{
    if (value)
        pb_number(out, field, 1);
}

static void put_bytes(struct buf *out, unsigned field, const void *data, size_t size)
{
    put_key(out, field, WIRE_BYTES);
    put_varint(out, size);
    buf_add(out, data, size);
}

void pb_text(struct buf *out, unsigned field, const char *text)
{
    if (text)
        put_bytes(out, field, text, strlen(text));
}

void pb_message(struct buf *out, unsigned field, const struct buf *message)
{
    put_bytes(out, field, buf_text(message), message->size);
}

static bool get_varint(struct slice *rest, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; rest->size && shift < 64; shift += 7) {
        unsigned char byte = (unsigned char)*rest->data;
        *rest = (struct slice){ rest->data + 1, rest->size - 1 };
        *out |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

static bool get_bytes(struct slice *rest, uint64_t size, struct slice *out)
{
    if (size > rest->size)
        return false;
    *out = (struct slice){ rest->data, size };
    *rest = (struct slice){ rest->data + size, rest->size - size };
    return true;
}

int pb_next(struct slice *rest, struct pb_field *out)
{
    uint64_t key, size;
    if (rest->size == 0)
        return 0;
    if (!get_varint(rest, &key) || key >> 3 == 0 || key >> 3 > 0x1fffffff)
        return -1;
    *out = (struct pb_field){ .number = (unsigned)(key >> 3) };
    bool good = false;
    switch (key & 7) {
    case WIRE_VARINT:
        good = get_varint(rest, &out->value);
        break;
    case WIRE_BYTES:
        good = get_varint(rest, &size) && get_bytes(rest, size, &out->bytes);
        break;
    case WIRE_64:
    case WIRE_32: // none of ours: passed over
        good = get_bytes(rest, (key & 7) == WIRE_64 ? 8 : 4, &out->bytes);
        break;
    }
    return good ? 1 : -1;
}
