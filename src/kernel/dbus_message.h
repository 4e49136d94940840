// D-Bus messages as bytes: writing ours, reading others'. What the specification calls marshalling, for the types
// that systemd's interface uses. Everything that is read is bounded and checked; a reader that meets nonsense stays
// failed and gives zeros and "".
#ifndef KERNEL_DBUS_MESSAGE_H
#define KERNEL_DBUS_MESSAGE_H

#include "base/buf.h"

#define DBUS_MESSAGE_MAX (1 << 20) // bytes; the specification allows 128 MiB, systemd's answers are small

enum dbus_type { DBUS_METHOD_CALL = 1, DBUS_METHOD_RETURN, DBUS_ERROR, DBUS_SIGNAL };

// ---- writing --------------------------------------------------------------------------------------------------------
//
// A body is a buffer; each value aligns itself. An array is opened, filled and closed, in that order, nested as
// needed; the alignment of its items is that of their type (8 for structs, dicts and 64-bit numbers).

void dbus_put_u8(struct buf *body, uint8_t value);
void dbus_put_u32(struct buf *body, uint32_t value);
void dbus_put_u64(struct buf *body, uint64_t value);
void dbus_put_flag(struct buf *body, bool value);
void dbus_put_text(struct buf *body, const char *text); // s and o
void dbus_put_signature(struct buf *body, const char *signature); // g; a variant is this and then its value
void dbus_put_struct(struct buf *body); // ( and {
size_t dbus_open_array(struct buf *body, size_t item_alignment);
void dbus_close_array(struct buf *body, size_t opened, size_t item_alignment);

struct dbus_call {
    const char *destination; // NULL on a connection without a bus
    const char *path, *interface, *member;
    const char *signature; // "" without a body
};
// A whole method call, little-endian, appended to `out`.
int dbus_write_call(const struct dbus_call *call, uint32_t serial, const struct buf *body, struct buf *out,
                    struct err *err);

// ---- reading --------------------------------------------------------------------------------------------------------

struct dbus_reader {
    const uint8_t *data; // starts at an 8-byte boundary of the message
    size_t size, at;
    bool big_endian, failed;
};

uint8_t dbus_get_u8(struct dbus_reader *reader);
uint32_t dbus_get_u32(struct dbus_reader *reader);
const char *dbus_get_text(struct dbus_reader *reader); // s and o; never NULL, points into the data
const char *dbus_get_signature(struct dbus_reader *reader);

struct dbus_message {
    enum dbus_type type;
    uint32_t serial, reply_serial;
    const char *path, *interface, *member, *error_name, *sender, *signature; // into the bytes; "" when absent
    struct dbus_reader body;
};

#define DBUS_HEAD_SIZE 16
// The size of the whole message whose first DBUS_HEAD_SIZE bytes are at `head`; 0 when they begin no message or one
// that is larger than DBUS_MESSAGE_MAX.
size_t dbus_message_size(const uint8_t *head);
// *out points into `data`. Header fields of kinds and types that are not known are passed over.
int dbus_message_parse(const uint8_t *data, size_t size, struct dbus_message *out, struct err *err);

#endif
