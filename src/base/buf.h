// A growable byte buffer with a ceiling given at birth. It always ends in a NUL that is not counted in `size`,
// so text can be used as a string. A write past the ceiling changes nothing and sets `overflow`; the writer checks
// once at the end with buf_check().
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>

#include "base/err.h"

struct buf {
    char *data; // NULL until the first byte
    size_t size; // bytes held
    size_t capacity;
    size_t ceiling; // bytes at most
    bool overflow;
};

#define BUF_INIT(ceiling_bytes) { .ceiling = (ceiling_bytes) }
#define _cleanup_buf_ _cleanup_(buf_done)

void buf_done(struct buf *buf);
void buf_clear(struct buf *buf); // empty, memory kept
void buf_add(struct buf *buf, const void *data, size_t size);
void buf_adds(struct buf *buf, const char *text);
void buf_addf(struct buf *buf, const char *fmt, ...) _printf_(2, 3);
void buf_vaddf(struct buf *buf, const char *fmt, va_list args);
void buf_addc(struct buf *buf, char c);
void buf_add_quoted(struct buf *buf, const char *text); // as Go's %q writes it
// Room for `size` more bytes at the end, to be filled by the caller and then counted with buf_commit(); NULL past the
// ceiling.
char *buf_reserve(struct buf *buf, size_t size);
void buf_commit(struct buf *buf, size_t size);
void buf_consume(struct buf *buf, size_t size); // drops the first bytes
const char *buf_text(const struct buf *buf); // "" when empty
char *buf_take(struct buf *buf); // the malloc'ed text, never NULL; the buffer is empty again
int buf_check(const struct buf *buf, const char *what, struct err *err);

#endif
