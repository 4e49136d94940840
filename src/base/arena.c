#include <stdarg.h>
#include <stdio.h>

#include "base/arena.h"

enum { ALIGNMENT = 16, FIRST_BLOCK = 1024, LARGEST_BLOCK = 65536 };

struct arena_block {
    struct arena_block *next;
    size_t size, used;
    max_align_t data[];
};

static struct arena_block *add_block(struct arena *arena, size_t least)
{
    size_t size = arena->blocks ? MIN_OF(arena->blocks->size * 2, (size_t)LARGEST_BLOCK) : (size_t)FIRST_BLOCK;
    size = MAX_OF(size, least);
    struct arena_block *block = mem_alloc(sizeof(*block) + size);
    block->size = size;
    block->next = arena->blocks;
    arena->blocks = block;
    return block;
}

void arena_done(struct arena *arena)
{
    for (struct arena_block *block = arena->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    *arena = (struct arena)ARENA_INIT;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    size_t rounded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct arena_block *block = arena->blocks;
    if (rounded < size)
        abort();
    if (!block || block->size - block->used < rounded)
        block = add_block(arena, rounded);
    void *memory = (char *)block->data + block->used;
    block->used += rounded;
    arena->used += rounded;
    return memory;
}

char *arena_strdup(struct arena *arena, const char *s)
{
    return s ? arena_strndup(arena, s, strlen(s)) : NULL;
}

char *arena_strndup(struct arena *arena, const char *s, size_t len)
{
    char *copy = arena_alloc(arena, len + 1);
    if (len)
        memcpy(copy, s, len);
    return copy;
}

char *arena_printf(struct arena *arena, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *text = arena_alloc(arena, (size_t)MAX_OF(len, 0) + 1);
    vsnprintf(text, (size_t)MAX_OF(len, 0) + 1, fmt, again);
    va_end(again);
    return text;
}
