#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/err.h"
#include "base/slice.h"

// Class, its word on the wire, HTTP status and exit code: the two tables at the edge in one.
static const struct {
    const char *name;
    int http_status;
    int exit_code;
} classes[ERR_CLASS_COUNT] = {
    [ERR_NONE] = { "none", 200, 0 },
    [ERR_INTERNAL] = { "internal", 500, 1 },
    [ERR_INVALID_ARGUMENT] = { "invalid_argument", 400, 2 },
    [ERR_UNAUTHENTICATED] = { "unauthenticated", 401, 1 },
    [ERR_PERMISSION_DENIED] = { "permission_denied", 403, 1 },
    [ERR_NOT_FOUND] = { "not_found", 404, 1 },
    [ERR_CONFLICT] = { "conflict", 409, 1 },
    [ERR_NOT_MODIFIED] = { "not_modified", 304, 0 },
    [ERR_UNAVAILABLE] = { "unavailable", 503, 1 },
    [ERR_NOT_IMPLEMENTED] = { "not_implemented", 501, 1 },
    [ERR_RESOURCE_EXHAUSTED] = { "resource_exhausted", 500, 1 },
    [ERR_CANCELLED] = { "cancelled", 499, 1 },
};

static const struct {
    int number;
    enum err_class class;
} by_errno[] = {
    { ENOENT, ERR_NOT_FOUND },           { EEXIST, ERR_CONFLICT },          { EPERM, ERR_PERMISSION_DENIED },
    { EACCES, ERR_PERMISSION_DENIED },   { EINVAL, ERR_INVALID_ARGUMENT },  { ENOSYS, ERR_NOT_IMPLEMENTED },
    { EOPNOTSUPP, ERR_NOT_IMPLEMENTED }, { ENOSPC, ERR_RESOURCE_EXHAUSTED }, { EMFILE, ERR_RESOURCE_EXHAUSTED },
    { ENFILE, ERR_RESOURCE_EXHAUSTED },  { ENOMEM, ERR_RESOURCE_EXHAUSTED }, { EDQUOT, ERR_RESOURCE_EXHAUSTED },
};

// Formats "text: reason" aside, because an argument may be the old message itself. What does not fit is cut off the end,
// never inside a UTF-8 character: messages travel as JSON.
static void put_message(struct err *err, const char *reason, const char *fmt, va_list args)
{
    char message[ERR_MESSAGE_SIZE + 4];
    int len = vsnprintf(message, sizeof(message), fmt, args);
    size_t used = MIN_OF((size_t)MAX_OF(len, 0), sizeof(message) - 1);
    if (reason)
        snprintf(message + used, sizeof(message) - used, ": %s", reason);
    struct slice head = slice_utf8_head(slice_of(message), ERR_MESSAGE_SIZE - 1);
    memset(err->message, 0, sizeof(err->message));
    memcpy(err->message, head.data, head.size);
}

int err_set(struct err *err, enum err_class class, const char *fmt, ...)
{
    if (!err)
        return -1;
    va_list args;
    va_start(args, fmt);
    put_message(err, NULL, fmt, args);
    va_end(args);
    err->class = class;
    err->number = 0;
    return -1;
}

#define REASON_SIZE 64

// strerror()'s words, the first letter small as clients of Docker and runc read them everywhere ("RFS specific error" stays).
// strerror() itself takes locks and looks for translations, and most errors are looked at and forgotten.
static const char *reason_of(int number, char space[REASON_SIZE])
{
    const char *reason = strerrordesc_np(number);
    if (reason)
        snprintf(space, REASON_SIZE, "%s", reason);
    else
        snprintf(space, REASON_SIZE, "unknown error %d", number);
    if (space[0] >= 'A' && space[0] <= 'Z' && !(space[1] >= 'A' && space[1] <= 'Z'))
        space[0] |= 'a' ^ 'A';
    return space;
}

int err_errno(struct err *err, int number, const char *fmt, ...)
{
    if (!err)
        return -1;
    char space[REASON_SIZE];
    va_list args;
    va_start(args, fmt);
    put_message(err, reason_of(number, space), fmt, args);
    va_end(args);
    err->number = number;
    err->class = ERR_INTERNAL;
    for (size_t i = 0; i < ARRAY_LEN(by_errno); i++)
        if (by_errno[i].number == number)
            err->class = by_errno[i].class;
    return -1;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    if (!err)
        return -1;
    char inner[ERR_MESSAGE_SIZE];
    memcpy(inner, err->message, sizeof(inner));
    va_list args;
    va_start(args, fmt);
    put_message(err, inner, fmt, args);
    va_end(args);
    return -1;
}

void err_clear(struct err *err)
{
    *err = (struct err){ 0 };
}

const char *err_class_name(enum err_class class)
{
    return (unsigned)class < ERR_CLASS_COUNT ? classes[class].name : classes[ERR_INTERNAL].name;
}

enum err_class err_class_parse(const char *name)
{
    for (size_t i = 0; i < ERR_CLASS_COUNT; i++)
        if (str_eq(classes[i].name, name))
            return (enum err_class)i;
    return ERR_INTERNAL;
}

int err_http_status(enum err_class class)
{
    return classes[(unsigned)class < ERR_CLASS_COUNT ? class : ERR_INTERNAL].http_status;
}

int err_exit_code(enum err_class class)
{
    return classes[(unsigned)class < ERR_CLASS_COUNT ? class : ERR_INTERNAL].exit_code;
}
