#include "base/clock.h"
#include "grpc/proto.h"

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_GROUP = 3, WIRE_GROUP_END = 4, WIRE_FIXED32 = 5 };

struct decoding {
    struct arena *arena;
    struct err *err;
    size_t items; // of lists and maps, so far
    unsigned depth;
};

// One field as it stands on the wire.
struct field {
    unsigned number;
    enum wire wire;
    uint64_t value; // VARINT
    struct slice bytes; // BYTES
};

static int bad(const struct decoding *decoding, const char *what)
{
    return err_set(decoding->err, ERR_INVALID_ARGUMENT, "protobuf: %s", what);
}

// ---- the wire -------------------------------------------------------------------------------------------------------

static bool take_varint(struct slice *rest, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < rest->size && i < 10; i++) {
        uint8_t byte = (uint8_t)rest->data[i];
        if (i == 9 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte & 0x80)
            continue;
        rest->data += i + 1;
        rest->size -= i + 1;
        *out = value;
        return true;
    }
    return false;
}

static bool take_bytes(struct slice *rest, uint64_t size, struct slice *out)
{
    if (size > rest->size)
        return false;
    *out = (struct slice){ rest->data, (size_t)size };
    rest->data += size;
    rest->size -= (size_t)size;
    return true;
}

// 1: a field; 0: the end; -1: no message. Groups are of proto2's youth: nobody sends them.
static int take_field(struct slice *rest, struct field *out)
{
    uint64_t tag, size;
    if (rest->size == 0)
        return 0;
    if (!take_varint(rest, &tag) || tag >> 3 == 0 || tag > UINT32_MAX)
        return -1;
    *out = (struct field){ .number = (unsigned)(tag >> 3), .wire = (enum wire)(tag & 7) };
    switch (out->wire) {
    case WIRE_VARINT:
        return take_varint(rest, &out->value) ? 1 : -1;
    case WIRE_BYTES:
        return take_varint(rest, &size) && take_bytes(rest, size, &out->bytes) ? 1 : -1;
    case WIRE_FIXED64:
        return take_bytes(rest, 8, &out->bytes) ? 1 : -1;
    case WIRE_FIXED32:
        return take_bytes(rest, 4, &out->bytes) ? 1 : -1;
    default:
        return -1;
    }
}

// How many fields of that number stand in the bytes, which have been gone through once.
static size_t count(struct slice bytes, unsigned number)
{
    struct field field;
    size_t len = 0;
    while (take_field(&bytes, &field) > 0)
        len += field.number == number;
    return len;
}

// ---- members --------------------------------------------------------------------------------------------------------

static int decode(struct decoding *decoding, struct slice bytes, const struct proto_message *message, void *out);

static int to_text(struct decoding *decoding, struct slice bytes, char **out)
{
    if (memchr(bytes.data, 0, bytes.size))
        return bad(decoding, "a text with a NUL byte");
    *out = arena_strndup(decoding->arena, bytes.data, bytes.size);
    return 0;
}

// The list's array is made with its first item, for all that follow: the message is known to its end.
static int room_for(struct decoding *decoding, const struct field *field, struct slice rest, size_t item_size, void **items, size_t spare)
{
    if (*items)
        return 0;
    size_t len = 1 + count(rest, field->number);
    decoding->items += len;
    if (decoding->items > PROTO_ITEMS_MAX)
        return err_set(decoding->err, ERR_RESOURCE_EXHAUSTED, "protobuf: more than %d items", PROTO_ITEMS_MAX);
    *items = arena_alloc(decoding->arena, (len + spare) * item_size);
    return 0;
}

static int add_text(struct decoding *decoding, const struct field *field, struct slice rest, struct strv *list)
{
    if (room_for(decoding, field, rest, sizeof(char *), (void **)&list->items, 1) < 0)
        return -1;
    return to_text(decoding, field->bytes, &list->items[list->len++]);
}

