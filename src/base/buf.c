#include <stdio.h>

#include "base/buf.h"
#include "base/slice.h"

void buf_done(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf)BUF_INIT(buf->ceiling);
}

void buf_clear(struct buf *buf)
{
    buf->size = 0;
    buf->overflow = false;
    if (buf->data)
        buf->data[0] = 0;
}

char *buf_reserve(struct buf *buf, size_t size)
{
    if (size > buf->ceiling || buf->size > buf->ceiling - size) {
        buf->overflow = true;
        return NULL;
    }
    size_t needed = buf->size + size + 1;
    if (needed > buf->capacity) {
        buf->capacity = MAX_OF(needed, MIN_OF(MAX_OF(buf->capacity * 2, (size_t)64), buf->ceiling));
        buf->data = mem_grow(buf->data, buf->capacity);
        buf->data[buf->size] = 0; // it is text even if nothing gets committed
    }
    return buf->data + buf->size;
}

void buf_commit(struct buf *buf, size_t size)
{
    buf->size += size;
    buf->data[buf->size] = 0;
}

void buf_add(struct buf *buf, const void *data, size_t size)
{
    char *room = buf_reserve(buf, size);
    if (!room)
        return;
    if (size)
        memcpy(room, data, size);
    buf_commit(buf, size);
}

void buf_adds(struct buf *buf, const char *text)
{
    buf_add(buf, text, strlen(text));
}

void buf_addc(struct buf *buf, char c)
{
    buf_add(buf, &c, 1);
}

void buf_vaddf(struct buf *buf, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, args);
    char *room = len < 0 ? NULL : buf_reserve(buf, (size_t)len);
    if (room) {
        vsnprintf(room, (size_t)len + 1, fmt, again);
        buf_commit(buf, (size_t)len);
    }
    va_end(again);
}

void buf_addf(struct buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    buf_vaddf(buf, fmt, args);
    va_end(args);
}

void buf_consume(struct buf *buf, size_t size)
{
    if (!size)
        return;
    memmove(buf->data, buf->data + size, buf->size - size);
    buf->size -= size;
    buf->data[buf->size] = 0;
}

const char *buf_text(const struct buf *buf)
{
    return buf->data ? buf->data : "";
}

char *buf_take(struct buf *buf)
{
    char *text = buf->data ? buf->data : mem_alloc(1);
    *buf = (struct buf)BUF_INIT(buf->ceiling);
    return text;
}

int buf_check(const struct buf *buf, const char *what, struct err *err)
{
    return buf->overflow ? err_set(err, ERR_RESOURCE_EXHAUSTED, "%s: larger than %zu bytes", what, buf->ceiling) : 0;
}

void buf_add_quoted(struct buf *out, const char *text)
{
    static const char names[] = "\a\b\f\n\r\t\v\\\"", letters[] = "abfnrtv\\\"";
    buf_addc(out, '"');
    while (*text) {
        const char *name = strchr(names, *text);
        size_t size = slice_utf8_len(slice_of(text));
        if (name)
            buf_addf(out, "\\%c", letters[name - names]);
        else if (!size || (size == 1 && ((unsigned char)*text < ' ' || *text == 127)))
            buf_addf(out, "\\x%02x", (unsigned char)*text);
        else
            buf_add(out, text, size);
        text += size ? size : 1;
    }
    buf_addc(out, '"');
}
