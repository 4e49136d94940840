// rooms: grpc base
// A message as a stranger's bytes: every kind of field, nested in itself. What was read is written, and read again.
#include "grpc/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct tree {
    bool flag;
    int32_t small;
    uint32_t natural;
    int64_t large;
    char *text;
    struct slice bytes;
    struct strv texts;
    struct kvs map;
    struct tree *child;
    struct proto_list children;
    int64_t time_ns;
};

static const struct proto_message tree_message;
static const struct proto_field tree_fields[] = {
    PROTO_FIELD(1, PROTO_BOOL, struct tree, flag),     PROTO_FIELD(2, PROTO_INT32, struct tree, small),
    PROTO_FIELD(3, PROTO_UINT32, struct tree, natural), PROTO_FIELD(4, PROTO_INT64, struct tree, large),
    PROTO_FIELD(5, PROTO_TEXT, struct tree, text),     PROTO_FIELD(6, PROTO_BYTES, struct tree, bytes),
    PROTO_FIELD(7, PROTO_TEXTS, struct tree, texts),   PROTO_FIELD(8, PROTO_MAP, struct tree, map),
    PROTO_SUB(9, PROTO_MESSAGE, struct tree, child, &tree_message),
    PROTO_SUB(10, PROTO_MESSAGES, struct tree, children, &tree_message),
    PROTO_FIELD(11, PROTO_TIME, struct tree, time_ns),
};
static const struct proto_message tree_message = PROTO_MESSAGE_OF(struct tree, tree_fields);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf bytes = BUF_INIT(16 << 20), again = BUF_INIT(16 << 20);
    struct tree tree;
    if (proto_decode((struct slice){ (const char *)data, size }, &tree_message, &arena, &tree, NULL) < 0)
        return 0;
    proto_encode(&tree_message, &tree, &bytes);
    if (bytes.overflow)
        return 0;
    if (proto_decode((struct slice){ buf_text(&bytes), bytes.size }, &tree_message, &arena, &tree, NULL) < 0)
        abort();
    proto_encode(&tree_message, &tree, &again);
    if (again.size != bytes.size || memcmp(buf_text(&again), buf_text(&bytes), bytes.size) != 0)
        abort();
    return 0;
}