static int add_pair(struct decoding *decoding, const struct field *field, struct slice rest, struct kvs *map)
{
    struct slice entry = field->bytes;
    struct field part;
    if (room_for(decoding, field, rest, sizeof(struct kv), (void **)&map->items, 0) < 0)
        return -1;
    char *key = NULL, *value = NULL;
    int more;
    while ((more = take_field(&entry, &part)) > 0) {
        if (part.number > 2)
            continue;
        if (part.wire != WIRE_BYTES)
            return bad(decoding, "a map of another kind");
        if (to_text(decoding, part.bytes, part.number == 1 ? &key : &value) < 0)
            return -1;
    }
    map->items[map->len++] = (struct kv){ key ? key : arena_strdup(decoding->arena, ""), value ? value : arena_strdup(decoding->arena, "") };
    return more < 0 ? bad(decoding, "a broken map entry") : 0;
}

static int add_message(struct decoding *decoding, const struct field *field, struct slice rest, const struct proto_message *of,
                       struct proto_list *list)
{
    if (room_for(decoding, field, rest, of->size, &list->items, 0) < 0)
        return -1;
    return decode(decoding, field->bytes, of, (char *)list->items + of->size * list->len++);
}

struct timestamp {
    int64_t seconds;
    int32_t nanoseconds;
};

static const struct proto_field timestamp_fields[] = {
    PROTO_FIELD(1, PROTO_INT64, struct timestamp, seconds),
    PROTO_FIELD(2, PROTO_INT32, struct timestamp, nanoseconds),
};
static const struct proto_message timestamp_message = PROTO_MESSAGE_OF(struct timestamp, timestamp_fields);

static int to_time(struct decoding *decoding, struct slice bytes, int64_t *out)
{
    struct timestamp time = { 0 };
    if (decode(decoding, bytes, &timestamp_message, &time) < 0)
        return -1;
    if (time.nanoseconds < 0 || time.nanoseconds >= NS_PER_S || __builtin_mul_overflow(time.seconds, NS_PER_S, out) ||
        __builtin_add_overflow(*out, time.nanoseconds, out))
        return bad(decoding, "a time out of range");
    return 0;
}

static void to_number(enum proto_type type, uint64_t value, void *out)
{
    switch (type) {
    case PROTO_BOOL:
        *(bool *)out = value != 0;
        return;
    case PROTO_INT32:
    case PROTO_UINT32:
        *(uint32_t *)out = (uint32_t)value;
        return;
    default:
        *(uint64_t *)out = value;
    }
}

static int to_member(struct decoding *decoding, const struct field *field, struct slice rest, const struct proto_field *row, void *out)
{
    bool number = row->type <= PROTO_UINT64;
    if (field->wire != (number ? WIRE_VARINT : WIRE_BYTES))
        return err_set(decoding->err, ERR_INVALID_ARGUMENT, "protobuf: field %u is of another type", field->number);
    switch (row->type) {
    case PROTO_TEXT:
        return field->bytes.size ? to_text(decoding, field->bytes, out) : 0;
    case PROTO_BYTES:
        *(struct slice *)out = field->bytes;
        return 0;
    case PROTO_TEXTS:
        return add_text(decoding, field, rest, out);
    case PROTO_MAP:
        return add_pair(decoding, field, rest, out);
    case PROTO_MESSAGE:
        *(void **)out = arena_alloc(decoding->arena, row->of->size);
        return ++decoding->items > PROTO_ITEMS_MAX ? bad(decoding, "too many messages")
                                                   : decode(decoding, field->bytes, row->of, *(void **)out);
    case PROTO_MESSAGES:
        return add_message(decoding, field, rest, row->of, out);
    case PROTO_TIME:
        return to_time(decoding, field->bytes, out);
    default:
        to_number(row->type, field->value, out);
        return 0;
    }
}

static int decode(struct decoding *decoding, struct slice bytes, const struct proto_message *message, void *out)
{
    struct field field;
    int more;
    if (++decoding->depth > PROTO_DEPTH_MAX)
        return bad(decoding, "nested too deep");
    while ((more = take_field(&bytes, &field)) > 0)
        for (size_t i = 0; i < message->len; i++)
            if (message->fields[i].number == field.number &&
                to_member(decoding, &field, bytes, &message->fields[i], (char *)out + message->fields[i].offset) < 0)
                return -1;
    decoding->depth--;
    return more < 0 ? bad(decoding, "a broken message") : 0;
}

int proto_decode(struct slice bytes, const struct proto_message *message, struct arena *arena, void *out, struct err *err)
{
    struct decoding decoding = { arena, err, 0, 0 };
    memset(out, 0, message->size);
    return decode(&decoding, bytes, message, out);
}
