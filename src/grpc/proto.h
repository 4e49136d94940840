// Protocol buffers on the wire, by tables: a message's bytes to a struct and back.
//
//     struct hello { char *name; int64_t age; struct strv pets; };
//     static const struct proto_field hello_fields[] = {
//         PROTO_FIELD(1, PROTO_TEXT, struct hello, name),
//         PROTO_FIELD(2, PROTO_INT64, struct hello, age),
//         PROTO_FIELD(5, PROTO_TEXTS, struct hello, pets),
//     };
//     static const struct proto_message hello_message = PROTO_MESSAGE_OF(struct hello, hello_fields);
//
// A field that the table does not name is passed over. A scalar that is absent is 0, as proto3 has it, and 0 is not
// written. A message that comes twice counts with its last appearance (they are not merged).
//
// **Bounds.** Nesting to PROTO_DEPTH_MAX, PROTO_ITEMS_MAX items in all lists and maps of one message together, so that what a
// decoded message takes is in proportion to its size. Field numbers to 2^29 - 1. Texts have no NUL bytes.
//
// Any thread; no state beyond the arguments.
#ifndef GRPC_PROTO_H
#define GRPC_PROTO_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/strv.h"

#define PROTO_DEPTH_MAX 16
#define PROTO_ITEMS_MAX 65536

// What a field is on the wire, and as a member.
enum proto_type {
    PROTO_BOOL, // bool
    PROTO_INT32, // int32_t; also an enum
    PROTO_UINT32, // uint32_t
    PROTO_INT64, // int64_t
    PROTO_UINT64, // uint64_t
    PROTO_TEXT, // char *; NULL when absent or empty
    PROTO_BYTES, // struct slice
    PROTO_TEXTS, // struct strv: repeated string
    PROTO_MAP, // struct kvs: map of string to string; a bytes value goes as text
    PROTO_MESSAGE, // a pointer to the struct; NULL when absent
    PROTO_MESSAGES, // struct proto_list: repeated
    PROTO_TIME, // int64_t: google.protobuf.Timestamp as nanoseconds since 1970; 0 when absent
};

struct proto_message;

struct proto_field {
    unsigned number;
    enum proto_type type;
    size_t offset;
    const struct proto_message *of; // MESSAGE, MESSAGES
};

struct proto_message {
    size_t size; // of the struct
    const struct proto_field *fields;
    size_t len;
};

struct proto_list {
    void *items; // structs, one behind the other
    size_t len;
};

#define PROTO_FIELD(number, type, of_struct, member) { number, type, offsetof(of_struct, member), NULL }
#define PROTO_SUB(number, type, of_struct, member, message) { number, type, offsetof(of_struct, member), message }
#define PROTO_MESSAGE_OF(of_struct, table) { sizeof(of_struct), table, ARRAY_LEN(table) }

// Texts, lists and messages of *out live in the arena; a PROTO_BYTES points into `bytes`. invalid_argument for what is no message.
int proto_decode(struct slice bytes, const struct proto_message *message, struct arena *arena, void *out, struct err *err);
// Appends; whether it fitted below the buffer's ceiling says buf_check().
void proto_encode(const struct proto_message *message, const void *in, struct buf *out);

#endif
