// The wire format of Protocol Buffers, as far as CRIU's RPC has it: numbers as varints, texts and messages with their size
// before them. Which field has which number is the caller's knowledge.
#ifndef CRIU_PROTOBUF_H
#define CRIU_PROTOBUF_H

#include "base/buf.h"
#include "base/slice.h"

// A field is "optional": what is left out has its default. Negative numbers go in sign-extended, as int32 wants it.
void pb_number(struct buf *out, unsigned field, int64_t value);
void pb_flag(struct buf *out, unsigned field, bool value); // only when true
void pb_text(struct buf *out, unsigned field, const char *text); // nothing when NULL
void pb_message(struct buf *out, unsigned field, const struct buf *message);

struct pb_field {
    unsigned number;
    uint64_t value; // of a number
    struct slice bytes; // of a text or message: a view
};
// Cuts the next field off *rest: 1, or 0 at the end, or -1 when the bytes are no fields.
int pb_next(struct slice *rest, struct pb_field *out);

#endif
