#include <stdarg.h>
#include <stdio.h>

#include "base/defs.h"

static void *or_die(void *memory)
{
    static const char text[] = "out of memory\n";
    if (!memory) {
        ssize_t ignored = write(STDERR_FILENO, text, sizeof(text) - 1);
        (void)ignored;
        abort();
    }
    return memory;
}

void *mem_alloc(size_t size)
{
    return or_die(calloc(1, size ? size : 1));
}

void *mem_grow(void *old, size_t size)
{
    return or_die(realloc(old, size ? size : 1));
}

char *mem_strdup(const char *s)
{
    return s ? or_die(strdup(s)) : NULL;
}

char *mem_strndup(const char *s, size_t len)
{
    size_t size = s ? strnlen(s, len) : 0;
    char *copy = mem_alloc(size + 1); // zeroed
    if (size)
        memcpy(copy, s, size);
    return copy;
}

char *mem_printf(const char *fmt, ...)
{
    va_list args;
    char *text = NULL;
    va_start(args, fmt);
    int len = vasprintf(&text, fmt, args);
    va_end(args);
    return or_die(len < 0 ? NULL : text);
}
