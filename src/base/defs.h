// Small words that every room uses: cleanup attributes, ownership hand-over, compile-time bans.
//
// A local variable that owns something says so at its declaration:
//
//     _cleanup_close_ int fd = open(...);
//     _cleanup_free_ char *text = NULL;
//
// and hands it over visibly with take_fd(&fd) or take_ptr(&text).
#ifndef BASE_DEFS_H
#define BASE_DEFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define _cleanup_(fn) __attribute__((cleanup(fn)))
#define _cleanup_free_ _cleanup_(free_cleanup)
#define _printf_(fmt_index, first_arg) __attribute__((format(printf, fmt_index, first_arg)))
#define _unused_ __attribute__((unused))
#define _warn_unused_ __attribute__((warn_unused_result))

#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))

// Hands over what *pointer_to holds and leaves NULL behind.
#define take_ptr(pointer_to)                        \
    ({                                              \
        __typeof__(pointer_to) where_ = (pointer_to); \
        __typeof__(*where_) held_ = *where_;        \
        *where_ = NULL;                             \
        held_;                                      \
    })

static inline void free_cleanup(void *pointer_to)
{
    free(*(void **)pointer_to);
}

static inline bool str_eq(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static inline bool str_empty(const char *s)
{
    return !s || !*s;
}

static inline bool str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

// Allocation never fails quietly: out of memory ends the process with one line. A daemon that cannot get
// a few bytes cannot report an error either; everything that a stranger can make large has its own ceiling
// (struct buf, struct arena) and fails there with an error instead.
void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull)); // zeroed
void *mem_grow(void *old, size_t size) __attribute__((returns_nonnull));
char *mem_strdup(const char *s) __attribute__((malloc)); // NULL stays NULL
char *mem_strndup(const char *s, size_t len) __attribute__((malloc, returns_nonnull));
char *mem_printf(const char *fmt, ...) _printf_(1, 2) __attribute__((malloc, returns_nonnull));

#define mem_new(type) ((type *)mem_alloc(sizeof(type)))

// What must not be used: unbounded writers, locale-bound and silent number parsers.
#pragma GCC poison strcpy strcat sprintf vsprintf strtok atoi atol atoll gets

#endif
