// Memory that is freed as a whole: one arena per request, per container record, per parsed document. What is
// allocated from it lives until arena_done(); nothing in it is freed alone. Not for sharing between threads.
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/defs.h"

struct arena_block;

struct arena {
    struct arena_block *blocks;
    size_t used; // bytes handed out, for ceilings and tests
};

#define ARENA_INIT { 0 }
#define _cleanup_arena_ _cleanup_(arena_done)

void arena_done(struct arena *arena);
void *arena_alloc(struct arena *arena, size_t size) __attribute__((returns_nonnull)); // zeroed, 16-byte aligned
char *arena_strdup(struct arena *arena, const char *s); // NULL stays NULL
char *arena_strndup(struct arena *arena, const char *s, size_t len);
char *arena_printf(struct arena *arena, const char *fmt, ...) _printf_(2, 3);

#endif
