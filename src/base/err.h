// The error object: one class from the field, an errno where there was one, and one line for a human.
//
// Functions return int: 0 or more is the result, negative is failure and *err is filled. Context is wrapped
// on as the error goes up ("create container web: mount /data: no such file"). Libraries never log and never
// exit; the edge reports once. The object is plain memory without pointers, so it crosses processes as it is.
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/defs.h"

enum err_class {
    ERR_NONE = 0,
    ERR_INTERNAL,
    ERR_INVALID_ARGUMENT,
    ERR_UNAUTHENTICATED,
    ERR_PERMISSION_DENIED,
    ERR_NOT_FOUND,
    ERR_CONFLICT,
    ERR_NOT_MODIFIED,
    ERR_UNAVAILABLE,
    ERR_NOT_IMPLEMENTED,
    ERR_RESOURCE_EXHAUSTED,
    ERR_CANCELLED,
    ERR_CLASS_COUNT,
};

#define ERR_MESSAGE_SIZE 1024

struct err {
    enum err_class class;
    int number; // errno, 0 when none
    char message[ERR_MESSAGE_SIZE];
};

// Fills *err and returns -1. `err` may be NULL when the caller only wants the result.
int err_set(struct err *err, enum err_class class, const char *fmt, ...) _printf_(3, 4);

// The same from errno (`number` > 0): the text gets ": strerror" appended and the class follows the errno
// (ENOENT not_found, EEXIST conflict, EPERM/EACCES permission_denied, EINVAL invalid_argument, ENOSYS and
// EOPNOTSUPP not_implemented, ENOSPC, EMFILE, ENOMEM, EDQUOT resource_exhausted, else internal).
int err_errno(struct err *err, int number, const char *fmt, ...) _printf_(3, 4);

// Prepends "fmt: " to the message; class and errno stay. Returns -1, so that `return err_wrap(...)` reads well.
int err_wrap(struct err *err, const char *fmt, ...) _printf_(2, 3);

void err_clear(struct err *err);

// The word for a class ("not_found") and back; ERR_INTERNAL for an unknown word.
const char *err_class_name(enum err_class class);
enum err_class err_class_parse(const char *name);

// The two tables at the edge.
int err_http_status(enum err_class class);
int err_exit_code(enum err_class class);

#endif
