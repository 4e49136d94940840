#include "base/clock.h"
#include "grpc/proto.h"

static void put_varint(struct buf *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        buf_addc(out, (char)(value | 0x80));
    buf_addc(out, (char)value);
}

static void put_number(struct buf *out, unsigned number, uint64_t value)
{
    if (value == 0)
        return;
    put_varint(out, (uint64_t)number << 3);
    put_varint(out, value);
}

static void put_bytes(struct buf *out, unsigned number, const char *data, size_t size)
{
    put_varint(out, (uint64_t)number << 3 | 2);
    put_varint(out, size);
    buf_add(out, data, size);
}

static void put_message(struct buf *out, unsigned number, const struct proto_message *of, const void *in)
{
    _cleanup_buf_ struct buf inner = BUF_INIT(out->ceiling);
    proto_encode(of, in, &inner);
    put_bytes(out, number, buf_text(&inner), inner.size);
    out->overflow |= inner.overflow;
}

static void put_map(struct buf *out, unsigned number, const struct kvs *map)
{
    for (size_t i = 0; i < map->len; i++) {
        _cleanup_buf_ struct buf entry = BUF_INIT(out->ceiling);
        put_bytes(&entry, 1, map->items[i].key, strlen(map->items[i].key));
        put_bytes(&entry, 2, map->items[i].value, strlen(map->items[i].value));
        put_bytes(out, number, buf_text(&entry), entry.size);
        out->overflow |= entry.overflow;
    }
}

static void put_time(struct buf *out, unsigned number, int64_t ns)
{
    if (ns == 0)
        return;
    _cleanup_buf_ struct buf inner = BUF_INIT(64);
    int64_t seconds = ns / NS_PER_S - (ns % NS_PER_S < 0);
    put_number(&inner, 1, (uint64_t)seconds);
    put_number(&inner, 2, (uint64_t)(ns - seconds * NS_PER_S));
    put_bytes(out, number, buf_text(&inner), inner.size);
}

static void put_texts(struct buf *out, unsigned number, const struct strv *list)
{
    for (size_t i = 0; i < list->len; i++)
        put_bytes(out, number, list->items[i], strlen(list->items[i]));
}

static void put_member(struct buf *out, const struct proto_field *row, const void *member)
{
    const struct proto_list *list = member;
    const struct slice *bytes = member;
    const char *text;
    switch (row->type) {
    case PROTO_BOOL:
        put_number(out, row->number, *(const bool *)member);
        break;
    case PROTO_INT32: // negative ones take ten bytes, as the specification has it
        put_number(out, row->number, (uint64_t)(int64_t) * (const int32_t *)member);
        break;
    case PROTO_UINT32:
        put_number(out, row->number, *(const uint32_t *)member);
        break;
    case PROTO_INT64:
    case PROTO_UINT64:
        put_number(out, row->number, *(const uint64_t *)member);
        break;
    case PROTO_TEXT:
        text = *(const char *const *)member;
        if (!str_empty(text))
            put_bytes(out, row->number, text, strlen(text));
        break;
    case PROTO_BYTES:
        if (bytes->size)
            put_bytes(out, row->number, bytes->data, bytes->size);
        break;
    case PROTO_TEXTS:
        put_texts(out, row->number, member);
        break;
    case PROTO_MAP:
        put_map(out, row->number, member);
        break;
    case PROTO_MESSAGE:
        if (*(const void *const *)member)
            put_message(out, row->number, row->of, *(const void *const *)member);
        break;
    case PROTO_MESSAGES:
        for (size_t i = 0; i < list->len; i++)
            put_message(out, row->number, row->of, (const char *)list->items + i * row->of->size);
        break;
    case PROTO_TIME:
        put_time(out, row->number, *(const int64_t *)member);
        break;
    }
}

void proto_encode(const struct proto_message *message, const void *in, struct buf *out)
{
    for (size_t i = 0; i < message->len; i++)
        put_member(out, &message->fields[i], (const char *)in + message->fields[i].offset);
}
